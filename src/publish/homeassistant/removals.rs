//! What to publish so that devices and entities disappear from Home Assistant.

use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The messages that remove what is announced in `before` but not in `now`, to be published in order before
/// `now`. A removed device gets an empty payload. A device with removed entities gets its new payload, in
/// which each of them is reduced to its platform.
pub fn removals(
    before: &BTreeMap<String, Vec<u8>>,
    now: &BTreeMap<String, Vec<u8>>,
) -> Vec<(String, Vec<u8>)> {
    let removal = |(topic, earlier): (&String, &Vec<u8>)| match now.get(topic) {
        None => Some((topic.clone(), Vec::new())),
        Some(payload) => Some((topic.clone(), with_removed_entities(earlier, payload)?)),
    };
    before.iter().filter_map(removal).collect()
}

/// Returns the payload `now` in which the entities of `before` that it lacks, or that have another platform,
/// are reduced to their earlier platform. None if there are none, or if `before` cannot be parsed.
fn with_removed_entities(before: &[u8], now: &[u8]) -> Option<Vec<u8>> {
    let before: Value = serde_json::from_slice(before).ok()?;
    let mut payload: Value = serde_json::from_slice(now).ok()?;
    let components = payload.get_mut("components")?.as_object_mut()?;
    let mut is_changed = false;
    for (key, component) in before.get("components")?.as_object()? {
        let Some(platform) = component.get("p") else { continue };
        if components.get(key).and_then(|component| component.get("p")) != Some(platform) {
            components.insert(key.clone(), json!({ "p": platform }));
            is_changed = true;
        }
    }
    is_changed.then(|| payload.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{EVERYTHING, announce, config, parse},
        *,
    };

    #[test]
    fn a_removed_device_gets_an_empty_payload() {
        let before = announce(&config(EVERYTHING), true);
        assert_eq!(removals(&before, &before), []);
        let without_yard = config(&EVERYTHING.replace("[cameras.yard]", "[cameras.back]"));
        let yard = "homeassistant/device/camfire_-porch__1_-yard/config".to_string();
        assert_eq!(removals(&before, &announce(&without_yard, true)), [(yard, Vec::new())]);
        let off = removals(&before, &BTreeMap::new());
        assert!(off.iter().all(|(_, payload)| payload.is_empty()));
        assert_eq!(off.iter().map(|(topic, _)| topic).collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    }

    #[test]
    fn a_removed_entity_is_reduced_to_its_platform() {
        let before = announce(&config(EVERYTHING), true);
        let config = config(&EVERYTHING.replace("regions.gate = {}", "").replace("\"unknown\",", ""));
        let now = announce(&config, false);
        let removals = removals(&before, &now);
        assert_eq!(removals.len(), 3, "the node and its cameras");
        for (topic, payload) in removals {
            let (reduced, now) = (parse(&payload), parse(&now[&topic]));
            let mut expected = now.clone();
            let mut removed = vec![
                ("watching", "switch"),
                ("rate__fps", "number"),
                ("motion__threshold", "number"),
                ("score", "number"),
                ("take__snapshot", "button"),
                ("snapshot", "image"),
            ];
            if topic.ends_with("camfire_-porch__1/config") {
                removed = vec![("reload", "button")];
            } else if topic.contains("yard") {
                removed.extend([
                    ("region_-gate", "sensor"),
                    ("occupied_-unknown", "binary_sensor"),
                    ("objects_-unknown", "sensor"),
                ]);
            }
            for (key, platform) in removed {
                assert_eq!(now["components"].get(key), None);
                expected["components"][key] = json!({ "p": platform });
            }
            assert_eq!(reduced, expected);
        }
    }

    #[test]
    fn an_entity_that_changes_its_platform_is_removed_first() {
        let payload = |platform: &str| {
            let payload = json!({ "components": { "a": { "p": platform, "name": "A" } } });
            BTreeMap::from([("t".to_string(), payload.to_string().into_bytes())])
        };
        let reduced = json!({ "components": { "a": { "p": "sensor" } } }).to_string().into_bytes();
        assert_eq!(removals(&payload("sensor"), &payload("switch")), [("t".to_string(), reduced)]);
        assert_eq!(removals(&BTreeMap::from([("t".into(), b"{".to_vec())]), &payload("switch")), []);
    }
}
