//! `camfire run`: runs the daemon until a signal ends it.

use super::setup::{self, ConfigArguments, LogFilter, Signals};
use crate::{
    camera::gst,
    clock::SystemClock,
    config::Config,
    control::NodeControl,
    daemon::{Daemon, Publishing, reload::Reloader},
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

/// Runs until SIGTERM or SIGINT. SIGHUP and a command reload the configuration.
pub fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    let mut signals = Signals::catch()?;
    let config = arguments.config;
    let loaded = config.load()?;
    let log = setup::start_log(loaded.config.log.level);
    gst::init()?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let model = Model::open(&loaded.config.engine.network, &loaded.config.groups)?;
    log_start(&loaded.config, &model);
    let read = move || config.read().map_err(|problems| problems.iter().map(ToString::to_string).collect());
    let reloader = Arc::new(Reloader::new(Box::new(read)));
    let command = reloader.clone();
    let control = Arc::new(NodeControl::new(Box::new(move || command.prepare())));
    reloader.set_running(loaded.config.clone(), model.clone());
    let status = status(&loaded.config);
    let clock = Arc::new(SystemClock::new());
    let seed = fastrand::u64(..);
    let mut daemon = Daemon::start(loaded.config, &model, &Publishing::Mqtt, clock, control.clone(), seed)?;
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
    let mut is_healthy = true;
    let exit = loop {
        if signals.wait(Duration::from_secs(1)) {
            break ExitCode::SUCCESS;
        }
        // A command has prepared the reload already.
        let is_prepared = control.take_reload_request();
        if signals.take_hangup() {
            reload(&mut daemon, &reloader, &log, || reloader.prepare().is_ok())?;
        } else if is_prepared {
            reload(&mut daemon, &reloader, &log, || true)?;
        }
        let stuck = daemon.tick();
        if stuck.is_empty() {
            notify(&[NotifyState::Watchdog]);
        } else if is_healthy {
            tracing::error!(?stuck, "Stages hang; the watchdog is not notified until they respond.");
        }
        is_healthy = stuck.is_empty();
    };
    tracing::info!("camfire is stopping.");
    notify(&[NotifyState::Stopping]);
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
    Ok(exit)
}

fn log_start(config: &Config, model: &Model) {
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        node = config.node.name,
        cameras = config.cameras.len(),
        workers = config.engine.workers,
        model = model.identity.name,
        engine = model.engine.name(),
        kernels = model.engine.kernels(),
        "camfire is running."
    );
    if let Some(reason) = model.engine.fallback_reason() {
        tracing::warn!(reason, "The model runs on the slower engine.");
    }
}

/// What `systemctl status` shows while `config` runs. Without a camera, logs what to do next: a fresh
/// installation has none.
fn status(config: &Config) -> &'static str {
    if !config.cameras.is_empty() {
        return "";
    }
    tracing::info!(
        "No camera is configured, so camfire is idle. Add one to /etc/camfire/camfire.toml, validate it with \
         'camfire check', then run 'systemctl reload camfire'."
    );
    "Idle: no camera is configured."
}

/// Reloads the configuration if `prepare` finds that it can be used; otherwise everything stays as it is.
/// systemd is told of the beginning and of the end.
fn reload(
    daemon: &mut Daemon,
    reloader: &Reloader,
    log: &LogFilter,
    prepare: impl FnOnce() -> bool,
) -> Result<(), Error> {
    let now = NotifyState::monotonic_usec_now().ok();
    notify(&[Some(NotifyState::Reloading), now].into_iter().flatten().collect::<Vec<_>>());
    let is_usable = prepare();
    let mut text = if is_usable { "" } else { "The new configuration was refused; see the log." };
    if let Some(prepared) = reloader.take().filter(|_| is_usable) {
        tracing::info!("Reloading the configuration.");
        let (config, model) = daemon.reload(prepared)?;
        log.set_level(config.log.level);
        text = status(&config);
        reloader.set_running(config, model);
    }
    notify(&[NotifyState::Ready, NotifyState::Status(text)]);
    Ok(())
}

/// Notifies systemd. Does nothing if systemd did not start the process.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "Could not notify systemd.");
    }
}
