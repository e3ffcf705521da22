//! The wire contract: every message that camfire sends, as it is written into JSON.
//!
//! `docs/mqtt.md` describes it for users and `docs/schemas/` for programs; a test holds what the daemon really sends
//! against those. A change that breaks readers raises [`SCHEMA`].

use crate::{
    counters::{FrameTrace, Latencies, Percentiles, tenths},
    frame::CaptureClock,
    queue::frames::FrameCounts,
    vision::{events::ChangedField, health::Health, motion::SceneChange, tracks::EndReason},
    wire::files::PictureFiles,
};
use jiff::Timestamp;
use serde::Serialize;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Version of every payload's shape.
pub const SCHEMA: u32 = 3;

/// Width and height of a picture as one sees it.
pub type Size = [u32; 2];
/// Left, top, width and height in pixels of the picture as one sees it.
pub type Box = [i64; 4];

/// Something to publish.
#[derive(Debug, Clone)]
pub enum Message {
    /// A thing came, changed or went.
    Event(Event),
    /// What one frame shows. Of no worth when late.
    Detections(Detections),
    /// A region shows something else. The last one is kept for late subscribers.
    Region(Region),
    /// The whole scene changed.
    Scene(SceneChanged),
    /// Other things are in view than before. The last one is kept for late subscribers.
    Occupancy(Occupancy),
    /// A picture of the last event. It is kept for late subscribers.
    Picture(Picture),
    /// A picture that was asked for. It is kept for late subscribers.
    Snapshot(Picture),
    /// What a camera is set to. The last one is kept for late subscribers.
    Settings(Settings),
    /// Where the network saw what it saw.
    Heatmap(Heatmap),
    /// A camera came, went or failed. The last one is kept for late subscribers.
    Camera(CameraStatus),
    /// The counts.
    Stats(Stats),
}

/// The fields that every JSON message begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Header {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Node name.
    pub node: Arc<str>,
    /// Camera name. None, and absent from the JSON, in the node's own messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub camera: Option<Arc<str>>,
    /// Set by the publisher in durable messages; absent from others.
    #[serde(flatten)]
    pub sequence: Option<Sequence>,
}

impl Header {
    /// The header of a new message, without a sequence number.
    pub fn new(node: Arc<str>, camera: Option<Arc<str>>) -> Header {
        Header { schema: SCHEMA, node, camera, sequence: None }
    }
}

/// The position of a durable message in its stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sequence {
    /// Id of the outbox's stream. A new stream begins with an empty outbox and after a power cut.
    pub stream: String,
    /// Counts the durable messages of a camera, or of the node itself, from 1 without gaps.
    pub seq: u64,
    /// Unique id of the message across all nodes. Repeats of a message have the same one.
    pub uid: String,
}

/// What one analysed frame shows.
#[derive(Debug, Clone, Serialize)]
pub struct Detections {
    /// Common fields.
    #[serde(flatten)]
    pub header: Header,
    /// Counts the camera's captured frames from 1 since the daemon's start; gaps are frames not analysed.
    pub frame: u64,
    /// When the frame was seen, UTC, milliseconds.
    #[serde(serialize_with = "rfc3339_ms")]
    pub captured_at: Timestamp,
    /// How that is known.
    pub capture_clock: CaptureClock,
    /// Whether this machine's clock keeps to a time server; null where that is not known.
    pub clock_synchronised: Option<bool>,
    /// From capture to this message, in milliseconds.
    #[serde(serialize_with = "tenths")]
    pub latency_ms: f64,
    /// The picture's.
    pub size: Size,
    /// What is tracked, in the order in which it came.
    pub objects: Vec<Object>,
    /// How often the network looked at this frame.
    pub inferences: u32,
    /// What looked at it.
    pub model: Arc<Model>,
    /// Where its time goes, for the counts.
    #[serde(skip)]
    pub trace: Option<FrameTrace>,
}

