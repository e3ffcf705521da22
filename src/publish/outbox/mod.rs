//! What must arrive, on disk until a broker has acknowledged it: an SQLite file that is also the history of events.
//!
//! Every durable message gets a number of its camera's and is written before it goes out, so that no number is ever given
//! twice. Rows are numbered in the order of sending; one cursor says up to which row everything is acknowledged, and moves
//! with the next group, for a repeat after a crash does no harm. Delivered rows stay as history until room is needed. What
//! has to go undelivered is told: a [`Gap`] of each camera, sent in its place.
//!
//! How durable ([`Durability`]): committed rows are in the kernel's hands at once, which a killed process does not undo;
//! to the disk they go with each batch (`strict`), once a second (`grouped`) or when the kernel likes (`light`). A
//! disk that is full or fails costs history first, then the oldest that wait; meanwhile what comes is held in memory.
//!
//! Times are milliseconds of the epoch. Not thread-safe: the publisher's thread owns it.

mod file;

use crate::config::{self, Durability};
use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    time::Duration,
};

/// Between two writes to the disk where they are grouped, and between two of the cursor.
const GROUP: Duration = Duration::from_secs(1);
/// The same for the cursor where the kernel writes when it likes.
const LIGHT_GROUP: Duration = Duration::from_secs(5);
/// Rows that are held in memory while the disk takes none; beyond that the oldest of them go.
const MOST_HELD: usize = 10_000;
/// Rows that are written in one go.
const PART: usize = 100;
/// When room is needed, such a part of the rows goes at once.
const SHARE: i64 = 20;
/// Between two attempts at a disk that takes nothing.
const PAUSE: Duration = Duration::from_secs(1);
/// The same where it was full, and room has been made.
const FULL_PAUSE: Duration = Duration::from_millis(50);
/// After the reserve was spent, so long no other is laid by.
const RESERVE_PAUSE: Duration = Duration::from_secs(60);
/// Between two looks at how much there is.
const SWEEP: Duration = Duration::from_secs(1);

/// A message that must arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its place in the order of sending.
    pub row: i64,
    /// Whose number [`Row::seq`] is; empty for the node.
    pub camera: String,
    /// Counts the camera's durable messages from 1.
    pub seq: u64,
    /// When it was accepted.
    pub at_ms: i64,
    /// Where it goes.
    pub topic: String,
    /// The broker keeps it for late subscribers.
    pub retained: bool,
    /// What it says.
    pub payload: Vec<u8>,
}

/// Messages of one camera that had to go unsent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Whose.
    pub camera: String,
    /// Number of the first.
    pub first_seq: u64,
    /// Number of the last.
    pub last_seq: u64,
    /// How many they are: those between that were delivered are not counted.
    pub count: u64,
    /// When the first was accepted.
    pub from_ms: i64,
    /// When the last was accepted.
    pub to_ms: i64,
}

/// A message to be taken in: a [`Row`] without its place.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Whose number [`Draft::seq`] is; empty for the node.
    pub camera: String,
    /// As given by [`Outbox::number`].
    pub seq: u64,
    /// Now.
    pub at_ms: i64,
    /// Where it goes.
    pub topic: String,
    /// The broker keeps it for late subscribers.
    pub retained: bool,
    /// What it says.
    pub payload: Vec<u8>,
}

/// See the module.
pub struct Outbox {
    settings: config::Outbox,
    db: Connection,
    path: Option<PathBuf>,
    stream: String,
    /// Last number given, by camera.
    numbers: BTreeMap<String, u64>,
    /// The next row's place.
    next_row: i64,
    /// Rows not committed yet.
    held: VecDeque<Row>,
    /// Everything up to this row is acknowledged.
    cursor: i64,
    cursor_written: i64,
    /// Rows were committed since the disk was last told to write.
    uncommitted: bool,
    gaps: BTreeMap<String, Gap>,
    /// Since when there is something that the disk or the cursor there does not have.
    behind_since: Option<Duration>,
    /// Gaps that the disk does not have.
    gaps_behind: bool,
    swept_at: Option<Duration>,
    /// The disk takes nothing: tried again then.
    retry_at: Option<Duration>,
    /// The disk was full, and its reserve is in use.
    reserve_spent_at: Option<Duration>,
    /// There was no room for another.
    reserve_missed_at: Option<Duration>,
    told: Option<String>,
    /// It could not be read.
    unread: Option<rusqlite::Error>,
    lost: u64,
}

/// How an outbox was found.
pub struct Opened {
    /// Ready.
    pub outbox: Outbox,
    /// The process before ended without a goodbye: the broker may not have all that it acknowledged.
    pub abrupt: bool,
    /// What a user should know of it.
    pub notes: Vec<String>,
}

