//! The illumination model: how an image as a whole differs from the background.
//!
//! A gain and an offset describe the light, a shift by a fraction of a cell describes camera shake. All four
//! are fitted by least squares over the cells that agree with a guess (inliers), so that objects do not
//! disturb the fit.

/// Sums are taken around the middle of the brightness range, where f32 keeps most digits.
pub const MID_BRIGHTNESS: f32 = 128.0;
/// Maximum shift in cells; larger ones are not camera shake.
const MAX_SHIFT: f32 = 1.5;
/// Maximum difference of the gain from 1.
const MAX_GAIN_CHANGE: f32 = 0.6;
/// Minimum share of the cells that must be inliers of a fit.
const MIN_INLIERS: f32 = 0.25;
/// Share of inliers above which no other guess is tried.
const GOOD_INLIERS: f32 = 0.8;
/// Brightness difference up to which a cell is an inlier: in the first and the second iteration.
const TOLERANCES: [f32; 2] = [12.0, 8.0];
/// The fit uses every n-th row, which is accurate enough.
const ROW_STEP: usize = 4;

/// Difference between an image and the background that all cells have in common.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IlluminationFit {
    /// The image's brightness is `gain` times the background's, plus `offset`.
    pub gain: f32,
    /// See `gain`.
    pub offset: f32,
    /// How far the image has moved, in cells to the right and down.
    pub shift: (f32, f32),
}

impl IlluminationFit {
    /// No difference.
    pub const IDENTITY: IlluminationFit = IlluminationFit { gain: 1.0, offset: 0.0, shift: (0.0, 0.0) };
}

impl Default for IlluminationFit {
    fn default() -> IlluminationFit {
        IlluminationFit::IDENTITY
    }
}

/// A background and an image of the same size.
pub struct Comparison<'a> {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Brightness of the background.
    pub mean: &'a [f32],
    /// Brightness of the image.
    pub current: &'a [f32],
}

