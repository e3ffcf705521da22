//! Past and present events, from the outbox's history, with their pictures.

use super::response::{ApiError, Json};
use crate::{
    files::{self, Directory},
    web::{
        access::Access,
        app_state::{AppState, Current},
        forwarded::Client,
    },
    wire::{
        files::PictureFiles,
        history::EventQuery,
        links::LinkedPicture,
        messages::{self, EventType},
    },
};
use axum::{
    Extension,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::{fs::File, io, path, sync::Arc};
use tokio::task;
use uuid::Uuid;

/// Number of events of a page if the request does not say.
const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 200;
/// Time in which the store writes the pictures of an event.
const WRITING_TIME: SignedDuration = SignedDuration::from_secs(10);
/// Maximum size of a picture. The store's are far smaller.
const MAX_PICTURE_BYTES: u64 = 32 << 20;

/// Parameters of `GET /api/v1/events`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    camera: Option<String>,
    label: Option<String>,
    zone: Option<String>,
    from: Option<String>,
    to: Option<String>,
    before: Option<String>,
    limit: Option<usize>,
}

/// An event as the page shows it.
#[derive(Serialize)]
pub struct Event {
    #[serde(flatten)]
    event: messages::Event,
    picture: Picture,
}

/// Whether there is a picture of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Picture {
    /// It can be fetched.
    Stored,
    /// The store has removed it.
    Removed,
    /// None was ever stored, or it is not written yet.
    None,
}

/// Describes an event, without its links: they would open its pictures also when the reader may no longer see
/// them.
pub fn describe(mut event: messages::Event, current: &Current, now: Timestamp) -> Event {
    event.links = None;
    let picture = match &event.best.pictures {
        None => Picture::None,
        Some(_) if current.pictures.directory.is_none() => Picture::None,
        Some(files) if is_stored(current, &files.annotated) => Picture::Stored,
        Some(_) if event.kind != EventType::End => Picture::None,
        Some(_) if now.duration_since(event.at) < WRITING_TIME => Picture::None,
        Some(_) => Picture::Removed,
    };
    Event { event, picture }
}

/// Opens a stored picture.
fn open_picture(current: &Current, file: &str) -> io::Result<File> {
    let directory = current.pictures.directory.as_ref().ok_or(io::ErrorKind::NotFound)?;
    Directory::open(directory)?.open_below(path::Path::new(file))
}

fn is_stored(current: &Current, file: &str) -> bool {
    open_picture(current, file).is_ok()
}

/// A page of events.
#[derive(Serialize)]
struct Page {
    events: Vec<Event>,
    /// For the parameter `before` of the next page. Null if there is none.
    next: Option<String>,
    available: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Parameters {
    fn query(self) -> Result<EventQuery, ApiError> {
        let bad = |name: &str, what: &str| ApiError::new(StatusCode::BAD_REQUEST, format!("{name}: {what}"));
        let time = |name: &str, value: Option<String>| match value {
            None => Ok(None),
            Some(text) => match text.parse::<Timestamp>() {
                Ok(at) => Ok(Some(at.as_millisecond())),
                Err(_) => Err(bad(name, "must be a time such as 2026-11-24T07:31:02Z")),
            },
        };
        let name = |value: Option<String>| value.filter(|value| !value.is_empty());
        let before = match self.before {
            None => None,
            Some(text) => {
                Some(text.parse::<Uuid>().map_err(|_| bad("before", "must be the `next` of a page"))?)
            }
        };
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(bad("limit", &format!("must be from 1 to {MAX_LIMIT}")));
        }
        Ok(EventQuery {
            id: None,
            camera: name(self.camera),
            label: name(self.label),
            zone: name(self.zone),
            from_ms: time("from", self.from)?,
            to_ms: time("to", self.to)?,
            before,
            limit,
        })
    }
}

/// `GET /api/v1/events`: newest first.
pub async fn list(
    State(app): State<Arc<AppState>>,
    Query(parameters): Query<Parameters>,
) -> Result<Json<impl Serialize>, ApiError> {
    let page = match app.events(parameters.query()?).await {
        Ok((events, more)) => {
            let (current, now) = (app.current(), app.clock.now());
            let next = events.last().filter(|_| more).map(|event| event.id.clone());
            // Looks for the picture of each on the disk.
            let describe_all =
                move || events.into_iter().map(|event| describe(event, &current, now)).collect();
            let events = task::spawn_blocking(describe_all).await.unwrap_or_default();
            Page { events, next, available: true, reason: None }
        }
        Err(reason) => Page { events: Vec::new(), next: None, available: false, reason: Some(reason) },
    };
    Ok(Json(page))
}

