//! Motion detection: which parts of an image differ from the background.
//!
//! The scaled-down image is compared with the [`Background`]; connected foreground cells become
//! [`MotionRegion`]s in the pixels of the upright image. A sudden change of the whole image is not motion: it
//! is reported as a [`SceneChange`], and the background is learned anew.

mod grid;
mod scene_change;

use self::{
    grid::{Geometry, to_cells, to_rect},
    scene_change::SceneChangeDetector,
};
use super::{
    background::{Background, FOREGROUND},
    blobs::{self, Blob, Run},
    luma::Luma,
    patch::{CellRect, TemplatePatch},
    rect::{Rect, upright_size},
};
use crate::{
    config::{self, polygon::Polygon},
    frame::{Image, Rotation},
};
use std::time::Duration;

pub use scene_change::SceneChange;

/// Maximum number of cells per row of the scaled-down image.
const MAX_WIDTH: usize = 320;
/// Foreground cells with at most this many cells between them are connected.
const MAX_GAP: usize = 2;
/// Time constant of the background after a scene change.
const SETTLING_MEMORY: Duration = Duration::from_millis(300);
/// Minimum number of cells with new edges of an object, as a share of its outline.
const MIN_NEW_EDGES: f32 = 0.15;
/// Minimum number of cells with lost edges of a ghost, as a share of its outline.
const MIN_LOST_EDGES: f32 = 0.3;
/// A blob that correlates this well with the background nearby is a displaced part of it.
const MIN_DISPLACED_CORRELATION: f32 = 0.8;
/// Maximum displacement, in cells.
const MAX_DISPLACEMENT: usize = 3;
/// Maximum width and height of a displaced part of the background, in cells.
const MAX_DISPLACED_SIZE: usize = 24;
/// A stationary object that correlates this well with its patch is still there ...
const MIN_STATIONARY_CORRELATION: f32 = 0.7;
/// ... if at least this share of it is foreground.
const MIN_STATIONARY_FOREGROUND: f32 = 0.2;
/// Minimum share of moving cells in the box of an object that moves.
const MIN_PART: f64 = 0.1;
/// Bins of a motion region's brightness histogram.
const HISTOGRAM_BINS: usize = 16;

/// A part of the image that differs from the background.
#[derive(Debug, Clone)]
pub struct MotionRegion {
    /// Bounding box in the upright image.
    pub rect: Rect,
    /// Brightness histogram. The bins add up to 1.
    pub histogram: [f32; HISTOGRAM_BINS],
    blob: Blob,
}

/// An object that was stationary when it was last visible.
#[derive(Debug, Clone, Copy)]
pub struct StationaryObject<'a> {
    /// Its appearance.
    pub patch: &'a TemplatePatch,
    /// The background was learned anew while it was there, so it is not foreground.
    pub in_background: bool,
}

/// What a blob shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BlobKind {
    /// An object.
    Object,
    /// The place where something was part of the background and has left: edges have disappeared and none
    /// have appeared.
    Ghost,
    /// A soft shadow or a beam of light.
    Illumination,
    /// A part of the background that has moved a little: the view drifts, a twig sways.
    Displaced,
}

/// Result of motion detection on one image.
#[derive(Debug, Default)]
pub struct MotionResult {
    /// All motion regions, from top to bottom.
    pub regions: Vec<MotionRegion>,
    /// For each stationary object, whether it is still there. Empty if the background was learned anew.
    pub still_present: Vec<bool>,
    /// The whole scene has changed since the image before.
    pub change: Option<SceneChange>,
    /// The background was learned anew, with everything in it.
    pub relearned: bool,
    /// The scene changed a moment ago: new objects are not accepted.
    pub settling: bool,
}

/// Cells of an image, see [`MotionDetector::moving_cells`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "described there")]
pub struct MovingCells {
    pub columns: usize,
    pub rows: usize,
    pub runs: Vec<(usize, usize)>,
}

