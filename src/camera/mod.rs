//! A camera's stage: keeps one camera going, whatever it does, and never touches another.
//!
//! [`CameraStage::run`] is the loop: open, stream, and after a failure say so once, pause, try again. [`gst`] makes one
//! attempt and is the only code that names GStreamer. [`template`] says how each kind of source is put together,
//! [`choice`] which of several ways is taken, [`decode`] which frames are decoded, [`pace`] how often, [`watchdog`] when
//! it has gone silent, [`probe`] when one that was away is back, and [`report`] what is told about it all. Runs on a
//! thread of its own; frames leave through the camera's slot, state through messages.

pub mod choice;
mod decode;
pub mod gst;
mod pace;
mod probe;
mod report;
mod sizes;
pub mod template;
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
use choice::Choice;
use report::Report;
use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};
use template::{Codec, Pipeline};

/// Everything that one camera's thread owns.
pub struct CameraStage {
    /// What the user wants of it.
    pub camera: Camera,
    /// The templates that fit it, filled in, best first.
    pub pipelines: Vec<Pipeline>,
    /// The node's name, for messages.
    pub node: Arc<str>,
    /// Where its frames go; the workers have the other end.
    pub slot: Arc<Slot>,
    /// What is counted about it; the counts have the other end.
    pub counters: Arc<CameraCounters>,
    /// What can be changed about it; the publisher has the other end.
    pub control: Arc<CameraControl>,
    /// What its pictures have been like, over all attempts.
    pub health: Arc<Mutex<HealthCheck>>,
    /// Where its changes of state go; the publisher has the other end.
    pub messages: MessageSender<Message>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// When to end.
    pub stop: StopSignal,
    /// Beats at every turn of the loop; the watchdog reads it.
    pub heartbeat: Heartbeat,
}

/// How an attempt ended without a failure.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was time to stop.
    Stopped,
    /// The clip is over.
    Finished,
    /// A command has closed it.
    Paused,
}

/// Why an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What to do about it.
    pub trouble: Trouble,
    /// In words, for users.
    pub reason: String,
}

/// What is wrong with a camera, as far as anyone reacts to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It was there and sends nothing any more.
    Stalled,
    /// It does not answer, hung up, or is not there.
    Unreachable,
    /// It does not want us: wrong user or password.
    Denied,
    /// What it sends cannot be watched.
    Unsupported,
    /// Frames come, but the decoder makes no pictures of them.
    NoPicture,
    /// It sends this codec, for which another pipeline is needed.
    OtherCodec(Codec),
}

impl Failure {
    fn new(trouble: Trouble, reason: impl Into<String>) -> Failure {
        Failure { trouble, reason: reason.into() }
    }

    fn state(&self) -> CameraState {
        match self.trouble {
            Trouble::Stalled => CameraState::Stalled,
            Trouble::Unreachable => CameraState::Unreachable,
            Trouble::Denied => CameraState::Denied,
            Trouble::Unsupported | Trouble::NoPicture | Trouble::OtherCodec(_) => CameraState::Unsupported,
        }
    }
}

