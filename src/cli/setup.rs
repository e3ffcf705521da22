//! What subcommands do before their work: read the configuration, start the log, catch signals.

use crate::{
    camera::template,
    config::{self, Loaded, LogLevel, Network, Problems},
    error::{Error, ErrorKind},
    workers::model,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::{
    io::{IsTerminal, Read},
    os::{linux::fs::MetadataExt, unix::net::UnixStream},
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Full, Writer, format},
    },
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

/// Where the configuration comes from; the same for all subcommands that read one.
#[derive(clap::Args)]
pub struct ConfigArguments {
    /// Config file; conf.d/*.toml beside it is read too [default: /etc/camfire/camfire.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one key over everything else, such as --set mqtt.port=1884; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
}

/// `KEY=VALUE` of a `--set`.
pub fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_string(), value.to_string())),
        _ => Err("must be KEY=VALUE, such as mqtt.port=1884".to_string()),
    }
}

impl ConfigArguments {
    /// Reads the configuration: file, conf.d, environment, flags.
    ///
    /// Errors ([`ErrorKind::Input`]): everything that is wrong with it, a line each.
    pub fn load(&self) -> Result<Loaded, Error> {
        self.read().map_err(unusable)
    }

    /// The same, with the problems one by one.
    pub fn read(&self) -> Result<Loaded, Problems> {
        let main = match &self.config {
            Some(file) => config::Main::File(file.clone()),
            None => config::Main::Default,
        };
        read(main, self.set.clone())
    }
}

/// Reads a configuration from `main`, with environment and `flags` over it.
///
/// Errors ([`ErrorKind::Input`]): everything that is wrong with it, a line each.
pub fn load(main: config::Main, flags: Vec<(String, String)>) -> Result<Loaded, Error> {
    read(main, flags).map_err(unusable)
}

fn unusable(problems: Problems) -> Error {
    Error::new(ErrorKind::Input, format!("the configuration cannot be used\n{problems}"))
}

fn read(main: config::Main, flags: Vec<(String, String)>) -> Result<Loaded, Problems> {
    // Only text can be meant for us; a variable that is not even that is named after its lossy form.
    let environment = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .collect();
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let state = std::env::var_os("STATE_DIRECTORY").map(PathBuf::from);
    let (judge_camera, judge) =
        (Some(template::judge as config::CameraJudge), Some(model::validate as config::Judge));
    config::load(&config::Inputs { main, environment, flags, credentials, state, judge_camera, judge })
}

/// Which network to run, and how.
#[derive(clap::Args)]
pub struct NetworkArguments {
    /// Another .tflite model than the built-in one
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Who runs it: auto, native or tract
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = engine_choice)]
    engine: engine::Choice,
    /// The best kernels that the native engine may use, such as avx2 or neon; the CPU's best unless given
    #[arg(long, value_name = "SET", value_parser = kernel_set)]
    kernels: Option<engine::KernelSet>,
}

impl From<NetworkArguments> for Network {
    fn from(arguments: NetworkArguments) -> Network {
        let NetworkArguments { model, engine, kernels } = arguments;
        Network { model, labels: None, engine, kernels }
    }
}

fn engine_choice(name: &str) -> Result<engine::Choice, String> {
    let names = || engine::Choice::ALL.map(engine::Choice::name).join(", ");
    engine::Choice::of_name(name).ok_or_else(|| format!("must be one of {}", names()))
}

fn kernel_set(name: &str) -> Result<engine::KernelSet, String> {
    let names = || engine::KernelSet::ALL.map(engine::KernelSet::name).join(", ");
    engine::KernelSet::of_name(name).ok_or_else(|| format!("must be one of {}", names()))
}

/// Starts the log: to the journal with its priorities under systemd, else to stderr for people.
pub fn start_log(level: LogLevel) {
    start_log_without(level, None);
}

