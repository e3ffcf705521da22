//! Cheap change detection for adaptive decoding: it ends keyframes-only decoding when the scene changes. No
//! I/O.
//!
//! The detector keeps a mean brightness and a noise level per cell. The scene has changed if a few
//! neighbouring cells differ from their mean by more than their noise, or if the whole image does. The
//! thresholds are sensitive because a false alarm only costs some decoding, while a missed change is a missed
//! object.

use super::luma::{Luma, ONE};
use std::time::Duration;

/// Maximum number of cells per row of the scaled-down image.
pub const MAX_WIDTH: usize = 160;

/// Brightness difference, of 255, up to which a codec may be the cause: a keyframe restores what was lost
/// since the last.
const MIN_DIFFERENCE: f32 = 8.0;
/// Multiple of a cell's noise level that does not count as a difference.
const NOISE_FACTOR: f32 = 4.0;
/// Minimum number of differing cells in a neighbourhood of 3 x 3; fewer are rain, snow or a defective pixel.
const MIN_NEIGHBOURS: u8 = 5;
/// Minimum number of such neighbourhoods: an area of about a 60th of the image's width in each direction.
const MIN_CLUSTERS: usize = 3;
/// A brightness change of the whole image above this is a change too; less is a cloud or the camera's
/// exposure.
const MAX_BRIGHTNESS_CHANGE: f32 = 12.0;
/// Time constant of the mean: how soon an object that stays becomes part of the scene.
const MEMORY: Duration = Duration::from_secs(1);
/// Time constant of the noise level.
const NOISE_MEMORY: Duration = Duration::from_secs(20);

/// Change detector of one camera.
#[derive(Debug, Default)]
pub struct ChangeDetector {
    width: usize,
    last_at: Duration,
    /// Brightness of each cell, 0 to 255.
    mean: Vec<f32>,
    /// Noise level of each cell.
    noise: Vec<f32>,
    /// Cells of the last image that differ from their mean.
    differs: Vec<bool>,
}

impl ChangeDetector {
    /// Processes the image of stream time `at` and returns whether the scene has changed. False for the first
    /// image and for the first one of another size.
    pub fn detect(&mut self, luma: &Luma, at: Duration) -> bool {
        let brightness = |cell: &u16| f32::from(*cell) / f32::from(ONE);
        if self.mean.len() != luma.cells.len() || self.width != luma.width {
            self.width = luma.width;
            self.mean = luma.cells.iter().map(brightness).collect();
            self.noise = vec![0.0; luma.cells.len()];
            self.last_at = at;
            return false;
        }
        let brightness_change = brightness_change(&luma.cells, &self.mean);
        self.differs.clear();
        let passed = at.saturating_sub(self.last_at).as_secs_f32();
        let weight = |memory: Duration| 1.0 - (-passed / memory.as_secs_f32()).exp();
        let (learn, learn_noise) = (weight(MEMORY), weight(NOISE_MEMORY));
        for ((cell, mean), noise) in luma.cells.iter().zip(&mut self.mean).zip(&mut self.noise) {
            let difference = brightness(cell) - *mean;
            let residual = (difference - brightness_change).abs();
            self.differs.push(residual > MIN_DIFFERENCE + NOISE_FACTOR * *noise);
            *mean += learn * difference;
            *noise += learn_noise * (residual.min(2.0 * MIN_DIFFERENCE) - *noise);
        }
        self.last_at = at;
        brightness_change.abs() > MAX_BRIGHTNESS_CHANGE || self.count_clusters() >= MIN_CLUSTERS
    }

    /// Counts the cells that differ together with their neighbours.
    fn count_clusters(&self) -> usize {
        let rows: Vec<&[bool]> = self.differs.chunks_exact(self.width).collect();
        let mut found = 0;
        for three in rows.windows(3) {
            for x in 1..self.width.saturating_sub(1) {
                if three[1][x] {
                    let near = |row: &[bool]| {
                        row[x - 1..=x + 1].iter().map(|&differs| u8::from(differs)).sum::<u8>()
                    };
                    found += usize::from(three.iter().map(|row| near(row)).sum::<u8>() >= MIN_NEIGHBOURS);
                }
            }
        }
        found
    }
}

