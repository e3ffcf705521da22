//! NEON without dot products (Cortex-A53, A57, A72): `smull` and `smlal` multiply eight bytes by eight to 16
//! bits, and `sadalp` adds pairs of the products to i32.
//!
//! - Tile: 4 pixels by 4 channels: 16 vectors of sums (each four partial sums of one channel), 4 of input, 4
//!   of weights.
//! - Multiples: `k` of 16. Panel: for each 16 bytes of a tap 64 bytes: 4 channels x 16 weights.
//! - Input is converted to signed bytes (`input_zero` 128).
//! - Overflow: two products are added in 16 bits. With weights from -127 that is at most 2 x 128 x 127 =
//!   32,512; a weight of -128 could reach 32,768, so convolutions that have one use the reference kernel.
//! - Features: neon.

use super::{Bounds, requantize, store_some};
use crate::kernels::{
    Job, Kernel, Kernels, scalar,
    tiles::{rows, tiles},
};
use std::arch::aarch64::*;

pub(crate) const KERNELS: Kernels =
    Kernels { blocks: BLOCKS, max_of_row: scalar::max_of_row, depthwise_row: scalar::depthwise_row };

const BLOCKS: &[Kernel] = &[Kernel {
    name: "conv_i32_s8s8_4x4x16_neon",
    nr: 4,
    kr: 16,
    wide: false,
    order: &[0, 1, 2, 3],
    input_zero: 128,
    min_weight: -127,
    run,
}];

/// # Safety
///
/// See [`Kernel::run`].
unsafe fn run(job: &Job) {
    // SAFETY: guaranteed by the caller.
    unsafe { rows(job, &tiles!(tile; 1 2 3 4)) }
}

/// Computes `M` pixels by 4 channels.
///
/// # Safety
///
/// See [`Kernel::run`]; `input` and `output` are the tile's first pixel.
#[target_feature(enable = "neon")]
unsafe fn tile<const M: usize>(job: &Job, input: *const u8, output: *mut u8) {
    // SAFETY: the panel has four vectors for each 16 bytes of each tap; the caller guarantees the rest.
    unsafe {
        let mut sums = [[vdupq_n_s32(0); 4]; M];
        let mut weights = job.weights.cast::<i8>();
        let flip = vdupq_n_u8(0x80);
        for tap in 0..job.tap_count {
            let run = input.add(*job.taps.add(tap));
            for k in (0..job.k).step_by(16) {
                let rows: [int8x16_t; 4] = std::array::from_fn(|n| vld1q_s8(weights.add(16 * n)));
                for (m, sums) in sums.iter_mut().enumerate() {
                    let bytes = vld1q_u8(run.add(m * job.input_pixel + k));
                    let bytes = vreinterpretq_s8_u8(veorq_u8(bytes, flip));
                    for (sum, &row) in sums.iter_mut().zip(&rows) {
                        let products = vmull_s8(vget_low_s8(bytes), vget_low_s8(row));
                        *sum = vpadalq_s16(*sum, vmlal_high_s8(products, bytes, row));
                    }
                }
                weights = weights.add(64);
            }
        }
        let (start, factor, bounds) = (vld1q_s32(job.bias), vld1q_f32(job.factor), Bounds::new(job.range));
        let sum = |m: usize| {
            // If `M` is odd, the last pixel is paired with itself.
            let [a, b, c, d] = sums[m.min(M - 1)];
            vaddq_s32(vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d)), start)
        };
        for m in (0..M).step_by(2) {
            let values = requantize([sum(m), sum(m + 1)], [factor; 2], &bounds);
            let output = output.add(m * job.output_pixel);
            // If `M` is odd, this address may be outside the output after the last pixel. It is then not
            // used.
            let second = output.wrapping_add(job.output_pixel);
            if job.channels == 4 {
                let values = vreinterpret_u32_u8(values);
                vst1_lane_u32::<0>(output.cast(), values);
                if m + 1 < M {
                    vst1_lane_u32::<1>(second.cast(), values);
                }
            } else {
                let values = vget_lane_u64::<0>(vreinterpret_u64_u8(values));
                store_some(values, job.channels, output);
                if m + 1 < M {
                    store_some(values >> 32, job.channels, second);
                }
            }
        }
    }
}
