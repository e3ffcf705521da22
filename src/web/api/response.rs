//! Answers of the API: JSON, and errors as one sentence.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

/// A request that cannot be answered as wanted.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    text: String,
    retry_after_s: Option<u64>,
}

impl ApiError {
    /// Creates an answer with a status and one sentence for the user.
    pub fn new(status: StatusCode, text: impl Into<String>) -> ApiError {
        ApiError { status, text: text.into(), retry_after_s: None }
    }

    /// There is no such thing.
    pub fn not_found(what: &str) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, format!("there is no such {what}"))
    }

    /// The request must not be repeated before this time.
    pub fn retry_after(self, seconds: u64) -> ApiError {
        ApiError { retry_after_s: Some(seconds), ..self }
    }
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(ErrorBody { error: &self.text })).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// A JSON body, which no cache keeps.
pub struct Json<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
        match serde_json::to_vec(&self.0) {
            Ok(body) => (headers, body).into_response(),
            Err(error) => {
                tracing::error!(%error, "An answer of the web server cannot be written as JSON.");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}
