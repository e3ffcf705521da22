//! How much of a stream may be between the relay and the decoder.
//!
//! GStreamer's jitter buffer holds whatever arrives until it can be decoded, and a depayloader holds a frame
//! until it is complete. A camera that sends faster than the board decodes, or a frame that never ends, would
//! fill the memory. So the relay stops reading while too much is waiting, and ends the session when too much
//! has arrived without a whole frame.

use crate::{camera::Failure, sync::lock};
use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};

/// Maximum number of bytes that wait for the decoder.
const MAX_WAITING: u64 = 16 << 20;
/// The same in packets. Below half of the sequence numbers, which are counted in 16 bits.
const MAX_WAITING_PACKETS: u64 = 16_384;
/// Maximum number of bytes without a whole frame.
pub const MAX_FRAME: u64 = 32 << 20;
/// Packets between two marks.
const MARK_EVERY: u64 = 64;
/// Stands for a sequence number that is not known yet.
const NONE: u32 = u32::MAX;

/// What a session and its pipeline tell each other.
#[derive(Debug)]
pub struct Flow {
    /// The sequence number of the last packet that has left the jitter buffer.
    last_out: AtomicU32,
    /// Whole frames that have reached the pipeline's gate.
    frames: AtomicU64,
    /// TCP is used after all, because no packet has arrived over UDP.
    pub(super) uses_tcp: AtomicBool,
    /// Why the session has ended.
    pub(super) failure: Mutex<Option<Failure>>,
}

impl Default for Flow {
    fn default() -> Flow {
        let last_out = AtomicU32::new(NONE);
        Flow {
            last_out,
            frames: AtomicU64::default(),
            uses_tcp: AtomicBool::default(),
            failure: Mutex::default(),
        }
    }
}

impl Flow {
    /// Records that the packet with this sequence number has left the jitter buffer.
    pub fn packet_out(&self, sequence: u16) {
        self.last_out.store(sequence.into(), Ordering::Relaxed);
    }

    /// Records how many whole frames have reached the gate.
    pub fn set_frames(&self, frames: u64) {
        self.frames.store(frames, Ordering::Relaxed);
    }

    /// Records why the session has ended. The first reason counts.
    pub(super) fn fail(&self, failure: Failure) {
        lock(&self.failure).get_or_insert(failure);
    }
}

/// Counts what the relay has passed on. Its own, unlike [`Flow`].
#[derive(Debug, Default)]
pub struct Passed {
    bytes: u64,
    packets: u64,
    /// Positions in the stream: sequence number, bytes and packets up to it.
    marks: VecDeque<(u16, u64, u64)>,
    /// Bytes and packets that have left the jitter buffer for certain.
    out: (u64, u64),
    /// The number of whole frames when it changed last, and the bytes then.
    frames: (u64, u64),
}

impl Passed {
    /// Counts a packet.
    pub fn add(&mut self, sequence: u16, bytes: usize) {
        self.bytes += bytes as u64;
        self.packets += 1;
        if self.packets.is_multiple_of(MARK_EVERY) {
            self.marks.push_back((sequence, self.bytes, self.packets));
        }
    }

    /// Whether too much is waiting for the decoder to pass on more.
    pub fn is_full(&mut self, flow: &Flow) -> bool {
        if let Ok(last) = u16::try_from(flow.last_out.load(Ordering::Relaxed)) {
            // The latest mark that the packet has passed. A camera may start its numbers anew, so it is not
            // the last one before the first that it has not passed.
            let is_past = |&(sequence, ..): &(u16, u64, u64)| last.wrapping_sub(sequence) < (1 << 15);
            if let Some(at) = self.marks.iter().rposition(is_past) {
                let (_, bytes, packets) = self.marks[at];
                self.marks.drain(..=at);
                self.out = (bytes, packets);
            }
        }
        self.bytes - self.out.0 > MAX_WAITING || self.packets - self.out.1 > MAX_WAITING_PACKETS
    }

    /// Whether more than [`MAX_FRAME`] bytes have been passed on without a whole frame.
    pub fn is_frame_too_large(&mut self, flow: &Flow) -> bool {
        let frames = flow.frames.load(Ordering::Relaxed);
        if frames != self.frames.0 {
            self.frames = (frames, self.bytes);
        }
        self.bytes - self.frames.1 > MAX_FRAME
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_relay_stops_while_too_much_is_waiting() {
        let flow = Flow::default();
        let mut passed = Passed::default();
        let mut sequence = 65_000u16;
        let mut add = |passed: &mut Passed, packets: u64, bytes: usize| {
            for _ in 0..packets {
                sequence = sequence.wrapping_add(1);
                passed.add(sequence, bytes);
            }
            sequence
        };
        add(&mut passed, 10_000, 1_400);
        assert!(!passed.is_full(&flow));
        let last = add(&mut passed, 2_500, 1_400);
        assert!(passed.is_full(&flow), "17.5 MB");
        flow.packet_out(last.wrapping_sub(2_000));
        assert!(!passed.is_full(&flow));
        add(&mut passed, 15_000, 100);
        assert!(passed.is_full(&flow), "17,000 packets");
        flow.packet_out(last);
        assert!(!passed.is_full(&flow));
        assert!(passed.marks.len() < 300, "{}", passed.marks.len());
    }

    #[test]
    fn a_frame_that_never_ends_is_found() {
        let flow = Flow::default();
        let mut passed = Passed::default();
        for sequence in 0..20_000u16 {
            passed.add(sequence, 1_500);
            flow.set_frames(u64::from(sequence) / 10);
            assert!(!passed.is_frame_too_large(&flow));
        }
        let more = (0..=MAX_FRAME / 1_500 + 10).position(|_| {
            passed.add(0, 1_500);
            passed.is_frame_too_large(&flow)
        });
        assert!(more.is_some_and(|packets| packets as u64 >= MAX_FRAME / 1_500 - 10), "{more:?}");
    }
}
