//! `camfire check`: validates a configuration and reports all problems at once, without starting the daemon.

use super::{output, setup::ConfigArguments};
use crate::{
    camera::{choice::PipelineChoice, device, gst, template},
    config::{Camera, Config, Everyday, Loaded, Location, Network, Problem, Source},
    control::saved::SavedSettings,
    error::Error,
    files,
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
    report(&arguments.config, arguments.json)
}

/// Validates a configuration and prints every problem. Also what `camfire init` ends with.
pub fn report(config: &ConfigArguments, json: bool) -> Result<ExitCode, Error> {
    let loaded = match config.read() {
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
    if let Some(fault) = &loaded.page_fault {
        print(json, "warning", &format!("the settings of the page are damaged and not used: {fault}"));
    }
    page_settings(config, &loaded).iter().for_each(|note| print(json, "note", note));
    let mut problems = problems(&loaded);
    // Without systemd's variables, the file of the installed service is where its state directory is.
    let settings = loaded.config.commands.settings_file.clone().unwrap_or_else(|| INSTALLED_SETTINGS.into());
    match saved_settings(&loaded.config, &settings) {
        Ok(notes) => notes.iter().for_each(|note| print(json, "note", note)),
        // It belongs to the service's user. That another user may not read it says nothing about it.
        Err(_) if is_private(&settings) => print(json, "warning", &unreadable_settings(&settings)),
        Err(error) => problems.push(loaded.locations.problem("commands.settings_file", error.to_string())),
    }
    for problem in &problems {
        print(json, "problem", &problem.to_string());
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

/// Whether this user may not read the file.
fn is_private(file: &Path) -> bool {
    std::fs::File::open(file).is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

fn unreadable_settings(file: &Path) -> String {
    format!(
        "commands.settings_file: this user may not read {}, so what commands have set, such as paused cameras, \
         is not shown; check as root or as the service's user",
        file.display()
    )
}

/// What was set on the page of the web server, one line per setting.
fn page_settings(config: &ConfigArguments, loaded: &Loaded) -> Vec<String> {
    let Some(page) = config.page_file().map(|file| file.display().to_string()) else { return Vec::new() };
    let line = |(key, location): (&str, &Location)| match location {
        Location::File { name, line: Some(line), .. } if *name == page => {
            // Sections are no settings.
            let is_section = key.split('.').count() == 2 || key.split('.').nth_back(1) == Some("regions");
            (!is_section).then(|| format!("{key}: set on the page ({name}:{line})"))
        }
        _ => None,
    };
    loaded.locations.below("cameras").filter_map(line).collect()
}

/// What commands have set, one line per setting.
///
/// Errors: the file cannot be read.
fn saved_settings(config: &Config, path: &Path) -> Result<Vec<String>, Error> {
    let saved = SavedSettings::open(Some(path.to_path_buf()))?;
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
/// Each is located at the key that it is about.
fn problems(loaded: &Loaded) -> Vec<Problem> {
    let Loaded { config, locations, .. } = loaded;
    let mut problems = Vec::new();
    if let Err(error) = Model::open(&config.engine.network, &config.groups) {
        let rule = error.to_string();
        problems.push(locations.problem(key_of_model_error(&config.engine.network, &rule), rule));
    }
    match gst::init() {
        Ok(()) => problems.extend(config.cameras.iter().flat_map(|camera| {
            let found = camera_problems(camera).into_iter();
            found.map(|(key, rule)| locations.problem(&format!("cameras.{}.{key}", camera.name), rule))
        })),
        Err(error) => problems.push(locations.problem("", error.to_string())),
    }
    problems.sort();
    problems
}

/// The key that names the file of which an error of [`Model::open`] tells.
fn key_of_model_error(network: &Network, error: &str) -> &'static str {
    let (head, head_model) = match &network.everyday {
        Everyday::Head { head, model } => (Some(head), model.as_ref()),
        Everyday::BuiltIn | Everyday::Off => (None, None),
    };
    if error.starts_with("detector ") {
        return "engine.detector";
    }
    let files = [
        ("engine.labels", network.labels.as_ref()),
        ("engine.everyday_model", head_model),
        ("engine.everyday_head", head),
    ];
    let is_named = |file: &Path| error.contains(&file.display().to_string());
    let named = files.into_iter().find(|(_, file)| file.is_some_and(|file| is_named(file)));
    named.map_or("engine.model", |(key, _)| key)
}

/// The keys of a camera that cannot work on this machine, and why.
fn camera_problems(camera: &Camera) -> Vec<(String, String)> {
    let pipelines = match template::candidates(camera) {
        Ok(pipelines) => pipelines,
        // The same problem, by its key.
        Err(_) => return template::validate(camera),
    };
    let mut problems = Vec::new();
    let selected_by = match &camera.source {
        Source::Custom { .. } => "launch",
        _ if camera.pipeline.is_some() => "pipeline",
        _ => "source",
    };
    if let Err(missing) = PipelineChoice::new(pipelines, gst::missing).current() {
        problems.push((selected_by.to_string(), missing));
    }
    let opened = match &camera.source {
        Source::File { path, .. } => {
            files::open_regular(path).map(drop).map_err(|error| format!("{}: {error}", path.display()))
        }
        source => device::check(source).map_err(|error| error.to_string()),
    };
    if let Err(error) = opened {
        problems.push(("source".to_string(), error));
    }
    problems
}
