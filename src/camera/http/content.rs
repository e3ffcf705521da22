//! The kinds of content that cameras send over HTTP, and how to tell which one an answer is. Pure.

use serde::Deserialize;

/// Bytes of an answer that [`Content::detect`] needs, if it has that many.
pub const DETECT_BYTES: usize = 2 * TS_PACKET;
/// Size of an MPEG transport stream packet.
const TS_PACKET: usize = 188;

/// What an HTTP camera sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    /// An endless multipart answer with a JPEG image in each part.
    Mjpeg,
    /// One JPEG image per answer.
    Still,
    /// A video stream in one answer: FLV, MPEG-TS, fragmented MP4 and others.
    Stream,
    /// An HLS playlist.
    Hls,
}

impl Content {
    /// What an answer is, by the start of its body, or else by the media type that it announces. Returns None
    /// if neither says.
    ///
    /// The body counts first, because many cameras announce `application/octet-stream` or worse.
    pub fn detect(media_type: &str, start: &[u8]) -> Option<Content> {
        let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
        if media_type.starts_with("multipart/") {
            return Some(Content::Mjpeg);
        }
        if text.starts_with(b"#EXTM3U") {
            return Some(Content::Hls);
        }
        if start.starts_with(&[0xff, 0xd8, 0xff]) {
            return Some(Content::Still);
        }
        if is_stream(start) {
            return Some(Content::Stream);
        }
        if text.starts_with(b"--") && text.windows(12).any(|word| word.eq_ignore_ascii_case(b"content-type"))
        {
            return Some(Content::Mjpeg);
        }
        match media_type.as_str() {
            "image/jpeg" | "image/jpg" | "image/pjpeg" => Some(Content::Still),
            "application/vnd.apple.mpegurl"
            | "application/x-mpegurl"
            | "audio/mpegurl"
            | "audio/x-mpegurl" => Some(Content::Hls),
            media_type if media_type.starts_with("video/") => Some(Content::Stream),
            _ => None,
        }
    }
}

impl std::fmt::Display for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Content::Mjpeg => "MJPEG",
            Content::Still => "a still image",
            Content::Stream => "a video stream",
            Content::Hls => "an HLS playlist",
        })
    }
}

/// Whether a body starts as one of the usual video containers, or as H.264 or H.265 without one.
fn is_stream(start: &[u8]) -> bool {
    let is_transport_stream = |offset: usize, packet: usize| {
        start.get(offset) == Some(&0x47) && start.get(offset + packet) == Some(&0x47)
    };
    let is_box = |name: &[u8]| start.get(4..8) == Some(name);
    start.starts_with(b"FLV")
        || is_transport_stream(0, TS_PACKET)
        || is_transport_stream(4, TS_PACKET + 4)
        || [&b"ftyp"[..], b"styp", b"moof", b"moov", b"sidx"].into_iter().any(is_box)
        // Matroska and WebM, Ogg, MPEG program streams, and NAL units.
        || [&[0x1a, 0x45, 0xdf, 0xa3][..], b"OggS", &[0, 0, 1, 0xba], &[0, 0, 0, 1], &[0, 0, 1]]
            .into_iter()
            .any(|magic| start.starts_with(magic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_tells_more_than_the_media_type() {
        let mut packets = vec![0; 400];
        (packets[0], packets[188]) = (0x47, 0x47);
        for (media_type, start, expected) in [
            ("multipart/x-mixed-replace; boundary=\"a b\"", &b"--a b"[..], Some(Content::Mjpeg)),
            ("Multipart/Mixed;boundary=x", b"", Some(Content::Mjpeg)),
            ("text/plain", b"\r\n--x\r\nContent-type: image/jpg\r\n", Some(Content::Mjpeg)),
            ("application/octet-stream", b"\xff\xd8\xff\xe0", Some(Content::Still)),
            ("image/jpg", b"", Some(Content::Still)),
            ("text/html", b"\xef\xbb\xbf#EXTM3U\n", Some(Content::Hls)),
            ("application/vnd.apple.mpegURL", b"", Some(Content::Hls)),
            ("text/html", b"FLV\x01", Some(Content::Stream)),
            ("application/octet-stream", &packets, Some(Content::Stream)),
            ("", b"\0\0\0\x18ftypisom", Some(Content::Stream)),
            ("video/mp2t", b"", Some(Content::Stream)),
            ("text/html", b"<html>", None),
            ("", b"", None),
        ] {
            assert_eq!(Content::detect(media_type, start), expected, "{media_type}");
        }
    }
}
