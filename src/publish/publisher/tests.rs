//! The publisher with a broker that a test plays, and time that it sets.

use super::*;
use crate::{
    clock::SimulatedClock,
    config::{Durability, Inputs, Main},
    vision::motion::SceneChange,
    wire::messages::{Picture, SceneChanged},
};
use std::{collections::BTreeSet, sync::Mutex};

/// A broker that a test plays.
#[derive(Clone, Default)]
struct Played(Arc<Mutex<Board>>);

#[derive(Default)]
struct Board {
    dialled: Vec<usize>,
    published: Vec<(String, bool, Vec<u8>)>,
    room: Option<usize>,
}

impl Dialer for Played {
    fn brokers(&self) -> usize {
        2
    }

    fn name(&self, broker: usize) -> String {
        format!("broker-{broker}")
    }

    fn dial(&mut self, broker: usize, _: u64) -> Result<Box<dyn Connection>, String> {
        self.0.lock().unwrap().dialled.push(broker);
        Ok(Box::new(self.clone()))
    }
}

impl Connection for Played {
    fn publish(&mut self, topic: &str, _: bool, retained: bool, payload: &[u8]) -> bool {
        let mut board = self.0.lock().unwrap();
        let has_room = board.room != Some(0);
        board.room = board.room.map(|room| room.saturating_sub(1));
        if has_room {
            board.published.push((topic.into(), retained, payload.into()));
        }
        has_room
    }

    fn subscribe(&mut self, _: &[String]) -> bool {
        true
    }

    fn disconnect(&mut self) -> bool {
        true
    }
}

struct Stage {
    state: PublisherState,
    played: Played,
    clock: Arc<SimulatedClock>,
    /// Ids are given in order.
    last_id: u16,
    /// Of what was published, so much was sent.
    sent: usize,
}

impl Stage {
    fn new() -> Stage {
        let main =
            Main::Text { name: "t".into(), text: "node.name = 'porch'\nmqtt.max_packet_kib = 4".into() };
        let config = crate::config::load(&Inputs { main, ..Default::default() }).unwrap().config;
        assert_eq!(config.outbox.durability, Durability::Grouped);
        let (played, clock) = (Played::default(), Arc::new(SimulatedClock::new()));
        let (_, happened) = crossbeam_channel::unbounded();
        let (_, messages) = crate::queue::messages::messages(1, |_| true);
        let publisher = Publisher {
            node: "porch".into(),
            topics: Topics::new(&config),
            config: config.mqtt,
            outbox: config.outbox,
            messages,
            dialer: Box::new(played.clone()),
            happened,
            counters: Arc::default(),
            commander: None,
            discovery: BTreeMap::new(),
            birth_topic: None,
            frigate_topic: None,
            clock: clock.clone(),
            heartbeat: Heartbeat::new("publish", Duration::ZERO),
        };
        Stage { state: publisher.state(), played, clock, last_id: 0, sent: 0 }
    }

    fn say(&mut self, count: usize) {
        for _ in 0..count {
            self.state.take_in(Message::Scene(SceneChanged {
                header: Header::new("porch".into(), Some("yard".into())),
                at: self.clock.now(),
                change: SceneChange::Light,
            }));
        }
        self.state.turn();
    }

    fn connect(&mut self) {
        self.state.connect_if_due();
        self.sent = self.played.0.lock().unwrap().published.len();
        self.tell(LinkEvent::Connected);
        self.clock.advance(RETURN_PAUSE);
        self.state.turn();
    }

    fn tell(&mut self, happened: LinkEvent) {
        self.state.react(self.state.connection, happened);
    }

    /// The broker has got what was published since the last call, and acknowledges it.
    fn acknowledge(&mut self) -> Vec<String> {
        let ids = self.send();
        for id in ids.clone() {
            self.tell(LinkEvent::Acknowledged(id));
        }
        let published = self.played.0.lock().unwrap().published.clone();
        self.state.turn();
        published[self.sent - ids.len()..self.sent].iter().map(|(topic, ..)| topic.clone()).collect()
    }

