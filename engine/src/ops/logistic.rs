//! LOGISTIC as a table of 256: `1 / (1 + exp(-x))` in f64, rounded to f32, then quantized as XNNPACK does it,
//! with the zero point added before rounding to nearest even.

use super::rescale::Table;

/// Returns the table. `scales` and `zero_points` are the input's and the output's; `type_zero` is the byte
/// that is 0 in the model's type (128 for int8, 0 for uint8).
pub(crate) fn table(scales: [f32; 2], zero_points: [u8; 2], type_zero: u8) -> Table {
    let inverse = 1.0 / scales[1];
    let output_zero = f32::from(zero_points[1]) - f32::from(type_zero);
    let low = -f32::from(type_zero);
    let entry = |value: usize| {
        let x = (value as f32 - f32::from(zero_points[0])) * scales[0];
        let value = (logistic(x) * inverse + output_zero).clamp(low, low + 255.0).round_ties_even();
        (value - low) as u8
    };
    Box::new(std::array::from_fn(entry))
}

fn logistic(x: f32) -> f32 {
    match x {
        ..-100.0 => 0.0,
        ..=100.0 => {
            let exponential = f64::from(x).exp();
            (exponential / (1.0 + exponential)) as f32
        }
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_range_is_at_the_zero_point_and_the_ends_saturate() {
        let table = table([1.0, 1.0 / 256.0], [100, 0], 128);
        assert_eq!([0, 94, 95, 99, 100, 101, 105, 255].map(|x| table[x]), [0, 1, 2, 69, 128, 187, 254, 255]);
    }

    #[test]
    fn ties_after_rounding_to_f32_go_to_even() {
        // Recorded from LiteRT: the value in f64 is 128.5000037 steps, in f32 128.5.
        let table = table([0.000_114_891_13, 1.0 / 256.0], [183, 0], 128);
        assert_eq!(table[251], 128);
    }
}
