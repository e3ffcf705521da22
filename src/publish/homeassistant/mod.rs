//! Home Assistant's device-based MQTT discovery: the payloads that announce this node and its cameras as
//! devices. Pure; `docs/homeassistant.md` describes them for users.
//!
//! There is one device for the node and one per camera, linked by `via_device`. Each is announced by one
//! retained payload. The node's payload must be sent first, because Home Assistant rejects a camera whose
//! node is not announced yet; the order of the topics ensures that.
//!
//! Ids should not change: with another unique id an entity is a new one, without the history of the old one.
//! They are derived from names alone.

mod device;
mod discovery;
mod entities;
mod ids;
mod removals;
mod templates;

pub use self::{discovery::Discovery, entities::LabelNames};

use self::{device::Device, entities::Entities};
use crate::{config::Config, wire::topics::Topics};
use std::collections::BTreeMap;

/// Discovery topics and their retained payloads. Empty if discovery is off. `commands`: whether cameras
/// accept commands. `labels`: those of the model.
fn payloads(
    config: &Config,
    topics: &Topics,
    commands: bool,
    labels: LabelNames<'_>,
) -> BTreeMap<String, Vec<u8>> {
    if !config.homeassistant.discovery {
        return BTreeMap::new();
    }
    let entities = Entities { config, topics, labels, commands };
    let cameras = config.cameras.iter().map(|camera| entities.camera(camera));
    let announced = |device: Device| (topic(config, &device.id), device.payload());
    std::iter::once(entities.node()).chain(cameras).map(announced).collect()
}

/// Topic on which Home Assistant publishes `online` when it has started and needs all announcements again.
fn birth_topic(config: &Config) -> String {
    format!("{}/status", config.homeassistant.prefix)
}

fn topic(config: &Config, device: &str) -> String {
    format!("{}/device/{device}/config", config.homeassistant.prefix)
}

#[cfg(test)]
mod tests;
