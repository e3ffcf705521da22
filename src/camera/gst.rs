//! One attempt at a camera with GStreamer: build the pipeline, take frames, watch the bus, tear down. The only code that
//! names GStreamer.
//!
//! Frames leave on GStreamer's thread through an appsink callback that never blocks: a callback that waits makes the
//! pipeline impossible to stop. Only a clip that is read as fast as it goes is pulled from here instead, so that it can
//! wait for room. There is no videorate (1.22's aborts the process on streams without timing) and no conversion to RGB
//! in the graph: the decoder's own planes go to the workers.
//!
//! State changes happen on the camera's thread, never on GStreamer's, which would wait for itself.

use super::{
    CameraStage, Ended,
    pace::RateLimit,
    template::{self, Pipeline},
};
use crate::{
    clock::Clock,
    config::{Camera, Source},
    error::{Error, Kind},
    frame::{CaptureClock, Colorimetry, Frame, Image, PixelFormat, Plane, Planes, YuvMatrix},
    queue::Slot,
};
use gstreamer::{self as gst, prelude::*};
use gstreamer_app::{AppSink, AppSinkCallbacks};
use gstreamer_video::{self as gst_video, VideoFrame, VideoFrameExt, VideoInfo, video_frame::Readable};
use jiff::Timestamp;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Formats that the workers take as they are; everything else is converted to the first that fits.
const FORMATS: [gst_video::VideoFormat; 4] = [
    gst_video::VideoFormat::I420,
    gst_video::VideoFormat::Nv12,
    gst_video::VideoFormat::Gray8,
    gst_video::VideoFormat::Rgb,
];
/// How often the loop looks around: at the bus, the stop sign, the clock.
const TURN: gst::ClockTime = gst::ClockTime::from_mseconds(100);
/// A camera gets this long for its first frame, or its own stall timeout where that is longer.
const FIRST_FRAME: Duration = Duration::from_secs(10);
/// Anything shorter is not rewound but opened again.
pub(super) const SHORTEST_CLIP: Duration = Duration::from_millis(500);
/// Between the camera's clock and ours; further apart, the camera's clock is wrong and not told to anyone.
const PLAUSIBLE_AGE: Duration = Duration::from_secs(10);
/// NTP counts from 1900, Unix from 1970.
const NTP_TO_UNIX: Duration = Duration::from_secs(2_208_988_800);

/// Loads GStreamer and sends what it logs to our log; call once.
///
/// Errors ([`Kind::System`]): no GStreamer that can be used.
pub fn init() -> Result<(), Error> {
    gst::init().map_err(|e| Error::caused(Kind::System, "GStreamer does not start", e))?;
    gst::log::remove_default_log_function();
    gst::log::set_default_threshold(gst::DebugLevel::Warning);
    // Whatever matters also arrives on the bus; the rest is for those who look for it.
    gst::log::add_log_function(|category, level, _file, _function, _line, _object, message| {
        if level <= gst::DebugLevel::Warning {
            let message = message.get().unwrap_or_default();
            tracing::debug!(target: "gstreamer", category = category.name(), "{message}");
        }
    });
    Ok(())
}

/// The library's own words for its version: `GStreamer 1.22.0`.
pub fn version() -> String {
    gst::version_string().to_string()
}

/// Whether an element is installed, and by which plugin in which version.
pub fn find_element(name: &str) -> Option<String> {
    let factory = gst::ElementFactory::find(name)?;
    let plugin = factory.plugin()?;
    Some(format!("{} {}", plugin.plugin_name(), plugin.version()))
}

/// The elements that the pipeline needs and this machine lacks, each with the package that brings it.
///
/// Errors ([`Kind::Input`]): a launch line of the user's own that cannot be read.
pub fn missing_elements(pipeline: &Pipeline) -> Result<Vec<String>, Error> {
    let known: Vec<String> = pipeline.needs.iter().filter_map(missing_need).collect();
    if !known.is_empty() {
        return Ok(known);
    }
    let mut context = gst::ParseContext::new();
    match gst::parse::launch_full(&with_sink(pipeline), Some(&mut context), gst::ParseFlags::FATAL_ERRORS) {
        Ok(_) => Ok(Vec::new()),
        Err(error) => {
            let mut missing = context.missing_elements();
            missing.sort();
            missing.dedup();
            if missing.is_empty() {
                let message = format!("the launch line cannot be read: {}", pipeline.launch);
                return Err(Error::caused(Kind::Input, message, error));
            }
            let describe =
                |element: &String| describe_missing(element, template::package_of(element).as_ref());
            Ok(missing.iter().map(describe).collect())
        }
    }
}

