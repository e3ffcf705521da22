//! How long a connection may last: a minute for requests, longer while it carries a stream that its client
//! reads.

use axum::body::Body;
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use crate::sync::lock;

/// Maximum lifetime of a connection without a stream. It disconnects clients that do not read their response;
/// others reconnect.
const MAX_LIFETIME: Duration = Duration::from_secs(60);
/// Maximum lifetime of a connection with a stream.
const MAX_STREAM_LIFETIME: Duration = Duration::from_secs(3600);
/// A stream is closed if its client has taken nothing for this time. Streams send something every 15 s.
const MAX_STALL: Duration = Duration::from_secs(60);

/// The age of a connection, and what it carries.
#[derive(Debug)]
pub struct Lifetime {
    began: Instant,
    is_streaming: AtomicBool,
    /// When its client last read something.
    last_read: Mutex<Instant>,
}

impl Lifetime {
    /// The lifetime of a connection that begins now.
    pub fn new(now: Instant) -> Arc<Lifetime> {
        Arc::new(Lifetime { began: now, is_streaming: AtomicBool::new(false), last_read: Mutex::new(now) })
    }

    /// Whether the connection is to be closed.
    pub fn is_over(&self, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.began);
        if !self.is_streaming.load(Ordering::Relaxed) {
            return age >= MAX_LIFETIME;
        }
        age >= MAX_STREAM_LIFETIME || now.saturating_duration_since(*lock(&self.last_read)) >= MAX_STALL
    }

    /// A body that lasts as long as its client reads it.
    pub fn stream(self: Arc<Lifetime>, body: Body) -> Body {
        self.is_streaming.store(true, Ordering::Relaxed);
        Body::new(Stream { body, lifetime: self })
    }

    fn record_read(&self, now: Instant) {
        *lock(&self.last_read) = now;
    }
}

/// A body that notes when it is read. It is asked for more only when the client has taken what was sent.
struct Stream {
    body: Body,
    lifetime: Arc<Lifetime>,
}

impl HttpBody for Stream {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.lifetime.record_read(Instant::now());
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // The connection is an ordinary one again.
        self.lifetime.is_streaming.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_lasts_as_long_as_it_is_read() {
        let began = Instant::now();
        let after = |seconds| began + Duration::from_secs(seconds);
        let lifetime = Lifetime::new(began);
        assert!(!lifetime.is_over(after(59)) && lifetime.is_over(after(60)));
        let body = lifetime.clone().stream(Body::empty());
        lifetime.record_read(after(100));
        assert!(!lifetime.is_over(after(159)) && lifetime.is_over(after(160)));
        lifetime.record_read(after(3599));
        assert!(!lifetime.is_over(after(3599)) && lifetime.is_over(after(3600)));
        drop(body);
        assert!(lifetime.is_over(after(100)), "no stream any more");
    }
}
