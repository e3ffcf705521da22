//! Conversion of YUV to RGB in whole numbers: the same bytes on every processor, so that a recording gives
//! the same events everywhere. Libraries round differently with the instructions that they find.

use crate::frame::{Colorimetry, YuvMatrix};

/// Bits after the point of the factors.
const BITS: u32 = 14;
/// Red and blue weights of the luma (ITU-R BT.601 and BT.709).
const BT601: (f64, f64) = (0.299, 0.114);
const BT709: (f64, f64) = (0.2126, 0.0722);

/// Factors of a conversion, with [`BITS`] bits after the point.
struct Factors {
    /// What is black.
    black: i32,
    luma: i32,
    red_of_v: i32,
    green_of_u: i32,
    green_of_v: i32,
    blue_of_u: i32,
}

impl Factors {
    fn of(colorimetry: Colorimetry) -> Factors {
        let (red, blue) = match colorimetry.matrix {
            YuvMatrix::Bt601 => BT601,
            YuvMatrix::Bt709 => BT709,
        };
        let green = 1.0 - red - blue;
        // Limited range: luma from 16 to 235, chroma from 16 to 240.
        let (black, luma, chroma) =
            if colorimetry.full_range { (0, 1.0, 1.0) } else { (16, 255.0 / 219.0, 255.0 / 224.0) };
        let fixed = |factor: f64| (factor * f64::from(1 << BITS)).round() as i32;
        Factors {
            black,
            luma: fixed(luma),
            red_of_v: fixed(2.0 * (1.0 - red) * chroma),
            green_of_u: fixed(2.0 * (1.0 - blue) * blue / green * chroma),
            green_of_v: fixed(2.0 * (1.0 - red) * red / green * chroma),
            blue_of_u: fixed(2.0 * (1.0 - blue) * chroma),
        }
    }
}

/// Converts planes of the same size to interleaved RGB. Pixels without a place in `rgb` are left out.
pub fn yuv_to_rgb(planes: &[Vec<u8>; 3], colorimetry: Colorimetry, rgb: &mut [u8]) {
    const HALF: i32 = 1 << (BITS - 1);
    let factors = Factors::of(colorimetry);
    let [y, u, v] = planes;
    let byte = |value: i32| (value >> BITS).clamp(0, 255) as u8;
    for (((pixel, y), u), v) in rgb.as_chunks_mut::<3>().0.iter_mut().zip(y).zip(u).zip(v) {
        let luma = (i32::from(*y) - factors.black) * factors.luma + HALF;
        let (u, v) = (i32::from(*u) - 128, i32::from(*v) - 128);
        *pixel = [
            byte(luma + factors.red_of_v * v),
            byte(luma - factors.green_of_u * u - factors.green_of_v * v),
            byte(luma + factors.blue_of_u * u),
        ];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, in real numbers.
    fn exact(yuv: [u8; 3], colorimetry: Colorimetry) -> [f64; 3] {
        let [y, u, v] = yuv.map(f64::from);
        let (red, blue) = if colorimetry.matrix == YuvMatrix::Bt601 { BT601 } else { BT709 };
        let (y, u, v) = match colorimetry.full_range {
            true => (y / 255.0, (u - 128.0) / 255.0, (v - 128.0) / 255.0),
            false => ((y - 16.0) / 219.0, (u - 128.0) / 224.0, (v - 128.0) / 224.0),
        };
        let (r, b) = (y + 2.0 * (1.0 - red) * v, y + 2.0 * (1.0 - blue) * u);
        let g = (y - red * r - blue * b) / (1.0 - red - blue);
        [r, g, b].map(|value| (255.0 * value).clamp(0.0, 255.0))
    }

    #[test]
    fn every_colour_is_within_rounding_of_the_definition() {
        for matrix in [YuvMatrix::Bt601, YuvMatrix::Bt709] {
            for full_range in [false, true] {
                let colorimetry = Colorimetry { matrix, full_range };
                for value in (0..1 << 15u32).map(|value| value * 8 + value % 8) {
                    let yuv = [value as u8, (value >> 6) as u8, (value >> 11) as u8];
                    let mut rgb = [0; 3];
                    yuv_to_rgb(&yuv.map(|value| vec![value]), colorimetry, &mut rgb);
                    for (found, exact) in rgb.iter().zip(exact(yuv, colorimetry)) {
                        assert!((f64::from(*found) - exact).abs() <= 0.52, "{yuv:?}: {rgb:?}, {exact}");
                    }
                }
            }
        }
    }
}
