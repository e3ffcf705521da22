//! AVX-VNNI: `vpdpbusd` 256 bits wide, for CPUs without AVX-512 (Alder Lake-N, Lunar Lake).
//!
//! - Tile: 6 pixels by 16 channels (12 sums, 2 vectors of weights, 1 of input: 15 of 16 registers).
//! - Multiples: `k` of 4. Panel: for each 4 bytes of a tap 64 bytes: 16 slots x 4 weights.
//! - Overflow: `vpdpbusd` is exact; sums stay within the plan's bound.
//! - Features: avx2, avxvnni.
//!
//! The same instruction exists in AVX-512's encoding. Tests also build the kernel in that encoding, so that
//! it is executed on CPUs that support only AVX-512.

use super::ymm;
use crate::kernels::{
    Job, Kernel, Kernels,
    tiles::{rows, tiles},
};
use std::arch::x86_64::*;

pub(crate) const KERNELS: Kernels = with_blocks(BLOCKS);

const BLOCKS: &[Kernel] = &[block("conv_i32_u8s8_6x16x4_avxvnni", run)];

/// Rows are computed as for AVX2.
const fn with_blocks(blocks: &'static [Kernel]) -> Kernels {
    Kernels { blocks, max_of_row: super::avx2::max_of_row, depthwise_row: super::avx2::depthwise_row }
}

const fn block(name: &'static str, run: unsafe fn(&Job)) -> Kernel {
    Kernel { name, nr: 16, kr: 4, wide: false, order: &ymm::ORDER, input_zero: 0, min_weight: -128, run }
}

/// Generates the kernel's code for one encoding of the instruction.
macro_rules! kernel {
    ($run:ident, $tile:ident, $dot:ident, $features:literal) => {
        /// # Safety
        ///
        /// See [`Kernel::run`].
        unsafe fn $run(job: &Job) {
            // SAFETY: guaranteed by the caller.
            unsafe { rows(job, &tiles!($tile; 1 2 3 4 5 6)) }
        }

        /// Computes `M` pixels by 16 channels.
        ///
        /// # Safety
        ///
        /// See [`Kernel::run`]; `input` and `output` are the tile's first pixel.
        #[target_feature(enable = $features)]
        unsafe fn $tile<const M: usize>(job: &Job, input: *const u8, output: *mut u8) {
            // SAFETY: the panel has two vectors for each 4 bytes of each tap; the caller guarantees the rest.
            unsafe {
                let mut sums = ymm::start::<M>(job);
                let mut weights = job.weights;
                for tap in 0..job.tap_count {
                    let run = input.add(*job.taps.add(tap));
                    for k in (0..job.k).step_by(4) {
                        let low = _mm256_loadu_si256(weights.cast());
                        let high = _mm256_loadu_si256(weights.add(32).cast());
                        for m in 0..M {
                            let bytes = run.add(m * job.input_pixel + k).cast::<i32>().read_unaligned();
                            let bytes = _mm256_set1_epi32(bytes);
                            sums[m][0] = $dot(sums[m][0], bytes, low);
                            sums[m][1] = $dot(sums[m][1], bytes, high);
                        }
                        weights = weights.add(64);
                    }
                }
                ymm::store(job, &sums, output);
            }
        }
    };
}

kernel!(run, tile, _mm256_dpbusd_avx_epi32, "avx2,avxvnni");

#[cfg(test)]
kernel!(run_evex, tile_evex, _mm256_dpbusd_epi32, "avx2,avx512f,avx512vl,avx512vnni");

/// Returns the kernel in AVX-512's encoding. None if this CPU does not support it.
#[cfg(test)]
pub(crate) fn evex() -> Option<Kernels> {
    const EVEX: &[Kernel] = &[block("conv_i32_u8s8_6x16x4_avx512vnni", run_evex)];
    let is_supported = crate::kernels::Features::detect().avx512_vnni;
    is_supported.then_some(with_blocks(EVEX))
}
