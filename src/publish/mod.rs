//! From what was seen to whoever listens.
//!
//! [`messages`] is the wire contract, [`topics`] where each message goes, [`publisher`] the stage that sees to it that they
//! arrive: from the [`outbox`] on disk over a [`link`], of which [`mqtt`] is the only code that names the protocol.
//! [`commands`] is what may be asked of camfire that way; [`homeassistant`] and [`frigate`] say the same to those who expect another shape.

pub mod commands;
pub mod connection;
pub mod frigate;
pub mod homeassistant;

pub mod mqtt;
pub mod outbox;
pub mod publisher;

mod reconnect;
