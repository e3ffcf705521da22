//! Metrics for Prometheus. Nothing is counted here: each scrape is written from the [`Counters`], as the
//! `stats` messages are.
//!
//! Names follow Prometheus' conventions: prefix `camfire_`, base units, and `_total` for counters. Labels are
//! camera, outcome and stage, so the number of series depends only on the configuration. `docs/metrics.md`
//! lists all series for users; a test compares it with the served ones.

use crate::{
    counters::{Buckets, CameraCounters, CountedCameras, Counters, STAGES},
    procfs,
    queue::frames::FrameCounts,
};
use jiff::Timestamp;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, NoLabelSet, prometheus_text, text},
    metrics::MetricType,
    registry::{Registry, Unit},
};
use std::{
    fmt,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

/// The metrics of the daemon.
pub struct Metrics(Registry);

/// Text format of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format, which every scraper reads.
    Prometheus,
    /// OpenMetrics, for scrapers that request it.
    OpenMetrics,
}

impl Format {
    /// Value of the header `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Prometheus => prometheus_text::CONTENT_TYPE,
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

impl Metrics {
    /// The metrics of a daemon that was started at `started_at`.
    pub fn new(counters: Counters, started_at: Timestamp) -> Metrics {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Source { counters, started_at }));
        Metrics(registry)
    }

    /// Writes the current values.
    pub fn write(&self, format: Format) -> String {
        let mut page = String::new();
        let written = match format {
            Format::Prometheus => prometheus_text::encode(&mut page, &self.0),
            Format::OpenMetrics => text::encode(&mut page, &self.0),
        };
        written.expect("writing to a String cannot fail");
        page
    }
}

#[derive(Debug)]
struct Source {
    counters: Counters,
    started_at: Timestamp,
}

impl Collector for Source {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        let Source { counters, started_at } = self;
        let scrape = Scrape { counters, cameras: counters.cameras(), started_at: *started_at };
        scrape.node(&mut page)?;
        scrape.frames(&mut page)?;
        scrape.cameras(&mut page)?;
        scrape.latencies(&mut page)?;
        scrape.delivery(&mut page)?;
        scrape.outbox(&mut page)?;
        scrape.pictures(&mut page)
    }
}

/// What one page is written from: the cameras do not change meanwhile.
struct Scrape<'a> {
    counters: &'a Counters,
    cameras: CountedCameras,
    started_at: Timestamp,
}

