//! Starting, stopping and proof of life.
//!
//! [`Stop`] is how every stage learns that it is time to go: the daemon drops the [`Stopper`] and whoever waits wakes.
//! [`Heartbeat`] is a stage's proof that its loop still turns; [`stuck`] is what the watchdog asks before it is fed. A helper
//! ([`spawn_helper`]) is a thread for a call that may hang.

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Dropping it tells every [`Stop`] that it is time.
pub struct Stopper(#[expect(dead_code, reason = "dropping it is its use")] Sender<()>);

/// Tells whether it is time to stop.
#[derive(Clone)]
pub struct Stop(Receiver<()>);

/// A pair of them.
pub fn stop_pair() -> (Stopper, Stop) {
    let (sender, receiver) = crossbeam_channel::bounded(0);
    (Stopper(sender), Stop(receiver))
}

impl Stop {
    /// Whether it is time.
    pub fn is_time(&self) -> bool {
        self.wait(Duration::ZERO)
    }

    /// Sleeps for `pause`, or until it is time: then true.
    pub fn wait(&self, pause: Duration) -> bool {
        matches!(self.0.recv_timeout(pause), Err(RecvTimeoutError::Disconnected))
    }
}

/// A stage's heartbeat: when its loop last turned.
#[derive(Clone)]
pub struct Heartbeat {
    /// The stage's thread, for messages.
    name: Arc<str>,
    /// Milliseconds of the monotonic clock.
    last_beat_ms: Arc<AtomicU64>,
}

impl Heartbeat {
    /// Alive from `now` on.
    pub fn new(name: &str, now: Duration) -> Heartbeat {
        let heartbeat = Heartbeat { name: name.into(), last_beat_ms: Arc::default() };
        heartbeat.beat(now);
        heartbeat
    }

    /// Still turning at `now`.
    pub fn beat(&self, now: Duration) {
        self.last_beat_ms.store(now.as_millis() as u64, Ordering::Relaxed);
    }
}

/// Starts a thread that nobody joins: for a call that may never come back, and that must not take a stage with it.
///
/// Errors: a system without room for a thread.
pub fn spawn_helper(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name.to_string()).spawn(work).map(drop)
}

/// The names of the stages that have not turned for longer than `limit`.
///
/// A stage turns while frames flow, while it waits for a camera or a broker that is away, and while it has nothing to
/// do. It does not turn when it hangs, and then only a restart of the process helps.
pub fn stuck(heartbeats: &[Heartbeat], now: Duration, limit: Duration) -> Vec<String> {
    let late = |heartbeat: &&Heartbeat| {
        let beat = Duration::from_millis(heartbeat.last_beat_ms.load(Ordering::Relaxed));
        now.saturating_sub(beat) > limit
    };
    heartbeats.iter().filter(late).map(|heartbeat| heartbeat.name.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_when_the_stopper_goes() {
        let (stopper, stop) = stop_pair();
        assert!(!stop.is_time());
        assert!(!stop.wait(Duration::from_millis(1)));
        drop(stopper);
        assert!(stop.is_time());
        assert!(stop.wait(Duration::from_secs(60)));
    }

    #[test]
    fn only_a_stage_that_does_not_turn_is_stuck() {
        let seconds = Duration::from_secs;
        let (camera, publish) =
            (Heartbeat::new("camera-yard", seconds(0)), Heartbeat::new("publish", seconds(0)));
        camera.beat(seconds(8));
        publish.beat(seconds(20));
        let heartbeats = [camera, publish];
        assert_eq!(stuck(&heartbeats, seconds(18), seconds(10)), [""; 0]);
        assert_eq!(stuck(&heartbeats, seconds(19), seconds(10)), ["camera-yard"]);
    }
}
