//! Who sends a request: the other end of the connection, or whoever a reverse proxy speaks for.
//!
//! A proxy tells by headers for whom and by which protocol it has got a request. Anybody can send these
//! headers, so they are believed only on connections of the proxies that the configuration names.

use axum::{
    Extension,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue},
    middleware::Next,
    response::Response,
};
use ipnet::IpNet;
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

const FORWARDED: &str = "forwarded";
const FOR: &str = "x-forwarded-for";
const PROTO: &str = "x-forwarded-proto";
/// What proxies add to a request, and neither browsers nor programs.
const ADDED_BY_PROXIES: [&str; 6] = [FORWARDED, FOR, PROTO, "x-forwarded-host", "x-real-ip", "via"];

/// Who sends a request: at first the other end of its connection, then, once it is identified, the browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    pub address: IpAddr,
    /// Whether it speaks https.
    pub is_secure: bool,
}

/// The proxies that are believed.
#[derive(Debug, Clone, Default)]
pub struct Proxies(Arc<[IpNet]>);

impl Proxies {
    /// Believes those at these addresses.
    pub fn new(networks: &[IpNet]) -> Proxies {
        Proxies(networks.into())
    }

    /// Whether there is one of them at an address.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address.to_canonical()))
    }

    /// The sender of a request that came over a connection of `peer`.
    fn client(&self, peer: Client, headers: &HeaderMap) -> Client {
        let Client { mut address, mut is_secure } = peer;
        if !self.contains(address) {
            return Client { address, is_secure };
        }
        // A proxy that adds the one header passes the other on as it came.
        let hops = if headers.contains_key(FOR) { forwarded_for(headers) } else { forwarded(headers) };
        if let Some(protocol) = last(headers, PROTO).or(hops.last().and_then(|hop| hop.protocol)) {
            is_secure = protocol.eq_ignore_ascii_case("https");
        }
        // Each proxy has added at the end where the request came from. Before the first address that is not a
        // proxy's, anything can stand.
        for hop in hops.iter().rev() {
            match hop.address.and_then(parse_address) {
                Some(before) if self.contains(address) => address = before,
                _ => break,
            }
        }
        Client { address, is_secure }
    }
}

/// Replaces the [`Client`] of a request, which is the other end of its connection, by the sender.
pub(super) async fn identify(
    State(proxies): State<Proxies>,
    Extension(peer): Extension<Client>,
    mut request: Request,
    next: Next,
) -> Response {
    let client = proxies.client(peer, request.headers());
    request.extensions_mut().insert(client);
    next.run(request).await
}

/// The header that tells that a request came through a proxy, whoever that is.
pub(super) fn added_by_proxy(headers: &HeaderMap) -> Option<&'static str> {
    ADDED_BY_PROXIES.into_iter().find(|name| headers.contains_key(*name))
}

/// Where a request has passed.
struct Hop<'a> {
    address: Option<&'a str>,
    protocol: Option<&'a str>,
}

/// The elements of a list in headers of this name.
fn elements<'a>(headers: &'a HeaderMap, name: &str) -> impl DoubleEndedIterator<Item = &'a str> {
    let values =
        headers.get_all(name).into_iter().map(|value: &HeaderValue| value.to_str().unwrap_or_default());
    values.collect::<Vec<_>>().into_iter().flat_map(|value| value.split(',')).map(str::trim)
}

fn last<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    elements(headers, name).next_back()
}

fn forwarded_for(headers: &HeaderMap) -> Vec<Hop<'_>> {
    elements(headers, FOR).map(|address| Hop { address: Some(address), protocol: None }).collect()
}

/// The hops of `Forwarded` (RFC 7239): `for=192.0.2.60;proto=https, for="[2001:db8::1]:4711"`.
fn forwarded(headers: &HeaderMap) -> Vec<Hop<'_>> {
    fn hop(element: &str) -> Hop<'_> {
        let value = |wanted: &str| {
            let mut pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
            pairs
                .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
                .map(|(_, value)| value.trim_matches('"'))
        };
        Hop { address: value("for"), protocol: value("proto") }
    }
    elements(headers, FORWARDED).map(hop).collect()
}

/// An address, with or without a port: `192.0.2.1:4711`, `2001:db8::1`, `[2001:db8::1]`.
fn parse_address(text: &str) -> Option<IpAddr> {
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let address = text.parse().ok().or_else(in_brackets);
    address
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sender of a request from 10.0.0.1, and whether it speaks https. Proxies are in 10.0.0.0/24.
    fn client_behind(pairs: &[(&'static str, &str)]) -> (String, bool) {
        client("10.0.0.1", pairs)
    }

    fn client(peer: &str, pairs: &[(&'static str, &str)]) -> (String, bool) {
        let proxies = Proxies::new(&["10.0.0.0/24".parse().unwrap()]);
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let peer = Client { address: peer.parse().unwrap(), is_secure: false };
        let Client { address, is_secure } = proxies.client(peer, &headers);
        (address.to_string(), is_secure)
    }

    #[test]
    fn only_a_named_proxy_is_believed() {
        let headers = [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "https")];
        assert_eq!(client_behind(&headers), ("192.0.2.1".into(), true));
        assert_eq!(client("::ffff:10.0.0.1", &headers), ("192.0.2.1".into(), true));
        assert_eq!(client("10.0.1.1", &headers), ("10.0.1.1".into(), false));
        assert_eq!(client_behind(&[]), ("10.0.0.1".into(), false));
    }

    #[test]
    fn the_client_is_the_last_address_that_is_no_proxys() {
        for (value, expected) in [
            ("6.6.6.6, 192.0.2.1", "192.0.2.1"),
            ("6.6.6.6, 192.0.2.1,10.0.0.2", "192.0.2.1"),
            ("6.6.6.6, evil, 10.0.0.2", "10.0.0.2"),
            ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
            ("192.0.2.1:4711", "192.0.2.1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("unknown", "10.0.0.1"),
            ("", "10.0.0.1"),
            ("192.0.2.1,", "10.0.0.1"),
        ] {
            assert_eq!(client_behind(&[("x-forwarded-for", value)]).0, expected, "{value}");
        }
        let twice = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "192.0.2.1")];
        assert_eq!(client_behind(&twice).0, "192.0.2.1");
    }

    #[test]
    fn forwarded_says_the_same_in_other_words() {
        for (value, expected) in [
            ("for=192.0.2.1;proto=https;by=10.0.0.1", ("192.0.2.1", true)),
            ("for=6.6.6.6, For=\"[2001:db8::1]:4711\"; Proto=http", ("2001:db8::1", false)),
            ("for=6.6.6.6;proto=https, for=_hidden", ("10.0.0.1", false)),
            ("for=192.0.2.1, for=10.0.0.2;proto=https", ("192.0.2.1", true)),
            ("proto=https", ("10.0.0.1", true)),
            (";=;,", ("10.0.0.1", false)),
        ] {
            let (address, is_secure) = client_behind(&[("forwarded", value)]);
            assert_eq!((address.as_str(), is_secure), expected, "{value}");
        }
        let both = [("forwarded", "for=6.6.6.6"), ("x-forwarded-for", "192.0.2.1")];
        assert_eq!(client_behind(&both).0, "192.0.2.1");
    }
}
