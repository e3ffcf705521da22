//! Events of an object: it started, something about it changed, it ended. Also zones, event ids and the best
//! sighting.

use super::{rect::Rect, tracks::EndReason};
use crate::config::polygon::Polygon;
use fastrand::Rng;
use jiff::Timestamp;
use std::time::Duration;
use uuid::Uuid;

/// An event of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The same in all events of an object. Ids sort by the start time.
    pub id: Uuid,
    /// What happened.
    pub kind: EventKind,
    /// Capture time of the frame that caused the event.
    pub at: Timestamp,
    /// When the object was first seen.
    pub started_at: Timestamp,
    /// When the object was last seen.
    pub seen_at: Timestamp,
    /// Time from the first to the last sighting, on the scene's time line, because the time of day may be set
    /// meanwhile.
    pub duration: Duration,
    /// The object's label.
    pub label: Option<usize>,
    /// The class that is a finer name for it.
    pub finer_class: Option<usize>,
    /// Mean score of the label, or of the best one if there is none, 0 to 1.
    pub score: f32,
    /// Position, or the last known one.
    pub rect: Rect,
    /// Width and height of the upright frame.
    pub size: (f64, f64),
    /// The object is not stationary.
    pub moving: bool,
    /// The zones that the object is in, by their index among the camera's zones.
    pub zones: Vec<usize>,
    /// All zones that the object has entered so far, by their index, in the order of entry.
    pub visited: Vec<usize>,
    /// The best sighting so far.
    pub best: Sighting,
    /// Where the middle of its lower edge has been, oldest first. Empty except in ends.
    pub path: Vec<(f64, f64)>,
}

/// The kind of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// The object was first reported.
    Start,
    /// These fields have changed.
    Update(Vec<ChangedField>),
    /// The object is no longer tracked.
    End(EndReason),
}

/// A field of an object whose change is an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangedField {
    /// The label.
    Label,
    /// The finer name.
    SubLabel,
    /// The zones that the object is in.
    Zones,
    /// Whether the object moves.
    Moving,
}

/// An object as seen in one frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sighting {
    /// Capture time.
    pub at: Timestamp,
    /// The same on the scene's time line.
    pub scene_time: Duration,
    /// Position.
    pub rect: Rect,
    /// Picture quality: large, whole, isolated and recognised objects rank highest. In pixels, weighted.
    pub quality: f64,
}

/// Generates event ids: UUIDs of version 7, of a time in milliseconds and of random bits. The random bits
/// follow from a seed that differs between cameras and between runs.
#[derive(Debug)]
pub struct EventIds(Rng);

impl EventIds {
    /// Creates a generator. The same seed gives the same ids.
    pub fn new(seed: u64) -> EventIds {
        EventIds(Rng::with_seed(seed))
    }

    /// Returns the next id, of an object that was first seen at `at`.
    pub fn next(&mut self, at: Timestamp) -> Uuid {
        let mut random = [0; 10];
        self.0.fill(&mut random);
        let ms = u64::try_from(at.as_millisecond()).unwrap_or_default();
        uuid::Builder::from_unix_timestamp_millis(ms, &random).into_uuid()
    }
}

/// Tracks which of a camera's zones an object is in. The centre of the lower edge of its box counts, because
/// that is where it touches the ground. A zone is entered or left after two frames in a row, because boxes
/// fluctuate.
#[derive(Debug, Clone, Default)]
pub struct ZoneTracker {
    /// The zones that the object is in, by index, sorted.
    pub inside: Vec<usize>,
    /// The zones that the object has entered so far, in the order of entry.
    pub visited: Vec<usize>,
    /// The zones around the object's position in the last frame.
    current: Vec<usize>,
}

impl ZoneTracker {
    /// Updates the zones from the object's box in a frame of the given size. Returns true if a zone was
    /// entered or left.
    pub fn update(&mut self, zones: &[(String, Polygon)], rect: &Rect, (width, height): (f64, f64)) -> bool {
        let point = (rect.centre().0 / width, (rect.bottom() / height).min(1.0 - 1e-6));
        let current: Vec<usize> = (0..zones.len()).filter(|&zone| zones[zone].1.contains(point)).collect();
        let mut inside = self.inside.clone();
        for zone in 0..zones.len() {
            let (is_in, was_in) = (current.contains(&zone), self.current.contains(&zone));
            if is_in && was_in && !inside.contains(&zone) {
                inside.push(zone);
                if !self.visited.contains(&zone) {
                    self.visited.push(zone);
                }
            }
            if !is_in && !was_in {
                inside.retain(|&other| other != zone);
            }
        }
        inside.sort_unstable();
        self.current = current;
        let changed = inside != self.inside;
        self.inside = inside;
        changed
    }

