//! The label of an object from all its inferences, not only from the last one.

use super::{
    head::{self, Score},
    taxonomy::Taxonomy,
};
use std::time::Duration;

/// Weight of the assumption that an object is nothing that has a label. It keeps a single view, or one of a
/// part of the object, from deciding alone.
const PRIOR_WEIGHT: f32 = 0.3;
/// Minimum number of inferences for a confident label.
const MIN_CONFIDENT_INFERENCES: u32 = 3;
/// The same for a label that has kinds, because more inferences may tell which kind it is.
const MIN_CONFIDENT_INFERENCES_WITH_KINDS: u32 = 8;
/// A confident label's score is above the minimum score by this much, but need not exceed
/// [`MAX_CONFIDENT_SCORE`].
const CONFIDENT_MARGIN: f32 = 0.15;
/// See [`CONFIDENT_MARGIN`].
const MAX_CONFIDENT_SCORE: f32 = 0.9;

/// The accumulated inferences of one object.
#[derive(Debug, Clone, Default)]
pub struct LabelAccumulator {
    /// Of the everyday head's outputs.
    outputs: WeightedMean,
    /// Of the network's classes, of those inferences for which they were computed.
    classes: WeightedMean,
    inferences: u32,
    inferred_at: Duration,
    label: Option<usize>,
    score: f32,
    finer_class: Option<usize>,
    confident: bool,
    top: Vec<Score>,
}

/// One inference on an object.
pub struct Inference<'a> {
    /// Probabilities of the everyday head's outputs. Empty without a head.
    pub outputs: &'a [f32],
    /// Scores of the network's classes, if they were computed.
    pub classes: Option<&'a [f32]>,
    /// How much the inference counts, above 0 and up to 1.
    pub weight: f32,
    /// Time of the frame.
    pub at: Duration,
}

/// Element-wise weighted mean of vectors, and of zero with [`PRIOR_WEIGHT`].
#[derive(Debug, Clone, Default)]
struct WeightedMean {
    sums: Vec<f32>,
    weight: f32,
}

impl WeightedMean {
    fn add(&mut self, values: &[f32], weight: f32) {
        self.sums.resize(values.len(), 0.0);
        for (sum, value) in self.sums.iter_mut().zip(values) {
            *sum += weight * value;
        }
        self.weight += weight;
    }

    /// None if there are no values.
    fn mean(&self) -> Option<Vec<f32>> {
        let weight = self.weight + PRIOR_WEIGHT;
        (self.weight > 0.0).then(|| self.sums.iter().map(|sum| sum / weight).collect())
    }
}

impl LabelAccumulator {
    /// Adds an inference, and chooses the label by the mean of all. `min_score` is the mean score that a
    /// label needs, `top` the number of best classes to remember.
    pub fn add(&mut self, inference: &Inference<'_>, taxonomy: &Taxonomy, min_score: f32, top: usize) {
        let Inference { outputs, classes, weight, at } = *inference;
        self.outputs.add(outputs, weight);
        if let Some(classes) = classes {
            self.classes.add(classes, weight);
        }
        self.inferences += 1;
        self.inferred_at = at;
        self.top = classes.map_or(Vec::new(), |classes| head::top(classes, top));
        let (outputs, classes) = (self.outputs.mean().unwrap_or_default(), self.classes.mean());
        let scores = taxonomy.scores(&outputs, classes.as_deref());
        self.label = taxonomy.choose(&scores, min_score, self.label, &|_| true);
        self.score = match self.label {
            Some(label) => scores[label],
            None => scores.iter().copied().fold(0.0, f32::max),
        };
        self.finer_class = self
            .label
            .zip(classes.as_deref())
            .and_then(|(label, classes)| taxonomy.finer_class(label, classes, min_score, self.finer_class));
        self.confident = self.label.is_some_and(|label| {
            let confident_score =
                (taxonomy.min_score(label, min_score) + CONFIDENT_MARGIN).min(MAX_CONFIDENT_SCORE);
            let min_inferences = match taxonomy.has_kinds(label) {
                true => MIN_CONFIDENT_INFERENCES_WITH_KINDS,
                false => MIN_CONFIDENT_INFERENCES,
            };
            self.inferences >= min_inferences && self.score >= confident_score
        });
    }

