//! One track: its state, and what follows from it alone: predicted position, motion, whether it is leaving
//! the image.
//!
//! Lengths are pixels of the upright image, times are on the scene's time line.

use super::Inset;
use crate::vision::{
    label_accumulator::LabelAccumulator,
    motion::{MotionRegion, StationaryObject},
    patch::TemplatePatch,
    rect::Rect,
};
use std::time::Duration;

/// Minimum correlation of a template patch with the image for the object to be there.
pub(super) const MIN_CORRELATION: f32 = 0.6;
/// Maximum time over which a position is predicted. After that the velocity is no longer valid.
pub(super) const MAX_PREDICTION: Duration = Duration::from_secs(1);
/// A track is confirmed only after it has moved by this share of its diagonal. Less may be flicker.
const MIN_DISPLACEMENT: f64 = 0.1;
/// A track within this share of its diagonal is stationary.
const STATIONARY_RADIUS: f64 = 0.12;
/// Time after which a track that stays within [`STATIONARY_RADIUS`] is stationary.
const STATIONARY_AFTER: Duration = Duration::from_secs(2);
/// Minimum outward velocity of a track that leaves the image, as a share of its diagonal per second. A slower
/// one is not the object's own motion.
const MIN_EXIT_SPEED: f64 = 0.1;
/// A track this close to the image's edge touches it, as a share of the image's size.
const EDGE_MARGIN: f64 = 0.01;
/// A track at the edge has left if at least this share of its predicted box is outside the image.
const MIN_OUTSIDE: f64 = 0.6;
/// A track at the edge that moved outwards has left if it is not seen for this long.
const EXIT_AFTER: Duration = Duration::from_millis(600);

/// Why a track ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The object left the image.
    Left,
    /// The object is no longer seen.
    Lost,
    /// The object has not moved for so long that it is part of the scene.
    Settled,
    /// The whole scene changed.
    SceneChanged,
    /// The size of the video changed.
    VideoChanged,
    /// The camera sends no frames any more, or its next frame came much later.
    CameraLost,
    /// The recording ended, or camfire stops.
    Stopped,
    /// camfire was killed while the object was in view. Reported by the next process.
    Interrupted,
}

/// One tracked object.
#[derive(Debug, Clone)]
pub struct Track {
    /// Number of the track within its camera, from 1. Tentative tracks count.
    pub number: u64,
    /// Last known position.
    pub rect: Rect,
    /// Pixels per second, right and down.
    pub velocity: (f64, f64),
    /// When the object was first seen.
    pub first_seen_at: Duration,
    /// When the object was last seen.
    pub seen_at: Duration,
    /// When the position was last known: the object was seen, or it was in the same region as others and
    /// could not be distinguished from them.
    pub located_at: Duration,
    /// The track is no longer tentative.
    pub confirmed: bool,
    /// The object is not stationary.
    pub moving: bool,
    /// The object was seen in the last frame by itself: neither predicted nor merged with others.
    pub isolated: bool,
    /// All classification results of the object.
    pub labels: LabelAccumulator,
    /// When a detector last searched where the object is. None: never.
    pub searched_at: Option<Duration>,
    /// Where the last search found the object in its motion region. None: not found, or not alone.
    pub inset: Option<Inset>,
    /// The object is stationary, and the last frame shows it where it was.
    pub(super) still_present: bool,
    /// The background was learned anew while the object was there.
    pub(super) in_background: bool,
    /// The number of frames in which the track was located.
    pub(super) measurements: u32,
    pub(super) histogram: Vec<f32>,
    /// Appearance when the object was last isolated.
    pub(super) patch: Option<TemplatePatch>,
    first_rect: Rect,
    /// Position from which the object has not moved since, and that time.
    anchor: (Rect, Duration),
}

impl Track {
    /// Starts a tentative track with the region in which it was first seen.
    pub(super) fn new(number: u64, region: &MotionRegion, at: Duration) -> Track {
        Track {
            number,
            rect: region.rect,
            velocity: (0.0, 0.0),
            first_seen_at: at,
            seen_at: at,
            located_at: at,
            confirmed: false,
            moving: true,
            isolated: true,
            labels: LabelAccumulator::default(),
            searched_at: None,
            inset: None,
            still_present: false,
            in_background: false,
            measurements: 1,
            histogram: region.histogram.to_vec(),
            patch: None,
            first_rect: region.rect,
            anchor: (region.rect, at),
        }
    }

