//! The inference pool: each worker takes the next ready camera's frame, looks at it and sends what it saw.
//!
//! One thread, one session, one frame at a time: four single-threaded workers see more frames than one network spread
//! over four cores. [`Eye`] is the way from a picture to its classes, the same for a camera's frame and a photo.

use crate::{
    clock::Clock,
    error::{Error, Kind},
    frame::{Image, Ledger},
    lifecycle::{Pulse, Stop},
    model::Model,
    publish::messages::{Detections, Message, SCHEMA},
    queue::{Jobs, MessageSender, Outcome},
    record::{CameraRecord, Trace},
    vision::{
        head::{self, Head, Score},
        preprocess::{Preprocessor, Region},
    },
};
use std::{sync::Arc, time::Duration};

/// Preprocessing, network and head, with their memory: one a thread.
pub struct Eye {
    preprocessor: Preprocessor,
    session: Box<dyn engine::Session>,
    head: Head,
}

impl Eye {
    /// Errors ([`Kind::System`]) where the engine has no room for another session.
    pub fn open(model: &Model) -> Result<Eye, Error> {
        let signature = model.engine.signature();
        let session = model
            .engine
            .session()
            .map_err(|e| Error::caused(Kind::System, "no session with the engine", e))?;
        Ok(Eye {
            preprocessor: Preprocessor::new(signature.input_width, signature.input_height),
            session,
            head: Head::new(signature),
        })
    }

    /// The `count` best classes of the whole picture.
    ///
    /// Errors ([`Kind::System`]): pixels that cannot be read, or an engine that fails.
    pub fn classify(&mut self, image: &Image, count: usize) -> Result<Vec<Score>, Error> {
        let rgb = self
            .preprocessor
            .run(image, &Region::whole(image))
            .map_err(|e| Error::caused(Kind::System, "the picture cannot be prepared", e))?;
        let map = self
            .session
            .run(rgb)
            .map_err(|e| Error::caused(Kind::System, "the picture cannot be classified", e))?;
        Ok(head::top(self.head.scores(map), count))
    }
}

/// Everything that one worker's thread owns.
pub struct Worker {
    /// Its way of seeing.
    pub eye: Eye,
    /// Names and identity for messages.
    pub model: Model,
    /// The node's name, for messages.
    pub node: Arc<str>,
    /// The cameras' names and records, counted as on the frame way.
    pub cameras: Arc<[(Arc<str>, Arc<CameraRecord>)]>,
    /// How many classes a message holds.
    pub top: usize,
    /// Where frames come from.
    pub jobs: Jobs<()>,
    /// Where what was seen goes; the publisher has the other end.
    pub messages: MessageSender<Message>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// When to end, after what is in hand.
    pub stop: Stop,
    /// Beats at every turn of the loop; the watchdog reads it.
    pub pulse: Pulse,
}

impl Worker {
    /// Works until it is time to stop; a frame in hand is finished.
    pub fn run(mut self) {
        const TURN: Duration = Duration::from_millis(250);
        // One line a streak of failures, not one a frame.
        let mut failing = false;
        while !self.stop.is_time() {
            self.pulse.beat(self.clock.monotonic());
            let Some(job) = self.jobs.next(TURN) else { continue };
            let (camera, record) = self.cameras[job.camera()].clone();
            let started = self.clock.monotonic();
            match self.eye.classify(&job.frame.image, self.top) {
                Ok(top) => {
                    failing = false;
                    let inferred = self.clock.monotonic();
                    let ledger = Ledger { started, inferred, ..job.frame.ledger };
                    let latency = inferred.saturating_sub(ledger.captured);
                    self.messages.send(Message::Detections(Detections {
                        schema: SCHEMA,
                        node: self.node.clone(),
                        camera,
                        frame: job.frame.number,
                        captured_at: job.frame.captured_at,
                        capture_clock: job.frame.capture_clock,
                        clock_synchronised: self.clock.is_synchronised(),
                        latency_ms: latency.as_secs_f64() * 1e3,
                        top: self.model.name_classes(&top),
                        model: self.model.identity.clone(),
                        trace: Some(Trace { ledger, record }),
                    }));
                    job.done(Outcome::Analysed);
                }
                Err(error) => {
                    if !failing {
                        tracing::error!(%camera, frame = job.frame.number, %error, "Frame was lost.");
                    }
                    failing = true;
                    job.done(Outcome::Failed);
                }
            }
        }
    }
}
