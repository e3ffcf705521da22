//! Where in a picture something is that does not belong to the scene.
//!
//! The small picture is compared with the [`Background`]; connected cells that stand out become [`MotionRegion`]s in the
//! picture's own pixels. A sudden change of the whole picture is no thing: it is told as such and learned.

use super::{
    background::{Background, LIGHT, STILL, THING},
    blobs::{self, Blob, Run},
    luma::Luma,
    patch::{Cells, Patch},
    rect::{Rect, upright_size},
};
use crate::{
    config::{self, polygon::Polygon},
    frame::{Image, Rotation, View},
};
use std::time::Duration;

/// Cells a row of the small picture that is judged.
const MOST_WIDTH: usize = 320;
/// Cells that are so far apart still belong together.
const REACH: usize = 2;
/// The picture is looked at in 4 x 4 tiles; one has changed where so much of it stands out.
const TILES: usize = 4;
const CHANGED_TILE: f32 = 0.35;
/// A tile counts of which masks leave so much; of fewer tiles than these nobody can tell a thing from another view.
const OPEN_TILE: f32 = 0.25;
const LEAST_TILES: usize = 4;
/// So many sixteenths of the tiles make a change of the whole scene, if it were so few at the picture before.
const ALL_TILES: usize = 14;
const FEW_TILES: usize = 8;
/// So much brighter or darker all at once is a lamp.
const LAMP: f32 = 20.0;
/// After a change of the scene, cameras need so long for their exposure; nothing new is seen meanwhile.
const SETTLES: Duration = Duration::from_secs(2);
/// Times of frames are exact to less than this, however they were measured.
const ROUNDING: Duration = Duration::from_millis(10);
/// The memory while it settles.
const SETTLING_MEMORY: Duration = Duration::from_millis(300);
/// A thing has new edges on so much of its outline; a hole has lost them on so much of it.
const NEW_EDGES: f32 = 0.15;
const LOST_EDGES: f32 = 0.3;
/// What looks so much like the scene up to so many cells away is the scene; only for small parts of it, so many cells long
/// at most.
const SAME: f32 = 0.8;
/// A standing thing that looks so much like before is still there.
const STANDS: f32 = 0.7;
/// At least this part of a standing thing stands out.
const COVERED: f32 = 0.2;
const DISPLACED: usize = 3;
const MOST_DISPLACED: usize = 24;
/// Steps of brightness that a spot's histogram tells apart.
const BINS: usize = 16;

/// How the whole scene changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SceneChange {
    /// Another light: a lamp, infrared.
    Light,
    /// Another view: the camera was moved or covered.
    View,
}

/// A part of the picture that does not belong to the scene.
#[derive(Debug, Clone)]
pub struct MotionRegion {
    /// Where, in pixels of the picture as one sees it.
    pub rect: Rect,
    /// How its brightness is distributed; sums up to 1.
    pub histogram: [f32; BINS],
    blob: Blob,
}

/// A thing that stood still when it was last seen.
#[derive(Debug, Clone, Copy)]
pub struct StationaryObject<'a> {
    /// How it looked.
    pub patch: &'a Patch,
    /// The scene was learned anew with it there, so that it does not stand out from that.
    pub is_learned: bool,
}

/// What a blob may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nature {
    /// Something that does not belong to the scene.
    Thing,
    /// Where something has gone away that was taken for a part of the scene: its edges have gone and nothing has come.
    Hole,
    /// A soft shadow, a beam of light.
    Light,
    /// A part of the scene itself, moved a little: the camera's view drifts, a twig sways.
    Displaced,
}

/// What a look found.
#[derive(Debug, Default)]
pub struct MotionResult {
    /// Everything that does not belong to the scene, from top to bottom.
    pub spots: Vec<MotionRegion>,
    /// Of each standing thing, whether it stands where it stood; empty where the scene had to be learned anew.
    pub stands: Vec<bool>,
    /// The whole scene has changed just now.
    pub change: Option<SceneChange>,
    /// The background had to be learned anew, with everything in it.
    pub relearned: bool,
    /// The scene has changed a moment ago: nothing that is new should be believed.
    pub settling: bool,
}

/// The form of a picture, which decides what a cell means. Whether its rows are of two moments does not: some streams
/// say so of each picture anew.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Form {
    width: usize,
    height: usize,
    pixel_aspect: f64,
    rotation: Rotation,
}

