//! Reconnecting to the brokers: which one to try next, after which delay, and which failures to log. Pure.
//!
//! A failure is logged once, not at every attempt. Times are monotonic.

use crate::backoff::{Backoff, BackoffPolicy};
use std::time::Duration;

const BACKOFF: BackoffPolicy = BackoffPolicy {
    first: Duration::from_millis(500),
    // Not 2.0, because the delays would be too long for a cluster that needs ten seconds to elect a leader.
    growth: 1.6,
    max: Duration::from_secs(30),
    // A thousand devices must not reconnect at the same time.
    jitter: 0.3,
    healthy_run: Duration::from_secs(10),
};
/// Delay after a refused connection. The broker will refuse again until a person changes something.
const REFUSED_DELAY: Duration = Duration::from_secs(30);
/// Delay before the next of several brokers is tried.
const NEXT_BROKER_DELAY: Duration = Duration::from_millis(50);
/// From this many short-lived connections in a row on, their failures are treated as one. The probable cause
/// is another client with the same id: a broker closes the older of two such connections.
const MAX_SHORT_LIVED: u32 = 3;

/// Decides when to connect to which broker, and logs why a broker is away.
pub struct Reconnect {
    brokers: usize,
    client_id: String,
    backoff: Backoff,
    /// The last failure that was logged, until a healthy connection.
    logged: Option<String>,
    /// Failures in a row, without a healthy connection in between.
    failures: u32,
    /// Index of the broker to try.
    current: usize,
    /// When the connection was established, while there is one.
    connected_since: Option<Duration>,
    /// Connections in a row that were established and did not last.
    short_lived: u32,
    /// Whether the last failure was the end of such a connection.
    was_short_lived: bool,
}

impl Reconnect {
    /// Creates the state before the first attempt, for a number of brokers. `seed` determines the jitter.
    pub fn new(brokers: usize, client_id: &str, seed: u64) -> Reconnect {
        Reconnect {
            brokers,
            client_id: client_id.to_string(),
            backoff: Backoff::new(BACKOFF, seed),
            logged: None,
            failures: 0,
            current: 0,
            connected_since: None,
            short_lived: 0,
            was_short_lived: false,
        }
    }

    /// Index of the broker to try.
    pub fn broker(&self) -> usize {
        self.current
    }

    /// Logs that `broker` is away, unless the same failure is already logged. With several brokers, only the
    /// first failure is logged.
    pub fn log_failure(&mut self, broker: &str, why: &str) {
        let with_hint = format!("{why}; does another client have the id {:?}?", self.client_id);
        let why = if self.was_short_lived && self.short_lived >= MAX_SHORT_LIVED { &with_hint } else { why };
        let failure = format!("{broker}: {why}");
        if self.logged.as_deref() != Some(&failure) && !(self.brokers > 1 && self.logged.is_some()) {
            tracing::warn!(broker, error = why, "Broker is away; retrying.");
            self.logged = Some(failure);
        }
    }

    /// Records that the connection is established. Returns whether to log it: no after several short-lived
    /// connections, until this one has proved healthy ([`Reconnect::has_recovered`]).
    pub fn connected(&mut self, now: Duration) -> bool {
        self.connected_since = Some(now);
        self.short_lived < MAX_SHORT_LIVED
    }

    /// Resets the failures once the connection is healthy. Returns whether to log now that the broker is
    /// connected, because [`Reconnect::connected`] returned false.
    pub fn has_recovered(&mut self, now: Duration) -> bool {
        if self.failures == 0 || !self.connected_since.is_some_and(|since| self.record_run(since, now)) {
            return false;
        }
        let is_unlogged = self.short_lived >= MAX_SHORT_LIVED;
        self.reset();
        is_unlogged
    }

    /// Records a failure, selects the next broker and returns the delay before it is tried. `refused`:
    /// whether the broker refused the connection.
    pub fn failed(&mut self, refused: bool, now: Duration) -> Duration {
        self.was_short_lived = false;
        if let Some(since) = self.connected_since.take() {
            if self.record_run(since, now) {
                self.reset();
                self.logged = None;
            } else {
                self.short_lived += 1;
                self.was_short_lived = true;
                // The connection was logged, so its end has to be logged too.
                if self.short_lived < MAX_SHORT_LIVED {
                    self.logged = None;
                }
            }
        }
        self.current = (self.current + 1) % self.brokers;
        self.failures += 1;
        // Another broker may be available, so all are tried before any backoff.
        if !(self.failures as usize).is_multiple_of(self.brokers) {
            return NEXT_BROKER_DELAY;
        }
        if refused { self.backoff.fixed_delay(REFUSED_DELAY) } else { self.backoff.next_delay() }
    }

    /// Records a connection established at `since`. Returns whether it is healthy, which also resets the
    /// backoff.
    fn record_run(&mut self, since: Duration, now: Duration) -> bool {
        self.backoff.record_run(now.saturating_sub(since))
    }

    fn reset(&mut self) {
        (self.failures, self.short_lived) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEALTHY: Duration = BACKOFF.healthy_run;

    fn is_about(delay: Duration, max_ms: u64) -> bool {
        let max = Duration::from_millis(max_ms);
        (max.mul_f64(1.0 - BACKOFF.jitter)..=max + Duration::from_millis(1)).contains(&delay)
    }

    #[test]
    fn short_lived_connections_are_one_failure_with_growing_delays() {
        let mut reconnect = Reconnect::new(1, "c", 1);
        let mut now = Duration::from_secs(100);
        let mut logged = 0;
        for max_ms in [500, 800, 1280, 2048, 3277, 5243, 8389, 13422, 21475, 30000, 30000] {
            logged += u32::from(reconnect.connected(now));
            now += Duration::from_secs(1);
            assert!(is_about(reconnect.failed(false, now), max_ms));
        }
        assert_eq!(logged, MAX_SHORT_LIVED);
        // The next connection is healthy, which is logged once it is known.
        assert!(!reconnect.connected(now) && !reconnect.has_recovered(now + Duration::from_secs(9)));
        assert!(reconnect.has_recovered(now + HEALTHY) && !reconnect.has_recovered(now + 2 * HEALTHY));
        assert!(is_about(reconnect.failed(false, now + 3 * HEALTHY), 500));
    }

    #[test]
    fn all_brokers_are_tried_before_a_backoff() {
        let mut reconnect = Reconnect::new(3, "c", 1);
        let now = Duration::ZERO;
        let mut tried = Vec::new();
        for _ in 0..2 {
            for is_last in [false, false, true] {
                tried.push(reconnect.broker());
                let delay = reconnect.failed(false, now);
                assert_eq!(delay > NEXT_BROKER_DELAY, is_last);
            }
        }
        assert_eq!(tried, [0, 1, 2, 0, 1, 2]);
        for _ in 0..2 {
            reconnect.failed(true, now);
        }
        assert!(is_about(reconnect.failed(true, now), 30_000), "refused");
    }
}
