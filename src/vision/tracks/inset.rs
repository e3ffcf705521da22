//! Where in its motion region an object lies. The region may also hold its shadow.

use crate::vision::rect::Rect;

/// By how much a region's size may change, as a share of it, for an [`Inset`] to hold still.
const MAX_CHANGE: f64 = 0.3;

/// The place of an object's box in its motion region.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Inset {
    /// Width and height of the region.
    size: (f64, f64),
    /// Left, upper, right and lower edge of the box, measured from the region's upper left corner, as shares
    /// of the region's size.
    edges: [f64; 4],
}

impl Inset {
    /// The place of a box in a region. None if the region has no area.
    pub fn new(rect: &Rect, region: &Rect) -> Option<Inset> {
        let size = (region.width, region.height);
        let edges = [
            (rect.left - region.left) / size.0,
            (rect.top - region.top) / size.1,
            (rect.right() - region.left) / size.0,
            (rect.bottom() - region.top) / size.1,
        ];
        (region.area() > 0.0).then_some(Inset { size, edges })
    }

    /// The box in a later region. None if the region has another size by now.
    pub fn rect_in(&self, region: &Rect) -> Option<Rect> {
        let is_alike = |now: f64, then: f64| (now - then).abs() <= MAX_CHANGE * then;
        let [left, top, right, bottom] = self.edges;
        let x = |share: f64| region.left + share * region.width;
        let y = |share: f64| region.top + share * region.height;
        (is_alike(region.width, self.size.0) && is_alike(region.height, self.size.1))
            .then(|| Rect::from_edges(x(left), y(top), x(right), y(bottom)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_keeps_its_place_until_the_region_has_another_size() {
        let rect = |left, top, width, height| Rect { left, top, width, height };
        let inset = Inset::new(&rect(10.0, 20.0, 40.0, 100.0), &rect(10.0, 20.0, 80.0, 110.0)).unwrap();
        assert_eq!(inset.rect_in(&rect(110.0, 20.0, 80.0, 110.0)), Some(rect(110.0, 20.0, 40.0, 100.0)));
        assert_eq!(inset.rect_in(&rect(0.0, 0.0, 100.0, 110.0)), Some(rect(0.0, 0.0, 50.0, 100.0)));
        assert_eq!(inset.rect_in(&rect(0.0, 0.0, 110.0, 110.0)), None);
        assert_eq!(Inset::new(&rect(0.0, 0.0, 1.0, 1.0), &rect(0.0, 0.0, 0.0, 5.0)), None);
    }
}
