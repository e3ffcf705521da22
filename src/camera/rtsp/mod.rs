//! The RTSP session with a camera, and the relay through which GStreamer takes part in it.
//!
//! GStreamer's rtspsrc accepts answers of any length, follows redirects without end, tries a rejected
//! password again, and waits for the network while it is stopped. None of that can be bounded from outside.
//! So camfire speaks to the camera itself: [`client`] makes the first exchange (OPTIONS, DESCRIBE, SETUP)
//! before a pipeline starts, and [`relay`] then offers rtspsrc a server on loopback that announces the one
//! track to be watched, and passes its packets on. rtspsrc sees neither a password nor an answer of the
//! camera.
//!
//! [`message`] parses what arrives, [`sdp`] finds the tracks, [`auth`](super::auth) answers challenges,
//! [`packets`] decides which packets are passed on, [`flow`] how many may be on their way, [`udp`] opens
//! ports for datagrams. Every answer is bounded in bytes and time, every exchange in connections, redirects
//! and logins.

mod client;
mod flow;
mod message;
mod packets;
mod relay;
mod sdp;
mod udp;

pub use flow::Flow;

use super::{Failure, FailureKind, template::Codec};
use crate::{config::Login, lifecycle, sync::lock};
use crossbeam_channel::RecvTimeoutError;
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::sync::oneshot;

/// Limit of the whole first exchange, whatever the single answers take.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(15);
/// Between two calls of `keep_going` while the exchange runs.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long closing a session waits for its TEARDOWN to be sent.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(800);

/// Which camera is opened, and how.
pub struct Request {
    /// Address without credentials, `rtsp://` or `rtsps://`.
    pub url: String,
    /// User and password, sent only if the camera asks for them.
    pub login: Option<Login>,
    /// How packets are to be carried.
    pub transport: Transport,
    /// Whether an `rtsps://` camera needs a certificate that the system trusts.
    pub verify_tls: bool,
    /// The codec of the pipeline. A camera whose track has another one is not set up.
    pub codec: Option<Codec>,
    /// The codecs that this machine can decode. The first track with one of them is used.
    pub usable: Vec<Codec>,
}

/// How packets are to be carried, as in `options.transport`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP. UDP where the camera refuses TCP, unless the connection is encrypted.
    Tcp,
    /// UDP only.
    Udp,
    /// UDP. TCP where the camera refuses UDP, or no packet arrives.
    UdpOrTcp,
}

/// How packets are carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// Within the RTSP connection.
    Tcp,
    /// As datagrams.
    Udp,
}

impl Carrier {
    /// Name in the camera status and in `options.transport`.
    pub fn name(self) -> &'static str {
        match self {
            Carrier::Tcp => "tcp",
            Carrier::Udp => "udp",
        }
    }
}

/// What the first exchange has agreed on.
struct Agreed {
    /// Address of the relay.
    url: String,
    carrier: Carrier,
    refused: Option<String>,
}

/// An open session: the camera is set up, and the relay waits for rtspsrc.
pub struct Session {
    agreed: Agreed,
    flow: Arc<Flow>,
    /// Dropped to end the relay.
    stop: Option<oneshot::Sender<()>>,
    ended: crossbeam_channel::Receiver<()>,
}

impl Session {
    /// The relay's address, for rtspsrc. Packets are carried within its connection.
    pub fn url(&self) -> &str {
        &self.agreed.url
    }

    /// How the camera sends its packets.
    pub fn carrier(&self) -> Carrier {
        if self.flow.uses_tcp.load(Ordering::Relaxed) { Carrier::Tcp } else { self.agreed.carrier }
    }

    /// The camera's answer to a SETUP with the transport that was tried first, if it has refused that.
    pub fn refused(&self) -> Option<&str> {
        self.agreed.refused.as_deref()
    }

    /// What is on its way between relay and decoder.
    pub fn flow(&self) -> &Arc<Flow> {
        &self.flow
    }

    /// Why the session has ended, if it has failed.
    pub fn failure(&self) -> Option<Failure> {
        lock(&self.flow.failure).clone()
    }
}

impl Drop for Session {
    /// Ends the session and waits a moment for its TEARDOWN, because some cameras accept one session only.
    fn drop(&mut self) {
        self.stop = None;
        let _ = self.ended.recv_timeout(CLOSE_TIMEOUT);
    }
}