    /// So many seconds, with a message in each.
    fn live(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.say(1);
            self.acknowledge();
            self.clock.advance(Duration::from_secs(1));
            self.state.turn();
        }
    }

    /// The next connection begins with nothing in sight.
    fn look_away(&mut self) {
        self.played.0.lock().unwrap().published.clear();
        self.sent = 0;
    }

    /// What was published goes out; its ids.
    fn send(&mut self) -> Vec<u16> {
        let count = self.played.0.lock().unwrap().published.len() - self.sent;
        self.sent += count;
        (0..count)
            .map(|_| {
                self.last_id += 1;
                self.tell(LinkEvent::Sent(self.last_id));
                self.last_id
            })
            .collect()
    }

    fn lose(&mut self) {
        self.tell(LinkEvent::Failed { why: "gone".into(), refused: false });
        self.clock.advance(Duration::from_secs(60));
        self.state.turn();
    }

    /// Numbers of the scene messages since the connection was made.
    fn seqs(&self) -> Vec<u64> {
        let board = self.played.0.lock().unwrap();
        let of = |payload: &[u8]| -> u64 {
            serde_json::from_slice::<serde_json::Value>(payload).unwrap()["seq"].as_u64().unwrap()
        };
        board.published.iter().filter(|(topic, ..)| topic.ends_with("/scene")).map(|(.., p)| of(p)).collect()
    }
}

#[test]
fn what_was_said_while_nobody_was_there_arrives_in_order() {
    let mut stage = Stage::new();
    stage.say(250);
    assert_eq!(stage.state.outbox.waiting(), 250);
    stage.connect();
    assert_eq!(stage.seqs().len(), WINDOW - 1, "with the greeting");
    while stage.state.outbox.waiting() > 0 {
        stage.acknowledge();
    }
    assert_eq!(stage.seqs(), (1..=250).collect::<Vec<_>>());
    assert_eq!(stage.state.counters.acknowledged.load(Ordering::Relaxed), 250);
}

#[test]
fn acknowledgements_out_of_order_move_the_cursor_only_over_what_is_whole() {
    let mut stage = Stage::new();
    stage.say(3);
    stage.connect();
    let ids = stage.send();
    stage.tell(LinkEvent::Acknowledged(ids[3]));
    stage.tell(LinkEvent::Acknowledged(ids[1]));
    assert_eq!(stage.state.outbox.cursor(), 1);
    stage.tell(LinkEvent::Acknowledged(ids[2]));
    assert_eq!(stage.state.outbox.cursor(), 3);
}

#[test]
fn the_last_seconds_are_sent_again_after_a_bad_end_and_only_then() {
    let mut stage = Stage::new();
    stage.connect();
    stage.live(10);
    stage.look_away();
    // Word of a connection that was given up long ago.
    stage.state.react(0, LinkEvent::Failed { why: "old".into(), refused: false });
    assert!(matches!(stage.state.link, Link::Session(_)));
    stage.lose();
    stage.connect();
    let again = stage.seqs();
    assert!((5..=6).contains(&again.len()) && again.last() == Some(&10), "{again:?}");
}

#[test]
fn brokers_are_tried_in_turn_and_a_silent_one_is_left() {
    let mut stage = Stage::new();
    stage.say(1);
    stage.connect();
    stage.send();
    stage.clock.advance(PATIENCE);
    stage.state.turn();
    assert!(matches!(stage.state.link, Link::Down { .. }));
    stage.clock.advance(Duration::from_secs(60));
    stage.connect();
    assert_eq!(stage.played.0.lock().unwrap().dialled, [0, 1]);
    stage.acknowledge();
    assert_eq!(stage.seqs(), [1, 1], "once the greeting has passed");
}

#[test]
fn a_message_that_ends_every_connection_is_given_up_and_told_as_a_gap() {
    let mut stage = Stage::new();
    stage.say(10);
    let (mut connections, mut gaps) = (0, Vec::new());
    let mut delivered = BTreeSet::new();
    let poison = 4;
    while stage.state.outbox.waiting() > 0 {
        connections += 1;
        assert!(connections < 20, "never ends");
        stage.played.0.lock().unwrap().published.clear();
        stage.connect();
        loop {
            // The broker dies of it, and acknowledges what came before.
            let board: Vec<_> = stage.played.0.lock().unwrap().published[stage.sent..].to_vec();
            if board.is_empty() {
                break;
            }
            let is_poison = |payload: &[u8]| {
                serde_json::from_slice::<serde_json::Value>(payload).is_ok_and(|v| v["seq"] == poison)
            };
            let ids = stage.send();
            let mut died = false;
            for ((topic, _, payload), id) in board.iter().zip(ids) {
                died = is_poison(payload);
                if died {
                    break;
                }
                let said: serde_json::Value = serde_json::from_slice(payload).unwrap_or_default();
                gaps.extend(topic.ends_with("/yard/gap").then(|| said.clone()));
                delivered.extend(said["seq"].as_u64());
                stage.tell(LinkEvent::Acknowledged(id));
            }
            if died {
                stage.lose();
                break;
            }
            stage.state.turn();
        }
    }
    assert_eq!(stage.state.outbox.lost(), 1);
    assert_eq!(delivered, (1..=10).filter(|seq| *seq != poison).collect());
    assert_eq!(gaps.len(), 1);
    let told = ["first_seq", "last_seq", "count"].map(|key| gaps[0][key].as_u64());
    assert_eq!(told, [Some(poison), Some(poison), Some(1)]);
    assert!(stage.state.outbox.gaps().is_empty());
}

