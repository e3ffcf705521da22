//! Preprocessing: from a decoded image to the network's input, by crop, antialiased resize and conversion to
//! RGB.
//!
//! The image, or a region of it, is stretched to the input's size regardless of its aspect ratio (on ImageNet
//! photos, that is more accurate than a centre crop). Each plane is resized separately and converted at the
//! input's size: 51,529 pixels instead of the 921,600 of a 720p frame. Both steps are linear, so their order
//! only affects rounding. Rotation comes last, when the image is small. Only the first field of an interlaced
//! image is read.
//!
//! The crate fast_image_resize resizes (Hamming filter, widened by the scale: the best top-1 accuracy of
//! five filters on 500 photos, see models/README.md), in whole numbers, and [`super::colour`] converts the
//! colours.

use super::{colour::yuv_to_rgb, rect::Rect};
use crate::frame::{Image, PixelFormat, Plane, Rotation};
use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{CroppedImage, Image as Pixels, ImageRef},
};

/// Why an image could not be preprocessed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A plane ends before its last row.
    #[error("plane {plane} has {found} bytes instead of {expected}")]
    ShortPlane {
        /// Index of the plane.
        plane: usize,
        /// Bytes required by stride and rows.
        expected: usize,
        /// Bytes available.
        found: usize,
    },
    /// Width or height is zero.
    #[error("an image of {width} x {height} pixels")]
    Empty {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
    },
    /// The error message of a library.
    #[error("{0}")]
    Library(String),
}

/// Preprocesses images for a network. Reuses its buffers between frames.
pub struct Preprocessor {
    width: usize,
    height: usize,
    resizer: Resizer,
    options: ResizeOptions,
    /// Y, U, V at the input's size.
    planes: [Vec<u8>; 3],
    /// Interleaved chroma at the input's size: the pairs of NV12, the quadruples of YUY2.
    interleaved: Vec<u8>,
    /// Rows without padding, if the padding is not a whole number of pixels.
    packed: Vec<u8>,
    /// The brightness of YUY2 as a plane.
    luma: Vec<u8>,
    rgb: Vec<u8>,
    /// The result before rotation.
    unrotated: Vec<u8>,
}

