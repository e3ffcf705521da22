//! Counters of a node: failures and latencies of each camera, deliveries of the publisher, writes of the
//! picture store.
//!
//! The frames themselves are counted in their camera's slot; see [`crate::queue`].
//!
//! Durations are recorded twice: in fine histograms since the last stats message, for its percentiles, and in
//! coarse [`Buckets`] since the start, from which a metrics server computes percentiles over any time and any
//! number of nodes.

use crate::{
    frame::FrameTimings,
    queue::frames::{FrameCounts, Slot},
    sync::lock,
};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};

/// All counters of a node. Cheap to clone; all clones are of the same counters, and holding one keeps no
/// stage alive.
#[derive(Clone)]
pub struct Counters {
    /// The current cameras.
    cameras: Arc<Mutex<CountedCameras>>,
    /// Messages dropped because the publisher lagged behind.
    pub messages_dropped: Arc<AtomicU64>,
    /// The publisher's counters.
    pub delivery: Arc<DeliveryCounters>,
    /// The picture store's counters.
    pub store: Arc<StoreCounters>,
}

/// The cameras of a node in the order of the configuration.
pub type CountedCameras = Arc<[CountedCamera]>;

/// A camera and its counters.
#[derive(Clone)]
pub struct CountedCamera {
    /// The camera's name.
    pub name: Arc<str>,
    /// The counters of its stages.
    pub counters: Arc<CameraCounters>,
    /// Its slot, which counts its frames.
    pub slot: Arc<Slot>,
}

impl Counters {
    /// Counters at zero, without cameras.
    pub fn new(messages_dropped: Arc<AtomicU64>) -> Counters {
        Counters {
            cameras: Arc::new(Mutex::new(Arc::new([]))),
            messages_dropped,
            delivery: Arc::default(),
            store: Arc::default(),
        }
    }

    /// Counters at zero, of cameras that have no frames.
    #[cfg(test)]
    pub fn empty(cameras: &[&str]) -> Counters {
        let mut queues = crate::queue::frames::FrameQueues::new();
        let mut camera = |name: &&str| CountedCamera {
            name: (*name).into(),
            counters: Arc::default(),
            slot: queues.add(()),
        };
        let counters = Counters::new(Arc::default());
        counters.set_cameras(cameras.iter().map(&mut camera).collect());
        counters
    }

    /// The current cameras.
    pub fn cameras(&self) -> CountedCameras {
        lock(&self.cameras).clone()
    }

    /// The frame counts of each camera. Each camera's counts are consistent with each other.
    pub fn frame_counts(&self) -> Vec<FrameCounts> {
        self.cameras().iter().map(|camera| camera.slot.counts()).collect()
    }

    /// Replaces the cameras, in the order of the configuration.
    pub fn set_cameras(&self, cameras: Vec<CountedCamera>) {
        *lock(&self.cameras) = cameras.into();
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counters").field("cameras", &self.cameras().len()).finish_non_exhaustive()
    }
}

/// Counters of one camera's stages. The frames themselves are counted in its slot.
#[derive(Debug, Default)]
pub struct CameraCounters {
    /// Restarts after a failure.
    pub restarts: AtomicU64,
    /// Pipelines that did not stop and were abandoned.
    pub hung_teardowns: AtomicU64,
    /// Those of them that still hang. Not published.
    pub hanging_pipelines: AtomicU64,
    /// The camera is sending frames.
    pub live: AtomicBool,
    /// Only keyframes are being decoded.
    pub keyframes_only: AtomicBool,
    /// Inferences on the camera's frames.
    pub inferences: AtomicU64,
    /// Total time of the inferences, microseconds.
    pub inference_us: AtomicU64,
    /// Frames that the decoder marked as damaged.
    pub damaged: AtomicU64,
    /// Images of an HTTP camera that were skipped, because they were missing, damaged or late.
    pub unusable: AtomicU64,
    /// End of the last frame, in nanoseconds of stream time since the stream was opened.
    pub reached_ns: AtomicU64,
    /// Latencies of the frames by stage.
    latencies: Mutex<LatencyHistograms>,
}

impl CameraCounters {
    /// Returns the latency percentiles since the last call, by stage.
    pub fn take_latencies(&self) -> Latencies {
        lock(&self.latencies).take()
    }

    /// Returns the latencies since the start, in the order of [`STAGES`].
    pub fn latencies_since_start(&self) -> [Buckets; STAGES.len()] {
        lock(&self.latencies).since_start.clone()
    }
}

/// Counters of the picture store.
#[derive(Debug, Default)]
pub struct StoreCounters {
    /// Bytes of pictures written since the start.
    pub written_bytes: AtomicU64,
    /// Total size of the stored pictures.
    pub file_bytes: AtomicU64,
}

