//! tract as an engine: slow, in pure Rust, and a second opinion on any other.
//!
//! tract 0.23 loads more than it computes right. Measured against LiteRT on int8 graphs: CONV_2D, MAX_POOL_2D and
//! CONCATENATION of equal scales stay within one step a layer; MEAN gives wrong values, SOFTMAX panics, QUANTIZE is
//! missing. So the operators below are the ones let in, and all others are refused at load.
//! `engine/tests/golden.rs` holds it against LiteRT's recorded outputs.

use crate::{
    Engine, Error, Session, Signature,
    contract::signature,
    error::contract,
    graph::{Activation, Graph, Kind, Op, Operator, Tensor as GraphTensor, Window},
    tflite,
};
use std::sync::Arc;
use tract_tflite::prelude::{
    Framework, IntoRunnable, Tensor, TypedModel, TypedSimplePlan, TypedSimpleState, tvec,
};

const NAME: &str = "tract";

/// A model loaded, optimized and planned by tract.
#[derive(Debug)]
pub(crate) struct Tract {
    signature: Signature,
    plan: Arc<TypedSimplePlan>,
    instead_of: Option<String>,
}

impl Tract {
    /// `instead_of` tells why another engine does not run the model.
    pub(crate) fn open(model: &[u8], instead_of: Option<String>) -> Result<Tract, Error> {
        let graph = tflite::read(model)?;
        let signature = signature(&graph)?;
        for operator in &graph.operators {
            check_operator(&graph, operator)?;
        }
        let load = |model: &[u8]| -> Result<_, tract_tflite::prelude::TractError> {
            let graph: TypedModel = tract_tflite::tflite().model_for_read(&mut &*model)?;
            graph.into_optimized()?.into_runnable()
        };
        let plan = load(model).map_err(|e| Error::Load { engine: NAME, cause: format!("{e:#}") })?;
        Ok(Tract { signature, plan, instead_of })
    }
}

impl Engine for Tract {
    fn name(&self) -> &'static str {
        NAME
    }

    fn kernels(&self) -> &str {
        // tract picks its matrix kernels by itself and has no name for the int8 choice to show.
        "tract-linalg"
    }

    fn instead_of(&self) -> Option<&str> {
        self.instead_of.as_deref()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn session(&self) -> Result<Box<dyn Session>, Error> {
        let state = self.plan.spawn().map_err(run_error)?;
        let fact = self.plan.model().input_fact(0).map_err(run_error)?;
        let datum_type = fact.datum_type;
        Ok(Box::new(TractSession {
            signature: self.signature.clone(),
            datum_type,
            state,
            map: vec![0; self.signature.map_len()],
        }))
    }
}

struct TractSession {
    signature: Signature,
    /// int8 with the scale and zero point that tract gave the input.
    datum_type: tract_tflite::prelude::DatumType,
    state: TypedSimpleState,
    map: Vec<i8>,
}

impl Session for TractSession {
    fn run(&mut self, rgb: &[u8]) -> Result<&[i8], Error> {
        let expected = self.signature.input_len();
        if rgb.len() != expected {
            return Err(Error::Input { expected, found: rgb.len() });
        }
        let shape = [1, self.signature.input_height, self.signature.input_width, 3];
        let mut input = Tensor::zero_dt(self.datum_type, &shape).map_err(run_error)?;
        for (step, byte) in input.as_bytes_mut().iter_mut().zip(rgb) {
            // byte - 128 as int8, in its two's complement form.
            *step = byte ^ 0x80;
        }
        let outputs = self.state.run(tvec!(input.into())).map_err(run_error)?;
        let output = outputs.first().map(|output| output.as_bytes()).unwrap_or_default();
        if output.len() != self.map.len() {
            let cause = format!("a map of {} steps instead of {}", output.len(), self.map.len());
            return Err(Error::Run { engine: NAME, cause });
        }
        for (step, byte) in self.map.iter_mut().zip(output) {
            *step = *byte as i8;
        }
        Ok(&self.map)
    }
}

/// Lets in what tract computes right, as far as the file can tell.
fn check_operator(graph: &Graph<'_>, operator: &Operator) -> Result<(), Error> {
    match operator.kind {
        Op::Convolution { window, activation } => check_convolution(graph, operator, &window, activation),
        Op::MaxPool { window, size, activation } => {
            let (input, output) = activations(graph, operator, 1)?;
            check_equal_scales(operator, input, output)?;
            if activation != Activation::None {
                return Err(operator.refuse("has an activation, which tract is not known to heed"));
            }
            check_output(operator, input, output, &window, size, input.image_shape()?[2])
        }
        Op::Concatenation { axis, activation } => check_concatenation(graph, operator, axis, activation),
        Op::Mean { .. } | Op::Softmax { .. } => {
            Err(operator.refuse("tract 0.23 computes wrongly in int8: end the graph at the map before it"))
        }
        _ => Err(operator.refuse("tract is not known to compute right in int8")),
    }
}

