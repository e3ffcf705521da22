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
//! | the caller | accounts, watchdog, signals | |

use crate::{
    camera::{
        CameraStage,
        template::{self, Pipeline},
    },
    clock::Clock,
    config::{Camera, Config, Source},
    control::{CameraControl, NodeControl},
    error::{Error, Kind},
    lifecycle::{self, Pulse, Stop, Stopper},
    metrics::Metrics,
    model::Model,
    publish::{
        commands::Commander, frigate, homeassistant, messages::Message, mqtt::line, publisher::Publisher,
        topics::Topics,
    },
    queue::{self, Accounts, FrameWay, Messages},
    record::CameraRecord,
    stats::{Books, Teller},
    store::{Filing, Store},
    vision::{
        health::HealthCheck,
        scene::{self, Scene},
        tracks::End,
    },
    voice::Voice,
    web::{Pages, Web},
    workers::{Eye, Worker},
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
    books: Books,
    stats: Teller,
    messages: Messages<Message>,
    controls: Arc<[Arc<CameraControl>]>,
    control: Arc<NodeControl>,
    voice: Voice,
    clock: Arc<dyn Clock>,
    pulses: Vec<Pulse>,
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
    /// Errors: a camera whose template does not fit ([`Kind::Input`]), an engine without room for a session, or a
    /// system without room for a thread ([`Kind::System`]). A camera or a broker that is away is none.
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
        let also = config.outbox.also.clone();
        let is_lasting = move |message: &Message| {
            !is_mqtt || message.must_arrive() || also.iter().any(|kind| kind == message.kind())
        };
        let (sender, messages) = queue::messages(MESSAGES, is_lasting);
        let now = clock.monotonic();
        let cameras: Arc<[(Arc<str>, Arc<CameraRecord>)]> =
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
        let books = Books {
            cameras: cameras.clone(),
            way: Arc::new(FrameWay::new(scenes.collect())),
            messages_dropped: sender.dropped(),
            delivery: Arc::default(),
            store: Arc::default(),
        };
        let node: Arc<str> = config.node.name.as_str().into();
        let mut daemon = Daemon {
            stats: Teller::new(node.clone(), books.clone()),
            books,
            messages,
            controls,
            control,
            voice: Voice {
                node,
                cameras,
                model: model.clone(),
                messages: sender,
                files: None,
                publishes_pictures: config.pictures.publish,
                clock: clock.clone(),
            },
            pulses: Vec::new(),
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
        let (sender, Messages { passing: files, .. }) = queue::messages::<Filing>(FILES, |_| false);
        let store = Store {
            settings: self.config.pictures.clone(),
            files,
            dropped: sender.dropped(),
            record: self.books.store.clone(),
            clock: self.clock.clone(),
            pulse: self.pulse("store"),
        };
        self.publishing.push(spawn("store", move || store.run())?);
        self.voice.files = Some(sender);
        Ok(())
    }

    fn start_publishing(&mut self) -> Result<(), Error> {
        let topics = Topics::new(&self.config);
        let (dialer, pump, happened) = line::connections(self.config.mqtt.clone(), &topics);
        let commander = self.config.commands.accept.then(|| Commander {
            node: self.voice.node.clone(),
            cameras: self.controls.clone(),
            control: self.control.clone(),
            // With room for what stands around it.
            most_bytes: self.config.mqtt.most_packet_bytes.saturating_sub(4096),
        });
        let publisher = Publisher {
            node: self.voice.node.clone(),
            config: self.config.mqtt.clone(),
            outbox: self.config.outbox.clone(),
            messages: self.messages.clone(),
            dialer: Box::new(dialer),
            happened,
            record: self.books.delivery.clone(),
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
            pulse: self.pulse("publish"),
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
        let workers = self.config.engine.workers.min(self.books.cameras.len());
        for number in 0..workers {
            let name = format!("worker-{number}");
            let worker = Worker {
                eye: Eye::open(model, self.config.pictures.quality)?,
                voice: self.voice.clone(),
                controls: self.controls.clone(),
                jobs: self.books.way.jobs(),
                clock: self.clock.clone(),
                stop: stop.clone(),
                pulse: self.pulse(&name),
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
                record: self.books.cameras[index].1.clone(),
                control: self.controls[index].clone(),
                health: Arc::new(Mutex::new(HealthCheck::new(camera_is_live(&self.config.cameras[index])))),
                node: self.voice.node.clone(),
                slot: self.books.way.slot(index),
                messages: self.voice.messages.clone(),
                clock: self.clock.clone(),
                stop: stop.clone(),
                pulse: self.pulse(&name),
            };
            self.seeing.push(spawn(&name, move || stage.run())?);
        }
        Ok(())
    }

    /// Last of all: it knows every stage's pulse.
    fn start_web(&mut self, stop: &Stop) -> Result<(), Error> {
        let Some(listen) = self.config.web.listen else { return Ok(()) };
        let pulse = self.pulse("web");
        let pages = Pages {
            metrics: Metrics::new(self.books.clone(), self.clock.now()),
            pulses: self.pulses.clone(),
            stuck: STUCK,
            clock: self.clock.clone(),
        };
        let web = Web::open(listen, pages, stop.clone(), pulse)?;
        self.seeing.push(spawn("web", move || web.run())?);
        Ok(())
    }

    fn pulse(&mut self, name: &str) -> Pulse {
        let pulse = Pulse::new(name, self.clock.monotonic());
        self.pulses.push(pulse.clone());
        pulse
    }

    /// What has become of the cameras' frames so far, by their place in the configuration.
    pub fn accounts(&self) -> Vec<Accounts> {
        self.books.way.accounts()
    }

    /// What is counted about a camera besides, by its place in the configuration.
    pub fn record(&self, camera: usize) -> &CameraRecord {
        &self.books.cameras[camera].1
    }

    /// What the stages say, where nobody publishes it.
    pub fn messages(&self) -> &Receiver<Message> {
        &self.messages.lasting
    }

    /// To be called about once a second: sends the accounts when they are due, and tells which stages are stuck.
    pub fn turn(&mut self) -> Vec<String> {
        let now = self.clock.monotonic();
        if now >= self.next_stats || self.control.take_stats() {
            self.next_stats = now + self.config.stats.interval;
            self.send_stats();
        }
        lifecycle::stuck(&self.pulses, now, STUCK)
    }

    /// Pipelines that hang and were left behind, of all cameras. Each keeps threads and memory, and often its device.
    pub fn hung_teardowns(&self) -> u64 {
        self.books.cameras.iter().map(|(_, record)| record.hung_teardowns.load(Ordering::Relaxed)).sum()
    }

    fn send_stats(&mut self) {
        let stats = self.stats.gather(self.clock.as_ref());
        self.voice.messages.send(Message::Stats(stats));
    }

    /// Ends in the order of flow: cameras, workers, then the publisher with all that is left, the last accounts too.
    ///
    /// Returns the final accounts by camera. A stage that does not end in time is left behind and named in the log.
    pub fn stop(mut self) -> BTreeMap<String, Accounts> {
        self.stopper = None;
        let seeing = std::mem::take(&mut self.seeing);
        let deadline = self.clock.monotonic() + FAREWELL;
        self.join(seeing, deadline);
        self.books.way.close();
        for (camera, scene) in self.books.way.take_luggage().into_iter().enumerate() {
            // A worker that hangs keeps what it has.
            let Some(mut scene) = scene else { continue };
            let mut seen = scene.end_all(End::Stopped);
            self.voice.tell(camera, &scene, None, &mut seen);
        }
        self.send_stats();
        let accounts = self.books.way.accounts();
        let accounts = self.books.cameras.iter().map(|(name, _)| name.to_string()).zip(accounts).collect();
        // The publisher and the store end when the last sender is gone.
        let publishing = std::mem::take(&mut self.publishing);
        (self.voice.messages, self.voice.files) = (queue::messages(1, |_| false).0, None);
        let deadline = self.clock.monotonic() + FAREWELL;
        self.join(publishing, deadline);
        accounts
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
        .map_err(|e| Error::caused(Kind::System, format!("no thread for {name}"), e))
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
