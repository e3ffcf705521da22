//! Events in Frigate's format, so that automations written for Frigate work with camfire. Pure.
//!
//! Some of Frigate's fields have no counterpart in camfire and are constant; `docs/homeassistant.md` lists
//! them.

use crate::config::{self, UNKNOWN};
use crate::wire::messages::{Box as PixelBox, Event, EventType};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// Maximum number of objects that have not ended; more than any node has at once. Beyond it the oldest is
/// forgotten, so ends that never arrive cannot fill the memory.
const MAX_OPEN: usize = 4096;

/// Translates events into Frigate's, each with the previous state of its object.
#[derive(Debug, Default)]
pub struct Frigate {
    /// The last published state of each object that has not ended, by id. Ids sort by start time.
    open: BTreeMap<String, TrackedObject>,
}

/// Topic of the events. None if they are disabled.
fn topic(config: &config::Frigate) -> Option<String> {
    config.events.then(|| format!("{}/events", config.topic))
}

impl Frigate {
    /// Returns the payload for an event. Must be called once per event, in order.
    pub fn translate(&mut self, event: &Event) -> Vec<u8> {
        let earlier = self.open.remove(&event.id);
        let after = TrackedObject::new(event, earlier.as_ref());
        let message = Message {
            kind: match event.kind {
                EventType::Start => "new",
                EventType::Update => "update",
                EventType::End => "end",
            },
            before: earlier.unwrap_or_else(|| after.before_start()),
            after,
        };
        let payload = serde_json::to_vec(&message).expect("messages have string keys and finite numbers");
        if event.kind != EventType::End {
            self.open.insert(event.id.clone(), message.after);
            if self.open.len() > MAX_OPEN {
                self.open.pop_first();
            }
        }
        payload
    }
}

/// Creates the messages in Frigate's format: the translated events with their topic.
pub struct FrigateEvents {
    topic: String,
    frigate: Frigate,
}

impl FrigateEvents {
    /// None if Frigate's events are disabled.
    pub fn new(config: &config::Frigate) -> Option<FrigateEvents> {
        Some(FrigateEvents { topic: topic(config)?, frigate: Frigate::default() })
    }

    /// Returns topic and payload of the message for an event. Must be called once per event, in order.
    pub fn message(&mut self, event: &Event) -> (String, Vec<u8>) {
        (self.topic.clone(), self.frigate.translate(event))
    }
}

#[derive(Serialize)]
struct Message {
    #[serde(rename = "type")]
    kind: &'static str,
    before: TrackedObject,
    after: TrackedObject,
}

/// Left, top, right and bottom in pixels.
type Corners = [i64; 4];
/// A JSON object that is always empty.
type EmptyObject = BTreeMap<(), ()>;
/// A JSON array that is always empty.
type EmptyArray = [(); 0];

/// Frigate's "tracked object". Times are seconds since 1970.
#[derive(Debug, Clone, Serialize)]
struct TrackedObject {
    id: String,
    camera: String,
    frame_time: f64,
    snapshot: Option<Snapshot>,
    /// Whether there is a picture without a box drawn on it.
    snapshot_clean: bool,
    label: String,
    /// A finer name and its score.
    sub_label: Option<(String, f64)>,
    top_score: f64,
    false_positive: bool,
    start_time: f64,
    end_time: Option<f64>,
    score: f64,
    computed_score: f64,
    r#box: Corners,
    area: i64,
    /// Width by height.
    ratio: f64,
    /// The part of the frame in which Frigate detected the object; here always the whole frame.
    region: Corners,
    active: bool,
    stationary: bool,
    motionless_count: u32,
    /// How often the object was published as moving after it had been stationary.
    position_changes: u32,
    current_zones: Vec<String>,
    entered_zones: Vec<String>,
    has_clip: bool,
    has_snapshot: bool,
    attributes: EmptyObject,
    current_attributes: EmptyArray,
    pending_loitering: bool,
    max_severity: Option<()>,
    current_estimated_speed: f64,
    average_estimated_speed: f64,
    velocity_angle: f64,
    path_data: EmptyArray,
    recognized_license_plate: Option<()>,
}

/// The best moment of an object.
#[derive(Debug, Clone, Serialize)]
struct Snapshot {
    frame_time: f64,
    r#box: Corners,
    area: i64,
    region: Corners,
    score: f64,
    attributes: EmptyArray,
}

