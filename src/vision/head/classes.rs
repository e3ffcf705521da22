//! The head of a classification network: from its output map to class scores, by average pooling and softmax
//! in f32.
//!
//! It is not part of the network because in int8 both cost agreement with the float model (95.3 % of photos
//! with the same best class, against 96.5 % here), and because tract computes both incorrectly. If a model
//! ends in a softmax of its own, only the pooling is done here.

use super::softmax;
use engine::Signature;

/// The activation of a class over the output map: a small grey image, row by row. It shows what the
/// classification is based on; it does not localise the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heatmap {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Activation from 0 to 255, the maximum of the map.
    pub grey: Vec<u8>,
}

/// Converts output maps to scores. Its buffers are reused.
pub struct ClassHead {
    signature: Signature,
    sums: Vec<i32>,
    scores: Vec<f32>,
}

impl ClassHead {
    /// Creates a head for output maps of this signature.
    pub fn new(signature: &Signature) -> ClassHead {
        ClassHead {
            signature: signature.clone(),
            sums: vec![0; signature.classes],
            scores: vec![0.0; signature.classes],
        }
    }

    /// Returns the scores of all classes for a map of height x width x classes quantized values.
    pub fn scores(&mut self, map: &[i8]) -> &[f32] {
        debug_assert_eq!(map.len(), self.signature.map_len());
        self.sums.fill(0);
        for position in map.chunks_exact(self.signature.classes) {
            for (sum, &value) in self.sums.iter_mut().zip(position) {
                *sum += i32::from(value);
            }
        }
        let positions = (self.signature.map_height * self.signature.map_width) as f32;
        let zero_point = f32::from(self.signature.zero_point);
        let scale = self.signature.scale;
        for (score, &sum) in self.scores.iter_mut().zip(&self.sums) {
            *score = (sum as f32 / positions - zero_point) * scale;
        }
        if !self.signature.is_softmax {
            softmax(&mut self.scores);
        }
        &self.scores
    }

    /// Returns the heatmap of a class in an output map. None if the class is not active anywhere, or if the
    /// map has only one position.
    pub fn heatmap(&self, map: &[i8], class: usize) -> Option<Heatmap> {
        let Signature { map_width: width, map_height: height, classes, zero_point, .. } = self.signature;
        if class >= classes || width * height < 2 {
            return None;
        }
        let values: Vec<i32> = map
            .chunks_exact(classes)
            .map(|position| (i32::from(position[class]) - i32::from(zero_point)).max(0))
            .collect();
        let max = values.iter().copied().max().filter(|&max| max > 0)?;
        let grey = values.iter().map(|value| (255 * value / max) as u8).collect();
        Some(Heatmap { width, height, grey })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature() -> Signature {
        Signature {
            input_height: 4,
            input_width: 4,
            map_height: 1,
            map_width: 2,
            classes: 3,
            scale: 0.5,
            zero_point: -128,
            is_softmax: false,
        }
    }

    #[test]
    fn the_output_of_a_softmax_model_is_not_changed() {
        let mut head =
            ClassHead::new(&Signature { scale: 1.0 / 256.0, map_width: 1, is_softmax: true, ..signature() });
        assert_eq!(head.scores(&[0, -64, -128]), [0.5, 0.25, 0.0]);
    }

    #[test]
    fn scores_are_the_softmax_of_the_averaged_map() {
        let mut head = ClassHead::new(&signature());
        // Averages -126, -128, -124 are 1, 0 and 2 in real values.
        let scores = head.scores(&[-128, -128, -124, -124, -128, -124]);
        let sum = 1.0f32.exp() + 1.0 + 2.0f32.exp();
        for (score, logit) in scores.iter().zip([1.0f32, 0.0, 2.0]) {
            assert!((score - logit.exp() / sum).abs() < 1e-6, "{scores:?}");
        }
    }

    #[test]
    fn a_heatmap_shows_where_a_class_is_active() {
        let head = ClassHead::new(&signature());
        let map = [-128, -128, -124, -124, -128, -126];
        assert_eq!(head.heatmap(&map, 2).unwrap().grey, [255, 127]);
        assert_eq!(head.heatmap(&map, 0).unwrap().grey, [0, 255]);
        assert_eq!(head.heatmap(&map, 1), None, "not active");
        assert_eq!(head.heatmap(&map, 3), None, "no such class");
    }

    #[test]
    fn extreme_maps_stay_finite() {
        let mut head = ClassHead::new(&Signature { scale: 1e6, ..signature() });
        let scores = head.scores(&[127, -128, -128, 127, -128, -128]).to_vec();
        assert_eq!(scores, [1.0, 0.0, 0.0]);
    }
}
