//! Classification of a frame's tracks and of the camera's regions, within the time that a frame has.

use super::{Analysis, Findings, Infer, Scene};
use crate::{
    config,
    error::Error,
    frame::{Frame, Image},
    vision::{label_accumulator::Inference, rect::Rect, tracks::Track},
};
use std::{cmp::Ordering, time::Duration};

/// After inferences of this total weight without a confident label, a track is classified at intervals: it
/// may have no label at all. Inferences on an object that is still entering count little, so that there are
/// enough once it is in view ...
const MAX_CONSECUTIVE_WEIGHT: f32 = 6.0;
/// ... but no more than this number.
const MAX_CONSECUTIVE_INFERENCES: u32 = 14;
/// Factor on the interval of a stationary track with a confident label.
const STATIONARY_INTERVAL_FACTOR: u32 = 6;
/// Divisor of the interval of a moving track without a confident label.
const MOVING_INTERVAL_DIVISOR: u32 = 4;
/// If there are more objects than time, one of so many inferences is on the object that has waited longest.
const LONGEST_WAITING_TURN: u32 = 4;
/// Weight of an inference on an object that is partly outside the image.
const CUT_OFF_WEIGHT: f64 = 0.25;
/// Minimum length of an object's longer side, in pixels, for full weight. Heads are less often right about
/// smaller ones.
const FULL_WEIGHT_SIDE: f64 = 96.0;
/// Weight of an inference on the smallest objects.
const MIN_SIZE_WEIGHT: f64 = 0.25;

impl Scene {
    /// Classifies the tracks that are due, the most urgent ones first, while the classifier has time; at
    /// least one.
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
        let due: Vec<usize> = (0..tracks.len()).filter(is_due).collect();
        let mut queue = Queue::new(tracks, due);
        while let Some(index) = queue.next(&mut self.inference_turn) {
            if analysis.inferences > 0 && !classifier.has_time() {
                break;
            }
            let track = &mut self.tracker.tracks_mut()[index];
            let crop = track.rect.square_within(settings.margin, analysis.size);
            if !classifier.knows(&crop) {
                continue;
            }
            let needs_classes = self.settings.camera.heatmap;
            let findings = Findings::of(classifier, image, &crop, &self.settings.taxonomy, needs_classes)?;
            analysis.inferences += 1;
            let inference = Inference {
                outputs: &findings.outputs,
                classes: findings.classes.as_deref(),
                weight: weight(&track.rect, analysis.size),
                at: now,
            };
            track.labels.add(&inference, &self.settings.taxonomy, settings.score, self.settings.top);
            let best_class = track.labels.top().first().map(|best| best.index);
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
            let taxonomy = &self.settings.taxonomy;
            let findings = Findings::of(classifier, &frame.image, &rect, taxonomy, false)?;
            let scores = taxonomy.scores(&findings.outputs, findings.classes.as_deref());
            analysis.inferences += 1;
            analysis.regions.extend(region.update(index, &scores, taxonomy, now, frame.captured_at));
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
        inferences if inferences < MAX_CONSECUTIVE_INFERENCES && labels.weight() < MAX_CONSECUTIVE_WEIGHT => {
            Duration::ZERO
        }
        _ if track.moving => reclassify_after / MOVING_INTERVAL_DIVISOR,
        _ => reclassify_after,
    };
    now.saturating_sub(labels.inferred_at()) >= interval
}

/// The tracks to classify in a frame: the most urgent ones first, but every [`LONGEST_WAITING_TURN`]th time
/// the one that has waited longest, so that a stream of new objects starves none.
struct Queue {
    /// By urgency, the most urgent one last.
    by_urgency: Vec<usize>,
    /// By waiting time, the longest first.
    by_waiting_time: std::vec::IntoIter<usize>,
}

impl Queue {
    fn new(tracks: &[Track], due: Vec<usize>) -> Queue {
        let (mut urgent, mut waiting) = (due.clone(), due);
        urgent.sort_by(|&a, &b| by_urgency(&tracks[b], &tracks[a]));
        waiting.sort_by_key(|&index| {
            let track = &tracks[index];
            (track.first_seen_at.max(track.labels.inferred_at()), track.number)
        });
        Queue { by_urgency: urgent, by_waiting_time: waiting.into_iter() }
    }

    /// The next track, each once. `turn` counts the calls over all frames.
    fn next(&mut self, turn: &mut u32) -> Option<usize> {
        let is_left = |index: &usize| self.by_urgency.contains(index);
        *turn = (*turn + 1) % LONGEST_WAITING_TURN;
        let next = match *turn {
            0 => self.by_waiting_time.find(is_left),
            _ => self.by_urgency.last().copied(),
        }?;
        self.by_urgency.retain(|index| *index != next);
        Some(next)
    }
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

/// How much an inference on an object counts, by what can be seen of the object.
pub(super) fn weight(rect: &Rect, size: (f64, f64)) -> f32 {
    let by_size = (rect.width.max(rect.height) / FULL_WEIGHT_SIDE).clamp(MIN_SIZE_WEIGHT, 1.0);
    let by_edge = if is_cut_off(rect, size) { CUT_OFF_WEIGHT } else { 1.0 };
    (by_size * by_edge) as f32
}

/// Whether a box touches the edge of the image, so that a part of the object may be outside.
pub(super) fn is_cut_off(rect: &Rect, (width, height): (f64, f64)) -> bool {
    rect.left <= 1.0 || rect.top <= 1.0 || rect.right() >= width - 1.0 || rect.bottom() >= height - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vision::tracks::tests::track_seen_at;

    #[test]
    fn what_can_be_seen_well_counts_most() {
        let weight =
            |left, side| weight(&Rect { left, top: 50.0, width: side / 2.0, height: side }, (640.0, 360.0));
        assert_eq!((weight(100.0, 200.0), weight(100.0, 48.0), weight(100.0, 5.0)), (1.0, 0.5, 0.25));
        assert_eq!(weight(0.0, 200.0), 0.25, "cut off");
    }

    #[test]
    fn new_objects_come_first_and_none_starves() {
        // Three new objects in each frame, and time for two inferences.
        let (mut tracks, mut turn) = (Vec::new(), 0);
        let mut waited = Vec::new();
        for frame in 0..200u64 {
            let at = Duration::from_millis(200 * frame);
            let newest: Vec<u64> = (0..3).map(|index| 3 * frame + index).collect();
            tracks.extend(newest.iter().map(|&number| track_seen_at(number, at)));
            let mut queue = Queue::new(&tracks, (0..tracks.len()).collect());
            let chosen = [(); 2].map(|()| queue.next(&mut turn).unwrap());
            assert!(chosen.iter().any(|&index| newest.contains(&tracks[index].number)), "frame {frame}");
            let numbers: Vec<u64> = chosen.iter().map(|&index| tracks[index].number).collect();
            waited.extend(numbers.iter().map(|number| frame - number / 3));
            tracks.retain(|track: &Track| !numbers.contains(&track.number));
        }
        assert!(waited.iter().filter(|&&frames| frames > 20).count() > 20, "old ones take turns");
        let mut queue = Queue::new(&tracks, vec![3, 1, 2]);
        let mut all: Vec<usize> = std::iter::from_fn(|| queue.next(&mut turn)).collect();
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3], "each once, if there is time for all");
    }
}
