//! Event pictures on disk, limited in bytes and age. The only code that writes to `pictures.directory`.
//!
//! [`Store::run`] is a stage. It receives pictures from the workers, frees space for them, and writes each
//! under a temporary name first, so that no reader sees an incomplete file. A failure is logged once and does
//! not affect the analysis.

mod retention;

use self::retention::Retention;
use crate::{
    clock::Clock,
    config,
    counters::StoreCounters,
    lifecycle::Heartbeat,
    wire::files::{PictureFiles, PictureFiling},
};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Number of sweeps of the directory within `pictures.max_age`, if the interval is within the limits below.
const SWEEPS_PER_MAX_AGE: u32 = 10;
const MIN_SWEEP_INTERVAL: Duration = Duration::from_secs(30);
const MAX_SWEEP_INTERVAL: Duration = Duration::from_secs(600);

/// The stage that stores event pictures.
pub struct Store {
    /// Directory and limits.
    pub settings: config::Pictures,
    /// Pictures from the workers. The stage ends when all senders are dropped.
    pub files: Receiver<PictureFiling>,
    /// Events whose pictures the workers dropped because the disk was too slow.
    pub dropped: Arc<AtomicU64>,
    /// Counts the bytes written and stored.
    pub counters: Arc<StoreCounters>,
    /// Clock.
    pub clock: Arc<dyn Clock>,
    /// Updated on every loop iteration; read by the watchdog.
    pub heartbeat: Heartbeat,
}

impl Store {
    /// Runs until all senders are dropped.
    pub fn run(self) {
        const MAX_WAIT: Duration = Duration::from_secs(1);
        let Some(directory) = self.settings.directory.clone() else { return };
        let config::Pictures { max_bytes, max_age, .. } = self.settings;
        let interval = (max_age / SWEEPS_PER_MAX_AGE).clamp(MIN_SWEEP_INTERVAL, MAX_SWEEP_INTERVAL);
        let mut last_error = None;
        let mut dropping = false;
        let mut retention = Retention::new(directory.clone(), max_bytes, max_age);
        let mut swept_at = None;
        loop {
            let now = self.clock.monotonic();
            self.heartbeat.beat(now);
            let mut outcome = Ok(());
            if swept_at.is_none_or(|at| now.saturating_sub(at) >= interval) {
                swept_at = Some(now);
                outcome = retention.sweep(self.clock.now());
            }
            let filing = self.files.recv_timeout(MAX_WAIT);
            let dropped = self.dropped.load(Ordering::Relaxed);
            if dropped > 0 && !dropping {
                dropping = true;
                tracing::warn!(directory = %directory.display(), "Pictures arrive faster than the disk can write them; some are dropped.");
            }
            match filing {
                Ok(filing) => outcome = self.write(&directory, filing, &mut retention).and(outcome),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    if dropped > 0 {
                        tracing::warn!(
                            count = dropped,
                            "Pictures of some events were dropped because the disk was too slow."
                        );
                    }
                    return;
                }
            }
            self.counters.file_bytes.store(retention.bytes(), Ordering::Relaxed);
            match (outcome, &last_error) {
                (Ok(()), _) => {}
                (Err(error), Some(before)) if error.kind() == *before => {}
                (Err(error), _) => {
                    tracing::warn!(directory = %directory.display(), %error, "Pictures cannot be stored.");
                    last_error = Some(error.kind());
                }
            }
        }
    }

    /// Writes the pictures of an event, after freeing space for them.
    ///
    /// Errors: a file cannot be written or removed, or the pictures exceed the limit.
    fn write(&self, directory: &Path, filing: PictureFiling, retention: &mut Retention) -> io::Result<()> {
        let PictureFiling { camera, id, started_at, pictures } = filing;
        let names = PictureFiles::new(&camera, id, started_at);
        let files: [(String, &[u8]); 3] = [
            (names.crop, &pictures.crop),
            (names.frame, &pictures.frame),
            (names.annotated, &pictures.annotated),
        ];
        let len: u64 = files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        let freed = retention.free_space(len, self.clock.now());
        if !retention.has_space(len) {
            let full = || {
                io::Error::new(
                    io::ErrorKind::StorageFull,
                    format!("no space for {len} bytes within pictures.max_mib"),
                )
            };
            return freed.and_then(|()| Err(full()));
        }
        for (name, bytes) in files {
            let path = directory.join(name);
            let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
            fs::create_dir_all(&folder)?;
            let partial: PathBuf = path.with_extension("part");
            let before = fs::metadata(&path).map_or(0, |file| file.len());
            let written = fs::write(&partial, bytes).and_then(|()| fs::rename(&partial, &path));
            if let Err(error) = written {
                // The file is incomplete.
                let _ = fs::remove_file(&partial);
                return Err(error);
            }
            retention.record_write(bytes.len() as u64, before);
            self.counters.written_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        freed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SimulatedClock;
    use crate::vision::picture::Pictures;
    use uuid::Uuid;

    /// Runs a store limited to `max_bytes` on filings of one event, each with three pictures of one of the
    /// `sizes`.
    fn run_store(folder: &Path, max_bytes: u64, sizes: &[usize]) -> (PictureFiles, Arc<StoreCounters>) {
        let clock = Arc::new(SimulatedClock::new());
        let (sender, files) = crossbeam_channel::unbounded();
        let settings = config::Pictures {
            directory: Some(folder.join("pictures")),
            max_bytes,
            max_age: Duration::from_secs(3600),
            quality: 80,
            publish: false,
        };
        let counters = Arc::new(StoreCounters::default());
        let heartbeat = Heartbeat::new("store", Duration::ZERO);
        let dropped = Arc::default();
        let store =
            Store { settings, files, dropped, counters: counters.clone(), clock: clock.clone(), heartbeat };
        let started_at = clock.now();
        for (crop, len) in (1u8..).zip(sizes) {
            let pictures =
                Pictures { crop: vec![crop; *len], frame: vec![0; *len].into(), annotated: vec![0; *len] };
            sender
                .send(PictureFiling { camera: "yard".into(), id: Uuid::nil(), started_at, pictures })
                .unwrap();
        }
        drop(sender);
        store.run();
        (PictureFiles::new("yard", Uuid::nil(), started_at), counters)
    }

    #[test]
    fn pictures_are_stored_by_camera_and_day_and_replace_earlier_ones() {
        let folder = tempfile::tempdir().unwrap();
        let (names, counters) = run_store(folder.path(), 1 << 20, &[10, 10]);
        assert_eq!(names.crop, "yard/2026-01-01/00000000-0000-0000-0000-000000000000-crop.jpg");
        let read = |name: &str| fs::read(folder.path().join("pictures").join(name)).unwrap();
        assert_eq!(read(&names.crop), [2; 10]);
        assert_eq!(read(&names.annotated).len(), 10);
        assert_eq!(counters.written_bytes.load(Ordering::Relaxed), 60);
        assert_eq!(counters.file_bytes.load(Ordering::Relaxed), 30);
        assert_eq!(
            fs::read_dir(folder.path().join("pictures/yard/2026-01-01")).unwrap().count(),
            3,
            "no other files"
        );
    }

    #[test]
    fn pictures_larger_than_the_limit_are_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let (names, _) = run_store(folder.path(), 100, &[34]);
        assert!(!folder.path().join("pictures").join(names.crop).exists());
        let (names, _) = run_store(folder.path(), 100, &[34, 10, 34]);
        assert_eq!(fs::read(folder.path().join("pictures").join(names.crop)).unwrap(), [2; 10]);
    }
}
