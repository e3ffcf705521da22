//! The entities of the node and of each camera.
//!
//! An `availability` at an entity replaces the device's. A camera's device requires the node to be online and
//! the camera to be live; entities that need no frames require only the node.

use super::{
    device::Device,
    ids::{camera_id, node_id},
    templates::{on_if, quoted, value_at, value_of},
};
use crate::{
    config::{ANY, Camera, Config},
    wire::topics::{OFFLINE, ONLINE, Topics},
};
use serde_json::{Map, Value, json};

/// Number of stats messages that must be missing before sensors based on them become unavailable.
const MAX_MISSED_STATS: u32 = 3;

/// All states of a camera. Home Assistant requires the list. A test compares them with
/// [`CameraState`](crate::wire::messages::CameraState).
pub(super) const STATES: [&str; 9] =
    ["starting", "live", "stalled", "unreachable", "denied", "unsupported", "ended", "paused", "stopped"];

/// A setting that can be changed: its key in settings and commands, and the number that Home Assistant shows
/// for it.
pub(super) struct Setting {
    pub(super) key: &'static str,
    pub(super) name: &'static str,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) step: f64,
    pub(super) unit: Option<&'static str>,
}

/// The ranges are those of the config keys, except for the minimum of the rate: any rate above 0 is valid in
/// the configuration.
pub(super) const SETTINGS: [Setting; 3] = [
    Setting { key: "rate_fps", name: "Rate", min: 0.01, max: 1000.0, step: 0.01, unit: Some("fps") },
    Setting {
        key: "motion_threshold",
        name: "Motion threshold",
        min: 1.0,
        max: 255.0,
        step: 0.5,
        unit: None,
    },
    Setting { key: "score", name: "Minimum score", min: 0.01, max: 1.0, step: 0.01, unit: None },
];

/// Builds the devices with their entities.
pub(super) struct Entities<'a> {
    pub(super) config: &'a Config,
    pub(super) topics: &'a Topics,
    /// Labels that a camera without a list of `labels` is announced with.
    pub(super) default_labels: &'a [String],
    /// Whether cameras accept commands.
    pub(super) commands: bool,
}

