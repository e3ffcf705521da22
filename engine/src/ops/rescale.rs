//! Converts between scales: QUANTIZE, LEAKY_RELU and concatenation inputs of another scale by a table of 256,
//! and DEQUANTIZE.

use super::from_to;
use crate::plan::layout::View;

/// The output of each quantized value.
pub(crate) type Table = Box<[u8; 256]>;

/// Returns the table of a QUANTIZE within int8 or uint8 in XNNPACK's fixed point: a multiplier with 8
/// fractional bits, halves rounded up. `scales` are the input's and the output's. None if their ratio lies
/// outside 2^-8 to 2^7, where the fixed point is not accurate.
pub(crate) fn quantize_table(scales: [f32; 2], input_zero: u8, output_zero: u8) -> Option<Table> {
    let ratio = scales[0] / scales[1];
    if !(1.0 / 256.0..=128.0).contains(&ratio) {
        return None;
    }
    Some(two_slopes([ratio; 2], [input_zero, output_zero]))
}

/// Returns the table of a LEAKY_RELU in the same fixed point, with another multiplier below the zero point.
/// None if a ratio lies outside the range in which XNNPACK computes it, or the slope is not above 0.
pub(crate) fn leaky_relu_table(scales: [f32; 2], slope: f32, zero_points: [u8; 2]) -> Option<Table> {
    let ratio = scales[0] / scales[1];
    let ratios = [ratio * slope, ratio];
    let is_exact = ratios.iter().zip([127.0, 128.0]).all(|(ratio, max)| (1.0 / 256.0..=max).contains(ratio));
    is_exact.then(|| two_slopes(ratios, zero_points))
}

/// The table of two slopes, below the input's zero point and above it: multipliers with 8 fractional bits,
/// halves rounded up.
fn two_slopes(slopes: [f32; 2], zero_points: [u8; 2]) -> Table {
    let multipliers = slopes.map(|slope| (256.0 * slope).round_ties_even() as i32);
    let [input_zero, output_zero] = zero_points.map(i32::from);
    let entry = |value: usize| {
        let distance = value as i32 - input_zero;
        let sum = distance * multipliers[usize::from(distance >= 0)] + (output_zero << 8) + 128;
        (sum >> 8).clamp(0, 255) as u8
    };
    Box::new(std::array::from_fn(entry))
}

/// Returns the table of a QUANTIZE between int8 and uint8 in TensorFlow Lite's own fixed point, because
/// XNNPACK has none for these: a 31-bit multiplier, halves rounded away from 0. None if the ratio lies
/// outside 2^-1 to 2^7. Below, TensorFlow Lite rounds a second time, most values with halves up but the last
/// few of a tensor with halves away from 0, so that there is no rule to reproduce.
pub(crate) fn retype_table(scales: [f32; 2], input_zero: u8, output_zero: u8) -> Option<Table> {
    let ratio = f64::from(scales[0]) / f64::from(scales[1]);
    if !(0.5..=128.0).contains(&ratio) {
        return None;
    }
    // A 31-bit fraction from 1/2 to 1, and a power of two.
    let exponent = (ratio.to_bits() >> 52) as i32 - 1022;
    let multiplier = (ratio * 2f64.powi(31 - exponent)).round() as i64;
    let entry = |value: usize| {
        let product = ((value as i64 - i64::from(input_zero)) << exponent) * multiplier;
        let half = if product >= 0 { 1 << 30 } else { -(1 << 30) };
        ((product + half) / (1 << 31) + i64::from(output_zero)).clamp(0, 255) as u8
    };
    Some(Box::new(std::array::from_fn(entry)))
}

/// Returns the table of a concatenation input whose scale differs from the output's. `ratio` is the input's
/// scale divided by the output's. Halves are rounded away from 0, as in TensorFlow Lite for uint8. TensorFlow
/// Lite refuses such int8 models, so there is no reference; they are computed by the same rule.
pub(crate) fn concatenation_table(ratio: f32, input_zero: u8, output_zero: u8) -> Table {
    let offset = -f32::from(input_zero) * ratio;
    let entry = |value: usize| {
        let scaled = (value as f32 * ratio + offset).round() + f32::from(output_zero);
        scaled.clamp(0.0, 255.0) as u8
    };
    Box::new(std::array::from_fn(entry))
}

/// Maps every value of `from` through `table` into the rectangle of `to` at `top`, `left`.
pub(crate) fn apply(arena: &mut [u8], table: &Table, from: &View, to: &View, top: usize, left: usize) {
    let (from_bytes, to_bytes) = from_to(arena, from, to);
    for y in 0..from.height {
        for x in 0..from.width {
            let (at, target) = (from.at(y, x), to.at(top + y, left + x));
            let input = &from_bytes[at..at + from.channels];
            for (output, &value) in to_bytes[target..target + from.channels].iter_mut().zip(input) {
                *output = table[usize::from(value)];
            }
        }
    }
}

/// DEQUANTIZE: writes `(q - zero_point) * scale` as little-endian f32.
pub(crate) fn dequantize(arena: &mut [u8], scale: f32, zero_point: u8, from: &View, to: &View) {
    let (from_bytes, to_bytes) = from_to(arena, from, to);
    for y in 0..from.height {
        for x in 0..from.width {
            let (at, target) = (from.at(y, x), to.at(y, x));
            let output = to_bytes[target..target + 4 * from.channels].as_chunks_mut().0;
            for (value, &quantized) in output.iter_mut().zip(&from_bytes[at..at + from.channels]) {
                *value = ((f32::from(quantized) - f32::from(zero_point)) * scale).to_le_bytes();
            }
        }
    }
}

/// QUANTIZE of f32: `value / scale`, rounded to nearest even, plus `zero_point`.
pub(crate) fn quantize_f32(arena: &mut [u8], scale: f32, zero_point: u8, from: &View, to: &View) {
    let (from_bytes, to_bytes) = from_to(arena, from, to);
    let factor = 1.0 / scale;
    let range = crate::quant::OutputRange { zero_point, low: 0, high: 255 };
    let (low, high) = range.bounds();
    for y in 0..from.height {
        for x in 0..from.width {
            let (at, target) = (from.at(y, x), to.at(y, x));
            let input = from_bytes[at..at + 4 * from.channels].as_chunks().0;
            for (quantized, &value) in to_bytes[target..target + from.channels].iter_mut().zip(input) {
                // NaN becomes the lowest value, as with vector min and max instructions.
                let scaled = (f32::from_le_bytes(value) * factor).max(low).min(high).round_ties_even();
                *quantized = (scaled as i32 + i32::from(zero_point)) as u8;
            }
        }
    }
}
