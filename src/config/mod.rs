//! What camfire was told to do, validated: the only configuration that the rest of the program sees.
//!
//! The way here: `layers` reads files, environment and flags, checks each value against the table of keys in `raw`
//! and remembers where it came from; `rules` turns the lot into a [`Config`]. Whatever is wrong on the way is
//! collected, and [`load`] hands back either a configuration without a fault or every problem that it has, as
//! [`Problems`].
//!
//! Nothing below `config/` is read again after the start: the daemon gets a `Config` by value. Environment, flags and
//! the credentials' directory are handed in by whoever calls.
//!
//! Cameras are sorted by name and known by it. Durations are `Duration`, rates are frames a second.

mod key;
mod layers;
mod login;
pub mod polygon;
mod problems;
mod raw;
mod rules;
mod source;
#[cfg(test)]
mod tests;
mod validators;

pub use key::nearest;
pub use layers::dotted;
pub use problems::Problems;
pub use source::file_path;
pub use validators::UNKNOWN;

pub use crate::frame::Rotation;
use serde::Deserialize;
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, thread, time::Duration};

/// Everything that a configuration is made of.
#[derive(Clone, Default)]
pub struct Inputs {
    /// The file at the bottom, above the defaults.
    pub main: Main,
    /// All environment variables; those that begin with `CAMFIRE_` are looked at, as in `CAMFIRE_MQTT__PORT=1884`.
    pub environment: Vec<(String, String)>,
    /// `--set`, split at the first `=`, as in `("mqtt.port", "1884")`; later ones win.
    pub flags: Vec<(String, String)>,
    /// systemd's `$CREDENTIALS_DIRECTORY`, where passwords may be.
    pub credentials: Option<PathBuf>,
    /// systemd's `$STATE_DIRECTORY`, where pictures may be kept.
    pub state: Option<PathBuf>,
    /// What else must hold for a camera.
    pub judge_camera: Option<CameraJudge>,
    /// What else must hold for all of it.
    pub judge: Option<Judge>,
}

/// Someone who knows of pipelines: tells each key below a camera that breaks a rule, and the rule.
pub type CameraJudge = fn(&Camera) -> Vec<(String, String)>;

/// Someone who knows what networks can name: tells each key that breaks a rule, and the rule.
pub type Judge = fn(&Naming<'_>) -> Vec<(String, String)>;

/// Where a configuration names what a network can see.
pub struct Naming<'a> {
    /// The network.
    pub network: &'a Network,
    /// Names of one's own for sets of its classes.
    pub groups: &'a BTreeMap<String, Vec<String>>,
    /// The lists of labels, each with its key.
    pub labels: &'a [(String, Vec<String>)],
}

/// The main file, with `conf.d/*.toml` beside it.
#[derive(Debug, Clone, Default)]
pub enum Main {
    /// `/etc/camfire/camfire.toml`, which may be missing.
    #[default]
    Default,
    /// This one, which must be there.
    File(PathBuf),
    /// A text in the binary, with nothing beside it.
    Text {
        /// What problems call it.
        name: String,
        /// TOML.
        text: String,
    },
}

/// A configuration without a fault.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What to do.
    pub config: Config,
    /// The files that were read, lowest first.
    pub files: Vec<PathBuf>,
    /// What works but should be known, a line each.
    pub warnings: Vec<String>,
}

/// Reads, layers and judges; on failure tells all that is wrong at once.
pub fn load(inputs: &Inputs) -> Result<Loaded, Problems> {
    let machine = rules::Machine {
        host: hostname::get().unwrap_or_default().to_string_lossy().into_owned(),
        cores: thread::available_parallelism().map_or(1, usize::from),
        credentials: inputs.credentials.as_deref(),
        state: inputs.state.as_deref(),
        judge_camera: inputs.judge_camera,
        judge: inputs.judge,
    };
    let mut layers = layers::Layers::gather(inputs);
    let config = match layers.merge() {
        // With a part of a file unread, the rules between keys would only find what is missing.
        Ok(_) if layers.is_incomplete => None,
        Ok(raw) => Some(rules::apply(raw, &mut layers, &machine)),
        Err(error) => {
            layers.refuse_merge(&error);
            None
        }
    };
    match (Problems::from_list(layers.problems), config) {
        (None, Some(config)) => Ok(Loaded { config, files: layers.files, warnings: layers.warnings }),
        (problems, _) => Err(problems.expect("there is a problem wherever there is no configuration")),
    }
}