/// Motion detector of one camera.
#[derive(Debug)]
pub struct MotionDetector {
    settings: config::Motion,
    masks: Vec<Polygon>,
    geometry: Option<Geometry>,
    luma: Luma,
    background: Background,
    scene_changes: SceneChangeDetector,
    /// Cells within a mask.
    ignored: Vec<bool>,
    /// Cells that show an object and must not be learned.
    covered: Vec<bool>,
    last_at: Duration,
    /// Time between the last two images.
    passed: Duration,
}

impl MotionDetector {
    /// Creates a detector without a background. Motion within `masks` (in fractions of the image's size) is
    /// ignored.
    pub fn new(settings: config::Motion, masks: Vec<Polygon>) -> MotionDetector {
        MotionDetector {
            settings,
            masks,
            geometry: None,
            luma: Luma::default(),
            background: Background::default(),
            scene_changes: SceneChangeDetector::default(),
            ignored: Vec::new(),
            covered: Vec::new(),
            last_at: Duration::ZERO,
            passed: Duration::ZERO,
        }
    }

    /// Changes the threshold, see [`config::Motion::threshold`].
    pub fn set_threshold(&mut self, threshold: f64) {
        self.settings.threshold = threshold;
    }

    /// The cells of the last image in which something moved, after all corrections, in the upright image: the
    /// number of columns and rows, and runs of cells as start and length, in the order of reading. At most
    /// `max_runs` runs.
    pub fn moving_cells(&self, max_runs: usize) -> MovingCells {
        let rotation = self.geometry.map(|geometry| geometry.rotation()).unwrap_or_default();
        let (width, height) = (self.luma.width, self.luma.height);
        let mask = self.background.mask();
        let is_turned = matches!(rotation, Rotation::Right | Rotation::Left);
        let (columns, rows) = if is_turned { (height, width) } else { (width, height) };
        let mut cells = MovingCells { columns, rows, runs: Vec::new() };
        if mask.len() != width * height {
            return cells;
        }
        let stored = |column: usize, row: usize| match rotation {
            Rotation::None => (column, row),
            Rotation::Right => (row, height - 1 - column),
            Rotation::Half => (width - 1 - column, height - 1 - row),
            Rotation::Left => (width - 1 - row, column),
        };
        for row in 0..rows {
            for column in 0..columns {
                let (x, y) = stored(column, row);
                if mask[y * width + x] != FOREGROUND {
                    continue;
                }
                let cell = row * columns + column;
                if let Some((start, length)) = cells.runs.last_mut()
                    && *start + *length == cell
                {
                    *length += 1;
                } else if cells.runs.len() < max_runs {
                    cells.runs.push((cell, 1));
                } else {
                    return cells;
                }
            }
        }
        cells
    }

    /// The last image, scaled down.
    pub fn luma(&self) -> &Luma {
        &self.luma
    }

    /// Whether the image has the same geometry as those before it. True for the first image.
    pub fn has_same_geometry(&self, image: &Image) -> bool {
        self.geometry.is_none_or(|geometry| geometry == Geometry::of(image))
    }

