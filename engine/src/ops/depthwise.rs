//! DEPTHWISE_CONV_2D: every output channel depends on one input channel. Implemented as plain loops, because
//! the network that camfire ships does not use it.

use super::from_to;
use crate::{kernels::pooling::PoolWindow, plan::layout::View, quant::OutputRange};

/// Number of sums that are computed at once.
const SUMS: usize = 64;

/// A depthwise convolution ready to run.
#[derive(Debug)]
pub(crate) struct Depthwise {
    pub(crate) window: PoolWindow,
    pub(crate) dilations: [usize; 2],
    /// Output channels per input channel.
    pub(crate) multiplier: usize,
    /// Height x width x output channels.
    pub(crate) weights: Vec<i8>,
    pub(crate) bias: Vec<i32>,
    pub(crate) factor: Vec<f32>,
    pub(crate) input_zero: u8,
    pub(crate) range: OutputRange,
}

impl Depthwise {
    /// Computes the whole output.
    pub(crate) fn run(&self, arena: &mut [u8], from: &View, to: &View) {
        let (from_bytes, to_bytes) = from_to(arena, from, to);
        for y in 0..to.height {
            for x in 0..to.width {
                for first in (0..to.channels).step_by(SUMS) {
                    self.block(from_bytes, from, to_bytes, to, [y, x], first);
                }
            }
        }
    }

    /// Computes the channels of one output pixel from `first` on, at most [`SUMS`].
    fn block(
        &self,
        input: &[u8],
        from: &View,
        output: &mut [u8],
        to: &View,
        [y, x]: [usize; 2],
        first: usize,
    ) {
        let [height, width] = self.window.size;
        let count = SUMS.min(to.channels - first);
        let mut sums = [0; SUMS];
        sums[..count].copy_from_slice(&self.bias[first..first + count]);
        for tap in 0..height * width {
            let inside = |axis: usize, output: usize, tap: usize, len: usize| {
                let position = output * self.window.strides[axis] + tap * self.dilations[axis];
                position.checked_sub(self.window.pad_before[axis]).filter(|&position| position < len)
            };
            // Outside the input is zero, which adds nothing.
            let Some(row) = inside(0, y, tap / width, from.height) else { continue };
            let Some(column) = inside(1, x, tap % width, from.width) else { continue };
            let input = &input[from.at(row, column)..][..from.channels];
            let weights = &self.weights[tap * to.channels + first..][..count];
            for (i, (sum, &weight)) in sums.iter_mut().zip(weights).enumerate() {
                let value = i32::from(input[(first + i) / self.multiplier]) - i32::from(self.input_zero);
                *sum += value * i32::from(weight);
            }
        }
        let output = &mut output[to.at(y, x) + first..][..count];
        for ((value, &sum), &factor) in output.iter_mut().zip(&sums).zip(&self.factor[first..]) {
            *value = self.range.requantize(sum, factor);
        }
    }
}