#[test]
fn a_state_that_ends_every_connection_is_found_among_others() {
    let mut stage = Stage::new();
    for (camera, len) in [("barn", 900), ("door", 5000), ("yard", 900)] {
        stage.state.take_in(Message::Picture(Picture { camera: camera.into(), jpeg: vec![0; len] }));
    }
    stage.state.limit = 10_000;
    let mut connections = 0;
    while stage.state.states.len() == 3 {
        connections += 1;
        assert!(connections < 12, "never ends");
        // Events go on meanwhile, and there is a backlog.
        stage.say(150);
        stage.connect();
        let is_dead = loop {
            let board: Vec<_> = stage.played.0.lock().unwrap().published[stage.sent..].to_vec();
            if board.is_empty() {
                break false;
            }
            let ids = stage.send();
            let taken = board.iter().take_while(|(topic, ..)| !topic.ends_with("/door/picture")).count();
            for id in &ids[..taken] {
                stage.tell(LinkEvent::Acknowledged(*id));
            }
            if taken < ids.len() {
                break true;
            }
            stage.state.turn();
        };
        assert!(is_dead, "the picture is tried");
        stage.lose();
    }
    assert!(!stage.state.states.keys().any(|topic| topic.contains("door")));
    assert!(stage.state.limit < 5100, "it has taught a size: {}", stage.state.limit);
    assert_eq!(stage.state.outbox.lost(), 0);
}

#[test]
fn a_broker_that_comes_and_goes_costs_no_message() {
    let mut stage = Stage::new();
    stage.say(10);
    // It says yes and ends before anything is acknowledged, again and again.
    for _ in 0..20 {
        stage.connect();
        stage.send();
        stage.lose();
    }
    assert_eq!(stage.state.outbox.lost(), 0);
    stage.connect();
    while stage.state.outbox.waiting() > 0 {
        stage.acknowledge();
    }
}

#[test]
fn states_are_told_to_every_connection_once_and_pictures_too_large_to_none() {
    let mut stage = Stage::new();
    let picture = |len: usize| Message::Picture(Picture { camera: "yard".into(), jpeg: vec![0; len] });
    stage.state.take_in(picture(1000));
    for _ in 0..2 {
        stage.connect();
        stage.acknowledge();
        stage.acknowledge();
        let pictures = |stage: &Stage| {
            let board = stage.played.0.lock().unwrap();
            board
                .published
                .iter()
                .filter(|(topic, retained, _)| topic.ends_with("/picture") && *retained)
                .count()
        };
        assert_eq!(pictures(&stage), 1);
        stage.state.turn();
        assert_eq!(pictures(&stage), 1);
        stage.lose();
        stage.played.0.lock().unwrap().published.clear();
    }
    stage.state.take_in(picture(5000));
    stage.connect();
    stage.acknowledge();
    assert_eq!(stage.played.0.lock().unwrap().published.len(), 1, "the greeting");
}

#[test]
fn who_commands_faster_than_answers_go_out_is_not_obeyed() {
    let mut stage = Stage::new();
    stage.connect();
    stage.acknowledge();
    let control = Arc::default();
    stage.state.commander = Some(Commander {
        node: "porch".into(),
        cameras: [].into(),
        control: Arc::clone(&control),
        max_bytes: 4096,
    });
    stage.played.0.lock().unwrap().room = Some(0);
    let ask = |stage: &mut Stage, what: &str| {
        let payload = format!("{{\"do\": \"{what}\"}}").into_bytes();
        stage.tell(LinkEvent::Received { topic: "camfire/porch/command".into(), retained: false, payload });
        stage.state.turn();
    };
    for _ in 0..MOST_ANSWERS {
        ask(&mut stage, "reload");
    }
    ask(&mut stage, "stats");
    assert!(!control.take_stats_request(), "one too many");
    stage.played.0.lock().unwrap().room = None;
    stage.state.turn();
    let answers = stage.acknowledge();
    assert_eq!(answers.iter().filter(|topic| *topic == "camfire/porch/answer").count(), MOST_ANSWERS);
    ask(&mut stage, "stats");
    assert!(control.take_stats_request());
}

