//! Starts the processes that a test needs: camfire, mosquitto, servers. Waits are for conditions, with a
//! deadline, not for a fixed time.

pub mod elements;
pub mod http;
pub mod rtsp;
pub mod rtsp_script;

use gstreamer::prelude::*;
use rumqttc::{Client, Connection, Event, MqttOptions, Packet, QoS};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Limit of every wait. Long enough for a slow or busy machine.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The root directory of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The bundled clip as a `file://` source.
pub fn clip() -> String {
    format!("file://{}", root().join("assets/demo.mp4").display())
}

/// The scene of the bundled clip with a twelfth of its pixels per second, as a `file://` source. For tests of
/// what happens after the analysis. Five frames per second, 640 x 360; the events are those of the bundled
/// clip, with times that differ by up to 1.2 s.
pub fn small_clip() -> String {
    format!("file://{}", root().join("tests/data/demo-small.mp4").display())
}

/// A TCP port on which nothing listens.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// The environment of a program whose time of day is off by what the file `offset` says, such as `-1h`. The
/// file may change while it runs.
pub fn settable_clock(offset: &Path) -> [(&'static str, String); 4] {
    // libfaketime for programs with threads, where Debian has it.
    let architectures = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let mut libraries = architectures.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    let library = libraries.find(|library| library.exists()).expect("the package libfaketime");
    [
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", offset.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_string()),
        // Only the time of day is set; the monotonic clock never jumps.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_string()),
    ]
}

/// Polls `condition` until it returns a value. Panics with `what` after [`DEADLINE`]. Most conditions ask
/// another process, which takes CPU time, so the pauses grow.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    const LONGEST_PAUSE: Duration = Duration::from_millis(100);
    let end = Instant::now() + DEADLINE;
    let mut pause = Duration::from_millis(5);
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "waited {DEADLINE:?} for {what}");
        std::thread::sleep(pause);
        pause = pause.mul_f32(1.2).min(LONGEST_PAUSE);
    }
}

/// A running mosquitto.
pub struct Broker {
    child: Child,
    pub port: u16,
    config: PathBuf,
    _folder: tempfile::TempDir,
}

impl Broker {
    /// Without authentication, on a free port.
    pub fn start() -> Broker {
        Broker::start_with("allow_anonymous true\n")
    }

    /// With these lines in its configuration. `{dir}` stands for the broker's temporary directory.
    pub fn start_with(lines: &str) -> Broker {
        Broker::start_on(free_port(), lines)
    }

    /// As [`Broker::start_with`], on this port.
    pub fn start_on(port: u16, lines: &str) -> Broker {
        Broker::start_in(tempfile::tempdir().unwrap(), port, lines)
    }

    /// As [`Broker::start_on`], with `folder` as the broker's directory, which may hold files already.
    pub fn start_in(folder: tempfile::TempDir, port: u16, lines: &str) -> Broker {
        let config = folder.path().join("mosquitto.conf");
        let lines = lines.replace("{dir}", &folder.path().display().to_string());
        std::fs::write(&config, format!("listener {port} 127.0.0.1\nuser root\n{lines}")).unwrap();
        let child = Broker::spawn(&config, port);
        Broker { child, port, config, _folder: folder }
    }

