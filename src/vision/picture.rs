//! Event pictures: the crop of an object, the whole frame, and the frame with the object's box and label
//! drawn on it.
//!
//! jpeg-encoder encodes JPEG, in a quarter of the time that the image crate takes, and embedded-graphics
//! draws. No I/O.

use super::{
    preprocess::Preprocessor,
    rect::{Rect, upright_size},
};
use crate::{
    error::{Error, ErrorKind},
    frame::Image,
};
use embedded_graphics::{
    mono_font::{MonoTextStyleBuilder, iso_8859_1::FONT_10X20},
    pixelcolor::Rgb888,
    prelude::*,
    primitives::{PrimitiveStyle, Rectangle},
    text::{Baseline, Text},
};
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use std::{convert::Infallible, sync::Arc};

/// Margin of a crop on each side, as a fraction of the object's size.
const CROP_MARGIN: f64 = 0.1;
/// Maximum width and height of a crop, in pixels; larger ones are scaled down.
const MAX_CROP_SIZE: f64 = 640.0;
const YELLOW: Rgb888 = Rgb888::new(255, 210, 0);

/// The JPEG pictures of an object in one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pictures {
    /// The object alone.
    pub crop: Vec<u8>,
    /// The whole frame; shared by all objects of the frame.
    pub frame: Arc<[u8]>,
    /// The whole frame with the object's box and caption drawn on it.
    pub annotated: Vec<u8>,
}

/// Makes pictures. Reuses its buffers for frames of the same size.
pub struct Painter {
    quality: u8,
    /// The preprocessor of the last frame's size.
    preprocessor: Option<((usize, usize), Preprocessor)>,
}

impl Painter {
    /// Creates a painter with a JPEG quality of 10 to 100.
    pub fn new(quality: u8) -> Painter {
        Painter { quality, preprocessor: None }
    }

    /// Encodes the whole upright image as JPEG.
    ///
    /// Errors ([`ErrorKind::System`]): pixels that cannot be read.
    pub fn frame_jpeg(&mut self, image: &Image) -> Result<Vec<u8>, Error> {
        let (rgb, size) = self.rgb(image)?;
        self.encode(&rgb, size)
    }

    /// A JPEG that takes the place of a picture that there is not yet.
    ///
    /// Errors ([`ErrorKind::System`]): none are expected.
    pub fn placeholder(&self) -> Result<Vec<u8>, Error> {
        const SIZE: (usize, usize) = (320, 180);
        let mut rgb = vec![0x60; 3 * SIZE.0 * SIZE.1];
        let mut canvas = Canvas { rgb: &mut rgb, size: SIZE };
        let Ok(()) = draw_caption(&mut canvas, Point::new(85, 100), "no picture yet", YELLOW);
        self.encode(&rgb, SIZE)
    }

    /// Returns the upright image as packed RGB, and its width and height.
    fn rgb(&mut self, image: &Image) -> Result<(Vec<u8>, (usize, usize)), Error> {
        let (width, height) = upright_size(image);
        let size = (width.round() as usize, height.round() as usize);
        let reusable = self.preprocessor.take().filter(|(reusable, _)| *reusable == size);
        let (_, preprocessor) =
            self.preprocessor.insert(reusable.unwrap_or_else(|| (size, Preprocessor::new(size.0, size.1))));
        let rgb = preprocessor
            .run(image, &Rect::whole(image))
            .map_err(|e| Error::caused(ErrorKind::System, "the image cannot be read", e))?;
        Ok((rgb.to_vec(), size))
    }

    fn encode(&self, rgb: &[u8], size: (usize, usize)) -> Result<Vec<u8>, Error> {
        rgb_jpeg(rgb, size, self.quality)
    }
}

