//! The background model: what a camera's scene looks like without objects.
//!
//! The model holds a mean brightness and a noise level for each cell of the scaled-down image. An image is
//! compared with it in three steps: [`illumination`] fits what all cells have in common, the light and camera
//! shake; cells that still differ by more than a threshold and their own noise become [`foreground`];
//! foreground cells with the background's [`texture`] become illumination, because a shadow or a beam of
//! light is no object.
//!
//! Brightness is in f32 from 0 to 255. The arithmetic uses no fused operations: it gives the same result on
//! every machine.

mod foreground;
mod illumination;
mod texture;

use self::{
    foreground::CellRow,
    illumination::{Comparison, IlluminationFit},
    texture::{WINDOW_RADIUS, WindowSums},
};
use super::{
    blobs::Blob,
    luma::{Luma, ONE},
};
use std::{ops::Range, time::Duration};

pub use foreground::{BACKGROUND, FOREGROUND, ILLUMINATION};

/// Multiple of a cell's noise level that does not count as a difference.
const NOISE_FACTOR: f32 = 3.0;
/// Noise level of a cell before it has been measured.
const INITIAL_NOISE: f32 = 1.5;
/// Maximum noise level of a cell.
const MAX_NOISE: f32 = 30.0;
/// Time constant of the noise level.
const NOISE_MEMORY: Duration = Duration::from_secs(20);
/// Time constant with which the background adapts to another light.
const LIGHT_MEMORY: Duration = Duration::from_secs(4);
/// The first frames are averaged with equal weights.
const AVERAGED_FRAMES: u32 = 8;
/// Minimum brightness difference across two cells, beyond noise, that is an edge.
const MIN_EDGE: f32 = 3.0;
/// An edge counts as new or lost if it is this many times as strong as the one in the other image.
const EDGE_RATIO: f32 = 1.3;

/// The background model of one camera.
#[derive(Debug, Default)]
pub struct Background {
    width: usize,
    height: usize,
    /// Frames since the last reset.
    frames: u32,
    fit: IlluminationFit,
    mean: Vec<f32>,
    noise: Vec<f32>,
    /// Brightness of the last compared image.
    current: Vec<f32>,
    /// Difference of the last compared image from its expected brightness.
    residual: Vec<f32>,
    mask: Vec<u8>,
    /// Scratch memory of [`foreground::remove_isolated`].
    counts: Vec<u8>,
    windows: WindowSums,
}

impl Background {
    /// Whether the model has the size of this image. False before the first reset.
    pub fn has_size_of(&self, luma: &Luma) -> bool {
        (self.width, self.height) == (luma.width, luma.height) && !self.mean.is_empty()
    }

    /// Replaces the model by this image. The noise levels are kept if the size is the same.
    pub fn reset(&mut self, luma: &Luma) {
        let len = luma.cells.len();
        if !self.has_size_of(luma) {
            self.noise = vec![INITIAL_NOISE; len];
        }
        (self.width, self.height, self.frames) = (luma.width, luma.height, 1);
        self.mean = luma.cells.iter().map(|&cell| f32::from(cell) / f32::from(ONE)).collect();
        self.current = self.mean.clone();
        self.fit = IlluminationFit::IDENTITY;
        self.residual = vec![0.0; len];
        self.mask = vec![BACKGROUND; len];
        self.counts = vec![0; len];
    }

    /// Compares an image of the model's size with the background and returns the foreground mask.
    ///
    /// `threshold` is a brightness difference. `ignored` cells are never foreground.
    pub fn compare(&mut self, luma: &Luma, threshold: f32, ignored: &[bool]) -> &[u8] {
        debug_assert!(self.has_size_of(luma));
        for (current, &cell) in self.current.iter_mut().zip(&luma.cells) {
            *current = f32::from(cell) * (1.0 / ONE as f32);
        }
        let (width, height) = (self.width, self.height);
        let comparison = Comparison { width, height, mean: &self.mean, current: &self.current };
        self.fit = comparison.fit(self.fit);
        if !self.segment(threshold, ignored) {
            return &self.mask;
        }
        foreground::remove_isolated(&mut self.mask, &mut self.counts, width);
        if let Some(rows) = foreground::foreground_rows(&self.mask, width) {
            self.mark_illumination(rows);
            foreground::remove_isolated(&mut self.mask, &mut self.counts, width);
        }
        &self.mask
    }

    /// Resets the mask to [`BACKGROUND`] at the given cells.
    pub fn clear_mask(&mut self, cells: &[bool]) {
        for (value, clear) in self.mask.iter_mut().zip(cells) {
            *value = if *clear { BACKGROUND } else { *value };
        }
    }

    /// The foreground mask of the last comparison.
    pub fn mask(&self) -> &[u8] {
        &self.mask
    }

    /// Brightness of the background, 0 to 255.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// Brightness of the last compared image, 0 to 255.
    pub fn current(&self) -> &[f32] {
        &self.current
    }

