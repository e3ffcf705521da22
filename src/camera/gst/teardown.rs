//! Takes a pipeline down, which may hang in a driver that does not answer or an element that waits for the
//! network.
//!
//! The pipeline is taken down on a thread of its own, with a deadline. If it misses the deadline, pipeline
//! and thread are abandoned, and the camera continues with a new pipeline. Those that still hang are counted;
//! a camera with several of them is given up for a while.

use crate::{counters::CameraCounters, lifecycle, sync::lock};
use gstreamer::{self as gst, prelude::*};
use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

/// A healthy pipeline takes 2 to 15 ms, one whose server is frozen 100 ms.
const DEADLINE: Duration = Duration::from_secs(5);
/// Between two heartbeats while waiting.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// How far a teardown has got.
enum Progress {
    Running,
    Abandoned,
    Done,
}

/// Takes `pipeline` down. One that hangs is counted in `counters`. Calls `beat` while waiting.
pub(super) fn tear_down(
    name: &str,
    pipeline: gst::Pipeline,
    counters: &Arc<CameraCounters>,
    mut beat: impl FnMut(),
) {
    let (done, ended) = crossbeam_channel::bounded(1);
    let progress = Arc::new(Mutex::new(Progress::Running));
    let (shared, camera) = (progress.clone(), counters.clone());
    let work = move || {
        if let Some(bus) = pipeline.bus() {
            bus.set_flushing(true);
        }
        let _ = pipeline.set_state(gst::State::Null);
        // The last reference is dropped on this thread too, because that may hang as well.
        drop(pipeline);
        if let Progress::Abandoned = std::mem::replace(&mut *lock(&shared), Progress::Done) {
            camera.hanging_pipelines.fetch_sub(1, Ordering::Relaxed);
        }
        // The receiver is gone once the deadline has passed.
        let _ = done.send(());
    };
    if let Err(error) = lifecycle::spawn_helper(&format!("teardown-{name}"), work) {
        tracing::error!(camera = name, %error, "Cannot start a thread to take the pipeline down.");
        counters.hung_teardowns.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let mut waited = Duration::ZERO;
    while waited < DEADLINE {
        beat();
        match ended.recv_timeout(POLL_INTERVAL) {
            Ok(()) => return,
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => waited += POLL_INTERVAL,
            Err(crossbeam_channel::RecvTimeoutError::Disconnected) => break,
        }
    }
    let mut progress = lock(&progress);
    if let Progress::Running = *progress {
        *progress = Progress::Abandoned;
        counters.hanging_pipelines.fetch_add(1, Ordering::Relaxed);
        counters.hung_teardowns.fetch_add(1, Ordering::Relaxed);
        tracing::error!(camera = name, "Pipeline cannot be stopped; abandoned.");
    }
}
