//! Which rows to send again after a lost connection: a broker that was killed may have forgotten what it
//! acknowledged in the last seconds. Pure. Times are monotonic.

use std::{collections::VecDeque, time::Duration};

/// Minimum time between two recorded positions of the cursor.
const RESOLUTION: Duration = Duration::from_millis(250);

/// Where the next connection resumes.
pub(super) struct Replay {
    history: CursorHistory,
    /// The row after which the next connection resumes.
    resume_row: i64,
    /// Whether the last connection was lost in such a way that the next one must wait for subscribers to
    /// reconnect.
    is_replay: bool,
    /// The highest row that was ever acknowledged.
    highest_acknowledged: i64,
}

impl Replay {
    /// Creates the state before the first connection, which resumes after `resume_row`. `duration` is how far
    /// back acknowledged rows are sent again.
    pub(super) fn new(duration: Duration, now: Duration, cursor: i64, resume_row: i64) -> Replay {
        Replay {
            history: CursorHistory::new(duration, now, cursor),
            resume_row,
            is_replay: false,
            highest_acknowledged: 0,
        }
    }

    /// Records that the broker has sent something.
    pub(super) fn broker_seen(&mut self, now: Duration) {
        self.history.broker_seen(now);
    }

    /// Records the cursor. Must be called on every iteration of the loop.
    pub(super) fn record_cursor(&mut self, now: Duration, cursor: i64) {
        self.history.record(now, cursor);
    }

    /// Records an acknowledged row. Returns false if it, or a later one, was acknowledged before.
    pub(super) fn row_acknowledged(&mut self, row: i64) -> bool {
        let is_new = row > self.highest_acknowledged;
        self.highest_acknowledged = self.highest_acknowledged.max(row);
        is_new
    }

    /// The row after which a replay begins.
    pub(super) fn replay_row(&self, cursor: i64) -> i64 {
        self.history.replay_row(cursor)
    }

    /// The row after which the next connection resumes.
    pub(super) fn resume_row(&self) -> i64 {
        self.resume_row
    }

    /// Returns the row after which the new connection resumes, and whether it must wait for subscribers
    /// first.
    pub(super) fn session_started(&mut self, cursor: i64) -> (i64, bool) {
        (self.resume_row.min(cursor), std::mem::take(&mut self.is_replay))
    }

    /// Records that the connection was closed on purpose: the next one resumes after `cursor`. `duration` is
    /// how far back acknowledged rows are sent again after a loss.
    pub(super) fn connection_closed(&mut self, duration: Duration, cursor: i64) {
        self.history.duration = duration;
        (self.resume_row, self.is_replay) = (cursor, false);
    }

    /// Records the loss of a connection. `is_replay`: whether the next one must wait for subscribers.
    /// `is_acknowledged_replayed`: whether acknowledged rows are sent again. Rows that the lost connection
    /// had not sent again up to `completed_row` are sent again in any case.
    pub(super) fn session_ended(
        &mut self,
        is_replay: bool,
        is_acknowledged_replayed: bool,
        cursor: i64,
        completed_row: i64,
    ) {
        self.is_replay = is_replay;
        let row = if is_acknowledged_replayed { self.replay_row(cursor) } else { cursor };
        self.resume_row = row.min(completed_row);
    }
}

/// The outbox's cursor over the last seconds in which the broker was alive.
struct CursorHistory {
    /// How far back [`CursorHistory::replay_row`] goes.
    duration: Duration,
    /// When the broker last sent something. It may have been dead since then, because that is detected only
    /// later.
    seen_at: Duration,
    /// When the cursor moved, and where to; oldest first.
    moves: VecDeque<(Duration, i64)>,
}

impl CursorHistory {
    fn new(duration: Duration, now: Duration, cursor: i64) -> CursorHistory {
        CursorHistory { duration, seen_at: now, moves: VecDeque::from([(now, cursor)]) }
    }

    fn broker_seen(&mut self, now: Duration) {
        self.seen_at = now;
    }

    fn record(&mut self, now: Duration, cursor: i64) {
        let is_due = |&(at, last): &(Duration, i64)| last != cursor && now.saturating_sub(at) >= RESOLUTION;
        if self.moves.back().is_none_or(is_due) {
            self.moves.push_back((now, cursor));
        }
        let oldest = self.seen_at.saturating_sub(self.duration + 2 * RESOLUTION);
        while self.moves.get(1).is_some_and(|&(at, _)| at <= oldest) {
            self.moves.pop_front();
        }
    }

    /// The cursor as of `duration` before the broker last sent something, or the oldest known one if that is
    /// later. At most the current `cursor`.
    fn replay_row(&self, cursor: i64) -> i64 {
        let then = self.seen_at.saturating_sub(self.duration);
        let before = self.moves.iter().rev().find(|&&(at, _)| at <= then).or(self.moves.front());
        before.map_or(cursor, |&(_, row)| row).min(cursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_begins_at_the_cursor_of_some_seconds_ago() {
        let mut history = CursorHistory::new(Duration::from_secs(5), Duration::ZERO, 0);
        assert_eq!(history.replay_row(7), 0);
        for tenth in 0..200 {
            let now = Duration::from_millis(tenth * 100);
            history.broker_seen(now);
            history.record(now, tenth as i64);
        }
        history.record(Duration::from_millis(20_150), 199);
        let row = history.replay_row(199);
        assert!((146..=149).contains(&row), "{row} of 149, with a resolution of 250 ms");
        assert!(history.moves.len() < 30, "older moves are deleted: {}", history.moves.len());
        // Rows were given up meanwhile, or a new file begun.
        assert_eq!(history.replay_row(3), 3);
        // The broker sent nothing for a minute, so it may have been dead since then.
        history.record(Duration::from_secs(80), 199);
        assert_eq!(history.replay_row(199), row);
        // The broker was alive then, so it has not forgotten anything.
        history.broker_seen(Duration::from_secs(80));
        history.record(Duration::from_secs(81), 199);
        assert_eq!(history.replay_row(199), 199);
    }
}
