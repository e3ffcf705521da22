//! What the web server shows of the messages: the newest states of each camera, and changes as they come.
//!
//! It listens to the messages that the stages send to the publisher, and is ahead of the broker.

use super::messages::{CameraStatus, Event, Message, Occupancy, Region};
use crate::sync::lock;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use tokio::sync::broadcast;

/// Number of changes that wait for a slow reader. If it falls behind further, it is told that it has missed
/// some.
const CAPACITY: usize = 256;

/// Something has changed.
#[derive(Debug, Clone)]
pub enum Change {
    /// An object started, changed or ended.
    Event(Arc<Event>),
    /// The states or settings of this camera changed.
    Camera(Arc<str>),
    /// There are other cameras, or their configuration has changed.
    Cameras,
}

/// The newest states of a camera.
#[derive(Debug, Clone, Default)]
pub struct CameraStates {
    /// Its status.
    pub status: Option<CameraStatus>,
    /// The objects in view.
    pub occupancy: Option<Occupancy>,
    /// The states of its regions, by name.
    pub regions: BTreeMap<String, Region>,
}

/// The newest states of all cameras, and a channel of changes.
#[derive(Debug)]
pub struct Feed {
    cameras: Mutex<BTreeMap<Arc<str>, CameraStates>>,
    changes: broadcast::Sender<Change>,
}

impl Default for Feed {
    fn default() -> Feed {
        Feed { cameras: Mutex::default(), changes: broadcast::Sender::new(CAPACITY) }
    }
}

impl Feed {
    /// Records what a message changes, and tells all readers.
    pub fn record(&self, message: &Message) {
        let change = match message {
            Message::Event(event) => {
                // Nobody needs the picture, which is large.
                let event = Event { picture: None, ..Event::clone(event) };
                Change::Event(Arc::new(event))
            }
            Message::Camera(status) => self.note(message, |states| states.status = Some(status.clone())),
            Message::Occupancy(occupancy) => {
                self.note(message, |states| states.occupancy = Some(occupancy.clone()))
            }
            Message::Region(region) => self.note(message, |states| {
                states.regions.insert(region.region.clone(), region.clone());
            }),
            _ => return,
        };
        self.announce(change);
    }

    fn note(&self, message: &Message, change: impl FnOnce(&mut CameraStates)) -> Change {
        let camera: Arc<str> = message.camera().cloned().unwrap_or_default();
        change(lock(&self.cameras).entry(camera.clone()).or_default());
        Change::Camera(camera)
    }

    /// Tells all readers of a change.
    pub fn announce(&self, change: Change) {
        // Fails only if nobody reads.
        let _ = self.changes.send(change);
    }

    /// The newest states of a camera.
    pub fn states(&self, camera: &str) -> CameraStates {
        lock(&self.cameras).get(camera).cloned().unwrap_or_default()
    }

    /// Forgets the states of cameras other than these, and tells all readers that the cameras have changed.
    pub fn set_cameras(&self, names: &[&str]) {
        lock(&self.cameras).retain(|name, _| names.contains(&&**name));
        self.announce(Change::Cameras);
    }

    /// All changes from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages::{CameraState, EventType, example_event};
    use jiff::Timestamp;

    #[test]
    fn states_are_kept_and_changes_are_told() {
        let feed = Feed::default();
        let mut changes = feed.subscribe();
        let mut status = CameraStatus::starting("porch".into(), "yard".into(), Timestamp::UNIX_EPOCH);
        feed.record(&Message::Camera(status.clone()));
        status.state = CameraState::Live;
        feed.record(&Message::Camera(status));
        let event = Event { picture: Some(vec![1].into()), ..example_event("7", EventType::Start) };
        feed.record(&Message::Event(event.into()));
        assert_eq!(feed.states("yard").status.unwrap().state, CameraState::Live);
        assert!(matches!(changes.try_recv().unwrap(), Change::Camera(name) if &*name == "yard"));
        assert!(matches!(changes.try_recv().unwrap(), Change::Camera(_)));
        let Change::Event(event) = changes.try_recv().unwrap() else { panic!("an event") };
        assert!(event.id == "7" && event.picture.is_none());
        feed.set_cameras(&["door"]);
        assert!(feed.states("yard").status.is_none());
        assert!(matches!(changes.try_recv().unwrap(), Change::Cameras));
    }

    #[test]
    fn a_slow_reader_is_told_that_it_has_missed_changes() {
        let feed = Feed::default();
        let mut changes = feed.subscribe();
        for _ in 0..CAPACITY + 10 {
            feed.announce(Change::Cameras);
        }
        assert!(matches!(changes.try_recv(), Err(broadcast::error::TryRecvError::Lagged(10))));
        assert!(changes.try_recv().is_ok());
    }
}
