//! What a detector adds to motion: boxes of single objects where something moves, and objects that do not
//! move.
//!
//! Where something moves that was not searched for a while, an area of the image around it is searched, with
//! the proportions of one of the detector's inputs. A motion region in which objects are found is replaced by
//! their boxes: two people in one region become two, and a shadow is no longer part of the box. A track that
//! was in the region, and that was not found this time, keeps its part of it. Between two searches, an object
//! keeps its place in its motion region. Then the tracker does its work as without a detector.
//!
//! The whole view is searched in tiles, one in each frame: at the start, after a scene change and at
//! intervals. An object that is found twice in the same place, and that no track explains, becomes a track.

use super::{Analysis, Infer, Scene, Settings, classification::weight};
use crate::{
    error::Error,
    frame::Image,
    vision::{
        detector::{best_input, scale},
        motion::{MotionDetector, MotionRegion, MotionResult},
        rect::Rect,
        tracks::{Inset, Track},
    },
};
use std::{collections::VecDeque, time::Duration};

/// A moving object is searched again after this time, unless it is in a motion region with others.
const SEARCH_AGAIN_AFTER: Duration = Duration::from_millis(400);
/// Maximum number of areas that are searched in a frame because something moves.
const MAX_AREAS: usize = 2;
/// Margin of an area around a motion region on each side, as a share of the region's longer side.
const AREA_MARGIN: f64 = 0.25;
/// Maximum magnification of the image in the detector's input.
const MAX_SCALE: f64 = 2.0;
/// A region within an area is searched with it if its longer side is at least this share of that of the area.
const MIN_SHARE_OF_AREA: f64 = 0.25;
/// A box is in an area if at least this share of it is.
const MIN_SHARE: f64 = 0.5;
/// Margin around a motion region, as a share of its size, within which an object is what moves there.
const REGION_MARGIN: f64 = 0.1;
/// Boxes that overlap by this much (intersection over union) are the same object.
const SAME_OBJECT: f64 = 0.5;
/// Intervals between searches of the whole view: without anything new ...
const VIEW_INTERVAL: Duration = Duration::from_secs(60);
/// ... and after a search that has found something new, or after a scene change.
const VIEW_REPETITION: Duration = Duration::from_secs(2);
/// Maximum number of settled objects to remember.
const MAX_SETTLED: usize = 100;
/// Overlap of neighbouring tiles, as a share of their side.
const TILE_OVERLAP: f64 = 0.2;

/// An object that a detector has found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Box in the upright image.
    pub rect: Rect,
    /// Index of the label.
    pub label: usize,
    /// Score, 0 to 1.
    pub score: f32,
}

impl Found {
    /// Whether both are the same object, found twice.
    fn is_same(&self, other: &Found) -> bool {
        self.label == other.label && self.rect.iou(&other.rect) >= SAME_OBJECT
    }
}

/// The state of the searches of one camera.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// The tiles of the running search of the view.
    tiles: VecDeque<Rect>,
    /// When the next search of the view begins.
    next_at: Duration,
    /// What the running search has found and no track explains.
    unexplained: Vec<Found>,
    /// The same of the search before.
    before: Vec<Found>,
    /// Objects that were found, did not move for long and are part of the scene now.
    settled: VecDeque<Rect>,
}

/// What the searches of one frame have found.
#[derive(Debug, Default)]
pub(super) struct Searched {
    /// The parts of the image that were searched.
    areas: Vec<Rect>,
    found: Vec<Found>,
    /// For each found object its place in a motion region, if there was one of its own.
    insets: Vec<Option<Inset>>,
    /// What was searched is a tile of the view.
    is_tile: bool,
}

impl Search {
    /// Forgets what was found, because the view is another one. It is searched again once it has settled.
    pub(super) fn restart(&mut self, now: Duration) {
        *self = Search { next_at: now + VIEW_REPETITION, ..Search::default() };
    }

    /// Remembers that an object has become part of the scene.
    pub(super) fn settle(&mut self, rect: Rect) {
        if self.settled.len() >= MAX_SETTLED {
            self.settled.pop_front();
        }
        self.settled.push_back(rect);
    }
}

