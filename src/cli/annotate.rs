//! The annotated clip that `camfire analyze --annotate` writes: its file, and what is drawn on it.
//!
//! It is written to a temporary file beside the target and renamed at the end, so the target is always
//! complete. Problems with the target are reported before the analysis starts.

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

/// Box colours, assigned to objects in turn.
const COLOURS: [Rgb888; 6] = [
    Rgb888::new(255, 210, 0),
    Rgb888::new(80, 220, 100),
    Rgb888::new(90, 180, 255),
    Rgb888::new(255, 120, 190),
    Rgb888::new(255, 140, 60),
    Rgb888::new(190, 150, 255),
];

/// Where the clip is written.
pub struct Target {
    /// Path as given by the user.
    name: PathBuf,
    /// The same path with symbolic links resolved.
    file: PathBuf,
    /// Permissions of the file that is replaced, if it exists.
    permissions: Option<Permissions>,
}

impl Target {
    /// Checks that the target can be written, without changing it.
    ///
    /// Errors ([`ErrorKind::Input`]): it is the recording itself, not an MP4, not a regular file, or not
    /// writable.
    pub fn check(clip: &Path, name: &Path) -> Result<Target, Error> {
        let refuse = |why: &str| Error::new(ErrorKind::Input, format!("{}: {why}", name.display()));
        let unwritable = |e: io::Error| Error::caused(ErrorKind::Input, name.display().to_string(), e);
        if !name.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("mp4")) {
            return Err(refuse("only MP4 can be written: the name must end in .mp4"));
        }
        let existing = match fs::metadata(name) {
            Ok(existing) => Some(existing),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(unwritable(e)),
        };
        let file = match &existing {
            Some(existing) if existing.is_dir() => return Err(refuse("is a directory")),
            Some(existing) if !existing.is_file() => return Err(refuse("is not a regular file")),
            Some(existing) => {
                let source = fs::metadata(clip)
                    .map_err(|e| Error::caused(ErrorKind::Input, clip.display().to_string(), e))?;
                if identity(existing) == identity(&source) {
                    return Err(refuse("is the recording itself, which would be overwritten"));
                }
                OpenOptions::new().write(true).open(name).map_err(unwritable)?;
                name.canonicalize().map_err(unwritable)?
            }
            None => {
                let file = std::path::absolute(name).map_err(unwritable)?;
                if !file.parent().is_some_and(Path::is_dir) {
                    return Err(refuse("the directory does not exist"));
                }
                file
            }
        };
        let permissions = existing.map(|existing| existing.permissions());
        let target = Target { name: name.to_path_buf(), file, permissions };
        // Created and removed at once, to check that it can be created.
        target.temporary_file()?;
        Ok(target)
    }

    /// An empty temporary file beside the target, removed when dropped.
    fn temporary_file(&self) -> Result<TempPath, Error> {
        let folder = self.file.parent().unwrap_or(Path::new("/"));
        // The permissions of any new file, less the umask.
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

    /// Writes the clip with the objects of `frames` drawn on it. Stops early when `is_cancelled` returns
    /// true.
    ///
    /// Errors: see [`gst::transcode`]. On errors, and if stopped, no file is left.
    pub fn write(
        &self,
        clip: &Path,
        camera: &Camera,
        frames: &[Detections],
        is_cancelled: impl FnMut() -> bool,
    ) -> Result<Ended, Error> {
        let temporary_file = self.temporary_file()?;
        let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
        for object in frames.iter().flat_map(|frame| &frame.objects) {
            let next = numbers.len();
            numbers.entry(&object.id).or_insert(next);
        }
        let draw = |at: Duration, rgb: &mut [u8], size: (usize, usize)| {
            draw_settings(rgb, size, camera);
            // Draw the last analysed frame, so boxes move at the analysed rate.
            let at_ms = at.as_millis() as i64;
            let before = frames.partition_point(|frame| frame.captured_at.as_millisecond() <= at_ms);
            if let Some(index) = before.checked_sub(1) {
                draw_objects(rgb, size, &frames[index], &numbers);
            }
        };
        let paths = gst::Paths { clip, to: &temporary_file, name: &self.name };
        let ended = gst::transcode(&paths, camera.rotation, draw, is_cancelled)?;
        if ended == Ended::Finished {
            let failed = |e| Error::caused(ErrorKind::System, self.name.display().to_string(), e);
            temporary_file.persist(&self.file).map_err(failed)?;
        }
        Ok(ended)
    }
}

/// Device and inode: equal for all paths of one file.
fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// Draws the masks, zones and regions of the camera.
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

/// Draws the objects of a frame. Boxes are in square pixels, the canvas has the clip's stored pixels.
fn draw_objects(rgb: &mut [u8], size: (usize, usize), frame: &Detections, numbers: &BTreeMap<&str, usize>) {
    let across = size.0 as f64 / f64::from(frame.size[0].max(1));
    let down = size.1 as f64 / f64::from(frame.size[1].max(1));
    for object in &frame.objects {
        let [left, top, width, height] = object.r#box.map(|number| number as f64);
        let rect =
            Rect { left: left * across, top: top * down, width: width * across, height: height * down };
        let number = numbers.get(object.id.as_str()).copied().unwrap_or_default();
        let still = if object.moving { "" } else { " stationary" };
        let text = format!("#{} {}{still}", number + 1, caption(&object.label, object.score));
        picture::draw_box(rgb, size, &rect, &text, COLOURS[number % COLOURS.len()]);
    }
}
