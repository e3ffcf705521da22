//! The wire contract: messages, topics and file names. Does not depend on any stage.

pub mod derived;
pub mod files;
pub mod initial;
pub mod messages;
pub mod topics;
