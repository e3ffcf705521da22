//! `camfire analyze`: a recording through exactly what the daemon does with a camera, in the recording's own time and as
//! fast as it goes.

use super::{
    output::{self, SeenEvent, SeenFrame, SeenState},
    setup::{self, ConfigArguments, Signals},
    truth::{self, Truth},
};
use crate::{
    camera::gst,
    clock::RecordingClock,
    config::{self, Camera, Config, Source},
    daemon::{Daemon, Publishing},
    error::{Error, Kind},
    model::Model,
    publish::{
        messages::{CameraState, CameraStatus, Detections, Message},
        topics::Topics,
    },
    vision::{picture, rect::Rect, scene::caption},
};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

/// What stands in for a camera where no configuration is given.
const CONFIG: &str = "[cameras.clip]\nsource = \"test://\"";

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
    /// Writes the clip with boxes, labels, zones and masks drawn on
    #[arg(long, value_name = "FILE.mp4")]
    annotate: Option<PathBuf>,
}

/// Prints what happens in the clip, and what else was asked for.
pub fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    let truth = arguments.truth.as_deref().map(Truth::read).transpose()?;
    let config = configuration(&arguments)?;
    // What comes and goes is told on stdout; the log is for what goes wrong.
    let is_default = config.log.level == config::LogLevel::Info;
    setup::start_log(if is_default { config::LogLevel::Warn } else { config.log.level });
    let model = Model::open(&config.engine.network, &config.groups)?;
    gst::init()?;
    let mut signals = Signals::catch()?;
    let progress = Progress::new(gst::clip_duration(&arguments.clip));
    let (camera, topics) = (config.cameras[0].clone(), Topics::new(&config));
    let clock = Arc::new(RecordingClock::new());
    let daemon = Daemon::start(config, &model, &Publishing::Direct, clock, Arc::default(), 0)?;
    let messages = daemon.messages().clone();
    let Arguments { json, detections, .. } = arguments;
    let mut record =
        Record { json, detections, topics, frames: Vec::new(), events: Vec::new(), changes: Vec::new() };
    let mut over = false;
    let outcome = loop {
        if signals.wait(Duration::from_millis(1)) {
            break Err(Error::new(Kind::System, "interrupted"));
        }
        match messages.recv_timeout(Duration::from_millis(20)) {
            Ok(Message::Camera(status)) => match verdict(&status, &arguments.clip) {
                Ok(ended) => over |= ended,
                Err(error) => break Err(error),
            },
            Ok(message) => {
                if let Message::Detections(frame) = &message {
                    progress.at(frame.captured_at);
                }
                progress.bar.suspend(|| record.take(message));
                for message in messages.try_iter() {
                    if let Message::Camera(status) = &message {
                        over |= status.state == CameraState::Ended;
                    } else {
                        progress.bar.suspend(|| record.take(message));
                    }
                }
            }
            Err(_) if over && daemon.accounts()[0].pending == 0 => break Ok(()),
            Err(_) => {}
        }
    };
    progress.bar.finish_and_clear();
    daemon.stop();
    outcome?;
    for message in messages.try_iter() {
        record.take(message);
    }
    if let Some(truth) = truth {
        let score = truth::score(&truth, &record.frames, &record.events, &record.changes);
        if arguments.json {
            output::line!("{}", serde_json::json!({ "score": score }));
        } else {
            output::line!("{score}");
        }
    }
    if let Some(file) = &arguments.annotate {
        annotate(&arguments.clip, file, &camera, &record)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The configuration of the one camera that the clip stands in for.
fn configuration(arguments: &Arguments) -> Result<Config, Error> {
    let clip = std::path::absolute(&arguments.clip)
        .and_then(|clip| std::fs::File::open(&clip).map(|_| clip))
        .map_err(|e| Error::caused(Kind::Input, arguments.clip.display().to_string(), e))?;
    let mut config = match &arguments.config {
        Some(file) => {
            ConfigArguments { config: Some(file.clone()), set: arguments.set.clone() }.load()?.config
        }
        None => {
            let main = config::Main::Text { name: "the built-in camera".into(), text: CONFIG.into() };
            setup::load(main, arguments.set.clone())?.config
        }
    };
    let known: Vec<String> = config.cameras.iter().map(|camera| camera.name.clone()).collect();
    let known = known.join(", ");
    match &arguments.camera {
        Some(name) => config.cameras.retain(|camera| camera.name == *name),
        None if config.cameras.len() > 1 => {
            return Err(Error::new(Kind::Input, format!("which camera? --camera is one of {known}")));
        }
        None => {}
    }
    let Some(camera) = config.cameras.first_mut() else {
        let message =
            format!("there is no camera {}, only {known}", arguments.camera.as_deref().unwrap_or("at all"));
        return Err(Error::new(Kind::Input, message));
    };
    camera.source = Source::File { path: clip, repeat: false, realtime: false };
    (camera.pipeline, camera.login, camera.snapshot_source) = (None, None, None);
    camera.options.clear();
    (config.pictures.directory, config.pictures.publish) = (None, false);
    Ok(config)
}

/// Whether the clip is over.
///
/// Errors ([`Kind::Input`]): it cannot be read.
fn verdict(status: &CameraStatus, clip: &Path) -> Result<bool, Error> {
    match (status.state, &status.reason) {
        (CameraState::Ended, _) => Ok(true),
        (CameraState::Starting | CameraState::Live | CameraState::Stopped, _) => Ok(false),
        (_, reason) => {
            let reason = reason.as_deref().unwrap_or("it cannot be read");
            Err(Error::new(Kind::Input, format!("{}: {reason}", clip.display())))
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

/// All that was said of the clip.
struct Record {
    json: bool,
    detections: bool,
    topics: Topics,
    frames: Vec<Detections>,
    events: Vec<crate::publish::messages::Event>,
    changes: Vec<Timestamp>,
}

impl Record {
    /// Prints a message that is worth it, and keeps what is needed later.
    fn take(&mut self, message: Message) {
        match &message {
            Message::Detections(frame) => {
                self.frames.push(frame.clone());
                if !self.detections {
                    return;
                }
            }
            Message::Event(event) => self.events.push(event.clone()),
            Message::Scene(change) => self.changes.push(change.at),
            Message::Region(_) => {}
            Message::Occupancy(_)
            | Message::Camera(_)
            | Message::Stats(_)
            | Message::Picture(_)
            | Message::Snapshot(_)
            | Message::Settings(_)
            | Message::Evidence(_) => return,
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

/// Writes the clip with what was seen drawn on.
fn annotate(clip: &Path, file: &Path, camera: &Camera, record: &Record) -> Result<(), Error> {
    use embedded_graphics::pixelcolor::{Rgb888, RgbColor};
    const COLOURS: [Rgb888; 6] = [
        Rgb888::new(255, 210, 0),
        Rgb888::new(80, 220, 100),
        Rgb888::new(90, 180, 255),
        Rgb888::new(255, 120, 190),
        Rgb888::new(255, 140, 60),
        Rgb888::new(190, 150, 255),
    ];
    let mut numbers: Vec<&str> = Vec::new();
    for object in record.frames.iter().flat_map(|frame| &frame.objects) {
        if !numbers.contains(&object.id.as_str()) {
            numbers.push(&object.id);
        }
    }
    let draw = |at: Duration, rgb: &mut [u8], size: (usize, usize)| {
        let parts = |corners: &[(f64, f64)]| -> Vec<(f64, f64)> {
            corners.iter().map(|(x, y)| (x * size.0 as f64, y * size.1 as f64)).collect()
        };
        for mask in &camera.masks {
            picture::outline(rgb, size, &parts(mask), Rgb888::RED);
        }
        for corners in camera.zones.values() {
            picture::outline(rgb, size, &parts(corners), Rgb888::CYAN);
        }
        // The frame that was analysed last by then; what is drawn moves at the rate at which it was looked at.
        let at_ms = at.as_millis() as i64;
        let before = record.frames.partition_point(|frame| frame.captured_at.as_millisecond() <= at_ms);
        let Some(frame) = before.checked_sub(1).map(|index| &record.frames[index]) else { return };
        for object in &frame.objects {
            let [left, top, width, height] = object.r#box.map(|number| number as f64);
            let number = numbers.iter().position(|id| *id == object.id).unwrap_or_default();
            let still = if object.moving { "" } else { " still" };
            let text = format!("#{} {}{still}", number + 1, caption(&object.label, object.score));
            let rect = Rect { left, top, width, height };
            picture::mark(rgb, size, &rect, &text, COLOURS[number % COLOURS.len()]);
        }
    };
    gst::redraw(clip, file, camera.rotation, draw)
}
