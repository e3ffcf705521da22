//! The grid of cells over an image: what a cell means in pixels, and conversions between cells and
//! rectangles.

use super::super::{luma::Luma, patch::CellRect, rect::Rect};
use crate::frame::{Image, Rotation, View};

/// The properties of an image that decide what a cell shows. Interlacing is not among them: some streams
/// change it from frame to frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Geometry {
    width: usize,
    height: usize,
    pixel_aspect: f64,
    rotation: Rotation,
}

impl Geometry {
    /// The geometry of an image.
    pub fn of(image: &Image) -> Geometry {
        let View { pixel_aspect, rotation, .. } = image.view;
        Geometry { width: image.width, height: image.height, pixel_aspect, rotation }
    }
}

impl Geometry {
    /// How the image must be turned to be upright.
    pub fn rotation(&self) -> Rotation {
        self.rotation
    }
}

/// Returns the cells that `rect` of the upright image covers, at least one.
pub fn to_cells(luma: &Luma, rect: &Rect, image: &Image) -> CellRect {
    let stored = rect.stored(image);
    let side = luma.side as f64;
    let along = |low: f64, high: f64, size: usize| {
        let first = ((low / side).round() as usize).min(size - 1);
        (first, ((high / side).round() as usize).clamp(first + 1, size) - first)
    };
    let (left, width) = along(stored.left, stored.right(), luma.width);
    let (top, height) = along(stored.top, stored.bottom(), luma.height);
    CellRect { left, top, width, height }
}

/// Returns the rectangle of the upright image that `cells` cover.
pub fn to_rect(luma: &Luma, cells: CellRect, image: &Image) -> Rect {
    let side = luma.side as f64;
    let (left, top) = (cells.left as f64 * side, cells.top as f64 * side);
    // Pixels beyond the last complete cell belong to that cell.
    let edge = |end: usize, cells: usize, pixels: usize| {
        if end == cells { pixels as f64 } else { end as f64 * side }
    };
    let right = edge(cells.left + cells.width, luma.width, image.width);
    let bottom = edge(cells.top + cells.height, luma.height, image.height);
    Rect::from_edges(left, top, right, bottom).upright(image)
}
