//! The two UDP ports of a track: RTP on an even port, RTCP on the one above.

use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};
use tokio::net::UdpSocket;

/// Buffer in the kernel, in bytes: more than a keyframe, which arrives at once.
const RECEIVE_BUFFER: usize = 512 * 1024;
/// Pairs of ports that are tried.
const MAX_TRIES: usize = 64;
/// The longest datagram that is received.
pub const MAX_DATAGRAM: usize = 65_535;

/// The ports of one track.
pub struct Ports {
    /// Receives packets.
    pub media: UdpSocket,
    /// Receives and sends reports.
    pub reports: UdpSocket,
    /// Number of the media port; that of the reports is one higher.
    pub port: u16,
    /// The addresses that packets are accepted from.
    peers: Vec<IpAddr>,
    /// The camera's address and its two ports, if it has told them.
    pub destinations: Option<[SocketAddr; 2]>,
}

impl Ports {
    /// Opens the ports for a camera with this address.
    pub fn open(camera: IpAddr) -> io::Result<Ports> {
        let local: IpAddr = match camera {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let mut last = io::Error::other("no pair of ports is free");
        for _ in 0..MAX_TRIES {
            let media = bind(local, 0)?;
            let port = media.local_addr()?.port();
            if !port.is_multiple_of(2) || port == u16::MAX {
                continue;
            }
            match bind(local, port + 1) {
                Ok(reports) => {
                    return Ok(Ports { media, reports, port, peers: vec![camera], destinations: None });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Takes over what the camera's `Transport` header says about its own address and ports.
    pub fn set_peer(&mut self, camera: IpAddr, transport: &str) {
        let parameter = |name: &str| {
            let mut parameters = transport.split([';', ',']).filter_map(|part| part.trim().split_once('='));
            parameters.find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
        };
        let source = parameter("source").and_then(|text| text.parse::<IpAddr>().ok());
        let source = source.filter(|source| !source.is_multicast()).unwrap_or(camera);
        if !self.peers.contains(&source) {
            self.peers.push(source);
        }
        let ports = parameter("server_port").map(|text| text.split_once('-').unwrap_or((text, "")));
        self.destinations = ports.and_then(|(media, reports)| {
            let media: u16 = media.parse().ok()?;
            let reports = reports.parse().unwrap_or(media.saturating_add(1));
            Some([SocketAddr::new(source, media), SocketAddr::new(source, reports)])
        });
    }

    /// Whether a datagram comes from the camera.
    pub fn is_peer(&self, from: SocketAddr) -> bool {
        self.peers.contains(&from.ip())
    }
}

fn bind(address: IpAddr, port: u16) -> io::Result<UdpSocket> {
    let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    // The system may allow less; packets are lost then only under load.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(address, port).into())?;
    UdpSocket::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn packets_are_accepted_only_from_the_camera_and_where_it_says_they_come_from() {
        let camera: IpAddr = Ipv4Addr::LOCALHOST.into();
        let mut ports = Ports::open(camera).unwrap();
        assert!(ports.port.is_multiple_of(2));
        assert_eq!(ports.reports.local_addr().unwrap().port(), ports.port + 1);
        let from = |text: &str| SocketAddr::new(text.parse().unwrap(), 9000);
        ports.set_peer(camera, "RTP/AVP;unicast;source=10.0.0.9;server_port=6970-6971");
        assert!(ports.is_peer(from("127.0.0.1")) && ports.is_peer(from("10.0.0.9")));
        assert!(!ports.is_peer(from("10.0.0.8")));
        let expected = [6970, 6971].map(|port| SocketAddr::new("10.0.0.9".parse().unwrap(), port));
        assert_eq!(ports.destinations, Some(expected));
        ports.set_peer(camera, "RTP/AVP;unicast;source=224.0.0.1;server_port=7000");
        assert!(!ports.is_peer(from("224.0.0.1")));
        assert_eq!(ports.destinations.unwrap()[1], SocketAddr::new(camera, 7001));
        ports.set_peer(camera, "RTP/AVP;unicast;server_port=x");
        assert_eq!(ports.destinations, None);
    }
}
