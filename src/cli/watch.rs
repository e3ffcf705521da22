//! `camfire watch`: subscribes like any client and prints messages as they arrive.

use super::{
    output::{self, MessagePrinter},
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
    /// Print a line per analysed frame instead of events, regions and scene changes
    #[arg(long)]
    detections: bool,
    /// Print one JSON object per line: topic and payload
    #[arg(long)]
    json: bool,
    /// Stop after this many lines
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

/// Prints messages until the count is reached or the broker disconnects.
pub fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    let config = arguments.config.load()?.config;
    let any = |name: &Option<String>| name.clone().unwrap_or_else(|| "+".to_string());
    let (node, camera) = (any(&arguments.node), any(&arguments.camera));
    let filters = filters(&config.mqtt.base_topic, &node, &camera, arguments.detections);
    let mut subscriber = Subscriber::connect(&config.mqtt, filters)?;
    let mut printer = MessagePrinter::default();
    let mut printed = 0;
    while arguments.count.is_none_or(|count| printed < count) {
        let Some(message) = subscriber.next(None)? else { continue };
        let line = if arguments.json { json_line(&message)? } else { line(&mut printer, &message)? };
        output::line!("{line}");
        printed += 1;
    }
    Ok(ExitCode::SUCCESS)
}

/// The topic filters of the messages that are printed.
pub fn filters(base: &str, node: &str, camera: &str, detections: bool) -> Vec<String> {
    let endings: &[&str] = if detections { &["detections"] } else { &["events", "scene", "regions/+"] };
    endings.iter().map(|ending| format!("{base}/{node}/{camera}/{ending}")).collect()
}

/// The line of a message on one of those topics.
///
/// Errors ([`ErrorKind::System`]): the payload is not one of camfire's.
pub fn line(printer: &mut MessagePrinter, message: &Received) -> Result<String, Error> {
    let Received { topic, payload, .. } = message;
    printer
        .line(topic, payload)
        .map_err(|e| Error::caused(ErrorKind::System, format!("{topic}: not a message of camfire"), e))
}

fn json_line(message: &Received) -> Result<String, Error> {
    let payload: serde_json::Value = serde_json::from_slice(&message.payload)
        .map_err(|e| Error::caused(ErrorKind::System, format!("{}: not JSON", message.topic), e))?;
    Ok(serde_json::json!({ "topic": message.topic, "payload": payload }).to_string())
}
