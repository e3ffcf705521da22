//! A camera's stage: keeps one camera running, independently of all others.
//!
//! [`CameraStage::run`] opens the camera, streams, and after a failure reports it once, waits and tries
//! again. [`gst`] makes one attempt and is the only module that uses GStreamer. [`template`] defines the
//! pipelines for each kind of source and [`choice`] selects one; [`decode`] decides which frames are decoded
//! and [`pace`] which are analysed; [`timing`] gives them their times; [`retry`] sets the delay after a failure; [`watchdog`] detects a stalled
//! attempt, [`probe`] a camera that can be reached again; [`report`] publishes the status. The stage has a
//! thread of its own. Frames leave through the camera's slot, its status through messages.

pub mod choice;
mod decode;
pub mod gst;
mod pace;
mod probe;
mod report;
mod retry;
pub mod template;
mod timing;
mod watchdog;

use crate::{
    clock::Clock,
    config::{Camera, Source},
    control::CameraControl,
    counters::CameraCounters,
    lifecycle::{Heartbeat, StopSignal},
    queue::{
        frames::{Interruption, Slot},
        messages::MessageSender,
    },
    vision::health::HealthCheck,
    wire::messages::{CameraState, Message},
};
use choice::PipelineChoice;
use report::StatusReporter;
use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};
use template::{Codec, Pipeline};

/// Times in a row that the pipeline is changed because the camera announces another codec, before that is a
/// failure.
const MAX_CODEC_CHANGES: u32 = 2;

/// Everything that one camera's thread owns.
pub struct CameraStage {
    /// The camera's configuration.
    pub camera: Camera,
    /// The pipelines for its source, best first.
    pub pipelines: Vec<Pipeline>,
    /// The node's name, for messages.
    pub node: Arc<str>,
    /// Where its frames go; read by the workers.
    pub slot: Arc<Slot>,
    /// Its counters; read by the stats and the metrics.
    pub counters: Arc<CameraCounters>,
    /// Its settings that commands can change; written by the publisher.
    pub control: Arc<CameraControl>,
    /// The health of its image, across all attempts.
    pub health: Arc<Mutex<HealthCheck>>,
    /// Where its status goes; read by the publisher.
    pub messages: MessageSender<Message>,
    /// Clock.
    pub clock: Arc<dyn Clock>,
    /// When to stop.
    pub stop: StopSignal,
    /// Updated on every loop iteration; read by the watchdog of the process.
    pub heartbeat: Heartbeat,
}

/// How an attempt ended without a failure.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// camfire is stopping.
    Stopped,
    /// The source has no more frames.
    Finished,
    /// A command has paused the camera.
    Paused,
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Decides the reaction.
    pub kind: FailureKind,
    /// Text for the user.
    pub reason: String,
}

/// The kinds of failures. After each of them the camera is opened again, sooner or later.
///
/// The kind decides which [`CameraState`] is published, whether another pipeline is tried at once, how long
/// the backoff is, and whether the camera is probed meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The camera was connected and no longer sends usable frames.
    Stalled,
    /// The camera does not answer, has disconnected, or does not exist. Probed during the backoff.
    Unreachable,
    /// User or password is wrong. The backoff is long, because cameras lock accounts.
    Denied,
    /// The video cannot be used. Before the first frame, the next pipeline is tried at once. The backoff is
    /// long.
    Unsupported,
    /// Frames arrive, but the decoder outputs none. Before the first one, the next pipeline is tried at once.
    NoDecoderOutput,
    /// The camera announces this codec, and the pipeline is for another. A pipeline for it is tried at once.
    OtherCodec(Codec),
}

impl Failure {
    fn new(kind: FailureKind, reason: impl Into<String>) -> Failure {
        Failure { kind, reason: reason.into() }
    }

    fn state(&self) -> CameraState {
        match self.kind {
            FailureKind::Stalled => CameraState::Stalled,
            FailureKind::Unreachable => CameraState::Unreachable,
            FailureKind::Denied => CameraState::Denied,
            FailureKind::Unsupported | FailureKind::NoDecoderOutput | FailureKind::OtherCodec(_) => {
                CameraState::Unsupported
            }
        }
    }
}

/// What follows on an attempt.
enum Next {
    /// The camera is opened again at once.
    Reopen,
    /// The recording has ended and is not repeated.
    Over,
    /// camfire is stopping.
    Stop,
    /// The failure is handled.
    Failed(Failure),
}

