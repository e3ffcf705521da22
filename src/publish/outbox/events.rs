//! The index of events in the outbox: for each object the row of its last event, with what events are
//! searched by. Queries about past events need not read all messages.
//!
//! The index has no row of its own in the limits: an event whose message was deleted is not found, and its
//! entry is removed some time later.

use super::{DurableMessage, Row};
use crate::wire::{history::EventQuery, messages::Event};
use jiff::Timestamp;
use rusqlite::{Connection, params};
use serde::Deserialize;
use uuid::Uuid;

/// Ids are versions 7 of UUIDs, so that their order is that of the starts.
pub(super) const TABLE: &str = "
    CREATE TABLE event (
        id BLOB PRIMARY KEY, started_ms INTEGER NOT NULL, camera TEXT NOT NULL, labels TEXT NOT NULL,
        zones TEXT NOT NULL, row INTEGER NOT NULL) WITHOUT ROWID;";
/// Number of entries that are checked at once for removal, oldest first. An object that stays for days keeps
/// at most this many others.
const REMOVAL_BATCH: usize = 200;
/// Number of rows that are read at once when the index is made.
const FILL_BATCH: usize = 1000;

/// The fields of an event that are searched by.
#[derive(Deserialize)]
struct Indexed {
    id: String,
    started_at: String,
    label: String,
    #[serde(default)]
    label_path: Vec<String>,
    visited_zones: Vec<String>,
}

/// Records a message that was stored as `row`. Messages that are not events are ignored.
pub(super) fn record(db: &Connection, row: i64, message: &DurableMessage) -> rusqlite::Result<()> {
    if !message.topic.ends_with("/events") {
        return Ok(());
    }
    let Ok(event) = serde_json::from_slice::<Indexed>(&message.payload) else { return Ok(()) };
    let (Ok(id), Ok(started_at)) = (event.id.parse::<Uuid>(), event.started_at.parse::<Timestamp>()) else {
        return Ok(());
    };
    let label = event.label_path.is_empty().then_some(event.label);
    let labels = lines(event.label_path.into_iter().chain(label));
    let (zones, started_ms) = (lines(event.visited_zones), started_at.as_millisecond());
    db.prepare_cached("INSERT OR REPLACE INTO event VALUES (?, ?, ?, ?, ?, ?)")?
        .execute(params![&id.as_bytes()[..], started_ms, message.camera, labels, zones, row])
        .map(drop)
}

/// Names that are searched as a whole: each between two line ends, which no name contains.
fn lines(names: impl IntoIterator<Item = String>) -> String {
    names.into_iter().fold(String::from("\n"), |all, name| all + &name + "\n")
}

/// Makes the index of an outbox that has none.
pub(super) fn create(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch(TABLE)?;
    let mut last = i64::MIN;
    loop {
        let rows = super::tables::after(db, last, FILL_BATCH)?;
        let Some(newest) = rows.last() else { return Ok(()) };
        last = newest.id;
        for Row { id, message } in &rows {
            record(db, *id, message)?;
        }
    }
}

/// Removes the entries of messages up to row `last`, as far as they are among the oldest.
pub(super) fn remove_up_to(db: &Connection, last: i64) -> rusqlite::Result<()> {
    let mut remove = db.prepare_cached(
        "DELETE FROM event WHERE row <= ?1 AND id IN (SELECT id FROM event ORDER BY id LIMIT ?2)",
    )?;
    while remove.execute(params![last, REMOVAL_BATCH as i64])? > 0 {}
    Ok(())
}

