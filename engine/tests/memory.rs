//! Counts the engine's allocations: a run allocates nothing, and loading takes no more memory than the file's
//! size justifies, whatever its tables share.

use crate::support::{
    counting_allocator::counted,
    tflite_writer::{
        CONCATENATION, CONVOLUTION, DEPTHWISE, INT8, Id, LOGISTIC, MULTIPLY, RESHAPE, SOFTMAX, Writer,
    },
};
use engine::{Features, KernelSet, Model, model::Options};
use std::path::Path;

/// Allowance for instructions and names, in bytes, independent of the file's size.
const BASE_LEN: usize = 512 << 10;

#[test]
fn runs_allocate_nothing_and_loading_is_bounded_by_the_file_size() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shipped = std::fs::read(root.join("../models/squeezenet_v1.1_int8.tflite")).unwrap();
    let features = Features::detect();
    for set in KernelSet::ALL.into_iter().filter(|&set| features.supports(set)) {
        let options = Options { cap: Some(set), keep: &[] };
        let (model, peak, _) = counted(|| Model::from_bytes(&shipped, &options).unwrap());
        assert!(peak <= 4 * shipped.len() + BASE_LEN, "{}: {peak} bytes to load", set.name());
        let (mut session, peak, _) = counted(|| model.session());
        assert!(peak < 4 << 20, "{}: {peak} bytes for a session", set.name());
        let image = vec![128; session.input_len()];
        let (result, _, calls) = counted(|| session.run(&image));
        result.unwrap();
        assert_eq!(calls, 0, "{}", set.name());
    }
    let mut random = 1u64;
    let mut next = || {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) as usize
    };
    for entry in std::fs::read_dir(root.join("tests/data/operators")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "tflite") {
            continue;
        }
        let whole = std::fs::read(&path).unwrap();
        let model = Model::from_bytes(&whole, &Options::default()).unwrap();
        let mut session = model.session();
        let input = vec![0; session.input_len()];
        let (result, _, calls) = counted(|| session.run(&input));
        result.unwrap();
        assert_eq!(calls, 0, "{}", path.display());
        for _ in 0..200 {
            let mut broken = whole.clone();
            for _ in 0..1 + next() % 4 {
                let position = next() % broken.len();
                broken[position] = [0, 1, 0x7f, 0x80, 0xff][next() % 5];
            }
            let (_, peak, _) = counted(|| Model::from_bytes(&broken, &Options::default()).map(drop));
            assert!(peak <= 4 * broken.len() + BASE_LEN, "{}: {peak} for {}", path.display(), broken.len());
        }
    }
}

/// Allowance for the maximum number of tensors and operators, in bytes.
const MAX_COUNTED_LEN: usize = 3 << 20;

/// Loads a file with every kernel set, and checks the memory and the length of the error message.
fn check_loading(what: &str, file: &[u8]) {
    let features = Features::detect();
    for set in KernelSet::ALL.into_iter().filter(|&set| features.supports(set)) {
        let options = Options { cap: Some(set), keep: &[] };
        let (result, peak, _) = counted(|| Model::from_bytes(file, &options));
        let outcome = result.map_or_else(|error| error.to_string(), |_| "loaded".to_string());
        println!("{what}, {}: {peak} bytes for {}: {outcome}", set.name(), file.len());
        assert!(
            peak <= 4 * file.len() + MAX_COUNTED_LEN,
            "{what}, {}: {peak} for {}",
            set.name(),
            file.len()
        );
        assert!(outcome.len() < 1000, "{what}: {} bytes of message", outcome.len());
    }
}

/// Returns a file with `count` operators that share everything but their outputs.
fn shared_operators(
    code: (i32, u8),
    count: usize,
    output: impl FnOnce(&mut Writer) -> Id,
    inputs: &[i32],
) -> Vec<u8> {
    let mut w = Writer::new();
    let input = w.activation(&[1, 1, 1, 1]);
    let output = output(&mut w);
    // As many tensors as are allowed, even if no operator uses them.
    let (first, inputs) = (w.add(output, count.max(4095)), w.ints(inputs));
    let options = w.options(&[(0, if code == SOFTMAX { 1f32.to_bits() as i32 } else { 3 })]);
    for index in 0..count as i32 {
        let outputs = w.ints(&[first + index]);
        w.operator(code, inputs, outputs, options);
    }
    w.file(&[input], &[first + count as i32 - 1])
}

#[test]
fn thousands_of_tensors_may_share_a_table() {
    for times in [4095, 250_000] {
        let mut w = Writer::new();
        let input = w.activation(&[1, 1, 1, 3]);
        let quantization = w.quantization(1.0, 0, 1);
        let table = w.table(&[1, 1, 1, 1, 1, 1], INT8, 0, quantization, "");
        w.add(table, times);
        check_loading("one table", &w.file(&[input], &[input]));
    }
}

