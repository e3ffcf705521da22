//! NEON without dot products (Cortex-A53, A57, A72): `smull` and `smlal` multiply eight bytes by eight into 16 bits,
//! `sadalp` adds those in pairs to i32.
//!
//! - Tile: 4 pixels by 4 channels: 16 vectors of sums (each four parts of one sum), 4 of input, 4 of weights.
//! - Multiples: `k` of 16. Panel: for each 16 bytes of a tap 64 bytes: 4 channels x 16 weights.
//! - Input is taken as signed bytes (`input_zero` 128).
//! - Overflow: two products are added in 16 bits. With weights from -127 that is at most 2 x 128 x 127 = 32,512; a
//!   weight of -128 could reach 32,768, so convolutions that have one are left to the law.
//! - Features: neon.

use super::{Bounds, requantize, store_some};
use crate::kernels::{
    Job, Kernel, Kernels, scalar,
    tiles::{rows, tiles},
};
use std::arch::aarch64::*;

pub(crate) const KERNELS: Kernels = Kernels { blocks: BLOCKS, max_of_row: scalar::max_of_row };

const BLOCKS: &[Kernel] = &[Kernel {
    name: "conv_i32_s8s8_4x4x16_neon",
    nr: 4,
    kr: 16,
    wide: false,
    order: &[0, 1, 2, 3],
    input_zero: 128,
    lowest_weight: -127,
    run,
}];

/// # Safety
///
/// See [`Kernel::run`].
unsafe fn run(job: &Job) {
    // SAFETY: passed on from the caller.
    unsafe { rows(job, &tiles!(tile; 1 2 3 4)) }
}

/// `M` pixels by 4 channels.
///
/// # Safety
///
/// See [`Kernel::run`]; `input` and `output` are the tile's first pixel.
#[target_feature(enable = "neon")]
unsafe fn tile<const M: usize>(job: &Job, input: *const u8, output: *mut u8) {
    // SAFETY: the panel has four vectors for each 16 bytes of each tap; the rest is as the caller promises.
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
            // An odd pixel at the end goes with itself.
            let [a, b, c, d] = sums[m.min(M - 1)];
            vaddq_s32(vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d)), start)
        };
        for m in (0..M).step_by(2) {
            let steps = requantize([sum(m), sum(m + 1)], [factor; 2], &bounds);
            let output = output.add(m * job.output_pixel);
            // Behind an odd pixel at the end there may be nothing: then this address is made, but not used.
            let second = output.wrapping_add(job.output_pixel);
            if job.channels == 4 {
                let steps = vreinterpret_u32_u8(steps);
                vst1_lane_u32::<0>(output.cast(), steps);
                if m + 1 < M {
                    vst1_lane_u32::<1>(second.cast(), steps);
                }
            } else {
                let steps = vget_lane_u64::<0>(vreinterpret_u64_u8(steps));
                store_some(steps, job.channels, output);
                if m + 1 < M {
                    store_some(steps >> 32, job.channels, second);
                }
            }
        }
    }
}
