//! Head files: a trained head with its labels, in the safetensors format.
//!
//! The tensors `dense0.weight`, `dense0.bias`, `dense1.weight`, ... are the layers, f32, weights as outputs x
//! inputs. The metadata key `camfire.head` holds the rest as JSON: see [`Metadata`].
//! models/everyday/README.md describes the format for those who train heads.

use super::trained::{Dense, Layers};
use crate::error::{Error, ErrorKind};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

/// The metadata key.
const KEY: &str = "camfire.head";
/// The version of the format that is read.
const VERSION: u32 = 1;
/// Maximum number of outputs, and of labels. Trees are searched linearly.
const MAX_LABELS: usize = 1000;

/// A head and what it says about itself.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadFile {
    /// The head's name.
    pub name: String,
    /// SHA-256 of the network that it was trained on, in hexadecimal.
    pub backbone_sha256: String,
    /// The network's maps whose means the head reads, in this order.
    pub maps: Vec<String>,
    /// The labels.
    pub tree: Tree,
    /// The layers.
    pub layers: Layers,
}

/// The labels of a head, from general to specific.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    /// What each output stands for. None: for none of the labels.
    pub outputs: Vec<Option<usize>>,
    /// The labels. A parent comes before its children.
    pub labels: Vec<TreeLabel>,
}

/// A label of a [`Tree`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TreeLabel {
    /// Its name.
    pub name: String,
    /// The more general label.
    #[serde(skip)]
    pub parent: Option<usize>,
    #[serde(default, rename = "parent")]
    parent_name: Option<String>,
    /// Minimum probability with which the label is right often enough, 0 to 1.
    pub threshold: f32,
}

/// The JSON under [`KEY`].
#[derive(Deserialize)]
struct Metadata {
    /// [`VERSION`].
    version: u32,
    name: String,
    backbone_sha256: String,
    maps: Vec<String>,
    /// The name of each output: a label, or `none`.
    outputs: Vec<String>,
    /// The name of the output that stands for none of the labels.
    none: String,
    /// All labels. Each one but inner ones must be an output.
    labels: Vec<TreeLabel>,
    temperature: f32,
}

impl HeadFile {
    /// Parses a head file. `source` names it in errors.
    ///
    /// Errors ([`ErrorKind::Input`]): the file is damaged or incomplete, a number is not finite, layers do
    /// not fit each other, or the labels contradict each other.
    pub fn parse(bytes: &[u8], source: &str) -> Result<HeadFile, Error> {
        let refuse = |reason: String| Error::new(ErrorKind::Input, format!("head {source}: {reason}"));
        let damaged = |e| refuse(format!("is damaged or no safetensors file: {e}"));
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
        let json = header.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
        let json = json.ok_or_else(|| refuse(format!("has no metadata key {KEY}, so it is no head")))?;
        let metadata: Metadata =
            serde_json::from_str(json).map_err(|e| refuse(format!("metadata {KEY}: {e}")))?;
        let tensors = SafeTensors::deserialize(bytes).map_err(damaged)?;
        let layers = read_layers(&tensors).map_err(refuse)?;
        parse(metadata, layers).map_err(refuse)
    }

    /// Checks that the head was trained on the network `name` with this SHA-256.
    ///
    /// Errors ([`ErrorKind::Input`]): it was not.
    pub fn check_backbone(&self, source: &str, name: &str, sha256: &str) -> Result<(), Error> {
        if self.backbone_sha256 == sha256 {
            return Ok(());
        }
        let start = |hash: &str| hash.chars().take(12).collect::<String>();
        let message = format!(
            "head {source}: was trained on a network with SHA-256 {}..., but {name} has {}...",
            start(&self.backbone_sha256),
            start(sha256)
        );
        Err(Error::new(ErrorKind::Input, message))
    }
}

