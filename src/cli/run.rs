//! `camfire run`: the daemon, until a signal ends it.

use super::setup::{self, ConfigArguments, Signals};
use crate::{
    camera::gst,
    clock::SystemClock,
    config::Loaded,
    control::NodeControl,
    daemon::{Daemon, Publishing},
    error::Error,
    workers::model::Model,
};
use sd_notify::NotifyState;
use std::{process::ExitCode, sync::Arc, time::Duration};

/// Arguments of `camfire run`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  camfire run --config ./camfire.toml --set log.level=debug")]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
}

/// Each keeps threads, memory and often its device for good: after these, only a new process helps.
const MOST_HUNG_TEARDOWNS: u64 = 3;

/// Watches the configured cameras until SIGTERM or SIGINT; SIGHUP has the configuration read again.
pub fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    let mut signals = Signals::catch()?;
    let config = Arc::new(arguments.config);
    let mut loaded = config.load()?;
    setup::start_log(loaded.config.log.level);
    gst::init()?;
    let read_again = config.clone();
    let judge = move || read_again.load().map(drop).map_err(|error| error.to_string());
    let control = Arc::new(NodeControl::new(Box::new(judge)));
    loop {
        match watch(loaded, &control, &config, &mut signals)? {
            End::Signal => return Ok(ExitCode::SUCCESS),
            End::BeyondRepair => return Ok(ExitCode::FAILURE),
            End::Reload(fresh) => loaded = *fresh,
        }
    }
}

/// Why watching ended.
enum End {
    Signal,
    /// Only a new process helps.
    BeyondRepair,
    /// This is the configuration now.
    Reload(Box<Loaded>),
}

/// One run of the daemon with one configuration.
fn watch(
    loaded: Loaded,
    control: &Arc<NodeControl>,
    config: &ConfigArguments,
    signals: &mut Signals,
) -> Result<End, Error> {
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let model = Model::open(&loaded.config.engine.network, &loaded.config.groups)?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        node = loaded.config.node.name,
        cameras = loaded.config.cameras.len(),
        workers = loaded.config.engine.workers,
        model = model.identity.name,
        engine = model.engine.name(),
        kernels = model.engine.kernels(),
        "camfire is watching."
    );
    if let Some(reason) = model.engine.instead_of() {
        tracing::warn!(reason, "The slower engine runs this model.");
    }
    let clock = Arc::new(SystemClock::new());
    let seed = fastrand::u64(..);
    let mut daemon = Daemon::start(loaded.config, &model, &Publishing::Mqtt, clock, control.clone(), seed)?;
    notify(NotifyState::Ready);
    let mut healthy = true;
    let end = loop {
        if signals.wait(Duration::from_secs(1)) {
            break End::Signal;
        }
        if daemon.hung_teardowns() >= MOST_HUNG_TEARDOWNS {
            tracing::error!("Too many pipelines hang; ending, so that systemd starts afresh.");
            break End::BeyondRepair;
        }
        if signals.take_hangup() | control.take_reload_request() {
            match config.load() {
                Ok(fresh) => break End::Reload(Box::new(fresh)),
                Err(error) => tracing::error!(%error, "The configuration stays as it was."),
            }
        }
        let stuck = daemon.tick();
        if stuck.is_empty() {
            notify(NotifyState::Watchdog);
        } else if healthy {
            tracing::error!(?stuck, "Stages hang; the watchdog is not fed until they turn again.");
        }
        healthy = stuck.is_empty();
    };
    match end {
        End::Reload(_) => tracing::info!("camfire reads its configuration again."),
        End::Signal | End::BeyondRepair => {
            tracing::info!("camfire is stopping.");
            notify(NotifyState::Stopping);
        }
    }
    for (camera, counts) in daemon.stop() {
        tracing::info!(
            camera,
            captured = counts.captured,
            analysed = counts.analysed,
            skipped_rate = counts.skipped_rate,
            skipped_still = counts.skipped_still,
            shed = counts.shed,
            dropped = counts.dropped,
            failed = counts.failed,
            "Camera's counts."
        );
    }
    Ok(end)
}

/// Tells systemd; elsewhere nobody listens.
fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "systemd was not told.");
    }
}
