//! Selects the templates for a camera's source and fills them in.

use super::{Pipeline, SourceKind, Template, all};
use crate::{
    config::{Camera, OptionValue, Source},
    error::{Error, ErrorKind},
};
use std::{cmp::Reverse, collections::BTreeMap};

/// A key of a camera, relative to the camera's section, and the rule that its value breaks.
type Violation = (String, String);

/// The pipelines for the camera's source, best first. Only the one that the camera names, if it names one.
///
/// Errors ([`ErrorKind::Input`]): a key that breaks a rule; the text names both.
pub fn candidates(camera: &Camera) -> Result<Vec<Pipeline>, Error> {
    pipelines_for(camera, &camera.source).map_err(|violation| input_error(camera, violation))
}

/// The pipelines for the camera's `snapshot_source`, or for its only source.
///
/// Errors: as for [`candidates`].
pub fn snapshot_candidates(camera: &Camera) -> Result<Vec<Pipeline>, Error> {
    let Some(source) = &camera.snapshot_source else { return candidates(camera) };
    // `pipeline` and `options` are for the main stream. Options apply if this source's pipelines have them.
    let (kind, _) = kind_and_address(source);
    let is_known = |key: &String| all().values().any(|t| t.source == kind && t.options.contains_key(key));
    let options = camera.options.clone().into_iter().filter(|(key, _)| is_known(key)).collect();
    let camera = Camera { pipeline: None, options, ..camera.clone() };
    pipelines_for(&camera, source).map_err(|violation| input_error(&camera, violation))
}

/// The keys of a camera that break a rule of its templates, each with the rule.
pub fn validate(camera: &Camera) -> Vec<(String, String)> {
    pipelines_for(camera, &camera.source).err().into_iter().collect()
}

fn input_error(camera: &Camera, (key, rule): Violation) -> Error {
    Error::new(ErrorKind::Input, format!("cameras.{}.{key}: {rule}", camera.name))
}

fn pipelines_for(camera: &Camera, source: &Source) -> Result<Vec<Pipeline>, Violation> {
    let (kind, address) = kind_and_address(source);
    let all = all();
    let mut templates = matching(&all, camera.pipeline.as_deref(), kind)?;
    let preferred = preferred_template(source);
    templates.sort_by_key(|(name, template)| (Some(*name) != preferred, Reverse(template.rank)));
    let options = options_with_source(camera, source);
    check_options_known(&options, &templates)?;
    templates
        .into_iter()
        .map(|(name, template)| {
            template
                .fill_in(name, &options, address.as_deref())
                .map_err(|(key, rule)| (format!("options.{key}"), rule))
        })
        .collect()
}

/// The templates for a kind of source: the one that the camera names, or all.
fn matching<'a>(
    all: &'a BTreeMap<&'static str, Template>,
    pipeline: Option<&str>,
    kind: SourceKind,
) -> Result<Vec<(&'static str, &'a Template)>, Violation> {
    let violation = |rule: String| ("pipeline".to_string(), rule);
    let Some(name) = pipeline else {
        return Ok(all
            .iter()
            .map(|(&name, template)| (name, template))
            .filter(|(_, template)| template.source == kind)
            .collect());
    };
    match all.get_key_value(name) {
        Some((&name, template)) if template.source == kind => Ok(vec![(name, template)]),
        Some((name, template)) => {
            Err(violation(format!("pipeline {name:?} is for {}, not for this source", template.summary)))
        }
        None => {
            let known: Vec<&str> = all.keys().copied().collect();
            Err(violation(format!("there is no pipeline {name:?}, only {}", known.join(", "))))
        }
    }
}

/// The camera's options, with those that its source sets.
fn options_with_source(camera: &Camera, source: &Source) -> BTreeMap<String, OptionValue> {
    let mut options = camera.options.clone();
    match source {
        Source::Test { pattern } => {
            options.entry("pattern".into()).or_insert_with(|| OptionValue::Text(pattern.clone()));
        }
        Source::Custom { launch } => {
            options.insert("launch".into(), OptionValue::Text(launch.clone()));
        }
        _ => {}
    }
    options
}

fn check_options_known(
    options: &BTreeMap<String, OptionValue>,
    templates: &[(&str, &Template)],
) -> Result<(), Violation> {
    let mut known: Vec<&str> =
        templates.iter().flat_map(|(_, template)| template.options.keys().map(String::as_str)).collect();
    known.sort();
    known.dedup();
    let Some(key) = options.keys().find(|key| !known.contains(&key.as_str())) else { return Ok(()) };
    let names: Vec<&str> = templates.iter().map(|(name, _)| *name).collect();
    let known = if known.is_empty() { "none".to_string() } else { known.join(", ") };
    Err(("options".to_string(), format!("there is no option {key:?} in {}, only {known}", names.join(", "))))
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

/// The template that is tried first because of how the URL's path ends.
fn preferred_template(source: &Source) -> Option<&'static str> {
    let Source::Http { url } = source else { return None };
    let path = url.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase();
    let ends_in = |endings: &[&str]| endings.iter().any(|ending| path.ends_with(ending));
    if ends_in(&[".m3u8"]) {
        Some("http-hls")
    } else if ends_in(&[".jpg", ".jpeg"]) {
        Some("http-stills")
    } else if ends_in(&[".flv", ".ts", ".mp4", ".mkv", ".webm"]) {
        Some("http-stream")
    } else {
        None
    }
}
