//! The clip that `camfire analyze --annotate` writes: where it goes, and what is drawn on it.
//!
//! It is written under a name of its own beside the target and renamed at the end, so that there is either the whole of
//! it or nothing. Whatever can be known to be wrong with the target is told before the clip is looked at.

use crate::{
    camera::{Ended, gst},
    config::Camera,
    error::{Error, ErrorKind},
    vision::{picture, rect::Rect, scene::caption},
    wire::messages::Detections,
};
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};
use std::{
    collections::BTreeMap,
    fs::{self, Metadata, OpenOptions, Permissions},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::{NamedTempFile, TempPath};

/// Things take these in turn.
const COLOURS: [Rgb888; 6] = [
    Rgb888::new(255, 210, 0),
    Rgb888::new(80, 220, 100),
    Rgb888::new(90, 180, 255),
    Rgb888::new(255, 120, 190),
    Rgb888::new(255, 140, 60),
    Rgb888::new(190, 150, 255),
];

/// Where the clip is to be written.
pub struct Target {
    /// As the user calls it.
    name: PathBuf,
    /// The same with no symbolic link at its end.
    file: PathBuf,
    /// Of the file that it takes the place of, if there is one.
    permissions: Option<Permissions>,
}

impl Target {
    /// Makes sure that it can be written, without touching it.
    ///
    /// Errors ([`ErrorKind::Input`]): it is the recording itself, no MP4, no file, or in a place that cannot be written.
    pub fn check(clip: &Path, name: &Path) -> Result<Target, Error> {
        let refuse = |why: &str| Error::new(ErrorKind::Input, format!("{}: {why}", name.display()));
        let unwritable = |e: io::Error| Error::caused(ErrorKind::Input, name.display().to_string(), e);
        if !name.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("mp4")) {
            return Err(refuse("clips are written as MP4 only: the name must end in .mp4"));
        }
        let there = match fs::metadata(name) {
            Ok(there) => Some(there),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(unwritable(e)),
        };
        let file = match &there {
            Some(there) if there.is_dir() => return Err(refuse("is a folder")),
            Some(there) if !there.is_file() => return Err(refuse("is no ordinary file")),
            Some(there) => {
                let source = fs::metadata(clip)
                    .map_err(|e| Error::caused(ErrorKind::Input, clip.display().to_string(), e))?;
                if identity(there) == identity(&source) {
                    return Err(refuse("is the recording itself, which would be lost"));
                }
                OpenOptions::new().write(true).open(name).map_err(unwritable)?;
                name.canonicalize().map_err(unwritable)?
            }
            None => {
                let file = std::path::absolute(name).map_err(unwritable)?;
                if !file.parent().is_some_and(Path::is_dir) {
                    return Err(refuse("there is no such folder"));
                }
                file
            }
        };
        let permissions = there.map(|there| there.permissions());
        let target = Target { name: name.to_path_buf(), file, permissions };
        // Gone at once; whoever ends in between leaves nothing behind.
        target.unfinished()?;
        Ok(target)
    }

    /// An empty file beside it, which goes when it is dropped.
    fn unfinished(&self) -> Result<TempPath, Error> {
        let folder = self.file.parent().unwrap_or(Path::new("/"));
        // As any new file would have; the umask takes its part.
        let permissions = self.permissions.clone().unwrap_or_else(|| Permissions::from_mode(0o666));
        tempfile::Builder::new()
            .prefix(".camfire-")
            .suffix(".mp4")
            .permissions(permissions)
            .tempfile_in(folder)
            .map(NamedTempFile::into_temp_path)
            .map_err(|e| {
                Error::caused(ErrorKind::Input, format!("{}: cannot be written", self.name.display()), e)
            })
    }

    /// Writes the clip with what `frames` show drawn on, until `is_over`.
    ///
    /// Errors: see [`gst::redraw`]; nothing is left then, nor if it was stopped.
    pub fn write(
        &self,
        clip: &Path,
        camera: &Camera,
        frames: &[Detections],
        is_over: impl FnMut() -> bool,
    ) -> Result<Ended, Error> {
        let unfinished = self.unfinished()?;
        let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
        for object in frames.iter().flat_map(|frame| &frame.objects) {
            let next = numbers.len();
            numbers.entry(&object.id).or_insert(next);
        }
        let draw = |at: Duration, rgb: &mut [u8], size: (usize, usize)| {
            draw_settings(rgb, size, camera);
            // The frame that was analysed last by then; what is drawn moves at the rate at which it was looked at.
            let at_ms = at.as_millis() as i64;
            let before = frames.partition_point(|frame| frame.captured_at.as_millisecond() <= at_ms);
            if let Some(index) = before.checked_sub(1) {
                draw_objects(rgb, size, &frames[index], &numbers);
            }
        };
        let paths = gst::Paths { clip, to: &unfinished, name: &self.name };
        let ended = gst::redraw(&paths, camera.rotation, draw, is_over)?;
        if ended == Ended::Finished {
            let failed = |e| Error::caused(ErrorKind::System, self.name.display().to_string(), e);
            unfinished.persist(&self.file).map_err(failed)?;
        }
        Ok(ended)
    }
}

/// The same for all names of a file.
fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// What the camera's configuration says of its view.
fn draw_settings(rgb: &mut [u8], size: (usize, usize), camera: &Camera) {
    let mut outline = |corners: &[(f64, f64)], name: &str, colour| {
        let corners: Vec<(f64, f64)> =
            corners.iter().map(|(x, y)| (x * size.0 as f64, y * size.1 as f64)).collect();
        picture::draw_polygon(rgb, size, &corners, name, colour);
    };
    for mask in &camera.masks {
        outline(mask, "mask", Rgb888::RED);
    }
    for (name, corners) in &camera.zones {
        outline(corners, name, Rgb888::CYAN);
    }
    for region in &camera.regions {
        let (left, top) = (region.left, region.top);
        let (right, bottom) = (left + region.width, top + region.height);
        let corners = [(left, top), (right, top), (right, bottom), (left, bottom)];
        outline(&corners, &region.name, Rgb888::WHITE);
    }
}

/// What was seen. Boxes are in square pixels, the canvas is what the clip stores.
fn draw_objects(rgb: &mut [u8], size: (usize, usize), frame: &Detections, numbers: &BTreeMap<&str, usize>) {
    let across = size.0 as f64 / f64::from(frame.size[0].max(1));
    let down = size.1 as f64 / f64::from(frame.size[1].max(1));
    for object in &frame.objects {
        let [left, top, width, height] = object.r#box.map(|number| number as f64);
        let rect =
            Rect { left: left * across, top: top * down, width: width * across, height: height * down };
        let number = numbers.get(object.id.as_str()).copied().unwrap_or_default();
        let still = if object.moving { "" } else { " still" };
        let text = format!("#{} {}{still}", number + 1, caption(&object.label, object.score));
        picture::draw_box(rgb, size, &rect, &text, COLOURS[number % COLOURS.len()]);
    }
}
