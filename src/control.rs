//! What can be changed while camfire runs: by commands, for this run only. Written by the publisher, which takes the
//! commands; read by the camera's stage and the workers at their next turn.

use crate::{config, sync::lock};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

/// One camera's.
#[derive(Debug)]
pub struct CameraControl {
    /// The camera's name.
    pub name: Arc<str>,
    settings: Mutex<CameraSettings>,
    /// Rises with every change, so that readers need not lock.
    version: AtomicU64,
    snapshot: AtomicBool,
}

/// What a camera is set to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CameraSettings {
    /// It is looked at; else its pipeline is closed.
    pub watching: bool,
    /// As `cameras.NAME.rate_fps`.
    pub rate_fps: f64,
    /// As `cameras.NAME.motion_threshold`.
    pub motion_threshold: f64,
    /// As `objects.score`.
    pub score: f64,
}

impl CameraControl {
    /// As the configuration has it.
    pub fn new(camera: &config::Camera, objects: &config::Objects) -> CameraControl {
        let settings = CameraSettings {
            watching: true,
            rate_fps: camera.rate_fps,
            motion_threshold: camera.motion.threshold,
            // As it was typed, not as the nearest f32 is written.
            score: (f64::from(objects.score) * 1e6).round() / 1e6,
        };
        CameraControl {
            name: camera.name.as_str().into(),
            settings: Mutex::new(settings),
            version: AtomicU64::new(0),
            snapshot: AtomicBool::new(false),
        }
    }

    /// What holds now.
    pub fn settings(&self) -> CameraSettings {
        *lock(&self.settings)
    }

    /// Changes it; true if that makes a difference.
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

    /// What holds now, if it has changed since `seen`, which is updated.
    pub fn changed_since(&self, seen: &mut u64) -> Option<CameraSettings> {
        let version = self.version.load(Ordering::Acquire);
        let is_new = std::mem::replace(seen, version) != version;
        is_new.then(|| self.settings())
    }

    /// Asks for a picture of the next frame.
    pub fn ask_for_snapshot(&self) {
        self.snapshot.store(true, Ordering::Relaxed);
    }

    /// Whether one was asked for since the last call.
    pub fn take_snapshot(&self) -> bool {
        // Mostly a read alone, which leaves the cache line shared.
        self.snapshot.load(Ordering::Relaxed) && self.snapshot.swap(false, Ordering::Relaxed)
    }
}

/// Tells what is wrong with a configuration.
pub type Judge = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The node's.
#[derive(Default)]
pub struct NodeControl {
    /// Tells what is wrong with the configuration as it is on disk now; none where it cannot be read again.
    pub judge: Option<Judge>,
    reload: AtomicBool,
    stats: AtomicBool,
}

impl NodeControl {
    /// With a configuration that can be read again.
    pub fn new(judge: Judge) -> NodeControl {
        NodeControl { judge: Some(judge), ..NodeControl::default() }
    }

    /// Asks for the configuration to be read again.
    pub fn ask_for_reload(&self) {
        self.reload.store(true, Ordering::Relaxed);
    }

    /// Whether that was asked for since the last call.
    pub fn take_reload(&self) -> bool {
        self.reload.swap(false, Ordering::Relaxed)
    }

    /// Asks for the counts.
    pub fn ask_for_stats(&self) {
        self.stats.store(true, Ordering::Relaxed);
    }

    /// Whether they were asked for since the last call.
    pub fn take_stats(&self) -> bool {
        self.stats.swap(false, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_seen_once_and_by_every_reader() {
        let main = config::Main::Text { name: "t".into(), text: "[cameras.yard]\nsource = 'test://'".into() };
        let config = config::load(&config::Inputs { main, ..Default::default() }).unwrap().config;
        let control = CameraControl::new(&config.cameras[0], &config.objects);
        let (mut one, mut other) = (0, 0);
        assert_eq!(control.changed_since(&mut one), None);
        assert!(control.change(|settings| settings.rate_fps = 2.0));
        assert!(!control.change(|settings| settings.rate_fps = 2.0), "nothing new");
        assert_eq!(control.changed_since(&mut one).unwrap().rate_fps, 2.0);
        assert_eq!(control.changed_since(&mut one), None);
        assert_eq!(control.changed_since(&mut other).unwrap().score, 0.4);
        control.ask_for_snapshot();
        assert!(control.take_snapshot() && !control.take_snapshot());
    }
}
