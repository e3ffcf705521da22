//! Executes a plan's instructions, one file per operator family. Sizes and offsets were validated when the
//! plan was made, see [`crate::plan`]. All quantized values are unsigned bytes, see [`crate::quant`].

pub(crate) mod add;
pub(crate) mod convolution;
pub(crate) mod copy;
pub(crate) mod depthwise;
pub(crate) mod logistic;
pub(crate) mod mean;
pub(crate) mod multiply;
pub(crate) mod pool;
pub(crate) mod rescale;
pub(crate) mod resize;
pub(crate) mod softmax;

use crate::plan::layout::View;

/// Returns the bytes of two buffers that do not overlap: `from` to read and `to` to write.
pub(crate) fn from_to<'a>(arena: &'a mut [u8], from: &View, to: &View) -> (&'a [u8], &'a mut [u8]) {
    if from.buffer.end <= to.buffer.start {
        let (low, high) = arena.split_at_mut(to.buffer.start);
        (&low[from.buffer.clone()], &mut high[..to.buffer.len()])
    } else {
        let (low, high) = arena.split_at_mut(from.buffer.start);
        (&high[..from.buffer.len()], &mut low[to.buffer.clone()])
    }
}

/// Returns the bytes of the buffer of `view`, given the arena `before` and `after` the buffer of `to`, which
/// is another.
fn other_buffer<'a>(before: &'a [u8], after: &'a [u8], view: &View, to: &View) -> &'a [u8] {
    match view.buffer.end <= to.buffer.start {
        true => &before[view.buffer.clone()],
        false => &after[view.buffer.start - to.buffer.end..view.buffer.end - to.buffer.end],
    }
}
