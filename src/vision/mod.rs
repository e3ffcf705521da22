//! What is seen in a frame: pure functions and the state that travels with a camera's frames.
//!
//! [`scene`] is the way in: a camera's memory, and what it makes of a frame. Where something is comes from [`motion`] (the
//! small picture of [`luma`] against the [`background`], connected to [`blobs`]); which of it is the same thing as before
//! from [`tracks`] (with [`patch`]es of how things looked); what it is from looks through the network, [`head`]s and
//! [`groups`], and all looks together from a [`verdict`]; what is worth telling from [`events`] and [`regions`].
//!
//! No threads, no files, no clock but the frame's own time, so that everything here can be replayed.

pub mod background;
pub mod blobs;
pub mod change;
pub mod events;
pub mod groups;
pub mod head;
pub mod health;
pub mod label_accumulator;
pub mod labels;
pub mod luma;
pub mod motion;
pub mod patch;
pub mod picture;
pub mod preprocess;
pub mod rect;
pub mod regions;
pub mod scene;
pub mod tracks;
