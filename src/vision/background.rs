//! What a scene looks like with nothing in it: for each cell of the small picture a brightness and how much it wavers.
//!
//! A picture is compared with that memory in three steps. First what all cells have in common is taken out: the light
//! (a gain and an offset) and the camera's trembling (a shift of a fraction of a cell), fitted by least squares on cells
//! that do not stand out. Then cells stand out where they differ by more than the threshold and their own wavering, and
//! single ones among them are rain. Last, where the texture of the background still shows through, a cell is only in
//! another light: a shadow, a lamp, a headlight's beam.
//!
//! Cells are brightness in 255ths, as f32; pure arithmetic without fused operations, the same on every machine.

use super::{
    blobs::Blob,
    luma::{Luma, ONE},
};
use std::time::Duration;

/// A cell like the background.
pub const STILL: u8 = 0;
/// A cell of the background in another light.
pub const LIGHT: u8 = 1;
/// A cell that is something else.
pub const THING: u8 = 2;

/// A cell's own wavering counts so many times.
const NOISE_FACTOR: f32 = 3.0;
/// Of the step from a cell to its neighbour, so much may be an error of the fitted shift.
const EDGE_FACTOR: f32 = 0.2;
/// Of a cell and its eight neighbours, so many must stand out: what is smaller is rain, snow or a dying pixel.
const LEAST_NEIGHBOURS: u8 = 4;
/// Brightness wavers by so much before anything is known of it, and at most.
const FIRST_NOISE: f32 = 1.5;
const MOST_NOISE: f32 = 30.0;
/// How long wavering is remembered.
const NOISE_MEMORY: Duration = Duration::from_secs(20);
/// How soon another light is the usual one.
const LIGHT_MEMORY: Duration = Duration::from_secs(4);
/// The first pictures are averaged.
const FIRST_PICTURES: u32 = 8;
/// Cells around a cell whose texture is compared: 5 x 5.
const REACH: usize = 2;
/// Texture that agrees so well shines through; its least spread beside the wavering, in 255ths.
const AGREEMENT: f32 = 0.75;
const LEAST_TEXTURE: f32 = 2.0;
/// Light makes things at most so much darker or brighter.
const GAINS: std::ops::Range<f32> = 0.2..4.0;
/// The shift is at most so many cells; what is further is no trembling.
const MOST_SHIFT: f32 = 1.5;
/// At least this part of the cells must agree with a fit.
const LEAST_INLIERS: f32 = 0.25;
/// With so many there is no need to look for a better one.
const GOOD_INLIERS: f32 = 0.8;
/// A step over two cells, in 255ths, beyond what wavering makes, that is an edge; and how much stronger it must be than
/// what was there before.
const LEAST_EDGE: f32 = 3.0;
const EDGE_RATIO: f32 = 1.3;

/// What all cells have in common.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fit {
    /// The light: brightness is `gain` times the background's, plus `offset`.
    pub gain: f32,
    /// See `gain`.
    pub offset: f32,
    /// How far the picture has moved, in cells to the right and down.
    pub shift: (f32, f32),
}

const NO_FIT: Fit = Fit { gain: 1.0, offset: 0.0, shift: (0.0, 0.0) };

impl Default for Fit {
    fn default() -> Fit {
        NO_FIT
    }
}

/// The memory of one camera's scene.
#[derive(Debug, Default)]
pub struct Background {
    width: usize,
    height: usize,
    pictures: u32,
    fit: Fit,
    mean: Vec<f32>,
    noise: Vec<f32>,
    now: Vec<f32>,
    /// Difference from what was expected.
    residual: Vec<f32>,
    marks: Vec<u8>,
    counts: Vec<u8>,
    sums: Vec<u8>,
    windows: Windows,
}

impl Background {
    /// Whether it remembers a scene of this size.
    pub fn knows(&self, luma: &Luma) -> bool {
        (self.width, self.height) == (luma.width, luma.height) && !self.mean.is_empty()
    }

    /// Forgets everything and takes this picture for the scene. What is known of the wavering stays, where the size does.
    pub fn begin(&mut self, luma: &Luma) {
        let len = luma.cells.len();
        if !self.knows(luma) {
            self.noise = vec![FIRST_NOISE; len];
        }
        (self.width, self.height, self.pictures) = (luma.width, luma.height, 1);
        self.mean = luma.cells.iter().map(|&cell| f32::from(cell) / f32::from(ONE)).collect();
        self.now = self.mean.clone();
        self.fit = NO_FIT;
        self.residual = vec![0.0; len];
        for marks in [&mut self.marks, &mut self.counts, &mut self.sums] {
            *marks = vec![STILL; len];
        }
    }