impl Preprocessor {
    /// Creates a preprocessor for a network with an input of `width` x `height` pixels.
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
            interleaved: vec![0; 4 * len],
            packed: Vec::new(),
            luma: Vec::new(),
            rgb: vec![0; 3 * len],
            unrotated: Vec::new(),
        }
    }

    /// Returns a region of the upright image as the network's input: height x width x 3 bytes of RGB, valid
    /// until the next call. A region that extends beyond the image is cut.
    ///
    /// Errors: an empty image, a plane that is too short, or a failure of a library.
    pub fn run(&mut self, image: &Image, region: &Rect) -> Result<&[u8], Error> {
        let (width, height) = (image.width, image.height);
        if width == 0 || height == 0 {
            return Err(Error::Empty { width, height });
        }
        let region = region.stored(image);
        let sideways = image.view.rotation.is_sideways();
        // A sideways image is resized before it is rotated.
        let to = if sideways { (self.height, self.width) } else { (self.width, self.height) };
        self.resize_all(image, &region, to)?;
        if image.view.rotation != Rotation::None {
            std::mem::swap(&mut self.rgb, &mut self.unrotated);
            self.rgb.resize(self.unrotated.len(), 0);
            rotate(&self.unrotated, to, image.view.rotation, &mut self.rgb);
        }
        Ok(&self.rgb)
    }

    /// Resizes the stored `region` to `to` and converts it to RGB.
    fn resize_all(&mut self, image: &Image, region: &Rect, to: (usize, usize)) -> Result<(), Error> {
        let (width, height) = (image.width, image.height);
        let chroma = (width.div_ceil(2), height.div_ceil(2));
        // Every second row of an interlaced image is read, so one row of the field is two rows of the image.
        let rows = if image.view.interlaced { 0.5 } else { 1.0 };
        let whole = region.scaled(1.0, rows);
        let half = region.scaled(0.5, 0.5 * rows);
        let plane = |index: usize, size: (usize, usize)| SourcePlane::new(image, index, size);
        match image.format {
            PixelFormat::Rgb => {
                let mut rgb = std::mem::take(&mut self.rgb);
                let resized = self.resize(plane(0, (width, height)), PixelType::U8x3, &whole, to, &mut rgb);
                self.rgb = rgb;
                return resized;
            }
            PixelFormat::Gray8 => {
                self.resize_plane(0, plane(0, (width, height)), &whole, to)?;
                self.planes[1].fill(128);
                self.planes[2].fill(128);
            }
            PixelFormat::I420 => {
                self.resize_plane(0, plane(0, (width, height)), &whole, to)?;
                self.resize_plane(1, plane(1, chroma), &half, to)?;
                self.resize_plane(2, plane(2, chroma), &half, to)?;
            }
            PixelFormat::Nv12 => {
                self.resize_plane(0, plane(0, (width, height)), &whole, to)?;
                self.resize_chroma(plane(1, chroma), PixelType::U8x2, [0, 1], &half, to)?;
            }
            PixelFormat::Yuy2 => {
                let pairs = plane(0, (width.div_ceil(2), height));
                pairs.check(PixelType::U8x4)?;
                let mut luma = std::mem::take(&mut self.luma);
                luma.clear();
                for row in 0..pairs.height {
                    let start = row * pairs.plane.stride_bytes;
                    luma.extend(pairs.plane.data[start..start + 2 * width].iter().step_by(2));
                }
                let brightness =
                    SourcePlane { plane: Plane { data: &luma, stride_bytes: width }, width, ..pairs };
                let resized = self.resize_plane(0, brightness, &whole, to);
                self.luma = luma;
                resized?;
                self.resize_chroma(pairs, PixelType::U8x4, [1, 3], &region.scaled(0.5, rows), to)?;
            }
        }
        yuv_to_rgb(&self.planes, image.colorimetry, &mut self.rgb);
        Ok(())
    }

    /// Resizes a plane of one byte per pixel into `self.planes[index]`.
    fn resize_plane(
        &mut self,
        index: usize,
        source: SourcePlane<'_>,
        region: &Rect,
        to: (usize, usize),
    ) -> Result<(), Error> {
        let mut plane = std::mem::take(&mut self.planes[index]);
        let resized = self.resize(source, PixelType::U8, region, to, &mut plane);
        self.planes[index] = plane;
        resized
    }

    /// Resizes interleaved chroma. U and V are at these `offsets` in a pixel of several bytes.
    fn resize_chroma(
        &mut self,
        source: SourcePlane<'_>,
        kind: PixelType,
        offsets: [usize; 2],
        region: &Rect,
        to: (usize, usize),
    ) -> Result<(), Error> {
        let mut pixels = std::mem::take(&mut self.interleaved);
        let resized = self.resize(source, kind, region, to, &mut pixels);
        self.interleaved = pixels;
        resized?;
        let [_, u, v] = &mut self.planes;
        for ((u, v), pixel) in u.iter_mut().zip(v).zip(self.interleaved.chunks_exact(kind.size())) {
            (*u, *v) = (pixel[offsets[0]], pixel[offsets[1]]);
        }
        Ok(())
    }

    /// Resizes `region` of a plane with pixels of type `kind`.
    fn resize(
        &mut self,
        source: SourcePlane<'_>,
        kind: PixelType,
        region: &Rect,
        (to_width, to_height): (usize, usize),
        out: &mut [u8],
    ) -> Result<(), Error> {
        let library = |e: &dyn std::fmt::Display| Error::Library(e.to_string());
        source.check(kind)?;
        let SourcePlane { plane, width, height, .. } = source;
        let row_len = width * kind.size();
        // The library does not support a stride: padding is treated as pixels and cropped away. If the
        // padding is not a whole number of pixels, or the last row lacks it, the rows are packed first.
        let padding_is_pixels =
            plane.stride_bytes.is_multiple_of(kind.size()) && plane.data.len() >= plane.stride_bytes * height;
        let (data, columns) = if padding_is_pixels {
            (plane.data, plane.stride_bytes / kind.size())
        } else {
            pack(plane, row_len, height, &mut self.packed);
            (&self.packed[..], width)
        };
        let source = ImageRef::new(columns as u32, height as u32, data, kind).map_err(|e| library(&e))?;
        // A view in addition to the resizer's crop box, because the filter reads pixels around that box:
        // image pixels around a region may be read, padding must not.
        let source =
            CroppedImage::new(&source, 0, 0, width as u32, height as u32).map_err(|e| library(&e))?;
        let (left, top) = (region.left.min(width as f64 - 1.0), region.top.min(height as f64 - 1.0));
        let (part_width, part_height) =
            (region.width.min(width as f64 - left), region.height.min(height as f64 - top));
        let options = self.options.crop(left, top, part_width, part_height);
        let len = to_width * to_height * kind.size();
        let (to_width, to_height) = (to_width as u32, to_height as u32);
        let mut target =
            Pixels::from_slice_u8(to_width, to_height, &mut out[..len], kind).map_err(|e| library(&e))?;
        self.resizer.resize(&source, &mut target, &options).map_err(|e| library(&e))
    }
}

