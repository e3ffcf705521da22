//! The page with a certificate of its own.

use super::{
    Answer, Node,
    access::{check, guarded_in, guarded_with},
    connect, exchange, yard,
};
use crate::support::{clip, send_signal, stderr, wait_for};
use native_tls::{TlsConnector, TlsStream};
use serde_json::json;
use std::{
    fs,
    io::{self, Read, Write},
    net::TcpStream,
    process::Command,
};

/// A certificate for 127.0.0.1 and its key, in files.
pub struct Certificate {
    folder: tempfile::TempDir,
}

impl Certificate {
    pub fn new() -> Certificate {
        let certificate = Certificate { folder: tempfile::tempdir().unwrap() };
        certificate.renew();
        certificate
    }

    /// Replaces both files by new ones.
    fn renew(&self) {
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
            .args(["-subj", "/CN=porch", "-addext", "subjectAltName=IP:127.0.0.1"])
            .args(["-keyout", "key.pem", "-out", "cert.pem"])
            .current_dir(self.folder.path())
            .output()
            .expect("openssl is installed by make test");
        assert!(made.status.success(), "{}", stderr(&made));
    }

    /// The lines of the configuration that name the files.
    pub fn config(&self) -> String {
        let folder = self.folder.path().display();
        format!("web.cert_file = '{folder}/cert.pem'\nweb.key_file = '{folder}/key.pem'")
    }

    /// Connects as a browser that trusts this certificate and no other.
    fn connect(&self, node: &Node) -> Option<TlsStream<TcpStream>> {
        let pem = fs::read(self.folder.path().join("cert.pem")).unwrap();
        let own = native_tls::Certificate::from_pem(&pem).unwrap();
        let connector = TlsConnector::builder()
            .disable_built_in_roots(true)
            .add_root_certificate(own)
            .request_alpns(&["h2", "http/1.1"])
            .build()
            .unwrap();
        connector.connect("127.0.0.1", connect(node.port).ok()?).ok()
    }

    fn request(&self, node: &Node, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let stream = self.connect(node).expect("a connection");
        exchange(stream, node.port, method, path, headers, body.as_bytes()).expect("an answer")
    }

    pub fn get(&self, node: &Node, path: &str) -> Answer {
        self.request(node, "GET", path, &[], "")
    }

    /// Waits for an event that has ended: what the first objects take of the memory is taken then.
    pub fn wait_event(&self, node: &Node) {
        let events = || self.get(node, "/api/v1/events").text();
        wait_for("an event that has ended", || events().contains("\"end\"").then_some(()));
    }

    /// What a client says first.
    pub fn client_hello(&self) -> Vec<u8> {
        /// Keeps what is written.
        #[derive(Debug, Default)]
        struct Recorder(Vec<u8>);
        impl Read for Recorder {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::WouldBlock.into())
            }
        }
        impl Write for Recorder {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.extend(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let connector = TlsConnector::new().unwrap();
        match connector.connect("127.0.0.1", Recorder::default()) {
            Err(native_tls::HandshakeError::WouldBlock(waiting)) => waiting.get_ref().0.clone(),
            _ => panic!("it waits for an answer"),
        }
    }
}

