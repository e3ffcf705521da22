//! The newest frame of a camera, for those who look at it. Nothing is encoded while nobody looks.
//!
//! A frame is encoded once for all viewers. Only the newest one is kept, so a slow viewer misses frames and
//! nobody waits for it.

use jiff::Timestamp;
use std::sync::Arc;
use tokio::sync::watch;

/// An analysed frame as a viewer gets it.
#[derive(Debug)]
pub struct LiveFrame {
    /// Capture time.
    pub captured_at: Timestamp,
    /// Width and height of the upright frame in pixels.
    pub size: [u32; 2],
    /// What the analysis found in it: one line of JSON.
    pub overlay: String,
    /// The frame as a JPEG file.
    pub jpeg: Vec<u8>,
}

/// The newest frame of one camera.
#[derive(Debug)]
pub struct LiveView(watch::Sender<Option<Arc<LiveFrame>>>);

impl Default for LiveView {
    fn default() -> LiveView {
        LiveView(watch::Sender::new(None))
    }
}

/// A viewer. Dropping it ends the viewing.
pub type Viewer = watch::Receiver<Option<Arc<LiveFrame>>>;

impl LiveView {
    /// Whether anybody looks at the camera.
    pub fn is_watched(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Replaces the newest frame.
    pub fn show(&self, frame: LiveFrame) {
        self.0.send_replace(Some(Arc::new(frame)));
    }

    /// Starts to look at the camera. The newest frame is returned if one was shown before.
    pub fn watch(&self) -> Viewer {
        self.0.subscribe()
    }

    /// The frame that was shown last. None if nobody has looked yet.
    pub fn newest(&self) -> Option<Arc<LiveFrame>> {
        self.0.borrow().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(overlay: &str) -> LiveFrame {
        LiveFrame {
            captured_at: Timestamp::UNIX_EPOCH,
            size: [4, 2],
            overlay: overlay.into(),
            jpeg: Vec::new(),
        }
    }

    #[test]
    fn a_viewer_gets_the_newest_frame_and_only_viewers_count() {
        let view = LiveView::default();
        assert!(!view.is_watched());
        let mut viewer = view.watch();
        assert!(view.is_watched() && !viewer.has_changed().unwrap());
        view.show(frame("1"));
        view.show(frame("2"));
        assert_eq!(viewer.borrow_and_update().as_ref().unwrap().overlay, "2");
        assert!(!viewer.has_changed().unwrap());
        drop(viewer);
        assert!(!view.is_watched());
        assert_eq!(view.newest().unwrap().overlay, "2");
    }
}
