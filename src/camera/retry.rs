//! The delay before a camera that failed is opened again. Pure.

use super::FailureKind;
use crate::backoff::{Backoff, BackoffPolicy};
use std::time::Duration;

/// Delay for failures that only a person can fix. The camera is opened again because it may have been fixed
/// meanwhile.
const UNSUPPORTED_DELAY: Duration = Duration::from_secs(30);
/// Delay after a rejected password. It is long, because cameras lock accounts after some wrong passwords.
const DENIED_DELAY: Duration = Duration::from_secs(60);

/// Pipelines of one camera that may hang before it is given up for a while.
pub const MAX_HANGING_PIPELINES: u64 = 3;
/// Delay of a camera with that many. It doubles with each further one.
const HANGING_DELAY: Duration = Duration::from_secs(5 * 60);
/// The longest such delay.
const MAX_HANGING_DELAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The delay after which a camera is opened although so many of its pipelines still hang, if none of them
/// stops before. Each attempt may leave one more of them, so the delay grows until they cannot fill the
/// memory.
pub fn delay_while_hanging(pipelines: u64) -> Duration {
    let doublings = pipelines.saturating_sub(MAX_HANGING_PIPELINES).min(16) as u32;
    (HANGING_DELAY * 2u32.pow(doublings)).min(MAX_HANGING_DELAY)
}

/// The delays between attempts to open one camera.
#[derive(Debug)]
pub struct RetryDelay {
    backoff: Backoff,
    max_backoff: Duration,
}

impl RetryDelay {
    /// Creates the delays of a camera that has not failed yet. `seed` determines the jitter.
    pub fn new(max_backoff: Duration, seed: u64) -> RetryDelay {
        let policy = BackoffPolicy {
            first: Duration::from_millis(500),
            growth: 2.0,
            max: max_backoff,
            // Several cameras may fail together, for example those behind one switch.
            jitter: 0.2,
            // Measured in time, not in frames: a camera that repeatedly delivers fifty frames and fails must
            // not be opened ever faster.
            healthy_run: Duration::from_secs(60),
        };
        RetryDelay { backoff: Backoff::new(policy, seed), max_backoff }
    }

    /// Returns the delay after an attempt that delivered frames for `streamed` and then failed.
    pub fn after(&mut self, streamed: Duration, kind: FailureKind) -> Duration {
        self.backoff.record_run(streamed);
        match kind {
            FailureKind::Denied => self.backoff.fixed_delay(DENIED_DELAY),
            FailureKind::Unsupported => self.backoff.fixed_delay(UNSUPPORTED_DELAY.max(self.max_backoff)),
            _ => self.backoff.next_delay(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_and_a_healthy_minute_resets_them() {
        let mut retry = RetryDelay::new(Duration::from_secs(30), 7);
        let mut delay = |streamed, kind| retry.after(Duration::from_secs(streamed), kind).as_secs_f64();
        for max in [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] {
            let delay = delay(0, FailureKind::Unreachable);
            assert!((0.8 * max..=max).contains(&delay), "{delay} of {max}");
        }
        assert!(delay(59, FailureKind::Stalled) >= 24.0);
        assert!(delay(60, FailureKind::Stalled) <= 0.5);
        assert!(delay(0, FailureKind::Denied) >= 48.0);
        assert!(delay(0, FailureKind::Unsupported) >= 24.0);
    }

    #[test]
    fn a_camera_whose_pipelines_hang_is_tried_again_ever_later() {
        let minutes = |pipelines| delay_while_hanging(pipelines).as_secs() / 60;
        assert_eq!([3, 4, 5, 6].map(minutes), [5, 10, 20, 40]);
        assert_eq!(minutes(u64::MAX), 24 * 60);
    }

    #[test]
    fn two_cameras_do_not_retry_at_the_same_time() {
        let delay = |seed| {
            RetryDelay::new(Duration::from_secs(30), seed).after(Duration::ZERO, FailureKind::Unreachable)
        };
        assert_ne!(delay(1), delay(2));
    }
}
