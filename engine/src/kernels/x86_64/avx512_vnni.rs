//! AVX-512 VNNI: `vpdpbusd` multiplies four unsigned bytes by four signed bytes and adds all products to an
//! i32, in sixteen lanes at once.
//!
//! - Tile: 14 pixels by 32 channels (28 sums, 2 vectors of weights, 1 of input: 31 of 32 registers), or by 16
//!   channels.
//! - Multiples: `k` of 4.
//! - Panel: for each 4 bytes of a tap 64 bytes per vector: 16 channels x 4 weights.
//! - Order: with two vectors, packing to bytes interleaves them in groups of four channels. The order of
//!   slots reverses that, so that a pixel's 32 channels are stored as 32 consecutive bytes.
//! - Overflow: `vpdpbusd` is exact; sums stay within the plan's bound.
//! - Features: avx512f, avx512bw, avx512vl, avx512vnni.
//!
//! For alternatives that were measured and rejected see `docs/kernels.md`.

use crate::{
    kernels::{
        Job, Kernel, Kernels,
        depthwise::DepthwiseRow,
        pooling::MaxRow,
        tiles::{rows, tiles},
    },
    quant::OutputRange,
};
use std::arch::{asm, x86_64::*};

#[rustfmt::skip]
const ORDER_32: [u8; 32] = [
    0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27,
    4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31,
];
const ORDER_16: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

pub(crate) const KERNELS: Kernels = Kernels { blocks: BLOCKS, max_of_row, depthwise_row };

const BLOCKS: &[Kernel] = &[
    Kernel {
        name: "conv_i32_u8s8_14x32x4_avx512vnni",
        nr: 32,
        kr: 4,
        wide: false,
        order: &ORDER_32,
        input_zero: 0,
        min_weight: -128,
        run: run_32,
    },
    Kernel {
        name: "conv_i32_u8s8_14x16x4_avx512vnni",
        nr: 16,
        kr: 4,
        wide: false,
        order: &ORDER_16,
        input_zero: 0,
        min_weight: -128,
        run: run_16,
    },
];

/// # Safety
///
/// See [`Kernel::run`].
unsafe fn run_32(job: &Job) {
    // SAFETY: guaranteed by the caller.
    unsafe { rows(job, &tiles!(tile, 2; 1 2 3 4 5 6 7 8 9 10 11 12 13 14)) }
}

/// # Safety
///
/// See [`Kernel::run`].
unsafe fn run_16(job: &Job) {
    // SAFETY: guaranteed by the caller.
    unsafe { rows(job, &tiles!(tile, 1; 1 2 3 4 5 6 7 8 9 10 11 12 13 14)) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn max_of_row(row: &MaxRow<'_>, output: &mut [u8]) {
    row.run(output);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn depthwise_row(row: &DepthwiseRow<'_>, output: &mut [u8]) {
    row.run(output);
}

/// Computes `M` pixels by `V` vectors of 16 channels.
///
/// # Safety
///
/// See [`Kernel::run`]; `input` and `output` are the tile's first pixel.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn tile<const M: usize, const V: usize>(job: &Job, input: *const u8, output: *mut u8) {
    // SAFETY: `bias` and `factor` have 16 numbers per vector, and the panel has `V` vectors for each 4 bytes
    // of each tap. The caller guarantees that input and output are valid for the tile's pixels. Masks limit
    // stores to `channels`.
    unsafe {
        let start: [__m512i; V] = std::array::from_fn(|v| _mm512_loadu_si512(job.bias.add(16 * v).cast()));
        let mut sums = [start; M];
        let mut weights = job.weights;
        for tap in 0..job.tap_count {
            let mut run = input.add(*job.taps.add(tap));
            let mut left = job.k / 4;
            while left >= 2 {
                multiply::<M, V>(&mut sums, run, job.input_pixel, weights);
                multiply::<M, V>(&mut sums, run.add(4), job.input_pixel, weights.add(64 * V));
                run = run.add(8);
                weights = weights.add(128 * V);
                left -= 2;
            }
            if left == 1 {
                multiply::<M, V>(&mut sums, run, job.input_pixel, weights);
                weights = weights.add(64 * V);
            }
        }
        if job.range == OutputRange::FULL {
            store::<M, V, false>(job, &sums, output);
        } else {
            store::<M, V, true>(job, &sums, output);
        }
    }
}

/// Multiplies four bytes of each pixel by four weights of each channel and adds the products to the sums.
///
/// # Safety
///
/// `run` is valid for 4 bytes at each of `M` pixels, `weights` for `V` vectors.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn multiply<const M: usize, const V: usize>(
    sums: &mut [[__m512i; V]; M],
    run: *const u8,
    pixel: usize,
    weights: *const u8,
) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let weights: [__m512i; V] = std::array::from_fn(|v| _mm512_loadu_si512(weights.add(64 * v).cast()));
        for (m, sums) in sums.iter_mut().enumerate() {
            dot(sums, run.add(m * pixel), &weights);
        }
    }
}

