//! The network of a process, from a file or built in: its engine, its labels and its identity.

use crate::{
    config::{self, Naming, Network},
    error::{Error, ErrorKind},
    vision::{groups::Groups, head::Score, labels::Labels},
    wire::messages,
};
use sha2::{Digest, Sha256};
use std::{borrow::Cow, collections::BTreeMap, fmt::Write, path::Path, sync::Arc};

const BUILT_IN_NAME: &str = "squeezenet_v1.1_int8";
const BUILT_IN_MODEL: &[u8] = include_bytes!("../../models/squeezenet_v1.1_int8.tflite");
const BUILT_IN_LABELS: &[u8] = include_bytes!("../../models/labels.txt");

/// A model that is ready to run.
#[derive(Clone)]
pub struct Model {
    /// The engine that runs the model.
    pub engine: Arc<dyn engine::Engine>,
    /// Names of the model's classes.
    pub labels: Arc<Labels>,
    /// Groups of the classes.
    pub groups: Arc<Groups>,
    /// Identity of the model, as sent in messages.
    pub identity: Arc<messages::Model>,
}

impl Model {
    /// Opens the configured model and labels, or the built-in ones, with the user's `custom` groups.
    ///
    /// Errors ([`ErrorKind::Input`]): a file cannot be read, the engine rejects the model, the labels do not
    /// match the model, or a group has a member that does not exist.
    pub fn open(network: &Network, custom: &BTreeMap<String, Vec<String>>) -> Result<Model, Error> {
        let (engine, identity) = open_engine(network)?;
        let labels = read_labels(network, Some(engine.signature().classes))?;
        let groups = Groups::new(&labels, custom).map_err(|problems| {
            let line =
                |(name, rule): &(String, String)| format!("{} {rule}", config::dotted(&["groups", name]));
            Error::new(ErrorKind::Input, problems.iter().map(line).collect::<Vec<_>>().join("; "))
        })?;
        Ok(Model { engine, labels: Arc::new(labels), groups: Arc::new(groups), identity: Arc::new(identity) })
    }

    /// Adds the labels to the best classes.
    pub fn name_classes(&self, top: &[Score]) -> Vec<messages::Class> {
        let name = |score: &Score| messages::Class {
            index: score.index,
            label: self.labels.get(score.index).to_string(),
            score: score.score,
        };
        top.iter().map(name).collect()
    }
}

/// Validates the names of classes and groups in the configuration against the network's labels. Returns key
/// and broken rule of each problem. Files that cannot be read are not reported here, because [`Model::open`]
/// does.
pub fn validate(naming: &Naming<'_>) -> Vec<(String, String)> {
    let Ok(labels) = read_labels(naming.network, None) else { return Vec::new() };
    let (groups, problems) = Groups::new_lenient(&labels, naming.groups);
    let mut problems: Vec<(String, String)> =
        problems.into_iter().map(|(name, rule)| (config::dotted(&["groups", &name]), rule)).collect();
    for (key, labels) in naming.labels {
        problems.extend(groups.validate_labels(labels).into_iter().map(|rule| (key.clone(), rule)));
    }
    problems
}

/// Reads the labels. `classes` is the number of the model's classes, if known.
fn read_labels(network: &Network, classes: Option<usize>) -> Result<Labels, Error> {
    let file = network.labels.as_deref();
    let bytes = read(file, BUILT_IN_LABELS, "labels")?;
    let count_lines =
        || bytes.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).count();
    Labels::parse(&bytes, &source(file), classes.unwrap_or_else(count_lines))
}

/// Opens the configured model, or the built-in one, without labels. Returns its engine and its identity.
///
/// Errors ([`ErrorKind::Input`]): the file cannot be read, or the engine rejects the model.
pub fn open_engine(network: &Network) -> Result<(Arc<dyn engine::Engine>, messages::Model), Error> {
    let file = network.model.as_deref();
    let bytes = read(file, BUILT_IN_MODEL, "model")?;
    let message = format!("model {}", source(file));
    let engine = engine::open(&bytes, network.engine, network.kernels)
        .map_err(|e| Error::caused(ErrorKind::Input, message, e))?;
    let name = match file.and_then(Path::file_stem) {
        Some(stem) => stem.to_string_lossy().into_owned(),
        None => BUILT_IN_NAME.to_string(),
    };
    let identity = messages::Model { name, sha256: sha256_hex(&bytes), engine: engine.name() };
    Ok((engine, identity))
}

/// Names the file in errors.
fn source(file: Option<&Path>) -> String {
    file.map_or_else(|| "built in".to_string(), |file| file.display().to_string())
}

fn read(file: Option<&Path>, built_in: &'static [u8], what: &str) -> Result<Cow<'static, [u8]>, Error> {
    let Some(file) = file else { return Ok(Cow::Borrowed(built_in)) };
    match std::fs::read(file) {
        Ok(bytes) => Ok(Cow::Owned(bytes)),
        Err(e) => Err(Error::caused(ErrorKind::Input, format!("{what} {}", file.display()), e)),
    }
}

fn sha256_hex(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        write!(hex, "{byte:02x}").expect("writing to a string works");
    }
    hex
}
