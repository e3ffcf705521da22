//! Finds cameras that the configuration does not have yet: local ones, and ONVIF cameras on the network.

use crate::{
    camera::{gst::Place, host_and_port, onvif},
    cli::{local_cameras, output, stream_urls},
    config::{Camera, Source},
};
use std::{net::SocketAddr, path::Path, time::Duration};

/// How long cameras on the network have to answer.
const ONVIF_TIME: Duration = Duration::from_secs(3);

/// A camera that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// What it calls itself.
    pub name: String,
    /// What it is and where, for people.
    pub text: String,
    /// Its address. Of a network camera a guess, which may be without a path.
    pub source: String,
    /// It is on the network: its stream's path is a guess, and it has a login.
    pub is_network: bool,
    /// The path is that of the maker's substreams.
    pub is_path_known: bool,
}

/// Finds cameras that `configured` does not have. `asked`: addresses to ask directly.
pub fn find(root: &Path, asked: &[SocketAddr], configured: &[Camera]) -> Vec<Candidate> {
    let local = local_cameras::find(root);
    let v4l2 = local.v4l2.into_iter().filter_map(|camera| {
        let node = camera.node.display().to_string();
        if let Some(refused) = camera.refused {
            output::note!("{node} ({}) cannot be opened: {refused}", camera.name);
            return None;
        }
        let text = [vec![camera.name.clone()], camera.formats].concat().join(", ");
        Some(Candidate::local(camera.name, format!("{node}: {text}"), format!("v4l2://{node}")))
    });
    // One that is alone needs no name, and stays found if it is replaced.
    let is_alone = local.libcamera.len() == 1;
    let libcamera = local.libcamera.into_iter().filter_map(|camera| match camera.place {
        Place::Libcamera(id) => {
            let source = if is_alone { "libcamera://".into() } else { format!("libcamera://{id}") };
            Some(Candidate::local("camera".into(), format!("libcamera: {id}"), source))
        }
        Place::V4l2(_) => None,
    });
    let network = onvif::discover(asked, ONVIF_TIME).unwrap_or_else(|error| {
        output::note!("The local network cannot be searched: {error}");
        Vec::new()
    });
    let found = v4l2.chain(libcamera).chain(network.into_iter().map(Candidate::network));
    found.filter(|candidate| !configured.iter().any(|camera| candidate.is_that_of(camera))).collect()
}

impl Candidate {
    fn local(name: String, text: String, source: String) -> Candidate {
        Candidate { name, text, source, is_network: false, is_path_known: true }
    }

    fn network(found: onvif::Found) -> Candidate {
        let host = match found.address.is_ipv6() {
            true => format!("[{}]", found.address),
            false => found.address.to_string(),
        };
        let path = stream_urls::substream_path(&found.name);
        let name = if found.name.is_empty() { "an ONVIF camera" } else { &found.name };
        Candidate {
            text: format!("{}: {name}", found.address),
            source: format!("rtsp://{host}{}", path.unwrap_or("/")),
            name: found.name,
            is_network: true,
            is_path_known: path.is_some(),
        }
    }

    /// Whether a configured camera is this one.
    fn is_that_of(&self, camera: &Camera) -> bool {
        let sources = [Some(&camera.source), camera.snapshot_source.as_ref()];
        sources.into_iter().flatten().any(|source| match source {
            Source::V4l2 { device } => self.source == format!("v4l2://{}", device.display()),
            Source::Libcamera { name: None } => self.source.starts_with("libcamera://"),
            Source::Libcamera { name: Some(name) } => self.source == format!("libcamera://{name}"),
            Source::Rtsp { url } | Source::Http { url } => {
                self.is_network && host(url).is_some() && host(url) == host(&self.source)
            }
            _ => false,
        })
    }
}

fn host(url: &str) -> Option<String> {
    host_and_port(url).map(|(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::camera::template::tests::camera;

    #[test]
    fn cameras_that_are_configured_are_not_found_again() {
        let found = |address: &str, name: &str| {
            Candidate::network(onvif::Found { address: address.parse().unwrap(), name: name.into() })
        };
        let one = found("10.0.0.9", "TP-Link C200");
        assert_eq!((one.source.as_str(), one.is_path_known), ("rtsp://10.0.0.9/stream2", true));
        assert_eq!(found("fe80::1", "").source, "rtsp://[fe80::1]/");
        for (url, is_same) in [
            ("rtsp://10.0.0.9:554/stream1", true),
            ("http://10.0.0.9/mjpeg", true),
            ("rtsp://10.0.0.99/stream2", false),
        ] {
            assert_eq!(one.is_that_of(&camera(Source::Rtsp { url: url.into() })), is_same, "{url}");
        }
        let usb = Candidate::local("A".into(), "A".into(), "v4l2:///dev/video0".into());
        assert!(usb.is_that_of(&camera(Source::V4l2 { device: "/dev/video0".into() })));
        assert!(!usb.is_that_of(&camera(Source::V4l2 { device: "/dev/video2".into() })));
        assert!(!usb.is_that_of(&camera(Source::Rtsp { url: "rtsp://10.0.0.9/".into() })));
    }
}
