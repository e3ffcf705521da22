//! The inference pool. Each worker takes the next ready camera's frame with that camera's [`WatchedCamera`],
//! analyses it and reports the result.
//!
//! A worker is one thread with one session and one frame at a time, because four single-threaded workers
//! analyse more frames than one network spread over four cores. This is the only stage that calls the engine.

pub mod classifier;
pub mod detector;
mod live;
pub mod model;
pub mod reporter;

use self::{
    classifier::{Classifier, TimedClassifier},
    reporter::{ReportedCamera, Reporter},
};
use crate::{
    clock::Clock,
    control::CameraControl,
    frame::Frame,
    lifecycle::{Heartbeat, StopSignal},
    queue::{
        frames::{Interruption, Job, Jobs, Outcome},
        live::LiveView,
    },
    vision::{
        picture::Painter,
        replay::{
            inferences::InferenceLog,
            recording::{Encoder, Recorder},
        },
        scene::Scene,
        tracks::EndReason,
    },
};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// How long to wait for a job before the heartbeat is updated and the stop signal is checked.
const JOB_TIMEOUT: Duration = Duration::from_millis(250);

/// The analysis state of one camera, which travels with its frames.
pub struct WatchedCamera {
    /// Its name and counters.
    pub camera: ReportedCamera,
    /// Its settings and requests from commands.
    pub control: Arc<CameraControl>,
    /// The version of the settings that the scene has.
    pub seen_version: u64,
    /// Background, tracks and regions.
    pub scene: Scene,
    /// Records frames for the preview of other settings.
    pub recorder: Recorder,
}

/// Everything that one worker thread owns.
pub struct Worker {
    /// Classifies regions of frames.
    pub classifier: Classifier,
    /// Time per frame for inferences on tracked objects.
    pub inference_budget: Duration,
    /// Encodes pictures.
    pub painter: Painter,
    /// Compresses what is recorded.
    pub encoder: Encoder,
    /// Sends messages and pictures.
    pub reporter: Reporter,
    /// Maximum number of objects per frame of which pictures are taken.
    pub pictures_per_frame: usize,
    /// Source of frames.
    pub jobs: Jobs<WatchedCamera>,
    /// Clock.
    pub clock: Arc<dyn Clock>,
    /// Signals when to end, after the current frame.
    pub stop: StopSignal,
    /// Updated on every loop iteration; read by the watchdog.
    pub heartbeat: Heartbeat,
}

/// What failed on the last frame, so that a series of failures is logged once and not once per frame.
#[derive(Default)]
struct Failing {
    analysis: bool,
    painting: bool,
}

impl Worker {
    /// Processes frames until the stop signal. A frame that was taken is finished.
    pub fn run(mut self) {
        let mut failing = Failing::default();
        while !self.stop.is_triggered() {
            self.heartbeat.beat(self.clock.monotonic());
            let Some(mut job) = self.jobs.next(JOB_TIMEOUT) else { continue };
            if let Some(interruption) = job.interruption {
                let reason = match interruption {
                    Interruption::Failed => EndReason::CameraLost,
                    Interruption::Ended => EndReason::Stopped,
                };
                let WatchedCamera { camera, scene, .. } = job.state();
                let mut analysis = scene.end_all(reason);
                self.reporter.report(camera, scene, None, &mut analysis);
            }
            let Some(mut frame) = job.frame.take() else { continue };
            frame.timings.started = self.clock.monotonic();
            let WatchedCamera { camera, control, seen_version, scene, .. } = job.state();
            scene.set_pictures_per_frame(self.pictures_per_frame);
            if let Some(settings) = control.changed_since(seen_version) {
                scene.adjust(settings.motion_threshold, settings.score as f32);
            }
            if control.take_snapshot_request() {
                self.take_snapshot(camera, &frame);
            }
            if control.take_view_due(frame.timings.started) {
                self.publish_view(camera, &frame);
            }
            self.analyze(job, frame, &mut failing);
        }
    }

    /// Analyses a frame, reports the result and ends the job.
    fn analyze(&mut self, mut job: Job<WatchedCamera>, mut frame: Frame, failing: &mut Failing) {
        let WatchedCamera { camera, control, scene, recorder, .. } = job.state();
        let name = &*camera.name;
        let mut classifier = TimedClassifier {
            classifier: &mut self.classifier,
            clock: self.clock.as_ref(),
            budget: self.inference_budget,
            elapsed: Duration::ZERO,
        };
        let mut log = InferenceLog::new(&mut classifier, recorder.is_on());
        let (mut analysis, outcome) = scene.analyze(&frame, &mut log, &mut self.painter);
        let inferences = log.inferences;
        let elapsed_us = classifier.elapsed.as_micros() as u64;
        camera.counters.inference_us.fetch_add(elapsed_us, Ordering::Relaxed);
        frame.timings.inferred = self.clock.monotonic();
        if let Some(error) = analysis.paint_error.take() {
            if !failing.painting {
                tracing::error!(camera = name, frame = frame.number, %error, "Pictures of an event were lost.");
            }
            failing.painting = true;
        } else if !analysis.pictures.is_empty() {
            failing.painting = false;
        }
        match outcome {
            Ok(()) => {
                failing.analysis = false;
                let inference_count = analysis.inferences;
                self.reporter.report_frame(camera, scene, &frame, analysis);
                // Those who look wait for the encoding, those who subscribe do not.
                if control.live.is_watched() {
                    self.show(camera, &control.live, scene, &frame, inference_count);
                }
                if recorder.is_on() {
                    recorder.record(&frame, scene, inferences, &mut self.encoder);
                }
                job.finish(Outcome::Analysed);
            }
            Err(error) => {
                if !failing.analysis {
                    tracing::error!(camera = name, frame = frame.number, %error, "Frame could not be analysed.");
                }
                failing.analysis = true;
                // Events are reported even if the analysis stopped halfway, because the tracks have changed.
                self.reporter.report(camera, scene, Some(&frame), &mut analysis);
                job.finish(Outcome::Failed);
            }
        }
    }

    /// Shows the frame to those who look at the camera in the web server.
    fn show(
        &mut self,
        camera: &ReportedCamera,
        live: &LiveView,
        scene: &Scene,
        frame: &Frame,
        inferences: u32,
    ) {
        match self.painter.frame_jpeg(&frame.image) {
            Ok(jpeg) => live.show(self.reporter.live_frame(scene, frame, inferences, jpeg)),
            Err(error) => {
                tracing::debug!(camera = &*camera.name, %error, "Frame cannot be shown.");
            }
        }
    }

    /// Publishes the frame as a JPEG for those who look at the camera.
    fn publish_view(&mut self, camera: &ReportedCamera, frame: &Frame) {
        match self.painter.frame_jpeg(&frame.image) {
            Ok(jpeg) => self.reporter.report_view(camera, jpeg),
            Err(error) => {
                tracing::debug!(camera = &*camera.name, %error, "Frame cannot be published.");
            }
        }
    }

    /// Publishes the frame as a JPEG, as requested by a command.
    fn take_snapshot(&mut self, camera: &ReportedCamera, frame: &Frame) {
        match self.painter.frame_jpeg(&frame.image) {
            Ok(jpeg) => self.reporter.report_snapshot(camera, jpeg),
            Err(error) => {
                let camera = &*camera.name;
                tracing::error!(camera, %error, "Snapshot failed.");
            }
        }
    }
}
