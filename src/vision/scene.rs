//! One camera's memory from frame to frame, and what it makes of a frame: motion, tracks, looks, events. It travels with
//! the frame; who looks (the network) is handed in. The same frames give the same events, on whatever threads and at
//! whatever pace they come.

use super::{
    events::{ChangedField, Event, EventIds, EventKind, Sighting, ZoneTracker},
    groups::Groups,
    head::{self, Heatmap, Score},
    motion::{MotionDetector, SceneChange},
    picture::Pictures,
    rect::{Rect, upright_size},
    regions::{RegionClassifier, RegionState},
    tracks::{EndReason, Track, Tracker},
};
use crate::{
    config::{self, polygon::Polygon},
    error::Error,
    frame::{Frame, Image},
};
use jiff::Timestamp;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use uuid::Uuid;

/// Frames further apart than this and than so many of the camera's intervals are of two track_states.
const LONGEST_GAP: Duration = Duration::from_secs(60);
const LONGEST_GAP_INTERVALS: u32 = 3;
/// A frame that is older than the newest so far by no more than this and than so many intervals is only late.
const LATE: Duration = Duration::from_secs(1);
const LATE_INTERVALS: u32 = 3;
/// A better picture of a thing that stays is handed out at the latest after so long.
const FILE_EVERY: Duration = Duration::from_secs(10);
/// A thing that is not sure after so many looks is looked at only now and then: it may have no name.
const MANY_LOOKS: u32 = 8;
/// Even a sure thing's looks become rarer while it stands: so many times the usual pause.
const STANDING_FACTOR: u32 = 6;
/// What is half beyond the picture's edge is worth so much of a look.
const CUT_WEIGHT: f32 = 0.25;

/// Classifies regions of images.
pub trait Infer {
    /// Softmax scores of all classes for `rect` of the image.
    ///
    /// Errors: pixels that cannot be read, or an engine that fails.
    fn infer(&mut self, image: &Image, rect: &Rect) -> Result<&[f32], Error>;

    /// Where in the last inferred region the network saw a class; see [`head::Head::activation`].
    fn heatmap(&mut self, class: usize) -> Option<Heatmap>;
}

/// Makes the JPEG pictures of objects.
pub trait Paint {
    /// The pictures of each of these objects, with its caption on one of them.
    ///
    /// Errors: pixels that cannot be read.
    fn paint(&mut self, image: &Image, objects: &[(Rect, String)]) -> Result<Vec<Pictures>, Error>;
}

/// What a user wants of a camera's scene.
#[derive(Debug)]
pub struct Settings {
    /// The camera.
    pub camera: config::Camera,
    /// All cameras' things.
    pub objects: config::Objects,
    /// How many classes are told of an object.
    pub top: usize,
    /// Whether pictures are taken of things.
    pub pictures: bool,
    /// The names of things.
    pub groups: Arc<Groups>,
    /// For ids; no two cameras' and no two runs' are the same, unless a recording is to give the same ids again.
    pub seed: u64,
}

/// One camera's memory.
#[derive(Debug)]
pub struct Scene {
    settings: Settings,
    zones: Vec<(String, Polygon)>,
    motion: MotionDetector,
    tracker: Tracker,
    regions: Vec<RegionClassifier>,
    track_states: BTreeMap<u64, TrackState>,
    /// What was last told to be in view.
    occupancy: Option<BTreeMap<Option<usize>, usize>>,
    ids: EventIds,
    /// By track, where the network saw what it saw in the last look at it, as long as that was not told.
    heatmaps: BTreeMap<u64, Heatmap>,
    /// The last frame's time on the scene's own time line.
    now: Duration,
    /// The camera's latest moment, and when the last frame was captured.
    last: Option<(Duration, Timestamp)>,
    /// The last picture's.
    size: (f64, f64),
}

/// What was told of a track.
#[derive(Debug)]
struct TrackState {
    id: Uuid,
    started_at: Timestamp,
    announced: bool,
    label: Option<usize>,
    moving: bool,
    zones: ZoneTracker,
    best: Option<Sighting>,
    /// Of its best moment, as long as they were not handed out.
    pictures: Option<Pictures>,
    /// When pictures were last handed out.
    filed_at: Duration,
}

/// What there is to say of a track at a frame.
struct News {
    /// Its place among all.
    track: usize,
    kind: Option<EventKind>,
    /// How it is seen now.
    moment: Sighting,
    is_better: bool,
}

