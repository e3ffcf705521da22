//! The error type of the daemon. Its kind determines the exit code.

use std::fmt;

/// The kind of an error, as far as code reacts to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Invalid input from the user: configuration, arguments, model or labels.
    Input,
    /// A camera delivers no frames.
    Source,
    /// The system failed.
    System,
}

/// An error message for the user, its kind and its cause.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// Creates an error without a cause.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into(), cause: None }
    }

    /// Creates an error with a cause.
    pub fn caused(
        kind: ErrorKind,
        message: impl Into<String>,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        Error { kind, message: message.into(), cause: Some(cause.into()) }
    }

    /// The process's exit code: 2 for invalid input, 1 for all other errors.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            ErrorKind::Input => 2,
            ErrorKind::Source | ErrorKind::System => 1,
        }
    }
}

impl fmt::Display for Error {
    /// Writes the whole chain on one line: the message, then each cause.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let mut cause = self.cause.as_deref().map(|c| c as &dyn std::error::Error);
        while let Some(deeper) = cause {
            write!(f, ": {deeper}")?;
            cause = deeper.source();
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
