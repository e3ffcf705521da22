//! The check of the host that a request is for.
//!
//! A web page can give its own name the address of this server (DNS rebinding) and then read the answers,
//! which a browser takes for the page's own. Such a request names the page's host, so only IP addresses,
//! loopback names and the names of this machine are answered.

use axum::{
    extract::{Request, State},
    http::{HeaderValue, StatusCode, Version, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

/// Passes on requests for this server. `hosts` are the names of this machine, in lower case.
pub(super) async fn check(State(hosts): State<Arc<[String]>>, request: Request, next: Next) -> Response {
    match refusal(&request, &hosts) {
        None => next.run(request).await,
        Some(refusal) => refusal.into_response(),
    }
}

/// Status and text for a request that is not for this server.
fn refusal(request: &Request, hosts: &[String]) -> Option<(StatusCode, String)> {
    let bad = |text: &str| Some((StatusCode::BAD_REQUEST, format!("{text}\n")));
    let mut headers = request.headers().get_all(header::HOST).iter();
    let (first, second) = (headers.next(), headers.next());
    if second.is_some() {
        return bad("more than one Host header");
    }
    // Browsers always name the host; before HTTP 1.1 simple clients do not.
    if first.is_none() && request.uri().authority().is_none() {
        return if request.version() <= Version::HTTP_10 { None } else { bad("no Host header") };
    }
    let header = first.map(HeaderValue::to_str);
    let names = header.into_iter().map(Result::ok).chain(request.uri().authority().map(|a| Some(a.as_str())));
    for name in names {
        let authority = name.and_then(|name| name.parse::<Authority>().ok());
        let Some(authority) = authority.filter(|authority| !authority.as_str().contains('@')) else {
            return bad("not a valid Host header");
        };
        if !is_own(authority.host(), hosts) {
            let text = format!("not the host {}: web.hosts lists further names\n", authority.host());
            return Some((StatusCode::MISDIRECTED_REQUEST, text));
        }
    }
    None
}

fn is_own(host: &str, hosts: &[String]) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let is_v6 = |text: &str| text.parse::<Ipv6Addr>().is_ok();
    let is_address = host.parse::<Ipv4Addr>().is_ok()
        || host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(is_v6);
    let is_loopback = host == "localhost" || host.ends_with(".localhost");
    let is_listed = |listed: &String| match listed.parse::<IpAddr>() {
        Ok(_) => false,
        Err(_) => *listed == host,
    };
    is_address || is_loopback || hosts.iter().any(is_listed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    fn status(uri: &str, version: Version, headers: &[&str]) -> u16 {
        let mut request = Request::builder().uri(uri).version(version);
        for host in headers {
            request = request.header(header::HOST, *host);
        }
        let hosts = ["porch".to_string(), "porch.local".to_string(), "cam.lan".to_string()];
        let refusal = refusal(&request.body(Body::empty()).unwrap(), &hosts);
        refusal.map_or(200, |(status, _)| status.as_u16())
    }

    #[test]
    fn only_requests_for_this_machine_are_answered() {
        for (host, expected) in [
            ("127.0.0.1:9190", 200),
            ("192.168.1.7", 200),
            ("[::1]:9190", 200),
            ("[fe80::1]", 200),
            ("localhost:9190", 200),
            ("LOCALHOST.", 200),
            ("app.localhost", 200),
            ("porch:9190", 200),
            ("Porch.local", 200),
            ("cam.lan.", 200),
            ("evil.example", 421),
            ("porch.evil.example", 421),
            ("127.0.0.1.evil.example", 421),
            ("localhost.evil.example", 421),
            ("evillocalhost", 421),
            ("127.1", 421),
            ("", 400),
            ("evil.example@porch", 400),
            ("porch/", 400),
            ("a b", 400),
        ] {
            assert_eq!(status("/healthz", Version::HTTP_11, &[host]), expected, "{host}");
        }
    }

    #[test]
    fn a_request_names_one_host() {
        assert_eq!(status("/healthz", Version::HTTP_11, &[]), 400);
        assert_eq!(status("/healthz", Version::HTTP_10, &[]), 200, "simple health checks");
        assert_eq!(status("/healthz", Version::HTTP_10, &["evil.example"]), 421);
        assert_eq!(status("/healthz", Version::HTTP_11, &["porch", "porch"]), 400);
        assert_eq!(status("http://evil.example/healthz", Version::HTTP_11, &["porch"]), 421);
        assert_eq!(status("http://porch/healthz", Version::HTTP_11, &["porch"]), 200);
    }
}