impl Entities<'_> {
    pub(super) fn node(&self) -> Device {
        let mut node = Device {
            id: node_id(self.config),
            name: format!("camfire ({})", self.config.node.name),
            model: "Node",
            via: None,
            availability: json!([self.while_online()]),
            components: Map::new(),
        };
        let memory = json!({ "device_class": "data_size", "unit_of_measurement": "MiB", "state_class": "measurement" });
        node.add("sensor", &["memory"], "Memory", self.stats_sensor(memory, &["memory_mib"]));
        let uptime = json!({ "device_class": "duration", "unit_of_measurement": "s" });
        node.add("sensor", &["uptime"], "Uptime", self.stats_sensor(uptime, &["uptime_s"]));
        let written =
            json!({ "device_class": "data_size", "unit_of_measurement": "B", "state_class": "measurement" });
        node.add(
            "sensor",
            &["written"],
            "Written per day",
            self.stats_sensor(written, &["disk_bytes_per_day"]),
        );
        let waiting = json!({ "unit_of_measurement": "messages", "state_class": "measurement" });
        node.add(
            "sensor",
            &["waiting"],
            "Messages waiting",
            self.stats_sensor(waiting, &["delivery", "waiting"]),
        );
        let lost = json!({ "unit_of_measurement": "messages", "state_class": "total_increasing" });
        node.add("sensor", &["lost"], "Messages lost", self.stats_sensor(lost, &["delivery", "lost"]));
        node
    }

    pub(super) fn camera(&self, camera: &Camera) -> Device {
        let name = camera.name.as_str();
        let mut device = Device {
            id: camera_id(self.config, name),
            // Home Assistant strips the device name from the start of an entity name. None starts like this.
            name: format!("{name} ({})", self.config.node.name),
            model: "Camera",
            via: Some(node_id(self.config)),
            availability: json!([self.while_online(), self.while_live(name)]),
            components: Map::new(),
        };
        self.add_status(&mut device, name);
        self.add_objects(&mut device, camera);
        for region in &camera.regions {
            let topic = self.topics.region(name, &region.name);
            let options = json!({
                "state_topic": topic,
                "value_template": value_of("state"),
                "json_attributes_topic": topic,
            });
            device.add("sensor", &["region", &region.name], &format!("Region {}", region.name), options);
        }
        if self.config.pictures.publish {
            device.add("image", &["picture"], "Last event's picture", image(self.topics.picture(name)));
        }
        let rate = json!({
            "unit_of_measurement": "fps",
            "state_class": "measurement",
            "suggested_display_precision": 1,
        });
        device.add(
            "sensor",
            &["analysed_fps"],
            "Analysed frames",
            self.stats_sensor(rate, &["cameras", name, "analysed_fps"]),
        );
        let latency = json!({
            "device_class": "duration",
            "unit_of_measurement": "ms",
            "state_class": "measurement",
            "suggested_display_precision": 0,
        });
        device.add(
            "sensor",
            &["latency"],
            "Latency",
            self.stats_sensor(latency, &["cameras", name, "latency_ms", "total", "p50"]),
        );
        if self.commands {
            self.add_controls(&mut device, name);
        }
        device
    }

    /// Adds the camera status. It is available without frames, because it shows why there are none.
    fn add_status(&self, device: &mut Device, camera: &str) {
        let topic = self.topics.camera_status(camera);
        let options = json!({
            "device_class": "enum",
            "options": STATES,
            "state_topic": topic,
            "value_template": value_of("state"),
            "json_attributes_topic": topic,
            "availability": [self.while_online()],
        });
        device.add("sensor", &["status"], "Status", options);
    }

    /// The labels that a camera is announced with.
    fn labels<'b>(&'b self, camera: &'b Camera) -> Vec<&'b String> {
        let has_all = camera.labels.is_empty() || camera.labels.iter().any(|label| label == ANY);
        let default = self.default_labels.iter().filter(|label| has_all && !camera.labels.contains(label));
        default.chain(camera.labels.iter().filter(|label| *label != ANY)).collect()
    }

    fn add_objects(&self, device: &mut Device, camera: &Camera) {
        // Available without frames, because objects also end when their camera is lost.
        let options = json!({
            "state_topic": self.topics.live_events(&camera.name),
            "event_types": ["start", "update", "end"],
            "value_template": "{{ {'event_type': value_json.type, 'label': value_json.label, \
                               'label_path': value_json.label_path, 'sub_label': value_json.sub_label, \
                               'score': value_json.score, 'id': value_json.id, 'zones': value_json.zones} \
                               | to_json }}",
            "availability": [self.while_online()],
        });
        device.add("event", &["event"], "Last event", options);
        let topic = self.topics.occupancy(&camera.name);
        let occupied = |condition: &str| {
            json!({
                "device_class": "occupancy",
                "state_topic": topic,
                "value_template": on_if(condition),
            })
        };
        device.add("binary_sensor", &["occupied"], "Occupied", occupied("value_json.total > 0"));
        for label in self.labels(camera) {
            let is_present = format!("value_json.labels.get({}, 0) > 0", quoted(label));
            device.add(
                "binary_sensor",
                &["occupied", label],
                &format!("Occupied by {label}"),
                occupied(&is_present),
            );
        }
        let options = json!({
            "state_class": "measurement",
            "state_topic": topic,
            "value_template": value_of("total"),
        });
        device.add("sensor", &["objects"], "Objects", options);
    }

    /// Adds the commands. They are available without frames, except for the snapshot.
    fn add_controls(&self, device: &mut Device, camera: &str) {
        let (command, settings) = (self.topics.command(camera), self.topics.settings(camera));
        let options = json!({
            "command_topic": command,
            "payload_on": r#"{"do":"resume"}"#,
            "payload_off": r#"{"do":"pause"}"#,
            "state_topic": settings,
            "value_template": on_if("value_json.watching"),
            "state_on": "ON",
            "state_off": "OFF",
            "availability": [self.while_online()],
        });
        device.add("switch", &["watching"], "Watching", options);
        for setting in SETTINGS {
            let key = setting.key;
            let mut options = json!({
                "entity_category": "config",
                "command_topic": command,
                "command_template": format!(r#"{{"do":"set","{key}":{{{{ value }}}}}}"#),
                "state_topic": settings,
                "value_template": value_of(key),
                "min": setting.min,
                "max": setting.max,
                "step": setting.step,
                "mode": "box",
                "availability": [self.while_online()],
            });
            if let Some(unit) = setting.unit {
                options["unit_of_measurement"] = unit.into();
            }
            device.add("number", &[key], setting.name, options);
        }
        let options = json!({ "command_topic": command, "payload_press": r#"{"do":"snapshot"}"# });
        device.add("button", &["take_snapshot"], "Take a snapshot", options);
        device.add("image", &["snapshot"], "Snapshot", image(self.topics.snapshot(camera)));
    }

    /// Options of a diagnostic sensor for the value at `path` in the stats.
    fn stats_sensor(&self, mut options: Value, path: &[&str]) -> Value {
        let expiry = self.config.stats.interval * MAX_MISSED_STATS;
        options["entity_category"] = "diagnostic".into();
        options["state_topic"] = self.topics.stats().into();
        options["value_template"] = value_at(path).into();
        options["expire_after"] = (expiry.as_secs_f64().ceil() as u64).into();
        options
    }

    /// Available while the node is online.
    fn while_online(&self) -> Value {
        json!({
            "topic": self.topics.node_status(),
            "payload_available": ONLINE,
            "payload_not_available": OFFLINE,
        })
    }

    /// Available while the camera is live.
    fn while_live(&self, camera: &str) -> Value {
        json!({
            "topic": self.topics.camera_status(camera),
            "value_template": format!(
                "{{{{ '{ONLINE}' if value_json.state == 'live' else '{OFFLINE}' }}}}"
            ),
            "payload_available": ONLINE,
            "payload_not_available": OFFLINE,
        })
    }
}

fn image(topic: String) -> Value {
    json!({ "image_topic": topic, "content_type": "image/jpeg" })
}
