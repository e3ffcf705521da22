//! Every kind of source that works on a machine without cameras, and the status of cameras that fail.

use crate::support::{
    Broker, Camfire, Subscriber, camfire_output, camfire_without_root, clip,
    http::HttpServer,
    launch_to_end, root,
    rtsp::{RtspServer, Stream},
    send_signal, stderr, stdout,
};
use std::{os::unix::fs::PermissionsExt, path::Path};

fn camera(source: &str, more: &str) -> String {
    format!("[cameras.yard]\nsource = '{source}'\n{more}")
}

#[test]
fn a_camera_that_goes_away_is_live_again_when_it_is_back() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let mut server = RtspServer::start(&Stream::clip());
    let _camfire = Camfire::run(&camera(&server.url(), "stall_timeout = '3s'"), &broker.flags());
    let status = subscriber.wait_state("yard", "live");
    assert_eq!(status["pipeline"], "rtsp-h264-software");
    subscriber.wait_topic("/yard/detections");

    server.kill();
    subscriber.wait_state("yard", "unreachable");
    subscriber.clear();
    let _server = RtspServer::start_on(server.port, &Stream::clip());
    subscriber.wait_state("yard", "live");
    subscriber.wait_topic("/yard/detections");
}

#[test]
fn an_rtsp_password_is_used_and_neither_logged_nor_published() {
    let broker = Broker::start();
    let server = RtspServer::start(&Stream::clip().with_login("watcher", "s3c@r:e/t"));
    let url = server.url();
    {
        let subscriber = broker.subscribe();
        let login = "user = 'watcher'\npassword = 'wr0ng-one'";
        let camfire = Camfire::run(&camera(&url, login), &broker.flags());
        let status = subscriber.wait_state("yard", "denied");
        let reason = status["reason"].as_str().unwrap().to_lowercase();
        assert!(reason.contains("unauthorized") || reason.contains("authenticat"), "{reason}");
        assert!(!camfire.log().contains("wr0ng-one") && !reason.contains("wr0ng-one"));
    }
    let subscriber = broker.subscribe();
    let login = "user = 'watcher'\npassword = 's3c@r:e/t'";
    let camfire = Camfire::run(&camera(&url, login), &broker.flags());
    subscriber.wait_topic("/yard/detections");
    // The same in the URL, where it is percent-encoded.
    drop(camfire);
    subscriber.clear();
    let url = format!("rtsp://watcher:s3c%40r%3Ae%2Ft@127.0.0.1:{}/cam", server.port);
    let camfire = Camfire::run(&camera(&url, ""), &broker.flags());
    subscriber.wait_topic("/yard/detections");
    assert!(!camfire.log().contains("s3c"), "{}", camfire.log());
    for message in subscriber.all() {
        assert!(!message.payload.contains("s3c"), "{}", message.payload);
    }
}

#[test]
fn a_clip_without_loop_ends_after_its_last_frame() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let config = camera(&clip(), "loop = false\nrealtime = false\nrate_fps = 1");
    let mut camfire = Camfire::run(&config, &broker.flags());
    subscriber.wait_state("yard", "ended");
    assert!(camfire.end("TERM").success());
    subscriber.wait("offline", |message| message.payload == "offline");
    let stats =
        subscriber.all().into_iter().rfind(|message| message.topic.ends_with("/stats")).unwrap().json();
    let counts = &stats["cameras"]["yard"];
    // With realtime = false the clip waits for the workers, so no frame is dropped.
    assert_eq!(counts["dropped"], 0, "{counts}");
    let (captured, analysed) = (counts["captured"].as_u64().unwrap(), counts["analysed"].as_u64().unwrap());
    let truth = std::fs::read_to_string(root().join("assets/demo.truth.json")).unwrap();
    let truth: serde_json::Value = serde_json::from_str(&truth).unwrap();
    assert_eq!(captured, truth["frames"].as_u64().unwrap());
    let seconds = captured / truth["fps"].as_u64().unwrap();
    assert!((seconds..=seconds + 1).contains(&analysed), "{analysed} of {seconds} s");
    let last = subscriber.all().into_iter().rfind(|h| h.topic.ends_with("/yard/detections")).unwrap();
    assert_eq!(last.json()["capture_clock"], "clip");
}

