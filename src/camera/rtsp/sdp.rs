//! The tracks in a camera's session description (SDP), and the description that GStreamer gets. Pure.

use crate::camera::readable;
use crate::camera::{Failure, FailureKind, template::Codec};

/// Attributes of a track that a depayloader needs or uses. All others are left out.
const PASSED_ON: [&str; 5] = ["fmtp", "framerate", "framesize", "x-dimensions", "x-framerate"];
/// The longest control attribute.
const MAX_CONTROL: usize = 1024;
/// Tracks that a reason names.
const MAX_NAMED: usize = 4;

/// A session description, as far as camfire needs it.
#[derive(Debug, PartialEq, Eq)]
pub struct Description {
    /// The session's own `control` attribute.
    pub control: Option<String>,
    /// Its video tracks.
    pub tracks: Vec<Track>,
}

/// A video track in one of the formats that it is offered in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// The encoding's name, such as `H264`.
    pub encoding: String,
    /// The codec. None if no pipeline supports it.
    pub codec: Option<Codec>,
    /// The RTP payload type.
    pub payload_type: u8,
    /// The track's `control` attribute.
    pub control: Option<String>,
    clock_rate: u32,
    /// Lines about the format, without their ends.
    attributes: Vec<String>,
}

impl Description {
    /// Parses a description. Lines that are not understood are ignored, as the standard demands.
    pub fn parse(text: &[u8]) -> Description {
        let text = String::from_utf8_lossy(text);
        let mut control = None;
        let mut media: Vec<Media<'_>> = Vec::new();
        for line in text.lines().map(str::trim_end) {
            let Some((key, value)) = line.split_once('=') else { continue };
            match (key, media.last_mut()) {
                ("m", _) => media.push(Media::parse(value)),
                ("a", Some(media)) => media.attributes.push(value),
                ("a", None) => control = control.or_else(|| control_of(value)),
                _ => {}
            }
        }
        Description { control, tracks: media.iter().filter_map(Media::track).collect() }
    }

    /// The track to watch: the first whose codec is among `usable`, or else the first whose codec is known.
    ///
    /// Errors ([`FailureKind::Unsupported`]): there is none; the reason names the encodings.
    pub fn select(&self, usable: &[Codec]) -> Result<&Track, Failure> {
        let is_usable = |track: &&Track| track.codec.is_some_and(|codec| usable.contains(&codec));
        let found = self.tracks.iter().find(is_usable);
        if let Some(track) = found.or_else(|| self.tracks.iter().find(|track| track.codec.is_some())) {
            return Ok(track);
        }
        if self.tracks.is_empty() {
            return Err(Failure::no_video());
        }
        let names: Vec<&str> = self.tracks.iter().take(MAX_NAMED).map(|t| t.encoding.as_str()).collect();
        let reason = format!("the camera sends {}, which no pipeline supports", names.join(" and "));
        Err(Failure::new(FailureKind::Unsupported, reason))
    }
}

impl Track {
    /// A description of this track alone.
    pub fn describe(&self) -> String {
        let Track { encoding, payload_type, clock_rate, .. } = self;
        let mut text = format!(
            "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\na=control:*\r\n\
             m=video 0 RTP/AVP {payload_type}\r\na=rtpmap:{payload_type} {encoding}/{clock_rate}\r\n"
        );
        for attribute in &self.attributes {
            text += &format!("a={attribute}\r\n");
        }
        text + "a=control:track\r\n"
    }
}

/// A medium of a description.
struct Media<'a> {
    is_video: bool,
    /// Encrypted, with keys that camfire does not negotiate.
    is_encrypted: bool,
    /// Its formats, each once.
    payload_types: Vec<u8>,
    attributes: Vec<&'a str>,
}

