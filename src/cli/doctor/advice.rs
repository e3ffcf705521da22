//! What works and will hurt: the rules by which a measured stream gets advice. Pure.

use super::board::{Board, Family};
use crate::{
    camera::{
        opening::Opened,
        stream_facts::{KeyframeInterval, StreamFacts},
    },
    cli::stream_urls,
    config::{Camera, Decode, Source},
};
use std::time::Duration;

/// Pixels of a stream above which a network camera's substream is always better.
const FULL_HD: u64 = 1920 * 1088;
/// Pixels of a stream above which it is better if the address is known to be that of a main stream.
const HD: u64 = 1280 * 720;
/// Pixels of a usual substream.
const SUBSTREAM: u64 = 640 * 360;
/// Cameras do not keep their keyframe interval exactly.
const TOLERANCE: f64 = 1.1;

/// Advice about a camera's stream. `has_hevc`: the board's decoder for H.265 has a driver.
pub fn of_stream(
    camera: &Camera,
    opened: &Opened<StreamFacts>,
    board: &Board,
    has_hevc: bool,
) -> Vec<String> {
    let rules = [
        size(camera, &opened.result),
        decoder(opened, board, has_hevc),
        speed(&opened.result),
        keyframes(camera, &opened.result),
    ];
    rules.into_iter().flatten().collect()
}

/// A main stream, where a substream is enough.
fn size(camera: &Camera, facts: &StreamFacts) -> Option<String> {
    let (Source::Rtsp { url } | Source::Http { url }) = &camera.source else { return None };
    let (width, height) = facts.size;
    let pixels = u64::from(width) * u64::from(height);
    let substream = stream_urls::substream_of(url);
    if pixels <= HD || (pixels <= FULL_HD && substream.is_none()) {
        return None;
    }
    let times = pixels as f64 / SUBSTREAM as f64;
    let where_ = substream.map(|url| format!(", probably {url},")).unwrap_or_default();
    Some(format!(
        "{width} x {height} has {times:.0} times the pixels of 640 x 360, and decoding is most of a camera's \
         cost: use the camera's substream{where_} as source, and this stream as snapshot_source"
    ))
}

/// A codec that this board must decode in software.
fn decoder(opened: &Opened<StreamFacts>, board: &Board, has_hevc: bool) -> Option<String> {
    if opened.pipeline.hardware {
        return None;
    }
    let (width, height) = opened.result.size;
    match (board.family, opened.result.codec.as_str()) {
        (Family::RaspberryPi5, "H.264") => {
            let other = if has_hevc { ", or set the camera to H.265, which the board decodes" } else { "" };
            Some(format!(
                "a Raspberry Pi 5 has no decoder for H.264, so the CPU decodes it: use a small substream{other}"
            ))
        }
        (Family::RaspberryPi5, "H.265") => Some(
            "the CPU decodes H.265 although a Raspberry Pi 5 has a decoder for it: it needs the element \
             v4l2slh265dec of gstreamer1.0-plugins-bad and the kernel of Raspberry Pi OS"
                .into(),
        ),
        (Family::RaspberryPi, "H.264") if u64::from(width) * u64::from(height) > FULL_HD => Some(
            "this board's decoder for H.264 ends at 1920 x 1080, so the CPU decodes it: use a smaller stream"
                .into(),
        ),
        (Family::RaspberryPi, "H.265") => Some(
            "the CPU decodes H.265 here: set the camera to H.264, which the board decodes, or use a small \
             substream"
                .into(),
        ),
        _ => None,
    }
}

/// A decoder that cannot keep up.
fn speed(facts: &StreamFacts) -> Option<String> {
    let (decoded, sent) = (facts.too_slow_fps?, facts.fps?);
    Some(format!(
        "{decoded:.1} of {sent:.1} frames/s are decoded, with all cameras open: use a smaller stream or fewer \
         frames per second in the camera"
    ))
}

