//! What attackers cannot do: fill the memory, keep others out, or read files that are not the page's.

use super::{Node, connect, tls::Certificate, yard};
use crate::support::{clip, wait_for};
use socket2::{Domain, Socket, Type};
use std::{
    collections::VecDeque,
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

/// Resident memory of the daemon, in MiB.
pub fn memory_mib(node: &Node) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", node.camfire.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix("kB").unwrap().trim().parse::<u64>().unwrap() >> 10
}

/// Others are served.
fn assert_served(node: &Node, during: &str) {
    assert_eq!(node.get("/api/v1/cameras").status, 200, "{during}");
    assert_eq!(node.get("/").status, 200, "{during}");
}

/// Number of open descriptors of the daemon.
fn descriptors(node: &Node) -> usize {
    fs::read_dir(format!("/proc/{}/fd", node.camfire.id())).unwrap().count()
}

/// Connects from one of many addresses of this machine.
fn connect_from(number: usize, port: u16) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let address = Ipv4Addr::new(127, 0, 1, (number % 200) as u8 + 1);
    socket.bind(&SocketAddr::from((address, 0)).into())?;
    socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    Ok(socket.into())
}

/// Opens ten thousand connections from 200 addresses, and holds more of them than the server does: at least
/// 300 at any time, and few enough for the usual limit of descriptors. `say` is what each of them sends.
fn flood(node: &Node, say: &[u8], check: impl Fn()) {
    let before = (memory_mib(node), descriptors(node));
    let mut open: VecDeque<TcpStream> = VecDeque::new();
    for number in 0..10_000 {
        // Those that had to make place are closed by the server.
        if let Ok(mut stream) = connect_from(number, node.port) {
            let _ = stream.write_all(say);
            open.push_back(stream);
        }
        // Often enough that the connections that wait to be accepted do not become too many for the kernel.
        if number % 500 == 499 {
            check();
            let descriptors = descriptors(node);
            assert!(descriptors < before.1 + 300, "{} descriptors before, {descriptors} during", before.1);
        }
        if open.len() > 400 {
            open.drain(..100);
        }
    }
    let memory_mib = memory_mib(node);
    assert!(memory_mib < before.0 + 60, "{} MiB before, {memory_mib} MiB after", before.0);
    drop(open);
    check();
    wait_for("the descriptors to be closed", || (descriptors(node) < before.1 + 20).then_some(()));
}

#[test]
fn ten_thousand_connections_that_say_nothing_keep_nobody_out() {
    let node = Node::start("");
    // What the first objects take is not growth.
    node.wait_events("an event that has ended", |events| events.iter().any(|event| event["type"] == "end"));
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ";
    flood(&node, request, || assert_served(&node, "many connections"));
}

#[test]
fn ten_thousand_handshakes_that_do_not_end_keep_nobody_out() {
    let certificate = Certificate::new();
    let node = Node::start(&certificate.config());
    certificate.wait_event(&node);
    let hello = certificate.client_hello();
    flood(&node, &hello[..hello.len() / 2], || {
        assert_eq!(certificate.get(&node, "/api/v1/cameras").status, 200);
    });
    let mut slow = connect(node.port).unwrap();
    slow.write_all(&hello[..20]).unwrap();
    // The server closes the connection; nothing else ends this wait.
    let _ = slow.read_to_end(&mut Vec::new());
}

#[test]
fn garbage_instead_of_a_handshake_does_nothing() {
    let certificate = Certificate::new();
    let node = Node::start(&certificate.config());
    let hello = certificate.client_hello();
    certificate.wait_event(&node);
    let before = memory_mib(&node);
    let record = |kind: u8, content: &[u8]| {
        [&[kind, 3, 1, (content.len() >> 8) as u8, content.len() as u8], content].concat()
    };
    // A message of 128 KiB is announced: the largest that the library would wait for.
    let large = record(0x16, &[&[1, 2, 0, 0], &[0; 16_000][..]].concat());
    let mut random = vec![0; 4096];
    fastrand::Rng::with_seed(7).fill(&mut random);
    let mut broken = hello.clone();
    broken[60..].fill(0xff);
    let said: Vec<Vec<u8>> = vec![
        random.clone(),
        [&[0x16], &random[..]].concat(),
        record(0x16, &random),
        record(0x15, &[2, 40]),
        record(0x17, &random),
        record(0x16, &[1, 0xff, 0xff, 0xff]),
        vec![0x80, 0x2e, 1, 0, 2],
        broken,
        [&hello[..], &random].concat(),
        b"\r\n\r\n".to_vec(),
        Vec::new(),
    ];
    for bytes in &said {
        let mut stream = connect(node.port).unwrap();
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP"), "{bytes:02x?}");
    }
    let waiting: Vec<TcpStream> = (0..300)
        .filter_map(|number| {
            let mut stream = connect_from(number, node.port).ok()?;
            stream.write_all(&large).ok().map(|()| stream)
        })
        .collect();
    assert_eq!(certificate.get(&node, "/api/v1/cameras").status, 200);
    let after = memory_mib(&node);
    assert!(after < before + 100, "{before} MiB before, {after} MiB after");
    drop(waiting);
}