/// Finds an event by its id.
async fn find(app: &AppState, id: &str) -> Result<messages::Event, ApiError> {
    let id = id.parse::<Uuid>().map_err(|_| ApiError::not_found("event"))?;
    let query = EventQuery { id: Some(id), limit: 1, ..EventQuery::default() };
    let (events, _) =
        app.events(query).await.map_err(|reason| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, reason))?;
    events.into_iter().next().ok_or_else(|| ApiError::not_found("event"))
}

/// `GET /api/v1/events/ID`
pub async fn one(State(app): State<Arc<AppState>>, Path(id): Path<String>) -> Result<Json<Event>, ApiError> {
    let event = find(&app, &id).await?;
    Ok(Json(describe(event, &app.current(), app.clock.now())))
}

/// Parameters of `GET /api/v1/events/ID/picture`.
#[derive(Deserialize)]
pub struct PictureParameters {
    kind: Option<String>,
}

/// `GET /api/v1/events/ID/picture`: a JPEG file. That of an object that has ended does not change any more.
pub async fn picture(
    State(app): State<Arc<AppState>>,
    Path(id): Path<String>,
    Query(parameters): Query<PictureParameters>,
    request: HeaderMap,
) -> Result<Response, ApiError> {
    let choose: fn(&PictureFiles) -> &str = match parameters.kind.as_deref() {
        None | Some("annotated") => |files| &files.annotated,
        Some("crop") => |files| &files.crop,
        Some("frame") => |files| &files.frame,
        Some(_) => {
            let text = "kind: must be annotated, crop or frame";
            return Err(ApiError::new(StatusCode::BAD_REQUEST, text));
        }
    };
    send_picture(&app, &id, choose, &request).await
}

/// Parameters of a link to a picture.
#[derive(Deserialize)]
pub struct LinkParameters {
    key: Option<String>,
}

/// `GET /api/events/ID/snapshot.jpg` and `thumbnail.jpg`: for those who have a link to it, or a role.
pub async fn linked_picture(
    State(app): State<Arc<AppState>>,
    Extension(access): Extension<Arc<Access>>,
    Extension(client): Extension<Client>,
    Path((id, name)): Path<(String, String)>,
    Query(LinkParameters { key }): Query<LinkParameters>,
    request: HeaderMap,
) -> Result<Response, ApiError> {
    let nothing = || ApiError::not_found("resource");
    let picture = LinkedPicture::of_file_name(&name).ok_or_else(nothing)?;
    let uuid = id.parse::<Uuid>().map_err(|_| nothing())?;
    let links = app.current().links.clone();
    let is_key = key.is_some_and(|key| links.is_some_and(|links| links.opens(uuid, picture, &key)));
    if !is_key && access.role(client, &request).is_none() {
        let text = "log in first, or use the link as it was sent";
        return Err(ApiError::new(StatusCode::UNAUTHORIZED, text));
    }
    let choose: fn(&PictureFiles) -> &str = match picture {
        LinkedPicture::Annotated => |files| &files.annotated,
        LinkedPicture::Crop => |files| &files.crop,
    };
    send_picture(&app, &id, choose, &request).await
}

/// Sends the picture of an event that `choose` takes.
async fn send_picture(
    app: &AppState,
    id: &str,
    choose: fn(&PictureFiles) -> &str,
    request: &HeaderMap,
) -> Result<Response, ApiError> {
    let event = find(app, id).await?;
    let none = || ApiError::new(StatusCode::NOT_FOUND, "there is no picture of this event");
    let file = choose(event.best.pictures.as_ref().ok_or_else(none)?).to_string();
    let current = app.current();
    let (tag, max_age) = match event.kind {
        EventType::End => (format!("\"{id}\""), "private, max-age=86400"),
        // A better picture may replace it.
        _ => (format!("\"{id}-{}\"", event.best.at.as_millisecond()), "no-cache"),
    };
    let Ok(opened) = open_picture(&current, &file) else {
        return Err(match describe(event, &current, app.clock.now()).picture {
            Picture::Removed => ApiError::new(
                StatusCode::GONE,
                "the picture was removed to keep within the limits of the store",
            ),
            _ => none(),
        });
    };
    let headers = [(header::CACHE_CONTROL, max_age.to_string()), (header::ETAG, tag.clone())];
    if request.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    // A file of the store is small, and the disk is local.
    let read = task::spawn_blocking(move || files::read_open(&opened, MAX_PICTURE_BYTES));
    let bytes = read.await.ok().and_then(Result::ok).ok_or_else(none)?;
    Ok((headers, [(header::CONTENT_TYPE, "image/jpeg")], bytes).into_response())
}
