//! Every kind of source that can exist on a machine without cameras, and cameras that fail.

use crate::support::{
    Broker, Camfire, camfire_output, clip,
    http::HttpServer,
    launch_to_end, root,
    rtsp::{RtspServer, Stream},
    stderr, stdout, wait_for,
};
use std::{
    path::Path,
    sync::{Arc, Mutex},
};

fn camera(source: &str, more: &str) -> String {
    format!("[cameras.yard]\nsource = '{source}'\n{more}")
}

#[test]
fn an_rtsp_camera_that_goes_away_is_online_again_when_it_is_back() {
    let broker = Broker::start();
    let listener = broker.listen();
    let mut server = RtspServer::start(&Stream::clip());
    let _camfire = Camfire::run(&camera(&server.url(), "stall_timeout = '3s'"), &broker.flags());
    let status = listener.wait_state("yard", "live");
    assert_eq!(status["pipeline"], "rtsp-h264-software");
    listener.wait_topic("/yard/detections");

    server.kill();
    listener.wait_state("yard", "unreachable");
    listener.forget();
    let _server = RtspServer::start_on(server.port, &Stream::clip());
    listener.wait_state("yard", "live");
    listener.wait_topic("/yard/detections");
}

#[test]
fn an_rtsp_password_is_used_and_never_told() {
    let broker = Broker::start();
    let server = RtspServer::start(&Stream::clip().with_login("watcher", "s3c@r:e/t"));
    let url = server.url();
    {
        let listener = broker.listen();
        let login = "user = 'watcher'\npassword = 'wr0ng-one'";
        let camfire = Camfire::run(&camera(&url, login), &broker.flags());
        let status = listener.wait_state("yard", "denied");
        let reason = status["reason"].as_str().unwrap().to_lowercase();
        assert!(reason.contains("unauthorized") || reason.contains("authenticat"), "{reason}");
        assert!(!camfire.log().contains("wr0ng-one") && !reason.contains("wr0ng-one"));
    }
    let listener = broker.listen();
    listener.forget();
    let login = "user = 'watcher'\npassword = 's3c@r:e/t'";
    let camfire = Camfire::run(&camera(&url, login), &broker.flags());
    listener.wait_topic("/yard/detections");
    // The same in the address, where it has to be percent-encoded.
    drop(camfire);
    listener.forget();
    let url = format!("rtsp://watcher:s3c%40r%3Ae%2Ft@127.0.0.1:{}/cam", server.port);
    let camfire = Camfire::run(&camera(&url, ""), &broker.flags());
    listener.wait_topic("/yard/detections");
    assert!(!camfire.log().contains("s3c"), "{}", camfire.log());
    for heard in listener.all() {
        assert!(!heard.payload.contains("s3c"), "{}", heard.payload);
    }
}

#[test]
fn a_clip_played_once_ends_and_is_over() {
    let broker = Broker::start();
    let listener = broker.listen();
    let config = camera(&clip(), "loop = false\nrealtime = false\nrate_fps = 1");
    let mut camfire = Camfire::run(&config, &broker.flags());
    listener.wait_state("yard", "ended");
    assert!(camfire.end("TERM").success());
    listener.wait("the goodbye", |heard| heard.payload == "offline");
    let stats = listener.all().into_iter().rfind(|heard| heard.topic.ends_with("/stats")).unwrap().json();
    let accounts = &stats["cameras"]["yard"];
    // As fast as it goes means that nothing is dropped: the clip waits for the workers.
    assert_eq!(accounts["dropped"], 0, "{accounts}");
    let (captured, analysed) =
        (accounts["captured"].as_u64().unwrap(), accounts["analysed"].as_u64().unwrap());
    let truth = std::fs::read_to_string(root().join("assets/demo.truth.json")).unwrap();
    let truth: serde_json::Value = serde_json::from_str(&truth).unwrap();
    assert_eq!(captured, truth["frames"].as_u64().unwrap());
    let seconds = captured / truth["fps"].as_u64().unwrap();
    assert!((seconds..=seconds + 1).contains(&analysed), "{analysed} of {seconds} s");
    let last = listener.all().into_iter().rfind(|h| h.topic.ends_with("/yard/detections")).unwrap();
    assert_eq!(last.json()["capture_clock"], "clip");
}

