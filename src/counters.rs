//! What is counted on the way: by those who handle a camera's frames, failures and where the frames' time goes; by the
//! publisher, what became of the messages; by the store, what it wrote.
//!
//! The frames themselves are counted in their camera's slot, see [`crate::queue`].
//!
//! Durations are counted twice: in fine steps since the last message, which tells percentiles, and in coarse ones
//! ([`Buckets`]) since the start, of which a scraper makes percentiles over any time and any number of nodes.

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

/// All counters of a node. Cheap to clone; holding it keeps no stage alive.
#[derive(Clone)]
pub struct Counters {
    /// Camera names and their counters, in the order of the configuration.
    pub cameras: Arc<[(Arc<str>, Arc<CameraCounters>)]>,
    /// The cameras' slots, which count their frames, in the same order.
    pub slots: Arc<[Arc<Slot>]>,
    /// Messages dropped because the publisher lagged behind.
    pub messages_dropped: Arc<AtomicU64>,
    /// The publisher's counters.
    pub delivery: Arc<DeliveryCounters>,
    /// The picture store's counters.
    pub store: Arc<StoreCounters>,
}

impl Counters {
    /// Counters at zero, of cameras that have no frames.
    #[cfg(test)]
    pub fn empty(cameras: &[&str]) -> Counters {
        Counters {
            cameras: cameras.iter().map(|name| ((*name).into(), Arc::default())).collect(),
            slots: crate::queue::frames::FrameQueues::new(vec![(); cameras.len()]).slots().into(),
            messages_dropped: Arc::default(),
            delivery: Arc::default(),
            store: Arc::default(),
        }
    }

    /// The frame counts of each camera. Each camera's counts are consistent with each other.
    pub fn frame_counts(&self) -> Vec<FrameCounts> {
        self.slots.iter().map(|slot| slot.counts()).collect()
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counters").field("cameras", &self.cameras.len()).finish_non_exhaustive()
    }
}

/// What a camera's stages count about it; the frames themselves are counted in its slot.
#[derive(Debug, Default)]
pub struct CameraCounters {
    /// Failures after which it was opened anew.
    pub restarts: AtomicU64,
    /// Pipelines that could not be taken down and were left behind.
    pub hung_teardowns: AtomicU64,
    /// Frames flow.
    pub live: AtomicBool,
    /// Only keyframes are being decoded.
    pub keyframes_only: AtomicBool,
    /// Looks of the network at its frames.
    pub inferences: AtomicU64,
    /// How long they took, microseconds.
    pub inference_us: AtomicU64,
    /// Pictures that the decoder says are damaged.
    pub damaged: AtomicU64,
    /// Where the last of the frames that have come ends, in nanoseconds of the stream's own time since it was opened.
    pub reached_ns: AtomicU64,
    /// Where the frames' time went.
    latencies: Mutex<LatencyHistograms>,
}

impl CameraCounters {
    /// Where the frames' time went since the last call.
    pub fn take_latencies(&self) -> Latencies {
        lock(&self.latencies).take()
    }

    /// Where the frames' time went since the start, in the order of [`STAGES`].
    pub fn latencies_since_start(&self) -> [Buckets; STAGES.len()] {
        lock(&self.latencies).since_start.clone()
    }
}

/// What the store counts about its disk.
#[derive(Debug, Default)]
pub struct StoreCounters {
    /// Bytes of pictures that were written since the start.
    pub written_bytes: AtomicU64,
    /// Size of all that lie there.
    pub file_bytes: AtomicU64,
}

/// What the publisher counts about the way to the broker.
#[derive(Debug, Default)]
pub struct DeliveryCounters {
    /// A broker is connected.
    pub connected: AtomicBool,
    /// Connections that stood, since the start.
    pub connections: AtomicU64,
    /// Durable messages that were taken into the outbox.
    pub accepted: AtomicU64,
    /// Durable messages that were handed to a connection, repeats counted.
    pub sent: AtomicU64,
    /// Durable messages that a broker has acknowledged, repeats not counted.
    pub acknowledged: AtomicU64,
    /// Durable messages that had to go unsent, for want of room or because no broker takes them.
    pub lost: AtomicU64,
    /// Durable messages that wait for an acknowledgement now.
    pub waiting: AtomicU64,
    /// Age of the oldest of them.
    pub oldest_waiting_s: AtomicU64,
    /// Bytes that the outbox has handed to the kernel for its disk.
    pub disk_bytes: AtomicU64,
    /// Size of the outbox's files.
    pub file_bytes: AtomicU64,
    /// From capture to the broker's acknowledgement.
    ack_latency: Mutex<AckLatency>,
}

impl DeliveryCounters {
    /// The broker has acknowledged a message `latency` after the capture of its frame.
    pub fn record_ack_latency(&self, latency: Duration) {
        let mut after = lock(&self.ack_latency);
        after.fine.saturating_record(latency.as_micros() as u64);
        after.since_start.record(latency);
    }

