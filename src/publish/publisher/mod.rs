//! The stage that publishes: takes in what is to be said, whether a broker is there or not, and sees to it that it arrives.
//!
//! What must arrive goes through the [`Outbox`]: written first, then sent in the order of its rows, at most [`WINDOW`] of
//! them unacknowledged, and its cursor moves with the acknowledgements. After a connection that ended badly the last
//! seconds are sent again, for a broker that was killed may have forgotten what it acknowledged. Of everything else only
//! the newest counts, and nothing of it is sent late.
//!
//! States are told to every new connection again once it has caught up. A message on which connection after connection
//! ends is sent alone, and given up in the end: one that no broker takes must not hold up all others.

mod poison;
mod replay;
mod window;

use self::{
    poison::{PoisonDetector, Progress},
    replay::Positions,
    window::{InFlight, Window},
};
use super::{
    commands::Commander,
    connection::{Connection, Dialer, LinkEvent},
    frigate::Frigate,
    homeassistant,
    outbox::{DurableMessage, Gap, Outbox, Row},
    reconnect::Reconnect,
};
use crate::wire::{
    messages::{self, Header, Message, SCHEMA, Sequence},
    topics::{Address, Delivery, OFFLINE, ONLINE, Topics},
};
use crate::{
    clock::Clock,
    config,
    control::CameraControl,
    counters::{DeliveryCounters, FrameTrace},
    lifecycle::Heartbeat,
    queue::messages::Messages,
};
use crossbeam_channel::Receiver;
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// Messages that may be unacknowledged.
const WINDOW: usize = 100;
/// How long a broker may take to acknowledge.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the goodbye may take, with all that is left.
const GOODBYE: Duration = Duration::from_secs(2);
/// After a bad end: a broker that has died has forgotten who was there to listen, and they must have the time to come back.
const RETURN_PAUSE: Duration = Duration::from_secs(2);
/// No broker's limit is less.
const LEAST_LIMIT: usize = 4096;
/// Before a message is tried again that a connection may have ended on.
const SUSPICION_PAUSE: Duration = Duration::from_secs(1);
/// Numbers of events in Frigate's shape, which have no place for one; no camera can be called so.
const FRIGATE: &str = "frigate/events";
/// Answers that may wait; nothing is done for whoever asks faster than they go out.
const MOST_ANSWERS: usize = 100;
/// The same in bytes, for answers may be long.
const MOST_ANSWERS_BYTES: usize = 8 << 20;
/// Home Assistant has much to do when it has just come.
const BIRTH_PAUSE: Duration = Duration::from_secs(5);
/// What MQTT puts around topic and payload, at most.
const OVERHEAD_BYTES: usize = 16;

/// Everything that the publishing thread owns.
pub struct Publisher {
    /// The node's name.
    pub node: Arc<str>,
    /// How to speak to the broker.
    pub config: config::Mqtt,
    /// What must arrive, until it has.
    pub outbox: config::Outbox,
    /// Where messages go.
    pub topics: Topics,
    /// What is to be said; cameras and workers have the other end. It ends when they have.
    pub messages: Messages<Message>,
    /// Opens connections; dropping it ends their thread.
    pub dialer: Box<dyn Dialer>,
    /// What happened on them.
    pub happened: Receiver<(u64, LinkEvent)>,
    /// What is counted; the counts have the other end.
    pub counters: Arc<DeliveryCounters>,
    /// Carries commands out, if any are taken.
    pub commander: Option<Commander>,
    /// What Home Assistant is to know, by topic; empty where it is to forget all.
    pub discovery: BTreeMap<String, Vec<u8>>,
    /// Where Home Assistant says that it has come, where it is to be told.
    pub birth_topic: Option<String>,
    /// Where events go in Frigate's shape, if they do.
    pub frigate_topic: Option<String>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Beats at every turn of the loop; the watchdog reads it.
    pub heartbeat: Heartbeat,
}

impl Publisher {
    /// Publishes until nobody is left who could say something, then says what is left and goodbye.
    pub fn run(self) {
        let (messages, happened, heartbeat) =
            (self.messages.clone(), self.happened.clone(), self.heartbeat.clone());
        self.state().run(&messages, &happened, &heartbeat);
    }

