use super::{
    inferences::InferenceLog,
    recording::{Encoder, Recorder, Recording},
    *,
};
use crate::{
    frame::{CaptureClock, Colorimetry, Frame, OwnedPlanes, PixelFormat, View, YuvMatrix},
    vision::{
        events::{Event, EventKind},
        head::classes::Heatmap,
        labels::Labels,
        scene::Infer,
    },
};

const SIZE: (usize, usize) = (640, 360);
const FRAMES: usize = 100;

/// A classifier that is sure of a cat.
struct Cat;

impl Infer for Cat {
    fn everyday(&mut self, _: &Image, _: &Rect) -> Result<Vec<f32>, Error> {
        Ok(Vec::new())
    }

    fn classes(&mut self, _: &Image, _: &Rect) -> Result<&[f32], Error> {
        Ok(&[0.9, 0.0005])
    }

    fn heatmap(&mut self, _: usize) -> Option<Heatmap> {
        None
    }
}

/// Where the objects are, and how bright: one that is easy to see passes above twice, a larger one of low
/// contrast below once.
fn boxes(number: usize) -> Vec<([usize; 4], u8)> {
    let along = |first: usize, top: usize, height: usize, contrast: u8| {
        let is_there = (first..first + 20).contains(&number);
        is_there.then(|| ([20 + 26 * (number - first), top, height * 3 / 2, height], contrast))
    };
    [along(10, 40, 60, 100), along(60, 40, 60, 100), along(35, 240, 80, 40)].into_iter().flatten().collect()
}

fn frame(number: usize) -> Frame {
    let mut noise = vec![0; SIZE.0 * SIZE.1];
    fastrand::Rng::with_seed(number as u64).fill(&mut noise);
    let mut data: Vec<u8> = noise.iter().map(|noise| 80 + noise % 4).collect();
    for ([left, top, width, height], contrast) in boxes(number) {
        for y in top..top + height {
            for x in left..(left + width).min(SIZE.0) {
                data[y * SIZE.0 + x] += if x / 8 % 2 == 0 { contrast } else { contrast * 2 / 3 };
            }
        }
    }
    let stream_time = Duration::from_millis(1_000_000 + 200 * number as u64);
    Frame {
        number: number as u64 + 1,
        captured_at: Timestamp::UNIX_EPOCH + stream_time,
        capture_clock: CaptureClock::Arrival,
        stream_time,
        timings: Default::default(),
        image: Image {
            format: PixelFormat::Gray8,
            width: SIZE.0,
            height: SIZE.1,
            colorimetry: Colorimetry { matrix: YuvMatrix::Bt601, full_range: true },
            view: View::PLAIN,
            planes: Box::new(OwnedPlanes(vec![(data, SIZE.0)])),
        },
    }
}

fn config(toml: &str) -> (config::Camera, config::Objects) {
    let text = format!(
        "[cameras.yard]\nsource = 'test://'\nzones.street = [[0, 0], [1, 0], [1, 0.5], [0, 0.5]]\n{toml}"
    );
    let main = config::Main::Text { name: "t".into(), text };
    let config = config::load(&config::Inputs { main, ..Default::default() }).unwrap().config;
    (config.cameras[0].clone(), config.objects)
}

/// Analyses the frames as a worker does. Returns the events and the recording.
fn live(limit: usize) -> (Vec<Event>, Arc<Recording>) {
    let (camera, objects) = config("");
    let labels = Labels::parse(b"cat\ndog\n", "l", 2).unwrap();
    let taxonomy = Arc::new(Taxonomy::new(None, &labels, &Default::default()).unwrap());
    let mut scene =
        Scene::new(Settings { camera, objects, top: 1, pictures_per_frame: 0, taxonomy, seed: 1 });
    let recording = Arc::new(Recording::default());
    recording.set_limit(limit);
    let (mut recorder, mut encoder) = (Recorder::new(recording.clone()), Encoder::default());
    let mut events = Vec::new();
    for number in 0..FRAMES {
        let frame = frame(number);
        let mut cat = Cat;
        let mut log = InferenceLog::new(&mut cat, recorder.is_on());
        let (analysis, outcome) = scene.analyze(&frame, &mut log, &mut NoPainter);
        outcome.unwrap();
        let inferences = log.inferences;
        events.extend(analysis.events);
        if recorder.is_on() {
            recorder.record(&frame, &scene, inferences, &mut encoder);
        }
    }
    (events, recording)
}

fn replay(recording: &Recording, toml: &str) -> Seen {
    let (camera, objects) = config(toml);
    run(camera, objects, &recording.frames(), &|| true).unwrap()
}

fn reported(seen: &Seen) -> Vec<&SeenTrack> {
    seen.tracks.iter().filter(|track| track.unreported.is_none()).collect()
}