impl CameraStage {
    /// Keeps the camera going until it is time to stop.
    pub fn run(self) {
        let mut choice = Choice::new(self.pipelines.clone(), gst::missing);
        let mut report = Report::new(&self);
        let mut backoff = pace::Backoff::new(self.camera.max_backoff, fastrand::u64(..));
        let mut codecs_tried = 0;
        report.starting(&choice);
        loop {
            if !self.control.settings().watching {
                self.slot.interrupt(Interruption::Ended);
                report.paused();
                if self.wait_until(Duration::MAX, || self.control.settings().watching) {
                    break;
                }
            }
            let started = self.clock.monotonic();
            let frames_before = self.slot.counts().captured;
            report.attempt(&choice);
            let ended = match choice.current() {
                Ok(pipeline) => gst::run_once(&self, pipeline, &mut report),
                Err(missing) => Err(Failure::new(Trouble::Unsupported, missing)),
            };
            let streamed = report.end_of_attempt(self.clock.monotonic());
            if streamed.is_some() {
                choice.works();
                codecs_tried = 0;
            }
            let failure = match ended {
                Ok(Ended::Stopped) => break,
                Ok(Ended::Paused) => continue,
                Ok(Ended::Finished) if self.slot.counts().captured == frames_before => {
                    Failure::new(Trouble::Unsupported, "there is no video in it")
                }
                Ok(Ended::Finished) => match self.after_the_end(&choice, started) {
                    Next::Again => continue,
                    Next::Over => {
                        self.slot.interrupt(Interruption::Ended);
                        report.ended();
                        self.wait(Duration::MAX);
                        break;
                    }
                    Next::Stop => break,
                    Next::Failed => Failure::new(Trouble::Unreachable, "the stream ended"),
                },
                Err(failure) => failure,
            };
            if let Trouble::OtherCodec(codec) = failure.trouble
                && codecs_tried < 2
                && choice.found_codec(codec)
            {
                codecs_tried += 1;
                continue;
            }
            let is_pipelines_fault = matches!(failure.trouble, Trouble::Unsupported | Trouble::NoPicture);
            if streamed.is_none() && is_pipelines_fault && choice.failed_start(&failure.reason) {
                continue;
            }
            // Not where it is opened again as a matter of course, as for each still: what is tracked goes on.
            self.slot.interrupt(Interruption::Failed);
            self.counters.restarts.fetch_add(1, Ordering::Relaxed);
            let pause = backoff.pause(streamed.unwrap_or_default(), failure.trouble);
            report.failed(&failure, &choice);
            if self.wait_for_camera(pause, failure.trouble) {
                break;
            }
        }
        report.stopped();
    }

    /// What follows when a source that gave frames has come to its end.
    fn after_the_end(&self, choice: &Choice, started: Duration) -> Next {
        let played = self.clock.monotonic().saturating_sub(started);
        let stills = choice.current().is_ok_and(|pipeline| pipeline.stills);
        match self.camera.source {
            _ if stills => {
                let interval = Duration::from_secs_f64(1.0 / self.control.settings().rate_fps);
                if self.wait(interval.saturating_sub(played)) { Next::Stop } else { Next::Again }
            }
            // A clip that cannot be rewound is opened again instead; a still is no reason to spin.
            Source::File { repeat: true, .. } => {
                if self.wait(gst::SHORTEST_CLIP.saturating_sub(played)) {
                    Next::Stop
                } else {
                    Next::Again
                }
            }
            Source::File { repeat: false, .. } => Next::Over,
            _ => Next::Failed,
        }
    }

    /// Sleeps for `pause`, or until a camera that was away answers again; true if it is time to stop.
    fn wait_for_camera(&self, pause: Duration, trouble: Trouble) -> bool {
        let probe = match trouble {
            Trouble::Unreachable => probe::Probe::start(&self.camera),
            _ => None,
        };
        match probe {
            Some(probe) => self.wait_until(pause, || probe.is_back()),
            None => self.wait(pause),
        }
    }

    /// Sleeps for `pause` in short steps that keep the heartbeat going; true if it is time to stop.
    fn wait(&self, pause: Duration) -> bool {
        self.wait_until(pause, || false)
    }

    fn wait_until(&self, pause: Duration, enough: impl Fn() -> bool) -> bool {
        const STEP: Duration = Duration::from_millis(250);
        let mut left = pause;
        while !left.is_zero() && !enough() {
            self.heartbeat.beat(self.clock.monotonic());
            if self.stop.wait(left.min(STEP)) {
                return true;
            }
            left = left.saturating_sub(STEP);
        }
        self.stop.is_triggered()
    }
}

/// What follows on the end of a stream.
enum Next {
    /// It is opened again.
    Again,
    /// That was all of it.
    Over,
    /// It is time to stop.
    Stop,
    /// It should not have ended.
    Failed,
}
