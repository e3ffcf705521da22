//! What an inference on a part of an image shows: the everyday labels, and the network's classes if they are
//! worth their cost.

use super::Infer;
use crate::{
    error::Error,
    frame::Image,
    vision::{rect::Rect, taxonomy::Taxonomy},
};

/// The mean of two heads is less sure than it could be. With this temperature its probabilities are right
/// most often; chosen on the validation crops of models/everyday.
const MEAN_TEMPERATURE: f32 = 0.7;

/// The result of an inference.
#[derive(Debug)]
pub struct Findings {
    /// Probabilities of the everyday head's outputs. Empty without a head.
    pub outputs: Vec<f32>,
    /// Scores of the network's classes, if they were computed.
    pub classes: Option<Vec<f32>>,
}

impl Findings {
    /// Runs the everyday head. Runs the network with the classes as well if these can tell more, if they are
    /// needed anyway, or if the head is not sure and that network has a second opinion; the outputs are then
    /// those of both.
    ///
    /// Errors: as for [`Infer::everyday`].
    pub fn of(
        classifier: &mut dyn Infer,
        image: &Image,
        rect: &Rect,
        taxonomy: &Taxonomy,
        needs_classes: bool,
    ) -> Result<Findings, Error> {
        let mut outputs = classifier.everyday(image, rect)?;
        let is_unsure = classifier.has_second_opinion() && !taxonomy.is_sure(&outputs);
        if !needs_classes && !is_unsure && !taxonomy.wants_classes(&outputs) {
            return Ok(Findings { outputs, classes: None });
        }
        let classes = classifier.classes(image, rect)?.to_vec();
        if classifier.has_second_opinion() {
            add_second_opinion(&mut outputs, classifier.second_opinion());
        }
        Ok(Findings { outputs, classes: Some(classes) })
    }
}

/// Combines the probabilities of two heads: their mean, sharpened by [`MEAN_TEMPERATURE`].
fn add_second_opinion(outputs: &mut [f32], second: &[f32]) {
    for (output, second) in outputs.iter_mut().zip(second) {
        *output = ((*output + second) / 2.0).powf(1.0 / MEAN_TEMPERATURE);
    }
    let sum: f32 = outputs.iter().sum();
    outputs.iter_mut().for_each(|output| *output /= sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_opinion_is_half_of_the_result() {
        let mut outputs = [1.0, 0.0, 0.0];
        add_second_opinion(&mut outputs, &[0.0, 1.0, 0.0]);
        assert_eq!(outputs, [0.5, 0.5, 0.0]);
        let mut outputs = [0.8, 0.2];
        add_second_opinion(&mut outputs, &[0.6, 0.4]);
        assert!(outputs[0] > 0.75 && (outputs[0] + outputs[1] - 1.0).abs() < 1e-6, "{outputs:?}");
    }
}
