//! `camfire generate`, a hidden subcommand: writes what follows from the definitions of the command line and
//! of the configuration, for packages and for docs/.

use crate::{
    config::reference,
    error::{Error, ErrorKind},
};
use clap_complete::Shell;
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Name of the command that the files are for.
const COMMAND: &str = "camfire";

/// Arguments of `camfire generate`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  camfire generate build/generated")]
pub struct Arguments {
    /// Folder for the files: man/*, completions/* and configuration.md
    folder: PathBuf,
}

/// Writes a man page for `camfire`, for each visible subcommand of `command` and for the configuration,
/// completions for bash, zsh and fish, and the reference of all configuration keys.
pub fn run(arguments: Arguments, command: clap::Command) -> Result<ExitCode, Error> {
    let folder = arguments.folder;
    write(&folder, command)
        .map_err(|error| Error::caused(ErrorKind::System, folder.display().to_string(), error))?;
    Ok(ExitCode::SUCCESS)
}

fn write(folder: &Path, command: clap::Command) -> io::Result<()> {
    let (man, completions) = (folder.join("man"), folder.join("completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;
    // Hidden subcommands are not for users, and clap_complete would offer them.
    let mut visible = clap::Command::new(COMMAND)
        .version(env!("CARGO_PKG_VERSION"))
        .about(command.get_about().cloned().unwrap_or_default());
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        visible = visible.subcommand(subcommand.clone());
    }
    clap_mangen::generate_to(visible.clone(), &man)?;
    fs::write(man.join("camfire.toml.5"), reference::man_page())?;
    fs::write(folder.join("configuration.md"), reference::markdown())?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut visible, COMMAND, &completions)?;
    }
    Ok(())
}
