//! Turns the appsink's samples into frames for the workers.
//!
//! Runs on GStreamer's thread. Checks images for change (for the gate) and for their health, counts them,
//! reduces them to the camera's rate, determines their capture time and offers them to the slot. Never
//! blocks.

use super::{
    super::{
        CameraStage,
        decode::Purpose,
        http::MAX_PIXELS,
        pace::RateLimit,
        timing::{TimeOfDay, Timeline},
    },
    gate::{self, GateState},
};
use crate::{
    clock::Clock,
    config::{Decode, Rotation, Source},
    control::CameraControl,
    frame::{
        CaptureClock, ClockFault, Colorimetry, Frame, FrameTimings, Image, PixelFormat, Plane, Planes, View,
        YuvMatrix,
    },
    queue::frames::Slot,
    sync::lock,
    vision::{
        change::{self, ChangeDetector},
        health::{Health, HealthCheck},
        luma::Luma,
    },
    wire::messages::StreamClock,
};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use gstreamer_video::{self as gst_video, VideoFrame, VideoFrameExt, VideoInfo, video_frame::Readable};
use jiff::Timestamp;
use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

/// Formats that the workers can read. The converter converts all others to one of these.
pub(super) const FORMATS: [gst_video::VideoFormat; 5] = [
    gst_video::VideoFormat::I420,
    gst_video::VideoFormat::Nv12,
    gst_video::VideoFormat::Yuy2,
    gst_video::VideoFormat::Gray8,
    gst_video::VideoFormat::Rgb,
];

/// Largest plausible age of a frame.
const MAX_AGE: Duration = Duration::from_secs(10);
/// A smaller change of the offset between two clocks is not reported.
const MIN_OFFSET_CHANGE_S: f64 = 0.5;
/// NTP counts from 1900, Unix from 1970.
const NTP_TO_UNIX: Duration = Duration::from_secs(2_208_988_800);
/// Images per second that are checked for change while everything is decoded.
const CHECKED_FPS: f64 = 5.0;
/// Consecutive unreadable frames after which the video is unsupported. A single one may be damaged.
const MAX_UNREADABLE: u32 = 10;
/// Largest pixel aspect ratio, and the inverse of the smallest. Television has up to 1.5, anamorphic film 2.
const MAX_ASPECT: f64 = 4.0;

/// How a source's frames are paced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pacing {
    /// In real time, from the network.
    Network,
    /// In real time, with timestamps of this machine's kernel.
    Device,
    /// In real time by the pipeline's clock, from a clip or a test pattern.
    Clock,
    /// As fast as they are read.
    Unpaced,
}

impl Pacing {
    /// The pacing of a source.
    pub(super) fn of(source: &Source) -> Pacing {
        match source {
            Source::Rtsp { .. } | Source::Http { .. } | Source::Custom { .. } => Pacing::Network,
            Source::V4l2 { .. } | Source::Libcamera { .. } | Source::Csi { .. } => Pacing::Device,
            Source::File { realtime: false, .. } => Pacing::Unpaced,
            Source::File { .. } | Source::Test { .. } => Pacing::Clock,
        }
    }
}

/// Turns samples into frames.
pub(super) struct SampleSink {
    slot: Arc<Slot>,
    clock: Arc<dyn Clock>,
    control: Arc<CameraControl>,
    control_seen: u64,
    rate: RateLimit,
    pacing: Pacing,
    rotation: Rotation,
    /// How long a frame may have been in the gate's buffer.
    max_buffered: Duration,
    /// When the source was opened, by wall clock and monotonic clock. Time base of an unpaced recording.
    opened: (Timestamp, Duration),
    gate: Arc<GateState>,
    /// The last sample's caps and what they mean.
    info: Option<(gst::Caps, VideoInfo)>,
    luma: Luma,
    /// None if nothing depends on change.
    change: Option<(ChangeDetector, RateLimit)>,
    health: Arc<Mutex<HealthCheck>>,
    /// Consecutive frames that could not be read.
    unreadable: u32,
    /// Frames arrive in real time from the network, and have the times of a [`Timeline`].
    has_arrivals: bool,
    /// Places frames whose time the gate has not attached.
    timeline: Timeline,
    time_of_day: TimeOfDay,
    /// The stream's clock as last reported.
    told_clock: Option<StreamClock>,
    /// The name of this machine's clock for the stream, chosen with the first frame.
    local_clock: Option<CaptureClock>,
    events: Arc<Mutex<SinkEvents>>,
}

