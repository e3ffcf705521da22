//! Durable messages arrive although the broker, the disk or camfire fail; commands, Home Assistant and TLS. A
//! subscriber with a persistent session checks the sequence numbers of every message.

use crate::support::{
    Broker, Camfire, DEADLINE, Received, camfire, clip, free_port, root, send_signal, small_clip, stderr,
    wait_for,
};
use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver},
    },
    time::Duration,
};

const CAMERA: &str = "node.name = 'porch'\n[cameras.yard]\nsource = 'test://ball'\n\
                      options = { width = 160, height = 120 }\n";

/// Broker configuration with which sessions and queued messages survive a kill.
const PERSISTENT: &str = "allow_anonymous true\npersistence true\npersistence_location {dir}/\n\
                          autosave_interval 1\nautosave_on_changes true\nmax_queued_messages 0\n\
                          max_inflight_messages 0\n";

/// All durable messages that a subscriber has received.
#[derive(Default)]
struct Archive {
    /// Sequence numbers and payloads in the order of first arrival, by stream and camera.
    streams: BTreeMap<(String, String), Vec<(u64, String)>>,
    repeats: u64,
    /// Violations of the protocol: a number that was used for two messages, or messages out of order.
    violations: Vec<String>,
    gaps: Vec<Value>,
}

impl Archive {
    fn add(&mut self, topic: &str, payload: &str) {
        let Ok(message) = serde_json::from_str::<Value>(payload) else { return };
        if topic.ends_with("/gap") {
            self.gaps.push(message);
            return;
        }
        let (Some(stream), Some(seq)) = (message["stream"].as_str(), message["seq"].as_u64()) else { return };
        let of = format!("{}/{}", message["node"].as_str().unwrap(), message["camera"].as_str().unwrap());
        let known = self.streams.entry((stream.to_string(), of.clone())).or_default();
        if let Some((_, before)) = known.iter().rev().find(|(number, _)| *number == seq) {
            self.repeats += 1;
            if before != payload {
                self.violations.push(format!("{of}: {seq} is two messages: {before} and {payload}"));
            }
            return;
        }
        if let Some((last, _)) = known.last().filter(|(last, _)| *last > seq) {
            self.violations.push(format!("{of}: {seq} arrived after {last}"));
        }
        known.push((seq, payload.to_string()));
    }

    /// The number of sequence numbers up to the highest that have not arrived.
    fn missing(&self) -> u64 {
        self.streams
            .values()
            .map(|known| known.iter().map(|(seq, _)| *seq).max().unwrap_or(0) - known.len() as u64)
            .sum()
    }

    fn count(&self) -> u64 {
        self.streams.values().map(|known| known.len() as u64).sum()
    }
}

