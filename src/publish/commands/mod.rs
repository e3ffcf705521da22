//! Commands received over MQTT, and their answers.
//!
//! A command is a small JSON object on `<node>/command` or `<node>/<camera>/command`, such as `{"do":
//! "pause"}`. The answer repeats the sender's `id`. Anything that is not exactly a [`CameraCommand`] or
//! [`NodeCommand`] is rejected with a reason. No command contains a file name, an address or a pipeline.

mod request;

use self::request::{CameraCommand, NodeCommand, Request};
use super::outbox::{Outbox, Row};
use crate::control::{CameraControl, CameraSettings, NodeControl};
use crate::wire::messages::SCHEMA;
use serde::Serialize;
use serde_json::value::RawValue;
use std::sync::Arc;

/// The answer to a command.
#[derive(Debug, Serialize)]
pub struct Answer {
    schema: u32,
    node: Arc<str>,
    /// Camera name; null for the node.
    camera: Option<Arc<str>>,
    /// The command's id; null if it had none.
    id: Option<String>,
    /// Name of the command; null if it could not be parsed.
    r#do: Option<String>,
    /// Whether the command was accepted.
    ok: bool,
    /// Why the command was rejected; null otherwise.
    error: Option<String>,
    /// Only in answers to the command `history`.
    #[serde(flatten)]
    history: Option<HistoryPart>,
}

/// Part of a camera's history.
#[derive(Debug, Serialize)]
struct HistoryPart {
    stream: String,
    /// The oldest sequence number that is still stored; null if there is none.
    first_seq: Option<u64>,
    /// The last sequence number assigned.
    last_seq: u64,
    /// Whether there are more messages after these.
    more: bool,
    messages: Vec<HistoryMessage>,
}

#[derive(Debug, Serialize)]
struct HistoryMessage {
    topic: String,
    payload: Box<RawValue>,
}

/// Executes commands.
pub struct Commander {
    /// Node name.
    pub node: Arc<str>,
    /// Controls of the configured cameras.
    pub cameras: Arc<[Arc<CameraControl>]>,
    /// Control of the node.
    pub control: Arc<NodeControl>,
    /// Maximum size of an answer's payload.
    pub max_bytes: usize,
}

/// The result of a command.
pub struct Outcome {
    /// Payload of the answer.
    pub answer: Vec<u8>,
    /// The camera whose settings changed, if any.
    pub changed: Option<Arc<CameraControl>>,
}