#[test]
fn a_broker_that_is_missed_late_gets_the_seconds_before_it_fell_silent() {
    let mut stage = Stage::new();
    stage.connect();
    stage.live(10);
    // It has died; nobody notices for a minute.
    for _ in 0..240 {
        stage.clock.advance(Duration::from_millis(250));
        stage.state.turn();
    }
    stage.look_away();
    stage.lose();
    stage.connect();
    let again = stage.seqs();
    assert!((5..=6).contains(&again.len()) && again.last() == Some(&10), "{again:?}");
    // One that answers to pings meanwhile has kept what it had.
    stage.acknowledge();
    stage.clock.advance(Duration::from_secs(60));
    stage.tell(LinkEvent::Alive);
    stage.state.turn();
    stage.look_away();
    stage.lose();
    stage.connect();
    assert_eq!(stage.seqs(), [] as [u64; 0]);
}

#[test]
fn a_goodbye_that_is_not_answered_repeats_the_last_seconds_and_no_more() {
    let mut stage = Stage::new();
    stage.connect();
    stage.live(60);
    assert_eq!(stage.state.outbox.cursor(), 60);
    assert!((54..=56).contains(&stage.state.resume_point()), "{}", stage.state.resume_point());
    stage.say(1);
    stage.send();
    stage.clock.advance(Duration::from_secs(1));
    stage.state.turn();
    assert!((54..=57).contains(&stage.state.resume_point()), "{}", stage.state.resume_point());
}

#[test]
fn a_removal_is_told_until_it_has_arrived() {
    let mut stage = Stage::new();
    let (node, yard) = ("homeassistant/device/node/config", "homeassistant/device/yard/config");
    stage.state.discovery = [node, yard].map(|topic| (topic.to_string(), b"{}".to_vec())).into();
    stage.connect();
    stage.acknowledge();
    stage.acknowledge();
    assert_eq!(stage.state.outbox.remembered().len(), 2);
    // The camera goes; the connection is lost before that was said, and once more before it was acknowledged.
    stage.state.discovery.remove(yard);
    stage.lose();
    stage.played.0.lock().unwrap().room = Some(0);
    stage.connect();
    stage.lose();
    stage.played.0.lock().unwrap().room = None;
    for has_arrived in [false, true, true] {
        stage.played.0.lock().unwrap().published.clear();
        stage.connect();
        stage.state.turn();
        let removed = |(topic, retained, payload): &(String, bool, Vec<u8>)| {
            topic == yard && *retained && payload.is_empty()
        };
        let is_told = stage.played.0.lock().unwrap().published.iter().any(removed);
        assert_eq!(is_told, stage.state.outbox.remembered().contains_key(yard));
        if has_arrived {
            stage.acknowledge();
            stage.acknowledge();
            assert_eq!(stage.state.outbox.remembered().keys().collect::<Vec<_>>(), [node]);
        }
        stage.lose();
    }
}

#[test]
fn a_picture_on_which_a_connection_ended_does_not_hold_up_the_backlog() {
    let mut stage = Stage::new();
    stage.state.take_in(Message::Picture(Picture { camera: "yard".into(), jpeg: vec![0; 1000] }));
    stage.connect();
    stage.send();
    stage.lose();
    stage.say(250);
    stage.played.0.lock().unwrap().published.clear();
    stage.connect();
    stage.acknowledge();
    assert!(stage.seqs().len() >= WINDOW, "rows are not suspected: {}", stage.seqs().len());
    while stage.state.outbox.waiting() > 0 {
        stage.acknowledge();
    }
    stage.acknowledge();
    assert!(!stage.state.poison.is_any(), "the picture has passed");
    let told = stage
        .played
        .0
        .lock()
        .unwrap()
        .published
        .iter()
        .filter(|(topic, ..)| topic.ends_with("/picture"))
        .count();
    assert_eq!(told, 1);
}
