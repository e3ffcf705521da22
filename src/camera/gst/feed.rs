//! Passes what [`crate::camera::http`] reads to the pipeline's appsrc `src`.

use crate::{
    camera::{
        Failure, FailureKind,
        http::{
            Bytes,
            reader::{Output, Plan, Reader},
        },
        template::Pipeline,
    },
    config::Camera,
    sync::lock,
};
use gstreamer::{self as gst, prelude::*};
use gstreamer_app::AppSrc;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// Bytes that wait in front of the pipeline before the reader waits too.
const MAX_WAITING_BYTES: u64 = 1 << 20;

/// The reader of an HTTP camera, for one attempt. Stops when it is dropped.
pub(super) struct Feed {
    plan: Option<Plan>,
    source: AppSrc,
    reader: Option<Reader>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    failure: Option<Failure>,
    /// Images skipped since they were last asked for, and why the last one was.
    skipped: Option<Skipped>,
}

/// Images that were skipped.
#[derive(Debug)]
pub(super) struct Skipped {
    pub(super) count: u64,
    /// Why the last one was.
    pub(super) reason: String,
}

struct FeedOutput {
    source: AppSrc,
    state: Arc<Mutex<State>>,
    still_interval: Box<dyn Fn() -> Duration + Send>,
    /// The pipeline's time when the first still was requested.
    first_still: Option<gst::ClockTime>,
}

impl Feed {
    /// Prepares the reader. Returns None for a pipeline that has a source of its own.
    pub(super) fn new(bin: &gst::Pipeline, pipeline: &Pipeline, camera: &Camera) -> Option<Feed> {
        let content = pipeline.content?;
        let source = bin.by_name("src")?.downcast::<AppSrc>().ok()?;
        source.set_max_bytes(MAX_WAITING_BYTES);
        source.set_block(true);
        let plan = Plan {
            name: camera.name.clone(),
            url: pipeline.url.clone()?,
            login: camera.login.clone(),
            verify_tls: pipeline.verify_tls,
            content,
            only: camera.pipeline.is_some(),
        };
        Some(Feed { plan: Some(plan), source, reader: None, state: Arc::default() })
    }

    /// Starts to read. The pipeline must have been started, because it refuses data before. `still_interval`
    /// returns the interval at which stills are requested.
    pub(super) fn start(
        &mut self,
        still_interval: impl Fn() -> Duration + Send + 'static,
    ) -> Result<(), Failure> {
        let Some(plan) = self.plan.take() else { return Ok(()) };
        let output = FeedOutput {
            source: self.source.clone(),
            state: self.state.clone(),
            still_interval: Box::new(still_interval),
            first_still: None,
        };
        let reader = Reader::start(plan, output)
            .map_err(|e| Failure::new(FailureKind::Unreachable, format!("the camera cannot be read: {e}")))?;
        self.reader = Some(reader);
        Ok(())
    }

    /// The images that were skipped since the last call.
    ///
    /// Errors: reading has failed.
    pub(super) fn check(&self) -> Result<Option<Skipped>, Failure> {
        let mut state = lock(&self.state);
        match state.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(state.skipped.take()),
        }
    }
}

impl Output for FeedOutput {
    fn push(&mut self, data: Bytes, at: Option<Duration>) -> bool {
        let mut buffer = gst::Buffer::from_slice(data);
        if let Some(at) = at {
            let at = gst::ClockTime::from_nseconds(at.as_nanos() as u64);
            let now = self.source.current_running_time().unwrap_or_default();
            let first = *self.first_still.get_or_insert(now.saturating_sub(at));
            buffer.make_mut().set_pts(first + at);
        }
        self.source.push_buffer(buffer).is_ok()
    }

    fn skip(&mut self, reason: String) {
        let mut state = lock(&self.state);
        let count = state.skipped.as_ref().map_or(0, |skipped| skipped.count) + 1;
        state.skipped = Some(Skipped { count, reason });
    }

    fn still_interval(&self) -> Duration {
        (self.still_interval)()
    }

    fn end(&mut self, result: Result<(), Failure>) {
        match result {
            // What has been pushed is played first. Fails if the pipeline is closed.
            Ok(()) => drop(self.source.end_of_stream()),
            Err(failure) => lock(&self.state).failure = Some(failure),
        }
    }
}
