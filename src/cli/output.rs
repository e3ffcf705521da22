//! Writes results to stdout and notes to stderr, and formats messages for people: one line per message.

use crate::error::{Error, ErrorKind};
use jiff::{Timestamp, tz::TimeZone};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Write},
};

/// Writes a line to stderr, if anyone still reads it: a terminal can be closed at any time.
pub fn write_note(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Like `eprintln!`, through [`write_note`], so that it never panics.
macro_rules! note {
    ($($text:tt)*) => {
        $crate::cli::output::write_note(format_args!($($text)*))
    };
}
pub(crate) use note;

/// Writes a line of results to stdout. Exits with status 0 if the reader has closed the pipe, as `head` does.
pub fn write_line(line: fmt::Arguments<'_>) {
    match try_write_line(line) {
        Ok(true) => {}
        Ok(false) => std::process::exit(0),
        Err(error) => {
            note!("camfire: {error}");
            std::process::exit(1);
        }
    }
}

/// Like [`write_line`], but returns false if the reader has closed the pipe, for callers that must clean up.
///
/// Errors ([`ErrorKind::System`]): the line cannot be written for another reason, as when the terminal has
/// been closed.
pub fn try_write_line(line: fmt::Arguments<'_>) -> Result<bool, Error> {
    match writeln!(io::stdout().lock(), "{line}") {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::caused(ErrorKind::System, "cannot write results", error)),
    }
}

/// Like `println!`, through [`write_line`].
macro_rules! line {
    ($($text:tt)*) => {
        $crate::cli::output::write_line(format_args!($($text)*))
    };
}
pub(super) use line;

/// Objects whose zones a [`MessagePrinter`] remembers.
const MAX_OBJECTS: usize = 10_000;

/// The fields of an event message that its line shows.
#[derive(Debug, Clone, Deserialize)]
struct EventLine {
    id: String,
    camera: String,
    #[serde(rename = "type")]
    kind: String,
    at: String,
    label: String,
    #[serde(default)]
    sub_label: Option<String>,
    score: f32,
    #[serde(default)]
    changed: Vec<String>,
    reason: Option<String>,
    duration_s: f64,
    moving: bool,
    zones: Vec<String>,
}

/// How times are shown.
#[derive(Debug, Clone, Default)]
pub enum Times {
    /// As in the messages, whose times are UTC, or a recording's own: `07:31:02.125`.
    #[default]
    AsSent,
    /// In a time zone: `08:31:02.125 CET`.
    In(TimeZone),
}

impl Times {
    /// The time of day of a message's time.
    fn of_day(&self, at: &str) -> String {
        match (self, at.parse::<Timestamp>()) {
            (Times::In(zone), Ok(time)) => {
                time.to_zoned_datetime(zone.clone()).strftime("%H:%M:%S%.3f %Z").to_string()
            }
            _ => at.get(11..23).unwrap_or(at).to_string(),
        }
    }
}

/// Formats messages as lines. Remembers the zones of each object, because an event has only the current ones.
#[derive(Debug, Default)]
pub struct MessagePrinter {
    times: Times,
    /// By event id: the zones in the object's last message.
    zones: BTreeMap<String, Vec<String>>,
}

impl MessagePrinter {
    /// Shows times in this machine's time zone.
    pub fn with_local_times() -> MessagePrinter {
        MessagePrinter { times: Times::In(TimeZone::system()), ..MessagePrinter::default() }
    }

    /// The line of a message on a topic of events, detections, regions or scene changes.
    ///
    /// Errors: the payload is not one of camfire's.
    pub fn line(&mut self, topic: &str, payload: &[u8]) -> serde_json::Result<String> {
        if topic.ends_with("/events") {
            serde_json::from_slice(payload).map(|event| self.event(&event))
        } else if topic.ends_with("/detections") {
            serde_json::from_slice(payload).map(|frame: FrameLine| frame.line(&self.times))
        } else {
            serde_json::from_slice(payload).map(|state: StateLine| state.line(&self.times))
        }
    }

