//! What a viewer of a camera is shown: all tracks, also those that are not reported, with the reason, and the
//! cells in which something moves.

use super::{Object, Scene};
use crate::vision::{motion::MovingCells, rect::Rect, tracks::Track};
use std::time::Duration;
use uuid::Uuid;

/// Maximum number of runs of moving cells. A scene that changes as a whole has more, and shows nothing
/// useful.
const MAX_RUNS: usize = 2000;
/// Maximum number of tracks, oldest first.
const MAX_TRACKS: usize = 200;

/// The analysis as it is after a frame.
#[derive(Debug)]
pub struct SceneView {
    /// The tracks, in the order in which they began.
    pub tracks: Vec<TrackView>,
    /// The cells in which something moves.
    pub motion: MovingCells,
}

/// One track.
#[derive(Debug)]
pub struct TrackView {
    /// The track as an object of the detections. Before it is confirmed, its id is nil.
    pub object: Object,
    /// Number of the track within the camera.
    pub number: u64,
    /// Why it has no events. None if it has.
    pub unreported: Option<Unreported>,
}

/// Why a track has no events.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unreported {
    /// It has not been seen long enough, or has not moved enough.
    Tentative {
        /// How long it has been seen.
        seen: Duration,
        /// `objects.confirm`.
        required: Duration,
    },
    /// Its label is not certain enough.
    NoLabel {
        /// `objects.score`, or what a command has set.
        required: f32,
    },
    /// Its label is not among the camera's `labels`.
    NotListed,
    /// It waits for a name.
    Waiting {
        /// `objects.name_within`.
        at_most: Duration,
    },
}

impl Scene {
    /// The analysis as it is after the last frame.
    pub fn view(&self) -> SceneView {
        let (width, height) = self.size;
        let bounds = Rect::from_edges(0.0, 0.0, width, height);
        let view = |track: &Track| {
            let id = self.track_states.get(&track.number).map_or(Uuid::nil(), |state| state.id);
            let object = Object::new(track, id, self.now, &bounds);
            TrackView { object, number: track.number, unreported: self.unreported(track) }
        };
        let tracks = self.tracker.tracks().iter().take(MAX_TRACKS).map(view).collect();
        SceneView { tracks, motion: self.motion.moving_cells(MAX_RUNS) }
    }

    /// Why a track has no events. None if it has.
    fn unreported(&self, track: &Track) -> Option<Unreported> {
        let objects = &self.settings.objects;
        let Some(state) = self.track_states.get(&track.number) else {
            let seen = track.seen_at.saturating_sub(track.first_seen_at);
            return Some(Unreported::Tentative { seen, required: objects.confirm });
        };
        let label = track.labels.label();
        if state.is_reported {
            None
        } else if state.is_waiting {
            Some(Unreported::Waiting { at_most: objects.name_within })
        } else if label.is_none() {
            Some(Unreported::NoLabel { required: objects.score })
        } else {
            Some(Unreported::NotListed)
        }
    }
}
