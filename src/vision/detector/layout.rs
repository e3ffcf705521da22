//! Detector files: what the outputs of an object detection network mean, in a TOML file beside the network.
//!
//! models/detector/README.md describes the keys for users. A file that contradicts itself or the network is
//! refused, with the key or the output.

use serde::Deserialize;
use std::path::Path;

/// The version of the format that is read.
const VERSION: u32 = 1;
/// Maximum number of labels, strides and anchors per cell.
const MAX_LABELS: usize = 1000;
const MAX_STRIDES: usize = 16;
const MAX_ANCHORS: usize = 64;
/// Maximum number of inputs of other sizes.
const MAX_OTHER_SIZES: usize = 4;
/// Maximum number of positions at which a network looks for objects.
const MAX_POINTS: usize = 1 << 20;

/// The contents of a detector file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    version: u32,
    /// The detector's name, for messages.
    pub name: String,
    /// The label of each class, in the order of the outputs. Classes with an empty label are ignored.
    pub labels: Vec<String>,
    /// Minimum score of an object.
    pub min_score: f32,
    /// Of two boxes with the same label that overlap by more than this (intersection over union), one stays.
    #[serde(default = "default_max_overlap")]
    pub max_overlap: f64,
    /// Order of the colours in the input.
    #[serde(default)]
    pub colours: Colours,
    /// Where a picture lies in the input that has other proportions.
    #[serde(default)]
    pub position: Position,
    /// Names of files with the same network for inputs of other sizes. They lie beside this file.
    #[serde(default)]
    pub other_sizes: Vec<String>,
    /// Pixels of the input for one cell of each output map, in the order of the outputs.
    pub strides: Vec<usize>,
    /// Widths and heights of the anchors of each stride, in pixels of the input. Empty: there are none.
    #[serde(default)]
    pub anchors: Vec<Vec<[f32; 2]>>,
    /// The boxes.
    pub boxes: Boxes,
    /// The scores of the classes.
    pub scores: Scores,
    /// The score that there is an object at all.
    #[serde(default)]
    pub objectness: Option<Objectness>,
}

fn default_max_overlap() -> f64 {
    0.6
}

/// Order of the colours of a pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Colours {
    #[default]
    Rgb,
    Bgr,
}

/// Where a picture lies in the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Position {
    #[default]
    TopLeft,
    Centre,
}

/// Which output of the network.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum OutputId {
    /// By its number, from 0.
    Index(usize),
    /// By its tensor's name.
    Name(String),
}

/// `[boxes]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boxes {
    outputs: Vec<OutputId>,
    #[serde(default)]
    first_channel: usize,
    /// What the values mean.
    pub encoding: Encoding,
    /// Position of a cell's point within the cell, as a fraction.
    #[serde(default = "default_cell_offset")]
    pub cell_offset: f32,
    /// For `distribution`: the number of values for each edge.
    #[serde(default)]
    pub bins: usize,
    /// For `anchors`: the factors on offsets and on sizes.
    #[serde(default = "default_variances")]
    pub variances: [f32; 2],
    /// For `anchors`: y comes before x, and height before width.
    #[serde(default)]
    pub y_first: bool,
}

fn default_cell_offset() -> f32 {
    0.5
}

fn default_variances() -> [f32; 2] {
    [0.1, 0.2]
}

/// What the values of a box mean. Distances are from the cell's point to the left, upper, right and lower
/// edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// Four distances in strides, as in FCOS.
    Distances,
    /// The natural logarithms of four distances in strides.
    LogDistances,
    /// For each of four distances the logits of 0, 1, 2, ... strides; their mean is the distance, as in
    /// NanoDet.
    Distribution,
    /// Centre relative to the point in strides, logarithms of width and height in strides, as in YOLOX.
    CentreSize,
    /// Centre and logarithms of the size relative to an anchor, as in SSD.
    Anchors,
}

/// `[scores]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scores {
    outputs: Vec<OutputId>,
    #[serde(default)]
    first_channel: usize,
    /// What makes a score of a value.
    pub activation: Activation,
    /// The first value is that of the background, which has no label.
    #[serde(default)]
    pub background: bool,
}

/// `[objectness]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objectness {
    outputs: Vec<OutputId>,
    #[serde(default)]
    first_channel: usize,
    /// What makes a score of a value: not `softmax`.
    pub activation: Activation,
}

