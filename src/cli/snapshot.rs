//! `camfire snapshot`: one picture of a camera as a JPEG file, from its large stream where it has one.

use super::{output, setup::ConfigArguments};
use crate::{
    camera::{FailureKind, choice::PipelineChoice, gst, template},
    clock::SystemClock,
    config::{Camera, Config},
    error::{Error, ErrorKind},
    frame::Image,
    vision::{
        picture,
        preprocess::Preprocessor,
        rect::{Rect, upright_size},
        scene::Infer,
    },
    workers::{classifier::Classifier, model::Model},
};
use image::codecs::jpeg::JpegEncoder;
use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

const QUALITY: u8 = 90;

/// Arguments of `camfire snapshot`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  camfire snapshot yard --output yard.jpg")]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// The camera's name in the configuration
    #[arg(value_name = "CAMERA")]
    camera: String,
    /// The file to write [default: CAMERA.jpg]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Also write where the network sees the best class of the whole picture, as a small grey PNG: heatmap, not a box
    #[arg(long, value_name = "FILE.png")]
    heatmap: Option<PathBuf>,
}

/// Opens the camera, takes its first picture, writes it and tells where.
pub fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    let config = arguments.config.load()?.config;
    let Some(camera) = config.cameras.iter().find(|camera| camera.name == arguments.camera) else {
        let known: Vec<&str> = config.cameras.iter().map(|camera| camera.name.as_str()).collect();
        let message = format!("there is no camera {:?}, only {}", arguments.camera, known.join(", "));
        return Err(Error::new(ErrorKind::Input, message));
    };
    gst::init()?;
    let picture = look(camera)?;
    let (width, height) = upright_size(&picture);
    let (width, height) = (width.round() as usize, height.round() as usize);
    let unreadable = |e| Error::caused(ErrorKind::Source, "the picture cannot be read", e);
    let mut preprocessor = Preprocessor::new(width, height);
    let rgb = preprocessor.run(&picture, &Rect::whole(&picture)).map_err(unreadable)?;
    let path = arguments.output.unwrap_or_else(|| PathBuf::from(format!("{}.jpg", camera.name)));
    let unwritable = |e: Box<dyn std::error::Error + Send + Sync>| {
        Error::caused(ErrorKind::System, path.display().to_string(), e)
    };
    let file = File::create(&path).map_err(|e| unwritable(e.into()))?;
    let mut writer = BufWriter::new(file);
    JpegEncoder::new_with_quality(&mut writer, QUALITY)
        .encode(rgb, width as u32, height as u32, image::ExtendedColorType::Rgb8)
        .map_err(|e| unwritable(e.into()))?;
    writer.flush().map_err(|e| unwritable(e.into()))?;
    output::line!("{} ({width} x {height})", path.display());
    if let Some(file) = &arguments.heatmap {
        output::line!("{}", write_heatmap(&config, &picture, file)?);
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes where the network sees its best class; tells which that is.
fn write_heatmap(config: &Config, picture: &Image, file: &Path) -> Result<String, Error> {
    let model = Model::open(&config.engine.network, &config.groups)?;
    let mut classifier = Classifier::open(&model)?;
    let best = classifier.classify(picture, 1)?[0];
    let label = model.labels.get(best.index);
    let Some(heatmap) = classifier.heatmap(best.index) else {
        return Ok(format!("there is no heatmap of {label}"));
    };
    let png = picture::grey_png(&heatmap.grey, heatmap.width, heatmap.height);
    std::fs::write(file, png).map_err(|e| Error::caused(ErrorKind::System, file.display().to_string(), e))?;
    Ok(format!("{} ({label} {:.2})", file.display(), best.score))
}

/// The first picture by the best pipeline that gives one.
fn look(camera: &Camera) -> Result<Image, Error> {
    let clock = SystemClock::new();
    let mut choice = PipelineChoice::new(template::snapshot_candidates(camera)?, gst::missing);
    let mut codecs_tried = 0;
    loop {
        let refuse =
            |reason: String| Error::new(ErrorKind::Source, format!("cameras.{}: {reason}", camera.name));
        let pipeline = choice.current().map_err(refuse)?;
        let failure = match gst::first_image(camera, pipeline, &clock) {
            Ok(picture) => return Ok(picture),
            Err(failure) => failure,
        };
        let another = match failure.kind {
            FailureKind::OtherCodec(codec) if codecs_tried < 2 => {
                codecs_tried += 1;
                choice.set_codec(codec)
            }
            FailureKind::Unsupported | FailureKind::NoDecoderOutput => choice.start_failed(&failure.reason),
            _ => false,
        };
        if !another {
            return Err(refuse(failure.reason));
        }
    }
}
