//! The first exchange with a camera: connects, logs in, follows redirects, reads the tracks and sets one up.
//!
//! A login is sent once per attempt: a camera that rejects it is not asked again, because cameras lock
//! accounts after a few wrong passwords. Only after the camera has accepted it, it is sent again for a new
//! nonce, if the camera calls the old one stale: some call it so whatever is wrong. A request without an
//! answer is sent again, on a new connection, only if it did not contain a login that the camera has yet to
//! accept.

use super::{
    Carrier, Request, Transport,
    message::{self, Item, Message},
    sdp::{Description, Track},
    udp::Ports,
};
use crate::{
    camera::{
        Failure, FailureKind,
        auth::{self, Auth},
        probe, readable,
    },
    config::Login,
};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, lookup_host},
    time::{Instant, timeout},
};

/// Limit of a connection attempt, and of each answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a camera that has asked for a login may take to close the connection behind its answer.
const CLOSE_DELAY: Duration = Duration::from_millis(200);
/// Redirects that are followed.
const MAX_REDIRECTS: u32 = 3;
/// Connections per exchange, those of redirects included.
const MAX_CONNECTIONS: u32 = 8;
/// Maximum length of what else may arrive before an answer, in bytes.
const MAX_SKIPPED: usize = 8 << 20;
/// Bytes that are read at once.
pub const READ_SIZE: usize = 64 * 1024;
/// The longest session id.
const MAX_SESSION: usize = 256;
/// Session timeout of a camera that announces none (RFC 2326, section 12.37).
const DEFAULT_SESSION_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest time between two keep-alives.
const MAX_KEEP_ALIVE: Duration = Duration::from_secs(30);
/// The part of the session timeout after which a keep-alive is sent.
const KEEP_ALIVE_PART: f64 = 0.45;
const USER_AGENT: &str = concat!("camfire/", env!("CARGO_PKG_VERSION"));

/// A connection, encrypted or not.
trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A connection to a camera, and the bytes that have arrived on it.
pub struct Connection {
    stream: Box<dyn Duplex>,
    /// Received and not parsed yet. At most a message or a packet, and one read.
    pub buffer: Vec<u8>,
    camera: IpAddr,
}

/// A camera whose track is set up.
pub struct Watched {
    /// The connection and what requests on it need.
    pub client: Client,
    /// The track.
    pub track: Track,
    /// How packets are carried.
    pub path: Path,
    /// See [`super::Session::refused`].
    pub refused: Option<String>,
    /// What may be used instead of UDP, if no packet arrives.
    pub may_use_tcp: bool,
    /// URL of the whole session, for PLAY and TEARDOWN.
    pub aggregate: String,
    track_url: String,
}

/// How packets are carried.
pub enum Path {
    /// On these channels of the connection: packets, reports.
    Tcp(u8, u8),
    /// As datagrams.
    Udp(Ports),
}

/// Sends requests on a connection.
pub struct Client {
    /// The connection.
    pub connection: Connection,
    url: String,
    verify_tls: bool,
    login: Option<Login>,
    auth: Option<Auth>,
    /// The camera has accepted the login.
    is_logged_in: bool,
    /// The camera has redirected to another host, which does not get the login.
    is_elsewhere: bool,
    /// The session's id and timeout, once there is one.
    session: Option<(String, Duration)>,
    cseq: u32,
    connections: u32,
    /// The camera offers GET_PARAMETER.
    pub has_get_parameter: bool,
}

/// Why a request has no answer.
enum NoAnswer {
    /// The connection was closed or lost before anything of it arrived.
    Closed(String),
    /// Anything else.
    Failed(Failure),
}

fn unreachable(reason: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Unreachable, reason)
}

