//! The preview of a setup: it tells at once what the last minutes would have been, changes nothing, and
//! cannot be used to overload the node.

use super::{Node, api, request};
use crate::support::{small_clip, wait_for};
use serde_json::{Value, json};
use std::thread;

/// A node that has seen objects.
fn node(more: &str) -> Node {
    let cameras = format!(
        "[cameras.yard]\nsource = '{}'\nrate_fps = 5\nzones.lawn = [[0, 0.3], [1, 0.3], [1, 1], [0, 1]]\n",
        small_clip()
    );
    let node = Node::start_with(more, &cameras);
    node.wait_events("an event that has ended", |events| events.iter().any(|event| event["type"] == "end"));
    node
}

fn preview(node: &Node, values: &Value) -> Value {
    let answer = node.send("POST", "/cameras/yard/preview", values);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn reported(preview: &Value) -> Vec<&Value> {
    preview["tracks"].as_array().unwrap().iter().filter(|track| track["reported"] == true).collect()
}

#[test]
fn the_last_minutes_are_seen_again_with_other_values() {
    let node = node("");
    let same = preview(&node, &json!({}));
    assert_eq!(api::faults(&api::openapi(), "Preview", &same), [""; 0]);
    assert_eq!(same["size"], json!([640, 360]));
    let seen = reported(&same);
    let event_labels: Vec<Value> = node.json("/events")["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["label"].clone())
        .collect();
    assert!(!seen.is_empty(), "{same:#}");
    assert!(seen.iter().any(|track| event_labels.contains(&track["label"])), "{same:#} {event_labels:?}");
    assert!(seen.iter().any(|track| track["zones"] == json!(["lawn"])), "{same:#}");
    // Each value has its effect.
    let whole = json!([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]);
    assert_eq!(preview(&node, &json!({ "masks": [whole] }))["tracks"], json!([]));
    assert_eq!(preview(&node, &json!({ "min_size": 1.0 }))["tracks"], json!([]));
    assert_eq!(preview(&node, &json!({ "motion_threshold": 255 }))["tracks"], json!([]));
    let strict = preview(&node, &json!({ "score": 1.0 }));
    assert!(reported(&strict).is_empty() && !strict["tracks"].as_array().unwrap().is_empty(), "{strict:#}");
    assert!(strict["tracks"][0]["why"].is_string());
    let renamed = preview(&node, &json!({ "zones": { "all": whole } }));
    assert!(reported(&renamed).iter().any(|track| track["zones"] == json!(["all"])), "{renamed:#}");
    // Nothing of it was saved.
    let camera = node.json("/cameras/yard");
    assert_eq!((&camera["masks"], &camera["zones"][0]["name"]), (&json!([]), &json!("lawn")));
}

#[test]
fn what_cannot_be_saved_cannot_be_previewed() {
    let node = node("");
    let send = |values: &Value| node.send("POST", "/cameras/yard/preview", values);
    for (values, key) in [
        (json!({ "motion_threshold": 0.5 }), "motion_threshold"),
        (json!({ "masks": [[[0.0, 0.0], [1.0, 1.0]]] }), "masks"),
        (json!({ "zones": { "a b": [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]] } }), "zones"),
        (json!({ "regions": { "gate": { "rect": [0.1, 0.1, 0.2, 0.2] } } }), "regions.gate"),
    ] {
        let answer = send(&values);
        assert_eq!(answer.status, 422, "{values}: {}", answer.text());
        let problem = &answer.json()["problems"][0];
        assert!(problem["key"].as_str().unwrap().starts_with(key), "{values}: {problem}");
    }
    assert_eq!(send(&json!({ "source": "file:///etc/passwd" })).status, 400);
    assert_eq!(node.send("POST", "/cameras/attic/preview", &json!({})).status, 404);
    let plain = node.try_request("POST", "/api/v1/cameras/yard/preview", &[], b"{}").unwrap();
    assert_eq!(plain.status, 415);
    let json = [("Content-Type", "application/json")];
    let large = vec![b' '; 200 << 10];
    assert_eq!(node.try_request("POST", "/api/v1/cameras/yard/preview", &json, &large).unwrap().status, 413);
}

#[test]
fn many_previews_at_once_are_one_and_the_camera_goes_on() {
    let node = node("");
    let before = super::attacks::memory_mib(&node);
    let analysed = |node: &Node| node.json("/cameras/yard")["stats"]["analysed"].as_u64().unwrap();
    let start = analysed(&node);
    let statuses: Vec<u16> = thread::scope(|scope| {
        let ask = || {
            let headers = [("Content-Type", "application/json")];
            request(node.port, "POST", "/api/v1/cameras/yard/preview", &headers, b"{}").map(|a| a.status)
        };
        let asking: Vec<_> = (0..40).map(|_| scope.spawn(ask)).collect();
        asking.into_iter().map(|thread| thread.join().unwrap().expect("an answer")).collect()
    });
    assert!(statuses.iter().all(|status| [200, 409].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&200) && statuses.contains(&409), "{statuses:?}");
    // Clients that are gone do not keep others waiting.
    for _ in 0..20 {
        use std::io::Write;
        let mut gone = super::connect(node.port).unwrap();
        let head = "POST /api/v1/cameras/yard/preview HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
        write!(gone, "{head}Content-Length: 2\r\n\r\n{{}}").unwrap();
    }
    wait_for("a preview", || {
        (node.send("POST", "/cameras/yard/preview", &json!({})).status == 200).then_some(())
    });
    wait_for("the camera to go on", || (analysed(&node) > start + 5).then_some(()));
    let after = super::attacks::memory_mib(&node);
    assert!(after < before + 60, "{before} MiB before, {after} MiB after");
}

#[test]
fn without_memory_there_is_no_preview_and_a_viewer_has_none() {
    let node = node("web.preview_mib = 0");
    let answer = node.send("POST", "/cameras/yard/preview", &json!({}));
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("web.preview_mib"), "{}", answer.text());
    drop(node);
    let (node, _folder, token) = super::access::guarded();
    let bearer = format!("Bearer {token}");
    let headers = [("Content-Type", "application/json"), ("Authorization", bearer.as_str())];
    let answer = node.try_request("POST", "/api/v1/cameras/yard/preview", &headers, b"{}").unwrap();
    assert_eq!(answer.status, 403);
}
