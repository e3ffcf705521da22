//! Retention of event pictures: deletes those that are too old, and the oldest when they take too much space.
//!
//! The directory is read in sweeps; in between, only the bytes written are added up. Only files that camfire
//! itself has named are ever deleted: `<camera>/<day>/<id>-<kind>.jpg`. Links are not followed.

use crate::files::{Directory, EntryKind};
use jiff::Timestamp;
use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// When space is needed, one part in this many of the limit is freed in addition, because reading the
/// directory is slow.
const SPARE: u64 = 20;

/// The retention of one directory.
pub(super) struct Retention {
    directory: PathBuf,
    max_bytes: u64,
    max_age: Duration,
    /// Size of the pictures, as of the last sweep and the writes since then.
    bytes: u64,
    /// Deletes a file. Replaced in tests.
    remove: fn(&Directory, &Path) -> io::Result<()>,
}

impl Retention {
    pub(super) fn new(directory: PathBuf, max_bytes: u64, max_age: Duration) -> Retention {
        Retention { directory, max_bytes, max_age, bytes: 0, remove: Directory::remove_file }
    }

    /// Size of the pictures.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads the directory, deletes the pictures that exceed the limits, and updates the size.
    ///
    /// Errors: a folder cannot be read or a file cannot be deleted. The others are processed nevertheless.
    pub(super) fn sweep(&mut self, now: Timestamp) -> io::Result<()> {
        self.shrink_to(self.max_bytes, now)
    }

    /// Deletes the oldest pictures until there is space for `len` more bytes. Does nothing if `len` exceeds
    /// the limit.
    ///
    /// Errors: as for [`Retention::sweep`]. There may be space nevertheless.
    pub(super) fn free_space(&mut self, len: u64, now: Timestamp) -> io::Result<()> {
        if self.has_space(len) || len > self.max_bytes {
            return Ok(());
        }
        self.shrink_to(self.max_bytes.saturating_sub(len + self.max_bytes / SPARE), now)
    }

    /// Whether there is space for `len` more bytes.
    pub(super) fn has_space(&self, len: u64) -> bool {
        self.bytes + len <= self.max_bytes
    }

    /// Records that a file of `bytes` bytes was written. It replaced one of `before` bytes.
    pub(super) fn record_write(&mut self, bytes: u64, before: u64) {
        self.bytes = (self.bytes + bytes).saturating_sub(before);
    }

    /// Deletes the pictures that are too old, and the oldest until at most `max_bytes` are left.
    fn shrink_to(&mut self, max_bytes: u64, now: Timestamp) -> io::Result<()> {
        let limit = system_time(now).checked_sub(self.max_age).unwrap_or(SystemTime::UNIX_EPOCH);
        // Sorted by time, then by name.
        let mut files = BTreeSet::new();
        self.bytes = 0;
        // A folder that cannot be read or a file that cannot be deleted must not stop the deletion of others.
        let mut outcome = Ok(());
        let root = match Directory::open(&self.directory) {
            Ok(root) => root,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut days = Vec::new();
        for camera in folders(&root)? {
            match root.subdirectory(&camera).and_then(|folder| folders(&folder)) {
                Ok(found) => days.extend(found.into_iter().map(|day| (camera.clone(), day))),
                Err(error) => outcome = Err(error),
            }
        }
        let open = |(camera, day): &(PathBuf, PathBuf)| root.subdirectory(camera)?.subdirectory(day);
        for (index, day) in days.iter().enumerate() {
            let found = open(day).and_then(|folder| Ok((folder.names()?, folder)));
            let (names, folder) = match found {
                Ok(found) => found,
                Err(error) => {
                    outcome = Err(error);
                    continue;
                }
            };
            for name in names.into_iter().map(PathBuf::from).filter(|name| is_ours(name)) {
                let Ok(file) = folder.entry(&name) else { continue };
                if file.kind == EntryKind::File {
                    self.bytes += file.len;
                    files.insert((file.modified, index, name, file.len));
                }
            }
        }
        for (modified, day, name, len) in files {
            if modified >= limit && self.bytes <= max_bytes {
                break;
            }
            match open(&days[day]).and_then(|folder| (self.remove)(&folder, &name)) {
                Ok(()) => self.bytes -= len,
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.bytes -= len,
                Err(error) => outcome = Err(error),
            }
            // Deletes the day's folder after its last picture. Fails if the folder is not empty.
            let (camera, day) = &days[day];
            let _ = root.subdirectory(camera).map(|camera| camera.remove_directory(day));
        }
        outcome
    }
}

fn system_time(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(at.as_millisecond()).unwrap_or_default())
}

