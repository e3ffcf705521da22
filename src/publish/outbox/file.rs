//! The outbox's file: opening, creating, checking it, and setting it aside if it is unusable.
//!
//! The reserve is a second file beside it. It is removed when the disk is full, because SQLite needs some
//! space to free space. All files are private to the process's user, and none is created through a link.

use super::{
    Gap,
    tables::{self, APPLICATION_ID, Meta, OLDER_VERSIONS, VERSION},
};
use crate::files::{self, Directory, EntryKind};
use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

/// Small, because each commit writes whole pages: 2 KiB hold an event and the one before it, and wear an SD
/// card half as much as the usual 4 KiB.
pub(super) const PAGE_BYTES: u64 = 2048;

/// An opened outbox and its contents.
pub(super) struct Found {
    pub(super) db: Connection,
    /// Path of the file. None in memory.
    pub(super) path: Option<PathBuf>,
    pub(super) meta: Meta,
    pub(super) gaps: BTreeMap<String, Gap>,
    /// Problems to log for the user.
    pub(super) notes: Vec<String>,
}

/// Why a file cannot be used.
enum Refusal {
    /// It is corrupt or not an outbox, so a new one may replace it.
    Unusable(String),
    /// It may be intact, but cannot be used now.
    Unavailable(String),
    /// The disk is full.
    Full(String),
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Refusal {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Refusal::Unavailable("another process uses it".into())
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::SchemaChanged) => {
                Refusal::Unusable(error.to_string())
            }
            Some(ErrorCode::DiskFull) => Refusal::Full(error.to_string()),
            // A table or column is missing.
            Some(ErrorCode::Unknown) | None => Refusal::Unusable(error.to_string()),
            Some(_) => Refusal::Unavailable(error.to_string()),
        }
    }
}

/// Opens the outbox at `path`. An unusable file is set aside and replaced by a new one. If neither can be
/// opened, the outbox is in memory.
pub(super) fn open(path: Option<&Path>, now: Timestamp) -> Found {
    let mut notes = Vec::new();
    let consequence = "undelivered messages are lost when camfire stops";
    match path {
        None => notes.push(format!("No outbox.file and no $STATE_DIRECTORY: {consequence}.")),
        Some(path) => {
            let mut outcome = open_file(path);
            if let Err(Refusal::Full(_)) = &outcome {
                release_reserve(path);
                outcome = open_file(path);
            }
            if let Err(Refusal::Unusable(why)) = &outcome {
                notes.push(set_aside(path, now, why));
                outcome = open_file(path);
            }
            match outcome {
                Ok(found) => return Found { notes, ..found },
                Err(Refusal::Unusable(why) | Refusal::Unavailable(why) | Refusal::Full(why)) => {
                    notes.push(format!("Outbox {} cannot be used ({why}): {consequence}.", path.display()));
                }
            }
        }
    }
    let memory = Connection::open_in_memory().map_err(Refusal::from).and_then(|db| {
        db.pragma_update(None, "page_size", PAGE_BYTES as i64)?;
        prepare(db, None)
    });
    let found = memory.unwrap_or_else(|_| unreachable!("an in-memory database cannot fail to open"));
    Found { notes, ..found }
}

/// Renames an unusable file and its write-ahead log. Returns the text for the user.
pub(super) fn set_aside(path: &Path, now: Timestamp, why: &str) -> String {
    let aside = with_suffix(path, &format!(".bad-{}", now.strftime("%Y%m%dT%H%M%S")));
    let log = log_of(path);
    if log.exists() {
        let _ = std::fs::rename(&log, with_suffix(&aside, "-wal"));
    }
    match std::fs::rename(path, &aside) {
        Ok(()) => format!(
            "Outbox {} is unusable ({why}): it is set aside as {}, and a new one is created.",
            path.display(),
            aside.display()
        ),
        Err(error) => {
            format!("Outbox {} is unusable ({why}) and cannot be set aside: {error}.", path.display())
        }
    }
}

/// Contents of the reserve.
const RESERVE: &[u8] = &[0x5a; 512 << 10];

fn reserve_of(path: &Path) -> PathBuf {
    with_suffix(path, "-reserve")
}