/// Starts a subscriber with a persistent session, which reconnects until the test ends.
fn subscribe(port: u16) -> Arc<Mutex<Archive>> {
    let archive = Arc::new(Mutex::new(Archive::default()));
    let mut options = MqttOptions::new("archive", "127.0.0.1", port);
    options.set_clean_session(false).set_max_packet_size(1 << 22, 1 << 22);
    options.set_keep_alive(Duration::from_secs(5));
    let (client, mut connection) = Client::new(options, 16);
    let (shared, (ready, is_ready)) = (archive.clone(), mpsc::channel());
    std::thread::spawn(move || {
        for event in connection.iter() {
            match event {
                Ok(Event::Incoming(Packet::ConnAck(_))) => drop(client.try_subscribe("#", QoS::AtLeastOnce)),
                Ok(Event::Incoming(Packet::SubAck(_))) => drop(ready.send(())),
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    let payload = String::from_utf8_lossy(&publish.payload).into_owned();
                    shared.lock().unwrap().add(&publish.topic, &payload);
                }
                Ok(_) => {}
                // The broker is down. This is the pause before the next connection attempt.
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    });
    is_ready.recv_timeout(DEADLINE).expect("the broker acknowledges the subscription");
    archive
}

fn simulate(port: u16, state: &Path, arguments: &[&str]) -> Child {
    let mut command = camfire();
    command.args([
        "simulate",
        "--json",
        "--set",
        "node.name=board",
        "--set",
        &format!("mqtt.port={port}"),
        "--state",
    ]);
    command.arg(state).args(arguments).stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().expect("camfire starts")
}

fn outcome(child: Child) -> Value {
    let output = child.wait_with_output().unwrap();
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {} {}", String::from_utf8_lossy(&output.stdout), stderr(&output)))
}

#[test]
fn no_durable_message_is_lost_when_broker_and_publisher_are_killed() {
    let mut broker = Broker::start_with(PERSISTENT);
    let archive = subscribe(broker.port);
    let state = tempfile::tempdir().unwrap();
    let got = || archive.lock().unwrap().count();
    let arguments = ["--cameras", "3", "--rate", "300"];
    for round in 1..=2u64 {
        let mut simulator = simulate(broker.port, state.path(), &arguments);
        let before = got();
        wait_for("events", || (got() >= before + 200).then_some(()));
        broker.restart();
        wait_for("events after the broker's restart", || (got() >= before + 600).then_some(()));
        simulator.kill().unwrap();
        simulator.wait().unwrap();
        assert!(got() >= 600 * round);
    }
    let report =
        outcome(simulate(broker.port, state.path(), &["--cameras", "3", "--rate", "300", "--events", "300"]));
    assert_eq!((&report["waiting"], &report["lost"]), (&json!(0), &json!(0)), "{report}");
    let last = report["acknowledged"].as_u64().unwrap();
    assert!(last >= 300);
    let archive = archive.lock().unwrap();
    assert_eq!(archive.violations, [""; 0]);
    assert_eq!((archive.missing(), archive.streams.len()), (0, 3), "one stream of three cameras");
    assert!(archive.gaps.is_empty());
}

#[test]
fn events_of_an_outage_arrive_afterwards_and_detections_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let config = format!(
        "node.name = 'porch'\noutbox.file = '{}/outbox.db'\n[cameras.yard]\nsource = '{}'\n",
        folder.path().display(),
        small_clip()
    );
    let camfire = Camfire::run(&config, &["--set".into(), format!("mqtt.port={port}")]);
    camfire.wait_log("Broker is away");
    let waiting = || {
        let database = folder.path().join("outbox.db-wal");
        std::fs::metadata(database).is_ok_and(|log| log.len() > 40_000)
    };
    wait_for("events on disk", || waiting().then_some(()));
    let before = jiff::Timestamp::now();
    let broker = Broker::start_on(port, PERSISTENT);
    let subscriber = broker.subscribe();
    let archive = subscribe(port);
    subscriber.wait_topic("/yard/detections");
    wait_for("the first event", || {
        archive
            .lock()
            .unwrap()
            .streams
            .values()
            .any(|known| known.first().is_some_and(|(seq, _)| *seq == 1))
            .then_some(())
    });
    let all = subscriber.all();
    let events: Vec<Value> =
        all.iter().filter(|message| message.topic.ends_with("/events")).map(|h| h.json()).collect();
    let at = |message: &Value, key: &str| message[key].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(at(&events[0], "at") < before, "{}", events[0]);
    let oldest = all
        .iter()
        .filter(|message| message.topic.ends_with("/detections"))
        .map(|h| at(&h.json(), "captured_at"))
        .min();
    assert!(oldest.unwrap() >= before, "detections of the outage were sent");
    let archive = archive.lock().unwrap();
    assert_eq!((archive.violations.len(), archive.missing()), (0, 0), "{:?}", archive.violations);
}

