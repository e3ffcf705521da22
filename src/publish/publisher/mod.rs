//! The publishing stage: accepts messages, with or without a broker, and delivers them.
//!
//! Durable messages go through the [`Outbox`](super::outbox::Outbox): they are stored first and sent in the
//! order of their rows, at most [`WINDOW`] of them unacknowledged; the cursor moves with the
//! acknowledgements. After a lost connection the last seconds are sent again, because a broker that was
//! killed may have forgotten messages that it acknowledged. Of transient messages, only the newest per topic
//! is kept, and none is sent late.
//!
//! States are sent as they are now: on every new connection before the node is online, and whenever they
//! change. Events are also sent at once to those who act on them ([`live`]), whatever the backlog of rows. A
//! message on which several connections in a row end is sent alone, and finally given up, so that it cannot
//! block all others.
//!
//! [`PublishLoop`] connects the parts: [`PublisherState`] is what outlives connections,
//! [`Session`](session::Session) is one established connection and sends on it.

mod limits;
mod link;
mod live;
mod pending;
mod poison;
mod renewal;
mod replay;
mod session;
mod state;
mod window;

pub use self::renewal::Renewal;

use self::{link::Link, state::PublisherState};
use super::{
    commands::Commander,
    connection::{Dialer, LinkEvent},
    frigate::FrigateEvents,
    homeassistant::Discovery,
    reconnect::Reconnect,
};
use crate::{
    clock::Clock,
    config,
    counters::DeliveryCounters,
    lifecycle::Heartbeat,
    queue::messages::Messages,
    wire::{history::HistoryRequest, messages::Message, topics::Topics},
};
use crossbeam_channel::Receiver;
use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// Maximum number of unacknowledged messages.
const WINDOW: usize = 100;
/// Maximum time until the broker acknowledges a message or a subscription.
const ACK_TIMEOUT: Duration = Duration::from_secs(20);
/// Maximum duration of the graceful shutdown, including the sending of what is left.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum duration of one iteration of the loop while nothing happens.
const MAX_WAIT: Duration = Duration::from_millis(250);
/// Maximum number of queued messages, and of link events, that one iteration processes.
const MAX_BATCH: usize = 1000;

/// The publishing stage: its settings and its connections to other stages.
pub struct Publisher {
    /// Node name.
    pub node: Arc<str>,
    /// Settings of the connection.
    pub mqtt: config::Mqtt,
    /// Settings of the outbox.
    pub outbox: config::Outbox,
    /// Topics of the node.
    pub topics: Topics,
    /// Messages to publish, from cameras and workers. The stage ends when all senders are dropped.
    pub messages: Messages<Message>,
    /// Opens connections. Dropping it ends their thread.
    pub dialer: Box<dyn Dialer>,
    /// Events of the connections, with the connection's number.
    pub link_events: Receiver<(u64, LinkEvent)>,
    /// New settings while the stage runs.
    pub renewals: Receiver<Renewal>,
    /// Questions about past events.
    pub history: Receiver<HistoryRequest>,
    /// Delivery counters; read by the stats and the metrics.
    pub counters: Arc<DeliveryCounters>,
    /// What the node offers to other programs.
    pub integrations: Integrations,
    /// What the node retains.
    pub states: States,
    /// Clock.
    pub clock: Arc<dyn Clock>,
    /// Updated on every loop iteration; read by the watchdog.
    pub heartbeat: Heartbeat,
}

/// The retained messages of the node.
#[derive(Default)]
pub struct States {
    /// All topics on which the node may have messages retained. What it retained on others is removed.
    pub own_topics: BTreeSet<String>,
    /// States that are published before the stages publish theirs.
    pub initial: Vec<Message>,
}

/// What the node offers to other programs on the broker, as far as it is enabled.
#[derive(Default)]
pub struct Integrations {
    /// Executes commands.
    pub commander: Option<Commander>,
    /// Announcements to Home Assistant.
    pub discovery: Discovery,
    /// Events in Frigate's format.
    pub frigate: Option<FrigateEvents>,
    /// Whether events are also published on `events/live`, without late ones and repeats.
    pub publishes_live_events: bool,
    /// `homeassistant.max_event_age`.
    pub max_event_age: Duration,
}

impl Publisher {
    /// Publishes until all senders are dropped, then sends what is left and disconnects.
    pub fn run(self) {
        PublishLoop::new(self).run();
    }
}

/// The running stage.
struct PublishLoop {
    messages: Messages<Message>,
    link_events: Receiver<(u64, LinkEvent)>,
    renewals: Receiver<Renewal>,
    history: Receiver<HistoryRequest>,
    heartbeat: Heartbeat,
    mqtt: config::Mqtt,
    dialer: Box<dyn Dialer>,
    reconnect: Reconnect,
    /// Number of the last connection that was dialled.
    connection_number: u64,
    link: Link,
    state: PublisherState,
}

