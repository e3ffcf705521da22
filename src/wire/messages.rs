//! The wire contract: every message that camfire publishes, in the order of its JSON fields.
//!
//! `docs/mqtt.md` describes the messages for users and `docs/schemas/` for programs; a test validates the
//! daemon's messages against them. A change that breaks subscribers must raise [`SCHEMA`].
//!
//! Unless stated otherwise, times are UTC with milliseconds, scores are from 0 to 1 with four digits, and
//! boxes and sizes are in pixels of the upright frame.

use crate::{
    counters::{FrameTrace, Latencies, Percentiles, optional_tenths, tenths},
    frame::{CaptureClock, ClockFault},
    queue::frames::FrameCounts,
    vision::{events::ChangedField, health::Health, motion::SceneChange, tracks::EndReason},
    wire::{files::PictureFiles, links::EventLinks},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Version of the wire contract.
pub const SCHEMA: u32 = 5;

/// Width and height in pixels of the upright frame.
pub type Size = [u32; 2];
/// Left, top, width and height in pixels of the upright frame.
pub type Box = [i64; 4];

/// A message to publish.
#[derive(Debug, Clone)]
pub enum Message {
    /// An object started, changed or ended.
    Event(std::boxed::Box<Event>),
    /// The published objects of one frame. Useless when late.
    Detections(Detections),
    /// A region has a new state. Retained.
    Region(Region),
    /// The whole scene changed at once.
    Scene(SceneChanged),
    /// The objects in view changed. Retained.
    Occupancy(Occupancy),
    /// A picture of the last event. Retained.
    Picture(Picture),
    /// A picture that a command requested. Retained.
    Snapshot(Picture),
    /// An analysed frame, for those who look at the camera.
    View(Picture),
    /// The settings of a camera. Retained.
    Settings(Settings),
    /// The heatmap of an inference.
    Heatmap(Heatmap),
    /// The state of a camera changed. Retained.
    Camera(CameraStatus),
    /// A state changed: what the retained message says from now on, for the history.
    Change(StateChange),
    /// The node's counters.
    Stats(Stats),
}

/// The first fields of every JSON message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Node name.
    pub node: Arc<str>,
    /// Camera name. None, and absent from the JSON, in the node's own messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    /// Id of the outbox's stream. A new stream begins with an empty outbox and after a power cut.
    pub stream: String,
    /// Counts the durable messages of a camera, or of the node itself, from 1 without gaps.
    pub seq: u64,
    /// Unique id of the message across all nodes. Repeats of a message have the same one.
    pub uid: String,
}

/// The published objects of one analysed frame.
#[derive(Debug, Clone, Serialize)]
pub struct Detections {
    /// Common fields.
    #[serde(flatten)]
    pub header: Header,
    /// Number of the frame: counts the camera's captured frames from 1 since the daemon's start. Gaps are
    /// frames that were not analysed.
    pub frame: u64,
    /// Capture time of the frame.
    #[serde(serialize_with = "rfc3339_ms::serialize")]
    pub captured_at: Timestamp,
    /// Source of the capture time.
    pub capture_clock: CaptureClock,
    /// Whether this machine's clock is synchronised with a time server. Null if unknown.
    pub clock_synchronised: Option<bool>,
    /// Milliseconds from the capture to this message, rounded to 0.1.
    #[serde(serialize_with = "tenths")]
    pub latency_ms: f64,
    /// Size of the frame.
    pub size: Size,
    /// The objects, in the order in which they started.
    pub objects: Vec<Object>,
    /// Number of inferences on this frame.
    pub inferences: u32,
    /// The network that ran.
    pub model: Arc<Model>,
    /// Timings of the frame, for the latency statistics.
    #[serde(skip)]
    pub trace: Option<FrameTrace>,
}

/// An object in a frame.
#[derive(Debug, Clone, Serialize)]
pub struct Object {
    /// Id of the object, as in its events.
    pub id: String,
    /// Its label, or `unknown`.
    pub label: String,
    /// A finer name for the label, such as `Egyptian cat` for `cat`. Null if there is none.
    pub sub_label: Option<String>,
    /// Mean score of the label; of the best label if it is `unknown`.
    #[serde(serialize_with = "four_digits")]
    pub score: f32,
    /// Its box. Predicted if the object is not visible.
    pub r#box: Box,
    /// False if the object has stopped moving.
    pub moving: bool,
    /// Whether the object was detected in this frame.
    pub visible: bool,
    /// The network's best classes of the last inference on it, best first. Empty before the first inference,
    /// and if the classes were not needed for the label.
    pub top: Vec<Class>,
}