    /// Starts a confirmed track with a stationary object that was found without motion. It is part of the
    /// background.
    pub(super) fn found(
        number: u64,
        rect: Rect,
        histogram: &[f32],
        patch: TemplatePatch,
        at: Duration,
    ) -> Track {
        Track {
            number,
            rect,
            velocity: (0.0, 0.0),
            first_seen_at: at,
            seen_at: at,
            located_at: at,
            confirmed: true,
            moving: false,
            isolated: true,
            labels: LabelAccumulator::default(),
            searched_at: Some(at),
            inset: None,
            still_present: true,
            in_background: true,
            measurements: 1,
            histogram: histogram.to_vec(),
            patch: Some(patch),
            first_rect: rect,
            anchor: (rect, at),
        }
    }

    /// Predicts the position at `at` with constant velocity. It may be partly or wholly outside the image.
    pub fn predict(&self, at: Duration) -> Rect {
        let elapsed_s = at.saturating_sub(self.located_at).min(MAX_PREDICTION).as_secs_f64();
        self.rect.moved((self.velocity.0 * elapsed_s, self.velocity.1 * elapsed_s))
    }

    /// The best estimate of the position at `at`: the measured position if there is one, else the predicted
    /// position within `bounds`, else the last known position.
    pub fn estimate(&self, at: Duration, bounds: &Rect) -> Rect {
        let predicted = self.predict(at).intersection(bounds);
        if self.located_at == at || predicted.area() < 1.0 { self.rect } else { predicted }
    }

    /// The track as a stationary object. None if it moves, is tentative, or was never isolated.
    pub(super) fn stationary(&self) -> Option<StationaryObject<'_>> {
        let patch = self.patch.as_ref().filter(|_| self.confirmed && !self.moving)?;
        Some(StationaryObject { patch, in_background: self.in_background })
    }

    /// Whether the velocity has been measured.
    pub(super) fn has_velocity(&self) -> bool {
        self.measurements >= 2
    }

    /// Confirms the track if it has lasted for `min_age` and has moved or has a label.
    pub(super) fn update_confirmed(&mut self, at: Duration, min_age: Duration) {
        let age = at.saturating_sub(self.first_seen_at);
        if !self.confirmed && self.measurements >= 2 && age >= min_age {
            self.confirmed = self.has_been_displaced() || self.labels.label().is_some();
        }
    }

    /// Whether the track has moved since it was first seen.
    fn has_been_displaced(&self) -> bool {
        let ((x, y), (first_x, first_y)) = (self.rect.centre(), self.first_rect.centre());
        let min_displacement = MIN_DISPLACEMENT * self.rect.diagonal().min(self.first_rect.diagonal());
        // The edges count too, because an object that enters the image grows before its centre moves.
        let edges = [
            self.rect.left - self.first_rect.left,
            self.rect.right() - self.first_rect.right(),
            self.rect.top - self.first_rect.top,
            self.rect.bottom() - self.first_rect.bottom(),
        ];
        (x - first_x).hypot(y - first_y) >= min_displacement
            || edges.iter().any(|edge| edge.abs() >= 2.0 * min_displacement)
    }

    /// Updates whether the object moves, from its distance to the position where it last stopped.
    pub(super) fn update_moving(&mut self, at: Duration) {
        let ((x, y), (anchor_x, anchor_y)) = (self.rect.centre(), self.anchor.0.centre());
        if (x - anchor_x).hypot(y - anchor_y) > STATIONARY_RADIUS * self.rect.diagonal() {
            self.anchor = (self.rect, at);
            self.moving = true;
        } else if at.saturating_sub(self.anchor.1) >= STATIONARY_AFTER {
            self.moving = false;
            self.velocity = (0.0, 0.0);
        }
    }

    /// How long the object has been stationary. Zero if it moves.
    pub(super) fn stationary_for(&self, at: Duration) -> Duration {
        if self.moving { Duration::ZERO } else { at.saturating_sub(self.anchor.1) }
    }

    /// Whether the track was on its way out where it was last located, and must have left the image by `at`:
    /// by its velocity most of it is outside, or it moved outwards at the edge and has not been seen for a
    /// while.
    pub(super) fn is_leaving(&self, bounds: &Rect, at: Duration) -> bool {
        let (x, y) = (EDGE_MARGIN * bounds.width, EDGE_MARGIN * bounds.height);
        let (rect, (right, down)) = (&self.rect, self.velocity);
        let min_speed = MIN_EXIT_SPEED * rect.diagonal();
        let edges = [
            (rect.left <= x, -right),
            (rect.top <= y, -down),
            (rect.right() >= bounds.width - x, right),
            (rect.bottom() >= bounds.height - y, down),
        ];
        let touches_edge = edges.iter().any(|(touches, _)| *touches);
        let moves_outwards = edges.iter().any(|(touches, outwards)| *touches && *outwards >= min_speed);
        let visible = self.predict(at).intersection(bounds).area() / rect.area().max(1.0);
        touches_edge && visible < 1.0 - MIN_OUTSIDE
            || moves_outwards && at.saturating_sub(self.located_at) >= EXIT_AFTER
    }
}

