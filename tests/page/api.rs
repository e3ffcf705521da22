//! The API: every resource is as `docs/openapi.json` says, events are found, pictures are those of the store,
//! and changes and live pictures come as they happen.

use super::{Node, connect, request, yard};
use crate::support::{Broker, root, small_clip, wait_for};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read, Write},
};

/// The description of the API.
pub fn openapi() -> Value {
    serde_json::from_str(&fs::read_to_string(root().join("docs/openapi.json")).unwrap()).unwrap()
}

/// What is wrong with a value that should have the schema `name`.
pub fn faults(openapi: &Value, name: &str, value: &Value) -> Vec<String> {
    let mut schema = json!({ "$ref": format!("#/components/schemas/{name}") });
    schema["components"] = openapi["components"].clone();
    let validator = jsonschema::validator_for(&schema).unwrap();
    validator.iter_errors(value).map(|error| format!("{name}{}: {error}", error.instance_path())).collect()
}

#[test]
fn every_resource_is_as_documented() {
    let node = Node::start_with(
        "",
        &format!(
            "[cameras.yard]\nsource = '{}'\nrate_fps = 5\nzones.lawn = [[0.0, 0.3], [1.0, 0.3], [1.0, 1.0], [0.0, 1.0]]\n\
             masks = [[[0.0, 0.0], [0.1, 0.0], [0.1, 0.1]]]\n\
             [cameras.yard.regions.gate]\nbox = [0.1, 0.1, 0.3, 0.3]\n",
            small_clip()
        ),
    );
    let openapi = openapi();
    let events = node.wait_events("an event that has ended", |events| {
        events.iter().any(|event| event["type"] == "end")
            && events.iter().any(|event| event["picture"] == "stored")
    });
    let id =
        events.iter().find(|event| event["picture"] == "stored").unwrap()["id"].as_str().unwrap().to_string();
    let paths = openapi["paths"].as_object().unwrap();
    for (path, operations) in paths {
        let server = operations["servers"][0]["url"].as_str().unwrap_or("/api/v1").trim_end_matches('/');
        let concrete = format!("{server}{}", path.replace("{name}", "yard").replace("{id}", &id));
        for (method, operation) in operations.as_object().unwrap() {
            let responses = &operation["responses"];
            let content = responses["200"]["content"].as_object();
            let media = content.and_then(|content| content.keys().next()).cloned().unwrap_or_default();
            // Streams and what changes something have tests of their own.
            if method != "get" || media.starts_with("multipart/") || media == "text/event-stream" {
                continue;
            }
            let answer = node.get(&concrete);
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            assert!(
                answer.header("content-type").starts_with(&media),
                "{path}: {}",
                answer.header("content-type")
            );
            if let Some(name) = responses["200"]["content"]["application/json"]["schema"]["$ref"].as_str() {
                let name = name.rsplit('/').next().unwrap();
                assert_eq!(faults(&openapi, name, &answer.json()), [""; 0], "{path}");
            }
        }
    }
    for path in ["/cameras/attic", "/events/7", "/events/01a2225e-0000-7000-8000-000000000000", "/nothing"] {
        let answer = node.get(&format!("/api/v1{path}"));
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(faults(&openapi, "Error", &answer.json()), [""; 0], "{path}");
    }
    let answer = node.send("PUT", "/cameras", &json!({}));
    assert_eq!((answer.status, faults(&openapi, "Error", &answer.json())), (405, Vec::new()));
    // What is served is what the program knows.
    assert_eq!(node.json("/openapi.json"), openapi);
    assert_eq!(node.json("/session")["role"], "admin", "no password is needed on this machine");
}

