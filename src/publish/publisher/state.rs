//! What outlives connections: the messages to be sent, and where the next connection resumes.

use super::{
    Integrations, States, WINDOW,
    limits::SizeLimits,
    live::{Content, LiveMessage, LiveQueue},
    pending::PendingQueue,
    poison::{PoisonDetector, Progress},
    replay::Replay,
    window::{InFlight, Window},
};
use crate::{
    clock::Clock,
    config,
    control::CameraControl,
    counters::{DeliveryCounters, FrameTrace},
    procfs,
    publish::outbox::{DurableMessage, Gap, Outbox, Row},
    vision::tracks::EndReason,
    wire::{
        derived,
        messages::{self, Header, Message, SCHEMA, Sequence},
        topics::{Address, Delivery, Topics},
    },
};
use jiff::Timestamp;
use serde_json::value::RawValue;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// Delay between an established connection and the replay after a lost one. A broker that was killed has
/// forgotten its subscribers as well, and these must reconnect first.
pub(super) const REPLAY_DELAY: Duration = Duration::from_secs(2);
/// Minimum time between two updates of counters that need the disk or the kernel.
const COUNTERS_INTERVAL: Duration = Duration::from_secs(1);

/// What the publisher was given and does not change.
pub(super) struct Context {
    pub(super) node: Arc<str>,
    pub(super) topics: Topics,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) counters: Arc<DeliveryCounters>,
}

/// The publisher's state across connections.
pub(super) struct PublisherState {
    pub(super) context: Context,
    pub(super) integrations: Integrations,
    /// Durable messages.
    pub(super) outbox: Outbox,
    /// `outbox.durable_kinds`.
    durable_kinds: Vec<String>,
    pub(super) replay: Replay,
    pub(super) poison: PoisonDetector,
    /// Whether a connection ended with JSON states in flight since there are suspects.
    has_lost_json_states: bool,
    pub(super) limits: SizeLimits,
    /// What is retained on each topic.
    pub(super) states: BTreeMap<String, RetainedState>,
    /// Messages for those who act on events at once.
    pub(super) live: LiveQueue,
    /// Topics that the outbox has recorded as retained.
    retained: BTreeSet<String>,
    /// The newest payload of each topic with transient messages, and the trace of its frame.
    pub(super) transient: BTreeMap<String, (Arc<[u8]>, Option<FrameTrace>)>,
    /// Answers and announcements.
    pub(super) pending: PendingQueue,
    /// Capture times of the frames that caused unacknowledged rows, by row.
    capture_times: BTreeMap<i64, Duration>,
    /// When the slow counters were last updated.
    counted_at: Option<Duration>,
}

/// What is retained on a topic. Only the newest is worth sending.
pub(super) struct RetainedState {
    /// Empty if the broker is to forget what it retains.
    pub(super) payload: Arc<[u8]>,
    pub(super) kind: StateKind,
    /// Whether it was sent on the current connection.
    pub(super) is_sent: bool,
}

/// Kinds of retained messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StateKind {
    /// JSON. Sent before the node is online, because subscribers trust the states of a node that is.
    Json,
    /// A picture.
    Image,
    /// The removal of what an earlier configuration had retained.
    Removal,
}

impl PublisherState {
    /// Opens the outbox, and logs what is wrong with it.
    pub(super) fn open(
        context: Context,
        outbox: config::Outbox,
        max_packet_bytes: usize,
        integrations: Integrations,
        states: States,
    ) -> PublisherState {
        let (durable_kinds, replay) = (outbox.durable_kinds.clone(), outbox.replay);
        let opened = Outbox::open(outbox, context.clock.now());
        for note in &opened.notes {
            tracing::warn!("{note}");
        }
        let now = context.clock.monotonic();
        let mut state = PublisherState {
            context,
            live: LiveQueue::new(integrations.max_event_age),
            retained: opened.outbox.retained(),
            integrations,
            replay: Replay::new(replay, now, opened.outbox.cursor(), opened.resume_row),
            outbox: opened.outbox,
            durable_kinds,
            poison: PoisonDetector::default(),
            has_lost_json_states: false,
            limits: SizeLimits::new(max_packet_bytes),
            states: BTreeMap::new(),
            transient: BTreeMap::new(),
            pending: PendingQueue::default(),
            capture_times: BTreeMap::new(),
            counted_at: None,
        };
        state.take_states(states);
        for row in &opened.interrupted {
            state.end_interrupted(row);
        }
        state
    }

