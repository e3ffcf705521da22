//! Asks on stderr and reads the answers from stdin, a line each. A password that is typed is not shown.

use crate::{
    cli::output,
    error::{Error, ErrorKind},
};
use std::io::{self, BufRead, IsTerminal, Write};

/// Bytes of an answer.
const MAX_ANSWER_BYTES: u64 = 4096;

/// Asks the user, or answers every question with its default.
pub struct Questions {
    /// Nobody is asked.
    pub takes_defaults: bool,
}

impl Questions {
    /// Asks for a text. An empty answer means `default`.
    ///
    /// Errors ([`ErrorKind::Input`]): stdin has ended.
    pub fn text(&self, question: &str, default: &str) -> Result<String, Error> {
        let shown = if default.is_empty() { String::new() } else { format!(" [{default}]") };
        if self.takes_defaults {
            return Ok(default.to_string());
        }
        prompt(&format!("{question}{shown}: "));
        let answer = line()?.trim().to_string();
        Ok(if answer.is_empty() { default.to_string() } else { answer })
    }

    /// Asks for yes or no, until the answer is one of them.
    ///
    /// Errors ([`ErrorKind::Input`]): stdin has ended.
    pub fn is_yes(&self, question: &str, default: bool) -> Result<bool, Error> {
        let shown = if default { "Y/n" } else { "y/N" };
        loop {
            if self.takes_defaults {
                return Ok(default);
            }
            prompt(&format!("{question} [{shown}]: "));
            match line()?.trim().to_lowercase().as_str() {
                "" => return Ok(default),
                "y" | "yes" => return Ok(true),
                "n" | "no" => return Ok(false),
                _ => output::note!("Please answer y or n."),
            }
        }
    }

    /// Asks for a password, which is not shown if stdin is a terminal.
    ///
    /// Errors ([`ErrorKind::Input`]): stdin has ended.
    pub fn password(&self, question: &str) -> Result<String, Error> {
        if self.takes_defaults {
            return Ok(String::new());
        }
        if io::stdin().is_terminal() {
            return rpassword::prompt_password(format!("{question} (not shown): ")).map_err(ended);
        }
        prompt(&format!("{question}: "));
        line()
    }
}

fn prompt(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = write!(stderr, "{text}").and_then(|()| stderr.flush());
}

/// The next line of stdin, without its end.
fn line() -> Result<String, Error> {
    let mut answer = String::new();
    let mut stdin = io::Read::take(io::stdin().lock(), MAX_ANSWER_BYTES);
    match stdin.read_line(&mut answer).map_err(ended)? {
        0 => Err(ended("stdin has ended")),
        _ => Ok(answer.trim_end_matches(['\n', '\r']).to_string()),
    }
}

fn ended(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::caused(
        ErrorKind::Input,
        "no answer (--yes takes the answers in brackets); nothing was written",
        why,
    )
}