/// Everything that `camfire run` needs to know.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Who this machine is, to its subscribers.
    pub node: Node,
    /// What is written to stderr or the journal.
    pub log: Log,
    /// The broker and how to reach it.
    pub mqtt: Mqtt,
    /// What must arrive, until it has.
    pub outbox: Outbox,
    /// What may be asked of camfire.
    pub commands: Commands,
    /// The network that looks at the frames.
    pub engine: Engine,
    /// What a `detections` message holds.
    pub detections: Detections,
    /// How things are told apart and named.
    pub objects: Objects,
    /// Pictures of events.
    pub pictures: Pictures,
    /// Names of one's own for sets of the network's classes.
    pub groups: BTreeMap<String, Vec<String>>,
    /// How often the counts are told.
    pub stats: Stats,
    /// Whether Home Assistant is told what there is.
    pub homeassistant: HomeAssistant,
    /// Whether events are told as Frigate would, too.
    pub frigate: Frigate,
    /// The web server.
    pub web: Web,
    /// The cameras, sorted by name.
    pub cameras: Vec<Camera>,
}

/// `[node]`
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// One topic level; the host's name unless given.
    pub name: String,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// The least severe level that is written.
    pub level: LogLevel,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// `[mqtt]`
#[derive(Debug, Clone, PartialEq)]
pub struct Mqtt {
    /// Tried in turn, at least one.
    pub brokers: Vec<Broker>,
    /// First levels of every topic, without a slash at either end.
    pub base_topic: String,
    /// MQTT client id; `camfire-<node>` unless given.
    pub client_id: String,
    /// User name and password, if the broker asks for them.
    pub login: Option<Login>,
    /// At least 1 s, whole seconds.
    pub keep_alive: Duration,
    /// How long a connection may take to stand.
    pub connect_timeout: Duration,
    /// Encrypt, and how to know the broker.
    pub tls: Option<Tls>,
    /// Larger messages are not sent.
    pub max_packet_bytes: usize,
}

/// Where a broker listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Host name or address.
    pub host: String,
    /// TCP port, 1..=65535.
    pub port: u16,
}

/// `[outbox]`
#[derive(Debug, Clone, PartialEq)]
pub struct Outbox {
    /// The file; in memory if there is none.
    pub file: Option<PathBuf>,
    /// When it reaches the disk.
    pub durability: Durability,
    /// Messages that are kept, delivered or not.
    pub max_messages: u64,
    /// Their bytes, about.
    pub max_bytes: u64,
    /// None is kept longer.
    pub max_age: Duration,
    /// After a bad end, what was acknowledged in the last so many seconds is sent again.
    pub replay: Duration,
    /// Kinds of messages that must arrive besides those that always must.
    pub durable_kinds: Vec<String>,
}

/// `[commands]`
#[derive(Debug, Clone, PartialEq)]
pub struct Commands {
    /// Commands are carried out.
    pub accept: bool,
}

/// When what must arrive reaches the disk. To the kernel it goes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Before it is sent.
    Strict,
    /// Within a second.
    Grouped,
    /// When the kernel likes.
    Light,
}

/// What camfire proves itself with to the broker.
#[derive(Clone, PartialEq)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// Never printed: see the `Debug` below.
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// TLS to the broker, on top of the system's certificate store.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tls {
    /// PEM file with a certificate authority to trust as well.
    pub ca_file: Option<PathBuf>,
    /// PEM files with our own certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Protocols to ask for in the handshake.
    pub alpn: Vec<String>,
}