impl Scene {
    /// Searches the image where something moves, and the next tile of the view. Replaces motion regions by
    /// what was found in them.
    ///
    /// Errors: the pixels cannot be read, or the engine fails. The motion is valid nevertheless.
    pub(super) fn search(
        &mut self,
        image: &Image,
        classifier: &mut dyn Infer,
        motion: &mut MotionResult,
        analysis: &mut Analysis,
    ) -> Result<Searched, Error> {
        let mut searched = Searched::default();
        let sizes = classifier.detector_sizes();
        if sizes.is_empty() {
            return Ok(searched);
        }
        if motion.relearned {
            self.search.restart(self.now);
        }
        let tracks = self.tracker.tracks();
        let since = |region: &MotionRegion| Some((due_since(&region.rect, tracks, self.now)?, region.rect));
        let mut due: Vec<(Option<Duration>, Rect)> = motion.regions.iter().filter_map(since).collect();
        // What was never searched comes first, then what was searched longest ago, so that none starves.
        due.sort_by_key(|(searched_at, _)| *searched_at);
        let due = due.into_iter().map(|(_, rect)| rect).collect();
        let mut areas = areas_around(due, sizes, analysis.size);
        if areas.is_empty() && !motion.settling {
            areas.extend(self.next_tile(analysis.size));
            searched.is_tile = !areas.is_empty();
        }
        for area in areas {
            if !searched.areas.is_empty() && !classifier.has_time() {
                break;
            }
            let found = classifier.detect(image, &area)?;
            analysis.inferences += 1;
            add_found(&mut searched.found, found);
            searched.areas.push(area);
        }
        let bounds = Rect { left: 0.0, top: 0.0, width: analysis.size.0, height: analysis.size.1 };
        let expected = self.tracker.tracks().iter().filter(|track| track.confirmed && track.moving);
        let expected: Vec<Expected> =
            expected.map(|track| (track.predict(self.now).intersection(&bounds), track.inset)).collect();
        let regions = std::mem::take(&mut motion.regions);
        motion.regions = split(regions, &mut searched, &expected, &self.motion, image);
        Ok(searched)
    }

    /// Adds what was found to the tracks, after these were updated with the same image.
    pub(super) fn add_searched(&mut self, image: &Image, searched: Searched, analysis: &Analysis) {
        let Searched { areas, found, insets, is_tile } = searched;
        let now = self.now;
        let mut explained = vec![false; found.len()];
        for track in self.tracker.tracks_mut() {
            if !areas.iter().any(|area| track.rect.share_in(area) >= MIN_SHARE) {
                continue;
            }
            track.searched_at = Some(now);
            let overlap = |index: &usize| track.rect.iou(&found[*index].rect);
            let best = (0..found.len())
                .filter(|index| !explained[*index] && overlap(index) >= SAME_OBJECT)
                .max_by(|a, b| overlap(a).total_cmp(&overlap(b)).then(b.cmp(a)));
            if let Some(index) = best {
                explained[index] = true;
                track.inset = insets[index];
                add_label(track, &found[index], &self.settings, now, analysis.size);
            }
        }
        let is_new = |found: &Found| {
            let is_there = |rect: &Rect| rect.iou(&found.rect) >= SAME_OBJECT;
            let is_part = |track: &Track| found.rect.share_in(&track.rect) > MIN_SHARE;
            !self.tracker.tracks().iter().any(|track| is_there(&track.rect) || is_part(track))
                && !self.search.settled.iter().any(is_there)
        };
        let new = found.into_iter().zip(explained).filter(|(found, explained)| !explained && is_new(found));
        let new: Vec<Found> = new.map(|(found, _)| found).collect();
        // An area around something that moves may show only a part of another object.
        if is_tile {
            add_found(&mut self.search.unexplained, new);
            if self.search.tiles.is_empty() {
                self.complete_view(image, analysis);
            }
        }
    }

    /// The next tile of the search of the view, if one is due.
    fn next_tile(&mut self, size: (f64, f64)) -> Option<Rect> {
        let search = &mut self.search;
        if search.tiles.is_empty() {
            if self.now < search.next_at || self.now.is_zero() {
                return None;
            }
            search.tiles = tiles(size).into();
            search.unexplained.clear();
        }
        search.tiles.pop_front()
    }

    /// Starts tracks with what the last two searches of the view have found in the same place.
    fn complete_view(&mut self, image: &Image, analysis: &Analysis) {
        let found = std::mem::take(&mut self.search.unexplained);
        let before = std::mem::take(&mut self.search.before);
        let mut new = Vec::new();
        for found in found {
            if before.iter().any(|other| other.is_same(&found)) {
                let track = self.tracker.add_found(found.rect, &self.motion, image, self.now);
                add_label(track, &found, &self.settings, self.now, analysis.size);
            } else {
                new.push(found);
            }
        }
        // What is new is looked at again soon, but a view in which something else is found each time is not
        // searched all the time.
        let is_repeated = new.is_empty() || !before.is_empty();
        self.search.next_at = self.now + if is_repeated { VIEW_INTERVAL } else { VIEW_REPETITION };
        self.search.before = new;
    }
}

