//! Rectangles in a picture as one sees it, and their way to and from the picture as it is stored. Pure geometry.

use crate::frame::{Image, Rotation, View};

/// A part of a picture as one sees it: upright, with square pixels as high as the stored ones are (or, lying on its side,
/// as they are wide). See [`upright_size`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rect {
    /// From the left edge.
    pub left: f64,
    /// From the top edge.
    pub top: f64,
    /// Columns.
    pub width: f64,
    /// Rows.
    pub height: f64,
}

/// Width and height of a picture as one sees it.
pub fn upright_size(image: &Image) -> (f64, f64) {
    let (width, height) = (image.width as f64 * image.view.pixel_aspect, image.height as f64);
    if image.view.rotation.is_sideways() { (height, width) } else { (width, height) }
}

impl Rect {
    /// All of a picture.
    pub fn whole(image: &Image) -> Rect {
        let (width, height) = upright_size(image);
        Rect { left: 0.0, top: 0.0, width, height }
    }

    /// From edge to edge.
    pub fn of_edges(left: f64, top: f64, right: f64, bottom: f64) -> Rect {
        Rect { left, top, width: right - left, height: bottom - top }
    }

    /// The right edge.
    pub fn right(&self) -> f64 {
        self.left + self.width
    }

    /// The lower edge.
    pub fn bottom(&self) -> f64 {
        self.top + self.height
    }

    /// Its middle.
    pub fn centre(&self) -> (f64, f64) {
        (self.left + self.width / 2.0, self.top + self.height / 2.0)
    }

    /// From corner to corner.
    pub fn diagonal(&self) -> f64 {
        self.width.hypot(self.height)
    }

    /// In pixels.
    pub fn area(&self) -> f64 {
        self.width * self.height
    }

    /// MotionResult by so much.
    pub fn moved(&self, (x, y): (f64, f64)) -> Rect {
        Rect { left: self.left + x, top: self.top + y, ..*self }
    }

    /// Larger by `by` of its own size on each side.
    pub fn grown(&self, by: f64) -> Rect {
        let (x, y) = (self.width * by, self.height * by);
        Rect::of_edges(self.left - x, self.top - y, self.right() + x, self.bottom() + y)
    }

    /// What it has in common with another.
    pub fn intersection(&self, other: &Rect) -> Rect {
        let (left, top) = (self.left.max(other.left), self.top.max(other.top));
        let (right, bottom) = (self.right().min(other.right()), self.bottom().min(other.bottom()));
        Rect::of_edges(left, top, right.max(left), bottom.max(top))
    }

    /// The smallest around both.
    pub fn union(&self, other: &Rect) -> Rect {
        let (left, top) = (self.left.min(other.left), self.top.min(other.top));
        Rect::of_edges(left, top, self.right().max(other.right()), self.bottom().max(other.bottom()))
    }

    /// Common part by all of both, 0 to 1.
    pub fn iou(&self, other: &Rect) -> f64 {
        let common = self.intersection(other).area();
        let all = self.area() + other.area() - common;
        if all > 0.0 { common / all } else { 0.0 }
    }

    /// How much of it lies in another, 0 to 1.
    pub fn share_in(&self, other: &Rect) -> f64 {
        if self.area() > 0.0 { self.intersection(other).area() / self.area() } else { 0.0 }
    }

    /// The square around it with `margin` of its longer side on each side, moved into a picture of `size` where it would
    /// stick out, and cut where even that does not do.
    pub fn square_within(&self, margin: f64, (width, height): (f64, f64)) -> Rect {
        let side = self.width.max(self.height) * (1.0 + 2.0 * margin);
        let (x, y) = self.centre();
        let within = |centre: f64, size: f64| {
            let length = side.min(size);
            ((centre - length / 2.0).clamp(0.0, size - length), length)
        };
        let ((left, width), (top, height)) = (within(x, width), within(y, height));
        Rect { left, top, width, height }
    }

