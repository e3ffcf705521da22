//! The times of a live stream's frames: when a frame was captured, on the node's monotonic clock, and the
//! time of day that is told. Pure.
//!
//! [`Timeline`] gives the monotonic time, with which tracks and durations are calculated. It is the arrival,
//! smoothed by the stream's own times where these advance as time does, so that network jitter does not
//! distort speeds. [`TimeOfDay`] gives what is told. One clock is chosen with an attempt's first frame and
//! kept.

use crate::frame::{CaptureClock, ClockFault};
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

/// Times of the stream that advance by less than a millisecond between frames stand still.
const MIN_ADVANCE_NS: i64 = 1_000_000;
/// Two frames that arrive within this time may have the same time.
const MIN_ELAPSED_NS: i64 = 5_000_000;
/// A stream whose times advance by less than one part in this many of the time that passes, stands still.
const MAX_SLOWNESS: i64 = 8;
/// Frames in a row that stand still before the stream's times are given up.
const MAX_STANDING: u32 = 8;
/// Larger than any decoder's reordering. A larger jump of the stream's times is a fault.
const MAX_JUMP_NS: i64 = 1_000_000_000;
/// The least lag of so long a time is what the clocks have drifted apart.
const LAG_WINDOW_NS: i64 = 2_000_000_000;
/// The most that is corrected at the end of a window without a jump. 2500 parts per million.
const MAX_DRIFT_NS: i64 = 5_000_000;
/// A stream that lags this much throughout a window has a slow clock: decoding sheds frames long before.
const MAX_LAG_NS: i64 = 3_000_000_000;
/// Jumps, each less than [`JUMP_MEMORY_NS`] after the last one, before the stream's times are given up.
const MAX_JUMPS: u32 = 3;
/// See [`MAX_JUMPS`].
const JUMP_MEMORY_NS: i64 = 30_000_000_000;

/// Places the frames of one attempt on the node's monotonic clock.
#[derive(Debug, Default)]
pub struct Timeline {
    state: Option<State>,
    /// Frames without a time in a row. Parsers leave out times that repeat.
    without_time: u32,
    /// The stream's times are given up: arrival times are used until the attempt ends.
    ignores_stream: bool,
}

#[derive(Debug)]
struct State {
    /// Monotonic time less stream time.
    offset_ns: i64,
    newest_ns: i64,
    arrival_ns: i64,
    standing: u32,
    jumps: u32,
    jumped_at_ns: i64,
    window_start_ns: i64,
    least_lag_ns: i64,
}

impl Timeline {
    /// The monotonic time of a frame with the stream's time `pts` that arrives at `arrival`. Never later than
    /// the arrival.
    pub fn place(&mut self, pts: Option<Duration>, arrival: Duration) -> Duration {
        if self.ignores_stream {
            return arrival;
        }
        let Some(pts_ns) = pts.map(nanoseconds) else {
            // A stream that never has times is not at fault.
            self.without_time += 1;
            self.ignores_stream = self.state.is_some() && self.without_time >= MAX_STANDING;
            return arrival;
        };
        self.without_time = 0;
        let now_ns = nanoseconds(arrival);
        let state = self.state.get_or_insert_with(|| State::new(pts_ns, now_ns));
        let placed_ns = state.place(pts_ns, now_ns);
        if state.standing >= MAX_STANDING || state.jumps > MAX_JUMPS {
            self.ignores_stream = true;
            return arrival;
        }
        Duration::from_nanos(placed_ns.clamp(0, now_ns) as u64)
    }

    /// Whether the stream's times are of no use, so that arrival times are used.
    pub fn ignores_stream(&self) -> bool {
        self.ignores_stream
    }
}

impl State {
    fn new(pts_ns: i64, now_ns: i64) -> State {
        State {
            offset_ns: now_ns - pts_ns,
            newest_ns: pts_ns,
            arrival_ns: now_ns,
            standing: 0,
            jumps: 0,
            jumped_at_ns: i64::MIN / 2,
            window_start_ns: now_ns,
            least_lag_ns: i64::MAX,
        }
    }

