//! `camfire analyze`: scores on the short scenes, the same result on every run, annotated clips, bad input.

use crate::support::{camfire, camfire_output, launch_to_end, root, send_signal, stderr, stdout, wait_for};
use gstreamer::prelude::*;
use serde_json::Value;
use std::{
    io::{BufRead, BufReader},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Analyses a scene of `tests/data/scenes` and returns stdout.
fn analyze(scene: &str, more: &[&str]) -> String {
    let clip = root().join(format!("tests/data/scenes/{scene}.mp4"));
    let mut arguments = vec!["analyze", clip.to_str().unwrap(), "--json"];
    arguments.extend(more);
    let output = camfire_output(&arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}

fn score(scene: &str) -> Value {
    let truth = root().join(format!("tests/data/scenes/{scene}.truth.json"));
    // Objects without a label count as well: this is about finding them.
    let labels = "cameras.clip.labels=[\"any\", \"unknown\"]";
    let at_once = ["--set", "objects.name_within=0s"];
    let text =
        analyze(scene, &[&["--truth", truth.to_str().unwrap(), "--set", labels], &at_once[..]].concat());
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    last["score"].clone()
}

fn events(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["topic"].as_str().is_some_and(|topic| topic.ends_with("/events")))
        .map(|line| line["payload"].clone())
        .collect()
}

/// `docs/seeing.md` has the scores of the long scenes. In these short ones a single object weighs much.
#[test]
fn every_object_is_one_event_that_starts_within_three_frames() {
    for scene in ["stop", "light", "noise", "shake"] {
        let score = score(scene);
        let number = |key: &str| score[key].as_f64().unwrap();
        assert_eq!((number("recall"), number("precision")), (1.0, 1.0), "{scene}: {score:#}");
        assert!(number("mean_iou") >= 0.7, "{scene}: {score:#}");
        assert!(score["start_delay_frames"][1].as_f64().unwrap() <= 3.0, "{scene}: {score:#}");
        let [expected, reported, correct] = [0, 1, 2].map(|i| score["scene_changes"][i].as_u64().unwrap());
        assert_eq!((expected, expected), (reported, correct), "{scene}: {score:#}");
    }
    // One of its five objects is occluded nearly all the time.
    let crossing = score("crossing");
    assert!(crossing["precision"] == 1.0 && crossing["recall"].as_f64().unwrap() >= 0.8, "{crossing:#}");
    assert_eq!(score("empty")["events"], 0);
}

#[test]
fn events_do_not_depend_on_the_number_of_workers_or_on_adaptive_decoding() {
    let events_of = |more: &[&str]| analyze("stop", &[&["--detections"], more].concat());
    let first = events_of(&[]);
    assert!(!events(&first).is_empty() && first.contains("/detections"));
    for workers in ["1", "3"] {
        assert_eq!(first, events_of(&["--set", &format!("engine.workers={workers}")]), "{workers} workers");
    }
    // With decode = "auto" only keyframes of a still scene are decoded. Events and times are the same.
    let all = events(&events_of(&["--set", "cameras.clip.decode=all"]));
    let adaptive = events(&first);
    let starts = |events: &[Value]| -> Vec<(String, f64)> {
        let seconds = |event: &Value| {
            let at = event["at"].as_str().unwrap();
            at[14..16].parse::<f64>().unwrap() * 60.0 + at[17..23].parse::<f64>().unwrap()
        };
        let of = |event: &&Value| event["type"] == "start" || event["type"] == "end";
        events.iter().filter(of).map(|event| (event["type"].to_string(), seconds(event))).collect()
    };
    let (all, adaptive) = (starts(&all), starts(&adaptive));
    assert_eq!(all.len(), adaptive.len());
    for ((kind, at), (other_kind, other_at)) in all.iter().zip(&adaptive) {
        assert!(kind == other_kind && (at - other_at).abs() <= 0.4, "{all:?} and {adaptive:?}");
    }
}

#[test]
fn zones_labels_and_masks_are_applied() {
    let right = "cameras.clip.zones.right=[[0.5, 0], [1, 0], [1, 1], [0.5, 1]]";
    let with_zone = events(&analyze("noise", &["--set", right]));
    assert!(with_zone.iter().any(|event| event["changed"][0] == "zones" && event["zones"][0] == "right"));
    let only_cups = events(&analyze("stop", &["--set", "cameras.clip.labels=[\"cup\"]"]));
    assert!(!only_cups.is_empty() && only_cups.iter().all(|event| event["label"] == "cup"), "{only_cups:#?}");
    let masked = analyze("noise", &["--set", "cameras.clip.masks=[[[0, 0], [1, 0], [1, 1], [0, 1]]]"]);
    assert!(events(&masked).is_empty());
}

#[test]
fn an_annotated_clip_is_written_and_can_be_analysed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("annotated.mp4");
    let text = analyze("noise", &["--annotate", file.to_str().unwrap()]);
    assert!(!events(&text).is_empty());
    let again = camfire_output(&["analyze", file.to_str().unwrap(), "--json"]);
    assert!(again.status.success() && !again.stdout.is_empty(), "{}", stderr(&again));
}