#[test]
fn a_short_clip_is_repeated_without_a_break() {
    // A second of it, cut by GStreamer itself.
    let folder = tempfile::tempdir().unwrap();
    let short = folder.path().join("short clip.mp4");
    cut_first_second(&short);
    let broker = Broker::start();
    let listener = broker.listen();
    let config = camera(&format!("file://{}", short.display()), "rate_fps = 5");
    let _camfire = Camfire::run(&config, &broker.flags());
    listener.wait("the third round", |heard| {
        heard.topic.ends_with("/yard/detections") && heard.json()["frame"].as_u64().unwrap() > 40
    });
    let states: Vec<String> = listener
        .all()
        .iter()
        .filter(|heard| heard.topic.ends_with("/yard/status"))
        .map(|heard| heard.json()["state"].as_str().unwrap().to_string())
        .collect();
    assert_eq!(states, ["starting", "live"]);
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
fn a_pipeline_can_be_named_and_then_there_is_no_other() {
    let broker = Broker::start();
    let listener = broker.listen();
    let server = RtspServer::start(&Stream::drawn("x264enc"));
    let config = format!(
        "{}\n[cameras.forced]\nsource = '{}'\npipeline = 'rtsp-h265-software'\n",
        camera(&server.url(), "pipeline = 'rtsp-h264-openh264'"),
        server.url()
    );
    let _camfire = Camfire::run(&config, &broker.flags());
    assert_eq!(listener.wait_state("yard", "live")["pipeline"], "rtsp-h264-openh264");
    listener.wait_topic("/yard/detections");
    let status = listener.wait_state("forced", "unsupported");
    assert!(status["reason"].as_str().unwrap().contains("the camera sends H.264"), "{status}");
}

#[test]
fn a_launch_line_of_ones_own() {
    let broker = Broker::start();
    let listener = broker.listen();
    let launch = "launch = 'videotestsrc is-live=true ! video/x-raw,format=YUY2,width=321,height=241'";
    let _camfire = Camfire::run(&camera("custom", launch), &broker.flags());
    assert_eq!(listener.wait_state("yard", "live")["pipeline"], "custom");
    listener.wait_topic("/yard/detections");
}

#[test]
fn cameras_that_fail_say_why_and_leave_the_others_alone() {
    let broker = Broker::start();
    let listener = broker.listen();
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("no-video.mp4");
    std::fs::write(&text, "this is a text about cats, no video\n".repeat(99)).unwrap();
    let sound = folder.path().join("sound.ogg");
    let made =
        format!("audiotestsrc num-buffers=50 ! vorbisenc ! oggmux ! filesink location={}", sound.display());
    launch_to_end(&made);
    let config = format!(
        "[cameras.good]\nsource = 'test://ball'\n\
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
    let reasons = Arc::new(Mutex::new(Vec::new()));
    for (camera, state) in [
        ("text", "unsupported"),
        ("sound", "unsupported"),
        ("absent", "unreachable"),
        ("device", "unreachable"),
        ("refused", "unreachable"),
        ("element", "unsupported"),
        ("silent", "stalled"),
    ] {
        let reason = listener.wait_state(camera, state)["reason"].as_str().unwrap().to_string();
        reasons.lock().unwrap().push((camera, reason));
    }
    let reasons = reasons.lock().unwrap().clone();
    let reason = |camera| reasons.iter().find(|(name, _)| *name == camera).unwrap().1.as_str();
    assert_eq!(reason("sound"), "the source contains no video");
    assert!(reason("absent").contains("/nowhere/clip.mp4"), "{reasons:?}");
    assert!(reason("device").contains("/dev/video977"), "{reasons:?}");
    assert!(reason("refused").to_lowercase().contains("connect"), "{reasons:?}");
    assert!(reason("element").contains("element nosuchsrc is missing"), "{reasons:?}");
    // Each is told once, however often it is tried.
    wait_for("a second attempt", || {
        let good = listener.all().iter().filter(|h| h.topic.ends_with("/good/detections")).count();
        (good > 15).then_some(())
    });
    let told = listener.all().iter().filter(|h| h.topic.ends_with("/refused/status")).count();
    assert_eq!(told, 2, "starting, unreachable");
    assert!(camfire.end("TERM").success());
}

#[test]
fn a_decoder_that_is_not_installed_is_named_with_its_package() {
    // GStreamer takes an element of no rank as one that is not there.
    let decoders = ["avdec_h264", "openh264dec", "vah264dec", "v4l2h264dec", "v4l2slh264dec"];
    let ranks: Vec<String> = decoders.iter().map(|decoder| format!("{decoder}:NONE")).collect();
    let broker = Broker::start();
    let listener = broker.listen();
    let config = camera(&clip(), "");
    let environment = [("GST_PLUGIN_FEATURE_RANK", ranks.join(","))];
    let _camfire = Camfire::run_with(&config, &broker.flags(), &environment);
    let status = listener.wait_state("yard", "unsupported");
    let reason = status["reason"].as_str().unwrap();
    assert!(reason.contains("H.264") && reason.contains("install gstreamer1.0-libav"), "{reason}");
}

#[test]
fn a_login_that_nothing_takes_is_an_error_and_not_ignored() {
    let broker = Broker::start();
    let listener = broker.listen();
    let config = camera("custom", "launch = 'videotestsrc ! video/x-raw'\nuser = 'me'");
    let _camfire = Camfire::run(&config, &broker.flags());
    let status = listener.wait_state("yard", "unsupported");
    assert!(status["reason"].as_str().unwrap().contains("no element is named src"), "{status}");
}

/// A folder with `frame.jpg`, a picture of 320 x 240.
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
fn cameras_over_http_send_mjpeg_or_stills() {
    let folder = folder_with_frame();
    let server = HttpServer::start(folder.path().into(), Some("bWU6czNjcmV0"));
    let broker = Broker::start();
    let listener = broker.listen();
    let login = "user = 'me'\npassword = 's3cret'\nrate_fps = 2\n";
    let config = format!(
        "stats.interval = '1s'\n[cameras.video]\nsource = '{}'\n{login}[cameras.still]\nsource = '{}'\n{login}\
         [cameras.stranger]\nsource = '{}'\nuser = 'me'\npassword = 'wrong'\n[cameras.nowhere]\nsource = '{}'\n{login}",
        server.url("video"),
        server.url("frame.jpg"),
        server.url("video"),
        server.url("no-such.jpg"),
    );
    let camfire = Camfire::run(&config, &broker.flags());
    assert_eq!(listener.wait_state("video", "live")["pipeline"], "http-mjpeg");
    assert_eq!(listener.wait_state("still", "live")["pipeline"], "http-stills");
    listener.wait_state("stranger", "denied");
    listener.wait_state("nowhere", "unreachable");
    listener.wait("more than one still", |heard| {
        heard.topic.ends_with("/still/detections") && heard.json()["frame"].as_u64() > Some(3)
    });
    // Frames that are not due are left out before they are decoded; stills are asked for only as often as
    // they are due.
    let stats = listener.wait("frames left out", |heard| {
        heard.topic.ends_with("/stats")
            && heard.json()["cameras"]["video"]["skipped_rate"].as_u64() > Some(10)
    });
    let still = &stats.json()["cameras"]["still"];
    assert_eq!((&still["skipped_rate"], &still["restarts"]), (&0.into(), &0.into()), "{still}");
    assert!(!camfire.log().contains("s3cret"), "{}", camfire.log());
}

/// Each still is a stream of its own; the things in them are of one story.
#[test]
fn what_is_in_stills_keeps_its_track_from_one_to_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    launch_to_end(&format!(
        "filesrc location=\"{}\" ! qtdemux ! h264parse ! avdec_h264 ! videorate ! video/x-raw,framerate=5/1 ! jpegenc ! \
         multifilesink location=\"{}/%05d.jpg\"",
        root().join("tests/data/scenes/noise.mp4").display(),
        place.display()
    ));
    let show = |number: usize| {
        let from = place.join(format!("{number:05}.jpg"));
        from.exists().then(|| std::fs::rename(from, place.join("now.jpg")).unwrap())
    };
    show(0).unwrap();
    let server = HttpServer::start(place.into(), None);
    let broker = Broker::start();
    let listener = broker.listen();
    let _camfire = Camfire::run(&camera(&server.url("now.jpg"), "rate_fps = 5"), &broker.flags());
    listener.wait_topic("/yard/detections");
    let events = |kind: &str| -> Vec<serde_json::Value> {
        let all = listener.all().into_iter().filter(|heard| heard.topic.ends_with("/yard/events"));
        all.map(|heard| heard.json()).filter(|event| event["type"] == kind).collect()
    };
    let mut number = 0;
    while events("end").is_empty() {
        number += 1;
        show(number).expect("something has come and gone before the clip is over");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    assert_eq!(events("start")[0]["id"], events("end")[0]["id"], "{:#?}", listener.all());
    assert_ne!(events("end")[0]["reason"], "camera_lost");
    assert!(events("end")[0]["duration_s"].as_f64().unwrap() >= 1.0, "{:#?}", events("end"));
    let states = listener.all().into_iter().filter(|heard| heard.topic.ends_with("/yard/status"));
    assert_eq!(states.map(|heard| heard.json()["state"].clone()).collect::<Vec<_>>(), ["starting", "live"]);
}

#[test]
fn a_stream_in_pieces_over_http() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().display();
    launch_to_end(&format!(
        "videotestsrc num-buffers=300 pattern=ball ! video/x-raw,width=320,height=240,framerate=15/1 ! \
         x264enc key-int-max=15 ! h264parse ! mpegtsmux ! \
         hlssink location=\"{place}/part%03d.ts\" playlist-location=\"{place}/live.m3u8\" target-duration=2 max-files=0"
    ));
    let server = HttpServer::start(folder.path().into(), None);
    let broker = Broker::start();
    let listener = broker.listen();
    let _camfire = Camfire::run(&camera(&server.url("live.m3u8"), ""), &broker.flags());
    assert_eq!(listener.wait_state("yard", "live")["pipeline"], "http-hls");
    listener.wait_topic("/yard/detections");
}

#[test]
fn a_snapshot_is_taken_from_the_large_stream() {
    let folder = folder_with_frame();
    let server = RtspServer::start(&Stream::drawn("x264enc").with_login("watcher", "s3cret"));
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
    // The only stream there is, 640 x 360, turned.
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
fn whatever_video_comes_is_seen_or_refused_by_name() {
    let broker = Broker::start();
    let listener = broker.listen();
    let raw = |caps: &str| {
        format!("videotestsrc is-live=true ! video/x-raw,width=323,height=241,framerate=10/1,{caps}")
    };
    let seen = [
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
        ("giant", fake("width=16384,height=16384"), "video of 16384 x 16384 pixels"),
        ("short", fake("width=1920,height=1080"), "frames of "),
        ("flat", fake("pixel-aspect-ratio=(fraction)1/1000"), "pixel aspect ratio 0.001 is not supported"),
    ];
    let mut config = String::new();
    for (name, launch) in seen.iter().map(|(n, l)| (n, l)).chain(refused.iter().map(|(n, l, _)| (n, l))) {
        config += &format!("[cameras.{name}]\nsource = 'custom'\nlaunch = '{launch}'\nrate_fps = 2\n");
    }
    let mut camfire = Camfire::run(&config, &broker.flags());
    for (name, _) in &seen {
        listener.wait_topic(&format!("/{name}/detections"));
    }
    for (name, _, says) in &refused {
        let status = listener.wait_state(name, "unsupported");
        assert!(status["reason"].as_str().unwrap().contains(says), "{status}");
    }
    assert!(camfire.end("TERM").success());
}

#[test]
fn packets_that_are_lost_do_not_end_the_watching() {
    // One packet in ten is lost on its way, so many a frame lacks a part of itself.
    let mut stream = Stream::drawn("x264enc");
    stream.launch =
        stream.launch.replace("name=pay0 pt=96", "pt=96 mtu=400 ! identity drop-probability=0.1 name=pay0");
    let server = RtspServer::start(&stream);
    let broker = Broker::start();
    let listener = broker.listen();
    let mut camfire = Camfire::run(&camera(&server.url(), "stall_timeout = '20s'"), &broker.flags());
    listener.wait_state("yard", "live");
    listener.wait("several frames", |heard| {
        heard.topic.ends_with("/yard/detections") && heard.json()["frame"].as_u64() > Some(40)
    });
    assert!(camfire.end("TERM").success());
}