/// Multiplies four bytes at `run` by four weights of each channel and adds the products. In assembly, because
/// 31 of 32 registers are in use: with intrinsics the compiler kept some sums on the stack, in tile widths
/// that changed from build to build, which took twice the time.
///
/// # Safety
///
/// `run` is valid for 4 bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn dot<const V: usize>(sums: &mut [__m512i; V], run: *const u8, weights: &[__m512i; V]) {
    // Named, because a discarded output has no type and thus no width.
    let _bytes: __m512i;
    // SAFETY: reads 4 bytes, which the caller guarantees to be valid, with the caller's features.
    unsafe {
        if V == 2 {
            asm!(
                "vpbroadcastd {bytes:z}, dword ptr [{run}]",
                "vpdpbusd {first:z}, {bytes:z}, {low:z}",
                "vpdpbusd {second:z}, {bytes:z}, {high:z}",
                run = in(reg) run,
                low = in(zmm_reg) weights[0],
                high = in(zmm_reg) weights[V - 1],
                bytes = out(zmm_reg) _bytes,
                first = inout(zmm_reg) sums[0],
                second = inout(zmm_reg) sums[V - 1],
                options(nostack, readonly, preserves_flags),
            );
        } else {
            asm!(
                "vpbroadcastd {bytes:z}, dword ptr [{run}]",
                "vpdpbusd {sum:z}, {bytes:z}, {weights:z}",
                run = in(reg) run,
                weights = in(zmm_reg) weights[0],
                bytes = out(zmm_reg) _bytes,
                sum = inout(zmm_reg) sums[0],
                options(nostack, readonly, preserves_flags),
            );
        }
    }
}

/// Requantizes the sums and stores the bytes.
///
/// # Safety
///
/// `output` is valid for the job's channels at each of `M` pixels, `factor` for `V` vectors.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn store<const M: usize, const V: usize, const CLAMPED: bool>(
    job: &Job,
    sums: &[[__m512i; V]; M],
    output: *mut u8,
) {
    let (low, high) = job.range.bounds();
    let (low, high) = (_mm512_set1_ps(low), _mm512_set1_ps(high));
    let zero_point = _mm512_set1_epi32(i32::from(job.range.zero_point));
    // SAFETY: guaranteed by the caller.
    unsafe {
        // Masked stores are several times slower than whole ones on Zen 4, so only a block that is not full
        // uses them.
        let full = job.channels == 16 * V;
        let factors: [__m512; V] = std::array::from_fn(|v| _mm512_loadu_ps(job.factor.add(16 * v)));
        let values = |m: usize, v: usize| {
            // If `M` is odd, the last pixel is paired with itself.
            let sum = sums[m.min(M - 1)][v];
            let mut scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), factors[v]);
            if CLAMPED {
                scaled = _mm512_min_ps(_mm512_max_ps(scaled, low), high);
                return _mm512_add_epi32(_mm512_cvtps_epi32(scaled), zero_point);
            }
            // Packing saturates to 0 and 255.
            _mm512_cvtps_epi32(scaled)
        };
        if V == 2 {
            let mask = u32::MAX >> (32 - job.channels);
            let halves = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
            for m in (0..M).step_by(2) {
                let first = _mm512_packs_epi32(values(m, 0), values(m, V - 1));
                let second = _mm512_packs_epi32(values(m + 1, 0), values(m + 1, V - 1));
                let bytes = _mm512_permutexvar_epi64(halves, _mm512_packus_epi16(first, second));
                let pixels = [_mm512_castsi512_si256(bytes), _mm512_extracti64x4_epi64::<1>(bytes)];
                for (i, pixel) in pixels.into_iter().enumerate().take(M - m) {
                    let output = output.add((m + i) * job.output_pixel);
                    match full {
                        true => _mm256_storeu_si256(output.cast(), pixel),
                        false => _mm256_mask_storeu_epi8(output.cast(), mask, pixel),
                    }
                }
            }
        } else {
            let mask = u16::MAX >> (16 - job.channels);
            let quarters = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            for m in (0..M).step_by(4) {
                let first = _mm512_packs_epi32(values(m, 0), values(m + 1, 0));
                let second = _mm512_packs_epi32(values(m + 2, 0), values(m + 3, 0));
                let bytes = _mm512_permutexvar_epi32(quarters, _mm512_packus_epi16(first, second));
                let pixels = [
                    _mm512_castsi512_si128(bytes),
                    _mm512_extracti32x4_epi32::<1>(bytes),
                    _mm512_extracti32x4_epi32::<2>(bytes),
                    _mm512_extracti32x4_epi32::<3>(bytes),
                ];
                for (i, pixel) in pixels.into_iter().enumerate().take(M - m) {
                    let output = output.add((m + i) * job.output_pixel);
                    match full {
                        true => _mm_storeu_si128(output.cast(), pixel),
                        false => _mm_mask_storeu_epi8(output.cast(), mask, pixel),
                    }
                }
            }
        }
    }
}
