//! Time, injected: nothing else in camfire asks the system what time it is.
//!
//! Two clocks that must not be mixed: [`Clock::now`] is the time of day that subscribers read and that may jump;
//! [`Clock::monotonic`] counts from the start of the process and is the only one that durations are taken from.

use crate::{lifecycle, sync::lock};
use jiff::Timestamp;
use std::{
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// Where a stage gets its time from.
pub trait Clock: Send + Sync {
    /// Time of day, UTC.
    fn now(&self) -> Timestamp;

    /// Time since the clock was made; never goes back.
    fn monotonic(&self) -> Duration;

    /// Whether the time of day keeps to a time server; `None` where that is not known.
    fn is_synchronised(&self) -> Option<bool>;
}

/// The machine's own clock.
pub struct SystemClock {
    started: Instant,
    synchronised: Arc<Mutex<Synchronised>>,
}

/// What was last found out, and when.
type Synchronised = (Option<bool>, Option<Instant>);

/// Between two looks: finding out may take a program to be run.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// systemd-timesyncd makes this file when it has set the clock.
const TIMESYNC_MARK: &str = "/run/systemd/timesync/synchronized";

impl SystemClock {
    /// A clock whose monotonic time starts now.
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
        if known.1.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
            known.1 = Some(Instant::now());
            // Whoever asks gets what is known and does not wait: a bus that hangs must not hang a worker.
            let shared = self.synchronised.clone();
            let look = move || {
                let found = look_for_synchronisation();
                lock(&shared).0 = found;
            };
            drop(lifecycle::spawn_helper("clock-look", look));
        }
        known.0
    }
}

/// Whether the time of day keeps to a time server, asked now and with patience: by timesyncd's mark, or by
/// what systemd knows of the kernel's clock, whoever sets it. `None` where nobody knows.
pub fn look_for_synchronisation() -> Option<bool> {
    if Path::new(TIMESYNC_MARK).exists() {
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

/// The clock of a recording that is looked at by itself: it was opened at the beginning of 1970, so that its own time reads
/// like a time of day, the same on every run.
pub struct RecordingClock(SystemClock);

impl RecordingClock {
    /// A clock whose monotonic time starts now.
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

/// A clock that moves when a test says so.
#[cfg(test)]
pub struct SimulatedClock {
    started: Timestamp,
    elapsed: Mutex<Duration>,
}

#[cfg(test)]
impl SimulatedClock {
    /// Starts at 2026-01-01T00:00:00Z.
    pub fn new() -> SimulatedClock {
        let started = "2026-01-01T00:00:00Z".parse().expect("a valid time");
        SimulatedClock { started, elapsed: Mutex::new(Duration::ZERO) }
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

    fn is_synchronised(&self) -> Option<bool> {
        Some(true)
    }
}