impl Comparison<'_> {
    /// Fits illumination and shift; `previous` is the fit of the image before. Returns the identity if no fit
    /// is plausible.
    pub fn fit(&self, previous: IlluminationFit) -> IlluminationFit {
        // Usually the previous fit is still right. If not, the whole image may be brighter, or an object may
        // cover a part of it: of all guesses, the one with the most inliers wins.
        let mut best = self.fit_from(previous);
        if best.is_none_or(|(_, inliers)| inliers < GOOD_INLIERS) {
            let brighter = IlluminationFit { offset: self.median_difference(), ..IlluminationFit::IDENTITY };
            let guesses = [IlluminationFit::IDENTITY, brighter];
            for found in guesses.into_iter().filter_map(|guess| self.fit_from(guess)) {
                if best.is_none_or(|(_, inliers)| found.1 > inliers) {
                    best = Some(found);
                }
            }
        }
        best.map_or(IlluminationFit::IDENTITY, |(fit, _)| fit)
    }

    /// Refines a guess in two iterations. Returns the fit and its share of inliers.
    fn fit_from(&self, guess: IlluminationFit) -> Option<(IlluminationFit, f32)> {
        let (fit, _) = self.refine(guess, TOLERANCES[0])?;
        self.refine(fit, TOLERANCES[1])
    }

    /// Returns by how much the image is brighter than the background: the median over a fifth of the cells,
    /// in steps of 0.5.
    fn median_difference(&self) -> f32 {
        let mut histogram = [0u32; 1024];
        let mut count = 0;
        for (current, mean) in self.current.iter().zip(self.mean).step_by(5) {
            histogram[(((current - mean) * 2.0) as i32 + 512).clamp(0, 1023) as usize] += 1;
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

    /// Least squares over the cells of every fourth row that are within `tolerance` of `fit`. Returns None if
    /// too few are, or if neither light nor camera shake can explain the result.
    fn refine(&self, fit: IlluminationFit, tolerance: f32) -> Option<(IlluminationFit, f32)> {
        let (width, height) = (self.width, self.height);
        if width < 8 || height < 8 {
            return None;
        }
        let mut equations = NormalEquations::default();
        let rows = (1..height - 1).step_by(ROW_STEP);
        let cells = (rows.len() * (width - 2)) as f64;
        for y in rows {
            let row = |y: usize| y * width..(y + 1) * width;
            let (above, below) = (&self.mean[row(y - 1)], &self.mean[row(y + 1)]);
            equations.add_row([above, &self.mean[row(y)], below], &self.current[row(y)], fit, tolerance);
        }
        let inliers = (equations.inliers() / cells) as f32;
        if inliers < MIN_INLIERS {
            return None;
        }
        let [gain_change, offset, x, y] = equations.solve()?.map(|value| value as f32);
        let offset = offset - gain_change * MID_BRIGHTNESS;
        let is_plausible =
            gain_change.abs() < MAX_GAIN_CHANGE && x.abs() <= MAX_SHIFT && y.abs() <= MAX_SHIFT;
        let fit = IlluminationFit { gain: 1.0 + gain_change, offset, shift: (x, y) };
        is_plausible.then_some((fit, inliers))
    }
}

/// The normal equations of the regression of the image on the terms [mean, 1, gradient x, gradient y].
#[derive(Default)]
struct NormalEquations {
    /// The four terms and the target of each cell of one row; 0 for outliers.
    terms: [Vec<f32>; 5],
    /// The upper triangle of the matrix row by row, each row followed by its right-hand side: see [`pairs`].
    sums: [f64; 14],
}

impl NormalEquations {
    /// Adds the cells of a row that are within `tolerance` of `fit`.
    ///
    /// The loops are straight-line code over slices of equal length so that compilers vectorise them.
    fn add_row(&mut self, mean: [&[f32]; 3], current: &[f32], fit: IlluminationFit, tolerance: f32) {
        let len = current.len() - 2;
        let [above, row, below] = mean;
        let (before, cell, after) = (&row[..len], &row[1..=len], &row[2..]);
        let (above, below, current) = (&above[1..=len], &below[1..=len], &current[1..=len]);
        self.terms.iter_mut().for_each(|terms| terms.resize(len, 0.0));
        let [cells, ones, right, down, targets] = self.terms.each_mut().map(|terms| &mut terms[..len]);
        for x in 0..len {
            let (gradient_x, gradient_y) = (0.5 * (after[x] - before[x]), 0.5 * (below[x] - above[x]));
            let expected =
                fit.gain * cell[x] + fit.offset - gradient_x * fit.shift.0 - gradient_y * fit.shift.1;
            let weight = if (current[x] - expected).abs() <= tolerance { 1.0 } else { 0.0 };
            cells[x] = weight * (cell[x] - MID_BRIGHTNESS);
            ones[x] = weight;
            right[x] = -weight * gradient_x;
            down[x] = -weight * gradient_y;
            targets[x] = weight * (current[x] - cell[x]);
        }
        for (sum, (i, j)) in self.sums.iter_mut().zip(pairs()) {
            // f32 within a row for speed, f64 across rows for accuracy.
            *sum += f64::from(dot_product(&self.terms[i], &self.terms[j]));
        }
    }

    /// Number of inliers: the sum of 1 * 1.
    fn inliers(&self) -> f64 {
        self.sums[5]
    }

    /// Returns the changes of gain and offset and the shift to the right and down, or None if the matrix is
    /// singular.
    fn solve(&self) -> Option<[f64; 4]> {
        let (mut products, mut targets) = ([[0.0f64; 4]; 4], [0.0f64; 4]);
        for (&sum, (i, j)) in self.sums.iter().zip(pairs()) {
            match j {
                4 => targets[i] = sum,
                _ => (products[i][j], products[j][i]) = (sum, sum),
            }
        }
        // Regularisation: an image without contrast does not determine gain and shift, which then stay near 1
        // and 0.
        for (i, ridge) in [4.0, 1e-3, 2.0, 2.0].into_iter().enumerate() {
            products[i][i] += ridge * self.inliers();
        }
        solve(products, targets)
    }
}

/// The pairs of terms that are multiplied, in the order of [`NormalEquations::sums`].
fn pairs() -> impl Iterator<Item = (usize, usize)> {
    (0..4).flat_map(|i| (i..5).map(move |j| (i, j)))
}

/// The dot product, summed over eight lanes in a fixed order: the same on every machine.
fn dot_product(a: &[f32], b: &[f32]) -> f32 {
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

/// Solves four linear equations by Gaussian elimination with partial pivoting. Returns None if the matrix is
/// singular.
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

    #[test]
    fn regular_equations_are_solved_and_singular_ones_rejected() {
        let matrix = [[4.0, 1.0, 0.0, 0.0], [1.0, 3.0, 0.0, 0.0], [0.0, 0.0, 2.0, 0.0], [0.0, 0.0, 0.0, 1.0]];
        let found = solve(matrix, [6.0, 7.0, 4.0, 5.0]).unwrap();
        for (value, expected) in found.into_iter().zip([1.0, 2.0, 2.0, 5.0]) {
            assert!((value - expected).abs() < 1e-9, "{found:?}");
        }
        assert_eq!(solve([[0.0; 4]; 4], [1.0; 4]), None);
    }
}
