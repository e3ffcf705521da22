//! An RTSP camera that follows a script: what it announces, how it wants to be logged in to, what it refuses,
//! and how it attacks. It records every request.

use super::launch_to_end;
use gstreamer::glib::{self, ChecksumType};
use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// User and password of every camera that has a login.
pub const LOGIN: (&str, &str) = ("watcher", "s3c@r:e/t");
/// Time between two frames.
const FRAME_INTERVAL: Duration = Duration::from_millis(100);

/// What a camera does.
#[derive(Clone)]
pub struct Script {
    /// Its session description.
    pub sdp: String,
    /// RTP packets of a stream that is repeated.
    pub packets: Arc<Vec<Vec<u8>>>,
    /// Methods that it offers and accepts.
    pub public: &'static str,
    /// Announced timeout of a session. It hangs up if nothing is asked for so long.
    pub timeout_s: Option<u32>,
    /// `WWW-Authenticate` of a camera with a login. `{nonce}` is another number for each challenge.
    pub challenge: Option<&'static str>,
    /// Methods that need no login.
    pub open_methods: &'static str,
    /// It closes the connection behind its challenge.
    pub closes_behind_challenge: bool,
    /// It accepts each nonce for so many requests.
    pub nonce_uses: usize,
    /// Its answer to a SETUP over TCP, and over UDP, such as `461 Unsupported Transport`.
    pub refuses: [Option<&'static str>; 2],
    /// Its packets do not arrive over UDP.
    pub loses_udp: bool,
    /// The location of a redirect.
    pub redirect: Option<String>,
    pub attack: Attack,
}

/// How a camera attacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attack {
    None,
    /// The body of its description has 400 MB.
    EndlessBody,
    /// The header of its description never ends.
    EndlessHeader,
    /// It redirects to itself.
    RedirectToSelf,
    /// It sends its answer byte by byte.
    Drip,
    /// Its frames never end.
    EndlessFrame,
    /// Each packet comes from another source.
    ManySources,
    /// Its packets come as fast as they can be written.
    Flood,
    /// It sends a header that never ends while it plays, and never reads again.
    EndlessHeaderWhilePlaying,
}

impl Script {
    /// A camera with H.264.
    pub fn h264() -> Script {
        let encode = "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 ! \
                      rtph264pay config-interval=-1 pt=96";
        Script::of("a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\n", 96, encode)
    }

    /// A camera with JPEG and no `rtpmap`, because its payload type is static.
    pub fn jpeg() -> Script {
        Script::of("", 26, "jpegenc ! rtpjpegpay pt=26")
    }

    fn of(format: &str, payload_type: u8, encode: &str) -> Script {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("packets");
        launch_to_end(&format!(
            "videotestsrc num-buffers=30 pattern=ball ! video/x-raw,format=I420,width=320,height=240,framerate=10/1 ! \
             {encode} ! rtpstreampay ! filesink location=\"{}\"",
            file.display()
        ));
        let bytes = std::fs::read(file).unwrap();
        let mut packets = Vec::new();
        let mut rest = bytes.as_slice();
        while let Some((length, after)) = rest.split_first_chunk::<2>() {
            let (packet, after) = after.split_at(u16::from_be_bytes(*length).into());
            packets.push(packet.to_vec());
            rest = after;
        }
        Script {
            sdp: format!(
                "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=control:*\r\n\
                 m=video 0 RTP/AVP {payload_type}\r\n{format}a=control:t1\r\n"
            ),
            packets: Arc::new(packets),
            public: "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER",
            timeout_s: None,
            challenge: None,
            open_methods: "OPTIONS",
            closes_behind_challenge: false,
            nonce_uses: usize::MAX,
            refuses: [None, None],
            loses_udp: false,
            redirect: None,
            attack: Attack::None,
        }
    }

    /// The same camera with a login.
    pub fn with_challenge(self, challenge: &'static str) -> Script {
        Script { challenge: Some(challenge), ..self }
    }

    /// The same camera with another attack.
    pub fn with_attack(self, attack: Attack) -> Script {
        Script { attack, ..self }
    }

    /// Starts the camera.
    pub fn start(self) -> ScriptedCamera {
        self.start_with(None)
    }

