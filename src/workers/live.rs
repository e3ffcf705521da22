//! Converts the analysis of a frame to what a viewer of the camera is shown.

use super::reporter::{Reporter, size};
use crate::{
    frame::Frame,
    queue::live::LiveFrame,
    vision::{
        rect::upright_size,
        scene::{Scene, TrackView},
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
        let why = track.unreported.map(|unreported| unreported.to_words(&object.label, object.score));
        OverlayObject { object, reported: why.is_none(), why }
    }
}
