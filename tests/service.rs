//! The interface to systemd: notifications, the journal, signals and the unit file.

use crate::support::{Broker, Camfire, DEADLINE, camfire, free_port, root, send_signal, wait_for};
use std::{
    os::unix::net::UnixDatagram,
    process::Command,
    time::{Duration, Instant},
};

/// The receiving end of the notification socket.
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
fn systemd_is_notified_of_start_watchdog_and_stop() {
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
    // The watchdog is notified although the broker is unreachable, because a restart would not help.
    drop(broker);
    notifications.wait("WATCHDOG=1");
    notifications.wait("WATCHDOG=1");
    send_signal("TERM", camfire.id());
    notifications.wait("STOPPING=1");
    assert!(camfire.wait().success());
}

#[test]
fn systemd_is_notified_of_the_beginning_and_the_end_of_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let notifications = Notifications(UnixDatagram::bind(&path).unwrap());
    let file = folder.path().join("camfire.toml");
    let good = "[cameras.test]\nsource = 'test://'\n";
    std::fs::write(&file, good).unwrap();
    let flags = ["--set".to_string(), format!("mqtt.port={}", free_port())];
    let mut camfire = Camfire::start(&file, &flags, &[("NOTIFY_SOCKET", path.display().to_string())]);
    notifications.wait("READY=1");
    send_signal("HUP", camfire.id());
    notifications.wait("RELOADING=1");
    notifications.wait("READY=1");
    // systemd would wait for the end of a refused reload as well.
    std::fs::write(&file, format!("{good}[engine]\nmodel = '/nonexistent.tflite'\n")).unwrap();
    send_signal("HUP", camfire.id());
    notifications.wait("RELOADING=1");
    notifications.wait("STATUS=The new configuration was refused; see the log.");
    notifications.wait("WATCHDOG=1");
    assert!(camfire.end("TERM").success());
}

#[test]
fn without_a_camera_the_service_is_ready_and_says_once_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let notifications = Notifications(UnixDatagram::bind(&path).unwrap());
    let broker = Broker::start();
    let mut camfire =
        Camfire::run_with("", &broker.flags(), &[("NOTIFY_SOCKET", path.display().to_string())]);
    notifications.wait("STATUS=Idle: no camera is configured.");
    camfire.wait_log("No camera is configured");
    notifications.wait("WATCHDOG=1");
    notifications.wait("WATCHDOG=1");
    assert!(camfire.end("TERM").success());
    assert_eq!(camfire.log().matches("No camera is configured").count(), 1, "{}", camfire.log());
    assert!(!camfire.log().contains("WARN"), "{}", camfire.log());
}

#[test]
fn log_lines_for_the_journal_have_priorities_and_no_timestamps() {
    use std::os::linux::fs::MetadataExt;
    // camfire recognizes the journal by device and inode in JOURNAL_STREAM. Here they are those of a file.
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
    wait_for("the warning about the broker", || read().contains("Broker is away").then_some(()));
    send_signal("TERM", child.id());
    assert!(wait_for("camfire to exit", || child.try_wait().unwrap()).success());
    let text = read();
    assert!(text.lines().any(|line| line.starts_with("<6>camfire is running.")), "{text}");
    assert!(text.lines().any(|line| line.starts_with("<4>Broker is away")), "{text}");
    assert!(text.lines().all(|line| line.starts_with('<')), "{text}");
}

#[test]
fn a_second_signal_does_not_hang() {
    // This broker accepts connections and never answers, so the shutdown takes time.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let flags = ["--set".to_string(), format!("mqtt.port={port}")];
    let mut camfire = Camfire::run("[cameras.test]\nsource = 'test://'\n", &flags);
    camfire.wait_log("Camera is live");
    send_signal("TERM", camfire.id());
    camfire.wait_log("camfire is stopping");
    // The process may have exited by now, so the signal may fail.
    let _ = Command::new("sh").arg("-c").arg(format!("kill -TERM {}", camfire.id())).status();
    camfire.wait();
}

#[test]
fn the_unit_file_is_valid_and_sandboxed() {
    let unit = root().join("systemd/camfire.service");
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("SKIP: systemd-analyze is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // systemd-analyze checks that the binary exists, so the copy names the binary under test.
    let text = std::fs::read_to_string(&unit).unwrap();
    let text = text.replace("/usr/bin/camfire", env!("CARGO_BIN_EXE_camfire"));
    let copy = folder.path().join("camfire.service");
    std::fs::write(&copy, text).unwrap();
    let verify = Command::new("systemd-analyze").arg("verify").arg(&copy).output().unwrap();
    let text = String::from_utf8_lossy(&verify.stderr).into_owned();
    let problems: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("camfire.service") && !line.contains("man:systemd"))
        .collect();
    assert!(problems.is_empty(), "{text}");
    let security = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--threshold=17"])
        .arg(&copy)
        .output()
        .unwrap();
    assert!(security.status.success(), "{}", String::from_utf8_lossy(&security.stdout));
}