#[test]
fn the_page_is_served_by_https_with_a_cookie_for_https() {
    let certificate = Certificate::new();
    let (node, _folder, _) = guarded_with(&certificate.config());
    let stream = certificate.connect(&node).expect("a connection");
    assert_eq!(stream.negotiated_alpn().unwrap(), Some(b"http/1.1".to_vec()));
    drop(stream);
    assert!(certificate.get(&node, "/").text().contains("<html"));
    let (own, plain) =
        (format!("https://127.0.0.1:{}", node.port), format!("http://127.0.0.1:{}", node.port));
    let log_in = |origin: &str| {
        let headers = [("Content-Type", "application/json"), ("Origin", origin)];
        let body = json!({ "password": "the admin's own" }).to_string();
        certificate.request(&node, "POST", "/api/v1/session", &headers, &body)
    };
    assert_eq!(log_in(&plain).status, 403, "a page that came without encryption");
    let answer = log_in(&own);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let cookie = answer.header("set-cookie").to_string();
    assert!(
        cookie.starts_with("__Host-") && cookie.ends_with("; HttpOnly; SameSite=Strict; Secure"),
        "{cookie}"
    );
    assert_eq!(answer.header("strict-transport-security"), "");
    let cookie = cookie.split(';').next().unwrap();
    let list = certificate.request(&node, "GET", "/api/v1/cameras", &[("Cookie", cookie)], "");
    assert_eq!(list.status, 200);
    // Without encryption there is a sentence and nothing else.
    for path in ["/", "/api/v1/session", "/metrics"] {
        let answer = node.get(path);
        assert_eq!((answer.status, answer.text().contains("https://")), (400, true), "{path}");
    }
}

#[test]
fn a_renewed_certificate_is_used_after_a_reload_and_nobody_is_disconnected() {
    let certificate = Certificate::new();
    // Its pictures soon fill what is on the way.
    let (node, _folder, token) = guarded_in(&certificate.config(), &yard(&clip()));
    let reload = || send_signal("HUP", node.camfire.id());
    let mut stream = certificate.connect(&node).expect("a connection");
    let bearer = format!("Bearer {token}");
    write!(
        stream,
        "GET /api/v1/cameras/yard/live HTTP/1.1\r\nHost: localhost\r\nAuthorization: {bearer}\r\n\r\n"
    )
    .unwrap();
    let mut read = |bytes: usize| stream.read_exact(&mut vec![0; bytes]).expect("the stream goes on");
    read(1000);
    let headers = [("Content-Type", "application/json")];
    let body = json!({ "password": "for all to look" }).to_string();
    let answer = certificate.request(&node, "POST", "/api/v1/session", &headers, &body);
    let cookie = answer.header("set-cookie").split(';').next().unwrap().to_string();

    certificate.renew();
    assert!(certificate.connect(&node).is_none(), "the old one is still in use");
    reload();
    node.camfire.wait_log("Reloaded: web server has another certificate.");
    wait_for("the new certificate", || certificate.connect(&node));
    // More than what was on the way before.
    read(4 << 20);
    let list = certificate.request(&node, "GET", "/api/v1/cameras", &[("Cookie", &cookie)], "");
    assert_eq!(list.status, 200, "nobody must log in again");

    let cert = certificate.folder.path().join("cert.pem");
    let pem = fs::read(&cert).unwrap();
    fs::write(&cert, "half of a certificate").unwrap();
    reload();
    node.camfire.wait_log("Keeping the running configuration");
    assert!(node.camfire.log().contains("has no certificate in PEM format"), "{}", node.camfire.log());
    fs::write(&cert, pem).unwrap();
    assert_eq!(certificate.get(&node, "/healthz").status, 200);
    assert_eq!(node.camfire.log().matches("Web server is listening").count(), 1);
    let log = node.camfire.log();
    assert!(!log.contains("publisher connects") && !log.contains("PRIVATE KEY"), "{log}");
}

#[test]
fn check_tells_what_is_wrong_with_a_certificate() {
    let (one, other) = (Certificate::new(), Certificate::new());
    let (is_valid, text) = check(&one.config());
    assert!(is_valid && !text.contains("web."), "{text}");
    fs::copy(other.folder.path().join("key.pem"), one.folder.path().join("key.pem")).unwrap();
    let (is_valid, text) = check(&one.config());
    let file = |name: &str| one.folder.path().join(name).display().to_string();
    assert!(!is_valid && text.contains("web.cert_file") && text.contains(&file("key.pem")), "{text}");
    fs::remove_file(file("key.pem")).unwrap();
    let (is_valid, text) = check(&one.config());
    assert!(!is_valid && text.contains("web.key_file") && text.contains(&file("key.pem")), "{text}");
}
