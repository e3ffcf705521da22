//! One device of Home Assistant and its discovery payload.

use super::ids::{SEPARATOR, id};
use serde_json::{Map, Value, json};

/// A device with its entities.
pub(super) struct Device {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) model: &'static str,
    /// Id of the device that this one is connected through.
    pub(super) via: Option<String>,
    /// Suggested area of the house.
    pub(super) area: Option<String>,
    /// Address of its view on the page.
    pub(super) page: Option<String>,
    /// Availability of all entities that have no availability of their own.
    pub(super) availability: Value,
    /// The entities, by id within the device.
    pub(super) components: Map<String, Value>,
}

impl Device {
    /// Adds an entity. `key` is its id within the device; `options` are those of the platform.
    pub(super) fn add(&mut self, platform: &str, key: &[&str], name: &str, mut options: Value) {
        let key = id(key);
        options["p"] = platform.into();
        options["unique_id"] = format!("{}{SEPARATOR}{key}", self.id).into();
        options["name"] = name.into();
        self.components.insert(key, options);
    }

    /// The discovery payload.
    pub(super) fn payload(self) -> Vec<u8> {
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
        if let Some(area) = self.area {
            device["suggested_area"] = area.into();
        }
        if let Some(page) = self.page {
            device["configuration_url"] = page.into();
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
