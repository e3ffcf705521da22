//! Clocks that are off, step or stop. Cameras with such a clock give the same events as one that is right:
//! the camera is a small scripted RTSP server that writes its own RTP times and sender reports. The node's
//! own time of day is changed with libfaketime, as NTP does on a board without a battery.

use crate::support::{Broker, Camfire, Subscriber, launch_to_end, root, settable_clock, wait_for};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Frames that may be lost before an attempt is made again, and how many attempts there are.
const MAX_LOST: u64 = 10;
const MAX_ATTEMPTS: u32 = 10;
/// Seconds from 1900 to 1970.
const NTP_TO_UNIX: f64 = 2_208_988_800.0;
const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=control:*\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:t1\r\n";

/// A camera's clocks, by seconds of its stream.
#[derive(Clone, Copy)]
struct Clocks {
    /// Seconds by which the time of day in sender reports is ahead. None for no reports.
    ahead_s: fn(f64) -> Option<f64>,
    /// The RTP time, seconds.
    rtp_s: fn(f64) -> f64,
}

/// The clip's RTP packets as a payloader makes them, without their times.
fn packets() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("packets");
    launch_to_end(&format!(
        "filesrc location=\"{}\" ! qtdemux ! h264parse ! \
         rtph264pay config-interval=-1 pt=96 ssrc=7 seqnum-offset=0 timestamp-offset=0 mtu=1400 ! \
         rtpstreampay ! filesink location=\"{}\"",
        root().join("tests/data/scenes/noise.mp4").display(),
        file.display()
    ));
    let bytes = std::fs::read(file).unwrap();
    let (mut rest, mut packets) = (bytes.as_slice(), Vec::new());
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let (packet, after) = after.split_at(usize::from(u16::from_be_bytes(*length)));
        packets.push(packet.to_vec());
        rest = after;
    }
    packets
}

/// Serves the packets to every client. Returns the address.
fn serve(packets: Arc<Vec<Vec<u8>>>, clocks: Clocks) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("rtsp://{}/cam", listener.local_addr().unwrap());
    let base = url.clone();
    std::thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            let (packets, base) = (packets.clone(), base.clone());
            // A client that has gone ends its thread.
            std::thread::spawn(move || drop(answer(connection, &base, &packets, clocks)));
        }
    });
    url
}

fn answer(connection: TcpStream, base: &str, packets: &[Vec<u8>], clocks: Clocks) -> std::io::Result<()> {
    let mut reader = BufReader::new(connection.try_clone()?);
    let mut writer = connection;
    loop {
        let (mut request, mut cseq) = (String::new(), String::new());
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
                break;
            }
            if let Some(number) = line.to_ascii_lowercase().strip_prefix("cseq:") {
                cseq = number.trim().to_string();
            }
        }
        let method = request.split(' ').next().unwrap_or_default();
        let more = match method {
            "OPTIONS" => "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n\r\n".to_string(),
            "DESCRIBE" => format!(
                "Content-Base: {base}/\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{SDP}",
                SDP.len()
            ),
            "SETUP" => "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 42\r\n\r\n".to_string(),
            _ => "Session: 42\r\n\r\n".to_string(),
        };
        write!(writer, "RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\n{more}")?;
        if method == "PLAY" {
            return play(writer, packets, clocks);
        }
    }
}

/// Sends the packets in real time, before each frame a sender report.
fn play(mut writer: TcpStream, packets: &[Vec<u8>], clocks: Clocks) -> std::io::Result<()> {
    let (started, mut reported) = (Instant::now(), None);
    for packet in packets {
        let time = u32::from_be_bytes(packet[4..8].try_into().unwrap());
        let at_s = f64::from(time) / 90_000.0;
        // The pace of a camera.
        std::thread::sleep(Duration::from_secs_f64(at_s).saturating_sub(started.elapsed()));
        let rtp = ((clocks.rtp_s)(at_s) * 90_000.0) as i64 as u32;
        if reported.replace(time) != Some(time)
            && let Some(ahead_s) = (clocks.ahead_s)(at_s)
        {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
            let ntp = now + ahead_s + NTP_TO_UNIX;
            let mut report = vec![0x80, 200, 0, 6, 0, 0, 0, 7];
            report.extend((ntp as u32).to_be_bytes());
            report.extend(((ntp.fract() * 4_294_967_296.0) as u32).to_be_bytes());
            report.extend(rtp.to_be_bytes());
            report.extend([0; 8]);
            send(&mut writer, 1, &report)?;
        }
        let mut packet = packet.clone();
        packet[4..8].copy_from_slice(&rtp.to_be_bytes());
        send(&mut writer, 0, &packet)?;
    }
    // The clip is over; the connection stays until the test ends.
    std::thread::park();
    Ok(())
}

