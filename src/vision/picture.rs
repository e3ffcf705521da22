//! Pictures of what was seen: a thing cut out, the whole picture, and a copy of that with its box and name drawn on.
//!
//! Encoded as JPEG by the image crate, drawn by embedded-graphics. Pure.

use super::{
    preprocess::Preprocessor,
    rect::{Rect, upright_size},
    scene::Paint,
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
use image::codecs::{jpeg::JpegEncoder, png::PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use std::{convert::Infallible, sync::Arc};

/// Around a thing that is cut out, in parts of its size.
const MARGIN: f64 = 0.1;
/// Cut-outs are no larger.
const MOST_CROP: f64 = 640.0;
const YELLOW: Rgb888 = Rgb888::new(255, 210, 0);

/// JPEG files of one moment of a thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pictures {
    /// The thing, cut out.
    pub crop: Vec<u8>,
    /// All that the camera saw; the same for all things of a moment.
    pub frame: Arc<[u8]>,
    /// The same with the thing's box and name drawn on.
    pub annotated: Vec<u8>,
}

/// Takes pictures; keeps its memory for the next one of the same size.
pub struct Painter {
    quality: u8,
    whole: Option<((usize, usize), Preprocessor)>,
}

impl Painter {
    /// With a JPEG quality of 10 to 100.
    pub fn new(quality: u8) -> Painter {
        Painter { quality, whole: None }
    }

    /// All of the picture as a JPEG file.
    ///
    /// Errors ([`ErrorKind::System`]): pixels that cannot be read.
    pub fn whole(&mut self, image: &Image) -> Result<Vec<u8>, Error> {
        let (rgb, size) = self.rgb(image)?;
        self.encode(&rgb, size)
    }

    /// All of the picture as one sees it, packed RGB, and its width and height.
    fn rgb(&mut self, image: &Image) -> Result<(Vec<u8>, (usize, usize)), Error> {
        let (width, height) = upright_size(image);
        let size = (width.round() as usize, height.round() as usize);
        let known = self.whole.take().filter(|(known, _)| *known == size);
        let (_, whole) =
            self.whole.insert(known.unwrap_or_else(|| (size, Preprocessor::new(size.0, size.1))));
        let rgb = whole
            .run(image, &Rect::whole(image))
            .map_err(|e| Error::caused(ErrorKind::System, "the picture cannot be read", e))?;
        Ok((rgb.to_vec(), size))
    }

    fn encode(&self, rgb: &[u8], (width, height): (usize, usize)) -> Result<Vec<u8>, Error> {
        let mut jpeg = Vec::new();
        JpegEncoder::new_with_quality(&mut jpeg, self.quality)
            .encode(rgb, width as u32, height as u32, ExtendedColorType::Rgb8)
            .map_err(|e| Error::caused(ErrorKind::System, "the picture cannot be written as JPEG", e))?;
        Ok(jpeg)
    }
}

impl Paint for Painter {
    /// Errors ([`ErrorKind::System`]): pixels that cannot be read.
    fn paint(&mut self, image: &Image, things: &[(Rect, String)]) -> Result<Vec<Pictures>, Error> {
        let unreadable = |e| Error::caused(ErrorKind::System, "the picture cannot be read", e);
        let (clean, size) = self.rgb(image)?;
        let frame: Arc<[u8]> = self.encode(&clean, size)?.into();
        let mut all = Vec::new();
        for (rect, caption) in things {
            let around = rect.grown(MARGIN).intersection(&Rect::whole(image));
            let scale = (MOST_CROP / around.width.max(around.height)).min(1.0);
            let pixels = |length: f64| (length * scale).round().max(1.0) as usize;
            let extent = (pixels(around.width), pixels(around.height));
            let mut cutter = Preprocessor::new(extent.0, extent.1);
            let crop = self.encode(cutter.run(image, &around).map_err(unreadable)?, extent)?;
            let mut rgb = clean.clone();
            mark(&mut rgb, size, rect, caption, YELLOW);
            let annotated = self.encode(&rgb, size)?;
            all.push(Pictures { crop, frame: frame.clone(), annotated });
        }
        Ok(all)
    }
}

/// Encodes a small grey image as a PNG file.
pub fn grey_png(grey: &[u8], width: usize, height: usize) -> Vec<u8> {
    let mut png = Vec::new();
    PngEncoder::new(&mut png)
        .write_image(grey, width as u32, height as u32, ExtendedColorType::L8)
        .expect("the size fits and memory takes it");
    png
}

/// Draws a box with a caption over it into packed RGB of `size`.
pub fn mark(rgb: &mut [u8], size: (usize, usize), rect: &Rect, caption: &str, colour: Rgb888) {
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

/// Draws the outline of a polygon with a caption at its topmost corner; corners in pixels.
pub fn outline(rgb: &mut [u8], size: (usize, usize), corners: &[(f64, f64)], caption: &str, colour: Rgb888) {
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
    // Above the box, or in it where there is no room.
    let (width, height) = (10 * caption.chars().count() as i32, 20);
    let x = corner.x.clamp(0, (canvas.size.0 as i32 - width).max(0));
    let y = if corner.y >= height { corner.y - height } else { corner.y.max(0) };
    Text::with_baseline(caption, Point::new(x, y), style, Baseline::Top).draw(canvas).map(|_| ())
}

/// Packed RGB that can be drawn on; what lies outside is left out.
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
    fn pictures_show_the_thing_and_where_it_is() {
        let (width, height) = (320, 200);
        let inside = |x: usize, y: usize| (100..160).contains(&x) && (80..120).contains(&y);
        let rgb = (0..width * height)
            .flat_map(|i| if inside(i % width, i / width) { [200, 30, 30] } else { [60, 60, 60] })
            .collect();
        let image = Image::from_rgb(width, height, rgb);
        let rect = Rect { left: 100.0, top: 80.0, width: 60.0, height: 40.0 };
        let thing = (rect, "cat 83 %".to_string());
        let both = Painter::new(90).paint(&image, &[thing.clone(), thing]).unwrap();
        let [pictures, other] = &both[..] else { panic!("one each") };
        assert!(Arc::ptr_eq(&pictures.frame, &other.frame), "the whole frame is encoded once");
        let open = |jpeg: &[u8]| image::load_from_memory(jpeg).unwrap().to_rgb8();
        let crop = open(&pictures.crop);
        assert_eq!(crop.dimensions(), (72, 48), "a tenth around it");
        assert!(crop.get_pixel(36, 24).0[0] > 180 && crop.get_pixel(1, 1).0[0] < 90);
        let (frame, marked) = (open(&pictures.frame), open(&pictures.annotated));
        assert_eq!((frame.dimensions(), marked.dimensions()), ((320, 200), (320, 200)));
        assert!(
            frame.get_pixel(100, 90).0[1] < 90 && marked.get_pixel(100, 90).0[1] > 120,
            "the box's left side"
        );
        assert!(marked.get_pixel(178, 62).0[0] > 200, "the caption's ground");
    }

    #[test]
    fn what_sticks_out_is_cut() {
        let image = Image::from_rgb(40, 30, vec![9; 3600]);
        let rect = Rect { left: -5.0, top: -5.0, width: 100.0, height: 10.0 };
        let thing = (rect, "a very long caption for it".to_string());
        let pictures = Painter::new(80).paint(&image, &[thing]).unwrap();
        assert!(!pictures[0].annotated.is_empty());
    }
}
