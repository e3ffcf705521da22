//! Copies and fills: RESHAPE, PAD, STRIDED_SLICE, TRANSPOSE, the padding of convolutions, and concatenation
//! inputs that need a copy.

use super::from_to;
use crate::plan::layout::{Padding, View};

/// Copies `from` to `to` in order. Both have the same number of bytes but may differ in shape.
pub(crate) fn reshape(arena: &mut [u8], from: &View, to: &View) {
    let (from_bytes, to_bytes) = from_to(arena, from, to);
    let is_contiguous = |view: &View| view.is_one_row() && view.is_dense_in_rows();
    if is_contiguous(from) && is_contiguous(to) {
        let (at, target) = (from.at(0, 0), to.at(0, 0));
        to_bytes[target..target + to.len()].copy_from_slice(&from_bytes[at..at + from.len()]);
        return;
    }
    let mut source =
        (0..from.height).flat_map(|y| (0..from.width).map(move |x| (y, x))).flat_map(|(y, x)| {
            let at = from.at(y, x);
            from_bytes[at..at + from.pixel_len()].iter().copied()
        });
    for y in 0..to.height {
        for x in 0..to.width {
            let at = to.at(y, x);
            for byte in &mut to_bytes[at..at + to.pixel_len()] {
                *byte = source.next().unwrap_or_default();
            }
        }
    }
}

/// Copies `from` into the rectangle of `to` that begins at row `top` and column `left`.
pub(crate) fn copy_into(arena: &mut [u8], from: &View, to: &View, top: usize, left: usize) {
    let (from_bytes, to_bytes) = from_to(arena, from, to);
    let len = from.pixel_len();
    for y in 0..from.height {
        for x in 0..from.width {
            let (at, target) = (from.at(y, x), to.at(top + y, left + x));
            to_bytes[target..target + len].copy_from_slice(&from_bytes[at..at + len]);
        }
    }
}

/// Copies one element for each of `to`. `distances` are those in `from` between neighbours along the rows,
/// columns and channels of `to`.
pub(crate) fn gather(arena: &mut [u8], from: &View, distances: [usize; 3], to: &View) {
    let (from_bytes, to_bytes) = from_to(arena, from, to);
    let [row, pixel, channel] = distances;
    for y in 0..to.height {
        for x in 0..to.width {
            let (at, target) = (from.at(0, 0) + y * row + x * pixel, to.at(y, x));
            if to.element_len == 1 {
                let source = from_bytes[at..].iter().step_by(channel);
                for (byte, &value) in to_bytes[target..target + to.channels].iter_mut().zip(source) {
                    *byte = value;
                }
                continue;
            }
            let elements = to_bytes[target..target + to.pixel_len()].chunks_exact_mut(to.element_len);
            for (index, element) in elements.enumerate() {
                element.copy_from_slice(&from_bytes[at + index * channel..][..to.element_len]);
            }
        }
    }
}

/// Fills a tensor with `value`.
pub(crate) fn fill(arena: &mut [u8], to: &View, value: u8) {
    for y in 0..to.height {
        for x in 0..to.width {
            let at = to.buffer.start + to.at(y, x);
            arena[at..at + to.pixel_len()].fill(value);
        }
    }
}

/// Fills the padding of the buffer of `view` with `value`.
pub(crate) fn fill_padding(arena: &mut [u8], view: &View, padding: Padding, value: u8) {
    let bytes = &mut arena[view.buffer.clone()];
    bytes[..padding.top * view.row].fill(value);
    let below = (padding.top + view.height) * view.row;
    bytes[below..].fill(value);
    for row in bytes[padding.top * view.row..below].chunks_exact_mut(view.row) {
        row[..padding.left * view.pixel].fill(value);
        let right = row.len() - padding.right * view.pixel;
        row[right..].fill(value);
    }
}
