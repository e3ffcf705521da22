//! The entities of the node and of each camera.
//!
//! An `availability` at an entity replaces the device's. A camera's device requires the node to be online and
//! the camera to be live; entities that need no frames require only the node.

use super::{
    device::Device,
    ids::{camera_id, node_id},
    templates::{on_if, quoted, scaled_value_at, value_at, value_at_text, value_of},
};
use crate::{
    config::{ANY, Camera, Config, Region, UNKNOWN},
    wire::{
        links,
        topics::{OFFLINE, ONLINE, Topics},
    },
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
    pub(super) icon: &'static str,
}

/// The ranges are those of the config keys, except for the minimum of the rate: any rate above 0 is valid in
/// the configuration.
pub(super) const SETTINGS: [Setting; 3] = [
    Setting {
        key: "rate_fps",
        name: "Rate",
        min: 0.01,
        max: 1000.0,
        step: 0.01,
        unit: Some("fps"),
        icon: "mdi:speedometer",
    },
    Setting {
        key: "motion_threshold",
        name: "Motion threshold",
        min: 1.0,
        max: 255.0,
        step: 0.5,
        unit: None,
        icon: "mdi:motion-sensor",
    },
    Setting {
        key: "score",
        name: "Minimum score",
        min: 0.01,
        max: 1.0,
        step: 0.01,
        unit: None,
        icon: "mdi:percent",
    },
];

/// Types of the events of an event entity. `recognised`: the object has a label, or a finer one, that it did
/// not have when it started.
pub(super) const EVENT_TYPES: [&str; 4] = ["start", "recognised", "update", "end"];

/// Template of an event: its type and its attributes. What an event may lack replaces `FURTHER`.
const EVENT_TEMPLATE: &str = "{{ {'event_type': 'recognised' if 'label' in value_json.changed and \
                              value_json.label != 'unknown' else value_json.type, \
                              'label': value_json.label, 'label_path': value_json.label_path, \
                              'new_labels': value_json.new_labels, \
                              'sub_label': value_json.sub_label, 'score': value_json.score, \
                              'id': value_json.id, 'uid': value_json.uid, 'at': value_json.at, \
                              'age_s': value_json.age_s, 'replayed': value_json.replayed, \
                              'reason': value_json.reason, 'zones': value_json.zones, \
                              'visited_zones': value_json.visited_zonesFURTHER} | to_json }}";
/// The links of an event as an attribute. An event from before `web.public_url` was set has none.
const LINKS: &str = ", 'links': value_json.links | default({})";

/// Names of the model's labels.
#[derive(Clone, Copy)]
pub struct LabelNames<'a> {
    /// Those that a camera without a list of `labels` is announced with.
    pub default: &'a [String],
    /// All of them.
    pub all: &'a [String],
}

