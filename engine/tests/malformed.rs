//! Malformed models: each is refused with an error that names the location, and none causes a panic, an
//! endless loop or more memory than its file's size justifies. Fields are patched one by one, files are
//! truncated and overwritten at random, and past findings of the fuzzers are kept.

use crate::support::{
    counting_allocator::counted,
    tflite_writer::{
        CONCATENATION, CONVOLUTION, DEPTHWISE, INT8, INT32, LEAKY_RELU, LOGISTIC, MEAN, MULTIPLY, RESHAPE,
        RESIZE_NEAREST, SHAPE, STRIDED_SLICE, TRANSPOSE, UINT8, Writer,
    },
};
use engine::{
    Error, Model,
    model::{Options, Tensor},
};
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Loads and runs a model, and checks that neither takes more memory than the file's size justifies.
fn load_and_run(file: &[u8]) -> Result<(), Error> {
    let (model, peak, _) = counted(|| Model::from_bytes(file, &Options::default()));
    assert!(peak <= 4 * file.len() + (3 << 20), "{peak} bytes for {}", file.len());
    let model = model?;
    if model.session_len() < 16 << 20 {
        let mut session = model.session();
        let len = session.input_len();
        session.run(&vec![77; len])?;
    }
    Ok(())
}

/// Returns 32-bit numbers as stored in a file.
fn words(numbers: &[i32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// Returns a flatbuffer vector of f32 with one element.
fn one_scale(scale: f32) -> Vec<u8> {
    [words(&[1]), scale.to_le_bytes().to_vec()].concat()
}

/// Replaces `old`, which must occur once, by `new` of the same length.
fn patched(file: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let positions: Vec<usize> =
        (0..file.len() - old.len()).filter(|&at| file[at..].starts_with(old)).collect();
    let &[position] = &positions[..] else { panic!("{old:?} is at {positions:?}") };
    let mut patched = file.to_vec();
    patched[position..position + new.len()].copy_from_slice(new);
    patched
}

/// Returns the valid model that tests patch: input rgb (tensor 0, 1 x 17 x 15 x 3, scale 1) -> convolution of
/// 12 channels (tensor 3) -> a fire module (squeeze 6, expands 9 and 12, concatenated 13) -> convolution.
fn valid() -> Vec<u8> {
    read("operators/per_tensor.tflite")
}

/// Returns the error message for a model that must be refused.
fn refusal(what: &str, file: &[u8]) -> String {
    match load_and_run(file) {
        Ok(()) => panic!("{what}: was accepted"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_unpatched_model_loads_and_runs() {
    load_and_run(&valid()).unwrap();
}

#[test]
fn each_invalid_field_is_refused_with_its_location() {
    let file = valid();
    let shape =
        |shape: [i32; 4]| patched(&file, &words(&[4, 1, 17, 15, 3]), &words(&[&[4], &shape[..]].concat()));
    let scale = |scale: f32| patched(&file, &one_scale(1.0), &one_scale(scale));
    let first_inputs =
        |inputs: [i32; 3]| patched(&file, &words(&[3, 0, 1, 2]), &words(&[&[3], &inputs[..]].concat()));
    let huge = i32::MAX;
    let scales = "scales that are finite and above 0";
    for (what, broken, expected) in [
        ("huge height", shape([1, huge, 15, 3]), "tensor 0"),
        ("all huge", shape([huge, huge, huge, huge]), "tensor 0"),
        ("a size of zero", shape([1, 0, 15, 3]), "tensor 0"),
        ("a negative size", shape([1, 17, -15, 3]), "tensor 0"),
        ("a batch", shape([2, 17, 15, 3]), "1 x height x width x channels"),
        ("a shape that does not fit the weights", shape([1, 17, 15, 4]), "operator 0 (CONV_2D)"),
        ("a scale of zero", scale(0.0), scales),
        ("a negative scale", scale(-1.0), scales),
        ("a scale that is not a number", scale(f32::NAN), scales),
        ("an infinite scale", scale(f32::INFINITY), scales),
        ("a subnormal scale", scale(1e-42), scales),
        ("a scale whose products overflow", scale(3e38), "operator 0 (CONV_2D)"),
        (
            "no scale",
            patched(&file, &one_scale(1.0), &[words(&[0]), 1f32.to_le_bytes().to_vec()].concat()),
            "rgb",
        ),
        (
            "more scales than the file has",
            patched(&file, &one_scale(1.0), &[words(&[huge]), vec![0; 4]].concat()),
            "tensor 0",
        ),
        ("an operator that reads its own output", first_inputs([3, 1, 2]), "operator 0"),
        ("an operator that reads a later one's output", first_inputs([13, 1, 2]), "operator 0"),
        ("a tensor index out of range", first_inputs([0, 1, 9999]), "operator 0"),
        ("a negative tensor index", first_inputs([-7, 1, 2]), "operator 0"),
        ("weights that are an activation", first_inputs([0, 0, 2]), "operator 0"),
        ("no weights", first_inputs([0, -1, 2]), "operator 0"),
        ("a bias that is weights", first_inputs([0, 1, 1]), "operator 0"),
        (
            "a concatenation of itself",
            patched(&file, &words(&[2, 9, 12]), &words(&[2, 13, 12])),
            "operator 4",
        ),
        (
            "a fire module with its branches swapped",
            patched(&file, &words(&[3, 6, 7, 8]), &words(&[3, 9, 7, 8])),
            "operator 2",
        ),
    ] {
        let message = refusal(what, &broken);
        assert!(message.contains(expected), "{what}: {message}");
    }
}

#[test]
fn cyclic_and_dangling_offsets_are_refused() {
    let file = valid();
    // The root offset: to itself, into the identifier, to the file's end and beyond it.
    for root in [0u32, 4, file.len() as u32 - 1, file.len() as u32, u32::MAX] {
        let broken = [&root.to_le_bytes()[..], &file[4..]].concat();
        assert!(refusal("root", &broken).starts_with("not a valid .tflite model"), "{root}");
    }
    // Overwrites every aligned word as if it were an offset: to itself, backwards, far away. None may hang.
    for at in (0..file.len() - 4).step_by(4) {
        for offset in [0, 4, -4, i32::MAX, i32::MIN] {
            let mut broken = file.clone();
            broken[at..at + 4].copy_from_slice(&words(&[offset]));
            drop(load_and_run(&broken));
        }
    }
}

#[test]
fn weights_with_a_wrong_data_length_are_refused() {
    // The data of the first convolution's weights, 12 x 3 x 3 x 3, is a vector whose length is patched.
    let (file, len) = (valid(), 12 * 27);
    let position =
        (0..file.len() - 4 - len as usize).step_by(4).find(|&at| file[at..at + 4] == words(&[len])).unwrap();
    for (wrong, expected) in [(0, "operator 0"), (len - 1, "tensor 1"), (i32::MAX, "buffer")] {
        let mut broken = file.clone();
        broken[position..position + 4].copy_from_slice(&words(&[wrong]));
        let message = refusal("weights", &broken);
        assert!(message.contains(expected), "{wrong}: {message}");
    }
}

#[test]
fn an_input_of_wrong_length_is_refused_and_the_session_stays_usable() {
    let model = Model::from_bytes(&valid(), &Options::default()).unwrap();
    let mut session = model.session();
    for len in [0, 764, 766, 1 << 20] {
        let error = session.run(&vec![0; len]).unwrap_err().to_string();
        assert_eq!(error, format!("expected an image of 765 bytes, found {len}"));
    }
    session.run(&[0; 765]).unwrap();
    assert!(session.read(Tensor::Output(0), &mut [0; 3]).is_err());
    assert!(session.read(Tensor::Output(9), &mut [0; 3]).is_err());
}

/// Returns a file with one operator over activations of these shapes, inputs first, the output last.
fn one_operator(code: (i32, u8), shapes: &[&[i32]], options: &[(usize, i32)]) -> Vec<u8> {
    let mut w = Writer::new();
    let tensors: Vec<i32> = shapes.iter().map(|shape| w.activation(shape)).collect();
    let (&output, inputs) = tensors.split_last().unwrap();
    // Only the first is the graph's input; the others are reshapes of it.
    for &input in &inputs[1..] {
        w.plain(RESHAPE, &inputs[..1], &[input], &[]);
    }
    w.plain(code, inputs, &[output], options);
    w.file(&inputs[..1], &[output])
}

#[test]
fn concatenations_whose_shapes_do_not_fit_are_refused() {
    let fits = "inputs that fit its output";
    let four: &[i32] = &[1, 1, 1, 4];
    let flat: &[i32] = &[1, 4];
    for (what, shapes, axis, expected) in [
        ("of four dimensions into two", [four, four, &[1, 8]], 1, fits),
        ("of two dimensions into four", [flat, flat, &[1, 1, 1, 8]], 3, fits),
        ("of both into two", [flat, four, &[1, 8]], 1, fits),
        ("larger than the output", [four, four, &[1, 1, 1, 7]], 3, "inputs of 7 in total"),
        ("smaller than the output", [four, four, &[1, 2, 1, 9]], 3, fits),
        ("with too few inputs", [four, four, &[1, 1, 1, 9]], 3, "inputs of 9 in total"),
        ("along the batch", [four, four, &[1, 1, 1, 8]], 0, "which concatenates along an axis other than"),
        ("along no axis", [four, four, &[1, 1, 1, 8]], 4, "which concatenates along an axis other than"),
        (
            "along a huge axis",
            [four, four, &[1, 1, 1, 8]],
            i32::MAX,
            "which concatenates along an axis other than",
        ),
        (
            "along a huge negative axis",
            [four, four, &[1, 1, 1, 8]],
            i32::MIN,
            "which concatenates along an axis other than",
        ),
    ] {
        let message = refusal(what, &one_operator(CONCATENATION, &shapes, &[(0, axis)]));
        assert!(message.starts_with("operator 1") && message.contains(expected), "{what}: {message}");
    }
    for (shapes, axis) in
        [([four, four, &[1, 1, 1, 8]], -1), ([four, four, &[1, 2, 1, 4]], -3), ([flat, flat, &[1, 8]], 1)]
    {
        load_and_run(&one_operator(CONCATENATION, &shapes, &[(0, axis)])).unwrap();
    }
}

/// Nested concatenations whose rows add up to more than an integer can hold.
#[test]
fn nested_concatenations_whose_sizes_overflow_are_refused() {
    let mut w = Writer::new();
    let input = w.activation(&[1, 1, 1, 1]);
    let quantization = w.quantization(1.0, -128, 1);
    let tall = w.table(&[1, 1 << 28, 1, 1], INT8, 0, quantization, "");
    let mut inner = input;
    for _ in 0..40 {
        let first = w.add(tall, 40);
        (0..40).for_each(|index| w.plain(RESHAPE, &[input], &[first + index], &[]));
        let whole = w.add(tall, 1);
        let inputs: Vec<i32> = (0..40).map(|index| first + index).chain([inner]).collect();
        w.plain(CONCATENATION, &inputs, &[whole], &[(0, 1)]);
        inner = whole;
    }
    let message = refusal("nested", &w.file(&[input], &[inner]));
    assert!(message.contains("operator 40 (CONCATENATION)"), "{message}");
}

/// Chained concatenations whose inputs other operators also read: the most placement conflicts that a file
/// may cause.
#[test]
fn long_chains_of_concatenations_load() {
    let mut w = Writer::new();
    let input = w.activation(&[1, 1, 1, 1]);
    let quantization = w.quantization(1.0, -128, 1);
    let [one, two] = [1, 2].map(|channels| w.table(&[1, 1, 1, channels], INT8, 0, quantization, ""));
    let (chain, parts, wholes) = (w.add(one, 900), w.add(one, 500), w.add(two, 500));
    w.plain(RESHAPE, &[input], &[chain], &[]);
    (1..900).for_each(|i| w.plain(CONCATENATION, &[chain + i - 1], &[chain + i], &[(0, 3)]));
    (0..500).for_each(|i| w.plain(RESHAPE, &[chain + 899 - i], &[parts + i], &[]));
    (0..500).for_each(|i| w.plain(CONCATENATION, &[parts + i, parts + i], &[wholes + i], &[(0, 3)]));
    load_and_run(&w.file(&[input], &[chain + 899, wholes + 499])).unwrap();
}

#[test]
fn counts_above_the_limits_are_refused() {
    let reshapes = |tensors: usize, operators: usize, outputs: &[i32]| {
        let mut w = Writer::new();
        let input = w.activation(&[1, 1, 1, 1]);
        let quantization = w.quantization(1.0, -128, 1);
        let table = w.table(&[1, 1, 1, 1], INT8, 0, quantization, "");
        w.add(table, tensors - 1);
        (0..operators as i32).for_each(|i| w.plain(RESHAPE, &[i], &[i + 1], &[]));
        w.file(&[input], outputs)
    };
    load_and_run(&reshapes(4096, 2048, &[2048])).unwrap();
    for (what, file, expected) in [
        ("tensors", reshapes(4097, 1, &[1]), "subgraph 0: expected at most 4096 tensors, found 4097"),
        ("operators", reshapes(3000, 2049, &[1]), "subgraph 0: expected at most 2048 operators, found 2049"),
        (
            "outputs",
            reshapes(3, 2, &[1, 2, 1]),
            "subgraph 0: expected each output once, found tensor 1 twice",
        ),
    ] {
        assert_eq!(refusal(what, &file), expected);
    }
    let mut w = Writer::new();
    let input = w.activation(&[1, 1, 1, 1]);
    let quantization = w.quantization(1.0, -128, 1);
    let table = w.table(&[1, 1, 1, 64], INT8, 0, quantization, "");
    let first = w.add(table, 200);
    (0..200).for_each(|i| w.plain(CONCATENATION, &[input; 64], &[first + i], &[(0, 3)]));
    let message = refusal("operands", &w.file(&[input], &[first]));
    assert!(
        message.starts_with("operator 126: expected at most 8192 tensors in all operators so far"),
        "{message}"
    );
}

#[test]
fn more_scales_than_channels_are_refused() {
    let with = |count: usize, shape: &[i32], tensors: usize| {
        let mut w = Writer::new();
        let input = w.activation(&[1, 1, 1, 1]);
        let quantization = w.quantization(1.0, -128, count);
        let table = w.table(shape, INT8, 0, quantization, "");
        let first = w.add(table, tensors);
        w.plain(RESHAPE, &[input], &[first], &[]);
        w.file(&[input], &[first])
    };
    let message = refusal("scales", &with(9, &[1, 2, 2, 8], 1));
    assert_eq!(message, "tensor 1, quantization: expected at most 8 scales, found 9");
    // A vector that thousands of tensors share would be read thousands of times.
    let message = refusal("shared scales", &with(1000, &[1, 1, 1, 1000], 4000));
    assert!(message.ends_with("expected scales of its own, found more than the file contains"), "{message}");
}

/// Returns a file with one convolution whose weights, 1 x 1 x 1 x 1, have this type and zero point.
fn weights_of(code: (i32, u8), kind: u8, zero: i64) -> Vec<u8> {
    let mut w = Writer::new();
    let quantization = w.quantization(1.0, 0, 1);
    let table = w.table(&[1, 1, 1, 1], kind, 0, quantization, "");
    let (input, output) = (w.add(table, 1), w.add(table, 1));
    let (data, quantization) = (w.buffer(&[3]), w.quantization(1.0, zero, 1));
    let table = w.table(&[1, 1, 1, 1], kind, data, quantization, "weights");
    let weights = w.add(table, 1);
    // Slots 1 and 2 are strides; slot 3 is the multiplier of a depthwise convolution and the activation of
    // another.
    w.plain(code, &[input, weights], &[output], &[(1, 1), (2, 1), (3, i32::from(code != CONVOLUTION))]);
    w.file(&[input], &[output])
}

#[test]
fn weights_far_from_their_zero_point_are_refused() {
    let around = "tensor \"weights\": expected constant weights from -128 to 127 around their zero point, found others";
    for zero in [i64::MIN, i64::MAX, -1, 132, 256] {
        assert_eq!(refusal("zero point", &weights_of(CONVOLUTION, UINT8, zero)), around, "{zero}");
    }
    load_and_run(&weights_of(CONVOLUTION, UINT8, 131)).unwrap();
    assert_eq!(refusal("zero point", &weights_of(CONVOLUTION, INT8, i64::MIN)), around);
}

#[test]
fn operators_that_would_differ_from_litert_are_refused_by_name() {
    let message = refusal("depthwise", &weights_of(DEPTHWISE, UINT8, 0));
    assert!(
        message.starts_with("operator 0 is DEPTHWISE_CONV_2D (version 1), which has uint8 input"),
        "{message}"
    );
    load_and_run(&weights_of(DEPTHWISE, INT8, 0)).unwrap();

    // The last QUANTIZE of retyped.tflite converts uint8 to int8; with this scale the ratio is below a half.
    let retyped = read("operators/retyped.tflite");
    let message = refusal("retyped", &patched(&retyped, &one_scale(0.3), &one_scale(3.5)));
    assert!(
        message.starts_with("operator 2 is QUANTIZE (version 1), which has scales too far apart"),
        "{message}"
    );

    let mean = |height: i32| {
        let mut w = Writer::new();
        let (input, output) = (w.activation(&[1, height, 4096, 1]), w.activation(&[1, 1]));
        let axes = w.constant(&[1, 2]);
        w.plain(MEAN, &[input, axes], &[output], &[]);
        w.file(&[input], &[output])
    };
    let message = refusal("mean", &mean(2049));
    assert_eq!(message, "operator 0 is MEAN (version 1), which is over more than 8388608 pixels");
    let model = Model::from_bytes(&mean(2048), &Options::default()).unwrap();
    let mut session = model.session();
    session.run(&vec![255; 1 << 23]).unwrap();
    let mut mean = [0];
    session.read(Tensor::Output(0), &mut mean).unwrap();
    assert_eq!(mean, [127]);
}

/// Returns a file with one operator over an activation of 1 x 4 x 6 x 8 and int32 constants.
fn with_constants(
    code: (i32, u8),
    constants: &[&[i32]],
    output: &[i32],
    options: &[(usize, i32)],
) -> Vec<u8> {
    let mut w = Writer::new();
    let input = w.activation(&[1, 4, 6, 8]);
    let constants: Vec<i32> = constants.iter().map(|values| w.constant(values)).collect();
    let output = w.activation(output);
    w.plain(code, &[&[input], &constants[..]].concat(), &[output], options);
    w.file(&[input], &[output])
}

#[test]
fn slices_and_transpositions_that_do_not_fit_are_refused() {
    let slice =
        |begin: [i32; 4], end: [i32; 4], strides: [i32; 4], output: [i32; 4], options: &[(usize, i32)]| {
            with_constants(STRIDED_SLICE, &[&begin, &end, &strides], &output, options)
        };
    let (zeros, ones, whole) = ([0; 4], [1; 4], [1, 4, 6, 8]);
    load_and_run(&slice(zeros, whole, ones, whole, &[])).unwrap();
    load_and_run(&slice(zeros, [1, 99, 6, 8], [1, i32::MAX, 5, 7], [1, 1, 2, 2], &[])).unwrap();
    load_and_run(&slice([i32::MIN; 4], [i32::MAX; 4], ones, whole, &[])).unwrap();
    load_and_run(&slice([9; 4], zeros, [1, 2, 3, 4], [1, 2, 2, 2], &[(0, -1), (1, -1)])).unwrap();
    let amounts = "which slices by amounts that are not one constant for each axis";
    for (what, file, expected) in [
        (
            "a stride of 0",
            slice(zeros, whole, [1, 1, 0, 1], whole, &[]),
            "which slices axis 2 by a stride of 0",
        ),
        (
            "backwards",
            slice(zeros, whole, [1, -1, 1, 1], whole, &[]),
            "which slices axis 1 by a stride of -1",
        ),
        ("nothing", slice([0, 0, 0, 8], whole, ones, whole, &[]), "which slices nothing from axis 3"),
        (
            "swapped ends",
            slice([0, 3, 0, 0], [1, 2, 6, 8], ones, whole, &[]),
            "which slices nothing from axis 1",
        ),
        (
            "another size",
            slice(zeros, whole, [1, 2, 1, 1], whole, &[]),
            "of 1 x 2 x 6 x 8, found 1 x 4 x 6 x 8",
        ),
        ("an ellipsis", slice(zeros, whole, ones, whole, &[(2, 1)]), "which adds or removes axes"),
        ("a new axis", slice(zeros, whole, ones, whole, &[(3, 1)]), "which adds or removes axes"),
        ("a removed axis", slice(zeros, whole, ones, whole, &[(4, 2)]), "which adds or removes axes"),
        (
            "lengths",
            slice(zeros, whole, ones, whole, &[(5, 1)]),
            "which adds or removes axes, or slices by lengths",
        ),
        ("three begins", with_constants(STRIDED_SLICE, &[&[0; 3], &whole, &ones], &whole, &[]), amounts),
        (
            "no strides",
            with_constants(STRIDED_SLICE, &[&zeros, &whole], &whole, &[]),
            "expected 4 to 4 inputs",
        ),
        (
            "a repeated axis",
            with_constants(TRANSPOSE, &[&[0, 1, 1, 3]], &whole, &[]),
            "which has an order of axes",
        ),
        ("three axes", with_constants(TRANSPOSE, &[&[0, 1, 2]], &whole, &[]), "which has an order of axes"),
        (
            "an axis too high",
            with_constants(TRANSPOSE, &[&[0, 1, 2, 4]], &whole, &[]),
            "which has an order of axes",
        ),
        (
            "a negative axis",
            with_constants(TRANSPOSE, &[&[0, 1, 2, -5]], &whole, &[]),
            "which has an order of axes",
        ),
        ("another shape", with_constants(TRANSPOSE, &[&[0, 2, 1, 3]], &whole, &[]), "of 1 x 6 x 4 x 8"),
        ("a batch", with_constants(TRANSPOSE, &[&[1, 0, 2, 3]], &[4, 1, 6, 8], &[]), "1 x height x width"),
    ] {
        let message = refusal(what, &file);
        assert!(message.contains(expected), "{what}: {message}");
    }
}

#[test]
fn resizes_that_do_not_fit_are_refused() {
    let resize = |size: &[i32], output: [i32; 4]| with_constants(RESIZE_NEAREST, &[size], &output, &[]);
    load_and_run(&resize(&[9, 1], [1, 9, 1, 8])).unwrap();
    let constants = "which resizes to a height and width that are not two constants";
    for (what, file, expected) in [
        ("another size", resize(&[9, 2], [1, 9, 1, 8]), "of 1 x 9 x 2 x 8, found 1 x 9 x 1 x 8"),
        ("other channels", resize(&[9, 1], [1, 9, 1, 4]), "of 1 x 9 x 1 x 8"),
        ("a negative size", resize(&[-9, 1], [1, 9, 1, 8]), constants),
        ("one size", resize(&[9], [1, 9, 9, 8]), constants),
        ("no size", with_constants(RESIZE_NEAREST, &[], &[1, 9, 1, 8], &[]), "expected 2 to 2 inputs"),
        ("a huge size", resize(&[1 << 13, 1 << 13], [1, 1 << 13, 1 << 13, 1]), "at most 67108864 bytes"),
    ] {
        let message = refusal(what, &file);
        assert!(message.contains(expected), "{what}: {message}");
    }
    let mut w = Writer::new();
    let quantization = w.quantization(1.0, 0, 1);
    let table = w.table(&[1, 2, 2, 1], UINT8, 0, quantization, "");
    let (input, size, output) = (w.add(table, 1), w.constant(&[2, 2]), w.add(table, 1));
    w.plain(RESIZE_NEAREST, &[input, size], &[output], &[]);
    let message = refusal("uint8", &w.file(&[input], &[output]));
    let expected = "operator 0 is RESIZE_NEAREST_NEIGHBOR (version 1), which has uint8 input, but the native engine supports only int8";
    assert_eq!(message, expected);
}

#[test]
fn products_and_logistics_that_do_not_fit_are_refused() {
    let whole: &[i32] = &[1, 2, 3, 4];
    let product = |b: &[i32], output: &[i32]| one_operator(MULTIPLY, &[whole, b, output], &[]);
    load_and_run(&one_operator(MULTIPLY, &[whole, whole, whole], &[])).unwrap();
    let fits = "expected an input of its output's shape that is not constant";
    for (what, file, expected) in [
        ("other channels", product(&[1, 2, 6, 2], whole), "which multiplies by a tensor that is neither"),
        ("columns", product(&[1, 2, 12, 1], whole), "which multiplies by a tensor that is neither"),
        ("a larger output", product(whole, &[1, 4, 3, 4]), fits),
        ("int32", with_constants(MULTIPLY, &[&[1; 8]], &[1, 4, 6, 8], &[]), "found int8, int32, int8"),
        (
            "a larger logistic",
            one_operator(LOGISTIC, &[whole, &[1, 4, 3, 4]], &[]),
            "of 1 x 2 x 3 x 4, found 1 x 4 x 3 x 4",
        ),
    ] {
        let message = refusal(what, &file);
        assert!(message.contains(expected), "{what}: {message}");
    }
    let mixed = |code: (i32, u8), scale: f32, kind: u8, inputs: usize| {
        let mut w = Writer::new();
        let input = w.activation(whole);
        let quantization = w.quantization(scale, 0, 1);
        let table = w.table(whole, kind, 0, quantization, "");
        let output = w.add(table, 1);
        w.plain(code, &vec![input; inputs], &[output], &[]);
        w.file(&[input], &[output])
    };
    for (code, inputs) in [(MULTIPLY, 2), (LOGISTIC, 1)] {
        load_and_run(&mixed(code, 1.0, INT8, inputs)).unwrap();
        let message = refusal("mixed", &mixed(code, 1.0, UINT8, inputs));
        assert!(message.contains("expected only int8 or only uint8 tensors, found int8"), "{message}");
    }
    for scale in [1.0 / 256.0, 70_000.0] {
        let message = refusal("product", &mixed(MULTIPLY, scale, INT8, 2));
        assert!(message.contains("(version 1), which has scales too far apart"), "{message}");
    }
    // Without options the slope is 0.
    let message = refusal("leaky", &mixed(LEAKY_RELU, 1.0, INT8, 1));
    assert!(message.ends_with("which has scales too far apart: 1, slope 0"), "{message}");
    // A scale of any magnitude only saturates a LOGISTIC.
    for scale in [1e-37, 1e37] {
        load_and_run(&mixed(LOGISTIC, scale, INT8, 1)).unwrap();
    }
}

#[test]
fn an_unknown_operator_is_named_even_if_its_tensors_are_invalid() {
    let mut w = Writer::new();
    let input = w.activation(&[1, 2, 2, 3]);
    let quantization = w.quantization(1.0, 0, 1);
    let table = w.table(&[4], INT32, 0, quantization, "shape");
    let (shape, output) = (w.add(table, 1), w.activation(&[1, 12]));
    w.plain(SHAPE, &[input], &[shape], &[]);
    w.plain(RESHAPE, &[input, shape], &[output], &[]);
    let message = refusal("shape", &w.file(&[input], &[output]));
    assert_eq!(
        message,
        "operator 0 is builtin code 77 (version 1), which the native engine does not support"
    );
}

#[test]
fn past_findings_of_the_fuzzers_stay_fixed() {
    const FINDINGS: &[(&str, &str)] =
        &[("concatenation_without_output", "expected at least one output, found none")];
    for (name, expected) in FINDINGS {
        let message = refusal(name, &read(&format!("findings/{name}.tflite")));
        assert!(message.contains(expected), "{name}: {message}");
    }
    // One quantization step of one scale exceeds the range of the other. That is unusual but valid.
    load_and_run(&read("findings/joined_with_a_huge_ratio.tflite")).unwrap();
}

/// Model files may be truncated, corrupted or overwritten. Whatever loads must run.
#[test]
fn truncated_and_corrupted_models_are_refused_or_run() {
    let mut random = 1u64;
    let mut next = || {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) as usize
    };
    for entry in std::fs::read_dir(folder().join("operators")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "tflite") {
            continue;
        }
        let whole = std::fs::read(path).unwrap();
        for len in (0..whole.len()).step_by(7) {
            drop(load_and_run(&whole[..len]));
        }
        for _ in 0..400 {
            let mut broken = whole.clone();
            for _ in 0..1 + next() % 6 {
                let position = next() % broken.len();
                broken[position] = [0, 1, 0x7f, 0x80, 0xff, next() as u8][next() % 6];
            }
            drop(load_and_run(&broken));
        }
        let noise: Vec<u8> = (0..4096).map(|_| next() as u8).collect();
        assert!(load_and_run(&noise).is_err());
        // Noise after a valid header.
        assert!(load_and_run(&[&whole[..8], &noise].concat()).is_err());
    }
}
