//! One row of a max pool, in plain Rust that compilers turn into vectors: each kernel set compiles it for its features.

use crate::quant::Range;

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

/// One row of a max pool.
#[derive(Debug)]
pub(crate) struct MaxRow<'a> {
    pub(crate) window: &'a PoolWindow,
    pub(crate) range: Range,
    /// From the first pixel on.
    pub(crate) input: &'a [u8],
    /// The input rows under the window.
    pub(crate) rows: std::ops::Range<usize>,
    /// Rows that have a place; where that is not all of them, they take turns.
    pub(crate) kept_rows: usize,
    /// Bytes from row to row, and from pixel to pixel.
    pub(crate) input_row: usize,
    pub(crate) input_pixel: usize,
    /// Pixels of a row.
    pub(crate) input_width: usize,
    pub(crate) channels: usize,
    /// Bytes from one output pixel to the next.
    pub(crate) output_pixel: usize,
}

impl MaxRow<'_> {
    /// Computes the row. Always inlined, so that it gets the vectors of the function that calls it.
    #[inline(always)]
    pub(crate) fn run(&self, output: &mut [u8]) {
        let channels = self.channels;
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
            let row = row % self.kept_rows * self.input_row + channel;
            for column in self.window.under(1, x, self.input_width) {
                if let Some(steps) = self.input[row + column * self.input_pixel..].first_chunk::<N>() {
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
