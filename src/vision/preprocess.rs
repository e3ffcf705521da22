//! From a decoder's picture to the network's input: antialiased resize and conversion to RGB, in that order.
//!
//! The whole picture is stretched to the input, whatever its shape (on ImageNet photos that beats a centre crop). Each
//! plane is resized on its own straight to the input's size and converted there: 51,529 pixels instead of 921,600 of
//! a 720p frame. Both steps are linear, so the order changes nothing but rounding.
//!
//! Resizing is fast_image_resize (Hamming filter, widened by the scale: of five filters the one with the best top-1 on
//! 500 photos, see models/README.md), the colour matrix is yuv: both SIMD.

use crate::frame::{Colorimetry, Image, PixelFormat, Plane, YuvMatrix};
use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{CroppedImage, Image as Pixels, ImageRef},
};
use yuv::{YuvPlanarImage, YuvRange, YuvStandardMatrix};

/// Why a picture could not be brought to the input's form.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A plane ends before its last row.
    #[error("plane {plane} has {found} bytes instead of {expected}")]
    ShortPlane {
        /// Which one.
        plane: usize,
        /// Stride and rows ask for so many.
        expected: usize,
        /// So many there are.
        found: usize,
    },
    /// Width or height is zero.
    #[error("a picture of {width} x {height} pixels")]
    Empty {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
    },
    /// A library refused; its words.
    #[error("{0}")]
    Library(String),
}

/// Prepares pictures for a network; keeps its memory between frames.
pub struct Preprocessor {
    width: usize,
    height: usize,
    resizer: Resizer,
    options: ResizeOptions,
    /// Y, U, V at the input's size.
    planes: [Vec<u8>; 3],
    /// NV12's chroma at the input's size, interleaved.
    interleaved: Vec<u8>,
    /// Rows without padding, where the padding is no whole number of pixels.
    packed: Vec<u8>,
    rgb: Vec<u8>,
}

impl Preprocessor {
    /// For a network whose input is `width` x `height`.
    pub fn new(width: usize, height: usize) -> Preprocessor {
        let len = width * height;
        Preprocessor {
            width,
            height,
            resizer: Resizer::new(),
            options: ResizeOptions::new()
                .resize_alg(ResizeAlg::Convolution(FilterType::Hamming))
                .use_alpha(false),
            planes: std::array::from_fn(|_| vec![0; len]),
            interleaved: vec![0; 2 * len],
            packed: Vec::new(),
            rgb: vec![0; 3 * len],
        }
    }

    /// The picture as the network's input: height x width x 3 bytes of RGB, valid until the next run.
    pub fn run(&mut self, image: &Image) -> Result<&[u8], Error> {
        let (width, height) = (image.width, image.height);
        if width == 0 || height == 0 {
            return Err(Error::Empty { width, height });
        }
        let chroma = (width.div_ceil(2), height.div_ceil(2));
        match image.format {
            PixelFormat::Rgb => {
                let mut rgb = std::mem::take(&mut self.rgb);
                let resized = self.resize(image, 0, (width, height), PixelType::U8x3, &mut rgb);
                self.rgb = rgb;
                resized?;
            }
            PixelFormat::Gray8 => {
                self.resize_plane(image, 0, (width, height))?;
                self.planes[1].fill(128);
                self.planes[2].fill(128);
                self.convert(image.colorimetry)?;
            }
            PixelFormat::I420 => {
                self.resize_plane(image, 0, (width, height))?;
                self.resize_plane(image, 1, chroma)?;
                self.resize_plane(image, 2, chroma)?;
                self.convert(image.colorimetry)?;
            }
            PixelFormat::Nv12 => {
                self.resize_plane(image, 0, (width, height))?;
                let mut pairs = std::mem::take(&mut self.interleaved);
                let resized = self.resize(image, 1, chroma, PixelType::U8x2, &mut pairs);
                self.interleaved = pairs;
                resized?;
                let [_, u, v] = &mut self.planes;
                for ((u, v), pair) in u.iter_mut().zip(v).zip(self.interleaved.chunks_exact(2)) {
                    (*u, *v) = (pair[0], pair[1]);
                }
                self.convert(image.colorimetry)?;
            }
        }
        Ok(&self.rgb)
    }

    /// Plane `index` of one byte a pixel into the plane of the same index here.
    fn resize_plane(&mut self, image: &Image, index: usize, size: (usize, usize)) -> Result<(), Error> {
        let mut plane = std::mem::take(&mut self.planes[index]);
        let resized = self.resize(image, index, size, PixelType::U8, &mut plane);
        self.planes[index] = plane;
        resized
    }

