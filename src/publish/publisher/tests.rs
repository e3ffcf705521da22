//! Tests of the publisher with a fake broker and a simulated clock.

use super::{link::Link, pending::MAX_ANSWERS, state::REPLAY_DELAY, *};
use crate::{
    clock::SimulatedClock,
    config::{Durability, Inputs, Main},
    publish::connection::Connection,
    vision::motion::SceneChange,
    wire::messages::{Header, Picture, SceneChanged},
};
use std::{collections::BTreeSet, sync::Mutex};

/// A broker that records what it is sent.
#[derive(Clone, Default)]
struct FakeBroker(Arc<Mutex<Recorded>>);

#[derive(Default)]
struct Recorded {
    dialled: Vec<usize>,
    /// Topic, retained, payload.
    published: Vec<Published>,
    /// Number of messages that the send queue still accepts. Unlimited if None.
    capacity: Option<usize>,
}

type Published = (String, bool, Vec<u8>);

impl FakeBroker {
    fn recorded(&self) -> std::sync::MutexGuard<'_, Recorded> {
        self.0.lock().unwrap()
    }
}

impl Dialer for FakeBroker {
    fn brokers(&self) -> usize {
        2
    }

    fn name(&self, broker: usize) -> String {
        format!("broker-{broker}")
    }

    fn dial(&mut self, broker: usize, _: u64) -> Result<Box<dyn Connection>, String> {
        self.recorded().dialled.push(broker);
        Ok(Box::new(self.clone()))
    }
}

impl Connection for FakeBroker {
    fn publish(&mut self, topic: &str, _: bool, retained: bool, payload: &[u8]) -> bool {
        let mut recorded = self.recorded();
        let is_accepted = recorded.capacity != Some(0);
        recorded.capacity = recorded.capacity.map(|capacity| capacity.saturating_sub(1));
        if is_accepted {
            recorded.published.push((topic.into(), retained, payload.into()));
        }
        is_accepted
    }

    fn subscribe(&mut self, _: &[String]) -> bool {
        true
    }

    fn disconnect(&mut self) -> bool {
        true
    }
}

/// A publisher, driven by the test instead of its loop.
struct Fixture {
    publisher: PublishLoop,
    broker: FakeBroker,
    clock: Arc<SimulatedClock>,
    /// Packet ids are assigned in order.
    last_id: u16,
    /// Number of published messages that were sent.
    sent: usize,
}

impl Fixture {
    fn new() -> Fixture {
        let main =
            Main::Text { name: "t".into(), text: "node.name = 'porch'\nmqtt.max_packet_kib = 4".into() };
        let config = crate::config::load(&Inputs { main, ..Default::default() }).unwrap().config;
        assert_eq!(config.outbox.durability, Durability::Grouped);
        let (broker, clock) = (FakeBroker::default(), Arc::new(SimulatedClock::new()));
        let (_, link_events) = crossbeam_channel::unbounded();
        let (_, messages) = crate::queue::messages::messages(1, |_| true);
        let publisher = Publisher {
            node: "porch".into(),
            topics: Topics::new(&config),
            mqtt: config.mqtt,
            outbox: config.outbox,
            messages,
            dialer: Box::new(broker.clone()),
            link_events,
            renewals: crossbeam_channel::never(),
            counters: Arc::default(),
            integrations: Integrations::default(),
            clock: clock.clone(),
            heartbeat: Heartbeat::new("publish", Duration::ZERO),
        };
        Fixture { publisher: PublishLoop::new(publisher), broker, clock, last_id: 0, sent: 0 }
    }

    /// Publishes `count` durable messages.
    fn publish(&mut self, count: usize) {
        for _ in 0..count {
            self.publisher.state.accept(Message::Scene(SceneChanged {
                header: Header::new("porch".into(), Some("yard".into())),
                at: self.clock.now(),
                change: SceneChange::Light,
            }));
        }
        self.publisher.tick();
    }