/// The first of `count` inputs and the only output, all of them int8.
fn activations<'g, 'a>(
    graph: &'g Graph<'a>,
    operator: &Operator,
    count: usize,
) -> Result<(&'g GraphTensor<'a>, &'g GraphTensor<'a>), Error> {
    let (Some(&input), &[output]) = (operator.inputs.first(), &operator.outputs[..]) else {
        return Err(contract(operator.place(), "an input and one output", "something else"));
    };
    if operator.inputs.len() != count {
        return Err(contract(operator.place(), format!("{count} inputs"), operator.inputs.len()));
    }
    let (input, output) = (&graph.tensors[input], &graph.tensors[output]);
    for tensor in [input, output] {
        if tensor.kind != Kind::Int8 {
            return Err(contract(tensor.place(), "int8", tensor.kind));
        }
    }
    Ok((input, output))
}

fn check_convolution(
    graph: &Graph<'_>,
    operator: &Operator,
    window: &Window,
    activation: Activation,
) -> Result<(), Error> {
    let (input, output) = activations(graph, operator, 3)?;
    let (weights, bias) = (&graph.tensors[operator.inputs[1]], &graph.tensors[operator.inputs[2]]);
    if window.dilations != [1, 1] {
        return Err(operator.refuse("is dilated, for which tract is not known to compute right"));
    }
    if activation == Activation::Relu6 {
        return Err(operator.refuse("has an activation other than ReLU"));
    }
    let &[channels, height, width, depth] = &weights.shape[..] else {
        return Err(contract(operator.place(), "weights of four dimensions", weights.shape_text()));
    };
    let scales = weights.quantization.map_or(0, |quantization| quantization.scales.len());
    let centred = weights.quantization.is_some_and(|quantization| {
        quantization.zero_points.iter().all(|zero| i64::from_le_bytes(zero) == 0)
            && (scales == 1 || quantization.axis == 0)
    });
    if weights.kind != Kind::Int8 || !centred || (scales != 1 && scales != channels) {
        let expected = "int8 weights with a scale for each of their channels, or one, and zero points of 0";
        return Err(contract(operator.place(), expected, format!("{scales} scales for {channels} channels")));
    }
    if bias.kind != Kind::Int32 || bias.shape != [channels] || depth != input.image_shape()?[2] {
        let expected = format!("shapes that fit weights {}", weights.shape_text());
        return Err(contract(operator.place(), expected, format!("bias {}", bias.shape_text())));
    }
    check_output(operator, input, output, window, [height, width], channels)
}

fn check_concatenation(
    graph: &Graph<'_>,
    operator: &Operator,
    axis: i32,
    activation: Activation,
) -> Result<(), Error> {
    let (_, output) = activations(graph, operator, operator.inputs.len())?;
    if activation != Activation::None || ![3, -1].contains(&axis) {
        return Err(operator
            .refuse("has an activation or joins other than channels, which tract is not known to heed"));
    }
    let mut expected = output.image_shape()?;
    expected[2] = 0;
    for &input in &operator.inputs {
        let input = &graph.tensors[input];
        check_equal_scales(operator, input, output)?;
        let shape = input.image_shape()?;
        if shape[..2] != expected[..2] {
            return Err(contract(operator.place(), "inputs of one size", input.shape_text()));
        }
        expected[2] += shape[2];
    }
    if output.image_shape()? != expected {
        return Err(contract(operator.place(), format!("an output {expected:?}"), output.shape_text()));
    }
    Ok(())
}

/// Whether a window of `size` on `input` gives the shape of `output`.
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
        return Err(contract(operator.place(), "a window that fits its input", input.shape_text()));
    };
    if output.image_shape()? != [height, width, channels] {
        let expected = format!("an output of {height} x {width} x {channels}");
        return Err(contract(operator.place(), expected, output.shape_text()));
    }
    Ok(())
}

/// tract passes values on as they are where LiteRT would rescale them.
fn check_equal_scales(
    operator: &Operator,
    input: &GraphTensor<'_>,
    output: &GraphTensor<'_>,
) -> Result<(), Error> {
    let (found, expected) = (input.step()?, output.step()?);
    if found == expected {
        return Ok(());
    }
    Err(operator.refuse(format!(
        "tract computes right only with equal scales: {} has {found:?}, its output {expected:?}",
        input.place()
    )))
}

fn run_error(error: impl std::fmt::Display) -> Error {
    Error::Run { engine: NAME, cause: format!("{error:#}") }
}
