//! What is on its way over one connection: handed over, sent under an id, not acknowledged yet. Pure.

use crate::publish::outbox::Gap;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

/// What is to be acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InFlight {
    /// A row of the outbox.
    Row(i64),
    /// Told in place of rows that are gone.
    Gap(Gap),
    /// The last word on this topic.
    State(String),
    /// What Home Assistant is told on this topic.
    Discovery(String),
    /// An answer.
    Answer,
    /// That we are there, or go.
    Greeting,
}

impl InFlight {
    /// No connection ends on it: every broker takes it, or nobody misses it.
    pub fn is_harmless(&self) -> bool {
        matches!(self, InFlight::Discovery(_) | InFlight::Answer | InFlight::Greeting)
    }
}

/// See the module. Tickets are sent in the order of handing over.
pub struct Window {
    handed: VecDeque<InFlight>,
    /// Sent, and when, by id.
    open: BTreeMap<u16, (InFlight, Duration)>,
    /// Rows that are in either.
    rows: BTreeSet<i64>,
    last_row: i64,
}

impl Window {
    /// Nothing yet; rows begin behind this one.
    pub fn new(last_row: i64) -> Window {
        Window { handed: VecDeque::new(), open: BTreeMap::new(), rows: BTreeSet::new(), last_row }
    }

    /// How many are on their way.
    pub fn len(&self) -> usize {
        self.handed.len() + self.open.len()
    }

    /// The last row that was handed over or left out.
    pub fn last_row(&self) -> i64 {
        self.last_row
    }

    /// Session to this row nothing is on its way any more.
    pub fn reached(&self) -> i64 {
        self.rows.first().map_or(self.last_row, |first| first - 1)
    }

    /// All that are on their way.
    pub fn tickets(&self) -> impl Iterator<Item = &InFlight> + Clone {
        self.open.values().map(|(ticket, _)| ticket).chain(&self.handed)
    }

    /// A ticket was given to the connection.
    pub fn hand_over(&mut self, ticket: InFlight) {
        if let InFlight::Row(row) = ticket {
            self.rows.insert(row);
            self.last_row = row;
        }
        self.handed.push_back(ticket);
    }

    /// This row is not to be sent.
    pub fn leave_out(&mut self, row: i64) {
        self.last_row = row;
    }

    /// The next one handed over went out under `id`.
    pub fn sent(&mut self, id: u16, now: Duration) {
        if let Some(ticket) = self.handed.pop_front() {
            self.open.insert(id, (ticket, now));
        }
    }

    /// The one of this id has arrived.
    pub fn acknowledged(&mut self, id: u16) -> Option<InFlight> {
        let (ticket, _) = self.open.remove(&id)?;
        if let InFlight::Row(row) = ticket {
            self.rows.remove(&row);
        }
        Some(ticket)
    }

    /// Whether any has been waiting for `patience` since it was sent.
    pub fn is_overdue(&self, now: Duration, patience: Duration) -> bool {
        self.open.values().any(|(_, since)| now.saturating_sub(*since) >= patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reached_is_what_is_whole_whatever_comes_first() {
        let mut window = Window::new(10);
        assert_eq!((window.reached(), window.len()), (10, 0));
        for ticket in [InFlight::Greeting, InFlight::Row(11), InFlight::Row(12)] {
            window.hand_over(ticket);
        }
        window.leave_out(13);
        (1..=3).for_each(|id| window.sent(id, Duration::from_secs(id.into())));
        assert_eq!(window.acknowledged(3), Some(InFlight::Row(12)));
        assert_eq!((window.reached(), window.last_row()), (10, 13));
        assert_eq!(window.acknowledged(2), Some(InFlight::Row(11)));
        assert_eq!(window.reached(), 13);
        assert_eq!(window.acknowledged(2), None, "once");
        let patience = Duration::from_secs(5);
        assert!(!window.is_overdue(Duration::from_secs(5), patience));
        assert!(window.is_overdue(Duration::from_secs(6), patience), "the greeting");
        assert_eq!(window.acknowledged(1), Some(InFlight::Greeting));
        assert!(!window.is_overdue(Duration::from_secs(60), patience));
    }
}
