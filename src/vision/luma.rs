//! A small picture of the brightness: what change and health are judged by, at a hundredth of the work that the whole
//! picture would take.
//!
//! A cell is the mean of the pixels under it, of at most [`ROWS`] rows each. Cells are square in pixels, so the small
//! picture has the shape of the large one. Values are those of the stream (16 to 235 or 0 to 255), times [`ONE`].

use crate::frame::{Image, PixelFormat};

/// A cell's value for a brightness of 1: means of many pixels are finer than a byte.
pub const ONE: u16 = 64;
/// Rows of pixels that are read for a row of cells.
const ROWS: usize = 4;

/// A small picture, row by row. Empty until the first [`Luma::shrink`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Luma {
    /// Cells a row.
    pub width: usize,
    /// Rows of cells.
    pub height: usize,
    /// Pixels that a cell is wide and high.
    pub side: usize,
    /// The cells, `width * height` of them.
    pub cells: Vec<u16>,
}

impl Luma {
    /// Fills it with `image`, at most `most_width` cells wide. False where the picture is empty or a plane is too short.
    pub fn shrink(&mut self, image: &Image, most_width: usize) -> bool {
        let side = image.width.div_ceil(most_width).max(1);
        let (width, height) = (image.width / side, image.height / side);
        let plane = image.planes.plane(0);
        // Bytes from one pixel's brightness to the next one's, and the first one's place.
        let (step, first) = match image.format {
            PixelFormat::I420 | PixelFormat::Nv12 | PixelFormat::Gray8 => (1, 0),
            PixelFormat::Yuy2 => (2, 0),
            // Green is most of the brightness.
            PixelFormat::Rgb => (3, 1),
        };
        let row_len = image.width * step;
        let last_row = image.height.saturating_sub(1) * plane.stride_bytes;
        if width == 0 || height == 0 || plane.stride_bytes < row_len || plane.data.len() < last_row + row_len
        {
            return false;
        }
        (self.width, self.height, self.side) = (width, height, side);
        self.cells.clear();
        let rows = side.min(ROWS);
        let scale = u32::from(ONE);
        // Rows are added first, for then every byte of a row is treated alike and compilers make vectors of it.
        let mut sums = vec![0u16; row_len];
        for y in 0..height {
            sums.fill(0);
            for index in 0..rows {
                let start = (y * side + index * side / rows) * plane.stride_bytes;
                for (sum, &byte) in sums.iter_mut().zip(&plane.data[start..start + row_len]) {
                    *sum += u16::from(byte);
                }
            }
            let count = (side * rows) as u32;
            let cells = sums.chunks_exact(side * step).take(width);
            let mean = |sum: u32| (sum * scale / count) as u16;
            // Most pictures by far have nothing but brightness in the plane, and are a few times as wide as this one.
            match (side, step) {
                (1, 1) => self.cells.extend(cells.map(|cell| mean(u32::from(cell[0])))),
                (2, 1) => self.cells.extend(cells.map(|cell| mean(sum_of::<2>(cell)))),
                (3, 1) => self.cells.extend(cells.map(|cell| mean(sum_of::<3>(cell)))),
                (4, 1) => self.cells.extend(cells.map(|cell| mean(sum_of::<4>(cell)))),
                (6, 1) => self.cells.extend(cells.map(|cell| mean(sum_of::<6>(cell)))),
                _ => {
                    self.cells.extend(cells.map(|cell| {
                        mean(cell[first..].iter().step_by(step).map(|&sum| u32::from(sum)).sum())
                    }))
                }
            }
        }
        true
    }
}

/// The sum of `N` values, a number that the compiler knows.
fn sum_of<const N: usize>(values: &[u16]) -> u32 {
    values[..N].iter().map(|&value| u32::from(value)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Colorimetry, OwnedPlanes, View, YuvMatrix};

    fn image(format: PixelFormat, width: usize, height: usize, data: Vec<u8>, stride: usize) -> Image {
        let colorimetry = Colorimetry { matrix: YuvMatrix::Bt601, full_range: false };
        let planes = Box::new(OwnedPlanes(vec![(data, stride)]));
        Image { format, width, height, colorimetry, view: View::PLAIN, planes }
    }

    #[test]
    fn cells_are_means_whatever_the_format() {
        // Columns 10, 20, 30, ... behind a stride with rubbish in it.
        let rows = |step: usize| -> Vec<u8> {
            let row: Vec<u8> =
                (0..8).flat_map(|x| [10 * (x + 1)].into_iter().chain(vec![99; step - 1])).collect();
            (0..4).flat_map(|_| row.iter().copied().chain([255; 3])).collect()
        };
        let mut luma = Luma::default();
        for (format, step) in [(PixelFormat::Gray8, 1), (PixelFormat::I420, 1), (PixelFormat::Yuy2, 2)] {
            assert!(luma.shrink(&image(format, 8, 4, rows(step), 8 * step + 3), 4));
            assert_eq!((luma.width, luma.height), (4, 2), "{format:?}");
            assert_eq!(luma.cells[..4], [15, 35, 55, 75].map(|mean| mean * ONE), "{format:?}");
        }
        let rgb = Image::from_rgb(2, 1, vec![1, 50, 3, 4, 70, 6]);
        assert!(luma.shrink(&rgb, 2));
        assert_eq!(luma.cells, [50 * ONE, 70 * ONE]);
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let mut luma = Luma::default();
        assert!(!luma.shrink(&image(PixelFormat::Gray8, 8, 4, vec![0; 31], 8), 4));
        assert!(!luma.shrink(&image(PixelFormat::Gray8, 8, 4, vec![0; 32], 7), 4));
        assert!(!luma.shrink(&image(PixelFormat::Gray8, 0, 0, vec![], 0), 4));
    }
}
