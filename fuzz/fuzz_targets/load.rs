//! Any bytes as a model: an error or a model, never a panic, an endless loop or more memory than the file gives reason for.

#![no_main]

#[path = "../../engine/tests/counting/mod.rs"]
mod counting;

use engine::{Features, KernelSet, Model, model::Options};

/// Beside four times the file, for all the tensors and operators that it may have at most.
const MOST_COUNTED: usize = 3 << 20;

libfuzzer_sys::fuzz_target!(|file: &[u8]| {
    let features = Features::detect();
    for set in KernelSet::ALL.into_iter().filter(|&set| features.have(set)) {
        let options = Options { cap: Some(set), keep: &[] };
        let (result, peak, _) = counting::counted(|| Model::from_bytes(file, &options));
        assert!(peak <= 4 * file.len() + MOST_COUNTED, "{}: {peak} bytes for {}", set.name(), file.len());
        // What one set of kernels loads, all do.
        if result.is_err() {
            assert!(set == KernelSet::Scalar, "{} refuses what the law takes", set.name());
            return;
        }
    }
});
