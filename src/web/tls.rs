//! The beginning of a connection to a server that has a certificate: the TLS handshake, or a client that does
//! not encrypt and gets a sentence.

use crate::config::web_certificate::WebCertificate;
use axum::{
    Router,
    http::{StatusCode, header},
};
use openssl::ssl::Ssl;
use std::pin::Pin;
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

/// The first byte of a TLS handshake.
const HANDSHAKE: u8 = 0x16;

/// A connection that can carry requests.
pub(super) enum Begun {
    Encrypted(SslStream<TcpStream>),
    /// The client speaks HTTP without encryption.
    Plain(TcpStream),
}

/// Waits for the client to begin, and makes the handshake. The TLS library limits the size of the client's
/// messages to 128 KiB, the caller the time. None: there is no connection.
pub(super) async fn begin(stream: TcpStream, certificate: WebCertificate) -> Option<Begun> {
    let mut first = [0];
    // The byte stays in the socket.
    if stream.peek(&mut first).await.ok()? == 0 {
        return None;
    }
    match first[0] {
        HANDSHAKE => {
            // The answers of a handshake are small, and each would otherwise wait for the client's next
            // packet.
            let _ = stream.set_nodelay(true);
            let mut stream = SslStream::new(Ssl::new(certificate.context()).ok()?, stream).ok()?;
            Pin::new(&mut stream).accept().await.ok()?;
            Some(Begun::Encrypted(stream))
        }
        b'A'..=b'Z' => Some(Begun::Plain(stream)),
        _ => None,
    }
}

/// Answers every request without encryption.
pub(super) fn refusal() -> Router {
    const TEXT: &str = "this port speaks https: the address must begin with https://\n";
    Router::new().fallback(async || (StatusCode::BAD_REQUEST, [(header::CONNECTION, "close")], TEXT))
}
