//! Any bytes as a model: an error or a model, never a panic, an endless loop or more memory than the file gives reason for.

#![no_main]

use engine::{Model, model::Options};

libfuzzer_sys::fuzz_target!(|file: &[u8]| {
    if let Ok(model) = Model::from_bytes(file, &Options::default()) {
        assert!(model.packed_len() <= 4 * file.len() + (256 << 10));
    }
});
