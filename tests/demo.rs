//! `camfire demo`, with its own broker and without one.

use crate::support::{DEADLINE, camfire, camfire_output, root, send_signal, stdout, wait_for};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Stdio},
    sync::mpsc::{self, Receiver},
    time::Instant,
};

/// A running demo and its output.
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

    /// Returns the next line that matches, and discards those before it.
    fn wait_line(&self, what: &str, matches: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + DEADLINE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|_| panic!("no {what}"));
            if matches(&line) {
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
fn the_demo_names_the_objects_and_stops_its_broker_on_exit() {
    let mut demo = Demo::start(&[]);
    let line = demo.wait_line("hint", |line| line.contains("mosquitto_sub -h 127.0.0.1 -p "));
    let port = line.split("-p ").nth(1).unwrap().split(' ').next().unwrap();
    let address = format!("127.0.0.1:{port}");
    assert!(std::net::TcpStream::connect(&address).is_ok());
    for object in ["person", "car", "cat", "motorcycle", "cup"] {
        demo.wait_line(object, |line| line.contains(&format!("{object} (")));
    }
    send_signal("INT", demo.child.id());
    let status = wait_for("the demo to exit", || demo.child.try_wait().unwrap());
    assert!(status.success());
    assert!(std::net::TcpStream::connect(&address).is_err(), "the broker has stopped");
}

#[test]
fn the_demo_works_without_a_broker() {
    let mut demo = Demo::start(&["--no-broker"]);
    demo.wait_line("person", |line| line.contains("person ("));
    send_signal("TERM", demo.child.id());
    assert!(wait_for("the demo to exit", || demo.child.try_wait().unwrap()).success());
}

#[test]
fn the_bundled_clip_matches_its_ground_truth() {
    let (clip, truth) = (root().join("assets/demo.mp4"), root().join("assets/demo.truth.json"));
    let arguments = ["analyze", clip.to_str().unwrap(), "--json", "--truth", truth.to_str().unwrap()];
    let output = camfire_output(&arguments);
    let text = stdout(&output);
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let score = &last["score"];
    for key in ["recall", "precision", "label_accuracy"] {
        assert_eq!(score[key], 1.0, "{score:#}");
    }
    assert!(score["mean_iou"].as_f64().unwrap() >= 0.7 && score["switches"] == 0, "{score:#}");
}
