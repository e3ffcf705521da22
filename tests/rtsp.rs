//! RTSP cameras that follow a script: logins, keep-alives, tracks, transports, redirects and attacks.

use crate::support::{
    Broker, Camfire, Received, Subscriber, root,
    rtsp_script::{Attack, LOGIN, Script, ScriptedCamera},
    wait_for,
};
use std::{process::Command, time::Duration};

/// A camfire with the cameras `names` at these addresses.
struct Watch {
    camfire: Camfire,
    subscriber: Subscriber,
    _broker: Broker,
}

fn watch(cameras: &[(&str, &str, &str)]) -> Watch {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let mut config = "stats.interval = '1s'\n".to_string();
    for (name, url, more) in cameras {
        config += &format!("[cameras.{name}]\nsource = '{url}'\n{more}\n");
    }
    let camfire = Camfire::run(&config, &broker.flags());
    Watch { camfire, subscriber, _broker: broker }
}

fn login(password: &str) -> String {
    format!("user = '{}'\npassword = '{password}'", LOGIN.0)
}

fn reason(status: &serde_json::Value) -> &str {
    status["reason"].as_str().unwrap()
}

#[test]
fn a_wrong_password_is_sent_once() {
    let digest = "Digest realm=\"cam\", nonce=\"{nonce}\", qop=\"auth\", algorithm=MD5";
    let cameras = [
        ("basic", Script::h264().with_challenge("Basic realm=\"cam\"").start()),
        ("digest", Script::h264().with_challenge(digest).start()),
        // Whatever is wrong, this one blames the nonce.
        (
            "stale",
            Script::h264().with_challenge("Digest realm=\"cam\", nonce=\"{nonce}\", stale=TRUE").start(),
        ),
        (
            "late",
            Script { open_methods: "OPTIONS, DESCRIBE, SETUP", ..Script::h264().with_challenge(digest) }
                .start(),
        ),
        (
            "closing",
            Script { closes_behind_challenge: true, ..Script::h264().with_challenge(digest) }.start(),
        ),
    ];
    let wrong = login("mistyped");
    let config: Vec<_> =
        cameras.iter().map(|(name, camera)| (*name, camera.url.as_str(), wrong.as_str())).collect();
    let watch = watch(&config);
    for (name, camera) in &cameras {
        let status = watch.subscriber.wait_state(name, "denied");
        assert_eq!(reason(&status), "the camera rejects user and password (401 Unauthorized)");
        assert_eq!(camera.logins(), 1, "{name}: {:#?}", camera.requests());
    }
    assert!(!watch.camfire.log().contains("mistyped"));
}

#[test]
fn every_kind_of_login_is_answered() {
    let challenge = |text: &'static str| Script::h264().with_challenge(text);
    let md5 = "Digest realm=\"cam\", nonce=\"{nonce}\", qop=\"auth\", algorithm=MD5";
    let cameras: Vec<(&str, ScriptedCamera)> = vec![
        ("basic", challenge("Basic realm=\"cam\"").start()),
        ("plain", challenge("Digest realm=\"cam\", nonce=\"{nonce}\"").start()),
        ("qop", challenge("Digest realm=\"cam\", nonce=\"{nonce}\", qop=\"auth,auth-int\"").start()),
        ("auth-int", challenge("Digest realm=\"cam\", nonce=\"{nonce}\", qop=\"auth-int\"").start()),
        (
            "sha",
            challenge("Digest realm=\"cam\", nonce=\"{nonce}\", algorithm=SHA-256, qop=\"auth\"").start(),
        ),
        ("sha-plain", challenge("Digest realm=\"cam\", nonce=\"{nonce}\", algorithm=SHA-256").start()),
        ("closing", Script { closes_behind_challenge: true, ..challenge(md5) }.start()),
        ("late", Script { open_methods: "OPTIONS, DESCRIBE, SETUP", ..challenge(md5) }.start()),
        ("one-time", Script { nonce_uses: 1, timeout_s: Some(2), ..challenge(md5) }.start()),
    ];
    let right = login(LOGIN.1);
    let config: Vec<_> =
        cameras.iter().map(|(name, camera)| (*name, camera.url.as_str(), right.as_str())).collect();
    let watch = watch(&config);
    for (name, _) in &cameras {
        watch.subscriber.wait_state(name, "live");
    }
    // Also in keep-alives.
    let one_time = &cameras.last().unwrap().1;
    wait_for("keep-alives", || (one_time.asked("GET_PARAMETER").len() > 5).then_some(()));
    assert_eq!(one_time.asked("PLAY").len(), 2, "the second with a new nonce: {:#?}", one_time.requests());
    assert_eq!(one_time.asked("DESCRIBE").len(), 2, "the second with a login");
    assert!(!watch.camfire.log().contains(LOGIN.1));
}

