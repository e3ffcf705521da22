//! Which messages are too large to be sent. Pure.

use crate::publish::outbox::DurableMessage;

/// Maximum size of an MQTT packet apart from topic and payload.
const PACKET_OVERHEAD_BYTES: usize = 16;
/// The smallest packet size to which a broker is assumed to be limited.
const MIN_LEARNED_BYTES: usize = 4096;

/// Packet size limits.
pub(super) struct SizeLimits {
    /// Configured limit, `mqtt.max_packet_kib`.
    max_bytes: usize,
    /// Largest size that the broker may accept, as far as refused messages show. At most the configured
    /// limit.
    learned_bytes: usize,
    /// Whether it was logged that messages are dropped.
    has_warned: bool,
}

impl SizeLimits {
    /// Creates the limits from the configured one.
    pub(super) fn new(max_bytes: usize) -> SizeLimits {
        SizeLimits { max_bytes, learned_bytes: max_bytes, has_warned: false }
    }

    /// Whether a message is within the configured limit.
    pub(super) fn is_within_packet_limit(&self, topic: &str, payload: &[u8]) -> bool {
        packet_bytes(topic, payload.len()) <= self.max_bytes
    }

    /// Whether a message that is not durable is within the configured and the learned limit. Durable messages
    /// are not subject to the learned limit, because it is a guess.
    pub(super) fn allows(&self, topic: &str, payload: &[u8]) -> bool {
        packet_bytes(topic, payload.len()) <= self.learned_bytes
    }

    /// Why no broker can accept a message. None if it can be sent.
    pub(super) fn why_unsendable(&self, message: &DurableMessage) -> Option<&'static str> {
        if !self.is_within_packet_limit(&message.topic, &message.payload) {
            Some("it is larger than mqtt.max_packet_kib")
        } else if message.topic.is_empty() || message.topic.contains(['+', '#']) {
            // The file may be corrupt.
            Some("its topic is damaged")
        } else {
            None
        }
    }

    /// Lowers the learned limit below the size of a message that no broker accepts, because its size is the
    /// probable cause. Small messages are ignored.
    pub(super) fn learn(&mut self, topic: &str, payload_bytes: usize) {
        if payload_bytes >= MIN_LEARNED_BYTES {
            self.learned_bytes = self.learned_bytes.min(packet_bytes(topic, payload_bytes) - 1);
        }
    }

    /// Logs that a message is dropped because of its size. Only the first one is logged.
    pub(super) fn log_dropped(&mut self, topic: &str, payload_bytes: usize) {
        if !std::mem::replace(&mut self.has_warned, true) {
            tracing::warn!(
                topic,
                bytes = payload_bytes,
                limit = self.learned_bytes,
                "Messages larger than the broker accepts, or than mqtt.max_packet_kib, are dropped."
            );
        }
    }

    #[cfg(test)]
    pub(super) fn set_learned_bytes(&mut self, bytes: usize) {
        self.learned_bytes = bytes;
    }

    #[cfg(test)]
    pub(super) fn learned_bytes(&self) -> usize {
        self.learned_bytes
    }
}

fn packet_bytes(topic: &str, payload_bytes: usize) -> usize {
    topic.len() + payload_bytes + PACKET_OVERHEAD_BYTES
}
