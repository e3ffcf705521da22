//! Pipeline templates: how each kind of source is put together, as data in `pipelines/*.toml`.
//!
//! A template's text holds structure only. Placeholders are typed and filled with values that were checked against
//! their type, so that nothing a user types can add elements; addresses and passwords never become text at all, they
//! are set as properties. The one exception is `custom`, whose placeholder is a whole launch line.

use crate::{
    config::{Camera, OptionValue, Source},
    error::{Error, Kind},
};
use serde::Deserialize;
use std::collections::BTreeMap;

/// The templates in the binary, by name.
const BUILT_IN: [(&str, &str); 5] = [
    ("custom", include_str!("../../pipelines/custom.toml")),
    ("file", include_str!("../../pipelines/file.toml")),
    ("rtsp", include_str!("../../pipelines/rtsp.toml")),
    ("test", include_str!("../../pipelines/test.toml")),
    ("v4l2", include_str!("../../pipelines/v4l2.toml")),
];

/// One file of `pipelines/`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// What it is for, in a few words.
    pub summary: String,
    /// A launch line with `{placeholders}`; camfire adds a converter and the appsink behind it.
    pub launch: String,
    /// The property of the element `src` that gets the source's address.
    #[serde(default)]
    pub address: Option<String>,
    /// Whether frames come at their own pace, and are lost if nobody takes them.
    pub live: bool,
    /// What must be installed before anything is started.
    #[serde(default)]
    pub needs: Vec<Need>,
    /// Properties of `src`, set only where the element has them.
    #[serde(default)]
    pub properties: BTreeMap<String, bool>,
    /// The placeholders.
    #[serde(default)]
    pub options: BTreeMap<String, Placeholder>,
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
    /// A launch line, taken as it is.
    Launch,
}

/// A template filled in for a camera.
#[derive(Debug, Clone, PartialEq)]
pub struct Pipeline {
    /// Its template's name.
    pub template: String,
    /// Ready to be parsed.
    pub launch: String,
    /// Property of `src` and its value.
    pub address: Option<(String, String)>,
    /// Frames come at their own pace.
    pub live: bool,
    /// What must be installed.
    pub needs: Vec<Need>,
    /// Properties of `src`, set only where the element has them.
    pub properties: BTreeMap<String, bool>,
    /// Threads of a software decoder, where the template lets users choose.
    pub decode_threads: Option<i64>,
}

/// The templates in the binary, by name.
pub fn all() -> BTreeMap<&'static str, Template> {
    let parse =
        |(name, text)| (name, toml::from_str(text).expect("templates in the binary are tested to parse"));
    BUILT_IN.into_iter().map(parse).collect()
}

/// Fills in the template that fits the camera's source, or the one it names.
///
/// Errors ([`Kind::Input`]) name the camera's key.
pub fn fill_in(camera: &Camera) -> Result<Pipeline, Error> {
    let (kind, address) = match &camera.source {
        Source::Rtsp { url } => ("rtsp", Some(url.clone())),
        Source::V4l2 { device } => ("v4l2", Some(device.display().to_string())),
        Source::File { path, .. } => ("file", Some(path.display().to_string())),
        Source::Test { .. } => ("test", None),
        Source::Custom { .. } => ("custom", None),
    };
    let place = format!("cameras.{}", camera.name);
    let refuse = |key: &str, why: String| Error::new(Kind::Input, format!("{place}.{key}: {why}"));
    let templates = all();
    let name = camera.template.as_deref().unwrap_or(kind);
    let template = templates.get(name).ok_or_else(|| {
        let known: Vec<&str> = templates.keys().copied().collect();
        refuse("template", format!("there is no template {name:?}, only {}", known.join(", ")))
    })?;
    if template.address.is_some() != address.is_some() || (name == "custom") != (kind == "custom") {
        let why = format!("template {name:?} is {}, which the source is not", template.summary);
        return Err(refuse("template", why));
    }

    let mut given = camera.options.clone();
    match &camera.source {
        Source::Test { pattern } => {
            given.entry("pattern".into()).or_insert_with(|| OptionValue::Text(pattern.clone()));
        }
        Source::Custom { launch } => {
            given.insert("launch".into(), OptionValue::Text(launch.clone()));
        }
        Source::Rtsp { .. } | Source::V4l2 { .. } | Source::File { .. } => {}
    }
    if let Some(key) = given.keys().find(|key| !template.options.contains_key(*key)) {
        let known: Vec<&str> = template.options.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_string() } else { known.join(", ") };
        return Err(refuse("options", format!("no option {key:?} in template {name:?}, only {known}")));
    }
    let mut launch = template.launch.clone();
    let mut decode_threads = None;
    for (key, placeholder) in &template.options {
        let text = placeholder.value(given.get(key)).map_err(|why| refuse(&format!("options.{key}"), why))?;
        if key == "decode_threads" {
            decode_threads = text.parse().ok();
        }
        launch = launch.replace(&format!("{{{key}}}"), &text);
    }
    Ok(Pipeline {
        template: name.to_string(),
        launch,
        address: template.address.clone().zip(address),
        live: template.live,
        needs: template.needs.clone(),
        properties: template.properties.clone(),
        decode_threads,
    })
}

