//! `camfire doctor`: reports what this machine has, and what is missing for each kind of camera.

use super::{output, setup::ConfigArguments};
use crate::{
    camera::{choice::PipelineChoice, gst, template},
    clock::query_synchronised,
    config::{Camera, Network},
    error::Error,
    publish::mqtt::{self, subscriber::Subscriber},
    workers::model::{self, Model},
};
use std::{path::PathBuf, process::ExitCode};

/// Arguments of `camfire doctor`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  camfire doctor --set mqtt.host=broker.local")]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Print one JSON object per finding
    #[arg(long)]
    json: bool,
}

/// One line of the report.
#[derive(serde::Serialize)]
struct Finding {
    /// What was checked.
    what: String,
    /// Whether it is usable.
    ok: bool,
    /// Whether it is a fault if it is not. No for what only some machines have.
    needed: bool,
    /// The result.
    text: String,
}

/// Prints the findings, what is not here and not needed last. The exit status is 1 if anything that is needed
/// is unusable.
pub fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    let mut findings = vec![finding("camfire", Ok(env!("CARGO_PKG_VERSION").to_string())), cpu()];
    // Without a valid configuration, report on the built-in network.
    let network = arguments.config.read().map(|loaded| loaded.config.engine.network).unwrap_or_default();
    findings.push(finding("engine", engine(&network)));
    findings.push(finding("everyday labels", everyday(&network)));
    let gstreamer = gst::init().map(|()| gst::version());
    let has_gstreamer = gstreamer.is_ok();
    findings.push(finding("gstreamer", gstreamer.map_err(|e| e.to_string())));
    if has_gstreamer {
        findings.extend(templates());
        findings.extend(decoders());
        findings.extend(choices(&arguments.config));
    }
    findings.push(clock());
    findings.extend(devices());
    findings.push(broker(&arguments.config));
    findings.sort_by_key(|finding| !finding.ok && !finding.needed);
    for finding in &findings {
        if arguments.json {
            output::line!("{}", serde_json::to_string(finding).expect("strings are JSON"));
        } else {
            let mark = match (finding.ok, finding.needed) {
                (true, _) => "ok",
                (false, true) => "NO",
                (false, false) => "-",
            };
            output::line!("{mark:<3} {:<28} {}", finding.what, finding.text);
        }
    }
    let is_ok = findings.iter().all(|finding| finding.ok || !finding.needed);
    Ok(if is_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn finding(what: impl Into<String>, found: Result<String, String>) -> Finding {
    let ok = found.is_ok();
    Finding { what: what.into(), ok, needed: true, text: found.unwrap_or_else(|why| why) }
}

/// What this machine need not have, and does not.
fn absent(what: impl Into<String>, text: impl Into<String>) -> Finding {
    Finding { what: what.into(), ok: false, needed: false, text: text.into() }
}

/// Architecture, cores, and the CPU features that int8 kernels exist for.
fn cpu() -> Finding {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let text = format!("{}, {cores} cores, {}", std::env::consts::ARCH, features().join(" "));
    finding("cpu", Ok(text))
}

#[cfg(target_arch = "x86_64")]
fn features() -> Vec<&'static str> {
    let mut features = Vec::new();
    for (has, name) in [
        (std::arch::is_x86_feature_detected!("avx2"), "avx2"),
        (std::arch::is_x86_feature_detected!("avxvnni"), "avxvnni"),
        (std::arch::is_x86_feature_detected!("avx512vnni"), "avx512vnni"),
    ] {
        if has {
            features.push(name);
        }
    }
    features
}

#[cfg(target_arch = "aarch64")]
fn features() -> Vec<&'static str> {
    let mut features = vec!["neon"];
    for (has, name) in [
        (std::arch::is_aarch64_feature_detected!("dotprod"), "dotprod"),
        (std::arch::is_aarch64_feature_detected!("i8mm"), "i8mm"),
    ] {
        if has {
            features.push(name);
        }
    }
    features
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn features() -> Vec<&'static str> {
    Vec::new()
}

/// The labels of the everyday head.
fn everyday(network: &Network) -> Result<String, String> {
    let model = Model::open(network, &Default::default()).map_err(|e| e.to_string())?;
    Ok(match &model.everyday {
        Some(_) => model.taxonomy.default_labels().join(", "),
        None => "none: all labels are groups of the network's classes".into(),
    })
}

