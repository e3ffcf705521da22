//! Rectangles in the upright image and their conversion to and from the stored image. Pure geometry.

use crate::frame::{Image, Rotation, View};

/// A part of the upright image. Its pixels are square and as high as the stored ones or, if the image is
/// rotated sideways, as high as those are wide. See [`upright_size`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rect {
    /// Distance from the image's left edge.
    pub left: f64,
    /// Distance from the image's top edge.
    pub top: f64,
    /// Width in pixels.
    pub width: f64,
    /// Height in pixels.
    pub height: f64,
}

/// Width and height of the upright image, with square pixels.
pub fn upright_size(image: &Image) -> (f64, f64) {
    let (width, height) = (image.width as f64 * image.view.pixel_aspect, image.height as f64);
    if image.view.rotation.is_sideways() { (height, width) } else { (width, height) }
}

impl Rect {
    /// The whole upright image.
    pub fn whole(image: &Image) -> Rect {
        let (width, height) = upright_size(image);
        Rect { left: 0.0, top: 0.0, width, height }
    }

    /// Creates a rectangle from its edges.
    pub fn from_edges(left: f64, top: f64, right: f64, bottom: f64) -> Rect {
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

    /// The centre (x, y).
    pub fn centre(&self) -> (f64, f64) {
        (self.left + self.width / 2.0, self.top + self.height / 2.0)
    }

    /// Length of the diagonal.
    pub fn diagonal(&self) -> f64 {
        self.width.hypot(self.height)
    }

    /// Area in pixels.
    pub fn area(&self) -> f64 {
        self.width * self.height
    }

    /// The rectangle moved by (x, y).
    pub fn moved(&self, (x, y): (f64, f64)) -> Rect {
        Rect { left: self.left + x, top: self.top + y, ..*self }
    }

    /// The rectangle expanded on each side by this fraction of its size.
    pub fn expanded(&self, by: f64) -> Rect {
        let (x, y) = (self.width * by, self.height * by);
        Rect::from_edges(self.left - x, self.top - y, self.right() + x, self.bottom() + y)
    }

    /// The common part of both rectangles. Its area is 0 if there is none.
    pub fn intersection(&self, other: &Rect) -> Rect {
        let (left, top) = (self.left.max(other.left), self.top.max(other.top));
        let (right, bottom) = (self.right().min(other.right()), self.bottom().min(other.bottom()));
        Rect::from_edges(left, top, right.max(left), bottom.max(top))
    }

    /// The bounding box of both rectangles.
    pub fn union(&self, other: &Rect) -> Rect {
        let (left, top) = (self.left.min(other.left), self.top.min(other.top));
        Rect::from_edges(left, top, self.right().max(other.right()), self.bottom().max(other.bottom()))
    }

    /// Intersection over union, 0 to 1.
    pub fn iou(&self, other: &Rect) -> f64 {
        let common = self.intersection(other).area();
        let all = self.area() + other.area() - common;
        if all > 0.0 { common / all } else { 0.0 }
    }

    /// The share of its area that lies in the other rectangle, 0 to 1.
    pub fn share_in(&self, other: &Rect) -> f64 {
        if self.area() > 0.0 { self.intersection(other).area() / self.area() } else { 0.0 }
    }

    /// Converts to whole pixels: left, top, width and height of the part within an image of this size.
    pub fn to_pixels(self, (width, height): (f64, f64)) -> [i64; 4] {
        let within = self.intersection(&Rect { left: 0.0, top: 0.0, width, height });
        // The edges are rounded, because the sum of a rounded left and a rounded width may be outside.
        let [left, top, right, bottom] =
            [within.left, within.top, within.right(), within.bottom()].map(|edge| edge.round() as i64);
        [left, top, right - left, bottom - top]
    }

    /// The square around the rectangle with `margin` of its longer side on each side, moved into an image of
    /// this size and cut if it is larger than the image.
    pub fn square_within(&self, margin: f64, (width, height): (f64, f64)) -> Rect {
        let side = self.width.max(self.height) * (1.0 + 2.0 * margin);
        self.window_within((side, side), (width, height))
    }

    /// The rectangle of this width and height around the middle of this one, moved into an image of this size
    /// and cut if it is larger than the image.
    pub fn window_within(&self, (wide, high): (f64, f64), (width, height): (f64, f64)) -> Rect {
        let (x, y) = self.centre();
        let within = |centre: f64, length: f64, size: f64| {
            let length = length.min(size);
            ((centre - length / 2.0).clamp(0.0, size - length), length)
        };
        let ((left, width), (top, height)) = (within(x, wide, width), within(y, high, height));
        Rect { left, top, width, height }
    }

    /// Converts from the upright to the stored image. The result lies within the image and is at least one
    /// pixel wide and high.
    pub fn stored(&self, image: &Image) -> Rect {
        let View { pixel_aspect, rotation, .. } = image.view;
        let (width, height) = (image.width as f64, image.height as f64);
        let (upright_width, Rect { left, top, .. }) = (width * pixel_aspect, *self);
        let (right, bottom) = (self.right(), self.bottom());
        let (left, right, top, bottom) = match rotation {
            Rotation::None => (left, right, top, bottom),
            Rotation::Right => (top, bottom, height - right, height - left),
            Rotation::Half => (upright_width - right, upright_width - left, height - bottom, height - top),
            Rotation::Left => (upright_width - bottom, upright_width - top, left, right),
        };
        let within = |low: f64, high: f64, size: f64| {
            let low = low.clamp(0.0, size - 1.0);
            (low, high.clamp(low + 1.0, size) - low)
        };
        let (left, width) = within(left / pixel_aspect, right / pixel_aspect, width);
        let (top, height) = within(top, bottom, height);
        Rect { left, top, width, height }
    }

    /// Converts from the stored to the upright image: the inverse of [`Rect::stored`].
    pub fn upright(&self, image: &Image) -> Rect {
        let View { pixel_aspect, rotation, .. } = image.view;
        let (width, height) = (image.width as f64 * pixel_aspect, image.height as f64);
        let (left, right) = (self.left * pixel_aspect, self.right() * pixel_aspect);
        let (top, bottom) = (self.top, self.bottom());
        match rotation {
            Rotation::None => Rect::from_edges(left, top, right, bottom),
            Rotation::Right => Rect::from_edges(height - bottom, left, height - top, right),
            Rotation::Half => Rect::from_edges(width - right, height - bottom, width - left, height - top),
            Rotation::Left => Rect::from_edges(top, width - right, bottom, width - left),
        }
    }

    /// The rectangle in a plane with this share of the image's columns and rows.
    pub fn scaled(&self, columns: f64, rows: f64) -> Rect {
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
    fn rounded_boxes_stay_within_the_image() {
        let rect = Rect { left: 100.5, top: 20.5, width: 219.5, height: 59.5 };
        assert_eq!(rect.to_pixels((320.0, 80.0)), [101, 21, 219, 59]);
        assert_eq!(Rect { left: -3.0, ..rect }.to_pixels((320.0, 80.0)), [0, 21, 217, 59]);
    }

    #[test]
    fn conversion_to_the_stored_image_and_back_is_the_identity() {
        for rotation in [Rotation::None, Rotation::Right, Rotation::Half, Rotation::Left] {
            let mut image = Image::from_rgb(80, 40, vec![0; 80 * 40 * 3]);
            image.view = View { pixel_aspect: 1.5, interlaced: false, rotation };
            let (width, height) = upright_size(&image);
            let rect =
                Rect { left: 0.1 * width, top: 0.3 * height, width: 0.5 * width, height: 0.25 * height };
            let back = rect.stored(&image).upright(&image);
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
    fn overlap_is_measured_by_the_intersection() {
        let rect = |left, top, width, height| Rect { left, top, width, height };
        let (a, b) = (rect(0.0, 0.0, 10.0, 10.0), rect(5.0, 0.0, 10.0, 10.0));
        assert!((a.iou(&b) - 1.0 / 3.0).abs() < 1e-9 && a.share_in(&b) == 0.5);
        assert_eq!(a.union(&b), rect(0.0, 0.0, 15.0, 10.0));
        assert_eq!(a.iou(&rect(20.0, 20.0, 5.0, 5.0)), 0.0);
        assert_eq!(Rect::default().iou(&Rect::default()), 0.0);
    }

    #[test]
    fn a_square_is_moved_into_the_image_before_it_is_cut() {
        let rect = |left, top, width, height| Rect { left, top, width, height };
        let size = (100.0, 60.0);
        assert_eq!(rect(40.0, 20.0, 20.0, 10.0).square_within(0.25, size), rect(35.0, 10.0, 30.0, 30.0));
        assert_eq!(rect(0.0, 0.0, 20.0, 10.0).square_within(0.25, size), rect(0.0, 0.0, 30.0, 30.0));
        assert_eq!(rect(10.0, 0.0, 80.0, 60.0).square_within(0.25, size), rect(0.0, 0.0, 100.0, 60.0));
    }
}
