//! Compares the native engine's operators and topologies with LiteRT's recorded outputs, bit for bit, with
//! every kernel set that this CPU supports. `models/recipe/operators.py` generates
//! `engine/tests/data/operators`.

use engine::{
    KernelSet, Model,
    model::{Element, Options, Session, Tensor},
};
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/operators")
}

fn read(name: &str, ending: &str) -> Vec<u8> {
    std::fs::read(folder().join(format!("{name}.{ending}")))
        .unwrap_or_else(|e| panic!("{name}.{ending}: {e}"))
}

/// Returns the names of all graphs in the folder.
fn names() -> Vec<String> {
    let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> =
        files.filter_map(|file| file.to_str().unwrap().strip_suffix(".tflite").map(str::to_string)).collect();
    names.sort();
    names
}

/// Returns a recorded input as a session expects it: 128 is added to int8.
fn input(name: &str, model: &Model) -> Vec<u8> {
    let flip = if model.input().element == Element::Int8 { 0x80 } else { 0 };
    read(name, "in.bin").into_iter().map(|byte| byte ^ flip).collect()
}

/// Returns all outputs of the last run, one after the other.
fn outputs(model: &Model, session: &Session) -> Vec<u8> {
    let mut all = Vec::new();
    for index in 0..model.outputs().len() {
        let start = all.len();
        all.resize(start + model.len_of(Tensor::Output(index)).unwrap(), 0);
        session.read(Tensor::Output(index), &mut all[start..]).unwrap();
    }
    all
}

fn sets() -> impl Iterator<Item = KernelSet> {
    let features = engine::Features::detect();
    KernelSet::ALL.into_iter().filter(move |&set| features.supports(set))
}

#[test]
fn every_operator_equals_litert() {
    let mut failures = Vec::new();
    for name in names() {
        for set in sets() {
            let options = Options { cap: Some(set), ..Options::default() };
            let model =
                Model::from_bytes(&read(&name, "tflite"), &options).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(model.kernel_set(), set);
            let mut session = model.session();
            let recorded = read(&name, "out.bin");
            // Twice, because the first run must not affect the second.
            for _ in 0..2 {
                session.run(&input(&name, &model)).unwrap();
                let found = outputs(&model, &session);
                let differ = found.iter().zip(&recorded).filter(|(a, b)| a != b).count();
                if found.len() != recorded.len() || differ > 0 {
                    failures.push(format!(
                        "{name} with {}: {differ} of {} bytes differ",
                        set.name(),
                        recorded.len()
                    ));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn intermediate_tensors_can_be_kept_and_a_run_can_stop_at_them() {
    let file = read("squeezenet_v1_1", "tflite");
    let keep = ["concat10", "conv13"];
    let plain = Model::from_bytes(&file, &Options::default()).unwrap();
    let model = Model::from_bytes(&file, &Options { keep: &keep, ..Options::default() }).unwrap();
    assert_eq!(model.kept().iter().map(|info| &info.name[..]).collect::<Vec<_>>(), keep);
    let (mut session, image) = (model.session(), input("squeezenet_v1_1", &model));
    session.run(&image).unwrap();
    let mut whole = vec![0; model.len_of(Tensor::Kept(0)).unwrap()];
    session.read(Tensor::Kept(0), &mut whole).unwrap();
    let mut output = vec![0; model.len_of(Tensor::Output(0)).unwrap()];
    session.read(Tensor::Output(0), &mut output).unwrap();
    assert_eq!(output, read("squeezenet_v1_1", "out.bin"), "keeping a tensor does not change the output");

    let mut from_partial = vec![0; whole.len()];
    let mut partial = plain.session();
    assert!(partial.run_until(&image, Tensor::Kept(0)).is_err(), "no tensor is kept");
    let mut partial = model.session();
    partial.run_until(&image, Tensor::Kept(0)).unwrap();
    partial.read(Tensor::Kept(0), &mut from_partial).unwrap();
    assert_eq!(from_partial, whole);
    assert!(partial.read(Tensor::Output(0), &mut output).is_err(), "the run stopped earlier");
    let unknown = Model::from_bytes(&file, &Options { keep: &["fire99"], ..Options::default() }).unwrap_err();
    assert_eq!(unknown.to_string(), "tensors to keep: expected names of activations, found fire99");
}

/// A detector's maps are outputs of one graph. Each can be read alone, and a run can stop at it.
#[test]
fn every_output_is_described_and_can_be_read() {
    let model = Model::from_bytes(&read("detector", "tflite"), &Options::default()).unwrap();
    let described: Vec<(Vec<usize>, Element, i32)> =
        model.outputs().into_iter().map(|info| (info.shape, info.element, info.quantization.1)).collect();
    let expected =
        [([2, 2, 5], -128), ([2, 2, 4], -10), ([4, 3, 5], -128), ([4, 3, 4], -10), ([8, 6, 5], -128)];
    for (found, ([height, width, channels], zero_point)) in described.iter().zip(expected) {
        assert_eq!(found, &(vec![1, height, width, channels], Element::Int8, zero_point));
    }
    assert_eq!(described.len(), 6);
    assert_eq!(model.outputs()[2].quantization, (1.0 / 256.0, -128));
    assert!(model.outputs()[2].name.starts_with("logistic"));

    let (recorded, mut start) = (read("detector", "out.bin"), 0);
    for index in 0..model.outputs().len() {
        let mut session = model.session();
        session.run_until(&input("detector", &model), Tensor::Output(index)).unwrap();
        let mut found = vec![0; model.len_of(Tensor::Output(index)).unwrap()];
        session.read(Tensor::Output(index), &mut found).unwrap();
        assert_eq!(found, recorded[start..start + found.len()], "output {index}");
        start += found.len();
    }
}

/// `x * logistic(x)` is one instruction if nothing else reads the logistic.
#[test]
fn activations_of_two_operators_are_one_instruction() {
    let model = Model::from_bytes(&read("silus", "tflite"), &Options::default()).unwrap();
    let count = |name: &str| model.instructions().iter().filter(|info| info.name.contains(name)).count();
    assert_eq!((count("LOGISTIC"), count("MUL")), (1, 4));
}

#[test]
fn inputs_and_reads_of_wrong_length_are_refused() {
    let model = Model::from_bytes(&read("joined", "tflite"), &Options::default()).unwrap();
    let mut session = model.session();
    let error = session.run(&[0; 5]).unwrap_err().to_string();
    assert_eq!(error, "expected an image of 765 bytes, found 5");
    session.run(&input("joined", &model)).unwrap();
    assert!(session.read(Tensor::Output(0), &mut [0; 3]).is_err());
    assert!(session.read(Tensor::Output(9), &mut [0; 3]).is_err());
}
