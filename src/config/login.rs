//! User name and password: from keys, a file, systemd's credentials or a URL, but only from one of them.
//!
//! A password that is read here is put into a [`Login`] and nowhere else: problems name the file, not its
//! contents.

use super::{layers::Layers, raw::non_empty, source::UrlLogin, types::Login};
use crate::files;
use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

/// Maximum size of a file with a password.
const MAX_PASSWORD_BYTES: u64 = 64 << 10;

/// The three keys of a login, as written.
pub(super) struct LoginKeys {
    pub(super) user: String,
    pub(super) password: String,
    pub(super) password_file: String,
}

/// Returns the login of `section`, if it has one. `credential` is the file that systemd passes its password
/// in. Problems are added to `layers`.
pub(super) fn read(
    layers: &mut Layers,
    section: &str,
    keys: LoginKeys,
    from_url: Option<UrlLogin>,
    credential: Option<&Path>,
) -> Option<Login> {
    let key = |name: &str| format!("{section}.{name}");
    if ["user", "password", "password_file"].iter().any(|name| layers.is_broken(&key(name))) {
        return None;
    }
    let (user, password, file) =
        (non_empty(keys.user), non_empty(keys.password), non_empty(keys.password_file));
    let keys =
        [("user", user.is_some()), ("password", password.is_some()), ("password_file", file.is_some())];
    if from_url.is_some() {
        for (name, _) in keys.iter().filter(|(_, is_set)| *is_set) {
            layers.add_problem(
                &key(name),
                "is set, but the source contains a user name as well; remove it from the URL",
            );
        }
        if keys.iter().any(|(_, is_set)| *is_set) {
            return None;
        }
        if from_url.as_ref().is_some_and(|login| login.password.is_some()) {
            layers.add_warning(
                &key("source"),
                "a URL with a password is easily shared; use user and password_file instead",
            );
        }
    }
    let (user, password) = match from_url {
        Some(login) => (Some(login.user), login.password),
        None => (user, password),
    };
    // The origin is the key to report if the user name is missing.
    let (password, origin) = match (password, file) {
        (Some(_), Some(_)) => {
            layers.add_problem(
                &key("password_file"),
                format!("is set, but {section}.password is as well; keep one of them"),
            );
            return None;
        }
        (Some(password), None) => (Some(password), key("password")),
        (None, Some(file)) => {
            (password_file(layers, &key("password_file"), Path::new(&file)), key("password_file"))
        }
        (None, None) => {
            let password = credential.and_then(|path| credential_file(layers, &key("user"), path));
            if let (None, Some(_), Some(path)) = (&user, &password, credential) {
                let rule = format!("is required, because there is a password in {}", path.display());
                layers.add_problem(&key("user"), rule);
                return None;
            }
            (password, key("password"))
        }
    };
    match (user, password) {
        (Some(user), password) => Some(Login { user, password: password.unwrap_or_default() }),
        (None, Some(_)) => {
            layers.add_problem(&origin, format!("requires {section}.user"));
            None
        }
        (None, None) => None,
    }
}

fn password_file(layers: &mut Layers, key: &str, path: &Path) -> Option<String> {
    match read_password(path) {
        Ok(password) => {
            let is_open = fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0);
            if is_open {
                layers.add_warning(
                    key,
                    "this file is readable by all users of this machine; run chmod o-r on it",
                );
            }
            Some(password)
        }
        Err(error) => {
            layers.add_problem(key, format!("cannot be read: {error}"));
            None
        }
    }
}

fn credential_file(layers: &mut Layers, key: &str, path: &Path) -> Option<String> {
    match read_password(path) {
        Ok(password) => Some(password),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            layers.add_problem(key, format!("the password in {} cannot be read: {error}", path.display()));
            None
        }
    }
}

/// Reads the password in a file, without the newline that editors and `echo` append.
pub fn read_password(path: &Path) -> io::Result<String> {
    // Not only regular files: a shell passes the output of a program as a pipe.
    let bytes = files::read_open(&fs::File::open(path)?, MAX_PASSWORD_BYTES)?;
    let text = String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8"))?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    Ok(password.strip_suffix('\r').unwrap_or(password).to_string())
}
