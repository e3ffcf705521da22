//! What must arrive arrives: whatever becomes of the broker, the disk and camfire itself. A subscriber with a persistent
//! session holds every message against the numbers that they carry.

use crate::support::{Broker, Camfire, DEADLINE, Received, camfire, clip, free_port, root, stderr, wait_for};
use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

const CAMERA: &str = "node.name = 'porch'\n[cameras.yard]\nsource = 'test://ball'\n\
                      options = { width = 160, height = 120 }\n";

/// Remembers sessions and messages over its own death.
const PERSISTENT: &str = "allow_anonymous true\npersistence true\npersistence_location {dir}/\n\
                          autosave_interval 1\nautosave_on_changes true\nmax_queued_messages 0\n\
                          max_inflight_messages 0\n";

/// What a subscriber that never forgets has got.
#[derive(Default)]
struct Ledger {
    /// By stream and camera: numbers in the order of first arrival, and what each said.
    streams: BTreeMap<(String, String), Vec<(u64, String)>>,
    repeats: u64,
    /// What is wrong: another message under a known number, or out of order.
    faults: Vec<String>,
    gaps: Vec<Value>,
}

impl Ledger {
    fn take(&mut self, topic: &str, payload: &str) {
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
                self.faults.push(format!("{of} {seq} has been another message: {before} and {payload}"));
            }
            return;
        }
        if let Some((last, _)) = known.last().filter(|(last, _)| *last > seq) {
            self.faults.push(format!("{of}: {seq} came after {last}"));
        }
        known.push((seq, payload.to_string()));
    }

    /// Numbers that never came, up to the last that did.
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

