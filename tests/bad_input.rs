//! Invalid input: the error message names the location, the exit status is 2, and nothing panics.

use crate::support::{camfire_output, camfire_without_root, root, stderr, stdout};
use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

fn model_bytes() -> Vec<u8> {
    std::fs::read(root().join("models/squeezenet_v1.1_int8.tflite")).unwrap()
}

/// Runs with this configuration, expects exit status 2 and returns stderr.
fn refused(config: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("camfire.toml");
    std::fs::write(&file, config).unwrap();
    let output = camfire_output(&["run", "--config", file.to_str().unwrap()]);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    text.replace(&file.display().to_string(), "camfire.toml")
}

#[test]
fn every_mistake_in_the_configuration_is_reported() {
    let text = refused(
        "[mqtt]\nport = 70000\nhots = 'broker'\n[cameras.yard]\nsource = 'ftp://cam/stream'\n\
         rate_fps = 'often'\n[cameras.'a/b']\nsource = 'test://'\n",
    );
    for place in [
        "camfire.toml:2: mqtt.port",
        "camfire.toml:3: mqtt.hots",
        "camfire.toml:5: cameras.yard.source",
        "camfire.toml:6: cameras.yard.rate_fps",
        "camfire.toml:7: cameras.\"a/b\"",
    ] {
        assert!(text.contains(place), "{place} in\n{text}");
    }
    assert!(text.contains("did you mean"), "{text}");
}

#[test]
fn a_template_option_out_of_range_is_refused() {
    let text = refused("[cameras.yard]\nsource = 'test://'\noptions = { width = 7 }\n");
    let expected =
        "camfire.toml:3: cameras.yard.options.width = 7: must be a whole number from 16 to 7680, not 7";
    assert!(text.contains(expected), "{text}");
}

fn classify_with_model(model: &Path) -> (Option<i32>, String) {
    let photo = root().join("engine/tests/data/golden/chelsea.png");
    let output = camfire_output(&["classify", "--model", model.to_str().unwrap(), photo.to_str().unwrap()]);
    (output.status.code(), stderr(&output))
}

fn assert_model_refused(name: &str, bytes: &[u8], reason: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(name);
    std::fs::write(&file, bytes).unwrap();
    let (code, text) = classify_with_model(&file);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains(reason) && text.contains(name) && !text.contains("panicked"), "{text}");
}

#[test]
fn a_file_that_is_not_a_model_is_refused() {
    let (code, text) = classify_with_model(Path::new("/nowhere/model.tflite"));
    assert_eq!(code, Some(2));
    assert!(text.contains("model /nowhere/model.tflite: No such file"), "{text}");

    let whole = model_bytes();
    assert_model_refused("empty.tflite", b"", "not a valid .tflite model");
    assert_model_refused("cut.tflite", &whole[..whole.len() / 2], "model");
    let mut random = 12345u64;
    let mut noise: Vec<u8> = (0..4096)
        .map(|_| {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (random >> 56) as u8
        })
        .collect();
    assert_model_refused("noise.tflite", &noise, "not a valid .tflite model");
    // With the file identifier in the right place, parsing must find the error.
    noise[4..8].copy_from_slice(b"TFL3");
    assert_model_refused("identifier.tflite", &noise, "model");
}

#[test]
fn run_refuses_a_truncated_model_and_a_wrong_number_of_labels() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| -> PathBuf {
        let file = folder.path().join(name);
        std::fs::write(&file, bytes).unwrap();
        file
    };
    let camera = "[cameras.yard]\nsource = 'test://'\n";
    let cut = write("cut.tflite", &model_bytes()[..1000]);
    let text = refused(&format!("engine.model = '{}'\n{camera}", cut.display()));
    assert!(text.contains("cut.tflite"), "{text}");
    let labels = write("labels.txt", b"cat\ndog\n");
    let text = refused(&format!("engine.labels = '{}'\n{camera}", labels.display()));
    assert!(text.contains("2 labels for a model of 1000 classes"), "{text}");
}

#[test]
fn check_reports_all_problems_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("camfire.toml");
    std::fs::write(
        &file,
        "engine.model = '/nowhere/m.tflite'\n\
         [cameras.clip]\nsource = 'file:///nowhere/clip.mp4'\n\
         [cameras.own]\nsource = 'custom'\nlaunch = 'nosuchsrc ! fakesink'\n",
    )
    .unwrap();
    let output = camfire_output(&["check", "--config", file.to_str().unwrap()]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    for problem in [
        "toml:1: engine.model = '/nowhere/m.tflite': model /nowhere/m.tflite: No such file",
        "toml:3: cameras.clip.source = 'file:///nowhere/clip.mp4': /nowhere/clip.mp4: No such file",
        "toml:6: cameras.own.launch = 'nosuchsrc ! fakesink': element nosuchsrc is missing",
    ] {
        assert!(text.contains(problem), "{problem} in\n{text}");
    }
    // A pipeline that is named and not available here, and files that are none.
    std::fs::write(
        &file,
        "[cameras.board]\nsource = 'csi://0'\n\
         [cameras.door]\nsource = 'rtsp://10.0.0.5/s'\npipeline = 'rtsp-h264-jetson'\n\
         [cameras.clip]\nsource = 'file:///dev/zero'\n",
    )
    .unwrap();
    let text = stdout(&camfire_output(&["check", "--config", file.to_str().unwrap()]));
    for problem in [
        "toml:2: cameras.board.source = 'csi://0': element nvarguscamerasrc is missing",
        "toml:5: cameras.door.pipeline = 'rtsp-h264-jetson': ",
        "toml:7: cameras.clip.source = 'file:///dev/zero': /dev/zero: is not a regular file",
    ] {
        assert!(text.contains(problem), "{problem} in\n{text}");
    }
    std::fs::write(&file, "[cameras.yard]\nsource = 'test://'\n").unwrap();
    let output = camfire_output(&["check", "--config", file.to_str().unwrap()]);
    assert!(output.status.success() && stdout(&output).starts_with("ok: "), "{}", stdout(&output));
}

#[test]
fn check_reports_configuration_errors_as_json_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("camfire.toml");
    std::fs::write(&file, "[mqtt]\nport = 0\n[nope]\nx = 1\n").unwrap();
    let output = camfire_output(&["check", "--json", "--config", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let kinds: Vec<String> = stdout(&output)
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|line| line["kind"].as_str().unwrap().to_string())
        .collect();
    assert_eq!(kinds, ["problem", "problem"]);
}

#[test]
fn check_warns_of_a_configuration_that_others_can_change_and_reports_one_that_it_cannot_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("camfire.toml");
    std::fs::write(&file, "[cameras.test]\nsource = 'test://'\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
    let check = camfire_output(&["check", "--config", file.to_str().unwrap()]);
    let text = stdout(&check);
    assert!(check.status.success() && text.contains("camfire.toml: can be changed by all users"), "{text}");

    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o000)).unwrap();
    let mut check = camfire_without_root(folder.path());
    let check = check.args(["check", "--config", file.to_str().unwrap()]).output().unwrap();
    let text = stdout(&check);
    assert_eq!(check.status.code(), Some(2), "{text}");
    assert!(text.contains("camfire.toml: cannot be read: Permission denied"), "{text}");
}