/// The newest events that match, and whether there are more.
pub(super) fn query(db: &Connection, query: &EventQuery) -> rusqlite::Result<(Vec<Event>, bool)> {
    let EventQuery { id, camera, label, zone, from_ms, to_ms, before, limit } = query;
    let (id, before) = (id.map(|id| id.as_bytes().to_vec()), before.map(|id| id.as_bytes().to_vec()));
    let (label, zone) = (label.clone().map(|name| lines([name])), zone.clone().map(|name| lines([name])));
    // CROSS keeps SQLite from beginning with the messages.
    let mut statement = db.prepare_cached(
        "SELECT message.payload FROM event CROSS JOIN message ON message.row = event.row \
         WHERE (?1 IS NULL OR event.id = ?1) AND event.id < coalesce(?2, X'FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF') \
         AND (?3 IS NULL OR event.camera = ?3) AND (?4 IS NULL OR instr(event.labels, ?4)) \
         AND (?5 IS NULL OR instr(event.zones, ?5)) AND (?6 IS NULL OR event.started_ms >= ?6) \
         AND (?7 IS NULL OR event.started_ms < ?7) ORDER BY event.id DESC LIMIT ?8",
    )?;
    let parameters = params![id, before, camera, label, zone, from_ms, to_ms, *limit as i64 + 1];
    let payloads = statement.query_map(parameters, |row| row.get::<_, Vec<u8>>(0))?;
    let mut events = Vec::new();
    let mut found = 0;
    for payload in payloads {
        found += 1;
        // One of an older version may lack a field.
        if found <= *limit
            && let Ok(event) = serde_json::from_slice(&payload?)
        {
            events.push(event);
        }
    }
    Ok((events, found > *limit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        publish::outbox::{Outbox, tests::settings},
        wire::messages::{EventType, example_event},
    };
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn id(seconds: i64) -> Uuid {
        uuid::Builder::from_unix_timestamp_millis(at(seconds).as_millisecond() as u64, &[7; 10]).into_uuid()
    }

    /// Stores an event of an object that started at `seconds`.
    fn store(
        outbox: &mut Outbox,
        camera: &str,
        seconds: i64,
        kind: EventType,
        labels: &[&str],
        zones: &[&str],
    ) {
        let strings = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        let event = Event {
            started_at: at(seconds),
            label: labels.last().copied().unwrap_or("unknown").to_string(),
            label_path: strings(labels),
            visited_zones: strings(zones),
            ..example_event(&id(seconds).to_string(), kind)
        };
        let seq = outbox.next_seq(camera);
        outbox.accept(DurableMessage {
            camera: camera.into(),
            seq,
            at_ms: at(seconds).as_millisecond(),
            topic: format!("camfire/porch/{camera}/events"),
            payload: serde_json::to_vec(&event).unwrap(),
        });
    }

    /// The starts of the events that match, in seconds, and whether there are more.
    fn find(outbox: &mut Outbox, query: EventQuery) -> (Vec<i64>, bool) {
        let limit = if query.limit == 0 { 100 } else { query.limit };
        let (events, more) = outbox.events(&EventQuery { limit, ..query }).unwrap();
        (events.iter().map(|event| event.started_at.as_second() - at(0).as_second()).collect(), more)
    }

    fn filled() -> Outbox {
        let mut outbox = Outbox::open(settings(None), at(0)).outbox;
        store(&mut outbox, "yard", 1, EventType::Start, &["animal", "cat"], &["lawn"]);
        store(&mut outbox, "door", 2, EventType::Start, &["person"], &[]);
        store(&mut outbox, "yard", 3, EventType::Start, &[], &["lawn_2"]);
        store(&mut outbox, "yard", 1, EventType::End, &["animal", "cat"], &["lawn", "path"]);
        outbox.commit(SECOND, at(4), 0);
        outbox
    }

    #[test]
    fn an_object_is_found_once_by_its_last_event() {
        let mut outbox = filled();
        let (events, more) = outbox.events(&EventQuery { limit: 10, ..EventQuery::default() }).unwrap();
        assert_eq!((events.len(), more), (3, false));
        assert_eq!((events[2].kind, events[0].kind), (EventType::End, EventType::Start), "newest first");
    }

    #[test]
    fn filters_combine_and_names_match_as_a_whole() {
        let mut outbox = filled();
        let text = |text: &str| Some(text.to_string());
        assert_eq!(find(&mut outbox, EventQuery { camera: text("yard"), ..Default::default() }).0, [3, 1]);
        assert_eq!(find(&mut outbox, EventQuery { label: text("animal"), ..Default::default() }).0, [1]);
        assert_eq!(find(&mut outbox, EventQuery { label: text("unknown"), ..Default::default() }).0, [3]);
        assert_eq!(
            find(&mut outbox, EventQuery { zone: text("lawn"), ..Default::default() }).0,
            [1],
            "not lawn_2"
        );
        assert_eq!(find(&mut outbox, EventQuery { zone: text("path"), ..Default::default() }).0, [1]);
        for name in ["", "%", "at", "\n", "a'b"] {
            assert_eq!(
                find(&mut outbox, EventQuery { label: text(name), ..Default::default() }).0,
                [0; 0],
                "{name:?}"
            );
        }
        let (from_ms, to_ms) = (Some(at(2).as_millisecond()), Some(at(3).as_millisecond()));
        assert_eq!(find(&mut outbox, EventQuery { from_ms, to_ms, ..Default::default() }).0, [2]);
        assert_eq!(find(&mut outbox, EventQuery { id: Some(id(2)), ..Default::default() }).0, [2]);
        let yard_animal = EventQuery { camera: text("door"), label: text("animal"), ..Default::default() };
        assert_eq!(find(&mut outbox, yard_animal).0, [0; 0]);
    }

    #[test]
    fn pages_follow_each_other() {
        let mut outbox = filled();
        assert_eq!(find(&mut outbox, EventQuery { limit: 2, ..Default::default() }), (vec![3, 2], true));
        assert_eq!(
            find(&mut outbox, EventQuery { limit: 2, before: Some(id(2)), ..Default::default() }),
            (vec![1], false)
        );
    }

    #[test]
    fn events_whose_messages_are_deleted_are_not_found() {
        let mut outbox = filled();
        outbox.settings.max_messages = 2;
        outbox.commit(3 * SECOND, at(5), 0);
        // Rows 3 and 4 are left: the start of the third object and the end of the first.
        assert_eq!(find(&mut outbox, EventQuery::default()).0, [3, 1]);
        let entries: i64 = outbox.db.query_row("SELECT count(*) FROM event", [], |row| row.get(0)).unwrap();
        assert_eq!(entries, 2, "their entries are removed");
    }

    #[test]
    fn an_outbox_without_an_index_gets_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("outbox.db");
        let mut outbox = Outbox::open(settings(Some(&file)), at(0)).outbox;
        store(&mut outbox, "yard", 1, EventType::Start, &["person"], &[]);
        outbox.commit(SECOND, at(1), 0);
        outbox.close(SECOND, at(1));
        let db = Connection::open(&file).unwrap();
        db.execute_batch("DROP TABLE event; PRAGMA user_version = 3;").unwrap();
        drop(db);
        let mut opened = Outbox::open(settings(Some(&file)), at(2));
        assert_eq!(opened.notes, [""; 0]);
        assert_eq!(find(&mut opened.outbox, EventQuery::default()).0, [1]);
    }
}
