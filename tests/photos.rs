//! `classify` and `bench`: photos through the daemon's own eyes.

use crate::support::{camfire_output, root, stderr, stdout};
use serde_json::Value;

fn golden(name: &str) -> String {
    root().join("engine/tests/data/golden").join(name).display().to_string()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn photos_are_classified_as_litert_does() {
    let text = std::fs::read_to_string(golden("golden.json")).unwrap();
    let recorded: Value = serde_json::from_str(&text).unwrap();
    for photo in recorded["photos"].as_array().unwrap() {
        let output = camfire_output(&["classify", "--json", &golden(photo["file"].as_str().unwrap())]);
        assert!(output.status.success(), "{}", stderr(&output));
        let line = &lines(&stdout(&output))[0];
        let (ours, theirs) = (&line["top"], &photo["top5"]);
        assert_eq!(ours.as_array().unwrap().len(), 5);
        assert_eq!(ours[0]["index"], theirs[0]["index"], "{ours} {theirs}");
        assert_eq!(ours[0]["label"], theirs[0]["label"]);
        let score = |of: &Value| of[0]["score"].as_f64().unwrap();
        assert!((score(ours) - score(theirs)).abs() < 0.05, "{ours} {theirs}");
    }
}

#[test]
fn a_photo_that_is_none_among_good_ones_is_named_and_the_rest_is_done() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(golden("chelsea.png"), folder.path().join("a.png")).unwrap();
    std::fs::write(folder.path().join("b.jpg"), b"\xff\xd8\xff not a photo").unwrap();
    std::fs::copy(golden("coffee.png"), folder.path().join("c.PNG")).unwrap();
    std::fs::write(folder.path().join("notes.txt"), "no photo, and not asked for").unwrap();
    let output = camfire_output(&["classify", "--json", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let files: Vec<String> = lines(&stdout(&output))
        .iter()
        .map(|line| line["file"].as_str().unwrap().rsplit('/').next().unwrap().to_string())
        .collect();
    assert_eq!(files, ["a.png", "c.PNG"]);
    let text = stderr(&output);
    assert!(text.contains("b.jpg: cannot be decoded as a photo"), "{text}");
    assert!(!text.contains("notes.txt"), "{text}");
}

#[test]
fn the_way_a_camera_was_held_is_honoured() {
    // The same photo twice: upright, and stored on its side with the EXIF mark that says so.
    let folder = tempfile::tempdir().unwrap();
    let upright = image::open(golden("chelsea.png")).unwrap().to_rgb8();
    let side = image::imageops::rotate270(&upright);
    let marked = folder.path().join("side.jpg");
    let mut encoder =
        image::codecs::jpeg::JpegEncoder::new_with_quality(std::fs::File::create(&marked).unwrap(), 95);
    // A TIFF header and one entry: orientation 6, "turn right by 90 degrees to see it upright".
    let exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    image::ImageEncoder::set_exif_metadata(&mut encoder, exif.to_vec()).unwrap();
    encoder.encode_image(&side).unwrap();
    let output = camfire_output(&[
        "classify",
        "--json",
        "--top",
        "1",
        &golden("chelsea.png"),
        marked.to_str().unwrap(),
    ]);
    let lines = lines(&stdout(&output));
    assert_eq!(lines[0]["top"][0]["index"], lines[1]["top"][0]["index"], "{lines:?}");
    let score = |line: &Value| line["top"][0]["score"].as_f64().unwrap();
    assert!((score(&lines[0]) - score(&lines[1])).abs() < 0.1, "{lines:?}");
}

#[test]
fn whoever_has_read_enough_is_no_error() {
    // A reader that is gone before the first line, as `head` may be.
    let shell = format!(
        "exec {} classify --json {} {}",
        env!("CARGO_BIN_EXE_camfire"),
        golden("chelsea.png"),
        golden("coffee.png")
    );
    let output = std::process::Command::new("bash")
        .args(["-c", &format!("{{ sleep 0.2; {shell}; }} | true; exit ${{PIPESTATUS[0]}}")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
}

#[test]
fn bench_tells_its_figures() {
    for (engine, found) in [("auto", "native"), ("native", "native"), ("tract", "tract")] {
        let arguments = ["bench", "--seconds", "0.2", "--threads", "2", "--engine", engine, "--json"];
        let output = camfire_output(&arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        let report: Value = serde_json::from_str(stdout(&output).lines().last().unwrap()).unwrap();
        assert!(report["min_ms"].as_f64().unwrap() > 0.0);
        assert!(report["median_ms"].as_f64() >= report["min_ms"].as_f64());
        assert_eq!((report["engine"].as_str(), report["threads"].as_u64()), (Some(found), Some(2)));
        assert!(report["kernel"].is_string());
    }
}

#[test]
fn kernels_can_only_be_lowered_and_give_the_same_scores() {
    let classify = |kernels: &str| {
        let output = camfire_output(&["classify", "--json", "--kernels", kernels, &golden("chelsea.png")]);
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    };
    // Two of the three are of another architecture than this machine's, and lower all the same.
    assert_eq!(classify("scalar"), classify("avx512-vnni"));
    assert_eq!(classify("scalar"), classify("dotprod"));
    let output = camfire_output(&["classify", "--kernels", "mmx", &golden("chelsea.png")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("must be one of scalar, avx2"), "{}", stderr(&output));
}
