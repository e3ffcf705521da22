//! How activations lie in a session's arena, its one block of memory.
//!
//! A *buffer* is a rectangle of pixels, row by row, channels innermost, surrounded by as much padding as the
//! widest convolution over it reads. A tensor is a *view* of a buffer: the whole buffer or, for a
//! concatenation's input, some of its rows, columns or channels, so that concatenating needs no copy. Buffers
//! with disjoint lifetimes share memory. All strides and lengths are in bytes.

use crate::kernels::SLACK;
use std::ops::Range;

/// Buffers begin on a cache line.
const ALIGNMENT: usize = 64;

/// The bytes of one tensor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct View {
    /// Offset of the first pixel's first channel in the arena.
    pub(crate) start: usize,
    /// Distance between rows.
    pub(crate) row: usize,
    /// Distance between pixels.
    pub(crate) pixel: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
    /// Size of one channel: 1, or 4 for f32.
    pub(crate) element_len: usize,
    /// The buffer's bytes in the arena, padding included.
    pub(crate) buffer: Range<usize>,
}

/// Pixels of padding around a buffer's rectangle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Padding {
    pub(crate) top: usize,
    pub(crate) left: usize,
    pub(crate) bottom: usize,
    pub(crate) right: usize,
}

/// A buffer that has no offset yet.
#[derive(Debug, Clone)]
pub(crate) struct Buffer {
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// Size of a pixel.
    pub(crate) pixel: usize,
    pub(crate) padding: Padding,
    /// Lifetime: the time of the first write and of the last read.
    pub(crate) first: usize,
    pub(crate) last: usize,
}

impl View {
    /// Size of this tensor's part of a pixel.
    pub(crate) fn pixel_len(&self) -> usize {
        self.channels * self.element_len
    }

    /// Size of the tensor's own bytes.
    pub(crate) fn len(&self) -> usize {
        self.height * self.width * self.pixel_len()
    }

    /// Returns whether the pixels of a row are contiguous.
    pub(crate) fn is_dense_in_rows(&self) -> bool {
        self.pixel == self.pixel_len()
    }

    /// Returns whether the distance between rows allows treating all rows as one.
    pub(crate) fn is_one_row(&self) -> bool {
        self.height == 1 || self.row == self.width * self.pixel
    }

    /// Offset of pixel `x` of row `y` in the buffer.
    pub(crate) fn at(&self, y: usize, x: usize) -> usize {
        self.start - self.buffer.start + y * self.row + x * self.pixel
    }
}

impl Padding {
    /// Grows to the maximum of both on every side.
    pub(crate) fn widen(&mut self, other: Padding) {
        self.top = self.top.max(other.top);
        self.left = self.left.max(other.left);
        self.bottom = self.bottom.max(other.bottom);
        self.right = self.right.max(other.right);
    }
}

impl Buffer {
    /// Size of a row, padding included. Saturates, because the shapes come from the file and are checked
    /// later.
    pub(crate) fn row(&self) -> usize {
        (self.padding.left + self.width + self.padding.right).saturating_mul(self.pixel)
    }

    /// Offset of the rectangle's first pixel in the buffer.
    pub(crate) fn origin(&self) -> usize {
        self.padding.top * self.row() + self.padding.left * self.pixel
    }

    /// Size of the buffer. Saturates too.
    pub(crate) fn len(&self) -> usize {
        (self.padding.top + self.height + self.padding.bottom).saturating_mul(self.row())
    }
}

/// Returns an arena offset for every buffer, and the size of the arena, which ends in [`SLACK`].
///
/// Places the largest buffer first, and each at the lowest offset where it overlaps no buffer with a common
/// lifetime.
pub(crate) fn assign_offsets(buffers: &[Buffer]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(buffers[index].len()));
    let mut offsets = vec![0; buffers.len()];
    // Sorted by offset.
    let mut placed: Vec<usize> = Vec::new();
    let mut end = 0;
    for index in order {
        let buffer = &buffers[index];
        let overlaps_in_time = |other: &Buffer| other.first <= buffer.last && buffer.first <= other.last;
        let mut offset = 0;
        for &other in placed.iter().filter(|&&other| overlaps_in_time(&buffers[other])) {
            if offset + buffer.len() <= offsets[other] {
                break;
            }
            offset = offset.max((offsets[other] + buffers[other].len()).next_multiple_of(ALIGNMENT));
        }
        offsets[index] = offset;
        end = end.max(offset + buffer.len());
        placed.insert(placed.partition_point(|&other| offsets[other] <= offset), index);
    }
    (offsets, end + SLACK)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(pixels: usize, first: usize, last: usize) -> Buffer {
        Buffer { height: 1, width: pixels, pixel: 64, padding: Padding::default(), first, last }
    }

    #[test]
    fn buffers_share_memory_but_never_at_the_same_time() {
        let buffers = [buffer(2, 0, 1), buffer(3, 1, 2), buffer(1, 2, 3), buffer(2, 3, 4), buffer(1, 0, 4)];
        let (offsets, len) = assign_offsets(&buffers);
        for (i, a) in buffers.iter().enumerate() {
            for (j, b) in buffers.iter().enumerate().skip(i + 1) {
                let same_time = a.first <= b.last && b.first <= a.last;
                let apart = offsets[i] + a.len() <= offsets[j] || offsets[j] + b.len() <= offsets[i];
                assert!(apart || !same_time, "{i} and {j}: {offsets:?}");
            }
        }
        assert_eq!(len, 6 * 64 + SLACK);
    }

    #[test]
    fn padding_surrounds_the_rectangle() {
        let padding = Padding { top: 1, left: 2, bottom: 0, right: 1 };
        let buffer = Buffer { height: 2, width: 3, pixel: 4, padding, first: 0, last: 0 };
        assert_eq!((buffer.row(), buffer.origin(), buffer.len()), (24, 32, 72));
        let huge = Padding { top: 1 << 20, left: 1 << 20, ..padding };
        assert_eq!(Buffer { pixel: 1 << 28, padding: huge, ..buffer }.len(), usize::MAX);
    }
}
