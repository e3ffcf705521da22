//! Decides which of a camera's encoded frames are decoded: `decode = "auto" | "all" | "keyframes"`. Pure.
//!
//! Decoding is the largest part of a camera's cost. While a scene is still, `auto` decodes only keyframes and
//! holds the frames between them, encoded, in a [`GopBuffer`]. When a keyframe shows change, the buffered
//! frames are decoded too, each with its own time, and everything is decoded until the scene has been still
//! for a while. If decoding cannot keep up, the rest of a group of pictures (GOP) is *shed*, never a frame in
//! the middle, because the frames after a missing one would be decoded with artifacts.
//!
//! Invariant: each frame given to [`Gate::accept`] has been output as [`Purpose::Process`] or
//! [`Purpose::Check`], is counted in an [`UndecodedCounts`], or is in the buffer.

mod frame_sizes;
mod gop_buffer;
mod lag;
#[cfg(test)]
mod tests;

use crate::config::Decode;
use frame_sizes::FrameSizeDetector;
use gop_buffer::GopBuffer;
use lag::LagMonitor;
use std::time::Duration;

/// The gate's time limits.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The largest keyframe interval at which decoding keyframes alone is enough to notice change.
    pub max_keyframe_interval: Duration,
    /// How long the scene must have been still before only keyframes are decoded.
    pub still_after: Duration,
    /// Decoding has fallen behind when a frame's lag exceeds the least lag of the last half minute by more
    /// than this.
    pub max_lag: Duration,
}

/// A stream without a keyframe for this long is assumed to have none, as with gradual refresh, and is decoded
/// without waiting for one. Longer than the GOPs of cameras that are configured to save bits.
const KEYFRAME_TIMEOUT: Duration = Duration::from_secs(20);
/// Cameras do not keep their keyframe interval exactly.
const INTERVAL_TOLERANCE: f64 = 1.1;

/// An encoded frame that has reached the gate.
#[derive(Debug)]
pub struct EncodedFrame<B> {
    /// The encoded data.
    pub buffer: B,
    /// The frame is a keyframe: it can be decoded on its own.
    pub is_key: bool,
    /// Size in bytes.
    pub len: usize,
    /// Stream time.
    pub at: Duration,
    /// How much later than its stream time the frame reached the gate.
    pub lag: Duration,
}

/// What a frame is decoded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To be processed, in stream order.
    Process,
    /// A keyframe that is only checked for change at first. If it shows change, it follows again as
    /// [`Purpose::Process`], after the frames before it.
    Check,
    /// To be discarded after decoding: it has been processed before, and the frames after it refer to it.
    DecodeOnly,
}

/// A frame for the decoder.
#[derive(Debug, PartialEq)]
pub struct DecoderInput<B> {
    /// The encoded data.
    pub buffer: B,
    /// Stream time.
    pub at: Duration,
    /// What the decoded image is used for.
    pub purpose: Purpose,
}

/// Counts of frames that will not be decoded, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UndecodedCounts {
    /// The scene is still.
    pub still: u64,
    /// Only keyframes are configured to be decoded.
    pub unwanted: u64,
    /// Decoding cannot keep up, or no keyframe has arrived yet.
    pub shed: u64,
}

/// The gate between a camera's stream and its decoder.
#[derive(Debug)]
pub struct Gate<B> {
    decode: Decode,
    limits: Limits,
    /// Frames are shed until a keyframe arrives in time.
    shedding: bool,
    /// Stream time at which the current shedding began.
    shedding_since: Option<Duration>,
    /// Only keyframes are decoded because the scene is still; all frames go into the buffer.
    keyframes_only: bool,
    /// The buffered frames must be decoded before the next frame.
    catch_up_pending: bool,
    /// In keyframes-only mode, the last unchanged keyframe and all frames since.
    buffer: GopBuffer<B>,
    lag: LagMonitor,
    last_keyframe_at: Option<Duration>,
    /// Between the last two keyframes.
    keyframe_interval: Option<Duration>,
    /// Stream time of the first of the latest unchanged images. None if the latest one showed change.
    still_since: Option<Duration>,
    sizes: FrameSizeDetector,
}

impl<B: Clone> Gate<B> {
    /// Creates the gate of a stream that is just beginning.
    pub fn new(decode: Decode, limits: Limits) -> Gate<B> {
        Gate {
            decode,
            limits,
            shedding: true,
            shedding_since: None,
            keyframes_only: false,
            catch_up_pending: false,
            buffer: GopBuffer::new(),
            lag: LagMonitor::new(),
            last_keyframe_at: None,
            keyframe_interval: None,
            still_since: None,
            sizes: FrameSizeDetector::default(),
        }
    }

    /// Accepts the next encoded frame and appends to `out` what must be decoded now, in order. Returns the
    /// counts of frames that will not be decoded.
    pub fn accept(&mut self, frame: EncodedFrame<B>, out: &mut Vec<DecoderInput<B>>) -> UndecodedCounts {
        let mut undecoded = UndecodedCounts::default();
        let late = self.lag.excess(frame.at, frame.lag) > self.limits.max_lag;
        self.catch_up(out);
        if frame.is_key {
            self.keyframe_interval = self.last_keyframe_at.map(|last| frame.at.saturating_sub(last));
            self.last_keyframe_at = Some(frame.at);
        }
        if late && !self.shedding {
            self.shedding = true;
            undecoded.still += self.discard_buffer();
        }
        if self.shedding {
            let since = *self.shedding_since.get_or_insert(frame.at);
            let has_no_keyframes = frame.at.saturating_sub(since) > KEYFRAME_TIMEOUT;
            if (frame.is_key || has_no_keyframes) && !late {
                (self.shedding, self.shedding_since) = (false, None);
            } else {
                undecoded.shed += 1;
                return undecoded;
            }
        }
        match self.decode {
            Decode::Keyframes if !frame.is_key && self.last_keyframe_at.is_some() => undecoded.unwanted += 1,
            Decode::All | Decode::Keyframes => out.push(for_processing(frame)),
            Decode::Auto if self.keyframes_only => self.accept_in_keyframes_only(frame, out),
            Decode::Auto => self.accept_in_full(frame, out),
        }
        undecoded
    }

