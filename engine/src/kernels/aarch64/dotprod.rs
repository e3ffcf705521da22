//! NEON with dot products (Cortex-A76, A78): `sdot` multiplies four signed bytes by four and adds all
//! products to an i32, in four lanes at once.
//!
//! - Tile: 8 pixels by 8 channels: 16 vectors of sums, 8 of input, 2 of weights.
//! - Multiples: `k` of 4; input is loaded 16 bytes at a time as long as there are 16. Panel: for each 4 bytes
//!   of a tap 32 bytes: 8 channels x 4 weights.
//! - Input is converted to signed bytes (`input_zero` 128).
//! - Overflow: `sdot` is exact; sums stay within the plan's bound.
//! - Features: neon, dotprod. The intrinsic is not stable in Rust 1.95, so the instruction is inline
//!   assembly.

use super::{Bounds, requantize, store_some};
use crate::kernels::{
    Job, Kernel, Kernels, scalar,
    tiles::{rows, tiles},
};
use std::arch::{aarch64::*, asm};

pub(crate) const KERNELS: Kernels =
    Kernels { blocks: BLOCKS, max_of_row: scalar::max_of_row, depthwise_row: scalar::depthwise_row };

const BLOCKS: &[Kernel] = &[Kernel {
    name: "conv_i32_s8s8_8x8x4_dotprod",
    nr: 8,
    kr: 4,
    wide: false,
    order: &[0, 1, 2, 3, 4, 5, 6, 7],
    input_zero: 128,
    min_weight: -128,
    run,
}];

/// Adds to lane `i` of `$sums` the products of the four bytes `i` of `$weights` and the four bytes `$lane` of
/// `$bytes`.
macro_rules! dot {
    ($sums:expr, $weights:expr, $bytes:expr, $lane:literal) => {
        // SAFETY: the instruction accesses no memory; the caller's features include dotprod.
        asm!(
            concat!("sdot {sums:v}.4s, {weights:v}.16b, {bytes:v}.4b[", $lane, "]"),
            sums = inout(vreg) $sums,
            weights = in(vreg) $weights,
            bytes = in(vreg) $bytes,
            options(pure, nomem, nostack, preserves_flags),
        )
    };
}

/// # Safety
///
/// See [`Kernel::run`].
unsafe fn run(job: &Job) {
    // SAFETY: guaranteed by the caller.
    unsafe { rows(job, &tiles!(tile; 1 2 3 4 5 6 7 8)) }
}

/// Sums of `M` pixels in two vectors of 4 channels.
type Sums<const M: usize> = [[int32x4_t; 2]; M];

/// Multiplies four bytes of each pixel, those of `$lane`, by four weights of each channel and adds the
/// products.
macro_rules! group {
    ($sums:ident, $bytes:ident, $weights:ident, $lane:literal) => {
        let low = vld1q_s8($weights.add(32 * $lane));
        let high = vld1q_s8($weights.add(32 * $lane + 16));
        for (sums, &bytes) in $sums.iter_mut().zip(&$bytes) {
            dot!(sums[0], low, bytes, $lane);
            dot!(sums[1], high, bytes, $lane);
        }
    };
}

/// Computes `M` pixels by 8 channels.
///
/// # Safety
///
/// See [`Kernel::run`]; `input` and `output` are the tile's first pixel.
#[target_feature(enable = "neon,dotprod")]
unsafe fn tile<const M: usize>(job: &Job, input: *const u8, output: *mut u8) {
    // SAFETY: the panel has two vectors for each 4 bytes of each tap; the caller guarantees the rest.
    unsafe {
        let mut sums: Sums<M> = [[vld1q_s32(job.bias), vld1q_s32(job.bias.add(4))]; M];
        let mut weights = job.weights.cast::<i8>();
        let flip = vdupq_n_u8(0x80);
        for tap in 0..job.tap_count {
            let run = input.add(*job.taps.add(tap));
            let mut k = 0;
            while k + 16 <= job.k {
                let bytes: [int8x16_t; M] = std::array::from_fn(|m| {
                    vreinterpretq_s8_u8(veorq_u8(vld1q_u8(run.add(m * job.input_pixel + k)), flip))
                });
                group!(sums, bytes, weights, 0);
                group!(sums, bytes, weights, 1);
                group!(sums, bytes, weights, 2);
                group!(sums, bytes, weights, 3);
                weights = weights.add(128);
                k += 16;
            }
            while k < job.k {
                let bytes: [int8x16_t; M] = std::array::from_fn(|m| {
                    let four = run.add(m * job.input_pixel + k).cast::<u32>().read_unaligned();
                    vreinterpretq_s8_u8(veorq_u8(vreinterpretq_u8_u32(vdupq_n_u32(four)), flip))
                });
                group!(sums, bytes, weights, 0);
                weights = weights.add(32);
                k += 4;
            }
        }
        let factors = [vld1q_f32(job.factor), vld1q_f32(job.factor.add(4))];
        let bounds = Bounds::new(job.range);
        for (m, sums) in sums.into_iter().enumerate() {
            let values = requantize(sums, factors, &bounds);
            let output = output.add(m * job.output_pixel);
            if job.channels == 8 {
                vst1_u8(output, values);
            } else {
                store_some(vget_lane_u64::<0>(vreinterpret_u64_u8(values)), job.channels, output);
            }
        }
    }
}
