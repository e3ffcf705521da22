//! `camfire analyze`: runs a recording through the same analysis as a camera, in the recording's own time and
//! as fast as possible.

use super::{
    annotate::Target,
    burnt_in::Places,
    log,
    output::{self, MessagePrinter},
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

/// The configuration if none is given. The clip replaces the camera's source.
const CONFIG: &str = "[cameras.clip]\nsource = \"test://\"";
/// The module that logs camera states.
const CAMERA_STATUS_MODULE: &str = "camfire::camera::report";
/// The clip may end this much before its declared duration: containers round, and the last frame may have no
/// duration.
const MAX_MISSING_END: Duration = Duration::from_secs(1);

/// Arguments of `camfire analyze`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  camfire analyze yard.mp4 --annotate annotated.mp4")]
pub struct Arguments {
    /// The recording, in any container and codec that GStreamer can read
    #[arg(value_name = "CLIP")]
    clip: PathBuf,
    /// Configuration whose camera settings (zones, masks, labels, ...) apply to the clip [default: none]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Camera whose settings apply, if the configuration has several cameras
    #[arg(long, value_name = "NAME")]
    camera: Option<String>,
    /// Override one key, for example --set cameras.clip.rate_fps=15; repeatable. Without --config the camera
    /// is named clip
    #[arg(long, value_name = "KEY=VALUE", value_parser = setup::key_value)]
    set: Vec<(String, String)>,
    /// Also print the detections of each analysed frame
    #[arg(long)]
    detections: bool,
    /// Print one JSON object per line: topic and payload, as `camfire watch --json` does
    #[arg(long)]
    json: bool,
    /// Ground truth of the clip (example: assets/demo.truth.json); prints a score
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
    /// Write a copy of the clip with boxes, labels, zones, regions and masks drawn on it, as MP4
    #[arg(long, value_name = "FILE.mp4")]
    annotate: Option<PathBuf>,
}

/// Analyses the clip and prints its events and the other requested results.
pub fn run(mut arguments: Arguments) -> Result<ExitCode, Error> {
    arguments.clip = recording(&arguments.clip)?;
    let clip = &arguments.clip;
    let target = arguments.annotate.as_deref().map(|file| Target::check(clip, file)).transpose()?;
    let mut truth = arguments.truth.as_deref().map(Truth::read).transpose()?;
    let config = configuration(&arguments)?;
    // Events go to stdout, so the log only has warnings. Camera states are not logged, because they describe
    // retries that a clip does not get.
    match config.log.level {
        config::LogLevel::Info => log::start_without(config::LogLevel::Warn, Some(CAMERA_STATUS_MODULE)),
        level => log::start(level),
    };
    let model = Model::open(&config.engine.network, &config.groups)?;
    if let Some(truth) = &mut truth {
        truth.check_labels(&model.taxonomy)?;
    }
    gst::init()?;
    let signals = Signals::catch_all()?;
    let duration = gst::clip_duration(clip);
    let progress = Progress::new(duration);
    let (camera, topics) = (config.cameras[0].clone(), Topics::new(&config));
    let clock = Arc::new(RecordingClock::new());
    let daemon = Daemon::start(config, &model, &Publishing::Direct, clock, Arc::default(), 0)?;
    let messages = daemon.messages().clone();
    let mut collector = Collector::new(&arguments, topics);
    let mut is_over = false;
    let outcome = loop {
        if signals.has_arrived() {
            break Ok(Ended::Stopped);
        }
        match messages.recv_timeout(Duration::from_millis(20)) {
            Ok(Message::Camera(status)) => match has_ended(&status, clip) {
                Ok(ended) => is_over |= ended,
                Err(error) => break Err(error),
            },
            Ok(message) => {
                if let Message::Detections(frame) = &message {
                    progress.at(frame.captured_at);
                }
                progress.bar.suspend(|| collector.take(message));
            }
            Err(_) if is_over && daemon.counts()[0].pending == 0 => break Ok(Ended::Finished),
            Err(_) => {}
        }
    };
    progress.bar.finish_and_clear();
    let extent = Extent {
        frames: daemon.counts()[0].captured,
        length: Duration::from_nanos(daemon.counters(0).reached_ns.load(Ordering::Relaxed)),
        size: collector.size,
    };
    let faults = gst::decoder_errors() + daemon.counters(0).damaged.load(Ordering::Relaxed);
    daemon.stop();
    if outcome? == Ended::Stopped {
        return Ok(signals.exit_code());
    }
    for message in messages.try_iter() {
        collector.take(message);
    }
    if let Some(advice) = collector.places.advice() {
        eprintln!("camfire: {}: {advice}", clip.display());
    }
    warn_of_damage(clip, duration, extent.length, faults);
    if let Some(truth) = truth {
        for difference in truth.differences(clip, &extent) {
            output::note!("camfire: {difference}");
        }
        let score = truth::score(&truth, &collector.frames, &collector.events, &collector.changes);
        if arguments.json {
            output::line!("{}", serde_json::json!({ "score": score }));
        } else {
            output::line!("{score}");
        }
    }
    if let Some(target) = target
        && target.write(clip, &camera, &collector.frames, || signals.has_arrived())? == Ended::Stopped
    {
        return Ok(signals.exit_code());
    }
    Ok(ExitCode::SUCCESS)
}

/// Warns of a truncated or damaged clip, as far as its container and the decoder show.
fn warn_of_damage(clip: &Path, declared: Option<Duration>, length: Duration, faults: u64) {
    let clip = clip.display();
    let seconds = |length: Duration| length.as_secs_f64();
    if let Some(declared) = declared.filter(|declared| *declared > length + MAX_MISSING_END) {
        output::note!(
            "camfire: {clip}: the video ends after {:.1} s, but its declared duration is {:.1} s: it may be truncated or damaged",
            seconds(length),
            seconds(declared)
        );
    }
    if faults > 0 {
        output::note!("camfire: {clip}: damaged: the decoder reported {faults} errors");
    }
}

/// The path of the recording, given as a path or a `file://` address.
///
/// Errors ([`ErrorKind::Input`]): it cannot be read, or is not a regular file.
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
        return Err(refuse("is a directory; expected one recording"));
    }
    if !there.is_file() {
        return Err(refuse("is not a regular file"));
    }
    std::fs::File::open(&path).map_err(unreadable)?;
    Ok(path)
}