/// Counters of the publisher.
#[derive(Debug, Default)]
pub struct DeliveryCounters {
    /// The connection to the broker is established.
    pub connected: AtomicBool,
    /// Connections established since the start.
    pub connections: AtomicU64,
    /// Durable messages accepted into the outbox.
    pub accepted: AtomicU64,
    /// Durable messages sent, repeats included.
    pub sent: AtomicU64,
    /// Durable messages acknowledged by the broker, repeats not included.
    pub acknowledged: AtomicU64,
    /// Durable messages that were deleted before they were delivered, because the outbox was full or no
    /// broker accepted them.
    pub lost: AtomicU64,
    /// Durable messages in the outbox that are not acknowledged yet.
    pub waiting: AtomicU64,
    /// Age of the oldest of them, seconds.
    pub oldest_waiting_s: AtomicU64,
    /// Bytes that the outbox has written to disk.
    pub disk_bytes: AtomicU64,
    /// Size of the outbox's files, bytes.
    pub file_bytes: AtomicU64,
    /// Latency from capture to the broker's acknowledgement.
    ack_latency: Mutex<AckLatency>,
}

impl DeliveryCounters {
    /// Records that the broker acknowledged a message `latency` after the capture of its frame.
    pub fn record_ack_latency(&self, latency: Duration) {
        let mut histograms = lock(&self.ack_latency);
        histograms.fine.saturating_record(latency.as_micros() as u64);
        histograms.since_start.record(latency);
    }

    /// Returns the latencies from capture to acknowledgement since the start.
    pub fn ack_latency_since_start(&self) -> Buckets {
        lock(&self.ack_latency).since_start.clone()
    }

    /// Returns the latency percentiles from capture to acknowledgement since the last call. None if there
    /// were none.
    pub fn take_ack_latency(&self) -> Option<Percentiles> {
        take_percentiles(&mut lock(&self.ack_latency).fine)
    }
}

/// Latencies from capture to acknowledgement: since the last stats message, and since the start.
#[derive(Debug)]
struct AckLatency {
    fine: Histogram<u64>,
    since_start: Buckets,
}

impl Default for AckLatency {
    fn default() -> AckLatency {
        AckLatency { fine: histogram(), since_start: Buckets::new(DELIVERY_BOUNDS) }
    }
}

/// Names of the stages of the frame path, in the order of the fields of [`Latencies`].
pub const STAGES: [&str; 5] = ["decode", "queue", "infer", "publish", "total"];
/// Bucket bounds of frame latencies in seconds: from one inference of a fast network to a frame on an
/// overloaded board.
const FRAME_BOUNDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Bucket bounds of delivery latencies in seconds: from a nearby broker to one that was unreachable for a
/// day.
const DELIVERY_BOUNDS: &[f64] =
    &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 600.0, 3600.0, 21_600.0, 86_400.0];

/// Histogram of durations with fixed bounds, and their sum.
#[derive(Debug, Clone)]
pub struct Buckets {
    /// Upper bounds in seconds, ascending.
    bounds: &'static [f64],
    /// Number of durations by bucket: the first whose bound is not exceeded. The last bucket has no bound.
    counts: Vec<u64>,
    sum: Duration,
}

impl Buckets {
    fn new(bounds: &'static [f64]) -> Buckets {
        Buckets { bounds, counts: vec![0; bounds.len() + 1], sum: Duration::ZERO }
    }

    fn record(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        self.counts[self.bounds.partition_point(|bound| *bound < seconds)] += 1;
        self.sum += duration;
    }

    /// Returns each bucket's upper bound in seconds, the last one infinite, and its number of durations.
    pub fn counts(&self) -> Vec<(f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(self.counts.iter().copied()).collect()
    }

    /// The number of durations.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum of the durations, in seconds.
    pub fn sum_s(&self) -> f64 {
        self.sum.as_secs_f64()
    }
}

/// Creates a histogram of microseconds up to a minute, to two significant digits. It takes 17 KiB.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(60_000_000, 2).expect("the bounds are valid")
}

/// Returns the percentiles of the recorded values and clears the histogram. None if it is empty.
fn take_percentiles(histogram: &mut Histogram<u64>) -> Option<Percentiles> {
    let ms_at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
    let percentiles =
        (!histogram.is_empty()).then(|| Percentiles { p50: ms_at(0.5), p95: ms_at(0.95), p99: ms_at(0.99) });
    histogram.reset();
    percentiles
}

/// A frame's timings on their way to the publisher, which completes and records them.
#[derive(Debug, Clone)]
pub struct FrameTrace {
    /// When the frame passed each stage.
    pub timings: FrameTimings,
    /// The counters that record the latencies.
    pub counters: Arc<CameraCounters>,
}

impl FrameTrace {
    /// Records the latencies of a frame whose message was sent to the broker at `now`.
    pub fn published(&self, now: Duration) {
        let mut histograms = lock(&self.counters.latencies);
        histograms.record(&self.timings, now);
    }
}

/// Latencies by stage, since the last stats message and since the start.
#[derive(Debug)]
struct LatencyHistograms {
    fine: [Histogram<u64>; STAGES.len()],
    since_start: [Buckets; STAGES.len()],
}

