//! What the web server shows, and whom it asks: the link between the pages and the running daemon.
//!
//! An [`AppState`] outlives the server, which a reload may replace. What a reload changes is in [`Current`].

use crate::{
    clock::Clock,
    config,
    control::{CameraControl, NodeControl},
    counters::{CameraCounters, Counters},
    lifecycle::Heartbeats,
    sync::lock,
    vision::replay::recording::Recording,
    web::{newest::Newest, samples::Samples},
    wire::{
        feed::Feed,
        history::{EventPage, EventQuery, HistoryRequest},
        links::Links,
    },
};
use crossbeam_channel::Sender;
use jiff::Timestamp;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{sync::oneshot, time};

/// Maximum time until the publisher answers a question about past events. It may be busy with a slow disk.
const HISTORY_TIMEOUT: Duration = Duration::from_secs(10);

/// What the web server shows, and whom it asks.
pub struct AppState {
    /// The newest states of the cameras, and changes.
    pub feed: Arc<Feed>,
    /// All counters.
    pub counters: Counters,
    /// The heartbeats of all stages, including the web server's.
    pub heartbeats: Heartbeats,
    /// A stage is stuck if its heartbeat is older than this.
    pub stuck: Duration,
    /// Clock.
    pub clock: Arc<dyn Clock>,
    /// Questions to the publisher.
    pub history: Sender<HistoryRequest>,
    /// The settings of the page, requests for reloads, and the last warnings.
    pub node_control: Arc<NodeControl>,
    /// Held while the settings of the page change.
    pub setup_lock: tokio::sync::Mutex<()>,
    /// One preview at a time.
    pub previews: Newest,
    /// When the daemon was started.
    pub started_at: Timestamp,
    /// The recent past.
    pub samples: Samples,
    /// What a reload changes.
    pub current: Mutex<Arc<Current>>,
}

/// The part of an [`AppState`] that a reload replaces.
#[derive(Default)]
pub struct Current {
    /// The node's name.
    pub node: Arc<str>,
    /// The cameras, sorted by name.
    pub cameras: Vec<CurrentCamera>,
    /// Where event pictures are stored.
    pub pictures: config::Pictures,
    /// Recognises the links to them. None if there are no links.
    pub links: Option<Arc<Links>>,
    /// Whether the outbox has a file.
    pub has_outbox_file: bool,
    /// The engine and its kernels.
    pub engine: String,
    /// The network, with the first digits of its checksum.
    pub model: String,
    /// The version of GStreamer.
    pub gstreamer: String,
    /// The certificate of the web server, for connections from now on.
    pub certificate: Option<config::web_certificate::WebCertificate>,
}

/// A camera that the web server shows.
#[derive(Clone)]
pub struct CurrentCamera {
    /// Its configuration.
    pub config: config::Camera,
    /// How its objects are tracked.
    pub objects: config::Objects,
    /// Its settings and its live view.
    pub control: Arc<CameraControl>,
    /// Its counters.
    pub counters: Arc<CameraCounters>,
    /// Its last minutes.
    pub recording: Arc<Recording>,
}

impl AppState {
    /// One without cameras or a publisher, for tests.
    #[cfg(test)]
    pub fn empty(clock: Arc<dyn Clock>) -> AppState {
        AppState {
            feed: Arc::default(),
            counters: Counters::empty(&[]),
            heartbeats: Heartbeats::default(),
            stuck: Duration::from_secs(15),
            started_at: clock.now(),
            clock,
            history: crossbeam_channel::bounded(0).0,
            node_control: Arc::default(),
            setup_lock: tokio::sync::Mutex::default(),
            previews: Newest::default(),
            samples: Samples::default(),
            current: Mutex::default(),
        }
    }

    /// What is shown now.
    pub fn current(&self) -> Arc<Current> {
        lock(&self.current).clone()
    }

    /// The camera of this name.
    pub fn camera(&self, name: &str) -> Option<CurrentCamera> {
        self.current().cameras.iter().find(|camera| camera.config.name == name).cloned()
    }

    /// Asks the publisher for past events.
    ///
    /// Errors: there is no publisher, it does not answer, or it cannot read the outbox.
    pub async fn events(&self, query: EventQuery) -> EventPage {
        let (sender, answer) = oneshot::channel();
        // The request may be abandoned meanwhile.
        let request = HistoryRequest { query, answer: Box::new(|page| drop(sender.send(page))) };
        if self.history.try_send(request).is_err() {
            return Err("too many questions wait for the outbox".to_string());
        }
        match time::timeout(HISTORY_TIMEOUT, answer).await {
            Ok(Ok(page)) => page,
            _ => Err("the outbox does not answer".to_string()),
        }
    }
}
