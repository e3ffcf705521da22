//! Pipeline templates: how each kind of source is put together, as data in `pipelines/*.toml`.
//!
//! A template's text holds structure only. Placeholders are typed and filled with values that were checked against
//! their type, so that nothing a user types can add elements; addresses and passwords never become text at all, they
//! are set as properties. The one exception is `custom`, whose placeholder is a whole launch line.
//!
//! Some elements have fixed names: `src` gets address and login; `gate` stands before the decoder, where frames can be
//! left out; `dec` decodes. camfire adds a converter, which lets pass what needs no conversion, and the appsink `sink`.

use crate::{
    config::{Camera, OptionValue, Source},
    error::{Error, ErrorKind},
};
use serde::Deserialize;
use std::{cmp::Reverse, collections::BTreeMap};

/// The files of `pipelines/`, by their names.
macro_rules! built_in {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../pipelines/", $name, ".toml"))),)*]
    };
}

const BUILT_IN: &[(&str, &str)] = built_in!(
    "custom" "file" "http-hls" "http-mjpeg" "http-stills" "jetson-csi" "libcamera" "rtsp-h264-jetson"
    "rtsp-h264-openh264" "rtsp-h264-pi4" "rtsp-h264-software" "rtsp-h264-va" "rtsp-h265-jetson" "rtsp-h265-pi5"
    "rtsp-h265-software" "rtsp-h265-va" "rtsp-mjpeg" "test" "v4l2-h264" "v4l2-mjpeg" "v4l2-raw"
);

/// The placeholder that is no text: a property of whatever libav decoder turns up.
const DECODE_THREADS: &str = "decode_threads";

/// One file of `pipelines/`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// What it is for, in a few words.
    pub summary: String,
    /// Which kind of source it takes.
    pub source: SourceKind,
    /// What it can decode; none where it finds out by itself.
    #[serde(default)]
    pub codec: Option<Codec>,
    /// Of several that fit, the highest is tried first.
    #[serde(default)]
    pub rank: i32,
    /// The board decodes, not the CPU.
    #[serde(default)]
    pub hardware: bool,
    /// One picture, then it ends and is asked again.
    #[serde(default)]
    pub stills: bool,
    /// Only some boards have what it needs, and nobody misses it elsewhere.
    #[serde(default)]
    pub optional: bool,
    /// A launch line with `{placeholders}`; braces that are meant are doubled.
    pub launch: String,
    /// The property of the element `src` that gets the source's address.
    #[serde(default)]
    pub address: Option<String>,
    /// Whether frames come at their own pace, and are lost if nobody takes them.
    pub live: bool,
    /// What must be installed before anything is started.
    #[serde(default)]
    pub needs: Vec<Need>,
    /// Properties of named elements, set only where the element has them.
    #[serde(default)]
    pub properties: Properties,
    /// The placeholders.
    #[serde(default)]
    pub options: BTreeMap<String, Placeholder>,
}

/// Properties by element and name.
pub type Properties = BTreeMap<String, BTreeMap<String, bool>>;

/// Kinds of sources, as templates name them.
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

/// What a camera's stream is encoded with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Codec {
    H264,
    H265,
    Jpeg,
}