    /// Opens the outbox.
    fn state(self) -> PublisherState {
        let opened = Outbox::open(self.outbox.clone(), self.clock.now());
        for note in &opened.notes {
            tracing::warn!("{note}");
        }
        // What the process before had no time to see through may be lost at the broker.
        let resume_row = opened.resume_row;
        let limit = self.config.max_packet_bytes;
        let cursor = opened.outbox.cursor();
        let positions = Positions::new(self.outbox.replay, self.clock.monotonic(), cursor);
        PublisherState {
            reconnect: Reconnect::new(self.dialer.brokers(), &self.config.client_id, fastrand::u64(..)),
            commander: self.commander,
            discovery: self.discovery,
            birth_topic: self.birth_topic,
            frigate_topic: self.frigate_topic,
            frigate: Frigate::default(),
            errands: VecDeque::new(),
            retell_at: None,
            node: self.node,
            config: self.config,
            topics: self.topics,
            dialer: self.dialer,
            counters: self.counters,
            clock: self.clock,
            outbox: opened.outbox,
            outbox_settings: self.outbox,
            connection: 0,
            link: Link::Down { retry_at: Duration::ZERO },
            resume_row,
            ended_badly: false,
            positions,
            furthest: 0,
            poison: PoisonDetector::default(),
            limit,
            told_too_large: false,
            told_too_many: false,
            counted_at: None,
            states: BTreeMap::new(),
            newest: BTreeMap::new(),
            captured: BTreeMap::new(),
        }
    }
}

/// The publisher at work.
struct PublisherState {
    node: Arc<str>,
    config: config::Mqtt,
    topics: Topics,
    dialer: Box<dyn Dialer>,
    counters: Arc<DeliveryCounters>,
    clock: Arc<dyn Clock>,
    outbox: Outbox,
    outbox_settings: config::Outbox,
    reconnect: Reconnect,
    commander: Option<Commander>,
    discovery: BTreeMap<String, Vec<u8>>,
    birth_topic: Option<String>,
    frigate_topic: Option<String>,
    frigate: Frigate,
    /// What is to be said on this connection besides.
    errands: VecDeque<PendingPublish>,
    /// Home Assistant has come and is to be told everything then.
    retell_at: Option<Duration>,
    /// Number of the connection that was dialled last.
    connection: u64,
    link: Link,
    /// The row behind which the next connection begins.
    resume_row: i64,
    /// The last connection stood, and ended badly.
    ended_badly: bool,
    positions: Positions,
    /// The furthest row that was ever acknowledged.
    furthest: i64,
    poison: PoisonDetector,
    /// Pictures larger than this are not sent: by the configuration, or as the broker has taught.
    limit: usize,
    /// It was said that some are not.
    told_too_large: bool,
    /// It was said that commands come too fast for this connection.
    told_too_many: bool,
    /// When the slow counts were last taken.
    counted_at: Option<Duration>,
    states: BTreeMap<String, State>,
    /// Newest payload of each topic where only that counts, and the trace of its frame.
    newest: BTreeMap<String, (Vec<u8>, Option<FrameTrace>)>,
    /// When the frames of rows that wait were captured.
    captured: BTreeMap<i64, Duration>,
}

/// Where the publisher stands with its broker.
enum Link {
    /// Not connected; the next attempt is due at this monotonic time.
    Down { retry_at: Duration },
    /// Asked, not answered yet.
    Connecting(Box<dyn Connection>),
    /// The broker said yes.
    Session(Session),
}

/// A connection that stands.
struct Session {
    line: Box<dyn Connection>,
    window: Window,
    since: Duration,
    /// Nothing else is said before.
    ready_at: Duration,
    /// The subscriptions hold, if there are any.
    is_heard: bool,
    /// It has been said that we are there.
    greeting_said: bool,
    progress: Progress,
}

/// Something to be said once, on this connection alone.
struct PendingPublish {
    topic: String,
    payload: Vec<u8>,
    /// For Home Assistant, and retained; an answer otherwise.
    is_discovery: bool,
}

