//! The one operation that takes the time: a convolution's sums of products, for one block of output channels.
//!
//! A [`KernelSet`] is a level of what CPUs can do. [`choose`] is a pure function over [`Features`], so that it can be
//! asked about machines that are not here; a [`Kernel`] to be called comes from [`obtain`] only, which proves that this
//! CPU has what it needs. Every kernel computes what [`scalar`] computes, bit for bit; `conformance` holds them to it.
//!
//! **The job.** Input is bytes, pixels by pixels, channels innermost, with the rim that the window needs already there.
//! A window is a list of taps: runs of `k` consecutive bytes at fixed offsets from the pixel's first. Where channels of
//! neighbouring pixels touch, a whole row of the window is one tap. Runs are rounded up to a multiple of `kr`; the
//! weights there are zeros, so whatever bytes are read there count for nothing (buffers end in [`SLACK`]).
//!
//! Outside this folder there is no code for a particular CPU.
//!
//! **The weights.** A panel for each block of `nr` channels: for every tap, for every group of `kr` bytes of it, for
//! every slot of the block, `kr` weights of the channel that `order` has in that slot.

#[cfg(target_arch = "aarch64")]
pub(crate) mod aarch64;
#[cfg(test)]
mod conformance;
pub(crate) mod pooling;
pub(crate) mod scalar;
mod tiles;
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86_64;

use crate::quant::Range;
use pooling::MaxRow;

/// Bytes behind a buffer that a kernel may read, though never use.
pub(crate) const SLACK: usize = 64;

/// A level of instructions, lowest first within each architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KernelSet {
    /// Plain Rust, everywhere: the law that the others are held to.
    Scalar,
    /// x86-64 with AVX2: 16-bit multiply-adds.
    Avx2,
    /// x86-64 with AVX-VNNI: dot products of four bytes, 256 bits wide.
    AvxVnni,
    /// x86-64 with AVX-512 (F, BW, VL) and VNNI: the same, 512 bits wide.
    Avx512Vnni,
    /// aarch64 without more: Cortex-A53, A57, A72.
    Neon,
    /// aarch64 with dotprod: Cortex-A76, A78.
    Dotprod,
    /// aarch64 with i8mm: Cortex-A710, Neoverse N2.
    I8mm,
}

/// What a CPU can do, as far as kernels ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "each is the name of the feature")]
pub struct Features {
    pub avx2: bool,
    pub avx_vnni: bool,
    pub avx512_vnni: bool,
    pub neon: bool,
    pub dotprod: bool,
    pub i8mm: bool,
}

/// One kernel: its block's shape and the code.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// `conv_<accumulator>_<input><weight>_<MR>x<NR>x<KR>_<feature>`.
    #[cfg_attr(not(test), expect(dead_code, reason = "for whoever reads a debugger's or a test's output"))]
    pub(crate) name: &'static str,
    /// Channels of a block.
    pub(crate) nr: usize,
    /// Bytes of a tap that are taken together.
    pub(crate) kr: usize,
    /// Weights lie as i16, for CPUs without products of bytes.
    pub(crate) wide: bool,
    /// The channel in each of a block's `nr` slots.
    pub(crate) order: &'static [u8],
    /// What the kernel takes from every input byte before it multiplies: 128 where it works with signed bytes.
    pub(crate) input_zero: i32,
    /// The lowest weight that cannot overflow an inner sum.
    pub(crate) lowest_weight: i8,
    /// The code.
    ///
    /// # Safety
    ///
    /// The CPU has the kernel's features, and every address that the job describes lies in memory that may be read, or
    /// written for the output; the two do not overlap.
    pub(crate) run: unsafe fn(&Job),
}

/// The code of one set.
#[derive(Debug)]
pub(crate) struct Kernels {
    /// For convolutions, widest block first.
    pub(crate) blocks: &'static [Kernel],
    /// One row of a max pool: [`MaxRow::run`], compiled for the set's features.
    ///
    /// # Safety
    ///
    /// The CPU has the set's features.
    pub(crate) max_of_row: unsafe fn(&MaxRow<'_>, &mut [u8]),
}

/// One block of output channels over a rectangle of output pixels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job {
    /// The first output pixel's first tap is at `input + taps[0]`.
    pub(crate) input: *const u8,
    /// From one output row's input to the next one's.
    pub(crate) input_row: usize,
    /// From one output pixel's input to the next one's.
    pub(crate) input_pixel: usize,
    /// Offsets of the runs.
    pub(crate) taps: *const usize,
    /// How many.
    pub(crate) tap_count: usize,
    /// Bytes of each, a multiple of `kr`.
    pub(crate) k: usize,
    /// The block's panel.
    pub(crate) weights: *const u8,
    /// `nr` start values of the sums, in slot order.
    pub(crate) bias: *const i32,
    /// `nr` factors of the rounding law, in slot order.
    pub(crate) factor: *const f32,
    /// The first output pixel's first channel of the block.
    pub(crate) output: *mut u8,
    /// From one output row to the next.
    pub(crate) output_row: usize,
    /// From one output pixel to the next.
    pub(crate) output_pixel: usize,
    /// Output rows.
    pub(crate) rows: usize,
    /// Output pixels of a row.
    pub(crate) width: usize,
    /// Channels to be stored, at most `nr`.
    pub(crate) channels: usize,
    /// The output's steps.
    pub(crate) range: Range,
}

impl KernelSet {
    /// All of them.
    pub const ALL: [KernelSet; 7] = [
        KernelSet::Scalar,
        KernelSet::Avx2,
        KernelSet::AvxVnni,
        KernelSet::Avx512Vnni,
        KernelSet::Neon,
        KernelSet::Dotprod,
        KernelSet::I8mm,
    ];

    /// As users name it.
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

    /// The set of that name.
    pub fn of_name(name: &str) -> Option<KernelSet> {
        KernelSet::ALL.into_iter().find(|set| set.name() == name)
    }
}

impl Features {
    /// Of the CPU that this runs on.
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
        // So that the branch above is no unused assignment elsewhere.
        let _ = &mut features;
        features
    }

    /// Whether a CPU with these features can run `set`.
    pub fn have(&self, set: KernelSet) -> bool {
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

/// The best set for a CPU with `features`, none above `cap`: a cap can only lower.
pub fn choose(features: &Features, cap: Option<KernelSet>) -> KernelSet {
    let allowed = |set: &KernelSet| features.have(*set) && cap.is_none_or(|cap| *set <= cap);
    KernelSet::ALL.into_iter().filter(allowed).max().unwrap_or(KernelSet::Scalar)
}

/// The kernels of `set`; `None` where this CPU cannot run them.
pub(crate) fn obtain(set: KernelSet) -> Option<&'static Kernels> {
    if !Features::detect().have(set) {
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
        #[allow(unreachable_patterns, reason = "the sets of the other architectures")]
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_set_is_chosen_and_a_cap_only_lowers() {
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
    fn sets_are_found_by_their_names() {
        for set in KernelSet::ALL {
            assert_eq!(KernelSet::of_name(set.name()), Some(set));
        }
        assert_eq!(KernelSet::of_name("sse"), None);
    }

    #[test]
    fn a_kernel_s_name_tells_its_shape() {
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
