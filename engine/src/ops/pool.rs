//! MAX_POOL_2D and AVERAGE_POOL_2D. A window that extends beyond its input is clipped, not padded.

use super::from_to;
use crate::{
    kernels::{
        Kernels,
        pooling::{MaxRow, PoolWindow},
    },
    plan::layout::View,
    quant::OutputRange,
};

/// Computes a max pool.
pub(crate) fn max(
    arena: &mut [u8],
    kernels: &Kernels,
    window: &PoolWindow,
    range: OutputRange,
    from: &View,
    to: &View,
) {
    for y in 0..to.height {
        max_row(arena, kernels, window, range, (from, from.height), to, y);
    }
}

/// Computes row `y` of a max pool. `from` is the input and the number of its rows that are stored: all of
/// them, or a ring.
pub(crate) fn max_row(
    arena: &mut [u8],
    kernels: &Kernels,
    window: &PoolWindow,
    range: OutputRange,
    (from, stored_rows): (&View, usize),
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
        stored_rows,
        input_row: from.row,
        input_pixel: from.pixel,
        input_width: from.width,
        channels: from.channels,
        output_pixel: to.pixel,
    };
    // SAFETY: kernels only come from `kernels::obtain`, so the CPU has their features.
    unsafe { (kernels.max_of_row)(&row, &mut output[at..at + len]) };
}

/// Computes an average pool, rounded like TensorFlow Lite's own kernel: halves away from `type_zero`, the
/// byte that is 0 in the model's type (128 for int8, 0 for uint8).
pub(crate) fn average(
    arena: &mut [u8],
    window: &PoolWindow,
    range: OutputRange,
    type_zero: u8,
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
                        sum += i32::from(from_bytes[from.at(row, column) + channel]) - i32::from(type_zero);
                    }
                }
                let half = if sum > 0 { count / 2 } else { -(count / 2) };
                let mean = (sum + half) / count + i32::from(type_zero);
                let mean = mean.clamp(i32::from(range.low), i32::from(range.high));
                to_bytes[to.at(y, x) + channel] = mean as u8;
            }
        }
    }
}
