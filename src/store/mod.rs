//! Event pictures on disk, limited in bytes and age. The only code that writes to `pictures.directory`.
//!
//! [`Store::run`] is a stage. It receives pictures from the workers, frees space for them, and writes each
//! under a temporary name first, so that no reader sees an incomplete file. A failure is logged once and does
//! not affect the analysis.
//!
//! `pictures.directory` may be a link. Below it none is followed, so that whoever else may write there cannot
//! lead camfire elsewhere. Files and folders are private to the process's user.

mod retention;

use self::retention::Retention;
use crate::{
    clock::Clock,
    config,
    counters::StoreCounters,
    files::{self, Directory, EntryKind},
    lifecycle::Heartbeat,
    wire::files::{PictureFiles, PictureFiling},
};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::{
    io,
    path::Path,
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
        let mut faults = Faults::default();
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
                // Nothing was tried, so a fault may last.
                Err(RecvTimeoutError::Timeout) if faults.is_present() => continue,
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
            let directory = directory.display();
            match faults.note(outcome.as_ref().err().map(io::Error::kind), now) {
                Some(Noted::Began) => {
                    let error = outcome.err().map(|error| error.to_string()).unwrap_or_default();
                    tracing::warn!(%directory, error, "Pictures cannot be stored.");
                }
                Some(Noted::Ended) => tracing::info!(%directory, "Pictures are stored again."),
                None => {}
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
        files::create_private_directories(directory)?;
        let root = Directory::open(directory)?;
        for (path, bytes) in files {
            let path = Path::new(&path);
            let name = Path::new(path.file_name().unwrap_or_default());
            let mut folder = root.subdirectory(Path::new("."))?;
            for component in path.parent().into_iter().flat_map(Path::components) {
                folder = folder.create_subdirectory(Path::new(component.as_os_str()))?;
            }
            let before = folder.entry(name).ok().filter(|entry| entry.kind == EntryKind::File);
            let before = before.map_or(0, |entry| entry.len);
            let partial = name.with_extension("part");
            folder.replace_file(&partial, bytes)?;
            if let Err(error) = folder.rename(&partial, name) {
                let _ = folder.remove_file(&partial);
                return Err(error);
            }
            retention.record_write(bytes.len() as u64, before);
            self.counters.written_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        freed
    }
}

/// Time without an error after which a fault has ended. A nearly full disk has space for some pictures and
/// not for others, which is one fault and not many.
const FAULT_END: Duration = Duration::from_secs(60);

/// Decides which outcomes are logged: the first error of a kind, and the end of all errors.
#[derive(Default)]
struct Faults {
    kind: Option<io::ErrorKind>,
    last_at: Duration,
}

/// What is logged.
#[derive(Debug, PartialEq)]
enum Noted {
    Began,
    Ended,
}

impl Faults {
    fn is_present(&self) -> bool {
        self.kind.is_some()
    }

    /// Takes the outcome of an attempt at the monotonic time `now`: the kind of its error, or None.
    fn note(&mut self, error: Option<io::ErrorKind>, now: Duration) -> Option<Noted> {
        if error.is_some() {
            self.last_at = now;
            let is_known = std::mem::replace(&mut self.kind, error) == error;
            return (!is_known).then_some(Noted::Began);
        }
        let has_ended = self.kind.is_some() && now.saturating_sub(self.last_at) >= FAULT_END;
        if has_ended {
            self.kind = None;
        }
        has_ended.then_some(Noted::Ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SimulatedClock;
    use crate::vision::picture::Pictures;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
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
    fn links_in_the_directory_are_not_followed_and_pictures_are_private() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let pictures = folder.path().join("pictures");
        fs::create_dir(&pictures).unwrap();
        // The camera's folder leads elsewhere: nothing is written there.
        symlink(elsewhere.path(), pictures.join("yard")).unwrap();
        let (names, counters) = run_store(folder.path(), 1 << 20, &[10]);
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
        assert_eq!(counters.written_bytes.load(Ordering::Relaxed), 0);
        // Links in place of the pictures and of the temporary files are replaced.
        fs::remove_file(pictures.join("yard")).unwrap();
        let (crop, victim) = (pictures.join(&names.crop), elsewhere.path().join("victim"));
        fs::write(&victim, "precious").unwrap();
        fs::create_dir_all(crop.parent().unwrap()).unwrap();
        symlink(&victim, &crop).unwrap();
        symlink(&victim, crop.with_extension("part")).unwrap();
        run_store(folder.path(), 1 << 20, &[10]);
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        assert_eq!(fs::read(&crop).unwrap(), [1; 10]);
        let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&crop), 0o100_600);
        fs::remove_dir_all(&pictures).unwrap();
        run_store(folder.path(), 1 << 20, &[10]);
        for folder in [pictures.clone(), pictures.join("yard"), pictures.join("yard/2026-01-01")] {
            assert_eq!(mode(&folder), 0o40_700, "{}", folder.display());
        }
    }

    #[test]
    fn a_fault_is_logged_once_and_its_end_when_it_does_not_return() {
        use io::ErrorKind::{PermissionDenied, StorageFull};
        let mut faults = Faults::default();
        let mut note = |error, at_s| faults.note(error, Duration::from_secs(at_s));
        assert_eq!(note(None, 0), None);
        assert_eq!(note(Some(StorageFull), 100), Some(Noted::Began));
        assert_eq!(note(None, 101), None, "a small picture had space");
        assert_eq!(note(Some(StorageFull), 150), None);
        assert_eq!(note(Some(PermissionDenied), 160), Some(Noted::Began));
        assert_eq!(note(None, 219), None);
        assert_eq!(note(None, 220), Some(Noted::Ended));
        assert_eq!(note(None, 221), None);
        assert_eq!(note(Some(PermissionDenied), 222), Some(Noted::Began));
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
