//! The outbox: durable messages on disk until a broker has acknowledged them. An SQLite file that also holds
//! the history of events.
//!
//! Every durable message gets the next sequence number of its camera and is written before it is sent, so no
//! number is ever assigned twice. Rows are numbered in sending order. One cursor marks the row up to which
//! everything is acknowledged; it is written with the next group, because a repeat after a crash does no
//! harm. Delivered rows stay as history until their space is needed. Messages deleted before delivery are
//! reported by a [`Gap`] per camera.
//!
//! Times are milliseconds since 1970. Not thread-safe: the publisher's thread owns the outbox.

mod commit;
mod events;
mod file;
mod message;
mod open_objects;
mod relocation;
mod retention;
mod tables;

pub use self::{
    message::{DurableMessage, Gap, History, Row},
    relocation::check_move,
};

use self::message::merge_gap;
use crate::{
    config,
    wire::{history::EventQuery, messages::Event},
};
use jiff::Timestamp;
use rusqlite::Connection;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::PathBuf,
    time::Duration,
};

/// Maximum number of rows held in memory while the disk cannot be written. Beyond it the oldest are dropped.
const MAX_HELD: usize = 10_000;

/// The outbox of one node.
pub struct Outbox {
    settings: config::Outbox,
    db: Connection,
    /// Path of the file. None in memory.
    path: Option<PathBuf>,
    stream: String,
    /// The last sequence number assigned, by camera.
    last_seqs: BTreeMap<String, u64>,
    /// The row of the last event of each object that has not ended, by object.
    open: BTreeMap<String, i64>,
    /// Id of the next row.
    next_row: i64,
    /// Rows that are not committed yet.
    held: VecDeque<Row>,
    /// Everything up to this row is acknowledged.
    cursor: i64,
    /// The cursor on disk.
    cursor_written: i64,
    /// The row after which the next process resumes if this one ends without [`Outbox::close`].
    replay_row: i64,
    /// Gaps that are not reported yet, by camera.
    gaps: BTreeMap<String, Gap>,
    /// Whether there are gaps that are not on disk.
    gaps_dirty: bool,
    /// Whether rows were committed since the last flush to disk.
    unflushed: bool,
    /// Since when rows or the cursor differ from the disk.
    dirty_since: Option<Duration>,
    /// When the limits were last enforced.
    swept_at: Option<Duration>,
    /// When to retry. Set while the disk cannot be written.
    retry_at: Option<Duration>,
    /// When the reserve was released. Set from a full disk until there is a new reserve.
    reserve_released_at: Option<Duration>,
    /// When the disk last had no space for a reserve.
    reserve_failed_at: Option<Duration>,
    /// Whether it was logged that the disk cannot be written.
    warned: bool,
    /// Error of the last read, for the next commit.
    read_error: Option<rusqlite::Error>,
    /// Since when the file cannot be read.
    unreadable_since: Option<Duration>,
    /// Messages deleted before delivery since the daemon's start.
    lost: u64,
}

/// An opened outbox.
pub struct Opened {
    /// The outbox.
    pub outbox: Outbox,
    /// The row after which to resume sending. It is before the cursor if the last process did not close the
    /// outbox, because the broker may have forgotten messages that it acknowledged.
    pub resume_row: i64,
    /// The last event of each object that was in view when the last process was killed, oldest object first.
    pub interrupted: Vec<Row>,
    /// Problems to log for the user.
    pub notes: Vec<String>,
}

impl Outbox {
    /// Opens or creates the file. If neither is possible, the outbox is kept in memory, because the analysis
    /// must not depend on a disk.
    pub fn open(settings: config::Outbox, now: Timestamp) -> Opened {
        let found = file::open(settings.file.as_deref(), now);
        let file::Found { db, path, meta, gaps, notes } = found;
        let resume_row = if meta.clean { meta.cursor } else { meta.replay_row.min(meta.cursor) };
        let interrupted = meta.open.values().filter_map(|&row| tables::by_id(&db, row).ok().flatten());
        let interrupted = interrupted.collect();
        let outbox = Outbox {
            settings,
            db,
            path,
            stream: meta.stream,
            last_seqs: meta.last_seqs,
            open: meta.open,
            next_row: meta.next_row,
            held: VecDeque::new(),
            cursor: meta.cursor,
            cursor_written: meta.cursor,
            replay_row: resume_row,
            gaps,
            gaps_dirty: false,
            unflushed: false,
            dirty_since: None,
            swept_at: None,
            retry_at: None,
            reserve_released_at: None,
            reserve_failed_at: None,
            warned: false,
            read_error: None,
            unreadable_since: None,
            lost: 0,
        };
        Opened { outbox, resume_row, interrupted, notes }
    }

    /// Kinds of messages that are durable in addition to those that always are.
    pub fn durable_kinds(&self) -> &[String] {
        &self.settings.durable_kinds
    }

    /// The stream that sequence numbers belong to. A new file begins a new stream.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// Assigns the next sequence number of `camera`. It must be used in [`Outbox::accept`].
    pub fn next_seq(&mut self, camera: &str) -> u64 {
        let last = self.last_seqs.entry(camera.to_string()).or_default();
        *last += 1;
        *last
    }

    /// Accepts a message and returns the id of its row. It may be sent after the next [`Outbox::commit`].
    pub fn accept(&mut self, message: DurableMessage) -> i64 {
        let row = Row { id: self.next_row, message };
        self.next_row += 1;
        open_objects::record(&mut self.open, row.id, &row.message);
        if self.held.len() >= MAX_HELD
            && let Some(oldest) = self.held.pop_front()
        {
            self.record_loss(&oldest.message);
        }
        self.held.push_back(row);
        self.next_row - 1
    }

