//! Compares both engines with recorded outputs of the LiteRT interpreter: maps and best classes of photos,
//! and small graphs.
//!
//! The native engine reproduces the recorded map bit for bit, with every kernel set that this CPU supports.
//! tract rounds at other points: its values differ by one quantization step per layer, and by up to nine
//! after all 26. So its maps are compared by distance, and its best classes by rank and score.

use engine::{Choice, KernelSet};
use serde::Deserialize;
use std::path::{Path, PathBuf};

fn data(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(file)
}

fn read(file: &str) -> Vec<u8> {
    std::fs::read(data(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

fn shipped_model() -> Vec<u8> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    std::fs::read(models.join("squeezenet_v1.1_int8.tflite")).unwrap()
}

#[derive(Deserialize)]
struct Golden {
    scale: f32,
    zero_point: i8,
    photos: Vec<Photo>,
}

#[derive(Deserialize)]
struct Photo {
    file: String,
    map: String,
    top5: Vec<Score>,
}

#[derive(Deserialize)]
struct Score {
    index: usize,
    score: f32,
}

/// The classifier's head, implemented independently: average, softmax.
fn scores(map: &[i8], signature: &engine::Signature) -> Vec<f32> {
    let pixels = (signature.map_height * signature.map_width) as f32;
    let logits: Vec<f32> = (0..signature.classes)
        .map(|class| {
            let values = map.iter().skip(class).step_by(signature.classes);
            let sum: f32 = values.map(|&s| f32::from(s) - f32::from(signature.zero_point)).sum();
            sum / pixels * signature.scale
        })
        .collect();
    let sum: f32 = logits.iter().map(|logit| logit.exp()).sum();
    logits.iter().map(|logit| logit.exp() / sum).collect()
}

/// Returns all engines: the native one with each kernel set that this CPU supports, and tract.
fn engines() -> Vec<(Choice, Option<KernelSet>)> {
    let features = engine::Features::detect();
    let native = KernelSet::ALL.into_iter().filter(|&set| features.supports(set));
    let mut engines: Vec<_> = native.map(|set| (Choice::Native, Some(set))).collect();
    if cfg!(feature = "tract") {
        engines.push((Choice::Tract, None));
    }
    engines
}

/// The input of the last convolution, which heads read.
const INNER_MAP: &str = "fire9/concat";

#[test]
fn a_map_inside_the_network_is_read_before_the_rest_runs() {
    let golden: Golden = serde_json::from_slice(&read("golden/golden.json")).unwrap();
    let photo = image::open(data("golden").join(&golden.photos[0].file)).unwrap().to_rgb8();
    let mut first: Option<Vec<i8>> = None;
    for (choice, cap) in engines() {
        let engine = engine::open(&shipped_model(), choice, cap, &[INNER_MAP]).unwrap();
        let what = format!("{} ({})", engine.name(), engine.kernels());
        let [map] = engine.maps() else { panic!("{what}") };
        assert_eq!((map.name.as_str(), map.height, map.width, map.channels), (INNER_MAP, 13, 13, 512));
        let mut session = engine.session().unwrap();
        let whole = session.run(photo.as_raw()).unwrap().to_vec();
        session.run_to_maps(photo.as_raw()).unwrap();
        let inner = session.map(0).to_vec();
        assert_eq!(session.finish().unwrap(), whole, "{what}");
        assert_eq!(session.map(0), inner, "{what}: the rest does not change the map");
        assert_eq!(session.finish().unwrap(), whole, "{what}: finished twice");
        assert!(inner.iter().any(|&value| value != map.zero_point), "{what}");
        let expected = first.get_or_insert_with(|| inner.clone());
        let distance = |(a, b): (&i8, &i8)| (i32::from(*a) - i32::from(*b)).unsigned_abs();
        let largest = inner.iter().zip(expected.iter()).map(distance).max().unwrap();
        // tract differs by up to one step per layer, more after some layers.
        assert!(largest <= if choice == Choice::Native { 0 } else { 12 }, "{what}: {largest}");
    }
}

#[test]
fn unknown_maps_are_refused_by_name() {
    for (choice, cap) in engines() {
        let error = engine::open(&shipped_model(), choice, cap, &["fire99"]).unwrap_err().to_string();
        assert!(error.contains("fire99"), "{error}");
    }
    if cfg!(feature = "tract") {
        let error = engine::open(&shipped_model(), Choice::Tract, None, &["fire9/expand1x1"]).unwrap_err();
        assert!(error.to_string().contains("tract can only read the map of concatenations"), "{error}");
    }
}

#[test]
fn maps_and_best_classes_of_photos_equal_litert() {
    let golden: Golden = serde_json::from_slice(&read("golden/golden.json")).unwrap();
    for (choice, cap) in engines() {
        let engine = engine::open(&shipped_model(), choice, cap, &[]).unwrap();
        assert!(cap.is_none_or(|set| set.name() == engine.kernels()));
        let signature = engine.signature().clone();
        assert_eq!((signature.input_height, signature.input_width), (227, 227));
        assert_eq!((signature.map_height, signature.map_width, signature.classes), (13, 13, 1000));
        assert_eq!((signature.scale, signature.zero_point), (golden.scale, golden.zero_point));
        let mut session = engine.session().unwrap();
        for photo in &golden.photos {
            let what = format!("{} with {} ({})", photo.file, engine.name(), engine.kernels());
            let rgb = image::open(data("golden").join(&photo.file)).unwrap().to_rgb8();
            let recorded = image::open(data("golden").join(&photo.map)).unwrap().to_luma8();
            let map = session.run(rgb.as_raw()).unwrap();
            assert_eq!(map.len(), recorded.as_raw().len());
            let distances = map
                .iter()
                .zip(recorded.as_raw())
                .map(|(&ours, &theirs)| (i32::from(ours) + 128 - i32::from(theirs)).unsigned_abs());
            let largest = distances.clone().max().unwrap();
            let mean = distances.map(f64::from).sum::<f64>() / map.len() as f64;
            println!("{what}: map differs by at most {largest}, on average by {mean:.4}");
            match choice {
                Choice::Native => assert_eq!(largest, 0, "{what}"),
                _ => assert!(largest <= 12 && mean < 0.25, "{what}: at most {largest}, on average {mean}"),
            }

            let scores = scores(map, &signature);
            let mut best: Vec<usize> = (0..scores.len()).collect();
            best.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
            assert_eq!(best[0], photo.top5[0].index, "{what}");
            for theirs in &photo.top5 {
                let ours = scores[theirs.index];
                assert!((ours - theirs.score).abs() < 0.05, "{what}: {ours} {}", theirs.score);
                // It must be among the five best here, too, unless one quantization step decides its rank.
                let rank = best.iter().position(|&index| index == theirs.index).unwrap();
                assert!(rank < 5 || ours > 0.9 * scores[best[4]], "{what}: {rank}");
            }
        }
    }
}

#[test]
fn maps_of_small_graphs_equal_litert() {
    let rgb: Vec<u8> = read("graphs/input.bin").iter().map(|byte| byte ^ 0x80).collect();
    for (choice, cap) in engines() {
        for name in ["tiny", "per_tensor_weights"] {
            let engine = engine::open(&read(&format!("graphs/{name}.tflite")), choice, cap, &[]).unwrap();
            let recorded = read(&format!("graphs/{name}.map.bin"));
            let mut session = engine.session().unwrap();
            // Twice, because the first run must not affect the second.
            for _ in 0..2 {
                let map = session.run(&rgb).unwrap();
                let distance =
                    |(&ours, &theirs): (&i8, &u8)| (i32::from(ours) - i32::from(theirs as i8)).abs();
                let largest = map.iter().zip(&recorded).map(distance).max();
                let max = if choice == Choice::Native { 0 } else { 4 };
                assert!(
                    largest.is_some_and(|distance| distance <= max),
                    "{name}, {choice:?}, {cap:?}: {largest:?}"
                );
            }
            let error = session.run(&rgb[1..]).unwrap_err().to_string();
            assert_eq!(error, "expected an image of 768 bytes, found 767");
        }
    }
}

#[test]
fn unsupported_models_are_refused_by_name() {
    use Choice::{Auto, Tract};
    for (choice, name, expected) in [
        (Tract, "ends_in_mean", "operator 6 is MEAN (version 2), which tract 0.23 computes incorrectly"),
        (
            Tract,
            "ends_in_softmax",
            "operator 6 is SOFTMAX (version 2), which tract 0.23 computes incorrectly",
        ),
        (Tract, "concat_of_two_scales", "operator 4 is CONCATENATION (version 2), which tract computes"),
        (Tract, "uint8_input", "operator 0 is QUANTIZE (version 1), which tract is not known"),
        (Auto, "float_input", "input \"rgb\": expected int8 or uint8, found float32"),
        (Auto, "wrong_scale_input", "expected raw RGB bytes (scale 1, zero point -128), found scale 0.5"),
        (Auto, "four_channel_input", "expected 1 x height x width x 3, found 1 x 16 x 16 x 4"),
        (Auto, "two_outputs", "expected one output, found 2"),
    ] {
        if choice == Tract && !cfg!(feature = "tract") {
            continue;
        }
        let error =
            engine::open(&read(&format!("graphs/{name}.tflite")), choice, None, &[]).unwrap_err().to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
}

/// tract is an independent implementation of the schema. Rotated and mirrored photos are further inputs.
#[cfg(feature = "tract")]
#[test]
fn native_and_tract_agree_on_the_best_class() {
    let golden: Golden = serde_json::from_slice(&read("golden/golden.json")).unwrap();
    let engines = [Choice::Native, Choice::Tract]
        .map(|choice| engine::open(&shipped_model(), choice, None, &[]).unwrap());
    let mut sessions = engines.each_ref().map(|engine| engine.session().unwrap());
    let signature = engines[0].signature();
    for photo in &golden.photos {
        let upright = image::open(data("golden").join(&photo.file)).unwrap();
        let variants = [upright.clone(), upright.fliph(), upright.rotate90(), upright.rotate180().fliph()];
        for (variant, image) in variants.iter().enumerate() {
            let image = image.to_rgb8();
            let [native, tract] =
                sessions.each_mut().map(|s| scores(s.run(image.as_raw()).unwrap(), signature));
            let best =
                |scores: &[f32]| (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap();
            let (ours, theirs) = (best(&native), best(&tract));
            // Classes whose logits differ by at most one quantization step of the map count as equal.
            let is_near = (native[ours].ln() - native[theirs].ln()).abs() <= signature.scale;
            assert!(ours == theirs || is_near, "{} variant {variant}: {ours} and {theirs}", photo.file);
        }
    }
}

/// Model files may be truncated, corrupted or overwritten.
#[test]
fn corrupted_models_do_not_panic() {
    let whole = read("graphs/tiny.tflite");
    for len in 0..whole.len() {
        // The bytes that are cut off may be unused, so this may load.
        drop(engine::open(&whole[..len], Choice::Native, None, &[]));
    }
    assert!(engine::open(&shipped_model()[..600_000], Choice::Auto, None, &[]).is_err());
    for position in 0..whole.len() {
        let mut corrupted = whole.clone();
        corrupted[position] ^= 0xff;
        drop(engine::open(&corrupted, Choice::Native, None, &[]));
    }
    let mut random = 1u64;
    let mut byte = || {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 56) as u8
    };
    for _ in 0..2000 {
        let mut corrupted = whole.clone();
        for _ in 0..8 {
            let position = (usize::from(byte()) << 8 | usize::from(byte())) % corrupted.len();
            corrupted[position] = byte();
        }
        drop(engine::open(&corrupted, Choice::Native, None, &[]));
    }
}