    /// Compares a picture of the known size; `ignored` cells never stand out. Gives every cell's mark.
    pub fn compare(&mut self, luma: &Luma, threshold: f32, ignored: &[bool]) -> &[u8] {
        debug_assert!(self.knows(luma));
        for (now, &cell) in self.now.iter_mut().zip(&luma.cells) {
            *now = f32::from(cell) * (1.0 / ONE as f32);
        }
        self.fit = self.fit();
        if !self.stand_out(self.fit, threshold, ignored) {
            return &self.marks;
        }
        self.leave_out_single(THING);
        if let Some(rows) = self.rows_of(THING) {
            self.find_light(rows);
            self.leave_out_single(THING);
        }
        &self.marks
    }

    /// Takes the marks from cells that are `known`.
    pub fn unmark(&mut self, known: &[bool]) {
        for (mark, known) in self.marks.iter_mut().zip(known) {
            *mark = if *known { STILL } else { *mark };
        }
    }

    /// The marks of the last comparison.
    pub fn marks(&self) -> &[u8] {
        &self.marks
    }

    /// Brightness of the scene as it is remembered, in 255ths.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// Brightness of the last compared picture, in 255ths.
    pub fn now(&self) -> &[f32] {
        &self.now
    }

    /// By how much the last compared picture is brighter than the memory, all in all.
    pub fn light(&self) -> f32 {
        // A mean over some of the cells is exact enough.
        let (sum, count) =
            self.mean.iter().step_by(7).fold((0.0, 0.0), |(sum, count), m| (sum + m, count + 1.0));
        (self.fit.gain - 1.0) * (sum / f32::max(count, 1.0)) + self.fit.offset
    }

    /// Takes the light of the last compared picture for the usual one.
    pub fn take_light(&mut self) {
        let Fit { gain, offset, .. } = self.fit;
        self.mean.iter_mut().for_each(|mean| *mean = (gain * *mean + offset).clamp(0.0, 255.0));
        self.fit = Fit { gain: 1.0, offset: 0.0, ..self.fit };
    }

    /// Learns from the last compared picture, `passed` after the one before. Cells that are `held` are known to be
    /// covered and only follow the light of all others.
    pub fn learn(&mut self, passed: Duration, memory: Duration, held: &[bool]) {
        let weight = |memory: Duration| 1.0 - (-passed.as_secs_f32() / memory.as_secs_f32()).exp();
        let (mut learn, learn_light, learn_noise) =
            (weight(memory), weight(LIGHT_MEMORY), weight(NOISE_MEMORY));
        self.pictures = self.pictures.saturating_add(1);
        if self.pictures <= FIRST_PICTURES {
            learn = learn.max(1.0 / self.pictures as f32);
        }
        let cells = self.mean.iter_mut().zip(&mut self.noise);
        let seen = self.now.iter().zip(&self.residual).zip(self.marks.iter().zip(held));
        for ((mean, noise), ((now, residual), (mark, held))) in cells.zip(seen) {
            if *held {
                // What the fit expects here without the camera's trembling, about.
                *mean += learn * (now - residual - *mean).clamp(-MOST_NOISE, MOST_NOISE);
                continue;
            }
            *mean += if *mark == LIGHT { learn_light } else { learn } * (now - *mean);
            *noise += learn_noise * (residual.abs().min(MOST_NOISE) - *noise);
        }
    }

    /// Takes what covers these cells for the scene from now on.
    pub fn absorb(&mut self, blob: &Blob) {
        // With a rim, for the blob's own is a mixture.
        for run in &blob.runs {
            for y in run.y.saturating_sub(2)..(run.y + 3).min(self.height) {
                let row = y * self.width;
                let cells = row + run.start.saturating_sub(2)..row + (run.end + 2).min(self.width);
                self.mean[cells.clone()].copy_from_slice(&self.now[cells]);
            }
        }
    }

