//! Texture comparison: whether an image has the background's texture at a cell, except for a gain and an
//! offset.
//!
//! That distinguishes a shadow or a beam of light from an object: the correlation over 5 x 5 cells is high.
//! The sums over the windows are computed separably, along the rows and then across them.

use super::illumination::MID_BRIGHTNESS;
use std::ops::Range;

/// Cells on each side of the centre of a window: 5 x 5 cells.
pub const WINDOW_RADIUS: usize = 2;
/// Minimum correlation of image and background.
const MIN_CORRELATION: f32 = 0.75;
/// Minimum standard deviation of the background, above its noise level. Weaker texture is not compared.
const MIN_TEXTURE: f32 = 2.0;
/// Gains that light and shadow cause.
const GAINS: Range<f32> = 0.2..4.0;

/// Sums of background, image and their products over the window around each cell of an area.
#[derive(Debug, Default)]
pub struct WindowSums {
    width: usize,
    rows: usize,
    /// Of one row: background, image, background², image², background x image.
    values: [Vec<f32>; 5],
    /// `values`, summed along the rows.
    row_sums: [Vec<f32>; 5],
    /// `row_sums`, summed across the rows.
    sums: [Vec<f32>; 5],
}

impl WindowSums {
    /// Computes the sums for an area of images that are `width` cells wide.
    ///
    /// `columns` extends [`WINDOW_RADIUS`] cells beyond the cells of interest on both sides.
    pub fn compute(
        &mut self,
        background: &[f32],
        image: &[f32],
        width: usize,
        columns: Range<usize>,
        rows: Range<usize>,
    ) {
        (self.width, self.rows) = (columns.len(), rows.len());
        for sums in self.row_sums.iter_mut().chain(&mut self.sums) {
            sums.clear();
            sums.resize(self.width * self.rows, 0.0);
        }
        for values in &mut self.values {
            values.resize(self.width, 0.0);
        }
        for (row, y) in rows.enumerate() {
            let cells = y * width + columns.start..y * width + columns.end;
            for (x, (b, i)) in background[cells.clone()].iter().zip(&image[cells]).enumerate() {
                let (b, i) = (b - MID_BRIGHTNESS, i - MID_BRIGHTNESS);
                for (values, value) in self.values.iter_mut().zip([b, i, b * b, i * i, b * i]) {
                    values[x] = value;
                }
            }
            let inner = row * self.width + WINDOW_RADIUS..(row + 1) * self.width - WINDOW_RADIUS;
            for (sums, values) in self.row_sums.iter_mut().zip(&self.values) {
                for (sum, near) in sums[inner.clone()].iter_mut().zip(values.windows(2 * WINDOW_RADIUS + 1)) {
                    *sum = near[0] + near[1] + near[2] + near[3] + near[4];
                }
            }
        }
        self.add_rows();
    }

    /// Sums the row sums across the rows. At the upper and lower edge the window is cut.
    fn add_rows(&mut self) {
        for (all_sums, row_sums) in self.sums.iter_mut().zip(&self.row_sums) {
            for row in 0..self.rows {
                let sums = &mut all_sums[row * self.width..(row + 1) * self.width];
                for near in row.saturating_sub(WINDOW_RADIUS)..(row + WINDOW_RADIUS + 1).min(self.rows) {
                    let values = &row_sums[near * self.width..(near + 1) * self.width];
                    for (sum, value) in sums.iter_mut().zip(values) {
                        *sum += value;
                    }
                }
            }
        }
    }

    /// Whether image and background have the same texture around a cell of the area, except for a gain and an
    /// offset.
    pub fn has_same_texture(&self, x: usize, row: usize, noise: f32) -> bool {
        let rows = (row + WINDOW_RADIUS + 1).min(self.rows) - row.saturating_sub(WINDOW_RADIUS);
        let count = (rows * (2 * WINDOW_RADIUS + 1)) as f32;
        let cell = row * self.width + x;
        let [b, i, bb, ii, bi] = [0, 1, 2, 3, 4].map(|sum| self.sums[sum][cell] / count);
        let (variance_b, variance_i, covariance) = (bb - b * b, ii - i * i, bi - b * i);
        let min = MIN_TEXTURE + noise;
        if variance_b < min * min || variance_i < 0.25 * min * min {
            return false;
        }
        covariance > 0.0
            && covariance * covariance > MIN_CORRELATION * MIN_CORRELATION * variance_b * variance_i
            && GAINS.contains(&(covariance / variance_b))
    }
}
