//! What is counted on the way: by those who handle a camera's frames, failures and where the frames' time goes; by the
//! publisher, what became of the messages.
//!
//! The frames themselves are counted in their camera's slot, see [`crate::queue`].

use crate::frame::Ledger;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};

/// What a camera's stages count about it; the frames themselves are counted in its slot.
#[derive(Debug, Default)]
pub struct CameraRecord {
    /// Failures after which it was opened anew.
    pub restarts: AtomicU64,
    /// Pipelines that could not be taken down and were left behind.
    pub hung_teardowns: AtomicU64,
    /// Only keyframes are being decoded.
    pub resting: AtomicBool,
    /// Pictures that the decoder says are damaged.
    pub damaged: AtomicU64,
    /// Where the last of the frames that have come ends, in nanoseconds of the stream's own time since it was opened.
    pub reached_ns: AtomicU64,
    /// Where the frames' time went since the last message.
    latencies: Mutex<LatencyHistograms>,
}

impl CameraRecord {
    /// Where the frames' time went since the last call.
    pub fn take_latencies(&self) -> Latencies {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What the publisher counts about the way to the broker.
#[derive(Debug, Default)]
pub struct DeliveryRecord {
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
    acknowledged_after: Mutex<AcknowledgedAfter>,
}

impl DeliveryRecord {
    /// The broker has acknowledged a message `latency` after the capture of its frame.
    pub fn acknowledged_after(&self, latency: Duration) {
        let mut histogram = self.acknowledged_after.lock().unwrap_or_else(PoisonError::into_inner);
        histogram.0.saturating_record(latency.as_micros() as u64);
    }

    /// Percentiles from capture to acknowledgement since the last call.
    pub fn take_acknowledged_after(&self) -> Option<Percentiles> {
        take_percentiles(&mut self.acknowledged_after.lock().unwrap_or_else(PoisonError::into_inner).0)
    }
}

#[derive(Debug)]
struct AcknowledgedAfter(Histogram<u64>);

impl Default for AcknowledgedAfter {
    fn default() -> AcknowledgedAfter {
        AcknowledgedAfter(histogram())
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

/// A frame's ledger on its way to whoever publishes it.
#[derive(Debug, Clone)]
pub struct Trace {
    /// When it was where.
    pub ledger: Ledger,
    /// Where that is recorded.
    pub record: Arc<CameraRecord>,
}

impl Trace {
    /// The frame's message has been handed to the broker's connection at `now`.
    pub fn published(&self, now: Duration) {
        let mut histograms = self.record.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        histograms.record(&self.ledger, now);
    }
}

/// The way of a frame in stages, and all of it.
#[derive(Debug)]
struct LatencyHistograms {
    stages: [Histogram<u64>; 5],
}

impl Default for LatencyHistograms {
    fn default() -> LatencyHistograms {
        LatencyHistograms { stages: std::array::from_fn(|_| histogram()) }
    }
}

impl LatencyHistograms {
    fn record(&mut self, ledger: &Ledger, published: Duration) {
        let Ledger { captured, decoded, queued, started, inferred } = *ledger;
        let stages = [
            (captured, decoded),
            (queued, started),
            (started, inferred),
            (inferred, published),
            (captured, published),
        ];
        for (histogram, (from, to)) in self.stages.iter_mut().zip(stages) {
            histogram.saturating_record(to.saturating_sub(from).as_micros() as u64);
        }
    }

    /// The percentiles of all that was recorded; begins anew.
    fn take(&mut self) -> Latencies {
        let [decode, queue, infer, publish, total] = self.stages.each_mut().map(take_percentiles);
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
        let record = Arc::new(CameraRecord::default());
        let ms = Duration::from_millis;
        for i in 0..100 {
            let ledger = Ledger {
                captured: ms(0),
                decoded: ms(10),
                queued: ms(11),
                started: ms(15),
                inferred: ms(20 + i),
            };
            Trace { ledger, record: record.clone() }.published(ms(21 + i));
        }
        let latencies = record.take_latencies();
        let p50 = |percentiles: Option<Percentiles>| percentiles.unwrap().p50.round();
        assert_eq!([latencies.decode, latencies.queue, latencies.publish].map(p50), [10.0, 4.0, 1.0]);
        let total = latencies.total.unwrap();
        assert!((70.0..=71.0).contains(&total.p50) && (115.0..=121.0).contains(&total.p95), "{total:?}");
        assert!(total.p99 >= total.p95);
        assert!(record.take_latencies().total.is_none());
    }
}