    /// Detects motion in the image of time `at`, which is not before the previous one. Returns None if the
    /// pixels cannot be read.
    ///
    /// `stationary` are the objects that were stationary when they were last visible. Where they still are,
    /// no other motion is reported.
    pub fn detect(
        &mut self,
        image: &Image,
        at: Duration,
        stationary: &[StationaryObject<'_>],
    ) -> Option<MotionResult> {
        if !self.luma.downscale(image, MAX_WIDTH) {
            return None;
        }
        self.passed = at.saturating_sub(self.last_at);
        self.last_at = at;
        if !self.has_same_geometry(image) || !self.background.has_size_of(&self.luma) {
            self.reset(image);
            return Some(MotionResult::default());
        }
        let threshold = self.settings.threshold as f32;
        self.background.compare(&self.luma, threshold, &self.ignored);
        let settling = self.scene_changes.is_settling(at);
        let light_step = self.scene_changes.is_light_step(self.background.brightness_change());
        if light_step {
            self.background.adopt_illumination();
        }
        if let Some(change) = self.scene_changes.detect(self.background.mask(), self.luma.width, settling) {
            self.background.reset(&self.luma);
            self.scene_changes.start_settling(at);
            let change = (!settling).then_some(change);
            return Some(MotionResult { change, relearned: true, settling: true, ..MotionResult::default() });
        }
        if light_step {
            self.scene_changes.start_settling(at);
        }
        let still_present: Vec<bool> =
            stationary.iter().map(|object| self.is_still_present(object)).collect();
        self.covered.fill(false);
        for (object, _) in stationary.iter().zip(&still_present).filter(|(_, present)| **present) {
            self.cover(object.patch.cells());
        }
        self.background.clear_mask(&self.covered);
        let regions = self.find_regions(image);
        let change = (light_step && !settling).then_some(SceneChange::Light);
        let settling = settling || light_step;
        Some(MotionResult { regions, still_present, change, relearned: false, settling })
    }

    /// Updates the background from the last image. `covered` regions show objects and are not learned, like
    /// the stationary objects that are still present.
    pub fn learn<'a>(&mut self, covered: impl Iterator<Item = &'a MotionRegion>) {
        for run in covered.flat_map(|region| &region.blob.runs) {
            // With a margin of one cell, where blurred edges are foreground only occasionally.
            let from = run.start.saturating_sub(1);
            for y in run.y.saturating_sub(1)..(run.y + 2).min(self.luma.height) {
                let row = y * self.luma.width;
                self.covered[row + from..row + (run.end + 1).min(self.luma.width)].fill(true);
            }
        }
        let is_settling = self.scene_changes.is_settling(self.last_at);
        let memory = if is_settling { SETTLING_MEMORY } else { self.settings.memory };
        self.background.learn(self.passed, memory, &self.covered);
    }

    /// Adds the content of a region of the last image to the background.
    pub fn absorb(&mut self, region: &MotionRegion) {
        self.background.absorb(&region.blob);
    }

    /// Adds the content of the last image at the position of a patch to the background.
    pub fn absorb_patch(&mut self, patch: &TemplatePatch) {
        let CellRect { left, top, width, height } = patch.cells();
        let runs = (top..top + height).map(|y| Run { y, start: left, end: left + width }).collect();
        let (right, bottom) = (left + width, top + height);
        self.background.absorb(&Blob { left, top, right, bottom, area: width * height, runs });
    }

    /// Returns the part of a region within `rect`, which is the box of one of the objects in it. None if
    /// hardly anything moves there.
    pub fn part(&self, region: &MotionRegion, rect: &Rect, image: &Image) -> Option<MotionRegion> {
        let CellRect { left, top, width, height } = to_cells(&self.luma, rect, image);
        let (right, bottom) = (left + width, top + height);
        let runs: Vec<Run> =
            region.blob.runs.iter().filter_map(|run| run.within(left, right, top, bottom)).collect();
        let area: usize = runs.iter().map(|run| run.end - run.start).sum();
        if (area as f64) < MIN_PART * (width * height) as f64 {
            return None;
        }
        let blob = Blob { left, top, right, bottom, area, runs };
        Some(MotionRegion { rect: *rect, ..self.region(blob, image) })
    }

    /// Returns the appearance of `rect` in the last image.
    pub fn patch(&self, rect: &Rect, image: &Image) -> TemplatePatch {
        let cells = to_cells(&self.luma, rect, image);
        TemplatePatch::extract(self.background.current(), self.luma.width, cells)
    }

    /// Returns the brightness histogram of `rect` in the last image.
    pub fn histogram(&self, rect: &Rect, image: &Image) -> [f32; HISTOGRAM_BINS] {
        let CellRect { left, top, width, height } = to_cells(&self.luma, rect, image);
        let runs = (top..top + height).map(|y| Run { y, start: left, end: left + width });
        self.histogram_of(runs, width * height)
    }

    /// Returns the correlation of `patch` with the last image at the place where it was extracted, -1 to 1.
    pub fn correlation(&self, patch: &TemplatePatch) -> f32 {
        patch.correlation(self.background.current(), self.luma.width, patch.cells())
    }

