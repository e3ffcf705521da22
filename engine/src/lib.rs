//! Runs int8 image networks from `.tflite` files.
//!
//! Knows nothing of cameras, brokers or where files lie: bytes go in, a [`Signature`] and a map come out.
//! It has no threads, no clock and no log of its own.
//!
//! - [`Model`] is the native engine: [`tflite`] reads a file into a [`graph`], [`plan`] turns that into steps with packed
//!   weights and places in memory, a [`model::Session`] carries them out ([`ops`]) on [`kernels`] made for this CPU, by
//!   the rounding law of [`quant`].
//! - [`tract`] is the second opinion, and takes over graphs whose operators the native engine does not know.
//! - [`open`] checks that a model is what camfire can use ([`contract`]) and picks the engine. Whatever an engine is not
//!   known to compute right is refused here, at load, by name: a wrong number is worse than none.
//! - [`Engine`] is a loaded model, shared by all workers; [`Session`] is one worker's way to run it.
//!
//! Input is always the camera's RGB bytes, height x width x 3, row by row; output is always an int8 map, height x width
//! x classes, with one scale. Average and softmax over the map belong to the caller, in f32.

mod contract;
mod error;
mod graph;
mod kernels;
pub mod model;
mod native;
mod ops;
mod pack;
mod plan;
mod quant;
mod tflite;
#[cfg(feature = "tract")]
mod tract;

pub use contract::Signature;
pub use error::Error;
pub use kernels::{Features, KernelSet, choose};
pub use model::Model;
pub use plan::StepInfo;

use std::sync::Arc;

/// A loaded model: immutable, shared between threads.
pub trait Engine: Send + Sync + std::fmt::Debug {
    /// The implementation, as a user names it: `native` or `tract`.
    fn name(&self) -> &'static str;

    /// Which set of compute kernels this CPU gets, for bench and doctor.
    fn kernels(&self) -> &str;

    /// Why the engine that was to be preferred does not run this model; `None` where it does.
    fn instead_of(&self) -> Option<&str> {
        None
    }

    /// What goes in and what comes out.
    fn signature(&self) -> &Signature;

    /// A session for one thread, with its own scratch memory.
    fn session(&self) -> Result<Box<dyn Session>, Error>;
}

/// One thread's hold on an [`Engine`].
pub trait Session: Send {
    /// Runs the network on one image.
    ///
    /// `rgb` is input height x width x 3 bytes, row by row. The map borrowed from the session is output height x width
    /// x classes steps, valid until the next run; a step's real value is `(step - zero_point) * scale`.
    ///
    /// Errors: [`Error::Input`] where the length is not that of the signature, [`Error::Run`] where the engine fails.
    fn run(&mut self, rgb: &[u8]) -> Result<&[i8], Error>;
}

/// Who is to run a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Choice {
    /// The native engine, or tract where it does not know an operator.
    #[default]
    Auto,
    /// The native engine or nobody.
    Native,
    /// tract or nobody.
    Tract,
}

impl Choice {
    /// All of them.
    pub const ALL: [Choice; 3] = [Choice::Auto, Choice::Native, Choice::Tract];

    /// As users name it.
    pub fn name(self) -> &'static str {
        match self {
            Choice::Auto => "auto",
            Choice::Native => "native",
            Choice::Tract => "tract",
        }
    }

    /// The choice of that name.
    pub fn of_name(name: &str) -> Option<Choice> {
        Choice::ALL.into_iter().find(|choice| choice.name() == name)
    }
}

/// Checks and loads a `.tflite` model. `cap` keeps the native engine from using better kernels than that.
///
/// Errors say what is wrong and where; no input panics.
pub fn open(file: &[u8], choice: Choice, cap: Option<KernelSet>) -> Result<Arc<dyn Engine>, Error> {
    let native = || native::Native::open(file, cap).map(|native| Arc::new(native) as Arc<dyn Engine>);
    match choice {
        Choice::Native => native(),
        Choice::Tract => open_tract(file, None),
        Choice::Auto => match native() {
            // What the native engine lacks, tract may have; if not, the native engine's word is the more telling.
            Err(error @ Error::Operator { .. }) => {
                open_tract(file, Some(format!("native: {error}"))).map_err(|_| error)
            }
            other => other,
        },
    }
}

#[cfg(feature = "tract")]
fn open_tract(file: &[u8], instead_of: Option<String>) -> Result<Arc<dyn Engine>, Error> {
    Ok(Arc::new(tract::Tract::open(file, instead_of)?))
}

#[cfg(not(feature = "tract"))]
fn open_tract(_file: &[u8], _instead_of: Option<String>) -> Result<Arc<dyn Engine>, Error> {
    Err(Error::Load { engine: "tract", cause: "this build is without it".into() })
}