impl Codec {
    /// By its name in RTP, as `H264`.
    pub fn of_rtp(encoding: &str) -> Option<Codec> {
        match encoding {
            "H264" => Some(Codec::H264),
            "H265" => Some(Codec::H265),
            "JPEG" => Some(Codec::Jpeg),
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

/// An element that must exist, or one of several that do the same.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Need {
    /// One of these.
    pub any_of: Vec<String>,
    /// The Debian package that brings the first.
    pub package: String,
}

/// A placeholder: its type and its limits.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum Placeholder {
    /// A whole number.
    Integer {
        /// Least.
        min: i64,
        /// Most.
        max: i64,
        /// Unless given.
        default: i64,
    },
    /// One of some words.
    Choice {
        /// The words.
        values: Vec<String>,
        /// Unless given.
        default: String,
    },
    /// `true` or `false`.
    Switch {
        /// The text for `true`.
        on: String,
        /// The text for `false`.
        off: String,
        /// Unless given.
        default: bool,
    },
    /// A launch line, taken as it is.
    Launch,
}

/// A template filled in for a camera.
#[derive(Debug, Clone, PartialEq)]
pub struct Pipeline {
    /// Its template's name.
    pub template: String,
    /// See [`Template::codec`].
    pub codec: Option<Codec>,
    /// The board decodes, not the CPU.
    pub hardware: bool,
    /// One picture, then it ends and is asked again.
    pub stills: bool,
    /// Ready to be parsed.
    pub launch: String,
    /// Property of `src` and its value.
    pub address: Option<(String, String)>,
    /// Frames come at their own pace.
    pub live: bool,
    /// What must be installed.
    pub needs: Vec<Need>,
    /// Properties of named elements, set only where the element has them.
    pub properties: Properties,
    /// Threads of a libav decoder that turns up by itself, where the template lets users choose.
    pub decode_threads: Option<i64>,
}

/// The templates in the binary, by name.
pub fn all() -> BTreeMap<&'static str, Template> {
    let parse = |&(name, text): &(&'static str, &str)| {
        (name, toml::from_str(text).expect("templates in the binary are tested to parse"))
    };
    BUILT_IN.iter().map(parse).collect()
}

/// The templates that fit the camera's source, filled in, best first; only the one that the camera names, if it does.
///
/// Errors ([`ErrorKind::Input`]) name the camera's key.
pub fn candidates(camera: &Camera) -> Result<Vec<Pipeline>, Error> {
    fitting(camera, &camera.source).map_err(|broken| refusal(camera, broken))
}

/// The same for the camera's larger stream, or for its only one.
pub fn snapshot_candidates(camera: &Camera) -> Result<Vec<Pipeline>, Error> {
    let Some(source) = &camera.snapshot_source else { return candidates(camera) };
    // The pipeline is that of the stream that is watched; options count as far as this stream's pipelines have them.
    let (kind, _) = kind_and_address(source);
    let known = |key: &String| all().values().any(|t| t.source == kind && t.options.contains_key(key));
    let options = camera.options.clone().into_iter().filter(|(key, _)| known(key)).collect();
    let camera = Camera { pipeline: None, options, ..camera.clone() };
    fitting(&camera, source).map_err(|broken| refusal(&camera, broken))
}

/// The keys of a camera that break a template's rule, each with the rule.
pub fn validate(camera: &Camera) -> Vec<(String, String)> {
    fitting(camera, &camera.source).err().into_iter().collect()
}

fn refusal(camera: &Camera, (key, rule): (String, String)) -> Error {
    Error::new(ErrorKind::Input, format!("cameras.{}.{key}: {rule}", camera.name))
}

/// On failure the camera's key that breaks a rule, and the rule.
fn fitting(camera: &Camera, source: &Source) -> Result<Vec<Pipeline>, (String, String)> {
    let refuse = |key: &str, why: String| (key.to_string(), why);
    let (kind, address) = kind_and_address(source);
    let templates = all();
    let mut fitting: Vec<(&str, &Template)> = match camera.pipeline.as_deref() {
        None => templates
            .iter()
            .map(|(&name, template)| (name, template))
            .filter(|(_, t)| t.source == kind)
            .collect(),
        Some(name) => match templates.get_key_value(name) {
            Some((&name, template)) if template.source == kind => vec![(name, template)],
            Some((name, template)) => {
                let why = format!("pipeline {name:?} is {}, which the source is not", template.summary);
                return Err(refuse("pipeline", why));
            }
            None => {
                let known: Vec<&str> = templates.keys().copied().collect();
                return Err(refuse(
                    "pipeline",
                    format!("there is no pipeline {name:?}, only {}", known.join(", ")),
                ));
            }
        },
    };
    let first = preferred(source);
    fitting.sort_by_key(|(name, template)| (Some(*name) != first, Reverse(template.rank)));

    let mut given = camera.options.clone();
    match source {
        Source::Test { pattern } => {
            given.entry("pattern".into()).or_insert_with(|| OptionValue::Text(pattern.clone()));
        }
        Source::Custom { launch } => {
            given.insert("launch".into(), OptionValue::Text(launch.clone()));
        }
        _ => {}
    }
    let mut known: Vec<&str> =
        fitting.iter().flat_map(|(_, t)| t.options.keys().map(String::as_str)).collect();
    known.sort();
    known.dedup();
    if let Some(key) = given.keys().find(|key| !known.contains(&key.as_str())) {
        let names: Vec<&str> = fitting.iter().map(|(name, _)| *name).collect();
        let known = if known.is_empty() { "none".to_string() } else { known.join(", ") };
        let why = format!("no option {key:?} in {}, only {known}", names.join(", "));
        return Err(refuse("options", why));
    }
    fitting
        .into_iter()
        .map(|(name, template)| {
            template
                .fill_in(name, &given, address.as_deref())
                .map_err(|(key, why)| (format!("options.{key}"), why))
        })
        .collect()
}

