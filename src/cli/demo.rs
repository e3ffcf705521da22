//! `camfire demo`: the daemon on the bundled clip, a private broker, and a subscriber that prints the events.
//!
//! GStreamer decodes the clip, the daemon publishes to a mosquitto on a free loopback port, and the demo
//! subscribes to it like any client. Without mosquitto it prints a notice and reads from the daemon directly.

use super::{
    log,
    output::{self, MessagePrinter},
    setup::{self, Signals},
    watch,
};
use crate::{
    camera::gst,
    clock::SystemClock,
    config::{self, Config},
    daemon::{Daemon, Publishing},
    error::{Error, ErrorKind},
    publish::mqtt::subscriber::Subscriber,
    wire::messages::Message,
    workers::model::Model,
};
use std::{
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

const CLIP: &[u8] = include_bytes!("../../assets/demo.mp4");
const CONFIG: &str = include_str!("../../config/demo.toml");

/// Arguments of `camfire demo`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  camfire demo --seconds 40")]
pub struct Arguments {
    /// Stop after this many seconds [default: run until Ctrl-C]
    #[arg(long, value_name = "S")]
    seconds: Option<u64>,
    /// Print events without a broker, as if mosquitto were not installed
    #[arg(long)]
    no_broker: bool,
    /// Override one key of the demo's configuration, for example --set cameras.clip.rate_fps=2
    #[arg(long, value_name = "KEY=VALUE", value_parser = setup::key_value)]
    set: Vec<(String, String)>,
}

/// Runs the demo until a signal, or until nobody can read its output any more. Everything that it started or
/// created is gone afterwards.
pub fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    let started = Instant::now();
    let mut signals = Signals::catch_all()?;
    // The clip and the broker's files are in a temporary folder, which is removed at the end.
    let folder = tempfile::Builder::new()
        .prefix("camfire-demo-")
        .tempdir()
        .map_err(|e| Error::caused(ErrorKind::System, "cannot create a folder for the demo", e))?;
    let clip = folder.path().join("demo.mp4");
    std::fs::write(&clip, CLIP)
        .map_err(|e| Error::caused(ErrorKind::System, clip.display().to_string(), e))?;

    let broker = match (arguments.no_broker, find_program("mosquitto")) {
        (true, _) => None,
        (false, Some(program)) => Some(Broker::start(&program, folder.path())?),
        (false, None) => {
            output::note!("mosquitto is not installed (Debian: apt install mosquitto).");
            output::note!("Printing events without a broker.");
            None
        }
    };
    let config = configuration(&arguments, &clip, broker.as_ref())?;
    log::start(config.log.level);
    let model = Model::open(&config.engine.network, &config.groups)?;
    gst::init()?;

    let publishing = if broker.is_some() { Publishing::Mqtt } else { Publishing::Direct };
    let mut events = EventSource::open(&config, publishing)?;
    print_introduction(&config, &broker);
    let clock = Arc::new(SystemClock::new());
    let mut daemon =
        Daemon::start(config, &model, &events.publishing(), clock, Arc::default(), fastrand::u64(..))?;
    let end = arguments.seconds.map(|seconds| started + Duration::from_secs(seconds));
    let mut next_tick = started;
    let mut first = true;
    let outcome = loop {
        if signals.wait(Duration::from_millis(1)) || end.is_some_and(|end| Instant::now() >= end) {
            break Ok(());
        }
        if Instant::now() >= next_tick {
            next_tick += Duration::from_secs(1);
            daemon.tick();
        }
        match events.next(&daemon, Duration::from_millis(50)) {
            Ok(Some(line)) => {
                if std::mem::take(&mut first) {
                    let seconds = started.elapsed().as_secs_f64();
                    output::note!("(first event {seconds:.2} s after start)");
                }
                // The reader or the terminal has been closed.
                if !matches!(output::try_write_line(format_args!("{line}")), Ok(true)) {
                    break Ok(());
                }
            }
            Ok(None) => {}
            Err(error) => break Err(error),
        }
    };
    daemon.stop();
    outcome.map(|()| ExitCode::SUCCESS)
}

/// The demo's configuration with the path of the clip, an outbox beside it, and the broker's port.
fn configuration(arguments: &Arguments, clip: &Path, broker: Option<&Broker>) -> Result<Config, Error> {
    let outbox = clip.with_file_name("outbox.db");
    let mut flags = vec![
        ("cameras.clip.source".to_string(), format!("file://{}", clip.display())),
        ("outbox.file".to_string(), outbox.display().to_string()),
        ("pictures.directory".to_string(), clip.with_file_name("pictures").display().to_string()),
    ];
    // Without a broker, the daemon has no web server.
    if let Some(broker) = broker {
        flags.push(("web.listen".to_string(), format!("{}:{}", Ipv4Addr::LOCALHOST, free_port()?)));
        flags.push(("mqtt.host".to_string(), Ipv4Addr::LOCALHOST.to_string()));
        flags.push(("mqtt.port".to_string(), broker.port.to_string()));
    }
    flags.extend(arguments.set.iter().cloned());
    let main = config::Main::Text { name: "config/demo.toml".to_string(), text: CONFIG.to_string() };
    Ok(setup::load(main, flags)?.config)
}