/// The last word on a topic that late subscribers are to find.
struct State {
    payload: Vec<u8>,
    /// The row that says the same, if it must arrive.
    row: Option<i64>,
    /// This connection has been told.
    told: bool,
}

impl PublisherState {
    fn run(
        mut self,
        messages: &Messages<Message>,
        happened: &Receiver<(u64, LinkEvent)>,
        heartbeat: &Heartbeat,
    ) {
        const TURN: Duration = Duration::from_millis(250);
        let controls = self.commander.as_ref().map(|commander| commander.cameras.clone()).unwrap_or_default();
        controls.iter().for_each(|control| self.tell_settings(control));
        let (mut durable, mut transient) = (messages.durable.clone(), messages.transient.clone());
        let mut events = happened.clone();
        let (mut is_durable_open, mut is_transient_open) = (true, true);
        while is_durable_open || is_transient_open {
            heartbeat.beat(self.clock.monotonic());
            self.connect_if_due();
            crossbeam_channel::select! {
                recv(durable) -> message => match message {
                    Ok(message) => self.take_in(message),
                    Err(_) => (is_durable_open, durable) = (false, crossbeam_channel::never()),
                },
                recv(transient) -> message => match message {
                    Ok(message) => self.take_in(message),
                    Err(_) => (is_transient_open, transient) = (false, crossbeam_channel::never()),
                },
                recv(events) -> event => match event {
                    Ok((number, event)) => self.react(number, event),
                    // Their thread has ended.
                    Err(_) => events = crossbeam_channel::never(),
                },
                default(TURN) => {}
            }
            // Whatever else there is goes with it, in one group.
            durable.try_iter().take(1000).for_each(|message| self.take_in(message));
            transient.try_iter().for_each(|message| self.take_in(message));
            for (number, event) in events.try_iter().take(1000) {
                // A command may take a while.
                heartbeat.beat(self.clock.monotonic());
                self.react(number, event);
            }
            self.turn();
        }
        if !self.say_goodbye(happened, heartbeat) {
            let from = self.resume_point();
            self.outbox.go_back(from);
        }
        self.outbox.close(self.clock.monotonic(), self.clock.now());
    }

    /// What is to be done whatever happened.
    fn turn(&mut self) {
        let now = self.clock.monotonic();
        self.positions.note(now, self.outbox.cursor());
        self.outbox.commit(now, self.clock.now(), self.resume_point());
        if self.retell_at.is_some_and(|at| now >= at) {
            self.retell_at = None;
            self.discover();
            self.states.values_mut().for_each(|state| state.told = false);
        }
        if matches!(&self.link, Link::Session(up) if up.window.is_overdue(now, PATIENCE)) {
            let why = format!("it leaves a message unacknowledged for {} s", PATIENCE.as_secs());
            self.fail(&why, false);
        }
        if matches!(&self.link, Link::Session(up) if !up.is_heard && now.saturating_sub(up.since) >= PATIENCE)
        {
            self.fail("it does not answer a subscription", false);
        }
        if matches!(self.link, Link::Session(_)) {
            self.send();
            if self.reconnect.has_recovered(now) {
                tracing::info!(broker = self.dialer.name(self.reconnect.broker()), "Broker is connected.");
            }
        }
        self.count();
    }

