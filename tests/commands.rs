//! Commands over MQTT: what they set survives, and a flood of them does no harm.

use crate::support::{
    Broker, Camfire, Subscriber, camfire_output, camfire_without_root, send_signal, stderr, stdout, wait_for,
};
use std::{
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// A camera address that counts connections and closes them. Returns the port and the count.
fn counting_camera() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = connections.clone();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            drop(connection);
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    (port, connections)
}

fn config(folder: &Path, port: u16) -> String {
    format!(
        "node.name = 'porch'\ncommands.accept = true\noutbox.file = '{}'\n\
         [cameras.yard]\nsource = 'rtsp://127.0.0.1:{port}/cam'\n[cameras.test]\nsource = 'test://'\n",
        folder.join("outbox.db").display()
    )
}

/// Sends a command to a camera and returns whether it was accepted, and the answer.
fn command(subscriber: &Subscriber, camera: &str, command: &str) -> (bool, String) {
    subscriber.clear_topic(&format!("{camera}/answer"));
    subscriber.publish(&format!("camfire/porch/{camera}/command"), command.as_bytes(), false);
    let answer = subscriber.wait_topic(&format!("{camera}/answer"));
    (answer.json()["ok"] == true, answer.payload)
}

fn wait_online(subscriber: &Subscriber) {
    subscriber.wait("online", |m| m.topic == "camfire/porch/status" && m.payload == "online");
}

#[test]
fn a_paused_camera_stays_paused_through_everything() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("camfire.toml");
    let (port, connections) = counting_camera();
    std::fs::write(&file, config(folder.path(), port)).unwrap();
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let mut camfire = Camfire::run_file(&file, &broker.flags());
    wait_online(&subscriber);
    wait_for("a connection to the camera", || (connections.load(Ordering::SeqCst) > 0).then_some(()));
    assert!(command(&subscriber, "yard", r#"{"do":"pause"}"#).0);
    assert!(command(&subscriber, "test", r#"{"do":"set","rate_fps":3}"#).0);
    subscriber.wait_state("yard", "paused");

    for end in ["HUP", "TERM", "KILL"] {
        subscriber.clear();
        let before = connections.load(Ordering::SeqCst);
        if end == "HUP" {
            // Something changes, so that the configuration is applied anew.
            let changed = config(folder.path(), port).replace("'test://'", "'test://ball'");
            std::fs::write(&file, changed).unwrap();
            send_signal(end, camfire.id());
            camfire.wait_log("eload");
        } else {
            camfire.end(end);
            subscriber.clear();
            camfire = Camfire::run_file(&file, &broker.flags());
            wait_online(&subscriber);
            let settings = subscriber.wait_topic("yard/settings").json();
            assert_eq!(settings["watching"], false, "after {end}");
            assert!(settings["since"]["watching"].is_string(), "{settings}");
            assert_eq!(subscriber.wait_topic("test/settings").json()["rate_fps"], 3.0);
            subscriber.wait_state("yard", "paused");
        }
        // The other camera delivers frames, so the paused one would have been opened by now.
        subscriber.wait_topic("test/detections");
        assert_eq!(connections.load(Ordering::SeqCst), before, "after {end}");
    }

    let check = camfire_output(&["check", "--config", file.to_str().unwrap()]);
    let text = stdout(&check);
    assert!(
        check.status.success() && text.contains("cameras.yard: a command has set watching to false"),
        "{text}"
    );
    assert!(text.contains("settings.json"), "{text}");

    // The file belongs to the service's user. Another user may still check the configuration.
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    let settings_file = folder.path().join("settings.json");
    std::fs::set_permissions(&settings_file, PermissionsExt::from_mode(0o000)).unwrap();
    let mut check = camfire_without_root(folder.path());
    let check = check.args(["check", "--config", file.to_str().unwrap()]).output().unwrap();
    std::fs::set_permissions(&settings_file, PermissionsExt::from_mode(0o600)).unwrap();
    let text = stdout(&check);
    assert!(check.status.success() && text.contains("this user may not read"), "{text}");

    subscriber.clear();
    assert!(command(&subscriber, "yard", r#"{"do":"reset"}"#).0);
    let settings = subscriber.wait_topic("yard/settings").json();
    assert_eq!((&settings["watching"], &settings["since"]), (&true.into(), &serde_json::json!({})));
    let before = connections.load(Ordering::SeqCst);
    wait_for("the camera to be opened again", || (connections.load(Ordering::SeqCst) > before).then_some(()));

    // A damaged file may have paused cameras.
    camfire.end("TERM");
    std::fs::write(folder.path().join("settings.json"), "{").unwrap();
    let run = camfire_output(&["run", "--config", file.to_str().unwrap()]);
    assert_eq!(run.status.code(), Some(2));
    assert!(stderr(&run).contains("settings.json"), "{}", stderr(&run));
    assert!(!camfire_output(&["check", "--config", file.to_str().unwrap()]).status.success());
}

#[test]
fn a_flood_of_commands_fills_neither_the_log_nor_the_outbox() {
    let folder = tempfile::tempdir().unwrap();
    let (port, _connections) = counting_camera();
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let camfire = Camfire::run(&config(folder.path(), port), &broker.flags());
    wait_online(&subscriber);
    subscriber.wait_state("test", "live");
    let lines = || camfire.log().lines().count();
    let (lines_before, count) = (lines(), 20_000);
    for number in 0..count {
        let payload = [r#"{"do":"pause"}"#, r#"{"do":"resume"}"#, "{}", "x"][number % 4];
        subscriber.publish("camfire/porch/test/command", payload.as_bytes(), false);
        if number % 1000 == 0 {
            subscriber.publish("camfire/porch/nothing/command", b"{}", false);
        }
    }
    // The node's own commands have a budget of their own.
    subscriber.publish("camfire/porch/command", br#"{"do":"stats","id":"after"}"#, false);
    subscriber.wait("the answer", |m| m.topic == "camfire/porch/answer" && m.payload.contains("after"));
    let answers = subscriber.all().iter().filter(|m| m.topic.ends_with("/test/answer")).count();
    assert!(answers < 1000, "{answers} answers");
    assert!(lines() - lines_before < 1000, "{} lines", lines() - lines_before);
    let history = subscriber.all().iter().filter(|m| m.topic.ends_with("/test/history")).count();
    assert!(history < 500, "{history} changes in the history");
    subscriber.publish("camfire/porch/command", br#"{"do":"pause"}"#, false);
    subscriber.wait("where it belongs", |m| {
        m.topic == "camfire/porch/answer" && m.payload.contains("pause is a command to a camera")
    });
    assert!(command(&subscriber, "yard", r#"{"do":"snapshot"}"#).1.contains("delivers no frames"));
}
