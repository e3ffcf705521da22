//! Rate limiting by stream time, and the backoff between attempts at a camera that failed. Pure.

use super::FailureKind as Trouble;
use std::time::Duration;

/// Limits a stream to a number of frames per second of stream time.
#[derive(Debug)]
pub struct RateLimit {
    interval: Duration,
    next_due: Duration,
}

impl RateLimit {
    /// Creates a limit of `fps` frames per second.
    pub fn new(fps: f64) -> RateLimit {
        RateLimit { interval: Duration::from_secs_f64(1.0 / fps), next_due: Duration::ZERO }
    }

    /// Changes the limit to `fps` frames per second.
    pub fn set_fps(&mut self, fps: f64) {
        *self = RateLimit { next_due: self.next_due.saturating_sub(self.interval), ..RateLimit::new(fps) };
    }

    /// Whether the frame of `stream_time` is due.
    ///
    /// Due times form a grid, so that 5 of 12 frames per second are really 5. The grid starts again after a
    /// gap or a jump backwards.
    pub fn is_due(&mut self, stream_time: Duration) -> bool {
        // Timestamps are rounded: a frame half a millisecond before its due time is on time.
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

/// The pauses between attempts: short after a good run, longer and longer after failures in a row, and never
/// the same for two cameras, which a common switch may have taken down together.
#[derive(Debug)]
pub struct Backoff {
    longest: Duration,
    failures: u32,
    random: fastrand::Rng,
}

/// Long enough a run that the next failure is a new story. By time, not by frames: a camera that gives fifty frames
/// and dies, again and again, must not be asked ever faster.
const GOOD_RUN: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// For what only a person can mend; asked again all the same, for they do.
const UNSUPPORTED_PAUSE: Duration = Duration::from_secs(30);
/// Cameras lock counts after some wrong passwords.
const DENIED_PAUSE: Duration = Duration::from_secs(60);
/// How much shorter a pause may be.
const JITTER: f64 = 0.2;

impl Backoff {
    /// Before the first failure.
    pub fn new(longest: Duration, seed: u64) -> Backoff {
        Backoff { longest, failures: 0, random: fastrand::Rng::with_seed(seed) }
    }

    /// How long to wait after a run that streamed for `streamed` and ended in a failure.
    pub fn pause(&mut self, streamed: Duration, trouble: Trouble) -> Duration {
        if streamed >= GOOD_RUN {
            self.failures = 0;
        }
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16));
        self.failures += 1;
        let pause = match trouble {
            Trouble::Denied => DENIED_PAUSE,
            Trouble::Unsupported => UNSUPPORTED_PAUSE.max(self.longest),
            _ => doubled.min(self.longest),
        };
        pause.mul_f64(1.0 - JITTER * self.random.f64())
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
    fn five_of_twelve_frames_per_second_are_five() {
        let frames = (0..120).map(|i| i * 1000 / 12);
        assert_eq!(due(5.0, frames).len(), 50);
    }

    #[test]
    fn a_slower_stream_passes_unchanged() {
        assert_eq!(due(5.0, [0, 500, 1000, 1500]), [0, 500, 1000, 1500]);
        // At the camera's own rate.
        assert_eq!(due(10.0, [0, 100, 200, 300, 400]).len(), 5);
    }

    #[test]
    fn the_grid_starts_again_after_a_gap_or_a_jump_backwards() {
        assert_eq!(due(5.0, [0, 5000, 5040, 5080, 5200]), [0, 5000, 5200]);
        assert_eq!(due(5.0, [9000, 9100, 0, 100, 200]), [9000, 0, 200]);
    }

    #[test]
    fn pauses_grow_and_a_healthy_minute_ends_the_growth() {
        let mut backoff = Backoff::new(Duration::from_secs(30), 7);
        let mut pause =
            |streamed, trouble| backoff.pause(Duration::from_secs(streamed), trouble).as_secs_f64();
        for longest in [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] {
            let pause = pause(0, Trouble::Unreachable);
            assert!((0.8 * longest..=longest).contains(&pause), "{pause} of {longest}");
        }
        assert!(pause(59, Trouble::Stalled) >= 24.0);
        assert!(pause(60, Trouble::Stalled) <= 0.5);
        assert!(pause(0, Trouble::Denied) >= 48.0);
        assert!(pause(0, Trouble::Unsupported) >= 24.0);
    }

    #[test]
    fn two_cameras_do_not_come_back_in_step() {
        let pauses =
            |seed| Backoff::new(Duration::from_secs(30), seed).pause(Duration::ZERO, Trouble::Unreachable);
        assert_ne!(pauses(1), pauses(2));
    }
}
