//! `camfire check`: validates a configuration and reports all problems at once, without starting the daemon.

use super::{output, setup::ConfigArguments};
use crate::{
    camera::{choice::PipelineChoice, gst, template},
    config::{Camera, Config, Source},
    control::saved::SavedSettings,
    error::{Error, ErrorKind},
    workers::model::Model,
};
use std::{path::Path, process::ExitCode};

/// Where the installed service keeps what commands have set.
const INSTALLED_SETTINGS: &str = "/var/lib/camfire/settings.json";

/// Arguments of `camfire check`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  camfire check --config ./camfire.toml")]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Print one JSON object per problem or warning
    #[arg(long)]
    json: bool,
}

/// Prints every problem. The exit status is 0 without problems, otherwise 2.
pub fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    let json = arguments.json;
    let loaded = match arguments.config.read() {
        Ok(loaded) => loaded,
        Err(problems) => {
            for problem in problems.iter() {
                print(json, "problem", &problem.to_string());
            }
            return Ok(ExitCode::from(2));
        }
    };
    for warning in &loaded.warnings {
        print(json, "warning", warning);
    }
    let (mut problems, saved) = (problems(&loaded.config), saved_settings(&loaded.config));
    match saved {
        Ok(notes) => notes.iter().for_each(|note| print(json, "note", note)),
        Err(error) => problems.push(error.to_string()),
    }
    for problem in &problems {
        print(json, "problem", problem);
    }
    if !problems.is_empty() {
        return Ok(ExitCode::from(2));
    }
    if !json {
        let files: Vec<String> = loaded.files.iter().map(|f| f.display().to_string()).collect();
        let files = if files.is_empty() { "no file".to_string() } else { files.join(", ") };
        output::line!("ok: {files}; {} cameras", loaded.config.cameras.len());
    }
    Ok(ExitCode::SUCCESS)
}

fn print(json: bool, kind: &str, text: &str) {
    if json {
        output::line!("{}", serde_json::json!({ "kind": kind, "text": text }));
    } else {
        output::line!("{kind}: {text}");
    }
}

/// What commands have set, one line per setting.
///
/// Errors ([`ErrorKind::Input`]): the file cannot be read.
fn saved_settings(config: &Config) -> Result<Vec<String>, Error> {
    // Without systemd's variables, the file of the installed service is where its state directory is.
    let path = config.commands.settings_file.clone().unwrap_or_else(|| INSTALLED_SETTINGS.into());
    let saved = SavedSettings::open(Some(path.clone()))?;
    let lines = saved.all().into_iter().flat_map(|(camera, settings)| {
        let is_configured = config.cameras.iter().any(|configured| configured.name == camera);
        let unconfigured = if is_configured { "" } else { "; there is no such camera in the configuration" };
        let file = path.display().to_string();
        settings.entries().into_iter().map(move |(setting, value, since)| {
            format!(
                "cameras.{camera}: a command has set {setting} to {value} at {since} ({file}){unconfigured}"
            )
        })
    });
    Ok(lines.collect())
}

/// Problems of a configuration whose keys and values are valid: model, labels, templates, elements, files.
fn problems(config: &Config) -> Vec<String> {
    let mut problems = Vec::new();
    problems.extend(Model::open(&config.engine.network, &config.groups).err());
    match gst::init() {
        Ok(()) => problems.extend(config.cameras.iter().flat_map(camera_problems)),
        Err(error) => problems.push(error),
    }
    problems.iter().map(Error::to_string).collect()
}

fn camera_problems(camera: &Camera) -> Vec<Error> {
    let key = format!("cameras.{}", camera.name);
    let mut problems = Vec::new();
    match template::candidates(camera) {
        Ok(pipelines) => {
            let missing = PipelineChoice::new(pipelines, gst::missing).current().err();
            problems.extend(missing.map(|what| Error::new(ErrorKind::Input, format!("{key}: {what}"))));
        }
        Err(error) => problems.push(error),
    }
    let path: Option<&Path> = match &camera.source {
        Source::File { path, .. } => Some(path),
        Source::V4l2 { device } => Some(device),
        _ => None,
    };
    if let Some(path) = path
        && let Err(error) = std::fs::File::open(path)
    {
        let message = format!("{key}.source: {}", path.display());
        problems.push(Error::caused(ErrorKind::Input, message, error));
    }
    problems
}