/// An event of an object.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event {
    /// Common fields.
    #[serde(flatten)]
    pub header: Header,
    /// Id of the object, the same in all of its events. A UUID of version 7, which sorts by the time of the
    /// start.
    pub id: String,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// The fields that changed. Empty except in updates.
    pub changed: Vec<ChangedField>,
    /// Why the object ended. Null except in ends.
    pub reason: Option<EndReason>,
    /// Capture time of the frame that caused the event.
    #[serde(with = "rfc3339_ms")]
    pub at: Timestamp,
    /// When the object was first seen.
    #[serde(with = "rfc3339_ms")]
    pub started_at: Timestamp,
    /// When the object was last seen.
    #[serde(with = "rfc3339_ms")]
    pub seen_at: Timestamp,
    /// Seconds from first to last seen, on the monotonic clock, rounded to 0.001.
    #[serde(serialize_with = "thousandths")]
    pub duration_s: f64,
    /// Its label, or `unknown`.
    pub label: String,
    /// The label and those that contain it, from general to specific: `animal`, `cat`. Empty if the label is
    /// `unknown`.
    #[serde(default)]
    pub label_path: Vec<String>,
    /// A finer name for the label, such as `Egyptian cat` for `cat`. Null if there is none.
    pub sub_label: Option<String>,
    /// Mean score of the label; of the best label if it is `unknown`.
    #[serde(serialize_with = "four_digits")]
    pub score: f32,
    /// Size of the frame.
    pub size: Size,
    /// Its box when it was last seen.
    pub r#box: Box,
    /// False if the object has stopped moving.
    pub moving: bool,
    /// The zones that it is in.
    pub zones: Vec<String>,
    /// All zones that it has been in, in the order of entering.
    pub visited_zones: Vec<String>,
    /// Where the middle of its lower edge has been, oldest first: at most 33 points in pixels of the frame.
    /// Only in ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<[i64; 2]>,
    /// Its best moment so far.
    pub best: Best,
    /// Its view and its pictures on the page. None, and absent from the JSON, without `web.public_url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub links: Option<EventLinks>,
    /// Capture time of the frame that caused the event, on the monotonic clock. None if no frame caused it.
    #[serde(skip)]
    pub captured: Option<Duration>,
    /// The annotated picture, if there is a new one: a JPEG file that is published before the event. None if
    /// pictures are not published.
    #[serde(skip)]
    pub picture: Option<Arc<[u8]>>,
}

/// The type of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventType {
    /// The object is reported for the first time.
    Start,
    /// A field of the object changed.
    Update,
    /// The object ended.
    End,
}

/// The best moment of an object.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Best {
    /// Capture time.
    #[serde(with = "rfc3339_ms")]
    pub at: Timestamp,
    /// The object's box.
    pub r#box: Box,
    /// Pictures of the object. Null if none are stored.
    pub pictures: Option<PictureFiles>,
}

/// The state of a region.
#[derive(Debug, Clone, Serialize)]
pub struct Region {
    /// Common fields.
    #[serde(flatten)]
    pub header: Header,
    /// Region name.
    pub region: String,
    /// The group that the region shows, or `unknown`.
    pub state: String,
    /// Mean score of the state while it had to hold.
    #[serde(serialize_with = "four_digits")]
    pub score: f32,
    /// When the region first showed the state.
    #[serde(serialize_with = "rfc3339_ms::serialize")]
    pub since: Timestamp,
    /// When the state had held for long enough.
    #[serde(serialize_with = "rfc3339_ms::serialize")]
    pub at: Timestamp,
}

/// A change of the whole scene.
#[derive(Debug, Clone, Serialize)]
pub struct SceneChanged {
    /// Common fields.
    #[serde(flatten)]
    pub header: Header,
    /// When the scene changed.
    #[serde(serialize_with = "rfc3339_ms::serialize")]
    pub at: Timestamp,
    /// Kind of change.
    pub change: SceneChange,
}

