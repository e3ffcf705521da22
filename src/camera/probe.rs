//! Finds out when a camera that was away is back, so that a long pause ends early: a TCP connection now and then costs a
//! camera nothing, an attempt at its stream may.

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

const EVERY: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(2);

/// Looks for a camera on a helper's thread (names may take long to be looked up) until dropped.
pub struct Probe {
    back: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
}

impl Probe {
    /// For a camera on the network whose port is closed now. One whose port is open fails for another reason, of which
    /// a connection would tell nothing.
    pub fn start(camera: &Camera) -> Option<Probe> {
        let place = place(&camera.source)?;
        let probe = Probe { back: Arc::default(), over: Arc::default() };
        let (back, over) = (probe.back.clone(), probe.over.clone());
        let look = move || {
            if answers(&place) {
                return;
            }
            while !over.load(Ordering::Relaxed) && !answers(&place) {
                thread::sleep(EVERY);
            }
            back.store(!over.load(Ordering::Relaxed), Ordering::Relaxed);
        };
        lifecycle::spawn_helper(&format!("probe-{}", camera.name), look).ok()?;
        Some(probe)
    }

    /// The camera's port has opened since.
    pub fn is_back(&self) -> bool {
        self.back.load(Ordering::Relaxed)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn answers(place: &(String, u16)) -> bool {
    let addresses = (place.0.as_str(), place.1).to_socket_addrs();
    addresses.is_ok_and(|mut list| list.any(|address| TcpStream::connect_timeout(&address, TIMEOUT).is_ok()))
}

/// Host and port of an address whose form was checked.
fn place(source: &Source) -> Option<(String, u16)> {
    let (Source::Rtsp { url } | Source::Http { url }) = source else { return None };
    let (scheme, rest) = url.split_once("://")?;
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let usual = match scheme {
        "rtsp" => 554,
        "rtsps" => 322,
        "http" => 80,
        _ => 443,
    };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
        _ => (authority, usual),
    };
    Some((host.trim_matches(['[', ']']).to_string(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_of_every_address() {
        for (url, host, port) in [
            ("rtsp://10.0.0.5/s", "10.0.0.5", 554),
            ("rtsps://cam.lan", "cam.lan", 322),
            ("http://cam:8080/video?a=b:c", "cam", 8080),
            ("https://[fe80::1]/x", "fe80::1", 443),
            ("rtsp://[::1]:8554/x", "::1", 8554),
        ] {
            let source = Source::Rtsp { url: url.into() };
            assert_eq!(place(&source), Some((host.to_string(), port)), "{url}");
        }
        assert_eq!(place(&Source::Csi { sensor: 0 }), None);
    }
}
