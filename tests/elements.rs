//! Every branch of a choice among GStreamer elements that a machine without a board can run, each with the
//! better ones missing. Unit tests of `src/camera/gst/mod.rs` run the templates of boards.

use crate::support::{
    Broker, Camfire, camfire,
    elements::Plugins,
    http::HttpServer,
    launch_to_end, root,
    rtsp::{RtspServer, Stream},
    stderr, stdout,
};

#[test]
fn a_clip_is_annotated_with_whichever_encoder_is_installed() {
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("clip.mp4");
    let caps = "video/x-raw,format=I420,width=320,height=240,framerate=15/1";
    launch_to_end(&format!(
        "videotestsrc num-buffers=45 pattern=ball ! {caps} ! x264enc ! mp4mux ! filesink location={}",
        clip.display()
    ));
    for hidden in [&[][..], &["x264enc"]] {
        let plugins = Plugins::without(hidden);
        let annotated = folder.path().join(format!("without-{}.mp4", hidden.len()));
        let mut command = camfire();
        command.args(["analyze", clip.to_str().unwrap(), "--annotate", annotated.to_str().unwrap()]);
        let output = command.envs(plugins.environment()).output().unwrap();
        assert!(output.status.success(), "without {hidden:?}: {}", stderr(&output));
        // Players need it to be decodable, and all frames to be there.
        let mut command = camfire();
        command.args(["analyze", annotated.to_str().unwrap(), "--detections", "--json", "--set"]);
        let output = command.arg("cameras.clip.rate_fps=100").output().unwrap();
        let frames = stdout(&output).lines().filter(|line| line.contains("/detections")).count();
        assert_eq!(frames, 45, "without {hidden:?}: {}", stderr(&output));
    }
    // The recording itself is decoded by libav.
    let plugins = Plugins::without(&["x264enc", "openh264enc"]);
    let annotated = folder.path().join("never.mp4");
    let mut command = camfire();
    command.args(["analyze", clip.to_str().unwrap(), "--annotate", annotated.to_str().unwrap()]);
    let output = command.envs(plugins.environment()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("install gstreamer1.0-plugins-bad (openh264enc)"),
        "{}",
        stderr(&output)
    );
    assert!(!annotated.exists());
}

#[test]
fn h264_is_decoded_with_whichever_decoder_is_installed() {
    let server = RtspServer::start(&Stream::synthetic("x264enc"));
    let source = server.url();
    for (hidden, pipeline) in
        [(&["openh264dec"][..], "rtsp-h264-software"), (&["avdec_h264"], "rtsp-h264-openh264")]
    {
        let plugins = Plugins::without(hidden);
        let broker = Broker::start();
        let subscriber = broker.subscribe();
        let config = format!("[cameras.yard]\nsource = '{source}'\n");
        let camfire = Camfire::run_with(&config, &broker.flags(), &plugins.environment());
        let status = subscriber.wait_state("yard", "live");
        assert_eq!(status["pipeline"], pipeline);
        subscriber.wait_topic("/yard/detections");
        // What only boards have is no news on this machine.
        for board in ["jetson", "pi4", "rtsp-h264-va"] {
            assert!(!status.to_string().contains(board), "{status}");
            assert!(!camfire.log().contains(board), "{}", camfire.log());
        }
        let is_told = status.to_string().contains("avdec_h264 is missing");
        assert_eq!(is_told, pipeline == "rtsp-h264-openh264", "{status}");
    }
    let plugins = Plugins::without(&["avdec_h264", "openh264dec"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("camfire.toml");
    std::fs::write(&file, format!("[cameras.yard]\nsource = '{source}'\npipeline = 'rtsp-h264-software'\n"))
        .unwrap();
    let mut command = camfire();
    let output =
        command.args(["check", "--config", file.to_str().unwrap()]).envs(plugins.environment()).output();
    let text = stdout(&output.unwrap());
    assert!(text.contains("element avdec_h264 is missing: install gstreamer1.0-libav"), "{text}");
}

#[test]
fn a_recording_is_decoded_with_whichever_decoder_is_installed() {
    let clip = root().join("tests/data/scenes/noise.mp4");
    for hidden in ["openh264dec", "avdec_h264"] {
        let plugins = Plugins::without(&[hidden]);
        let mut command = camfire();
        command.args(["analyze", clip.to_str().unwrap(), "--json"]).envs(plugins.environment());
        let output = command.output().unwrap();
        assert!(
            output.status.success() && !output.stdout.is_empty(),
            "without {hidden}: {}",
            stderr(&output)
        );
    }
}

/// The older demuxer is no substitute: since 1.22, GStreamer uses the newer one alone.
#[test]
fn hls_is_played_without_the_older_demuxer() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().display();
    launch_to_end(&format!(
        "videotestsrc num-buffers=300 pattern=ball ! video/x-raw,width=320,height=240,framerate=15/1 ! \
         x264enc key-int-max=15 ! h264parse ! mpegtsmux ! \
         hlssink location=\"{directory}/part%03d.ts\" playlist-location=\"{directory}/live.m3u8\" target-duration=2 max-files=0"
    ));
    let server = HttpServer::start(folder.path().to_path_buf(), None);
    let plugins = Plugins::without(&["hlsdemux"]);
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let config = format!("[cameras.yard]\nsource = '{}'\n", server.url("live.m3u8"));
    let _camfire = Camfire::run_with(&config, &broker.flags(), &plugins.environment());
    assert_eq!(subscriber.wait_state("yard", "live")["pipeline"], "http-hls");
}