/// What makes a score of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// The value is the score.
    None,
    /// The logistic function.
    Sigmoid,
    /// Softmax over the values of all classes.
    Softmax,
}

/// An output of a network, as the engine tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Name of the tensor.
    pub name: String,
    /// Its dimensions; the first one is 1.
    pub shape: Vec<usize>,
    /// The real value of one quantization step.
    pub scale: f32,
    /// The quantized value that represents 0.
    pub zero_point: i32,
    /// Whether the values are signed bytes.
    pub is_signed: bool,
}

/// Where the values of one part (boxes, scores, objectness) of one stride are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Number of the output.
    pub output: usize,
    /// First value of the first point.
    pub start: usize,
    /// Number of values from one point to the next.
    pub step: usize,
}

/// One stride of a network, checked against its outputs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Level {
    pub stride: f32,
    pub columns: usize,
    pub rows: usize,
    /// Sizes of the anchors. One of no size without anchors.
    pub anchors: Vec<[f32; 2]>,
    pub boxes: Place,
    pub scores: Place,
    pub objectness: Option<Place>,
}

/// Whether this is the name of a file, without a folder.
fn is_file_name(name: &String) -> bool {
    Path::new(name).file_name().is_some_and(|last| last == name.as_str())
}

impl Layout {
    /// Reads a detector file. Errors: what is wrong, with the key.
    pub fn parse(text: &str) -> Result<Layout, String> {
        let layout: Layout =
            toml::from_str(text).map_err(|error| error.to_string().trim_end().to_string())?;
        layout.check()?;
        Ok(layout)
    }

    fn check(&self) -> Result<(), String> {
        let fraction = 0.0..=1.0;
        let is_anchored = self.boxes.encoding == Encoding::Anchors;
        let problem = if self.version != VERSION {
            format!("version: is {}; this camfire reads {VERSION}", self.version)
        } else if self.labels.is_empty() || self.labels.len() > MAX_LABELS {
            format!("labels: there must be 1 to {MAX_LABELS}")
        } else if !fraction.contains(&self.min_score) {
            "min_score: must be 0 to 1".to_string()
        } else if !(0.0..=1.0).contains(&self.max_overlap) {
            "max_overlap: must be 0 to 1".to_string()
        } else if self.strides.is_empty() || self.strides.len() > MAX_STRIDES || self.strides.contains(&0) {
            format!("strides: there must be 1 to {MAX_STRIDES}, above 0")
        } else if self.other_sizes.len() > MAX_OTHER_SIZES || !self.other_sizes.iter().all(is_file_name) {
            format!("other_sizes: there must be at most {MAX_OTHER_SIZES} names of files beside this one")
        } else if !fraction.contains(&self.boxes.cell_offset) {
            "boxes.cell_offset: must be 0 to 1".to_string()
        } else if (self.boxes.encoding == Encoding::Distribution) != (2..=64).contains(&self.boxes.bins) {
            "boxes.bins: must be 2 to 64 with the encoding distribution, and absent with others".to_string()
        } else if is_anchored && self.anchors.len() != self.strides.len() {
            "anchors: there must be a list for each stride".to_string()
        } else if !is_anchored && !self.anchors.is_empty() {
            "anchors: only for boxes.encoding = \"anchors\"".to_string()
        } else if self.anchors.iter().any(|anchors| {
            anchors.is_empty()
                || anchors.len() > MAX_ANCHORS
                || anchors.iter().flatten().any(|side| !is_positive(*side))
        }) {
            format!("anchors: there must be 1 to {MAX_ANCHORS} of each stride, with sides above 0")
        } else if !self.boxes.variances.iter().all(|variance| is_positive(*variance)) {
            "boxes.variances: must be above 0".to_string()
        } else if self.objectness.as_ref().is_some_and(|part| part.activation == Activation::Softmax) {
            "objectness.activation: cannot be softmax, because it is one value".to_string()
        } else {
            return Ok(());
        };
        Err(problem)
    }

    /// Number of values of a box.
    pub(super) fn box_channels(&self) -> usize {
        if self.boxes.encoding == Encoding::Distribution { 4 * self.boxes.bins } else { 4 }
    }

    /// Number of values of the classes, with the background.
    pub(super) fn score_channels(&self) -> usize {
        self.labels.len() + usize::from(self.scores.background)
    }

