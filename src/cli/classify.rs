//! `camfire classify`: photos through the very same preprocessing and network as a camera's frames.

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

/// Files with these endings are taken from folders; a file that is named is taken whatever its ending.
const ENDINGS: [&str; 8] = ["bmp", "gif", "jpeg", "jpg", "png", "tif", "tiff", "webp"];

/// Arguments of `camfire classify`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  camfire classify --top 3 cat.jpg holiday-photos/")]
pub struct Arguments {
    /// Photos, or folders of photos
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// How many of the best classes to print
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    top: u16,
    /// One JSON object a photo
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    network: NetworkArguments,
    /// The model's labels, one a line
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
}

#[derive(serde::Serialize)]
struct Line<'a> {
    file: &'a str,
    top: Vec<Class>,
}

/// Prints the best classes of each photo; those that are none are named on stderr and make the exit status 1.
pub fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    let model =
        Model::open(&Network { labels: arguments.labels, ..arguments.network.into() }, &Default::default())?;
    let mut classifier = Classifier::open(&model)?;
    let photos = list(&arguments.paths)?;
    // Draws on stderr, and only where that is a terminal.
    let progress = ProgressBar::new(photos.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} photos, {eta} to go") {
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

/// The photos of the given files and folders; a folder's own in order of name, with those of its folders.
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
            let message = format!("{}: no photos in it ({})", path.display(), ENDINGS.join(", "));
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
        // Not through links, which may lead back up.
        if entry.file_type().map_err(unreadable)?.is_dir() {
            list_folder(&path, photos)?;
        } else if path
            .extension()
            .is_some_and(|e| ENDINGS.iter().any(|ending| e.eq_ignore_ascii_case(ending)))
        {
            photos.push(path);
        }
    }
    Ok(())
}

/// Decodes a photo and turns it the way its camera was held.
fn read(photo: &Path) -> Result<Image, Error> {
    let decode = || -> image::ImageResult<DynamicImage> {
        let mut decoder = ImageReader::open(photo)?.with_guessed_format()?.into_decoder()?;
        let orientation = decoder.orientation()?;
        let mut image = DynamicImage::from_decoder(decoder)?;
        image.apply_orientation(orientation);
        Ok(image)
    };
    let rgb =
        decode().map_err(|e| Error::caused(ErrorKind::Input, "it cannot be read as a photo", e))?.into_rgb8();
    let (width, height) = (rgb.width() as usize, rgb.height() as usize);
    Ok(Image::from_rgb(width, height, rgb.into_raw()))
}
