//! The last warnings and errors of the log, for those who look at the node in the web server.

use crate::sync::lock;
use jiff::Timestamp;
use serde::Serialize;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};

/// Number of entries that are kept.
const CAPACITY: usize = 200;
/// Maximum length of a message or of a field, in bytes.
const MAX_TEXT_BYTES: usize = 1000;

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// When it was logged.
    #[serde(serialize_with = "timestamp")]
    pub at: Timestamp,
    /// `warn` or `error`.
    pub level: &'static str,
    /// The message.
    pub message: String,
    /// Its fields by name.
    pub fields: BTreeMap<String, String>,
}

fn timestamp<S: serde::Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ"))
}

/// The last entries. Cheap to clone; all clones are of the same list.
#[derive(Debug, Clone, Default)]
pub struct RecentLog(Arc<Mutex<VecDeque<Entry>>>);

impl RecentLog {
    /// Adds an entry. The oldest one goes if there are too many.
    pub fn add(&self, mut entry: Entry) {
        let cut = |text: &mut String| text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
        cut(&mut entry.message);
        entry.fields.values_mut().for_each(cut);
        let mut entries = lock(&self.0);
        if entries.len() == CAPACITY {
            entries.pop_front();
        }
        entries.push_back(entry);
    }

    /// The entries, newest first.
    pub fn entries(&self) -> Vec<Entry> {
        lock(&self.0).iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_entries_are_kept_and_long_texts_are_cut() {
        let log = RecentLog::default();
        for number in 0..CAPACITY + 5 {
            let message = format!("{number} {}", "ä".repeat(MAX_TEXT_BYTES));
            let entry = Entry { at: Timestamp::UNIX_EPOCH, level: "warn", message, fields: BTreeMap::new() };
            log.clone().add(entry);
        }
        let entries = log.entries();
        assert_eq!(entries.len(), CAPACITY);
        assert!(entries[0].message.starts_with("204 ") && entries[0].message.len() <= MAX_TEXT_BYTES);
        assert!(entries.last().unwrap().message.starts_with("5 "));
    }
}