#[test]
fn a_full_disk_drops_the_oldest_messages_and_publishes_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    // A file system of 1 MiB in a mount namespace of its own. Without root this needs a user namespace too.
    let mut simulator = Command::new("unshare");
    if !is_root() {
        simulator.args(["--user", "--map-root-user"]);
    }
    let script = "mount -t tmpfs -o size=1m none \"$0\" && exec \"$@\"";
    simulator.args(["--mount", "sh", "-c", script]).arg(folder.path()).arg(env!("CARGO_BIN_EXE_camfire"));
    simulator.args(["simulate", "--json", "--set", "node.name=board", "--set", &format!("mqtt.port={port}")]);
    simulator.args(["--rate", "1000", "--events", "3000", "--state"]).arg(folder.path());
    let mut simulator = simulator
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("unshare is part of util-linux");
    // The broker starts when all events have been generated, many more than fit on the disk.
    let mut log = BufReader::new(simulator.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("events generated") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "the simulator has exited");
    }
    let broker = Broker::start_on(port, PERSISTENT);
    let archive = subscribe(broker.port);
    let output = simulator.wait_with_output().unwrap();
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", stderr(&output)));
    assert_eq!((&report["made"], &report["waiting"]), (&json!(3000), &json!(0)), "{report}");
    let lost = report["lost"].as_u64().unwrap();
    assert!((500..3000).contains(&lost), "{report}");
    let archive = archive.lock().unwrap();
    let newest = archive.streams.values().flat_map(|known| known.iter().map(|(seq, _)| *seq)).max();
    assert_eq!((archive.violations.len(), newest), (0, Some(3000)), "{:?}", archive.violations);
    // On a slow machine, messages are still dropped when the broker is there. A gap that grows is published
    // again with the same beginning.
    let number = |gap: &Value, key: &str| gap[key].as_u64().unwrap();
    let final_counts: BTreeMap<u64, u64> =
        archive.gaps.iter().map(|gap| (number(gap, "first_seq"), number(gap, "count"))).collect();
    let counted: u64 = final_counts.values().sum();
    assert!(final_counts.contains_key(&1), "{:?}", archive.gaps);
    assert_eq!(counted, lost, "{:?}", archive.gaps);
    // A message that is deleted while it is in flight is reported as lost, although it arrives.
    assert!(archive.count() >= 3000 - lost, "{:?}", archive.gaps);
}

/// The disk of outbox and pictures is full for a while: everything is still analysed and delivered.
#[test]
fn a_full_disk_interrupts_neither_analysis_nor_delivery() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let config = folder.path().join("camfire.toml");
    let text = format!(
        "outbox.file = '{0}/outbox.db'\npictures.directory = '{0}/pictures'\nstats.interval = '1s'\n\
         [cameras.clip]\nsource = '{1}'\nloop = true\nrealtime = true\nlabels = ['any', 'unknown']\n",
        disk.display(),
        clip()
    );
    std::fs::write(&config, text).unwrap();
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let mut unshare = Command::new("unshare");
    if !is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    // The process number is that of camfire, whose root shows its own mounts.
    let script = "mount -t tmpfs -o size=4m none \"$0\" && exec \"$@\"";
    let mut camfire = unshare
        .args(["--mount", "sh", "-c", script])
        .arg(&disk)
        .args([env!("CARGO_BIN_EXE_camfire"), "run", "--config"])
        .arg(&config)
        .args(broker.flags())
        .stderr(Stdio::piped())
        .spawn()
        .expect("unshare is part of util-linux");
    let log: Arc<Mutex<String>> = Arc::default();
    let (lines, pipe) = (log.clone(), BufReader::new(camfire.stderr.take().unwrap()));
    std::thread::spawn(move || {
        pipe.lines().map_while(Result::ok).for_each(|line| lines.lock().unwrap().push_str(&(line + "\n")));
    });
    let count = |text: &str| log.lock().unwrap().matches(text).count();
    let event = |what: &str| subscriber.wait(what, |m| m.topic.ends_with("clip/events"));
    event("an event");
    let filler = format!("/proc/{}/root{}/filler", camfire.id(), disk.display());
    // Fills the disk to its last byte; the write that fails is the last.
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    drop(file);
    wait_for("the report", || (count("Pictures cannot be stored") > 0).then_some(()));
    // Both the analysis and the delivery go on.
    for _ in 0..2 {
        subscriber.clear();
        event("an event while the disk is full");
    }
    let stats = subscriber.wait_topic("/stats").json();
    assert_eq!(stats["delivery"]["connected"], true, "{stats}");
    assert_eq!(count("Pictures cannot be stored"), 1, "{}", log.lock().unwrap());
    assert!(count("Outbox cannot be written") <= 1, "{}", log.lock().unwrap());
    std::fs::remove_file(&filler).unwrap();
    // What is held is on disk again, and new pictures are stored.
    let pictures = format!("/proc/{}/root{}/pictures", camfire.id(), disk.display());
    let newest = || newest_file(Path::new(&pictures));
    let before = newest();
    wait_for("a new picture", || (newest() > before).then_some(()));
    subscriber.clear();
    let stats = subscriber.wait_topic("/stats").json();
    assert_eq!(stats["delivery"]["lost"], 0, "{stats}");
    send_signal("TERM", camfire.id());
    assert!(camfire.wait().unwrap().success(), "{}", log.lock().unwrap());
}