impl TrackedObject {
    fn new(event: &Event, earlier: Option<&TrackedObject>) -> TrackedObject {
        // The score of an unknown object belongs to a label that the object does not have.
        let score = if event.label == UNKNOWN { 0.0 } else { round_to_4_digits(event.score.into()) };
        let [_, _, width, height] = event.r#box;
        let region = [0, 0, event.size[0].into(), event.size[1].into()];
        let has_pictures = event.best.pictures.is_some();
        let started_moving = event.moving && earlier.is_none_or(|object| !object.active);
        TrackedObject {
            id: event.id.clone(),
            camera: event.header.camera.as_deref().unwrap_or_default().to_string(),
            frame_time: seconds(event.seen_at),
            snapshot: Some(Snapshot {
                frame_time: seconds(event.best.at),
                r#box: corners(event.best.r#box),
                area: area(event.best.r#box),
                region,
                score,
                attributes: [],
            }),
            snapshot_clean: has_pictures,
            label: frigate_label(&event.label).to_string(),
            sub_label: sub_label(event).map(|name| (name, score)),
            top_score: earlier.map_or(score, |object| object.top_score.max(score)),
            false_positive: false,
            start_time: seconds(event.started_at),
            end_time: (event.kind == EventType::End).then(|| seconds(event.at)),
            score,
            computed_score: score,
            r#box: corners(event.r#box),
            area: area(event.r#box),
            ratio: round_to_4_digits(width as f64 / height.max(1) as f64),
            region,
            active: event.moving,
            stationary: !event.moving,
            motionless_count: 0,
            position_changes: earlier.map_or(0, |object| object.position_changes) + u32::from(started_moving),
            current_zones: event.zones.clone(),
            entered_zones: event.visited_zones.clone(),
            has_clip: false,
            has_snapshot: has_pictures,
            attributes: BTreeMap::new(),
            current_attributes: [],
            pending_loitering: false,
            max_severity: None,
            current_estimated_speed: 0.0,
            average_estimated_speed: 0.0,
            velocity_angle: 0.0,
            path_data: [],
            recognized_license_plate: None,
        }
    }

    /// The state before the first message: in no zone, without a picture, `false_positive`. An automation
    /// that compares `before` with `after` then sees a change.
    fn before_start(&self) -> TrackedObject {
        TrackedObject {
            snapshot: None,
            snapshot_clean: false,
            top_score: 0.0,
            false_positive: true,
            end_time: None,
            computed_score: 0.0,
            position_changes: 0,
            current_zones: Vec::new(),
            entered_zones: Vec::new(),
            has_snapshot: false,
            ..self.clone()
        }
    }
}

/// The name that Frigate has for a label. Frigate calls a truck a car unless it is told otherwise, and has no
/// names for a vehicle or two-wheeler of unknown kind.
fn frigate_label(label: &str) -> &str {
    match label {
        "vehicle" | "truck" => "car",
        "two-wheeler" => "motorcycle",
        label => label,
    }
}

/// The finer name: camfire's own, or the label if Frigate's is more general.
fn sub_label(event: &Event) -> Option<String> {
    let is_general = event.label == "truck";
    event.sub_label.clone().or_else(|| is_general.then(|| event.label.clone()))
}

fn corners([left, top, width, height]: PixelBox) -> Corners {
    [left, top, left + width, top + height]
}

fn area([_, _, width, height]: PixelBox) -> i64 {
    width * height
}

fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1e3
}

fn round_to_4_digits(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages::example_event as event;
    use serde_json::{Value, json};

    fn translated(frigate: &mut Frigate, event: &Event) -> Value {
        serde_json::from_slice(&frigate.translate(event)).unwrap()
    }

    #[test]
    fn a_start_is_written_in_frigates_format() {
        let before = r#"{"id":"a","camera":"yard","frame_time":1795505463.5,"snapshot":null,"snapshot_clean":false,"label":"cat","sub_label":null,"top_score":0.0,"false_positive":true,"start_time":1795505462.125,"end_time":null,"score":0.8342,"computed_score":0.0,"box":[420,300,670,490],"area":47500,"ratio":1.3158,"region":[0,0,1280,720],"active":true,"stationary":false,"motionless_count":0,"position_changes":0,"current_zones":[],"entered_zones":[],"has_clip":false,"has_snapshot":false,"attributes":{},"current_attributes":[],"pending_loitering":false,"max_severity":null,"current_estimated_speed":0.0,"average_estimated_speed":0.0,"velocity_angle":0.0,"path_data":[],"recognized_license_plate":null}"#;
        let after = r#"{"id":"a","camera":"yard","frame_time":1795505463.5,"snapshot":{"frame_time":1795505463.0,"box":[400,300,600,400],"area":20000,"region":[0,0,1280,720],"score":0.8342,"attributes":[]},"snapshot_clean":true,"label":"cat","sub_label":null,"top_score":0.8342,"false_positive":false,"start_time":1795505462.125,"end_time":null,"score":0.8342,"computed_score":0.8342,"box":[420,300,670,490],"area":47500,"ratio":1.3158,"region":[0,0,1280,720],"active":true,"stationary":false,"motionless_count":0,"position_changes":1,"current_zones":["lawn"],"entered_zones":["path","lawn"],"has_clip":false,"has_snapshot":true,"attributes":{},"current_attributes":[],"pending_loitering":false,"max_severity":null,"current_estimated_speed":0.0,"average_estimated_speed":0.0,"velocity_angle":0.0,"path_data":[],"recognized_license_plate":null}"#;
        let payload = Frigate::default().translate(&event("a", EventType::Start));
        assert_eq!(
            String::from_utf8(payload).unwrap(),
            format!(r#"{{"type":"new","before":{before},"after":{after}}}"#)
        );
    }

    #[test]
    fn before_is_the_after_of_the_previous_message() {
        let mut frigate = Frigate::default();
        let start = translated(&mut frigate, &event("a", EventType::Start));
        let stationary = Event { moving: false, score: 0.5, ..event("a", EventType::Update) };
        let update = translated(&mut frigate, &stationary);
        assert_eq!((&update["type"], &update["before"]), (&json!("update"), &start["after"]));
        let after = &update["after"];
        assert_eq!((&after["active"], &after["stationary"]), (&json!(false), &json!(true)));
        assert_eq!((&after["score"], &after["top_score"]), (&json!(0.5), &json!(0.8342)));
        assert_eq!(after["position_changes"], 1);
        let moving = translated(&mut frigate, &event("a", EventType::Update));
        assert_eq!(moving["after"]["position_changes"], 2);
        let end = translated(&mut frigate, &event("a", EventType::End));
        assert_eq!((&end["type"], &end["before"]), (&json!("end"), &moving["after"]));
        assert_eq!(end["after"]["end_time"], json!(1_795_505_465.0));
        assert_eq!(end["after"]["position_changes"], 2);
    }

    #[test]
    fn objects_are_independent_and_forgotten_at_their_end() {
        let mut frigate = Frigate::default();
        translated(&mut frigate, &event("a", EventType::Start));
        let other = translated(&mut frigate, &event("b", EventType::Start));
        assert_eq!(other["before"]["false_positive"], true);
        translated(&mut frigate, &event("a", EventType::End));
        assert_eq!(frigate.open.keys().collect::<Vec<_>>(), ["b"]);
        translated(&mut frigate, &event("b", EventType::End));
        assert!(frigate.open.is_empty());
        // An end without a start has an empty `before`.
        let end = translated(&mut frigate, &event("c", EventType::End));
        assert_eq!((&end["before"]["entered_zones"], &end["before"]["end_time"]), (&json!([]), &Value::Null));
        assert!(frigate.open.is_empty());
    }

    #[test]
    fn missing_ends_do_not_fill_the_memory() {
        let mut frigate = Frigate::default();
        for number in 0..=MAX_OPEN {
            frigate.translate(&event(&format!("{number:05}"), EventType::Start));
        }
        assert_eq!(frigate.open.len(), MAX_OPEN);
        assert_eq!(frigate.open.keys().next().unwrap(), "00001");
    }

    #[test]
    fn an_unknown_object_has_score_0() {
        let mut frigate = Frigate::default();
        let unknown = Event { label: UNKNOWN.into(), score: 0.35, ..event("a", EventType::Start) };
        let after = &translated(&mut frigate, &unknown)["after"];
        assert_eq!(after["label"], "unknown");
        for key in ["score", "computed_score", "top_score"] {
            assert_eq!(after[key], 0.0, "{key}");
        }
        assert_eq!(after["snapshot"]["score"], 0.0);
    }

    #[test]
    fn labels_have_frigates_names_and_finer_names() {
        let names = |label: &str, sub_label: Option<&str>| {
            let event = Event {
                label: label.into(),
                sub_label: sub_label.map(str::to_string),
                score: 0.75,
                ..event("a", EventType::Start)
            };
            let after = &translated(&mut Frigate::default(), &event)["after"];
            (after["label"].clone(), after["sub_label"].clone())
        };
        assert_eq!(names("person", None), (json!("person"), Value::Null));
        assert_eq!(names("cat", Some("Egyptian cat")), (json!("cat"), json!(["Egyptian cat", 0.75])));
        assert_eq!(names("truck", None), (json!("car"), json!(["truck", 0.75])));
        assert_eq!(names("vehicle", None), (json!("car"), Value::Null));
        assert_eq!(names("two-wheeler", None), (json!("motorcycle"), Value::Null));
    }

    #[test]
    fn an_event_without_pictures_has_no_snapshot() {
        let mut start = event("a", EventType::Start);
        start.best.pictures = None;
        start.r#box = [5, 5, 10, 0];
        let after = &translated(&mut Frigate::default(), &start)["after"];
        assert_eq!((&after["has_snapshot"], &after["snapshot_clean"]), (&json!(false), &json!(false)));
        assert_eq!(after["ratio"], 10.0, "a box without height");
    }

    #[test]
    fn events_have_a_topic_if_enabled() {
        let config = |events| config::Frigate { events, topic: "site/frigate".into() };
        assert_eq!(topic(&config(true)).as_deref(), Some("site/frigate/events"));
        assert_eq!(topic(&config(false)), None);
    }
}
