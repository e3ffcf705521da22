//! Starts the real parts for a test and waits for what it expects of them: on the condition, with a deadline.

pub mod http;
pub mod rtsp;

use gstreamer::prelude::*;
use rumqttc::{Client, Connection, Event, MqttOptions, Packet, QoS};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

/// Generous: a wait that gets this far is a failure, whatever the machine.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A `file://` source of the bundled clip.
pub fn clip() -> String {
    format!("file://{}", root().join("assets/demo.mp4").display())
}

/// A port that nobody listens on now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// Waits until `look` finds something.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {DEADLINE:?} for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A real mosquitto on a port of its own.
pub struct Broker {
    child: Child,
    pub port: u16,
    config: PathBuf,
    _folder: tempfile::TempDir,
}

impl Broker {
    /// Anyone may come.
    pub fn start() -> Broker {
        Broker::start_with("allow_anonymous true\n")
    }

    /// With these lines in its config; `{dir}` stands for a folder of its own.
    pub fn start_with(lines: &str) -> Broker {
        Broker::start_on(free_port(), lines)
    }

    /// The same on a port that was chosen before.
    pub fn start_on(port: u16, lines: &str) -> Broker {
        Broker::start_in(tempfile::tempdir().unwrap(), port, lines)
    }

    /// The same with a folder in which there are files that the lines name.
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

    /// Dies as in a power cut, and comes back with nothing remembered.
    pub fn restart(&mut self) {
        self.kill();
        self.child = Broker::spawn(&self.config, self.port);
    }

    /// Dies as in a power cut.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Hears everything, as any client would.
    pub fn listen(&self) -> Listener {
        Listener::connect(self.port)
    }

    /// Flags that send camfire here.
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

/// Debian puts it into sbin.
pub fn mosquitto() -> PathBuf {
    let sbin = PathBuf::from("/usr/sbin/mosquitto");
    if sbin.exists() { sbin } else { "mosquitto".into() }
}

/// A message as the broker handed it over.
#[derive(Debug, Clone)]
pub struct Heard {
    pub topic: String,
    pub payload: String,
    pub retained: bool,
    pub qos: QoS,
}

impl Heard {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.payload)
            .unwrap_or_else(|e| panic!("{} is no JSON: {e}: {}", self.topic, self.payload))
    }
}

/// A subscriber of everything that remembers all it heard.
pub struct Listener {
    client: Client,
    heard: Arc<(Mutex<Vec<Heard>>, Condvar)>,
}

impl Listener {
    fn connect(port: u16) -> Listener {
        static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut options =
            MqttOptions::new(format!("test-{}-{number}", std::process::id()), "127.0.0.1", port);
        options.set_max_packet_size(1 << 20, 1 << 20);
        let (client, mut connection) = Client::new(options, 16);
        client.subscribe("#", QoS::AtLeastOnce).unwrap();
        wait_for_suback(&mut connection);
        let heard = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let shared = heard.clone();
        std::thread::spawn(move || {
            for event in connection.iter() {
                let Ok(event) = event else { break };
                if let Event::Incoming(Packet::Publish(publish)) = event {
                    let heard = Heard {
                        topic: publish.topic,
                        payload: String::from_utf8_lossy(&publish.payload).into_owned(),
                        retained: publish.retain,
                        qos: publish.qos,
                    };
                    shared.0.lock().unwrap().push(heard);
                    shared.1.notify_all();
                }
            }
        });
        Listener { client, heard }
    }

    /// Says something itself.
    pub fn publish(&self, topic: &str, payload: &[u8], retained: bool) {
        self.client.publish(topic, QoS::AtLeastOnce, retained, payload).unwrap();
    }

    /// Everything so far.
    pub fn all(&self) -> Vec<Heard> {
        self.heard.0.lock().unwrap().clone()
    }

    /// Forgets what was heard.
    pub fn forget(&self) {
        self.heard.0.lock().unwrap().clear();
    }

