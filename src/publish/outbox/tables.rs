//! The outbox's tables: the only code that knows them. One function for each question that is asked of them; all but
//! [`create`] expect them to be there.

use super::{Gap, History, Row};
use rusqlite::{Connection, OptionalExtension, Params, params};
use std::collections::BTreeMap;

/// "camf", so that another program's database is not taken for ours.
pub(super) const APPLICATION_ID: i32 = 0x6361_6d66;
/// Of the tables below.
pub(super) const VERSION: i32 = 2;
const TABLES: &str = "
    CREATE TABLE message (
        row INTEGER PRIMARY KEY, camera TEXT NOT NULL, seq INTEGER NOT NULL, at_ms INTEGER NOT NULL,
        topic TEXT NOT NULL, retained INTEGER NOT NULL, payload BLOB NOT NULL);
    CREATE TABLE gap (
        camera TEXT PRIMARY KEY, first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL, count INTEGER NOT NULL,
        from_ms INTEGER NOT NULL, to_ms INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE memory (topic TEXT PRIMARY KEY, payload BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE meta (
        only INTEGER PRIMARY KEY CHECK (only = 0), stream TEXT NOT NULL, cursor INTEGER NOT NULL,
        replay_row INTEGER NOT NULL, clean INTEGER NOT NULL, next_row INTEGER NOT NULL, numbers TEXT NOT NULL, boot TEXT NOT NULL);";
/// As [`to_row`] reads them.
const FIELDS: &str = "row, camera, seq, at_ms, topic, retained, payload";

/// What an outbox says of itself.
pub(super) struct Meta {
    /// Whose numbers it gives.
    pub(super) stream: String,
    /// Everything up to this row is acknowledged.
    pub(super) cursor: i64,
    /// Behind this row to begin where it was not.
    pub(super) replay_row: i64,
    /// It was closed in order.
    pub(super) clean: bool,
    /// The next row's place, when this was written.
    pub(super) next_row: i64,
    /// Last number given, by camera, when this was written.
    pub(super) numbers: BTreeMap<String, u64>,
    /// Which run of the machine it was used in.
    pub(super) boot: String,
}

/// Makes them, empty, where there are none.
pub(super) fn create(db: &Connection, stream: &str, boot: &str) -> rusqlite::Result<()> {
    if one::<i64>(db, "SELECT 1 FROM sqlite_master WHERE name = 'meta'", [])?.is_some() {
        return Ok(());
    }
    let transaction = db.unchecked_transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.execute(
        "INSERT INTO meta (only, stream, cursor, replay_row, clean, next_row, numbers, boot) \
         VALUES (0, ?, 0, 0, 1, 1, '{}', ?)",
        [stream, boot],
    )?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

/// What the outbox says of itself, brought up to its rows: numbers and place are written less often than those.
pub(super) fn read_meta(db: &Connection) -> rusqlite::Result<Meta> {
    let query = "SELECT stream, cursor, replay_row, clean, next_row, numbers, boot FROM meta";
    let mut meta = db.query_row(query, [], |row| {
        let numbers: String = row.get(5)?;
        let numbers = serde_json::from_str(&numbers).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(5, rusqlite::types::Type::Text, error.into())
        })?;
        Ok(Meta {
            stream: row.get(0)?,
            cursor: row.get(1)?,
            replay_row: row.get(2)?,
            clean: row.get(3)?,
            next_row: row.get(4)?,
            numbers,
            boot: row.get(6)?,
        })
    })?;
    let mut query = db.prepare("SELECT row, camera, seq FROM message WHERE row >= ? ORDER BY row")?;
    let mut rows = query.query([meta.next_row])?;
    while let Some(row) = rows.next()? {
        let (place, camera, seq): (i64, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        meta.next_row = place + 1;
        let last = meta.numbers.entry(camera).or_default();
        *last = (*last).max(seq as u64);
    }
    Ok(meta)
}

/// From now on it is used in this run of the machine, under this stream.
pub(super) fn take_over(db: &Connection, stream: &str, boot: &str) -> rusqlite::Result<()> {
    db.execute("UPDATE meta SET stream = ?, boot = ?, clean = 0", [stream, boot]).map(drop)
}

/// Writes what is not in the rows themselves.
pub(super) fn write_meta(
    db: &Connection,
    (cursor, replay_row): (i64, i64),
    clean: bool,
    numbers: &BTreeMap<String, u64>,
    next_row: i64,
) -> rusqlite::Result<()> {
    let numbers = serde_json::to_string(numbers).expect("names and numbers");
    db.prepare_cached("UPDATE meta SET cursor = ?, replay_row = ?, clean = ?, next_row = ?, numbers = ?")?
        .execute(params![cursor, replay_row, clean, next_row, numbers])
        .map(drop)
}

/// Adds rows at the end.
pub(super) fn append<'a>(db: &Connection, rows: impl Iterator<Item = &'a Row>) -> rusqlite::Result<()> {
    let mut insert =
        db.prepare_cached(&format!("INSERT INTO message ({FIELDS}) VALUES (?, ?, ?, ?, ?, ?, ?)"))?;
    for Row { row, camera, seq, at_ms, topic, retained, payload } in rows {
        insert.execute(params![row, camera, *seq as i64, at_ms, topic, retained, payload])?;
    }
    Ok(())
}

/// At most `count` rows behind `row`, in order.
pub(super) fn after(db: &Connection, row: i64, count: usize) -> rusqlite::Result<Vec<Row>> {
    let mut query =
        db.prepare_cached(&format!("SELECT {FIELDS} FROM message WHERE row > ? ORDER BY row LIMIT ?"))?;
    query.query_map(params![row, count as i64], to_row)?.collect()
}

/// See [`super::Outbox::history`]; what is not in the tables is left empty.
pub(super) fn history(db: &Connection, camera: &str, since: u64, count: usize) -> rusqlite::Result<History> {
    let mut query = db.prepare_cached(&format!(
        "SELECT {FIELDS} FROM message WHERE row > ?1 AND camera = ?2 AND seq > ?1 ORDER BY row LIMIT ?3"
    ))?;
    // Numbers are given from 1 as rows are, so none is ahead of its row: what lies before needs no look.
    let mut rows = query
        .query_map(params![since as i64, camera, count as i64 + 1], to_row)?
        .collect::<rusqlite::Result<Vec<Row>>>()?;
    let more = rows.len() > count;
    rows.truncate(count);
    let first: Option<i64> =
        one(db, "SELECT seq FROM message WHERE camera = ? ORDER BY row LIMIT 1", [camera])?;
    Ok(History { rows, more, first_seq: first.map(|seq| seq as u64), last_seq: 0, stream: String::new() })
}

/// The oldest row's place.
pub(super) fn first_row(db: &Connection) -> rusqlite::Result<Option<i64>> {
    db.query_row("SELECT MIN(row) FROM message", [], |row| row.get(0))
}

/// The newest row's place.
pub(super) fn newest_row(db: &Connection) -> rusqlite::Result<Option<i64>> {
    db.query_row("SELECT MAX(row) FROM message", [], |row| row.get(0))
}

/// The first row that was accepted at this time or later.
pub(super) fn first_since(db: &Connection, at_ms: i64) -> rusqlite::Result<Option<i64>> {
    one(db, "SELECT row FROM message WHERE at_ms >= ? ORDER BY row LIMIT 1", [at_ms])
}

/// When the first row behind `row` was accepted.
pub(super) fn accepted_after(db: &Connection, row: i64) -> rusqlite::Result<Option<i64>> {
    one(db, "SELECT at_ms FROM message WHERE row > ? ORDER BY row LIMIT 1", [row])
}

/// The rows behind `cursor` and up to `last`, as a gap of each camera.
pub(super) fn as_gaps(db: &Connection, cursor: i64, last: i64) -> rusqlite::Result<Vec<Gap>> {
    let mut query = db.prepare_cached(
        "SELECT camera, MIN(seq), MAX(seq), COUNT(*), MIN(at_ms), MAX(at_ms) FROM message \
         WHERE row > ? AND row <= ? GROUP BY camera",
    )?;
    query.query_map([cursor, last], to_gap)?.collect()
}

/// Removes the rows up to `last`.
pub(super) fn remove_up_to(db: &Connection, last: i64) -> rusqlite::Result<()> {
    db.execute("DELETE FROM message WHERE row <= ?", [last]).map(drop)
}

/// Removes one row.
pub(super) fn remove(db: &Connection, row: i64) -> rusqlite::Result<()> {
    db.execute("DELETE FROM message WHERE row = ?", [row]).map(drop)
}

/// The gaps that are still to be told, by camera.
pub(super) fn gaps(db: &Connection) -> rusqlite::Result<BTreeMap<String, Gap>> {
    let mut query = db.prepare("SELECT camera, first_seq, last_seq, count, from_ms, to_ms FROM gap")?;
    let gaps = query.query_map([], to_gap)?;
    gaps.map(|gap| gap.map(|gap| (gap.camera.clone(), gap))).collect()
}

/// Writes a camera's gap in place of the one before.
pub(super) fn write_gap(db: &Connection, gap: &Gap) -> rusqlite::Result<()> {
    let Gap { camera, first_seq, last_seq, count, from_ms, to_ms } = gap;
    db.prepare_cached(
        "INSERT OR REPLACE INTO gap (camera, first_seq, last_seq, count, from_ms, to_ms) VALUES (?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![camera, *first_seq as i64, *last_seq as i64, *count as i64, from_ms, to_ms])
    .map(drop)
}

/// A camera's gap was told.
pub(super) fn remove_gap(db: &Connection, camera: &str) -> rusqlite::Result<()> {
    db.execute("DELETE FROM gap WHERE camera = ?", [camera]).map(drop)
}

/// See [`super::Outbox::remembered`].
pub(super) fn remembered(db: &Connection) -> rusqlite::Result<BTreeMap<String, Vec<u8>>> {
    let mut query = db.prepare("SELECT topic, payload FROM memory")?;
    query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// See [`super::Outbox::remember`].
pub(super) fn remember(db: &Connection, topic: &str, text: Option<&[u8]>) -> rusqlite::Result<()> {
    match text {
        Some(text) => {
            db.execute("INSERT OR REPLACE INTO memory (topic, payload) VALUES (?, ?)", params![topic, text])
        }
        None => db.execute("DELETE FROM memory WHERE topic = ?", [topic]),
    }
    .map(drop)
}

/// The first field of the first row that a query finds.
fn one<T: rusqlite::types::FromSql>(
    db: &Connection,
    query: &str,
    parameters: impl Params,
) -> rusqlite::Result<Option<T>> {
    db.prepare_cached(query)?.query_row(parameters, |row| row.get(0)).optional()
}

fn to_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    Ok(Row {
        row: row.get(0)?,
        camera: row.get(1)?,
        seq: row.get::<_, i64>(2)? as u64,
        at_ms: row.get(3)?,
        topic: row.get(4)?,
        retained: row.get(5)?,
        payload: row.get(6)?,
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
