//! Publishing: delivers messages to a broker.
//!
//! [`publisher`] is the stage that owns delivery: it stores durable messages in the [`outbox`] and sends them
//! over a [`connection`]. [`mqtt`] implements connections and is the only module that uses the protocol.
//! [`commands`] executes received commands. [`homeassistant`] and [`frigate`] translate to the formats of
//! those programs. The messages themselves and their topics are defined in [`wire`](crate::wire).

pub mod commands;
pub mod connection;
pub mod frigate;
pub mod homeassistant;
pub mod mqtt;
pub mod outbox;
pub mod publisher;
mod reconnect;
