//! Finds ONVIF cameras on the local network with WS-Discovery: a question over UDP multicast, or to addresses
//! that multicast does not reach, and the answers that come within a few seconds.
//!
//! Anyone on the network can answer. So the number, the size and the XML of the answers are bounded, texts
//! are reduced to printable ASCII, and a camera's address is that of the packet, not what its text claims.

use super::readable;
use crate::config::percent_decode;
use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

/// The port and the multicast group of WS-Discovery (OASIS WS-Discovery 1.1, section 2.4).
pub const PORT: u16 = 3702;
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 255, 250);
/// When the question is sent after the start. A second time, because UDP packets get lost.
const SENT_AFTER: [Duration; 2] = [Duration::ZERO, Duration::from_millis(500)];
/// How long one socket waits before the next one is looked at.
const STEP: Duration = Duration::from_millis(20);
/// Cameras that are returned.
const MAX_CAMERAS: usize = 64;
/// Answers that are read, of all cameras together.
const MAX_ANSWERS: usize = 1024;
/// Elements, attributes and texts of an answer. A real one has about 60.
const MAX_NODES: u32 = 2000;
/// Characters of a name.
const MAX_NAME_CHARS: usize = 60;

/// A camera that has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where the answer came from.
    pub address: IpAddr,
    /// Maker and model, as far as the camera tells. May be empty.
    pub name: String,
}

/// Asks on all interfaces, and `addresses` directly. Returns the cameras that answer within `time`, by
/// address.
///
/// Errors: no question could be sent.
pub fn discover(addresses: &[SocketAddr], time: Duration) -> io::Result<Vec<Found>> {
    let mut sockets = Vec::new();
    let mut failure = None;
    let interfaces = if_addrs::get_if_addrs()?.into_iter().filter_map(|interface| match interface.ip() {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    });
    let group = SocketAddr::from((GROUP, PORT));
    // A socket that is bound to an interface's address sends multicast packets through that interface.
    let multicast = interfaces.map(|ip| (SocketAddr::from((ip, 0)), group));
    let direct = addresses.iter().map(|&address| {
        let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        (any.parse().expect("these are addresses"), address)
    });
    for (own, target) in multicast.chain(direct) {
        match open(own) {
            Ok(socket) => sockets.push((socket, target)),
            Err(error) => failure = Some(error),
        }
    }
    let start = Instant::now();
    let mut sent = 0;
    let mut is_sent = false;
    let mut found = BTreeMap::new();
    let mut answers = 0;
    while start.elapsed() < time && answers < MAX_ANSWERS && found.len() < MAX_CAMERAS {
        if SENT_AFTER.get(sent).is_some_and(|after| start.elapsed() >= *after) {
            sent += 1;
            for (socket, target) in &sockets {
                match socket.send_to(question().as_bytes(), target) {
                    Ok(_) => is_sent = true,
                    Err(error) => failure = Some(error),
                }
            }
        }
        if !is_sent {
            break;
        }
        // A datagram has at most 65507 bytes, so the buffer is the limit of an answer.
        let mut buffer = vec![0; 1 << 16];
        for (socket, _) in &sockets {
            while answers < MAX_ANSWERS
                && let Ok((len, from)) = socket.recv_from(&mut buffer)
            {
                answers += 1;
                if let Some(name) = std::str::from_utf8(&buffer[..len]).ok().and_then(camera_name) {
                    found.entry(from.ip()).or_insert(name);
                }
            }
        }
    }
    match failure {
        Some(error) if !is_sent => Err(error),
        _ => Ok(found.into_iter().take(MAX_CAMERAS).map(|(address, name)| Found { address, name }).collect()),
    }
}

fn open(own: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(own)?;
    socket.set_read_timeout(Some(STEP))?;
    Ok(socket)
}

