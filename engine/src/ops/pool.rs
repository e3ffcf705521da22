//! Pooling: the largest or the mean of the steps under a window. At the rim a window is cut off, not padded.

use super::from_to;
use crate::{kernels::Kernels, plan::layout::View, quant::Range};

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
    let row = MaxRow { window, range, input, rows, kept_rows, from, output_pixel: to.pixel };
    // SAFETY: kernels come from `kernels::obtain` only, so the CPU has their features.
    unsafe { (kernels.max_of_row)(&row, &mut output[at..at + len]) };
}

/// One row of a max pool.
#[derive(Debug)]
pub(crate) struct MaxRow<'a> {
    window: &'a PoolWindow,
    range: Range,
    /// The input's buffer.
    input: &'a [u8],
    /// The input rows under the window.
    rows: std::ops::Range<usize>,
    kept_rows: usize,
    from: &'a View,
    /// Bytes from one output pixel to the next.
    output_pixel: usize,
}

impl MaxRow<'_> {
    /// Computes the row. Always inlined, so that it gets the vectors of the function that calls it.
    #[inline(always)]
    pub(crate) fn run(&self, output: &mut [u8]) {
        let channels = self.from.channels;
        for (x, output) in output.chunks_mut(self.output_pixel).enumerate() {
            let output = &mut output[..channels];
            let (blocks, rest) = output.as_chunks_mut::<BLOCK>();
            let rest_first = blocks.len() * BLOCK;
            for (block, output) in blocks.iter_mut().enumerate() {
                self.largest(x, block * BLOCK, output);
            }
            for (channel, output) in rest.as_chunks_mut::<1>().0.iter_mut().enumerate() {
                self.largest(x, rest_first + channel, output);
            }
            if self.range.low > 0 || self.range.high < 255 {
                for step in output {
                    *step = (*step).clamp(self.range.low, self.range.high);
                }
            }
        }
    }

    /// The largest step under the window of output pixel `x` at each of `N` channels from `channel` on.
    #[inline(always)]
    fn largest<const N: usize>(&self, x: usize, channel: usize, output: &mut [u8; N]) {
        let mut largest = [0; N];
        for row in self.rows.clone() {
            let row = self.from.at(row % self.kept_rows, 0) + channel;
            for column in self.window.under(1, x, self.from.width) {
                if let Some(steps) = self.input[row + column * self.from.pixel..].first_chunk::<N>() {
                    for (largest, step) in largest.iter_mut().zip(steps) {
                        *largest = (*step).max(*largest);
                    }
                }
            }
        }
        *output = largest;
    }
}

/// Channels that are compared at once; a whole number of any machine's vectors.
const BLOCK: usize = 64;

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
