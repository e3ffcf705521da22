//! One attempt at a camera: build the pipeline, watch bus and frames, take it down.
//!
//! Most faults are silent in GStreamer: a frozen server over TCP says nothing for half a minute, a dead one over UDP
//! never. So frames are watched and not only the bus. State changes happen on the camera's thread or a helper's, never
//! on GStreamer's, which would wait for itself.

use super::{
    gate::{self, GateState},
    sample_sink::{self, FORMATS, News, Pace, SampleSink},
    source::{self, Announced, KeepAlive, Stream},
    teardown, with_sink,
};
use crate::{
    camera::{
        CameraStage, Ended, Failure, Trouble,
        template::{Codec, Pipeline},
        watchdog::{Counts, Watchdog},
    },
    clock::Clock,
    config::{Camera, Source},
    frame::Image,
    sync::lock,
    vision::health::Health,
};
use gstreamer::{self as gst, prelude::*};
use gstreamer_app::{AppSink, AppSinkCallbacks};
use gstreamer_video as gst_video;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

/// How often the loop looks around: at the bus, the stop sign, the clock.
const TURN: gst::ClockTime = gst::ClockTime::from_mseconds(100);
/// Anything shorter is not rewound but opened again.
pub const SHORTEST_CLIP: Duration = Duration::from_millis(500);
/// What an attempt reports while it runs.
pub trait Watcher {
    /// The first picture has come, of this width and height.
    fn live(&mut self, size: Option<(usize, usize)>);
    /// The picture is in another condition.
    fn health(&mut self, health: Health);
}

/// One attempt: from opening to the end, a failure, or the time to stop.
pub fn run_once(
    stage: &CameraStage,
    pipeline: &Pipeline,
    watcher: &mut dyn Watcher,
) -> Result<Ended, Failure> {
    let capture = Capture::open(stage, pipeline)?;
    let ended = capture.watch(watcher);
    capture.close();
    ended
}

/// A pipeline that exists, for the length of one attempt.
struct Capture<'a> {
    stage: &'a CameraStage,
    bin: gst::Pipeline,
    sink: AppSink,
    gate: Arc<GateState>,
    gated: bool,
    news: Arc<Mutex<News>>,
    announced: Announced,
    codec: Option<Codec>,
    /// Frames wait until there is room for them.
    patient: bool,
    /// The attempt is over: nobody need wait any more.
    closing: Arc<AtomicBool>,
}