/// Adds what a detector has found to the label of a track.
fn add_label(track: &mut Track, found: &Found, settings: &Settings, at: Duration, size: (f64, f64)) {
    let weight = weight(&track.rect, size);
    let detection = (found.label, found.score);
    track.labels.add_detection(detection, weight, at, &settings.taxonomy, settings.objects.score);
}

/// When a motion region that is to be searched was last searched: at least one track in it was not a moment
/// ago, or there are several, which only the detector tells apart. None within: never. None: it need not be
/// searched.
fn due_since(region: &Rect, tracks: &[Track], now: Duration) -> Option<Option<Duration>> {
    let explains = |track: &&Track| is_part(&track.predict(now), region);
    let is_crowded = tracks.iter().filter(|track| track.confirmed && explains(track)).nth(1).is_some();
    let oldest = tracks.iter().filter(explains).map(|track| track.searched_at).min().flatten();
    let is_due = oldest.is_none_or(|at| is_crowded || now.saturating_sub(at) >= SEARCH_AGAIN_AFTER);
    is_due.then_some(oldest)
}

/// The areas to search for motion regions, at most [`MAX_AREAS`]. `inputs`: width and height of the
/// detector's inputs; there is at least one.
fn areas_around(regions: Vec<Rect>, inputs: &[(usize, usize)], size: (f64, f64)) -> Vec<Rect> {
    let mut areas: Vec<Rect> = Vec::new();
    for region in regions {
        let is_in = |area: &Rect| {
            region.share_in(area) >= 1.0
                && region.width.max(region.height) >= MIN_SHARE_OF_AREA * area.width.max(area.height)
        };
        if areas.len() < MAX_AREAS && !areas.iter().any(is_in) {
            areas.push(area_around(&region, inputs, size));
        }
    }
    areas
}

/// The area to search for a motion region: what fills the input in which the region is largest with its
/// margin, as far as the image reaches.
fn area_around(region: &Rect, inputs: &[(usize, usize)], size: (f64, f64)) -> Rect {
    let margin = AREA_MARGIN * region.width.max(region.height);
    let wanted = Rect::from_edges(
        region.left - margin,
        region.top - margin,
        region.right() + margin,
        region.bottom() + margin,
    );
    let input = inputs[best_input(&wanted, inputs)];
    let scale = scale(&wanted, input).min(MAX_SCALE);
    region.window_within((input.0 as f64 / scale, input.1 as f64 / scale), size)
}

/// Square tiles that cover an image of this size along its longer side.
fn tiles((width, height): (f64, f64)) -> Vec<Rect> {
    let side = width.min(height);
    let longer = width.max(height);
    if side < 1.0 {
        return Vec::new();
    }
    let step = side * (1.0 - TILE_OVERLAP);
    let count = ((longer - side) / step).ceil().max(0.0) as usize + 1;
    let tile = |index: usize| {
        let start = if count == 1 { 0.0 } else { (longer - side) * index as f64 / (count - 1) as f64 };
        let (left, top) = if width >= height { (start, 0.0) } else { (0.0, start) };
        Rect { left, top, width: side, height: side }
    };
    (0..count).map(tile).collect()
}

/// Adds objects that were not found already in another part of the image.
fn add_found(all: &mut Vec<Found>, more: Vec<Found>) {
    for found in more {
        match all.iter_mut().find(|other| other.is_same(&found)) {
            Some(other) if other.score >= found.score => {}
            Some(other) => *other = found,
            None => all.push(found),
        }
    }
}

/// Where a moving track is expected, and its place in its motion region.
type Expected = (Rect, Option<Inset>);