    /// The same part of the stored picture, within it and at least a pixel wide and high.
    pub fn stored(&self, image: &Image) -> Rect {
        let View { pixel_aspect, rotation, .. } = image.view;
        let (width, height) = (image.width as f64, image.height as f64);
        let (seen_width, Rect { left, top, .. }) = (width * pixel_aspect, *self);
        let (right, bottom) = (self.right(), self.bottom());
        let (left, right, top, bottom) = match rotation {
            Rotation::None => (left, right, top, bottom),
            Rotation::Right => (top, bottom, height - right, height - left),
            Rotation::Half => (seen_width - right, seen_width - left, height - bottom, height - top),
            Rotation::Left => (seen_width - bottom, seen_width - top, left, right),
        };
        let within = |low: f64, high: f64, size: f64| {
            let low = low.clamp(0.0, size - 1.0);
            (low, high.clamp(low + 1.0, size) - low)
        };
        let (left, width) = within(left / pixel_aspect, right / pixel_aspect, width);
        let (top, height) = within(top, bottom, height);
        Rect { left, top, width, height }
    }

    /// A part of the stored picture as one sees it: the way back from [`Rect::stored`].
    pub fn seen(&self, image: &Image) -> Rect {
        let View { pixel_aspect, rotation, .. } = image.view;
        let (width, height) = (image.width as f64 * pixel_aspect, image.height as f64);
        let (left, right) = (self.left * pixel_aspect, self.right() * pixel_aspect);
        let (top, bottom) = (self.top, self.bottom());
        match rotation {
            Rotation::None => Rect::of_edges(left, top, right, bottom),
            Rotation::Right => Rect::of_edges(height - bottom, left, height - top, right),
            Rotation::Half => Rect::of_edges(width - right, height - bottom, width - left, height - top),
            Rotation::Left => Rect::of_edges(top, width - right, bottom, width - left),
        }
    }

    /// The same part of a plane that has so many of the picture's pixels and rows.
    pub fn of_plane(&self, columns: f64, rows: f64) -> Rect {
        Rect {
            left: self.left * columns,
            top: self.top * rows,
            width: self.width * columns,
            height: self.height * rows,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_seen_where_it_was_asked_for() {
        for rotation in [Rotation::None, Rotation::Right, Rotation::Half, Rotation::Left] {
            let mut image = Image::from_rgb(80, 40, vec![0; 80 * 40 * 3]);
            image.view = View { pixel_aspect: 1.5, interlaced: false, rotation };
            let (width, height) = upright_size(&image);
            let rect =
                Rect { left: 0.1 * width, top: 0.3 * height, width: 0.5 * width, height: 0.25 * height };
            let back = rect.stored(&image).seen(&image);
            for (found, expected) in [
                (back.left, rect.left),
                (back.top, rect.top),
                (back.width, rect.width),
                (back.height, rect.height),
            ] {
                assert!((found - expected).abs() < 1e-9, "{rotation:?}: {back:?} instead of {rect:?}");
            }
        }
    }

    #[test]
    fn overlap_is_measured_by_the_common_part() {
        let rect = |left, top, width, height| Rect { left, top, width, height };
        let (a, b) = (rect(0.0, 0.0, 10.0, 10.0), rect(5.0, 0.0, 10.0, 10.0));
        assert!((a.iou(&b) - 1.0 / 3.0).abs() < 1e-9 && a.share_in(&b) == 0.5);
        assert_eq!(a.union(&b), rect(0.0, 0.0, 15.0, 10.0));
        assert_eq!(a.iou(&rect(20.0, 20.0, 5.0, 5.0)), 0.0);
        assert_eq!(Rect::default().iou(&Rect::default()), 0.0);
    }

    #[test]
    fn a_square_is_moved_into_the_picture_before_it_is_cut() {
        let rect = |left, top, width, height| Rect { left, top, width, height };
        let size = (100.0, 60.0);
        assert_eq!(rect(40.0, 20.0, 20.0, 10.0).square_within(0.25, size), rect(35.0, 10.0, 30.0, 30.0));
        assert_eq!(rect(0.0, 0.0, 20.0, 10.0).square_within(0.25, size), rect(0.0, 0.0, 30.0, 30.0));
        assert_eq!(rect(10.0, 0.0, 80.0, 60.0).square_within(0.25, size), rect(0.0, 0.0, 100.0, 60.0));
    }
}
