use super::*;

const LIMITS: Limits = Limits {
    max_keyframe_interval: Duration::from_secs(2),
    still_after: Duration::from_secs(5),
    max_lag: Duration::from_secs(1),
};

/// A camera of 10 frames per second with a keyframe every `gop` frames. A buffer is the frame's number.
struct Camera {
    gate: Gate<u64>,
    gop: u64,
    next: u64,
    lag: Duration,
    len: usize,
    undecoded: UndecodedCounts,
    /// Everything sent to the decoder.
    decoded: Vec<(u64, Purpose)>,
    /// Frames that show motion.
    moving: std::ops::Range<u64>,
}

impl Camera {
    fn new(decode: Decode, gop: u64) -> Camera {
        Camera {
            gate: Gate::new(decode, LIMITS),
            gop,
            next: 0,
            lag: Duration::ZERO,
            len: 100,
            undecoded: UndecodedCounts::default(),
            decoded: Vec::new(),
            moving: 0..0,
        }
    }

    fn count(&mut self, undecoded: UndecodedCounts) {
        self.undecoded.still += undecoded.still;
        self.undecoded.unwanted += undecoded.unwanted;
        self.undecoded.shed += undecoded.shed;
    }

    /// Sends the frames before number `end` to a decoder without delay.
    fn send_until(&mut self, end: u64) {
        while self.next < end {
            let number = self.next;
            self.next += 1;
            let frame = EncodedFrame {
                buffer: number,
                is_key: number.is_multiple_of(self.gop),
                len: self.len,
                at: Duration::from_millis(100 * number),
                lag: self.lag,
            };
            let mut out = Vec::new();
            let undecoded = self.gate.accept(frame, &mut out);
            self.count(undecoded);
            self.decode(out);
        }
    }

    fn decode(&mut self, out: Vec<DecoderInput<u64>>) {
        for DecoderInput { buffer, at, purpose } in out {
            self.decoded.push((buffer, purpose));
            let changed = self.moving.contains(&buffer);
            match purpose {
                Purpose::DecodeOnly => {}
                Purpose::Process => self.gate.report_processed(at, changed),
                Purpose::Check => {
                    let (_, undecoded) = self.gate.report_checked(at, changed);
                    self.count(undecoded);
                }
            }
        }
        let mut more = Vec::new();
        self.gate.catch_up(&mut more);
        if !more.is_empty() {
            self.decode(more);
        }
    }

    /// The frames decoded since the last call.
    fn take_decoded(&mut self) -> Vec<(u64, Purpose)> {
        std::mem::take(&mut self.decoded)
    }

    /// Asserts that every frame was either processed or counted as undecoded.
    fn assert_counts_add_up(&mut self, decoded: &[(u64, Purpose)]) {
        let closed = self.gate.close();
        self.count(closed);
        let mut images: Vec<u64> = decoded
            .iter()
            .filter(|(_, purpose)| *purpose != Purpose::DecodeOnly)
            .map(|(number, _)| *number)
            .collect();
        images.sort();
        images.dedup();
        let undecoded = self.undecoded.still + self.undecoded.unwanted + self.undecoded.shed;
        assert_eq!(images.len() as u64 + undecoded, self.next, "{:?}", self.undecoded);
    }
}

use Purpose::{Check, DecodeOnly, Process};

#[test]
fn all_decodes_every_frame_and_keyframes_decodes_only_keyframes() {
    let mut camera = Camera::new(Decode::All, 10);
    camera.send_until(200);
    let decoded = camera.take_decoded();
    assert_eq!(decoded.len(), 200);
    camera.assert_counts_add_up(&decoded);

    let mut camera = Camera::new(Decode::Keyframes, 10);
    camera.send_until(35);
    let decoded = camera.take_decoded();
    assert_eq!(decoded, [0, 10, 20, 30].map(|number| (number, Process)));
    assert_eq!(camera.undecoded.unwanted, 31);
    camera.assert_counts_add_up(&decoded);
}

#[test]
fn only_keyframes_of_a_still_scene_are_decoded() {
    let mut camera = Camera::new(Decode::Auto, 10);
    camera.send_until(200);
    let decoded = camera.take_decoded();
    // Five still seconds in full, then one keyframe per second.
    let full: Vec<_> = (0..=50).map(|number| (number, Process)).collect();
    assert_eq!(decoded[..51], full);
    let checks: Vec<_> = (6..20).map(|second| (10 * second, Check)).collect();
    assert_eq!(decoded[51..], checks);
    assert!(camera.gate.is_keyframes_only());
    camera.assert_counts_add_up(&decoded);
}

