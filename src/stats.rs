//! The accounts of the whole node, and the message that tells them. What metrics tell ([`crate::metrics`]) comes from
//! the very same [`Books`].

use crate::{
    clock::Clock,
    process,
    publish::messages::{CameraStats, DeliveryStats, PictureStats, SCHEMA, Stats},
    queue::FrameWay,
    record::{CameraRecord, DeliveryRecord, StoreRecord},
    vision::scene::Scene,
};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Where everything is counted. Reading it disturbs nobody, and who has it keeps no stage alive.
#[derive(Clone)]
pub struct Books {
    /// The cameras' names and records, counted as on the frame way.
    pub cameras: Arc<[(Arc<str>, Arc<CameraRecord>)]>,
    /// What became of their frames.
    pub way: Arc<FrameWay<Scene>>,
    /// Messages that had to go because publishing lagged behind.
    pub messages_dropped: Arc<AtomicU64>,
    /// The publisher's.
    pub delivery: Arc<DeliveryRecord>,
    /// The store's.
    pub store: Arc<StoreRecord>,
}

impl Books {
    /// Nothing has been counted yet of these cameras, and no frame ever will.
    #[cfg(test)]
    pub fn empty(cameras: &[&str]) -> Books {
        Books {
            cameras: cameras.iter().map(|name| ((*name).into(), Arc::default())).collect(),
            way: Arc::new(FrameWay::new(Vec::new())),
            messages_dropped: Arc::default(),
            delivery: Arc::default(),
            store: Arc::default(),
        }
    }
}

impl fmt::Debug for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Books").field("cameras", &self.cameras.len()).finish_non_exhaustive()
    }
}

/// Writes one `stats` message after the other, with what happened in between.
pub struct Teller {
    node: Arc<str>,
    books: Books,
    /// When the last message was gathered, on the monotonic clock, and each camera's analysed frames then.
    before: Option<(Duration, Vec<u64>)>,
}

impl Teller {
    /// Speaks for `node`.
    pub fn new(node: Arc<str>, books: Books) -> Teller {
        Teller { node, books, before: None }
    }

    /// Gathers the accounts of this moment.
    pub fn gather(&mut self, clock: &dyn Clock) -> Stats {
        let now = clock.monotonic();
        let accounts = self.books.way.accounts();
        let analysed = accounts.iter().map(|accounts| accounts.analysed).collect();
        let before = self.before.replace((now, analysed));
        let cameras = self.books.cameras.iter().zip(accounts).enumerate();
        let cameras = cameras.map(|(index, ((name, record), accounts))| {
            let analysed_fps = before.as_ref().and_then(|(then, before)| {
                rate_fps(accounts.analysed - before[index], now.saturating_sub(*then))
            });
            let stats = CameraStats {
                accounts,
                analysed_fps,
                looks: record.looks.load(Ordering::Relaxed),
                looks_ms: record.looks_us.load(Ordering::Relaxed) / 1000,
                resting: record.resting.load(Ordering::Relaxed),
                restarts: record.restarts.load(Ordering::Relaxed),
                hung_teardowns: record.hung_teardowns.load(Ordering::Relaxed),
                latency_ms: record.take_latencies(),
            };
            (name.to_string(), stats)
        });
        let delivery = delivery(&self.books.delivery);
        let pictures = PictureStats {
            disk_bytes: self.books.store.written_bytes.load(Ordering::Relaxed),
            file_bytes: self.books.store.file_bytes.load(Ordering::Relaxed),
        };
        Stats {
            schema: SCHEMA,
            node: self.node.clone(),
            number: None,
            at: clock.now(),
            uptime_s: now.as_secs(),
            memory_mib: process::resident_bytes().unwrap_or_default() >> 20,
            messages_dropped: self.books.messages_dropped.load(Ordering::Relaxed),
            disk_bytes_per_day: per_day(delivery.disk_bytes + pictures.disk_bytes, now),
            clock_synchronised: clock.is_synchronised(),
            delivery,
            pictures,
            cameras: cameras.collect(),
        }
    }
}

/// To a thousandth; none where no time has passed.
fn rate_fps(frames: u64, elapsed: Duration) -> Option<f64> {
    let rate = frames as f64 / elapsed.as_secs_f64();
    (!elapsed.is_zero()).then(|| (rate * 1e3).round() / 1e3)
}

/// None before there is a pace to speak of.
fn per_day(bytes: u64, uptime: Duration) -> Option<u64> {
    const DAY_S: f64 = 86_400.0;
    let is_known = uptime >= Duration::from_secs(600);
    is_known.then(|| (bytes as f64 * DAY_S / uptime.as_secs_f64()) as u64)
}

fn delivery(record: &DeliveryRecord) -> DeliveryStats {
    DeliveryStats {
        connected: record.connected.load(Ordering::Relaxed),
        connections: record.connections.load(Ordering::Relaxed),
        accepted: record.accepted.load(Ordering::Relaxed),
        sent: record.sent.load(Ordering::Relaxed),
        acknowledged: record.acknowledged.load(Ordering::Relaxed),
        lost: record.lost.load(Ordering::Relaxed),
        waiting: record.waiting.load(Ordering::Relaxed),
        oldest_waiting_s: record.oldest_waiting_s.load(Ordering::Relaxed),
        disk_bytes: record.disk_bytes.load(Ordering::Relaxed),
        file_bytes: record.file_bytes.load(Ordering::Relaxed),
        acknowledged_after_ms: record.take_acknowledged_after(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SimulatedClock;

    #[test]
    fn a_rate_is_of_the_time_that_has_passed() {
        assert_eq!(rate_fps(10, Duration::from_secs(3)), Some(3.333));
        assert_eq!(rate_fps(0, Duration::from_secs(3)), Some(0.0));
        assert_eq!(rate_fps(0, Duration::ZERO), None);
    }

    #[test]
    fn a_days_bytes_are_told_once_there_is_a_pace() {
        assert_eq!(per_day(1_000_000, Duration::from_secs(599)), None);
        assert_eq!(per_day(1_000_000, Duration::from_secs(3600)), Some(24_000_000));
    }

    #[test]
    fn what_the_publisher_and_the_store_count_is_told() {
        let books = Books::empty(&[]);
        books.delivery.connected.store(true, Ordering::Relaxed);
        books.delivery.accepted.store(7, Ordering::Relaxed);
        books.delivery.acknowledged_after(Duration::from_millis(20));
        books.store.written_bytes.store(4096, Ordering::Relaxed);
        let mut teller = Teller::new("porch".into(), books);
        let stats = teller.gather(&SimulatedClock::new());
        assert!(stats.memory_mib > 0 && stats.delivery.connected);
        assert_eq!((stats.delivery.accepted, stats.pictures.disk_bytes), (7, 4096));
        assert!(stats.delivery.acknowledged_after_ms.is_some());
        let next = teller.gather(&SimulatedClock::new());
        assert!(next.delivery.acknowledged_after_ms.is_none(), "none since the last message");
    }
}
