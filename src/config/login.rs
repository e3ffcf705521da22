//! User and password: from keys, a file, systemd's credentials or an address, and never from two of them.
//!
//! What is read here goes into a [`Login`] and nowhere else: problems name the file, not what is in it.

use super::{
    Login,
    rules::{Rules, given},
    source::UrlLogin,
};
use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

/// The three keys, as typed.
pub(super) struct Typed {
    pub(super) user: String,
    pub(super) password: String,
    pub(super) password_file: String,
}

/// The login of `section`, if there is one. `credential` is its password's name among the credentials.
pub(super) fn choose(
    rules: &mut Rules<'_>,
    section: &str,
    typed: Typed,
    from_url: Option<UrlLogin>,
    credential: &str,
) -> Option<Login> {
    let key = |name: &str| format!("{section}.{name}");
    if ["user", "password", "password_file"].iter().any(|name| rules.is_broken(&key(name))) {
        return None;
    }
    let (user, password, file) = (given(typed.user), given(typed.password), given(typed.password_file));
    let keys =
        [("user", user.is_some()), ("password", password.is_some()), ("password_file", file.is_some())];
    if from_url.is_some() {
        for (name, _) in keys.iter().filter(|(_, is_given)| *is_given) {
            rules.problem(
                &key(name),
                "is given while the source has a user in it; take that one out of the address",
            );
        }
        if keys.iter().any(|(_, is_given)| *is_given) {
            return None;
        }
        if from_url.as_ref().is_some_and(|login| login.password.is_some()) {
            rules.warn(
                &key("source"),
                "a password in an address is easily passed on; user and password_file are better",
            );
        }
    }
    let (user, password) = match from_url {
        Some(login) => (Some(login.user), login.password),
        None => (user, password),
    };
    // Where the password is, to name it when its user is missing.
    let (password, origin) = match (password, file) {
        (Some(_), Some(_)) => {
            rules.problem(
                &key("password_file"),
                format!("is given together with {section}.password; keep one of them"),
            );
            return None;
        }
        (Some(password), None) => (Some(password), key("password")),
        (None, Some(file)) => {
            (password_file(rules, &key("password_file"), Path::new(&file)), key("password_file"))
        }
        (None, None) => {
            let path = rules.machine.credentials.map(|directory| directory.join(credential));
            let password = path.as_deref().and_then(|path| credential_file(rules, &key("user"), path));
            if let (None, Some(_), Some(path)) = (&user, &password, &path) {
                rules.problem(&key("user"), format!("is needed with the password in {}", path.display()));
                return None;
            }
            (password, key("password"))
        }
    };
    match (user, password) {
        (Some(user), password) => Some(Login { user, password: password.unwrap_or_default() }),
        (None, Some(_)) => {
            rules.problem(&origin, format!("needs {section}.user as well"));
            None
        }
        (None, None) => None,
    }
}

fn password_file(rules: &mut Rules<'_>, key: &str, path: &Path) -> Option<String> {
    match read(path) {
        Ok(password) => {
            let is_open = fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0);
            if is_open {
                rules.warn(
                    key,
                    "this file can be read by everyone on this machine; chmod o-r would keep it secret",
                );
            }
            Some(password)
        }
        Err(error) => {
            rules.problem(key, format!("cannot be read: {error}"));
            None
        }
    }
}

fn credential_file(rules: &mut Rules<'_>, key: &str, path: &Path) -> Option<String> {
    match read(path) {
        Ok(password) => Some(password),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            rules.problem(
                key,
                format!("has its password in {}, which cannot be read: {error}", path.display()),
            );
            None
        }
    }
}

/// The password in a file, without the newline that editors and `echo` leave behind it.
fn read(path: &Path) -> io::Result<String> {
    let text = fs::read_to_string(path)?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    Ok(password.strip_suffix('\r').unwrap_or(password).to_string())
}