/// The number of objects in view. Published when it changes.
#[derive(Debug, Clone, Serialize)]
pub struct Occupancy {
    /// Common fields.
    #[serde(flatten)]
    pub header: Header,
    /// When it changed.
    #[serde(serialize_with = "rfc3339_ms::serialize")]
    pub at: Timestamp,
    /// Number of objects that have started and not ended.
    pub total: usize,
    /// The same by label. An object counts for its label and for those that contain it. Labels without
    /// objects are absent.
    pub labels: BTreeMap<String, usize>,
    /// The objects in each zone of the camera, by name.
    pub zones: BTreeMap<String, ZoneOccupancy>,
}

/// The number of objects in a zone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ZoneOccupancy {
    /// Number of objects.
    pub total: usize,
    /// The same by label, as in [`Occupancy::labels`].
    pub labels: BTreeMap<String, usize>,
}

/// The settings of a camera, from the configuration or changed by commands.
#[derive(Debug, Clone, Serialize)]
pub struct Settings {
    /// Common fields.
    #[serde(flatten)]
    pub header: Header,
    /// When the settings took effect.
    #[serde(serialize_with = "rfc3339_ms::serialize")]
    pub at: Timestamp,
    /// False while the camera is paused by a command.
    pub watching: bool,
    /// `cameras.NAME.rate_fps`.
    pub rate_fps: f64,
    /// `cameras.NAME.motion_threshold`.
    pub motion_threshold: f64,
    /// `objects.score`.
    pub score: f64,
    /// When commands have set these settings, by name. The others are those of the configuration.
    #[serde(serialize_with = "timestamps_ms")]
    pub since: BTreeMap<&'static str, Timestamp>,
}

/// A change of a state. The retained message says what the state is; this one records when it changed.
#[derive(Debug, Clone, Serialize)]
pub struct StateChange {
    /// Common fields.
    #[serde(flatten)]
    pub header: Header,
    /// Topic of the retained message below the camera's: `status`, `occupancy`, `regions/gate`.
    pub topic: String,
    /// Payload of the retained message.
    pub state: std::boxed::Box<RawValue>,
}

/// A JPEG picture of a camera: the annotated picture of its last event, or a snapshot.
#[derive(Debug, Clone)]
pub struct Picture {
    /// Camera name.
    pub camera: Arc<str>,
    /// JPEG file.
    pub jpeg: Arc<[u8]>,
}

/// The heatmap of an inference: which parts of the crop contributed to the best class.
#[derive(Debug, Clone)]
pub struct Heatmap {
    /// Camera name.
    pub camera: Arc<str>,
    /// Small grey PNG file.
    pub png: Vec<u8>,
}

/// A class and its score.
#[derive(Debug, Clone, Serialize)]
pub struct Class {
    /// Index of the class, from 0.
    pub index: usize,
    /// Name of the class.
    pub label: String,
    /// Softmax score.
    #[serde(serialize_with = "four_digits")]
    pub score: f32,
}

/// The network and the engine that runs it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Model {
    /// Name of the model file, without folder and extension.
    pub name: String,
    /// SHA-256 of the model file, in hexadecimal.
    pub sha256: String,
    /// Name of the engine.
    pub engine: &'static str,
    /// The head of the everyday labels. Null if there is none.
    pub everyday: Option<Head>,
    /// The detector. Null if motion alone finds objects.
    pub detector: Option<Detector>,
}

/// A detector, with its networks for all sizes of the input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Detector {
    /// Name, as stated in its description.
    pub name: String,
    /// SHA-256 of the file of its first network, in hexadecimal.
    pub sha256: String,
}

/// A head file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Head {
    /// Name, as stated in the file.
    pub name: String,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// SHA-256 of the file of the network whose maps it reads.
    pub network: String,
}

