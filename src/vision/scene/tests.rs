use super::*;
use crate::{
    config::{Main, Source},
    error::ErrorKind,
    frame::{CaptureClock, Colorimetry, OwnedPlanes, PixelFormat, View, YuvMatrix},
    vision::{
        events::{ChangedField, EventKind},
        labels::Labels,
    },
};

/// A classifier that returns the same scores for every region.
struct FixedScores {
    inferences: u32,
    scores: [f32; 2],
    fails: bool,
    has_time: bool,
}

impl FixedScores {
    fn new() -> FixedScores {
        FixedScores { inferences: 0, scores: [0.9, 0.1], fails: false, has_time: true }
    }
}

impl Infer for FixedScores {
    fn everyday(&mut self, _: &Image, _: &Rect) -> Result<Vec<f32>, Error> {
        Ok(Vec::new())
    }

    fn classes(&mut self, _: &Image, _: &Rect) -> Result<&[f32], Error> {
        self.inferences += 1;
        if self.fails { Err(Error::new(ErrorKind::System, "no inference")) } else { Ok(&self.scores) }
    }

    fn has_time(&self) -> bool {
        self.has_time
    }

    fn heatmap(&mut self, _: usize) -> Option<Heatmap> {
        Some(Heatmap { width: 1, height: 1, grey: vec![255] })
    }
}

/// A painter whose pictures hold the caption.
#[derive(Default)]
pub(super) struct CaptionPainter {
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
    scene_with_pictures(toml, 4)
}

fn scene_with_pictures(toml: &str, pictures_per_frame: usize) -> Scene {
    let labels = Labels::parse(b"cat\ndog\n", "l", 2).unwrap();
    let taxonomy = Taxonomy::new(None, &labels, &Default::default()).unwrap();
    scene_with(toml, pictures_per_frame, taxonomy)
}

pub(super) fn scene_with(toml: &str, pictures_per_frame: usize, taxonomy: Taxonomy) -> Scene {
    let text = format!("[cameras.yard]\nsource = 'test://'\n{toml}");
    let main = Main::Text { name: "t".into(), text };
    let config = config::load(&config::Inputs { main, ..Default::default() }).unwrap().config;
    assert!(matches!(config.cameras[0].source, Source::Test { .. }));
    Scene::new(Settings {
        camera: config.cameras[0].clone(),
        objects: config.objects,
        top: 2,
        pictures_per_frame,
        taxonomy: Arc::new(taxonomy),
        seed: 1,
    })
}

/// A grey image with noise and a striped box at `left`.
fn image(size: (usize, usize), left: Option<usize>, seed: u64) -> Image {
    let boxes: Vec<[usize; 4]> = left.map(|left| [left, 60, 90, 60]).into_iter().collect();
    image_with_boxes(size, &boxes, seed)
}