/// A subscriber with a session that the broker keeps; comes back whenever it can.
fn subscribe(port: u16) -> Arc<Mutex<Ledger>> {
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let mut options = MqttOptions::new("the-ledger", "127.0.0.1", port);
    options.set_clean_session(false).set_max_packet_size(1 << 22, 1 << 22);
    options.set_keep_alive(Duration::from_secs(5));
    let (client, mut connection) = Client::new(options, 16);
    let (shared, (ready, is_ready)) = (ledger.clone(), std::sync::mpsc::channel());
    std::thread::spawn(move || {
        for event in connection.iter() {
            match event {
                Ok(Event::Incoming(Packet::ConnAck(_))) => drop(client.try_subscribe("#", QoS::AtLeastOnce)),
                Ok(Event::Incoming(Packet::SubAck(_))) => drop(ready.send(())),
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    let payload = String::from_utf8_lossy(&publish.payload).into_owned();
                    shared.lock().unwrap().take(&publish.topic, &payload);
                }
                Ok(_) => {}
                // The broker is down; it is asked again soon.
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    });
    is_ready.recv_timeout(DEADLINE).expect("the subscription stands");
    ledger
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
fn nothing_is_lost_when_broker_and_daemon_are_killed() {
    let mut broker = Broker::start_with(PERSISTENT);
    let ledger = subscribe(broker.port);
    let state = tempfile::tempdir().unwrap();
    let got = || ledger.lock().unwrap().count();
    let arguments = ["--cameras", "3", "--rate", "300"];
    for round in 1..=2u64 {
        let mut board = simulate(broker.port, state.path(), &arguments);
        let before = got();
        wait_for("events", || (got() >= before + 200).then_some(()));
        broker.restart();
        wait_for("events after the broker's death", || (got() >= before + 600).then_some(()));
        board.kill().unwrap();
        board.wait().unwrap();
        assert!(got() >= 600 * round);
    }
    let told =
        outcome(simulate(broker.port, state.path(), &["--cameras", "3", "--rate", "300", "--events", "300"]));
    assert_eq!((&told["waiting"], &told["lost"]), (&json!(0), &json!(0)), "{told}");
    let last = told["acknowledged"].as_u64().unwrap();
    assert!(last >= 300);
    let ledger = ledger.lock().unwrap();
    assert_eq!(ledger.faults, [""; 0]);
    assert_eq!((ledger.missing(), ledger.streams.len()), (0, 3), "one stream of three cameras");
    assert!(ledger.gaps.is_empty());
}

#[test]
fn what_was_seen_while_no_broker_was_there_arrives_and_old_detections_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let config = format!(
        "node.name = 'porch'\noutbox.file = '{}/outbox.db'\n[cameras.yard]\nsource = '{}'\n",
        folder.path().display(),
        clip()
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
    let ledger = subscribe(port);
    subscriber.wait_topic("/yard/detections");
    wait_for("the first event", || {
        ledger
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
    let ledger = ledger.lock().unwrap();
    assert_eq!((ledger.faults.len(), ledger.missing()), (0, 0), "{:?}", ledger.faults);
}

#[test]
fn a_full_disk_costs_the_oldest_and_the_gap_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    // A file system of 2 MiB that nobody else sees. Others than root may have one in a namespace of their own.
    let mut board = Command::new("unshare");
    if !is_root() {
        board.args(["--user", "--map-root-user"]);
    }
    let script = "mount -t tmpfs -o size=2m none \"$0\" && exec \"$@\"";
    board.args(["--mount", "sh", "-c", script]).arg(folder.path()).arg(env!("CARGO_BIN_EXE_camfire"));
    board.args(["simulate", "--json", "--set", "node.name=board", "--set", &format!("mqtt.port={port}")]);
    board.args(["--rate", "1000", "--events", "6000", "--state"]).arg(folder.path());
    let mut board =
        board.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("unshare is part of util-linux");
    // The broker comes when all has been made, far more than the disk holds.
    let mut log = BufReader::new(board.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("events generated") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "the board ended");
    }
    let broker = Broker::start_on(port, PERSISTENT);
    let ledger = subscribe(broker.port);
    let output = board.wait_with_output().unwrap();
    let told: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", stderr(&output)));
    assert_eq!((&told["made"], &told["waiting"]), (&json!(6000), &json!(0)), "{told}");
    let lost = told["lost"].as_u64().unwrap();
    assert!((1000..6000).contains(&lost), "{told}");
    let ledger = ledger.lock().unwrap();
    let newest = ledger.streams.values().flat_map(|known| known.iter().map(|(seq, _)| *seq)).max();
    assert_eq!((ledger.faults.len(), newest), (0, Some(6000)), "{:?}", ledger.faults);
    let counted: u64 = ledger.gaps.last().map(|gap| gap["count"].as_u64().unwrap()).unwrap();
    assert_eq!(ledger.gaps.len(), 1, "{:?}", ledger.gaps);
    assert_eq!((counted, ledger.count()), (lost, 6000 - lost), "{:?}", ledger.gaps);
}

fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0
}

#[test]
fn an_outbox_that_is_no_good_is_set_aside_and_camfire_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("outbox.db");
    std::fs::write(&file, "not a database, and not ours").unwrap();
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

/// A broker that is none: what it does with each connection.
fn false_broker(act: impl Fn(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().flatten().for_each(act));
    port
}

/// Says yes to a connection and to pings, and acknowledges nothing.
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
fn brokers_that_do_not_do_their_work_are_left_for_the_next() {
    let good = Broker::start();
    let subscriber = good.subscribe();
    // Held, so that these connections stay open.
    let held = Arc::new(Mutex::new(Vec::new()));
    let bad = [
        ("hangs", false_broker(move |stream| held.lock().unwrap().push(stream))),
        ("closes at once", false_broker(drop)),
        ("sends garbage", false_broker(|mut stream| drop(stream.write_all(&[0xff; 64])))),
        ("never acknowledges", false_broker(never_acknowledge)),
        ("is not there", free_port()),
    ];
    for (what, port) in bad {
        subscriber.clear();
        let flags = [
            format!("mqtt.port={port}"),
            format!("mqtt.fallbacks=['127.0.0.1:{}']", good.port),
            "mqtt.connect_timeout=1s".into(),
        ];
        let flags: Vec<String> = flags.into_iter().flat_map(|flag| ["--set".into(), flag]).collect();
        let mut camfire = Camfire::run(CAMERA, &flags);
        subscriber.wait(what, |message| {
            message.topic == "camfire/porch/yard/status" && message.json()["state"] == "live"
        });
        assert_eq!(camfire.log().matches("Broker is away").count(), 1, "{what}: {}", camfire.log());
        assert!(camfire.end("TERM").success(), "{what}");
    }
}

/// A way to `broker` on which its answers come late.
fn slow_way(broker: u16, delay: Duration) -> u16 {
    false_broker(move |mut near| {
        let Ok(mut far) = TcpStream::connect((Ipv4Addr::LOCALHOST, broker)) else { return };
        let (mut near_answers, mut far_answers) = (near.try_clone().unwrap(), far.try_clone().unwrap());
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut near, &mut far);
            let _ = far.shutdown(Shutdown::Both);
        });
        std::thread::spawn(move || {
            // The fault itself.
            std::thread::sleep(delay);
            let _ = std::io::copy(&mut far_answers, &mut near_answers);
            let _ = near_answers.shutdown(Shutdown::Both);
        });
    })
}