#[test]
fn large_heads_and_bodies_are_refused() {
    let node = Node::start("");
    let before = memory_mib(&node);
    let long = "x".repeat(20 << 10);
    let answer = node.try_request("GET", "/", &[("X-Long", &long)], b"");
    assert!(answer.is_none_or(|answer| answer.status == 431));
    let many: Vec<(String, String)> =
        (0..100).map(|number| (format!("X-{number}"), "1".to_string())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let answer = node.try_request("GET", "/", &many, b"");
    assert!(answer.is_none_or(|answer| answer.status == 431));
    let json = [("Content-Type", "application/json")];
    let body = vec![b' '; 200 << 10];
    let answer = node.try_request("POST", "/api/v1/cameras/yard/command", &json, &body).unwrap();
    assert_eq!(answer.status, 413);
    let answer = node.try_request("POST", "/api/v1/session", &json, &body).unwrap();
    assert_eq!(answer.status, 413);
    // A body that never ends, and one that is announced and never comes.
    let mut endless = connect(node.port).unwrap();
    let head = "POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    write!(endless, "{head}Transfer-Encoding: chunked\r\n\r\n").unwrap();
    let chunk = [b"10000\r\n".as_slice(), &vec![b' '; 0x10000], b"\r\n"].concat();
    while endless.write_all(&chunk).is_ok() {}
    let mut silent = connect(node.port).unwrap();
    write!(silent, "{head}Content-Length: 50000\r\n\r\n").unwrap();
    let deep = "[".repeat(60_000);
    let answer = node.try_request("POST", "/api/v1/cameras/yard/command", &json, deep.as_bytes()).unwrap();
    assert_eq!(answer.status, 400);
    let after = memory_mib(&node);
    assert!(after < before + 30, "{before} MiB before, {after} MiB after");
    assert_served(&node, "large requests");
}

#[test]
fn streams_that_are_never_read_are_bounded() {
    // Its pictures fill the streams.
    let node = Node::start_with("", &yard(&clip()));
    let open = |path: &str| {
        let mut stream = connect(node.port).unwrap();
        write!(stream, "GET /api/v1{path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        stream
    };
    let mut read = open("/cameras/yard/live");
    let streams: Vec<TcpStream> =
        (0..20).flat_map(|_| [open("/changes"), open("/cameras/yard/live")]).collect();
    // A viewer who reads gets its pictures meanwhile, which fill what the others do not read.
    let mut take = |bytes: u64| (&mut read).take(bytes).read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(take(2 << 20), 2 << 20);
    let before = memory_mib(&node);
    assert_eq!(take(6 << 20), 6 << 20);
    let after = memory_mib(&node);
    assert!(after < before + 30, "{before} MiB before, {after} MiB after");
    assert_served(&node, "streams that are not read");
    drop(streams);
    drop(read);
    // Nobody looks any more, so nothing is encoded.
    wait_for("the streams to end", || node.get("/metrics").text().contains("camfire").then_some(()));
}

#[test]
fn no_path_leads_out_of_the_stores() {
    let node = Node::start("");
    fs::write(node.folder.path().join("secret.jpg"), "secret").unwrap();
    let ids = [
        "..",
        "%2e%2e",
        "..%2f..%2fsecret.jpg",
        "..%5csecret.jpg",
        "%00",
        "/",
        "%2fetc%2fpasswd",
        "a/b",
        "'",
        "%ff",
    ];
    for id in ids {
        for path in [
            format!("/api/v1/events/{id}"),
            format!("/api/v1/events/{id}/picture"),
            format!("/api/v1/cameras/{id}"),
            format!("/api/v1/cameras/{id}/picture"),
            format!("/{id}"),
            format!("/api/v1/../../{id}"),
        ] {
            let answer = node.get(&path);
            assert!([400, 404].contains(&answer.status), "{path}: {}", answer.status);
            assert!(!answer.text().contains("secret"), "{path}");
        }
    }
}

#[test]
fn a_link_in_the_picture_store_is_not_followed() {
    let node = Node::start("");
    let events = node.wait_events("an event with a picture", |events| {
        events.iter().any(|event| event["type"] == "end" && event["picture"] == "stored")
    });
    let event = events.iter().find(|event| event["type"] == "end" && event["picture"] == "stored").unwrap();
    let file = node.folder.path().join("pictures").join(event["best"]["pictures"]["crop"].as_str().unwrap());
    let secret = node.folder.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(&secret, &file).unwrap();
    let answer = node.get(&format!("/api/v1/events/{}/picture?kind=crop", event["id"].as_str().unwrap()));
    assert!(answer.status >= 400 && !answer.text().contains("secret"));
}

#[test]
fn a_slow_request_is_cut_off() {
    let node = Node::start("");
    let mut slow = connect(node.port).unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    write!(slow, "GET /api/v1/cameras HTTP/1.1\r\nHost: localh").unwrap();
    // The server closes the connection; nothing else ends this wait.
    let mut answer = Vec::new();
    let _ = slow.read_to_end(&mut answer);
    assert!(!String::from_utf8_lossy(&answer).contains(" 200 "));
    assert_served(&node, "a slow request");
}
