//! The kernels: sums of products of a convolution for one block of output channels, which take most of a
//! run's time.
//!
//! A [`KernelSet`] is a level of CPU features. [`choose`] is a pure function of [`Features`], so that it can
//! be tested for other CPUs. A callable [`Kernel`] only comes from [`obtain`], which checks that this CPU
//! supports it. Every kernel computes what [`scalar`] computes, bit for bit; the tests in `conformance.rs`
//! compare them.
//!
//! **Job.** The input is bytes, pixel by pixel, channels innermost, with the padding that the window reads in
//! place. A window is a list of taps: runs of `k` consecutive bytes at fixed offsets from the pixel's first
//! byte. If neighbouring pixels are contiguous, a whole row of the window is one tap. Runs are rounded up to
//! a multiple of `kr`. The extra weights are zeros, so the extra bytes do not count; buffers end in
//! [`SLACK`], so they can be read.
//!
//! **Weights.** One panel per block of `nr` channels: for every tap, for every group of `kr` bytes of it, for
//! every slot of the block, `kr` weights of the channel that `order` assigns to that slot.
//!
//! Code for particular CPUs exists only in this directory.

#[cfg(target_arch = "aarch64")]
pub(crate) mod aarch64;
#[cfg(test)]
mod conformance;
pub(crate) mod depthwise;
pub(crate) mod pooling;
pub(crate) mod scalar;
mod tiles;
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86_64;

use crate::quant::OutputRange;
use depthwise::DepthwiseRow;
use pooling::MaxRow;

/// Bytes after a buffer that a kernel may read but does not use.
pub(crate) const SLACK: usize = 64;

/// A set of kernels for one level of CPU features, sorted from lowest to highest within each architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KernelSet {
    /// Plain Rust on any CPU: the reference for all other sets.
    Scalar,
    /// x86-64 with AVX2: 16-bit multiply-adds.
    Avx2,
    /// x86-64 with AVX-VNNI: dot products of four bytes, 256 bits wide.
    AvxVnni,
    /// x86-64 with AVX-512 (F, BW, VL) and VNNI: the same, 512 bits wide.
    Avx512Vnni,
    /// aarch64 without extensions: Cortex-A53, A57, A72.
    Neon,
    /// aarch64 with dotprod: Cortex-A76, A78.
    Dotprod,
    /// aarch64 with i8mm: Cortex-A710, Neoverse N2.
    I8mm,
}

/// The CPU features that kernels need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "each field is named after its feature")]
pub struct Features {
    pub avx2: bool,
    pub avx_vnni: bool,
    pub avx512_vnni: bool,
    pub neon: bool,
    pub dotprod: bool,
    pub i8mm: bool,
}

/// One kernel: the shape of its block and its code.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// `conv_<accumulator>_<input><weight>_<MR>x<NR>x<KR>_<feature>`.
    #[cfg_attr(not(test), expect(dead_code, reason = "shown in debuggers and test output"))]
    pub(crate) name: &'static str,
    /// Channels of a block.
    pub(crate) nr: usize,
    /// Bytes of a tap that are multiplied together.
    pub(crate) kr: usize,
    /// Whether weights are stored as i16, for CPUs without exact products of bytes.
    pub(crate) wide: bool,
    /// The channel in each of a block's `nr` slots.
    pub(crate) order: &'static [u8],
    /// What the kernel subtracts from every input byte before multiplying: 128 if it works with signed bytes,
    /// else 0.
    pub(crate) input_zero: i32,
    /// The lowest weight for which no intermediate sum can overflow.
    pub(crate) min_weight: i8,
    /// The code.
    ///
    /// # Safety
    ///
    /// The CPU has the kernel's features. Every address that the job describes is valid for reads, and for
    /// writes in the output. Input and output do not overlap.
    pub(crate) run: unsafe fn(&Job),
}

