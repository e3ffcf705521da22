//! Adaptive decoding: while the scene is still only keyframes are decoded, and when something moves between
//! two keyframes, the frames since the first of them are decoded afterwards.

use crate::support::{Broker, Camfire, Received, launch_to_end};
use jiff::Timestamp;
use serde_json::Value;
use std::path::Path;

/// Frames per second, and frames per keyframe, of the clips made here.
const FPS: u64 = 15;

/// Writes a clip of `still` black frames, `moving` frames with a bouncing ball and `after` black frames.
/// `bframes` is the encoder's number of B-frames; cameras use none.
fn make_clip(to: &Path, still: u64, moving: u64, after: u64, bframes: u64) {
    let part = |pattern: &str, frames: u64| {
        format!(
            "videotestsrc pattern={pattern} num-buffers={frames} ! \
             video/x-raw,format=I420,width=640,height=360,framerate={FPS}/1 ! c. "
        )
    };
    // The raw frames go through a file, because concat's segments would change the encoder's time stamps.
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

/// The result of one clip.
struct Outcome {
    /// Capture times of all detections, in seconds since the first.
    captured_s: Vec<f64>,
    /// The camera's last stats.
    counts: Value,
}

impl Outcome {
    fn count(&self, key: &str) -> u64 {
        self.counts[key].as_u64().unwrap()
    }
}

/// Runs camfire with these clips as cameras `clip0`, `clip1` and so on until all have ended.
fn run(clips: &[&Path], more: &str) -> Vec<Outcome> {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let names: Vec<String> = (0..clips.len()).map(|number| format!("clip{number}")).collect();
    let mut config = String::from("stats.interval = '1s'\n");
    for (name, clip) in names.iter().zip(clips) {
        config += &format!("[cameras.{name}]\nsource = 'file://{}'\nloop = false\n{more}", clip.display());
    }
    let mut camfire = Camfire::run(&config, &broker.flags());
    for name in &names {
        subscriber.wait_state(name, "ended");
    }
    subscriber.clear_topic("/stats");
    subscriber.wait("no pending frame", |message| {
        message.topic.ends_with("/stats")
            && names.iter().all(|name| message.json()["cameras"][name]["pending"] == 0)
    });
    assert!(camfire.end("TERM").success());
    subscriber.wait("offline", |message| message.payload == "offline");
    let messages = subscriber.all();
    let stats = messages.iter().rfind(|message| message.topic.ends_with("/stats")).unwrap().json();
    names
        .iter()
        .map(|name| Outcome {
            captured_s: captured_s(&messages, &format!("/{name}/detections")),
            counts: stats["cameras"][name].clone(),
        })
        .collect()
}

fn captured_s(messages: &[Received], topic: &str) -> Vec<f64> {
    let times: Vec<Timestamp> = messages
        .iter()
        .filter(|message| message.topic.ends_with(topic))
        .map(|message| message.json()["captured_at"].as_str().unwrap().parse().unwrap())
        .collect();
    times.iter().map(|at| at.duration_since(times[0]).as_secs_f64()).collect()
}

#[test]
fn motion_between_two_keyframes_is_analysed_with_its_capture_times() {
    let folder = tempfile::tempdir().unwrap();
    // The ball appears 7 frames after a keyframe and disappears 4 frames after another. After 5 s without
    // motion a scene is still.
    let (still, moving, after) = (7 * FPS + 7, FPS + 12, 2 * FPS);
    let clips = [0, 2].map(|bframes| {
        let clip = folder.path().join(format!("b{bframes}.mp4"));
        make_clip(&clip, still, moving, after, bframes);
        clip
    });
    for outcome in run(&[&clips[0], &clips[1]], "") {
        let Outcome { captured_s, counts } = &outcome;
        println!("{captured_s:.2?} {counts}");
        // Some of the still frames were not decoded...
        assert!(outcome.count("skipped_still") >= FPS, "{counts}");
        assert_eq!(outcome.count("captured"), still + moving + after, "{counts}");
        assert_eq!((outcome.count("shed"), outcome.count("failed")), (0, 0), "{counts}");
        // ...and yet the ball was analysed five times per second, from the frame in which it appeared.
        let start = still as f64 / FPS as f64;
        let count_between =
            |from: f64, to: f64| captured_s.iter().filter(|&&at| at > from && at < to).count();
        let with_ball = count_between(start - 0.07, start + moving as f64 / FPS as f64);
        // A busy machine may drop frames, but not those that are decoded afterwards.
        let expected = 5.0 * moving as f64 / FPS as f64;
        assert!(
            with_ball as f64 + outcome.count("dropped") as f64 >= 0.9 * expected,
            "{captured_s:.2?} {counts}"
        );
        let before_keyframe = count_between(start - 0.07, start.ceil() - 0.03);
        assert!(before_keyframe >= 2, "{captured_s:.2?}");
        assert!(captured_s.is_sorted(), "{captured_s:.2?}");
    }
}

#[test]
fn decode_keyframes_and_decode_all_analyse_the_expected_frames() {
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("clip.mp4");
    make_clip(&clip, 3 * FPS, FPS, FPS, 0);
    // Detections are not counted: publishing keeps only the newest when frames arrive faster.
    let keyframes = &run(&[&clip], "realtime = false\ndecode = 'keyframes'\n")[0];
    assert_eq!(keyframes.count("analysed"), 5, "{}", keyframes.counts);
    assert_eq!(keyframes.count("skipped_rate"), 5 * (FPS - 1), "{}", keyframes.counts);
    let all = &run(&[&clip], "realtime = false\ndecode = 'all'\nrate_fps = 15\n")[0];
    assert_eq!(all.count("analysed"), 5 * FPS, "{}", all.counts);
}
