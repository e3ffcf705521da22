//! Shared by the two kernel sets with 256-bit vectors: blocks of 16 channels as two vectors, and
//! requantization from sums to bytes.
//!
//! Packing interleaves the vectors in groups of four channels; the order of slots reverses that.

use crate::{kernels::Job, quant::OutputRange};
use std::arch::x86_64::*;

/// The channel in each slot: two vectors of eight sums.
pub(super) const ORDER: [u8; 16] = [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15];

/// Sums of `M` pixels.
pub(super) type Sums<const M: usize> = [[__m256i; 2]; M];

/// Returns the job's start values for every pixel.
///
/// # Safety
///
/// `job.bias` is valid for 16 numbers.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn start<const M: usize>(job: &Job) -> Sums<M> {
    // SAFETY: guaranteed by the caller.
    let start = unsafe { [_mm256_loadu_si256(job.bias.cast()), _mm256_loadu_si256(job.bias.add(8).cast())] };
    [start; M]
}

/// Requantizes the sums and stores the bytes.
///
/// # Safety
///
/// `output` is valid for the job's channels at each of `M` pixels, `job.factor` for 16 numbers.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn store<const M: usize>(job: &Job, sums: &Sums<M>, output: *mut u8) {
    let is_clamped = job.range != OutputRange::FULL;
    let (low, high) = job.range.bounds();
    let (low, high) = (_mm256_set1_ps(low), _mm256_set1_ps(high));
    let zero_point = _mm256_set1_epi32(i32::from(job.range.zero_point));
    // SAFETY: guaranteed by the caller.
    let factors = unsafe { [_mm256_loadu_ps(job.factor), _mm256_loadu_ps(job.factor.add(8))] };
    let values = |m: usize, v: usize| {
        // If `M` is odd, the last pixel is paired with itself.
        let mut scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[m.min(M - 1)][v]), factors[v]);
        if is_clamped {
            scaled = _mm256_min_ps(_mm256_max_ps(scaled, low), high);
            return _mm256_add_epi32(_mm256_cvtps_epi32(scaled), zero_point);
        }
        // Packing saturates to 0 and 255.
        _mm256_cvtps_epi32(scaled)
    };
    for m in (0..M).step_by(2) {
        let first = _mm256_packs_epi32(values(m, 0), values(m, 1));
        let second = _mm256_packs_epi32(values(m + 1, 0), values(m + 1, 1));
        let bytes = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi16(first, second));
        let pixels = [_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes)];
        for (i, pixel) in pixels.into_iter().enumerate().take(M - m) {
            // SAFETY: guaranteed by the caller; only the job's channels are written.
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
