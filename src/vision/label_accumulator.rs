//! What a thing seems to be after all the looks at it: a label by everything seen, not by the last frame. Pure.

use super::head::Score;
use std::time::Duration;

/// How much less than a fresh label an established one needs, and by how much another must be better.
const KEEPS: f32 = 0.7;
const BETTER: f32 = 0.1;
/// So many looks with a score so much above what is asked for make it sure.
const SURE_LOOKS: u32 = 3;
const SURE_ABOVE: f32 = 0.15;

/// The looks at one thing so far.
#[derive(Debug, Clone, Default)]
pub struct LabelAccumulator {
    /// By group, the weighted sum of its scores.
    sums: Vec<f32>,
    weight: f32,
    looks: u32,
    looked_at: Duration,
    label: Option<usize>,
    sure: bool,
    top: Vec<Score>,
}

impl LabelAccumulator {
    /// Adds a look at time `at`: the groups' scores, the best classes, and how much the look is worth (0 to 1). A label
    /// needs a mean score of `least`.
    pub fn add(&mut self, groups: &[f32], top: Vec<Score>, weight: f32, at: Duration, least: f32) {
        self.sums.resize(groups.len(), 0.0);
        for (sum, score) in self.sums.iter_mut().zip(groups) {
            *sum += weight * score;
        }
        self.weight += weight;
        self.looks += 1;
        self.looked_at = at;
        self.top = top;
        let score = |group: usize| self.sums[group] / self.weight;
        // The first of equals.
        let best =
            (0..groups.len()).reduce(|best, group| if score(group) > score(best) { group } else { best });
        let kept = self.label.filter(|&label| score(label) >= KEEPS * least);
        self.label = match (kept, best) {
            (Some(label), Some(best)) if score(best) >= least && score(best) > score(label) + BETTER => {
                Some(best)
            }
            (Some(label), _) => Some(label),
            (None, Some(best)) if score(best) >= least => Some(best),
            (None, _) => None,
        };
        self.sure = self.looks >= SURE_LOOKS
            && self.label.is_some_and(|label| score(label) >= (least + SURE_ABOVE).min(0.9));
    }

    /// The group that it seems to be.
    pub fn label(&self) -> Option<usize> {
        self.label
    }

    /// Mean score of the label, or of the best group where there is none.
    pub fn score(&self) -> f32 {
        let sum = match self.label {
            Some(label) => self.sums[label],
            None => self.sums.iter().copied().fold(0.0, f32::max),
        };
        if self.weight > 0.0 { sum / self.weight } else { 0.0 }
    }

    /// How often it was looked at.
    pub fn inferences(&self) -> u32 {
        self.looks
    }

    /// When it was last looked at.
    pub fn inferred_at(&self) -> Duration {
        self.looked_at
    }

    /// There is no need to look again soon.
    pub fn is_sure(&self) -> bool {
        self.sure
    }

    /// The best classes of the last look.
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
    fn one_odd_look_does_not_change_the_label() {
        let mut labels = LabelAccumulator::default();
        add(&mut labels, [0.2, 0.3, 0.1]);
        assert_eq!((labels.label(), labels.score()), (None, 0.3));
        for _ in 0..3 {
            add(&mut labels, [0.1, 0.9, 0.0]);
        }
        assert_eq!(labels.label(), Some(1));
        add(&mut labels, [0.9, 0.0, 0.1]);
        assert_eq!(labels.label(), Some(1), "by all looks");
        for _ in 0..6 {
            add(&mut labels, [0.9, 0.0, 0.1]);
        }
        assert_eq!(labels.label(), Some(0), "but it may turn out to be something else");
    }

    #[test]
    fn sure_is_who_was_looked_at_and_scored_well() {
        let mut labels = LabelAccumulator::default();
        for _ in 0..2 {
            add(&mut labels, [0.0, 0.0, 0.8]);
            assert!(!labels.is_sure());
        }
        add(&mut labels, [0.0, 0.0, 0.8]);
        assert!(labels.is_sure());
        let mut poor = LabelAccumulator::default();
        (0..9).for_each(|_| add(&mut poor, [0.55, 0.2, 0.0]));
        assert!(poor.label().is_some() && !poor.is_sure());
    }

    #[test]
    fn looks_at_half_of_a_thing_count_less() {
        let mut labels = LabelAccumulator::default();
        labels.add(&[0.0, 0.9], Vec::new(), 0.2, Duration::ZERO, 0.5);
        labels.add(&[0.9, 0.0], Vec::new(), 1.0, Duration::ZERO, 0.5);
        assert_eq!(labels.label(), Some(0));
    }
}
