//! One row of a max pool, in plain Rust that the compiler vectorizes. Each kernel set compiles it for its
//! features.

use crate::quant::OutputRange;

/// A window of `size` that moves by `strides` and begins `pad_before` pixels before the input; pairs are
/// height, width.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PoolWindow {
    pub(crate) size: [usize; 2],
    pub(crate) strides: [usize; 2],
    pub(crate) pad_before: [usize; 2],
}

impl PoolWindow {
    /// Returns the input indices under the window of output `index` along `axis`, for an input of `len`.
    pub(crate) fn under(&self, axis: usize, index: usize, len: usize) -> std::ops::Range<usize> {
        let start = index * self.strides[axis];
        let end = (start + self.size[axis]).saturating_sub(self.pad_before[axis]).min(len);
        start.saturating_sub(self.pad_before[axis])..end
    }
}

/// One row of a max pool.
#[derive(Debug)]
pub(crate) struct MaxRow<'a> {
    pub(crate) window: &'a PoolWindow,
    pub(crate) range: OutputRange,
    /// The input from its first pixel on.
    pub(crate) input: &'a [u8],
    /// The input rows under the window.
    pub(crate) rows: std::ops::Range<usize>,
    /// Number of input rows that are stored: all of them, or a ring.
    pub(crate) stored_rows: usize,
    /// Distances between rows and between pixels, in bytes.
    pub(crate) input_row: usize,
    pub(crate) input_pixel: usize,
    /// Pixels per row.
    pub(crate) input_width: usize,
    pub(crate) channels: usize,
    /// Distance between output pixels, in bytes.
    pub(crate) output_pixel: usize,
}

impl MaxRow<'_> {
    /// Computes the row. Always inlined, so that it is compiled for the features of its caller.
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
                for value in output {
                    *value = (*value).clamp(self.range.low, self.range.high);
                }
            }
        }
    }

    /// Computes the maximum under the window of output pixel `x` for each of `N` channels from `channel` on.
    #[inline(always)]
    fn largest<const N: usize>(&self, x: usize, channel: usize, output: &mut [u8; N]) {
        let mut largest = [0; N];
        for row in self.rows.clone() {
            let row = row % self.stored_rows * self.input_row + channel;
            for column in self.window.under(1, x, self.input_width) {
                if let Some(values) = self.input[row + column * self.input_pixel..].first_chunk::<N>() {
                    for (largest, value) in largest.iter_mut().zip(values) {
                        *largest = (*value).max(*largest);
                    }
                }
            }
        }
        *output = largest;
    }
}

/// Channels that are compared at once: a multiple of every CPU's vector length.
const BLOCK: usize = 64;