#[test]
fn a_kind_of_login_that_is_not_supported_is_named_and_not_tried() {
    let camera =
        Script::h264().with_challenge("Digest realm=\"cam\", nonce=\"{nonce}\", algorithm=SHA-1").start();
    let open = Script::h264().with_challenge("Basic realm=\"cam\"").start();
    let right = login(LOGIN.1);
    let watch = watch(&[("yard", &camera.url, &right), ("open", &open.url, "")]);
    let status = watch.subscriber.wait_state("yard", "denied");
    assert!(reason(&status).contains("accepts only Digest with SHA-1"), "{status}");
    assert_eq!(camera.logins(), 0);
    let status = watch.subscriber.wait_state("open", "denied");
    assert!(reason(&status).contains("requires user and password"), "{status}");
}

#[test]
fn keep_alives_follow_the_session_timeout_and_what_the_camera_offers() {
    let base = Script { timeout_s: Some(2), ..Script::h264() };
    let offers = base.clone().start();
    let lacks = Script { public: "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN", ..base.clone() }.start();
    let config = [("offers", offers.url.as_str(), ""), ("lacks", lacks.url.as_str(), "")];
    let watch = watch(&config);
    for (camera, method, first) in [(&offers, "GET_PARAMETER", 0), (&lacks, "OPTIONS", 1)] {
        let sent = wait_for("keep-alives", || {
            let sent = camera.asked(method);
            (sent.len() >= first + 5).then_some(sent)
        });
        let play = camera.asked("PLAY")[0].at;
        let all: Vec<_> =
            std::iter::once(play).chain(sent[first..].iter().map(|request| request.at)).collect();
        for pair in all.windows(2) {
            // A busy machine may be late. Half of the timeout is what is right, all of it is too late.
            assert!(pair[1] - pair[0] < Duration::from_secs(2), "{sent:#?}");
        }
        assert!(all[5] - all[0] < Duration::from_secs(7), "about 0.9 s each: {sent:#?}");
        assert_eq!(camera.asked("PLAY").len(), 1, "never reopened");
    }
    for camera in ["offers", "lacks"] {
        assert_eq!(watch.subscriber.wait_state(camera, "live")["transport"], "tcp");
    }
}

#[test]
fn the_first_track_that_can_be_watched_is_used() {
    let behind = |tracks: &str| {
        let script = Script::h264();
        Script { sdp: script.sdp.replace("m=video", &format!("{tracks}m=video")), ..script }.start()
    };
    let other = "m=video 0 RTP/AVP 97\r\na=rtpmap:97 MP4V-ES/90000\r\na=control:t2\r\n";
    let second = behind(other);
    let third = behind(&format!(
        "m=audio 0 RTP/AVP 0\r\na=control:t3\r\n{other}m=video 0 RTP/AVP 32\r\na=control:t4\r\n"
    ));
    // Without a rtpmap, as the standard allows for this payload type.
    let jpeg = Script::jpeg().start();
    let script = Script::h264();
    let none = Script { sdp: script.sdp.replace("H264", "VP8"), ..script }.start();
    let watch = watch(&[
        ("second", &second.url, ""),
        ("third", &third.url, ""),
        ("jpeg", &jpeg.url, ""),
        ("none", &none.url, ""),
    ]);
    for (camera, pipeline) in
        [("second", "rtsp-h264-software"), ("third", "rtsp-h264-software"), ("jpeg", "rtsp-mjpeg")]
    {
        assert_eq!(watch.subscriber.wait_state(camera, "live")["pipeline"], pipeline);
    }
    let status = watch.subscriber.wait_state("none", "unsupported");
    assert_eq!(reason(&status), "the camera sends VP8, which no pipeline supports");
}

#[test]
fn udp_is_used_where_tcp_is_refused_and_the_other_way_round() {
    const REFUSED: Option<&str> = Some("461 Unsupported Transport");
    let udp_only = Script { refuses: [REFUSED, None], ..Script::h264() }.start();
    let tcp_only = Script { refuses: [None, REFUSED], ..Script::h264() }.start();
    let lossy = Script { loses_udp: true, ..Script::h264() }.start();
    let neither = Script { refuses: [REFUSED, REFUSED], ..Script::h264() }.start();
    let watch = watch(&[
        ("udp-only", &udp_only.url, ""),
        ("chosen", &udp_only.url, "options = { transport = 'udp' }"),
        ("tcp-only", &tcp_only.url, "options = { transport = 'tcp+udp' }"),
        ("lossy", &lossy.url, "options = { transport = 'tcp+udp' }"),
        ("neither", &neither.url, ""),
        ("strict", &tcp_only.url, "options = { transport = 'udp' }"),
    ]);
    for (camera, transport) in [("udp-only", "udp"), ("chosen", "udp"), ("tcp-only", "tcp"), ("lossy", "tcp")]
    {
        assert_eq!(watch.subscriber.wait_state(camera, "live")["transport"], transport, "{camera}");
        watch.subscriber.wait_topic(&format!("/{camera}/detections"));
    }
    let log = watch.camfire.log();
    assert!(log.contains("options.transport = \"udp\" does so at once"), "{log}");
    assert!(log.contains("refuses RTP over TCP (461 Unsupported Transport)"), "{log}");
    let status = watch.subscriber.wait_state("neither", "unsupported");
    assert_eq!(
        reason(&status),
        "the camera refuses RTP over TCP (461 Unsupported Transport) and the camera refuses RTP over UDP (461 \
         Unsupported Transport)"
    );
    let status = watch.subscriber.wait_state("strict", "unsupported");
    assert!(reason(&status).contains("options.transport = \"tcp\" was not tried"), "{status}");
}

