//! Links in messages: a phone that is not logged in gets the picture of a notification by its link, and
//! nothing else.

use super::{Answer, Node, access::passwords, yard};
use crate::support::{Broker, Received, Subscriber, small_clip, wait_for};
use serde_json::Value;
use std::fs;

const PUBLIC_URL: &str = "https://cam.example.org/porch";

/// A guarded node whose messages have links, and the token of a viewer.
fn start(broker: &Broker) -> (Node, tempfile::TempDir, String) {
    let (folder, passwords, token) = passwords();
    let more = format!(
        "{passwords}\nweb.public_url = '{PUBLIC_URL}/'\nhomeassistant.discovery = true\nfrigate.events = true"
    );
    let environment = [("CAMFIRE_MQTT__PORT", broker.port.to_string())];
    (Node::start_in(&more, &yard(&small_clip()), &environment), folder, token)
}

/// Waits for two messages about different objects that have ended.
fn two_ends(subscriber: &Subscriber) -> [Value; 2] {
    let is_end =
        |message: &Received| message.topic.ends_with("/yard/events") && message.json()["type"] == "end";
    let first = subscriber.wait("an end", is_end).json();
    let second =
        subscriber.wait("another end", |message| is_end(message) && message.json()["id"] != first["id"]);
    [first, second.json()]
}

/// Opens a link as a phone does: through the proxy, which takes the path off and keeps the name, without a
/// session.
fn open(node: &Node, link: &str) -> Answer {
    let path = link.strip_prefix(PUBLIC_URL).unwrap_or(link);
    node.try_request("GET", path, &[("Host", "cam.example.org")], b"").expect("an answer")
}

fn link<'a>(event: &'a Value, name: &str) -> &'a str {
    event["links"][name].as_str().unwrap_or_else(|| panic!("{name} in {event}"))
}

#[test]
fn a_link_opens_its_picture_without_a_login_and_nothing_else() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let (mut node, _folder, token) = start(&broker);
    let [event, other] = two_ends(&subscriber);
    let id = event["id"].as_str().unwrap();
    assert_eq!(link(&event, "page"), format!("{PUBLIC_URL}/#/events/{id}"));

    // The pictures are those of the store, and may be kept as those of the page.
    for (name, kind) in [("picture", "annotated"), ("crop", "crop")] {
        let path =
            node.folder.path().join("pictures").join(event["best"]["pictures"][kind].as_str().unwrap());
        let stored = wait_for("the picture", || fs::read(&path).ok());
        let answer = open(&node, link(&event, name));
        assert_eq!((answer.status, answer.header("content-type")), (200, "image/jpeg"), "{}", answer.text());
        assert!(answer.body == stored, "{name}");
        assert_eq!(answer.header("cache-control"), "private, max-age=86400");
        let path = link(&event, name).strip_prefix(PUBLIC_URL).unwrap();
        let known = [("If-None-Match", answer.header("etag"))];
        assert_eq!(node.try_request("GET", path, &known, b"").unwrap().status, 304);
    }

    // Attacks: everything but the link itself.
    let (path, key) = link(&event, "picture").split_once("?key=").unwrap();
    let changed = format!("{}{}", if key.starts_with('0') { "1" } else { "0" }, &key[1..]);
    let other_id = other["id"].as_str().unwrap();
    for (what, refused) in [
        ("no key", path.to_string()),
        ("an empty key", format!("{path}?key=")),
        ("a changed key", format!("{path}?key={changed}")),
        ("half of the key", format!("{path}?key={}", &key[..16])),
        ("a longer key", format!("{path}?key={key}00")),
        ("another event", format!("{}?key={key}", path.replace(id, other_id))),
        ("another picture", format!("{}?key={key}", path.replace("snapshot", "thumbnail"))),
        ("an event that is not there", format!("{}?key={key}", path.replace(&id[24..], "000000000000"))),
        ("the event", format!("/api/v1/events/{id}?key={key}")),
        ("its whole frame", format!("/api/v1/events/{id}/picture?kind=frame&key={key}")),
        ("all events", format!("/api/v1/events?key={key}")),
        ("the live picture", format!("/api/v1/cameras/yard/picture?key={key}")),
    ] {
        let answer = open(&node, &refused);
        assert_eq!(answer.status, 401, "{what}: {}", answer.text());
        assert!(!answer.text().contains(key), "{what}");
    }
    for outside in [
        format!("/api/events/{id}/frame.jpg?key={key}"),
        format!("/api/events/{id}/clip.mp4?key={key}"),
        format!("/api/events/..%2f..%2fsecret.jpg/snapshot.jpg?key={key}"),
        format!("/api/events/{id}/..%2fsnapshot.jpg?key={key}"),
        format!("/api/events/%2e%2e/snapshot.jpg?key={key}"),
        format!("/api/events/{id}%00/snapshot.jpg?key={key}"),
        format!("/api/events?key={key}"),
    ] {
        assert!([400, 404].contains(&open(&node, &outside).status), "{outside}");
    }
    let local = link(&event, "picture").strip_prefix(PUBLIC_URL).unwrap();
    let ask =
        |method: &str, host: &str| node.try_request(method, local, &[("Host", host)], b"").unwrap().status;
    assert_eq!((ask("DELETE", "cam.example.org"), ask("GET", "evil.example")), (405, 421));

    // A role opens the picture as well; a reader of the API gets no links to keep.
    let bearer = format!("Bearer {token}");
    let as_viewer = |path: &str| node.try_request("GET", path, &[("Authorization", &bearer)], b"").unwrap();
    assert_eq!(as_viewer(&format!("/api/events/{id}/snapshot.jpg")).status, 200);
    let answer = as_viewer(&format!("/api/v1/events/{id}"));
    assert!(answer.status == 200 && !answer.text().contains("key="), "{}", answer.text());
    assert!(!node.camfire.log().contains(key), "the key is in the log");

    // It outlives the daemon, but not the picture, nor the secret.
    node.restart();
    assert_eq!(open(&node, link(&event, "picture")).status, 200, "after a restart");
    fs::remove_dir_all(node.folder.path().join("pictures")).unwrap();
    wait_for("the picture to count as removed", || {
        (open(&node, link(&event, "picture")).status == 410).then_some(())
    });
    fs::remove_file(node.folder.path().join("link.key")).unwrap();
    node.restart();
    assert_eq!(open(&node, link(&event, "picture")).status, 401, "with another secret");
}