fn engine(network: &Network) -> Result<String, String> {
    let (engine, identity) = model::open_engine(network).map_err(|e| e.to_string())?;
    let sha256 = &identity.sha256[..12];
    let fallback = engine.fallback_reason().map(|reason| format!("; not {reason}")).unwrap_or_default();
    Ok(format!("{} ({}), {} {sha256}{fallback}", engine.name(), engine.kernels(), identity.name))
}

/// Each pipeline template and what is missing for it. Missing parts of a template that only some boards can
/// use are not an error.
fn templates() -> Vec<Finding> {
    let finding_of = |(name, template): (&str, template::Template)| {
        let missing: Vec<String> = template.needs.iter().filter_map(gst::missing_need).collect();
        let is_board_specific = template.hardware || template.optional;
        let what = format!("pipeline {name}");
        let lack = format!("{}; {}", template.summary, missing.join("; "));
        match (missing.is_empty(), is_board_specific) {
            (true, _) => finding(what, Ok(template.summary)),
            (false, true) => absent(what, format!("not available: {lack}")),
            (false, false) => finding(what, Err(lack)),
        }
    };
    template::all().into_iter().map(finding_of).collect()
}

/// The pipeline that each configured camera would use, and why not a better one.
fn choices(arguments: &ConfigArguments) -> Vec<Finding> {
    let Ok(loaded) = arguments.load() else { return Vec::new() };
    let choose = |camera: &Camera| {
        let choice =
            PipelineChoice::new(template::candidates(camera).map_err(|e| e.to_string())?, gst::missing);
        let pipeline = choice.current()?.template.clone();
        let not: Vec<String> = gst::without_other_boards(choice.skipped())
            .iter()
            .map(|passed| format!("not {}: {}", passed.pipeline, passed.reason))
            .collect();
        Ok([vec![pipeline], not].concat().join("; "))
    };
    loaded
        .config
        .cameras
        .iter()
        .map(|camera| finding(format!("camera {}", camera.name), choose(camera)))
        .collect()
}

/// Whether the clock is synchronised, as the times in messages require.
fn clock() -> Finding {
    match query_synchronised() {
        Some(true) => finding("clock", Ok("synchronised to a time server".to_string())),
        Some(false) => {
            finding("clock", Err("not synchronised to a time server: captured_at may be wrong".to_string()))
        }
        None => absent("clock", "unknown whether it is synchronised to a time server"),
    }
}

/// Installed decoders, hardware first. One is enough, so a missing one is not an error.
fn decoders() -> Vec<Finding> {
    const DECODERS: [&str; 7] =
        ["v4l2h264dec", "nvv4l2decoder", "vah264dec", "avdec_h264", "openh264dec", "avdec_h265", "jpegdec"];
    let found: Vec<String> = DECODERS
        .iter()
        .filter_map(|name| gst::find_element(name).map(|plugin| format!("{name} ({plugin})")))
        .collect();
    let text = if found.is_empty() { Err("none".to_string()) } else { Ok(found.join(", ")) };
    vec![finding("decoders", text)]
}

/// Local cameras. Having none is not an error; one that cannot be opened is.
fn devices() -> Vec<Finding> {
    let mut devices: Vec<PathBuf> = std::fs::read_dir("/dev")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("video")))
        .collect();
    devices.sort();
    if devices.is_empty() {
        return vec![absent("local cameras", "none (/dev/video*)")];
    }
    let check = |device: PathBuf| {
        let opened = std::fs::File::open(&device);
        let found = opened.map(|_| "can be opened".to_string());
        finding(
            device.display().to_string(),
            found.map_err(|e| format!("{e} (is this user in the group video?)")),
        )
    };
    devices.into_iter().map(check).collect()
}

/// Whether the configured broker answers.
fn broker(arguments: &ConfigArguments) -> Finding {
    let config = match arguments.load() {
        Ok(loaded) => loaded.config,
        Err(error) => return finding("broker", Err(error.to_string())),
    };
    let address = mqtt::broker(&config.mqtt);
    let answer = Subscriber::connect(&config.mqtt, Vec::new());
    finding("broker", answer.map(|_| format!("{address} answers")).map_err(|e| e.to_string()))
}