/// The configuration, reduced to the one camera whose source the clip replaces.
fn configuration(arguments: &Arguments) -> Result<Config, Error> {
    let mut config = match &arguments.config {
        Some(file) => {
            ConfigArguments { config: Some(file.clone()), set: arguments.set.clone() }.load()?.config
        }
        None => {
            let is_other_camera = |key: &str| {
                key.strip_prefix("cameras.").is_some_and(|rest| rest.split('.').next() != Some("clip"))
            };
            if let Some((key, value)) = arguments.set.iter().find(|(key, _)| is_other_camera(key)) {
                let message = format!("--set {key}={value}: without --config the only camera is named clip");
                return Err(Error::new(ErrorKind::Input, message));
            }
            let main = config::Main::Text { name: "the built-in configuration".into(), text: CONFIG.into() };
            setup::load(main, arguments.set.clone())?.config
        }
    };
    let known: Vec<String> = config.cameras.iter().map(|camera| camera.name.clone()).collect();
    let known = known.join(", ");
    match &arguments.camera {
        Some(name) => config.cameras.retain(|camera| camera.name == *name),
        None if config.cameras.len() > 1 => {
            return Err(Error::new(
                ErrorKind::Input,
                format!("the configuration has several cameras; --camera must be one of {known}"),
            ));
        }
        None => {}
    }
    let Some(camera) = config.cameras.first_mut() else {
        let message = match &arguments.camera {
            Some(name) => format!("no camera {name}; the configuration has {known}"),
            None => "the configuration has no camera".to_string(),
        };
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

/// Whether the clip has ended, by the camera's status.
///
/// Errors ([`ErrorKind::Input`]): it cannot be read. The daemon would retry, and report the clip's events
/// twice.
fn has_ended(status: &CameraStatus, clip: &Path) -> Result<bool, Error> {
    match (status.state, &status.reason) {
        (CameraState::Ended, _) => Ok(true),
        (CameraState::Starting | CameraState::Live | CameraState::Stopped, _) => Ok(false),
        (_, reason) => {
            let reason = reason.as_deref().unwrap_or("cannot be read");
            Err(Error::new(ErrorKind::Input, format!("{}: {reason}", clip.display())))
        }
    }
}

/// A progress bar on stderr, if that is a terminal.
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
            if duration.is_some() { "{bar:40} {percent}% {msg}, {eta} left" } else { "{spinner} {msg}" };
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

/// Prints messages about the clip, and keeps those that are needed after its end.
struct Collector {
    json: bool,
    detections: bool,
    /// Keep frames and events for scoring.
    scores: bool,
    /// Keep frames for the annotated copy.
    draws: bool,
    topics: Topics,
    printer: MessagePrinter,
    /// Frame size, once a frame has been analysed.
    size: Option<Size>,
    /// Without each object's classes, which neither scoring nor drawing needs.
    frames: Vec<Detections>,
    events: Vec<Event>,
    changes: Vec<Timestamp>,
    places: Places,
}

impl Collector {
    fn new(arguments: &Arguments, topics: Topics) -> Collector {
        Collector {
            json: arguments.json,
            detections: arguments.detections,
            scores: arguments.truth.is_some(),
            draws: arguments.annotate.is_some(),
            topics,
            printer: MessagePrinter::default(),
            size: None,
            frames: Vec::new(),
            events: Vec::new(),
            changes: Vec::new(),
            places: Places::default(),
        }
    }

    /// Prints a message if its kind was requested, and keeps it if it is needed later.
    fn take(&mut self, mut message: Message) {
        if let Message::Event(event) = &message {
            self.places.add(event);
        }
        match &mut message {
            Message::Detections(frame) => {
                self.size = Some(frame.size);
                // Latency depends on the machine; without it the same clip always gives the same output.
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
            Message::Event(event) if self.scores => self.events.push((**event).clone()),
            Message::Scene(change) if self.scores => self.changes.push(change.at),
            Message::Event(_) | Message::Scene(_) | Message::Region(_) => {}
            Message::Occupancy(_)
            | Message::Camera(_)
            | Message::Change(_)
            | Message::Stats(_)
            | Message::Picture(_)
            | Message::Snapshot(_)
            | Message::View(_)
            | Message::Settings(_)
            | Message::Heatmap(_) => return,
        }
        let topic = self.topics.address(&message).topic;
        let payload = message.payload();
        if self.json {
            let payload =
                serde_json::value::RawValue::from_string(String::from_utf8_lossy(&payload).into_owned());
            if let Ok(payload) = payload {
                output::line!("{}", serde_json::to_string(&JsonLine { topic, payload }).unwrap_or_default());
            }
        } else if let Ok(line) = self.printer.line(&topic, &payload) {
            output::line!("{line}");
        }
    }
}

/// A line of `--json`. The payload is byte for byte what the daemon would publish.
#[derive(serde::Serialize)]
struct JsonLine {
    topic: String,
    payload: Box<serde_json::value::RawValue>,
}