/// A plane of `width` x `height` pixels to read from.
#[derive(Clone, Copy)]
struct SourcePlane<'a> {
    plane: Plane<'a>,
    index: usize,
    width: usize,
    height: usize,
}

impl<'a> SourcePlane<'a> {
    /// Plane `index` of `image`; only the rows of the first field if it is interlaced.
    fn new(image: &'a Image, index: usize, (width, height): (usize, usize)) -> SourcePlane<'a> {
        let mut plane = image.planes.plane(index);
        if !image.view.interlaced {
            return SourcePlane { plane, index, width, height };
        }
        plane.stride_bytes *= 2;
        SourcePlane { plane, index, width, height: height.div_ceil(2) }
    }

    /// Checks that the plane has enough bytes for pixels of type `kind`.
    fn check(&self, kind: PixelType) -> Result<(), Error> {
        let row_len = self.width * kind.size();
        let expected = self.plane.stride_bytes * (self.height - 1) + row_len;
        if self.plane.stride_bytes < row_len || self.plane.data.len() < expected {
            return Err(Error::ShortPlane { plane: self.index, expected, found: self.plane.data.len() });
        }
        Ok(())
    }
}

/// Rotates RGB of this size clockwise.
fn rotate(from: &[u8], (width, height): (usize, usize), rotation: Rotation, to: &mut [u8]) {
    let to_width = if rotation.is_sideways() { height } else { width };
    for (index, pixel) in from.as_chunks::<3>().0.iter().enumerate() {
        let (x, y) = (index % width, index / width);
        let (x, y) = match rotation {
            Rotation::None => (x, y),
            Rotation::Right => (height - 1 - y, x),
            Rotation::Half => (width - 1 - x, height - 1 - y),
            Rotation::Left => (y, width - 1 - x),
        };
        to[(y * to_width + x) * 3..][..3].copy_from_slice(pixel);
    }
}

/// Copies rows of `row_len` bytes without padding.
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
    use crate::{
        frame::{Colorimetry, OwnedPlanes, View, YuvMatrix},
        vision::rect::upright_size,
    };

    /// The sinc function under a Hamming window, from -1 to 1.
    fn hamming(x: f64) -> f64 {
        let angle = std::f64::consts::PI * x;
        match x {
            0.0 => 1.0,
            _ if x.abs() < 1.0 => angle.sin() / angle * (0.54 + 0.46 * angle.cos()),
            _ => 0.0,
        }
    }

