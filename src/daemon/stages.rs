//! Builds the stages from the daemon's queues and counters and starts their threads.

use super::{Daemon, PICTURES_PER_FRAME, Publishing, STAGE_TIMEOUT};
use crate::{
    camera::{CameraStage, template::Pipeline},
    config::{Camera, Config, Source},
    error::{Error, ErrorKind},
    lifecycle::{self, Heartbeat, StopSignal, StopTrigger},
    publish::{
        commands::Commander,
        frigate::FrigateEvents,
        homeassistant::{Discovery, LabelNames},
        mqtt::connection::{self, ConnectionDriver},
        publisher::{Integrations, Publisher, Renewal, States},
    },
    queue::{self, messages::Messages},
    store::Store,
    vision::{health::HealthCheck, picture::Painter, replay::recording::Encoder},
    web::{Pages, Web, access::Access, forwarded::Proxies, metrics::Metrics},
    wire::{files::PictureFiling, initial, topics::Topics},
    workers::{Worker, classifier::Classifier, model::Model},
};
use crossbeam_channel::Sender;
use std::{
    net::TcpListener,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

/// Capacity of the picture queue in events: about 10 MiB.
const PICTURE_CAPACITY: usize = 16;
/// Bytes of an MQTT packet that are reserved for the parts around a command's answer.
const ANSWER_OVERHEAD_BYTES: usize = 4096;
/// Maximum number of renewals that wait for the publisher.
const MAX_RENEWALS: usize = 1;

/// A running stage.
pub(super) struct Stage {
    thread: JoinHandle<()>,
    /// None if the stage is not monitored.
    heartbeat: Option<Heartbeat>,
    /// None if the stage ends when its senders are gone.
    trigger: Option<StopTrigger>,
}

impl Stage {
    /// Starts the thread of a stage.
    fn start(
        name: &str,
        heartbeat: Option<&Heartbeat>,
        trigger: Option<StopTrigger>,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<Stage, Error> {
        let thread = thread::Builder::new()
            .name(name.to_string())
            .spawn(work)
            .map_err(|e| Error::caused(ErrorKind::System, format!("cannot start the thread {name}"), e))?;
        Ok(Stage { thread, heartbeat: heartbeat.cloned(), trigger })
    }

    /// Asks the stage to stop. Returns what is needed to wait for its end.
    pub(super) fn stop(self) -> (JoinHandle<()>, Option<Heartbeat>) {
        drop(self.trigger);
        (self.thread, self.heartbeat)
    }

    /// Whether the stage has ended.
    pub(super) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

/// Opens the sessions of `count` workers.
pub(super) fn open_classifiers(model: &Model, count: usize) -> Result<Vec<Classifier>, Error> {
    (0..count).map(|_| Classifier::open(model)).collect()
}

/// The number of workers. More workers than cameras would be idle, because only one frame of a camera is
/// analysed at a time.
pub(super) fn worker_count(config: &Config) -> usize {
    config.engine.workers.min(config.cameras.len())
}

/// Maximum number of objects per frame of which pictures are taken: none if nothing is done with them.
pub(super) fn pictures_per_frame(config: &Config) -> usize {
    let has_pictures = config.pictures.directory.is_some() || config.pictures.publish;
    if has_pictures { PICTURES_PER_FRAME } else { 0 }
}

/// What the publisher is made of, apart from its queues.
struct PublisherParts {
    topics: Topics,
    dialer: connection::MqttDialer,
    driver: ConnectionDriver,
    link_events: crossbeam_channel::Receiver<(u64, crate::publish::connection::LinkEvent)>,
    integrations: Integrations,
}

impl Daemon {
    /// Starts the store if pictures are written to disk. The reporter gets its queue.
    pub(super) fn start_store(&mut self) -> Result<(), Error> {
        self.reporter.files = None;
        self.store = None;
        if self.config.pictures.directory.is_none() {
            return Ok(());
        }
        let (sender, Messages { transient: files, .. }) =
            queue::messages::messages::<PictureFiling>(PICTURE_CAPACITY, |_| false);
        let heartbeat = self.heartbeat("store");
        let store = Store {
            settings: self.config.pictures.clone(),
            files,
            dropped: sender.dropped(),
            counters: self.counters.store.clone(),
            clock: self.clock.clone(),
            heartbeat: heartbeat.clone(),
        };
        self.store = Some(Stage::start("store", Some(&heartbeat), None, move || store.run())?);
        self.reporter.files = Some(sender);
        Ok(())
    }

    /// Starts the publisher and the event loop of its connections.
    pub(super) fn start_publisher(&mut self) -> Result<(), Error> {
        let parts = self.publisher_parts();
        let heartbeat = self.heartbeat("publish");
        let (sender, renewals) = crossbeam_channel::bounded(MAX_RENEWALS);
        let publisher = Publisher {
            node: self.reporter.node.clone(),
            mqtt: self.config.mqtt.clone(),
            outbox: self.config.outbox.clone(),
            messages: self.messages.clone(),
            dialer: Box::new(parts.dialer),
            link_events: parts.link_events,
            renewals,
            history: self.history.clone(),
            counters: self.counters.delivery.clone(),
            integrations: parts.integrations,
            states: self.states(&[]),
            topics: parts.topics,
            clock: self.clock.clone(),
            heartbeat: heartbeat.clone(),
        };
        self.publisher.push(Stage::start("publish", Some(&heartbeat), None, move || publisher.run())?);
        self.renewals = Some(sender);
        self.start_connections(parts.driver)
    }

    /// Gives the publisher the settings of the current configuration, for the current cameras. `accepted` is
    /// dropped when it has taken what was queued before.
    pub(super) fn renew_publisher(
        &mut self,
        kept_cameras: Vec<String>,
        keeps_frigate: bool,
        accepted: Sender<()>,
    ) -> Result<(), Error> {
        let parts = self.publisher_parts();
        self.publisher.retain(|stage| !stage.is_finished());
        self.start_connections(parts.driver)?;
        let renewal = Renewal {
            node: self.reporter.node.clone(),
            mqtt: self.config.mqtt.clone(),
            outbox: self.config.outbox.clone(),
            topics: parts.topics,
            dialer: Box::new(parts.dialer),
            link_events: parts.link_events,
            integrations: parts.integrations,
            states: self.states(&kept_cameras),
            keeps_frigate,
            kept_cameras,
            accepted,
        };
        // Fails only if the publisher has panicked, which the watchdog detects.
        if let Some(renewals) = &self.renewals {
            drop(renewals.send_timeout(renewal, STAGE_TIMEOUT));
        }
        Ok(())
    }

    fn publisher_parts(&self) -> PublisherParts {
        let topics = Topics::new(&self.config);
        let (dialer, driver, link_events) = connection::connections(self.config.mqtt.clone(), &topics);
        let commander = self.config.commands.accept.then(|| {
            let controls = self.cameras.values().map(|entry| entry.control.clone()).collect();
            let max_bytes = self.config.mqtt.max_packet_bytes.saturating_sub(ANSWER_OVERHEAD_BYTES);
            Commander::new(self.reporter.node.clone(), controls, self.control.clone(), max_bytes)
        });
        let taxonomy = &self.reporter.model.taxonomy;
        let all: Vec<String> = taxonomy.names().map(str::to_string).collect();
        let labels = LabelNames { default: &taxonomy.default_labels(), all: &all };
        let integrations = Integrations {
            commander,
            discovery: Discovery::new(&self.config, &topics, self.config.commands.accept, labels),
            frigate: FrigateEvents::new(&self.config.frigate),
            publishes_live_events: self.config.homeassistant.discovery,
            max_event_age: self.config.homeassistant.max_event_age,
        };
        PublisherParts { topics, dialer, driver, link_events, integrations }
    }

    /// Starts the event loop of the publisher's connections.
    fn start_connections(&mut self, driver: ConnectionDriver) -> Result<(), Error> {
        let run_event_loop = move || {
            if let Err(error) = driver.run() {
                tracing::error!(%error, "The MQTT event loop failed; no broker can be reached.");
            }
        };
        self.publisher.push(Stage::start("mqtt-io", None, None, run_event_loop)?);
        Ok(())
    }

    /// What the node retains now. The states of all cameras but the `kept` ones begin anew.
    fn states(&self, kept: &[String]) -> States {
        let (node, now) = (&self.reporter.node, self.clock.now());
        let placeholder = Painter::new(self.config.pictures.quality).placeholder();
        let pictures = initial::Pictures {
            placeholder: placeholder.unwrap_or_default().into(),
            has_events: self.config.pictures.publish,
            has_snapshots: self.config.commands.accept,
        };
        let cameras = self.config.cameras.iter().filter(|camera| !kept.contains(&camera.name));
        States {
            own_topics: Topics::new(&self.config).retained(&self.config),
            initial: cameras
                .flat_map(|camera| initial::camera_states(node, camera, &pictures, now))
                .collect(),
        }
    }

    /// Starts a worker for each classifier.
    pub(super) fn start_workers(&mut self, classifiers: Vec<Classifier>) -> Result<Vec<Stage>, Error> {
        // What is found in a recording must not depend on the speed of the machine.
        let inference_budget = match self.publishing {
            Publishing::Mqtt => self.config.objects.inference_budget,
            Publishing::Direct => Duration::MAX,
        };
        let mut workers = Vec::new();
        for (number, classifier) in classifiers.into_iter().enumerate() {
            let name = format!("worker-{number}");
            let (heartbeat, trigger, stop) = self.stoppable(&name);
            let worker = Worker {
                classifier,
                inference_budget,
                painter: Painter::new(self.config.pictures.quality),
                encoder: Encoder::default(),
                reporter: self.reporter.clone(),
                pictures_per_frame: pictures_per_frame(&self.config),
                jobs: self.queues.jobs(),
                clock: self.clock.clone(),
                stop,
                heartbeat: heartbeat.clone(),
            };
            workers.push(Stage::start(&name, Some(&heartbeat), Some(trigger), move || worker.run())?);
        }
        Ok(workers)
    }

    /// Starts the stage of a camera with the pipelines that it may use, best first.
    pub(super) fn start_camera(&mut self, camera: &Camera, pipelines: Vec<Pipeline>) -> Result<(), Error> {
        let name = format!("camera-{}", camera.name);
        let (heartbeat, trigger, stop) = self.stoppable(&name);
        let entry = self.cameras.get_mut(&camera.name).expect("cameras are added before they are started");
        let stage = CameraStage {
            camera: camera.clone(),
            pipelines,
            counters: entry.counters.clone(),
            control: entry.control.clone(),
            health: Arc::new(Mutex::new(HealthCheck::new(camera_is_live(camera)))),
            node: self.reporter.node.clone(),
            slot: entry.slot.clone(),
            messages: self.reporter.messages.clone(),
            clock: self.clock.clone(),
            stop,
            heartbeat: heartbeat.clone(),
        };
        entry.stage = Some(Stage::start(&name, Some(&heartbeat), Some(trigger), move || stage.run())?);
        Ok(())
    }

    /// Starts the web server, if configured; on `listener`, if its address is bound already.
    pub(super) fn start_web(&mut self, listener: Option<TcpListener>) -> Result<Option<Stage>, Error> {
        let Some(listen) = self.config.web.listen else { return Ok(None) };
        let (heartbeat, trigger, stop) = self.stoppable("web");
        let passwords = self.config.web.passwords.clone();
        let pages = Pages {
            metrics: Metrics::new(self.counters.clone(), self.started_at),
            app: self.app.clone(),
            access: Arc::new(Access::new(
                passwords,
                listen.ip().to_canonical().is_loopback(),
                self.clock.clone(),
            )),
            hosts: self.config.web.hosts.clone(),
            proxies: Proxies::new(&self.config.web.trusted_proxies),
        };
        let web = Web::open(listen, listener, pages, stop, heartbeat.clone())?;
        Ok(Some(Stage::start("web", Some(&heartbeat), Some(trigger), move || web.run())?))
    }

    /// Creates the heartbeat of a stage.
    fn heartbeat(&self, name: &str) -> Heartbeat {
        self.heartbeats.add(name, self.clock.monotonic())
    }

    /// Creates the heartbeat of a stage that is stopped by a trigger, and the trigger with its signal.
    fn stoppable(&self, name: &str) -> (Heartbeat, StopTrigger, StopSignal) {
        let (trigger, stop) = lifecycle::stop_signal();
        (self.heartbeat(name), trigger, stop)
    }
}

/// Whether the frames contain sensor noise. Those of a clip or of a test source can be identical without a
/// fault.
fn camera_is_live(camera: &Camera) -> bool {
    !matches!(camera.source, Source::File { .. } | Source::Test { .. } | Source::Custom { .. })
}
