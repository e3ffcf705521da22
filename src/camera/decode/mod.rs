//! Which of a camera's encoded frames are decoded: what stands behind `decode = "auto" | "all" | "keyframes"`. Pure; works
//! on the stream's own time and knows buffers only by their type.
//!
//! Decoding is what a camera costs. A stream is keyframes, decodable by themselves, each followed by frames that only tell
//! what has changed since: a *group*. While a scene is still, `auto` decodes keyframes alone and keeps the rest, encoded,
//! in a ring: from the last keyframe that was judged on, so about two groups. When a keyframe shows change, the ring is decoded from its keyframe on, so what moved
//! in between is caught up, frame by frame and with its own time, and decoding stays full until the scene has been
//! still for a while. A stream whose keyframes are too far apart is decoded in full.
//!
//! When decoding cannot keep pace, the rest of a group is left out (*shed*), never a frame in the middle: what comes
//! after a hole could only be decoded into smears.
//!
//! Invariant: of the frames that [`Gate::arrive`] has taken, each either has been given out as [`Role::Picture`] or
//! [`Role::Glance`], or is counted in a [`LeftOut`], or lies in the ring.

use super::sizes::SizeSensor;
use crate::config::Decode;
use std::time::Duration;

/// When to do what.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Keyframes that are further apart are too few to watch a scene by.
    pub longest_interval: Duration,
    /// Nothing must have changed for so long before only keyframes are decoded.
    pub still_after: Duration,
    /// A frame that comes so much later than the least late of the last half a minute is a sign that decoding cannot keep
    /// pace.
    pub longest_lag: Duration,
}

/// The ring's encoded bytes: eight seconds of a stream of 8 Mbit/s. A stream that needs more is decoded in full.
const MOST_RING_BYTES: usize = 8 << 20;
/// A stream without a keyframe for so long has none, as with gradual refresh, and is decoded as it is. Longer than the
/// groups of cameras that are set to save bits.
const KEYLESS: Duration = Duration::from_secs(20);
/// The least lag is remembered for so long: what is never less comes from the stream's way here, not from its decoding.
const LAG_MEMORY: Duration = Duration::from_secs(30);

/// An encoded frame on its way to the decoder.
#[derive(Debug)]
pub struct Arrival<B> {
    /// The frame itself.
    pub buffer: B,
    /// It can be decoded by itself.
    pub is_key: bool,
    /// Encoded bytes.
    pub len: usize,
    /// Its time in the stream.
    pub at: Duration,
    /// How much later than that it is now.
    pub lag: Duration,
}

/// What the decoder's picture of a frame is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// To be looked at, in the order of time.
    Picture,
    /// To be judged first: if it shows change, it comes again after the frames before it.
    Glance,
    /// To be thrown away: it was there before and only sets the decoder up for those after it.
    Again,
}

/// A frame for the decoder.
#[derive(Debug, PartialEq)]
pub struct Out<B> {
    /// The frame itself.
    pub buffer: B,
    /// Its time in the stream.
    pub at: Duration,
    /// What its picture is good for.
    pub role: Role,
}

/// Frames that will not be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeftOut {
    /// Because the scene is still.
    pub still: u64,
    /// Because only keyframes are wanted.
    pub unwanted: u64,
    /// Because decoding cannot keep pace, or because no keyframe has come yet.
    pub shed: u64,
}

/// Between the camera and its decoder.
#[derive(Debug)]
pub struct Gate<B> {
    decode: Decode,
    limits: Limits,
    /// Leaving frames out until a keyframe comes in time.
    shedding: bool,
    /// Only keyframes are decoded; the rest is in the ring.
    resting: bool,
    /// The ring has to be decoded, from the next frame on.
    woken: bool,
    /// The last keyframe that was judged, and all that has come since.
    ring: Vec<Kept<B>>,
    /// Stream time since which frames have been left out, while they are.
    shedding_since: Option<Duration>,
    /// The least lag of this and of the last half a minute, and when this one began.
    least_lag: [Duration; 2],
    lag_since: Option<Duration>,
    last_key_at: Option<Duration>,
    /// Between the last two keyframes.
    interval: Option<Duration>,
    /// Since when every picture showed what the one before did.
    still_since: Option<Duration>,
    sizes: SizeSensor,
}

