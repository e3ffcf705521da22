//! The requantization rule: how a sum of products becomes a quantized value again, identically on every CPU.
//!
//! `value = round_half_even(sum as f32 * factor) + zero_point`, clamped to `low..=high`, where `factor` is
//! the f32 `input_scale * weight_scale / output_scale`, computed in that order. The sum is exact in i32,
//! because the plan refuses convolutions that could overflow. Its conversion to f32 and the product each
//! round once, to nearest even. This is bit for bit what LiteRT computes through XNNPACK for convolutions,
//! fully connected layers, means and products. The bounds are integers, so clamping before rounding is
//! equivalent to clamping after it; before, nothing can overflow.
//!
//! Other operators have their own rules in LiteRT and here, see [`crate::ops`]. A model is refused where
//! LiteRT has no rule, or one that depends on a value's position in its tensor. The one exception is an int8
//! concatenation of differing scales, which LiteRT refuses: it is computed like one of uint8. Models that
//! LiteRT refuses because of a missing bias or extreme scales are computed by this rule.
//!
//! Quantized values are unsigned bytes throughout the engine: 128 is added to every value and zero point of
//! int8 models. Most networks end a layer in ReLU, whose zero point is then 0.

/// Zero point and clamp of a tensor's quantized values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutputRange {
    /// The quantized value that represents 0.
    pub(crate) zero_point: u8,
    /// The lowest quantized value that may be stored.
    pub(crate) low: u8,
    /// The highest quantized value that may be stored.
    pub(crate) high: u8,
}

impl OutputRange {
    /// Zero point 0 and no clamp but saturation, which x86 packing instructions do without extra work.
    /// Kernels for other CPUs clamp every value.
    #[cfg(any(target_arch = "x86_64", test))]
    pub(crate) const FULL: OutputRange = OutputRange { zero_point: 0, low: 0, high: 255 };

    /// Returns the lowest and highest scaled sum, before the zero point is added.
    pub(crate) fn bounds(self) -> (f32, f32) {
        let zero_point = f32::from(self.zero_point);
        (f32::from(self.low) - zero_point, f32::from(self.high) - zero_point)
    }

    /// Applies the requantization rule to one sum.
    #[inline]
    pub(crate) fn requantize(self, sum: i32, factor: f32) -> u8 {
        let (low, high) = self.bounds();
        let scaled = (sum as f32 * factor).clamp(low, high);
        // 1.5 x 2^23: the sum has no bits for fractions, so it is rounded, and its lowest bits are the
        // integer. Not every CPU has an instruction that rounds a float, and compilers vectorize this.
        const ROUNDER: f32 = 12_582_912.0;
        let rounded = (scaled + ROUNDER).to_bits().wrapping_sub(ROUNDER.to_bits());
        (rounded as i32 + i32::from(self.zero_point)) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_round_to_even_and_bounds_hold() {
        let values = |sums: [i32; 7], range: OutputRange| sums.map(|sum| range.requantize(sum, 0.5));
        assert_eq!(values([-3, -1, 0, 1, 3, 5, 7], OutputRange::FULL), [0, 0, 0, 0, 2, 2, 4]);
        let range = OutputRange { zero_point: 10, low: 9, high: 12 };
        assert_eq!(values([-5, -3, -1, 1, 3, 5, 7], range), [9, 9, 10, 10, 12, 12, 12]);
        assert_eq!(OutputRange::FULL.requantize(i32::MAX, 1e30), 255);
        assert_eq!(OutputRange::FULL.requantize(i32::MIN, 1e30), 0);
    }

    #[test]
    fn a_sum_beyond_24_bits_is_rounded_once_when_converted_to_f32() {
        // 2^24 + 1 lies halfway between two floats and rounds to the even one.
        assert_eq!(OutputRange::FULL.requantize(16_777_217, 1.0 / 131_072.0), 128);
        assert_eq!(OutputRange::FULL.requantize(16_777_216 + 65_536 + 1, 1.0 / 131_072.0), 128);
        assert_eq!(OutputRange::FULL.requantize(16_777_216 + 65_536 + 2, 1.0 / 131_072.0), 129);
    }
}
