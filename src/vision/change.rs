//! Whether a picture shows another scene than the ones before it: what wakes a resting camera. Pure.
//!
//! A memory of each cell's brightness and of how much it wavers by itself. A picture has changed where a few neighbouring
//! cells are further from their memory than noise takes them, or where the whole picture is. It may be wrong now and
//! then: a false alarm costs some decoding, a miss costs what was to be seen.

use super::luma::{Luma, ONE};
use std::time::Duration;

/// Cells a row of the small picture that is judged.
pub const MOST_WIDTH: usize = 160;

/// Brightness, in 255ths, below which a difference is the codec's: a keyframe renews what was lost since the last one.
const LEAST_DIFFERENCE: f32 = 8.0;
/// A cell's usual wavering counts so many times.
const NOISE_FACTOR: f32 = 4.0;
/// Of a cell and its eight neighbours, so many must differ: what is smaller is rain, snow or a dying pixel.
const LEAST_NEIGHBOURS: u8 = 5;
/// So many such cells make a change: about a 60th of the picture's width in each direction.
const LEAST_CELLS: usize = 3;
/// The whole picture brighter or darker by so much is a change too; less is a cloud or the camera's exposure.
const LARGEST_SHIFT: f32 = 12.0;
/// How long until something that has come and stays counts as part of the scene.
const MEMORY: Duration = Duration::from_secs(1);
/// How long wavering is remembered.
const NOISE_MEMORY: Duration = Duration::from_secs(20);

/// The memory of one camera's scene.
#[derive(Debug, Default)]
pub struct ChangeDetector {
    width: usize,
    last_at: Duration,
    /// Of each cell, brightness and wavering, in 255ths.
    mean: Vec<f32>,
    noise: Vec<f32>,
    differs: Vec<bool>,
}

impl ChangeDetector {
    /// Judges the picture of stream time `at`. The first one, and the first of another size, is no change.
    pub fn judge(&mut self, luma: &Luma, at: Duration) -> bool {
        let brightness = |cell: &u16| f32::from(*cell) / f32::from(ONE);
        if self.mean.len() != luma.cells.len() || self.width != luma.width {
            self.width = luma.width;
            self.mean = luma.cells.iter().map(brightness).collect();
            self.noise = vec![0.0; luma.cells.len()];
            self.last_at = at;
            return false;
        }
        let shift = shift(&luma.cells, &self.mean);
        self.differs.clear();
        let passed = at.saturating_sub(self.last_at).as_secs_f32();
        let weight = |memory: Duration| 1.0 - (-passed / memory.as_secs_f32()).exp();
        let (learn, learn_noise) = (weight(MEMORY), weight(NOISE_MEMORY));
        for ((cell, mean), noise) in luma.cells.iter().zip(&mut self.mean).zip(&mut self.noise) {
            let difference = brightness(cell) - *mean;
            let off = (difference - shift).abs();
            self.differs.push(off > LEAST_DIFFERENCE + NOISE_FACTOR * *noise);
            *mean += learn * difference;
            *noise += learn_noise * (off.min(2.0 * LEAST_DIFFERENCE) - *noise);
        }
        self.last_at = at;
        shift.abs() > LARGEST_SHIFT || self.clusters() >= LEAST_CELLS
    }

    /// Cells that differ together with their neighbours.
    fn clusters(&self) -> usize {
        let rows: Vec<&[bool]> = self.differs.chunks_exact(self.width).collect();
        let mut found = 0;
        for three in rows.windows(3) {
            for x in 1..self.width.saturating_sub(1) {
                if three[1][x] {
                    let near = |row: &[bool]| {
                        row[x - 1..=x + 1].iter().map(|&differs| u8::from(differs)).sum::<u8>()
                    };
                    found += usize::from(three.iter().map(|row| near(row)).sum::<u8>() >= LEAST_NEIGHBOURS);
                }
            }
        }
        found
    }
}

/// By how much the whole picture is brighter than its memory: the median of all cells' differences, to half a step.
fn shift(cells: &[u16], mean: &[f32]) -> f32 {
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

    /// A scene of blocks with noise, `brighter` than usual, with a box of `size` cells at (`x`, `y`) in it.
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

        fn judge(&mut self, brighter: f32, thing: Option<(usize, usize, usize)>) -> bool {
            let mut luma = Luma { width: WIDTH, height: HEIGHT, ..Luma::default() };
            for y in 0..HEIGHT {
                for x in 0..WIDTH {
                    self.random = self.random.wrapping_mul(6364136223846793005).wrapping_add(1);
                    let noise = ((self.random >> 40) as f32 / (1 << 23) as f32 - 1.0) * self.noise;
                    let base = 60.0 + 40.0 * ((x / 20 + y / 15) % 3) as f32;
                    let inside = thing.is_some_and(|(left, top, size)| {
                        (left..left + size).contains(&x) && (top..top + size).contains(&y)
                    });
                    let value = base + brighter + noise + if inside { 25.0 } else { 0.0 };
                    luma.cells.push((value * f32::from(ONE)) as u16);
                }
            }
            self.frame += 1;
            self.detector.judge(&luma, Duration::from_millis(200) * self.frame)
        }
    }

    #[test]
    fn noise_and_slow_light_are_no_change() {
        let mut scene = Scene::new(3.0);
        let alarms = (0..150).filter(|&i| scene.judge(0.2 * i as f32, None)).count();
        assert_eq!(alarms, 0);
    }

    #[test]
    fn a_small_thing_is_a_change_while_it_moves_and_none_once_it_stays() {
        let mut scene = Scene::new(2.0);
        (0..20).for_each(|_| assert!(!scene.judge(0.0, None)));
        for step in 0..10 {
            assert!(scene.judge(0.0, Some((20 + 4 * step, 30, 4))), "{step}");
        }
        let alarms = (0..50).filter(|_| scene.judge(0.0, Some((56, 30, 4)))).count();
        assert!(alarms < 12, "{alarms}");
        assert!(!scene.judge(0.0, Some((56, 30, 4))));
        assert!(scene.judge(0.0, None), "it leaves");
    }

    #[test]
    fn single_cells_are_rain() {
        let mut scene = Scene::new(2.0);
        (0..20).for_each(|_| assert!(!scene.judge(0.0, None)));
        assert!((0..30).all(|i| !scene.judge(0.0, Some((5 * i, 2 * i, 1)))));
    }

    #[test]
    fn a_lamp_is_a_change() {
        let mut scene = Scene::new(2.0);
        (0..20).for_each(|_| assert!(!scene.judge(0.0, None)));
        assert!(scene.judge(30.0, None));
    }

    #[test]
    fn another_size_begins_anew() {
        let mut detector = ChangeDetector::default();
        let luma =
            |width: usize| Luma { width, height: 10, side: 1, cells: vec![width as u16 * ONE; width * 10] };
        assert!(!detector.judge(&luma(100), Duration::ZERO));
        assert!(!detector.judge(&luma(50), Duration::from_secs(1)));
        assert!(!detector.judge(&luma(50), Duration::from_secs(2)));
    }
}