#[test]
fn a_short_clip_is_repeated_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let short = folder.path().join("short clip.mp4");
    cut_first_second(&short);
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let config = camera(&format!("file://{}", short.display()), "rate_fps = 5");
    let _camfire = Camfire::run(&config, &broker.flags());
    subscriber.wait("the third repetition", |message| {
        message.topic.ends_with("/yard/detections") && message.json()["frame"].as_u64().unwrap() > 40
    });
    assert_eq!(states(&subscriber, "yard"), ["starting", "live"]);
}

/// The states of a camera so far, without repetitions.
fn states(subscriber: &Subscriber, camera: &str) -> Vec<String> {
    let ending = format!("/{camera}/status");
    let all = subscriber.all().into_iter().filter(|message| message.topic.ends_with(&ending));
    let mut states: Vec<String> =
        all.map(|message| message.json()["state"].as_str().unwrap().to_string()).collect();
    states.dedup();
    states
}

fn cut_first_second(to: &Path) {
    let from = root().join("assets/demo.mp4");
    launch_to_end(&format!(
        "filesrc location=\"{}\" ! qtdemux ! h264parse ! identity eos-after=16 ! mp4mux ! \
         filesink location=\"{}\"",
        from.display(),
        to.display()
    ));
}

#[test]
fn a_configured_pipeline_is_the_only_one_tried() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let server = RtspServer::start(&Stream::synthetic("x264enc"));
    let config = format!(
        "{}\n[cameras.forced]\nsource = '{}'\npipeline = 'rtsp-h265-software'\n",
        camera(&server.url(), "pipeline = 'rtsp-h264-openh264'"),
        server.url()
    );
    let _camfire = Camfire::run(&config, &broker.flags());
    assert_eq!(subscriber.wait_state("yard", "live")["pipeline"], "rtsp-h264-openh264");
    subscriber.wait_topic("/yard/detections");
    let status = subscriber.wait_state("forced", "unsupported");
    assert!(status["reason"].as_str().unwrap().contains("the camera sends H.264"), "{status}");
}

#[test]
fn a_custom_launch_line_is_used() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let launch = "launch = 'videotestsrc is-live=true ! video/x-raw,format=YUY2,width=321,height=241'";
    let _camfire = Camfire::run(&camera("custom", launch), &broker.flags());
    assert_eq!(subscriber.wait_state("yard", "live")["pipeline"], "custom");
    subscriber.wait_topic("/yard/detections");
}

#[test]
fn failing_cameras_publish_a_reason_and_do_not_affect_others() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("no-video.mp4");
    std::fs::write(&text, "this is a text about cats, no video\n".repeat(99)).unwrap();
    let sound = folder.path().join("sound.ogg");
    let made =
        format!("audiotestsrc num-buffers=50 ! vorbisenc ! oggmux ! filesink location={}", sound.display());
    launch_to_end(&made);
    let config = format!(
        "stats.interval = '1s'\n[cameras.good]\nsource = 'test://ball'\n\
         [cameras.text]\nsource = 'file://{}'\n\
         [cameras.sound]\nsource = 'file://{}'\n\
         [cameras.absent]\nsource = 'file:///nowhere/clip.mp4'\n\
         [cameras.device]\nsource = 'v4l2:///dev/video977'\n\
         [cameras.refused]\nsource = 'rtsp://127.0.0.1:1/cam'\n\
         [cameras.element]\nsource = 'custom'\nlaunch = 'nosuchsrc ! video/x-raw'\n\
         [cameras.silent]\nsource = 'custom'\nstall_timeout = '1s'\nfirst_frame_timeout = '1s'\n\
         launch = 'videotestsrc is-live=true ! identity drop-probability=1.0'\n",
        text.display(),
        sound.display()
    );
    let mut camfire = Camfire::run(&config, &broker.flags());
    let mut reasons = Vec::new();
    for (camera, state) in [
        ("text", "unsupported"),
        ("sound", "unsupported"),
        ("absent", "unreachable"),
        ("device", "unreachable"),
        ("refused", "unreachable"),
        ("element", "unsupported"),
        ("silent", "stalled"),
    ] {
        let reason = subscriber.wait_state(camera, state)["reason"].as_str().unwrap().to_string();
        reasons.push((camera, reason));
    }
    let reason = |camera| reasons.iter().find(|(name, _)| *name == camera).unwrap().1.as_str();
    assert_eq!(reason("sound"), "the source contains no video");
    assert!(reason("absent").contains("/nowhere/clip.mp4"), "{reasons:?}");
    assert!(reason("device").contains("/dev/video977"), "{reasons:?}");
    assert!(reason("refused").to_lowercase().contains("connect"), "{reasons:?}");
    assert!(reason("element").contains("element nosuchsrc is missing"), "{reasons:?}");
    // A failure that repeats is published once.
    subscriber.wait("a third attempt", |message| {
        message.topic.ends_with("/stats")
            && message.json()["cameras"]["refused"]["restarts"].as_u64() >= Some(3)
    });
    let published = subscriber.all().iter().filter(|h| h.topic.ends_with("/refused/status")).count();
    assert_eq!(published, 3, "before it is opened, starting, unreachable");
    subscriber.clear();
    subscriber.wait_topic("/good/detections");
    assert!(camfire.end("TERM").success());
}

