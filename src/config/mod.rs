//! The configuration: read, checked and merged into a [`Config`], which the rest of the program uses.
//!
//! `layers` reads files, environment and flags, checks each value against the tables of keys in `raw` and
//! records where it came from. `rules` converts the merged values to a `Config` and checks the rules between
//! keys. Problems are collected: [`load`] returns either a valid configuration or all of its [`Problems`].
//!
//! The daemon gets its `Config` by value and reads no configuration file itself. The files of this module
//! import each other in one direction only, and none of them imports from this one.

mod duration;
mod inputs;
mod key;
mod layers;
mod login;
mod lookup;
pub mod page;
pub mod polygon;
mod problems;
mod raw;
pub mod reference;
mod renamed;
mod rules;
mod service_links;
mod source;
mod suggest;
#[cfg(test)]
mod tests;
mod types;
mod validators;
pub mod web_certificate;
pub mod web_passwords;

pub use duration::parse as parse_duration;
pub use inputs::{CameraValidator, Findings, Inputs, Main, Naming, Validator};
pub use layers::{Locations, MAIN_FILE};
pub use login::read_password;
pub use lookup::dotted;
pub use problems::{Location, Problem, Problems};
pub use source::{file_path, percent_decode};
pub use suggest::nearest;
pub use types::*;
pub use validators::{ANY, RESERVED_NAMES, UNKNOWN, broker as parse_broker};

use std::{path::PathBuf, thread};

/// A valid configuration.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The files that were read, lowest layer first.
    pub files: Vec<PathBuf>,
    /// Warnings for the user, one line each.
    pub warnings: Vec<String>,
    /// Where the values were set.
    pub locations: Locations,
    /// Why the file with the settings of the page is damaged and not used. None if it is not.
    pub page_fault: Option<String>,
}

/// Reads, merges and validates a configuration.
///
/// A damaged file with the settings of the page is no problem: the configuration is loaded without it.
///
/// Errors: all problems of the configuration.
pub fn load(inputs: &Inputs) -> Result<Loaded, Problems> {
    let problems = match load_layers(inputs) {
        Ok(loaded) => return Ok(loaded),
        Err(problems) => problems,
    };
    let page::Source::File(path) = &inputs.page else { return Err(problems) };
    let name = path.display().to_string();
    let is_of_page =
        |problem: &&Problem| matches!(&problem.location, Location::File { name: file, .. } if *file == name);
    let Some(fault) = problems.iter().find(is_of_page).map(ToString::to_string) else { return Err(problems) };
    let without = Inputs { page: page::Source::None, ..inputs.clone() };
    Ok(Loaded { page_fault: Some(fault), ..load_layers(&without)? })
}

fn load_layers(inputs: &Inputs) -> Result<Loaded, Problems> {
    let host = rules::Host {
        name: hostname::get().unwrap_or_default().to_string_lossy().into_owned(),
        cores: thread::available_parallelism().map_or(1, usize::from),
        credentials: inputs.credentials.as_deref(),
        state: inputs.state.as_deref(),
    };
    let mut layers = layers::Layers::gather(inputs);
    let config = match layers.merge() {
        // If a part of a file could not be read, the rules between keys would only report what is missing.
        Ok(_) if layers.is_incomplete => None,
        Ok(raw) => Some(rules::apply(raw, &mut layers, &host, inputs.validate_camera, inputs.validate)),
        Err(error) => {
            layers.add_merge_error(&error);
            None
        }
    };
    match (Problems::from_list(layers.problems), config) {
        (None, Some(config)) => {
            let (files, warnings) = (layers.files, layers.warnings);
            let locations = Locations::new(layers.origins);
            Ok(Loaded { config, files, warnings, locations, page_fault: None })
        }
        (problems, _) => Err(problems.expect("without a configuration there is at least one problem")),
    }
}
