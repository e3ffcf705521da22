//! What Home Assistant must know to show this node and its cameras as devices: the payloads of its device-based MQTT
//! discovery. Pure; `docs/homeassistant.md` is its manual.
//!
//! There is a device for the node and one for each camera, joined by `via_device`. Each is told in one retained payload,
//! the node's first, for Home Assistant refuses a camera whose node it does not know: in the order of the topics.
//!
//! What is said of availability below `components` replaces what is said at the root. So a camera's root holds for what
//! only a live camera can tell, and what is known or can be done without frames says that it needs the node alone.
//!
//! EventIds last for ever: with another id an entity is another one, without its history. They are made of the names alone.

use crate::config::{Camera, Config};
use crate::wire::topics::{OFFLINE, ONLINE, Topics};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// So many stats messages must be missed for what they tell to be unknown.
const MISSED_STATS: u32 = 3;

/// The states of a camera, of which Home Assistant wants to know all. A test holds them against
/// [`CameraState`](super::messages::CameraState).
const STATES: [&str; 9] =
    ["starting", "live", "stalled", "unreachable", "denied", "unsupported", "ended", "paused", "stopped"];

/// A setting that can be changed: its key in settings and commands, and what Home Assistant is to offer.
struct Setting {
    key: &'static str,
    name: &'static str,
    from: f64,
    to: f64,
    step: f64,
    unit: Option<&'static str>,
}

/// The limits are those of the configuration's keys, but for the rate, which has no least.
const SETTINGS: [Setting; 3] = [
    Setting { key: "rate_fps", name: "Rate", from: 0.01, to: 1000.0, step: 0.01, unit: Some("fps") },
    Setting {
        key: "motion_threshold",
        name: "Motion threshold",
        from: 1.0,
        to: 255.0,
        step: 0.5,
        unit: None,
    },
    Setting { key: "score", name: "Least score", from: 0.01, to: 1.0, step: 0.01, unit: None },
];

/// Discovery topics and their payloads, to be retained; none unless discovery is on. `commands`: whether cameras take
/// any.
pub fn payloads(config: &Config, topics: &Topics, commands: bool) -> BTreeMap<String, Vec<u8>> {
    if !config.homeassistant.discovery {
        return BTreeMap::new();
    }
    let teller = Teller { config, topics, commands };
    let cameras = config.cameras.iter().map(|camera| teller.camera(camera));
    let told = |device: Device| (topic(config, &device.id), device.payload());
    std::iter::once(teller.node()).chain(cameras).map(told).collect()
}

/// What to publish, in order and before `now`, so that what has left since `before` leaves Home Assistant: an empty
/// payload for each device, and for each component the new payload in which nothing but its platform is left of it.
pub fn removals(
    before: &BTreeMap<String, Vec<u8>>,
    now: &BTreeMap<String, Vec<u8>>,
) -> Vec<(String, Vec<u8>)> {
    let removal = |(topic, earlier): (&String, &Vec<u8>)| match now.get(topic) {
        None => Some((topic.clone(), Vec::new())),
        Some(payload) => Some((topic.clone(), without_what_left(earlier, payload)?)),
    };
    before.iter().filter_map(removal).collect()
}

/// The topic on which Home Assistant says `online` when it has started: the time to publish everything anew.
pub fn birth_topic(config: &Config) -> String {
    format!("{}/status", config.homeassistant.prefix)
}

fn topic(config: &Config, device: &str) -> String {
    format!("{}/device/{device}/config", config.homeassistant.prefix)
}

/// `now` with the components that it lacks or that have another platform reduced to the platform that they had; `None`
/// if there are none. An earlier payload that cannot be read has none.
fn without_what_left(before: &[u8], now: &[u8]) -> Option<Vec<u8>> {
    let before: Value = serde_json::from_slice(before).ok()?;
    let mut payload: Value = serde_json::from_slice(now).ok()?;
    let components = payload.get_mut("components")?.as_object_mut()?;
    let mut has_left = false;
    for (key, component) in before.get("components")?.as_object()? {
        let Some(platform) = component.get("p") else { continue };
        if components.get(key).and_then(|component| component.get("p")) != Some(platform) {
            components.insert(key.clone(), json!({ "p": platform }));
            has_left = true;
        }
    }
    has_left.then(|| payload.to_string().into_bytes())
}

/// Between the parts of an [`id`].
const BETWEEN: &str = "_-";

