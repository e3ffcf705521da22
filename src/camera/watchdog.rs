//! Detects an attempt that has stalled: no frames arrive, none are decoded, or the decoder outputs none.
//! Pure.
//!
//! GStreamer does not report a stream that has gone silent, so this is what makes a camera reconnect.

use super::{Failure, FailureKind};
use crate::config::Camera;
use std::time::Duration;

/// The shortest silence that counts as a stall. Longer than the pauses of cameras that send a frame every few
/// seconds while nothing moves.
const MIN_STALL: Duration = Duration::from_secs(5);
/// The silence that counts as a stall, in mean frame intervals.
const STALL_INTERVALS: u32 = 10;
/// The same in the longest intervals of the last minutes, because some cameras change their rate.
const LONGEST_INTERVALS: u32 = 3;
/// For how long an interval is remembered, once and at most twice.
const MEMORY: Duration = Duration::from_secs(300);
/// Frame intervals that must be known before a silence can be distinguished from a slow camera.
const MIN_KNOWN_INTERVALS: u64 = 3;
/// How long frames may arrive without one that can be decoded. Longer than the keyframe interval of any
/// camera.
const MAX_UNDECODABLE: Duration = Duration::from_secs(120);
/// Frames sent to a decoder since its last output. With more, it hangs or cannot decode them.
const MAX_FRAMES_WITHOUT_OUTPUT: u64 = 50;

/// Frame counts of an attempt so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Frames received from the camera.
    pub received: u64,
    /// Frames sent to the decoder, from a keyframe on.
    pub sent: u64,
    /// Frames that the decoder has output.
    pub decoded: u64,
}

/// One attempt's watchdog.
#[derive(Debug)]
pub struct Watchdog<'a> {
    camera: &'a Camera,
    started: Duration,
    counts: Counts,
    first_received: Option<Duration>,
    last_received: Duration,
    /// When any count changed last.
    last_progress: Duration,
    /// When a frame was sent to or output by the decoder last.
    last_decoder_activity: Duration,
    last_decoded: Duration,
    /// Frames that had been sent to the decoder when it last output one.
    sent_at_last_output: u64,
    /// The shortest silence that counts as a stall.
    min_stall: Duration,
    /// The longest interval between two frames since `remembered_since`, and in the time before.
    longest: [Duration; 2],
    remembered_since: Duration,
}