impl Outbox {
    /// Opens the file, or begins one; where that is impossible, in memory. Never fails, for seeing must go on.
    pub fn open(settings: config::Outbox, now: Timestamp) -> Opened {
        let found = file::open(settings.file.as_deref(), now);
        let file::Found { db, path, meta, numbers, next_row, gaps, notes } = found;
        let outbox = Outbox {
            settings,
            db,
            path,
            stream: meta.stream,
            numbers,
            next_row,
            held: VecDeque::new(),
            cursor: meta.cursor,
            cursor_written: meta.cursor,
            uncommitted: false,
            gaps,
            behind_since: None,
            gaps_behind: false,
            swept_at: None,
            retry_at: None,
            reserve_spent_at: None,
            reserve_missed_at: None,
            told: None,
            unread: None,
            lost: 0,
        };
        Opened { outbox, abrupt: !meta.clean, notes }
    }

    /// Whose numbers [`Outbox::number`] gives: another where a fresh file was begun.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// The next number of `camera`, which must then be used in [`Outbox::accept`].
    pub fn number(&mut self, camera: &str) -> u64 {
        let last = self.numbers.entry(camera.to_string()).or_default();
        *last += 1;
        *last
    }

    /// Takes a message in and gives its row. It is safe, and may be sent, after the next [`Outbox::commit`].
    pub fn accept(&mut self, draft: Draft) -> i64 {
        let Draft { camera, seq, at_ms, topic, retained, payload } = draft;
        let row = Row { row: self.next_row, camera, seq, at_ms, topic, retained, payload };
        self.next_row += 1;
        if self.held.len() >= MOST_HELD
            && let Some(oldest) = self.held.pop_front()
        {
            self.lose(&oldest.camera, (oldest.seq, oldest.seq), 1, (oldest.at_ms, oldest.at_ms));
        }
        self.held.push_back(row);
        self.next_row - 1
    }

    /// Writes what is held, and what is due to the disk. To be called at every turn, `now` being monotonic.
    pub fn commit(&mut self, now: Duration, at: Timestamp) {
        if self.retry_at.is_some_and(|retry_at| now < retry_at) {
            return;
        }
        let mut outcome = self.unread.take().map_or(Ok(()), Err);
        let durability = self.settings.durability;
        if outcome.is_ok() && (!self.held.is_empty() || self.gaps_behind) {
            outcome = self.write_held(durability == Durability::Strict);
        }
        let group = if durability == Durability::Light { LIGHT_GROUP } else { GROUP };
        if outcome.is_ok() && self.is_behind_for(group, now) {
            outcome = self.write_meta(false, durability != Durability::Light);
        }
        if outcome.is_ok() && self.swept_at.is_none_or(|swept| now.saturating_sub(swept) >= SWEEP) {
            self.swept_at = Some(now);
            outcome = self.sweep(at);
            self.keep_reserve(now);
        }
        match outcome {
            Ok(()) => {
                self.retry_at = None;
                if self.reserve_spent_at.is_none() && self.told.take().is_some() {
                    tracing::info!("Outbox can be written again.");
                }
            }
            Err(error) => self.fail(&error, now, at),
        }
    }

    /// At most `count` rows behind `row` that may be sent, in order.
    pub fn after(&mut self, row: i64, count: usize) -> Vec<Row> {
        let rows = read(&self.db, row, count).unwrap_or_else(|error| {
            self.unread = Some(error);
            Vec::new()
        });
        if !rows.is_empty() || self.retry_at.is_none() {
            return rows;
        }
        // The disk takes nothing: sent from memory all the same, behind all that is on it.
        self.held.iter().filter(|held| held.row > row).take(count).cloned().collect()
    }

    /// Everything up to `row` has been acknowledged.
    pub fn acknowledged(&mut self, row: i64) {
        self.cursor = self.cursor.max(row);
        while self.held.front().is_some_and(|held| held.row <= self.cursor) {
            self.held.pop_front();
        }
    }

    /// What is behind `row` is to be sent again, acknowledged or not.
    pub fn go_back(&mut self, row: i64) {
        self.cursor = self.cursor.min(row);
    }

    /// Up to which row everything has been acknowledged.
    pub fn cursor(&self) -> i64 {
        self.cursor
    }