/// Builds the devices with their entities.
pub(super) struct Entities<'a> {
    pub(super) config: &'a Config,
    pub(super) topics: &'a Topics,
    /// The labels of the model.
    pub(super) labels: LabelNames<'a>,
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
            area: None,
            page: self.config.web.public_url.as_deref().map(links::node_page),
            availability: json!([self.while_online()]),
            components: Map::new(),
        };
        let memory = json!({
            "device_class": "data_size",
            "unit_of_measurement": "MiB",
            "state_class": "measurement",
            "icon": "mdi:memory",
        });
        node.add("sensor", &["memory"], "Memory", self.stats_sensor(memory, value_at(&["memory_mib"])));
        let started = json!({ "device_class": "timestamp" });
        node.add("sensor", &["started"], "Started", self.stats_sensor(started, value_at(&["started_at"])));
        let written = json!({
            "device_class": "data_size",
            "unit_of_measurement": "MB",
            "state_class": "measurement",
            "suggested_display_precision": 0,
            "icon": "mdi:harddisk",
        });
        let megabytes = scaled_value_at("disk_bytes_per_day", 1e-6);
        node.add("sensor", &["written"], "Written per day", self.stats_sensor(written, megabytes));
        let waiting = json!({
            "unit_of_measurement": "messages",
            "state_class": "measurement",
            "icon": "mdi:tray-full",
        });
        let value = value_at(&["delivery", "waiting"]);
        node.add("sensor", &["waiting"], "Messages waiting", self.stats_sensor(waiting, value));
        let lost = json!({
            "unit_of_measurement": "messages",
            "state_class": "total_increasing",
            "icon": "mdi:tray-remove",
        });
        let value = value_at(&["delivery", "lost"]);
        node.add("sensor", &["lost"], "Messages lost", self.stats_sensor(lost, value));
        if self.commands {
            let options = json!({
                "command_topic": self.topics.node_command(),
                "payload_press": r#"{"do":"reload"}"#,
                "entity_category": "config",
                "icon": "mdi:reload",
            });
            node.add("button", &["reload"], "Reload configuration", options);
        }
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
            area: camera.area.clone(),
            page: self.config.web.public_url.as_deref().map(|url| links::camera_page(url, name)),
            availability: json!([self.while_online(), self.while_live(name)]),
            components: Map::new(),
        };
        self.add_status(&mut device, name);
        self.add_objects(&mut device, camera);
        self.add_zones(&mut device, camera);
        self.add_regions(&mut device, camera);
        self.add_pictures(&mut device, camera);
        let rate = json!({
            "unit_of_measurement": "fps",
            "state_class": "measurement",
            "suggested_display_precision": 1,
            "icon": "mdi:speedometer",
        });
        let value = value_at(&["cameras", name, "analysed_fps"]);
        device.add("sensor", &["analysed_fps"], "Analysed frames", self.stats_sensor(rate, value));
        let latency = json!({
            "device_class": "duration",
            "unit_of_measurement": "ms",
            "state_class": "measurement",
            "suggested_display_precision": 0,
        });
        let value = value_at(&["cameras", name, "latency_ms", "total", "p50"]);
        device.add("sensor", &["latency"], "Latency", self.stats_sensor(latency, value));
        if self.commands {
            self.add_controls(&mut device, name);
        }
        device
    }

    /// Adds the occupancy of each zone, with the numbers of objects by label as attributes.
    fn add_zones(&self, device: &mut Device, camera: &Camera) {
        let topic = self.topics.occupancy(&camera.name);
        for zone in camera.zones.keys() {
            let counts = value_at_text(&["zones", zone]);
            let options = json!({
                "device_class": "occupancy",
                "state_topic": topic,
                "value_template": on_if(&format!("({counts} | default({{}}, true)).total | default(0) > 0")),
            });
            device.add("binary_sensor", &["occupied_zone", zone], &format!("Zone {zone} occupied"), options);
            let options = json!({
                "state_class": "measurement",
                "state_topic": topic,
                "value_template": format!("{{{{ ({counts} | default({{}}, true)).total | default(0) }}}}"),
                "json_attributes_topic": topic,
                "json_attributes_template":
                    format!("{{{{ ({counts} | default({{}}, true)).labels | default({{}}) | to_json }}}}"),
                "icon": "mdi:vector-square",
            });
            device.add("sensor", &["objects_in_zone", zone], &format!("Objects in zone {zone}"), options);
        }
    }

    fn add_regions(&self, device: &mut Device, camera: &Camera) {
        for region in &camera.regions {
            let topic = self.topics.region(&camera.name, &region.name);
            let options = json!({
                "device_class": "enum",
                "options": self.region_states(region),
                "state_topic": topic,
                "value_template": value_of("state"),
                "json_attributes_topic": topic,
                "json_attributes_template":
                    "{{ {'score': value_json.score, 'since': value_json.since, 'at': value_json.at} | to_json }}",
                "icon": "mdi:image-filter-center-focus",
            });
            device.add("sensor", &["region", &region.name], &format!("Region {}", region.name), options);
        }
    }

    /// The states that a region can have.
    fn region_states<'b>(&'b self, region: &'b Region) -> Vec<&'b str> {
        let is_any = region.labels.is_empty() || region.labels.iter().any(|label| label == ANY);
        let labels = if is_any { self.labels.all } else { &region.labels };
        let mut states: Vec<&str> = labels.iter().map(String::as_str).chain([UNKNOWN]).collect();
        states.sort_unstable();
        states.dedup();
        states
    }

    /// Adds the images and the camera. They are available without frames, because they show the last one.
    fn add_pictures(&self, device: &mut Device, camera: &Camera) {
        let name = camera.name.as_str();
        let image = |topic: String, icon: &str| {
            json!({
                "image_topic": topic,
                "content_type": "image/jpeg",
                "icon": icon,
                "availability": [self.while_online()],
            })
        };
        if self.config.pictures.publish {
            let options = image(self.topics.picture(name), "mdi:image");
            device.add("image", &["picture"], "Last event picture", options);
        }
        if self.commands {
            let options = image(self.topics.snapshot(name), "mdi:camera");
            device.add("image", &["snapshot"], "Snapshot", options);
        }
        if !camera.view_every.is_zero() {
            let options = json!({ "topic": self.topics.view(name), "icon": "mdi:cctv" });
            device.add("camera", &["view"], "View", options);
        }
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
            "icon": "mdi:cctv",
            "availability": [self.while_online()],
        });
        device.add("sensor", &["status"], "Status", options);
    }

    /// The labels that a camera is announced with.
    fn labels<'b>(&'b self, camera: &'b Camera) -> Vec<&'b String> {
        let has_all = camera.labels.is_empty() || camera.labels.iter().any(|label| label == ANY);
        let default = self.labels.default.iter().filter(|label| has_all && !camera.labels.contains(label));
        default.chain(camera.labels.iter().filter(|label| *label != ANY)).collect()
    }

    fn add_objects(&self, device: &mut Device, camera: &Camera) {
        let links = if self.config.web.public_url.is_some() { LINKS } else { "" };
        // Available without frames, because objects also end when their camera is lost.
        let options = json!({
            "state_topic": self.topics.live_events(&camera.name),
            "event_types": EVENT_TYPES,
            "value_template": EVENT_TEMPLATE.replace("FURTHER", links),
            "icon": "mdi:motion-sensor",
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
        let count = |value: String| {
            json!({
                "state_class": "measurement",
                "state_topic": topic,
                "value_template": value,
                "icon": "mdi:counter",
            })
        };
        device.add("sensor", &["objects"], "Objects", count(value_of("total")));
        for label in self.labels(camera) {
            let value = format!("{{{{ value_json.labels.get({}, 0) }}}}", quoted(label));
            device.add("sensor", &["objects", label], &format!("Number of {label}"), count(value));
        }
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
            "icon": "mdi:eye",
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
                "icon": setting.icon,
                "availability": [self.while_online()],
            });
            if let Some(unit) = setting.unit {
                options["unit_of_measurement"] = unit.into();
            }
            device.add("number", &[key], setting.name, options);
        }
        let options = json!({
            "command_topic": command,
            "payload_press": r#"{"do":"snapshot"}"#,
            "icon": "mdi:camera",
        });
        device.add("button", &["take_snapshot"], "Take a snapshot", options);
    }

    /// Options of a diagnostic sensor for a value in the stats, by its template.
    fn stats_sensor(&self, mut options: Value, value_template: String) -> Value {
        let expiry = self.config.stats.interval * MAX_MISSED_STATS;
        options["entity_category"] = "diagnostic".into();
        options["state_topic"] = self.topics.stats().into();
        options["value_template"] = value_template.into();
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
