//! The encoded frames that are held back while only keyframes are decoded.
//!
//! Starts with the last keyframe that was checked and found unchanged, so that what follows can be decoded at
//! any time. Holds about two groups of pictures (GOPs), because a keyframe's check may finish late.

use super::{DecoderInput, EncodedFrame, Purpose};
use std::time::Duration;

/// Eight seconds of a stream of 8 Mbit/s. A stream that needs more is decoded in full.
const MAX_BYTES: usize = 8 << 20;

/// Encoded frames in stream order.
#[derive(Debug)]
pub(super) struct GopBuffer<B> {
    frames: Vec<BufferedFrame<B>>,
}

#[derive(Debug)]
struct BufferedFrame<B> {
    buffer: B,
    at: Duration,
    len: usize,
    is_key: bool,
    /// The frame's image has been processed already.
    processed: bool,
}

impl<B> GopBuffer<B> {
    /// Creates an empty buffer.
    pub(super) fn new() -> GopBuffer<B> {
        GopBuffer { frames: Vec::new() }
    }

    /// Appends a frame. `processed`: it is decoded right away as well, and must not be counted or processed
    /// again.
    pub(super) fn push(&mut self, frame: EncodedFrame<B>, processed: bool) {
        let EncodedFrame { buffer, is_key, len, at, .. } = frame;
        self.frames.push(BufferedFrame { buffer, at, len, is_key, processed });
    }

    /// Stream time from the first buffered frame to `at`.
    pub(super) fn span_to(&self, at: Duration) -> Duration {
        self.frames.first().map_or(Duration::ZERO, |first| at.saturating_sub(first.at))
    }

    /// Whether the buffer holds more than its byte limit.
    pub(super) fn is_over_limit(&self) -> bool {
        self.frames.iter().map(|frame| frame.len).sum::<usize>() > MAX_BYTES
    }

    /// Position of the unprocessed keyframe of stream time `at`. None if it has left the buffer.
    pub(super) fn unprocessed_keyframe(&self, at: Duration) -> Option<usize> {
        self.frames.iter().position(|frame| frame.is_key && !frame.processed && frame.at == at)
    }

    /// Marks the keyframe at `position` as processed and drops the frames before it. Returns how many of
    /// those were never processed.
    pub(super) fn restart_at(&mut self, position: usize) -> u64 {
        self.frames[position].processed = true;
        self.frames.drain(..position).filter(|frame| !frame.processed).count() as u64
    }

    /// Moves all frames to the end of `out`, for decoding.
    pub(super) fn drain_into(&mut self, out: &mut Vec<DecoderInput<B>>) {
        // The decoder can go on from the first keyframe if that is the last one it has decoded.
        let decoded_later_keyframe = self.frames.iter().skip(1).any(|frame| frame.is_key);
        for (index, frame) in self.frames.drain(..).enumerate() {
            if frame.processed && index == 0 && !decoded_later_keyframe {
                continue;
            }
            let purpose = if frame.processed { Purpose::DecodeOnly } else { Purpose::Process };
            out.push(DecoderInput { buffer: frame.buffer, at: frame.at, purpose });
        }
    }

    /// Drops all frames. Returns how many of them were never processed.
    pub(super) fn clear(&mut self) -> u64 {
        self.frames.drain(..).filter(|frame| !frame.processed).count() as u64
    }
}
