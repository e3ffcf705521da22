//! The foreground mask: its values, the test that makes a cell foreground, and the removal of isolated cells.

use super::{NOISE_FACTOR, illumination::IlluminationFit};
use std::ops::Range;

/// Mask value of a cell that matches the background.
pub const BACKGROUND: u8 = 0;
/// Mask value of a background cell in another light.
pub const ILLUMINATION: u8 = 1;
/// Mask value of a cell that shows something else than the background.
pub const FOREGROUND: u8 = 2;

/// Share of the difference between neighbouring cells that may be an error of the fitted shift.
const EDGE_FACTOR: f32 = 0.2;
/// Minimum number of foreground cells in a neighbourhood of 3 x 3; fewer are rain, snow or a defective pixel.
const MIN_NEIGHBOURS: u8 = 4;

/// One row of cells to be compared with the background.
pub struct CellRow<'a> {
    /// Background brightness of the row above, of this row and of the row below.
    pub mean: [&'a [f32]; 3],
    /// Brightness of the image.
    pub current: &'a [f32],
    /// Noise level of the background.
    pub noise: &'a [f32],
    /// Cells that are never foreground.
    pub ignored: &'a [bool],
}

impl CellRow<'_> {
    /// Writes the row's residuals and mask and returns the number of foreground cells.
    ///
    /// The loop is straight-line code over slices of equal length so that compilers vectorise it: on a still
    /// scene, half of the cost of the analysis is here.
    pub fn segment(
        &self,
        fit: IlluminationFit,
        threshold: f32,
        residual: &mut [f32],
        mask: &mut [u8],
    ) -> u32 {
        let width = mask.len();
        let [above, row, below] = self.mean;
        let compare =
            |before: f32, cell: f32, after: f32, above: f32, below: f32, current: f32, noise: f32| {
                let (gradient_x, gradient_y) = (0.5 * (after - before), 0.5 * (below - above));
                let expected =
                    fit.gain * cell + fit.offset - gradient_x * fit.shift.0 - gradient_y * fit.shift.1;
                let edge = gradient_x.abs().max(gradient_y.abs());
                (current - expected, threshold + NOISE_FACTOR * noise + EDGE_FACTOR * edge)
            };
        let mut found = 0;
        let inner = 1..width.max(2) - 1;
        if !inner.is_empty() {
            let (before, after) = (&row[..width - 2], &row[2..]);
            let (cell, above, below) = (&row[inner.clone()], &above[inner.clone()], &below[inner.clone()]);
            let (current, noise) = (&self.current[inner.clone()], &self.noise[inner.clone()]);
            let (ignored, residual) = (&self.ignored[inner.clone()], &mut residual[inner.clone()]);
            let mask = &mut mask[inner];
            for x in 0..width - 2 {
                let (difference, max) =
                    compare(before[x], cell[x], after[x], above[x], below[x], current[x], noise[x]);
                residual[x] = difference;
                let is_foreground = (difference.abs() > max) & !ignored[x];
                mask[x] = if is_foreground { FOREGROUND } else { BACKGROUND };
                found += u32::from(is_foreground);
            }
        }
        for x in [0, width - 1] {
            let (before, after) = (row[x.saturating_sub(1)], row[(x + 1).min(width - 1)]);
            let (difference, max) =
                compare(before, row[x], after, above[x], below[x], self.current[x], self.noise[x]);
            residual[x] = difference;
            let is_foreground = (difference.abs() > max) & !self.ignored[x];
            mask[x] = if is_foreground { FOREGROUND } else { BACKGROUND };
            found += u32::from(is_foreground);
        }
        found
    }
}

/// Resets the foreground cells that have too few foreground neighbours to [`BACKGROUND`].
///
/// `counts` is scratch memory of the mask's size.
pub fn remove_isolated(mask: &mut [u8], counts: &mut [u8], width: usize) {
    let height = mask.len() / width.max(1);
    let Some(rows) = foreground_rows(mask, width) else { return };
    let counted = rows.start.saturating_sub(1)..(rows.end + 1).min(height);
    let cells = counted.start * width..counted.end * width;
    let row_counts = counts[cells.clone()].chunks_exact_mut(width);
    for (row, counts) in mask[cells].chunks_exact(width).zip(row_counts) {
        let is = |x: usize| u8::from(row[x] == FOREGROUND);
        // Cells beyond the edge repeat the cell at the edge.
        counts[0] = 2 * is(0) + is(1.min(width - 1));
        counts[width - 1] = 2 * is(width - 1) + is(width.saturating_sub(2));
        for (count, near) in counts[1..].iter_mut().zip(row.windows(3)) {
            *count = near.iter().map(|&cell| u8::from(cell == FOREGROUND)).sum();
        }
    }
    for y in rows {
        let [above, row, below] =
            [y.saturating_sub(1), y, (y + 1).min(height - 1)].map(|y| &counts[y * width..(y + 1) * width]);
        let cells = mask[y * width..(y + 1) * width].iter_mut();
        for (cell, ((above, near), below)) in cells.zip(above.iter().zip(row).zip(below)) {
            let is_isolated = (*cell == FOREGROUND) & (above + near + below < MIN_NEIGHBOURS);
            *cell = if is_isolated { BACKGROUND } else { *cell };
        }
    }
}

/// Returns the rows from the first to the last foreground cell, or None if there is no foreground.
pub fn foreground_rows(mask: &[u8], width: usize) -> Option<Range<usize>> {
    let first = mask.iter().position(is_foreground)?;
    let last = mask.iter().rposition(is_foreground)?;
    Some(first / width..last / width + 1)
}

/// Returns the columns from the first to the last foreground cell of the given rows, both included.
pub fn foreground_columns(mask: &[u8], width: usize, rows: Range<usize>) -> Option<(usize, usize)> {
    let bounds =
        |row: &[u8]| Some((row.iter().position(is_foreground)?, row.iter().rposition(is_foreground)?));
    let columns = mask[rows.start * width..rows.end * width].chunks_exact(width).filter_map(bounds);
    columns.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
}

fn is_foreground(cell: &u8) -> bool {
    *cell == FOREGROUND
}
