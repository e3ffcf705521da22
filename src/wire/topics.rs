//! The MQTT topics, `<base>/<node>/...`, and how each message is delivered. Pure; `docs/mqtt.md` describes
//! them for users.

use super::messages::Message;
use crate::config::Config;
use std::collections::BTreeSet;

/// Payload of the node status while camfire is connected to the broker.
pub const ONLINE: &str = "online";
/// Payload of the node status after camfire has stopped, published by camfire, or by the broker as last will.
pub const OFFLINE: &str = "offline";

/// The topic of a message and how it is delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The topic.
    pub topic: String,
    /// Quality of service and retention.
    pub delivery: Delivery,
}

/// How a message is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// QoS 1, retained: the broker keeps the last one for late subscribers.
    State,
    /// QoS 1: every message matters, in order.
    Event,
    /// QoS 0: only the newest message matters.
    Newest,
}

/// The topics of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    prefix: String,
}

impl Topics {
    /// The topics of the node in `config`.
    pub fn new(config: &Config) -> Topics {
        Topics { prefix: format!("{}/{}", config.mqtt.base_topic, config.node.name) }
    }

    /// The camera of a topic, or another part of the node that has topics of its own. None for the topics of
    /// the node itself, and for those of others.
    pub fn camera_of<'a>(&self, topic: &'a str) -> Option<&'a str> {
        self.own_part(topic)?.split_once('/').map(|(camera, _)| camera)
    }

    /// What `topic` is called among the topics `other`. None if it is not one of the node's.
    pub fn moved(&self, topic: &str, other: &Topics) -> Option<String> {
        self.own_part(topic).map(|part| format!("{}/{part}", other.prefix))
    }

    /// The part of a topic after the node's prefix.
    fn own_part<'a>(&self, topic: &'a str) -> Option<&'a str> {
        topic.strip_prefix(&self.prefix)?.strip_prefix('/')
    }

    /// Node status: `online` or `offline`, retained.
    pub fn node_status(&self) -> String {
        format!("{}/status", self.prefix)
    }

    /// Detections of a camera.
    pub fn detections(&self, camera: &str) -> String {
        self.camera_topic(camera, "detections")
    }

    /// Status of a camera, retained.
    pub fn camera_status(&self, camera: &str) -> String {
        self.camera_topic(camera, "status")
    }

    /// Stats of the node.
    pub fn stats(&self) -> String {
        format!("{}/stats", self.prefix)
    }

    /// Events of a camera's objects.
    pub fn events(&self, camera: &str) -> String {
        self.camera_topic(camera, "events")
    }

    /// Events of a camera's objects as they happen, without late ones and repeats.
    pub fn live_events(&self, camera: &str) -> String {
        self.camera_topic(camera, "events/live")
    }

    /// Changes of a camera's states.
    pub fn history(&self, camera: &str) -> String {
        self.camera_topic(camera, "history")
    }

    /// Number of objects in view, retained.
    pub fn occupancy(&self, camera: &str) -> String {
        self.camera_topic(camera, "occupancy")
    }

    /// State of a region, retained.
    pub fn region(&self, camera: &str, region: &str) -> String {
        self.camera_topic(camera, &format!("regions/{region}"))
    }

    /// Annotated picture of the last event, retained.
    pub fn picture(&self, camera: &str) -> String {
        self.camera_topic(camera, "picture")
    }

    /// The last picture that a command requested, retained.
    pub fn snapshot(&self, camera: &str) -> String {
        self.camera_topic(camera, "snapshot")
    }

    /// The newest analysed frame, every few seconds.
    pub fn view(&self, camera: &str) -> String {
        self.camera_topic(camera, "view")
    }

    /// Settings of a camera, retained.
    pub fn settings(&self, camera: &str) -> String {
        self.camera_topic(camera, "settings")
    }

    /// Commands to a camera.
    pub fn command(&self, camera: &str) -> String {
        self.camera_topic(camera, "command")
    }

    /// Commands to the node.
    pub fn node_command(&self) -> String {
        format!("{}/command", self.prefix)
    }

    /// Answers to commands to a camera, or to the node if `camera` is None.
    pub fn answer(&self, camera: Option<&str>) -> String {
        camera.map_or_else(|| format!("{}/answer", self.prefix), |camera| self.camera_topic(camera, "answer"))
    }

    /// Topic filters that match all command topics of the node.
    pub fn command_filters(&self) -> [String; 2] {
        [self.node_command(), format!("{}/+/command", self.prefix)]
    }

    /// The target of a command topic: `Some(Some(camera))`, or `Some(None)` for the node. None if `topic` is
    /// not a command topic.
    pub fn command_target<'a>(&self, topic: &'a str) -> Option<Option<&'a str>> {
        let rest = topic.strip_prefix(&self.prefix)?.strip_prefix('/')?;
        match rest.strip_suffix("command")? {
            "" => Some(None),
            camera => camera.strip_suffix('/').filter(|camera| !camera.contains('/')).map(Some),
        }
    }

    fn camera_topic(&self, camera: &str, name: &str) -> String {
        format!("{}/{camera}/{name}", self.prefix)
    }

    /// Reports of a camera's deleted messages, or of the node's own if `camera` is empty.
    pub fn gap(&self, camera: &str) -> String {
        if camera.is_empty() {
            format!("{}/gap", self.prefix)
        } else {
            format!("{}/{camera}/gap", self.prefix)
        }
    }

    /// All topics on which the node in `config` may have messages retained.
    pub fn retained(&self, config: &Config) -> BTreeSet<String> {
        let mut topics = BTreeSet::from([self.node_status()]);
        for camera in &config.cameras {
            let name = camera.name.as_str();
            topics.extend([self.camera_status(name), self.occupancy(name)]);
            topics.extend(camera.regions.iter().map(|region| self.region(name, &region.name)));
            if config.pictures.publish {
                topics.insert(self.picture(name));
            }
            if config.commands.accept {
                topics.extend([self.settings(name), self.snapshot(name)]);
            }
        }
        topics
    }

    /// The part of a camera's topic below the camera. The whole topic if it is of another camera.
    pub fn below_camera<'a>(&self, camera: &str, topic: &'a str) -> &'a str {
        let below = topic.strip_prefix(&self.prefix).and_then(|rest| rest.strip_prefix('/'));
        let below = below.and_then(|rest| rest.strip_prefix(camera)).and_then(|rest| rest.strip_prefix('/'));
        below.unwrap_or(topic)
    }

    /// The address of a message.
    pub fn address(&self, message: &Message) -> Address {
        // Empty for the node's own messages, whose topics name no camera.
        let camera = message.camera().map_or("", |camera| camera);
        let (topic, delivery) = match message {
            Message::Event(_) => (self.events(camera), Delivery::Event),
            Message::Detections(_) => (self.detections(camera), Delivery::Newest),
            Message::Region(message) => (self.region(camera, &message.region), Delivery::State),
            Message::Scene(_) => (self.camera_topic(camera, "scene"), Delivery::Event),
            Message::Occupancy(_) => (self.occupancy(camera), Delivery::State),
            Message::Picture(_) => (self.picture(camera), Delivery::State),
            Message::Snapshot(_) => (self.snapshot(camera), Delivery::State),
            Message::View(_) => (self.view(camera), Delivery::Newest),
            Message::Settings(_) => (self.settings(camera), Delivery::State),
            Message::Heatmap(_) => (self.camera_topic(camera, "heatmap"), Delivery::Newest),
            Message::Camera(_) => (self.camera_status(camera), Delivery::State),
            Message::Change(_) => (self.history(camera), Delivery::Event),
            Message::Stats(_) => (self.stats(), Delivery::Newest),
        };
        Address { topic, delivery }
    }
}
