//! The outbox's tables and every SQL statement on them. All functions but [`create`] require that the tables
//! exist.
//!
//! The schema is on users' disks: a change of a table or column needs a new [`VERSION`].

use super::{DurableMessage, Gap, History, Row, events, open_objects};
use rusqlite::{Connection, OptionalExtension, Params, params};
use std::collections::{BTreeMap, BTreeSet};

/// "camf", which distinguishes an outbox from other programs' databases.
pub(super) const APPLICATION_ID: i32 = 0x6361_6d66;
/// Version of the tables below.
pub(super) const VERSION: i32 = 4;
/// The versions that [`create`] converts.
pub(super) const OLDER_VERSIONS: [i32; 2] = [2, 3];
const TABLES: &str = "
    CREATE TABLE message (
        row INTEGER PRIMARY KEY, camera TEXT NOT NULL, seq INTEGER NOT NULL, at_ms INTEGER NOT NULL,
        topic TEXT NOT NULL, payload BLOB NOT NULL);
    CREATE TABLE gap (
        camera TEXT PRIMARY KEY, first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL, count INTEGER NOT NULL,
        from_ms INTEGER NOT NULL, to_ms INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE memory (topic TEXT PRIMARY KEY, payload BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE retained (topic TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE meta (
        only INTEGER PRIMARY KEY CHECK (only = 0), stream TEXT NOT NULL, cursor INTEGER NOT NULL,
        replay_row INTEGER NOT NULL, clean INTEGER NOT NULL, next_row INTEGER NOT NULL, numbers TEXT NOT NULL, boot TEXT NOT NULL, open TEXT NOT NULL);";
/// Version 2 stored states and events in Frigate's format as well. They are of no use now: states are sent as
/// they are, and events in Frigate's format are not sent late.
const FROM_VERSION_2: &str = "
    DELETE FROM message WHERE retained = 1 OR camera = 'frigate/events';
    DELETE FROM gap WHERE camera = 'frigate/events';
    ALTER TABLE message DROP COLUMN retained;
    ALTER TABLE meta ADD COLUMN open TEXT NOT NULL DEFAULT '{}';
    CREATE TABLE retained (topic TEXT PRIMARY KEY) WITHOUT ROWID;";
/// Columns of `message` in the order that [`to_row`] reads them.
const COLUMNS: &str = "row, camera, seq, at_ms, topic, payload";

/// The outbox's state, from the table `meta`.
pub(super) struct Meta {
    /// The stream that sequence numbers belong to.
    pub(super) stream: String,
    /// Everything up to this row is acknowledged.
    pub(super) cursor: i64,
    /// The row after which to resume if the last process did not close the outbox.
    pub(super) replay_row: i64,
    /// Whether the last process closed the outbox.
    pub(super) clean: bool,
    /// Id of the next row.
    pub(super) next_row: i64,
    /// The last sequence number assigned, by camera.
    pub(super) last_seqs: BTreeMap<String, u64>,
    /// Boot id of the machine when the outbox was last used.
    pub(super) boot: String,
    /// The row of the last event of each object that has not ended, by object.
    pub(super) open: BTreeMap<String, i64>,
}

/// Creates empty tables if there are none, and converts those of [`OLDER_VERSIONS`].
pub(super) fn create(db: &Connection, stream: &str, boot: &str) -> rusqlite::Result<()> {
    let transaction = db.unchecked_transaction()?;
    if one::<i64>(db, "SELECT 1 FROM sqlite_master WHERE name = 'meta'", [])?.is_none() {
        transaction.execute_batch(TABLES)?;
        events::create(&transaction)?;
        transaction.execute(
            "INSERT INTO meta (only, stream, cursor, replay_row, clean, next_row, numbers, boot, open) \
             VALUES (0, ?, 0, 0, 1, 1, '{}', ?, '{}')",
            [stream, boot],
        )?;
    } else {
        match version(db)? {
            2 => transaction.execute_batch(FROM_VERSION_2)?,
            3 => {}
            _ => return Ok(()),
        }
        events::create(&transaction)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

/// Version of the file's tables.
pub(super) fn version(db: &Connection) -> rusqlite::Result<i32> {
    db.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Reads the state. Sequence numbers and the next row are brought up to date from the rows, which are written
/// more often.
pub(super) fn read_meta(db: &Connection) -> rusqlite::Result<Meta> {
    let query = "SELECT stream, cursor, replay_row, clean, next_row, numbers, boot, open FROM meta";
    let mut meta = db.query_row(query, [], |row| {
        let (last_seqs, open) = (from_json(row, 5)?, from_json(row, 7)?);
        Ok(Meta {
            stream: row.get(0)?,
            cursor: row.get(1)?,
            replay_row: row.get(2)?,
            clean: row.get(3)?,
            next_row: row.get(4)?,
            last_seqs,
            boot: row.get(6)?,
            open,
        })
    })?;
    let mut query = db.prepare(&format!("SELECT {COLUMNS} FROM message WHERE row >= ? ORDER BY row"))?;
    let rows = query.query_map([meta.next_row], to_row)?;
    for row in rows {
        let Row { id, message } = row?;
        meta.next_row = id + 1;
        open_objects::record(&mut meta.open, id, &message);
        let last = meta.last_seqs.entry(message.camera).or_default();
        *last = (*last).max(message.seq);
    }
    Ok(meta)
}

/// A column that holds JSON.
fn from_json<T: serde::de::DeserializeOwned>(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, error.into())
    })
}

/// Records that the outbox is in use, in this boot of the machine and with this stream.
pub(super) fn start_session(db: &Connection, stream: &str, boot: &str) -> rusqlite::Result<()> {
    db.execute("UPDATE meta SET stream = ?, boot = ?, clean = 0", [stream, boot]).map(drop)
}

/// Writes the state. `cursor` and `replay_row` are row ids.
pub(super) fn write_meta(
    db: &Connection,
    (cursor, replay_row): (i64, i64),
    clean: bool,
    last_seqs: &BTreeMap<String, u64>,
    open: &BTreeMap<String, i64>,
    next_row: i64,
) -> rusqlite::Result<()> {
    let last_seqs = serde_json::to_string(last_seqs).expect("the map has string keys");
    let open = serde_json::to_string(open).expect("the map has string keys");
    let statement =
        "UPDATE meta SET cursor = ?, replay_row = ?, clean = ?, next_row = ?, numbers = ?, open = ?";
    db.prepare_cached(statement)?
        .execute(params![cursor, replay_row, clean, next_row, last_seqs, open])
        .map(drop)
}

/// Appends rows.
pub(super) fn append<'a>(db: &Connection, rows: impl Iterator<Item = &'a Row>) -> rusqlite::Result<()> {
    let mut insert =
        db.prepare_cached(&format!("INSERT INTO message ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"))?;
    for Row { id, message } in rows {
        let DurableMessage { camera, seq, at_ms, topic, payload } = message;
        insert.execute(params![id, camera, *seq as i64, at_ms, topic, payload])?;
        events::record(db, *id, message)?;
    }
    Ok(())
}

/// The first rows after row `row`, in order, at most `count`.
pub(super) fn after(db: &Connection, row: i64, count: usize) -> rusqlite::Result<Vec<Row>> {
    let mut query =
        db.prepare_cached(&format!("SELECT {COLUMNS} FROM message WHERE row > ? ORDER BY row LIMIT ?"))?;
    query.query_map(params![row, count as i64], to_row)?.collect()
}

/// See [`super::Outbox::history`]. Fields that are not in the tables are left empty.
pub(super) fn history(db: &Connection, camera: &str, since: u64, count: usize) -> rusqlite::Result<History> {
    let mut query = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM message WHERE row > ?1 AND camera = ?2 AND seq > ?1 ORDER BY row LIMIT ?3"
    ))?;
    // Sequence numbers and row ids both count from 1, so no sequence number exceeds its row id, and the
    // search may start at row `since`.
    let mut rows = query
        .query_map(params![since as i64, camera, count as i64 + 1], to_row)?
        .collect::<rusqlite::Result<Vec<Row>>>()?;
    let more = rows.len() > count;
    rows.truncate(count);
    let first: Option<i64> =
        one(db, "SELECT seq FROM message WHERE camera = ? ORDER BY row LIMIT 1", [camera])?;
    Ok(History { rows, more, first_seq: first.map(|seq| seq as u64), last_seq: 0, stream: String::new() })
}

