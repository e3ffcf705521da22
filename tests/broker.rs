//! Brokers that come late, go away, refuse or want TLS; and what they say of camfire when it is gone.

use crate::support::{Broker, Camfire, free_port, mosquitto};
use rumqttc::QoS;
use std::process::Command;

const CAMERA: &str = "node.name = 'porch'\n[cameras.test]\nsource = 'test://ball'\n\
                      options = { width = 160, height = 120 }\n";

#[test]
fn status_is_retained_and_the_last_will_tells_of_a_sudden_death() {
    let broker = Broker::start();
    let listener = broker.listen();
    let mut camfire = Camfire::run(CAMERA, &broker.flags());
    listener.wait("online", |h| h.topic == "camfire/porch/status" && h.payload == "online");
    listener.wait_state("test", "live");

    let late = broker.listen();
    let node = late.wait("status", |h| h.topic == "camfire/porch/status");
    assert!(node.retained && node.payload == "online" && node.qos == QoS::AtLeastOnce);
    let camera = late.wait("camera status", |h| h.topic == "camfire/porch/test/status");
    assert!(camera.retained && camera.json()["state"] == "live");

    camfire.end("KILL");
    late.wait("the last will", |h| h.topic == "camfire/porch/status" && h.payload == "offline");
}

#[test]
fn a_clean_end_says_offline_for_node_and_cameras_and_leaves_no_will() {
    let broker = Broker::start();
    let listener = broker.listen();
    let mut camfire = Camfire::run(CAMERA, &broker.flags());
    listener.wait_state("test", "live");
    assert!(camfire.end("INT").success());
    listener.wait("offline", |h| h.topic == "camfire/porch/status" && h.payload == "offline");
    let status = listener.wait_state("test", "stopped");
    assert!(status["reason"].is_null());
}

#[test]
fn a_broker_that_dies_and_comes_back_is_told_everything_again() {
    let mut broker = Broker::start();
    let listener = broker.listen();
    let camfire = Camfire::run(CAMERA, &broker.flags());
    listener.wait_topic("/test/detections");
    broker.restart();
    let listener = broker.listen();
    listener.wait("online again", |h| h.topic == "camfire/porch/status" && h.payload == "online");
    listener.wait_state("test", "live");
    listener.wait_topic("/test/detections");
    assert_eq!(camfire.log().matches("Broker is away").count(), 1, "{}", camfire.log());
    camfire.wait_log("Broker is connected");
}

#[test]
fn where_nobody_listens_camfire_keeps_seeing_and_says_so_once() {
    let port = free_port();
    let flags = ["--set".to_string(), format!("mqtt.port={port}")];
    let config = format!("{CAMERA}rate_fps = 10\n");
    let mut camfire = Camfire::run(&config, &flags);
    camfire.wait_log("Camera is live");
    camfire.wait_log(&format!("127.0.0.1:{port}"));
    // Three attempts later there is still one line.
    std::thread::sleep(std::time::Duration::from_secs(4));
    assert_eq!(camfire.log().matches("Broker is away").count(), 1, "{}", camfire.log());
    assert!(camfire.end("TERM").success());
    let log = camfire.log();
    let accounts = log.lines().find(|line| line.contains("Frame counts")).expect("accounts");
    assert!(!accounts.contains("analysed=0 "), "{accounts}");
}

#[test]
fn a_broker_that_refuses_the_password_is_named_and_asked_again_slowly() {
    let folder = tempfile::tempdir().unwrap();
    let passwords = folder.path().join("passwords");
    let made = Command::new("mosquitto_passwd")
        .args(["-b", "-c"])
        .arg(&passwords)
        .args(["porch", "right"])
        .output()
        .expect("mosquitto_passwd comes with mosquitto");
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
fn tls_with_an_authority_of_ones_own() {
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

    let stranger = Camfire::run(CAMERA, &flags);
    stranger.wait_log("Broker is away");
    assert!(stranger.log().contains("certificate"), "{}", stranger.log());
    drop(stranger);

    flags.extend(["--set".into(), format!("mqtt.ca_file={dir}/cert.pem")]);
    let friend = Camfire::run(CAMERA, &flags);
    friend.wait_log("Broker is connected");
}

#[test]
fn the_right_mosquitto_is_tested() {
    let help = Command::new(mosquitto()).arg("-h").output().expect("mosquitto is installed");
    assert!(String::from_utf8_lossy(&help.stdout).contains("mosquitto version"));
}
