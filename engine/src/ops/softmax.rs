//! Softmax over channels, as TensorFlow Lite's 8-bit kernel has it: a table of exponentials of distances from the
//! largest step, summed in f32. Its output has scale 1/256.

use super::from_to;
use crate::plan::layout::View;

/// `exp(-beta * scale * distance)` for distances 0 to 255.
pub(crate) type Table = Box<[f32; 256]>;

/// The table for an input of `scale`.
pub(crate) fn table(scale: f32, beta: f32) -> Table {
    Box::new(std::array::from_fn(|distance| (-beta * scale * distance as f32).exp()))
}

/// Softmax of each pixel's channels.
pub(crate) fn softmax(arena: &mut [u8], table: &Table, from: &View, to: &View) {
    let (from_bytes, to_bytes) = from_to(arena, from, to);
    for y in 0..from.height {
        for x in 0..from.width {
            let (at, target) = (from.at(y, x), to.at(y, x));
            let input = &from_bytes[at..at + from.channels];
            let largest = input.iter().copied().max().unwrap_or(0);
            let exponential = |step: u8| table[usize::from(largest - step)];
            let sum: f32 = input.iter().map(|&step| exponential(step)).sum();
            let factor = 1.0 / (sum * (1.0 / 256.0));
            for (output, &step) in to_bytes[target..target + from.channels].iter_mut().zip(input) {
                *output = (exponential(step) * factor).round().clamp(0.0, 255.0) as u8;
            }
        }
    }
}