    /// Finds all parts in the outputs of a network whose input has this width and height.
    ///
    /// Errors: an output that does not exist or has the wrong shape, with the key.
    pub(super) fn levels(
        &self,
        outputs: &[Output],
        (width, height): (usize, usize),
    ) -> Result<Vec<Level>, String> {
        let mut levels: Vec<Level> = Vec::new();
        for (index, &stride) in self.strides.iter().enumerate() {
            let none = Place { output: 0, start: 0, step: 0 };
            levels.push(Level {
                stride: stride as f32,
                columns: width.div_ceil(stride),
                rows: height.div_ceil(stride),
                anchors: self.anchors.get(index).cloned().unwrap_or_else(|| vec![[0.0, 0.0]]),
                boxes: none,
                scores: none,
                objectness: None,
            });
        }
        let points: Vec<usize> =
            levels.iter().map(|level| level.columns * level.rows * level.anchors.len()).collect();
        if points.iter().sum::<usize>() > MAX_POINTS {
            return Err("strides: too small for this input".to_string());
        }
        let part = |key: &str, wanted: &[OutputId], first: usize, channels: usize| {
            places(outputs, wanted, first, channels, &points)
                .map_err(|problem| format!("{key}.outputs: {problem}"))
        };
        let (boxes, scores) = (&self.boxes, &self.scores);
        let boxes = part("boxes", &boxes.outputs, boxes.first_channel, self.box_channels())?;
        let scores = part("scores", &scores.outputs, scores.first_channel, self.score_channels())?;
        let objectness = match &self.objectness {
            Some(objectness) => {
                let places = part("objectness", &objectness.outputs, objectness.first_channel, 1)?;
                places.into_iter().map(Some).collect()
            }
            None => vec![None; levels.len()],
        };
        for (level, ((boxes, scores), objectness)) in
            levels.iter_mut().zip(boxes.into_iter().zip(scores).zip(objectness))
        {
            (level.boxes, level.scores, level.objectness) = (boxes, scores, objectness);
        }
        Ok(levels)
    }
}

fn is_positive(value: f32) -> bool {
    value.is_finite() && value > 0.0
}

