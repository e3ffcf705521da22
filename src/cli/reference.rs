//! `camfire reference`, a hidden subcommand: prints the reference of all configuration keys, for the
//! documentation and for packages.

use super::output;
use crate::{config::reference, error::Error};
use std::process::ExitCode;

/// Arguments of `camfire reference`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  camfire reference --man > camfire.toml.5")]
pub struct Arguments {
    /// Print the man page camfire.toml(5) instead of docs/configuration.md
    #[arg(long)]
    man: bool,
}

/// Prints the page.
pub fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    let page = if arguments.man { reference::man_page() } else { reference::markdown() };
    output::line!("{}", page.trim_end());
    Ok(ExitCode::SUCCESS)
}
