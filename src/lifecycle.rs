//! Stopping stages and detecting that they hang.
//!
//! The daemon stops its stages by dropping the [`StopTrigger`], which wakes every stage that waits on a
//! [`StopSignal`]. A stage updates its [`Heartbeat`] on every iteration of its loop; the systemd watchdog is
//! notified only while [`Heartbeats::hung`] returns none.
//!
//! A helper ([`spawn_helper`]) is a thread for a call that
//! may hang.

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Niceness of background work. With it, a thread gets a third of what another one gets of a busy core:
/// somebody waits for the result, and workers have no time to lose.
const BACKGROUND_NICENESS: i32 = 5;

/// Stops all stages that hold the [`StopSignal`] when it is dropped.
pub struct StopTrigger(#[expect(dead_code, reason = "dropping it closes the channel")] Sender<()>);

/// Signals a stage to stop.
#[derive(Clone)]
pub struct StopSignal(Receiver<()>);

/// Creates a trigger and its signal.
pub fn stop_signal() -> (StopTrigger, StopSignal) {
    let (sender, receiver) = crossbeam_channel::bounded(0);
    (StopTrigger(sender), StopSignal(receiver))
}

impl StopSignal {
    /// Whether the stage should stop.
    pub fn is_triggered(&self) -> bool {
        self.wait(Duration::ZERO)
    }

    /// Sleeps for `pause`. Returns true at once if the stage should stop.
    pub fn wait(&self, pause: Duration) -> bool {
        matches!(self.0.recv_timeout(pause), Err(RecvTimeoutError::Disconnected))
    }
}

/// The time of the last iteration of a stage's loop.
#[derive(Clone)]
pub struct Heartbeat {
    /// Name of the stage's thread, for messages.
    name: Arc<str>,
    /// Time of the last iteration in milliseconds of the monotonic clock.
    last_beat_ms: Arc<AtomicU64>,
}

impl Heartbeat {
    /// Creates a heartbeat with its first beat at `now`.
    pub fn new(name: &str, now: Duration) -> Heartbeat {
        let heartbeat = Heartbeat { name: name.into(), last_beat_ms: Arc::default() };
        heartbeat.beat(now);
        heartbeat
    }

    /// Records an iteration at `now`.
    pub fn beat(&self, now: Duration) {
        self.last_beat_ms.store(now.as_millis() as u64, Ordering::Relaxed);
    }
}

/// Starts a thread that is never joined, for a call that may never return and must not block a stage.
///
/// Errors: the system cannot start a thread.
pub fn spawn_helper(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name.to_string()).spawn(work).map(drop)
}

/// Like [`spawn_helper`], for work that takes long and gives way to all other threads.
///
/// Errors: the system cannot start a thread.
pub fn spawn_background(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    spawn_helper(name, move || {
        // Linux has a niceness for each thread. Without it the work is done all the same.
        let thread = rustix::thread::gettid();
        let _ = rustix::process::setpriority_process(Some(thread), BACKGROUND_NICENESS);
        work();
    })
}

/// The heartbeats of all running stages. Cheap to clone; all clones are of the same list.
#[derive(Clone, Default)]
pub struct Heartbeats(Arc<Mutex<Vec<Heartbeat>>>);

impl Heartbeats {
    /// Creates the heartbeat of a stage that starts, with its first beat at `now`.
    pub fn add(&self, name: &str, now: Duration) -> Heartbeat {
        let heartbeat = Heartbeat::new(name, now);
        self.lock().push(heartbeat.clone());
        heartbeat
    }

    /// Forgets a stage that has ended. One that ends by itself, as in a panic, is not forgotten: it hangs.
    pub fn remove(&self, heartbeat: &Heartbeat) {
        self.lock().retain(|other| !Arc::ptr_eq(&other.last_beat_ms, &heartbeat.last_beat_ms));
    }

    /// Returns the names of the stages whose last heartbeat is older than `timeout`.
    ///
    /// A stage's loop iterates while frames flow, while it waits for an unreachable camera or broker, and
    /// while it is idle. If it hangs, only a restart of the process helps.
    pub fn hung(&self, now: Duration, timeout: Duration) -> Vec<String> {
        self.ages(now).into_iter().filter(|(_, age)| *age > timeout).map(|(name, _)| name).collect()
    }

    /// The names of all stages, with the time since their last heartbeat.
    pub fn ages(&self, now: Duration) -> Vec<(String, Duration)> {
        let age = |heartbeat: &Heartbeat| {
            let beat = Duration::from_millis(heartbeat.last_beat_ms.load(Ordering::Relaxed));
            (heartbeat.name.to_string(), now.saturating_sub(beat))
        };
        self.lock().iter().map(age).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Heartbeat>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_when_the_trigger_is_dropped() {
        let (trigger, stop) = stop_signal();
        assert!(!stop.is_triggered());
        assert!(!stop.wait(Duration::from_millis(1)));
        drop(trigger);
        assert!(stop.is_triggered());
        assert!(stop.wait(Duration::from_secs(60)));
    }

    #[test]
    fn only_a_stage_without_heartbeats_is_hung() {
        let seconds = Duration::from_secs;
        let heartbeats = Heartbeats::default();
        let camera = heartbeats.add("camera-yard", seconds(0));
        let publish = heartbeats.add("publish", seconds(0));
        camera.beat(seconds(8));
        publish.beat(seconds(20));
        assert_eq!(heartbeats.hung(seconds(18), seconds(10)), [""; 0]);
        assert_eq!(heartbeats.hung(seconds(19), seconds(10)), ["camera-yard"]);
        heartbeats.clone().remove(&camera);
        assert_eq!(heartbeats.hung(seconds(19), seconds(10)), [""; 0]);
    }
}
