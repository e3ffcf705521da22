//! The settings that were made on the web server's page: a layer of its own between `conf.d` and the
//! environment.
//!
//! The file can hold what is drawn on a camera's picture and a few numbers, and nothing else: no source, no
//! file name, no launch line. It changes cameras that exist, and adds none.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf};

/// Name of the file in the state directory.
pub const FILE_NAME: &str = "page.toml";

/// Corners of a polygon, as fractions of the image's width and height.
type Corners = Vec<[f64; 2]>;

/// Where the layer comes from.
#[derive(Debug, Clone, Default)]
pub enum Source {
    /// There is none.
    #[default]
    None,
    /// This file, which may be missing.
    File(PathBuf),
    /// A text that is about to be written.
    Text(String),
}

/// The contents of the file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The settings of each camera, by its name. Cameras that are not configured are ignored and kept.
    #[serde(default)]
    pub cameras: BTreeMap<String, CameraSettings>,
}

/// The settings of a camera. Those that are None are the configuration's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CameraSettings {
    /// `cameras.NAME.motion_threshold`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub motion_threshold: Option<f64>,
    /// `cameras.NAME.min_size`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_size: Option<f64>,
    /// `cameras.NAME.score`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// `cameras.NAME.masks`: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masks: Option<Vec<Corners>>,
    /// `cameras.NAME.zones`: all of them. Those of the configuration no longer apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zones: Option<BTreeMap<String, Corners>>,
    /// Boxes of regions that the configuration has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regions: Option<BTreeMap<String, RegionSettings>>,
}

/// The settings of a region.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegionSettings {
    /// `cameras.NAME.regions.NAME.box`
    pub r#box: [f64; 4],
}

impl Settings {
    /// Reads a file's contents. Errors: it is not TOML, or has other keys.
    pub fn parse(text: &str) -> Result<Settings, String> {
        toml::from_str(text).map_err(|error| error.message().to_string())
    }

    /// The file's contents.
    pub fn to_text(&self) -> String {
        let toml = toml::to_string(self).expect("tables have string keys and finite numbers");
        format!(
            "# Settings that were made on the page of the web server. Remove the file to forget them.\n{toml}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_holds_what_is_drawn_and_nothing_else() {
        let camera = CameraSettings {
            motion_threshold: Some(12.0),
            masks: Some(vec![vec![[0.0, 0.0], [0.2, 0.0], [0.2, 0.1]]]),
            zones: Some(BTreeMap::from([("lawn".into(), vec![[0.1, 0.5], [0.9, 0.5], [0.5, 0.9]])])),
            regions: Some(BTreeMap::from([("gate".into(), RegionSettings { r#box: [0.1, 0.2, 0.3, 0.4] })])),
            ..CameraSettings::default()
        };
        let settings = Settings { cameras: BTreeMap::from([("yard".into(), camera)]) };
        assert_eq!(Settings::parse(&settings.to_text()).unwrap(), settings);
        assert_eq!(Settings::parse("").unwrap(), Settings::default());
        for text in [
            "[cameras.yard]\nsource = 'file:///etc/passwd'",
            "[cameras.yard]\nlaunch = 'x'",
            "[mqtt]\nhost = 'x'",
            "[cameras.yard.regions.gate]\nlabels = ['a']",
            "[cameras.yard",
        ] {
            assert!(Settings::parse(text).is_err(), "{text}");
        }
    }
}
