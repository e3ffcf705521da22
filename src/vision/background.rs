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
use std::{ops::Range, time::Duration};

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
/// Sums are taken around the middle of the range, where they keep their digits.
const MIDDLE: f32 = 128.0;
/// The first pictures are averaged.
const FIRST_PICTURES: u32 = 8;
/// Cells around a cell whose texture is compared: 5 x 5.
const REACH: usize = 2;
/// Texture that agrees so well shines through; its least spread beside the wavering, in 255ths.
const AGREEMENT: f32 = 0.75;
const LEAST_TEXTURE: f32 = 2.0;
/// Light makes things at most so much darker or brighter.
const GAINS: Range<f32> = 0.2..4.0;
/// The shift is at most so many cells; what is further is no trembling.
const MOST_SHIFT: f32 = 1.5;
/// At least this part of the cells must agree with a fit.
const LEAST_INLIERS: f32 = 0.25;
/// Every so many rows are enough for a fit.
const FITTED_ROWS: usize = 4;
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

    /// Least squares on the cells of every fourth row that are within `tolerance` of `fit`; none where too few
    /// are, or where the outcome is nothing that light and trembling do.
    fn refine(&self, fit: Fit, tolerance: f32) -> Option<(Fit, f32)> {
        let (width, height) = (self.width, self.height);
        if width < 8 || height < 8 {
            return None;
        }
        let mut equations = Equations::default();
        let rows = (1..height - 1).step_by(FITTED_ROWS);
        let all = (rows.len() * (width - 2)) as f64;
        for y in rows {
            let row = |y: usize| y * width..(y + 1) * width;
            let (above, below) = (&self.mean[row(y - 1)], &self.mean[row(y + 1)]);
            equations.add_row([above, &self.mean[row(y)], below], &self.now[row(y)], fit, tolerance);
        }
        let inliers = (equations.inliers() / all) as f32;
        if inliers < LEAST_INLIERS {
            return None;
        }
        let [more_gain, offset, x, y] = equations.solve()?.map(|value| value as f32);
        let offset = offset - more_gain * MIDDLE;
        let is_plausible = more_gain.abs() < 0.6 && x.abs() <= MOST_SHIFT && y.abs() <= MOST_SHIFT;
        let fit = Fit { gain: 1.0 + more_gain, offset, shift: (x, y) };
        is_plausible.then_some((fit, inliers))
    }

    /// Marks the cells that differ from what is expected; false where there is none.
    fn stand_out(&mut self, fit: Fit, threshold: f32, ignored: &[bool]) -> bool {
        let (width, height) = (self.width, self.height);
        let mut found = 0;
        for y in 0..height {
            let row = |y: usize| y * width..(y + 1) * width;
            let (above, below) = (row(y.saturating_sub(1)), row((y + 1).min(height - 1)));
            let cells = row(y);
            let seen = Row {
                mean: [&self.mean[above], &self.mean[cells.clone()], &self.mean[below]],
                now: &self.now[cells.clone()],
                noise: &self.noise[cells.clone()],
                ignored: &ignored[cells.clone()],
            };
            let (residual, marks) = (&mut self.residual[cells.clone()], &mut self.marks[cells]);
            found += seen.stand_out(fit, threshold, residual, marks);
        }
        found > 0
    }

    /// Takes the mark from cells with too few neighbours of the same.
    fn leave_out_single(&mut self, mark: u8) {
        let (width, height) = (self.width, self.height);
        let Some(rows) = self.rows_of(mark) else { return };
        let counted = rows.start.saturating_sub(1)..(rows.end + 1).min(height);
        let cells = counted.start * width..counted.end * width;
        let counts = self.counts[cells.clone()].chunks_exact_mut(width);
        for (row, counts) in self.marks[cells].chunks_exact(width).zip(counts) {
            let is = |x: usize| u8::from(row[x] == mark);
            // A cell beyond the edge is taken for what the cell at the edge is.
            counts[0] = 2 * is(0) + is(1.min(width - 1));
            counts[width - 1] = 2 * is(width - 1) + is(width.saturating_sub(2));
            for (count, near) in counts[1..].iter_mut().zip(row.windows(3)) {
                *count = near.iter().map(|&cell| u8::from(cell == mark)).sum();
            }
        }
        for y in rows {
            let [above, row, below] = [y.saturating_sub(1), y, (y + 1).min(height - 1)]
                .map(|y| &self.counts[y * width..(y + 1) * width]);
            let marks = self.marks[y * width..(y + 1) * width].iter_mut();
            for (cell, ((above, near), below)) in marks.zip(above.iter().zip(row).zip(below)) {
                let is_single = (*cell == mark) & (above + near + below < LEAST_NEIGHBOURS);
                *cell = if is_single { STILL } else { *cell };
            }
        }
    }

    /// The rows that hold a mark.
    fn rows_of(&self, mark: u8) -> Option<Range<usize>> {
        let first = self.marks.iter().position(|&cell| cell == mark)?;
        let last = self.marks.iter().rposition(|&cell| cell == mark)?;
        Some(first / self.width..last / self.width + 1)
    }

    /// Marks as light the things through which the background's texture shines.
    fn find_light(&mut self, rows: Range<usize>) {
        let (width, height) = (self.width, self.height);
        if width <= 2 * REACH {
            return;
        }
        let marked = |row: &[u8]| Some((row.iter().position(is_thing)?, row.iter().rposition(is_thing)?));
        let columns = self.marks[rows.start * width..rows.end * width].chunks_exact(width).filter_map(marked);
        let Some((first, last)) = columns.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))) else { return };
        // Windows at the left and right edge are those of the nearest whole one.
        let whole = |x: usize| x.clamp(REACH, width - REACH - 1);
        let around_columns = whole(first) - REACH..whole(last) + REACH + 1;
        let around_rows = rows.start.saturating_sub(REACH)..(rows.end + REACH).min(height);
        let (left, above) = (around_columns.start, around_rows.start);
        self.windows.fill(&self.mean, &self.now, width, around_columns, around_rows);
        for y in rows {
            for x in first..=last {
                let cell = y * width + x;
                if self.marks[cell] == THING {
                    let noise = self.noise[cell];
                    if self.windows.shines_through(whole(x) - left, y - above, noise) {
                        self.marks[cell] = LIGHT;
                    }
                }
            }
        }
    }
}

