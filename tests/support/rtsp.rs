//! An RTSP server in a process of its own, so that a test can kill, stop and replace it like a camera.
//!
//! The process is the test binary itself, started to run only [`server_process`].

use super::{free_port, root, send_signal, wait_for};
use gstreamer::{glib, prelude::*};
use gstreamer_rtsp_server::{self as rtsp, prelude::*};
use serde::{Deserialize, Serialize};
use std::{
    net::{Ipv4Addr, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

const VARIABLE: &str = "CAMFIRE_TEST_RTSP_SERVER";

/// What the server sends at `/cam`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stream {
    /// A launch line that ends in a payloader named `pay0`.
    pub launch: String,
    /// User and password.
    pub login: Option<(String, String)>,
    /// Milliseconds of playing after which the element `valve` closes: no frames, and no end of stream.
    pub silent_after_ms: Option<u64>,
    /// Milliseconds of playing after which the element `caps` gets these caps.
    pub caps_after_ms: Option<(u64, String)>,
}

impl Stream {
    /// The bundled clip, once.
    pub fn clip() -> Stream {
        let clip = root().join("assets/demo.mp4");
        Stream::of(&format!(
            "filesrc location=\"{}\" ! qtdemux ! h264parse ! rtph264pay name=pay0 pt=96",
            clip.display()
        ))
    }

    /// An endless synthetic stream: 640 x 360, 15 frames and one keyframe per second, encoded by `x264enc`,
    /// `x265enc` or `jpegenc`.
    pub fn synthetic(encoder: &str) -> Stream {
        let encode = match encoder {
            "x264enc" => {
                "x264enc tune=zerolatency sliced-threads=false speed-preset=ultrafast key-int-max=15 ! rtph264pay config-interval=-1"
            }
            "x265enc" => {
                "x265enc tune=zerolatency speed-preset=ultrafast key-int-max=15 ! h265parse ! rtph265pay config-interval=-1"
            }
            _ => "jpegenc ! rtpjpegpay",
        };
        Stream::of(&format!(
            "videotestsrc is-live=true pattern=ball ! videoscale ! \
             capsfilter name=caps caps=video/x-raw,format=I420,width=640,height=360,framerate=15/1 ! \
             valve name=valve ! {encode} name=pay0 pt=96"
        ))
    }

    pub fn of(launch: &str) -> Stream {
        Stream { launch: launch.into(), login: None, silent_after_ms: None, caps_after_ms: None }
    }

    pub fn with_login(self, user: &str, password: &str) -> Stream {
        Stream { login: Some((user.into(), password.into())), ..self }
    }
}

/// A running server.
pub struct RtspServer {
    child: Child,
    pub port: u16,
}

impl RtspServer {
    /// On a free port.
    pub fn start(stream: &Stream) -> RtspServer {
        RtspServer::start_on(free_port(), stream)
    }

    /// On this port, as a camera that has come back.
    pub fn start_on(port: u16, stream: &Stream) -> RtspServer {
        let stream = serde_json::to_string(&(port, stream)).unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "support::rtsp::server_process", "--ignored", "--nocapture"])
            .env(VARIABLE, stream)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = RtspServer { child, port };
        wait_for("the RTSP server to listen", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok());
        server
    }

    pub fn url(&self) -> String {
        format!("rtsp://127.0.0.1:{}/cam", self.port)
    }

    /// Ends the process as a power failure would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Stops the process: connections stay open, nothing is sent.
    pub fn suspend(&self) {
        send_signal("STOP", self.child.id());
    }

    pub fn resume(&self) {
        send_signal("CONT", self.child.id());
    }
}

impl Drop for RtspServer {
    fn drop(&mut self) {
        self.kill();
    }
}

#[test]
#[ignore = "the RTSP server process of other tests"]
fn server_process() {
    let Ok(stream) = std::env::var(VARIABLE) else { return };
    let (port, stream): (u16, Stream) = serde_json::from_str(&stream).unwrap();
    gstreamer::init().unwrap();
    let main_loop = glib::MainLoop::new(None, false);
    let server = rtsp::RTSPServer::new();
    server.set_address("127.0.0.1");
    server.set_service(&port.to_string());
    let factory = rtsp::RTSPMediaFactory::new();
    factory.set_launch(&format!("( {} )", stream.launch));
    factory.set_shared(stream.launch.contains("is-live=true"));
    if let Some((user, password)) = &stream.login {
        let auth = rtsp::RTSPAuth::new();
        let token = rtsp::RTSPToken::builder().field(rtsp::RTSP_TOKEN_MEDIA_FACTORY_ROLE, "watcher").build();
        auth.add_basic(&rtsp::RTSPAuth::make_basic(user, password), &token);
        server.set_auth(Some(&auth));
        factory.add_role_from_structure(
            &gstreamer::Structure::builder("watcher")
                .field("media.factory.access", true)
                .field("media.factory.construct", true)
                .build(),
        );
    }
    factory.connect_media_configure(move |_, media| {
        let bin = media.element().downcast::<gstreamer::Bin>().unwrap();
        let later = |ms: u64, change: Box<dyn FnOnce() + Send>| {
            std::thread::spawn(move || {
                // The simulated fault: the stream changes after this time.
                std::thread::sleep(Duration::from_millis(ms));
                change();
            });
        };
        if let (Some(ms), Some(valve)) = (stream.silent_after_ms, bin.by_name("valve")) {
            later(ms, Box::new(move || valve.set_property("drop", true)));
        }
        if let (Some((ms, caps)), Some(filter)) = (stream.caps_after_ms.clone(), bin.by_name("caps")) {
            later(ms, Box::new(move || filter.set_property_from_str("caps", &caps)));
        }
    });
    server.mount_points().unwrap().add_factory("/cam", factory);
    let _attached = server.attach(None).expect("the port is free");
    main_loop.run();
}
