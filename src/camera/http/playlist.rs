//! HLS playlists. Pure.

use std::sync::Arc;

/// Segments of a playlist. More are refused, because each takes more memory than its line has bytes.
const MAX_SEGMENTS: usize = 32_768;

/// A playlist.
#[derive(Debug, PartialEq)]
pub enum Playlist {
    /// The same video in several qualities; the address of the first one that has video.
    Master(String),
    /// The segments of one of them.
    Media(Media),
}

/// The segments of a stream.
#[derive(Debug, Default, PartialEq)]
pub struct Media {
    /// Longest duration of a segment, seconds.
    pub target_s: f64,
    /// Number of the first segment.
    pub first: u64,
    /// The segments, in order.
    pub segments: Vec<Segment>,
    /// No segments will follow.
    pub ended: bool,
}

/// A piece of a stream.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Segment {
    /// Its address, relative to the playlist's.
    pub address: String,
    /// First byte, and the byte after the last one, if it is a part of a file.
    pub range: Option<(u64, u64)>,
    /// What precedes it, if the last segment had another one. Shared by the segments that have the same.
    pub init: Option<Arc<Segment>>,
}

/// Parses a playlist.
///
/// Errors: why it cannot be played.
pub fn parse(text: &str) -> Result<Playlist, String> {
    let mut lines =
        text.trim_start_matches('\u{feff}').lines().map(str::trim).filter(|line| !line.is_empty());
    if !lines.next().is_some_and(|line| line.starts_with("#EXTM3U")) {
        return Err("the answer is no HLS playlist".into());
    }
    let mut media = Media::default();
    let (mut variant, mut range, mut init, mut range_end) = (None, None, None, 0);
    for line in lines {
        if let Some(attributes) = line.strip_prefix("#EXT-X-STREAM-INF:") {
            variant = Some(has_video(attributes));
        } else if let Some(seconds) = line.strip_prefix("#EXT-X-TARGETDURATION:") {
            let seconds = seconds.trim().parse().ok().filter(|seconds: &f64| seconds.is_finite());
            media.target_s = seconds.unwrap_or_default();
        } else if let Some(number) = line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:") {
            media.first = number.trim().parse().unwrap_or_default();
        } else if line == "#EXT-X-ENDLIST" {
            media.ended = true;
        } else if let Some(text) = line.strip_prefix("#EXT-X-BYTERANGE:") {
            range = Some(byte_range(text, range_end)?);
        } else if let Some(attributes) = line.strip_prefix("#EXT-X-MAP:") {
            let address = attribute(attributes, "URI").ok_or("the playlist's map has no address")?;
            let range = attribute(attributes, "BYTERANGE").map(|text| byte_range(&text, 0)).transpose()?;
            init = Some(Arc::new(Segment { address, range, init: None }));
        } else if let Some(attributes) = line.strip_prefix("#EXT-X-KEY:") {
            if attribute(attributes, "METHOD").is_none_or(|method| method != "NONE") {
                return Err("the HLS stream is encrypted, which is not supported".into());
            }
        } else if !line.starts_with('#') {
            match variant.take() {
                Some(true) => return Ok(Playlist::Master(line.to_string())),
                Some(false) => {}
                None if media.segments.len() == MAX_SEGMENTS => {
                    return Err(format!("the playlist has more than {MAX_SEGMENTS} segments"));
                }
                None => {
                    range_end = range.map_or(0, |(_, end)| end);
                    let init = init.clone();
                    media.segments.push(Segment { address: line.to_string(), range: range.take(), init });
                }
            }
        }
    }
    Ok(Playlist::Media(media))
}

/// Whether a variant has video, as far as it says.
fn has_video(attributes: &str) -> bool {
    let codecs = attribute(attributes, "CODECS").unwrap_or_default();
    let is_audio =
        |codec: &str| ["mp4a", "ac-3", "ec-3", "opus", "flac"].iter().any(|a| codec.trim().starts_with(a));
    codecs.is_empty() || !codecs.split(',').all(is_audio)
}

/// `LENGTH[@START]`; without a start, from `previous_end` on.
fn byte_range(text: &str, previous_end: u64) -> Result<(u64, u64), String> {
    let (length, start) = text.trim().split_once('@').unwrap_or((text.trim(), ""));
    let start = if start.is_empty() { Some(previous_end) } else { start.parse().ok() };
    let range = start.zip(length.parse::<u64>().ok());
    let range = range.and_then(|(start, length)| Some((start, start.checked_add(length)?)));
    range.ok_or_else(|| "the playlist has an invalid byte range".to_string())
}

/// The value of an attribute in `NAME=value,NAME="quoted, value"`.
fn attribute(attributes: &str, name: &str) -> Option<String> {
    let mut rest = attributes;
    loop {
        let (key, after) = rest.split_once('=')?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_at(after.find(',').unwrap_or(after.len())),
        };
        if key.trim().trim_start_matches(',').trim() == name {
            return Some(value.trim().to_string());
        }
        rest = after.trim_start().trim_start_matches(',');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variant_with_video_is_taken() {
        let master = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS=\"mp4a.40.2\"\nsound.m3u8\n\
                      #EXT-X-STREAM-INF:CODECS=\"mp4a.40.2, avc1.4d\",BANDWIDTH=2\r\n\r\nvideo/a.m3u8?x\n\
                      #EXT-X-STREAM-INF:BANDWIDTH=3\nmore.m3u8\n";
        assert_eq!(parse(master), Ok(Playlist::Master("video/a.m3u8?x".into())));
    }

    #[test]
    fn segments_have_addresses_ranges_and_maps() {
        let text = "\u{feff}#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:17\n\
                    #EXT-X-MAP:URI=\"init.mp4\",BYTERANGE=\"10@5\"\n#EXTINF:4.0,\n#EXT-X-BYTERANGE:100@20\na.m4s\n\
                    #EXT-X-KEY:METHOD=NONE\n#EXTINF:4,\n#EXT-X-BYTERANGE:50\na.m4s\n#EXT-X-ENDLIST\n";
        let Ok(Playlist::Media(media)) = parse(text) else { panic!("no media playlist") };
        assert_eq!((media.target_s, media.first, media.ended), (4.0, 17, true));
        let ranges: Vec<_> = media.segments.iter().map(|segment| segment.range).collect();
        assert_eq!(ranges, [Some((20, 120)), Some((120, 170))]);
        let init = media.segments[1].init.as_ref().unwrap();
        assert_eq!((init.address.as_str(), init.range), ("init.mp4", Some((5, 15))));
        assert!(Arc::ptr_eq(init, media.segments[0].init.as_ref().unwrap()), "kept once");
    }

    #[test]
    fn a_duration_that_is_no_number_is_ignored() {
        for duration in ["nan", "inf", "-inf", "1e999", "x"] {
            let text = format!("#EXTM3U\n#EXT-X-TARGETDURATION:{duration}\na.ts\n");
            let Ok(Playlist::Media(media)) = parse(&text) else { panic!("no media playlist") };
            assert_eq!(media.target_s, 0.0, "{duration}");
        }
    }

    #[test]
    fn what_cannot_be_played_is_refused() {
        for text in [
            "",
            "<html>",
            "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\na.ts\n",
            "#EXTM3U\n#EXT-X-BYTERANGE:18446744073709551615@9\na.ts\n",
            "#EXTM3U\n#EXT-X-MAP:X=1\na.ts\n",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        let many = format!("#EXTM3U\n{}", "a\n".repeat(MAX_SEGMENTS + 1));
        assert_eq!(parse(&many), Err("the playlist has more than 32768 segments".into()));
    }
}