/// A frame in the ring.
#[derive(Debug)]
struct Kept<B> {
    buffer: B,
    at: Duration,
    len: usize,
    is_key: bool,
    /// Its picture was taken.
    had: bool,
}

impl<B: Clone> Gate<B> {
    /// For a stream that is just beginning.
    pub fn new(decode: Decode, limits: Limits) -> Gate<B> {
        Gate {
            decode,
            limits,
            shedding: true,
            resting: false,
            woken: false,
            ring: Vec::new(),
            shedding_since: None,
            least_lag: [Duration::MAX; 2],
            lag_since: None,
            last_key_at: None,
            interval: None,
            still_since: None,
            sizes: SizeSensor::default(),
        }
    }

    /// Takes the next encoded frame; what is to be decoded now goes to the end of `out`, in order.
    pub fn arrive(&mut self, frame: Arrival<B>, out: &mut Vec<Out<B>>) -> LeftOut {
        let mut left_out = LeftOut::default();
        let late = self.is_late(frame.at, frame.lag);
        if self.woken {
            self.empty_ring(out);
        }
        if frame.is_key {
            self.interval = self.last_key_at.map(|last| frame.at.saturating_sub(last));
            self.last_key_at = Some(frame.at);
        }
        if late && !self.shedding {
            self.shedding = true;
            left_out.still += self.forget_ring();
        }
        if self.shedding {
            let since = *self.shedding_since.get_or_insert(frame.at);
            let keyless = frame.at.saturating_sub(since) > KEYLESS;
            if (frame.is_key || keyless) && !late {
                (self.shedding, self.shedding_since) = (false, None);
            } else {
                left_out.shed += 1;
                return left_out;
            }
        }
        match self.decode {
            Decode::Keyframes if !frame.is_key && self.last_key_at.is_some() => left_out.unwanted += 1,
            Decode::All | Decode::Keyframes => out.push(picture(frame)),
            Decode::Auto => self.arrive_in_auto(frame, out),
        }
        left_out
    }

    fn arrive_in_auto(&mut self, frame: Arrival<B>, out: &mut Vec<Out<B>>) {
        if !self.resting {
            let still = self.still_since.is_some_and(|since| {
                frame.at.saturating_sub(since) >= self.limits.still_after && frame.is_key
            });
            if still && self.keys_are_near() {
                self.resting = true;
                let buffer = frame.buffer.clone();
                self.ring.push(Kept { buffer, at: frame.at, len: frame.len, is_key: true, had: true });
            }
            if !frame.is_key {
                self.sizes.saw(frame.len);
            }
            out.push(picture(frame));
            return;
        }
        // A keyframe that does not come, or a decoder that takes so long that judgements come too late.
        let span = self.ring.first().map_or(Duration::ZERO, |first| frame.at.saturating_sub(first.at));
        let overdue =
            self.last_key_at.is_none_or(|key| frame.at.saturating_sub(key) > self.longest_interval());
        self.woken |= overdue || span > 3 * self.longest_interval();
        if frame.is_key {
            self.woken |= !self.keys_are_near();
            if !self.woken {
                out.push(Out { buffer: frame.buffer.clone(), at: frame.at, role: Role::Glance });
            }
        } else {
            self.woken |= self.sizes.tells_of_motion(frame.len);
        }
        let Arrival { buffer, is_key, len, at, .. } = frame;
        self.ring.push(Kept { buffer, at, len, is_key, had: false });
        self.woken |= self.ring.iter().map(|kept| kept.len).sum::<usize>() > MOST_RING_BYTES;
        if self.woken {
            self.empty_ring(out);
        }
    }

