//! The validated configuration: the types that the rest of the program works with.
//!
//! Cameras and regions are sorted by name and identified by it. Intervals and timeouts are `Duration`s, rates
//! are in frames per second, and positions and sizes in an image are fractions of its width or height, 0 to
//! 1.

use super::{web_certificate::WebCertificate, web_passwords::WebPasswords};
pub use crate::frame::Rotation;
use ipnet::IpNet;
use serde::Deserialize;
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

/// The whole configuration of `camfire run`.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Identity of this machine in topics and messages.
    pub node: Node,
    /// Logging to stderr or the journal.
    pub log: Log,
    /// The broker and the connection to it.
    pub mqtt: Mqtt,
    /// The store of durable messages.
    pub outbox: Outbox,
    /// Commands over MQTT.
    pub commands: Commands,
    /// The network and its worker threads.
    pub engine: Engine,
    /// Contents of `detections` messages.
    pub detections: Detections,
    /// Tracking and labelling of objects.
    pub objects: Objects,
    /// Pictures of events.
    pub pictures: Pictures,
    /// The user's groups: names for sets of the network's classes.
    pub groups: BTreeMap<String, Vec<String>>,
    /// Publishing of statistics.
    pub stats: Stats,
    /// Home Assistant discovery.
    pub homeassistant: HomeAssistant,
    /// Events in Frigate's format.
    pub frigate: Frigate,
    /// The web server.
    pub web: Web,
    /// The cameras, sorted by name.
    pub cameras: Vec<Camera>,
}

/// `[node]`
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Name of this machine, one topic level. Default: derived from the host name.
    pub name: String,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// Minimum severity of log messages.
    pub level: LogLevel,
}

/// Severity of a log message.
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
    /// Brokers in the order in which they are tried; at least one.
    pub brokers: Vec<Broker>,
    /// Prefix of every topic, without a slash at either end.
    pub base_topic: String,
    /// MQTT client id. Default: `camfire-<node>`.
    pub client_id: String,
    /// User name and password, if the broker requires them.
    pub login: Option<Login>,
    /// Keep-alive interval, in whole seconds, at least 1 s.
    pub keep_alive: Duration,
    /// Maximum time to establish a connection.
    pub connect_timeout: Duration,
    /// TLS settings. None: no encryption.
    pub tls: Option<Tls>,
    /// Maximum size of an MQTT message. Larger messages are dropped.
    pub max_packet_bytes: usize,
}

/// Address of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Host name or IP address.
    pub host: String,
    /// TCP port, 1 to 65535.
    pub port: u16,
}

/// `[outbox]`
#[derive(Debug, Clone, PartialEq)]
pub struct Outbox {
    /// The outbox file. None: the outbox is kept in memory.
    pub file: Option<PathBuf>,
    /// When the outbox is flushed to disk.
    pub durability: Durability,
    /// Maximum number of messages kept, delivered ones included.
    pub max_messages: u64,
    /// Approximate maximum size of all messages kept, in bytes.
    pub max_bytes: u64,
    /// Maximum age of a message.
    pub max_age: Duration,
    /// After a lost connection, messages acknowledged within this period before it are sent again.
    pub replay: Duration,
    /// Kinds of messages to treat as durable in addition to those that always are.
    pub durable_kinds: Vec<String>,
}

/// `[commands]`
#[derive(Debug, Clone, PartialEq)]
pub struct Commands {
    /// Whether commands over MQTT are accepted.
    pub accept: bool,
    /// File with the settings that commands have set. None: they are lost when camfire stops.
    pub settings_file: Option<PathBuf>,
}

/// When durable messages are flushed to disk. They are always handed to the kernel before they are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Before each message is sent.
    Strict,
    /// Once a second.
    Grouped,
    /// When the kernel decides.
    Light,
}

/// User name and password.
#[derive(Clone, PartialEq)]
pub struct Login {
    /// User name.
    pub user: String,
    /// Password. `Debug` leaves it out.
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// TLS settings. The system's certificate store is always trusted.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tls {
    /// PEM file with a certificate authority to trust in addition to the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM files with the client certificate and its private key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// ALPN protocol names to offer in the handshake.
    pub alpn: Vec<String>,
}

/// `[engine]`
#[derive(Debug, Clone, PartialEq)]
pub struct Engine {
    /// The network and the engine that runs it.
    pub network: Network,
    /// Number of worker threads, at least 1. Each analyses one frame at a time.
    pub workers: usize,
}

/// A network and the engine that runs it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Network {
    /// The `.tflite` file. None: the built-in network.
    pub model: Option<PathBuf>,
    /// File with one label per line, in class order. None: the built-in labels.
    pub labels: Option<PathBuf>,
    /// The network and head of the everyday labels.
    pub everyday: Everyday,
    /// How objects are found.
    pub detector: Detector,
    /// The inference engine.
    pub engine: engine::Choice,
    /// The most advanced kernels that the native engine may use. None: the best that the CPU has.
    pub kernels: Option<engine::KernelSet>,
}

