//! `camfire classify`: classifies photos with the same preprocessing and network as a camera's frames.

use super::{photo, setup::NetworkArguments};
use crate::{
    config::{Everyday, Network},
    error::Error,
    vision::{
        head::{self, Score, file::HeadFile},
        rect::Rect,
        scene::Findings,
    },
    wire::messages::{Class, four_digits},
    workers::{classifier::Classifier, model::Model},
};
use std::{path::PathBuf, process::ExitCode};

/// The name of the everyday head's output for none of its labels.
const NONE: &str = "none";

/// Arguments of `camfire classify`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  camfire classify --top 3 cat.jpg holiday-photos/")]
pub struct Arguments {
    /// Photos, or directories of photos
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// How many of the best classes to print
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    top: u16,
    /// Print one JSON object per photo
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    network: NetworkArguments,
    /// Label file of the model, one label per line
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Head file of the everyday labels, or "off" [default: the built-in one for the built-in model]
    #[arg(long, value_name = "FILE")]
    everyday_head: Option<PathBuf>,
    /// The .tflite file that the head was made for [default: the model]
    #[arg(long, value_name = "FILE", requires = "everyday_head")]
    everyday_model: Option<PathBuf>,
}

#[derive(serde::Serialize)]
struct Line<'a> {
    file: &'a str,
    /// All outputs of the everyday head, best first. Absent without a head.
    #[serde(skip_serializing_if = "Option::is_none")]
    everyday: Option<Vec<Output<'a>>>,
    /// The network's best classes, best first.
    top: Vec<Class>,
}

/// An output of the everyday head: a label without kinds, a label for all but its kinds, or none of them.
#[derive(serde::Serialize)]
struct Output<'a> {
    label: &'a str,
    #[serde(serialize_with = "four_digits")]
    score: f32,
}

/// Prints the everyday labels and the best classes of each photo.
pub fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    let everyday = match arguments.everyday_head {
        None => Everyday::BuiltIn,
        Some(file) if file.as_os_str() == "off" => Everyday::Off,
        Some(head) => Everyday::Head { head, model: arguments.everyday_model },
    };
    let network = Network { labels: arguments.labels, everyday, ..arguments.network.into() };
    let model = Model::open(&network, &Default::default())?;
    let mut classifier = Classifier::open(&model)?;
    photo::for_each(&arguments.paths, |file, image| {
        let findings = Findings::of(&mut classifier, image, &Rect::whole(image), &model.taxonomy, true)?;
        let everyday =
            model.everyday.as_ref().map(|everyday| name_outputs(&everyday.head, &findings.outputs));
        let top = head::top(&findings.classes.unwrap_or_default(), usize::from(arguments.top));
        Ok(format_line(file, everyday, model.name_classes(&top), arguments.json))
    })
}

/// Adds the labels to the everyday head's outputs. Returns them best first.
fn name_outputs<'a>(head: &'a HeadFile, outputs: &[f32]) -> Vec<Output<'a>> {
    let name = |score: &Score| {
        let label = head.tree.outputs[score.index].map(|label| head.tree.labels[label].name.as_str());
        Output { label: label.unwrap_or(NONE), score: score.score }
    };
    head::top(outputs, outputs.len()).iter().map(name).collect()
}

/// With text output, only the best everyday label is shown.
fn format_line(file: &str, everyday: Option<Vec<Output<'_>>>, top: Vec<Class>, json: bool) -> String {
    if json {
        let line = Line { file, everyday, top };
        return serde_json::to_string(&line).expect("strings and finite numbers are JSON");
    }
    let best = everyday.as_ref().and_then(|outputs| outputs.first());
    let best = best.map(|best| format!("{} {:.2} (", best.label, best.score));
    let classes: Vec<String> =
        top.iter().map(|class| format!("{} {:.2}", class.label, class.score)).collect();
    let end = if best.is_some() { ")" } else { "" };
    format!("{file}: {}{}{end}", best.unwrap_or_default(), classes.join(", "))
}