/// A thing in a frame.
#[derive(Debug, Clone, Serialize)]
pub struct Object {
    /// As in its events.
    pub id: String,
    /// The group that it seems to be, or `unknown`.
    pub label: String,
    /// Mean score of that group, or of the best one, 0 to 1, four digits.
    #[serde(serialize_with = "four_digits")]
    pub score: f32,
    /// Where it is.
    pub r#box: Box,
    /// It does not stand still.
    pub moving: bool,
    /// It was seen in this frame; else it is where it is expected to be, hidden.
    pub visible: bool,
    /// The best classes of the last look at it, best first; empty before the first.
    pub top: Vec<Class>,
}

/// What happened to a thing.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// Common fields.
    #[serde(flatten)]
    pub header: Header,
    /// The same for all events of a thing: UUID version 7, which sorts by the time of the first.
    pub id: String,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// What changed, in an update.
    pub changed: Vec<ChangedField>,
    /// Why it ended, at an end.
    pub reason: Option<EndReason>,
    /// When the frame was seen that showed it, UTC, milliseconds.
    #[serde(serialize_with = "rfc3339_ms")]
    pub at: Timestamp,
    /// When the thing was first seen.
    #[serde(serialize_with = "rfc3339_ms")]
    pub started_at: Timestamp,
    /// When it was last seen.
    #[serde(serialize_with = "rfc3339_ms")]
    pub seen_at: Timestamp,
    /// From the one to the other, in seconds.
    #[serde(serialize_with = "thousandths")]
    pub duration_s: f64,
    /// The group that it seems to be, or `unknown`.
    pub label: String,
    /// Mean score of that group, or of the best one, 0 to 1, four digits.
    #[serde(serialize_with = "four_digits")]
    pub score: f32,
    /// The picture's.
    pub size: Size,
    /// Where it is, or was last seen.
    pub r#box: Box,
    /// It does not stand still.
    pub moving: bool,
    /// The zones that it is in.
    pub zones: Vec<String>,
    /// All that it has been in, in order.
    pub visited_zones: Vec<String>,
    /// Its best moment so far.
    pub best: Best,
    /// When the frame that showed it was captured, on the monotonic clock; none where no frame did.
    #[serde(skip)]
    pub captured: Option<Duration>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EventType {
    /// It has come.
    Start,
    /// Something about it has changed.
    Update,
    /// It has gone.
    End,
}

/// A thing's best moment.
#[derive(Debug, Clone, Serialize)]
pub struct Best {
    /// When, UTC, milliseconds.
    #[serde(serialize_with = "rfc3339_ms")]
    pub at: Timestamp,
    /// Where it was.
    pub r#box: Box,
    /// Its pictures, relative to `pictures.directory`; null where none are kept.
    pub pictures: Option<PictureFiles>,
}

/// What a region shows.
#[derive(Debug, Clone, Serialize)]
pub struct Region {
    /// Common fields.
    #[serde(flatten)]
    pub header: Header,
    /// The region's name.
    pub region: String,
    /// The group, or `unknown`.
    pub state: String,
    /// Its mean score while it had to hold, 0 to 1, four digits.
    #[serde(serialize_with = "four_digits")]
    pub score: f32,
    /// When it was first seen, UTC, milliseconds.
    #[serde(serialize_with = "rfc3339_ms")]
    pub since: Timestamp,
    /// When it had held for long enough.
    #[serde(serialize_with = "rfc3339_ms")]
    pub at: Timestamp,
}

/// The whole scene changed.
#[derive(Debug, Clone, Serialize)]
pub struct SceneChanged {
    /// Common fields.
    #[serde(flatten)]
    pub header: Header,
    /// When, UTC, milliseconds.
    #[serde(serialize_with = "rfc3339_ms")]
    pub at: Timestamp,
    /// How.
    pub change: SceneChange,
}

/// What is in view, told when it changes.
#[derive(Debug, Clone, Serialize)]
pub struct Occupancy {
    /// Common fields.
    #[serde(flatten)]
    pub header: Header,
    /// When, UTC, milliseconds.
    #[serde(serialize_with = "rfc3339_ms")]
    pub at: Timestamp,
    /// How many things have started and not ended.
    pub total: usize,
    /// The same by label; labels without a thing are not there.
    pub labels: BTreeMap<String, usize>,
}

