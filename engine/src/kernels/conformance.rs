//! Compares every kernel with the scalar reference kernel on the same jobs. Every byte must be equal,
//! including the guard bytes, which no kernel may write.

use super::{Job, Kernel, KernelSet, SLACK, obtain, scalar};
use crate::{pack, quant::OutputRange};

/// A deterministic generator. Every failure message contains its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn below(&mut self, bound: usize) -> usize {
        self.next() as usize % bound
    }

    fn bytes(&mut self, len: usize, extremes: bool) -> Vec<u8> {
        let mut byte = || match extremes {
            true => [0, 255, 1, 128][self.below(4)],
            false => self.next() as u8,
        };
        (0..len).map(|_| byte()).collect()
    }
}

/// A small convolution.
#[derive(Debug, Clone, Copy)]
struct Case {
    rows: usize,
    width: usize,
    channels: usize,
    /// Runs per pixel, and their length before rounding up.
    taps: usize,
    k: usize,
    stride: usize,
    range: OutputRange,
    extremes: bool,
    seed: u64,
}

const GUARD: u8 = 0xa5;

/// Returns the output of one set's kernels, including guard bytes. Weights are at least `min_weight`.
fn run(kernels: &[Kernel], case: &Case, min_weight: i8) -> Vec<u8> {
    let mut random = Random(case.seed);
    // Unaligned starts and distances, because kernels must not rely on alignment.
    let channels_in = case.k;
    let pixel = channels_in + random.below(3);
    let row = pixel * (case.stride * case.width + 3) + random.below(5);
    let offset = 1 + random.below(7);
    let input =
        random.bytes(offset + row * (case.rows * case.stride + case.taps) + case.k + SLACK, case.extremes);
    let mut weight = || match case.extremes {
        true => [min_weight, 127, min_weight, 127, 0, -1][random.below(6)],
        false => (random.next() as i8).max(min_weight),
    };
    let weights: Vec<u8> = (0..case.channels * case.taps * case.k).map(|_| weight() as u8).collect();
    let values = pack::WeightValues { bytes: &weights, zero_point: 0 };
    let bias: Vec<i32> = (0..case.channels).map(|_| random.next() as i32 % 20_000 - 10_000).collect();
    let factor: Vec<f32> = (0..case.channels)
        .map(|_| (random.below(1000) + 1) as f32 / 1000.0 / (case.taps * case.k) as f32 / 20.0)
        .collect();
    let taps: Vec<usize> = (0..case.taps).map(|tap| tap * row).collect();

    let output_pixel = case.channels + random.below(9);
    let output_row = output_pixel * case.width + random.below(9);
    let start = 3 + random.below(64);
    let mut output = vec![GUARD; start + output_row * case.rows + 64];
    let convolution = pack::Weights { values, channels: case.channels, taps: case.taps, k: case.k };
    for block in pack::blocks(kernels, case.channels) {
        let kernel = &kernels[block.kernel];
        let mut panel = Vec::new();
        pack::push_panel(&mut panel, kernel, &convolution, block.first);
        let slots = |at: usize| block.first + usize::from(kernel.order[at]);
        let sums =
            |channel: usize| -> i32 { values.chunk(channel, case.taps * case.k).iter().map(i32::from).sum() };
        let block_bias: Vec<i32> = (0..kernel.nr)
            .map(slots)
            .map(|c| bias.get(c).map_or(0, |b| b + kernel.input_zero * sums(c)))
            .collect();
        let block_factor: Vec<f32> =
            (0..kernel.nr).map(slots).map(|c| factor.get(c).copied().unwrap_or(0.0)).collect();
        let job = Job {
            input: input[offset..].as_ptr(),
            input_row: row * case.stride,
            input_pixel: pixel * case.stride,
            taps: taps.as_ptr(),
            tap_count: taps.len(),
            k: case.k.next_multiple_of(kernel.kr),
            weights: panel.as_ptr(),
            bias: block_bias.as_ptr(),
            factor: block_factor.as_ptr(),
            output: output[start + block.first..].as_mut_ptr(),
            output_row,
            output_pixel,
            rows: case.rows,
            width: case.width,
            channels: kernel.nr.min(case.channels - block.first),
            range: case.range,
        };
        // SAFETY: `obtain` returned the kernel. The input has one row more than the last tap reads and ends
        // in SLACK, the output has space for every pixel's channels, and they are two allocations.
        unsafe { (kernel.run)(&job) };
    }
    output
}

fn compare(set: KernelSet, kernels: &[Kernel], case: &Case) {
    let min_weight = kernels.iter().map(|kernel| kernel.min_weight).max().unwrap_or(-128);
    let found = run(kernels, case, min_weight);
    let reference = run(scalar::KERNELS.blocks, case, min_weight);
    if let Some(at) = (0..reference.len()).find(|&at| found[at] != reference[at]) {
        panic!("{}: {case:?}: byte {at} is {} instead of {}", set.name(), found[at], reference[at]);
    }
}

/// Typical ranges: ReLU with zero point 0, no activation, ReLU6 with another zero point.
const RANGES: [OutputRange; 3] = [
    OutputRange::FULL,
    OutputRange { zero_point: 131, low: 0, high: 255 },
    OutputRange { zero_point: 7, low: 7, high: 200 },
];

/// Runs every set that this CPU supports. Unsupported sets are skipped with a message, or fail the test if
/// they are listed in the variable ENGINE_REQUIRE, separated by commas.
#[test]
fn every_kernel_set_equals_the_scalar_reference() {
    let required = std::env::var("ENGINE_REQUIRE").unwrap_or_default();
    let native = KernelSet::ALL.into_iter().filter(|set| *set != KernelSet::Scalar);
    for set in native {
        let Some(kernels) = obtain(set) else {
            #[cfg(target_arch = "x86_64")]
            if set == KernelSet::AvxVnni
                && let Some(evex) = super::x86_64::avx_vnni::evex()
            {
                println!("{}: in AVX-512's encoding, {} cases", set.name(), run_all(set, evex.blocks));
                continue;
            }
            println!("SKIP {}: this CPU does not support it", set.name());
            assert!(!required.split(',').any(|name| name == set.name()), "{} is required", set.name());
            continue;
        };
        println!("{}: {} cases", set.name(), run_all(set, kernels.blocks));
    }
}

/// Runs all cases on `kernels` and returns their number.
fn run_all(set: KernelSet, kernels: &[Kernel]) -> u64 {
    let mut seed = 0;
    let mut run_case = |rows, width, channels, taps, k, stride| {
        for range in RANGES {
            seed += 1;
            let extremes = seed % 4 == 0;
            compare(set, kernels, &Case { rows, width, channels, taps, k, stride, range, extremes, seed });
        }
    };
    // Every width around the tile's, every number of channels around the blocks', every k around the groups'.
    for width in 1..=30 {
        run_case(2, width, 32, 1, 16, 1);
        run_case(1, width, 16, 3, 12, 2);
    }
    for channels in 1..=67 {
        run_case(1, 5, channels, 1, 8, 1);
        run_case(2, 15, channels, 2, 9, 1);
    }
    for k in 1..=40 {
        run_case(1, 14, 17, 1, k, 1);
        run_case(1, 3, 33, 3, k, 2);
    }
    for (k, taps) in [(512, 1), (144, 3), (9, 3), (64, 9), (1, 1)] {
        run_case(3, 13, 48, taps, k, 1);
    }
    seed
}
