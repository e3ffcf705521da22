//! The daemon: creates the queues, starts a thread per stage and stops the stages in the order of the data
//! flow, cameras first.
//!
//! Only this module starts and joins the threads of stages. Threads for calls that may hang are started by
//! [`lifecycle::spawn_helper`]. Stages communicate only through the queues created here.
//!
//! A camera and what belongs to it is known by its name. [`reload`] changes a running daemon; what did not
//! change is not touched.
//!
//! | thread | task | ends when |
//! | --- | --- | --- |
//! | `camera-<name>` | keeps the pipeline of one camera running, receives frames | stop is requested |
//! | `worker-<n>` | analyses frames | stop is requested and its frame is finished |
//! | `store` | writes event pictures | all senders of pictures are gone |
//! | `publish` | delivers messages; owns the outbox | all senders of messages are gone |
//! | `mqtt-io` | runs the event loop of the broker connections | `publish` has ended or has other brokers |
//! | `web` | serves metrics and health, if configured | stop is requested and its responses are finished |
//! | the caller | stats, watchdog, signals | |

mod instance;
mod link_secret;
mod plan;
pub mod reload;
mod stages;
mod stats;

use self::{instance::Instance, stages::Stage, stats::StatsReporter};

use crate::{
    camera::{gst, template},
    clock::Clock,
    config::{self, Camera, Config},
    control::{CameraControl, NodeControl, saved::SavedSettings},
    counters::{CameraCounters, CountedCamera, Counters},
    error::Error,
    lifecycle::Heartbeats,
    publish::publisher::Renewal,
    queue::{
        self,
        frames::{FrameCounts, FrameQueues, Slot},
        messages::Messages,
    },
    sync::lock,
    vision::{
        replay::recording::{Recorder, Recording},
        scene::{self, Scene},
        tracks::EndReason,
    },
    web::{
        app_state::{AppState, Current, CurrentCamera},
        samples::Samples,
    },
    wire::{
        feed::Feed,
        history::HistoryRequest,
        links::{LinkSecret, Links},
        messages::Message,
    },
    workers::{
        WatchedCamera,
        model::Model,
        reporter::{ReportedCamera, Reporter},
    },
};
use crossbeam_channel::{Receiver, Sender};
use jiff::Timestamp;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// Capacity of the message queue. The publisher empties it on every iteration.
const MESSAGE_CAPACITY: usize = 256;
/// Maximum number of objects per frame of which pictures are taken. Encoding a picture takes about as long as
/// an inference.
const PICTURES_PER_FRAME: usize = 4;
/// Maximum number of questions about past events that wait for the publisher.
const MAX_QUESTIONS: usize = 16;
/// Maximum age of a stage's heartbeat before the stage counts as hung; half of the unit's `WatchdogSec`.
pub const STAGE_TIMEOUT: Duration = Duration::from_secs(15);
/// Maximum time that stages may take to stop.
const STAGE_STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// Destination of the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publishing {
    /// The broker in the configuration.
    Mqtt,
    /// The caller, who reads [`Daemon::messages`]. No message is dropped.
    Direct,
}

/// A running daemon. [`Daemon::stop`] ends it.
pub struct Daemon {
    config: Config,
    publishing: Publishing,
    counters: Counters,
    queues: FrameQueues<WatchedCamera>,
    stats: StatsReporter,
    messages: Messages<Message>,
    /// `outbox.durable_kinds`.
    durable_kinds: Arc<Mutex<Vec<String>>>,
    control: Arc<NodeControl>,
    reporter: Reporter,
    clock: Arc<dyn Clock>,
    heartbeats: Heartbeats,
    /// What commands have set.
    saved: Arc<SavedSettings>,
    /// Seeds of the scenes.
    random: fastrand::Rng,
    cameras: BTreeMap<String, CameraEntry>,
    workers: Vec<Stage>,
    web: Option<Stage>,
    store: Option<Stage>,
    /// The publisher, and the event loops of its connections. Those of earlier brokers have ended.
    publisher: Vec<Stage>,
    renewals: Option<Sender<Renewal>>,
    /// What the web server shows, and whom it asks.
    app: Arc<AppState>,
    /// Questions about past events, for the publisher.
    history: Receiver<HistoryRequest>,
    next_stats: Duration,
    /// Time of the start, for the metrics.
    started_at: Timestamp,
    /// None without an outbox file.
    instance: Option<Instance>,
    /// None until there are links.
    link_secret: Option<LinkSecret>,
}

/// A camera: what outlives its pipeline, and the stage that runs it.
struct CameraEntry {
    slot: Arc<Slot>,
    counters: Arc<CameraCounters>,
    control: Arc<CameraControl>,
    recording: Arc<Recording>,
    /// None until it is started, and after it was stopped.
    stage: Option<Stage>,
}