/// What to install for a need that nothing on this machine meets.
pub fn missing_need(need: &template::Need) -> Option<String> {
    if need.any_of.iter().any(|element| gst::ElementFactory::find(element).is_some()) {
        return None;
    }
    let missing = describe_missing(need.any_of.first()?, Some(&need.package));
    Some(match &need.any_of[1..] {
        [] => missing,
        others => format!("{missing} (or have one of {})", others.join(", ")),
    })
}

/// The whole launch line. The converter passes through what the sink takes as it is.
fn with_sink(pipeline: &Pipeline) -> String {
    format!("{} ! videoconvert ! appsink name=camfire-sink", pipeline.launch)
}

fn describe_missing(element: &str, package: Option<&String>) -> String {
    match package {
        Some(package) => format!("element {element} is missing: install {package}"),
        None => format!("element {element} is missing: `apt-file search` finds its package"),
    }
}

/// One attempt: from opening to the end, a failure, or the time to stop. `online` is called at the first frame.
pub(super) fn run_once(stage: &CameraStage, online: &mut dyn FnMut()) -> Result<Ended, Error> {
    let missing = missing_elements(&stage.pipeline)?;
    if !missing.is_empty() {
        return Err(Error::new(Kind::SourceForGood, missing.join("; ")));
    }
    let capture = Capture::open(stage)?;
    let ended = capture.watch(online);
    // Always here, on the camera's own thread; the callback never blocks, so this ends.
    if let Err(error) = capture.pipeline.set_state(gst::State::Null) {
        tracing::debug!(camera = stage.camera.name, %error, "Pipeline would not stop.");
    }
    ended
}

/// A pipeline that exists, for the length of one attempt.
struct Capture<'a> {
    stage: &'a CameraStage,
    pipeline: gst::Pipeline,
    sink: AppSink,
    taker: Arc<Mutex<Taker>>,
    /// Frames taken in this attempt; written on GStreamer's thread.
    frames: Arc<AtomicU64>,
}

impl<'a> Capture<'a> {
    fn open(stage: &'a CameraStage) -> Result<Capture<'a>, Error> {
        let camera = &stage.camera;
        let unusable = |e: &dyn std::fmt::Display| {
            Error::new(Kind::SourceForGood, format!("the pipeline cannot be built: {e}"))
        };
        let pipeline =
            gst::parse::launch_full(&with_sink(&stage.pipeline), None, gst::ParseFlags::FATAL_ERRORS)
                .map_err(|e| unusable(&e))?
                .downcast::<gst::Pipeline>()
                .map_err(|_| unusable(&"it is a single element"))?;
        match pipeline.by_name("src") {
            Some(source) => {
                configure_source(&source, &stage.pipeline, camera).map_err(|e| unusable(&e))?;
            }
            None if camera.login.is_some() => {
                return Err(unusable(&"no element is called src, to be given user and password"));
            }
            None => {}
        }
        let sink = pipeline
            .by_name("camfire-sink")
            .and_then(|sink| sink.downcast::<AppSink>().ok())
            .ok_or_else(|| unusable(&"it has no appsink"))?;

        let pulled = matches!(camera.source, Source::File { realtime: false, .. });
        sink.set_caps(Some(&gst_video::VideoCapsBuilder::new().format_list(FORMATS).build()));
        sink.set_property("sync", !stage.pipeline.live && !pulled);
        sink.set_property("max-buffers", if pulled { 4u32 } else { 1 });
        sink.set_property("drop", !pulled);
        sink.set_property("enable-last-sample", false);
        sink.set_property("qos", false);

        if let Some(threads) = stage.pipeline.decode_threads {
            pipeline.connect_deep_element_added(move |_, _, element| {
                limit_decoder_threads(element, threads);
            });
        }
        let frames = Arc::new(AtomicU64::new(0));
        let taker = Arc::new(Mutex::new(Taker {
            slot: stage.slot.clone(),
            clock: stage.clock.clone(),
            rate: RateLimit::new(camera.rate_fps),
            info: None,
            paced: !pulled,
            frames: frames.clone(),
        }));
        if !pulled {
            let taker = taker.clone();
            let new_sample = move |sink: &AppSink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                taker.lock().unwrap_or_else(PoisonError::into_inner).take(sink, sample);
                Ok(gst::FlowSuccess::Ok)
            };
            sink.set_callbacks(AppSinkCallbacks::builder().new_sample(new_sample).build());
        }
        Ok(Capture { stage, pipeline, sink, taker, frames })
    }