    /// The first rows after row `row` that may be sent, in order, at most `count`.
    pub fn after(&mut self, row: i64, count: usize) -> Vec<Row> {
        let rows = match tables::after(&self.db, row, count) {
            Ok(rows) => rows,
            Err(error) => {
                // Nothing may be sent before the rows that cannot be read.
                self.read_error = Some(error);
                return Vec::new();
            }
        };
        self.unreadable_since = None;
        if !rows.is_empty() || self.retry_at.is_none() {
            return rows;
        }
        // The disk cannot be written: after all rows on disk, those in memory are sent.
        self.held.iter().filter(|held| held.id > row).take(count).cloned().collect()
    }

    /// Marks everything up to row `row` as acknowledged.
    pub fn acknowledged(&mut self, row: i64) {
        self.cursor = self.cursor.max(row);
        while self.held.front().is_some_and(|held| held.id <= self.cursor) {
            self.held.pop_front();
        }
    }

    /// Moves the cursor back, so that the rows after `row` are sent again, acknowledged or not.
    pub fn go_back(&mut self, row: i64) {
        self.cursor = self.cursor.min(row);
    }

    /// The row up to which everything is acknowledged.
    pub fn cursor(&self) -> i64 {
        self.cursor
    }

    /// Number of messages that wait for an acknowledgement.
    pub fn waiting(&self) -> u64 {
        (self.next_row - 1 - self.cursor).max(0) as u64
    }

    /// When the oldest of them was accepted.
    pub fn oldest_waiting_ms(&self) -> Option<i64> {
        let found = tables::accepted_after(&self.db, self.cursor);
        found.ok().flatten().or_else(|| self.held.front().map(|held| held.message.at_ms))
    }

    /// Number of messages deleted before delivery since the daemon's start.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Gaps to report, one per camera.
    pub fn gaps(&self) -> Vec<Gap> {
        self.gaps.values().cloned().collect()
    }

    /// Removes a gap whose report was acknowledged. A gap that has grown since then stays.
    pub fn gap_acknowledged(&mut self, gap: &Gap) {
        if self.gaps.get(&gap.camera) == Some(gap) {
            self.gaps.remove(&gap.camera);
            if let Err(error) = tables::remove_gap(&self.db, &gap.camera) {
                tracing::debug!(%error, "A gap may be reported twice.");
            }
        }
    }

    /// Deletes a message that no broker accepts, and records a gap.
    pub fn give_up(&mut self, row: &Row) {
        self.record_loss(&row.message);
        self.held.retain(|held| held.id != row.id);
        if let Err(error) = tables::remove(&self.db, row.id) {
            tracing::debug!(%error, "A message that was given up may be sent again.");
        }
    }

    /// Counts an undelivered message that is not kept, and records a gap.
    fn record_loss(&mut self, message: &DurableMessage) {
        self.lost += 1;
        merge_gap(&mut self.gaps, Gap::of(message));
        self.gaps_dirty = true;
    }

    /// The topics given to [`Outbox::record_retained`].
    pub fn retained(&self) -> BTreeSet<String> {
        tables::retained(&self.db).unwrap_or_default()
    }

    /// Records that a broker may have retained a message on this topic.
    pub fn record_retained(&mut self, topic: &str) {
        if let Err(error) = tables::add_retained(&self.db, topic) {
            tracing::debug!(%error, topic, "Outbox cannot record a retained topic.");
        }
    }

    /// Records that no broker retains a message on this topic any more.
    pub fn record_removed(&mut self, topic: &str) {
        if let Err(error) = tables::remove_retained(&self.db, topic) {
            tracing::debug!(%error, topic, "Outbox cannot record a removed topic.");
        }
    }

    /// Payloads by topic, as given to [`Outbox::remember`].
    pub fn remembered(&self) -> BTreeMap<String, Vec<u8>> {
        tables::remembered(&self.db).unwrap_or_default()
    }

    /// Stores a payload for the time after a restart. It replaces the one of the same topic; None removes it.
    pub fn remember(&mut self, topic: &str, payload: Option<&Vec<u8>>) {
        if let Err(error) = tables::remember(&self.db, topic, payload.map(Vec::as_slice)) {
            tracing::debug!(%error, "Outbox cannot remember a payload.");
        }
    }

    /// The messages of `camera` after sequence number `since`, oldest first, at most `count`.
    ///
    /// Errors: the file cannot be read.
    pub fn history(&self, camera: &str, since: u64, count: usize) -> rusqlite::Result<History> {
        // A name without a sequence number has no rows, so the table is not searched.
        let Some(&last_seq) = self.last_seqs.get(camera) else {
            return Ok(History { stream: self.stream.clone(), ..History::default() });
        };
        let found = tables::history(&self.db, camera, since.min(last_seq), count)?;
        Ok(History { last_seq, stream: self.stream.clone(), ..found })
    }

    /// The newest events that match a query, and whether there are more. Events that are not on disk yet are
    /// not found.
    ///
    /// Errors: the file cannot be read. If it is corrupt and nothing in it waits for the broker, the next
    /// commit sets it aside.
    pub fn events(&mut self, query: &EventQuery) -> Result<(Vec<Event>, bool), String> {
        events::query(&self.db, query).map_err(|error| {
            let text = error.to_string();
            let is_corrupt = error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseCorrupt);
            if is_corrupt && self.waiting() == 0 {
                self.read_error = Some(error);
            }
            text
        })
    }

    /// Size of the outbox's files.
    pub fn file_bytes(&self) -> u64 {
        let Some(path) = &self.path else { return 0 };
        let len = |path: PathBuf| std::fs::metadata(path).map_or(0, |file| file.len());
        len(path.clone()) + len(file::log_of(path))
    }
}

#[cfg(test)]
mod tests;