    /// Begins with these states, and queues the removal of all retained messages that are no longer the
    /// node's own.
    fn take_states(&mut self, states: States) {
        let States { own_topics, initial } = states;
        self.states.retain(|topic, state| state.kind != StateKind::Removal || !own_topics.contains(topic));
        for topic in self.states.keys().cloned().collect::<Vec<_>>() {
            self.record_retained(&topic);
        }
        for message in initial {
            let Address { topic, .. } = self.context.topics.address(&message);
            let kind = if message.header().is_some() { StateKind::Json } else { StateKind::Image };
            // A picture of an earlier process is better than none.
            if kind == StateKind::Json || !self.retained.contains(&topic) {
                self.set_state(topic, message.payload(), kind);
            }
        }
        self.record_retained(&self.context.topics.node_status());
        let leftovers: Vec<String> = self.retained.difference(&own_topics).cloned().collect();
        for topic in leftovers {
            let removal = RetainedState { payload: Arc::default(), kind: StateKind::Removal, is_sent: false };
            self.states.insert(topic, removal);
        }
    }

    /// Publishes the end of an object that was in view when the last process was killed. `row` is its last
    /// event.
    fn end_interrupted(&mut self, row: &Row) {
        let event = serde_json::from_slice::<messages::Event>(&row.message.payload);
        let Ok(event) = event.inspect_err(|error| {
            tracing::warn!(%error, topic = row.message.topic, "The end of an interrupted event is not published.");
        }) else {
            return;
        };
        let header = messages::Header { schema: SCHEMA, sequence: None, ..event.header };
        let event = messages::Event {
            header,
            kind: messages::EventType::End,
            changed: Vec::new(),
            reason: Some(EndReason::Interrupted),
            at: self.context.clock.now(),
            ..event
        };
        // The topic of its start, even if the node has another name now.
        let address = Address { topic: row.message.topic.clone(), delivery: Delivery::Event };
        self.accept_durable(Message::Event(event.into()), address);
    }

    /// Forgets the states of all cameras but these.
    pub(super) fn retain_cameras(&mut self, cameras: &[String]) {
        let topics = &self.context.topics;
        let is_kept = |camera: &str| cameras.iter().any(|kept| kept == camera);
        self.states.retain(|topic, _| topics.camera_of(topic).is_none_or(is_kept));
    }

    /// Continues with new settings, between two connections.
    pub(super) fn renew(
        &mut self,
        node: Arc<str>,
        topics: Topics,
        max_packet_bytes: usize,
        integrations: Integrations,
        states: States,
    ) {
        let before = std::mem::replace(&mut self.context.topics, topics);
        let moved = |topic: String| before.moved(&topic, &self.context.topics).unwrap_or(topic);
        self.states = std::mem::take(&mut self.states)
            .into_iter()
            .map(|(topic, state)| (moved(topic), state))
            .collect();
        self.context.node = node;
        self.durable_kinds = self.outbox.durable_kinds().to_vec();
        self.limits = SizeLimits::new(max_packet_bytes);
        self.live.set_max_age(integrations.max_event_age);
        self.integrations = integrations;
        self.take_states(states);
    }

    /// Accepts a message to be published.
    pub(super) fn accept(&mut self, message: Message) {
        let address = self.context.topics.address(&message);
        if message.is_durable(&self.durable_kinds) {
            self.accept_durable(message, address)
        } else if address.delivery == Delivery::State {
            self.accept_state(message, address.topic)
        } else {
            self.accept_transient(message, address.topic)
        }
    }

    /// Keeps the state in place of the previous one of its topic, and records the change in the history.
    fn accept_state(&mut self, message: Message, topic: String) {
        let header = message.header().filter(|_| message.is_recorded()).cloned();
        let kind = if message.header().is_some() { StateKind::Json } else { StateKind::Image };
        let payload = message.payload();
        if let Some(header) = header {
            self.record_change(header, &topic, &payload);
        }
        self.set_state(topic, payload, kind);
    }

    fn record_change(&mut self, header: Header, topic: &str, payload: &[u8]) {
        let camera = header.camera.clone().unwrap_or_default();
        let state = String::from_utf8_lossy(payload).into_owned();
        let state = RawValue::from_string(state).expect("the payload is JSON");
        let topic = self.context.topics.below_camera(&camera, topic).to_string();
        self.accept(Message::Change(messages::StateChange { header, topic, state }));
    }

    fn set_state(&mut self, topic: String, payload: Arc<[u8]>, kind: StateKind) {
        self.record_retained(&topic);
        self.states.insert(topic, RetainedState { payload, kind, is_sent: false });
    }

