//! Commands received over MQTT, and their answers.
//!
//! A command is a small JSON object on `<node>/command` or `<node>/<camera>/command`, such as `{"do":
//! "pause"}`. The answer repeats the sender's `id`. Anything that is not exactly a [`CameraCommand`] or
//! [`NodeCommand`] is rejected with a reason. No command contains a file name, an address or a pipeline.

mod limiter;
mod request;

use self::{
    limiter::{Admission, Limiter},
    request::{CameraCommand, NodeCommand, Request},
};
use super::outbox::{Outbox, Row};
use crate::control::{
    CameraControl, NodeControl,
    saved::{Saved, SavedCamera},
};
use crate::wire::messages::SCHEMA;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use std::{sync::Arc, time::Duration};

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
    max_bytes: usize,
    limiter: Limiter,
}

/// Maximum length of a command's name in an answer, in characters.
const MAX_NAME_CHARS: usize = 40;

/// The result of a command.
pub struct Outcome {
    /// Payload of the answer.
    pub answer: Vec<u8>,
    /// The camera whose settings changed, if any.
    pub changed: Option<Arc<CameraControl>>,
}

impl Commander {
    /// Creates a commander that has executed no command yet. `max_bytes`: maximum size of an answer's
    /// payload.
    pub fn new(
        node: Arc<str>,
        cameras: Arc<[Arc<CameraControl>]>,
        control: Arc<NodeControl>,
        max_bytes: usize,
    ) -> Commander {
        Commander { node, cameras, control, max_bytes, limiter: Limiter::default() }
    }