/// The kernels of one set.
#[derive(Debug)]
pub(crate) struct Kernels {
    /// For convolutions, widest block first.
    pub(crate) blocks: &'static [Kernel],
    /// Computes one row of a max pool: [`MaxRow::run`], compiled for the set's features.
    ///
    /// # Safety
    ///
    /// The CPU has the set's features.
    pub(crate) max_of_row: unsafe fn(&MaxRow<'_>, &mut [u8]),
    /// Computes one row of a depthwise convolution: [`DepthwiseRow::run`], compiled for the set's features.
    ///
    /// # Safety
    ///
    /// The CPU has the set's features.
    pub(crate) depthwise_row: unsafe fn(&DepthwiseRow<'_>, &mut [u8]),
}

/// One block of output channels over a rectangle of output pixels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job {
    /// The first output pixel's first tap is at `input + taps[0]`.
    pub(crate) input: *const u8,
    /// Distance between the inputs of two output rows, in bytes.
    pub(crate) input_row: usize,
    /// Distance between the inputs of two output pixels, in bytes.
    pub(crate) input_pixel: usize,
    /// Offsets of the taps.
    pub(crate) taps: *const usize,
    /// Number of taps.
    pub(crate) tap_count: usize,
    /// Bytes of each tap, a multiple of `kr`.
    pub(crate) k: usize,
    /// The block's panel.
    pub(crate) weights: *const u8,
    /// `nr` start values of the sums, in slot order.
    pub(crate) bias: *const i32,
    /// `nr` factors of the requantization rule, in slot order.
    pub(crate) factor: *const f32,
    /// The first output pixel's first channel of the block.
    pub(crate) output: *mut u8,
    /// Distance between output rows, in bytes.
    pub(crate) output_row: usize,
    /// Distance between output pixels, in bytes.
    pub(crate) output_pixel: usize,
    /// Output rows.
    pub(crate) rows: usize,
    /// Output pixels of a row.
    pub(crate) width: usize,
    /// Number of channels to store, at most `nr`.
    pub(crate) channels: usize,
    /// Zero point and clamp of the output.
    pub(crate) range: OutputRange,
}

impl KernelSet {
    /// All sets.
    pub const ALL: [KernelSet; 7] = [
        KernelSet::Scalar,
        KernelSet::Avx2,
        KernelSet::AvxVnni,
        KernelSet::Avx512Vnni,
        KernelSet::Neon,
        KernelSet::Dotprod,
        KernelSet::I8mm,
    ];

    /// Returns the name used in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            KernelSet::Scalar => "scalar",
            KernelSet::Avx2 => "avx2",
            KernelSet::AvxVnni => "avx-vnni",
            KernelSet::Avx512Vnni => "avx512-vnni",
            KernelSet::Neon => "neon",
            KernelSet::Dotprod => "dotprod",
            KernelSet::I8mm => "i8mm",
        }
    }

    /// Returns the set with that name.
    pub fn of_name(name: &str) -> Option<KernelSet> {
        KernelSet::ALL.into_iter().find(|set| set.name() == name)
    }
}

impl Features {
    /// Detects the features of this CPU.
    pub fn detect() -> Features {
        let mut features = Features::default();
        #[cfg(target_arch = "x86_64")]
        {
            features.avx2 = is_x86_feature_detected!("avx2");
            features.avx_vnni = features.avx2 && is_x86_feature_detected!("avxvnni");
            features.avx512_vnni = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni");
        }
        #[cfg(target_arch = "aarch64")]
        {
            features.neon = std::arch::is_aarch64_feature_detected!("neon");
            features.dotprod = features.neon && std::arch::is_aarch64_feature_detected!("dotprod");
            features.i8mm = features.dotprod && std::arch::is_aarch64_feature_detected!("i8mm");
        }
        // Avoids an unused-mut warning on other architectures.
        let _ = &mut features;
        features
    }

    /// Returns whether a CPU with these features can run `set`.
    pub fn supports(&self, set: KernelSet) -> bool {
        match set {
            KernelSet::Scalar => true,
            KernelSet::Avx2 => self.avx2,
            KernelSet::AvxVnni => self.avx_vnni,
            KernelSet::Avx512Vnni => self.avx512_vnni,
            KernelSet::Neon => self.neon,
            KernelSet::Dotprod => self.dotprod,
            KernelSet::I8mm => self.i8mm,
        }
    }
}