fn send(writer: &mut TcpStream, channel: u8, packet: &[u8]) -> std::io::Result<()> {
    let mut message = vec![b'$', channel];
    message.extend((packet.len() as u16).to_be_bytes());
    message.extend(packet);
    writer.write_all(&message)
}

/// Reasons and durations of the ends, in seconds, sorted; and how many objects started.
fn told(messages: &Subscriber, camera: &str) -> (usize, Vec<(String, f64)>) {
    let events: Vec<Value> = messages
        .all()
        .iter()
        .filter(|message| message.topic.ends_with(&format!("/{camera}/events")))
        .map(|message| message.json())
        .collect();
    let starts = events.iter().filter(|event| event["type"] == "start").count();
    let mut ends: Vec<(String, f64)> = events
        .iter()
        .filter(|event| event["type"] == "end")
        .map(|event| (event["reason"].to_string(), event["duration_s"].as_f64().unwrap()))
        .collect();
    ends.sort_by(|a, b| a.1.total_cmp(&b.1));
    (starts, ends)
}

/// Frames of all cameras that a busy machine has not analysed although their turn had come.
fn lost(messages: &Subscriber) -> u64 {
    let all = messages.all();
    let Some(stats) = all.iter().rev().find(|message| message.topic.ends_with("/stats")) else { return 0 };
    let counts = stats.json()["cameras"].as_object().unwrap().clone();
    counts.values().flat_map(|counts| ["shed", "dropped"].map(|key| counts[key].as_u64().unwrap())).sum()
}

#[test]
fn a_camera_with_a_wrong_clock_gives_the_same_events_as_one_that_is_right() {
    let right = Clocks { ahead_s: |_| Some(0.0), rtp_s: |at| at };
    let cameras: [(&str, Clocks); 5] = [
        ("right", right),
        ("behind", Clocks { ahead_s: |_| Some(-5.0), ..right }),
        ("slightly-ahead", Clocks { ahead_s: |_| Some(0.3), ..right }),
        ("stepping", Clocks { ahead_s: |at| Some(if at < 4.0 { -5.0 } else { 5.0 }), ..right }),
        ("stopped", Clocks { ahead_s: |_| None, rtp_s: |at| at.min(4.0) }),
    ];
    let packets = Arc::new(packets());
    let broker = Broker::start();
    let mut config = String::from(
        "node.name = \"n\"\nengine.everyday_head = \"off\"\nobjects.inference_budget = \"1ms\"\n\
         stats.interval = \"1s\"\n",
    );
    for (name, clocks) in cameras {
        let url = serve(packets.clone(), clocks);
        config += &format!(
            "[cameras.{name}]\nsource = \"{url}\"\nlabels = [\"any\", \"unknown\"]\nrate_fps = 3\n\
             stall_timeout = \"60s\"\n"
        );
    }
    // Cameras of which different frames are lost see different things, whatever their clocks say.
    let is_seen = |messages: &Subscriber| cameras.iter().all(|(name, _)| told(messages, name).1.len() >= 2);
    let (messages, _camfire) = (1..)
        .find_map(|attempt| {
            let messages = broker.subscribe();
            let camfire = Camfire::run(&config, &broker.flags());
            let is_busy = || attempt < MAX_ATTEMPTS && lost(&messages) > MAX_LOST;
            wait_for("the events of all cameras", || (is_seen(&messages) || is_busy()).then_some(()));
            println!("attempt {attempt}: {} frames are lost", lost(&messages));
            (!is_busy()).then_some((messages, camfire))
        })
        .unwrap();
    let (starts, ends) = told(&messages, "right");
    for (name, _) in cameras {
        let (other_starts, other_ends) = told(&messages, name);
        assert_eq!(other_starts, starts, "{name}: {other_ends:?} instead of {ends:?}");
        for (end, other) in ends.iter().zip(&other_ends) {
            assert!(
                end.0 == other.0 && (end.1 - other.1).abs() < 1.0,
                "{name}: {other_ends:?}, not {ends:?}"
            );
        }
        let detections =
            messages.all().into_iter().filter(|m| m.topic.ends_with(&format!("/{name}/detections")));
        let mut clocks: Vec<String> = detections.map(|m| m.json()["capture_clock"].to_string()).collect();
        clocks.dedup();
        assert_eq!(clocks.len(), 1, "{name}: one clock a stream, not {clocks:?}");
    }
    messages.wait("the stopped clock in the status", |message| {
        message.topic.ends_with("/stopped/status") && message.json()["clock"]["fault"] == "stream_time"
    });
}

