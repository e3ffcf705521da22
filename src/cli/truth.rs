//! How well a clip was seen: what camfire told of it held against what is in it.
//!
//! A truth file says what is in a clip: each thing with its label, its times and its boxes (see assets/README.md). Things
//! and events are paired one to one, those that agree in most frames first; a second event of the same thing is a false
//! one.

use crate::{
    error::{Error, ErrorKind},
    vision::{groups::Groups, rect::Rect},
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

/// A box of an event and one of a thing agree from this overlap on.
const AGREES: f64 = 0.3;
/// A change of the scene is told rightly within so many seconds.
const CHANGE_S: f64 = 2.0;

/// How many frames a clip's truth and the clip may differ by: decoders leave out a last one.
const FRAMES: u64 = 1;
/// Seconds that a thing may be in view after the clip's end: frame times are rounded.
const REST_S: f64 = 1.0;

/// What is in a clip.
#[derive(Debug)]
pub struct Truth {
    file: PathBuf,
    about: About,
    objects: Vec<Thing>,
}

/// What is told of the clip as a whole.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct About {
    /// Its file's name.
    clip: Option<String>,
    frames: Option<u64>,
    width: Option<u32>,
    height: Option<u32>,
    /// When the whole scene changes, in seconds.
    scene_changes: Vec<f64>,
    /// Labels of things that the network cannot name; else they are taken for slips.
    other_labels: Vec<String>,
}

/// What a clip turned out to be.
pub struct Extent {
    /// Frames in it.
    pub frames: u64,
    /// To the end of the last.
    pub length: Duration,
    /// Its pictures', if any was looked at.
    pub size: Option<Size>,
}

/// A thing in it.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an object with `label`, `first_s`, `last_s` and `boxes`")]
struct Thing {
    label: String,
    first_s: f64,
    last_s: f64,
    /// Too small or too short to be asked for; it may be seen.
    #[serde(default)]
    minor: bool,
    /// When it moves, where it also stands: only then it has to be seen.
    #[serde(default)]
    moves_s: Vec<[f64; 2]>,
    boxes: Vec<Place>,
}

/// Where it is; in between it moves evenly.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an object with `t_s` and `box`")]
struct Place {
    t_s: f64,
    r#box: [f64; 4],
}

impl Truth {
    /// Reads a truth file.
    ///
    /// Errors ([`ErrorKind::Input`]): it cannot be read or is none.
    pub fn read(file: &Path) -> Result<Truth, Error> {
        let place = file.display().to_string();
        let text = std::fs::read(file).map_err(|e| Error::caused(ErrorKind::Input, place.clone(), e))?;
        let refuse = |why: String| {
            let message =
                format!("{place}: {why} (docs/seeing.md, \"Truth files\", tells what belongs in it)");
            Error::new(ErrorKind::Input, message)
        };
        let value = serde_json::from_slice(&text).map_err(|e| refuse(format!("is no JSON: {e}")))?;
        let (about, objects) = parse(value).map_err(refuse)?;
        Ok(Truth { file: file.to_path_buf(), about, objects })
    }

    /// Errors ([`ErrorKind::Input`]): labels that the network has not, each once, and what was probably meant.
    pub fn check_labels(&self, groups: &Groups) -> Result<(), Error> {
        let is_strange = |label: &&String| !self.about.other_labels.contains(label);
        let labels: BTreeSet<&String> =
            self.objects.iter().map(|thing| &thing.label).filter(is_strange).collect();
        let labels: Vec<String> = labels.into_iter().cloned().collect();
        let problems = groups.validate_labels(&labels);
        if problems.is_empty() {
            return Ok(());
        }
        let message = format!(
            "{}: {} (what the network cannot name is to be listed in `other_labels`)",
            self.file.display(),
            problems.join("; ")
        );
        Err(Error::new(ErrorKind::Input, message))
    }

