//! The networks of a process, from files or built in: their engines, heads and labels, and their identity.

use crate::{
    config::{self, Naming, Network},
    error::{Error, ErrorKind},
    files, hex,
    vision::{
        head::{Score, file::HeadFile},
        labels::Labels,
        taxonomy::{LabelProblem, Taxonomy},
    },
    wire::messages,
    workers::detector::DetectorModel,
};
use sha2::{Digest, Sha256};
use std::{borrow::Cow, collections::BTreeMap, path::Path, sync::Arc};

/// Maximum size of a model, a head or a list of labels.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// The built-in network with ImageNet's classes.
const IMAGENET: NetworkFile<'_> =
    NetworkFile::BuiltIn("squeezenet_v1.1_int8", include_bytes!("../../models/squeezenet_v1.1_int8.tflite"));
const IMAGENET_LABELS: &[u8] = include_bytes!("../../models/labels.txt");
/// The built-in network of the everyday labels.
const EVERYDAY: NetworkFile<'_> =
    NetworkFile::BuiltIn("everyday_int8", include_bytes!("../../models/everyday/everyday_int8.tflite"));
const EVERYDAY_HEAD: &[u8] = include_bytes!("../../models/everyday/everyday.head.safetensors");
/// The built-in head that reads the network with ImageNet's classes.
const SECOND_HEAD: &[u8] = include_bytes!("../../models/everyday/squeezenet_v1.1.head.safetensors");

/// Where a network comes from.
#[derive(Clone, Copy)]
enum NetworkFile<'a> {
    /// The binary: its name and its bytes.
    BuiltIn(&'static str, &'static [u8]),
    /// A file.
    File(&'a Path),
}

/// A model that is ready to run.
#[derive(Clone)]
pub struct Model {
    /// The engine that runs the network with the classes.
    pub engine: Arc<dyn engine::Engine>,
    /// The everyday labels. None if there are none.
    pub everyday: Option<Everyday>,
    /// Finds objects beside motion. None: motion alone does.
    pub detector: Option<DetectorModel>,
    /// Names of the network's classes.
    pub labels: Arc<Labels>,
    /// The labels of objects.
    pub taxonomy: Arc<Taxonomy>,
    /// Identity of the model, as sent in messages.
    pub identity: Arc<messages::Model>,
}

/// The head of the everyday labels.
#[derive(Clone)]
pub struct Everyday {
    /// The head.
    pub head: Arc<HeadFile>,
    /// The engine that runs the head's network. None: the head reads the maps of [`Model::engine`].
    pub network: Option<Arc<dyn engine::Engine>>,
    /// A head with the same labels that reads the maps of [`Model::engine`], for a second opinion.
    pub second_head: Option<Arc<HeadFile>>,
}

impl Model {
    /// Opens the configured network, labels and everyday head, or the built-in ones, with the user's `custom`
    /// groups.
    ///
    /// Errors ([`ErrorKind::Input`]): a file cannot be read, the engine rejects the network, the labels do
    /// not match the network, the head was made for another one, or a group has a member that does not exist.
    pub fn open(network: &Network, custom: &BTreeMap<String, Vec<String>>) -> Result<Model, Error> {
        let Some(HeadSource { head, identity: head_identity, source, model }) = read_head(network)? else {
            let (engine, identity) = open_engine(network)?;
            return Model::with_labels(network, custom, engine, None, identity);
        };
        let maps: Vec<&str> = head.maps.iter().map(String::as_str).collect();
        let own = model.map(|model| open_network(network, model, &maps)).transpose()?;
        // The built-in heads have the same labels, which a test checks.
        let second_head = match network.everyday {
            config::Everyday::BuiltIn => Some(HeadFile::parse(SECOND_HEAD, "second, built in")?),
            _ => None,
        };
        let shared_maps = match (&own, &second_head) {
            (None, _) => maps.clone(),
            (Some(_), Some(second)) => second.maps.iter().map(String::as_str).collect(),
            (Some(_), None) => Vec::new(),
        };
        let (engine, mut identity) = open_network(network, classes_of(network), &shared_maps)?;
        if let Some(second) = &second_head {
            second.check_backbone("second, built in", &identity.name, &identity.sha256)?;
        }
        let (head_engine, head_network) =
            own.as_ref().map_or((&engine, &identity), |(engine, identity)| (engine, identity));
        head.check_backbone(&source, &head_network.name, &head_network.sha256)?;
        let inputs: usize = head_engine.maps().iter().map(|map| map.channels).sum();
        let expected = head.layers.layers[0].inputs();
        if inputs != expected {
            let message =
                format!("head {source}: has {expected} inputs, but its maps have {inputs} channels");
            return Err(Error::new(ErrorKind::Input, message));
        }
        identity.everyday = Some(messages::Head { network: head_network.sha256.clone(), ..head_identity });
        let everyday = Everyday {
            head: Arc::new(head),
            network: own.map(|(engine, _)| engine),
            second_head: second_head.map(Arc::new),
        };
        Model::with_labels(network, custom, engine, Some(everyday), identity)
    }

