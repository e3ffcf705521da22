//! Finding and decoding photos that may be anything: broken, huge, or made to exhaust the memory, and the
//! loop over them of the commands that take photos.
//!
//! What decoding takes is known from the header, and a photo that would take too much is refused before its
//! pixels are decoded.

use super::output;
use crate::{
    error::{Error, ErrorKind},
    files,
    frame::Image,
    vision::jpeg,
};
use image::{
    ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits,
    metadata::Orientation,
};
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    fs::File,
    io::{BufReader, Seek},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Extensions of the files that are read from directories. Files given by name may have any extension.
pub const EXTENSIONS: [&str; 8] = ["bmp", "gif", "jpeg", "jpg", "png", "tif", "tiff", "webp"];

/// Maximum memory for decoding a photo: a rotated JPEG of 52 million pixels.
const MAX_DECODING_BYTES: u64 = 300 << 20;
/// Maximum memory for what stands before the pixels: metadata, tables, colour profiles.
const MAX_HEADER_BYTES: u64 = 32 << 20;

/// Prints a line for each photo of `paths`, as `describe` makes it. What cannot be read or decoded is
/// reported on stderr and makes the exit status 1, or 2 if there is nothing else.
///
/// Errors ([`ErrorKind::Input`]): there are no photos.
pub fn for_each(
    paths: &[PathBuf],
    mut describe: impl FnMut(&str, &Image) -> Result<String, Error>,
) -> Result<ExitCode, Error> {
    let (photos, mut errors) = list(paths);
    if photos.is_empty()
        && let Some(last) = errors.pop()
    {
        errors.iter().for_each(|error| output::note!("camfire: {error}"));
        return Err(last);
    }
    errors.iter().for_each(|error| output::note!("camfire: {error}"));
    // Drawn on stderr, if that is a terminal.
    let progress = ProgressBar::new(photos.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} photos, {eta} left") {
        progress.set_style(style);
    }
    let mut failed = errors.len();
    for photo in &photos {
        match read(photo).and_then(|image| describe(&photo.to_string_lossy(), &image)) {
            Ok(line) => progress.suspend(|| output::line!("{line}")),
            Err(error) => {
                failed += 1;
                progress.suspend(|| output::note!("camfire: {}: {error}", photo.display()));
            }
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Lists the given files, and the photos below the given directories in order of name. Directories that
/// cannot be listed or have no photos are reported in the second list.
fn list(paths: &[PathBuf]) -> (Vec<PathBuf>, Vec<Error>) {
    let (mut photos, mut errors) = (Vec::new(), Vec::new());
    for path in paths {
        if !path.is_dir() {
            photos.push(path.clone());
            continue;
        }
        let before = (photos.len(), errors.len());
        list_folder(path, &mut photos, &mut errors);
        if (photos.len(), errors.len()) == before {
            let message = format!("{}: contains no photos ({})", path.display(), EXTENSIONS.join(", "));
            errors.push(Error::new(ErrorKind::Input, message));
        }
    }
    (photos, errors)
}

fn list_folder(folder: &Path, photos: &mut Vec<PathBuf>, errors: &mut Vec<Error>) {
    let unreadable = |e| Error::caused(ErrorKind::Input, folder.display().to_string(), e);
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return errors.push(unreadable(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        match entry.and_then(|entry| Ok((entry.path(), entry.file_type()?))) {
            Ok(entry) => found.push(entry),
            Err(error) => errors.push(unreadable(error)),
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (path, kind) in found {
        let has_extension = |extension: &std::ffi::OsStr| {
            EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
        };
        // Symbolic links to directories are not followed, because they can form a cycle.
        if kind.is_dir() {
            list_folder(&path, photos, errors);
        } else if path.extension().is_some_and(has_extension) {
            photos.push(path);
        }
    }
}

/// Decodes a photo and applies its orientation.
///
/// Errors ([`ErrorKind::Input`]): it is no photo, or decoding it would take too much memory.
fn read(photo: &Path) -> Result<Image, Error> {
    let undecodable = |e| match e {
        ImageError::Limits(_) => Error::caused(ErrorKind::Input, "is too large", e),
        e => Error::caused(ErrorKind::Input, "cannot be decoded as a photo", e),
    };
    let refuse = |why: String| Error::new(ErrorKind::Input, why);
    let (mut file, metadata) =
        files::open_regular(photo).map_err(|e| Error::caused(ErrorKind::Input, "cannot be read", e))?;
    let io = |e: std::io::Error| undecodable(e.into());
    let mut reader = ImageReader::new(BufReader::new(&file)).with_guessed_format().map_err(io)?;
    let format = reader.format();
    if format == Some(ImageFormat::Jpeg) {
        check_jpeg(&mut file, metadata.len())?;
        reader = ImageReader::with_format(BufReader::new(&file), ImageFormat::Jpeg);
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_HEADER_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(undecodable)?;
    let orientation = decoder.orientation().map_err(undecodable)?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err(refuse("has no pixels".into()));
    }
    let pixels = u64::from(width) * u64::from(height);
    let decoded = decoder.total_bytes();
    // These keep a second copy in a form of their own while they decode.
    let scratch = match format {
        Some(ImageFormat::Gif | ImageFormat::WebP) => 4 * pixels,
        Some(ImageFormat::Tiff) => decoded,
        _ => 0,
    };
    let converted = if decoder.color_type() == ColorType::Rgb8 { 0 } else { 3 * pixels };
    let turned = if orientation == Orientation::NoTransforms { 0 } else { 6 * pixels };
    check_memory(decoded.saturating_add(scratch.max(converted)).max(turned), width, height)?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODING_BYTES);
    decoder.set_limits(limits).map_err(undecodable)?;
    let image = DynamicImage::from_decoder(decoder).map_err(undecodable)?;
    let mut rgb = DynamicImage::ImageRgb8(image.into_rgb8());
    rgb.apply_orientation(orientation);
    let rgb = rgb.into_rgb8();
    let (width, height) = (rgb.width() as usize, rgb.height() as usize);
    Ok(Image::from_rgb(width, height, rgb.into_raw()))
}

/// Checks a JPEG file, which its decoder reads as a whole, and of which it keeps all coefficients if it is
/// progressive.
fn check_jpeg(file: &mut File, file_bytes: u64) -> Result<(), Error> {
    let unreadable = |e| Error::caused(ErrorKind::Input, "cannot be read", e);
    if file_bytes > MAX_DECODING_BYTES / 2 {
        let message =
            format!("is too large: {file_bytes} bytes, and at most {} are decoded", MAX_DECODING_BYTES / 2);
        return Err(Error::new(ErrorKind::Input, message));
    }
    file.rewind().map_err(unreadable)?;
    let bytes = files::read_open(file, file_bytes).map_err(unreadable)?;
    let header = jpeg::frame_header(&bytes);
    file.rewind().map_err(unreadable)?;
    // Without a header the decoder refuses it.
    let Some(header) = header else { return Ok(()) };
    let pixels = u64::from(header.width) * u64::from(header.height);
    let coefficients = if header.is_progressive { 2 * u64::from(header.components) } else { 0 };
    let needed = file_bytes + (3 + coefficients) * pixels;
    check_memory(needed, header.width.into(), header.height.into())
}

fn check_memory(needed_bytes: u64, width: u32, height: u32) -> Result<(), Error> {
    if needed_bytes <= MAX_DECODING_BYTES {
        return Ok(());
    }
    let mib = |bytes: u64| bytes >> 20;
    let message = format!(
        "is too large: decoding {width} x {height} pixels takes {} MiB, and at most {} are used",
        mib(needed_bytes),
        mib(MAX_DECODING_BYTES)
    );
    Err(Error::new(ErrorKind::Input, message))
}
