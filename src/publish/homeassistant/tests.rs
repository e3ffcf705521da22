//! Checks all payloads against what Home Assistant requires of them.

use super::{
    entities::{SETTINGS, STATES, Setting},
    ids::id,
    *,
};
use crate::{
    config::{Camera, Inputs, Main, load},
    wire::messages::CameraState,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Two cameras with all kinds of entities.
pub(super) const EVERYTHING: &str = r#"
    node.name = "porch_1"
    stats.interval = "1500ms"
    pictures.publish = true
    homeassistant.discovery = true
    [cameras.yard]
    source = "test://"
    labels = ["cat", "große Katze", 'a "b" }} \ c', "unknown", "cat"]
    regions.gate = {}
    regions.the_lot = { labels = ["cat"] }
    zones.drive = [[0, 0], [1, 0], [1, 1]]
    area = "Garden"
    view_every = "5s"
    [cameras.1_-2]
    source = "test://"
"#;

pub(super) fn config(toml: &str) -> Config {
    let main = Main::Text { name: "t".into(), text: toml.into() };
    load(&Inputs { main, ..Inputs::default() }).unwrap().config
}

pub(super) fn announce(config: &Config, commands: bool) -> BTreeMap<String, Vec<u8>> {
    let labels = ["animal", "cat", "chair"].map(str::to_string);
    let labels = LabelNames { default: &labels[..2], all: &labels };
    payloads(config, &Topics::new(config), commands, labels)
}

pub(super) fn parse(payload: &[u8]) -> Value {
    serde_json::from_slice(payload).unwrap()
}

/// All payloads of `EVERYTHING`, by device name.
fn everything() -> BTreeMap<String, Value> {
    let payloads = announce(&config(EVERYTHING), true);
    let named = |payload: &Vec<u8>| {
        let payload = parse(payload);
        (payload["device"]["name"].as_str().unwrap().to_string(), payload)
    };
    payloads.values().map(named).collect()
}

/// The options that a platform requires, and the other ones that it may have.
fn platform_options(platform: &str) -> (&'static [&'static str], &'static [&'static str]) {
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
                "json_attributes_template",
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
        "camera" => (&["topic"], &[]),
        other => panic!("{other} is not a platform"),
    }
}

fn is_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

/// All topics of the node.
fn known_topics(config: &Config) -> BTreeSet<String> {
    let topics = Topics::new(config);
    let of_camera = |camera: &Camera| {
        let name = camera.name.as_str();
        let regions = camera.regions.iter().map(|region| topics.region(name, &region.name));
        let others = [
            topics.camera_status(name),
            topics.live_events(name),
            topics.occupancy(name),
            topics.picture(name),
            topics.view(name),
            topics.snapshot(name),
            topics.settings(name),
            topics.command(name),
        ];
        regions.chain(others).collect::<Vec<String>>()
    };
    let node = [topics.node_status(), topics.stats(), topics.node_command()];
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

/// Checks a node's payloads against the rules of Home Assistant.
fn check(config: &Config, payloads: &BTreeMap<String, Vec<u8>>) {
    let topics = known_topics(config);
    let mut unique_ids = BTreeSet::new();
    let mut known_devices = Vec::new();
    for (topic, payload) in payloads {
        let payload = parse(payload);
        let levels: Vec<&str> = topic.strip_prefix("homeassistant/").unwrap().split('/').collect();
        assert!(matches!(levels[..], ["device", id, "config"] if is_id(id)), "{topic}");

        // Home Assistant rejects the whole payload for one unknown key at the root.
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
            assert!(known_devices.contains(via), "{via} must be announced before {topic}");
        }
        known_devices.push(ids[0].clone());

        for (key, component) in payload["components"].as_object().unwrap() {
            let text = |name: &str| component[name].as_str().unwrap_or_else(|| panic!("{key}: {name}"));
            assert!(is_id(key), "{key}");
            assert!(is_id(text("unique_id")));
            assert!(unique_ids.insert(text("unique_id").to_string()), "{key}");
            let device_name = device["name"].as_str().unwrap().to_lowercase();
            assert!(!text("name").to_lowercase().starts_with(&device_name), "{key}");
            let (required, optional) = platform_options(text("p"));
            assert!(required.iter().all(|option| component.get(option).is_some()), "{key}");
            let common = ["p", "unique_id", "name", "icon", "availability", "entity_category"];
            for option in component.as_object().unwrap().keys() {
                let all = [required, optional, &common].concat();
                assert!(all.contains(&option.as_str()), "{key}: unknown option {option}");
                if option.ends_with("topic") {
                    assert!(topics.contains(text(option)), "{key}: {option}");
                }
            }
            if let Some(availability) = component.get("availability") {
                check_availability(availability, &topics);
            }
            // Home Assistant rejects other combinations.
            let is = |name: &str, value: &str| component.get(name).is_some_and(|found| *found == value);
            assert_eq!(is("device_class", "enum"), component.get("options").is_some(), "{key}");
            assert!(!is("device_class", "enum") || component.get("state_class").is_none(), "{key}");
        }
    }
}