impl Daemon {
    /// Starts all stages and returns at once.
    ///
    /// `control` takes requests to the node. The events' ids are derived from `seed`, so that analysing the
    /// same recording again gives the same ids.
    ///
    /// Errors: a camera without a valid pipeline template ([`ErrorKind::Input`]), another daemon that uses
    /// the same outbox, or a system that cannot start an engine session or a thread
    /// ([`ErrorKind::System`]). An unreachable camera or broker is no error.
    ///
    /// [`ErrorKind::Input`]: crate::error::ErrorKind::Input
    /// [`ErrorKind::System`]: crate::error::ErrorKind::System
    pub fn start(
        config: Config,
        model: &Model,
        publishing: &Publishing,
        clock: Arc<dyn Clock>,
        control: Arc<NodeControl>,
        seed: u64,
    ) -> Result<Daemon, Error> {
        let pipelines = config.cameras.iter().map(template::candidates).collect::<Result<Vec<_>, _>>()?;
        let instance = match (publishing, &config.outbox.file) {
            (Publishing::Mqtt, Some(outbox)) => Instance::claim(outbox)?,
            _ => None,
        };
        // A recording is analysed with the settings of its configuration.
        let saved = match publishing {
            Publishing::Mqtt => Arc::new(SavedSettings::open(config.commands.settings_file.clone())?),
            Publishing::Direct => Arc::default(),
        };
        log_saved(&config, &saved);
        let mut daemon = Daemon::new(config, model, *publishing, clock, control, saved, seed);
        daemon.instance = instance;
        daemon.update_links();
        daemon.update_web();
        daemon.start_store()?;
        if *publishing == Publishing::Mqtt {
            daemon.start_publisher()?;
        }
        let classifiers = stages::open_classifiers(model, stages::worker_count(&daemon.config))?;
        daemon.workers = daemon.start_workers(classifiers)?;
        let cameras = daemon.config.cameras.clone();
        for (camera, pipelines) in cameras.iter().zip(pipelines) {
            daemon.start_camera(camera, pipelines)?;
        }
        // The analysis of a single recording is not monitored.
        if *publishing == Publishing::Mqtt {
            daemon.web = daemon.start_web(None)?;
        }
        Ok(daemon)
    }

    /// Creates the queues, counters and controls without starting a stage.
    fn new(
        config: Config,
        model: &Model,
        publishing: Publishing,
        clock: Arc<dyn Clock>,
        control: Arc<NodeControl>,
        saved: Arc<SavedSettings>,
        seed: u64,
    ) -> Daemon {
        let durable_kinds = Arc::new(Mutex::new(config.outbox.durable_kinds.clone()));
        let (mut sender, messages) =
            queue::messages::messages(MESSAGE_CAPACITY, durable_filter(durable_kinds.clone(), publishing));
        let feed: Arc<Feed> = Arc::default();
        if publishing == Publishing::Mqtt {
            let feed = feed.clone();
            sender.listen(move |message| feed.record(message));
        }
        let counters = Counters::new(sender.dropped());
        let heartbeats = Heartbeats::default();
        let (history_sender, history) = crossbeam_channel::bounded(MAX_QUESTIONS);
        let app = Arc::new(AppState {
            feed,
            counters: counters.clone(),
            heartbeats: heartbeats.clone(),
            stuck: STAGE_TIMEOUT,
            clock: clock.clone(),
            history: history_sender,
            node_control: control.clone(),
            setup_lock: Default::default(),
            previews: Default::default(),
            started_at: clock.now(),
            samples: Samples::default(),
            current: Mutex::default(),
        });
        let node: Arc<str> = config.node.name.as_str().into();
        let mut daemon = Daemon {
            publishing,
            stats: StatsReporter::new(node.clone(), counters.clone()),
            counters,
            queues: FrameQueues::new(),
            messages,
            durable_kinds,
            control,
            reporter: Reporter {
                node,
                model: model.clone(),
                messages: sender,
                files: None,
                publishes_pictures: config.pictures.publish,
                links: None,
                clock: clock.clone(),
            },
            heartbeats,
            saved,
            random: fastrand::Rng::with_seed(seed),
            cameras: BTreeMap::new(),
            workers: Vec::new(),
            web: None,
            store: None,
            publisher: Vec::new(),
            renewals: None,
            app,
            history,
            next_stats: clock.monotonic() + config.stats.interval,
            started_at: clock.now(),
            instance: None,
            link_secret: None,
            config,
            clock,
        };
        for camera in daemon.config.cameras.clone() {
            daemon.add_camera(&camera);
        }
        daemon.count_cameras();
        daemon.limit_recordings();
        daemon.update_web();
        daemon
    }

