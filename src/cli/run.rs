//! `camfire run`: runs the daemon until a signal ends it.

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

/// Runs until SIGTERM or SIGINT. SIGHUP reloads the configuration.
pub fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    let mut signals = Signals::catch()?;
    let config = Arc::new(arguments.config);
    let mut loaded = config.load()?;
    setup::start_log(loaded.config.log.level);
    gst::init()?;
    let reread = config.clone();
    let validate = move || reread.load().map(drop).map_err(|error| error.to_string());
    let control = Arc::new(NodeControl::new(Box::new(validate)));
    loop {
        match run_daemon(loaded, &control, &config, &mut signals)? {
            Exit::Signal => return Ok(ExitCode::SUCCESS),
            Exit::Reload(fresh) => loaded = *fresh,
        }
    }
}

/// Why the daemon ended.
enum Exit {
    Signal,
    /// A new configuration was loaded.
    Reload(Box<Loaded>),
}

/// Runs the daemon with one configuration.
fn run_daemon(
    loaded: Loaded,
    control: &Arc<NodeControl>,
    config: &ConfigArguments,
    signals: &mut Signals,
) -> Result<Exit, Error> {
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
        "camfire is running."
    );
    if let Some(reason) = model.engine.fallback_reason() {
        tracing::warn!(reason, "The model runs on the slower engine.");
    }
    let clock = Arc::new(SystemClock::new());
    let seed = fastrand::u64(..);
    let mut daemon = Daemon::start(loaded.config, &model, &Publishing::Mqtt, clock, control.clone(), seed)?;
    notify(NotifyState::Ready);
    let mut is_healthy = true;
    let end = loop {
        if signals.wait(Duration::from_secs(1)) {
            break Exit::Signal;
        }
        if signals.take_hangup() | control.take_reload_request() {
            match config.load() {
                Ok(fresh) => break Exit::Reload(Box::new(fresh)),
                Err(error) => {
                    tracing::error!(%error, "The new configuration is invalid; keeping the old one.")
                }
            }
        }
        let stuck = daemon.tick();
        if stuck.is_empty() {
            notify(NotifyState::Watchdog);
        } else if is_healthy {
            tracing::error!(?stuck, "Stages hang; the watchdog is not notified until they respond.");
        }
        is_healthy = stuck.is_empty();
    };
    match end {
        Exit::Reload(_) => tracing::info!("Reloading the configuration."),
        Exit::Signal => {
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
            "Frame counts."
        );
    }
    Ok(end)
}

/// Notifies systemd. Does nothing if systemd did not start the process.
fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "Could not notify systemd.");
    }
}
