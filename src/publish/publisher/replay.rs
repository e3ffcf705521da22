//! Where the cursor was when, for the last seconds: after a bad end what was acknowledged in them is sent again. Pure.

use std::{collections::VecDeque, time::Duration};

/// Between two that are remembered.
const STEP: Duration = Duration::from_millis(250);

/// See the module. Times are monotonic.
pub struct Positions {
    replay: Duration,
    /// When, and where; oldest first.
    noted: VecDeque<(Duration, i64)>,
}

impl Positions {
    /// Remembers at least the last `replay`.
    pub fn new(replay: Duration) -> Positions {
        Positions { replay, noted: VecDeque::new() }
    }

    /// The cursor is here now. To be called at every turn.
    pub fn note(&mut self, now: Duration, cursor: i64) {
        if self.noted.back().is_none_or(|&(at, _)| now.saturating_sub(at) >= STEP) {
            self.noted.push_back((now, cursor));
        }
        let oldest = now.saturating_sub(self.replay + 2 * STEP);
        while self.noted.get(1).is_some_and(|&(at, _)| at <= oldest) {
            self.noted.pop_front();
        }
    }

    /// Where it was `replay` before `now`, or as long ago as is known; never ahead of where it is.
    pub fn replay_from(&self, now: Duration, cursor: i64) -> i64 {
        let then = now.saturating_sub(self.replay);
        let before = self.noted.iter().rev().find(|&&(at, _)| at <= then).or(self.noted.front());
        before.map_or(cursor, |&(_, row)| row).min(cursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_is_found_where_it_was() {
        let mut positions = Positions::new(Duration::from_secs(5));
        assert_eq!(positions.replay_from(Duration::from_secs(1), 7), 7, "nothing is known");
        for tenth in 0..200 {
            positions.note(Duration::from_millis(tenth * 100), tenth as i64);
        }
        let now = Duration::from_secs(20);
        let row = positions.replay_from(now, 199);
        assert!((147..=150).contains(&row), "{row} of 150, as far as steps of 250 ms tell");
        assert!(positions.noted.len() < 30, "what is older is forgotten: {}", positions.noted.len());
        // Rows were given up meanwhile, or a fresh file begun.
        assert_eq!(positions.replay_from(now, 3), 3);
        // A machine that slept knows only what was before.
        assert_eq!(positions.replay_from(now + Duration::from_secs(3600), 199), 198);
    }
}
