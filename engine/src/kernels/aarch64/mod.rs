//! Kernels for aarch64, one file per level of CPU features.
//!
//! NEON and dotprod work with signed bytes: `x - 128` is `x` with its highest bit flipped. The start values
//! compensate for what that subtracts from a sum, 128 times the sum of the weights.

pub(crate) mod dotprod;
pub(crate) mod i8mm;
pub(crate) mod neon;

use crate::quant::OutputRange;
use std::arch::aarch64::*;

/// Zero point and clamp of a job's output, as vectors.
struct Bounds {
    zero_point: int16x8_t,
    low: uint8x8_t,
    high: uint8x8_t,
}

impl Bounds {
    #[inline]
    #[target_feature(enable = "neon")]
    fn new(range: OutputRange) -> Bounds {
        Bounds {
            zero_point: vdupq_n_s16(i16::from(range.zero_point)),
            low: vdup_n_u8(range.low),
            high: vdup_n_u8(range.high),
        }
    }
}

/// Requantizes eight sums to eight bytes. Narrowing saturates, so the clamp can come last, on bytes.
#[inline]
#[target_feature(enable = "neon")]
fn requantize(sums: [int32x4_t; 2], factors: [float32x4_t; 2], bounds: &Bounds) -> uint8x8_t {
    let [low, high] = [0, 1].map(|i| vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(sums[i]), factors[i])));
    let words = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(low), high), bounds.zero_point);
    vmin_u8(vmax_u8(vqmovun_s16(words), bounds.low), bounds.high)
}

/// Stores the first `count` of eight bytes. Used only for the last block of a layer whose channels do not
/// fill it.
///
/// # Safety
///
/// `output` is valid for `count` bytes, at most eight.
#[cold]
#[inline(never)]
unsafe fn store_some(values: u64, count: usize, output: *mut u8) {
    // SAFETY: guaranteed by the caller.
    unsafe { output.copy_from_nonoverlapping(values.to_le_bytes().as_ptr(), count) }
}
