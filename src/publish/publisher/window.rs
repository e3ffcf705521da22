//! The window of one connection: messages that are queued or sent, and not acknowledged yet. Pure.

use crate::publish::outbox::Gap;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

/// A message that waits for its acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum InFlight {
    /// A row of the outbox.
    Row(i64),
    /// The report of a gap.
    Gap(Gap),
    /// The retained state of this topic.
    State(String),
    /// The announcement to Home Assistant on this topic.
    Discovery(String),
    /// The live message with this number.
    Live(u64),
    /// An answer to a command.
    Answer,
    /// `online` or `offline`.
    NodeStatus,
}

impl InFlight {
    /// Whether the message is never suspected of ending a connection, because every broker accepts it,
    /// because it is not sent again, or because its own queue finds out.
    pub(super) fn is_harmless(&self) -> bool {
        use InFlight::{Answer, Discovery, Live, NodeStatus};
        matches!(self, Discovery(_) | Live(_) | Answer | NodeStatus)
    }
}

/// The messages in flight. They are sent in the order in which they are queued. Times are monotonic.
pub(super) struct Window {
    /// Queued in the connection, not sent yet.
    queued: VecDeque<InFlight>,
    /// Sent, with the time, by packet id.
    sent: BTreeMap<u16, (InFlight, Duration)>,
    /// Rows in either of them.
    rows: BTreeSet<i64>,
    last_row: i64,
}

impl Window {
    /// Creates an empty window. The rows after `last_row` follow.
    pub(super) fn new(last_row: i64) -> Window {
        Window { queued: VecDeque::new(), sent: BTreeMap::new(), rows: BTreeSet::new(), last_row }
    }

    /// Number of messages in flight.
    pub(super) fn len(&self) -> usize {
        self.queued.len() + self.sent.len()
    }

    /// The last row that was queued or skipped.
    pub(super) fn last_row(&self) -> i64 {
        self.last_row
    }

    /// The row up to which no row is in flight.
    pub(super) fn completed_row(&self) -> i64 {
        self.rows.first().map_or(self.last_row, |first| first - 1)
    }

    /// The messages in flight.
    pub(super) fn messages(&self) -> impl Iterator<Item = &InFlight> + Clone {
        self.sent.values().map(|(message, _)| message).chain(&self.queued)
    }

    /// Records that the connection has queued a message.
    pub(super) fn queued(&mut self, message: InFlight) {
        if let InFlight::Row(row) = message {
            self.rows.insert(row);
            self.last_row = row;
        }
        self.queued.push_back(message);
    }

    /// Records that a row is not sent.
    pub(super) fn skip(&mut self, row: i64) {
        self.last_row = row;
    }

    /// Records that the first queued message was sent with packet id `id`.
    pub(super) fn sent(&mut self, id: u16, now: Duration) {
        if let Some(message) = self.queued.pop_front() {
            self.sent.insert(id, (message, now));
        }
    }

    /// Removes and returns the message with packet id `id`. None if there is none.
    pub(super) fn acknowledged(&mut self, id: u16) -> Option<InFlight> {
        let (message, _) = self.sent.remove(&id)?;
        if let InFlight::Row(row) = message {
            self.rows.remove(&row);
        }
        Some(message)
    }

    /// Whether a message was sent at least `timeout` ago.
    pub(super) fn is_overdue(&self, now: Duration, timeout: Duration) -> bool {
        self.sent.values().any(|(_, at)| now.saturating_sub(*at) >= timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_completed_row_does_not_depend_on_the_order_of_acknowledgements() {
        let mut window = Window::new(10);
        assert_eq!((window.completed_row(), window.len()), (10, 0));
        for message in [InFlight::NodeStatus, InFlight::Row(11), InFlight::Row(12)] {
            window.queued(message);
        }
        window.skip(13);
        (1..=3).for_each(|id| window.sent(id, Duration::from_secs(id.into())));
        assert_eq!(window.acknowledged(3), Some(InFlight::Row(12)));
        assert_eq!((window.completed_row(), window.last_row()), (10, 13));
        assert_eq!(window.acknowledged(2), Some(InFlight::Row(11)));
        assert_eq!(window.completed_row(), 13);
        assert_eq!(window.acknowledged(2), None, "only once");
        let timeout = Duration::from_secs(5);
        assert!(!window.is_overdue(Duration::from_secs(5), timeout));
        assert!(window.is_overdue(Duration::from_secs(6), timeout), "the node status");
        assert_eq!(window.acknowledged(1), Some(InFlight::NodeStatus));
        assert!(!window.is_overdue(Duration::from_secs(60), timeout));
    }
}
