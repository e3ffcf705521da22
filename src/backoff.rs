//! Exponential backoff with jitter: the growing delay between two attempts to reach a camera or a broker.
//! Pure.
//!
//! The users decide what counts as a failure and set the parameters in a [`BackoffPolicy`]. Jitter only
//! shortens a delay, so that devices that were disconnected by a common cause do not reconnect at the same
//! time.

use std::time::Duration;

/// From this many failures in a row on, the delay no longer grows, whatever the policy. Keeps it finite.
const MAX_EXPONENT: u32 = 16;

/// The parameters of a [`Backoff`].
#[derive(Debug, Clone, Copy)]
pub struct BackoffPolicy {
    /// Delay after the first failure, before jitter.
    pub first: Duration,
    /// Factor from one delay to the next.
    pub growth: f64,
    /// Maximum delay.
    pub max: Duration,
    /// The largest part of a delay by which it is shortened at random, from 0 to 1.
    pub jitter: f64,
    /// Minimum duration of a run after which the delay starts at `first` again. A run is the time between an
    /// attempt that succeeded and the next failure.
    pub healthy_run: Duration,
}

/// The delays between attempts that fail in a row.
#[derive(Debug)]
pub struct Backoff {
    policy: BackoffPolicy,
    /// Failures since the last reset.
    failures: u32,
    random: fastrand::Rng,
}

impl Backoff {
    /// Creates a backoff without failures. `seed` determines the jitter.
    pub fn new(policy: BackoffPolicy, seed: u64) -> Backoff {
        Backoff { policy, failures: 0, random: fastrand::Rng::with_seed(seed) }
    }

    /// Records that a run of this length has ended, or has lasted this long. Returns whether it was healthy;
    /// if so, the growth is reset.
    pub fn record_run(&mut self, length: Duration) -> bool {
        let is_healthy = length >= self.policy.healthy_run;
        if is_healthy {
            self.failures = 0;
        }
        is_healthy
    }

    /// Records a failure and returns the delay before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        let BackoffPolicy { first, growth, max, .. } = self.policy;
        let exponent = self.failures.min(MAX_EXPONENT) as i32;
        self.fixed_delay(first.mul_f64(growth.powi(exponent)).min(max))
    }

    /// Records a failure whose delay does not depend on the failures before it. Returns `delay` with jitter.
    pub fn fixed_delay(&mut self, delay: Duration) -> Duration {
        self.failures = self.failures.saturating_add(1);
        delay.mul_f64(1.0 - self.policy.jitter * self.random.f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: BackoffPolicy = BackoffPolicy {
        first: Duration::from_secs(1),
        growth: 3.0,
        max: Duration::from_secs(20),
        jitter: 0.25,
        healthy_run: Duration::from_secs(60),
    };

    /// Whether `delay` is `max_s` seconds, shortened by the jitter at most.
    fn is_about(delay: Duration, max_s: f64) -> bool {
        (0.75 * max_s..=max_s).contains(&delay.as_secs_f64())
    }

    #[test]
    fn delays_grow_up_to_the_maximum_and_a_healthy_run_resets_them() {
        let mut backoff = Backoff::new(POLICY, 7);
        for max_s in [1.0, 3.0, 9.0, 20.0, 20.0] {
            assert!(is_about(backoff.next_delay(), max_s));
        }
        assert!(!backoff.record_run(Duration::from_secs(59)));
        assert!(is_about(backoff.next_delay(), 20.0));
        assert!(backoff.record_run(Duration::from_secs(60)));
        assert!(is_about(backoff.next_delay(), 1.0));
    }

    #[test]
    fn a_fixed_delay_counts_as_a_failure() {
        let mut backoff = Backoff::new(POLICY, 7);
        assert!(is_about(backoff.fixed_delay(Duration::from_secs(40)), 40.0));
        assert!(is_about(backoff.next_delay(), 3.0));
    }

    #[test]
    fn many_failures_do_not_overflow() {
        let mut backoff = Backoff::new(BackoffPolicy { max: Duration::MAX, ..POLICY }, 7);
        let delays: Vec<Duration> = (0..100).map(|_| backoff.next_delay()).collect();
        assert!(is_about(delays[99], 3f64.powi(16)));
    }

    #[test]
    fn the_seed_determines_the_jitter() {
        let first = |seed| Backoff::new(POLICY, seed).next_delay();
        assert_eq!(first(1), first(1));
        assert_ne!(first(1), first(2));
    }
}
