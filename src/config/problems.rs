//! Problems of a configuration: each with its location, key, value and the rule that the value breaks.
//!
//! A problem is formatted as one line, for the journal, the terminal and `grep`. Values pass through
//! [`redact`] first, so a `Problem` never contains a password, alone or inside a URL.

use std::fmt;

/// Maximum length of a value in an error text, in characters. Longer ones are truncated.
const MAX_SHOWN_CHARS: usize = 100;

/// Where a value was set. Problems are sorted by it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Location {
    /// A line of a file, or the whole file.
    File {
        /// Index in the order in which files are read; the main file is 0.
        layer: usize,
        /// Path of the file.
        name: String,
        /// Line number from 1; None for the whole file.
        line: Option<usize>,
    },
    /// An environment variable, with its name.
    Environment(String),
    /// `--set` on the command line.
    Flag,
    /// Not set anywhere: a default, or a missing key.
    Unset,
}

/// A broken rule and where it is broken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where the value was set.
    pub location: Location,
    /// Dotted path, such as `mqtt.port`; empty if the problem has no key.
    pub key: String,
    /// The value as written, without secrets.
    pub value: Option<String>,
    /// The rule that is broken; error text for the user.
    pub rule: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            Location::File { name, line: Some(line), .. } => write!(f, "{name}:{line}: ")?,
            Location::File { name, line: None, .. } => write!(f, "{name}: ")?,
            Location::Environment(name) => write!(f, "{name} (environment): ")?,
            Location::Flag => f.write_str("--set ")?,
            Location::Unset => {}
        }
        let equals = if self.location == Location::Flag { "=" } else { " = " };
        match &self.value {
            Some(value) => write!(f, "{}{equals}{value}: ", self.key)?,
            None if !self.key.is_empty() => write!(f, "{}: ", self.key)?,
            None => {}
        }
        f.write_str(&self.rule)
    }
}

/// All problems of a configuration, sorted by location; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Sorts the problems and removes duplicates. Returns None if there are none.
    pub(super) fn from_list(mut list: Vec<Problem>) -> Option<Problems> {
        list.sort();
        list.dedup();
        (!list.is_empty()).then_some(Problems(list))
    }

    /// The problems, sorted by location.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }
}

impl fmt::Display for Problems {
    /// Writes one line per problem and a last line with their number.
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

/// Whether a key with this name, known or not, is likely to contain a secret. A misspelt `pasword` is, too.
pub(super) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name != "password_file"
        && ["pass", "pwd", "passwd", "secret", "token"].iter().any(|word| name.contains(word))
}

/// Shortens `text` to one line of limited length, without credentials.
pub(super) fn shown(text: &str) -> String {
    let text = redact(text);
    let mut line: String =
        text.chars().take(MAX_SHOWN_CHARS).take_while(|c| !matches!(c, '\n' | '\r')).collect();
    if line.len() < text.len() {
        line.push_str(" …");
    }
    line
}

/// Removes the `user:password` of URLs, and the values of `password=` and the like.
///
/// It hides too much rather than too little: a password that is not percent-encoded may contain any
/// character, so everything between the first `://` and the last `@` is removed.
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
    fn secret_keys_are_recognized_by_name() {
        for name in ["password", "pasword_1_pass", "PASSWD", "api_token", "passwordfile"] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["password_file", "port", "user"] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn long_values_are_shortened_to_one_line() {
        assert_eq!(shown("a\nb"), "a …");
        assert_eq!(shown(&"x".repeat(300)).chars().count(), MAX_SHOWN_CHARS + 2);
    }
}
