//! New settings for the running publisher: it leaves the broker gracefully and connects again with them.
//!
//! Nothing that waits is lost. What is queued is accepted under the old settings, the outbox stays or moves
//! with all its rows, and the states of cameras that go on are kept. If the broker and the topics stay the
//! same, the node does not appear as offline in between.

use super::{Integrations, Link, MAX_BATCH, PublishLoop, Reconnect, States};
use crate::{
    config,
    publish::connection::{Dialer, LinkEvent},
    wire::topics::Topics,
};
use crossbeam_channel::{Receiver, Sender};
use std::{sync::Arc, time::Duration};

/// New settings of the publishing stage. [`Publisher`](super::Publisher) describes the common fields.
#[allow(missing_docs, reason = "the fields are those of the publisher")]
pub struct Renewal {
    pub node: Arc<str>,
    pub mqtt: config::Mqtt,
    pub outbox: config::Outbox,
    pub topics: Topics,
    pub dialer: Box<dyn Dialer>,
    pub link_events: Receiver<(u64, LinkEvent)>,
    pub integrations: Integrations,
    pub states: States,
    /// Whether the events in Frigate's format go on as before.
    pub keeps_frigate: bool,
    /// The cameras whose states are still true.
    pub kept_cameras: Vec<String>,
    /// Dropped when everything that was queued before is accepted. Messages of cameras that are not kept may
    /// be sent from then on.
    pub accepted: Sender<()>,
}

impl PublishLoop {
    /// Continues with new settings.
    pub(super) fn renew(&mut self, renewal: Renewal) {
        let Renewal { node, mqtt, outbox, topics, dialer, link_events, mut integrations, .. } = renewal;
        self.accept_queued();
        drop(renewal.accepted);
        let is_same_node = topics == self.state.context.topics && mqtt.brokers == self.mqtt.brokers;
        if !self.shut_down(!is_same_node) {
            let row = self.resume_row();
            self.state.outbox.go_back(row);
        }
        self.set_connected(false);
        // Only now: the last states of stopped cameras were sent.
        self.state.retain_cameras(&renewal.kept_cameras);
        let replay = outbox.replay;
        let (now, at) = (self.now(), self.state.context.clock.now());
        self.state.outbox.renew(outbox, now, at);
        let cursor = self.state.outbox.cursor();
        self.state.replay.connection_closed(replay, cursor);
        if renewal.keeps_frigate {
            integrations.frigate = self.state.integrations.frigate.take();
        }
        self.state.renew(node, topics, mqtt.max_packet_bytes, integrations, renewal.states);
        self.state.publish_all_settings();
        self.reconnect = Reconnect::new(dialer.brokers(), &mqtt.client_id, fastrand::u64(..));
        self.link = Link::Down { retry_at: Duration::ZERO };
        (self.dialer, self.link_events, self.connection_number) = (dialer, link_events, 0);
        self.mqtt = mqtt;
    }

    /// Accepts what is queued now, in batches with a heartbeat.
    fn accept_queued(&mut self) {
        let messages = self.messages.clone();
        let mut left = messages.durable.len();
        while left > 0 {
            self.beat();
            let batch = left.min(MAX_BATCH);
            messages.durable.try_iter().take(batch).for_each(|message| self.state.accept(message));
            left -= batch;
        }
        let count = messages.transient.len();
        messages.transient.try_iter().take(count).for_each(|message| self.state.accept(message));
    }
}
