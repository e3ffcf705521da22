//! What a command says, read strictly. Pure, and knows nothing of cameras: `make fuzz` reads anything with it.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// The longest command, in bytes: all of them are shorter by far.
const LONGEST: usize = 4096;
/// The longest id, in characters.
const LONGEST_ID: usize = 128;
/// Messages in one answer, unless fewer are asked for.
const MOST_MESSAGES: usize = 1000;

/// What can be asked of a camera.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
pub enum CameraCommand {
    /// Closes it and looks no more.
    Pause {},
    /// Looks again.
    Resume {},
    /// A picture of the next frame.
    Snapshot {},
    /// Other settings, until camfire ends; at least one.
    Set {
        /// From 0.01 to 1000.
        rate_fps: Option<f64>,
        /// From 1 to 255.
        motion_threshold: Option<f64>,
        /// From 0.01 to 1.
        score: Option<f64>,
    },
}

/// What can be asked of a node.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
pub enum NodeCommand {
    /// Reads the configuration again, if there is nothing wrong with it.
    Reload {},
    /// The counts, at once.
    Stats {},
    /// The durable messages of a camera behind a number.
    History {
        /// Whose; empty for the node's own.
        camera: String,
        /// The last number that the sender has.
        since: u64,
        /// From 1 to 1000.
        #[serde(default = "default_limit")]
        limit: usize,
    },
}

fn default_limit() -> usize {
    MOST_MESSAGES
}

/// A command that may still be none.
#[derive(Debug)]
pub struct Request {
    /// Of the sender's choice; at most 128 characters.
    pub id: Option<String>,
    object: Map<String, Value>,
}

impl Request {
    /// The object that a payload is.
    ///
    /// Errors, in a user's words: too long, no JSON, no object, an id that is none.
    pub fn read(payload: &[u8]) -> Result<Request, String> {
        if payload.len() > LONGEST {
            return Err(format!("a command is at most {LONGEST} bytes long"));
        }
        let value: Value =
            serde_json::from_slice(payload).map_err(|error| format!("is not JSON: {error}"))?;
        let Value::Object(mut object) = value else {
            return Err("must be an object, such as {\"do\": \"pause\"}".into());
        };
        let id = match object.remove("id") {
            None | Some(Value::Null) => None,
            Some(Value::String(id)) if id.chars().count() <= LONGEST_ID => Some(id),
            Some(_) => return Err(format!("id must be a text of at most {LONGEST_ID} characters")),
        };
        Ok(Request { id, object })
    }

    /// What it calls itself.
    pub fn name(&self) -> Option<&str> {
        self.object.get("do").and_then(Value::as_str)
    }

    /// What is asked of a camera.
    ///
    /// Errors, in a user's words: nothing that can be asked, or values out of bounds.
    pub fn for_camera(self) -> Result<CameraCommand, String> {
        let command = self.parse()?;
        if let CameraCommand::Set { rate_fps, motion_threshold, score } = command {
            if rate_fps.or(motion_threshold).or(score).is_none() {
                return Err("needs one of rate_fps, motion_threshold, score".into());
            }
            // As the configuration's own rules have it.
            within("rate_fps", rate_fps, 0.01, 1000.0)?;
            within("motion_threshold", motion_threshold, 1.0, 255.0)?;
            within("score", score, 0.01, 1.0)?;
        }
        Ok(command)
    }

    /// What is asked of the node.
    ///
    /// Errors, in a user's words: nothing that can be asked, or values out of bounds.
    pub fn for_node(self) -> Result<NodeCommand, String> {
        let command = self.parse()?;
        if let NodeCommand::History { limit, .. } = command
            && !(1..=MOST_MESSAGES).contains(&limit)
        {
            return Err(format!("limit must be from 1 to {MOST_MESSAGES}"));
        }
        Ok(command)
    }

    fn parse<T: DeserializeOwned>(self) -> Result<T, String> {
        serde_json::from_value(Value::Object(self.object)).map_err(|error| error.to_string())
    }
}

fn within(name: &str, value: Option<f64>, least: f64, most: f64) -> Result<(), String> {
    match value {
        Some(value) if !(least..=most).contains(&value) => {
            Err(format!("{name} must be from {least} to {most}"))
        }
        _ => Ok(()),
    }
}