    /// Searches the last image for a patch around `rect`, up to `reach` pixels away. Returns by how much
    /// `rect` must be moved and the correlation there.
    pub fn find(&self, patch: &TemplatePatch, rect: &Rect, reach: f64, image: &Image) -> ((f64, f64), f32) {
        let cells = to_cells(&self.luma, rect, image);
        let reach_cells = (reach / self.luma.side as f64).ceil() as usize;
        let size = (self.luma.width, self.luma.height);
        let (found, correlation) = patch.find(self.background.current(), size, cells, reach_cells);
        let centre = |cells: CellRect| to_rect(&self.luma, cells, image).centre();
        let (from, to) = (centre(cells), centre(found));
        ((to.0 - from.0, to.1 - from.1), correlation)
    }

    /// Starts with a new geometry: computes the masked cells and takes the image as the background.
    fn reset(&mut self, image: &Image) {
        self.geometry = Some(Geometry::of(image));
        self.background = Background::default();
        self.background.reset(&self.luma);
        self.covered = vec![false; self.luma.cells.len()];
        self.ignored = vec![false; self.luma.cells.len()];
        let (width, height) = upright_size(image);
        for y in 0..self.luma.height {
            for x in 0..self.luma.width {
                let cell = CellRect { left: x, top: y, width: 1, height: 1 };
                let (cx, cy) = to_rect(&self.luma, cell, image).centre();
                let point = (cx / width, cy / height);
                self.ignored[y * self.luma.width + x] = self.masks.iter().any(|mask| mask.contains(point));
            }
        }
        self.scene_changes.reset(&self.ignored, self.luma.width);
    }

    /// Whether a stationary object is still there: it looks the same, and not like the background without it.
    fn is_still_present(&self, object: &StationaryObject<'_>) -> bool {
        let CellRect { left, top, width, height } = object.patch.cells();
        if self.correlation(object.patch) < MIN_STATIONARY_CORRELATION {
            return false;
        }
        let mask = self.background.mask();
        let rows = (top..top + height).map(|y| y * self.luma.width + left);
        let foreground: usize = rows
            .map(|start| mask[start..start + width].iter().filter(|&&value| value == FOREGROUND).count())
            .sum();
        object.in_background || foreground as f32 >= MIN_STATIONARY_FOREGROUND * (width * height) as f32
    }

    /// Marks cells, with a margin, as covered by an object.
    fn cover(&mut self, cells: CellRect) {
        let (width, height) = (self.luma.width, self.luma.height);
        for y in cells.top.saturating_sub(MAX_GAP)..(cells.top + cells.height + MAX_GAP).min(height) {
            let row = y * width;
            let end = (cells.left + cells.width + MAX_GAP).min(width);
            self.covered[row + cells.left.saturating_sub(MAX_GAP)..row + end].fill(true);
        }
    }

    /// Returns the blobs of the last image that show objects. Ghosts are absorbed into the background.
    fn find_regions(&mut self, image: &Image) -> Vec<MotionRegion> {
        let (width, min_size) = (self.luma.width as f64, self.settings.min_size);
        let min_length = (min_size * width).max(2.0);
        let is_large = |blob: &Blob| {
            let length = (blob.right - blob.left).max(blob.bottom - blob.top) as f64;
            length >= min_length && blob.area as f64 >= 0.25 * min_length * min_length
        };
        let blobs = blobs::find(self.background.mask(), self.luma.width, FOREGROUND, MAX_GAP);
        let mut regions = Vec::new();
        for blob in blobs.into_iter().filter(is_large) {
            match self.kind_of(&blob) {
                BlobKind::Object => regions.push(self.region(blob, image)),
                BlobKind::Ghost => self.background.absorb(&blob),
                BlobKind::Illumination | BlobKind::Displaced => {}
            }
        }
        regions
    }

