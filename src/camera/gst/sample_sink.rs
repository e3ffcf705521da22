//! From samples to frames, on whichever thread they come: judged, counted, thinned to the camera's rate, given their time.

use super::{
    super::{CameraStage, decode::Role, pace::RateLimit},
    gate::{self, GateState},
};
use crate::{
    clock::Clock,
    config::{Decode, Rotation},
    control::CameraControl,
    frame::{
        CaptureClock, Colorimetry, Frame, FrameTimings, Image, PixelFormat, Plane, Planes, View, YuvMatrix,
    },
    queue::frames::Slot,
    sync::lock,
    vision::{
        change::{self, ChangeDetector},
        health::{Health, HealthCheck},
        luma::Luma,
    },
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

/// Formats that the workers take as they are; everything else is converted to the first that fits.
pub(super) const FORMATS: [gst_video::VideoFormat; 5] = [
    gst_video::VideoFormat::I420,
    gst_video::VideoFormat::Nv12,
    gst_video::VideoFormat::Yuy2,
    gst_video::VideoFormat::Gray8,
    gst_video::VideoFormat::Rgb,
];

/// Between the camera's clock and ours; further apart, the camera's clock is wrong and not told to anyone.
const PLAUSIBLE_AGE: Duration = Duration::from_secs(10);
/// NTP counts from 1900, Unix from 1970.
const NTP_TO_UNIX: Duration = Duration::from_secs(2_208_988_800);
/// Pictures that are judged for change, a second, while everything is decoded.
const JUDGED_FPS: f64 = 5.0;
/// Frames in a row that cannot be read before the video is refused: one may be damaged.
const MOST_UNREADABLE: u32 = 10;
/// Pixels of television are up to half as wide again as high, those of anamorphic film twice.
const MOST_ASPECT: f64 = 4.0;
/// 8K; what announces more is broken or means harm.
const MOST_PIXELS: usize = 7680 * 4320;

/// How a camera's frames come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// By themselves, from the network.
    Network,
    /// By themselves, stamped by this machine's kernel.
    Device,
    /// At the pace of the clock, from a clip or a drawn picture.
    Clock,
    /// As fast as they are taken.
    Free,
}

/// Turns samples into frames.
pub(super) struct SampleSink {
    slot: Arc<Slot>,
    clock: Arc<dyn Clock>,
    control: Arc<CameraControl>,
    control_seen: u64,
    rate: RateLimit,
    pace: Pace,
    rotation: Rotation,
    /// How long a frame may have lain in the ring.
    longest_rest: Duration,
    /// When a recording that is read as fast as it goes began, by the time of day and on the clock that never jumps.
    opened: (Timestamp, Duration),
    gate: Arc<GateState>,
    /// Of the caps that the last sample had.
    info: Option<(gst::Caps, VideoInfo)>,
    luma: Luma,
    change: Option<(ChangeDetector, RateLimit)>,
    health: Arc<Mutex<HealthCheck>>,
    /// Frames in a row that could not be read.
    unreadable: u32,
    news: Arc<Mutex<News>>,
}

/// What whoever watches the pipeline should know.
#[derive(Debug, Default)]
pub(super) struct News {
    /// A new condition of the picture.
    pub(super) health: Option<Health>,
    /// Why the video cannot be used.
    pub(super) refused: Option<String>,
    /// Width and height of the video.
    pub(super) size: Option<(usize, usize)>,
}

impl SampleSink {
    /// `gated`: the pipeline has a gate, so pictures are judged for it.
    pub(super) fn new(stage: &CameraStage, pace: Pace, gate: Arc<GateState>, gated: bool) -> SampleSink {
        let camera = &stage.camera;
        let judges = gated && camera.decode == Decode::Auto;
        let clock = stage.clock.clone();
        SampleSink {
            slot: stage.slot.clone(),
            rate: RateLimit::new(stage.control.settings().rate_fps),
            control: stage.control.clone(),
            control_seen: 0,
            pace,
            rotation: camera.rotation,
            longest_rest: 4 * camera.keyframe_limit,
            opened: (clock.now(), clock.monotonic()),
            clock,
            gate,
            info: None,
            luma: Luma::default(),
            change: judges.then(|| (ChangeDetector::default(), RateLimit::new(JUDGED_FPS))),
            health: stage.health.clone(),
            unreadable: 0,
            news: Arc::default(),
        }
    }