    fn spawn(config: &Path, port: u16) -> Child {
        let child = Command::new(mosquitto())
            .arg("-c")
            .arg(config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto is installed by make test");
        wait_for("mosquitto to listen", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok());
        child
    }

    /// Kills the broker as a power failure would, and starts it again.
    pub fn restart(&mut self) {
        self.kill();
        self.child = Broker::spawn(&self.config, self.port);
    }

    /// Kills the broker as a power failure would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Connects a client that subscribes to all topics.
    pub fn subscribe(&self) -> Subscriber {
        Subscriber::connect(self.port)
    }

    /// Command line arguments with which camfire connects to this broker.
    pub fn flags(&self) -> Vec<String> {
        vec!["--set".into(), format!("mqtt.port={}", self.port)]
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Path of mosquitto, which Debian installs in `/usr/sbin`.
pub fn mosquitto() -> PathBuf {
    let sbin = PathBuf::from("/usr/sbin/mosquitto");
    if sbin.exists() { sbin } else { "mosquitto".into() }
}

/// A message received from the broker.
#[derive(Debug, Clone)]
pub struct Received {
    pub topic: String,
    pub payload: String,
    pub retained: bool,
    pub qos: QoS,
}

impl Received {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.payload)
            .unwrap_or_else(|e| panic!("{} is not JSON: {e}: {}", self.topic, self.payload))
    }
}

/// A client that has subscribed to all topics and keeps every message.
pub struct Subscriber {
    client: Client,
    messages: Arc<(Mutex<Vec<Received>>, Condvar)>,
}

impl Subscriber {
    fn connect(port: u16) -> Subscriber {
        static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut options =
            MqttOptions::new(format!("test-{}-{number}", std::process::id()), "127.0.0.1", port);
        options.set_max_packet_size(1 << 20, 1 << 20);
        let (client, mut connection) = Client::new(options, 16);
        client.subscribe("#", QoS::AtLeastOnce).unwrap();
        wait_for_suback(&mut connection);
        let messages = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let shared = messages.clone();
        std::thread::spawn(move || {
            for event in connection.iter() {
                let Ok(event) = event else { break };
                if let Event::Incoming(Packet::Publish(publish)) = event {
                    let message = Received {
                        topic: publish.topic,
                        payload: String::from_utf8_lossy(&publish.payload).into_owned(),
                        retained: publish.retain,
                        qos: publish.qos,
                    };
                    shared.0.lock().unwrap().push(message);
                    shared.1.notify_all();
                }
            }
        });
        Subscriber { client, messages }
    }

    /// Publishes a message with QoS 1.
    pub fn publish(&self, topic: &str, payload: &[u8], retained: bool) {
        self.client.publish(topic, QoS::AtLeastOnce, retained, payload).unwrap();
    }

    /// All messages received since the start or the last [`Subscriber::clear`].
    pub fn all(&self) -> Vec<Received> {
        self.messages.0.lock().unwrap().clone()
    }

    /// Discards the messages received so far.
    pub fn clear(&self) {
        self.messages.0.lock().unwrap().clear();
    }

    /// Discards the messages received so far on topics with this ending.
    pub fn clear_topic(&self, ending: &str) {
        self.messages.0.lock().unwrap().retain(|message| !message.topic.ends_with(ending));
    }

