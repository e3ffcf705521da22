//! `camfire doctor`: what it finds with real RTSP servers, brokers and a machine's files, and its advice.

use crate::support::{
    Broker, WithoutPlugins, camfire, free_port,
    rtsp::{RtspServer, Stream},
    stdout,
};
use serde_json::Value;
use std::{
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{Command, Output},
};

/// Runs the doctor with this configuration.
fn doctor(config: &str, arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("camfire.toml");
    std::fs::write(&file, config).unwrap();
    camfire().args(["doctor", "--config"]).arg(&file).args(arguments).output().unwrap()
}

fn findings(output: &Output) -> Vec<Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The findings about `what`.
fn about<'a>(findings: &'a [Value], what: &str) -> Vec<&'a Value> {
    findings.iter().filter(|finding| finding["what"] == what).collect()
}

fn text(finding: &Value) -> &str {
    finding["text"].as_str().unwrap()
}

/// A stream of this size at 10 frames per second, with a keyframe every `gop` of them.
fn stream((width, height): (u32, u32), gop: u32) -> Stream {
    Stream::of(&format!(
        "videotestsrc is-live=true ! video/x-raw,format=I420,width={width},height={height},framerate=10/1 ! \
         x264enc tune=zerolatency speed-preset=ultrafast key-int-max={gop} ! rtph264pay config-interval=-1 \
         name=pay0 pt=96"
    ))
}

#[test]
fn streams_are_measured_side_by_side_and_advised_on() {
    let broker = Broker::start();
    let good = RtspServer::start(&stream((320, 240), 10).with_login("viewer", "t0p-secret"));
    let far = RtspServer::start(&stream((320, 240), 1000));
    let large = RtspServer::start(&stream((2560, 1440), 10));
    let config = format!(
        "[mqtt]\nport = {}\n[cameras.good]\nsource = 'rtsp://viewer:t0p-secret@127.0.0.1:{}/cam'\n\
         [cameras.far]\nsource = '{}'\n[cameras.large]\nsource = '{}'\n\
         [cameras.denied]\nsource = 'rtsp://viewer:wr0ng-secret@127.0.0.1:{}/cam'\n\
         [cameras.gone]\nsource = 'rtsp://127.0.0.1:{}/cam'\n",
        broker.port,
        good.port,
        far.url(),
        large.url(),
        good.port,
        free_port()
    );
    let output = doctor(&config, &["--json"]);
    assert_eq!(output.status.code(), Some(1), "two cameras do not work");
    let all = stdout(&output) + &String::from_utf8_lossy(&output.stderr);
    assert!(!all.contains("-secret"), "{all}");
    let findings = findings(&output);
    let camera = |name: &str| about(&findings, &format!("camera {name}"));

    let [good] = camera("good")[..] else { panic!("{findings:#?}") };
    let details = &good["details"];
    assert_eq!(
        (&details["width"], &details["height"], &details["codec"]),
        (&320.into(), &240.into(), &"H.264".into())
    );
    let (fps, keyframe_s) = (details["fps"].as_f64().unwrap(), details["keyframe_s"].as_f64().unwrap());
    assert!((9.0..11.0).contains(&fps) && (0.9..1.1).contains(&keyframe_s), "{details}");
    assert_eq!((&details["transport"], &details["pipeline"]), (&"tcp".into(), &"rtsp-h264-software".into()));
    assert!(good["ok"] == true && text(good).starts_with("320 x 240 H.264, "), "{good}");

    let [far, advice] = camera("far")[..] else { panic!("{findings:#?}") };
    assert!(far["ok"] == true && far["details"]["keyframe_s_is_lower_bound"] == true, "{far}");
    assert!(
        advice["advice"] == true && text(advice).contains("more than keyframe_limit (2.0 s)"),
        "{advice}"
    );

    let large = camera("large");
    assert!(large[0]["details"]["width"] == 2560, "{large:?}");
    assert!(large.iter().any(|finding| text(finding).contains("use the camera's substream")), "{large:?}");

    let [denied] = camera("denied")[..] else { panic!("{findings:#?}") };
    assert!(denied["ok"] == false && text(denied).contains("password"), "{denied}");
    let [gone] = camera("gone")[..] else { panic!("{findings:#?}") };
    assert!(gone["ok"] == false && text(gone).contains("refused"), "{gone}");
}

