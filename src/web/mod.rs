//! The web server: metrics for Prometheus, and whether all stages turn. Off unless `web.listen` says where.
//!
//! [`Web::run`] is a stage with one thread, which turns tokio's event loop for all connections. What is served is put
//! together on that thread, in a moment, from what the other stages count; none of them waits for it.
//!
//! A client cannot hold it up: so many connections at once, so long for a request, so long for all of a connection. Where
//! the port cannot be had it is told once, tried again now and then, and seeing goes on.

pub mod metrics;

use crate::{
    clock::Clock,
    error::{Error, ErrorKind},
    lifecycle::{self, Heartbeat, StopSignal},
    web::metrics::{Format, Metrics},
};
use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{self, Runtime},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time,
};

/// Connections at once; more wait to be accepted.
const CONNECTIONS: u32 = 32;
/// How long a request may take to come; an idle connection is closed after that, too.
const REQUEST: Duration = Duration::from_secs(10);
/// The longest request that is read, headers and all, in bytes.
const REQUEST_BYTES: usize = 16 << 10;
/// How old a connection may grow: clients that do not read what they asked for go, others connect anew.
const AGE: Duration = Duration::from_secs(60);
/// How long an answer that has been begun may take when the connection is to end.
const LAST_ANSWER: Duration = Duration::from_secs(1);
/// Between two attempts at a port that somebody else has.
const PAUSE: Duration = Duration::from_secs(30);
/// Between two accepts where the system is out of sockets.
const NO_SOCKETS: Duration = Duration::from_secs(1);

/// The web server's stage.
pub struct Web {
    listen: SocketAddr,
    pages: Arc<Pages>,
    clock: Arc<dyn Clock>,
    /// When to end.
    stop: StopSignal,
    /// Beats at every turn of the loop; the watchdog reads it.
    heartbeat: Heartbeat,
    runtime: Runtime,
}

/// What the pages are made of.
pub struct Pages {
    /// What `/metrics` shows.
    pub metrics: Metrics,
    /// Of all stages, the web server's too.
    pub heartbeats: Vec<Heartbeat>,
    /// A stage that has not turned for so long is stuck.
    pub stuck: Duration,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

impl Web {
    /// A server that will listen at `listen`.
    ///
    /// Errors ([`ErrorKind::System`]) where the system has no room for an event loop.
    pub fn open(
        listen: SocketAddr,
        pages: Pages,
        stop: StopSignal,
        heartbeat: Heartbeat,
    ) -> Result<Web, Error> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(|e| Error::caused(ErrorKind::System, "no event loop for the web server", e))?;
        Ok(Web { listen, clock: pages.clock.clone(), pages: Arc::new(pages), stop, heartbeat, runtime })
    }

    /// Serves until it is time to stop.
    pub fn run(self) {
        self.runtime.block_on(async {
            let mut told = false;
            loop {
                match TcpListener::bind(self.listen).await {
                    Ok(listener) => {
                        tracing::info!(address = %self.listen, "Web server listens.");
                        return self.serve(listener).await;
                    }
                    Err(error) if !told => {
                        let address = self.listen;
                        tracing::warn!(%address, %error, "Web server cannot listen; trying again, seeing goes on.");
                        told = true;
                    }
                    Err(_) => {}
                }
                if self.wait(PAUSE).await {
                    return;
                }
            }
        });
    }

    async fn serve(&self, listener: TcpListener) {
        let router = router(self.pages.clone());
        let permits = Arc::new(Semaphore::new(CONNECTIONS as usize));
        let (ending, end) = watch::channel(());
        let accept = async {
            loop {
                let permit = permits.clone().acquire_owned().await.expect("nobody closes the semaphore");
                match listener.accept().await {
                    Ok((stream, _)) => {
                        drop(tokio::spawn(converse(stream, router.clone(), end.clone(), permit)))
                    }
                    Err(error) => {
                        tracing::debug!(%error, "Web server cannot accept.");
                        time::sleep(NO_SOCKETS).await;
                    }
                }
            }
        };
        tokio::select! {
            () = accept => {}
            _ = self.wait(Duration::MAX) => {}
        }
        drop(listener);
        drop(ending);
        // Every connection has one; whoever has not ended by then is cut off with the event loop.
        let _ = time::timeout(LAST_ANSWER, permits.acquire_many(CONNECTIONS)).await;
    }

