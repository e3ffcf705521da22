//! The states of cameras of which nothing is known yet. They are published before the node is online, so that
//! the states of an earlier process, which the broker has retained, are never taken for current ones.

use super::messages::{CameraStatus, Header, Message, Occupancy, Region};
use crate::config::{Camera, UNKNOWN};
use jiff::Timestamp;
use std::{collections::BTreeMap, sync::Arc};

/// The states of one camera at `at`, before it is opened: nothing is in view, and all regions are unknown.
pub fn camera_states(node: &Arc<str>, camera: &Camera, at: Timestamp) -> Vec<Message> {
    let name: Arc<str> = camera.name.as_str().into();
    let header = || Header::new(node.clone(), Some(name.clone()));
    let occupancy = Message::Occupancy(Occupancy { header: header(), at, total: 0, labels: BTreeMap::new() });
    let region = |region: &str| {
        Message::Region(Region {
            header: header(),
            region: region.to_string(),
            state: UNKNOWN.into(),
            score: 0.0,
            since: at,
            at,
        })
    };
    let regions = camera.regions.iter().map(|settings| region(&settings.name));
    let status = Message::Camera(CameraStatus::starting(node.clone(), name.clone(), at));
    std::iter::once(occupancy).chain(regions).chain([status]).collect()
}