/// What the sample sink reports to the attempt's loop.
#[derive(Debug, Default)]
pub(super) struct SinkEvents {
    /// The new health of the image, if it has changed.
    pub(super) health: Option<Health>,
    /// Why the video cannot be used.
    pub(super) unsupported: Option<String>,
    /// Width and height of the video.
    pub(super) size: Option<(usize, usize)>,
    /// The stream's clock, if it has changed.
    pub(super) clock: Option<StreamClock>,
}

impl SampleSink {
    /// Creates the sink of one attempt. `gated`: the pipeline has a gate, so that images are checked for
    /// change. `has_arrivals`: its frames arrive in real time from the network.
    pub(super) fn new(
        stage: &CameraStage,
        pacing: Pacing,
        gate: Arc<GateState>,
        gated: bool,
        has_arrivals: bool,
    ) -> SampleSink {
        let camera = &stage.camera;
        let checks_change = gated && camera.decode == Decode::Auto;
        let clock = stage.clock.clone();
        SampleSink {
            slot: stage.slot.clone(),
            rate: RateLimit::new(stage.control.settings().rate_fps),
            control: stage.control.clone(),
            control_seen: 0,
            pacing,
            rotation: camera.rotation,
            max_buffered: 4 * camera.keyframe_limit,
            opened: (clock.now(), clock.monotonic()),
            clock,
            gate,
            info: None,
            luma: Luma::default(),
            change: checks_change.then(|| (ChangeDetector::default(), RateLimit::new(CHECKED_FPS))),
            health: stage.health.clone(),
            unreadable: 0,
            has_arrivals,
            timeline: Timeline::default(),
            time_of_day: TimeOfDay::default(),
            told_clock: None,
            local_clock: None,
            events: Arc::default(),
        }
    }

    /// The events for the attempt's loop.
    pub(super) fn events(&self) -> Arc<Mutex<SinkEvents>> {
        self.events.clone()
    }

    /// Processes a decoded sample: checks and counts the frame, and offers it to the workers if it is due.
    pub(super) fn process(&mut self, sink: &AppSink, sample: gst::Sample) {
        let decoded = self.clock.monotonic();
        self.gate.decoded.fetch_add(1, Ordering::Relaxed);
        let attached = sample.buffer().and_then(gate::purpose_of);
        if attached.is_none() && self.change.take().is_some() {
            self.gate.decode_all();
        }
        let purpose = attached.map_or(Purpose::Process, |(purpose, _)| purpose);
        match purpose {
            Purpose::DecodeOnly => return,
            Purpose::Check => self.gate.checked.fetch_add(1, Ordering::Relaxed),
            Purpose::Process => 0,
        };
        if sample.buffer().is_some_and(|buffer| buffer.flags().contains(gst::BufferFlags::CORRUPTED)) {
            self.gate.counters.damaged.fetch_add(1, Ordering::Relaxed);
        }
        // The gate's time, because a decoder's output times never decrease.
        let running = attached.map(|(_, at)| at).or_else(|| running_time(&sample));
        let at = if self.has_arrivals && attached.is_none() {
            let at = self.timeline.place(running.map(Duration::from), decoded);
            if self.timeline.ignores_stream() {
                self.gate.ignores_stream_time.store(true, Ordering::Relaxed);
            }
            at
        } else {
            running.map_or(decoded, Duration::from)
        };
        let image = self.image(&sample);
        let changed = image.as_ref().is_some_and(|image| self.check(image, at, decoded, purpose));
        if purpose == Purpose::Check && !self.gate.report_checked(at, changed) {
            return;
        }
        let number = self.slot.count();
        if let Some(settings) = self.control.changed_since(&mut self.control_seen) {
            self.rate.set_fps(settings.rate_fps);
        }
        if !self.rate.is_due(at) {
            self.slot.skip();
            return;
        }
        let Some(image) = image else {
            self.slot.fail();
            return;
        };
        let (captured, captured_at, capture_clock) = self.capture_time(sink, &sample, running, at, decoded);
        let timings =
            FrameTimings { captured, decoded, queued: self.clock.monotonic(), ..FrameTimings::default() };
        let stream_time = if capture_clock == CaptureClock::Clip { self.opened.1 + at } else { captured };
        self.slot.offer(Frame { number, captured_at, capture_clock, stream_time, timings, image });
    }

