//! The native engine's operators and topologies against LiteRT's recorded outputs, bit for bit, with every set of kernels
//! that this CPU has. `tests/data/operators` is made by `models/recipe/operators.py`.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says what went wrong by failing there")]

use engine::{
    KernelSet, Model,
    model::{Element, Options, Tensor},
};
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/operators")
}

fn read(name: &str, ending: &str) -> Vec<u8> {
    std::fs::read(folder().join(format!("{name}.{ending}")))
        .unwrap_or_else(|e| panic!("{name}.{ending}: {e}"))
}

/// All graphs of the folder by name.
fn names() -> Vec<String> {
    let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> =
        files.filter_map(|file| file.to_str().unwrap().strip_suffix(".tflite").map(str::to_string)).collect();
    names.sort();
    names
}

/// A recorded input as the session takes it: int8 becomes bytes.
fn input(name: &str, model: &Model) -> Vec<u8> {
    let flip = if model.input().element == Element::Int8 { 0x80 } else { 0 };
    read(name, "in.bin").into_iter().map(|byte| byte ^ flip).collect()
}

fn sets() -> impl Iterator<Item = KernelSet> {
    let features = engine::Features::detect();
    KernelSet::ALL.into_iter().filter(move |&set| features.have(set))
}

#[test]
fn every_operator_gives_litert_s_output() {
    let mut wrong = Vec::new();
    for name in names() {
        for set in sets() {
            let options = Options { cap: Some(set), ..Options::default() };
            let model =
                Model::from_bytes(&read(&name, "tflite"), &options).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(model.kernel_set(), set);
            let mut session = model.session();
            let recorded = read(&name, "out.bin");
            let mut found = vec![0; model.len_of(Tensor::Output(0)).unwrap()];
            // Twice: nothing of the first run may be left.
            for _ in 0..2 {
                session.run(&input(&name, &model)).unwrap();
                session.read(Tensor::Output(0), &mut found).unwrap();
                let differ = found.iter().zip(&recorded).filter(|(a, b)| a != b).count();
                if found.len() != recorded.len() || differ > 0 {
                    wrong.push(format!("{name} by {}: {differ} of {} bytes", set.name(), recorded.len()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn inner_tensors_can_be_kept_and_a_run_can_end_with_them() {
    let file = read("squeezenet_v1_1", "tflite");
    let keep = ["concat10", "conv13"];
    let plain = Model::from_bytes(&file, &Options::default()).unwrap();
    let model = Model::from_bytes(&file, &Options { keep: &keep, ..Options::default() }).unwrap();
    assert_eq!(model.kept().iter().map(|info| &info.name[..]).collect::<Vec<_>>(), keep);
    let (mut session, picture) = (model.session(), input("squeezenet_v1_1", &model));
    session.run(&picture).unwrap();
    let mut whole = vec![0; model.len_of(Tensor::Kept(0)).unwrap()];
    session.read(Tensor::Kept(0), &mut whole).unwrap();
    let mut output = vec![0; model.len_of(Tensor::Output(0)).unwrap()];
    session.read(Tensor::Output(0), &mut output).unwrap();
    assert_eq!(output, read("squeezenet_v1_1", "out.bin"), "keeping changes nothing");

    let mut part = vec![0; whole.len()];
    let mut short = plain.session();
    assert!(short.run_until(&picture, Tensor::Kept(0)).is_err(), "nothing is kept here");
    let mut short = model.session();
    short.run_until(&picture, Tensor::Kept(0)).unwrap();
    short.read(Tensor::Kept(0), &mut part).unwrap();
    assert_eq!(part, whole);
    assert!(short.read(Tensor::Output(0), &mut output).is_err(), "the run ended before it");
    let unknown = Model::from_bytes(&file, &Options { keep: &["fire99"], ..Options::default() }).unwrap_err();
    assert_eq!(unknown.to_string(), "tensors to keep: expected names of activations, found fire99");
}

#[test]
fn wrong_lengths_are_errors() {
    let model = Model::from_bytes(&read("joined", "tflite"), &Options::default()).unwrap();
    let mut session = model.session();
    let error = session.run(&[0; 5]).unwrap_err().to_string();
    assert_eq!(error, "an image of 765 bytes is needed, not of 5");
    session.run(&input("joined", &model)).unwrap();
    assert!(session.read(Tensor::Output(0), &mut [0; 3]).is_err());
    assert!(session.read(Tensor::Output(9), &mut [0; 3]).is_err());
}