fn is_thing(mark: &u8) -> bool {
    *mark == THING
}

/// A row of cells that is compared.
struct Row<'a> {
    /// The memory of the row above, of this one, of the one below.
    mean: [&'a [f32]; 3],
    now: &'a [f32],
    noise: &'a [f32],
    ignored: &'a [bool],
}

impl Row<'_> {
    /// Marks the row's cells and tells how many stand out. Straight lines over slices of one length: compilers make
    /// vectors of them, and the half of what seeing costs on a quiet picture is here.
    fn stand_out(&self, fit: Fit, threshold: f32, residual: &mut [f32], marks: &mut [u8]) -> u32 {
        let width = marks.len();
        let [above, row, below] = self.mean;
        let differs = |before: f32, cell: f32, after: f32, above: f32, below: f32, now: f32, noise: f32| {
            let (gradient_x, gradient_y) = (0.5 * (after - before), 0.5 * (below - above));
            let expected = fit.gain * cell + fit.offset - gradient_x * fit.shift.0 - gradient_y * fit.shift.1;
            let edge = gradient_x.abs().max(gradient_y.abs());
            (now - expected, threshold + NOISE_FACTOR * noise + EDGE_FACTOR * edge)
        };
        let mut found = 0;
        let inner = 1..width.max(2) - 1;
        if !inner.is_empty() {
            let (before, after) = (&row[..width - 2], &row[2..]);
            let (cell, above, below) = (&row[inner.clone()], &above[inner.clone()], &below[inner.clone()]);
            let (now, noise) = (&self.now[inner.clone()], &self.noise[inner.clone()]);
            let (ignored, residual) = (&self.ignored[inner.clone()], &mut residual[inner.clone()]);
            let marks = &mut marks[inner];
            for x in 0..width - 2 {
                let (difference, most) =
                    differs(before[x], cell[x], after[x], above[x], below[x], now[x], noise[x]);
                residual[x] = difference;
                let stands_out = (difference.abs() > most) & !ignored[x];
                marks[x] = if stands_out { THING } else { STILL };
                found += u32::from(stands_out);
            }
        }
        for x in [0, width - 1] {
            let (before, after) = (row[x.saturating_sub(1)], row[(x + 1).min(width - 1)]);
            let (difference, most) =
                differs(before, row[x], after, above[x], below[x], self.now[x], self.noise[x]);
            residual[x] = difference;
            let stands_out = (difference.abs() > most) & !self.ignored[x];
            marks[x] = if stands_out { THING } else { STILL };
            found += u32::from(stands_out);
        }
        found
    }
}

/// The normal equations for [mean, 1, gradient x, gradient y] against the picture.
#[derive(Default)]
struct Equations {
    /// Of a row's cells, 0 where one is left out: the four terms, then what they are to explain.
    terms: [Vec<f32>; 5],
    /// Of the matrix the upper half row by row, each with its right side: see [`pairs`].
    sums: [f64; 14],
}