    /// Forgets what was heard on topics with this ending.
    pub fn forget_topic(&self, ending: &str) {
        self.heard.0.lock().unwrap().retain(|heard| !heard.topic.ends_with(ending));
    }

    /// Waits for a message that fits, among those heard and those to come.
    pub fn wait(&self, what: &str, fits: impl Fn(&Heard) -> bool) -> Heard {
        let end = Instant::now() + DEADLINE;
        let mut heard = self.heard.0.lock().unwrap();
        loop {
            if let Some(found) = heard.iter().find(|heard| fits(heard)) {
                return found.clone();
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited {DEADLINE:?} for {what}; heard {heard:#?}");
            heard = self.heard.1.wait_timeout(heard, left).unwrap().0;
        }
    }

    /// Waits for a message on a topic with this ending.
    pub fn wait_topic(&self, ending: &str) -> Heard {
        self.wait(ending, |heard| heard.topic.ends_with(ending))
    }

    /// Waits until a camera says it is in this state.
    pub fn wait_state(&self, camera: &str, state: &str) -> Value {
        let ending = format!("/{camera}/status");
        let heard = self.wait(&format!("{camera} to be {state}"), |heard| {
            heard.topic.ends_with(&ending) && heard.json()["state"] == state
        });
        heard.json()
    }
}

impl Drop for Listener {
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

/// A running camfire whose stderr is kept.
pub struct Camfire {
    child: Child,
    log: Arc<Mutex<String>>,
    _config: Option<tempfile::TempDir>,
}

impl Camfire {
    /// `camfire run` with this config text and these further arguments.
    pub fn run(config: &str, arguments: &[String]) -> Camfire {
        Camfire::run_with(config, arguments, &[])
    }

    /// The same with environment variables.
    pub fn run_with(config: &str, arguments: &[String], environment: &[(&str, String)]) -> Camfire {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("camfire.toml");
        std::fs::write(&file, config).unwrap();
        let mut camfire = Camfire::start(&file, arguments, environment);
        camfire._config = Some(folder);
        camfire
    }

    /// The same with a config file of the test's own.
    pub fn run_file(file: &Path, arguments: &[String]) -> Camfire {
        Camfire::start(file, arguments, &[])
    }

    fn start(file: &Path, arguments: &[String], environment: &[(&str, String)]) -> Camfire {
        let mut command = camfire();
        command.args(["run", "--config"]).arg(file).args(arguments);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("camfire starts");
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(String::new()));
        let shared = log.clone();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                eprintln!("camfire | {line}");
                let mut log = shared.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Camfire { child, log, _config: None }
    }

    /// What it wrote to stderr so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until its stderr holds `text`.
    pub fn wait_log(&self, text: &str) {
        wait_for(&format!("{text:?} in the log"), || self.log().contains(text).then_some(()));
    }

    /// Sends a signal by name and waits for the end.
    pub fn end(&mut self, signal: &str) -> ExitStatus {
        send_signal(signal, self.child.id());
        self.wait()
    }

    /// Waits for the end.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("camfire to end", || self.child.try_wait().unwrap())
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

/// The shell's own kill: it needs no package.
pub fn send_signal(signal: &str, id: u32) {
    let status = Command::new("sh").arg("-c").arg(format!("kill -{signal} {id}")).status().unwrap();
    assert!(status.success());
}

/// The binary, with an environment that holds nothing of the developer's own.
pub fn camfire() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_camfire"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CAMFIRE_")) {
        command.env_remove(name);
    }
    command.env_remove("NOTIFY_SOCKET").env_remove("JOURNAL_STREAM").stdin(Stdio::null());
    command
}

/// Runs a GStreamer launch line to its end.
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

/// Runs it to its end.
pub fn camfire_output(arguments: &[&str]) -> Output {
    camfire().args(arguments).output().expect("camfire starts")
}

/// stdout as text.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// stderr as text.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