    /// How many cells of a blob and its rim have an edge that the memory does not have there, and how many have lost one.
    pub fn edges(&self, blob: &Blob) -> (usize, usize) {
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
                let (now, before) = (step(&self.now, x, run.y), step(&self.mean, x, run.y));
                let least = LEAST_EDGE + NOISE_FACTOR * self.noise[run.y * width + x];
                new += usize::from(now > EDGE_RATIO * before + least);
                lost += usize::from(before > EDGE_RATIO * now + least);
            }
        }
        (new, lost)
    }

    /// Fits light and shift to the cells that do not stand out.
    fn fit(&self) -> Fit {
        // Mostly it is what it was a moment ago. Else the whole picture may be brighter, or just covered in part: the
        // guess with which most cells agree.
        let mut best = self.fit_from(self.fit);
        if best.is_none_or(|(_, inliers)| inliers < GOOD_INLIERS) {
            let guesses = [NO_FIT, Fit { offset: self.median_difference(), ..NO_FIT }];
            for found in guesses.into_iter().filter_map(|guess| self.fit_from(guess)) {
                if best.is_none_or(|(_, inliers)| found.1 > inliers) {
                    best = Some(found);
                }
            }
        }
        best.map_or(NO_FIT, |(fit, _)| fit)
    }

    /// The fit that a guess leads to, and which part of the cells agrees with it.
    fn fit_from(&self, guess: Fit) -> Option<(Fit, f32)> {
        let (fit, _) = self.refine(guess, 12.0)?;
        self.refine(fit, 8.0)
    }

    /// By how much the picture is brighter than the memory: the median over a quarter of the cells, to half a step.
    fn median_difference(&self) -> f32 {
        let mut histogram = [0u32; 1024];
        let mut count = 0;
        for (now, mean) in self.now.iter().zip(&self.mean).step_by(5) {
            histogram[(((now - mean) * 2.0) as i32 + 512).clamp(0, 1023) as usize] += 1;
            count += 1;
        }
        let mut left = count / 2;
        for (index, &count) in histogram.iter().enumerate() {
            if left < count {
                return (index as f32 - 512.0) / 2.0;
            }
            left -= count;
        }
        0.0
    }

    /// Least squares on every second cell of every second row that is within `tolerance` of `fit`; none where too few
    /// are, or where the outcome is nothing that light and trembling do.
    fn refine(&self, fit: Fit, tolerance: f32) -> Option<(Fit, f32)> {
        let (width, height) = (self.width, self.height);
        if width < 8 || height < 8 {
            return None;
        }
        // Of the normal equations for [mean, 1, gradient x, gradient y] against the picture.
        let (mut products, mut targets) = ([[0.0f64; 4]; 4], [0.0f64; 4]);
        let (mut inliers, mut all) = (0u32, 0u32);
        for y in (1..height - 1).step_by(2) {
            let [above, row, below] = [y - 1, y, y + 1].map(|y| &self.mean[y * width..(y + 1) * width]);
            let now = &self.now[y * width..(y + 1) * width];
            // In f32 along a row, for speed; in f64 over the rows, for exactness.
            let (mut row_products, mut row_targets) = ([[0.0f32; 4]; 4], [0.0f32; 4]);
            for x in (1..width - 1).step_by(2) {
                all += 1;
                let gradient_x = 0.5 * (row[x + 1] - row[x - 1]);
                let gradient_y = 0.5 * (below[x] - above[x]);
                let expected =
                    fit.gain * row[x] + fit.offset - gradient_x * fit.shift.0 - gradient_y * fit.shift.1;
                if (now[x] - expected).abs() > tolerance {
                    continue;
                }
                inliers += 1;
                // Around the middle of the range, which makes gain and offset nearly independent.
                let terms = [row[x] - 128.0, 1.0, -gradient_x, -gradient_y];
                let target = now[x] - row[x];
                for i in 0..4 {
                    for j in i..4 {
                        row_products[i][j] += terms[i] * terms[j];
                    }
                    row_targets[i] += terms[i] * target;
                }
            }
            for i in 0..4 {
                for j in i..4 {
                    products[i][j] += f64::from(row_products[i][j]);
                }
                targets[i] += f64::from(row_targets[i]);
            }
        }
        if (inliers as f32) < LEAST_INLIERS * all as f32 {
            return None;
        }
        // A picture without contrast says nothing of gain and shift: then they are none.
        for (i, least) in [4.0, 1e-3, 2.0, 2.0].into_iter().enumerate() {
            products[i][i] += least * f64::from(inliers);
            let above: [f64; 4] = std::array::from_fn(|j| products[j][i]);
            products[i][..i].copy_from_slice(&above[..i]);
        }
        let [more_gain, offset, x, y] = solve(products, targets)?.map(|value| value as f32);
        let offset = offset - more_gain * 128.0;
        let is_plausible = more_gain.abs() < 0.6 && x.abs() <= MOST_SHIFT && y.abs() <= MOST_SHIFT;
        let fit = Fit { gain: 1.0 + more_gain, offset, shift: (x, y) };
        is_plausible.then_some((fit, inliers as f32 / all as f32))
    }

    /// Marks the cells that differ from what is expected; false where there is none.
    fn stand_out(&mut self, fit: Fit, threshold: f32, ignored: &[bool]) -> bool {
        let (width, height) = (self.width, self.height);
        let mut found = 0u32;
        for y in 0..height {
            let [above, row, below] = [y.saturating_sub(1), y, (y + 1).min(height - 1)]
                .map(|y| &self.mean[y * width..(y + 1) * width]);
            let cells = y * width..(y + 1) * width;
            let (now, noise) = (&self.now[cells.clone()], &self.noise[cells.clone()]);
            let (residual, marks) = (&mut self.residual[cells.clone()], &mut self.marks[cells.clone()]);
            let ignored = &ignored[cells];
            let mut mark = |x: usize, before: usize, after: usize| {
                let gradient_x = 0.5 * (row[after] - row[before]);
                let gradient_y = 0.5 * (below[x] - above[x]);
                let expected =
                    fit.gain * row[x] + fit.offset - gradient_x * fit.shift.0 - gradient_y * fit.shift.1;
                let difference = now[x] - expected;
                let edge = gradient_x.abs().max(gradient_y.abs());
                let most = threshold + NOISE_FACTOR * noise[x] + EDGE_FACTOR * edge;
                residual[x] = difference;
                let differs = (difference.abs() > most) & !ignored[x];
                marks[x] = if differs { THING } else { STILL };
                found += u32::from(differs);
            };
            if width >= 2 {
                mark(0, 0, 1);
                (1..width - 1).for_each(|x| mark(x, x - 1, x + 1));
                mark(width - 1, width - 2, width - 1);
            }
        }
        found > 0
    }

    /// Takes the mark from cells with too few neighbours of the same.
    fn leave_out_single(&mut self, mark: u8) {
        let (width, height) = (self.width, self.height);
        for (row, counts) in self.marks.chunks_exact(width).zip(self.counts.chunks_exact_mut(width)) {
            let is = |x: usize| u8::from(row[x] == mark);
            for (x, count) in counts.iter_mut().enumerate().take(width - 1).skip(1) {
                *count = is(x - 1) + is(x) + is(x + 1);
            }
            // A cell beyond the edge is taken for what the cell at the edge is.
            counts[0] = 2 * is(0) + is(1.min(width - 1));
            counts[width - 1] = 2 * is(width - 1) + is(width.saturating_sub(2));
        }
        for y in 0..height {
            let [above, row, below] = [y.saturating_sub(1), y, (y + 1).min(height - 1)]
                .map(|y| &self.counts[y * width..(y + 1) * width]);
            let marks = &mut self.marks[y * width..(y + 1) * width];
            for x in 0..width {
                if marks[x] == mark && above[x] + row[x] + below[x] < LEAST_NEIGHBOURS {
                    marks[x] = STILL;
                }
            }
        }
    }

    /// The rows that hold a mark.
    fn rows_of(&self, mark: u8) -> Option<std::ops::Range<usize>> {
        let first = self.marks.iter().position(|&cell| cell == mark)?;
        let last = self.marks.iter().rposition(|&cell| cell == mark)?;
        Some(first / self.width..last / self.width + 1)
    }

    /// Marks as light the things through which the background's texture shines.
    fn find_light(&mut self, rows: std::ops::Range<usize>) {
        let (width, height) = (self.width, self.height);
        let above = rows.start.saturating_sub(REACH);
        let around = above..(rows.end + REACH).min(height);
        self.windows.fill(&self.mean, &self.now, width, around);
        for y in rows {
            for x in 0..width {
                let cell = y * width + x;
                if self.marks[cell] == THING {
                    let noise = self.noise[cell];
                    if self.windows.shines_through(x, y - above, noise) {
                        self.marks[cell] = LIGHT;
                    }
                }
            }
        }
    }
}

