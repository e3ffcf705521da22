//! tract as an engine: slow, in pure Rust, and an independent check on the native engine.
//!
//! tract 0.23 loads more than it computes correctly. Measured against LiteRT on int8 graphs: CONV_2D,
//! MAX_POOL_2D and CONCATENATION of equal scales stay within one quantization step per layer; MEAN gives
//! wrong values, SOFTMAX panics and QUANTIZE is missing. So only the operators below are accepted, and all
//! others are refused at load. `engine/tests/golden.rs` compares it with LiteRT's recorded outputs.

use crate::{
    Engine, Error, Map, Session, Signature,
    contract::{self, signature},
    error::contract,
    graph::{DType, FusedActivation, Graph, Op, Operator, Tensor as GraphTensor, Window},
    tflite,
};
use std::sync::Arc;
use tract_tflite::prelude::{
    Framework, IntoRunnable, OutletId, Tensor, TypedModel, TypedSimplePlan, TypedSimpleState, tvec,
};

const NAME: &str = "tract";

/// A model loaded, optimized and planned by tract.
#[derive(Debug)]
pub(crate) struct Tract {
    signature: Signature,
    maps: Vec<Map>,
    plan: Arc<TypedSimplePlan>,
    fallback_reason: Option<String>,
}

impl Tract {
    /// Checks and loads a model. `fallback_reason` is why the native engine does not run it, `maps` are the
    /// names of the maps that can be read.
    pub(crate) fn open(model: &[u8], fallback_reason: Option<String>, maps: &[&str]) -> Result<Tract, Error> {
        let graph = tflite::read(model)?;
        let signature = signature(&graph)?;
        for operator in &graph.operators {
            check_operator(&graph, operator)?;
        }
        let concatenations = names_of_concatenations(&graph, maps)?;
        let load = |model: &[u8]| -> Result<_, tract_tflite::prelude::TractError> {
            let mut graph: TypedModel = tract_tflite::tflite().model_for_read(&mut &*model)?;
            // The maps become outputs behind the first one.
            let mut outputs = graph.output_outlets()?.to_vec();
            for &map in &concatenations {
                outputs.push(OutletId::new(graph.node_id_by_name(map)?, 0));
            }
            graph.select_output_outlets(&outputs)?;
            graph.into_optimized()?.into_runnable()
        };
        let plan = load(model).map_err(|e| Error::Load { engine: NAME, cause: format!("{e:#}") })?;
        Ok(Tract { signature, maps: contract::maps(&graph, maps)?, plan, fallback_reason })
    }
}

impl Engine for Tract {
    fn name(&self) -> &'static str {
        NAME
    }

    fn kernels(&self) -> &str {
        // tract chooses its matrix kernels itself and does not report which int8 kernel it uses.
        "tract-linalg"
    }

    fn fallback_reason(&self) -> Option<&str> {
        self.fallback_reason.as_deref()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn maps(&self) -> &[Map] {
        &self.maps
    }

    fn session(&self) -> Result<Box<dyn Session>, Error> {
        let state = self.plan.spawn().map_err(run_error)?;
        let fact = self.plan.model().input_fact(0).map_err(run_error)?;
        let datum_type = fact.datum_type;
        Ok(Box::new(TractSession {
            signature: self.signature.clone(),
            datum_type,
            state,
            output: vec![0; self.signature.map_len()],
            maps: self.maps.iter().map(|map| vec![0; map.len()]).collect(),
        }))
    }
}

struct TractSession {
    signature: Signature,
    /// int8 with the scale and zero point that tract assigned to the input.
    datum_type: tract_tflite::prelude::DatumType,
    state: TypedSimpleState,
    output: Vec<i8>,
    maps: Vec<Vec<i8>>,
}

