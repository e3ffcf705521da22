//! HTTP cameras: what they may send, what is wrong with some of them, and servers that attack.

use crate::support::{
    Broker, Camfire, Subscriber, WithoutPlugins,
    http::{HttpServer, ScriptedServer},
    launch_to_end, root, wait_for,
};
use std::{io::Write, net::TcpStream, path::Path, sync::Arc, time::Duration};

/// A JPEG image of 320 x 240 pixels.
fn image() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image.jpg");
    launch_to_end(&format!(
        "videotestsrc num-buffers=1 ! video/x-raw,width=320,height=240 ! jpegenc ! filesink location=\"{}\"",
        file.display()
    ));
    std::fs::read(file).unwrap()
}

/// Ten seconds of video in a container.
fn video(encode_and_mux: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("video");
    launch_to_end(&format!(
        "videotestsrc num-buffers=150 pattern=ball ! video/x-raw,format=I420,width=320,height=240,framerate=15/1 ! \
         {encode_and_mux} ! filesink location=\"{}\"",
        file.display()
    ));
    std::fs::read(file).unwrap()
}

const H264: &str = "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 ! h264parse";

fn write_image(client: &mut TcpStream, image: &[u8]) -> std::io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nConnection: close\r\n";
    write!(client, "{head}Content-Length: {}\r\n\r\n", image.len())?;
    client.write_all(image)
}

/// Keeps a connection open until the client closes it.
fn hold(client: &mut TcpStream) {
    let _ = client.set_read_timeout(None);
    let _ = std::io::copy(client, &mut std::io::sink());
}

/// The states that a camera has published, without repetitions.
fn states(subscriber: &Subscriber, camera: &str) -> Vec<String> {
    let ending = format!("/{camera}/status");
    let statuses = subscriber.all().into_iter().filter(|message| message.topic.ends_with(&ending));
    let mut states: Vec<String> =
        statuses.map(|message| message.json()["state"].as_str().unwrap().to_string()).collect();
    states.dedup();
    states
}

/// The configuration of cameras with these names, each with its own path on `server`.
fn cameras(server: &ScriptedServer, paths: &[&str], more: &str) -> String {
    let name = |path: &str| path.split('.').next().unwrap_or_default().to_string();
    let camera = |path: &&str| format!("[cameras.{}]\nsource = '{}'\n{more}\n", name(path), server.url(path));
    format!("stats.interval = '1s'\n{}", paths.iter().map(camera).collect::<String>())
}

fn stats(message: &crate::support::Received, camera: &str, key: &str) -> u64 {
    message.json()["cameras"][camera][key].as_u64().unwrap_or_default()
}