    /// Enters the zones of the last frame at once, because a start event names the zones that the object is
    /// in.
    pub fn enter_current(&mut self) {
        self.inside.clone_from(&self.current);
        for zone in &self.inside {
            if !self.visited.contains(zone) {
                self.visited.push(*zone);
            }
        }
    }
}

/// A sighting must be better than the best one by this factor, because each new best sighting costs a
/// picture.
const MIN_IMPROVEMENT: f64 = 1.15;
/// Minimum time between two best sightings.
const MIN_INTERVAL: Duration = Duration::from_millis(800);

impl Sighting {
    /// Whether `other` should replace this sighting as the best one.
    pub fn is_surpassed_by(&self, other: &Sighting) -> bool {
        let elapsed = other.scene_time.saturating_sub(self.scene_time);
        other.quality > MIN_IMPROVEMENT * self.quality && elapsed >= MIN_INTERVAL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_and_repeat_with_their_seed() {
        let at = |ms: i64| Timestamp::from_millisecond(1_790_000_000_000 + ms).unwrap();
        let (mut ids, mut again, mut other) = (EventIds::new(7), EventIds::new(7), EventIds::new(8));
        let list: Vec<Uuid> = (0..50).map(|i| ids.next(at(10 * i))).collect();
        assert!(list.is_sorted_by_key(Uuid::to_string));
        assert_eq!(list[0], again.next(at(0)));
        assert_ne!(list[0], other.next(at(0)));
        assert_eq!(list[0].get_version_num(), 7);
        ids.next("1960-01-01T00:00:00Z".parse().unwrap());
    }

    #[test]
    fn a_zone_is_entered_and_left_after_two_frames_in_a_row() {
        let zones = vec![("left".to_string(), Polygon(vec![(0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)]))];
        let mut zone_tracker = ZoneTracker::default();
        let mut update = |left: f64| {
            let changed = zone_tracker.update(
                &zones,
                &Rect { left, top: 10.0, width: 10.0, height: 20.0 },
                (100.0, 50.0),
            );
            (changed, zone_tracker.inside.len(), zone_tracker.visited.len())
        };
        assert_eq!(update(60.0), (false, 0, 0));
        assert_eq!(update(40.0), (false, 0, 0));
        assert_eq!(update(60.0), (false, 0, 0));
        assert_eq!(update(30.0), (false, 0, 0));
        assert_eq!(update(20.0), (true, 1, 1));
        assert_eq!(update(60.0), (false, 1, 1));
        assert_eq!(update(70.0), (true, 0, 1));
    }

    #[test]
    fn a_zone_can_be_entered_with_the_first_frame() {
        let zones = vec![("all".to_string(), Polygon(vec![(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]))];
        let mut zone_tracker = ZoneTracker::default();
        let rect = Rect { left: 10.0, top: 10.0, width: 10.0, height: 20.0 };
        assert!(!zone_tracker.update(&zones, &rect, (100.0, 50.0)));
        zone_tracker.enter_current();
        assert_eq!((&zone_tracker.inside[..], &zone_tracker.visited[..]), (&[0][..], &[0][..]));
        assert!(!zone_tracker.update(&zones, &rect, (100.0, 50.0)), "no change");
    }

    #[test]
    fn the_best_sighting_is_replaced_by_the_scenes_time_not_by_the_time_of_day() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let sighting = |at, ms, quality| Sighting {
            at,
            scene_time: Duration::from_millis(ms),
            rect: Rect::default(),
            quality,
        };
        let first = sighting(at("2026-01-01T12:00:00Z"), 0, 1.0);
        assert!(
            first.is_surpassed_by(&sighting(at("2026-01-01T11:00:00Z"), 1000, 2.0)),
            "set back by an hour"
        );
        assert!(
            !first.is_surpassed_by(&sighting(at("2026-01-01T13:00:00Z"), 200, 2.0)),
            "set forward by an hour"
        );
        assert!(!first.is_surpassed_by(&sighting(at("2026-01-01T12:00:01Z"), 1000, 1.1)));
    }
}
