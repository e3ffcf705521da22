//! `camfire simulate`: simulates many devices that publish events to a broker, each with a real connection
//! and outbox. Shows the load that a broker or cluster can take, and that nothing is lost, before a fleet is
//! rolled out.

use super::{
    log, output,
    setup::{ConfigArguments, Signals},
};
use crate::{
    clock::{Clock, SystemClock},
    config::{self, Config, LogLevel},
    counters::{DeliveryCounters, Percentiles},
    error::{Error, ErrorKind},
    lifecycle::Heartbeat,
    publish::{
        mqtt::{connection, subscriber::Subscriber},
        publisher::{Integrations, Publisher, States},
    },
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

/// How long the broker may take to remove a retained message.
const RETRACT_TIMEOUT: Duration = Duration::from_secs(5);

/// Arguments of `camfire simulate`.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  camfire simulate --boards 50 --rate 100 --events 10000 --set mqtt.host=broker.lan"
)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Number of devices, each with its own connection and outbox: NODE-1, NODE-2 ...
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    boards: u32,
    /// Cameras per device
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    cameras: u32,
    /// Events per second, of all devices together
    #[arg(long, value_name = "N", default_value_t = 10.0, value_parser = rate)]
    rate: f64,
    /// Total number of events [default: unlimited]
    #[arg(long, value_name = "N")]
    events: Option<u64>,
    /// Directory for the outboxes, one file each [default: in memory]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// How long to wait at the end for acknowledgements
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = config::parse_duration)]
    patience: Duration,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (1e-3..=1e6).contains(rate));
    rate.ok_or_else(|| "must be a number from 0.001 to 1000000".to_string())
}

/// The result of a run.
#[derive(Debug, Serialize)]
struct Outcome {
    boards: u32,
    /// Generated events.
    made: u64,
    accepted: u64,
    sent: u64,
    acknowledged: u64,
    lost: u64,
    waiting: u64,
    /// Established connections.
    connections: u64,
    elapsed_s: f64,
    /// Acknowledged events per second over the whole run.
    events_per_s: f64,
    disk_bytes: u64,
    /// From the generation of an event to its acknowledgement. The worst device's percentiles.
    ack_latency_ms: Option<Percentiles>,
}

/// A simulated device.
struct Device {
    node: Arc<str>,
    messages: MessageSender<Message>,
    counters: Arc<DeliveryCounters>,
    threads: Vec<JoinHandle<()>>,
}