    /// A [`Role::Picture`] at stream time `at` shows another scene than the ones before it, or not.
    pub fn judge(&mut self, at: Duration, changed: bool) {
        self.sizes.learn(changed);
        if changed {
            self.still_since = None;
            self.woken |= self.resting;
        } else {
            self.still_since.get_or_insert(at);
        }
    }

    /// The same of a [`Role::Glance`]; true if its picture is to be taken. If not, it comes again: because it shows
    /// change, or because the ring was emptied while it was in the decoder.
    pub fn judge_glance(&mut self, at: Duration, changed: bool) -> (bool, LeftOut) {
        let Some(key) = self.ring.iter().position(|kept| kept.is_key && !kept.had && kept.at == at) else {
            return (false, LeftOut::default());
        };
        if changed {
            self.woken = true;
            return (false, LeftOut::default());
        }
        // Nothing has happened up to this keyframe, as far as it can tell.
        self.ring[key].had = true;
        let before = self.ring.drain(..key).filter(|kept| !kept.had).count();
        (true, LeftOut { still: before as u64, ..LeftOut::default() })
    }

    /// The frames that are to be decoded although nothing new has arrived: those of the ring, once a keyframe has shown
    /// change.
    pub fn catch_up(&mut self, out: &mut Vec<Out<B>>) {
        if self.woken {
            self.empty_ring(out);
        }
    }

    /// Only keyframes are being decoded because the scene is still.
    pub fn is_resting(&self) -> bool {
        self.resting
    }

    /// Whether `lag` is more than the stream's own.
    fn is_late(&mut self, at: Duration, lag: Duration) -> bool {
        let since = *self.lag_since.get_or_insert(at);
        if at.saturating_sub(since) > LAG_MEMORY / 2 || at < since {
            self.least_lag = [lag, self.least_lag[0]];
            self.lag_since = Some(at);
        }
        self.least_lag[0] = self.least_lag[0].min(lag);
        lag - self.least_lag[0].min(self.least_lag[1]) > self.limits.longest_lag
    }

    /// From now on everything is decoded.
    pub fn decode_all(&mut self) -> LeftOut {
        self.decode = Decode::All;
        LeftOut { still: self.forget_ring(), ..LeftOut::default() }
    }

    /// At the end of the stream: what still lies in the ring was not decoded.
    pub fn close(&mut self) -> LeftOut {
        LeftOut { still: self.forget_ring(), ..LeftOut::default() }
    }

    fn keys_are_near(&self) -> bool {
        self.interval.is_some_and(|interval| interval <= self.longest_interval())
    }

    /// Cameras are not exact about it.
    fn longest_interval(&self) -> Duration {
        self.limits.longest_interval.mul_f64(1.1)
    }

    /// Gives out the whole ring and goes back to decoding everything.
    fn empty_ring(&mut self, out: &mut Vec<Out<B>>) {
        (self.woken, self.resting, self.still_since) = (false, false, None);
        // The decoder can go on from the keyframe that it saw last of all.
        let glances_since = self.ring.iter().skip(1).any(|kept| kept.is_key);
        for (index, kept) in self.ring.drain(..).enumerate() {
            if kept.had && index == 0 && !glances_since {
                continue;
            }
            let role = if kept.had { Role::Again } else { Role::Picture };
            out.push(Out { buffer: kept.buffer, at: kept.at, role });
        }
    }

    /// Drops the ring; how many of its frames were not decoded.
    fn forget_ring(&mut self) -> u64 {
        (self.woken, self.resting) = (false, false);
        self.ring.drain(..).filter(|kept| !kept.had).count() as u64
    }
}