#[test]
fn a_broker_that_answers_late_is_waited_for_as_long_as_configured() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let port = slow_way(broker.port, Duration::from_secs(3));
    let run = |timeout: &str| {
        let flags = [
            format!("mqtt.port={port}"),
            format!("mqtt.fallbacks=['127.0.0.1:{}']", broker.port),
            format!("mqtt.connect_timeout={timeout}"),
        ];
        let flags: Vec<String> = flags.into_iter().flat_map(|flag| ["--set".into(), flag]).collect();
        Camfire::run(CAMERA, &flags)
    };
    let is_live =
        |message: &Received| message.topic == "camfire/porch/yard/status" && message.json()["state"] == "live";
    let mut hasty = run("1s");
    hasty.wait_log("it does not answer in time");
    subscriber.wait("the next one", is_live);
    // What the first has to say to a connection that was given up is nobody's; seven seconds on it has said it.
    subscriber.wait("a later frame", |message| {
        message.topic.ends_with("/yard/detections") && message.json()["frame"].as_u64() > Some(105)
    });
    assert_eq!(hasty.log().matches("Broker is connected").count(), 1, "{}", hasty.log());
    assert!(hasty.end("TERM").success());
    subscriber.clear();
    let patient = run("20s");
    subscriber.wait("late, but there", is_live);
    assert!(!patient.log().contains("Broker is away"), "{}", patient.log());
}

#[test]
fn a_broker_that_refuses_topics_gets_what_it_allows() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = ["x86_64", "aarch64"]
        .map(|machine| format!("/usr/lib/{machine}-linux-gnu/mosquitto_dynamic_security.so"))
        .into_iter()
        .find(|file| Path::new(file).exists())
        .expect("it is part of Debian's mosquitto");
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
    subscriber.wait("online", |message| message.topic == "camfire/porch/status" && message.payload == "online");
    assert!(subscriber.all().iter().all(|message| !message.topic.ends_with("/yard/detections")));
    assert!(!camfire.log().contains("Broker is away"), "{}", camfire.log());
}

#[test]
fn a_message_that_the_broker_does_not_take_holds_up_no_other() {
    // Mosquitto ends the connection of whoever sends more than this.
    let broker = Broker::start_with("allow_anonymous true\nmax_packet_size 20000\n");
    let subscriber = broker.subscribe();
    let config = format!(
        "node.name = 'porch'\npictures.publish = true\npictures.quality = 95\n[cameras.yard]\nsource = '{}'\n",
        clip()
    );
    let camfire = Camfire::run(&config, &broker.flags());
    camfire.wait_log("it is given up");
    subscriber.clear();
    subscriber.wait_topic("/yard/events");
    subscriber.wait_topic("/yard/detections");
    assert!(camfire.log().contains("topic=\"camfire/porch/yard/picture\""), "{}", camfire.log());
}

#[test]
fn commands_are_carried_out_and_answered() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    subscriber.publish("camfire/porch/yard/command", br#"{"do":"pause"}"#, true);
    subscriber.wait_topic("/yard/command");
    let mut flags = broker.flags();
    flags.extend(["--set".into(), "commands.accept=true".into()]);
    let camfire = Camfire::run(CAMERA, &flags);
    subscriber.wait_state("yard", "live");
    // One that the broker had kept was meant for another time.
    camfire.wait_log("retained command");
    let say = |camera: &str, command: Value| {
        subscriber.clear_topic("/answer");
        subscriber.publish(&format!("camfire/porch{camera}/command"), command.to_string().as_bytes(), false);
        let answer = subscriber.wait_topic("/answer").json();
        assert_valid("answer", &answer);
        answer
    };
    assert_valid("settings", &subscriber.wait_topic("/yard/settings").json());
    assert_eq!(say("/yard", json!({"do": "pause", "id": "p"}))["id"], "p");
    subscriber.wait_state("yard", "paused");
    subscriber.wait("settings", |message| {
        message.topic.ends_with("/yard/settings") && message.json()["watching"] == false
    });
    subscriber.clear();
    assert_eq!(say("/yard", json!({"do": "resume"}))["ok"], true);
    subscriber.wait_state("yard", "live");
    say("/yard", json!({"do": "snapshot"}));
    let picture = subscriber.wait_topic("/yard/snapshot");
    assert!(picture.payload.contains("JFIF"));
    assert_eq!(say("/yard", json!({"do": "set", "rate_fps": 1}))["ok"], true);
    assert_eq!(say("/garden", json!({"do": "pause"}))["ok"], false);
    assert_eq!(say("/yard", json!({"do": "set", "source": "file:///etc/passwd"}))["ok"], false);
    subscriber.clear_topic("/stats");
    assert_eq!(say("", json!({"do": "stats"}))["ok"], true);
    subscriber.wait_topic("/stats");
    let history = say("", json!({"do": "history", "camera": "yard", "since": 0}));
    let told = history["messages"].as_array().unwrap();
    assert_eq!(told[0]["payload"]["seq"], 1);
    assert_eq!(told.len() as u64, history["last_seq"].as_u64().unwrap());
    assert_eq!(say("/yard", json!("pause"))["ok"], false);
    assert_eq!(say("", json!({"do": "reload"}))["ok"], true);
    camfire.wait_log("Reloading the configuration");
    subscriber.wait("online again", |message| message.topic == "camfire/porch/status" && message.payload == "online");
}