    /// By how much the last compared image is brighter than the background on average, by the fitted
    /// illumination.
    pub fn brightness_change(&self) -> f32 {
        // A mean over some of the cells is accurate enough.
        let (sum, count) =
            self.mean.iter().step_by(7).fold((0.0, 0.0), |(sum, count), m| (sum + m, count + 1.0));
        (self.fit.gain - 1.0) * (sum / f32::max(count, 1.0)) + self.fit.offset
    }

    /// Applies the illumination of the last compared image to the background.
    pub fn adopt_illumination(&mut self) {
        let IlluminationFit { gain, offset, .. } = self.fit;
        self.mean.iter_mut().for_each(|mean| *mean = (gain * *mean + offset).clamp(0.0, 255.0));
        self.fit = IlluminationFit { gain: 1.0, offset: 0.0, ..self.fit };
    }

    /// Updates the model from the last compared image, `passed` after the one before, with the time constant
    /// `memory`.
    ///
    /// `covered` cells show an object: they only follow the illumination of all others.
    pub fn learn(&mut self, passed: Duration, memory: Duration, covered: &[bool]) {
        let weight = |memory: Duration| 1.0 - (-passed.as_secs_f32() / memory.as_secs_f32()).exp();
        let (mut learn, learn_light, learn_noise) =
            (weight(memory), weight(LIGHT_MEMORY), weight(NOISE_MEMORY));
        self.frames = self.frames.saturating_add(1);
        if self.frames <= AVERAGED_FRAMES {
            learn = learn.max(1.0 / self.frames as f32);
        }
        let cells = self.mean.iter_mut().zip(&mut self.noise);
        let image = self.current.iter().zip(&self.residual).zip(self.mask.iter().zip(covered));
        for ((mean, noise), ((current, residual), (value, covered))) in cells.zip(image) {
            if *covered {
                // `current - residual` is the expected brightness of the background, except for camera shake.
                *mean += learn * (current - residual - *mean).clamp(-MAX_NOISE, MAX_NOISE);
                continue;
            }
            *mean += if *value == ILLUMINATION { learn_light } else { learn } * (current - *mean);
            *noise += learn_noise * (residual.abs().min(MAX_NOISE) - *noise);
        }
    }

    /// Copies the cells of a blob and two around it from the last compared image into the background.
    pub fn absorb(&mut self, blob: &Blob) {
        // The blob's margin is included because the cells at its edge are a mixture.
        for run in &blob.runs {
            for y in run.y.saturating_sub(2)..(run.y + 3).min(self.height) {
                let row = y * self.width;
                let cells = row + run.start.saturating_sub(2)..row + (run.end + 2).min(self.width);
                self.mean[cells.clone()].copy_from_slice(&self.current[cells]);
            }
        }
    }

    /// Returns how many cells of a blob, and one beside each run, have an edge that the background does not
    /// have, and how many lack an edge that the background has.
    pub fn count_edge_changes(&self, blob: &Blob) -> (usize, usize) {
        let (width, height) = (self.width, self.height);
        let (mut new, mut lost) = (0, 0);
        let step = |cells: &[f32], x: usize, y: usize| {
            let row = y * width;
            let across = cells[row + (x + 1).min(width - 1)] - cells[row + x.saturating_sub(1)];
            let down = cells[(y + 1).min(height - 1) * width + x] - cells[y.saturating_sub(1) * width + x];
            across.abs().max(down.abs())
        };
        for run in &blob.runs {
            for x in run.start.saturating_sub(1)..(run.end + 1).min(width) {
                let (current, before) = (step(&self.current, x, run.y), step(&self.mean, x, run.y));
                let min = MIN_EDGE + NOISE_FACTOR * self.noise[run.y * width + x];
                new += usize::from(current > EDGE_RATIO * before + min);
                lost += usize::from(before > EDGE_RATIO * current + min);
            }
        }
        (new, lost)
    }

    /// Computes the residuals and the mask of the last image. Returns false if there is no foreground.
    fn segment(&mut self, threshold: f32, ignored: &[bool]) -> bool {
        let (width, height) = (self.width, self.height);
        let mut found = 0;
        for y in 0..height {
            let row = |y: usize| y * width..(y + 1) * width;
            let (above, below) = (row(y.saturating_sub(1)), row((y + 1).min(height - 1)));
            let cells = row(y);
            let cell_row = CellRow {
                mean: [&self.mean[above], &self.mean[cells.clone()], &self.mean[below]],
                current: &self.current[cells.clone()],
                noise: &self.noise[cells.clone()],
                ignored: &ignored[cells.clone()],
            };
            let (residual, mask) = (&mut self.residual[cells.clone()], &mut self.mask[cells]);
            found += cell_row.segment(self.fit, threshold, residual, mask);
        }
        found > 0
    }