/// Keyframes that are too far apart for what `decode` is set to, and what `decode` costs.
fn keyframes(camera: &Camera, facts: &StreamFacts) -> Option<String> {
    let (interval, text) = match facts.keyframes? {
        KeyframeInterval::Seen(interval) => (interval, seconds(interval)),
        KeyframeInterval::LongerThan(time) => (time, format!("more than {}", seconds(time))),
    };
    let limit = camera.keyframe_limit;
    let is_far = interval > limit.mul_f64(TOLERANCE);
    let fix = "set the camera to one keyframe per second (I-frame interval, GOP)";
    match camera.decode {
        Decode::Auto if is_far => Some(format!(
            "keyframes are {text} apart, more than keyframe_limit ({}), so every frame is decoded even while \
             nothing moves: {fix}",
            seconds(limit)
        )),
        Decode::Keyframes if interval.as_secs_f64() * camera.rate_fps > TOLERANCE => Some(format!(
            "decode = \"keyframes\" and keyframes {text} apart: one frame in {text} is analysed, fewer than \
             rate_fps = {}: {fix}",
            camera.rate_fps
        )),
        Decode::All if !is_far => Some(
            "decode = \"all\" decodes every frame, up to eight times the cost of \"auto\", which would work \
             with this camera's keyframes"
                .into(),
        ),
        _ => None,
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::camera::template::{self, tests::camera};

    const S: Duration = Duration::from_secs(1);

    fn rtsp(url: &str) -> Camera {
        camera(Source::Rtsp { url: url.into() })
    }

    /// A stream of this size and codec, decoded by this pipeline.
    fn stream(camera: &Camera, pipeline: &str, codec: &str, size: (u32, u32)) -> Opened<StreamFacts> {
        let pipelines = template::candidates(camera).unwrap();
        let pipeline = pipelines.into_iter().find(|candidate| candidate.template == pipeline).unwrap();
        let result = StreamFacts {
            codec: codec.into(),
            size,
            fps: Some(25.0),
            keyframes: Some(KeyframeInterval::Seen(S)),
            transport: Some("tcp"),
            too_slow_fps: None,
        };
        Opened { result, pipeline, skipped: Vec::new() }
    }

    fn board(family: Family) -> Board {
        Board { model: None, family }
    }

    #[test]
    fn a_main_stream_is_advised_against_and_the_substream_named() {
        let large = |url: &str, size| {
            let camera = rtsp(url);
            of_stream(
                &camera,
                &stream(&camera, "rtsp-h264-software", "H.264", size),
                &board(Family::Other),
                false,
            )
        };
        let advice = large("rtsp://h/Streaming/Channels/101", (3840, 2160));
        assert_eq!(
            advice,
            [
                "3840 x 2160 has 36 times the pixels of 640 x 360, and decoding is most of a camera's cost: use the \
              camera's substream, probably rtsp://h/Streaming/Channels/102, as source, and this stream as \
              snapshot_source"
            ]
        );
        assert!(large("rtsp://h/x", (2560, 1440))[0].contains("substream as source"));
        assert_eq!(large("rtsp://h/x", (1920, 1080)), [""; 0], "it may have no other");
        assert_eq!(large("rtsp://h/stream1", (1920, 1080)).len(), 1);
        assert_eq!(large("rtsp://h/stream1", (640, 360)), [""; 0]);
        // A local camera has no substream.
        let usb = camera(Source::V4l2 { device: "/dev/video0".into() });
        let facts = stream(&usb, "v4l2-mjpeg", "JPEG", (3840, 2160));
        assert_eq!(size(&usb, &facts.result), None);
    }

    #[test]
    fn software_decoding_is_advised_against_where_the_board_decides() {
        let camera = rtsp("rtsp://h/x");
        let advice = |family, pipeline, codec, size, has_hevc| {
            decoder(&stream(&camera, pipeline, codec, size), &board(family), has_hevc).unwrap_or_default()
        };
        let small = (640, 360);
        let pi5 = advice(Family::RaspberryPi5, "rtsp-h264-software", "H.264", small, true);
        assert!(
            pi5.contains("has no decoder for H.264") && pi5.contains("H.265, which the board decodes"),
            "{pi5}"
        );
        let pi5 = advice(Family::RaspberryPi5, "rtsp-h264-software", "H.264", small, false);
        assert!(pi5.ends_with("use a small substream"), "{pi5}");
        let pi5 = advice(Family::RaspberryPi5, "rtsp-h265-software", "H.265", small, true);
        assert!(pi5.contains("v4l2slh265dec"), "{pi5}");
        assert_eq!(advice(Family::RaspberryPi5, "rtsp-h265-pi5", "H.265", small, true), "");
        let pi4 = advice(Family::RaspberryPi, "rtsp-h264-software", "H.264", (2560, 1440), false);
        assert!(pi4.contains("ends at 1920 x 1080"), "{pi4}");
        assert!(advice(Family::RaspberryPi, "rtsp-h265-software", "H.265", small, false).contains("H.264"));
        assert_eq!(advice(Family::RaspberryPi, "rtsp-h264-pi4", "H.264", small, false), "");
        assert_eq!(advice(Family::Other, "rtsp-h264-software", "H.264", small, false), "");
        assert_eq!(advice(Family::Jetson, "rtsp-h264-software", "H.264", small, false), "");
    }

    #[test]
    fn keyframes_are_judged_by_what_decode_is_set_to() {
        let advice = |decode, interval| {
            let camera = Camera { decode, keyframe_limit: 2 * S, rate_fps: 1.0, ..rtsp("rtsp://h/x") };
            let mut opened = stream(&camera, "rtsp-h264-software", "H.264", (640, 360));
            opened.result.keyframes = Some(interval);
            keyframes(&camera, &opened.result).unwrap_or_default()
        };
        let far = KeyframeInterval::Seen(10 * S);
        let near = KeyframeInterval::Seen(S);
        assert!(advice(Decode::Auto, far).contains("10.0 s apart, more than keyframe_limit (2.0 s)"));
        assert!(advice(Decode::Auto, KeyframeInterval::LongerThan(3 * S)).contains("more than 3.0 s apart"));
        assert_eq!(advice(Decode::Auto, KeyframeInterval::Seen(2100 * S / 1000)), "");
        assert!(advice(Decode::Keyframes, far).contains("one frame in 10.0 s is analysed"));
        assert_eq!(advice(Decode::Keyframes, near), "");
        assert!(advice(Decode::All, near).contains("up to eight times the cost"));
        assert_eq!(advice(Decode::All, far), "");
    }

    #[test]
    fn a_decoder_that_falls_behind_is_named_with_its_rate() {
        let camera = rtsp("rtsp://h/x");
        let mut opened = stream(&camera, "rtsp-h264-software", "H.264", (640, 360));
        assert_eq!(speed(&opened.result), None);
        opened.result.too_slow_fps = Some(8.0);
        assert!(speed(&opened.result).unwrap().starts_with("8.0 of 25.0 frames/s are decoded"));
    }
}
