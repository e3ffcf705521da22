//! Logging in and out.

use super::{body, done, response::ApiError, with_headers};
use crate::{
    config::web_passwords::Role,
    web::{access::Access, app_state::AppState, forwarded::Client},
};
use axum::{
    Extension,
    body::Bytes,
    extract::State,
    http::{HeaderMap, header},
    response::Response,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Who is logged in to what.
#[derive(Serialize)]
struct Session {
    node: Arc<str>,
    version: &'static str,
    /// Whether one must log in.
    password_required: bool,
    /// What the sender may do. Null: nothing.
    role: Option<Role>,
}

impl Session {
    fn of(app: &AppState, access: &Access, role: Option<Role>) -> Session {
        Session {
            node: app.current().node.clone(),
            version: env!("CARGO_PKG_VERSION"),
            password_required: access.requires_password(),
            role,
        }
    }
}

/// `GET /api/v1/session`
pub async fn state(
    State(app): State<Arc<AppState>>,
    Extension(access): Extension<Arc<Access>>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
) -> Response {
    let session = Session::of(&app, &access, access.role(client, &headers));
    with_headers(HeaderMap::new(), session)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    password: String,
}

/// `POST /api/v1/session`
pub async fn log_in(
    State(app): State<Arc<AppState>>,
    Extension(access): Extension<Arc<Access>>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    let Login { password } = body(&headers, &bytes)?;
    let (role, cookie) = access.log_in(client, password).await?;
    let cookies = HeaderMap::from_iter([(header::SET_COOKIE, cookie)]);
    Ok(with_headers(cookies, Session::of(&app, &access, Some(role))))
}

/// `DELETE /api/v1/session`
pub async fn log_out(
    Extension(access): Extension<Arc<Access>>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
) -> Response {
    let mut response = done();
    response.headers_mut().insert(header::SET_COOKIE, access.log_out(client, &headers));
    response
}
