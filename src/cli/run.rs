//! `camfire run`: the daemon, until a signal ends it.

use super::setup::{self, ConfigArguments, Signals};
use crate::{
    camera::gst,
    clock::SystemClock,
    daemon::{Daemon, Publishing},
    error::Error,
    model::Model,
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

/// Watches the configured cameras until SIGTERM or SIGINT.
pub fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    let mut signals = Signals::catch()?;
    let loaded = arguments.config.load()?;
    setup::start_log(loaded.config.log.level);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let model = Model::open(&loaded.config.engine.network)?;
    gst::init()?;
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
    let mut daemon = Daemon::start(loaded.config, &model, &Publishing::Mqtt, clock)?;
    notify(NotifyState::Ready);
    let mut healthy = true;
    while !signals.wait(Duration::from_secs(1)) {
        let stuck = daemon.turn();
        if stuck.is_empty() {
            notify(NotifyState::Watchdog);
        } else if healthy {
            tracing::error!(?stuck, "Stages hang; the watchdog is not fed until they turn again.");
        }
        healthy = stuck.is_empty();
    }
    tracing::info!("camfire is stopping.");
    notify(NotifyState::Stopping);
    for (camera, accounts) in daemon.stop() {
        tracing::info!(
            camera,
            captured = accounts.captured,
            analysed = accounts.analysed,
            skipped = accounts.skipped,
            dropped = accounts.dropped,
            failed = accounts.failed,
            "Camera's accounts."
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Tells systemd; elsewhere nobody listens.
fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "systemd was not told.");
    }
}
