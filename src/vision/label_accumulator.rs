//! The label of an object from all its inferences, not only from the last one.

use super::head::Score;
use std::time::Duration;

/// Hysteresis: an established label is kept down to this share of the minimum score ...
const KEEP_FACTOR: f32 = 0.7;
/// ... and is replaced only by a label whose score is higher by this much.
const REPLACE_MARGIN: f32 = 0.1;
/// Minimum number of inferences for a confident label.
const MIN_CONFIDENT_INFERENCES: u32 = 3;
/// A confident label's score is above the minimum score by this much, but need not exceed
/// [`MAX_CONFIDENT_SCORE`].
const CONFIDENT_MARGIN: f32 = 0.15;
/// See [`CONFIDENT_MARGIN`].
const MAX_CONFIDENT_SCORE: f32 = 0.9;

/// The accumulated inferences of one object.
#[derive(Debug, Clone, Default)]
pub struct LabelAccumulator {
    /// Weighted sum of the scores, by group.
    sums: Vec<f32>,
    weight: f32,
    inferences: u32,
    inferred_at: Duration,
    label: Option<usize>,
    confident: bool,
    top: Vec<Score>,
}

impl LabelAccumulator {
    /// Adds an inference of time `at`: the groups' scores, the best classes, and its weight (0 to 1).
    /// `min_score` is the mean score that a label needs.
    pub fn add(&mut self, groups: &[f32], top: Vec<Score>, weight: f32, at: Duration, min_score: f32) {
        self.sums.resize(groups.len(), 0.0);
        for (sum, score) in self.sums.iter_mut().zip(groups) {
            *sum += weight * score;
        }
        self.weight += weight;
        self.inferences += 1;
        self.inferred_at = at;
        self.top = top;
        let score = |group: usize| self.sums[group] / self.weight;
        // The first one, if several are equal.
        let best =
            (0..groups.len()).reduce(|best, group| if score(group) > score(best) { group } else { best });
        let kept = self.label.filter(|&label| score(label) >= KEEP_FACTOR * min_score);
        self.label = match (kept, best) {
            (Some(label), Some(best))
                if score(best) >= min_score && score(best) > score(label) + REPLACE_MARGIN =>
            {
                Some(best)
            }
            (Some(label), _) => Some(label),
            (None, Some(best)) if score(best) >= min_score => Some(best),
            (None, _) => None,
        };
        let confident_score = (min_score + CONFIDENT_MARGIN).min(MAX_CONFIDENT_SCORE);
        self.confident = self.inferences >= MIN_CONFIDENT_INFERENCES
            && self.label.is_some_and(|label| score(label) >= confident_score);
    }

    /// The group that the object was classified as. None if no score is high enough.
    pub fn label(&self) -> Option<usize> {
        self.label
    }

    /// Mean score of the label, or of the best group if there is no label.
    pub fn score(&self) -> f32 {
        let sum = match self.label {
            Some(label) => self.sums[label],
            None => self.sums.iter().copied().fold(0.0, f32::max),
        };
        if self.weight > 0.0 { sum / self.weight } else { 0.0 }
    }

    /// Number of inferences.
    pub fn inferences(&self) -> u32 {
        self.inferences
    }

    /// Time of the last inference.
    pub fn inferred_at(&self) -> Duration {
        self.inferred_at
    }

    /// Whether the label is so certain that another inference can wait.
    pub fn is_confident(&self) -> bool {
        self.confident
    }

    /// The best classes of the last inference.
    pub fn top(&self) -> &[Score] {
        &self.top
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(labels: &mut LabelAccumulator, groups: [f32; 3]) {
        labels.add(&groups, Vec::new(), 1.0, Duration::ZERO, 0.5);
    }

    #[test]
    fn one_deviating_inference_does_not_change_the_label() {
        let mut labels = LabelAccumulator::default();
        add(&mut labels, [0.2, 0.3, 0.1]);
        assert_eq!((labels.label(), labels.score()), (None, 0.3));
        for _ in 0..3 {
            add(&mut labels, [0.1, 0.9, 0.0]);
        }
        assert_eq!(labels.label(), Some(1));
        add(&mut labels, [0.9, 0.0, 0.1]);
        assert_eq!(labels.label(), Some(1), "by all inferences");
        for _ in 0..6 {
            add(&mut labels, [0.9, 0.0, 0.1]);
        }
        assert_eq!(labels.label(), Some(0), "many others do");
    }

    #[test]
    fn a_label_is_confident_after_enough_inferences_with_high_scores() {
        let mut labels = LabelAccumulator::default();
        for _ in 0..2 {
            add(&mut labels, [0.0, 0.0, 0.8]);
            assert!(!labels.is_confident());
        }
        add(&mut labels, [0.0, 0.0, 0.8]);
        assert!(labels.is_confident());
        let mut poor = LabelAccumulator::default();
        (0..9).for_each(|_| add(&mut poor, [0.55, 0.2, 0.0]));
        assert!(poor.label().is_some() && !poor.is_confident());
    }

    #[test]
    fn an_inference_counts_by_its_weight() {
        let mut labels = LabelAccumulator::default();
        labels.add(&[0.0, 0.9], Vec::new(), 0.2, Duration::ZERO, 0.5);
        labels.add(&[0.9, 0.0], Vec::new(), 1.0, Duration::ZERO, 0.5);
        assert_eq!(labels.label(), Some(0));
    }
}
