//! MEAN over height and width, one value per channel, by the requantization rule: the sum is exact, and the
//! factor is `input_scale / (output_scale * count)`.

use super::from_to;
use crate::{plan::layout::View, quant::OutputRange};

/// Writes the mean of all pixels of `from` to the one pixel of `to`.
pub(crate) fn mean(
    arena: &mut [u8],
    input_zero: u8,
    factor: f32,
    range: OutputRange,
    from: &View,
    to: &View,
) {
    let (from_bytes, to_bytes) = from_to(arena, from, to);
    let start = -(i32::from(input_zero) * (from.height * from.width) as i32);
    let output = to.at(0, 0);
    for channel in 0..from.channels {
        let mut sum = start;
        for y in 0..from.height {
            for x in 0..from.width {
                sum += i32::from(from_bytes[from.at(y, x) + channel]);
            }
        }
        to_bytes[output + channel] = range.requantize(sum, factor);
    }
}
