//! Faults of cameras, each with a real RTSP server: how camfire detects it and recovers. A second, healthy
//! camera must not be affected.

use crate::support::{
    Broker, Camfire, Received, Subscriber,
    rtsp::{RtspServer, Stream},
    wait_for,
};
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// A camfire with one camera whose source fails during the test and one healthy camera.
struct FaultTest {
    camfire: Camfire,
    subscriber: Subscriber,
    _broker: Broker,
}

/// Maximum time from the repair of the source to the next detection. Long enough for busy machines;
/// `docs/capture.md` lists measured times.
const MAX_RECOVERY: Duration = Duration::from_secs(20);

impl FaultTest {
    fn start(url: &str, more: &str) -> FaultTest {
        let broker = Broker::start();
        let subscriber = broker.subscribe();
        let config = format!(
            "stats.interval = '1s'\n[cameras.faulty]\nsource = '{url}'\n{more}\n[cameras.healthy]\nsource = 'test://ball'\n\
             options = {{ width = 320, height = 240, fps = 10 }}\n"
        );
        let camfire = Camfire::run(&config, &broker.flags());
        FaultTest { camfire, subscriber, _broker: broker }
    }

    fn wait(&self, state: &str) -> serde_json::Value {
        self.subscriber.wait_state("faulty", state)
    }

    /// Waits for a detection of the faulty camera that is published from now on.
    fn wait_for_recovery(&self) {
        let since = Instant::now();
        self.subscriber.clear();
        self.subscriber.wait_topic("/faulty/detections");
        let took = since.elapsed();
        println!("recovered after {:.1} s", took.as_secs_f64());
        assert!(took < MAX_RECOVERY, "{took:?}");
    }

    /// Waits for a stats message that is published from now on and in which the faulty camera's counts match.
    fn wait_for_counts(&self, what: &str, matches: impl Fn(&serde_json::Value) -> bool) {
        self.subscriber.clear_topic("/stats");
        self.subscriber.wait(what, |message| {
            message.topic.ends_with("/stats") && matches(&message.json()["cameras"]["faulty"])
        });
    }

    /// Stops camfire. Frame counts must add up, and the healthy camera must not have failed or shed frames.
    fn end(mut self) {
        self.subscriber.clear();
        self.subscriber.wait_topic("/healthy/detections");
        assert!(self.camfire.end("TERM").success());
        let stats = self.subscriber.wait("the last stats", |message| {
            message.topic.ends_with("/stats") && message.json()["cameras"]["healthy"]["pending"] == 0
        });
        let stats =
            self.subscriber.all().into_iter().rfind(|h| h.topic.ends_with("/stats")).unwrap_or(stats).json();
        for camera in ["healthy", "faulty"] {
            let count = |key: &str| stats["cameras"][camera][key].as_u64().unwrap();
            let parts = ["analysed", "skipped_rate", "skipped_still", "shed", "dropped", "failed", "pending"];
            assert_eq!(count("captured"), parts.map(count).iter().sum::<u64>(), "{stats:#}");
        }
        let healthy = &stats["cameras"]["healthy"];
        assert_eq!(
            (&healthy["failed"], &healthy["shed"], &healthy["restarts"]),
            (&0.into(), &0.into(), &0.into()),
            "{healthy:#}"
        );
    }
}

#[test]
fn a_camera_that_was_switched_off_is_live_again_when_it_is_back() {
    let mut server = RtspServer::start(&Stream::synthetic("x264enc"));
    let test = FaultTest::start(&server.url(), "");
    test.wait("live");
    server.kill();
    test.wait("unreachable");
    // After four failures in a row the pause is about 4 s, so the probe of the port ends it early.
    test.wait_for_counts("four failures", |counts| counts["restarts"].as_u64() >= Some(4));
    let _server = RtspServer::start_on(server.port, &Stream::synthetic("x264enc"));
    test.wait_for_recovery();
    test.end();
}

#[test]
fn a_camera_that_hangs_is_stalled_until_it_continues() {
    let server = RtspServer::start(&Stream::synthetic("x264enc"));
    let test = FaultTest::start(&server.url(), "");
    // By then its frame rate is known, and the stall timeout follows from it.
    test.subscriber.wait("some frames", |message| {
        message.topic.ends_with("/faulty/detections") && message.json()["frame"].as_u64() > Some(10)
    });
    server.suspend();
    let status = test.wait("stalled");
    assert!(status["reason"].as_str().unwrap().starts_with("no frame for 5."), "{status}");
    server.resume();
    test.wait_for_recovery();
    test.end();
}

#[test]
fn a_stream_that_falls_silent_is_stalled_until_it_is_replaced() {
    let mut silent = Stream::synthetic("x264enc");
    silent.silent_after_ms = Some(1500);
    let mut server = RtspServer::start(&silent);
    let test = FaultTest::start(&server.url(), "");
    test.wait("live");
    test.wait("stalled");
    server.kill();
    let _server = RtspServer::start_on(server.port, &Stream::synthetic("x264enc"));
    test.wait_for_recovery();
    test.end();
}

#[test]
fn a_change_of_resolution_does_not_interrupt_the_stream() {
    let mut stream = Stream::synthetic("x264enc");
    let caps = "video/x-raw,format=I420,width=322,height=242,framerate=15/1";
    stream.caps_after_ms = Some((1500, caps.into()));
    let server = RtspServer::start(&stream);
    let test = FaultTest::start(&server.url(), "");
    test.wait("live");
    test.subscriber.wait("a detection of the new size", |message| {
        message.topic.ends_with("/faulty/detections")
            && message.json()["size"] == serde_json::json!([322, 242])
    });
    test.wait_for_counts("no failed frames", |counts| counts["failed"] == 0);
    test.end();
}

