//! The bounded queues between the stages. Each has one overflow policy, and every drop is counted.

pub mod frames;
pub mod live;
pub mod messages;