    fn place(&mut self, pts_ns: i64, now_ns: i64) -> i64 {
        let (advance_ns, elapsed_ns) = (pts_ns - self.newest_ns, now_ns - self.arrival_ns);
        self.arrival_ns = now_ns;
        let is_slow = (-MIN_ADVANCE_NS..elapsed_ns / MAX_SLOWNESS).contains(&advance_ns);
        if is_slow && elapsed_ns >= MIN_ELAPSED_NS {
            self.standing += 1;
        } else if advance_ns.abs() > MIN_ADVANCE_NS {
            self.standing = 0;
        }
        if advance_ns < -MAX_JUMP_NS {
            return self.jump(pts_ns, now_ns);
        }
        self.newest_ns = self.newest_ns.max(pts_ns);
        if advance_ns.abs() < MIN_ADVANCE_NS && elapsed_ns >= MIN_ELAPSED_NS {
            return now_ns;
        }
        let lag_ns = now_ns - (pts_ns + self.offset_ns);
        if lag_ns < -MAX_JUMP_NS {
            return self.jump(pts_ns, now_ns);
        }
        self.offset_ns += lag_ns.min(0);
        self.least_lag_ns = self.least_lag_ns.min(lag_ns.max(0));
        if now_ns - self.window_start_ns >= LAG_WINDOW_NS {
            if self.least_lag_ns > MAX_LAG_NS {
                return self.jump(pts_ns, now_ns);
            }
            self.offset_ns += self.least_lag_ns.min(MAX_DRIFT_NS);
            (self.window_start_ns, self.least_lag_ns) = (now_ns, i64::MAX);
        }
        pts_ns + self.offset_ns
    }

    /// Begins anew with this frame, because the stream's times have jumped.
    fn jump(&mut self, pts_ns: i64, now_ns: i64) -> i64 {
        let is_repeated = now_ns - self.jumped_at_ns < JUMP_MEMORY_NS;
        let jumps = if is_repeated { self.jumps + 1 } else { 1 };
        *self = State { jumps, jumped_at_ns: now_ns, standing: self.standing, ..State::new(pts_ns, now_ns) };
        now_ns
    }
}

fn nanoseconds(time: Duration) -> i64 {
    // A century. Later sums cannot overflow.
    time.as_nanos().min(1 << 61) as i64
}

/// The most that a sender's clock may differ from this machine's. With more it is wrong and not used.
pub const MAX_OFFSET: SignedDuration = SignedDuration::from_secs(10);
/// Differences between a report and what is carried from the last ones that are jitter, not steps.
const MAX_JITTER: SignedDuration = SignedDuration::from_millis(250);
/// How close the times after a step must be to the first of them.
const MAX_STEP_JITTER: SignedDuration = SignedDuration::from_millis(100);
/// Frames in a row that must agree on a step before it is followed.
const STEP_FRAMES: u32 = 10;
/// Part of a difference that is taken over with each frame.
const DRIFT_GAIN: i32 = 16;

/// The time of day of one attempt's frames.
#[derive(Debug, Default)]
pub struct TimeOfDay {
    /// None before the first frame.
    clock: Option<SenderClock>,
}

/// The sender's clock, if it is used.
#[derive(Debug)]
struct SenderClock {
    /// Time of day less monotonic time. None if this machine's clock is told.
    base: Option<Timestamp>,
    /// A possible step: its size, and the frames in a row that agree.
    step: (SignedDuration, u32),
    fault: Option<ClockFault>,
    offset: Option<SignedDuration>,
}

impl TimeOfDay {
    /// The time of day to tell of a frame, and its clock. `captured`: its monotonic time; `sender`: its time
    /// by the sender's clock; `local`: the same by this machine's; `fallback`: the name of this machine's
    /// clock.
    pub fn tell(
        &mut self,
        captured: Duration,
        sender: Option<Timestamp>,
        local: Timestamp,
        fallback: CaptureClock,
    ) -> (Timestamp, CaptureClock) {
        let offset = sender.map(|sender| sender.duration_since(local));
        let is_plausible = offset.is_some_and(|offset| offset.abs() <= MAX_OFFSET);
        let base_of = |at: Timestamp| at.saturating_sub(captured).unwrap_or(at);
        let clock = self.clock.get_or_insert_with(|| SenderClock {
            base: sender.filter(|_| is_plausible).map(base_of),
            step: (SignedDuration::ZERO, 0),
            fault: None,
            offset: None,
        });
        clock.offset = offset.or(clock.offset);
        let Some(base) = clock.base else {
            if offset.is_some() {
                clock.fault = (!is_plausible).then_some(ClockFault::SenderImplausible);
            }
            return (local, fallback);
        };
        let carried = base.saturating_add(captured).unwrap_or(local);
        let Some(sender) = sender else { return (carried, CaptureClock::Sender) };
        let difference = sender.duration_since(carried);
        if difference.abs() <= MAX_JITTER {
            clock.base = base.saturating_add(difference / DRIFT_GAIN).ok().or(clock.base);
            (clock.step.1, clock.fault) = (0, None);
            return (sender, CaptureClock::Sender);
        }
        let agrees = (difference - clock.step.0).abs() <= MAX_STEP_JITTER;
        clock.step = if agrees { (clock.step.0, clock.step.1 + 1) } else { (difference, 1) };
        clock.fault = Some(ClockFault::SenderUnsteady);
        if clock.step.1 < STEP_FRAMES {
            return (carried, CaptureClock::Sender);
        }
        if !is_plausible {
            clock.fault = Some(ClockFault::SenderImplausible);
            return (carried, CaptureClock::Sender);
        }
        (clock.base, clock.step.1, clock.fault) = (Some(base_of(sender)), 0, None);
        (sender, CaptureClock::Sender)
    }

