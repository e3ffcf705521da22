//! What the web server tells a viewer about a frame: the JSON beside each picture of the live view.

use super::messages::{Object, Size, rfc3339_ms};
use crate::counters::tenths;
use jiff::Timestamp;
use serde::Serialize;

/// What the analysis found in a frame.
#[derive(Debug, Serialize)]
pub struct Overlay {
    /// Number of the frame, as in the detections.
    pub frame: u64,
    /// Capture time.
    #[serde(serialize_with = "rfc3339_ms::serialize")]
    pub captured_at: Timestamp,
    /// Milliseconds from the capture to the end of the analysis, rounded to 0.1.
    #[serde(serialize_with = "tenths")]
    pub latency_ms: f64,
    /// Size of the upright frame.
    pub size: Size,
    /// Number of inferences on this frame.
    pub inferences: u32,
    /// All tracks, also those that have no events.
    pub objects: Vec<OverlayObject>,
    /// The cells in which something moves.
    pub motion: Motion,
}

/// A track.
#[derive(Debug, Serialize)]
pub struct OverlayObject {
    /// The track as an object of the detections. Its id is `track-NUMBER` before it can have events.
    #[serde(flatten)]
    pub object: Object,
    /// Whether it has events.
    pub reported: bool,
    /// Why it has none. Null if it has.
    pub why: Option<String>,
}

/// The cells of the scaled-down upright image in which something moves.
#[derive(Debug, Serialize)]
pub struct Motion {
    /// Number of cells in a row.
    pub columns: usize,
    /// Number of rows.
    pub rows: usize,
    /// Runs of moving cells: the first cell, counted from the top left in the order of reading, and the
    /// number of cells, alternating.
    pub runs: Vec<usize>,
}

impl Overlay {
    /// One line of JSON in ASCII, as a header of HTTP can hold it.
    pub fn to_header(&self) -> String {
        let json = serde_json::to_string(self).expect("overlays have string keys and finite numbers");
        let mut ascii = String::with_capacity(json.len());
        for c in json.chars() {
            if c.is_ascii() {
                ascii.push(c);
            } else {
                // JSON escapes UTF-16 code units.
                for unit in c.encode_utf16(&mut [0; 2]) {
                    ascii.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
        ascii
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_fits_into_a_header() {
        let object = Object {
            id: "track-1".into(),
            label: "Käfer 🐞\n".into(),
            sub_label: None,
            score: 0.5,
            r#box: [1, 2, 3, 4],
            moving: true,
            visible: true,
            top: Vec::new(),
        };
        let object = OverlayObject { object, reported: false, why: Some("waits".into()) };
        let overlay = Overlay {
            frame: 1,
            captured_at: Timestamp::UNIX_EPOCH,
            latency_ms: 1.25,
            size: [320, 240],
            inferences: 0,
            objects: vec![object],
            motion: Motion { columns: 2, rows: 1, runs: vec![0, 1] },
        };
        let header = overlay.to_header();
        assert!(header.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{header}");
        let parsed: serde_json::Value = serde_json::from_str(&header).unwrap();
        assert_eq!(parsed["objects"][0]["label"], "Käfer 🐞\n");
        assert_eq!(parsed["latency_ms"], 1.3);
    }
}
