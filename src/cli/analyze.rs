//! `camfire analyze`: a recording through exactly what the daemon does with a camera, in the recording's own time and as
//! fast as it goes.

use super::{
    annotate::Target,
    output::{self, SeenEvent, SeenFrame, SeenState},
    setup::{self, ConfigArguments, Signals},
    truth::{self, Extent, Truth},
};
use crate::{
    camera::{Ended, gst},
    clock::RecordingClock,
    config::{self, Config, Source},
    daemon::{Daemon, Publishing},
    error::{Error, ErrorKind},
    wire::{
        messages::{CameraState, CameraStatus, Detections, Event, Message, Size},
        topics::Topics,
    },
    workers::model::Model,
};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// What stands in for a camera where no configuration is given.
const CONFIG: &str = "[cameras.clip]\nsource = \"test://\"";
/// Who logs what a camera's state is.
const CAMERA_REPORT: &str = "camfire::camera::report";
/// So much may be missing at the end: containers round, and a last frame may have no length.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// Arguments of `camfire analyze`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  camfire analyze yard.mp4 --annotate seen.mp4")]
pub struct Arguments {
    /// The recording, in any container and codec that GStreamer can read
    #[arg(value_name = "CLIP")]
    clip: PathBuf,
    /// A configuration whose camera (zones, masks, labels, ...) the clip is looked at with [default: none]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Which of its cameras, if it has several
    #[arg(long, value_name = "NAME")]
    camera: Option<String>,
    /// Set one key, such as --set cameras.clip.rate_fps=15 (without --config the camera is called clip); may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = setup::key_value)]
    set: Vec<(String, String)>,
    /// Also tell what each analysed frame shows
    #[arg(long)]
    detections: bool,
    /// One JSON object a line: topic and payload, as `camfire watch --json`
    #[arg(long)]
    json: bool,
    /// What is really in the clip (as assets/demo.truth.json): tells how well it was seen
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
    /// Writes the clip with boxes, labels, zones, regions and masks drawn on, always as MP4
    #[arg(long, value_name = "FILE.mp4")]
    annotate: Option<PathBuf>,
}

/// Prints what happens in the clip, and what else was asked for.
pub fn run(mut arguments: Arguments) -> Result<ExitCode, Error> {
    arguments.clip = recording(&arguments.clip)?;
    let clip = &arguments.clip;
    let target = arguments.annotate.as_deref().map(|file| Target::check(clip, file)).transpose()?;
    let truth = arguments.truth.as_deref().map(Truth::read).transpose()?;
    let config = configuration(&arguments)?;
    // What comes and goes is told on stdout; the log is for what goes wrong. What a camera's state is to the daemon,
    // which would try again, is not the clip's.
    match config.log.level {
        config::LogLevel::Info => setup::start_log_without(config::LogLevel::Warn, Some(CAMERA_REPORT)),
        level => setup::start_log(level),
    }
    let model = Model::open(&config.engine.network, &config.groups)?;
    if let Some(truth) = &truth {
        truth.check_labels(&model.groups)?;
    }
    gst::init()?;
    let signals = Signals::catch()?;
    let duration = gst::clip_duration(clip);
    let progress = Progress::new(duration);
    let (camera, topics) = (config.cameras[0].clone(), Topics::new(&config));
    let clock = Arc::new(RecordingClock::new());
    let daemon = Daemon::start(config, &model, &Publishing::Direct, clock, Arc::default(), 0)?;
    let messages = daemon.messages().clone();
    let mut record = Record::new(&arguments, topics);
    let mut over = false;
    let outcome = loop {
        if signals.has_come() {
            break Ok(Ended::Stopped);
        }
        match messages.recv_timeout(Duration::from_millis(20)) {
            Ok(Message::Camera(status)) => match verdict(&status, clip) {
                Ok(ended) => over |= ended,
                Err(error) => break Err(error),
            },
            Ok(message) => {
                if let Message::Detections(frame) = &message {
                    progress.at(frame.captured_at);
                }
                progress.bar.suspend(|| record.take(message));
            }
            Err(_) if over && daemon.counts()[0].pending == 0 => break Ok(Ended::Finished),
            Err(_) => {}
        }
    };
    progress.bar.finish_and_clear();
    let seen = Extent {
        frames: daemon.counts()[0].captured,
        length: Duration::from_nanos(daemon.counters(0).reached_ns.load(Ordering::Relaxed)),
        size: record.size,
    };
    let faults = gst::decoder_errors() + daemon.counters(0).damaged.load(Ordering::Relaxed);
    daemon.stop();
    if outcome? == Ended::Stopped {
        return Ok(signals.exit_code());
    }
    for message in messages.try_iter() {
        record.take(message);
    }
    warn_of_damage(clip, duration, seen.length, faults);
    if let Some(truth) = truth {
        for difference in truth.differences(clip, &seen) {
            eprintln!("camfire: {difference}");
        }
        let score = truth::score(&truth, &record.frames, &record.events, &record.changes);
        if arguments.json {
            output::line!("{}", serde_json::json!({ "score": score }));
        } else {
            output::line!("{score}");
        }
    }
    if let Some(target) = target
        && target.write(clip, &camera, &record.frames, || signals.has_come())? == Ended::Stopped
    {
        return Ok(signals.exit_code());
    }
    Ok(ExitCode::SUCCESS)
}