    /// Executes a command and returns the outcome. `camera` is the camera in the topic; None for the node.
    /// `now` is monotonic, `at` the time of day. None if there are too many commands, and that was answered
    /// already.
    pub fn handle(
        &mut self,
        camera: Option<&str>,
        payload: &[u8],
        outbox: &Outbox,
        now: Duration,
        at: Timestamp,
    ) -> Option<Outcome> {
        // Cameras that do not exist share a budget, because there is no end of their names.
        let known =
            camera.map(|name| self.find(name).map_or("", |control| &*control.name)).map(str::to_string);
        let admission = self.limiter.admit(known.as_deref(), now);
        if let Some(count) = self.limiter.take_summary(now) {
            tracing::warn!(count, "Commands arrive too fast; some were not executed.");
        }
        if admission == Admission::Drop {
            return None;
        }
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
            answer.r#do = request.name().map(|name| name.chars().take(MAX_NAME_CHARS).collect());
            if admission == Admission::Refuse {
                return Err("too many commands; this one and the next ones are not executed".into());
            }
            match camera {
                Some(camera) => changed = self.handle_camera(camera, request, at)?,
                None => answer.history = self.handle_node(request, outbox)?,
            }
            Ok(())
        });
        (answer.ok, answer.error) = (outcome.is_ok(), outcome.err());
        let target = camera.unwrap_or("the node");
        tracing::info!(to = target, command = answer.r#do, error = answer.error, "Command received.");
        let payload = serde_json::to_vec(&answer).expect("answers have string keys");
        Some(Outcome { answer: payload, changed })
    }

    fn find(&self, camera: &str) -> Option<&Arc<CameraControl>> {
        self.cameras.iter().find(|control| &*control.name == camera)
    }

    fn handle_camera(
        &self,
        camera: &str,
        request: Request,
        at: Timestamp,
    ) -> Result<Option<Arc<CameraControl>>, String> {
        let names = || self.cameras.iter().map(|control| &*control.name).collect::<Vec<_>>().join(", ");
        let control = self
            .find(camera)
            .ok_or_else(|| format!("there is no camera of that name; the cameras are {}", names()))?;
        let change = |change: &dyn Fn(&mut SavedCamera)| {
            let changed = control.change(change);
            changed.map_err(|error| format!("the setting cannot be saved, so it is not changed: {error}"))
        };
        let set = |name: fn(&mut SavedCamera) -> &mut Option<Saved<f64>>, value: Option<f64>| {
            move |saved: &mut SavedCamera| {
                if let Some(value) = value {
                    SavedCamera::set(name(saved), value, at);
                }
            }
        };
        let changed = match request.for_camera()? {
            CameraCommand::Pause => change(&|saved| SavedCamera::set(&mut saved.watching, false, at))?,
            CameraCommand::Resume => change(&|saved| saved.watching = None)?,
            CameraCommand::Reset => change(&|saved| *saved = SavedCamera::default())?,
            CameraCommand::Snapshot if !control.settings().watching => {
                return Err("the camera is paused".into());
            }
            CameraCommand::Snapshot if !control.is_live() => {
                return Err("the camera delivers no frames; see its status".into());
            }
            CameraCommand::Snapshot => {
                control.request_snapshot();
                false
            }
            CameraCommand::Set { rate_fps, motion_threshold, score } => {
                let set_rate = set(|saved| &mut saved.rate_fps, rate_fps);
                let set_threshold = set(|saved| &mut saved.motion_threshold, motion_threshold);
                let set_score = set(|saved| &mut saved.score, score);
                change(&|saved| {
                    set_rate(saved);
                    set_threshold(saved);
                    set_score(saved);
                })?
            }
        };
        Ok(changed.then(|| control.clone()))
    }

    fn handle_node(&self, request: Request, outbox: &Outbox) -> Result<Option<HistoryPart>, String> {
        match request.for_node()? {
            NodeCommand::Reload => {
                let validate = self
                    .control
                    .validate_config
                    .as_ref()
                    .ok_or("there is no configuration file to reload")?;
                validate().map_err(|problem| format!("the configuration is not reloaded: {problem}"))?;
                self.control.request_reload();
                Ok(None)
            }
            NodeCommand::Stats => {
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
        let control = Arc::new(CameraControl::new(&config.cameras[0], &Arc::default()));
        control.set_live(true);
        let mut outbox = Outbox::open(config.outbox, jiff::Timestamp::UNIX_EPOCH).outbox;
        for number in 0..5 {
            let seq = outbox.next_seq("yard");
            let payload = format!("{{\"n\":{number}}}").into_bytes();
            let topic = "t".into();
            let camera = "yard".into();
            outbox.accept(DurableMessage { camera, seq, at_ms: 0, topic, payload });
        }
        outbox.commit(Duration::ZERO, jiff::Timestamp::UNIX_EPOCH, 0);
        let commander = Commander::new("porch".into(), [control].into(), Arc::default(), 100_000);
        (commander, outbox)
    }

    /// Executes a command ten seconds after the one before. Returns the answer.
    fn execute(commander: &mut Commander, outbox: &Outbox, camera: Option<&str>, payload: &[u8]) -> Outcome {
        static SECONDS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let now = Duration::from_secs(SECONDS.fetch_add(10, std::sync::atomic::Ordering::Relaxed));
        commander.handle(camera, payload, outbox, now, Timestamp::UNIX_EPOCH).unwrap()
    }

    fn ask(commander: &mut Commander, outbox: &Outbox, camera: Option<&str>, payload: &str) -> Value {
        serde_json::from_slice(&execute(commander, outbox, camera, payload.as_bytes()).answer).unwrap()
    }

    #[test]
    fn camera_commands_are_executed_and_answered() {
        let (mut commander, outbox) = commander();
        let mut yard = |payload: &str| ask(&mut commander, &outbox, Some("yard"), payload);
        let answer = yard(r#"{"do":"pause","id":"a1"}"#);
        assert_eq!(
            (&answer["ok"], &answer["id"], &answer["do"]),
            (&true.into(), &"a1".into(), &"pause".into())
        );
        assert_eq!(yard(r#"{"do":"snapshot"}"#)["error"], "the camera is paused");
        assert_eq!(yard(r#"{"do":"resume"}"#)["ok"], true);
        assert_eq!(yard(r#"{"do":"snapshot"}"#)["ok"], true);
        let control = commander.cameras[0].clone();
        assert!(control.settings().watching && control.take_snapshot_request());
        control.set_live(false);
        let mut yard = |payload: &str| execute(&mut commander, &outbox, Some("yard"), payload.as_bytes());
        assert!(
            String::from_utf8(yard(r#"{"do":"snapshot"}"#).answer).unwrap().contains("delivers no frames")
        );
        let settings = yard(r#"{"do":"set","rate_fps":2,"score":0.5}"#).changed.unwrap().settings();
        assert_eq!((settings.rate_fps, settings.score, settings.motion_threshold), (2.0, 0.5, 8.0));
        assert!(yard(r#"{"do":"set","rate_fps":2}"#).changed.is_none());
        let names: Vec<_> = control.saved().entries().into_iter().map(|(name, ..)| name).collect();
        assert_eq!(names, ["rate_fps", "score"]);
        assert_eq!(yard(r#"{"do":"reset"}"#).changed.unwrap().settings().rate_fps, 5.0);
        assert_eq!(control.saved(), SavedCamera::default());
    }

    #[test]
    fn a_flood_of_commands_is_answered_once() {
        let (mut commander, outbox) = commander();
        let mut answers = Vec::new();
        for _ in 0..1000 {
            let at = Timestamp::UNIX_EPOCH;
            let outcome = commander.handle(Some("yard"), br#"{"do":"pause"}"#, &outbox, Duration::ZERO, at);
            answers.extend(outcome.map(|outcome| String::from_utf8(outcome.answer).unwrap()));
        }
        assert_eq!(answers.len(), 31);
        assert!(answers[29].contains("\"ok\":true") && answers[30].contains("too many commands"));
    }

    #[test]
    fn history_is_returned_in_parts() {
        let (mut commander, outbox) = commander();
        let control = commander.control.clone();
        let mut node = |payload: &str| ask(&mut commander, &outbox, None, payload);
        let answer = node(r#"{"do":"history","camera":"yard","since":2,"limit":2}"#);
        assert_eq!(
            answer["messages"].to_string(),
            r#"[{"payload":{"n":2},"topic":"t"},{"payload":{"n":3},"topic":"t"}]"#
        );
        assert_eq!((&answer["more"], &answer["last_seq"]), (&true.into(), &5.into()));
        assert_eq!(node(r#"{"do":"stats"}"#)["ok"], true);
        assert!(control.take_stats_request());
        assert_eq!(node(r#"{"do":"reload"}"#)["error"], "there is no configuration file to reload");
        assert!(!commander.control.take_reload_request());
    }

    #[test]
    fn invalid_commands_are_rejected_with_a_reason() {
        let (mut commander, outbox) = commander();
        for (payload, why) in [
            ("", "is not JSON"),
            ("pause", "is not JSON"),
            ("[]", "must be a JSON object"),
            ("{}", "has no field do; the commands to a camera are pause, resume, snapshot, set, reset"),
            (r#"{"do":"explode"}"#, "there is no command \"explode\"; the commands to a camera are pause,"),
            (r#"{"do":7}"#, "do must be a string"),
            (r#"{"do":"pause","now":true}"#, "pause has no field \"now\""),
            (r#"{"do":"set"}"#, "needs at least one of"),
            (r#"{"do":"set","rate_fps":"2"}"#, "rate_fps must be a number from 0.01 to 1000"),
            (r#"{"do":"set","rate_fps":0}"#, "rate_fps must be from 0.01 to 1000"),
            (r#"{"do":"set","score":2}"#, "score must be from 0.01 to 1"),
            (r#"{"do":"set","source":"file:///etc/passwd"}"#, "set has no field \"source\""),
            (r#"{"do":"pause","id":5}"#, "id must be a string"),
            (r#"{"do":"reload"}"#, "reload is a command to the node"),
        ] {
            let answer = ask(&mut commander, &outbox, Some("yard"), payload);
            assert_eq!(answer["ok"], false, "{payload}");
            assert!(answer["error"].as_str().unwrap().contains(why), "{payload}: {answer}");
        }
        let deep = format!("{}{}", "[".repeat(2000), "]".repeat(2000));
        assert!(
            ask(&mut commander, &outbox, None, &deep)["error"].as_str().unwrap().contains("recursion limit")
        );
        let long = format!("{{\"do\":\"pause\",\"id\":\"{}\"}}", "x".repeat(5000));
        assert!(
            ask(&mut commander, &outbox, Some("yard"), &long)["error"].as_str().unwrap().contains("4096")
        );
        let unknown = ask(&mut commander, &outbox, Some("garden"), r#"{"do":"pause"}"#);
        assert!(unknown["error"].as_str().unwrap().contains("the cameras are yard"));
        assert_eq!(commander.cameras[0].settings().rate_fps, 5.0, "settings are unchanged");
    }

    #[test]
    fn random_payloads_change_nothing_and_are_all_answered() {
        let (mut commander, outbox) = commander();
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
                let outcome = execute(&mut commander, &outbox, camera, &payload);
                let answer: Value = serde_json::from_slice(&outcome.answer).unwrap();
                assert_eq!(answer["ok"], false, "{}", String::from_utf8_lossy(&payload));
            }
        }
        assert_eq!(commander.cameras[0].settings(), before);
        assert!(!commander.control.take_reload_request());
    }
}
