//! Waits for calls that may hang, such as a driver that is asked for its devices, but only for a time.

use crate::lifecycle;
use std::{sync::mpsc, time::Duration};

/// Runs `work` on a thread of its own and returns its result. Returns None if it takes longer than `time`:
/// the thread is then left behind and ends with the process.
pub fn within<T: Send + 'static>(time: Duration, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    start(work).wait(time)
}

/// A call that runs on a thread of its own.
pub struct Call<T> {
    result: mpsc::Receiver<T>,
}

/// Starts a call, so that several run side by side.
pub fn start<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Call<T> {
    let (sender, result) = mpsc::channel();
    // If the system cannot start a thread, the sender is dropped, and there is no result.
    let _ = lifecycle::spawn_helper("call", move || {
        // The caller may have given up.
        let _ = sender.send(work());
    });
    Call { result }
}

impl<T> Call<T> {
    /// The result. None if it is not there within `time`, or the call was not started or has panicked.
    pub fn wait(&self, time: Duration) -> Option<T> {
        self.result.recv_timeout(time).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_hangs_is_left_behind() {
        assert_eq!(within(Duration::from_secs(60), || 7), Some(7));
        let (_never_sent, waiting) = mpsc::channel::<()>();
        let hanging = start(move || waiting.recv().is_ok());
        assert_eq!(hanging.wait(Duration::from_millis(1)), None);
    }
}
