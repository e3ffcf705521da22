//! How a window covers its input: validates the output size and computes the padding that the window reads.
//! Shared by the memory plan, which reserves the padding, and by lowering, which addresses it.

use super::layout::Padding;
use crate::{
    Error,
    error::contract,
    graph::{Graph, Operator, Window},
};

/// Size and padding of a window over its input; pairs are height, width.
pub(super) struct WindowGeometry {
    pub(super) size: [usize; 2],
    /// Padding rows above and padding columns to the left of the input.
    pub(super) pad_before: [usize; 2],
    pub(super) padding: Padding,
}

impl WindowGeometry {
    /// The geometry of a fully connected layer: a window of one pixel.
    pub(super) fn one_pixel() -> WindowGeometry {
        WindowGeometry { size: [1, 1], pad_before: [0, 0], padding: Padding::default() }
    }
}

/// Computes the geometry of a window of `size` over `input`; shapes are height, width, channels.
///
/// Errors: [`Error::Contract`] when the window does not fit the input or gives another size than `output`.
pub(super) fn window_geometry(
    operator: &Operator,
    window: &Window,
    size: [usize; 2],
    input: [usize; 3],
    output: [usize; 3],
) -> Result<WindowGeometry, Error> {
    let mut pad_before = [0; 2];
    let mut pad_after = [0; 2];
    for axis in 0..2 {
        let found = window.outputs(axis, input[axis], size[axis]);
        let Some((outputs, padding)) = found.filter(|&(outputs, _)| outputs == output[axis]) else {
            let expected = match found {
                Some((outputs, _)) => format!("{outputs} outputs along axis {}", axis + 1),
                None => "a window that fits its input".to_string(),
            };
            return Err(contract(operator.location(), expected, output[axis]));
        };
        pad_before[axis] = padding;
        let extent = (outputs - 1) * window.strides[axis] + (size[axis] - 1) * window.dilations[axis] + 1;
        pad_after[axis] = extent.saturating_sub(input[axis] + padding);
    }
    let padding =
        Padding { top: pad_before[0], left: pad_before[1], bottom: pad_after[0], right: pad_after[1] };
    Ok(WindowGeometry { size, pad_before, padding })
}

/// Returns the height and width of a convolution's window, which are those of its weights.
///
/// Errors: [`Error::Contract`] when the weights do not have four dimensions.
pub(super) fn window_size(graph: &Graph<'_>, operator: &Operator) -> Result<[usize; 2], Error> {
    let weights = operator.inputs.get(1).map(|&index| &graph.tensors[index]);
    if let Some(&[_, height, width, _]) = weights.map(|weights| &weights.shape[..]) {
        return Ok([height, width]);
    }
    let found = weights.map_or("none".to_string(), |weights| weights.shape_text());
    Err(contract(operator.location(), "weights of four dimensions", found))
}
