//! Who may use the page: passwords, sessions, tokens, roles, and requests that other sites cause.

use super::{Node, yard};
use crate::support::{Camfire, camfire, free_port, small_clip, wait_for};
use serde_json::json;
use std::{
    fs,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, TcpStream, UdpSocket},
    path::Path,
    process::Stdio,
};

/// Runs `camfire web-password` with a password on stdin. Returns its stdout.
pub fn web_password(file: &Path, arguments: &[&str], password: &str) -> String {
    let mut child = camfire()
        .args(["web-password", "--file", file.to_str().unwrap()])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

/// A file with the passwords of an admin and a viewer and a viewer's token, which is returned as well.
pub fn passwords() -> (tempfile::TempDir, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("web-passwords");
    web_password(&file, &[], "the admin's own");
    web_password(&file, &["--role", "viewer"], "for all to look");
    let token = web_password(&file, &["--token", "grafana", "--role", "viewer"], "");
    (folder, format!("web.password_file = '{}'", file.display()), token)
}

/// A node with these passwords.
pub fn guarded() -> (Node, tempfile::TempDir, String) {
    guarded_with("")
}

/// As [`guarded`], with further lines in the configuration.
pub fn guarded_with(more: &str) -> (Node, tempfile::TempDir, String) {
    guarded_in(more, &yard(&small_clip()))
}

/// As [`guarded_with`], with these cameras.
pub fn guarded_in(more: &str, cameras: &str) -> (Node, tempfile::TempDir, String) {
    let (folder, line, token) = passwords();
    (Node::start_with(&format!("{line}\n{more}"), cameras), folder, token)
}

/// Logs in. Returns the session's cookie.
fn log_in(node: &Node, password: &str) -> String {
    let answer = node.send("POST", "/session", &json!({ "password": password }));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let cookie = answer.header("set-cookie");
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    cookie.split(';').next().unwrap().to_string()
}

fn status(node: &Node, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> u16 {
    let headers: Vec<_> = headers.iter().copied().chain([("Content-Type", "application/json")]).collect();
    node.try_request(method, &format!("/api/v1{path}"), &headers, body.as_bytes()).unwrap().status
}

#[test]
fn passwords_and_tokens_give_their_roles_and_nothing_else_does() {
    let (node, _folder, token) = guarded();
    assert_eq!(node.json("/session")["role"], json!(null));
    for path in
        ["/cameras", "/cameras/yard", "/cameras/yard/live", "/events", "/node", "/node/log", "/changes"]
    {
        assert_eq!(status(&node, "GET", path, &[], ""), 401, "{path}");
    }
    // Monitoring goes on as before.
    assert_eq!((node.get("/metrics").status, node.get("/healthz").status), (200, 200));
    const PAUSE: &str = r#"{"do":"pause"}"#;
    let (admin, viewer) = (log_in(&node, "the admin's own"), log_in(&node, "for all to look"));
    let bearer = format!("Bearer {token}");
    for (headers, name) in
        [(("Cookie", viewer.as_str()), "viewer"), (("Authorization", bearer.as_str()), "token")]
    {
        assert_eq!(status(&node, "GET", "/cameras", &[headers], ""), 200, "{name}");
        assert_eq!(status(&node, "POST", "/cameras/yard/command", &[headers], PAUSE), 403, "{name}");
    }
    assert_eq!(status(&node, "POST", "/cameras/yard/command", &[("Cookie", &admin)], PAUSE), 204);
    for wrong in ["Bearer 0000", "Bearer ", "Basic YTpi"] {
        assert_eq!(status(&node, "GET", "/cameras", &[("Authorization", wrong)], ""), 401, "{wrong}");
    }
    assert_eq!(status(&node, "GET", "/cameras", &[("Cookie", "camfire-session=")], ""), 401);
    assert_eq!(status(&node, "DELETE", "/session", &[("Cookie", &admin)], ""), 204);
    assert_eq!(status(&node, "GET", "/cameras", &[("Cookie", &admin)], ""), 401, "logged out");
    assert_eq!(status(&node, "GET", "/cameras", &[("Cookie", &viewer)], ""), 200);
    let log = node.camfire.log();
    for secret in ["the admin's own", "for all to look", &token, "argon2"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[test]
fn requests_that_other_sites_cause_change_nothing() {
    let (node, _folder, _) = guarded();
    let admin = log_in(&node, "the admin's own");
    const PAUSE: &str = r#"{"do":"pause"}"#;
    let own = format!("http://127.0.0.1:{}", node.port);
    let attempt =
        |header| status(&node, "POST", "/cameras/yard/command", &[("Cookie", admin.as_str()), header], PAUSE);
    for origin in ["http://evil.example", "null", "http://127.0.0.1", "http://127.0.0.1:1"] {
        assert_eq!(attempt(("Origin", origin)), 403, "{origin}");
    }
    assert_eq!(attempt(("Sec-Fetch-Site", "cross-site")), 403);
    assert_eq!(attempt(("Origin", &own)), 204);
    // A name that an attacker has pointed at this machine.
    let rebound =
        node.try_request("GET", "/api/v1/cameras", &[("Host", "evil.example"), ("Cookie", &admin)], b"");
    assert_eq!(rebound.unwrap().status, 421);
}

#[test]
fn guessing_passwords_is_slow_and_does_not_disturb_those_who_are_logged_in() {
    let (node, _folder, _) = guarded();
    let viewer = log_in(&node, "for all to look");
    let guess = |number: usize| {
        let answer = node.send("POST", "/session", &json!({ "password": format!("guess {number}") }));
        (answer.status, answer.header("retry-after").parse::<u64>().unwrap_or_default())
    };
    let answers: Vec<(u16, u64)> = (0..12).map(guess).collect();
    assert_eq!(answers.iter().filter(|(status, _)| *status == 401).count(), 5, "{answers:?}");
    assert!(
        answers[5..].iter().all(|(status, wait)| *status == 429 && (1..=60).contains(wait)),
        "{answers:?}"
    );
    assert_eq!(status(&node, "GET", "/cameras", &[("Cookie", &viewer)], ""), 200);
    node.camfire.wait_log("Somebody gave a wrong password to the web server.");
}

/// Whether `camfire check` accepts a configuration, and what it says.
pub fn check(text: &str) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("camfire.toml");
    fs::write(&file, text).unwrap();
    let output = camfire().args(["check", "--config", file.to_str().unwrap()]).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn an_address_of_the_network_needs_a_password() {
    let folder = tempfile::tempdir().unwrap();
    let (is_valid, text) = check("web.listen = '0.0.0.0:8080'");
    assert!(!is_valid && text.contains("sudo camfire web-password"), "{text}");
    let passwords = folder.path().join("web-passwords");
    web_password(&passwords, &[], "long enough");
    let named = format!("web.listen = '0.0.0.0:8080'\nweb.password_file = '{}'", passwords.display());
    assert!(check(&named).0);
    fs::write(&passwords, "my own password").unwrap();
    let (is_valid, text) = check(&named);
    assert!(!is_valid && text.contains("line 1") && !text.contains("my own password"), "{text}");
    fs::remove_file(&passwords).unwrap();
    assert!(check(&named).1.contains("cannot be read"));
}

/// An address of this machine that is not a loopback address. None if it has no network.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // Nothing is sent.
    socket.connect(("192.0.2.1", 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_loopback())
}

#[test]
fn without_a_password_the_network_gets_only_metrics() {
    let Some(address) = own_address() else { return };
    let port = free_port();
    let config = format!("mqtt.port = 1\nweb.listen = '{address}:{port}'\nweb.allow_remote = true");
    let _camfire = Camfire::run(&config, &[]);
    let get = |path: &str| {
        let mut stream = TcpStream::connect((address, port)).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.split(' ').nth(1)?.parse::<u16>().ok()
    };
    wait_for("the web server", || (get("/healthz") == Some(200)).then_some(()));
    assert_eq!(get("/metrics"), Some(200));
    assert_eq!((get("/api/v1/cameras"), get("/")), (Some(403), Some(404)));
}

#[test]
fn the_command_replaces_the_file_and_refuses_what_is_unsafe() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("web-passwords");
    web_password(&file, &[], "long enough");
    let first = fs::read_to_string(&file).unwrap();
    assert!(first.contains("password admin $argon2id$") && !first.contains("long enough"));
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o640);
    let token = web_password(&file, &["--token", "grafana", "--role", "viewer"], "");
    assert!(token.len() == 64 && fs::read_to_string(&file).unwrap().starts_with(&first));
    let fails = |arguments: &[&str], password: &str| {
        let mut child = camfire()
            .args(["web-password", "--file", file.to_str().unwrap()])
            .args(arguments)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _ = child.stdin.take().unwrap().write_all(password.as_bytes());
        let output = child.wait_with_output().unwrap();
        (output.status.code() == Some(2))
            .then(|| String::from_utf8(output.stderr).unwrap())
            .expect("it is refused")
    };
    let before = fs::read(&file).unwrap();
    assert!(fails(&[], "short\n").contains("8 characters"));
    assert!(fails(&["--token", "a b"], "").contains("letters"));
    assert!(fails(&["--remove-token", "other"], "").contains("no token 'other'"));
    assert!(fails(&["--remove-password", "viewer"], "").contains("no password of the viewer"));
    assert!(fails(&["--remove-password", "root"], "").contains("admin or viewer"));
    assert_eq!(fs::read(&file).unwrap(), before);
    web_password(&file, &["--remove-token", "grafana"], "");
    assert_eq!(fs::read_to_string(&file).unwrap(), first);
    web_password(&file, &["--role", "viewer"], "for all to look");
    web_password(&file, &["--remove-password", "admin"], "");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("password viewer") && !text.contains("password admin"), "{text}");
    web_password(&file, &["--remove-password", "viewer"], "");
    assert!(!fs::read_to_string(&file).unwrap().contains("argon2id"));
}
