//! The path of an object over the ground: where the middle of its lower edge has been, as a few points.

/// Maximum number of points.
const MAX_POINTS: usize = 32;
/// Distance between two points at first, as a fraction of the frame's longer side. It doubles whenever the
/// points are thinned out.
const FIRST_STEP: f64 = 0.02;

/// A path in pixels of the upright frame.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Path {
    points: Vec<(f64, f64)>,
    /// The newest position, if it is not the last point.
    newest: Option<(f64, f64)>,
    /// See [`FIRST_STEP`].
    step: f64,
}

impl Path {
    /// Adds a position in a frame of `size`.
    pub fn add(&mut self, position: (f64, f64), size: (f64, f64)) {
        if self.step == 0.0 {
            self.step = FIRST_STEP;
        }
        let longer_side = size.0.max(size.1);
        let is_far = self
            .points
            .last()
            .is_none_or(|last| (position.0 - last.0).hypot(position.1 - last.1) >= self.step * longer_side);
        if !is_far {
            self.newest = Some(position);
            return;
        }
        if self.points.len() == MAX_POINTS {
            let mut index = 0;
            self.points.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.step *= 2.0;
        }
        self.points.push(position);
        self.newest = None;
    }

    /// The points, oldest first. The last one is the newest position.
    pub fn points(&self) -> Vec<(f64, f64)> {
        self.points.iter().copied().chain(self.newest).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_few_points_and_ends_where_the_object_is() {
        let mut path = Path::default();
        let size = (1000.0, 500.0);
        for x in 0..=40 {
            path.add((f64::from(x), 100.0), size);
        }
        assert_eq!(path.points(), [(0.0, 100.0), (20.0, 100.0), (40.0, 100.0)]);
        path.add((45.0, 100.0), size);
        path.add((47.0, 100.0), size);
        assert_eq!(path.points().last(), Some(&(47.0, 100.0)));
        for x in 47..10_000 {
            path.add((f64::from(x), 100.0), size);
        }
        let points = path.points();
        assert!(points.len() <= MAX_POINTS + 1, "{}", points.len());
        assert_eq!((points[0], *points.last().unwrap()), ((0.0, 100.0), (9999.0, 100.0)));
        assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0), "in order");
    }
}
