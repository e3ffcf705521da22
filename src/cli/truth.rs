//! Scores the events of a clip against its ground truth.
//!
//! A truth file lists the objects in a clip, each with its label, times and boxes (see `assets/README.md`).
//! Objects and events are paired one to one, those that agree in most frames first. A second event of the
//! same object is a false positive.

use crate::{
    error::{Error, ErrorKind},
    files,
    vision::{
        rect::Rect,
        taxonomy::{LabelProblem, Taxonomy},
    },
    wire::messages::{Detections, Event, EventType, Size},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

/// Maximum size of a file with ground truth.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Minimum IoU at which a reported box and a true box agree.
const MIN_IOU: f64 = 0.3;
/// A scene change counts as found if it is reported within this time.
const MAX_CHANGE_DELAY_S: f64 = 2.0;

/// The clip may differ from its truth by this many frames, because decoders may omit the last one.
const FRAMES_TOLERANCE: u64 = 1;
/// An object may be in view this long after the clip's end, because frame times are rounded.
const END_TOLERANCE_S: f64 = 1.0;

/// The ground truth of a clip.
#[derive(Debug)]
pub struct Truth {
    file: PathBuf,
    about: About,
    objects: Vec<TrueObject>,
    /// For each label, the labels that contain it. An object is named right by any of them.
    general_labels: BTreeMap<String, Vec<String>>,
}

/// What the truth states about the clip as a whole.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct About {
    /// File name.
    clip: Option<String>,
    frames: Option<u64>,
    width: Option<u32>,
    height: Option<u32>,
    /// When the whole scene changes, in seconds.
    scene_changes: Vec<f64>,
    /// Labels that camfire does not have. Any other unknown label is an error.
    other_labels: Vec<String>,
}

/// The measured size of a clip.
pub struct Extent {
    /// Number of frames.
    pub frames: u64,
    /// Duration to the end of the last frame.
    pub length: Duration,
    /// Frame size, if any frame was analysed.
    pub size: Option<Size>,
}

/// An object in a clip.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an object with `label`, `first_s`, `last_s` and `boxes`")]
struct TrueObject {
    label: String,
    first_s: f64,
    last_s: f64,
    /// Too small or too short to be required. Detecting it is not a false positive.
    #[serde(default)]
    minor: bool,
    /// When it moves, for an object that also stands still. It must be detected only then.
    #[serde(default)]
    moves_s: Vec<[f64; 2]>,
    boxes: Vec<TrueBox>,
}

/// Where an object is at a time. Its position is interpolated between them.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an object with `t_s` and `box`")]
struct TrueBox {
    t_s: f64,
    r#box: [f64; 4],
}

impl Truth {
    /// Reads a truth file.
    ///
    /// Errors ([`ErrorKind::Input`]): it cannot be read, or is not a truth file.
    pub fn read(file: &Path) -> Result<Truth, Error> {
        let name = file.display().to_string();
        let text = files::read_bounded(file, MAX_FILE_BYTES)
            .map_err(|e| Error::caused(ErrorKind::Input, name.clone(), e))?;
        let refuse = |why: String| {
            let message = format!("{name}: {why} (see \"Truth files\" in docs/seeing.md)");
            Error::new(ErrorKind::Input, message)
        };
        let value = serde_json::from_slice(&text).map_err(|e| refuse(format!("not JSON: {e}")))?;
        let (about, objects) = parse(value).map_err(refuse)?;
        Ok(Truth { file: file.to_path_buf(), about, objects, general_labels: BTreeMap::new() })
    }

