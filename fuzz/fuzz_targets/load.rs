//! Loads arbitrary bytes as a model: the result is an error or a model, never a panic, an endless loop or
//! more memory than the file's size justifies.

#![no_main]

#[path = "../../engine/tests/support/counting_allocator.rs"]
mod counting_allocator;

use engine::{Features, KernelSet, Model, model::Options};

/// Allowance beside four times the file for the maximum number of tensors and operators, in bytes.
const MAX_COUNTED_LEN: usize = 3 << 20;

libfuzzer_sys::fuzz_target!(|file: &[u8]| {
    let features = Features::detect();
    for set in KernelSet::ALL.into_iter().filter(|&set| features.supports(set)) {
        let options = Options { cap: Some(set), keep: &[] };
        let (result, peak, _) = counting_allocator::counted(|| Model::from_bytes(file, &options));
        assert!(peak <= 4 * file.len() + MAX_COUNTED_LEN, "{}: {peak} bytes for {}", set.name(), file.len());
        // Every kernel set must load the same models.
        if result.is_err() {
            assert!(set == KernelSet::Scalar, "{} refuses what the reference accepts", set.name());
            return;
        }
    }
});
