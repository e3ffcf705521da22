//! Messages that the publisher makes itself, from others or from the outbox.

use super::messages::{Event, rfc3339_ms};
use jiff::Timestamp;
use serde::Serialize;

/// An event for those who act on it at once. Sent at most once, and never late.
#[derive(Debug, Serialize)]
pub struct LiveEvent<'a> {
    /// The event, with the same sequence as on its durable topic.
    #[serde(flatten)]
    pub event: &'a Event,
    /// The labels in the event's `label_path` that no earlier event of the object had, so that an automation
    /// can act on each of them once. Empty at the end.
    pub new_labels: Vec<String>,
    /// Seconds from the capture of the frame that caused the event until it was sent, rounded to 0.1.
    #[serde(serialize_with = "crate::counters::tenths")]
    pub age_s: f64,
    /// Whether the event happened before the connection to the broker was established.
    pub replayed: bool,
}

/// Durable messages of one camera that were deleted before they were delivered. Published in their place.
#[derive(Debug, Clone, Serialize)]
pub struct Gap<'a> {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Node name.
    pub node: &'a str,
    /// Camera name. Empty for the node's own messages.
    pub camera: &'a str,
    /// The stream that the sequence numbers belong to.
    pub stream: &'a str,
    /// Sequence number of the first deleted message.
    pub first_seq: u64,
    /// Sequence number of the last deleted message. Some between the first and the last may have been
    /// delivered.
    pub last_seq: u64,
    /// Number of deleted messages.
    pub count: u64,
    /// When the first deleted message was accepted.
    #[serde(serialize_with = "rfc3339_ms::serialize")]
    pub from: Timestamp,
    /// When the last deleted message was accepted.
    #[serde(serialize_with = "rfc3339_ms::serialize")]
    pub to: Timestamp,
}
