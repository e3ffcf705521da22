//! Pooling: the largest or the mean of the steps under a window. At the rim a window is cut off, not padded.

use super::from_to;
use crate::{plan::layout::View, quant::Range};

/// A window of `size` that moves by `strides`, beginning `before` the first pixel; pairs are height, width.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PoolWindow {
    pub(crate) size: [usize; 2],
    pub(crate) strides: [usize; 2],
    pub(crate) before: [usize; 2],
}

impl PoolWindow {
    /// What is under the window of output `index` along `axis`, of `len` in all.
    pub(crate) fn under(&self, axis: usize, index: usize, len: usize) -> std::ops::Range<usize> {
        let start = index * self.strides[axis];
        let end = (start + self.size[axis]).saturating_sub(self.before[axis]).min(len);
        start.saturating_sub(self.before[axis])..end
    }
}

/// Largest steps, `column` being room for one row of the input.
pub(crate) fn max(
    arena: &mut [u8],
    window: &PoolWindow,
    range: Range,
    from: &View,
    to: &View,
    column: &mut [u8],
) {
    let (from_bytes, to_bytes) = from_to(arena, from, to);
    for y in 0..to.height {
        let rows = window.under(0, y, from.height);
        let row_len = (from.width - 1) * from.pixel + from.pixel_len();
        let column = &mut column[..row_len];
        for (i, row) in rows.enumerate() {
            let at = from.at(row, 0);
            take_larger(column, &from_bytes[at..at + row_len], i == 0);
        }
        let at = to.at(y, 0);
        let len = (to.width - 1) * to.pixel + to.pixel_len();
        max_of_row(window, range, column, from, &mut to_bytes[at..at + len], to);
    }
}

/// The largest of each column so far: `column` becomes the larger of itself and `row`, or `row` where it is the `first`.
#[inline]
pub(crate) fn take_larger(column: &mut [u8], row: &[u8], first: bool) {
    if first {
        column.copy_from_slice(row);
    } else {
        for (largest, &step) in column.iter_mut().zip(row) {
            *largest = step.max(*largest);
        }
    }
}

/// One output row from the largest of each column; `column` and `output` begin at their row's first pixel.
pub(crate) fn max_of_row(
    window: &PoolWindow,
    range: Range,
    column: &[u8],
    from: &View,
    output: &mut [u8],
    to: &View,
) {
    let len = from.channels;
    for x in 0..to.width {
        let output = &mut output[x * to.pixel..][..len];
        for (i, pixel) in window.under(1, x, from.width).enumerate() {
            take_larger(output, &column[pixel * from.pixel..][..len], i == 0);
        }
        if range.low > 0 || range.high < 255 {
            for step in output {
                *step = (*step).clamp(range.low, range.high);
            }
        }
    }
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