impl<'a> Media<'a> {
    /// From the value of an `m` line, such as `video 0 RTP/AVP 96 97`.
    fn parse(line: &'a str) -> Media<'a> {
        let mut words = line.split_whitespace();
        let kind = words.next().unwrap_or_default();
        let protocol = words.nth(1).unwrap_or_default();
        let mut payload_types = Vec::new();
        for payload_type in words.filter_map(|word| word.parse().ok()).filter(|&pt| pt < 128) {
            // A line may repeat one thousands of times.
            if !payload_types.contains(&payload_type) {
                payload_types.push(payload_type);
            }
        }
        Media {
            is_video: kind.eq_ignore_ascii_case("video"),
            is_encrypted: protocol.to_ascii_uppercase().contains("SAVP"),
            payload_types,
            attributes: Vec::new(),
        }
    }

    /// The track, in the first of its formats whose codec is known, or the first of all. None if this is not
    /// video.
    fn track(&self) -> Option<Track> {
        if !self.is_video {
            return None;
        }
        let formats = self.payload_types.iter().map(|&payload_type| self.format(payload_type));
        let formats: Vec<Track> = formats.collect();
        let known = formats.iter().find(|format| format.codec.is_some());
        known.or(formats.first()).cloned()
    }

    fn format(&self, payload_type: u8) -> Track {
        let of_format = |attribute: &&&str| {
            let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
            let is_ours = match name {
                // These name the format that they are about.
                "fmtp" | "framesize" => value.split(' ').next() == Some(&payload_type.to_string()),
                _ => true,
            };
            PASSED_ON.contains(&name) && is_ours
        };
        let rtpmap = self.attributes.iter().find_map(|attribute| {
            let (number, encoding) = attribute.strip_prefix("rtpmap:")?.trim().split_once(' ')?;
            (number.parse() == Ok(payload_type)).then_some(encoding.trim())
        });
        let rtpmap = rtpmap.or_else(|| static_format(payload_type));
        let (name, clock_rate) = match rtpmap {
            Some(rtpmap) => {
                let mut parts = rtpmap.split('/');
                let name = readable(parts.next().unwrap_or_default(), 20).to_ascii_uppercase();
                (name, parts.next().and_then(|rate| rate.trim().parse().ok()).unwrap_or(90_000))
            }
            None => (format!("payload type {payload_type}"), 90_000),
        };
        let is_safe = |text: &&&str| text.chars().all(|c| c == ' ' || c.is_ascii_graphic());
        let codec = Codec::of_rtp(&name).filter(|_| !self.is_encrypted);
        let encoding = if self.is_encrypted { format!("encrypted {name}") } else { name };
        Track {
            encoding,
            codec,
            payload_type,
            control: self.attributes.iter().find_map(|attribute| control_of(attribute)),
            clock_rate,
            attributes: self
                .attributes
                .iter()
                .filter(of_format)
                .filter(is_safe)
                .map(|attribute| attribute.to_string())
                .collect(),
        }
    }
}

/// The value of a `control` attribute that can be part of a request.
fn control_of(attribute: &str) -> Option<String> {
    let control = attribute.strip_prefix("control:")?.trim();
    let is_usable =
        !control.is_empty() && control.len() <= MAX_CONTROL && control.chars().all(|c| c.is_ascii_graphic());
    is_usable.then(|| control.to_string())
}

/// Name and clock rate of a static payload type of video, which needs no `rtpmap` (RFC 3551, section 6).
fn static_format(payload_type: u8) -> Option<&'static str> {
    Some(match payload_type {
        25 => "CelB/90000",
        26 => "JPEG/90000",
        28 => "nv/90000",
        31 => "H261/90000",
        32 => "MPV/90000",
        33 => "MP2T/90000",
        34 => "H263/90000",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_TRACKS: &str = "v=0\r\ns=x\r\na=control:*\r\nm=audio 0 RTP/AVP 0\r\na=control:t0\r\n\
        m=video 0 RTP/AVP 97\r\na=rtpmap:97 MP4V-ES/90000\r\na=control:t2\r\n\
        m=video 0 RTP/AVP 98 96\r\na=rtpmap:98 rtx/90000\r\na=rtpmap:96 h264/90000\r\n\
        a=fmtp:98 apt=96\r\na=fmtp:96 packetization-mode=1;sprop-parameter-sets=Zw==,aA==\r\n\
        a=extmap:1 urn:x\r\na=framerate:15\r\na=control:rtsp://h/s/t1\r\n";

    fn selected(text: &str, usable: &[Codec]) -> Result<Track, String> {
        let description = Description::parse(text.as_bytes());
        description.select(usable).cloned().map_err(|failure| failure.reason)
    }

    #[test]
    fn the_first_track_that_can_be_decoded_is_selected() {
        let track = selected(TWO_TRACKS, &[Codec::H264]).unwrap();
        assert_eq!((track.codec, track.payload_type), (Some(Codec::H264), 96));
        assert_eq!(track.control.as_deref(), Some("rtsp://h/s/t1"));
        let description = track.describe();
        assert!(description.contains("m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"), "{description}");
        assert!(description.contains("a=fmtp:96 packetization-mode=1;"), "{description}");
        assert!(!description.contains("apt=96") && !description.contains("extmap"), "{description}");
        let both = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H265/90000\r\nm=video 0 RTP/AVP 97\r\na=rtpmap:97 H264/90000\r\n";
        assert_eq!(selected(both, &[Codec::H264, Codec::H265]).unwrap().codec, Some(Codec::H265));
        assert_eq!(selected(both, &[Codec::H264]).unwrap().codec, Some(Codec::H264));
        // None can be decoded here: the reaction to its codec names what must be installed.
        assert_eq!(selected(both, &[Codec::Jpeg]).unwrap().codec, Some(Codec::H265));
    }

    #[test]
    fn a_static_payload_type_needs_no_rtpmap() {
        let track = selected("m=video 0 RTP/AVP 26\r\na=control:t\r\n", &[Codec::Jpeg]).unwrap();
        assert_eq!(track.codec, Some(Codec::Jpeg));
        assert!(track.describe().contains("a=rtpmap:26 JPEG/90000\r\n"), "{}", track.describe());
    }

    #[test]
    fn what_cannot_be_watched_is_named() {
        let error = |text: &str| selected(text, &[Codec::H264]).unwrap_err();
        let other = "m=video 0 RTP/AVP 97\r\na=rtpmap:97 MP4V-ES/90000\r\nm=video 0 RTP/AVP 32 \r\n\
                     m=video 0 RTP/AVP 99\r\n";
        assert_eq!(
            error(other),
            "the camera sends MP4V-ES and MPV and payload type 99, which no pipeline supports"
        );
        let encrypted = "m=video 0 RTP/SAVP 96\r\na=rtpmap:96 H264/90000\r\n";
        assert_eq!(error(encrypted), "the camera sends encrypted H264, which no pipeline supports");
        assert_eq!(error("v=0\r\nm=audio 0 RTP/AVP 0\r\n"), "the source contains no video");
        assert_eq!(error(""), "the source contains no video");
    }

    #[test]
    fn a_format_that_is_repeated_counts_once() {
        let media = Media::parse("video 0 RTP/AVP 96 26 96 128 26 300 x 97");
        assert_eq!(media.payload_types, [96, 26, 97]);
    }

    #[test]
    fn what_could_end_a_line_is_not_passed_on() {
        let track = selected("m=video 0 RTP/AVP 26\na=framerate:5\u{7}\na=control:t t\n", &[Codec::Jpeg]);
        let track = track.unwrap();
        assert_eq!(track.control, None);
        assert!(!track.describe().contains("framerate"));
    }
}