    /// The row behind which to send again what was acknowledged in the last `replay` before the cursor.
    pub fn replay_from(&self, replay: Duration) -> i64 {
        let find = || -> rusqlite::Result<Option<i64>> {
            let acknowledged_at: Option<i64> = self
                .db
                .query_row(
                    "SELECT at_ms FROM message WHERE row <= ? ORDER BY row DESC LIMIT 1",
                    [self.cursor],
                    |row| row.get(0),
                )
                .optional()?;
            let Some(acknowledged_at) = acknowledged_at else { return Ok(None) };
            let older: Option<i64> = self
                .db
                .query_row(
                    "SELECT row FROM message WHERE row <= ? AND at_ms < ? ORDER BY row DESC LIMIT 1",
                    params![self.cursor, acknowledged_at - replay.as_millis() as i64],
                    |row| row.get(0),
                )
                .optional()?;
            // Where all that there is is younger, from the first on.
            Ok(older.or_else(|| self.first_row().map(|first| first - 1)))
        };
        find().ok().flatten().unwrap_or(self.cursor).min(self.cursor)
    }

    /// How many messages wait for an acknowledgement.
    pub fn waiting(&self) -> u64 {
        (self.next_row - 1 - self.cursor).max(0) as u64
    }

    /// When the oldest of those was accepted.
    pub fn oldest_waiting_ms(&self) -> Option<i64> {
        let found = self
            .db
            .query_row("SELECT at_ms FROM message WHERE row > ? ORDER BY row LIMIT 1", [self.cursor], |row| {
                row.get(0)
            })
            .optional();
        found.ok().flatten().or_else(|| self.held.front().map(|held| held.at_ms))
    }

    /// Messages that have gone unsent so far, in this process.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// What is to be told in place of messages that are gone.
    pub fn gaps(&self) -> Vec<Gap> {
        self.gaps.values().cloned().collect()
    }

    /// A gap has been told and acknowledged as it was then.
    pub fn gap_acknowledged(&mut self, gap: &Gap) {
        if self.gaps.get(&gap.camera) == Some(gap) {
            self.gaps.remove(&gap.camera);
            let done = self.db.execute("DELETE FROM gap WHERE camera = ?", [&gap.camera]);
            if let Err(error) = done {
                tracing::debug!(%error, "A gap will be told twice.");
            }
        }
    }

    /// What was last given to [`Outbox::remember`].
    pub fn remembered(&self) -> BTreeMap<String, Vec<u8>> {
        file::remembered(&self.db).unwrap_or_default()
    }

    /// Keeps texts by topic that are to be known after a restart, in place of those before.
    pub fn remember(&mut self, texts: &BTreeMap<String, Vec<u8>>) {
        if let Err(error) = file::remember(&self.db, texts) {
            tracing::debug!(%error, "Outbox cannot remember.");
        }
    }

    /// Of `camera`, at most `count` messages behind number `since`, oldest first; whether there are more; and the first
    /// number that is still there.
    ///
    /// Errors: the file cannot be read.
    pub fn history(&self, camera: &str, since: u64, count: usize) -> rusqlite::Result<History> {
        let mut query = self.db.prepare_cached(
            "SELECT row, camera, seq, at_ms, topic, retained, payload FROM message \
             WHERE camera = ? AND seq > ? ORDER BY row LIMIT ?",
        )?;
        let mut rows = query
            .query_map(params![camera, since as i64, count as i64 + 1], to_row)?
            .collect::<rusqlite::Result<Vec<Row>>>()?;
        let more = rows.len() > count;
        rows.truncate(count);
        let first_seq: Option<i64> = self
            .db
            .query_row("SELECT seq FROM message WHERE camera = ? ORDER BY row LIMIT 1", [camera], |row| {
                row.get(0)
            })
            .optional()?;
        let last_seq = self.numbers.get(camera).copied().unwrap_or_default();
        Ok(History {
            rows,
            more,
            first_seq: first_seq.map(|seq| seq as u64),
            last_seq,
            stream: self.stream.clone(),
        })
    }

    /// Bytes of its files.
    pub fn file_bytes(&self) -> u64 {
        let Some(path) = &self.path else { return 0 };
        let len = |path: PathBuf| std::fs::metadata(path).map_or(0, |file| file.len());
        len(path.clone()) + len(file::log_of(path))
    }

    /// Writes everything and notes that the end was orderly.
    pub fn close(mut self, now: Duration, at: Timestamp) {
        self.retry_at = None;
        self.commit(now, at);
        let is_unwritten = !self.held.is_empty() || self.write_meta(true, true).is_err();
        if is_unwritten {
            tracing::warn!(held = self.held.len(), "Outbox could not be written to the end.");
        }
        let _ = self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    }

