//! The RTSP server on loopback that rtspsrc connects to, and the way of the packets through it.
//!
//! rtspsrc always gets its packets within its connection, also those that a camera sends over UDP. The relay
//! answers rtspsrc's requests itself, so that rtspsrc never waits for the network. It sends the keep-alives.

use super::{
    client::{self, ANSWER_TIMEOUT, Path, Watched},
    flow::{Flow, MAX_FRAME, Passed},
    message::{self, Item, Message, PACKET_HEADER},
    packets::PacketFilter,
    udp::{MAX_DATAGRAM, Ports},
};
use crate::camera::{Failure, FailureKind};
use std::{future::pending, io, net::Ipv4Addr, sync::atomic::Ordering, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::{Instant, sleep, sleep_until, timeout},
};

/// Channels of rtspsrc's connection.
const MEDIA: u8 = 0;
const REPORTS: u8 = 1;
/// How long rtspsrc may take to connect, and a stranger to send its request.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the end of a session may take.
const TEARDOWN_TIMEOUT: Duration = Duration::from_millis(250);
/// Between two checks whether the decoder has caught up.
const FULL_PAUSE: Duration = Duration::from_millis(10);
/// Without a packet for so long, TCP is used instead of UDP where both are allowed.
const UDP_TIMEOUT: Duration = Duration::from_secs(5);
/// Datagrams that are passed on at once.
const MAX_BATCH: usize = 64;
/// The longest report of rtspsrc that is passed on.
const MAX_REPORT: usize = 1500;
/// Methods that the relay answers.
const METHODS: &str = "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER";

/// The relay's port, on which rtspsrc is expected.
pub struct Relay {
    /// Its address for rtspsrc. Contains a random word, so that no other program gets the stream.
    pub url: String,
    listener: TcpListener,
    watched: Watched,
}

/// A relay that rtspsrc is connected to.
struct Running<'a> {
    url: &'a str,
    local: TcpStream,
    local_buffer: Vec<u8>,
    watched: Watched,
    filter: PacketFilter,
    passed: Passed,
    flow: &'a Flow,
    /// What is to be written to rtspsrc.
    out: Vec<u8>,
    /// Number of the last PLAY, until it is answered.
    play: Option<u32>,
    /// PLAY has been sent again with a login, or for a new nonce.
    has_renewed: bool,
    /// When PLAY was sent, until a packet has arrived.
    silent_since: Option<Instant>,
    keep_alive: KeepAlive,
}

/// The keep-alive of a session.
struct KeepAlive {
    interval: Duration,
    next: Instant,
    method: &'static str,
    /// Number of the last one, until it is answered.
    pending: Option<u32>,
    /// The last one was rejected with a 401.
    is_rejected: bool,
}

/// Why the relay ends without a failure.
enum End {
    /// rtspsrc has ended the session, or the camera is closed.
    Closed,
}

type Step = Result<Option<End>, Failure>;

fn unreachable(reason: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Unreachable, reason)
}

impl Relay {
    /// Opens a port for a camera that is set up.
    pub async fn listen(watched: Watched) -> io::Result<Relay> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let url = format!("rtsp://127.0.0.1:{port}/{:032x}", fastrand::u128(..));
        Ok(Relay { url, listener, watched })
    }

    /// Serves rtspsrc until either side ends, or `stopped`. Stores a failure in `flow`.
    pub async fn run(self, flow: &Flow, mut stopped: oneshot::Receiver<()>) {
        let Relay { url, listener, watched } = self;
        let local = tokio::select! {
            _ = &mut stopped => None,
            local = timeout(CONNECT_TIMEOUT, accept(&listener, &url)) => local.ok(),
        };
        drop(listener);
        let Some((local, local_buffer)) = local else { return tear_down(watched).await };
        let now = Instant::now();
        let interval = watched.client.keep_alive_interval();
        let method = if watched.client.has_get_parameter { "GET_PARAMETER" } else { "OPTIONS" };
        let keep_alive =
            KeepAlive { interval, next: now + interval, method, pending: None, is_rejected: false };
        let mut running = Running {
            url: &url,
            local,
            local_buffer,
            filter: PacketFilter::new(watched.track.payload_type),
            watched,
            passed: Passed::default(),
            flow,
            out: Vec::new(),
            play: None,
            has_renewed: false,
            silent_since: None,
            keep_alive,
        };
        let ended = tokio::select! {
            _ = &mut stopped => Ok(End::Closed),
            ended = running.serve() => ended,
        };
        // Before rtspsrc notices the end of its connection, so that its message is not taken for the cause.
        if let Err(failure) = ended {
            flow.fail(failure);
        }
        tear_down(running.watched).await;
    }
}

