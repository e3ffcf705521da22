//! `camfire demo`: the daemon on the bundled clip, a private broker, and a subscriber that prints what comes out of it.
//!
//! Everything is real: the clip is decoded by GStreamer, what is seen goes to a mosquitto on a free loopback port and is
//! read from there like any client would. Without mosquitto it says so and prints straight from the pipeline.

use super::{
    output::{SeenEvent, try_write_line},
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
    /// End after so long; otherwise Ctrl-C ends it
    #[arg(long, value_name = "S")]
    seconds: Option<u64>,
    /// Print straight from the pipeline, as where no mosquitto is installed
    #[arg(long)]
    no_broker: bool,
    /// Set one key over the demo's configuration, such as --set cameras.clip.rate_fps=2
    #[arg(long, value_name = "KEY=VALUE", value_parser = setup::key_value)]
    set: Vec<(String, String)>,
}

/// Shows what camfire does, until Ctrl-C.
pub fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    let started = Instant::now();
    let mut signals = Signals::catch()?;
    // Clip and broker live in a folder of their own, which goes with the demo.
    let folder = tempfile::Builder::new()
        .prefix("camfire-demo-")
        .tempdir()
        .map_err(|e| Error::caused(ErrorKind::System, "no folder for the demo", e))?;
    let clip = folder.path().join("demo.mp4");
    std::fs::write(&clip, CLIP)
        .map_err(|e| Error::caused(ErrorKind::System, clip.display().to_string(), e))?;

    let broker = match (arguments.no_broker, find_program("mosquitto")) {
        (true, _) => None,
        (false, Some(program)) => Some(Broker::start(&program, folder.path())?),
        (false, None) => {
            eprintln!("No mosquitto is installed (Debian: apt install mosquitto),");
            eprintln!("so there is no MQTT to watch: printing straight from the pipeline.");
            None
        }
    };
    let config = configuration(&arguments, &clip, broker.as_ref())?;
    setup::start_log(config.log.level);
    let model = Model::open(&config.engine.network, &config.groups)?;
    gst::init()?;

    let publishing = if broker.is_some() { Publishing::Mqtt } else { Publishing::Direct };
    let mut show = Show::open(&config, publishing)?;
    introduce(&config, &broker);
    let clock = Arc::new(SystemClock::new());
    let mut daemon =
        Daemon::start(config, &model, &show.publishing(), clock, Arc::default(), fastrand::u64(..))?;
    let end = arguments.seconds.map(|seconds| started + Duration::from_secs(seconds));
    let mut next_turn = started;
    let mut first = true;
    let shown = loop {
        if signals.wait(Duration::from_millis(1)) || end.is_some_and(|end| Instant::now() >= end) {
            break Ok(());
        }
        if Instant::now() >= next_turn {
            next_turn += Duration::from_secs(1);
            daemon.tick();
        }
        match show.next(&daemon, Duration::from_millis(50)) {
            Ok(Some(line)) => {
                if std::mem::take(&mut first) {
                    let seconds = started.elapsed().as_secs_f64();
                    eprintln!("(first event {seconds:.2} s after the start)");
                }
                if !try_write_line(format_args!("{line}")) {
                    break Ok(());
                }
            }
            Ok(None) => {}
            Err(error) => break Err(error),
        }
    };
    daemon.stop();
    shown.map(|()| ExitCode::SUCCESS)
}

/// The demo's configuration with the clip's place, the outbox beside it and the broker's port.
fn configuration(arguments: &Arguments, clip: &Path, broker: Option<&Broker>) -> Result<Config, Error> {
    let outbox = clip.with_file_name("outbox.db");
    let mut flags = vec![
        ("cameras.clip.source".to_string(), format!("file://{}", clip.display())),
        ("outbox.file".to_string(), outbox.display().to_string()),
    ];
    if let Some(broker) = broker {
        flags.push(("mqtt.host".to_string(), Ipv4Addr::LOCALHOST.to_string()));
        flags.push(("mqtt.port".to_string(), broker.port.to_string()));
    }
    flags.extend(arguments.set.iter().cloned());
    let main = config::Main::Text { name: "config/demo.toml".to_string(), text: CONFIG.to_string() };
    Ok(setup::load(main, flags)?.config)
}

fn introduce(config: &Config, broker: &Option<Broker>) {
    eprintln!("camfire demo: the bundled clip, over and over, as a camera would send it.");
    if let Some(broker) = broker {
        eprintln!("Its broker listens on 127.0.0.1:{}. To see every message by hand:", broker.port);
        eprintln!("  mosquitto_sub -h 127.0.0.1 -p {} -v -t '{}/#'", broker.port, config.mqtt.base_topic);
    }
    eprintln!("A line for each thing that comes, changes and goes; Ctrl-C ends it.\n");
}

/// Where the demo reads what was seen.
struct Show {
    subscriber: Option<Subscriber>,
}

impl Show {
    fn open(config: &Config, publishing: Publishing) -> Result<Show, Error> {
        let subscriber = match publishing {
            Publishing::Mqtt => {
                let filters = watch::filters(&config.mqtt.base_topic, "+", "+", false);
                Some(Subscriber::connect(&config.mqtt, filters)?)
            }
            Publishing::Direct => None,
        };
        Ok(Show { subscriber })
    }

    fn publishing(&self) -> Publishing {
        if self.subscriber.is_some() { Publishing::Mqtt } else { Publishing::Direct }
    }

    fn next(&mut self, daemon: &Daemon, timeout: Duration) -> Result<Option<String>, Error> {
        if let Some(subscriber) = &mut self.subscriber {
            return subscriber.next(Some(timeout))?.map(|message| watch::line(&message)).transpose();
        }
        Ok(match daemon.messages().recv_timeout(timeout) {
            Ok(message @ Message::Event(_)) => {
                serde_json::from_slice(&message.payload()).ok().map(|seen: SeenEvent| seen.line())
            }
            Ok(_) | Err(_) => None,
        })
    }
}

/// Looks along the path and in sbin, where Debian has mosquitto and which is not on every user's path.
fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin".into(), "/usr/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

/// A mosquitto of our own: loopback only, nothing kept, gone when dropped.
struct Broker {
    child: Child,
    port: u16,
}

impl Broker {
    /// Starts it in `folder` and waits until it answers.
    ///
    /// Errors ([`ErrorKind::System`]): it does not start, in its own words.
    fn start(program: &Path, folder: &Path) -> Result<Broker, Error> {
        let failed = |e: std::io::Error| Error::caused(ErrorKind::System, "mosquitto does not start", e);
        let (config, log) = (folder.join("mosquitto.conf"), folder.join("mosquitto.log"));
        // A port that is free now can be taken before mosquitto has it: then another one is tried.
        for _ in 0..5 {
            let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
            let port = probe.local_addr().map_err(failed)?.port();
            drop(probe);
            // Started by root it would become another user, and forget then that it is to end with the demo.
            let text =
                format!("listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nuser root\n");
            std::fs::write(&config, text).map_err(failed)?;
            let output = std::fs::File::create(&log).map_err(failed)?;
            // setpriv ends it with the demo even where that is killed; where there is none, Drop has to do.
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
            // Ctrl-C is for the demo, which then says goodbye to its broker before it ends it.
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
        let words = std::fs::read_to_string(&log).unwrap_or_default();
        let last = words.lines().last().unwrap_or("it said nothing");
        Err(Error::new(ErrorKind::System, format!("mosquitto does not start: {last}")))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Nothing is kept, so nothing is lost.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