    /// Determines what a blob shows by its edges: an object has edges of its own.
    fn kind_of(&self, blob: &Blob) -> BlobKind {
        let (columns, rows) = (blob.right - blob.left, blob.bottom - blob.top);
        let outline = 2.0 * (columns + rows) as f32;
        let (new, lost) = self.background.count_edge_changes(blob);
        let (width, height) = (self.luma.width, self.luma.height);
        if (new as f32) < MIN_NEW_EDGES * outline {
            // Of an object that enters over the image's edge, no outline is visible yet.
            let is_cut = blob.left == 0 || blob.top == 0 || blob.right == width || blob.bottom == height;
            let is_ghost = lost as f32 >= MIN_LOST_EDGES * outline && !is_cut;
            return if is_ghost { BlobKind::Ghost } else { BlobKind::Illumination };
        }
        if columns.max(rows) > MAX_DISPLACED_SIZE {
            return BlobKind::Object;
        }
        let (left, top) = (blob.left.saturating_sub(2), blob.top.saturating_sub(2));
        let cells = CellRect {
            left,
            top,
            width: (blob.right + 2).min(width) - left,
            height: (blob.bottom + 2).min(height) - top,
        };
        let patch = TemplatePatch::extract(self.background.current(), width, cells);
        let (_, correlation) = patch.find(self.background.mean(), (width, height), cells, MAX_DISPLACEMENT);
        if correlation >= MIN_DISPLACED_CORRELATION { BlobKind::Displaced } else { BlobKind::Object }
    }

    fn region(&self, blob: Blob, image: &Image) -> MotionRegion {
        let cells = CellRect {
            left: blob.left,
            top: blob.top,
            width: blob.right - blob.left,
            height: blob.bottom - blob.top,
        };
        let histogram = self.histogram_of(blob.runs.iter().copied(), blob.area);
        MotionRegion { rect: to_rect(&self.luma, cells, image), histogram, blob }
    }

    /// The brightness histogram of `area` cells.
    fn histogram_of(&self, runs: impl Iterator<Item = Run>, area: usize) -> [f32; HISTOGRAM_BINS] {
        let mut histogram = [0.0; HISTOGRAM_BINS];
        for run in runs {
            let row = run.y * self.luma.width;
            for brightness in &self.background.current()[row + run.start..row + run.end] {
                let bin = (*brightness as usize * HISTOGRAM_BINS / 256).min(HISTOGRAM_BINS - 1);
                histogram[bin] += 1.0 / area as f32;
            }
        }
        histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Colorimetry, OwnedPlanes, PixelFormat, Rotation, View, YuvMatrix};

    const SIZE: (usize, usize) = (320, 180);

    /// A noisy image of a textured view. Each number is another view.
    fn image_of(view: u64, seed: u64) -> Image {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut texture = fastrand::Rng::with_seed(1000 + view);
        let blocks: Vec<u8> = (0..40 * 23).map(|_| texture.u8(30..220)).collect();
        let of = |i: usize| blocks[i / SIZE.0 / 8 * 40 + i % SIZE.0 / 8];
        let data = (0..SIZE.0 * SIZE.1).map(|i| of(i) + random.u8(0..3)).collect();
        Image {
            format: PixelFormat::Gray8,
            width: SIZE.0,
            height: SIZE.1,
            colorimetry: Colorimetry { matrix: YuvMatrix::Bt601, full_range: true },
            view: View::PLAIN,
            planes: Box::new(OwnedPlanes(vec![(data, SIZE.0)])),
        }
    }

    fn detector(masks: Vec<Polygon>) -> MotionDetector {
        let settings = config::Motion { threshold: 8.0, memory: Duration::from_secs(20), min_size: 0.03 };
        MotionDetector::new(settings, masks)
    }

    /// Processes one image per time and view. Returns the times of the reported changes and the number of
    /// regions.
    fn process(
        detector: &mut MotionDetector,
        views: impl Iterator<Item = (Duration, u64)>,
    ) -> (Vec<Duration>, usize) {
        let (mut changes, mut regions) = (Vec::new(), 0);
        for (number, (at, view)) in views.enumerate() {
            let result = detector.detect(&image_of(view, number as u64), at, &[]).unwrap();
            changes.extend(result.change.map(|_| at));
            regions += result.regions.len();
            detector.learn(std::iter::empty());
        }
        (changes, regions)
    }