/// Returns the best set for a CPU with `features`, but none above `cap`.
pub fn choose(features: &Features, cap: Option<KernelSet>) -> KernelSet {
    let allowed = |set: &KernelSet| features.supports(*set) && cap.is_none_or(|cap| *set <= cap);
    KernelSet::ALL.into_iter().filter(allowed).max().unwrap_or(KernelSet::Scalar)
}

/// Returns the kernels of `set`. None if this CPU cannot run them.
pub(crate) fn obtain(set: KernelSet) -> Option<&'static Kernels> {
    if !Features::detect().supports(set) {
        return None;
    }
    match set {
        KernelSet::Scalar => Some(&scalar::KERNELS),
        #[cfg(target_arch = "x86_64")]
        KernelSet::Avx2 => Some(&x86_64::avx2::KERNELS),
        #[cfg(target_arch = "x86_64")]
        KernelSet::AvxVnni => Some(&x86_64::avx_vnni::KERNELS),
        #[cfg(target_arch = "x86_64")]
        KernelSet::Avx512Vnni => Some(&x86_64::avx512_vnni::KERNELS),
        #[cfg(target_arch = "aarch64")]
        KernelSet::Neon => Some(&aarch64::neon::KERNELS),
        #[cfg(target_arch = "aarch64")]
        KernelSet::Dotprod => Some(&aarch64::dotprod::KERNELS),
        #[cfg(target_arch = "aarch64")]
        KernelSet::I8mm => Some(&aarch64::i8mm::KERNELS),
        #[allow(unreachable_patterns, reason = "covers the sets of other architectures")]
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_supported_set_below_the_cap_is_chosen() {
        let zen4 = Features { avx2: true, avx512_vnni: true, ..Features::default() };
        let alder_lake = Features { avx2: true, avx_vnni: true, ..Features::default() };
        let pi4 = Features { neon: true, ..Features::default() };
        let pi5 = Features { neon: true, dotprod: true, ..Features::default() };
        for (machine, cap, chosen) in [
            (zen4, None, KernelSet::Avx512Vnni),
            (zen4, Some(KernelSet::AvxVnni), KernelSet::Avx2),
            (zen4, Some(KernelSet::Scalar), KernelSet::Scalar),
            (alder_lake, None, KernelSet::AvxVnni),
            (alder_lake, Some(KernelSet::Avx512Vnni), KernelSet::AvxVnni),
            (pi4, None, KernelSet::Neon),
            (pi4, Some(KernelSet::Dotprod), KernelSet::Neon),
            (pi5, None, KernelSet::Dotprod),
            (pi5, Some(KernelSet::Neon), KernelSet::Neon),
            (Features { i8mm: true, ..pi5 }, None, KernelSet::I8mm),
            (Features { i8mm: true, ..pi5 }, Some(KernelSet::Dotprod), KernelSet::Dotprod),
            (Features::default(), Some(KernelSet::Dotprod), KernelSet::Scalar),
        ] {
            assert_eq!(choose(&machine, cap), chosen, "{machine:?} {cap:?}");
        }
    }

    #[test]
    fn sets_are_found_by_name() {
        for set in KernelSet::ALL {
            assert_eq!(KernelSet::of_name(set.name()), Some(set));
        }
        assert_eq!(KernelSet::of_name("sse"), None);
    }

    #[test]
    fn kernel_names_contain_the_block_shape() {
        for set in KernelSet::ALL {
            for kernel in obtain(set).map_or(&[][..], |kernels| kernels.blocks) {
                let parts: Vec<&str> = kernel.name.split('_').collect();
                let shape: Vec<usize> = parts[3].split('x').map(|n| n.parse().unwrap()).collect();
                assert_eq!(shape[1..], [kernel.nr, kernel.kr], "{}", kernel.name);
                let mut order = kernel.order.to_vec();
                order.sort();
                assert!(order.iter().map(|&slot| usize::from(slot)).eq(0..kernel.nr), "{}", kernel.name);
            }
        }
    }
}