impl<'a> Capture<'a> {
    fn open(stage: &'a CameraStage, pipeline: &Pipeline) -> Result<Capture<'a>, Failure> {
        let camera = &stage.camera;
        let announced = Announced::default();
        let (bin, sink) = build(pipeline, camera, &announced)?;
        let pace = match camera.source {
            Source::Rtsp { .. } | Source::Http { .. } | Source::Custom { .. } => Pace::Network,
            Source::V4l2 { .. } | Source::Libcamera { .. } | Source::Csi { .. } => Pace::Device,
            Source::File { realtime: false, .. } => Pace::Free,
            Source::File { .. } | Source::Test { .. } => Pace::Clock,
        };
        let patient = pace == Pace::Free;
        sink.set_property("sync", !pipeline.live && !patient);
        sink.set_property("max-buffers", 1u32);
        sink.set_property("drop", !patient);

        let gate = Arc::new(GateState::new(camera, stage.slot.clone(), stage.counters.clone()));
        let gated = gate::install(&bin, &gate, stage.control.clone(), pipeline.live);
        let taker = SampleSink::new(stage, pace, gate.clone(), gated);
        let news = taker.news();
        let taker = Mutex::new(taker);
        let closing = Arc::new(AtomicBool::new(false));
        let (slot, stop, over) = (stage.slot.clone(), stage.stop.clone(), closing.clone());
        let new_sample = move |sink: &AppSink| {
            // A recording that is read as fast as it goes waits here, on the decoder's own thread, so that whatever is
            // decided by its pictures is decided in their order; and never longer than the attempt lasts.
            while patient && !slot.wait_until_vacant(Duration::from_millis(50)) {
                if stop.is_triggered() || over.load(Ordering::Relaxed) {
                    return Err(gst::FlowError::Flushing);
                }
            }
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            lock(&taker).take(sink, sample);
            Ok(gst::FlowSuccess::Ok)
        };
        sink.set_callbacks(AppSinkCallbacks::builder().new_sample(new_sample).build());
        let codec = pipeline.codec;
        Ok(Capture { stage, bin, sink, gate, gated, news, announced, codec, patient, closing })
    }

    /// Plays until the end, a failure, or the time to stop.
    fn watch(&self, watcher: &mut dyn Watcher) -> Result<Ended, Failure> {
        let stage = self.stage;
        let repeat = matches!(stage.camera.source, Source::File { repeat: true, .. });
        let bus = self.bin.bus().expect("a pipeline has a bus");
        // A clip that is to be repeated is rewound once before it plays: only a segment that was asked for with a
        // seek ends with a message instead of the end of the stream, and can be followed by the next without a gap.
        let mut rewind = repeat;
        let start = if repeat { gst::State::Paused } else { gst::State::Playing };
        if self.bin.set_state(start).is_err() {
            return Err(self.why_not_started(&bus));
        }
        let mut missing_plugin = None;
        let mut video = None;
        let mut rewound = stage.clock.monotonic();
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
            self.pass_on_news(watcher)?;
            if self.patient && !stage.slot.wait_until_vacant(Duration::ZERO) {
                // It is not the clip that is late.
                watchdog.alive(now);
            }
            if watchdog.turn(now, self.counts())? {
                let size = lock(&self.news).size;
                watcher.live(size);
            }
            stage.counters.keyframes_only.store(self.gate.is_resting(), Ordering::Relaxed);
            keep_alive.turn(now);
            let Some(message) = bus.timed_pop(TURN) else { continue };
            match message.view() {
                gst::MessageView::Error(error) => {
                    return Err(self
                        .unlinked(error, video)
                        .unwrap_or_else(|| self.failure(error, missing_plugin)));
                }
                gst::MessageView::StreamCollection(streams) => video = video_in(streams)?.or(video),
                gst::MessageView::Eos(_) => return Ok(Ended::Finished),
                gst::MessageView::AsyncDone(_) if rewind => {
                    rewind = false;
                    // Where that fails (no index), the clip ends with Eos and is opened again.
                    self.rewind(gst::SeekFlags::FLUSH | gst::SeekFlags::SEGMENT);
                    if self.bin.set_state(gst::State::Playing).is_err() {
                        return Err(self.why_not_started(&bus));
                    }
                }
                gst::MessageView::SegmentDone(_) => {
                    // A clip of a frame or two would be rewound in a mad spin; opened anew, it has its pause.
                    let too_short = now.saturating_sub(rewound) < SHORTEST_CLIP;
                    rewound = now;
                    if too_short || !self.rewind(gst::SeekFlags::SEGMENT) {
                        return Ok(Ended::Finished);
                    }
                }
                gst::MessageView::Latency(_) => {
                    if let Err(error) = self.bin.recalculate_latency() {
                        tracing::debug!(camera = stage.camera.name, %error, "Latency is unknown.");
                    }
                }
                gst::MessageView::Element(element) => {
                    missing_plugin = missing_plugin.or_else(|| missing_video_plugin(element));
                }
                _ => {}
            }
        }
    }

    /// Takes it down, whatever state it is in; a pipeline that hangs is counted and left behind.
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

    fn pass_on_news(&self, watcher: &mut dyn Watcher) -> Result<(), Failure> {
        let mut news = lock(&self.news);
        if let Some(health) = news.health.take() {
            watcher.health(health);
        }
        match news.refused.take() {
            Some(refused) => Err(Failure::new(Trouble::Unsupported, refused)),
            None => Ok(()),
        }
    }

    /// What has come and gone so far; where there is no gate, as many frames as pictures.
    fn counts(&self) -> Counts {
        let pictures = self.gate.pictures.load(Ordering::Relaxed);
        let gate = |counter: &AtomicU64| if self.gated { counter.load(Ordering::Relaxed) } else { pictures };
        Counts { arrived: gate(&self.gate.arrived), given: gate(&self.gate.given), pictures }
    }

    /// Back to the start of the clip; false where the clip cannot.
    fn rewind(&self, flags: gst::SeekFlags) -> bool {
        let (start, end) = (gst::ClockTime::ZERO, gst::ClockTime::NONE);
        self.bin.seek(1.0, flags, gst::SeekType::Set, start, gst::SeekType::None, end).is_ok()
    }

    fn why_not_started(&self, bus: &gst::Bus) -> Failure {
        // The reason is on the bus.
        let error = bus.timed_pop_filtered(TURN, &[gst::MessageType::Error]);
        match error.as_ref().map(|message| message.view()) {
            Some(gst::MessageView::Error(error)) => self.failure(error, None),
            _ => Failure::new(Trouble::Unreachable, "the pipeline does not start"),
        }
    }

    /// A bus error in words, and what to do about it.
    fn failure(&self, message: &gst::message::Error, missing: Option<String>) -> Failure {
        if let Some(failure) = self.wrong_stream() {
            return failure;
        }
        let mut failure = describe(message, missing);
        // It could be watched until now, so it will be again.
        if failure.trouble == Trouble::Unsupported && self.gate.pictures.load(Ordering::Relaxed) > 0 {
            failure.trouble = Trouble::Unreachable;
        }
        failure
    }

