//! A camera's stage: keeps one camera going, whatever it does, and never touches another.
//!
//! [`CameraStage::run`] is the loop: open, stream, and after a failure say so once, pause, try again. [`gst`] does one
//! attempt and is the only code that names GStreamer, [`template`] says how each kind of source is put together,
//! [`pace`] how often. Runs on a thread of its own; frames leave through the camera's slot, state through messages.

pub mod gst;
mod pace;
pub mod template;

use crate::{
    clock::Clock,
    config::{Camera, Source},
    error::{Error, Kind},
    lifecycle::{Pulse, Stop},
    publish::messages::{CameraState, CameraStatus, Message, SCHEMA},
    queue::{MessageSender, Slot},
};
use std::{sync::Arc, time::Duration};

/// Everything that one camera's thread owns.
pub struct CameraStage {
    /// What the user wants of it.
    pub camera: Camera,
    /// Its template, filled in.
    pub pipeline: template::Pipeline,
    /// The node's name, for messages.
    pub node: Arc<str>,
    /// Where its frames go; the workers have the other end.
    pub slot: Arc<Slot<()>>,
    /// Where its changes of state go; the publisher has the other end.
    pub messages: MessageSender<Message>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// When to end.
    pub stop: Stop,
    /// Beats at every turn of the loop; the watchdog reads it.
    pub pulse: Pulse,
}

/// How an attempt ended without a failure.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was time to stop.
    Stopped,
    /// The clip is over.
    Finished,
}

impl CameraStage {
    /// Keeps the camera going until it is time to stop.
    pub fn run(self) {
        let mut told = Told { stage: &self, last: None };
        let mut backoff = pace::Backoff::default();
        told.tell(CameraState::Starting, None);
        loop {
            let started = self.clock.monotonic();
            let frames_before = self.slot.accounts().captured;
            let mut streaming_since = None;
            let ended = gst::run_once(&self, &mut || {
                streaming_since = Some(self.clock.monotonic());
                told.tell(CameraState::Online, None);
            });
            let error = match ended {
                Ok(Ended::Stopped) => break,
                Ok(Ended::Finished) if self.slot.accounts().captured == frames_before => {
                    Error::new(Kind::SourceForGood, "there is no video in it")
                }
                Ok(Ended::Finished) => match self.camera.source {
                    // A clip that cannot be rewound is opened again instead; a still is no reason to spin.
                    Source::File { repeat: true, .. } => {
                        let played = self.clock.monotonic().saturating_sub(started);
                        if self.wait(gst::SHORTEST_CLIP.saturating_sub(played)) {
                            break;
                        }
                        continue;
                    }
                    Source::File { repeat: false, .. } => {
                        told.tell(CameraState::Ended, None);
                        self.wait(Duration::MAX);
                        break;
                    }
                    _ => Error::new(Kind::Source, "the stream ended"),
                },
                Err(error) => error,
            };
            let streamed = self.clock.monotonic().saturating_sub(streaming_since.unwrap_or(started));
            let streamed = streaming_since.map_or(Duration::ZERO, |_| streamed);
            let pause = backoff.pause(streamed, error.kind() == Kind::SourceForGood);
            told.tell(CameraState::Offline, Some(error.to_string()));
            if self.wait(pause) {
                break;
            }
        }
        told.tell(CameraState::Offline, Some("camfire has stopped".into()));
    }

    /// Sleeps for `pause` in short steps that keep the pulse going; true if it is time to stop.
    fn wait(&self, pause: Duration) -> bool {
        const STEP: Duration = Duration::from_secs(1);
        let mut left = pause;
        while !left.is_zero() {
            self.pulse.beat(self.clock.monotonic());
            if self.stop.wait(left.min(STEP)) {
                return true;
            }
            left = left.saturating_sub(STEP);
        }
        self.stop.is_time()
    }
}

/// What was last said of a camera: each change is logged and published once, repetitions are not.
struct Told<'a> {
    stage: &'a CameraStage,
    last: Option<(CameraState, Option<String>)>,
}

impl Told<'_> {
    fn tell(&mut self, state: CameraState, reason: Option<String>) {
        if self.last.as_ref() == Some(&(state, reason.clone())) {
            return;
        }
        let stage = self.stage;
        let camera = stage.camera.name.as_str();
        match (state, &reason) {
            (CameraState::Starting, _) => {
                tracing::debug!(camera, pipeline = stage.pipeline.launch, "Camera is being opened.");
            }
            (CameraState::Online, _) => tracing::info!(camera, "Camera is online."),
            (CameraState::Ended, _) => tracing::info!(camera, "Clip is over."),
            (CameraState::Offline, _) if stage.stop.is_time() => {}
            (CameraState::Offline, reason) => {
                let reason = reason.as_deref().unwrap_or_default();
                tracing::warn!(camera, reason, "Camera is offline; trying again.");
            }
        }
        stage.messages.send(Message::Camera(CameraStatus {
            schema: SCHEMA,
            node: stage.node.clone(),
            camera: camera.into(),
            state,
            reason: reason.clone(),
            since: stage.clock.now(),
            pipeline: stage.pipeline.template.clone(),
        }));
        self.last = Some((state, reason));
    }
}
