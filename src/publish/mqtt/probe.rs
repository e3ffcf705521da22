//! Whether the port of a broker is for TLS or for plain MQTT, to name the reason when the other one was
//! tried.
//!
//! The errors of the libraries do not tell: one side speaks what the other does not understand, and the
//! connection ends. So after such an end a connection of its own says a few bytes in the other way and looks
//! at the first bytes of the answer.

use crate::config;
use rumqttc::{ConnectionError, StateError};
use std::{io::ErrorKind, time::Duration};
use tokio::{net::TcpStream, time};

/// Time for the whole probe.
const TIMEOUT: Duration = Duration::from_secs(3);

/// A TLS 1.2 ClientHello without extensions. Whatever versions a TLS server supports, it answers with a
/// handshake or with an alert.
const CLIENT_HELLO: &[u8] = &[
    0x16, 0x03, 0x01, 0x00, 0x31, // A record of 49 bytes.
    0x01, 0x00, 0x00, 0x2d, 0x03, 0x03, // ClientHello of 45 bytes for TLS 1.2, and its random number.
    0x63, 0x61, 0x6d, 0x66, 0x69, 0x72, 0x65, 0x20, 0x70, 0x72, 0x6f, 0x62, 0x65, 0x73, 0x20, 0x69, //
    0x66, 0x20, 0x74, 0x68, 0x69, 0x73, 0x20, 0x69, 0x73, 0x20, 0x54, 0x4c, 0x53, 0x2e, 0x2e, 0x2e, //
    0x00, 0x00, 0x06, 0xc0, 0x2f, 0xc0, 0x13, 0x00, 0x2f, // No session; three cipher suites.
    0x01, 0x00, // No compression.
];
/// An MQTT 3.1.1 CONNECT without a client id, login or will, for a session of its own.
const MQTT_CONNECT: &[u8] = &[0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 10, 0, 0];

/// A port, and how the configuration speaks to it.
#[derive(Debug, Clone)]
pub(super) struct Probe {
    host: String,
    port: u16,
    is_tls: bool,
}

impl Probe {
    /// The probe of one of the brokers.
    pub(super) fn new(config: &config::Mqtt, broker: usize) -> Probe {
        let config::Broker { host, port } = &config.brokers[broker];
        Probe { host: host.clone(), port: *port, is_tls: config.tls.is_some() }
    }

    /// The reason for a connection that failed with `error` before the broker accepted it, if it is that the
    /// port is for the other kind of connections. The broker is its subject ("it").
    pub(super) async fn reason(&self, error: &ConnectionError) -> Option<&'static str> {
        if !may_be_mismatch(error) {
            return None;
        }
        let question = if self.is_tls { MQTT_CONNECT } else { CLIENT_HELLO };
        let answer = time::timeout(TIMEOUT, self.ask(question)).await.ok()?.ok()?;
        match (self.is_tls, answer) {
            // A CONNACK, whatever it says.
            (true, [0x20, 0x02]) => Some(
                "it speaks plain MQTT at this port and mqtt.tls is true: set mqtt.tls = false, or the port for TLS (usually 8883)",
            ),
            // A handshake or an alert of TLS.
            (false, [0x15 | 0x16, 0x03]) => Some(
                "it speaks TLS at this port and mqtt.tls is false: set mqtt.tls = true, or the port without TLS (usually 1883)",
            ),
            _ => None,
        }
    }

    /// As [`Probe::reason`], outside of an event loop.
    pub(super) fn reason_blocking(&self, error: &ConnectionError) -> Option<&'static str> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        runtime.block_on(self.reason(error))
    }

    /// The first two bytes of the answer.
    async fn ask(&self, question: &[u8]) -> std::io::Result<[u8; 2]> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.writable().await?;
        // The buffer of a new connection takes a few bytes as a whole.
        stream.try_write(question)?;
        let (mut answer, mut len) = ([0; 2], 0);
        while len < answer.len() {
            stream.readable().await?;
            match stream.try_read(&mut answer[len..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => len += read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(answer)
    }
}

/// Whether the two sides may have misunderstood each other: a connection was there, and nobody refused it.
fn may_be_mismatch(error: &ConnectionError) -> bool {
    match error {
        ConnectionError::Io(error) | ConnectionError::MqttState(StateError::Io(error)) => !matches!(
            error.kind(),
            ErrorKind::ConnectionRefused
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
                | ErrorKind::AddrNotAvailable
                | ErrorKind::TimedOut
        ),
        ConnectionError::Tls(_) | ConnectionError::MqttState(_) | ConnectionError::NetworkTimeout => true,
        _ => false,
    }
}
