//! The web server: the page, its API, metrics for Prometheus and a health check of all stages. Off unless
//! `web.listen` is set.
//!
//! [`Web::run`] is a stage with one thread, which runs tokio's event loop for all connections. Responses are
//! built on that thread from the other stages' counters. This takes little time, and no stage waits for it.
//!
//! A client cannot block the server: the number of connections ([`connections`]), the time and the size of a
//! request and the lifetime of a connection are limited ([`lifetime`]). Requests for other hosts are refused
//! ([`host`]); who may see what is decided in [`access`], and who sends a request in [`forwarded`]. With a
//! certificate, connections are encrypted ([`tls`]). If the port is in use, a warning is logged once and the
//! server retries; the analysis is not affected.

pub mod access;
pub mod api;
pub mod app_state;
mod connections;
pub mod forwarded;
mod host;
mod lifetime;
pub mod metrics;
pub mod newest;
mod page;
pub mod samples;
mod tls;

use crate::{
    config::web_certificate::WebCertificate,
    error::{Error, ErrorKind},
    lifecycle::{Heartbeat, StopSignal},
    sync::lock,
    web::{
        access::Access,
        app_state::AppState,
        connections::{Connections, Guard},
        forwarded::{Client, Proxies},
        lifetime::Lifetime,
        metrics::{Format, Metrics},
        tls::Begun,
    },
    wire::feed::Change,
};
use axum::{
    Extension, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    runtime::{self, Runtime},
    sync::watch,
    task, time,
};

/// Maximum time of a TLS handshake, and then for the head of a request to arrive as a whole. An idle
/// connection is closed after the same time.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum size of a request's head, in bytes.
const MAX_REQUEST_BYTES: usize = 16 << 10;
/// Maximum number of headers in a request.
const MAX_HEADERS: usize = 64;
/// How often the age of a connection is checked.
const LIFETIME_CHECK: Duration = Duration::from_secs(5);
/// Time to finish a started response when a connection is closed.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);
/// How often the end of all connections is checked then.
const SHUTDOWN_POLL: Duration = Duration::from_millis(10);
/// Delay between two attempts to listen on a port that is in use.
const RETRY_DELAY: Duration = Duration::from_secs(30);
/// Delay before the next accept after one failed, as when the system is out of sockets.
const ACCEPT_DELAY: Duration = Duration::from_secs(1);

/// The web server's stage.
pub struct Web {
    listen: SocketAddr,
    /// The first listener, if the address is bound already.
    listener: Option<std::net::TcpListener>,
    pages: Arc<Pages>,
    /// The versions of the cameras' settings that were announced.
    announced: Mutex<BTreeMap<Arc<str>, u64>>,
    /// Signals the shutdown.
    stop: StopSignal,
    /// Updated on every loop iteration; read by the watchdog.
    heartbeat: Heartbeat,
    runtime: Runtime,
}

/// The data that is served.
pub struct Pages {
    /// For `/metrics`.
    pub metrics: Metrics,
    /// For everything else.
    pub app: Arc<AppState>,
    /// Who may see the page.
    pub access: Arc<Access>,
    /// Names of this machine, in lower case. Requests for other names are refused.
    pub hosts: Vec<String>,
    /// The proxies that are believed whom they speak for.
    pub proxies: Proxies,
}

impl Web {
    /// Creates a server for the address `listen`, which [`bind`] may have bound already. It does not serve
    /// yet.
    ///
    /// Errors: [`ErrorKind::System`] if the event loop cannot be created.
    pub fn open(
        listen: SocketAddr,
        listener: Option<std::net::TcpListener>,
        pages: Pages,
        stop: StopSignal,
        heartbeat: Heartbeat,
    ) -> Result<Web, Error> {
        let runtime =
            runtime::Builder::new_current_thread().enable_io().enable_time().build().map_err(|e| {
                Error::caused(ErrorKind::System, "cannot create an event loop for the web server", e)
            })?;
        let announced = Mutex::default();
        Ok(Web { listen, listener, pages: Arc::new(pages), announced, stop, heartbeat, runtime })
    }

