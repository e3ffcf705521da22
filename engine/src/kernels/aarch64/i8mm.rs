//! NEON with matrix products (Cortex-A510, A710, X2, Neoverse N2, V1): `usmmla` multiplies eight unsigned
//! bytes of each of two pixels by eight signed bytes of each of two channels and adds the four sums to four
//! i32.
//!
//! - Tile: 8 pixels by 8 channels: 16 vectors of sums (2 pixels x 2 channels), 4 of input, 1 of weights at a
//!   time.
//! - Multiples: `k` of 8. Panel: for each 8 bytes of a tap 64 bytes: 8 channels x 8 weights.
//! - Input is not converted, because one operand of the instruction is unsigned.
//! - Overflow: `usmmla` is exact; sums stay within the plan's bound.
//! - Features: neon, i8mm. The intrinsic is not stable in Rust 1.95, so the instruction is inline assembly.

use super::{Bounds, requantize, store_some};
use crate::kernels::{
    Job, Kernel, Kernels, scalar,
    tiles::{rows, tiles},
};
use std::arch::{aarch64::*, asm};

pub(crate) const KERNELS: Kernels =
    Kernels { blocks: BLOCKS, max_of_row: scalar::max_of_row, depthwise_row: scalar::depthwise_row };

const BLOCKS: &[Kernel] = &[Kernel {
    name: "conv_i32_u8s8_8x8x8_i8mm",
    nr: 8,
    kr: 8,
    wide: false,
    order: &[0, 1, 2, 3, 4, 5, 6, 7],
    input_zero: 0,
    min_weight: -128,
    run,
}];

/// # Safety
///
/// See [`Kernel::run`].
unsafe fn run(job: &Job) {
    // SAFETY: guaranteed by the caller.
    unsafe { rows(job, &tiles!(tile; 1 2 3 4 5 6 7 8)) }
}

/// Computes `M` pixels by 8 channels, two pixels by two channels per vector.
///
/// # Safety
///
/// See [`Kernel::run`]; `input` and `output` are the tile's first pixel.
#[target_feature(enable = "neon,i8mm")]
unsafe fn tile<const M: usize>(job: &Job, input: *const u8, output: *mut u8) {
    // SAFETY: the panel has four vectors for each 8 bytes of each tap; the caller guarantees the rest. If `M`
    // is odd, the last pixel is computed twice and stored once.
    unsafe {
        // Both pixels of a pair start with the start values of the same two channels.
        let start: [int32x4_t; 4] = std::array::from_fn(|pair| {
            let two = vld1_s32(job.bias.add(2 * pair));
            vcombine_s32(two, two)
        });
        // Only the first M / 2, rounded up, are used.
        let mut sums = [start; 4];
        let pairs = M.div_ceil(2);
        let mut weights = job.weights.cast::<i8>();
        for tap in 0..job.tap_count {
            let run = input.add(*job.taps.add(tap));
            for k in (0..job.k).step_by(8) {
                let pixel = |m: usize| vld1_u8(run.add(m.min(M - 1) * job.input_pixel + k));
                let bytes: [uint8x16_t; 4] = std::array::from_fn(|pair| {
                    // Unused pairs cost nothing, because M is a constant.
                    if pair < pairs {
                        vcombine_u8(pixel(2 * pair), pixel(2 * pair + 1))
                    } else {
                        vdupq_n_u8(0)
                    }
                });
                for channels in 0..4 {
                    let weights = vld1q_s8(weights.add(16 * channels));
                    for (sums, &bytes) in sums.iter_mut().zip(&bytes).take(pairs) {
                        // The instruction accesses no memory; the caller's features include i8mm.
                        asm!(
                            "usmmla {sums:v}.4s, {bytes:v}.16b, {weights:v}.16b",
                            sums = inout(vreg) sums[channels],
                            bytes = in(vreg) bytes,
                            weights = in(vreg) weights,
                            options(pure, nomem, nostack, preserves_flags),
                        );
                    }
                }
                weights = weights.add(64);
            }
        }
        let factors = [vld1q_f32(job.factor), vld1q_f32(job.factor.add(4))];
        let bounds = Bounds::new(job.range);
        for (pair, [a, b, c, d]) in sums.into_iter().enumerate().take(pairs) {
            // The low halves are the first pixel's, the high ones the second's.
            let halves = [
                [
                    vcombine_s32(vget_low_s32(a), vget_low_s32(b)),
                    vcombine_s32(vget_low_s32(c), vget_low_s32(d)),
                ],
                [
                    vcombine_s32(vget_high_s32(a), vget_high_s32(b)),
                    vcombine_s32(vget_high_s32(c), vget_high_s32(d)),
                ],
            ];
            for (i, sums) in halves.into_iter().enumerate().take(M - 2 * pair) {
                let values = requantize(sums, factors, &bounds);
                let output = output.add((2 * pair + i) * job.output_pixel);
                if job.channels == 8 {
                    vst1_u8(output, values);
                } else {
                    store_some(vget_lane_u64::<0>(vreinterpret_u64_u8(values)), job.channels, output);
                }
            }
        }
    }
}
