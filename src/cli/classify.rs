//! `camfire classify`: classifies photos with the same preprocessing and network as a camera's frames.

use super::{output, setup::NetworkArguments};
use crate::{
    config::Network,
    error::{Error, ErrorKind},
    frame::Image,
    wire::messages::Class,
    workers::{classifier::Classifier, model::Model},
};
use image::{DynamicImage, ImageDecoder, ImageReader};
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Extensions of the files that are read from directories. Files given by name may have any extension.
const EXTENSIONS: [&str; 8] = ["bmp", "gif", "jpeg", "jpg", "png", "tif", "tiff", "webp"];

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
}

#[derive(serde::Serialize)]
struct Line<'a> {
    file: &'a str,
    top: Vec<Class>,
}

/// Prints the best classes of each photo. Files that are not photos are reported on stderr and make the exit
/// status 1.
pub fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    let model =
        Model::open(&Network { labels: arguments.labels, ..arguments.network.into() }, &Default::default())?;
    let mut classifier = Classifier::open(&model)?;
    let photos = list(&arguments.paths)?;
    // Drawn on stderr, if that is a terminal.
    let progress = ProgressBar::new(photos.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} photos, {eta} left") {
        progress.set_style(style);
    }
    let mut failed = 0;
    for photo in &photos {
        let top = read(photo).and_then(|image| classifier.classify(&image, usize::from(arguments.top)));
        match top {
            Ok(top) => {
                let line = format_line(photo, model.name_classes(&top), arguments.json);
                progress.suspend(|| output::line!("{line}"));
            }
            Err(error) => {
                failed += 1;
                progress.suspend(|| eprintln!("camfire: {}: {error}", photo.display()));
            }
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn format_line(photo: &Path, top: Vec<Class>, json: bool) -> String {
    let file = photo.to_string_lossy();
    if json {
        let line = Line { file: &file, top };
        return serde_json::to_string(&line).expect("strings and finite numbers are JSON");
    }
    let classes: Vec<String> =
        top.iter().map(|class| format!("{} {:.2}", class.label, class.score)).collect();
    format!("{file}: {}", classes.join(", "))
}

/// The given files, and the photos below the given directories in order of name.
fn list(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut photos = Vec::new();
    for path in paths {
        if !path.is_dir() {
            photos.push(path.clone());
            continue;
        }
        let before = photos.len();
        list_folder(path, &mut photos)?;
        if photos.len() == before {
            let message = format!("{}: contains no photos ({})", path.display(), EXTENSIONS.join(", "));
            return Err(Error::new(ErrorKind::Input, message));
        }
    }
    Ok(photos)
}

fn list_folder(folder: &Path, photos: &mut Vec<PathBuf>) -> Result<(), Error> {
    let unreadable = |e| Error::caused(ErrorKind::Input, folder.display().to_string(), e);
    let mut entries = std::fs::read_dir(folder)
        .and_then(|entries| entries.collect::<Result<Vec<_>, _>>())
        .map_err(unreadable)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        // Symbolic links are not followed, because they can form a cycle.
        if entry.file_type().map_err(unreadable)?.is_dir() {
            list_folder(&path, photos)?;
        } else if path
            .extension()
            .is_some_and(|e| EXTENSIONS.iter().any(|extension| e.eq_ignore_ascii_case(extension)))
        {
            photos.push(path);
        }
    }
    Ok(())
}

/// Decodes a photo and applies its orientation.
fn read(photo: &Path) -> Result<Image, Error> {
    let decode = || -> image::ImageResult<DynamicImage> {
        let mut decoder = ImageReader::open(photo)?.with_guessed_format()?.into_decoder()?;
        let orientation = decoder.orientation()?;
        let mut image = DynamicImage::from_decoder(decoder)?;
        image.apply_orientation(orientation);
        Ok(image)
    };
    let rgb =
        decode().map_err(|e| Error::caused(ErrorKind::Input, "cannot be decoded as a photo", e))?.into_rgb8();
    let (width, height) = (rgb.width() as usize, rgb.height() as usize);
    Ok(Image::from_rgb(width, height, rgb.into_raw()))
}