#[test]
fn payloads_follow_the_rules_of_home_assistant() {
    for toml in [EVERYTHING, "homeassistant.discovery = true"] {
        let config = config(toml);
        for commands in [false, true] {
            let payloads = announce(&config, commands);
            assert_eq!(payloads.len(), 1 + config.cameras.len());
            check(&config, &payloads);
        }
    }
}

#[test]
fn nothing_is_announced_if_discovery_is_off() {
    assert_eq!(announce(&config("[cameras.yard]\nsource = \"test://\""), true), BTreeMap::new());
}

#[test]
fn topics_start_with_the_configured_prefix() {
    let config = config("node.name = \"n\"\nhomeassistant = { discovery = true, prefix = \"a/b\" }");
    assert_eq!(announce(&config, true).into_keys().collect::<Vec<_>>(), ["a/b/device/camfire_-n/config"]);
    assert_eq!(birth_topic(&config), "a/b/status");
}

#[test]
fn nodes_and_cameras_have_these_entities() {
    let keys = |payload: &Value| -> Vec<String> {
        payload["components"].as_object().unwrap().keys().cloned().collect()
    };
    let everything = everything();
    assert_eq!(
        keys(&everything["camfire (porch_1)"]),
        ["lost", "memory", "reload", "started", "waiting", "written"]
    );
    assert_eq!(
        keys(&everything["1_-2 (porch_1)"]),
        [
            "analysed__fps",
            "event",
            "latency",
            "motion__threshold",
            "objects",
            "objects_-animal",
            "objects_-cat",
            "occupied",
            "occupied_-animal",
            "occupied_-cat",
            "picture",
            "rate__fps",
            "score",
            "snapshot",
            "status",
            "take__snapshot",
            "watching",
        ]
    );
    let yard = keys(&everything["yard (porch_1)"]);
    for key in [
        "occupied_-cat",
        "occupied_-gro_c3_9fe_20Katze",
        "occupied_-unknown",
        "region_-the__lot",
        "occupied__zone_-drive",
        "objects__in__zone_-drive",
        "view",
    ] {
        assert!(yard.contains(&key.to_string()), "{yard:?}");
    }
    assert_eq!(yard.iter().filter(|key| key.starts_with("occupied_-")).count(), 4);
    let components = &everything["yard (porch_1)"]["components"];
    assert_eq!(components["region_-the__lot"]["options"], json!(["cat", "unknown"]));
    assert_eq!(components["region_-gate"]["options"], json!(["animal", "cat", "chair", "unknown"]));
    assert_eq!(everything["yard (porch_1)"]["device"]["suggested_area"], "Garden");

    let minimal =
        config("node.name = \"n\"\nhomeassistant.discovery = true\n[cameras.a]\nsource = \"test://\"");
    let camera = parse(&announce(&minimal, false)["homeassistant/device/camfire_-n_-a/config"]);
    assert_eq!(
        keys(&camera),
        [
            "analysed__fps",
            "event",
            "latency",
            "objects",
            "objects_-animal",
            "objects_-cat",
            "occupied",
            "occupied_-animal",
            "occupied_-cat",
            "status"
        ]
    );
}

