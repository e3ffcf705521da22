//! SOFTMAX over channels, like TensorFlow Lite's 8-bit kernel: a table of exponentials of the distance from
//! the largest value, summed in f32. The output has scale 1/256.

use super::from_to;
use crate::plan::layout::View;

/// `exp(-beta * scale * distance)` for distances 0 to 255.
pub(crate) type Table = Box<[f32; 256]>;

/// Returns the table for an input of `scale`.
pub(crate) fn table(scale: f32, beta: f32) -> Table {
    Box::new(std::array::from_fn(|distance| (-beta * scale * distance as f32).exp()))
}

/// Computes the softmax of each pixel's channels.
pub(crate) fn softmax(arena: &mut [u8], table: &Table, from: &View, to: &View) {
    let (from_bytes, to_bytes) = from_to(arena, from, to);
    for y in 0..from.height {
        for x in 0..from.width {
            let (at, target) = (from.at(y, x), to.at(y, x));
            let input = &from_bytes[at..at + from.channels];
            let largest = input.iter().copied().max().unwrap_or(0);
            let exponential = |value: u8| table[usize::from(largest - value)];
            let sum: f32 = input.iter().map(|&value| exponential(value)).sum();
            let factor = 1.0 / (sum * (1.0 / 256.0));
            for (output, &value) in to_bytes[target..target + from.channels].iter_mut().zip(input) {
                *output = (exponential(value) * factor).round().clamp(0.0, 255.0) as u8;
            }
        }
    }
}
