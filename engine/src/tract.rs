//! tract as an engine: slow, in pure Rust, and a second opinion on any other.
//!
//! tract 0.23 loads more than it computes right. Measured against LiteRT on int8 graphs: CONV_2D, MAX_POOL_2D and
//! CONCATENATION of equal scales stay within one step a layer; MEAN gives wrong values, SOFTMAX panics, QUANTIZE is
//! missing. So the operators below are the ones let in, and all others are refused at load.
//! `engine/tests/golden.rs` holds it against LiteRT's recorded outputs.

use crate::{
    Engine, Error, Session, Signature,
    contract::{self, Operator, contract},
};
use std::sync::Arc;
use tract_tflite::{
    prelude::{Framework, IntoRunnable, Tensor, TypedModel, TypedSimplePlan, TypedSimpleState, tvec},
    tflite::{ActivationFunctionType, BuiltinOperator, Padding, Tensor as FlatTensor, TensorType},
};

const NAME: &str = "tract";

/// A model loaded, optimized and planned by tract.
#[derive(Debug)]
pub(crate) struct Tract {
    signature: Signature,
    plan: Arc<TypedSimplePlan>,
}

impl Tract {
    pub(crate) fn open(model: &[u8]) -> Result<Tract, Error> {
        let checked = contract::read(model)?;
        for operator in &checked.operators {
            check_operator(operator)?;
        }
        let load = |model: &[u8]| -> Result<_, tract_tflite::prelude::TractError> {
            let graph: TypedModel = tract_tflite::tflite().model_for_read(&mut &*model)?;
            graph.into_optimized()?.into_runnable()
        };
        let plan = load(model).map_err(|e| Error::Load { engine: NAME, cause: format!("{e:#}") })?;
        Ok(Tract { signature: checked.signature, plan })
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

/// Lets in what tract computes right, as far as the flatbuffer can tell.
fn check_operator(operator: &Operator<'_>) -> Result<(), Error> {
    match operator.code {
        BuiltinOperator::CONV_2D => check_convolution(operator),
        BuiltinOperator::MAX_POOL_2D => check_pool(operator),
        BuiltinOperator::CONCATENATION => check_concatenation(operator),
        BuiltinOperator::MEAN | BuiltinOperator::SOFTMAX => {
            Err(operator.refuse("tract 0.23 computes wrongly in int8: end the graph at the map before it"))
        }
        _ => Err(operator.refuse("tract is not known to compute right in int8")),
    }
}

fn check_convolution(operator: &Operator<'_>) -> Result<(), Error> {
    let place = format!("operator {} (CONV_2D)", operator.index);
    let ([input, weights, bias], [output]) = (&operator.inputs[..], &operator.outputs[..]) else {
        return Err(contract(place, "input, weights, bias and one output", "something else"));
    };
    check_activations(operator, &place)?;
    contract::expect_int8(weights, &place)?;
    if bias.type_() != TensorType::INT32 {
        return Err(contract(place, "an int32 bias", "another type"));
    }
    let options = operator
        .table
        .builtin_options_as_conv_2_doptions()
        .ok_or_else(|| contract(&place, "convolution options", "none"))?;
    if options.dilation_h_factor() != 1 || options.dilation_w_factor() != 1 {
        return Err(operator.refuse("is dilated, for which tract is not known to compute right"));
    }
    let activations = [ActivationFunctionType::NONE, ActivationFunctionType::RELU];
    if !activations.contains(&options.fused_activation_function()) {
        return Err(operator.refuse("has an activation other than ReLU"));
    }
    check_weight_scales(weights, &place)?;
    let strides = [options.stride_h(), options.stride_w()];
    let kernel = contract::dimensions(weights);
    let &[channels, height, width, depth] = &kernel[..] else {
        return Err(contract(place, "weights of four dimensions", format!("{kernel:?}")));
    };
    let expected = window_output(input, options.padding(), strides, [height, width], &place)?;
    let expected = [1, expected[0], expected[1], channels];
    let found = (contract::dimensions(input)[3], contract::dimensions(bias));
    if found != (depth, vec![channels]) || contract::dimensions(output) != expected {
        let found = format!("bias {:?}, output {:?}", found.1, contract::dimensions(output));
        return Err(contract(place, format!("shapes that fit weights {kernel:?}"), found));
    }
    Ok(())
}

fn check_pool(operator: &Operator<'_>) -> Result<(), Error> {
    let place = format!("operator {} (MAX_POOL_2D)", operator.index);
    let ([input], [output]) = (&operator.inputs[..], &operator.outputs[..]) else {
        return Err(contract(place, "one input and one output", "something else"));
    };
    check_activations(operator, &place)?;
    check_equal_scales(operator, &place)?;
    let options = operator
        .table
        .builtin_options_as_pool_2_doptions()
        .ok_or_else(|| contract(&place, "pool options", "none"))?;
    if options.fused_activation_function() != ActivationFunctionType::NONE {
        return Err(operator.refuse("has an activation, which tract is not known to heed"));
    }
    let strides = [options.stride_h(), options.stride_w()];
    let sizes = [options.filter_height(), options.filter_width()];
    let sizes = sizes.map(|size| usize::try_from(size).unwrap_or(0));
    let expected = window_output(input, options.padding(), strides, sizes, &place)?;
    let expected = [1, expected[0], expected[1], contract::dimensions(input)[3]];
    if contract::dimensions(output) != expected {
        let found = format!("{:?}", contract::dimensions(output));
        return Err(contract(place, format!("an output of {expected:?}"), found));
    }
    Ok(())
}

fn check_concatenation(operator: &Operator<'_>) -> Result<(), Error> {
    let place = format!("operator {} (CONCATENATION)", operator.index);
    let (false, [output]) = (operator.inputs.is_empty(), &operator.outputs[..]) else {
        return Err(contract(place, "inputs and one output", "something else"));
    };
    for tensor in operator.inputs.iter().chain(&operator.outputs) {
        contract::expect_int8(tensor, &place)?;
    }
    check_equal_scales(operator, &place)?;
    let options = operator
        .table
        .builtin_options_as_concatenation_options()
        .ok_or_else(|| contract(&place, "concatenation options", "none"))?;
    if ![3, -1].contains(&options.axis())
        || options.fused_activation_function() != ActivationFunctionType::NONE
    {
        return Err(operator.refuse("joins something else than channels, or has an activation"));
    }
    let mut expected = vec![0; 4];
    for input in &operator.inputs {
        let shape = contract::dimensions(input);
        let &[1, height, width, channels] = &shape[..] else {
            return Err(contract(place, "inputs of four dimensions", format!("{shape:?}")));
        };
        expected = vec![1, height, width, expected[3] + channels];
    }
    let same_size = operator.inputs.iter().all(|input| contract::dimensions(input)[1..3] == expected[1..3]);
    if !same_size || contract::dimensions(output) != expected {
        let found = format!("{:?}", contract::dimensions(output));
        return Err(contract(place, format!("inputs of one size and an output {expected:?}"), found));
    }
    Ok(())
}

/// Rows and columns of what a window of `sizes` gives on `input`.
fn window_output(
    input: &FlatTensor<'_>,
    padding: Padding,
    strides: [i32; 2],
    sizes: [usize; 2],
    place: &str,
) -> Result<[usize; 2], Error> {
    let shape = contract::dimensions(input);
    let &[1, height, width, _] = &shape[..] else {
        return Err(contract(place, "an input of 1 x height x width x channels", format!("{shape:?}")));
    };
    let mut output = [0; 2];
    for (axis, len) in [height, width].into_iter().enumerate() {
        let (stride, size) = (usize::try_from(strides[axis]).unwrap_or(0), sizes[axis]);
        if stride == 0 || size == 0 || size > len {
            let found = format!("size {size}, stride {stride} on {len}");
            return Err(contract(place, "a window that fits its input", found));
        }
        output[axis] = match padding {
            Padding::SAME => len.div_ceil(stride),
            Padding::VALID => (len - size) / stride + 1,
            _ => return Err(contract(place, "padding SAME or VALID", padding.0)),
        };
    }
    Ok(output)
}

/// One scale, or one for each output channel, and zero points of 0.
fn check_weight_scales(weights: &FlatTensor<'_>, place: &str) -> Result<(), Error> {
    let channels = contract::dimensions(weights).first().copied().unwrap_or(0);
    let table = weights.quantization();
    let scales: Vec<f32> = table.and_then(|t| t.scale()).into_iter().flatten().collect();
    let zero_points: Vec<i64> = table.and_then(|t| t.zero_point()).into_iter().flatten().collect();
    let sound = (scales.len() == 1 || scales.len() == channels)
        && scales.iter().all(|scale| scale.is_normal() && *scale > 0.0)
        && zero_points.len() == scales.len()
        && zero_points.iter().all(|&zero| zero == 0)
        && table.is_some_and(|t| t.quantized_dimension() == 0);
    match sound {
        true => Ok(()),
        false => Err(contract(
            place,
            "weights with a scale for each of their channels, or one, and zero points of 0",
            format!("{} scales for {channels} channels", scales.len()),
        )),
    }
}

/// The first input and the output must be int8.
fn check_activations(operator: &Operator<'_>, place: &str) -> Result<(), Error> {
    contract::expect_int8(&operator.inputs[0], place)?;
    contract::expect_int8(&operator.outputs[0], place)
}

/// tract passes values on as they are where LiteRT would rescale them.
fn check_equal_scales(operator: &Operator<'_>, place: &str) -> Result<(), Error> {
    let expected = contract::quantization(&operator.outputs[0], place)?;
    for input in &operator.inputs {
        let found = contract::quantization(input, place)?;
        if found != expected {
            return Err(operator.refuse(format!(
                "tract computes right only with equal scales: {:?} has {found:?}, its output {expected:?}",
                contract::name(input),
            )));
        }
    }
    Ok(())
}

fn run_error(error: impl std::fmt::Display) -> Error {
    Error::Run { engine: NAME, cause: format!("{error:#}") }
}
