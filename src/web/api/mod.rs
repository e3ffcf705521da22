//! The API of the page, for other programs as well: JSON under `/api/v1`. `docs/api.md` describes it for
//! users and `docs/openapi.json` for programs; a test holds that file against what is served.

mod cameras;
mod changes;
mod commands;
mod events;
mod live;
mod node;
mod preview;
pub mod response;
mod session;
mod setup;

use self::response::{ApiError, Json};
use super::{
    access::{self, Access},
    app_state::AppState,
    lifetime::Lifetime,
};
use axum::{
    Extension, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Request},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// Maximum size of a request's body.
const MAX_BODY_BYTES: usize = 64 << 10;
/// The description for programs.
const OPENAPI: &str = include_str!("../../../docs/openapi.json");

/// The routes below `/api/v1`.
pub fn router(app: Arc<AppState>, access: Arc<Access>) -> Router {
    let streams = Router::new()
        .route("/changes", get(changes::stream))
        .route("/cameras/{name}/live", get(live::live))
        .layer(middleware::from_fn(last));
    let guarded = Router::new()
        .route("/cameras", get(cameras::list))
        .route("/cameras/{name}", get(cameras::one))
        .route("/cameras/{name}/picture", get(live::picture))
        .route("/cameras/{name}/command", post(commands::camera))
        .route("/cameras/{name}/setup", get(setup::get).put(setup::put).delete(setup::delete))
        .route("/cameras/{name}/setup/toml", post(setup::toml))
        .route("/cameras/{name}/preview", post(preview::post))
        .route("/events", get(events::list))
        .route("/events/{id}", get(events::one))
        .route("/events/{id}/picture", get(events::picture))
        .route("/node", get(node::state))
        .route("/node/history", get(node::history))
        .route("/node/log", get(node::log))
        .merge(streams)
        .layer(middleware::from_fn_with_state(access.clone(), access::require_role));
    let open = Router::new()
        .route("/session", get(session::state).post(session::log_in).delete(session::log_out))
        .layer(Extension(access));
    guarded
        .merge(open)
        .route("/openapi.json", get(openapi))
        .fallback(nothing)
        .method_not_allowed_fallback(not_allowed)
        .layer(middleware::from_fn(access::require_same_origin))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(app)
}

/// The routes below `/api/events`: pictures by links, which need no session. Frigate has the same paths.
pub fn links(app: Arc<AppState>, access: Arc<Access>) -> Router {
    Router::new()
        .route("/{id}/{name}", get(events::linked_picture))
        .fallback(nothing)
        .method_not_allowed_fallback(not_allowed)
        .layer(Extension(access))
        .with_state(app)
}

/// Lets the connection last as long as its client reads the stream.
async fn last(Extension(lifetime): Extension<Arc<Lifetime>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    if response.status().is_success() { response.map(|body| lifetime.stream(body)) } else { response }
}

async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
}

async fn nothing() -> ApiError {
    ApiError::not_found("resource")
}

async fn not_allowed() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "this resource has no such method")
}

/// Reads a body of JSON.
///
/// Errors: it is not said to be JSON, or it is not what is expected.
fn body<T: DeserializeOwned>(headers: &HeaderMap, bytes: &Bytes) -> Result<T, ApiError> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    // A form of another site cannot send this type.
    if kind.split(';').next().is_none_or(|kind| !kind.trim().eq_ignore_ascii_case("application/json")) {
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be application/json"));
    }
    let unusable = |why: &dyn std::fmt::Display| {
        ApiError::new(StatusCode::BAD_REQUEST, format!("the body cannot be used: {why}"))
    };
    // A list would be taken for the values of a struct in their order.
    let object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(bytes).map_err(|error| unusable(&error))?;
    serde_json::from_value(object.into()).map_err(|error| unusable(&error))
}

/// An empty answer with a status.
fn done() -> Response {
    (StatusCode::NO_CONTENT, [(header::CACHE_CONTROL, "no-store")]).into_response()
}

/// A JSON answer with further headers.
fn with_headers(headers: HeaderMap, json: impl serde::Serialize) -> Response {
    (headers, Json(json)).into_response()
}
