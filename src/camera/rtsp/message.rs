//! RTSP messages and interleaved packets, from a buffer of received bytes. Pure.
//!
//! What is longer than the limits is an error as soon as that is known, so that no peer can make a buffer
//! grow.

/// Maximum length of a start line and its headers, in bytes.
pub const MAX_HEADER: usize = 16 * 1024;
/// Maximum length of a body, in bytes.
pub const MAX_BODY: usize = 64 * 1024;
/// Length of the header of an interleaved packet, in bytes.
pub const PACKET_HEADER: usize = 4;

/// A request or a response.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// The first line.
    pub start: String,
    headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// What a buffer begins with.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// An interleaved packet.
    Packet {
        /// Its channel.
        channel: u8,
        /// Its contents.
        data: &'a [u8],
    },
    /// A request or a response.
    Message(Message),
}

impl Message {
    /// The status code of a response. None for a request.
    pub fn status(&self) -> Option<u16> {
        let rest = self.start.strip_prefix("RTSP/")?;
        rest.split_whitespace().nth(1)?.parse().ok()
    }

    /// Status code and phrase, readable and short whatever the peer has sent.
    pub fn status_text(&self) -> String {
        let text = self.start.split_once(' ').map_or("", |(_, text)| text);
        crate::camera::readable(text, 48)
    }

    /// Method and URL of a request.
    pub fn request(&self) -> Option<(&str, &str)> {
        let mut words = self.start.split(' ');
        let (method, url, version) = (words.next()?, words.next()?, words.next()?);
        version.starts_with("RTSP/").then_some((method, url))
    }

    /// The first header with this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// All headers with this name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.headers.iter().filter(move |(other, _)| other.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str())
    }

    /// Its sequence number.
    pub fn cseq(&self) -> Option<u32> {
        self.header("CSeq")?.parse().ok()
    }
}

/// Parses what `buffer` begins with, and returns it with its length in bytes. Returns None if more bytes are
/// needed.
///
/// Errors: this is not RTSP, or longer than the limits. The text follows "the camera sends".
pub fn parse(buffer: &[u8]) -> Result<Option<(Item<'_>, usize)>, String> {
    let blank = buffer.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    if blank > MAX_HEADER {
        return Err("no RTSP".into());
    }
    let rest = &buffer[blank..];
    match rest.first() {
        None => Ok(None),
        Some(b'$') => {
            let Some(header) = rest.get(..PACKET_HEADER) else { return Ok(None) };
            let end = PACKET_HEADER + usize::from(u16::from_be_bytes([header[2], header[3]]));
            let Some(data) = rest.get(PACKET_HEADER..end) else { return Ok(None) };
            Ok(Some((Item::Packet { channel: header[1], data }, blank + end)))
        }
        Some(byte) if !byte.is_ascii_uppercase() => Err("no RTSP".into()),
        Some(_) => {
            let message = parse_message(rest)?;
            Ok(message.map(|(message, length)| (Item::Message(message), blank + length)))
        }
    }
}

fn parse_message(buffer: &[u8]) -> Result<Option<(Message, usize)>, String> {
    let visible = &buffer[..buffer.len().min(MAX_HEADER)];
    let Some(header_end) = header_end(visible) else {
        if buffer.len() >= MAX_HEADER {
            return Err(format!("a header longer than {} KiB", MAX_HEADER / 1024));
        }
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&buffer[..header_end]);
    let mut lines = text.lines();
    let start = lines.next().unwrap_or_default().trim_end().to_string();
    if !start.starts_with("RTSP/") && !start.contains(" RTSP/") {
        return Err("no RTSP".into());
    }
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.trim().to_string(), value.trim().to_string()))
    };
    let headers = lines.filter_map(header).collect();
    let mut message = Message { start, headers, body: Vec::new() };
    let length = match message.header("Content-Length") {
        Some(length) => length.parse().map_err(|_| "a body without a valid length".to_string())?,
        None => 0usize,
    };
    if length > MAX_BODY {
        return Err(format!("a body of {length} bytes, more than {} KiB", MAX_BODY / 1024));
    }
    let end = header_end + length;
    let Some(body) = buffer.get(header_end..end) else { return Ok(None) };
    message.body = body.to_vec();
    Ok(Some((message, end)))
}

/// Where the header ends, behind its blank line.
fn header_end(buffer: &[u8]) -> Option<usize> {
    let mut line_start = 0;
    for (at, _) in buffer.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
        if matches!(&buffer[line_start..at], b"" | b"\r") {
            return Some(at + 1);
        }
        line_start = at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: &[u8]) -> (Message, usize) {
        match parse(bytes) {
            Ok(Some((Item::Message(message), length))) => (message, length),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn messages_and_packets_are_parsed_at_every_cut() {
        let bytes =
            b"\r\nRTSP/1.0 200 OK\r\nCSeq: 7\r\nPublic: A, B\r\nContent-Length: 4\r\n\r\nv=0\n$\x01\0\x02hi";
        let message_end = bytes.len() - 6;
        for cut in 0..message_end {
            assert_eq!(parse(&bytes[..cut]), Ok(None), "{cut}");
        }
        let (response, length) = message(bytes);
        assert_eq!((response.status(), response.cseq(), length), (Some(200), Some(7), message_end));
        assert_eq!((response.header("public"), response.body.as_slice()), (Some("A, B"), &b"v=0\n"[..]));
        let packet = &bytes[message_end..];
        assert_eq!(parse(packet), Ok(Some((Item::Packet { channel: 1, data: b"hi" }, 6))));
        assert_eq!(parse(&packet[..5]), Ok(None));
        let (request, _) = message(b"OPTIONS rtsp://h/s RTSP/1.0\nCSeq: 1\n\n");
        assert_eq!(request.request(), Some(("OPTIONS", "rtsp://h/s")));
        assert_eq!(request.status(), None);
    }

    #[test]
    fn what_exceeds_a_limit_is_refused_before_it_has_arrived() {
        let error = |bytes: &[u8]| parse(bytes).unwrap_err();
        let endless = [b"RTSP/1.0 200 OK\r\n".as_slice(), &b"X: y\r\n".repeat(MAX_HEADER / 6)].concat();
        assert_eq!(error(&endless), "a header longer than 16 KiB");
        assert_eq!(parse(&endless[..MAX_HEADER - 1]), Ok(None));
        let line = [b"RTSP/1.0 200 OK\r\nX: ".as_slice(), &vec![b'y'; MAX_HEADER]].concat();
        assert_eq!(error(&line), "a header longer than 16 KiB");
        let body = b"RTSP/1.0 200 OK\r\nContent-Length: 400000000\r\n\r\n";
        assert_eq!(error(body), "a body of 400000000 bytes, more than 64 KiB");
        assert_eq!(error(b"RTSP/1.0 200 OK\r\nContent-Length: -1\r\n\r\n"), "a body without a valid length");
        assert_eq!(error(b"HTTP/1.1 200 OK\r\n\r\n"), "no RTSP");
        assert_eq!(error(b"\x16\x03\x01"), "no RTSP");
        assert_eq!(error(&vec![b'\n'; MAX_HEADER + 1]), "no RTSP");
    }

    #[test]
    fn a_status_is_readable_whatever_it_says() {
        let (response, _) = message("RTSP/1.0 404 Not \u{7}Found\u{e9}\r\n\r\n".as_bytes());
        assert_eq!(response.status_text(), "404 Not Found");
    }
}