#[test]
fn frames_before_a_changed_keyframe_are_caught_up_in_order() {
    let mut camera = Camera::new(Decode::Auto, 10);
    camera.send_until(100);
    camera.take_decoded();
    camera.moving = 104..125;
    camera.send_until(113);
    let decoded = camera.take_decoded();
    let mut expected = vec![(100, Check), (110, Check), (100, DecodeOnly)];
    expected.extend((101..113).map(|number| (number, Process)));
    assert_eq!(decoded, expected);
    // Keyframes-only mode returns five seconds after the last motion.
    camera.send_until(300);
    let decoded: Vec<_> = camera.take_decoded();
    assert!(decoded.contains(&(179, Process)) && !decoded.contains(&(181, Process)), "{decoded:?}");
    assert!(camera.gate.is_keyframes_only());
}

#[test]
fn counts_add_up_through_keyframes_only_mode_and_catching_up() {
    let mut camera = Camera::new(Decode::Auto, 10);
    camera.moving = 104..125;
    camera.send_until(307);
    let decoded = camera.take_decoded();
    camera.assert_counts_add_up(&decoded);
    assert!(camera.undecoded.still > 100, "{:?}", camera.undecoded);
}

#[test]
fn a_stream_with_rare_keyframes_is_decoded_in_full() {
    let mut camera = Camera::new(Decode::Auto, 50);
    camera.send_until(500);
    assert_eq!(camera.take_decoded().len(), 500);
    assert!(!camera.gate.is_keyframes_only());
}

#[test]
fn a_missing_keyframe_ends_keyframes_only_mode_and_loses_no_frame() {
    let mut camera = Camera::new(Decode::Auto, 10);
    camera.send_until(101);
    assert!(camera.gate.is_keyframes_only());
    camera.take_decoded();
    // The camera is reconfigured: a keyframe every 100 frames from now on.
    camera.gop = 100;
    camera.send_until(150);
    let decoded = camera.take_decoded();
    let expected: Vec<_> = (101..150).map(|number| (number, Process)).collect();
    assert_eq!(decoded, expected);
}

#[test]
fn a_slow_decoder_sheds_the_rest_of_each_gop() {
    let mut camera = Camera::new(Decode::All, 10);
    camera.send_until(14);
    camera.lag = Duration::from_millis(1500);
    camera.send_until(25);
    camera.lag = Duration::from_millis(900);
    camera.send_until(40);
    let decoded: Vec<u64> = camera.take_decoded().into_iter().map(|(number, _)| number).collect();
    let expected: Vec<u64> = (0..14).chain(30..40).collect();
    assert_eq!(decoded, expected);
    assert_eq!(camera.undecoded.shed, 16);
}

#[test]
fn lag_in_keyframes_only_mode_discards_and_counts_the_buffer() {
    let mut camera = Camera::new(Decode::Auto, 10);
    camera.send_until(105);
    camera.lag = Duration::from_secs(3);
    camera.send_until(108);
    camera.lag = Duration::ZERO;
    camera.send_until(125);
    let decoded = camera.take_decoded();
    // Three frames were too late, and the rest of their GOP went with them. The scene is still as before.
    assert_eq!(camera.undecoded.shed, 5);
    assert_eq!(decoded[decoded.len() - 2..], [(110, Process), (120, Check)]);
    camera.assert_counts_add_up(&decoded);
}

#[test]
fn decoding_begins_with_a_keyframe_or_after_a_timeout_without_one() {
    let mut camera = Camera::new(Decode::All, 10);
    camera.next = 4;
    camera.send_until(12);
    assert_eq!(camera.take_decoded(), [(10, Process), (11, Process)]);
    assert_eq!(camera.undecoded.shed, 6);

    for decode in [Decode::All, Decode::Auto, Decode::Keyframes] {
        let mut camera = Camera::new(decode, 1_000_000);
        camera.next = 1;
        camera.send_until(250);
        let decoded = camera.take_decoded();
        assert_eq!(decoded.first(), Some(&(202, Process)), "{decode:?}");
        assert_eq!(decoded.len(), 48, "{decode:?}");
    }
}