/// Velocity from the boxes of two frames that are `elapsed_s` apart, in pixels per second. Where a box
/// touches the image's edge, a part of the object is outside the image, so only the opposite edge of the box
/// counts.
pub(super) fn measure_velocity(before: &Rect, now: &Rect, bounds: &Rect, elapsed_s: f64) -> (f64, f64) {
    let along_axis = |before: (f64, f64), now: (f64, f64), size: f64| {
        let (low, high) = (now.0 - before.0, now.1 - before.1);
        let cut_low = before.0 <= 1.0 || now.0 <= 1.0;
        let cut_high = before.1 >= size - 1.0 || now.1 >= size - 1.0;
        let displacement = match (cut_low, cut_high) {
            (true, false) => high,
            (false, true) => low,
            _ => 0.5 * (low + high),
        };
        displacement / elapsed_s
    };
    (
        along_axis((before.left, before.right()), (now.left, now.right()), bounds.right()),
        along_axis((before.top, before.bottom()), (now.top, now.bottom()), bounds.bottom()),
    )
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A confirmed track in an image of 640 x 360 that was seen at 10 s and not since.
    fn track(rect: Rect, velocity: (f64, f64)) -> Track {
        let at = Duration::from_secs(10);
        Track {
            number: 1,
            rect,
            velocity,
            first_seen_at: Duration::from_secs(5),
            seen_at: at,
            located_at: at,
            confirmed: true,
            moving: true,
            isolated: true,
            labels: LabelAccumulator::default(),
            searched_at: None,
            inset: None,
            still_present: false,
            in_background: false,
            measurements: 9,
            histogram: Vec::new(),
            patch: None,
            first_rect: rect,
            anchor: (rect, at),
        }
    }

    /// A track that was first seen at `at` and was never classified.
    pub fn track_seen_at(number: u64, at: Duration) -> Track {
        let rect = Rect { left: 100.0, top: 100.0, width: 80.0, height: 60.0 };
        Track { number, first_seen_at: at, seen_at: at, ..track(rect, (0.0, 0.0)) }
    }

    const BOUNDS: Rect = Rect { left: 0.0, top: 0.0, width: 640.0, height: 360.0 };

    #[test]
    fn a_track_at_the_edge_has_left_only_if_it_moved_outwards() {
        let at_the_right = Rect { left: 560.0, top: 100.0, width: 80.0, height: 60.0 };
        let is_leaving = |velocity, ms: u64| {
            track(at_the_right, velocity).is_leaving(&BOUNDS, Duration::from_millis(10_000 + ms))
        };
        assert!(is_leaving((50.0, 0.0), 600) && !is_leaving((50.0, 0.0), 400), "slowly outwards");
        assert!(is_leaving((400.0, 0.0), 200), "outside by its velocity");
        for velocity in [(0.0, 0.0), (-50.0, 0.0), (0.0, 50.0), (2.0, 0.0)] {
            assert!(!is_leaving(velocity, 1900), "{velocity:?} does not leave at the right");
        }
        let inside = Rect { left: 300.0, ..at_the_right };
        assert!(!track(inside, (50.0, 0.0)).is_leaving(&BOUNDS, Duration::from_secs(12)));
    }

    #[test]
    fn an_occluded_track_is_estimated_by_its_velocity_within_the_image() {
        let track = track(Rect { left: 100.0, top: 100.0, width: 80.0, height: 60.0 }, (100.0, 0.0));
        let left = |ms: u64| track.estimate(Duration::from_millis(10_000 + ms), &BOUNDS).left;
        assert_eq!((left(0), left(500), left(3000)), (100.0, 150.0, 200.0), "for one second at most");
        let outside = Track { velocity: (-1000.0, 0.0), ..track };
        assert_eq!(
            outside.estimate(Duration::from_secs(12), &BOUNDS),
            outside.rect,
            "a prediction outside the image is not used"
        );
    }
}
