//! What is worth telling of a track: that a thing has come, that something about it changed, that it has gone. Pure.

use super::{rect::Rect, tracks::EndReason};
use crate::config::polygon::Polygon;
use fastrand::Rng;
use jiff::Timestamp;
use std::time::Duration;
use uuid::Uuid;

/// Something about a thing.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The same in all events of a thing; sorts by the time of the first one.
    pub id: Uuid,
    /// What happened.
    pub kind: EventKind,
    /// When: the time of the picture that showed it.
    pub at: Timestamp,
    /// When the thing was first seen.
    pub started_at: Timestamp,
    /// When it was last seen.
    pub seen_at: Timestamp,
    /// From the one to the other, on the scene's own time line: the time of day may be set meanwhile.
    pub lasted: Duration,
    /// The group that it seems to be.
    pub label: Option<usize>,
    /// Mean score of that group, or of the best one, 0 to 1.
    pub score: f32,
    /// Where it is, or was last seen.
    pub rect: Rect,
    /// Width and height of the picture.
    pub size: (f64, f64),
    /// It does not stand still.
    pub moving: bool,
    /// The zones it is in, and all that it has been in, by their place among the camera's.
    pub zones: Vec<usize>,
    /// See `zones`.
    pub visited: Vec<usize>,
    /// Its best moment so far.
    pub best: Sighting,
}

/// What happened to a thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// It has come.
    Start,
    /// These have changed.
    Update(Vec<ChangedField>),
    /// It has gone.
    End(EndReason),
}

/// What can change about a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangedField {
    /// What it seems to be.
    Label,
    /// Which zones it is in.
    Zones,
    /// Whether it stands still.
    Moving,
}

/// How a thing was seen once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sighting {
    /// When.
    pub at: Timestamp,
    /// The same on the scene's own time line.
    pub time: Duration,
    /// Where.
    pub rect: Rect,
    /// How well, for comparison with other moments.
    pub quality: f64,
}

/// Makes ids: the time in milliseconds, then random bits (UUID version 7), from a seed that only one camera of one run has.
#[derive(Debug)]
pub struct EventIds(Rng);

impl EventIds {
    /// From a seed.
    pub fn new(seed: u64) -> EventIds {
        EventIds(Rng::with_seed(seed))
    }

    /// The id of a thing that was first seen at `at`.
    pub fn next(&mut self, at: Timestamp) -> Uuid {
        let mut random = [0; 10];
        self.0.fill(&mut random);
        let ms = u64::try_from(at.as_millisecond()).unwrap_or_default();
        uuid::Builder::from_unix_timestamp_millis(ms, &random).into_uuid()
    }
}

/// Which of a camera's zones a thing is in: where it stands, in the middle of its lower edge. A zone is entered and left
/// when two pictures in a row say so, for things sway.
#[derive(Debug, Clone, Default)]
pub struct ZoneTracker {
    /// Those it is in.
    pub inside: Vec<usize>,
    /// Those it has been in, in the order in which it entered them.
    pub visited: Vec<usize>,
    before: Vec<usize>,
}

impl ZoneTracker {
    /// Looks where a thing is; true if it has entered or left a zone.
    pub fn look(&mut self, zones: &[(String, Polygon)], rect: &Rect, (width, height): (f64, f64)) -> bool {
        let point = (rect.centre().0 / width, (rect.bottom() / height).min(1.0 - 1e-6));
        let now: Vec<usize> = (0..zones.len()).filter(|&zone| zones[zone].1.contains(point)).collect();
        let mut inside = self.inside.clone();
        for zone in 0..zones.len() {
            let (is, was) = (now.contains(&zone), self.before.contains(&zone));
            if is && was && !inside.contains(&zone) {
                inside.push(zone);
                if !self.visited.contains(&zone) {
                    self.visited.push(zone);
                }
            }
            if !is && !was {
                inside.retain(|&other| other != zone);
            }
        }
        inside.sort_unstable();
        self.before = now;
        let changed = inside != self.inside;
        self.inside = inside;
        changed
    }

    /// Believes the last look alone, for when nothing was told yet.
    pub fn begin(&mut self) {
        self.inside.clone_from(&self.before);
        for zone in &self.inside {
            if !self.visited.contains(zone) {
                self.visited.push(*zone);
            }
        }
    }
}

/// A better moment must be so much better, and so much later than the one before it: each costs a picture.
const BETTER: f64 = 1.15;
const PAUSE: Duration = Duration::from_millis(800);

impl Sighting {
    /// Whether `other` is worth taking in its place.
    pub fn gives_way_to(&self, other: &Sighting) -> bool {
        let passed = other.time.saturating_sub(self.time);
        other.quality > BETTER * self.quality && passed >= PAUSE
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
    fn a_zone_is_entered_and_left_when_two_pictures_say_so() {
        let zones = vec![("left".to_string(), Polygon(vec![(0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)]))];
        let mut watch = ZoneTracker::default();
        let mut look = |left: f64| {
            let changed =
                watch.look(&zones, &Rect { left, top: 10.0, width: 10.0, height: 20.0 }, (100.0, 50.0));
            (changed, watch.inside.len(), watch.visited.len())
        };
        assert_eq!(look(60.0), (false, 0, 0));
        assert_eq!(look(40.0), (false, 0, 0));
        assert_eq!(look(60.0), (false, 0, 0));
        assert_eq!(look(30.0), (false, 0, 0));
        assert_eq!(look(20.0), (true, 1, 1));
        assert_eq!(look(60.0), (false, 1, 1));
        assert_eq!(look(70.0), (true, 0, 1));
    }

    #[test]
    fn what_is_in_a_zone_from_the_first_look_on_can_be_told_so() {
        let zones = vec![("all".to_string(), Polygon(vec![(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]))];
        let mut watch = ZoneTracker::default();
        let rect = Rect { left: 10.0, top: 10.0, width: 10.0, height: 20.0 };
        assert!(!watch.look(&zones, &rect, (100.0, 50.0)));
        watch.begin();
        assert_eq!((&watch.inside[..], &watch.visited[..]), (&[0][..], &[0][..]));
        assert!(!watch.look(&zones, &rect, (100.0, 50.0)), "that is no news");
    }

    #[test]
    fn a_better_moment_is_so_by_the_scenes_time_whatever_the_time_of_day_does() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let moment = |at, ms, quality| Sighting {
            at,
            time: Duration::from_millis(ms),
            rect: Rect::default(),
            quality,
        };
        let first = moment(at("2026-01-01T12:00:00Z"), 0, 1.0);
        assert!(first.gives_way_to(&moment(at("2026-01-01T11:00:00Z"), 1000, 2.0)), "set back by an hour");
        assert!(!first.gives_way_to(&moment(at("2026-01-01T13:00:00Z"), 200, 2.0)), "set on by an hour");
        assert!(!first.gives_way_to(&moment(at("2026-01-01T12:00:01Z"), 1000, 1.1)));
    }
}
