//! The secret of the links to pictures: a file, so that links outlive the process. It is made when links are
//! first needed.

use crate::{config::web_passwords, files, wire::links::LinkSecret};
use std::{io, path::Path};

/// Maximum size of the file that is read.
const MAX_BYTES: u64 = 4096;

/// Reads the secret. Makes a new one if there is none yet, or if it is damaged.
///
/// A file that cannot be read or written is a warning: the secret is then one of this process alone.
pub(super) fn open(file: Option<&Path>) -> LinkSecret {
    let opened = match file {
        Some(file) => read_or_create(file),
        None => Err(io::Error::other("there is no $STATE_DIRECTORY and no outbox.file")),
    };
    opened.unwrap_or_else(|error| {
        let file = file.map(|file| file.display().to_string()).unwrap_or_default();
        tracing::warn!(file, %error, "Links to pictures are valid only until camfire stops.");
        LinkSecret(web_passwords::new_secret())
    })
}

fn read_or_create(file: &Path) -> io::Result<LinkSecret> {
    let fresh = web_passwords::new_secret();
    match files::read_bounded(file, MAX_BYTES) {
        Ok(bytes) => {
            let is_whole = bytes.len() == fresh.len() && bytes.iter().all(u8::is_ascii_hexdigit);
            match String::from_utf8(bytes).ok().filter(|_| is_whole) {
                Some(secret) => return Ok(LinkSecret(secret)),
                None => tracing::warn!(
                    file = %file.display(),
                    "The secret of the links is damaged; earlier links to pictures are invalid."
                ),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    files::replace_durably(file, fresh.as_bytes(), |_| Ok(()))?;
    Ok(LinkSecret(fresh))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    #[test]
    fn a_secret_lasts_unless_it_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state/link.key");
        let first = open(Some(&file)).0;
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(open(Some(&file)).0, first);
        fs::write(&file, "damaged").unwrap();
        let second = open(Some(&file)).0;
        assert_ne!(second, first);
        assert_eq!(open(Some(&file)).0, second);
        assert_ne!(open(None).0, open(None).0, "of this process alone");
        // What cannot be read is not replaced.
        let other = folder.path().join("folder");
        fs::create_dir(&other).unwrap();
        assert_ne!(open(Some(&other)).0, open(Some(&other)).0);
        assert!(other.is_dir());
    }
}