/// `[engine]`
#[derive(Debug, Clone, PartialEq)]
pub struct Engine {
    /// What is run, and by whom.
    pub network: Network,
    /// Threads that run the network, one frame each, at least 1.
    pub workers: usize,
}

/// A network, and who is to run it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Network {
    /// The `.tflite` file; the one in the binary unless given.
    pub model: Option<PathBuf>,
    /// One label a line, in class order; the ones in the binary unless given.
    pub labels: Option<PathBuf>,
    /// The engine.
    pub engine: engine::Choice,
    /// The best kernels that the native engine may use; the best that the CPU has unless given.
    pub kernels: Option<engine::KernelSet>,
}

/// `[detections]`
#[derive(Debug, Clone, PartialEq)]
pub struct Detections {
    /// How many of the best classes are told of an object, 1..=1000.
    pub top: usize,
}

/// `[objects]`
#[derive(Debug, Clone, PartialEq)]
pub struct Objects {
    /// Mean score of a group from which on it is a thing's label, above 0 and up to 1.
    pub score: f32,
    /// Looks of the network at one frame, at most.
    pub max_inferences_per_frame: usize,
    /// Around a thing, in parts of its longer side.
    pub margin: f64,
    /// Between two looks at a thing whose label is sure.
    pub reclassify_after: Duration,
    /// A thing is told of when it has been seen for so long.
    pub confirm: Duration,
    /// A thing that is not seen for so long has gone.
    pub lost_after: Duration,
    /// What appeared without moving and has no name belongs to the scene after so long.
    pub absorb_after: Duration,
    /// What has not moved for so long belongs to the scene.
    pub settled_after: Duration,
}

/// `[pictures]`
#[derive(Debug, Clone, PartialEq)]
pub struct Pictures {
    /// Where they are kept; nowhere if there is no such place.
    pub directory: Option<PathBuf>,
    /// All together at most.
    pub max_bytes: u64,
    /// None is kept longer.
    pub max_age: Duration,
    /// Of the JPEG files, 10..=100.
    pub quality: u8,
    /// On a topic, too.
    pub publish: bool,
}

/// How a camera's motion is found.
#[derive(Debug, Clone, PartialEq)]
pub struct Motion {
    /// So much must a cell's brightness differ from the background's, in 255ths, beyond its own wavering.
    pub threshold: f64,
    /// How soon the background follows slow changes.
    pub memory: Duration,
    /// Smaller things are not seen, in parts of the picture's width.
    pub min_size: f64,
}

/// `[cameras.NAME.regions.NAME]`: a part of a view that is classified by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Region {
    /// One topic level, unique to the camera.
    pub name: String,
    /// From the left, in parts of the picture's width.
    pub left: f64,
    /// From the top, in parts of the picture's height.
    pub top: f64,
    /// In parts of the picture's width.
    pub width: f64,
    /// In parts of the picture's height.
    pub height: f64,
    /// Between two looks.
    pub every: Duration,
    /// A new state must hold for so long.
    pub hold: Duration,
    /// The least score of a group for it to be the state.
    pub score: f32,
    /// The groups that it may be; all if there is none.
    pub labels: Vec<String>,
}

/// `[stats]`
#[derive(Debug, Clone, PartialEq)]
pub struct Stats {
    /// Time between two `stats` messages.
    pub interval: Duration,
}

/// `[homeassistant]`
#[derive(Debug, Clone, PartialEq)]
pub struct HomeAssistant {
    /// Announce the node and its cameras as devices.
    pub discovery: bool,
    /// First levels of the topics on which Home Assistant listens for devices.
    pub prefix: String,
}

/// `[frigate]`
#[derive(Debug, Clone, PartialEq)]
pub struct Frigate {
    /// Tell events in Frigate's shape as well.
    pub events: bool,
    /// First levels of the topic on which they are told.
    pub topic: String,
}