/// Tells where the clip is not whole, as far as its container and the decoder know.
fn warn_of_damage(clip: &Path, declared: Option<Duration>, length: Duration, faults: u64) {
    let clip = clip.display();
    let seconds = |length: Duration| length.as_secs_f64();
    if let Some(declared) = declared.filter(|declared| *declared > length + LONGEST_REST) {
        eprintln!(
            "camfire: {clip}: its pictures end after {:.1} s, and it says to be {:.1} s long: it may be cut off or damaged",
            seconds(length),
            seconds(declared)
        );
    }
    if faults > 0 {
        eprintln!("camfire: {clip}: it is damaged: the decoder found {faults} faults in it");
    }
}

/// The recording's path; also of a `file://` address.
///
/// Errors ([`ErrorKind::Input`]): it cannot be read or is no file.
fn recording(clip: &Path) -> Result<PathBuf, Error> {
    let refuse = |why: &str| Error::new(ErrorKind::Input, format!("{}: {why}", clip.display()));
    let path = match clip.to_str() {
        Some(address) if address.contains("://") && !clip.exists() => {
            config::file_path(address).map_err(|why| refuse(&why))?
        }
        _ => clip.to_path_buf(),
    };
    let unreadable = |e| Error::caused(ErrorKind::Input, clip.display().to_string(), e);
    let there = std::fs::metadata(&path).map_err(unreadable)?;
    if there.is_dir() {
        return Err(refuse("is a folder; one recording is wanted"));
    }
    if !there.is_file() {
        return Err(refuse("is no ordinary file"));
    }
    std::fs::File::open(&path).map_err(unreadable)?;
    Ok(path)
}

/// The configuration of the one camera that the clip stands in for.
fn configuration(arguments: &Arguments) -> Result<Config, Error> {
    let mut config = match &arguments.config {
        Some(file) => {
            ConfigArguments { config: Some(file.clone()), set: arguments.set.clone() }.load()?.config
        }
        None => {
            let stranger = |key: &str| {
                key.strip_prefix("cameras.").is_some_and(|rest| rest.split('.').next() != Some("clip"))
            };
            if let Some((key, value)) = arguments.set.iter().find(|(key, _)| stranger(key)) {
                let message = format!("--set {key}={value}: without --config the only camera is called clip");
                return Err(Error::new(ErrorKind::Input, message));
            }
            let main = config::Main::Text { name: "the built-in camera".into(), text: CONFIG.into() };
            setup::load(main, arguments.set.clone())?.config
        }
    };
    let known: Vec<String> = config.cameras.iter().map(|camera| camera.name.clone()).collect();
    let known = known.join(", ");
    match &arguments.camera {
        Some(name) => config.cameras.retain(|camera| camera.name == *name),
        None if config.cameras.len() > 1 => {
            return Err(Error::new(ErrorKind::Input, format!("which camera? --camera is one of {known}")));
        }
        None => {}
    }
    let Some(camera) = config.cameras.first_mut() else {
        let message =
            format!("there is no camera {}, only {known}", arguments.camera.as_deref().unwrap_or("at all"));
        return Err(Error::new(ErrorKind::Input, message));
    };
    let path = std::path::absolute(&arguments.clip)
        .map_err(|e| Error::caused(ErrorKind::Input, arguments.clip.display().to_string(), e))?;
    camera.source = Source::File { path, repeat: false, realtime: false };
    (camera.pipeline, camera.login, camera.snapshot_source) = (None, None, None);
    camera.options.clear();
    (config.pictures.directory, config.pictures.publish) = (None, false);
    Ok(config)
}

