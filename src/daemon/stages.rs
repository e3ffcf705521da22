//! Builds the stages from the daemon's queues and counters and starts their threads.

use super::{Daemon, Publishing, STAGE_TIMEOUT};
use crate::{
    camera::{CameraStage, template::Pipeline},
    config::{Camera, Source},
    error::{Error, ErrorKind},
    lifecycle::Heartbeat,
    publish::{
        commands::Commander,
        frigate::FrigateEvents,
        homeassistant::{Discovery, LabelNames},
        mqtt::connection,
        publisher::{Integrations, Publisher, States},
    },
    queue::{self, messages::Messages},
    store::Store,
    vision::{health::HealthCheck, picture::Painter},
    web::{Pages, Web, metrics::Metrics},
    wire::{files::PictureFiling, initial, messages::Message, topics::Topics},
    workers::{Worker, classifier::Classifier, model::Model},
};
use std::{
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

/// Capacity of the picture queue in events: about 10 MiB.
const PICTURE_CAPACITY: usize = 16;
/// Bytes of an MQTT packet that are reserved for the parts around a command's answer.
const ANSWER_OVERHEAD_BYTES: usize = 4096;

impl Daemon {
    /// Starts the store if pictures are written to disk.
    pub(super) fn start_store(&mut self) -> Result<(), Error> {
        if self.config.pictures.directory.is_none() {
            return Ok(());
        }
        let (sender, Messages { transient: files, .. }) =
            queue::messages::messages::<PictureFiling>(PICTURE_CAPACITY, |_| false);
        let store = Store {
            settings: self.config.pictures.clone(),
            files,
            dropped: sender.dropped(),
            counters: self.counters.store.clone(),
            clock: self.clock.clone(),
            heartbeat: self.heartbeat("store"),
        };
        self.output_threads.push(spawn("store", move || store.run())?);
        self.reporter.files = Some(sender);
        Ok(())
    }

    /// Starts the publisher and the event loop of its connections.
    pub(super) fn start_publisher(&mut self) -> Result<(), Error> {
        let topics = Topics::new(&self.config);
        let (dialer, event_loop, link_events) = connection::connections(self.config.mqtt.clone(), &topics);
        let commander = self.config.commands.accept.then(|| {
            let max_bytes = self.config.mqtt.max_packet_bytes.saturating_sub(ANSWER_OVERHEAD_BYTES);
            Commander::new(self.reporter.node.clone(), self.controls.clone(), self.control.clone(), max_bytes)
        });
        let taxonomy = &self.reporter.model.taxonomy;
        let all: Vec<String> = taxonomy.names().map(str::to_string).collect();
        let labels = LabelNames { default: &taxonomy.default_labels(), all: &all };
        let publisher = Publisher {
            node: self.reporter.node.clone(),
            mqtt: self.config.mqtt.clone(),
            outbox: self.config.outbox.clone(),
            messages: self.messages.clone(),
            dialer: Box::new(dialer),
            link_events,
            counters: self.counters.delivery.clone(),
            integrations: Integrations {
                commander,
                discovery: Discovery::new(&self.config, &topics, self.config.commands.accept, labels),
                frigate: FrigateEvents::new(&self.config.frigate),
                publishes_live_events: self.config.homeassistant.discovery,
                max_event_age: self.config.homeassistant.max_event_age,
            },
            states: States { own_topics: topics.retained(&self.config), initial: self.initial_states() },
            topics,
            clock: self.clock.clone(),
            heartbeat: self.heartbeat("publish"),
        };
        self.output_threads.push(spawn("publish", move || publisher.run())?);
        let run_event_loop = move || {
            if let Err(error) = event_loop.run() {
                tracing::error!(%error, "The MQTT event loop failed; no broker can be reached.");
            }
        };
        self.output_threads.push(spawn("mqtt-io", run_event_loop)?);
        Ok(())
    }

    /// The states of all cameras before they are opened.
    fn initial_states(&self) -> Vec<Message> {
        let (node, now) = (&self.reporter.node, self.clock.now());
        let placeholder = Painter::new(self.config.pictures.quality).placeholder();
        let pictures = initial::Pictures {
            placeholder: placeholder.unwrap_or_default().into(),
            has_events: self.config.pictures.publish,
            has_snapshots: self.config.commands.accept,
        };
        let states = |camera| initial::camera_states(node, camera, &pictures, now);
        self.config.cameras.iter().flat_map(states).collect()
    }

    /// Starts the workers.
    pub(super) fn start_workers(&mut self, model: &Model, publishing: &Publishing) -> Result<(), Error> {
        // What is found in a recording must not depend on the speed of the machine.
        let inference_budget = match publishing {
            Publishing::Mqtt => self.config.objects.inference_budget,
            Publishing::Direct => Duration::MAX,
        };
        // More workers than cameras would be idle, because only one frame of a camera is analysed at a time.
        let workers = self.config.engine.workers.min(self.counters.cameras.len());
        for number in 0..workers {
            let name = format!("worker-{number}");
            let worker = Worker {
                classifier: Classifier::open(model)?,
                inference_budget,
                painter: Painter::new(self.config.pictures.quality),
                reporter: self.reporter.clone(),
                controls: self.controls.clone(),
                jobs: self.queues.jobs(),
                clock: self.clock.clone(),
                stop: self.stop.clone(),
                heartbeat: self.heartbeat(&name),
            };
            self.input_threads.push(spawn(&name, move || worker.run())?);
        }
        Ok(())
    }

    /// Starts a stage per camera with the pipelines that it may use, best first.
    pub(super) fn start_cameras(&mut self, pipelines: Vec<Vec<Pipeline>>) -> Result<(), Error> {
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
                stop: self.stop.clone(),
                heartbeat: self.heartbeat(&name),
            };
            self.input_threads.push(spawn(&name, move || stage.run())?);
        }
        Ok(())
    }

    /// Starts the web server, if configured. All other stages must have been started, because it reports
    /// their heartbeats.
    pub(super) fn start_web(&mut self) -> Result<(), Error> {
        let Some(listen) = self.config.web.listen else { return Ok(()) };
        let heartbeat = self.heartbeat("web");
        let pages = Pages {
            metrics: Metrics::new(self.counters.clone(), self.clock.now()),
            heartbeats: self.heartbeats.clone(),
            stuck: STAGE_TIMEOUT,
            clock: self.clock.clone(),
            hosts: self.config.web.hosts.clone(),
        };
        let web = Web::open(listen, pages, self.stop.clone(), heartbeat)?;
        self.input_threads.push(spawn("web", move || web.run())?);
        Ok(())
    }

    /// Creates a stage's heartbeat and keeps a copy for the watchdog.
    fn heartbeat(&mut self, name: &str) -> Heartbeat {
        let heartbeat = Heartbeat::new(name, self.clock.monotonic());
        self.heartbeats.push(heartbeat.clone());
        heartbeat
    }
}

/// Whether the frames contain sensor noise. Those of a clip or of a test source can be identical without a
/// fault.
fn camera_is_live(camera: &Camera) -> bool {
    !matches!(camera.source, Source::File { .. } | Source::Test { .. } | Source::Custom { .. })
}

/// Starts a named thread.
fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    thread::Builder::new()
        .name(name.to_string())
        .spawn(work)
        .map_err(|e| Error::caused(ErrorKind::System, format!("cannot start the thread {name}"), e))
}