/// What a camera is set to, by the configuration or by a command.
#[derive(Debug, Clone, Serialize)]
pub struct Settings {
    /// Common fields.
    #[serde(flatten)]
    pub header: Header,
    /// Since when, UTC, milliseconds.
    #[serde(serialize_with = "rfc3339_ms")]
    pub at: Timestamp,
    /// It is looked at.
    pub watching: bool,
    /// As in the configuration.
    pub rate_fps: f64,
    /// As in the configuration.
    pub motion_threshold: f64,
    /// As in the configuration.
    pub score: f64,
}

/// Messages that had to go unsent: told in their place.
#[derive(Debug, Clone, Serialize)]
pub struct Gap<'a> {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The node's name.
    pub node: &'a str,
    /// The camera's name; empty for the node's own messages.
    pub camera: &'a str,
    /// Whose numbers these are.
    pub stream: &'a str,
    /// Number of the first.
    pub first_seq: u64,
    /// Number of the last; those between that had been delivered are not among them.
    pub last_seq: u64,
    /// How many they are.
    pub count: u64,
    /// When the first was to be sent, UTC, milliseconds.
    #[serde(serialize_with = "rfc3339_ms")]
    pub from: Timestamp,
    /// When the last was to be sent.
    #[serde(serialize_with = "rfc3339_ms")]
    pub to: Timestamp,
}

/// A picture with the last event's box drawn on.
#[derive(Debug, Clone)]
pub struct Picture {
    /// The camera's name.
    pub camera: Arc<str>,
    /// A JPEG file.
    pub jpeg: Vec<u8>,
}

/// Where the network saw what it saw.
#[derive(Debug, Clone)]
pub struct Heatmap {
    /// The camera's name.
    pub camera: Arc<str>,
    /// A small grey PNG file.
    pub png: Vec<u8>,
}

/// A class and its score.
#[derive(Debug, Clone, Serialize)]
pub struct Class {
    /// Class, counted from 0.
    pub index: usize,
    /// Its name.
    pub label: String,
    /// Softmax, 0 to 1, four digits.
    #[serde(serialize_with = "four_digits")]
    pub score: f32,
}

/// Which network and what runs it.
#[derive(Debug, Serialize)]
pub struct Model {
    /// The file's name, without folder and ending.
    pub name: String,
    /// Of the file, in hexadecimal.
    pub sha256: String,
    /// The engine.
    pub engine: &'static str,
}

/// Whether a camera gives frames.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CameraStatus {
    /// Common fields.
    #[serde(flatten)]
    pub header: Header,
    /// What it does.
    pub state: CameraState,
    /// Why it gives none; null while it does.
    pub reason: Option<String>,
    /// Since when, UTC, milliseconds.
    #[serde(serialize_with = "rfc3339_ms")]
    pub since: Timestamp,
    /// The pipeline template in use; null where none can be.
    pub pipeline: Option<String>,
    /// Better ones, and why they are not in use.
    pub passed_over: Vec<SkippedPipeline>,
    /// Whether it can see anything.
    pub health: Health,
}

/// A pipeline that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SkippedPipeline {
    /// Its template's name.
    pub pipeline: String,
    /// Why not.
    pub reason: String,
}

/// A camera's state as subscribers see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CameraState {
    /// Being opened for the first time; nothing is known yet.
    Starting,
    /// Frames flow.
    Live,
    /// It was there and sends nothing any more; it is connected anew.
    Stalled,
    /// It does not answer, hung up, or is not there; it is tried again.
    Unreachable,
    /// Wrong user or password; it is tried again, slowly.
    Denied,
    /// What it sends cannot be watched here; it is tried again, slowly.
    Unsupported,
    /// A clip that was to be played once is over.
    Ended,
    /// A command has closed it.
    Paused,
    /// camfire has stopped.
    Stopped,
}

