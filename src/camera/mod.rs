//! A camera's stage: keeps one camera running, independently of all others.
//!
//! [`CameraStage::run`] opens the camera, streams, and after a failure reports it once, waits and tries
//! again. [`gst`] makes one attempt and is the only module that uses GStreamer; [`rtsp`] speaks to RTSP
//! cameras and [`http`] to those that speak HTTP; [`auth`] answers both when they ask for a password;
//! [`device`] checks that a local camera may be opened.
//! [`template`] defines the pipelines for each kind of source and [`choice`] selects one; [`decode`]
//! decides which frames are decoded and [`pace`] which are analysed; [`timing`] gives them their times;
//! [`retry`] sets the delay after a failure; [`watchdog`] detects a stalled attempt, [`probe`] a camera
//! that can be reached again; [`report`] publishes the status. The stage has a thread of its own. Frames
//! leave through the camera's slot, its status through messages.
//!
//! Commands look at cameras without a stage: [`opening`] opens one for a moment, [`stream_facts`] is what is
//! learnt from that, and [`onvif`] finds cameras on the local network.

mod auth;
pub mod choice;
mod decode;
pub mod device;
pub mod gst;
pub mod http;
pub mod onvif;
pub mod opening;
mod pace;
mod probe;
mod report;
mod retry;
pub mod rtsp;
pub mod stream_facts;
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
use choice::{NextStart, PipelineChoice};
use http::Content;
pub use probe::host_and_port;
use report::StatusReporter;
use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};
use template::{Codec, Pipeline};

/// Characters of a reason. Some quote the camera.
const MAX_REASON_CHARS: usize = 400;

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
    /// The camera was connected and no longer sends usable frames. Before the first frame, this counts
    /// against the pipeline.
    Stalled,
    /// The camera does not answer, has disconnected, or does not exist. Probed during the backoff.
    Unreachable,
    /// User or password is wrong. The backoff is long, because cameras lock accounts.
    Denied,
    /// The video cannot be used. Before the first frame, this counts against the pipeline. The backoff is
    /// long.
    Unsupported,
    /// Frames arrive, but the decoder outputs none. Before the first one, this counts against the pipeline.
    NoDecoderOutput,
    /// The camera announces this codec, and the pipeline is for another. A pipeline for it is tried at once.
    OtherCodec(Codec),
    /// The HTTP camera sends this, and the pipeline is for other content. A pipeline for it is tried at once.
    OtherContent(Content),
}

impl Failure {
    /// Creates a failure. A reason that a camera has made too long is cut.
    fn new(kind: FailureKind, reason: impl Into<String>) -> Failure {
        let mut reason = reason.into();
        if reason.chars().nth(MAX_REASON_CHARS).is_some() {
            reason = reason.chars().take(MAX_REASON_CHARS).chain("...".chars()).collect();
        }
        Failure { kind, reason }
    }

    /// Whether this counts against the pipeline if it happens before the first picture: the camera was
    /// reached, and something else may make pictures of what it sends.
    fn counts_against_pipeline(&self) -> bool {
        matches!(
            self.kind,
            FailureKind::Unsupported
                | FailureKind::NoDecoderOutput
                | FailureKind::Stalled
                | FailureKind::OtherContent(_)
        )
    }

    /// The failure of a source without video.
    fn no_video() -> Failure {
        Failure::new(FailureKind::Unsupported, "the source contains no video")
    }

    /// The failure of a camera that announces `codec` to a pipeline for another codec.
    fn other_codec(codec: Codec) -> Failure {
        let reason = format!("the camera sends {codec}, which this pipeline does not support");
        Failure::new(FailureKind::OtherCodec(codec), reason)
    }

    /// The failure of a local camera whose device cannot be opened.
    fn of_device(error: &std::io::Error) -> Failure {
        let kind = match error.kind() {
            std::io::ErrorKind::PermissionDenied => FailureKind::Denied,
            _ => FailureKind::Unreachable,
        };
        Failure::new(kind, error.to_string())
    }

    fn state(&self) -> CameraState {
        match self.kind {
            FailureKind::Stalled => CameraState::Stalled,
            FailureKind::Unreachable => CameraState::Unreachable,
            FailureKind::Denied => CameraState::Denied,
            FailureKind::Unsupported
            | FailureKind::NoDecoderOutput
            | FailureKind::OtherCodec(_)
            | FailureKind::OtherContent(_) => CameraState::Unsupported,
        }
    }
}

/// The printable ASCII of a text that a camera has sent, at most `max` characters.
fn readable(text: &str, max: usize) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(max).collect::<String>().trim().into()
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
            let hanging = self.counters.hanging_pipelines.load(Ordering::Relaxed);
            if hanging >= retry::MAX_HANGING_PIPELINES && !matches!(next, Next::Stop) {
                if self.give_up(hanging, &choice, &mut report) {
                    break;
                }
                continue;
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
            if choice.follow(failure.kind) {
                continue;
            }
            let was_proven = choice.is_proven();
            if streamed.is_none()
                && failure.counts_against_pipeline()
                && choice.start_failed(&failure.reason, self.clock.monotonic()) == NextStart::AtOnce
            {
                continue;
            }
            // Only here: tracks survive an expected reopening, as of a clip.
            self.slot.interrupt(Interruption::Failed);
            self.counters.restarts.fetch_add(1, Ordering::Relaxed);
            // A camera that has been watched before will be watchable again, perhaps soon.
            let delay = match failure.kind {
                FailureKind::Unsupported if was_proven => {
                    retry.after(streamed.unwrap_or_default(), FailureKind::Stalled)
                }
                kind => retry.after(streamed.unwrap_or_default(), kind),
            };
            report.failed(&failure, &choice);
            if self.wait_for_camera(delay, failure.kind) {
                break;
            }
            choice.paused();
        }
        report.stopped();
    }

    /// Leaves a camera alone whose pipelines hang, until they do not or a long delay has passed. Each of them
    /// keeps memory, threads and often the device. Returns true if it is time to stop.
    fn give_up(&self, hanging: u64, choice: &PipelineChoice, report: &mut StatusReporter<'_>) -> bool {
        self.slot.interrupt(Interruption::Failed);
        self.counters.restarts.fetch_add(1, Ordering::Relaxed);
        let delay = retry::delay_while_hanging(hanging);
        let minutes = delay.as_secs() / 60;
        let reason =
            format!("given up: {hanging} of its pipelines cannot be stopped; opened again in {minutes} min");
        report.failed(&Failure::new(FailureKind::Stalled, reason), choice);
        self.wait_until(delay, || {
            self.counters.hanging_pipelines.load(Ordering::Relaxed) < retry::MAX_HANGING_PIPELINES
        })
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
        choice.opening(started);
        report.attempt(choice);
        let ended = match choice.current() {
            Ok(pipeline) => device::check(&self.camera.source)
                .map_err(|error| Failure::of_device(&error))
                .and_then(|()| gst::run_once(self, pipeline, choice.usable_codecs(), report)),
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
                Next::Failed(Failure::no_video())
            }
            Ok(Ended::Finished) => self.after_the_end(started),
            Err(failure) => Next::Failed(failure),
        };
        (next, streamed)
    }

    /// What follows when a source that has delivered frames ends. Waits if the source would be reopened too
    /// soon.
    fn after_the_end(&self, started: Duration) -> Next {
        let played = self.clock.monotonic().saturating_sub(started);
        let reopen_after = match self.camera.source {
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