    /// Serves until the shutdown.
    pub fn run(mut self) {
        let mut bound = self.listener.take();
        self.runtime.block_on(async {
            let mut warned = false;
            loop {
                let listener = match bound.take() {
                    Some(listener) => TcpListener::from_std(listener),
                    None => TcpListener::bind(self.listen).await,
                };
                match listener {
                    Ok(listener) => {
                        let tls = self.pages.app.current().certificate.is_some();
                        tracing::info!(address = %self.listen, tls, "Web server is listening.");
                        return self.serve(listener).await;
                    }
                    Err(error) if !warned => {
                        let address = self.listen;
                        tracing::warn!(%address, %error, "Web server cannot listen; retrying.");
                        warned = true;
                    }
                    Err(_) => {}
                }
                if self.wait(RETRY_DELAY).await {
                    return;
                }
            }
        });
    }

    async fn serve(&self, listener: TcpListener) {
        let router = self::router(&self.pages);
        let connections = Connections::default();
        let (shutdown_sender, shutdown) = watch::channel(());
        let accept = async {
            loop {
                match listener.accept().await {
                    Ok((stream, address)) => {
                        let address = address.ip();
                        let guard = connections.open(address, self.pages.proxies.contains(address));
                        let certificate = self.pages.app.current().certificate.clone();
                        let peer = Client { address, is_secure: certificate.is_some() };
                        let router = router.clone().layer(Extension(peer));
                        drop(tokio::spawn(serve_stream(
                            stream,
                            certificate,
                            router,
                            shutdown.clone(),
                            guard,
                        )));
                        // A request that is here already is answered before further connections are accepted.
                        task::yield_now().await;
                    }
                    Err(error) => {
                        tracing::debug!(%error, "Web server cannot accept.");
                        time::sleep(ACCEPT_DELAY).await;
                    }
                }
            }
        };
        tokio::select! {
            () = accept => {}
            _ = self.wait(Duration::MAX) => {}
        }
        drop(router);
        drop(listener);
        drop(shutdown_sender);
        // Connections that are still open after that are closed with the event loop.
        let all_closed = async {
            while connections.len() > 0 {
                time::sleep(SHUTDOWN_POLL).await;
            }
        };
        let _ = time::timeout(SHUTDOWN_TIMEOUT, all_closed).await;
    }

    /// Tells those who look of settings that have changed, by whatever command.
    fn announce_settings(&self) {
        let app = &self.pages.app;
        let mut announced = lock(&self.announced);
        for camera in &app.current().cameras {
            let version = announced.entry(camera.control.name.clone()).or_default();
            if camera.control.changed_since(version).is_some() {
                app.feed.announce(Change::Camera(camera.control.name.clone()));
            }
        }
    }

    /// Sleeps for `delay` in short steps that update the heartbeat. Returns true on shutdown.
    async fn wait(&self, delay: Duration) -> bool {
        const STEP: Duration = Duration::from_millis(250);
        let app = &self.pages.app;
        let mut left = delay;
        while !left.is_zero() {
            let now = app.clock.monotonic();
            self.heartbeat.beat(now);
            app.samples.tick(&app.counters, now, app.clock.now());
            self.announce_settings();
            if self.stop.is_triggered() {
                return true;
            }
            time::sleep(left.min(STEP)).await;
            left = left.saturating_sub(STEP);
        }
        self.stop.is_triggered()
    }
}

/// Binds an address for [`Web::open`].
///
/// Errors: the address is in use, or not one of this machine's.
pub fn bind(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves one connection as [`serve_connection`] does, encrypted if there is a certificate.
async fn serve_stream(
    stream: TcpStream,
    certificate: Option<WebCertificate>,
    router: Router,
    mut shutdown: watch::Receiver<()>,
    mut guard: Guard,
) {
    let Some(certificate) = certificate else {
        return serve_connection(stream, router, shutdown, guard).await;
    };
    let begun = tokio::select! {
        begun = time::timeout(REQUEST_TIMEOUT, tls::begin(stream, certificate)) => begun,
        _ = &mut guard.evicted => return,
        _ = shutdown.changed() => return,
    };
    match begun {
        Ok(Some(Begun::Encrypted(stream))) => serve_connection(stream, router, shutdown, guard).await,
        Ok(Some(Begun::Plain(stream))) => serve_connection(stream, tls::refusal(), shutdown, guard).await,
        Ok(None) | Err(_) => {}
    }
}

/// Serves one connection until the client disconnects, its lifetime is over, or the server shuts down. Drops
/// it at once if it must make place for another one.
async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    router: Router,
    mut shutdown: watch::Receiver<()>,
    mut guard: Guard,
) {
    let lifetime = Lifetime::new(Instant::now());
    let router = router.layer(Extension(lifetime.clone()));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(REQUEST_TIMEOUT)
            .max_buf_size(MAX_REQUEST_BYTES)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
    );
    let is_over = async {
        while !lifetime.is_over(Instant::now()) {
            time::sleep(LIFETIME_CHECK).await;
        }
    };
    tokio::select! {
        // Errors of a connection are not logged, because clients cause them.
        _ = connection.as_mut() => return,
        _ = &mut guard.evicted => return,
        () = is_over => {}
        // Resolves when the sender is dropped.
        _ = shutdown.changed() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = time::timeout(SHUTDOWN_TIMEOUT, connection).await;
}

