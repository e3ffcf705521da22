//! The command line: one file a subcommand, and what they share.
//!
//! Results go to stdout, everything else to stderr. Exit status: 0 done, 1 failed, 2 wrong input, 128 and its number after a
//! signal that ended it before it was done.

pub mod analyze;
mod annotate;
pub mod bench;
pub mod check;
pub mod classify;
pub mod demo;
pub mod doctor;
mod output;
pub mod run;
mod setup;
pub mod simulate;
pub mod snapshot;
mod truth;
pub mod watch;
