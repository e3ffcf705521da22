//! One HTTP request at a time: connects, logs in, follows redirects, and returns the answer's body as it
//! arrives. Every step is limited in bytes and time.
//!
//! User and password go to the camera's own host only, and only after it has asked for them, once per
//! attempt.

use super::content::DETECT_BYTES;
use crate::{
    camera::{Failure, FailureKind, auth::Auth},
    config::Login,
};
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Response, StatusCode, Uri,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use std::{future::Future, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
    time,
};

/// Time for connecting, and again for the header of the answer.
pub const TIMEOUT: Duration = Duration::from_secs(5);
/// Redirects that are followed.
const MAX_REDIRECTS: usize = 5;
/// Bytes of an answer's header, and of the connection's buffer.
const MAX_HEADER_BYTES: usize = 64 << 10;
/// Lines of an answer's header.
const MAX_HEADERS: usize = 200;

/// The camera that requests go to.
pub struct Client {
    origin: Uri,
    login: Option<Login>,
    verify_tls: bool,
    /// The camera's last request for a password, which also answers the following requests.
    challenge: Option<Auth>,
    /// The last request was answered, with whatever status.
    answered: bool,
}

/// An answer with status 200 or 206.
pub struct Answer {
    /// The address that has answered, after all redirects.
    pub url: Uri,
    /// `Content-Type`, or empty.
    pub media_type: String,
    /// `Content-Length`.
    pub length: Option<u64>,
    /// The start of the body, which has been read already.
    start: Vec<u8>,
    body: Incoming,
    connection: Connection,
}

/// The task that reads a connection. Ends with it.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What one request leads to.
enum Step {
    Answer(Response<Incoming>, Connection),
    Redirect(Uri),
    /// The camera asks for a password.
    LogIn(Auth),
}

impl Client {
    /// Creates the client of the camera at `url`.
    ///
    /// Errors ([`FailureKind::Unsupported`]): the URL cannot be requested.
    pub fn new(url: &str, login: Option<Login>, verify_tls: bool) -> Result<Client, Failure> {
        let origin = parse(url).ok_or_else(|| unsupported("the address cannot be requested over HTTP"))?;
        Ok(Client { origin, login, verify_tls, challenge: None, answered: false })
    }

    /// The camera's address.
    pub fn url(&self) -> &Uri {
        &self.origin
    }

    /// Whether the last request was answered, with whatever status.
    pub fn is_answered(&self) -> bool {
        self.answered
    }

    /// Requests `url`, or the bytes from `range.0` to before `range.1` of it.
    ///
    /// Errors: no answer, or one with another status than 200 and 206.
    pub async fn get(&mut self, url: &Uri, range: Option<(u64, u64)>) -> Result<Answer, Failure> {
        let mut url = url.clone();
        self.answered = false;
        let (mut redirects, mut logins) = (0, 0);
        loop {
            let step = within(TIMEOUT * 2, self.request(&url, range)).await?;
            match step {
                Step::Answer(response, connection) => {
                    return Answer::new(url, response, connection).await;
                }
                Step::Redirect(target) => {
                    redirects += 1;
                    if redirects > MAX_REDIRECTS {
                        let reason = format!("the camera redirects more than {MAX_REDIRECTS} times");
                        return Err(Failure::new(FailureKind::Unreachable, reason));
                    }
                    url = target;
                }
                Step::LogIn(challenge) => {
                    // A second try with the same password would only lock the account. An outdated nonce of
                    // an earlier request is no try.
                    logins += 1;
                    if logins > 1 {
                        return Err(denied("the camera refuses user and password"));
                    }
                    self.challenge = Some(challenge);
                }
            }
        }
    }

