//! `camfire init` with real RTSP servers and brokers, a responder that speaks WS-Discovery, and a machine's
//! files.

use crate::support::{
    Broker, DEADLINE, camfire, free_port,
    rtsp::{RtspServer, Stream},
    stderr, stdout,
};
use std::{
    io::Write,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// A directory for the configuration, and one that stands for the machine's own files.
struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    fn new() -> Machine {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("root")).unwrap();
        Machine { folder }
    }

    fn with_file(self, file: &str, content: &str) -> Machine {
        let file = self.folder.path().join("root").join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
        self
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.path(file)).unwrap()
    }

    /// Runs `camfire init`, whose stdin has these lines.
    fn init(&self, arguments: &[&str], answers: &str) -> Output {
        let mut command = camfire();
        command.args(["init", "--config"]).arg(self.path("camfire.toml"));
        command.arg("--root").arg(self.path("root")).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A command that has failed early reads nothing.
        let _ = child.stdin.take().unwrap().write_all(answers.as_bytes());
        child.wait_with_output().unwrap()
    }

    fn check(&self) -> Output {
        camfire().args(["check", "--config"]).arg(self.path("camfire.toml")).output().unwrap()
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn all(output: &Output) -> String {
    stdout(output) + &stderr(output)
}

#[test]
fn a_script_gets_a_working_configuration_without_questions() {
    let broker = Broker::start();
    let server = RtspServer::start(&Stream::synthetic("x264enc").with_login("viewer", "t0p-secret"));
    let machine = Machine::new().with_file("etc/passwd", "camfire:x:60000:60001::/:/bin/false\n");
    let camera = format!("yard=rtsp://viewer:t0p-secret@127.0.0.1:{}/cam", server.port);
    let address = format!("127.0.0.1:{}", broker.port);
    let output = machine.init(&["--yes", "--camera", &camera, "--broker", &address], "");
    assert!(output.status.success(), "{}", all(&output));
    assert!(!all(&output).contains("t0p-secret"), "{}", all(&output));
    let text = machine.read("camfire.toml");
    let (file, password) = (machine.path("camfire.toml"), machine.path("camera-yard-password"));
    assert!(text.contains(&format!("[mqtt]\nhost = \"127.0.0.1\"\nport = {}\n", broker.port)), "{text}");
    assert!(
        text.contains(&format!("source = \"rtsp://127.0.0.1:{}/cam\"\nuser = \"viewer\"\n", server.port)),
        "{text}"
    );
    assert!(text.contains(&format!("password_file = \"{}\"", password.display())), "{text}");
    assert!(!text.contains("t0p-secret"), "{text}");
    assert_eq!(machine.read("camera-yard-password"), "t0p-secret\n");
    assert_eq!((mode(&file), mode(&password)), (0o640, 0o600));
    let (file, password) = (std::fs::metadata(&file).unwrap(), std::fs::metadata(&password).unwrap());
    if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
        assert_eq!((file.uid(), file.gid(), password.uid(), password.gid()), (0, 60001, 60000, 60001));
    }
    assert!(stderr(&output).contains("640 x 360 H.264"), "{}", stderr(&output));
    assert!(stderr(&output).contains("Next: "), "{}", stderr(&output));
    assert!(machine.check().status.success());

    // Never again.
    let again = machine.init(&["--yes", "--camera", "b=test://"], "");
    assert_eq!(again.status.code(), Some(2), "{}", all(&again));
    assert!(stderr(&again).contains("exists and is not overwritten"), "{}", stderr(&again));
    assert_eq!(machine.read("camfire.toml"), text);
}

#[test]
fn an_idle_configuration_gets_a_layer_beside_it() {
    let broker = Broker::start();
    let machine = Machine::new();
    let idle = format!("[mqtt]\nport = {}\n", broker.port);
    std::fs::write(machine.path("camfire.toml"), &idle).unwrap();
    let refused = machine.init(&["--yes", "--camera", "a=test://"], "");
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("conf.d with mkdir"), "{}", stderr(&refused));
    std::fs::create_dir(machine.path("conf.d")).unwrap();
    let output = machine.init(&["--yes", "--camera", "a=test://"], "");
    assert!(output.status.success(), "{}", all(&output));
    assert_eq!(machine.read("camfire.toml"), idle);
    let layer = machine.read("conf.d/cameras.toml");
    assert!(layer.contains("[cameras.a]\nsource = \"test://\"\n") && !layer.contains("[mqtt]"), "{layer}");
    assert!(stdout(&output).contains("1 cameras"), "{}", stdout(&output));
    let again = machine.init(&["--yes", "--camera", "b=test://"], "");
    assert!(
        stderr(&again).contains("cameras.toml exists and is not overwritten: edit it"),
        "{}",
        stderr(&again)
    );
    // An invalid configuration is not built upon.
    std::fs::remove_file(machine.path("conf.d/cameras.toml")).unwrap();
    std::fs::write(machine.path("camfire.toml"), "[mqtt]\nport = 0\n").unwrap();
    let invalid = machine.init(&["--yes", "--camera", "b=test://"], "");
    assert_eq!(invalid.status.code(), Some(2));
    assert!(stderr(&invalid).contains("mqtt.port"), "{}", stderr(&invalid));
    assert!(!machine.path("conf.d/cameras.toml").exists());
}