    /// In parts: on a disk that is nearly full, little may fit where much does not.
    fn write_held(&mut self, sync: bool) -> rusqlite::Result<()> {
        self.synchronous(sync)?;
        while !self.held.is_empty() || self.gaps_behind {
            let count = self.held.len().min(PART);
            let transaction = self.db.unchecked_transaction()?;
            {
                let mut insert = transaction.prepare_cached(
                    "INSERT INTO message (row, camera, seq, at_ms, topic, retained, payload) \
                     VALUES (?, ?, ?, ?, ?, ?, ?)",
                )?;
                for row in self.held.range(..count) {
                    insert.execute(params![
                        row.row,
                        row.camera,
                        row.seq as i64,
                        row.at_ms,
                        row.topic,
                        row.retained,
                        row.payload
                    ])?;
                }
            }
            for gap in self.gaps.values().filter(|_| self.gaps_behind) {
                file::write_gap(&transaction, gap)?;
            }
            transaction.commit()?;
            self.held.drain(..count);
            (self.gaps_behind, self.uncommitted) = (false, true);
        }
        Ok(())
    }

    /// Whether something has been waiting for the disk for so long.
    fn is_behind_for(&mut self, group: Duration, now: Duration) -> bool {
        let is_behind = self.uncommitted || self.cursor != self.cursor_written;
        if !is_behind {
            self.behind_since = None;
        } else {
            self.behind_since.get_or_insert(now);
        }
        self.behind_since.is_some_and(|since| now.saturating_sub(since) >= group)
    }

    fn write_meta(&mut self, clean: bool, sync: bool) -> rusqlite::Result<()> {
        self.synchronous(sync)?;
        file::write_meta(&self.db, self.cursor, clean, &self.numbers, self.next_row)?;
        (self.cursor_written, self.uncommitted, self.behind_since) = (self.cursor, false, None);
        Ok(())
    }

    fn synchronous(&self, sync: bool) -> rusqlite::Result<()> {
        self.db.pragma_update(None, "synchronous", if sync { "FULL" } else { "NORMAL" })
    }

    /// Makes room where there is too much: history first, then what waits.
    fn sweep(&mut self, at: Timestamp) -> rusqlite::Result<()> {
        let Some(first) = self.first_row() else { return Ok(()) };
        let mut cut = (self.next_row - self.settings.most_messages as i64).max(first) - 1;
        let pages: i64 = self.db.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        let free: i64 = self.db.query_row("PRAGMA freelist_count", [], |row| row.get(0))?;
        let bytes = (pages - free) as u64 * file::PAGE_BYTES;
        if bytes > self.settings.most_bytes {
            cut = cut.max(first + (self.next_row - first) / SHARE);
        }
        let oldest = at.as_millisecond() - self.settings.oldest.as_millis() as i64;
        // Up to the first that is young: a clock that was set must not make old ones of those behind it.
        let first_young: Option<i64> = self
            .db
            .query_row("SELECT row FROM message WHERE at_ms >= ? ORDER BY row LIMIT 1", [oldest], |row| {
                row.get(0)
            })
            .optional()?;
        cut = cut.max(first_young.unwrap_or(self.next_row) - 1);
        if cut >= first { self.cut(cut) } else { Ok(()) }
    }

    /// Removes the rows up to `last`, and notes what nobody has got.
    fn cut(&mut self, last: i64) -> rusqlite::Result<()> {
        // What is held is not on the disk, and stays.
        let newest: Option<i64> = self.db.query_row("SELECT MAX(row) FROM message", [], |row| row.get(0))?;
        let Some(last) = newest.map(|newest| newest.min(last)) else { return Ok(()) };
        let undelivered: Vec<Gap> = {
            let mut query = self.db.prepare_cached(
                "SELECT camera, MIN(seq), MAX(seq), COUNT(*), MIN(at_ms), MAX(at_ms) FROM message \
                 WHERE row > ? AND row <= ? GROUP BY camera",
            )?;
            query.query_map(params![self.cursor, last], file::to_gap)?.collect::<rusqlite::Result<_>>()?
        };
        let mut gaps = self.gaps.clone();
        for gap in &undelivered {
            widen(&mut gaps, gap.clone());
        }
        self.synchronous(false)?;
        let transaction = self.db.unchecked_transaction()?;
        transaction.execute("DELETE FROM message WHERE row <= ?", [last])?;
        for gap in undelivered.iter().filter_map(|gap| gaps.get(&gap.camera)) {
            file::write_gap(&transaction, gap)?;
        }
        transaction.commit()?;
        self.gaps = gaps;
        let lost: u64 = undelivered.iter().map(|gap| gap.count).sum();
        if lost > 0 && self.lost == 0 {
            tracing::warn!(
                "Outbox is full: the oldest messages that wait for a broker go, and gaps are told."
            );
        }
        self.lost += lost;
        // Whoever waits for these waits in vain.
        self.cursor = self.cursor.max(last);
        Ok(())
    }