#[test]
fn a_decoder_that_is_not_installed_is_named_with_its_package() {
    // GStreamer does not select elements of rank NONE.
    let decoders = ["avdec_h264", "openh264dec", "vah264dec", "v4l2h264dec", "v4l2slh264dec"];
    let ranks: Vec<String> = decoders.iter().map(|decoder| format!("{decoder}:NONE")).collect();
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let config = camera(&clip(), "");
    let environment = [("GST_PLUGIN_FEATURE_RANK", ranks.join(","))];
    let _camfire = Camfire::run_with(&config, &broker.flags(), &environment);
    let status = subscriber.wait_state("yard", "unsupported");
    let reason = status["reason"].as_str().unwrap();
    assert!(reason.contains("H.264") && reason.contains("install gstreamer1.0-libav"), "{reason}");
}

#[test]
fn a_login_that_the_launch_line_cannot_use_is_an_error() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let config = camera("custom", "launch = 'videotestsrc ! video/x-raw'\nuser = 'me'");
    let _camfire = Camfire::run(&config, &broker.flags());
    let status = subscriber.wait_state("yard", "unsupported");
    assert!(status["reason"].as_str().unwrap().contains("no element is named src"), "{status}");
}

/// A temporary directory with `frame.jpg`, an image of 320 x 240 pixels.
fn folder_with_frame() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("frame.jpg");
    launch_to_end(&format!(
        "videotestsrc num-buffers=1 ! video/x-raw,width=320,height=240 ! jpegenc ! filesink location=\"{}\"",
        file.display()
    ));
    folder
}

#[test]
fn http_cameras_send_mjpeg_or_stills() {
    let folder = folder_with_frame();
    let server = HttpServer::start(folder.path().into(), Some("bWU6czNjcmV0"));
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let login = "user = 'me'\npassword = 's3cret'\nrate_fps = 2\n";
    let config = format!(
        "stats.interval = '1s'\n[cameras.video]\nsource = '{}'\n{login}[cameras.still]\nsource = '{}'\n{login}\
         [cameras.denied]\nsource = '{}'\nuser = 'me'\npassword = 'wrong'\n[cameras.nowhere]\nsource = '{}'\n{login}",
        server.url("video"),
        server.url("frame.jpg"),
        server.url("video"),
        server.url("no-such.jpg"),
    );
    let camfire = Camfire::run(&config, &broker.flags());
    assert_eq!(subscriber.wait_state("video", "live")["pipeline"], "http-mjpeg");
    assert_eq!(subscriber.wait_state("still", "live")["pipeline"], "http-stills");
    subscriber.wait_state("denied", "denied");
    subscriber.wait_state("nowhere", "unreachable");
    subscriber.wait("more than one still", |message| {
        message.topic.ends_with("/still/detections") && message.json()["frame"].as_u64() > Some(3)
    });
    // Frames of the stream that are not due are skipped before they are decoded. A still is requested only
    // when one is due, so none is skipped.
    let stats = subscriber.wait("skipped frames", |message| {
        message.topic.ends_with("/stats")
            && message.json()["cameras"]["video"]["skipped_rate"].as_u64() > Some(10)
    });
    let still = &stats.json()["cameras"]["still"];
    assert_eq!((&still["skipped_rate"], &still["restarts"]), (&0.into(), &0.into()), "{still}");
    assert!(!camfire.log().contains("s3cret"), "{}", camfire.log());
}

