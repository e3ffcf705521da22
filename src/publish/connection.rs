//! The publisher's interface to a broker, independent of the protocol.
//!
//! A lost connection is never repaired; a new one is opened instead, because a client that reconnects by
//! itself silently drops the messages it has queued. Events of a connection arrive as [`LinkEvent`]s with the
//! number of the connection, so that those of an abandoned connection are not taken for those of its
//! successor.

/// Opens connections.
pub trait Dialer: Send {
    /// Number of configured brokers, at least one.
    fn brokers(&self) -> usize;

    /// `host:port` of a broker, for messages.
    fn name(&self, broker: usize) -> String;

    /// Starts connecting to a broker. The outcome is reported as a [`LinkEvent`] with this `number`.
    ///
    /// Errors: text for the user if the attempt cannot be started, for example because a certificate cannot
    /// be read.
    fn dial(&mut self, broker: usize, number: u64) -> Result<Box<dyn Connection>, String>;
}

/// A connection that is established or being established. Dropping it aborts it without an MQTT DISCONNECT.
pub trait Connection: Send {
    /// Queues a message for sending. Returns false if the send queue is full.
    ///
    /// With `acknowledged` the message is reported as [`LinkEvent::Sent`], in the order of the calls, and
    /// then as [`LinkEvent::Acknowledged`].
    fn publish(&mut self, topic: &str, acknowledged: bool, retained: bool, payload: &[u8]) -> bool;

    /// Queues a subscription, answered by [`LinkEvent::Subscribed`]. Returns false if the send queue is full.
    fn subscribe(&mut self, filters: &[String]) -> bool;

    /// Queues a graceful disconnect, answered by [`LinkEvent::Disconnected`]. Returns false if the send queue
    /// is full.
    fn disconnect(&mut self) -> bool;
}

/// An event of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// The broker accepted the connection.
    Connected,
    /// The broker answered the subscription. The value is whether it granted all filters.
    Subscribed(bool),
    /// A message for the subscription.
    Received {
        /// MQTT topic.
        topic: String,
        /// Whether the broker had retained the message, so that it is old.
        retained: bool,
        /// The first [`MAX_RECEIVED_BYTES`] bytes of the payload.
        payload: Vec<u8>,
    },
    /// The next of the messages to be acknowledged was sent, with this packet id.
    Sent(u16),
    /// The broker acknowledged the message with this packet id.
    Acknowledged(u16),
    /// The broker answered a ping.
    Alive,
    /// The graceful disconnect was sent.
    Disconnected,
    /// The connection could not be established, or was lost.
    Failed {
        /// Error text for the user.
        why: String,
        /// Whether the broker refused the connection. It will do so again until a person changes something.
        refused: bool,
    },
}

impl LinkEvent {
    /// Whether the event proves that the broker is alive: the broker has sent something.
    pub fn is_from_broker(&self) -> bool {
        match self {
            LinkEvent::Connected
            | LinkEvent::Subscribed(_)
            | LinkEvent::Received { .. }
            | LinkEvent::Acknowledged(_)
            | LinkEvent::Alive => true,
            LinkEvent::Sent(_) | LinkEvent::Disconnected | LinkEvent::Failed { .. } => false,
        }
    }
}

/// Received payloads are truncated to this length. It exceeds the maximum length of a command, so a truncated
/// payload is still rejected.
pub const MAX_RECEIVED_BYTES: usize = 4097;