    async fn request(&mut self, url: &Uri, range: Option<(u64, u64)>) -> Result<Step, Failure> {
        let authority = url.authority().ok_or_else(|| unsupported("the address has no host"))?;
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::get(path)
            .header(header::HOST, authority.as_str())
            .header(header::USER_AGENT, concat!("camfire/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, "*/*")
            .header(header::CONNECTION, "close");
        if let Some((from, to)) = range {
            request = request.header(header::RANGE, format!("bytes={from}-{}", to.saturating_sub(1)));
        }
        if let Some(authorization) = self.authorization(url, path)? {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request
            .body(Empty::<Bytes>::new())
            .map_err(|e| unsupported(&format!("the address cannot be requested: {e}")))?;

        let (host, port) = (authority.host(), port(url));
        let host = host.trim_matches(['[', ']']);
        let connected = within(TIMEOUT, async {
            TcpStream::connect((host, port))
                .await
                .map_err(|e| unreachable(&format!("cannot connect to {host} port {port}: {e}")))
        });
        let stream = connected.await?;
        // Without this, some answers wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
        let (response, connection) = if url.scheme_str() == Some("https") {
            let stream = within(TIMEOUT, encrypt(stream, host, self.verify_tls)).await?;
            exchange(stream, request).await?
        } else {
            exchange(stream, request).await?
        };
        self.answered = true;
        self.next_step(url, response, connection)
    }

    /// The login for a request, if the camera has asked for one and the request goes to its host.
    fn authorization(&mut self, url: &Uri, path: &str) -> Result<Option<String>, Failure> {
        let is_own = self.is_own_host(url);
        let Some(auth) = self.challenge.as_mut().filter(|_| is_own) else { return Ok(None) };
        auth.header("GET", path).map(Some).map_err(|why| denied(&why))
    }

    /// Whether a URL is on the camera's own host, and is encrypted if the camera's is.
    fn is_own_host(&self, url: &Uri) -> bool {
        let host = |url: &Uri| url.host().unwrap_or_default().to_ascii_lowercase();
        let is_downgrade = self.origin.scheme_str() == Some("https") && url.scheme_str() != Some("https");
        host(url) == host(&self.origin) && !is_downgrade
    }

    fn next_step(
        &self,
        url: &Uri,
        response: Response<Incoming>,
        connection: Connection,
    ) -> Result<Step, Failure> {
        let status = response.status();
        match status {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(Step::Answer(response, connection)),
            StatusCode::UNAUTHORIZED if !self.is_own_host(url) => {
                Err(denied("another host that the camera names asks for a user and password"))
            }
            StatusCode::UNAUTHORIZED => {
                let login =
                    self.login.as_ref().ok_or_else(|| denied("the camera asks for a user and password"))?;
                let challenges: Vec<&str> = response
                    .headers()
                    .get_all(header::WWW_AUTHENTICATE)
                    .iter()
                    .filter_map(|challenge| challenge.to_str().ok())
                    .collect();
                Auth::new(&challenges, login)
                    .map(Step::LogIn)
                    .map_err(|kinds| denied(&format!("the camera accepts only {kinds}")))
            }
            StatusCode::FORBIDDEN => Err(denied("the camera answers 403 Forbidden")),
            _ if status.is_redirection() => {
                let target = response.headers().get(header::LOCATION).and_then(|target| target.to_str().ok());
                target
                    .and_then(|target| join(url, target))
                    .map(Step::Redirect)
                    .ok_or_else(|| unreachable("the camera redirects to an address that is not HTTP"))
            }
            _ => Err(unreachable(&format!("the camera answers {status}"))),
        }
    }
}

impl Answer {
    async fn new(url: Uri, response: Response<Incoming>, connection: Connection) -> Result<Answer, Failure> {
        let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let media_type = text(header::CONTENT_TYPE).unwrap_or_default().to_string();
        let length = text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
        let body = response.into_body();
        Ok(Answer { url, media_type, length, start: Vec::new(), body, connection })
    }

    /// Reads the first bytes of the body, which tell what it is. They are returned again by
    /// [`Answer::chunk`].
    ///
    /// Errors: none arrive in time.
    pub async fn peek(&mut self) -> Result<&[u8], Failure> {
        let deadline = time::Instant::now() + TIMEOUT;
        while self.start.len() < DETECT_BYTES {
            match time::timeout_at(deadline, self.next()).await {
                Ok(chunk) => match chunk? {
                    Some(chunk) => self.start.extend_from_slice(&chunk),
                    None => break,
                },
                // Few cameras send so little at first, and what there is may suffice.
                Err(_) if !self.start.is_empty() => break,
                Err(_) => return Err(late()),
            }
        }
        Ok(&self.start)
    }

    /// The next bytes of the body. None at its end.
    ///
    /// Errors: the connection is lost.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        if !self.start.is_empty() {
            return Ok(Some(std::mem::take(&mut self.start).into()));
        }
        self.next().await
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            match self.body.frame().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => return Ok(Some(data)),
                    Err(_trailers) => continue,
                },
                Some(Err(error)) => {
                    return Err(unreachable(&format!("the connection is lost: {}", cause(&error))));
                }
                None => return Ok(None),
            }
        }
    }

    /// The whole body. `limit` returns the most bytes that it may have, given those that have arrived;
    /// `is_whole` whether nothing follows, although the connection is still open.
    ///
    /// Errors: it is longer ([`FailureKind::Unsupported`]), or does not arrive in time.
    pub async fn whole(
        mut self,
        limit: impl Fn(&[u8]) -> usize,
        is_whole: impl Fn(&[u8]) -> bool,
    ) -> Result<Vec<u8>, Failure> {
        let at_most = limit(&[]);
        if let Some(length) = self.length.filter(|length| *length > at_most as u64) {
            return Err(unsupported(&format!("the answer has {length} bytes; the limit is {at_most} bytes")));
        }
        let mut whole = Vec::with_capacity(self.length.unwrap_or_default() as usize);
        let read = async {
            while let Some(chunk) = self.chunk().await? {
                whole.extend_from_slice(&chunk);
                let limit = limit(&whole);
                if whole.len() > limit {
                    return Err(unsupported(&format!("the answer does not end; the limit is {limit} bytes")));
                }
                if is_whole(&whole) {
                    break;
                }
            }
            Ok(())
        };
        within(TIMEOUT, read).await?;
        drop(self.connection);
        Ok(whole)
    }
}

/// Sends a request on a connection of its own and returns the header of the answer.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Empty<Bytes>>,
) -> Result<(Response<Incoming>, Connection), Failure> {
    let invalid = |e: hyper::Error| unreachable(&format!("the answer is no HTTP: {}", cause(&e)));
    // Cameras send all of these.
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADERS)
        .ignore_invalid_headers_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_spaces_after_header_name_in_responses(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(invalid)?;
    let connection = Connection(tokio::spawn(async move { drop(connection.await) }));
    let response = within(TIMEOUT, async { sender.send_request(request).await.map_err(invalid) }).await?;
    Ok((response, connection))
}

async fn encrypt(
    stream: TcpStream,
    host: &str,
    verify: bool,
) -> Result<tokio_native_tls::TlsStream<TcpStream>, Failure> {
    let connector = native_tls::TlsConnector::builder()
        .danger_accept_invalid_certs(!verify)
        .danger_accept_invalid_hostnames(!verify)
        .build()
        .map_err(|e| unsupported(&format!("TLS cannot be used: {e}")))?;
    tokio_native_tls::TlsConnector::from(connector).connect(host, stream).await.map_err(|e| {
        let cause = cause(&e);
        let advice = if verify && cause.contains("certificate") {
            " (to accept any certificate, set options.verify_tls = false)"
        } else {
            ""
        };
        unreachable(&format!("no encrypted connection{advice}: {cause}"))
    })
}

/// Waits for `work`, at most for `timeout`.
async fn within<T>(timeout: Duration, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    time::timeout(timeout, work).await.unwrap_or_else(|_| Err(late()))
}

/// The failure of a camera that accepts connections and does not answer.
pub fn late() -> Failure {
    Failure::new(FailureKind::Unreachable, "the camera does not answer in time")
}

fn unreachable(reason: &str) -> Failure {
    Failure::new(FailureKind::Unreachable, reason)
}

fn denied(reason: &str) -> Failure {
    Failure::new(FailureKind::Denied, reason)
}

fn unsupported(reason: &str) -> Failure {
    Failure::new(FailureKind::Unsupported, reason)
}

/// An error with its causes.
fn cause(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text += &format!(": {more}");
        }
        source = error.source();
    }
    text
}

fn port(url: &Uri) -> u16 {
    url.port_u16().unwrap_or(if url.scheme_str() == Some("https") { 443 } else { 80 })
}

/// Parses an absolute URL. Bytes that may not stand in one are escaped, because users and cameras write them.
fn parse(url: &str) -> Option<Uri> {
    let url = url.split('#').next().unwrap_or_default();
    let mut escaped = String::with_capacity(url.len());
    for byte in url.bytes() {
        match byte {
            b'!'..=b'~' if !b"\"<>\\^`{|}".contains(&byte) => escaped.push(char::from(byte)),
            _ => escaped += &format!("%{byte:02X}"),
        }
    }
    let uri: Uri = escaped.parse().ok()?;
    (matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()).then_some(uri)
}

/// The URL that `reference` stands for in an answer from `base`. Returns None if it is not HTTP.
pub fn join(base: &Uri, reference: &str) -> Option<Uri> {
    let reference = reference.trim().split('#').next().unwrap_or_default();
    let scheme = base.scheme_str()?;
    let has_scheme = reference.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    });
    if has_scheme {
        return parse(reference);
    }
    if reference.starts_with("//") {
        return parse(&format!("{scheme}:{reference}"));
    }
    let authority = base.authority()?;
    let (path, query) = match reference.split_once('?') {
        Some((path, query)) => (path, format!("?{query}")),
        None => (reference, String::new()),
    };
    let full = match path {
        "" if query.is_empty() => return Some(base.clone()),
        "" => base.path().to_string(),
        path if path.starts_with('/') => path.to_string(),
        path => format!("{}{path}", &base.path()[..base.path().rfind('/').map_or(0, |at| at + 1)]),
    };
    let mut segments: Vec<&str> = Vec::new();
    let parts: Vec<&str> = full.trim_start_matches('/').split('/').collect();
    for (index, part) in parts.iter().enumerate() {
        let is_last = index + 1 == parts.len();
        match *part {
            ".." => drop(segments.pop()),
            "." => {}
            part => segments.push(part),
        }
        if is_last && matches!(*part, "." | "..") {
            segments.push("");
        }
    }
    parse(&format!("{scheme}://{authority}/{}{query}", segments.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_resolved_against_the_address_of_the_answer() {
        let base = parse("http://cam:8080/live/sub/index.m3u8?token=1").unwrap();
        for (reference, expected) in [
            ("part1.ts", "http://cam:8080/live/sub/part1.ts"),
            ("../part1.ts?a=b:c", "http://cam:8080/live/part1.ts?a=b:c"),
            ("./x/../y.ts", "http://cam:8080/live/sub/y.ts"),
            ("/part 1.ts#t", "http://cam:8080/part%201.ts"),
            ("?token=2", "http://cam:8080/live/sub/index.m3u8?token=2"),
            ("//other/x", "http://other/x"),
            ("https://other:444/x", "https://other:444/x"),
            ("../../../../x", "http://cam:8080/x"),
        ] {
            assert_eq!(join(&base, reference).unwrap().to_string(), expected, "{reference}");
        }
        for reference in ["ftp://cam/x", "file:///etc/passwd", "data:video/mp4,x", "http://"] {
            assert_eq!(join(&base, reference), None, "{reference}");
        }
    }

    #[test]
    fn the_login_goes_to_the_cameras_own_host_only() {
        let client = |url: &str| Client::new(url, None, true).unwrap();
        let is_own = |own: &str, other: &str| client(own).is_own_host(&parse(other).unwrap());
        assert!(is_own("http://cam/x", "http://CAM:8080/y"));
        assert!(is_own("http://cam/x", "https://cam/y"));
        assert!(!is_own("http://cam/x", "http://cam.example/y"));
        assert!(!is_own("https://cam/x", "http://cam/y"));
        assert!(Client::new("rtsp://cam/x", None, true).is_err());
    }
}
