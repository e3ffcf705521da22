//! What subscribers see of states and events when camfire is killed, renamed and cut off: nothing that is not
//! so, and nothing twice.

use crate::support::{Broker, Camfire, Received, Subscriber, root, wait_for};
use serde_json::Value;
use std::{collections::BTreeSet, path::Path};

/// A camera with people who cross the view again and again.
fn config(camera: &str, outbox: &Path) -> String {
    format!(
        "node.name = 'porch'\nhomeassistant.discovery = true\nfrigate.events = true\npictures.publish = true\n\
         commands.accept = true\noutbox.file = '{}'\n\
         [cameras.{camera}]\nsource = 'file://{}/tests/data/scenes/crossing.mp4'\nloop = true\n\
         labels = ['any', 'unknown']\nregions.gate = {{ hold = '500ms', every = '500ms' }}\n",
        outbox.display(),
        root().display()
    )
}

fn below_node(message: &Received) -> &str {
    message.topic.strip_prefix("camfire/porch/").unwrap_or(&message.topic)
}

/// The retained messages that a new subscriber of `broker` gets: topics without payload.
fn retained_topics(broker: &Broker) -> BTreeSet<String> {
    let subscriber = broker.subscribe();
    // The broker sends what it has retained before what is published after the subscription.
    subscriber.publish("marker", b"", false);
    subscriber.wait_topic("marker");
    let messages = subscriber.all();
    messages.iter().filter(|message| message.retained).map(|message| message.topic.clone()).collect()
}

fn started(subscriber: &Subscriber) -> Value {
    subscriber.wait("a start", |m| m.topic.ends_with("/front/events") && m.json()["type"] == "start").json()
}

#[test]
fn a_killed_node_leaves_nothing_behind_that_is_not_so() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = folder.path().join("outbox.db");
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let mut camfire = Camfire::run(&config("front", &outbox), &broker.flags());
    let start = started(&subscriber);
    subscriber.wait("occupied", |m| m.topic.ends_with("front/occupancy") && m.json()["total"] != 0);
    assert!(!camfire.end("KILL").success());
    let ended: BTreeSet<String> = subscriber
        .all()
        .iter()
        .filter(|message| message.topic.ends_with("/front/events") && message.json()["type"] == "end")
        .map(|message| message.json()["id"].to_string())
        .collect();
    assert!(!ended.contains(&start["id"].to_string()), "it is killed while the object is in view");

    // The same camera again: its states are right before the node is online.
    subscriber.clear();
    let mut camfire = Camfire::run(&config("front", &outbox), &broker.flags());
    // Detections and the state that follows from the first frame are sent in no fixed order.
    subscriber.wait_topic("front/detections");
    subscriber.wait("live", |m| below_node(m) == "front/status" && m.payload.contains("\"live\""));
    let messages = subscriber.all();
    let position = |topic: &str, payload: &str| {
        let found = messages.iter().position(|m| below_node(m) == topic && m.payload.contains(payload));
        found.unwrap_or_else(|| panic!("no {payload:?} on {topic} in {messages:#?}"))
    };
    let online = position("status", "online");
    for (topic, payload) in [
        ("front/occupancy", "\"total\":0"),
        ("front/regions/gate", "\"unknown\""),
        ("front/settings", "\"watching\":true"),
        ("front/status", "\"starting\""),
    ] {
        assert!(position(topic, payload) < online, "{topic}");
    }
    assert!(position("front/status", "\"live\"") > online);
    // What was in view at the kill has ended, on all topics.
    let end = |message: &Received, id: &str| {
        let json = message.json();
        (json["type"] == "end") && (json[id] == start["id"] || json["after"][id] == start["id"])
    };
    for topic in ["front/events", "front/events/live", "frigate/events"] {
        let message = subscriber.wait(topic, |m| below_node(m) == topic && end(m, "id")).json();
        if topic != "frigate/events" {
            assert_eq!((&message["reason"], &message["label"]), (&"interrupted".into(), &start["label"]));
        }
    }

    // Another camera in its place: all topics of the old one are cleared, also after a kill.
    camfire.end("KILL");
    let mut camfire = Camfire::run(&config("drive", &outbox), &broker.flags());
    subscriber.wait_topic("drive/detections");
    wait_for("the topics of the old camera to be cleared", || {
        retained_topics(&broker).iter().all(|topic| !topic.contains("front")).then_some(())
    });
    assert!(retained_topics(&broker).contains("camfire/porch/drive/status"));

    // Another name of the node.
    assert!(camfire.end("TERM").success());
    let renamed = config("drive", &outbox).replace("porch", "attic");
    let _camfire = Camfire::run(&renamed, &broker.flags());
    subscriber.wait_topic("attic/drive/detections");
    wait_for("the topics of the old node to be cleared", || {
        retained_topics(&broker).iter().all(|topic| !topic.contains("porch")).then_some(())
    });
}

#[test]
fn pictures_come_before_their_events_and_events_once() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = folder.path().join("outbox.db");
    let mut broker =
        Broker::start_with("allow_anonymous true\npersistence true\npersistence_location {dir}/\n");
    let subscriber = broker.subscribe();
    let camfire = Camfire::run(&config("front", &outbox), &broker.flags());
    let ends = |subscriber: &Subscriber| {
        subscriber.wait("an end", |m| m.topic.ends_with("events/live") && m.json()["type"] == "end");
    };
    ends(&subscriber);
    let of_interest = ["front/picture", "front/events/live", "frigate/events", "front/events"];
    let all = subscriber.all();
    let order: Vec<(&str, &Received)> = all
        .iter()
        .filter(|message| !message.retained)
        .filter_map(|message| {
            let topic = of_interest.into_iter().find(|topic| below_node(message) == *topic)?;
            Some((topic, message))
        })
        .collect();
    let starts = order
        .iter()
        .enumerate()
        .filter(|(_, (topic, message))| *topic == "front/events/live" && message.json()["type"] == "start");
    let mut count = 0;
    for (position, (_, start)) in starts {
        count += 1;
        let id = &start.json()["id"];
        assert_eq!(order[position - 1].0, "front/picture", "directly before");
        let others = order.iter().enumerate().filter(|(_, (topic, message))| {
            let is_other = matches!(*topic, "front/events" | "frigate/events");
            is_other && (message.json()["id"] == *id || message.json()["after"]["id"] == *id)
        });
        assert!(others.map(|(other, _)| other).all(|other| other > position), "after it");
    }
    assert!(count > 0, "{order:#?}");

    // The broker is away while people come and go.
    broker.kill();
    let before = camfire.log().len();
    wait_for("the outage to be noticed", || camfire.log()[before..].contains("Broker is away").then_some(()));
    broker.restart();
    let subscriber = broker.subscribe();
    ends(&subscriber);
    let uids: Vec<String> = subscriber
        .all()
        .iter()
        .filter(|message| message.topic.ends_with("events/live"))
        .map(|message| {
            let event = message.json();
            assert!(event["age_s"].as_f64().unwrap() <= 11.0, "{event}");
            event["uid"].to_string()
        })
        .collect();
    assert_eq!(uids.iter().collect::<BTreeSet<_>>().len(), uids.len(), "no repeats: {uids:?}");
}
