//! How results get to stdout, and how they look to a person: one line for what a message says.

use serde::Deserialize;
use std::{
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

/// What a message of an event says, as a subscriber reads it.
#[derive(Debug, Clone, Deserialize)]
pub struct SeenEvent {
    camera: String,
    #[serde(rename = "type")]
    kind: String,
    at: String,
    label: String,
    score: f32,
    #[serde(default)]
    changed: Vec<String>,
    reason: Option<String>,
    duration_s: f64,
    moving: bool,
    zones: Vec<String>,
}

impl SeenEvent {
    /// `07:31:02.125  yard  cat (0.83) comes`
    pub fn line(&self) -> String {
        let thing = match self.label.as_str() {
            "unknown" => "something".to_string(),
            label => format!("{label} ({:.2})", self.score),
        };
        let what = match self.kind.as_str() {
            "start" => "comes".to_string(),
            "end" => {
                let reason = self.reason.as_deref().unwrap_or("gone").replace('_', " ");
                format!("is gone after {:.1} s: {reason}", self.duration_s)
            }
            _ => self.changes(),
        };
        format!("{}  {}  {thing} {what}", time_of_day(&self.at), self.camera)
    }

    fn changes(&self) -> String {
        let change = |aspect: &String| match aspect.as_str() {
            "label" if self.label == "unknown" => "is not known any more".to_string(),
            "label" => "is what it is".to_string(),
            "moving" if self.moving => "moves again".to_string(),
            "moving" => "stands still".to_string(),
            "zones" if self.zones.is_empty() => "is in no zone".to_string(),
            "zones" => format!("is in {}", self.zones.join(", ")),
            other => format!("has another {other}"),
        };
        self.changed.iter().map(change).collect::<Vec<_>>().join(", ")
    }
}

/// What a `detections` payload says.
#[derive(Debug, Clone, Deserialize)]
pub struct SeenFrame {
    camera: String,
    captured_at: String,
    latency_ms: f64,
    objects: Vec<SeenObject>,
}

/// One thing in it.
#[derive(Debug, Clone, Deserialize)]
struct SeenObject {
    label: String,
    score: f32,
    r#box: [i64; 4],
}

impl SeenFrame {
    /// `07:31:02.125  yard  cat 0.83 at 58,40 884x680 · cup 0.91 at 900,515 160x150  (61 ms)`
    pub fn line(&self) -> String {
        let object = |object: &SeenObject| {
            let [left, top, width, height] = object.r#box;
            format!("{} {:.2} at {left},{top} {width}x{height}", object.label, object.score)
        };
        let objects: Vec<String> = self.objects.iter().map(object).collect();
        let objects = if objects.is_empty() { "–".to_string() } else { objects.join(" · ") };
        let time = time_of_day(&self.captured_at);
        // Of a recording it is not told.
        let latency =
            if self.latency_ms > 0.0 { format!("  ({:.0} ms)", self.latency_ms) } else { String::new() };
        format!("{time}  {}  {objects}{latency}", self.camera)
    }
}

/// What a region or the whole scene shows now.
#[derive(Debug, Clone, Deserialize)]
pub struct SeenState {
    camera: String,
    at: String,
    region: Option<String>,
    state: Option<String>,
    change: Option<String>,
}

impl SeenState {
    /// `07:31:02.125  yard  gate: bicycle`, `07:31:02.125  yard  the whole scene changed: light`
    pub fn line(&self) -> String {
        let what = match (&self.region, &self.state, &self.change) {
            (Some(region), Some(state), _) => format!("{region}: {state}"),
            (_, _, Some(change)) => format!("the whole scene changed: {change}"),
            _ => "something else than this camfire knows".to_string(),
        };
        format!("{}  {}  {what}", time_of_day(&self.at), self.camera)
    }
}

fn time_of_day(at: &str) -> &str {
    at.get(11..23).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_read_like_what_happened() {
        let event = |more: serde_json::Value| {
            let mut event = serde_json::json!({
                "camera": "yard", "type": "update", "at": "2026-11-24T07:31:02.125Z", "label": "cat", "score": 0.834,
                "changed": [], "reason": null, "duration_s": 0.2, "moving": true, "zones": ["lawn"]
            });
            event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            serde_json::from_value::<SeenEvent>(event).unwrap().line()
        };
        let at = "07:31:02.125  yard  ";
        for (more, expected) in [
            (serde_json::json!({"type": "start"}), "cat (0.83) comes"),
            (serde_json::json!({"type": "start", "label": "unknown"}), "something comes"),
            (
                serde_json::json!({"changed": ["moving", "zones"], "moving": false}),
                "cat (0.83) stands still, is in lawn",
            ),
            (
                serde_json::json!({"type": "end", "reason": "left", "duration_s": 240.04}),
                "cat (0.83) is gone after 240.0 s: left",
            ),
        ] {
            assert_eq!(event(more), format!("{at}{expected}"));
        }
    }
}
