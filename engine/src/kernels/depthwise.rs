//! One row of a depthwise convolution, in plain Rust that the compiler vectorizes. Each kernel set compiles
//! it for its features.

use super::pooling::PoolWindow;
use crate::quant::OutputRange;

/// One row of a depthwise convolution.
#[derive(Debug)]
pub(crate) struct DepthwiseRow<'a> {
    pub(crate) window: &'a PoolWindow,
    pub(crate) dilations: [usize; 2],
    /// Output channels per input channel.
    pub(crate) multiplier: usize,
    /// Height x width x output channels.
    pub(crate) weights: &'a [i8],
    /// By output channel.
    pub(crate) bias: &'a [i32],
    /// By output channel.
    pub(crate) factor: &'a [f32],
    pub(crate) input_zero: u8,
    pub(crate) range: OutputRange,
    /// The input from its first pixel on.
    pub(crate) input: &'a [u8],
    /// Rows and pixels per row.
    pub(crate) input_size: [usize; 2],
    /// Distances between rows and between pixels, in bytes.
    pub(crate) input_distances: [usize; 2],
    /// Index of the output row.
    pub(crate) y: usize,
    pub(crate) channels: usize,
    /// Distance between output pixels, in bytes.
    pub(crate) output_pixel: usize,
}

/// The part of a window that lies inside the input, along one axis.
struct Taps {
    taps: std::ops::Range<usize>,
    /// Index of the first tap's input.
    first: usize,
}

impl DepthwiseRow<'_> {
    /// Computes the row. Always inlined, so that it is compiled for the features of its caller.
    #[inline(always)]
    pub(crate) fn run(&self, output: &mut [u8]) {
        let rows = self.inside(0, self.y);
        for (x, output) in output.chunks_mut(self.output_pixel).enumerate() {
            let columns = self.inside(1, x);
            let output = &mut output[..self.channels];
            if self.multiplier > 1 {
                for (channel, output) in output.as_chunks_mut::<1>().0.iter_mut().enumerate() {
                    self.sums(&rows, &columns, [channel / self.multiplier, channel], output);
                }
                continue;
            }
            let (wide, rest) = output.as_chunks_mut::<WIDE>();
            let rest_first = wide.len() * WIDE;
            for (block, output) in wide.iter_mut().enumerate() {
                self.sums(&rows, &columns, [block * WIDE; 2], output);
            }
            let (narrow, rest) = rest.as_chunks_mut::<NARROW>();
            let last_first = rest_first + narrow.len() * NARROW;
            for (block, output) in narrow.iter_mut().enumerate() {
                self.sums(&rows, &columns, [rest_first + block * NARROW; 2], output);
            }
            for (channel, output) in rest.as_chunks_mut::<1>().0.iter_mut().enumerate() {
                self.sums(&rows, &columns, [last_first + channel; 2], output);
            }
        }
    }

    /// Returns the taps of output `index` along `axis` that lie inside the input. Outside is zero, which adds
    /// nothing.
    #[inline(always)]
    fn inside(&self, axis: usize, index: usize) -> Taps {
        let (start, pad) = (index * self.window.strides[axis], self.window.pad_before[axis]);
        let (len, dilation) = (self.input_size[axis], self.dilations[axis]);
        let first = pad.saturating_sub(start).div_ceil(dilation);
        let end = (len + pad).saturating_sub(start).div_ceil(dilation).min(self.window.size[axis]);
        let first = first.min(end);
        Taps { taps: first..end, first: (start + first * dilation).saturating_sub(pad) }
    }

    /// Computes `N` channels of an output pixel. `channels` are the first ones of the input and the output.
    #[inline(always)]
    fn sums<const N: usize>(&self, rows: &Taps, columns: &Taps, channels: [usize; 2], output: &mut [u8; N]) {
        let [input_channel, channel] = channels;
        let Some(mut sums) = self.bias[channel..].first_chunk::<N>().copied() else { return };
        let Some(factors) = self.factor[channel..].first_chunk::<N>() else { return };
        let zero = i16::from(self.input_zero);
        let [row_distance, distance] = [0, 1].map(|axis| self.dilations[axis] * self.input_distances[axis]);
        let first =
            rows.first * self.input_distances[0] + columns.first * self.input_distances[1] + input_channel;
        for (y, row) in rows.taps.clone().enumerate() {
            let mut at = first + y * row_distance;
            let mut tap = (row * self.window.size[1] + columns.taps.start) * self.channels + channel;
            for _ in columns.taps.clone() {
                let (Some(values), Some(weights)) =
                    (self.input[at..].first_chunk::<N>(), self.weights[tap..].first_chunk::<N>())
                else {
                    return;
                };
                for ((sum, &value), &weight) in sums.iter_mut().zip(values).zip(weights) {
                    // At most 255 x 128, which fits 16 bits.
                    *sum += i32::from((i16::from(value) - zero) * i16::from(weight));
                }
                at += distance;
                tap += self.channels;
            }
        }
        for ((value, &sum), &factor) in output.iter_mut().zip(&sums).zip(factors) {
            *value = self.range.requantize(sum, factor);
        }
    }
}

/// Channels whose sums are computed at once.
const WIDE: usize = 32;
/// The same for what is left.
const NARROW: usize = 8;
