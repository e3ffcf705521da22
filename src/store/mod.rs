//! What is kept on disk: pictures of events, within a cap on bytes and age. The only code that writes there.
//!
//! [`Store::run`] is a stage: it takes what workers file, writes it under a temporary name first (a reader never sees half
//! a picture), and makes retention. What cannot be written is told once, and seeing goes on.

mod retention;

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

/// Between two looks at how much there is: so many times in the time for which pictures are kept, within these limits.
const SWEEPS: u32 = 10;
const SHORTEST_SWEEP: Duration = Duration::from_secs(30);
const LONGEST_SWEEP: Duration = Duration::from_secs(600);

/// The stage that writes.
pub struct Store {
    /// Where, and how much.
    pub settings: config::Pictures,
    /// What is to be written; the workers have the other end. It ends when they have.
    pub files: Receiver<PictureFiling>,
    /// How many of them had to go because the disk was too slow.
    pub dropped: Arc<AtomicU64>,
    /// Counts what is written.
    pub counters: Arc<StoreCounters>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Beats at every turn of the loop; the watchdog reads it.
    pub heartbeat: Heartbeat,
}

impl Store {
    /// Writes until nobody is left who could file something.
    pub fn run(self) {
        const TURN: Duration = Duration::from_secs(1);
        let Some(directory) = self.settings.directory.clone() else { return };
        let config::Pictures { max_bytes, max_age, .. } = self.settings;
        let pause = (max_age / SWEEPS).clamp(SHORTEST_SWEEP, LONGEST_SWEEP);
        let mut told = None;
        let mut dropping = false;
        let mut retention = retention::Retention::new(directory.clone(), max_bytes, max_age);
        let mut swept_at = None;
        loop {
            let now = self.clock.monotonic();
            self.heartbeat.beat(now);
            let mut outcome = Ok(());
            if swept_at.is_none_or(|at| now.saturating_sub(at) >= pause) {
                swept_at = Some(now);
                outcome = retention.sweep(self.clock.now());
            }
            let filing = self.files.recv_timeout(TURN);
            let dropped = self.dropped.load(Ordering::Relaxed);
            if dropped > 0 && !dropping {
                dropping = true;
                tracing::warn!(directory = %directory.display(), "Pictures come faster than they can be written; some are left out.");
            }
            match filing {
                Ok(filing) => outcome = self.write(&directory, filing, &mut retention).and(outcome),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    if dropped > 0 {
                        tracing::warn!(count = dropped, "Events whose pictures were left out.");
                    }
                    return;
                }
            }
            self.counters.file_bytes.store(retention.bytes(), Ordering::Relaxed);
            match (outcome, &told) {
                (Ok(()), _) => {}
                (Err(error), Some(before)) if error.kind() == *before => {}
                (Err(error), _) => {
                    tracing::warn!(directory = %directory.display(), %error, "Pictures cannot be kept; seeing goes on.");
                    told = Some(error.kind());
                }
            }
        }
    }

    /// Errors: what cannot be written, or what cannot be removed for it.
    fn write(
        &self,
        directory: &Path,
        filing: PictureFiling,
        retention: &mut retention::Retention,
    ) -> io::Result<()> {
        let PictureFiling { camera, id, started_at, pictures } = filing;
        let names = PictureFiles::new(&camera, id, started_at);
        let files: [(String, &[u8]); 3] = [
            (names.crop, &pictures.crop),
            (names.frame, &pictures.frame),
            (names.annotated, &pictures.annotated),
        ];
        let len: u64 = files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        let made = retention.make(len, self.clock.now());
        if !retention.has(len) {
            let full = || {
                io::Error::new(
                    io::ErrorKind::StorageFull,
                    format!("no retention for {len} bytes by pictures.max_mib"),
                )
            };
            return made.and_then(|()| Err(full()));
        }
        for (name, bytes) in files {
            let path = directory.join(name);
            let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
            fs::create_dir_all(&folder)?;
            let half: PathBuf = path.with_extension("part");
            let before = fs::metadata(&path).map_or(0, |file| file.len());
            let written = fs::write(&half, bytes).and_then(|()| fs::rename(&half, &path));
            if let Err(error) = written {
                // Nothing of use is in it.
                let _ = fs::remove_file(&half);
                return Err(error);
            }
            retention.grew(bytes.len() as u64, before);
            self.counters.written_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SimulatedClock;
    use crate::vision::picture::Pictures;
    use uuid::Uuid;

    /// What a store of so many bytes makes of filings with pictures of so many bytes each.
    fn store(folder: &Path, max_bytes: u64, sizes: &[usize]) -> (PictureFiles, Arc<StoreCounters>) {
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
    fn pictures_are_kept_by_camera_and_day_and_newer_ones_replace_them() {
        let folder = tempfile::tempdir().unwrap();
        let (names, counters) = store(folder.path(), 1 << 20, &[10, 10]);
        assert_eq!(names.crop, "yard/2026-01-01/00000000-0000-0000-0000-000000000000-crop.jpg");
        let read = |name: &str| fs::read(folder.path().join("pictures").join(name)).unwrap();
        assert_eq!(read(&names.crop), [2; 10]);
        assert_eq!(read(&names.annotated).len(), 10);
        assert_eq!(counters.written_bytes.load(Ordering::Relaxed), 60);
        assert_eq!(counters.file_bytes.load(Ordering::Relaxed), 30);
        assert_eq!(
            fs::read_dir(folder.path().join("pictures/yard/2026-01-01")).unwrap().count(),
            3,
            "nothing else"
        );
    }

    #[test]
    fn what_is_more_than_there_may_be_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let (names, _) = store(folder.path(), 100, &[34]);
        assert!(!folder.path().join("pictures").join(names.crop).exists());
        let (names, _) = store(folder.path(), 100, &[34, 10, 34]);
        assert_eq!(fs::read(folder.path().join("pictures").join(names.crop)).unwrap(), [2; 10]);
    }
}
