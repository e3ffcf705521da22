//! Home Assistant's side: its templates are rendered with the daemon's real messages, and the automation that
//! docs/homeassistant.md recommends is run on the demo clip. Jinja2 is the library that Home Assistant uses.

use crate::support::{Broker, Camfire, Received, root};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    io::Write,
    process::{Command, Stdio},
};

/// The automation in the documentation, for the cats of camera `yard` on node `porch`.
fn documented_automation() -> String {
    let manual = std::fs::read_to_string(root().join("docs/homeassistant.md")).unwrap();
    let example = manual.split("```yaml\n").nth(1).expect("the documentation has an example");
    example.split("```").next().unwrap().to_string()
}

/// What Home Assistant makes of these messages.
fn homeassistant(messages: &[Received]) -> Value {
    const STATES: [&str; 5] = ["/status", "/occupancy", "/settings", "/picture", "/snapshot"];
    let is_state = |topic: &str| STATES.iter().any(|end| topic.ends_with(end)) || topic.contains("/regions/");
    let message =
        |m: &Received| json!({ "topic": m.topic, "payload": m.payload, "retained": is_state(&m.topic) });
    let messages: Vec<Value> = messages.iter().map(message).collect();
    let input = json!({ "messages": messages, "automation": documented_automation() });
    let mut python = Command::new("/usr/bin/python3")
        .arg(root().join("tests/support/homeassistant.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3-jinja2 is installed by make test");
    python.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "see above");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_documented_automation_fires_once_for_every_cat_of_the_demo() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let config = format!(
        "node.name = 'porch'\nstats.interval = '1s'\npictures.publish = true\nhomeassistant.discovery = true\n\
         commands.accept = true\n\
         [cameras.yard]\nsource = 'file://{}/assets/demo.mp4'\nloop = false\nview_every = '1s'\n\
         zones.middle = [[0.3, 0], [0.7, 0], [0.7, 1], [0.3, 1]]\nregions.left = {{ hold = '1s', every = '1s' }}\n",
        root().display()
    );
    let mut camfire = Camfire::run(&config, &broker.flags());
    subscriber.wait_state("yard", "ended");
    assert!(camfire.end("TERM").success());
    let messages = subscriber.all();
    let seen = homeassistant(&messages);

    // Every entity has a state, and each has been read from real messages.
    let entities = seen["entities"].as_object().unwrap();
    for (id, entity) in entities {
        let is_button = id.starts_with("button.");
        assert!(is_button || !entity["states"].as_array().unwrap().is_empty(), "{id} has no state");
    }
    assert!(entities.len() > 40, "{}", entities.len());
    let zone = &entities["binary_sensor.yard_porch_zone_middle_occupied"]["states"];
    assert!(zone.as_array().unwrap().contains(&json!("ON")), "{zone}");
    let cats = &entities["sensor.yard_porch_number_of_cat"]["states"];
    assert!(cats.as_array().unwrap().contains(&json!("1")), "{cats}");

    // The automation fires once for each cat, with the picture of that event.
    let events: Vec<Value> =
        messages.iter().filter(|m| m.topic.ends_with("/yard/events")).map(Received::json).collect();
    let is_cat = |event: &&Value| event["label_path"].as_array().unwrap().contains(&json!("cat"));
    let cats: BTreeSet<String> = events.iter().filter(is_cat).map(|event| event["id"].to_string()).collect();
    let fired = seen["fired"].as_array().unwrap();
    assert!(cats.len() >= 3, "{cats:?}");
    assert_eq!(fired.len(), cats.len(), "{fired:#?}");
    for notification in fired {
        assert_eq!(notification["message"], "cat in the yard");
        // The picture directly before the event on the wire.
        let position = messages
            .iter()
            .position(|m| m.topic.ends_with("/events/live") && m.json()["uid"] == notification["uid"]);
        let picture = messages[..position.unwrap()].iter().rev().find(|m| m.topic.ends_with("/yard/picture"));
        assert_eq!(notification["image"], picture.unwrap().payload);
    }
}