    fn record_retained(&mut self, topic: &str) {
        if self.retained.insert(topic.to_string()) {
            self.outbox.record_retained(topic);
        }
    }

    /// Keeps the message in memory, in place of the previous one of its topic.
    fn accept_transient(&mut self, message: Message, topic: String) {
        let trace = match &message {
            Message::Detections(detections) => detections.trace.clone(),
            _ => None,
        };
        self.transient.insert(topic, (message.payload(), trace));
    }

    /// Adds the message to the outbox, with its sequence number.
    fn accept_durable(&mut self, mut message: Message, Address { topic, .. }: Address) {
        let captured = match &message {
            Message::Event(event) => event.captured,
            _ => None,
        };
        let at_ms = self.context.clock.now().as_millisecond();
        let camera = message.camera().map(|camera| camera.to_string()).unwrap_or_default();
        let (stream, seq) = (self.outbox.stream().to_string(), self.outbox.next_seq(&camera));
        let uid = format!("{stream}-{camera}-{seq}");
        message.set_sequence(Sequence { stream, seq, uid });
        if let Message::Event(event) = &message {
            self.accept_live(event);
        }
        let payload = message.payload().to_vec();
        let row = self.append(DurableMessage { camera, seq, at_ms, topic, payload });
        self.capture_times.extend(captured.map(|captured| (row, captured)));
    }

    /// Queues what is published at once about an event: its picture, and then the event.
    fn accept_live(&mut self, event: &messages::Event) {
        let at = event.captured.unwrap_or_else(|| self.context.clock.monotonic());
        let camera = event.header.camera.as_deref().unwrap_or_default();
        let topics = &self.context.topics;
        if let Some(picture) = &event.picture {
            let topic = topics.picture(camera);
            self.live.push(topic.clone(), Content::Picture(picture.clone()), at);
            self.set_state(topic, picture.clone(), StateKind::Image);
        }
        let topics = &self.context.topics;
        if self.integrations.publishes_live_events {
            let event = messages::Event { picture: None, ..event.clone() };
            self.live.push_event(topics.live_events(camera), event, at);
        }
        if let Some(frigate) = &mut self.integrations.frigate {
            let (topic, payload) = frigate.message(event);
            self.live.push(topic, Content::Payload(payload.into()), at);
        }
    }

    /// Adds a message to the outbox. Returns its row.
    fn append(&mut self, message: DurableMessage) -> i64 {
        self.context.counters.accepted.fetch_add(1, Ordering::Relaxed);
        self.outbox.accept(message)
    }

    /// Publishes the settings of all cameras.
    pub(super) fn publish_all_settings(&mut self) {
        let commander = self.integrations.commander.as_ref();
        let controls = commander.map(|commander| commander.cameras.clone()).unwrap_or_default();
        controls.iter().for_each(|control| self.publish_settings(control));
    }

    /// Publishes settings that have changed otherwise than by a command over MQTT.
    pub(super) fn publish_changed_settings(&mut self) {
        let commander = self.integrations.commander.as_ref();
        let cameras = commander.into_iter().flat_map(|commander| commander.cameras.iter());
        let changed: Vec<_> = cameras.filter(|control| control.take_unpublished()).cloned().collect();
        changed.iter().for_each(|control| self.publish_settings(control));
    }

    fn publish_settings(&mut self, control: &CameraControl) {
        control.take_unpublished();
        let settings = control.settings();
        self.accept(Message::Settings(messages::Settings {
            header: Header::new(self.context.node.clone(), Some(control.name.clone())),
            at: self.context.clock.now(),
            watching: settings.watching,
            rate_fps: settings.rate_fps,
            motion_threshold: settings.motion_threshold,
            score: settings.score,
            since: control.saved().entries().into_iter().map(|(name, _, since)| (name, since)).collect(),
        }));
    }

    /// Handles a received message: a command, or a message of Home Assistant.
    pub(super) fn receive(&mut self, topic: &str, retained: bool, payload: &[u8]) {
        let Integrations { commander, discovery, .. } = &mut self.integrations;
        if discovery.receive(topic, retained, payload, self.context.clock.monotonic()) {
            return;
        }
        let topics = &self.context.topics;
        let (Some(commander), Some(camera)) = (commander, topics.command_target(topic)) else { return };
        // An empty payload deletes a retained command.
        if payload.is_empty() {
            return;
        }
        // A retained command may be of any age.
        if retained {
            tracing::warn!(topic, "A retained command is not executed.");
            return;
        }
        if self.pending.rejects_command(topic) {
            return;
        }
        let (now, at) = (self.context.clock.monotonic(), self.context.clock.now());
        let Some(outcome) = commander.handle(camera, payload, &self.outbox, now, at) else { return };
        self.pending.push_answer(topics.answer(camera), outcome.answer);
        if let Some(control) = outcome.changed {
            self.publish_settings(&control);
        }
    }