#[test]
fn links_change_with_the_configuration() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let (mut node, _folder, _) = start(&broker);
    let old = subscriber.wait_topic("/yard/events/live").json();
    assert!(link(&old, "page").starts_with(PUBLIC_URL), "{old}");
    // Frigate's format is as it was.
    let frigate = subscriber.wait_topic("frigate/events").payload;
    assert!(!frigate.contains("links") && !frigate.contains("example.org"), "{frigate}");
    let announced = |page: &str| {
        subscriber.wait("the camera's announcement", |message| {
            message.topic.starts_with("homeassistant/device/")
                && message.payload.contains("yard (porch)")
                && message.json()["device"]["configuration_url"].as_str().unwrap_or_default() == page
        })
    };
    announced(&format!("{PUBLIC_URL}/#/cameras/yard"));
    // Under another address, without another start and with the same secret.
    let id = node.camfire.id();
    node.reload(PUBLIC_URL, "http://192.168.1.7:8080");
    announced("http://192.168.1.7:8080/#/cameras/yard");
    let is_new = |message: &Received| {
        message.topic.ends_with("/yard/events")
            && message.json()["links"]["page"]
                .as_str()
                .unwrap_or_default()
                .starts_with("http://192.168.1.7:8080/#/")
    };
    subscriber.wait("an event with the new address", is_new);
    assert_eq!(node.camfire.id(), id);
    let (path, _) = link(&old, "picture").strip_prefix(PUBLIC_URL).unwrap().split_once('?').unwrap();
    assert_eq!(open(&node, path).status, 421, "the old name is no longer one of this server");
    let is_found = || {
        let path = link(&old, "picture").strip_prefix(PUBLIC_URL).unwrap();
        (node.get(path).status == 200).then_some(())
    };
    wait_for("the picture of an old link", is_found);
    // Without an address there are no links, and no key opens anything.
    subscriber.clear();
    node.reload("web.public_url = 'http://192.168.1.7:8080/'", "");
    announced("");
    subscriber.wait("an event without links", |message| {
        message.topic.ends_with("/yard/events") && message.json().get("links").is_none()
    });
    assert_eq!(node.get(link(&old, "picture").strip_prefix(PUBLIC_URL).unwrap()).status, 401);
}