fn router(pages: &Arc<Pages>) -> Router {
    let hosts: Arc<[String]> = pages.hosts.as_slice().into();
    let mut router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .with_state(pages.clone());
    if pages.access.serves_page() {
        let refuse = middleware::from_fn_with_state(pages.access.clone(), access::refuse_unnamed_proxy);
        let page = Router::new()
            .route("/", get(page::index))
            .route("/{file}", get(page::file))
            .nest("/api/events", api::links(pages.app.clone(), pages.access.clone()));
        router = router.merge(page.layer(refuse));
    }
    router
        .nest("/api/v1", api::router(pages.app.clone(), pages.access.clone()))
        .layer(middleware::from_fn_with_state(pages.proxies.clone(), forwarded::identify))
        .layer(middleware::from_fn_with_state(hosts, host::check))
}

async fn metrics(State(pages): State<Arc<Pages>>, headers: HeaderMap) -> Response {
    let accepts = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    let format = format(accepts);
    ([(header::CONTENT_TYPE, format.content_type())], pages.metrics.write(format)).into_response()
}

/// OpenMetrics if the Accept headers name it, as Prometheus' do; otherwise Prometheus' text format.
fn format<'a>(mut accepts: impl Iterator<Item = &'a str>) -> Format {
    let is_open_metrics = accepts.any(|accepts| accepts.contains("application/openmetrics-text"));
    if is_open_metrics { Format::OpenMetrics } else { Format::Prometheus }
}

async fn health(State(pages): State<Arc<Pages>>) -> Response {
    let app = &pages.app;
    let stuck = app.heartbeats.hung(app.clock.monotonic(), app.stuck);
    if stuck.is_empty() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("stuck: {}\n", stuck.join(", "))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::{Clock, SimulatedClock},
        counters::Counters,
    };

    fn check_health(pages: &Arc<Pages>) -> (StatusCode, String) {
        let runtime = runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let response = health(State(pages.clone())).await;
            let status = response.status();
            let body = axum::body::to_bytes(response.into_body(), 1 << 10).await.unwrap();
            (status, String::from_utf8(body.to_vec()).unwrap())
        })
    }

    #[test]
    fn health_names_stuck_stages() {
        let clock = Arc::new(SimulatedClock::new());
        let app = Arc::new(AppState::empty(clock.clone()));
        let _camera = app.heartbeats.add("camera-yard", Duration::ZERO);
        let publish = app.heartbeats.add("publish", Duration::ZERO);
        let pages = Arc::new(Pages {
            metrics: Metrics::new(Counters::empty(&[]), clock.now()),
            app,
            access: Arc::new(Access::new(None, true, clock.clone())),
            hosts: Vec::new(),
            proxies: Proxies::default(),
        });
        assert_eq!(check_health(&pages), (StatusCode::OK, "ok\n".into()));
        clock.advance(Duration::from_secs(16));
        publish.beat(clock.monotonic());
        assert_eq!(check_health(&pages), (StatusCode::SERVICE_UNAVAILABLE, "stuck: camera-yard\n".into()));
    }

    #[test]
    fn open_metrics_is_served_if_requested() {
        let accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(format([accept].into_iter()), Format::OpenMetrics);
        assert_eq!(format(["text/html", "*/*"].into_iter()), Format::Prometheus);
        assert_eq!(format(std::iter::empty()), Format::Prometheus);
    }
}