/// A broken clock can change with every frame, and every change of the status is kept in the history.
#[test]
fn a_clock_that_jumps_all_the_time_fills_no_history() {
    let right = Clocks { ahead_s: |_| Some(0.0), rtp_s: |at| at };
    let packets = Arc::new(packets());
    let years = |at: f64| Some(if ((at * 10.0) as u64).is_multiple_of(2) { 1e8 } else { -1e9 });
    let jumping = serve(packets.clone(), Clocks { ahead_s: years, ..right });
    // Its time of day is always the same.
    let still = serve(packets, Clocks { ahead_s: |at| Some(1e8 - at), ..right });
    let broker = Broker::start();
    let messages = broker.subscribe();
    let config = format!(
        "node.name = 'n'\nstats.interval = '1s'\n[cameras.jumping]\nsource = '{jumping}'\n\
         [cameras.still]\nsource = '{still}'\n"
    );
    let _camfire = Camfire::run(&config, &broker.flags());
    for camera in ["jumping", "still"] {
        messages.wait("most of the clip", |message| {
            message.topic.ends_with("/stats")
                && message.json()["cameras"][camera]["captured"].as_u64() >= Some(100)
        });
        let is_change = |message: &crate::support::Received| {
            message.topic.ends_with(&format!("/{camera}/history")) && message.json()["topic"] == "status"
        };
        let changes = messages.all().iter().filter(|message| is_change(message)).count();
        let most = if camera == "still" { 4 } else { 9 };
        assert!((1..=most).contains(&changes), "{camera}: {changes} changes");
    }
}

#[test]
fn a_node_whose_clock_is_set_has_unique_ids_and_true_durations() {
    let folder = tempfile::tempdir().unwrap();
    let offset = folder.path().join("offset");
    std::fs::write(&offset, "-400d").unwrap();
    let config = format!(
        "stats.interval = '1s'\noutbox.file = '{}'\n[cameras.clip]\nsource = '{}'\nloop = true\n\
         realtime = true\nlabels = ['any', 'unknown']\n",
        folder.path().join("outbox.db").display(),
        crate::support::small_clip()
    );
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let mut camfire = Camfire::run_with(&config, &broker.flags(), &settable_clock(&offset));
    let age_s = |event: &Value| {
        let at: jiff::Timestamp = event["at"].as_str().unwrap().parse().unwrap();
        jiff::Timestamp::now().duration_since(at).as_secs()
    };
    let event = |kind: &str, from_s: i64, to_s: i64| {
        let is_one = |m: &crate::support::Received| {
            m.topic.ends_with("clip/events")
                && m.json()["type"] == kind
                && (from_s..to_s).contains(&age_s(&m.json()))
        };
        subscriber.wait(&format!("an {kind} of {from_s} to {to_s} s ago"), is_one).json()
    };
    const DAY_S: i64 = 86_400;
    event("start", 399 * DAY_S, 401 * DAY_S);
    // NTP finds the right time, then a wrong server sets it back by an hour.
    std::fs::write(&offset, "+0d").unwrap();
    event("end", -60, 60);
    event("start", -60, 60);
    std::fs::write(&offset, "-1h").unwrap();
    event("end", 3540, 3660);
    event("start", 3540, 3660);
    camfire.end("TERM");
    let events: Vec<Value> =
        subscriber.all().iter().filter(|m| m.topic.ends_with("clip/events")).map(|m| m.json()).collect();
    let mut ids: Vec<&str> = Vec::new();
    let mut last_seq = 0;
    for event in &events {
        let seq = event["seq"].as_u64().unwrap();
        assert!(seq > last_seq, "{seq} after {last_seq}");
        last_seq = seq;
        let duration_s = event["duration_s"].as_f64().unwrap();
        assert!((0.0..300.0).contains(&duration_s), "{event}");
        if event["type"] == "start" {
            ids.push(event["id"].as_str().unwrap());
        }
    }
    let starts = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert!(starts >= 3 && ids.len() == starts, "{ids:?}");
}