/// A grey image with noise and striped boxes: left, top, width, height.
pub(super) fn image_with_boxes((width, height): (usize, usize), boxes: &[[usize; 4]], seed: u64) -> Image {
    let mut random = fastrand::Rng::with_seed(seed);
    let data = (0..width * height)
        .map(|i| {
            let (x, y) = (i % width, i / width);
            let inside = boxes.iter().any(|&[left, top, columns, rows]| {
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

pub(super) fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

pub(super) fn frame(number: usize, image: Image, time: Duration) -> Frame {
    Frame {
        number: number as u64 + 1,
        captured_at: start() + time,
        capture_clock: CaptureClock::Arrival,
        stream_time: time,
        timings: Default::default(),
        image,
    }
}

/// Analyses images with their times. Returns the events with the image's index, and the number of inferences.
fn analyze_all(scene: &mut Scene, images: Vec<(Image, Duration)>) -> (Vec<(usize, Event)>, u32) {
    let (mut classifier, mut painter) = (FixedScores::new(), CaptionPainter::default());
    let mut events = Vec::new();
    for (number, (image, time)) in images.into_iter().enumerate() {
        let (analysis, outcome) = scene.analyze(&frame(number, image, time), &mut classifier, &mut painter);
        outcome.unwrap();
        events.extend(analysis.events.into_iter().map(|event| (number, event)));
    }
    (events, classifier.inferences)
}

pub(super) const SIZE: (usize, usize) = (640, 360);

pub(super) fn at(number: usize) -> Duration {
    Duration::from_millis(200 * number as u64)
}

fn passing(number: usize) -> Option<usize> {
    (10..25).contains(&number).then(|| 30 * (number - 10) + 20)
}

#[test]
fn an_object_that_passes_starts_and_ends_and_a_still_scene_needs_no_inference() {
    let mut yard = scene("");
    let still = (0..10).map(|number| (image(SIZE, None, number as u64), at(number))).collect();
    assert_eq!(analyze_all(&mut yard, still), (vec![], 0));
    let images = (10..45).map(|number| (image(SIZE, passing(number), number as u64), at(number))).collect();
    let (events, inferences) = analyze_all(&mut yard, images);
    let kinds: Vec<&EventKind> = events.iter().map(|(_, event)| &event.kind).collect();
    assert_eq!(kinds.first(), Some(&&EventKind::Start));
    assert_eq!(kinds.last(), Some(&&EventKind::End(EndReason::Lost)));
    assert!(events[0].0 <= 2, "it starts within three frames");
    let end = &events.last().unwrap().1;
    assert_eq!((end.label, end.id), (Some(0), events[0].1.id));
    assert_eq!(end.started_at.to_string(), "2026-01-01T00:00:02Z");
    assert!((3..=8).contains(&inferences), "{inferences}: no inferences once the label is confident");
}

#[test]
fn another_video_size_ends_all_tracks_and_relearns_the_background() {
    let mut yard = scene("");
    let images = (0..40).map(|number| {
        // An odd size, too.
        let size = if number < 18 { SIZE } else { (321, 181) };
        let left = if number < 18 { passing(number) } else { Some(20) };
        (image(size, left, number as u64), at(number))
    });
    let (events, _) = analyze_all(&mut yard, images.collect());
    assert!(
        events
            .iter()
            .any(|(number, event)| (*number, &event.kind) == (18, &EventKind::End(EndReason::VideoChanged)))
    );
    assert_eq!(events.iter().filter(|(number, _)| *number > 18).count(), 0, "{events:#?}");
}

#[test]
fn repeated_or_reversed_time_ends_no_track_and_a_long_gap_does() {
    let mut yard = scene("");
    let images = (0..22).map(|number| {
        let time = match number {
            15 => at(14),
            16 => at(3),
            17.. => at(number - 13),
            _ => at(number),
        };
        (image(SIZE, passing(number), number as u64), time)
    });
    let (events, _) = analyze_all(&mut yard, images.collect());
    assert_eq!(events.iter().filter(|(_, event)| event.kind == EventKind::Start).count(), 1, "{events:#?}");
    assert!(!events.iter().any(|(_, event)| matches!(event.kind, EventKind::End(_))), "{events:#?}");
    let later = vec![(image(SIZE, None, 1), at(9) + Duration::from_secs(3600))];
    let (events, _) = analyze_all(&mut yard, later);
    assert!(
        matches!(&events[..], [(0, event)] if event.kind == EventKind::End(EndReason::CameraLost)),
        "{events:#?}"
    );
}

/// Frames of an object that passes.
fn passing_frames() -> impl Iterator<Item = Frame> {
    (0..45).map(|number| frame(number, image(SIZE, passing(number), number as u64), at(number)))
}

#[test]
fn setting_the_time_of_day_does_not_change_an_objects_duration() {
    for shift_s in [-3600, 3600] {
        let mut yard = scene("");
        let (mut events, mut pictures) = (Vec::new(), 0);
        for mut frame in passing_frames() {
            if frame.number > 16 {
                frame.captured_at += jiff::SignedDuration::from_secs(shift_s);
            }
            let (analysis, _) = yard.analyze(&frame, &mut FixedScores::new(), &mut CaptionPainter::default());
            events.extend(analysis.events);
            pictures += analysis.pictures.len();
        }
        let end = events.last().unwrap();
        assert_eq!(
            (&end.kind, end.duration),
            (&EventKind::End(EndReason::Lost), Duration::from_millis(2800))
        );
        assert!(pictures >= 1);
    }
}

#[test]
fn events_are_reported_even_if_inference_and_painting_fail() {
    let mut yard = scene("labels = ['unknown']\nregions.gate.box = [0, 0, 1, 1]");
    let mut classifier = FixedScores { fails: true, ..FixedScores::new() };
    let mut painter = CaptionPainter { failures: u32::MAX, ..Default::default() };
    let (mut events, mut failures, mut paint_error) = (Vec::new(), 0, 0);
    for frame in passing_frames() {
        let (analysis, outcome) = yard.analyze(&frame, &mut classifier, &mut painter);
        events.extend(analysis.events);
        failures += u32::from(outcome.is_err());
        paint_error += u32::from(analysis.paint_error.is_some());
    }
    let kinds: Vec<&EventKind> = events.iter().map(|event| &event.kind).collect();
    assert_eq!(kinds, [&EventKind::Start, &EventKind::End(EndReason::Lost)]);
    assert!(failures > 0 && paint_error > 0);
}

#[test]
fn an_object_without_a_label_has_events_only_if_the_camera_asks_for_them() {
    let analyze_nameless = |toml: &str| {
        let mut yard = scene(toml);
        let mut classifier = FixedScores { scores: [0.3, 0.3], ..FixedScores::new() };
        let (mut kinds, mut labels, mut most) = (Vec::new(), Vec::new(), 0);
        for frame in passing_frames() {
            let (analysis, outcome) = yard.analyze(&frame, &mut classifier, &mut CaptionPainter::default());
            outcome.unwrap();
            kinds.extend(analysis.events.into_iter().map(|event| event.kind));
            labels.extend(analysis.objects.iter().map(|object| object.label));
            most = analysis.occupancy.map_or(most, |occupancy| most.max(occupancy.counts.total));
        }
        assert!(labels.iter().all(Option::is_none));
        (kinds.len(), labels.len(), most)
    };
    let (events, objects, occupancy) = analyze_nameless("");
    assert!((events, occupancy) == (0, 0) && objects > 5, "{events} events, {objects} objects");
    let (events, objects, occupancy) = analyze_nameless("labels = ['cat', 'unknown']");
    assert!((events, occupancy) == (2, 1) && objects > 5, "{events} events, {objects} objects");
    assert_eq!(analyze_nameless("labels = ['cat']"), (0, 0, 0));
}

#[test]
fn a_start_waits_for_the_name_and_no_longer_than_configured() {
    // The events of an object that is recognised from frame `named_from` on, with the frames' numbers.
    let events = |toml: &str, named_from: usize| -> Vec<(usize, Event)> {
        let mut yard = scene(&format!("labels = ['any', 'unknown']\n{toml}"));
        let mut events = Vec::new();
        for frame in passing_frames() {
            let number = frame.number as usize - 1;
            let scores = if number < named_from { [0.3, 0.3] } else { [1.0, 0.0] };
            let mut classifier = FixedScores { scores, ..FixedScores::new() };
            let (analysis, outcome) = yard.analyze(&frame, &mut classifier, &mut CaptionPainter::default());
            outcome.unwrap();
            let starts = analysis.events.iter().filter(|event| event.kind == EventKind::Start).count();
            assert!(analysis.pictures.len() >= starts, "a picture with the start");
            events.extend(analysis.events.into_iter().map(|event| (number, event)));
        }
        events
    };
    let is_start = |event: &Event| event.kind == EventKind::Start;
    // It is first seen in frame 10 and confirmed in frame 11.
    let (frame, start) = &events("", 13)[0];
    assert!((13..=18).contains(frame) && is_start(start) && start.label == Some(0), "{frame}: {start:?}");
    assert_eq!(start.started_at.to_string(), "2026-01-01T00:00:02Z", "it started when it was first seen");
    let (frame, start) = &events("", 99)[0];
    assert!((18..=19).contains(frame) && is_start(start) && start.label.is_none(), "{frame}: {start:?}");
    let at_once = events("[objects]\nname_within = '0s'", 13);
    assert!(at_once[0].0 <= 12 && at_once[0].1.label.is_none());
    let named = at_once.iter().find(|(_, event)| event.label.is_some()).unwrap();
    assert!(matches!(&named.1.kind, EventKind::Update(changed) if changed.contains(&ChangedField::Label)));
    // It ends before it has a name.
    let ended = events("[objects]\nname_within = '1h'", 99);
    let kinds: Vec<_> = ended.iter().map(|(_, event)| event.kind.clone()).collect();
    assert_eq!(kinds, [EventKind::Start, EventKind::End(EndReason::Lost)]);
    assert_eq!(ended[0].1.id, ended[1].1.id);
}

#[test]
fn a_failed_picture_is_retried_and_loses_no_event() {
    let mut yard = scene("");
    let (mut classifier, mut painter) =
        (FixedScores::new(), CaptionPainter { failures: 1, ..Default::default() });
    let (mut pictures, mut paint_error, mut starts) = (0, 0, 0);
    for frame in passing_frames() {
        let (analysis, outcome) = yard.analyze(&frame, &mut classifier, &mut painter);
        outcome.unwrap();
        starts += analysis.events.iter().filter(|event| event.kind == EventKind::Start).count();
        (pictures, paint_error) =
            (pictures + analysis.pictures.len(), paint_error + usize::from(analysis.paint_error.is_some()));
    }
    assert_eq!((starts, paint_error), (1, 1));
    assert!(pictures >= 1, "it is retried");
}

#[test]
fn heatmaps_are_of_reported_objects_only() {
    let analyze_with_labels = |labels: &str| {
        let mut yard = scene(&format!("heatmap = true\nlabels = {labels}"));
        let (mut classifier, mut painter) = (FixedScores::new(), CaptionPainter::default());
        let (mut ids, mut heatmaps) = (Vec::new(), Vec::new());
        for frame in passing_frames() {
            let (analysis, _) = yard.analyze(&frame, &mut classifier, &mut painter);
            ids.extend(analysis.events.iter().map(|event| event.id));
            heatmaps.extend(analysis.heatmaps.into_iter().map(|(id, _)| id));
        }
        (ids, heatmaps, classifier.inferences as usize)
    };
    let (ids, heatmaps, inferences) = analyze_with_labels("[]");
    assert!(heatmaps.len() + 1 >= inferences && !heatmaps.is_empty(), "{} of {inferences}", heatmaps.len());
    assert!(heatmaps.iter().all(|id| *id == ids[0]));
    let (ids, heatmaps, inferences) = analyze_with_labels("['dog']");
    assert!(ids.is_empty() && heatmaps.is_empty() && inferences > 0);
}

#[test]
fn a_start_event_names_the_zones_that_the_object_is_in() {
    let mut yard = scene("zones.all = [[0, 0], [1, 0], [1, 1], [0, 1]]");
    let images = (0..14).map(|number| (image(SIZE, passing(number), number as u64), at(number))).collect();
    let (events, _) = analyze_all(&mut yard, images);
    let [(_, start)] = &events[..] else { panic!("{events:#?}") };
    assert_eq!((&start.zones[..], &start.visited[..]), (&[0][..], &[0][..]));
}

#[test]
fn the_maximum_gap_depends_on_the_cameras_rate() {
    for (rate, is_lost) in [("5", true), ("0.01", false)] {
        let mut yard = scene(&format!("rate_fps = {rate}"));
        let images = (0..16).map(|number| {
            let time = if number == 15 { at(14) + Duration::from_secs(250) } else { at(number) };
            (image(SIZE, passing(number), number as u64), time)
        });
        let (events, _) = analyze_all(&mut yard, images.collect());
        let lost = events.iter().any(|(_, event)| event.kind == EventKind::End(EndReason::CameraLost));
        assert_eq!(lost, is_lost, "at {rate} frames per second: {events:#?}");
    }
}

#[test]
fn frames_out_of_order_do_not_make_time_run_faster() {
    let mut yard = scene("");
    let order = [0usize, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9];
    analyze_all(&mut yard, order.iter().map(|&n| (image(SIZE, None, n as u64), at(n))).collect());
    assert_eq!(yard.now, at(10));
    // The stream starts anew.
    analyze_all(&mut yard, (0..=5).map(|n| (image(SIZE, None, n as u64), at(n))).collect());
    assert_eq!(yard.now, at(15));
}

#[test]
fn an_occluded_object_is_reported_at_its_predicted_position() {
    let mut yard = scene("");
    let mut last = None;
    for number in 0..17 {
        let left = passing(number).filter(|_| number < 16);
        let (analysis, _) = yard.analyze(
            &frame(number, image(SIZE, left, number as u64), at(number)),
            &mut FixedScores::new(),
            &mut CaptionPainter::default(),
        );
        let [object] = &analysis.objects[..] else { continue };
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
fn pictures_per_frame_are_limited_and_those_of_a_present_object_are_sent_in_time() {
    let mut yard = scene_with_pictures("", 1);
    let (mut classifier, mut painter) = (FixedScores::new(), CaptionPainter::default());
    let mut pictures_at = BTreeMap::<Uuid, Vec<usize>>::new();
    for number in 0..90usize {
        // Two objects appear at once and grow.
        let by = number.saturating_sub(10);
        let boxes = [[20 + 2 * by, 20, 60 + 2 * by, 60 + by], [20 + 2 * by, 200, 60 + 2 * by, 60 + by]];
        let boxes = if number < 10 { &[][..] } else { &boxes };
        let (analysis, outcome) = yard.analyze(
            &frame(number, image_with_boxes(SIZE, boxes, number as u64), at(number)),
            &mut classifier,
            &mut painter,
        );
        outcome.unwrap();
        assert!(analysis.events.iter().all(|event| event.kind != EventKind::End(EndReason::Lost)));
        analysis.pictures.into_iter().for_each(|(id, ..)| pictures_at.entry(id).or_default().push(number));
    }
    assert!(painter.calls.iter().all(|&count| count == 1) && painter.calls.len() >= 4, "{:?}", painter.calls);
    assert_eq!(pictures_at.len(), 2);
    for times in pictures_at.values() {
        assert!(times.len() >= 2 && times[0] <= 14, "{pictures_at:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_events_and_ids() {
    let run = || {
        let images =
            (0..45).map(|number| (image(SIZE, passing(number), number as u64), at(number))).collect();
        analyze_all(&mut scene(""), images).0
    };
    assert_eq!(run(), run());
}

/// A classifier with a head of five outputs and a second opinion.
struct TwoHeads {
    first: [f32; 5],
    second: [f32; 5],
    classes: Vec<f32>,
    asked: u32,
}

impl Infer for TwoHeads {
    fn everyday(&mut self, _: &Image, _: &Rect) -> Result<Vec<f32>, Error> {
        Ok(self.first.to_vec())
    }

    fn classes(&mut self, _: &Image, _: &Rect) -> Result<&[f32], Error> {
        self.asked += 1;
        Ok(&self.classes)
    }

    fn has_second_opinion(&self) -> bool {
        true
    }

    fn second_opinion(&self) -> &[f32] {
        &self.second
    }

    fn heatmap(&mut self, _: usize) -> Option<Heatmap> {
        None
    }
}

#[test]
fn an_unsure_head_gets_a_second_opinion() {
    use crate::vision::head::file::{HeadFile, tests as head};
    let tree = HeadFile::parse(&head::file(&head::metadata(), &[0.5; 10]), "h").unwrap().tree;
    let labels = Labels::parse(b"a\nb\n", "l", 2).unwrap();
    let taxonomy = Taxonomy::new(Some(&tree), &labels, &Default::default()).unwrap();
    let find = |first, second, needs_classes| {
        let mut classifier = TwoHeads { first, second, classes: vec![0.5, 0.5], asked: 0 };
        let image = image(SIZE, None, 1);
        let whole = Rect::whole(&image);
        let findings = Findings::of(&mut classifier, &image, &whole, &taxonomy, needs_classes).unwrap();
        assert_eq!(findings.classes.is_some(), classifier.asked == 1);
        (findings.outputs, classifier.asked)
    };
    let (sure, second) = ([0.9, 0.1, 0.0, 0.0, 0.0], [0.5, 0.0, 0.0, 0.0, 0.5]);
    assert_eq!(find(sure, second, false), (sure.to_vec(), 0));
    let (outputs, asked) = find(sure, second, true);
    assert!(asked == 1 && outputs[0] < 0.9 && outputs[4] > 0.0, "{outputs:?}");
    let unsure = [0.5, 0.5, 0.0, 0.0, 0.0];
    let (outputs, asked) = find(unsure, second, false);
    assert!(asked == 1 && outputs[1] == outputs[4] && outputs[0] > 0.5, "{outputs:?}");
}

#[test]
fn without_time_one_object_is_classified_per_frame() {
    let most = |has_time| {
        let mut classifier = FixedScores { has_time, ..FixedScores::new() };
        let mut yard = scene("");
        let inferences = (0..30usize).map(|number| {
            let left = 20 + 4 * number.saturating_sub(10);
            let boxes = [[left, 20, 60, 60], [left, 120, 60, 60], [left, 220, 60, 60]];
            let boxes = if number < 10 { &[][..] } else { &boxes };
            let image = image_with_boxes(SIZE, boxes, number as u64);
            let frame = frame(number, image, at(number));
            yard.analyze(&frame, &mut classifier, &mut CaptionPainter::default()).0.inferences
        });
        inferences.max().unwrap()
    };
    assert_eq!((most(true), most(false)), (3, 1));
}
