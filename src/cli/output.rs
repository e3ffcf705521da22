//! How results get to stdout, and how they look to a person: one line for what a message says, and only when something
//! changed.

use serde::Deserialize;
use std::{
    collections::HashMap,
    fmt,
    io::{self, Write},
};

/// Writes a line of results to stdout. Whoever reads may have enough, as `head` does: then the process ends, quietly.
pub fn write_line(line: fmt::Arguments<'_>) {
    if !try_write_line(line) {
        std::process::exit(0);
    }
}

/// The same for those who have to clean up before they end; false where nobody reads any more.
pub fn try_write_line(line: fmt::Arguments<'_>) -> bool {
    match writeln!(io::stdout().lock(), "{line}") {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => false,
        Err(error) => {
            eprintln!("camfire: results cannot be written: {error}");
            std::process::exit(1);
        }
    }
}

/// Like `println!`, by [`write_line`].
macro_rules! line {
    ($($text:tt)*) => {
        $crate::cli::output::write_line(format_args!($($text)*))
    };
}
pub(super) use line;

/// What a `detections` payload says, as a subscriber reads it.
#[derive(Debug, Clone, Deserialize)]
pub struct Seen {
    /// The node's name.
    pub node: String,
    /// The camera's name.
    pub camera: String,
    /// RFC 3339.
    pub captured_at: String,
    /// Capture to message.
    pub latency_ms: f64,
    /// Best first.
    pub top: Vec<SeenClass>,
}

/// One class of it.
#[derive(Debug, Clone, Deserialize)]
pub struct SeenClass {
    /// Its name.
    pub label: String,
    /// 0 to 1.
    pub score: f32,
}

impl Seen {
    /// `07:31:02.125  yard  Egyptian cat 0.71 · tabby 0.22 · tiger cat 0.04  (61 ms)`
    pub fn line(&self) -> String {
        let time = self.captured_at.get(11..23).unwrap_or(&self.captured_at);
        let classes: Vec<String> =
            self.top.iter().map(|class| format!("{} {:.2}", class.label, class.score)).collect();
        let (camera, latency) = (&self.camera, self.latency_ms);
        format!("{time}  {camera}  {}  ({latency:.0} ms)", classes.join(" · "))
    }

    /// The line where nothing is sure.
    pub fn unsure_line(&self) -> String {
        let time = self.captured_at.get(11..23).unwrap_or(&self.captured_at);
        format!("{time}  {}  –", self.camera)
    }
}

/// From this score on a class counts as seen.
const SURE: f32 = 0.5;
/// What was seen stays seen down to this score, so that a line is a change and not a flicker.
const STILL_SURE: f32 = 0.3;

/// Picks the messages that change what is seen, camera by camera.
#[derive(Default)]
pub struct Changes {
    /// The label seen by each camera.
    seen: HashMap<String, Option<String>>,
}

impl Changes {
    /// The line to print for this message, if it changes what its camera sees.
    pub fn line(&mut self, message: &Seen) -> Option<String> {
        let camera = format!("{}/{}", message.node, message.camera);
        let before = self.seen.get(&camera).cloned();
        let best = message.top.first();
        let sure = best.filter(|best| best.score >= SURE).map(|best| best.label.clone());
        let still = |label: &String| {
            message.top.iter().any(|class| class.label == *label && class.score >= STILL_SURE)
        };
        let now = match (sure, &before) {
            (Some(label), _) => Some(label),
            (None, Some(Some(label))) if still(label) => Some(label.clone()),
            (None, _) => None,
        };
        if before.as_ref() == Some(&now) {
            return None;
        }
        let line = if now.is_some() { message.line() } else { message.unsure_line() };
        self.seen.insert(camera, now);
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(label: &str, score: f32) -> Seen {
        Seen {
            node: "porch".into(),
            camera: "yard".into(),
            captured_at: "2026-11-24T07:31:02.125Z".into(),
            latency_ms: 61.2,
            top: vec![SeenClass { label: label.into(), score }],
        }
    }

    #[test]
    fn a_line_is_printed_for_each_change_and_not_for_flicker() {
        let mut changes = Changes::default();
        let story = [
            ("doormat", 0.1),
            ("quilt", 0.2),
            ("tabby", 0.8),
            ("tabby", 0.4),
            ("tabby", 0.6),
            ("Egyptian cat", 0.7),
            ("Egyptian cat", 0.2),
        ];
        let lines: Vec<String> =
            story.iter().filter_map(|&(label, score)| changes.line(&seen(label, score))).collect();
        assert_eq!(
            lines,
            [
                "07:31:02.125  yard  –",
                "07:31:02.125  yard  tabby 0.80  (61 ms)",
                "07:31:02.125  yard  Egyptian cat 0.70  (61 ms)",
                "07:31:02.125  yard  –",
            ]
        );
    }
}
