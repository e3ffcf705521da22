//! The wire contract: messages, topics and file names. Does not depend on any stage.

pub mod files;
pub mod messages;
pub mod topics;