fn picture<B>(frame: Arrival<B>) -> Out<B> {
    Out { buffer: frame.buffer, at: frame.at, role: Role::Picture }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        longest_interval: Duration::from_secs(2),
        still_after: Duration::from_secs(5),
        longest_lag: Duration::from_secs(1),
    };

    /// A camera of 10 frames a second with a keyframe every `group` frames. A buffer is its frame's number.
    struct Camera {
        gate: Gate<u64>,
        group: u64,
        next: u64,
        lag: Duration,
        len: usize,
        left_out: LeftOut,
        /// Everything given to the decoder.
        decoded: Vec<(u64, Role)>,
        /// Frames that show motion.
        moving: std::ops::Range<u64>,
    }

    impl Camera {
        fn new(decode: Decode, group: u64) -> Camera {
            Camera {
                gate: Gate::new(decode, LIMITS),
                group,
                next: 0,
                lag: Duration::ZERO,
                len: 100,
                left_out: LeftOut::default(),
                decoded: Vec::new(),
                moving: 0..0,
            }
        }

        fn count(&mut self, left_out: LeftOut) {
            self.left_out.still += left_out.still;
            self.left_out.unwanted += left_out.unwanted;
            self.left_out.shed += left_out.shed;
        }

        /// Sends frames up to number `end`, with a decoder that is at once.
        fn send_until(&mut self, end: u64) {
            while self.next < end {
                let number = self.next;
                self.next += 1;
                let frame = Arrival {
                    buffer: number,
                    is_key: number.is_multiple_of(self.group),
                    len: self.len,
                    at: Duration::from_millis(100 * number),
                    lag: self.lag,
                };
                let mut out = Vec::new();
                let left_out = self.gate.arrive(frame, &mut out);
                self.count(left_out);
                self.decode(out);
            }
        }

        fn decode(&mut self, out: Vec<Out<u64>>) {
            for Out { buffer, at, role } in out {
                self.decoded.push((buffer, role));
                let changed = self.moving.contains(&buffer);
                match role {
                    Role::Again => {}
                    Role::Picture => self.gate.judge(at, changed),
                    Role::Glance => {
                        let (_, left_out) = self.gate.judge_glance(at, changed);
                        self.count(left_out);
                    }
                }
            }
            let mut more = Vec::new();
            self.gate.catch_up(&mut more);
            if !more.is_empty() {
                self.decode(more);
            }
        }

        /// Those decoded since the last call.
        fn take_decoded(&mut self) -> Vec<(u64, Role)> {
            std::mem::take(&mut self.decoded)
        }

        /// Every frame sent was decoded for its picture or left out, and none of it twice.
        fn assert_balance(&mut self, decoded: &[(u64, Role)]) {
            let closed = self.gate.close();
            self.count(closed);
            let mut pictures: Vec<u64> =
                decoded.iter().filter(|(_, role)| *role != Role::Again).map(|(number, _)| *number).collect();
            pictures.sort();
            pictures.dedup();
            let left_out = self.left_out.still + self.left_out.unwanted + self.left_out.shed;
            assert_eq!(pictures.len() as u64 + left_out, self.next, "{:?}", self.left_out);
        }
    }

    use Role::{Again, Glance, Picture};

    #[test]
    fn all_is_all_and_keyframes_are_keyframes() {
        let mut camera = Camera::new(Decode::All, 10);
        camera.send_until(200);
        let decoded = camera.take_decoded();
        assert_eq!(decoded.len(), 200);
        camera.assert_balance(&decoded);

        let mut camera = Camera::new(Decode::Keyframes, 10);
        camera.send_until(35);
        let decoded = camera.take_decoded();
        assert_eq!(decoded, [0, 10, 20, 30].map(|number| (number, Picture)));
        assert_eq!(camera.left_out.unwanted, 31);
        camera.assert_balance(&decoded);
    }

    #[test]
    fn a_still_scene_is_watched_by_its_keyframes() {
        let mut camera = Camera::new(Decode::Auto, 10);
        camera.send_until(200);
        let decoded = camera.take_decoded();
        // Five still seconds in full, then a glance a second.
        let full: Vec<_> = (0..=50).map(|number| (number, Picture)).collect();
        assert_eq!(decoded[..51], full);
        let glances: Vec<_> = (6..20).map(|second| (10 * second, Glance)).collect();
        assert_eq!(decoded[51..], glances);
        assert!(camera.gate.is_resting());
        camera.assert_balance(&decoded);
    }

    #[test]
    fn what_moved_between_two_keyframes_is_caught_up_in_order() {
        let mut camera = Camera::new(Decode::Auto, 10);
        camera.send_until(100);
        camera.take_decoded();
        camera.moving = 104..125;
        camera.send_until(113);
        let decoded = camera.take_decoded();
        let mut expected = vec![(100, Glance), (110, Glance), (100, Again)];
        expected.extend((101..113).map(|number| (number, Picture)));
        assert_eq!(decoded, expected);
        // Five seconds after the last motion the rest comes back.
        camera.send_until(300);
        let decoded: Vec<_> = camera.take_decoded();
        assert!(decoded.contains(&(179, Picture)) && !decoded.contains(&(181, Picture)), "{decoded:?}");
        assert!(camera.gate.is_resting());
    }

    #[test]
    fn accounts_balance_through_rest_and_wakening() {
        let mut camera = Camera::new(Decode::Auto, 10);
        camera.moving = 104..125;
        camera.send_until(307);
        let decoded = camera.take_decoded();
        camera.assert_balance(&decoded);
        assert!(camera.left_out.still > 100, "{:?}", camera.left_out);
    }

    #[test]
    fn keyframes_too_far_apart_are_not_enough() {
        let mut camera = Camera::new(Decode::Auto, 50);
        camera.send_until(500);
        assert_eq!(camera.take_decoded().len(), 500);
        assert!(!camera.gate.is_resting());
    }

    #[test]
    fn a_keyframe_that_does_not_come_ends_the_rest_and_loses_nothing() {
        let mut camera = Camera::new(Decode::Auto, 10);
        camera.send_until(101);
        assert!(camera.gate.is_resting());
        camera.take_decoded();
        // The camera changes its mind: keyframes every 100 frames from now on.
        camera.group = 100;
        camera.send_until(150);
        let decoded = camera.take_decoded();
        let expected: Vec<_> = (101..150).map(|number| (number, Picture)).collect();
        assert_eq!(decoded, expected);
    }

    #[test]
    fn a_slow_decoder_costs_whole_tails_of_groups() {
        let mut camera = Camera::new(Decode::All, 10);
        camera.send_until(14);
        camera.lag = Duration::from_millis(1500);
        camera.send_until(25);
        camera.lag = Duration::from_millis(900);
        camera.send_until(40);
        let decoded: Vec<u64> = camera.take_decoded().into_iter().map(|(number, _)| number).collect();
        let expected: Vec<u64> = (0..14).chain(30..40).collect();
        assert_eq!(decoded, expected);
        assert_eq!(camera.left_out.shed, 16);
    }

    #[test]
    fn lag_during_a_rest_forgets_the_ring_and_counts_it() {
        let mut camera = Camera::new(Decode::Auto, 10);
        camera.send_until(105);
        camera.lag = Duration::from_secs(3);
        camera.send_until(108);
        camera.lag = Duration::ZERO;
        camera.send_until(125);
        let decoded = camera.take_decoded();
        // Three frames came too late, and the rest of their group with them; the scene is as still as before.
        assert_eq!(camera.left_out.shed, 5);
        assert_eq!(decoded[decoded.len() - 2..], [(110, Picture), (120, Glance)]);
        camera.assert_balance(&decoded);
    }

    #[test]
    fn a_stream_begins_with_a_keyframe_or_is_one_without() {
        let mut camera = Camera::new(Decode::All, 10);
        camera.next = 4;
        camera.send_until(12);
        assert_eq!(camera.take_decoded(), [(10, Picture), (11, Picture)]);
        assert_eq!(camera.left_out.shed, 6);

        for decode in [Decode::All, Decode::Auto, Decode::Keyframes] {
            let mut camera = Camera::new(decode, 1_000_000);
            camera.next = 1;
            camera.send_until(250);
            let decoded = camera.take_decoded();
            assert_eq!(decoded.first(), Some(&(202, Picture)), "{decode:?}");
            assert_eq!(decoded.len(), 48, "{decode:?}");
        }
    }

    #[test]
    fn a_late_judgement_still_finds_its_frames() {
        // A decoder with threads of its own: pictures are judged frames later.
        let mut gate = Gate::new(Decode::Auto, LIMITS);
        let mut out = Vec::new();
        let frame = |number: u64| Arrival {
            buffer: number,
            is_key: number.is_multiple_of(10),
            len: 100,
            at: Duration::from_millis(100 * number),
            lag: Duration::ZERO,
        };
        for number in 0..104 {
            out.clear();
            gate.arrive(frame(number), &mut out);
            for Out { at, role, .. } in &out {
                match role {
                    Role::Glance => assert!(gate.judge_glance(*at, false).0),
                    _ => gate.judge(*at, false),
                }
            }
        }
        out.clear();
        for number in 104..113 {
            gate.arrive(frame(number), &mut out);
        }
        assert_eq!(out, [Out { buffer: 110, at: Duration::from_secs(11), role: Glance }]);
        out.clear();
        assert!(!gate.judge_glance(Duration::from_secs(11), true).0);
        gate.arrive(frame(113), &mut out);
        let given: Vec<_> = out.iter().map(|out| (out.buffer, out.role)).collect();
        let mut expected = vec![(100, Again)];
        expected.extend((101..114).map(|number| (number, Picture)));
        assert_eq!(given, expected);
    }

    #[test]
    fn sizes_wake_where_they_have_been_seen_to_tell() {
        let mut camera = Camera::new(Decode::Auto, 10);
        // A camera whose frames grow with motion, watched in full for a while.
        for round in 0..4 {
            let start = 200 * round;
            camera.moving = start..start + 40;
            camera.len = 1000;
            camera.send_until(start + 40);
            camera.moving = 0..0;
            camera.len = 100;
            camera.send_until(start + 200);
        }
        assert!(camera.gate.is_resting());
        camera.take_decoded();
        camera.send_until(803);
        camera.len = 1000;
        camera.send_until(804);
        let decoded = camera.take_decoded();
        assert_eq!(decoded[decoded.len() - 3..], [(801, Picture), (802, Picture), (803, Picture)]);
    }

    #[test]
    fn accounts_balance_whatever_a_camera_sends() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let decode = [Decode::Auto, Decode::Auto, Decode::All, Decode::Keyframes][random.usize(..4)];
            let mut gate = Gate::new(decode, LIMITS);
            let (mut given, mut left_out) = (std::collections::HashSet::new(), 0);
            let mut at = Duration::ZERO;
            let count = |left: LeftOut| left.still + left.unwanted + left.shed;
            // A decoder that gives its pictures some frames later.
            let holds = random.usize(..4);
            let mut held = std::collections::VecDeque::new();
            for number in 0..600u64 {
                // Time stamps repeat, jump ahead and back.
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
                left_out += count(gate.arrive(Arrival { buffer: number, is_key, len, at, lag }, &mut out));
                held.extend(out.drain(..));
                while held.len() > holds {
                    let Out { buffer, at, role } = held.pop_front().unwrap();
                    let changed = random.u32(..30) == 0;
                    let taken = match role {
                        Role::Again => false,
                        Role::Picture => {
                            gate.judge(at, changed);
                            true
                        }
                        Role::Glance => {
                            let (taken, left) = gate.judge_glance(at, changed);
                            left_out += count(left);
                            taken
                        }
                    };
                    assert!(!taken || given.insert(buffer), "seed {seed}: {buffer} twice");
                    gate.catch_up(&mut out);
                    held.extend(out.drain(..));
                }
            }
            for Out { buffer, at, role } in held {
                let (taken, left) = match role {
                    Role::Again => continue,
                    Role::Picture => (true, LeftOut::default()),
                    Role::Glance => gate.judge_glance(at, false),
                };
                left_out += count(left);
                assert!(!taken || given.insert(buffer), "seed {seed}: {buffer} twice");
            }
            left_out += count(gate.close());
            assert_eq!(given.len() as u64 + left_out, 600, "seed {seed}, {decode:?}");
        }
    }
}
