//! The injected clock: no other code in camfire reads the system's time.
//!
//! Two kinds of time must not be mixed: [`Clock::now`] is the time of day in messages, which may jump;
//! [`Clock::monotonic`] counts from the start of the process and is the only source of durations.

use crate::{lifecycle, sync::lock};
use jiff::Timestamp;
use std::{
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// A source of time for the stages.
pub trait Clock: Send + Sync {
    /// Time of day, UTC.
    fn now(&self) -> Timestamp;

    /// Time since the clock was created. Never goes back.
    fn monotonic(&self) -> Duration;

    /// Whether the time of day is synchronised with a time server, or None if that is not known.
    fn is_synchronised(&self) -> Option<bool>;
}

/// The system's clock.
pub struct SystemClock {
    started: Instant,
    synchronised: Arc<Mutex<Synchronised>>,
}

/// The last known state, and when it was last queried.
type Synchronised = (Option<bool>, Option<Instant>);

/// Minimum time between two queries, because a query may run a program.
const QUERY_INTERVAL: Duration = Duration::from_secs(60);
/// systemd-timesyncd creates this file when it has set the clock.
const TIMESYNC_FILE: &str = "/run/systemd/timesync/synchronized";

impl SystemClock {
    /// Creates a clock whose monotonic time starts now.
    pub fn new() -> SystemClock {
        SystemClock { started: Instant::now(), synchronised: Arc::default() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    fn is_synchronised(&self) -> Option<bool> {
        let mut known = lock(&self.synchronised);
        if known.1.is_none_or(|at| at.elapsed() >= QUERY_INTERVAL) {
            known.1 = Some(Instant::now());
            // The caller gets the last known state without waiting: a hanging D-Bus must not block a worker.
            let shared = self.synchronised.clone();
            let query = move || {
                let state = query_synchronised();
                lock(&shared).0 = state;
            };
            drop(lifecycle::spawn_helper("clock-sync", query));
        }
        known.0
    }
}

/// Queries whether the time of day is synchronised with a time server, or returns None if that is not known.
///
/// May block. The answer comes from timesyncd's file or from systemd, which reports the state of the kernel's
/// clock regardless of which program sets it.
pub fn query_synchronised() -> Option<bool> {
    if Path::new(TIMESYNC_FILE).exists() {
        return Some(true);
    }
    let output =
        Command::new("timedatectl").args(["show", "-p", "NTPSynchronized", "--value"]).output().ok()?;
    match output.stdout.trim_ascii() {
        b"yes" => Some(true),
        b"no" => Some(false),
        _ => None,
    }
}

/// The clock for analysing a recording: the time of day is always the beginning of 1970, so that times are
/// the recording's own and the same on every run.
pub struct RecordingClock(SystemClock);

impl RecordingClock {
    /// Creates a clock whose monotonic time starts now.
    pub fn new() -> RecordingClock {
        RecordingClock(SystemClock::new())
    }
}

impl Clock for RecordingClock {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }

    fn is_synchronised(&self) -> Option<bool> {
        None
    }
}

/// A clock that only advances when a test calls [`SimulatedClock::advance`].
#[cfg(test)]
pub struct SimulatedClock {
    started: Timestamp,
    elapsed: Mutex<Duration>,
}

#[cfg(test)]
impl SimulatedClock {
    /// Creates a clock at 2026-01-01T00:00:00Z.
    pub fn new() -> SimulatedClock {
        let started = "2026-01-01T00:00:00Z".parse().expect("a valid time");
        SimulatedClock { started, elapsed: Mutex::new(Duration::ZERO) }
    }

    /// Advances the clock by `by`.
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

    fn is_synchronised(&self) -> Option<bool> {
        Some(true)
    }
}
