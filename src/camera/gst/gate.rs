//! The element `gate` before the decoder, where encoded frames are counted, buffered or dropped.
//!
//! A pad probe takes every frame from the element's sink pad, passes it to [`Gate`] and pushes its output
//! from the element's src pad, on GStreamer's own thread. JPEG frames are reduced to the camera's rate here,
//! because each of them can be decoded on its own.
//!
//! Each frame carries its purpose and its own time as metadata, which decoders pass on. Without it, a
//! buffered frame would get the time of a later one, because a decoder's output times never decrease.
//!
//! The probe returns `Handled` and not `Drop`, which makes GLib log an error for each frame before 1.24.8.

use super::super::{
    decode::{DecoderInput, EncodedFrame, Gate, Limits, Purpose, UndecodedCounts},
    pace::RateLimit,
    timing::Timeline,
};
use crate::{
    clock::Clock, config::Camera, control::CameraControl, counters::CameraCounters, queue::frames::Slot,
    sync::lock, vision::jpeg,
};
use gstreamer::{self as gst, prelude::*};
use gstreamer_video as gst_video;
use std::{
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

/// How long the scene must have been still before only keyframes are decoded.
const STILL_AFTER: Duration = Duration::from_secs(5);
/// Lag above which decoding has fallen behind. Network jitter is far below.
const MAX_LAG: Duration = Duration::from_secs(1);
/// Maximum number of pixels of a frame: a little more than 8K. What decodes and converts a frame takes
/// several times its size, so the decoder must not see more.
const MAX_FRAME_PIXELS: u64 = 40_000_000;
/// While buffered frames are decoded, how long each waits for a vacant slot.
const MAX_WAIT: Duration = Duration::from_millis(300);
/// The same for all frames of a buffer together.
const MAX_TOTAL_WAIT: Duration = Duration::from_millis(1500);

/// For each purpose, the reference caps of the timestamp metadata that a frame carries.
static PURPOSE_CAPS: LazyLock<[(Purpose, gst::Caps); 3]> = LazyLock::new(|| {
    let reference =
        |purpose, name: &str| (purpose, gst::Caps::new_empty_simple(format!("timestamp/x-camfire-{name}")));
    [
        reference(Purpose::Process, "process"),
        reference(Purpose::Check, "check"),
        reference(Purpose::DecodeOnly, "decode-only"),
    ]
});

/// State shared by the gate, the sample sink and the attempt's loop.
pub(super) struct GateState {
    gate: Mutex<Gate<gst::Buffer>>,
    /// Frames that have reached the gate.
    pub(super) received: AtomicU64,
    /// The longest interval between two of them since it was last taken, by the stream's own times.
    longest_interval_ns: AtomicU64,
    /// Frames sent to the decoder since its first keyframe. Before that, no output is expected.
    pub(super) sent: AtomicU64,
    /// A keyframe has been sent to the decoder.
    has_keyframe: AtomicBool,
    /// Frames that the decoder has output.
    pub(super) decoded: AtomicU64,
    /// Those of them that were decoded for [`Purpose::Check`].
    pub(super) checked: AtomicU64,
    /// The stream's times are given up, and arrival times used.
    pub(super) ignores_stream_time: AtomicBool,
    /// The camera's counters, across all attempts.
    pub(super) counters: Arc<CameraCounters>,
    slot: Arc<Slot>,
}

impl GateState {
    /// Creates the state for one attempt.
    pub(super) fn new(camera: &Camera, slot: Arc<Slot>, counters: Arc<CameraCounters>) -> GateState {
        let limits = Limits {
            max_keyframe_interval: camera.keyframe_limit,
            still_after: STILL_AFTER,
            max_lag: MAX_LAG,
        };
        GateState {
            gate: Mutex::new(Gate::new(camera.decode, limits)),
            received: AtomicU64::new(0),
            longest_interval_ns: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            has_keyframe: AtomicBool::new(false),
            decoded: AtomicU64::new(0),
            checked: AtomicU64::new(0),
            ignores_stream_time: AtomicBool::new(false),
            counters,
            slot,
        }
    }

    /// Decodes everything from now on, because the decoder does not pass on the metadata that adaptive
    /// decoding needs.
    pub(super) fn decode_all(&self) {
        let undecoded = lock(&self.gate).decode_all();
        self.count(undecoded);
    }

    /// Takes the longest interval between two frames since the last call.
    pub(super) fn take_longest_interval(&self) -> Duration {
        Duration::from_nanos(self.longest_interval_ns.swap(0, Ordering::Relaxed))
    }

    /// See [`Gate::report_processed`].
    pub(super) fn report_processed(&self, at: Duration, changed: bool) {
        lock(&self.gate).report_processed(at, changed);
    }

    /// See [`Gate::report_checked`].
    pub(super) fn report_checked(&self, at: Duration, changed: bool) -> bool {
        let (process_now, undecoded) = lock(&self.gate).report_checked(at, changed);
        self.count(undecoded);
        process_now
    }

    /// Whether only keyframes are decoded because the scene is still.
    pub(super) fn is_keyframes_only(&self) -> bool {
        lock(&self.gate).is_keyframes_only()
    }

    /// Counts the frames that are still buffered as not decoded.
    pub(super) fn close(&self) {
        let undecoded = lock(&self.gate).close();
        self.count(undecoded);
    }

    fn count(&self, undecoded: UndecodedCounts) {
        if undecoded != UndecodedCounts::default() {
            self.slot.count_undecoded(undecoded.still, undecoded.unwanted, undecoded.shed);
        }
    }

    /// Accepts a frame and pushes what must be decoded now.
    fn accept(
        &self,
        src: &gst::Pad,
        frame: EncodedFrame<gst::Buffer>,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        self.received.fetch_add(1, Ordering::Relaxed);
        let mut out = Vec::new();
        let is_key = frame.is_key;
        let undecoded = lock(&self.gate).accept(frame, &mut out);
        if is_key && !out.is_empty() {
            self.has_keyframe.store(true, Ordering::Relaxed);
        }
        self.count(undecoded);
        self.push(src, out)?;
        // If the decoder runs on this thread, its output has been checked for change by now.
        let mut more = Vec::new();
        lock(&self.gate).catch_up(&mut more);
        self.push(src, more)
    }

    /// Pushes frames to the decoder. The gate must not be locked, because the sample sink may run on this
    /// very thread.
    fn push(
        &self,
        src: &gst::Pad,
        out: Vec<DecoderInput<gst::Buffer>>,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let is_catching_up = out.len() > 1;
        let mut wait_left = MAX_TOTAL_WAIT;
        for DecoderInput { mut buffer, purpose, at } in out {
            self.sent.fetch_add(u64::from(self.has_keyframe.load(Ordering::Relaxed)), Ordering::Relaxed);
            set_purpose(&mut buffer, purpose, at);
            if is_catching_up && !wait_left.is_zero() && !self.slot.wait_until_vacant(MAX_WAIT.min(wait_left))
            {
                // Buffered frames follow as fast as they can be decoded, faster than workers process them.
                wait_left = wait_left.saturating_sub(MAX_WAIT);
            }
            let checked_before = self.checked.load(Ordering::Relaxed);
            src.push(buffer)?;
            let was_output = self.checked.load(Ordering::Relaxed) != checked_before;
            if purpose == Purpose::Check && !was_output && drains_cheaply(src) {
                // The decoder waits for frames that might precede this one in display order. There are none.
                src.push_event(gst_video::StillFrameEvent::builder(true).build());
            }
        }
        Ok(gst::FlowSuccess::Ok)
    }
}

/// Attaches a frame's purpose and stream time as metadata.
fn set_purpose(buffer: &mut gst::Buffer, purpose: Purpose, at: Duration) {
    let at = gst::ClockTime::from_nseconds(at.as_nanos() as u64);
    if let Some((_, reference)) = PURPOSE_CAPS.iter().find(|(other, _)| *other == purpose) {
        gst::ReferenceTimestampMeta::add(buffer.make_mut(), reference, at, gst::ClockTime::NONE);
    }
}

/// The purpose and stream time attached to a decoded frame. Returns None if the decoder has not passed them
/// on.
pub(super) fn purpose_of(buffer: &gst::BufferRef) -> Option<(Purpose, gst::ClockTime)> {
    buffer.iter_meta::<gst::ReferenceTimestampMeta>().find_map(|meta| {
        let (purpose, _) =
            PURPOSE_CAPS.iter().find(|(_, reference)| meta.reference() == reference.as_ref())?;
        Some((*purpose, meta.timestamp()))
    })
}

/// Whether the decoder can be drained at little cost, as libav's can. A hardware decoder would have to be set
/// up again.
fn drains_cheaply(src: &gst::Pad) -> bool {
    let is_libav = |element: &gst::Element| {
        element.factory().is_some_and(|factory| factory.name().starts_with("avdec_"))
    };
    let Some(decoder) = src.peer().and_then(|peer| peer.parent_element()) else { return false };
    match decoder.downcast_ref::<gst::Bin>() {
        // decodebin, which has selected a decoder itself.
        Some(bin) => bin.iterate_recurse().into_iter().flatten().any(|element| is_libav(&element)),
        None => is_libav(&decoder),
    }
}

/// Installs the probe on the pipeline's gate. Returns false if it has none. `live`: frames arrive in real
/// time, so that their lag can be measured. `arrivals`: the clock of a network stream's arrivals; its frames
/// get their times from a [`Timeline`].
pub(super) fn install(
    pipeline: &gst::Pipeline,
    state: &Arc<GateState>,
    control: Arc<CameraControl>,
    live: bool,
    arrivals: Option<Arc<dyn Clock>>,
) -> bool {
    let pads =
        pipeline.by_name("gate").and_then(|gate| Some((gate.static_pad("sink")?, gate.static_pad("src")?)));
    let Some((sink, src)) = pads else { return false };
    let element = pipeline.downgrade();
    let state = state.clone();
    let mut rate = RateLimit::new(control.settings().rate_fps);
    let mut control_seen = 0;
    let mut last_at = Duration::ZERO;
    let mut last_arrival = None::<gst::ClockTime>;
    let mut timeline = Timeline::default();
    let mut accept = move |pad: &gst::Pad, buffer: gst::Buffer| {
        if let Some((width, height)) = announced_size(pad, &buffer)
            && u64::from(width) * u64::from(height) > MAX_FRAME_PIXELS
        {
            if let Some(gate) = pad.parent_element() {
                let text = format!(
                    "its frames have {width} x {height} pixels, and at most {MAX_FRAME_PIXELS} are decoded"
                );
                gst::element_error!(gate, gst::StreamError::Format, ("{text}"));
            }
            return Err(gst::FlowError::Error);
        }
        let running = running_time(pad, buffer.pts().or(buffer.dts()));
        let arrival = arrivals.as_ref().map(|clock| clock.monotonic());
        let at = match arrival {
            Some(arrival) => timeline.place(running.map(Duration::from), arrival),
            None => running.map_or(last_at, Duration::from),
        };
        if timeline.ignores_stream() {
            state.ignores_stream_time.store(true, Ordering::Relaxed);
        }
        let now = element.upgrade().and_then(|pipeline| pipeline.current_running_time());
        if let Some((now, before)) = now.map(|now| (now, last_arrival.replace(now).unwrap_or(now))) {
            // A stream whose times jump, and a network that pauses, are not slow.
            let interval = at.saturating_sub(last_at).min(now.saturating_sub(before).into());
            state.longest_interval_ns.fetch_max(interval.as_nanos() as u64, Ordering::Relaxed);
        }
        last_at = at;
        let end = at + buffer.duration().map_or(Duration::ZERO, Duration::from);
        state.counters.reached_ns.fetch_max(end.as_nanos() as u64, Ordering::Relaxed);
        if is_jpeg(pad) {
            state.received.fetch_add(1, Ordering::Relaxed);
            if let Some(settings) = control.changed_since(&mut control_seen) {
                rate.set_fps(settings.rate_fps);
            }
            if (running.is_some() || arrival.is_some()) && !rate.is_due(at) {
                state.slot.count_undecoded(0, 1, 0);
                return Ok(gst::FlowSuccess::Ok);
            }
            state.sent.fetch_add(1, Ordering::Relaxed);
            return src.push(buffer);
        }
        let lag = match arrival {
            Some(arrival) => arrival.saturating_sub(at),
            None => now
                .filter(|_| live)
                .zip(running)
                .map_or(Duration::ZERO, |(now, at)| now.saturating_sub(at).into()),
        };
        let is_key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        state.accept(&src, EncodedFrame { is_key, len: buffer.size(), at, lag, buffer })
    };
    let accept = Mutex::new(move |pad: &gst::Pad, buffer| accept(pad, buffer));
    sink.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let Some(gst::PadProbeData::Buffer(buffer)) = info.data.take() else {
            return gst::PadProbeReturn::Ok;
        };
        info.flow_res = (lock(&accept))(pad, buffer);
        gst::PadProbeReturn::Handled
    });
    true
}