impl Default for LatencyHistograms {
    fn default() -> LatencyHistograms {
        LatencyHistograms {
            fine: std::array::from_fn(|_| histogram()),
            since_start: std::array::from_fn(|_| Buckets::new(FRAME_BOUNDS)),
        }
    }
}

impl LatencyHistograms {
    fn record(&mut self, timings: &FrameTimings, published: Duration) {
        let FrameTimings { captured, decoded, queued, started, inferred } = *timings;
        let stages = [
            (captured, decoded),
            (queued, started),
            (started, inferred),
            (inferred, published),
            (captured, published),
        ];
        for (index, (from, to)) in stages.into_iter().enumerate() {
            let latency = to.saturating_sub(from);
            self.fine[index].saturating_record(latency.as_micros() as u64);
            self.since_start[index].record(latency);
        }
    }

    /// Returns the percentiles since the last call.
    fn take(&mut self) -> Latencies {
        let [decode, queue, infer, publish, total] = self.fine.each_mut().map(take_percentiles);
        Latencies { decode, queue, infer, publish, total }
    }
}

/// Latency percentiles by stage. None if no frame was published.
#[derive(Debug, Clone, Serialize)]
pub struct Latencies {
    /// From capture, as far as its time is known, to the decoded frame.
    pub decode: Option<Percentiles>,
    /// Waiting for a worker.
    pub queue: Option<Percentiles>,
    /// Analysis by a worker, inferences included.
    pub infer: Option<Percentiles>,
    /// From the end of the analysis until the message is sent to the broker.
    pub publish: Option<Percentiles>,
    /// From capture until the message is sent to the broker.
    pub total: Option<Percentiles>,
}

/// Percentiles in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
#[allow(missing_docs, reason = "each field is named after its percentile")]
pub struct Percentiles {
    #[serde(serialize_with = "tenths")]
    pub p50: f64,
    #[serde(serialize_with = "tenths")]
    pub p95: f64,
    #[serde(serialize_with = "tenths")]
    pub p99: f64,
}

/// Extrapolates to the bytes per day. Returns None in the first ten minutes, which are not representative.
pub fn per_day(bytes: u64, uptime: Duration) -> Option<u64> {
    const DAY_S: f64 = 86_400.0;
    let is_known = uptime >= Duration::from_secs(600);
    is_known.then(|| (bytes as f64 * DAY_S / uptime.as_secs_f64()) as u64)
}

/// Serializes a value rounded to 0.1, or null.
pub fn optional_tenths<S: serde::Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => tenths(value, serializer),
        None => serializer.serialize_none(),
    }
}

/// Serializes a value rounded to 0.1.
pub fn tenths<S: serde::Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((value * 10.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_recorded_by_stage_and_reset_when_taken() {
        let counters = Arc::new(CameraCounters::default());
        let ms = Duration::from_millis;
        for i in 0..100 {
            let timings = FrameTimings {
                captured: ms(0),
                decoded: ms(10),
                queued: ms(11),
                started: ms(15),
                inferred: ms(20 + i),
            };
            FrameTrace { timings, counters: counters.clone() }.published(ms(21 + i));
        }
        let latencies = counters.take_latencies();
        let p50 = |percentiles: Option<Percentiles>| percentiles.unwrap().p50.round();
        assert_eq!([latencies.decode, latencies.queue, latencies.publish].map(p50), [10.0, 4.0, 1.0]);
        let total = latencies.total.unwrap();
        assert!((70.0..=71.0).contains(&total.p50) && (115.0..=121.0).contains(&total.p95), "{total:?}");
        assert!(total.p99 >= total.p95);
        assert!(counters.take_latencies().total.is_none());
        let [decode, .., total] = counters.latencies_since_start();
        assert_eq!((decode.count(), decode.sum_s()), (100, 1.0), "never reset");
        assert_eq!(total.count(), 100);
    }

    #[test]
    fn a_duration_counts_in_the_first_bucket_whose_bound_is_not_exceeded() {
        let mut buckets = Buckets::new(&[0.1, 1.0]);
        for ms in [0, 100, 101, 1000, 1001, 1_000_000] {
            buckets.record(Duration::from_millis(ms));
        }
        assert_eq!(buckets.counts(), [(0.1, 2), (1.0, 2), (f64::INFINITY, 2)]);
        assert_eq!((buckets.count(), buckets.sum_s()), (6, 1002.202));
    }

    #[test]
    fn ack_latencies_are_recorded_since_the_last_call_and_since_the_start() {
        let counters = DeliveryCounters::default();
        counters.record_ack_latency(Duration::from_millis(20));
        assert!((counters.take_ack_latency().unwrap().p50 - 20.0).abs() < 1.0);
        counters.record_ack_latency(Duration::from_secs(7200));
        let buckets = counters.ack_latency_since_start();
        assert_eq!((buckets.count(), buckets.sum_s()), (2, 7200.02));
    }
}
