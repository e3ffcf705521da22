//! Heads: what turns the maps of a network into scores.
//!
//! - [`classes`] is the network's own head: it pools the output map into scores of the network's classes;
//! - [`trained`] is a small network over the means of named maps, read from a file ([`file`]), such as the
//!   head of the everyday labels.

pub mod classes;
pub mod file;
pub mod trained;

/// The score of a class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Index of the class, from 0.
    pub index: usize,
    /// Softmax over all classes, 0 to 1.
    pub score: f32,
}

/// Returns the `count` best classes, best first. Of equal scores, the lower index comes first.
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

/// Softmax in place. The values are shifted by the largest one, so that nothing overflows.
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