    /// Plays until the end, a failure, or the time to stop.
    fn watch(&self, online: &mut dyn FnMut()) -> Result<Ended, Error> {
        let stage = self.stage;
        let repeat = matches!(stage.camera.source, Source::File { repeat: true, .. });
        let bus = self.pipeline.bus().expect("a pipeline has a bus");
        // A clip that is to be repeated is rewound once before it plays: only a segment that was asked for with a
        // seek ends with a message instead of the end of the stream, and can be followed by the next without a gap.
        let mut rewind = repeat;
        let start = if repeat { gst::State::Paused } else { gst::State::Playing };
        if self.pipeline.set_state(start).is_err() {
            // The reason is on the bus.
            let error = bus.timed_pop_filtered(TURN, &[gst::MessageType::Error]);
            return Err(match error.as_ref().map(|message| message.view()) {
                Some(gst::MessageView::Error(error)) => self.failure(error, None),
                _ => Error::new(Kind::Source, "the pipeline does not start"),
            });
        }
        let mut missing_plugin = None;
        let mut seen = 0;
        let mut rewound = stage.clock.monotonic();
        let mut last_frame = stage.clock.monotonic();
        loop {
            let now = stage.clock.monotonic();
            stage.pulse.beat(now);
            if stage.stop.is_time() {
                return Ok(Ended::Stopped);
            }
            let frames = self.frames.load(Ordering::Relaxed);
            if frames != seen {
                if seen == 0 {
                    online();
                }
                (seen, last_frame) = (frames, now);
            }
            let patience = match seen {
                0 => FIRST_FRAME.max(stage.camera.stall_timeout),
                _ => stage.camera.stall_timeout,
            };
            if now.saturating_sub(last_frame) > patience {
                let message = format!("no frame for {} s", patience.as_secs_f64());
                return Err(Error::new(Kind::Source, message));
            }
            let Some(message) = self.next_message(&bus) else { continue };
            match message.view() {
                gst::MessageView::Error(error) => {
                    return Err(self.failure(error, missing_plugin));
                }
                gst::MessageView::Eos(_) => return Ok(Ended::Finished),
                gst::MessageView::AsyncDone(_) if rewind => {
                    rewind = false;
                    // Where that fails (no index), the clip ends with Eos and is opened again.
                    self.rewind(gst::SeekFlags::FLUSH | gst::SeekFlags::SEGMENT);
                    self.play()?;
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
                    if let Err(error) = self.pipeline.recalculate_latency() {
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

    /// The next message on the bus, or `None` after a turn; pulls a frame meanwhile where frames are pulled.
    fn next_message(&self, bus: &gst::Bus) -> Option<gst::Message> {
        let pulled = matches!(self.stage.camera.source, Source::File { realtime: false, .. });
        if !pulled {
            return bus.timed_pop(TURN);
        }
        let message = bus.pop();
        if message.is_none()
            && self.stage.slot.wait_for_room(Duration::from(TURN))
            && let Some(sample) = self.sink.try_pull_sample(TURN)
        {
            self.taker.lock().unwrap_or_else(PoisonError::into_inner).take(&self.sink, sample);
        }
        message
    }

    fn play(&self) -> Result<(), Error> {
        self.pipeline
            .set_state(gst::State::Playing)
            .map(drop)
            .map_err(|e| Error::caused(Kind::Source, "the pipeline does not play", e))
    }

    /// Back to the start of the clip; false where the clip cannot.
    fn rewind(&self, flags: gst::SeekFlags) -> bool {
        let (start, end) = (gst::ClockTime::ZERO, gst::ClockTime::NONE);
        self.pipeline.seek(1.0, flags, gst::SeekType::Set, start, gst::SeekType::None, end).is_ok()
    }

    /// A bus error in words, and whether there is any hope.
    fn failure(&self, message: &gst::message::Error, missing: Option<String>) -> Error {
        let error = message.error();
        let is = |kind: gst::ResourceError| error.matches(kind);
        let device = matches!(self.stage.camera.source, Source::V4l2 { .. });
        let for_good = missing.is_some()
            || is(gst::ResourceError::NotAuthorized)
            || (is(gst::ResourceError::NotFound) && !device)
            || error.matches(gst::CoreError::MissingPlugin)
            || error.matches(gst::StreamError::CodecNotFound)
            || error.matches(gst::StreamError::WrongType)
            || error.matches(gst::StreamError::TypeNotFound);
        let kind = if for_good { Kind::SourceForGood } else { Kind::Source };
        if let Some(missing) = missing {
            return Error::new(kind, missing);
        }
        // The debug text's first line is a place in GStreamer's source, the second what really happened.
        let debug = message.debug().unwrap_or_default();
        let detail = debug.lines().nth(1).map(str::trim).filter(|line| !line.is_empty());
        let text = error.message().trim_end_matches('.');
        Error::new(
            kind,
            match detail {
                Some(detail) => format!("{text} ({detail})"),
                None => text.to_string(),
            },
        )
    }
}

/// Address, credentials and optional properties of the element `src`: set, never written into the launch line.
fn configure_source(source: &gst::Element, pipeline: &Pipeline, camera: &Camera) -> Result<(), String> {
    let has = |name: &str| source.find_property(name).is_some();
    if let Some((property, value)) = &pipeline.address {
        if !has(property) {
            return Err(format!("its source has no property {property}"));
        }
        source.set_property(property, value);
    }
    for (property, &value) in pipeline.properties.iter().filter(|(property, _)| has(property)) {
        source.set_property(property, value);
    }
    if let Some(login) = &camera.login {
        if !has("user-id") || !has("user-pw") {
            return Err("its source takes no user and password".to_string());
        }
        source.set_property("user-id", &login.user);
        source.set_property("user-pw", &login.password);
    }
    if source.factory().is_some_and(|factory| factory.name() == "rtspsrc") {
        // Sound and metadata are not even fetched.
        source.connect("select-stream", false, |values| {
            let caps = values.get(2).and_then(|value| value.get::<gst::Caps>().ok())?;
            let media = caps.structure(0)?.get::<String>("media").unwrap_or_default();
            Some((media == "video").to_value())
        });
    }
    Ok(())
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

/// Turns samples into frames, on whichever thread they come.
struct Taker {
    slot: Arc<Slot<()>>,
    clock: Arc<dyn Clock>,
    rate: RateLimit,
    /// Of the caps that the last sample had.
    info: Option<(gst::Caps, VideoInfo)>,
    /// Frames come at the pace of the clock: their age can be told from their time stamps.
    paced: bool,
    frames: Arc<AtomicU64>,
}

impl Taker {
    /// Counts the frame and offers it to the workers if it is due. Never blocks.
    fn take(&mut self, sink: &AppSink, sample: gst::Sample) {
        let number = self.slot.count();
        self.frames.fetch_add(1, Ordering::Relaxed);
        let running = running_time(&sample);
        let stream_time = running.map_or_else(|| self.clock.monotonic(), Duration::from);
        if !self.rate.is_due(stream_time) {
            self.slot.skip();
            return;
        }
        let (captured_at, capture_clock, age) = self.capture_time(sink, &sample, running);
        match self.image(&sample) {
            Some(image) => self.slot.offer(Frame {
                number,
                captured_at,
                capture_clock,
                captured_monotonic: self.clock.monotonic().saturating_sub(age),
                image,
            }),
            None => self.slot.fail(),
        }
    }

    /// When the frame was seen, how that is known, and how long ago that is.
    fn capture_time(
        &self,
        sink: &AppSink,
        sample: &gst::Sample,
        running: Option<gst::ClockTime>,
    ) -> (Timestamp, CaptureClock, Duration) {
        let now = self.clock.now();
        if let Some(sent) = sample.buffer().and_then(sender_time) {
            let age = now.duration_since(sent);
            if age.unsigned_abs() <= PLAUSIBLE_AGE {
                let age = Duration::try_from(age).unwrap_or_default();
                return (sent, CaptureClock::Sender, age);
            }
        }
        let age = running
            .zip(sink.current_running_time())
            .map(|(running, now)| Duration::from(now.saturating_sub(running)))
            .filter(|age| self.paced && *age <= PLAUSIBLE_AGE);
        match age {
            Some(age) => (now - age, CaptureClock::Pipeline, age),
            None => (now, CaptureClock::Arrival, Duration::ZERO),
        }
    }

    /// The sample's pixels, still in the decoder's memory.
    fn image(&mut self, sample: &gst::Sample) -> Option<Image> {
        let caps = sample.caps()?;
        if self.info.as_ref().is_none_or(|(known, _)| known.as_ref() != caps) {
            self.info = Some((caps.to_owned(), VideoInfo::from_caps(caps).ok()?));
        }
        let (_, info) = self.info.as_ref()?;
        let format = match info.format() {
            gst_video::VideoFormat::I420 => PixelFormat::I420,
            gst_video::VideoFormat::Nv12 => PixelFormat::Nv12,
            gst_video::VideoFormat::Gray8 => PixelFormat::Gray8,
            gst_video::VideoFormat::Rgb => PixelFormat::Rgb,
            _ => return None,
        };
        let (width, height) = (info.width() as usize, info.height() as usize);
        let colorimetry = colorimetry(info);
        let frame = VideoFrame::from_buffer_readable(sample.buffer_owned()?, info).ok()?;
        Some(Image { format, width, height, colorimetry, planes: Box::new(MappedPlanes(frame)) })
    }
}

/// Time since the pipeline started playing, by the frame's own time stamp.
fn running_time(sample: &gst::Sample) -> Option<gst::ClockTime> {
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    segment.to_running_time(sample.buffer()?.pts()?)
}

/// The camera's own time of the frame, from its RTCP sender reports.
fn sender_time(buffer: &gst::BufferRef) -> Option<Timestamp> {
    let ntp = buffer
        .iter_meta::<gst::ReferenceTimestampMeta>()
        .find(|meta| meta.reference().structure(0).is_some_and(|s| s.name() == "timestamp/x-ntp"))?
        .timestamp();
    let unix = Duration::from(ntp).checked_sub(NTP_TO_UNIX)?;
    Timestamp::from_nanosecond(i128::try_from(unix.as_nanos()).ok()?).ok()
}

/// What the stream says of its colours, and the usual guess from its height where it says nothing.
fn colorimetry(info: &VideoInfo) -> Colorimetry {
    let matrix = match info.colorimetry().matrix() {
        gst_video::VideoColorMatrix::Bt601 => YuvMatrix::Bt601,
        gst_video::VideoColorMatrix::Bt709 => YuvMatrix::Bt709,
        _ if info.height() > 576 => YuvMatrix::Bt709,
        _ => YuvMatrix::Bt601,
    };
    let full_range = info.colorimetry().range() == gst_video::VideoColorRange::Range0_255;
    Colorimetry { matrix, full_range }
}

/// A decoder's buffer, mapped for reading as long as the frame lives.
struct MappedPlanes(VideoFrame<Readable>);

impl Planes for MappedPlanes {
    fn plane(&self, index: usize) -> Plane<'_> {
        let data = self.0.plane_data(index as u32).unwrap_or_default();
        Plane { data, stride_bytes: self.0.plane_stride()[index].max(0) as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_need_is_met_by_any_of_its_elements_and_else_named_with_its_package() {
        init().unwrap();
        let need = |any_of: &[&str]| template::Need {
            any_of: any_of.iter().map(|element| element.to_string()).collect(),
            package: "gstreamer1.0-x".into(),
        };
        assert_eq!(missing_need(&need(&["nosuchdec", "fakesrc"])), None);
        assert_eq!(
            missing_need(&need(&["nosuchdec"])).unwrap(),
            "element nosuchdec is missing: install gstreamer1.0-x"
        );
        assert_eq!(
            missing_need(&need(&["nosuchdec", "neitherdec"])).unwrap(),
            "element nosuchdec is missing: install gstreamer1.0-x (or have one of neitherdec)"
        );
    }

    #[test]
    fn every_template_can_be_parsed_where_its_elements_are() {
        init().unwrap();
        let camera = |source| Camera {
            name: "yard".into(),
            source,
            template: None,
            options: Default::default(),
            rate_fps: 5.0,
            stall_timeout: Duration::from_secs(10),
            login: None,
        };
        for source in [
            Source::Rtsp { url: "rtsp://h/s".into() },
            Source::V4l2 { device: "/dev/video0".into() },
            Source::File { path: "/c.mp4".into(), repeat: true, realtime: true },
            Source::Test { pattern: "ball".into() },
            Source::Custom { launch: "videotestsrc ! video/x-raw,width=64".into() },
        ] {
            let pipeline = template::fill_in(&camera(source)).unwrap();
            assert_eq!(missing_elements(&pipeline).unwrap(), [""; 0], "{}", pipeline.template);
        }
    }
}