/// Waits for rtspsrc. Returns its connection with what it has sent.
async fn accept(listener: &TcpListener, url: &str) -> (TcpStream, Vec<u8>) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            sleep(FULL_PAUSE).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let mut buffer = Vec::with_capacity(client::READ_SIZE);
        let request = async {
            loop {
                if stream.read_buf(&mut buffer).await.is_ok_and(|length| length > 0) {
                    match message::parse(&buffer) {
                        Ok(Some((Item::Message(message), _))) => return Some(message),
                        Ok(None) => continue,
                        _ => return None,
                    }
                }
                return None;
            }
        };
        let request = timeout(REQUEST_TIMEOUT, request).await.ok().flatten();
        let is_rtspsrc =
            request.is_some_and(|message| message.request().is_some_and(|(_, asked)| asked.starts_with(url)));
        if is_rtspsrc {
            return (stream, buffer);
        }
    }
}

/// Ends a session with a camera. What it answers, and whether, does not matter.
async fn tear_down(mut watched: Watched) {
    let end = async {
        let Ok((text, _)) = watched.client.text("TEARDOWN", &watched.aggregate, "") else { return };
        let connection = &mut watched.client.connection;
        if connection.write(text.as_bytes()).await.is_err() {
            return;
        }
        // Closed with unread packets, the connection would be reset, and the request might be lost.
        loop {
            connection.buffer.clear();
            match connection.read().await {
                Ok(length) if length > 0 && !connection.buffer.windows(5).any(|word| word == b"RTSP/") => {}
                _ => return,
            }
        }
    };
    let _ = timeout(TEARDOWN_TIMEOUT, end).await;
}

