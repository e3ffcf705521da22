//! Detects sudden changes of the whole image: another light or another view. They are not motion.
//!
//! The image is divided into tiles. A change of view, or of light that the illumination model cannot explain,
//! is a sudden change of nearly all tiles; a light step is a jump of the fitted brightness.

use super::super::background::{BACKGROUND, FOREGROUND, ILLUMINATION};
use std::time::Duration;

/// The image is divided into `TILES` x `TILES` tiles.
const TILES: usize = 4;
/// Minimum share of a tile's unmasked cells that differ from the background in a changed tile.
const MIN_CHANGED_SHARE: f32 = 0.35;
/// Minimum unmasked share of a tile that is counted.
const MIN_UNMASKED_SHARE: f32 = 0.25;
/// Minimum number of counted tiles; with fewer, an object cannot be distinguished from another view.
const MIN_COUNTED_TILES: usize = 4;
/// The whole scene has changed if at least this many sixteenths of the counted tiles have changed ...
const MIN_CHANGED_SIXTEENTHS: usize = 14;
/// ... and in the frame before, at most this many had.
const MAX_SIXTEENTHS_BEFORE: usize = 8;
/// Minimum brightness change between two frames that is a light step, such as a lamp.
const MIN_LIGHT_STEP: f32 = 20.0;
/// Time after a change in which cameras adapt their exposure and no new objects are accepted.
const SETTLE_TIME: Duration = Duration::from_secs(2);
/// Tolerance for the inaccuracy of frame times.
const TIME_TOLERANCE: Duration = Duration::from_millis(10);

/// Number of cells per tile.
type TileCounts = [[usize; TILES]; TILES];

/// How the whole scene changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SceneChange {
    /// Another light: a lamp, infrared.
    Light,
    /// Another view: the camera was moved or covered.
    View,
}

/// Detects scene changes of one camera.
#[derive(Debug, Default)]
pub struct SceneChangeDetector {
    /// Cells of each tile outside all masks.
    unmasked: TileCounts,
    /// Changed tiles of the frame before.
    changed_tiles: usize,
    /// Brightness change of the frame before.
    brightness_change: f32,
    settles_at: Duration,
}

impl SceneChangeDetector {
    /// Starts with a new background. `ignored` are the masked cells of images that are `width` cells wide.
    pub fn reset(&mut self, ignored: &[bool], width: usize) {
        self.unmasked = count_per_tile(ignored, width, |ignored| !ignored);
        (self.changed_tiles, self.brightness_change) = (0, 0.0);
    }

    /// Whether the scene changed shortly before `at`.
    pub fn is_settling(&self, at: Duration) -> bool {
        at + TIME_TOLERANCE < self.settles_at
    }

    /// Starts the settle time.
    pub fn start_settling(&mut self, at: Duration) {
        self.settles_at = at + SETTLE_TIME;
    }

    /// Whether the fitted brightness has jumped since the frame before. The caller then adopts the
    /// illumination.
    pub fn is_light_step(&mut self, brightness_change: f32) -> bool {
        let is_step = (brightness_change - self.brightness_change).abs() >= MIN_LIGHT_STEP;
        self.brightness_change = if is_step { 0.0 } else { brightness_change };
        is_step
    }

    /// Returns the change if the whole scene has changed since the frame before. The caller then resets the
    /// background.
    ///
    /// While the scene is `settling`, the change need not be sudden.
    pub fn detect(&mut self, mask: &[u8], width: usize, settling: bool) -> Option<SceneChange> {
        let (changed, counted) = self.count_tiles(mask, width);
        let before = std::mem::replace(&mut self.changed_tiles, changed);
        let of_counted = |sixteenths: usize| (sixteenths * counted) as f32 / (TILES * TILES) as f32;
        let is_sudden = before as f32 <= of_counted(MAX_SIXTEENTHS_BEFORE) || settling;
        let is_whole = (changed as f32) >= of_counted(MIN_CHANGED_SIXTEENTHS);
        if counted < MIN_COUNTED_TILES || !is_whole || !is_sudden {
            return None;
        }
        (self.changed_tiles, self.brightness_change) = (0, 0.0);
        let count = |value: u8| mask.iter().filter(|&&cell| cell == value).count();
        Some(if count(ILLUMINATION) > count(FOREGROUND) { SceneChange::Light } else { SceneChange::View })
    }

    /// Returns how many tiles have changed and how many are counted: mostly masked ones are not.
    fn count_tiles(&self, mask: &[u8], width: usize) -> (usize, usize) {
        let differing = count_per_tile(mask, width, |&value| value != BACKGROUND);
        let min_unmasked = MIN_UNMASKED_SHARE * mask.len() as f32 / (TILES * TILES) as f32;
        let tiles = self.unmasked.iter().flatten().zip(differing.iter().flatten());
        let counted = tiles.filter(|(unmasked, _)| **unmasked as f32 >= min_unmasked.max(1.0));
        let is_changed = |(unmasked, differing): (&usize, &usize)| {
            *differing as f32 >= MIN_CHANGED_SHARE * *unmasked as f32
        };
        counted.fold((0, 0), |(changed, all), tile| (changed + usize::from(is_changed(tile)), all + 1))
    }
}

/// Counts the cells of each tile that satisfy `is`, in an image that is `width` cells wide.
fn count_per_tile<T>(cells: &[T], width: usize, is: impl Fn(&T) -> bool) -> TileCounts {
    let height = cells.len() / width;
    let mut counts = [[0; TILES]; TILES];
    for (y, row) in cells.chunks_exact(width).enumerate() {
        if !row.iter().any(&is) {
            continue;
        }
        for (tile, count) in counts[y * TILES / height].iter_mut().enumerate() {
            *count +=
                row[tile * width / TILES..(tile + 1) * width / TILES].iter().filter(|cell| is(cell)).count();
        }
    }
    counts
}
