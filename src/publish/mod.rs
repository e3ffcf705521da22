//! From what was seen to whoever listens.
//!
//! [`messages`] is the wire contract, [`topics`] where each message goes, [`mqtt`] the only code that names MQTT.
//! [`homeassistant`] and [`frigate`] say the same to those who expect another shape.

#[cfg_attr(not(test), expect(dead_code, reason = "nothing publishes these yet"))]
pub mod frigate;
#[cfg_attr(not(test), expect(dead_code, reason = "nothing publishes these yet"))]
pub mod homeassistant;
pub mod messages;
pub mod mqtt;
pub mod topics;
