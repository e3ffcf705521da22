//! The everyday labels: head files, good and bad, and what `camfire classify` and `camfire check` make of
//! them.

use crate::support::{camfire_output, root, stderr, stdout};
use serde_json::Value;
use std::{collections::BTreeMap, path::Path};

const HEAD: &str = "models/everyday/squeezenet_v1.1.head.safetensors";
const NETWORK: &str = "models/squeezenet_v1.1_int8.tflite";

fn path(name: &str) -> String {
    root().join(name).display().to_string()
}

fn photo(name: &str) -> String {
    path(&format!("engine/tests/data/golden/{name}"))
}

/// The output of `camfire classify --json` for one photo.
fn classify(photo: &str, more: &[&str]) -> Value {
    let output = camfire_output(&[&["classify", "--json", photo], more].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

/// The scores of the everyday head's outputs, by label.
fn outputs(line: &Value) -> BTreeMap<String, f64> {
    let output =
        |output: &Value| (output["label"].as_str().unwrap().to_string(), output["score"].as_f64().unwrap());
    line["everyday"].as_array().unwrap().iter().map(output).collect()
}

/// The shipped head with some of its bytes replaced by others of the same length.
fn changed_head(folder: &Path, from: &str, to: &str) -> String {
    assert_eq!(from.len(), to.len());
    let mut bytes = std::fs::read(root().join(HEAD)).unwrap();
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    let file = folder.join("changed.safetensors");
    std::fs::write(&file, bytes).unwrap();
    file.display().to_string()
}

#[test]
fn classify_lists_all_outputs_of_the_everyday_head_best_first() {
    let line = classify(&photo("chelsea.png"), &[]);
    let listed = line["everyday"].as_array().unwrap();
    assert_eq!(listed[0]["label"], "cat", "{listed:?}");
    let scores: Vec<f64> = listed.iter().map(|output| output["score"].as_f64().unwrap()).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b) && (scores.iter().sum::<f64>() - 1.0).abs() < 0.002);
    for label in ["person", "car", "truck", "bus", "motorcycle", "bicycle", "dog", "cat", "bird", "none"] {
        assert!(outputs(&line).contains_key(label), "{label}: {listed:?}");
    }
    assert_eq!(line["top"][0]["label"], "Egyptian cat");
    let coffee = classify(&photo("coffee.png"), &[]);
    assert_eq!(coffee["everyday"][0]["label"], "none", "{coffee}");
    let text = stdout(&camfire_output(&["classify", &photo("chelsea.png")]));
    assert!(text.contains(": cat 0.") || text.contains(": cat 1."), "{text}");
}

#[test]
fn the_head_can_be_another_one_or_off() {
    let off = classify(&photo("chelsea.png"), &["--everyday-head", "off"]);
    assert_eq!((&off["everyday"], &off["top"][0]["label"]), (&Value::Null, &"Egyptian cat".into()));
    // Another network has none, because a head goes with one network only.
    let other = classify(&photo("chelsea.png"), &["--model", &path(NETWORK)]);
    assert_eq!(other["everyday"], Value::Null);
    // The head beside the network with the classes, and the same with a network of its own.
    let shared = classify(&photo("chelsea.png"), &["--everyday-head", &path(HEAD)]);
    let own = classify(
        &photo("chelsea.png"),
        &["--everyday-head", &path(HEAD), "--everyday-model", &path(NETWORK)],
    );
    assert_eq!((&shared["everyday"], &shared["top"]), (&own["everyday"], &own["top"]));
    let tract = classify(&photo("chelsea.png"), &["--everyday-head", &path(HEAD), "--engine", "tract"]);
    let difference = outputs(&shared)["cat"] - outputs(&tract)["cat"];
    assert!(difference.abs() < 0.1, "{shared} {tract}");
}

#[test]
fn a_head_that_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |head: &str| {
        let output = camfire_output(&["classify", &photo("chelsea.png"), "--everyday-head", head]);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        stderr(&output)
    };
    let other = changed_head(folder.path(), "50580767", "12345678");
    let text = refused(&other);
    assert!(text.contains("changed.safetensors: was trained on a network with SHA-256 12345678"), "{text}");
    assert!(text.contains("but squeezenet_v1.1_int8 has 50580767"), "{text}");
    let map = changed_head(folder.path(), "fire9/concat", "fire9/cement");
    assert!(refused(&map).contains("fire9/cement"), "{}", refused(&map));
    let narrow = refused(&changed_head(folder.path(), "fire9/concat", "fire7/concat"));
    assert!(narrow.contains("has 512 inputs, but its maps have 384 channels"), "{narrow}");
    let bytes = std::fs::read(root().join(HEAD)).unwrap();
    let short = folder.path().join("short.safetensors");
    for len in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&short, &bytes[..len]).unwrap();
        let text = refused(short.to_str().unwrap());
        assert!(text.contains("short.safetensors: is damaged or no safetensors file"), "{len}: {text}");
    }
    let text = refused(&photo("chelsea.png"));
    assert!(text.contains("chelsea.png: is damaged or no safetensors file"), "{text}");
    assert!(refused("/nonexistent/head").contains("head /nonexistent/head: "));
}

#[test]
fn wrong_names_and_files_in_the_configuration_are_reported_with_their_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("camfire.toml");
    let problems = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let output = camfire_output(&["check", "--config", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        format!("{}{}", stdout(&output), stderr(&output))
    };
    let text = problems(
        "[groups]\nperson = [\"groom\"]\n[cameras.a]\nsource = \"test://\"\nlabels = [\"vehicel\"]\n",
    );
    assert!(text.contains("toml:2: groups.person = [\"groom\"]: is the name of an everyday label"), "{text}");
    assert!(
        text.contains("toml:5: cameras.a.labels = [\"vehicel\"]: has \"vehicel\", which is no label"),
        "{text}"
    );
    assert!(text.contains("did you mean \"vehicle\"?"), "{text}");
    let text = problems("[engine]\neveryday_model = \"x.tflite\"\n");
    assert!(
        text.contains("toml:2: engine.everyday_model = \"x.tflite\": requires engine.everyday_head"),
        "{text}"
    );
    let text = problems("[engine]\neveryday_head = \"/nonexistent\"\n");
    assert!(text.contains("head /nonexistent"), "{text}");
    let text = problems("[objects]\nmax_inferences_per_frame = 4\n");
    assert!(text.contains("objects.inference_budget"), "{text}");
}

#[test]
fn photos_of_extreme_shapes_are_classified() {
    let folder = tempfile::tempdir().unwrap();
    for (width, height) in [(1, 1), (1, 700), (3000, 1), (2, 3)] {
        let file = folder.path().join(format!("{width}x{height}.png"));
        image::RgbImage::from_pixel(width, height, image::Rgb([90, 120, 60])).save(&file).unwrap();
        let scores = outputs(&classify(file.to_str().unwrap(), &[]));
        assert!(scores.values().all(|score| (0.0..=1.0).contains(score)), "{width}x{height}: {scores:?}");
    }
}
