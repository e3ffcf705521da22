//! Tests of the publisher with a fake broker and a simulated clock.

use super::{link::Link, pending::MAX_ANSWERS, state::REPLAY_DELAY, *};
use crate::{
    clock::SimulatedClock,
    config::{Durability, Inputs, Main},
    publish::connection::Connection,
    vision::motion::SceneChange,
    wire::{
        initial,
        messages::{Event, EventType, Header, Occupancy, Picture, SceneChanged, example_event},
    },
};
use serde_json::{Value, json};
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
        Fixture::with_config("")
    }

    /// `more` is added to the configuration, which then determines the states as well.
    fn with_config(more: &str) -> Fixture {
        let text = format!("node.name = 'porch'\nmqtt.max_packet_kib = 4\n{more}");
        let main = Main::Text { name: "t".into(), text };
        let config = crate::config::load(&Inputs { main, ..Default::default() }).unwrap().config;
        assert_eq!(config.outbox.durability, Durability::Grouped);
        let topics = Topics::new(&config);
        let node: Arc<str> = config.node.name.as_str().into();
        let pictures = initial::Pictures {
            placeholder: vec![0; 2].into(),
            has_events: config.pictures.publish,
            has_snapshots: false,
        };
        let initial = |camera| initial::camera_states(&node, camera, &pictures, jiff::Timestamp::UNIX_EPOCH);
        let states = States {
            own_topics: topics.retained(&config),
            initial: config.cameras.iter().flat_map(initial).collect(),
        };
        let (broker, clock) = (FakeBroker::default(), Arc::new(SimulatedClock::new()));
        let (_, link_events) = crossbeam_channel::unbounded();
        let (_, messages) = crate::queue::messages::messages(1, |_| true);
        let publisher = Publisher {
            node,
            topics,
            mqtt: config.mqtt,
            outbox: config.outbox,
            messages,
            dialer: Box::new(broker.clone()),
            link_events,
            renewals: crossbeam_channel::never(),
            history: crossbeam_channel::never(),
            counters: Arc::default(),
            integrations: Integrations {
                frigate: FrigateEvents::new(&config.frigate),
                publishes_live_events: config.homeassistant.discovery,
                max_event_age: config.homeassistant.max_event_age,
                ..Default::default()
            },
            states,
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
        let picture = Picture { camera: camera.into(), jpeg: vec![0; bytes].into() };
        self.publisher.state.accept(Message::Picture(picture));
    }

    /// Accepts an event of a frame that is captured now, with a picture.
    fn publish_event(&mut self, id: &str, kind: EventType) {
        let captured = Some(self.clock.monotonic());
        let picture = Some(id.as_bytes().into());
        let event = Event { captured, picture, ..example_event(id, kind) };
        self.publisher.state.accept(Message::Event(event.into()));
    }

    fn publish_occupancy(&mut self, total: usize) {
        let header = Header::new("porch".into(), Some("yard".into()));
        let (at, labels, zones) = (self.clock.now(), Default::default(), Default::default());
        let occupancy = Occupancy { header, at, total, labels, zones };
        self.publisher.state.accept(Message::Occupancy(occupancy));
        self.publisher.tick();
    }

    /// The published messages on topics that end with one of `endings`: the ending, and the JSON payload or
    /// the length of another one.
    fn published_on(&self, endings: &[&'static str]) -> Vec<(&'static str, Value)> {
        let recorded = self.broker.recorded();
        let select = |(topic, _, payload): &Published| {
            let ending = endings.iter().find(|ending| topic.ends_with(*ending))?;
            Some((*ending, serde_json::from_slice(payload).unwrap_or(payload.len().into())))
        };
        recorded.published.iter().filter_map(select).collect()
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
    let commander = Commander::new("porch".into(), [].into(), Arc::clone(&control), 4096);
    fixture.publisher.state.integrations.commander = Some(commander);
    fixture.broker.recorded().capacity = Some(0);
    let command = |fixture: &mut Fixture, name: &str| {
        fixture.clock.advance(Duration::from_secs(1));
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

const YARD: &str = "homeassistant.discovery = true\nfrigate.events = true\npictures.publish = true\n\
                    [cameras.yard]\nsource = 'test://'\nregions.gate = {}\n";

#[test]
fn the_states_of_an_earlier_process_are_replaced_before_the_node_is_online() {
    let mut fixture = Fixture::with_config(YARD);
    fixture.connect();
    let expected = ["yard/occupancy", "yard/regions/gate", "yard/status", "porch/status"];
    let recorded = fixture.broker.recorded().published.clone();
    let topics: Vec<&str> = recorded.iter().map(|(topic, ..)| topic.as_str()).take(4).collect();
    assert!(topics.iter().zip(expected).all(|(topic, ending)| topic.ends_with(ending)), "{topics:?}");
    assert!(recorded[..4].iter().all(|(_, retained, _)| *retained));
    let json = |payload: &[u8]| serde_json::from_slice::<Value>(payload).unwrap();
    assert_eq!(json(&recorded[0].2)["total"], 0);
    assert_eq!(
        (&json(&recorded[1].2)["state"], &json(&recorded[2].2)["state"]),
        (&json!("unknown"), &json!("starting"))
    );
    assert_eq!(json(&recorded[0].2).get("seq"), None, "a state is not durable");
}

#[test]
fn after_an_outage_states_are_sent_once_as_they_are_and_the_history_has_their_changes() {
    let mut fixture = Fixture::with_config(YARD);
    fixture.connect();
    fixture.acknowledge();
    fixture.lose_connection();
    fixture.clear_published();
    (1..=8).for_each(|number| fixture.publish_occupancy(number % 2));
    fixture.connect();
    let occupancies = fixture.published_on(&["yard/occupancy"]);
    assert_eq!(occupancies.iter().map(|(_, message)| &message["total"]).collect::<Vec<_>>(), [0]);
    let history = fixture.published_on(&["yard/history"]);
    let totals: Vec<&Value> = history.iter().map(|(_, message)| &message["state"]["total"]).collect();
    assert_eq!(totals, [1, 0, 1, 0, 1, 0, 1, 0]);
    assert_eq!((&history[7].1["topic"], &history[7].1["seq"]), (&json!("occupancy"), &json!(8)));
}

#[test]
fn a_picture_is_published_before_its_event_also_after_an_outage() {
    let mut fixture = Fixture::with_config(YARD);
    let endings = ["yard/picture", "yard/events", "events/live", "frigate/events"];
    let order = |fixture: &mut Fixture| {
        fixture.acknowledge();
        let published = fixture.published_on(&endings);
        published
            .into_iter()
            .map(|(ending, message)| {
                let id = message["id"].as_str().or(message["after"]["id"].as_str());
                (ending, id.map_or(message.to_string(), str::to_string))
            })
            .collect::<Vec<_>>()
    };
    let expected = [
        ("yard/picture", "3".to_string()),
        ("events/live", "one".into()),
        ("frigate/events", "one".into()),
        ("yard/picture", "5".into()),
        ("events/live", "three".into()),
        ("frigate/events", "three".into()),
        ("yard/events", "one".into()),
        ("yard/events", "three".into()),
    ];
    fixture.connect();
    fixture.acknowledge();
    fixture.clear_published();
    for id in ["one", "three"] {
        fixture.publish_event(id, EventType::Start);
    }
    fixture.publisher.tick();
    assert_eq!(order(&mut fixture), expected);
    fixture.acknowledge();
    fixture.lose_connection();
    fixture.clear_published();
    for id in ["one", "three"] {
        fixture.publish_event(id, EventType::Update);
    }
    fixture.connect();
    // The durable events of the last seconds are repeated.
    let live = order(&mut fixture);
    assert_eq!(live[..6], expected[..6]);
}

#[test]
fn live_events_are_neither_late_nor_repeated() {
    let mut fixture = Fixture::with_config(YARD);
    fixture.connect();
    fixture.acknowledge();
    fixture.publish_event("acknowledged", EventType::Start);
    fixture.publisher.tick();
    fixture.acknowledge();
    fixture.publish_event("unacknowledged", EventType::Start);
    fixture.publisher.tick();
    fixture.send();
    fixture.emit(LinkEvent::Failed { why: "gone".into(), refused: false });
    fixture.clock.advance(Duration::from_secs(4));
    fixture.publish_event("meanwhile", EventType::Start);
    fixture.clock.advance(Duration::from_secs(1));
    fixture.clear_published();
    fixture.connect();
    // What was in flight is sent one by one first.
    (0..9).for_each(|_| drop(fixture.acknowledge()));
    let live = fixture.published_on(&["events/live"]);
    let seen: Vec<_> = live
        .iter()
        .map(|(_, event)| {
            (event["id"].as_str().unwrap(), event["age_s"].as_f64().unwrap(), &event["replayed"])
        })
        .collect();
    let replayed = json!(true);
    assert_eq!(seen, [("unacknowledged", 7.0, &replayed), ("meanwhile", 3.0, &replayed)]);
    assert_eq!(live[0].1["new_labels"], json!(["animal", "cat"]));
    assert!(live[0].1["uid"].as_str().unwrap().ends_with("-yard-2"), "the sequence of the durable event");
    fixture.acknowledge();
    fixture.publish_event("now", EventType::Start);
    fixture.publisher.tick();
    fixture.publish_event("now", EventType::Update);
    fixture.publisher.tick();
    let live = fixture.published_on(&["events/live"]);
    assert_eq!((&live[2].1["replayed"], &live[2].1["age_s"]), (&json!(false), &json!(0.0)));
    let new_labels = live[2..].iter().map(|(_, event)| event["new_labels"].clone()).collect::<Vec<_>>();
    assert_eq!(new_labels, [json!(["animal", "cat"]), json!([])], "each label once");

    // An outage of a minute: only the durable topic gets what happened at its beginning.
    fixture.acknowledge();
    fixture.emit(LinkEvent::Failed { why: "gone".into(), refused: false });
    fixture.publish_event("late", EventType::Start);
    fixture.clock.advance(Duration::from_secs(60));
    fixture.publisher.tick();
    fixture.clear_published();
    fixture.connect();
    assert_eq!(fixture.published_on(&["events/live", "frigate/events"]), []);
    let durable = fixture.published_on(&["yard/events"]);
    assert_eq!(durable.last().unwrap().1["id"], "late");
}

#[test]
fn live_messages_that_end_every_connection_are_given_up() {
    let mut fixture = Fixture::with_config(YARD);
    for number in 0..5 {
        fixture.publish_event(&format!("{number}"), EventType::Start);
        fixture.connect();
        // Everything else is delivered.
        let unsent = fixture.unsent();
        let ids = fixture.send();
        for ((topic, ..), id) in unsent.iter().zip(ids) {
            if topic != "frigate/events" {
                fixture.emit(LinkEvent::Acknowledged(id));
            }
        }
        fixture.publisher.tick();
        assert!(!fixture.published_on(&["frigate/events"]).is_empty(), "connection {number}");
        fixture.lose_connection();
        fixture.clear_published();
    }
    fixture.publish_event("last", EventType::Start);
    fixture.connect();
    let live = fixture.published_on(&["frigate/events", "events/live"]);
    assert_eq!(live.iter().map(|(ending, _)| *ending).collect::<Vec<_>>(), ["events/live"]);
}

#[test]
fn objects_in_view_at_a_kill_are_ended_by_the_next_process() {
    let folder = tempfile::tempdir().unwrap();
    let config = |camera: &str| {
        let file = folder.path().join("outbox.db");
        format!("outbox.file = '{}'\n{}", file.display(), YARD.replace("yard", camera))
    };
    let mut killed = Fixture::with_config(&config("yard"));
    for (id, kind) in [("a", EventType::Start), ("b", EventType::Start), ("a", EventType::End)] {
        killed.publish_event(id, kind);
    }
    killed.publisher.tick();
    killed.publish_event("b", EventType::Update);
    // This one has written its state, the later ones only their rows.
    killed.clock.advance(Duration::from_secs(2));
    killed.publisher.tick();
    killed.publish_event("c", EventType::Start);
    killed.publisher.tick();
    drop(killed);

    let mut next = Fixture::with_config(&config("drive"));
    next.connect();
    let live = next.published_on(&["yard/events/live", "frigate/events"]);
    let ended = |kind: &str| -> Vec<&Value> {
        live.iter().filter(|(ending, _)| *ending == kind).map(|(_, event)| event).collect()
    };
    let ids: Vec<_> = ended("yard/events/live").iter().map(|event| event["id"].clone()).collect();
    assert_eq!(ids, ["b", "c"]);
    assert!(ended("yard/events/live").iter().all(|event| event["new_labels"] == json!([])), "it is over");
    assert_eq!(ended("frigate/events").len(), 2);
    let durable = next.published_on(&["yard/events"]);
    let ends: Vec<_> =
        durable.iter().filter(|(_, event)| event["type"] == "end").map(|(_, event)| event).collect();
    let ends: Vec<_> = ends.iter().map(|event| (event["id"].clone(), event["reason"].clone())).collect();
    assert_eq!(ends[0], (json!("a"), json!("lost")));
    assert_eq!(ends[1..], ["b", "c"].map(|id| (json!(id), json!("interrupted"))));
    while next.publisher.state.outbox.waiting() > 0 {
        next.acknowledge();
    }
    drop(next);
    let mut third = Fixture::with_config(&config("drive"));
    third.connect();
    assert_eq!(third.published_on(&["yard/events/live"]), [], "once");
}

#[test]
fn what_a_node_no_longer_has_is_removed_until_the_broker_has_acknowledged_it() {
    let folder = tempfile::tempdir().unwrap();
    let config = |more: &str| format!("outbox.file = '{}'\n{more}", folder.path().join("o.db").display());
    let mut first = Fixture::with_config(&config(YARD));
    first.connect();
    first.publish_event("a", EventType::Start);
    first.publisher.tick();
    drop(first);

    let drive = YARD.replace("yard", "drive").replace("pictures.publish = true", "");
    let removed = |fixture: &Fixture| -> BTreeSet<String> {
        let recorded = fixture.broker.recorded();
        let removals =
            recorded.published.iter().filter(|(_, retained, payload)| *retained && payload.is_empty());
        removals.map(|(topic, ..)| topic.trim_start_matches("camfire/porch/").to_string()).collect()
    };
    let expected = ["yard/occupancy", "yard/picture", "yard/regions/gate", "yard/status"];
    for is_acknowledged in [false, true] {
        let mut next = Fixture::with_config(&config(&drive));
        next.connect();
        next.publisher.tick();
        assert_eq!(removed(&next).iter().collect::<Vec<_>>(), expected);
        while is_acknowledged && !next.unsent().is_empty() {
            next.acknowledge();
        }
    }
    let mut last = Fixture::with_config(&config(&drive));
    last.connect();
    assert_eq!(removed(&last), BTreeSet::new());
}