impl Commander {
    /// Executes the command in `payload`, for `camera`, or for the node if it is None.
    pub fn handle(&self, camera: Option<&str>, payload: &[u8], outbox: &Outbox) -> Outcome {
        let mut answer = Answer {
            schema: SCHEMA,
            node: self.node.clone(),
            camera: camera.map(Arc::from),
            id: None,
            r#do: None,
            ok: false,
            error: None,
            history: None,
        };
        let mut changed = None;
        let outcome = Request::read(payload).and_then(|request| {
            answer.id = request.id.clone();
            answer.r#do = request.name().map(str::to_string);
            match camera {
                Some(camera) => changed = self.handle_camera(camera, request)?,
                None => answer.history = self.handle_node(request, outbox)?,
            }
            Ok(())
        });
        (answer.ok, answer.error) = (outcome.is_ok(), outcome.err());
        let target = camera.unwrap_or("the node");
        tracing::info!(to = target, command = answer.r#do, error = answer.error, "Command received.");
        let payload = serde_json::to_vec(&answer).expect("answers have string keys");
        Outcome { answer: payload, changed }
    }

    fn handle_camera(&self, camera: &str, request: Request) -> Result<Option<Arc<CameraControl>>, String> {
        let names = || self.cameras.iter().map(|control| &*control.name).collect::<Vec<_>>().join(", ");
        let control = (self.cameras.iter().find(|control| &*control.name == camera))
            .ok_or_else(|| format!("there is no camera of that name; the cameras are {}", names()))?;
        let changed = match request.for_camera()? {
            CameraCommand::Pause {} => control.change(|settings| settings.watching = false),
            CameraCommand::Resume {} => control.change(|settings| settings.watching = true),
            CameraCommand::Snapshot {} if !control.settings().watching => {
                return Err("the camera is paused".into());
            }
            CameraCommand::Snapshot {} => {
                control.request_snapshot();
                false
            }
            CameraCommand::Set { rate_fps, motion_threshold, score } => control.change(|settings| {
                let CameraSettings { rate_fps: rate, motion_threshold: threshold, score: min_score, .. } =
                    settings;
                *rate = rate_fps.unwrap_or(*rate);
                *threshold = motion_threshold.unwrap_or(*threshold);
                *min_score = score.unwrap_or(*min_score);
            }),
        };
        Ok(changed.then(|| control.clone()))
    }

    fn handle_node(&self, request: Request, outbox: &Outbox) -> Result<Option<HistoryPart>, String> {
        match request.for_node()? {
            NodeCommand::Reload {} => {
                let validate = self
                    .control
                    .validate_config
                    .as_ref()
                    .ok_or("there is no configuration file to reload")?;
                validate().map_err(|problem| format!("the configuration is not reloaded: {problem}"))?;
                self.control.request_reload();
                Ok(None)
            }
            NodeCommand::Stats {} => {
                self.control.request_stats();
                Ok(None)
            }
            NodeCommand::History { camera, since, limit } => {
                let found = outbox.history(&camera, since, limit).map_err(|error| error.to_string())?;
                let mut part = HistoryPart {
                    stream: found.stream,
                    first_seq: found.first_seq,
                    last_seq: found.last_seq,
                    more: found.more,
                    messages: Vec::new(),
                };
                let mut bytes = 1024;
                for Row { message, .. } in found.rows {
                    bytes += message.payload.len() + message.topic.len() + 32;
                    if bytes > self.max_bytes && !part.messages.is_empty() {
                        part.more = true;
                        break;
                    }
                    let text = String::from_utf8_lossy(&message.payload).into_owned();
                    let payload = RawValue::from_string(text).map_err(|error| error.to_string())?;
                    part.messages.push(HistoryMessage { topic: message.topic, payload });
                }
                Ok(Some(part))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config, publish::outbox::DurableMessage};
    use serde_json::Value;
    use std::time::Duration;

    fn commander() -> (Commander, Outbox) {
        let text = "[cameras.yard]\nsource = 'test://'".into();
        let main = config::Main::Text { name: "t".into(), text };
        let config = config::load(&config::Inputs { main, ..Default::default() }).unwrap().config;
        let control = Arc::new(CameraControl::new(&config.cameras[0], &config.objects));
        let mut outbox = Outbox::open(config.outbox, jiff::Timestamp::UNIX_EPOCH).outbox;
        for number in 0..5 {
            let seq = outbox.next_seq("yard");
            let payload = format!("{{\"n\":{number}}}").into_bytes();
            let topic = "t".into();
            let camera = "yard".into();
            outbox.accept(DurableMessage { camera, seq, at_ms: 0, topic, payload });
        }
        outbox.commit(Duration::ZERO, jiff::Timestamp::UNIX_EPOCH, 0);
        let commander = Commander {
            node: "porch".into(),
            cameras: [control].into(),
            control: Arc::default(),
            max_bytes: 100_000,
        };
        (commander, outbox)
    }

    fn ask(commander: &Commander, outbox: &Outbox, camera: Option<&str>, payload: &str) -> Value {
        serde_json::from_slice(&commander.handle(camera, payload.as_bytes(), outbox).answer).unwrap()
    }

    #[test]
    fn camera_commands_are_executed_and_answered() {
        let (commander, outbox) = commander();
        let yard = |payload: &str| ask(&commander, &outbox, Some("yard"), payload);
        let answer = yard(r#"{"do":"pause","id":"a1"}"#);
        assert_eq!(
            (&answer["ok"], &answer["id"], &answer["do"]),
            (&true.into(), &"a1".into(), &"pause".into())
        );
        assert!(!commander.cameras[0].settings().watching);
        assert_eq!(yard(r#"{"do":"snapshot"}"#)["error"], "the camera is paused");
        yard(r#"{"do":"resume"}"#);
        yard(r#"{"do":"snapshot"}"#);
        assert!(commander.cameras[0].take_snapshot_request());
        let changed =
            commander.handle(Some("yard"), br#"{"do":"set","rate_fps":2,"score":0.5}"#, &outbox).changed;
        let settings = changed.unwrap().settings();
        assert_eq!((settings.rate_fps, settings.score, settings.motion_threshold), (2.0, 0.5, 8.0));
        assert!(commander.handle(Some("yard"), br#"{"do":"set","rate_fps":2}"#, &outbox).changed.is_none());
    }

    #[test]
    fn history_is_returned_in_parts() {
        let (commander, outbox) = commander();
        let node = |payload: &str| ask(&commander, &outbox, None, payload);
        let answer = node(r#"{"do":"history","camera":"yard","since":2,"limit":2}"#);
        assert_eq!(
            answer["messages"].to_string(),
            r#"[{"payload":{"n":2},"topic":"t"},{"payload":{"n":3},"topic":"t"}]"#
        );
        assert_eq!((&answer["more"], &answer["last_seq"]), (&true.into(), &5.into()));
        assert_eq!(node(r#"{"do":"stats"}"#)["ok"], true);
        assert!(commander.control.take_stats_request());
        assert_eq!(node(r#"{"do":"reload"}"#)["error"], "there is no configuration file to reload");
        assert!(!commander.control.take_reload_request());
    }

    #[test]
    fn invalid_commands_are_rejected_with_a_reason() {
        let (commander, outbox) = commander();
        for (payload, why) in [
            ("", "is not JSON"),
            ("pause", "is not JSON"),
            ("[]", "must be a JSON object"),
            ("{}", "missing field `do`"),
            (r#"{"do":"explode"}"#, "unknown variant `explode`"),
            (r#"{"do":7}"#, "invalid type"),
            (r#"{"do":"pause","now":true}"#, "unknown field `now`"),
            (r#"{"do":"set"}"#, "needs at least one of"),
            (r#"{"do":"set","rate_fps":"2"}"#, "invalid type"),
            (r#"{"do":"set","rate_fps":0}"#, "rate_fps must be from 0.01 to 1000"),
            (r#"{"do":"set","score":2}"#, "score must be from 0.01 to 1"),
            (r#"{"do":"set","source":"file:///etc/passwd"}"#, "unknown field `source`"),
            (r#"{"do":"pause","id":5}"#, "id must be a string"),
            (r#"{"do":"reload"}"#, "unknown variant `reload`"),
        ] {
            let answer = ask(&commander, &outbox, Some("yard"), payload);
            assert_eq!(answer["ok"], false, "{payload}");
            assert!(answer["error"].as_str().unwrap().contains(why), "{payload}: {answer}");
        }
        let deep = format!("{}{}", "[".repeat(2000), "]".repeat(2000));
        assert!(ask(&commander, &outbox, None, &deep)["error"].as_str().unwrap().contains("recursion limit"));
        let long = format!("{{\"do\":\"pause\",\"id\":\"{}\"}}", "x".repeat(5000));
        assert!(ask(&commander, &outbox, Some("yard"), &long)["error"].as_str().unwrap().contains("4096"));
        let unknown = ask(&commander, &outbox, Some("garden"), r#"{"do":"pause"}"#);
        assert!(unknown["error"].as_str().unwrap().contains("the cameras are yard"));
        assert_eq!(commander.cameras[0].settings().rate_fps, 5.0, "settings are unchanged");
    }

    #[test]
    fn random_payloads_change_nothing_and_are_all_answered() {
        let (commander, outbox) = commander();
        let before = commander.cameras[0].settings();
        let words = [
            "{",
            "}",
            "[",
            "]",
            "\"do\"",
            ":",
            ",",
            "\"set\"",
            "\"rate_fps\"",
            "1e999",
            "-1",
            "null",
            "\\u0000",
            "\u{e4}",
            "\"id\"",
            "true",
        ];
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let payload: Vec<u8> = if random.bool() {
                (0..random.usize(0..40)).map(|_| random.u8(..)).collect()
            } else {
                (0..random.usize(1..14)).flat_map(|_| words[random.usize(0..words.len())].bytes()).collect()
            };
            for camera in [None, Some("yard")] {
                let answer: Value =
                    serde_json::from_slice(&commander.handle(camera, &payload, &outbox).answer).unwrap();
                assert_eq!(answer["ok"], false, "{}", String::from_utf8_lossy(&payload));
            }
        }
        assert_eq!(commander.cameras[0].settings(), before);
        assert!(!commander.control.take_reload_request());
    }
}
