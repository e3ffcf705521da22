//! What is told of a camera: each change of state is logged and published once, repetitions are not.

use super::{CameraStage, Failure, choice::Choice, gst::Watcher};
use crate::{
    vision::health::Health,
    wire::messages::{CameraState, CameraStatus, Header, Message},
};
use std::{sync::atomic::Ordering, time::Duration};

/// H.264 or H.265 of more pixels than this is much work for a CPU; users should know of their camera's small stream.
const LARGE: usize = 1280 * 720;

/// One camera's reporter.
pub struct Report<'a> {
    stage: &'a CameraStage,
    told: Option<CameraStatus>,
    status: CameraStatus,
    /// Whether the current attempt decodes on the CPU.
    in_software: bool,
    advised: bool,
    live_since: Option<Duration>,
}

impl<'a> Report<'a> {
    /// A camera of which nothing is known yet.
    pub fn new(stage: &'a CameraStage) -> Report<'a> {
        let status = CameraStatus {
            header: Header::new(stage.node.clone(), Some(stage.camera.name.as_str().into())),
            state: CameraState::Starting,
            reason: None,
            since: stage.clock.now(),
            pipeline: None,
            passed_over: Vec::new(),
            health: Health::Ok,
        };
        Report { stage, told: None, status, in_software: true, advised: false, live_since: None }
    }

    /// It is being opened for the first time.
    pub fn starting(&mut self, choice: &Choice) {
        self.attempt(choice);
        self.tell(CameraState::Starting, None);
    }

    /// Another attempt with the choice's current pipeline.
    pub fn attempt(&mut self, choice: &Choice) {
        self.live_since = None;
        self.status.passed_over = choice.passed_over();
        let pipeline = choice.current().ok();
        self.in_software = pipeline.is_some_and(|pipeline| !pipeline.hardware && pipeline.codec.is_some());
        let name = pipeline.map(|pipeline| pipeline.template.clone());
        if name != self.status.pipeline {
            let camera = self.stage.camera.name.as_str();
            let launch = pipeline.map(|pipeline| pipeline.launch.as_str());
            tracing::info!(
                camera,
                pipeline = name,
                not = passed_over(&self.status),
                "Camera's pipeline is chosen."
            );
            tracing::debug!(camera, launch, "Camera is being opened.");
            self.status.pipeline = name;
        }
    }

    /// How long the attempt gave pictures; none where it gave no first one.
    pub fn end_of_attempt(&mut self, now: Duration) -> Option<Duration> {
        self.live_since.take().map(|since| now.saturating_sub(since))
    }

    /// It failed and will be tried again.
    pub fn failed(&mut self, failure: &Failure, choice: &Choice) {
        self.status.passed_over = choice.passed_over();
        self.tell(failure.state(), Some(failure.reason.clone()));
    }

    /// A clip that was to be played once is over.
    pub fn ended(&mut self) {
        self.tell(CameraState::Ended, None);
    }

    /// A command has closed it.
    pub fn paused(&mut self) {
        self.tell(CameraState::Paused, None);
    }

    /// camfire stops watching it.
    pub fn stopped(&mut self) {
        self.tell(CameraState::Stopped, None);
    }

    fn tell(&mut self, state: CameraState, reason: Option<String>) {
        if self.status.state != state || self.status.reason != reason {
            (self.status.state, self.status.reason) = (state, reason);
            self.status.since = self.stage.clock.now();
            self.stage.counters.live.store(state == CameraState::Live, Ordering::Relaxed);
        }
        if self.told.as_ref() == Some(&self.status) {
            return;
        }
        let camera = self.stage.camera.name.as_str();
        let was = self.told.as_ref().map(|told| (told.state, &told.reason));
        if was != Some((state, &self.status.reason)) {
            let reason = self.status.reason.as_deref().unwrap_or_default();
            match state {
                CameraState::Starting | CameraState::Stopped => {
                    tracing::debug!(camera, "Camera is {state:?}.")
                }
                CameraState::Live => tracing::info!(camera, "Camera is live."),
                CameraState::Ended => tracing::info!(camera, "Clip is over."),
                CameraState::Paused => tracing::info!(camera, "Camera is paused."),
                CameraState::Stalled => tracing::warn!(camera, reason, "Camera is stalled; trying again."),
                CameraState::Unreachable => {
                    tracing::warn!(camera, reason, "Camera is unreachable; trying again.")
                }
                CameraState::Denied => {
                    tracing::warn!(camera, reason, "Camera denies access; trying again slowly.");
                }
                CameraState::Unsupported => {
                    tracing::warn!(camera, reason, "Camera cannot be watched; trying again slowly.");
                }
            }
        }
        self.stage.messages.send(Message::Camera(self.status.clone()));
        self.told = Some(self.status.clone());
    }
}

impl Watcher for Report<'_> {
    fn live(&mut self, size: Option<(usize, usize)>) {
        self.live_since = Some(self.stage.clock.monotonic());
        self.tell(CameraState::Live, None);
        if let Some((width, height)) = size
            && self.in_software
            && width * height > LARGE
            && !std::mem::replace(&mut self.advised, true)
        {
            let camera = self.stage.camera.name.as_str();
            tracing::info!(
                camera,
                width,
                height,
                "Decoded on the CPU; the camera's small second stream would cost less."
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
            Health::Ok => tracing::info!(camera, "Camera sees again."),
            bad => tracing::warn!(camera, "Camera's picture is {} for a minute.", bad.name()),
        }
        let (state, reason) = (self.status.state, self.status.reason.clone());
        self.tell(state, reason);
    }
}

/// The pipelines that were not taken, on one line.
fn passed_over(status: &CameraStatus) -> Option<String> {
    let each: Vec<String> =
        status.passed_over.iter().map(|passed| format!("{} ({})", passed.pipeline, passed.reason)).collect();
    (!each.is_empty()).then(|| each.join(", "))
}
