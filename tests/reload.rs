//! Reloads: what did not change is not touched, what a start would refuse is refused, and nothing is lost.

use crate::support::{Broker, Camfire, Received, Subscriber, free_port, http::get, send_signal, wait_for};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
};

/// The settings of the node without cameras. Top-level keys may be put in front.
const NODE: &str = "node.name = 'porch'\ncommands.accept = true\nstats.interval = '1s'\n";
const OPTIONS: &str = "options = { width = 320, height = 240, fps = 10 }\nlabels = ['any', 'unknown']\n";

/// A camera with something that moves.
fn camera(name: &str, lines: &str) -> String {
    format!("[cameras.{name}]\nsource = 'test://ball'\n{OPTIONS}{lines}")
}

/// A running camfire whose configuration the test changes.
struct Node {
    camfire: Camfire,
    folder: tempfile::TempDir,
}

impl Node {
    fn start(config: &str, flags: &[String]) -> Node {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("camfire.toml"), config).unwrap();
        Node { camfire: Camfire::run_file(&folder.path().join("camfire.toml"), flags), folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("camfire.toml")
    }

    /// Changes the configuration and sends SIGHUP. Returns the log of the reload, which must succeed.
    fn reload(&self, config: &str) -> String {
        let before = self.camfire.log().len();
        std::fs::write(self.file(), config).unwrap();
        send_signal("HUP", self.camfire.id());
        wait_for("the end of the reload", || {
            let log = self.camfire.log()[before..].to_string();
            assert!(!log.contains("refused"), "{log}");
            log.contains("Configuration is reloaded").then_some(log)
        })
    }
}

/// Sends the command to reload and returns the answer.
fn reload_by_command(subscriber: &Subscriber, id: &str) -> Value {
    let command = json!({"do": "reload", "id": id}).to_string();
    subscriber.publish("camfire/porch/command", command.as_bytes(), false);
    let answer = subscriber
        .wait("the answer", |message| message.topic == "camfire/porch/answer" && message.json()["id"] == id);
    answer.json()
}

/// Everything received so far on a topic of a camera, as JSON.
fn received(subscriber: &Subscriber, camera: &str, kind: &str) -> Vec<Value> {
    let topic = format!("camfire/porch/{camera}/{kind}");
    subscriber.all().iter().filter(|message| message.topic == topic).map(|message| message.json()).collect()
}

/// A camera's part of the next stats message.
fn stats(subscriber: &Subscriber) -> Value {
    subscriber.clear_topic("/stats");
    subscriber.wait_topic("/stats").json()
}

/// A series of the metrics page. None if it does not exist.
fn metric(port: u16, series: &str) -> Option<f64> {
    let page = wait_for("the web server", || get(port, "/metrics", "*/*")).body;
    page.lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
        .map(|value| value.parse().unwrap())
}

/// Waits for the start of an object, and returns its id.
fn started_object(subscriber: &Subscriber, camera: &str) -> String {
    let topic = format!("camfire/porch/{camera}/events");
    let start =
        subscriber.wait("a start", |message| message.topic == topic && message.json()["type"] == "start");
    start.json()["id"].as_str().unwrap().to_string()
}

/// Waits until an object is seen in a frame after `frame`.
fn wait_until_seen(subscriber: &Subscriber, camera: &str, id: &str, frame: u64) {
    let topic = format!("camfire/porch/{camera}/detections");
    subscriber.wait("the object in a later frame", |message| {
        message.topic == topic && {
            let detections = message.json();
            let mut objects = detections["objects"].as_array().unwrap().iter();
            detections["frame"].as_u64().unwrap() > frame && objects.any(|object| object["id"] == *id)
        }
    });
}