    /// Keeps a message until it can be sent.
    fn take_in(&mut self, mut message: Message) {
        let Address { topic, delivery } = self.topics.address(&message);
        let lasts = message.is_durable()
            || self.outbox_settings.durable_kinds.iter().any(|kind| kind == message.kind());
        if !lasts {
            let trace = match &message {
                Message::Detections(detections) => detections.trace.clone(),
                _ => None,
            };
            let payload = message.payload();
            if delivery == Delivery::State {
                self.states.insert(topic, State { payload, row: None, told: false });
            } else {
                self.newest.insert(topic, (payload, trace));
            }
            return;
        }
        let captured = match &message {
            Message::Event(event) => event.captured,
            _ => None,
        };
        if let (Message::Event(event), Some(topic)) = (&message, &self.frigate_topic) {
            let payload = self.frigate.translate(event);
            let (camera, at_ms) = (FRIGATE.to_string(), self.clock.now().as_millisecond());
            let seq = self.outbox.next_seq(FRIGATE);
            let topic = topic.clone();
            self.outbox.accept(DurableMessage { camera, seq, at_ms, topic, retained: false, payload });
            self.counters.accepted.fetch_add(1, Ordering::Relaxed);
        }
        let camera = message.camera().map(|camera| camera.to_string()).unwrap_or_default();
        let (stream, seq) = (self.outbox.stream().to_string(), self.outbox.next_seq(&camera));
        let uid = format!("{stream}-{camera}-{seq}");
        message.set_sequence(Sequence { stream, seq, uid });
        let payload = message.payload();
        let retained = delivery == Delivery::State;
        let kept = retained.then(|| (topic.clone(), payload.clone()));
        let at_ms = self.clock.now().as_millisecond();
        let row = self.outbox.accept(DurableMessage { camera, seq, at_ms, topic, retained, payload });
        if let Some((topic, payload)) = kept {
            self.states.insert(topic, State { payload, row: Some(row), told: false });
        }
        self.captured.extend(captured.map(|captured| (row, captured)));
        self.counters.accepted.fetch_add(1, Ordering::Relaxed);
    }

    fn connect_if_due(&mut self) {
        let Link::Down { retry_at } = self.link else { return };
        if self.clock.monotonic() < retry_at {
            return;
        }
        self.connection += 1;
        match self.dialer.dial(self.reconnect.broker(), self.connection) {
            Ok(line) => self.link = Link::Connecting(line),
            Err(why) => self.fail(&why, true),
        }
    }

    fn react(&mut self, number: u64, event: LinkEvent) {
        if number != self.connection {
            return;
        }
        if event.is_sign_of_life() {
            self.positions.heard(self.clock.monotonic());
        }
        match event {
            LinkEvent::Alive => {}
            LinkEvent::Connected => self.begin(),
            LinkEvent::Sent(id) => {
                let now = self.clock.monotonic();
                if let Link::Session(up) = &mut self.link {
                    up.window.sent(id, now);
                }
            }
            LinkEvent::Acknowledged(id) => self.acknowledged(id),
            LinkEvent::Failed { why, refused } => self.fail(&why, refused),
            LinkEvent::Disconnected => self.fail("it was said goodbye to", false),
            LinkEvent::Subscribed(all) => {
                if !all {
                    let broker = self.dialer.name(self.reconnect.broker());
                    tracing::error!(
                        broker,
                        "Broker refuses the subscription for commands: see its access rules."
                    );
                }
                if let Link::Session(up) = &mut self.link {
                    up.greet(&self.topics);
                }
            }
            LinkEvent::Received { topic, retained, payload } => self.receive(&topic, retained, &payload),
        }
    }

    /// A connection has come to stand.
    fn begin(&mut self) {
        let link = std::mem::replace(&mut self.link, Link::Down { retry_at: Duration::MAX });
        let Link::Connecting(line) = link else {
            self.link = link;
            return;
        };
        let now = self.clock.monotonic();
        // A connection that just does not last is the same reconnect as before.
        if self.reconnect.connected(now) {
            tracing::info!(broker = self.dialer.name(self.reconnect.broker()), "Broker is connected.");
        }
        self.counters.connected.store(true, Ordering::Relaxed);
        self.counters.connections.fetch_add(1, Ordering::Relaxed);
        self.states.values_mut().for_each(|state| state.told = false);
        // What was seen while nobody listened is of no worth any more.
        self.newest.clear();
        let last_row = self.resume_row.min(self.outbox.cursor());
        let ended_badly = std::mem::take(&mut self.ended_badly);
        let mut up = Session {
            line,
            window: Window::new(last_row),
            since: now,
            is_heard: false,
            ready_at: if ended_badly { now + RETURN_PAUSE } else { now },
            greeting_said: false,
            progress: Progress { is_greeted: false, got_further: false, has_caught_up: false },
        };
        self.errands.clear();
        self.told_too_many = false;
        self.discover();
        let mut filters: Vec<String> = self.birth_topic.iter().cloned().collect();
        filters.extend(self.commander.iter().flat_map(|_| self.topics.command_filters()));
        // Where commands are taken, `online` is only true once they are heard.
        if filters.is_empty() || !up.line.subscribe(&filters) {
            up.greet(&self.topics);
        }
        self.link = Link::Session(up);
    }

