//! Tests of selecting and filling in templates, and the test camera of other modules.

use super::{
    fill::{DECODE_THREADS, VERIFY_TLS, expand},
    *,
};
use crate::config::{Camera, Decode, OptionValue, Rotation, Source};
use std::time::Duration;

/// A camera with this source and defaults otherwise.
pub fn camera(source: Source) -> Camera {
    Camera {
        name: "yard".into(),
        source,
        snapshot_source: None,
        pipeline: None,
        options: BTreeMap::new(),
        rate_fps: 5.0,
        decode: Decode::Auto,
        keyframe_limit: Duration::from_secs(2),
        motion: crate::config::Motion { threshold: 8.0, memory: Duration::from_secs(20), min_size: 0.03 },
        score: 0.4,
        masks: Vec::new(),
        zones: Default::default(),
        regions: Vec::new(),
        labels: Vec::new(),
        heatmap: false,
        view_every: Duration::ZERO,
        area: None,
        rotation: Rotation::None,
        stall_timeout: None,
        first_frame_timeout: Duration::from_secs(10),
        max_backoff: Duration::from_secs(30),
        login: None,
    }
}

fn with_options(source: Source, options: &[(&str, OptionValue)]) -> Camera {
    let options = options.iter().map(|(k, v)| (k.to_string(), v.clone())).collect();
    Camera { options, ..camera(source) }
}

fn test_source() -> Source {
    Source::Test { pattern: "ball".into() }
}

fn names(camera: &Camera) -> Vec<String> {
    candidates(camera).unwrap().into_iter().map(|pipeline| pipeline.template).collect()
}

#[test]
fn every_file_in_pipelines_is_built_in_and_every_placeholder_is_declared() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    files.sort();
    assert_eq!(files, all().keys().copied().collect::<Vec<_>>());
    for (name, template) in all() {
        let mut used = Vec::new();
        expand(&template.launch, |key| {
            used.push(key.to_string());
            String::new()
        });
        for placeholder in &used {
            assert!(template.options.contains_key(placeholder), "{name}: {placeholder}");
        }
        let is_setting = |option: &&String| {
            *option == DECODE_THREADS || (*option == VERIFY_TLS && template.content.is_some())
        };
        for option in template.options.keys().filter(|option| !is_setting(option)) {
            assert!(used.contains(option), "{name}: {option} does nothing");
        }
        for element in template.properties.keys() {
            assert!(template.launch.contains(&format!("name={element} ")), "{name}: no {element}");
        }
        // Compressed video passes a gate, where frames can be dropped before they are decoded.
        let decodes = template.launch.contains("name=dec");
        assert_eq!(decodes, template.launch.contains("identity name=gate"), "{name}");
        assert!(!template.launch.contains("videorate"), "{name}: aborts the process on 1.22");
    }
}

#[test]
fn the_source_selects_the_templates_and_its_address_is_not_part_of_the_text() {
    let path = "/clips/a ! fakesink.mp4".into();
    let clip = camera(Source::File { path, repeat: true, realtime: true });
    let pipelines = candidates(&clip).unwrap();
    assert_eq!(pipelines.len(), 1);
    assert!(!pipelines[0].launch.contains("fakesink"), "{}", pipelines[0].launch);
    let address = ("location".to_string(), "/clips/a ! fakesink.mp4".to_string());
    assert_eq!(pipelines[0].address, Some(address));

    let url = |url: &str| camera(Source::Http { url: url.into() });
    assert_eq!(names(&url("http://h/video"))[0], "http-mjpeg");
    assert_eq!(names(&url("http://h/snap.JPG?user=1"))[0], "http-stills");
    assert_eq!(names(&url("http://h/live/index.m3u8"))[0], "http-hls");
    assert_eq!(names(&url("http://h/live.flv?a=b"))[0], "http-stream");
    assert_eq!(candidates(&url("http://h/x?a=b")).unwrap()[0].url.as_deref(), Some("http://h/x?a=b"));
    let unverified = [("verify_tls", OptionValue::Boolean(false))];
    let unverified = with_options(Source::Http { url: "https://h/x".into() }, &unverified);
    assert!(candidates(&unverified).unwrap().iter().all(|pipeline| !pipeline.verify_tls));
    assert!(candidates(&url("https://h/x")).unwrap().iter().all(|pipeline| pipeline.verify_tls));
    let local = camera(Source::V4l2 { device: "/dev/video0".into() });
    assert_eq!(names(&local), ["v4l2-mjpeg", "v4l2-raw", "v4l2-h264"]);
    let network = names(&camera(Source::Rtsp { url: "rtsp://h/s".into() }));
    assert_eq!(network.len(), 10);
    assert!(network[0].ends_with("-jetson") && network.last().unwrap().ends_with("openh264"), "{network:?}");
}

#[test]
fn options_are_filled_in_or_defaulted() {
    let camera = with_options(test_source(), &[("width", OptionValue::Integer(640))]);
    assert_eq!(
        candidates(&camera).unwrap()[0].launch,
        "videotestsrc name=src is-live=true pattern=ball ! \
         video/x-raw,format=I420,width=640,height=720,framerate=15/1"
    );
    let url = Source::Rtsp { url: "rtsps://h/s".into() };
    let camera = with_options(url, &[("verify_tls", OptionValue::Boolean(false))]);
    for pipeline in candidates(&camera).unwrap() {
        assert!(pipeline.launch.contains(" tls-validation-flags=0 "), "{}", pipeline.launch);
    }
}

#[test]
fn doubled_braces_expand_to_one() {
    let expanded = expand("a={a} {{I420,{a}}} } {", |key| format!("<{key}{{b}}>"));
    assert_eq!(expanded, "a=<a{b}> {I420,<a{b}>} } {");
}

#[test]
fn a_wrong_option_is_rejected_with_its_key_and_the_rule() {
    let error =
        |key, value| candidates(&with_options(test_source(), &[(key, value)])).unwrap_err().to_string();
    assert_eq!(
        error("width", OptionValue::Integer(7)),
        "cameras.yard.options.width: must be a whole number from 16 to 7680, not 7"
    );
    assert_eq!(
        error("fps", OptionValue::Text("1 ! filesink location=/etc/passwd".into())),
        "cameras.yard.options.fps: must be a whole number from 1 to 240, \
         not \"1 ! filesink location=/etc/passwd\""
    );
    assert_eq!(
        error("colour", OptionValue::Boolean(true)),
        "cameras.yard.options: there is no option \"colour\" in test, only fps, height, pattern, width"
    );
    let named = |name: &str| Camera { pipeline: Some(name.into()), ..camera(test_source()) };
    assert_eq!(
        candidates(&named("rtsp-mjpeg")).unwrap_err().to_string(),
        "cameras.yard.pipeline: pipeline \"rtsp-mjpeg\" is for a network camera over RTSP, MJPEG, \
         not for this source"
    );
    let error = candidates(&named("rtps")).unwrap_err().to_string();
    assert!(
        error.starts_with("cameras.yard.pipeline: there is no pipeline \"rtps\", only custom, file"),
        "{error}"
    );
}
