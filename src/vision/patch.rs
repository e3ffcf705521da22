//! How a part of the small picture looked: to see whether it is still there, or where it went. Pure.
//!
//! Compared by normalised cross-correlation, which a change of light does not touch.

/// So many cells are enough to find a patch by.
const CELLS: usize = 300;
/// Within so many cells every place is looked at.
const FINE_REACH: usize = 4;

/// A rectangle of cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cells {
    /// The first column.
    pub left: usize,
    /// The first row.
    pub top: usize,
    /// Columns, at least one.
    pub width: usize,
    /// Rows, at least one.
    pub height: usize,
}

/// A part of a picture.
#[derive(Debug, Clone)]
pub struct Patch {
    cells: Cells,
    /// Less their mean.
    values: Vec<f32>,
}

impl Patch {
    /// The part `cells` of a picture of `width` cells a row.
    pub fn take(picture: &[f32], width: usize, cells: Cells) -> Patch {
        let mut values = Vec::with_capacity(cells.width * cells.height);
        for y in cells.top..cells.top + cells.height {
            values.extend_from_slice(&picture[y * width + cells.left..][..cells.width]);
        }
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        values.iter_mut().for_each(|value| *value -= mean);
        Patch { cells, values }
    }

    /// Where it was taken.
    pub fn cells(&self) -> Cells {
        self.cells
    }

    /// How well it agrees with the picture at the corner of `place`, -1 to 1; 0 where either has no contrast or where it
    /// does not fit in.
    pub fn agreement(&self, picture: &[f32], width: usize, place: Cells) -> f32 {
        self.agreement_of_some(picture, width, place, 1)
    }

    /// The same by every `stride`-th cell of every `stride`-th row.
    fn agreement_of_some(&self, picture: &[f32], width: usize, place: Cells, stride: usize) -> f32 {
        let Cells { width: columns, height: rows, .. } = self.cells;
        if place.left + columns > width || (place.top + rows) * width > picture.len() {
            return 0.0;
        }
        let mut count = 0;
        let (mut ours, mut theirs, mut our_squares, mut their_squares, mut products) =
            (0.0f32, 0.0, 0.0, 0.0, 0.0);
        for (y, values) in self.values.chunks_exact(columns).enumerate().step_by(stride) {
            let row = &picture[(place.top + y) * width + place.left..][..columns];
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
        // A spread of one step is no contrast.
        if product <= count { 0.0 } else { (products - ours * theirs / count) / product }
    }

    /// The place within `reach` cells of `place` in a picture of `size` where it agrees best, and how well. The nearest of
    /// equals.
    ///
    /// Large ones are looked for by some of their cells and on every second place first: a few hundred cells tell as well
    /// as ten thousand.
    pub fn find(&self, picture: &[f32], size: (usize, usize), place: Cells, reach: usize) -> (Cells, f32) {
        let stride = ((self.values.len() / CELLS) as f64).sqrt().max(1.0) as usize;
        let step = if reach > FINE_REACH { 2 } else { 1 };
        let (found, _) = self.search(picture, size, place, (reach, step, stride));
        let (found, _) = self.search(picture, size, found, (step - 1, 1, stride));
        (found, self.agreement(picture, size.0, found))
    }

    /// The best place within `reach` cells, on every `step`-th one, by every `stride`-th cell.
    fn search(
        &self,
        picture: &[f32],
        size: (usize, usize),
        place: Cells,
        (reach, step, stride): (usize, usize, usize),
    ) -> (Cells, f32) {
        let mut best = (place, self.agreement_of_some(picture, size.0, place, stride), 0);
        let last = (size.0.saturating_sub(self.cells.width), size.1.saturating_sub(self.cells.height));
        for top in (place.top.saturating_sub(reach)..=(place.top + reach).min(last.1)).step_by(step) {
            for left in (place.left.saturating_sub(reach)..=(place.left + reach).min(last.0)).step_by(step) {
                let there = Cells { left, top, ..place };
                let agreement = self.agreement_of_some(picture, size.0, there, stride);
                let distance = left.abs_diff(place.left) + top.abs_diff(place.top);
                if agreement > best.1 || agreement == best.1 && distance < best.2 {
                    best = (there, agreement, distance);
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
    fn a_patch_is_found_where_it_went_in_another_light() {
        let size = (40, 30);
        let texture = |x: usize, y: usize| ((x * 31 + y * 17) % 23) as f32 * 4.0;
        let picture = |left: usize, top: usize, gain: f32| -> Vec<f32> {
            (0..size.0 * size.1)
                .map(|i| {
                    let (x, y) = (i % size.0, i / size.0);
                    let inside = (left..left + 8).contains(&x) && (top..top + 6).contains(&y);
                    gain * if inside { texture(x - left, y - top) } else { 50.0 }
                })
                .collect()
        };
        let cells = Cells { left: 10, top: 8, width: 8, height: 6 };
        let patch = Patch::take(&picture(10, 8, 1.0), size.0, cells);
        let later = picture(13, 7, 1.6);
        let (found, agreement) = patch.find(&later, size, cells, 4);
        assert_eq!((found.left, found.top), (13, 7));
        assert!(agreement > 0.99, "{agreement}");
        assert!(patch.agreement(&later, size.0, cells) < 0.7);
        assert_eq!(patch.agreement(&vec![7.0; size.0 * size.1], size.0, cells), 0.0, "nothing there");
        assert_eq!(patch.agreement(&later, size.0, Cells { left: 35, ..cells }), 0.0, "it does not fit in");
    }
}
