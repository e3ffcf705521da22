//! The node: its stages, memory, broker, outbox, disk and versions, the last hour, and the last warnings.

use super::answer::Json;
use crate::{
    counters::{optional_tenths, per_day},
    files, procfs, recent_log,
    web::{
        samples::{POINT_INTERVAL, Point},
        site::Site,
    },
    wire::messages::rfc3339_ms,
};
use axum::extract::State;
use jiff::Timestamp;
use serde::Serialize;
use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

#[derive(Serialize)]
struct Node {
    node: Arc<str>,
    version: &'static str,
    #[serde(serialize_with = "rfc3339_ms::serialize")]
    started_at: Timestamp,
    uptime_s: u64,
    #[serde(serialize_with = "rfc3339_ms::serialize")]
    at: Timestamp,
    memory_mib: u64,
    #[serde(serialize_with = "optional_tenths")]
    cpu_percent: Option<f64>,
    #[serde(serialize_with = "optional_tenths")]
    temperature_c: Option<f64>,
    clock_synchronised: Option<bool>,
    stages: Vec<Stage>,
    broker: Broker,
    outbox: Outbox,
    pictures: Pictures,
    disk: Option<Disk>,
    disk_bytes_per_day: Option<u64>,
    versions: Versions,
    messages_dropped: u64,
}

#[derive(Serialize)]
struct Stage {
    name: String,
    age_ms: u64,
    hangs: bool,
}

#[derive(Serialize)]
struct Broker {
    connected: bool,
    connections: u64,
}

#[derive(Serialize)]
struct Outbox {
    waiting: u64,
    oldest_waiting_s: u64,
    lost: u64,
    accepted: u64,
    file_bytes: u64,
    in_memory: bool,
}

#[derive(Serialize)]
struct Pictures {
    file_bytes: u64,
    max_bytes: u64,
    directory: Option<PathBuf>,
}

#[derive(Serialize)]
struct Disk {
    free_bytes: u64,
    total_bytes: u64,
}

#[derive(Serialize)]
struct Versions {
    camfire: &'static str,
    gstreamer: String,
    engine: String,
    model: String,
}

/// `GET /api/v1/node`
pub async fn state(State(site): State<Arc<Site>>) -> Json<impl Serialize> {
    let (shown, counters, now) = (site.shown(), &site.counters, site.clock.monotonic());
    let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let (delivery, store) = (&counters.delivery, &counters.store);
    let written = read(&delivery.disk_bytes) + read(&store.written_bytes);
    let stage = |(name, age): (String, std::time::Duration)| Stage {
        hangs: age > site.stuck,
        age_ms: age.as_millis() as u64,
        name,
    };
    Json(Node {
        node: shown.node.clone(),
        version: env!("CARGO_PKG_VERSION"),
        started_at: site.started_at,
        uptime_s: now.as_secs(),
        at: site.clock.now(),
        memory_mib: procfs::resident_bytes().unwrap_or_default() >> 20,
        cpu_percent: site.samples.cpu_percent(),
        temperature_c: procfs::temperature_c(),
        clock_synchronised: site.clock.is_synchronised(),
        stages: site.heartbeats.ages(now).into_iter().map(stage).collect(),
        broker: Broker {
            connected: delivery.connected.load(Ordering::Relaxed),
            connections: read(&delivery.connections),
        },
        outbox: Outbox {
            waiting: read(&delivery.waiting),
            oldest_waiting_s: read(&delivery.oldest_waiting_s),
            lost: read(&delivery.lost),
            accepted: read(&delivery.accepted),
            file_bytes: read(&delivery.file_bytes),
            in_memory: !shown.has_outbox_file,
        },
        pictures: Pictures {
            file_bytes: read(&store.file_bytes),
            max_bytes: shown.pictures.max_bytes,
            directory: shown.pictures.directory.clone(),
        },
        disk: shown.pictures.directory.as_deref().and_then(|folder| {
            let (free_bytes, total_bytes) = files::space(folder).ok()?;
            Some(Disk { free_bytes, total_bytes })
        }),
        disk_bytes_per_day: per_day(written, now),
        versions: Versions {
            camfire: env!("CARGO_PKG_VERSION"),
            gstreamer: shown.gstreamer.clone(),
            engine: shown.engine.clone(),
            model: shown.model.clone(),
        },
        messages_dropped: read(&counters.messages_dropped),
    })
}

#[derive(Serialize)]
struct History {
    interval_s: u64,
    points: Vec<Point>,
}

/// `GET /api/v1/node/history`: the last hour.
pub async fn history(State(site): State<Arc<Site>>) -> Json<impl Serialize> {
    Json(History { interval_s: POINT_INTERVAL.as_secs(), points: site.samples.points() })
}

#[derive(Serialize)]
struct Log {
    entries: Vec<recent_log::Entry>,
}

/// `GET /api/v1/node/log`: the last warnings.
pub async fn log(State(site): State<Arc<Site>>) -> Json<impl Serialize> {
    Json(Log { entries: site.node_control.log.entries() })
}