#[test]
fn a_board_is_known_by_its_files() {
    let root = tempfile::tempdir().unwrap();
    for (file, content) in [
        ("proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0"),
        ("proc/device-tree/compatible", "raspberrypi,5-model-b\0brcm,bcm2712\0"),
        ("sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled", "50005\n"),
        ("sys/class/thermal/thermal_zone0/temp", "81300\n"),
        ("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n"),
        ("sys/class/video4linux/video0/name", "HD Pro Webcam C920\n"),
        ("sys/class/video4linux/video0/index", "0\n"),
        ("sys/class/video4linux/video19/name", "rpi-hevc-dec\n"),
        ("dev/video0", ""),
        ("etc/passwd", "camfire:x:60000:60001::/:/bin/false\n"),
        ("etc/group", "video:x:44:\ncamfire:x:60001:\n"),
    ] {
        let file = root.path().join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
    }
    set_mode(&root.path().join("dev/video0"), "660");
    let server = RtspServer::start(&stream((320, 240), 10));
    let config = format!("[cameras.yard]\nsource = '{}'\n", server.url());
    let arguments = ["--json", "--root", root.path().to_str().unwrap()];
    let findings = findings(&doctor(&config, &arguments));
    let has =
        |what: &str, words: &str| about(&findings, what).iter().any(|finding| text(finding).contains(words));
    assert!(has("camfire", "Raspberry Pi 5 Model B Rev 1.0"), "{findings:#?}");
    assert!(has("throttling", "under-voltage now"), "{findings:#?}");
    assert!(has("temperature", "81.3 °C (cpu-thermal)"), "{findings:#?}");
    assert!(has("/dev/video0", "HD Pro Webcam C920"), "{findings:#?}");
    assert!(about(&findings, "/dev/video19").is_empty(), "a decoder is no camera");
    let [service] = about(&findings, "service user")[..] else { panic!("{findings:#?}") };
    assert!(
        service["ok"] == false && text(service).contains("camfire may not open /dev/video0"),
        "{service}"
    );
    assert!(has("camera yard", "a Raspberry Pi 5 has no decoder for H.264"), "{findings:#?}");
    assert!(has("camera yard", "set the camera to H.265"), "its decoder for that has a driver");
}

fn set_mode(file: &Path, mode: &str) {
    assert!(Command::new("chmod").arg(mode).arg(file).status().unwrap().success());
}

#[test]
fn brokers_are_reported_with_what_is_wrong_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let passwords = folder.path().join("passwords");
    let made = Command::new("mosquitto_passwd")
        .args(["-b", "-c", passwords.to_str().unwrap(), "porch", "r1ght-secret"])
        .output()
        .unwrap();
    assert!(made.status.success());
    let lines = format!("allow_anonymous false\npassword_file {}\n", passwords.display());
    let broker = Broker::start_in(folder, free_port(), &lines);
    let with = |more: &str| {
        let output = doctor(&format!("[mqtt]\nport = {}\n{more}", broker.port), &["--json"]);
        assert!(!stdout(&output).contains("-secret"));
        about(&findings(&output), "broker").into_iter().cloned().collect::<Vec<_>>()
    };
    let accepted = with("user = 'porch'\npassword = 'r1ght-secret'\n");
    assert!(
        accepted[0]["ok"] == true && text(&accepted[0]).contains("accepts the user \"porch\""),
        "{accepted:?}"
    );
    let wrong = with("user = 'porch'\npassword = 'wr0ng-secret'\n");
    assert!(wrong[0]["ok"] == false && text(&wrong[0]).contains("refuses user and password"), "{wrong:?}");
    let missing = with("");
    assert!(text(&missing[0]).ends_with("set mqtt.user and mqtt.password_file"), "{missing:?}");
    // Another one answers, so the first is no fault.
    let open = Broker::start();
    let fallback = with(&format!("fallbacks = ['127.0.0.1:{}']\n", open.port));
    // Advice stands last.
    assert!(fallback[0]["advice"] == false && text(&fallback[0]).contains("answers"), "{fallback:?}");
    assert!(
        fallback[1]["advice"] == true && text(&fallback[1]).contains("another one answers"),
        "{fallback:?}"
    );
    // Nothing listens, and something that never speaks.
    let none = doctor(&format!("[mqtt]\nport = {}\n", free_port()), &["--json"]);
    let none = findings(&none);
    assert!(text(about(&none, "broker")[0]).contains("no broker runs here"), "{none:?}");
    let mute = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = mute.local_addr().unwrap().port();
    let output = doctor(&format!("[mqtt]\nport = {port}\nconnect_timeout = '1h'\n"), &["--json"]);
    let mute = findings(&output);
    assert!(about(&mute, "broker")[0]["ok"] == false, "it did not wait an hour: {mute:?}");
}

