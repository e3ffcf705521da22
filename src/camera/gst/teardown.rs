//! Takes a pipeline down, which may hang in a driver that does not answer or an element that waits for the
//! network.
//!
//! The pipeline is taken down on a thread of its own, with a deadline. If it misses the deadline, pipeline
//! and thread are abandoned, and the camera continues with a new pipeline. The caller counts these hangs;
//! after a few, the process restarts.

use crate::lifecycle;
use gstreamer::{self as gst, prelude::*};
use std::time::Duration;

/// A healthy pipeline takes 2 to 15 ms, one whose server is frozen 100 ms.
const DEADLINE: Duration = Duration::from_secs(5);
/// Between two heartbeats while waiting.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Takes `pipeline` down. Returns false if it hangs. Calls `beat` while waiting.
pub(super) fn tear_down(name: &str, pipeline: gst::Pipeline, mut beat: impl FnMut()) -> bool {
    let (done, ended) = crossbeam_channel::bounded(1);
    let work = move || {
        if let Some(bus) = pipeline.bus() {
            bus.set_flushing(true);
        }
        let result = pipeline.set_state(gst::State::Null);
        // The last reference is dropped on this thread too, because that may hang as well.
        drop(pipeline);
        // The receiver is gone once the deadline has passed.
        let _ = done.send(result.is_ok());
    };
    if let Err(error) = lifecycle::spawn_helper(&format!("teardown-{name}"), work) {
        tracing::error!(camera = name, %error, "Cannot start a thread to take the pipeline down.");
        return false;
    }
    let mut waited = Duration::ZERO;
    while waited < DEADLINE {
        beat();
        match ended.recv_timeout(POLL_INTERVAL) {
            Ok(_) => return true,
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => waited += POLL_INTERVAL,
            Err(crossbeam_channel::RecvTimeoutError::Disconnected) => return false,
        }
    }
    tracing::error!(camera = name, "Pipeline cannot be stopped; abandoned.");
    false
}
