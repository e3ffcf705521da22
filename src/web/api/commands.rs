//! Commands to a camera: the same as over MQTT, with the same memory.

use super::{body, done, response::ApiError};
use crate::{control::saved::SavedCamera, web::app_state::AppState};
use axum::{
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::Deserialize;
use std::sync::Arc;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Command {
    r#do: Action,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    /// Close the camera until it is resumed, whatever happens to camfire.
    Pause,
    Resume,
    /// Forget what commands have set.
    Reset,
}

/// `POST /api/v1/cameras/NAME/command`
pub async fn camera(
    State(app): State<Arc<AppState>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    let camera = app.camera(&name).ok_or_else(|| ApiError::not_found("camera"))?;
    let Command { r#do: action } = body(&headers, &bytes)?;
    let now = app.clock.now();
    let change = |saved: &mut SavedCamera| match action {
        Action::Pause => SavedCamera::set(&mut saved.watching, false, now),
        Action::Resume => saved.watching = None,
        Action::Reset => *saved = SavedCamera::default(),
    };
    // Whoever looks is told of it, as of a change by a command over MQTT.
    camera.control.change(change).map_err(|error| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the setting cannot be saved: {error}"))
    })?;
    Ok(done())
}
