//! The contract with the outside: messages, topics and file names. Knows no stage.

pub mod files;
pub mod messages;
pub mod topics;
