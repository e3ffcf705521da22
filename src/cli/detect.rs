//! `camfire detect`: finds objects in photos with the same preprocessing and network as in a camera's frames.

use super::{photo, setup::EngineArguments};
use crate::{
    config::Network,
    error::Error,
    vision::{
        detector::{Detection, layout::Layout},
        rect::{Rect, upright_size},
    },
    wire::messages::{Box, four_digits},
    workers::detector::{Detector, DetectorModel},
};
use std::{path::PathBuf, process::ExitCode};

/// Arguments of `camfire detect`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  camfire detect --json street.jpg holiday-photos/")]
pub struct Arguments {
    /// Photos, or directories of photos
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// Minimum score of an object, 0 to 1 [default: that of the detector]
    #[arg(long, value_name = "SCORE", value_parser = score)]
    min_score: Option<f32>,
    /// Print one JSON object per photo
    #[arg(long)]
    json: bool,
    /// A detection network, a .tflite file with its description in a .toml file beside it [default: the
    /// built-in one]
    #[arg(long, value_name = "FILE")]
    detector: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineArguments,
}

fn score(text: &str) -> Result<f32, String> {
    let score = text.parse::<f32>().ok().filter(|score| (0.0..=1.0).contains(score));
    score.ok_or_else(|| "must be 0 to 1".to_string())
}

#[derive(serde::Serialize)]
struct Line<'a> {
    file: &'a str,
    /// Width and height of the upright photo.
    size: [u32; 2],
    /// Best first.
    objects: Vec<Object<'a>>,
}

#[derive(serde::Serialize)]
struct Object<'a> {
    label: &'a str,
    #[serde(serialize_with = "four_digits")]
    score: f32,
    /// Left, top, width, height in pixels.
    r#box: Box,
}

/// Prints the objects in each photo.
pub fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    let network: Network = arguments.engine.into();
    let model = DetectorModel::open(arguments.detector.as_deref(), &network)?;
    let min_score = arguments.min_score.unwrap_or(model.layout().min_score);
    let mut detector = Detector::open(&model);
    photo::for_each(&arguments.paths, |file, image| {
        let detections = detector.detect(image, &Rect::whole(image), min_score)?;
        Ok(format_line(file, upright_size(image), &detections, model.layout(), arguments.json))
    })
}

fn format_line(
    file: &str,
    size: (f64, f64),
    detections: &[Detection],
    layout: &Layout,
    json: bool,
) -> String {
    let object = |detection: &Detection| Object {
        label: &layout.labels[detection.label],
        score: detection.score,
        r#box: detection.rect.to_pixels(size),
    };
    let objects: Vec<Object<'_>> = detections.iter().map(object).collect();
    if json {
        let line = Line { file, size: [size.0.round() as u32, size.1.round() as u32], objects };
        return serde_json::to_string(&line).expect("strings and finite numbers are JSON");
    }
    let text = |object: &Object<'_>| {
        let [left, top, width, height] = object.r#box;
        format!("{} {:.2} at {left},{top} {width}x{height}", object.label, object.score)
    };
    let objects: Vec<String> = objects.iter().map(text).collect();
    format!("{file}: {}", if objects.is_empty() { "nothing".to_string() } else { objects.join(", ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_labels_scores_and_boxes_in_pixels() {
        let layout = Layout::parse(crate::vision::detector::layout::tests::PLAIN).unwrap();
        let rect = Rect { left: 10.4, top: 20.0, width: 30.0, height: 40.6 };
        let line =
            |detections: &[Detection], json| format_line("a.jpg", (64.0, 48.0), detections, &layout, json);
        let detections = [Detection { label: 1, score: 0.91234, rect }];
        assert_eq!(
            line(&detections, true),
            r#"{"file":"a.jpg","size":[64,48],"objects":[{"label":"car","score":0.9123,"box":[10,20,30,28]}]}"#
        );
        assert_eq!(line(&detections, false), "a.jpg: car 0.91 at 10,20 30x28");
        assert_eq!(line(&[], false), "a.jpg: nothing");
    }
}