    /// Adds what a detector has found: a label and its score. Which kind of it, the inferences before tell.
    pub fn add_detection(
        &mut self,
        (label, score): (usize, f32),
        weight: f32,
        at: Duration,
        taxonomy: &Taxonomy,
        min_score: f32,
    ) {
        let outputs = taxonomy.outputs_of(label, score, &self.outputs.sums);
        let top = std::mem::take(&mut self.top);
        self.add(&Inference { outputs: &outputs, classes: None, weight, at }, taxonomy, min_score, 0);
        self.top = top;
    }

    /// The label of the object. None if no score is high enough.
    pub fn label(&self) -> Option<usize> {
        self.label
    }

    /// Mean score of the label, or of the best one if none is high enough.
    pub fn score(&self) -> f32 {
        self.score
    }

    /// The class that is a finer name for the label. None if none is likely enough.
    pub fn finer_class(&self) -> Option<usize> {
        self.finer_class
    }

    /// Number of inferences.
    pub fn inferences(&self) -> u32 {
        self.inferences
    }

    /// Total weight of the inferences.
    pub fn weight(&self) -> f32 {
        self.outputs.weight
    }

    /// Time of the last inference.
    pub fn inferred_at(&self) -> Duration {
        self.inferred_at
    }

    /// Whether the label is so certain that another inference can wait.
    pub fn is_confident(&self) -> bool {
        self.confident
    }

    /// The best classes of the last inference. Empty if they were not computed.
    pub fn top(&self) -> &[Score] {
        &self.top
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vision::{
        head::file::{HeadFile, tests as head},
        labels::Labels,
    };

    fn three_classes() -> Taxonomy {
        Taxonomy::new(None, &Labels::parse(b"a\nb\nc\n", "l", 3).unwrap(), &Default::default()).unwrap()
    }

    fn add_weighted(labels: &mut LabelAccumulator, classes: &[f32], weight: f32) {
        let inference = Inference { outputs: &[], classes: Some(classes), weight, at: Duration::ZERO };
        labels.add(&inference, &three_classes(), 0.5, 3);
    }

    fn add(labels: &mut LabelAccumulator, classes: [f32; 3]) {
        add_weighted(labels, &classes, 1.0);
    }

    #[test]
    fn one_deviating_inference_does_not_change_the_label() {
        let mut labels = LabelAccumulator::default();
        add(&mut labels, [0.2, 0.26, 0.1]);
        assert_eq!((labels.label(), labels.score()), (None, 0.2));
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
        let mut single = LabelAccumulator::default();
        add_weighted(&mut single, &[0.0, 0.0, 0.9], 0.25);
        assert_eq!(single.label(), None, "a glimpse does not decide");
        let mut poor = LabelAccumulator::default();
        (0..9).for_each(|_| add(&mut poor, [0.58, 0.2, 0.0]));
        assert!(poor.label().is_some() && !poor.is_confident());
    }

    #[test]
    fn an_inference_counts_by_its_weight() {
        let mut labels = LabelAccumulator::default();
        add_weighted(&mut labels, &[0.0, 0.9, 0.0], 0.2);
        add_weighted(&mut labels, &[0.9, 0.0, 0.0], 1.0);
        assert_eq!(labels.label(), Some(0));
    }

    #[test]
    fn a_vehicle_becomes_a_car_once_the_evidence_says_so() {
        let tree = HeadFile::parse(&head::file(&head::metadata(), &[0.5; 10]), "h").unwrap().tree;
        let classes = Labels::parse(include_bytes!("../../models/labels.txt"), "l", 1000).unwrap();
        let taxonomy = Taxonomy::new(Some(&tree), &classes, &Default::default()).unwrap();
        let mut labels = LabelAccumulator::default();
        let mut add = |outputs: [f32; 5]| {
            let inference = Inference { outputs: &outputs, classes: None, weight: 1.0, at: Duration::ZERO };
            labels.add(&inference, &taxonomy, 0.4, 3);
            (taxonomy.name_or_unknown(labels.label()).to_string(), labels.is_confident())
        };
        for _ in 0..7 {
            assert_eq!(add([0.0, 0.69, 0.0, 0.0, 0.31]), ("vehicle".to_string(), false));
        }
        assert_eq!(add([0.0, 0.69, 0.0, 0.0, 0.31]), ("vehicle".to_string(), true));
        for _ in 0..6 {
            add([0.0, 1.0, 0.0, 0.0, 0.0]);
        }
        assert_eq!(add([0.0, 1.0, 0.0, 0.0, 0.0]).0, "car");
    }
}