fn parse(metadata: Metadata, layers: Vec<Dense>) -> Result<HeadFile, String> {
    let Metadata { version, name, backbone_sha256, maps, outputs, none, mut labels, temperature } = metadata;
    if version != VERSION {
        return Err(format!("has format version {version}; this camfire reads version {VERSION}"));
    }
    if !(temperature.is_finite() && temperature > 0.0) {
        return Err(format!("has the temperature {temperature}, which must be above 0"));
    }
    if outputs.is_empty() || outputs.len() > MAX_LABELS || labels.len() > MAX_LABELS {
        return Err(format!("must have 1 to {MAX_LABELS} outputs and labels"));
    }
    if maps.is_empty() {
        return Err("reads no map".into());
    }
    let rows = layers.last().map_or(0, |layer| layer.bias.len());
    if rows != outputs.len() {
        return Err(format!("names {} outputs, but its last layer has {rows}", outputs.len()));
    }
    for index in 0..labels.len() {
        let (earlier, TreeLabel { name, parent_name, threshold, .. }) = (&labels[..index], &labels[index]);
        let find = |name: &str| earlier.iter().position(|label| label.name == name);
        if name.is_empty() || *name == none || find(name).is_some() {
            return Err(format!("label {name:?} is empty, the name of no label, or there twice"));
        }
        if !(0.0..=1.0).contains(threshold) {
            return Err(format!("label {name:?} has the threshold {threshold}, which must be from 0 to 1"));
        }
        let parent = match parent_name {
            Some(parent) => {
                let missing =
                    || format!("label {name:?} has the parent {parent:?}, which no label before it is");
                Some(find(parent).ok_or_else(missing)?)
            }
            None => None,
        };
        labels[index].parent = parent;
    }
    let output = |name: &String| {
        let label = labels.iter().position(|label| label.name == *name);
        if label.is_none() && *name != none {
            return Err(format!("output {name:?} is no label"));
        }
        Ok(label)
    };
    let outputs = outputs.iter().map(output).collect::<Result<Vec<_>, _>>()?;
    for (index, label) in labels.iter().enumerate() {
        let has_output = outputs.contains(&Some(index));
        let has_children = labels.iter().any(|child| child.parent == Some(index));
        if outputs.iter().filter(|output| **output == Some(index)).count() > 1 {
            return Err(format!("label {:?} has two outputs", label.name));
        }
        if !has_output && !has_children {
            return Err(format!("label {:?} has no output", label.name));
        }
    }
    let layers = Layers { layers, temperature };
    Ok(HeadFile { name, backbone_sha256, maps, tree: Tree { outputs, labels }, layers })
}

/// Reads `dense0`, `dense1`, ... and checks that each fits the next.
fn read_layers(tensors: &SafeTensors<'_>) -> Result<Vec<Dense>, String> {
    let mut layers: Vec<Dense> = Vec::new();
    loop {
        let layer = format!("dense{}", layers.len());
        if tensors.tensor(&format!("{layer}.weight")).is_err() {
            break;
        }
        let (weights, shape) = read_tensor(tensors, &format!("{layer}.weight"))?;
        let (bias, bias_shape) = read_tensor(tensors, &format!("{layer}.bias"))?;
        let ([outputs, inputs], [biases]) = (&shape[..], &bias_shape[..]) else {
            return Err(format!("{layer} must have a weight of two dimensions and a bias of one"));
        };
        if *outputs == 0 || *inputs == 0 || outputs != biases {
            return Err(format!("{layer} has {outputs} x {inputs} weights and {biases} biases"));
        }
        if let Some(before) = layers.last().map(|layer| layer.bias.len()).filter(|before| before != inputs) {
            return Err(format!("{layer} has {inputs} inputs, but the layer before it has {before} outputs"));
        }
        layers.push(Dense { weights, bias });
    }
    if layers.is_empty() {
        return Err("has no layer dense0".into());
    }
    Ok(layers)
}