impl Scrape<'_> {
    fn node(&self, page: &mut Page<'_>) -> fmt::Result {
        let build = [("version", env!("CARGO_PKG_VERSION")), ("architecture", std::env::consts::ARCH)];
        page.info("camfire_build", "Version and architecture of camfire; always 1.", &build)?;
        let started_at = self.started_at.as_millisecond() as f64 / 1e3;
        page.gauge(
            "camfire_start_time",
            Some(Unit::Seconds),
            "Start time of camfire, in seconds since 1970.",
            one(started_at),
        )?;
        let resident = procfs::resident_bytes();
        page.gauge(
            "process_resident_memory",
            Some(Unit::Bytes),
            "Resident memory of the process.",
            resident.map(unlabelled),
        )?;
        let cpu = procfs::cpu_s();
        page.counter(
            "process_cpu",
            Some(Unit::Seconds),
            "CPU time of the process, user and system.",
            cpu.map(unlabelled),
        )?;
        page.counter(
            "camfire_messages_dropped",
            None,
            "Messages dropped because the publisher lagged behind the cameras.",
            one(load(&self.counters.messages_dropped)),
        )
    }

    fn frames(&self, page: &mut Page<'_>) -> fmt::Result {
        // Read once for all three families, so that the counts add up.
        let counts: Vec<(&str, FrameCounts)> =
            self.names().zip(self.cameras.iter().map(|camera| camera.slot.counts())).collect();
        page.counter(
            "camfire_frames_captured",
            None,
            "Frames that the camera sent, decoded or not.",
            counts.iter().map(|(camera, counts)| (vec![("camera", *camera)], counts.captured)),
        )?;
        page.counter(
            "camfire_frames",
            None,
            "Frames by outcome.",
            counts.iter().flat_map(|(camera, counts)| {
                outcomes(counts)
                    .map(|(outcome, count)| (vec![("camera", *camera), ("outcome", outcome)], count))
            }),
        )?;
        page.gauge(
            "camfire_frames_pending",
            None,
            "Frames that wait for a worker or are being analysed.",
            counts.iter().map(|(camera, counts)| (vec![("camera", *camera)], counts.pending)),
        )
    }

    fn cameras(&self, page: &mut Page<'_>) -> fmt::Result {
        page.gauge(
            "camfire_camera_live",
            None,
            "1 while the camera delivers frames, otherwise 0.",
            self.each_camera(|counters| flag(&counters.live)),
        )?;
        page.gauge(
            "camfire_camera_keyframes_only",
            None,
            "1 while only keyframes are decoded because the scene is still, otherwise 0.",
            self.each_camera(|counters| flag(&counters.keyframes_only)),
        )?;
        page.counter(
            "camfire_camera_restarts",
            None,
            "Failures after which the camera was reopened.",
            self.each_camera(|counters| load(&counters.restarts)),
        )?;
        page.counter(
            "camfire_camera_hung_teardowns",
            None,
            "Pipelines that could not be shut down and were abandoned.",
            self.each_camera(|counters| load(&counters.hung_teardowns)),
        )?;
        page.counter(
            "camfire_camera_unusable_images",
            None,
            "Images of an HTTP camera that were skipped, because they were missing, damaged or late.",
            self.each_camera(|counters| load(&counters.unusable)),
        )?;
        page.counter(
            "camfire_inferences",
            None,
            "Inferences on the camera's frames.",
            self.each_camera(|counters| load(&counters.inferences)),
        )?;
        page.counter(
            "camfire_inference",
            Some(Unit::Seconds),
            "Total time of the inferences on the camera's frames, including cropping and scaling.",
            self.each_camera(|counters| load(&counters.inference_us) as f64 / 1e6),
        )
    }

    fn latencies(&self, page: &mut Page<'_>) -> fmt::Result {
        let samples = self.cameras.iter().flat_map(|camera| {
            let labels = move |stage| vec![("camera", &*camera.name), ("stage", stage)];
            STAGES.into_iter().map(labels).zip(camera.counters.latencies_since_start())
        });
        page.histogram(
            "camfire_frame_latency",
            Unit::Seconds,
            "Latency of published frames by stage; infer is motion detection, tracking and inference.",
            samples,
        )
    }

    fn delivery(&self, page: &mut Page<'_>) -> fmt::Result {
        let counters = &self.counters.delivery;
        page.gauge(
            "camfire_delivery_connected",
            None,
            "1 while a broker is connected, otherwise 0.",
            one(flag(&counters.connected)),
        )?;
        let totals = [
            ("connections", "Connections to a broker that were established.", &counters.connections),
            ("accepted", "Durable messages accepted into the outbox.", &counters.accepted),
            ("sent", "Durable messages sent, including repeats.", &counters.sent),
            (
                "acknowledged",
                "Durable messages acknowledged by a broker, not including repeats.",
                &counters.acknowledged,
            ),
            ("lost", "Durable messages deleted before they were delivered.", &counters.lost),
        ];
        for (name, help, count) in totals {
            page.counter(&format!("camfire_delivery_{name}"), None, help, one(load(count)))?;
        }
        page.histogram(
            "camfire_delivery_ack_latency",
            Unit::Seconds,
            "Time from the capture of a frame to the broker's acknowledgement of its event.",
            one(counters.ack_latency_since_start()),
        )
    }

    fn outbox(&self, page: &mut Page<'_>) -> fmt::Result {
        let counters = &self.counters.delivery;
        page.gauge(
            "camfire_outbox_waiting",
            None,
            "Durable messages that wait for an acknowledgement.",
            one(load(&counters.waiting)),
        )?;
        page.gauge(
            "camfire_outbox_oldest_age",
            Some(Unit::Seconds),
            "Age of the oldest durable message that waits for an acknowledgement.",
            one(load(&counters.oldest_waiting_s)),
        )?;
        page.counter(
            "camfire_outbox_disk_written",
            Some(Unit::Bytes),
            "Bytes that the outbox has written to disk.",
            one(load(&counters.disk_bytes)),
        )?;
        page.gauge(
            "camfire_outbox_size",
            Some(Unit::Bytes),
            "Size of the outbox files.",
            one(load(&counters.file_bytes)),
        )
    }

    fn pictures(&self, page: &mut Page<'_>) -> fmt::Result {
        page.counter(
            "camfire_pictures_disk_written",
            Some(Unit::Bytes),
            "Bytes of event pictures written.",
            one(load(&self.counters.store.written_bytes)),
        )?;
        page.gauge(
            "camfire_pictures_size",
            Some(Unit::Bytes),
            "Size of the event pictures that are kept.",
            one(load(&self.counters.store.file_bytes)),
        )
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.cameras.iter().map(|camera| &*camera.name)
    }

    fn each_camera<T>(&self, value: impl Fn(&CameraCounters) -> T) -> impl Iterator<Item = Sample<'_, T>> {
        self.cameras.iter().map(move |camera| (vec![("camera", &*camera.name)], value(&camera.counters)))
    }
}