/// Opens a session on a thread of its own, named after the camera `name`. Calls `keep_going` several times a
/// second meanwhile, and gives up when it returns false.
///
/// Returns None if it gave up. Errors: the camera cannot be used, or not by this pipeline
/// ([`FailureKind::OtherCodec`]).
pub fn open(
    name: &str,
    request: Request,
    mut keep_going: impl FnMut() -> bool,
) -> Result<Option<Session>, Failure> {
    let (agreed_sender, agreed) = crossbeam_channel::bounded(1);
    let (ended_sender, ended) = crossbeam_channel::bounded::<()>(1);
    let (stop, stopped) = oneshot::channel::<()>();
    let flow = Arc::new(Flow::default());
    let shared = flow.clone();
    let work = move || {
        // Dropped last, which tells the session that its relay has ended.
        let _ended = ended_sender;
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                let _ = agreed_sender.send(Err(system_failure(&error)));
                return;
            }
        };
        runtime.block_on(async move {
            let mut stopped = stopped;
            let exchange = tokio::time::timeout(EXCHANGE_TIMEOUT, prepare(request));
            let prepared = tokio::select! {
                _ = &mut stopped => return,
                prepared = exchange => prepared.unwrap_or_else(|_| {
                    let seconds = EXCHANGE_TIMEOUT.as_secs();
                    let reason = format!("the RTSP exchange took more than {seconds} s");
                    Err(Failure::new(FailureKind::Unreachable, reason))
                }),
            };
            match prepared {
                Ok((agreed, relay)) => {
                    if agreed_sender.send(Ok(agreed)).is_ok() {
                        relay.run(&shared, stopped).await;
                    }
                }
                Err(failure) => drop(agreed_sender.send(Err(failure))),
            }
        });
        // A name that is still being resolved is not waited for.
        runtime.shutdown_background();
    };
    lifecycle::spawn_helper(&format!("rtsp-{name}"), work).map_err(|error| system_failure(&error))?;
    loop {
        if !keep_going() {
            return Ok(None);
        }
        match agreed.recv_timeout(POLL_INTERVAL) {
            Ok(agreed) => {
                return Ok(Some(Session { agreed: agreed?, flow, stop: Some(stop), ended }));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::new(FailureKind::Unreachable, "the RTSP exchange has ended"));
            }
        }
    }
}

/// Makes the first exchange and opens the relay's port.
async fn prepare(request: Request) -> Result<(Agreed, relay::Relay), Failure> {
    let watched = client::open(request).await?;
    let (carrier, refused) = (watched.carrier(), watched.refused.clone());
    let relay = relay::Relay::listen(watched).await.map_err(|error| system_failure(&error))?;
    let url = relay.url.clone();
    Ok((Agreed { url, carrier, refused }, relay))
}

fn system_failure(error: &std::io::Error) -> Failure {
    Failure::new(FailureKind::Unreachable, format!("the RTSP session cannot be started: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use message::Item;

    /// A panic would end the process, and with it all cameras.
    #[test]
    fn arbitrary_bytes_from_a_camera_cause_no_panic() {
        const SEEDS: [&[u8]; 4] = [
            b"RTSP/1.0 401 Unauthorized\r\nCSeq: 2\r\nWWW-Authenticate: Digest realm=\"a\\\"b\", \
              nonce=\"c\", qop=\"auth,auth-int\", algorithm=SHA-256, stale=true\r\nWWW-Authenticate: Basic \
              realm=\"x\"\r\nContent-Length: 2\r\n\r\nab",
            b"v=0\r\na=control:*\r\nm=video 0 RTP/AVP 96 26\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 x=y\r\n",
            b"\x80\xc8\x00\x06abcdefghijklmnopqrstuvwx\x81\xca\x00\x02abcdefgh",
            b"$\x00\x00\x05hello\r\nOPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n",
        ];
        let login = Login { user: "u\u{e9}".into(), password: "p".into() };
        let mut random = fastrand::Rng::with_seed(7);
        let mut parsed = 0;
        for round in 0..20_000 {
            let mut bytes = SEEDS[round % SEEDS.len()].to_vec();
            for _ in 0..random.usize(..8) {
                let at = random.usize(..bytes.len());
                match random.u8(..3) {
                    0 => bytes[at] = random.u8(..),
                    1 => bytes.insert(at, *b"\"\\,=: \r\n".get(random.usize(..8)).unwrap_or(&0xff)),
                    _ => drop(bytes.remove(at)),
                }
            }
            if let Ok(Some((Item::Message(message), length))) = message::parse(&bytes) {
                assert!(length <= bytes.len());
                parsed += 1;
                let challenges: Vec<&str> = message.all("WWW-Authenticate").collect();
                crate::camera::auth::is_stale(&challenges);
                if let Ok(mut auth) = crate::camera::auth::Auth::new(&challenges, &login) {
                    // What it cannot express, it refuses.
                    let _ = auth.header("DESCRIBE", "rtsp://h/s");
                }
                assert!(message.status_text().len() <= 48);
                assert!(message.request().is_none() || message.status().is_none());
            }
            let description = sdp::Description::parse(&bytes);
            if let Ok(track) = description.select(&[Codec::H264]) {
                track.describe();
            }
            let mut filter = packets::PacketFilter::new(96);
            filter.media(&[&[0x80, 96, 0, 1, 0, 0, 0, 0][..], &bytes].concat());
            filter.report(&bytes, &mut Vec::new());
        }
        assert!(parsed > 1_000, "{parsed} messages");
    }
}
