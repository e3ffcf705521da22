//! Publishes and logs a camera's status: each change once, without repetitions.

use super::{
    CameraStage, Failure,
    choice::PipelineChoice,
    gst::{self, CaptureObserver},
};
use crate::{
    frame::ClockFault,
    vision::health::Health,
    wire::messages::{CameraState, CameraStatus, Message, StreamClock},
};
use std::{sync::atomic::Ordering, time::Duration};

/// Pixels of a stream above which decoding it on the CPU is expensive enough to suggest the camera's
/// substream.
const MAX_CHEAP_PIXELS: usize = 1280 * 720;

/// How long a skipped image is reported as the camera's health.
const SKIPPED_HOLD: Duration = Duration::from_secs(60);

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
    /// Health of the images that arrive.
    image_health: Health,
    /// When an image was skipped last.
    skipped_at: Option<Duration>,
    /// A change of the stream's clock that is not told yet.
    untold_clock: Option<StreamClock>,
    clock_allowance: Allowance,
}

/// How often a change of a live stream's clock may be told: each is kept in the history, and a broken clock
/// can change with every frame.
#[derive(Debug)]
struct Allowance {
    left: u32,
    /// When the last one was earned.
    earned_at: Duration,
}

impl Allowance {
    const MAX: u32 = 5;
    const INTERVAL: Duration = Duration::from_secs(600);

    fn take(&mut self, now: Duration) -> bool {
        while self.left < Self::MAX && now.saturating_sub(self.earned_at) >= Self::INTERVAL {
            self.left += 1;
            self.earned_at += Self::INTERVAL;
        }
        if self.left == Self::MAX {
            self.earned_at = now;
        }
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }
}

impl<'a> StatusReporter<'a> {
    /// Creates the reporter of a camera that is starting. Publishes nothing yet.
    pub fn new(stage: &'a CameraStage) -> StatusReporter<'a> {
        let camera = stage.camera.name.as_str().into();
        let status = CameraStatus::starting(stage.node.clone(), camera, stage.clock.now());
        StatusReporter {
            stage,
            published: None,
            status,
            is_software: true,
            has_suggested: false,
            live_since: None,
            image_health: Health::Ok,
            skipped_at: None,
            untold_clock: None,
            clock_allowance: Allowance { left: Allowance::MAX, earned_at: Duration::ZERO },
        }
    }

    /// Reports that the camera is opened for the first time.
    pub fn starting(&mut self, choice: &PipelineChoice) {
        self.attempt(choice);
        self.report(CameraState::Starting, None);
    }

    /// Records that an attempt with the current pipeline begins. Publishes and logs the pipeline if it has
    /// changed, and why others were passed over.
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
        if self.published.is_some() {
            self.report(self.status.state, self.status.reason.clone());
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
            if state != CameraState::Live {
                self.status.clock = None;
                self.untold_clock = None;
            }
            self.stage.counters.live.store(state == CameraState::Live, Ordering::Relaxed);
            self.stage.control.set_live(state == CameraState::Live);
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

    fn transport(&mut self, name: &'static str, refused: Option<&str>) {
        let is_new = self.status.transport.replace(name) != Some(name);
        if let Some(refused) = refused.filter(|_| is_new) {
            let camera = self.stage.camera.name.as_str();
            tracing::info!(
                camera,
                refused,
                "Using RTP over {}; options.transport = {name:?} does so at once.",
                name.to_uppercase()
            );
        }
    }

    fn health(&mut self, health: Health) {
        self.image_health = health;
        self.update_health(None);
    }

    fn skipped(&mut self, reason: String) {
        self.skipped_at = Some(self.stage.clock.monotonic());
        self.update_health(Some(reason));
    }

    fn clock(&mut self, clock: StreamClock) {
        self.untold_clock = Some(clock);
        self.tell_clock();
    }

    fn tick(&mut self) {
        self.tell_clock();
        if self.skipped_at.is_some() {
            self.update_health(None);
        }
    }
}

impl StatusReporter<'_> {
    /// Tells of the stream's clock if it has changed, as often as it may.
    fn tell_clock(&mut self) {
        if self.untold_clock == self.status.clock {
            self.untold_clock = None;
        }
        let Some(clock) = &self.untold_clock else { return };
        // While an attempt begins, the clock goes out with the state.
        let is_live = self.status.state == CameraState::Live;
        if is_live && !self.clock_allowance.take(self.stage.clock.monotonic()) {
            return;
        }
        let clock = clock.clone();
        self.untold_clock = None;
        let camera = self.stage.camera.name.as_str();
        let (capture, offset_s) = (clock.capture, clock.offset_s);
        let previous = self.status.clock.replace(clock.clone());
        if previous.as_ref().and_then(|previous| previous.fault) != clock.fault {
            match clock.fault {
                None => tracing::info!(camera, "Camera's clock is usable again."),
                Some(ClockFault::StreamTime) => tracing::warn!(
                    camera,
                    "Camera's stream times do not advance as time does; arrival times are used."
                ),
                Some(ClockFault::SenderUnsteady) => {
                    tracing::warn!(camera, "Camera's clock has stopped or jumps; its time is carried on.")
                }
                Some(ClockFault::SenderImplausible) => {
                    tracing::warn!(camera, offset_s, "Camera's clock is far off and not used.")
                }
            }
        } else {
            tracing::debug!(camera, ?capture, offset_s, "Camera's clock.");
        }
        if is_live {
            self.report(CameraState::Live, self.status.reason.clone());
        }
    }

    /// Publishes the health if it has changed. `skipped` is why an image was skipped just now. Skipped images
    /// are reported until there has been none for [`SKIPPED_HOLD`]; a problem of the others comes first.
    fn update_health(&mut self, skipped: Option<String>) {
        let now = self.stage.clock.monotonic();
        self.skipped_at = self.skipped_at.filter(|at| now.saturating_sub(*at) < SKIPPED_HOLD);
        let health = match self.image_health {
            Health::Ok if self.skipped_at.is_some() => Health::Incomplete,
            image => image,
        };
        if self.status.health == health {
            return;
        }
        self.status.health = health;
        self.status.health_reason = skipped.filter(|_| health == Health::Incomplete);
        let camera = self.stage.camera.name.as_str();
        match health {
            Health::Ok => tracing::info!(camera, "Camera's image is usable again."),
            Health::Incomplete => {
                let reason = self.status.health_reason.as_deref();
                tracing::warn!(camera, reason, "An image of the camera was skipped.");
            }
            bad => tracing::warn!(camera, "Camera's image has been {} for a minute.", bad.name()),
        }
        self.report(self.status.state, self.status.reason.clone());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_changes_all_the_time_is_told_now_and_then() {
        let mut allowance = Allowance { left: Allowance::MAX, earned_at: Duration::ZERO };
        let mut told_within = |from_s: u64, to_s: u64| -> usize {
            (from_s..to_s).filter(|&second| allowance.take(Duration::from_secs(second))).count()
        };
        assert_eq!(told_within(7, 607), 5, "at once");
        assert_eq!(told_within(607, 3607), 5, "one in ten minutes");
        // After a quiet day.
        assert_eq!(told_within(90_000, 90_100), 5);
    }
}
