//! What the publisher announces to Home Assistant, and when.

use super::{LabelNames, birth_topic, payloads, removals::removals};
use crate::{
    config::Config,
    publish::outbox::Outbox,
    wire::topics::{ONLINE, Topics},
};
use std::{collections::BTreeMap, time::Duration};

/// Maximum delay of the announcements after a start of Home Assistant, which is busy then. Each node picks
/// its own delay, so that a fleet does not publish all at once.
const MAX_REPUBLISH_DELAY: Duration = Duration::from_secs(5);

/// The announcements of this node. Empty if discovery is off.
#[derive(Default)]
pub struct Discovery {
    /// Payloads by topic.
    pub payloads: BTreeMap<String, Vec<u8>>,
    birth_topic: Option<String>,
    /// When to publish everything again because Home Assistant has started. Monotonic.
    republish_at: Option<Duration>,
}

impl Discovery {
    /// Creates the announcements. `commands`: whether cameras accept commands. `labels`: those of
    /// the model.
    pub fn new(config: &Config, topics: &Topics, commands: bool, labels: LabelNames<'_>) -> Discovery {
        Discovery {
            payloads: payloads(config, topics, commands, labels),
            birth_topic: config.homeassistant.discovery.then(|| birth_topic(config)),
            republish_at: None,
        }
    }

    /// The topic to subscribe to, if discovery is on.
    pub fn birth_topic(&self) -> Option<&String> {
        self.birth_topic.as_ref()
    }

    /// Handles a received message. Returns whether it was one of Home Assistant's.
    pub fn receive(&mut self, topic: &str, retained: bool, payload: &[u8], now: Duration) -> bool {
        if self.birth_topic.as_deref() != Some(topic) {
            return false;
        }
        if payload == ONLINE.as_bytes() && !retained {
            self.republish_at = Some(now + MAX_REPUBLISH_DELAY.mul_f64(fastrand::f64()));
        }
        true
    }

    /// Whether everything is to be published again now. Returns true once per start of Home Assistant.
    pub fn take_republish(&mut self, now: Duration) -> bool {
        self.republish_at.take_if(|at| now >= *at).is_some()
    }

    /// The messages that remove earlier announcements that no longer apply, and then the current
    /// announcements.
    ///
    /// Announcements are stored in the outbox before they are sent, until their removal is acknowledged
    /// ([`Discovery::acknowledged`]).
    pub fn messages(&self, outbox: &mut Outbox) -> Vec<(String, Vec<u8>)> {
        let before = outbox.remembered();
        for (topic, payload) in self.payloads.iter().filter(|(topic, _)| !before.contains_key(*topic)) {
            outbox.remember(topic, Some(payload));
        }
        let now = self.payloads.iter().map(|(topic, payload)| (topic.clone(), payload.clone()));
        removals(&before, &self.payloads).into_iter().chain(now).collect()
    }

    /// Records that a message on `topic` was acknowledged. The next removals are relative to it.
    pub fn acknowledged(&self, topic: &str, outbox: &mut Outbox) {
        outbox.remember(topic, self.payloads.get(topic));
    }
}
