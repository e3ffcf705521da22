//! Settings and requests that commands change while camfire runs.
//!
//! The publisher, which receives the commands, writes them. The camera stages and the workers read them in
//! their next iteration. The settings are saved ([`saved`]).

pub mod saved;

use self::saved::{Saved, SavedCamera, SavedSettings};
use crate::{config, queue::live::LiveView, recent_log::RecentLog, sync::lock};
use jiff::Timestamp;
use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

/// Settings and requests of one camera.
#[derive(Debug)]
pub struct CameraControl {
    /// The camera's name.
    pub name: Arc<str>,
    /// The settings of the configuration.
    configured: Mutex<CameraSettings>,
    settings: Mutex<CameraSettings>,
    /// The settings of all cameras on disk.
    saved: Arc<SavedSettings>,
    /// Whether the camera delivers frames.
    is_live: AtomicBool,
    /// Incremented with every change, so that readers need not lock.
    version: AtomicU64,
    /// The settings have changed since they were published.
    is_unpublished: AtomicBool,
    snapshot: AtomicBool,
    /// `cameras.NAME.view_every`. Zero: never.
    view_every: Duration,
    /// When the next frame is to be published for those who look at the camera. Monotonic.
    next_view_at: Mutex<Duration>,
    /// The newest frame, for those who look at it in the web server.
    pub live: LiveView,
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
    /// See `cameras.NAME.score`.
    pub score: f64,
}

impl CameraSettings {
    /// The settings of the configuration.
    fn of(camera: &config::Camera) -> CameraSettings {
        CameraSettings {
            watching: true,
            rate_fps: camera.rate_fps,
            motion_threshold: camera.motion.threshold,
            // Rounded to the number in the configuration instead of the nearest f32.
            score: (f64::from(camera.score) * 1e6).round() / 1e6,
        }
    }

    /// These settings, except for those that commands have set.
    fn with(self, saved: &SavedCamera) -> CameraSettings {
        let number = |saved: Option<Saved<f64>>, configured| saved.map_or(configured, |saved| saved.value);
        CameraSettings {
            watching: saved.watching.map_or(self.watching, |saved| saved.value),
            rate_fps: number(saved.rate_fps, self.rate_fps),
            motion_threshold: number(saved.motion_threshold, self.motion_threshold),
            score: number(saved.score, self.score),
        }
    }
}

impl SavedCamera {
    /// Records that a command has set a value at `at`. A value that is set again keeps its time.
    pub fn set<T: PartialEq + Copy>(setting: &mut Option<Saved<T>>, value: T, at: Timestamp) {
        if setting.is_none_or(|saved| saved.value != value) {
            *setting = Some(Saved { value, since: at });
        }
    }
}

impl CameraControl {
    /// Creates the control with the settings of the configuration, except for those that commands have set.
    pub fn new(camera: &config::Camera, saved: &Arc<SavedSettings>) -> CameraControl {
        let configured = CameraSettings::of(camera);
        let settings = configured.with(&saved.of(&camera.name));
        CameraControl {
            name: camera.name.as_str().into(),
            configured: Mutex::new(configured),
            settings: Mutex::new(settings),
            saved: saved.clone(),
            is_live: AtomicBool::new(false),
            // Not the version that readers start with, so that they read what commands have set.
            version: AtomicU64::new(u64::from(settings != configured)),
            is_unpublished: AtomicBool::new(false),
            snapshot: AtomicBool::new(false),
            view_every: camera.view_every,
            next_view_at: Mutex::default(),
            live: LiveView::default(),
        }
    }

    /// The current settings.
    pub fn settings(&self) -> CameraSettings {
        *lock(&self.settings)
    }

    /// What commands have set.
    pub fn saved(&self) -> SavedCamera {
        self.saved.of(&self.name)
    }

    /// Takes the settings of another configuration of the camera. What commands have set still applies.
    pub fn reconfigure(&self, camera: &config::Camera) {
        let configured = CameraSettings::of(camera);
        *lock(&self.configured) = configured;
        *lock(&self.settings) = configured.with(&self.saved());
        self.version.fetch_add(1, Ordering::Release);
        self.is_unpublished.store(true, Ordering::Release);
    }

