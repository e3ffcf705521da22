//! What the two kernel sets with 256-bit vectors share: blocks of 16 channels as two vectors, and the way from sums to
//! bytes.
//!
//! Packing interleaves the vectors by groups of four channels; the order of slots undoes that.

use crate::{kernels::Job, quant::Range};
use std::arch::x86_64::*;

/// The channel in each slot: two vectors of eight sums.
pub(super) const ORDER: [u8; 16] = [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15];

/// Sums of `M` pixels.
pub(super) type Sums<const M: usize> = [[__m256i; 2]; M];

/// The job's start values for every pixel.
///
/// # Safety
///
/// `job.bias` is valid for 16 numbers.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn start<const M: usize>(job: &Job) -> Sums<M> {
    // SAFETY: as the caller promises.
    let start = unsafe { [_mm256_loadu_si256(job.bias.cast()), _mm256_loadu_si256(job.bias.add(8).cast())] };
    [start; M]
}

/// From sums to steps, by the rounding law, and out.
///
/// # Safety
///
/// `output` is valid for the job's channels at each of `M` pixels, `job.factor` for 16 numbers.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn store<const M: usize>(job: &Job, sums: &Sums<M>, output: *mut u8) {
    let bounded = job.range != Range::PLAIN;
    let (low, high) = job.range.bounds();
    let (low, high) = (_mm256_set1_ps(low), _mm256_set1_ps(high));
    let zero = _mm256_set1_epi32(i32::from(job.range.zero));
    // SAFETY: as the caller promises.
    let factors = unsafe { [_mm256_loadu_ps(job.factor), _mm256_loadu_ps(job.factor.add(8))] };
    let steps = |m: usize, v: usize| {
        // An odd pixel at the end goes with itself.
        let mut scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[m.min(M - 1)][v]), factors[v]);
        if bounded {
            scaled = _mm256_min_ps(_mm256_max_ps(scaled, low), high);
            return _mm256_add_epi32(_mm256_cvtps_epi32(scaled), zero);
        }
        // Packing saturates: to 0 below, to 255 above.
        _mm256_cvtps_epi32(scaled)
    };
    for m in (0..M).step_by(2) {
        let first = _mm256_packs_epi32(steps(m, 0), steps(m, 1));
        let second = _mm256_packs_epi32(steps(m + 1, 0), steps(m + 1, 1));
        let bytes = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi16(first, second));
        let pixels = [_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes)];
        for (i, pixel) in pixels.into_iter().enumerate().take(M - m) {
            // SAFETY: as the caller promises; no more than the job's channels are written.
            unsafe {
                let output = output.add((m + i) * job.output_pixel);
                if job.channels == 16 {
                    _mm_storeu_si128(output.cast(), pixel);
                } else {
                    let mut bytes = [0u8; 16];
                    _mm_storeu_si128(bytes.as_mut_ptr().cast(), pixel);
                    output.copy_from_nonoverlapping(bytes.as_ptr(), job.channels);
                }
            }
        }
    }
}