/// Whether the clip is over.
///
/// Errors ([`ErrorKind::Input`]): it cannot be read. The camera would be tried again, and the clip told a second time.
fn verdict(status: &CameraStatus, clip: &Path) -> Result<bool, Error> {
    match (status.state, &status.reason) {
        (CameraState::Ended, _) => Ok(true),
        (CameraState::Starting | CameraState::Live | CameraState::Stopped, _) => Ok(false),
        (_, reason) => {
            let reason = reason.as_deref().unwrap_or("it cannot be read");
            Err(Error::new(ErrorKind::Input, format!("{}: {reason}", clip.display())))
        }
    }
}

/// A bar on stderr, where that is a terminal.
struct Progress {
    bar: ProgressBar,
}

impl Progress {
    fn new(duration: Option<Duration>) -> Progress {
        let bar = match duration {
            Some(duration) => ProgressBar::new(duration.as_millis() as u64),
            None => ProgressBar::no_length(),
        };
        let template =
            if duration.is_some() { "{bar:40} {percent}% {msg}, {eta} to go" } else { "{spinner} {msg}" };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Progress { bar }
    }

    fn at(&self, captured_at: Timestamp) {
        let ms = captured_at.as_millisecond().max(0) as u64;
        self.bar.set_position(ms);
        self.bar.set_message(format!("{:.1} s", ms as f64 / 1e3));
    }
}

/// What is printed of what is said of the clip, and what is kept of it.
struct Record {
    json: bool,
    detections: bool,
    /// It is scored later.
    scores: bool,
    /// It is drawn later.
    draws: bool,
    topics: Topics,
    /// The picture's, once one has been looked at.
    size: Option<Size>,
    /// Without the classes of each thing, which neither needs.
    frames: Vec<Detections>,
    events: Vec<Event>,
    changes: Vec<Timestamp>,
}

impl Record {
    fn new(arguments: &Arguments, topics: Topics) -> Record {
        Record {
            json: arguments.json,
            detections: arguments.detections,
            scores: arguments.truth.is_some(),
            draws: arguments.annotate.is_some(),
            topics,
            size: None,
            frames: Vec::new(),
            events: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// Prints a message that is worth it, and keeps what is needed later.
    fn take(&mut self, mut message: Message) {
        match &mut message {
            Message::Detections(frame) => {
                self.size = Some(frame.size);
                // How fast this machine is belongs to no recording: the same clip gives the same lines.
                frame.latency_ms = 0.0;
                if self.scores || self.draws {
                    let mut frame = frame.clone();
                    frame.trace = None;
                    frame.objects.iter_mut().for_each(|object| object.top = Vec::new());
                    self.frames.push(frame);
                }
                if !self.detections {
                    return;
                }
            }
            Message::Event(event) if self.scores => self.events.push(event.clone()),
            Message::Scene(change) if self.scores => self.changes.push(change.at),
            Message::Event(_) | Message::Scene(_) | Message::Region(_) => {}
            Message::Occupancy(_)
            | Message::Camera(_)
            | Message::Stats(_)
            | Message::Picture(_)
            | Message::Snapshot(_)
            | Message::Settings(_)
            | Message::Heatmap(_) => return,
        }
        let (is_event, is_frame) =
            (matches!(message, Message::Event(_)), matches!(message, Message::Detections(_)));
        let topic = self.topics.address(&message).topic;
        let payload = message.payload();
        if self.json {
            let payload =
                serde_json::value::RawValue::from_string(String::from_utf8_lossy(&payload).into_owned());
            if let Ok(payload) = payload {
                output::line!("{}", serde_json::to_string(&JsonLine { topic, payload }).unwrap_or_default());
            }
        } else if is_event {
            if let Ok(seen) = serde_json::from_slice::<SeenEvent>(&payload) {
                output::line!("{}", seen.line());
            }
        } else if is_frame {
            if let Ok(seen) = serde_json::from_slice::<SeenFrame>(&payload) {
                output::line!("{}", seen.line());
            }
        } else if let Ok(seen) = serde_json::from_slice::<SeenState>(&payload) {
            output::line!("{}", seen.line());
        }
    }
}

/// What `--json` prints; the payload byte for byte as it would be published.
#[derive(serde::Serialize)]
struct JsonLine {
    topic: String,
    payload: Box<serde_json::value::RawValue>,
}
