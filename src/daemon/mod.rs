//! The daemon: makes the queues, starts a thread for each stage, and takes them down in the order of flow. The only place
//! that spawns and joins stages' threads (a helper for a call that may hang is [`lifecycle::spawn_helper`]'s); stages
//! meet only through the queues made here.
//!
//! | thread | does | ends when |
//! | --- | --- | --- |
//! | `camera-<name>` | keeps one camera going, takes frames | told to stop |
//! | `worker-<n>` | looks at frames | told to stop, frame in hand finished |
//! | `store` | writes pictures | no stage is left that could file one |
//! | `publish` | sees to it that messages arrive; the outbox is its own | no stage is left that could say something |
//! | `mqtt-io` | turns the broker's connections | `publish` has ended |
//! | `web` | serves metrics and health, if configured | told to stop, answers in hand finished |
//! | the caller | counts, watchdog, signals | |

mod stats;

use self::stats::StatsReporter;

use crate::{
    camera::{
        CameraStage,
        template::{self, Pipeline},
    },
    clock::Clock,
    config::{Camera, Config, Source},
    control::{CameraControl, NodeControl},
    counters::{CameraCounters, Counters},
    error::{Error, ErrorKind},
    lifecycle::{self, Heartbeat, Stop, Stopper},
    publish::{commands::Commander, frigate, homeassistant, mqtt::connection, publisher::Publisher},
    queue::{
        self,
        frames::{FrameCounts, FrameQueues},
        messages::Messages,
    },
    store::Store,
    vision::{
        health::HealthCheck,
        picture::Painter,
        scene::{self, Scene},
        tracks::EndReason,
    },
    web::{Pages, Web, metrics::Metrics},
    wire::{files::PictureFiling, messages::Message, topics::Topics},
    workers::{Worker, classifier::Classifier, model::Model, reporter::Reporter},
};
use crossbeam_channel::Receiver;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, atomic::Ordering},
    thread::{self, JoinHandle},
    time::Duration,
};

/// Messages that may wait for the publisher, which empties the queue at every turn.
const MESSAGES: usize = 256;
/// Events whose pictures may wait to be written: some 10 MiB.
const FILES: usize = 16;
/// A stage that has not turned for so long is stuck; half of the unit's `WatchdogSec`.
pub const STUCK: Duration = Duration::from_secs(15);
/// How long a stage may take to end.
const FAREWELL: Duration = Duration::from_secs(3);

/// Where messages go.
pub enum Publishing {
    /// To the broker in the config.
    Mqtt,
    /// Nowhere: whoever started the daemon reads [`Daemon::messages`], of which none is dropped.
    Direct,
}

/// A running daemon, until [`Daemon::stop`].
pub struct Daemon {
    config: Config,
    /// Where everything is counted, the frames on their way too.
    counters: Counters,
    queues: FrameQueues<Scene>,
    stats: StatsReporter,
    messages: Messages<Message>,
    controls: Arc<[Arc<CameraControl>]>,
    control: Arc<NodeControl>,
    reporter: Reporter,
    clock: Arc<dyn Clock>,
    heartbeats: Vec<Heartbeat>,
    stopper: Option<Stopper>,
    seeing: Vec<JoinHandle<()>>,
    publishing: Vec<JoinHandle<()>>,
    next_stats: Duration,
}

impl Daemon {
    /// Starts everything and returns at once.
    ///
    /// `control` is what the node can be asked for meanwhile. Of `seed`, the events' ids are made: to be the same again only where the same recording is to give the same ids.
    ///
    /// Errors: a camera whose template does not fit ([`ErrorKind::Input`]), an engine without room for a session, or a
    /// system without room for a thread ([`ErrorKind::System`]). A camera or a broker that is away is none.
    pub fn start(
        config: Config,
        model: &Model,
        publishing: &Publishing,
        clock: Arc<dyn Clock>,
        control: Arc<NodeControl>,
        seed: u64,
    ) -> Result<Daemon, Error> {
        let controls: Arc<[Arc<CameraControl>]> = config
            .cameras
            .iter()
            .map(|camera| Arc::new(CameraControl::new(camera, &config.objects)))
            .collect();
        let pipelines = config.cameras.iter().map(template::candidates).collect::<Result<Vec<_>, _>>()?;
        let (stopper, stop) = lifecycle::stop_pair();
        let is_mqtt = matches!(publishing, Publishing::Mqtt);
        let also = config.outbox.durable_kinds.clone();
        let is_durable = move |message: &Message| {
            !is_mqtt || message.is_durable() || also.iter().any(|kind| kind == message.kind())
        };
        let (sender, messages) = queue::messages::messages(MESSAGES, is_durable);
        let now = clock.monotonic();
        let cameras: Arc<[(Arc<str>, Arc<CameraCounters>)]> =
            config.cameras.iter().map(|camera| (camera.name.as_str().into(), Arc::default())).collect();
        let mut random = fastrand::Rng::with_seed(seed);
        let scenes = config.cameras.iter().map(|camera| {
            Scene::new(scene::Settings {
                camera: camera.clone(),
                objects: config.objects.clone(),
                top: config.detections.top,
                pictures: config.pictures.directory.is_some() || config.pictures.publish,
                groups: model.groups.clone(),
                seed: random.u64(..),
            })
        });
        let queues = FrameQueues::new(scenes.collect());
        let counters = Counters {
            cameras: cameras.clone(),
            slots: queues.slots().into(),
            messages_dropped: sender.dropped(),
            delivery: Arc::default(),
            store: Arc::default(),
        };
        let node: Arc<str> = config.node.name.as_str().into();
        let mut daemon = Daemon {
            stats: StatsReporter::new(node.clone(), counters.clone()),
            counters,
            queues,
            messages,
            controls,
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
            stopper: Some(stopper),
            seeing: Vec::new(),
            publishing: Vec::new(),
            next_stats: now + config.stats.interval,
            config,
            clock,
        };
        daemon.start_store()?;
        if is_mqtt {
            daemon.start_publishing()?;
        }
        daemon.start_workers(model, &stop)?;
        daemon.start_cameras(pipelines, &stop)?;
        // A recording that is looked at by itself has nobody who watches over it.
        if is_mqtt {
            daemon.start_web(&stop)?;
        }
        Ok(daemon)
    }