    fn acknowledged(&mut self, id: u16) {
        let now = self.clock.monotonic();
        let Link::Session(up) = &mut self.link else { return };
        let Some(ticket) = up.window.acknowledged(id) else { return };
        match ticket {
            InFlight::Greeting => up.progress.is_greeted = true,
            InFlight::State(_) | InFlight::Answer => {}
            // What is told again after a restart is told against this.
            InFlight::Discovery(topic) => self.outbox.remember(&topic, self.discovery.get(&topic)),
            InFlight::Gap(gap) => self.outbox.gap_acknowledged(&gap),
            InFlight::Row(row) => {
                if let Some(captured) = self.captured.remove(&row) {
                    self.counters.record_ack_latency(now.saturating_sub(captured));
                }
                if row > self.furthest {
                    self.counters.acknowledged.fetch_add(1, Ordering::Relaxed);
                    (self.furthest, up.progress.got_further) = (row, true);
                }
                self.outbox.acknowledged(up.window.reached());
            }
        }
    }

    /// Tells Home Assistant what there is, and what there is no more since it was last told.
    fn discover(&mut self) {
        let before = self.outbox.remembered();
        if before.is_empty() && self.discovery.is_empty() {
            return;
        }
        // A topic of its own is known before it is used, and forgotten when its removal has arrived.
        for (topic, payload) in self.discovery.iter().filter(|(topic, _)| !before.contains_key(*topic)) {
            self.outbox.remember(topic, Some(payload));
        }
        let removals = homeassistant::removals(&before, &self.discovery);
        let now = self.discovery.iter().map(|(topic, payload)| (topic.clone(), payload.clone()));
        self.errands.retain(|errand| !errand.is_discovery);
        let told = removals.into_iter().chain(now);
        self.errands.extend(told.map(|(topic, payload)| PendingPublish {
            topic,
            payload,
            is_discovery: true,
        }));
    }

    /// Something has come that was asked for.
    fn receive(&mut self, topic: &str, retained: bool, payload: &[u8]) {
        if self.birth_topic.as_deref() == Some(topic) {
            if payload == ONLINE.as_bytes() && !retained {
                // Not all boards at once.
                let pause = BIRTH_PAUSE.mul_f64(fastrand::f64());
                self.retell_at = Some(self.clock.monotonic() + pause);
            }
            return;
        }
        let (Some(commander), Some(camera)) = (&self.commander, self.topics.command_target(topic)) else {
            return;
        };
        // Nothing is what a retained command is taken back with.
        if payload.is_empty() {
            return;
        }
        // A command that the broker has kept was meant for another time.
        if retained {
            tracing::warn!(topic, "A retained command is not carried out.");
            return;
        }
        let answers = self.errands.iter().filter(|errand| !errand.is_discovery);
        let (count, bytes) =
            answers.fold((0, 0), |(count, bytes), answer| (count + 1, bytes + answer.payload.len()));
        if count >= MOST_ANSWERS || bytes >= MOST_ANSWERS_BYTES {
            if !std::mem::replace(&mut self.told_too_many, true) {
                tracing::warn!(
                    topic,
                    "Commands come faster than their answers go out; some are not carried out."
                );
            }
            return;
        }
        let outcome = commander.handle(camera, payload, &self.outbox);
        let topic = self.topics.answer(camera);
        self.errands.push_back(PendingPublish { topic, payload: outcome.answer, is_discovery: false });
        if let Some(control) = outcome.changed {
            self.tell_settings(&control);
        }
    }

    /// What a camera is set to.
    fn tell_settings(&mut self, control: &CameraControl) {
        let settings = control.settings();
        self.take_in(Message::Settings(messages::Settings {
            header: Header::new(self.node.clone(), Some(control.name.clone())),
            at: self.clock.now(),
            watching: settings.watching,
            rate_fps: settings.rate_fps,
            motion_threshold: settings.motion_threshold,
            score: settings.score,
        }));
    }

