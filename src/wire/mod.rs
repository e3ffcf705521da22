//! The wire contract: messages, topics, file names and links. Does not depend on any stage.

pub mod derived;
pub mod feed;
pub mod files;
pub mod history;
pub mod initial;
pub mod links;
pub mod live;
pub mod messages;
pub mod topics;
