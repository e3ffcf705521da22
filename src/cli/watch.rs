//! `camfire watch`: subscribes like any client and prints what comes.

use super::{
    output::{self, SeenEvent, SeenFrame, SeenState},
    setup::ConfigArguments,
};
use crate::{
    error::{Error, ErrorKind},
    publish::mqtt::subscriber::{Received, Subscriber},
};
use std::process::ExitCode;

/// Arguments of `camfire watch`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  camfire watch --set mqtt.host=broker.local")]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Only this node [default: all below the base topic]
    #[arg(long)]
    node: Option<String>,
    /// Only this camera [default: all]
    #[arg(long)]
    camera: Option<String>,
    /// A line for each analysed frame, instead of those for events, regions and scene changes
    #[arg(long)]
    detections: bool,
    /// One JSON object a line: topic and payload
    #[arg(long)]
    json: bool,
    /// End after so many lines
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

/// Prints what comes until the count is reached or the broker goes.
pub fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    let config = arguments.config.load()?.config;
    let any = |name: &Option<String>| name.clone().unwrap_or_else(|| "+".to_string());
    let (node, camera) = (any(&arguments.node), any(&arguments.camera));
    let filters = filters(&config.mqtt.base_topic, &node, &camera, arguments.detections);
    let mut subscriber = Subscriber::connect(&config.mqtt, filters)?;
    let mut printed = 0;
    while arguments.count.is_none_or(|count| printed < count) {
        let Some(message) = subscriber.next(None)? else { continue };
        let line = if arguments.json { json_line(&message)? } else { line(&message)? };
        output::line!("{line}");
        printed += 1;
    }
    Ok(ExitCode::SUCCESS)
}

/// The topics that are worth a line.
pub fn filters(base: &str, node: &str, camera: &str, detections: bool) -> Vec<String> {
    let endings: &[&str] = if detections { &["detections"] } else { &["events", "scene", "regions/+"] };
    endings.iter().map(|ending| format!("{base}/{node}/{camera}/{ending}")).collect()
}

/// The line for a message on one of those topics.
///
/// Errors ([`ErrorKind::System`]): someone else publishes something else there.
pub fn line(message: &Received) -> Result<String, Error> {
    let (topic, payload) = (&message.topic, &message.payload);
    let line = if topic.ends_with("/detections") {
        serde_json::from_slice(payload).map(|seen: SeenFrame| seen.line())
    } else if topic.ends_with("/events") {
        serde_json::from_slice(payload).map(|seen: SeenEvent| seen.line())
    } else {
        serde_json::from_slice(payload).map(|seen: SeenState| seen.line())
    };
    line.map_err(|e| {
        Error::caused(ErrorKind::System, format!("{topic} is not what camfire publishes there"), e)
    })
}

fn json_line(message: &Received) -> Result<String, Error> {
    let payload: serde_json::Value = serde_json::from_slice(&message.payload)
        .map_err(|e| Error::caused(ErrorKind::System, format!("{} is no JSON", message.topic), e))?;
    Ok(serde_json::json!({ "topic": message.topic, "payload": payload }).to_string())
}