    fn publish_picture(&mut self, camera: &str, bytes: usize) {
        let picture = Picture { camera: camera.into(), jpeg: vec![0; bytes] };
        self.publisher.state.accept(Message::Picture(picture));
    }

    /// Connects, and waits until a replay is due.
    fn connect(&mut self) {
        self.publisher.connect_if_due();
        self.sent = self.broker.recorded().published.len();
        self.emit(LinkEvent::Connected);
        self.clock.advance(REPLAY_DELAY);
        self.publisher.tick();
    }

    fn emit(&mut self, event: LinkEvent) {
        self.publisher.handle_event(self.publisher.connection_number, event);
    }

    /// Sends and acknowledges everything published since the last call. Returns the topics.
    fn acknowledge(&mut self) -> Vec<String> {
        let ids = self.send();
        for id in ids.clone() {
            self.emit(LinkEvent::Acknowledged(id));
        }
        let published = self.broker.recorded().published.clone();
        self.publisher.tick();
        published[self.sent - ids.len()..self.sent].iter().map(|(topic, ..)| topic.clone()).collect()
    }

    /// Delivers one message per second.
    fn run_for(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.publish(1);
            self.acknowledge();
            self.clock.advance(Duration::from_secs(1));
            self.publisher.tick();
        }
    }

    /// Deletes the record of what was published.
    fn clear_published(&mut self) {
        self.broker.recorded().published.clear();
        self.sent = 0;
    }

    /// What was published and not sent yet.
    fn unsent(&self) -> Vec<Published> {
        self.broker.recorded().published[self.sent..].to_vec()
    }

    /// Sends what was published. Returns the packet ids.
    fn send(&mut self) -> Vec<u16> {
        let count = self.broker.recorded().published.len() - self.sent;
        self.sent += count;
        (0..count)
            .map(|_| {
                self.last_id += 1;
                self.emit(LinkEvent::Sent(self.last_id));
                self.last_id
            })
            .collect()
    }

    /// Loses the connection, and waits until the next attempt is due.
    fn lose_connection(&mut self) {
        self.emit(LinkEvent::Failed { why: "gone".into(), refused: false });
        self.clock.advance(Duration::from_secs(60));
        self.publisher.tick();
    }

    /// Sequence numbers of the recorded durable messages.
    fn seqs(&self) -> Vec<u64> {
        let recorded = self.broker.recorded();
        let seq = |payload: &[u8]| -> u64 {
            serde_json::from_slice::<serde_json::Value>(payload).unwrap()["seq"].as_u64().unwrap()
        };
        recorded
            .published
            .iter()
            .filter(|(topic, ..)| topic.ends_with("/scene"))
            .map(|(.., p)| seq(p))
            .collect()
    }
}

#[test]
fn messages_from_before_the_connection_arrive_in_order() {
    let mut fixture = Fixture::new();
    fixture.publish(250);
    assert_eq!(fixture.publisher.state.outbox.waiting(), 250);
    fixture.connect();
    assert_eq!(fixture.seqs().len(), WINDOW - 1, "with `online`");
    while fixture.publisher.state.outbox.waiting() > 0 {
        fixture.acknowledge();
    }
    assert_eq!(fixture.seqs(), (1..=250).collect::<Vec<_>>());
    assert_eq!(fixture.publisher.state.context.counters.acknowledged.load(Ordering::Relaxed), 250);
}

#[test]
fn the_cursor_does_not_pass_an_unacknowledged_row() {
    let mut fixture = Fixture::new();
    fixture.publish(3);
    fixture.connect();
    let ids = fixture.send();
    fixture.emit(LinkEvent::Acknowledged(ids[3]));
    fixture.emit(LinkEvent::Acknowledged(ids[1]));
    assert_eq!(fixture.publisher.state.outbox.cursor(), 1);
    fixture.emit(LinkEvent::Acknowledged(ids[2]));
    assert_eq!(fixture.publisher.state.outbox.cursor(), 3);
}