/// Writes a clip of `frames` frames of a bouncing ball, 15 per second. `rest` is caps, encoder and container.
fn ball(folder: &Path, name: &str, frames: u32, rest: &str) -> PathBuf {
    let file = folder.join(name);
    let source = format!("videotestsrc num-buffers={frames} pattern=ball");
    launch_to_end(&format!("{source} ! {rest} ! filesink location={}", file.display()));
    file
}

/// Decodes the last frame of a clip: width and height, and the RGB values of its pixels.
fn last_frame(file: &Path) -> ((usize, usize), Vec<[u8; 3]>) {
    let pipeline = gstreamer::parse::launch(&format!(
        "filesrc location={} ! decodebin ! videoconvert ! video/x-raw,format=RGB ! fakesink name=sink sync=false",
        file.display()
    ))
    .unwrap()
    .downcast::<gstreamer::Pipeline>()
    .unwrap();
    pipeline.set_state(gstreamer::State::Playing).unwrap();
    let kinds = [gstreamer::MessageType::Eos, gstreamer::MessageType::Error];
    let bus = pipeline.bus().unwrap();
    let end = bus.timed_pop_filtered(gstreamer::ClockTime::from_seconds(60), &kinds).unwrap();
    assert_eq!(end.type_(), gstreamer::MessageType::Eos, "{end:?}");
    let sample = pipeline.by_name("sink").unwrap().property::<gstreamer::Sample>("last-sample");
    let info = gstreamer_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
    let (width, height, stride) = (info.width() as usize, info.height() as usize, info.stride()[0] as usize);
    let map = sample.buffer().unwrap().map_readable().unwrap();
    let pixels = map
        .chunks(stride)
        .take(height)
        .flat_map(|row| row[..3 * width].chunks_exact(3).map(|rgb| [rgb[0], rgb[1], rgb[2]]))
        .collect();
    drop(map);
    pipeline.set_state(gstreamer::State::Null).unwrap();
    ((width, height), pixels)
}