/// Reads a tensor and returns its values and its shape.
fn read_tensor(tensors: &SafeTensors<'_>, name: &str) -> Result<(Vec<f32>, Vec<usize>), String> {
    let tensor = tensors.tensor(name).map_err(|e| format!("{name}: {e}"))?;
    if tensor.dtype() != Dtype::F32 {
        return Err(format!("{name} is {:?}; it must be F32", tensor.dtype()));
    }
    let to_f32 = |bytes: &[u8; 4]| f32::from_le_bytes(*bytes);
    let values: Vec<f32> = tensor.data().as_chunks().0.iter().map(to_f32).collect();
    if let Some(index) = values.iter().position(|value| !value.is_finite()) {
        return Err(format!("{name}: value {index} is {}", values[index]));
    }
    Ok((values, tensor.shape().to_vec()))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use safetensors::tensor::TensorView;
    use serde_json::{Value, json};
    use std::collections::HashMap;

    /// Metadata of a head with the outputs person, car, animal (of no named kind), cat and none.
    pub fn metadata() -> Value {
        json!({
            "version": 1,
            "name": "test",
            "backbone_sha256": "ab12",
            "maps": ["m"],
            "outputs": ["person", "car", "animal", "cat", "none"],
            "none": "none",
            "labels": [
                { "name": "person", "threshold": 0.5 },
                { "name": "vehicle", "threshold": 0.5 },
                { "name": "car", "parent": "vehicle", "threshold": 0.7 },
                { "name": "animal", "threshold": 0.5 },
                { "name": "cat", "parent": "animal", "threshold": 0.6 },
            ],
            "temperature": 1.0,
        })
    }

    /// A head file with one layer of 5 x 2 weights.
    pub fn file(metadata: &Value, weights: &[f32]) -> Vec<u8> {
        let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let (weights, bias) = (bytes(weights), bytes(&[0.0; 5]));
        let tensors = [
            ("dense0.weight", TensorView::new(Dtype::F32, vec![5, weights.len() / 20], &weights).unwrap()),
            ("dense0.bias", TensorView::new(Dtype::F32, vec![5], &bias).unwrap()),
        ];
        let metadata = HashMap::from([(KEY.to_string(), metadata.to_string())]);
        safetensors::serialize(tensors, Some(metadata)).unwrap()
    }

    fn error(bytes: &[u8]) -> String {
        HeadFile::parse(bytes, "h").unwrap_err().to_string()
    }

    #[test]
    fn a_head_file_has_layers_and_a_tree_of_labels() {
        let head = HeadFile::parse(&file(&metadata(), &[0.5; 10]), "h").unwrap();
        assert_eq!((head.name.as_str(), head.maps.as_slice()), ("test", &["m".to_string()][..]));
        assert_eq!(head.tree.outputs, [Some(0), Some(2), Some(3), Some(4), None]);
        let parents: Vec<Option<usize>> = head.tree.labels.iter().map(|label| label.parent).collect();
        assert_eq!(parents, [None, None, Some(1), None, Some(3)]);
        assert_eq!(head.layers.layers[0].inputs(), 2);
        assert!(head.check_backbone("h", "net", "ab12").is_ok());
        assert_eq!(
            head.check_backbone("h", "net", "cd34").unwrap_err().to_string(),
            "head h: was trained on a network with SHA-256 ab12..., but net has cd34..."
        );
    }

    #[test]
    fn damaged_files_are_refused_wherever_they_are_cut() {
        let whole = file(&metadata(), &[0.5; 10]);
        for len in 0..whole.len() {
            let reason = error(&whole[..len]);
            assert!(reason.starts_with("head h: is damaged or no safetensors file"), "{len}: {reason}");
        }
        for position in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[position] ^= 0xff;
            drop(HeadFile::parse(&damaged, "h"));
        }
    }

    #[test]
    fn numbers_must_be_finite_and_shapes_must_fit() {
        let mut weights = [0.5; 10];
        weights[3] = f32::NAN;
        assert_eq!(error(&file(&metadata(), &weights)), "head h: dense0.weight: value 3 is NaN");
        weights[3] = f32::INFINITY;
        assert_eq!(error(&file(&metadata(), &weights)), "head h: dense0.weight: value 3 is inf");
        let mut fewer = metadata();
        fewer["outputs"] = json!(["person", "none"]);
        let reason = error(&file(&fewer, &[0.5; 10]));
        assert_eq!(reason, "head h: names 2 outputs, but its last layer has 5");
    }

    #[test]
    fn contradictory_labels_are_refused() {
        let refused = |change: fn(&mut Value)| {
            let mut metadata = metadata();
            change(&mut metadata);
            error(&file(&metadata, &[0.5; 10]))
        };
        type Case = (fn(&mut Value), &'static str);
        let cases: [Case; 9] = [
            (|m| m["version"] = json!(2), "head h: has format version 2; this camfire reads version 1"),
            (|m| m["temperature"] = json!(0), "head h: has the temperature 0, which must be above 0"),
            (|m| m["maps"] = json!([]), "head h: reads no map"),
            (|m| m["outputs"][0] = json!("dog"), "head h: output \"dog\" is no label"),
            (|m| m["outputs"][0] = json!("cat"), "head h: label \"person\" has no output"),
            (
                |m| m["labels"][0]["threshold"] = json!(1.5),
                "head h: label \"person\" has the threshold 1.5, which must be from 0 to 1",
            ),
            (
                |m| m["labels"][2]["parent"] = json!("cat"),
                "head h: label \"car\" has the parent \"cat\", which no label before it is",
            ),
            (
                |m| m["labels"][0]["name"] = json!("none"),
                "head h: label \"none\" is empty, the name of no label, or there twice",
            ),
            (|m| m["labels"] = json!(3), "head h: metadata camfire.head: invalid type"),
        ];
        for (change, expected) in cases {
            let reason = refused(change);
            assert!(reason.starts_with(expected), "{reason}");
        }
    }
}