/// Sums over the 5 x 5 cells around each cell, of the memory, the picture and their products.
#[derive(Debug, Default)]
struct Windows {
    width: usize,
    rows: usize,
    /// Memory, picture, memory², picture², memory x picture: summed along the rows, then over them.
    along: [Vec<f32>; 5],
    over: [Vec<f32>; 5],
}

impl Windows {
    fn fill(&mut self, memory: &[f32], picture: &[f32], width: usize, rows: std::ops::Range<usize>) {
        let cells = rows.start * width..rows.end * width;
        (self.width, self.rows) = (width, rows.len());
        let (memory, picture) = (&memory[cells.clone()], &picture[cells]);
        for sums in self.along.iter_mut().chain(&mut self.over) {
            sums.clear();
            sums.resize(memory.len(), 0.0);
        }
        if width <= 2 * REACH {
            return;
        }
        let mut values: [Vec<f32>; 5] = std::array::from_fn(|_| vec![0.0; width]);
        for row in 0..self.rows {
            let cells = row * width..(row + 1) * width;
            for (x, (m, p)) in memory[cells.clone()].iter().zip(&picture[cells.clone()]).enumerate() {
                let (m, p) = (m - 128.0, p - 128.0);
                for (values, value) in values.iter_mut().zip([m, p, m * m, p * p, m * p]) {
                    values[x] = value;
                }
            }
            for (sums, values) in self.along.iter_mut().zip(&values) {
                let sums = &mut sums[cells.clone()][REACH..width - REACH];
                for (x, sum) in sums.iter_mut().enumerate() {
                    *sum = values[x] + values[x + 1] + values[x + 2] + values[x + 3] + values[x + 4];
                }
            }
        }
        for (over, along) in self.over.iter_mut().zip(&self.along) {
            for row in 0..self.rows {
                let sums = &mut over[row * width..(row + 1) * width];
                // At the upper and lower edge the window is cut.
                for near in row.saturating_sub(REACH)..(row + REACH + 1).min(self.rows) {
                    for (sum, value) in sums.iter_mut().zip(&along[near * width..(near + 1) * width]) {
                        *sum += value;
                    }
                }
            }
        }
    }

