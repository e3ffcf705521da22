//! The daemon: creates the queues, starts a thread per stage and stops the stages in the order of the data
//! flow, cameras first.
//!
//! Only this module starts and joins the threads of stages. Threads for calls that may hang are started by
//! [`lifecycle::spawn_helper`]. Stages communicate only through the queues created here.
//!
//! | thread | task | ends when |
//! | --- | --- | --- |
//! | `camera-<name>` | keeps the pipeline of one camera running, receives frames | stop is requested |
//! | `worker-<n>` | analyses frames | stop is requested and its frame is finished |
//! | `store` | writes event pictures | all senders of pictures are gone |
//! | `publish` | delivers messages; owns the outbox | all senders of messages are gone |
//! | `mqtt-io` | runs the event loop of the broker connections | `publish` has ended |
//! | `web` | serves metrics and health, if configured | stop is requested and its responses are finished |
//! | the caller | stats, watchdog, signals | |

mod stages;
mod stats;

use self::stats::StatsReporter;

use crate::{
    camera::template,
    clock::Clock,
    config::Config,
    control::{CameraControl, NodeControl, saved::SavedSettings},
    counters::{CameraCounters, Counters},
    error::Error,
    lifecycle::{self, Heartbeat, StopSignal, StopTrigger},
    queue::{
        self,
        frames::{FrameCounts, FrameQueues},
        messages::Messages,
    },
    vision::{
        scene::{self, Scene},
        tracks::EndReason,
    },
    wire::messages::Message,
    workers::{model::Model, reporter::Reporter},
};
use crossbeam_channel::Receiver;
use std::{
    collections::BTreeMap,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

/// Capacity of the message queue. The publisher empties it on every iteration.
const MESSAGE_CAPACITY: usize = 256;
/// Maximum number of objects per frame of which pictures are taken. Encoding a picture takes about as long as
/// an inference.
const PICTURES_PER_FRAME: usize = 4;
/// Maximum age of a stage's heartbeat before the stage counts as hung; half of the unit's `WatchdogSec`.
pub const STAGE_TIMEOUT: Duration = Duration::from_secs(15);
/// Maximum time that stages may take to stop.
const STAGE_STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// Destination of the messages.
pub enum Publishing {
    /// The broker in the configuration.
    Mqtt,
    /// The caller, who reads [`Daemon::messages`]. No message is dropped.
    Direct,
}

/// A running daemon. [`Daemon::stop`] ends it.
pub struct Daemon {
    config: Config,
    counters: Counters,
    queues: FrameQueues<Scene>,
    stats: StatsReporter,
    messages: Messages<Message>,
    controls: Arc<[Arc<CameraControl>]>,
    control: Arc<NodeControl>,
    reporter: Reporter,
    clock: Arc<dyn Clock>,
    heartbeats: Vec<Heartbeat>,
    stop: StopSignal,
    /// None once the daemon stops.
    stop_trigger: Option<StopTrigger>,
    /// Threads that produce messages or read counters; stopped first.
    input_threads: Vec<JoinHandle<()>>,
    /// Threads that deliver messages and write pictures; stopped last.
    output_threads: Vec<JoinHandle<()>>,
    next_stats: Duration,
}

impl Daemon {
    /// Starts all stages and returns at once.
    ///
    /// `control` takes requests to the node. The events' ids are derived from `seed`, so that analysing the
    /// same recording again gives the same ids.
    ///
    /// Errors: a camera without a valid pipeline template ([`ErrorKind::Input`]), or a system that cannot
    /// start an engine session or a thread ([`ErrorKind::System`]). An unreachable camera or broker is no
    /// error.
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
        // A recording is analysed with the settings of its configuration.
        let saved = match publishing {
            Publishing::Mqtt => Arc::new(SavedSettings::open(config.commands.settings_file.clone())?),
            Publishing::Direct => Arc::default(),
        };
        log_saved(&config, &saved);
        let mut daemon = Daemon::new(config, model, publishing, clock, control, &saved, seed);
        let is_mqtt = matches!(publishing, Publishing::Mqtt);
        daemon.start_store()?;
        if is_mqtt {
            daemon.start_publisher()?;
        }
        daemon.start_workers(model, publishing)?;
        daemon.start_cameras(pipelines)?;
        // The analysis of a single recording is not monitored. Last, because it needs all heartbeats.
        if is_mqtt {
            daemon.start_web()?;
        }
        Ok(daemon)
    }

    /// Creates the queues, counters and controls without starting a stage.
    fn new(
        config: Config,
        model: &Model,
        publishing: &Publishing,
        clock: Arc<dyn Clock>,
        control: Arc<NodeControl>,
        saved: &Arc<SavedSettings>,
        seed: u64,
    ) -> Daemon {
        let (sender, messages) =
            queue::messages::messages(MESSAGE_CAPACITY, durable_filter(&config, publishing));
        let queues = FrameQueues::new(scenes(&config, model, seed));
        let cameras: Arc<[(Arc<str>, Arc<CameraCounters>)]> =
            config.cameras.iter().map(|camera| (camera.name.as_str().into(), Arc::default())).collect();
        let counters = Counters {
            cameras: cameras.clone(),
            slots: queues.slots().into(),
            messages_dropped: sender.dropped(),
            delivery: Arc::default(),
            store: Arc::default(),
        };
        let node: Arc<str> = config.node.name.as_str().into();
        let control_of = |camera| Arc::new(CameraControl::new(camera, &config.objects, saved));
        let controls = config.cameras.iter().map(control_of);
        let (stop_trigger, stop) = lifecycle::stop_signal();
        Daemon {
            stats: StatsReporter::new(node.clone(), counters.clone()),
            counters,
            queues,
            messages,
            controls: controls.collect(),
            control,
            reporter: Reporter {
                node,
                cameras,
                model: model.clone(),
                messages: sender,
                files: None,
                publishes_pictures: config.pictures.publish,
                clock: clock.clone(),
            },
            heartbeats: Vec::new(),
            stop,
            stop_trigger: Some(stop_trigger),
            input_threads: Vec::new(),
            output_threads: Vec::new(),
            next_stats: clock.monotonic() + config.stats.interval,
            config,
            clock,
        }
    }

    /// The current frame counts of each camera, in the order of the configuration.
    pub fn counts(&self) -> Vec<FrameCounts> {
        self.counters.frame_counts()
    }

    /// The other counters of a camera, by its index in the configuration.
    pub fn counters(&self, camera: usize) -> &CameraCounters {
        &self.counters.cameras[camera].1
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
        lifecycle::hung_stages(&self.heartbeats, now, STAGE_TIMEOUT)
    }

    fn send_stats(&mut self) {
        let stats = self.stats.build(self.clock.as_ref());
        self.reporter.messages.send(Message::Stats(stats));
    }

    /// Stops all stages in the order of the data flow: cameras and workers, then the publisher and the store,
    /// which first receive the remaining events and the final stats.
    ///
    /// Returns the final frame counts by camera. A stage that does not stop in time is abandoned and logged.
    pub fn stop(mut self) -> BTreeMap<String, FrameCounts> {
        self.stop_trigger = None;
        let threads = std::mem::take(&mut self.input_threads);
        let deadline = self.clock.monotonic() + STAGE_STOP_TIMEOUT;
        self.join(threads, deadline);
        self.queues.close();
        for (camera, scene) in self.queues.take_states().into_iter().enumerate() {
            // A hung worker keeps the scene that it holds.
            let Some(mut scene) = scene else { continue };
            let mut analysis = scene.end_all(EndReason::Stopped);
            self.reporter.report(camera, &scene, None, &mut analysis);
        }
        self.send_stats();
        let counts = self.counters.frame_counts();
        let counts = self.counters.cameras.iter().map(|(name, _)| name.to_string()).zip(counts).collect();
        // The publisher and the store end when the last sender is dropped.
        (self.reporter.messages, self.reporter.files) = (queue::messages::messages(1, |_| false).0, None);
        let threads = std::mem::take(&mut self.output_threads);
        let deadline = self.clock.monotonic() + STAGE_STOP_TIMEOUT;
        self.join(threads, deadline);
        counts
    }

    fn join(&self, threads: Vec<JoinHandle<()>>, deadline: Duration) {
        for thread in threads {
            let name = thread.thread().name().unwrap_or_default().to_string();
            while !thread.is_finished() && self.clock.monotonic() < deadline {
                thread::sleep(Duration::from_millis(5));
            }
            if !thread.is_finished() {
                tracing::warn!(thread = name, "Stage did not stop in time; abandoning its thread.");
            } else if thread.join().is_err() {
                tracing::error!(thread = name, "Stage panicked.");
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
    config: &Config,
    publishing: &Publishing,
) -> impl Fn(&Message) -> bool + Send + Sync + 'static {
    let is_direct = matches!(publishing, Publishing::Direct);
    let kinds = config.outbox.durable_kinds.clone();
    move |message: &Message| is_direct || message.is_essential(&kinds)
}

/// Creates the analysis state of every camera.
fn scenes(config: &Config, model: &Model, seed: u64) -> Vec<Scene> {
    let mut random = fastrand::Rng::with_seed(seed);
    let has_pictures = config.pictures.directory.is_some() || config.pictures.publish;
    let scenes = config.cameras.iter().map(|camera| {
        Scene::new(scene::Settings {
            camera: camera.clone(),
            objects: config.objects.clone(),
            top: config.detections.top,
            pictures_per_frame: if has_pictures { PICTURES_PER_FRAME } else { 0 },
            taxonomy: model.taxonomy.clone(),
            seed: random.u64(..),
        })
    });
    scenes.collect()
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
