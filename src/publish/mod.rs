//! From what was seen to whoever listens.
//!
//! [`messages`] is the wire contract, [`topics`] where each message goes, [`mqtt`] the only code that names MQTT.

pub mod messages;
pub mod mqtt;
pub mod topics;