/// Creates the reserve if it is missing. Returns false if the disk has no space for it.
pub(super) fn ensure_reserve(path: &Path) -> bool {
    let reserve = reserve_of(path);
    let (Some(name), Ok(directory)) = (reserve.file_name(), Directory::open(&directory_of(path))) else {
        return false;
    };
    let name = Path::new(name);
    // A link, also a hard one, is replaced: writing to it would change a file that is not camfire's.
    let exists = directory.entry(name).is_ok_and(|entry| {
        entry.kind == EntryKind::File && entry.links == 1 && entry.len == RESERVE.len() as u64
    });
    exists || directory.replace_file(name, RESERVE).is_ok()
}

/// Removes the reserve.
pub(super) fn release_reserve(path: &Path) {
    let _ = std::fs::remove_file(reserve_of(path));
}

/// Removes an outbox that is no longer used, with its log and its reserve.
pub(super) fn remove(path: &Path) {
    release_reserve(path);
    for file in [log_of(path), path.to_path_buf()] {
        let _ = std::fs::remove_file(file);
    }
}

/// Path of the file's write-ahead log.
pub(super) fn log_of(path: &Path) -> PathBuf {
    with_suffix(path, "-wal")
}

fn directory_of(path: &Path) -> PathBuf {
    path.parent().map(Path::to_path_buf).unwrap_or_default()
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

fn open_file(path: &Path) -> Result<Found, Refusal> {
    // SQLite gives the write-ahead log the permissions of the file.
    files::create_private_directories(&directory_of(path))
        .and_then(|()| files::ensure_private_file(path))
        .map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull => Refusal::Full(error.to_string()),
            _ => Refusal::Unavailable(error.to_string()),
        })?;
    let is_new = std::fs::metadata(path).map_or(true, |file| file.len() == 0);
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    // No other process may write here. SQLite then needs no shared-memory file.
    db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    if is_new {
        db.pragma_update(None, "page_size", PAGE_BYTES as i64)?;
    } else {
        let application: i32 = db.query_row("PRAGMA application_id", [], |row| row.get(0))?;
        let version = tables::version(&db)?;
        if application != APPLICATION_ID {
            return Err(Refusal::Unusable("it is not an outbox".into()));
        }
        if version != VERSION && !OLDER_VERSIONS.contains(&version) {
            return Err(Refusal::Unusable(format!("its version is {version}, not {VERSION}")));
        }
    }
    let mode: String = db.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(Refusal::Unavailable(format!("a write-ahead log is not possible there: {mode}")));
    }
    // The log is reused from its beginning and stays smaller than the reserve, because it must fit into the
    // reserve's space when the disk is full. After a large deletion it is truncated.
    db.pragma_update(None, "wal_autocheckpoint", 128)?;
    db.query_row("PRAGMA journal_size_limit=524288", [], |_| Ok(()))?;
    let result: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if result != "ok" {
        return Err(Refusal::Unusable(result));
    }
    prepare(db, Some(path.to_path_buf()))
}

/// Creates missing tables and reads the contents.
fn prepare(db: Connection, path: Option<PathBuf>) -> Result<Found, Refusal> {
    tables::create(&db, &new_stream(), &boot_id())?;
    let mut meta = tables::read_meta(&db)?;
    let is_sound = (0..meta.next_row).contains(&meta.cursor)
        && meta.last_seqs.values().all(|&seq| seq < meta.next_row as u64);
    if !is_sound {
        return Err(Refusal::Unusable("its sequence numbers do not match its rows".into()));
    }
    // The machine went down while the last process ran. Sequence numbers that were sent may not have reached
    // the disk, and must not be assigned again in the same stream.
    if !meta.clean && meta.boot != boot_id() {
        meta.stream = new_stream();
    }
    let gaps = tables::gaps(&db)?;
    tables::start_session(&db, &meta.stream, &boot_id())?;
    let replay_row = if meta.clean { meta.cursor } else { meta.replay_row };
    let rows = (meta.cursor, replay_row);
    tables::write_meta(&db, rows, false, &meta.last_seqs, &meta.open, meta.next_row)?;
    Ok(Found { db, path, meta, gaps, notes: Vec::new() })
}

fn new_stream() -> String {
    format!("{:016x}", fastrand::u64(..))
}

/// The kernel's id of this boot. Empty if it cannot be read.
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_string()
}