    /// The connection is gone, or none came to stand.
    fn fail(&mut self, why: &str, refused: bool) {
        let now = self.clock.monotonic();
        let broker = self.dialer.name(self.reconnect.broker());
        let was = std::mem::replace(&mut self.link, Link::Down { retry_at: Duration::MAX });
        self.counters.connected.store(false, Ordering::Relaxed);
        let mut most_pause = Duration::MAX;
        if let Link::Session(Session { window, progress, .. }) = was {
            if let Some(guilty) = self.poison.ended(&window, progress) {
                self.give_up(&guilty, "every connection ended on it");
            }
            // The broker is there: what it does not take is found out soon.
            if self.poison.is_any() && progress.is_greeted {
                most_pause = SUSPICION_PAUSE;
            }
            // Where one message is suspected the broker lives, and repeats would only stand in its way; what was
            // acknowledged meanwhile is repeated all the same.
            self.ended_badly = !self.poison.is_on_one();
            let cursor = self.outbox.cursor();
            let is_repeated = self.ended_badly || progress.got_further;
            let from = if is_repeated { self.positions.replay_from(cursor) } else { cursor };
            // What this connection was to repeat and did not is still to be repeated.
            self.resume_row = from.min(window.reached());
        }
        let pause = self.reconnect.failed(refused, now).min(most_pause);
        self.reconnect.log_failure(&broker, why);
        self.link = Link::Down { retry_at: now + pause };
    }

    /// The row behind which the next connection begins, or the next process, if this one ends now.
    fn resume_point(&self) -> i64 {
        let from = self.positions.replay_from(self.outbox.cursor());
        match &self.link {
            Link::Session(up) => from.min(up.window.reached()),
            Link::Down { .. } | Link::Connecting(_) => from.min(self.resume_row),
        }
    }

    /// What no broker takes goes, and is told.
    fn give_up(&mut self, ticket: &InFlight, why: &str) {
        let (topic, bytes) = match ticket {
            InFlight::Row(row) => {
                // It may have gone meanwhile.
                let found = self.outbox.after(row - 1, 1).pop();
                let Some(row) = found.filter(|found| found.id == *row) else { return };
                self.outbox.give_up(&row);
                self.outbox.acknowledged(row.id);
                self.captured.remove(&row.id);
                (row.message.topic, row.message.payload.len())
            }
            InFlight::State(topic) => {
                let bytes = self.states.remove(topic).map_or(0, |state| state.payload.len());
                (topic.clone(), bytes)
            }
            // Whoever follows the numbers sees it all the same.
            InFlight::Gap(gap) => {
                self.outbox.gap_acknowledged(gap);
                (self.topics.gap(&gap.camera), 0)
            }
            InFlight::Discovery(_) | InFlight::Answer | InFlight::Greeting => return,
        };
        tracing::error!(topic, bytes, why, "Broker does not take a message; it is given up.");
        if matches!(ticket, InFlight::State(_)) && bytes >= LEAST_LIMIT {
            // Most likely it was too large: the next picture would be as well.
            self.limit = self.limit.min(topic.len() + bytes + OVERHEAD_BYTES - 1);
        }
    }

    /// Hands over as much as the connection takes; true if nothing is left.
    fn send(&mut self) -> bool {
        let Link::Session(mut up) = std::mem::replace(&mut self.link, Link::Down { retry_at: Duration::MAX })
        else {
            return false;
        };
        let is_done = self.send_over(&mut up);
        self.link = Link::Session(up);
        is_done
    }