/// Makes the exchange.
///
/// Errors: the camera cannot be used, or not by the pipeline that asks ([`FailureKind::OtherCodec`]).
pub async fn open(request: Request) -> Result<Watched, Failure> {
    let mut client = Client::connect(&request).await?;
    client.ask_methods().await?;
    let (description, base) = client.describe().await?;
    let track = description.select(&request.usable)?.clone();
    if let Some(codec) = track.codec.filter(|codec| request.codec.is_some_and(|own| own != *codec)) {
        return Err(Failure::other_codec(codec));
    }
    let track_url = resolve(&base, track.control.as_deref());
    let aggregate = resolve(&base, description.control.as_deref());
    let (path, refused) = client.set_up(&track_url, request.transport).await?;
    let may_use_tcp = request.transport == Transport::UdpOrTcp;
    Ok(Watched { client, track, path, refused, may_use_tcp, aggregate, track_url })
}

impl Watched {
    /// How packets are carried.
    pub fn carrier(&self) -> Carrier {
        match self.path {
            Path::Tcp(..) => Carrier::Tcp,
            Path::Udp(_) => Carrier::Udp,
        }
    }

    /// Ends the session over UDP and sets the track up anew over TCP.
    pub async fn change_to_tcp(&mut self) -> Result<(), Failure> {
        self.client.request("TEARDOWN", &self.aggregate.clone(), "").await?;
        self.client.session = None;
        let (path, _) = self.client.set_up(&self.track_url, Transport::Tcp).await?;
        self.path = path;
        Ok(())
    }
}

/// Resolves a control attribute. As cameras and other clients do it, a relative one is appended.
fn resolve(base: &str, control: Option<&str>) -> String {
    match control {
        None | Some("*") => base.to_string(),
        Some(control) if control.contains("://") => control.to_string(),
        Some(control) if base.ends_with('/') => format!("{base}{control}"),
        Some(control) => format!("{base}/{control}"),
    }
}

impl Connection {
    /// Connects to the camera of a validated URL.
    async fn open(url: &str, verify_tls: bool) -> Result<Connection, Failure> {
        let (host, port) =
            probe::host_and_port(url).ok_or_else(|| unreachable("its address is not valid"))?;
        let place = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let cannot =
            |error: &dyn std::fmt::Display| unreachable(format!("cannot connect to {place}: {error}"));
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let addresses = tokio::time::timeout_at(deadline, lookup_host((host.as_str(), port)));
        let addresses: Vec<SocketAddr> = addresses
            .await
            .map_err(|_| cannot(&"its name is not resolved in time"))?
            .map_err(|e| cannot(&e))?
            .collect();
        let mut last = None;
        for (number, address) in addresses.iter().enumerate() {
            // What is left of the time is shared among the addresses that are left.
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / (addresses.len() - number) as u32;
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Connection::start(stream, url, &host, verify_tls).await,
                Ok(Err(error)) => last = Some(cannot(&error)),
                Err(_) => last = Some(cannot(&"no answer in time")),
            }
        }
        Err(last.unwrap_or_else(|| cannot(&"its name has no address")))
    }

    async fn start(
        stream: TcpStream,
        url: &str,
        host: &str,
        verify_tls: bool,
    ) -> Result<Connection, Failure> {
        // Without delay: requests are small and wait for answers.
        let _ = stream.set_nodelay(true);
        let camera = stream.peer_addr().map_err(|error| unreachable(error.to_string()))?.ip();
        let stream: Box<dyn Duplex> = if url.starts_with("rtsps:") {
            let failed =
                |error: native_tls::Error| unreachable(format!("TLS with the camera fails: {error}"));
            let mut builder = native_tls::TlsConnector::builder();
            builder.danger_accept_invalid_certs(!verify_tls).danger_accept_invalid_hostnames(!verify_tls);
            let connector = tokio_native_tls::TlsConnector::from(builder.build().map_err(failed)?);
            let handshake = timeout(ANSWER_TIMEOUT, connector.connect(host, stream)).await;
            Box::new(handshake.map_err(|_| no_answer("the TLS handshake"))?.map_err(failed)?)
        } else {
            Box::new(stream)
        };
        Ok(Connection { stream, buffer: Vec::with_capacity(READ_SIZE), camera })
    }

    /// The camera's address.
    pub fn camera(&self) -> IpAddr {
        self.camera
    }

    /// Writes all of `bytes`, within [`ANSWER_TIMEOUT`].
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(ANSWER_TIMEOUT, self.stream.write_all(bytes))
            .await
            .map_err(|_| io::ErrorKind::TimedOut)??;
        timeout(ANSWER_TIMEOUT, self.stream.flush()).await.map_err(|_| io::ErrorKind::TimedOut)?
    }

    /// Reads what there is into the buffer. Returns the number of bytes, 0 at the end. Can be cancelled.
    pub async fn read(&mut self) -> io::Result<usize> {
        if self.buffer.capacity() - self.buffer.len() < READ_SIZE {
            self.buffer.reserve(READ_SIZE);
        }
        self.stream.read_buf(&mut self.buffer).await
    }

    /// Whether the camera closes the connection within a moment.
    async fn closes(&mut self) -> bool {
        match timeout(CLOSE_DELAY, self.read()).await {
            Ok(Ok(length)) => length == 0,
            Ok(Err(_)) => true,
            Err(_) => false,
        }
    }

    /// Waits for the response with this number. Whatever else arrives is skipped.
    async fn response(&mut self, cseq: u32, what: &str) -> Result<Message, NoAnswer> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let mut skipped = 0;
        let invalid = |error: String| NoAnswer::Failed(unreachable(format!("the camera sends {error}")));
        loop {
            while let Some((item, length)) = message::parse(&self.buffer).map_err(invalid)? {
                let found = match item {
                    // Not one that only announces the answer, such as 100 Continue.
                    Item::Message(message) if message.status().is_some_and(|status| status >= 200) => {
                        Some(message)
                    }
                    _ => None,
                };
                self.buffer.drain(..length);
                // A camera that leaves the number out answers the only request.
                match found.filter(|message| message.cseq().is_none_or(|number| number == cseq)) {
                    Some(message) => return Ok(message),
                    None => skipped += length,
                }
                if skipped > MAX_SKIPPED {
                    return Err(NoAnswer::Failed(no_answer(what)));
                }
            }
            let was_empty = self.buffer.is_empty();
            match tokio::time::timeout_at(deadline, self.read()).await {
                Err(_) => return Err(NoAnswer::Failed(no_answer(what))),
                Ok(Ok(0)) if was_empty => {
                    let reason = format!("the camera closed the connection without an answer to {what}");
                    return Err(NoAnswer::Closed(reason));
                }
                Ok(Ok(0)) => {
                    let reason = format!("the camera closed the connection within its answer to {what}");
                    return Err(NoAnswer::Failed(unreachable(reason)));
                }
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(NoAnswer::Closed(format!("the connection was lost: {error}"))),
            }
        }
    }
}

