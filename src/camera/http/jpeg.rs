//! Checks that a JPEG image is whole, before a decoder sees it. Pure.
//!
//! A decoder fills the missing part of an image with grey, which would look like motion, and allocates the
//! memory that the image's dimensions demand.

use super::{MAX_IMAGE_BYTES, MAX_PIXELS};

/// Bytes that any image may have.
const MIN_LIMIT: usize = 1 << 20;
/// Bytes per pixel above which no encoder comes, even at the best quality.
const MAX_BYTES_PER_PIXEL: usize = 4;

const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;
/// The last bytes of an image.
pub const END: [u8; 2] = [0xff, EOI];

/// Why an image cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It has no bytes.
    Empty,
    /// It is something else.
    NotJpeg,
    /// It ends before its end marker.
    CutOff,
    /// Its dimensions are zero or too large.
    Size(usize, usize),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::Empty => f.write_str("an image is empty"),
            Fault::NotJpeg => f.write_str("an image is not a JPEG image"),
            Fault::CutOff => f.write_str("an image is cut off"),
            Fault::Size(width, height) => write!(f, "an image has {width} x {height} pixels"),
        }
    }
}

/// Returns the length of the JPEG image at the start of `data`.
///
/// Errors: there is no whole and usable image.
pub fn check(data: &[u8]) -> Result<usize, Fault> {
    if data.is_empty() {
        return Err(Fault::Empty);
    }
    if !data.starts_with(&[0xff, SOI]) {
        return Err(Fault::NotJpeg);
    }
    let (mut at, mut has_size) = (2, false);
    loop {
        let (marker, after) = next_marker(data, at)?;
        match marker {
            EOI if has_size => return Ok(after),
            EOI => return Err(Fault::NotJpeg),
            // Without a segment: TEM and the restart markers.
            0x01 | 0xd0..=0xd7 => at = after,
            _ => {
                let segment = segment(data, after)?;
                if let Some((width, height)) = frame_size(marker, segment) {
                    if width == 0 || height == 0 || width * height > MAX_PIXELS {
                        return Err(Fault::Size(width, height));
                    }
                    has_size = true;
                }
                at = after + 2 + segment.len();
                if marker == SOS {
                    at = end_of_scan(data, at)?;
                }
            }
        }
    }
}

/// The largest number of bytes that an image may have that starts with `start`: by its dimensions, if they
/// are known by then.
pub fn byte_limit(start: &[u8]) -> usize {
    if start.len() <= MIN_LIMIT {
        return MAX_IMAGE_BYTES;
    }
    let by_size = announced_size(&start[..MIN_LIMIT]).map(|(width, height)| {
        MIN_LIMIT.saturating_add(width.saturating_mul(height).saturating_mul(MAX_BYTES_PER_PIXEL))
    });
    by_size.map_or(MAX_IMAGE_BYTES, |limit| limit.min(MAX_IMAGE_BYTES))
}

/// Width and height in the header of an image.
fn announced_size(start: &[u8]) -> Option<(usize, usize)> {
    let mut at = 2;
    loop {
        let (marker, after) = next_marker(start, at).ok()?;
        let segment = segment(start, after).ok()?;
        match frame_size(marker, segment) {
            None if marker == SOS => return None,
            None => at = after + 2 + segment.len(),
            size => return size,
        }
    }
}

/// The marker at `at`, which fill bytes may precede, and the position after it.
fn next_marker(data: &[u8], at: usize) -> Result<(u8, usize), Fault> {
    if *data.get(at).ok_or(Fault::CutOff)? != 0xff {
        return Err(Fault::NotJpeg);
    }
    let fill = data[at..].iter().take_while(|byte| **byte == 0xff).count();
    let marker = *data.get(at + fill).ok_or(Fault::CutOff)?;
    Ok((marker, at + fill + 1))
}

/// The contents of the segment whose length is at `at`.
fn segment(data: &[u8], at: usize) -> Result<&[u8], Fault> {
    let length = data.get(at..at + 2).ok_or(Fault::CutOff)?;
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    if length < 2 {
        return Err(Fault::NotJpeg);
    }
    data.get(at + 2..at + length).ok_or(Fault::CutOff)
}

/// Width and height, if `marker` starts a frame header.
fn frame_size(marker: u8, segment: &[u8]) -> Option<(usize, usize)> {
    let is_frame = matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc);
    let size = segment.get(1..5).filter(|_| is_frame)?;
    let number = |at: usize| usize::from(u16::from_be_bytes([size[at], size[at + 1]]));
    Some((number(2), number(0)))
}

/// The position of the first marker after the compressed data at `at`.
fn end_of_scan(data: &[u8], mut at: usize) -> Result<usize, Fault> {
    loop {
        let next = data[at.min(data.len())..].iter().position(|byte| *byte == 0xff);
        at += next.ok_or(Fault::CutOff)?;
        match data.get(at + 1).ok_or(Fault::CutOff)? {
            // A data byte, a restart marker, or a fill byte.
            0x00 | 0xd0..=0xd7 => at += 2,
            0xff => at += 1,
            _ => return Ok(at),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A JPEG image of 64 x 48 pixels.
    pub fn image() -> Vec<u8> {
        let mut jpeg = Vec::new();
        let pixels: Vec<u8> = (0..64 * 48).map(|i| (i * 7 % 251) as u8).collect();
        image::codecs::jpeg::JpegEncoder::new(&mut jpeg)
            .encode(&pixels, 64, 48, image::ExtendedColorType::L8)
            .unwrap();
        jpeg
    }

    #[test]
    fn only_a_whole_image_is_accepted() {
        let image = image();
        assert_eq!(check(&image), Ok(image.len()));
        let with_more = [&image[..], b"\0\0\r\n--more"].concat();
        assert_eq!(check(&with_more), Ok(image.len()));
        for len in 1..image.len() {
            assert!(check(&image[..len]).is_err(), "{len} of {}", image.len());
        }
        assert_eq!(check(&image[..image.len() / 2]), Err(Fault::CutOff));
        assert_eq!(check(b""), Err(Fault::Empty));
        assert_eq!(check(b"<html>"), Err(Fault::NotJpeg));
        assert_eq!(check(&[0xff, SOI, 0xff, EOI]), Err(Fault::NotJpeg));
    }

    #[test]
    fn dimensions_limit_the_memory_and_the_bytes() {
        let mut giant = image();
        assert_eq!(byte_limit(&giant), MAX_IMAGE_BYTES, "not large enough to matter");
        giant.resize(MIN_LIMIT + 1, 0);
        assert_eq!(byte_limit(&giant), MIN_LIMIT + 4 * 64 * 48);
        let frame = giant.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
        giant[frame + 5..frame + 9].fill(0xff);
        assert_eq!(check(&giant), Err(Fault::Size(65535, 65535)));
        assert_eq!(byte_limit(&giant), MAX_IMAGE_BYTES);
        assert_eq!(byte_limit(&[7; MIN_LIMIT + 1]), MAX_IMAGE_BYTES);
    }
}
