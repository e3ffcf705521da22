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
    /// How it is delivered.
    pub delivery: Delivery,
}

/// How a message is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The last one is kept by the broker for late subscribers (retained, QoS 1).
    State,
    /// Each one counts, in order (QoS 1).
    Event,
    /// Only the newest has any worth (QoS 0).
    Newest,
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
        self.of(camera, "detections")
    }

    /// A camera's status.
    pub fn camera_status(&self, camera: &str) -> String {
        self.of(camera, "status")
    }

    /// How the node is doing.
    pub fn stats(&self) -> String {
        format!("{}/stats", self.prefix)
    }

    /// What happened to the things that a camera sees.
    pub fn events(&self, camera: &str) -> String {
        self.of(camera, "events")
    }

    /// What a camera sees now, by label, retained.
    pub fn occupancy(&self, camera: &str) -> String {
        self.of(camera, "occupancy")
    }

    /// What a region shows, retained.
    pub fn region(&self, camera: &str, region: &str) -> String {
        self.of(camera, &format!("regions/{region}"))
    }

    /// The last event's picture, retained.
    pub fn picture(&self, camera: &str) -> String {
        self.of(camera, "picture")
    }

    /// The picture that was asked for last.
    pub fn snapshot(&self, camera: &str) -> String {
        self.of(camera, "snapshot")
    }

    /// What a camera is set to, retained.
    pub fn settings(&self, camera: &str) -> String {
        self.of(camera, "settings")
    }

    /// Where a camera is told what to do.
    pub fn command(&self, camera: &str) -> String {
        self.of(camera, "command")
    }

    /// What became of a command to a camera, or to the node if there is none.
    pub fn answer(&self, camera: Option<&str>) -> String {
        camera.map_or_else(|| format!("{}/answer", self.prefix), |camera| self.of(camera, "answer"))
    }

    /// All that commands come on.
    pub fn command_filters(&self) -> [String; 2] {
        [format!("{}/command", self.prefix), format!("{}/+/command", self.prefix)]
    }

    /// To which camera a command on `topic` is, or to the node; none if it is no command's topic.
    pub fn commanded<'a>(&self, topic: &'a str) -> Option<Option<&'a str>> {
        let rest = topic.strip_prefix(&self.prefix)?.strip_prefix('/')?;
        match rest.strip_suffix("command")? {
            "" => Some(None),
            camera => camera.strip_suffix('/').filter(|camera| !camera.contains('/')).map(Some),
        }
    }

    fn of(&self, camera: &str, what: &str) -> String {
        format!("{}/{camera}/{what}", self.prefix)
    }

    /// Where it is told that a camera's messages had to go unsent, or the node's own if `camera` is empty.
    pub fn gap(&self, camera: &str) -> String {
        if camera.is_empty() {
            format!("{}/gap", self.prefix)
        } else {
            format!("{}/{camera}/gap", self.prefix)
        }
    }

    /// Where a message goes.
    pub fn address(&self, message: &Message) -> Address {
        // Empty for the node's own messages, whose topics name no camera.
        let camera = message.camera().map_or("", |camera| camera);
        let (topic, delivery) = match message {
            Message::Event(_) => (self.events(camera), Delivery::Event),
            Message::Detections(_) => (self.detections(camera), Delivery::Newest),
            Message::Region(message) => (self.region(camera, &message.region), Delivery::State),
            Message::Scene(_) => (self.of(camera, "scene"), Delivery::Event),
            Message::Occupancy(_) => (self.occupancy(camera), Delivery::State),
            Message::Picture(_) => (self.picture(camera), Delivery::State),
            Message::Snapshot(_) => (self.snapshot(camera), Delivery::State),
            Message::Settings(_) => (self.settings(camera), Delivery::State),
            Message::Heatmap(_) => (self.of(camera, "heatmap"), Delivery::Newest),
            Message::Camera(_) => (self.camera_status(camera), Delivery::State),
            Message::Stats(_) => (self.stats(), Delivery::Newest),
        };
        Address { topic, delivery }
    }
}