#[test]
fn the_last_seconds_are_replayed_after_a_lost_connection_only() {
    let mut fixture = Fixture::new();
    fixture.connect();
    fixture.run_for(10);
    fixture.clear_published();
    // An event of an earlier connection.
    fixture.publisher.handle_event(0, LinkEvent::Failed { why: "old".into(), refused: false });
    assert!(matches!(fixture.publisher.link, Link::Established(_)));
    fixture.lose_connection();
    fixture.connect();
    let replayed = fixture.seqs();
    assert!((5..=6).contains(&replayed.len()) && replayed.last() == Some(&10), "{replayed:?}");
}

#[test]
fn a_broker_that_does_not_acknowledge_is_left_for_the_next() {
    let mut fixture = Fixture::new();
    fixture.publish(1);
    fixture.connect();
    fixture.send();
    fixture.clock.advance(ACK_TIMEOUT);
    fixture.publisher.tick();
    assert!(matches!(fixture.publisher.link, Link::Down { .. }));
    fixture.clock.advance(Duration::from_secs(60));
    fixture.connect();
    assert_eq!(fixture.broker.recorded().dialled, [0, 1]);
    fixture.acknowledge();
    assert_eq!(fixture.seqs(), [1, 1], "after `online` is acknowledged");
}

#[test]
fn a_message_that_ends_every_connection_is_given_up_and_reported_as_a_gap() {
    let mut fixture = Fixture::new();
    fixture.publish(10);
    let (mut connections, mut gaps) = (0, Vec::new());
    let mut delivered = BTreeSet::new();
    let poison = 4;
    while fixture.publisher.state.outbox.waiting() > 0 {
        connections += 1;
        assert!(connections < 20, "never ends");
        fixture.broker.recorded().published.clear();
        fixture.connect();
        loop {
            // The broker crashes on the poison and acknowledges what was sent before it.
            let unsent = fixture.unsent();
            if unsent.is_empty() {
                break;
            }
            let is_poison = |payload: &[u8]| {
                serde_json::from_slice::<serde_json::Value>(payload).is_ok_and(|v| v["seq"] == poison)
            };
            let ids = fixture.send();
            let mut has_crashed = false;
            for ((topic, _, payload), id) in unsent.iter().zip(ids) {
                has_crashed = is_poison(payload);
                if has_crashed {
                    break;
                }
                let message: serde_json::Value = serde_json::from_slice(payload).unwrap_or_default();
                gaps.extend(topic.ends_with("/yard/gap").then(|| message.clone()));
                delivered.extend(message["seq"].as_u64());
                fixture.emit(LinkEvent::Acknowledged(id));
            }
            if has_crashed {
                fixture.lose_connection();
                break;
            }
            fixture.publisher.tick();
        }
    }
    assert_eq!(fixture.publisher.state.outbox.lost(), 1);
    assert_eq!(delivered, (1..=10).filter(|seq| *seq != poison).collect());
    assert_eq!(gaps.len(), 1);
    let reported = ["first_seq", "last_seq", "count"].map(|key| gaps[0][key].as_u64());
    assert_eq!(reported, [Some(poison), Some(poison), Some(1)]);
    assert!(fixture.publisher.state.outbox.gaps().is_empty());
}

