//! `camfire watch`: subscribes like any client and prints messages as they arrive.

use super::{
    output::{self, MessagePrinter},
    setup::ConfigArguments,
};
use crate::{
    error::{Error, ErrorKind},
    publish::mqtt::{
        self,
        subscriber::{Received, Subscriber},
    },
};
use std::{
    collections::BTreeSet,
    process::ExitCode,
    time::{Duration, Instant},
};

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

/// How long the broker may take to send the retained states of cameras, by which they are known.
const KNOWN_WITHIN: Duration = Duration::from_secs(2);
/// Cameras that are remembered at most.
const MAX_KNOWN: usize = 10_000;

/// Prints messages until the count is reached or the broker disconnects. A node or camera that the broker
/// does not know is told, and waited for: it may start later.
pub fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    let config = arguments.config.load()?.config;
    let any = |name: &Option<String>| name.clone().unwrap_or_else(|| "+".to_string());
    let (node, camera) = (any(&arguments.node), any(&arguments.camera));
    let base = &config.mqtt.base_topic;
    let mut filters = filters(base, &node, &camera, arguments.detections);
    let mut known = Known::new(&arguments, base);
    filters.extend(known.as_ref().map(|known| known.filter()));
    let mut subscriber = Subscriber::connect(&config.mqtt, filters)?;
    let mut printer = MessagePrinter::with_local_times();
    let mut printed = 0;
    let known_at = Instant::now() + KNOWN_WITHIN;
    while arguments.count.is_none_or(|count| printed < count) {
        let wait = known.as_ref().map(|_| known_at.saturating_duration_since(Instant::now()));
        if wait.is_some_and(|wait| wait.is_zero())
            && let Some(unknown) = known.take().and_then(|known| known.complaint())
        {
            output::note!("camfire: broker {}: {unknown}", mqtt::broker(&config.mqtt));
        }
        let Some(message) = subscriber.next(wait)? else { continue };
        if message.topic.ends_with("/status") {
            if let Some(known) = &mut known {
                known.add(&message);
            }
            continue;
        }
        let line = if arguments.json { json_line(&message)? } else { line(&mut printer, &message)? };
        output::line!("{line}");
        printed += 1;
    }
    Ok(ExitCode::SUCCESS)
}

/// The cameras that a broker knows by their retained states, while it is not clear whether the wanted one is
/// among them.
struct Known {
    node: Option<String>,
    camera: Option<String>,
    base: String,
    /// Node and camera of each.
    cameras: BTreeSet<(String, String)>,
}

impl Known {
    /// Returns None if any camera is wanted.
    fn new(arguments: &Arguments, base: &str) -> Option<Known> {
        let (node, camera) = (arguments.node.clone(), arguments.camera.clone());
        let is_wanted = node.is_some() || camera.is_some();
        is_wanted.then(|| Known { node, camera, base: base.to_string(), cameras: BTreeSet::new() })
    }

    /// The topics of the cameras' states.
    fn filter(&self) -> String {
        format!("{}/+/+/status", self.base)
    }

    fn add(&mut self, message: &Received) {
        let levels = message.topic.strip_prefix(&self.base).and_then(|rest| rest.strip_prefix('/'));
        let levels: Vec<&str> = levels.unwrap_or_default().split('/').collect();
        if let [node, camera, "status"] = levels[..]
            && !message.payload.is_empty()
            && self.cameras.len() < MAX_KNOWN
        {
            self.cameras.insert((node.to_string(), camera.to_string()));
        }
    }

    /// What to tell the user if what is wanted is not known.
    fn complaint(&self) -> Option<String> {
        let is_node = |name: &str| self.node.as_deref().is_none_or(|wanted| wanted == name);
        let is_camera = |name: &str| self.camera.as_deref().is_none_or(|wanted| wanted == name);
        if self.cameras.iter().any(|(node, camera)| is_node(node) && is_camera(camera)) {
            return None;
        }
        let wanted = match (&self.node, &self.camera) {
            (Some(node), Some(camera)) => format!("no camera {camera:?} of a node {node:?}"),
            (Some(node), None) => format!("no node {node:?}"),
            (None, camera) => format!("no camera {:?}", camera.as_deref().unwrap_or_default()),
        };
        let names: Vec<String> =
            self.cameras.iter().map(|(node, camera)| format!("{node}/{camera}")).collect();
        let there = match &names[..] {
            [] => "no camera at all is known there; is camfire running?".to_string(),
            names => format!("there are {}.", names.join(", ")),
        };
        Some(format!("{wanted}: {there} Waiting for it."))
    }
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