    fn event(&mut self, event: &EventLine) -> String {
        let before = match event.kind.as_str() {
            "end" => self.zones.remove(&event.id),
            _ => self.zones.insert(event.id.clone(), event.zones.clone()),
        };
        // Ends that were not received must not fill the memory.
        if self.zones.len() > MAX_OBJECTS {
            self.zones.pop_first();
        }
        event.line(before.as_deref(), &self.times)
    }
}

impl EventLine {
    /// `07:31:02.125  yard  cat (0.83) detected`, given the object's zones before it, if they are known.
    fn line(&self, zones_before: Option<&[String]>, times: &Times) -> String {
        let object = match self.label.as_str() {
            "unknown" => "object".to_string(),
            label => format!("{label} ({:.2})", self.score),
        };
        let text = match self.kind.as_str() {
            "start" => format!("{object} detected"),
            "end" => format!("{object} {}", self.ending()),
            // "classified as" already contains the label.
            _ if self.is_classification() && self.label != "unknown" => {
                let finer = self.sub_label.as_ref().map(|name| format!(", {name}"));
                format!("classified as {object}{}", finer.unwrap_or_default())
            }
            _ => format!("{object} {}", self.changes(zones_before)),
        };
        format!("{}  {}  {text}", times.of_day(&self.at), self.camera)
    }

    /// Whether nothing but the label and perhaps its finer name has changed.
    fn is_classification(&self) -> bool {
        let changed: Vec<&str> = self.changed.iter().map(String::as_str).collect();
        matches!(changed[..], ["label"] | ["label", "sub_label"])
    }

    fn ending(&self) -> String {
        let duration = format!("after {:.1} s", self.duration_s);
        match self.reason.as_deref().unwrap_or("ended") {
            reason @ ("left" | "lost" | "settled") => format!("{reason} {duration}"),
            reason => format!("ended {duration}: {}", reason.replace('_', " ")),
        }
    }

    fn changes(&self, zones_before: Option<&[String]>) -> String {
        let change = |field: &String| match field.as_str() {
            "label" if self.label == "unknown" => "is no longer classified".to_string(),
            "label" => "is now classified".to_string(),
            "sub_label" => match &self.sub_label {
                Some(name) => format!("is classified as {name}"),
                None => "has no finer name any more".to_string(),
            },
            "moving" if self.moving => "started moving".to_string(),
            "moving" => "stopped moving".to_string(),
            "zones" => self.zone_changes(zones_before),
            other => format!("changed its {other}"),
        };
        self.changed.iter().map(change).collect::<Vec<_>>().join(", ")
    }

