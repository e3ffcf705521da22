//! Adaptive decoding: while the scene is still only keyframes are decoded, and when something moves between two
//! keyframes, the frames since the first of them are decoded afterwards.

use crate::support::{Broker, Camfire, Received, launch_to_end};
use jiff::Timestamp;
use std::path::Path;

/// Frames per second, and frames per keyframe, of the clips made here.
const FPS: u64 = 15;

/// Writes a clip of `still` black frames, `moving` frames with a bouncing ball and `after` black frames. `bframes` is
/// the encoder's number of B-frames; cameras use none.
fn make_clip(to: &Path, still: u64, moving: u64, after: u64, bframes: u64) {
    let part = |pattern: &str, frames: u64| {
        format!(
            "videotestsrc pattern={pattern} num-buffers={frames} ! \
             video/x-raw,format=I420,width=640,height=360,framerate={FPS}/1 ! c. "
        )
    };
    // The raw frames go through a file, because the segments of concat would change the encoder's time stamps.
    let raw = to.with_extension("yuv");
    let parts = [part("black", still), part("ball", moving), part("black", after)].concat();
    launch_to_end(&format!("concat name=c ! filesink location=\"{}\" {parts}", raw.display()));
    launch_to_end(&format!(
        "filesrc location=\"{}\" ! rawvideoparse format=i420 width=640 height=360 framerate={FPS}/1 ! \
         x264enc key-int-max={FPS} bframes={bframes} option-string=scenecut=0 ! h264parse ! mp4mux ! \
         filesink location=\"{}\"",
        raw.display(),
        to.display()
    ));
}

/// Capture times of all detections, in seconds since the first.
fn captured_s(messages: &[Received]) -> Vec<f64> {
    let times: Vec<Timestamp> = messages
        .iter()
        .filter(|message| message.topic.ends_with("/yard/detections"))
        .map(|message| message.json()["captured_at"].as_str().unwrap().parse().unwrap())
        .collect();
    times.iter().map(|at| at.duration_since(times[0]).as_secs_f64()).collect()
}

/// Runs camfire on the clip. Returns the capture times of the detections and the frame counts.
fn run(clip: &Path, more: &str) -> (Vec<f64>, serde_json::Value) {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let config = format!(
        "stats.interval = '1s'\n[cameras.yard]\nsource = 'file://{}'\nloop = false\n{more}",
        clip.display()
    );
    let mut camfire = Camfire::run(&config, &broker.flags());
    subscriber.wait_state("yard", "ended");
    subscriber.clear_topic("/stats");
    subscriber.wait("no pending frame", |message| {
        message.topic.ends_with("/stats") && message.json()["cameras"]["yard"]["pending"] == 0
    });
    assert!(camfire.end("TERM").success());
    subscriber.wait("offline", |message| message.payload == "offline");
    let stats = subscriber.all().into_iter().rfind(|message| message.topic.ends_with("/stats")).unwrap();
    (captured_s(&subscriber.all()), stats.json()["cameras"]["yard"].clone())
}

#[test]
fn motion_between_two_keyframes_is_analysed_with_its_capture_times() {
    let folder = tempfile::tempdir().unwrap();
    for bframes in [0, 2] {
        let clip = folder.path().join(format!("b{bframes}.mp4"));
        // The ball appears 7 frames after a keyframe and disappears 4 frames after another.
        let (still, moving) = (8 * FPS + 7, FPS + 12);
        make_clip(&clip, still, moving, 2 * FPS, bframes);
        let (captured, counts) = run(&clip, "");
        println!("bframes {bframes}: {captured:.2?} {counts}");
        let count = |key: &str| counts[key].as_u64().unwrap();
        // Some of the still frames were not decoded...
        assert!(count("skipped_still") >= FPS, "{counts}");
        assert_eq!(count("captured"), still + moving + 2 * FPS, "{counts}");
        assert_eq!((count("shed"), count("failed")), (0, 0), "{counts}");
        // ...and yet the ball was analysed five times per second, from the frame in which it appeared.
        let start = still as f64 / FPS as f64;
        let with_ball =
            captured.iter().filter(|&&at| at > start - 0.07 && at < start + moving as f64 / FPS as f64);
        // A busy machine may drop frames, but not those that are decoded afterwards.
        let expected = 5.0 * moving as f64 / FPS as f64;
        assert!(
            with_ball.count() as f64 + count("dropped") as f64 >= 0.9 * expected,
            "{captured:.2?} {counts}"
        );
        let decoded_later = captured.iter().filter(|&&at| at > start - 0.07 && at < 8.97).count();
        assert!(decoded_later >= 2, "{captured:.2?}");
        assert!(captured.is_sorted(), "{captured:.2?}");
    }
}

#[test]
fn decode_keyframes_and_decode_all_analyse_the_expected_frames() {
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("clip.mp4");
    make_clip(&clip, 3 * FPS, FPS, FPS, 0);
    // Detections are not counted: publishing keeps only the newest when frames arrive faster.
    let (_, counts) = run(&clip, "realtime = false\ndecode = 'keyframes'\n");
    assert_eq!(counts["analysed"], 5, "{counts}");
    assert_eq!(counts["skipped_rate"], 5 * (FPS - 1));
    let (_, counts) = run(&clip, "realtime = false\ndecode = 'all'\nrate_fps = 15\n");
    assert_eq!(counts["analysed"], 5 * FPS, "{counts}");
}