    /// Checks that all labels are known, and looks up which labels contain them.
    ///
    /// Errors ([`ErrorKind::Input`]): the labels that are not, each once, with the nearest known one.
    pub fn check_labels(&mut self, taxonomy: &Taxonomy) -> Result<(), Error> {
        let is_checked = |label: &&String| !self.about.other_labels.contains(label);
        let labels: BTreeSet<&String> =
            self.objects.iter().map(|object| &object.label).filter(is_checked).collect();
        let labels: Vec<String> = labels.into_iter().cloned().collect();
        let unknown = |problem| match problem {
            LabelProblem::Unknown(text) => Some(text),
            LabelProblem::Never(_) => None,
        };
        let problems: Vec<String> =
            taxonomy.validate_labels(&labels, &[]).into_iter().filter_map(unknown).collect();
        if problems.is_empty() {
            let lineage = |label: String| {
                let found = taxonomy.find(&label).into_iter().flat_map(|label| taxonomy.lineage(label));
                let names = found.map(|label| taxonomy.name(label).to_string()).collect();
                (label, names)
            };
            self.general_labels = labels.into_iter().map(lineage).collect();
            return Ok(());
        }
        let message = format!(
            "{}: {} (list labels that camfire does not have in `other_labels`)",
            self.file.display(),
            problems.join("; ")
        );
        Err(Error::new(ErrorKind::Input, message))
    }

    /// Whether `reported` is the label `expected` or contains it.
    fn is_right(&self, expected: &str, reported: &str) -> bool {
        let contains =
            || self.general_labels.get(expected).is_some_and(|labels| labels.iter().any(|l| l == reported));
        expected == reported || contains()
    }

    /// How the analysed clip differs from the clip that the truth describes, one sentence each.
    pub fn differences(&self, clip: &Path, extent: &Extent) -> Vec<String> {
        let About { clip: name, frames, width, height, .. } = &self.about;
        let mut differences = Vec::new();
        let mut differ = |truth: String, found: String| {
            differences.push(format!("{}: describes {truth}, but the clip has {found}", self.file.display()));
        };
        let found = clip.file_name().unwrap_or_default().to_string_lossy();
        if let Some(name) = name.as_ref().filter(|name| **name != found) {
            differ(format!("a clip named {name}"), format!("the name {found}"));
        }
        if let Some(frames) = frames.filter(|frames| frames.abs_diff(extent.frames) > FRAMES_TOLERANCE) {
            differ(format!("{frames} frames"), extent.frames.to_string());
        }
        if let (Some(width), Some(height), Some(size)) = (width, height, extent.size)
            && size != [*width, *height]
        {
            differ(format!("{width} x {height} pixels"), format!("{} x {}", size[0], size[1]));
        }
        let last_s = self.objects.iter().map(|object| object.last_s).fold(0.0, f64::max);
        let length_s = extent.length.as_secs_f64();
        if last_s > length_s + END_TOLERANCE_S {
            differ(format!("an object in view at {last_s:.1} s"), format!("a duration of {length_s:.1} s"));
        }
        differences
    }
}

/// Errors: which part is invalid, and what is expected.
fn parse(value: Value) -> Result<(About, Vec<TrueObject>), String> {
    let Value::Object(mut about) = value else {
        return Err("must be a JSON object with a list of `objects`".to_string());
    };
    let Some(Value::Array(objects)) = about.remove("objects") else {
        return Err("must have a list of `objects`".to_string());
    };
    let about = serde_json::from_value(Value::Object(about)).map_err(|e| plain(&e))?;
    let object = |(index, value): (usize, Value)| {
        let problem = |why: &str| format!("object {} {why}", index + 1);
        let object: TrueObject =
            serde_json::from_value(value).map_err(|e| problem(&format!("is invalid: {}", plain(&e))))?;
        if object.boxes.is_empty() { Err(problem("has no boxes")) } else { Ok(object) }
    };
    let objects = objects.into_iter().enumerate().map(object).collect::<Result<_, _>>()?;
    Ok((about, objects))
}

