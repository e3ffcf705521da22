//! One attempt at a camera: builds the pipeline, monitors its bus and frames, and takes it down.
//!
//! GStreamer does not report most failures: a frozen server causes an error only after half a minute over
//! TCP, and a dead one never does over UDP. So frames are monitored as well as the bus. State changes happen
//! on the camera's thread or a helper thread, never on one of GStreamer's, which would deadlock.

use super::{
    build::build,
    errors::{self, missing_video_plugin, video_in},
    gate::{self, GateState},
    sample_sink::{Pacing, SampleSink, SinkEvents},
    source::{AnnouncedStream, KeepAlive, Stream},
    teardown,
};
use crate::{
    camera::{
        CameraStage, Ended, Failure, FailureKind,
        template::{Codec, Pipeline},
        watchdog::{Counts, Watchdog},
    },
    config::Source,
    sync::lock,
    vision::health::Health,
    wire::messages::StreamClock,
};
use gstreamer::{self as gst, prelude::*};
use gstreamer_app::{AppSink, AppSinkCallbacks};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

/// How long the loop waits for a bus message before it checks the frames, the clock and whether to stop.
pub(super) const POLL_INTERVAL: gst::ClockTime = gst::ClockTime::from_mseconds(100);
/// A shorter clip is not rewound, but opened again.
pub const MIN_CLIP_DURATION: Duration = Duration::from_millis(500);

/// Receives what an attempt reports while it runs.
pub trait CaptureObserver {
    /// The first frame has been decoded; `size` is its width and height.
    fn live(&mut self, size: Option<(usize, usize)>);
    /// The health of the image has changed.
    fn health(&mut self, health: Health);
    /// The stream's clock is known, or has changed.
    fn clock(&mut self, clock: StreamClock);
}

/// Makes one attempt, from opening the source until it ends, fails or must stop.
pub fn run_once(
    stage: &CameraStage,
    pipeline: &Pipeline,
    observer: &mut dyn CaptureObserver,
) -> Result<Ended, Failure> {
    let capture = Capture::open(stage, pipeline)?;
    let ended = capture.play(observer);
    capture.close();
    ended
}

/// The GStreamer pipeline of one attempt.
struct Capture<'a> {
    stage: &'a CameraStage,
    bin: gst::Pipeline,
    sink: AppSink,
    gate: Arc<GateState>,
    /// The pipeline has a gate.
    gated: bool,
    sink_events: Arc<Mutex<SinkEvents>>,
    announced: AnnouncedStream,
    codec: Option<Codec>,
    /// Frames wait until the slot is vacant instead of replacing each other.
    lossless: bool,
    /// The attempt is over, so that nothing may wait any more.
    closing: Arc<AtomicBool>,
}

/// What the loop remembers between bus messages.
struct Playback {
    /// The clip is to be rewound once before it plays.
    initial_seek: bool,
    last_rewind: Duration,
    /// What to install, if a decoder is missing.
    missing_plugin: Option<String>,
    /// The video's media type, if it is known.
    media_type: Option<String>,
}

