//! Pictures of a camera: the newest frame, and all analysed frames as they come.

use super::response::ApiError;
use crate::{queue::live::LiveFrame, web::app_state::AppState};
use axum::{
    body::{Body, Bytes},
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use jiff::{SignedDuration, Timestamp};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::time;

/// A frame of this age is still the newest one.
const MAX_AGE: SignedDuration = SignedDuration::from_millis(900);
/// Minimum and maximum time to wait for a frame; in between, two intervals at the camera's rate.
const MIN_WAIT: Duration = Duration::from_secs(3);
const MAX_WAIT: Duration = Duration::from_secs(15);
/// Separates the parts of the stream.
const BOUNDARY: &str = "camfire";

/// `GET /api/v1/cameras/NAME/picture`: the newest frame as a JPEG file.
pub async fn picture(
    State(app): State<Arc<AppState>>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let camera = app.camera(&name).ok_or_else(|| ApiError::not_found("camera"))?;
    let mut viewer = camera.control.live.watch();
    let is_new = |frame: &LiveFrame, now: Timestamp| now.duration_since(frame.captured_at).abs() <= MAX_AGE;
    let newest = viewer.borrow_and_update().clone();
    let frame = match newest.filter(|frame| is_new(frame, app.clock.now())) {
        Some(frame) => frame,
        None => {
            let interval = Duration::try_from_secs_f64(2.0 / camera.config.rate_fps).unwrap_or(MAX_WAIT);
            let wait = interval.clamp(MIN_WAIT, MAX_WAIT);
            let next = async {
                viewer.changed().await.ok()?;
                viewer.borrow_and_update().clone()
            };
            time::timeout(wait, next).await.ok().flatten().ok_or_else(|| {
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "the camera delivers no picture now")
            })?
        }
    };
    let headers = [(header::CONTENT_TYPE, "image/jpeg"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, frame.jpeg.clone()).into_response())
}

/// `GET /api/v1/cameras/NAME/live`: each analysed frame as it comes, with what was found in it. A slow reader
/// misses frames.
pub async fn live(State(app): State<Arc<AppState>>, Path(name): Path<String>) -> Result<Response, ApiError> {
    let camera = app.camera(&name).ok_or_else(|| ApiError::not_found("camera"))?;
    let viewer = camera.control.live.watch();
    // The frames of the past are not shown.
    let frames = stream::unfold(viewer, |mut viewer| async move {
        loop {
            // Fails when the camera is closed for good or opened anew with other settings.
            viewer.changed().await.ok()?;
            let frame = viewer.borrow_and_update().clone();
            if let Some(frame) = frame {
                return Some((Ok::<_, Infallible>(part(&frame)), viewer));
            }
        }
    });
    let content_type = format!("multipart/x-mixed-replace; boundary={BOUNDARY}");
    let headers = [(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-store".to_string())];
    Ok((headers, Body::from_stream(frames)).into_response())
}

/// One part of the stream.
fn part(frame: &LiveFrame) -> Bytes {
    let head = format!(
        "--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\nCamfire-Frame: {}\r\n\r\n",
        frame.jpeg.len(),
        frame.overlay
    );
    let mut part = Vec::with_capacity(head.len() + frame.jpeg.len() + 2);
    part.extend_from_slice(head.as_bytes());
    part.extend_from_slice(&frame.jpeg);
    part.extend_from_slice(b"\r\n");
    part.into()
}
