//! The `stats` message: the counters and their changes since the previous message. The metrics page of
//! [`crate::web`] shows the same [`Counters`].

use crate::{
    clock::Clock,
    counters::{CountedCamera, Counters, DeliveryCounters, per_day},
    procfs,
    wire::messages::{CameraStats, DeliveryStats, Header, PictureStats, Stats},
};
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// Builds `stats` messages.
pub struct StatsReporter {
    /// The node's name.
    pub node: Arc<str>,
    counters: Counters,
    /// When the previous message was built, on the monotonic clock, and each camera's analysed frames then.
    previous: Option<(Duration, BTreeMap<Arc<str>, u64>)>,
    /// When the daemon was started, as told in the previous message.
    started_at: Option<Timestamp>,
}

/// The start time is corrected when the time of day has been set by more than this.
const MIN_CLOCK_STEP: SignedDuration = SignedDuration::from_secs(2);

impl StatsReporter {
    /// Creates a reporter for `node`.
    pub fn new(node: Arc<str>, counters: Counters) -> StatsReporter {
        StatsReporter { node, counters, previous: None, started_at: None }
    }

    /// When the daemon was started, by today's time of day.
    fn started_at(&mut self, clock: &dyn Clock) -> Timestamp {
        let now = clock.now();
        let computed = now.checked_sub(clock.monotonic()).unwrap_or(now);
        let is_still_right = |told: &Timestamp| computed.duration_since(*told).abs() < MIN_CLOCK_STEP;
        let started_at = self.started_at.filter(is_still_right).unwrap_or(computed);
        self.started_at = Some(started_at);
        started_at
    }

    /// Builds a message with the current counts. Latencies are those since the previous message.
    pub fn build(&mut self, clock: &dyn Clock) -> Stats {
        let (now, started_at) = (clock.monotonic(), self.started_at(clock));
        let cameras = self.counters.cameras();
        let counts: Vec<_> = cameras.iter().map(|camera| camera.slot.counts()).collect();
        let names = cameras.iter().map(|camera| camera.name.clone());
        let analysed = names.zip(counts.iter().map(|counts| counts.analysed)).collect();
        let previous = self.previous.replace((now, analysed));
        let cameras = cameras.iter().zip(counts).map(|(CountedCamera { name, counters, .. }, counts)| {
            let analysed_fps = previous.as_ref().and_then(|(then, analysed)| {
                // A camera that is new since then may have the name of one that was removed.
                let new = counts.analysed.checked_sub(*analysed.get(name)?)?;
                rate_fps(new, now.saturating_sub(*then))
            });
            let stats = CameraStats {
                frames: counts,
                analysed_fps,
                inferences: counters.inferences.load(Ordering::Relaxed),
                inference_ms: counters.inference_us.load(Ordering::Relaxed) / 1000,
                keyframes_only: counters.keyframes_only.load(Ordering::Relaxed),
                restarts: counters.restarts.load(Ordering::Relaxed),
                hung_teardowns: counters.hung_teardowns.load(Ordering::Relaxed),
                unusable: counters.unusable.load(Ordering::Relaxed),
                latency_ms: counters.take_latencies(),
            };
            (name.to_string(), stats)
        });
        let delivery = delivery_stats(&self.counters.delivery);
        let pictures = PictureStats {
            disk_bytes: self.counters.store.written_bytes.load(Ordering::Relaxed),
            file_bytes: self.counters.store.file_bytes.load(Ordering::Relaxed),
        };
        Stats {
            header: Header::new(self.node.clone(), None),
            at: clock.now(),
            started_at,
            uptime_s: now.as_secs(),
            memory_mib: procfs::resident_bytes().unwrap_or_default() >> 20,
            messages_dropped: self.counters.messages_dropped.load(Ordering::Relaxed),
            disk_bytes_per_day: per_day(delivery.disk_bytes + pictures.disk_bytes, now),
            clock_synchronised: clock.is_synchronised(),
            delivery,
            pictures,
            cameras: cameras.collect(),
        }
    }
}

/// Returns the frames per second, rounded to 0.001, or None if no time has passed.
fn rate_fps(frames: u64, elapsed: Duration) -> Option<f64> {
    let rate = frames as f64 / elapsed.as_secs_f64();
    (!elapsed.is_zero()).then(|| (rate * 1e3).round() / 1e3)
}

fn delivery_stats(counters: &DeliveryCounters) -> DeliveryStats {
    DeliveryStats {
        connected: counters.connected.load(Ordering::Relaxed),
        connections: counters.connections.load(Ordering::Relaxed),
        accepted: counters.accepted.load(Ordering::Relaxed),
        sent: counters.sent.load(Ordering::Relaxed),
        acknowledged: counters.acknowledged.load(Ordering::Relaxed),
        lost: counters.lost.load(Ordering::Relaxed),
        waiting: counters.waiting.load(Ordering::Relaxed),
        oldest_waiting_s: counters.oldest_waiting_s.load(Ordering::Relaxed),
        disk_bytes: counters.disk_bytes.load(Ordering::Relaxed),
        file_bytes: counters.file_bytes.load(Ordering::Relaxed),
        ack_latency_ms: counters.take_ack_latency(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SimulatedClock;

    #[test]
    fn a_rate_is_frames_per_elapsed_time() {
        assert_eq!(rate_fps(10, Duration::from_secs(3)), Some(3.333));
        assert_eq!(rate_fps(0, Duration::from_secs(3)), Some(0.0));
        assert_eq!(rate_fps(0, Duration::ZERO), None);
    }

    #[test]
    fn bytes_per_day_are_known_after_ten_minutes() {
        assert_eq!(per_day(1_000_000, Duration::from_secs(599)), None);
        assert_eq!(per_day(1_000_000, Duration::from_secs(3600)), Some(24_000_000));
    }

    #[test]
    fn stats_contain_the_counters_of_the_publisher_and_the_store() {
        let counters = Counters::empty(&[]);
        counters.delivery.connected.store(true, Ordering::Relaxed);
        counters.delivery.accepted.store(7, Ordering::Relaxed);
        counters.delivery.record_ack_latency(Duration::from_millis(20));
        counters.store.written_bytes.store(4096, Ordering::Relaxed);
        let mut reporter = StatsReporter::new("porch".into(), counters);
        let stats = reporter.build(&SimulatedClock::new());
        assert!(stats.memory_mib > 0 && stats.delivery.connected);
        assert_eq!((stats.delivery.accepted, stats.pictures.disk_bytes), (7, 4096));
        assert!(stats.delivery.ack_latency_ms.is_some());
        let next = reporter.build(&SimulatedClock::new());
        assert!(next.delivery.ack_latency_ms.is_none(), "no acknowledgement since the previous message");
    }
}