fn no_answer(what: &str) -> Failure {
    unreachable(format!("no answer to {what} within {} s", ANSWER_TIMEOUT.as_secs()))
}

impl Client {
    async fn connect(request: &Request) -> Result<Client, Failure> {
        Ok(Client {
            connection: Connection::open(&request.url, request.verify_tls).await?,
            url: request.url.clone(),
            verify_tls: request.verify_tls,
            login: request.login.clone(),
            auth: None,
            is_logged_in: false,
            is_elsewhere: false,
            session: None,
            cseq: 0,
            connections: 1,
            has_get_parameter: false,
        })
    }

    async fn reconnect(&mut self) -> Result<(), Failure> {
        self.connections += 1;
        if self.connections > MAX_CONNECTIONS {
            return Err(unreachable("the camera closes the connection again and again"));
        }
        self.connection = Connection::open(&self.url, self.verify_tls).await?;
        Ok(())
    }

    /// A request's text. Returns it with its number.
    ///
    /// Errors: as for [`Auth::header`].
    pub fn text(&mut self, method: &str, url: &str, headers: &str) -> Result<(String, u32), Failure> {
        self.cseq += 1;
        let mut text = format!(
            "{method} {url} RTSP/1.0\r\nCSeq: {}\r\nUser-Agent: {USER_AGENT}\r\n{headers}",
            self.cseq
        );
        if let Some((session, _)) = &self.session {
            text += &format!("Session: {session}\r\n");
        }
        if let Some(auth) = &mut self.auth {
            let header = auth.header(method, url).map_err(|e| Failure::new(FailureKind::Denied, e))?;
            text += &format!("Authorization: {header}\r\n");
        }
        Ok((text + "\r\n", self.cseq))
    }