    /// A message that was never on the disk goes.
    fn lose(
        &mut self,
        camera: &str,
        (first_seq, last_seq): (u64, u64),
        count: u64,
        (from_ms, to_ms): (i64, i64),
    ) {
        self.lost += count;
        let gap = Gap { camera: camera.to_string(), first_seq, last_seq, count, from_ms, to_ms };
        widen(&mut self.gaps, gap);
        self.gaps_behind = true;
    }

    /// Takes a message out that no broker takes: it is told of as a gap.
    pub fn give_up(&mut self, row: &Row) {
        self.lose(&row.camera, (row.seq, row.seq), 1, (row.at_ms, row.at_ms));
        self.held.retain(|held| held.row != row.row);
        if let Err(error) = self.db.execute("DELETE FROM message WHERE row = ?", [row.row]) {
            tracing::debug!(%error, "What was given up may be sent again.");
        }
    }

    /// What a failure asks for.
    fn fail(&mut self, error: &rusqlite::Error, now: Duration, at: Timestamp) {
        let code = error.sqlite_error_code();
        if matches!(code, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)) {
            self.begin_anew(at, &error.to_string());
            return;
        }
        if self.told.is_none() {
            tracing::warn!(%error, held = self.held.len(), "Outbox cannot be written; seeing goes on, and the oldest go.");
            self.told = Some(error.to_string());
        }
        self.retry_at = Some(now + PAUSE);
        if code == Some(ErrorCode::DiskFull) {
            self.retry_at = Some(now + FULL_PAUSE);
            self.make_room(now);
        }
    }

    /// The disk is full: the log is worked into the file, so that it can be written anew, the file grows no more, and the
    /// oldest go, whose pages can be written again. All of that needs a little room itself, for which there is the reserve.
    fn make_room(&mut self, now: Duration) {
        if let Some(path) = self.path.as_deref()
            && self.reserve_spent_at.is_none()
        {
            file::spend_reserve(path);
        }
        self.reserve_spent_at = Some(now);
        let _ = self.db.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()));
        if let Ok(pages) = self.db.query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0)) {
            let _ = self.db.query_row(&format!("PRAGMA max_page_count={pages}"), [], |_| Ok(()));
        }
        let Some(first) = self.first_row() else { return };
        let share = ((self.next_row - first) / SHARE).max(1);
        if let Err(error) = self.cut(first + share) {
            tracing::debug!(%error, "No room could be made.");
        }
    }

    /// Lets the file grow again once the disk has room for the reserve.
    fn keep_reserve(&mut self, now: Duration) {
        let since = self.reserve_spent_at.max(self.reserve_missed_at);
        let is_too_soon = since.is_some_and(|since| now.saturating_sub(since) < RESERVE_PAUSE);
        let Some(path) = self.path.as_deref().filter(|_| !is_too_soon) else { return };
        let is_kept = file::keep_reserve(path);
        self.reserve_missed_at = (!is_kept).then_some(now);
        if is_kept && self.reserve_spent_at.take().is_some() {
            let _ = self.db.query_row(&format!("PRAGMA max_page_count={}", u32::MAX - 1), [], |_| Ok(()));
        }
    }

    /// The file has gone bad while it was used.
    fn begin_anew(&mut self, at: Timestamp, why: &str) {
        let held = std::mem::take(&mut self.held);
        let settings = self.settings.clone();
        // Its lock must go before the file is opened again.
        if let Ok(memory) = Connection::open_in_memory() {
            self.db = memory;
        }
        let notes = self.path.as_deref().map(|path| file::set_aside(path, at, why));
        let mut opened = Outbox::open(settings, at);
        for note in notes.into_iter().chain(opened.notes) {
            tracing::warn!("{note}");
        }
        opened.outbox.lost = self.lost;
        // Rows keep their places: whoever has sent some must not take others for them.
        let first = held.front().map_or(self.next_row, |row| row.row);
        opened.outbox.next_row = opened.outbox.next_row.max(first);
        opened.outbox.cursor = opened.outbox.next_row - 1;
        for row in held {
            // Its payload has the number of a stream that has ended; subscribers see the new one's begin.
            let Row { camera, at_ms, topic, retained, payload, .. } = row;
            let seq = opened.outbox.number(&camera);
            opened.outbox.accept(Draft { camera, seq, at_ms, topic, retained, payload });
        }
        *self = opened.outbox;
    }

    fn first_row(&self) -> Option<i64> {
        self.db.query_row("SELECT MIN(row) FROM message", [], |row| row.get(0)).ok().flatten()
    }
}

