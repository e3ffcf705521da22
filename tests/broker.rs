//! Brokers that are unreachable, restart, refuse the login or require TLS; status messages and the last will.

use crate::support::{
    Broker, Camfire, DEADLINE, camfire as camfire_command, free_port, mosquitto, stdout, wait_for,
};
use rumqttc::QoS;
use std::{
    io::Read,
    net::{Ipv4Addr, TcpListener},
    process::Command,
};

const CAMERA: &str = "node.name = 'porch'\n[cameras.test]\nsource = 'test://ball'\n\
                      options = { width = 160, height = 120 }\n";

#[test]
fn status_is_retained_and_the_last_will_reports_a_killed_daemon() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let mut camfire = Camfire::run(CAMERA, &broker.flags());
    subscriber.wait("online", |h| h.topic == "camfire/porch/status" && h.payload == "online");
    subscriber.wait_state("test", "live");

    let late = broker.subscribe();
    let node = late.wait("status", |h| h.topic == "camfire/porch/status");
    assert!(node.retained && node.payload == "online" && node.qos == QoS::AtLeastOnce);
    let camera = late.wait("camera status", |h| h.topic == "camfire/porch/test/status");
    assert!(camera.retained && camera.json()["state"] == "live");

    camfire.end("KILL");
    late.wait("the last will", |h| h.topic == "camfire/porch/status" && h.payload == "offline");
}

#[test]
fn a_graceful_shutdown_publishes_offline_and_stopped() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let mut camfire = Camfire::run(CAMERA, &broker.flags());
    subscriber.wait_state("test", "live");
    assert!(camfire.end("INT").success());
    subscriber.wait("offline", |h| h.topic == "camfire/porch/status" && h.payload == "offline");
    let status = subscriber.wait_state("test", "stopped");
    assert!(status["reason"].is_null());
}

#[test]
fn a_restarted_broker_gets_all_states_again() {
    let mut broker = Broker::start();
    let subscriber = broker.subscribe();
    let camfire = Camfire::run(CAMERA, &broker.flags());
    subscriber.wait_topic("/test/detections");
    broker.restart();
    let subscriber = broker.subscribe();
    subscriber.wait("online again", |h| h.topic == "camfire/porch/status" && h.payload == "online");
    subscriber.wait_state("test", "live");
    subscriber.wait_topic("/test/detections");
    assert_eq!(camfire.log().matches("Broker is away").count(), 1, "{}", camfire.log());
    camfire.wait_log("Broker is connected");
}

#[test]
fn an_unreachable_broker_is_logged_once_per_reason_and_analysis_continues() {
    let port = free_port();
    let flags = ["--set".to_string(), format!("mqtt.port={port}")];
    let config = format!("{CAMERA}rate_fps = 10\n");
    let mut camfire = Camfire::run(&config, &flags);
    camfire.wait_log("Camera is live");
    camfire.wait_log(&format!("127.0.0.1:{port}"));
    assert_eq!(camfire.log().matches("Broker is away").count(), 1, "{}", camfire.log());
    // From now on the port accepts connections, and each is closed after the CONNECT packet. When the third
    // attempt arrives, two have failed for this new reason.
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    server.set_nonblocking(true).unwrap();
    for _ in 0..3 {
        let (mut client, _) = wait_for("a connection attempt", || server.accept().ok());
        client.set_nonblocking(false).unwrap();
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        assert!(client.read(&mut [0; 4096]).unwrap() > 0);
    }
    assert_eq!(camfire.log().matches("Broker is away").count(), 2, "{}", camfire.log());
    assert!(camfire.end("TERM").success());
    let log = camfire.log();
    let counts = log.lines().find(|line| line.contains("Frame counts")).expect("frame counts");
    assert!(!counts.contains("analysed=0 "), "{counts}");
}

#[test]
fn a_refused_password_is_logged_once_without_the_password() {
    let folder = tempfile::tempdir().unwrap();
    let passwords = folder.path().join("passwords");
    let made = Command::new("mosquitto_passwd")
        .args(["-b", "-c"])
        .arg(&passwords)
        .args(["porch", "right"])
        .output()
        .expect("mosquitto_passwd is part of mosquitto");
    assert!(made.status.success());
    let lines = format!("allow_anonymous false\npassword_file {}\n", passwords.display());
    let broker = Broker::start_in(folder, free_port(), &lines);

    let with = |password: &str| {
        let mut flags = broker.flags();
        flags.extend(["--set".into(), "mqtt.user=porch".into()]);
        flags.extend(["--set".into(), format!("mqtt.password={password}")]);
        flags
    };
    let refused = Camfire::run(CAMERA, &with("wrong-secret"));
    refused.wait_log("refuses user and password");
    refused.wait_log("Camera is live");
    assert_eq!(refused.log().matches("Broker is away").count(), 1);
    assert!(!refused.log().contains("wrong-secret"));
    drop(refused);

    let accepted = Camfire::run(CAMERA, &with("right"));
    accepted.wait_log("Broker is connected");
}

#[test]
fn a_self_signed_broker_certificate_needs_mqtt_ca_file() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().display().to_string();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-keyout", &format!("{dir}/key.pem"), "-out", &format!("{dir}/cert.pem")])
        .output()
        .expect("openssl is installed by make test");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let lines = format!("allow_anonymous true\ncertfile {dir}/cert.pem\nkeyfile {dir}/key.pem\n");
    let broker = Broker::start_in(folder, free_port(), &lines);
    let mut flags = broker.flags();
    flags.extend(["--set".into(), "mqtt.tls=true".into()]);

    let untrusting = Camfire::run(CAMERA, &flags);
    untrusting.wait_log("Broker is away");
    assert!(untrusting.log().contains("certificate"), "{}", untrusting.log());
    drop(untrusting);

    flags.extend(["--set".into(), format!("mqtt.ca_file={dir}/cert.pem")]);
    let trusting = Camfire::run(CAMERA, &flags);
    trusting.wait_log("Broker is connected");
    drop(trusting);

    // Without TLS at a port for it, and the other way round.
    let plain = Broker::start();
    for (flags, reason) in [
        (broker.flags(), "it speaks TLS at this port and mqtt.tls is false: set mqtt.tls = true"),
        (
            [plain.flags(), vec!["--set".into(), "mqtt.tls=true".into()]].concat(),
            "it speaks plain MQTT at this port and mqtt.tls is true: set mqtt.tls = false",
        ),
    ] {
        let camfire = Camfire::run(CAMERA, &flags);
        camfire.wait_log("Broker is away");
        assert!(camfire.log().contains(reason), "{reason} in {}", camfire.log());
        let output = camfire_command().arg("doctor").args(&flags).output().unwrap();
        let text = stdout(&output);
        let line =
            text.lines().find(|line| line.starts_with("NO  broker")).unwrap_or_else(|| panic!("{text}"));
        assert!(line.contains(reason), "{line}");
    }
}

#[test]
fn mosquitto_is_installed() {
    let help = Command::new(mosquitto()).arg("-h").output().expect("mosquitto is installed");
    assert!(String::from_utf8_lossy(&help.stdout).contains("mosquitto version"));
}