    /// Adds a camera without starting its stage.
    fn add_camera(&mut self, camera: &Camera) {
        let control = Arc::new(CameraControl::new(camera, &self.saved));
        let counters: Arc<CameraCounters> = Arc::default();
        let recording: Arc<Recording> = Arc::default();
        let watched = self.watch(camera, counters.clone(), control.clone(), recording.clone());
        let slot = self.queues.add(watched);
        let entry = CameraEntry { slot, counters, control, recording, stage: None };
        self.cameras.insert(camera.name.clone(), entry);
    }

    /// Divides the memory for recordings among the cameras. Nothing is recorded without the page.
    fn limit_recordings(&self) {
        let web = &self.config.web;
        let is_served = self.publishing == Publishing::Mqtt && web.serves_page();
        let bytes = if is_served { web.preview_bytes } else { 0 };
        for entry in self.cameras.values() {
            entry.recording.set_limit(bytes / self.cameras.len());
        }
    }

    /// Creates the analysis state of a camera.
    fn watch(
        &mut self,
        camera: &Camera,
        counters: Arc<CameraCounters>,
        control: Arc<CameraControl>,
        recording: Arc<Recording>,
    ) -> WatchedCamera {
        let scene = Scene::new(scene::Settings {
            camera: camera.clone(),
            objects: config::Objects { score: camera.score, ..self.config.objects.clone() },
            top: self.config.detections.top,
            pictures_per_frame: stages::pictures_per_frame(&self.config),
            taxonomy: self.reporter.model.taxonomy.clone(),
            seed: self.random.u64(..),
        });
        let camera = ReportedCamera { name: camera.name.as_str().into(), counters };
        WatchedCamera { camera, control, seen_version: 0, scene, recorder: Recorder::new(recording) }
    }

    /// Makes the links of events from the configuration, for new workers and the web server.
    fn update_links(&mut self) {
        // A recording has no page.
        let public_url = self.config.web.public_url.clone().filter(|_| self.publishing == Publishing::Mqtt);
        self.reporter.links = public_url.map(|public_url| {
            let file = self.config.web.link_key_file.as_deref();
            let secret = self.link_secret.get_or_insert_with(|| link_secret::open(file));
            Arc::new(Links::new(public_url, secret.clone()))
        });
    }

    /// Tells the counters which cameras there are.
    fn count_cameras(&self) {
        let counted = self.cameras.iter().map(|(name, entry)| CountedCamera {
            name: name.as_str().into(),
            counters: entry.counters.clone(),
            slot: entry.slot.clone(),
        });
        self.counters.set_cameras(counted.collect());
    }

    /// Tells the web server what there is to show.
    fn update_web(&self) {
        let camera = |camera: &Camera| {
            let entry = self.cameras.get(&camera.name)?;
            let (control, counters) = (entry.control.clone(), entry.counters.clone());
            let recording = entry.recording.clone();
            let (config, objects) = (camera.clone(), self.config.objects.clone());
            Some(CurrentCamera { config, objects, control, counters, recording })
        };
        let identity = &self.reporter.model.identity;
        let digits = identity.sha256.get(..12).unwrap_or(&identity.sha256);
        let engine = &self.reporter.model.engine;
        let current = Current {
            node: self.reporter.node.clone(),
            cameras: self.config.cameras.iter().filter_map(camera).collect(),
            pictures: self.config.pictures.clone(),
            links: self.reporter.links.clone(),
            has_outbox_file: self.config.outbox.file.is_some(),
            engine: format!("{} {}", engine.name(), engine.kernels()),
            model: format!("{} ({digits})", identity.name),
            gstreamer: gst::version(),
            certificate: self.config.web.certificate.clone(),
        };
        *lock(&self.app.current) = Arc::new(current);
        let names: Vec<&str> = self.config.cameras.iter().map(|camera| camera.name.as_str()).collect();
        self.app.feed.set_cameras(&names);
    }

    /// The current frame counts of each camera, in the order of the configuration.
    pub fn counts(&self) -> Vec<FrameCounts> {
        self.counters.frame_counts()
    }

    /// The other counters of a camera, by its index in the configuration.
    pub fn counters(&self, camera: usize) -> Arc<CameraCounters> {
        self.counters.cameras()[camera].counters.clone()
    }

    /// The messages of the stages, for [`Publishing::Direct`].
    pub fn messages(&self) -> &Receiver<Message> {
        &self.messages.durable
    }

    /// Sends a stats message if one is due or requested, and returns the names of hung stages. Call it about
    /// once a second.
    pub fn tick(&mut self) -> Vec<String> {
        let now = self.clock.monotonic();
        if now >= self.next_stats || self.control.take_stats_request() {
            self.next_stats = now + self.config.stats.interval;
            self.send_stats();
        }
        self.heartbeats.hung(now, STAGE_TIMEOUT)
    }

    fn send_stats(&mut self) {
        let stats = self.stats.build(self.clock.as_ref());
        self.reporter.messages.send(Message::Stats(stats));
    }