/// Each still is a stream of its own, and tracks continue from one to the next.
#[test]
fn tracks_continue_across_stills() {
    let folder = tempfile::tempdir().unwrap();
    launch_to_end(&format!(
        "filesrc location=\"{}\" ! qtdemux ! h264parse ! avdec_h264 ! videorate ! video/x-raw,framerate=5/1 ! jpegenc ! \
         multifilesink location=\"{}/%05d.jpg\"",
        root().join("tests/data/scenes/noise.mp4").display(),
        folder.path().display()
    ));
    let server = HttpServer::start(folder.path().into(), None);
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let _camfire = Camfire::run(&camera(&server.url("next.jpg"), "rate_fps = 5"), &broker.flags());
    subscriber.wait("the end of a track", |message| {
        message.topic.ends_with("/yard/events") && message.json()["type"] == "end"
    });
    let events = |kind: &str| -> Vec<serde_json::Value> {
        let all = subscriber.all().into_iter().filter(|message| message.topic.ends_with("/yard/events"));
        all.map(|message| message.json()).filter(|event| event["type"] == kind).collect()
    };
    assert_eq!(events("start")[0]["id"], events("end")[0]["id"], "{:#?}", subscriber.all());
    assert_ne!(events("end")[0]["reason"], "camera_lost");
    assert!(events("end")[0]["duration_s"].as_f64().unwrap() >= 1.0, "{:#?}", events("end"));
    assert_eq!(states(&subscriber, "yard"), ["starting", "live"]);
}

#[test]
fn an_hls_stream_is_played() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().display();
    launch_to_end(&format!(
        "videotestsrc num-buffers=300 pattern=ball ! video/x-raw,width=320,height=240,framerate=15/1 ! \
         x264enc key-int-max=15 ! h264parse ! mpegtsmux ! \
         hlssink location=\"{directory}/part%03d.ts\" playlist-location=\"{directory}/live.m3u8\" target-duration=2 max-files=0"
    ));
    let server = HttpServer::start(folder.path().into(), None);
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let _camfire = Camfire::run(&camera(&server.url("live.m3u8"), ""), &broker.flags());
    assert_eq!(subscriber.wait_state("yard", "live")["pipeline"], "http-hls");
    subscriber.wait_topic("/yard/detections");
}

