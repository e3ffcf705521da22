//! What is wrong with a configuration: every problem with its place, key, value and the rule it breaks.
//!
//! One problem is one line, because that is what a journal, a terminal and `grep` can hold. What is shown has gone
//! through [`redact`]: a password, alone or inside an address, never gets into a `Problem`.

use std::fmt;

/// Longer values are cut when they are shown: the place says where the rest is.
const SHOWN_CHARS: usize = 100;

/// Where a value was given. The order is the order in which problems are told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A line of a file; no line when the file as a whole is meant.
    File {
        /// Files are read in this order; the main file is 0.
        layer: usize,
        /// As it was given or found.
        name: String,
        /// From 1.
        line: Option<usize>,
    },
    /// An environment variable, by its name.
    Environment(String),
    /// `--set` on the command line.
    Flag,
    /// Nobody gave it: a default, or something that is missing.
    Nowhere,
}

/// One rule that is broken, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where to go and mend it.
    pub place: Place,
    /// Dotted, as in `mqtt.port`; empty when no key is meant.
    pub key: String,
    /// As it was typed, without secrets.
    pub value: Option<String>,
    /// What would be right.
    pub rule: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File { name, line: Some(line), .. } => write!(f, "{name}:{line}: ")?,
            Place::File { name, line: None, .. } => write!(f, "{name}: ")?,
            Place::Environment(name) => write!(f, "{name} (environment): ")?,
            Place::Flag => f.write_str("--set ")?,
            Place::Nowhere => {}
        }
        let equals = if self.place == Place::Flag { "=" } else { " = " };
        match &self.value {
            Some(value) => write!(f, "{}{equals}{value}: ", self.key)?,
            None if !self.key.is_empty() => write!(f, "{}: ", self.key)?,
            None => {}
        }
        f.write_str(&self.rule)
    }
}

/// All that is wrong, sorted by place; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// `None` when there are none.
    pub(super) fn from_list(mut list: Vec<Problem>) -> Option<Problems> {
        list.sort();
        list.dedup();
        (!list.is_empty()).then_some(Problems(list))
    }

    /// Each of them, in the order of their places.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }
}

impl fmt::Display for Problems {
    /// A line each and a last one with the count.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            writeln!(f, "{problem}")?;
        }
        match self.0.len() {
            1 => f.write_str("1 problem in the configuration"),
            count => write!(f, "{count} problems in the configuration"),
        }
    }
}

impl std::error::Error for Problems {}

/// Whether a key of this name, known or not, is likely to hold a secret: a misspelt `pasword` is one as well.
pub(super) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name != "password_file"
        && ["pass", "pwd", "passwd", "secret", "token"].iter().any(|word| name.contains(word))
}

/// `text` on one line, of bearable length and without credentials.
pub(super) fn shown(text: &str) -> String {
    let text = redact(text);
    let mut line: String = text.chars().take(SHOWN_CHARS).take_while(|c| !matches!(c, '\n' | '\r')).collect();
    if line.len() < text.len() {
        line.push_str(" …");
    }
    line
}

/// `text` without the `user:password` of addresses and without what follows `password=` and the like.
///
/// It rather hides too much: a password typed without percent-encoding may hold any sign, so all that stands between
/// the first `://` and the last `@` goes.
fn redact(text: &str) -> String {
    let mut text = text.to_string();
    if let Some(at) = text.rfind('@') {
        let start = text[..at].find("://").map(|scheme| scheme + "://".len());
        let quote = text.len() - text.trim_start_matches(['"', '\'']).len();
        if let Some(start) = start.or(text[..at].contains(':').then_some(quote)) {
            text.replace_range(start..at, "***");
        }
    }
    for marker in ["password=", "passwd=", "pass=", "pwd=", "user-pw="] {
        let mut from = 0;
        while let Some(found) = text[from..].to_ascii_lowercase().find(marker) {
            let start = from + found + marker.len();
            let end =
                text[start..].find(['&', ' ', '"', '\'', '\n']).map_or(text.len(), |length| start + length);
            text.replace_range(start..end, "***");
            from = start + "***".len();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_never_shown() {
        for (text, expected) in [
            ("\"rtsp://admin:hunter2@10.0.0.5/s\"", "\"rtsp://***@10.0.0.5/s\""),
            ("rtsp://admin:hun@ter2@10.0.0.5/s", "rtsp://***@10.0.0.5/s"),
            ("rtsp://admin:hun/ter2@10.0.0.5/s", "rtsp://***@10.0.0.5/s"),
            ("rtsp://admin:hunter 2@10.0.0.5/s", "rtsp://***@10.0.0.5/s"),
            ("\"admin:hunter2@10.0.0.5\"", "\"***@10.0.0.5\""),
            ("rtsp://h/user=a&password=hunter2&ch=1", "rtsp://h/user=a&password=***&ch=1"),
            ("rtspsrc user-id=a user-pw=hunter2 ! x", "rtspsrc user-id=a user-pw=*** ! x"),
            ("someone@example", "someone@example"),
            ("rtsp://h:554/plain", "rtsp://h:554/plain"),
        ] {
            assert_eq!(shown(text), expected);
        }
    }

    #[test]
    fn keys_that_sound_like_secrets_are_taken_for_such() {
        for name in ["password", "pasword_1_pass", "PASSWD", "api_token", "passwordfile"] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["password_file", "port", "user"] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn long_and_many_lined_values_become_one_short_line() {
        assert_eq!(shown("a\nb"), "a …");
        assert_eq!(shown(&"x".repeat(300)).chars().count(), SHOWN_CHARS + 2);
    }
}