fn kind_and_address(source: &Source) -> (SourceKind, Option<String>) {
    match source {
        Source::Rtsp { url } => (SourceKind::Rtsp, Some(url.clone())),
        Source::Http { url } => (SourceKind::Http, Some(url.clone())),
        Source::V4l2 { device } => (SourceKind::V4l2, Some(device.display().to_string())),
        Source::Libcamera { name } => (SourceKind::Libcamera, name.clone()),
        Source::Csi { sensor } => (SourceKind::Csi, Some(sensor.to_string())),
        Source::File { path, .. } => (SourceKind::File, Some(path.display().to_string())),
        Source::Test { .. } => (SourceKind::Test, None),
        Source::Custom { .. } => (SourceKind::Custom, None),
    }
}

/// The template that an address asks for by its ending.
fn preferred(source: &Source) -> Option<&'static str> {
    let Source::Http { url } = source else { return None };
    let path = url.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase();
    let ends_in = |endings: &[&str]| endings.iter().any(|ending| path.ends_with(ending));
    if ends_in(&[".m3u8"]) {
        Some("http-hls")
    } else if ends_in(&[".jpg", ".jpeg"]) {
        Some("http-stills")
    } else {
        None
    }
}

/// The Debian package that brings `element`, as far as any template knows.
pub fn package_of(element: &str) -> Option<String> {
    let brings = |need: &Need| need.any_of.first().is_some_and(|first| first == element);
    let needs = all().into_values().flat_map(|template| template.needs);
    needs.into_iter().find(brings).map(|need| need.package)
}

impl Template {
    /// On failure the option that breaks a rule, and the rule.
    fn fill_in(
        &self,
        name: &str,
        given: &BTreeMap<String, OptionValue>,
        address: Option<&str>,
    ) -> Result<Pipeline, (String, String)> {
        let mut values = BTreeMap::new();
        for (key, placeholder) in &self.options {
            let value = placeholder.value(given.get(key)).map_err(|why| (key.clone(), why))?;
            values.insert(key.as_str(), value);
        }
        Ok(Pipeline {
            template: name.to_string(),
            codec: self.codec,
            hardware: self.hardware,
            stills: self.stills,
            launch: expand(&self.launch, |key| values.get(key).cloned().unwrap_or_default()),
            address: self.address.clone().zip(address.map(str::to_string)),
            live: self.live,
            needs: self.needs.clone(),
            properties: self.properties.clone(),
            decode_threads: values.get(DECODE_THREADS).and_then(|threads| threads.parse().ok()),
        })
    }
}

/// Replaces `{key}` by its value, and `{{` and `}}` by one brace. What is filled in is not looked at again.
fn expand(text: &str, mut value: impl FnMut(&str) -> String) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        expanded.push_str(&rest[..at]);
        let brace = &rest[at..at + 1];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            expanded.push_str(brace);
            rest = after;
        } else if let Some((key, after)) = rest.split_once('}').filter(|_| brace == "{") {
            expanded.push_str(&value(key));
            rest = after;
        } else {
            expanded.push_str(brace);
        }
    }
    expanded + rest
}

