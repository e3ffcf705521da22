//! Classification of a frame's tracks and of the camera's regions, within the limit of inferences per frame.

use super::{Analysis, Infer, Scene};
use crate::{
    config,
    error::Error,
    frame::{Frame, Image},
    vision::{head, rect::Rect, tracks::Track},
};
use std::{cmp::Ordering, time::Duration};

/// After this many inferences without a confident label, a track is classified at intervals: it may have no
/// label at all.
const MAX_CONSECUTIVE_INFERENCES: u32 = 8;
/// Factor on the interval of a stationary track with a confident label.
const STATIONARY_INTERVAL_FACTOR: u32 = 6;
/// Divisor of the interval of a moving track without a confident label.
const MOVING_INTERVAL_DIVISOR: u32 = 4;
/// Weight of an inference on an object that is partly outside the image.
const CUT_OFF_WEIGHT: f32 = 0.25;

impl Scene {
    /// Classifies the tracks that are due, the most urgent ones first, up to the limit of inferences per
    /// frame.
    pub(super) fn classify_tracks(
        &mut self,
        image: &Image,
        classifier: &mut dyn Infer,
        analysis: &mut Analysis,
    ) -> Result<(), Error> {
        let settings = &self.settings.objects;
        let now = self.now;
        let tracks = self.tracker.tracks();
        let is_due = |&index: &usize| is_due(&tracks[index], now, settings.reclassify_after);
        let mut due: Vec<usize> = (0..tracks.len()).filter(is_due).collect();
        due.sort_by(|&a, &b| by_urgency(&tracks[a], &tracks[b]));
        for index in due.into_iter().take(settings.max_inferences_per_frame) {
            let track = &mut self.tracker.tracks_mut()[index];
            let crop = track.rect.square_within(settings.margin, analysis.size);
            let classes = classifier.infer(image, &crop)?;
            analysis.inferences += 1;
            let groups = self.settings.groups.scores(classes);
            let top = head::top(classes, self.settings.top);
            let weight = if is_cut_off(&track.rect, analysis.size) { CUT_OFF_WEIGHT } else { 1.0 };
            let best_class = top.first().map(|best| best.index);
            track.labels.add(&groups, top, weight, now, settings.score);
            if self.settings.camera.heatmap
                && let Some(heatmap) = best_class.and_then(|class| classifier.heatmap(class))
            {
                self.heatmaps.insert(track.number, heatmap);
            }
        }
        Ok(())
    }

    /// Moves the heatmaps of reported tracks to the analysis. Drops those of tracks that are gone.
    pub(super) fn report_heatmaps(&mut self, analysis: &mut Analysis) {
        let (track_states, tracks) = (&self.track_states, self.tracker.tracks());
        for (number, heatmap) in std::mem::take(&mut self.heatmaps) {
            match track_states.get(&number) {
                Some(state) if state.is_reported => analysis.heatmaps.push((state.id, heatmap)),
                // The track may be reported later.
                _ if tracks.iter().any(|track| track.number == number) => {
                    self.heatmaps.insert(number, heatmap);
                }
                _ => {}
            }
        }
    }

    /// Classifies the regions that are due.
    pub(super) fn classify_regions(
        &mut self,
        frame: &Frame,
        classifier: &mut dyn Infer,
        analysis: &mut Analysis,
    ) -> Result<(), Error> {
        let (frame_width, frame_height) = analysis.size;
        let now = self.now;
        for (index, region) in self.regions.iter_mut().enumerate().filter(|(_, region)| region.is_due(now)) {
            let config::Region { left, top, width, height, .. } = *region.settings();
            let rect = Rect {
                left: left * frame_width,
                top: top * frame_height,
                width: width * frame_width,
                height: height * frame_height,
            };
            let groups = &self.settings.groups;
            let scores = groups.scores(classifier.infer(&frame.image, &rect)?);
            analysis.inferences += 1;
            analysis.regions.extend(region.update(index, &scores, groups, now, frame.captured_at));
        }
        Ok(())
    }
}

/// Whether a track needs an inference in the frame of time `now`.
fn is_due(track: &Track, now: Duration, reclassify_after: Duration) -> bool {
    if !track.isolated || track.seen_at != now {
        return false;
    }
    let labels = &track.labels;
    let interval = match labels.inferences() {
        0 => return true,
        _ if labels.is_confident() && !track.moving => STATIONARY_INTERVAL_FACTOR * reclassify_after,
        _ if labels.is_confident() => reclassify_after,
        inferences if inferences < MAX_CONSECUTIVE_INFERENCES => Duration::ZERO,
        _ if track.moving => reclassify_after / MOVING_INTERVAL_DIVISOR,
        _ => reclassify_after,
    };
    now.saturating_sub(labels.inferred_at()) >= interval
}

/// Order of classification: first tracks that were never classified, newest first, then the others by score,
/// lowest first.
fn by_urgency(a: &Track, b: &Track) -> Ordering {
    let was_classified = |track: &Track| track.labels.inferences() > 0;
    let order = was_classified(a).cmp(&was_classified(b)).then_with(|| {
        if was_classified(a) {
            a.labels.score().total_cmp(&b.labels.score())
        } else {
            b.number.cmp(&a.number)
        }
    });
    order.then(a.number.cmp(&b.number))
}

/// Whether a box touches the edge of the image, so that a part of the object may be outside.
pub(super) fn is_cut_off(rect: &Rect, (width, height): (f64, f64)) -> bool {
    rect.left <= 1.0 || rect.top <= 1.0 || rect.right() >= width - 1.0 || rect.bottom() >= height - 1.0
}
