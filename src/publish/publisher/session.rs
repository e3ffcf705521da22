//! One established connection, and what is sent on it in which order.

use super::{
    ACK_TIMEOUT, WINDOW,
    poison::Progress,
    state::{PublisherState, RetainedState, StateKind},
    window::{InFlight, Window},
};
use crate::{
    publish::{connection::Connection, outbox::Row},
    wire::topics::{OFFLINE, ONLINE, Topics},
};
use std::{sync::atomic::Ordering, time::Duration};

/// An established connection. Its methods send until the window or the connection's send queue is full.
pub(super) struct Session {
    connection: Box<dyn Connection>,
    pub(super) window: Window,
    pub(super) progress: Progress,
    /// When the connection was established. Monotonic.
    established_at: Duration,
    /// Until then only states and `online` are sent.
    ready_at: Duration,
    /// Whether the broker has answered the subscription, or there is none.
    is_subscribed: bool,
    is_online_sent: bool,
}

/// Why [`Session::send_rows`] stopped.
enum RowsSent {
    All,
    WindowFull,
    QueueFull,
}

impl Session {
    /// Creates a session that sends the rows after `resume_row`, `delay` after `now`.
    pub(super) fn new(
        connection: Box<dyn Connection>,
        resume_row: i64,
        now: Duration,
        delay: Duration,
    ) -> Session {
        Session {
            connection,
            window: Window::new(resume_row),
            progress: Progress::default(),
            established_at: now,
            ready_at: now + delay,
            is_subscribed: false,
            is_online_sent: false,
        }
    }

    /// Subscribes to `filters`.
    pub(super) fn subscribe(&mut self, filters: &[String]) {
        self.is_subscribed = filters.is_empty() || !self.connection.subscribe(filters);
    }

    /// The broker has answered the subscription.
    pub(super) fn subscribed(&mut self) {
        self.is_subscribed = true;
    }

    /// Whether the answer to the subscription is overdue.
    pub(super) fn is_subscription_overdue(&self, now: Duration) -> bool {
        !self.is_subscribed && now.saturating_sub(self.established_at) >= ACK_TIMEOUT
    }

    /// Sends what can be sent now. Returns whether all rows and transient messages are sent.
    ///
    /// The order is: JSON states, `online`, live messages, gaps, rows, pictures and removals, answers and
    /// announcements, transient messages. So the states are right when the node becomes available.
    ///
    /// If JSON states are suspects, `online` comes first, because its acknowledgement shows that the broker
    /// accepts small messages; suspected states are then sent alone. Live messages wait while there are
    /// suspects.
    pub(super) fn send(&mut self, state: &mut PublisherState) -> bool {
        state.clear_delivered_suspects(&self.window);
        if !state.suspects_json_states() && !self.send_states(state, WINDOW, |kind| kind == StateKind::Json) {
            return false;
        }
        if !self.send_online(&state.context.topics) || state.context.clock.monotonic() < self.ready_at {
            return false;
        }
        let max_in_flight = state.max_in_flight(self.progress);
        if state.must_test_states(self.progress) && !self.send_states(state, max_in_flight, |_| true) {
            return false;
        }
        if !state.poison.has_suspects() && !self.send_live(state) {
            return false;
        }
        self.send_gaps(state, max_in_flight);
        let rows = self.send_rows(state, max_in_flight);
        if matches!(rows, RowsSent::QueueFull) {
            return false;
        }
        let is_caught_up = matches!(rows, RowsSent::All);
        // All rows are sent, so suspected states may be tested now.
        let max_in_flight = state.max_in_flight(self.progress);
        if is_caught_up && !self.send_states(state, max_in_flight, |_| true) {
            return false;
        }
        if max_in_flight < WINDOW || !self.send_pending(state) {
            return false;
        }
        self.send_transient(state) && is_caught_up
    }

    /// Sends `online` once, when the subscription is active, because only then commands are received. Returns
    /// whether it is sent.
    fn send_online(&mut self, topics: &Topics) -> bool {
        if !self.is_online_sent && self.is_subscribed {
            self.is_online_sent = self.send_status(topics, ONLINE);
        }
        self.is_online_sent
    }

    /// Queues `offline`. Returns false if the send queue is full.
    pub(super) fn send_offline(&mut self, topics: &Topics) -> bool {
        self.send_status(topics, OFFLINE)
    }

    fn send_status(&mut self, topics: &Topics, status: &str) -> bool {
        let is_queued = self.connection.publish(&topics.node_status(), true, true, status.as_bytes());
        if is_queued {
            self.window.queued(InFlight::NodeStatus);
        }
        is_queued
    }

    /// Queues a graceful disconnect. Returns false if the send queue is full.
    pub(super) fn disconnect(&mut self) -> bool {
        self.connection.disconnect()
    }

    /// Queues a message that is to be acknowledged. Returns false if `max_in_flight` messages are in flight,
    /// or the send queue is full.
    fn publish(
        &mut self,
        message: InFlight,
        max_in_flight: usize,
        (topic, retained, payload): (&str, bool, &[u8]),
    ) -> bool {
        let is_queued =
            self.window.len() < max_in_flight && self.connection.publish(topic, true, retained, payload);
        if is_queued {
            self.window.queued(message);
        }
        is_queued
    }