    /// Starts the camera, with TLS.
    pub fn start_tls(self, identity: native_tls::Identity) -> ScriptedCamera {
        self.start_with(Some(native_tls::TlsAcceptor::new(identity).unwrap()))
    }

    fn start_with(self, tls: Option<native_tls::TlsAcceptor>) -> ScriptedCamera {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (log, scheme) = (requests.clone(), if tls.is_some() { "rtsps" } else { "rtsp" });
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().map_while(Result::ok).enumerate() {
                let (script, log, tls) = (self.clone(), log.clone(), tls.clone());
                std::thread::spawn(move || {
                    stream.set_nodelay(true).unwrap();
                    let client = Client::new(script, log, number);
                    match tls {
                        None => client.serve(TcpAdapter(stream)),
                        Some(tls) => drop(tls.accept(stream).map(|stream| client.serve(stream))),
                    }
                });
            }
        });
        ScriptedCamera { url: format!("{scheme}://127.0.0.1:{port}/cam"), requests }
    }
}

/// A request that a camera has received.
#[derive(Debug, Clone)]
pub struct Request {
    pub at: Instant,
    pub method: String,
    pub authorization: Option<String>,
}

/// A running camera. It runs until the test ends.
pub struct ScriptedCamera {
    pub url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl ScriptedCamera {
    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Those of them with this method.
    pub fn asked(&self, method: &str) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.method == method).collect()
    }

    /// The number of logins so far.
    pub fn logins(&self) -> usize {
        self.requests().iter().filter(|request| request.authorization.is_some()).count()
    }
}

/// A stream whose reads time out soon, so that one thread can read requests and send packets.
trait Stream: Read + Write {
    fn tcp(&self) -> &TcpStream;
}

struct TcpAdapter(TcpStream);

impl Read for TcpAdapter {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(bytes)
    }
}

impl Write for TcpAdapter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Stream for TcpAdapter {
    fn tcp(&self) -> &TcpStream {
        &self.0
    }
}

impl Stream for native_tls::TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref()
    }
}

/// One connection to a camera.
struct Client {
    script: Script,
    log: Arc<Mutex<Vec<Request>>>,
    received: Vec<u8>,
    last_asked: Instant,
    /// The nonce of the last challenge, and how often it was used.
    nonce: (u32, usize),
    is_playing: bool,
    next_frame: Instant,
    started: Instant,
    next_packet: usize,
    sequence: u16,
    /// The socket and the address for packets, if they are sent over UDP.
    udp: Option<(UdpSocket, u16)>,
}

impl Client {
    fn new(script: Script, log: Arc<Mutex<Vec<Request>>>, number: usize) -> Client {
        let now = Instant::now();
        Client {
            script,
            log,
            received: Vec::new(),
            last_asked: now,
            nonce: (number as u32 * 1000, 0),
            is_playing: false,
            next_frame: now,
            started: now,
            next_packet: 0,
            sequence: 0,
            udp: None,
        }
    }

