//! From the network's map to scores: average over the map, then softmax, both in f32.
//!
//! Outside the network on purpose: int8 averages and softmax cost agreement with the float model (96.5 % against
//! 95.3 % of photos with the same answer), and tract computes both wrong. A model that ends in a softmax of its own is
//! taken at its word.

use engine::Signature;

/// A class and how sure the network is of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Class, counted from 0.
    pub index: usize,
    /// Softmax over all classes, 0 to 1.
    pub score: f32,
}

/// Where a network saw a class: a small grey picture, row by row. Evidence of what it looked at, not a box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heatmap {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// 0 for nothing to 255 for the strongest.
    pub grey: Vec<u8>,
}

/// Turns maps into scores; keeps its memory between frames.
pub struct Head {
    signature: Signature,
    sums: Vec<i32>,
    scores: Vec<f32>,
}

impl Head {
    /// A head for maps of this signature.
    pub fn new(signature: &Signature) -> Head {
        Head {
            signature: signature.clone(),
            sums: vec![0; signature.classes],
            scores: vec![0.0; signature.classes],
        }
    }

    /// Scores of all classes for a map of height x width x classes steps.
    pub fn scores(&mut self, map: &[i8]) -> &[f32] {
        debug_assert_eq!(map.len(), self.signature.map_len());
        self.sums.fill(0);
        for place in map.chunks_exact(self.signature.classes) {
            for (sum, &step) in self.sums.iter_mut().zip(place) {
                *sum += i32::from(step);
            }
        }
        let places = (self.signature.map_height * self.signature.map_width) as f32;
        let zero_point = f32::from(self.signature.zero_point);
        let scale = self.signature.scale;
        for (score, &sum) in self.scores.iter_mut().zip(&self.sums) {
            *score = (sum as f32 / places - zero_point) * scale;
        }
        if !self.signature.is_softmax {
            softmax(&mut self.scores);
        }
        &self.scores
    }
}

impl Head {
    /// Where in a map a class is: of each place the class's value, from 0 to the strongest place's. None where nothing of
    /// it is anywhere, or where the map has but one place.
    pub fn heatmap(&self, map: &[i8], class: usize) -> Option<Heatmap> {
        let Signature { map_width: width, map_height: height, classes, zero_point, .. } = self.signature;
        if class >= classes || width * height < 2 {
            return None;
        }
        let values: Vec<i32> = map
            .chunks_exact(classes)
            .map(|place| (i32::from(place[class]) - i32::from(zero_point)).max(0))
            .collect();
        let most = values.iter().copied().max().filter(|&most| most > 0)?;
        let grey = values.iter().map(|value| (255 * value / most) as u8).collect();
        Some(Heatmap { width, height, grey })
    }
}

/// The `count` best classes, best first; the lower index first where scores are equal.
pub fn top(scores: &[f32], count: usize) -> Vec<Score> {
    let mut all: Vec<Score> =
        scores.iter().enumerate().map(|(index, &score)| Score { index, score }).collect();
    let by_score = |a: &Score, b: &Score| b.score.total_cmp(&a.score).then(a.index.cmp(&b.index));
    if count < all.len() {
        all.select_nth_unstable_by(count, by_score);
        all.truncate(count);
    }
    all.sort_unstable_by(by_score);
    all
}

/// In place; shifted by the largest value so that nothing overflows.
fn softmax(values: &mut [f32]) {
    let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for value in values.iter_mut() {
        *value = (*value - largest).exp();
        sum += *value;
    }
    for value in values.iter_mut() {
        *value /= sum;
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
    fn probabilities_stay_what_they_are() {
        let mut head =
            Head::new(&Signature { scale: 1.0 / 256.0, map_width: 1, is_softmax: true, ..signature() });
        assert_eq!(head.scores(&[0, -64, -128]), [0.5, 0.25, 0.0]);
    }

    #[test]
    fn scores_are_the_softmax_of_the_averaged_map() {
        let mut head = Head::new(&signature());
        // Averages -126, -128, -124 are 1, 0 and 2 in real values.
        let scores = head.scores(&[-128, -128, -124, -124, -128, -124]);
        let sum = 1.0f32.exp() + 1.0 + 2.0f32.exp();
        for (score, logit) in scores.iter().zip([1.0f32, 0.0, 2.0]) {
            assert!((score - logit.exp() / sum).abs() < 1e-6, "{scores:?}");
        }
    }

    #[test]
    fn an_activation_shows_where_a_class_is() {
        let head = Head::new(&signature());
        let map = [-128, -128, -124, -124, -128, -126];
        assert_eq!(head.heatmap(&map, 2).unwrap().grey, [255, 127]);
        assert_eq!(head.heatmap(&map, 0).unwrap().grey, [0, 255]);
        assert_eq!(head.heatmap(&map, 1), None, "nowhere");
        assert_eq!(head.heatmap(&map, 3), None, "no such class");
    }

    #[test]
    fn extreme_maps_stay_finite() {
        let mut head = Head::new(&Signature { scale: 1e6, ..signature() });
        let scores = head.scores(&[127, -128, -128, 127, -128, -128]).to_vec();
        assert_eq!(scores, [1.0, 0.0, 0.0]);
    }

    #[test]
    fn top_is_sorted_and_stable_for_equal_scores() {
        let scores = [0.1, 0.4, 0.1, 0.4];
        let order = |count| top(&scores, count).iter().map(|s| s.index).collect::<Vec<_>>();
        assert_eq!(order(2), [1, 3]);
        assert_eq!(order(3), [1, 3, 0]);
        assert_eq!(order(9), [1, 3, 0, 2]);
        assert_eq!(order(0), [0usize; 0]);
    }
}