#[test]
fn redirects_are_followed_but_the_password_stays_with_its_host() {
    let target = Script::h264().with_challenge("Basic realm=\"cam\"").start();
    let same = Script { redirect: Some(target.url.clone()), ..Script::h264() }.start();
    let elsewhere =
        Script { redirect: Some(target.url.replace("127.0.0.1", "localhost")), ..Script::h264() }.start();
    let right = login(LOGIN.1);
    let watch = watch(&[("same", &same.url, &right), ("elsewhere", &elsewhere.url, &right)]);
    watch.subscriber.wait_state("same", "live");
    let status = watch.subscriber.wait_state("elsewhere", "denied");
    assert!(reason(&status).contains("redirects to another host"), "{status}");
    assert_eq!(same.logins() + elsewhere.logins(), 0);
}

#[test]
fn an_encrypted_camera_needs_a_trusted_certificate_unless_that_is_switched_off() {
    let folder = tempfile::tempdir().unwrap();
    let script = root().join("tests/data/certificates.sh");
    assert!(Command::new("sh").arg(script).current_dir(folder.path()).output().unwrap().status.success());
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    let identity = native_tls::Identity::from_pkcs8(&read("server.pem"), &read("server.key")).unwrap();
    let camera = Script::h264().with_challenge("Basic realm=\"cam\"").start_tls(identity);
    let right = login(LOGIN.1);
    let trusting = format!("{right}\noptions = {{ verify_tls = false }}");
    let watch = watch(&[("trusting", &camera.url, &trusting), ("strict", &camera.url, &right)]);
    watch.subscriber.wait_state("trusting", "live");
    let status = watch.subscriber.wait_state("strict", "unreachable");
    assert!(reason(&status).contains("TLS") && reason(&status).contains("certificate"), "{status}");
}

/// The largest resident memory that a process has had, in MiB.
fn peak_mib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

#[test]
fn hostile_cameras_neither_fill_the_memory_nor_affect_others() {
    let attacks = [
        ("body", Attack::EndlessBody, "the camera sends a body of 400000000 bytes, more than 64 KiB"),
        ("header", Attack::EndlessHeader, "the camera sends a header longer than 16 KiB"),
        ("late-header", Attack::EndlessHeaderWhilePlaying, "the camera sends a header longer than 16 KiB"),
        ("redirect", Attack::RedirectToSelf, "the camera redirects more than 3 times"),
        ("drip", Attack::Drip, "no answer to DESCRIBE within 5 s"),
        ("frame", Attack::EndlessFrame, "the camera sent 32 MiB without a whole frame"),
    ];
    let cameras: Vec<ScriptedCamera> =
        attacks.iter().map(|(_, attack, _)| Script::h264().with_attack(*attack).start()).collect();
    let flood = Script::h264().with_attack(Attack::Flood).start();
    let sources = Script::h264().with_attack(Attack::ManySources).start();
    let mut config: Vec<(&str, &str, &str)> =
        attacks.iter().zip(&cameras).map(|((name, ..), camera)| (*name, camera.url.as_str(), "")).collect();
    config.push(("flood", &flood.url, ""));
    config.push(("sources", &sources.url, "first_frame_timeout = '2s'"));
    config.push(("healthy", "test://ball", "options = { width = 320, height = 240, fps = 10 }"));
    let mut watch = watch(&config);
    for (name, _, expected) in &attacks {
        let status = watch.subscriber.wait_state(name, "unreachable");
        assert_eq!(reason(&status), *expected, "{name}");
    }
    watch.subscriber.wait_state("sources", "stalled");
    watch.subscriber.wait("several attempts at each", |message: &Received| {
        message.topic.ends_with("/stats")
            && attacks
                .iter()
                .all(|(name, ..)| message.json()["cameras"][name]["restarts"].as_u64() >= Some(2))
    });
    // The exchange follows three redirects, and the delay between two attempts grows.
    let redirect = &cameras[3];
    let attempts = redirect.asked("OPTIONS").len();
    assert!(redirect.asked("DESCRIBE").len() <= 4 * attempts, "{attempts} attempts");
    let peak = peak_mib(watch.camfire.id());
    println!("at most {peak} MiB resident");
    assert!(peak < 400, "{peak} MiB");
    watch.subscriber.clear();
    let stats = watch.subscriber.wait_topic("/stats").json();
    let healthy = &stats["cameras"]["healthy"];
    for count in ["shed", "failed", "restarts"] {
        assert_eq!(healthy[count], 0, "{healthy:#}");
    }
    for (name, ..) in &attacks {
        assert_eq!(stats["cameras"][name]["hung_teardowns"], 0, "{name}");
    }
    assert!(watch.camfire.end("TERM").success());
}