/// Odd sizes, formats other than 4:2:0, pixels that are not square.
#[test]
fn boxes_are_drawn_around_objects_in_unusual_formats() {
    let folder = tempfile::tempdir().unwrap();
    for (name, rest, size) in [
        (
            "odd.mp4",
            "video/x-raw,format=Y444,width=321,height=241,framerate=15/1 ! x264enc ! mp4mux",
            (322, 242),
        ),
        (
            "grey.mkv",
            "video/x-raw,format=GRAY8,width=320,height=240,framerate=15/1 ! matroskamux",
            (320, 240),
        ),
        (
            "wide.mp4",
            "video/x-raw,format=I420,width=320,height=240,framerate=15/1,pixel-aspect-ratio=2/1 ! x264enc ! mp4mux",
            (320, 240),
        ),
    ] {
        let clip = ball(folder.path(), name, 60, rest);
        let annotated = folder.path().join("annotated.mp4");
        let output =
            camfire_output(&["analyze", clip.to_str().unwrap(), "--annotate", annotated.to_str().unwrap()]);
        assert!(output.status.success(), "{name}: {}", stderr(&output));
        let (found, pixels) = last_frame(&annotated);
        assert_eq!(found, size, "{name}");
        // The ball is white. The sides of its box are left and right of its centre.
        let white: Vec<usize> =
            (0..pixels.len()).filter(|&i| pixels[i].iter().all(|part| *part > 200)).collect();
        let mean =
            |part: &dyn Fn(usize) -> usize| white.iter().map(|&i| part(i)).sum::<usize>() / white.len();
        let (x, y) = (mean(&|i| i % size.0), mean(&|i| i / size.0));
        let is_side = |x: usize| {
            let [red, green, blue] = pixels[y * size.0 + x];
            red > 150 && green > 100 && blue < 120
        };
        let near = |mut columns: std::ops::Range<usize>| columns.any(is_side);
        assert!(near(x.saturating_sub(40)..x) && near(x..(x + 40).min(size.0)), "{name}: ball at {x}, {y}");
    }
}

#[test]
fn zones_masks_and_regions_are_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let caps = "video/x-raw,format=I420,width=320,height=240,framerate=15/1";
    let clip = ball(folder.path(), "ball.mp4", 30, &format!("{caps} ! x264enc ! mp4mux"));
    let annotated = folder.path().join("annotated.mp4");
    let mut arguments = vec!["analyze", clip.to_str().unwrap(), "--annotate", annotated.to_str().unwrap()];
    for set in [
        "cameras.clip.zones.lawn=[[0.1, 0.2], [0.4, 0.2], [0.4, 0.9], [0.1, 0.9]]",
        "cameras.clip.masks=[[[0.6, 0.2], [0.9, 0.2], [0.9, 0.5], [0.6, 0.5]]]",
        "cameras.clip.regions.gate.box=[0.6, 0.7, 0.3, 0.2]",
    ] {
        arguments.extend(["--set", set]);
    }
    let output = camfire_output(&arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    let ((width, _), pixels) = last_frame(&annotated);
    let at = |x: f64, y: f64| pixels[(y * 240.0) as usize * width + (x * 320.0) as usize];
    let [red, green, blue] = at(0.1, 0.6);
    assert!(red < 120 && green > 100 && blue > 100, "the zone's left side: {red} {green} {blue}");
    let [red, green, blue] = at(0.6, 0.4);
    assert!(red > 80 && green < 70 && blue < 70, "the mask's left side: {red} {green} {blue}");
    // The ball's caption may cover a part of it.
    let side: Vec<[u8; 3]> = (72..88).map(|percent| at(0.6, f64::from(percent) / 100.0)).collect();
    assert!(
        side.iter().any(|pixel| pixel.iter().all(|part| *part > 100)),
        "the region's left side: {side:?}"
    );
    // Captions have a background of the zone's colour, above the corner.
    let [red, green, blue] = pixels[(48 - 19) * width + 32 + 38];
    assert!(red < 130 && green > 100 && blue > 100, "the zone's name: {red} {green} {blue}");
}

#[test]
fn the_annotated_clip_never_replaces_the_recording() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (clip, by_link, by_name) = (path("clip.mp4"), path("link.mp4"), path("name.mp4"));
    std::fs::copy(root().join("tests/data/scenes/noise.mp4"), &clip).unwrap();
    symlink(&clip, &by_link).unwrap();
    std::fs::hard_link(&clip, &by_name).unwrap();
    std::fs::create_dir(path("folder.mp4")).unwrap();
    symlink("/dev/full", path("full.mp4")).unwrap();
    let before = std::fs::read(&clip).unwrap();
    for (target, expected) in [
        (clip.clone(), "is the recording itself"),
        (by_link, "is the recording itself"),
        (by_name, "is the recording itself"),
        (path("folder.mp4"), "is a directory"),
        (path("full.mp4"), "is not a regular file"),
        (path("no/such/folder.mp4"), "the directory does not exist"),
        (path("annotated.avi"), "must end in .mp4"),
    ] {
        let output =
            camfire_output(&["analyze", clip.to_str().unwrap(), "--annotate", target.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2), "{}", target.display());
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
        assert!(output.stdout.is_empty(), "refused before the clip is analysed");
    }
    assert!(std::fs::read(&clip).unwrap() == before);
}

