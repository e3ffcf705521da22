//! Messages that are sent once, on the current connection only: answers to commands and announcements to Home
//! Assistant. Pure.

use super::window::InFlight;
use std::collections::VecDeque;

/// Maximum number of pending answers. Beyond it commands are not executed.
pub(super) const MAX_ANSWERS: usize = 100;
/// The same as the sum of their payloads' sizes, because answers may be large.
const MAX_ANSWERS_BYTES: usize = 8 << 20;

/// A pending message.
pub(super) struct PendingPublish {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    /// An announcement, which is retained. Otherwise an answer.
    pub(super) is_discovery: bool,
}

impl PendingPublish {
    pub(super) fn in_flight(&self) -> InFlight {
        if self.is_discovery { InFlight::Discovery(self.topic.clone()) } else { InFlight::Answer }
    }
}

/// The pending messages, in order.
#[derive(Default)]
pub(super) struct PendingQueue {
    queue: VecDeque<PendingPublish>,
    /// Whether it was logged that commands are not executed. Reset with each connection.
    has_warned: bool,
}

impl PendingQueue {
    /// Discards everything: a new connection begins.
    pub(super) fn clear(&mut self) {
        *self = PendingQueue::default();
    }

    /// Whether there are too many answers for another command. Logs the first command on `topic` that is not
    /// executed.
    pub(super) fn rejects_command(&mut self, topic: &str) -> bool {
        let answers = self.queue.iter().filter(|pending| !pending.is_discovery);
        let (count, bytes) =
            answers.fold((0, 0), |(count, bytes), answer| (count + 1, bytes + answer.payload.len()));
        let is_full = count >= MAX_ANSWERS || bytes >= MAX_ANSWERS_BYTES;
        if is_full && !std::mem::replace(&mut self.has_warned, true) {
            tracing::warn!(topic, "Commands arrive faster than answers can be sent; some are not executed.");
        }
        is_full
    }

    /// Queues an answer.
    pub(super) fn push_answer(&mut self, topic: String, payload: Vec<u8>) {
        self.queue.push_back(PendingPublish { topic, payload, is_discovery: false });
    }

    /// Queues announcements in place of earlier ones.
    pub(super) fn replace_discovery(&mut self, messages: Vec<(String, Vec<u8>)>) {
        self.queue.retain(|pending| !pending.is_discovery);
        let messages = messages.into_iter();
        self.queue.extend(messages.map(|(topic, payload)| PendingPublish {
            topic,
            payload,
            is_discovery: true,
        }));
    }

    /// The message to send next.
    pub(super) fn first(&self) -> Option<&PendingPublish> {
        self.queue.front()
    }

    /// Removes the first message.
    pub(super) fn remove_first(&mut self) {
        self.queue.pop_front();
    }
}