/// The counts of one node.
#[derive(Debug, Clone, Serialize)]
pub struct Stats {
    /// Common fields.
    #[serde(flatten)]
    pub header: Header,
    /// When, UTC, milliseconds.
    #[serde(serialize_with = "rfc3339_ms")]
    pub at: Timestamp,
    /// Since the daemon's start.
    pub uptime_s: u64,
    /// Resident memory.
    pub memory_mib: u64,
    /// Messages that had to go because publishing lagged behind.
    pub messages_dropped: u64,
    /// Bytes that outbox and pictures write in a day at the pace since the daemon's start; null in its first ten minutes.
    pub disk_bytes_per_day: Option<u64>,
    /// Whether this machine's clock keeps to a time server; null where that is not known.
    pub clock_synchronised: Option<bool>,
    /// The way to the broker.
    pub delivery: DeliveryStats,
    /// Pictures on disk.
    pub pictures: PictureStats,
    /// By camera.
    pub cameras: BTreeMap<String, CameraStats>,
}

/// What became of the durable messages since the daemon's start.
#[derive(Debug, Clone, Serialize)]
pub struct DeliveryStats {
    /// A broker is connected.
    pub connected: bool,
    /// Connections that stood.
    pub connections: u64,
    /// Messages that were taken into the outbox.
    pub accepted: u64,
    /// Messages that were handed to a connection, repeats counted.
    pub sent: u64,
    /// Messages that a broker has acknowledged.
    pub acknowledged: u64,
    /// Messages that had to go unsent.
    pub lost: u64,
    /// Messages that wait for an acknowledgement now.
    pub waiting: u64,
    /// Age of the oldest of them.
    pub oldest_waiting_s: u64,
    /// Bytes that the outbox has written.
    pub disk_bytes: u64,
    /// Size of the outbox's files.
    pub file_bytes: u64,
    /// From capture to the acknowledgement, of those since the last message.
    pub ack_latency_ms: Option<Percentiles>,
}

/// What the pictures of events take.
#[derive(Debug, Clone, Serialize)]
pub struct PictureStats {
    /// Bytes that were written since the daemon's start.
    pub disk_bytes: u64,
    /// Size of the pictures that are kept.
    pub file_bytes: u64,
}

/// The counts of one camera.
#[derive(Debug, Clone, Serialize)]
pub struct CameraStats {
    /// At every moment `captured = analysed + skipped_rate + skipped_still + shed + dropped + failed + pending`.
    #[serde(flatten)]
    pub frames: FrameCounts,
    /// Frames analysed a second since the last message; null in the first.
    pub analysed_fps: Option<f64>,
    /// Looks of the network since the daemon's start.
    pub inferences: u64,
    /// How long they took, cutting out and scaling included.
    pub inference_ms: u64,
    /// Only keyframes are being decoded, because the scene is still.
    pub keyframes_only: bool,
    /// How often it failed and was opened anew.
    pub restarts: u64,
    /// How often its pipeline could not be taken down.
    pub hung_teardowns: u64,
    /// Where the time of the frames since the last message went.
    pub latency_ms: Latencies,
}