#[test]
fn a_state_that_ends_every_connection_is_found_among_others() {
    let mut fixture = Fixture::new();
    for (camera, len) in [("barn", 900), ("door", 5000), ("yard", 900)] {
        fixture.publish_picture(camera, len);
    }
    fixture.publisher.state.limits.set_learned_bytes(10_000);
    let mut connections = 0;
    while fixture.publisher.state.states.len() == 3 {
        connections += 1;
        assert!(connections < 12, "never ends");
        // There are new messages meanwhile, and a backlog.
        fixture.publish(150);
        fixture.connect();
        let has_crashed = loop {
            let unsent = fixture.unsent();
            if unsent.is_empty() {
                break false;
            }
            let ids = fixture.send();
            let accepted = unsent.iter().take_while(|(topic, ..)| !topic.ends_with("/door/picture")).count();
            for id in &ids[..accepted] {
                fixture.emit(LinkEvent::Acknowledged(*id));
            }
            if accepted < ids.len() {
                break true;
            }
            fixture.publisher.tick();
        };
        assert!(has_crashed, "the picture is sent");
        fixture.lose_connection();
    }
    assert!(!fixture.publisher.state.states.keys().any(|topic| topic.contains("door")));
    let limit = fixture.publisher.state.limits.learned_bytes();
    assert!(limit < 5100, "a limit is learned: {limit}");
    assert_eq!(fixture.publisher.state.outbox.lost(), 0);
}

#[test]
fn short_lived_connections_lose_no_message() {
    let mut fixture = Fixture::new();
    fixture.publish(10);
    // Each connection ends before anything is acknowledged.
    for _ in 0..20 {
        fixture.connect();
        fixture.send();
        fixture.lose_connection();
    }
    assert_eq!(fixture.publisher.state.outbox.lost(), 0);
    fixture.connect();
    while fixture.publisher.state.outbox.waiting() > 0 {
        fixture.acknowledge();
    }
}

#[test]
fn states_are_sent_once_per_connection_and_oversized_pictures_never() {
    let mut fixture = Fixture::new();
    fixture.publish_picture("yard", 1000);
    for _ in 0..2 {
        fixture.connect();
        fixture.acknowledge();
        fixture.acknowledge();
        let pictures = |fixture: &Fixture| {
            let recorded = fixture.broker.recorded();
            recorded
                .published
                .iter()
                .filter(|(topic, retained, _)| topic.ends_with("/picture") && *retained)
                .count()
        };
        assert_eq!(pictures(&fixture), 1);
        fixture.publisher.tick();
        assert_eq!(pictures(&fixture), 1);
        fixture.lose_connection();
        fixture.broker.recorded().published.clear();
    }
    fixture.publish_picture("yard", 5000);
    fixture.connect();
    fixture.acknowledge();
    assert_eq!(fixture.broker.recorded().published.len(), 1, "`online`");
}

#[test]
fn commands_are_not_executed_while_too_many_answers_are_pending() {
    let mut fixture = Fixture::new();
    fixture.connect();
    fixture.acknowledge();
    let control = Arc::default();
    fixture.publisher.state.integrations.commander = Some(Commander {
        node: "porch".into(),
        cameras: [].into(),
        control: Arc::clone(&control),
        max_bytes: 4096,
    });
    fixture.broker.recorded().capacity = Some(0);
    let command = |fixture: &mut Fixture, name: &str| {
        let payload = format!("{{\"do\": \"{name}\"}}").into_bytes();
        fixture.emit(LinkEvent::Received { topic: "camfire/porch/command".into(), retained: false, payload });
        fixture.publisher.tick();
    };
    for _ in 0..MAX_ANSWERS {
        command(&mut fixture, "reload");
    }
    command(&mut fixture, "stats");
    assert!(!control.take_stats_request(), "one too many");
    fixture.broker.recorded().capacity = None;
    fixture.publisher.tick();
    let answers = fixture.acknowledge();
    assert_eq!(answers.iter().filter(|topic| *topic == "camfire/porch/answer").count(), MAX_ANSWERS);
    command(&mut fixture, "stats");
    assert!(control.take_stats_request());
}