    #[test]
    fn another_view_is_recognised_with_masks_of_any_size() {
        let box_mask =
            |right: f64, bottom: f64| Polygon(vec![(0.0, 0.0), (right, 0.0), (right, bottom), (0.0, bottom)]);
        for masks in [vec![], vec![box_mask(1.0, 0.3)], vec![box_mask(0.6, 1.0)], vec![box_mask(1.0, 0.74)]] {
            let views = (0..20).map(|n| (Duration::from_millis(200 * n), u64::from(n >= 10)));
            let (changes, regions) = process(&mut detector(masks.clone()), views);
            assert_eq!((changes, regions), (vec![Duration::from_secs(2)], 0), "{masks:?}");
        }
    }

    #[test]
    fn a_second_change_after_the_settle_time_is_reported_despite_inaccurate_times() {
        for error_us in [-900, 0, 900] {
            let views = (0..40i64).map(|n| {
                let error_us = if n == 20 { error_us } else { 0 };
                let view = if n < 10 { 0 } else { 1 + u64::from(n >= 20) };
                (Duration::from_micros((200_000 * n + error_us) as u64), view)
            });
            assert_eq!(process(&mut detector(vec![]), views).0.len(), 2, "{error_us} µs");
        }
    }

    #[test]
    fn interlacing_is_not_part_of_the_geometry() {
        let mut detector = detector(vec![]);
        process(&mut detector, std::iter::once((Duration::ZERO, 0)));
        let mut image = image_of(0, 1);
        image.view.interlaced = true;
        assert!(detector.has_same_geometry(&image));
        image.view.rotation = Rotation::Half;
        assert!(!detector.has_same_geometry(&image));
    }

    #[test]
    fn moving_cells_are_those_of_the_upright_image() {
        for rotation in [Rotation::None, Rotation::Right, Rotation::Half, Rotation::Left] {
            let mut detector = detector(Vec::new());
            let mut image = |number: u64, object: bool| {
                let mut image = image_of(1, number);
                if object {
                    let mut data = image.planes.plane(0).data.to_vec();
                    // Off the centre, so that no rotation maps it to itself.
                    for row in 20..60 {
                        data[row * SIZE.0 + 30..row * SIZE.0 + 90].fill(255);
                    }
                    image.planes = Box::new(OwnedPlanes(vec![(data, SIZE.0)]));
                }
                image.view.rotation = rotation;
                detector.detect(&image, Duration::from_millis(200 * number), &[]).unwrap()
            };
            let regions = (0..20).map(|number| image(number, number == 19)).last().unwrap().regions;
            let [region] = &regions[..] else { panic!("{rotation:?}: {} regions", regions.len()) };
            let cells = detector.moving_cells(10_000);
            let (width, height) = upright_size(&image_of(1, 0));
            let sideways = matches!(rotation, Rotation::Right | Rotation::Left);
            let size = if sideways { (height, width) } else { (width, height) };
            assert_eq!((cells.columns as f64, cells.rows as f64), size, "{rotation:?}");
            let inside =
                cells.runs.iter().flat_map(|&(start, length)| start..start + length).filter(|cell| {
                    let (x, y) = ((cell % cells.columns) as f64 + 0.5, (cell / cells.columns) as f64 + 0.5);
                    (region.rect.left..region.rect.right()).contains(&x)
                        && (region.rect.top..region.rect.bottom()).contains(&y)
                });
            let (inside, all) = (inside.count(), cells.runs.iter().map(|(_, length)| length).sum::<usize>());
            assert!(inside > 1500 && inside * 10 >= all * 9, "{rotation:?}: {inside} of {all}");
            assert_eq!(detector.moving_cells(2).runs.len(), 2);
        }
    }
}
