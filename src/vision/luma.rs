//! The scaled-down brightness image on which motion, change and health detection work, at a hundredth of the
//! cost of the full image.
//!
//! A cell is the mean of the pixels in it, of at most [`MAX_ROWS`] rows. Cells are square in pixels, so the
//! scaled-down image has the shape of the full one. Values are those of the stream (16 to 235 or 0 to 255),
//! times [`ONE`].

use crate::frame::{Image, PixelFormat};

/// Cell value of brightness 1: means of many pixels have a finer resolution than a byte.
pub const ONE: u16 = 64;
/// Maximum number of pixel rows that are read per row of cells.
const MAX_ROWS: usize = 4;

/// A scaled-down brightness image. Empty until the first [`Luma::downscale`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Luma {
    /// Cells per row.
    pub width: usize,
    /// Rows of cells.
    pub height: usize,
    /// Width and height of a cell, in pixels.
    pub side: usize,
    /// The `width * height` cells, row by row.
    pub cells: Vec<u16>,
}

impl Luma {
    /// Replaces the cells by those of `image`, at most `max_width` per row. Returns false if the image is
    /// empty or a plane is too short.
    pub fn downscale(&mut self, image: &Image, max_width: usize) -> bool {
        let side = image.width.div_ceil(max_width).max(1);
        let (width, height) = (image.width / side, image.height / side);
        if let Some(cells) = image.planes.cells() {
            if cells.is_empty() || cells.len() != width * height {
                return false;
            }
            (self.width, self.height, self.side) = (width, height, side);
            self.cells.clear();
            self.cells.extend(cells.iter().map(|&cell| u16::from(cell) * ONE));
            return true;
        }
        let plane = image.planes.plane(0);
        // Bytes from the brightness of one pixel to that of the next, and the offset of the first.
        let (step, first) = match image.format {
            PixelFormat::I420 | PixelFormat::Nv12 | PixelFormat::Gray8 => (1, 0),
            PixelFormat::Yuy2 => (2, 0),
            // Green contributes most to the brightness.
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
        let rows = side.min(MAX_ROWS);
        let scale = u32::from(ONE);
        // Rows are added up first, because compilers vectorise a loop that treats all bytes of a row alike.
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
            // The common case, brightness only at a small integer scale, is specialised for speed.
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

    /// Replaces `bytes` by the cells, rounded to a byte each: what [`crate::frame::Planes::cells`] takes.
    pub fn to_bytes(&self, bytes: &mut Vec<u8>) {
        bytes.clear();
        bytes.extend(self.cells.iter().map(|cell| ((cell + ONE / 2) / ONE).min(255) as u8));
    }
}

/// The sum of `N` values, with `N` known at compile time.
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
    fn cells_are_means_in_every_format() {
        // Columns 10, 20, 30, ...; the padding of the stride is filled with another value.
        let rows = |step: usize| -> Vec<u8> {
            let row: Vec<u8> =
                (0..8).flat_map(|x| [10 * (x + 1)].into_iter().chain(vec![99; step - 1])).collect();
            (0..4).flat_map(|_| row.iter().copied().chain([255; 3])).collect()
        };
        let mut luma = Luma::default();
        for (format, step) in [(PixelFormat::Gray8, 1), (PixelFormat::I420, 1), (PixelFormat::Yuy2, 2)] {
            assert!(luma.downscale(&image(format, 8, 4, rows(step), 8 * step + 3), 4));
            assert_eq!((luma.width, luma.height), (4, 2), "{format:?}");
            assert_eq!(luma.cells[..4], [15, 35, 55, 75].map(|mean| mean * ONE), "{format:?}");
        }
        let rgb = Image::from_rgb(2, 1, vec![1, 50, 3, 4, 70, 6]);
        assert!(luma.downscale(&rgb, 2));
        assert_eq!(luma.cells, [50 * ONE, 70 * ONE]);
    }

    #[test]
    fn an_unreadable_image_returns_false() {
        let mut luma = Luma::default();
        assert!(!luma.downscale(&image(PixelFormat::Gray8, 8, 4, vec![0; 31], 8), 4));
        assert!(!luma.downscale(&image(PixelFormat::Gray8, 8, 4, vec![0; 32], 7), 4));
        assert!(!luma.downscale(&image(PixelFormat::Gray8, 0, 0, vec![], 0), 4));
    }
}
