//! Adaptive decoding on real streams: a still scene costs keyframes only, and what moves between two of them
//! is caught up.

use crate::support::{Broker, Camfire, Heard, launch_to_end};
use jiff::Timestamp;
use std::path::Path;

/// Frames a second, and a keyframe a second, of the clips made here.
const FPS: u64 = 15;

/// An empty scene of `still` frames, a bouncing ball for `moving`, and the empty scene again for `after`;
/// `bframes` as an encoder for archives would use them, a camera none.
fn make_clip(to: &Path, still: u64, moving: u64, after: u64, bframes: u64) {
    let part = |pattern: &str, frames: u64| {
        format!(
            "videotestsrc pattern={pattern} num-buffers={frames} ! \
             video/x-raw,format=I420,width=640,height=360,framerate={FPS}/1 ! c. "
        )
    };
    // Through a file of plain frames: concat's segments would get into the encoder's time stamps.
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

/// Seconds since the first detection that the frames of all detections were captured.
fn captured_s(heard: &[Heard]) -> Vec<f64> {
    let times: Vec<Timestamp> = heard
        .iter()
        .filter(|heard| heard.topic.ends_with("/yard/detections"))
        .map(|heard| heard.json()["captured_at"].as_str().unwrap().parse().unwrap())
        .collect();
    times.iter().map(|at| at.duration_since(times[0]).as_secs_f64()).collect()
}

fn watch(clip: &Path, more: &str) -> (Vec<f64>, serde_json::Value) {
    let broker = Broker::start();
    let listener = broker.listen();
    let config = format!(
        "stats.interval = '1s'\n[cameras.yard]\nsource = 'file://{}'\nloop = false\n{more}",
        clip.display()
    );
    let mut camfire = Camfire::run(&config, &broker.flags());
    listener.wait_state("yard", "ended");
    listener.forget_topic("/stats");
    listener.wait("the last frame to be done", |heard| {
        heard.topic.ends_with("/stats") && heard.json()["cameras"]["yard"]["pending"] == 0
    });
    assert!(camfire.end("TERM").success());
    listener.wait("the goodbye", |heard| heard.payload == "offline");
    let stats = listener.all().into_iter().rfind(|heard| heard.topic.ends_with("/stats")).unwrap();
    (captured_s(&listener.all()), stats.json()["cameras"]["yard"].clone())
}

#[test]
fn what_moves_between_two_keyframes_is_caught_up_with_its_true_times() {
    let folder = tempfile::tempdir().unwrap();
    for bframes in [0, 2] {
        let clip = folder.path().join(format!("b{bframes}.mp4"));
        // The ball comes 7 frames behind a keyframe and is gone again 4 frames behind another.
        let (still, moving) = (8 * FPS + 7, FPS + 12);
        make_clip(&clip, still, moving, 2 * FPS, bframes);
        let (captured, accounts) = watch(&clip, "");
        println!("bframes {bframes}: {captured:.2?} {accounts}");
        let account = |key: &str| accounts[key].as_u64().unwrap();
        // Rested for some of the still seconds...
        assert!(account("skipped_still") >= FPS, "{accounts}");
        assert_eq!(account("captured"), still + moving + 2 * FPS, "{accounts}");
        assert_eq!((account("shed"), account("failed")), (0, 0), "{accounts}");
        // ...and yet saw the whole ball, five times a second, from the frame it came with.
        let start = still as f64 / FPS as f64;
        let seen =
            captured.iter().filter(|&&at| at > start - 0.07 && at < start + moving as f64 / FPS as f64);
        // A machine that is busy drops some, as it may, but not those that had to be caught up.
        let expected = 5.0 * moving as f64 / FPS as f64;
        assert!(
            seen.count() as f64 + account("dropped") as f64 >= 0.9 * expected,
            "{captured:.2?} {accounts}"
        );
        let caught_up = captured.iter().filter(|&&at| at > start - 0.07 && at < 8.97).count();
        assert!(caught_up >= 2, "{captured:.2?}");
        assert!(captured.is_sorted(), "{captured:.2?}");
    }
}

#[test]
fn keyframes_alone_and_everything_are_what_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("clip.mp4");
    make_clip(&clip, 3 * FPS, FPS, FPS, 0);
    // Frames come faster than they are published, where only the newest counts: the accounts tell.
    let (_, accounts) = watch(&clip, "realtime = false\ndecode = 'keyframes'\n");
    assert_eq!(accounts["analysed"], 5, "{accounts}");
    assert_eq!(accounts["skipped_rate"], 5 * (FPS - 1));
    let (_, accounts) = watch(&clip, "realtime = false\ndecode = 'all'\nrate_fps = 15\n");
    assert_eq!(accounts["analysed"], 5 * FPS, "{accounts}");
}