impl Equations {
    /// Adds the cells of a row that are within `tolerance` of `fit`.
    ///
    /// In straight loops over slices of one length, for compilers to make vectors of.
    fn add_row(&mut self, mean: [&[f32]; 3], now: &[f32], fit: Fit, tolerance: f32) {
        let len = now.len() - 2;
        let [above, row, below] = mean;
        let (before, cell, after) = (&row[..len], &row[1..=len], &row[2..]);
        let (above, below, now) = (&above[1..=len], &below[1..=len], &now[1..=len]);
        self.terms.iter_mut().for_each(|terms| terms.resize(len, 0.0));
        let [cells, ones, right, down, targets] = self.terms.each_mut().map(|terms| &mut terms[..len]);
        for x in 0..len {
            let (gradient_x, gradient_y) = (0.5 * (after[x] - before[x]), 0.5 * (below[x] - above[x]));
            let expected =
                fit.gain * cell[x] + fit.offset - gradient_x * fit.shift.0 - gradient_y * fit.shift.1;
            let weight = if (now[x] - expected).abs() <= tolerance { 1.0 } else { 0.0 };
            cells[x] = weight * (cell[x] - MIDDLE);
            ones[x] = weight;
            right[x] = -weight * gradient_x;
            down[x] = -weight * gradient_y;
            targets[x] = weight * (now[x] - cell[x]);
        }
        for (sum, (i, j)) in self.sums.iter_mut().zip(pairs()) {
            // In f32 along a row, for speed; in f64 over the rows, for exactness.
            *sum += f64::from(product(&self.terms[i], &self.terms[j]));
        }
    }

    fn inliers(&self) -> f64 {
        self.sums[5]
    }

    /// What is to be added to the gain, the offset, the shift to the right and down.
    fn solve(&self) -> Option<[f64; 4]> {
        let (mut products, mut targets) = ([[0.0f64; 4]; 4], [0.0f64; 4]);
        for (&sum, (i, j)) in self.sums.iter().zip(pairs()) {
            match j {
                4 => targets[i] = sum,
                _ => (products[i][j], products[j][i]) = (sum, sum),
            }
        }
        // A picture without contrast says nothing of gain and shift: then they are none.
        for (i, least) in [4.0, 1e-3, 2.0, 2.0].into_iter().enumerate() {
            products[i][i] += least * self.inliers();
        }
        solve(products, targets)
    }
}

/// The terms that are multiplied, in the order of [`Equations::sums`].
fn pairs() -> impl Iterator<Item = (usize, usize)> {
    (0..4).flat_map(|i| (i..5).map(move |j| (i, j)))
}

/// The sum of products, over eight lanes in a fixed order: the same on every machine.
fn product(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 8;
    let mut lanes = [0.0f32; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// Sums over the 5 x 5 cells around each cell, of the memory, the picture and their products.
#[derive(Debug, Default)]
struct Windows {
    width: usize,
    rows: usize,
    /// Memory, picture, memory², picture², memory x picture: of one row, summed along the rows, then over them.
    values: [Vec<f32>; 5],
    along: [Vec<f32>; 5],
    over: [Vec<f32>; 5],
}

impl Windows {
    /// Of some columns and rows of pictures `width` cells wide; the columns are more than [`REACH`] on both sides.
    fn fill(
        &mut self,
        memory: &[f32],
        picture: &[f32],
        width: usize,
        columns: Range<usize>,
        rows: Range<usize>,
    ) {
        (self.width, self.rows) = (columns.len(), rows.len());
        for sums in self.along.iter_mut().chain(&mut self.over) {
            sums.clear();
            sums.resize(self.width * self.rows, 0.0);
        }
        for values in &mut self.values {
            values.resize(self.width, 0.0);
        }
        for (row, y) in rows.enumerate() {
            let seen = y * width + columns.start..y * width + columns.end;
            for (x, (m, p)) in memory[seen.clone()].iter().zip(&picture[seen]).enumerate() {
                let (m, p) = (m - MIDDLE, p - MIDDLE);
                for (values, value) in self.values.iter_mut().zip([m, p, m * m, p * p, m * p]) {
                    values[x] = value;
                }
            }
            let inner = row * self.width + REACH..(row + 1) * self.width - REACH;
            for (sums, values) in self.along.iter_mut().zip(&self.values) {
                for (sum, near) in sums[inner.clone()].iter_mut().zip(values.windows(2 * REACH + 1)) {
                    *sum = near[0] + near[1] + near[2] + near[3] + near[4];
                }
            }
        }
        for (over, along) in self.over.iter_mut().zip(&self.along) {
            for row in 0..self.rows {
                let sums = &mut over[row * self.width..(row + 1) * self.width];
                // At the upper and lower edge the window is cut.
                for near in row.saturating_sub(REACH)..(row + REACH + 1).min(self.rows) {
                    let values = &along[near * self.width..(near + 1) * self.width];
                    for (sum, value) in sums.iter_mut().zip(values) {
                        *sum += value;
                    }
                }
            }
        }
    }

    /// Whether picture and memory have the same texture around a cell of those filled in, but for a gain and an offset.
    fn shines_through(&self, x: usize, row: usize, noise: f32) -> bool {
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
