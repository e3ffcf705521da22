//! Changes some bytes of a valid model: whatever still loads must run, with equal results on every kernel
//! set, and take no more memory than the file's size justifies.
//!
//! The input's first byte chooses one of the engine's test graphs. Each following three bytes are a position
//! and a byte.

#![no_main]

#[path = "../../engine/tests/support/counting_allocator.rs"]
mod counting_allocator;

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
    include_bytes!("../../engine/tests/data/operators/silus.tflite"),
    include_bytes!("../../engine/tests/data/operators/products.tflite"),
    include_bytes!("../../engine/tests/data/operators/resized.tflite"),
    include_bytes!("../../engine/tests/data/operators/slices.tflite"),
    include_bytes!("../../engine/tests/data/operators/transposed.tflite"),
    include_bytes!("../../engine/tests/data/operators/detector.tflite"),
    include_bytes!("../../engine/tests/data/operators/joined_rows.tflite"),
];

/// Allowance beside four times the file for instructions and tables, in bytes.
const MAX_COUNTED_LEN: usize = 3 << 20;
/// Models with larger activations are skipped, because they only take time.
const MAX_SESSION_LEN: usize = 4 << 20;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((&first, changes)) = input.split_first() else { return };
    let mut file = GRAPHS[usize::from(first) % GRAPHS.len()].to_vec();
    for change in changes.as_chunks::<3>().0 {
        let position = usize::from(u16::from_le_bytes([change[0], change[1]])) % file.len();
        file[position] = change[2];
    }
    let features = Features::detect();
    let mut first_output: Option<Vec<u8>> = None;
    for set in KernelSet::ALL.into_iter().filter(|&set| features.supports(set)) {
        let options = Options { cap: Some(set), keep: &[] };
        let (model, peak, _) = counting_allocator::counted(|| Model::from_bytes(&file, &options));
        assert!(peak <= 4 * file.len() + MAX_COUNTED_LEN, "{}: {peak} bytes for {}", set.name(), file.len());
        let Ok(model) = model else {
            assert!(first_output.is_none(), "{} refuses what others accept", set.name());
            return;
        };
        if model.session_len() > MAX_SESSION_LEN {
            return;
        }
        let mut session = model.session();
        let input: Vec<u8> = (0..session.input_len()).map(|i| (i * 37) as u8).collect();
        session.run(&input).expect("the input is as long as it must be");
        let mut output = Vec::new();
        for index in 0..model.outputs().len() {
            let start = output.len();
            output.resize(start + model.len_of(Tensor::Output(index)).expect("the model has this output"), 0);
            session.read(Tensor::Output(index), &mut output[start..]).expect("the run was complete");
        }
        match &first_output {
            None => first_output = Some(output),
            Some(expected) => assert_eq!(expected, &output, "{}", set.name()),
        }
    }
});
