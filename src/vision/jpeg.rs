//! The frame header of a JPEG image: what decoding it will take, known before a decoder sees it.

/// What the frame header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Width in pixels.
    pub width: u16,
    /// Height in pixels. 0 if it follows after the first scan.
    pub height: u16,
    /// Number of colour components.
    pub components: u8,
    /// The scans refine the image, so that a decoder keeps all coefficients until the last one.
    pub is_progressive: bool,
}

/// Reads the first frame header. Returns None if `jpeg` has none before its first scan.
pub fn frame_header(jpeg: &[u8]) -> Option<FrameHeader> {
    let mut rest = jpeg.strip_prefix(&[0xff, 0xd8])?;
    loop {
        // A marker may be preceded by fill bytes.
        let at = rest.iter().position(|&byte| byte == 0xff)?;
        let marker_at = at + rest[at..].iter().position(|&byte| byte != 0xff)?;
        let marker = rest[marker_at];
        rest = &rest[marker_at + 1..];
        match marker {
            // Markers without a segment, and a stuffed zero.
            0x00 | 0x01 | 0xd0..=0xd8 => continue,
            // A scan or the end.
            0xd9 | 0xda => return None,
            _ => {}
        }
        let len = usize::from(u16::from_be_bytes(*rest.first_chunk()?));
        let segment = rest.get(2..len.max(2))?;
        // SOF0 to SOF15 without the tables DHT, JPG and DAC.
        if (0xc0..=0xcf).contains(&marker) && ![0xc4, 0xc8, 0xcc].contains(&marker) {
            let &[_, h1, h0, w1, w0, components] = segment.first_chunk::<6>()?;
            return Some(FrameHeader {
                width: u16::from_be_bytes([w1, w0]),
                height: u16::from_be_bytes([h1, h0]),
                components,
                is_progressive: marker & 3 == 2,
            });
        }
        rest = &rest[len.max(2)..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_found_behind_other_segments() {
        let mut jpeg = Vec::new();
        image::codecs::jpeg::JpegEncoder::new(&mut jpeg)
            .encode(&[9; 40 * 30 * 3], 40, 30, image::ExtendedColorType::Rgb8)
            .unwrap();
        let expected = FrameHeader { width: 40, height: 30, components: 3, is_progressive: false };
        assert_eq!(frame_header(&jpeg), Some(expected));
        // A comment that contains a frame header, fill bytes, then a progressive frame.
        let header = [0xff, 0xc2, 0, 17, 8, 0x10, 0, 0x20, 0, 4];
        let comment = [&[0xff, 0xd8, 0xff, 0xfe, 0, 12][..], &header, &[0xff, 0xff]].concat();
        let jpeg = [&comment[..], &header[1..], &[0; 12]].concat();
        let expected = FrameHeader { width: 0x2000, height: 0x1000, components: 4, is_progressive: true };
        assert_eq!(frame_header(&jpeg), Some(expected));
    }

    #[test]
    fn damaged_images_have_no_header() {
        let header = [0xff, 0xd8, 0xff, 0xc0, 0, 17, 8, 0, 9, 0, 9, 3];
        for len in 0..header.len() {
            assert_eq!(frame_header(&header[..len]), None, "{len} bytes");
        }
        for bytes in
            [&[0xff, 0xd8, 0xff, 0xe0, 0, 0][..], &[0xff, 0xd8, 0xff, 0xda, 0, 4], &[0xff; 9], b"GIF89a"]
        {
            assert_eq!(frame_header(bytes), None, "{bytes:?}");
        }
    }
}
