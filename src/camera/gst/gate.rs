//! The element `gate`, before the decoder: where encoded frames are counted, kept back or left out.
//!
//! A probe takes every frame off the element's input and puts what [`Gate`] gives out into its output, on GStreamer's own
//! thread. JPEG is thinned here to the camera's rate, as each of its frames is decodable by itself.
//!
//! Each frame is marked with its role and its own time, and decoders hand marks on: what is decoded late would otherwise
//! get the time of the latest before it, for a decoder's times never go back.
//!
//! Handled and not dropped frames: `Drop` makes GLib complain about each one before 1.24.8.

use super::super::{
    decode::{Arrival, Gate, LeftOut, Limits, Out, Role},
    pace::RateLimit,
};
use crate::{
    config::Camera, control::CameraControl, counters::CameraCounters, queue::frames::Slot, sync::lock,
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

/// Nothing must have changed for so long before only keyframes are decoded.
const STILL_AFTER: Duration = Duration::from_secs(5);
/// Later than this and decoding does not keep pace. The jitter of a network is far below.
const LONGEST_LAG: Duration = Duration::from_secs(1);
/// While the ring is decoded, how long its frames wait for workers, each at most and in all.
const ROOM: Duration = Duration::from_millis(300);
const ROOM_IN_ALL: Duration = Duration::from_millis(1500);

/// A frame's mark by its role, as the reference of a time stamp.
static MARKS: LazyLock<[(Role, gst::Caps); 3]> = LazyLock::new(|| {
    let mark = |role, name: &str| (role, gst::Caps::new_empty_simple(format!("timestamp/x-camfire-{name}")));
    [mark(Role::Picture, "picture"), mark(Role::Glance, "glance"), mark(Role::Again, "again")]
});

/// What the gate and the sink have to tell each other, and whoever watches them.
pub(super) struct GateState {
    gate: Mutex<Gate<gst::Buffer>>,
    /// Frames that came to the gate.
    pub(super) arrived: AtomicU64,
    /// Frames that the gate gave to the decoder since it has had a keyframe; before that, no picture is no wonder.
    pub(super) given: AtomicU64,
    /// The decoder has had a keyframe.
    keyed: AtomicBool,
    /// Pictures that came out of the decoder.
    pub(super) pictures: AtomicU64,
    /// Those of them that were for a glance.
    pub(super) glances: AtomicU64,
    /// What is counted beyond this attempt.
    pub(super) counters: Arc<CameraCounters>,
    slot: Arc<Slot>,
}

impl GateState {
    pub(super) fn new(camera: &Camera, slot: Arc<Slot>, counters: Arc<CameraCounters>) -> GateState {
        let limits = Limits {
            longest_interval: camera.keyframe_limit,
            still_after: STILL_AFTER,
            longest_lag: LONGEST_LAG,
        };
        GateState {
            gate: Mutex::new(Gate::new(camera.decode, limits)),
            arrived: AtomicU64::new(0),
            given: AtomicU64::new(0),
            keyed: AtomicBool::new(false),
            pictures: AtomicU64::new(0),
            glances: AtomicU64::new(0),
            counters,
            slot,
        }
    }

    /// The decoder does not hand marks on: nothing can be kept back and caught up with it.
    pub(super) fn decode_all(&self) {
        let left_out = lock(&self.gate).decode_all();
        self.count(left_out);
    }

    /// The sink's judgement of the picture at `at`.
    pub(super) fn judge(&self, at: Duration, changed: bool) {
        lock(&self.gate).judge(at, changed);
    }

    /// The same for a glance; true if its picture is to be taken.
    pub(super) fn judge_glance(&self, at: Duration, changed: bool) -> bool {
        let (taken, left_out) = lock(&self.gate).judge_glance(at, changed);
        self.count(left_out);
        taken
    }

    /// Only keyframes are being decoded because the scene is still.
    pub(super) fn is_resting(&self) -> bool {
        lock(&self.gate).is_resting()
    }

    /// What still lies in the ring will not be decoded.
    pub(super) fn close(&self) {
        let left_out = lock(&self.gate).close();
        self.count(left_out);
    }

    fn count(&self, left_out: LeftOut) {
        if left_out != LeftOut::default() {
            self.slot.count_undecoded(left_out.still, left_out.unwanted, left_out.shed);
        }
    }

    /// Takes one frame and hands on what is to be decoded.
    fn arrive(
        &self,
        src: &gst::Pad,
        frame: Arrival<gst::Buffer>,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        self.arrived.fetch_add(1, Ordering::Relaxed);
        let mut out = Vec::new();
        let is_key = frame.is_key;
        let left_out = lock(&self.gate).arrive(frame, &mut out);
        if is_key && !out.is_empty() {
            self.keyed.store(true, Ordering::Relaxed);
        }
        self.count(left_out);
        self.push(src, out)?;
        // A decoder on this thread has judged its picture by now.
        let mut more = Vec::new();
        lock(&self.gate).catch_up(&mut more);
        self.push(src, more)
    }

    /// Hands frames to the decoder, never with the gate locked: the sink judges on this very thread.
    fn push(&self, src: &gst::Pad, out: Vec<Out<gst::Buffer>>) -> Result<gst::FlowSuccess, gst::FlowError> {
        let catching_up = out.len() > 1;
        let mut patience = ROOM_IN_ALL;
        for Out { mut buffer, role, at } in out {
            self.given.fetch_add(u64::from(self.keyed.load(Ordering::Relaxed)), Ordering::Relaxed);
            mark(&mut buffer, role, at);
            if catching_up && !patience.is_zero() && !self.slot.wait_until_vacant(ROOM.min(patience)) {
                // These come as fast as they can be decoded; workers take a moment for each that is due.
                patience = patience.saturating_sub(ROOM);
            }
            let glances = self.glances.load(Ordering::Relaxed);
            src.push(buffer)?;
            let came_at_once = self.glances.load(Ordering::Relaxed) != glances;
            if role == Role::Glance && !came_at_once && drains_cheaply(src) {
                // The decoder waits for frames that might have to be shown before this one. There will be none.
                src.push_event(gst_video::StillFrameEvent::builder(true).build());
            }
        }
        Ok(gst::FlowSuccess::Ok)
    }
}

/// Marks a frame with its role and its time in the stream.
fn mark(buffer: &mut gst::Buffer, role: Role, at: Duration) {
    let at = gst::ClockTime::from_nseconds(at.as_nanos() as u64);
    if let Some((_, reference)) = MARKS.iter().find(|(other, _)| *other == role) {
        gst::ReferenceTimestampMeta::add(buffer.make_mut(), reference, at, gst::ClockTime::NONE);
    }
}

/// The role and the time that a picture's frame was marked with.
pub(super) fn mark_of(buffer: &gst::BufferRef) -> Option<(Role, gst::ClockTime)> {
    buffer.iter_meta::<gst::ReferenceTimestampMeta>().find_map(|meta| {
        let (role, _) = MARKS.iter().find(|(_, reference)| meta.reference() == reference.as_ref())?;
        Some((*role, meta.timestamp()))
    })
}

/// A decoder in software is emptied in no time; a board's would have to be set up again.
fn drains_cheaply(src: &gst::Pad) -> bool {
    let is_libav = |element: &gst::Element| {
        element.factory().is_some_and(|factory| factory.name().starts_with("avdec_"))
    };
    let Some(decoder) = src.peer().and_then(|peer| peer.parent_element()) else { return false };
    match decoder.downcast_ref::<gst::Bin>() {
        // decodebin has chosen one by itself.
        Some(bin) => bin.iterate_recurse().into_iter().flatten().any(|element| is_libav(&element)),
        None => is_libav(&decoder),
    }
}

/// Puts the probe into `pipeline`, if it has a gate. `live`: frames come at the pace of the clock.
pub(super) fn install(
    pipeline: &gst::Pipeline,
    state: &Arc<GateState>,
    control: Arc<CameraControl>,
    live: bool,
) -> bool {
    let pads =
        pipeline.by_name("gate").and_then(|gate| Some((gate.static_pad("sink")?, gate.static_pad("src")?)));
    let Some((sink, src)) = pads else { return false };
    let element = pipeline.downgrade();
    let state = state.clone();
    let mut rate = RateLimit::new(control.settings().rate_fps);
    let mut control_seen = 0;
    let mut last_at = Duration::ZERO;
    let mut seen = move |pad: &gst::Pad, buffer: gst::Buffer| {
        let running = running_time(pad, buffer.pts().or(buffer.dts()));
        let at = running.map_or(last_at, Duration::from);
        last_at = at;
        let end = at + buffer.duration().map_or(Duration::ZERO, Duration::from);
        state.counters.reached_ns.fetch_max(end.as_nanos() as u64, Ordering::Relaxed);
        if is_jpeg(pad) {
            state.arrived.fetch_add(1, Ordering::Relaxed);
            if let Some(settings) = control.changed_since(&mut control_seen) {
                rate.set_fps(settings.rate_fps);
            }
            if running.is_some() && !rate.is_due(at) {
                state.slot.count_undecoded(0, 1, 0);
                return Ok(gst::FlowSuccess::Ok);
            }
            state.given.fetch_add(1, Ordering::Relaxed);
            return src.push(buffer);
        }
        let now = element.upgrade().filter(|_| live).and_then(|pipeline| pipeline.current_running_time());
        let lag = now.zip(running).map_or(Duration::ZERO, |(now, at)| now.saturating_sub(at).into());
        let is_key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        state.arrive(&src, Arrival { is_key, len: buffer.size(), at, lag, buffer })
    };
    let seen = Mutex::new(move |pad: &gst::Pad, buffer| seen(pad, buffer));
    sink.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let Some(gst::PadProbeData::Buffer(buffer)) = info.data.take() else {
            return gst::PadProbeReturn::Ok;
        };
        info.flow_res = (lock(&seen))(pad, buffer);
        gst::PadProbeReturn::Handled
    });
    true
}

/// Time since the pipeline started playing, by a frame's own time stamp.
fn running_time(pad: &gst::Pad, pts: Option<gst::ClockTime>) -> Option<gst::ClockTime> {
    let segment = pad.sticky_event::<gst::event::Segment>(0)?;
    segment.segment().downcast_ref::<gst::ClockTime>()?.to_running_time(pts?)
}

fn is_jpeg(pad: &gst::Pad) -> bool {
    pad.current_caps().is_some_and(|caps| caps.structure(0).is_some_and(|s| s.name() == "image/jpeg"))
}
