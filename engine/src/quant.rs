//! The rounding law: how a sum of products becomes a step again, the same on every CPU.
//!
//! `step = round_half_even(sum as f32 * factor) + zero`, kept within `low..=high`, where `factor` is the f32
//! `input_scale * weight_scale / output_scale`, computed in that order. The sum itself is exact in i32 (the plan refuses
//! a convolution that could overflow); its conversion to f32 and the product each round to nearest, half to even, once.
//! That is bit for bit what LiteRT computes through XNNPACK for convolutions, fully connected layers and means. Bounds are
//! whole numbers, so it makes no difference whether they are applied before rounding or after; before, nothing can overflow.
//!
//! Other operators have laws of their own in LiteRT and here, see [`crate::ops`]. Where LiteRT has none, or one that depends
//! on a step's place in its tensor, the model is refused. The one exception is an int8 concatenation of differing scales,
//! which LiteRT refuses: it is computed as one of uint8. Models that LiteRT refuses for lack of a bias or for extreme scales
//! are computed by the law.
//!
//! Steps are unsigned bytes throughout the engine: int8 models have 128 added to every step and zero point. Most
//! networks end a layer in ReLU, whose zero point is then 0.

/// From a sum to a step of one tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    /// The step that stands for 0.
    pub(crate) zero: u8,
    /// The lowest step that may be stored.
    pub(crate) low: u8,
    /// The highest.
    pub(crate) high: u8,
}

impl Range {
    /// Nothing but saturation: what packing instructions do by themselves (on x86; the others bound every step alike).
    #[cfg(any(target_arch = "x86_64", test))]
    pub(crate) const PLAIN: Range = Range { zero: 0, low: 0, high: 255 };

    /// The lowest and highest scaled sum, before the zero point is added.
    pub(crate) fn bounds(self) -> (f32, f32) {
        let zero = f32::from(self.zero);
        (f32::from(self.low) - zero, f32::from(self.high) - zero)
    }

    /// The law, for one sum.
    #[inline]
    pub(crate) fn requantize(self, sum: i32, factor: f32) -> u8 {
        let (low, high) = self.bounds();
        let scaled = (sum as f32 * factor).clamp(low, high).round_ties_even();
        (scaled as i32 + i32::from(self.zero)) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_go_to_even_and_bounds_hold() {
        let steps = |sums: [i32; 7], range: Range| sums.map(|sum| range.requantize(sum, 0.5));
        assert_eq!(steps([-3, -1, 0, 1, 3, 5, 7], Range::PLAIN), [0, 0, 0, 0, 2, 2, 4]);
        let range = Range { zero: 10, low: 9, high: 12 };
        assert_eq!(steps([-5, -3, -1, 1, 3, 5, 7], range), [9, 9, 10, 10, 12, 12, 12]);
        assert_eq!(Range::PLAIN.requantize(i32::MAX, 1e30), 255);
        assert_eq!(Range::PLAIN.requantize(i32::MIN, 1e30), 0);
    }

    #[test]
    fn a_sum_beyond_24_bits_is_rounded_once_on_its_way_to_f32() {
        // 2^24 + 1 lies halfway between two floats and goes to the even one.
        assert_eq!(Range::PLAIN.requantize(16_777_217, 1.0 / 131_072.0), 128);
        assert_eq!(Range::PLAIN.requantize(16_777_216 + 65_536 + 1, 1.0 / 131_072.0), 128);
        assert_eq!(Range::PLAIN.requantize(16_777_216 + 65_536 + 2, 1.0 / 131_072.0), 129);
    }
}