/// Runs until all events are acknowledged or a signal arrives.
pub fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    let mut signals = Signals::catch_all()?;
    let loaded = arguments.config.load()?;
    // Do not log every connection of every device.
    let level = match loaded.config.log.level {
        LogLevel::Info => LogLevel::Warn,
        level => level,
    };
    log::start(level);
    if let Some(folder) = &arguments.state {
        std::fs::create_dir_all(folder)
            .map_err(|e| Error::caused(ErrorKind::Input, format!("--state {}", folder.display()), e))?;
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let boards = (1..=arguments.boards)
        .map(|number| start(&loaded.config, number, arguments.state.as_deref(), &clock))
        .collect::<Result<Vec<Device>, Error>>()?;
    let started = clock.monotonic();
    let (mut made, mut objects) = (0, BTreeMap::new());
    let mut is_interrupted = false;
    while !is_interrupted && arguments.events.is_none_or(|events| made < events) {
        let due = ((clock.monotonic() - started).as_secs_f64() * arguments.rate) as u64;
        while made < due && arguments.events.is_none_or(|events| made < events) {
            let device = &boards[(made % u64::from(arguments.boards)) as usize];
            let camera = made / u64::from(arguments.boards) % u64::from(arguments.cameras);
            let event = next_event(device, camera, &mut objects, clock.as_ref());
            device.messages.send(Message::Event(event.into()));
            made += 1;
        }
        is_interrupted = signals.wait(Duration::from_millis(1));
    }
    let plural = if made == 1 { "" } else { "s" };
    output::note!("{made} event{plural} generated. Waiting for acknowledgements.");
    let deadline = clock.monotonic() + arguments.patience;
    let sum = |count: fn(&DeliveryCounters) -> u64| {
        boards.iter().map(|device| count(&device.counters)).sum::<u64>()
    };
    let is_done = || {
        sum(|counters| counters.accepted.load(Ordering::Relaxed)) >= made
            && sum(|counters| counters.waiting.load(Ordering::Relaxed)) == 0
    };
    while !is_interrupted && !is_done() && clock.monotonic() < deadline {
        is_interrupted = signals.wait(Duration::from_millis(5));
    }
    let elapsed_s = (clock.monotonic() - started).as_secs_f64();
    let histograms = boards.iter().filter_map(|device| device.counters.take_ack_latency());
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
        ack_latency_ms: histograms.reduce(|a, b| Percentiles {
            p50: a.p50.max(b.p50),
            p95: a.p95.max(b.p95),
            p99: a.p99.max(b.p99),
        }),
    };
    // The publishers end when the last sender is gone.
    let threads: Vec<JoinHandle<()>> = boards.into_iter().flat_map(|device| device.threads).collect();
    for thread in threads {
        let _ = thread.join();
    }
    retract(&loaded.config, arguments.boards);
    print_outcome(&outcome, arguments.json);
    let all_arrived = outcome.waiting == 0 && outcome.lost == 0;
    Ok(if all_arrived { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Removes what the simulated devices have left retained: nobody else would, as they never come back.
fn retract(config: &Config, boards: u32) {
    let topics: Vec<String> =
        (1..=boards).map(|number| Topics::new(&device_config(config, number)).node_status()).collect();
    // Brokers that are no cluster retain the states of their own devices each.
    for broker in 0..config.mqtt.brokers.len() {
        let mut mqtt = config.mqtt.clone();
        mqtt.brokers.rotate_left(broker);
        let retracted = Subscriber::connect(&mqtt, Vec::new())
            .and_then(|mut client| client.retract(&topics, RETRACT_TIMEOUT));
        if let Err(error) = retracted {
            output::note!("camfire: states of simulated devices stay retained: {error}");
        }
    }
}

/// The configuration of one device.
fn device_config(config: &Config, number: u32) -> Config {
    let mut config = config.clone();
    config.node.name = format!("{}-{number}", config.node.name);
    config.mqtt.client_id = format!("{}-{number}", config.mqtt.client_id);
    config
}

fn start(
    config: &Config,
    number: u32,
    state: Option<&Path>,
    clock: &Arc<dyn Clock>,
) -> Result<Device, Error> {
    // The threads of a device need little more than their buffers.
    const STACK_BYTES: usize = 256 << 10;
    let mut config = device_config(config, number);
    // Devices start with different brokers, so that they spread over a cluster and over the survivors of a
    // failure (docs/fleet.md).
    let brokers = config.mqtt.brokers.len();
    config.mqtt.brokers.rotate_left((number - 1) as usize % brokers);
    config.outbox.file = state.map(|folder| folder.join(format!("{}.db", config.node.name)));
    let topics = Topics::new(&config);
    let (dialer, event_loop, link_events) = connection::connections(config.mqtt.clone(), &topics);
    let (sender, messages) = queue::messages::messages(16, |message: &Message| message.is_essential(&[]));
    let (node, counters): (Arc<str>, Arc<DeliveryCounters>) =
        (config.node.name.as_str().into(), Arc::default());
    let publisher = Publisher {
        node: node.clone(),
        mqtt: config.mqtt,
        outbox: config.outbox,
        messages,
        dialer: Box::new(dialer),
        link_events,
        renewals: crossbeam_channel::never(),
        history: crossbeam_channel::never(),
        counters: counters.clone(),
        integrations: Integrations::default(),
        states: States { own_topics: [topics.node_status()].into(), initial: Vec::new() },
        topics,
        clock: clock.clone(),
        heartbeat: Heartbeat::new("publish", clock.monotonic()),
    };
    let spawn = |work: Box<dyn FnOnce() + Send>| {
        let thread = thread::Builder::new().name(node.to_string()).stack_size(STACK_BYTES);
        thread
            .spawn(work)
            .map_err(|e| Error::caused(ErrorKind::System, format!("cannot start a thread for {node}"), e))
    };
    let event_loop = move || {
        if let Err(error) = event_loop.run() {
            tracing::error!(%error, "The MQTT event loop failed; no broker can be reached.");
        }
    };
    let threads = vec![spawn(Box::new(move || publisher.run()))?, spawn(Box::new(event_loop))?];
    Ok(Device { node, messages: sender, counters, threads })
}

/// The next event of a simulated object: start, update, end.
fn next_event(
    device: &Device,
    camera: u64,
    objects: &mut BTreeMap<(Arc<str>, u64), (Uuid, jiff::Timestamp, u32)>,
    clock: &dyn Clock,
) -> Event {
    let at = clock.now();
    let new_id = || {
        let random = fastrand::u128(..).to_be_bytes();
        let random = random.first_chunk().expect("16 bytes are more than 10");
        Builder::from_unix_timestamp_millis(at.as_millisecond() as u64, random).into_uuid()
    };
    let object = objects.entry((device.node.clone(), camera)).or_insert_with(|| (new_id(), at, 0));
    let (id, started_at, step) = *object;
    let kind = [EventType::Start, EventType::Update, EventType::End][step as usize];
    *object = if step == 2 { (new_id(), at, 0) } else { (id, started_at, step + 1) };
    Event {
        header: Header::new(device.node.clone(), Some(format!("camera-{}", camera + 1).into())),
        id: id.to_string(),
        kind,
        changed: Vec::new(),
        reason: None,
        at,
        started_at,
        seen_at: at,
        duration_s: at.duration_since(started_at).as_secs_f64(),
        label: "cat".into(),
        label_path: vec!["animal".into(), "cat".into()],
        sub_label: Some("Egyptian cat".into()),
        score: 0.8125,
        size: [1280, 720],
        r#box: [120, 200, 310, 240],
        moving: true,
        zones: vec!["lawn".into()],
        visited_zones: vec!["lawn".into()],
        best: Best { at, r#box: [120, 200, 310, 240], pictures: None },
        links: None,
        path: Vec::new(),
        captured: Some(clock.monotonic()),
        picture: None,
    }
}

fn print_outcome(outcome: &Outcome, json: bool) {
    if json {
        output::line!("{}", serde_json::to_string(outcome).unwrap_or_default());
        return;
    }
    let Outcome { boards, made, acknowledged, sent, lost, waiting, .. } = outcome;
    let plural = |count: u64| if count == 1 { "" } else { "s" };
    output::line!(
        "{boards} device{}, {made} event{} in {:.1} s",
        plural((*boards).into()),
        plural(*made),
        outcome.elapsed_s
    );
    output::line!(
        "acknowledged  {acknowledged}, {:.0} per second; {sent} sent, including repeats",
        outcome.events_per_s
    );
    output::line!("lost          {lost}; {waiting} not acknowledged");
    output::line!("connections   {}", outcome.connections);
    if let Some(Percentiles { p50, p95, p99 }) = outcome.ack_latency_ms {
        output::line!("ack latency   {p50:.1} ms median, {p95:.1} ms p95, {p99:.1} ms p99");
    }
    output::line!("written       {:.1} MB", outcome.disk_bytes as f64 / 1e6);
}
