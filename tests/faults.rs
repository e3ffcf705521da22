//! What cameras do to those who watch them: each fault on a real RTSP server, beside a camera that must not
//! notice.

use crate::support::{
    Broker, Camfire, Listener, free_port,
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

/// The camera that is tormented and one that is not, and who hears of both.
struct Scene {
    camfire: Camfire,
    listener: Listener,
    _broker: Broker,
}

/// How long after the source is good again a camera may take to be live. Generous here, for machines that are
/// busy; docs/capture.md tells what was measured.
const BACK: Duration = Duration::from_secs(20);

impl Scene {
    fn start(url: &str, more: &str) -> Scene {
        let broker = Broker::start();
        let listener = broker.listen();
        let config = format!(
            "stats.interval = '1s'\n[cameras.yard]\nsource = '{url}'\n{more}\n[cameras.calm]\nsource = 'test://ball'\n\
             options = {{ width = 320, height = 240, fps = 10 }}\n"
        );
        let camfire = Camfire::run(&config, &broker.flags());
        Scene { camfire, listener, _broker: broker }
    }

    fn wait(&self, state: &str) -> serde_json::Value {
        self.listener.wait_state("yard", state)
    }

    /// Waits for pictures of the tormented camera from now on; how long that took.
    fn wait_until_back(&self) -> Duration {
        let since = Instant::now();
        self.listener.forget();
        self.listener.wait_topic("/yard/detections");
        let took = since.elapsed();
        println!("back after {:.1} s", took.as_secs_f64());
        assert!(took < BACK, "{took:?}");
        took
    }

    /// The calm camera's frames all arrived, one after the other, and the accounts of both balance.
    fn end(mut self) {
        // Whatever happened to the other, this one goes on.
        self.listener.forget();
        self.listener.wait_topic("/calm/detections");
        assert!(self.camfire.end("TERM").success());
        let stats = self.listener.wait("the last stats", |heard| {
            heard.topic.ends_with("/stats") && heard.json()["cameras"]["calm"]["pending"] == 0
        });
        let stats =
            self.listener.all().into_iter().rfind(|h| h.topic.ends_with("/stats")).unwrap_or(stats).json();
        for camera in ["calm", "yard"] {
            let account = |key: &str| stats["cameras"][camera][key].as_u64().unwrap();
            let parts = ["analysed", "skipped_rate", "skipped_still", "shed", "dropped", "failed", "pending"];
            assert_eq!(account("captured"), parts.map(account).iter().sum::<u64>(), "{stats:#}");
        }
        let calm = &stats["cameras"]["calm"];
        assert_eq!(
            (&calm["failed"], &calm["shed"], &calm["restarts"]),
            (&0.into(), &0.into(), &0.into()),
            "{calm:#}"
        );
    }
}

#[test]
fn killed_and_restarted() {
    let mut server = RtspServer::start(&Stream::drawn("x264enc"));
    let scene = Scene::start(&server.url(), "");
    scene.wait("live");
    server.kill();
    scene.wait("unreachable");
    // Long enough that the pauses have grown: it is the open port that brings it back.
    std::thread::sleep(Duration::from_secs(4));
    let _server = RtspServer::start_on(server.port, &Stream::drawn("x264enc"));
    scene.wait_until_back();
    scene.end();
}

#[test]
fn frozen_and_resumed() {
    let server = RtspServer::start(&Stream::drawn("x264enc"));
    let scene = Scene::start(&server.url(), "");
    // Long enough for its rate to be known.
    scene.listener.wait("some frames", |heard| {
        heard.topic.ends_with("/yard/detections") && heard.json()["frame"].as_u64() > Some(10)
    });
    server.freeze();
    let status = scene.wait("stalled");
    assert!(status["reason"].as_str().unwrap().starts_with("no frame for 2."), "{status}");
    server.thaw();
    scene.wait_until_back();
    scene.end();
}

#[test]
fn silent_after_a_few_frames() {
    let mut silent = Stream::drawn("x264enc");
    silent.silent_after_ms = Some(400);
    let mut server = RtspServer::start(&silent);
    let scene = Scene::start(&server.url(), "");
    scene.wait("live");
    scene.wait("stalled");
    server.kill();
    let _server = RtspServer::start_on(server.port, &Stream::drawn("x264enc"));
    scene.wait_until_back();
    scene.end();
}

#[test]
fn another_resolution_in_the_middle_is_followed() {
    let mut stream = Stream::drawn("x264enc");
    let caps = "video/x-raw,format=I420,width=322,height=242,framerate=15/1";
    stream.caps_after_ms = Some((1500, caps.into()));
    let server = RtspServer::start(&stream);
    let scene = Scene::start(&server.url(), "");
    scene.wait("live");
    std::thread::sleep(Duration::from_secs(2));
    scene.wait_until_back();
    let stats = scene.listener.wait_topic("/stats").json();
    assert_eq!(stats["cameras"]["yard"]["failed"], 0);
    scene.end();
}

#[test]
fn another_codec_after_a_restart_is_followed() {
    let mut server = RtspServer::start(&Stream::drawn("x264enc"));
    let scene = Scene::start(&server.url(), "");
    assert_eq!(scene.wait("live")["pipeline"], "rtsp-h264-software");
    for (encoder, pipeline) in [("x265enc", "rtsp-h265-software"), ("jpegenc", "rtsp-mjpeg")] {
        server.kill();
        scene.wait("unreachable");
        scene.listener.forget();
        server = RtspServer::start_on(server.port, &Stream::drawn(encoder));
        let status = scene.listener.wait("the other codec", |heard| {
            heard.topic.ends_with("/yard/status") && heard.json()["state"] == "live"
        });
        assert_eq!(status.json()["pipeline"], pipeline);
        scene.wait_until_back();
    }
    scene.end();
}

/// Between camfire and a server; can cut every connection with a reset.
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
            // Closing with no time to linger is a reset.
            socket2::SockRef::from(&connection).set_linger(Some(Duration::ZERO)).unwrap();
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

#[test]
fn a_connection_that_is_reset_is_made_again() {
    let server = RtspServer::start(&Stream::drawn("x264enc"));
    let proxy = Proxy::start(server.port);
    let scene = Scene::start(&format!("rtsp://127.0.0.1:{}/cam", proxy.port), "");
    scene.wait("live");
    proxy.reset();
    scene.wait("unreachable");
    scene.wait_until_back();
    scene.end();
}

/// Answers every connection with noise, for ever.
struct Garbage {
    over: Arc<AtomicBool>,
    port: u16,
}

impl Garbage {
    fn start() -> Garbage {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).unwrap();
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let stop = over.clone();
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let Ok((mut client, _)) = listener.accept() else {
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
        Garbage { over, port }
    }
}

#[test]
fn endless_garbage_is_survived() {
    let garbage = Garbage::start();
    let scene = Scene::start(&format!("rtsp://127.0.0.1:{}/cam", garbage.port), "");
    scene.wait("unreachable");
    garbage.over.store(true, Ordering::Relaxed);
    let server = wait_for("the port to be free", || {
        TcpListener::bind((Ipv4Addr::LOCALHOST, garbage.port)).ok().map(drop)?;
        Some(RtspServer::start_on(garbage.port, &Stream::drawn("x264enc")))
    });
    scene.wait_until_back();
    drop(server);
    scene.end();
}

#[test]
fn a_pipeline_that_hangs_takes_nobody_with_it_and_in_the_end_the_process_gives_up() {
    // An element that sleeps through everything: its pipeline cannot be taken down while it does.
    let broker = Broker::start();
    let listener = broker.listen();
    let config = "stats.interval = '1s'\n[cameras.calm]\nsource = 'test://ball'\n\
                  [cameras.yard]\nsource = 'custom'\nstall_timeout = '1s'\nfirst_frame_timeout = '1s'\n\
                  launch = 'videotestsrc is-live=true ! identity sleep-time=120000000'\n";
    let mut camfire = Camfire::run(config, &broker.flags());
    listener.wait("a hung teardown in the stats", |heard| {
        heard.topic.ends_with("/stats")
            && heard.json()["cameras"]["yard"]["hung_teardowns"].as_u64() > Some(0)
    });
    listener.forget();
    listener.wait_topic("/calm/detections");
    let status = camfire.wait();
    assert_eq!(status.code(), Some(1));
    assert!(camfire.log().contains("Too many pipelines hang"), "{}", camfire.log());
}
