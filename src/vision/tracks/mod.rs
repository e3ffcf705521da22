//! Multi-object tracking: which motion region of a frame shows which object of the previous frame.
//!
//! Each frame, the tracker predicts every track's position at constant velocity and associates tracks with
//! motion regions ([`association`]). A track without a region is occluded or gone. A region without a track
//! starts a new track. A new track is tentative until it has lasted for a while and has moved.
//!
//! A stationary object is compared with its template patch. As long as it looks the same it is still present,
//! whatever moves around it. The background does not learn the cells that a confirmed track covers. If the
//! background had to be learned anew with the object in it, the track continues in the same way.

mod association;
mod inset;
mod track;

#[cfg(test)]
pub use self::track::tests;
pub use self::{
    inset::Inset,
    track::{EndReason, Track},
};

use self::{association::Association, track::MIN_CORRELATION};
use super::{
    motion::{MotionDetector, MotionRegion, MotionResult, StationaryObject},
    rect::Rect,
};
use crate::{config, frame::Image};
use std::time::Duration;

/// Search radius for an occluded track around its predicted position, as a share of its diagonal.
const SEARCH_RADIUS: f64 = 0.25;
/// Weight of a newly measured velocity against the previous one.
const VELOCITY_GAIN: f64 = 0.5;
/// Weight of a newly measured histogram against the previous one.
const HISTOGRAM_GAIN: f32 = 0.3;
/// A tentative track that is not seen for this long is discarded.
const TENTATIVE_LOST_AFTER: Duration = Duration::from_millis(1200);

/// All tracks of one camera.
#[derive(Debug)]
pub struct Tracker {
    settings: config::Objects,
    tracks: Vec<Track>,
    next_number: u64,
}

/// Result of one update of the tracker.
#[derive(Debug, Default)]
pub struct TrackerUpdate {
    /// The confirmed tracks that ended, with the reason.
    pub ended: Vec<(Track, EndReason)>,
}

/// The frame that an update works on.
struct Observation<'a> {
    motion: &'a MotionResult,
    image: &'a Image,
    /// The upright image.
    bounds: Rect,
    at: Duration,
}

impl Tracker {
    /// Creates a tracker without tracks.
    pub fn new(settings: config::Objects) -> Tracker {
        Tracker { settings, tracks: Vec::new(), next_number: 1 }
    }

    /// All tracks, tentative ones included, in the order in which they started.
    pub fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    /// Like [`Tracker::tracks`], to add classification results.
    pub fn tracks_mut(&mut self) -> &mut [Track] {
        &mut self.tracks
    }