/// One camera's sense of motion.
#[derive(Debug)]
pub struct Motion {
    settings: config::Motion,
    masks: Vec<Polygon>,
    form: Option<Form>,
    luma: Luma,
    background: Background,
    /// Cells behind a mask, and how many of each tile are behind none.
    ignored: Vec<bool>,
    open: [[usize; TILES]; TILES],
    held: Vec<bool>,
    last_at: Duration,
    passed: Duration,
    tiles: usize,
    light: f32,
    settles_at: Duration,
}

impl Motion {
    /// With polygons in parts of the picture's width and height within which nothing counts.
    pub fn new(settings: config::Motion, masks: Vec<Polygon>) -> Motion {
        Motion {
            settings,
            masks,
            form: None,
            luma: Luma::default(),
            background: Background::default(),
            ignored: Vec::new(),
            open: [[0; TILES]; TILES],
            held: Vec::new(),
            last_at: Duration::ZERO,
            passed: Duration::ZERO,
            tiles: 0,
            light: 0.0,
            settles_at: Duration::ZERO,
        }
    }

    /// From now on so much must a cell differ, as [`config::Motion::threshold`].
    pub fn set_threshold(&mut self, threshold: f64) {
        self.settings.threshold = threshold;
    }

    /// Whether the picture has the same form as those before it; true for the first one.
    pub fn fits(&self, image: &Image) -> bool {
        self.form.is_none_or(|form| form == form_of(image))
    }

    /// Looks at the picture of time `at`, which is not before the one before it. None where it cannot be read.
    ///
    /// `standing` are things that stood when they were last seen: where they still do, nothing else is looked for.
    pub fn look(
        &mut self,
        image: &Image,
        at: Duration,
        standing: &[StationaryObject<'_>],
    ) -> Option<MotionResult> {
        if !self.luma.shrink(image, MOST_WIDTH) {
            return None;
        }
        self.passed = at.saturating_sub(self.last_at);
        self.last_at = at;
        if !self.fits(image) || !self.background.knows(&self.luma) {
            self.begin(image);
            return Some(MotionResult::default());
        }
        let threshold = self.settings.threshold as f32;
        self.background.compare(&self.luma, threshold, &self.ignored);
        let settling = self.settles(at);
        let lamp = self.take_lamp();
        if let Some(change) = self.relearn(settling) {
            self.settles_at = at + SETTLES;
            let change = (!settling).then_some(change);
            return Some(MotionResult { change, relearned: true, settling: true, ..MotionResult::default() });
        }
        if lamp {
            self.settles_at = at + SETTLES;
        }
        let stands: Vec<bool> = standing.iter().map(|standing| self.stands(standing)).collect();
        self.held.fill(false);
        for (standing, _) in standing.iter().zip(&stands).filter(|(_, stands)| **stands) {
            self.hold(standing.patch.cells());
        }
        self.background.unmark(&self.held);
        let (width, least) = (self.luma.width as f64, self.settings.min_size);
        let least_length = (least * width).max(2.0);
        let is_large = |blob: &Blob| {
            let length = (blob.right - blob.left).max(blob.bottom - blob.top) as f64;
            length >= least_length && blob.area as f64 >= 0.25 * least_length * least_length
        };
        let blobs = blobs::find(self.background.marks(), self.luma.width, THING, REACH);
        let mut spots = Vec::new();
        for blob in blobs.into_iter().filter(is_large) {
            match self.nature(&blob) {
                Nature::Thing => spots.push(self.spot(blob, image)),
                Nature::Hole => self.background.absorb(&blob),
                Nature::Light | Nature::Displaced => {}
            }
        }
        let change = (lamp && !settling).then_some(SceneChange::Light);
        Some(MotionResult { spots, stands, change, relearned: false, settling: settling || lamp })
    }

    /// Learns from the picture last looked at. What is `held` is known to cover the scene, as is what stands.
    pub fn learn<'a>(&mut self, held: impl Iterator<Item = &'a MotionRegion>) {
        for run in held.flat_map(|spot| &spot.blob.runs) {
            // With a rim, where blurred edges stand out only now and then.
            let from = run.start.saturating_sub(1);
            for y in run.y.saturating_sub(1)..(run.y + 2).min(self.luma.height) {
                let row = y * self.luma.width;
                self.held[row + from..row + (run.end + 1).min(self.luma.width)].fill(true);
            }
        }
        let memory = if self.settles(self.last_at) { SETTLING_MEMORY } else { self.settings.memory };
        self.background.learn(self.passed, memory, &self.held);
    }