impl CameraStage {
    /// Keeps the camera running until it is time to stop.
    pub fn run(self) {
        let mut choice = PipelineChoice::new(self.pipelines.clone(), gst::missing);
        let mut report = StatusReporter::new(&self);
        let mut retry = retry::RetryDelay::new(self.camera.max_backoff, fastrand::u64(..));
        let mut codec_changes = 0;
        report.starting(&choice);
        loop {
            if !self.control.settings().watching {
                self.slot.interrupt(Interruption::Ended);
                report.paused();
                if self.wait_until(Duration::MAX, || self.control.settings().watching) {
                    break;
                }
            }
            let (next, streamed) = self.attempt(&mut choice, &mut report);
            if streamed.is_some() {
                codec_changes = 0;
            }
            let failure = match next {
                Next::Stop => break,
                Next::Reopen => continue,
                Next::Over => {
                    self.slot.interrupt(Interruption::Ended);
                    report.ended();
                    self.wait(Duration::MAX);
                    break;
                }
                Next::Failed(failure) => failure,
            };
            if let FailureKind::OtherCodec(codec) = failure.kind
                && codec_changes < MAX_CODEC_CHANGES
                && choice.set_codec(codec)
            {
                codec_changes += 1;
                continue;
            }
            let is_pipelines_fault =
                matches!(failure.kind, FailureKind::Unsupported | FailureKind::NoDecoderOutput);
            if streamed.is_none() && is_pipelines_fault && choice.start_failed(&failure.reason) {
                continue;
            }
            // Only here: tracks survive an expected reopening, as after each still image.
            self.slot.interrupt(Interruption::Failed);
            self.counters.restarts.fetch_add(1, Ordering::Relaxed);
            let delay = retry.after(streamed.unwrap_or_default(), failure.kind);
            report.failed(&failure, &choice);
            if self.wait_for_camera(delay, failure.kind) {
                break;
            }
        }
        report.stopped();
    }

    /// Makes one attempt with the current pipeline. Returns what follows, and for how long the attempt
    /// delivered frames, or None if it never did.
    fn attempt(
        &self,
        choice: &mut PipelineChoice,
        report: &mut StatusReporter<'_>,
    ) -> (Next, Option<Duration>) {
        let started = self.clock.monotonic();
        let captured_before = self.slot.counts().captured;
        report.attempt(choice);
        let ended = match choice.current() {
            Ok(pipeline) => gst::run_once(self, pipeline, report),
            Err(missing) => Err(Failure::new(FailureKind::Unsupported, missing)),
        };
        let streamed = report.end_of_attempt(self.clock.monotonic());
        if streamed.is_some() {
            choice.start_succeeded();
        }
        let next = match ended {
            Ok(Ended::Stopped) => Next::Stop,
            Ok(Ended::Paused) => Next::Reopen,
            Ok(Ended::Finished) if self.slot.counts().captured == captured_before => {
                Next::Failed(gst::no_video())
            }
            Ok(Ended::Finished) => self.after_the_end(choice, started),
            Err(failure) => Next::Failed(failure),
        };
        (next, streamed)
    }

    /// What follows when a source that has delivered frames ends. Waits if the source would be reopened too
    /// soon.
    fn after_the_end(&self, choice: &PipelineChoice, started: Duration) -> Next {
        let played = self.clock.monotonic().saturating_sub(started);
        let is_still = choice.current().is_ok_and(|pipeline| pipeline.stills);
        let reopen_after = match self.camera.source {
            _ if is_still => Duration::from_secs_f64(1.0 / self.control.settings().rate_fps),
            // A clip that cannot be rewound. The minimum prevents a busy loop with a clip of a few frames.
            Source::File { repeat: true, .. } => gst::MIN_CLIP_DURATION,
            Source::File { repeat: false, .. } => return Next::Over,
            _ => return Next::Failed(Failure::new(FailureKind::Unreachable, "the stream ended")),
        };
        if self.wait(reopen_after.saturating_sub(played)) { Next::Stop } else { Next::Reopen }
    }

    /// Waits for `pause`, or until an unreachable camera can be reached again. Returns true if it is time to
    /// stop.
    fn wait_for_camera(&self, pause: Duration, kind: FailureKind) -> bool {
        let probe = match kind {
            FailureKind::Unreachable => probe::Probe::start(&self.camera),
            _ => None,
        };
        match probe {
            Some(probe) => self.wait_until(pause, || probe.is_reachable()),
            None => self.wait(pause),
        }
    }

    /// Waits for `pause` and keeps the heartbeat going. Returns true if it is time to stop.
    fn wait(&self, pause: Duration) -> bool {
        self.wait_until(pause, || false)
    }

    fn wait_until(&self, pause: Duration, is_done: impl Fn() -> bool) -> bool {
        const STEP: Duration = Duration::from_millis(250);
        let mut left = pause;
        while !left.is_zero() && !is_done() {
            self.heartbeat.beat(self.clock.monotonic());
            if self.stop.wait(left.min(STEP)) {
                return true;
            }
            left = left.saturating_sub(STEP);
        }
        self.stop.is_triggered()
    }
}
