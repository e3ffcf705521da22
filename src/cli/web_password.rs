//! `camfire web-password`: sets and removes the passwords and tokens of the web server.

use super::{accounts::Account, output};
use crate::{
    config::{
        MAIN_FILE, read_password,
        web_passwords::{MAX_PASSWORD_BYTES, Role, WebPasswords, new_secret},
    },
    error::{Error, ErrorKind},
    files::{self, own_user},
};
use std::{
    fs::Permissions,
    io::{self, BufRead, IsTerminal, Read},
    os::unix::fs::{PermissionsExt, fchown},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Permissions of the file: the service's group reads it.
const MODE: u32 = 0o640;

/// Arguments of `camfire web-password`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  sudo camfire web-password\n  sudo camfire web-password --role viewer\n  sudo camfire web-password --token grafana --role viewer\n  sudo camfire web-password --remove-password viewer"
)]
pub struct Arguments {
    /// The file to write [default: /etc/camfire/web-passwords]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// What the password or token permits: admin or viewer, who changes nothing
    #[arg(long, value_name = "ROLE", default_value = "admin", value_parser = role)]
    role: Role,
    /// Make a token for a program, print it, and store its hash under this name
    #[arg(long, value_name = "NAME")]
    token: Option<String>,
    /// Remove a program's token
    #[arg(long, value_name = "NAME", conflicts_with_all = ["token", "role"])]
    remove_token: Option<String>,
    /// Remove the password of a role: admin or viewer
    #[arg(long, value_name = "ROLE", conflicts_with_all = ["token", "role", "remove_token"], value_parser = role)]
    remove_password: Option<Role>,
}

fn role(name: &str) -> Result<Role, String> {
    Role::of_name(name).ok_or_else(|| "must be admin or viewer".to_string())
}

/// Changes the file. The password is asked for, or read from stdin if that is no terminal.
pub fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    let file = arguments.file.unwrap_or_else(|| Path::new(MAIN_FILE).with_file_name("web-passwords"));
    let invalid = |text: String| Error::new(ErrorKind::Input, text);
    let mut passwords = match read_password(&file) {
        Ok(text) => {
            WebPasswords::parse(&text).map_err(|rule| invalid(format!("{}: {rule}", file.display())))?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => WebPasswords::default(),
        Err(error) => return Err(Error::caused(ErrorKind::Input, file.display().to_string(), error)),
    };
    let mut token = None;
    if let Some(name) = &arguments.remove_token {
        if !passwords.remove_token(name) {
            return Err(invalid(format!("{}: there is no token '{name}'", file.display())));
        }
    } else if let Some(role) = arguments.remove_password {
        if !passwords.remove_password(role) {
            return Err(invalid(format!("{}: there is no password of the {}", file.display(), role.name())));
        }
    } else if let Some(name) = &arguments.token {
        let made = new_secret();
        passwords.set_token(name, arguments.role, &made).map_err(invalid)?;
        token = Some(made);
    } else {
        passwords.set_password(arguments.role, &ask(arguments.role)?).map_err(invalid)?;
    }
    write(&file, &passwords.to_text())
        .map_err(|error| Error::caused(ErrorKind::System, file.display().to_string(), error))?;
    if let Some(token) = token {
        output::line!("{token}");
        output::note!(
            "This is the only time that the token is shown. Send it as 'Authorization: Bearer TOKEN'."
        );
    }
    if passwords.is_empty() {
        output::note!(
            "{} has no password and no token any more, and is refused until one is set or web.password_file and \
             the file are removed.",
            file.display()
        );
        return Ok(ExitCode::SUCCESS);
    }
    output::note!(
        "Wrote {}. The web server uses it after a reload, if the configuration has",
        file.display()
    );
    output::note!("  [web]\n  password_file = \"{}\"", file.display());
    Ok(ExitCode::SUCCESS)
}

fn ask(role: Role) -> Result<String, Error> {
    let ended = |error| Error::caused(ErrorKind::Input, "no password was given", error);
    if io::stdin().is_terminal() {
        let prompt = |text: String| rpassword::prompt_password(text).map_err(ended);
        let first = prompt(format!("Password of the {} (not shown): ", role.name()))?;
        if first != prompt("The same again: ".to_string())? {
            return Err(Error::new(ErrorKind::Input, "the two passwords differ; nothing was changed"));
        }
        return Ok(first);
    }
    let mut line = String::new();
    io::stdin().lock().take(2 * MAX_PASSWORD_BYTES as u64).read_line(&mut line).map_err(ended)?;
    Ok(line.trim_end_matches(['\n', '\r']).to_string())
}

/// Replaces the file, readable by its owner and, if root writes it, by the service.
fn write(path: &Path, text: &str) -> io::Result<()> {
    files::replace_durably(path, text.as_bytes(), |file| {
        if own_user() == 0 {
            let group = Account::of_service(Path::new("/")).map(|account| account.gid);
            fchown(file, Some(0), group)?;
        }
        file.set_permissions(Permissions::from_mode(MODE))
    })
}