impl Session for TractSession {
    fn run(&mut self, rgb: &[u8]) -> Result<&[i8], Error> {
        let expected = self.signature.input_len();
        if rgb.len() != expected {
            return Err(Error::Input { expected, found: rgb.len() });
        }
        let shape = [1, self.signature.input_height, self.signature.input_width, 3];
        let mut input = Tensor::zero_dt(self.datum_type, &shape).map_err(run_error)?;
        for (value, byte) in input.as_bytes_mut().iter_mut().zip(rgb) {
            // byte - 128 as int8 in two's complement.
            *value = byte ^ 0x80;
        }
        let outputs = self.state.run(tvec!(input.into())).map_err(run_error)?;
        let maps = std::iter::once(&mut self.output).chain(&mut self.maps);
        for (index, map) in maps.enumerate() {
            let output = outputs.get(index).map(|output| output.as_bytes()).unwrap_or_default();
            if output.len() != map.len() {
                let cause = format!("a map of {} values instead of {}", output.len(), map.len());
                return Err(Error::Run { engine: NAME, cause });
            }
            for (value, byte) in map.iter_mut().zip(output) {
                *value = *byte as i8;
            }
        }
        Ok(&self.output)
    }

    /// Runs the whole network, because tract computes all outputs at once.
    fn run_to_maps(&mut self, rgb: &[u8]) -> Result<(), Error> {
        self.run(rgb).map(|_| ())
    }

    fn map(&self, index: usize) -> &[i8] {
        &self.maps[index]
    }

    fn finish(&mut self) -> Result<&[i8], Error> {
        Ok(&self.output)
    }
}