#[test]
fn a_change_of_codec_selects_another_pipeline() {
    let mut server = RtspServer::start(&Stream::synthetic("x264enc"));
    let test = FaultTest::start(&server.url(), "");
    assert_eq!(test.wait("live")["pipeline"], "rtsp-h264-software");
    for (encoder, pipeline) in [("x265enc", "rtsp-h265-software"), ("jpegenc", "rtsp-mjpeg")] {
        server.kill();
        test.wait("unreachable");
        test.subscriber.clear();
        server = RtspServer::start_on(server.port, &Stream::synthetic(encoder));
        let status = test.subscriber.wait("live with the other codec", |message| {
            message.topic.ends_with("/faulty/status") && message.json()["state"] == "live"
        });
        assert_eq!(status.json()["pipeline"], pipeline);
        test.wait_for_recovery();
    }
    test.end();
}

/// A TCP proxy between camfire and a server that can reset its connections.
struct Proxy {
    port: u16,
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    fn start(server: u16) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(Mutex::new(Vec::new()));
        let shared = connections.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)) else { continue };
                for (mut from, mut to) in [(&client, &server), (&server, &client)]
                    .map(|(a, b)| (a.try_clone().unwrap(), b.try_clone().unwrap()))
                {
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                shared.lock().unwrap().extend([client, server]);
            }
        });
        Proxy { port, connections }
    }

    fn reset(&self) {
        for connection in self.connections.lock().unwrap().drain(..) {
            // With a linger time of zero, closing sends a reset.
            socket2::SockRef::from(&connection).set_linger(Some(Duration::ZERO)).unwrap();
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

#[test]
fn a_reset_connection_is_opened_again() {
    let server = RtspServer::start(&Stream::synthetic("x264enc"));
    let proxy = Proxy::start(server.port);
    let test = FaultTest::start(&format!("rtsp://127.0.0.1:{}/cam", proxy.port), "");
    test.wait("live");
    proxy.reset();
    test.wait("unreachable");
    test.wait_for_recovery();
    test.end();
}

/// A server that sends random bytes on every connection until it is stopped.
struct NoiseServer {
    stopped: Arc<AtomicBool>,
    port: u16,
}

impl NoiseServer {
    fn start() -> NoiseServer {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = stopped.clone();
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let Ok((mut client, _)) = listener.accept() else {
                    // Polls, so that the thread ends and frees the port after `stop`.
                    std::thread::sleep(Duration::from_millis(10));
                    continue;
                };
                let stop = stop.clone();
                client.set_nonblocking(false).unwrap();
                std::thread::spawn(move || {
                    let mut random = 7u64;
                    let mut noise = || {
                        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                        (random >> 56) as u8
                    };
                    let _ = client.set_read_timeout(Some(Duration::from_millis(10)));
                    while !stop.load(Ordering::Relaxed) {
                        let _ = client.read(&mut [0; 4096]);
                        let noise: Vec<u8> = (0..65536).map(|_| noise()).collect();
                        if client.write_all(&noise).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        NoiseServer { stopped, port }
    }
}

#[test]
fn a_server_that_sends_noise_is_unreachable_until_it_is_replaced() {
    let noise_server = NoiseServer::start();
    let test = FaultTest::start(&format!("rtsp://127.0.0.1:{}/cam", noise_server.port), "");
    test.wait("unreachable");
    noise_server.stopped.store(true, Ordering::Relaxed);
    let server = wait_for("the port to be free", || {
        TcpListener::bind((Ipv4Addr::LOCALHOST, noise_server.port)).ok().map(drop)?;
        Some(RtspServer::start_on(noise_server.port, &Stream::synthetic("x264enc")))
    });
    test.wait_for_recovery();
    drop(server);
    test.end();
}

#[test]
fn a_camera_whose_pipelines_hang_is_given_up_alone() {
    // The element identity sleeps for two minutes per frame. Its pipeline cannot be stopped meanwhile.
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let config = "stats.interval = '1s'\n[cameras.healthy]\nsource = 'test://ball'\n\
                  [cameras.faulty]\nsource = 'custom'\nstall_timeout = '1s'\nfirst_frame_timeout = '1s'\n\
                  launch = 'videotestsrc is-live=true ! identity sleep-time=120000000'\n";
    let mut camfire = Camfire::run(config, &broker.flags());
    let is_given_up = |message: &Received| {
        message.topic.ends_with("/faulty/status")
            && message.json()["reason"].as_str().is_some_and(|reason| reason.starts_with("given up: "))
    };
    let status = subscriber.wait("the camera to be given up", is_given_up).json();
    assert_eq!(status["state"], "stalled");
    assert_eq!(status["reason"], "given up: 3 of its pipelines cannot be stopped; opened again in 5 min");
    // The process and the other camera go on, and the faulty one is left alone.
    subscriber.clear();
    subscriber.wait("more stats", |message| {
        let counts = message.topic.ends_with("/stats").then(|| message.json()["cameras"].clone());
        counts.is_some_and(|cameras| {
            assert_eq!(cameras["faulty"]["hung_teardowns"], 3);
            assert_eq!(cameras["healthy"]["restarts"], 0);
            cameras["healthy"]["shed"] == 0 && cameras["healthy"]["failed"] == 0
        })
    });
    subscriber.wait_topic("/healthy/detections");
    assert!(camfire.end("TERM").success());
}
