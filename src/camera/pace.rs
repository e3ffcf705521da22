//! How often: the frames that are due, and the pauses between two attempts at a camera that failed. Pure.

use std::time::Duration;

/// Lets at most so many frames a second through, by the stream's own time.
#[derive(Debug)]
pub struct RateLimit {
    interval: Duration,
    next_due: Duration,
}

impl RateLimit {
    /// At most `fps` frames a second.
    pub fn new(fps: f64) -> RateLimit {
        RateLimit { interval: Duration::from_secs_f64(1.0 / fps), next_due: Duration::ZERO }
    }

    /// Whether the frame at `stream_time` is due.
    ///
    /// Keeps to the grid, so that 5 of 12 frames a second are really 5; starts anew after a gap or a jump back.
    pub fn is_due(&mut self, stream_time: Duration) -> bool {
        // Time stamps are rounded: a frame half a millisecond before its time is on time.
        let slack = Duration::from_micros(500);
        if stream_time + slack + self.interval * 2 < self.next_due {
            self.next_due = stream_time;
        }
        if stream_time + slack < self.next_due {
            return false;
        }
        let behind = stream_time.saturating_sub(self.next_due);
        self.next_due = if behind >= self.interval { stream_time } else { self.next_due } + self.interval;
        true
    }
}

/// The pauses between attempts: short after a good run, longer and longer after failures in a row.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

/// Long enough a run that the next failure is a new story. By time, not by frames: a camera that gives fifty frames
/// and dies, again and again, must not be asked ever faster.
const GOOD_RUN: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// For failures that only a person can end; asked again all the same, for they do.
const SLOW_PAUSE: Duration = Duration::from_secs(30);

impl Backoff {
    /// How long to wait after a run that streamed for `streamed` and ended in a failure.
    pub fn pause(&mut self, streamed: Duration, for_good: bool) -> Duration {
        if streamed >= GOOD_RUN {
            self.failures = 0;
        }
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16));
        self.failures += 1;
        if for_good { SLOW_PAUSE } else { doubled.min(LONGEST_PAUSE) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(fps: f64, times_ms: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let mut limit = RateLimit::new(fps);
        times_ms.into_iter().filter(|&ms| limit.is_due(Duration::from_millis(ms))).collect()
    }

    #[test]
    fn five_of_twelve_frames_a_second_are_five() {
        let frames = (0..120).map(|i| i * 1000 / 12);
        assert_eq!(due(5.0, frames).len(), 50);
    }

    #[test]
    fn a_slower_stream_passes_whole() {
        assert_eq!(due(5.0, [0, 500, 1000, 1500]), [0, 500, 1000, 1500]);
        // At the camera's own rate, with time stamps that jitter.
        assert_eq!(due(10.0, [0, 100, 200, 300, 400]).len(), 5);
    }

    #[test]
    fn a_gap_is_not_made_up_for_and_a_jump_back_starts_anew() {
        assert_eq!(due(5.0, [0, 5000, 5040, 5080, 5200]), [0, 5000, 5200]);
        assert_eq!(due(5.0, [9000, 9100, 0, 100, 200]), [9000, 0, 200]);
    }

    #[test]
    fn pauses_grow_and_a_good_run_ends_the_growth() {
        let mut backoff = Backoff::default();
        let pauses: Vec<f64> = (0..7).map(|_| backoff.pause(Duration::ZERO, false).as_secs_f64()).collect();
        assert_eq!(pauses, [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0]);
        assert_eq!(backoff.pause(Duration::from_secs(9), false), LONGEST_PAUSE);
        assert_eq!(backoff.pause(Duration::from_secs(10), false), FIRST_PAUSE);
        assert_eq!(backoff.pause(Duration::ZERO, true), SLOW_PAUSE);
    }
}
