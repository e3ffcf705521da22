//! RESIZE_NEAREST_NEIGHBOR: every output pixel is the nearest input pixel, found in f32 by TensorFlow Lite's
//! rule for int8.

use super::from_to;
use crate::plan::layout::View;

/// How output positions map to input positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resize {
    /// The first and last pixels of input and output coincide. Otherwise, the borders do.
    pub(crate) align_corners: bool,
    /// Positions refer to the centers of pixels, not to their top left corners.
    pub(crate) half_pixel_centers: bool,
}

impl Resize {
    /// Returns the input index that output `index` copies, along an axis of `input` and `output` indices.
    fn source(self, index: usize, input: usize, output: usize) -> usize {
        let scale = match self.align_corners && output > 1 {
            true => (input - 1) as f32 / (output - 1) as f32,
            false => input as f32 / output as f32,
        };
        let offset = if self.half_pixel_centers { 0.5 } else { 0.0 };
        let position = (index as f32 + offset) * scale;
        let nearest = if self.align_corners { position.round() } else { position.floor() };
        (nearest as usize).min(input - 1)
    }
}

/// Resizes `from` to the size of `to`.
pub(crate) fn nearest(arena: &mut [u8], resize: Resize, from: &View, to: &View) {
    let (from_bytes, to_bytes) = from_to(arena, from, to);
    let len = from.pixel_len();
    for y in 0..to.height {
        let row = from.at(resize.source(y, from.height, to.height), 0);
        for x in 0..to.width {
            let at = row + resize.source(x, from.width, to.width) * from.pixel;
            let target = to.at(y, x);
            to_bytes[target..target + len].copy_from_slice(&from_bytes[at..at + len]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_follow_the_flags() {
        let sources = |align_corners: bool, half_pixel_centers: bool, input: usize, output: usize| {
            let resize = Resize { align_corners, half_pixel_centers };
            (0..output).map(|index| resize.source(index, input, output)).collect::<Vec<_>>()
        };
        assert_eq!(sources(false, false, 3, 6), [0, 0, 1, 1, 2, 2]);
        assert_eq!(sources(false, true, 3, 6), [0, 0, 1, 1, 2, 2]);
        assert_eq!(sources(true, false, 3, 6), [0, 0, 1, 1, 2, 2]);
        assert_eq!(sources(true, true, 3, 6), [0, 1, 1, 1, 2, 2]);
        assert_eq!(sources(false, false, 5, 2), [0, 2]);
        assert_eq!(sources(true, false, 5, 1), [0]);
        assert_eq!(sources(false, true, 5, 3), [0, 2, 4]);
        assert_eq!(sources(false, false, 1, 3), [0, 0, 0]);
    }
}
