//! Keeps the last warnings and errors of the log, for the web server.

use crate::recent_log::{Entry, RecentLog};
use jiff::Timestamp;
use std::{collections::BTreeMap, fmt};
use tracing::{
    Level,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

/// Maximum number of fields that are kept of an entry.
const MAX_FIELDS: usize = 20;

/// The layer that keeps them.
pub struct RecentWarnings(pub RecentLog);

impl<S: tracing::Subscriber> Layer<S> for RecentWarnings {
    fn on_event(&self, event: &tracing::Event<'_>, _context: Context<'_, S>) {
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            _ => return,
        };
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Fields { message, others } = fields;
        self.0.add(Entry { at: Timestamp::now(), level, message, fields: others });
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    others: BTreeMap<String, String>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: String) {
        if field.name() == "message" {
            self.message = value;
        } else if self.others.len() < MAX_FIELDS {
            self.others.insert(field.name().to_string(), value);
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn warnings_are_kept_with_their_fields() {
        let log = RecentLog::default();
        let subscriber = tracing_subscriber::registry().with(RecentWarnings(log.clone()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("Not this.");
            tracing::warn!(camera = "yard", retry_in = %"2 s", "Camera is away.");
        });
        let [entry] = &log.entries()[..] else { panic!("one entry") };
        assert_eq!((entry.level, entry.message.as_str()), ("warn", "Camera is away."));
        assert_eq!(entry.fields["camera"], "yard");
        assert_eq!(entry.fields["retry_in"], "2 s");
    }
}