/// One id of several names: letters, digits, `-` and `_` alone, and never that of other names. An underscore in a name is
/// doubled, what may not be in an id is `_` and its bytes in hexadecimal.
fn id(names: &[&str]) -> String {
    let plain = |byte: u8| match byte {
        b'_' => "__".to_string(),
        b'-' => "-".to_string(),
        _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        _ => format!("_{byte:02x}"),
    };
    let names: Vec<String> = names.iter().map(|name| name.bytes().map(plain).collect()).collect();
    names.join(BETWEEN)
}

fn node_id(config: &Config) -> String {
    id(&["camfire", &config.node.name])
}

/// A text as templates write it.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// The template of a value in JSON: "None", which Home Assistant takes for unknown, where it or any step to it is null or
/// missing.
fn value_at(path: &[&str]) -> String {
    let step = |place: String, name: &&str| match place.as_str() {
        "value_json" => format!("{place}[{}]", quoted(name)),
        _ => format!("({place} | default({{}}, true))[{}]", quoted(name)),
    };
    format!("{{{{ {} | default(None) }}}}", path.iter().fold("value_json".to_string(), step))
}

/// The same of a value that is always there.
fn value_of(key: &str) -> String {
    format!("{{{{ value_json.{key} }}}}")
}

/// `ON` or `OFF`.
fn on_if(condition: &str) -> String {
    format!("{{{{ 'ON' if {condition} else 'OFF' }}}}")
}

/// A device while it is put together.
struct Device {
    id: String,
    name: String,
    model: &'static str,
    via: Option<String>,
    availability: Value,
    components: Map<String, Value>,
}

impl Device {
    /// Adds an entity: its platform, its id among the device's, its name and the rest.
    fn add(&mut self, platform: &str, key: &[&str], name: &str, mut options: Value) {
        let key = id(key);
        options["p"] = platform.into();
        options["unique_id"] = format!("{}{BETWEEN}{key}", self.id).into();
        options["name"] = name.into();
        self.components.insert(key, options);
    }

    fn payload(self) -> Vec<u8> {
        let version = env!("CARGO_PKG_VERSION");
        let mut device = json!({
            "identifiers": [self.id],
            "name": self.name,
            "manufacturer": "camfire",
            "model": self.model,
            "sw_version": version,
        });
        if let Some(via) = self.via {
            device["via_device"] = via.into();
        }
        let payload = json!({
            "device": device,
            "origin": { "name": "camfire", "sw_version": version },
            "availability": self.availability,
            "availability_mode": "all",
            "qos": 1,
            "components": self.components,
        });
        payload.to_string().into_bytes()
    }
}

/// What the devices are told from.
struct Teller<'a> {
    config: &'a Config,
    topics: &'a Topics,
    commands: bool,
}

