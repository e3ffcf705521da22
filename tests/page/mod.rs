//! The web server's page and API: what they show, who may use them, and what attackers cannot do.

mod access;
mod api;
mod attacks;
mod browser;
mod faults;
mod links;
mod preview;
mod proxies;
mod setup;
mod tls;

use crate::support::{Camfire, free_port, send_signal, small_clip, wait_for};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    time::Duration,
};

/// A daemon with a page, without a broker.
struct Node {
    port: u16,
    folder: tempfile::TempDir,
    camfire: Camfire,
    config: String,
    environment: Vec<(&'static str, String)>,
}

impl Node {
    /// Starts a node with the small clip as camera `yard`. `more` comes before the cameras.
    fn start(more: &str) -> Node {
        Node::start_with(more, &yard(&small_clip()))
    }

    fn start_with(more: &str, cameras: &str) -> Node {
        Node::start_in(more, cameras, &[])
    }

    fn start_in(more: &str, cameras: &str, environment: &[(&'static str, String)]) -> Node {
        let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
        let path = folder.path().display();
        let config = format!(
            "node.name = 'porch'\nweb.listen = '127.0.0.1:{port}'\nmqtt.port = 1\npictures.directory = '{path}/pictures'\n\
             outbox.file = '{path}/outbox.db'\ncommands.settings_file = '{path}/settings.json'\n{more}\n{cameras}"
        );
        let file = folder.path().join("camfire.toml");
        fs::write(&file, &config).unwrap();
        let camfire = Camfire::start(&file, &[], environment);
        let node = Node { port, folder, camfire, config, environment: environment.to_vec() };
        wait_for("the web server", || node.try_request("GET", "/healthz", &[], b""));
        node
    }

    /// Stops the daemon and starts it again with the same configuration.
    fn restart(&mut self) {
        self.camfire.end("TERM");
        self.start_again();
    }

    fn start_again(&mut self) {
        self.camfire = Camfire::start(&self.folder.path().join("camfire.toml"), &[], &self.environment);
        wait_for("the web server", || self.try_request("GET", "/healthz", &[], b""));
    }

    /// Replaces a part of the configuration and reloads it.
    fn reload(&mut self, part: &str, by: &str) {
        assert!(self.config.contains(part), "{part}");
        self.config = self.config.replace(part, by);
        fs::write(self.folder.path().join("camfire.toml"), &self.config).unwrap();
        let before = self.camfire.log().len();
        send_signal("HUP", self.camfire.id());
        wait_for("the end of the reload", || {
            let log = self.camfire.log()[before..].to_string();
            assert!(!log.contains("configuration is refused"), "{log}");
            log.contains("Configuration is reloaded").then_some(())
        });
        wait_for("the web server", || self.try_request("GET", "/healthz", &[], b""));
    }

    /// Sends a request. None if there is no answer.
    fn try_request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<Answer> {
        request(self.port, method, path, headers, body)
    }

    fn get(&self, path: &str) -> Answer {
        self.try_request("GET", path, &[], b"").expect("an answer")
    }

    /// The JSON of a resource below `/api/v1`.
    fn json(&self, path: &str) -> Value {
        let answer = self.get(&format!("/api/v1{path}"));
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// Sends JSON to a resource below `/api/v1`.
    fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        let headers = [("Content-Type", "application/json")];
        self.try_request(method, &format!("/api/v1{path}"), &headers, body.to_string().as_bytes())
            .expect("an answer")
    }

    /// Waits for events, newest first, until `enough` says that there are enough.
    fn wait_events(&self, what: &str, enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        wait_for(what, || {
            let events = self.json("/events")["events"].as_array().unwrap().clone();
            enough(&events).then_some(events)
        })
    }
}

/// The configuration of camera `yard`.
fn yard(source: &str) -> String {
    format!("[cameras.yard]\nsource = '{source}'\nrate_fps = 5\n")
}

/// An answer of the server.
pub struct Answer {
    pub status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

fn connect(port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    Ok(stream)
}

/// Sends a request on a connection of its own. None if there is no answer. A header `Host` replaces the
/// usual one.
pub fn request(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<Answer> {
    exchange(connect(port).ok()?, port, method, path, headers, body)
}

/// As [`request`], on a connection to this port.
fn exchange(
    mut stream: impl Read + Write,
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<Answer> {
    let mut head =
        format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| *name == "Host") {
        head.push_str(&format!("Host: 127.0.0.1:{port}\r\n"));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(body);
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let headers = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_string())).collect();
    Some(Answer { status, headers, body: bytes[end + 4..].to_vec() })
}
