//! `camfire simulate`: many boards on a broker, with real connections and outboxes and invented events. To find out what a
//! broker or a cluster takes, and that nothing is lost, before there are a thousand cameras.

use super::{
    output,
    setup::{self, ConfigArguments, Signals},
};
use crate::{
    clock::{Clock, SystemClock},
    config::{self, Config, LogLevel},
    counters::{DeliveryCounters, Percentiles},
    error::{Error, ErrorKind},
    lifecycle::Heartbeat,
    publish::{mqtt::connection, publisher::Publisher},
    queue::{self, messages::MessageSender},
    wire::{
        messages::{Best, Event, EventType, Header, Message},
        topics::Topics,
    },
};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, atomic::Ordering},
    thread::{self, JoinHandle},
    time::Duration,
};
use uuid::{Builder, Uuid};

/// Arguments of `camfire simulate`.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  camfire simulate --boards 50 --rate 100 --events 10000 --set mqtt.host=broker.lan"
)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Boards, each with a connection and an outbox of its own: NODE-1, NODE-2 ...
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    boards: u32,
    /// Cameras of each board
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    cameras: u32,
    /// Events a second, of all boards together
    #[arg(long, value_name = "N", default_value_t = 10.0, value_parser = rate)]
    rate: f64,
    /// Events of all boards together; without end unless given
    #[arg(long, value_name = "N")]
    events: Option<u64>,
    /// Where the outboxes are kept, a file each; in memory unless given
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// How long to wait at the end for what is not acknowledged
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = config::parse_duration)]
    patience: Duration,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (1e-3..=1e6).contains(rate));
    rate.ok_or_else(|| "must be a number from 0.001 to 1000000".to_string())
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Outcome {
    boards: u32,
    /// Events that were made.
    made: u64,
    accepted: u64,
    sent: u64,
    acknowledged: u64,
    lost: u64,
    waiting: u64,
    /// Connections that stood.
    connections: u64,
    elapsed_s: f64,
    /// Acknowledged, from first to last.
    events_per_s: f64,
    disk_bytes: u64,
    /// From the making of an event to its acknowledgement.
    ack_latency_ms: Option<Percentiles>,
}

/// A board that is not there.
struct Board {
    node: Arc<str>,
    messages: MessageSender<Message>,
    counters: Arc<DeliveryCounters>,
    threads: Vec<JoinHandle<()>>,
}

