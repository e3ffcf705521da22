//! Questions about past events, which the web server asks and the publisher answers: it alone has the outbox.

use super::messages::Event;
use uuid::Uuid;

/// Which events are asked for, newest first by their start. An event is the last message about an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// Only this one.
    pub id: Option<Uuid>,
    /// Only of this camera.
    pub camera: Option<String>,
    /// Only with this label, or one that it contains.
    pub label: Option<String>,
    /// Only those that have been in this zone.
    pub zone: Option<String>,
    /// Only those that started at this time or later, in milliseconds since 1970.
    pub from_ms: Option<i64>,
    /// Only those that started before this time.
    pub to_ms: Option<i64>,
    /// Only those before this one.
    pub before: Option<Uuid>,
    /// Maximum number.
    pub limit: usize,
}

/// The answer: events in the order of the query, and whether there are more after them. Or why there is no
/// answer.
pub type EventPage = Result<(Vec<Event>, bool), String>;

/// A question and where its answer goes.
pub struct HistoryRequest {
    /// The question.
    pub query: EventQuery,
    /// Takes the answer. It runs on the publisher's thread and must not block.
    pub answer: Box<dyn FnOnce(EventPage) + Send>,
}