#[test]
fn a_late_check_still_finds_its_frames() {
    // A decoder with its own threads: images are checked some frames later.
    let mut gate = Gate::new(Decode::Auto, LIMITS);
    let mut out = Vec::new();
    let frame = |number: u64| EncodedFrame {
        buffer: number,
        is_key: number.is_multiple_of(10),
        len: 100,
        at: Duration::from_millis(100 * number),
        lag: Duration::ZERO,
    };
    for number in 0..104 {
        out.clear();
        gate.accept(frame(number), &mut out);
        for DecoderInput { at, purpose, .. } in &out {
            match purpose {
                Purpose::Check => assert!(gate.report_checked(*at, false).0),
                _ => gate.report_processed(*at, false),
            }
        }
    }
    out.clear();
    for number in 104..113 {
        gate.accept(frame(number), &mut out);
    }
    assert_eq!(out, [DecoderInput { buffer: 110, at: Duration::from_secs(11), purpose: Check }]);
    out.clear();
    assert!(!gate.report_checked(Duration::from_secs(11), true).0);
    gate.accept(frame(113), &mut out);
    let inputs: Vec<_> = out.iter().map(|out| (out.buffer, out.purpose)).collect();
    let mut expected = vec![(100, DecodeOnly)];
    expected.extend((101..114).map(|number| (number, Process)));
    assert_eq!(inputs, expected);
}

#[test]
fn frame_sizes_end_keyframes_only_mode_if_they_indicate_motion() {
    let mut camera = Camera::new(Decode::Auto, 10);
    // A camera whose frames grow with motion, decoded in full for a while.
    for round in 0..4 {
        let start = 200 * round;
        camera.moving = start..start + 40;
        camera.len = 1000;
        camera.send_until(start + 40);
        camera.moving = 0..0;
        camera.len = 100;
        camera.send_until(start + 200);
    }
    assert!(camera.gate.is_keyframes_only());
    camera.take_decoded();
    camera.send_until(803);
    camera.len = 1000;
    camera.send_until(804);
    let decoded = camera.take_decoded();
    assert_eq!(decoded[decoded.len() - 3..], [(801, Process), (802, Process), (803, Process)]);
}

#[test]
fn counts_add_up_for_any_stream() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let decode = [Decode::Auto, Decode::Auto, Decode::All, Decode::Keyframes][random.usize(..4)];
        let mut gate = Gate::new(decode, LIMITS);
        let (mut processed_frames, mut undecoded) = (std::collections::HashSet::new(), 0);
        let mut at = Duration::ZERO;
        let count = |counts: UndecodedCounts| counts.still + counts.unwanted + counts.shed;
        // A decoder that outputs its images some frames later.
        let delay = random.usize(..4);
        let mut held = std::collections::VecDeque::new();
        for number in 0..600u64 {
            // Timestamps repeat, and jump forwards and backwards.
            at = match random.u32(..40) {
                0 => at.saturating_sub(Duration::from_secs(random.u64(..5))),
                1 => at + Duration::from_secs(random.u64(..5)),
                2 => at,
                _ => at + Duration::from_millis(40),
            };
            let lag = Duration::from_millis(if random.u32(..50) == 0 { 1500 } else { 0 });
            let is_key = random.u32(..12) == 0 || number.is_multiple_of(25);
            let mut out = Vec::new();
            let len = random.usize(..200_000);
            undecoded += count(gate.accept(EncodedFrame { buffer: number, is_key, len, at, lag }, &mut out));
            held.extend(out.drain(..));
            while held.len() > delay {
                let DecoderInput { buffer, at, purpose } = held.pop_front().unwrap();
                let changed = random.u32(..30) == 0;
                let processed = match purpose {
                    Purpose::DecodeOnly => false,
                    Purpose::Process => {
                        gate.report_processed(at, changed);
                        true
                    }
                    Purpose::Check => {
                        let (processed, counts) = gate.report_checked(at, changed);
                        undecoded += count(counts);
                        processed
                    }
                };
                assert!(!processed || processed_frames.insert(buffer), "seed {seed}: {buffer} twice");
                gate.catch_up(&mut out);
                held.extend(out.drain(..));
            }
        }
        for DecoderInput { buffer, at, purpose } in held {
            let (processed, counts) = match purpose {
                Purpose::DecodeOnly => continue,
                Purpose::Process => (true, UndecodedCounts::default()),
                Purpose::Check => gate.report_checked(at, false),
            };
            undecoded += count(counts);
            assert!(!processed || processed_frames.insert(buffer), "seed {seed}: {buffer} twice");
        }
        undecoded += count(gate.close());
        assert_eq!(processed_frames.len() as u64 + undecoded, 600, "seed {seed}, {decode:?}");
    }
}