/// When the newest picture below a folder was written.
fn newest_file(folder: &Path) -> Option<std::time::SystemTime> {
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    let of = |entry: std::fs::DirEntry| match entry.path() {
        path if path.is_dir() => newest_file(&path),
        path if path.extension().is_some_and(|e| e == "jpg") => entry.metadata().ok()?.modified().ok(),
        _ => None,
    };
    entries.filter_map(of).max()
}

fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0
}

#[test]
fn an_unreadable_outbox_is_set_aside_and_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("outbox.db");
    std::fs::write(&file, "not a database").unwrap();
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let mut flags = broker.flags();
    flags.extend(["--set".into(), format!("outbox.file={}", file.display())]);
    let mut camfire = Camfire::run(CAMERA, &flags);
    subscriber.wait_state("yard", "live");
    assert!(camfire.end("TERM").success());
    assert_eq!(camfire.log().matches("set aside as").count(), 1, "{}", camfire.log());
    let names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(names.iter().any(|name| name.starts_with("outbox.db.bad-")), "{names:?}");
    assert!(std::fs::read(&file).unwrap().starts_with(b"SQLite format 3"));
}

/// A server in place of a broker that calls `act` with each connection. Returns its port.
fn fake_broker(act: impl Fn(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().flatten().for_each(act));
    port
}

/// Accepts the connection and answers pings, but acknowledges no message.
fn never_acknowledge(mut stream: TcpStream) {
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        let mut first = true;
        while stream.read(&mut bytes).is_ok_and(|len| len > 0) {
            let answer: &[u8] = if std::mem::take(&mut first) { &[0x20, 2, 0, 0] } else { &[0xd0, 0] };
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    });
}

#[test]
fn the_next_broker_is_tried_when_one_does_not_work() {
    let good = Broker::start();
    let subscriber = good.subscribe();
    // Keeps the connections open.
    let held = Arc::new(Mutex::new(Vec::new()));
    let bad = [
        ("hangs", fake_broker(move |stream| held.lock().unwrap().push(stream))),
        ("closes at once", fake_broker(drop)),
        ("sends garbage", fake_broker(|mut stream| drop(stream.write_all(&[0xff; 64])))),
        ("never acknowledges", fake_broker(never_acknowledge)),
        ("is not there", free_port()),
    ];
    // All at the same time, because one of them takes 20 s to be given up.
    let nodes = bad.map(|(what, port)| {
        let node = what.replace(' ', "-");
        let flags = [
            format!("node.name={node}"),
            format!("mqtt.port={port}"),
            format!("mqtt.fallbacks=['127.0.0.1:{}']", good.port),
            "mqtt.connect_timeout=1s".into(),
        ];
        let flags: Vec<String> = flags.into_iter().flat_map(|flag| ["--set".into(), flag]).collect();
        (node, Camfire::run(CAMERA, &flags))
    });
    for (node, mut camfire) in nodes {
        let topic = format!("camfire/{node}/yard/status");
        subscriber.wait(&node, |message| message.topic == topic && message.json()["state"] == "live");
        assert!(camfire.end("TERM").success(), "{node}");
        assert_eq!(camfire.log().matches("Broker is away").count(), 1, "{node}: {}", camfire.log());
    }
}

/// A proxy that delays the start of the broker's answers on each connection. Returns its port and a channel
/// that gets a message when a connection's answers have ended.
fn slow_proxy(broker: u16, delay: Duration) -> (u16, Receiver<()>) {
    let (sender, ended) = mpsc::channel();
    let port = fake_broker(move |mut near| {
        let Ok(mut far) = TcpStream::connect((Ipv4Addr::LOCALHOST, broker)) else { return };
        let sender = sender.clone();
        let (mut near_answers, mut far_answers) = (near.try_clone().unwrap(), far.try_clone().unwrap());
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut near, &mut far);
            let _ = far.shutdown(Shutdown::Both);
        });
        std::thread::spawn(move || {
            // The simulated fault.
            std::thread::sleep(delay);
            let _ = std::io::copy(&mut far_answers, &mut near_answers);
            let _ = near_answers.shutdown(Shutdown::Both);
            let _ = sender.send(());
        });
    });
    (port, ended)
}