#[test]
fn what_a_start_would_refuse_is_refused_and_nothing_is_touched() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let good = format!("{NODE}{}", camera("yard", ""));
    let mut node = Node::start(&good, &broker.flags());
    let since = subscriber.wait_state("yard", "live")["since"].clone();
    subscriber.clear_topic("/yard/status");
    let busy = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let listen = format!("web.listen = '{}'\n", busy.local_addr().unwrap());
    let model = "engine.model = '/nonexistent/other.tflite'\n";
    // Below a file, not even root can create a folder.
    let pictures = format!("pictures.directory = '{}/pictures'\n", node.file().display());
    let head = format!(
        "engine.everyday_head = '{}'
",
        node.file().display()
    );
    let template = good.replace("width", "widht");
    let clip = format!("{good}[cameras.clip]\nsource = 'file:///nonexistent/clip.mp4'\n");
    for (config, reasons) in [
        (format!("{model}{good}"), vec!["/nonexistent/other.tflite"]),
        (format!("{head}{good}"), vec!["head", "camfire.toml"]),
        (format!("{listen}{good}"), vec!["web.listen", "in use"]),
        (format!("{pictures}{good}"), vec!["pictures.directory"]),
        (template, vec!["widht"]),
        (clip, vec!["cameras.clip.source", "/nonexistent/clip.mp4"]),
        (good.replace("[cameras", "[cameras["), vec!["camfire.toml"]),
        (
            format!(
                "stats.interval = '-1s'\nmqtt.port = 99999\n{}",
                good.replace("stats.interval = '1s'\n", "")
            ),
            vec!["stats.interval", "mqtt.port"],
        ),
        (
            format!("{model}{listen}{pictures}{good}"),
            vec!["other.tflite", "web.listen", "pictures.directory"],
        ),
    ] {
        std::fs::write(node.file(), &config).unwrap();
        subscriber.clear_topic("/answer");
        let answer = reload_by_command(&subscriber, reasons[0]);
        let error = answer["error"].as_str().unwrap_or_default();
        assert_eq!(answer["ok"], false, "{config}");
        assert!(reasons.iter().all(|reason| error.contains(reason)), "{reasons:?} in {answer}");
        assert!(error.len() < 5000, "{error}");
    }
    // The camera has gone on all the time.
    let captured = |stats: &Value| stats["cameras"]["yard"]["captured"].as_u64().unwrap();
    let before = captured(&stats(&subscriber));
    wait_for("more frames", || (captured(&stats(&subscriber)) > before).then_some(()));
    let statuses = received(&subscriber, "yard", "status");
    assert!(statuses.iter().all(|status| status["state"] != "stopped"), "{statuses:?}");
    assert!(statuses.iter().all(|status| status["since"] == since), "{statuses:?}");
    // SIGHUP says the same in the log, and a good configuration is taken after all.
    std::fs::write(node.file(), format!("{model}{listen}{good}")).unwrap();
    send_signal("HUP", node.camfire.id());
    node.camfire.wait_log("Keeping the running configuration");
    assert!(node.camfire.log().contains("The new configuration is refused: web.listen"));
    std::fs::write(node.file(), format!("{good}{}", camera("door", ""))).unwrap();
    assert_eq!(reload_by_command(&subscriber, "good")["ok"], true);
    subscriber.wait_state("door", "live");
    assert!(node.camfire.end("TERM").success());
}

#[test]
fn a_changed_camera_is_opened_anew_and_the_others_lose_nothing() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let port = free_port();
    let web = format!("web.listen = '127.0.0.1:{port}'\n");
    let config = |door: &str, workers: u32| {
        format!(
            "{web}engine.workers = {workers}\n{NODE}{}{}",
            camera("door", door),
            camera("yard", "rate_fps = 10\n")
        )
    };
    let node = Node::start(&config("", 1), &broker.flags());
    let since = subscriber.wait_state("yard", "live")["since"].clone();
    subscriber.clear_topic("/yard/status");
    subscriber.wait_state("door", "live");
    let id = started_object(&subscriber, "yard");
    let mut client = KeepAlive::connect(port);
    assert!(client.request().contains("camfire_build"));
    let before = stats(&subscriber);
    let door_before = before["cameras"]["door"]["captured"].as_u64().unwrap();
    let frame = before["cameras"]["yard"]["captured"].as_u64().unwrap();

    subscriber.clear_topic("/door/status");
    let log = node.reload(&config("rate_fps = 3\n", 2));
    assert!(
        log.contains("Reloaded: camera 'door' opened anew") && log.contains("Reloaded: 2 workers"),
        "{log}"
    );
    assert!(!log.contains("'yard'"), "{log}");
    subscriber.wait_state("door", "live");
    wait_until_seen(&subscriber, "yard", &id, frame + 20);
    // The publisher has connected again.
    assert!(client.request().contains("camfire_build"), "the same connection");

    let events = received(&subscriber, "yard", "events");
    let of_object: Vec<&Value> = events.iter().filter(|event| event["id"] == *id).collect();
    assert_eq!(of_object.iter().filter(|event| event["type"] == "start").count(), 1, "{of_object:?}");
    assert!(events.iter().all(|event| event["reason"] != "stopped"), "{events:?}");
    assert!(received(&subscriber, "yard", "status").iter().all(|status| status["since"] == since));
    assert!(received(&subscriber, "door", "status").iter().any(|status| status["state"] == "stopped"));
    let after = stats(&subscriber);
    let counts = &after["cameras"]["yard"];
    assert_eq!((&counts["failed"], &counts["restarts"]), (&json!(0), &json!(0)), "{counts}");
    let opened = node.camfire.log().matches("Pipeline selected for camera. camera=\"yard\"").count();
    assert_eq!(opened, 1, "the pipeline goes on");
    let frames = received(&subscriber, "yard", "detections");
    let frames: Vec<u64> = frames.iter().map(|detections| detections["frame"].as_u64().unwrap()).collect();
    assert!(frames.is_sorted_by(|a, b| a < b), "{frames:?}");
    assert!(after["cameras"]["door"]["captured"].as_u64().unwrap() > door_before, "its counters go on");
    assert!(after["uptime_s"].as_u64().unwrap() >= before["uptime_s"].as_u64().unwrap());
    assert_eq!(get(port, "/healthz", "*/*").unwrap().body, "ok\n");
    // The broker was left without a sign of absence.
    let statuses = subscriber.all().into_iter().filter(|message| message.topic == "camfire/porch/status");
    assert!(statuses.into_iter().all(|message| message.payload == "online"));
}