/// What a frame shows.
#[derive(Debug, Default)]
pub struct Analysis {
    /// Width and height of the picture as one sees it.
    pub size: (f64, f64),
    /// Everything that is tracked and no guess.
    pub objects: Vec<Object>,
    /// What happened to it.
    pub events: Vec<Event>,
    /// Other things are in view than when this was last told.
    pub occupancy: Option<Occupancy>,
    /// The whole scene changed.
    pub change: Option<SceneChange>,
    /// Regions with a new state.
    pub regions: Vec<RegionState>,
    /// Pictures of things that have come or gone, of their best moments, with when they were first seen.
    pub pictures: Vec<(Uuid, Timestamp, Pictures)>,
    /// Where the network saw what it saw in its looks at things, if that is wanted.
    pub heatmaps: Vec<(Uuid, Heatmap)>,
    /// Why pictures are missing.
    pub paint_error: Option<Error>,
    /// How often the network looked.
    pub inferences: u32,
}

/// What is in view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occupancy {
    /// When it was seen.
    pub at: Timestamp,
    /// How many things by label, of those whose start was told and whose end was not.
    pub labels: BTreeMap<Option<usize>, usize>,
}

/// A thing in a frame.
#[derive(Debug, Clone)]
pub struct Object {
    /// As in its events.
    pub id: Uuid,
    /// The group that it seems to be.
    pub label: Option<usize>,
    /// Mean score of that group, or of the best one.
    pub score: f32,
    /// Where.
    pub rect: Rect,
    /// It does not stand still.
    pub moving: bool,
    /// It was seen here; else it is hidden, and foretold to be here.
    pub visible: bool,
    /// The best classes of the last look.
    pub top: Vec<Score>,
}

impl Scene {
    /// Of which nothing is known yet.
    pub fn new(settings: Settings) -> Scene {
        let camera = &settings.camera;
        let zones =
            camera.zones.iter().map(|(name, corners)| (name.clone(), Polygon(corners.clone()))).collect();
        let masks = camera.masks.iter().cloned().map(Polygon).collect();
        Scene {
            zones,
            motion: MotionDetector::new(camera.motion.clone(), masks),
            tracker: Tracker::new(settings.objects.clone()),
            regions: camera.regions.iter().cloned().map(RegionClassifier::new).collect(),
            track_states: BTreeMap::new(),
            occupancy: None,
            ids: EventIds::new(settings.seed),
            heatmaps: BTreeMap::new(),
            now: Duration::ZERO,
            last: None,
            size: (0.0, 0.0),
            settings,
        }
    }

    /// What the user said of it.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// From now on other thresholds hold: of motion, and of a label's score.
    pub fn adjust(&mut self, motion_threshold: f64, score: f32) {
        self.motion.set_threshold(motion_threshold);
        self.settings.objects.score = score;
    }

    /// The names of the camera's zones, in the order that events count them.
    pub fn zone_names(&self) -> impl Iterator<Item = &str> {
        self.zones.iter().map(|(name, _)| name.as_str())
    }

    /// Looks at the next frame. Frames that are not later than those before count as of the same moment.
    ///
    /// Errors: pixels that cannot be read, or an engine that fails. What was seen all the same is sound, as is the memory,
    /// and is told only here.
    pub fn analyze(
        &mut self,
        frame: &Frame,
        classifier: &mut dyn Infer,
        painter: &mut dyn Paint,
    ) -> (Analysis, Result<(), Error>) {
        let image = &frame.image;
        let mut seen = Analysis { size: upright_size(image), ..Analysis::default() };
        let latest = self.last.map_or(frame.stream_time, |(latest, _)| latest);
        let passed = frame.stream_time.saturating_sub(latest);
        if passed > LONGEST_GAP.max(self.intervals(LONGEST_GAP_INTERVALS)) {
            self.end_tracks(EndReason::CameraLost, &mut seen);
        }
        if !self.motion.has_same_geometry(image) {
            self.end_tracks(EndReason::VideoChanged, &mut seen);
        }
        self.now += passed;
        // Streams whose frames come out of order do not make time run faster; one that begins anew does so from there.
        let is_late = latest.saturating_sub(frame.stream_time) <= LATE.max(self.intervals(LATE_INTERVALS));
        let latest = if is_late { latest.max(frame.stream_time) } else { frame.stream_time };
        self.last = Some((latest, frame.captured_at));
        self.size = seen.size;
        if let Some(moved) = self.motion.detect(image, self.now, &self.tracker.standing()) {
            seen.change = moved.change;
            let step = self.tracker.step(&moved, &mut self.motion, image, self.now);
            for (track, why) in step.ended {
                self.end(&track, why, &mut seen);
            }
        }
        let looked = self.look_closer(image, classifier, &mut seen);
        self.tell(image, painter, &mut seen);
        self.publish_heatmaps(&mut seen);
        self.count(&mut seen);
        let regions = self.look_at_regions(frame, classifier, &mut seen);
        (seen, looked.and(regions))
    }

