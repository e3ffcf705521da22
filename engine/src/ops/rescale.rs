//! From one scale to another, one step at a time: what a step becomes is a table of 256.

use super::from_to;
use crate::plan::layout::View;

/// What each step becomes.
pub(crate) type Table = Box<[u8; 256]>;

/// QUANTIZE within int8 or uint8, in XNNPACK's fixed point: a multiplier of 8 bits behind the point, halves up.
/// `None` where the ratio of `scales`, the input's and the output's, lies outside 2^-8 to 2^7, in which it is sound.
pub(crate) fn quantize_table(scales: [f32; 2], input_zero: u8, output_zero: u8) -> Option<Table> {
    let ratio = scales[0] / scales[1];
    if !(1.0 / 256.0..=128.0).contains(&ratio) {
        return None;
    }
    let multiplier = (256.0 * ratio).round_ties_even() as i32;
    let entry = |step: usize| {
        let sum = (step as i32 - i32::from(input_zero)) * multiplier + (i32::from(output_zero) << 8) + 128;
        (sum >> 8).clamp(0, 255) as u8
    };
    Some(Box::new(std::array::from_fn(entry)))
}

/// QUANTIZE from int8 to uint8 or back, in TensorFlow Lite's own fixed point, as XNNPACK has none for these: a multiplier
/// of 31 bits, halves away from 0. `None` where the ratio lies outside 2^-1 to 2^7: below, TensorFlow Lite rounds a second
/// time, most steps with halves up but the last few of a tensor with halves away from 0, and that is no law.
pub(crate) fn retype_table(scales: [f32; 2], input_zero: u8, output_zero: u8) -> Option<Table> {
    let ratio = f64::from(scales[0]) / f64::from(scales[1]);
    if !(0.5..=128.0).contains(&ratio) {
        return None;
    }
    // A fraction from 1/2 to 1 of 31 bits, and a power of two.
    let exponent = (ratio.to_bits() >> 52) as i32 - 1022;
    let multiplier = (ratio * 2f64.powi(31 - exponent)).round() as i64;
    let entry = |step: usize| {
        let product = ((step as i64 - i64::from(input_zero)) << exponent) * multiplier;
        let half = if product >= 0 { 1 << 30 } else { -(1 << 30) };
        ((product + half) / (1 << 31) + i64::from(output_zero)).clamp(0, 255) as u8
    };
    Some(Box::new(std::array::from_fn(entry)))
}

/// A part of a concatenation with another scale than the whole: rounded halves away from 0, as TensorFlow Lite does for
/// uint8. For int8 it refuses such models, so there is nothing to be equal to; they are computed by the same law.
pub(crate) fn concatenation_table(ratio: f32, input_zero: u8, output_zero: u8) -> Table {
    let offset = -f32::from(input_zero) * ratio;
    let entry = |step: usize| {
        let value = (step as f32 * ratio + offset).round() + f32::from(output_zero);
        value.clamp(0.0, 255.0) as u8
    };
    Box::new(std::array::from_fn(entry))
}

/// Writes what `table` says of every step of `from` into the rectangle of `to` at `top`, `left`.
pub(crate) fn apply(arena: &mut [u8], table: &Table, from: &View, to: &View, top: usize, left: usize) {
    let (from_bytes, to_bytes) = from_to(arena, from, to);
    for y in 0..from.height {
        for x in 0..from.width {
            let (at, target) = (from.at(y, x), to.at(top + y, left + x));
            let input = &from_bytes[at..at + from.channels];
            for (output, &step) in to_bytes[target..target + from.channels].iter_mut().zip(input) {
                *output = table[usize::from(step)];
            }
        }
    }
}

/// Real values: `(step - zero) * scale` as little-endian f32.
pub(crate) fn dequantize(arena: &mut [u8], scale: f32, zero: u8, from: &View, to: &View) {
    let (from_bytes, to_bytes) = from_to(arena, from, to);
    for y in 0..from.height {
        for x in 0..from.width {
            let (at, target) = (from.at(y, x), to.at(y, x));
            let output = to_bytes[target..target + 4 * from.channels].as_chunks_mut().0;
            for (value, &step) in output.iter_mut().zip(&from_bytes[at..at + from.channels]) {
                *value = ((f32::from(step) - f32::from(zero)) * scale).to_le_bytes();
            }
        }
    }
}

/// Steps of real values: `value / scale`, halves to even, plus `zero`.
pub(crate) fn quantize_real(arena: &mut [u8], scale: f32, zero: u8, from: &View, to: &View) {
    let (from_bytes, to_bytes) = from_to(arena, from, to);
    let factor = 1.0 / scale;
    let range = crate::quant::Range { zero, low: 0, high: 255 };
    let (low, high) = range.bounds();
    for y in 0..from.height {
        for x in 0..from.width {
            let (at, target) = (from.at(y, x), to.at(y, x));
            let input = from_bytes[at..at + 4 * from.channels].as_chunks().0;
            for (step, &value) in to_bytes[target..target + from.channels].iter_mut().zip(input) {
                // What is not a number becomes the lowest step, as min and max of vectors would have it.
                let scaled = (f32::from_le_bytes(value) * factor).max(low).min(high).round_ties_even();
                *step = (scaled as i32 + i32::from(zero)) as u8;
            }
        }
    }
}
