//! Retention for pictures: the oldest go when there are too many bytes, and all that are too old.
//!
//! What lies in the directory is looked at now and then; in between it is only added up. Nothing but what this program
//! names is ever removed: `<camera>/<day>/<id>-<what>.jpg`.

use jiff::Timestamp;
use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// When room has to be made, so much more is made at once, in parts of all: looking through everything is slow.
const SPARE: u64 = 20;

/// Of one directory.
pub(super) struct Retention {
    directory: PathBuf,
    most_bytes: u64,
    oldest: Duration,
    bytes: u64,
    remove: fn(&Path) -> io::Result<()>,
}

impl Retention {
    pub(super) fn new(directory: PathBuf, most_bytes: u64, oldest: Duration) -> Retention {
        Retention { directory, most_bytes, oldest, bytes: 0, remove: |path| fs::remove_file(path) }
    }

    /// What there is, as far as it is known.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Removes what is too old at `now`, and counts the rest.
    pub(super) fn sweep(&mut self, now: Timestamp) -> io::Result<()> {
        self.make_down_to(self.most_bytes, now)
    }

    /// Makes room for `len` more bytes, as far as so many may be there at all.
    ///
    /// Errors: what cannot be looked at or removed; there may be room all the same.
    pub(super) fn make(&mut self, len: u64, now: Timestamp) -> io::Result<()> {
        if self.has(len) {
            return Ok(());
        }
        if len > self.most_bytes {
            return Ok(());
        }
        self.make_down_to(self.most_bytes.saturating_sub(len + self.most_bytes / SPARE), now)
    }

    /// Whether there is room for `len` more bytes.
    pub(super) fn has(&self, len: u64) -> bool {
        self.bytes + len <= self.most_bytes
    }

    /// A file was written in place of one of `before` bytes.
    pub(super) fn grew(&mut self, bytes: u64, before: u64) {
        self.bytes = (self.bytes + bytes).saturating_sub(before);
    }

    fn make_down_to(&mut self, most: u64, now: Timestamp) -> io::Result<()> {
        let limit = system_time(now).checked_sub(self.oldest).unwrap_or(SystemTime::UNIX_EPOCH);
        // Oldest first; names decide between equals.
        let mut files = BTreeSet::new();
        self.bytes = 0;
        // One folder that cannot be read, one file that cannot be removed, keep no other from going.
        let mut outcome = Ok(());
        let mut days = Vec::new();
        for camera in folders(&self.directory)? {
            match folders(&camera) {
                Ok(found) => days.extend(found),
                Err(error) => outcome = Err(error),
            }
        }
        for day in days {
            let entries = match fs::read_dir(&day) {
                Ok(entries) => entries,
                Err(error) => {
                    outcome = Err(error);
                    continue;
                }
            };
            for path in entries.filter_map(|entry| entry.ok().map(|entry| entry.path())) {
                let Ok(file) = fs::metadata(&path) else { continue };
                if file.is_file() && is_ours(&path) {
                    self.bytes += file.len();
                    files.insert((file.modified()?, path, file.len()));
                }
            }
        }
        for (modified, path, len) in files {
            if modified >= limit && self.bytes <= most {
                break;
            }
            match (self.remove)(&path) {
                Ok(()) => self.bytes -= len,
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.bytes -= len,
                Err(error) => outcome = Err(error),
            }
            // The day's folder goes with its last picture; one that is not empty stays.
            let _ = path.parent().map(fs::remove_dir);
        }
        outcome
    }
}

fn system_time(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(at.as_millisecond()).unwrap_or_default())
}

/// The folders in a folder; none if it is not there yet.
fn folders(of: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(of) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    Ok(paths.into_iter().filter(|path| path.is_dir() && !path.is_symlink()).collect())
}

fn is_ours(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let id = name.get(..36).and_then(|id| uuid::Uuid::parse_str(id).ok());
    id.is_some()
        && ["-crop.jpg", "-frame.jpg", "-marked.jpg", "-crop.part", "-frame.part", "-marked.part"]
            .contains(&&name[36..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u8) -> String {
        format!("{}-crop.jpg", uuid::Uuid::from_bytes([number; 16]))
    }

    /// A file of 100 bytes that is so old at `now`.
    fn write(folder: &Path, name: &str, now: Timestamp, age_s: u64) -> PathBuf {
        let day = folder.join("yard/2026-01-01");
        fs::create_dir_all(&day).unwrap();
        let path = day.join(name);
        fs::write(&path, vec![0; 100]).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(system_time(now) - Duration::from_secs(age_s)).unwrap();
        path
    }

    #[test]
    fn one_file_that_cannot_be_removed_keeps_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let files: Vec<PathBuf> = (1..=3)
            .map(|number| write(folder.path(), &name(number), now, 1000 * u64::from(number)))
            .collect();
        let mut room = Retention::new(folder.path().into(), 320, Duration::from_secs(9000));
        room.remove = |path| match path.ends_with(name(3)) {
            true => Err(io::ErrorKind::PermissionDenied.into()),
            false => fs::remove_file(path),
        };
        room.sweep(now).unwrap();
        assert!(
            room.make(100, now).is_err() && room.has(100),
            "there is room, and it is told what went wrong"
        );
        assert_eq!(files.iter().map(|file| file.exists()).collect::<Vec<_>>(), [true, false, true]);
        room.oldest = Duration::ZERO;
        assert!(room.sweep(now).is_err() && !files[0].exists() && files[2].exists());
    }

    #[test]
    fn the_oldest_go_first_and_what_is_not_ours_stays() {
        let folder = tempfile::tempdir().unwrap();
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let write = |name: &str, age_s: u64| write(folder.path(), name, now, age_s);
        let files: Vec<PathBuf> =
            (1..=5).map(|number| write(&name(number), 1000 * u64::from(number))).collect();
        let foreign = write("holiday.jpg", 1_000_000);
        let there = || files.iter().map(|file| file.exists()).collect::<Vec<_>>();
        let mut room = Retention::new(folder.path().into(), 1000, Duration::from_secs(4500));
        room.sweep(now).unwrap();
        assert_eq!(there(), [true, true, true, true, false], "one is too old");
        room.most_bytes = 420;
        room.make(10, now).unwrap();
        assert_eq!(there(), [true, true, true, true, false], "there is room");
        room.make(100, now).unwrap();
        assert_eq!(there(), [true, true, false, false, false], "with something to spare");
        assert!(foreign.exists());
        Retention::new(folder.path().join("nowhere"), 1, Duration::ZERO).sweep(now).unwrap();
    }
}
