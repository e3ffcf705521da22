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
    /// An inference was made on it.
    pub is_classified: bool,
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

impl Unreported {
    /// The reason in words, given the track's label and score.
    pub fn to_words(self, label: &str, score: f32) -> String {
        match self {
            Unreported::Tentative { seen, required } if seen < required => {
                format!(
                    "seen for {:.1} s of {:.1} s (objects.confirm)",
                    seen.as_secs_f64(),
                    required.as_secs_f64()
                )
            }
            Unreported::Tentative { .. } => "has not moved far enough yet".to_string(),
            Unreported::NoLabel { required } => {
                format!("no label is certain enough: {score:.2} of {required:.2} (score)")
            }
            Unreported::NotListed => format!("'{label}' is not in the camera's labels"),
            Unreported::Waiting { at_most } => {
                format!("waits for a name, at most {:.1} s (objects.name_within)", at_most.as_secs_f64())
            }
        }
    }
}

impl Scene {
    /// The analysis as it is after the last frame.
    pub fn view(&self) -> SceneView {
        SceneView { tracks: self.view_tracks().collect(), motion: self.motion.moving_cells(MAX_RUNS) }
    }

    /// The tracks as they are after the last frame, in the order in which they began.
    pub fn view_tracks(&self) -> impl Iterator<Item = TrackView> {
        let (width, height) = self.size;
        let bounds = Rect::from_edges(0.0, 0.0, width, height);
        let view = move |track: &Track| {
            let id = self.track_states.get(&track.number).map_or(Uuid::nil(), |state| state.id);
            TrackView {
                object: Object::new(track, id, self.now, &bounds),
                number: track.number,
                is_classified: track.labels.inferences() > 0,
                unreported: self.unreported(track),
            }
        };
        self.tracker.tracks().iter().take(MAX_TRACKS).map(view)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_names_its_setting() {
        let ms = Duration::from_millis;
        let text = |unreported: Unreported| unreported.to_words("cat", 0.312);
        let tentative = |seen| text(Unreported::Tentative { seen: ms(seen), required: ms(200) });
        assert_eq!(tentative(100), "seen for 0.1 s of 0.2 s (objects.confirm)");
        assert_eq!(tentative(300), "has not moved far enough yet");
        let no_label = text(Unreported::NoLabel { required: 0.4 });
        assert_eq!(no_label, "no label is certain enough: 0.31 of 0.40 (score)");
        assert_eq!(text(Unreported::NotListed), "'cat' is not in the camera's labels");
        let waiting = text(Unreported::Waiting { at_most: ms(1500) });
        assert_eq!(waiting, "waits for a name, at most 1.5 s (objects.name_within)");
    }
}