/// Running time of a frame's timestamp: the time since the pipeline started to play.
fn running_time(pad: &gst::Pad, pts: Option<gst::ClockTime>) -> Option<gst::ClockTime> {
    let segment = pad.sticky_event::<gst::event::Segment>(0)?;
    segment.segment().downcast_ref::<gst::ClockTime>()?.to_running_time(pts?)
}

/// Width and height of a frame, as far as they are known before it is decoded.
fn announced_size(pad: &gst::Pad, buffer: &gst::BufferRef) -> Option<(u32, u32)> {
    let caps = pad.current_caps()?;
    let stream = caps.structure(0)?;
    let of_caps = || {
        let side = |name: &str| u32::try_from(stream.get::<i32>(name).ok()?).ok();
        Some((side("width")?, side("height")?))
    };
    // Each image has a size of its own.
    if stream.name() == "image/jpeg" {
        let map = buffer.map_readable().ok()?;
        let header = jpeg::frame_header(&map);
        return header.map(|header| (header.width.into(), header.height.into())).or_else(of_caps);
    }
    of_caps()
}

fn is_jpeg(pad: &gst::Pad) -> bool {
    pad.current_caps().is_some_and(|caps| caps.structure(0).is_some_and(|s| s.name() == "image/jpeg"))
}
