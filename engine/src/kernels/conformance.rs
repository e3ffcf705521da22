//! One runner for all kernels: the same jobs to a kernel and to the law, and every byte must be equal, also those
//! that neither may touch.

use super::{Job, Kernel, KernelSet, SLACK, obtain, scalar};
use crate::{pack, quant::Range};

/// Deterministic bytes; the seed is in every failure's message.
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

/// A convolution small enough to be tried often.
#[derive(Debug, Clone, Copy)]
struct Case {
    rows: usize,
    width: usize,
    channels: usize,
    /// Runs a pixel and their length before rounding up.
    taps: usize,
    k: usize,
    stride: usize,
    range: Range,
    extremes: bool,
    seed: u64,
}

const GUARD: u8 = 0xa5;

/// Output with its guards, by one kernel set's kernels, with weights from `lowest` on.
fn run(kernels: &[Kernel], case: &Case, lowest: i8) -> Vec<u8> {
    let mut random = Random(case.seed);
    // An odd start and odd distances: nothing may count on alignment.
    let channels_in = case.k;
    let pixel = channels_in + random.below(3);
    let row = pixel * (case.stride * case.width + 3) + random.below(5);
    let offset = 1 + random.below(7);
    let input =
        random.bytes(offset + row * (case.rows * case.stride + case.taps) + case.k + SLACK, case.extremes);
    let mut weight = || match case.extremes {
        true => [lowest, 127, lowest, 127, 0, -1][random.below(6)],
        false => (random.next() as i8).max(lowest),
    };
    let weights: Vec<u8> = (0..case.channels * case.taps * case.k).map(|_| weight() as u8).collect();
    let values = pack::Values { bytes: &weights, zero: 0 };
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
            |channel: usize| -> i32 { values.part(channel, case.taps * case.k).iter().map(i32::from).sum() };
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
        // SAFETY: `obtain` gave the kernel; input has a row more than the last tap reaches and SLACK behind, output
        // has room for every pixel's channels, and they are two allocations.
        unsafe { (kernel.run)(&job) };
    }
    output
}

fn compare(set: KernelSet, kernels: &[Kernel], case: &Case) {
    let lowest = kernels.iter().map(|kernel| kernel.lowest_weight).max().unwrap_or(-128);
    let (found, law) = (run(kernels, case, lowest), run(scalar::KERNELS.blocks, case, lowest));
    if let Some(at) = (0..law.len()).find(|&at| found[at] != law[at]) {
        panic!("{}: {case:?}: byte {at} is {} instead of {}", set.name(), found[at], law[at]);
    }
}

/// Ranges as networks have them: ReLU with zero point 0, none, ReLU6 around another zero point.
const RANGES: [Range; 3] =
    [Range::PLAIN, Range { zero: 131, low: 0, high: 255 }, Range { zero: 7, low: 7, high: 200 }];

/// Every set that this CPU has, against the law. What it lacks is named; with `ENGINE_REQUIRE=set,set` that fails.
#[test]
fn every_kernel_set_gives_what_the_law_gives() {
    let required = std::env::var("ENGINE_REQUIRE").unwrap_or_default();
    let native = KernelSet::ALL.into_iter().filter(|set| *set != KernelSet::Scalar);
    for set in native {
        let Some(kernels) = obtain(set) else {
            #[cfg(target_arch = "x86_64")]
            if set == KernelSet::AvxVnni
                && let Some(twin) = super::x86_64::avx_vnni::evex()
            {
                println!(
                    "{}: its twin in AVX-512's encoding, {} cases",
                    set.name(),
                    try_all(set, twin.blocks)
                );
                continue;
            }
            println!("SKIP {}: this CPU lacks it", set.name());
            assert!(!required.split(',').any(|name| name == set.name()), "{} is required", set.name());
            continue;
        };
        println!("{}: {} cases", set.name(), try_all(set, kernels.blocks));
    }
}

/// All cases by `kernels`; how many there were.
fn try_all(set: KernelSet, kernels: &[Kernel]) -> u64 {
    let mut seed = 0;
    let mut try_case = |rows, width, channels, taps, k, stride| {
        for range in RANGES {
            seed += 1;
            let extremes = seed % 4 == 0;
            compare(set, kernels, &Case { rows, width, channels, taps, k, stride, range, extremes, seed });
        }
    };
    // Every width around the tile, every count of channels around the blocks, every k around the groups.
    for width in 1..=30 {
        try_case(2, width, 32, 1, 16, 1);
        try_case(1, width, 16, 3, 12, 2);
    }
    for channels in 1..=67 {
        try_case(1, 5, channels, 1, 8, 1);
        try_case(2, 15, channels, 2, 9, 1);
    }
    for k in 1..=40 {
        try_case(1, 14, 17, 1, k, 1);
        try_case(1, 3, 33, 3, k, 2);
    }
    for (k, taps) in [(512, 1), (144, 3), (9, 3), (64, 9), (1, 1)] {
        try_case(3, 13, 48, taps, k, 1);
    }
    seed
}