    fn serve(mut self, mut stream: impl Stream) {
        stream.tcp().set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        let mut bytes = [0; 4096];
        loop {
            match stream.read(&mut bytes) {
                Ok(0) => return,
                Ok(length) => self.received.extend_from_slice(&bytes[..length]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return,
            }
            while let Some(request) = self.next_request() {
                if self.answer(&mut stream, &request).is_err() {
                    return;
                }
            }
            let limit = self.script.timeout_s.map(|seconds| Duration::from_secs(seconds.into()));
            if limit.is_some_and(|limit| self.last_asked.elapsed() > limit) {
                return;
            }
            while self.is_playing && Instant::now() >= self.next_frame {
                if self.send_frame(&mut stream).is_err() {
                    return;
                }
                if self.script.attack != Attack::Flood && self.script.attack != Attack::EndlessFrame {
                    self.next_frame += FRAME_INTERVAL;
                }
            }
        }
    }

    /// The head of the next request that has arrived. Interleaved packets are skipped.
    fn next_request(&mut self) -> Option<String> {
        loop {
            if self.received.first() == Some(&b'$') {
                let length =
                    4 + usize::from(u16::from_be_bytes([*self.received.get(2)?, *self.received.get(3)?]));
                if self.received.len() < length {
                    return None;
                }
                self.received.drain(..length);
                continue;
            }
            let end = self.received.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
            return Some(String::from_utf8(self.received.drain(..end).collect()).unwrap());
        }
    }

    fn answer(&mut self, stream: &mut impl Stream, request: &str) -> std::io::Result<()> {
        self.last_asked = Instant::now();
        let header = |name: &str| {
            let lines = request.lines().filter_map(|line| line.split_once(": "));
            lines
                .into_iter()
                .find(|(other, _)| other.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.to_string())
        };
        let mut words = request.split(' ');
        let (method, url) = (words.next().unwrap().to_string(), words.next().unwrap().to_string());
        let authorization = header("Authorization");
        self.log.lock().unwrap().push(Request {
            at: self.last_asked,
            method: method.clone(),
            authorization: authorization.clone(),
        });
        let cseq = header("CSeq").unwrap();
        let mut send = |status: &str, headers: &str, body: &str| {
            stream.write_all(format!("RTSP/1.0 {status}\r\nCSeq: {cseq}\r\n{headers}\r\n{body}").as_bytes())
        };
        if let Some(challenge) = self.script.challenge.filter(|_| !self.script.open_methods.contains(&method))
        {
            let was_valid =
                authorization.as_deref().is_some_and(|answer| self.is_valid(answer, &method, &url));
            self.nonce.1 += usize::from(was_valid);
            let is_stale = was_valid && self.nonce.1 > self.script.nonce_uses;
            if !was_valid || is_stale {
                self.nonce = (self.nonce.0 + 1, 0);
                let stale = if is_stale { ", stale=TRUE" } else { "" };
                let challenge = challenge.replace("{nonce}", &format!("n{}", self.nonce.0));
                send("401 Unauthorized", &format!("WWW-Authenticate: {challenge}{stale}\r\n"), "")?;
                let closes = self.script.closes_behind_challenge;
                return if closes { Err(ErrorKind::ConnectionAborted.into()) } else { Ok(()) };
            }
        }
        if !self.script.public.split(", ").any(|offered| offered == method) {
            return send("501 Not Implemented", "", "");
        }
        match method.as_str() {
            "OPTIONS" => send("200 OK", &format!("Public: {}\r\n", self.script.public), ""),
            "DESCRIBE" => match (self.script.attack, &self.script.redirect) {
                (Attack::EndlessBody, _) => {
                    send(
                        "200 OK",
                        "Content-Type: application/sdp\r\nContent-Length: 400000000\r\n",
                        "v=0\r\n",
                    )?;
                    (0..4000).try_for_each(|_| stream.write_all(&[b'a'; 100_000]))
                }
                (Attack::EndlessHeader, _) => {
                    stream.write_all(b"RTSP/1.0 200 OK\r\n")?;
                    loop {
                        stream.write_all(
                            &b"X-Padding: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(1000),
                        )?;
                    }
                }
                (Attack::Drip, _) => b"RTSP/1.0 200 OK\r\n".iter().cycle().try_for_each(|byte| {
                    // The attack: so slowly that each single read succeeds in time.
                    std::thread::sleep(Duration::from_millis(200));
                    stream.write_all(&[*byte])
                }),
                (Attack::RedirectToSelf, _) => send("302 Found", &format!("Location: {url}\r\n"), ""),
                (_, Some(location)) => send("302 Found", &format!("Location: {location}\r\n"), ""),
                _ => {
                    let headers = format!(
                        "Content-Base: {url}/\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n",
                        self.script.sdp.len()
                    );
                    send("200 OK", &headers, &self.script.sdp)
                }
            },
            "SETUP" => {
                let transport = header("Transport").unwrap();
                let is_tcp = transport.contains("TCP");
                if let Some(status) = self.script.refuses[usize::from(!is_tcp)] {
                    return send(status, "", "");
                }
                self.udp = None;
                let mut answer = "RTP/AVP/TCP;unicast;interleaved=0-1".to_string();
                if !is_tcp {
                    let port = transport.split("client_port=").nth(1).unwrap();
                    let port: u16 = port.split('-').next().unwrap().parse().unwrap();
                    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                    let own = socket.local_addr().unwrap().port();
                    answer = format!("{transport};server_port={own}-{}", own.saturating_add(1));
                    self.udp = Some((socket, port));
                }
                let timeout =
                    self.script.timeout_s.map(|seconds| format!(";timeout={seconds}")).unwrap_or_default();
                send("200 OK", &format!("Transport: {answer}\r\nSession: 42{timeout}\r\n"), "")
            }
            "PLAY" => {
                send("200 OK", "Session: 42\r\n", "")?;
                (self.is_playing, self.next_frame) = (true, Instant::now());
                if self.script.attack == Attack::EndlessHeaderWhilePlaying {
                    loop {
                        stream.write_all(&b"RTSP/1.0 200 OK\r\nX-Padding: aaaaaaaaaaaaaaaa".repeat(1000))?;
                    }
                }
                Ok(())
            }
            "TEARDOWN" => {
                self.is_playing = false;
                send("200 OK", "", "")
            }
            _ => send("200 OK", "Session: 42\r\n", ""),
        }
    }

    /// Whether an `Authorization` header proves [`LOGIN`] for the last nonce.
    fn is_valid(&self, answer: &str, method: &str, url: &str) -> bool {
        let (user, password) = LOGIN;
        if let Some(basic) = answer.strip_prefix("Basic ") {
            return glib::base64_decode(basic) == format!("{user}:{password}").as_bytes();
        }
        let field = |name: &str| {
            let fields =
                answer.trim_start_matches("Digest ").split(", ").filter_map(|part| part.split_once('='));
            let found = fields.into_iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| value.trim_matches('"').to_string())
        };
        let kind = match self.script.challenge.unwrap().contains("SHA-256") {
            true => ChecksumType::Sha256,
            false => ChecksumType::Md5,
        };
        let hash = |text: String| glib::compute_checksum_for_string(kind, &text).unwrap().to_string();
        let nonce = field("nonce").unwrap();
        let ours = hash(format!("{user}:cam:{password}"));
        let (theirs, middle) = match field("qop") {
            Some(qop) => {
                let body =
                    if qop == "auth-int" { format!(":{}", hash(String::new())) } else { String::new() };
                let middle = format!("{nonce}:{}:{}:{qop}", field("nc").unwrap(), field("cnonce").unwrap());
                (hash(format!("{method}:{url}{body}")), middle)
            }
            None => (hash(format!("{method}:{url}")), nonce.clone()),
        };
        let requires_qop = self.script.challenge.unwrap().contains("qop");
        field("response") == Some(hash(format!("{ours}:{middle}:{theirs}")))
            && requires_qop == field("qop").is_some()
            && field("uri").as_deref() == Some(url)
    }