    /// Adds the labels to networks that are open.
    fn with_labels(
        network: &Network,
        custom: &BTreeMap<String, Vec<String>>,
        engine: Arc<dyn engine::Engine>,
        everyday: Option<Everyday>,
        mut identity: messages::Model,
    ) -> Result<Model, Error> {
        let labels = read_labels(network, Some(engine.signature().classes))?;
        let tree = everyday.as_ref().map(|everyday| &everyday.head.tree);
        let taxonomy = Taxonomy::new(tree, &labels, custom).map_err(|problems| {
            let line =
                |(name, rule): &(String, String)| format!("{} {rule}", config::dotted(&["groups", name]));
            Error::new(ErrorKind::Input, problems.iter().map(line).collect::<Vec<_>>().join("; "))
        })?;
        let detector = match &network.detector {
            config::Detector::Motion => None,
            config::Detector::BuiltIn => Some(DetectorModel::open(None, network)?),
            config::Detector::File(file) => Some(DetectorModel::open(Some(file), network)?),
        };
        if let Some(detector) = &detector {
            detector.check_labels(&taxonomy)?;
            identity.detector = Some(detector.identity());
        }
        Ok(Model {
            engine,
            everyday,
            detector,
            labels: Arc::new(labels),
            taxonomy: Arc::new(taxonomy),
            identity: Arc::new(identity),
        })
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

/// Validates the names of labels and groups in the configuration against the network and its head. A label
/// that only the built-in model gives is a warning. Files that cannot be read are not reported here, because
/// [`Model::open`] does.
pub fn validate(naming: &Naming<'_>) -> config::Findings {
    let (Ok(labels), Ok(head)) = (read_labels(naming.network, None), read_head(naming.network)) else {
        return config::Findings::default();
    };
    let tree = head.as_ref().map(|source| &source.head.tree);
    let (taxonomy, problems) = Taxonomy::new_lenient(tree, &labels, naming.groups);
    let mut problems: Vec<(String, String)> =
        problems.into_iter().map(|(name, rule)| (config::dotted(&["groups", &name]), rule)).collect();
    let mut warnings = Vec::new();
    let built_in = built_in_labels();
    for (key, labels) in naming.labels {
        for problem in taxonomy.validate_labels(labels, &built_in) {
            match problem {
                LabelProblem::Unknown(rule) => problems.push((key.clone(), rule)),
                LabelProblem::Never(text) => warnings.push((key.clone(), text)),
            }
        }
    }
    config::Findings { problems, warnings }
}

/// The labels of the built-in model.
fn built_in_labels() -> Vec<String> {
    let built_in = Network::default();
    let (Ok(labels), Ok(head)) = (read_labels(&built_in, None), read_head(&built_in)) else {
        return Vec::new();
    };
    let tree = head.as_ref().map(|source| &source.head.tree);
    Taxonomy::new_lenient(tree, &labels, &BTreeMap::new()).0.names().map(str::to_string).collect()
}

/// Reads the labels. `classes` is the number of the model's classes, if known.
fn read_labels(network: &Network, classes: Option<usize>) -> Result<Labels, Error> {
    let file = network.labels.as_deref();
    let bytes = read(file, IMAGENET_LABELS, "labels")?;
    let count_lines =
        || bytes.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).count();
    Labels::parse(&bytes, &source(file), classes.unwrap_or_else(count_lines))
}

/// A head file that was read.
struct HeadSource<'a> {
    head: HeadFile,
    identity: messages::Head,
    /// Names the file in errors.
    source: String,
    /// The head's network. None if it is that with the classes.
    model: Option<NetworkFile<'a>>,
}