    /// Reports the gaps that are not being reported already.
    fn send_gaps(&mut self, state: &mut PublisherState, max_in_flight: usize) {
        for gap in state.outbox.gaps() {
            let is_in_flight =
                |message: &InFlight| matches!(message, InFlight::Gap(in_flight) if *in_flight == gap);
            if self.window.messages().any(is_in_flight) {
                continue;
            }
            let (topic, payload) = state.gap_message(&gap);
            self.publish(InFlight::Gap(gap), max_in_flight, (&topic, false, &payload));
        }
    }

    fn send_rows(&mut self, state: &mut PublisherState, max_in_flight: usize) -> RowsSent {
        while self.window.len() < max_in_flight {
            let space = max_in_flight - self.window.len();
            let rows = state.outbox.after(self.window.last_row(), space);
            let is_caught_up = rows.len() < space;
            self.progress.has_caught_up |= is_caught_up;
            for row in rows {
                if let Some(why) = state.limits.why_unsendable(&row.message) {
                    self.window.skip(row.id);
                    state.give_up_unsendable(&row, why, self.window.completed_row());
                } else if !self.send_row(state, &row, max_in_flight) {
                    return RowsSent::QueueFull;
                }
            }
            if is_caught_up {
                return RowsSent::All;
            }
        }
        RowsSent::WindowFull
    }

    fn send_row(
        &mut self,
        state: &mut PublisherState,
        Row { id, message }: &Row,
        max_in_flight: usize,
    ) -> bool {
        let content = (message.topic.as_str(), false, message.payload.as_slice());
        if !self.publish(InFlight::Row(*id), max_in_flight, content) {
            return false;
        }
        state.context.counters.sent.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Sends the live messages. Returns whether all are sent. Those that are too large are dropped.
    fn send_live(&mut self, state: &mut PublisherState) -> bool {
        let now = state.context.clock.monotonic();
        while let Some(message) = state.live.next(now) {
            let payload = message.payload(now, self.established_at);
            if !state.limits.allows(&message.topic, &payload) {
                state.limits.log_dropped(&message.topic, payload.len());
                state.live.remove(message.number);
                continue;
            }
            let in_flight = match message.is_retained() {
                true => InFlight::State(message.topic.clone()),
                false => InFlight::Live(message.number),
            };
            if !self.publish(in_flight, WINDOW, (&message.topic, message.is_retained(), &payload)) {
                return false;
            }
            state.live_sent(&message);
        }
        true
    }

    /// Sends the states of the selected kinds that were not sent on this connection yet, in the order of
    /// their topics, so that the status of a camera comes after its other states. Returns whether all are
    /// sent.
    fn send_states(
        &mut self,
        state: &mut PublisherState,
        max_in_flight: usize,
        is_selected: impl Fn(StateKind) -> bool,
    ) -> bool {
        let mut too_large = Vec::new();
        let is_due = |retained: &RetainedState| !retained.is_sent && is_selected(retained.kind);
        for (topic, retained) in state.states.iter_mut().filter(|(_, retained)| is_due(retained)) {
            if !state.limits.allows(topic, &retained.payload) {
                too_large.push(topic.clone());
                continue;
            }
            if !self.publish(InFlight::State(topic.clone()), max_in_flight, (topic, true, &retained.payload))
            {
                return false;
            }
            retained.is_sent = true;
        }
        state.drop_too_large_states(&too_large);
        true
    }

    /// Sends answers and announcements. Returns whether all are sent. Those that are too large are dropped.
    fn send_pending(&mut self, state: &mut PublisherState) -> bool {
        while let Some(pending) = state.pending.first() {
            let topic = pending.topic.as_str();
            if state.limits.is_within_packet_limit(topic, &pending.payload) {
                let content = (topic, pending.is_discovery, pending.payload.as_slice());
                if !self.publish(pending.in_flight(), WINDOW, content) {
                    return false;
                }
            }
            state.pending.remove_first();
        }
        true
    }

    /// Sends transient messages. Returns whether all are sent. Those that are too large are dropped.
    fn send_transient(&mut self, state: &mut PublisherState) -> bool {
        let PublisherState { transient, limits, context, .. } = state;
        transient.retain(|topic, (payload, trace)| {
            if !limits.allows(topic, payload) {
                return false;
            }
            let is_queued = self.connection.publish(topic, false, false, payload);
            if let Some(trace) = trace.as_ref().filter(|_| is_queued) {
                trace.published(context.clock.monotonic());
            }
            !is_queued
        });
        transient.is_empty()
    }

    /// The broker has acknowledged the message with packet id `id`.
    pub(super) fn acknowledged(&mut self, id: u16, state: &mut PublisherState) {
        let Some(message) = self.window.acknowledged(id) else { return };
        match message {
            InFlight::NodeStatus => self.progress.is_online_acknowledged = true,
            InFlight::State(topic) => state.state_acknowledged(&topic),
            InFlight::Live(number) => state.live.remove(number),
            InFlight::Answer => {}
            InFlight::Discovery(topic) => {
                state.integrations.discovery.acknowledged(&topic, &mut state.outbox);
            }
            InFlight::Gap(gap) => state.outbox.gap_acknowledged(&gap),
            InFlight::Row(row) => {
                self.progress.has_new_acknowledgement |= state.row_acknowledged(row);
                state.outbox.acknowledged(self.window.completed_row());
            }
        }
    }
}