#[test]
fn the_same_settings_see_the_same() {
    let (events, recording) = live(64 << 20);
    let ends: Vec<&Event> = events.iter().filter(|event| matches!(event.kind, EventKind::End(_))).collect();
    assert_eq!(ends.len(), 3, "{events:#?}");
    let seen = replay(&recording, "");
    let reported = reported(&seen);
    assert_eq!((seen.frames, seen.size, reported.len()), (FRAMES, (640.0, 360.0), 3), "{seen:#?}");
    assert_eq!((seen.duration, seen.omitted), (Duration::from_millis(200 * (FRAMES as u64 - 1)), 0));
    assert_eq!(seen.until, frame(FRAMES - 1).captured_at);
    for (event, track) in ends.iter().zip(&reported) {
        assert_eq!((event.label, &event.visited), (track.label, &track.zones));
        assert!((event.score - track.score).abs() < 0.02, "{} {}", event.score, track.score);
        let ago = seen.until.duration_since(event.started_at).as_secs_f64() - track.first.as_secs_f64();
        assert!(ago.abs() < 0.3, "{ago} s");
        assert!(event.best.rect.iou(&track.rect) > 0.8, "{:?} {:?}", event.best.rect, track.rect);
        let (from, to) = (track.path[0], *track.path.last().unwrap());
        assert!(
            to.0 - from.0 > 300.0 && (to.1 - event.path.last().unwrap().1).abs() < 6.0,
            "{from:?} {to:?}"
        );
    }
}

#[test]
fn each_setting_has_its_effect() {
    let (_, recording) = live(64 << 20);
    let count = |toml: &str| reported(&replay(&recording, toml)).len();
    assert_eq!(count("motion_threshold = 45"), 2, "not the one of low contrast");
    assert_eq!(count("masks = [[[0, 0], [1, 0], [1, 0.5], [0, 0.5]]]"), 1, "those above are masked");
    assert_eq!(count("min_size = 0.17"), 1, "the others are smaller");
    assert_eq!(count("min_size = 0.9"), 0);
    let strict = replay(&recording, "score = 0.95");
    assert!(reported(&strict).is_empty());
    let reasons: Vec<Option<Unreported>> = strict.tracks.iter().map(|track| track.unreported).collect();
    assert_eq!(reasons, [Some(Unreported::NoLabel { required: 0.95 }); 3]);
    assert!(strict.tracks.iter().all(|track| track.is_classified && track.is_confirmed()));
    let lawn = "zones.lawn = [[0, 0.5], [1, 0.5], [1, 1], [0, 1]]";
    let zones: Vec<Vec<usize>> = replay(&recording, lawn).tracks.iter().map(|t| t.zones.clone()).collect();
    assert_eq!(zones, [vec![1], vec![0], vec![1]], "zones are sorted by name");
    let dogs = replay(&recording, "labels = ['dog']");
    assert_eq!(dogs.tracks[0].unreported, Some(Unreported::NotListed));
}

#[test]
fn what_was_not_seen_before_has_no_label() {
    let (_, recording) = live(64 << 20);
    // Without their inferences, the objects are there and nobody knows what they are.
    let frames = recording.frames();
    let (camera, objects) = config("");
    let without: Vec<Arc<RecordedFrame>> =
        frames.iter().map(|frame| Arc::new(frame.without_inferences())).collect();
    let seen = run(camera, objects, &without, &|| true).unwrap();
    assert_eq!(seen.tracks.len(), 3);
    for track in &seen.tracks {
        assert!(track.is_confirmed() && !track.is_classified && track.label.is_none());
        assert_eq!(track.unreported, Some(Unreported::NoLabel { required: 0.4 }));
    }
}

#[test]
fn a_recording_stays_within_its_limit_and_begins_with_a_whole_frame() {
    let (_, all) = live(64 << 20);
    let whole = all.memory();
    for limit in [whole / 2, whole / 5, 50_000, 1000] {
        let (_, recording) = live(limit);
        assert!(recording.memory() <= limit, "{} of {limit}", recording.memory());
        let frames = recording.frames();
        let (camera, objects) = config("");
        let seen = run(camera, objects, &frames, &|| true);
        assert_eq!(seen.map_or(0, |seen| seen.frames), frames.len(), "all of them can be read");
        assert!(
            limit < 50_000 || frames.len() * whole > limit * FRAMES / 3,
            "{} frames in {limit}",
            frames.len()
        );
    }
    all.set_limit(0);
    assert_eq!((all.memory(), all.frames().len(), all.is_on()), (0, 0, false));
    assert!(live(0).1.frames().is_empty());
}

#[test]
fn a_replay_that_is_not_wanted_ends() {
    let (_, recording) = live(64 << 20);
    let frames = recording.frames();
    let asked = std::cell::Cell::new(0);
    let is_wanted = || {
        asked.set(asked.get() + 1);
        asked.get() <= 10
    };
    let (camera, objects) = config("");
    assert!(run(camera, objects, &frames, &is_wanted).is_none());
    assert_eq!(asked.get(), 11);
    let (camera, objects) = config("");
    assert!(run(camera, objects, &[], &|| true).is_none());
}

#[test]
fn frames_of_another_model_are_left_out() {
    let (_, recording) = live(64 << 20);
    let (_, later) = live(64 << 20);
    let frames: Vec<_> = recording.frames().into_iter().chain(later.frames()).collect();
    let (camera, objects) = config("");
    assert_eq!(run(camera, objects, &frames, &|| true).unwrap().frames, FRAMES);
}
