//! Entries in systemd's journal, with fields: `journalctl -u camfire CAMFIRE_CAMERA=yard`.
//!
//! The protocol is systemd's native journal protocol: one datagram per entry, of lines `NAME=value`, or for
//! values with newlines the name, the length in 8 bytes and the value. The message is the same text as on
//! stderr, fields included, because `journalctl` shows only the message by default. The crate
//! tracing-journald leaves the fields out of its message, so it is not used.

use std::{
    fmt::{self, Write as _},
    io,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
};
use tracing::field::{Field, Visit};
use tracing_subscriber::{
    fmt::{
        FormatFields,
        format::{DefaultFields, Writer},
    },
    layer::{Context, Layer},
};

/// The journal's socket for entries with fields.
const SOCKET: &str = "/run/systemd/journal/socket";
/// Maximum length in bytes of a value. Datagrams are limited; longer ones would be lost.
const MAX_VALUE_BYTES: usize = 16 << 10;
/// Maximum length in bytes of all fields together, the message aside.
const MAX_FIELDS_BYTES: usize = 64 << 10;

/// The priority of a level in the journal (syslog(3)).
pub(super) fn priority(level: tracing::Level) -> u8 {
    match level {
        tracing::Level::ERROR => 3,
        tracing::Level::WARN => 4,
        tracing::Level::INFO => 6,
        tracing::Level::DEBUG | tracing::Level::TRACE => 7,
    }
}

/// Sends log messages to the journal.
pub(super) struct Journal {
    socket: UnixDatagram,
    /// Each entry is sent to this path, so that a restarted journal gets the next one.
    path: PathBuf,
}

impl Journal {
    /// Opens the system's journal.
    ///
    /// Errors: there is none.
    pub(super) fn open() -> io::Result<Journal> {
        Journal::at(Path::new(SOCKET))
    }

    fn at(path: &Path) -> io::Result<Journal> {
        let socket = UnixDatagram::unbound()?;
        // Without data nothing is logged; an error tells that nobody listens.
        socket.send_to(&[], path)?;
        Ok(Journal { socket, path: path.to_path_buf() })
    }
}

impl<S: tracing::Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &tracing::Event<'_>, _context: Context<'_, S>) {
        let mut message = String::new();
        // Writing to a string cannot fail.
        let _ = DefaultFields::new().format_fields(Writer::new(&mut message), event);
        let mut entry = Entry(Vec::new());
        entry.add("PRIORITY", &priority(*event.metadata().level()).to_string());
        entry.add("SYSLOG_IDENTIFIER", "camfire");
        entry.add("MESSAGE", &message);
        event.record(&mut entry);
        // There is nowhere else to report that the journal is away.
        let _ = self.socket.send_to(&entry.0, &self.path);
    }
}

/// An entry in the journal's protocol.
struct Entry(Vec<u8>);

impl Entry {
    fn add(&mut self, name: &str, value: &str) {
        let value = &value[..value.floor_char_boundary(MAX_VALUE_BYTES)];
        self.0.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            self.0.push(b'\n');
            self.0.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            self.0.push(b'=');
        }
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'\n');
    }

    /// Adds a field of a log message. The prefix keeps it apart from the journal's own fields.
    fn add_field(&mut self, field: &Field, value: &str) {
        let is_valid = field.name().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if field.name() != "message" && is_valid && self.0.len() < MAX_FIELDS_BYTES {
            self.add(&format!("CAMFIRE_{}", field.name().to_uppercase()), value);
        }
    }
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add_field(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        let _ = write!(text, "{value:?}");
        self.add_field(field, &text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn an_entry_has_priority_message_and_fields() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        assert!(Journal::at(&path).is_err(), "nobody listens");
        let receiver = UnixDatagram::bind(&path).unwrap();
        receiver.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
        let receive = || {
            let mut bytes = vec![0; 1 << 17];
            let len = receiver.recv(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes[..len]).into_owned()
        };
        let subscriber = tracing_subscriber::registry().with(Journal::at(&path).unwrap());
        assert_eq!(receive(), "", "the test whether there is a journal");
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(camera = "yard", retry_in = %"2 s", "Camera is away.");
            tracing::info!(text = %format!("a\nb{}", "x".repeat(1 << 20)), "Long.");
        });
        assert_eq!(
            receive(),
            "PRIORITY=4\nSYSLOG_IDENTIFIER=camfire\nMESSAGE=Camera is away. camera=\"yard\" retry_in=2 s\n\
             CAMFIRE_CAMERA=yard\nCAMFIRE_RETRY_IN=2 s\n"
        );
        let long = receive();
        assert!(long.len() < 40_000, "{}", long.len());
        let length = [&b"CAMFIRE_TEXT\n"[..], &(MAX_VALUE_BYTES as u64).to_le_bytes(), b"a\nbxx"].concat();
        let length = String::from_utf8_lossy(&length).into_owned();
        assert!(long.starts_with("PRIORITY=6\n") && long.contains(&length));
    }
}