#[test]
fn wrong_answers_can_be_corrected() {
    let folder = tempfile::tempdir().unwrap();
    let passwords = folder.path().join("passwords");
    let made = Command::new("mosquitto_passwd")
        .args(["-b", "-c", passwords.to_str().unwrap(), "porch", "br0ker-secret"])
        .output()
        .unwrap();
    assert!(made.status.success());
    let lines = format!("allow_anonymous false\npassword_file {}\n", passwords.display());
    let broker = Broker::start_in(folder, free_port(), &lines);
    let server = RtspServer::start(&Stream::synthetic("x264enc").with_login("viewer", "t0p-secret"));
    let url = server.url();
    let machine = Machine::new();
    let answers = [
        // The broker asks for a login.
        "porch",
        "wrong",
        "",
        "br0ker-secret",
        // A camera, with a wrong password first.
        &url,
        "status",
        "yard",
        "viewer",
        "wrong",
        "y",
        "",
        "",
        "t0p-secret",
        // No further camera. Write it.
        "",
        "maybe",
        "y",
        "",
    ]
    .join("\n");
    let address = format!("127.0.0.1:{}", broker.port);
    let output = machine.init(&["--broker", &address], &answers);
    assert!(output.status.success(), "{}", all(&output));
    assert!(!all(&output).contains("-secret"), "{}", all(&output));
    assert!(stderr(&output).contains("is reserved"), "{}", stderr(&output));
    assert_eq!(machine.read("mqtt-password"), "br0ker-secret\n");
    assert_eq!(machine.read("camera-yard-password"), "t0p-secret\n");
    assert!(machine.check().status.success());
}

#[test]
fn a_script_that_ends_early_leaves_nothing_behind() {
    let broker = Broker::start();
    let machine = Machine::new();
    let address = format!("127.0.0.1:{}", broker.port);
    let output = machine.init(&["--broker", &address], "test://\n");
    assert_eq!(output.status.code(), Some(2), "{}", all(&output));
    assert!(stderr(&output).contains("nothing was written"), "{}", stderr(&output));
    let declined = machine.init(&["--broker", &address], "test://\nball\n\nn\n");
    assert_eq!(declined.status.code(), Some(1), "{}", all(&declined));
    assert_eq!(std::fs::read_dir(machine.folder.path()).unwrap().count(), 1, "only the machine's own files");
}

#[test]
fn what_does_not_work_is_written_only_if_it_was_named() {
    let machine = Machine::new();
    let camera = format!("yard=rtsp://127.0.0.1:{}/cam", free_port());
    let address = format!("127.0.0.1:{}", free_port());
    let output = machine.init(&["--yes", "--camera", &camera, "--broker", &address], "");
    assert_eq!(output.status.code(), Some(1), "{}", all(&output));
    assert!(stderr(&output).contains("yard is added although it does not work"), "{}", stderr(&output));
    assert!(machine.check().status.success(), "it may come back");
    for camera in ["status=test://", "a=rstp://h", "a b=test://"] {
        let other = Machine::new();
        let output = other.init(&["--yes", "--camera", camera], "");
        assert_eq!(output.status.code(), Some(2), "{camera}: {}", all(&output));
        assert!(!other.path("camfire.toml").exists(), "{camera}");
    }
}

#[test]
fn local_cameras_are_found_by_the_kernels_list() {
    let machine = Machine::new()
        .with_file("sys/class/video4linux/video97/name", "Nosuch Webcam\n")
        .with_file("sys/class/video4linux/video97/index", "0\n")
        .with_file("dev/video97", "");
    let output = machine.init(&["--yes"], "");
    // It is found, and does not work, because this machine does not have it.
    assert_eq!(output.status.code(), Some(1), "{}", all(&output));
    let text = stderr(&output);
    assert!(text.contains("Found /dev/video97: Nosuch Webcam"), "{text}");
    assert!(text.contains("nosuch-webcam is not added: "), "{text}");
    assert!(text.contains("nothing was written"), "{text}");
    assert!(!machine.path("camfire.toml").exists());
}

