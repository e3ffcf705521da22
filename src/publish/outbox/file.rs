//! The outbox's file: opened, made, judged, and set aside where it is no good; and its reserve of room.

use super::{
    Gap,
    tables::{self, APPLICATION_ID, Meta, VERSION},
};
use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

/// Small, for each commit writes whole pages: with 2 KiB an event and its neighbour fit, and an SD card gets half of what
/// the usual 4 KiB would cost it.
pub(super) const PAGE_BYTES: u64 = 2048;
/// An outbox's contents as they were found.
pub(super) struct Found {
    pub(super) db: Connection,
    /// None in memory.
    pub(super) path: Option<PathBuf>,
    pub(super) meta: Meta,
    pub(super) gaps: BTreeMap<String, Gap>,
    pub(super) notes: Vec<String>,
}

/// Why a file cannot be used.
enum Refusal {
    /// It is no good: another one may take its place.
    NoGood(String),
    /// It may be good, but cannot be used now.
    NotNow(String),
    /// Its disk has no room.
    Full(String),
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Refusal {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Refusal::NotNow("another process uses it".into())
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::SchemaChanged) => {
                Refusal::NoGood(error.to_string())
            }
            Some(ErrorCode::DiskFull) => Refusal::Full(error.to_string()),
            // A missing table or column.
            Some(ErrorCode::Unknown) | None => Refusal::NoGood(error.to_string()),
            Some(_) => Refusal::NotNow(error.to_string()),
        }
    }
}

/// Opens the outbox at `path`. One that is no good is set aside and a fresh one begun; where neither can be had, it is in
/// memory.
pub(super) fn open(path: Option<&Path>, now: Timestamp) -> Found {
    let mut notes = Vec::new();
    let lost_at_the_end = "what waits for the broker is lost when camfire ends";
    match path {
        None => notes.push(format!("No outbox.file and no $STATE_DIRECTORY: {lost_at_the_end}.")),
        Some(path) => {
            let mut outcome = open_file(path);
            if let Err(Refusal::Full(_)) = &outcome {
                spend_reserve(path);
                outcome = open_file(path);
            }
            if let Err(Refusal::NoGood(why)) = &outcome {
                notes.push(set_aside(path, now, why));
                outcome = open_file(path);
            }
            match outcome {
                Ok(found) => return Found { notes, ..found },
                Err(Refusal::NoGood(why) | Refusal::NotNow(why) | Refusal::Full(why)) => {
                    notes.push(format!(
                        "Outbox {} cannot be used ({why}): {lost_at_the_end}.",
                        path.display()
                    ));
                }
            }
        }
    }
    let memory = Connection::open_in_memory().map_err(Refusal::from).and_then(|db| {
        db.pragma_update(None, "page_size", PAGE_BYTES as i64)?;
        prepare(db, None)
    });
    let found = memory.unwrap_or_else(|_| unreachable!("a database in memory needs nothing but memory"));
    Found { notes, ..found }
}

/// Renames a file that is no good, with its log, and says so.
pub(super) fn set_aside(path: &Path, now: Timestamp, why: &str) -> String {
    let aside = with_suffix(path, &format!(".bad-{}", now.strftime("%Y%m%dT%H%M%S")));
    let log = log_of(path);
    if log.exists() {
        let _ = std::fs::rename(&log, with_suffix(&aside, "-wal"));
    }
    match std::fs::rename(path, &aside) {
        Ok(()) => format!(
            "Outbox {} is no good ({why}): it is set aside as {}, and a fresh one is begun.",
            path.display(),
            aside.display()
        ),
        Err(error) => {
            format!("Outbox {} is no good ({why}) and cannot be set aside: {error}.", path.display())
        }
    }
}

/// Room that is kept for the day when the disk is full, for making room there needs some.
const RESERVE: &[u8] = &[0x5a; 512 << 10];

fn reserve_of(path: &Path) -> PathBuf {
    with_suffix(path, "-reserve")
}

/// Sees to it that there is a reserve; false where the disk has no room for one.
pub(super) fn keep_reserve(path: &Path) -> bool {
    let reserve = reserve_of(path);
    if std::fs::metadata(&reserve).is_ok_and(|file| file.len() == RESERVE.len() as u64) {
        return true;
    }
    let is_kept = std::fs::write(&reserve, RESERVE).is_ok();
    if !is_kept {
        spend_reserve(path);
    }
    is_kept
}

/// Gives the reserve up.
pub(super) fn spend_reserve(path: &Path) {
    let _ = std::fs::remove_file(reserve_of(path));
}

/// The file's write-ahead log.
pub(super) fn log_of(path: &Path) -> PathBuf {
    with_suffix(path, "-wal")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

fn open_file(path: &Path) -> Result<Found, Refusal> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| Refusal::NotNow(error.to_string()))?;
    }
    let is_new = std::fs::metadata(path).map_or(true, |file| file.len() == 0);
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    // Nobody else is to write here, and SQLite needs no shared memory file then.
    db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    if is_new {
        db.pragma_update(None, "page_size", PAGE_BYTES as i64)?;
    } else {
        let application: i32 = db.query_row("PRAGMA application_id", [], |row| row.get(0))?;
        let version: i32 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if application != APPLICATION_ID {
            return Err(Refusal::NoGood("it is not an outbox".into()));
        }
        if version != VERSION {
            return Err(Refusal::NoGood(format!("its version is {version}, not {VERSION}")));
        }
    }
    let mode: String = db.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(Refusal::NotNow(format!("its file system has no room for a write-ahead log: {mode}")));
    }
    // The log is used again from its beginning, and stays shorter than the reserve, which it must fit into when the disk is
    // full; after a large cut it gives its room back.
    db.pragma_update(None, "wal_autocheckpoint", 128)?;
    db.query_row("PRAGMA journal_size_limit=524288", [], |_| Ok(()))?;
    let verdict: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(Refusal::NoGood(verdict));
    }
    prepare(db, Some(path.to_path_buf()))
}

/// Makes the tables where there are none, and reads what is in them.
fn prepare(db: Connection, path: Option<PathBuf>) -> Result<Found, Refusal> {
    tables::create(&db, &new_stream(), &boot())?;
    let mut meta = tables::read_meta(&db)?;
    let is_sound = (0..meta.next_row).contains(&meta.cursor)
        && meta.numbers.values().all(|&number| number < meta.next_row as u64);
    if !is_sound {
        return Err(Refusal::NoGood("its numbers do not fit its rows".into()));
    }
    // The machine went down under the last process: numbers that went out may not have reached the disk, and must not be
    // given again in the same stream.
    if !meta.clean && meta.boot != boot() {
        meta.stream = new_stream();
    }
    let gaps = tables::gaps(&db)?;
    tables::take_over(&db, &meta.stream, &boot())?;
    let replay_row = if meta.clean { meta.cursor } else { meta.replay_row };
    tables::write_meta(&db, (meta.cursor, replay_row), false, &meta.numbers, meta.next_row)?;
    Ok(Found { db, path, meta, gaps, notes: Vec::new() })
}

fn new_stream() -> String {
    format!("{:016x}", fastrand::u64(..))
}

/// Which run of the machine this is; the same always where the kernel does not say.
fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_string()
}