    /// Plane `index`, `size` pixels of `kind`, resized to the input's size.
    fn resize(
        &mut self,
        image: &Image,
        index: usize,
        (width, height): (usize, usize),
        kind: PixelType,
        out: &mut [u8],
    ) -> Result<(), Error> {
        let library = |e: &dyn std::fmt::Display| Error::Library(e.to_string());
        let plane = image.planes.plane(index);
        let row_len = width * kind.size();
        let expected = plane.stride_bytes * (height - 1) + row_len;
        if plane.stride_bytes < row_len || plane.data.len() < expected {
            return Err(Error::ShortPlane { plane: index, expected, found: plane.data.len() });
        }
        // The library knows no stride: padding is taken as pixels and cropped away. Where the padding is no whole
        // pixel, or the last row ends without its padding, the rows are packed first.
        let whole =
            plane.stride_bytes.is_multiple_of(kind.size()) && plane.data.len() >= plane.stride_bytes * height;
        let (data, columns) = if whole {
            (plane.data, plane.stride_bytes / kind.size())
        } else {
            pack(plane, row_len, height, &mut self.packed);
            (&self.packed[..], width)
        };
        let source = ImageRef::new(columns as u32, height as u32, data, kind).map_err(|e| library(&e))?;
        // A view and not the resizer's crop box, whose filter still reaches the pixels outside it.
        let source =
            CroppedImage::new(&source, 0, 0, width as u32, height as u32).map_err(|e| library(&e))?;
        let (to_width, to_height) = (self.width as u32, self.height as u32);
        let mut target = Pixels::from_slice_u8(to_width, to_height, out, kind).map_err(|e| library(&e))?;
        self.resizer.resize(&source, &mut target, &self.options).map_err(|e| library(&e))
    }

    /// Planes of one size to RGB.
    fn convert(&mut self, colorimetry: Colorimetry) -> Result<(), Error> {
        let stride = self.width as u32;
        let [y, u, v] = &self.planes;
        let planar = YuvPlanarImage {
            y_plane: y,
            y_stride: stride,
            u_plane: u,
            u_stride: stride,
            v_plane: v,
            v_stride: stride,
            width: stride,
            height: self.height as u32,
        };
        let range = if colorimetry.full_range { YuvRange::Full } else { YuvRange::Limited };
        let matrix = match colorimetry.matrix {
            YuvMatrix::Bt601 => YuvStandardMatrix::Bt601,
            YuvMatrix::Bt709 => YuvStandardMatrix::Bt709,
        };
        yuv::yuv444_to_rgb(&planar, &mut self.rgb, stride * 3, range, matrix)
            .map_err(|e| Error::Library(e.to_string()))
    }
}