impl<'a> Watchdog<'a> {
    /// Creates the watchdog of an attempt that begins at `now`.
    pub fn new(camera: &'a Camera, now: Duration) -> Watchdog<'a> {
        Watchdog {
            camera,
            started: now,
            counts: Counts::default(),
            first_received: None,
            last_received: now,
            last_progress: now,
            last_decoder_activity: now,
            last_decoded: now,
            sent_at_last_output: 0,
            min_stall: MIN_STALL,
            longest: [Duration::ZERO; 2],
            remembered_since: now,
        }
    }

    /// Does not take a silence of up to `min` for a stall, because the source is known to pause that long.
    pub fn tolerate(&mut self, min: Duration) {
        self.min_stall = MIN_STALL.max(min);
    }

    /// Records the longest interval between two frames since the last call, by the stream's own times.
    pub fn note_interval(&mut self, now: Duration, interval: Duration) {
        if now.saturating_sub(self.remembered_since) >= MEMORY {
            (self.longest, self.remembered_since) = ([Duration::ZERO, self.longest[0]], now);
        }
        self.longest[0] = self.longest[0].max(interval);
    }

    /// Restarts the timeouts, because the attempt is waiting for the workers.
    pub fn reset(&mut self, now: Duration) {
        (self.last_progress, self.last_decoded, self.last_decoder_activity) = (now, now, now);
    }

    /// Evaluates the counts at `now`. Returns true once, after the first decoded frame.
    ///
    /// Errors: the attempt has stalled and must be ended ([`FailureKind::Stalled`],
    /// [`FailureKind::NoDecoderOutput`]).
    pub fn check(&mut self, now: Duration, counts: Counts) -> Result<bool, Failure> {
        let previous = std::mem::replace(&mut self.counts, counts);
        self.note_progress(now, previous);
        let (limit, since) = match self.first_received {
            None => (self.first_frame_timeout(), self.started),
            Some(first) => (self.stall_timeout(first), self.last_progress),
        };
        if now.saturating_sub(since) > limit {
            let reason = format!("no frame for {:.1} s", limit.as_secs_f64());
            return Err(Failure::new(FailureKind::Stalled, reason));
        }
        let timeout = match self.first_received {
            Some(first) if counts.decoded > 0 => self.stall_timeout(first),
            _ => self.first_frame_timeout(),
        };
        let without_output = counts.sent.saturating_sub(self.sent_at_last_output);
        if without_output > MAX_FRAMES_WITHOUT_OUTPUT && now.saturating_sub(self.last_decoded) > timeout {
            let reason = format!("{without_output} frames went into the decoder and none came out");
            return Err(Failure::new(FailureKind::NoDecoderOutput, reason));
        }
        let is_undecodable = self.first_received.is_some()
            && now.saturating_sub(self.last_decoder_activity) > MAX_UNDECODABLE.max(timeout);
        if is_undecodable {
            let reason = "frames arrive, but none could be decoded in time";
            return Err(Failure::new(FailureKind::Stalled, reason));
        }
        Ok(previous.decoded == 0 && counts.decoded > 0)
    }

    /// Records the time at which counts have changed since the `previous` ones.
    fn note_progress(&mut self, now: Duration, previous: Counts) {
        let counts = self.counts;
        if counts.received != previous.received {
            self.last_received = now;
            self.first_received.get_or_insert(now);
        }
        // While buffered frames are decoded none arrive, which does not count as silence.
        if counts != previous {
            self.last_progress = now;
        }
        if (counts.sent, counts.decoded) != (previous.sent, previous.decoded) {
            self.last_decoder_activity = now;
        }
        if counts.decoded != previous.decoded {
            (self.last_decoded, self.sent_at_last_output) = (now, counts.sent);
        }
    }

    fn first_frame_timeout(&self) -> Duration {
        self.camera.first_frame_timeout.max(self.camera.stall_timeout.unwrap_or_default())
    }

    /// The configured timeout, or a multiple of this camera's frame intervals, but at least [`MIN_STALL`]. As
    /// long as for the first frame while the interval is unknown.
    fn stall_timeout(&self, first_received: Duration) -> Duration {
        self.camera.stall_timeout.unwrap_or_else(|| {
            let span = self.last_received.saturating_sub(first_received);
            match self.counts.received.saturating_sub(1) {
                known if known < MIN_KNOWN_INTERVALS => self.camera.first_frame_timeout.max(self.min_stall),
                intervals => {
                    let intervals = u32::try_from(intervals).unwrap_or(u32::MAX);
                    let longest = self.longest[0].max(self.longest[1]);
                    let by_rate = span / intervals * STALL_INTERVALS;
                    self.min_stall.max(by_rate).max(longest * LONGEST_INTERVALS)
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{camera::template::tests::camera, config::Source};

    const INTERVAL: Duration = Duration::from_millis(100);

    /// Checks ten times per second with the counts that `counts` returns for each tick of 0.1 s. Returns when
    /// it failed, how, and whether a frame had been decoded before. None if it did not fail within `seconds`.
    fn run(
        camera: &Camera,
        seconds: u64,
        counts: impl Fn(u64) -> Counts,
    ) -> Option<(f64, FailureKind, bool)> {
        let mut watchdog = Watchdog::new(camera, Duration::ZERO);
        let mut live = false;
        for tick in 1..=10 * seconds {
            match watchdog.check(INTERVAL * tick as u32, counts(tick)) {
                Ok(first) => {
                    assert!(!(first && live), "reported twice");
                    live |= first;
                }
                Err(failure) => return Some((tick as f64 / 10.0, failure.kind, live)),
            }
        }
        assert!(live);
        None
    }

    fn network() -> Camera {
        camera(Source::Rtsp { url: "rtsp://h/s".into() })
    }

    fn all(count: u64) -> Counts {
        Counts { received: count, sent: count, decoded: count }
    }

    #[test]
    fn a_slow_camera_does_not_stall() {
        for ticks in [1, 7, 40, 90] {
            assert_eq!(run(&network(), 200, |tick| all(tick / ticks)), None, "every {ticks} ticks");
        }
    }

    #[test]
    fn silence_is_a_stall_after_five_seconds_or_ten_intervals() {
        let stalls = |ticks: u64, last: u64| run(&network(), 100, |tick| all(tick.min(last) / ticks));
        assert_eq!(stalls(1, 50), Some((10.1, FailureKind::Stalled, true)));
        assert_eq!(stalls(7, 70), Some((14.1, FailureKind::Stalled, true)));
        // No frames at all, and too few to know the interval.
        assert_eq!(stalls(1, 0), Some((10.1, FailureKind::Stalled, false)));
        assert_eq!(stalls(1, 2), Some((10.3, FailureKind::Stalled, true)));
        let strict = Camera { stall_timeout: Some(Duration::from_secs(1)), ..network() };
        assert_eq!(run(&strict, 100, |tick| all(tick.min(30))), Some((4.1, FailureKind::Stalled, true)));
    }

    #[test]
    fn a_decoder_without_output_is_distinguished_from_a_silent_camera() {
        let no_output = |tick| Counts { decoded: 0, ..all(tick) };
        assert_eq!(run(&network(), 100, no_output), Some((10.1, FailureKind::NoDecoderOutput, false)));
        let output_stops = |tick: u64| Counts { decoded: tick.min(100), ..all(tick) };
        assert_eq!(run(&network(), 100, output_stops), Some((15.1, FailureKind::NoDecoderOutput, true)));
        let shed = |tick: u64| Counts { received: tick, ..all(tick.min(100)) };
        assert_eq!(run(&network(), 200, shed), Some((130.1, FailureKind::Stalled, true)));
        // A stream joined long before its next keyframe, and one with gradual refresh that never has one.
        let joined = |tick: u64| Counts { received: tick, ..all(tick.saturating_sub(900)) };
        assert_eq!(run(&network(), 200, joined), None);
        let no_keyframes = |tick: u64| Counts { received: tick, sent: 0, decoded: tick.saturating_sub(250) };
        assert_eq!(run(&network(), 400, no_keyframes), None);
    }

    #[test]
    fn decoding_buffered_frames_is_no_silence() {
        // Frames arrive, then for four seconds only buffered ones are decoded, then they arrive again.
        let catching_up = |tick: u64| {
            let received = if (50..90).contains(&tick) { 50 } else { tick };
            Counts { received, sent: tick, decoded: tick }
        };
        assert_eq!(run(&network(), 20, catching_up), None);
    }

    /// A camera whose rate changes: `intervals` of ticks of 0.1 s between its frames, one after the other.
    fn varies(intervals: &[u64]) -> Option<f64> {
        let network = network();
        let mut watchdog = Watchdog::new(&network, Duration::ZERO);
        let (mut tick, mut count) = (0, 0);
        for &interval in intervals {
            for silent in 1..=interval {
                tick += 1;
                let now = INTERVAL * tick;
                if silent == interval {
                    count += 1;
                    watchdog.note_interval(now, INTERVAL * interval as u32);
                }
                if watchdog.check(now, all(count)).is_err() {
                    return Some(f64::from(tick) / 10.0);
                }
            }
        }
        None
    }

    #[test]
    fn a_rate_that_changes_is_no_stall() {
        let runs = |parts: &[(u64, usize)]| -> Vec<u64> {
            parts.iter().flat_map(|&(interval, count)| std::iter::repeat_n(interval, count)).collect()
        };
        // 10 frames per second, then one every four seconds, and back; and ever slower.
        assert_eq!(varies(&runs(&[(1, 3000), (40, 20), (1, 300), (40, 5)])), None);
        assert_eq!(varies(&runs(&[(1, 9000), (20, 5), (45, 5), (120, 5)])), None);
        // What it did long ago does not count.
        let stalls = runs(&[(1, 100), (40, 2), (100, 1)]);
        assert_eq!(varies(&stalls), None);
        let stalls = runs(&[(1, 100), (40, 2), (1, 7000), (100, 1)]);
        assert_eq!(varies(&stalls), Some(723.1));
    }
}