    /// Sends the packets of the next frame.
    fn send_frame(&mut self, stream: &mut impl Stream) -> std::io::Result<()> {
        let packets = self.script.packets.clone();
        let timestamp = |packet: &[u8]| packet[4..8].to_vec();
        let first = timestamp(&packets[self.next_packet]);
        let now = (self.started.elapsed().as_secs_f64() * 90_000.0) as u32;
        loop {
            let mut packet = packets[self.next_packet].clone();
            if timestamp(&packet) != first {
                return Ok(());
            }
            self.next_packet = (self.next_packet + 1) % packets.len();
            packet[2..4].copy_from_slice(&self.sequence.to_be_bytes());
            packet[4..8].copy_from_slice(&now.to_be_bytes());
            match self.script.attack {
                Attack::ManySources => {
                    packet[8..12]
                        .copy_from_slice(&u32::from(self.sequence).wrapping_mul(2_654_435_761).to_be_bytes());
                }
                Attack::EndlessFrame => {
                    // A fragment of a slice that neither starts nor ends it.
                    let is_first = self.sequence == 0;
                    packet.truncate(12);
                    packet[1] &= 0x7f;
                    packet.extend([0x7c, if is_first { 0x85 } else { 0x05 }]);
                    packet.resize(60_000, 0xaa);
                }
                _ => {}
            }
            self.sequence = self.sequence.wrapping_add(1);
            match &self.udp {
                None => {
                    let mut frame = vec![b'$', 0];
                    frame.extend((packet.len() as u16).to_be_bytes());
                    frame.extend(packet);
                    stream.write_all(&frame)?;
                }
                Some((socket, port)) if !self.script.loses_udp => {
                    socket.send_to(&packet, (Ipv4Addr::LOCALHOST, *port))?;
                }
                Some(_) => {}
            }
            if self.next_packet == 0 || self.script.attack == Attack::EndlessFrame {
                return Ok(());
            }
        }
    }
}
