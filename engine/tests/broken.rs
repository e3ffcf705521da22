//! Models that are broken: each is an error that names the place, never a panic, an endless loop, or memory that its file
//! gives no reason for. By hand, field by field; cut and overwritten at random; and what fuzzing has found.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says what went wrong by failing there")]

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

/// An error, or a model that runs.
fn try_one(file: &[u8]) -> Result<(), Error> {
    let model = Model::from_bytes(file, &Options::default())?;
    assert!(model.packed_len() <= 4 * file.len() + (256 << 10));
    if model.session_len() < 16 << 20 {
        let mut session = model.session();
        let len = session.input_len();
        session.run(&vec![77; len])?;
    }
    Ok(())
}

/// 32-bit numbers as they lie in a file.
fn words(numbers: &[i32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// A vector of f32 with one element.
fn one_scale(scale: f32) -> Vec<u8> {
    [words(&[1]), scale.to_le_bytes().to_vec()].concat()
}

/// The file with `new` where `old` is, which must be in one place and as long.
fn patched(file: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let places: Vec<usize> = (0..file.len() - old.len()).filter(|&at| file[at..].starts_with(old)).collect();
    let &[place] = &places[..] else { panic!("{old:?} is at {places:?}") };
    let mut patched = file.to_vec();
    patched[place..place + new.len()].copy_from_slice(new);
    patched
}

/// The graph that is patched: `rgb` (tensor 0, 1 x 17 x 15 x 3, scale 1) -> convolution of 12 channels (tensor 3) -> a
/// fire (squeeze 6, expands 9 and 12, joined 13) -> convolution.
fn sound() -> Vec<u8> {
    read("operators/per_tensor.tflite")
}

fn refusal(what: &str, file: &[u8]) -> String {
    match try_one(file) {
        Ok(()) => panic!("{what}: was taken"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_is_patched_is_sound() {
    try_one(&sound()).unwrap();
}

#[test]
fn each_broken_field_is_refused_by_its_place() {
    let file = sound();
    let shape =
        |shape: [i32; 4]| patched(&file, &words(&[4, 1, 17, 15, 3]), &words(&[&[4], &shape[..]].concat()));
    let scale = |scale: f32| patched(&file, &one_scale(1.0), &one_scale(scale));
    let first_inputs =
        |inputs: [i32; 3]| patched(&file, &words(&[3, 0, 1, 2]), &words(&[&[3], &inputs[..]].concat()));
    let huge = i32::MAX;
    let scales = "scales that are finite and above 0";
    for (what, broken, says) in [
        ("huge height", shape([1, huge, 15, 3]), "tensor 0"),
        ("all huge", shape([huge, huge, huge, huge]), "tensor 0"),
        ("a size of zero", shape([1, 0, 15, 3]), "tensor 0"),
        ("a negative size", shape([1, 17, -15, 3]), "tensor 0"),
        ("a batch", shape([2, 17, 15, 3]), "1 x height x width x channels"),
        ("a shape that the weights do not fit", shape([1, 17, 15, 4]), "operator 0 (CONV_2D)"),
        ("a scale of zero", scale(0.0), scales),
        ("a negative scale", scale(-1.0), scales),
        ("a scale that is no number", scale(f32::NAN), scales),
        ("an infinite scale", scale(f32::INFINITY), scales),
        ("a scale that is next to nothing", scale(1e-42), scales),
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
        ("an operator that reads a later one's", first_inputs([13, 1, 2]), "operator 0"),
        ("a tensor that is not there", first_inputs([0, 1, 9999]), "operator 0"),
        ("a negative tensor", first_inputs([-7, 1, 2]), "operator 0"),
        ("weights that are an activation", first_inputs([0, 0, 2]), "operator 0"),
        ("no weights", first_inputs([0, -1, 2]), "operator 0"),
        ("a bias that is weights", first_inputs([0, 1, 1]), "operator 0"),
        ("joined of itself", patched(&file, &words(&[2, 9, 12]), &words(&[2, 13, 12])), "operator 4"),
        (
            "a fire whose parts change places",
            patched(&file, &words(&[3, 6, 7, 8]), &words(&[3, 9, 7, 8])),
            "operator 2",
        ),
    ] {
        let message = refusal(what, &broken);
        assert!(message.contains(says), "{what}: {message}");
    }
}

#[test]
fn tables_that_point_to_themselves_or_nowhere_are_refused() {
    let file = sound();
    // The root offset: to itself, to the file's end, beyond, and to every table-like place.
    for root in [0u32, 4, file.len() as u32 - 1, file.len() as u32, u32::MAX] {
        let broken = [&root.to_le_bytes()[..], &file[4..]].concat();
        assert!(refusal("root", &broken).starts_with("not a sound .tflite model"), "{root}");
    }
    // Every aligned word, taken for an offset: to itself, one back, far away. Most are no offsets; none may hang.
    for at in (0..file.len() - 4).step_by(4) {
        for offset in [0, 4, -4, i32::MAX, i32::MIN] {
            let mut broken = file.clone();
            broken[at..at + 4].copy_from_slice(&words(&[offset]));
            drop(try_one(&broken));
        }
    }
}

#[test]
fn weights_without_their_bytes_are_refused() {
    // The data of the first convolution's weights, 12 x 3 x 3 x 3, is a vector whose length can be made 0 or too long.
    let (file, len) = (sound(), 12 * 27);
    let place =
        (0..file.len() - 4 - len as usize).step_by(4).find(|&at| file[at..at + 4] == words(&[len])).unwrap();
    for (wrong, says) in [(0, "operator 0"), (len - 1, "tensor 1"), (i32::MAX, "buffer")] {
        let mut broken = file.clone();
        broken[place..place + 4].copy_from_slice(&words(&[wrong]));
        let message = refusal("weights", &broken);
        assert!(message.contains(says), "{wrong}: {message}");
    }
}

#[test]
fn a_wrong_length_of_input_is_refused_and_the_session_goes_on() {
    let model = Model::from_bytes(&sound(), &Options::default()).unwrap();
    let mut session = model.session();
    for len in [0, 764, 766, 1 << 20] {
        let error = session.run(&vec![0; len]).unwrap_err().to_string();
        assert_eq!(error, format!("an image of 765 bytes is needed, not of {len}"));
    }
    session.run(&[0; 765]).unwrap();
    assert!(session.read(Tensor::Output(0), &mut [0; 3]).is_err());
    assert!(session.read(Tensor::Output(9), &mut [0; 3]).is_err());
}

/// What fuzzing has found, each once.
#[test]
fn findings_of_the_fuzzers_are_errors() {
    const FINDINGS: &[(&str, &str)] =
        &[("concatenation_without_output", "expected at least one output, found none")];
    for (name, says) in FINDINGS {
        let message = refusal(name, &read(&format!("findings/{name}.tflite")));
        assert!(message.contains(says), "{name}: {message}");
    }
}

/// Models come from files, and files get cut, mixed up and overwritten. What still loads must still run.
#[test]
fn cut_and_overwritten_models_are_errors_or_run() {
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
            drop(try_one(&whole[..len]));
        }
        for _ in 0..400 {
            let mut broken = whole.clone();
            for _ in 0..1 + next() % 6 {
                let position = next() % broken.len();
                broken[position] = [0, 1, 0x7f, 0x80, 0xff, next() as u8][next() % 6];
            }
            drop(try_one(&broken));
        }
        let noise: Vec<u8> = (0..4096).map(|_| next() as u8).collect();
        assert!(try_one(&noise).is_err());
        // Noise behind a good beginning.
        assert!(try_one(&[&whole[..8], &noise].concat()).is_err());
    }
}