impl Teller<'_> {
    fn node(&self) -> Device {
        let mut node = Device {
            id: node_id(self.config),
            name: format!("camfire ({})", self.config.node.name),
            model: "Node",
            via: None,
            availability: json!([self.while_node_runs()]),
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
            "Written a day",
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

    fn camera(&self, camera: &Camera) -> Device {
        let name = camera.name.as_str();
        let mut device = Device {
            id: id(&["camfire", &self.config.node.name, name]),
            // No entity's name can begin like this, which Home Assistant would cut off.
            name: format!("{name} ({})", self.config.node.name),
            model: "Camera",
            via: Some(node_id(self.config)),
            availability: json!([self.while_node_runs(), self.while_live(name)]),
            components: Map::new(),
        };
        self.add_status(&mut device, name);
        self.add_things(&mut device, camera);
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

    /// Whether it sends frames, and why not: what is to be told above all of a camera that does not.
    fn add_status(&self, device: &mut Device, camera: &str) {
        let topic = self.topics.camera_status(camera);
        let options = json!({
            "device_class": "enum",
            "options": STATES,
            "state_topic": topic,
            "value_template": value_of("state"),
            "json_attributes_topic": topic,
            "availability": [self.while_node_runs()],
        });
        device.add("sensor", &["status"], "Status", options);
    }

    fn add_things(&self, device: &mut Device, camera: &Camera) {
        // The end of a thing is told when its camera has been lost, too.
        let options = json!({
            "state_topic": self.topics.events(&camera.name),
            "event_types": ["start", "update", "end"],
            "value_template": "{{ {'event_type': value_json.type, 'label': value_json.label, \
                               'score': value_json.score, 'id': value_json.id, 'zones': value_json.zones} \
                               | to_json }}",
            "availability": [self.while_node_runs()],
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
        for label in &camera.labels {
            let is_there = format!("value_json.labels.get({}, 0) > 0", quoted(label));
            device.add(
                "binary_sensor",
                &["occupied", label],
                &format!("Occupied by {label}"),
                occupied(&is_there),
            );
        }
        let options = json!({
            "state_class": "measurement",
            "state_topic": topic,
            "value_template": value_of("total"),
        });
        device.add("sensor", &["things"], "Things", options);
    }

    /// A camera that is not watched or not there can be told things all the same; only a picture needs one that is live.
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
            "availability": [self.while_node_runs()],
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
                "min": setting.from,
                "max": setting.to,
                "step": setting.step,
                "mode": "box",
                "availability": [self.while_node_runs()],
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

    /// A diagnostic sensor of a value in the stats.
    fn stats_sensor(&self, mut options: Value, path: &[&str]) -> Value {
        let expiry = self.config.stats.interval * MISSED_STATS;
        options["entity_category"] = "diagnostic".into();
        options["state_topic"] = self.topics.stats().into();
        options["value_template"] = value_at(path).into();
        options["expire_after"] = (expiry.as_secs_f64().ceil() as u64).into();
        options
    }

    fn while_node_runs(&self) -> Value {
        json!({
            "topic": self.topics.node_status(),
            "payload_available": ONLINE,
            "payload_not_available": OFFLINE,
        })
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Inputs, Main, load},
        wire::messages::CameraState,
    };
    use std::collections::BTreeSet;

    /// Two cameras with all that there can be.
    const EVERYTHING: &str = r#"
        node.name = "porch_1"
        stats.interval = "1500ms"
        pictures.publish = true
        homeassistant.discovery = true
        [cameras.yard]
        source = "test://"
        labels = ["cat", "große Katze", 'a "b" }} \ c', "unknown", "cat"]
        regions.gate = {}
        regions.the_lot = {}
        [cameras.1_-2]
        source = "test://"
    "#;

    fn config(toml: &str) -> Config {
        let main = Main::Text { name: "t".into(), text: toml.into() };
        load(&Inputs { main, ..Inputs::default() }).unwrap().config
    }

    fn of(config: &Config, commands: bool) -> BTreeMap<String, Vec<u8>> {
        payloads(config, &Topics::new(config), commands)
    }

    fn json_of(payload: &[u8]) -> Value {
        serde_json::from_slice(payload).unwrap()
    }

    /// All payloads of `EVERYTHING`, by device name.
    fn everything() -> BTreeMap<String, Value> {
        let payloads = of(&config(EVERYTHING), true);
        let named = |payload: &Vec<u8>| {
            let payload = json_of(payload);
            (payload["device"]["name"].as_str().unwrap().to_string(), payload)
        };
        payloads.values().map(named).collect()
    }

    /// The options of a platform of which there must be one at least; and all that it may have.
    fn needed(platform: &str) -> (&'static [&'static str], &'static [&'static str]) {
        match platform {
            "sensor" => (
                &["state_topic"],
                &[
                    "value_template",
                    "device_class",
                    "options",
                    "unit_of_measurement",
                    "state_class",
                    "expire_after",
                    "suggested_display_precision",
                    "json_attributes_topic",
                ],
            ),
            "binary_sensor" => (&["state_topic"], &["value_template", "device_class"]),
            "event" => (&["state_topic", "event_types"], &["value_template"]),
            "image" => (&["image_topic"], &["content_type"]),
            "switch" => (
                &["command_topic", "state_topic"],
                &["payload_on", "payload_off", "state_on", "state_off", "value_template"],
            ),
            "number" => (
                &["command_topic", "min", "max"],
                &["command_template", "state_topic", "value_template", "step", "mode", "unit_of_measurement"],
            ),
            "button" => (&["command_topic", "payload_press"], &[]),
            other => panic!("{other} is no platform"),
        }
    }

    fn is_id(text: &str) -> bool {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    }

    /// All topics that this node has.
    fn known_topics(config: &Config) -> BTreeSet<String> {
        let topics = Topics::new(config);
        let of_camera = |camera: &Camera| {
            let name = camera.name.as_str();
            let regions = camera.regions.iter().map(|region| topics.region(name, &region.name));
            let others = [
                topics.camera_status(name),
                topics.events(name),
                topics.occupancy(name),
                topics.picture(name),
                topics.snapshot(name),
                topics.settings(name),
                topics.command(name),
            ];
            regions.chain(others).collect::<Vec<String>>()
        };
        let node = [topics.node_status(), topics.stats()];
        config.cameras.iter().flat_map(of_camera).chain(node).collect()
    }

    fn check_availability(availability: &Value, topics: &BTreeSet<String>) {
        let entries = availability.as_array().unwrap();
        assert!(!entries.is_empty());
        for entry in entries {
            assert!(topics.contains(entry["topic"].as_str().unwrap()), "{entry}");
            assert_eq!(
                (&entry["payload_available"], &entry["payload_not_available"]),
                (&json!("online"), &json!("offline"))
            );
            let keys = ["topic", "payload_available", "payload_not_available", "value_template"];
            assert!(entry.as_object().unwrap().keys().all(|key| keys.contains(&key.as_str())), "{entry}");
        }
    }

    /// Holds a node's payloads against all that Home Assistant asks of them.
    fn check(config: &Config, payloads: &BTreeMap<String, Vec<u8>>) {
        let topics = known_topics(config);
        let mut unique_ids = BTreeSet::new();
        let mut known_devices = Vec::new();
        for (topic, payload) in payloads {
            let payload = json_of(payload);
            let levels: Vec<&str> = topic.strip_prefix("homeassistant/").unwrap().split('/').collect();
            assert!(matches!(levels[..], ["device", id, "config"] if is_id(id)), "{topic}");

            // One unknown key at the root, and Home Assistant refuses all of it.
            let root: Vec<&String> = payload.as_object().unwrap().keys().collect();
            let mut expected = ["availability", "availability_mode", "components", "device", "origin", "qos"];
            expected.sort_unstable();
            assert_eq!(root, expected);
            assert_eq!(payload["availability_mode"], "all");
            assert_eq!(payload["origin"]["name"], "camfire");
            check_availability(&payload["availability"], &topics);

            let device = &payload["device"];
            let ids = device["identifiers"].as_array().unwrap();
            assert!(ids.len() == 1 && is_id(ids[0].as_str().unwrap()));
            if let Some(via) = device.get("via_device") {
                assert!(known_devices.contains(via), "{via} must be told before {topic}");
            }
            known_devices.push(ids[0].clone());

            for (key, component) in payload["components"].as_object().unwrap() {
                let text = |name: &str| component[name].as_str().unwrap_or_else(|| panic!("{key}: {name}"));
                assert!(is_id(key), "{key}");
                assert!(is_id(text("unique_id")));
                assert!(unique_ids.insert(text("unique_id").to_string()), "{key}");
                let device_name = device["name"].as_str().unwrap().to_lowercase();
                assert!(!text("name").to_lowercase().starts_with(&device_name), "{key}");
                let (must, may) = needed(text("p"));
                assert!(must.iter().all(|option| component.get(option).is_some()), "{key}");
                let common = ["p", "unique_id", "name", "availability", "entity_category"];
                for option in component.as_object().unwrap().keys() {
                    let all = [must, may, &common].concat();
                    assert!(all.contains(&option.as_str()), "{key}: {option} is no option of it");
                    if option.ends_with("_topic") {
                        assert!(topics.contains(text(option)), "{key}: {option}");
                    }
                }
                if let Some(availability) = component.get("availability") {
                    check_availability(availability, &topics);
                }
                // What Home Assistant insists on.
                let is = |name: &str, value: &str| component.get(name).is_some_and(|has| *has == value);
                assert_eq!(is("device_class", "enum"), component.get("options").is_some(), "{key}");
                assert!(!is("device_class", "enum") || component.get("state_class").is_none(), "{key}");
            }
        }
    }

    #[test]
    fn payloads_keep_all_rules() {
        for toml in [EVERYTHING, "homeassistant.discovery = true"] {
            let config = config(toml);
            for commands in [false, true] {
                let payloads = of(&config, commands);
                assert_eq!(payloads.len(), 1 + config.cameras.len());
                check(&config, &payloads);
            }
        }
    }

    #[test]
    fn nothing_is_told_unless_asked_for() {
        assert_eq!(of(&config("[cameras.yard]\nsource = \"test://\""), true), BTreeMap::new());
    }

    #[test]
    fn the_prefix_is_a_choice() {
        let config = config("node.name = \"n\"\nhomeassistant = { discovery = true, prefix = \"a/b\" }");
        assert_eq!(of(&config, true).into_keys().collect::<Vec<_>>(), ["a/b/device/camfire_-n/config"]);
        assert_eq!(birth_topic(&config), "a/b/status");
    }

    #[test]
    fn ids_are_those_of_their_names_alone() {
        assert_eq!(id(&["camfire", "front-door", "a_b"]), "camfire_-front-door_-a__b");
        assert_eq!(id(&["große Katze"]), "gro_c3_9fe_20Katze");
        let lists: &[&[&str]] = &[
            &["a", "b"],
            &["a_b"],
            &["a_-b"],
            &["a_", "b"],
            &["a", "_b"],
            &["a-", "b"],
            &["a", "-b"],
            &["a b"],
            &["a_20b"],
        ];
        let ids: BTreeSet<String> = lists.iter().map(|names| id(names)).collect();
        assert_eq!(ids.len(), lists.len(), "{ids:?}");
    }

    #[test]
    fn a_camera_has_these_entities() {
        let keys = |payload: &Value| -> Vec<String> {
            payload["components"].as_object().unwrap().keys().cloned().collect()
        };
        let everything = everything();
        assert_eq!(
            keys(&everything["camfire (porch_1)"]),
            ["lost", "memory", "uptime", "waiting", "written"]
        );
        assert_eq!(
            keys(&everything["1_-2 (porch_1)"]),
            [
                "analysed__fps",
                "event",
                "latency",
                "motion__threshold",
                "occupied",
                "picture",
                "rate__fps",
                "score",
                "snapshot",
                "status",
                "take__snapshot",
                "things",
                "watching",
            ]
        );
        let yard = keys(&everything["yard (porch_1)"]);
        for key in ["occupied_-cat", "occupied_-gro_c3_9fe_20Katze", "occupied_-unknown", "region_-the__lot"]
        {
            assert!(yard.contains(&key.to_string()), "{yard:?}");
        }
        assert_eq!(yard.iter().filter(|key| key.starts_with("occupied")).count(), 5);

        let quiet =
            config("node.name = \"n\"\nhomeassistant.discovery = true\n[cameras.a]\nsource = \"test://\"");
        let camera = json_of(&of(&quiet, false)["homeassistant/device/camfire_-n_-a/config"]);
        assert_eq!(keys(&camera), ["analysed__fps", "event", "latency", "occupied", "status", "things"]);
    }

    #[test]
    fn templates_are_written_so() {
        let yard = &everything()["yard (porch_1)"]["components"];
        let template = |key: &str| yard[key]["value_template"].as_str().unwrap().to_string();
        assert_eq!(template("occupied"), "{{ 'ON' if value_json.total > 0 else 'OFF' }}");
        assert_eq!(
            template("occupied_-gro_c3_9fe_20Katze"),
            r#"{{ 'ON' if value_json.labels.get("große Katze", 0) > 0 else 'OFF' }}"#
        );
        let odd = id(&["occupied", r#"a "b" }} \ c"#]);
        assert_eq!(
            template(&odd),
            r#"{{ 'ON' if value_json.labels.get("a \"b\" }} \\ c", 0) > 0 else 'OFF' }}"#
        );
        assert_eq!(
            template("latency"),
            r#"{{ ((((value_json["cameras"] | default({}, true))["yard"] | default({}, true))["latency_ms"] | default({}, true))["total"] | default({}, true))["p50"] | default(None) }}"#
        );
        assert_eq!(
            template("event"),
            "{{ {'event_type': value_json.type, 'label': value_json.label, 'score': value_json.score, \
             'id': value_json.id, 'zones': value_json.zones} | to_json }}"
        );
        assert_eq!(yard["rate__fps"]["command_template"], r#"{"do":"set","rate_fps":{{ value }}}"#);
        assert_eq!(yard["latency"]["expire_after"], 5, "three times 1.5 s, rounded up");
    }

    #[test]
    fn what_needs_no_frames_is_available_while_the_node_runs() {
        let everything = everything();
        let camera = &everything["yard (porch_1)"];
        let topics = |availability: &Value| -> Vec<String> {
            let entries = availability.as_array().unwrap();
            entries.iter().map(|entry| entry["topic"].as_str().unwrap().to_string()).collect()
        };
        let node = "camfire/porch_1/status".to_string();
        let both = vec![node.clone(), "camfire/porch_1/yard/status".to_string()];
        assert_eq!(topics(&camera["availability"]), both);
        assert_eq!(
            camera["availability"][1]["value_template"],
            "{{ 'online' if value_json.state == 'live' else 'offline' }}"
        );
        let node_alone = ["status", "event", "watching", "rate__fps", "motion__threshold", "score"];
        for (key, component) in camera["components"].as_object().unwrap() {
            let own = component.get("availability").map(&topics);
            assert_eq!(own, node_alone.contains(&key.as_str()).then(|| vec![node.clone()]), "{key}");
        }
        assert_eq!(topics(&everything["camfire (porch_1)"]["availability"]), [node]);
    }

    #[test]
    fn every_state_of_a_camera_is_an_option() {
        use CameraState::{
            Denied, Ended, Live, Paused, Stalled, Starting, Stopped, Unreachable, Unsupported,
        };
        let all = [Starting, Live, Stalled, Unreachable, Denied, Unsupported, Ended, Paused, Stopped];
        for state in all {
            // A new state must be added above, and to what Home Assistant is told.
            match state {
                Starting | Live | Stalled | Unreachable | Denied | Unsupported | Ended | Paused | Stopped => {
                }
            }
        }
        assert_eq!(json!(all), json!(STATES));
    }

    #[test]
    fn numbers_offer_what_the_configuration_takes() {
        let section = |key: &str| if key == "score" { "objects" } else { "cameras.yard" };
        for Setting { key, from, to, .. } in SETTINGS {
            let takes = |value: f64| {
                let text = format!("cameras.yard.source = \"test://\"\n{}.{key} = {value:?}", section(key));
                load(&Inputs { main: Main::Text { name: "t".into(), text }, ..Inputs::default() }).is_ok()
            };
            assert!(takes(from) && takes(to), "{key}");
            assert!(!takes(to + 0.001), "{key}");
            assert!(!takes(from - 0.011), "{key}");
        }
    }

    #[test]
    fn a_device_that_left_is_emptied() {
        let before = of(&config(EVERYTHING), true);
        assert_eq!(removals(&before, &before), []);
        let without_yard = config(&EVERYTHING.replace("[cameras.yard]", "[cameras.back]"));
        let yard = "homeassistant/device/camfire_-porch__1_-yard/config".to_string();
        assert_eq!(removals(&before, &of(&without_yard, true)), [(yard, Vec::new())]);
        let off = removals(&before, &BTreeMap::new());
        assert!(off.iter().all(|(_, payload)| payload.is_empty()));
        assert_eq!(off.iter().map(|(topic, _)| topic).collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    }

    #[test]
    fn a_component_that_left_is_reduced_to_its_platform() {
        let before = of(&config(EVERYTHING), true);
        let config = config(&EVERYTHING.replace("regions.gate = {}", "").replace("\"unknown\",", ""));
        let now = of(&config, false);
        let removals = removals(&before, &now);
        assert_eq!(removals.len(), 2, "a camera each; nothing of the node left");
        for (topic, payload) in removals {
            let (reduced, now) = (json_of(&payload), json_of(&now[&topic]));
            let mut expected = now.clone();
            let mut gone = vec![
                ("watching", "switch"),
                ("rate__fps", "number"),
                ("motion__threshold", "number"),
                ("score", "number"),
                ("take__snapshot", "button"),
                ("snapshot", "image"),
            ];
            if topic.contains("yard") {
                gone.extend([("region_-gate", "sensor"), ("occupied_-unknown", "binary_sensor")]);
            }
            for (key, platform) in gone {
                assert_eq!(now["components"].get(key), None);
                expected["components"][key] = json!({ "p": platform });
            }
            assert_eq!(reduced, expected);
        }
    }

    #[test]
    fn a_component_of_another_platform_is_removed_first() {
        let payload = |platform: &str| {
            let payload = json!({ "components": { "a": { "p": platform, "name": "A" } } });
            BTreeMap::from([("t".to_string(), payload.to_string().into_bytes())])
        };
        let reduced = json!({ "components": { "a": { "p": "sensor" } } }).to_string().into_bytes();
        assert_eq!(removals(&payload("sensor"), &payload("switch")), [("t".to_string(), reduced)]);
        assert_eq!(removals(&BTreeMap::from([("t".into(), b"{".to_vec())]), &payload("switch")), []);
    }
}