    /// Topics to subscribe to.
    pub(super) fn subscription_filters(&self) -> Vec<String> {
        let Integrations { commander, discovery, .. } = &self.integrations;
        let mut filters: Vec<String> = discovery.birth_topic().into_iter().cloned().collect();
        filters.extend(commander.iter().flat_map(|_| self.context.topics.command_filters()));
        filters
    }

    /// Queues the announcements to Home Assistant.
    pub(super) fn queue_discovery(&mut self) {
        let messages = self.integrations.discovery.messages(&mut self.outbox);
        self.pending.replace_discovery(messages);
    }

    /// Prepares for a new connection. Returns the row after which it resumes, and the delay until it does.
    pub(super) fn prepare_for_session(&mut self) -> (i64, Duration) {
        self.mark_states_unsent();
        // Transient messages are not sent late.
        self.transient.clear();
        self.pending.clear();
        self.queue_discovery();
        let (resume_row, is_replay) = self.replay.session_started(self.outbox.cursor());
        (resume_row, if is_replay { REPLAY_DELAY } else { Duration::ZERO })
    }

    /// Makes the next [`send`](super::session::Session::send) send all states.
    pub(super) fn mark_states_unsent(&mut self) {
        self.states.values_mut().for_each(|state| state.is_sent = false);
    }

    /// Decides after a lost connection what to send again, and whether to give a message up.
    pub(super) fn session_ended(&mut self, window: &Window, progress: Progress) {
        for topic in self.live.connection_lost(window) {
            tracing::error!(
                topic,
                "Broker ends every connection on this topic; nothing more is published on it."
            );
        }
        let is_json_state = |message: &InFlight| match message {
            InFlight::State(topic) => self.states.get(topic).is_some_and(|s| s.kind == StateKind::Json),
            _ => false,
        };
        self.has_lost_json_states = self.suspects_json_states() || window.messages().any(is_json_state);
        if let Some(message) = self.poison.connection_lost(window, progress) {
            self.give_up(&message, "every connection ended on it");
        }
        // With a single suspect the broker is available, and a replay would only delay the search. What was
        // acknowledged on this connection is replayed all the same.
        let is_replay = !self.poison.has_single_suspect();
        let is_acknowledged_replayed = is_replay || progress.has_new_acknowledgement;
        let cursor = self.outbox.cursor();
        self.replay.session_ended(is_replay, is_acknowledged_replayed, cursor, window.completed_row());
    }

    /// Maximum number of messages in flight.
    pub(super) fn max_in_flight(&self, progress: Progress) -> usize {
        self.poison.max_in_flight(WINDOW, self.outbox.cursor(), progress)
    }

    /// Whether JSON states may be what connections end on.
    pub(super) fn suspects_json_states(&self) -> bool {
        self.has_lost_json_states && self.poison.has_suspects()
    }

    /// Whether suspected states must be sent before any further row.
    pub(super) fn must_test_states(&self, progress: Progress) -> bool {
        self.poison.must_test_states(self.outbox.cursor(), progress)
    }

    /// Clears suspicions that the messages delivered by now refute.
    pub(super) fn clear_delivered_suspects(&mut self, window: &Window) {
        let are_states_delivered = window.len() == 0 && self.states.values().all(|state| state.is_sent);
        self.poison.clear_delivered(self.outbox.cursor(), are_states_delivered);
    }

    /// Records that a live message was sent. A picture is a state as well, which is then sent too.
    pub(super) fn live_sent(&mut self, message: &LiveMessage) {
        self.live.sent(message.number);
        if let (Content::Picture(jpeg), Some(state)) = (&message.content, self.states.get_mut(&message.topic))
        {
            state.is_sent |= Arc::ptr_eq(jpeg, &state.payload);
        }
    }

    /// Records that the broker has acknowledged what is retained on `topic`. A removed topic is forgotten.
    pub(super) fn state_acknowledged(&mut self, topic: &str) {
        if self.states.get(topic).is_some_and(|state| state.kind == StateKind::Removal) {
            self.states.remove(topic);
            self.retained.remove(topic);
            self.outbox.record_removed(topic);
        }
    }

