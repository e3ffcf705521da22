//! Non-maximum suppression: of boxes with the same label that overlap, only the best one stays.

use super::Detection;

/// Maximum number of boxes that are compared. Crowds have a few hundred.
const MAX_CANDIDATES: usize = 1000;
/// Maximum number of boxes that stay.
const MAX_DETECTIONS: usize = 300;

/// Sorts by score and removes every box that overlaps a better one of the same label by more than `max_iou`.
pub fn suppress(mut candidates: Vec<Detection>, max_iou: f64) -> Vec<Detection> {
    // A stable order also for equal scores, so that every machine gives the same objects.
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
    candidates.truncate(MAX_CANDIDATES);
    let mut kept: Vec<Detection> = Vec::new();
    for candidate in candidates {
        let is_other = |better: &Detection| {
            better.label != candidate.label || better.rect.iou(&candidate.rect) <= max_iou
        };
        if kept.len() < MAX_DETECTIONS && kept.iter().all(is_other) {
            kept.push(candidate);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vision::rect::Rect;

    fn detection(label: usize, score: f32, left: f64) -> Detection {
        Detection { label, score, rect: Rect { left, top: 0.0, width: 100.0, height: 100.0 } }
    }

    #[test]
    fn the_best_of_overlapping_boxes_of_a_label_stays() {
        let candidates = vec![
            detection(0, 0.5, 10.0),
            detection(0, 0.9, 0.0),
            detection(1, 0.4, 0.0),
            detection(0, 0.3, 90.0),
        ];
        let scores: Vec<f32> = suppress(candidates, 0.5).iter().map(|kept| kept.score).collect();
        assert_eq!(scores, [0.9, 0.4, 0.3]);
    }

    #[test]
    fn crowds_are_bounded_and_the_surest_stay() {
        let crowd = (0..5000).map(|n| detection(0, n as f32 / 5000.0, 200.0 * f64::from(n))).collect();
        let kept = suppress(crowd, 0.5);
        assert_eq!(kept.len(), MAX_DETECTIONS);
        assert!(kept.iter().all(|kept| kept.score > 0.9));
    }
}