/// How objects are found.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Detector {
    /// By motion alone.
    #[default]
    Motion,
    /// By motion and the built-in detection network.
    BuiltIn,
    /// By motion and a detection network in a file.
    File(PathBuf),
}

/// Where the everyday labels come from.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Everyday {
    /// The built-in network and head. [`Everyday::Off`] if [`Network::model`] is not the built-in network,
    /// whose classes may be anything.
    #[default]
    BuiltIn,
    /// A head file.
    Head {
        /// The file.
        head: PathBuf,
        /// The `.tflite` file of the network that it is for. None: [`Network::model`].
        model: Option<PathBuf>,
    },
    /// Nowhere: all labels are groups of the network's classes.
    Off,
}

/// `[detections]`
#[derive(Debug, Clone, PartialEq)]
pub struct Detections {
    /// Number of best classes to publish for each object, 1 to 1000.
    pub top: usize,
}

/// `[objects]`
#[derive(Debug, Clone, PartialEq)]
pub struct Objects {
    /// Minimum mean score at which a label becomes an object's label, above 0 and up to 1.
    pub score: f32,
    /// Time per frame for inferences on tracked objects. One is made in any case.
    pub inference_budget: Duration,
    /// Margin on each side of an object before it is classified, as a fraction of its longer side.
    pub margin: f64,
    /// Time after which an object with a reliable label is classified again.
    pub reclassify_after: Duration,
    /// How long an object must have been visible before it is published.
    pub confirm: Duration,
    /// Maximum time that the start of an object waits for its name.
    pub name_within: Duration,
    /// Time after which an object that is no longer visible ends as lost.
    pub lost_after: Duration,
    /// Time after which an object without a label that has not moved becomes part of the background.
    pub absorb_after: Duration,
    /// Time without motion after which any object becomes part of the background.
    pub settled_after: Duration,
}

/// `[pictures]`
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pictures {
    /// Directory for pictures. None: no pictures are kept.
    pub directory: Option<PathBuf>,
    /// Maximum size of all pictures together, in bytes.
    pub max_bytes: u64,
    /// Maximum age of a picture.
    pub max_age: Duration,
    /// JPEG quality, 10 to 100.
    pub quality: u8,
    /// Whether annotated pictures are published over MQTT as well.
    pub publish: bool,
}

/// Motion detection of a camera.
#[derive(Debug, Clone, PartialEq)]
pub struct Motion {
    /// How much a cell's brightness must differ from the background in addition to the cell's own noise, in
    /// 1/255.
    pub threshold: f64,
    /// Time constant with which the background adapts to slow changes.
    pub memory: Duration,
    /// Minimum size of an object: its longer side as a fraction of the image width.
    pub min_size: f64,
}

/// `[cameras.NAME.regions.NAME]`: a part of the image that is classified at intervals.
#[derive(Debug, Clone, PartialEq)]
pub struct Region {
    /// Name, one topic level, unique within the camera.
    pub name: String,
    /// Left edge, as a fraction of the image width.
    pub left: f64,
    /// Top edge, as a fraction of the image height.
    pub top: f64,
    /// Width, as a fraction of the image width.
    pub width: f64,
    /// Height, as a fraction of the image height.
    pub height: f64,
    /// Minimum interval between two inferences.
    pub every: Duration,
    /// How long a new state must hold before it is published.
    pub hold: Duration,
    /// Minimum score at which a group becomes the state.
    pub score: f32,
    /// Groups that can become the state. Empty: all.
    pub labels: Vec<String>,
}

/// `[stats]`
#[derive(Debug, Clone, PartialEq)]
pub struct Stats {
    /// Interval between two `stats` messages.
    pub interval: Duration,
}

/// `[homeassistant]`
#[derive(Debug, Clone, PartialEq)]
pub struct HomeAssistant {
    /// Whether the node and its cameras are announced as devices.
    pub discovery: bool,
    /// The discovery prefix that Home Assistant listens to.
    pub prefix: String,
    /// Maximum age of events that are published for Home Assistant and in Frigate's format.
    pub max_event_age: Duration,
}

/// `[frigate]`
#[derive(Debug, Clone, PartialEq)]
pub struct Frigate {
    /// Whether events are published in Frigate's format as well.
    pub events: bool,
    /// Topic prefix of these events.
    pub topic: String,
}

