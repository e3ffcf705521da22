//! The command line: one file or folder per subcommand, and what they share.
//!
//! Results go to stdout, everything else to stderr. Exit status: 0 done, 1 failed, 2 invalid input, 128 plus
//! the signal number if a signal ended the command early.

mod accounts;
pub mod analyze;
mod annotate;
pub mod bench;
mod bounded;
mod burnt_in;
pub mod check;
pub mod classify;
pub mod demo;
pub mod detect;
pub mod doctor;
pub mod generate;
pub mod init;
mod journal;
mod local_cameras;
mod log;
mod machine_files;
pub mod output;
mod photo;
mod recent_warnings;
pub mod run;
mod setup;
pub mod simulate;
pub mod snapshot;
mod stream_urls;
mod truth;
pub mod watch;
pub mod web_password;