    /// Whether picture and memory have the same texture around a cell, but for a gain and an offset.
    fn shines_through(&self, x: usize, row: usize, noise: f32) -> bool {
        if self.width <= 2 * REACH {
            return false;
        }
        // Windows at the left and right edge are those of the nearest whole one.
        let x = x.clamp(REACH, self.width - REACH - 1);
        let rows = (row + REACH + 1).min(self.rows) - row.saturating_sub(REACH);
        let count = (rows * (2 * REACH + 1)) as f32;
        let cell = row * self.width + x;
        let [m, p, mm, pp, mp] = [0, 1, 2, 3, 4].map(|sum| self.over[sum][cell] / count);
        let (variance_m, variance_p, covariance) = (mm - m * m, pp - p * p, mp - m * p);
        let least = LEAST_TEXTURE + noise;
        if variance_m < least * least || variance_p < 0.25 * least * least {
            return false;
        }
        covariance > 0.0
            && covariance * covariance > AGREEMENT * AGREEMENT * variance_m * variance_p
            && GAINS.contains(&(covariance / variance_m))
    }
}

/// Solves four equations with a symmetric, positive matrix (Gauss, with pivots).
fn solve(mut matrix: [[f64; 4]; 4], mut right: [f64; 4]) -> Option<[f64; 4]> {
    for i in 0..4 {
        let pivot = (i..4).max_by(|&a, &b| matrix[a][i].abs().total_cmp(&matrix[b][i].abs()))?;
        if matrix[pivot][i].abs() < 1e-9 {
            return None;
        }
        matrix.swap(i, pivot);
        right.swap(i, pivot);
        for row in i + 1..4 {
            let factor = matrix[row][i] / matrix[i][i];
            let pivot = matrix[i];
            matrix[row][i..].iter_mut().zip(&pivot[i..]).for_each(|(value, pivot)| *value -= factor * pivot);
            right[row] -= factor * right[i];
        }
    }
    for i in (0..4).rev() {
        let known: f64 = (i + 1..4).map(|column| matrix[i][column] * right[column]).sum();
        right[i] = (right[i] - known) / matrix[i][i];
    }
    Some(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH: usize = 96;
    const HEIGHT: usize = 54;

    /// A textured scene under a gain and an offset, with a box of another texture.
    fn picture(gain: f32, offset: f32, thing: Option<(usize, usize, usize)>, seed: u64) -> Luma {
        let mut random = fastrand::Rng::with_seed(seed);
        let texture = |x: usize, y: usize| ((x * 7919 + y * 104_729) % 61) as f32;
        let cells = (0..WIDTH * HEIGHT)
            .map(|i| {
                let (x, y) = (i % WIDTH, i / WIDTH);
                let inside = thing.is_some_and(|(left, top, size)| {
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

    fn learned() -> Background {
        let mut background = Background::default();
        background.begin(&picture(1.0, 0.0, None, 1));
        for seed in 2..20 {
            background.compare(&picture(1.0, 0.0, None, seed), 8.0, &[false; WIDTH * HEIGHT]);
            background.learn(Duration::from_millis(200), Duration::from_secs(20), &[false; WIDTH * HEIGHT]);
        }
        background
    }

    fn count(background: &mut Background, luma: &Luma, mark: u8) -> usize {
        let marks = background.compare(luma, 8.0, &[false; WIDTH * HEIGHT]);
        marks.iter().filter(|&&cell| cell == mark).count()
    }

    #[test]
    fn noise_and_another_light_are_no_things_and_a_thing_is_one_in_any_light() {
        let mut background = learned();
        assert_eq!(count(&mut background, &picture(1.0, 0.0, None, 99), THING), 0);
        assert_eq!(count(&mut background, &picture(1.4, 15.0, None, 98), THING), 0, "a lamp");
        assert!(background.light() > 40.0);
        for (gain, offset) in [(1.0, 0.0), (1.3, 5.0), (0.7, -5.0)] {
            let things = count(&mut background, &picture(gain, offset, Some((40, 20, 12)), 97), THING);
            assert!((110..=160).contains(&things), "{things} of 144 at {gain}");
        }
    }

    #[test]
    fn a_shadow_is_another_light() {
        let mut background = learned();
        let mut luma = picture(1.0, 0.0, None, 50);
        for y in 20..40 {
            luma.cells[y * WIDTH + 30..y * WIDTH + 60].iter_mut().for_each(|cell| *cell = *cell * 6 / 10);
        }
        let things = count(&mut background, &luma, THING);
        let lights = background.marks().iter().filter(|&&cell| cell == LIGHT).count();
        // Its hard rim belongs to neither side.
        assert!(lights > 400 && things < 200, "{lights} of 600 cells are light, {things} something else");
    }

    #[test]
    fn what_is_ignored_never_stands_out_and_what_is_held_is_not_learned() {
        let mut background = learned();
        let luma = picture(1.0, 0.0, Some((40, 20, 12)), 3);
        let marks = background.compare(&luma, 8.0, &[true; WIDTH * HEIGHT]);
        assert!(marks.iter().all(|&mark| mark == STILL));
        for _ in 0..100 {
            background.compare(&luma, 8.0, &[false; WIDTH * HEIGHT]);
            background.learn(Duration::from_secs(1), Duration::from_secs(20), &[true; WIDTH * HEIGHT]);
        }
        assert!(count(&mut background, &luma, THING) > 100);
        for _ in 0..100 {
            background.compare(&luma, 8.0, &[false; WIDTH * HEIGHT]);
            background.learn(Duration::from_secs(1), Duration::from_secs(20), &[false; WIDTH * HEIGHT]);
        }
        assert_eq!(count(&mut background, &luma, THING), 0, "it belongs to the scene now");
    }

    #[test]
    fn equations_are_solved_and_impossible_ones_refused() {
        let matrix = [[4.0, 1.0, 0.0, 0.0], [1.0, 3.0, 0.0, 0.0], [0.0, 0.0, 2.0, 0.0], [0.0, 0.0, 0.0, 1.0]];
        let found = solve(matrix, [6.0, 7.0, 4.0, 5.0]).unwrap();
        for (value, expected) in found.into_iter().zip([1.0, 2.0, 2.0, 5.0]) {
            assert!((value - expected).abs() < 1e-9, "{found:?}");
        }
        assert_eq!(solve([[0.0; 4]; 4], [1.0; 4]), None);
    }
}
