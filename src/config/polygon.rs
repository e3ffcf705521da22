//! Polygons for masks and zones, in fractions of the image's width and height. Pure geometry.
//!
//! A dozen lines of code instead of a geometry crate, which would be a hundred times larger for this one
//! function.

/// A closed polygon. Its corners are (x, y) from the top left, 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Polygon(pub Vec<(f64, f64)>);

impl Polygon {
    /// Whether the point is inside: a ray from it crosses the outline an odd number of times (even-odd rule).
    pub fn contains(&self, (x, y): (f64, f64)) -> bool {
        self.sides().fold(false, |inside, (a, b)| {
            let crosses = (a.1 > y) != (b.1 > y) && x < (b.0 - a.0) * (y - a.1) / (b.1 - a.1) + a.0;
            inside != crosses
        })
    }

    fn sides(&self) -> impl Iterator<Item = ((f64, f64), (f64, f64))> {
        let next = self.0.iter().cycle().skip(1);
        self.0.iter().copied().zip(next.copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_inside_or_outside_a_concave_polygon() {
        // The shape of a U.
        let u = Polygon(vec![
            (0.1, 0.1),
            (0.3, 0.1),
            (0.3, 0.7),
            (0.7, 0.7),
            (0.7, 0.1),
            (0.9, 0.1),
            (0.9, 0.9),
            (0.1, 0.9),
        ]);
        for (point, expected) in [
            ((0.2, 0.2), true),
            ((0.8, 0.5), true),
            ((0.5, 0.8), true),
            ((0.5, 0.3), false),
            ((0.05, 0.5), false),
            ((0.95, 0.95), false),
        ] {
            assert_eq!(u.contains(point), expected, "{point:?}");
        }
        assert!(!Polygon(vec![]).contains((0.5, 0.5)));
    }
}
