//! Where each message goes: `<base>/<node>/...`, and how it is kept there. Pure; `docs/mqtt.md` is its manual.

use super::messages::Message;
use crate::config::Config;

/// What the node's status topic says while camfire runs.
pub const ONLINE: &str = "online";
/// What it says when camfire has gone, by itself or by the broker's last will.
pub const OFFLINE: &str = "offline";

/// A message's address and how the broker treats it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The topic.
    pub topic: String,
    /// Kept by the broker for late subscribers; then it is also acknowledged (QoS 1), else it is not (QoS 0).
    pub retained: bool,
}

/// The topics of one node.
#[derive(Debug, Clone)]
pub struct Topics {
    prefix: String,
}

impl Topics {
    /// Of the node that `config` describes.
    pub fn new(config: &Config) -> Topics {
        Topics { prefix: format!("{}/{}", config.mqtt.base_topic, config.node.name) }
    }

    /// Whether the node is there: `online` or `offline`, retained.
    pub fn node_status(&self) -> String {
        format!("{}/status", self.prefix)
    }

    /// A camera's detections.
    pub fn detections(&self, camera: &str) -> String {
        format!("{}/{camera}/detections", self.prefix)
    }

    /// A camera's status.
    pub fn camera_status(&self, camera: &str) -> String {
        format!("{}/{camera}/status", self.prefix)
    }

    /// Where a message goes.
    pub fn address(&self, message: &Message) -> Address {
        let (topic, retained) = match message {
            Message::Detections(message) => (self.detections(&message.camera), false),
            Message::Camera(message) => (self.camera_status(&message.camera), true),
            Message::Stats(_) => (format!("{}/stats", self.prefix), false),
        };
        Address { topic, retained }
    }
}