    /// In what the clip that was looked at is another than the one the truth is of, a sentence each.
    pub fn differences(&self, clip: &Path, seen: &Extent) -> Vec<String> {
        let About { clip: name, frames, width, height, .. } = &self.about;
        let mut differences = Vec::new();
        let mut differ = |truth: String, found: String| {
            differences.push(format!("{}: it is of {truth}, the clip has {found}", self.file.display()));
        };
        let found = clip.file_name().unwrap_or_default().to_string_lossy();
        if let Some(name) = name.as_ref().filter(|name| **name != found) {
            differ(format!("a clip called {name}"), format!("the name {found}"));
        }
        if let Some(frames) = frames.filter(|frames| frames.abs_diff(seen.frames) > FRAMES) {
            differ(format!("{frames} frames"), seen.frames.to_string());
        }
        if let (Some(width), Some(height), Some(size)) = (width, height, seen.size)
            && size != [*width, *height]
        {
            differ(format!("{width} x {height} pixels"), format!("{} x {}", size[0], size[1]));
        }
        let last_s = self.objects.iter().map(|thing| thing.last_s).fold(0.0, f64::max);
        let length_s = seen.length.as_secs_f64();
        if last_s > length_s + REST_S {
            differ(format!("a clip with something in view at {last_s:.1} s"), format!("{length_s:.1} s"));
        }
        differences
    }
}

/// On failure, what should be where.
fn parse(value: Value) -> Result<(About, Vec<Thing>), String> {
    let Value::Object(mut about) = value else {
        return Err("must be a JSON object with a list of `objects`".to_string());
    };
    let Some(Value::Array(objects)) = about.remove("objects") else {
        return Err("must have a list of `objects`".to_string());
    };
    let about = serde_json::from_value(Value::Object(about)).map_err(|e| plain(&e))?;
    let thing = |(index, value): (usize, Value)| {
        let place = |why: &str| format!("object {} {why}", index + 1);
        let thing: Thing =
            serde_json::from_value(value).map_err(|e| place(&format!("is not right: {}", plain(&e))))?;
        if thing.boxes.is_empty() { Err(place("has no boxes")) } else { Ok(thing) }
    };
    let objects = objects.into_iter().enumerate().map(thing).collect::<Result<_, _>>()?;
    Ok((about, objects))
}