/// The status of a camera.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CameraStatus {
    /// Common fields.
    #[serde(flatten)]
    pub header: Header,
    /// State of the camera.
    pub state: CameraState,
    /// Why the camera failed. Null in states that are not failures.
    pub reason: Option<String>,
    /// When the state began.
    #[serde(serialize_with = "rfc3339_ms::serialize")]
    pub since: Timestamp,
    /// The pipeline in use. Null if none is possible.
    pub pipeline: Option<String>,
    /// The pipelines that rank above the one in use, and why they are not used.
    pub passed_over: Vec<SkippedPipeline>,
    /// How an RTSP camera's packets are carried: `tcp` or `udp`. Null before they are, and for other sources.
    pub transport: Option<&'static str>,
    /// Health of the image.
    pub health: Health,
    /// Why an image was skipped, if that is the image's health.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_reason: Option<String>,
    /// The clock of the stream. Null before its first frame and while there is no stream.
    pub clock: Option<StreamClock>,
}

impl CameraStatus {
    /// The status of a camera before it is opened for the first time.
    pub fn starting(node: Arc<str>, camera: Arc<str>, since: Timestamp) -> CameraStatus {
        CameraStatus {
            header: Header::new(node, Some(camera)),
            state: CameraState::Starting,
            reason: None,
            since,
            pipeline: None,
            passed_over: Vec::new(),
            transport: None,
            health: Health::Ok,
            health_reason: None,
            clock: None,
        }
    }
}

/// The clock of a camera's stream.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StreamClock {
    /// Source of the capture times: one for the whole stream.
    pub capture: CaptureClock,
    /// Seconds by which the sender's clock is ahead of this machine's, rounded to 0.1. Null without reports.
    #[serde(serialize_with = "optional_tenths")]
    pub offset_s: Option<f64>,
    /// What is wrong with it. Null if nothing is.
    pub fault: Option<ClockFault>,
}

impl Eq for StreamClock {}

/// A pipeline that ranks above the one in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SkippedPipeline {
    /// Name of the pipeline template.
    pub pipeline: String,
    /// Why it is not in use.
    pub reason: String,
}

/// The state of a camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CameraState {
    /// Being opened for the first time.
    Starting,
    /// Delivers frames.
    Live,
    /// Was live and sends no more frames. It is reconnected.
    Stalled,
    /// Does not respond, closed the connection, or does not exist. It is retried.
    Unreachable,
    /// Rejects user name or password. It is retried slowly.
    Denied,
    /// Its video cannot be processed here. It is retried slowly.
    Unsupported,
    /// A clip that plays once is over.
    Ended,
    /// Closed by a command.
    Paused,
    /// camfire has stopped.
    Stopped,
}

/// The counters of one node. All of them count from the daemon's start unless stated otherwise.
#[derive(Debug, Clone, Serialize)]
pub struct Stats {
    /// Common fields.
    #[serde(flatten)]
    pub header: Header,
    /// When the counters were read.
    #[serde(serialize_with = "rfc3339_ms::serialize")]
    pub at: Timestamp,
    /// When the daemon was started. Changes only if the time of day was set meanwhile.
    #[serde(serialize_with = "rfc3339_ms::serialize")]
    pub started_at: Timestamp,
    /// Seconds since then, on the monotonic clock.
    pub uptime_s: u64,
    /// Resident memory of the process.
    pub memory_mib: u64,
    /// Messages dropped because the publisher lagged behind the cameras.
    pub messages_dropped: u64,
    /// Bytes per day that outbox and pictures write to disk, extrapolated. Null in the first ten minutes.
    pub disk_bytes_per_day: Option<u64>,
    /// Whether this machine's clock is synchronised with a time server. Null if unknown.
    pub clock_synchronised: Option<bool>,
    /// Delivery to the broker.
    pub delivery: DeliveryStats,
    /// Event pictures on disk.
    pub pictures: PictureStats,
    /// The cameras, by name.
    pub cameras: BTreeMap<String, CameraStats>,
}

/// Counters of the durable messages.
#[derive(Debug, Clone, Serialize)]
pub struct DeliveryStats {
    /// Whether a broker is connected.
    pub connected: bool,
    /// Connections established.
    pub connections: u64,
    /// Messages accepted into the outbox.
    pub accepted: u64,
    /// Messages sent, including repeats.
    pub sent: u64,
    /// Messages acknowledged by a broker, not including repeats.
    pub acknowledged: u64,
    /// Messages deleted before they were delivered.
    pub lost: u64,
    /// Messages that wait for an acknowledgement now.
    pub waiting: u64,
    /// Age of the oldest of them.
    pub oldest_waiting_s: u64,
    /// Bytes that the outbox has written to disk.
    pub disk_bytes: u64,
    /// Size of the outbox's files.
    pub file_bytes: u64,
    /// Milliseconds from capture to acknowledgement, of the messages acknowledged since the last stats. Null
    /// if there were none.
    pub ack_latency_ms: Option<Percentiles>,
}