/// The Debian package that brings `element`, as far as any template knows.
pub fn package_of(element: &str) -> Option<String> {
    let brings = |need: &Need| need.any_of.first().is_some_and(|first| first == element);
    let needs = all().into_values().flat_map(|template| template.needs);
    needs.into_iter().find(brings).map(|need| need.package)
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
            (Placeholder::Launch, Some(OptionValue::Text(value))) => Ok(value.clone()),
            (Placeholder::Launch, _) => Err("must be a launch line".to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn camera(source: Source, options: &[(&str, OptionValue)]) -> Camera {
        Camera {
            name: "yard".into(),
            source,
            template: None,
            options: options.iter().map(|(k, v)| (k.to_string(), v.clone())).collect(),
            rate_fps: 5.0,
            stall_timeout: Duration::from_secs(10),
            login: None,
        }
    }

    fn test_source() -> Source {
        Source::Test { pattern: "ball".into() }
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
            let used: Vec<&str> =
                template.launch.split('{').skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
            for placeholder in &used {
                assert!(template.options.contains_key(*placeholder), "{name}: {placeholder}");
            }
            for option in template.options.keys().filter(|option| *option != "decode_threads") {
                assert!(used.contains(&option.as_str()), "{name}: {option} does nothing");
            }
        }
    }

    #[test]
    fn the_source_picks_its_template_and_its_address_stays_out_of_the_text() {
        let path = "/clips/a ! fakesink.mp4".into();
        let pipeline = fill_in(&camera(Source::File { path, repeat: true, realtime: true }, &[])).unwrap();
        assert_eq!(pipeline.template, "file");
        assert_eq!(pipeline.launch, "filesrc name=src ! decodebin name=dec");
        let address = ("location".to_string(), "/clips/a ! fakesink.mp4".to_string());
        assert_eq!(pipeline.address, Some(address));
    }

    #[test]
    fn options_are_filled_in_or_defaulted() {
        let options = [("width", OptionValue::Integer(640))];
        let pipeline = fill_in(&camera(test_source(), &options)).unwrap();
        assert_eq!(
            pipeline.launch,
            "videotestsrc name=src is-live=true pattern=ball ! \
             video/x-raw,format=I420,width=640,height=720,framerate=15/1"
        );
    }

    #[test]
    fn wrong_options_are_refused_by_key_and_rule() {
        let refusal = |key, value| fill_in(&camera(test_source(), &[(key, value)])).unwrap_err().to_string();
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
            "cameras.yard.options: no option \"colour\" in template \"test\", \
             only fps, height, pattern, width"
        );
        let mut camera = camera(test_source(), &[]);
        camera.template = Some("rtsp".into());
        assert_eq!(
            fill_in(&camera).unwrap_err().to_string(),
            "cameras.yard.template: template \"rtsp\" is a network camera over RTSP, \
             which the source is not"
        );
    }
}
