//! Object detection by a network: the objects in a region of an image, from the network's output tensors.
//!
//! [`layout`] reads the file that describes the outputs and checks it against them. [`Decoder::decode`] turns
//! their values into boxes. Running the network is up to the caller.

mod decode;
pub mod layout;
mod suppression;

pub use decode::Decoder;

use super::rect::Rect;

/// An object that a network has found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// Index of the label in [`layout::Layout::labels`].
    pub label: usize,
    /// Score, 0 to 1.
    pub score: f32,
    /// Box within the region that was searched.
    pub rect: Rect,
}

/// Where a region of an image lies in the network's input: scaled to fit, with its proportions kept, at the
/// top left or in the middle. The rest of the input is grey.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fit {
    /// Width and height of the scaled region in the input, in whole pixels.
    pub size: (usize, usize),
    /// Position of the scaled region in the input.
    pub offset: (usize, usize),
    /// The region, in pixels of the upright image.
    region: Rect,
}

/// The scale at which a region fits into an input of this width and height.
pub fn scale(region: &Rect, (width, height): (usize, usize)) -> f64 {
    (width as f64 / region.width.max(1.0)).min(height as f64 / region.height.max(1.0))
}

/// The index of the input in which a region is largest. Of inputs in which it is as large, the first.
///
/// Panics if there is no input.
pub fn best_input(region: &Rect, inputs: &[(usize, usize)]) -> usize {
    let scale = |index: &usize| scale(region, inputs[*index]);
    let best = (0..inputs.len()).max_by(|a, b| scale(a).total_cmp(&scale(b)).then(b.cmp(a)));
    best.expect("there is an input")
}

impl Fit {
    /// Fits a region into an input of this width and height.
    pub fn new(region: &Rect, (width, height): (usize, usize), is_centred: bool) -> Fit {
        let scale = scale(region, (width, height));
        let side = |length: f64, most: usize| ((length * scale).round() as usize).clamp(1, most);
        let size = (side(region.width, width), side(region.height, height));
        let offset = if is_centred { ((width - size.0) / 2, (height - size.1) / 2) } else { (0, 0) };
        Fit { size, offset, region: *region }
    }

    /// Converts a box in pixels of the input to the image, cut to the region. None if less than a pixel of it
    /// is left, or if an edge is no number.
    fn to_image(self, (left, top, right, bottom): (f32, f32, f32, f32)) -> Option<Rect> {
        let along = |edge: f32, offset: usize, size: usize, start: f64, length: f64| {
            start + (f64::from(edge) - offset as f64) * length / size as f64
        };
        let Fit { size, offset, region } = self;
        let x = |edge| along(edge, offset.0, size.0, region.left, region.width);
        let y = |edge| along(edge, offset.1, size.1, region.top, region.height);
        let rect = Rect::from_edges(x(left), y(top), x(right), y(bottom));
        if ![rect.left, rect.top, rect.width, rect.height].iter().all(|value| value.is_finite()) {
            return None;
        }
        let rect = rect.intersection(&region);
        (rect.width >= 1.0 && rect.height >= 1.0).then_some(rect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_region_is_scaled_to_the_width_and_boxes_find_their_way_back() {
        let region = Rect { left: 100.0, top: 50.0, width: 640.0, height: 320.0 };
        let fit = Fit::new(&region, (320, 320), true);
        assert_eq!((fit.size, fit.offset), ((320, 160), (0, 80)));
        let rect = fit.to_image((0.0, 80.0, 160.0, 160.0)).unwrap();
        assert_eq!(rect, Rect { left: 100.0, top: 50.0, width: 320.0, height: 160.0 });
        assert_eq!(fit.to_image((-50.0, 0.0, 1000.0, 1000.0)), Some(region), "cut to the region");
        assert_eq!(fit.to_image((0.0, 0.0, 100.0, 80.0)), None, "in the grey margin");
        assert_eq!(fit.to_image((f32::NAN, 0.0, 100.0, 100.0)), None);
        assert_eq!(fit.to_image((0.0, 0.0, f32::INFINITY, 100.0)), None);
        let top_left = Fit::new(&region, (320, 320), false);
        assert_eq!(top_left.offset, (0, 0));
    }

    #[test]
    fn a_region_goes_to_the_input_in_which_it_is_largest() {
        let inputs = [(320, 320), (448, 256)];
        let best = |width, height| best_input(&Rect { left: 0.0, top: 0.0, width, height }, &inputs);
        assert_eq!(best(500.0, 500.0), 0);
        assert_eq!(best(240.0, 640.0), 0);
        assert_eq!(best(1280.0, 720.0), 1);
        assert_eq!(best(640.0, 512.0), 0, "as large in both");
        assert_eq!(best(640.0, 511.0), 1);
        assert_eq!(best(f64::MAX, 0.0), 1);
    }

    #[test]
    fn regions_thinner_than_a_pixel_still_have_a_pixel_of_input() {
        let region = Rect { left: 5.0, top: 5.0, width: 1000.0, height: 0.2 };
        assert_eq!(Fit::new(&region, (320, 320), false).size, (320, 1));
        let region = Rect { left: 5.0, top: 5.0, width: 0.0, height: 0.0 };
        assert_eq!(Fit::new(&region, (320, 256), false).size, (1, 1));
    }
}
