//! AVX2: its products of bytes saturate (`vpmaddubsw` adds two in 16 bits), so bytes are widened to 16-bit
//! words, and `vpmaddwd` multiplies two of them by two weights and adds both products to an i32, in eight
//! lanes at once.
//!
//! - Tile: 6 pixels by 16 channels (12 sums, 2 vectors of weights, 1 of input, 1 product: all 16 registers).
//! - Multiples: `k` of 2. Panel: for each 2 bytes of a tap 64 bytes: 16 slots x 2 weights of 16 bits.
//! - Input is widened once per tile, up to [`WIDENED`] bytes of a tap at a time, into a buffer on the stack.
//! - Overflow: a product is below 2^15, two of them below 2^16; sums stay within the plan's bound.
//! - Features: avx2.

use super::ymm;
use crate::kernels::{
    Job, Kernel, Kernels,
    depthwise::DepthwiseRow,
    pooling::MaxRow,
    tiles::{rows, tiles},
};
use std::{
    arch::{asm, x86_64::*},
    mem::MaybeUninit,
};

/// Bytes of each pixel that are widened at a time; a multiple of 16.
const WIDENED: usize = 128;
/// Bytes of a panel for two bytes of a tap.
const PAIR_LEN: usize = 64;

pub(crate) const KERNELS: Kernels = Kernels { blocks: BLOCKS, max_of_row, depthwise_row };

const BLOCKS: &[Kernel] = &[Kernel {
    name: "conv_i32_u8s8_6x16x2_avx2",
    nr: 16,
    kr: 2,
    wide: true,
    order: &ymm::ORDER,
    input_zero: 0,
    min_weight: -128,
    run,
}];

/// # Safety
///
/// See [`Kernel::run`].
unsafe fn run(job: &Job) {
    // SAFETY: guaranteed by the caller.
    unsafe { rows(job, &tiles!(tile; 1 2 3 4 5 6)) }
}

/// Computes `M` pixels by 16 channels.
///
/// # Safety
///
/// See [`Kernel::run`]; `input` and `output` are the tile's first pixel.
#[target_feature(enable = "avx2")]
unsafe fn tile<const M: usize>(job: &Job, input: *const u8, output: *mut u8) {
    // Each run overwrites what it reads. Clearing the buffer first would cost as much as a short run.
    let mut words = [[MaybeUninit::<i16>::uninit(); WIDENED]; M];
    // SAFETY: the panel has two vectors for each 2 bytes of each tap. Widening reads 16 bytes at a time, at
    // most 15 more than the tap has, which the slack after every buffer allows. The caller guarantees the
    // rest.
    unsafe {
        let mut sums = ymm::start::<M>(job);
        let mut weights = job.weights;
        for tap in 0..job.tap_count {
            let run = input.add(*job.taps.add(tap));
            for first in (0..job.k).step_by(WIDENED) {
                let len = WIDENED.min(job.k - first);
                for k in (0..len).step_by(16) {
                    for (m, words) in words.iter_mut().enumerate() {
                        let bytes = _mm_loadu_si128(run.add(m * job.input_pixel + first + k).cast());
                        _mm256_storeu_si256(words.as_mut_ptr().add(k).cast(), _mm256_cvtepu8_epi16(bytes));
                    }
                }
                let (mut words, mut left) = (words.as_ptr().cast::<i16>(), len / 2);
                while left >= 2 {
                    pair::<M, 0>(&mut sums, words, weights);
                    pair::<M, 1>(&mut sums, words, weights);
                    words = words.add(4);
                    weights = weights.add(2 * PAIR_LEN);
                    left -= 2;
                }
                if left == 1 {
                    pair::<M, 0>(&mut sums, words, weights);
                    weights = weights.add(PAIR_LEN);
                }
            }
        }
        ymm::store(job, &sums, output);
    }
}

/// Multiplies pair `P` of words of every pixel by two weights of each channel and adds the products to the
/// sums.
///
/// # Safety
///
/// `words` points to the first pixel of `M` times [`WIDENED`] words and is valid for pair `P` of each;
/// `weights` is valid for pair `P`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn pair<const M: usize, const P: usize>(
    sums: &mut ymm::Sums<M>,
    words: *const i16,
    weights: *const u8,
) {
    let (low, high): (__m256i, __m256i);
    // SAFETY: reads the pair's two vectors of weights and two words of each pixel, which the caller
    // guarantees to be valid; the caller's features include AVX2.
    unsafe {
        // In assembly too, so that the next pair's weights are not loaded before registers are free for them.
        asm!(
            "vmovdqu {low:y}, ymmword ptr [{weights} + {at}]",
            "vmovdqu {high:y}, ymmword ptr [{weights} + {at} + 32]",
            weights = in(reg) weights,
            at = const P * PAIR_LEN,
            low = out(ymm_reg) low,
            high = out(ymm_reg) high,
            options(nostack, readonly, preserves_flags),
        );
        macro_rules! pixels {
            ($($m:literal)*) => {
                $(if $m < M {
                    multiply::<{ 2 * WIDENED * $m }, P>(&mut sums[$m % M], words, low, high);
                })*
            };
        }
        pixels!(0 1 2 3 4 5);
    }
}

/// Multiplies the two words `PIXEL` bytes and `P` pairs after `words` by two weights of each channel and adds
/// the products. In assembly, because all 16 registers are in use: with intrinsics the compiler kept some
/// sums on the stack, in tile widths that changed from build to build. The distance is a constant in the
/// instruction, because a separate address for each pixel costs a sixth of the speed.
///
/// # Safety
///
/// The two words are valid for reads.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn multiply<const PIXEL: usize, const P: usize>(
    sums: &mut [__m256i; 2],
    words: *const i16,
    low: __m256i,
    high: __m256i,
) {
    // Named, because a discarded output has no type and thus no width.
    let (_pair, _product): (__m256i, __m256i);
    // SAFETY: reads two words, which the caller guarantees to be valid; the caller's features include AVX2.
    unsafe {
        asm!(
            "vpbroadcastd {pair:y}, dword ptr [{words} + {at}]",
            "vpmaddwd {product:y}, {pair:y}, {low:y}",
            "vpaddd {first:y}, {first:y}, {product:y}",
            "vpmaddwd {pair:y}, {pair:y}, {high:y}",
            "vpaddd {second:y}, {second:y}, {pair:y}",
            words = in(reg) words,
            at = const PIXEL + 4 * P,
            low = in(ymm_reg) low,
            high = in(ymm_reg) high,
            pair = out(ymm_reg) _pair,
            product = out(ymm_reg) _product,
            first = inout(ymm_reg) sums[0],
            second = inout(ymm_reg) sums[1],
            options(nostack, readonly, preserves_flags),
        );
    }
}

#[target_feature(enable = "avx2")]
pub(super) fn max_of_row(row: &MaxRow<'_>, output: &mut [u8]) {
    row.run(output);
}

#[target_feature(enable = "avx2")]
pub(super) fn depthwise_row(row: &DepthwiseRow<'_>, output: &mut [u8]) {
    row.run(output);
}