#[test]
fn a_configuration_that_is_wrong_is_not_taken_on_reload() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("camfire.toml");
    std::fs::write(&file, CAMERA).unwrap();
    let camfire = Camfire::run_file(&file, &broker.flags());
    subscriber.wait_state("yard", "live");
    std::fs::write(&file, format!("{CAMERA}rate_fps = -1\n")).unwrap();
    crate::support::send_signal("HUP", camfire.id());
    camfire.wait_log("The new configuration is invalid");
    std::fs::write(&file, format!("{CAMERA}[cameras.door]\nsource = 'test://'\n")).unwrap();
    crate::support::send_signal("HUP", camfire.id());
    subscriber.wait_state("door", "live");
}

#[test]
fn home_assistant_is_told_what_there_is_and_what_is_gone() {
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
    assert_eq!(of("camfire_-porch_-door").payload, "", "it is taken back");
    assert!(camfire.end("TERM").success());
    subscriber.clear();
    flags.extend(["--set".into(), "homeassistant.discovery=false".into()]);
    let _camfire = Camfire::run(CAMERA, &flags);
    assert_eq!(of("camfire_-porch").payload, "");
    assert_eq!(of("camfire_-porch_-yard").payload, "");
}

#[test]
fn events_are_told_in_frigates_shape_too() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let mut flags = broker.flags();
    flags.extend(["--set".into(), "frigate.events=true".into()]);
    let config = format!("node.name = 'porch'\n[cameras.yard]\nsource = '{}'\n", clip());
    let _camfire = Camfire::run(&config, &flags);
    let told = subscriber.wait("frigate/events", |message| message.topic == "frigate/events").json();
    assert_eq!((&told["type"], &told["after"]["camera"]), (&json!("new"), &json!("yard")));
    let ours = subscriber.wait_topic("/yard/events").json();
    assert_eq!(told["after"]["id"], ours["id"]);
}

#[test]
fn a_broker_that_wants_certificates_gets_one_and_wrong_ones_are_named() {
    let folder = tempfile::tempdir().unwrap();
    make_certificates(folder.path());
    let dir = folder.path().display().to_string();
    let lines = |server: &str| {
        format!(
            "allow_anonymous true\nrequire_certificate true\ncafile {dir}/ca.pem\ncertfile {dir}/{server}.pem\n\
             keyfile {dir}/{server}.key\n"
        )
    };
    let try_with = |broker: &Broker, pairs: &[(&str, &str)]| {
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
    let own = [("cert_file", "board.pem"), ("key_file", "board.key")];
    let broker = Broker::start_with(&lines("server"));
    try_with(&broker, &own).wait_log("Broker is connected");
    for (pairs, why) in [
        (&[][..], "certificate"),
        (&[("cert_file", "board.pem"), ("key_file", "server.key")][..], "mqtt.key_file"),
        (&[("cert_file", "board.pem"), ("key_file", "nothing.key")][..], "nothing.key"),
        (&[("cert_file", "stranger.pem"), ("key_file", "stranger.key")][..], "error"),
    ] {
        let camfire = try_with(&broker, pairs);
        camfire.wait_log("Broker is away");
        // The broker hangs up as soon as it has said so: now and then that is all that arrives of it, until the next try.
        camfire.wait_log(why);
        assert!(!camfire.log().contains("Broker is connected"), "{why}");
    }
    for (server, why) in [("expired", "expired"), ("other-host", "IP address mismatch")] {
        let broker = Broker::start_with(&lines(server));
        let camfire = try_with(&broker, &own);
        camfire.wait_log("Broker is away");
        camfire.wait_log(why);
    }
}

#[test]
fn the_protocol_is_named_where_a_port_is_shared() {
    let folder = tempfile::tempdir().unwrap();
    make_certificates(folder.path());
    let port = free_port();
    // It says what it has agreed on, and is no broker.
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
    assert!(lines.any(|line| line == "ACCEPT"), "it listens");
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
