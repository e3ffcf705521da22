//! Template matching on the scaled-down image: whether an object is still where it was, or where it has
//! moved.
//!
//! Patches are compared by normalised cross-correlation, which is invariant to changes of light. No I/O.

/// Number of cells that is enough to find a patch: larger ones are subsampled.
const SEARCH_CELLS: usize = 300;
/// Maximum reach of an exhaustive search, in cells. Larger ones try every second position first.
const MAX_FINE_REACH: usize = 4;

/// A rectangle of cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CellRect {
    /// The first column.
    pub left: usize,
    /// The first row.
    pub top: usize,
    /// Columns, at least one.
    pub width: usize,
    /// Rows, at least one.
    pub height: usize,
}

/// The appearance of a part of an image.
#[derive(Debug, Clone)]
pub struct TemplatePatch {
    cells: CellRect,
    /// Brightness of the cells, minus their mean.
    values: Vec<f32>,
}

impl TemplatePatch {
    /// Copies `cells` from an image of `width` cells per row.
    pub fn extract(image: &[f32], width: usize, cells: CellRect) -> TemplatePatch {
        let mut values = Vec::with_capacity(cells.width * cells.height);
        for y in cells.top..cells.top + cells.height {
            values.extend_from_slice(&image[y * width + cells.left..][..cells.width]);
        }
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        values.iter_mut().for_each(|value| *value -= mean);
        TemplatePatch { cells, values }
    }

    /// The place that it was extracted from.
    pub fn cells(&self) -> CellRect {
        self.cells
    }

    /// Returns the correlation with the image at the top left corner of `position`, -1 to 1. It is 0 if
    /// either has no contrast or if the patch does not lie within the image.
    pub fn correlation(&self, image: &[f32], width: usize, position: CellRect) -> f32 {
        self.sampled_correlation(image, width, position, 1)
    }

    /// The correlation over every `stride`-th cell of every `stride`-th row.
    fn sampled_correlation(&self, image: &[f32], width: usize, position: CellRect, stride: usize) -> f32 {
        let CellRect { width: columns, height: rows, .. } = self.cells;
        if position.left + columns > width || (position.top + rows) * width > image.len() {
            return 0.0;
        }
        let mut count = 0;
        let (mut ours, mut theirs, mut our_squares, mut their_squares, mut products) =
            (0.0f32, 0.0, 0.0, 0.0, 0.0);
        for (y, values) in self.values.chunks_exact(columns).enumerate().step_by(stride) {
            let row = &image[(position.top + y) * width + position.left..][..columns];
            for (value, cell) in values.iter().zip(row).step_by(stride) {
                ours += value;
                theirs += cell;
                our_squares += value * value;
                their_squares += cell * cell;
                products += value * cell;
                count += 1;
            }
        }
        let count = count as f32;
        let variance = |sum: f32, squares: f32| (squares - sum * sum / count).max(0.0);
        let product = (variance(ours, our_squares) * variance(theirs, their_squares)).sqrt();
        // A standard deviation of one brightness step is no contrast.
        if product <= count { 0.0 } else { (products - ours * theirs / count) / product }
    }

    /// Returns the position within `reach` cells of `position` where the patch correlates best with an image
    /// of this size, and the correlation. Of equal ones, the nearest.
    ///
    /// Large patches are subsampled, and distant positions tried in steps of two first: a few hundred cells
    /// are as accurate as ten thousand.
    pub fn find(
        &self,
        image: &[f32],
        size: (usize, usize),
        position: CellRect,
        reach: usize,
    ) -> (CellRect, f32) {
        let stride = ((self.values.len() / SEARCH_CELLS) as f64).sqrt().max(1.0) as usize;
        let step = if reach > MAX_FINE_REACH { 2 } else { 1 };
        let (found, _) = self.search(image, size, position, (reach, step, stride));
        let (found, _) = self.search(image, size, found, (step - 1, 1, stride));
        (found, self.correlation(image, size.0, found))
    }

    /// Returns the best of every `step`-th position within `reach` cells, compared by every `stride`-th cell.
    fn search(
        &self,
        image: &[f32],
        size: (usize, usize),
        position: CellRect,
        (reach, step, stride): (usize, usize, usize),
    ) -> (CellRect, f32) {
        let mut best = (position, self.sampled_correlation(image, size.0, position, stride), 0);
        let last = (size.0.saturating_sub(self.cells.width), size.1.saturating_sub(self.cells.height));
        for top in (position.top.saturating_sub(reach)..=(position.top + reach).min(last.1)).step_by(step) {
            for left in
                (position.left.saturating_sub(reach)..=(position.left + reach).min(last.0)).step_by(step)
            {
                let candidate = CellRect { left, top, ..position };
                let correlation = self.sampled_correlation(image, size.0, candidate, stride);
                let distance = left.abs_diff(position.left) + top.abs_diff(position.top);
                if correlation > best.1 || correlation == best.1 && distance < best.2 {
                    best = (candidate, correlation, distance);
                }
            }
        }
        (best.0, best.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_is_found_where_it_moved_in_another_light() {
        let size = (40, 30);
        let texture = |x: usize, y: usize| ((x * 31 + y * 17) % 23) as f32 * 4.0;
        let image = |left: usize, top: usize, gain: f32| -> Vec<f32> {
            (0..size.0 * size.1)
                .map(|i| {
                    let (x, y) = (i % size.0, i / size.0);
                    let inside = (left..left + 8).contains(&x) && (top..top + 6).contains(&y);
                    gain * if inside { texture(x - left, y - top) } else { 50.0 }
                })
                .collect()
        };
        let cells = CellRect { left: 10, top: 8, width: 8, height: 6 };
        let patch = TemplatePatch::extract(&image(10, 8, 1.0), size.0, cells);
        let later = image(13, 7, 1.6);
        let (found, correlation) = patch.find(&later, size, cells, 4);
        assert_eq!((found.left, found.top), (13, 7));
        assert!(correlation > 0.99, "{correlation}");
        assert!(patch.correlation(&later, size.0, cells) < 0.7);
        assert_eq!(patch.correlation(&vec![7.0; size.0 * size.1], size.0, cells), 0.0, "no contrast");
        assert_eq!(
            patch.correlation(&later, size.0, CellRect { left: 35, ..cells }),
            0.0,
            "outside the image"
        );
    }
}
