//! The reference kernel in plain Rust: sums of products, then
//! [`requantize`](crate::quant::OutputRange::requantize). Slow, but simple enough to verify by reading.
//!
//! - Multiples: none (`kr` 1). Panel: one channel's weights, tap by tap.
//! - Overflow: the plan's bound on the whole sum.
//! - Features: none.

use super::{Job, Kernel, Kernels};
use crate::kernels::{depthwise::DepthwiseRow, pooling::MaxRow};

pub(crate) const KERNELS: Kernels = Kernels { blocks: BLOCKS, max_of_row, depthwise_row };

const BLOCKS: &[Kernel] = &[Kernel {
    name: "conv_i32_u8s8_1x1x1_scalar",
    nr: 1,
    kr: 1,
    wide: false,
    order: &[0],
    input_zero: 0,
    min_weight: -128,
    run,
}];

/// # Safety
///
/// See [`Kernel::run`].
unsafe fn run(job: &Job) {
    for row in 0..job.rows {
        for column in 0..job.width {
            // SAFETY: the job's addresses are valid for its rows, width, taps and k, as the caller promises.
            unsafe {
                let pixel = job.input.add(row * job.input_row + column * job.input_pixel);
                let mut sum = *job.bias;
                for tap in 0..job.tap_count {
                    let input = pixel.add(*job.taps.add(tap));
                    let weights = job.weights.add(tap * job.k).cast::<i8>();
                    for i in 0..job.k {
                        sum += i32::from(*input.add(i)) * i32::from(*weights.add(i));
                    }
                }
                let value = job.range.requantize(sum, *job.factor);
                *job.output.add(row * job.output_row + column * job.output_pixel) = value;
            }
        }
    }
}

/// Computes a max pool's row with the baseline features of this architecture.
pub(super) fn max_of_row(row: &MaxRow<'_>, output: &mut [u8]) {
    row.run(output);
}

/// Computes a depthwise convolution's row with the baseline features of this architecture.
pub(super) fn depthwise_row(row: &DepthwiseRow<'_>, output: &mut [u8]) {
    row.run(output);
}