/// Where a part with `channels` values for each point is: in one output for each stride, or in one for all.
/// `points` is the number of points of each stride.
fn places(
    outputs: &[Output],
    wanted: &[OutputId],
    first_channel: usize,
    channels: usize,
    points: &[usize],
) -> Result<Vec<Place>, String> {
    let find = |output: &OutputId| match output {
        OutputId::Index(index) if *index < outputs.len() => Ok(*index),
        OutputId::Index(index) => {
            Err(format!("there is no output {index}; the network has {}", outputs.len()))
        }
        OutputId::Name(name) => outputs.iter().position(|output| output.name == *name).ok_or_else(|| {
            let names: Vec<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
            format!("there is no output {name:?}; the network has {}", names.join(", "))
        }),
    };
    let step = |output: usize, points: usize| {
        let Output { name, shape, .. } = &outputs[output];
        let count: usize = shape.iter().product();
        let step = count / points;
        // The last dimension holds the values of a point, or of all anchors of a cell.
        let is_last = step > 0 && shape.last().is_some_and(|last| last.is_multiple_of(step));
        let is_whole = count.is_multiple_of(points) && shape.first() == Some(&1);
        if is_whole && is_last && step >= first_channel + channels {
            return Ok(step);
        }
        let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
        let from = if first_channel == 0 { String::new() } else { format!(" from channel {first_channel}") };
        Err(format!(
            "output {output} ({name}) has the shape {}, which does not hold {channels} values{from} for each of {points} \
             points",
            sizes.join(" x ")
        ))
    };
    if let [output] = wanted {
        let output = find(output)?;
        let step = step(output, points.iter().sum())?;
        let mut before = 0;
        let place = |&points: &usize| {
            let start = before * step + first_channel;
            before += points;
            Place { output, start, step }
        };
        return Ok(points.iter().map(place).collect());
    }
    if wanted.len() != points.len() {
        return Err(format!("there are {}; there must be one, or one for each stride", wanted.len()));
    }
    let place = |(output, points): (&OutputId, &usize)| {
        let output = find(output)?;
        Ok(Place { output, start: first_channel, step: step(output, *points)? })
    };
    wanted.iter().zip(points).map(place).collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A detector with two strides and one pair of outputs for each.
    pub const PLAIN: &str = "version = 1\nname = 'plain'\nlabels = ['person', 'car']\nmin_score = 0.4\nstrides = [8, 16]\n\
        [boxes]\noutputs = ['box8', 'box16']\nencoding = 'log-distances'\n\
        [scores]\noutputs = [0, 2]\nactivation = 'sigmoid'\n";
    /// YOLOX: everything in one output.
    pub const YOLOX: &str = "version = 1\nname = 'yolox'\nlabels = ['person', 'car']\nmin_score = 0.4\nstrides = [8, 16]\n\
        colours = 'bgr'\n[boxes]\noutputs = [0]\nencoding = 'centre-size'\ncell_offset = 0.0\n\
        [objectness]\noutputs = [0]\nfirst_channel = 4\nactivation = 'none'\n\
        [scores]\noutputs = [0]\nfirst_channel = 5\nactivation = 'none'\n";

    pub fn output(name: &str, shape: &[usize]) -> Output {
        Output { name: name.into(), shape: shape.to_vec(), scale: 0.1, zero_point: 0, is_signed: true }
    }

    /// The outputs of [`PLAIN`] for an input of 32 x 16.
    pub fn plain_outputs() -> [Output; 4] {
        [
            output("class8", &[1, 2, 4, 2]),
            output("box8", &[1, 2, 4, 4]),
            output("class16", &[1, 1, 2, 2]),
            output("box16", &[1, 1, 2, 4]),
        ]
    }

    #[test]
    fn outputs_are_found_by_name_number_and_in_a_joined_one() {
        let levels = Layout::parse(PLAIN).unwrap().levels(&plain_outputs(), (32, 16)).unwrap();
        assert_eq!((levels[0].columns, levels[0].rows, levels[1].columns, levels[1].rows), (4, 2, 2, 1));
        assert_eq!(levels[1].boxes, Place { output: 3, start: 0, step: 4 });
        let joined = [output("all", &[1, 10, 7])];
        let levels = Layout::parse(YOLOX).unwrap().levels(&joined, (32, 16)).unwrap();
        assert_eq!(levels[1].scores, Place { output: 0, start: 8 * 7 + 5, step: 7 });
        assert_eq!(levels[0].objectness, Some(Place { output: 0, start: 4, step: 7 }));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let fails = |layout: &str, outputs: &[Output], expected: &str| {
            let error = Layout::parse(layout).unwrap().levels(outputs, (32, 16)).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        let mut outputs = plain_outputs();
        outputs[3].shape = vec![1, 1, 2, 3];
        let other_stride = PLAIN.replace("[8, 16]", "[8, 32]");
        fails(&other_stride, &plain_outputs(), "boxes.outputs: output 3 (box16)");
        fails(PLAIN, &outputs, "boxes.outputs: output 3 (box16) has the shape 1 x 1 x 2 x 3");
        fails(
            PLAIN,
            &outputs[..2],
            "boxes.outputs: there is no output \"box16\"; the network has class8, box8",
        );
        fails(
            YOLOX,
            &[output("all", &[1, 10, 6])],
            "does not hold 2 values from channel 5 for each of 10 points",
        );
        fails(&PLAIN.replace("[0, 2]", "[0, 7]"), &plain_outputs(), "there is no output 7");
        fails(&PLAIN.replace("[0, 2]", "[0, 2, 2]"), &plain_outputs(), "there are 3");
    }

    #[test]
    fn a_file_that_contradicts_itself_is_refused_by_key() {
        for (from, to, expected) in [
            ("version = 1", "version = 2", "version: is 2"),
            ("['person', 'car']", "[]", "labels: there must be"),
            ("min_score = 0.4", "min_score = 1.4", "min_score: must be"),
            ("min_score = 0.4", "min_score = nan", "min_score: must be"),
            ("strides = [8, 16]", "strides = [8, 0]", "strides: there must be"),
            ("'log-distances'", "'distribution'", "boxes.bins: must be"),
            ("'log-distances'", "'anchors'", "anchors: there must be"),
            ("'log-distances'", "'polar'", "polar"),
            ("name = 'plain'", "name = 'plain'\nanchors = [[[1.0, 2.0]]]", "anchors: only"),
            ("name = 'plain'", "title = 'plain'", "title"),
        ] {
            let text = PLAIN.replace(from, to);
            assert_ne!(text, PLAIN);
            let error = Layout::parse(&text).unwrap_err();
            assert!(error.contains(expected), "{to}: {error}");
        }
    }
}