impl<'a> Capture<'a> {
    fn open(stage: &'a CameraStage, pipeline: &Pipeline) -> Result<Capture<'a>, Failure> {
        let camera = &stage.camera;
        let announced = AnnouncedStream::default();
        let (bin, sink) = build(pipeline, camera, &announced)?;
        let pacing = Pacing::of(&camera.source);
        let lossless = pacing == Pacing::Unpaced;
        sink.set_property("sync", !pipeline.live && !lossless);
        sink.set_property("max-buffers", 1u32);
        sink.set_property("drop", !lossless);

        let gate = Arc::new(GateState::new(camera, stage.slot.clone(), stage.counters.clone()));
        let has_arrivals = pipeline.live && pacing == Pacing::Network;
        let arrivals = has_arrivals.then(|| stage.clock.clone());
        let gated = gate::install(&bin, &gate, stage.control.clone(), pipeline.live, arrivals);
        let sample_sink = SampleSink::new(stage, pacing, gate.clone(), gated, has_arrivals);
        let sink_events = sample_sink.events();
        let sample_sink = Mutex::new(sample_sink);
        let closing = Arc::new(AtomicBool::new(false));
        let (slot, stop, is_closing) = (stage.slot.clone(), stage.stop.clone(), closing.clone());
        let new_sample = move |sink: &AppSink| {
            // A recording that is read without pacing waits here, on the decoder's own thread, so that
            // decisions that depend on its images are made in their order. The wait ends with the attempt.
            while lossless && !slot.wait_until_vacant(Duration::from_millis(50)) {
                if stop.is_triggered() || is_closing.load(Ordering::Relaxed) {
                    return Err(gst::FlowError::Flushing);
                }
            }
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            lock(&sample_sink).process(sink, sample);
            Ok(gst::FlowSuccess::Ok)
        };
        sink.set_callbacks(AppSinkCallbacks::builder().new_sample(new_sample).build());
        let codec = pipeline.codec;
        Ok(Capture { stage, bin, sink, gate, gated, sink_events, announced, codec, lossless, closing })
    }

    /// Plays until the source ends, fails or must stop.
    fn play(&self, observer: &mut dyn CaptureObserver) -> Result<Ended, Failure> {
        let stage = self.stage;
        let repeat = matches!(stage.camera.source, Source::File { repeat: true, .. });
        let bus = self.bin.bus().expect("a pipeline has a bus");
        // A clip that is repeated is rewound once before it plays, because only a segment that was requested
        // with a seek ends with SegmentDone instead of Eos, and can be followed by the next one without a
        // gap.
        self.set_state(&bus, if repeat { gst::State::Paused } else { gst::State::Playing })?;
        let mut playback = Playback {
            initial_seek: repeat,
            last_rewind: stage.clock.monotonic(),
            missing_plugin: None,
            media_type: None,
        };
        let mut watchdog = Watchdog::new(&stage.camera, stage.clock.monotonic());
        let mut keep_alive = KeepAlive::new(&self.bin, stage.clock.monotonic());
        loop {
            let now = stage.clock.monotonic();
            stage.heartbeat.beat(now);
            if !stage.control.settings().watching {
                return Ok(Ended::Paused);
            }
            if stage.stop.is_triggered() {
                return Ok(Ended::Stopped);
            }
            self.forward_sink_events(observer)?;
            if self.lossless && !stage.slot.wait_until_vacant(Duration::ZERO) {
                // The workers are slower than the source.
                watchdog.reset(now);
            }
            if watchdog.check(now, self.counts())? {
                let size = lock(&self.sink_events).size;
                observer.live(size);
            }
            stage.counters.keyframes_only.store(self.gate.is_keyframes_only(), Ordering::Relaxed);
            keep_alive.send_if_due(now);
            let Some(message) = bus.timed_pop(POLL_INTERVAL) else { continue };
            if let Some(ended) = self.handle(&message, &bus, &mut playback, now)? {
                return Ok(ended);
            }
        }
    }

    /// Handles a bus message. Returns how the attempt has ended, if it has.
    fn handle(
        &self,
        message: &gst::Message,
        bus: &gst::Bus,
        playback: &mut Playback,
        now: Duration,
    ) -> Result<Option<Ended>, Failure> {
        match message.view() {
            gst::MessageView::Error(error) => {
                let unlinked = self.unlinked_video(error, playback.media_type.take());
                return Err(unlinked.unwrap_or_else(|| self.failure(error, playback.missing_plugin.take())));
            }
            gst::MessageView::StreamCollection(streams) => {
                if let Some(media_type) = video_in(streams)? {
                    playback.media_type = Some(media_type);
                }
            }
            gst::MessageView::Eos(_) => return Ok(Some(Ended::Finished)),
            gst::MessageView::AsyncDone(_) if playback.initial_seek => {
                playback.initial_seek = false;
                // If that fails because there is no index, the clip ends with Eos and is opened again.
                self.rewind(gst::SeekFlags::FLUSH | gst::SeekFlags::SEGMENT);
                self.set_state(bus, gst::State::Playing)?;
            }
            gst::MessageView::SegmentDone(_) => {
                // Rewinding a clip of a frame or two would be a busy loop. Opening it again includes a pause.
                let is_too_short = now.saturating_sub(playback.last_rewind) < MIN_CLIP_DURATION;
                playback.last_rewind = now;
                if is_too_short || !self.rewind(gst::SeekFlags::SEGMENT) {
                    return Ok(Some(Ended::Finished));
                }
            }
            gst::MessageView::Latency(_) => {
                if let Err(error) = self.bin.recalculate_latency() {
                    tracing::debug!(camera = self.stage.camera.name, %error, "Latency is unknown.");
                }
            }
            gst::MessageView::Element(element) if playback.missing_plugin.is_none() => {
                playback.missing_plugin = missing_video_plugin(element);
            }
            _ => {}
        }
        Ok(None)
    }

    /// Takes the pipeline down, whatever its state. One that hangs is counted and abandoned.
    fn close(self) {
        let Capture { stage, bin, sink, gate, closing, .. } = self;
        closing.store(true, Ordering::Relaxed);
        drop(sink);
        let beat = || stage.heartbeat.beat(stage.clock.monotonic());
        if !teardown::tear_down(&stage.camera.name, bin, beat) {
            stage.counters.hung_teardowns.fetch_add(1, Ordering::Relaxed);
        }
        gate.close();
        stage.counters.keyframes_only.store(false, Ordering::Relaxed);
    }

    fn forward_sink_events(&self, observer: &mut dyn CaptureObserver) -> Result<(), Failure> {
        let mut events = lock(&self.sink_events);
        if let Some(health) = events.health.take() {
            observer.health(health);
        }
        if let Some(clock) = events.clock.take() {
            observer.clock(clock);
        }
        match events.unsupported.take() {
            Some(reason) => Err(Failure::new(FailureKind::Unsupported, reason)),
            None => Ok(()),
        }
    }

    /// Frame counts for the watchdog. Without a gate, only decoded frames are counted.
    fn counts(&self) -> Counts {
        let decoded = self.gate.decoded.load(Ordering::Relaxed);
        let gate = |counter: &AtomicU64| if self.gated { counter.load(Ordering::Relaxed) } else { decoded };
        Counts { received: gate(&self.gate.received), sent: gate(&self.gate.sent), decoded }
    }

    /// Seeks to the start of the clip. Returns false if the clip does not support that.
    fn rewind(&self, flags: gst::SeekFlags) -> bool {
        let (start, end) = (gst::ClockTime::ZERO, gst::ClockTime::NONE);
        self.bin.seek(1.0, flags, gst::SeekType::Set, start, gst::SeekType::None, end).is_ok()
    }

    fn set_state(&self, bus: &gst::Bus, state: gst::State) -> Result<(), Failure> {
        self.bin
            .set_state(state)
            .map(drop)
            .map_err(|_| errors::start_failure(bus, POLL_INTERVAL, |error| self.failure(error, None)))
    }

    /// The failure that a bus error stands for, with what is known about the stream.
    fn failure(&self, message: &gst::message::Error, missing_plugin: Option<String>) -> Failure {
        if let Some(failure) = self.unsupported_stream() {
            return failure;
        }
        let mut failure = errors::failure(message, missing_plugin);
        // The video was usable until now, so it will be again.
        if failure.kind == FailureKind::Unsupported && self.gate.decoded.load(Ordering::Relaxed) > 0 {
            failure.kind = FailureKind::Unreachable;
        }
        failure
    }

    /// The failure of a source whose video no element accepts, for which GStreamer has no readable text.
    fn unlinked_video(&self, error: &gst::message::Error, media_type: Option<String>) -> Option<Failure> {
        let is_unlinked = error.debug().is_some_and(|debug| debug.contains("not-linked"));
        let is_silent = self.gate.received.load(Ordering::Relaxed) == 0;
        let media_type = media_type.filter(|_| is_unlinked && is_silent)?;
        let reason = format!("the source contains {media_type}, which no pipeline supports");
        Some(Failure::new(FailureKind::Unsupported, reason))
    }

    /// The failure of an RTSP camera that has announced a stream which this pipeline does not decode.
    fn unsupported_stream(&self) -> Option<Failure> {
        let announced = lock(&self.announced);
        match announced.as_ref()? {
            Stream::Unknown(name) => {
                let reason = format!("the camera sends {name}, which no pipeline supports");
                Some(Failure::new(FailureKind::Unsupported, reason))
            }
            Stream::Known(codec) if self.codec.is_none_or(|own| own == *codec) => None,
            Stream::Known(codec) => Some(errors::other_codec(*codec)),
        }
    }
}
