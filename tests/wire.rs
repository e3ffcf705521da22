//! The wire contract: published messages match the schemas and the documentation, and frame counts add up.

use crate::support::{Broker, Camfire, Received, camfire_output, clip, root, stderr};
use serde_json::Value;

fn schema(name: &str) -> jsonschema::Validator {
    let file = root().join("docs/schemas").join(name);
    let text = std::fs::read_to_string(&file).unwrap();
    jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap()
}

fn assert_valid(schema: &jsonschema::Validator, message: &Value) {
    let errors: Vec<String> = schema.iter_errors(message).map(|e| e.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?} in {message:#}");
}

fn count(stats: &Received, camera: &str, key: &str) -> u64 {
    stats.json()["cameras"][camera][key].as_u64().unwrap()
}

fn add_up(stats: &Received, camera: &str) -> bool {
    let parts = ["analysed", "skipped_rate", "skipped_still", "shed", "dropped", "failed", "pending"];
    count(stats, camera, "captured") == parts.map(|key| count(stats, camera, key)).iter().sum::<u64>()
}

#[test]
fn messages_match_their_schemas_and_frame_counts_add_up() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "node.name = 'porch'\nhomeassistant.discovery = true\nstats.interval = '1s'\npictures = {{ publish = true, directory = '{}' }}\n\
         [cameras.yard]\nsource = '{}'\nrate_fps = 4\nheatmap = true\n\
         regions.all = {{ every = '500ms', hold = '500ms' }}\n\
         [cameras.test]\nsource = 'test://ball'\noptions = {{ width = 320, height = 240, fps = 10 }}\n\
         rate_fps = 3\n",
        folder.path().display(),
        clip()
    );
    let mut camfire = Camfire::run(&config, &broker.flags());
    subscriber.wait_topic("camfire/porch/yard/detections");
    subscriber.wait_topic("camfire/porch/test/detections");
    subscriber.wait_topic("/yard/events");
    subscriber.wait_topic("/yard/regions/all");
    subscriber.wait_topic("/yard/picture");
    subscriber.wait_topic("/yard/heatmap");
    subscriber.wait("stats with skipped frames", |message| {
        message.topic == "camfire/porch/stats" && count(message, "yard", "skipped_rate") > 0
    });
    assert!(camfire.end("TERM").success());
    subscriber
        .wait("offline", |message| message.topic == "camfire/porch/status" && message.payload == "offline");

    let (detections, status, stats) =
        (schema("detections.json"), schema("camera-status.json"), schema("stats.json"));
    let (event, region) = (schema("event.json"), schema("region.json"));
    let mut last_stats = None;
    let mut ids = Vec::new();
    for message in subscriber.all() {
        if message.topic.starts_with("homeassistant/") {
            continue;
        }
        match message.topic.strip_prefix("camfire/porch/").expect(&message.topic) {
            "status" => assert!(["online", "offline"].contains(&message.payload.as_str())),
            "stats" => {
                assert_valid(&stats, &message.json());
                assert!(add_up(&message, "yard") && add_up(&message, "test"), "{}", message.payload);
                last_stats = Some(message);
            }
            "yard/status" | "test/status" => assert_valid(&status, &message.json()),
            "yard/detections" | "test/detections" => {
                assert_valid(&detections, &message.json());
                assert_eq!(message.json()["capture_clock"], "pipeline");
            }
            "yard/events" | "test/events" => {
                assert_eq!(message.qos, rumqttc::QoS::AtLeastOnce);
                let message = message.json();
                assert_valid(&event, &message);
                // All files have been written, because camfire has exited.
                let pictures = &message["best"]["pictures"];
                for what in ["crop", "frame", "annotated"] {
                    let file = folder.path().join(pictures[what].as_str().unwrap());
                    assert!(std::fs::read(&file).unwrap().starts_with(&[0xff, 0xd8]), "{file:?}");
                }
                ids.push((message["id"].clone(), message["type"].clone()));
            }
            "yard/events/live" | "test/events/live" => {
                assert_valid(&schema("live-event.json"), &message.json())
            }
            "yard/history" | "test/history" => assert_valid(&schema("history.json"), &message.json()),
            "yard/regions/all" => assert_valid(&region, &message.json()),
            "yard/picture" | "test/picture" | "yard/heatmap" => {}
            "test/occupancy" | "yard/occupancy" => assert_valid(&schema("occupancy.json"), &message.json()),
            "test/scene" | "yard/scene" => assert_valid(&schema("scene.json"), &message.json()),
            other => panic!("undocumented topic {other}"),
        }
    }
    // Every track has ended, at the latest when camfire stopped.
    let of = |kind: &str| ids.iter().filter(|(_, other)| other == kind).map(|(id, _)| id).collect::<Vec<_>>();
    assert!(!of("start").is_empty());
    assert!(of("start").iter().all(|id| of("end").contains(id)), "{ids:?}");
    // The last stats are published after the workers have stopped: no frame is pending, and each analysed
    // frame has been published.
    let last_stats = last_stats.expect("stats at the end");
    let analysed = subscriber.all().iter().filter(|h| h.topic.ends_with("/detections")).count();
    let both = |key| [count(&last_stats, "yard", key), count(&last_stats, "test", key)];
    assert_eq!(both("pending"), [0, 0]);
    assert_eq!(both("analysed").iter().sum::<u64>(), analysed as u64);
    let latency = &last_stats.json()["cameras"]["yard"]["latency_ms"];
    assert!(latency.as_object().unwrap().keys().len() == 5, "{latency}");
}

#[test]
fn documented_examples_match_the_schemas() {
    let manual = std::fs::read_to_string(root().join("docs/mqtt.md")).unwrap();
    let examples: Vec<Value> = manual
        .split("```json\n")
        .skip(1)
        .map(|rest| serde_json::from_str(rest.split("```").next().unwrap()).unwrap())
        .collect();
    let names = [
        "gap",
        "event",
        "region",
        "scene",
        "occupancy",
        "history",
        "settings",
        "answer",
        "detections",
        "camera-status",
        "stats",
    ];
    assert_eq!(examples.len(), names.len());
    for (example, name) in examples.iter().zip(names) {
        assert_valid(&schema(&format!("{name}.json")), example);
    }
}

#[test]
fn watch_prints_received_messages() {
    let broker = Broker::start();
    let config = "[cameras.test]\nsource = 'test://smpte'\n";
    let _camfire = Camfire::run(config, &broker.flags());
    let port = format!("mqtt.port={}", broker.port);
    let plain = camfire_output(&["watch", "--detections", "--set", &port, "--count", "2"]);
    assert!(plain.status.success(), "{}", stderr(&plain));
    let text = String::from_utf8(plain.stdout).unwrap();
    assert_eq!(text.lines().count(), 2);
    assert!(text.lines().all(|line| line.contains("  test  ") && line.ends_with(" ms)")), "{text}");

    let json = camfire_output(&["watch", "--detections", "--set", &port, "--count", "1", "--json"]);
    let line: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert!(line["topic"].as_str().unwrap().ends_with("/test/detections"));
    assert_valid(&schema("detections.json"), &line["payload"]);
}
