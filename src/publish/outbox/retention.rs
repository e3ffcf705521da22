//! Room in the outbox: what goes where there is too much of it, or where the disk is full. Delivered rows go first, then the
//! oldest that wait, and of those a gap remains.

use super::{Outbox, file, tables, widen};
use jiff::Timestamp;
use std::time::Duration;

/// When room is needed, such a part of the rows goes at once.
const SHARE: i64 = 20;
/// After the reserve was spent, so long no other is laid by.
const RESERVE_PAUSE: Duration = Duration::from_secs(60);

impl Outbox {
    /// Makes room where there is too much: history first, then what waits.
    pub(super) fn sweep(&mut self, at: Timestamp) -> rusqlite::Result<()> {
        let Some(first) = tables::first_row(&self.db)? else { return Ok(()) };
        let mut cut = (self.next_row - self.settings.max_messages as i64).max(first) - 1;
        let pages: i64 = self.db.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        let free: i64 = self.db.query_row("PRAGMA freelist_count", [], |row| row.get(0))?;
        let bytes = (pages - free) as u64 * file::PAGE_BYTES;
        if bytes > self.settings.max_bytes {
            cut = cut.max(first + (self.next_row - first) / SHARE);
        }
        let oldest = at.as_millisecond() - self.settings.max_age.as_millis() as i64;
        // Up to the first that is young: a clock that was set must not make old ones of those behind it.
        let first_young = tables::first_since(&self.db, oldest)?;
        cut = cut.max(first_young.unwrap_or(self.next_row) - 1);
        if cut >= first { self.cut(cut) } else { Ok(()) }
    }

    /// Removes the rows up to `last`, and notes what nobody has got.
    fn cut(&mut self, last: i64) -> rusqlite::Result<()> {
        // What is held is not on the disk, and stays.
        let newest = tables::newest_row(&self.db)?;
        let Some(last) = newest.map(|newest| newest.min(last)) else { return Ok(()) };
        let undelivered = tables::as_gaps(&self.db, self.cursor, last)?;
        let mut gaps = self.gaps.clone();
        for gap in &undelivered {
            widen(&mut gaps, gap.clone());
        }
        self.synchronous(false)?;
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
                "Outbox is full: the oldest messages that wait for a broker go, and gaps are told."
            );
        }
        self.lost += lost;
        // Whoever waits for these waits in vain.
        self.cursor = self.cursor.max(last);
        Ok(())
    }

    /// The disk is full: the log is worked into the file, so that it can be written anew, the file grows no more, and the
    /// oldest go, whose pages can be written again. All of that needs a little room itself, for which there is the reserve.
    pub(super) fn make_room(&mut self, now: Duration) {
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
        let Ok(Some(first)) = tables::first_row(&self.db) else { return };
        let share = ((self.next_row - first) / SHARE).max(1);
        if let Err(error) = self.cut(first + share) {
            tracing::debug!(%error, "No room could be made.");
        }
    }

    /// Lets the file grow again once the disk has room for the reserve.
    pub(super) fn keep_reserve(&mut self, now: Duration) {
        let since = self.reserve_spent_at.max(self.reserve_missed_at);
        let is_too_soon = since.is_some_and(|since| now.saturating_sub(since) < RESERVE_PAUSE);
        let Some(path) = self.path.as_deref().filter(|_| !is_too_soon) else { return };
        let is_kept = file::keep_reserve(path);
        self.reserve_missed_at = (!is_kept).then_some(now);
        if is_kept && self.reserve_spent_at.take().is_some() {
            let _ = self.db.query_row(&format!("PRAGMA max_page_count={}", u32::MAX - 1), [], |_| Ok(()));
        }
    }
}
