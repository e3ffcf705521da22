//! The outbox's data types: durable messages, the rows that hold them, gaps and history.

use std::collections::BTreeMap;

/// A message that is stored until a broker has acknowledged it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DurableMessage {
    /// The camera that [`DurableMessage::seq`] counts for. Empty for the node's own messages.
    pub camera: String,
    /// Sequence number, from [`Outbox::next_seq`](super::Outbox::next_seq). Counts the camera's durable
    /// messages from 1.
    pub seq: u64,
    /// When the message was accepted.
    pub at_ms: i64,
    /// MQTT topic.
    pub topic: String,
    /// MQTT payload.
    pub payload: Vec<u8>,
}

/// A durable message in the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Position in the sending order.
    pub id: i64,
    /// The message.
    pub message: DurableMessage,
}

/// Messages of one camera that were deleted before they were delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Camera name. Empty for the node's own messages.
    pub camera: String,
    /// Sequence number of the first deleted message.
    pub first_seq: u64,
    /// Sequence number of the last deleted message.
    pub last_seq: u64,
    /// Number of deleted messages. Delivered messages between the first and the last are not counted.
    pub count: u64,
    /// When the first one was accepted.
    pub from_ms: i64,
    /// When the last one was accepted.
    pub to_ms: i64,
}

impl Gap {
    /// The gap that one undelivered message leaves.
    pub(super) fn of(message: &DurableMessage) -> Gap {
        Gap {
            camera: message.camera.clone(),
            first_seq: message.seq,
            last_seq: message.seq,
            count: 1,
            from_ms: message.at_ms,
            to_ms: message.at_ms,
        }
    }
}

/// Adds a gap to the others, merged with an earlier one of the same camera.
pub(super) fn merge_gap(gaps: &mut BTreeMap<String, Gap>, more: Gap) {
    gaps.entry(more.camera.clone())
        .and_modify(|gap| {
            gap.first_seq = gap.first_seq.min(more.first_seq);
            gap.last_seq = gap.last_seq.max(more.last_seq);
            gap.count += more.count;
            gap.from_ms = gap.from_ms.min(more.from_ms);
            gap.to_ms = gap.to_ms.max(more.to_ms);
        })
        .or_insert(more);
}

/// Part of a camera's history: the result of [`Outbox::history`](super::Outbox::history).
#[derive(Debug, Default)]
pub struct History {
    /// The messages, oldest first.
    pub rows: Vec<Row>,
    /// Whether there are more messages after these.
    pub more: bool,
    /// The oldest sequence number that is still stored.
    pub first_seq: Option<u64>,
    /// The last sequence number assigned.
    pub last_seq: u64,
    /// The stream that the sequence numbers belong to.
    pub stream: String,
}
