//! Pooling: the largest or the mean of the steps under a window. At the rim a window is cut off, not padded.

use super::from_to;
use crate::{
    kernels::{
        Kernels,
        pooling::{MaxRow, PoolWindow},
    },
    plan::layout::View,
    quant::Range,
};

/// Largest steps.
pub(crate) fn max(
    arena: &mut [u8],
    kernels: &Kernels,
    window: &PoolWindow,
    range: Range,
    from: &View,
    to: &View,
) {
    for y in 0..to.height {
        max_row(arena, kernels, window, range, (from, from.height), to, y);
    }
}

/// Row `y` of the output. `from` is the input with the number of its rows that have a place: where that is not all of
/// them, they take turns.
pub(crate) fn max_row(
    arena: &mut [u8],
    kernels: &Kernels,
    window: &PoolWindow,
    range: Range,
    (from, kept_rows): (&View, usize),
    to: &View,
    y: usize,
) {
    let (input, output) = from_to(arena, from, to);
    let at = to.at(y, 0);
    let len = (to.width - 1) * to.pixel + to.pixel_len();
    let rows = window.under(0, y, from.height);
    let row = MaxRow {
        window,
        range,
        input: &input[from.at(0, 0)..],
        rows,
        kept_rows,
        input_row: from.row,
        input_pixel: from.pixel,
        input_width: from.width,
        channels: from.channels,
        output_pixel: to.pixel,
    };
    // SAFETY: kernels come from `kernels::obtain` only, so the CPU has their features.
    unsafe { (kernels.max_of_row)(&row, &mut output[at..at + len]) };
}

/// Mean steps, as TensorFlow Lite's own kernel rounds them: halves away from `middle`, which is the step that the
/// model's type counts as zero (128 for int8, 0 for uint8).
pub(crate) fn average(
    arena: &mut [u8],
    window: &PoolWindow,
    range: Range,
    middle: u8,
    from: &View,
    to: &View,
) {
    let (from_bytes, to_bytes) = from_to(arena, from, to);
    for y in 0..to.height {
        let rows = window.under(0, y, from.height);
        for x in 0..to.width {
            let columns = window.under(1, x, from.width);
            let count = (rows.len() * columns.len()) as i32;
            for channel in 0..to.channels {
                let mut sum = 0;
                for row in rows.clone() {
                    for column in columns.clone() {
                        sum += i32::from(from_bytes[from.at(row, column) + channel]) - i32::from(middle);
                    }
                }
                let half = if sum > 0 { count / 2 } else { -(count / 2) };
                let mean = (sum + half) / count + i32::from(middle);
                let step = mean.clamp(i32::from(range.low), i32::from(range.high));
                to_bytes[to.at(y, x) + channel] = step as u8;
            }
        }
    }
}