    /// Sends a request and returns its answer, also that of a refusal other than 401. Logs in if the camera
    /// asks for it.
    async fn request(&mut self, method: &str, url: &str, headers: &str) -> Result<Message, Failure> {
        let mut has_reconnected = false;
        let mut has_renewed = false;
        loop {
            let sends_new_login = self.auth.is_some() && !self.is_logged_in;
            let (text, cseq) = self.text(method, url, headers)?;
            let sent = self.connection.write(text.as_bytes()).await;
            let answer = match sent {
                Ok(()) => self.connection.response(cseq, method).await,
                Err(error) => Err(NoAnswer::Closed(format!("the connection was lost: {error}"))),
            };
            let answer = match answer {
                Ok(answer) => answer,
                Err(NoAnswer::Closed(_)) if !has_reconnected && !sends_new_login => {
                    has_reconnected = true;
                    self.reconnect().await?;
                    continue;
                }
                Err(NoAnswer::Closed(reason)) => return Err(unreachable(reason)),
                Err(NoAnswer::Failed(failure)) => return Err(failure),
            };
            let closes = answer.header("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
            if answer.status() != Some(401) {
                self.is_logged_in |= self.auth.is_some();
                if closes && answer.status() == Some(200) && self.session.is_none() {
                    self.reconnect().await?;
                }
                return Ok(answer);
            }
            let had_login = self.auth.is_some();
            let is_stale = self.answer_challenge(&answer)?;
            if had_login && (!is_stale || has_renewed || !self.is_logged_in) {
                return Err(rejected());
            }
            has_renewed = had_login;
            // On a connection that is being closed, the login would be lost, and might have been counted.
            if closes || self.connection.closes().await {
                self.reconnect().await?;
            }
        }
    }

    /// Whether requests contain a login.
    pub fn sends_login(&self) -> bool {
        self.auth.is_some()
    }

    /// Leaves the login out of all further requests, because the camera has rejected it.
    pub fn forget_login(&mut self) {
        self.auth = None;
    }

    /// Prepares the login for the challenge of a 401. Returns whether the camera has only rejected the nonce.
    ///
    /// Errors ([`FailureKind::Denied`]): there is no login, or none of the kinds that the camera accepts.
    pub fn answer_challenge(&mut self, answer: &Message) -> Result<bool, Failure> {
        let denied = |reason: String| Failure::new(FailureKind::Denied, reason);
        if self.is_elsewhere {
            return Err(denied(
                "the camera redirects to another host, which requires user and password (401 Unauthorized); they \
                 are sent only to the configured one"
                    .into(),
            ));
        }
        let Some(login) = &self.login else {
            return Err(denied("the camera requires user and password (401 Unauthorized)".into()));
        };
        let challenges: Vec<&str> = answer.all("WWW-Authenticate").collect();
        let auth = Auth::new(&challenges, login).map_err(|kinds| {
            denied(format!(
                "the camera accepts only {kinds}, which camfire does not support (401 Unauthorized); user and \
                 password were not sent"
            ))
        });
        let is_stale = auth::is_stale(&challenges);
        match auth {
            Ok(auth) => self.auth = Some(auth),
            // Rejected, and perhaps without a new challenge.
            Err(_) if self.auth.is_some() => {}
            Err(failure) => return Err(failure),
        }
        Ok(is_stale)
    }

    /// Learns which methods the camera offers.
    async fn ask_methods(&mut self) -> Result<(), Failure> {
        let url = self.url.clone();
        let answer = self.request("OPTIONS", &url, "").await?;
        let mut methods = answer.all("Public").flat_map(|list| list.split(','));
        self.has_get_parameter = methods.any(|method| method.trim().eq_ignore_ascii_case("GET_PARAMETER"));
        Ok(())
    }

    /// Reads the description, from wherever the camera redirects to. Returns it with the URL that its
    /// controls are relative to.
    async fn describe(&mut self) -> Result<(Description, String), Failure> {
        for _ in 0..=MAX_REDIRECTS {
            let url = self.url.clone();
            let answer = self.request("DESCRIBE", &url, "Accept: application/sdp\r\n").await?;
            match answer.status() {
                Some(200..=299) => {
                    let base = answer.header("Content-Base").or(answer.header("Content-Location"));
                    let is_usable =
                        |base: &&str| base.starts_with("rtsp") && base.chars().all(|c| c.is_ascii_graphic());
                    let base = base.filter(is_usable).unwrap_or(&url).to_string();
                    return Ok((Description::parse(&answer.body), base));
                }
                Some(300..=399) => self.follow(&answer).await?,
                _ => return Err(refusal("DESCRIBE", &answer)),
            }
        }
        Err(unreachable(format!("the camera redirects more than {MAX_REDIRECTS} times")))
    }

    /// Connects to where a redirect leads. The login goes only to the configured host.
    async fn follow(&mut self, answer: &Message) -> Result<(), Failure> {
        let text = answer.header("Location").unwrap_or_default();
        let is_rtsp = text.starts_with("rtsp://") || text.starts_with("rtsps://");
        let is_usable = is_rtsp && text.chars().all(|c| c.is_ascii_graphic()) && !text.contains('@');
        let place = probe::host_and_port(text).filter(|_| is_usable);
        let Some((host, _)) = place else {
            let place = readable(text.split('?').next().unwrap_or_default(), 80);
            return Err(unreachable(format!("the camera redirects to {place:?}, which is no RTSP address")));
        };
        if self.url.starts_with("rtsps:") && !text.starts_with("rtsps:") {
            return Err(unreachable("the camera redirects from an encrypted to a plain connection"));
        }
        if probe::host_and_port(&self.url).is_none_or(|(own, _)| own != host) {
            (self.login, self.is_elsewhere) = (None, true);
        }
        (self.auth, self.is_logged_in) = (None, false);
        self.url = text.to_string();
        self.reconnect().await
    }

    /// Sets up a track. Returns how its packets are carried, and what the camera has refused before.
    async fn set_up(&mut self, track: &str, transport: Transport) -> Result<(Path, Option<String>), Failure> {
        let is_encrypted = self.url.starts_with("rtsps:");
        let order: &[Carrier] = match transport {
            Transport::Tcp if is_encrypted => &[Carrier::Tcp],
            Transport::Tcp => &[Carrier::Tcp, Carrier::Udp],
            Transport::Udp => &[Carrier::Udp],
            Transport::UdpOrTcp => &[Carrier::Udp, Carrier::Tcp],
        };
        let mut refusals: Vec<String> = Vec::new();
        for carrier in order {
            let path = match carrier {
                Carrier::Tcp => self.set_up_tcp(track).await?,
                Carrier::Udp => self.set_up_udp(track).await?,
            };
            match path {
                Ok(path) => return Ok((path, refusals.pop())),
                Err(answer) => {
                    let name = carrier.name().to_ascii_uppercase();
                    refusals.push(format!("the camera refuses RTP over {name} ({answer})"));
                }
            }
        }
        let untried = match (transport, is_encrypted) {
            (Transport::Udp, _) => "; options.transport = \"tcp\" was not tried",
            (Transport::Tcp, true) => {
                "; options.transport = \"udp\" would not be encrypted and was not tried"
            }
            _ => "",
        };
        let reason = format!("{}{untried}", refusals.join(" and "));
        Err(Failure::new(FailureKind::Unsupported, reason))
    }

    async fn set_up_tcp(&mut self, track: &str) -> Result<Result<Path, String>, Failure> {
        let header = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n";
        let answer = self.request("SETUP", track, header).await?;
        let transport = match self.accept_set_up(&answer)? {
            Ok(transport) => transport,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if !transport.to_ascii_uppercase().contains("TCP") {
            return Ok(Err(format!("it offers {}", readable(&transport, 64))));
        }
        let channels = transport.split(';').find_map(|part| part.trim().strip_prefix("interleaved="));
        let channels = channels.map(|text| text.split_once('-').unwrap_or((text, "")));
        let media = channels.and_then(|(media, _)| media.trim().parse().ok()).unwrap_or(0u8);
        let reports = channels.and_then(|(_, reports)| reports.trim().parse().ok());
        Ok(Ok(Path::Tcp(media, reports.unwrap_or(media.wrapping_add(1)))))
    }

    async fn set_up_udp(&mut self, track: &str) -> Result<Result<Path, String>, Failure> {
        let camera = self.connection.camera();
        let mut ports = Ports::open(camera).map_err(|error| {
            Failure::new(FailureKind::Unreachable, format!("no UDP port can be opened: {error}"))
        })?;
        let header = format!("Transport: RTP/AVP;unicast;client_port={}-{}\r\n", ports.port, ports.port + 1);
        let answer = self.request("SETUP", track, &header).await?;
        let transport = match self.accept_set_up(&answer)? {
            Ok(transport) => transport,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let upper = transport.to_ascii_uppercase();
        if upper.contains("TCP") || upper.contains("MULTICAST") {
            return Ok(Err(format!("it offers {}", readable(&transport, 64))));
        }
        ports.set_peer(camera, &transport);
        Ok(Ok(Path::Udp(ports)))
    }

    /// Takes over the session of an answer to SETUP and returns its transport, or why the camera refuses the
    /// one that was asked for.
    fn accept_set_up(&mut self, answer: &Message) -> Result<Result<String, String>, Failure> {
        match answer.status() {
            Some(200..=299) => {}
            // Cameras refuse a transport with 461, and with others.
            Some(400 | 405 | 406 | 415 | 451 | 456 | 461 | 462 | 500 | 501 | 551) => {
                return Ok(Err(answer.status_text()));
            }
            _ => return Err(refusal("SETUP", answer)),
        }
        let session = answer.header("Session").unwrap_or_default();
        let mut parts = session.split(';').map(str::trim);
        let id = parts.next().filter(|id| !id.is_empty() && id.len() <= MAX_SESSION);
        let id = id.filter(|id| id.chars().all(|c| c.is_ascii_graphic()));
        let seconds = parts.find_map(|part| part.strip_prefix("timeout="));
        let seconds = seconds.and_then(|text| text.trim().parse::<u32>().ok()).filter(|&s| s > 0);
        let session_timeout =
            seconds.map(|s| Duration::from_secs(s.into())).unwrap_or(DEFAULT_SESSION_TIMEOUT);
        self.session = id.map(|id| (id.to_string(), session_timeout));
        Ok(Ok(answer.header("Transport").unwrap_or_default().to_string()))
    }

    /// Time between two keep-alives: less than half of the session's timeout.
    pub fn keep_alive_interval(&self) -> Duration {
        let session_timeout = self.session.as_ref().map_or(DEFAULT_SESSION_TIMEOUT, |(_, timeout)| *timeout);
        session_timeout.mul_f64(KEEP_ALIVE_PART).min(MAX_KEEP_ALIVE)
    }
}

/// The failure of a camera that rejects a login which it could read.
pub fn rejected() -> Failure {
    Failure::new(FailureKind::Denied, "the camera rejects user and password (401 Unauthorized)")
}

/// The failure of a camera that refuses a request.
pub fn refusal(method: &str, answer: &Message) -> Failure {
    let kind = if answer.status() == Some(403) { FailureKind::Denied } else { FailureKind::Unreachable };
    Failure::new(kind, format!("the camera answers {method} with {}", answer.status_text()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_are_resolved_as_cameras_expect_it() {
        for (base, control, expected) in [
            ("rtsp://h/s", None, "rtsp://h/s"),
            ("rtsp://h/s/", Some("*"), "rtsp://h/s/"),
            ("rtsp://h/s/", Some("t1"), "rtsp://h/s/t1"),
            ("rtsp://h/s?channel=1", Some("trackID=0"), "rtsp://h/s?channel=1/trackID=0"),
            ("rtsp://h/s", Some("rtsp://h/other/t1"), "rtsp://h/other/t1"),
        ] {
            assert_eq!(resolve(base, control), expected);
        }
    }
}