/// Checks that tract can read the maps. It names a node after its tensor only if no activation is fused into
/// the operator, as in concatenations.
fn names_of_concatenations<'a>(graph: &Graph<'_>, maps: &[&'a str]) -> Result<Vec<&'a str>, Error> {
    for map in maps {
        let is_named = |&tensor: &usize| graph.tensors[tensor].name == *map;
        let is_computed = |operator: &&Operator| operator.outputs.iter().any(is_named);
        if let Some(operator) = graph.operators.iter().find(is_computed)
            && !matches!(operator.op, Op::Concatenation { activation: FusedActivation::None, .. })
        {
            return Err(operator.refuse("tract can only read the map of concatenations"));
        }
    }
    Ok(maps.to_vec())
}

/// Accepts what tract computes correctly, as far as the file shows.
fn check_operator(graph: &Graph<'_>, operator: &Operator) -> Result<(), Error> {
    match operator.op {
        Op::Convolution { window, activation } => check_convolution(graph, operator, &window, activation),
        Op::MaxPool { window, size, activation } => {
            let (input, output) = activations(graph, operator, 1)?;
            check_equal_scales(operator, input, output)?;
            if activation != FusedActivation::None {
                return Err(operator.refuse("has a fused activation, which tract may ignore"));
            }
            check_output(operator, input, output, &window, size, input.image_shape()?[2])
        }
        Op::Concatenation { axis, activation } => check_concatenation(graph, operator, axis, activation),
        Op::Mean { .. } | Op::Softmax { .. } => {
            Err(operator
                .refuse("tract 0.23 computes incorrectly in int8: end the graph at the map before it"))
        }
        _ => Err(operator.refuse("tract is not known to compute correctly in int8")),
    }
}

/// Returns the first of `count` inputs and the only output, both of which must be int8.
fn activations<'g, 'a>(
    graph: &'g Graph<'a>,
    operator: &Operator,
    count: usize,
) -> Result<(&'g GraphTensor<'a>, &'g GraphTensor<'a>), Error> {
    let (Some(&input), &[output]) = (operator.inputs.first(), &operator.outputs[..]) else {
        return Err(contract(operator.location(), "an input and one output", "something else"));
    };
    if operator.inputs.len() != count {
        return Err(contract(operator.location(), format!("{count} inputs"), operator.inputs.len()));
    }
    let (input, output) = (&graph.tensors[input], &graph.tensors[output]);
    for tensor in [input, output] {
        if tensor.dtype != DType::Int8 {
            return Err(contract(tensor.location(), "int8", tensor.dtype));
        }
    }
    Ok((input, output))
}

fn check_convolution(
    graph: &Graph<'_>,
    operator: &Operator,
    window: &Window,
    activation: FusedActivation,
) -> Result<(), Error> {
    let (input, output) = activations(graph, operator, 3)?;
    let (weights, bias) = (&graph.tensors[operator.inputs[1]], &graph.tensors[operator.inputs[2]]);
    if window.dilations != [1, 1] {
        return Err(operator.refuse("is dilated, which tract is not known to compute correctly"));
    }
    if activation == FusedActivation::Relu6 {
        return Err(operator.refuse("has a fused activation other than ReLU"));
    }
    let &[channels, height, width, depth] = &weights.shape[..] else {
        return Err(contract(operator.location(), "weights of four dimensions", weights.shape_text()));
    };
    let scales = weights.quantization.map_or(0, |quantization| quantization.scales.len());
    let is_symmetric = weights.quantization.is_some_and(|quantization| {
        quantization.zero_points.iter().all(|zero| i64::from_le_bytes(zero) == 0)
            && (scales == 1 || quantization.axis == 0)
    });
    if weights.dtype != DType::Int8 || !is_symmetric || (scales != 1 && scales != channels) {
        let expected = "int8 weights with one scale or one per channel, and zero points of 0";
        return Err(contract(
            operator.location(),
            expected,
            format!("{scales} scales for {channels} channels"),
        ));
    }
    if bias.dtype != DType::Int32 || bias.shape != [channels] || depth != input.image_shape()?[2] {
        let expected = format!("shapes that fit weights {}", weights.shape_text());
        return Err(contract(operator.location(), expected, format!("bias {}", bias.shape_text())));
    }
    check_output(operator, input, output, window, [height, width], channels)
}

fn check_concatenation(
    graph: &Graph<'_>,
    operator: &Operator,
    axis: i32,
    activation: FusedActivation,
) -> Result<(), Error> {
    let (_, output) = activations(graph, operator, operator.inputs.len())?;
    if activation != FusedActivation::None || ![3, -1].contains(&axis) {
        return Err(
            operator.refuse("has a fused activation or another axis than channels, which tract may ignore")
        );
    }
    let mut expected = output.image_shape()?;
    expected[2] = 0;
    for &input in &operator.inputs {
        let input = &graph.tensors[input];
        check_equal_scales(operator, input, output)?;
        let shape = input.image_shape()?;
        if shape[..2] != expected[..2] {
            return Err(contract(operator.location(), "inputs of one size", input.shape_text()));
        }
        expected[2] += shape[2];
    }
    if output.image_shape()? != expected {
        return Err(contract(operator.location(), format!("an output {expected:?}"), output.shape_text()));
    }
    Ok(())
}

/// Checks that a window of `size` over `input` gives the shape of `output`.
fn check_output(
    operator: &Operator,
    input: &GraphTensor<'_>,
    output: &GraphTensor<'_>,
    window: &Window,
    size: [usize; 2],
    channels: usize,
) -> Result<(), Error> {
    let shape = input.image_shape()?;
    let outputs = |axis: usize| window.outputs(axis, shape[axis], size[axis]).map(|(outputs, _)| outputs);
    let (Some(height), Some(width)) = (outputs(0), outputs(1)) else {
        return Err(contract(operator.location(), "a window that fits its input", input.shape_text()));
    };
    if output.image_shape()? != [height, width, channels] {
        let expected = format!("an output of {height} x {width} x {channels}");
        return Err(contract(operator.location(), expected, output.shape_text()));
    }
    Ok(())
}

/// Checks that no rescaling is needed, because tract copies values where LiteRT rescales them.
fn check_equal_scales(
    operator: &Operator,
    input: &GraphTensor<'_>,
    output: &GraphTensor<'_>,
) -> Result<(), Error> {
    let (found, expected) = (input.scale_and_zero_point()?, output.scale_and_zero_point()?);
    if found == expected {
        return Ok(());
    }
    Err(operator.refuse(format!(
        "tract computes correctly only with equal scales: {} has {found:?}, its output {expected:?}",
        input.location()
    )))
}

fn run_error(error: impl std::fmt::Display) -> Error {
    Error::Run { engine: NAME, cause: format!("{error:#}") }
}