impl Message {
    /// The kind's name, as in `outbox.durable_kinds`.
    pub fn kind(&self) -> &'static str {
        match self {
            Message::Event(_) => "events",
            Message::Detections(_) => "detections",
            Message::Region(_) => "regions",
            Message::Scene(_) => "scene",
            Message::Occupancy(_) => "occupancy",
            Message::Picture(_) => "picture",
            Message::Snapshot(_) => "snapshot",
            Message::Settings(_) => "settings",
            Message::Heatmap(_) => "heatmap",
            Message::Camera(_) => "status",
            Message::Stats(_) => "stats",
        }
    }

    /// Whether it must arrive, whatever the config says.
    pub fn is_durable(&self) -> bool {
        match self {
            Message::Event(_)
            | Message::Region(_)
            | Message::Scene(_)
            | Message::Occupancy(_)
            | Message::Settings(_)
            | Message::Camera(_) => true,
            Message::Detections(_)
            | Message::Picture(_)
            | Message::Snapshot(_)
            | Message::Heatmap(_)
            | Message::Stats(_) => false,
        }
    }

    /// The camera that the message is about. None for the node's own messages.
    pub fn camera(&self) -> Option<&Arc<str>> {
        match self {
            Message::Picture(message) | Message::Snapshot(message) => Some(&message.camera),
            Message::Heatmap(message) => Some(&message.camera),
            _ => self.header().and_then(|header| header.camera.as_ref()),
        }
    }

    /// The header of a JSON message. None for images.
    pub fn header(&self) -> Option<&Header> {
        match self {
            Message::Event(message) => Some(&message.header),
            Message::Detections(message) => Some(&message.header),
            Message::Region(message) => Some(&message.header),
            Message::Scene(message) => Some(&message.header),
            Message::Occupancy(message) => Some(&message.header),
            Message::Settings(message) => Some(&message.header),
            Message::Camera(message) => Some(&message.header),
            Message::Stats(message) => Some(&message.header),
            Message::Picture(_) | Message::Snapshot(_) | Message::Heatmap(_) => None,
        }
    }

    /// Sets the sequence of a JSON message. Images have none.
    pub fn set_sequence(&mut self, sequence: Sequence) {
        let header = match self {
            Message::Event(message) => &mut message.header,
            Message::Detections(message) => &mut message.header,
            Message::Region(message) => &mut message.header,
            Message::Scene(message) => &mut message.header,
            Message::Occupancy(message) => &mut message.header,
            Message::Settings(message) => &mut message.header,
            Message::Camera(message) => &mut message.header,
            Message::Stats(message) => &mut message.header,
            Message::Picture(_) | Message::Snapshot(_) | Message::Heatmap(_) => return,
        };
        header.sequence = Some(sequence);
    }

    /// What is sent: JSON, or a picture.
    pub fn payload(self) -> Vec<u8> {
        let json = match &self {
            Message::Event(message) => serde_json::to_vec(message),
            Message::Detections(message) => serde_json::to_vec(message),
            Message::Region(message) => serde_json::to_vec(message),
            Message::Scene(message) => serde_json::to_vec(message),
            Message::Occupancy(message) => serde_json::to_vec(message),
            Message::Camera(message) => serde_json::to_vec(message),
            Message::Stats(message) => serde_json::to_vec(message),
            Message::Settings(message) => serde_json::to_vec(message),
            Message::Picture(_) | Message::Snapshot(_) | Message::Heatmap(_) => Ok(Vec::new()),
        };
        match self {
            Message::Picture(Picture { jpeg, .. }) | Message::Snapshot(Picture { jpeg, .. }) => jpeg,
            Message::Heatmap(Heatmap { png, .. }) => png,
            _ => json.expect("messages have string keys and finite numbers"),
        }
    }
}

/// A time as `2026-11-24T07:31:02.125Z`, always with three digits.
pub fn timestamp_ms(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

fn rfc3339_ms<S: serde::Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&timestamp_ms(*at))
}

/// Serializes seconds to a thousandth.
fn thousandths<S: serde::Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((value * 1e3).round() / 1e3)
}

/// Serializes a score with four digits behind the point.
pub fn four_digits<S: serde::Serializer>(value: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((f64::from(*value) * 1e4).round() / 1e4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detections_are_written_as_documented() {
        let message = Message::Detections(Detections {
            header: Header::new("porch".into(), Some("yard".into())),
            frame: 42,
            captured_at: "2026-11-24T07:31:02.1Z".parse().unwrap(),
            capture_clock: CaptureClock::Pipeline,
            clock_synchronised: Some(true),
            latency_ms: 61.23456,
            size: [1280, 720],
            objects: vec![Object {
                id: "01a".into(),
                label: "cat".into(),
                score: 0.812_345,
                r#box: [10, 20, 300, 200],
                moving: true,
                visible: true,
                top: vec![Class { index: 285, label: "Egyptian cat".into(), score: 0.712_345 }],
            }],
            inferences: 1,
            model: Arc::new(Model { name: "m".into(), sha256: "ab".into(), engine: "tract" }),
            trace: None,
        });
        assert_eq!(
            String::from_utf8(message.payload()).unwrap(),
            r#"{"schema":3,"node":"porch","camera":"yard","frame":42,"captured_at":"2026-11-24T07:31:02.100Z","capture_clock":"pipeline","clock_synchronised":true,"latency_ms":61.2,"size":[1280,720],"objects":[{"id":"01a","label":"cat","score":0.8123,"box":[10,20,300,200],"moving":true,"visible":true,"top":[{"index":285,"label":"Egyptian cat","score":0.7123}]}],"inferences":1,"model":{"name":"m","sha256":"ab","engine":"tract"}}"#
        );
    }
}
