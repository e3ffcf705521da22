//! `camfire detect`, and the daemon's analysis with a detector: the built-in one and a user's own.

use crate::support::{camfire_output, root, stderr, stdout};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The file of the built-in detector for wide pictures.
const WIDE: &str = "detector_448x256_int8.tflite";

fn path(relative: &str) -> String {
    root().join(relative).display().to_string()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The built-in detector as files of a user, with another text in its description.
fn own_detector(folder: &Path, from: &str, to: &str) -> PathBuf {
    let network = folder.join("own.tflite");
    let copy = |from: &str, to: &Path| std::fs::copy(root().join("models/detector").join(from), to).unwrap();
    copy("detector_320_int8.tflite", &network);
    copy(WIDE, &folder.join(WIDE));
    let layout = std::fs::read_to_string(root().join("models/detector/detector_320_int8.toml")).unwrap();
    assert!(layout.contains(from), "{from}");
    std::fs::write(folder.join("own.toml"), layout.replace(from, to)).unwrap();
    network
}

/// A photo of a person, 227 x 227.
fn photo(folder: &Path) -> PathBuf {
    let file = folder.join("person.png");
    std::fs::copy(root().join("engine/tests/data/golden/astronaut.png"), &file).unwrap();
    file
}

#[test]
fn photos_give_a_line_each_with_boxes_within_them() {
    let folder = tempfile::tempdir().unwrap();
    let shown = photo(folder.path());
    std::fs::write(folder.path().join("broken.jpg"), b"\xff\xd8\xff no photo").unwrap();
    let output = camfire_output(&["detect", "--json", "--min-score", "0.1", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "one photo is broken");
    assert!(stderr(&output).contains("broken.jpg: cannot be decoded"), "{}", stderr(&output));
    let [line] = &lines(&stdout(&output))[..] else { panic!("{}", stdout(&output)) };
    assert_eq!(line["file"], shown.to_str().unwrap());
    assert_eq!(line["size"], serde_json::json!([227, 227]));
    let objects = line["objects"].as_array().unwrap();
    assert!(!objects.is_empty());
    let mut last = 1.0;
    for object in objects {
        assert!(["person", "vehicle", "two-wheeler"].contains(&object["label"].as_str().unwrap()));
        let [left, top, width, height] = [0, 1, 2, 3].map(|index| object["box"][index].as_i64().unwrap());
        assert!(left >= 0 && top >= 0 && width > 0 && height > 0, "{object}");
        assert!(left + width <= 227 && top + height <= 227, "{object}");
        let score = object["score"].as_f64().unwrap();
        assert!((0.1..=last).contains(&score), "{object}");
        last = score;
    }
    // Fewer with a higher score, and the same text without JSON.
    let output = camfire_output(&["detect", "--min-score", "1", shown.to_str().unwrap()]);
    assert_eq!(stdout(&output), format!("{}: nothing\n", shown.display()));
}

#[test]
fn a_detector_of_the_users_own_has_its_own_labels() {
    let folder = tempfile::tempdir().unwrap();
    let own = own_detector(folder.path(), "[\"person\", \"vehicle\"", "[\"somebody\", \"\"");
    let shown = photo(folder.path());
    let detect = |more: &[&str]| {
        let arguments = [&["detect", "--json", "--min-score", "0.1", shown.to_str().unwrap()], more].concat();
        let output = camfire_output(&arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        lines(&stdout(&output)).remove(0)["objects"].as_array().unwrap().clone()
    };
    let (ours, built_in) = (detect(&["--detector", own.to_str().unwrap()]), detect(&[]));
    let of = |objects: &[Value], label: &str| {
        objects
            .iter()
            .filter(|object| object["label"] == label)
            .map(|object| object["box"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(of(&ours, "somebody"), of(&built_in, "person"));
    // The other order of colours.
    let bgr = own_detector(folder.path(), "strides", "colours = \"bgr\"\nstrides");
    let found = detect(&["--detector", bgr.to_str().unwrap()]);
    assert!(!found.is_empty() && found != built_in);
    // A square photo fills a square input wherever it lies.
    let centred = own_detector(folder.path(), "strides", "position = \"centre\"\nstrides");
    assert_eq!(detect(&["--detector", centred.to_str().unwrap()]), built_in);
    assert!(of(&ours, "vehicle").is_empty() && of(&ours, "").is_empty(), "an empty label is ignored");
}

#[test]
fn a_wide_photo_goes_to_the_input_of_its_proportions() {
    let folder = tempfile::tempdir().unwrap();
    let shown = photo(folder.path());
    let wide = folder.path().join("wide.png");
    image::open(&shown).unwrap().crop_imm(0, 0, 227, 128).save(&wide).unwrap();
    let detect = |more: &[&str]| {
        let files = [shown.to_str().unwrap(), wide.to_str().unwrap()];
        let output = camfire_output(&[&["detect", "--json", "--min-score", "0.1"], more, &files].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        lines(&stdout(&output)).iter().map(|line| line["objects"].clone()).collect::<Vec<_>>()
    };
    let built_in = detect(&[]);
    let own = |from: &str, to: &str| own_detector(folder.path(), from, to).display().to_string();
    assert_eq!(detect(&["--detector", &own("strides", "strides")]), built_in, "the same files");
    let square_only = detect(&["--detector", &own("other_sizes = [", "other_sizes = [] #")]);
    assert_eq!(square_only[0], built_in[0], "a square photo");
    assert_ne!(square_only[1], built_in[1], "a wide photo");
    own("strides", "strides");
    std::fs::rename(folder.path().join("own.toml"), folder.path().join(WIDE).with_extension("toml")).unwrap();
    let layout = folder.path().join(WIDE).with_extension("toml");
    let text = std::fs::read_to_string(&layout).unwrap().replace(&format!("\"{WIDE}\""), "");
    std::fs::write(layout, text).unwrap();
    let wide_only = detect(&["--detector", folder.path().join(WIDE).to_str().unwrap()]);
    assert_eq!(wide_only[1], built_in[1]);
    assert_ne!(wide_only[0], built_in[0]);
}

#[test]
fn a_detector_that_does_not_fit_is_refused_with_key_and_shape() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |network: &Path, expected: &str| {
        let photo = path("engine/tests/data/golden/chelsea.png");
        let output = camfire_output(&["detect", "--detector", network.to_str().unwrap(), &photo]);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(expected) && !text.contains("panicked"), "{expected}: {text}");
    };
    let own = |from: &str, to: &str| own_detector(folder.path(), from, to);
    refused(
        &own("strides = [8, 16, 32]", "strides = [8, 16, 64]"),
        "own.tflite: own.toml: boxes.outputs: output",
    );
    refused(&own("\"box32\"", "\"box64\""), "there is no output \"box64\"; the network has");
    refused(&own("min_score = 0.45", "min_score = 2.0"), "own.toml: min_score: must be 0 to 1");
    refused(&own("[boxes]", "[boxes"), "own.toml:");
    let other = |file: &str| own(WIDE, file);
    refused(&other("other.tflite"), "other.tflite: No such file");
    refused(
        &other("/etc/passwd"),
        "own.toml: other_sizes: there must be at most 4 names of files beside this one",
    );
    refused(&other("own.tflite"), "own.tflite: its input is 320 x 320, as that of another file");
    let network = own("strides", "strides");
    std::fs::remove_file(folder.path().join("own.toml")).unwrap();
    refused(&network, "own.toml: No such file");
    let whole = std::fs::read(&network).unwrap();
    own("strides", "strides");
    std::fs::write(&network, &whole[..whole.len() / 2]).unwrap();
    refused(&network, "own.tflite");

    // The daemon says the same, by the configuration's key.
    let check = |detector: &str| {
        let set = format!("engine.detector={detector}");
        let output = camfire_output(&["check", "--config", &path("config/demo.toml"), "--set", &set]);
        assert!(!output.status.success());
        format!("{}{}", stdout(&output), stderr(&output))
    };
    let text = check(network.to_str().unwrap());
    assert!(text.contains("engine.detector") && text.contains("own.tflite"), "{text}");
    assert!(
        check("yolo").contains("must be \"motion\", \"squeezenet\" or a .tflite file"),
        "{}",
        check("yolo")
    );
    let nameless = own("[\"person\", \"vehicle\", \"two-wheeler\", \"\"]", "[\"a\", \"b\", \"c\", \"d\"]");
    assert!(check(nameless.to_str().unwrap()).contains("none of its labels is an everyday label"));
}

#[test]
fn the_analysis_with_a_detector_is_the_same_every_time() {
    let analyze = |detector: &str| {
        let (clip, set) = (path("assets/demo.mp4"), format!("engine.detector={detector}"));
        let rate = ["--set", "cameras.clip.rate_fps=1"];
        let arguments = [&["analyze", &clip, "--json", "--detections", "--set", &set], &rate[..]].concat();
        let output = camfire_output(&arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    };
    let first = analyze("squeezenet");
    let detection = first.lines().find(|line| line.contains("/detections")).expect("detections");
    let detection: Value = serde_json::from_str(detection).unwrap();
    assert_eq!(detection["payload"]["model"]["detector"]["name"], "camfire");
    assert!(first == analyze("squeezenet"), "two runs give the same bytes");
    assert!(first != analyze("motion"), "the detector has a say");
}
