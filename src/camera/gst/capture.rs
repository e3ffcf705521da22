//! One attempt at a camera: builds the pipeline, monitors its bus and frames, and takes it down.
//!
//! GStreamer does not report most failures: a frozen server causes an error only after half a minute over
//! TCP, and a dead one never does over UDP. So frames are monitored as well as the bus. State changes happen
//! on the camera's thread or a helper thread, never on one of GStreamer's, which would deadlock.

use super::{
    bounds,
    build::build,
    errors::{self, missing_video_plugin, video_in},
    feed::{Feed, Skipped},
    gate::{self, GateState},
    sample_sink::{Pacing, SampleSink, SinkEvents},
    source::{self, KeepAlive, UnknownStream},
    teardown,
};
use crate::{
    camera::{
        CameraStage, Ended, Failure, FailureKind,
        http::{
            Content,
            reader::{STILL_PATIENCE, STILL_TIMEOUT},
        },
        rtsp::{self, Carrier, Session},
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
    /// An RTSP camera's packets are carried like this, in the words of `options.transport`. `refused`: the
    /// camera's refusal of what was tried before.
    fn transport(&mut self, name: &'static str, refused: Option<&str>);
    /// An image was skipped, because it was missing, damaged or late. `reason` says which.
    fn skipped(&mut self, reason: String);
    /// Called several times per second.
    fn tick(&mut self);
    /// The stream's clock is known, or has changed.
    fn clock(&mut self, clock: StreamClock);
}

/// Makes one attempt, from opening the source until it ends, fails or must stop. `usable`: the codecs that
/// this machine can decode.
pub fn run_once(
    stage: &CameraStage,
    pipeline: &Pipeline,
    usable: Vec<Codec>,
    observer: &mut dyn CaptureObserver,
) -> Result<Ended, Failure> {
    let Some(mut capture) = Capture::open(stage, pipeline, usable)? else {
        return Ok(if stage.stop.is_triggered() { Ended::Stopped } else { Ended::Paused });
    };
    let ended = capture.play(observer);
    capture.close();
    ended
}

/// The GStreamer pipeline of one attempt.
struct Capture<'a> {
    stage: &'a CameraStage,
    bin: gst::Pipeline,
    sink: AppSink,
    /// Reads an HTTP camera.
    feed: Option<Feed>,
    gate: Arc<GateState>,
    /// The pipeline has a gate.
    gated: bool,
    sink_events: Arc<Mutex<SinkEvents>>,
    unknown: UnknownStream,
    /// The RTSP session, unless a custom launch line has its own.
    session: Option<Session>,
    /// Each frame is requested from the camera.
    is_still: bool,
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
    /// Returns None if the camera was paused or camfire is stopping before it was open.
    fn open(
        stage: &'a CameraStage,
        pipeline: &Pipeline,
        usable: Vec<Codec>,
    ) -> Result<Option<Capture<'a>>, Failure> {
        let camera = &stage.camera;
        let unknown = UnknownStream::default();
        let (bin, sink) = build(pipeline, camera, &unknown)?;
        let mut session = None;
        if let Some(request) = source::session_request(&bin, pipeline, camera, usable) {
            let keep_going = || {
                stage.heartbeat.beat(stage.clock.monotonic());
                stage.control.settings().watching && !stage.stop.is_triggered()
            };
            let Some(opened) = rtsp::open(&camera.name, request, keep_going)? else { return Ok(None) };
            source::connect(&bin, &opened);
            session = Some(opened);
        }
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
        if gated && is_network(pipeline, &camera.source) {
            let (state, events) = (gate.clone(), sink_events.clone());
            let received = move || state.received.load(Ordering::Relaxed);
            bounds::install(&bin, received, move |reason| lock(&events).unsupported = Some(reason));
        }
        let feed = Feed::new(&bin, pipeline, camera);
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
        let is_still = pipeline.content == Some(Content::Still);
        Ok(Some(Capture {
            stage,
            bin,
            sink,
            feed,
            gate,
            gated,
            sink_events,
            unknown,
            session,
            is_still,
            lossless,
            closing,
        }))
    }

    /// Plays until the source ends, fails or must stop.
    fn play(&mut self, observer: &mut dyn CaptureObserver) -> Result<Ended, Failure> {
        let stage = self.stage;
        let repeat = matches!(stage.camera.source, Source::File { repeat: true, .. });
        let bus = self.bin.bus().expect("a pipeline has a bus");
        // A clip that is repeated is rewound once before it plays, because only a segment that was requested
        // with a seek ends with SegmentDone instead of Eos, and can be followed by the next one without a
        // gap.
        self.set_state(&bus, if repeat { gst::State::Paused } else { gst::State::Playing })?;
        if let Some(feed) = &mut self.feed {
            let control = stage.control.clone();
            feed.start(move || Duration::from_secs_f64(1.0 / control.settings().rate_fps))?;
        }
        let mut playback = Playback {
            initial_seek: repeat,
            last_rewind: stage.clock.monotonic(),
            missing_plugin: None,
            media_type: None,
        };
        let mut watchdog = Watchdog::new(&stage.camera, stage.clock.monotonic());
        let mut keep_alive = KeepAlive::new(&self.bin, self.session.is_some(), stage.clock.monotonic());
        loop {
            let now = stage.clock.monotonic();
            stage.heartbeat.beat(now);
            if !stage.control.settings().watching {
                return Ok(Ended::Paused);
            }
            if stage.stop.is_triggered() {
                return Ok(Ended::Stopped);
            }
            self.check_session()?;
            if let Some(session) = &self.session {
                observer.transport(session.carrier().name(), session.refused());
            }
            self.forward_sink_events(observer)?;
            self.check_feed(observer)?;
            observer.tick();
            if self.lossless && !stage.slot.wait_until_vacant(Duration::ZERO) {
                // The workers are slower than the source.
                watchdog.reset(now);
            }
            watchdog.note_interval(now, self.gate.take_longest_interval());
            if self.is_still {
                let interval = Duration::from_secs_f64(1.0 / stage.control.settings().rate_fps);
                watchdog.tolerate(interval * 2 + STILL_PATIENCE + 2 * STILL_TIMEOUT);
            }
            if watchdog.check(now, self.counts()).map_err(|failure| self.over_udp(failure))? {
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
        // The end of a session is the cause of what GStreamer reports.
        self.check_session()?;
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
        let Capture { stage, bin, sink, feed, gate, closing, session, .. } = self;
        closing.store(true, Ordering::Relaxed);
        drop(feed);
        drop(sink);
        let beat = || stage.heartbeat.beat(stage.clock.monotonic());
        teardown::tear_down(&stage.camera.name, bin, &stage.counters, beat);
        drop(session);
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

    /// Tells the RTSP session how far the frames have got.
    ///
    /// Errors: it has ended.
    fn check_session(&self) -> Result<(), Failure> {
        let Some(session) = &self.session else { return Ok(()) };
        session.flow().set_frames(self.counts().received);
        session.failure().map_or(Ok(()), Err)
    }

    /// Adds to the failure of a stream that has never arrived that a firewall may be the cause.
    fn over_udp(&self, mut failure: Failure) -> Failure {
        let is_udp = self.session.as_ref().is_some_and(|session| session.carrier() == Carrier::Udp);
        if is_udp && self.counts().received == 0 {
            failure.reason += ", with RTP over UDP";
        }
        failure
    }

    /// Reports the images that the reader of an HTTP camera has skipped.
    ///
    /// Errors: reading has failed.
    fn check_feed(&self, observer: &mut dyn CaptureObserver) -> Result<(), Failure> {
        let Some(feed) = &self.feed else { return Ok(()) };
        if let Some(Skipped { count, reason }) = feed.check()? {
            self.stage.counters.unusable.fetch_add(count, Ordering::Relaxed);
            observer.skipped(reason);
        }
        Ok(())
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
        // What ended the stream from outside of GStreamer, which only reports that it was ended.
        if let Some(reason) = lock(&self.sink_events).unsupported.take() {
            return Failure::new(FailureKind::Unsupported, reason);
        }
        if let Some(Err(failure)) = self.feed.as_ref().map(Feed::check) {
            return failure;
        }
        let mut failure = errors::failure(message, missing_plugin);
        // The video was usable until now, so it will be again.
        let is_of_stream = matches!(failure.kind, FailureKind::Unsupported | FailureKind::Stalled);
        if is_of_stream && self.gate.decoded.load(Ordering::Relaxed) > 0 {
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

    /// The failure of a custom launch line's RTSP camera whose stream no pipeline decodes.
    fn unsupported_stream(&self) -> Option<Failure> {
        let unknown = lock(&self.unknown);
        let reason = format!("the camera sends {}, which no pipeline supports", unknown.as_ref()?);
        Some(Failure::new(FailureKind::Unsupported, reason))
    }
}

/// Whether a pipeline's data come from a network camera, which may send anything.
fn is_network(pipeline: &Pipeline, source: &Source) -> bool {
    pipeline.content.is_some() || matches!(source, Source::Rtsp { .. })
}
