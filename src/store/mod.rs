//! What is kept on disk: pictures of events, within a cap on bytes and age. The only code that writes there.
//!
//! [`Store::run`] is a stage: it takes what workers file, writes it under a temporary name first (a reader never sees half
//! a picture), and makes room. What cannot be written is told once, and seeing goes on.

mod room;

use crate::{clock::Clock, config, lifecycle::Pulse, record::StoreRecord, vision::picture::Pictures};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use jiff::Timestamp;
use serde::Serialize;
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use uuid::Uuid;

/// Between two looks at how much there is: so many times in the time for which pictures are kept, within these limits.
const SWEEPS: u32 = 10;
const SHORTEST_SWEEP: Duration = Duration::from_secs(30);
const LONGEST_SWEEP: Duration = Duration::from_secs(600);

/// Pictures to be kept.
#[derive(Debug)]
pub struct Filing {
    /// The camera's name.
    pub camera: Arc<str>,
    /// The event's id.
    pub id: Uuid,
    /// When the thing was first seen: the day is the name of the folder.
    pub started_at: Timestamp,
    /// They replace those of the same event.
    pub pictures: Pictures,
}

/// Where an event's pictures are, relative to the directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Names {
    /// The thing, cut out.
    pub crop: String,
    /// All that the camera saw.
    pub frame: String,
    /// The same with box and name drawn on.
    pub marked: String,
}

/// The names of an event's pictures: `yard/2026-11-24/<id>-crop.jpg`. Days are those of UTC.
pub fn names(camera: &str, id: Uuid, started_at: Timestamp) -> Names {
    let day = started_at.strftime("%Y-%m-%d");
    let name = |what: &str| format!("{camera}/{day}/{id}-{what}.jpg");
    Names { crop: name("crop"), frame: name("frame"), marked: name("marked") }
}

/// The stage that writes.
pub struct Store {
    /// Where, and how much.
    pub settings: config::Pictures,
    /// What is to be written; the workers have the other end. It ends when they have.
    pub files: Receiver<Filing>,
    /// How many of them had to go because the disk was too slow.
    pub dropped: Arc<AtomicU64>,
    /// Counts what is written.
    pub record: Arc<StoreRecord>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Beats at every turn of the loop; the watchdog reads it.
    pub pulse: Pulse,
}

impl Store {
    /// Writes until nobody is left who could file something.
    pub fn run(self) {
        const TURN: Duration = Duration::from_secs(1);
        let Some(directory) = self.settings.directory.clone() else { return };
        let config::Pictures { most_bytes, oldest, .. } = self.settings;
        let pause = (oldest / SWEEPS).clamp(SHORTEST_SWEEP, LONGEST_SWEEP);
        let mut told = None;
        let mut dropping = false;
        let mut room = room::Room::new(directory.clone(), most_bytes, oldest);
        let mut swept_at = None;
        loop {
            let now = self.clock.monotonic();
            self.pulse.beat(now);
            let mut outcome = Ok(());
            if swept_at.is_none_or(|at| now.saturating_sub(at) >= pause) {
                swept_at = Some(now);
                outcome = room.sweep(self.clock.now());
            }
            let filing = self.files.recv_timeout(TURN);
            let dropped = self.dropped.load(Ordering::Relaxed);
            if dropped > 0 && !dropping {
                dropping = true;
                tracing::warn!(directory = %directory.display(), "Pictures come faster than they can be written; some are left out.");
            }
            match filing {
                Ok(filing) => outcome = self.write(&directory, filing, &mut room).and(outcome),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    if dropped > 0 {
                        tracing::warn!(count = dropped, "Events whose pictures were left out.");
                    }
                    return;
                }
            }
            self.record.file_bytes.store(room.bytes(), Ordering::Relaxed);
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
    fn write(&self, directory: &Path, filing: Filing, room: &mut room::Room) -> io::Result<()> {
        let Filing { camera, id, started_at, pictures } = filing;
        let names = names(&camera, id, started_at);
        let files: [(String, &[u8]); 3] =
            [(names.crop, &pictures.crop), (names.frame, &pictures.frame), (names.marked, &pictures.marked)];
        let len: u64 = files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        let made = room.make(len, self.clock.now());
        if !room.has(len) {
            let full = || {
                io::Error::new(
                    io::ErrorKind::StorageFull,
                    format!("no room for {len} bytes by pictures.most_mib"),
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
            room.grew(bytes.len() as u64, before);
            self.record.written_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SimulatedClock;

    /// What a store of so many bytes makes of filings with pictures of so many bytes each.
    fn store(folder: &Path, most_bytes: u64, sizes: &[usize]) -> (Names, Arc<StoreRecord>) {
        let clock = Arc::new(SimulatedClock::new());
        let (sender, files) = crossbeam_channel::unbounded();
        let settings = config::Pictures {
            directory: Some(folder.join("pictures")),
            most_bytes,
            oldest: Duration::from_secs(3600),
            quality: 80,
            publish: false,
        };
        let record = Arc::new(StoreRecord::default());
        let pulse = Pulse::new("store", Duration::ZERO);
        let dropped = Arc::default();
        let store = Store { settings, files, dropped, record: record.clone(), clock: clock.clone(), pulse };
        let started_at = clock.now();
        for (crop, len) in (1u8..).zip(sizes) {
            let pictures =
                Pictures { crop: vec![crop; *len], frame: vec![0; *len].into(), marked: vec![0; *len] };
            sender.send(Filing { camera: "yard".into(), id: Uuid::nil(), started_at, pictures }).unwrap();
        }
        drop(sender);
        store.run();
        (names("yard", Uuid::nil(), started_at), record)
    }

    #[test]
    fn pictures_are_kept_by_camera_and_day_and_newer_ones_replace_them() {
        let folder = tempfile::tempdir().unwrap();
        let (names, record) = store(folder.path(), 1 << 20, &[10, 10]);
        assert_eq!(names.crop, "yard/2026-01-01/00000000-0000-0000-0000-000000000000-crop.jpg");
        let read = |name: &str| fs::read(folder.path().join("pictures").join(name)).unwrap();
        assert_eq!(read(&names.crop), [2; 10]);
        assert_eq!(read(&names.marked).len(), 10);
        assert_eq!(record.written_bytes.load(Ordering::Relaxed), 60);
        assert_eq!(record.file_bytes.load(Ordering::Relaxed), 30);
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