/// The same, without what one module says.
pub fn start_log_without(level: LogLevel, module: Option<&'static str>) {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::FrameTrace => LevelFilter::TRACE,
    };
    // Libraries' inner life is nobody's business, even at debug; what GStreamer says comes under its own name.
    let levels = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("camfire", level)
        .with_target("gstreamer", level)
        .with_targets(module.map(|module| (module, LevelFilter::OFF)));
    let registry = tracing_subscriber::registry().with(levels);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    if is_journal() {
        let journal = Journal(format().with_target(false).with_level(false).with_ansi(false).without_time());
        registry.with(lines.with_ansi(false).event_format(journal)).init();
    } else {
        registry.with(lines.with_ansi(std::io::stderr().is_terminal())).init();
    }
}

/// Lines for the journal: `<4>` in front is a warning (sd-daemon(3)), and the journal has its own time. The fields stay
/// in the line, where `journalctl` shows them.
struct Journal(Format<Full, ()>);

impl<S, N> FormatEvent<S, N> for Journal
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> std::fmt::Result {
        let priority = match *event.metadata().level() {
            tracing::Level::ERROR => 3,
            tracing::Level::WARN => 4,
            tracing::Level::INFO => 6,
            tracing::Level::DEBUG | tracing::Level::TRACE => 7,
        };
        write!(writer, "<{priority}>")?;
        self.0.format_event(context, writer, event)
    }
}

/// Whether stderr is the journal's socket, as systemd tells it: `$JOURNAL_STREAM` holds device and inode.
fn is_journal() -> bool {
    let Ok(journal) = std::env::var("JOURNAL_STREAM") else { return false };
    std::fs::metadata("/proc/self/fd/2")
        .is_ok_and(|stderr| journal == format!("{}:{}", stderr.st_dev(), stderr.st_ino()))
}

/// SIGTERM and SIGINT: the first is told, the second ends the process at once. SIGHUP is told by itself.
pub struct Signals {
    /// One byte for each signal.
    pipe: UnixStream,
    hangup: Arc<AtomicBool>,
    /// The number of the last one, 0 before the first.
    last: Arc<AtomicUsize>,
}

impl Signals {
    /// Catches them from now on.
    ///
    /// Errors ([`ErrorKind::System`]): the kernel refuses.
    pub fn catch() -> Result<Signals, Error> {
        let catch = || -> std::io::Result<Signals> {
            let (pipe, write) = UnixStream::pair()?;
            let once = Arc::new(AtomicBool::new(false));
            let hangup = Arc::new(AtomicBool::new(false));
            signal_hook::flag::register(SIGHUP, hangup.clone())?;
            let last = Arc::new(AtomicUsize::new(0));
            for signal in [SIGTERM, SIGINT] {
                // In this order: the first signal finds the flag down, the second finds it up.
                signal_hook::flag::register_conditional_shutdown(signal, 1, once.clone())?;
                signal_hook::flag::register(signal, once.clone())?;
                signal_hook::flag::register_usize(signal, last.clone(), signal as usize)?;
                signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
            }
            Ok(Signals { pipe, hangup, last })
        };
        catch().map_err(|e| Error::caused(ErrorKind::System, "signals cannot be caught", e))
    }

    /// Whether a SIGHUP came since the last call.
    pub fn take_hangup(&self) -> bool {
        self.hangup.swap(false, Ordering::Relaxed)
    }

    /// Whether a signal has come, without waiting.
    pub fn has_come(&self) -> bool {
        self.last.load(Ordering::Relaxed) != 0
    }

    /// How a process ends that a signal has ended, as shells tell it: 130 after Ctrl-C.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(128 + self.last.load(Ordering::Relaxed) as u8)
    }

    /// Waits for a signal, `timeout` at most; true if one came.
    pub fn wait(&mut self, timeout: Duration) -> bool {
        let timeout = timeout.max(Duration::from_millis(1));
        // A socket that cannot be read is as good a reason to end as a signal.
        if self.pipe.set_read_timeout(Some(timeout)).is_err() {
            return true;
        }
        match self.pipe.read_exact(&mut [0; 1]) {
            Ok(()) => true,
            Err(e) => !matches!(
                e.kind(),
                std::io::ErrorKind::WouldBlock
                    | std::io::ErrorKind::TimedOut
                    | std::io::ErrorKind::Interrupted
            ),
        }
    }
}