    /// Changes what commands have set, and saves it. Returns true if it differs from before.
    ///
    /// Errors: it cannot be saved. Nothing is changed then.
    pub fn change(&self, change: impl FnOnce(&mut SavedCamera)) -> std::io::Result<bool> {
        let before = self.saved();
        let mut saved = before;
        change(&mut saved);
        if saved == before {
            return Ok(false);
        }
        self.saved.store(&self.name, saved)?;
        *lock(&self.settings) = lock(&self.configured).with(&saved);
        self.version.fetch_add(1, Ordering::Release);
        self.is_unpublished.store(true, Ordering::Release);
        Ok(true)
    }

    /// Whether the settings have changed since the last call.
    pub fn take_unpublished(&self) -> bool {
        self.is_unpublished.load(Ordering::Relaxed) && self.is_unpublished.swap(false, Ordering::Acquire)
    }

    /// Records whether the camera delivers frames.
    pub fn set_live(&self, is_live: bool) {
        self.is_live.store(is_live, Ordering::Relaxed);
    }

    /// Whether the camera delivers frames.
    pub fn is_live(&self) -> bool {
        self.is_live.load(Ordering::Relaxed)
    }

    /// Returns the settings if they have changed since version `seen`, which is updated.
    pub fn changed_since(&self, seen: &mut u64) -> Option<CameraSettings> {
        let version = self.version.load(Ordering::Acquire);
        let is_new = std::mem::replace(seen, version) != version;
        is_new.then(|| self.settings())
    }

    /// Whether a frame is to be published at `now` for those who look at the camera. If so, the next one is
    /// due after `cameras.NAME.view_every`.
    pub fn take_view_due(&self, now: Duration) -> bool {
        if self.view_every.is_zero() {
            return false;
        }
        let mut next_at = lock(&self.next_view_at);
        let is_due = now >= *next_at;
        if is_due {
            *next_at = now + self.view_every;
        }
        is_due
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

/// The settings that are made on the page of the web server.
pub struct PageSettings {
    /// The file that holds them. None: they cannot be saved.
    pub file: Option<PathBuf>,
    /// Loads the configuration with these settings.
    pub load: PageLoader,
}

/// Loads the configuration with the settings of the page from a file or a text.
pub type PageLoader =
    Box<dyn Fn(config::page::Source) -> Result<config::Loaded, config::Problems> + Send + Sync>;

/// Requests to the node, and its log.
#[derive(Default)]
pub struct NodeControl {
    /// The last warnings of the log, for the web server.
    pub log: RecentLog,
    /// The settings of the page. None if the node has no configuration file.
    pub page: Option<PageSettings>,
    /// Validates the configuration on disk. None if the configuration cannot be reloaded.
    pub validate_config: Option<ConfigValidator>,
    reload: AtomicBool,
    stats: AtomicBool,
}

impl NodeControl {
    /// Creates the control of a node whose configuration can be reloaded.
    pub fn new(validate_config: ConfigValidator, page: PageSettings, log: RecentLog) -> NodeControl {
        let (page, validate_config) = (Some(page), Some(validate_config));
        NodeControl { log, page, validate_config, ..NodeControl::default() }
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
        let saved = Arc::default();
        let control = CameraControl::new(&config.cameras[0], &saved);
        let (mut first, mut second) = (0, 0);
        assert_eq!(control.changed_since(&mut first), None);
        let at = Timestamp::UNIX_EPOCH;
        let set_rate = |saved: &mut SavedCamera| SavedCamera::set(&mut saved.rate_fps, 2.0, at);
        assert!(control.change(set_rate).unwrap());
        assert!(!control.change(set_rate).unwrap(), "no difference");
        assert_eq!(control.changed_since(&mut first).unwrap().rate_fps, 2.0);
        assert_eq!(control.changed_since(&mut first), None);
        assert_eq!(control.changed_since(&mut second).unwrap().score, 0.4);
        // Another control of the same camera has them too, and its readers see them.
        let next = CameraControl::new(&config.cameras[0], &saved);
        assert_eq!(next.changed_since(&mut 0).unwrap().rate_fps, 2.0);
        assert!(next.change(|saved| *saved = SavedCamera::default()).unwrap());
        assert_eq!(next.settings().rate_fps, config.cameras[0].rate_fps);
        control.request_snapshot();
        assert!(control.take_snapshot_request() && !control.take_snapshot_request());
        assert!(!control.take_view_due(Duration::from_secs(9)), "off by default");
        let mut camera = config.cameras[0].clone();
        camera.view_every = Duration::from_secs(5);
        let control = CameraControl::new(&camera, &saved);
        let due = [0, 4, 5, 9, 10].map(|second| control.take_view_due(Duration::from_secs(second)));
        assert_eq!(due, [true, false, true, false, true]);
    }
}