    /// What is wrong with the sender's clock.
    pub fn fault(&self) -> Option<ClockFault> {
        self.clock.as_ref().and_then(|clock| clock.fault)
    }

    /// The last known difference of the sender's clock to this machine's, which includes the time that the
    /// frame took to arrive. Positive if the sender's is ahead.
    pub fn offset(&self) -> Option<SignedDuration> {
        self.clock.as_ref().and_then(|clock| clock.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Places frames with (stream time, arrival) in milliseconds. Returns times in milliseconds.
    fn place(timeline: &mut Timeline, frames: impl IntoIterator<Item = (u64, u64)>) -> Vec<u64> {
        let mut place = |(pts, at): (u64, u64)| timeline.place(Some(MS * pts as u32), MS * at as u32);
        frames.into_iter().map(|frame| place(frame).as_millis() as u64).collect()
    }

    fn largest_error(placed: &[u64], interval: u64, from: usize) -> u64 {
        let steps = placed
            .windows(2)
            .skip(from)
            .map(|pair| (pair[1] as i64 - pair[0] as i64).abs_diff(interval as i64));
        steps.max().unwrap()
    }

    #[test]
    fn jitter_and_bursts_do_not_distort_the_times() {
        let jitter = [0, 31, 4, 12, 25, 60, 0, 45];
        let frames = (0..200u64).map(|i| (100 * i, 5000 + 100 * i + jitter[i as usize % 8]));
        let placed = place(&mut Timeline::default(), frames);
        assert!(largest_error(&placed, 100, 8) <= 5, "{placed:?}");
        // Nothing for two seconds, then all of it at once.
        let mut timeline = Timeline::default();
        let frames = (0..100u64).map(|i| (100 * i, 5000 + 100 * if (40..60).contains(&i) { 60 } else { i }));
        let placed = place(&mut timeline, frames);
        assert!(largest_error(&placed, 100, 0) <= 5 && !timeline.ignores_stream(), "{placed:?}");
    }

    #[test]
    fn reordered_frames_keep_their_times() {
        let order = [0, 3, 1, 2];
        let frames = (0..120u64).map(|i| (40 * (i / 4 * 4 + order[i as usize % 4]), 5000 + 40 * i));
        let mut timeline = Timeline::default();
        let placed = place(&mut timeline, frames);
        assert!(!timeline.ignores_stream());
        let mut sorted = placed[40..].to_vec();
        sorted.sort();
        assert!(largest_error(&sorted, 40, 0) <= 5, "{sorted:?}");
    }

    #[test]
    fn a_stream_whose_repeated_times_the_parser_leaves_out_stands_still_too() {
        let mut timeline = Timeline::default();
        for number in 1..=20 {
            assert_eq!(timeline.place(None, MS * 100 * number), MS * 100 * number);
        }
        assert!(!timeline.ignores_stream(), "it never has times");
        timeline.place(Some(MS), MS * 2100);
        for number in 22..=29 {
            assert!(!timeline.ignores_stream());
            assert_eq!(timeline.place(None, MS * 100 * number), MS * 100 * number);
        }
        assert!(timeline.ignores_stream());
    }

    #[test]
    fn a_stream_that_stands_still_is_timed_by_arrival_from_the_first_frame_on() {
        let mut timeline = Timeline::default();
        let placed = place(&mut timeline, (0..50).map(|i| (11, 5000 + 100 * i)));
        assert_eq!(placed, (0..50).map(|i| 5000 + 100 * i).collect::<Vec<_>>());
        assert!(timeline.ignores_stream());
        // And one that stops in the middle, and goes on.
        let mut timeline = Timeline::default();
        let placed = place(&mut timeline, (0..200).map(|i| (100 * i.min(50), 5000 + 100 * i)));
        assert!(largest_error(&placed, 100, 0) == 0 && timeline.ignores_stream(), "{placed:?}");
    }

    #[test]
    fn wrong_rates_and_jumps_are_given_up_for_arrival() {
        for (numerator, denominator) in [(1, 90), (1, 11), (90, 1), (1000, 1), (1, 2)] {
            let mut timeline = Timeline::default();
            let placed =
                place(&mut timeline, (0..900).map(|i| (100 * i * numerator / denominator, 5000 + 100 * i)));
            assert!(timeline.ignores_stream(), "{numerator} / {denominator}");
            assert!(largest_error(&placed, 100, 500) == 0, "{numerator} / {denominator}: {placed:?}");
        }
        // One jump, far ahead or back as at a wrap, is passed over.
        for jump in [0, 1_000_000_000] {
            let frames =
                (0..200u64).map(|i| (if i < 100 { 47_721_858 } else { jump } + 100 * i, 5000 + 100 * i));
            let mut timeline = Timeline::default();
            let placed = place(&mut timeline, frames);
            assert!(largest_error(&placed, 100, 0) == 0 && !timeline.ignores_stream(), "{placed:?}");
        }
    }

    #[test]
    fn a_drift_of_the_clocks_is_followed() {
        let mut timeline = Timeline::default();
        let placed = place(&mut timeline, (0..5000).map(|i| (100 * i, 5000 + 100 * i + i / 20)));
        assert!(5000 + 100 * 4999 + 4999 / 20 - placed[4999] <= 10 && !timeline.ignores_stream());
    }

    fn start() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    /// Tells 100 frames, ten a second. `sender`: milliseconds by which its clock is ahead, by frame. Returns
    /// the told times as milliseconds ahead of this machine's clock, and the clocks.
    fn tell(sender: impl Fn(i64) -> Option<i64>) -> (TimeOfDay, Vec<i64>, Vec<CaptureClock>) {
        let mut day = TimeOfDay::default();
        let told = (0..100).map(|i| {
            let captured = Duration::from_millis(7000 + 100 * i as u64);
            let local = start() + captured;
            let sender = sender(i).map(|ahead| local + SignedDuration::from_millis(ahead));
            let (at, clock) = day.tell(captured, sender, local, CaptureClock::Pipeline);
            (at.duration_since(local).as_millis() as i64, clock)
        });
        let (told, clocks) = told.collect();
        (day, told, clocks)
    }

    #[test]
    fn one_clock_is_chosen_with_the_first_frame_and_kept() {
        for ahead in [0, -300, 300, -5000, 5000] {
            // Some frames without a report are carried.
            let (day, told, clocks) = tell(|i| (i % 7 == 0).then_some(ahead));
            assert_eq!((told, clocks), (vec![ahead; 100], vec![CaptureClock::Sender; 100]));
            assert_eq!(day.offset(), Some(SignedDuration::from_millis(ahead)));
            assert_eq!(day.fault(), None);
            // Reports that stop, and reports that come late or never.
            let (_, told, clocks) = tell(|i| (i < 20).then_some(ahead));
            assert_eq!((told, clocks), (vec![ahead; 100], vec![CaptureClock::Sender; 100]));
            let (day, told, clocks) = tell(|i| (i >= 20).then_some(ahead));
            assert_eq!((told, clocks), (vec![0; 100], vec![CaptureClock::Pipeline; 100]));
            assert_eq!((day.offset(), day.fault()), (Some(SignedDuration::from_millis(ahead)), None));
        }
        let (day, told, clocks) = tell(|_| None);
        assert_eq!((told, clocks), (vec![0; 100], vec![CaptureClock::Pipeline; 100]));
        assert_eq!((day.offset(), day.fault()), (None, None));
    }

    #[test]
    fn an_implausible_clock_is_not_told_and_reported() {
        let (day, told, clocks) = tell(|_| Some(-3_600_000));
        assert_eq!((told, clocks), (vec![0; 100], vec![CaptureClock::Pipeline; 100]));
        assert_eq!(day.fault(), Some(ClockFault::SenderImplausible));
        let (day, told, clocks) = tell(|i| Some(if i < 50 { 300 } else { 3_600_000 }));
        assert_eq!((told, clocks), (vec![300; 100], vec![CaptureClock::Sender; 100]));
        assert_eq!(day.fault(), Some(ClockFault::SenderImplausible));
    }

    #[test]
    fn a_step_is_followed_when_it_lasts_and_a_stopped_clock_is_carried() {
        let (day, told, clocks) = tell(|i| Some(if i < 50 { -5000 } else { 300 }));
        assert_eq!(clocks, vec![CaptureClock::Sender; 100]);
        assert_eq!((told[58], told[59], told[99], day.fault()), (-5000, 300, 300, None));
        let (day, told, clocks) = tell(|i| Some(if i < 50 { 300 } else { 300 - 100 * (i - 50) }));
        assert_eq!(clocks, vec![CaptureClock::Sender; 100]);
        assert!(told.iter().all(|ahead| (50..=300).contains(ahead)), "{told:?}");
        assert_eq!(day.fault(), Some(ClockFault::SenderUnsteady));
    }
}