    /// Reference implementation: a Hamming filter as wide as the scale, per channel in f64, on interleaved
    /// pixels. `covered` is the part of the plane within the image: for an odd size, the last chroma pixel is
    /// half outside.
    fn reference_resize(
        source: &[f64],
        (width, height): (usize, usize),
        covered: (f64, f64),
        channels: usize,
        (to_width, to_height): (usize, usize),
    ) -> Vec<f64> {
        let weights = |size: usize, covered: f64, to: usize| -> Vec<Vec<(usize, f64)>> {
            let scale = covered / to as f64;
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
        let (columns, rows) = (weights(width, covered.0, to_width), weights(height, covered.1, to_height));
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

    /// The formulas of the standards in f64.
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

    /// A smooth image with an edge, which shows differences of filter and phase.
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

    /// The plane without its padding, as the reference expects it.
    fn values(data: &[u8], row_len: usize, stride: usize, height: usize) -> Vec<f64> {
        let rows = (0..height).flat_map(|y| &data[y * stride..y * stride + row_len]);
        rows.map(|&byte| f64::from(byte)).collect()
    }

    /// Mean absolute difference of the fast implementation from the reference.
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
            PixelFormat::Yuy2 => vec![(chroma.0 * 4, height)],
        };
        let planes: Vec<(Vec<u8>, usize)> = sizes
            .iter()
            .enumerate()
            .map(|(i, &(w, h))| (plane(w, h, w + padding, 5 * i), w + padding))
            .collect();
        let plain: Vec<Vec<f64>> =
            sizes.iter().zip(&planes).map(|(&(w, h), (data, stride))| values(data, w, *stride, h)).collect();
        let planes = Box::new(OwnedPlanes(planes));
        let image = Image { format, width, height, colorimetry, view: View::PLAIN, planes };
        let mut preprocessor = Preprocessor::new(to.0, to.1);
        let fast = preprocessor.run(&image, &Rect::whole(&image)).unwrap();

        let covered = (width as f64, height as f64);
        let full = |p: &[f64], channels| reference_resize(p, (width, height), covered, channels, to);
        let halves = (covered.0 / 2.0, covered.1 / 2.0);
        let half = |p: &[f64], channels| reference_resize(p, chroma, halves, channels, to);
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
            PixelFormat::Yuy2 => {
                let row = chroma.0 * 4;
                let brightness: Vec<f64> = plain[0]
                    .chunks(row)
                    .flat_map(|row| row[..2 * width].iter().copied().step_by(2))
                    .collect();
                let y = full(&brightness, 1);
                let quadruples =
                    reference_resize(&plain[0], (chroma.0, height), (halves.0, covered.1), 4, to);
                let rgb =
                    |i: usize| reference_rgb(y[i], quadruples[4 * i + 1], quadruples[4 * i + 3], colorimetry);
                (0..y.len()).flat_map(rgb).collect()
            }
        };
        assert_eq!(fast.len(), slow.len());
        let sum: f64 = fast.iter().zip(&slow).map(|(&f, s)| (f64::from(f) - s).abs()).sum();
        sum / slow.len() as f64
    }

    #[test]
    fn every_format_size_and_colorimetry_is_within_one_step_of_the_reference() {
        use PixelFormat::{Gray8, I420, Nv12, Rgb, Yuy2};
        for format in [I420, Nv12, Yuy2, Gray8, Rgb] {
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
    fn an_image_of_the_input_size_is_unchanged() {
        let rgb: Vec<u8> = (0..7 * 5 * 3).map(|i| (i * 37 % 256) as u8).collect();
        let mut preprocessor = Preprocessor::new(7, 5);
        let image = Image::from_rgb(7, 5, rgb.clone());
        assert_eq!(preprocessor.run(&image, &Rect::whole(&image)).unwrap(), rgb);
    }

    #[test]
    fn a_plane_that_is_too_short_is_an_error() {
        let image = Image {
            planes: Box::new(OwnedPlanes(vec![(vec![0; 100], 30)])),
            ..Image::from_rgb(10, 4, vec![0; 120])
        };
        let error = Preprocessor::new(2, 2).run(&image, &Rect::whole(&image)).unwrap_err();
        assert_eq!(error.to_string(), "plane 0 has 100 bytes instead of 120");
    }

    /// An RGB image of `width` x `height` different pixels.
    fn numbered(width: usize, height: usize) -> Image {
        let rgb =
            (0..height).flat_map(|y| (0..width).flat_map(move |x| [x as u8 * 9, y as u8 * 11, 7])).collect();
        Image::from_rgb(width, height, rgb)
    }

    #[test]
    fn a_region_is_cropped() {
        let image = numbered(20, 16);
        let mut preprocessor = Preprocessor::new(6, 5);
        let region = Rect { left: 4.0, top: 3.0, width: 6.0, height: 5.0 };
        let part = preprocessor.run(&image, &region).unwrap();
        let expected: Vec<u8> = (3..8).flat_map(|y| (4..10).flat_map(move |x| [x * 9, y * 11, 7])).collect();
        assert_eq!(part, expected);
        // A region that extends beyond the image is cut.
        let inside = Rect { left: 14.0, top: 11.0, ..region };
        let inside = preprocessor.run(&image, &inside).unwrap().to_vec();
        let beyond = Rect { left: 14.0, top: 11.0, width: 60.0, height: 50.0 };
        assert_eq!(preprocessor.run(&image, &beyond).unwrap(), inside);
        for nonsense in [f64::NEG_INFINITY, -5.0, 1e9] {
            let region = Rect { left: nonsense, top: nonsense, width: 0.0, height: 1e-9 };
            assert!(preprocessor.run(&image, &region).is_ok(), "{nonsense}");
        }
    }

    #[test]
    fn a_rotated_image_becomes_upright() {
        for (rotation, width, height) in
            [(Rotation::None, 6, 4), (Rotation::Right, 4, 6), (Rotation::Half, 6, 4), (Rotation::Left, 4, 6)]
        {
            let mut image = numbered(6, 4);
            image.view.rotation = rotation;
            assert_eq!(upright_size(&image), (width as f64, height as f64));
            let mut preprocessor = Preprocessor::new(width, height);
            let upright = preprocessor.run(&image, &Rect::whole(&image)).unwrap().to_vec();
            // The position of the stored image's first pixel in the upright image.
            let corner = match rotation {
                Rotation::None => 0,
                Rotation::Right => width - 1,
                Rotation::Half => width * height - 1,
                Rotation::Left => width * (height - 1),
            };
            assert_eq!(upright[3 * corner..][..3], [0, 0, 7], "{rotation:?}");
            // Regions refer to the upright image.
            let mut preprocessor = Preprocessor::new(2, 3);
            let region = Rect { left: 1.0, top: 0.0, width: 2.0, height: 3.0 };
            let part = preprocessor.run(&image, &region).unwrap();
            let expected: Vec<u8> = (0..3)
                .flat_map(|y| upright[3 * (y * width + 1)..3 * (y * width + 3)].iter().copied())
                .collect();
            assert_eq!(part, expected, "{rotation:?}");
        }
    }

    #[test]
    fn regions_are_in_square_pixels() {
        let mut image = numbered(10, 8);
        image.view.pixel_aspect = 2.0;
        assert_eq!(upright_size(&image), (20.0, 8.0));
        let region = Rect { left: 4.0, top: 2.0, width: 6.0, height: 3.0 };
        let mut preprocessor = Preprocessor::new(3, 3);
        let expected: Vec<u8> = (2..5).flat_map(|y| (2..5).flat_map(move |x| [x * 9, y * 11, 7])).collect();
        assert_eq!(preprocessor.run(&image, &region).unwrap(), expected);
    }

    #[test]
    fn only_the_first_field_of_an_interlaced_image_is_read() {
        for format in [PixelFormat::Gray8, PixelFormat::I420, PixelFormat::Nv12, PixelFormat::Yuy2] {
            // The second field is white.
            let rows = |height: usize| -> Vec<u8> {
                (0..height).flat_map(|y| [if y % 2 == 0 { 128 } else { 255 }; 16]).collect()
            };
            let chroma = (rows(4), 16);
            let image = Image {
                format,
                width: 8,
                height: 8,
                colorimetry: Colorimetry { matrix: YuvMatrix::Bt601, full_range: true },
                view: View { interlaced: true, ..View::PLAIN },
                planes: Box::new(OwnedPlanes(vec![(rows(8), 16), chroma.clone(), chroma])),
            };
            let mut preprocessor = Preprocessor::new(4, 4);
            let rgb = preprocessor.run(&image, &Rect::whole(&image)).unwrap();
            assert!(rgb.iter().all(|&byte| byte == 128), "{format:?}: {rgb:?}");
        }
    }
}
