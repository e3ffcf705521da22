//! The log: lines on stderr, or structured entries in systemd's journal.

use super::{
    journal::{Journal, priority},
    recent_warnings::RecentWarnings,
};
use crate::{config::LogLevel, recent_log::RecentLog};
use std::{
    io::IsTerminal,
    os::{linux::fs::MetadataExt, unix::fs::FileTypeExt},
};
use tracing_subscriber::{
    Registry,
    filter::{LevelFilter, Targets},
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Full, Writer, format},
    },
    layer::SubscriberExt,
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt,
};

/// Decides which messages are logged.
pub struct LogFilter(reload::Handle<Targets, Registry>);

impl LogFilter {
    /// Changes the minimum severity.
    pub fn set_level(&self, level: LogLevel) {
        // Fails only if the log has ended.
        let _ = self.0.reload(targets(level, None));
    }
}

/// Starts logging to stderr, or to the journal if stderr is connected to it.
pub fn start(level: LogLevel) -> LogFilter {
    start_without(level, None)
}

/// Like [`start`], without the log of one module.
pub fn start_without(level: LogLevel, module: Option<&'static str>) -> LogFilter {
    start_with(level, module, RecentLog::default())
}

/// Like [`start`], and keeps the last warnings in `recent`.
pub fn start_keeping(level: LogLevel, recent: RecentLog) -> LogFilter {
    start_with(level, None, recent)
}

fn start_with(level: LogLevel, module: Option<&'static str>, recent: RecentLog) -> LogFilter {
    let (levels, handle) = reload::Layer::new(targets(level, module));
    let registry = tracing_subscriber::registry().with(levels).with(RecentWarnings(recent));
    // Without the note about a failed write, which panics: stderr can be a terminal that has been closed.
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false)
        .log_internal_errors(false);
    match Destination::of_stderr() {
        Destination::Journal(journal) => registry.with(journal).init(),
        Destination::Prefixed => {
            let format = format().with_target(false).with_level(false).with_ansi(false).without_time();
            registry.with(lines.with_ansi(false).event_format(Prefixed(format))).init();
        }
        Destination::Lines => registry.with(lines.with_ansi(std::io::stderr().is_terminal())).init(),
    }
    LogFilter(handle)
}

/// The levels of the parts of the program.
fn targets(level: LogLevel, module: Option<&'static str>) -> Targets {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // Libraries log warnings only, even at debug level. GStreamer's messages have their own target.
    Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("camfire", level)
        .with_target("gstreamer", level)
        .with_targets(module.map(|module| (module, LevelFilter::OFF)))
}

/// Where the log goes.
enum Destination {
    /// Stderr is the journal's stream, and the journal takes entries with fields.
    Journal(Journal),
    /// Stderr is what systemd calls the journal's stream, but the journal takes no entries with fields.
    Prefixed,
    /// Stderr is a terminal, a file or a pipe.
    Lines,
}

impl Destination {
    fn of_stderr() -> Destination {
        // systemd sets `$JOURNAL_STREAM` to the device and inode of the stream that it connects to stderr.
        let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return Destination::Lines };
        match std::fs::metadata("/proc/self/fd/2") {
            Ok(stderr) if stream != format!("{}:{}", stderr.st_dev(), stderr.st_ino()) => Destination::Lines,
            Ok(stderr) if stderr.file_type().is_socket() => {
                Journal::open().map_or(Destination::Prefixed, Destination::Journal)
            }
            Ok(_) => Destination::Prefixed,
            Err(_) => Destination::Lines,
        }
    }
}

/// Formats lines with a priority such as `<4>` in front (sd-daemon(3)) and no time, because the journal has
/// its own. Fields stay in the line, where `journalctl` shows them.
struct Prefixed(Format<Full, ()>);

impl<S, N> FormatEvent<S, N> for Prefixed
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
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        self.0.format_event(context, writer, event)
    }
}
