//! `camfire classify` and `camfire bench`, which use the daemon's preprocessing and model.

use crate::support::{camfire, camfire_output, root, stderr, stdout};
use serde_json::Value;
use std::process::Stdio;

fn golden(name: &str) -> String {
    root().join("engine/tests/data/golden").join(name).display().to_string()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn top_class_and_score_agree_with_litert() {
    let text = std::fs::read_to_string(golden("golden.json")).unwrap();
    let recorded: Value = serde_json::from_str(&text).unwrap();
    for photo in recorded["photos"].as_array().unwrap() {
        let output = camfire_output(&["classify", "--json", &golden(photo["file"].as_str().unwrap())]);
        assert!(output.status.success(), "{}", stderr(&output));
        let line = &lines(&stdout(&output))[0];
        let (ours, reference) = (&line["top"], &photo["top5"]);
        assert_eq!(ours.as_array().unwrap().len(), 5);
        assert_eq!(ours[0]["index"], reference[0]["index"], "{ours} {reference}");
        assert_eq!(ours[0]["label"], reference[0]["label"]);
        let score = |of: &Value| of[0]["score"].as_f64().unwrap();
        assert!((score(ours) - score(reference)).abs() < 0.05, "{ours} {reference}");
    }
}

#[test]
fn an_unreadable_photo_is_reported_and_the_others_are_classified() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(golden("chelsea.png"), folder.path().join("a.png")).unwrap();
    std::fs::write(folder.path().join("b.jpg"), b"\xff\xd8\xff not a photo").unwrap();
    std::fs::copy(golden("coffee.png"), folder.path().join("c.PNG")).unwrap();
    std::fs::write(folder.path().join("notes.txt"), "not a photo").unwrap();
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
fn exif_orientation_is_applied() {
    // The same photo twice: upright, and rotated with the EXIF orientation that undoes the rotation.
    let folder = tempfile::tempdir().unwrap();
    let upright = image::open(golden("chelsea.png")).unwrap().to_rgb8();
    let rotated = image::imageops::rotate270(&upright);
    let rotated_file = folder.path().join("rotated.jpg");
    let mut encoder =
        image::codecs::jpeg::JpegEncoder::new_with_quality(std::fs::File::create(&rotated_file).unwrap(), 95);
    // A TIFF header and one entry: orientation 6, "rotate right by 90 degrees to show it upright".
    let exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    image::ImageEncoder::set_exif_metadata(&mut encoder, exif.to_vec()).unwrap();
    encoder.encode_image(&rotated).unwrap();
    let output = camfire_output(&[
        "classify",
        "--json",
        "--top",
        "1",
        &golden("chelsea.png"),
        rotated_file.to_str().unwrap(),
    ]);
    let lines = lines(&stdout(&output));
    assert_eq!(lines[0]["top"][0]["index"], lines[1]["top"][0]["index"], "{lines:?}");
    let score = |line: &Value| line["top"][0]["score"].as_f64().unwrap();
    assert!((score(&lines[0]) - score(&lines[1])).abs() < 0.1, "{lines:?}");
}

#[test]
fn a_reader_that_closes_the_pipe_is_not_an_error() {
    // As in `camfire classify ... | head`, when `head` has exited.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = camfire();
    command.args(["classify", "--json", &golden("chelsea.png"), &golden("coffee.png")]);
    let child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
}

#[test]
fn bench_reports_times_engine_and_kernel() {
    // The fallback engine is slow, so it gets the smaller network.
    let everyday = &["--everyday"][..];
    for (engine, expected, more) in
        [("auto", "native", &[][..]), ("native", "native", &[]), ("tract", "tract", everyday)]
    {
        let arguments = ["bench", "--seconds", "0.2", "--threads", "2", "--engine", engine, "--json"];
        let output = camfire_output(&[&arguments, more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        let report: Value = serde_json::from_str(stdout(&output).lines().last().unwrap()).unwrap();
        assert!(report["min_ms"].as_f64().unwrap() > 0.0);
        assert!(report["median_ms"].as_f64() >= report["min_ms"].as_f64());
        assert_eq!((report["engine"].as_str(), report["threads"].as_u64()), (Some(expected), Some(2)));
        assert!(report["kernel"].is_string());
    }
}

#[test]
fn every_kernel_set_gives_the_same_scores() {
    let classify = |kernels: &str| {
        let output = camfire_output(&["classify", "--json", "--kernels", kernels, &golden("chelsea.png")]);
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    };
    // On any machine one of these is of another architecture, which selects the best set up to that level.
    assert_eq!(classify("scalar"), classify("avx512-vnni"));
    assert_eq!(classify("scalar"), classify("dotprod"));
    let output = camfire_output(&["classify", "--kernels", "mmx", &golden("chelsea.png")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("must be one of scalar, avx2"), "{}", stderr(&output));
}
