//! The sum of two tensors of different scales, in XNNPACK's fixed point: each step times its own multiplier of 20 bits,
//! then a shift that rounds halves up.

use crate::{plan::layout::View, quant::Range};

/// Multipliers, start value and shift.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Addition {
    multipliers: [i32; 2],
    start: i32,
    shift: u32,
}

impl Addition {
    /// For two inputs, each with its scale over the output's and its zero point. `None` where a ratio lies outside
    /// 2^-10 to 2^8, in which the fixed point is sound.
    pub(crate) fn new(ratios: [f32; 2], zeros: [u8; 2]) -> Option<Addition> {
        let sound = |ratio: &f32| (1.0 / 1024.0..256.0).contains(ratio);
        if !ratios.iter().all(sound) {
            return None;
        }
        let largest = ratios[0].max(ratios[1]);
        let exponent = (largest.to_bits() >> 23) as i32 - 127;
        let shift = (20 - exponent) as u32;
        let multipliers =
            ratios.map(|ratio| (f64::from(ratio) * f64::from(1u32 << shift)).round_ties_even() as i32);
        let half = 1 << (shift - 1);
        let start = half - multipliers[0] * i32::from(zeros[0]) - multipliers[1] * i32::from(zeros[1]);
        Some(Addition { multipliers, start, shift })
    }

    /// The law of this operator, for one step each.
    fn apply(&self, a: u8, b: u8, range: Range) -> u8 {
        let sum = self.start + self.multipliers[0] * i32::from(a) + self.multipliers[1] * i32::from(b);
        let step = (sum >> self.shift) + i32::from(range.zero);
        step.clamp(i32::from(range.low), i32::from(range.high)) as u8
    }
}

/// `to` is the sum of `a` and `b`, all of one shape.
pub(crate) fn add(arena: &mut [u8], addition: &Addition, range: Range, [a, b]: [&View; 2], to: &View) {
    let (before, rest) = arena.split_at_mut(to.buffer.start);
    let (output, behind) = rest.split_at_mut(to.buffer.len());
    // The inputs may share a buffer, but neither is the output's.
    let bytes = |view: &View| match view.buffer.end <= to.buffer.start {
        true => &before[view.buffer.clone()],
        false => &behind[view.buffer.start - to.buffer.end..view.buffer.end - to.buffer.end],
    };
    let (a_bytes, b_bytes) = (bytes(a), bytes(b));
    for y in 0..to.height {
        for x in 0..to.width {
            let a_steps = &a_bytes[a.at(y, x)..][..to.channels];
            let b_steps = &b_bytes[b.at(y, x)..][..to.channels];
            let steps = &mut output[to.at(y, x)..][..to.channels];
            for ((step, &a), &b) in steps.iter_mut().zip(a_steps).zip(b_steps) {
                *step = addition.apply(a, b, range);
            }
        }
    }
}
