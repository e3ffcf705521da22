//! Requests through reverse proxies: those that are named are believed whom they speak for, and no others.

use super::{
    Answer, Node,
    access::{check, guarded_with},
};
use serde_json::json;

/// Tries to log in.
fn log_in(node: &Node, password: &str, headers: &[(&str, &str)]) -> Answer {
    let headers: Vec<_> = headers.iter().copied().chain([("Content-Type", "application/json")]).collect();
    let body = json!({ "password": password }).to_string();
    node.try_request("POST", "/api/v1/session", &headers, body.as_bytes()).unwrap()
}

#[test]
fn a_named_proxy_is_believed_whom_it_speaks_for() {
    let (node, _folder, _) = guarded_with("web.trusted_proxies = ['127.0.0.0/8']");
    let guess = |address: &str| log_in(&node, "a wrong one", &[("X-Forwarded-For", address)]).status;
    let answers: Vec<u16> = (0..6).map(|number| guess(&format!("6.6.6.{number}, 192.0.2.1"))).collect();
    assert_eq!(answers, [401, 401, 401, 401, 401, 429], "what the client itself has sent does not count");
    assert_eq!(guess("192.0.2.2"), 401, "another client of the proxy");
    node.camfire.wait_log("192.0.2.2");

    let through_https = [("X-Forwarded-Proto", "https")];
    let answer = log_in(&node, "for all to look", &through_https);
    let cookie = answer.header("set-cookie").to_string();
    assert!(cookie.starts_with("__Host-") && cookie.ends_with("; Secure"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();
    let list = |headers: &[(&str, &str)]| {
        node.try_request("GET", "/api/v1/cameras", &[&[("Cookie", cookie)], headers].concat(), b"")
            .unwrap()
            .status
    };
    assert_eq!((list(&through_https), list(&[])), (200, 401));

    let host = [("Host", "evil.example"), ("X-Forwarded-Host", "127.0.0.1")];
    let answer = node.try_request("GET", "/", &host, b"").unwrap();
    assert_eq!(answer.status, 421, "no proxy is believed the host");
}

#[test]
fn others_are_not_believed() {
    let (node, _folder, _) = guarded_with("web.trusted_proxies = ['192.0.2.0/24']");
    let guess = |number: u8| {
        let address = format!("10.0.0.{number}");
        let headers = [("X-Forwarded-For", address.as_str()), ("X-Forwarded-Proto", "https")];
        log_in(&node, "a wrong one", &headers).status
    };
    assert_eq!((0..6).map(guess).collect::<Vec<_>>(), [401, 401, 401, 401, 401, 429]);
}

#[test]
fn behind_a_proxy_there_must_be_a_password() {
    let (is_valid, text) = check("web.listen = '127.0.0.1:8080'\nweb.trusted_proxies = ['127.0.0.1']");
    assert!(!is_valid && text.contains("web.trusted_proxies") && text.contains("web-password"), "{text}");
    let (is_valid, text) = check("web.trusted_proxies = ['proxy.lan', '0.0.0.0/0']");
    assert!(!is_valid && text.contains("\"proxy.lan\"") && text.contains("every address"), "{text}");

    // A proxy that nobody has told camfire of.
    let node = Node::start("");
    for header in [("X-Forwarded-For", "192.0.2.1"), ("Forwarded", "for=192.0.2.1"), ("Via", "1.1 Caddy")] {
        let get = |path: &str| node.try_request("GET", path, &[header], b"").unwrap();
        for path in ["/", "/main.js", "/api/v1/cameras"] {
            let answer = get(path);
            assert_eq!(answer.status, 403, "{path}");
            assert!(answer.text().contains("web.trusted_proxies"), "{}", answer.text());
        }
        assert_eq!(get("/api/v1/session").json()["role"], json!(null));
        assert_eq!((get("/metrics").status, get("/healthz").status), (200, 200));
    }
    assert_eq!(node.get("/api/v1/cameras").status, 200);
}