    /// The stationary objects, for [`MotionDetector::detect`].
    pub fn stationary(&self) -> Vec<StationaryObject<'_>> {
        self.tracks.iter().filter_map(Track::stationary).collect()
    }

    /// Ends all tracks. Returns the confirmed ones.
    pub fn end_all(&mut self, reason: EndReason) -> Vec<(Track, EndReason)> {
        self.tracks.drain(..).filter(|track| track.confirmed).map(|track| (track, reason)).collect()
    }

    /// Starts a track with an object that was found without motion in the image of time `at`, to which the
    /// detector's last image belongs. Returns the track.
    pub fn add_found(
        &mut self,
        rect: Rect,
        detector: &MotionDetector,
        image: &Image,
        at: Duration,
    ) -> &mut Track {
        let (histogram, patch) = (detector.histogram(&rect, image), detector.patch(&rect, image));
        self.tracks.push(Track::found(self.next_number, rect, &histogram, patch, at));
        self.next_number += 1;
        self.tracks.last_mut().expect("one was added")
    }

    /// Updates the tracks with the motion detected in the image of time `at`. Then lets the detector learn
    /// the background from that image.
    pub fn update(
        &mut self,
        motion: &MotionResult,
        detector: &mut MotionDetector,
        image: &Image,
        at: Duration,
    ) -> TrackerUpdate {
        let frame = Observation { motion, image, bounds: Rect::whole(image), at };
        let mut update = TrackerUpdate::default();
        if motion.relearned {
            self.keep_unchanged(detector, &mut update);
        }
        self.update_still_present(&frame);
        let predicted: Vec<Rect> =
            self.tracks.iter().map(|track| track.predict(at).intersection(&frame.bounds)).collect();
        let association = Association::new(&self.tracks, &predicted, &motion.regions, at);
        for (index, predicted) in predicted.iter().enumerate() {
            self.locate(index, predicted, &frame, &association, detector);
        }
        self.end_or_keep(&frame, &association, detector, &mut update);
        let unexplained =
            motion.regions.iter().zip(&association.tracks_of).filter(|(_, tracks)| tracks.is_empty());
        for (region, _) in unexplained.filter(|_| !motion.settling) {
            self.tracks.push(Track::new(self.next_number, region, at));
            self.next_number += 1;
        }
        update
    }

    /// After the background was learned anew: a stationary track continues if it still looks the same,
    /// because it is now in the background. The other tracks end.
    fn keep_unchanged(&mut self, detector: &MotionDetector, update: &mut TrackerUpdate) {
        for mut track in std::mem::take(&mut self.tracks) {
            let is_unchanged =
                track.patch.as_ref().is_some_and(|patch| detector.correlation(patch) >= MIN_CORRELATION);
            if track.confirmed && !track.moving && is_unchanged {
                track.in_background = true;
                self.tracks.push(track);
            } else if track.confirmed {
                update.ended.push((track, EndReason::SceneChanged));
            }
        }
    }

    /// Marks the stationary tracks that the motion detector found where they were.
    fn update_still_present(&mut self, frame: &Observation<'_>) {
        let mut still_present = frame.motion.still_present.iter();
        for track in &mut self.tracks {
            track.still_present = track.stationary().is_some() && still_present.next().is_some_and(|is| *is);
            if track.still_present {
                (track.seen_at, track.located_at, track.isolated) = (frame.at, frame.at, true);
            }
        }
    }

    /// Moves a track to where it was found. Leaves it where it was if it was not.
    fn locate(
        &mut self,
        index: usize,
        predicted: &Rect,
        frame: &Observation<'_>,
        association: &Association,
        detector: &MotionDetector,
    ) {
        // Tentative tracks in the same region do not count.
        let is_merged = association.tracks_of.iter().any(|tracks| {
            tracks.contains(&index)
                && tracks.iter().any(|&other| other != index && self.tracks[other].confirmed)
        });
        let track = &mut self.tracks[index];
        if track.still_present {
            return;
        }
        track.isolated = false;
        let own = &association.regions_of[index];
        if is_merged {
            track.locate_merged(predicted, frame, detector);
        } else if !own.is_empty() {
            track.measure(own, frame, detector);
            track.update_confirmed(frame.at, self.settings.confirm);
        }
    }

    /// Ends the tracks that are gone or have become part of the scene. Then the background learns from the
    /// image, except where a confirmed track covers it.
    fn end_or_keep(
        &mut self,
        frame: &Observation<'_>,
        association: &Association,
        detector: &mut MotionDetector,
        update: &mut TrackerUpdate,
    ) {
        let regions = &frame.motion.regions;
        let mut covered = vec![false; regions.len()];
        for (index, mut track) in std::mem::take(&mut self.tracks).into_iter().enumerate() {
            let is_located = track.located_at == frame.at;
            let mut end_reason = None;
            if is_located {
                track.update_moving(frame.at);
                let own =
                    || (0..regions.len()).filter(|&region| association.tracks_of[region].contains(&index));
                if self.is_part_of_scene(&track, frame.at) {
                    own().for_each(|region| detector.absorb(&regions[region]));
                    if let Some(patch) = track.patch.as_ref().filter(|_| track.still_present) {
                        detector.absorb_patch(patch);
                    }
                    end_reason = Some(EndReason::Settled);
                } else if track.confirmed {
                    own().for_each(|region| covered[region] = true);
                }
            } else {
                end_reason = self.loss_reason(&track, frame);
            }
            match end_reason {
                None => self.tracks.push(track),
                Some(reason) if track.confirmed => update.ended.push((track, reason)),
                // A tentative track leaves no trace.
                Some(_) => {}
            }
        }
        let covered = regions.iter().zip(covered).filter(|(_, covered)| *covered);
        detector.learn(covered.map(|(region, _)| region));
    }

    /// Whether a track belongs to the scene: it has been tentative for a long time, because it appeared
    /// without moving and has no label, or it has not moved for a very long time.
    fn is_part_of_scene(&self, track: &Track, at: Duration) -> bool {
        if track.confirmed {
            track.stationary_for(at) >= self.settings.settled_after
        } else {
            at.saturating_sub(track.first_seen_at) >= self.settings.absorb_after
        }
    }

    /// Why a track that was not located ends now. None if it may still reappear.
    fn loss_reason(&self, track: &Track, frame: &Observation<'_>) -> Option<EndReason> {
        if track.is_leaving(&frame.bounds, frame.at) {
            return Some(EndReason::Left);
        }
        let max_gap = if track.confirmed { self.settings.lost_after } else { TENTATIVE_LOST_AFTER };
        (frame.at.saturating_sub(track.located_at) >= max_gap).then_some(EndReason::Lost)
    }
}

impl Track {
    /// Locates a track whose region contains other tracks: its size is known from before, its position comes
    /// from its template patch, or else from the prediction.
    fn locate_merged(&mut self, predicted: &Rect, frame: &Observation<'_>, detector: &MotionDetector) {
        let found = self
            .patch
            .as_ref()
            .map(|patch| detector.find(patch, predicted, SEARCH_RADIUS * predicted.diagonal(), frame.image));
        self.rect = *predicted;
        if let Some((offset, correlation)) = found
            && correlation >= MIN_CORRELATION
        {
            self.rect = predicted.moved(offset);
            self.seen_at = frame.at;
        }
        self.located_at = frame.at;
        self.measurements += 1;
    }

    /// Measures a track's position, velocity and appearance from its own regions.
    fn measure(&mut self, own: &[usize], frame: &Observation<'_>, detector: &MotionDetector) {
        let regions = || own.iter().map(|&region| &frame.motion.regions[region]);
        let Some(rect) = regions().map(|region| region.rect).reduce(|a, b| a.union(&b)) else { return };
        let elapsed_s = frame.at.saturating_sub(self.located_at).as_secs_f64();
        if elapsed_s > 0.0 {
            let gain = if self.has_velocity() { VELOCITY_GAIN } else { 1.0 };
            let velocity = track::measure_velocity(&self.rect, &rect, &frame.bounds, elapsed_s);
            self.velocity.0 += gain * (velocity.0 - self.velocity.0);
            self.velocity.1 += gain * (velocity.1 - self.velocity.1);
        }
        self.rect = rect;
        (self.seen_at, self.located_at) = (frame.at, frame.at);
        self.measurements += 1;
        (self.isolated, self.in_background) = (true, false);
        let by_area = |a: &&MotionRegion, b: &&MotionRegion| a.rect.area().total_cmp(&b.rect.area());
        if let Some(largest) = regions().max_by(by_area) {
            for (mean, measured) in self.histogram.iter_mut().zip(&largest.histogram) {
                *mean += HISTOGRAM_GAIN * (measured - *mean);
            }
        }
        self.patch = Some(detector.patch(&self.rect, frame.image));
    }
}
