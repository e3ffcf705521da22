//! What camfire asks of a model: one RGB image in as it comes from a camera, one map of classes out.

use crate::{
    Error,
    error::contract,
    graph::{Graph, Kind, Op, Tensor},
};

/// What goes into a model and what comes out.
#[derive(Debug, Clone, PartialEq)]
pub struct Signature {
    /// Rows of the input image.
    pub input_height: usize,
    /// Columns of the input image; each pixel is three bytes, R, G, B.
    pub input_width: usize,
    /// Rows of the output map; 1 where the model averages by itself.
    pub map_height: usize,
    /// Columns of the output map; 1 where the model averages by itself.
    pub map_width: usize,
    /// Channels of the output map.
    pub classes: usize,
    /// Real value of one step of the map.
    pub scale: f32,
    /// The step that stands for zero.
    pub zero_point: i8,
    /// The map holds probabilities already: the model ends in a softmax.
    pub is_softmax: bool,
}

impl Signature {
    /// Bytes of one input image.
    pub fn input_len(&self) -> usize {
        self.input_height * self.input_width * 3
    }

    /// Steps of one output map.
    pub fn map_len(&self) -> usize {
        self.map_height * self.map_width * self.classes
    }
}

/// The signature of `graph`.
///
/// Errors ([`Error::Contract`]): a graph that is no image classifier over raw RGB bytes.
pub(crate) fn signature(graph: &Graph<'_>) -> Result<Signature, Error> {
    let input_index = only(&graph.inputs, "input")?;
    let output_index = only(&graph.outputs, "output")?;
    let (input, output) = (&graph.tensors[input_index], &graph.tensors[output_index]);
    let Some(maker) = graph.operators.iter().find(|operator| operator.outputs.contains(&output_index)) else {
        return Err(contract("output", "a tensor that an operator computes", output.place()));
    };

    let place = format!("input {:?}", input.name);
    let zero = expect_bytes(input, &place)?;
    let [1, input_height, input_width, 3] = input.shape[..] else {
        return Err(contract(&place, "1 x height x width x 3", input.shape_text()));
    };
    let (scale, zero_point) = input.step()?;
    if scale != 1.0 || zero_point != -zero {
        let expected = format!("raw RGB bytes (scale 1, zero point {})", -zero);
        return Err(contract(&place, expected, format!("scale {scale}, zero point {zero_point}")));
    }

    let place = format!("output {:?}", output.name);
    let shift = 128 - expect_bytes(output, &place)?;
    let (map_height, map_width, classes) = match output.shape[..] {
        [1, height, width, classes] => (height, width, classes),
        [1, classes] => (1, 1, classes),
        _ => return Err(contract(&place, "a map of 1 x height x width x classes", output.shape_text())),
    };
    let (scale, zero_point) = output.step()?;
    let is_softmax = matches!(maker.kind, Op::Softmax { .. });
    let zero_point = (zero_point - shift) as i8;
    Ok(Signature { input_height, input_width, map_height, map_width, classes, scale, zero_point, is_softmax })
}

fn only(list: &[usize], what: &str) -> Result<usize, Error> {
    match list {
        &[index] => Ok(index),
        _ => Err(contract("subgraph 0", format!("one {what}"), list.len())),
    }
}

/// What int8 has to have added to become a byte: 128, and 0 for uint8.
fn expect_bytes(tensor: &Tensor<'_>, place: &str) -> Result<i32, Error> {
    match tensor.kind {
        Kind::Int8 => Ok(128),
        Kind::Uint8 => Ok(0),
        other => Err(contract(place, "int8 or uint8", other)),
    }
}
