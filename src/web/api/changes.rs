//! Changes as they come, as server-sent events. A reader that falls behind is told that it has missed some.

use super::{cameras, events};
use crate::{web::app_state::AppState, wire::feed::Change};
use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::stream;
use serde::Serialize;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::sync::broadcast::error::RecvError;

/// Interval between two comments on a stream without changes. They also show whether the reader is still
/// there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// `GET /api/v1/changes`
pub async fn stream(State(app): State<Arc<AppState>>) -> Response {
    let changes = app.feed.subscribe();
    let events = stream::unfold((changes, app), |(mut changes, app)| async move {
        loop {
            let event = match changes.recv().await {
                Ok(change) => to_event(&app, change),
                Err(RecvError::Lagged(_)) => Some(named("missed", &Empty {})),
                Err(RecvError::Closed) => return None,
            };
            if let Some(event) = event {
                return Some((Ok::<_, Infallible>(event), (changes, app)));
            }
        }
    });
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // Some proxies wait for a full buffer otherwise.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[derive(Serialize)]
struct Empty {}

/// The event of a change. None if its camera is gone.
fn to_event(app: &AppState, change: Change) -> Option<Event> {
    Some(match change {
        Change::Event(event) => {
            named("event", &events::describe(event.as_ref().clone(), &app.current(), app.clock.now()))
        }
        Change::Camera(name) => named("camera", &cameras::describe(app, &app.camera(&name)?)),
        Change::Cameras => named("cameras", &Empty {}),
    })
}

fn named(name: &str, data: &impl Serialize) -> Event {
    let data = serde_json::to_string(data).expect("changes have string keys and finite numbers");
    Event::default().event(name).data(data)
}
