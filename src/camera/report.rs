//! Publishes and logs a camera's status: each change once, without repetitions.

use super::{
    CameraStage, Failure,
    choice::PipelineChoice,
    gst::{self, CaptureObserver},
};
use crate::{
    vision::health::Health,
    wire::messages::{CameraState, CameraStatus, Header, Message},
};
use std::{sync::atomic::Ordering, time::Duration};

/// Pixels of a stream above which decoding it on the CPU is expensive enough to suggest the camera's
/// substream.
const MAX_CHEAP_PIXELS: usize = 1280 * 720;

/// Reports the status of one camera.
pub struct StatusReporter<'a> {
    stage: &'a CameraStage,
    published: Option<CameraStatus>,
    status: CameraStatus,
    /// The current attempt decodes on the CPU.
    is_software: bool,
    /// The substream has been suggested.
    has_suggested: bool,
    live_since: Option<Duration>,
}

impl<'a> StatusReporter<'a> {
    /// Creates the reporter of a camera that is starting. Publishes nothing yet.
    pub fn new(stage: &'a CameraStage) -> StatusReporter<'a> {
        let status = CameraStatus {
            header: Header::new(stage.node.clone(), Some(stage.camera.name.as_str().into())),
            state: CameraState::Starting,
            reason: None,
            since: stage.clock.now(),
            pipeline: None,
            passed_over: Vec::new(),
            health: Health::Ok,
        };
        StatusReporter {
            stage,
            published: None,
            status,
            is_software: true,
            has_suggested: false,
            live_since: None,
        }
    }

    /// Reports that the camera is opened for the first time.
    pub fn starting(&mut self, choice: &PipelineChoice) {
        self.attempt(choice);
        self.report(CameraState::Starting, None);
    }

    /// Records that an attempt with the current pipeline begins, and logs the pipeline if it has changed.
    pub fn attempt(&mut self, choice: &PipelineChoice) {
        self.live_since = None;
        self.status.passed_over = gst::without_other_boards(choice.skipped());
        let pipeline = choice.current().ok();
        self.is_software = pipeline.is_some_and(|pipeline| !pipeline.hardware && pipeline.codec.is_some());
        let name = pipeline.map(|pipeline| pipeline.template.clone());
        if name != self.status.pipeline {
            let camera = self.stage.camera.name.as_str();
            let launch = pipeline.map(|pipeline| pipeline.launch.as_str());
            tracing::info!(
                camera,
                pipeline = name,
                skipped = skipped_text(&self.status),
                "Pipeline selected for camera."
            );
            tracing::debug!(camera, launch, "Opening camera.");
            self.status.pipeline = name;
        }
    }

    /// Ends an attempt. Returns for how long it delivered frames, or None if it never did.
    pub fn end_of_attempt(&mut self, now: Duration) -> Option<Duration> {
        self.live_since.take().map(|since| now.saturating_sub(since))
    }

    /// Reports a failure after which the camera is opened again.
    pub fn failed(&mut self, failure: &Failure, choice: &PipelineChoice) {
        self.status.passed_over = gst::without_other_boards(choice.skipped());
        self.report(failure.state(), Some(failure.reason.clone()));
    }

    /// Reports that a recording without repetition has ended.
    pub fn ended(&mut self) {
        self.report(CameraState::Ended, None);
    }

    /// Reports that a command has paused the camera.
    pub fn paused(&mut self) {
        self.report(CameraState::Paused, None);
    }

    /// Reports that camfire has closed the camera.
    pub fn stopped(&mut self) {
        self.report(CameraState::Stopped, None);
    }

    /// Publishes the status if it differs from the published one, and logs a change of state or reason.
    fn report(&mut self, state: CameraState, reason: Option<String>) {
        if self.status.state != state || self.status.reason != reason {
            (self.status.state, self.status.reason) = (state, reason);
            self.status.since = self.stage.clock.now();
            self.stage.counters.live.store(state == CameraState::Live, Ordering::Relaxed);
        }
        if self.published.as_ref() == Some(&self.status) {
            return;
        }
        let published = self.published.as_ref().map(|status| (status.state, &status.reason));
        if published != Some((state, &self.status.reason)) {
            self.log();
        }
        self.stage.messages.send(Message::Camera(self.status.clone()));
        self.published = Some(self.status.clone());
    }

    fn log(&self) {
        let camera = self.stage.camera.name.as_str();
        let reason = self.status.reason.as_deref().unwrap_or_default();
        match self.status.state {
            state @ (CameraState::Starting | CameraState::Stopped) => {
                tracing::debug!(camera, "Camera is {state:?}.")
            }
            CameraState::Live => tracing::info!(camera, "Camera is live."),
            CameraState::Ended => tracing::info!(camera, "Recording has ended."),
            CameraState::Paused => tracing::info!(camera, "Camera is paused."),
            CameraState::Stalled => tracing::warn!(camera, reason, "Camera has stalled; retrying."),
            CameraState::Unreachable => tracing::warn!(camera, reason, "Camera is unreachable; retrying."),
            CameraState::Denied => {
                tracing::warn!(camera, reason, "Camera denies access; retrying once a minute.");
            }
            CameraState::Unsupported => {
                tracing::warn!(camera, reason, "Camera's video cannot be used; retrying.");
            }
        }
    }
}

impl CaptureObserver for StatusReporter<'_> {
    fn live(&mut self, size: Option<(usize, usize)>) {
        self.live_since = Some(self.stage.clock.monotonic());
        self.report(CameraState::Live, None);
        if let Some((width, height)) = size
            && self.is_software
            && width * height > MAX_CHEAP_PIXELS
            && !std::mem::replace(&mut self.has_suggested, true)
        {
            let camera = self.stage.camera.name.as_str();
            tracing::info!(
                camera,
                width,
                height,
                "Camera is decoded on the CPU; its low-resolution substream would cost less."
            );
        }
    }

    fn health(&mut self, health: Health) {
        if self.status.health == health {
            return;
        }
        self.status.health = health;
        let camera = self.stage.camera.name.as_str();
        match health {
            Health::Ok => tracing::info!(camera, "Camera's image is usable again."),
            bad => tracing::warn!(camera, "Camera's image has been {} for a minute.", bad.name()),
        }
        let (state, reason) = (self.status.state, self.status.reason.clone());
        self.report(state, reason);
    }
}

/// The skipped pipelines and the reasons, on one line.
fn skipped_text(status: &CameraStatus) -> Option<String> {
    let each: Vec<String> = status
        .passed_over
        .iter()
        .map(|skipped| format!("{} ({})", skipped.pipeline, skipped.reason))
        .collect();
    (!each.is_empty()).then(|| each.join(", "))
}
