//! Where every activation lies in the session's one block of memory.
//!
//! A *buffer* is a rectangle of pixels, rows one after the other, channels innermost, with a rim around it as wide as the
//! widest convolution over it needs. A tensor is a *view* of a buffer: the whole of it, or, where it is a part of a
//! concatenation, some of its channels; so nothing is ever joined by copying. Buffers whose tensors are not needed at the
//! same time share memory.

use crate::kernels::SLACK;
use std::ops::Range;

/// Cache lines; buffers begin on one.
const ALIGNMENT: usize = 64;

/// One tensor's place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct View {
    /// Byte of the first pixel's first channel.
    pub(crate) start: usize,
    /// Bytes from row to row.
    pub(crate) row: usize,
    /// Bytes from pixel to pixel.
    pub(crate) pixel: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
    /// Bytes of one channel: 1, or 4 for f32.
    pub(crate) element_len: usize,
    /// The buffer's bytes, rim and all.
    pub(crate) buffer: Range<usize>,
}

/// Pixels around a buffer's rectangle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rim {
    pub(crate) top: usize,
    pub(crate) left: usize,
    pub(crate) bottom: usize,
    pub(crate) right: usize,
}

/// A buffer that is still to be given its place.
#[derive(Debug, Clone)]
pub(crate) struct Buffer {
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// Bytes of a pixel.
    pub(crate) pixel: usize,
    pub(crate) rim: Rim,
    /// From the step that writes it first to the last that reads it.
    pub(crate) first: usize,
    pub(crate) last: usize,
}

impl View {
    /// Bytes of a pixel that are this tensor's.
    pub(crate) fn pixel_len(&self) -> usize {
        self.channels * self.element_len
    }

    /// Bytes of the whole tensor without what lies between.
    pub(crate) fn len(&self) -> usize {
        self.height * self.width * self.pixel_len()
    }

    /// Whether pixel follows pixel without anything between.
    pub(crate) fn is_dense_in_rows(&self) -> bool {
        self.pixel == self.pixel_len()
    }

    /// Whether row follows row as pixel follows pixel.
    pub(crate) fn is_one_row(&self) -> bool {
        self.height == 1 || self.row == self.width * self.pixel
    }

    /// Byte of pixel `x` of row `y`, counted from the buffer's first.
    pub(crate) fn at(&self, y: usize, x: usize) -> usize {
        self.start - self.buffer.start + y * self.row + x * self.pixel
    }
}

impl Rim {
    /// Wide enough for both.
    pub(crate) fn widen(&mut self, other: Rim) {
        self.top = self.top.max(other.top);
        self.left = self.left.max(other.left);
        self.bottom = self.bottom.max(other.bottom);
        self.right = self.right.max(other.right);
    }
}

impl Buffer {
    /// Bytes of a row, rim included. Saturates: a file may ask for anything, and what it asks for is added up first.
    pub(crate) fn row(&self) -> usize {
        (self.rim.left + self.width + self.rim.right).saturating_mul(self.pixel)
    }

    /// Bytes from the buffer's first to its rectangle's first pixel.
    pub(crate) fn origin(&self) -> usize {
        self.rim.top * self.row() + self.rim.left * self.pixel
    }

    /// Bytes in all. Saturates too.
    pub(crate) fn len(&self) -> usize {
        (self.rim.top + self.height + self.rim.bottom).saturating_mul(self.row())
    }
}

/// A first byte for every buffer, and the bytes needed in all, with [`SLACK`] behind the last.
///
/// The largest is placed first, each at the lowest place where it meets nobody of its own time.
pub(crate) fn place(buffers: &[Buffer]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(buffers[index].len()));
    let mut starts = vec![0; buffers.len()];
    // By their place.
    let mut placed: Vec<usize> = Vec::new();
    let mut end = 0;
    for index in order {
        let buffer = &buffers[index];
        let same_time = |other: &Buffer| other.first <= buffer.last && buffer.first <= other.last;
        let mut start = 0;
        for &other in placed.iter().filter(|&&other| same_time(&buffers[other])) {
            if start + buffer.len() <= starts[other] {
                break;
            }
            start = start.max((starts[other] + buffers[other].len()).next_multiple_of(ALIGNMENT));
        }
        starts[index] = start;
        end = end.max(start + buffer.len());
        placed.insert(placed.partition_point(|&other| starts[other] <= start), index);
    }
    (starts, end + SLACK)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(pixels: usize, first: usize, last: usize) -> Buffer {
        Buffer { height: 1, width: pixels, pixel: 64, rim: Rim::default(), first, last }
    }

    #[test]
    fn buffers_share_memory_but_never_at_the_same_time() {
        let buffers = [buffer(2, 0, 1), buffer(3, 1, 2), buffer(1, 2, 3), buffer(2, 3, 4), buffer(1, 0, 4)];
        let (starts, len) = place(&buffers);
        for (i, a) in buffers.iter().enumerate() {
            for (j, b) in buffers.iter().enumerate().skip(i + 1) {
                let same_time = a.first <= b.last && b.first <= a.last;
                let apart = starts[i] + a.len() <= starts[j] || starts[j] + b.len() <= starts[i];
                assert!(apart || !same_time, "{i} and {j}: {starts:?}");
            }
        }
        assert_eq!(len, 6 * 64 + SLACK);
    }

    #[test]
    fn a_rim_lies_around_the_rectangle() {
        let rim = Rim { top: 1, left: 2, bottom: 0, right: 1 };
        let buffer = Buffer { height: 2, width: 3, pixel: 4, rim, first: 0, last: 0 };
        assert_eq!((buffer.row(), buffer.origin(), buffer.len()), (24, 32, 72));
        let huge = Rim { top: 1 << 20, left: 1 << 20, ..rim };
        assert_eq!(Buffer { pixel: 1 << 28, rim: huge, ..buffer }.len(), usize::MAX);
    }
}
