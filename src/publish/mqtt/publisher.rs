//! The daemon's connection to its broker.
//!
//! Two threads. `publish` ([`Publisher::run`]) owns what is to be said: it drains the messages queue whether a broker is
//! there or not, keeps the last retained payload of each topic and the newest detections of each camera, and tells a
//! new connection all of it. `mqtt-io` ([`pump`]) turns rumqttc's event loop, one fresh client for each connection:
//! a client that reconnects by itself drops what it had queued without a word.
//!
//! Nothing waits for the broker: where it is away, newer detections replace older ones (a late frame is worthless), and
//! events wait in line, so many at most. States and events are acknowledged (QoS 1), detections are not (QoS 0).

use super::{broker, client_options, describe, network_options};
use crate::{
    clock::Clock,
    config,
    error::Error,
    lifecycle::Pulse,
    publish::{
        messages::Message,
        topics::{Address, Delivery, OFFLINE, ONLINE, Topics},
    },
    record::Trace,
};
use crossbeam_channel::{Receiver, Sender};
use rumqttc::{Client, Connection, ConnectionError, Event, LastWill, MqttOptions, Outgoing, Packet, QoS};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

/// Requests that rumqttc may hold; beyond that the newest detections wait here.
const REQUESTS: usize = 100;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// For a broker that says no: it will say no again, until a person changes something.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);
/// Events that may wait for a broker that is away; beyond that the oldest go, and are counted.
const EVENTS: usize = 10_000;
/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// Everything that the publishing thread owns.
pub struct Publisher {
    /// The broker and how to reach it.
    pub config: config::Mqtt,
    /// Where messages go.
    pub topics: Topics,
    /// What is to be said; cameras and workers have the other end. It ends when they have.
    pub messages: Receiver<Message>,
    /// Fresh connections for the thread that turns them; dropping it ends that thread.
    pub connections: Sender<Connection>,
    /// What that thread saw.
    pub events: Receiver<Happened>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Beats at every turn of the loop; the watchdog reads it.
    pub pulse: Pulse,
}

/// What the connection's thread tells.
#[derive(Debug)]
pub enum Happened {
    /// The broker said yes.
    Connected,
    /// A QoS 1 publish went out with this packet id.
    Sent(u16),
    /// The broker has it.
    Acknowledged(u16),
    /// The goodbye went out.
    Disconnected,
    /// The connection is gone.
    Failed(ConnectionError),
}

/// Turns each connection until it fails; ends when the publisher does.
pub fn pump(connections: &Receiver<Connection>, events: &Sender<Happened>) {
    for mut connection in connections {
        loop {
            let happened = match connection.recv() {
                Ok(Ok(Event::Incoming(Packet::ConnAck(_)))) => Happened::Connected,
                Ok(Ok(Event::Incoming(Packet::PubAck(ack)))) => Happened::Acknowledged(ack.pkid),
                Ok(Ok(Event::Outgoing(Outgoing::Publish(id)))) if id != 0 => Happened::Sent(id),
                Ok(Ok(Event::Outgoing(Outgoing::Disconnect))) => Happened::Disconnected,
                Ok(Ok(_)) => continue,
                Ok(Err(error)) => Happened::Failed(error),
                Err(_) => Happened::Failed(ConnectionError::RequestsDone),
            };
            let over = matches!(happened, Happened::Failed(_) | Happened::Disconnected);
            if events.send(happened).is_err() || over {
                break;
            }
        }
    }
}

/// Where the publisher stands with its broker.
enum Link {
    /// Not connected; the next attempt is due at this monotonic time.
    Down { retry_at: Duration },
    /// Asked, not answered yet.
    Connecting(Client),
    /// The broker said yes.
    Up(Client),
}

/// What is waiting to be said, newest only.
#[derive(Default)]
struct Waiting {
    /// Last payload of each retained topic, and whether this connection was told.
    retained: BTreeMap<String, (Vec<u8>, bool)>,
    /// Newest payload of each topic where only that counts, and the trace of its frame.
    latest: BTreeMap<String, (Vec<u8>, Option<Trace>)>,
    /// Topics and payloads that each count.
    events: VecDeque<(String, Vec<u8>)>,
    /// Events that had to go.
    lost: u64,
}