/// A Probe for ONVIF's video sources, with an id of its own.
fn question() -> String {
    let id = uuid::Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
         <s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" \
         xmlns:a=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" \
         xmlns:d=\"http://schemas.xmlsoap.org/ws/2005/04/discovery\" \
         xmlns:n=\"http://www.onvif.org/ver10/network/wsdl\">\
         <s:Header><a:MessageID>urn:uuid:{id}</a:MessageID>\
         <a:To s:mustUnderstand=\"true\">urn:schemas-xmlsoap-org:ws:2005:04:discovery</a:To>\
         <a:Action s:mustUnderstand=\"true\">http://schemas.xmlsoap.org/ws/2005/04/discovery/Probe</a:Action>\
         </s:Header><s:Body><d:Probe><d:Types>n:NetworkVideoTransmitter</d:Types></d:Probe></s:Body>\
         </s:Envelope>"
    )
}

/// The name of the camera that has sent this answer. Returns None if it is not an answer to a Probe.
fn camera_name(answer: &str) -> Option<String> {
    let options = roxmltree::ParsingOptions { nodes_limit: MAX_NODES, ..Default::default() };
    let document = roxmltree::Document::parse_with_options(answer.trim(), options).ok()?;
    // Namespaces are not compared: cameras write them wrongly.
    let named = |name: &str| document.descendants().find(|node| node.tag_name().name() == name);
    let answer = named("ProbeMatch")?;
    let scopes = answer.descendants().find(|node| node.tag_name().name() == "Scopes");
    let scopes = scopes.and_then(|scopes| scopes.text()).unwrap_or_default();
    let scope = |kind: &str| {
        let value = scopes.split_whitespace().find_map(|scope| {
            let (start, value) = scope.split_once(&format!("/{kind}/"))?;
            start.ends_with("www.onvif.org").then_some(value)
        });
        readable(&String::from_utf8_lossy(&percent_decode(value.unwrap_or_default())), MAX_NAME_CHARS)
    };
    let (name, hardware) = (scope("name"), scope("hardware"));
    let is_repeated = name.to_lowercase().contains(&hardware.to_lowercase());
    Some(if is_repeated { name } else { format!("{name} {hardware}").trim().to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(scopes: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?><E:Envelope xmlns:E=\"http://www.w3.org/2003/05/soap-envelope\">\
             <E:Body><D:ProbeMatches xmlns:D=\"http://schemas.xmlsoap.org/ws/2005/04/discovery\"><D:ProbeMatch>\
             <D:Scopes>{scopes}</D:Scopes><D:XAddrs>http://10.0.0.9/onvif/device_service</D:XAddrs>\
             </D:ProbeMatch></D:ProbeMatches></E:Body></E:Envelope>"
        )
    }

    #[test]
    fn the_name_is_that_of_maker_and_model() {
        for (scopes, name) in [
            (
                "onvif://www.onvif.org/type/ptz onvif://www.onvif.org/name/HIKVISION%20DS-2CD2032 \
              onvif://www.onvif.org/hardware/DS-2CD2032",
                "HIKVISION DS-2CD2032",
            ),
            ("onvif://www.onvif.org/hardware/C200 onvif://www.onvif.org/name/TP-Link", "TP-Link C200"),
            ("onvif://www.onvif.org/name/%1b[31mx%zz", "[31mx%zz"),
            ("", ""),
        ] {
            assert_eq!(camera_name(&answer(scopes)).as_deref(), Some(name));
        }
        let long = camera_name(&answer(&format!("onvif://www.onvif.org/name/{}", "x".repeat(9999)))).unwrap();
        assert_eq!(long.len(), MAX_NAME_CHARS);
    }

    #[test]
    fn what_is_no_answer_is_ignored() {
        let entities =
            "<!DOCTYPE a [<!ENTITY b \"bbbb\"><!ENTITY c \"&b;&b;\">]><ProbeMatch>&c;</ProbeMatch>";
        let nested = format!("{}<ProbeMatch/>", "<a>".repeat(5000));
        let wide = format!("<ProbeMatch>{}</ProbeMatch>", "<a/>".repeat(5000));
        for text in ["", "hello", "<Envelope/>", "<ProbeMatch", entities, &nested, &wide] {
            assert_eq!(camera_name(text), None, "{}", &text[..text.len().min(80)]);
        }
    }

    #[test]
    fn the_question_is_xml_with_an_id_of_its_own() {
        let (one, other) = (question(), question());
        assert!(roxmltree::Document::parse(&one).is_ok());
        assert_ne!(one, other);
        assert_eq!(camera_name(&one), None);
    }
}
