//! Taking a pipeline down, which may hang: a driver that does not answer, an element that waits for its network.
//!
//! The pipeline goes down on a thread of its own, with a deadline. What misses it is left behind with its thread; the
//! camera goes on with a new pipeline, and who counts the hangs decides when the process is beyond repair.

use crate::lifecycle;
use gstreamer::{self as gst, prelude::*};
use std::time::Duration;

/// A healthy pipeline takes 2 to 15 ms, one with a frozen server 100 ms.
const DEADLINE: Duration = Duration::from_secs(5);
/// Between two beats of the heartbeat.
const TURN: Duration = Duration::from_millis(250);

/// Takes `pipeline` down; false if it hangs. `beat` is called while waiting.
pub(super) fn tear_down(name: &str, pipeline: gst::Pipeline, mut beat: impl FnMut()) -> bool {
    let (done, is_done) = crossbeam_channel::bounded(1);
    let work = move || {
        if let Some(bus) = pipeline.bus() {
            bus.set_flushing(true);
        }
        let ended = pipeline.set_state(gst::State::Null);
        // The last reference goes here too: what hangs while it is freed hangs here.
        drop(pipeline);
        // Nobody listens any more once the deadline has passed.
        let _ = done.send(ended.is_ok());
    };
    if let Err(error) = lifecycle::spawn_helper(&format!("teardown-{name}"), work) {
        tracing::error!(camera = name, %error, "No thread to take the pipeline down.");
        return false;
    }
    let mut waited = Duration::ZERO;
    while waited < DEADLINE {
        beat();
        match is_done.recv_timeout(TURN) {
            Ok(_) => return true,
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => waited += TURN,
            Err(crossbeam_channel::RecvTimeoutError::Disconnected) => return false,
        }
    }
    tracing::error!(camera = name, "The pipeline does not end; leaving it behind.");
    false
}
