//! Valid configurations, their defaults and the manual, `config/camfire.toml`, which must agree with the
//! table of keys.

use super::*;

const MANUAL: &str = include_str!("../../../config/camfire.toml");

#[test]
fn some_defaults_depend_on_other_keys() {
    let config =
        loaded(&text("[node]\nname = \"pi\"\n[mqtt]\ntls = true\n[cameras.a]\nsource = \"test://\"")).config;
    assert_eq!(config.mqtt.client_id, "camfire-pi");
    assert_eq!(config.mqtt.tls, Some(Tls::default()));
    assert!(config.engine.workers >= 1);
    assert_eq!(config.cameras[0].rate_fps, 5.0);
    let camera = &config.cameras[0];
    assert_eq!((camera.stall_timeout, camera.first_frame_timeout), (None, Duration::from_secs(10)));
    assert_eq!((camera.decode, camera.rotation), (Decode::Auto, Rotation::None));
    assert_eq!((camera.pipeline.as_deref(), &camera.snapshot_source), (None, &None));
    let host = hostname::get().unwrap();
    assert_eq!(loaded(&text("")).config.node.name, validators::node_name(&host.to_string_lossy()));
}

#[test]
fn the_web_server_listens_on_the_configured_address() {
    let listen = |keys: &str| loaded(&text(&format!("[web]\n{keys}"))).config.web.listen;
    assert_eq!(listen(""), None);
    for address in ["127.0.0.1:9190", "127.1.2.3:80", "[::1]:9190", "[::ffff:127.0.0.1]:9190"] {
        assert_eq!(listen(&format!("listen = {address:?}")), Some(address.parse().unwrap()));
    }
    for address in ["0.0.0.0:9190", "[::]:9190", "192.168.1.2:9190", "[::ffff:192.168.1.2]:9190"] {
        assert_eq!(
            listen(&format!("listen = {address:?}\nallow_remote = true")),
            Some(address.parse().unwrap())
        );
    }
}

#[test]
fn every_kind_of_source_is_accepted() {
    for (keys, expected) in [
        ("source = \"rtsp://h/s\"", Source::Rtsp { url: "rtsp://h/s".into() }),
        ("source = \"v4l2:///dev/video0\"", Source::V4l2 { device: "/dev/video0".into() }),
        ("source = \"file:///a b\"", Source::File { path: "/a b".into(), repeat: true, realtime: true }),
        (
            "source = \"file:///a%20b\"\nloop = false\nrealtime = false",
            Source::File { path: "/a b".into(), repeat: false, realtime: false },
        ),
        ("source = \"test://\"", Source::Test { pattern: "smpte".into() }),
        ("source = \"custom\"\nlaunch = '''\na !\nb'''", Source::Custom { launch: "a !\nb".into() }),
    ] {
        assert_eq!(camera(&format!("[cameras.a]\n{keys}")).source, expected);
    }
    let camera = camera(
        "[cameras.a]\nsource = \"rtsp://h/s\"\nrate_fps = 0.5\npipeline = \"x\"\ndecode = \"all\"\nrotate = 270\n\
         stall_timeout = \"3s\"\nkeyframe_limit = \"4s\"\nsnapshot_source = \"http://h/large.jpg\"",
    );
    assert_eq!((camera.rate_fps, camera.pipeline.as_deref()), (0.5, Some("x")));
    assert_eq!((camera.decode, camera.rotation), (Decode::All, Rotation::Left));
    assert_eq!(
        (camera.stall_timeout, camera.keyframe_limit),
        (Some(Duration::from_secs(3)), Duration::from_secs(4))
    );
    assert_eq!(camera.snapshot_source, Some(Source::Http { url: "http://h/large.jpg".into() }));
}

#[test]
fn the_manual_contains_every_key_with_its_default() {
    let manual = loaded(&text(MANUAL));
    assert_eq!(manual.config, loaded(&text("")).config);
    let table: toml::Table = MANUAL.parse().unwrap();
    for (section, keys) in raw::SECTIONS {
        for key in *keys {
            assert!(table.get(*section).and_then(|t| t.get(key.name)).is_some(), "{section}.{}", key.name);
        }
    }
}

#[test]
fn the_examples_in_the_manual_are_valid_and_contain_every_key_of_a_camera() {
    let secret = directory(&[("p", "hunter2\n")]);
    let uncommented: Vec<&str> = MANUAL
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(example) if !example.starts_with(' ') => example,
            _ => line,
        })
        .collect();
    let toml = uncommented.join("\n");
    let placeholder = "/etc/camfire/yard-password";
    assert!(toml.contains(placeholder));
    let readable = toml.replace(placeholder, Path::new(&secret.path().join("p")).to_str().unwrap());
    let Loaded { config, warnings, .. } = loaded(&text(&readable));
    assert_eq!(warnings, Vec::<String>::new());
    let names: Vec<&str> = config.cameras.iter().map(|camera| camera.name.as_str()).collect();
    assert_eq!(names, ["clip", "door", "microscope", "test", "yard"]);
    assert_eq!(config.cameras[4].login, login("viewer", "hunter2"));

    let table: toml::Table = toml.parse().unwrap();
    let cameras: Vec<&toml::Value> = table["cameras"].as_table().unwrap().values().collect();
    for key in raw::CAMERA {
        assert!(cameras.iter().any(|camera| camera.get(key.name).is_some()), "{}", key.name);
    }
    for key in raw::REGION {
        assert!(table["cameras"]["yard"]["regions"]["gate"].get(key.name).is_some(), "{}", key.name);
    }
}