/// Runs until all events are acknowledged, or a signal comes.
pub fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    let mut signals = Signals::catch()?;
    let loaded = arguments.config.load()?;
    // A thousand boards that are connected are no news.
    let level = match loaded.config.log.level {
        LogLevel::Info => LogLevel::Warn,
        level => level,
    };
    setup::start_log(level);
    if let Some(folder) = &arguments.state {
        std::fs::create_dir_all(folder)
            .map_err(|e| Error::caused(ErrorKind::Input, format!("--state {}", folder.display()), e))?;
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let boards = (1..=arguments.boards)
        .map(|number| start(&loaded.config, number, arguments.state.as_deref(), &clock))
        .collect::<Result<Vec<Board>, Error>>()?;
    let started = clock.monotonic();
    let (mut made, mut stories) = (0, BTreeMap::new());
    let mut is_interrupted = false;
    while !is_interrupted && arguments.events.is_none_or(|events| made < events) {
        let due = ((clock.monotonic() - started).as_secs_f64() * arguments.rate) as u64;
        while made < due && arguments.events.is_none_or(|events| made < events) {
            let board = &boards[(made % u64::from(arguments.boards)) as usize];
            let camera = made / u64::from(arguments.boards) % u64::from(arguments.cameras);
            board.messages.send(Message::Event(invent(board, camera, &mut stories, clock.as_ref())));
            made += 1;
        }
        is_interrupted = signals.wait(Duration::from_millis(1));
    }
    eprintln!("Everything is made: {made} events. Waiting for acknowledgements.");
    let deadline = clock.monotonic() + arguments.patience;
    let sum =
        |count: fn(&DeliveryCounters) -> u64| boards.iter().map(|board| count(&board.counters)).sum::<u64>();
    let is_done = || {
        sum(|counters| counters.accepted.load(Ordering::Relaxed)) >= made
            && sum(|counters| counters.waiting.load(Ordering::Relaxed)) == 0
    };
    while !is_interrupted && !is_done() && clock.monotonic() < deadline {
        is_interrupted = signals.wait(Duration::from_millis(5));
    }
    let elapsed_s = (clock.monotonic() - started).as_secs_f64();
    let histograms = boards.iter().filter_map(|board| board.counters.take_ack_latency());
    let outcome = Outcome {
        boards: arguments.boards,
        made,
        accepted: sum(|counters| counters.accepted.load(Ordering::Relaxed)),
        sent: sum(|counters| counters.sent.load(Ordering::Relaxed)),
        acknowledged: sum(|counters| counters.acknowledged.load(Ordering::Relaxed)),
        lost: sum(|counters| counters.lost.load(Ordering::Relaxed)),
        waiting: sum(|counters| counters.waiting.load(Ordering::Relaxed)),
        connections: sum(|counters| counters.connections.load(Ordering::Relaxed)),
        elapsed_s,
        events_per_s: sum(|counters| counters.acknowledged.load(Ordering::Relaxed)) as f64 / elapsed_s,
        disk_bytes: sum(|counters| counters.disk_bytes.load(Ordering::Relaxed)),
        // Of many boards the worst of each.
        ack_latency_ms: histograms.reduce(|a, b| Percentiles {
            p50: a.p50.max(b.p50),
            p95: a.p95.max(b.p95),
            p99: a.p99.max(b.p99),
        }),
    };
    // The publishers end when the last sender is gone.
    let threads: Vec<JoinHandle<()>> = boards.into_iter().flat_map(|board| board.threads).collect();
    for thread in threads {
        let _ = thread.join();
    }
    tell(&outcome, arguments.json);
    let all_arrived = outcome.waiting == 0 && outcome.lost == 0;
    Ok(if all_arrived { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn start(config: &Config, number: u32, state: Option<&Path>, clock: &Arc<dyn Clock>) -> Result<Board, Error> {
    // A board needs little more than its buffers.
    const STACK_BYTES: usize = 256 << 10;
    let mut config = config.clone();
    config.node.name = format!("{}-{number}", config.node.name);
    config.mqtt.client_id = format!("{}-{number}", config.mqtt.client_id);
    // As docs/fleet.md has it: not all boards are to be at the same broker, nor to come to the same one when that is gone.
    let brokers = config.mqtt.brokers.len();
    config.mqtt.brokers.rotate_left((number - 1) as usize % brokers);
    config.outbox.file = state.map(|folder| folder.join(format!("{}.db", config.node.name)));
    let topics = Topics::new(&config);
    let (dialer, pump, happened) = connection::connections(config.mqtt.clone(), &topics);
    let (sender, messages) = queue::messages::messages(16, Message::is_durable);
    let (node, counters): (Arc<str>, Arc<DeliveryCounters>) =
        (config.node.name.as_str().into(), Arc::default());
    let publisher = Publisher {
        node: node.clone(),
        config: config.mqtt,
        outbox: config.outbox,
        messages,
        dialer: Box::new(dialer),
        happened,
        counters: counters.clone(),
        commander: None,
        discovery: BTreeMap::new(),
        birth_topic: None,
        frigate_topic: None,
        topics,
        clock: clock.clone(),
        heartbeat: Heartbeat::new("publish", clock.monotonic()),
    };
    let spawn = |work: Box<dyn FnOnce() + Send>| {
        let thread = thread::Builder::new().name(node.to_string()).stack_size(STACK_BYTES);
        thread.spawn(work).map_err(|e| Error::caused(ErrorKind::System, format!("no thread for {node}"), e))
    };
    let pump = move || {
        if let Err(error) = pump.run() {
            tracing::error!(%error, "No broker can be reached.");
        }
    };
    let threads = vec![spawn(Box::new(move || publisher.run()))?, spawn(Box::new(pump))?];
    Ok(Board { node, messages: sender, counters, threads })
}

/// The next event of a camera: a thing comes, is recognised, goes.
fn invent(
    board: &Board,
    camera: u64,
    stories: &mut BTreeMap<(Arc<str>, u64), (Uuid, jiff::Timestamp, u32)>,
    clock: &dyn Clock,
) -> Event {
    let at = clock.now();
    let fresh = || {
        let random = fastrand::u128(..).to_be_bytes();
        let random = random.first_chunk().expect("16 bytes are more than 10");
        Builder::from_unix_timestamp_millis(at.as_millisecond() as u64, random).into_uuid()
    };
    let story = stories.entry((board.node.clone(), camera)).or_insert_with(|| (fresh(), at, 0));
    let (id, started_at, step) = *story;
    let kind = [EventType::Start, EventType::Update, EventType::End][step as usize];
    *story = if step == 2 { (fresh(), at, 0) } else { (id, started_at, step + 1) };
    Event {
        header: Header::new(board.node.clone(), Some(format!("camera-{}", camera + 1).into())),
        id: id.to_string(),
        kind,
        changed: Vec::new(),
        reason: None,
        at,
        started_at,
        seen_at: at,
        duration_s: at.duration_since(started_at).as_secs_f64(),
        label: "cat".into(),
        score: 0.8125,
        size: [1280, 720],
        r#box: [120, 200, 310, 240],
        moving: true,
        zones: vec!["lawn".into()],
        visited_zones: vec!["lawn".into()],
        best: Best { at, r#box: [120, 200, 310, 240], pictures: None },
        captured: Some(clock.monotonic()),
    }
}

fn tell(outcome: &Outcome, json: bool) {
    if json {
        output::line!("{}", serde_json::to_string(outcome).unwrap_or_default());
        return;
    }
    let Outcome { boards, made, acknowledged, sent, lost, waiting, .. } = outcome;
    output::line!("{boards} boards, {made} events in {:.1} s", outcome.elapsed_s);
    output::line!(
        "acknowledged  {acknowledged}, {:.0} a second; {sent} sent, repeats counted",
        outcome.events_per_s
    );
    output::line!("lost          {lost}; {waiting} still waiting");
    output::line!("connections   {}", outcome.connections);
    if let Some(Percentiles { p50, p95, p99 }) = outcome.ack_latency_ms {
        output::line!(
            "acknowledged after  {p50:.1} ms in the middle, {p95:.1} ms for 95 %, {p99:.1} ms for 99 %"
        );
    }
    output::line!("written       {:.1} MB", outcome.disk_bytes as f64 / 1e6);
}
