//! Detects that an unreachable camera can be reached again, so that a long backoff ends early.
//!
//! Every two seconds a thread of its own connects to the camera's TCP port and closes the connection. This
//! does not load the camera, unlike requesting its stream as often.

use crate::{
    config::{Camera, Source},
    lifecycle,
};
use std::{
    net::{TcpStream, ToSocketAddrs},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// Between two connection attempts.
const INTERVAL: Duration = Duration::from_secs(2);
/// Of one connection attempt.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Probes a camera's port until dropped. Runs on a thread of its own, because name resolution may take long.
pub struct Probe {
    reachable: Arc<AtomicBool>,
    cancelled: Arc<AtomicBool>,
}

impl Probe {
    /// Starts to probe the port of a network camera. Returns None for other cameras.
    ///
    /// If the port is open at first, the camera failed for a reason that a connection cannot detect, and
    /// [`Probe::is_reachable`] stays false.
    pub fn start(camera: &Camera) -> Option<Probe> {
        let (Source::Rtsp { url } | Source::Http { url }) = &camera.source else { return None };
        let address = host_and_port(url)?;
        let probe = Probe { reachable: Arc::default(), cancelled: Arc::default() };
        let (reachable, cancelled) = (probe.reachable.clone(), probe.cancelled.clone());
        let work = move || {
            if is_open(&address) {
                return;
            }
            while !cancelled.load(Ordering::Relaxed) && !is_open(&address) {
                thread::sleep(INTERVAL);
            }
            reachable.store(!cancelled.load(Ordering::Relaxed), Ordering::Relaxed);
        };
        lifecycle::spawn_helper(&format!("probe-{}", camera.name), work).ok()?;
        Some(probe)
    }

    /// Whether the port was closed at first and has been opened since.
    pub fn is_reachable(&self) -> bool {
        self.reachable.load(Ordering::Relaxed)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}

fn is_open(address: &(String, u16)) -> bool {
    let addresses = (address.0.as_str(), address.1).to_socket_addrs();
    addresses.is_ok_and(|mut list| list.any(|address| TcpStream::connect_timeout(&address, TIMEOUT).is_ok()))
}

/// Host and port of a network camera's URL without credentials. Returns None if it is no such URL.
pub fn host_and_port(url: &str) -> Option<(String, u16)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let default_port = match scheme {
        "rtsp" => 554,
        "rtsps" => 322,
        "http" => 80,
        _ => 443,
    };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
        _ => (authority, default_port),
    };
    Some((host.trim_matches(['[', ']']).to_string(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_are_taken_from_every_kind_of_url() {
        for (url, host, port) in [
            ("rtsp://10.0.0.5/s", "10.0.0.5", 554),
            ("rtsps://cam.lan", "cam.lan", 322),
            ("http://cam:8080/video?a=b:c", "cam", 8080),
            ("https://[fe80::1]/x", "fe80::1", 443),
            ("rtsp://[::1]:8554/x", "::1", 8554),
        ] {
            assert_eq!(host_and_port(url), Some((host.to_string(), port)), "{url}");
        }
        assert_eq!(host_and_port("/dev/video0"), None);
    }
}