    /// Sleeps for `pause` in short steps that keep the heartbeat going; true if it is time to stop.
    async fn wait(&self, pause: Duration) -> bool {
        const STEP: Duration = Duration::from_millis(250);
        let mut left = pause;
        while !left.is_zero() {
            self.heartbeat.beat(self.clock.monotonic());
            if self.stop.is_triggered() {
                return true;
            }
            time::sleep(left.min(STEP)).await;
            left = left.saturating_sub(STEP);
        }
        self.stop.is_triggered()
    }
}

/// One connection until the client goes, has been there for too long, or it is time to stop. The permit is the
/// connection's place among [`CONNECTIONS`].
async fn converse(
    stream: TcpStream,
    router: Router,
    mut end: watch::Receiver<()>,
    _permit: OwnedSemaphorePermit,
) {
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(REQUEST)
            .max_buf_size(REQUEST_BYTES)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
    );
    tokio::select! {
        // What goes wrong with a connection is its client's concern.
        _ = connection.as_mut() => return,
        () = time::sleep(AGE) => {}
        // The other end is dropped at the end.
        _ = end.changed() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = time::timeout(LAST_ANSWER, connection).await;
}

fn router(pages: Arc<Pages>) -> Router {
    Router::new().route("/metrics", get(metrics)).route("/healthz", get(health)).with_state(pages)
}

async fn metrics(State(pages): State<Arc<Pages>>, headers: HeaderMap) -> Response {
    let accepts = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    let format = format(accepts);
    ([(header::CONTENT_TYPE, format.content_type())], pages.metrics.write(format)).into_response()
}

/// OpenMetrics for whoever names it, as Prometheus does; what everyone reads for all others.
fn format<'a>(mut accepts: impl Iterator<Item = &'a str>) -> Format {
    let names_it = accepts.any(|accepts| accepts.contains("application/openmetrics-text"));
    if names_it { Format::OpenMetrics } else { Format::Prometheus }
}

async fn health(State(pages): State<Arc<Pages>>) -> Response {
    let stuck = lifecycle::hung_stages(&pages.heartbeats, pages.clock.monotonic(), pages.stuck);
    if stuck.is_empty() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("stuck: {}\n", stuck.join(", "))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::SimulatedClock, counters::Counters};

    fn answer(pages: &Arc<Pages>) -> (StatusCode, String) {
        let runtime = runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let answer = health(State(pages.clone())).await;
            let status = answer.status();
            let body = axum::body::to_bytes(answer.into_body(), 1 << 10).await.unwrap();
            (status, String::from_utf8(body.to_vec()).unwrap())
        })
    }

    #[test]
    fn health_names_the_stages_that_are_stuck() {
        let clock = Arc::new(SimulatedClock::new());
        let heartbeats =
            [Heartbeat::new("camera-yard", Duration::ZERO), Heartbeat::new("publish", Duration::ZERO)];
        let pages = Arc::new(Pages {
            metrics: Metrics::new(Counters::empty(&[]), clock.now()),
            heartbeats: heartbeats.to_vec(),
            stuck: Duration::from_secs(15),
            clock: clock.clone(),
        });
        assert_eq!(answer(&pages), (StatusCode::OK, "ok\n".into()));
        clock.advance(Duration::from_secs(16));
        heartbeats[1].beat(clock.monotonic());
        assert_eq!(answer(&pages), (StatusCode::SERVICE_UNAVAILABLE, "stuck: camera-yard\n".into()));
    }

    #[test]
    fn open_metrics_is_for_whoever_names_it() {
        let asked = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(format([asked].into_iter()), Format::OpenMetrics);
        assert_eq!(format(["text/html", "*/*"].into_iter()), Format::Prometheus);
        assert_eq!(format(std::iter::empty()), Format::Prometheus);
    }
}