#[test]
fn templates_read_the_json_fields() {
    let yard = &everything()["yard (porch_1)"]["components"];
    let template = |key: &str| yard[key]["value_template"].as_str().unwrap().to_string();
    assert_eq!(template("occupied"), "{{ 'ON' if value_json.total > 0 else 'OFF' }}");
    assert_eq!(
        template("occupied_-gro_c3_9fe_20Katze"),
        r#"{{ 'ON' if value_json.labels.get("große Katze", 0) > 0 else 'OFF' }}"#
    );
    let special = id(&["occupied", r#"a "b" }} \ c"#]);
    assert_eq!(
        template(&special),
        r#"{{ 'ON' if value_json.labels.get("a \"b\" }} \\ c", 0) > 0 else 'OFF' }}"#
    );
    assert_eq!(
        template("latency"),
        r#"{{ ((((value_json["cameras"] | default({}, true))["yard"] | default({}, true))["latency_ms"] | default({}, true))["total"] | default({}, true))["p50"] | default(None) }}"#
    );
    assert_eq!(yard["rate__fps"]["command_template"], r#"{"do":"set","rate_fps":{{ value }}}"#);
    assert_eq!(yard["latency"]["expire_after"], 5, "three times 1.5 s, rounded up");
}

#[test]
fn entities_that_need_no_frames_are_available_while_the_node_is_online() {
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
    let need_no_frames =
        ["status", "event", "watching", "rate__fps", "motion__threshold", "score", "picture", "snapshot"];
    for (key, component) in camera["components"].as_object().unwrap() {
        let own = component.get("availability").map(&topics);
        assert_eq!(own, need_no_frames.contains(&key.as_str()).then(|| vec![node.clone()]), "{key}");
    }
    assert_eq!(topics(&everything["camfire (porch_1)"]["availability"]), [node]);
}

#[test]
fn every_camera_state_is_an_option_of_the_status() {
    use CameraState::{Denied, Ended, Live, Paused, Stalled, Starting, Stopped, Unreachable, Unsupported};
    let all = [Starting, Live, Stalled, Unreachable, Denied, Unsupported, Ended, Paused, Stopped];
    for state in all {
        // The match fails to compile for a new state, which must be added to `all` and to `STATES`.
        match state {
            Starting | Live | Stalled | Unreachable | Denied | Unsupported | Ended | Paused | Stopped => {}
        }
    }
    assert_eq!(json!(all), json!(STATES));
}

#[test]
fn numbers_have_the_ranges_of_the_configuration() {
    let section = |key: &str| if key == "score" { "objects" } else { "cameras.yard" };
    for Setting { key, min, max, .. } in SETTINGS {
        let is_valid = |value: f64| {
            let text = format!("cameras.yard.source = \"test://\"\n{}.{key} = {value:?}", section(key));
            load(&Inputs { main: Main::Text { name: "t".into(), text }, ..Inputs::default() }).is_ok()
        };
        assert!(is_valid(min) && is_valid(max), "{key}");
        assert!(!is_valid(max + 0.001), "{key}");
        assert!(!is_valid(min - 0.011), "{key}");
    }
}

#[test]
fn devices_and_events_lead_to_the_page_if_it_has_an_address() {
    let with =
        format!("web = {{ listen = '127.0.0.1:80', public_url = 'http://localhost/cam' }}\n{EVERYTHING}");
    let template = |payload: &Value| payload["components"]["event"]["value_template"].to_string();
    for payload in announce(&config(&with), true).values().map(|payload| parse(payload)) {
        let name = payload["device"]["name"].as_str().unwrap();
        let expected = match name.split(' ').next().unwrap() {
            "camfire" => "http://localhost/cam/#/node".to_string(),
            camera => format!("http://localhost/cam/#/cameras/{camera}"),
        };
        assert_eq!(payload["device"]["configuration_url"], expected);
        assert_eq!(template(&payload).contains("'links': value_json.links"), !name.starts_with("camfire"));
    }
    for (_, payload) in everything() {
        assert!(
            payload["device"].get("configuration_url").is_none() && !template(&payload).contains("links")
        );
        assert!(!template(&payload).contains("FURTHER"));
    }
}
