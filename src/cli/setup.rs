//! Shared set-up of the subcommands: reads the configuration and catches signals.

use crate::{
    camera::template,
    config::{self, Loaded, Network, Problems, page},
    error::{Error, ErrorKind},
    workers::model,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::{
    io::Read,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// The state directory of the installed service.
pub const INSTALLED_STATE: &str = "/var/lib/camfire";

/// Options of all subcommands that read a configuration.
#[derive(clap::Args)]
pub struct ConfigArguments {
    /// Configuration file; conf.d/*.toml beside it is also read [default: /etc/camfire/camfire.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Override one key, for example --set mqtt.port=1884; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
}

/// Parses the `KEY=VALUE` of `--set`.
pub fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_string(), value.to_string())),
        _ => Err("must be KEY=VALUE, for example mqtt.port=1884".to_string()),
    }
}

impl ConfigArguments {
    /// Reads the configuration: file, conf.d, environment, flags.
    ///
    /// Errors ([`ErrorKind::Input`]): all problems of the configuration, one per line.
    pub fn load(&self) -> Result<Loaded, Error> {
        self.read().map_err(invalid)
    }

    /// Like [`ConfigArguments::load`], with the problems as a list.
    pub fn read(&self) -> Result<Loaded, Problems> {
        self.read_with(self.page_file().map_or(page::Source::None, page::Source::File))
    }

    /// Like [`ConfigArguments::read`], with the settings of the page from somewhere else.
    pub fn read_with(&self, page: page::Source) -> Result<Loaded, Problems> {
        read(self.main(), self.set.clone(), page)
    }

    /// The file with the settings of the page: in the state directory, also without systemd's variables if
    /// this is the configuration of the installed service.
    pub fn page_file(&self) -> Option<PathBuf> {
        let installed = || self.config.is_none().then(|| PathBuf::from(INSTALLED_STATE));
        let state = std::env::var_os("STATE_DIRECTORY").map(PathBuf::from).or_else(installed);
        state.map(|state| state.join(page::FILE_NAME))
    }

    fn main(&self) -> config::Main {
        match &self.config {
            Some(file) => config::Main::File(file.clone()),
            None => config::Main::Default,
        }
    }
}

/// Reads a configuration: `main`, overridden by the environment and `flags`.
///
/// Errors ([`ErrorKind::Input`]): all problems of the configuration, one per line.
pub fn load(main: config::Main, flags: Vec<(String, String)>) -> Result<Loaded, Error> {
    read(main, flags, page::Source::None).map_err(invalid)
}

fn invalid(problems: Problems) -> Error {
    Error::new(ErrorKind::Input, format!("the configuration is invalid\n{problems}"))
}

fn read(main: config::Main, flags: Vec<(String, String)>, page: page::Source) -> Result<Loaded, Problems> {
    // Variables that are not UTF-8 are converted lossily; none of camfire's is.
    let environment = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .collect();
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let state = std::env::var_os("STATE_DIRECTORY").map(PathBuf::from);
    let (validate_camera, validate) =
        (Some(template::validate as config::CameraValidator), Some(model::validate as config::Validator));
    config::load(&config::Inputs {
        main,
        environment,
        flags,
        credentials,
        state,
        page,
        validate_camera,
        validate,
    })
}

/// Options that select a network and its engine.
#[derive(clap::Args)]
pub struct NetworkArguments {
    /// A .tflite model to use instead of the built-in one
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineArguments,
}

/// Options that select an engine.
#[derive(clap::Args)]
pub struct EngineArguments {
    /// Engine: auto, native or tract
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = engine_choice)]
    engine: engine::Choice,
    /// Most advanced kernels that the native engine may use, for example avx2 or neon [default: the CPU's
    /// best]
    #[arg(long, value_name = "SET", value_parser = kernel_set)]
    kernels: Option<engine::KernelSet>,
}

impl From<NetworkArguments> for Network {
    fn from(arguments: NetworkArguments) -> Network {
        let NetworkArguments { model, engine } = arguments;
        Network { model, ..engine.into() }
    }
}

impl From<EngineArguments> for Network {
    fn from(arguments: EngineArguments) -> Network {
        let EngineArguments { engine, kernels } = arguments;
        Network { engine, kernels, ..Network::default() }
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

/// Signal handling. The first SIGTERM or SIGINT is reported, the second ends the process at once.
pub struct Signals {
    /// Receives one byte per signal.
    pipe: UnixStream,
    hangup: Arc<AtomicBool>,
    /// Number of the last signal; 0 before the first.
    last: Arc<AtomicUsize>,
}

impl Signals {
    /// Installs the handlers. SIGHUP is separate: it asks for a reload.
    ///
    /// Errors ([`ErrorKind::System`]): the handlers cannot be installed.
    pub fn catch() -> Result<Signals, Error> {
        Signals::install(false)
    }

    /// Installs the handlers. SIGHUP is reported like SIGTERM: the terminal has been closed.
    ///
    /// Errors ([`ErrorKind::System`]): the handlers cannot be installed.
    pub fn catch_all() -> Result<Signals, Error> {
        Signals::install(true)
    }

    fn install(hangup_ends: bool) -> Result<Signals, Error> {
        let catch = || -> std::io::Result<Signals> {
            let (pipe, write) = UnixStream::pair()?;
            let once = Arc::new(AtomicBool::new(false));
            let hangup = Arc::new(AtomicBool::new(false));
            let last = Arc::new(AtomicUsize::new(0));
            if hangup_ends {
                // A second one, as shell and terminal may both send one, does not end the process at once.
                signal_hook::flag::register_usize(SIGHUP, last.clone(), SIGHUP as usize)?;
                signal_hook::low_level::pipe::register(SIGHUP, write.try_clone()?)?;
            } else {
                signal_hook::flag::register(SIGHUP, hangup.clone())?;
            }
            for signal in [SIGTERM, SIGINT] {
                // The order matters: the first signal sees the flag unset, the second sees it set.
                signal_hook::flag::register_conditional_shutdown(signal, 1, once.clone())?;
                signal_hook::flag::register(signal, once.clone())?;
                signal_hook::flag::register_usize(signal, last.clone(), signal as usize)?;
                signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
            }
            Ok(Signals { pipe, hangup, last })
        };
        catch().map_err(|e| Error::caused(ErrorKind::System, "cannot install signal handlers", e))
    }

    /// Whether a SIGHUP arrived since the last call.
    pub fn take_hangup(&self) -> bool {
        self.hangup.swap(false, Ordering::Relaxed)
    }

    /// Whether a signal that ends the command has arrived. Does not block.
    pub fn has_arrived(&self) -> bool {
        self.last.load(Ordering::Relaxed) != 0
    }

    /// The exit code of a process ended by the last signal, as shells report it: 130 after Ctrl-C.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(128 + self.last.load(Ordering::Relaxed) as u8)
    }

    /// Blocks until a signal arrives or `timeout` passes. True if one arrived.
    pub fn wait(&mut self, timeout: Duration) -> bool {
        let timeout = timeout.max(Duration::from_millis(1));
        // If the socket fails, end as if a signal had arrived.
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
