//! `camfire watch`: subscribes like any client and prints what comes.

use super::{
    output::{self, Changes, Seen},
    setup::ConfigArguments,
};
use crate::{
    error::{Error, Kind},
    publish::mqtt::subscriber::{Received, Subscriber},
};
use std::process::ExitCode;

/// Arguments of `camfire watch`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  camfire watch --set mqtt.host=broker.local --changes")]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Only this node [default: all below the base topic]
    #[arg(long)]
    node: Option<String>,
    /// Only this camera [default: all]
    #[arg(long)]
    camera: Option<String>,
    /// A line only when what is seen changes
    #[arg(long)]
    changes: bool,
    /// One JSON object a line: topic and payload
    #[arg(long, conflicts_with = "changes")]
    json: bool,
    /// End after so many lines
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

/// Prints detections until the count is reached or the broker goes.
pub fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    let config = arguments.config.load()?.config;
    let any = |name: &Option<String>| name.clone().unwrap_or_else(|| "+".to_string());
    let (node, camera) = (any(&arguments.node), any(&arguments.camera));
    let filter = format!("{}/{node}/{camera}/detections", config.mqtt.base_topic);
    let mut subscriber = Subscriber::connect(&config.mqtt, vec![filter])?;
    let mut changes = Changes::default();
    let mut printed = 0;
    while arguments.count.is_none_or(|count| printed < count) {
        let Some(message) = subscriber.next(None)? else { continue };
        let line = if arguments.json {
            Some(json_line(&message)?)
        } else {
            let seen = parse(&message)?;
            if arguments.changes { changes.line(&seen) } else { Some(seen.line()) }
        };
        if let Some(line) = line {
            output::line!("{line}");
            printed += 1;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads a detections payload.
///
/// Errors ([`Kind::System`]): someone else publishes something else there.
pub fn parse(message: &Received) -> Result<Seen, Error> {
    serde_json::from_slice(&message.payload)
        .map_err(|e| Error::caused(Kind::System, format!("{} is no detections", message.topic), e))
}

fn json_line(message: &Received) -> Result<String, Error> {
    let payload: serde_json::Value = serde_json::from_slice(&message.payload)
        .map_err(|e| Error::caused(Kind::System, format!("{} is no JSON", message.topic), e))?;
    Ok(serde_json::json!({ "topic": message.topic, "payload": payload }).to_string())
}
