//! The recent past of the node, for the page: rates and latencies of the last seconds by camera, and one
//! point a minute for the last hour.
//!
//! Percentiles are estimated from the counters' buckets, which are never reset, so the page takes nothing
//! away from the stats messages or from Prometheus.

use crate::{
    counters::{Buckets, Counters, tenths},
    procfs,
    sync::lock,
    wire::messages::rfc3339_ms,
};
use jiff::Timestamp;
use serde::Serialize;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

/// Interval between two samples of the cameras.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(5);
/// Interval between two points.
pub const POINT_INTERVAL: Duration = Duration::from_secs(60);
/// Number of points that are kept.
const MAX_POINTS: usize = 60;

/// A camera in the last seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CameraSample {
    /// Frames analysed per second.
    pub analysed_fps: Option<f64>,
    /// Median latency in milliseconds from capture to publishing. None if no frame was published.
    pub latency_ms: Option<f64>,
}

/// The node in one minute.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    /// The end of the minute.
    #[serde(serialize_with = "rfc3339_ms::serialize")]
    pub at: Timestamp,
    /// Latency of all cameras' frames from capture to publishing. None if no frame was published.
    pub latency_ms: Option<Percentiles>,
    /// Frames of all cameras analysed per second.
    #[serde(serialize_with = "tenths")]
    pub analysed_fps: f64,
    /// Resident memory.
    pub memory_mib: u64,
    /// CPU time in percent of one core.
    #[serde(serialize_with = "tenths")]
    pub cpu_percent: f64,
    /// Durable messages that wait for the broker.
    pub waiting: u64,
}

/// Estimated percentiles in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[allow(missing_docs, reason = "each field is named after its percentile")]
pub struct Percentiles {
    #[serde(serialize_with = "tenths")]
    pub p50: f64,
    #[serde(serialize_with = "tenths")]
    pub p90: f64,
    #[serde(serialize_with = "tenths")]
    pub p99: f64,
}

/// The recent past.
#[derive(Debug, Default)]
pub struct Samples(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    sample_base: Option<Reading>,
    point_base: Option<Reading>,
    cameras: BTreeMap<Arc<str>, CameraSample>,
    points: VecDeque<Point>,
    cpu_percent: Option<f64>,
}

/// Upper bounds in seconds, and the numbers of latencies.
type Latencies = Vec<(f64, u64)>;

/// The counters at one time.
#[derive(Debug, Clone, Default)]
struct Reading {
    now: Duration,
    cpu_s: f64,
    cameras: BTreeMap<Arc<str>, (u64, Latencies)>,
}

impl Reading {
    fn take(counters: &Counters, now: Duration) -> Reading {
        let cameras = counters.cameras();
        let camera = |camera: &crate::counters::CountedCamera| {
            let total: Latencies =
                camera.counters.latencies_since_start().last().map(Buckets::counts).unwrap_or_default();
            (camera.name.clone(), (camera.slot.counts().analysed, total))
        };
        Reading {
            now,
            cpu_s: procfs::cpu_s().unwrap_or_default(),
            cameras: cameras.iter().map(camera).collect(),
        }
    }

    /// Analysed frames and latencies of a camera since `before`. A camera that has begun anew counts from
    /// zero.
    fn since(&self, before: &Reading, camera: &str) -> (u64, Latencies) {
        let Some((analysed, latencies)) = self.cameras.get(camera) else { return (0, Vec::new()) };
        match before.cameras.get(camera) {
            Some((analysed_before, latencies_before)) if analysed_before <= analysed => {
                let difference =
                    |(new, old): (&(f64, u64), &(f64, u64))| (new.0, new.1.saturating_sub(old.1));
                (analysed - analysed_before, latencies.iter().zip(latencies_before).map(difference).collect())
            }
            _ => (*analysed, latencies.clone()),
        }
    }

    fn elapsed_s(&self, before: &Reading) -> f64 {
        self.now.saturating_sub(before.now).as_secs_f64()
    }

    fn cpu_percent(&self, before: &Reading) -> f64 {
        100.0 * (self.cpu_s - before.cpu_s) / self.elapsed_s(before)
    }
}