#[test]
fn connect_timeout_limits_the_wait_for_the_brokers_answer() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let (port, ended) = slow_proxy(broker.port, Duration::from_secs(3));
    let run = |timeout: &str| {
        let flags = [
            format!("mqtt.port={port}"),
            format!("mqtt.fallbacks=['127.0.0.1:{}']", broker.port),
            format!("mqtt.connect_timeout={timeout}"),
        ];
        let flags: Vec<String> = flags.into_iter().flat_map(|flag| ["--set".into(), flag]).collect();
        Camfire::run(CAMERA, &flags)
    };
    let is_live = |message: &Received| {
        message.topic == "camfire/porch/yard/status" && message.json()["state"] == "live"
    };
    let mut short = run("1s");
    short.wait_log("it does not answer in time");
    subscriber.wait("live at the fallback", is_live);
    // The late answer arrives on a connection that has been abandoned, and has no effect.
    ended.recv_timeout(DEADLINE).expect("the answers end");
    subscriber.clear();
    subscriber.wait_topic("/yard/detections");
    assert_eq!(short.log().matches("Broker is connected").count(), 1, "{}", short.log());
    assert!(short.end("TERM").success());
    subscriber.clear();
    let long = run("20s");
    subscriber.wait("live at the slow broker", is_live);
    assert!(!long.log().contains("Broker is away"), "{}", long.log());
}

#[test]
fn a_broker_that_denies_some_topics_gets_all_others() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = ["x86_64", "aarch64"]
        .map(|machine| format!("/usr/lib/{machine}-linux-gnu/mosquitto_dynamic_security.so"))
        .into_iter()
        .find(|file| Path::new(file).exists())
        .expect("the plugin is part of Debian's mosquitto package");
    let deny =
        |kind: &str, topic: &str| json!({"acltype": kind, "topic": topic, "priority": 1, "allow": false});
    let rules = json!({
        "defaultACLAccess": {
            "publishClientSend": true, "publishClientReceive": true, "subscribe": true, "unsubscribe": true
        },
        "anonymousGroup": "all",
        "groups": [{"groupname": "all", "roles": [{"rolename": "board"}]}],
        "roles": [{"rolename": "board", "acls": [
            deny("subscribePattern", "camfire/+/command"),
            deny("publishClientSend", "camfire/porch/yard/detections"),
        ]}],
    });
    std::fs::write(folder.path().join("rules.json"), rules.to_string()).unwrap();
    let lines = format!("allow_anonymous true\nplugin {plugin}\nplugin_opt_config_file {{dir}}/rules.json\n");
    let broker = Broker::start_in(folder, free_port(), &lines);
    let subscriber = broker.subscribe();
    let mut flags = broker.flags();
    flags.extend(["--set".into(), "commands.accept=true".into()]);
    let camfire = Camfire::run(CAMERA, &flags);
    camfire.wait_log("Broker refuses the subscription for commands");
    subscriber.wait_state("yard", "live");
    subscriber.wait_topic("/yard/events");
    subscriber
        .wait("online", |message| message.topic == "camfire/porch/status" && message.payload == "online");
    assert!(subscriber.all().iter().all(|message| !message.topic.ends_with("/yard/detections")));
    assert!(!camfire.log().contains("Broker is away"), "{}", camfire.log());
}

#[test]
fn a_message_too_large_for_the_broker_is_dropped_and_the_others_arrive() {
    // Mosquitto closes the connection on a larger packet.
    let broker = Broker::start_with("allow_anonymous true\nmax_packet_size 20000\n");
    let subscriber = broker.subscribe();
    let config = format!(
        "node.name = 'porch'\npictures.publish = true\npictures.quality = 95\n[cameras.yard]\nsource = '{}'\n",
        clip()
    );
    let camfire = Camfire::run(&config, &broker.flags());
    camfire.wait_log("topic=\"camfire/porch/yard/picture\"");
    subscriber.clear();
    subscriber.wait_topic("/yard/events");
    subscriber.wait_topic("/yard/detections");
}