    fn send_over(&mut self, up: &mut Session) -> bool {
        if up.is_heard {
            // Where there was no room for it before.
            up.greet(&self.topics);
        }
        if self.clock.monotonic() < up.ready_at {
            return false;
        }
        let states_passed = up.window.len() == 0 && self.states.values().all(|state| state.told);
        self.poison.clear(self.outbox.cursor(), states_passed);
        // One at a time where one of them may be poison.
        let cursor = self.outbox.cursor();
        let width = self.poison.narrow(WINDOW, cursor, up.progress);
        // What must arrive is not judged by a guess.
        let (limit, guessed) = (self.config.max_packet_bytes, self.limit);
        let may_fit = |topic: &str, payload: &[u8]| topic.len() + payload.len() + OVERHEAD_BYTES <= guessed;
        let fits = |topic: &str, payload: &[u8]| topic.len() + payload.len() + OVERHEAD_BYTES <= limit;
        if self.poison.is_on_states(cursor, up.progress) && !self.tell_states(up, width, may_fit) {
            return false;
        }
        for gap in self.outbox.gaps() {
            let ticket = InFlight::Gap(gap.clone());
            let is_on_its_way = up.window.tickets().any(|open| *open == ticket);
            let (topic, payload) = (self.topics.gap(&gap.camera), self.describe(&gap));
            if !is_on_its_way && up.window.len() < width && up.line.publish(&topic, true, false, &payload) {
                up.window.hand_over(ticket);
            }
        }
        let mut is_caught_up = false;
        while up.window.len() < width && !is_caught_up {
            let room = width - up.window.len();
            let rows = self.outbox.after(up.window.last_row(), room);
            is_caught_up = rows.len() < room;
            up.progress.has_caught_up |= is_caught_up;
            for row in rows {
                if let Some(why) = unfit(&row, fits) {
                    up.window.leave_out(row.id);
                    self.outbox.give_up(&row);
                    self.outbox.acknowledged(up.window.reached());
                    tracing::error!(
                        topic = row.message.topic,
                        bytes = row.message.payload.len(),
                        why,
                        "Message is given up."
                    );
                    continue;
                }
                let message = &row.message;
                if !up.line.publish(&message.topic, true, message.retained, &message.payload) {
                    return false;
                }
                up.window.hand_over(InFlight::Row(row.id));
                self.counters.sent.fetch_add(1, Ordering::Relaxed);
                // Where it is the last word on its topic, this connection has got that.
                if let Some(state) =
                    self.states.get_mut(&message.topic).filter(|state| state.row == Some(row.id))
                {
                    state.told = true;
                }
            }
        }
        // With all rows handed over, it may be the states' turn.
        let width = self.poison.narrow(WINDOW, self.outbox.cursor(), up.progress);
        if is_caught_up && !self.tell_states(up, width, may_fit) {
            return false;
        }
        if width < WINDOW {
            return false;
        }
        while let Some(PendingPublish { topic, payload, is_discovery }) = self.errands.front() {
            if fits(topic, payload) {
                if up.window.len() >= WINDOW || !up.line.publish(topic, true, *is_discovery, payload) {
                    return false;
                }
                let ticket =
                    if *is_discovery { InFlight::Discovery(topic.clone()) } else { InFlight::Answer };
                up.window.hand_over(ticket);
            }
            self.errands.pop_front();
        }
        let clock = &self.clock;
        self.newest.retain(|topic, (payload, trace)| {
            if !may_fit(topic, payload) {
                return false;
            }
            let sent = up.line.publish(topic, false, false, payload);
            if let Some(trace) = trace.as_ref().filter(|_| sent) {
                trace.published(clock.monotonic());
            }
            !sent
        });
        is_caught_up && self.newest.is_empty()
    }

    /// The states that this connection was not told, now that it has everything else.
    fn tell_states(&mut self, up: &mut Session, width: usize, fits: impl Fn(&str, &[u8]) -> bool) -> bool {
        let mut too_large = Vec::new();
        for (topic, state) in self.states.iter_mut().filter(|(_, state)| !state.told) {
            if !fits(topic, &state.payload) {
                too_large.push(topic.clone());
                continue;
            }
            if up.window.len() >= width || !up.line.publish(topic, true, true, &state.payload) {
                return false;
            }
            state.told = true;
            up.window.hand_over(InFlight::State(topic.clone()));
        }
        for topic in too_large {
            let bytes = self.states.remove(&topic).map_or(0, |state| state.payload.len());
            if !std::mem::replace(&mut self.told_too_large, true) {
                let limit = self.limit;
                tracing::warn!(
                    topic,
                    bytes,
                    limit,
                    "Messages larger than the broker takes, or mqtt.max_packet_kib, are not sent."
                );
            }
        }
        true
    }

