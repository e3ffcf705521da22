//! The wire contract: messages, topics and file names. Does not depend on any stage.

pub mod derived;
pub mod feed;
pub mod files;
pub mod history;
pub mod initial;
pub mod live;
pub mod messages;
pub mod topics;