/// Replaces motion regions by the objects in them. A region that was not searched, or in which nothing was
/// found, is where its only track was found in it before; else it stays as it is.
fn split(
    regions: Vec<MotionRegion>,
    searched: &mut Searched,
    expected: &[Expected],
    detector: &MotionDetector,
    image: &Image,
) -> Vec<MotionRegion> {
    let Searched { areas, found, insets, .. } = searched;
    let is_searched = |region: &MotionRegion| areas.iter().any(|area| region.rect.share_in(area) >= 1.0);
    let mut found_in: Vec<Vec<usize>> = vec![Vec::new(); regions.len()];
    // An object belongs to one region, although the boxes of several may overlap it.
    for (number, found) in found.iter().enumerate() {
        let share = |region: &MotionRegion| found.rect.share_in(&region.rect.expanded(REGION_MARGIN));
        let owner = (0..regions.len())
            .filter(|&index| is_searched(&regions[index]) && share(&regions[index]) >= MIN_SHARE)
            .max_by(|&a, &b| share(&regions[a]).total_cmp(&share(&regions[b])).then(b.cmp(&a)));
        if let Some(index) = owner {
            found_in[index].push(number);
        }
    }
    insets.resize(found.len(), None);
    let mut parts = Vec::with_capacity(regions.len());
    for (region, found_in) in regions.into_iter().zip(found_in) {
        let here = expected.iter().filter(|(rect, _)| is_part(rect, &region.rect));
        let mut rects: Vec<Rect> = found_in.iter().map(|&number| found[number].rect).collect();
        if rects.is_empty() {
            let mut alone = here.map(|(_, inset)| *inset);
            rects.extend(
                alone
                    .next()
                    .flatten()
                    .filter(|_| alone.next().is_none())
                    .and_then(|inset| inset.rect_in(&region.rect)),
            );
        } else {
            let missed =
                here.map(|(rect, _)| *rect).filter(|rect| !rects.iter().any(|found| is_part(rect, found)));
            let missed: Vec<Rect> = missed.collect();
            rects.extend(missed);
            if let ([rect], [number]) = (&rects[..], &found_in[..]) {
                insets[*number] = Inset::new(rect, &region.rect);
            }
        }
        let count = parts.len();
        parts.extend(rects.iter().filter_map(|rect| detector.part(&region, rect, image)));
        if parts.len() == count {
            parts.push(region);
        }
    }
    parts
}