impl PublishLoop {
    /// Opens the outbox.
    fn new(publisher: Publisher) -> PublishLoop {
        let Publisher { node, mqtt, outbox, topics, integrations, states, clock, .. } = publisher;
        let context = state::Context { node, topics, clock, counters: publisher.counters };
        PublishLoop {
            messages: publisher.messages,
            link_events: publisher.link_events,
            renewals: publisher.renewals,
            history: publisher.history,
            heartbeat: publisher.heartbeat,
            reconnect: Reconnect::new(publisher.dialer.brokers(), &mqtt.client_id, fastrand::u64(..)),
            dialer: publisher.dialer,
            connection_number: 0,
            link: Link::Down { retry_at: Duration::ZERO },
            state: PublisherState::open(context, outbox, mqtt.max_packet_bytes, integrations, states),
            mqtt,
        }
    }

    fn run(mut self) {
        self.state.publish_all_settings();
        let Messages { mut durable, mut transient } = self.messages.clone();
        let mut link_events = self.link_events.clone();
        let mut renewals = self.renewals.clone();
        let mut history = self.history.clone();
        let (mut is_durable_open, mut is_transient_open) = (true, true);
        while is_durable_open || is_transient_open {
            self.beat();
            self.connect_if_due();
            crossbeam_channel::select! {
                recv(durable) -> message => match message {
                    Ok(message) => self.state.accept(message),
                    Err(_) => (is_durable_open, durable) = (false, crossbeam_channel::never()),
                },
                recv(transient) -> message => match message {
                    Ok(message) => self.state.accept(message),
                    Err(_) => (is_transient_open, transient) = (false, crossbeam_channel::never()),
                },
                recv(renewals) -> renewal => match renewal {
                    Ok(renewal) => {
                        self.renew(renewal);
                        link_events = self.link_events.clone();
                    }
                    Err(_) => renewals = crossbeam_channel::never(),
                },
                recv(link_events) -> event => match event {
                    Ok((number, event)) => self.handle_event(number, event),
                    // The connections' thread has ended.
                    Err(_) => link_events = crossbeam_channel::never(),
                },
                recv(history) -> request => match request {
                    Ok(request) => self.answer(request),
                    Err(_) => history = crossbeam_channel::never(),
                },
                default(MAX_WAIT) => {}
            }
            // Everything else that is queued is committed in the same group.
            durable.try_iter().take(MAX_BATCH).for_each(|message| self.state.accept(message));
            transient.try_iter().for_each(|message| self.state.accept(message));
            for (number, event) in link_events.try_iter().take(MAX_BATCH) {
                // Some commands take a while.
                self.beat();
                self.handle_event(number, event);
            }
            self.tick();
        }
        if !self.shut_down(true) {
            let row = self.resume_row();
            self.state.outbox.go_back(row);
        }
        let (now, at) = (self.now(), self.state.context.clock.now());
        self.state.outbox.close(now, at);
    }

    /// The part of an iteration that does not depend on what was received.
    fn tick(&mut self) {
        let now = self.now();
        self.state.replay.record_cursor(now, self.state.outbox.cursor());
        self.state.publish_changed_settings();
        self.commit(now);
        if self.state.integrations.discovery.take_republish(now) {
            self.state.queue_discovery();
            self.state.mark_states_unsent();
        }
        self.check_timeouts(now);
        if let Link::Established(session) = &mut self.link {
            session.send(&mut self.state);
            if self.reconnect.has_recovered(now) {
                self.log_connected();
            }
        }
        self.state.update_counters();
    }

    /// Sends what is left and, if `says_offline`, `offline`, and disconnects gracefully. Returns false if the
    /// broker did not accept everything in time.
    fn shut_down(&mut self, says_offline: bool) -> bool {
        let deadline = self.now() + SHUTDOWN_TIMEOUT;
        let (mut is_offline_sent, mut is_disconnect_sent) = (!says_offline, false);
        loop {
            let now = self.now();
            self.heartbeat.beat(now);
            self.commit(now);
            let Link::Established(session) = &mut self.link else { return false };
            let is_all_sent = session.send(&mut self.state);
            if is_all_sent && !is_offline_sent {
                is_offline_sent = session.send_offline(&self.state.context.topics);
            }
            if is_all_sent && is_offline_sent && !is_disconnect_sent && session.window.len() == 0 {
                is_disconnect_sent = session.disconnect();
            }
            if now >= deadline {
                let waiting = self.state.outbox.waiting();
                tracing::warn!(waiting, "Broker did not accept all messages before the shutdown.");
                return false;
            }
            match self.link_events.recv_timeout((deadline - now).min(Duration::from_millis(50))) {
                Ok((number, LinkEvent::Disconnected)) if number == self.connection_number => return true,
                Ok((number, event)) => self.handle_event(number, event),
                Err(_) => {}
            }
        }
    }

    /// Answers a question about past events.
    fn answer(&mut self, HistoryRequest { query, answer }: HistoryRequest) {
        let page = self.state.outbox.events(&query);
        answer(page.map_err(|error| format!("the outbox cannot be read: {error}")));
    }

    fn commit(&mut self, now: Duration) {
        let row = self.resume_row();
        let at = self.state.context.clock.now();
        self.state.outbox.commit(now, at, row);
    }

    /// The monotonic time.
    fn now(&self) -> Duration {
        self.state.context.clock.monotonic()
    }

    fn beat(&self) {
        self.heartbeat.beat(self.now());
    }

    fn log_connected(&self) {
        tracing::info!(broker = self.broker_name(), "Broker is connected.");
    }

    fn set_connected(&self, is_connected: bool) {
        self.state.context.counters.connected.store(is_connected, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
