//! Home Assistant's side: its templates are rendered with the daemon's real messages, and the automation that
//! docs/homeassistant.md recommends is run on the demo clip. Jinja2 is the library that Home Assistant uses.

use crate::{
    page::request,
    support::{Broker, Camfire, Received, free_port, root, wait_for},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    io::Write,
    process::{Command, Stdio},
};

/// The automations in the documentation, for the cats of camera `yard` on node `porch`: the first one shows
/// the image entity, the second one has links.
fn documented_automations() -> [String; 2] {
    let manual = std::fs::read_to_string(root().join("docs/homeassistant.md")).unwrap();
    let examples =
        manual.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_string());
    examples.collect::<Vec<_>>().try_into().expect("the documentation has two examples")
}

/// What Home Assistant makes of these messages.
fn homeassistant(messages: &[Received], automation: &str) -> Value {
    const STATES: [&str; 5] = ["/status", "/occupancy", "/settings", "/picture", "/snapshot"];
    let is_state = |topic: &str| STATES.iter().any(|end| topic.ends_with(end)) || topic.contains("/regions/");
    let message =
        |m: &Received| json!({ "topic": m.topic, "payload": m.payload, "retained": is_state(&m.topic) });
    let messages: Vec<Value> = messages.iter().map(message).collect();
    let input = json!({ "messages": messages, "automation": automation });
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
fn the_documented_automations_fire_once_for_every_cat_of_the_demo() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let config = format!(
        "node.name = 'porch'\nstats.interval = '1s'\npictures = {{ publish = true, directory = '{}' }}\n\
         homeassistant.discovery = true\ncommands.accept = true\n\
         web = {{ listen = '127.0.0.1:{port}', public_url = 'http://127.0.0.1:{port}' }}\n\
         [cameras.yard]\nsource = 'file://{}/assets/demo.mp4'\nloop = false\nview_every = '1s'\n\
         zones.middle = [[0.3, 0], [0.7, 0], [0.7, 1], [0.3, 1]]\nregions.left = {{ hold = '1s', every = '1s' }}\n",
        folder.path().display(),
        root().display()
    );
    let mut camfire = Camfire::run(&config, &broker.flags());
    subscriber.wait_state("yard", "ended");
    let messages = subscriber.all();
    let events: Vec<Value> =
        messages.iter().filter(|m| m.topic.ends_with("/yard/events")).map(Received::json).collect();
    let is_cat = |event: &&Value| event["label_path"].as_array().unwrap().contains(&json!("cat"));
    let cats: BTreeSet<String> = events.iter().filter(is_cat).map(|event| event["id"].to_string()).collect();
    assert!(cats.len() >= 2, "{cats:?}");
    let automations = documented_automations();

    // The second automation fires once for each cat, with links that open on a phone.
    let fired = homeassistant(&messages, &automations[1])["fired"].as_array().unwrap().clone();
    assert_eq!(fired.len(), cats.len(), "{fired:#?}");
    for notification in &fired {
        let data = &notification["data"];
        let event = events.iter().find(|event| event["uid"] == notification["uid"]).unwrap();
        let (image, page) = (data["image"].as_str().unwrap(), data["url"].as_str().unwrap());
        assert_eq!(
            (image, page),
            (event["links"]["picture"].as_str().unwrap(), data["clickAction"].as_str().unwrap())
        );
        assert!(page.ends_with(&format!("/#/events/{}", event["id"].as_str().unwrap())), "{page}");
        let path = image.strip_prefix(&format!("http://127.0.0.1:{port}")).unwrap();
        let answer = wait_for("the picture", || request(port, "GET", path, &[], b""));
        assert_eq!(answer.status, 200, "{image}");
    }
    assert!(camfire.end("TERM").success());
    let messages = subscriber.all();
    let seen = homeassistant(&messages, &automations[0]);

    // Every entity has a state, and each has been read from real messages.
    let entities = seen["entities"].as_object().unwrap();
    for (id, entity) in entities {
        let is_button = id.starts_with("button.");
        assert!(is_button || !entity["states"].as_array().unwrap().is_empty(), "{id} has no state");
    }
    assert!(entities.len() > 40, "{}", entities.len());
    let zone = &entities["binary_sensor.yard_porch_zone_middle_occupied"]["states"];
    assert!(zone.as_array().unwrap().contains(&json!("ON")), "{zone}");
    let counts = &entities["sensor.yard_porch_number_of_cat"]["states"];
    assert!(counts.as_array().unwrap().contains(&json!("1")), "{counts}");

    // The first automation fires once for each cat, with the picture of that event.
    let fired = seen["fired"].as_array().unwrap();
    assert_eq!(fired.len(), cats.len(), "{fired:#?}");
    for notification in fired {
        assert_eq!(notification["message"], "cat in the yard");
        // The picture directly before the event on the wire.
        let position = messages
            .iter()
            .position(|m| m.topic.ends_with("/events/live") && m.json()["uid"] == notification["uid"]);
        let picture = messages[..position.unwrap()].iter().rev().find(|m| m.topic.ends_with("/yard/picture"));
        assert_eq!(notification["data"]["image"], picture.unwrap().payload);
    }
}