/// The outcomes of frames and their counts, without pending frames.
fn outcomes(counts: &FrameCounts) -> [(&'static str, u64); 6] {
    [
        ("analysed", counts.analysed),
        ("skipped_rate", counts.skipped_rate),
        ("skipped_still", counts.skipped_still),
        ("shed", counts.shed),
        ("dropped", counts.dropped),
        ("failed", counts.failed),
    ]
}

fn load(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

fn flag(flag: &AtomicBool) -> u64 {
    flag.load(Ordering::Relaxed).into()
}

/// Labels and a value.
type Sample<'a, T> = (Vec<(&'a str, &'a str)>, T);

fn unlabelled<'a, T>(value: T) -> Sample<'a, T> {
    (Vec::new(), value)
}

fn one<'a, T>(value: T) -> [Sample<'a, T>; 1] {
    [unlabelled(value)]
}

/// Writes metric families. A family without samples is omitted. Names are given without unit and `_total`,
/// which the formats append.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Info)?.encode_info(&labels)
    }

    fn counter<'s, T: EncodeCounterValue>(
        &mut self,
        name: &str,
        unit: Option<Unit>,
        help: &str,
        samples: impl IntoIterator<Item = Sample<'s, T>>,
    ) -> fmt::Result {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
        samples.try_for_each(|(labels, value)| {
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&value, None)
        })
    }

    fn gauge<'s, T: EncodeGaugeValue>(
        &mut self,
        name: &str,
        unit: Option<Unit>,
        help: &str,
        samples: impl IntoIterator<Item = Sample<'s, T>>,
    ) -> fmt::Result {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        samples.try_for_each(|(labels, value)| family.encode_family(&labels)?.encode_gauge(&value))
    }

    fn histogram<'s>(
        &mut self,
        name: &str,
        unit: Unit,
        help: &str,
        samples: impl IntoIterator<Item = Sample<'s, Buckets>>,
    ) -> fmt::Result {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, Some(&unit), MetricType::Histogram)?;
        samples.try_for_each(|(labels, buckets)| {
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                buckets.sum_s(),
                buckets.count(),
                &buckets.counts(),
                None,
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{counters::FrameTrace, frame::FrameTimings};
    use std::time::Duration;

    fn metrics(cameras: &[&str]) -> (Counters, Metrics) {
        let counters = Counters::empty(cameras);
        let metrics = Metrics::new(counters.clone(), "2026-01-01T00:00:00.5Z".parse().unwrap());
        (counters, metrics)
    }

    #[test]
    fn counters_are_served_in_both_formats() {
        let (counters, metrics) = metrics(&["yard", "door"]);
        counters.cameras()[1].counters.restarts.store(3, Ordering::Relaxed);
        counters.cameras()[0].counters.live.store(true, Ordering::Relaxed);
        counters.delivery.disk_bytes.store(4096, Ordering::Relaxed);
        counters.delivery.record_ack_latency(Duration::from_millis(20));
        let prometheus = metrics.write(Format::Prometheus);
        for line in [
            "camfire_start_time_seconds 1767225600.5",
            "# TYPE camfire_camera_restarts_total counter",
            "camfire_camera_restarts_total{camera=\"door\"} 3",
            "camfire_camera_live{camera=\"yard\"} 1",
            "camfire_outbox_disk_written_bytes_total 4096",
            "camfire_delivery_ack_latency_seconds_bucket{le=\"0.01\"} 0",
            "camfire_delivery_ack_latency_seconds_bucket{le=\"0.025\"} 1",
            "camfire_delivery_ack_latency_seconds_bucket{le=\"+Inf\"} 1",
            "camfire_delivery_ack_latency_seconds_count 1",
        ] {
            assert!(prometheus.lines().any(|found| found == line), "{line} in {prometheus}");
        }
        let open = metrics.write(Format::OpenMetrics);
        for line in [
            "# TYPE camfire_camera_restarts counter",
            "# UNIT camfire_outbox_disk_written_bytes bytes",
            "camfire_camera_restarts_total{camera=\"door\"} 3",
            "camfire_delivery_ack_latency_seconds_bucket{le=\"+Inf\"} 1",
        ] {
            assert!(open.lines().any(|found| found == line), "{line} in {open}");
        }
        assert!(open.ends_with("# EOF\n"));
    }

    #[test]
    fn latencies_are_served_by_camera_and_stage_and_never_reset() {
        let (counters, metrics) = metrics(&["yard"]);
        let ms = Duration::from_millis;
        let timings =
            FrameTimings { captured: ms(0), decoded: ms(3), queued: ms(3), started: ms(4), inferred: ms(24) };
        let counters = counters.cameras()[0].counters.clone();
        FrameTrace { timings, counters: counters.clone() }.published(ms(25));
        counters.take_latencies();
        let page = metrics.write(Format::Prometheus);
        for line in [
            "camfire_frame_latency_seconds_bucket{camera=\"yard\",stage=\"infer\",le=\"0.01\"} 0",
            "camfire_frame_latency_seconds_bucket{camera=\"yard\",stage=\"infer\",le=\"0.025\"} 1",
            "camfire_frame_latency_seconds_sum{camera=\"yard\",stage=\"infer\"} 0.02",
            "camfire_frame_latency_seconds_count{camera=\"yard\",stage=\"total\"} 1",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} in {page}");
        }
    }

    #[test]
    fn families_without_cameras_are_omitted() {
        let page = metrics(&[]).1.write(Format::Prometheus);
        assert!(page.contains("camfire_outbox_waiting 0\n"));
        assert!(!page.contains("camera=") && !page.contains("camfire_frames"), "{page}");
    }
}
