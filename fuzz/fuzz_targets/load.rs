//! Loads arbitrary bytes as a model: the result is an error or a model, never a panic or an endless loop.
//!
//! Memory must stay in proportion to the size of the file.

#![no_main]

#[path = "../../engine/tests/counting/mod.rs"]
mod counting;

use engine::{Features, KernelSet, Model, model::Options};

/// Bytes allowed in addition to four times the file size: the maximum for tensors and operators.
const MAX_OVERHEAD: usize = 3 << 20;

libfuzzer_sys::fuzz_target!(|file: &[u8]| {
    let features = Features::detect();
    for set in KernelSet::ALL.into_iter().filter(|&set| features.have(set)) {
        let options = Options { cap: Some(set), keep: &[] };
        let (result, peak, _) = counting::counted(|| Model::from_bytes(file, &options));
        assert!(peak <= 4 * file.len() + MAX_OVERHEAD, "{}: {peak} bytes for {}", set.name(), file.len());
        // A model loads with every kernel set or with none.
        if result.is_err() {
            assert!(set == KernelSet::Scalar, "{} rejects what the scalar kernels accept", set.name());
            return;
        }
    }
});
