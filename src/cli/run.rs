//! `camfire run`: runs the daemon until a signal ends it.

use super::{
    log::{self, LogFilter},
    setup::{ConfigArguments, Signals},
};
use crate::{
    camera::gst,
    clock::SystemClock,
    config::{Config, Loaded},
    control::{NodeControl, PageSettings},
    daemon::{Daemon, Publishing, reload::Reloader},
    error::Error,
    recent_log::RecentLog,
    workers::model::Model,
};
use sd_notify::NotifyState;
use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};

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
    let page_file = config.page_file();
    let recent = RecentLog::default();
    let log = log::start_keeping(loaded.config.log.level, recent.clone());
    gst::init()?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    set_page_aside(page_file.as_deref(), &loaded);
    let model = Model::open(&loaded.config.engine.network, &loaded.config.groups)?;
    log_start(&loaded.config, &model);
    let config = Arc::new(config);
    let page_config = config.clone();
    let load_page = move |page| page_config.read_with(page);
    let page = PageSettings { file: page_file.clone(), load: Box::new(load_page) };
    let read = move || {
        let loaded =
            config.read().map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        set_page_aside(page_file.as_deref(), &loaded);
        Ok(loaded)
    };
    let reloader = Arc::new(Reloader::new(Box::new(read)));
    let command = reloader.clone();
    let control = Arc::new(NodeControl::new(Box::new(move || command.prepare()), page, recent));
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

/// Renames the file with the settings of the page if it is damaged, so that it is reported once and a new
/// one can be written.
fn set_page_aside(file: Option<&Path>, loaded: &Loaded) {
    let (Some(file), Some(fault)) = (file, &loaded.page_fault) else { return };
    let aside = file.with_extension(format!("toml.bad-{}", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S")));
    match std::fs::rename(file, &aside) {
        Ok(()) => tracing::warn!(
            reason = fault,
            aside = %aside.display(),
            "The settings of the page are damaged: they are set aside, and the configuration is used without them."
        ),
        Err(error) => tracing::warn!(
            reason = fault, %error,
            "The settings of the page are damaged and cannot be set aside; the configuration is used without them."
        ),
    }
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

/// What `systemctl status` shows while `config` runs. Without a camera, as after a fresh installation, the
/// log has a warning that says what to do.
fn status(config: &Config) -> &'static str {
    if config.cameras.is_empty() { "Idle: no camera is configured." } else { "" }
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