/// An error of serde in words of JSON.
fn plain(error: &serde_json::Error) -> String {
    let words = [
        ("missing field", "it lacks"),
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

impl Thing {
    /// Whether it has to be seen at `t_s`.
    fn is_passing(&self, t_s: f64) -> bool {
        let within = |[from_s, to_s]: &[f64; 2]| (*from_s..=*to_s).contains(&t_s);
        self.place(t_s).is_some() && (self.moves_s.is_empty() || self.moves_s.iter().any(within))
    }

    /// When it is first to be seen.
    fn comes_s(&self) -> f64 {
        self.moves_s.first().map_or(self.first_s, |[from_s, _]| *from_s)
    }

    /// Where it is at `t_s`, while it is in view.
    fn place(&self, t_s: f64) -> Option<Rect> {
        const SLACK_S: f64 = 0.001;
        if t_s < self.first_s - SLACK_S || t_s > self.last_s + SLACK_S {
            return None;
        }
        let rect = |[left, top, width, height]: [f64; 4]| Rect { left, top, width, height };
        let next = self.boxes.partition_point(|place| place.t_s < t_s);
        let (Some(before), Some(after)) = (self.boxes.get(next.saturating_sub(1)), self.boxes.get(next))
        else {
            return self.boxes.last().map(|place| rect(place.r#box));
        };
        if after.t_s <= before.t_s {
            return Some(rect(after.r#box));
        }
        let part = ((t_s - before.t_s) / (after.t_s - before.t_s)).clamp(0.0, 1.0);
        let mixed = std::array::from_fn(|i| before.r#box[i] + part * (after.r#box[i] - before.r#box[i]));
        Some(rect(mixed))
    }
}

/// How well a clip was seen.
#[derive(Debug, Serialize)]
pub struct Score {
    /// Things that are in the clip, without minor ones.
    pub things: usize,
    /// Events that were told, without those of minor things.
    pub events: usize,
    /// Things of which an event was told, of all.
    pub recall: f64,
    /// Events that are of a thing and the only one of it, of all.
    pub precision: f64,
    /// Mean overlap of both boxes in the frames that show both.
    pub mean_iou: f64,
    /// Of the paired, those whose last label is right.
    pub label_accuracy: f64,
    /// How often a thing changed from one event to another.
    pub switches: usize,
    /// From when a thing is first in view to its `start`: seconds, and analysed frames with the first one; the median and
    /// the most.
    pub start_delay_s: Option<[f64; 2]>,
    /// See `start_delay_s`.
    pub start_delay_frames: Option<[f64; 2]>,
    /// From when a thing is last in view to its `end`: seconds, the median and the most.
    pub end_delay_s: Option<[f64; 2]>,
    /// Changes of the whole scene: there, told, and told rightly.
    pub scene_changes: [usize; 3],
    /// Things that were missed, and events of nothing.
    pub faults: Vec<String>,
}

/// Holds what was told against what is there.
pub fn score(truth: &Truth, frames: &[Detections], events: &[Event], changes: &[Timestamp]) -> Score {
    let told = Told::gather(frames, events);
    let things = &truth.objects;
    // Frames in which a thing and an event agree, and the overlap of all that show both.
    let mut agreements = Vec::new();
    let mut overlaps: BTreeMap<(usize, usize), Vec<f64>> = BTreeMap::new();
    let mut switches = 0;
    for (thing, found) in things.iter().enumerate() {
        let mut holder: Option<usize> = None;
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for (t_s, boxes) in &told.frames {
            let Some(place) = found.place(*t_s) else { continue };
            for told in boxes.iter().filter(|told| told.visible) {
                overlaps.entry((thing, told.event)).or_default().push(place.iou(&told.rect));
            }
            let agreeing: Vec<(&Spotted, f64)> = boxes
                .iter()
                .map(|told| (told, place.iou(&told.rect)))
                .filter(|(_, iou)| *iou >= AGREES)
                .collect();
            let visible = || agreeing.iter().filter(|(told, _)| told.visible);
            for (told, _) in visible() {
                *counts.entry(told.event).or_default() += 1;
            }
            let best = visible().max_by(|a, b| a.1.total_cmp(&b.1)).map(|(told, _)| told.event);
            // What is hidden behind another thing and expected here has not been taken for that one.
            if let Some(best) = best
                && !agreeing.iter().any(|(told, _)| Some(told.event) == holder)
            {
                switches += usize::from(holder.is_some() && !found.minor);
                holder = Some(best);
            }
        }
        let frames_of_thing = told.frames.iter().filter(|(t_s, _)| found.is_passing(*t_s)).count();
        for (event, count) in counts {
            let shorter = frames_of_thing.min(told.events[event].frames);
            if 3 * count >= shorter {
                agreements.push((count, thing, event));
            }
        }
    }
    agreements.sort_by(|a, b| b.0.cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let (mut event_of, mut thing_of) = (vec![None; things.len()], vec![None; told.events.len()]);
    for (_, thing, event) in agreements {
        if event_of[thing].is_none() && thing_of[event].is_none() {
            (event_of[thing], thing_of[event]) = (Some(event), Some(thing));
        }
    }
    summary(truth, &told, &event_of, &thing_of, &overlaps, switches, changes)
}

fn summary(
    truth: &Truth,
    told: &Told,
    event_of: &[Option<usize>],
    thing_of: &[Option<usize>],
    overlaps: &BTreeMap<(usize, usize), Vec<f64>>,
    switches: usize,
    changes: &[Timestamp],
) -> Score {
    let things = &truth.objects;
    let pairs: Vec<(usize, usize)> = (0..things.len())
        .filter(|&thing| !things[thing].minor)
        .filter_map(|thing| Some((thing, event_of[thing]?)))
        .collect();
    let wanted = things.iter().filter(|thing| !thing.minor).count();
    let of_minor = thing_of.iter().flatten().filter(|&&thing| things[thing].minor).count();
    let events = told.events.len() - of_minor;
    let share = |part: usize, all: usize| if all == 0 { 1.0 } else { part as f64 / all as f64 };
    let all: Vec<f64> = pairs.iter().filter_map(|pair| overlaps.get(pair)).flatten().copied().collect();
    let right =
        pairs.iter().filter(|(thing, event)| told.events[*event].label == things[*thing].label).count();
    let mut start_s = Vec::new();
    let mut start_frames = Vec::new();
    let mut end_s = Vec::new();
    for &(thing, event) in &pairs {
        let (thing, event) = (&things[thing], &told.events[event]);
        if thing.comes_s() > 0.0 {
            start_s.push(event.start_s - thing.comes_s());
            let between = |t_s: f64| t_s >= thing.comes_s() - 0.001 && t_s <= event.start_s + 0.001;
            start_frames.push(told.frames.iter().filter(|(t_s, _)| between(*t_s)).count() as f64);
        }
        end_s.extend(event.end_s.map(|end_s| end_s - thing.last_s));
    }
    let changes: Vec<f64> = changes.iter().map(|at| at.as_millisecond() as f64 / 1e3).collect();
    let near = |at: &&f64| changes.iter().any(|told| (-0.001..=CHANGE_S).contains(&(told - **at)));
    let missed =
        (0..things.len()).filter(|&thing| !things[thing].minor && event_of[thing].is_none()).map(|thing| {
            let Thing { label, first_s, last_s, .. } = &things[thing];
            format!("missed: {label} {} from {first_s} s to {last_s} s", thing + 1)
        });
    let wrong = (0..told.events.len()).filter(|&event| thing_of[event].is_none()).map(|event| {
        let Life { label, start_s, end_s, at, .. } = &told.events[event];
        let end_s = end_s.map_or("the end".to_string(), |end_s| format!("{end_s} s"));
        format!("of nothing, or a second time: {label} from {start_s} s to {end_s} at {at:?}")
    });
    Score {
        things: wanted,
        events,
        recall: share(pairs.len(), wanted),
        precision: share(pairs.len(), events),
        mean_iou: if all.is_empty() { 1.0 } else { all.iter().sum::<f64>() / all.len() as f64 },
        label_accuracy: share(right, pairs.len()),
        switches,
        start_delay_s: median_and_most(start_s),
        start_delay_frames: median_and_most(start_frames),
        end_delay_s: median_and_most(end_s),
        scene_changes: [
            truth.about.scene_changes.len(),
            changes.len(),
            truth.about.scene_changes.iter().filter(near).count(),
        ],
        faults: missed.chain(wrong).collect(),
    }
}

fn median_and_most(mut values: Vec<f64>) -> Option<[f64; 2]> {
    values.sort_by(f64::total_cmp);
    let round = |value: f64| (value * 1e3).round() / 1e3;
    Some([round(*values.get(values.len() / 2)?), round(*values.last()?)])
}

/// What was told, by event and by frame.
struct Told {
    events: Vec<Life>,
    /// Of each analysed frame its time in seconds, and where things were told to be.
    frames: Vec<(f64, Vec<Spotted>)>,
}

/// An event from start to end.
/// Where a thing was told to be in a frame.
struct Spotted {
    event: usize,
    rect: Rect,
    /// It was seen there, and not only expected.
    visible: bool,
}

struct Life {
    label: String,
    start_s: f64,
    end_s: Option<f64>,
    at: [i64; 4],
    frames: usize,
}

impl Told {
    fn gather(frames: &[Detections], events: &[Event]) -> Told {
        let seconds = |at: Timestamp| at.as_millisecond() as f64 / 1e3;
        let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
        let mut lives: Vec<Life> = Vec::new();
        for event in events {
            let number = *numbers.entry(&event.id).or_insert_with(|| {
                lives.push(Life {
                    label: String::new(),
                    start_s: seconds(event.at),
                    end_s: None,
                    at: event.r#box,
                    frames: 0,
                });
                lives.len() - 1
            });
            let life = &mut lives[number];
            life.label.clone_from(&event.label);
            if event.kind == EventType::End {
                life.end_s = Some(seconds(event.at));
            }
        }
        let mut seen = Vec::new();
        for frame in frames {
            let mut boxes = Vec::new();
            for object in &frame.objects {
                let Some(&event) = numbers.get(object.id.as_str()) else { continue };
                let [left, top, width, height] = object.r#box.map(|number| number as f64);
                lives[event].frames += usize::from(object.visible);
                let rect = Rect { left, top, width, height };
                boxes.push(Spotted { event, rect, visible: object.visible });
            }
            seen.push((seconds(frame.captured_at), boxes));
        }
        Told { events: lives, frames: seen }
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} things, {} events", self.things, self.events)?;
        writeln!(f, "recall           {:.3}", self.recall)?;
        writeln!(f, "precision        {:.3}", self.precision)?;
        writeln!(f, "mean IoU         {:.3}", self.mean_iou)?;
        writeln!(f, "label accuracy   {:.3}", self.label_accuracy)?;
        writeln!(f, "switches         {}", self.switches)?;
        let mut delay = |name: &str, delay: Option<[f64; 2]>, unit: &str| match delay {
            Some([median, most]) => writeln!(f, "{name} median {median} {unit}, most {most} {unit}"),
            None => Ok(()),
        };
        delay("delay of start  ", self.start_delay_s, "s")?;
        delay("                ", self.start_delay_frames, "frames")?;
        delay("delay of end    ", self.end_delay_s, "s")?;
        let [there, told, rightly] = self.scene_changes;
        write!(f, "scene changes    {there} there, {told} told, {rightly} rightly")?;
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
    fn a_thing_moves_evenly_between_its_places() {
        let thing: Thing = serde_json::from_value(serde_json::json!({
            "label": "cat", "first_s": 1.0, "last_s": 3.0,
            "boxes": [{"t_s": 1.0, "box": [0, 0, 10, 10]}, {"t_s": 2.0, "box": [20, 0, 10, 10]}]
        }))
        .unwrap();
        let left = |t_s| thing.place(t_s).map(|rect| rect.left);
        assert_eq!([left(0.5), left(1.0), left(1.5), left(2.5)], [None, Some(0.0), Some(10.0), Some(20.0)]);
        assert_eq!(left(3.5), None);
    }

    #[test]
    fn what_is_no_truth_is_told_what_should_be_where() {
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
            (serde_json::json!({"objects": [{}]}), "object 1 is not right: it lacks `label`"),
            (cat(serde_json::json!({"boxes": []})), "object 1 has no boxes"),
            (
                serde_json::json!({"objects": ["cat"]}),
                "object 1 is not right: found string \"cat\", expected an object with `label`, `first_s`, `last_s` and `boxes`",
            ),
            (
                cat(serde_json::json!({"last_s": "3"})),
                "object 1 is not right: found string \"3\", expected a number",
            ),
            (
                cat(serde_json::json!({"boxes": [[1, 2]]})),
                "object 1 is not right: found integer `2`, expected an array of length 4",
            ),
        ] {
            assert_eq!(parse(value).unwrap_err(), expected);
        }
    }

    #[test]
    fn a_truth_of_another_clip_is_told() {
        let thing = serde_json::json!({
            "label": "cat", "first_s": 1, "last_s": 29.5, "boxes": [{"t_s": 1, "box": [0, 0, 10, 10]}]
        });
        let about = serde_json::json!({
            "clip": "demo.mp4", "frames": 450, "width": 1280, "height": 720, "objects": [thing]
        });
        let (about, objects) = parse(about).unwrap();
        let truth = Truth { file: "t.json".into(), about, objects };
        let seen = |frames, seconds, size| Extent { frames, length: Duration::from_secs(seconds), size };
        let same = seen(449, 30, Some([1280, 720]));
        assert_eq!(truth.differences(Path::new("/a/demo.mp4"), &same), [""; 0]);
        assert_eq!(
            truth.differences(Path::new("/a/yard.mp4"), &seen(240, 24, Some([640, 360]))),
            [
                "t.json: it is of a clip called demo.mp4, the clip has the name yard.mp4",
                "t.json: it is of 450 frames, the clip has 240",
                "t.json: it is of 1280 x 720 pixels, the clip has 640 x 360",
                "t.json: it is of a clip with something in view at 29.5 s, the clip has 24.0 s",
            ]
        );
    }
}