/// `[web]`
#[derive(Debug, Clone, PartialEq)]
pub struct Web {
    /// Address to listen on. None: no web server.
    pub listen: Option<SocketAddr>,
    /// The passwords of the page and its API. None on a loopback address: everybody may use them. None on
    /// another address: nobody may; only the metrics and the health check are served.
    pub passwords: Option<WebPasswords>,
    /// Names by which clients may address the server, in lower case, in addition to IP addresses and
    /// loopback names: the machine's own, and the user's.
    pub hosts: Vec<String>,
    /// Where users reach the page, without a slash at the end. None: messages have no links. None if there is
    /// no page.
    pub public_url: Option<String>,
    /// The file with the key of the links. None: the key is lost when camfire stops.
    pub link_key_file: Option<PathBuf>,
    /// The certificate. None: no encryption.
    pub certificate: Option<WebCertificate>,
    /// Addresses of reverse proxies, which are believed whom they speak for. Not empty only with passwords.
    pub trusted_proxies: Vec<IpNet>,
    /// Memory for the recordings of all cameras together that previews are made from. 0: there are none.
    pub preview_bytes: usize,
}

impl Web {
    /// Whether there is anybody who may use the page.
    pub fn serves_page(&self) -> bool {
        self.listen.is_some_and(|listen| self.passwords.is_some() || listen.ip().to_canonical().is_loopback())
    }
}

/// `[cameras.NAME]`
#[derive(Debug, Clone, PartialEq)]
pub struct Camera {
    /// Name, one topic level, unique.
    pub name: String,
    /// Where the frames come from.
    pub source: Source,
    /// High-resolution stream of the same camera. It is opened only to take a snapshot.
    pub snapshot_source: Option<Source>,
    /// Name of the pipeline template. None: selected by source and installed GStreamer elements.
    pub pipeline: Option<String>,
    /// Values for the template's placeholders, checked against the template when it is filled in.
    pub options: BTreeMap<String, OptionValue>,
    /// Maximum number of frames analysed per second of stream time.
    pub rate_fps: f64,
    /// Which encoded frames are decoded.
    pub decode: Decode,
    /// Maximum keyframe interval at which [`Decode::Auto`] decodes only keyframes.
    pub keyframe_limit: Duration,
    /// Rotation that makes the image upright.
    pub rotation: Rotation,
    /// Motion detection.
    pub motion: Motion,
    /// Polygons within which motion is ignored.
    pub masks: Vec<Vec<(f64, f64)>>,
    /// Minimum mean score at which a label becomes an object's label: the camera's, or else
    /// [`Objects::score`].
    pub score: f32,
    /// Polygons that objects enter and leave, by name.
    pub zones: BTreeMap<String, Vec<(f64, f64)>>,
    /// Parts of the image that are classified at intervals, sorted by name.
    pub regions: Vec<Region>,
    /// Labels of the objects to publish. Empty: all.
    pub labels: Vec<String>,
    /// Whether a heatmap is published for each inference on a published object.
    pub heatmap: bool,
    /// Interval between two frames that are published for those who look at the camera. Zero: none are.
    pub view_every: Duration,
    /// Area of the house, suggested to Home Assistant.
    pub area: Option<String>,
    /// Time without a frame after which the camera counts as stalled and is reconnected. None: derived from
    /// the camera's frame intervals.
    pub stall_timeout: Option<Duration>,
    /// Maximum time from opening the camera to its first frame.
    pub first_frame_timeout: Duration,
    /// Maximum delay between two connection attempts.
    pub max_backoff: Duration,
    /// User name and password for the source element. They are never logged or published.
    pub login: Option<Login>,
}

/// Which of a camera's encoded frames are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decode {
    /// Only keyframes while the scene is still, every frame while it changes.
    Auto,
    /// Every frame, always.
    All,
    /// Only keyframes, always.
    Keyframes,
}

/// Where a camera's frames come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// `rtsp://` or `rtsps://`; user name and password are in [`Camera::login`].
    Rtsp {
        /// The URL without credentials.
        url: String,
    },
    /// `http://` or `https://`: MJPEG, JPEG images or HLS; user name and password are in [`Camera::login`].
    Http {
        /// The URL without credentials.
        url: String,
    },
    /// `libcamera://`, or `libcamera://NAME` if there are several.
    Libcamera {
        /// The camera's name in libcamera.
        name: Option<String>,
    },
    /// `csi://0`: CSI connector of a Jetson.
    Csi {
        /// Number of the sensor.
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
        /// Whether to start again at the end.
        repeat: bool,
        /// Whether to play at the recording's own speed instead of as fast as possible.
        realtime: bool,
    },
    /// `test://` or `test://ball`
    Test {
        /// A pattern of videotestsrc.
        pattern: String,
    },
    /// `custom`: the user's own launch line.
    Custom {
        /// A GStreamer launch line that ends in raw video; camfire appends the appsink.
        launch: String,
    },
}

/// Value of a template's placeholder.
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
