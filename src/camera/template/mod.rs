//! Pipeline templates: one for each kind of source, codec and decoder, as data in `pipelines/*.toml`.
//!
//! [`select`] picks the templates for a camera and [`fill`] turns each into a [`Pipeline`]. A template's text
//! defines structure only. Placeholders are typed, and values are validated against their type, so that
//! configuration cannot add elements. Addresses and passwords never become part of the text, but are set as
//! properties. The exception is `custom`, whose placeholder is a whole launch line.
//!
//! Some elements have fixed names: `src` gets address and login; at `gate`, before the decoder, frames can be
//! dropped; `video` selects the video among several streams; `dec` decodes. camfire appends a converter,
//! which passes through what needs no conversion, and the appsink `sink`.

mod fill;
mod select;
#[cfg(test)]
pub mod tests;

pub use select::{candidates, snapshot_candidates, validate};

use super::http::Content;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Includes files of `pipelines/` by name.
macro_rules! built_in {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../../pipelines/", $name, ".toml"))),)*]
    };
}

const BUILT_IN: &[(&str, &str)] = built_in!(
    "custom" "file" "http-hls" "http-mjpeg" "http-stills" "http-stream" "jetson-csi" "libcamera" "rtsp-h264-jetson"
    "rtsp-h264-openh264" "rtsp-h264-pi4" "rtsp-h264-software" "rtsp-h264-va" "rtsp-h265-jetson" "rtsp-h265-pi5"
    "rtsp-h265-software" "rtsp-h265-va" "rtsp-mjpeg" "test" "v4l2-h264" "v4l2-mjpeg" "v4l2-raw"
);

/// One file of `pipelines/`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Description in a few words, as a noun phrase.
    pub summary: String,
    /// The kind of source that it is for.
    pub source: SourceKind,
    /// The codec that it decodes. None if it detects the codec itself.
    #[serde(default)]
    pub codec: Option<Codec>,
    /// Of several templates for a source, the one with the highest rank is tried first.
    #[serde(default)]
    pub rank: i32,
    /// Decodes in hardware.
    #[serde(default)]
    pub hardware: bool,
    /// What an HTTP camera must send for it. camfire reads the camera itself, and `src` is an appsrc.
    #[serde(default)]
    pub content: Option<Content>,
    /// Needs hardware that only some boards have, so that `camfire doctor` does not report it as a fault
    /// elsewhere.
    #[serde(default)]
    pub optional: bool,
    /// A launch line with `{placeholders}`. Literal braces are doubled.
    pub launch: String,
    /// The property of the element `src` that gets the source's address.
    #[serde(default)]
    pub address: Option<String>,
    /// The source is live: frames come in real time and are lost if they are not read.
    pub live: bool,
    /// The elements that must be installed.
    #[serde(default)]
    pub needs: Vec<Need>,
    /// Properties of named elements, set only on elements that have them.
    #[serde(default)]
    pub properties: Properties,
    /// The placeholders, by name.
    #[serde(default)]
    pub options: BTreeMap<String, Placeholder>,
}

/// Properties by element and name.
pub type Properties = BTreeMap<String, BTreeMap<String, bool>>;

/// The kinds of sources, as named in templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum SourceKind {
    Rtsp,
    Http,
    V4l2,
    Libcamera,
    Csi,
    File,
    Test,
    Custom,
}

/// The codec of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Codec {
    H264,
    H265,
    Jpeg,
}

impl Codec {
    /// The codec with an RTP encoding name such as `H264`. Returns None for other codecs.
    pub fn of_rtp(encoding: &str) -> Option<Codec> {
        match encoding {
            "H264" => Some(Codec::H264),
            "H265" => Some(Codec::H265),
            "JPEG" => Some(Codec::Jpeg),
            _ => None,
        }
    }

    /// The codec with a media type of GStreamer such as `video/x-h264`. Returns None for other types.
    pub fn of_media_type(name: &str) -> Option<Codec> {
        match name {
            "video/x-h264" => Some(Codec::H264),
            "video/x-h265" => Some(Codec::H265),
            "image/jpeg" => Some(Codec::Jpeg),
            _ => None,
        }
    }
}

impl std::fmt::Display for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Codec::H264 => "H.264",
            Codec::H265 => "H.265",
            Codec::Jpeg => "JPEG",
        })
    }
}

/// A required element, or one of several equivalent ones.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Need {
    /// The elements, one of which must be installed.
    pub any_of: Vec<String>,
    /// The Debian package that contains the first one.
    pub package: String,
}

/// A placeholder: its type, limits and default.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum Placeholder {
    /// A whole number.
    Integer {
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
        /// Value if none is configured.
        default: i64,
    },
    /// One of a list of words.
    Choice {
        /// The words.
        values: Vec<String>,
        /// Value if none is configured.
        default: String,
    },
    /// `true` or `false`.
    Switch {
        /// The text for `true`.
        on: String,
        /// The text for `false`.
        off: String,
        /// Value if none is configured.
        default: bool,
    },
    /// A launch line, inserted unchanged.
    Launch,
}

/// A template filled in for a camera.
#[derive(Debug, Clone, PartialEq)]
pub struct Pipeline {
    /// The template's name.
    pub template: String,
    /// See [`Template::codec`].
    pub codec: Option<Codec>,
    /// See [`Template::hardware`].
    pub hardware: bool,
    /// See [`Template::content`].
    pub content: Option<Content>,
    /// The address that camfire reads itself.
    pub url: Option<String>,
    /// Whether the certificate of an `https://` camera must be valid, if camfire reads it itself.
    pub verify_tls: bool,
    /// The launch line, without placeholders.
    pub launch: String,
    /// Name and value of the address property of `src`.
    pub address: Option<(String, String)>,
    /// See [`Template::live`].
    pub live: bool,
    /// See [`Template::needs`].
    pub needs: Vec<Need>,
    /// See [`Template::properties`].
    pub properties: Properties,
    /// Number of threads of a libav decoder, if the template has that option.
    pub decode_threads: Option<i64>,
}

/// The built-in templates, by name.
pub fn all() -> BTreeMap<&'static str, Template> {
    let parse = |&(name, text): &(&'static str, &str)| {
        (name, toml::from_str(text).expect("the built-in templates are tested to parse"))
    };
    BUILT_IN.iter().map(parse).collect()
}

/// The Debian package that contains `element`. Returns None if no template names it.
pub fn package_of(element: &str) -> Option<String> {
    let contains = |need: &Need| need.any_of.first().is_some_and(|first| first == element);
    let needs = all().into_values().flat_map(|template| template.needs);
    needs.into_iter().find(contains).map(|need| need.package)
}