/// The names of the files in a directory.
fn names(folder: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    std::fs::read_dir(folder).unwrap().map(name).collect()
}

#[test]
fn a_full_disk_is_reported_and_no_partial_file_remains() {
    let folder = tempfile::tempdir().unwrap();
    let clip = root().join("tests/data/scenes/noise.mp4");
    let camfire = camfire();
    // A file size limit takes the place of a full disk. Its signal must be ignored, so that the write fails.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\""])
        .arg(camfire.get_program())
        .args(["analyze", clip.to_str().unwrap(), "--annotate"])
        .arg(folder.path().join("annotated.mp4"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("annotated.mp4: ") && stderr(&output).contains("too large"),
        "{output:?}"
    );
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn signals_set_the_exit_status_and_no_partial_file_remains() {
    let folder = tempfile::tempdir().unwrap();
    let truth = root().join("assets/demo.truth.json");
    // The first event is printed during the analysis, the score before the annotated clip is written.
    for (signal, code, line) in [("INT", 130, "/events"), ("TERM", 143, "\"score\"")] {
        let mut child = camfire()
            .args(["analyze", "assets/demo.mp4", "--json", "--truth", truth.to_str().unwrap(), "--annotate"])
            .arg(folder.path().join("annotated.mp4"))
            .current_dir(root())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|found| found.unwrap().contains(line)), "{line}");
        send_signal(signal, child.id());
        let status = wait_for("camfire to exit", || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(code), "{signal}");
        assert_eq!(names(folder.path()), [""; 0]);
    }
}

#[test]
fn a_truncated_or_damaged_clip_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let caps = "video/x-raw,format=I420,width=320,height=240,framerate=15/1";
    let rest = format!("{caps} ! x264enc key-int-max=15 ! mp4mux faststart=true");
    let clip = ball(folder.path(), "complete.mp4", 150, &rest);
    let bytes = std::fs::read(&clip).unwrap();
    let cut = folder.path().join("cut.mp4");
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let broken = folder.path().join("broken.mp4");
    let mut noise = bytes.clone();
    (bytes.len() / 2..bytes.len()).step_by(97).for_each(|at| noise[at] = !noise[at]);
    std::fs::write(&broken, noise).unwrap();
    for (clip, expected) in [
        (&clip, None),
        (&cut, Some("it may be truncated or damaged")),
        (&broken, Some("the decoder reported")),
    ] {
        let output = camfire_output(&["analyze", clip.to_str().unwrap()]);
        assert!(output.status.success() && !output.stdout.is_empty(), "{}", stderr(&output));
        match expected {
            Some(expected) => assert!(stderr(&output).contains(expected), "{}", stderr(&output)),
            None => assert_eq!(stderr(&output), ""),
        }
    }
}

