//! The objects whose last event in the outbox is not an end. After a kill, the next process ends them.

use super::DurableMessage;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Maximum number of objects; more than any node has at once. Beyond it the oldest is forgotten.
const MAX_OPEN: usize = 1024;

/// The fields of an event that matter here.
#[derive(Deserialize)]
struct Event<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
}

/// Records a message that is row `row` of the outbox. `open` has the row of each object's last event.
/// Messages that are not events are ignored.
pub(super) fn record(open: &mut BTreeMap<String, i64>, row: i64, message: &DurableMessage) {
    if !message.topic.ends_with("/events") {
        return;
    }
    let Ok(event) = serde_json::from_slice::<Event<'_>>(&message.payload) else { return };
    if event.kind == "end" {
        open.remove(event.id);
        return;
    }
    open.insert(event.id.to_string(), row);
    // Ids sort by start time.
    if open.len() > MAX_OPEN {
        open.pop_first();
    }
}
