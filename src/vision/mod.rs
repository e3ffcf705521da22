//! Vision: what a camera's frames show. Pure functions and the state that travels with the frames.
//!
//! [`scene`] is the entry point: one camera's state and the analysis of a frame. Its stages are:
//! - [`motion`]: the scaled-down image ([`luma`]) is compared with the [`background`], and foreground cells
//!   are connected to [`blobs`];
//! - [`tracks`]: motion regions are associated with the objects of earlier frames ([`assignment`],
//!   [`patch`]);
//! - classification: the networks' maps become scores in [`head`] and scores of labels in [`taxonomy`]; a
//!   [`label_accumulator`] combines all inferences of an object;
//! - [`events`] and [`regions`]: what is reported.
//!
//! [`replay`] analyses the last minutes again, with other settings.
//!
//! No threads, no files and no clock but the frames' own times, so that everything can be replayed.

pub mod assignment;
pub mod background;
pub mod blobs;
pub mod change;
pub mod colour;
pub mod detector;
pub mod events;

pub mod head;
pub mod health;
pub mod jpeg;
pub mod label_accumulator;
pub mod labels;
pub mod luma;
pub mod motion;
pub mod patch;
pub mod path;
pub mod picture;
pub mod preprocess;
pub mod rect;
pub mod regions;
pub mod replay;
pub mod scene;
pub mod taxonomy;
pub mod tracks;
