//! Where the cursor was when, for the last seconds that the broker was there: what was acknowledged in them is sent again
//! after a bad end. Pure.

use std::{collections::VecDeque, time::Duration};

/// Between two that are remembered.
const STEP: Duration = Duration::from_millis(250);

/// See the module. Times are monotonic.
pub struct Positions {
    replay: Duration,
    /// When the broker last gave a sign of life: it may have been dead from then on, for it is missed only later.
    heard_at: Duration,
    /// When the cursor moved, and where to; oldest first.
    moves: VecDeque<(Duration, i64)>,
}

impl Positions {
    /// Remembers at least the last `replay`; the cursor is here.
    pub fn new(replay: Duration, now: Duration, cursor: i64) -> Positions {
        Positions { replay, heard_at: now, moves: VecDeque::from([(now, cursor)]) }
    }

    /// The broker has given a sign of life.
    pub fn heard(&mut self, now: Duration) {
        self.heard_at = now;
    }

    /// The cursor is here now. To be called at every turn.
    pub fn note(&mut self, now: Duration, cursor: i64) {
        if self.moves.back().is_none_or(|&(at, last)| last != cursor && now.saturating_sub(at) >= STEP) {
            self.moves.push_back((now, cursor));
        }
        let oldest = self.heard_at.saturating_sub(self.replay + 2 * STEP);
        while self.moves.get(1).is_some_and(|&(at, _)| at <= oldest) {
            self.moves.pop_front();
        }
    }

    /// Where it was `replay` before the last sign of life, or as long ago as is known; never ahead of where it is.
    pub fn replay_from(&self, cursor: i64) -> i64 {
        let then = self.heard_at.saturating_sub(self.replay);
        let before = self.moves.iter().rev().find(|&&(at, _)| at <= then).or(self.moves.front());
        before.map_or(cursor, |&(_, row)| row).min(cursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_is_found_where_it_was() {
        let mut positions = Positions::new(Duration::from_secs(5), Duration::ZERO, 0);
        assert_eq!(positions.replay_from(7), 0);
        for tenth in 0..200 {
            let now = Duration::from_millis(tenth * 100);
            positions.heard(now);
            positions.note(now, tenth as i64);
        }
        positions.note(Duration::from_millis(20_150), 199);
        let row = positions.replay_from(199);
        assert!((146..=149).contains(&row), "{row} of 149, as far as steps of 250 ms tell");
        assert!(positions.moves.len() < 30, "what is older is forgotten: {}", positions.moves.len());
        // Rows were given up meanwhile, or a fresh file begun.
        assert_eq!(positions.replay_from(3), 3);
        // A broker that is missed only a minute later may have been dead all the while.
        positions.note(Duration::from_secs(80), 199);
        assert_eq!(positions.replay_from(199), row);
        // One that still spoke then has kept what it had.
        positions.heard(Duration::from_secs(80));
        positions.note(Duration::from_secs(81), 199);
        assert_eq!(positions.replay_from(199), 199);
    }
}