    /// Returns the first message that matches, received already or yet to come.
    pub fn wait(&self, what: &str, matches: impl Fn(&Received) -> bool) -> Received {
        let end = Instant::now() + DEADLINE;
        let mut messages = self.messages.0.lock().unwrap();
        loop {
            if let Some(found) = messages.iter().find(|message| matches(message)) {
                return found.clone();
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited {DEADLINE:?} for {what}; received {messages:#?}");
            messages = self.messages.1.wait_timeout(messages, left).unwrap().0;
        }
    }

    /// Returns the first message on a topic with this ending.
    pub fn wait_topic(&self, ending: &str) -> Received {
        self.wait(ending, |message| message.topic.ends_with(ending))
    }

    /// Waits until a camera's status has this state. Returns the status message.
    pub fn wait_state(&self, camera: &str, state: &str) -> Value {
        let ending = format!("/{camera}/status");
        let message = self.wait(&format!("status {state} of {camera}"), |message| {
            message.topic.ends_with(&ending) && message.json()["state"] == state
        });
        message.json()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.client.try_disconnect();
    }
}

fn wait_for_suback(connection: &mut Connection) {
    for event in connection.iter() {
        if let Event::Incoming(Packet::SubAck(_)) = event.expect("the broker answers") {
            return;
        }
    }
}

/// A running camfire. Its stderr is kept and copied to the test's output.
pub struct Camfire {
    child: Child,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    _config: Option<tempfile::TempDir>,
}

impl Camfire {
    /// Starts `camfire run` with this configuration text and further arguments.
    pub fn run(config: &str, arguments: &[String]) -> Camfire {
        Camfire::run_with(config, arguments, &[])
    }

    /// As [`Camfire::run`], with environment variables.
    pub fn run_with(config: &str, arguments: &[String], environment: &[(&str, String)]) -> Camfire {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("camfire.toml");
        std::fs::write(&file, config).unwrap();
        let mut camfire = Camfire::start(&file, arguments, environment);
        camfire._config = Some(folder);
        camfire
    }

    /// As [`Camfire::run`], with a configuration file that the test owns.
    pub fn run_file(file: &Path, arguments: &[String]) -> Camfire {
        Camfire::start(file, arguments, &[])
    }

    /// As [`Camfire::run_file`], with environment variables.
    pub fn start(file: &Path, arguments: &[String], environment: &[(&str, String)]) -> Camfire {
        let mut command = camfire();
        command.args(["run", "--config"]).arg(file).args(arguments);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("camfire starts");
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(String::new()));
        let shared = log.clone();
        let reader = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                eprintln!("camfire | {line}");
                let mut log = shared.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Camfire { child, log, reader: Some(reader), _config: None }
    }

    /// Its stderr so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until its stderr contains `text`.
    pub fn wait_log(&self, text: &str) {
        wait_for(&format!("{text:?} in the log"), || self.log().contains(text).then_some(()));
    }

    /// Sends a signal by name and waits for the process to exit.
    pub fn end(&mut self, signal: &str) -> ExitStatus {
        send_signal(signal, self.child.id());
        self.wait()
    }

    /// Waits for the process to exit. From then on its log is complete.
    pub fn wait(&mut self) -> ExitStatus {
        let status = wait_for("camfire to exit", || self.child.try_wait().unwrap());
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        status
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Camfire {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal by name, with the shell's builtin `kill` because that needs no package.
pub fn send_signal(signal: &str, id: u32) {
    let status = Command::new("sh").arg("-c").arg(format!("kill -{signal} {id}")).status().unwrap();
    assert!(status.success());
}

/// The binary under test, without the environment variables that would change its behaviour.
pub fn camfire() -> Command {
    clean(Command::new(env!("CARGO_BIN_EXE_camfire")))
}

fn clean(mut command: Command) -> Command {
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CAMFIRE_")) {
        command.env_remove(name);
    }
    command.env_remove("NOTIFY_SOCKET").env_remove("JOURNAL_STREAM").stdin(Stdio::null());
    command
}

/// The binary under test, run by a user who is not root. If the tests run as root, it is a copy in `folder`,
/// which is then open to all users, because the checkout may be in a folder that only root can enter.
pub fn camfire_without_root(folder: &Path) -> Command {
    const NOBODY: u32 = 65534;
    // The files of a process belong to its effective user.
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return camfire();
    }
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    let copy = folder.join("camfire");
    std::fs::copy(env!("CARGO_BIN_EXE_camfire"), &copy).unwrap();
    let mut command = clean(Command::new(copy));
    command.uid(NOBODY).gid(NOBODY).env("HOME", folder).current_dir(folder);
    command
}

/// Runs a GStreamer launch line until its end of stream.
pub fn launch_to_end(launch: &str) {
    gstreamer::init().unwrap();
    let pipeline = gstreamer::parse::launch(launch).unwrap_or_else(|e| panic!("{launch}: {e}"));
    pipeline.set_state(gstreamer::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    let kinds = [gstreamer::MessageType::Eos, gstreamer::MessageType::Error];
    let end = bus.timed_pop_filtered(gstreamer::ClockTime::from_seconds(60), &kinds).unwrap();
    assert_eq!(end.type_(), gstreamer::MessageType::Eos, "{end:?}");
    pipeline.set_state(gstreamer::State::Null).unwrap();
}

/// Makes GStreamer's plugins in these files unavailable, as if their packages were not installed. Lives as
/// long as the processes that use [`WithoutPlugins::environment`].
pub struct WithoutPlugins {
    folder: tempfile::TempDir,
}

impl WithoutPlugins {
    /// `files`: names such as `libgstlibav.so`.
    pub fn new(files: &[&str]) -> WithoutPlugins {
        gstreamer::init().unwrap();
        let plugin = gstreamer::Registry::get().find_plugin("app").expect("the tests need appsink");
        let installed = plugin.filename().expect("a plugin has a file").parent().unwrap().to_path_buf();
        let folder = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(installed).unwrap().map(Result::unwrap) {
            let name = file.file_name();
            if !files.iter().any(|hidden| name == *hidden) {
                std::os::unix::fs::symlink(file.path(), folder.path().join(name)).unwrap();
            }
        }
        WithoutPlugins { folder }
    }

    /// The environment variables for a process without these plugins.
    pub fn environment(&self) -> [(&'static str, String); 2] {
        let path = |path: PathBuf| path.display().to_string();
        [
            ("GST_PLUGIN_SYSTEM_PATH_1_0", path(self.folder.path().into())),
            ("GST_REGISTRY_1_0", path(self.folder.path().join("registry.bin"))),
        ]
    }
}

/// Runs the binary with these arguments until it exits.
pub fn camfire_output(arguments: &[&str]) -> Output {
    camfire().args(arguments).output().expect("camfire starts")
}

/// Returns stdout as text.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Returns stderr as text.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