impl Publisher {
    /// Publishes until nobody is left who could say something, then says what is left and goodbye.
    pub fn run(mut self) {
        const TURN: Duration = Duration::from_millis(250);
        let mut link = Link::Down { retry_at: Duration::ZERO };
        let mut waiting = Waiting::default();
        let mut trouble = Trouble::default();
        let mut open = true;
        while open {
            let now = self.clock.monotonic();
            self.pulse.beat(now);
            if let Link::Down { retry_at } = link
                && now >= retry_at
            {
                link = self.connect(&mut trouble);
            }
            crossbeam_channel::select! {
                recv(self.messages) -> message => match message {
                    Ok(message) => waiting.keep(self.topics.address(&message), message),
                    Err(_) => open = false,
                },
                recv(self.events) -> event => if let Ok(event) = event {
                    link = self.react(link, event, &mut waiting, &mut trouble);
                },
                default(TURN) => {}
            }
            // Whatever else is in the queue goes out with it.
            for message in self.messages.try_iter() {
                waiting.keep(self.topics.address(&message), message);
            }
            if let Link::Up(client) = &link {
                waiting.send(client, self.clock.as_ref());
                if trouble.is_over(now) {
                    tracing::info!(broker = broker(&self.config), "Broker is connected.");
                }
            }
        }
        self.say_goodbye(link, waiting);
    }

    fn connect(&self, trouble: &mut Trouble) -> Link {
        match options(&self.config, &self.topics) {
            Ok(options) => {
                let (client, mut connection) = Client::new(options, REQUESTS);
                connection.eventloop.set_network_options(network_options(&self.config));
                match self.connections.send(connection) {
                    Ok(()) => Link::Connecting(client),
                    Err(_) => self.retry(REFUSED_PAUSE),
                }
            }
            Err(error) => {
                trouble.tell(&self.config, &error.to_string());
                self.retry(REFUSED_PAUSE)
            }
        }
    }

    fn retry(&self, pause: Duration) -> Link {
        Link::Down { retry_at: self.clock.monotonic() + pause }
    }

    fn react(&self, link: Link, event: Happened, waiting: &mut Waiting, trouble: &mut Trouble) -> Link {
        match (event, link) {
            (Happened::Connected, Link::Connecting(client)) => {
                let broker = broker(&self.config);
                // A connection that just does not last is the same trouble as before.
                if trouble.up(self.clock.monotonic()) {
                    tracing::info!(broker, "Broker is connected.");
                }
                waiting.start_anew();
                publish_online(&client, &self.topics, ONLINE);
                Link::Up(client)
            }
            (Happened::Failed(error), _) => {
                let pause = trouble.next_pause(&error, self.clock.monotonic());
                trouble.tell(&self.config, &describe(&error));
                self.retry(pause)
            }
            (_, link) => link,
        }
    }

    /// Everything that is left, `offline`, and a proper end, if the broker takes it in time.
    fn say_goodbye(&mut self, link: Link, mut waiting: Waiting) {
        let Link::Up(client) = link else { return };
        let deadline = self.clock.monotonic() + GOODBYE;
        let left = |clock: &Arc<dyn Clock>| deadline.saturating_sub(clock.monotonic());
        let mut offline_said = false;
        let mut disconnect_said = false;
        // Packet ids of QoS 1 messages that the broker has not acknowledged.
        let mut open: Vec<u16> = Vec::new();
        let mut silent = false;
        loop {
            if !offline_said && waiting.send(&client, self.clock.as_ref()) {
                offline_said = publish_online(&client, &self.topics, OFFLINE);
            }
            if offline_said && silent && open.is_empty() && !disconnect_said {
                disconnect_said = client.try_disconnect().is_ok();
            }
            let turn = left(&self.clock).min(Duration::from_millis(50));
            if turn.is_zero() {
                tracing::warn!("Broker did not take everything in time.");
                return;
            }
            silent = false;
            match self.events.recv_timeout(turn) {
                Ok(Happened::Sent(id)) => open.push(id),
                Ok(Happened::Acknowledged(id)) => open.retain(|&other| other != id),
                Ok(Happened::Connected) => {}
                Ok(Happened::Disconnected) => return,
                Ok(Happened::Failed(error)) => {
                    tracing::warn!(error = describe(&error), "Broker went away before the goodbye.");
                    return;
                }
                // A turn without events: what was queued has gone out.
                Err(_) => silent = true,
            }
        }
    }
}

impl Waiting {
    fn keep(&mut self, address: Address, message: Message) {
        let Address { topic, delivery } = address;
        let trace = match &message {
            Message::Detections(detections) => detections.trace.clone(),
            _ => None,
        };
        let payload = message.payload();
        match delivery {
            Delivery::State => {
                self.retained.insert(topic, (payload, false));
            }
            Delivery::Newest => {
                self.latest.insert(topic, (payload, trace));
            }
            Delivery::Event => {
                if self.events.len() >= EVENTS {
                    self.events.pop_front();
                    self.lost += 1;
                    if self.lost == 1 {
                        tracing::warn!(
                            kept = EVENTS,
                            "Broker is away for too long; the oldest events are being lost."
                        );
                    }
                }
                self.events.push_back((topic, payload));
            }
        }
    }

    /// A new connection must be told everything that is retained.
    fn start_anew(&mut self) {
        for (_, told) in self.retained.values_mut() {
            *told = false;
        }
    }