    fn zone_changes(&self, before: Option<&[String]>) -> String {
        let Some(before) = before else {
            let names = self.zones.join(", ");
            return if names.is_empty() { "is in no zone".into() } else { format!("is in zone {names}") };
        };
        let missing_from = |others: &[String], zones: &[String]| -> Vec<String> {
            zones.iter().filter(|zone| !others.contains(zone)).cloned().collect()
        };
        let (entered, left) = (missing_from(before, &self.zones), missing_from(&self.zones, before));
        // A repeated message, as after a lost connection.
        if entered.is_empty() && left.is_empty() {
            return self.zone_changes(None);
        }
        let text = |verb: &str, zones: Vec<String>| {
            (!zones.is_empty()).then(|| format!("{verb} zone {}", zones.join(", ")))
        };
        [text("left", left), text("entered", entered)].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

/// The fields of a `detections` message that its line shows.
#[derive(Debug, Clone, Deserialize)]
struct FrameLine {
    camera: String,
    captured_at: String,
    latency_ms: f64,
    objects: Vec<FrameObject>,
}

/// One object in it.
#[derive(Debug, Clone, Deserialize)]
struct FrameObject {
    label: String,
    score: f32,
    r#box: [i64; 4],
}

impl FrameLine {
    /// `07:31:02.125  yard  cat 0.83 at 58,40 884x680 · cup 0.91 at 900,515 160x150  (61 ms)`
    fn line(&self, times: &Times) -> String {
        let object = |object: &FrameObject| {
            let [left, top, width, height] = object.r#box;
            format!("{} {:.2} at {left},{top} {width}x{height}", object.label, object.score)
        };
        let objects: Vec<String> = self.objects.iter().map(object).collect();
        let objects = if objects.is_empty() { "–".to_string() } else { objects.join(" · ") };
        let time = times.of_day(&self.captured_at);
        // Zero for recordings, which have no latency.
        let latency =
            if self.latency_ms > 0.0 { format!("  ({:.0} ms)", self.latency_ms) } else { String::new() };
        format!("{time}  {}  {objects}{latency}", self.camera)
    }
}

/// The new state of a region, or a change of the whole scene.
#[derive(Debug, Clone, Deserialize)]
struct StateLine {
    camera: String,
    at: String,
    region: Option<String>,
    state: Option<String>,
    change: Option<String>,
}

impl StateLine {
    /// `07:31:02.125  yard  gate: bicycle`, `07:31:02.125  yard  scene changed: light`
    fn line(&self, times: &Times) -> String {
        let what = match (&self.region, &self.state, &self.change) {
            (Some(region), Some(state), _) => format!("{region}: {state}"),
            (_, _, Some(change)) => format!("scene changed: {change}"),
            _ => "unknown message".to_string(),
        };
        format!("{}  {}  {what}", times.of_day(&self.at), self.camera)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_times_have_their_zone() {
        let zone = Times::In(TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap());
        assert_eq!(zone.of_day("2026-11-24T23:31:02.125Z"), "00:31:02.125 CET");
        assert_eq!(zone.of_day("2026-07-24T07:31:02Z"), "09:31:02.000 CEST");
        assert_eq!(zone.of_day("soon"), "soon");
        assert_eq!(Times::AsSent.of_day("2026-11-24T07:31:02.125Z"), "07:31:02.125");
    }

    #[test]
    fn event_lines_describe_the_event() {
        let event = |more: serde_json::Value| {
            let mut event = serde_json::json!({
                "camera": "yard", "type": "update", "at": "2026-11-24T07:31:02.125Z", "label": "cat", "score": 0.834,
                "id": "a", "changed": [], "reason": null, "duration_s": 0.2, "moving": true, "zones": ["lawn"]
            });
            event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            serde_json::from_value::<EventLine>(event).unwrap()
        };
        let at = "07:31:02.125  yard  ";
        let mut printer = MessagePrinter::default();
        let mut line =
            |zones: &[&str]| printer.event(&event(serde_json::json!({"changed": ["zones"], "zones": zones})));
        assert_eq!(line(&["lawn"]), format!("{at}cat (0.83) is in zone lawn"), "without an earlier message");
        assert_eq!(line(&["lawn", "path"]), format!("{at}cat (0.83) entered zone path"));
        assert_eq!(line(&["path"]), format!("{at}cat (0.83) left zone lawn"));
        assert_eq!(line(&["path"]), format!("{at}cat (0.83) is in zone path"), "the same message again");
        assert_eq!(line(&["gate"]), format!("{at}cat (0.83) left zone path, entered zone gate"));
        for (more, expected) in [
            (serde_json::json!({"changed": ["label"]}), "classified as cat (0.83)"),
            (
                serde_json::json!({"changed": ["label", "sub_label"], "sub_label": "tabby"}),
                "classified as cat (0.83), tabby",
            ),
            (
                serde_json::json!({"changed": ["sub_label"], "sub_label": "tabby"}),
                "cat (0.83) is classified as tabby",
            ),
            (
                serde_json::json!({"changed": ["sub_label", "moving"], "sub_label": null}),
                "cat (0.83) has no finer name any more, started moving",
            ),
            (
                serde_json::json!({"type": "end", "reason": "camera_lost"}),
                "cat (0.83) ended after 0.2 s: camera lost",
            ),
            (serde_json::json!({"type": "start"}), "cat (0.83) detected"),
            (serde_json::json!({"type": "start", "label": "unknown"}), "object detected"),
            (
                serde_json::json!({"changed": ["moving", "zones"], "moving": false}),
                "cat (0.83) stopped moving, is in zone lawn",
            ),
            (
                serde_json::json!({"type": "end", "reason": "left", "duration_s": 240.04}),
                "cat (0.83) left after 240.0 s",
            ),
        ] {
            assert_eq!(MessagePrinter::default().event(&event(more)), format!("{at}{expected}"));
        }
    }
}
