//! Strict parsing of commands. Pure and independent of the rest of camfire, because `make fuzz` compiles this
//! file alone and feeds it arbitrary payloads.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// Maximum length of a command in bytes. All valid commands are far shorter.
const MAX_BYTES: usize = 4096;
/// Maximum length of an id in characters.
const MAX_ID_CHARS: usize = 128;
/// Maximum number of messages in one answer, and the default.
const MAX_MESSAGES: usize = 1000;

/// A command to a camera.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
pub enum CameraCommand {
    /// Closes the camera.
    Pause {},
    /// Opens the camera again.
    Resume {},
    /// Publishes a picture of the next frame.
    Snapshot {},
    /// Changes settings until camfire stops. At least one must be given.
    Set {
        /// From 0.01 to 1000.
        rate_fps: Option<f64>,
        /// From 1 to 255.
        motion_threshold: Option<f64>,
        /// From 0.01 to 1.
        score: Option<f64>,
    },
}

/// A command to the node.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
pub enum NodeCommand {
    /// Reloads the configuration if it is valid.
    Reload {},
    /// Publishes the stats now.
    Stats {},
    /// Returns the durable messages of a camera after a sequence number.
    History {
        /// Camera name. Empty for the node's own messages.
        camera: String,
        /// The last sequence number that the sender has.
        since: u64,
        /// Maximum number of messages, from 1 to 1000.
        #[serde(default = "default_limit")]
        limit: usize,
    },
}

fn default_limit() -> usize {
    MAX_MESSAGES
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
    pub fn for_camera(self) -> Result<CameraCommand, String> {
        let command = self.parse()?;
        if let CameraCommand::Set { rate_fps, motion_threshold, score } = command {
            if rate_fps.or(motion_threshold).or(score).is_none() {
                return Err("set needs at least one of rate_fps, motion_threshold, score".into());
            }
            // The ranges of the configuration.
            within("rate_fps", rate_fps, 0.01, 1000.0)?;
            within("motion_threshold", motion_threshold, 1.0, 255.0)?;
            within("score", score, 0.01, 1.0)?;
        }
        Ok(command)
    }

    /// Parses it as a command to the node.
    ///
    /// Errors, as text for the user: the command or a field is unknown, or a value is out of range.
    pub fn for_node(self) -> Result<NodeCommand, String> {
        let command = self.parse()?;
        if let NodeCommand::History { limit, .. } = command
            && !(1..=MAX_MESSAGES).contains(&limit)
        {
            return Err(format!("limit must be from 1 to {MAX_MESSAGES}"));
        }
        Ok(command)
    }

    fn parse<T: DeserializeOwned>(self) -> Result<T, String> {
        serde_json::from_value(Value::Object(self.object)).map_err(|error| error.to_string())
    }
}

fn within(name: &str, value: Option<f64>, min: f64, max: f64) -> Result<(), String> {
    match value {
        Some(value) if !(min..=max).contains(&value) => Err(format!("{name} must be from {min} to {max}")),
        _ => Ok(()),
    }
}
