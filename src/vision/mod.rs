//! What is seen in a frame: pure functions and the state that travels with a camera's frames.
//!
//! No threads, no files, no clock but the frame's own time, so that everything here can be replayed.

pub mod change;
pub mod head;
pub mod health;
pub mod labels;
pub mod luma;
pub mod preprocess;
