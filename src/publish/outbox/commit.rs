//! Writing the outbox to disk, and what to do when that fails.
//!
//! [`Durability`]: committed rows are handed to the kernel at once, so a killed process loses none. They are
//! flushed to disk with each batch (`strict`), once a second (`grouped`) or when the kernel decides
//! (`light`). If the disk is full, history is deleted first, then the oldest waiting messages. While the disk
//! cannot be written, new messages are held in memory. A corrupt file is set aside and replaced by a new one.

use super::{Outbox, file, tables};
use crate::config::Durability;
use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode};
use std::time::Duration;

/// Interval between two flushes of grouped rows, and between two writes of the cursor.
const GROUP_INTERVAL: Duration = Duration::from_secs(1);
/// Interval between two writes of the cursor if the kernel decides when to flush.
const LIGHT_INTERVAL: Duration = Duration::from_secs(5);
/// Number of rows written in one transaction.
const BATCH: usize = 100;
/// Delay before the next attempt when the disk cannot be written.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Delay before the next attempt when the disk was full and space was freed.
const FULL_RETRY_DELAY: Duration = Duration::from_millis(50);
/// How long a file may be unreadable before it is set aside.
const MAX_UNREADABLE: Duration = Duration::from_secs(30);
/// Interval between two checks of the limits.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

impl Outbox {
    /// Writes the held rows, flushes what is due, and enforces the limits. To be called on every loop
    /// iteration. `now` is monotonic; `replay_row` is the row after which the next process resumes if this
    /// one ends without [`Outbox::close`].
    pub fn commit(&mut self, now: Duration, at: Timestamp, replay_row: i64) {
        self.replay_row = replay_row;
        if self.retry_at.is_some_and(|retry_at| now < retry_at) {
            return;
        }
        let mut outcome = self.read_error.take().map_or(Ok(()), Err);
        if let Err(error) = &outcome
            && now.saturating_sub(*self.unreadable_since.get_or_insert(now)) >= MAX_UNREADABLE
        {
            let why = format!("it cannot be read: {error}");
            self.start_over(at, &why);
            return;
        }
        let durability = self.settings.durability;
        if outcome.is_ok() && (!self.held.is_empty() || self.gaps_dirty) {
            outcome = self.write_held(durability == Durability::Strict);
        }
        let interval = if durability == Durability::Light { LIGHT_INTERVAL } else { GROUP_INTERVAL };
        if outcome.is_ok() && self.is_dirty_for(interval, now) {
            outcome = self.write_meta(false, durability != Durability::Light);
        }
        if outcome.is_ok() && self.swept_at.is_none_or(|swept| now.saturating_sub(swept) >= SWEEP_INTERVAL) {
            self.swept_at = Some(now);
            outcome = self.sweep(at);
            self.ensure_reserve(now);
        }
        match outcome {
            Ok(()) => {
                self.retry_at = None;
                if self.reserve_released_at.is_none() && std::mem::take(&mut self.warned) {
                    tracing::info!("Outbox can be written again.");
                }
            }
            Err(error) => self.handle_failure(&error, now, at),
        }
    }

    /// Writes everything and marks the shutdown as clean.
    pub fn close(mut self, now: Duration, at: Timestamp) {
        if !self.write_everything(now, at) {
            tracing::warn!(held = self.held.len(), "Outbox could not be written completely.");
        }
        let _ = self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    }

    /// Writes everything, as before a clean shutdown. Returns false if something is left.
    pub(super) fn write_everything(&mut self, now: Duration, at: Timestamp) -> bool {
        self.retry_at = None;
        self.commit(now, at, self.replay_row);
        self.held.is_empty() && self.write_meta(true, true).is_ok()
    }

    /// Takes back the mark of a clean shutdown.
    pub(super) fn mark_in_use(&mut self) {
        if let Err(error) = self.write_meta(false, false) {
            tracing::debug!(%error, "Outbox is still marked as closed.");
        }
    }

    /// Writes the held rows in batches, because on a nearly full disk a small batch may fit where a large one
    /// does not.
    fn write_held(&mut self, sync: bool) -> rusqlite::Result<()> {
        self.set_synchronous(sync)?;
        while !self.held.is_empty() || self.gaps_dirty {
            let count = self.held.len().min(BATCH);
            let transaction = self.db.unchecked_transaction()?;
            tables::append(&transaction, self.held.range(..count))?;
            for gap in self.gaps.values().filter(|_| self.gaps_dirty) {
                tables::write_gap(&transaction, gap)?;
            }
            transaction.commit()?;
            self.held.drain(..count);
            (self.gaps_dirty, self.unflushed) = (false, true);
        }
        Ok(())
    }

    /// Whether rows or the cursor have differed from the disk for at least `interval`.
    fn is_dirty_for(&mut self, interval: Duration, now: Duration) -> bool {
        let is_dirty = self.unflushed || self.cursor != self.cursor_written;
        if !is_dirty {
            self.dirty_since = None;
        } else {
            self.dirty_since.get_or_insert(now);
        }
        self.dirty_since.is_some_and(|since| now.saturating_sub(since) >= interval)
    }

    fn write_meta(&mut self, clean: bool, sync: bool) -> rusqlite::Result<()> {
        self.set_synchronous(sync)?;
        let rows = (self.cursor, self.replay_row);
        tables::write_meta(&self.db, rows, clean, &self.last_seqs, &self.open, self.next_row)?;
        (self.cursor_written, self.unflushed, self.dirty_since) = (self.cursor, false, None);
        Ok(())
    }

    /// Sets whether the next commits are flushed to disk before they return.
    pub(super) fn set_synchronous(&self, sync: bool) -> rusqlite::Result<()> {
        self.db.pragma_update(None, "synchronous", if sync { "FULL" } else { "NORMAL" })
    }

    fn handle_failure(&mut self, error: &rusqlite::Error, now: Duration, at: Timestamp) {
        let code = error.sqlite_error_code();
        // An error without a code means that a field does not have the type that was written.
        if matches!(code, None | Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)) {
            self.start_over(at, &error.to_string());
            return;
        }
        if !self.warned {
            let held = self.held.len();
            tracing::warn!(%error, held, "Outbox cannot be written; messages are held in memory, and the oldest are deleted if necessary.");
            self.warned = true;
        }
        self.retry_at = Some(now + RETRY_DELAY);
        if code == Some(ErrorCode::DiskFull) {
            self.retry_at = Some(now + FULL_RETRY_DELAY);
            self.free_space(now);
        }
    }

    /// Sets the file aside and continues with a new one, which gets the held rows.
    fn start_over(&mut self, at: Timestamp, why: &str) {
        let held = std::mem::take(&mut self.held);
        let settings = self.settings.clone();
        // The lock on the file must be released before the file is opened again.
        if let Ok(memory) = Connection::open_in_memory() {
            self.db = memory;
        }
        let notes = self.path.as_deref().map(|path| file::set_aside(path, at, why));
        let opened = Outbox::open(settings, at);
        for note in notes.into_iter().chain(opened.notes) {
            tracing::warn!("{note}");
        }
        let mut fresh = opened.outbox;
        (fresh.lost, fresh.open) = (self.lost, std::mem::take(&mut self.open));
        // Row ids continue, so that rows in flight are not confused with new ones.
        fresh.next_row = fresh.next_row.max(self.next_row);
        fresh.cursor = held.front().map_or(fresh.next_row, |row| row.id) - 1;
        for mut row in held {
            // The payload keeps its number of the old stream; subscribers see the new stream begin.
            row.message.seq = fresh.next_seq(&row.message.camera);
            fresh.held.push_back(row);
        }
        *self = fresh;
    }
}