impl Running<'_> {
    async fn serve(&mut self) -> Result<End, Failure> {
        if let Some(end) = self.answer_requests().await? {
            return Ok(end);
        }
        loop {
            let is_full = self.passed.is_full(self.flow);
            let udp_deadline = self.udp_deadline();
            let step = tokio::select! {
                length = self.local.read_buf(&mut self.local_buffer) => match length {
                    Ok(length) if length > 0 => self.answer_requests().await,
                    _ => Ok(Some(End::Closed)),
                },
                length = self.watched.client.connection.read(), if !is_full => match length {
                    Ok(0) => Err(unreachable("the camera closed the connection")),
                    Ok(_) => self.read_camera().await,
                    Err(error) => Err(unreachable(format!("the connection was lost: {error}"))),
                },
                () = datagrams(&self.watched.path), if !is_full => self.read_datagrams().await,
                () = sleep_until(self.keep_alive.next) => self.keep_alive().await,
                () = sleep(FULL_PAUSE), if is_full => Ok(None),
                () = wait_until(udp_deadline) => self.change_to_tcp().await,
            };
            if let Some(end) = step? {
                return Ok(end);
            }
            if self.passed.is_frame_too_large(self.flow) {
                let reason = format!("the camera sent {} MiB without a whole frame", MAX_FRAME >> 20);
                return Err(unreachable(reason));
            }
        }
    }

    /// Answers what rtspsrc has asked, and passes its reports on.
    async fn answer_requests(&mut self) -> Step {
        loop {
            let parsed = message::parse(&self.local_buffer)
                .map_err(|error| unreachable(format!("rtspsrc sends {error}")))?;
            let Some((item, length)) = parsed else { return Ok(None) };
            let ended = match item {
                Item::Message(request) => {
                    self.local_buffer.drain(..length);
                    self.answer(&request).await?
                }
                Item::Packet { channel, data } => {
                    let report = (channel == REPORTS && data.len() <= MAX_REPORT).then(|| data.to_vec());
                    self.local_buffer.drain(..length);
                    if let Some(report) = report {
                        self.send_report(&report).await?;
                    }
                    None
                }
            };
            if ended.is_some() {
                return Ok(ended);
            }
        }
    }

    async fn answer(&mut self, request: &Message) -> Step {
        let Some((method, _)) = request.request() else { return Ok(None) };
        let (headers, body) = match method {
            "OPTIONS" => (format!("Public: {METHODS}\r\n"), String::new()),
            "DESCRIBE" => {
                let body = self.watched.track.describe();
                let headers = format!(
                    "Content-Type: application/sdp\r\nContent-Base: {}/\r\nContent-Length: {}\r\n",
                    self.url,
                    body.len()
                );
                (headers, body)
            }
            "SETUP" => {
                let transport = format!("Transport: RTP/AVP/TCP;unicast;interleaved={MEDIA}-{REPORTS}\r\n");
                // The camera's keep-alives are the relay's own.
                (transport + "Session: relay;timeout=86400\r\n", String::new())
            }
            _ => ("Session: relay\r\n".to_string(), String::new()),
        };
        let cseq = request.cseq().unwrap_or_default();
        let text = format!("RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\n{headers}\r\n{body}");
        self.out.extend_from_slice(text.as_bytes());
        self.flush().await?;
        match method {
            "PLAY" => self.play().await.map(|()| None),
            "TEARDOWN" => Ok(Some(End::Closed)),
            _ => Ok(None),
        }
    }

    /// Starts the stream. Its packets may arrive before the answer.
    async fn play(&mut self) -> Result<(), Failure> {
        let url = self.watched.aggregate.clone();
        let (text, number) = self.watched.client.text("PLAY", &url, "Range: npt=0.000-\r\n")?;
        self.send_camera(text.as_bytes()).await?;
        (self.play, self.silent_since) = (Some(number), Some(Instant::now()));
        if let Path::Udp(Ports { media, reports, destinations: Some([to_media, to_reports]), .. }) =
            &self.watched.path
        {
            // Opens the ports in a firewall on the way: an empty packet and an empty receiver report. Some
            // systems forbid it, and the stream may arrive nevertheless.
            let _ = media.send_to(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], to_media).await;
            let _ = reports.send_to(&[0x80, 201, 0, 1, 0, 0, 0, 0], to_reports).await;
        }
        Ok(())
    }

    async fn send_camera(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let sent = self.watched.client.connection.write(bytes).await;
        sent.map_err(|error| unreachable(format!("the connection was lost: {error}")))
    }

    async fn send_report(&mut self, report: &[u8]) -> Result<(), Failure> {
        match &self.watched.path {
            Path::Tcp(_, channel) => {
                let mut packet = vec![b'$', *channel, (report.len() >> 8) as u8, report.len() as u8];
                packet.extend_from_slice(report);
                self.send_camera(&packet).await
            }
            Path::Udp(ports) => {
                if let Some([_, to]) = ports.destinations {
                    // A camera does not have to listen.
                    let _ = ports.reports.try_send_to(report, to);
                }
                Ok(())
            }
        }
    }

    /// Passes on what has arrived from the camera.
    async fn read_camera(&mut self) -> Step {
        let buffer = std::mem::take(&mut self.watched.client.connection.buffer);
        let mut at = 0;
        let mut messages = Vec::new();
        let parsed = loop {
            match message::parse(&buffer[at..]) {
                Ok(Some((item, length))) => {
                    match item {
                        Item::Packet { channel, data } => match self.watched.path {
                            Path::Tcp(media, _) if channel == media => self.pass_media(data),
                            Path::Tcp(_, reports) if channel == reports => self.pass_report(data),
                            _ => {}
                        },
                        Item::Message(message) => messages.push(message),
                    }
                    at += length;
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(unreachable(format!("the camera sends {error}"))),
            }
        };
        let connection = &mut self.watched.client.connection;
        connection.buffer = buffer;
        connection.buffer.drain(..at);
        parsed?;
        self.flush().await?;
        for message in messages {
            self.handle(&message).await?;
        }
        Ok(None)
    }

    /// Passes on the datagrams that have arrived.
    async fn read_datagrams(&mut self) -> Step {
        let mut datagram = [0u8; MAX_DATAGRAM];
        for _ in 0..MAX_BATCH {
            let Path::Udp(ports) = &self.watched.path else { return Ok(None) };
            let (received, is_media) = match ports.media.try_recv_from(&mut datagram) {
                Ok(received) => (Ok(received), true),
                Err(_) => (ports.reports.try_recv_from(&mut datagram), false),
            };
            let Ok((length, from)) = received else { break };
            if !ports.is_peer(from) {
                continue;
            }
            if is_media {
                self.pass_media(&datagram[..length])
            } else {
                self.pass_report(&datagram[..length])
            }
        }
        self.flush().await?;
        Ok(None)
    }

    fn pass_media(&mut self, packet: &[u8]) {
        let Some(sequence) = self.filter.media(packet) else { return };
        self.silent_since = None;
        self.passed.add(sequence, packet.len());
        push_packet(&mut self.out, MEDIA, packet);
    }

    fn pass_report(&mut self, packet: &[u8]) {
        let mut report = Vec::new();
        self.filter.report(packet, &mut report);
        if !report.is_empty() {
            push_packet(&mut self.out, REPORTS, &report);
        }
    }

    /// Writes to rtspsrc. It reads as fast as it gets, unless it hangs.
    async fn flush(&mut self) -> Result<(), Failure> {
        let written = timeout(ANSWER_TIMEOUT, self.local.write_all(&self.out)).await;
        self.out.clear();
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(unreachable(format!("the pipeline has closed its connection: {error}"))),
            Err(_) => Err(unreachable("the pipeline does not read its packets")),
        }
    }

    /// Handles an answer or a request of the camera.
    async fn handle(&mut self, message: &Message) -> Result<(), Failure> {
        let Some(status) = message.status() else {
            let cseq = message.cseq().unwrap_or_default();
            return self.send_camera(format!("RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\n\r\n").as_bytes()).await;
        };
        let number = message.cseq();
        if self.play.is_some() && number == self.play {
            return self.handle_play(status, message).await;
        }
        if self.keep_alive.pending.is_some() && number == self.keep_alive.pending {
            self.handle_keep_alive(status, message)?;
        }
        Ok(())
    }

    async fn handle_play(&mut self, status: u16, message: &Message) -> Result<(), Failure> {
        self.play = None;
        match status {
            200..=299 => Ok(()),
            401 => {
                // A camera may ask for a login only now.
                let had_login = self.watched.client.sends_login();
                let is_stale = self.watched.client.answer_challenge(message)?;
                if had_login && (!is_stale || self.has_renewed) {
                    return Err(self.rejected());
                }
                // The answer to a first login must accept it.
                self.has_renewed = true;
                self.play().await
            }
            _ => Err(client::refusal("PLAY", message)),
        }
    }

    /// Ends the session because the camera rejects the login. TEARDOWN must not contain it once more.
    fn rejected(&mut self) -> Failure {
        self.watched.client.forget_login();
        client::rejected()
    }

    async fn keep_alive(&mut self) -> Step {
        let url = self.watched.aggregate.clone();
        let (text, number) = self.watched.client.text(self.keep_alive.method, &url, "")?;
        self.keep_alive.next = Instant::now() + self.keep_alive.interval;
        self.keep_alive.pending = Some(number);
        self.send_camera(text.as_bytes()).await?;
        tracing::trace!(method = self.keep_alive.method, "RTSP keep-alive sent.");
        Ok(None)
    }

    fn handle_keep_alive(&mut self, status: u16, message: &Message) -> Result<(), Failure> {
        self.keep_alive.pending = None;
        let was_rejected = std::mem::replace(&mut self.keep_alive.is_rejected, status == 401);
        match status {
            // The nonce is too old. The next one is sent soon, with the new one, and must be accepted.
            401 => {
                let is_stale = self.watched.client.answer_challenge(message)?;
                if was_rejected && !is_stale {
                    return Err(self.rejected());
                }
                if !was_rejected {
                    self.keep_alive.next = Instant::now();
                }
            }
            454 => return Err(unreachable("the camera has ended the session (454 Session Not Found)")),
            // 451: the camera knows no parameter, but the method.
            400..=599 if status != 451 && self.keep_alive.method == "GET_PARAMETER" => {
                self.keep_alive.method = "OPTIONS";
                self.keep_alive.next = Instant::now();
            }
            _ => {}
        }
        Ok(())
    }

    /// When TCP is to be used instead of UDP, if no packet arrives before.
    fn udp_deadline(&self) -> Option<Instant> {
        let may_change = self.watched.may_use_tcp && matches!(self.watched.path, Path::Udp(_));
        self.silent_since.filter(|_| may_change).map(|since| since + UDP_TIMEOUT)
    }

    async fn change_to_tcp(&mut self) -> Step {
        tracing::debug!("No packet over UDP; using TCP.");
        self.flow.uses_tcp.store(true, Ordering::Relaxed);
        (self.play, self.keep_alive.pending) = (None, None);
        self.watched.change_to_tcp().await?;
        self.keep_alive.interval = self.watched.client.keep_alive_interval();
        self.play().await?;
        Ok(None)
    }
}

fn push_packet(out: &mut Vec<u8>, channel: u8, packet: &[u8]) {
    let length = u16::try_from(packet.len()).unwrap_or(u16::MAX);
    let packet = &packet[..length.into()];
    out.reserve(PACKET_HEADER + packet.len());
    out.extend_from_slice(&[b'$', channel, (length >> 8) as u8, length as u8]);
    out.extend_from_slice(packet);
}

/// Waits until a datagram has arrived. For ever, if packets are carried over TCP.
async fn datagrams(path: &Path) {
    let Path::Udp(ports) = path else { return pending().await };
    tokio::select! {
        _ = ports.media.readable() => {}
        _ = ports.reports.readable() => {}
    }
}

/// Waits until a time. For ever, if there is none.
async fn wait_until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}