    fn start_store(&mut self) -> Result<(), Error> {
        if self.config.pictures.directory.is_none() {
            return Ok(());
        }
        let (sender, Messages { transient: files, .. }) =
            queue::messages::messages::<PictureFiling>(FILES, |_| false);
        let store = Store {
            settings: self.config.pictures.clone(),
            files,
            dropped: sender.dropped(),
            counters: self.counters.store.clone(),
            clock: self.clock.clone(),
            heartbeat: self.heartbeat("store"),
        };
        self.publishing.push(spawn("store", move || store.run())?);
        self.reporter.files = Some(sender);
        Ok(())
    }

    fn start_publishing(&mut self) -> Result<(), Error> {
        let topics = Topics::new(&self.config);
        let (dialer, pump, happened) = connection::connections(self.config.mqtt.clone(), &topics);
        let commander = self.config.commands.accept.then(|| Commander {
            node: self.reporter.node.clone(),
            cameras: self.controls.clone(),
            control: self.control.clone(),
            // With room for what stands around it.
            max_bytes: self.config.mqtt.max_packet_bytes.saturating_sub(4096),
        });
        let publisher = Publisher {
            node: self.reporter.node.clone(),
            config: self.config.mqtt.clone(),
            outbox: self.config.outbox.clone(),
            messages: self.messages.clone(),
            dialer: Box::new(dialer),
            happened,
            counters: self.counters.delivery.clone(),
            commander,
            discovery: homeassistant::payloads(&self.config, &topics, self.config.commands.accept),
            birth_topic: self
                .config
                .homeassistant
                .discovery
                .then(|| homeassistant::birth_topic(&self.config)),
            frigate_topic: frigate::topic(&self.config.frigate),
            topics,
            clock: self.clock.clone(),
            heartbeat: self.heartbeat("publish"),
        };
        self.publishing.push(spawn("publish", move || publisher.run())?);
        let pump = move || {
            if let Err(error) = pump.run() {
                tracing::error!(%error, "No broker can be reached.");
            }
        };
        self.publishing.push(spawn("mqtt-io", pump)?);
        Ok(())
    }

    fn start_workers(&mut self, model: &Model, stop: &Stop) -> Result<(), Error> {
        // More workers than cameras would only wait: a camera has one frame in hand at a time.
        let workers = self.config.engine.workers.min(self.counters.cameras.len());
        for number in 0..workers {
            let name = format!("worker-{number}");
            let worker = Worker {
                classifier: Classifier::open(model)?,
                painter: Painter::new(self.config.pictures.quality),
                reporter: self.reporter.clone(),
                controls: self.controls.clone(),
                jobs: self.queues.jobs(),
                clock: self.clock.clone(),
                stop: stop.clone(),
                heartbeat: self.heartbeat(&name),
            };
            self.seeing.push(spawn(&name, move || worker.run())?);
        }
        Ok(())
    }

    fn start_cameras(&mut self, pipelines: Vec<Vec<Pipeline>>, stop: &Stop) -> Result<(), Error> {
        for (index, pipelines) in pipelines.into_iter().enumerate() {
            let camera = self.config.cameras[index].clone();
            let name = format!("camera-{}", camera.name);
            let stage = CameraStage {
                camera,
                pipelines,
                counters: self.counters.cameras[index].1.clone(),
                control: self.controls[index].clone(),
                health: Arc::new(Mutex::new(HealthCheck::new(camera_is_live(&self.config.cameras[index])))),
                node: self.reporter.node.clone(),
                slot: self.queues.slots()[index].clone(),
                messages: self.reporter.messages.clone(),
                clock: self.clock.clone(),
                stop: stop.clone(),
                heartbeat: self.heartbeat(&name),
            };
            self.seeing.push(spawn(&name, move || stage.run())?);
        }
        Ok(())
    }

