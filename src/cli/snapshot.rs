//! `camfire snapshot`: saves one frame of a camera as a JPEG file, from its large stream if it has one.

use super::{output, setup::ConfigArguments};
use crate::{
    camera::{gst, opening},
    config::Config,
    error::{Error, ErrorKind},
    frame::Image,
    vision::{
        head, picture,
        preprocess::Preprocessor,
        rect::{Rect, upright_size},
        scene::Infer,
    },
    workers::{classifier::Classifier, model::Model},
};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

/// JPEG quality.
const QUALITY: u8 = 90;

/// Arguments of `camfire snapshot`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  camfire snapshot yard --output yard.jpg")]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Name of the camera in the configuration
    #[arg(value_name = "CAMERA")]
    camera: String,
    /// The file to write [default: CAMERA.jpg]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Also write a heatmap of the best class of the whole frame, as a small grey PNG
    #[arg(long, value_name = "FILE.png")]
    heatmap: Option<PathBuf>,
}

/// Opens the camera, saves its first frame and prints the path.
pub fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    let config = arguments.config.load()?.config;
    let Some(camera) = config.cameras.iter().find(|camera| camera.name == arguments.camera) else {
        let known: Vec<&str> = config.cameras.iter().map(|camera| camera.name.as_str()).collect();
        let message = format!("no camera {:?}; the configuration has {}", arguments.camera, known.join(", "));
        return Err(Error::new(ErrorKind::Input, message));
    };
    gst::init()?;
    let frame = opening::snapshot(camera).map_err(|failure| {
        Error::new(ErrorKind::Source, format!("cameras.{}: {}", camera.name, failure.reason))
    })?;
    let (width, height) = upright_size(&frame);
    let (width, height) = (width.round() as usize, height.round() as usize);
    let unreadable = |e| Error::caused(ErrorKind::Source, "cannot read the frame", e);
    let mut preprocessor = Preprocessor::new(width, height);
    let rgb = preprocessor.run(&frame, &Rect::whole(&frame)).map_err(unreadable)?;
    let path = arguments.output.unwrap_or_else(|| PathBuf::from(format!("{}.jpg", camera.name)));
    let jpeg = picture::rgb_jpeg(rgb, (width, height), QUALITY)?;
    std::fs::write(&path, jpeg)
        .map_err(|e| Error::caused(ErrorKind::System, path.display().to_string(), e))?;
    output::line!("{} ({width} x {height})", path.display());
    if let Some(file) = &arguments.heatmap {
        output::line!("{}", write_heatmap(&config, &frame, file)?);
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes a heatmap of the best class and returns a line about it.
fn write_heatmap(config: &Config, frame: &Image, file: &Path) -> Result<String, Error> {
    let model = Model::open(&config.engine.network, &config.groups)?;
    let mut classifier = Classifier::open(&model)?;
    let scores = classifier.classes(frame, &Rect::whole(frame))?;
    let best = head::top(scores, 1)[0];
    let label = model.labels.get(best.index);
    let Some(heatmap) = classifier.heatmap(best.index) else {
        return Ok(format!("no heatmap of {label}: no part of the frame supports it"));
    };
    let png = picture::grey_png(&heatmap.grey, heatmap.width, heatmap.height);
    std::fs::write(file, png).map_err(|e| Error::caused(ErrorKind::System, file.display().to_string(), e))?;
    Ok(format!("{} ({label} {:.2})", file.display(), best.score))
}