    /// Reports the end of everything that a camera's analysis has open.
    fn end_scene(&self, watched: Option<Box<WatchedCamera>>) {
        // A hung worker keeps the scene that it holds.
        let Some(mut watched) = watched else { return };
        let WatchedCamera { camera, scene, .. } = watched.as_mut();
        let mut analysis = scene.end_all(EndReason::Stopped);
        self.reporter.report(camera, scene, None, &mut analysis);
    }

    /// Stops all stages in the order of the data flow: cameras and workers, then the publisher and the store,
    /// which first receive the remaining events and the final stats.
    ///
    /// Returns the final frame counts by camera. A stage that does not stop in time is abandoned and logged.
    pub fn stop(mut self) -> BTreeMap<String, FrameCounts> {
        let mut inputs: Vec<Stage> =
            self.cameras.values_mut().filter_map(|entry| entry.stage.take()).collect();
        inputs.append(&mut self.workers);
        inputs.extend(self.web.take());
        self.end(inputs);
        for entry in self.cameras.values() {
            self.queues.close(&entry.slot);
            self.end_scene(self.queues.withdraw(&entry.slot, Duration::ZERO));
        }
        self.send_stats();
        let counts = self.cameras.iter().map(|(name, entry)| (name.clone(), entry.slot.counts())).collect();
        // The publisher and the store end when the last sender is dropped.
        (self.reporter.messages, self.reporter.files) = (queue::messages::messages(1, |_| false).0, None);
        let mut outputs: Vec<Stage> = self.store.take().into_iter().collect();
        outputs.append(&mut self.publisher);
        self.end(outputs);
        counts
    }

    /// Stops stages, all at once, and waits for their ends. One that does not end in time is abandoned.
    fn end(&self, stages: Vec<Stage>) {
        let threads: Vec<_> = stages.into_iter().map(Stage::stop).collect();
        let deadline = self.clock.monotonic() + STAGE_STOP_TIMEOUT;
        for (thread, heartbeat) in threads {
            let name = thread.thread().name().unwrap_or_default().to_string();
            while !thread.is_finished() && self.clock.monotonic() < deadline {
                thread::sleep(Duration::from_millis(5));
            }
            if !thread.is_finished() {
                tracing::warn!(thread = name, "Stage did not stop in time; abandoning its thread.");
            } else if thread.join().is_err() {
                tracing::error!(thread = name, "Stage panicked.");
            }
            if let Some(heartbeat) = heartbeat {
                self.heartbeats.remove(&heartbeat);
            }
        }
    }
}

/// Logs what commands have set that applies now.
fn log_saved(config: &Config, saved: &SavedSettings) {
    for camera in &config.cameras {
        for (setting, value, since) in saved.of(&camera.name).entries() {
            let camera = camera.name.as_str();
            tracing::info!(camera, setting, value, %since, "A command has set this; it still applies.");
        }
    }
    if config.commands.accept && saved.path().is_none() {
        tracing::warn!(
            "No commands.settings_file and no $STATE_DIRECTORY: what commands set is lost when camfire stops."
        );
    }
}

/// Returns whether a message waits for space in the queue instead of being dropped: without a broker, all do.
fn durable_filter(
    kinds: Arc<Mutex<Vec<String>>>,
    publishing: Publishing,
) -> impl Fn(&Message) -> bool + Send + Sync + 'static {
    move |message: &Message| publishing == Publishing::Direct || message.is_essential(&lock(&kinds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::SimulatedClock, config};

    fn start(text: &str, clock: Arc<dyn Clock>) -> Daemon {
        let main = config::Main::Text { name: "test".into(), text: text.into() };
        let loaded = config::load(&config::Inputs { main, ..Default::default() }).unwrap();
        let model = Model::open(&Default::default(), &Default::default()).unwrap();
        Daemon::start(loaded.config, &model, &Publishing::Direct, clock, Arc::default(), 0).unwrap()
    }

    #[test]
    fn stats_are_sent_when_they_are_due_and_at_the_end() {
        let clock = Arc::new(SimulatedClock::new());
        let mut daemon = start("stats.interval = '5s'", clock.clone());
        let messages = daemon.messages().clone();
        assert_eq!(daemon.tick(), [""; 0]);
        assert!(messages.is_empty());
        clock.advance(Duration::from_secs(5));
        daemon.tick();
        daemon.tick();
        let Ok(Message::Stats(stats)) = messages.try_recv() else { panic!("stats are due") };
        assert_eq!((stats.uptime_s, stats.at.to_string().as_str()), (5, "2026-01-01T00:00:05Z"));
        assert!(messages.is_empty(), "once");
        daemon.stop();
        assert!(matches!(messages.try_recv(), Ok(Message::Stats(_))));
    }
}
