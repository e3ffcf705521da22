//! Kernels for aarch64, a file for each level of instructions.
//!
//! Both work with signed bytes: `x - 128` is `x` with its highest bit flipped, and what that takes from a sum (128 times
//! the sum of the weights) is in the start values already.

pub(crate) mod dotprod;
pub(crate) mod neon;

use crate::kernels::Job;
use std::arch::aarch64::*;

/// Four sums of neighbouring channels to four steps, by the rounding law, in the lowest bytes of the result.
///
/// # Safety
///
/// `factor` is valid for four numbers.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn requantize(job: &Job, sums: int32x4_t, factor: *const f32) -> u32 {
    let (low, high) = job.range.bounds();
    // SAFETY: as the caller promises.
    let factor = unsafe { vld1q_f32(factor) };
    let scaled = vmulq_f32(vcvtq_f32_s32(sums), factor);
    let bounded = vminq_f32(vmaxq_f32(scaled, vdupq_n_f32(low)), vdupq_n_f32(high));
    let steps = vaddq_s32(vcvtnq_s32_f32(bounded), vdupq_n_s32(i32::from(job.range.zero)));
    let words = vreinterpretq_u16_s16(vcombine_s16(vmovn_s32(steps), vdup_n_s16(0)));
    vget_lane_u32::<0>(vreinterpret_u32_u8(vmovn_u16(words)))
}

/// Stores the lowest `count` bytes of `steps`, at most four.
///
/// # Safety
///
/// `output` is valid for `count` bytes.
#[inline]
unsafe fn store(steps: u32, count: usize, output: *mut u8) {
    // SAFETY: as the caller promises.
    unsafe {
        if count >= 4 {
            output.cast::<u32>().write_unaligned(steps.to_le());
        } else {
            output.copy_from_nonoverlapping(steps.to_le_bytes().as_ptr(), count);
        }
    }
}
