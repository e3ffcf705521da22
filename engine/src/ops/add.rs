//! ADD: the sum of two tensors of different scales in XNNPACK's fixed point. Each value is multiplied by its
//! tensor's 20-bit multiplier, and the sum is shifted with halves rounded up.

use super::other_buffer;
use crate::{plan::layout::View, quant::OutputRange};

/// Multipliers, start value and shift of the fixed point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Addition {
    multipliers: [i32; 2],
    start: i32,
    shift: u32,
}

impl Addition {
    /// Creates the fixed point for two inputs with their zero points and `ratios`, each input's scale divided
    /// by the output's. Returns None if a ratio lies outside 2^-10 to 2^8, where the fixed point is not
    /// accurate.
    pub(crate) fn new(ratios: [f32; 2], zero_points: [u8; 2]) -> Option<Addition> {
        let is_accurate = |ratio: &f32| (1.0 / 1024.0..256.0).contains(ratio);
        if !ratios.iter().all(is_accurate) {
            return None;
        }
        let largest = ratios[0].max(ratios[1]);
        let exponent = (largest.to_bits() >> 23) as i32 - 127;
        let shift = (20 - exponent) as u32;
        let multipliers =
            ratios.map(|ratio| (f64::from(ratio) * f64::from(1u32 << shift)).round_ties_even() as i32);
        let half = 1 << (shift - 1);
        let start =
            half - multipliers[0] * i32::from(zero_points[0]) - multipliers[1] * i32::from(zero_points[1]);
        Some(Addition { multipliers, start, shift })
    }

    /// Adds one value of each input.
    fn apply(&self, a: u8, b: u8, range: OutputRange) -> u8 {
        let sum = self.start + self.multipliers[0] * i32::from(a) + self.multipliers[1] * i32::from(b);
        let value = (sum >> self.shift) + i32::from(range.zero_point);
        value.clamp(i32::from(range.low), i32::from(range.high)) as u8
    }
}

/// Writes the sum of `a` and `b` to `to`; all have the same shape.
pub(crate) fn add(arena: &mut [u8], addition: &Addition, range: OutputRange, [a, b]: [&View; 2], to: &View) {
    let (before, rest) = arena.split_at_mut(to.buffer.start);
    let (output, after) = rest.split_at_mut(to.buffer.len());
    // The inputs may share a buffer, but neither is the output's.
    let (a_bytes, b_bytes) = (other_buffer(before, after, a, to), other_buffer(before, after, b, to));
    for y in 0..to.height {
        for x in 0..to.width {
            let a_values = &a_bytes[a.at(y, x)..][..to.channels];
            let b_values = &b_bytes[b.at(y, x)..][..to.channels];
            let sums = &mut output[to.at(y, x)..][..to.channels];
            for ((sum, &a), &b) in sums.iter_mut().zip(a_values).zip(b_values) {
                *sum = addition.apply(a, b, range);
            }
        }
    }
}
