//! DEPTHWISE_CONV_2D: every output channel depends on one input channel. The network that camfire ships does
//! not use it, so a row of it is not written for each CPU but compiled for it.

use super::from_to;
use crate::{
    kernels::{Kernels, depthwise::DepthwiseRow, pooling::PoolWindow},
    plan::layout::View,
    quant::OutputRange,
};

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
    pub(crate) fn run(&self, arena: &mut [u8], kernels: &Kernels, from: &View, to: &View) {
        let (input, output) = from_to(arena, from, to);
        let len = (to.width - 1) * to.pixel + to.pixel_len();
        for y in 0..to.height {
            let at = to.at(y, 0);
            let row = DepthwiseRow {
                window: &self.window,
                dilations: self.dilations,
                multiplier: self.multiplier,
                weights: &self.weights,
                bias: &self.bias,
                factor: &self.factor,
                input_zero: self.input_zero,
                range: self.range,
                input: &input[from.at(0, 0)..],
                input_size: [from.height, from.width],
                input_distances: [from.row, from.pixel],
                y,
                channels: to.channels,
                output_pixel: to.pixel,
            };
            // SAFETY: kernels only come from `kernels::obtain`, so the CPU has their features.
            unsafe { (kernels.depthwise_row)(&row, &mut output[at..at + len]) };
        }
    }
}