    /// Takes what is in a spot of the picture last looked at for a part of the scene.
    pub fn absorb(&mut self, spot: &MotionRegion) {
        self.background.absorb(&spot.blob);
    }

    /// Takes what stands where a patch was taken for a part of the scene.
    pub fn absorb_patch(&mut self, patch: &Patch) {
        let Cells { left, top, width, height } = patch.cells();
        let runs = (top..top + height).map(|y| Run { y, start: left, end: left + width }).collect();
        let (right, bottom) = (left + width, top + height);
        self.background.absorb(&Blob { left, top, right, bottom, area: width * height, runs });
    }

    /// Whether the scene has changed a moment ago.
    fn settles(&self, at: Duration) -> bool {
        at + ROUNDING < self.settles_at
    }

    /// How `rect` looks in the picture last looked at.
    pub fn patch(&self, rect: &Rect, image: &Image) -> Patch {
        Patch::take(self.background.now(), self.luma.width, self.cells(rect, image))
    }

    /// How well `patch` agrees with the picture last looked at where it was taken, -1 to 1.
    pub fn agreement(&self, patch: &Patch) -> f32 {
        patch.agreement(self.background.now(), self.luma.width, patch.cells())
    }

    /// Looks for a patch around where `rect` is, up to `reach` pixels away: by how much `rect` must be moved, and how well
    /// it agrees there.
    pub fn find(&self, patch: &Patch, rect: &Rect, reach: f64, image: &Image) -> ((f64, f64), f32) {
        let cells = self.cells(rect, image);
        let reach_cells = (reach / self.luma.side as f64).ceil() as usize;
        let size = (self.luma.width, self.luma.height);
        let (found, agreement) = patch.find(self.background.now(), size, cells, reach_cells);
        let place = |cells: Cells| self.seen(cells, image);
        let (from, to) = (place(cells).centre(), place(found).centre());
        ((to.0 - from.0, to.1 - from.1), agreement)
    }

    /// Whether a thing that stood is still there: it looks the same, and not like the scene without it.
    fn stands(&self, standing: &StationaryObject<'_>) -> bool {
        let Cells { left, top, width, height } = standing.patch.cells();
        if self.agreement(standing.patch) < STANDS {
            return false;
        }
        let marks = self.background.marks();
        let rows = (top..top + height).map(|y| y * self.luma.width + left);
        let covered: usize =
            rows.map(|start| marks[start..start + width].iter().filter(|&&mark| mark == THING).count()).sum();
        standing.is_learned || covered as f32 >= COVERED * (width * height) as f32
    }

    /// Marks cells, with a rim, as known to cover the scene.
    fn hold(&mut self, cells: Cells) {
        let (width, height) = (self.luma.width, self.luma.height);
        for y in cells.top.saturating_sub(REACH)..(cells.top + cells.height + REACH).min(height) {
            let row = y * width;
            let end = (cells.left + cells.width + REACH).min(width);
            self.held[row + cells.left.saturating_sub(REACH)..row + end].fill(true);
        }
    }

    fn begin(&mut self, image: &Image) {
        self.form = Some(form_of(image));
        self.background = Background::default();
        self.background.begin(&self.luma);
        self.held = vec![false; self.luma.cells.len()];
        self.ignored = vec![false; self.luma.cells.len()];
        (self.tiles, self.light) = (0, 0.0);
        let (width, height) = upright_size(image);
        for y in 0..self.luma.height {
            for x in 0..self.luma.width {
                let (cx, cy) = self.seen(Cells { left: x, top: y, width: 1, height: 1 }, image).centre();
                let point = (cx / width, cy / height);
                self.ignored[y * self.luma.width + x] = self.masks.iter().any(|mask| mask.contains(point));
            }
        }
        self.open = tally(&self.ignored, self.luma.width, |ignored| !ignored);
    }