    /// While everything is decoded: outputs the frame, and begins keyframes-only mode once the scene has been
    /// still.
    fn accept_in_full(&mut self, frame: EncodedFrame<B>, out: &mut Vec<DecoderInput<B>>) {
        let is_still = self
            .still_since
            .is_some_and(|since| frame.at.saturating_sub(since) >= self.limits.still_after && frame.is_key);
        if is_still && self.keyframes_are_frequent() {
            self.keyframes_only = true;
            self.buffer.push(EncodedFrame { buffer: frame.buffer.clone(), ..frame }, true);
        }
        if !frame.is_key {
            self.sizes.add(frame.len);
        }
        out.push(for_processing(frame));
    }

    /// While only keyframes are decoded: buffers the frame, outputs a keyframe for its check, and decodes the
    /// whole buffer as soon as there is a reason to.
    fn accept_in_keyframes_only(&mut self, frame: EncodedFrame<B>, out: &mut Vec<DecoderInput<B>>) {
        // A keyframe that does not arrive, or a decoder so slow that its checks come too late.
        let limit = self.keyframe_limit();
        let is_overdue = self.last_keyframe_at.is_none_or(|last| frame.at.saturating_sub(last) > limit);
        self.catch_up_pending |= is_overdue || self.buffer.span_to(frame.at) > 3 * limit;
        if frame.is_key {
            self.catch_up_pending |= !self.keyframes_are_frequent();
            if !self.catch_up_pending {
                let (buffer, at) = (frame.buffer.clone(), frame.at);
                out.push(DecoderInput { buffer, at, purpose: Purpose::Check });
            }
        } else {
            self.catch_up_pending |= self.sizes.is_motion(frame.len);
        }
        self.buffer.push(frame, false);
        self.catch_up_pending |= self.buffer.is_over_limit();
        self.catch_up(out);
    }

    /// Reports the change detector's result for the [`Purpose::Process`] image of stream time `at`.
    pub fn report_processed(&mut self, at: Duration, changed: bool) {
        self.sizes.learn(changed);
        if changed {
            self.still_since = None;
            self.catch_up_pending |= self.keyframes_only;
        } else {
            self.still_since.get_or_insert(at);
        }
    }

    /// Reports the change detector's result for the [`Purpose::Check`] image of stream time `at`. Returns
    /// whether the image must be processed now. If not, the frame follows again, because it shows change or
    /// because the buffer was drained while it was in the decoder.
    pub fn report_checked(&mut self, at: Duration, changed: bool) -> (bool, UndecodedCounts) {
        let Some(position) = self.buffer.unprocessed_keyframe(at) else {
            return (false, UndecodedCounts::default());
        };
        if changed {
            self.catch_up_pending = true;
            return (false, UndecodedCounts::default());
        }
        // As far as this keyframe can show, nothing has happened before it.
        let still = self.buffer.restart_at(position);
        (true, UndecodedCounts { still, ..UndecodedCounts::default() })
    }

    /// Appends to `out` what must be decoded although no frame has arrived: the buffered frames, once a
    /// keyframe has shown change. Everything is decoded from then on.
    pub fn catch_up(&mut self, out: &mut Vec<DecoderInput<B>>) {
        if self.catch_up_pending {
            (self.catch_up_pending, self.keyframes_only, self.still_since) = (false, false, None);
            self.buffer.drain_into(out);
        }
    }

    /// Whether only keyframes are decoded because the scene is still.
    pub fn is_keyframes_only(&self) -> bool {
        self.keyframes_only
    }

    /// Decodes everything from now on.
    pub fn decode_all(&mut self) -> UndecodedCounts {
        self.decode = Decode::All;
        UndecodedCounts { still: self.discard_buffer(), ..UndecodedCounts::default() }
    }

    /// Ends the stream: the frames that are still buffered will not be decoded.
    pub fn close(&mut self) -> UndecodedCounts {
        UndecodedCounts { still: self.discard_buffer(), ..UndecodedCounts::default() }
    }

    fn keyframes_are_frequent(&self) -> bool {
        self.keyframe_interval.is_some_and(|interval| interval <= self.keyframe_limit())
    }

    fn keyframe_limit(&self) -> Duration {
        self.limits.max_keyframe_interval.mul_f64(INTERVAL_TOLERANCE)
    }

    /// Leaves keyframes-only mode without decoding the buffer. Returns how many of its frames were never
    /// processed.
    fn discard_buffer(&mut self) -> u64 {
        (self.catch_up_pending, self.keyframes_only) = (false, false);
        self.buffer.clear()
    }
}

fn for_processing<B>(frame: EncodedFrame<B>) -> DecoderInput<B> {
    DecoderInput { buffer: frame.buffer, at: frame.at, purpose: Purpose::Process }
}
