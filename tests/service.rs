//! What systemd sees: readiness, the watchdog, the end; and a unit that it takes as it is.

use crate::support::{Broker, Camfire, DEADLINE, camfire, free_port, root, send_signal, wait_for};
use std::{
    os::unix::net::UnixDatagram,
    process::Command,
    time::{Duration, Instant},
};

/// systemd's end of the notification socket.
struct Notifications(UnixDatagram);

impl Notifications {
    fn wait(&self, what: &str) {
        let end = Instant::now() + DEADLINE;
        self.0.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut buffer = [0; 4096];
        while Instant::now() < end {
            let Ok(len) = self.0.recv(&mut buffer) else { continue };
            let text = String::from_utf8_lossy(&buffer[..len]);
            if text.lines().any(|line| line == what) {
                return;
            }
        }
        panic!("waited {DEADLINE:?} for {what}");
    }
}

#[test]
fn systemd_is_told_of_start_life_and_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let notifications = Notifications(UnixDatagram::bind(&path).unwrap());
    let broker = Broker::start();
    let mut camfire = Camfire::run_with(
        "[cameras.test]\nsource = 'test://'\n",
        &broker.flags(),
        &[("NOTIFY_SOCKET", path.display().to_string())],
    );
    notifications.wait("READY=1");
    notifications.wait("WATCHDOG=1");
    // A camera or a broker that is away is no reason for a restart.
    drop(broker);
    notifications.wait("WATCHDOG=1");
    notifications.wait("WATCHDOG=1");
    send_signal("TERM", camfire.id());
    notifications.wait("STOPPING=1");
    assert!(camfire.wait().success());
}

#[test]
fn the_journal_gets_priorities_and_no_time_of_its_own() {
    use std::os::linux::fs::MetadataExt;
    // stderr is a file here; to camfire the journal is whatever device and inode systemd names.
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("camfire.toml");
    std::fs::write(&config, "[cameras.test]\nsource = 'test://'\n").unwrap();
    let log = std::fs::File::create(folder.path().join("journal")).unwrap();
    let stream = log.metadata().map(|m| format!("{}:{}", m.st_dev(), m.st_ino())).unwrap();
    let port = format!("mqtt.port={}", free_port());
    let mut child = camfire()
        .args(["run", "--set", &port, "--config"])
        .arg(&config)
        .env("JOURNAL_STREAM", stream)
        .stderr(log)
        .spawn()
        .unwrap();
    let read = || std::fs::read_to_string(folder.path().join("journal")).unwrap();
    wait_for("the broker's absence", || read().contains("Broker is away").then_some(()));
    send_signal("TERM", child.id());
    assert!(wait_for("the end", || child.try_wait().unwrap()).success());
    let text = read();
    assert!(text.lines().any(|line| line.starts_with("<6>camfire is running.")), "{text}");
    assert!(text.lines().any(|line| line.starts_with("<4>Broker is away")), "{text}");
    assert!(text.lines().all(|line| line.starts_with('<')), "{text}");
}

#[test]
fn a_second_signal_ends_at_once() {
    // Its broker accepts and never answers, so that the end has something to wait for.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let flags = ["--set".to_string(), format!("mqtt.port={port}")];
    let mut camfire = Camfire::run("[cameras.test]\nsource = 'test://'\n", &flags);
    camfire.wait_log("Camera is live");
    send_signal("TERM", camfire.id());
    camfire.wait_log("camfire is stopping");
    // Ended by then or not: the second one must not hang either.
    let _ = Command::new("sh").arg("-c").arg(format!("kill -TERM {}", camfire.id())).status();
    camfire.wait();
}

#[test]
fn the_unit_is_sound_and_well_closed() {
    let unit = root().join("systemd/camfire.service");
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("SKIP: systemd-analyze is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // The unit names the installed binary; here it is the one under test.
    let text = std::fs::read_to_string(&unit).unwrap();
    let text = text.replace("/usr/bin/camfire", env!("CARGO_BIN_EXE_camfire"));
    let copy = folder.path().join("camfire.service");
    std::fs::write(&copy, text).unwrap();
    let verify = Command::new("systemd-analyze").arg("verify").arg(&copy).output().unwrap();
    let said = String::from_utf8_lossy(&verify.stderr).into_owned();
    let ours: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("camfire.service") && !line.contains("man:systemd"))
        .collect();
    assert!(ours.is_empty(), "{said}");
    let security = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--threshold=20"])
        .arg(&copy)
        .output()
        .unwrap();
    assert!(security.status.success(), "{}", String::from_utf8_lossy(&security.stdout));
}
