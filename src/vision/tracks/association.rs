//! Data association: which motion regions belong to which tracks.
//!
//! Tracks and regions are first assigned one to one so that the sum of their affinities is the largest.
//! Affinity combines distance, overlap and brightness. Two cases remain. A region within a track's predicted
//! box is a fragment of that track. A track whose predicted box lies within another track's region is merged
//! with it: one object is in front of the other.

use super::{Track, track::MAX_PREDICTION};
use crate::vision::{assignment::max_weight_assignment, motion::MotionRegion, rect::Rect};
use std::time::Duration;

/// Gating distance between a track's predicted box and a region, in mean diagonals of the two.
const GATE_DISTANCE: f64 = 0.7;
/// Gating distance of a track whose velocity is not known.
const GATE_DISTANCE_WITHOUT_VELOCITY: f64 = 1.2;
/// If one box contains this share of the other, the gating distance does not apply.
const MIN_GATE_CONTAINMENT: f64 = 0.5;
/// Minimum area of a region, as a share of the area of a confirmed track.
const MIN_AREA_RATIO: f64 = 0.2;
/// Minimum share of a region within a track's box for it to be a fragment, and of a track's box within a
/// region for it to be merged.
const MIN_CONTAINMENT: f64 = 0.5;
/// Margin around a track's box for its fragments, as a share of its size.
const FRAGMENT_MARGIN: f64 = 0.1;
/// The same for a stationary track. What extends beyond it was not there before; it is mostly a shadow.
const STATIONARY_FRAGMENT_MARGIN: f64 = 0.3;
/// Affinities are multiplied by this and truncated to integers for the assignment.
const AFFINITY_RESOLUTION: f64 = 1e4;

/// Which motion regions belong to which tracks, by index.
pub(super) struct Association {
    /// For each track, its own regions.
    pub regions_of: Vec<Vec<usize>>,
    /// For each region, all tracks that are in it.
    pub tracks_of: Vec<Vec<usize>>,
}

impl Association {
    /// Associates tracks, given their predicted boxes, with the regions found at `at`.
    pub fn new(tracks: &[Track], predicted: &[Rect], regions: &[MotionRegion], at: Duration) -> Association {
        let mut association = Association {
            regions_of: vec![Vec::new(); tracks.len()],
            tracks_of: vec![Vec::new(); regions.len()],
        };
        association.assign(tracks, predicted, regions, at);
        association.add_fragments(tracks, predicted, regions);
        association.add_merged_tracks(tracks, predicted, regions);
        association
    }

    /// Assigns tracks and regions one to one.
    fn assign(&mut self, tracks: &[Track], predicted: &[Rect], regions: &[MotionRegion], at: Duration) {
        if tracks.is_empty() || regions.is_empty() {
            return;
        }
        // One more column of weight 0 for each track: no region.
        let columns = regions.len() + tracks.len();
        let weight = |row: usize, column: usize| match regions.get(column) {
            Some(region) => {
                (AFFINITY_RESOLUTION * affinity(&tracks[row], &predicted[row], region, at)) as i64
            }
            None => 0,
        };
        let weights: Vec<Vec<i64>> =
            (0..tracks.len()).map(|row| (0..columns).map(|column| weight(row, column)).collect()).collect();
        for (track, region) in max_weight_assignment(&weights).into_iter().enumerate() {
            if region < regions.len() && weights[track][region] > 0 {
                self.regions_of[track].push(region);
                self.tracks_of[region].push(track);
            }
        }
    }

    /// Gives each unassigned region to the track that contains most of it.
    fn add_fragments(&mut self, tracks: &[Track], predicted: &[Rect], regions: &[MotionRegion]) {
        for (index, region) in regions.iter().enumerate() {
            if !self.tracks_of[index].is_empty() {
                continue;
            }
            let containment = |track: &usize| {
                let is_still = tracks[*track].still_present;
                let margin = if is_still { STATIONARY_FRAGMENT_MARGIN } else { FRAGMENT_MARGIN };
                region.rect.share_in(&predicted[*track].expanded(margin))
            };
            let may_have_fragments =
                |track: &usize| tracks[*track].confirmed || !self.regions_of[*track].is_empty();
            let owner = (0..tracks.len())
                .filter(|track| may_have_fragments(track) && containment(track) >= MIN_CONTAINMENT)
                .max_by(|a, b| containment(a).total_cmp(&containment(b)).then(b.cmp(a)));
            if let Some(track) = owner {
                self.regions_of[track].push(index);
                self.tracks_of[index].push(track);
            }
        }
    }

    /// Adds each confirmed track without a region to the associated region that contains most of it.
    fn add_merged_tracks(&mut self, tracks: &[Track], predicted: &[Rect], regions: &[MotionRegion]) {
        for (index, track) in tracks.iter().enumerate() {
            if !self.regions_of[index].is_empty() || !track.confirmed || track.still_present {
                continue;
            }
            let containment = |region: &usize| predicted[index].share_in(&regions[*region].rect);
            let host = (0..regions.len())
                .filter(|region| {
                    !self.tracks_of[*region].is_empty() && containment(region) >= MIN_CONTAINMENT
                })
                .max_by(|a, b| containment(a).total_cmp(&containment(b)).then(b.cmp(a)));
            if let Some(region) = host {
                self.tracks_of[region].push(index);
            }
        }
    }
}

/// How well a region matches a track: 0 if not at all, larger if better.
fn affinity(track: &Track, predicted: &Rect, region: &MotionRegion, at: Duration) -> f64 {
    if track.still_present {
        return 0.0;
    }
    let mean_diagonal = 0.5 * (predicted.diagonal() + region.rect.diagonal());
    let ((x, y), (region_x, region_y)) = (predicted.centre(), region.rect.centre());
    let distance = (x - region_x).hypot(y - region_y) / mean_diagonal.max(1.0);
    let overlap = predicted.iou(&region.rect);
    let containment = predicted.share_in(&region.rect).max(region.rect.share_in(predicted));
    let is_prediction_old = at.saturating_sub(track.located_at) > MAX_PREDICTION;
    let gate = if track.has_velocity() && !is_prediction_old {
        GATE_DISTANCE
    } else {
        GATE_DISTANCE_WITHOUT_VELOCITY
    };
    if distance > gate && containment < MIN_GATE_CONTAINMENT {
        return 0.0;
    }
    // A much smaller region is not the track, unless the rest of the track is outside the image.
    let area_ratio = region.rect.area() / predicted.area().max(1.0);
    if track.confirmed && area_ratio < MIN_AREA_RATIO && predicted.area() > 0.9 * track.rect.area() {
        return 0.0;
    }
    let proximity = (1.0 - distance / gate).max(0.0);
    let similarity: f32 =
        track.histogram.iter().zip(&region.histogram).map(|(ours, theirs)| ours.min(*theirs)).sum();
    // Confirmed tracks have priority over tentative ones.
    let priority = if track.confirmed { 0.2 } else { 0.0 };
    0.05 + proximity + overlap + 0.3 * containment + 0.4 * f64::from(similarity) + priority
}
