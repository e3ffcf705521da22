//! Every kind of source that can exist on a machine without cameras, and cameras that fail.

use crate::support::{Broker, Camfire, clip, root, wait_for};
use gstreamer::glib;
use gstreamer_rtsp_server::{self as rtsp, prelude::*};
use std::{
    path::Path,
    sync::{Arc, Mutex, mpsc},
};

/// A real RTSP server that plays the bundled clip at `/cam`.
struct RtspServer {
    port: u16,
    main_loop: glib::MainLoop,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl RtspServer {
    /// On any free port, or again on `port`; with `login` it asks for user and password.
    fn start(port: Option<u16>, login: Option<(&'static str, &'static str)>) -> RtspServer {
        gstreamer::init().unwrap();
        let (ready, is_ready) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let context = glib::MainContext::new();
            let main_loop = glib::MainLoop::new(Some(&context), false);
            let server = rtsp::RTSPServer::new();
            server.set_address("127.0.0.1");
            server.set_service(&port.unwrap_or(0).to_string());
            let factory = rtsp::RTSPMediaFactory::new();
            let clip = root().join("assets/demo.mp4");
            factory.set_launch(&format!(
                "( filesrc location=\"{}\" ! qtdemux ! h264parse ! rtph264pay name=pay0 pt=96 )",
                clip.display()
            ));
            if let Some((user, password)) = login {
                let auth = rtsp::RTSPAuth::new();
                let token =
                    rtsp::RTSPToken::builder().field(rtsp::RTSP_TOKEN_MEDIA_FACTORY_ROLE, "watcher").build();
                auth.add_basic(&rtsp::RTSPAuth::make_basic(user, password), &token);
                server.set_auth(Some(&auth));
                factory.add_role_from_structure(
                    &gstreamer::Structure::builder("watcher")
                        .field("media.factory.access", true)
                        .field("media.factory.construct", true)
                        .build(),
                );
            }
            server.mount_points().unwrap().add_factory("/cam", factory);
            let socket = server.attach(Some(&context)).expect("the port is free");
            ready.send((server.bound_port() as u16, main_loop.clone())).unwrap();
            main_loop.run();
            // As a camera that loses power: its clients are cut off.
            if let Some(socket) = context.find_source_by_id(&socket) {
                socket.destroy();
            }
            server.client_filter(Some(&mut |_, _| rtsp::RTSPFilterResult::Remove));
        });
        let (port, main_loop) = is_ready.recv().unwrap();
        RtspServer { port, main_loop, thread: Some(thread) }
    }

    fn stop(&mut self) {
        self.main_loop.quit();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for RtspServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn camera(source: &str, more: &str) -> String {
    format!("[cameras.yard]\nsource = '{source}'\n{more}")
}

#[test]
fn an_rtsp_camera_that_goes_away_is_online_again_when_it_is_back() {
    let broker = Broker::start();
    let listener = broker.listen();
    let mut server = RtspServer::start(None, None);
    let url = format!("rtsp://127.0.0.1:{}/cam", server.port);
    let _camfire = Camfire::run(&camera(&url, "stall_timeout = '3s'"), &broker.flags());
    let status = listener.wait_state("yard", "online");
    assert_eq!(status["pipeline"], "rtsp");
    listener.wait_topic("/yard/detections");

    server.stop();
    listener.wait_state("yard", "offline");
    listener.forget();
    let _server = RtspServer::start(Some(server.port), None);
    listener.wait_state("yard", "online");
    listener.wait_topic("/yard/detections");
}

#[test]
fn an_rtsp_password_is_used_and_never_told() {
    let broker = Broker::start();
    let server = RtspServer::start(None, Some(("watcher", "s3c@r:e/t")));
    let url = format!("rtsp://127.0.0.1:{}/cam", server.port);
    {
        let listener = broker.listen();
        let login = "user = 'watcher'\npassword = 'wr0ng-one'";
        let camfire = Camfire::run(&camera(&url, login), &broker.flags());
        let status = listener.wait_state("yard", "offline");
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
    let stats = listener.wait_topic("/stats").json();
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
    assert_eq!(last.json()["capture_clock"], "arrival");
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
    assert_eq!(states, ["starting", "online"]);
}

fn cut_first_second(to: &Path) {
    gstreamer::init().unwrap();
    let from = root().join("assets/demo.mp4");
    let launch = format!(
        "filesrc location=\"{}\" ! qtdemux ! h264parse ! identity eos-after=16 ! mp4mux ! \
         filesink location=\"{}\"",
        from.display(),
        to.display()
    );
    let pipeline = gstreamer::parse::launch(&launch).unwrap();
    pipeline.set_state(gstreamer::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    let kinds = [gstreamer::MessageType::Eos, gstreamer::MessageType::Error];
    let end = bus.timed_pop_filtered(gstreamer::ClockTime::from_seconds(30), &kinds).unwrap();
    assert_eq!(end.type_(), gstreamer::MessageType::Eos, "{end:?}");
    pipeline.set_state(gstreamer::State::Null).unwrap();
}

#[test]
fn a_launch_line_of_ones_own() {
    let broker = Broker::start();
    let listener = broker.listen();
    let launch = "launch = 'videotestsrc is-live=true ! video/x-raw,format=YUY2,width=321,height=241'";
    let _camfire = Camfire::run(&camera("custom", launch), &broker.flags());
    assert_eq!(listener.wait_state("yard", "online")["pipeline"], "custom");
    listener.wait_topic("/yard/detections");
}

#[test]
fn cameras_that_fail_say_why_and_leave_the_others_alone() {
    let broker = Broker::start();
    let listener = broker.listen();
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("no-video.mp4");
    std::fs::write(&text, "this is a text about cats, no video\n".repeat(99)).unwrap();
    let config = format!(
        "[cameras.good]\nsource = 'test://ball'\n\
         [cameras.text]\nsource = 'file://{}'\n\
         [cameras.absent]\nsource = 'file:///nowhere/clip.mp4'\n\
         [cameras.device]\nsource = 'v4l2:///dev/video977'\n\
         [cameras.refused]\nsource = 'rtsp://127.0.0.1:1/cam'\n\
         [cameras.element]\nsource = 'custom'\nlaunch = 'nosuchsrc ! video/x-raw'\n\
         [cameras.silent]\nsource = 'custom'\nstall_timeout = '1s'\n\
         launch = 'videotestsrc is-live=true num-buffers=30 ! identity drop-probability=1.0'\n",
        text.display()
    );
    let mut camfire = Camfire::run(&config, &broker.flags());
    let reasons = Arc::new(Mutex::new(Vec::new()));
    for camera in ["text", "absent", "device", "refused", "element", "silent"] {
        let reason = listener.wait_state(camera, "offline")["reason"].as_str().unwrap().to_string();
        reasons.lock().unwrap().push((camera, reason));
    }
    let reasons = reasons.lock().unwrap().clone();
    let reason = |camera| reasons.iter().find(|(name, _)| *name == camera).unwrap().1.as_str();
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
    assert_eq!(told, 2, "starting, offline");
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
    let status = listener.wait_state("yard", "offline");
    let reason = status["reason"].as_str().unwrap();
    assert!(reason.contains("H.264") && reason.contains("install gstreamer1.0-libav"), "{reason}");
}

#[test]
fn a_login_that_nothing_takes_is_an_error_and_not_ignored() {
    let broker = Broker::start();
    let listener = broker.listen();
    let config = camera("custom", "launch = 'videotestsrc ! video/x-raw'\nuser = 'me'");
    let _camfire = Camfire::run(&config, &broker.flags());
    let status = listener.wait_state("yard", "offline");
    assert!(status["reason"].as_str().unwrap().contains("no element is called src"), "{status}");
}