    /// So many times the time between two frames at the camera's rate.
    fn intervals(&self, count: u32) -> Duration {
        let interval = Duration::try_from_secs_f64(1.0 / self.settings.camera.rate_fps);
        interval.unwrap_or(Duration::MAX).saturating_mul(count)
    }

    /// Tells what is in view if it was not told so yet.
    fn count(&mut self, seen: &mut Analysis) {
        let Some((_, at)) = self.last else { return };
        let mut labels = BTreeMap::new();
        for story in self.track_states.values().filter(|story| story.announced) {
            *labels.entry(story.label).or_default() += 1;
        }
        if self.occupancy.as_ref() != Some(&labels) {
            self.occupancy = Some(labels.clone());
            seen.occupancy = Some(Occupancy { at, labels });
        }
    }

    /// Ends everything that is tracked, where there will be no more frames for now.
    pub fn end_all(&mut self, why: EndReason) -> Analysis {
        let mut seen = Analysis { size: self.size, ..Analysis::default() };
        self.end_tracks(why, &mut seen);
        self.count(&mut seen);
        seen
    }

    fn end_tracks(&mut self, why: EndReason, seen: &mut Analysis) {
        for (track, why) in self.tracker.end_all(why) {
            self.end(&track, why, seen);
        }
    }

    /// Looks at what needs it most, as much as a frame may cost: first at what was never looked at, newest first, then at
    /// what is least certain, last at what is only looked at again.
    fn look_closer(
        &mut self,
        image: &Image,
        classifier: &mut dyn Infer,
        seen: &mut Analysis,
    ) -> Result<(), Error> {
        let objects = &self.settings.objects;
        let now = self.now;
        let is_due = |track: &Track| {
            if !track.alone || track.seen_at != now {
                return false;
            }
            let verdict = &track.labels;
            let usual = objects.reclassify_after;
            let pause = match verdict.inferences() {
                0 => return true,
                _ if verdict.is_sure() && !track.moving => STANDING_FACTOR * usual,
                _ if verdict.is_sure() => usual,
                looks if looks < MANY_LOOKS => Duration::ZERO,
                _ if track.moving => usual / 4,
                _ => usual,
            };
            now.saturating_sub(verdict.inferred_at()) >= pause
        };
        let tracks = self.tracker.tracks();
        let mut due: Vec<usize> = (0..tracks.len()).filter(|&index| is_due(&tracks[index])).collect();
        due.sort_by(|&a, &b| {
            let (a, b) = (&tracks[a], &tracks[b]);
            let untold = |track: &Track| track.labels.inferences() > 0;
            (untold(a).cmp(&untold(b)))
                .then(if untold(a) {
                    a.labels.score().total_cmp(&b.labels.score())
                } else {
                    b.number.cmp(&a.number)
                })
                .then(a.number.cmp(&b.number))
        });
        for index in due.into_iter().take(objects.max_inferences_per_frame) {
            let track = &mut self.tracker.tracks_mut()[index];
            let crop = track.rect.square_within(objects.margin, seen.size);
            let classes = classifier.infer(image, &crop)?;
            seen.inferences += 1;
            let groups = self.settings.groups.scores(classes);
            let top = head::top(classes, self.settings.top);
            let weight = if is_cut(&track.rect, seen.size) { CUT_WEIGHT } else { 1.0 };
            let class = top.first().map(|best| best.index);
            track.labels.add(&groups, top, weight, now, objects.score);
            if self.settings.camera.heatmap
                && let Some(activation) = class.and_then(|class| classifier.heatmap(class))
            {
                self.heatmaps.insert(track.number, activation);
            }
        }
        Ok(())
    }

    /// Makes events and objects of the tracks.
    fn tell(&mut self, image: &Image, painter: &mut dyn Paint, seen: &mut Analysis) {
        let Some((_, captured_at)) = self.last else { return };
        let news = self.news(captured_at);
        self.take_pictures(&news, image, painter, seen);
        for News { track, kind, moment, .. } in news {
            let track = &self.tracker.tracks()[track];
            let Some(story) = self.track_states.get_mut(&track.number) else { continue };
            let is_due = kind.is_some() || self.now.saturating_sub(story.filed_at) >= FILE_EVERY;
            if is_due && let Some(pictures) = story.pictures.take() {
                story.filed_at = self.now;
                seen.pictures.push((story.id, story.started_at, pictures));
            }
            if let Some(kind) = kind {
                story.announced = true;
                let best = story.best.unwrap_or(moment);
                seen.events.push(event(track, story, kind, best, captured_at, self.now, seen.size));
            }
            seen.objects.push(Object {
                id: story.id,
                label: story.label,
                score: track.labels.score(),
                rect: track.expected(self.now, &Rect::from_edges(0.0, 0.0, seen.size.0, seen.size.1)),
                moving: track.moving,
                visible: track.seen_at == self.now,
                top: track.labels.top().to_vec(),
            });
        }
    }