#[test]
fn what_is_not_needed_is_shown_with_all_and_packages_are_named() {
    let broker = Broker::start();
    let config = format!("[mqtt]\nport = {}\n", broker.port);
    let (short, long) = (stdout(&doctor(&config, &[])), stdout(&doctor(&config, &["--all"])));
    assert!(short.lines().all(|line| !line.starts_with("- ")), "{short}");
    assert!(long.lines().any(|line| line.starts_with("- ")), "{long}");
    let closing = short.lines().last().unwrap();
    let more: usize = closing.split(' ').next().unwrap().parse().unwrap();
    assert!(closing.contains(" more lines with --all"), "{closing}");
    assert_eq!(long.lines().count(), short.lines().count() - 1 + more, "{short}\n{long}");
    assert!(short.contains("camfire init finds and adds cameras"), "{short}");
    assert!(
        !short.contains("pipeline rtsp-h264-jetson") && long.contains("pipeline rtsp-h264-jetson"),
        "{long}"
    );
    assert!(long.contains("in gstreamer1.0-libcamera"), "{long}");

    let without = WithoutPlugins::new(&["libgstlibav.so"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("camfire.toml");
    std::fs::write(&file, config).unwrap();
    let output =
        camfire().args(["doctor", "--config"]).arg(&file).envs(without.environment()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    let line = text.lines().find(|line| line.starts_with("NO  pipeline rtsp-h264-software"));
    assert!(line.is_some_and(|line| line.contains("install gstreamer1.0-libav")), "{text}");
}

#[test]
fn every_problem_of_the_configuration_is_a_line() {
    let output = doctor("[mqtt]\nport = 0\n[cameras.a]\nsource = 'rstp://h'\n", &["--json"]);
    assert_eq!(output.status.code(), Some(1));
    let findings = findings(&output);
    let problems = about(&findings, "configuration");
    assert_eq!(problems.len(), 2, "{findings:#?}");
    assert!(problems.iter().all(|problem| problem["ok"] == false));
    assert!(about(&findings, "broker").is_empty());
}

#[test]
fn a_camera_that_hangs_is_given_up() {
    let broker = Broker::start();
    let server = RtspServer::start(&stream((320, 240), 10));
    server.suspend();
    let config = format!(
        "[mqtt]\nport = {}\n[cameras.yard]\nsource = '{}'\nfirst_frame_timeout = '1day'\n",
        broker.port,
        server.url()
    );
    let findings = findings(&doctor(&config, &["--json"]));
    let [yard] = about(&findings, "camera yard")[..] else { panic!("{findings:#?}") };
    assert!(yard["ok"] == false, "{yard}");
    server.resume();
}

#[test]
fn a_real_v4l2_camera_is_listed_with_its_formats() {
    // The kernel module vivid makes such a camera; containers have none.
    if !Path::new("/dev/video0").exists() {
        eprintln!("SKIP this machine has no /dev/video0");
        return;
    }
    let findings = findings(&doctor("", &["--json"]));
    let cameras =
        findings.iter().filter(|finding| finding["what"].as_str().unwrap().starts_with("/dev/video"));
    assert!(cameras.count() > 0, "{findings:#?}");
}
