//! What camfire requires of a model: one RGB image as input, one map of classes as output.

use crate::{
    Error,
    error::contract,
    graph::{DType, Graph, Op, Tensor},
};

/// A model's input and output.
#[derive(Debug, Clone, PartialEq)]
pub struct Signature {
    /// Rows of the input image.
    pub input_height: usize,
    /// Columns of the input image; each pixel is three bytes, R, G, B.
    pub input_width: usize,
    /// Rows of the output map; 1 if the model averages over its map.
    pub map_height: usize,
    /// Columns of the output map; 1 if the model averages over its map.
    pub map_width: usize,
    /// Channels of the output map.
    pub classes: usize,
    /// The real value of one quantization step of the map.
    pub scale: f32,
    /// The quantized value that represents 0.
    pub zero_point: i8,
    /// Whether the map contains probabilities, because the model ends in a softmax.
    pub is_softmax: bool,
}

impl Signature {
    /// Returns the bytes of one input image.
    pub fn input_len(&self) -> usize {
        self.input_height * self.input_width * 3
    }

    /// Returns the quantized values of one output map.
    pub fn map_len(&self) -> usize {
        self.map_height * self.map_width * self.classes
    }
}

/// A map inside the network that callers may read, such as the input of its last convolution.
#[derive(Debug, Clone, PartialEq)]
pub struct Map {
    /// Name of the tensor in the file.
    pub name: String,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Channels.
    pub channels: usize,
    /// The real value of one quantization step.
    pub scale: f32,
    /// The quantized value that represents 0.
    pub zero_point: i8,
}

impl Map {
    /// Returns the number of quantized values.
    pub fn len(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Returns whether the map has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Finds the activations of these names in `graph`.
///
/// Errors: [`Error::Contract`] for a name that no activation has, or one that is not an int8 map of one
/// image.
pub(crate) fn maps(graph: &Graph<'_>, names: &[&str]) -> Result<Vec<Map>, Error> {
    let map = |name: &&str| {
        let is_named = |tensor: &&Tensor<'_>| tensor.name == *name && tensor.data.is_none();
        let Some(tensor) = graph.tensors.iter().find(is_named) else {
            return Err(contract("model", format!("an activation named {name:?}"), "none"));
        };
        if tensor.dtype != DType::Int8 {
            return Err(contract(tensor.location(), "int8", tensor.dtype));
        }
        let [1, height, width, channels] = tensor.shape[..] else {
            return Err(contract(
                tensor.location(),
                "a map of 1 x height x width x channels",
                tensor.shape_text(),
            ));
        };
        let (scale, zero_point) = tensor.scale_and_zero_point()?;
        let name = tensor.name.to_string();
        Ok(Map { name, height, width, channels, scale, zero_point: zero_point as i8 })
    };
    names.iter().map(map).collect()
}

/// Returns the signature of `graph`.
///
/// Errors: [`Error::Contract`] for a graph that is not an image classifier over raw RGB bytes.
pub(crate) fn signature(graph: &Graph<'_>) -> Result<Signature, Error> {
    let input_index = only(&graph.inputs, "input")?;
    let output_index = only(&graph.outputs, "output")?;
    let (input, output) = (&graph.tensors[input_index], &graph.tensors[output_index]);
    let Some(last) = graph.operators.iter().find(|operator| operator.outputs.contains(&output_index)) else {
        return Err(contract("output", "a tensor that an operator computes", output.location()));
    };

    let location = format!("input {:?}", input.name);
    let shift = expect_bytes(input, &location)?;
    let [1, input_height, input_width, 3] = input.shape[..] else {
        return Err(contract(&location, "1 x height x width x 3", input.shape_text()));
    };
    let (scale, zero_point) = input.scale_and_zero_point()?;
    if scale != 1.0 || zero_point != -shift {
        let expected = format!("raw RGB bytes (scale 1, zero point {})", -shift);
        return Err(contract(&location, expected, format!("scale {scale}, zero point {zero_point}")));
    }

    let location = format!("output {:?}", output.name);
    let shift = 128 - expect_bytes(output, &location)?;
    let (map_height, map_width, classes) = match output.shape[..] {
        [1, height, width, classes] => (height, width, classes),
        [1, classes] => (1, 1, classes),
        _ => return Err(contract(&location, "a map of 1 x height x width x classes", output.shape_text())),
    };
    let (scale, zero_point) = output.scale_and_zero_point()?;
    let is_softmax = matches!(last.op, Op::Softmax { .. });
    let zero_point = (zero_point - shift) as i8;
    Ok(Signature { input_height, input_width, map_height, map_width, classes, scale, zero_point, is_softmax })
}

fn only(list: &[usize], what: &str) -> Result<usize, Error> {
    match list {
        &[index] => Ok(index),
        _ => Err(contract("subgraph 0", format!("one {what}"), list.len())),
    }
}

/// Returns what must be added to a tensor's values to make them unsigned bytes: 128 for int8, 0 for uint8.
fn expect_bytes(tensor: &Tensor<'_>, location: &str) -> Result<i32, Error> {
    match tensor.dtype {
        DType::Int8 => Ok(128),
        DType::Uint8 => Ok(0),
        other => Err(contract(location, "int8 or uint8", other)),
    }
}
