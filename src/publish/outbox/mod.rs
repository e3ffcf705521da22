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
mod retention;
mod tables;

use crate::config::{self, Durability};
use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode};
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
/// Between two attempts at a disk that takes nothing.
const PAUSE: Duration = Duration::from_secs(1);
/// The same where it was full, and room has been made.
const FULL_PAUSE: Duration = Duration::from_millis(50);
/// How long a file may be unreadable before it is taken for no good.
const MOST_UNREAD: Duration = Duration::from_secs(30);
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
    /// Where to begin if this process ends without a goodbye.
    replay_row: i64,
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
    /// Since when that has been so.
    unread_since: Option<Duration>,
    lost: u64,
}

/// How an outbox was found.
pub struct Opened {
    /// Ready.
    pub outbox: Outbox,
    /// The row behind which to begin: before the cursor where the process before ended without a goodbye, for the broker
    /// may not have all that it acknowledged.
    pub resume_row: i64,
    /// What a user should know of it.
    pub notes: Vec<String>,
}

impl Outbox {
    /// Opens the file, or begins one; where that is impossible, in memory. Never fails, for seeing must go on.
    pub fn open(settings: config::Outbox, now: Timestamp) -> Opened {
        let found = file::open(settings.file.as_deref(), now);
        let file::Found { db, path, meta, gaps, notes } = found;
        let resume_row = if meta.clean { meta.cursor } else { meta.replay_row.min(meta.cursor) };
        let outbox = Outbox {
            settings,
            db,
            path,
            stream: meta.stream,
            numbers: meta.numbers,
            next_row: meta.next_row,
            held: VecDeque::new(),
            cursor: meta.cursor,
            cursor_written: meta.cursor,
            replay_row: resume_row,
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
            unread_since: None,
            lost: 0,
        };
        Opened { outbox, resume_row, notes }
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

    /// Writes what is held, and what is due to the disk. To be called at every turn, `now` being monotonic; `replay_row` is
    /// where the next process is to begin if this one ends without a goodbye.
    pub fn commit(&mut self, now: Duration, at: Timestamp, replay_row: i64) {
        self.replay_row = replay_row;
        if self.retry_at.is_some_and(|retry_at| now < retry_at) {
            return;
        }
        let mut outcome = self.unread.take().map_or(Ok(()), Err);
        if let Err(error) = &outcome
            && now.saturating_sub(*self.unread_since.get_or_insert(now)) >= MOST_UNREAD
        {
            let why = format!("it cannot be read: {error}");
            self.begin_anew(at, &why);
            return;
        }
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
        let rows = match tables::after(&self.db, row, count) {
            Ok(rows) => rows,
            Err(error) => {
                // Nothing goes out before what lies there.
                self.unread = Some(error);
                return Vec::new();
            }
        };
        self.unread_since = None;
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

    /// How many messages wait for an acknowledgement.
    pub fn waiting(&self) -> u64 {
        (self.next_row - 1 - self.cursor).max(0) as u64
    }

    /// When the oldest of those was accepted.
    pub fn oldest_waiting_ms(&self) -> Option<i64> {
        let found = tables::accepted_after(&self.db, self.cursor);
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
            if let Err(error) = tables::remove_gap(&self.db, &gap.camera) {
                tracing::debug!(%error, "A gap will be told twice.");
            }
        }
    }

    /// Texts by topic, as given to [`Outbox::remember`].
    pub fn remembered(&self) -> BTreeMap<String, Vec<u8>> {
        tables::remembered(&self.db).unwrap_or_default()
    }

    /// Keeps a text that is to be known after a restart, in place of the one before; none is forgotten.
    pub fn remember(&mut self, topic: &str, text: Option<&Vec<u8>>) {
        if let Err(error) = tables::remember(&self.db, topic, text.map(Vec::as_slice)) {
            tracing::debug!(%error, "Outbox cannot remember.");
        }
    }

    /// Of `camera`, at most `count` messages behind number `since`, oldest first; whether there are more; and the first
    /// number that is still there.
    ///
    /// Errors: the file cannot be read.
    pub fn history(&self, camera: &str, since: u64, count: usize) -> rusqlite::Result<History> {
        // A name that has no number has no row either, and none is looked for.
        let Some(&last_seq) = self.numbers.get(camera) else {
            return Ok(History { stream: self.stream.clone(), ..History::default() });
        };
        let found = tables::history(&self.db, camera, since.min(last_seq), count)?;
        Ok(History { last_seq, stream: self.stream.clone(), ..found })
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
        self.commit(now, at, self.replay_row);
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
            tables::append(&transaction, self.held.range(..count))?;
            for gap in self.gaps.values().filter(|_| self.gaps_behind) {
                tables::write_gap(&transaction, gap)?;
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
        tables::write_meta(&self.db, (self.cursor, self.replay_row), clean, &self.numbers, self.next_row)?;
        (self.cursor_written, self.uncommitted, self.behind_since) = (self.cursor, false, None);
        Ok(())
    }

    fn synchronous(&self, sync: bool) -> rusqlite::Result<()> {
        self.db.pragma_update(None, "synchronous", if sync { "FULL" } else { "NORMAL" })
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
        if let Err(error) = tables::remove(&self.db, row.row) {
            tracing::debug!(%error, "What was given up may be sent again.");
        }
    }

    /// What a failure asks for.
    fn fail(&mut self, error: &rusqlite::Error, now: Duration, at: Timestamp) {
        let code = error.sqlite_error_code();
        // Without a code: a field that is not what was written there.
        if matches!(code, None | Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)) {
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

    /// The file has gone bad while it was used.
    fn begin_anew(&mut self, at: Timestamp, why: &str) {
        let held = std::mem::take(&mut self.held);
        let settings = self.settings.clone();
        // Its lock must go before the file is opened again.
        if let Ok(memory) = Connection::open_in_memory() {
            self.db = memory;
        }
        let notes = self.path.as_deref().map(|path| file::set_aside(path, at, why));
        let opened = Outbox::open(settings, at);
        for note in notes.into_iter().chain(opened.notes) {
            tracing::warn!("{note}");
        }
        let mut fresh = opened.outbox;
        fresh.lost = self.lost;
        // Rows keep their places: whoever has sent some must not take others for them.
        fresh.next_row = fresh.next_row.max(self.next_row);
        fresh.cursor = held.front().map_or(fresh.next_row, |row| row.row) - 1;
        for row in held {
            // Its payload has the number of a stream that has ended; subscribers see the new one's begin.
            let seq = fresh.number(&row.camera);
            fresh.held.push_back(Row { seq, ..row });
        }
        *self = fresh;
    }
}

/// What [`Outbox::history`] found.
#[derive(Debug, Default)]
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

#[cfg(test)]
mod tests;
