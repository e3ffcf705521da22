//! `camfire doctor`: reports what this machine has and lacks, whether cameras and broker work, and what will
//! hurt. One file for each subject; [`finding`] is a line of the report.
//!
//! Network waits are bounded, cameras are opened side by side, and no secret is printed.

mod advice;
mod board;
pub mod broker;
mod cameras;
mod engine;
mod finding;
mod machine;
mod pipelines;
pub mod streams;

use super::setup::ConfigArguments;
use crate::{camera::gst, config::Config, error::Error};
use board::Board;
use finding::Finding;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Arguments of `camfire doctor`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  camfire doctor\n  camfire doctor --all --set mqtt.host=broker.local\n  sudo -u camfire camfire doctor   # as the service"
)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Print one JSON object per finding
    #[arg(long)]
    json: bool,
    /// Also print what is not needed: other pipelines and elements, and the packages that bring them
    #[arg(long)]
    all: bool,
    /// Read what the machine tells about itself below this directory; for tests
    #[arg(long, value_name = "DIRECTORY", default_value = "/", hide = true)]
    root: PathBuf,
}

/// Prints the findings. The exit status is 1 if anything that is needed is missing or does not work.
pub fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    let root = &arguments.root;
    let board = Board::read(root);
    let (configuration, config) = configuration(&arguments.config);
    // Without a valid configuration, report on the built-in network.
    let network = config.as_ref().map(|config| config.engine.network.clone()).unwrap_or_default();
    let mut findings = machine::findings(root, &board);
    findings.extend(engine::findings(&network));
    let initialised = gst::init().map_err(|error| error.to_string());
    let has_pipelines = initialised.is_ok();
    findings.extend(pipelines::findings(initialised));
    if has_pipelines {
        findings.extend(cameras::findings(root));
    }
    findings.extend(configuration);
    if let Some(config) = &config {
        findings.extend(broker::findings(&config.mqtt));
        if has_pipelines {
            findings.extend(streams(root, config, &board));
        }
    }
    let is_ok = !findings.iter().any(Finding::is_fault);
    finding::print(findings, arguments.json, arguments.all);
    Ok(if is_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The configuration, if it is valid, and what is said about it.
fn configuration(arguments: &ConfigArguments) -> (Vec<Finding>, Option<Config>) {
    let what = "configuration";
    let loaded = match arguments.read() {
        Ok(loaded) => loaded,
        Err(problems) => {
            return (
                problems.iter().map(|problem| Finding::fault(what, problem.to_string())).collect(),
                None,
            );
        }
    };
    let files: Vec<String> = loaded.files.iter().map(|file| file.display().to_string()).collect();
    let text = if files.is_empty() { "no file: defaults".to_string() } else { files.join(", ") };
    let mut findings = vec![Finding::good(what, text).with("files", files)];
    findings.extend(loaded.warnings.into_iter().map(|warning| Finding::advice(what, warning)));
    (findings, Some(loaded.config))
}

fn streams(root: &Path, config: &Config, board: &Board) -> Vec<Finding> {
    if config.cameras.is_empty() {
        let text = "the configuration has none: sudo camfire init finds and adds cameras";
        return vec![Finding::advice("cameras", text)];
    }
    streams::findings(&config.cameras, board, cameras::has_hevc_node(root))
}
