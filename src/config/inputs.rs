//! What a configuration is loaded from, and the validators that the caller supplies.
//!
//! Environment, flags and systemd's directories are passed in, so loading depends on nothing but its inputs
//! and the files that they name.

use super::{
    page,
    types::{Camera, Network},
};
use std::{collections::BTreeMap, path::PathBuf};

/// Everything that a configuration is loaded from.
#[derive(Clone, Default)]
pub struct Inputs {
    /// The main file: the lowest layer above the defaults.
    pub main: Main,
    /// All environment variables. Those that start with `CAMFIRE_` are used, such as
    /// `CAMFIRE_MQTT__PORT=1884`.
    pub environment: Vec<(String, String)>,
    /// `--set`, split at the first `=`, such as `("mqtt.port", "1884")`; later ones override earlier ones.
    pub flags: Vec<(String, String)>,
    /// systemd's `$CREDENTIALS_DIRECTORY`, which may contain passwords.
    pub credentials: Option<PathBuf>,
    /// systemd's `$STATE_DIRECTORY`, the default place for the outbox and for pictures.
    pub state: Option<PathBuf>,
    /// The settings that were made on the page.
    pub page: page::Source,
    /// Validates each camera against the pipeline templates.
    pub validate_camera: Option<CameraValidator>,
    /// Validates labels and groups against the network.
    pub validate: Option<Validator>,
}

/// Returns each key of the camera that breaks a rule, relative to the camera's section, and the rule.
pub type CameraValidator = fn(&Camera) -> Vec<(String, String)>;

/// Validates names against the network.
pub type Validator = fn(&Naming<'_>) -> Findings;

/// What a validator has found: keys, each with a text for the user.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// Keys that break a rule, and the rule.
    pub problems: Vec<(String, String)>,
    /// Keys that are valid and probably not meant so, and why.
    pub warnings: Vec<(String, String)>,
}

/// The parts of a configuration that refer to the network's classes.
pub struct Naming<'a> {
    /// The network.
    pub network: &'a Network,
    /// The user's groups: names for sets of its classes.
    pub groups: &'a BTreeMap<String, Vec<String>>,
    /// The lists of labels, each with its key.
    pub labels: &'a [(String, Vec<String>)],
}

/// The main file. `conf.d/*.toml` next to it is read as well.
#[derive(Debug, Clone, Default)]
pub enum Main {
    /// `/etc/camfire/camfire.toml`, which may be missing.
    #[default]
    Default,
    /// This file, which must exist.
    File(PathBuf),
    /// Text from the binary, without a `conf.d`.
    Text {
        /// Its name in error messages.
        name: String,
        /// TOML.
        text: String,
    },
}
