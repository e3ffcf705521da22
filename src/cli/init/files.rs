//! Where the configuration goes, and writing it: nothing that exists is overwritten, the configuration is
//! readable by the service's group, and a password by the service alone.

use crate::{
    cli::accounts::Account,
    error::{Error, ErrorKind},
    files::own_user,
};
use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};

/// Permissions of the configuration.
const CONFIG_MODE: u32 = 0o640;
/// Permissions of a password.
const PASSWORD_MODE: u32 = 0o600;
/// The layer that is written if there is a main file already.
const LAYER: &str = "cameras.toml";

/// Where the configuration is written.
#[derive(Debug, PartialEq)]
pub struct Target {
    /// The main file, which may be missing.
    pub main: PathBuf,
    /// The file to write: the main file, or a layer beside it.
    pub file: PathBuf,
    /// The directory of the main file, where passwords go.
    pub directory: PathBuf,
}

impl Target {
    /// Chooses the file to write: `main` if it does not exist, or else [`LAYER`] in `conf.d` beside it.
    ///
    /// Errors ([`ErrorKind::Input`]): it exists, or there is no `conf.d`; the text says what to do.
    pub fn choose(main: &Path) -> Result<Target, Error> {
        let refuse = |text: String| Err(Error::new(ErrorKind::Input, text));
        let main = std::path::absolute(main)
            .map_err(|error| Error::caused(ErrorKind::Input, main.display().to_string(), error))?;
        let directory = main.parent().unwrap_or(Path::new("/")).to_path_buf();
        let layers = directory.join("conf.d");
        // Also a link to nothing: creating its target is not what the user wants.
        let exists = |path: &Path| fs::symlink_metadata(path).is_ok();
        if !exists(&main) {
            return Ok(Target { file: main.clone(), main, directory });
        }
        if !layers.is_dir() {
            return refuse(format!(
                "{} exists and is not overwritten: create {} with mkdir, and camfire init writes {LAYER} \
                 there; or name another file with --config",
                main.display(),
                layers.display()
            ));
        }
        let file = layers.join(LAYER);
        if exists(&file) {
            return refuse(format!(
                "{} exists and is not overwritten: edit it, or move it away and run camfire init again",
                file.display()
            ));
        }
        Ok(Target { main, file, directory })
    }

    /// Writes the configuration and the passwords. Returns the files. If one of them cannot be written, none
    /// remains.
    ///
    /// Errors ([`ErrorKind::System`]): a file exists or cannot be written.
    pub fn write(
        &self,
        text: &str,
        passwords: &[(String, &str)],
        account: Option<&Account>,
    ) -> Result<Vec<PathBuf>, Error> {
        let mut written = Vec::new();
        match self.write_all(text, passwords, account, &mut written) {
            Ok(()) => Ok(written),
            Err((file, error)) => {
                written.iter().for_each(|file| drop(fs::remove_file(file)));
                let what = format!("{}, nothing was written", file.display());
                Err(Error::caused(ErrorKind::System, what, error))
            }
        }
    }

    fn write_all(
        &self,
        text: &str,
        passwords: &[(String, &str)],
        account: Option<&Account>,
        written: &mut Vec<PathBuf>,
    ) -> Result<(), (PathBuf, io::Error)> {
        let passwords = passwords
            .iter()
            .map(|(name, password)| (self.directory.join(name), format!("{password}\n"), true));
        // The configuration last: it names the others.
        for (file, text, is_password) in passwords.chain([(self.file.clone(), text.to_string(), false)]) {
            let mode = if is_password { PASSWORD_MODE } else { CONFIG_MODE };
            let owner = account.filter(|_| own_user() == 0).map(|account| match is_password {
                true => (account.uid, account.gid),
                false => (0, account.gid),
            });
            create(&file, mode).map_err(|error| (file.clone(), error)).and_then(|opened| {
                written.push(file.clone());
                fill(opened, &text, mode, owner).map_err(|error| (file, error))
            })?;
        }
        Ok(())
    }
}

/// Creates a file that does not exist, private until it is filled.
fn create(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(mode & PASSWORD_MODE).open(path)
}

fn fill(mut file: File, text: &str, mode: u32, owner: Option<(u32, u32)>) -> io::Result<()> {
    if let Some((uid, gid)) = owner {
        fchown(&file, Some(uid), Some(gid))?;
    }
    // Whatever the umask.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, os::unix::fs::MetadataExt};

    #[test]
    fn nothing_that_exists_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("camfire.toml");
        let first = Target::choose(&main).unwrap();
        assert_eq!(first.file, main);
        fs::write(&main, "").unwrap();
        let refused = Target::choose(&main).unwrap_err().to_string();
        assert!(refused.contains("camfire.toml exists and is not overwritten: create "), "{refused}");
        fs::create_dir(folder.path().join("conf.d")).unwrap();
        let second = Target::choose(&main).unwrap();
        assert_eq!(second.file, folder.path().join("conf.d/cameras.toml"));
        // Somebody else was faster.
        std::os::unix::fs::symlink("/nonexistent", &second.file).unwrap();
        let error = second.write("a", &[("p".into(), "secret")], None).unwrap_err().to_string();
        assert!(error.contains("cameras.toml, nothing was written: ") && error.contains("exists"), "{error}");
        assert!(!folder.path().join("p").exists(), "the password is removed again");
        assert!(Target::choose(&main).unwrap_err().to_string().contains("cameras.toml exists"));
    }

    #[test]
    fn files_are_readable_by_the_service_only() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::choose(&folder.path().join("camfire.toml")).unwrap();
        let account = Account { uid: 60000, gid: 60001, gids: BTreeSet::from([60001]) };
        let files = target.write("text", &[("p".into(), "secret")], Some(&account)).unwrap();
        let found: Vec<_> = files
            .iter()
            .map(|file| (fs::read_to_string(file).unwrap(), fs::metadata(file).unwrap()))
            .map(|(text, file)| (text, file.mode() & 0o7777, file.uid(), file.gid()))
            .collect();
        assert_eq!((found[0].0.as_str(), found[0].1), ("secret\n", 0o600));
        assert_eq!((found[1].0.as_str(), found[1].1), ("text", 0o640));
        if own_user() == 0 {
            assert_eq!((found[0].2, found[0].3, found[1].2, found[1].3), (60000, 60001, 0, 60001));
        }
    }
}