    /// Counts an acknowledged row. Returns false if it, or a later one, was acknowledged before.
    pub(super) fn row_acknowledged(&mut self, row: i64) -> bool {
        let counters = &self.context.counters;
        if let Some(captured) = self.capture_times.remove(&row) {
            counters.record_ack_latency(self.context.clock.monotonic().saturating_sub(captured));
        }
        let is_new = self.replay.row_acknowledged(row);
        if is_new {
            counters.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        is_new
    }

    /// Gives up a row that no broker can accept. `completed_row`: the row up to which everything is
    /// acknowledged then.
    pub(super) fn give_up_unsendable(&mut self, row: &Row, why: &str, completed_row: i64) {
        self.outbox.give_up(row);
        self.outbox.acknowledged(completed_row);
        let bytes = row.message.payload.len();
        tracing::error!(topic = row.message.topic, bytes, why, "Message cannot be sent; it is given up.");
    }

    /// Gives up a message that no broker accepts. A row is reported as a gap.
    fn give_up(&mut self, message: &InFlight, why: &str) {
        let (topic, bytes) = match message {
            InFlight::Row(row) => {
                // The row may have been deleted meanwhile.
                let found = self.outbox.after(row - 1, 1).pop();
                let Some(row) = found.filter(|found| found.id == *row) else { return };
                self.outbox.give_up(&row);
                self.outbox.acknowledged(row.id);
                self.capture_times.remove(&row.id);
                (row.message.topic, row.message.payload.len())
            }
            InFlight::State(topic) => {
                let bytes = self.states.get(topic).map_or(0, |state| state.payload.len());
                self.state_acknowledged(topic);
                self.states.remove(topic);
                self.limits.learn(topic, bytes);
                (topic.clone(), bytes)
            }
            // A subscriber can detect the gap from the sequence numbers.
            InFlight::Gap(gap) => {
                self.outbox.gap_acknowledged(gap);
                (self.context.topics.gap(&gap.camera), 0)
            }
            InFlight::Discovery(_) | InFlight::Live(_) | InFlight::Answer | InFlight::NodeStatus => return,
        };
        tracing::error!(topic, bytes, why, "Broker does not accept a message; it is given up.");
    }

    /// Drops states that are too large, with a warning.
    pub(super) fn drop_too_large_states(&mut self, topics: &[String]) {
        for topic in topics {
            let bytes = self.states.remove(topic).map_or(0, |state| state.payload.len());
            self.limits.log_dropped(topic, bytes);
        }
    }

    /// Topic and payload of a gap message.
    pub(super) fn gap_message(&self, gap: &Gap) -> (String, Vec<u8>) {
        let time = |ms: i64| Timestamp::from_millisecond(ms).unwrap_or_default();
        let message = derived::Gap {
            schema: SCHEMA,
            node: &self.context.node,
            camera: &gap.camera,
            stream: self.outbox.stream(),
            first_seq: gap.first_seq,
            last_seq: gap.last_seq,
            count: gap.count,
            from: time(gap.from_ms),
            to: time(gap.to_ms),
        };
        let payload = serde_json::to_vec(&message).expect("gaps have string keys and whole numbers");
        (self.context.topics.gap(&gap.camera), payload)
    }

    /// Updates the delivery counters, and forgets capture times that are no longer needed.
    pub(super) fn update_counters(&mut self) {
        let counters = &self.context.counters;
        counters.waiting.store(self.outbox.waiting(), Ordering::Relaxed);
        counters.lost.store(self.outbox.lost(), Ordering::Relaxed);
        while self.capture_times.first_key_value().is_some_and(|(row, _)| *row <= self.outbox.cursor()) {
            self.capture_times.pop_first();
        }
        let now = self.context.clock.monotonic();
        if self.counted_at.is_some_and(|at| now.saturating_sub(at) < COUNTERS_INTERVAL) {
            return;
        }
        self.counted_at = Some(now);
        let now_ms = self.context.clock.now().as_millisecond();
        let oldest_ms = self.outbox.oldest_waiting_ms().map_or(0, |at_ms| (now_ms - at_ms).max(0));
        counters.oldest_waiting_s.store(oldest_ms as u64 / 1000, Ordering::Relaxed);
        counters.file_bytes.store(self.outbox.file_bytes(), Ordering::Relaxed);
        counters.disk_bytes.store(procfs::thread_written_bytes().unwrap_or_default(), Ordering::Relaxed);
    }
}