#[test]
fn thousands_of_operators_may_share_inputs() {
    for (count, inputs) in [(126, 64), (2000, 3), (16_000, 64)] {
        let wide = |w: &mut Writer| {
            let quantization = w.quantization(1.0, -128, 1);
            w.table(&[1, 1, 1, inputs], INT8, 0, quantization, "")
        };
        let file = shared_operators(CONCATENATION, count, wide, &vec![0; inputs as usize]);
        check_loading("concatenations", &file);
    }
    for count in [2000, 16_000] {
        let scores = |w: &mut Writer| {
            let quantization = w.quantization(1.0 / 256.0, -128, 1);
            w.table(&[1, 1, 1, 1], INT8, 0, quantization, "")
        };
        check_loading("softmax tables", &shared_operators(SOFTMAX, count, scores, &[0]));
    }
}

#[test]
fn thousands_of_products_may_share_a_constant() {
    let channels = 100_000;
    let mut w = Writer::new();
    let quantization = w.quantization(1.0, -128, 1);
    let table = w.table(&[1, 1, 1, channels], INT8, 0, quantization, "");
    let first = w.add(table, 601);
    let data = w.buffer(&vec![1; channels as usize]);
    let table = w.table(&[channels], INT8, data, quantization, "");
    let constant = w.add(table, 1);
    (0..600).for_each(|i| w.plain(MULTIPLY, &[first + i, constant], &[first + i + 1], &[]));
    check_loading("products", &w.file(&[first], &[first + 600]));

    let mut w = Writer::new();
    let input = w.activation(&[1, 1, 1, 1]);
    let quantization = w.quantization(1.0, -128, 1);
    let table = w.table(&[1, 1, 1, 1], INT8, 0, quantization, "");
    let first = w.add(table, 4000);
    for index in (0..2000).step_by(2) {
        w.plain(LOGISTIC, &[input], &[first + index], &[]);
        w.plain(MULTIPLY, &[input, first + index], &[first + index + 1], &[]);
    }
    check_loading("activations", &w.file(&[input], &[first + 1]));
}

#[test]
fn a_shared_long_name_is_truncated() {
    let mut w = Writer::new();
    let input = w.activation(&[1, 1, 1, 1]);
    let quantization = w.quantization(1.0, -128, 1);
    // Characters of two bytes, between whose bytes the name must not be cut.
    let table = w.table(&[1, 1, 1, 1], INT8, 0, quantization, &format!("n{}", "\u{e4}".repeat(500_000)));
    let outputs: Vec<i32> = (0..64).map(|_| w.add(table, 1)).collect();
    for &output in &outputs {
        w.plain(RESHAPE, &[input], &[output], &[]);
    }
    let file = w.file(&[input], &outputs);
    check_loading("names", &file);
    let model = Model::from_bytes(&file, &Options::default()).unwrap();
    assert!(model.outputs().iter().all(|output| output.name.len() == 255));
}

#[test]
fn many_operators_may_share_weights() {
    let channels = 200_000;
    let depthwise = |uses: usize| {
        let mut w = Writer::new();
        let quantization = w.quantization(1.0, -128, 1);
        let table = w.table(&[1, 1, 1, channels], INT8, 0, quantization, "");
        let activations = w.add(table, uses + 1);
        let (data, quantization) = (w.buffer(&vec![1; channels as usize]), w.quantization(1e-3, 0, 1));
        let table = w.table(&[1, 1, 1, channels], INT8, data, quantization, "");
        let weights = w.add(table, 1);
        for index in 0..uses as i32 {
            let options = [(1, 1), (2, 1), (3, 1)];
            w.plain(DEPTHWISE, &[activations + index, weights], &[activations + index + 1], &options);
        }
        w.file(&[activations], &[activations + uses as i32])
    };
    check_loading("depthwise once", &depthwise(1));
    check_loading("depthwise 40 times", &depthwise(40));

    // With one input channel most of the packed bytes come from rounding up, and the reference kernel has one
    // block per channel.
    for (channels, depth, uses) in [(100_000, 1, 1), (1_000_000, 1, 1), (1, 100_000, 20), (300, 300, 400)] {
        let mut w = Writer::new();
        let input = w.activation(&[1, 1, 1, depth]);
        let (data, quantization) =
            (w.buffer(&vec![1; (channels * depth) as usize]), w.quantization(1e-3, 0, 1));
        let table = w.table(&[channels, 1, 1, depth], INT8, data, quantization, "");
        let weights = w.add(table, 1);
        let quantization = w.quantization(1.0, -128, 1);
        let table = w.table(&[1, 1, 1, channels], INT8, 0, quantization, "");
        let first = w.add(table, uses);
        for index in 0..uses as i32 {
            w.plain(CONVOLUTION, &[input, weights], &[first + index], &[(1, 1), (2, 1), (4, 1), (5, 1)]);
        }
        check_loading(&format!("{channels} of {depth}, {uses} times"), &w.file(&[input], &[first]));
    }
}
