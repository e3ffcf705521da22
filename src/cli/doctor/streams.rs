//! Opens the configured cameras side by side, as the daemon would, and measures their streams.

use super::{advice, board::Board, finding::Finding};
use crate::{
    camera::{
        opening::{self, Opened},
        stream_facts::{KeyframeInterval, StreamFacts},
    },
    cli::bounded,
    config::{Camera, Source},
};
use std::time::Duration;

/// Cameras that are open at the same time.
const SIDE_BY_SIDE: usize = 8;
/// Time for the first frame, if the configuration allows more.
const FIRST_FRAME_TIMEOUT: Duration = Duration::from_secs(15);
/// Time for a camera, including all of its pipelines.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A measured stream, or the reason why there is none.
pub type Measured = Result<Opened<StreamFacts>, String>;

/// Opens the cameras and reports on their streams, with advice. `has_hevc`: the board's decoder for H.265 has
/// a driver.
pub fn findings(cameras: &[Camera], board: &Board, has_hevc: bool) -> Vec<Finding> {
    let measured = measure(cameras);
    let mut findings = Vec::new();
    for (camera, measured) in cameras.iter().zip(measured) {
        let what = format!("camera {}", camera.name);
        match measured {
            Ok(opened) => {
                findings.push(good(&what, &opened));
                let advice = advice::of_stream(camera, &opened, board, has_hevc);
                findings.extend(advice.into_iter().map(|text| Finding::advice(&what, text)));
            }
            Err(why) => findings.push(Finding::fault(what, why)),
        }
    }
    findings
}

/// Opens the cameras, some at a time, and measures their streams.
pub fn measure(cameras: &[Camera]) -> Vec<Measured> {
    let start = |camera: &Camera| {
        let first_frame_timeout = camera.first_frame_timeout.min(FIRST_FRAME_TIMEOUT);
        let camera = Camera { first_frame_timeout, ..camera.clone() };
        bounded::start(move || opening::measure(&camera))
    };
    let mut measured = Vec::new();
    for cameras in cameras.chunks(SIDE_BY_SIDE) {
        let calls: Vec<_> = cameras.iter().map(start).collect();
        measured.extend(cameras.iter().zip(calls).map(|(camera, call)| match call.wait(TIMEOUT) {
            Some(Ok(opened)) => Ok(opened),
            Some(Err(failure)) => Err(explain(camera, failure.reason)),
            None => Err(format!("it cannot be opened within {} s", TIMEOUT.as_secs())),
        }));
    }
    measured
}

/// Adds to the reason of a local camera that is in use that the service may be what uses it.
fn explain(camera: &Camera, reason: String) -> String {
    let is_local =
        matches!(camera.source, Source::V4l2 { .. } | Source::Libcamera { .. } | Source::Csi { .. });
    let is_in_use = ["busy", "in use", "Busy"].iter().any(|word| reason.contains(word));
    if is_local && is_in_use {
        format!(
            "{reason}: another program has opened it; if that is the service: sudo systemctl stop camfire"
        )
    } else {
        reason
    }
}

/// A stream in words.
pub fn describe(opened: &Opened<StreamFacts>) -> String {
    let facts = &opened.result;
    let (width, height) = facts.size;
    let keyframes = facts.keyframes.map(|interval| match interval {
        KeyframeInterval::Seen(interval) => format!("keyframes {:.1} s apart", interval.as_secs_f64()),
        KeyframeInterval::LongerThan(time) => {
            format!("keyframes more than {:.1} s apart", time.as_secs_f64())
        }
    });
    let skipped = opened.skipped.iter().map(|other| format!("not {}: {}", other.pipeline, other.reason));
    let parts = [
        Some(format!("{width} x {height} {}", facts.codec)),
        facts.fps.map(|fps| format!("{fps:.1} frames/s")),
        keyframes,
        facts.transport.map(|transport| format!("over {transport}")),
        Some(format!("pipeline {}", opened.pipeline.template)),
    ];
    let text = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
    [text].into_iter().chain(skipped).collect::<Vec<_>>().join("; ")
}

fn good(what: &str, opened: &Opened<StreamFacts>) -> Finding {
    let facts = &opened.result;
    let seconds = |interval: KeyframeInterval| match interval {
        KeyframeInterval::Seen(interval) => interval.as_secs_f64(),
        KeyframeInterval::LongerThan(time) => time.as_secs_f64(),
    };
    let is_lower_bound = matches!(facts.keyframes, Some(KeyframeInterval::LongerThan(_)));
    Finding::good(what, describe(opened))
        .with("width", facts.size.0)
        .with("height", facts.size.1)
        .with("codec", facts.codec.clone())
        .with("fps", facts.fps)
        .with("keyframe_s", facts.keyframes.map(seconds))
        .with("keyframe_s_is_lower_bound", is_lower_bound)
        .with("transport", facts.transport)
        .with("pipeline", opened.pipeline.template.clone())
}