#[test]
fn a_still_that_is_bad_or_late_is_skipped_and_counted() {
    let jpeg = image();
    let server = ScriptedServer::start(move |request, client| {
        let is_bad = request.number % 5 == 3;
        match request.path.as_str() {
            "/cut.jpg" if is_bad => write_image(client, &jpeg[..jpeg.len() / 2]),
            "/short.jpg" if is_bad => {
                write!(client, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", jpeg.len())?;
                client.write_all(&jpeg[..99])
            }
            "/empty.jpg" if is_bad => write_image(client, b""),
            "/page.jpg" if is_bad => {
                write!(
                    client,
                    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>"
                )
            }
            "/busy.jpg" if request.number % 2 == 0 => {
                write!(client, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
            }
            "/reset.jpg" if is_bad => Ok(()),
            // Once, and longer than any still may take.
            "/late.jpg" if request.number == 4 => {
                hold(client);
                Ok(())
            }
            "/chunked.jpg" => {
                write!(client, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
                for chunk in jpeg.chunks(1000) {
                    write!(client, "{:x}\r\n", chunk.len())?;
                    client.write_all(chunk)?;
                    client.write_all(b"\r\n")?;
                }
                write!(client, "0\r\n\r\n")
            }
            // No length, and the connection stays open.
            "/open.jpg" => {
                write!(client, "HTTP/1.0 200 OK\r\n\r\n")?;
                client.write_all(&jpeg)?;
                hold(client);
                Ok(())
            }
            _ => write_image(client, &jpeg),
        }
    });
    let bad = ["cut.jpg", "short.jpg", "empty.jpg", "page.jpg", "busy.jpg", "reset.jpg", "late.jpg"];
    let good = ["chunked.jpg", "open.jpg"];
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let _camfire =
        Camfire::run(&cameras(&server, &[&bad[..], &good].concat(), "rate_fps = 5"), &broker.flags());
    for name in bad.map(|path| path.trim_end_matches(".jpg")) {
        let message =
            subscriber.wait(&format!("skipped stills of {name}, and others after them"), |message| {
                message.topic.ends_with("/stats")
                    && stats(message, name, "unusable") > 0
                    && stats(message, name, "captured") > 10
            });
        assert_eq!(stats(&message, name, "restarts"), 0, "{name}");
        let status = subscriber.wait(&format!("health of {name}"), |message| {
            message.topic.ends_with(&format!("/{name}/status")) && message.json()["health"] == "incomplete"
        });
        assert!(status.json()["health_reason"].is_string(), "{}", status.payload);
        assert_eq!(states(&subscriber, name), ["starting", "live"], "{name}");
    }
    for name in good.map(|path| path.trim_end_matches(".jpg")) {
        let message = subscriber.wait(&format!("stills of {name}"), |message| {
            message.topic.ends_with("/stats") && stats(message, name, "captured") > 10
        });
        assert_eq!(stats(&message, name, "unusable"), 0, "{name}");
        // Stills are fetched at the camera's rate. On a busy machine two of them may come together.
        let [skipped, captured] = ["skipped_rate", "captured"].map(|key| stats(&message, name, key));
        assert!(4 * skipped < captured, "{name}: {skipped} of {captured}");
    }
}

/// Every fifth still is missing, and the same object is tracked before and after.
#[test]
fn a_bad_still_does_not_end_objects() {
    let folder = tempfile::tempdir().unwrap();
    launch_to_end(&format!(
        "filesrc location=\"{}\" ! qtdemux ! h264parse ! avdec_h264 ! videorate ! video/x-raw,framerate=5/1 ! jpegenc ! \
         multifilesink location=\"{}/%05d.jpg\"",
        root().join("tests/data/scenes/noise.mp4").display(),
        folder.path().display()
    ));
    let directory = folder.path().to_path_buf();
    let server = ScriptedServer::start(move |request, client| {
        if request.number % 5 == 2 {
            return write!(client, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
        }
        let still = (0..=request.number - request.number / 5)
            .rev()
            .find_map(|number| std::fs::read(directory.join(format!("{number:05}.jpg"))).ok());
        write_image(client, &still.unwrap_or_default())
    });
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let _camfire = Camfire::run(&cameras(&server, &["yard.jpg"], "rate_fps = 5"), &broker.flags());
    let event = |kind: &str, is_it: &dyn Fn(&serde_json::Value) -> bool| {
        let message = subscriber.wait(&format!("an event's {kind}"), |message| {
            message.topic.ends_with("/yard/events")
                && message.json()["type"] == kind
                && is_it(&message.json())
        });
        message.json()
    };
    let start = event("start", &|_| true);
    // Several objects pass, and they may end in another order.
    let end = event("end", &|end| end["id"] == start["id"]);
    assert_ne!(end["reason"], "camera_lost");
    assert!(server.requests("/yard.jpg").len() > 5);
    assert_eq!(states(&subscriber, "yard"), ["starting", "live"]);
}

#[test]
fn mjpeg_is_read_however_its_parts_are_written() {
    let jpeg = image();
    let server = ScriptedServer::start(move |request, client| {
        let (media_type, cut, head, length) = match request.path.as_str() {
            "/jpg" => {
                ("multipart/x-mixed-replace; boundary=frame", "--frame", "Content-Type: image/jpg", true)
            }
            "/nolength" => {
                ("multipart/x-mixed-replace;boundary=--x", "--x", "Content-Type: image/jpeg", false)
            }
            "/mixed" => ("multipart/mixed; boundary=\"a cut\"", "--a cut", "content-type: image/jpeg", false),
            "/untyped" => ("text/plain", "--other", "Content-Type:image/jpeg\r\nX-Time: 1", true),
            "/bare" => ("multipart/x-mixed-replace", "--bare", "X-Time: 1", true),
            _ => ("multipart/x-mixed-replace; boundary=m", "--m", "Content-Type: image/jpeg", true),
        };
        write!(client, "HTTP/1.0 200 OK\r\nContent-Type: {media_type}\r\n\r\n")?;
        for number in 0.. {
            if request.path == "/more" {
                write!(client, "{cut}\r\nContent-Type: text/plain\r\n\r\nhello\r\n")?;
            }
            write!(client, "{cut}\r\n{head}\r\n")?;
            if length {
                write!(client, "Content-Length: {}\r\n", jpeg.len())?;
            }
            write!(client, "\r\n")?;
            client.write_all(&jpeg)?;
            write!(client, "\r\n")?;
            // A part without contents now and then.
            if request.path == "/holes" && number % 5 == 4 {
                write!(client, "{cut}\r\nContent-Type: image/jpeg\r\nContent-Length: 0\r\n\r\n\r\n")?;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    });
    let paths = ["jpg", "nolength", "mixed", "untyped", "bare", "more", "holes"];
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let _camfire = Camfire::run(&cameras(&server, &paths, "rate_fps = 2"), &broker.flags());
    for path in paths {
        assert_eq!(subscriber.wait_state(path, "live")["pipeline"], "http-mjpeg", "{path}");
        let message = subscriber.wait(&format!("frames of {path}"), |message| {
            message.topic.ends_with("/stats") && stats(message, path, "captured") > 15
        });
        assert_eq!(stats(&message, path, "restarts"), 0, "{path}");
        assert_eq!(states(&subscriber, path), ["starting", "live"], "{path}");
    }
}

/// Serves streams under paths, with media types, and keeps the connections open after their end.
fn stream_server(streams: Vec<(&'static str, &'static str, Vec<u8>)>) -> ScriptedServer {
    let streams = Arc::new(streams);
    ScriptedServer::start(move |request, client| {
        let found = streams.iter().find(|(path, ..)| request.path == *path);
        let Some((_, media_type, data)) = found else {
            return write!(client, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        };
        write!(client, "HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nConnection: close\r\n\r\n")?;
        client.write_all(data)?;
        hold(client);
        Ok(())
    })
}

#[test]
fn streams_are_recognised_whatever_they_are_called() {
    let flv = video(&format!("{H264} ! flvmux streamable=true"));
    let ts = video(&format!("{H264} ! mpegtsmux"));
    let server = stream_server(vec![
        ("/flv", "video/x-flv", flv.clone()),
        ("/octet", "application/octet-stream", flv),
        ("/ts", "video/mp2t", ts.clone()),
        ("/tstext", "text/html", ts.clone()),
        ("/fmp4", "video/mp4", video(&format!("{H264} ! mp4mux fragment-duration=500 streamable=true"))),
        ("/webm", "", video("vp8enc deadline=1 ! webmmux streamable=true")),
        ("/still.jpg", "", ts),
    ]);
    let paths = ["flv", "octet", "ts", "tstext", "fmp4", "webm", "still.jpg"];
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let named = format!("[cameras.named]\nsource = '{}'\npipeline = 'http-hls'\n", server.url("flv"));
    let config = cameras(&server, &paths, "") + &named;
    let _camfire = Camfire::run(&config, &broker.flags());
    for path in paths {
        let name = path.trim_end_matches(".jpg");
        let status = subscriber.wait_state(name, "live");
        assert_eq!(status["pipeline"], "http-stream", "{path}");
        for skipped in status["passed_over"].as_array().unwrap() {
            assert_eq!(skipped["reason"], "the camera sends a video stream", "{status}");
        }
        subscriber.wait_topic(&format!("/{name}/detections"));
    }
    assert_eq!(subscriber.wait_state("named", "live")["pipeline"], "http-hls");
}

/// On a machine without libav, H.264 is decoded by what there is.
#[test]
fn without_libav_another_decoder_is_chosen() {
    let hidden = WithoutPlugins::new(&["libgstlibav.so"]);
    let ts = video(&format!("{H264} ! mpegtsmux"));
    let server = stream_server(vec![("/ts", "video/mp2t", ts)]);
    let rtsp = crate::support::rtsp::RtspServer::start(&crate::support::rtsp::Stream::synthetic("x264enc"));
    let config = cameras(&server, &["ts"], "")
        + &format!("[cameras.rtsp]\nsource = '{}'\n", rtsp.url())
        + &format!("[cameras.clip]\nsource = '{}'\n", crate::support::clip());
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let _camfire = Camfire::run_with(&config, &broker.flags(), &hidden.environment());
    for camera in ["ts", "clip"] {
        subscriber.wait_topic(&format!("/{camera}/detections"));
    }
    let status = subscriber.wait_state("rtsp", "live");
    assert_eq!(status["pipeline"], "rtsp-h264-openh264");
    let passed_over = status["passed_over"].as_array().unwrap();
    let software = passed_over.iter().find(|skipped| skipped["pipeline"] == "rtsp-h264-software").unwrap();
    assert_eq!(software["reason"], "element avdec_h264 is missing: install gstreamer1.0-libav");
    subscriber.wait_topic("/rtsp/detections");
}

#[test]
fn an_hls_stream_with_user_and_password_is_played() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().display();
    launch_to_end(&format!(
        "videotestsrc num-buffers=300 pattern=ball ! video/x-raw,width=320,height=240,framerate=15/1 ! \
         x264enc key-int-max=15 ! h264parse ! mpegtsmux ! \
         hlssink location=\"{directory}/part%03d.ts\" playlist-location=\"{directory}/live.m3u8\" target-duration=2 max-files=0"
    ));
    std::fs::write(
        folder.path().join("all.m3u8"),
        "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=100000\nlive.m3u8\n",
    )
    .unwrap();
    let server = HttpServer::start(folder.path().into(), Some("bWU6czNjcmV0"));
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let login = "user = 'me'\npassword = 's3cret'";
    let config = format!("[cameras.yard]\nsource = '{}'\n{login}\n", server.url("all.m3u8"));
    let camfire = Camfire::run(&config, &broker.flags());
    assert_eq!(subscriber.wait_state("yard", "live")["pipeline"], "http-hls");
    subscriber.wait_topic("/yard/detections");
    assert!(!camfire.log().contains("s3cret"), "{}", camfire.log());
}

#[test]
fn a_password_is_tried_once_and_digest_is_answered() {
    let jpeg = image();
    let server = ScriptedServer::start(move |request, client| {
        let authorization = request.head.lines().find_map(|line| line.strip_prefix("authorization: "));
        let digest = authorization.filter(|a| a.starts_with("Digest ")).unwrap_or_default();
        let has = |text: &str| digest.contains(text);
        if request.path == "/digest.jpg"
            && has("username=\"me\"")
            && has("uri=\"/digest.jpg\"")
            && has("qop=auth")
        {
            return write_image(client, &jpeg);
        }
        let challenge = "Digest realm=\"cam\", nonce=\"n1\", qop=\"auth\", algorithm=SHA-256";
        write!(
            client,
            "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: {challenge}\r\nContent-Length: 0\r\n\r\n"
        )
    });
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let config = cameras(&server, &["digest.jpg", "wrong.jpg"], "user = 'me'\npassword = 's3cret'");
    let _camfire = Camfire::run(&config, &broker.flags());
    subscriber.wait_state("digest", "live");
    let status = subscriber.wait_state("wrong", "denied");
    assert_eq!(status["reason"], "the camera refuses user and password");
    let logins = server.requests("/wrong.jpg");
    assert_eq!(
        logins.iter().filter(|request| request.head.contains("authorization")).count(),
        1,
        "{logins:#?}"
    );
}

/// A camera that starts again sends a web page for a while.
#[test]
fn a_pipeline_that_has_worked_is_kept_over_failures() {
    let jpeg = image();
    let server = ScriptedServer::start(move |request, client| {
        if (1..3).contains(&request.number) {
            return write!(client, "HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n<html>starting");
        }
        write!(client, "HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=m\r\n\r\n")?;
        for number in 0.. {
            write!(client, "--m\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", jpeg.len())?;
            client.write_all(&jpeg)?;
            write!(client, "\r\n")?;
            std::thread::sleep(Duration::from_millis(50));
            if request.number == 0 && number == 20 {
                break;
            }
        }
        Ok(())
    });
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let _camfire = Camfire::run(&cameras(&server, &["yard"], "rate_fps = 2"), &broker.flags());
    let status = subscriber.wait_state("yard", "unsupported");
    assert_eq!(status["reason"], "the answer is text/html, no image or video");
    subscriber.clear_topic("/detections");
    subscriber.wait_topic("/yard/detections");
    // The status and the detections come from two threads.
    wait_for("the camera to be live again", || (states(&subscriber, "yard").len() >= 5).then_some(()));
    assert_eq!(states(&subscriber, "yard"), ["starting", "live", "unreachable", "unsupported", "live"]);
    let statuses = subscriber.all().into_iter().filter(|message| message.topic.ends_with("/yard/status"));
    // The first one was published before the camera was opened.
    for status in statuses.skip(1) {
        assert_eq!(status.json()["pipeline"], "http-mjpeg", "{}", status.payload);
    }
}

/// Fifteen frames per second, then one every four seconds, as cameras send while nothing moves.
#[test]
fn a_camera_that_becomes_slow_has_not_stalled() {
    let jpeg = image();
    let server = ScriptedServer::start(move |_, client| {
        write!(client, "HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=m\r\n\r\n")?;
        for number in 0.. {
            write!(client, "--m\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", jpeg.len())?;
            client.write_all(&jpeg)?;
            write!(client, "\r\n")?;
            std::thread::sleep(Duration::from_millis(if number < 30 { 66 } else { 4000 }));
        }
        Ok(())
    });
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let _camfire = Camfire::run(&cameras(&server, &["slow"], "rate_fps = 20"), &broker.flags());
    subscriber.wait("two slow frames", |message| {
        message.topic.ends_with("/stats") && stats(message, "slow", "captured") >= 33
    });
    assert_eq!(states(&subscriber, "slow"), ["starting", "live"]);
}

/// Writes `filler` until the client closes the connection.
fn flood(client: &mut TcpStream, filler: &[u8]) -> std::io::Result<()> {
    let filler = filler.repeat(65536 / filler.len() + 1);
    loop {
        client.write_all(&filler)?;
    }
}

fn attack(path: &str, jpeg: &[u8], client: &mut TcpStream) -> std::io::Result<()> {
    const OK: &str = "HTTP/1.1 200 OK\r\n";
    const MULTIPART: &str = "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=f\r\n\r\n";
    let start = &jpeg[..400];
    // The adaptation field fills a packet of a stream that never starts.
    let packet = [&[0x47, 0x1f, 0xff, 0x10][..], &[0; 184]].concat();
    match path {
        "/part" => {
            write!(client, "{MULTIPART}--f\r\nContent-Type: image/jpeg\r\n\r\n")?;
            flood(client, b"x")
        }
        "/part_of_image" => {
            write!(client, "{MULTIPART}--f\r\nContent-Type: image/jpeg\r\n\r\n")?;
            client.write_all(start)?;
            flood(client, b"x")
        }
        "/part_with_length" => {
            write!(client, "{MULTIPART}--f\r\nContent-Length: 99999999999\r\n\r\n")?;
            flood(client, b"x")
        }
        "/preamble" => {
            write!(client, "{MULTIPART}")?;
            flood(client, b"x\n")
        }
        "/part_header" => {
            write!(client, "{MULTIPART}--f\r\n")?;
            flood(client, b"X-More: yes\r\n")
        }
        "/still.jpg" => {
            write!(client, "{OK}Content-Type: image/jpeg\r\nContent-Length: 10737418240\r\n\r\n")?;
            client.write_all(start)?;
            flood(client, b"x")
        }
        "/still_without_length.jpg" => {
            write!(client, "{OK}Content-Type: image/jpeg\r\n\r\n")?;
            client.write_all(&[0xff, 0xd8, 0xff])?;
            flood(client, b"x")
        }
        "/giant.jpg" => {
            let mut giant = jpeg.to_vec();
            let frame = giant.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
            giant[frame + 5..frame + 9].fill(0xff);
            write_image(client, &giant)
        }
        "/header" => {
            write!(client, "{OK}")?;
            flood(client, b"X-More: yes\r\n")
        }
        "/header_line" => {
            write!(client, "{OK}X-More: ")?;
            flood(client, b"x")
        }
        "/chunk_header" => {
            write!(client, "{OK}Transfer-Encoding: chunked\r\n\r\n5;")?;
            flood(client, b"x")
        }
        "/redirect" => {
            write!(client, "HTTP/1.1 302 Found\r\nLocation: /redirect\r\nContent-Length: 0\r\n\r\n")
        }
        "/playlist.m3u8" => {
            write!(client, "{OK}\r\n#EXTM3U\n")?;
            flood(client, b"#EXTINF:1,\na.ts\n")
        }
        // Each segment is preceded by the same data with a long address.
        "/map.m3u8" => {
            let map = format!("#EXT-X-MAP:URI=\"{}\"\n", "a".repeat(400_000));
            write!(client, "{OK}\r\n#EXTM3U\n{map}{}", "a\n".repeat(250_000))
        }
        "/segment.m3u8" => {
            write!(client, "{OK}\r\n#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsegment.ts\n")
        }
        "/segment.ts" | "/ts" => {
            write!(client, "{OK}Content-Type: video/mp2t\r\n\r\n")?;
            flood(client, &packet)
        }
        "/flv" => {
            write!(client, "{OK}Content-Type: video/x-flv\r\n\r\nFLV\x01\x01\0\0\0\x09\0\0\0\0")?;
            flood(client, b"\x09\0\0\x01\0\0\0\0\0\0\0x\0\0\0\x0c")
        }
        _ => {
            write!(client, "{OK}Content-Type: application/octet-stream\r\n\r\n")?;
            flood(client, b"x")
        }
    }
}

/// Peak of the resident memory of a process, MiB.
fn peak_memory_mib(id: u32) -> u64 {
    let status = std::fs::read_to_string(Path::new("/proc").join(id.to_string()).join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1024
}

/// Each server sends without end what a careless reader would keep.
#[test]
fn servers_that_send_without_end_are_refused_within_limits() {
    let jpeg = image();
    let server = ScriptedServer::start(move |request, client| attack(&request.path, &jpeg, client));
    let no_more = "the limit is 33554432 bytes";
    let attacks = [
        ("part", "unsupported", "a part does not end"),
        ("part_of_image", "unsupported", "a part does not end; the limit is 1355776 bytes"),
        ("part_with_length", "unsupported", "a part announces 99999999999 bytes"),
        ("preamble", "unsupported", "contain no part"),
        ("part_header", "unsupported", "contain no part"),
        ("still.jpg", "unsupported", "the answer has 10737418240 bytes"),
        ("still_without_length.jpg", "unsupported", no_more),
        ("giant.jpg", "unsupported", "an image has 65535 x 65535 pixels"),
        ("header", "unreachable", "too large"),
        ("header_line", "unreachable", "too large"),
        ("chunk_header", "unreachable", "chunk extensions"),
        ("redirect", "unreachable", "redirects more than 5 times"),
        ("playlist.m3u8", "unsupported", "the answer does not end; the limit is 1048576 bytes"),
        ("map.m3u8", "unsupported", "the playlist has more than 32768 segments"),
        ("segment.m3u8", "unsupported", "33554432 bytes contain no complete image"),
        ("ts", "unsupported", "33554432 bytes contain no complete image"),
        ("flv", "", ""),
        ("anything", "", ""),
    ];
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let paths = attacks.map(|(path, ..)| path);
    let good = "[cameras.good]\nsource = 'test://ball'\noptions = { width = 320, height = 240, fps = 10 }\n";
    let config = cameras(&server, &paths, "first_frame_timeout = '30s'") + good;
    let mut camfire = Camfire::run(&config, &broker.flags());
    for (path, state, reason) in attacks.iter().filter(|(_, state, _)| !state.is_empty()) {
        let name = path.split('.').next().unwrap();
        let message = subscriber.wait(&format!("{state} of {name}: {reason}"), |message| {
            let is_status = message.topic.ends_with(&format!("/{name}/status"));
            is_status && message.json()["reason"].as_str().is_some_and(|text| text.contains(reason))
        });
        assert_eq!(message.json()["state"], *state, "{path}");
    }
    // The others have been asked and have been closed.
    for path in ["/flv", "/anything"] {
        wait_for(&format!("several requests for {path}"), || (server.requests(path).len() > 1).then_some(()));
    }
    let peak = peak_memory_mib(camfire.id());
    println!("peak: {peak} MiB");
    assert!(peak < 400, "{peak} MiB");
    subscriber.clear();
    let message = subscriber.wait_topic("/stats");
    let lost = ["failed", "shed", "restarts"].map(|key| stats(&message, "good", key));
    assert_eq!(lost, [0; 3], "{}", message.payload);
    subscriber.wait_topic("/good/detections");
    assert!(camfire.end("TERM").success());
}