impl Placeholder {
    /// The text for a given value, or for the default; else the rule that it breaks.
    fn value(&self, given: Option<&OptionValue>) -> Result<String, String> {
        let found = |value: &OptionValue| match value {
            OptionValue::Integer(value) => value.to_string(),
            OptionValue::Boolean(value) => value.to_string(),
            OptionValue::Text(value) => format!("{value:?}"),
        };
        match (self, given) {
            (Placeholder::Integer { default, .. }, None) => Ok(default.to_string()),
            (Placeholder::Integer { min, max, .. }, Some(OptionValue::Integer(value)))
                if (min..=max).contains(&value) =>
            {
                Ok(value.to_string())
            }
            (Placeholder::Integer { min, max, .. }, Some(value)) => {
                Err(format!("must be a whole number from {min} to {max}, not {}", found(value)))
            }
            (Placeholder::Choice { default, .. }, None) => Ok(default.clone()),
            (Placeholder::Choice { values, .. }, Some(OptionValue::Text(value)))
                if values.contains(value) =>
            {
                Ok(value.clone())
            }
            (Placeholder::Choice { values, .. }, Some(value)) => {
                Err(format!("must be one of {}, not {}", values.join(", "), found(value)))
            }
            (Placeholder::Switch { on, off, default }, None) => Ok(if *default { on } else { off }.clone()),
            (Placeholder::Switch { on, off, .. }, Some(OptionValue::Boolean(value))) => {
                Ok(if *value { on } else { off }.clone())
            }
            (Placeholder::Switch { .. }, Some(value)) => {
                Err(format!("must be true or false, not {}", found(value)))
            }
            (Placeholder::Launch, Some(OptionValue::Text(value))) => Ok(value.clone()),
            (Placeholder::Launch, _) => Err("must be a launch line".to_string()),
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::config::{Decode, Rotation};
    use std::time::Duration;

    /// A camera with defaults for everything but its source.
    pub fn camera(source: Source) -> Camera {
        Camera {
            name: "yard".into(),
            source,
            snapshot_source: None,
            pipeline: None,
            options: BTreeMap::new(),
            rate_fps: 5.0,
            decode: Decode::Auto,
            keyframe_limit: Duration::from_secs(2),
            motion: crate::config::Motion { threshold: 8.0, memory: Duration::from_secs(20), min_size: 0.03 },
            masks: Vec::new(),
            zones: Default::default(),
            regions: Vec::new(),
            labels: Vec::new(),
            heatmap: false,
            rotation: Rotation::None,
            stall_timeout: None,
            first_frame_timeout: Duration::from_secs(10),
            max_backoff: Duration::from_secs(30),
            login: None,
        }
    }

    fn with_options(source: Source, options: &[(&str, OptionValue)]) -> Camera {
        let options = options.iter().map(|(k, v)| (k.to_string(), v.clone())).collect();
        Camera { options, ..camera(source) }
    }

    fn test_source() -> Source {
        Source::Test { pattern: "ball".into() }
    }

    fn names(camera: &Camera) -> Vec<String> {
        candidates(camera).unwrap().into_iter().map(|pipeline| pipeline.template).collect()
    }

    #[test]
    fn every_file_in_pipelines_is_built_in_and_every_placeholder_is_declared() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        files.sort();
        assert_eq!(files, all().keys().copied().collect::<Vec<_>>());
        for (name, template) in all() {
            let mut used = Vec::new();
            expand(&template.launch, |key| {
                used.push(key.to_string());
                String::new()
            });
            for placeholder in &used {
                assert!(template.options.contains_key(placeholder), "{name}: {placeholder}");
            }
            for option in template.options.keys().filter(|option| *option != DECODE_THREADS) {
                assert!(used.contains(option), "{name}: {option} does nothing");
            }
            for element in template.properties.keys() {
                assert!(template.launch.contains(&format!("name={element} ")), "{name}: no {element}");
            }
            // What is compressed goes through a gate, where frames can be left out before they cost anything.
            let decodes = template.launch.contains("name=dec");
            assert_eq!(decodes, template.launch.contains("identity name=gate"), "{name}");
            assert!(!template.launch.contains("videorate"), "{name}: aborts the process on 1.22");
        }
    }

    #[test]
    fn the_source_picks_its_templates_and_its_address_stays_out_of_the_text() {
        let path = "/clips/a ! fakesink.mp4".into();
        let clip = camera(Source::File { path, repeat: true, realtime: true });
        let pipelines = candidates(&clip).unwrap();
        assert_eq!(pipelines.len(), 1);
        assert!(!pipelines[0].launch.contains("fakesink"), "{}", pipelines[0].launch);
        let address = ("location".to_string(), "/clips/a ! fakesink.mp4".to_string());
        assert_eq!(pipelines[0].address, Some(address));

        let url = |url: &str| camera(Source::Http { url: url.into() });
        assert_eq!(names(&url("http://h/video"))[0], "http-mjpeg");
        assert_eq!(names(&url("http://h/snap.JPG?user=1"))[0], "http-stills");
        assert_eq!(names(&url("http://h/live/index.m3u8"))[0], "http-hls");
        let local = camera(Source::V4l2 { device: "/dev/video0".into() });
        assert_eq!(names(&local), ["v4l2-mjpeg", "v4l2-raw", "v4l2-h264"]);
        let network = names(&camera(Source::Rtsp { url: "rtsp://h/s".into() }));
        assert_eq!(network.len(), 10);
        assert!(
            network[0].ends_with("-jetson") && network.last().unwrap().ends_with("openh264"),
            "{network:?}"
        );
    }

    #[test]
    fn options_are_filled_in_or_defaulted() {
        let camera = with_options(test_source(), &[("width", OptionValue::Integer(640))]);
        assert_eq!(
            candidates(&camera).unwrap()[0].launch,
            "videotestsrc name=src is-live=true pattern=ball ! \
             video/x-raw,format=I420,width=640,height=720,framerate=15/1"
        );
        let url = Source::Rtsp { url: "rtsps://h/s".into() };
        let camera = with_options(url, &[("verify_tls", OptionValue::Boolean(false))]);
        for pipeline in candidates(&camera).unwrap() {
            assert!(pipeline.launch.contains(" tls-validation-flags=0 "), "{}", pipeline.launch);
        }
    }

    #[test]
    fn braces_that_are_meant_are_doubled() {
        let expanded = expand("a={a} {{I420,{a}}} } {", |key| format!("<{key}{{b}}>"));
        assert_eq!(expanded, "a=<a{b}> {I420,<a{b}>} } {");
    }

    #[test]
    fn wrong_options_are_refused_by_key_and_rule() {
        let refusal =
            |key, value| candidates(&with_options(test_source(), &[(key, value)])).unwrap_err().to_string();
        assert_eq!(
            refusal("width", OptionValue::Integer(7)),
            "cameras.yard.options.width: must be a whole number from 16 to 7680, not 7"
        );
        assert_eq!(
            refusal("fps", OptionValue::Text("1 ! filesink location=/etc/passwd".into())),
            "cameras.yard.options.fps: must be a whole number from 1 to 240, \
             not \"1 ! filesink location=/etc/passwd\""
        );
        assert_eq!(
            refusal("colour", OptionValue::Boolean(true)),
            "cameras.yard.options: no option \"colour\" in test, only fps, height, pattern, width"
        );
        let named = |name: &str| Camera { pipeline: Some(name.into()), ..camera(test_source()) };
        assert_eq!(
            candidates(&named("rtsp-mjpeg")).unwrap_err().to_string(),
            "cameras.yard.pipeline: pipeline \"rtsp-mjpeg\" is a network camera over RTSP, MJPEG, \
             which the source is not"
        );
        let error = candidates(&named("rtps")).unwrap_err().to_string();
        assert!(
            error.starts_with("cameras.yard.pipeline: there is no pipeline \"rtps\", only custom, file"),
            "{error}"
        );
    }
}