/// Encodes packed RGB of a width and height in pixels as JPEG, with a quality of 1 to 100. Colours have half
/// the resolution, as in cameras' video.
///
/// Errors ([`ErrorKind::System`]): more than 65,535 pixels in a row or column.
pub fn rgb_jpeg(rgb: &[u8], (width, height): (usize, usize), quality: u8) -> Result<Vec<u8>, Error> {
    const FAILED: &str = "the image cannot be encoded as JPEG";
    let side = |pixels: usize| u16::try_from(pixels).map_err(|e| Error::caused(ErrorKind::System, FAILED, e));
    let mut jpeg = Vec::new();
    let mut encoder = Encoder::new(&mut jpeg, quality);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder
        .encode(rgb, side(width)?, side(height)?, ColorType::Rgb)
        .map_err(|e| Error::caused(ErrorKind::System, FAILED, e))?;
    Ok(jpeg)
}

/// Encodes pictures of objects as JPEG.
pub trait Paint {
    /// Returns the pictures of each object. The string is the object's caption.
    ///
    /// Errors: the pixels cannot be read.
    fn paint(&mut self, image: &Image, objects: &[(Rect, String)]) -> Result<Vec<Pictures>, Error>;
}

impl Paint for Painter {
    /// Errors ([`ErrorKind::System`]): pixels that cannot be read.
    fn paint(&mut self, image: &Image, objects: &[(Rect, String)]) -> Result<Vec<Pictures>, Error> {
        let unreadable = |e| Error::caused(ErrorKind::System, "the image cannot be read", e);
        let (clean, size) = self.rgb(image)?;
        let frame: Arc<[u8]> = self.encode(&clean, size)?.into();
        let mut all = Vec::new();
        for (rect, caption) in objects {
            let around = rect.expanded(CROP_MARGIN).intersection(&Rect::whole(image));
            let scale = (MAX_CROP_SIZE / around.width.max(around.height)).min(1.0);
            let pixels = |length: f64| (length * scale).round().max(1.0) as usize;
            let extent = (pixels(around.width), pixels(around.height));
            let mut cropper = Preprocessor::new(extent.0, extent.1);
            let crop = self.encode(cropper.run(image, &around).map_err(unreadable)?, extent)?;
            let mut rgb = clean.clone();
            draw_box(&mut rgb, size, rect, caption, YELLOW);
            let annotated = self.encode(&rgb, size)?;
            all.push(Pictures { crop, frame: frame.clone(), annotated });
        }
        Ok(all)
    }
}

/// Encodes a small greyscale image as PNG.
pub fn grey_png(grey: &[u8], width: usize, height: usize) -> Vec<u8> {
    let mut png = Vec::new();
    PngEncoder::new(&mut png)
        .write_image(grey, width as u32, height as u32, ExtendedColorType::L8)
        .expect("the data has this size and writing to memory cannot fail");
    png
}

/// Draws a box with a caption above it on packed RGB of `size`.
pub fn draw_box(rgb: &mut [u8], size: (usize, usize), rect: &Rect, caption: &str, colour: Rgb888) {
    let mut canvas = Canvas { rgb, size };
    let stroke = (size.0.max(size.1) / 400).max(2) as u32;
    let corner = Point::new(rect.left.round() as i32, rect.top.round() as i32);
    let extent = Size::new(rect.width.round().max(1.0) as u32, rect.height.round().max(1.0) as u32);
    let (Ok(()), Ok(())) = (
        Rectangle::new(corner, extent)
            .into_styled(PrimitiveStyle::with_stroke(colour, stroke))
            .draw(&mut canvas),
        draw_caption(&mut canvas, corner, caption, colour),
    );
}

/// Draws the outline of a polygon with a caption at its topmost corner. Corners are in pixels.
pub fn draw_polygon(
    rgb: &mut [u8],
    size: (usize, usize),
    corners: &[(f64, f64)],
    caption: &str,
    colour: Rgb888,
) {
    use embedded_graphics::primitives::Line;
    let point = |(x, y): &(f64, f64)| Point::new(x.round() as i32, y.round() as i32);
    let mut canvas = Canvas { rgb, size };
    for (from, to) in corners.iter().zip(corners.iter().cycle().skip(1)) {
        let line = Line::new(point(from), point(to)).into_styled(PrimitiveStyle::with_stroke(colour, 2));
        let Ok(()) = line.draw(&mut canvas);
    }
    let topmost = corners.iter().min_by(|a, b| a.1.total_cmp(&b.1).then(a.0.total_cmp(&b.0)));
    if let Some(corner) = topmost {
        let Ok(()) = draw_caption(&mut canvas, point(corner), caption, colour);
    }
}

