//! Runs int8 image networks from `.tflite` files.
//!
//! The crate does not depend on cameras, brokers or the file system. It has no threads, clock or log of its
//! own.
//!
//! - [`Model`] is the native engine: `tflite` reads a file into a `graph`, `plan` turns the graph into
//!   instructions with packed weights and arena offsets, and a [`model::Session`] executes them (`ops`)
//!   with the `kernels` for this CPU, by the requantization rule of `quant`.
//!   A graph with several outputs, such as a detector's maps, is used through it directly: [`Model::outputs`]
//!   describes each, [`model::Session::read`] copies it.
//! - `tract` is an independent second engine. It runs graphs with operators that the native engine does not
//!   support.
//! - [`open`] validates a model (`contract`) and chooses the engine. An operator that an engine is not known
//!   to compute correctly is refused at load, by name, because a wrong result is worse than none.
//! - [`Engine`] is a loaded model, shared by all workers; [`Session`] runs it on one worker's thread.
//!
//! Input is always RGB bytes, height x width x 3, row by row. Output of an [`Engine`] is always an int8 map,
//! height x width x classes, with one scale. The caller computes the average over the map and the softmax in
//! f32. A [`Model`] may have several outputs, as detectors do.

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

pub use contract::{Map, Signature};
pub use error::Error;
pub use kernels::{Features, KernelSet, choose};
pub use model::Model;
pub use plan::{ConvolutionShape, InstructionInfo};

use std::sync::Arc;

/// A loaded model: immutable, shared between threads.
pub trait Engine: Send + Sync + std::fmt::Debug {
    /// Returns the engine's name as in the configuration: `native` or `tract`.
    fn name(&self) -> &'static str;

    /// Returns the name of the kernel set in use on this CPU, for `bench` and `doctor`.
    fn kernels(&self) -> &str;

    /// Returns why the preferred engine does not run this model. None if it does.
    fn fallback_reason(&self) -> Option<&str> {
        None
    }

    /// Returns the model's input and output.
    fn signature(&self) -> &Signature;

    /// Returns the maps that sessions can read, in the order in which [`open`] was given their names.
    fn maps(&self) -> &[Map];

    /// Creates a session for one thread, with its own memory.
    fn session(&self) -> Result<Box<dyn Session>, Error>;
}

/// Runs an [`Engine`] on one thread.
pub trait Session: Send {
    /// Runs the network on one image.
    ///
    /// `rgb` is input height x width x 3 bytes, row by row. The returned map is output height x width x
    /// classes quantized values, valid until the next run. A value `q` represents `(q - zero_point) * scale`.
    ///
    /// Errors: [`Error::Input`] when `rgb` has the wrong length, [`Error::Run`] when the engine fails.
    fn run(&mut self, rgb: &[u8]) -> Result<&[i8], Error>;

    /// Runs the network on one image as far as [`Engine::maps`] require. [`Session::finish`] runs the rest.
    ///
    /// Errors: as for [`Session::run`].
    fn run_to_maps(&mut self, rgb: &[u8]) -> Result<(), Error>;

    /// Returns a map of [`Engine::maps`] as of the last [`Session::run_to_maps`]: height x width x channels
    /// quantized values. Panics if there is no such map.
    fn map(&self, index: usize) -> &[i8];

    /// Completes the last [`Session::run_to_maps`] and returns the output map, as [`Session::run`] does.
    ///
    /// Errors: [`Error::Run`] when the engine fails.
    fn finish(&mut self) -> Result<&[i8], Error>;
}

/// The engine that is to run a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Choice {
    /// The native engine, or tract if the model has an operator that the native engine does not support.
    #[default]
    Auto,
    /// Only the native engine.
    Native,
    /// Only tract.
    Tract,
}

impl Choice {
    /// All choices.
    pub const ALL: [Choice; 3] = [Choice::Auto, Choice::Native, Choice::Tract];

    /// Returns the name used in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Choice::Auto => "auto",
            Choice::Native => "native",
            Choice::Tract => "tract",
        }
    }

    /// Returns the choice with that name.
    pub fn of_name(name: &str) -> Option<Choice> {
        Choice::ALL.into_iter().find(|choice| choice.name() == name)
    }
}

/// Checks and loads a `.tflite` model. `cap` is the best kernel set that the native engine may use, `maps`
/// are the names of the maps inside the network that sessions can read.
///
/// Errors: any [`Error`] but [`Error::Input`] and [`Error::Run`], with the location in the file. No input
/// panics.
pub fn open(
    file: &[u8],
    choice: Choice,
    cap: Option<KernelSet>,
    maps: &[&str],
) -> Result<Arc<dyn Engine>, Error> {
    let native = || native::Native::open(file, cap, maps).map(|native| Arc::new(native) as Arc<dyn Engine>);
    match choice {
        Choice::Native => native(),
        Choice::Tract => open_tract(file, None, maps),
        Choice::Auto => match native() {
            // tract may support the operator. If it does not, the native engine's error is the more useful
            // one.
            Err(error @ Error::Operator { .. }) => {
                open_tract(file, Some(format!("native: {error}")), maps).map_err(|_| error)
            }
            other => other,
        },
    }
}

#[cfg(feature = "tract")]
fn open_tract(file: &[u8], fallback_reason: Option<String>, maps: &[&str]) -> Result<Arc<dyn Engine>, Error> {
    Ok(Arc::new(tract::Tract::open(file, fallback_reason, maps)?))
}

#[cfg(not(feature = "tract"))]
fn open_tract(_file: &[u8], _instead_of: Option<String>, _maps: &[&str]) -> Result<Arc<dyn Engine>, Error> {
    Err(Error::Load { engine: "tract", cause: "this build does not include it".into() })
}
