//! The configuration from the outside: what is typed goes in, and a `Config` or the exact lines of its problems come
//! out. The manual, `config/camfire.toml`, is held against the table of keys here as well.

use super::{problems::Problem, *};
use std::{fs, os::unix::fs::PermissionsExt, path::Path};
use tempfile::TempDir;

const MANUAL: &str = include_str!("../../config/camfire.toml");

fn text(text: &str) -> Inputs {
    Inputs { main: Main::Text { name: "camfire.toml".into(), text: text.into() }, ..Inputs::default() }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

fn loaded(inputs: &Inputs) -> Loaded {
    load(inputs).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The lines of the problems without the count behind them.
fn problems(inputs: &Inputs) -> Vec<String> {
    match load(inputs) {
        Ok(loaded) => panic!("no problem in {:?}", loaded.config),
        Err(problems) => problems.iter().map(Problem::to_string).collect(),
    }
}

fn camera(toml: &str) -> Camera {
    loaded(&text(toml)).config.cameras.remove(0)
}

fn login(user: &str, password: &str) -> Option<Login> {
    Some(Login { user: user.into(), password: password.into() })
}

/// A directory with files of these names and contents that only their owner can read.
fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    directory
}

fn main_file(directory: &TempDir) -> Inputs {
    Inputs { main: Main::File(directory.path().join("camfire.toml")), ..Inputs::default() }
}

#[test]
fn every_rule_has_its_exact_line() {
    const ADDRESS: &str = "must be rtsp://, rtsps://, http://, https://, v4l2://, libcamera://, csi://, file:// or test:// with an \
         address behind it, or \"custom\"";
    const TOPIC: &str = "must be one or more topic levels, such as \"camfire\" or \"site/camfire\": no empty level, \
                         no slash at either end, no + or #, no $ in front";
    const LISTEN: &str = "must be an address and a port, such as \"127.0.0.1:9190\" or \"[::1]:9190\"";
    const OPEN: &str = "is not a loopback address, such as 127.0.0.1 or ::1: whoever reaches it would see everything, \
                        without a password; web.allow_remote = true allows that";
    let cases: &[(&str, &[&str])] = &[
        // Keys and sections that are not there.
        ("[mqtt]\nprot = 1", &["2: mqtt.prot = 1: is not a key of [mqtt]; did you mean port?"]),
        ("[stats]\ncolour = 1", &["2: stats.colour = 1: is not a key of [stats]; its keys are interval"]),
        ("[mqqt]\nport = 1", &["1: mqqt: is not a section; did you mean [mqtt]?"]),
        ("[camera.yard]\nsource = 1", &["1: camera: is not a section; did you mean [cameras.NAME]?"]),
        ("port = 1", &["1: port = 1: is not a section; did you mean mqtt.port?"]),
        (
            "[blue]",
            &[
                "1: blue: is not a section; the sections are [node], [log], [mqtt], [outbox], [commands], [engine], [detections], \
               [objects], [pictures], [stats], [homeassistant], [frigate], [web], [groups] and [cameras.NAME]",
            ],
        ),
        ("mqtt = 1", &["1: mqtt: is a section; write [mqtt] and its keys below"]),
        ("[[cameras]]\nname = 1", &["1: cameras: is a section; write [cameras.NAME] and its keys below"]),
        (
            "[cameras]\nrate_fps = 1",
            &["2: cameras.rate_fps: is a section; write [cameras.rate_fps] and its keys below"],
        ),
        (
            "[cameras.a]\nsource = \"test://\"\nfps = 2",
            &["3: cameras.a.fps = 2: is not a key of [cameras.a]; did you mean rate_fps?"],
        ),
        (
            "[cameras.a]\nsource = \"test://\"\noptions = 2",
            &["3: cameras.a.options: is a section; write [cameras.a.options] and its keys below"],
        ),
        // Values of the wrong kind or beyond their limits.
        ("[mqtt]\nport = 70_000", &["2: mqtt.port = 70_000: must be a whole number from 1 to 65535"]),
        ("[mqtt]\nport = \"1883\"", &["2: mqtt.port = \"1883\": must be a whole number from 1 to 65535"]),
        ("[mqtt]\nport.x = 1", &["2: mqtt.port = a table: must be a whole number from 1 to 65535"]),
        ("[mqtt]\nhost = 1", &["2: mqtt.host = 1: must be text in quotes"]),
        (
            "[mqtt]\nhost = \"\"",
            &["2: mqtt.host = \"\": must be a host name or an address alone: no scheme, no port"],
        ),
        (
            "[mqtt]\nhost = \"mqtt://me:hunter2@h\"",
            &["2: mqtt.host = \"mqtt://***@h\": must be a host name or an address alone: no scheme, no port"],
        ),
        ("[mqtt]\nbase_topic = \"a//b\"", &[&format!("2: mqtt.base_topic = \"a//b\": {TOPIC}")]),
        ("[homeassistant]\nprefix = \"a/#\"", &[&format!("2: homeassistant.prefix = \"a/#\": {TOPIC}")]),
        ("[frigate]\ntopic = \"/a\"", &[&format!("2: frigate.topic = \"/a\": {TOPIC}")]),
        ("[mqtt]\ntls = 1", &["2: mqtt.tls = 1: must be true or false"]),
        (
            "[mqtt]\nuser = \"a\\nb\"",
            &["2: mqtt.user = \"a\\nb\": must be one line without control characters"],
        ),
        (
            "[mqtt]\nkeep_alive = \"1500ms\"",
            &[
                "2: mqtt.keep_alive = \"1500ms\": must be a duration in whole seconds from 1s to 18h 12m 15s, \
               such as \"30s\"",
            ],
        ),
        (
            "[mqtt]\nconnect_timeout = \"5\"",
            &["2: mqtt.connect_timeout = \"5\": must be a duration from 100ms to 1h, such as \"5s\""],
        ),
        (
            "[stats]\ninterval = 10",
            &["2: stats.interval = 10: must be a duration from 1s to 1day, such as \"10s\""],
        ),
        (
            "[log]\nlevel = \"inf\"",
            &["2: log.level = \"inf\": must be one of error, warn, info, debug, trace; did you mean info?"],
        ),
        ("[web]\nlisten = \"localhost:9190\"", &[&format!("2: web.listen = \"localhost:9190\": {LISTEN}")]),
        ("[web]\nlisten = \"127.0.0.1:0\"", &[&format!("2: web.listen = \"127.0.0.1:0\": {LISTEN}")]),
        ("[web]\nlisten = \"0.0.0.0:9190\"", &[&format!("2: web.listen = \"0.0.0.0:9190\": {OPEN}")]),
        ("[web]\nlisten = \"[::]:9190\"", &[&format!("2: web.listen = \"[::]:9190\": {OPEN}")]),
        (
            "[web]\nlisten = \"192.168.1.2:9190\"\nallow_remote = 1",
            &["3: web.allow_remote = 1: must be true or false"],
        ),
        ("[log]\nlevel = 3", &["2: log.level = 3: must be one of error, warn, info, debug, trace"]),
        ("[engine]\nworkers = -1", &["2: engine.workers = -1: must be a whole number from 0 to 256"]),
        ("[detections]\ntop = 0", &["2: detections.top = 0: must be a whole number from 1 to 1000"]),
        (
            "[detections]\ntop = 99999999999999999999",
            &["2: detections.top = 99999999999999999999: must be a whole number from 1 to 1000"],
        ),
        (
            "[node]\nname = \"a b\"",
            &["2: node.name = \"a b\": must be a name of 1 to 64 letters (a-z, A-Z), digits, - or _"],
        ),
        (
            "[cameras.a]\nsource = \"test://\"\nrate_fps = 0",
            &["3: cameras.a.rate_fps = 0: must be a number above 0 and up to 1000"],
        ),
        (
            "[cameras.a]\nsource = \"test://\"\nrate_fps = nan",
            &["3: cameras.a.rate_fps = nan: must be a number above 0 and up to 1000"],
        ),
        (
            "[cameras.a]\nsource = \"test://\"\noptions.x = 1.5",
            &["3: cameras.a.options.x = 1.5: must be text in quotes, a whole number, true or false"],
        ),
        // Cameras' names and addresses.
        (
            "[cameras.\"a/b\"]\nsource = \"test://\"",
            &["1: cameras.\"a/b\": must be a camera name of 1 to 64 letters (a-z, A-Z), digits, - or _"],
        ),
        (
            "[cameras.status]\nsource = \"test://\"",
            &["1: cameras.status: must have another name: the node itself publishes under status"],
        ),
        (
            "[cameras.a]\nrate_fps = 1",
            &[
                "1: cameras.a.source: is needed: rtsp://, rtsps://, http://, https://, v4l2://, libcamera://, csi://, file:// or test://, \
               or \"custom\"",
            ],
        ),
        (
            "[cameras.a]\nsource = \"rstp://me:hunter2@h/s\"",
            &[&format!("2: cameras.a.source = \"rstp://***@h/s\": {ADDRESS}; did you mean rtsp://?")],
        ),
        (
            "[cameras.a]\nsource = \"file://clip.mp4\"",
            &[
                "2: cameras.a.source = \"file://clip.mp4\": must be file:// and an absolute path, so three slashes \
               in a row: file:///srv/clips/yard.mp4",
            ],
        ),
        // Between keys.
        ("[mqtt]\nca_file = \"/ca.pem\"", &["2: mqtt.ca_file = \"/ca.pem\": needs mqtt.tls = true"]),
        ("[mqtt]\npassword = \"hunter2\"", &["2: mqtt.password = ***: needs mqtt.user as well"]),
        (
            "[mqtt]\nuser = \"me\"\npassword = \"hunter2\"\npassword_file = \"/p\"",
            &["4: mqtt.password_file = \"/p\": is given together with mqtt.password; keep one of them"],
        ),
        (
            "[mqtt]\nuser = \"me\"\npassword_file = \"/nowhere/p\"",
            &[
                "3: mqtt.password_file = \"/nowhere/p\": cannot be read: No such file or directory (os error 2)",
            ],
        ),
        (
            "[cameras.a]\nsource = \"rtsp://me:hunter2@h/s\"\nuser = \"me\"",
            &[
                "3: cameras.a.user = \"me\": is given while the source has a user in it; take that one out of the \
               address",
            ],
        ),
        (
            "[cameras.a]\nsource = \"test://\"\nloop = true\nrealtime = false",
            &[
                "3: cameras.a.loop = true: is only for file:// sources",
                "4: cameras.a.realtime = false: is only for file:// sources",
            ],
        ),
        (
            "[cameras.a]\nsource = \"v4l2:///dev/video0\"\nuser = \"me\"\npassword = \"\"",
            &[
                "3: cameras.a.user = \"me\": is only for rtsp://, rtsps://, http://, https:// and \"custom\" sources",
            ],
        ),
        (
            "[cameras.a]\nsource = \"custom\"",
            &[
                "1: cameras.a.launch: is needed with source = \"custom\": a launch line that ends in raw video",
            ],
        ),
        (
            "[cameras.a]\nsource = \"test://\"\nlaunch = \"videotestsrc\"",
            &["3: cameras.a.launch = \"videotestsrc\": is only for source = \"custom\""],
        ),
        (
            "[cameras.a]\nsource = \"test://\"\nrotate = 45",
            &["3: cameras.a.rotate = 45: must be 0, 90, 180 or 270"],
        ),
        (
            "[cameras.a]\nsource = \"test://\"\nrotate = 360",
            &["3: cameras.a.rotate = 360: must be a whole number from 0 to 270"],
        ),
        (
            "[cameras.a]\nsource = \"test://\"\ndecode = \"keyframe\"",
            &[
                "3: cameras.a.decode = \"keyframe\": must be one of auto, all, keyframes; did you mean keyframes?",
            ],
        ),
        (
            "[cameras.a]\nsource = \"test://\"\nstall_timeout = \"never\"",
            &[
                "3: cameras.a.stall_timeout = \"never\": must be a duration from 1s to 1day, such as \"10s\", \
               or \"auto\"",
            ],
        ),
        (
            "[cameras.a]\nsource = \"test://\"\nsnapshot_source = \"rtsp://h/s\"",
            &[
                "3: cameras.a.snapshot_source = \"rtsp://h/s\": is only for cameras whose source is rtsp://, rtsps://, \
               http:// or https://",
            ],
        ),
        (
            "[cameras.a]\nsource = \"rtsp://h/s\"\nsnapshot_source = \"file:///a.mp4\"",
            &[
                "3: cameras.a.snapshot_source = \"file:///a.mp4\": must be another stream of the camera: rtsp://, \
               rtsps://, http:// or https://",
            ],
        ),
        (
            "[cameras.a]\nsource = \"rtsp://h/s\"\nsnapshot_source = \"rtsp://u:p@h/s\"",
            &[
                "3: cameras.a.snapshot_source = \"rtsp://***@h/s\": must be without user and password: those of the \
               camera are used",
            ],
        ),
        (
            "[objects]\nconfirm = \"20s\"",
            &[
                "2: objects.confirm = \"20s\": must be shorter than objects.absorb_after (20s), or else everything \
               belongs to the scene before it is told of",
            ],
        ),
        (
            "[objects]\nabsorb_after = \"1s\"\nconfirm = \"1m\"",
            &[
                "3: objects.confirm = \"1m\": must be shorter than objects.absorb_after (1s), or else everything \
               belongs to the scene before it is told of",
            ],
        ),
        // Groups.
        (
            "[groups]\nunknown = [\"tabby\"]",
            &[
                "2: groups.unknown = [\"tabby\"]: must have another name: things without a label are called unknown",
            ],
        ),
        ("[groups]\n\"\" = [\"tabby\"]", &["2: groups.\"\" = [\"tabby\"]: must have a name"]),
        (
            "[groups]\n\"big cat\" = []",
            &[
                "2: groups.\"big cat\" = []: must be a list of one class or more, such as [\"tabby\", \"beagle\"]",
            ],
        ),
        (
            "[groups]\na.b = [\"tabby\"]",
            &["2: groups.a = a table: must be a list of one class or more, such as [\"tabby\", \"beagle\"]"],
        ),
        // One mistake is one problem.
        ("[mqtt]\ntls = 1\nca_file = \"/ca.pem\"", &["2: mqtt.tls = 1: must be true or false"]),
        ("[mqtt]\nuser = 1\npassword = \"hunter2\"", &["2: mqtt.user = 1: must be text in quotes"]),
        // What is not TOML.
        ("[mqtt]\nport 1883\n", &["2: key with no value, expected `=`"]),
        ("[mqtt]\nport = 1\nport = 2\n", &["3: duplicate key"]),
    ];
    for (toml, expected) in cases {
        let expected: Vec<String> = expected.iter().map(|line| format!("camfire.toml:{line}")).collect();
        assert_eq!(problems(&text(toml)), expected, "{toml}");
    }
}

#[test]
fn five_different_mistakes_are_told_at_once_and_counted() {
    let inputs = Inputs {
        environment: pairs(&[("CAMFIRE_MQTT__PORT", "abc")]),
        flags: pairs(&[("stats.interval", "0s")]),
        ..text("[mqtt]\nprot = 1883\n[cameras.yard]\nrate_fps = -1\nsource = \"test://\"\n[log]\nlevel 3\n")
    };
    assert_eq!(
        load(&inputs).unwrap_err().to_string(),
        "camfire.toml:2: mqtt.prot = 1883: is not a key of [mqtt]; did you mean port?\n\
         camfire.toml:4: cameras.yard.rate_fps = -1: must be a number above 0 and up to 1000\n\
         camfire.toml:7: key with no value, expected `=`\n\
         CAMFIRE_MQTT__PORT (environment): mqtt.port = \"abc\": must be a whole number from 1 to 65535\n\
         --set stats.interval=0s: must be a duration from 1s to 1day, such as \"10s\"\n\
         5 problems in the configuration"
    );
    let one = load(&text("[log]\nlevel = 3")).unwrap_err().to_string();
    assert!(one.ends_with("\n1 problem in the configuration"), "{one}");
}

#[test]
fn later_layers_win_and_problems_name_the_one_that_counts() {
    let files = directory(&[
        (
            "camfire.toml",
            "[mqtt]\nport = 1\nca_file = \"/a\"\n[detections]\ntop = 1\n[stats]\ninterval = \"1s\"\n",
        ),
        ("conf.d/10-a.toml", "[detections]\ntop = 2\n[stats]\ninterval = \"2s\"\n[engine]\nworkers = 2\n"),
        ("conf.d/20-b.toml", "[detections]\ntop = 3\n[engine]\nworkers = 3\n"),
        ("conf.d/30-c.toml.bak", "what is this?"),
        ("conf.d/.40-d.toml", "what is this?"),
    ]);
    let mut inputs = main_file(&files);
    inputs.environment =
        pairs(&[("CAMFIRE_DETECTIONS__TOP", "4"), ("CAMFIRE_MQTT__TLS", "true"), ("PATH", "/bin")]);
    inputs.flags = pairs(&[("detections.top", "5"), ("detections.top", "6")]);
    let loaded = loaded(&inputs);
    assert_eq!(loaded.config.mqtt.brokers[0].port, 1);
    assert_eq!(loaded.config.stats.interval, Duration::from_secs(2));
    assert_eq!(loaded.config.engine.workers, 3);
    assert_eq!(loaded.config.detections.top, 6);
    let read = ["camfire.toml", "conf.d/10-a.toml", "conf.d/20-b.toml"].map(|name| files.path().join(name));
    assert_eq!(loaded.files, read);

    // The file needs tls, the environment has it, the flag takes it away; then another layer gives the file's name.
    inputs.flags = pairs(&[("mqtt.tls", "false")]);
    let line = format!("{}:3: mqtt.ca_file = \"/a\": needs mqtt.tls = true", read[0].display());
    assert_eq!(problems(&inputs), [line]);
    inputs.environment = pairs(&[("CAMFIRE_MQTT__CA_FILE", "/b")]);
    assert_eq!(
        problems(&inputs),
        ["CAMFIRE_MQTT__CA_FILE (environment): mqtt.ca_file = \"/b\": needs mqtt.tls = true"]
    );
    inputs.flags = pairs(&[("mqtt.ca_file", "/c")]);
    assert_eq!(problems(&inputs), ["--set mqtt.ca_file=/c: needs mqtt.tls = true"]);
}

#[test]
fn one_camera_in_two_files_is_one_camera() {
    let files = directory(&[
        ("camfire.toml", "[cameras.Yard]\nsource = \"test://\"\nrate_fps = 1\noptions.width = 1\n"),
        (
            "conf.d/a.toml",
            "[cameras.Yard]\nrate_fps = 2\noptions.height = 2\n[cameras.b]\nsource = \"test://ball\"\n",
        ),
    ]);
    let cameras = loaded(&main_file(&files)).config.cameras;
    assert_eq!(cameras.iter().map(|camera| camera.name.as_str()).collect::<Vec<_>>(), ["Yard", "b"]);
    assert_eq!(cameras[0].rate_fps, 2.0);
    let options = [("height", OptionValue::Integer(2)), ("width", OptionValue::Integer(1))];
    assert_eq!(cameras[0].options, options.map(|(key, value)| (key.to_string(), value)).into());
}

#[test]
fn a_broken_file_does_not_hide_what_is_wrong_with_the_others() {
    let files = directory(&[
        ("camfire.toml", "[mqtt]\nport = 0\nhost = oops\nport = 3\n[cameras.a\nsource = \"test://\"\n"),
        ("conf.d/a.toml", "[cameras.a]\nrate_fps = 0\n"),
        ("conf.d/b.toml/x", ""),
    ]);
    let lines = problems(&main_file(&files));
    let lines: Vec<&str> =
        lines.iter().map(|line| line.strip_prefix(files.path().to_str().unwrap()).unwrap()).collect();
    assert_eq!(
        lines,
        [
            "/camfire.toml:2: mqtt.port = 0: must be a whole number from 1 to 65535",
            "/camfire.toml:3: string values must be quoted, expected literal string",
            "/camfire.toml:4: duplicate key",
            "/camfire.toml:5: unclosed table, expected `]`",
            "/conf.d/a.toml:2: cameras.a.rate_fps = 0: must be a number above 0 and up to 1000",
            "/conf.d/b.toml: cannot be read: Is a directory (os error 21)",
        ]
    );
}

#[test]
fn a_named_file_must_be_there() {
    let inputs = Inputs { main: Main::File("/nowhere/camfire.toml".into()), ..Inputs::default() };
    assert_eq!(
        problems(&inputs),
        ["/nowhere/camfire.toml: cannot be read: No such file or directory (os error 2)"]
    );
}

#[test]
fn the_environment_reaches_every_key_and_is_never_ignored_in_silence() {
    let mut inputs =
        text("[cameras.front-door]\nsource = \"test://\"\n[cameras.Yard]\nsource = \"test://\"\n");
    inputs.environment = pairs(&[
        ("CAMFIRE_MQTT__USER", "12345"),
        ("CAMFIRE_CAMERAS__FRONT_DOOR__RATE_FPS", "2"),
        ("CAMFIRE_CAMERAS__YARD__OPTIONS__WIDTH", "640"),
        ("CAMFIRE_CAMERAS__NEW__SOURCE", "test://ball"),
        ("CAMFIRE_SERVICE_HOST", "10.0.0.1"),
        ("CAMFIREMAN", "1"),
    ]);
    let Loaded { config, warnings, .. } = loaded(&inputs);
    assert_eq!(config.mqtt.login, login("12345", ""));
    assert_eq!(
        config.cameras.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(),
        ["Yard", "front-door", "new"]
    );
    assert_eq!(config.cameras[0].options["width"], OptionValue::Integer(640));
    assert_eq!(config.cameras[1].rate_fps, 2.0);
    assert_eq!(
        warnings,
        ["CAMFIRE_SERVICE_HOST (environment): is ignored; settings are named like CAMFIRE_MQTT__PORT"]
    );

    for (name, value, expected) in [
        ("CAMFIRE_MQTT_PORT", "1", "is not a setting; did you mean CAMFIRE_MQTT__PORT?"),
        ("CAMFIRE__MQTT__PORT", "1", "is not a setting; did you mean CAMFIRE_MQTT__PORT?"),
        ("CAMFIRE_CAMERAS_YARD_RATE_FPS", "1", "is not a setting; did you mean CAMFIRE_CAMERAS__NAME__KEY?"),
        ("CAMFIRE_MQTT__PROT", "1", "mqtt.prot = \"1\": is not a key of [mqtt]; did you mean port?"),
        (
            "CAMFIRE_MQTT__PASWORD",
            "hunter2",
            "mqtt.pasword = ***: is not a key of [mqtt]; did you mean password?",
        ),
        ("CAMFIRE_MQQT__PORT", "1", "mqqt.port = \"1\": is not a section; did you mean [mqtt]?"),
        ("CAMFIRE_MQTT__TLS", "yes", "mqtt.tls = \"yes\": must be true or false"),
        ("CAMFIRE_MQTT__PASSWORD", "hunter2", "mqtt.password = ***: needs mqtt.user as well"),
        ("CAMFIRE_CAMERAS__YARD", "1", "cameras.yard = \"1\": is a section; name a key below it"),
    ] {
        let inputs = Inputs { environment: pairs(&[(name, value)]), ..text("") };
        assert_eq!(problems(&inputs), [format!("{name} (environment): {expected}")]);
    }
}

#[test]
fn flags_are_checked_like_everything_else() {
    for (key, value, expected) in [
        ("mqtt.port", "0", "mqtt.port=0: must be a whole number from 1 to 65535"),
        ("mqtt.prot", "1", "mqtt.prot=1: is not a key of [mqtt]; did you mean port?"),
        ("mqtt.port.x", "1", "mqtt.port.x=1: is not a key: there is nothing below mqtt.port"),
        ("mqtt", "1", "mqtt=1: is a section; name a key below it"),
        ("mqtt.password", "hunter2", "mqtt.password=***: needs mqtt.user as well"),
        (
            "cameras.a b.source",
            "test://",
            "cameras.\"a b\".source=test://: must be a camera name of 1 to 64 letters (a-z, A-Z), digits, - or _",
        ),
    ] {
        let inputs = Inputs { flags: pairs(&[(key, value)]), ..text("") };
        assert_eq!(problems(&inputs), [format!("--set {expected}")]);
    }
    let inputs = Inputs { flags: pairs(&[("cameras.a.rate_fps", "1")]), ..text("") };
    assert_eq!(
        problems(&inputs),
        [
            "cameras.a.source: is needed: rtsp://, rtsps://, http://, https://, v4l2://, libcamera://, csi://, file:// or test://, \
          or \"custom\""
        ]
    );
}

#[test]
fn defaults_that_depend_on_others() {
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
fn the_web_server_listens_where_it_is_told_to() {
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
fn every_kind_of_source() {
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
    let whole = camera(
        "[cameras.a]\nsource = \"rtsp://h/s\"\nrate_fps = 0.5\npipeline = \"x\"\ndecode = \"all\"\nrotate = 270\n\
         stall_timeout = \"3s\"\nkeyframe_limit = \"4s\"\nsnapshot_source = \"http://h/large.jpg\"",
    );
    assert_eq!((whole.rate_fps, whole.pipeline.as_deref()), (0.5, Some("x")));
    assert_eq!((whole.decode, whole.rotation), (Decode::All, Rotation::Left));
    assert_eq!(
        (whole.stall_timeout, whole.keyframe_limit),
        (Some(Duration::from_secs(3)), Duration::from_secs(4))
    );
    assert_eq!(whole.snapshot_source, Some(Source::Http { url: "http://h/large.jpg".into() }));
}

#[test]
fn a_launch_line_comes_from_a_file_that_only_root_can_write() {
    let custom = "[cameras.a]\nsource = \"custom\"\nlaunch = \"videotestsrc\"\n";
    let files = directory(&[("camfire.toml", custom)]);
    let file = files.path().join("camfire.toml");
    let is_root = std::os::unix::fs::MetadataExt::uid(&fs::metadata(&file).unwrap()) == 0;
    if is_root {
        assert_eq!(loaded(&main_file(&files)).config.cameras.len(), 1);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        let rule = "may only be given in a file that nobody but root can write (chmod go-w)";
        let expected = format!("{}:3: cameras.a.launch = \"videotestsrc\": {rule}", file.display());
        assert_eq!(problems(&main_file(&files)), [expected]);
        std::os::unix::fs::chown(&file, Some(65534), None).unwrap();
    }
    let rule = "may only be given in a file that belongs to root";
    let expected = format!("{}:3: cameras.a.launch = \"videotestsrc\": {rule}", file.display());
    assert_eq!(problems(&main_file(&files)), [expected]);

    let other = "[cameras.a]\nsource = \"custom\"\n";
    let flags = pairs(&[("cameras.a.launch", "videotestsrc")]);
    let rule = "may only be given in a config file that belongs to root";
    let expected = format!("--set cameras.a.launch=videotestsrc: {rule}");
    assert_eq!(problems(&Inputs { flags, ..text(other) }), [expected]);
}

#[test]
fn passwords_come_from_one_place() {
    let files = directory(&[
        ("p", "file secret\r\n"),
        ("credentials/mqtt-password", "broker secret\n"),
        ("credentials/camera-yard-password", " spaces stay \n\n"),
    ]);
    let path = |name: &str| files.path().join(name).display().to_string();
    let with_credentials =
        |toml: &str| Inputs { credentials: Some(files.path().join("credentials")), ..text(toml) };

    let broker = |keys: &str| loaded(&with_credentials(&format!("[mqtt]\n{keys}"))).config.mqtt.login;
    assert_eq!(broker("user = \"me\""), login("me", "broker secret"));
    assert_eq!(broker("user = \"me\"\npassword = \"typed\""), login("me", "typed"));
    assert_eq!(
        broker(&format!("user = \"me\"\npassword_file = {:?}", path("p"))),
        login("me", "file secret")
    );
    assert_eq!(loaded(&text("[mqtt]\nuser = \"me\"")).config.mqtt.login, login("me", ""));
    assert_eq!(loaded(&text("")).config.mqtt.login, None);
    assert_eq!(
        problems(&with_credentials("")),
        [format!("mqtt.user: is needed with the password in {}", path("credentials/mqtt-password"))]
    );

    let yard = |keys: &str| {
        let inputs = with_credentials(&format!("[mqtt]\nuser = \"me\"\n[cameras.yard]\n{keys}"));
        loaded(&inputs).config.cameras.remove(0)
    };
    assert_eq!(yard("source = \"rtsp://h/s\"\nuser = \"me\"").login, login("me", " spaces stay \n"));
    let in_address = yard("source = \"rtsp://me:p%40ss@h/s\"");
    assert_eq!(in_address.source, Source::Rtsp { url: "rtsp://h/s".into() });
    assert_eq!(in_address.login, login("me", "p@ss"));
    assert_eq!(yard("source = \"rtsp://me@h/s\"").login, login("me", " spaces stay \n"));
    assert_eq!(yard("source = \"test://\"").login, None);
}

#[test]
fn what_works_but_is_unwise_is_a_warning() {
    let none = loaded(&text("")).warnings;
    assert_eq!(
        none,
        ["No camera is configured: give one in a section [cameras.NAME], such as source = \"test://\""]
    );

    let in_address = loaded(&text("[cameras.a]\nsource = \"rtsp://me:hunter2@h/s\"")).warnings;
    assert_eq!(
        in_address,
        [
            "camfire.toml:2: cameras.a.source = \"rtsp://***@h/s\": a password in an address is easily passed on; user \
          and password_file are better"
        ]
    );

    let files = directory(&[
        (
            "camfire.toml",
            "[mqtt]\nuser = \"me\"\npassword = \"hunter2\"\n[cameras.a]\nsource = \"test://\"\n",
        ),
        ("p", "hunter2"),
    ]);
    assert!(loaded(&main_file(&files)).warnings.is_empty());
    let open = |name: &str| {
        let path = files.path().join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        path.display().to_string()
    };
    let main = open("camfire.toml");
    assert_eq!(
        loaded(&main_file(&files)).warnings,
        [format!(
            "{main}:3: mqtt.password: this file can be read by everyone on this machine; use password_file, or chmod \
             o-r"
        )]
    );
    let toml =
        format!("[mqtt]\nuser = \"me\"\npassword_file = {:?}\n[cameras.a]\nsource = \"test://\"", open("p"));
    let warnings = loaded(&text(&toml)).warnings;
    assert!(
        warnings[0]
            .ends_with("this file can be read by everyone on this machine; chmod o-r would keep it secret")
    );
}

#[test]
fn no_password_is_ever_printed() {
    let toml =
        "[mqtt]\nuser = \"me\"\npassword = \"hunter2\"\n[cameras.a]\nsource = \"rtsp://me:hunter2@h/s\"\n";
    let loaded = loaded(&text(toml));
    assert_eq!(loaded.config.mqtt.login, login("me", "hunter2"));
    assert!(!format!("{loaded:?}").contains("hunter2"));
    let wrong = "[mqtt]\npassword = [\"hunter2\"]\npass = \"hunter2\"\n[cameras.a]\nsource = \"rtsp://me:hun/ter2@h\"\n\
                 options.token = [\"hunter2\"]\n[password]\nx = \"hunter2\"\n";
    let problems = load(&text(wrong)).unwrap_err();
    assert!(!format!("{problems} {problems:?}").contains("ter2"), "{problems}");
}

#[test]
fn the_manual_is_the_defaults_and_names_every_key() {
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
fn the_examples_in_the_manual_are_right_and_name_every_key_of_a_camera() {
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

#[test]
fn zones_masks_and_regions_are_judged_where_they_stand() {
    let yard = |lines: &str| format!("[cameras.a]\nsource = \"test://\"\n{lines}");
    for (lines, place, rule) in [
        (
            "masks = [[[0, 0], [1, 1], [1, 0], [0, 1]]]",
            "3: cameras.a.masks",
            "polygon 1: must not cross itself",
        ),
        ("masks = [[0, 0]]", "3: cameras.a.masks", "must be a list of polygons"),
        ("zones.lawn = [[0, 0], [2, 0], [1, 1]]", "3: cameras.a.zones.lawn", "[2, 0] is outside"),
        ("regions.gate.box = [0.5, 0.5, 0.0001, 0.1]", "3: cameras.a.regions.gate.box", "must be at least"),
        ("regions.gate.boxx = 1", "3: cameras.a.regions.gate.boxx", "did you mean box?"),
        ("labels = \"cat\"", "3: cameras.a.labels", "must be a list of texts"),
        ("zones = 1", "3: cameras.a.zones", "is a section"),
    ] {
        let problems = problems(&text(&yard(lines)));
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains(place) && problems[0].contains(rule), "{problems:?}");
    }
    let camera = camera(&yard(
        "zones.lawn = [[0, 0], [1, 0], [1, 1]]\nregions.gate.box = [0, 0.5, 0.5, 0.5]\nlabels = [\"cat\"]",
    ));
    assert_eq!(camera.zones["lawn"], [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)]);
    let gate = &camera.regions[0];
    assert_eq!((gate.name.as_str(), gate.top, gate.every.as_secs()), ("gate", 0.5, 5));
    let flags = Inputs { flags: pairs(&[("cameras.a.labels", "[\"dog\"]")]), ..text(&yard("")) };
    assert_eq!(loaded(&flags).config.cameras[0].labels, ["dog"]);
}

#[test]
fn all_bad_polygons_are_told_and_a_closed_one_is_as_good_as_an_open_one() {
    let yard = |lines: &str| text(&format!("[cameras.a]\nsource = \"test://\"\n{lines}"));
    let masks =
        "masks = [[[0, 0], [1, 1], [1, 0], [0, 1]], [[0, 0], [0.5, 0], [0.5, 1]], [[0, 0], [2, 0], [1, 1]]]";
    assert_eq!(
        problems(&yard(masks))[0].split_once("]]]: ").unwrap().1,
        "polygon 1: must not cross itself: the side from [0, 0] to [1, 1] meets the side from [1, 0] to [0, 1]; list \
         the corners in their order around it; polygon 3: must lie within the picture: [2, 0] is outside; corners are \
         parts of its width and height, 0 to 1"
    );
    let closed = "masks = [[[0, 0], [1, 0], [1, 1], [0, 0]]]\nzones.lawn = [[0, 0], [1, 0], [1, 1], [0, 0]]";
    let camera = loaded(&yard(closed)).config.cameras.remove(0);
    assert_eq!((camera.masks[0].len(), camera.zones["lawn"].len()), (3, 3));
    let warnings = |lines: &str| loaded(&yard(lines)).warnings;
    assert_eq!(warnings(closed), [""; 0]);
    assert_eq!(
        warnings("masks = [[[0, 0], [0.6, 0], [0.6, 1], [0, 1]], [[0.5, 0], [1, 0], [1, 1], [0.5, 1]]]"),
        [
            "camfire.toml:3: cameras.a.masks = [[[0, 0], [0.6, 0], [0.6, 1], [0, 1]], [[0.5, 0], [1, 0], [1, 1], [0.5, 1]]]: they cover \
          the whole picture: nothing will be seen"
        ]
    );
}

#[test]
fn groups_may_be_called_anything_and_later_layers_win() {
    let toml = "[groups]\n\"big cat\" = [\"tiger\", \"lion\"]\n\"a.b\" = [\"tabby\"]\n\"Größe\" = [\"beagle\"]\n\
                [cameras.a]\nsource = \"test://\"\nlabels = [\"big cat\", \"a.b\", \"Größe\", \"unknown\"]\n";
    let inputs = Inputs {
        judge: Some(crate::workers::model::validate),
        flags: pairs(&[("groups.a.b", "[\"tiger cat\"]")]),
        ..text(toml)
    };
    let groups = loaded(&inputs).config.groups;
    assert_eq!(groups.keys().collect::<Vec<_>>(), ["Größe", "a.b", "big cat"]);
    assert_eq!(groups["a.b"], ["tiger cat"]);
}

#[test]
fn unknown_names_are_told_together_with_all_else() {
    let toml = "[groups]\n\"big cat\" = [\"tigger\"]\npet = 1\n[cameras.a]\nlabels = [\"big cat\", \"pet\", \"caat\"]\n\
                source = \"tset://\"\n";
    let lines = problems(&Inputs { judge: Some(crate::workers::model::validate), ..text(toml) });
    for (line, part) in lines.iter().zip([
        "2: groups.\"big cat\" = [\"tigger\"]: has \"tigger\", which is no class; did you mean \"tiger\"?",
        "3: groups.pet = 1: must be a list",
        "5: cameras.a.labels = [\"big cat\", \"pet\", \"caat\"]: has \"caat\", which is no label; did you mean \"cat\"?",
        "6: cameras.a.source = \"tset://\": must be",
    ]) {
        assert!(line.contains(part), "{line} has no {part}");
    }
    assert_eq!(lines.len(), 4, "{lines:#?}");
}

#[test]
fn labels_that_no_network_has_are_told_with_their_line() {
    let inputs = |toml: &str| Inputs { judge: Some(crate::workers::model::validate), ..text(toml) };
    let toml = "[groups]\npet = [\"tabbi\"]\n";
    assert_eq!(
        problems(&inputs(toml)),
        [
            "camfire.toml:2: groups.pet = [\"tabbi\"]: has \"tabbi\", which is no class; did you mean \"tabby\"?"
        ]
    );
    let toml = "[groups]\npet = [\"cat\"]\n[cameras.a]\nsource = \"test://\"\nlabels = [\"pets\"]\n";
    assert_eq!(
        problems(&inputs(toml)),
        [
            "camfire.toml:5: cameras.a.labels = [\"pets\"]: has \"pets\", which is no label; did you mean \"pet\"?"
        ]
    );
}
