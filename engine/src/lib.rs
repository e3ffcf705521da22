//! Runs int8 image networks from `.tflite` files.
//!
//! Knows nothing of cameras, brokers or where files lie: bytes go in, a [`Signature`] and a map come out.
//! It has no threads, no clock and no log of its own.
//!
//! - [`open`] checks a model ([`contract`]) and gives it to the engine that runs it ([`tract`]). Whatever the engine is
//!   not known to compute right is refused here, at load, by name: a wrong number is worse than none.
//! - [`Engine`] is a loaded model, shared by all workers; [`Session`] is one worker's way to run it.
//!
//! Input is always the camera's RGB bytes, height x width x 3, row by row; output is always an int8 map, height x width
//! x classes, with one scale. Average and softmax over the map belong to the caller, in f32.

pub mod contract;
mod error;
mod tract;

pub use contract::Signature;
pub use error::Error;

/// A loaded model: immutable, shared between threads.
pub trait Engine: Send + Sync + std::fmt::Debug {
    /// The implementation, as a user names it: `tract`.
    fn name(&self) -> &'static str;

    /// Which set of compute kernels this CPU gets, for bench and doctor.
    fn kernels(&self) -> &str;

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

/// Checks and loads a `.tflite` model.
///
/// Errors say what is wrong and where; no input panics.
pub fn open(model: &[u8]) -> Result<std::sync::Arc<dyn Engine>, Error> {
    Ok(std::sync::Arc::new(tract::Tract::open(model)?))
}
