//! The inference pool: each worker takes the next ready camera's frame with that camera's memory, looks at it and sends
//! what it saw.
//!
//! One thread, one session, one frame at a time: four single-threaded workers see more frames than one network spread
//! over four cores. [`Eye`] is the way from a picture to its classes, the same for a camera's frame and a photo; what to
//! look at is for the camera's [`Scene`] to say.

use crate::{
    clock::Clock,
    control::CameraControl,
    error::{Error, Kind},
    frame::{Frame, Image},
    lifecycle::{Pulse, Stop},
    model::Model,
    queue::{Interruption, Jobs, Outcome},
    vision::{
        head::{self, Activation, Head, Score},
        picture::{Painter, Pictures},
        preprocess::Preprocessor,
        rect::Rect,
        scene::{Look, Scene},
        tracks::End,
    },
    voice::Voice,
};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// Preprocessing, network and head, with their memory: one a thread.
pub struct Eye {
    preprocessor: Preprocessor,
    session: Box<dyn engine::Session>,
    head: Head,
    /// The map of the last look.
    map: Vec<i8>,
    painter: Painter,
}

impl Eye {
    /// With a JPEG quality for what it paints.
    ///
    /// Errors ([`Kind::System`]) where the engine has no room for another session.
    pub fn open(model: &Model, quality: u8) -> Result<Eye, Error> {
        let signature = model.engine.signature();
        let session = model
            .engine
            .session()
            .map_err(|e| Error::caused(Kind::System, "no session with the engine", e))?;
        Ok(Eye {
            preprocessor: Preprocessor::new(signature.input_width, signature.input_height),
            session,
            head: Head::new(signature),
            map: Vec::new(),
            painter: Painter::new(quality),
        })
    }

    /// The `count` best classes of the whole picture.
    ///
    /// Errors ([`Kind::System`]): pixels that cannot be read, or an engine that fails.
    pub fn classify(&mut self, image: &Image, count: usize) -> Result<Vec<Score>, Error> {
        Ok(head::top(self.look(image, &Rect::whole(image))?, count))
    }

    /// All of the picture as a JPEG file.
    ///
    /// Errors ([`Kind::System`]): pixels that cannot be read.
    pub fn photograph(&mut self, image: &Image) -> Result<Vec<u8>, Error> {
        self.painter.whole(image)
    }
}

impl Look for Eye {
    fn look(&mut self, image: &Image, rect: &Rect) -> Result<&[f32], Error> {
        let rgb = self
            .preprocessor
            .run(image, rect)
            .map_err(|e| Error::caused(Kind::System, "the picture cannot be prepared", e))?;
        let map = self
            .session
            .run(rgb)
            .map_err(|e| Error::caused(Kind::System, "the picture cannot be classified", e))?;
        self.map.clear();
        self.map.extend_from_slice(map);
        Ok(self.head.scores(&self.map))
    }

    fn activation(&mut self, class: usize) -> Option<Activation> {
        self.head.activation(&self.map, class)
    }

    fn paint(&mut self, image: &Image, things: &[(Rect, String)]) -> Result<Vec<Pictures>, Error> {
        self.painter.take(image, things)
    }
}

/// An eye, and how long it has looked.
struct TimedEye<'a> {
    eye: &'a mut Eye,
    clock: &'a dyn Clock,
    looked: Duration,
}

impl Look for TimedEye<'_> {
    fn look(&mut self, image: &Image, rect: &Rect) -> Result<&[f32], Error> {
        let begun = self.clock.monotonic();
        let outcome = self.eye.look(image, rect);
        self.looked += self.clock.monotonic() - begun;
        outcome
    }

    fn activation(&mut self, class: usize) -> Option<Activation> {
        self.eye.activation(class)
    }

    fn paint(&mut self, image: &Image, things: &[(Rect, String)]) -> Result<Vec<Pictures>, Error> {
        self.eye.paint(image, things)
    }
}

/// Everything that one worker's thread owns.
pub struct Worker {
    /// Its way of seeing.
    pub eye: Eye,
    /// Says what it saw.
    pub voice: Voice,
    /// What can be changed about the cameras, counted as on the frame way.
    pub controls: Arc<[Arc<CameraControl>]>,
    /// Where frames come from.
    pub jobs: Jobs<Scene>,
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
        let (mut failing, mut not_painting) = (false, false);
        let mut versions = vec![0; self.controls.len()];
        while !self.stop.is_time() {
            self.pulse.beat(self.clock.monotonic());
            let Some(mut job) = self.jobs.next(TURN) else { continue };
            let camera = job.camera();
            if let Some(interruption) = job.interruption {
                let why = match interruption {
                    Interruption::Failed => End::CameraLost,
                    Interruption::Over => End::Stopped,
                };
                let mut seen = job.luggage().end_all(why);
                self.voice.tell(camera, job.luggage(), None, &mut seen);
            }
            let Some(mut frame) = job.frame.take() else { continue };
            frame.ledger.started = self.clock.monotonic();
            let control = self.controls[camera].clone();
            // Every worker that meets the camera says it once more, which does no harm.
            if let Some(settings) = control.changed_since(&mut versions[camera]) {
                job.luggage().adjust(settings.motion_threshold, settings.score as f32);
            }
            if control.take_snapshot() {
                self.take_snapshot(camera, &frame);
            }
            let mut eye = TimedEye { eye: &mut self.eye, clock: self.clock.as_ref(), looked: Duration::ZERO };
            let (mut seen, outcome) = job.luggage().see(&frame, &mut eye);
            let looked_us = eye.looked.as_micros() as u64;
            self.voice.record(camera).looks_us.fetch_add(looked_us, Ordering::Relaxed);
            frame.ledger.inferred = self.clock.monotonic();
            if let Some(error) = seen.unpainted.take() {
                if !not_painting {
                    let camera = self.voice.camera(camera);
                    tracing::error!(camera, frame = frame.number, %error, "Pictures of an event were lost.");
                }
                not_painting = true;
            } else if !seen.pictures.is_empty() {
                not_painting = false;
            }
            match outcome {
                Ok(()) => {
                    failing = false;
                    self.voice.tell_frame(camera, job.luggage(), &frame, seen);
                    job.done(Outcome::Analysed);
                }
                Err(error) => {
                    if !failing {
                        let camera = self.voice.camera(camera);
                        tracing::error!(camera, frame = frame.number, %error, "Frame was lost.");
                    }
                    failing = true;
                    // What has happened has, even if the frame could not be looked at in whole.
                    self.voice.tell(camera, job.luggage(), Some(&frame), &mut seen);
                    job.done(Outcome::Failed);
                }
            }
        }
    }

    /// A picture of a frame, as somebody asked for it.
    fn take_snapshot(&mut self, camera: usize, frame: &Frame) {
        match self.eye.photograph(&frame.image) {
            Ok(jpeg) => self.voice.tell_snapshot(camera, jpeg),
            Err(error) => {
                let camera = self.voice.camera(camera);
                tracing::error!(camera, %error, "Snapshot was not taken.");
            }
        }
    }
}