/// `[web]`
#[derive(Debug, Clone, PartialEq)]
pub struct Web {
    /// Where it listens: one of this machine's own addresses unless the user has said that anyone may come. There is no
    /// web server without it.
    pub listen: Option<SocketAddr>,
}

/// `[cameras.NAME]`
#[derive(Debug, Clone, PartialEq)]
pub struct Camera {
    /// One topic level, unique.
    pub name: String,
    /// Where the frames come from.
    pub source: Source,
    /// A second, larger stream of the same camera, opened only for a single picture.
    pub snapshot_source: Option<Source>,
    /// Pipeline template; chosen by the source and by what this machine has unless given.
    pub pipeline: Option<String>,
    /// Values for the template's placeholders; checked against the template when it is filled in.
    pub options: BTreeMap<String, OptionValue>,
    /// At most so many analysed frames a second of the stream's own time.
    pub rate_fps: f64,
    /// Which encoded frames are decoded.
    pub decode: Decode,
    /// Keyframes further apart than this are not enough to watch a still scene by.
    pub keyframe_limit: Duration,
    /// By how much the picture must be turned to be upright.
    pub rotation: Rotation,
    /// How motion is found.
    pub motion: Motion,
    /// Polygons within which nothing is seen, in parts of the picture's width and height.
    pub masks: Vec<Vec<(f64, f64)>>,
    /// Named polygons that things enter and leave, in parts of the picture's width and height.
    pub zones: BTreeMap<String, Vec<(f64, f64)>>,
    /// Parts of the view that are classified by themselves, sorted by name.
    pub regions: Vec<Region>,
    /// Labels of things that are told of; all if there is none.
    pub labels: Vec<String>,
    /// Whether it is shown where the network saw what it saw.
    pub heatmap: bool,
    /// So long without a frame and the camera counts as stalled and is restarted; unless given, 2 s or ten frames,
    /// whichever is longer.
    pub stall_timeout: Option<Duration>,
    /// How long the first frame may take.
    pub first_frame_timeout: Duration,
    /// The longest pause between two attempts at it, where it may come back by itself.
    pub max_backoff: Duration,
    /// User name and password, handed to the source element and never written anywhere.
    pub login: Option<Login>,
}

/// Which of a camera's encoded frames are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decode {
    /// Keyframes while the scene is still, everything while it changes.
    Auto,
    /// Everything, always.
    All,
    /// Keyframes only, always.
    Keyframes,
}

/// Where a camera's frames come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// `rtsp://` or `rtsps://`; user and password have been moved to [`Camera::login`].
    Rtsp {
        /// The address without credentials.
        url: String,
    },
    /// `http://` or `https://`: MJPEG, stills or HLS; user and password have been moved to [`Camera::login`].
    Http {
        /// The address without credentials.
        url: String,
    },
    /// `libcamera://`, or `libcamera://NAME` of several.
    Libcamera {
        /// As libcamera calls it.
        name: Option<String>,
    },
    /// `csi://0`: a Jetson's camera connector.
    Csi {
        /// Which sensor.
        sensor: u32,
    },
    /// `v4l2:///dev/video0`
    V4l2 {
        /// The device node.
        device: PathBuf,
    },
    /// `file:///path/clip.mp4`
    File {
        /// An absolute path.
        path: PathBuf,
        /// Start again at the end, for ever.
        repeat: bool,
        /// In the clip's own time, or as fast as it goes.
        realtime: bool,
    },
    /// `test://` or `test://ball`
    Test {
        /// A pattern of videotestsrc.
        pattern: String,
    },
    /// `custom`: the user's own launch line.
    Custom {
        /// Ends in raw video; camfire adds the appsink.
        launch: String,
    },
}

/// A value for a template's placeholder, as typed in the config file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum OptionValue {
    /// `width = 1280`
    Integer(i64),
    /// `audio = false`
    Boolean(bool),
    /// `pattern = "ball"`
    Text(String),
}