    /// Last of all: it knows every stage's heartbeat.
    fn start_web(&mut self, stop: &Stop) -> Result<(), Error> {
        let Some(listen) = self.config.web.listen else { return Ok(()) };
        let heartbeat = self.heartbeat("web");
        let pages = Pages {
            metrics: Metrics::new(self.counters.clone(), self.clock.now()),
            heartbeats: self.heartbeats.clone(),
            stuck: STUCK,
            clock: self.clock.clone(),
        };
        let web = Web::open(listen, pages, stop.clone(), heartbeat)?;
        self.seeing.push(spawn("web", move || web.run())?);
        Ok(())
    }

    fn heartbeat(&mut self, name: &str) -> Heartbeat {
        let heartbeat = Heartbeat::new(name, self.clock.monotonic());
        self.heartbeats.push(heartbeat.clone());
        heartbeat
    }

    /// What has become of the cameras' frames so far, by their place in the configuration.
    pub fn counts(&self) -> Vec<FrameCounts> {
        self.counters.frame_counts()
    }

    /// What is counted about a camera besides, by its place in the configuration.
    pub fn counters(&self, camera: usize) -> &CameraCounters {
        &self.counters.cameras[camera].1
    }

    /// What the stages say, where nobody publishes it.
    pub fn messages(&self) -> &Receiver<Message> {
        &self.messages.durable
    }

    /// To be called about once a second: sends the counts when they are due, and tells which stages are stuck.
    pub fn turn(&mut self) -> Vec<String> {
        let now = self.clock.monotonic();
        if now >= self.next_stats || self.control.take_stats() {
            self.next_stats = now + self.config.stats.interval;
            self.send_stats();
        }
        lifecycle::stuck(&self.heartbeats, now, STUCK)
    }

    /// Pipelines that hang and were left behind, of all cameras. Each keeps threads and memory, and often its device.
    pub fn hung_teardowns(&self) -> u64 {
        self.counters
            .cameras
            .iter()
            .map(|(_, counters)| counters.hung_teardowns.load(Ordering::Relaxed))
            .sum()
    }

    fn send_stats(&mut self) {
        let stats = self.stats.gather(self.clock.as_ref());
        self.reporter.messages.send(Message::Stats(stats));
    }

    /// Ends in the order of flow: cameras, workers, then the publisher with all that is left, the last counts too.
    ///
    /// Returns the final counts by camera. A stage that does not end in time is left behind and named in the log.
    pub fn stop(mut self) -> BTreeMap<String, FrameCounts> {
        self.stopper = None;
        let seeing = std::mem::take(&mut self.seeing);
        let deadline = self.clock.monotonic() + FAREWELL;
        self.join(seeing, deadline);
        self.queues.close();
        for (camera, scene) in self.queues.take_states().into_iter().enumerate() {
            // A worker that hangs keeps what it has.
            let Some(mut scene) = scene else { continue };
            let mut seen = scene.end_all(EndReason::Stopped);
            self.reporter.report(camera, &scene, None, &mut seen);
        }
        self.send_stats();
        let counts = self.counters.frame_counts();
        let counts = self.counters.cameras.iter().map(|(name, _)| name.to_string()).zip(counts).collect();
        // The publisher and the store end when the last sender is gone.
        let publishing = std::mem::take(&mut self.publishing);
        (self.reporter.messages, self.reporter.files) = (queue::messages::messages(1, |_| false).0, None);
        let deadline = self.clock.monotonic() + FAREWELL;
        self.join(publishing, deadline);
        counts
    }

    fn join(&self, threads: Vec<JoinHandle<()>>, deadline: Duration) {
        for thread in threads {
            let name = thread.thread().name().unwrap_or_default().to_string();
            while !thread.is_finished() && self.clock.monotonic() < deadline {
                thread::sleep(Duration::from_millis(5));
            }
            if !thread.is_finished() {
                tracing::warn!(thread = name, "Stage does not end; leaving it behind.");
            } else if thread.join().is_err() {
                tracing::error!(thread = name, "Stage had panicked.");
            }
        }
    }
}

/// Whether its pictures have a sensor's noise in them: a clip or a drawn picture may well stand still.
fn camera_is_live(camera: &Camera) -> bool {
    !matches!(camera.source, Source::File { .. } | Source::Test { .. } | Source::Custom { .. })
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    thread::Builder::new()
        .name(name.to_string())
        .spawn(work)
        .map_err(|e| Error::caused(ErrorKind::System, format!("no thread for {name}"), e))
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
        assert_eq!(daemon.turn(), [""; 0]);
        assert!(messages.is_empty());
        clock.advance(Duration::from_secs(5));
        daemon.turn();
        daemon.turn();
        let Ok(Message::Stats(stats)) = messages.try_recv() else { panic!("stats are due") };
        assert_eq!((stats.uptime_s, stats.at.to_string().as_str()), (5, "2026-01-01T00:00:05Z"));
        assert!(messages.is_empty(), "once");
        daemon.stop();
        assert!(matches!(messages.try_recv(), Ok(Message::Stats(_))));
    }
}