    fn describe(&self, gap: &Gap) -> Vec<u8> {
        let time = |ms: i64| Timestamp::from_millisecond(ms).unwrap_or_default();
        let message = messages::Gap {
            schema: SCHEMA,
            node: &self.node,
            camera: &gap.camera,
            stream: self.outbox.stream(),
            first_seq: gap.first_seq,
            last_seq: gap.last_seq,
            count: gap.count,
            from: time(gap.from_ms),
            to: time(gap.to_ms),
        };
        serde_json::to_vec(&message).expect("texts and numbers")
    }

    fn count(&mut self) {
        let counters = &self.counters;
        counters.waiting.store(self.outbox.waiting(), Ordering::Relaxed);
        counters.lost.store(self.outbox.lost(), Ordering::Relaxed);
        while self.captured.first_key_value().is_some_and(|(row, _)| *row <= self.outbox.cursor()) {
            self.captured.pop_first();
        }
        let now = self.clock.monotonic();
        if self.counted_at.is_some_and(|at| now.saturating_sub(at) < Duration::from_secs(1)) {
            return;
        }
        self.counted_at = Some(now);
        let now_ms = self.clock.now().as_millisecond();
        let oldest_ms = self.outbox.oldest_waiting_ms().map_or(0, |at_ms| (now_ms - at_ms).max(0));
        counters.oldest_waiting_s.store(oldest_ms as u64 / 1000, Ordering::Relaxed);
        counters.file_bytes.store(self.outbox.file_bytes(), Ordering::Relaxed);
        counters.disk_bytes.store(written_by_this_thread().unwrap_or_default(), Ordering::Relaxed);
    }

    /// Everything that is left, `offline`, and a proper end, if the broker takes it in time; true if it did.
    fn say_goodbye(&mut self, happened: &Receiver<(u64, LinkEvent)>, heartbeat: &Heartbeat) -> bool {
        let deadline = self.clock.monotonic() + GOODBYE;
        let (mut offline_said, mut goodbye_said) = (false, false);
        loop {
            let now = self.clock.monotonic();
            heartbeat.beat(now);
            self.outbox.commit(now, self.clock.now(), self.resume_point());
            if !matches!(self.link, Link::Session(_)) {
                return false;
            }
            let is_done = self.send();
            let Link::Session(up) = &mut self.link else { return false };
            if is_done && !offline_said {
                offline_said = up.line.publish(&self.topics.node_status(), true, true, OFFLINE.as_bytes());
                if offline_said {
                    up.window.hand_over(InFlight::Greeting);
                }
            }
            if offline_said && !goodbye_said && up.window.len() == 0 {
                goodbye_said = up.line.disconnect();
            }
            if now >= deadline {
                tracing::warn!(waiting = self.outbox.waiting(), "Broker did not take everything in time.");
                return false;
            }
            match happened.recv_timeout((deadline - now).min(Duration::from_millis(50))) {
                Ok((number, LinkEvent::Disconnected)) if number == self.connection => return true,
                Ok((number, event)) => self.react(number, event),
                Err(_) => {}
            }
        }
    }
}

impl Session {
    /// Says that we are there.
    fn greet(&mut self, topics: &Topics) {
        self.is_heard = true;
        if !self.greeting_said && self.line.publish(&topics.node_status(), true, true, ONLINE.as_bytes()) {
            self.greeting_said = true;
            self.window.hand_over(InFlight::Greeting);
        }
    }
}

/// Why a row cannot be sent to any broker.
fn unfit(Row { message, .. }: &Row, fits: impl Fn(&str, &[u8]) -> bool) -> Option<&'static str> {
    if !fits(&message.topic, &message.payload) {
        Some("it is larger than mqtt.max_packet_kib")
    } else if message.topic.is_empty() || message.topic.contains(['+', '#']) {
        // As it lies on a disk that has made another letter of one.
        Some("its topic is damaged")
    } else {
        None
    }
}

/// What this thread has had written, as the kernel counts it: whole pages that it made differ from the disk.
fn written_by_this_thread() -> Option<u64> {
    let counts = std::fs::read_to_string("/proc/thread-self/io").ok()?;
    counts.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests;
