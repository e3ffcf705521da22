//! The engine's errors. Each variant names the location, what was expected and what was found.

/// Why a model was refused or a run failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes are not a valid `.tflite` file: empty, truncated, or another format.
    #[error("not a valid .tflite model: {0}")]
    Malformed(String),

    /// A valid model whose shapes or types camfire does not support.
    #[error("{location}: expected {expected}, found {found}")]
    Contract {
        /// The tensor, operator or table.
        location: String,
        /// The rule.
        expected: String,
        /// What the model has.
        found: String,
    },

    /// An operator that the engine does not support or is known to compute incorrectly.
    #[error("operator {index} is {name} (version {version}), which {reason}")]
    Operator {
        /// Position in the graph's order of execution.
        index: usize,
        /// The schema's name, such as `CONV_2D`.
        name: String,
        /// The operator's version in the file.
        version: i32,
        /// Why it is refused.
        reason: String,
    },

    /// The engine itself could not load the model.
    #[error("{engine} cannot load the model: {cause}")]
    Load {
        /// The engine's name.
        engine: &'static str,
        /// The engine's error message.
        cause: String,
    },

    /// The image has the wrong size.
    #[error("expected an image of {expected} bytes, found {found}")]
    Input {
        /// Length of the model's input in bytes.
        expected: usize,
        /// Length of the given image in bytes.
        found: usize,
    },

    /// The engine failed while running.
    #[error("{engine} failed: {cause}")]
    Run {
        /// The engine's name.
        engine: &'static str,
        /// The engine's error message.
        cause: String,
    },
}

/// Creates an [`Error::Contract`].
pub(crate) fn contract(
    location: impl Into<String>,
    expected: impl Into<String>,
    found: impl ToString,
) -> Error {
    Error::Contract { location: location.into(), expected: expected.into(), found: found.to_string() }
}
