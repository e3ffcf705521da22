//! The preview of a setup: what the last minutes would have been with values that are not saved.
//!
//! The frames and their analysis are those of [`replay`]. It takes seconds of a core, so it runs on a thread
//! of low priority, one at a time on a node, and ends when it is not wanted any more: when a newer preview is
//! requested, its client is gone, or it takes too long.

use super::{
    body,
    response::{ApiError, Json},
    setup::{self, Values},
};
use crate::{
    config::Camera,
    lifecycle,
    vision::{
        rect::Rect,
        replay::{self, Seen, SeenTrack},
    },
    web::app_state::{AppState, CurrentCamera},
    wire::messages::rfc3339_ms,
};
use axum::{
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde::Serialize;
use std::{cmp::Reverse, sync::Arc, time::Duration};
use tokio::sync::oneshot;

/// Maximum time that a preview may take.
const MAX_TIME: Duration = Duration::from_secs(30);
/// Maximum number of tracks in an answer.
const MAX_TRACKS: usize = 200;

/// What would have been seen.
#[derive(Serialize)]
struct Preview {
    /// Time from the first to the last frame.
    seconds: f64,
    frames: usize,
    /// Capture time of the last frame.
    #[serde(serialize_with = "rfc3339_ms::serialize")]
    until: Timestamp,
    /// Width and height of the frame in pixels.
    size: [u32; 2],
    /// Those that would have been reported first, then the others, the longest first.
    tracks: Vec<Track>,
    /// Number of tracks that are not listed.
    omitted: usize,
}

#[derive(Serialize)]
struct Track {
    label: Option<String>,
    score: f64,
    /// Seconds before the last frame, as negative numbers.
    first_s: f64,
    last_s: f64,
    path: Vec<[f64; 2]>,
    r#box: [f64; 4],
    zones: Vec<String>,
    reported: bool,
    why: Option<String>,
}

type Outcome = Result<Response, ApiError>;

/// `POST /api/v1/cameras/NAME/preview`
pub async fn post(
    State(app): State<Arc<AppState>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Outcome {
    let camera = app.camera(&name).ok_or_else(|| ApiError::not_found("camera"))?;
    let values: Values = body(&headers, &bytes)?;
    if let Some(problem) = setup::out_of_bounds(&values, &camera.config) {
        return Ok(setup::refuse(vec![problem]));
    }
    let Some(turn) = app.previews.turn().await else { return Err(superseded()) };
    let (sender, answer) = oneshot::channel();
    let work = move || {
        let deadline = app.clock.monotonic() + MAX_TIME;
        let is_wanted = || turn.is_newest() && !sender.is_closed() && app.clock.monotonic() < deadline;
        let outcome = preview(&app, &camera, values, &is_wanted);
        let outcome = outcome.and_then(|outcome| match outcome {
            Some(response) => Ok(response),
            None if turn.is_newest() => Err(ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the preview takes too long: this machine is busy",
            )),
            None => Err(superseded()),
        });
        drop(turn);
        drop(sender.send(outcome));
    };
    let failed = || ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the preview could not be made");
    lifecycle::spawn_background("preview", work).map_err(|_| failed())?;
    answer.await.map_err(|_| failed())?
}

fn superseded() -> ApiError {
    ApiError::new(StatusCode::CONFLICT, "a newer preview was requested").retry_after(1)
}

/// The answer. None if it is not wanted any more.
fn preview(
    app: &AppState,
    current: &CurrentCamera,
    values: Values,
    is_wanted: &dyn Fn() -> bool,
) -> Result<Option<Response>, ApiError> {
    let frames = current.recording.frames();
    if frames.is_empty() {
        let text = match current.recording.is_on() {
            true => "nothing is recorded yet: a preview needs the frames of the last minutes",
            false => "there are no previews on this node: web.preview_mib is 0",
        };
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, text));
    }
    let (has_threshold, has_score) = (values.motion_threshold.is_some(), values.score.is_some());
    let changed = match setup::camera_with(app, &current.config.name, values)? {
        Ok(camera) => camera,
        Err(problems) => return Ok(Some(setup::refuse(problems))),
    };
    let Camera { masks, zones, mut motion, mut score, .. } = changed;
    // What a command has set applies as long as the page does not set it.
    let settings = current.control.settings();
    if !has_threshold {
        motion.threshold = settings.motion_threshold;
    }
    if !has_score {
        score = settings.score as f32;
    }
    let zone_names: Vec<String> = zones.keys().cloned().collect();
    let camera = Camera { masks, zones, motion, score, ..current.config.clone() };
    let seen = replay::run(camera, current.objects.clone(), &frames, is_wanted);
    Ok(seen.map(|seen| Json(to_answer(seen, &zone_names)).into_response()))
}

fn to_answer(mut seen: Seen, zone_names: &[String]) -> Preview {
    seen.tracks.sort_by_key(|track| (track.unreported.is_some(), Reverse(track.first - track.last)));
    let omitted = seen.omitted + seen.tracks.len().saturating_sub(MAX_TRACKS);
    let tracks = seen.tracks.iter().take(MAX_TRACKS).map(|track| to_track(track, &seen, zone_names));
    Preview {
        seconds: rounded(seen.duration.as_secs_f64()),
        frames: seen.frames,
        until: seen.until,
        size: [seen.size.0, seen.size.1].map(|length| length.round() as u32),
        tracks: tracks.collect(),
        omitted,
    }
}

fn to_track(track: &SeenTrack, seen: &Seen, zone_names: &[String]) -> Track {
    let label = track.label.map(|label| seen.taxonomy.name(label).to_string());
    let why = track.unreported.map(|unreported| match track.is_classified {
        false if track.is_confirmed() => "nothing was classified here, so its label is not known".to_string(),
        _ => unreported.to_words(label.as_deref().unwrap_or_default(), track.score),
    });
    let Rect { left, top, width, height } = track.rect;
    Track {
        label,
        score: (f64::from(track.score) * 1e3).round() / 1e3,
        first_s: -rounded(track.first.as_secs_f64()),
        last_s: -rounded(track.last.as_secs_f64()),
        path: track.path.iter().map(|&(x, y)| [rounded(x), rounded(y)]).collect(),
        r#box: [left, top, width, height].map(rounded),
        zones: track.zones.iter().filter_map(|&zone| zone_names.get(zone).cloned()).collect(),
        reported: why.is_none(),
        why,
    }
}

/// To one digit after the point, and never -0.
fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0 + 0.0
}