/// Id of the oldest row.
pub(super) fn first_row(db: &Connection) -> rusqlite::Result<Option<i64>> {
    db.query_row("SELECT MIN(row) FROM message", [], |row| row.get(0))
}

/// Id of the newest row.
pub(super) fn newest_row(db: &Connection) -> rusqlite::Result<Option<i64>> {
    db.query_row("SELECT MAX(row) FROM message", [], |row| row.get(0))
}

/// Id of the first row that was accepted at `at_ms` or later.
pub(super) fn first_since(db: &Connection, at_ms: i64) -> rusqlite::Result<Option<i64>> {
    one(db, "SELECT row FROM message WHERE at_ms >= ? ORDER BY row LIMIT 1", [at_ms])
}

/// When the first row after row `row` was accepted.
pub(super) fn accepted_after(db: &Connection, row: i64) -> rusqlite::Result<Option<i64>> {
    one(db, "SELECT at_ms FROM message WHERE row > ? ORDER BY row LIMIT 1", [row])
}

/// The rows after `cursor` up to `last`, as one gap per camera.
pub(super) fn as_gaps(db: &Connection, cursor: i64, last: i64) -> rusqlite::Result<Vec<Gap>> {
    let mut query = db.prepare_cached(
        "SELECT camera, MIN(seq), MAX(seq), COUNT(*), MIN(at_ms), MAX(at_ms) FROM message \
         WHERE row > ? AND row <= ? GROUP BY camera",
    )?;
    query.query_map([cursor, last], to_gap)?.collect()
}

