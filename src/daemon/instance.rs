//! One daemon for each outbox: a second one is refused and told which process is the first.
//!
//! The claim is a lock on a file beside the outbox, `outbox.db.lock`, which holds the number of the process.
//! The system releases the lock when the process ends, however it ends, so the file may stay.

use crate::{
    error::{Error, ErrorKind},
    files::{self, Directory},
};
use std::{
    ffi::OsString,
    fs::{File, TryLockError},
    io::{self, Seek, Write},
    path::Path,
};

/// Maximum length in bytes of what is read of another process.
const MAX_TEXT_BYTES: u64 = 4096;

/// The claim of a running daemon on its outbox. Dropping it releases the outbox for another one.
#[derive(Debug)]
pub struct Instance(#[expect(dead_code, reason = "the lock lasts as long as the file is open")] File);

impl Instance {
    /// Claims the outbox. None if the lock file cannot be created; the outbox then cannot be used either, and
    /// reports why.
    ///
    /// Errors ([`ErrorKind::System`]): another process has claimed it.
    pub fn claim(outbox: &Path) -> Result<Option<Instance>, Error> {
        let mut file = match open(outbox) {
            Ok(file) => file,
            Err(error) => {
                tracing::debug!(outbox = %outbox.display(), %error, "The lock file cannot be opened.");
                return Ok(None);
            }
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let first = files::read_open(&file, MAX_TEXT_BYTES).unwrap_or_default();
                let first = describe(&String::from_utf8_lossy(&first));
                let message = format!(
                    "outbox.file: another camfire uses {}: {first}. Stop it, or give this one another \
                     outbox.file and node.name",
                    outbox.display()
                );
                return Err(Error::new(ErrorKind::System, message));
            }
            // The file system has no locks.
            Err(TryLockError::Error(error)) => {
                tracing::debug!(outbox = %outbox.display(), %error, "The lock file cannot be locked.");
                return Ok(None);
            }
        }
        // Without the number, a second daemon is still refused.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(std::process::id().to_string().as_bytes()));
        Ok(Some(Instance(file)))
    }
}

/// Opens the lock file of an outbox. Creates it and its directory if they are missing.
fn open(outbox: &Path) -> io::Result<File> {
    if let Some(directory) = outbox.parent() {
        files::create_private_directories(directory)?;
    }
    let name = outbox.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let name: OsString = [name, ".lock".as_ref()].into_iter().collect();
    let directory = Directory::open(outbox.parent().unwrap_or(Path::new(".")))?;
    directory.open_or_create_file(Path::new(&name))
}

/// The process of which a lock file holds the number.
fn describe(number: &str) -> String {
    let Ok(number) = number.trim().parse::<u32>() else { return "an unknown process".to_string() };
    let command = files::read_bounded(Path::new(&format!("/proc/{number}/cmdline")), MAX_TEXT_BYTES);
    let command = String::from_utf8_lossy(&command.unwrap_or_default()).replace('\0', " ");
    match command.trim_end() {
        "" => format!("process {number}"),
        command => format!("process {number} ({command})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_claim_is_refused_until_the_first_is_released() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = folder.path().join("state/outbox.db");
        let first = Instance::claim(&outbox).unwrap().unwrap();
        let refused = Instance::claim(&outbox).unwrap_err().to_string();
        let own = format!("process {} (", std::process::id());
        assert!(refused.contains(&own) && refused.contains("outbox.db"), "{refused}");
        assert!(Instance::claim(&folder.path().join("other.db")).unwrap().is_some());
        drop(first);
        assert!(Instance::claim(&outbox).unwrap().is_some());
    }

    #[test]
    fn a_lock_file_that_is_a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (victim, outbox) = (folder.path().join("victim"), folder.path().join("outbox.db"));
        std::fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, folder.path().join("outbox.db.lock")).unwrap();
        assert!(Instance::claim(&outbox).unwrap().is_none());
        assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
    }

    #[test]
    fn a_process_is_described_by_its_command_line() {
        assert!(describe(&std::process::id().to_string()).contains("camfire"));
        assert_eq!(describe("4294967295"), "process 4294967295");
        assert_eq!(describe("x"), "an unknown process");
    }
}