/// The names of the folders in a folder, in order.
fn folders(parent: &Directory) -> io::Result<Vec<PathBuf>> {
    let is_folder = |name: &PathBuf| parent.entry(name).is_ok_and(|entry| entry.kind == EntryKind::Directory);
    let mut names: Vec<PathBuf> = parent.names()?.into_iter().map(PathBuf::from).filter(is_folder).collect();
    names.sort();
    Ok(names)
}

/// Whether camfire has named this file. `.part` is the temporary name of a file that is being written.
fn is_ours(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some((id, rest)) = name.split_at_checked(36) else { return false };
    let Some((kind, extension)) = rest.split_once('.') else { return false };
    // Before schema 3, annotated pictures were named `<id>-marked.jpg`.
    uuid::Uuid::parse_str(id).is_ok()
        && ["-crop", "-frame", "-annotated", "-marked"].contains(&kind)
        && ["jpg", "part"].contains(&extension)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::files::PictureFiles;
    use std::fs;

    fn name(number: u8) -> String {
        format!("{}-crop.jpg", uuid::Uuid::from_bytes([number; 16]))
    }

    /// Writes a file of 100 bytes that is `age_s` seconds old at `now`.
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
    fn a_file_that_cannot_be_deleted_does_not_protect_others() {
        let folder = tempfile::tempdir().unwrap();
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let files: Vec<PathBuf> = (1..=3)
            .map(|number| write(folder.path(), &name(number), now, 1000 * u64::from(number)))
            .collect();
        let mut retention = Retention::new(folder.path().into(), 320, Duration::from_secs(9000));
        retention.remove = |folder, file| match file.ends_with(name(3)) {
            true => Err(io::ErrorKind::PermissionDenied.into()),
            false => folder.remove_file(file),
        };
        retention.sweep(now).unwrap();
        assert!(
            retention.free_space(100, now).is_err() && retention.has_space(100),
            "space was freed, and the error is returned"
        );
        assert_eq!(files.iter().map(|file| file.exists()).collect::<Vec<_>>(), [true, false, true]);
        retention.max_age = Duration::ZERO;
        assert!(retention.sweep(now).is_err() && !files[0].exists() && files[2].exists());
    }

    #[test]
    fn only_names_of_camfires_pictures_are_ours() {
        let files = PictureFiles::new("yard", uuid::Uuid::nil(), Timestamp::UNIX_EPOCH);
        for name in [&files.crop, &files.frame, &files.annotated] {
            assert!(is_ours(Path::new(name)), "{name}");
            assert!(is_ours(&Path::new(name).with_extension("part")), "{name}");
            assert!(is_ours(Path::new(&name.replace("annotated", "marked"))), "{name}");
            assert!(!is_ours(&Path::new(name).with_extension("png")), "{name}");
        }
        assert!(!is_ours(Path::new("holiday.jpg")) && !is_ours(Path::new(&files.crop.replace("-crop", ""))));
    }

    #[test]
    fn the_oldest_pictures_are_deleted_first_and_foreign_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let write = |name: &str, age_s: u64| write(folder.path(), name, now, age_s);
        let files: Vec<PathBuf> =
            (1..=5).map(|number| write(&name(number), 1000 * u64::from(number))).collect();
        let foreign = write("holiday.jpg", 1_000_000);
        let there = || files.iter().map(|file| file.exists()).collect::<Vec<_>>();
        let mut retention = Retention::new(folder.path().into(), 1000, Duration::from_secs(4500));
        retention.sweep(now).unwrap();
        assert_eq!(there(), [true, true, true, true, false], "one is too old");
        retention.max_bytes = 420;
        retention.free_space(10, now).unwrap();
        assert_eq!(there(), [true, true, true, true, false], "there is space");
        retention.free_space(100, now).unwrap();
        assert_eq!(there(), [true, true, false, false, false], "spare space is freed too");
        assert!(foreign.exists());
        Retention::new(folder.path().join("nowhere"), 1, Duration::ZERO).sweep(now).unwrap();
    }
}