/// What [`Outbox::history`] found.
#[derive(Debug)]
pub struct History {
    /// The messages, oldest first.
    pub rows: Vec<Row>,
    /// There are more behind them.
    pub more: bool,
    /// The oldest number that is still there.
    pub first_seq: Option<u64>,
    /// The last number given.
    pub last_seq: u64,
    /// Whose numbers they are.
    pub stream: String,
}

fn widen(gaps: &mut BTreeMap<String, Gap>, more: Gap) {
    gaps.entry(more.camera.clone())
        .and_modify(|gap| {
            gap.first_seq = gap.first_seq.min(more.first_seq);
            gap.last_seq = gap.last_seq.max(more.last_seq);
            gap.count += more.count;
            gap.from_ms = gap.from_ms.min(more.from_ms);
            gap.to_ms = gap.to_ms.max(more.to_ms);
        })
        .or_insert(more);
}

fn read(db: &Connection, after: i64, count: usize) -> rusqlite::Result<Vec<Row>> {
    let mut query = db.prepare_cached(
        "SELECT row, camera, seq, at_ms, topic, retained, payload FROM message WHERE row > ? ORDER BY row LIMIT ?",
    )?;
    query.query_map(params![after, count as i64], to_row)?.collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn settings(file: Option<&Path>) -> config::Outbox {
        config::Outbox {
            file: file.map(Path::to_path_buf),
            durability: Durability::Grouped,
            most_messages: 1000,
            most_bytes: 64 << 20,
            oldest: Duration::from_secs(3600),
            replay: Duration::from_secs(5),
            also: Vec::new(),
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    fn accept(outbox: &mut Outbox, camera: &str, seconds: i64, payload: &[u8]) -> i64 {
        let seq = outbox.number(camera);
        outbox.accept(Draft {
            camera: camera.into(),
            seq,
            at_ms: at(seconds).as_millisecond(),
            topic: format!("t/{camera}"),
            retained: false,
            payload: payload.into(),
        })
    }

    fn commit(outbox: &mut Outbox, seconds: u64) {
        outbox.commit(Duration::from_secs(seconds), at(seconds as i64));
    }

    fn seqs(rows: &[Row]) -> Vec<(String, u64)> {
        rows.iter().map(|row| (row.camera.clone(), row.seq)).collect()
    }

    /// As a killed process leaves it: without a goodbye.
    fn kill(outbox: Outbox) {
        drop(outbox);
    }

    #[test]
    fn what_is_committed_outlives_the_process_and_numbers_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("deep/outbox.db");
        let opened = Outbox::open(settings(Some(&file)), at(0));
        assert!(!opened.abrupt && opened.notes.is_empty());
        let mut outbox = opened.outbox;
        let stream = outbox.stream().to_string();
        for camera in ["yard", "door", "yard"] {
            accept(&mut outbox, camera, 0, b"x");
        }
        assert!(outbox.after(0, 10).is_empty(), "not before it is safe");
        commit(&mut outbox, 0);
        assert_eq!(seqs(&outbox.after(0, 10)), [("yard".into(), 1), ("door".into(), 1), ("yard".into(), 2)]);
        kill(outbox);

        let opened = Outbox::open(settings(Some(&file)), at(1));
        assert!(opened.abrupt);
        let mut outbox = opened.outbox;
        assert_eq!((outbox.stream(), outbox.waiting()), (&*stream, 3));
        assert_eq!(outbox.number("yard"), 3);
        outbox.acknowledged(2);
        assert_eq!(seqs(&outbox.after(outbox.cursor(), 10)), [("yard".into(), 2)]);
        outbox.close(Duration::from_secs(1), at(1));

        let opened = Outbox::open(settings(Some(&file)), at(2));
        assert!(!opened.abrupt);
        assert_eq!((opened.outbox.cursor(), opened.outbox.waiting()), (2, 1));
    }

    #[test]
    fn after_a_power_cut_numbers_are_of_another_stream() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("outbox.db");
        let mut outbox = Outbox::open(settings(Some(&file)), at(0)).outbox;
        accept(&mut outbox, "yard", 0, b"x");
        commit(&mut outbox, 0);
        let stream = outbox.stream().to_string();
        outbox.db.execute("UPDATE meta SET boot = 'another run of the machine'", []).unwrap();
        kill(outbox);
        let mut outbox = Outbox::open(settings(Some(&file)), at(1)).outbox;
        assert_ne!(outbox.stream(), stream);
        assert_eq!((outbox.number("yard"), outbox.waiting()), (2, 1));
    }

    #[test]
    fn the_last_seconds_before_the_cursor_are_sent_again() {
        let mut outbox = Outbox::open(settings(None), at(0)).outbox;
        for second in 0..20 {
            accept(&mut outbox, "yard", second, b"x");
        }
        commit(&mut outbox, 20);
        outbox.acknowledged(18);
        // Row 18 is of second 17.
        assert_eq!(outbox.replay_from(Duration::from_secs(5)), 12);
        assert_eq!(outbox.replay_from(Duration::ZERO), 17);
        assert_eq!(outbox.replay_from(Duration::from_secs(100)), 0);
    }

    #[test]
    fn history_goes_first_and_what_nobody_got_is_a_gap_of_its_camera() {
        let mut outbox = Outbox::open(settings(None), at(0)).outbox;
        for number in 0..1500 {
            accept(&mut outbox, if number % 3 == 0 { "door" } else { "yard" }, number, b"x");
        }
        outbox.acknowledged(300);
        commit(&mut outbox, 1500);
        assert_eq!((outbox.waiting(), outbox.lost()), (1000, 200));
        let gaps = outbox.gaps();
        let counts: Vec<(&str, u64)> = gaps.iter().map(|gap| (gap.camera.as_str(), gap.count)).collect();
        assert_eq!(counts, [("door", 67), ("yard", 133)]);
        let door = &gaps[0];
        assert_eq!((door.first_seq, door.last_seq), (101, 167));
        assert_eq!(seqs(&outbox.after(outbox.cursor(), 1)), [("yard".into(), 334)]);
        outbox.gap_acknowledged(door);
        assert_eq!(outbox.gaps().len(), 1);
    }

    #[test]
    fn a_gap_that_has_grown_meanwhile_is_told_again() {
        let mut outbox = Outbox::open(settings(None), at(0)).outbox;
        let fill = |outbox: &mut Outbox, from: i64, to: i64| {
            for second in from..to {
                accept(outbox, "yard", second, b"x");
            }
            commit(outbox, to as u64);
        };
        fill(&mut outbox, 0, 1100);
        let told = outbox.gaps();
        fill(&mut outbox, 1100, 1200);
        outbox.gap_acknowledged(&told[0]);
        let grown = outbox.gaps();
        assert_eq!((grown[0].first_seq, grown[0].last_seq, grown[0].count), (1, 200, 200));
    }

    #[test]
    fn the_old_and_the_many_go() {
        let mut outbox = Outbox::open(settings(None), at(0)).outbox;
        for second in 0..10 {
            accept(&mut outbox, "yard", second, b"x");
        }
        commit(&mut outbox, 10);
        commit(&mut outbox, 3605);
        assert_eq!(seqs(&outbox.after(0, 100)).first(), Some(&("yard".into(), 6)));

        let mut small = config::Outbox { most_bytes: 1 << 20, ..settings(None) };
        small.most_messages = 1_000_000;
        let mut outbox = Outbox::open(small, at(0)).outbox;
        for second in 0..400 {
            accept(&mut outbox, "yard", second, &[0; 5000]);
            commit(&mut outbox, second as u64);
        }
        let left = outbox.after(0, 1000).len();
        assert!((150..230).contains(&left), "{left} of 5 kB in 1 MiB");
        assert_eq!(outbox.lost() as usize + left, 400);
    }

    #[test]
    fn a_file_that_is_no_good_is_set_aside_and_said() {
        let folder = tempfile::tempdir().unwrap();
        let whole = folder.path().join("whole.db");
        let mut outbox = Outbox::open(settings(Some(&whole)), at(0)).outbox;
        for second in 0..200 {
            accept(&mut outbox, "yard", second, &[7; 500]);
        }
        outbox.close(Duration::ZERO, at(0));
        let bytes = std::fs::read(&whole).unwrap();
        let damaged = |damage: fn(&mut Vec<u8>)| {
            let mut bytes = bytes.clone();
            damage(&mut bytes);
            bytes
        };
        let foreign = folder.path().join("foreign.db");
        Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
        for (name, contents) in [
            ("text", b"this is no database, whatever its name says".to_vec()),
            ("short", damaged(|bytes| bytes.truncate(5000))),
            ("rotten", damaged(|bytes| bytes[4000..60_000].fill(0xa5))),
            ("foreign", std::fs::read(&foreign).unwrap()),
            ("newer", damaged(|bytes| bytes[60..64].copy_from_slice(&9i32.to_be_bytes()))),
        ] {
            let file = folder.path().join(format!("{name}/outbox.db"));
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, &contents).unwrap();
            let opened = Outbox::open(settings(Some(&file)), at(0));
            assert_eq!(opened.notes.len(), 1, "{name}: {:?}", opened.notes);
            assert!(opened.notes[0].contains(".bad-19700112T134640"), "{:?}", opened.notes);
            let aside = file.with_file_name("outbox.db.bad-19700112T134640");
            assert_eq!(std::fs::read(aside).unwrap(), contents, "{name}");
            let mut outbox = opened.outbox;
            accept(&mut outbox, "yard", 0, b"x");
            commit(&mut outbox, 0);
            assert_eq!(seqs(&outbox.after(0, 10)), [("yard".into(), 1)], "{name}");
            assert!(file.exists(), "{name}: on disk");
        }
        // An empty file is a fresh one.
        let empty = folder.path().join("empty.db");
        std::fs::write(&empty, b"").unwrap();
        assert!(Outbox::open(settings(Some(&empty)), at(0)).notes.is_empty());
    }

    #[test]
    fn a_file_that_goes_bad_in_use_is_replaced_and_rows_keep_their_places() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("outbox.db");
        let mut outbox = Outbox::open(settings(Some(&file)), at(0)).outbox;
        for second in 0..50 {
            accept(&mut outbox, "yard", second, &[7; 500]);
        }
        commit(&mut outbox, 50);
        let stream = outbox.stream().to_string();
        let held = accept(&mut outbox, "yard", 51, b"held");
        outbox.unread = Some(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(11), None));
        commit(&mut outbox, 51);
        assert_ne!(outbox.stream(), stream);
        // Word of rows that were sent from the old file.
        outbox.acknowledged(40);
        commit(&mut outbox, 52);
        let rows = outbox.after(40, 10);
        assert_eq!(rows.iter().map(|row| row.row).collect::<Vec<_>>(), [held]);
        assert_eq!(outbox.waiting(), 1);
    }

    #[test]
    fn a_file_in_use_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("outbox.db");
        let mut first = Outbox::open(settings(Some(&file)), at(0)).outbox;
        accept(&mut first, "yard", 0, b"x");
        commit(&mut first, 0);
        let second = Outbox::open(settings(Some(&file)), at(0));
        assert!(second.notes[0].contains("another process uses it"), "{:?}", second.notes);
        assert_eq!(second.outbox.file_bytes(), 0, "in memory");
        assert_eq!(first.after(0, 10).len(), 1);
    }

    #[test]
    fn a_disk_without_room_costs_the_oldest_and_recovers() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("outbox.db");
        let mut outbox = Outbox::open(settings(Some(&file)), at(0)).outbox;
        // SQLite's own word for a full disk, without filling one.
        outbox.db.pragma_update(None, "max_page_count", 60).unwrap();
        for second in 0..400 {
            accept(&mut outbox, "yard", second, &[0; 900]);
            commit(&mut outbox, 2 * second as u64);
        }
        // What is held goes to the disk as soon as room is made.
        for second in 800..804 {
            commit(&mut outbox, second);
        }
        assert!(outbox.lost() > 200, "{}", outbox.lost());
        let rows = outbox.after(outbox.cursor(), 1000);
        assert_eq!(rows.last().unwrap().seq, 400, "the newest are there");
        let gap = &outbox.gaps()[0];
        assert_eq!((gap.first_seq, gap.last_seq, gap.count), (1, rows[0].seq - 1, rows[0].seq - 1));
        // Once there is room for a reserve again, the file grows again.
        let lost = outbox.lost();
        outbox.keep_reserve(Duration::from_secs(1000));
        for second in 1000..1100 {
            accept(&mut outbox, "yard", second, &[0; 900]);
            commit(&mut outbox, 2 * second as u64);
        }
        assert_eq!(outbox.lost(), lost);
        assert_eq!(outbox.after(0, 1).first().map(|row| row.seq), Some(rows[0].seq));
    }

    #[test]
    fn history_is_given_in_parts() {
        let mut outbox = Outbox::open(settings(None), at(0)).outbox;
        for second in 0..9 {
            accept(&mut outbox, if second % 3 == 0 { "door" } else { "yard" }, second, b"x");
        }
        commit(&mut outbox, 9);
        outbox.acknowledged(9);
        let part = outbox.history("yard", 2, 3).unwrap();
        assert_eq!(part.rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!((part.more, part.first_seq, part.last_seq), (true, Some(1), 6));
        let rest = outbox.history("yard", 5, 3).unwrap();
        assert_eq!((rest.rows.len(), rest.more), (1, false));
        assert!(outbox.history("nobody", 0, 3).unwrap().rows.is_empty());
    }
}