/// Reads the everyday head. None if the configuration wants none.
fn read_head(network: &Network) -> Result<Option<HeadSource<'_>>, Error> {
    let (file, model) = match &network.everyday {
        config::Everyday::Off => return Ok(None),
        config::Everyday::BuiltIn if network.model.is_some() => return Ok(None),
        config::Everyday::BuiltIn => (None, Some(EVERYDAY)),
        config::Everyday::Head { head, model } => {
            (Some(head.as_path()), model.as_deref().map(NetworkFile::File))
        }
    };
    let bytes = read(file, EVERYDAY_HEAD, "head")?;
    let source = source(file);
    let head = HeadFile::parse(&bytes, &source)?;
    let identity = messages::Head {
        name: head.name.clone(),
        sha256: hex::encode(&Sha256::digest(&bytes)),
        network: String::new(),
    };
    Ok(Some(HeadSource { head, identity, source, model }))
}

/// Opens the configured network, or the built-in one, without labels and heads. Returns its engine and its
/// identity.
///
/// Errors ([`ErrorKind::Input`]): the file cannot be read, or the engine rejects the network.
pub fn open_engine(network: &Network) -> Result<(Arc<dyn engine::Engine>, messages::Model), Error> {
    open_network(network, classes_of(network), &[])
}

/// Opens the built-in network of the everyday labels, without its head. Returns its engine and its identity.
///
/// Errors ([`ErrorKind::Input`]): the selected engine rejects it.
pub fn open_everyday_engine(network: &Network) -> Result<(Arc<dyn engine::Engine>, messages::Model), Error> {
    open_network(network, EVERYDAY, &[])
}

/// The network with the classes.
fn classes_of(network: &Network) -> NetworkFile<'_> {
    network.model.as_deref().map_or(IMAGENET, NetworkFile::File)
}

/// Opens a network with the engine that `network` selects.
fn open_network(
    network: &Network,
    file: NetworkFile<'_>,
    maps: &[&str],
) -> Result<(Arc<dyn engine::Engine>, messages::Model), Error> {
    let (name, bytes, source) = match file {
        NetworkFile::BuiltIn(name, bytes) => {
            (name.to_string(), Cow::Borrowed(bytes), format!("{name} (built in)"))
        }
        NetworkFile::File(file) => {
            let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            (stem, read(Some(file), &[], "model")?, file.display().to_string())
        }
    };
    let engine = engine::open(&bytes, network.engine, network.kernels, maps)
        .map_err(|e| Error::caused(ErrorKind::Input, format!("model {source}"), e))?;
    let identity = messages::Model {
        name,
        sha256: hex::encode(&Sha256::digest(&bytes)),
        engine: engine.name(),
        everyday: None,
        detector: None,
    };
    Ok((engine, identity))
}

/// Names the file in errors.
fn source(file: Option<&Path>) -> String {
    file.map_or_else(|| "built in".to_string(), |file| file.display().to_string())
}

fn read(file: Option<&Path>, built_in: &'static [u8], what: &str) -> Result<Cow<'static, [u8]>, Error> {
    let Some(file) = file else { return Ok(Cow::Borrowed(built_in)) };
    match files::read_bounded(file, MAX_FILE_BYTES) {
        Ok(bytes) => Ok(Cow::Owned(bytes)),
        Err(e) => Err(Error::caused(ErrorKind::Input, format!("{what} {}", file.display()), e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_heads_have_the_same_outputs() {
        let names = |head: &[u8]| {
            let tree = HeadFile::parse(head, "h").unwrap().tree;
            let name = |label: &Option<usize>| label.map(|label| tree.labels[label].name.clone());
            tree.outputs.iter().map(name).collect::<Vec<_>>()
        };
        assert_eq!(names(EVERYDAY_HEAD), names(SECOND_HEAD));
        let model = Model::open(&Network::default(), &BTreeMap::new()).unwrap();
        assert!(model.everyday.is_some_and(|everyday| everyday.second_head.is_some()));
        let other = Network { everyday: config::Everyday::Off, ..Network::default() };
        assert!(Model::open(&other, &BTreeMap::new()).unwrap().everyday.is_none());
    }
}
