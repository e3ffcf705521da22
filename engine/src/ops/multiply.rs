//! MUL: the product of two tensors by the requantization rule: the product of the two distances from their
//! zero points is exact, and the factor is `scale_a * scale_b / output_scale`.

use super::other_buffer;
use crate::{plan::layout::View, quant::OutputRange};

/// The parameters of a multiplication.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Multiplication {
    zero_points: [u8; 2],
    factor: f32,
    range: OutputRange,
}

/// The second operand.
#[derive(Debug)]
pub(crate) enum Multiplier {
    /// A tensor of the first operand's size. Distances of 0 between its rows and pixels make one pixel apply
    /// to all.
    View(View),
    /// A constant for each channel.
    Channels(Box<[u8]>),
}

impl Multiplication {
    /// Creates the parameters for operands with their scales and zero points. Returns None if the factor lies
    /// outside 2^-16 to 2^8, where LiteRT computes in a fixed point instead.
    pub(crate) fn new(
        scales: [f32; 2],
        zero_points: [u8; 2],
        output_scale: f32,
        range: OutputRange,
    ) -> Option<Multiplication> {
        let factor = scales[0] * scales[1] / output_scale;
        let is_exact = (1.0 / 65536.0..256.0).contains(&factor);
        is_exact.then_some(Multiplication { zero_points, factor, range })
    }

    /// Multiplies one value of each operand.
    #[inline]
    pub(crate) fn apply(&self, a: u8, b: u8) -> u8 {
        let [a_zero, b_zero] = self.zero_points.map(i32::from);
        self.range.requantize((i32::from(a) - a_zero) * (i32::from(b) - b_zero), self.factor)
    }

    fn apply_all(&self, a: &[u8], b: &[u8], output: &mut [u8]) {
        for ((output, &a), &b) in output.iter_mut().zip(a).zip(b) {
            *output = self.apply(a, b);
        }
    }
}

/// Writes the product of `a` and `b` to `to`.
pub(crate) fn multiply(
    arena: &mut [u8],
    multiplication: &Multiplication,
    a: &View,
    b: &Multiplier,
    to: &View,
) {
    let (before, rest) = arena.split_at_mut(to.buffer.start);
    let (output, after) = rest.split_at_mut(to.buffer.len());
    let a_bytes = other_buffer(before, after, a, to);
    for y in 0..to.height {
        for x in 0..to.width {
            let a_values = &a_bytes[a.at(y, x)..][..to.channels];
            let b_values = match b {
                Multiplier::View(b) => &other_buffer(before, after, b, to)[b.at(y, x)..][..to.channels],
                Multiplier::Channels(values) => &values[..to.channels],
            };
            multiplication.apply_all(a_values, b_values, &mut output[to.at(y, x)..][..to.channels]);
        }
    }
}