/// Whether one of two boxes is mostly in the other.
fn is_part(a: &Rect, b: &Rect) -> bool {
    a.share_in(b) >= MIN_SHARE || b.share_in(a) >= MIN_SHARE
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{CaptionPainter, SIZE, at, frame, image_with_boxes, scene_with},
        *,
    };
    use crate::{
        error::ErrorKind,
        vision::{
            events::{Event, EventKind},
            head::classes::Heatmap,
            taxonomy::tests::everyday,
            tracks::tests::track_seen_at,
        },
    };

    const PERSON: usize = 0;
    const INPUTS: &[(usize, usize)] = &[(320, 320), (448, 256)];
    /// A person's box: left, top, width, height.
    type Person = [usize; 4];

    /// A detector that finds people where they are, and a classifier that knows nothing.
    #[derive(Default)]
    struct Sighted {
        people: Vec<Person>,
        searches: usize,
        fails: bool,
    }

    fn rect([left, top, width, height]: Person) -> Rect {
        let [left, top, width, height] = [left, top, width, height].map(|length| length as f64);
        Rect { left, top, width, height }
    }

    impl Infer for Sighted {
        fn everyday(&mut self, _: &Image, _: &Rect) -> Result<Vec<f32>, Error> {
            // Person, car, animal, cat, none.
            Ok(vec![0.1, 0.0, 0.0, 0.0, 0.9])
        }

        fn classes(&mut self, _: &Image, _: &Rect) -> Result<&[f32], Error> {
            Ok(&[0.0; 1000])
        }

        fn detector_sizes(&self) -> &[(usize, usize)] {
            INPUTS
        }

        fn detect(&mut self, _: &Image, area: &Rect) -> Result<Vec<Found>, Error> {
            self.searches += 1;
            if self.fails {
                return Err(Error::new(ErrorKind::System, "no detection"));
            }
            let people = self.people.iter().map(|person| rect(*person));
            let visible = people.filter(|person| person.share_in(area) > 0.7);
            Ok(visible.map(|rect| Found { rect, label: PERSON, score: 0.9 }).collect())
        }

        fn heatmap(&mut self, _: usize) -> Option<Heatmap> {
            None
        }
    }

    /// Analyses one frame for each list of people. `shown` are the boxes in the image, which may have
    /// shadows.
    fn analyze(
        scene: &mut Scene,
        sighted: &mut Sighted,
        frames: &[(usize, Vec<Person>, Vec<Person>)],
    ) -> Vec<(usize, Event)> {
        let (mut events, mut painter) = (Vec::new(), CaptionPainter::default());
        for (number, people, shown) in frames {
            sighted.people.clone_from(people);
            let image = image_with_boxes(SIZE, shown, *number as u64);
            let (analysis, _) = scene.analyze(&frame(*number, image, at(*number)), sighted, &mut painter);
            events.extend(analysis.events.into_iter().map(|event| (*number, event)));
        }
        events
    }

    fn starts(events: &[(usize, Event)]) -> Vec<&Event> {
        events.iter().filter(|(_, event)| event.kind == EventKind::Start).map(|(_, event)| event).collect()
    }

    #[test]
    fn two_people_side_by_side_become_two_objects_without_their_shadow() {
        let mut scene = scene_with("", 0, everyday(&[]));
        let frames = |number: usize| {
            let left = 8 * number.saturating_sub(5) + 20;
            let people = vec![[left, 100, 40, 100], [left + 42, 100, 40, 100]];
            let shadow = [left, 200, 82, 20];
            let shown = [people.clone(), vec![shadow]].concat();
            if number < 5 { (number, Vec::new(), Vec::new()) } else { (number, people, shown) }
        };
        let frames: Vec<_> = (0..30).map(frames).collect();
        let mut sighted = Sighted::default();
        let events = analyze(&mut scene, &mut sighted, &frames);
        assert_eq!(starts(&events).len(), 2, "{events:#?}");
        assert!(starts(&events).iter().all(|event| event.label == Some(PERSON)));
        let people: Vec<Rect> = frames[29].1.iter().map(|person| rect(*person)).collect();
        for track in scene.tracker.tracks() {
            assert!(
                people.iter().any(|person| person.iou(&track.rect) > 0.6),
                "{:?} of {people:?}",
                track.rect
            );
        }
    }

    #[test]
    fn an_object_keeps_its_box_between_searches() {
        let mut scene = scene_with("", 0, everyday(&[]));
        let mut sighted = Sighted::default();
        let mut overlaps = Vec::new();
        for number in 0..30 {
            let left = 8 * number.max(5) - 20;
            let (person, shadow) = ([left, 100, 40, 100], [left + 40, 180, 30, 20]);
            let shown = if number < 5 { Vec::new() } else { vec![person, shadow] };
            let found = if number < 5 { Vec::new() } else { vec![person] };
            analyze(&mut scene, &mut sighted, &[(number, found, shown)]);
            // The object is known from then on.
            if number > 14 {
                let [track] = scene.tracker.tracks() else { panic!("one track") };
                overlaps.push(rect(person).iou(&track.rect));
            }
        }
        assert!(
            overlaps.iter().all(|overlap| *overlap > 0.85),
            "the shadow is never in the box: {overlaps:?}"
        );
        assert!(sighted.searches <= 16, "{}: not in every frame", sighted.searches);
    }

    #[test]
    fn who_is_missed_in_one_search_stays_the_same_object() {
        let mut scene = scene_with("", 0, everyday(&[]));
        let frames: Vec<_> = (0..40)
            .map(|number: usize| {
                let left = 8 * number.saturating_sub(5) + 20;
                let shown = vec![[left, 100, 40, 100], [left + 42, 100, 40, 100]];
                // Only one of them is found in every other frame once both are known.
                let found =
                    if number > 14 && number.is_multiple_of(2) { vec![shown[0]] } else { shown.clone() };
                if number < 5 { (number, Vec::new(), Vec::new()) } else { (number, found, shown) }
            })
            .collect();
        let events = analyze(&mut scene, &mut Sighted::default(), &frames);
        assert_eq!(starts(&events).len(), 2, "{events:#?}");
        assert!(events.iter().all(|(_, event)| !matches!(event.kind, EventKind::End(_))), "{events:#?}");
        let people: Vec<Rect> = frames[39].2.iter().map(|person| rect(*person)).collect();
        for person in &people {
            assert!(scene.tracker.tracks().iter().any(|track| person.iou(&track.rect) > 0.6));
        }
    }

    #[test]
    fn who_stands_still_is_found_once_and_ends_when_gone() {
        let mut scene = scene_with("", 0, everyday(&[]));
        let person = [300, 100, 50, 120];
        // Far away from motion, and gone after 10 s.
        let frame = |number: usize| {
            let people = if number < 50 { vec![person] } else { Vec::new() };
            (number, people.clone(), people)
        };
        let frames: Vec<_> = (0..90).map(frame).collect();
        let mut sighted = Sighted::default();
        let events = analyze(&mut scene, &mut sighted, &frames);
        let [started] = starts(&events)[..] else { panic!("{events:#?}") };
        assert!(started.label == Some(PERSON) && !started.moving);
        assert!(started.started_at < crate::vision::scene::tests::start() + Duration::from_secs(6));
        assert!(events.iter().any(|(number, event)| *number > 50 && matches!(event.kind, EventKind::End(_))));
        assert!(sighted.searches <= 12, "{}: a still view costs next to nothing", sighted.searches);
    }

    #[test]
    fn a_detector_that_fails_loses_no_motion() {
        let mut scene = scene_with("labels = ['any', 'unknown']", 0, everyday(&[]));
        let frames: Vec<_> = (0..30)
            .map(|number| {
                let shown = if number < 5 { Vec::new() } else { vec![[15 * number, 100, 60, 100]] };
                (number, Vec::new(), shown)
            })
            .collect();
        let mut sighted = Sighted { fails: true, ..Sighted::default() };
        assert_eq!(starts(&analyze(&mut scene, &mut sighted, &frames)).len(), 1);
    }

    #[test]
    fn a_crowd_is_searched_in_turns() {
        let rect = |number: usize| Rect { left: 50.0 * number as f64, top: 0.0, width: 30.0, height: 60.0 };
        let at = |frame: usize| Duration::from_millis(200 * frame as u64);
        let mut tracks: Vec<Track> = (0..40).map(|n| track_seen_at(n as u64, at(0))).collect();
        tracks.iter_mut().enumerate().for_each(|(number, track)| track.rect = rect(number));
        for frame in 1..=40 {
            let since = |n: &usize| Some((due_since(&rect(*n), &tracks, at(frame))?, *n));
            let mut due: Vec<_> = (0..40).filter_map(|n| since(&n)).collect();
            due.sort();
            for (_, number) in due.into_iter().take(MAX_AREAS) {
                tracks[number].searched_at = Some(at(frame));
            }
        }
        let waited = |track: &Track| at(40) - track.searched_at.expect("each was searched");
        assert!(tracks.iter().all(|track| waited(track) < at(21)), "nobody waits for more than one round");
        assert_eq!(due_since(&rect(99), &tracks, at(40)), Some(None), "what is new is due");
    }

    #[test]
    fn tiles_cover_the_view_and_overlap() {
        let of = |width, height| {
            tiles((width, height)).iter().map(|tile| (tile.left, tile.top)).collect::<Vec<_>>()
        };
        assert_eq!(of(640.0, 640.0), [(0.0, 0.0)]);
        assert_eq!(of(1280.0, 720.0), [(0.0, 0.0), (560.0, 0.0)]);
        assert_eq!(of(720.0, 1280.0), [(0.0, 0.0), (0.0, 560.0)]);
        assert_eq!(of(0.0, 720.0), []);
    }

    #[test]
    fn an_area_holds_small_neighbours_but_not_specks() {
        let rect = |left, side| Rect { left, top: 100.0, width: side, height: side };
        let areas = areas_around(
            vec![rect(100.0, 200.0), rect(150.0, 100.0), rect(160.0, 20.0)],
            INPUTS,
            (640.0, 360.0),
        );
        assert_eq!(areas.len(), 2, "the speck is searched by itself");
        assert_eq!((areas[1].width, areas[1].height), (160.0, 160.0), "at most twice as large as it is");
    }

    #[test]
    fn a_wide_region_gets_a_wide_area_within_the_image() {
        let image = (1280.0, 720.0);
        let area = |left, top, width, height| {
            let region = Rect { left, top, width, height };
            let area = area_around(&region, INPUTS, image);
            assert!(region.share_in(&area) > 0.999, "{area:?}");
            assert!(area.share_in(&Rect { left: 0.0, top: 0.0, width: image.0, height: image.1 }) > 0.999);
            area
        };
        let hundredths = |area: Rect| (100.0 * area.width / area.height).round();
        assert_eq!(hundredths(area(300.0, 300.0, 100.0, 200.0)), 100.0);
        assert_eq!(hundredths(area(300.0, 300.0, 300.0, 60.0)), 175.0);
        assert_eq!(area(0.0, 0.0, 1280.0, 720.0), Rect { left: 0.0, top: 0.0, width: 1280.0, height: 720.0 });
        let corner = area(1270.0, 710.0, 10.0, 10.0);
        assert_eq!((corner.right(), corner.bottom(), corner.width), (1280.0, 720.0, 160.0));
    }
}