    /// Checks an image for change and for its health, if either is due. Returns true if the scene has
    /// changed.
    fn check(&mut self, image: &Image, at: Duration, now: Duration, purpose: Purpose) -> bool {
        let change_is_due = match &mut self.change {
            Some((_, rate)) => rate.is_due(at) || purpose == Purpose::Check,
            None => false,
        };
        // Not contended: nothing else uses it while an attempt runs.
        let health_check = self.health.clone();
        let mut health_check = lock(&health_check);
        let health_is_due = health_check.is_due(now);
        if !(change_is_due || health_is_due) || !self.luma.downscale(image, change::MAX_WIDTH) {
            return false;
        }
        let mut changed = false;
        if let Some((detector, _)) = self.change.as_mut().filter(|_| change_is_due) {
            changed = detector.detect(&self.luma, at);
            if purpose == Purpose::Process {
                self.gate.report_processed(at, changed);
            }
        }
        if health_is_due && let Some(health) = health_check.update(image, &self.luma, now) {
            self.report(|events| events.health = Some(health));
        }
        changed
    }

    fn report(&self, change: impl FnOnce(&mut SinkEvents)) {
        change(&mut lock(&self.events));
    }

    /// The frame's capture time on the monotonic clock, its time of day, and the clock that this comes from.
    fn capture_time(
        &mut self,
        sink: &AppSink,
        sample: &gst::Sample,
        running: Option<gst::ClockTime>,
        at: Duration,
        decoded: Duration,
    ) -> (Duration, Timestamp, CaptureClock) {
        if self.pacing == Pacing::Unpaced {
            let clip_time = running.map_or(Duration::ZERO, Duration::from);
            let captured_at = self.opened.0.saturating_add(clip_time).unwrap_or(self.opened.0);
            return (decoded, captured_at, CaptureClock::Clip);
        }
        let (now, monotonic) = (self.clock.now(), self.clock.monotonic());
        let captured = if self.has_arrivals { at } else { decoded.saturating_sub(self.age(sink, running)) };
        let local = now.saturating_sub(monotonic.saturating_sub(captured)).unwrap_or(now);
        let fallback = *self.local_clock.get_or_insert(match (self.pacing, running) {
            (Pacing::Device, Some(_)) => CaptureClock::Driver,
            (_, None) if !self.has_arrivals => CaptureClock::Arrival,
            (Pacing::Device, None) => CaptureClock::Arrival,
            _ => CaptureClock::Pipeline,
        });
        let sender = sample.buffer().and_then(sender_time).filter(|_| self.has_arrivals);
        let (captured_at, capture_clock) = self.time_of_day.tell(captured, sender, local, fallback);
        self.tell_clock(capture_clock);
        (captured, captured_at, capture_clock)
    }

    /// How long a frame that is not timed by its arrival has been in the pipeline.
    fn age(&self, sink: &AppSink, running: Option<gst::ClockTime>) -> Duration {
        running
            .zip(sink.current_running_time())
            .map(|(running, now)| Duration::from(now.saturating_sub(running)))
            .filter(|age| *age <= MAX_AGE + self.max_buffered)
            .unwrap_or_default()
    }

    /// Reports the stream's clock if it, its fault or, by more than [`MIN_OFFSET_CHANGE_S`], its offset has
    /// changed.
    fn tell_clock(&mut self, capture: CaptureClock) {
        let stream_fault = self.gate.ignores_stream_time.load(Ordering::Relaxed);
        let fault = stream_fault.then_some(ClockFault::StreamTime).or(self.time_of_day.fault());
        let mut offset_s = self.time_of_day.offset().map(|offset| offset.as_secs_f64());
        if let Some(told) = &self.told_clock {
            let is_near = told
                .offset_s
                .zip(offset_s)
                .is_some_and(|(told, now)| (told - now).abs() <= MIN_OFFSET_CHANGE_S);
            // A clock that has stopped is further off with every frame, and it is not used.
            let is_unused = matches!(fault, Some(ClockFault::SenderUnsteady | ClockFault::SenderImplausible));
            if is_near || is_unused && told.offset_s.is_some() {
                offset_s = told.offset_s;
            }
        }
        let clock = StreamClock { capture, offset_s, fault };
        if self.told_clock.as_ref() != Some(&clock) {
            self.told_clock = Some(clock.clone());
            self.report(|events| events.clock = Some(clock));
        }
    }

    /// The sample's image, still in the decoder's memory. Returns None, and may report why, if it cannot be
    /// read.
    fn image(&mut self, sample: &gst::Sample) -> Option<Image> {
        let caps = sample.caps()?;
        if self.info.as_ref().is_none_or(|(known, _)| known.as_ref() != caps) {
            match video_info(caps) {
                Ok(info) => {
                    self.report(|events| events.size = Some((info.width() as usize, info.height() as usize)));
                    self.info = Some((caps.to_owned(), info));
                }
                Err(reason) => {
                    self.info = None;
                    self.report(|events| events.unsupported = Some(reason));
                    return None;
                }
            }
        }
        let (_, info) = self.info.as_ref()?;
        let image = image(sample, info, self.rotation);
        self.unreadable = if image.is_some() { 0 } else { self.unreadable + 1 };
        if self.unreadable == MAX_UNREADABLE {
            let (size, expected) = (sample.buffer().map_or(0, |buffer| buffer.size()), info.size());
            self.report(|events| {
                events.unsupported = Some(format!("frames of {size} bytes instead of {expected}"))
            });
        }
        image
    }
}