fn draw_caption(
    canvas: &mut Canvas<'_>,
    corner: Point,
    caption: &str,
    colour: Rgb888,
) -> Result<(), Infallible> {
    let style = MonoTextStyleBuilder::new()
        .font(&FONT_10X20)
        .text_color(Rgb888::BLACK)
        .background_color(colour)
        .build();
    // Above the box, or inside it if there is no space above.
    let (width, height) = (10 * caption.chars().count() as i32, 20);
    let x = corner.x.clamp(0, (canvas.size.0 as i32 - width).max(0));
    let y = if corner.y >= height { corner.y - height } else { corner.y.max(0) };
    Text::with_baseline(caption, Point::new(x, y), style, Baseline::Top).draw(canvas).map(|_| ())
}

/// Packed RGB to draw on. Pixels outside are ignored.
struct Canvas<'a> {
    rgb: &'a mut [u8],
    size: (usize, usize),
}

impl OriginDimensions for Canvas<'_> {
    fn size(&self) -> Size {
        Size::new(self.size.0 as u32, self.size.1 as u32)
    }
}

impl DrawTarget for Canvas<'_> {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        for Pixel(point, colour) in pixels {
            let (Ok(x), Ok(y)) = (usize::try_from(point.x), usize::try_from(point.y)) else { continue };
            if x < self.size.0 && y < self.size.1 {
                let at = 3 * (y * self.size.0 + x);
                self.rgb[at..at + 3].copy_from_slice(&[colour.r(), colour.g(), colour.b()]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_show_the_object_and_its_box() {
        let (width, height) = (320, 200);
        let inside = |x: usize, y: usize| (100..160).contains(&x) && (80..120).contains(&y);
        let rgb = (0..width * height)
            .flat_map(|i| if inside(i % width, i / width) { [200, 30, 30] } else { [60, 60, 60] })
            .collect();
        let image = Image::from_rgb(width, height, rgb);
        let rect = Rect { left: 100.0, top: 80.0, width: 60.0, height: 40.0 };
        let object = (rect, "cat 83 %".to_string());
        let both = Painter::new(90).paint(&image, &[object.clone(), object]).unwrap();
        let [pictures, other] = &both[..] else { panic!("one set per object") };
        assert!(Arc::ptr_eq(&pictures.frame, &other.frame), "the whole frame is encoded once");
        let open = |jpeg: &[u8]| image::load_from_memory(jpeg).unwrap().to_rgb8();
        let crop = open(&pictures.crop);
        assert_eq!(crop.dimensions(), (72, 48), "a margin of a tenth");
        assert!(crop.get_pixel(36, 24).0[0] > 180 && crop.get_pixel(1, 1).0[0] < 90);
        let (frame, annotated) = (open(&pictures.frame), open(&pictures.annotated));
        assert_eq!((frame.dimensions(), annotated.dimensions()), ((320, 200), (320, 200)));
        assert!(
            frame.get_pixel(100, 90).0[1] < 90 && annotated.get_pixel(100, 90).0[1] > 120,
            "the box's left side"
        );
        assert!(annotated.get_pixel(178, 62).0[0] > 200, "the caption's background");
    }

    #[test]
    fn a_box_beyond_the_frame_is_cut() {
        let image = Image::from_rgb(40, 30, vec![9; 3600]);
        let rect = Rect { left: -5.0, top: -5.0, width: 100.0, height: 10.0 };
        let object = (rect, "a very long caption for it".to_string());
        let pictures = Painter::new(80).paint(&image, &[object]).unwrap();
        assert!(!pictures[0].annotated.is_empty());
    }
}