    /// Of a stream whose `video` nothing takes, what is wrong in words; GStreamer has none.
    fn unlinked(&self, error: &gst::message::Error, video: Option<String>) -> Option<Failure> {
        let is_unlinked = error.debug().is_some_and(|debug| debug.contains("not-linked"));
        let video = video.filter(|_| is_unlinked && self.gate.arrived.load(Ordering::Relaxed) == 0)?;
        let why = format!("its video is {video}, for which there is no pipeline");
        Some(Failure::new(Trouble::Unsupported, why))
    }

    /// The camera sends something else than this pipeline decodes.
    fn wrong_stream(&self) -> Option<Failure> {
        let announced = lock(&self.announced);
        match announced.as_ref()? {
            Stream::Unknown(name) => Some(Failure::new(
                Trouble::Unsupported,
                format!("the camera sends {name}, for which there is no pipeline"),
            )),
            Stream::Known(codec) if self.codec.is_none_or(|own| own == *codec) => None,
            Stream::Known(codec) => Some(Failure::new(
                Trouble::OtherCodec(*codec),
                format!("the camera sends {codec}, which this pipeline is not for"),
            )),
        }
    }
}

/// The pipeline with its sink, everything configured and nothing started.
fn build(
    pipeline: &Pipeline,
    camera: &Camera,
    announced: &Announced,
) -> Result<(gst::Pipeline, AppSink), Failure> {
    let unusable = |e: &dyn std::fmt::Display| {
        Failure::new(Trouble::Unsupported, format!("the pipeline cannot be built: {e}"))
    };
    let bin = gst::parse::launch_full(&with_sink(pipeline), None, gst::ParseFlags::FATAL_ERRORS)
        .map_err(|e| unusable(&e))?
        .downcast::<gst::Pipeline>()
        .map_err(|_| unusable(&"it is a single element"))?;
    source::configure(&bin, pipeline, camera.login.as_ref(), announced).map_err(|e| unusable(&e))?;
    let sink = bin
        .by_name("sink")
        .and_then(|sink| sink.downcast::<AppSink>().ok())
        .ok_or_else(|| unusable(&"it has no appsink"))?;
    sink.set_caps(Some(&gst_video::VideoCapsBuilder::new().format_list(FORMATS).build()));
    sink.set_property("enable-last-sample", false);
    sink.set_property("qos", false);
    if let Some(threads) = pipeline.decode_threads {
        bin.connect_deep_element_added(move |_, _, element| limit_decoder_threads(element, threads));
    }
    Ok((bin, sink))
}

/// Opens a camera for its first picture only.
pub fn first_picture(camera: &Camera, pipeline: &Pipeline, clock: &dyn Clock) -> Result<Image, Failure> {
    let announced = Announced::default();
    let (bin, sink) = build(pipeline, camera, &announced)?;
    sink.set_property("sync", false);
    let bus = bin.bus().expect("a pipeline has a bus");
    let deadline = clock.monotonic() + camera.first_frame_timeout;
    let wrong_stream = || match lock(&announced).as_ref() {
        Some(Stream::Known(codec)) if Some(*codec) != pipeline.codec => Some(Failure::new(
            Trouble::OtherCodec(*codec),
            format!("the camera sends {codec}, which this pipeline is not for"),
        )),
        _ => None,
    };
    let look = || {
        if bin.set_state(gst::State::Playing).is_err() {
            let error = bus.timed_pop_filtered(TURN, &[gst::MessageType::Error]);
            return Err(match error.as_ref().map(|message| message.view()) {
                Some(gst::MessageView::Error(error)) => describe(error, None),
                _ => Failure::new(Trouble::Unreachable, "the pipeline does not start"),
            });
        }
        while clock.monotonic() < deadline {
            if let Some(sample) = sink.try_pull_sample(TURN) {
                let info = sample.caps().and_then(|caps| gst_video::VideoInfo::from_caps(caps).ok());
                let picture = info.and_then(|info| sample_sink::image(&sample, &info, camera.rotation));
                return picture
                    .ok_or_else(|| Failure::new(Trouble::Unsupported, "the picture cannot be read"));
            }
            match bus
                .pop_filtered(&[
                    gst::MessageType::Error,
                    gst::MessageType::Eos,
                    gst::MessageType::StreamCollection,
                ])
                .as_ref()
                .map(|m| m.view())
            {
                Some(gst::MessageView::Error(error)) => {
                    return Err(wrong_stream().unwrap_or_else(|| describe(error, None)));
                }
                Some(gst::MessageView::StreamCollection(streams)) => drop(video_in(streams)?),
                Some(_) => return Err(without_video()),
                None => {}
            }
        }
        Err(Failure::new(Trouble::Stalled, "no picture in time"))
    };
    let picture = look();
    drop(sink);
    teardown::tear_down(&camera.name, bin, || {});
    picture
}