#[test]
fn commands_are_executed_and_answered() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    subscriber.publish("camfire/porch/yard/command", br#"{"do":"pause"}"#, true);
    subscriber.wait_topic("/yard/command");
    let mut flags = broker.flags();
    flags.extend(["--set".into(), "commands.accept=true".into()]);
    let camfire = Camfire::run(CAMERA, &flags);
    subscriber.wait_state("yard", "live");
    // A retained command may be out of date and is not executed.
    camfire.wait_log("retained command");
    let send = |camera: &str, command: Value| {
        subscriber.clear_topic("/answer");
        subscriber.publish(&format!("camfire/porch{camera}/command"), command.to_string().as_bytes(), false);
        let answer = subscriber.wait_topic("/answer").json();
        assert_valid("answer", &answer);
        answer
    };
    assert_valid("settings", &subscriber.wait_topic("/yard/settings").json());
    assert_eq!(send("/yard", json!({"do": "pause", "id": "p"}))["id"], "p");
    subscriber.wait_state("yard", "paused");
    subscriber.wait("settings", |message| {
        message.topic.ends_with("/yard/settings") && message.json()["watching"] == false
    });
    subscriber.clear();
    assert_eq!(send("/yard", json!({"do": "resume"}))["ok"], true);
    subscriber.wait_state("yard", "live");
    send("/yard", json!({"do": "snapshot"}));
    let picture = subscriber.wait_topic("/yard/snapshot");
    assert!(picture.payload.contains("JFIF"));
    assert_eq!(send("/yard", json!({"do": "set", "rate_fps": 1}))["ok"], true);
    assert_eq!(send("/garden", json!({"do": "pause"}))["ok"], false);
    assert_eq!(send("/yard", json!({"do": "set", "source": "file:///etc/passwd"}))["ok"], false);
    subscriber.clear_topic("/stats");
    assert_eq!(send("", json!({"do": "stats"}))["ok"], true);
    subscriber.wait_topic("/stats");
    let history = send("", json!({"do": "history", "camera": "yard", "since": 0}));
    let messages = history["messages"].as_array().unwrap();
    assert_eq!(messages[0]["payload"]["seq"], 1);
    assert_eq!(messages.len() as u64, history["last_seq"].as_u64().unwrap());
    assert_eq!(send("/yard", json!("pause"))["ok"], false);
    assert_eq!(send("", json!({"do": "reload"}))["ok"], true);
    // Nothing has changed.
    camfire.wait_log("Configuration is reloaded. changes=0");
}

#[test]
fn an_invalid_configuration_is_not_loaded_on_reload() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("camfire.toml");
    std::fs::write(&file, CAMERA).unwrap();
    let camfire = Camfire::run_file(&file, &broker.flags());
    subscriber.wait_state("yard", "live");
    std::fs::write(&file, format!("{CAMERA}rate_fps = -1\n")).unwrap();
    crate::support::send_signal("HUP", camfire.id());
    camfire.wait_log("The new configuration is refused");
    std::fs::write(&file, format!("{CAMERA}[cameras.door]\nsource = 'test://'\n")).unwrap();
    crate::support::send_signal("HUP", camfire.id());
    subscriber.wait_state("door", "live");
}

#[test]
fn home_assistant_devices_are_announced_and_removed() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let folder = tempfile::tempdir().unwrap();
    let mut flags = broker.flags();
    for flag in
        ["homeassistant.discovery=true".into(), format!("outbox.file={}/o.db", folder.path().display())]
    {
        flags.extend(["--set".into(), flag]);
    }
    let two = format!("{CAMERA}[cameras.door]\nsource = 'test://'\n");
    let mut camfire = Camfire::run(&two, &flags);
    let of = |topic: &'static str| {
        subscriber.wait(topic, move |message| message.topic == format!("homeassistant/device/{topic}/config"))
    };
    assert_eq!(of("camfire_-porch").json()["origin"]["name"], "camfire");
    assert!(of("camfire_-porch_-door").json()["components"].as_object().unwrap().len() > 3);
    of("camfire_-porch_-yard");
    // Home Assistant starts.
    subscriber.clear();
    subscriber.publish("homeassistant/status", b"online", false);
    of("camfire_-porch_-yard");
    subscriber.wait_state("yard", "live");
    assert!(camfire.end("TERM").success());
    subscriber.clear();
    let mut camfire = Camfire::run(CAMERA, &flags);
    of("camfire_-porch_-yard");
    assert_eq!(of("camfire_-porch_-door").payload, "", "the device is removed");
    assert!(camfire.end("TERM").success());
    subscriber.clear();
    flags.extend(["--set".into(), "homeassistant.discovery=false".into()]);
    let _camfire = Camfire::run(CAMERA, &flags);
    assert_eq!(of("camfire_-porch").payload, "");
    assert_eq!(of("camfire_-porch_-yard").payload, "");
}