impl Samples {
    /// Takes a sample if one is due at the monotonic time `now`. To be called at least every few seconds.
    pub fn tick(&self, counters: &Counters, now: Duration, at: Timestamp) {
        let mut state = lock(&self.0);
        let is_due = |last: &Option<Reading>, interval| {
            last.as_ref().is_none_or(|last| now.saturating_sub(last.now) >= interval)
        };
        if !is_due(&state.sample_base, SAMPLE_INTERVAL) {
            return;
        }
        let reading = Reading::take(counters, now);
        if let Some(before) = &state.sample_base {
            let elapsed_s = reading.elapsed_s(before);
            let sample = |name: &Arc<str>| {
                let (analysed, latencies) = reading.since(before, name);
                let latency_ms = quantile_ms(&latencies, 0.5);
                (name.clone(), CameraSample { analysed_fps: Some(analysed as f64 / elapsed_s), latency_ms })
            };
            let cameras = reading.cameras.keys().map(sample).collect();
            let cpu_percent = Some(reading.cpu_percent(before));
            (state.cameras, state.cpu_percent) = (cameras, cpu_percent);
        }
        state.sample_base = Some(reading.clone());
        if !is_due(&state.point_base, POINT_INTERVAL) {
            return;
        }
        if let Some(before) = state.point_base.take() {
            let (mut analysed, mut latencies) = (0, Vec::new());
            for name in reading.cameras.keys() {
                let (more, buckets) = reading.since(&before, name);
                analysed += more;
                add(&mut latencies, &buckets);
            }
            let point = Point {
                at,
                latency_ms: percentiles(&latencies),
                analysed_fps: analysed as f64 / reading.elapsed_s(&before),
                memory_mib: procfs::resident_bytes().unwrap_or_default() >> 20,
                cpu_percent: reading.cpu_percent(&before),
                waiting: counters.delivery.waiting.load(Ordering::Relaxed),
            };
            if state.points.len() == MAX_POINTS {
                state.points.pop_front();
            }
            state.points.push_back(point);
        }
        state.point_base = Some(reading);
    }

    /// A camera in the last seconds. None before the second sample.
    pub fn newest(&self, camera: &str) -> Option<CameraSample> {
        lock(&self.0).cameras.get(camera).copied()
    }

    /// CPU time in the last seconds, in percent of one core.
    pub fn cpu_percent(&self) -> Option<f64> {
        lock(&self.0).cpu_percent
    }

    /// The points of the last hour, oldest first.
    pub fn points(&self) -> Vec<Point> {
        lock(&self.0).points.iter().cloned().collect()
    }
}

/// Adds the counts of buckets with the same bounds.
fn add(sum: &mut Vec<(f64, u64)>, more: &[(f64, u64)]) {
    if sum.is_empty() {
        *sum = more.to_vec();
        return;
    }
    for (total, more) in sum.iter_mut().zip(more) {
        total.1 += more.1;
    }
}

fn percentiles(buckets: &[(f64, u64)]) -> Option<Percentiles> {
    let quantile = |share| quantile_ms(buckets, share);
    Some(Percentiles { p50: quantile(0.5)?, p90: quantile(0.9)?, p99: quantile(0.99)? })
}

/// The duration in milliseconds that this share of the durations does not exceed, interpolated within its
/// bucket; the last bound for those beyond it. Buckets are upper bounds in seconds with their counts.
fn quantile_ms(buckets: &[(f64, u64)], share: f64) -> Option<f64> {
    let total: u64 = buckets.iter().map(|(_, count)| count).sum();
    if total == 0 {
        return None;
    }
    let rank = share * total as f64;
    let (mut lower_s, mut below) = (0.0, 0.0);
    for &(bound_s, count) in buckets {
        let count = count as f64;
        if below + count >= rank && count > 0.0 {
            let upper_s = if bound_s.is_finite() { bound_s } else { lower_s };
            return Some(1e3 * (lower_s + (upper_s - lower_s) * (rank - below) / count));
        }
        below += count;
        lower_s = bound_s;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{counters::FrameTrace, frame::FrameTimings};

    #[test]
    fn quantiles_are_interpolated() {
        let buckets = [(0.01, 0), (0.1, 10), (1.0, 10), (f64::INFINITY, 0)];
        assert_eq!(quantile_ms(&buckets, 0.25).unwrap().round(), 55.0);
        assert_eq!(quantile_ms(&buckets, 0.5), Some(100.0));
        assert_eq!(quantile_ms(&buckets, 1.0), Some(1000.0));
        assert_eq!(quantile_ms(&[(1.0, 0), (f64::INFINITY, 3)], 0.5), Some(1000.0));
        assert_eq!(quantile_ms(&[(1.0, 0)], 0.5), None);
    }

    #[test]
    fn there_is_a_sample_every_few_seconds_and_a_point_a_minute() {
        let (samples, counters) = (Samples::default(), Counters::empty(&["yard"]));
        let camera = counters.cameras()[0].clone();
        let publish = |ms| {
            let timings = FrameTimings::default();
            FrameTrace { timings, counters: camera.counters.clone() }.published(Duration::from_millis(ms));
        };
        let tick = |second| samples.tick(&counters, Duration::from_secs(second), Timestamp::UNIX_EPOCH);
        publish(2000);
        tick(0);
        assert_eq!(samples.newest("yard"), None);
        publish(20);
        tick(3);
        assert_eq!(samples.newest("yard"), None, "too early");
        tick(5);
        let sample = samples.newest("yard").unwrap();
        assert!((10.0..=25.0).contains(&sample.latency_ms.unwrap()), "only what is new: {sample:?}");
        assert_eq!(sample.analysed_fps, Some(0.0));
        assert_eq!(samples.points(), []);
        for minute in 1..=70 {
            tick(60 * minute);
        }
        let points = samples.points();
        assert_eq!(points.len(), MAX_POINTS);
        assert!(points[0].latency_ms.is_none() && points[0].memory_mib > 0);
    }
}
