//! What the engine takes from the allocator, counted: nothing while running, and no more while loading than the file
//! gives reason for, whatever it shares.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says what went wrong by failing there")]

mod counting;
mod crafted;

use counting::counted;
use crafted::{CONCATENATION, CONVOLUTION, DEPTHWISE, INT8, Id, RESHAPE, SOFTMAX, Writer};
use engine::{Features, KernelSet, Model, model::Options};
use std::path::Path;

/// For tables of steps and names, whatever the size of the file.
const SMALL: usize = 512 << 10;

#[test]
fn runs_allocate_nothing_and_loading_no_more_than_the_file_gives_reason_for() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shipped = std::fs::read(root.join("../models/squeezenet_v1.1_int8.tflite")).unwrap();
    let features = Features::detect();
    for set in KernelSet::ALL.into_iter().filter(|&set| features.have(set)) {
        let options = Options { cap: Some(set), keep: &[] };
        let (model, peak, _) = counted(|| Model::from_bytes(&shipped, &options).unwrap());
        assert!(peak <= 4 * shipped.len() + SMALL, "{}: {peak} bytes to load", set.name());
        let (mut session, peak, _) = counted(|| model.session());
        assert!(peak < 4 << 20, "{}: {peak} bytes for a session", set.name());
        let picture = vec![128; session.input_len()];
        let (result, _, calls) = counted(|| session.run(&picture));
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
            assert!(peak <= 4 * broken.len() + SMALL, "{}: {peak} of {}", path.display(), broken.len());
        }
    }
}

/// For all the tensors and operators that a file may have at most.
const MOST_COUNTED: usize = 3 << 20;

/// Loads a file with every set of kernels: the most that any of them took beyond four times the file.
fn beyond_the_file(what: &str, file: &[u8]) {
    let features = Features::detect();
    for set in KernelSet::ALL.into_iter().filter(|&set| features.have(set)) {
        let options = Options { cap: Some(set), keep: &[] };
        let (result, peak, _) = counted(|| Model::from_bytes(file, &options));
        let says = result.map_or_else(|error| error.to_string(), |_| "it was taken".to_string());
        println!("{what}, {}: {peak} bytes for {}: {says}", set.name(), file.len());
        assert!(peak <= 4 * file.len() + MOST_COUNTED, "{what}, {}: {peak} of {}", set.name(), file.len());
        assert!(says.len() < 1000, "{what}: {} bytes of message", says.len());
    }
}

/// A chain of operators that share inputs' vectors, options and all but their outputs.
fn shared(code: (i32, u8), count: usize, output: impl FnOnce(&mut Writer) -> Id, inputs: &[i32]) -> Vec<u8> {
    let mut w = Writer::new();
    let input = w.activation(&[1, 1, 1, 1]);
    let output = output(&mut w);
    // As many tensors as there may be, even if nobody needs them.
    let (first, inputs) = (w.add(output, count.max(4095)), w.ints(inputs));
    let options = w.options(&[(0, if code == SOFTMAX { 1f32.to_bits() as i32 } else { 3 })]);
    for index in 0..count as i32 {
        let outputs = w.ints(&[first + index]);
        w.operator(code, inputs, outputs, options);
    }
    w.file(&[input], &[first + count as i32 - 1])
}

#[test]
fn a_table_that_is_thousands_of_tensors_is_no_memory() {
    for times in [4095, 250_000] {
        let mut w = Writer::new();
        let input = w.activation(&[1, 1, 1, 3]);
        let quantization = w.quantization(1.0, 0, 1);
        let table = w.table(&[1, 1, 1, 1, 1, 1], INT8, 0, quantization, "");
        w.add(table, times);
        beyond_the_file("one table", &w.file(&[input], &[input]));
    }
}

#[test]
fn operators_that_share_their_inputs_are_no_memory() {
    for (count, inputs) in [(126, 64), (2000, 3), (16_000, 64)] {
        let wide = |w: &mut Writer| {
            let quantization = w.quantization(1.0, -128, 1);
            w.table(&[1, 1, 1, inputs], INT8, 0, quantization, "")
        };
        let file = shared(CONCATENATION, count, wide, &vec![0; inputs as usize]);
        beyond_the_file("concatenations", &file);
    }
    for count in [2000, 16_000] {
        let scores = |w: &mut Writer| {
            let quantization = w.quantization(1.0 / 256.0, -128, 1);
            w.table(&[1, 1, 1, 1], INT8, 0, quantization, "")
        };
        beyond_the_file("tables of softmax", &shared(SOFTMAX, count, scores, &[0]));
    }
}

#[test]
fn a_long_name_is_not_kept_for_each_that_has_it() {
    let mut w = Writer::new();
    let input = w.activation(&[1, 1, 1, 1]);
    let quantization = w.quantization(1.0, -128, 1);
    // Of two bytes each, so that it cannot be cut anywhere.
    let table = w.table(&[1, 1, 1, 1], INT8, 0, quantization, &format!("n{}", "\u{e4}".repeat(500_000)));
    let outputs: Vec<i32> = (0..64).map(|_| w.add(table, 1)).collect();
    for &output in &outputs {
        w.plain(RESHAPE, &[input], &[output], &[]);
    }
    let file = w.file(&[input], &outputs);
    beyond_the_file("names", &file);
    let model = Model::from_bytes(&file, &Options::default()).unwrap();
    assert!(model.outputs().iter().all(|output| output.name.len() == 255));
}

#[test]
fn weights_that_many_operators_share_are_no_memory() {
    let channels = 200_000;
    let depthwise = |uses: usize| {
        let mut w = Writer::new();
        let quantization = w.quantization(1.0, -128, 1);
        let table = w.table(&[1, 1, 1, channels], INT8, 0, quantization, "");
        let activations = w.add(table, uses + 1);
        let (data, quantization) = (w.buffer(&vec![1; channels as usize]), w.quantization(1e-3, 0, 1));
        let table = w.table(&[1, 1, 1, channels], INT8, data, quantization, "");
        let weights = w.add(table, 1);
        for use_ in 0..uses as i32 {
            let options = [(1, 1), (2, 1), (3, 1)];
            w.plain(DEPTHWISE, &[activations + use_, weights], &[activations + use_ + 1], &options);
        }
        w.file(&[activations], &[activations + uses as i32])
    };
    beyond_the_file("depthwise once", &depthwise(1));
    beyond_the_file("depthwise again and again", &depthwise(40));

    // One channel of input: rounding up is most of what is packed, and the law has a block for each channel.
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
        for use_ in 0..uses as i32 {
            w.plain(CONVOLUTION, &[input, weights], &[first + use_], &[(1, 1), (2, 1), (4, 1), (5, 1)]);
        }
        beyond_the_file(&format!("{channels} of {depth}, {uses} times"), &w.file(&[input], &[first]));
    }
}