#[test]
fn events_are_filtered_and_paged() {
    let node = Node::start("");
    let events = node.wait_events("four events", |events| events.len() >= 4);
    let newest_first: Vec<&str> = events.iter().map(|event| event["started_at"].as_str().unwrap()).collect();
    assert!(newest_first.is_sorted_by(|a, b| a >= b), "{newest_first:?}");
    // One after the other, until the events that were there are found again.
    let (mut found, mut next) = (Vec::new(), String::new());
    while found.len() < 3 {
        let page = node.json(&format!("/events?limit=1&to={}{next}", newest_first[0]));
        assert_eq!(page["events"].as_array().unwrap().len(), 1);
        found.push(page["events"][0]["id"].clone());
        next = format!("&before={}", page["next"].as_str().unwrap_or("none"));
    }
    assert_eq!(found, events.iter().skip(1).take(3).map(|event| event["id"].clone()).collect::<Vec<_>>());
    let ids = |query: &str| -> BTreeSet<String> {
        let page = node.json(&format!("/events?{query}"));
        page["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["id"].as_str().unwrap().to_string())
            .collect()
    };
    let animals = ids("label=animal");
    let cats = ids("label=cat");
    assert!(!cats.is_empty() && cats.is_subset(&animals), "a label is found by those that contain it");
    assert!(ids("camera=yard").len() >= 4 && ids("camera=attic").is_empty() && ids("zone=lawn").is_empty());
    assert!(ids("to=2020-01-01T00:00:00Z").is_empty() && ids("from=2100-01-01T00:00:00Z").is_empty());
    for query in ["limit=0", "limit=201", "limit=x", "from=yesterday", "before=7", "colour=red"] {
        let answer = node.get(&format!("/api/v1/events?{query}"));
        assert_eq!(answer.status, 400, "{query}: {}", answer.text());
    }
}

#[test]
fn pictures_are_those_of_the_store_and_a_removed_one_is_said_to_be() {
    let node = Node::start("");
    let events = node.wait_events("an event that has ended, with a picture", |events| {
        events.iter().any(|event| event["type"] == "end" && event["picture"] == "stored")
    });
    let event = events.iter().find(|event| event["type"] == "end" && event["picture"] == "stored").unwrap();
    let id = event["id"].as_str().unwrap();
    for kind in ["annotated", "crop", "frame"] {
        let answer = node.get(&format!("/api/v1/events/{id}/picture?kind={kind}"));
        let file =
            node.folder.path().join("pictures").join(event["best"]["pictures"][kind].as_str().unwrap());
        assert_eq!((answer.status, answer.header("content-type")), (200, "image/jpeg"));
        assert!(answer.body == fs::read(&file).unwrap(), "{kind}");
        let known = [("If-None-Match", answer.header("etag"))];
        let again = node.try_request("GET", &format!("/api/v1/events/{id}/picture?kind={kind}"), &known, b"");
        assert_eq!(again.unwrap().status, 304);
    }
    assert_eq!(node.get(&format!("/api/v1/events/{id}/picture?kind=other")).status, 400);
    fs::remove_dir_all(node.folder.path().join("pictures")).unwrap();
    let answer = node.get(&format!("/api/v1/events/{id}/picture"));
    // Right after its end it may still be written.
    assert!([404, 410].contains(&answer.status), "{}", answer.status);
    wait_for("the picture to count as removed", || {
        (node.json(&format!("/events/{id}"))["picture"] == "removed").then_some(())
    });
    assert_eq!(node.get(&format!("/api/v1/events/{id}/picture")).status, 410);
}

#[test]
fn changes_come_as_they_happen() {
    let node = Node::start("");
    let mut stream = connect(node.port).unwrap();
    write!(stream, "GET /api/v1/changes HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut seen = BTreeSet::new();
    let openapi = openapi();
    let mut name = String::new();
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap();
        if let Some(text) = line.strip_prefix("event: ") {
            name = text.to_string();
        }
        let Some(data) = line.strip_prefix("data: ") else { continue };
        let schema = match name.as_str() {
            "event" => "Event",
            "camera" => "Camera",
            _ => continue,
        };
        assert_eq!(faults(&openapi, schema, &serde_json::from_str(data).unwrap()), [""; 0]);
        let is_first = seen.insert(name.clone());
        if is_first && name == "event" {
            // A setting that is changed is told as well.
            assert_eq!(node.send("POST", "/cameras/yard/command", &json!({ "do": "pause" })).status, 204);
        }
        if data.contains("\"watching\":false") {
            break;
        }
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["camera", "event"]);
    wait_for("the camera to be paused", || {
        (node.json("/cameras/yard")["status"]["state"] == "paused").then_some(())
    });
}

#[test]
fn a_pause_survives_a_restart_and_is_resumed() {
    let mut node = Node::start("");
    assert_eq!(node.send("POST", "/cameras/yard/command", &json!({ "do": "pause" })).status, 204);
    node.restart();
    let camera = node.json("/cameras/yard");
    assert_eq!(camera["settings"]["watching"], false);
    assert!(camera["settings"]["since"]["watching"].is_string());
    assert_eq!(node.get("/api/v1/cameras/yard/picture").status, 503);
    assert_eq!(node.send("POST", "/cameras/yard/command", &json!({ "do": "resume" })).status, 204);
    wait_for("the camera to be live", || {
        (node.json("/cameras/yard")["status"]["state"] == "live").then_some(())
    });
    for body in [json!({}), json!({ "do": "explode" }), json!({ "do": "pause", "more": 1 })] {
        assert_eq!(node.send("POST", "/cameras/yard/command", &body).status, 400, "{body}");
    }
    let plain = node.try_request("POST", "/api/v1/cameras/yard/command", &[], br#"{"do":"pause"}"#).unwrap();
    assert_eq!(plain.status, 415);
}

#[test]
fn a_pause_on_the_page_is_a_state_on_the_broker() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let environment = [("CAMFIRE_MQTT__PORT", broker.port.to_string())];
    let node = Node::start_in("commands.accept = true", &yard(&small_clip()), &environment);
    subscriber.wait_state("yard", "live");
    assert_eq!(node.send("POST", "/cameras/yard/command", &json!({ "do": "pause" })).status, 204);
    subscriber.wait("the settings of a paused camera", |message| {
        message.topic.ends_with("/yard/settings") && message.json()["watching"] == false
    });
    subscriber.wait_state("yard", "paused");
}

#[test]
fn the_live_view_sends_frames_with_what_was_found_in_them() {
    let node = Node::start("");
    let mut stream = connect(node.port).unwrap();
    write!(stream, "GET /api/v1/cameras/yard/live HTTP/1.0\r\n\r\n").unwrap();
    let mut reader = BufReader::new(stream);
    let openapi = openapi();
    let (mut frames, mut with_objects, mut with_motion) = (0, 0, 0);
    while with_objects < 3 || with_motion < 3 {
        let (mut length, mut frame) = (0, None);
        loop {
            let mut line = String::new();
            assert!(reader.read_line(&mut line).unwrap() > 0, "the stream has ended");
            let line = line.trim_end();
            if let Some(text) = line.strip_prefix("Content-Length: ") {
                length = text.parse().unwrap();
            }
            if let Some(text) = line.strip_prefix("Camfire-Frame: ") {
                frame = Some(serde_json::from_str::<Value>(text).unwrap());
            }
            if line.is_empty() && length > 0 {
                break;
            }
        }
        let mut jpeg = vec![0; length];
        reader.read_exact(&mut jpeg).unwrap();
        let frame = frame.expect("each part says what was found");
        assert_eq!(faults(&openapi, "Frame", &frame), [""; 0]);
        assert!(jpeg.starts_with(&[0xff, 0xd8]) && jpeg.ends_with(&[0xff, 0xd9]));
        frames += 1;
        with_objects +=
            usize::from(frame["objects"].as_array().unwrap().iter().any(|object| object["reported"] == true));
        with_motion += usize::from(!frame["motion"]["runs"].as_array().unwrap().is_empty());
        assert!(frames < 600, "{with_objects} with objects, {with_motion} with motion");
    }
    // The newest frame alone. Nobody asks for the size of a camera that nobody has looked at.
    let answer = request(node.port, "GET", "/api/v1/cameras/yard/picture", &[], b"").unwrap();
    assert_eq!((answer.status, answer.header("content-type")), (200, "image/jpeg"));
    assert!(node.json("/cameras/yard")["size"].is_array());
}

#[test]
fn the_page_is_served_with_a_strict_policy() {
    let node = Node::start("");
    let index = node.get("/");
    assert_eq!((index.status, index.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(index.header("content-security-policy").starts_with("default-src 'self';"));
    assert_eq!(index.header("x-content-type-options"), "nosniff");
    // All that the page names is there.
    let text = index.text();
    let names = text.split('"').filter(|part| part.starts_with("./"));
    let names: BTreeSet<&str> = names.collect();
    assert!(names.len() > 2, "{names:?}");
    for name in names {
        assert_eq!(node.get(&name[1..]).status, 200, "{name}");
    }
    for path in
        ["/nothing.js", "/..%2f..%2fetc%2fpasswd", "/%2e%2e/mod.rs", "/page/../mod.rs", "//etc/passwd"]
    {
        assert_eq!(node.get(path).status, 404, "{path}");
    }
}

#[test]
fn the_node_tells_its_warnings() {
    let node = Node::start("");
    let entry = wait_for("a warning", || {
        let log = node.json("/node/log");
        log["entries"].as_array().unwrap().iter().find(|entry| entry["fields"]["broker"].is_string()).cloned()
    });
    assert_eq!((&entry["level"], &entry["message"]), (&json!("warn"), &json!("Broker is away; retrying.")));
    let state = node.json("/node");
    assert_eq!((&state["node"], &state["broker"]["connected"]), (&json!("porch"), &json!(false)));
    let stages: BTreeSet<_> =
        state["stages"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert!(
        ["camera-yard", "publish", "store", "web", "worker-0"].iter().all(|name| stages.contains(name)),
        "{stages:?}"
    );
}
