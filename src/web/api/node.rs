//! The node: its stages, memory, broker, outbox, disk and versions, the last hour, and the last warnings.

use super::response::Json;
use crate::{
    counters::{optional_tenths, per_day},
    files, procfs, recent_log,
    web::{
        app_state::AppState,
        samples::{POINT_INTERVAL, Point},
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
pub async fn state(State(app): State<Arc<AppState>>) -> Json<impl Serialize> {
    let (current, counters, now) = (app.current(), &app.counters, app.clock.monotonic());
    let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let (delivery, store) = (&counters.delivery, &counters.store);
    let written = read(&delivery.disk_bytes) + read(&store.written_bytes);
    let stage = |(name, age): (String, std::time::Duration)| Stage {
        hangs: age > app.stuck,
        age_ms: age.as_millis() as u64,
        name,
    };
    Json(Node {
        node: current.node.clone(),
        version: env!("CARGO_PKG_VERSION"),
        started_at: app.started_at,
        uptime_s: now.as_secs(),
        at: app.clock.now(),
        memory_mib: procfs::resident_bytes().unwrap_or_default() >> 20,
        cpu_percent: app.samples.cpu_percent(),
        temperature_c: procfs::temperature_c(),
        clock_synchronised: app.clock.is_synchronised(),
        stages: app.heartbeats.ages(now).into_iter().map(stage).collect(),
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
            in_memory: !current.has_outbox_file,
        },
        pictures: Pictures {
            file_bytes: read(&store.file_bytes),
            max_bytes: current.pictures.max_bytes,
            directory: current.pictures.directory.clone(),
        },
        disk: current.pictures.directory.as_deref().and_then(|folder| {
            let (free_bytes, total_bytes) = files::space(folder).ok()?;
            Some(Disk { free_bytes, total_bytes })
        }),
        disk_bytes_per_day: per_day(written, now),
        versions: Versions {
            camfire: env!("CARGO_PKG_VERSION"),
            gstreamer: current.gstreamer.clone(),
            engine: current.engine.clone(),
            model: current.model.clone(),
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
pub async fn history(State(app): State<Arc<AppState>>) -> Json<impl Serialize> {
    Json(History { interval_s: POINT_INTERVAL.as_secs(), points: app.samples.points() })
}

#[derive(Serialize)]
struct Log {
    entries: Vec<recent_log::Entry>,
}

/// `GET /api/v1/node/log`: the last warnings.
pub async fn log(State(app): State<Arc<AppState>>) -> Json<impl Serialize> {
    Json(Log { entries: app.node_control.log.entries() })
}
