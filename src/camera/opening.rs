//! Opens a camera once, outside of the daemon, and tries its pipelines as the daemon would.

use super::{
    Failure, FailureKind,
    choice::{NextStart, PipelineChoice},
    gst,
    stream_facts::StreamFacts,
    template::{self, Codec, Pipeline},
};
use crate::{
    clock::{Clock, SystemClock},
    config::Camera,
    frame::Image,
    wire::messages::SkippedPipeline,
};
use std::time::Duration;

/// How long [`measure`] watches a stream, and how long at most if its keyframes are far apart.
const WATCHED: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(10));

/// What opening a camera has led to.
#[derive(Debug)]
pub struct Opened<T> {
    /// What was wanted of it.
    pub result: T,
    /// The pipeline that delivered it.
    pub pipeline: Pipeline,
    /// The better pipelines that were not used, each with the reason.
    pub skipped: Vec<SkippedPipeline>,
}

/// The first image of a camera's large stream, or of its only one.
///
/// Errors: the reason why no pipeline delivers one.
pub fn snapshot(camera: &Camera) -> Result<Image, Failure> {
    let pipelines = template::snapshot_candidates(camera).map_err(unusable)?;
    let clock = SystemClock::new();
    open(pipelines, &clock, |pipeline, usable| gst::first_image(camera, pipeline, usable, &clock))
        .map(|opened| opened.result)
}

/// Watches the stream of a camera for a few seconds.
///
/// Errors: the reason why no pipeline delivers frames.
pub fn measure(camera: &Camera) -> Result<Opened<StreamFacts>, Failure> {
    let pipelines = template::candidates(camera).map_err(unusable)?;
    let clock = SystemClock::new();
    open(pipelines, &clock, |pipeline, usable| gst::stream_facts(camera, pipeline, usable, &clock, WATCHED))
}

/// The failure of a camera whose pipelines cannot be filled in.
fn unusable(error: crate::error::Error) -> Failure {
    Failure::new(FailureKind::Unsupported, error.to_string())
}

fn open<T>(
    pipelines: Vec<Pipeline>,
    clock: &dyn Clock,
    attempt: impl Fn(&Pipeline, Vec<Codec>) -> Result<T, Failure>,
) -> Result<Opened<T>, Failure> {
    let mut choice = PipelineChoice::new(pipelines, gst::missing);
    loop {
        let refuse = |reason: String| Failure::new(FailureKind::Unsupported, reason);
        let pipeline = choice.current().map_err(refuse)?.clone();
        let failure = match attempt(&pipeline, choice.usable_codecs()) {
            Ok(result) => {
                let skipped = gst::without_other_boards(choice.skipped());
                return Ok(Opened { result, pipeline, skipped });
            }
            Err(failure) => failure,
        };
        if choice.follow(failure.kind) {
            continue;
        }
        let is_next = failure.counts_against_pipeline()
            && choice.start_failed(&failure.reason, clock.monotonic()) == NextStart::AtOnce;
        if !is_next {
            return Err(failure);
        }
    }
}