#[test]
fn cameras_are_added_removed_and_renamed() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let port = free_port();
    let web = format!("web.listen = '127.0.0.1:{port}'\n");
    let config = |cameras: &[&str]| {
        format!(
            "{web}{NODE}{}",
            cameras.iter().map(|name| camera(name, "rate_fps = 10\n")).collect::<String>()
        )
    };
    let node = Node::start(&config(&["door", "yard"]), &broker.flags());
    let since = subscriber.wait_state("yard", "live")["since"].clone();
    subscriber.clear_topic("/yard/status");
    subscriber.wait_state("door", "live");
    let id = started_object(&subscriber, "door");
    subscriber.clear();
    // The door is renamed to gate, and the attic is new.
    let log = node.reload(&config(&["attic", "gate", "yard"]));
    for line in ["camera 'door' removed", "camera 'gate' added", "camera 'attic' added"] {
        assert!(log.contains(&format!("Reloaded: {line}")), "{log}");
    }
    subscriber.wait_state("door", "stopped");
    subscriber.wait_state("attic", "live");
    subscriber.wait_state("gate", "live");
    subscriber.wait("the end of the door's object", |message| {
        message.topic == "camfire/porch/door/events"
            && message.json()["id"] == *id
            && message.json()["type"] == "end"
    });
    subscriber
        .wait("the commands of the new camera", |message| message.topic == "camfire/porch/gate/settings");
    assert!(received(&subscriber, "yard", "status").iter().all(|status| status["since"] == since));
    let captured = |name| metric(port, &format!("camfire_frames_captured_total{{camera=\"{name}\"}}"));
    wait_for("frames of the new camera", || captured("gate").filter(|count| *count > 0.0));
    assert_eq!(captured("door"), None);
    assert_eq!(get(port, "/healthz", "*/*").unwrap().body, "ok\n", "the removed camera does not hang");
    // All the way down to no camera, and back.
    node.reload(&config(&[]));
    node.reload(&config(&["yard"]));
    subscriber.clear();
    subscriber.wait_topic("/yard/detections");
}

#[test]
fn what_waits_is_delivered_to_the_new_broker() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old.db"), folder.path().join("new/outbox.db"));
    let config = |port: u16, file: &Path| {
        format!(
            "mqtt.port = {port}\noutbox.file = '{}'\n{NODE}{}",
            file.display(),
            camera("yard", "rate_fps = 10\n")
        )
    };
    let web_port = free_port();
    let flags = ["--set".to_string(), format!("web.listen=127.0.0.1:{web_port}")];
    let mut node = Node::start(&config(free_port(), &old), &flags);
    let waiting = || metric(web_port, "camfire_outbox_waiting").unwrap();
    // Status, settings, occupancy and the start of an object.
    wait_for("messages that wait", || (waiting() >= 5.0).then_some(()));
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    // The broker and the file change at once.
    let log = node.reload(&config(broker.port, &new));
    assert!(log.contains("Reloaded: publisher connects to the broker again"), "{log}");
    wait_for("the delivery", || (waiting() == 0.0).then_some(()));
    let is_json = |message: &Received| message.payload.starts_with('{');
    let of_yard = subscriber
        .all()
        .into_iter()
        .filter(|message| message.topic.starts_with("camfire/porch/yard/") && is_json(message));
    let durable: Vec<Value> =
        of_yard.map(|message| message.json()).filter(|json| json["seq"].is_u64()).collect();
    let seqs: BTreeSet<u64> = durable.iter().filter_map(|json| json["seq"].as_u64()).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect(), "all that waited");
    assert!(seqs.len() >= 5, "{seqs:?}");
    let streams: BTreeSet<String> = durable.iter().map(|json| json["stream"].to_string()).collect();
    assert_eq!(streams.len(), 1, "the sequence goes on");
    let events = received(&subscriber, "yard", "events");
    let uids: BTreeSet<String> = events.iter().map(|event| event["uid"].to_string()).collect();
    assert_eq!((uids.len(), &events[0]["type"]), (events.len(), &json!("start")), "each once");
    // The states of a camera that was not opened anew reach the new broker as well.
    subscriber.wait_state("yard", "live");
    assert!(new.exists() && !old.exists(), "the outbox has moved");
    // An existing file is not overwritten.
    std::fs::write(folder.path().join("other.db"), "something else").unwrap();
    std::fs::write(node.file(), config(broker.port, &folder.path().join("other.db"))).unwrap();
    let answer = reload_by_command(&subscriber, "other");
    assert!(answer["error"].as_str().unwrap().contains("outbox.file"), "{answer}");
    // Back to another broker while this one is here: it is told that the node is gone.
    let second = Broker::start();
    let second_subscriber = second.subscribe();
    node.reload(&config(second.port, &new));
    second_subscriber.wait_state("yard", "live");
    subscriber
        .wait("offline", |message| message.topic == "camfire/porch/status" && message.payload == "offline");
    assert!(node.camfire.end("TERM").success());
}