/// A loopback port that nobody uses now.
fn free_port() -> Result<u16, Error> {
    let failed = |error| Error::caused(ErrorKind::System, "cannot find a free port", error);
    let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    Ok(probe.local_addr().map_err(failed)?.port())
}

fn print_introduction(config: &Config, broker: &Option<Broker>) {
    output::note!("camfire demo: plays the bundled clip in a loop, as a camera would send it.");
    if let Some(broker) = broker {
        output::note!("The broker listens on 127.0.0.1:{}. To see all messages:", broker.port);
        output::note!("  mosquitto_sub -h 127.0.0.1 -p {} -v -t '{}/#'", broker.port, config.mqtt.base_topic);
    }
    if let Some(address) = config.web.listen {
        output::note!("The page: http://{address}/");
    }
    output::note!("Prints a line per event; Ctrl-C stops it. Waiting for the first object ...\n");
}

/// Where the demo reads events: from the broker, or from the daemon directly.
struct EventSource {
    subscriber: Option<Subscriber>,
    printer: MessagePrinter,
}

impl EventSource {
    fn open(config: &Config, publishing: Publishing) -> Result<EventSource, Error> {
        let subscriber = match publishing {
            Publishing::Mqtt => {
                let filters = watch::filters(&config.mqtt.base_topic, "+", "+", false);
                Some(Subscriber::connect(&config.mqtt, filters)?)
            }
            Publishing::Direct => None,
        };
        Ok(EventSource { subscriber, printer: MessagePrinter::with_local_times() })
    }

    fn publishing(&self) -> Publishing {
        if self.subscriber.is_some() { Publishing::Mqtt } else { Publishing::Direct }
    }

    fn next(&mut self, daemon: &Daemon, timeout: Duration) -> Result<Option<String>, Error> {
        if let Some(subscriber) = &mut self.subscriber {
            let message = subscriber.next(Some(timeout))?;
            return message.map(|message| watch::line(&mut self.printer, &message)).transpose();
        }
        Ok(match daemon.messages().recv_timeout(timeout) {
            Ok(message @ Message::Event(_)) => self.printer.line("/events", &message.payload()).ok(),
            Ok(_) | Err(_) => None,
        })
    }
}

/// Searches `PATH` and sbin, because Debian installs mosquitto there and sbin is not in every user's path.
fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin".into(), "/usr/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

/// A private mosquitto: loopback only, no persistence, killed when dropped.
struct Broker {
    child: Child,
    port: u16,
}

impl Broker {
    /// Starts it in `folder` and waits until it answers.
    ///
    /// Errors ([`ErrorKind::System`]): it does not start; with the last line of its log.
    fn start(program: &Path, folder: &Path) -> Result<Broker, Error> {
        let failed = |e: std::io::Error| Error::caused(ErrorKind::System, "mosquitto does not start", e);
        let (config, log) = (folder.join("mosquitto.conf"), folder.join("mosquitto.log"));
        // Another process can take the free port before mosquitto does. Then another port is tried.
        for _ in 0..5 {
            let port = free_port()?;
            // As root, mosquitto would switch to another user and lose the parent-death signal set below.
            let text =
                format!("listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nuser root\n");
            std::fs::write(&config, text).map_err(failed)?;
            let output = std::fs::File::create(&log).map_err(failed)?;
            // setpriv ends mosquitto with the demo even if the demo is killed. Without it, only Drop does.
            let mut command = match find_program("setpriv") {
                Some(setpriv) => {
                    let mut command = Command::new(setpriv);
                    command.args(["--pdeathsig", "TERM"]).arg(program);
                    command
                }
                None => Command::new(program),
            };
            command
                .arg("-c")
                .arg(&config)
                .stdin(Stdio::null())
                .stdout(output.try_clone().map_err(failed)?)
                .stderr(output);
            // Ctrl-C must not reach mosquitto, because the demo disconnects from it first.
            std::os::unix::process::CommandExt::process_group(&mut command, 0);
            let mut broker = Broker { child: command.spawn().map_err(failed)?, port };
            let deadline = Instant::now() + Duration::from_secs(5);
            while Instant::now() < deadline {
                if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                    return Ok(broker);
                }
                if broker.child.try_wait().map_err(failed)?.is_some() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let output = std::fs::read_to_string(&log).unwrap_or_default();
        let last = output.lines().last().unwrap_or("no output");
        Err(Error::new(ErrorKind::System, format!("mosquitto does not start: {last}")))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It keeps no state, so killing it loses nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