#[test]
fn a_snapshot_is_taken_from_snapshot_source_if_there_is_one() {
    let folder = folder_with_frame();
    let server = RtspServer::start(&Stream::synthetic("x264enc").with_login("watcher", "s3cret"));
    let large = HttpServer::start(folder.path().into(), Some("d2F0Y2hlcjpzM2NyZXQ="));
    let config = folder.path().join("camfire.toml");
    let login = "user = 'watcher'\npassword = 's3cret'\n";
    let text = format!(
        "[cameras.yard]\nsource = '{}'\n{login}snapshot_source = '{}'\n[cameras.door]\nsource = '{}'\n{login}rotate = 90\n",
        server.url(),
        large.url("frame.jpg"),
        server.url()
    );
    std::fs::write(&config, text).unwrap();
    let snapshot = |camera: &str| {
        let file = folder.path().join(format!("{camera}.jpg"));
        let (config, to) = (config.to_str().unwrap(), file.to_str().unwrap());
        let output = camfire_output(&["snapshot", camera, "--config", config, "--output", to]);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(stdout(&output).contains(to));
        image::image_dimensions(&file).unwrap()
    };
    assert_eq!(snapshot("yard"), (320, 240));
    // Without snapshot_source: the stream itself, 640 x 360, rotated.
    assert_eq!(snapshot("door"), (360, 640));
    let output = camfire_output(&["snapshot", "gate", "--config", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("no camera \"gate\"; the configuration has door, yard"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn unusual_video_is_analysed_or_refused_with_a_reason() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let raw = |caps: &str| {
        format!("videotestsrc is-live=true ! video/x-raw,width=323,height=241,framerate=10/1,{caps}")
    };
    let analysed = [
        ("grey", raw("format=GRAY8")),
        ("half-colour", raw("format=Y42B")),
        ("ten-bit", raw("format=I420_10LE")),
        ("ten-bit-packed", raw("format=v210")),
        ("wide-pixels", raw("format=I420,pixel-aspect-ratio=12/11")),
        ("interlaced", raw("format=I420,interlace-mode=interleaved")),
        ("far-off", format!("{} ! identity ts-offset=3600000000000", raw("format=NV12"))),
    ];
    let fake = |caps: &str| format!("{} ! capssetter caps=video/x-raw,{caps}", raw("format=I420"));
    let refused = [
        ("giant", fake("width=16384,height=16384"), "16384 x 16384"),
        ("short", fake("width=1920,height=1080"), "frames of "),
        ("flat", fake("pixel-aspect-ratio=(fraction)1/1000"), "pixel aspect ratio 0.001"),
    ];
    let mut config = String::new();
    for (name, launch) in analysed.iter().map(|(n, l)| (n, l)).chain(refused.iter().map(|(n, l, _)| (n, l))) {
        config += &format!("[cameras.{name}]\nsource = 'custom'\nlaunch = '{launch}'\nrate_fps = 2\n");
    }
    let mut camfire = Camfire::run(&config, &broker.flags());
    for (name, _) in &analysed {
        subscriber.wait_topic(&format!("/{name}/detections"));
    }
    for (name, _, reason) in &refused {
        let status = subscriber.wait_state(name, "unsupported");
        assert!(status["reason"].as_str().unwrap().contains(reason), "{status}");
    }
    assert!(camfire.end("TERM").success());
}

#[test]
fn packet_loss_does_not_end_the_stream() {
    // One packet in ten is lost, so many frames are incomplete.
    let mut stream = Stream::synthetic("x264enc");
    stream.launch =
        stream.launch.replace("name=pay0 pt=96", "pt=96 mtu=400 ! identity drop-probability=0.1 name=pay0");
    let server = RtspServer::start(&stream);
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let mut camfire = Camfire::run(&camera(&server.url(), "stall_timeout = '20s'"), &broker.flags());
    subscriber.wait_state("yard", "live");
    subscriber.wait("several frames", |message| {
        message.topic.ends_with("/yard/detections") && message.json()["frame"].as_u64() > Some(40)
    });
    assert!(camfire.end("TERM").success());
}

#[test]
fn a_device_that_the_user_may_not_open_is_denied_and_the_group_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let device = folder.path().join("video0");
    std::fs::write(&device, "").unwrap();
    std::fs::set_permissions(&device, PermissionsExt::from_mode(0o000)).unwrap();
    let config = folder.path().join("camfire.toml");
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    std::fs::write(&config, format!("[cameras.usb]\nsource = 'v4l2://{}'\n", device.display())).unwrap();
    std::fs::set_permissions(&config, PermissionsExt::from_mode(0o644)).unwrap();
    let mut camfire = camfire_without_root(folder.path());
    let check = camfire.arg("check").arg("--config").arg(&config).output().unwrap();
    assert!(stdout(&check).contains("usermod -aG video"), "{}", stdout(&check));
    let mut camfire = camfire_without_root(folder.path());
    let mut daemon = camfire.arg("run").arg("--config").arg(&config).args(broker.flags()).spawn().unwrap();
    let status = subscriber.wait_state("usb", "denied");
    assert!(status["reason"].as_str().unwrap().contains("usermod -aG video"), "{status}");
    send_signal("TERM", daemon.id());
    assert!(daemon.wait().unwrap().success());
}