/// A responder that answers Probes as an ONVIF camera does, until it is dropped.
struct Responder {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Responder {
    /// On this socket. Each question gets all of `answers`.
    fn start(socket: UdpSocket, answers: Vec<Vec<u8>>) -> Responder {
        let address = socket.local_addr().unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((len, from)) = socket.recv_from(&mut buffer) else { continue };
                let question = String::from_utf8_lossy(&buffer[..len]).into_owned();
                if question.contains("NetworkVideoTransmitter") && question.contains("urn:uuid:") {
                    for answer in &answers {
                        // Too large for a datagram.
                        let _ = socket.send_to(answer, from);
                    }
                }
            }
        });
        Responder { address, stop, thread: Some(thread) }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn probe_match(name: &str) -> Vec<u8> {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" \
         xmlns:d=\"http://schemas.xmlsoap.org/ws/2005/04/discovery\"><s:Body><d:ProbeMatches><d:ProbeMatch>\
         <d:Types>dn:NetworkVideoTransmitter</d:Types><d:Scopes>onvif://www.onvif.org/name/{name} \
         onvif://www.onvif.org/Profile/Streaming</d:Scopes><d:XAddrs>http://10.9.9.9/onvif/device_service</d:XAddrs>\
         </d:ProbeMatch></d:ProbeMatches></s:Body></s:Envelope>"
    )
    .into_bytes()
}

#[test]
fn a_network_camera_is_found_asked_about_and_added() {
    let broker = Broker::start();
    let server = RtspServer::start(&Stream::synthetic("x264enc").with_login("viewer", "t0p-secret"));
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    // Among other things that a network may say.
    let mut answers: Vec<Vec<u8>> = vec![vec![0xff; 60_000], b"<a>".repeat(20_000), Vec::new()];
    answers.extend((0..30).map(|n| format!("<x>{n}</x>").into_bytes()));
    answers.push(probe_match("TP-Link%20C200"));
    let responder = Responder::start(socket, answers);
    let machine = Machine::new();
    let (address, asked) = (format!("127.0.0.1:{}", broker.port), responder.address.to_string());
    // With --yes it is shown, and not added, because its password is not known.
    let shown = machine.init(&["--yes", "--broker", &address, "--onvif", &asked], "");
    assert_eq!(shown.status.code(), Some(1), "{}", all(&shown));
    let text = stderr(&shown);
    assert!(text.contains("Found 127.0.0.1: TP-Link C200"), "{text}");
    assert!(text.contains("--camera tp-link-c200=rtsp://USER:PASSWORD@127.0.0.1/stream2"), "{text}");
    // Whatever other cameras are on this machine's network are declined.
    let found: Vec<&str> = text.lines().filter(|line| line.starts_with("Found ")).collect();
    let answer = |line: &&str| match line.contains("TP-Link C200") {
        true => format!("y\nyard\n{}\nviewer\nt0p-secret\n", server.url()),
        false => "n\n".to_string(),
    };
    let answers: String = found.iter().map(answer).collect::<String>() + "\ny\n";
    let output = machine.init(&["--broker", &address, "--onvif", &asked], &answers);
    assert!(output.status.success(), "{}", all(&output));
    assert!(machine.read("camfire.toml").contains("[cameras.yard]"));
    assert_eq!(machine.read("camera-yard-password"), "t0p-secret\n");
}

#[test]
fn cameras_are_found_by_multicast() {
    let group = Ipv4Addr::new(239, 255, 255, 250);
    let socket = match UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 3702)) {
        Ok(socket) => socket,
        Err(error) => {
            eprintln!("SKIP port 3702 is in use: {error}");
            return;
        }
    };
    if let Err(error) = socket.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST) {
        eprintln!("SKIP no multicast on the loopback interface: {error}");
        return;
    }
    let _responder = Responder::start(socket, vec![probe_match("Multicast%20Camera")]);
    let machine = Machine::new();
    let address = format!("127.0.0.1:{}", free_port());
    let output = machine.init(&["--yes", "--broker", &address], "");
    let text = stderr(&output);
    assert!(text.contains("127.0.0.1: Multicast Camera"), "{text}");
    assert!(text.contains("its path is not known"), "{text}");
}

#[test]
fn the_search_ends_however_much_is_answered() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let asked = socket.local_addr().unwrap().to_string();
    let _responder = Responder::start(socket, vec![probe_match("Loud"); 5000]);
    let machine = Machine::new();
    let broker = format!("127.0.0.1:{}", free_port());
    let mut command = camfire();
    command.args(["init", "--yes", "--config"]).arg(machine.path("camfire.toml"));
    command.arg("--root").arg(machine.path("root")).args(["--broker", &broker, "--onvif", &asked]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let status = crate::support::wait_for("the search to end", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(1), "within {DEADLINE:?}");
}
