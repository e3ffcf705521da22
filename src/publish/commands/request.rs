//! Strict parsing of commands. Pure and independent of the rest of camfire, because `make fuzz` compiles this
//! file alone and feeds it arbitrary payloads.

use serde_json::{Map, Value};

/// Maximum length of a command in bytes. All valid commands are far shorter.
const MAX_BYTES: usize = 4096;
/// Maximum length of an id in characters.
const MAX_ID_CHARS: usize = 128;
/// Maximum length of a name that an error repeats, in characters.
const MAX_NAME_CHARS: usize = 40;
/// Maximum number of messages in one answer, and the default.
const MAX_MESSAGES: usize = 1000;

const CAMERA_COMMANDS: [&str; 5] = ["pause", "resume", "snapshot", "set", "reset"];
const NODE_COMMANDS: [&str; 3] = ["reload", "stats", "history"];

/// A command to a camera.
#[derive(Debug, PartialEq)]
pub enum CameraCommand {
    /// Closes the camera.
    Pause,
    /// Opens the camera again.
    Resume,
    /// Publishes a picture of the next frame.
    Snapshot,
    /// Changes settings. At least one is given.
    Set {
        /// From 0.01 to 1000.
        rate_fps: Option<f64>,
        /// From 1 to 255.
        motion_threshold: Option<f64>,
        /// From 0.01 to 1.
        score: Option<f64>,
    },
    /// Forgets what commands have set.
    Reset,
}

/// A command to the node.
#[derive(Debug, PartialEq)]
pub enum NodeCommand {
    /// Reloads the configuration if it is valid.
    Reload,
    /// Publishes the stats now.
    Stats,
    /// Returns the durable messages of a camera after a sequence number.
    History {
        /// Camera name. Empty for the node's own messages.
        camera: String,
        /// The last sequence number that the sender has.
        since: u64,
        /// Maximum number of messages, from 1 to 1000.
        limit: usize,
    },
}

/// A JSON object that may be a command.
#[derive(Debug)]
pub struct Request {
    /// Chosen by the sender; at most 128 characters.
    pub id: Option<String>,
    object: Map<String, Value>,
}

impl Request {
    /// Parses a payload as far as the JSON object and its id.
    ///
    /// Errors, as text for the user: the payload is too long, not JSON or not an object, or the id is
    /// invalid.
    pub fn read(payload: &[u8]) -> Result<Request, String> {
        if payload.len() > MAX_BYTES {
            return Err(format!("the command is longer than {MAX_BYTES} bytes"));
        }
        let value: Value =
            serde_json::from_slice(payload).map_err(|error| format!("the command is not JSON: {error}"))?;
        let Value::Object(mut object) = value else {
            return Err("the command must be a JSON object, such as {\"do\": \"pause\"}".into());
        };
        let id = match object.remove("id") {
            None | Some(Value::Null) => None,
            Some(Value::String(id)) if id.chars().count() <= MAX_ID_CHARS => Some(id),
            Some(_) => return Err(format!("id must be a string of at most {MAX_ID_CHARS} characters")),
        };
        Ok(Request { id, object })
    }

    /// Name of the command, as given.
    pub fn name(&self) -> Option<&str> {
        self.object.get("do").and_then(Value::as_str)
    }

    /// Parses it as a command to a camera.
    ///
    /// Errors, as text for the user: the command or a field is unknown, or a value is out of range.
    pub fn for_camera(mut self) -> Result<CameraCommand, String> {
        let name = self.take_name("a camera", &CAMERA_COMMANDS)?;
        let command = match name.as_str() {
            "pause" => CameraCommand::Pause,
            "resume" => CameraCommand::Resume,
            "snapshot" => CameraCommand::Snapshot,
            "reset" => CameraCommand::Reset,
            "set" => {
                // The ranges of the configuration.
                let rate_fps = self.take_number("rate_fps", 0.01, 1000.0)?;
                let motion_threshold = self.take_number("motion_threshold", 1.0, 255.0)?;
                let score = self.take_number("score", 0.01, 1.0)?;
                if rate_fps.or(motion_threshold).or(score).is_none() && self.object.is_empty() {
                    return Err("set needs at least one of rate_fps, motion_threshold, score".into());
                }
                CameraCommand::Set { rate_fps, motion_threshold, score }
            }
            other if NODE_COMMANDS.contains(&other) => {
                return Err(format!("{other} is a command to the node, not to a camera"));
            }
            other => return Err(unknown_command(other, "a camera", &CAMERA_COMMANDS)),
        };
        self.no_more_fields(&name)?;
        Ok(command)
    }

    /// Parses it as a command to the node.
    ///
    /// Errors, as text for the user: the command or a field is unknown, or a value is out of range.
    pub fn for_node(mut self) -> Result<NodeCommand, String> {
        let name = self.take_name("the node", &NODE_COMMANDS)?;
        let command = match name.as_str() {
            "reload" => NodeCommand::Reload,
            "stats" => NodeCommand::Stats,
            "history" => {
                let camera = match self.object.remove("camera") {
                    Some(Value::String(camera)) => camera,
                    Some(_) => return Err("camera must be a string".into()),
                    None => return Err("history needs camera, the name of a camera".into()),
                };
                let since = self.take_integer("since")?.ok_or("history needs since, a sequence number")?;
                let limit = self.take_integer("limit")?.unwrap_or(MAX_MESSAGES as u64);
                if !(1..=MAX_MESSAGES as u64).contains(&limit) {
                    return Err(format!("limit must be from 1 to {MAX_MESSAGES}"));
                }
                NodeCommand::History { camera, since, limit: limit as usize }
            }
            other if CAMERA_COMMANDS.contains(&other) => {
                return Err(format!("{other} is a command to a camera, not to the node"));
            }
            other => return Err(unknown_command(other, "the node", &NODE_COMMANDS)),
        };
        self.no_more_fields(&name)?;
        Ok(command)
    }

    fn take_name(&mut self, target: &str, commands: &[&str]) -> Result<String, String> {
        match self.object.remove("do") {
            Some(Value::String(name)) => Ok(name),
            Some(_) => Err("do must be a string".into()),
            None => Err(format!(
                "the command has no field do; the commands to {target} are {}",
                commands.join(", ")
            )),
        }
    }

    fn take_number(&mut self, name: &str, min: f64, max: f64) -> Result<Option<f64>, String> {
        match self.object.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) if (min..=max).contains(&number) => Ok(Some(number)),
                Some(_) => Err(format!("{name} must be from {min} to {max}")),
                None => Err(format!("{name} must be a number from {min} to {max}")),
            },
        }
    }

    fn take_integer(&mut self, name: &str) -> Result<Option<u64>, String> {
        match self.object.remove(name) {
            None => Ok(None),
            Some(value) => {
                value.as_u64().map(Some).ok_or_else(|| format!("{name} must be a whole number, 0 or more"))
            }
        }
    }

    fn no_more_fields(&self, command: &str) -> Result<(), String> {
        match self.object.keys().next() {
            Some(field) => Err(format!("{command} has no field {}", shortened(field))),
            None => Ok(()),
        }
    }
}

fn unknown_command(name: &str, target: &str, commands: &[&str]) -> String {
    let name = shortened(name);
    format!("there is no command {name}; the commands to {target} are {}", commands.join(", "))
}

/// A name from a command, for an error.
fn shortened(name: &str) -> String {
    let mut short: String = name.chars().take(MAX_NAME_CHARS).collect();
    if short.len() < name.len() {
        short.push('…');
    }
    format!("{short:?}")
}
