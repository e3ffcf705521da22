//! Settings and requests that commands change while camfire runs. They are not saved.
//!
//! The publisher, which receives the commands, writes them. The camera stages and the workers read them in
//! their next iteration.

use crate::{config, sync::lock};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

/// Settings and requests of one camera.
#[derive(Debug)]
pub struct CameraControl {
    /// The camera's name.
    pub name: Arc<str>,
    settings: Mutex<CameraSettings>,
    /// Incremented with every change, so that readers need not lock.
    version: AtomicU64,
    snapshot: AtomicBool,
}

/// The settings of a camera that commands can change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CameraSettings {
    /// Whether the camera is analysed. If not, its pipeline is closed.
    pub watching: bool,
    /// See `cameras.NAME.rate_fps`.
    pub rate_fps: f64,
    /// See `cameras.NAME.motion_threshold`.
    pub motion_threshold: f64,
    /// See `objects.score`.
    pub score: f64,
}

impl CameraSettings {
    /// The settings of the configuration.
    pub fn new(camera: &config::Camera, objects: &config::Objects) -> CameraSettings {
        CameraSettings {
            watching: true,
            rate_fps: camera.rate_fps,
            motion_threshold: camera.motion.threshold,
            // Rounded to the number in the configuration instead of the nearest f32.
            score: (f64::from(objects.score) * 1e6).round() / 1e6,
        }
    }

    /// Takes over what commands have changed: where `other` differs from `configured`.
    pub fn take_changes(&mut self, other: CameraSettings, configured: CameraSettings) {
        fn take<T: PartialEq>(own: &mut T, other: T, configured: T) {
            if other != configured {
                *own = other;
            }
        }
        take(&mut self.watching, other.watching, configured.watching);
        take(&mut self.rate_fps, other.rate_fps, configured.rate_fps);
        take(&mut self.motion_threshold, other.motion_threshold, configured.motion_threshold);
        take(&mut self.score, other.score, configured.score);
    }
}

impl CameraControl {
    /// Creates the control with the settings of the configuration.
    pub fn new(camera: &config::Camera, objects: &config::Objects) -> CameraControl {
        CameraControl {
            name: camera.name.as_str().into(),
            settings: Mutex::new(CameraSettings::new(camera, objects)),
            version: AtomicU64::new(0),
            snapshot: AtomicBool::new(false),
        }
    }

    /// The current settings.
    pub fn settings(&self) -> CameraSettings {
        *lock(&self.settings)
    }

    /// Changes the settings. Returns true if they differ from before.
    pub fn change(&self, change: impl FnOnce(&mut CameraSettings)) -> bool {
        let mut settings = lock(&self.settings);
        let before = *settings;
        change(&mut settings);
        let differs = *settings != before;
        if differs {
            self.version.fetch_add(1, Ordering::Release);
        }
        differs
    }

    /// Returns the settings if they have changed since version `seen`, which is updated.
    pub fn changed_since(&self, seen: &mut u64) -> Option<CameraSettings> {
        let version = self.version.load(Ordering::Acquire);
        let is_new = std::mem::replace(seen, version) != version;
        is_new.then(|| self.settings())
    }

    /// Requests a snapshot of the next frame.
    pub fn request_snapshot(&self) {
        self.snapshot.store(true, Ordering::Relaxed);
    }

    /// Returns and clears the request for a snapshot.
    pub fn take_snapshot_request(&self) -> bool {
        // In the common case this is only a read, which leaves the cache line shared.
        self.snapshot.load(Ordering::Relaxed) && self.snapshot.swap(false, Ordering::Relaxed)
    }
}

/// Reads the configuration and returns an error text if it is invalid.
pub type ConfigValidator = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Requests to the node.
#[derive(Default)]
pub struct NodeControl {
    /// Validates the configuration on disk. None if the configuration cannot be reloaded.
    pub validate_config: Option<ConfigValidator>,
    reload: AtomicBool,
    stats: AtomicBool,
}

impl NodeControl {
    /// Creates the control of a node whose configuration can be reloaded.
    pub fn new(validate_config: ConfigValidator) -> NodeControl {
        NodeControl { validate_config: Some(validate_config), ..NodeControl::default() }
    }

    /// Requests a reload of the configuration.
    pub fn request_reload(&self) {
        self.reload.store(true, Ordering::Relaxed);
    }

    /// Returns and clears the request for a reload.
    pub fn take_reload_request(&self) -> bool {
        self.reload.swap(false, Ordering::Relaxed)
    }

    /// Requests a stats message.
    pub fn request_stats(&self) {
        self.stats.store(true, Ordering::Relaxed);
    }

    /// Returns and clears the request for a stats message.
    pub fn take_stats_request(&self) -> bool {
        self.stats.swap(false, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reader_sees_a_change_once() {
        let main = config::Main::Text { name: "t".into(), text: "[cameras.yard]\nsource = 'test://'".into() };
        let config = config::load(&config::Inputs { main, ..Default::default() }).unwrap().config;
        let control = CameraControl::new(&config.cameras[0], &config.objects);
        let (mut first, mut second) = (0, 0);
        assert_eq!(control.changed_since(&mut first), None);
        assert!(control.change(|settings| settings.rate_fps = 2.0));
        assert!(!control.change(|settings| settings.rate_fps = 2.0), "no difference");
        assert_eq!(control.changed_since(&mut first).unwrap().rate_fps, 2.0);
        assert_eq!(control.changed_since(&mut first), None);
        assert_eq!(control.changed_since(&mut second).unwrap().score, 0.4);
        control.request_snapshot();
        assert!(control.take_snapshot_request() && !control.take_snapshot_request());
    }

    #[test]
    fn what_commands_have_changed_is_taken_over_and_the_rest_is_of_the_configuration() {
        let configured = CameraSettings { watching: true, rate_fps: 5.0, motion_threshold: 8.0, score: 0.4 };
        let changed = CameraSettings { watching: false, score: 0.7, ..configured };
        let mut settings = CameraSettings { rate_fps: 2.0, score: 0.5, ..configured };
        settings.take_changes(changed, configured);
        let expected = CameraSettings { watching: false, rate_fps: 2.0, motion_threshold: 8.0, score: 0.7 };
        assert_eq!(settings, expected);
    }
}
