//! Detects motion from the encoded sizes of a stream's frames. Whether sizes indicate motion in this stream
//! is learned while it is decoded in full. Pure.
//!
//! With constant quality, a frame is larger when more has changed. With a target bitrate, motion takes its
//! bits from the noise elsewhere, and sizes are not informative: measured on five clips, the chance that a
//! frame with motion is larger than one without was 0.19, 0.50, 0.52, 0.73 and 0.80. So sizes are used only
//! once they have proven to indicate motion.

use std::collections::VecDeque;

/// Sizes that are remembered of each kind, still and moving.
const MAX_SAMPLES: usize = 300;
/// Sizes of each kind that are needed for a threshold.
const MIN_SAMPLES: usize = 60;
/// The chance with which a frame with motion must be larger than one without. With a smaller one, the larger
/// still frames would cause false alarms.
const MIN_SEPARATION: f64 = 0.95;
/// The threshold relative to the largest still frame, which is only the largest of a few hundred.
const MARGIN: f64 = 1.25;

/// Learns the sizes of frames with and without motion.
#[derive(Debug, Default)]
pub struct FrameSizeDetector {
    /// Sizes since the last result of the change detector.
    unlabelled: Vec<usize>,
    still: VecDeque<usize>,
    moving: VecDeque<usize>,
    /// A larger frame indicates motion. None while sizes have not proven to indicate it.
    threshold: Option<usize>,
}

impl FrameSizeDetector {
    /// Adds a decoded frame of `len` encoded bytes.
    pub fn add(&mut self, len: usize) {
        // Bounded, because `learn` is never called without a change detector.
        if self.unlabelled.len() < MAX_SAMPLES {
            self.unlabelled.push(len);
        }
    }

    /// Labels the frames added since the last call as moving or still.
    pub fn learn(&mut self, moving: bool) {
        let sizes = if moving { &mut self.moving } else { &mut self.still };
        let before = sizes.len();
        for len in self.unlabelled.drain(..) {
            if sizes.len() == MAX_SAMPLES {
                sizes.pop_front();
            }
            sizes.push_back(len);
        }
        if sizes.len() != before || before == MAX_SAMPLES {
            self.threshold = self.compute_threshold();
        }
    }

    /// Whether a frame of `len` encoded bytes indicates motion. Always false while sizes have not proven to.
    pub fn is_motion(&self, len: usize) -> bool {
        self.threshold.is_some_and(|threshold| len > threshold)
    }

    fn compute_threshold(&self) -> Option<usize> {
        if self.still.len() < MIN_SAMPLES || self.moving.len() < MIN_SAMPLES {
            return None;
        }
        let largest = *self.still.iter().max()?;
        let mut still: Vec<usize> = self.still.iter().copied().collect();
        still.sort_unstable();
        let smaller: usize = self.moving.iter().map(|&len| still.partition_point(|&other| other < len)).sum();
        let separation = smaller as f64 / (self.moving.len() * still.len()) as f64;
        (separation >= MIN_SEPARATION).then_some((largest as f64 * MARGIN) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trained(still: impl Fn(usize) -> usize, moving: impl Fn(usize) -> usize) -> FrameSizeDetector {
        let mut detector = FrameSizeDetector::default();
        for i in 0..100 {
            detector.add(still(i));
            detector.learn(false);
            detector.add(moving(i));
            detector.learn(true);
        }
        detector
    }

    #[test]
    fn larger_frames_indicate_motion_if_sizes_are_separate() {
        let detector = trained(|i| 100 + i % 20, |i| 400 + i);
        assert!(detector.is_motion(400));
        assert!(!detector.is_motion(119) && !detector.is_motion(148));
    }

    #[test]
    fn overlapping_or_reversed_sizes_indicate_nothing() {
        let detector = trained(|i| 100 + i, |i| 100 + (i + 50) % 100);
        assert!(!detector.is_motion(100_000));
        let detector = trained(|i| 400 + i, |i| 100 + i);
        assert!(!detector.is_motion(100_000));
    }

    #[test]
    fn few_samples_indicate_nothing() {
        let mut detector = FrameSizeDetector::default();
        for _ in 0..20 {
            detector.add(10);
            detector.learn(false);
            detector.add(1000);
            detector.learn(true);
        }
        assert!(!detector.is_motion(1000));
    }
}
