//! The outbox's file: opened, made, judged, and set aside where it is no good. The only code that knows its tables.

use super::Gap;
use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

/// Small, for each commit writes whole pages: with 2 KiB an event and its neighbour fit, and an SD card gets half of what
/// the usual 4 KiB would cost it.
pub(super) const PAGE_BYTES: u64 = 2048;
/// "camf", so that another program's database is not taken for ours.
const APPLICATION_ID: i32 = 0x6361_6d66;
/// Of the tables below.
const VERSION: i32 = 1;
const TABLES: &str = "
    CREATE TABLE message (
        row INTEGER PRIMARY KEY, camera TEXT NOT NULL, seq INTEGER NOT NULL, at_ms INTEGER NOT NULL,
        topic TEXT NOT NULL, retained INTEGER NOT NULL, payload BLOB NOT NULL);
    CREATE TABLE gap (
        camera TEXT PRIMARY KEY, first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL, count INTEGER NOT NULL,
        from_ms INTEGER NOT NULL, to_ms INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE memory (topic TEXT PRIMARY KEY, payload BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE meta (
        only INTEGER PRIMARY KEY CHECK (only = 0), stream TEXT NOT NULL, cursor INTEGER NOT NULL, clean INTEGER NOT NULL,
        next_row INTEGER NOT NULL, numbers TEXT NOT NULL, boot TEXT NOT NULL);";

/// What a file says of itself.
pub(super) struct Meta {
    pub(super) stream: String,
    pub(super) cursor: i64,
    /// It was closed in order.
    pub(super) clean: bool,
}

/// An outbox's contents as they were found.
pub(super) struct Found {
    pub(super) db: Connection,
    /// None in memory.
    pub(super) path: Option<PathBuf>,
    pub(super) meta: Meta,
    pub(super) numbers: BTreeMap<String, u64>,
    pub(super) next_row: i64,
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
    let is_made =
        db.query_row("SELECT 1 FROM sqlite_master WHERE name = 'meta'", [], |_| Ok(())).optional()?.is_some();
    if !is_made {
        let transaction = db.unchecked_transaction()?;
        transaction.execute_batch(TABLES)?;
        transaction.execute(
            "INSERT INTO meta (only, stream, cursor, clean, next_row, numbers, boot) VALUES (0, ?, 0, 1, 1, '{}', ?)",
            [new_stream(), boot()],
        )?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
        transaction.commit()?;
    }
    let (mut meta, known_row, numbers, last_boot): (Meta, i64, String, String) =
        db.query_row("SELECT stream, cursor, clean, next_row, numbers, boot FROM meta", [], |row| {
            let meta = Meta { stream: row.get(0)?, cursor: row.get(1)?, clean: row.get(2)? };
            Ok((meta, row.get(3)?, row.get(4)?, row.get(5)?))
        })?;
    // The machine went down under the last process: numbers that went out may not have reached the disk, and must not be
    // given again in the same stream.
    if !meta.clean && last_boot != boot() {
        meta.stream = new_stream();
    }
    let mut numbers: BTreeMap<String, u64> =
        serde_json::from_str(&numbers).map_err(|error| Refusal::NoGood(error.to_string()))?;
    let mut next_row = known_row;
    {
        // What came after the numbers were last written.
        let mut query = db.prepare("SELECT row, camera, seq FROM message WHERE row >= ? ORDER BY row")?;
        let mut rows = query.query([known_row])?;
        while let Some(row) = rows.next()? {
            let (number, camera, seq): (i64, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            next_row = number + 1;
            let last = numbers.entry(camera).or_default();
            *last = (*last).max(seq as u64);
        }
    }
    let gaps = {
        let mut query = db.prepare("SELECT camera, first_seq, last_seq, count, from_ms, to_ms FROM gap")?;
        let gaps = query.query_map([], to_gap)?.collect::<rusqlite::Result<Vec<Gap>>>()?;
        gaps.into_iter().map(|gap| (gap.camera.clone(), gap)).collect()
    };
    db.execute("UPDATE meta SET stream = ?, boot = ?", [&meta.stream, &boot()])?;
    write_meta(&db, meta.cursor, false, &numbers, next_row)?;
    Ok(Found { db, path, meta, numbers, next_row, gaps, notes: Vec::new() })
}

fn new_stream() -> String {
    format!("{:016x}", fastrand::u64(..))
}

/// Which run of the machine this is; the same always where the kernel does not say.
fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_string()
}

/// Writes what is not in the rows themselves.
pub(super) fn write_meta(
    db: &Connection,
    cursor: i64,
    clean: bool,
    numbers: &BTreeMap<String, u64>,
    next_row: i64,
) -> rusqlite::Result<()> {
    let numbers = serde_json::to_string(numbers).expect("names and numbers");
    db.prepare_cached("UPDATE meta SET cursor = ?, clean = ?, next_row = ?, numbers = ?")?
        .execute(params![cursor, clean, next_row, numbers])
        .map(drop)
}

/// A gap of a row that holds its fields in their order.
pub(super) fn to_gap(row: &rusqlite::Row<'_>) -> rusqlite::Result<Gap> {
    Ok(Gap {
        camera: row.get(0)?,
        first_seq: row.get::<_, i64>(1)? as u64,
        last_seq: row.get::<_, i64>(2)? as u64,
        count: row.get::<_, i64>(3)? as u64,
        from_ms: row.get(4)?,
        to_ms: row.get(5)?,
    })
}

/// Writes a camera's gap in place of the one before.
pub(super) fn write_gap(db: &Connection, gap: &Gap) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT OR REPLACE INTO gap (camera, first_seq, last_seq, count, from_ms, to_ms) VALUES (?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![gap.camera, gap.first_seq as i64, gap.last_seq as i64, gap.count as i64, gap.from_ms, gap.to_ms])
    .map(drop)
}

/// See [`super::Outbox::remembered`].
pub(super) fn remembered(db: &Connection) -> rusqlite::Result<BTreeMap<String, Vec<u8>>> {
    let mut query = db.prepare("SELECT topic, payload FROM memory")?;
    query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// See [`super::Outbox::remember`].
pub(super) fn remember(db: &Connection, texts: &BTreeMap<String, Vec<u8>>) -> rusqlite::Result<()> {
    let transaction = db.unchecked_transaction()?;
    transaction.execute("DELETE FROM memory", [])?;
    for (topic, payload) in texts {
        transaction.execute("INSERT INTO memory (topic, payload) VALUES (?, ?)", params![topic, payload])?;
    }
    transaction.commit()
}