    /// What there is to say of the tracks that are told of, in their order.
    fn news(&mut self, captured_at: Timestamp) -> Vec<News> {
        let mut all = Vec::new();
        for (index, track) in self.tracker.tracks().iter().enumerate().filter(|(_, track)| track.confirmed) {
            let started_at = earlier(captured_at, self.now, track.first_at);
            let story = self.track_states.entry(track.number).or_insert_with(|| TrackState {
                id: self.ids.next(started_at),
                started_at,
                announced: false,
                label: None,
                moving: true,
                zones: ZoneTracker::default(),
                best: None,
                pictures: None,
                filed_at: self.now,
            });
            let is_seen = track.seen_at == self.now;
            let zones_changed = is_seen && story.zones.look(&self.zones, &track.rect, self.size);
            let label = track.labels.label();
            let kind = if !story.announced {
                let wanted = &self.settings.camera.labels;
                let name = self.settings.groups.name_or_unknown(label);
                (wanted.is_empty() || wanted.iter().any(|wanted| wanted == name)).then_some(EventKind::Start)
            } else {
                let changed = [
                    (label != story.label, ChangedField::Label),
                    (zones_changed, ChangedField::Zones),
                    (track.moving != story.moving, ChangedField::Moving),
                ];
                let changed: Vec<ChangedField> =
                    changed.into_iter().filter(|(changed, _)| *changed).map(|(_, aspect)| aspect).collect();
                (!changed.is_empty()).then_some(EventKind::Update(changed))
            };
            (story.label, story.moving) = (label, track.moving);
            if kind == Some(EventKind::Start) {
                story.zones.begin();
            }
            if !story.announced && kind.is_none() {
                continue;
            }
            let moment = moment(track, captured_at, self.now, self.size);
            let is_better = is_seen && story.best.is_none_or(|best| best.gives_way_to(&moment));
            all.push(News { track: index, kind, moment, is_better });
        }
        all
    }

    /// Takes pictures of better moments, as many as a frame may cost: first of what there is none of, then of what has
    /// waited longest. A moment without its picture is not the best one, so that it is tried again.
    fn take_pictures(&mut self, news: &[News], image: &Image, painter: &mut dyn Paint, seen: &mut Analysis) {
        let number = |news: &News| self.tracker.tracks()[news.track].number;
        let mut better: Vec<(u64, Sighting)> =
            news.iter().filter(|news| news.is_better).map(|news| (number(news), news.moment)).collect();
        if !self.settings.pictures {
            for (number, moment) in better {
                self.track_states.entry(number).and_modify(|story| story.best = Some(moment));
            }
            return;
        }
        better.sort_by_key(|(number, _)| {
            let best = self.track_states.get(number).and_then(|story| story.best);
            (best.map(|best| best.time), *number)
        });
        better.truncate(self.settings.objects.max_inferences_per_frame);
        let things: Vec<(Rect, String)> = better
            .iter()
            .filter_map(|(number, moment)| {
                let track = self.tracker.tracks().iter().find(|track| track.number == *number)?;
                let name = self.settings.groups.name_or_unknown(track.labels.label());
                Some((moment.rect, caption(name, track.labels.score())))
            })
            .collect();
        if things.is_empty() {
            return;
        }
        match painter.paint(image, &things) {
            Ok(pictures) => {
                for ((number, moment), pictures) in better.into_iter().zip(pictures) {
                    self.track_states.entry(number).and_modify(|story| {
                        (story.best, story.pictures) = (Some(moment), Some(pictures));
                    });
                }
            }
            Err(error) => seen.paint_error = Some(error),
        }
    }

    /// Hands out where the network saw what it saw in things that are told of.
    fn publish_heatmaps(&mut self, seen: &mut Analysis) {
        let (track_states, tracks) = (&self.track_states, self.tracker.tracks());
        for (number, activation) in std::mem::take(&mut self.heatmaps) {
            match track_states.get(&number) {
                Some(story) if story.announced => seen.heatmaps.push((story.id, activation)),
                // It may be told of later.
                _ if tracks.iter().any(|track| track.number == number) => {
                    self.heatmaps.insert(number, activation);
                }
                _ => {}
            }
        }
    }

    /// The last of a track.
    fn end(&mut self, track: &Track, why: EndReason, seen: &mut Analysis) {
        let Some(mut story) = self.track_states.remove(&track.number).filter(|story| story.announced) else {
            return;
        };
        let Some((_, captured_at)) = self.last else { return };
        let best = story.best.unwrap_or_else(|| moment(track, captured_at, self.now, self.size));
        seen.pictures.extend(story.pictures.take().map(|pictures| (story.id, story.started_at, pictures)));
        seen.events.push(event(track, &story, EventKind::End(why), best, captured_at, self.now, self.size));
    }

