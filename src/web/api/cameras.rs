//! The cameras: their states, settings and what is drawn on them.

use super::response::{ApiError, Json};
use crate::{
    counters::optional_tenths,
    web::app_state::{AppState, CurrentCamera},
    wire::messages::{CameraStatus, Region, ZoneOccupancy, rfc3339_ms, timestamp_ms},
};
use axum::extract::{Path, State};
use jiff::Timestamp;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

/// A camera as the page shows it.
#[derive(Serialize)]
pub struct Camera {
    name: String,
    size: Option<[u32; 2]>,
    status: Status,
    settings: Settings,
    occupancy: Option<Occupancy>,
    stats: Stats,
    zones: Vec<Zone>,
    masks: Vec<Vec<[f64; 2]>>,
    regions: Vec<RegionRect>,
    region_states: BTreeMap<String, RegionState>,
}

/// The status without the fields of the message around it.
#[derive(Serialize)]
struct Status {
    state: crate::wire::messages::CameraState,
    reason: Option<String>,
    #[serde(serialize_with = "rfc3339_ms::serialize")]
    since: Timestamp,
    pipeline: Option<String>,
    passed_over: Vec<crate::wire::messages::SkippedPipeline>,
    transport: Option<&'static str>,
    health: crate::vision::health::Health,
    health_reason: Option<String>,
    clock: Option<crate::wire::messages::StreamClock>,
}

#[derive(Serialize)]
struct Settings {
    watching: bool,
    rate_fps: f64,
    motion_threshold: f64,
    score: f64,
    /// When commands have set them, by name.
    since: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct Occupancy {
    #[serde(serialize_with = "rfc3339_ms::serialize")]
    at: Timestamp,
    total: usize,
    labels: BTreeMap<String, usize>,
    zones: BTreeMap<String, ZoneOccupancy>,
}

#[derive(Serialize)]
struct Stats {
    #[serde(serialize_with = "optional_tenths")]
    analysed_fps: Option<f64>,
    #[serde(serialize_with = "optional_tenths")]
    latency_ms: Option<f64>,
    captured: u64,
    analysed: u64,
    skipped_still: u64,
    shed: u64,
    dropped: u64,
    failed: u64,
    restarts: u64,
}

#[derive(Serialize)]
struct Zone {
    name: String,
    polygon: Vec<[f64; 2]>,
}

#[derive(Serialize)]
struct RegionRect {
    name: String,
    /// Left, top, width and height as fractions of the frame.
    rect: [f64; 4],
}

#[derive(Serialize)]
struct RegionState {
    state: String,
    score: f32,
    #[serde(serialize_with = "rfc3339_ms::serialize")]
    since: Timestamp,
}

/// Describes a camera.
pub fn describe(app: &AppState, camera: &CurrentCamera) -> Camera {
    let CurrentCamera { config, control, counters, .. } = camera;
    let states = app.feed.states(&config.name);
    let node = app.current().node.clone();
    let starting = || CameraStatus::starting(node, config.name.as_str().into(), app.started_at);
    let status = states.status.unwrap_or_else(starting);
    let settings = control.settings();
    let since = control.saved().entries().into_iter().map(|(name, _, since)| (name, timestamp_ms(since)));
    let counted = app.counters.cameras();
    let counts = counted.iter().find(|counted| *counted.name == *config.name).map(|c| c.slot.counts());
    let counts = counts.unwrap_or_default();
    let sample = app.samples.newest(&config.name);
    let newest = control.live.newest();
    Camera {
        name: config.name.clone(),
        size: newest.map(|frame| frame.size),
        status: Status {
            state: status.state,
            reason: status.reason,
            since: status.since,
            pipeline: status.pipeline,
            passed_over: status.passed_over,
            transport: status.transport,
            health: status.health,
            health_reason: status.health_reason,
            clock: status.clock,
        },
        settings: Settings {
            watching: settings.watching,
            rate_fps: settings.rate_fps,
            motion_threshold: settings.motion_threshold,
            score: settings.score,
            since: since.collect(),
        },
        occupancy: states.occupancy.map(|occupancy| Occupancy {
            at: occupancy.at,
            total: occupancy.total,
            labels: occupancy.labels,
            zones: occupancy.zones,
        }),
        stats: Stats {
            analysed_fps: sample.and_then(|sample| sample.analysed_fps),
            latency_ms: sample.and_then(|sample| sample.latency_ms),
            captured: counts.captured,
            analysed: counts.analysed,
            skipped_still: counts.skipped_still,
            shed: counts.shed,
            dropped: counts.dropped,
            failed: counts.failed,
            restarts: counters.restarts.load(Ordering::Relaxed),
        },
        zones: config
            .zones
            .iter()
            .map(|(name, corners)| Zone {
                name: name.clone(),
                polygon: corners.iter().map(|&(x, y)| [x, y]).collect(),
            })
            .collect(),
        masks: config.masks.iter().map(|mask| mask.iter().map(|&(x, y)| [x, y]).collect()).collect(),
        regions: config
            .regions
            .iter()
            .map(|region| RegionRect {
                name: region.name.clone(),
                rect: [region.left, region.top, region.width, region.height],
            })
            .collect(),
        region_states: states.regions.into_iter().map(|(name, region)| (name, state(region))).collect(),
    }
}

fn state(region: Region) -> RegionState {
    RegionState { state: region.state, score: region.score, since: region.since }
}

#[derive(Serialize)]
struct Cameras {
    cameras: Vec<Camera>,
}

/// `GET /api/v1/cameras`
pub async fn list(State(app): State<Arc<AppState>>) -> Json<impl Serialize> {
    Json(Cameras { cameras: app.current().cameras.iter().map(|camera| describe(&app, camera)).collect() })
}

/// `GET /api/v1/cameras/NAME`
pub async fn one(
    State(app): State<Arc<AppState>>,
    Path(name): Path<String>,
) -> Result<Json<Camera>, ApiError> {
    let camera = app.camera(&name).ok_or_else(|| ApiError::not_found("camera"))?;
    Ok(Json(describe(&app, &camera)))
}