    /// Changes foreground cells with the background's texture to [`ILLUMINATION`]. `rows` are those with
    /// foreground.
    fn mark_illumination(&mut self, rows: Range<usize>) {
        let (width, height) = (self.width, self.height);
        if width <= 2 * WINDOW_RADIUS {
            return;
        }
        let columns = foreground::foreground_columns(&self.mask, width, rows.clone());
        let Some((first, last)) = columns else { return };
        // At the left and right edge, the nearest complete window is used.
        let centre = |x: usize| x.clamp(WINDOW_RADIUS, width - WINDOW_RADIUS - 1);
        let around_columns = centre(first) - WINDOW_RADIUS..centre(last) + WINDOW_RADIUS + 1;
        let around_rows = rows.start.saturating_sub(WINDOW_RADIUS)..(rows.end + WINDOW_RADIUS).min(height);
        let (left, top) = (around_columns.start, around_rows.start);
        self.windows.compute(&self.mean, &self.current, width, around_columns, around_rows);
        for y in rows {
            for x in first..=last {
                let cell = y * width + x;
                if self.mask[cell] == FOREGROUND {
                    let noise = self.noise[cell];
                    if self.windows.has_same_texture(centre(x) - left, y - top, noise) {
                        self.mask[cell] = ILLUMINATION;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH: usize = 96;
    const HEIGHT: usize = 54;

    /// A textured scene under a gain and an offset, with a square object of another texture: left, top and
    /// size.
    fn image(gain: f32, offset: f32, object: Option<(usize, usize, usize)>, seed: u64) -> Luma {
        let mut random = fastrand::Rng::with_seed(seed);
        let texture = |x: usize, y: usize| ((x * 7919 + y * 104_729) % 61) as f32;
        let cells = (0..WIDTH * HEIGHT)
            .map(|i| {
                let (x, y) = (i % WIDTH, i / WIDTH);
                let inside = object.is_some_and(|(left, top, size)| {
                    (left..left + size).contains(&x) && (top..top + size).contains(&y)
                });
                let scene = 60.0 + texture(x, y);
                let value = if inside { 170.0 - texture(y, x) / 2.0 } else { scene };
                let noise = random.f32() * 2.0 - 1.0;
                ((gain * value + offset + noise).clamp(0.0, 255.0) * f32::from(ONE)) as u16
            })
            .collect();
        Luma { width: WIDTH, height: HEIGHT, side: 4, cells }
    }

    fn learned_background() -> Background {
        let mut background = Background::default();
        background.reset(&image(1.0, 0.0, None, 1));
        for seed in 2..20 {
            background.compare(&image(1.0, 0.0, None, seed), 8.0, &[false; WIDTH * HEIGHT]);
            background.learn(Duration::from_millis(200), Duration::from_secs(20), &[false; WIDTH * HEIGHT]);
        }
        background
    }

    fn count_foreground(background: &mut Background, luma: &Luma) -> usize {
        let mask = background.compare(luma, 8.0, &[false; WIDTH * HEIGHT]);
        mask.iter().filter(|&&cell| cell == FOREGROUND).count()
    }

    #[test]
    fn an_object_is_foreground_in_any_light_and_noise_and_light_are_not() {
        let mut background = learned_background();
        assert_eq!(count_foreground(&mut background, &image(1.0, 0.0, None, 99)), 0);
        assert_eq!(count_foreground(&mut background, &image(1.4, 15.0, None, 98)), 0, "a lamp");
        assert!(background.brightness_change() > 40.0);
        for (gain, offset) in [(1.0, 0.0), (1.3, 5.0), (0.7, -5.0)] {
            let object = image(gain, offset, Some((40, 20, 12)), 97);
            let cells = count_foreground(&mut background, &object);
            assert!((110..=160).contains(&cells), "{cells} of 144 at {gain}");
        }
    }

    #[test]
    fn a_shadow_is_an_illumination_change() {
        let mut background = learned_background();
        let mut luma = image(1.0, 0.0, None, 50);
        for y in 20..40 {
            luma.cells[y * WIDTH + 30..y * WIDTH + 60].iter_mut().for_each(|cell| *cell = *cell * 6 / 10);
        }
        let foreground = count_foreground(&mut background, &luma);
        let illumination = background.mask().iter().filter(|&&cell| cell == ILLUMINATION).count();
        // Windows across the shadow's hard edge match neither side.
        assert!(
            illumination > 400 && foreground < 200,
            "of 600 cells, {illumination} are illumination and {foreground} foreground"
        );
    }

    #[test]
    fn ignored_cells_are_never_foreground_and_covered_cells_are_not_learned() {
        let mut background = learned_background();
        let luma = image(1.0, 0.0, Some((40, 20, 12)), 3);
        let mask = background.compare(&luma, 8.0, &[true; WIDTH * HEIGHT]);
        assert!(mask.iter().all(|&cell| cell == BACKGROUND));
        for _ in 0..100 {
            background.compare(&luma, 8.0, &[false; WIDTH * HEIGHT]);
            background.learn(Duration::from_secs(1), Duration::from_secs(20), &[true; WIDTH * HEIGHT]);
        }
        assert!(count_foreground(&mut background, &luma) > 100);
        for _ in 0..100 {
            background.compare(&luma, 8.0, &[false; WIDTH * HEIGHT]);
            background.learn(Duration::from_secs(1), Duration::from_secs(20), &[false; WIDTH * HEIGHT]);
        }
        assert_eq!(count_foreground(&mut background, &luma), 0, "the object is background now");
    }
}
