//! What the publisher needs of a connection to a broker, whatever speaks the protocol.
//!
//! A connection is dialled anew each time and never mended: one that reconnects by itself drops what it had queued without
//! a word. What happens on it comes back as [`LinkEvent`] with the connection's number, so that word of one that was given
//! up is not taken for another's.

/// Opens connections.
pub trait Dialer: Send {
    /// How many brokers there are to choose from, at least one.
    fn brokers(&self) -> usize;

    /// `host:port` of a broker, for messages.
    fn name(&self, broker: usize) -> String;

    /// Begins to connect to a broker; what comes of it is told as [`LinkEvent`] with `number`.
    ///
    /// Errors, in a user's words: it cannot even be tried, as with a certificate that cannot be read.
    fn dial(&mut self, broker: usize, number: u64) -> Result<Box<dyn Connection>, String>;
}

/// A connection that is being opened or stands. Dropping it ends it without a goodbye.
pub trait Connection: Send {
    /// Hands a message over; false where there is no room now. With `acknowledged` it will be told as
    /// [`LinkEvent::Sent`], in the order of handing over, and as [`LinkEvent::Acknowledged`].
    fn publish(&mut self, topic: &str, acknowledged: bool, retained: bool, payload: &[u8]) -> bool;

    /// Asks for messages; answered by [`LinkEvent::Subscribed`].
    fn subscribe(&mut self, filters: &[String]) -> bool;

    /// Says goodbye; answered by [`LinkEvent::Disconnected`].
    fn disconnect(&mut self) -> bool;
}

/// What happened on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// The broker said yes.
    Connected,
    /// The broker answered to what was asked for: whether it gives all of it.
    Subscribed(bool),
    /// Something that was asked for.
    Received {
        /// Where it was published.
        topic: String,
        /// The broker had kept it: it is old.
        retained: bool,
        /// What it says, at most [`LONGEST_RECEIVED`] bytes of it.
        payload: Vec<u8>,
    },
    /// The next of the messages that are to be acknowledged went out, under this id.
    Sent(u16),
    /// The broker has it.
    Acknowledged(u16),
    /// It has answered to a question whether it is there.
    Alive,
    /// The goodbye went out.
    Disconnected,
    /// The connection is gone.
    Failed {
        /// In a user's words.
        why: String,
        /// The broker said no: it will say no again, until a person changes something.
        refused: bool,
    },
}

impl LinkEvent {
    /// Whether it is something that the broker itself has said.
    pub fn is_sign_of_life(&self) -> bool {
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

/// What comes and is longer is cut: it is nothing that camfire understands.
pub const LONGEST_RECEIVED: usize = 4097;
