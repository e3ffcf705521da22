//! Messages for those who act on events at once: Home Assistant and programs made for Frigate. They are sent
//! in order, each picture before the event that it belongs to, and never when they are too old. Pure. Times
//! are monotonic.
//!
//! A message that was not acknowledged is sent again on the next connection if it is still fresh. One that
//! was acknowledged never is: unlike durable messages, these have no reader who could recognise a repeat.

use super::window::{InFlight, Window};
use crate::wire::{
    derived::LiveEvent,
    messages::{Event, EventType},
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

/// Maximum number of waiting messages. Beyond it the oldest are dropped.
const MAX_WAITING: usize = 1000;
/// Maximum size of the waiting pictures. Beyond it the oldest messages are dropped.
const MAX_PICTURE_BYTES: usize = 16 << 20;
/// Number of connections in a row that end on the messages of a topic before the topic is given up.
const MAX_FAILURES: u32 = 5;
/// Maximum number of objects that have not ended; more than any node has at once. Beyond it the oldest is
/// forgotten.
const MAX_OPEN: usize = 4096;

/// What a live message contains.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// A retained picture.
    Picture(Arc<[u8]>),
    /// An event, to be sent with its age, and its new labels.
    Event(Arc<Event>, Vec<String>),
    /// A finished payload.
    Payload(Arc<[u8]>),
}

/// A waiting message.
#[derive(Debug, Clone)]
pub(super) struct LiveMessage {
    pub(super) number: u64,
    pub(super) topic: String,
    pub(super) content: Content,
    /// When the frame was captured that caused it.
    at: Duration,
    is_sent: bool,
}

/// The waiting messages, in order.
pub(super) struct LiveQueue {
    /// `homeassistant.max_event_age`.
    max_age: Duration,
    messages: VecDeque<LiveMessage>,
    last_number: u64,
    /// Number of connections in a row that ended on messages of this topic.
    failures: BTreeMap<String, u32>,
    /// The labels that the events of each object in view have had. Ids sort by start time.
    known_labels: BTreeMap<String, BTreeSet<String>>,
}

impl LiveQueue {
    pub(super) fn new(max_age: Duration) -> LiveQueue {
        LiveQueue {
            max_age,
            messages: VecDeque::new(),
            last_number: 0,
            failures: BTreeMap::new(),
            known_labels: BTreeMap::new(),
        }
    }

    /// Changes the maximum age.
    pub(super) fn set_max_age(&mut self, max_age: Duration) {
        self.max_age = max_age;
    }

    /// Adds a message about a frame that was captured at `at`.
    pub(super) fn push(&mut self, topic: String, content: Content, at: Duration) {
        if self.failures.get(&topic).is_some_and(|&failures| failures >= MAX_FAILURES) {
            return;
        }
        self.last_number += 1;
        let number = self.last_number;
        self.messages.push_back(LiveMessage { number, topic, content, at, is_sent: false });
        while self.messages.len() > MAX_WAITING || self.picture_bytes() > MAX_PICTURE_BYTES {
            self.messages.pop_front();
        }
    }

    /// Adds an event of a frame that was captured at `at`. Must be called once per event, in order.
    pub(super) fn push_event(&mut self, topic: String, event: Event, at: Duration) {
        let mut new = Vec::new();
        if event.kind == EventType::End {
            // Nothing is new about what is over.
            self.known_labels.remove(&event.id);
        } else {
            let known = self.known_labels.entry(event.id.clone()).or_default();
            new.extend(event.label_path.iter().filter(|label| known.insert(label.to_string())).cloned());
            if self.known_labels.len() > MAX_OPEN {
                self.known_labels.pop_first();
            }
        }
        self.push(topic, Content::Event(Arc::new(event), new), at);
    }

    fn picture_bytes(&self) -> usize {
        let bytes = |message: &LiveMessage| match &message.content {
            Content::Picture(jpeg) => jpeg.len(),
            Content::Event(..) | Content::Payload(_) => 0,
        };
        self.messages.iter().map(bytes).sum()
    }

    /// Drops what is too old at `now` and returns the next message to be sent.
    pub(super) fn next(&mut self, now: Duration) -> Option<LiveMessage> {
        let max_age = self.max_age;
        self.messages.retain(|message| message.is_sent || now.saturating_sub(message.at) <= max_age);
        self.messages.iter().find(|message| !message.is_sent).cloned()
    }

    /// Records that a message was sent. Pictures are not sent again, because they are states as well.
    pub(super) fn sent(&mut self, number: u64) {
        let Some(index) = self.messages.iter().position(|message| message.number == number) else { return };
        if matches!(self.messages[index].content, Content::Picture(_)) {
            self.messages.remove(index);
        } else {
            self.messages[index].is_sent = true;
        }
    }

    /// Removes a message that was acknowledged, or that cannot be sent.
    pub(super) fn remove(&mut self, number: u64) {
        let Some(index) = self.messages.iter().position(|message| message.number == number) else { return };
        self.failures.remove(&self.messages[index].topic);
        self.messages.remove(index);
    }

    /// Makes what was not acknowledged be sent again after a lost connection. Returns the topics that are
    /// given up because one connection after another ended on them.
    pub(super) fn connection_lost(&mut self, window: &Window) -> Vec<String> {
        let in_flight: BTreeSet<u64> = window
            .messages()
            .filter_map(|message| match message {
                InFlight::Live(number) => Some(*number),
                _ => None,
            })
            .collect();
        let suspects: BTreeSet<String> = (self.messages.iter())
            .filter(|message| in_flight.contains(&message.number))
            .map(|message| message.topic.clone())
            .collect();
        self.messages.iter_mut().for_each(|message| message.is_sent = false);
        let mut given_up = Vec::new();
        for topic in suspects {
            let failures = self.failures.entry(topic.clone()).or_default();
            *failures += 1;
            if *failures == MAX_FAILURES {
                self.messages.retain(|message| message.topic != topic);
                given_up.push(topic);
            }
        }
        given_up
    }
}

impl LiveMessage {
    /// Whether the broker retains the message.
    pub(super) fn is_retained(&self) -> bool {
        matches!(self.content, Content::Picture(_))
    }

    /// The payload as sent at `now` on a connection that was established at `connected_at`.
    pub(super) fn payload(&self, now: Duration, connected_at: Duration) -> Arc<[u8]> {
        match &self.content {
            Content::Picture(payload) | Content::Payload(payload) => payload.clone(),
            Content::Event(event, new_labels) => {
                let message = LiveEvent {
                    event,
                    new_labels: new_labels.clone(),
                    age_s: now.saturating_sub(self.at).as_secs_f64(),
                    replayed: self.at < connected_at,
                };
                let json = serde_json::to_vec(&message);
                json.expect("events have string keys and finite numbers").into()
            }
        }
    }
}