#[test]
fn a_replay_covers_the_seconds_before_the_broker_was_last_seen() {
    let mut fixture = Fixture::new();
    fixture.connect();
    fixture.run_for(10);
    // The broker has died, which is not detected for a minute.
    for _ in 0..240 {
        fixture.clock.advance(Duration::from_millis(250));
        fixture.publisher.tick();
    }
    fixture.clear_published();
    fixture.lose_connection();
    fixture.connect();
    let replayed = fixture.seqs();
    assert!((5..=6).contains(&replayed.len()) && replayed.last() == Some(&10), "{replayed:?}");
    // The broker answers a ping a minute later, so it has not forgotten anything.
    fixture.acknowledge();
    fixture.clock.advance(Duration::from_secs(60));
    fixture.emit(LinkEvent::Alive);
    fixture.publisher.tick();
    fixture.clear_published();
    fixture.lose_connection();
    fixture.connect();
    assert_eq!(fixture.seqs(), [] as [u64; 0]);
}

#[test]
fn the_next_process_resumes_at_the_replay_and_not_earlier() {
    let mut fixture = Fixture::new();
    fixture.connect();
    fixture.run_for(60);
    assert_eq!(fixture.publisher.state.outbox.cursor(), 60);
    assert!((54..=56).contains(&fixture.publisher.resume_row()), "{}", fixture.publisher.resume_row());
    fixture.publish(1);
    fixture.send();
    fixture.clock.advance(Duration::from_secs(1));
    fixture.publisher.tick();
    assert!((54..=57).contains(&fixture.publisher.resume_row()), "{}", fixture.publisher.resume_row());
}

#[test]
fn a_removal_is_sent_until_it_is_acknowledged() {
    let mut fixture = Fixture::new();
    let (node, yard) = ("homeassistant/device/node/config", "homeassistant/device/yard/config");
    fixture.publisher.state.integrations.discovery.payloads =
        [node, yard].map(|topic| (topic.to_string(), b"{}".to_vec())).into();
    fixture.connect();
    fixture.acknowledge();
    fixture.acknowledge();
    assert_eq!(fixture.publisher.state.outbox.remembered().len(), 2);
    // The camera is removed. The connection is lost before the removal is sent, and again before it is
    // acknowledged.
    fixture.publisher.state.integrations.discovery.payloads.remove(yard);
    fixture.lose_connection();
    fixture.broker.recorded().capacity = Some(0);
    fixture.connect();
    fixture.lose_connection();
    fixture.broker.recorded().capacity = None;
    for is_acknowledged in [false, true, true] {
        fixture.broker.recorded().published.clear();
        fixture.connect();
        fixture.publisher.tick();
        let removed = |(topic, retained, payload): &(String, bool, Vec<u8>)| {
            topic == yard && *retained && payload.is_empty()
        };
        let is_removal_sent = fixture.broker.recorded().published.iter().any(removed);
        assert_eq!(is_removal_sent, fixture.publisher.state.outbox.remembered().contains_key(yard));
        if is_acknowledged {
            fixture.acknowledge();
            fixture.acknowledge();
            assert_eq!(fixture.publisher.state.outbox.remembered().keys().collect::<Vec<_>>(), [node]);
        }
        fixture.lose_connection();
    }
}

#[test]
fn a_suspected_picture_does_not_block_the_backlog() {
    let mut fixture = Fixture::new();
    fixture.publish_picture("yard", 1000);
    fixture.connect();
    fixture.send();
    fixture.lose_connection();
    fixture.publish(250);
    fixture.broker.recorded().published.clear();
    fixture.connect();
    fixture.acknowledge();
    assert!(fixture.seqs().len() >= WINDOW, "rows are not suspected: {}", fixture.seqs().len());
    while fixture.publisher.state.outbox.waiting() > 0 {
        fixture.acknowledge();
    }
    fixture.acknowledge();
    assert!(!fixture.publisher.state.poison.has_suspects(), "the picture is delivered");
    let pictures =
        fixture.broker.recorded().published.iter().filter(|(topic, ..)| topic.ends_with("/picture")).count();
    assert_eq!(pictures, 1);
}