/// Counters of the event pictures.
#[derive(Debug, Clone, Serialize)]
pub struct PictureStats {
    /// Bytes written.
    pub disk_bytes: u64,
    /// Size of the pictures that are stored now.
    pub file_bytes: u64,
}

/// Counters of one camera.
#[derive(Debug, Clone, Serialize)]
pub struct CameraStats {
    /// At every moment `captured = analysed + skipped_rate + skipped_still + shed + dropped + failed +
    /// pending`.
    #[serde(flatten)]
    pub frames: FrameCounts,
    /// Frames analysed per second since the last stats. Null in the first stats.
    pub analysed_fps: Option<f64>,
    /// Inferences on the camera's frames.
    pub inferences: u64,
    /// Total time of these inferences, including cropping and scaling.
    pub inference_ms: u64,
    /// Whether only keyframes are decoded because the scene is still.
    pub keyframes_only: bool,
    /// Failures after which the camera was reopened.
    pub restarts: u64,
    /// Pipelines that could not be shut down and were abandoned.
    pub hung_teardowns: u64,
    /// Images that were skipped, because they were missing, damaged or late.
    pub unusable: u64,
    /// Latency by stage of the frames published since the last stats.
    pub latency_ms: Latencies,
}

impl Message {
    /// Name of the message's kind, as in `outbox.durable_kinds`.
    pub fn kind(&self) -> &'static str {
        match self {
            Message::Event(_) => "events",
            Message::Detections(_) => "detections",
            Message::Region(_) => "regions",
            Message::Scene(_) => "scene",
            Message::Occupancy(_) => "occupancy",
            Message::Picture(_) => "picture",
            Message::Snapshot(_) => "snapshot",
            Message::View(_) => "view",
            Message::Settings(_) => "settings",
            Message::Heatmap(_) => "heatmap",
            Message::Camera(_) => "status",
            Message::Change(_) => "history",
            Message::Stats(_) => "stats",
        }
    }

    /// Whether the message is stored until a broker has acknowledged it, given `outbox.durable_kinds`.
    pub fn is_durable(&self, durable_kinds: &[String]) -> bool {
        match self {
            Message::Event(_) | Message::Scene(_) | Message::Change(_) => true,
            _ => durable_kinds.iter().any(|kind| kind == self.kind()),
        }
    }

    /// Whether the message must reach the publisher: it is durable, or it is a state that is not published
    /// again before it changes.
    pub fn is_essential(&self, durable_kinds: &[String]) -> bool {
        let is_state = matches!(
            self,
            Message::Region(_) | Message::Occupancy(_) | Message::Settings(_) | Message::Camera(_)
        );
        is_state || self.is_durable(durable_kinds)
    }

    /// Whether the history keeps the changes of this state. Those of the settings are commands of the user,
    /// who could fill the history with them.
    pub fn is_recorded(&self) -> bool {
        matches!(self, Message::Region(_) | Message::Occupancy(_) | Message::Camera(_))
    }

    /// The camera that the message is about. None for the node's own messages.
    pub fn camera(&self) -> Option<&Arc<str>> {
        match self {
            Message::Picture(message) | Message::Snapshot(message) | Message::View(message) => {
                Some(&message.camera)
            }
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
            Message::Change(message) => Some(&message.header),
            Message::Stats(message) => Some(&message.header),
            Message::Picture(_) | Message::Snapshot(_) | Message::View(_) | Message::Heatmap(_) => None,
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
            Message::Change(message) => &mut message.header,
            Message::Stats(message) => &mut message.header,
            Message::Picture(_) | Message::Snapshot(_) | Message::View(_) | Message::Heatmap(_) => return,
        };
        header.sequence = Some(sequence);
    }

    /// The MQTT payload: JSON, or an image file.
    pub fn payload(self) -> Arc<[u8]> {
        let json = match &self {
            Message::Event(message) => serde_json::to_vec(message),
            Message::Detections(message) => serde_json::to_vec(message),
            Message::Region(message) => serde_json::to_vec(message),
            Message::Scene(message) => serde_json::to_vec(message),
            Message::Occupancy(message) => serde_json::to_vec(message),
            Message::Camera(message) => serde_json::to_vec(message),
            Message::Change(message) => serde_json::to_vec(message),
            Message::Stats(message) => serde_json::to_vec(message),
            Message::Settings(message) => serde_json::to_vec(message),
            Message::Picture(_) | Message::Snapshot(_) | Message::View(_) | Message::Heatmap(_) => {
                Ok(Vec::new())
            }
        };
        match self {
            Message::Picture(picture) | Message::Snapshot(picture) | Message::View(picture) => picture.jpeg,
            Message::Heatmap(Heatmap { png, .. }) => png.into(),
            _ => json.expect("messages have string keys and finite numbers").into(),
        }
    }
}