#[test]
fn a_file_without_video_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (name, encoder) in [("sound.ogg", "vorbisenc ! oggmux"), ("sound.wav", "wavenc")] {
        let file = folder.path().join(name);
        launch_to_end(&format!(
            "audiotestsrc num-buffers=50 ! {encoder} ! filesink location={}",
            file.display()
        ));
        let output = camfire_output(&["analyze", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(stderr(&output), format!("camfire: {}: the source contains no video\n", file.display()));
    }
}

#[test]
fn a_recording_can_be_given_as_a_file_url() {
    let address = format!("file://{}", root().join("tests/data/scenes/noise.mp4").display());
    let output = camfire_output(&["analyze", &address, "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout(&output), analyze("noise", &[]));
}

#[test]
fn invalid_and_mismatched_ground_truth_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let run = |truth: &str| {
        let file = folder.path().join("t.json");
        std::fs::write(&file, truth).unwrap();
        let clip = root().join("tests/data/scenes/noise.mp4");
        camfire_output(&["analyze", clip.to_str().unwrap(), "--truth", file.to_str().unwrap()])
    };
    for (truth, expected) in [
        ("[]", "must be a JSON object with a list of `objects` (see \"Truth files\" in docs/seeing.md"),
        ("not JSON", "not JSON"),
        (
            r#"{"objects": [{"label": "motorcylce", "first_s": 0, "last_s": 1, "boxes": [{"t_s": 0, "box": [0, 0, 9, 9]}]}]}"#,
            "has \"motorcylce\", which is no label; did you mean \"motorcycle\"?",
        ),
    ] {
        let output = run(truth);
        assert_eq!(output.status.code(), Some(2), "{truth}");
        let text = stderr(&output);
        assert!(text.contains("t.json: ") && text.contains(expected) && !text.contains("struct"), "{text}");
    }
    let output = run(r#"{"clip": "yard.mp4", "frames": 99, "objects": []}"#);
    assert!(output.status.success());
    let text = stderr(&output);
    assert!(
        text.contains("a clip named yard.mp4") && text.contains("99 frames, but the clip has 140"),
        "{text}"
    );
}

#[test]
fn sources_that_cannot_be_analysed_are_refused_with_a_reason() {
    for (arguments, expected) in [
        (vec!["analyze", "no-such-clip.mp4"], "no-such-clip.mp4"),
        (vec!["analyze", "Cargo.toml"], "Cargo.toml"),
        (vec!["analyze", "src"], "src: is a directory"),
        (vec!["analyze", "rtsp://yard/stream"], "is the address of a camera"),
        (
            vec!["analyze", "assets/demo.mp4", "--set", "cameras.yard.rate_fps=2"],
            "--set cameras.yard.rate_fps=2: without --config the only camera is named clip",
        ),
        (vec!["analyze", "assets/demo.mp4", "--truth", "Cargo.toml"], "Cargo.toml"),
        (
            vec!["analyze", "assets/demo.mp4", "--set", "cameras.clip.labels=[\"motorcylce\"]"],
            "did you mean \"motorcycle\"?",
        ),
    ] {
        let output = camfire_output(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
        assert!(!stderr(&output).contains("retrying"), "analyze does not retry: {}", stderr(&output));
    }
}

/// Formats that few cameras use today, some of which have several names.
#[test]
fn old_recordings_are_analysed() {
    let folder = tempfile::tempdir().unwrap();
    for (name, encode_and_mux) in [
        ("divx.avi", "avenc_mpeg4 ! avimux"),
        ("xvid.avi", "avenc_mpeg4 ! avimux"),
        ("msmpeg4.avi", "avenc_msmpeg4 ! avimux"),
        ("wmv1.wmv", "avenc_wmv1 ! asfmux"),
        ("wmv2.wmv", "avenc_wmv2 ! asfmux"),
        ("spark.flv", "avenc_flv ! flvmux"),
        ("h263.avi", "avenc_h263p ! avimux"),
        ("huffyuv.avi", "avenc_huffyuv ! avimux"),
        ("ffv1.mkv", "avenc_ffv1 ! matroskamux"),
        ("mpeg4.mp4", "avenc_mpeg4 ! mp4mux"),
        ("png.mov", "pngenc ! qtmux"),
        ("raw.avi", "avimux"),
    ] {
        let clip = folder.path().join(name);
        launch_to_end(&format!(
            "videotestsrc num-buffers=20 pattern=ball ! video/x-raw,width=320,height=240,framerate=10/1 ! videoconvert ! \
             {encode_and_mux} ! filesink location=\"{}\"",
            clip.display()
        ));
        if name == "xvid.avi" {
            let mut bytes = std::fs::read(&clip).unwrap();
            while let Some(at) = bytes.windows(4).position(|name| name == b"DIVX") {
                bytes[at..at + 4].copy_from_slice(b"XVID");
            }
            std::fs::write(&clip, bytes).unwrap();
        }
        // Fails if there is no frame.
        let output = camfire_output(&["analyze", clip.to_str().unwrap()]);
        assert!(output.status.success(), "{name}: {}", stderr(&output));
    }
}