    fn look_at_regions(
        &mut self,
        frame: &Frame,
        classifier: &mut dyn Infer,
        seen: &mut Analysis,
    ) -> Result<(), Error> {
        for (index, watch) in self.regions.iter_mut().enumerate().filter(|(_, watch)| watch.is_due(self.now))
        {
            let (width, height) = seen.size;
            let config::Region { left, top, width: part, height: rows, .. } = *watch.settings();
            let rect =
                Rect { left: left * width, top: top * height, width: part * width, height: rows * height };
            let groups = self.settings.groups.scores(classifier.infer(&frame.image, &rect)?);
            seen.inferences += 1;
            seen.regions.extend(watch.look(
                index,
                &groups,
                &self.settings.groups,
                self.now,
                frame.captured_at,
            ));
        }
        Ok(())
    }
}

/// When `then` on the scene's time line was, if it is `now` there at `captured_at`.
fn earlier(captured_at: Timestamp, now: Duration, then: Duration) -> Timestamp {
    captured_at.saturating_sub(now.saturating_sub(then)).unwrap_or(captured_at)
}

/// What stands at a thing in a picture: `cat 83 %`.
pub fn caption(name: &str, score: f32) -> String {
    format!("{name} {:.0} %", 100.0 * score)
}

/// How well a thing is seen: large, whole, by itself and recognised is best.
fn moment(track: &Track, at: Timestamp, time: Duration, size: (f64, f64)) -> Sighting {
    let whole = if is_cut(&track.rect, size) { 0.5 } else { 1.0 };
    let alone = if track.alone { 1.0 } else { 0.7 };
    let quality = track.rect.area().sqrt() * (0.3 + f64::from(track.labels.score())) * whole * alone;
    Sighting { at, time, rect: track.rect, quality }
}

/// Whether a part of it is beyond the picture's edge, as far as one can see.
fn is_cut(rect: &Rect, (width, height): (f64, f64)) -> bool {
    rect.left <= 1.0 || rect.top <= 1.0 || rect.right() >= width - 1.0 || rect.bottom() >= height - 1.0
}