/// Formats a time as `2026-11-24T07:31:02.125Z`, always with three decimals.
pub fn timestamp_ms(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// Times as RFC 3339 with milliseconds.
pub(crate) mod rfc3339_ms {
    use super::{Timestamp, timestamp_ms};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&timestamp_ms(*at))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

fn timestamps_ms<S: serde::Serializer>(
    times: &BTreeMap<&'static str, Timestamp>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(times.iter().map(|(name, at)| (name, timestamp_ms(*at))))
}

/// Serializes a number rounded to 0.001.
fn thousandths<S: serde::Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((value * 1e3).round() / 1e3)
}

/// Serializes a score rounded to four decimals.
pub fn four_digits<S: serde::Serializer>(value: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((f64::from(*value) * 1e4).round() / 1e4)
}

/// An event of camera `yard` on node `porch`, for tests.
#[cfg(test)]
pub fn example_event(id: &str, kind: EventType) -> Event {
    Event {
        header: Header::new("porch".into(), Some("yard".into())),
        captured: None,
        picture: None,
        id: id.into(),
        kind,
        changed: if kind == EventType::Update { vec![ChangedField::Label] } else { Vec::new() },
        reason: (kind == EventType::End).then_some(EndReason::Lost),
        at: "2026-11-24T07:31:05Z".parse().unwrap(),
        started_at: "2026-11-24T07:31:02.125Z".parse().unwrap(),
        seen_at: "2026-11-24T07:31:03.5Z".parse().unwrap(),
        duration_s: 1.375,
        label: "cat".into(),
        label_path: vec!["animal".into(), "cat".into()],
        sub_label: None,
        score: 0.834_249,
        size: [1280, 720],
        r#box: [420, 300, 250, 190],
        moving: true,
        zones: vec!["lawn".into()],
        visited_zones: vec!["path".into(), "lawn".into()],
        path: Vec::new(),
        best: Best {
            at: "2026-11-24T07:31:03Z".parse().unwrap(),
            r#box: [400, 300, 200, 100],
            pictures: Some(PictureFiles { crop: "c".into(), frame: "f".into(), annotated: "m".into() }),
        },
        links: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detections_have_the_documented_json() {
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
                sub_label: Some("Egyptian cat".into()),
                score: 0.812_345,
                r#box: [10, 20, 300, 200],
                moving: true,
                visible: true,
                top: vec![Class { index: 285, label: "Egyptian cat".into(), score: 0.712_345 }],
            }],
            inferences: 1,
            model: Arc::new(Model {
                name: "m".into(),
                sha256: "ab".into(),
                engine: "tract",
                everyday: None,
                detector: None,
            }),
            trace: None,
        });
        assert_eq!(
            String::from_utf8(message.payload().to_vec()).unwrap(),
            r#"{"schema":5,"node":"porch","camera":"yard","frame":42,"captured_at":"2026-11-24T07:31:02.100Z","capture_clock":"pipeline","clock_synchronised":true,"latency_ms":61.2,"size":[1280,720],"objects":[{"id":"01a","label":"cat","sub_label":"Egyptian cat","score":0.8123,"box":[10,20,300,200],"moving":true,"visible":true,"top":[{"index":285,"label":"Egyptian cat","score":0.7123}]}],"inferences":1,"model":{"name":"m","sha256":"ab","engine":"tract","everyday":null,"detector":null}}"#
        );
    }
}