    /// Hands over as much as the client takes; true if nothing is left.
    fn send(&mut self, client: &Client, clock: &dyn Clock) -> bool {
        while let Some((topic, payload)) = self.events.front() {
            if client.try_publish(topic, QoS::AtLeastOnce, false, payload.as_slice()).is_err() {
                break;
            }
            self.events.pop_front();
        }
        for (topic, (payload, told)) in &mut self.retained {
            if !*told {
                *told = client.try_publish(topic, QoS::AtLeastOnce, true, payload.as_slice()).is_ok();
            }
        }
        self.latest.retain(|topic, (payload, trace)| {
            let sent = client.try_publish(topic, QoS::AtMostOnce, false, payload.as_slice()).is_ok();
            if let Some(trace) = trace.as_ref().filter(|_| sent) {
                trace.published(clock.monotonic());
            }
            !sent
        });
        self.latest.is_empty() && self.events.is_empty() && self.retained.values().all(|(_, told)| *told)
    }
}

/// The story of a broker that is away, told once and not at every attempt.
#[derive(Default)]
struct Trouble {
    told: Option<String>,
    attempts: u32,
    /// When the connection came up, while it is.
    up_since: Option<Duration>,
    /// Connections in a row that did not last.
    short_lived: u32,
    /// The last failure was the end of one of those.
    ended_soon: bool,
}

/// A connection that lasts so long is a good one.
const LASTING: Duration = Duration::from_secs(10);
/// So many that do not last are probably the work of another client with the same id: a broker ends the older of two.
const MOST_SHORT_LIVED: u32 = 3;

impl Trouble {
    fn tell(&mut self, config: &config::Mqtt, what: &str) {
        let another = format!("{what}; does another client have the id {:?}?", config.client_id);
        let what = if self.ended_soon && self.short_lived >= MOST_SHORT_LIVED { &another } else { what };
        if self.told.as_deref() != Some(what) {
            let broker = broker(config);
            tracing::warn!(broker, error = what, "Broker is away; seeing goes on, trying again.");
            self.told = Some(what.to_string());
        }
    }

    /// Whether a connection of which nothing was said, after several that did not last, has lasted by `now`: then all is
    /// well and forgotten.
    fn is_over(&mut self, now: Duration) -> bool {
        let lasts = self.up_since.is_some_and(|since| now.saturating_sub(since) >= LASTING);
        if !lasts || self.attempts == 0 {
            return false;
        }
        let untold = self.short_lived >= MOST_SHORT_LIVED;
        *self = Trouble { up_since: self.up_since, ..Trouble::default() };
        untold
    }

    /// The connection is up at `now`; true if that is news.
    fn up(&mut self, now: Duration) -> bool {
        self.up_since = Some(now);
        self.short_lived < MOST_SHORT_LIVED
    }

    fn next_pause(&mut self, error: &ConnectionError, now: Duration) -> Duration {
        self.ended_soon = false;
        if let Some(since) = self.up_since.take() {
            if now.saturating_sub(since) >= LASTING {
                *self = Trouble::default();
            } else {
                (self.short_lived, self.ended_soon) = (self.short_lived + 1, true);
                // It was told that the broker is back, so it has to be told that it is away again.
                if self.short_lived < MOST_SHORT_LIVED {
                    self.told = None;
                }
            }
        }
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.attempts.min(16)).min(LONGEST_PAUSE);
        self.attempts += 1;
        match error {
            ConnectionError::ConnectionRefused(_) => REFUSED_PAUSE,
            _ => doubled,
        }
    }
}

fn publish_online(client: &Client, topics: &Topics, status: &str) -> bool {
    client.try_publish(topics.node_status(), QoS::AtLeastOnce, true, status).is_ok()
}

/// rumqttc's options for a connection that announces its own death.
fn options(config: &config::Mqtt, topics: &Topics) -> Result<MqttOptions, Error> {
    let mut options = client_options(config, &config.client_id)?;
    options.set_last_will(LastWill::new(topics.node_status(), OFFLINE, QoS::AtLeastOnce, true));
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_do_not_last_are_one_story_with_longer_and_longer_pauses() {
        let mut trouble = Trouble::default();
        let error = || ConnectionError::RequestsDone;
        let mut now = Duration::from_secs(100);
        let mut pauses = Vec::new();
        let mut news = 0;
        for _ in 0..6 {
            news += u32::from(trouble.up(now));
            now += Duration::from_secs(1);
            pauses.push(trouble.next_pause(&error(), now).as_millis());
        }
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16000]);
        assert_eq!(news, MOST_SHORT_LIVED);
        // The next one lasts, which is told once it has.
        assert!(!trouble.up(now) && !trouble.is_over(now + Duration::from_secs(9)));
        assert!(trouble.is_over(now + LASTING) && !trouble.is_over(now + 2 * LASTING));
        assert_eq!(trouble.next_pause(&error(), now + 3 * LASTING), FIRST_PAUSE);
    }
}