#[test]
fn the_web_server_moves_without_a_gap() {
    let broker = Broker::start();
    let (first, second) = (free_port(), free_port());
    let config = |port: u16| format!("web.listen = '127.0.0.1:{port}'\n{NODE}{}", camera("yard", ""));
    let node = Node::start(&config(first), &broker.flags());
    let started = metric(first, "camfire_start_time_seconds");
    let log = node.reload(&config(second));
    assert!(log.contains(&format!("Reloaded: web listens on 127.0.0.1:{second}")), "{log}");
    assert_eq!(metric(second, "camfire_start_time_seconds"), started, "the same process");
    wait_for("the end of the old server", || get(first, "/healthz", "*/*").is_none().then_some(()));
    assert_eq!(get(second, "/healthz", "*/*").unwrap().body, "ok\n");
    let off = format!("{NODE}{}", camera("yard", ""));
    assert!(node.reload(&off).contains("web server stopped"));
    wait_for("the end of the server", || get(second, "/healthz", "*/*").is_none().then_some(()));
}

#[test]
fn other_labels_end_the_tracks_and_keep_the_pipeline() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let config = format!("{NODE}{}", camera("yard", "rate_fps = 10\n"));
    let node = Node::start(&config, &broker.flags());
    let since = subscriber.wait_state("yard", "live")["since"].clone();
    subscriber.clear_topic("/yard/status");
    let id = started_object(&subscriber, "yard");
    subscriber.clear_topic("/events");
    let log = node.reload(&format!("groups.pets = ['tabby', 'Egyptian cat']\n{config}"));
    assert!(log.contains("Reloaded: model replaced"), "{log}");
    let end = subscriber
        .wait("the end", |message| message.topic.ends_with("/events") && message.json()["type"] == "end");
    assert_eq!((end.json()["id"].as_str(), &end.json()["reason"]), (Some(id.as_str()), &json!("stopped")));
    assert_ne!(started_object(&subscriber, "yard"), id);
    assert!(received(&subscriber, "yard", "status").iter().all(|status| status["since"] == since));
    let counts = &stats(&subscriber)["cameras"]["yard"];
    assert_eq!(counts["failed"], 0, "{counts}");
}

#[test]
fn a_paused_camera_stays_paused_when_it_is_opened_anew() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let config = |rate: u32| format!("{NODE}{}", camera("yard", &format!("rate_fps = {rate}\n")));
    let node = Node::start(&config(5), &broker.flags());
    subscriber.wait_state("yard", "live");
    subscriber.publish("camfire/porch/yard/command", br#"{"do":"pause"}"#, false);
    subscriber.wait_state("yard", "paused");
    subscriber.clear();
    node.reload(&config(7));
    subscriber.wait_state("yard", "paused");
    let settings = subscriber.wait_topic("/yard/settings").json();
    assert_eq!(
        (&settings["watching"], settings["rate_fps"].as_f64()),
        (&json!(false), Some(7.0)),
        "{settings}"
    );
    assert!(received(&subscriber, "yard", "status").iter().all(|status| status["state"] != "live"));
}

/// An HTTP client that keeps its connection.
struct KeepAlive(BufReader<TcpStream>);

impl KeepAlive {
    fn connect(port: u16) -> KeepAlive {
        let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok();
        let server = wait_for("the web server", connect);
        server.set_read_timeout(Some(crate::support::DEADLINE)).unwrap();
        KeepAlive(BufReader::new(server))
    }

    /// Requests the metrics.
    fn request(&mut self) -> String {
        self.0.get_mut().write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut length = 0;
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the connection was closed");
            let line = line.trim().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        String::from_utf8(body).unwrap()
    }
}
