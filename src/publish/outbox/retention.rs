//! Space in the outbox: which rows are deleted when a limit is exceeded or the disk is full. Delivered rows
//! are deleted first, then the oldest waiting ones, which leave a gap.

use super::{Outbox, file, message::merge_gap, tables};
use jiff::Timestamp;
use std::time::Duration;

/// When space is needed, the oldest 1/`SHARE` of the rows are deleted at once.
const SHARE: i64 = 20;
/// Delay before the next attempt to create the reserve, after it was released or could not be created.
const RESERVE_DELAY: Duration = Duration::from_secs(60);

impl Outbox {
    /// Deletes the rows that exceed a limit, oldest first.
    pub(super) fn sweep(&mut self, at: Timestamp) -> rusqlite::Result<()> {
        let Some(first) = tables::first_row(&self.db)? else { return Ok(()) };
        let mut last = (self.next_row - self.settings.max_messages as i64).max(first) - 1;
        let pages: i64 = self.db.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        let free: i64 = self.db.query_row("PRAGMA freelist_count", [], |row| row.get(0))?;
        let bytes = (pages - free) as u64 * file::PAGE_BYTES;
        if bytes > self.settings.max_bytes {
            last = last.max(first + (self.next_row - first) / SHARE);
        }
        let oldest_ms = at.as_millisecond() - self.settings.max_age.as_millis() as i64;
        // Up to the first row that is young enough. Later rows stay whatever their time, because the clock
        // may have been set.
        let first_young = tables::first_since(&self.db, oldest_ms)?;
        last = last.max(first_young.unwrap_or(self.next_row) - 1);
        if last >= first { self.delete_up_to(last) } else { Ok(()) }
    }

    /// Deletes the rows up to `last`, and records the undelivered ones as gaps.
    fn delete_up_to(&mut self, last: i64) -> rusqlite::Result<()> {
        // Held rows are not on disk and stay.
        let newest = tables::newest_row(&self.db)?;
        let Some(last) = newest.map(|newest| newest.min(last)) else { return Ok(()) };
        let undelivered = tables::as_gaps(&self.db, self.cursor, last)?;
        let mut gaps = self.gaps.clone();
        for gap in &undelivered {
            merge_gap(&mut gaps, gap.clone());
        }
        self.set_synchronous(false)?;
        let transaction = self.db.unchecked_transaction()?;
        tables::remove_up_to(&transaction, last)?;
        for gap in undelivered.iter().filter_map(|gap| gaps.get(&gap.camera)) {
            tables::write_gap(&transaction, gap)?;
        }
        transaction.commit()?;
        self.gaps = gaps;
        let lost: u64 = undelivered.iter().map(|gap| gap.count).sum();
        if lost > 0 && self.lost == 0 {
            tracing::warn!(
                "Outbox is full: the oldest undelivered messages are deleted and reported as gaps."
            );
        }
        self.lost += lost;
        // Deleted rows will never be acknowledged.
        self.cursor = self.cursor.max(last);
        Ok(())
    }

    /// Frees space on a full disk: copies the write-ahead log into the file so that the log starts again,
    /// keeps the file from growing, and deletes the oldest rows, whose pages are then reused. That needs a
    /// little space itself, for which the reserve is released.
    pub(super) fn free_space(&mut self, now: Duration) {
        if let Some(path) = self.path.as_deref()
            && self.reserve_released_at.is_none()
        {
            file::release_reserve(path);
        }
        self.reserve_released_at = Some(now);
        let _ = self.db.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()));
        if let Ok(pages) = self.db.query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0)) {
            let _ = self.db.query_row(&format!("PRAGMA max_page_count={pages}"), [], |_| Ok(()));
        }
        let Ok(Some(first)) = tables::first_row(&self.db) else { return };
        let share = ((self.next_row - first) / SHARE).max(1);
        if let Err(error) = self.delete_up_to(first + share) {
            tracing::debug!(%error, "Outbox cannot free space.");
        }
    }

    /// Creates the reserve if it is missing. Once the disk has space for it, the file may grow again.
    pub(super) fn ensure_reserve(&mut self, now: Duration) {
        let since = self.reserve_released_at.max(self.reserve_failed_at);
        let is_too_soon = since.is_some_and(|since| now.saturating_sub(since) < RESERVE_DELAY);
        let Some(path) = self.path.as_deref().filter(|_| !is_too_soon) else { return };
        let exists = file::ensure_reserve(path);
        self.reserve_failed_at = (!exists).then_some(now);
        if exists && self.reserve_released_at.take().is_some() {
            let _ = self.db.query_row(&format!("PRAGMA max_page_count={}", u32::MAX - 1), [], |_| Ok(()));
        }
    }
}