/// Removes the rows up to `last`.
pub(super) fn remove_up_to(db: &Connection, last: i64) -> rusqlite::Result<()> {
    db.execute("DELETE FROM message WHERE row <= ?", [last])?;
    events::remove_up_to(db, last)
}

/// Removes one row.
pub(super) fn remove(db: &Connection, row: i64) -> rusqlite::Result<()> {
    db.execute("DELETE FROM message WHERE row = ?", [row]).map(drop)
}

/// The gaps that are not reported yet, by camera.
pub(super) fn gaps(db: &Connection) -> rusqlite::Result<BTreeMap<String, Gap>> {
    let mut query = db.prepare("SELECT camera, first_seq, last_seq, count, from_ms, to_ms FROM gap")?;
    let gaps = query.query_map([], to_gap)?;
    gaps.map(|gap| gap.map(|gap| (gap.camera.clone(), gap))).collect()
}

/// Writes a camera's gap. It replaces the camera's earlier one.
pub(super) fn write_gap(db: &Connection, gap: &Gap) -> rusqlite::Result<()> {
    let Gap { camera, first_seq, last_seq, count, from_ms, to_ms } = gap;
    db.prepare_cached(
        "INSERT OR REPLACE INTO gap (camera, first_seq, last_seq, count, from_ms, to_ms) VALUES (?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![camera, *first_seq as i64, *last_seq as i64, *count as i64, from_ms, to_ms])
    .map(drop)
}

/// Removes a camera's gap.
pub(super) fn remove_gap(db: &Connection, camera: &str) -> rusqlite::Result<()> {
    db.execute("DELETE FROM gap WHERE camera = ?", [camera]).map(drop)
}

/// See [`super::Outbox::remembered`].
pub(super) fn remembered(db: &Connection) -> rusqlite::Result<BTreeMap<String, Vec<u8>>> {
    let mut query = db.prepare("SELECT topic, payload FROM memory")?;
    query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// See [`super::Outbox::remember`].
pub(super) fn remember(db: &Connection, topic: &str, payload: Option<&[u8]>) -> rusqlite::Result<()> {
    match payload {
        Some(payload) => db
            .execute("INSERT OR REPLACE INTO memory (topic, payload) VALUES (?, ?)", params![topic, payload]),
        None => db.execute("DELETE FROM memory WHERE topic = ?", [topic]),
    }
    .map(drop)
}

/// The row with this id.
pub(super) fn by_id(db: &Connection, row: i64) -> rusqlite::Result<Option<Row>> {
    Ok(after(db, row - 1, 1)?.pop().filter(|found| found.id == row))
}

/// See [`super::Outbox::retained`].
pub(super) fn retained(db: &Connection) -> rusqlite::Result<BTreeSet<String>> {
    db.prepare("SELECT topic FROM retained")?.query_map([], |row| row.get(0))?.collect()
}

/// See [`super::Outbox::record_retained`].
pub(super) fn add_retained(db: &Connection, topic: &str) -> rusqlite::Result<()> {
    db.execute("INSERT OR IGNORE INTO retained (topic) VALUES (?)", [topic]).map(drop)
}

/// See [`super::Outbox::record_removed`].
pub(super) fn remove_retained(db: &Connection, topic: &str) -> rusqlite::Result<()> {
    db.execute("DELETE FROM retained WHERE topic = ?", [topic]).map(drop)
}

/// The first column of the first row of a query's result.
fn one<T: rusqlite::types::FromSql>(
    db: &Connection,
    query: &str,
    parameters: impl Params,
) -> rusqlite::Result<Option<T>> {
    db.prepare_cached(query)?.query_row(parameters, |row| row.get(0)).optional()
}

fn to_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    Ok(Row {
        id: row.get(0)?,
        message: DurableMessage {
            camera: row.get(1)?,
            seq: row.get::<_, i64>(2)? as u64,
            at_ms: row.get(3)?,
            topic: row.get(4)?,
            payload: row.get(5)?,
        },
    })
}

fn to_gap(row: &rusqlite::Row<'_>) -> rusqlite::Result<Gap> {
    Ok(Gap {
        camera: row.get(0)?,
        first_seq: row.get::<_, i64>(1)? as u64,
        last_seq: row.get::<_, i64>(2)? as u64,
        count: row.get::<_, i64>(3)? as u64,
        from_ms: row.get(4)?,
        to_ms: row.get(5)?,
    })
}