/// An error of serde in the terms of JSON.
fn plain(error: &serde_json::Error) -> String {
    let words = [
        ("missing field", "missing"),
        ("invalid type: ", "found "),
        ("invalid value: ", "found "),
        ("expected f64", "expected a number"),
        ("expected u32", "expected a whole number"),
        ("expected u64", "expected a whole number"),
        ("a sequence", "a list"),
        ("found sequence", "found a list"),
        ("found map", "found an object"),
    ];
    words.iter().fold(error.to_string(), |text, (jargon, word)| text.replace(jargon, word))
}

impl TrueObject {
    /// Whether the object must be detected at `t_s`.
    fn is_required(&self, t_s: f64) -> bool {
        let within = |[from_s, to_s]: &[f64; 2]| (*from_s..=*to_s).contains(&t_s);
        self.rect(t_s).is_some() && (self.moves_s.is_empty() || self.moves_s.iter().any(within))
    }

    /// When the object must first be detected.
    fn appears_s(&self) -> f64 {
        self.moves_s.first().map_or(self.first_s, |[from_s, _]| *from_s)
    }

    /// The box at `t_s`. None while the object is not in view.
    fn rect(&self, t_s: f64) -> Option<Rect> {
        const SLACK_S: f64 = 0.001;
        if t_s < self.first_s - SLACK_S || t_s > self.last_s + SLACK_S {
            return None;
        }
        let to_rect = |[left, top, width, height]: [f64; 4]| Rect { left, top, width, height };
        let next = self.boxes.partition_point(|at| at.t_s < t_s);
        let (Some(before), Some(after)) = (self.boxes.get(next.saturating_sub(1)), self.boxes.get(next))
        else {
            return self.boxes.last().map(|last| to_rect(last.r#box));
        };
        if after.t_s <= before.t_s {
            return Some(to_rect(after.r#box));
        }
        let part = ((t_s - before.t_s) / (after.t_s - before.t_s)).clamp(0.0, 1.0);
        let interpolated =
            std::array::from_fn(|i| before.r#box[i] + part * (after.r#box[i] - before.r#box[i]));
        Some(to_rect(interpolated))
    }
}

/// The score of a clip.
#[derive(Debug, Serialize)]
pub struct Score {
    /// Objects in the clip, without minor ones.
    pub objects: usize,
    /// Reported events, without those of minor objects.
    pub events: usize,
    /// Share of the objects that have an event.
    pub recall: f64,
    /// Share of the events that are the only event of an object.
    pub precision: f64,
    /// Mean IoU of true and reported boxes over all frames that have both.
    pub mean_iou: f64,
    /// Share of the pairs whose last label is right: the true one, or one that contains it.
    pub label_accuracy: f64,
    /// How often an object switched from one event to another.
    pub switches: usize,
    /// Delay from when an object must first be detected to its `start` event, in seconds: median and maximum.
    pub start_delay_s: Option<[f64; 2]>,
    /// The same delay in analysed frames, the first one included.
    pub start_delay_frames: Option<[f64; 2]>,
    /// Delay from when an object is last in view to its `end` event, in seconds: median and maximum.
    pub end_delay_s: Option<[f64; 2]>,
    /// Scene changes: in the clip, reported, and reported correctly.
    pub scene_changes: [usize; 3],
    /// Missed objects and false positives, one line each.
    pub faults: Vec<String>,
}

/// Compares the reported events with the truth.
pub fn score(truth: &Truth, frames: &[Detections], events: &[Event], changes: &[Timestamp]) -> Score {
    let reported = Reported::collect(frames, events);
    let objects = &truth.objects;
    // Frames in which an object and an event agree, and the IoU in all frames that show both.
    let mut agreements = Vec::new();
    let mut overlaps: BTreeMap<(usize, usize), Vec<f64>> = BTreeMap::new();
    let mut switches = 0;
    for (object, expected) in objects.iter().enumerate() {
        let mut current: Option<usize> = None;
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for (t_s, boxes) in &reported.frames {
            let Some(rect) = expected.rect(*t_s) else { continue };
            for reported in boxes.iter().filter(|reported| reported.visible) {
                overlaps.entry((object, reported.event)).or_default().push(rect.iou(&reported.rect));
            }
            let agreeing: Vec<(&ReportedBox, f64)> = boxes
                .iter()
                .map(|reported| (reported, rect.iou(&reported.rect)))
                .filter(|(_, iou)| *iou >= MIN_IOU)
                .collect();
            let visible = || agreeing.iter().filter(|(reported, _)| reported.visible);
            for (reported, _) in visible() {
                *counts.entry(reported.event).or_default() += 1;
            }
            let best = visible().max_by(|a, b| a.1.total_cmp(&b.1)).map(|(reported, _)| reported.event);
            // A hidden track that is predicted at the object's position still belongs to it.
            if let Some(best) = best
                && !agreeing.iter().any(|(reported, _)| Some(reported.event) == current)
            {
                switches += usize::from(current.is_some() && !expected.minor);
                current = Some(best);
            }
        }
        let frames_of_object = reported.frames.iter().filter(|(t_s, _)| expected.is_required(*t_s)).count();
        for (event, count) in counts {
            let shorter = frames_of_object.min(reported.events[event].frames);
            if 3 * count >= shorter {
                agreements.push((count, object, event));
            }
        }
    }
    agreements.sort_by(|a, b| b.0.cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let (mut event_of, mut object_of) = (vec![None; objects.len()], vec![None; reported.events.len()]);
    for (_, object, event) in agreements {
        if event_of[object].is_none() && object_of[event].is_none() {
            (event_of[object], object_of[event]) = (Some(event), Some(object));
        }
    }
    summary(truth, &reported, &event_of, &object_of, &overlaps, switches, changes)
}

fn summary(
    truth: &Truth,
    reported: &Reported,
    event_of: &[Option<usize>],
    object_of: &[Option<usize>],
    overlaps: &BTreeMap<(usize, usize), Vec<f64>>,
    switches: usize,
    changes: &[Timestamp],
) -> Score {
    let objects = &truth.objects;
    let pairs: Vec<(usize, usize)> = (0..objects.len())
        .filter(|&object| !objects[object].minor)
        .filter_map(|object| Some((object, event_of[object]?)))
        .collect();
    let wanted = objects.iter().filter(|object| !object.minor).count();
    let of_minor = object_of.iter().flatten().filter(|&&object| objects[object].minor).count();
    let events = reported.events.len() - of_minor;
    let share = |part: usize, all: usize| if all == 0 { 1.0 } else { part as f64 / all as f64 };
    let all: Vec<f64> = pairs.iter().filter_map(|pair| overlaps.get(pair)).flatten().copied().collect();
    let right = pairs
        .iter()
        .filter(|(object, event)| truth.is_right(&objects[*object].label, &reported.events[*event].label))
        .count();
    let mut start_s = Vec::new();
    let mut start_frames = Vec::new();
    let mut end_s = Vec::new();
    for &(object, event) in &pairs {
        let (object, event) = (&objects[object], &reported.events[event]);
        if object.appears_s() > 0.0 {
            start_s.push(event.start_s - object.appears_s());
            let between = |t_s: f64| t_s >= object.appears_s() - 0.001 && t_s <= event.start_s + 0.001;
            start_frames.push(reported.frames.iter().filter(|(t_s, _)| between(*t_s)).count() as f64);
        }
        end_s.extend(event.end_s.map(|end_s| end_s - object.last_s));
    }
    let changes: Vec<f64> = changes.iter().map(|at| at.as_millisecond() as f64 / 1e3).collect();
    let near =
        |at: &&f64| changes.iter().any(|reported| (-0.001..=MAX_CHANGE_DELAY_S).contains(&(reported - **at)));
    let missed = (0..objects.len())
        .filter(|&object| !objects[object].minor && event_of[object].is_none())
        .map(|object| {
            let TrueObject { label, first_s, last_s, .. } = &objects[object];
            format!("missed: {label} {} from {first_s} s to {last_s} s", object + 1)
        });
    let wrong = (0..reported.events.len()).filter(|&event| object_of[event].is_none()).map(|event| {
        let ReportedEvent { label, start_s, end_s, at, .. } = &reported.events[event];
        let end_s = end_s.map_or("the end".to_string(), |end_s| format!("{end_s} s"));
        format!("false positive: {label} from {start_s} s to {end_s} at {at:?}")
    });
    Score {
        objects: wanted,
        events,
        recall: share(pairs.len(), wanted),
        precision: share(pairs.len(), events),
        mean_iou: if all.is_empty() { 1.0 } else { all.iter().sum::<f64>() / all.len() as f64 },
        label_accuracy: share(right, pairs.len()),
        switches,
        start_delay_s: median_and_max(start_s),
        start_delay_frames: median_and_max(start_frames),
        end_delay_s: median_and_max(end_s),
        scene_changes: [
            truth.about.scene_changes.len(),
            changes.len(),
            truth.about.scene_changes.iter().filter(near).count(),
        ],
        faults: missed.chain(wrong).collect(),
    }
}

fn median_and_max(mut values: Vec<f64>) -> Option<[f64; 2]> {
    values.sort_by(f64::total_cmp);
    let round = |value: f64| (value * 1e3).round() / 1e3;
    Some([round(*values.get(values.len() / 2)?), round(*values.last()?)])
}

/// The reported objects, by event and by frame.
struct Reported {
    events: Vec<ReportedEvent>,
    /// Time in seconds and reported boxes of each analysed frame.
    frames: Vec<(f64, Vec<ReportedBox>)>,
}

/// A reported box in a frame.
struct ReportedBox {
    event: usize,
    rect: Rect,
    /// Detected in this frame, not only predicted.
    visible: bool,
}

struct ReportedEvent {
    label: String,
    start_s: f64,
    end_s: Option<f64>,
    at: [i64; 4],
    frames: usize,
}

impl Reported {
    fn collect(frames: &[Detections], events: &[Event]) -> Reported {
        let seconds = |at: Timestamp| at.as_millisecond() as f64 / 1e3;
        let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
        let mut events_by_id: Vec<ReportedEvent> = Vec::new();
        for event in events {
            let number = *numbers.entry(&event.id).or_insert_with(|| {
                events_by_id.push(ReportedEvent {
                    label: String::new(),
                    start_s: seconds(event.at),
                    end_s: None,
                    at: event.r#box,
                    frames: 0,
                });
                events_by_id.len() - 1
            });
            let reported = &mut events_by_id[number];
            reported.label.clone_from(&event.label);
            if event.kind == EventType::End {
                reported.end_s = Some(seconds(event.at));
            }
        }
        let mut analysed = Vec::new();
        for frame in frames {
            let mut boxes = Vec::new();
            for object in &frame.objects {
                let Some(&event) = numbers.get(object.id.as_str()) else { continue };
                let [left, top, width, height] = object.r#box.map(|number| number as f64);
                events_by_id[event].frames += usize::from(object.visible);
                let rect = Rect { left, top, width, height };
                boxes.push(ReportedBox { event, rect, visible: object.visible });
            }
            analysed.push((seconds(frame.captured_at), boxes));
        }
        Reported { events: events_by_id, frames: analysed }
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} objects, {} events", self.objects, self.events)?;
        writeln!(f, "recall           {:.3}", self.recall)?;
        writeln!(f, "precision        {:.3}", self.precision)?;
        writeln!(f, "mean IoU         {:.3}", self.mean_iou)?;
        writeln!(f, "label accuracy   {:.3}", self.label_accuracy)?;
        writeln!(f, "switches         {}", self.switches)?;
        let mut delay = |name: &str, delay: Option<[f64; 2]>, unit: &str| match delay {
            Some([median, max]) => writeln!(f, "{name} median {median} {unit}, max {max} {unit}"),
            None => Ok(()),
        };
        delay("start delay     ", self.start_delay_s, "s")?;
        delay("                ", self.start_delay_frames, "frames")?;
        delay("end delay       ", self.end_delay_s, "s")?;
        let [existing, reported, correct] = self.scene_changes;
        write!(f, "scene changes    {existing} in the clip, {reported} reported, {correct} correct")?;
        for fault in &self.faults {
            write!(f, "\n{fault}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_objects_position_is_interpolated() {
        let object: TrueObject = serde_json::from_value(serde_json::json!({
            "label": "cat", "first_s": 1.0, "last_s": 3.0,
            "boxes": [{"t_s": 1.0, "box": [0, 0, 10, 10]}, {"t_s": 2.0, "box": [20, 0, 10, 10]}]
        }))
        .unwrap();
        let left = |t_s| object.rect(t_s).map(|rect| rect.left);
        assert_eq!([left(0.5), left(1.0), left(1.5), left(2.5)], [None, Some(0.0), Some(10.0), Some(20.0)]);
        assert_eq!(left(3.5), None);
    }

    #[test]
    fn errors_name_the_invalid_part_of_a_truth_file() {
        let cat = |more: Value| {
            let mut cat = serde_json::json!({
                "label": "cat", "first_s": 1, "last_s": 3, "boxes": [{"t_s": 1, "box": [0, 0, 10, 10]}]
            });
            cat.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            serde_json::json!({ "objects": [cat] })
        };
        assert!(parse(cat(serde_json::json!({}))).is_ok());
        for (value, expected) in [
            (serde_json::json!([]), "must be a JSON object with a list of `objects`"),
            (serde_json::json!({}), "must have a list of `objects`"),
            (serde_json::json!({"objects": {}}), "must have a list of `objects`"),
            (serde_json::json!({"objects": [{}]}), "object 1 is invalid: missing `label`"),
            (cat(serde_json::json!({"boxes": []})), "object 1 has no boxes"),
            (
                serde_json::json!({"objects": ["cat"]}),
                "object 1 is invalid: found string \"cat\", expected an object with `label`, `first_s`, `last_s` and `boxes`",
            ),
            (
                cat(serde_json::json!({"last_s": "3"})),
                "object 1 is invalid: found string \"3\", expected a number",
            ),
            (
                cat(serde_json::json!({"boxes": [[1, 2]]})),
                "object 1 is invalid: found integer `2`, expected an array of length 4",
            ),
        ] {
            assert_eq!(parse(value).unwrap_err(), expected);
        }
    }

    #[test]
    fn differences_between_truth_and_clip_are_reported() {
        let object = serde_json::json!({
            "label": "cat", "first_s": 1, "last_s": 29.5, "boxes": [{"t_s": 1, "box": [0, 0, 10, 10]}]
        });
        let about = serde_json::json!({
            "clip": "demo.mp4", "frames": 450, "width": 1280, "height": 720, "objects": [object]
        });
        let (about, objects) = parse(about).unwrap();
        let truth = Truth { file: "t.json".into(), about, objects, general_labels: BTreeMap::new() };
        let extent = |frames, seconds, size| Extent { frames, length: Duration::from_secs(seconds), size };
        let same = extent(449, 30, Some([1280, 720]));
        assert_eq!(truth.differences(Path::new("/a/demo.mp4"), &same), [""; 0]);
        assert_eq!(
            truth.differences(Path::new("/a/yard.mp4"), &extent(240, 24, Some([640, 360]))),
            [
                "t.json: describes a clip named demo.mp4, but the clip has the name yard.mp4",
                "t.json: describes 450 frames, but the clip has 240",
                "t.json: describes 1280 x 720 pixels, but the clip has 640 x 360",
                "t.json: describes an object in view at 29.5 s, but the clip has a duration of 24.0 s",
            ]
        );
    }
}