    /// From capture to acknowledgement since the start.
    pub fn ack_latency_since_start(&self) -> Buckets {
        lock(&self.ack_latency).since_start.clone()
    }

    /// Percentiles from capture to acknowledgement since the last call.
    pub fn take_ack_latency(&self) -> Option<Percentiles> {
        take_percentiles(&mut lock(&self.ack_latency).fine)
    }
}

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

/// The stages of a frame's way that [`Latencies`] tells of, by name.
pub const STAGES: [&str; 5] = ["decode", "queue", "infer", "publish", "total"];
/// Seconds: from a fast network's look to a frame that was long in a slow board's hands.
const FRAME_BOUNDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Seconds: from a broker at hand to one that was away for days.
const DELIVERY_BOUNDS: &[f64] =
    &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 600.0, 3600.0, 21_600.0, 86_400.0];

/// How many durations there were up to each of some bounds, and their sum.
#[derive(Debug, Clone)]
pub struct Buckets {
    /// Seconds, ascending.
    bounds: &'static [f64],
    /// By the first bound that holds the duration; at the end those beyond all bounds.
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

    /// Each bound in seconds, the last one infinite, with how many durations lie between it and the one before.
    pub fn counts(&self) -> Vec<(f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(self.counts.iter().copied()).collect()
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All together, in seconds.
    pub fn sum_s(&self) -> f64 {
        self.sum.as_secs_f64()
    }
}

/// Microseconds up to a minute, to two digits: 17 KiB.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(60_000_000, 2).expect("the bounds are sound")
}

/// The percentiles of all that was recorded, if anything was; begins anew.
fn take_percentiles(histogram: &mut Histogram<u64>) -> Option<Percentiles> {
    let of = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
    let found = (!histogram.is_empty()).then(|| Percentiles { p50: of(0.5), p95: of(0.95), p99: of(0.99) });
    histogram.reset();
    found
}

/// A frame's timings on its way to whoever publishes it.
#[derive(Debug, Clone)]
pub struct FrameTrace {
    /// When it was where.
    pub timings: FrameTimings,
    /// Where that is recorded.
    pub counters: Arc<CameraCounters>,
}

impl FrameTrace {
    /// The frame's message has been handed to the broker's connection at `now`.
    pub fn published(&self, now: Duration) {
        let mut histograms = lock(&self.counters.latencies);
        histograms.record(&self.timings, now);
    }
}

/// The way of a frame in stages, and all of it.
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

    /// The percentiles of all that was recorded; begins anew.
    fn take(&mut self) -> Latencies {
        let [decode, queue, infer, publish, total] = self.fine.each_mut().map(take_percentiles);
        Latencies { decode, queue, infer, publish, total }
    }
}

/// Milliseconds by stage; null where no frame was published.
#[derive(Debug, Clone, Serialize)]
pub struct Latencies {
    /// From capture, as far as its time is known, to the decoder's picture.
    pub decode: Option<Percentiles>,
    /// Waiting for a worker.
    pub queue: Option<Percentiles>,
    /// In a worker's hands: resize and network.
    pub infer: Option<Percentiles>,
    /// From there to the broker's connection.
    pub publish: Option<Percentiles>,
    /// From capture to the broker's connection.
    pub total: Option<Percentiles>,
}

/// Of many frames, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
#[allow(missing_docs, reason = "the name says it")]
pub struct Percentiles {
    #[serde(serialize_with = "tenths")]
    pub p50: f64,
    #[serde(serialize_with = "tenths")]
    pub p95: f64,
    #[serde(serialize_with = "tenths")]
    pub p99: f64,
}

/// Serializes milliseconds to a tenth.
pub fn tenths<S: serde::Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((value * 10.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_told_by_stage_and_begin_anew() {
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
        assert_eq!((decode.count(), decode.sum_s()), (100, 1.0), "they never begin anew");
        assert_eq!(total.count(), 100);
    }

    #[test]
    fn a_duration_counts_in_the_first_bucket_that_holds_it() {
        let mut buckets = Buckets::new(&[0.1, 1.0]);
        for ms in [0, 100, 101, 1000, 1001, 1_000_000] {
            buckets.record(Duration::from_millis(ms));
        }
        assert_eq!(buckets.counts(), [(0.1, 2), (1.0, 2), (f64::INFINITY, 2)]);
        assert_eq!((buckets.count(), buckets.sum_s()), (6, 1002.202));
    }

    #[test]
    fn acknowledgements_are_told_since_the_last_call_and_since_the_start() {
        let counters = DeliveryCounters::default();
        counters.record_ack_latency(Duration::from_millis(20));
        assert!((counters.take_ack_latency().unwrap().p50 - 20.0).abs() < 1.0);
        counters.record_ack_latency(Duration::from_secs(7200));
        let buckets = counters.ack_latency_since_start();
        assert_eq!((buckets.count(), buckets.sum_s()), (2, 7200.02));
    }
}