    /// Whether the whole picture is suddenly brighter or darker, in the same way everywhere. Then the memory is, too, and
    /// everything else goes on.
    fn take_lamp(&mut self) -> bool {
        let light = self.background.light();
        let is_lamp = (light - self.light).abs() >= LAMP;
        if is_lamp {
            self.background.take_light();
        }
        self.light = if is_lamp { 0.0 } else { light };
        is_lamp
    }

    /// Whether the whole scene has become another between the picture before and this one, so that it has to be learned
    /// anew.
    fn relearn(&mut self, settling: bool) -> Option<SceneChange> {
        let (changed, counted) = self.count_tiles();
        let was = std::mem::replace(&mut self.tiles, changed);
        let of = |sixteenths: usize| (sixteenths * counted) as f32 / (TILES * TILES) as f32;
        let is_sudden = was as f32 <= of(FEW_TILES) || settling;
        if counted < LEAST_TILES || (changed as f32) < of(ALL_TILES) || !is_sudden {
            return None;
        }
        let count = |mark: u8| self.background.marks().iter().filter(|&&cell| cell == mark).count();
        let change = if count(LIGHT) > count(THING) { SceneChange::Light } else { SceneChange::View };
        self.background.begin(&self.luma);
        (self.tiles, self.light) = (0, 0.0);
        Some(change)
    }

    /// Tiles that have changed, and how many count: what is behind a mask says nothing.
    fn count_tiles(&self) -> (usize, usize) {
        let (width, height) = (self.luma.width, self.luma.height);
        let marked = tally(self.background.marks(), width, |&mark| mark != STILL);
        let least_open = OPEN_TILE * (width * height) as f32 / (TILES * TILES) as f32;
        let tiles = self.open.iter().flatten().zip(marked.iter().flatten());
        let counted = tiles.filter(|(open, _)| **open as f32 >= least_open.max(1.0));
        let is_changed = |(open, marked): (&usize, &usize)| *marked as f32 >= CHANGED_TILE * *open as f32;
        counted.fold((0, 0), |(changed, all), tile| (changed + usize::from(is_changed(tile)), all + 1))
    }

    /// What a blob is by its edges: a thing has edges of its own.
    fn nature(&self, blob: &Blob) -> Nature {
        let (columns, rows) = (blob.right - blob.left, blob.bottom - blob.top);
        let outline = 2.0 * (columns + rows) as f32;
        let (new, lost) = self.background.edges(blob);
        if (new as f32) < NEW_EDGES * outline {
            // Of what comes in over the picture's edge there is no outline to be seen yet.
            let (width, height) = (self.luma.width, self.luma.height);
            let is_cut = blob.left == 0 || blob.top == 0 || blob.right == width || blob.bottom == height;
            let is_hole = lost as f32 >= LOST_EDGES * outline && !is_cut;
            return if is_hole { Nature::Hole } else { Nature::Light };
        }
        if columns.max(rows) > MOST_DISPLACED {
            return Nature::Thing;
        }
        let (width, height) = (self.luma.width, self.luma.height);
        let (left, top) = (blob.left.saturating_sub(2), blob.top.saturating_sub(2));
        let cells = Cells {
            left,
            top,
            width: (blob.right + 2).min(width) - left,
            height: (blob.bottom + 2).min(height) - top,
        };
        let patch = Patch::take(self.background.now(), width, cells);
        let (_, agreement) = patch.find(self.background.mean(), (width, height), cells, DISPLACED);
        if agreement >= SAME { Nature::Displaced } else { Nature::Thing }
    }

    fn spot(&self, blob: Blob, image: &Image) -> MotionRegion {
        let cells = Cells {
            left: blob.left,
            top: blob.top,
            width: blob.right - blob.left,
            height: blob.bottom - blob.top,
        };
        let mut histogram = [0.0; BINS];
        for run in &blob.runs {
            let row = run.y * self.luma.width;
            for brightness in &self.background.now()[row + run.start..row + run.end] {
                histogram[(*brightness as usize * BINS / 256).min(BINS - 1)] += 1.0 / blob.area as f32;
            }
        }
        MotionRegion { rect: self.seen(cells, image), histogram, blob }
    }