#[test]
fn events_are_published_in_frigates_format_too() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let mut flags = broker.flags();
    flags.extend(["--set".into(), "frigate.events=true".into()]);
    let config = format!("node.name = 'porch'\n[cameras.yard]\nsource = '{}'\n", small_clip());
    let _camfire = Camfire::run(&config, &flags);
    let event = subscriber.wait("frigate/events", |message| message.topic == "frigate/events").json();
    assert_eq!((&event["type"], &event["after"]["camera"]), (&json!("new"), &json!("yard")));
    let ours = subscriber.wait_topic("/yard/events").json();
    assert_eq!(event["after"]["id"], ours["id"]);
}

#[test]
fn client_certificates_are_used_and_wrong_ones_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    make_certificates(folder.path());
    let dir = folder.path().display().to_string();
    let lines = |server: &str| {
        format!(
            "allow_anonymous true\nrequire_certificate true\ncafile {dir}/ca.pem\ncertfile {dir}/{server}.pem\n\
             keyfile {dir}/{server}.key\n"
        )
    };
    let run = |broker: &Broker, pairs: &[(&str, &str)]| {
        let mut flags = broker.flags();
        flags.extend([
            "--set".into(),
            "mqtt.tls=true".into(),
            "--set".into(),
            format!("mqtt.ca_file={dir}/ca.pem"),
        ]);
        for (key, file) in pairs {
            flags.extend(["--set".into(), format!("mqtt.{key}={dir}/{file}")]);
        }
        Camfire::run(CAMERA, &flags)
    };
    let valid = [("cert_file", "board.pem"), ("key_file", "board.key")];
    let broker = Broker::start_with(&lines("server"));
    run(&broker, &valid).wait_log("Broker is connected");
    for (pairs, reason) in [
        (&[][..], "certificate"),
        (&[("cert_file", "board.pem"), ("key_file", "server.key")][..], "mqtt.key_file"),
        (&[("cert_file", "board.pem"), ("key_file", "nothing.key")][..], "nothing.key"),
        (&[("cert_file", "stranger.pem"), ("key_file", "stranger.key")][..], "error"),
    ] {
        let camfire = run(&broker, pairs);
        camfire.wait_log("Broker is away");
        // The broker closes the connection right after its TLS alert. If the alert is lost, a later attempt
        // reports it.
        camfire.wait_log(reason);
        assert!(!camfire.log().contains("Broker is connected"), "{reason}");
    }
    for (server, reason) in [("expired", "expired"), ("other-host", "IP address mismatch")] {
        let broker = Broker::start_with(&lines(server));
        let camfire = run(&broker, &valid);
        camfire.wait_log("Broker is away");
        camfire.wait_log(reason);
    }
}

#[test]
fn alpn_protocols_are_offered() {
    let folder = tempfile::tempdir().unwrap();
    make_certificates(folder.path());
    let port = free_port();
    // The server prints the negotiated protocol. It is not a broker.
    let mut server = Command::new("openssl")
        .args(["s_server", "-accept", &port.to_string(), "-cert", "server.pem", "-key", "server.key"])
        .args(["-CAfile", "ca.pem", "-Verify", "1", "-alpn", "x-amzn-mqtt-ca"])
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "ACCEPT"), "the server listens");
    let (dir, sets) = (folder.path().display(), |pairs: &[String]| {
        pairs.iter().flat_map(|pair| ["--set".to_string(), pair.clone()]).collect::<Vec<_>>()
    });
    let flags = sets(&[
        format!("mqtt.port={port}"),
        "mqtt.tls=true".into(),
        format!("mqtt.ca_file={dir}/ca.pem"),
        format!("mqtt.cert_file={dir}/board.pem"),
        format!("mqtt.key_file={dir}/board.key"),
        "mqtt.alpn=['x-amzn-mqtt-ca']".into(),
    ]);
    let _camfire = Camfire::run(CAMERA, &flags);
    assert!(lines.any(|line| line == "ALPN protocols selected: x-amzn-mqtt-ca"));
    let _ = server.kill();
    let _ = server.wait();
}

fn make_certificates(folder: &Path) {
    let script = root().join("tests/data/certificates.sh");
    let made = Command::new("sh").arg(script).current_dir(folder).output().unwrap();
    assert!(made.status.success(), "{}", stderr(&made));
}

fn assert_valid(name: &str, message: &Value) {
    let file = root().join(format!("docs/schemas/{name}.json"));
    let schema =
        jsonschema::validator_for(&serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap())
            .unwrap();
    let errors: Vec<String> = schema.iter_errors(message).map(|e| e.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?} in {message:#}");
}
