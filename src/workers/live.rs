//! Converts the analysis of a frame to what a viewer of the camera is shown.

use super::reporter::{Reporter, size};
use crate::{
    frame::Frame,
    queue::live::LiveFrame,
    vision::{
        rect::upright_size,
        scene::{Scene, TrackView, Unreported},
    },
    wire::live::{Motion, Overlay, OverlayObject},
};

impl Reporter {
    /// The frame for those who look at the camera, with its JPEG file. `scene` has analysed it.
    pub fn live_frame(&self, scene: &Scene, frame: &Frame, inferences: u32, jpeg: Vec<u8>) -> LiveFrame {
        let view = scene.view();
        let frame_size = upright_size(&frame.image);
        let latency = frame.timings.inferred.saturating_sub(frame.timings.captured);
        let overlay = Overlay {
            frame: frame.number,
            captured_at: frame.captured_at,
            latency_ms: latency.as_secs_f64() * 1e3,
            size: size(frame_size),
            inferences,
            objects: view.tracks.iter().map(|track| self.overlay_object(track, frame_size)).collect(),
            motion: Motion {
                columns: view.motion.columns,
                rows: view.motion.rows,
                runs: view.motion.runs.iter().flat_map(|&(start, length)| [start, length]).collect(),
            },
        };
        LiveFrame { captured_at: frame.captured_at, size: overlay.size, overlay: overlay.to_header(), jpeg }
    }

    fn overlay_object(&self, track: &TrackView, frame_size: (f64, f64)) -> OverlayObject {
        let mut object = self.object(&track.object, frame_size);
        if track.object.id.is_nil() {
            object.id = format!("track-{}", track.number);
        }
        let why = track.unreported.map(|unreported| why(unreported, &object.label, object.score));
        OverlayObject { object, reported: why.is_none(), why }
    }
}

/// Why a track has no events, for the user.
fn why(unreported: Unreported, label: &str, score: f32) -> String {
    match unreported {
        Unreported::Tentative { seen, required } if seen < required => {
            format!(
                "seen for {:.1} s of {:.1} s (objects.confirm)",
                seen.as_secs_f64(),
                required.as_secs_f64()
            )
        }
        Unreported::Tentative { .. } => "has not moved far enough yet".to_string(),
        Unreported::NoLabel { required } => {
            format!("no label is certain enough: {score:.2} of {required:.2} (score)")
        }
        Unreported::NotListed => format!("'{label}' is not in the camera's labels"),
        Unreported::Waiting { at_most } => {
            format!("waits for a name, at most {:.1} s (objects.name_within)", at_most.as_secs_f64())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_reason_names_its_setting() {
        let ms = Duration::from_millis;
        let text = |unreported| why(unreported, "cat", 0.312);
        let tentative = |seen| text(Unreported::Tentative { seen: ms(seen), required: ms(200) });
        assert_eq!(tentative(100), "seen for 0.1 s of 0.2 s (objects.confirm)");
        assert_eq!(tentative(300), "has not moved far enough yet");
        let no_label = text(Unreported::NoLabel { required: 0.4 });
        assert_eq!(no_label, "no label is certain enough: 0.31 of 0.40 (score)");
        assert_eq!(text(Unreported::NotListed), "'cat' is not in the camera's labels");
        let waiting = text(Unreported::Waiting { at_most: ms(1500) });
        assert_eq!(waiting, "waits for a name, at most 1.5 s (objects.name_within)");
    }
}