/// Rows of `row_len` bytes, one right after the other.
fn pack(plane: Plane<'_>, row_len: usize, rows: usize, out: &mut Vec<u8>) {
    out.clear();
    for row in 0..rows {
        let start = row * plane.stride_bytes;
        out.extend_from_slice(&plane.data[start..start + row_len]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::OwnedPlanes;

    /// sinc under a Hamming window, from -1 to 1.
    fn hamming(x: f64) -> f64 {
        let angle = std::f64::consts::PI * x;
        match x {
            0.0 => 1.0,
            _ if x.abs() < 1.0 => angle.sin() / angle * (0.54 + 0.46 * angle.cos()),
            _ => 0.0,
        }
    }

    /// Slow and plain: a Hamming filter as wide as the scale, per channel in f64, on interleaved pixels.
    fn reference_resize(
        source: &[f64],
        (width, height): (usize, usize),
        channels: usize,
        (to_width, to_height): (usize, usize),
    ) -> Vec<f64> {
        let weights = |size: usize, to: usize| -> Vec<Vec<(usize, f64)>> {
            let scale = size as f64 / to as f64;
            let reach = scale.max(1.0);
            (0..to)
                .map(|i| {
                    let centre = (i as f64 + 0.5) * scale;
                    let near = |x: &usize| {
                        let weight = hamming(((*x as f64 + 0.5) - centre) / reach);
                        (weight != 0.0).then_some((*x, weight))
                    };
                    let taps: Vec<(usize, f64)> = (0..size).filter_map(|x| near(&x)).collect();
                    let sum: f64 = taps.iter().map(|tap| tap.1).sum();
                    taps.into_iter().map(|(x, w)| (x, w / sum)).collect()
                })
                .collect()
        };
        let (columns, rows) = (weights(width, to_width), weights(height, to_height));
        let mut out = Vec::new();
        for row in &rows {
            for column in &columns {
                for channel in 0..channels {
                    let mut sum = 0.0;
                    for (y, wy) in row {
                        for (x, wx) in column {
                            sum += wy * wx * source[(y * width + x) * channels + channel];
                        }
                    }
                    out.push(sum);
                }
            }
        }
        out
    }

    /// The standards' formulas in f64.
    fn reference_rgb(y: f64, u: f64, v: f64, colorimetry: Colorimetry) -> [f64; 3] {
        let (kr, kb) = match colorimetry.matrix {
            YuvMatrix::Bt601 => (0.299, 0.114),
            YuvMatrix::Bt709 => (0.2126, 0.0722),
        };
        let (luma, chroma) =
            if colorimetry.full_range { (y, 1.0) } else { ((y - 16.0) * 255.0 / 219.0, 255.0 / 224.0) };
        let (u, v) = ((u - 128.0) * chroma, (v - 128.0) * chroma);
        let (r, b) = (luma + 2.0 * (1.0 - kr) * v, luma + 2.0 * (1.0 - kb) * u);
        let g = (luma - kr * r - kb * b) / (1.0 - kr - kb);
        [r, g, b].map(|c| c.clamp(0.0, 255.0))
    }

    /// A smooth picture with an edge, so that filters and phases show.
    fn plane(width: usize, height: usize, stride: usize, phase: usize) -> Vec<u8> {
        let mut data = vec![255; stride * height];
        for y in 0..height {
            for x in 0..width {
                let wave = 90.0 + 60.0 * ((x + phase) as f64 / 9.0).sin() * (y as f64 / 7.0).cos();
                let edge = if x * 3 > width * 2 { 40.0 } else { 0.0 };
                data[y * stride + x] = (wave + edge) as u8;
            }
        }
        data
    }

    /// The plane without its padding, as the reference wants it.
    fn values(data: &[u8], row_len: usize, stride: usize, height: usize) -> Vec<f64> {
        let rows = (0..height).flat_map(|y| &data[y * stride..y * stride + row_len]);
        rows.map(|&byte| f64::from(byte)).collect()
    }

    /// Mean absolute difference of the fast way to the reference.
    fn mean_error(
        format: PixelFormat,
        (width, height): (usize, usize),
        padding: usize,
        colorimetry: Colorimetry,
    ) -> f64 {
        let to = (31, 29);
        let chroma = (width.div_ceil(2), height.div_ceil(2));
        let sizes = match format {
            PixelFormat::Rgb => vec![(width * 3, height)],
            PixelFormat::Gray8 => vec![(width, height)],
            PixelFormat::I420 => vec![(width, height), chroma, chroma],
            PixelFormat::Nv12 => vec![(width, height), (chroma.0 * 2, chroma.1)],
        };
        let planes: Vec<(Vec<u8>, usize)> = sizes
            .iter()
            .enumerate()
            .map(|(i, &(w, h))| (plane(w, h, w + padding, 5 * i), w + padding))
            .collect();
        let plain: Vec<Vec<f64>> =
            sizes.iter().zip(&planes).map(|(&(w, h), (data, stride))| values(data, w, *stride, h)).collect();
        let image = Image { format, width, height, colorimetry, planes: Box::new(OwnedPlanes(planes)) };
        let mut preprocessor = Preprocessor::new(to.0, to.1);
        let fast = preprocessor.run(&image).unwrap();

        let full = |p: &[f64], channels| reference_resize(p, (width, height), channels, to);
        let half = |p: &[f64], channels| reference_resize(p, chroma, channels, to);
        let slow: Vec<f64> = match format {
            PixelFormat::Rgb => full(&plain[0], 3),
            PixelFormat::Gray8 => {
                full(&plain[0], 1).iter().flat_map(|&y| reference_rgb(y, 128.0, 128.0, colorimetry)).collect()
            }
            PixelFormat::I420 => {
                let (y, u, v) = (full(&plain[0], 1), half(&plain[1], 1), half(&plain[2], 1));
                (0..y.len()).flat_map(|i| reference_rgb(y[i], u[i], v[i], colorimetry)).collect()
            }
            PixelFormat::Nv12 => {
                let (y, uv) = (full(&plain[0], 1), half(&plain[1], 2));
                (0..y.len())
                    .flat_map(|i| reference_rgb(y[i], uv[2 * i], uv[2 * i + 1], colorimetry))
                    .collect()
            }
        };
        assert_eq!(fast.len(), slow.len());
        let sum: f64 = fast.iter().zip(&slow).map(|(&f, s)| (f64::from(f) - s).abs()).sum();
        sum / slow.len() as f64
    }

    #[test]
    fn every_format_size_and_colorimetry_is_within_one_step_of_the_reference() {
        use PixelFormat::{Gray8, I420, Nv12, Rgb};
        for format in [I420, Nv12, Gray8, Rgb] {
            for size in [(64, 48), (63, 47), (131, 77), (20, 17), (31, 29)] {
                for padding in [0, 1, 4, 13] {
                    for matrix in [YuvMatrix::Bt601, YuvMatrix::Bt709] {
                        for full_range in [false, true] {
                            let colorimetry = Colorimetry { matrix, full_range };
                            let error = mean_error(format, size, padding, colorimetry);
                            assert!(
                                error < 1.0,
                                "{format:?} {size:?} padding {padding} {colorimetry:?}: {error}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn an_image_of_the_input_size_passes_unchanged() {
        let rgb: Vec<u8> = (0..7 * 5 * 3).map(|i| (i * 37 % 256) as u8).collect();
        let mut preprocessor = Preprocessor::new(7, 5);
        assert_eq!(preprocessor.run(&Image::from_rgb(7, 5, rgb.clone())).unwrap(), rgb);
    }

    #[test]
    fn a_plane_that_is_too_short_is_an_error() {
        let image = Image {
            planes: Box::new(OwnedPlanes(vec![(vec![0; 100], 30)])),
            ..Image::from_rgb(10, 4, vec![0; 120])
        };
        let error = Preprocessor::new(2, 2).run(&image).unwrap_err();
        assert_eq!(error.to_string(), "plane 0 has 100 bytes instead of 120");
    }
}