/// The format of the video that `caps` describe.
///
/// Errors: why it is not supported.
pub(super) fn video_info(caps: &gst::CapsRef) -> Result<VideoInfo, String> {
    let info = VideoInfo::from_caps(caps).map_err(|_| format!("video format is not supported: {caps}"))?;
    let (width, height) = (info.width() as usize, info.height() as usize);
    if width == 0 || height == 0 || width.saturating_mul(height) > MAX_PIXELS {
        return Err(format!("video of {width} x {height} pixels is not supported"));
    }
    let aspect = pixel_aspect(&info);
    if !(1.0 / MAX_ASPECT..=MAX_ASPECT).contains(&aspect) {
        return Err(format!("pixel aspect ratio {aspect} is not supported"));
    }
    Ok(info)
}

/// Width of a pixel divided by its height.
fn pixel_aspect(info: &VideoInfo) -> f64 {
    let par = info.par();
    f64::from(par.numer()) / f64::from(par.denom().max(1))
}

/// The image of a sample with format `info`, still in the decoder's memory. Returns None if it cannot be
/// read.
pub(super) fn image(sample: &gst::Sample, info: &VideoInfo, rotation: Rotation) -> Option<Image> {
    let format = match info.format() {
        gst_video::VideoFormat::I420 => PixelFormat::I420,
        gst_video::VideoFormat::Nv12 => PixelFormat::Nv12,
        gst_video::VideoFormat::Yuy2 => PixelFormat::Yuy2,
        gst_video::VideoFormat::Gray8 => PixelFormat::Gray8,
        gst_video::VideoFormat::Rgb => PixelFormat::Rgb,
        _ => return None,
    };
    let buffer = sample.buffer_owned()?;
    let interlaced = match info.interlace_mode() {
        gst_video::VideoInterlaceMode::Interleaved => true,
        // Flagged on each frame.
        gst_video::VideoInterlaceMode::Mixed => {
            buffer.flags().bits() & gst_video::VideoBufferFlags::INTERLACED.bits() != 0
        }
        _ => false,
    };
    let view = View { pixel_aspect: pixel_aspect(info), interlaced, rotation };
    let (width, height) = (info.width() as usize, info.height() as usize);
    let colorimetry = colorimetry(info);
    let frame = VideoFrame::from_buffer_readable(buffer, info).ok()?;
    Some(Image { format, width, height, colorimetry, view, planes: Box::new(MappedPlanes(frame)) })
}

/// Running time of the frame's timestamp: the time since the pipeline started to play.
fn running_time(sample: &gst::Sample) -> Option<gst::ClockTime> {
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    segment.to_running_time(sample.buffer()?.pts()?)
}

/// The frame's time by the camera's clock, from its RTCP sender reports.
fn sender_time(buffer: &gst::BufferRef) -> Option<Timestamp> {
    let ntp = buffer
        .iter_meta::<gst::ReferenceTimestampMeta>()
        .find(|meta| meta.reference().structure(0).is_some_and(|s| s.name() == "timestamp/x-ntp"))?
        .timestamp();
    let unix = Duration::from(ntp).checked_sub(NTP_TO_UNIX)?;
    Timestamp::from_nanosecond(i128::try_from(unix.as_nanos()).ok()?).ok()
}

/// The stream's colorimetry. If it does not specify the matrix, the usual guess from the height of the image.
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

/// A decoder's buffer, mapped for reading during the frame's lifetime.
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
    fn implausible_dimensions_are_rejected_with_a_reason() {
        gst::init().unwrap();
        let caps = |width: i32, height: i32| {
            gst::Caps::builder("video/x-raw")
                .field("format", "I420")
                .field("width", width)
                .field("height", height)
                .build()
        };
        assert!(video_info(&caps(3840, 2160)).is_ok() && video_info(&caps(7680, 4320)).is_ok());
        assert_eq!(
            video_info(&caps(16384, 16384)).unwrap_err(),
            "video of 16384 x 16384 pixels is not supported"
        );
        assert!(video_info(&caps(0, 480)).is_err());
    }
}
