//! Takes the parts out of a multipart answer as it arrives, each within its limit. Pure.
//!
//! The delimiter is the first line that starts with two hyphens, whatever the answer's header says: cameras
//! quote it, leave the hyphens out, or announce another one. `Content-Length` is used where a part has it.

use super::{MAX_IMAGE_BYTES, jpeg};

/// Bytes of the text before a part: what precedes the delimiter, and the part's header.
const MAX_HEADER_BYTES: usize = 16 << 10;

/// A part of a multipart answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    /// The part is said to be an image, or does not say what it is.
    pub is_image: bool,
    /// Its contents.
    pub data: Vec<u8>,
}

/// Reads a multipart answer.
#[derive(Debug, Default)]
pub struct Multipart {
    state: State,
    /// The line that precedes each part, with its hyphens.
    delimiter: Vec<u8>,
    /// The current line of text.
    line: Vec<u8>,
    /// Bytes of text since the last part.
    header_bytes: usize,
    /// The current part's `Content-Length`.
    length: Option<usize>,
    is_image: bool,
    part: Vec<u8>,
    /// Bytes of the part that do not contain the delimiter.
    searched: usize,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    /// Before a delimiter.
    #[default]
    Between,
    Header,
    Part,
}

impl Multipart {
    /// Reads `input` and appends the parts that it completes to `parts`.
    ///
    /// Errors: a limit is exceeded.
    pub fn feed(&mut self, input: &[u8], parts: &mut Vec<Part>) -> Result<(), String> {
        let mut rest = input;
        while !rest.is_empty() {
            rest = match self.state {
                State::Between | State::Header => self.text(rest)?,
                State::Part => match self.length {
                    Some(length) => self.known(rest, length, parts),
                    None => {
                        let Some(used) = self.unknown(rest, parts)? else { break };
                        &rest[used..]
                    }
                },
            };
        }
        Ok(())
    }

    /// Reads a line of text, if it is complete. Returns what follows.
    fn text<'a>(&mut self, input: &'a [u8]) -> Result<&'a [u8], String> {
        let end = input.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(input.len(), |end| end + 1);
        self.header_bytes += taken;
        // What follows a part with a wrong length is searched for the next delimiter, and not kept.
        let limit = if self.state == State::Between { MAX_IMAGE_BYTES } else { MAX_HEADER_BYTES };
        if self.header_bytes > limit || self.line.len() > MAX_HEADER_BYTES && self.delimiter.is_empty() {
            return Err(format!("{} bytes contain no part", self.header_bytes));
        }
        self.line.extend_from_slice(&input[..taken]);
        let rest = &input[taken..];
        if end.is_none() {
            if self.state == State::Between && self.line.len() > MAX_HEADER_BYTES {
                self.line.drain(..self.line.len() - self.delimiter.len());
            }
            return Ok(rest);
        }
        let line = std::mem::take(&mut self.line);
        match self.state {
            State::Between => self.between(line.trim_ascii())?,
            _ => self.header(line.trim_ascii())?,
        }
        Ok(rest)
    }

    fn between(&mut self, line: &[u8]) -> Result<(), String> {
        if self.delimiter.is_empty() {
            if self.header_bytes > MAX_HEADER_BYTES {
                return Err(format!("the first {} bytes contain no part", self.header_bytes));
            }
            if line.len() > 2 && line.starts_with(b"--") {
                self.delimiter = line.to_vec();
            }
        }
        if !self.delimiter.is_empty() && line.ends_with(&self.delimiter) {
            (self.state, self.length, self.is_image) = (State::Header, None, true);
            self.header_bytes = 0;
        }
        Ok(())
    }

    fn header(&mut self, line: &[u8]) -> Result<(), String> {
        if line.is_empty() {
            self.state = State::Part;
            (self.header_bytes, self.searched) = (0, 0);
            self.part = Vec::new();
            return Ok(());
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return Ok(()) };
        let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = str::from_utf8(value).ok().and_then(|value| value.parse::<u64>().ok());
            if let Some(length) = length.filter(|length| *length > MAX_IMAGE_BYTES as u64) {
                return Err(too_large(&format!("announces {length} bytes"), MAX_IMAGE_BYTES));
            }
            self.length = length.map(|length| length as usize);
        } else if name.eq_ignore_ascii_case(b"content-type") {
            let image = value.get(..6).is_some_and(|kind| kind.eq_ignore_ascii_case(b"image/"));
            self.is_image = image || value.eq_ignore_ascii_case(b"application/octet-stream");
        }
        Ok(())
    }

    /// Reads a part of known length. Returns what follows.
    fn known<'a>(&mut self, input: &'a [u8], length: usize, parts: &mut Vec<Part>) -> &'a [u8] {
        let taken = (length - self.part.len()).min(input.len());
        self.part.extend_from_slice(&input[..taken]);
        if self.part.len() == length {
            self.complete(parts);
        }
        &input[taken..]
    }

    /// Reads a part that ends before the next delimiter. Returns how many bytes of `input` belong to it, or
    /// None if all do.
    fn unknown(&mut self, input: &[u8], parts: &mut Vec<Part>) -> Result<Option<usize>, String> {
        let before = self.part.len();
        self.part.extend_from_slice(input);
        let from = self.searched.saturating_sub(self.delimiter.len());
        let found = find(&self.part[from..], &self.delimiter).map(|at| from + at);
        if let Some(at) = found {
            // The delimiter is read again as a line of text.
            let used = at.saturating_sub(before);
            let overlap = before.saturating_sub(at);
            self.line = self.delimiter[..overlap].to_vec();
            self.part.truncate(at);
            for end in [b'\n', b'\r'] {
                if self.part.last() == Some(&end) {
                    self.part.pop();
                }
            }
            self.complete(parts);
            return Ok(Some(used));
        }
        self.searched = self.part.len();
        let limit = if self.is_image { jpeg::byte_limit(&self.part) } else { MAX_IMAGE_BYTES };
        if self.part.len() > limit {
            return Err(too_large("does not end", limit));
        }
        Ok(None)
    }

    fn complete(&mut self, parts: &mut Vec<Part>) {
        parts.push(Part { is_image: self.is_image, data: std::mem::take(&mut self.part) });
        (self.state, self.header_bytes) = (State::Between, 0);
    }
}