/// Returns by how much the whole image is brighter than the mean: the median of all cells' differences, in
/// steps of 0.5.
fn brightness_change(cells: &[u16], mean: &[f32]) -> f32 {
    let mut histogram = [0usize; 1024];
    for (cell, mean) in cells.iter().zip(mean) {
        let difference = f32::from(*cell) / f32::from(ONE) - mean;
        histogram[((difference * 2.0).round() as i32 + 512).clamp(0, 1023) as usize] += 1;
    }
    let mut left = cells.len() / 2;
    for (index, &count) in histogram.iter().enumerate() {
        if left < count {
            return (index as f32 - 512.0) / 2.0;
        }
        left -= count;
    }
    0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH: usize = 160;
    const HEIGHT: usize = 90;

    /// A noisy scene of blocks and the detector that watches it.
    struct Scene {
        random: u64,
        detector: ChangeDetector,
        frame: u32,
        noise: f32,
    }

    impl Scene {
        fn new(noise: f32) -> Scene {
            Scene { random: 1, detector: ChangeDetector::default(), frame: 0, noise }
        }

        /// Processes one image, `brighter` than usual, with a square object: left, top and size.
        fn detect(&mut self, brighter: f32, object: Option<(usize, usize, usize)>) -> bool {
            let mut luma = Luma { width: WIDTH, height: HEIGHT, ..Luma::default() };
            for y in 0..HEIGHT {
                for x in 0..WIDTH {
                    self.random = self.random.wrapping_mul(6364136223846793005).wrapping_add(1);
                    let noise = ((self.random >> 40) as f32 / (1 << 23) as f32 - 1.0) * self.noise;
                    let base = 60.0 + 40.0 * ((x / 20 + y / 15) % 3) as f32;
                    let inside = object.is_some_and(|(left, top, size)| {
                        (left..left + size).contains(&x) && (top..top + size).contains(&y)
                    });
                    let value = base + brighter + noise + if inside { 25.0 } else { 0.0 };
                    luma.cells.push((value * f32::from(ONE)) as u16);
                }
            }
            self.frame += 1;
            self.detector.detect(&luma, Duration::from_millis(200) * self.frame)
        }
    }

    #[test]
    fn noise_and_slow_light_changes_are_no_change() {
        let mut scene = Scene::new(3.0);
        let alarms = (0..150).filter(|&i| scene.detect(0.2 * i as f32, None)).count();
        assert_eq!(alarms, 0);
    }

    #[test]
    fn a_small_object_is_a_change_until_it_has_stopped_for_a_while() {
        let mut scene = Scene::new(2.0);
        (0..20).for_each(|_| assert!(!scene.detect(0.0, None)));
        for step in 0..10 {
            assert!(scene.detect(0.0, Some((20 + 4 * step, 30, 4))), "{step}");
        }
        let alarms = (0..50).filter(|_| scene.detect(0.0, Some((56, 30, 4)))).count();
        assert!(alarms < 12, "{alarms}");
        assert!(!scene.detect(0.0, Some((56, 30, 4))));
        assert!(scene.detect(0.0, None), "it leaves");
    }

    #[test]
    fn isolated_cells_are_no_change() {
        let mut scene = Scene::new(2.0);
        (0..20).for_each(|_| assert!(!scene.detect(0.0, None)));
        assert!((0..30).all(|i| !scene.detect(0.0, Some((5 * i, 2 * i, 1)))));
    }

    #[test]
    fn a_light_step_is_a_change() {
        let mut scene = Scene::new(2.0);
        (0..20).for_each(|_| assert!(!scene.detect(0.0, None)));
        assert!(scene.detect(30.0, None));
    }

    #[test]
    fn another_size_resets_the_detector() {
        let mut detector = ChangeDetector::default();
        let luma =
            |width: usize| Luma { width, height: 10, side: 1, cells: vec![width as u16 * ONE; width * 10] };
        assert!(!detector.detect(&luma(100), Duration::ZERO));
        assert!(!detector.detect(&luma(50), Duration::from_secs(1)));
        assert!(!detector.detect(&luma(50), Duration::from_secs(2)));
    }
}