    /// The cells that `rect` covers, at least one.
    fn cells(&self, rect: &Rect, image: &Image) -> Cells {
        let stored = rect.stored(image);
        let side = self.luma.side as f64;
        let along = |low: f64, high: f64, size: usize| {
            let first = ((low / side).round() as usize).min(size - 1);
            (first, ((high / side).round() as usize).clamp(first + 1, size) - first)
        };
        let (left, width) = along(stored.left, stored.right(), self.luma.width);
        let (top, height) = along(stored.top, stored.bottom(), self.luma.height);
        Cells { left, top, width, height }
    }

    /// The same in pixels of the picture as one sees it.
    fn seen(&self, cells: Cells, image: &Image) -> Rect {
        let side = self.luma.side as f64;
        let (left, top) = (cells.left as f64 * side, cells.top as f64 * side);
        // Pixels that fill no whole cell belong to the last one.
        let edge = |end: usize, cells: usize, pixels: usize| {
            if end == cells { pixels as f64 } else { end as f64 * side }
        };
        let right = edge(cells.left + cells.width, self.luma.width, image.width);
        let bottom = edge(cells.top + cells.height, self.luma.height, image.height);
        Rect::of_edges(left, top, right, bottom).seen(image)
    }
}

fn form_of(image: &Image) -> Form {
    let View { pixel_aspect, rotation, .. } = image.view;
    Form { width: image.width, height: image.height, pixel_aspect, rotation }
}

/// Of each tile of a picture `width` cells wide, how many cells are so.
fn tally<T>(cells: &[T], width: usize, is: impl Fn(&T) -> bool) -> [[usize; TILES]; TILES] {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Colorimetry, OwnedPlanes, PixelFormat, YuvMatrix};

    const SIZE: (usize, usize) = (320, 180);

    /// A textured view, each number another one, with noise.
    fn picture(view: u64, seed: u64) -> Image {
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

    fn motion(masks: Vec<Polygon>) -> Motion {
        let settings = config::Motion { threshold: 8.0, memory: Duration::from_secs(20), min_size: 0.03 };
        Motion::new(settings, masks)
    }

    /// Shows views one after another, each at its time: the changes that were told, with their times, and the spots.
    fn show(motion: &mut Motion, views: impl Iterator<Item = (Duration, u64)>) -> (Vec<Duration>, usize) {
        let (mut changes, mut spots) = (Vec::new(), 0);
        for (number, (at, view)) in views.enumerate() {
            let moved = motion.look(&picture(view, number as u64), at, &[]).unwrap();
            changes.extend(moved.change.map(|_| at));
            spots += moved.spots.len();
            motion.learn(std::iter::empty());
        }
        (changes, spots)
    }

    #[test]
    fn another_view_is_recognised_beside_masks_of_any_size() {
        let box_mask =
            |right: f64, bottom: f64| Polygon(vec![(0.0, 0.0), (right, 0.0), (right, bottom), (0.0, bottom)]);
        for masks in [vec![], vec![box_mask(1.0, 0.3)], vec![box_mask(0.6, 1.0)], vec![box_mask(1.0, 0.74)]] {
            let views = (0..20).map(|n| (Duration::from_millis(200 * n), u64::from(n >= 10)));
            let (changes, spots) = show(&mut motion(masks.clone()), views);
            assert_eq!((changes, spots), (vec![Duration::from_secs(2)], 0), "{masks:?}");
        }
    }

    #[test]
    fn changes_as_far_apart_as_it_settles_are_told_alike_however_exact_the_times_are() {
        for wrong_us in [-900, 0, 900] {
            let views = (0..40i64).map(|n| {
                let wrong_us = if n == 20 { wrong_us } else { 0 };
                let view = if n < 10 { 0 } else { 1 + u64::from(n >= 20) };
                (Duration::from_micros((200_000 * n + wrong_us) as u64), view)
            });
            assert_eq!(show(&mut motion(vec![]), views).0.len(), 2, "{wrong_us} µs");
        }
    }

    #[test]
    fn pictures_that_are_interlaced_now_and_then_are_of_one_form() {
        let mut motion = motion(vec![]);
        show(&mut motion, std::iter::once((Duration::ZERO, 0)));
        let mut image = picture(0, 1);
        image.view.interlaced = true;
        assert!(motion.fits(&image));
        image.view.rotation = Rotation::Half;
        assert!(!motion.fits(&image));
    }
}
