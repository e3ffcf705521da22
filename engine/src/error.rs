//! What can be wrong with a model or a run: each variant says where, what was expected and what was found.

/// Why a model was refused or a run failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes are no sound `.tflite` file: empty, cut short, or something else.
    #[error("not a sound .tflite model: {0}")]
    Malformed(String),

    /// A sound model of a shape or type that camfire has no use for.
    #[error("{place}: expected {expected}, found {found}")]
    Contract {
        /// The tensor or table.
        place: String,
        /// The rule.
        expected: String,
        /// What the model has.
        found: String,
    },

    /// An operator that the engine does not have or is known to compute wrong.
    #[error("operator {index} is {name} (version {version}), which {reason}")]
    Operator {
        /// Position in the graph's order of execution.
        index: usize,
        /// The schema's name, as `CONV_2D`.
        name: String,
        /// The operator's version in the file.
        version: i32,
        /// What is wrong with it.
        reason: String,
    },

    /// The engine itself could not load the model.
    #[error("{engine} cannot load the model: {cause}")]
    Load {
        /// The engine's name.
        engine: &'static str,
        /// Its own words.
        cause: String,
    },

    /// The image has the wrong size.
    #[error("an image of {expected} bytes is needed, not of {found}")]
    Input {
        /// Height x width x 3 of the signature.
        expected: usize,
        /// What was given.
        found: usize,
    },

    /// The engine failed while running.
    #[error("{engine} failed: {cause}")]
    Run {
        /// The engine's name.
        engine: &'static str,
        /// Its own words.
        cause: String,
    },
}

/// Shorthand for [`Error::Contract`].
pub(crate) fn contract(place: impl Into<String>, expected: impl Into<String>, found: impl ToString) -> Error {
    Error::Contract { place: place.into(), expected: expected.into(), found: found.to_string() }
}