fn too_large(what: &str, limit: usize) -> String {
    format!("a part {what}; the limit is {limit} bytes")
}

/// Position of `word` in `data`.
fn find(data: &[u8], word: &[u8]) -> Option<usize> {
    let first = *word.first()?;
    let mut from = 0;
    while let Some(at) = data[from..].iter().position(|byte| *byte == first) {
        if data[from + at..].starts_with(word) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(stream: &[u8], chunk: usize) -> Result<Vec<Vec<u8>>, String> {
        let (mut multipart, mut parts) = (Multipart::default(), Vec::new());
        for chunk in stream.chunks(chunk) {
            multipart.feed(chunk, &mut parts)?;
        }
        Ok(parts.into_iter().filter(|part| part.is_image).map(|part| part.data).collect())
    }

    /// However the stream is cut into pieces, it contains the same parts.
    #[track_caller]
    fn assert_images(stream: &str, expected: &[&str]) {
        let expected: Vec<Vec<u8>> = expected.iter().map(|part| part.as_bytes().to_vec()).collect();
        for chunk in 1..=stream.len() {
            assert_eq!(images(stream.as_bytes(), chunk).unwrap(), expected, "in pieces of {chunk}");
        }
    }

    #[test]
    fn parts_with_and_without_a_length_are_found() {
        let with = "--f\r\nContent-Type: image/jpg\r\nContent-Length: 3\r\n\r\nabc\r\n";
        assert_images(&with.repeat(2), &["abc", "abc"]);
        let without = "--f\r\nContent-Type: image/jpeg\r\n\r\na-\r\n-bc\r\n";
        assert_images(&(without.repeat(2) + "--f\r\n"), &["a-\r\n-bc", "a-\r\n-bc"]);
        // No line break before the delimiter, line feeds alone, and a preamble.
        assert_images("\n\nhello\n--my cut\n\nabc--my cut\n\ndef\n--my cut--\n", &["abc", "def"]);
    }

    #[test]
    fn other_parts_and_wrong_lengths_are_survived() {
        let other = "--f\r\nContent-Type: text/plain\r\n\r\nhello\r\n";
        let short = "--f\r\nContent-Length: 2\r\n\r\nabcdef\r\n";
        let good = "--f\r\ncontent-length:3\r\n\r\nabc\r\n";
        assert_images(&[other, short, good].concat(), &["ab", "abc"]);
        assert_images("--f\r\nContent-Length: 0\r\n\r\n\r\n--f\r\nContent-Length: 1\r\n\r\nx", &["", "x"]);
        assert_images("--f\r\nContent-Length: -5\r\n\r\nabc\r\n--f\r\n", &["abc"]);
    }

    #[test]
    fn whatever_does_not_end_is_refused() {
        let endless = |start: &str, filler: &str| {
            let (mut multipart, mut parts) = (Multipart::default(), Vec::new());
            let filler = filler.repeat(65536 / filler.len());
            let mut largest = 0;
            multipart.feed(start.as_bytes(), &mut parts)?;
            for _ in 0..2 * MAX_IMAGE_BYTES / filler.len() {
                multipart.feed(filler.as_bytes(), &mut parts)?;
                largest = largest.max(multipart.part.len() + multipart.line.len());
            }
            assert!(largest <= MAX_IMAGE_BYTES + filler.len());
            Ok::<_, String>(())
        };
        let limit = MAX_IMAGE_BYTES;
        let no_end = format!("a part does not end; the limit is {limit} bytes");
        assert_eq!(endless("--f\r\n\r\n", "x"), Err(no_end));
        let announced = format!("a part announces 10737418240 bytes; the limit is {limit} bytes");
        assert_eq!(endless("--f\r\nContent-Length: 10737418240\r\n\r\n", "x"), Err(announced));
        for (start, filler) in [
            ("", "x"),
            ("", "preamble\r\n"),
            ("--f\r\n", "x"),
            ("--f\r\n", "X-More: yes\r\n"),
            ("--f\r\nContent-Length: 1\r\n\r\nx", "x"),
            ("--f\r\nContent-Length: 1\r\n\r\nx", "x\n"),
        ] {
            assert!(endless(start, filler).is_err(), "{start:?} {filler:?}");
        }
    }

    #[test]
    fn an_image_gets_no_more_bytes_than_its_dimensions_need() {
        let (mut multipart, mut parts) = (Multipart::default(), Vec::new());
        let image = jpeg::tests::image();
        multipart.feed(b"--f\r\nContent-Type: image/jpeg\r\n\r\n", &mut parts).unwrap();
        multipart.feed(&image[..image.len() - 2], &mut parts).unwrap();
        let fed = (0..64).find(|_| multipart.feed(&[7; 65536], &mut parts).is_err());
        assert!(fed.is_some_and(|fed| fed < 20), "{fed:?}");
    }
}
