//! The inference pool. Each worker takes the next ready camera's frame with that camera's [`Scene`], analyses
//! it and reports the result.
//!
//! A worker is one thread with one session and one frame at a time, because four single-threaded workers
//! analyse more frames than one network spread over four cores. This is the only stage that calls the engine.

pub mod classifier;
pub mod model;
pub mod reporter;

use self::{
    classifier::{Classifier, TimedClassifier},
    reporter::Reporter,
};
use crate::{
    clock::Clock,
    control::CameraControl,
    frame::Frame,
    lifecycle::{Heartbeat, StopSignal},
    queue::frames::{Interruption, Job, Jobs, Outcome},
    vision::{picture::Painter, scene::Scene, tracks::EndReason},
};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// How long to wait for a job before the heartbeat is updated and the stop signal is checked.
const JOB_TIMEOUT: Duration = Duration::from_millis(250);

/// Everything that one worker thread owns.
pub struct Worker {
    /// Classifies regions of frames.
    pub classifier: Classifier,
    /// Time per frame for inferences on tracked objects.
    pub inference_budget: Duration,
    /// Encodes pictures.
    pub painter: Painter,
    /// Sends messages and pictures.
    pub reporter: Reporter,
    /// Runtime settings of the cameras, in the order of the frame queues.
    pub controls: Arc<[Arc<CameraControl>]>,
    /// Source of frames.
    pub jobs: Jobs<Scene>,
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
        let mut versions = vec![0; self.controls.len()];
        while !self.stop.is_triggered() {
            self.heartbeat.beat(self.clock.monotonic());
            let Some(mut job) = self.jobs.next(JOB_TIMEOUT) else { continue };
            let camera = job.camera();
            if let Some(interruption) = job.interruption {
                let reason = match interruption {
                    Interruption::Failed => EndReason::CameraLost,
                    Interruption::Ended => EndReason::Stopped,
                };
                let mut analysis = job.state().end_all(reason);
                self.reporter.report(camera, job.state(), None, &mut analysis);
            }
            let Some(mut frame) = job.frame.take() else { continue };
            frame.timings.started = self.clock.monotonic();
            let control = self.controls[camera].clone();
            // Every worker applies a change once, which is harmless.
            if let Some(settings) = control.changed_since(&mut versions[camera]) {
                job.state().adjust(settings.motion_threshold, settings.score as f32);
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
    fn analyze(&mut self, mut job: Job<Scene>, mut frame: Frame, failing: &mut Failing) {
        let camera = job.camera();
        let mut classifier = TimedClassifier {
            classifier: &mut self.classifier,
            clock: self.clock.as_ref(),
            budget: self.inference_budget,
            elapsed: Duration::ZERO,
        };
        let (mut analysis, outcome) = job.state().analyze(&frame, &mut classifier, &mut self.painter);
        let elapsed_us = classifier.elapsed.as_micros() as u64;
        self.reporter.counters(camera).inference_us.fetch_add(elapsed_us, Ordering::Relaxed);
        frame.timings.inferred = self.clock.monotonic();
        if let Some(error) = analysis.paint_error.take() {
            if !failing.painting {
                let camera = self.reporter.camera(camera);
                tracing::error!(camera, frame = frame.number, %error, "Pictures of an event were lost.");
            }
            failing.painting = true;
        } else if !analysis.pictures.is_empty() {
            failing.painting = false;
        }
        match outcome {
            Ok(()) => {
                failing.analysis = false;
                self.reporter.report_frame(camera, job.state(), &frame, analysis);
                job.finish(Outcome::Analysed);
            }
            Err(error) => {
                if !failing.analysis {
                    let camera = self.reporter.camera(camera);
                    tracing::error!(camera, frame = frame.number, %error, "Frame could not be analysed.");
                }
                failing.analysis = true;
                // Events are reported even if the analysis stopped halfway, because the tracks have changed.
                self.reporter.report(camera, job.state(), Some(&frame), &mut analysis);
                job.finish(Outcome::Failed);
            }
        }
    }

    /// Publishes the frame as a JPEG for those who look at the camera.
    fn publish_view(&mut self, camera: usize, frame: &Frame) {
        match self.painter.frame_jpeg(&frame.image) {
            Ok(jpeg) => self.reporter.report_view(camera, jpeg),
            Err(error) => {
                let camera = self.reporter.camera(camera);
                tracing::debug!(camera, %error, "Frame cannot be published.");
            }
        }
    }

    /// Publishes the frame as a JPEG, as requested by a command.
    fn take_snapshot(&mut self, camera: usize, frame: &Frame) {
        match self.painter.frame_jpeg(&frame.image) {
            Ok(jpeg) => self.reporter.report_snapshot(camera, jpeg),
            Err(error) => {
                let camera = self.reporter.camera(camera);
                tracing::error!(camera, %error, "Snapshot failed.");
            }
        }
    }
}
