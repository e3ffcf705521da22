//! `camfire demo`: what a newcomer sees first.

use crate::support::{camfire, root, send_signal, wait_for};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Stdio},
    sync::mpsc::{self, Receiver},
    time::{Duration, Instant},
};

/// A demo whose lines can be waited for.
struct Demo {
    child: Child,
    lines: Receiver<String>,
}

impl Demo {
    fn start(arguments: &[&str]) -> Demo {
        let mut child = camfire()
            .arg("demo")
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let streams: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for stream in streams {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    eprintln!("demo | {line}");
                    if sender.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        Demo { child, lines }
    }

    fn wait_line(&self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + Duration::from_secs(90);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|_| panic!("no {what}"));
            if fits(&line) {
                return line;
            }
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_demo_names_what_is_in_view_over_a_real_broker_and_takes_it_with_it() {
    let mut demo = Demo::start(&[]);
    let line = demo.wait_line("hint", |line| line.contains("mosquitto_sub -h 127.0.0.1 -p "));
    let port = line.split("-p ").nth(1).unwrap().split(' ').next().unwrap();
    let address = format!("127.0.0.1:{port}");
    assert!(std::net::TcpStream::connect(&address).is_ok());
    let named = |line: &str, names: &[&str]| {
        line.split_once("  clip  ").is_some_and(|(_, seen)| names.iter().any(|name| seen.starts_with(name)))
    };
    demo.wait_line("cat", |line| named(line, &["Egyptian cat", "tabby", "tiger cat"]));
    demo.wait_line("cup", |line| named(line, &["espresso", "cup"]));
    demo.wait_line("motorcycle", |line| named(line, &["moped", "motor scooter"]));
    send_signal("INT", demo.child.id());
    let status = wait_for("the demo to end", || demo.child.try_wait().unwrap());
    assert!(status.success());
    assert!(std::net::TcpStream::connect(&address).is_err(), "its broker is gone too");
}

#[test]
fn without_a_broker_the_demo_prints_straight_from_the_pipeline() {
    let mut demo = Demo::start(&["--no-broker"]);
    demo.wait_line("cat", |line| line.contains("  clip  ") && line.contains("cat"));
    send_signal("TERM", demo.child.id());
    assert!(wait_for("the demo to end", || demo.child.try_wait().unwrap()).success());
}

/// Every frame of the clip through the daemon, as fast as it goes, against the clip's own truth.
#[test]
fn the_bundled_clip_is_named_right_and_its_empty_ground_is_nothing() {
    let truth = std::fs::read_to_string(root().join("assets/demo.truth.json")).unwrap();
    let truth: Value = serde_json::from_str(&truth).unwrap();
    let fps = truth["fps"].as_f64().unwrap();
    let broker = crate::support::Broker::start();
    let listener = broker.listen();
    let config = format!(
        "[cameras.clip]\nsource = '{}'\nloop = false\nrealtime = false\nrate_fps = 3\n",
        crate::support::clip()
    );
    let _camfire = crate::support::Camfire::run(&config, &broker.flags());
    listener.wait_state("clip", "ended");
    let mut named = std::collections::BTreeMap::new();
    let mut empty_frames = 0;
    for heard in listener.all().iter().filter(|heard| heard.topic.ends_with("/detections")) {
        let seen = heard.json();
        let time_s = (seen["frame"].as_f64().unwrap() - 1.0) / fps;
        let (label, score) =
            (seen["top"][0]["label"].as_str().unwrap(), seen["top"][0]["score"].as_f64().unwrap());
        for span in truth["empty"].as_array().unwrap() {
            if (span[0].as_f64().unwrap()..span[1].as_f64().unwrap()).contains(&time_s) {
                empty_frames += 1;
                assert!(score <= 0.5, "{label} {score} on empty ground at {time_s:.2} s");
            }
        }
        for object in truth["objects"].as_array().unwrap() {
            let (Some(from), Some(until)) =
                (object["named_from_s"].as_f64(), object["named_until_s"].as_f64())
            else {
                continue;
            };
            if (from..until).contains(&time_s) {
                let classes = object["classes"].as_array().unwrap();
                assert!(classes.iter().any(|class| class == label), "{label} at {time_s:.2} s");
                *named.entry(object["label"].to_string()).or_insert(0) += 1;
            }
        }
    }
    assert_eq!(named.len(), 3, "{named:?}");
    assert!(named.values().all(|&frames| frames >= 5), "{named:?}");
    assert!(empty_frames >= 5, "{empty_frames}");
}