    /// What happens here, for whoever watches.
    pub(super) fn news(&self) -> Arc<Mutex<News>> {
        self.news.clone()
    }

    /// Counts the frame and offers it to the workers if it is due. Never blocks.
    pub(super) fn take(&mut self, sink: &AppSink, sample: gst::Sample) {
        let decoded = self.clock.monotonic();
        self.gate.pictures.fetch_add(1, Ordering::Relaxed);
        let mark = sample.buffer().and_then(gate::mark_of);
        if mark.is_none() && self.change.take().is_some() {
            self.gate.decode_all();
        }
        let role = mark.map_or(Role::Picture, |(role, _)| role);
        match role {
            Role::Again => return,
            Role::Glance => self.gate.glances.fetch_add(1, Ordering::Relaxed),
            Role::Picture => 0,
        };
        if sample.buffer().is_some_and(|buffer| buffer.flags().contains(gst::BufferFlags::CORRUPTED)) {
            self.gate.counters.damaged.fetch_add(1, Ordering::Relaxed);
        }
        // The gate's time, as decoders make sure that their own never goes back.
        let running = mark.map(|(_, at)| at).or_else(|| running_time(&sample));
        let at = running.map_or(decoded, Duration::from);
        let image = self.image(&sample);
        let changed = image.as_ref().is_some_and(|image| self.look(image, at, decoded, role));
        if role == Role::Glance && !self.gate.judge_glance(at, changed) {
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
        let (captured_at, capture_clock, age) = self.capture_time(sink, &sample, running);
        let captured = decoded.saturating_sub(age);
        let timings =
            FrameTimings { captured, decoded, queued: self.clock.monotonic(), ..FrameTimings::default() };
        let stream_time = if capture_clock == CaptureClock::Clip { self.opened.1 + at } else { captured };
        self.slot.offer(Frame { number, captured_at, capture_clock, stream_time, timings, image });
    }

    /// Judges a picture for change, where someone wants to know, and for what may be wrong with it; true for change.
    fn look(&mut self, image: &Image, at: Duration, now: Duration, role: Role) -> bool {
        let judges = match &mut self.change {
            Some((_, rate)) => rate.is_due(at) || role == Role::Glance,
            None => false,
        };
        // Nobody else has it while an attempt runs.
        let check = self.health.clone();
        let mut check = lock(&check);
        let health_is_due = check.is_due(now);
        if !(judges || health_is_due) || !self.luma.downscale(image, change::MAX_WIDTH) {
            return false;
        }
        let mut changed = false;
        if let Some((detector, _)) = self.change.as_mut().filter(|_| judges) {
            changed = detector.detect(&self.luma, at);
            if role == Role::Picture {
                self.gate.judge(at, changed);
            }
        }
        if health_is_due && let Some(health) = check.update(image, &self.luma, now) {
            self.tell(|news| news.health = Some(health));
        }
        changed
    }

    fn tell(&self, change: impl FnOnce(&mut News)) {
        change(&mut lock(&self.news));
    }

    /// When the frame was seen, how that is known, and how long ago that is.
    fn capture_time(
        &self,
        sink: &AppSink,
        sample: &gst::Sample,
        running: Option<gst::ClockTime>,
    ) -> (Timestamp, CaptureClock, Duration) {
        if self.pace == Pace::Free {
            let into_the_clip = running.map_or(Duration::ZERO, Duration::from);
            let at = self.opened.0.saturating_add(into_the_clip).unwrap_or(self.opened.0);
            return (at, CaptureClock::Clip, Duration::ZERO);
        }
        let now = self.clock.now();
        if let Some(sent) = sample.buffer().and_then(sender_time) {
            let age = now.duration_since(sent);
            if age.unsigned_abs() <= PLAUSIBLE_AGE + self.longest_rest {
                let age = Duration::try_from(age).unwrap_or_default();
                return (sent, CaptureClock::Sender, age);
            }
        }
        let age = running
            .zip(sink.current_running_time())
            .map(|(running, now)| Duration::from(now.saturating_sub(running)))
            .filter(|age| *age <= PLAUSIBLE_AGE + self.longest_rest);
        let clock = if self.pace == Pace::Device { CaptureClock::Driver } else { CaptureClock::Pipeline };
        match age {
            Some(age) => (now - age, clock, age),
            None => (now, CaptureClock::Arrival, Duration::ZERO),
        }
    }

    /// The sample's pixels, still in the decoder's memory.
    fn image(&mut self, sample: &gst::Sample) -> Option<Image> {
        let caps = sample.caps()?;
        if self.info.as_ref().is_none_or(|(known, _)| known.as_ref() != caps) {
            match usable(caps) {
                Ok(info) => {
                    self.tell(|news| news.size = Some((info.width() as usize, info.height() as usize)));
                    self.info = Some((caps.to_owned(), info));
                }
                Err(refused) => {
                    self.info = None;
                    self.tell(|news| news.refused = Some(refused));
                    return None;
                }
            }
        }
        let (_, info) = self.info.as_ref()?;
        let image = image(sample, info, self.rotation);
        self.unreadable = if image.is_some() { 0 } else { self.unreadable + 1 };
        if self.unreadable == MOST_UNREADABLE {
            let (size, expected) = (sample.buffer().map_or(0, |buffer| buffer.size()), info.size());
            self.tell(|news| {
                news.refused = Some(format!("frames of {size} bytes where {expected} are needed"))
            });
        }
        image
    }
}

/// The video that `caps` announce, or why it is refused.
pub(super) fn usable(caps: &gst::CapsRef) -> Result<VideoInfo, String> {
    let info = VideoInfo::from_caps(caps).map_err(|_| format!("video that cannot be read: {caps}"))?;
    let (width, height) = (info.width() as usize, info.height() as usize);
    if width == 0 || height == 0 || width.saturating_mul(height) > MOST_PIXELS {
        return Err(format!("video of {width} x {height} pixels"));
    }
    let aspect = pixel_aspect(&info);
    if !(1.0 / MOST_ASPECT..=MOST_ASPECT).contains(&aspect) {
        return Err(format!("video whose pixels are {aspect} times as wide as high"));
    }
    Ok(info)
}

/// Width of a pixel in its heights.
fn pixel_aspect(info: &VideoInfo) -> f64 {
    let par = info.par();
    f64::from(par.numer()) / f64::from(par.denom().max(1))
}

/// The pixels of a sample of `info`, still in the decoder's memory.
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
        // Each frame says it for itself.
        gst_video::VideoInterlaceMode::Mixed => {
            buffer.flags().bits() & gst_video::VideoBufferFlags::INTERLACED.bits() != 0
        }
        _ => false,
    };
    let par = info.par();
    let view =
        View { pixel_aspect: f64::from(par.numer()) / f64::from(par.denom().max(1)), interlaced, rotation };
    let (width, height) = (info.width() as usize, info.height() as usize);
    let colorimetry = colorimetry(info);
    let frame = VideoFrame::from_buffer_readable(buffer, info).ok()?;
    Some(Image { format, width, height, colorimetry, view, planes: Box::new(MappedPlanes(frame)) })
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
    fn sizes_that_no_camera_has_are_refused_by_name() {
        gst::init().unwrap();
        let caps = |width: i32, height: i32| {
            gst::Caps::builder("video/x-raw")
                .field("format", "I420")
                .field("width", width)
                .field("height", height)
                .build()
        };
        assert!(usable(&caps(3840, 2160)).is_ok() && usable(&caps(7680, 4320)).is_ok());
        assert_eq!(usable(&caps(16384, 16384)).unwrap_err(), "video of 16384 x 16384 pixels");
        assert!(usable(&caps(0, 480)).is_err());
    }
}
