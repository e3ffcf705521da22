//! The states of cameras of which nothing is known yet. They are published before the node is online, so that
//! the states of an earlier process, which the broker has retained, are never taken for current ones.

use super::messages::{CameraStatus, Header, Message, Occupancy, Picture, Region, ZoneOccupancy};
use crate::config::{Camera, UNKNOWN};
use jiff::Timestamp;
use std::{collections::BTreeMap, sync::Arc};

/// What is retained on the topics of pictures before there is one.
pub struct Pictures {
    /// JPEG file.
    pub placeholder: Arc<[u8]>,
    /// Whether pictures of events are published.
    pub has_events: bool,
    /// Whether snapshots can be requested.
    pub has_snapshots: bool,
}

/// The states of one camera at `at`, before it is opened: nothing is in view, all regions are unknown, and
/// there are no pictures.
pub fn camera_states(node: &Arc<str>, camera: &Camera, pictures: &Pictures, at: Timestamp) -> Vec<Message> {
    let name: Arc<str> = camera.name.as_str().into();
    let header = || Header::new(node.clone(), Some(name.clone()));
    let zones = camera.zones.keys().map(|zone| (zone.clone(), ZoneOccupancy::default())).collect();
    let occupancy =
        Message::Occupancy(Occupancy { header: header(), at, total: 0, labels: BTreeMap::new(), zones });
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
    let picture = || Picture { camera: name.clone(), jpeg: pictures.placeholder.clone() };
    let event = pictures.has_events.then(|| Message::Picture(picture()));
    let snapshot = pictures.has_snapshots.then(|| Message::Snapshot(picture()));
    std::iter::once(occupancy).chain(regions).chain([status]).chain(event).chain(snapshot).collect()
}