/// What the video is encoded with, of a stream whose parts are known now; none where that is not told.
///
/// Errors: none of the parts is a video.
fn video_in(streams: &gst::message::StreamCollection) -> Result<Option<String>, Failure> {
    let is_parser = |source: &gst::Object| {
        let element = source.downcast_ref::<gst::Element>();
        element.and_then(|element| element.factory()).is_some_and(|factory| factory.name() == "parsebin")
    };
    // Others tell of parts of it.
    if !streams.src().is_some_and(is_parser) {
        return Ok(None);
    }
    let streams = streams.stream_collection();
    let others = gst::StreamType::AUDIO | gst::StreamType::TEXT;
    let video = streams.iter().find(|stream| !others.contains(stream.stream_type()));
    match video {
        Some(video) => {
            Ok(video.caps().and_then(|caps| caps.structure(0).map(|stream| stream.name().to_string())))
        }
        None if streams.is_empty() => Ok(None),
        None => Err(without_video()),
    }
}

fn without_video() -> Failure {
    Failure::new(Trouble::Unsupported, "there is no video in it")
}

/// A bus error in words, and what kind of trouble it is.
pub(super) fn describe(message: &gst::message::Error, missing: Option<String>) -> Failure {
    if let Some(missing) = missing {
        return Failure::new(Trouble::Unsupported, missing);
    }
    let error = message.error();
    let trouble = if error.matches(gst::ResourceError::NotAuthorized) {
        Trouble::Denied
    } else if error.matches(gst::CoreError::MissingPlugin)
        || error.matches(gst::CoreError::Negotiation)
        || error.matches(gst::StreamError::CodecNotFound)
        || error.matches(gst::StreamError::WrongType)
        || error.matches(gst::StreamError::TypeNotFound)
        || error.matches(gst::StreamError::Format)
        || error.matches(gst::StreamError::Demux)
    {
        Trouble::Unsupported
    } else {
        Trouble::Unreachable
    };
    // The debug text's first line is a place in GStreamer's source, the second what really happened.
    let debug = message.debug().unwrap_or_default();
    let detail = debug.lines().nth(1).map(str::trim).filter(|line| !line.is_empty());
    let text = error.message().trim_end_matches('.');
    let reason = match detail {
        Some(detail) => format!("{text} ({detail})"),
        None => text.to_string(),
    };
    Failure::new(trouble, without_queries(&reason))
}

/// Cameras have passwords in their addresses' queries, and GStreamer has addresses in its errors.
fn without_queries(text: &str) -> String {
    let hide = |word: &str| match (word.find("://"), word.find('?')) {
        (Some(scheme), Some(query)) if scheme < query => format!("{}?***", &word[..query]),
        _ => word.to_string(),
    };
    text.split(' ').map(hide).collect::<Vec<_>>().join(" ")
}

/// More threads cost 25 to 30 % more CPU a frame and a frame of delay each, for nothing where one core keeps up.
fn limit_decoder_threads(element: &gst::Element, threads: i64) {
    let is_libav = element.factory().is_some_and(|factory| factory.name().starts_with("avdec_"));
    if is_libav && element.find_property("max-threads").is_some() {
        element.set_property("max-threads", threads as i32);
    }
}

/// What decodebin says when it lacks a decoder for a video stream. Sound that nobody listens to does not matter.
fn missing_video_plugin(message: &gst::message::Element) -> Option<String> {
    let structure = message.structure().filter(|s| s.name() == "missing-plugin")?;
    let detail = structure.value("detail").ok()?;
    let caps = detail.get::<gst::Caps>().map(|caps| caps.to_string());
    let stream = caps.or_else(|_| detail.get::<String>()).ok()?;
    let name = structure.get::<String>("name").unwrap_or_else(|_| stream.clone());
    (!stream.starts_with("audio/"))
        .then(|| format!("{name} is missing: install gstreamer1.0-libav or gstreamer1.0-plugins-bad"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_password_in_an_address_is_not_told() {
        let text =
            "Not Found (Not Found (404), URL: http://cam/video?user=admin&pwd=hunter2, Redirect to: (NULL))";
        assert_eq!(
            without_queries(text),
            "Not Found (Not Found (404), URL: http://cam/video?*** Redirect to: (NULL))"
        );
        assert_eq!(without_queries("why? because rtsp://h/s is away"), "why? because rtsp://h/s is away");
    }
}
