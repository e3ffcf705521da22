//! Mutates bytes of a valid model: if it still loads, every kernel set must compute the same output.
//!
//! Memory must stay in proportion to the size of the file. The first byte of the input selects one of the
//! engine's test graphs; each three bytes that follow are a 16-bit position and the new byte.

#![no_main]

#[path = "../../engine/tests/counting/mod.rs"]
mod counting;

use engine::{
    Features, KernelSet, Model,
    model::{Options, Tensor},
};

const GRAPHS: &[&[u8]] = &[
    include_bytes!("../../engine/tests/data/operators/squeezenet_v1_1.tflite"),
    include_bytes!("../../engine/tests/data/operators/squeezenet_bypass.tflite"),
    include_bytes!("../../engine/tests/data/operators/squeezenext_block.tflite"),
    include_bytes!("../../engine/tests/data/operators/depthwise.tflite"),
    include_bytes!("../../engine/tests/data/operators/average_pool.tflite"),
    include_bytes!("../../engine/tests/data/operators/dilated.tflite"),
    include_bytes!("../../engine/tests/data/operators/joined.tflite"),
    include_bytes!("../../engine/tests/data/operators/padded_and_reshaped.tflite"),
    include_bytes!("../../engine/tests/data/operators/real_ends.tflite"),
    include_bytes!("../../engine/tests/data/operators/requantized.tflite"),
    include_bytes!("../../engine/tests/data/operators/pooled_whole.tflite"),
    include_bytes!("../../engine/tests/data/operators/bounded_above_a_half.tflite"),
    include_bytes!("../../engine/tests/data/operators/retyped.tflite"),
    include_bytes!("../../engine/tests/data/operators/parts_with_edges.tflite"),
];

/// Bytes allowed in addition to four times the file size, for instructions and tables.
const MAX_OVERHEAD: usize = 3 << 20;
/// Bytes of a session. Models with larger activations are skipped because they only take time.
const MAX_SESSION: usize = 4 << 20;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((&first, changes)) = input.split_first() else { return };
    let mut file = GRAPHS[usize::from(first) % GRAPHS.len()].to_vec();
    for change in changes.as_chunks::<3>().0 {
        let position = usize::from(u16::from_le_bytes([change[0], change[1]])) % file.len();
        file[position] = change[2];
    }
    let features = Features::detect();
    let mut first_output: Option<Vec<u8>> = None;
    for set in KernelSet::ALL.into_iter().filter(|&set| features.have(set)) {
        let options = Options { cap: Some(set), keep: &[] };
        let (model, peak, _) = counting::counted(|| Model::from_bytes(&file, &options));
        assert!(peak <= 4 * file.len() + MAX_OVERHEAD, "{}: {peak} bytes for {}", set.name(), file.len());
        let Ok(model) = model else {
            assert!(first_output.is_none(), "{} rejects what other kernel sets accept", set.name());
            return;
        };
        if model.session_len() > MAX_SESSION {
            return;
        }
        let mut session = model.session();
        let input: Vec<u8> = (0..session.input_len()).map(|i| (i * 37) as u8).collect();
        let mut output = vec![0; model.len_of(Tensor::Output(0)).expect("a loaded model has an output")];
        session.run(&input).expect("the input has the right length");
        session.read(Tensor::Output(0), &mut output).expect("the run completed");
        match &first_output {
            None => first_output = Some(output),
            Some(expected) => assert_eq!(expected, &output, "{}", set.name()),
        }
    }
});