fn event(
    track: &Track,
    story: &TrackState,
    kind: EventKind,
    best: Sighting,
    captured_at: Timestamp,
    now: Duration,
    size: (f64, f64),
) -> Event {
    Event {
        id: story.id,
        kind,
        at: captured_at,
        started_at: story.started_at,
        seen_at: earlier(captured_at, now, track.seen_at),
        lasted: track.seen_at.saturating_sub(track.first_at),
        label: story.label,
        score: track.labels.score(),
        rect: track.rect,
        size,
        moving: track.moving,
        zones: story.zones.inside.clone(),
        visited: story.zones.visited.clone(),
        best,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Main, Source},
        error::ErrorKind,
        frame::{CaptureClock, Colorimetry, OwnedPlanes, PixelFormat, View, YuvMatrix},
        vision::labels::Labels,
    };

    /// A classifier that returns the same scores for every region.
    struct FixedScores {
        inferences: u32,
        scores: [f32; 2],
        fails: bool,
    }

    impl FixedScores {
        fn new() -> FixedScores {
            FixedScores { inferences: 0, scores: [0.9, 0.1], fails: false }
        }
    }

    impl Infer for FixedScores {
        fn infer(&mut self, _: &Image, _: &Rect) -> Result<&[f32], Error> {
            self.inferences += 1;
            if self.fails { Err(Error::new(ErrorKind::System, "no inference")) } else { Ok(&self.scores) }
        }

        fn heatmap(&mut self, _: usize) -> Option<Heatmap> {
            Some(Heatmap { width: 1, height: 1, grey: vec![255] })
        }
    }

    /// A painter whose pictures hold the caption.
    #[derive(Default)]
    struct CaptionPainter {
        /// The number of objects in each call.
        calls: Vec<usize>,
        /// This many more calls fail.
        failures: u32,
    }

    impl Paint for CaptionPainter {
        fn paint(&mut self, _: &Image, objects: &[(Rect, String)]) -> Result<Vec<Pictures>, Error> {
            self.calls.push(objects.len());
            if self.failures > 0 {
                self.failures -= 1;
                return Err(Error::new(ErrorKind::System, "no paint"));
            }
            let bytes = |caption: &String| caption.as_bytes().to_vec();
            let pictures = |(_, caption): &(Rect, String)| Pictures {
                crop: bytes(caption),
                frame: bytes(caption).into(),
                annotated: bytes(caption),
            };
            Ok(objects.iter().map(pictures).collect())
        }
    }

    fn scene(toml: &str) -> Scene {
        let text = format!("[cameras.yard]\nsource = 'test://'\n{toml}");
        let main = Main::Text { name: "t".into(), text };
        let config = config::load(&config::Inputs { main, ..Default::default() }).unwrap().config;
        assert!(matches!(config.cameras[0].source, Source::Test { .. }));
        let labels = Labels::parse(b"cat\ndog\n", "l", 2).unwrap();
        Scene::new(Settings {
            camera: config.cameras[0].clone(),
            objects: config.objects,
            top: 2,
            pictures: true,
            groups: Arc::new(Groups::new(&labels, &Default::default()).unwrap()),
            seed: 1,
        })
    }

    /// A grey picture with noise and a box of stripes at `left`.
    fn image(size: (usize, usize), left: Option<usize>, seed: u64) -> Image {
        let things: Vec<[usize; 4]> = left.map(|left| [left, 60, 90, 60]).into_iter().collect();
        drawn(size, &things, seed)
    }

    /// A grey picture with noise and boxes of stripes: left, top, width, height.
    fn drawn((width, height): (usize, usize), things: &[[usize; 4]], seed: u64) -> Image {
        let mut random = fastrand::Rng::with_seed(seed);
        let data = (0..width * height)
            .map(|i| {
                let (x, y) = (i % width, i / width);
                let inside = things.iter().any(|&[left, top, columns, rows]| {
                    (left..left + columns).contains(&x) && (top..top + rows).contains(&y)
                });
                let value = if inside { if x / 8 % 2 == 0 { 200 } else { 150 } } else { 80 };
                value + random.u8(0..4)
            })
            .collect();
        Image {
            format: PixelFormat::Gray8,
            width,
            height,
            colorimetry: Colorimetry { matrix: YuvMatrix::Bt601, full_range: true },
            view: View::PLAIN,
            planes: Box::new(OwnedPlanes(vec![(data, width)])),
        }
    }

    fn start() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn frame(number: usize, image: Image, moment: Duration) -> Frame {
        Frame {
            number: number as u64 + 1,
            captured_at: start() + moment,
            capture_clock: CaptureClock::Arrival,
            stream_time: moment,
            timings: Default::default(),
            image,
        }
    }

    /// Shows pictures one after another, each with its time; what was told, with the picture's number.
    fn show(scene: &mut Scene, pictures: Vec<(Image, Duration)>) -> (Vec<(usize, Event)>, u32) {
        let (mut classifier, mut painter) = (FixedScores::new(), CaptionPainter::default());
        let mut told = Vec::new();
        for (number, (image, moment)) in pictures.into_iter().enumerate() {
            let (seen, outcome) = scene.analyze(&frame(number, image, moment), &mut classifier, &mut painter);
            outcome.unwrap();
            told.extend(seen.events.into_iter().map(|event| (number, event)));
        }
        (told, classifier.inferences)
    }

    const SIZE: (usize, usize) = (640, 360);

    fn at(number: usize) -> Duration {
        Duration::from_millis(200 * number as u64)
    }

    fn passing(number: usize) -> Option<usize> {
        (10..25).contains(&number).then(|| 30 * (number - 10) + 20)
    }

    #[test]
    fn a_thing_comes_and_goes_and_a_still_scene_costs_no_look() {
        let mut yard = scene("");
        let still = (0..10).map(|number| (image(SIZE, None, number as u64), at(number))).collect();
        assert_eq!(show(&mut yard, still), (vec![], 0));
        let pictures =
            (10..45).map(|number| (image(SIZE, passing(number), number as u64), at(number))).collect();
        let (told, looks) = show(&mut yard, pictures);
        let kinds: Vec<&EventKind> = told.iter().map(|(_, event)| &event.kind).collect();
        assert_eq!(kinds.first(), Some(&&EventKind::Start));
        assert_eq!(kinds.last(), Some(&&EventKind::End(EndReason::Lost)));
        assert!(told[0].0 <= 2, "within three frames");
        let end = &told.last().unwrap().1;
        assert_eq!((end.label, end.id), (Some(0), told[0].1.id));
        assert_eq!(end.started_at.to_string(), "2026-01-01T00:00:02Z");
        assert!((3..=8).contains(&looks), "{looks}: once it is sure it is left alone");
    }

    #[test]
    fn another_size_ends_what_was_tracked_and_is_learned_anew() {
        let mut yard = scene("");
        let pictures = (0..40).map(|number| {
            // An odd size, too.
            let size = if number < 18 { SIZE } else { (321, 181) };
            let left = if number < 18 { passing(number) } else { Some(20) };
            (image(size, left, number as u64), at(number))
        });
        let (told, _) = show(&mut yard, pictures.collect());
        assert!(
            told.iter()
                .any(|(number, event)| (*number, &event.kind)
                    == (18, &EventKind::End(EndReason::VideoChanged)))
        );
        assert_eq!(told.iter().filter(|(number, _)| *number > 18).count(), 0, "{told:#?}");
    }

    #[test]
    fn time_that_stands_or_goes_back_ends_nothing_and_a_long_gap_does() {
        let mut yard = scene("");
        let pictures = (0..22).map(|number| {
            let moment = match number {
                15 => at(14),
                16 => at(3),
                17.. => at(number - 13),
                _ => at(number),
            };
            (image(SIZE, passing(number), number as u64), moment)
        });
        let (told, _) = show(&mut yard, pictures.collect());
        assert_eq!(told.iter().filter(|(_, event)| event.kind == EventKind::Start).count(), 1, "{told:#?}");
        assert!(!told.iter().any(|(_, event)| matches!(event.kind, EventKind::End(_))), "{told:#?}");
        let later = vec![(image(SIZE, None, 1), at(9) + Duration::from_secs(3600))];
        let (told, _) = show(&mut yard, later);
        assert!(
            matches!(&told[..], [(0, event)] if event.kind == EventKind::End(EndReason::CameraLost)),
            "{told:#?}"
        );
    }

    /// Frames of a thing that passes.
    fn passing_frames() -> impl Iterator<Item = Frame> {
        (0..45).map(|number| frame(number, image(SIZE, passing(number), number as u64), at(number)))
    }

    #[test]
    fn the_time_of_day_may_be_set_while_a_thing_is_there() {
        for step_s in [-3600, 3600] {
            let mut yard = scene("");
            let (mut events, mut pictures) = (Vec::new(), 0);
            for mut frame in passing_frames() {
                if frame.number > 16 {
                    frame.captured_at += jiff::SignedDuration::from_secs(step_s);
                }
                let (seen, _) = yard.analyze(&frame, &mut FixedScores::new(), &mut CaptionPainter::default());
                events.extend(seen.events);
                pictures += seen.pictures.len();
            }
            let end = events.last().unwrap();
            assert_eq!(
                (&end.kind, end.lasted),
                (&EventKind::End(EndReason::Lost), Duration::from_millis(2800))
            );
            assert!(pictures >= 1);
        }
    }

    #[test]
    fn what_happened_is_told_even_if_nothing_can_be_looked_at_or_painted() {
        let mut yard = scene("regions.gate.box = [0, 0, 1, 1]");
        let mut classifier = FixedScores { fails: true, ..FixedScores::new() };
        let mut painter = CaptionPainter { failures: u32::MAX, ..Default::default() };
        let (mut events, mut failures, mut paint_error) = (Vec::new(), 0, 0);
        for frame in passing_frames() {
            let (seen, outcome) = yard.analyze(&frame, &mut classifier, &mut painter);
            events.extend(seen.events);
            failures += u32::from(outcome.is_err());
            paint_error += u32::from(seen.paint_error.is_some());
        }
        let kinds: Vec<&EventKind> = events.iter().map(|event| &event.kind).collect();
        assert_eq!(kinds, [&EventKind::Start, &EventKind::End(EndReason::Lost)]);
        assert!(failures > 0 && paint_error > 0);
    }

    #[test]
    fn a_picture_that_fails_costs_the_picture_alone() {
        let mut yard = scene("");
        let (mut classifier, mut painter) =
            (FixedScores::new(), CaptionPainter { failures: 1, ..Default::default() });
        let (mut pictures, mut paint_error, mut starts) = (0, 0, 0);
        for frame in passing_frames() {
            let (seen, outcome) = yard.analyze(&frame, &mut classifier, &mut painter);
            outcome.unwrap();
            starts += seen.events.iter().filter(|event| event.kind == EventKind::Start).count();
            (pictures, paint_error) =
                (pictures + seen.pictures.len(), paint_error + usize::from(seen.paint_error.is_some()));
        }
        assert_eq!((starts, paint_error), (1, 1));
        assert!(pictures >= 1, "it is tried again");
    }

    #[test]
    fn heatmaps_is_of_things_that_are_told_of() {
        let told = |labels: &str| {
            let mut yard = scene(&format!("heatmap = true\nlabels = {labels}"));
            let (mut classifier, mut painter) = (FixedScores::new(), CaptionPainter::default());
            let (mut ids, mut heatmaps) = (Vec::new(), Vec::new());
            for frame in passing_frames() {
                let (seen, _) = yard.analyze(&frame, &mut classifier, &mut painter);
                ids.extend(seen.events.iter().map(|event| event.id));
                heatmaps.extend(seen.heatmaps.into_iter().map(|(id, _)| id));
            }
            (ids, heatmaps, classifier.inferences as usize)
        };
        let (ids, heatmaps, looks) = told("[]");
        assert!(heatmaps.len() + 1 >= looks && !heatmaps.is_empty(), "{} of {looks}", heatmaps.len());
        assert!(heatmaps.iter().all(|id| *id == ids[0]));
        let (ids, heatmaps, looks) = told("['dog']");
        assert!(ids.is_empty() && heatmaps.is_empty() && looks > 0);
    }

    #[test]
    fn a_start_tells_the_zones_in_which_it_is() {
        let mut yard = scene("zones.all = [[0, 0], [1, 0], [1, 1], [0, 1]]");
        let pictures =
            (0..14).map(|number| (image(SIZE, passing(number), number as u64), at(number))).collect();
        let (told, _) = show(&mut yard, pictures);
        let [(_, start)] = &told[..] else { panic!("{told:#?}") };
        assert_eq!((&start.zones[..], &start.visited[..]), (&[0][..], &[0][..]));
    }

    #[test]
    fn gaps_are_long_by_the_cameras_rate() {
        for (rate, is_lost) in [("5", true), ("0.01", false)] {
            let mut yard = scene(&format!("rate_fps = {rate}"));
            let pictures = (0..16).map(|number| {
                let moment = if number == 15 { at(14) + Duration::from_secs(250) } else { at(number) };
                (image(SIZE, passing(number), number as u64), moment)
            });
            let (told, _) = show(&mut yard, pictures.collect());
            let lost = told.iter().any(|(_, event)| event.kind == EventKind::End(EndReason::CameraLost));
            assert_eq!(lost, is_lost, "at {rate} frames a second: {told:#?}");
        }
    }

    #[test]
    fn frames_out_of_order_do_not_make_time_run_faster() {
        let mut yard = scene("");
        let order = [0usize, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9];
        show(&mut yard, order.iter().map(|&n| (image(SIZE, None, n as u64), at(n))).collect());
        assert_eq!(yard.now, at(10));
        // The stream begins anew.
        show(&mut yard, (0..=5).map(|n| (image(SIZE, None, n as u64), at(n))).collect());
        assert_eq!(yard.now, at(15));
    }

    #[test]
    fn what_is_hidden_is_told_where_it_is_expected() {
        let mut yard = scene("");
        let mut last = None;
        for number in 0..17 {
            let left = passing(number).filter(|_| number < 16);
            let (seen, _) = yard.analyze(
                &frame(number, image(SIZE, left, number as u64), at(number)),
                &mut FixedScores::new(),
                &mut CaptionPainter::default(),
            );
            let [object] = &seen.objects[..] else { continue };
            assert_eq!(object.visible, number < 16);
            if !object.visible {
                let before: Rect = last.unwrap();
                assert!(
                    (20.0..40.0).contains(&(object.rect.left - before.left)),
                    "{:?} after {before:?}",
                    object.rect
                );
            }
            last = Some(object.rect);
        }
        assert!(last.is_some());
    }

    #[test]
    fn a_frame_costs_only_so_many_pictures_and_those_of_what_stays_are_not_held_back() {
        let mut yard = scene("\n[objects]\nmax_inferences_per_frame = 1");
        let (mut classifier, mut painter) = (FixedScores::new(), CaptionPainter::default());
        let mut handed_out = BTreeMap::<Uuid, Vec<usize>>::new();
        for number in 0..90usize {
            // Two things that come at once, and grow.
            let by = number.saturating_sub(10);
            let things = [[20 + 2 * by, 20, 60 + 2 * by, 60 + by], [20 + 2 * by, 200, 60 + 2 * by, 60 + by]];
            let things = if number < 10 { &[][..] } else { &things };
            let (seen, outcome) = yard.analyze(
                &frame(number, drawn(SIZE, things, number as u64), at(number)),
                &mut classifier,
                &mut painter,
            );
            outcome.unwrap();
            assert!(seen.events.iter().all(|event| event.kind != EventKind::End(EndReason::Lost)));
            seen.pictures.into_iter().for_each(|(id, ..)| handed_out.entry(id).or_default().push(number));
        }
        assert!(
            painter.calls.iter().all(|&count| count == 1) && painter.calls.len() >= 4,
            "{:?}",
            painter.calls
        );
        assert_eq!(handed_out.len(), 2);
        for times in handed_out.values() {
            assert!(times.len() >= 2 && times[0] <= 14, "{handed_out:?}");
        }
    }

    #[test]
    fn the_scene_and_its_ids_are_the_same_again_from_the_same_seed() {
        let run = || {
            let pictures =
                (0..45).map(|number| (image(SIZE, passing(number), number as u64), at(number))).collect();
            show(&mut scene(""), pictures).0
        };
        assert_eq!(run(), run());
    }
}
