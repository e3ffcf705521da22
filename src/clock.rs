//! Time, injected: nothing else in camfire asks the system what time it is.
//!
//! Two clocks that must not be mixed: [`Clock::now`] is the time of day that subscribers read and that may jump;
//! [`Clock::monotonic`] counts from the start of the process and is the only one that durations are taken from.

use jiff::Timestamp;
use std::time::{Duration, Instant};

/// Where a stage gets its time from.
pub trait Clock: Send + Sync {
    /// Time of day, UTC.
    fn now(&self) -> Timestamp;

    /// Time since the clock was made; never goes back.
    fn monotonic(&self) -> Duration;
}

/// The machine's own clock.
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    pub fn new() -> SystemClock {
        SystemClock { started: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// A clock that moves when a test says so.
#[cfg(test)]
pub struct SimulatedClock {
    started: Timestamp,
    elapsed: std::sync::Mutex<Duration>,
}

#[cfg(test)]
impl SimulatedClock {
    /// Starts at 2026-01-01T00:00:00Z.
    pub fn new() -> SimulatedClock {
        let started = "2026-01-01T00:00:00Z".parse().expect("a valid time");
        SimulatedClock { started, elapsed: std::sync::Mutex::new(Duration::ZERO) }
    }

    /// Lets `by` pass.
    pub fn advance(&self, by: Duration) {
        *self.elapsed.lock().expect("no test panics here") += by;
    }
}

#[cfg(test)]
impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        self.started + self.monotonic()
    }

    fn monotonic(&self) -> Duration {
        *self.elapsed.lock().expect("no test panics here")
    }
}
