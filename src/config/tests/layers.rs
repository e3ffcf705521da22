//! Files, environment and flags: which layer takes effect, and which one a problem names.

use super::*;

#[test]
fn later_layers_override_earlier_ones_and_problems_name_the_effective_one() {
    let files = directory(&[
        (
            "camfire.toml",
            "[mqtt]\nport = 1\nca_file = \"/a\"\n[detections]\ntop = 1\n[stats]\ninterval = \"1s\"\n",
        ),
        ("conf.d/10-a.toml", "[detections]\ntop = 2\n[stats]\ninterval = \"2s\"\n[engine]\nworkers = 2\n"),
        ("conf.d/20-b.toml", "[detections]\ntop = 3\n[engine]\nworkers = 3\n"),
        ("conf.d/30-c.toml.bak", "not TOML"),
        ("conf.d/.40-d.toml", "not TOML"),
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

    // ca_file in the file requires tls, which the environment sets and the flag clears. Then the environment
    // and a flag set ca_file.
    inputs.flags = pairs(&[("mqtt.tls", "false")]);
    let line = format!("{}:3: mqtt.ca_file = \"/a\": requires mqtt.tls = true", read[0].display());
    assert_eq!(problems(&inputs), [line]);
    inputs.environment = pairs(&[("CAMFIRE_MQTT__CA_FILE", "/b")]);
    assert_eq!(
        problems(&inputs),
        ["CAMFIRE_MQTT__CA_FILE (environment): mqtt.ca_file = \"/b\": requires mqtt.tls = true"]
    );
    inputs.flags = pairs(&[("mqtt.ca_file", "/c")]);
    assert_eq!(problems(&inputs), ["--set mqtt.ca_file=/c: requires mqtt.tls = true"]);
}

#[test]
fn a_camera_may_be_spread_over_two_files() {
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
fn a_broken_file_does_not_hide_problems_in_other_files() {
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
fn a_named_file_must_exist() {
    let inputs = Inputs { main: Main::File("/nowhere/camfire.toml".into()), ..Inputs::default() };
    assert_eq!(
        problems(&inputs),
        ["/nowhere/camfire.toml: cannot be read: No such file or directory (os error 2)"]
    );
}

#[test]
fn the_environment_sets_any_key_and_is_never_ignored_silently() {
    let mut inputs =
        text("[cameras.front-door]\nsource = \"test://\"\n[cameras.Yard]\nsource = \"test://\"\n");
    inputs.environment = pairs(&[
        ("CAMFIRE_MQTT__USER", "12345"),
        ("CAMFIRE_CAMERAS__FRONT_DOOR__RATE_FPS", "2"),
        ("CAMFIRE_CAMERAS__YARD__OPTIONS__WIDTH", "640"),
        ("CAMFIRE_CAMERAS__NEW__SOURCE", "test://ball"),
        ("CAMFIRE_FOO_BAR", "1"),
        ("CAMFIRE_SERVICE_HOST", "10.0.0.1"),
        ("CAMFIRE_MQTT_PORT", "tcp://10.0.0.2:1883"),
        ("CAMFIRE_MQTT_PORT_1883_TCP_ADDR", "10.0.0.2"),
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
        [
            "CAMFIRE_MQTT_PORT, CAMFIRE_MQTT_PORT_1883_TCP_ADDR, CAMFIRE_SERVICE_HOST (environment): ignored, because container \
             platforms set such variables for their services; settings are named like CAMFIRE_MQTT__PORT",
            "CAMFIRE_FOO_BAR (environment): is ignored; settings are named like CAMFIRE_MQTT__PORT"
        ]
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
        ("CAMFIRE_MQTT__PASSWORD", "hunter2", "mqtt.password = ***: requires mqtt.user"),
        ("CAMFIRE_CAMERAS__YARD", "1", "cameras.yard = \"1\": is a section; set one of its keys instead"),
    ] {
        let inputs = Inputs { environment: pairs(&[(name, value)]), ..text("") };
        assert_eq!(problems(&inputs), [format!("{name} (environment): {expected}")]);
    }
}

#[test]
fn flags_are_checked_like_other_layers() {
    for (key, value, expected) in [
        ("mqtt.port", "0", "mqtt.port=0: must be a whole number from 1 to 65535"),
        ("mqtt.prot", "1", "mqtt.prot=1: is not a key of [mqtt]; did you mean port?"),
        ("mqtt.port.x", "1", "mqtt.port.x=1: is not a key: mqtt.port has no keys below it"),
        ("mqtt", "1", "mqtt=1: is a section; set one of its keys instead"),
        ("mqtt.password", "hunter2", "mqtt.password=***: requires mqtt.user"),
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
            "cameras.a.source: is required: rtsp://, rtsps://, http://, https://, v4l2://, libcamera://, csi://, file:// or test://, \
          or \"custom\""
        ]
    );
}

#[test]
fn groups_may_have_any_name_and_later_layers_override_earlier_ones() {
    let toml = "[groups]\n\"big cat\" = [\"tiger\", \"lion\"]\n\"a.b\" = [\"tabby\"]\n\"Größe\" = [\"beagle\"]\n\
                [cameras.a]\nsource = \"test://\"\nlabels = [\"big cat\", \"a.b\", \"Größe\", \"unknown\"]\n";
    let inputs = Inputs {
        validate: Some(crate::workers::model::validate),
        flags: pairs(&[("groups.a.b", "[\"tiger cat\"]")]),
        ..text(toml)
    };
    let groups = loaded(&inputs).config.groups;
    assert_eq!(groups.keys().collect::<Vec<_>>(), ["Größe", "a.b", "big cat"]);
    assert_eq!(groups["a.b"], ["tiger cat"]);
}

#[test]
fn the_settings_of_the_page_lie_between_files_and_environment() {
    let config = "[cameras.a]\nsource = \"test://\"\nmotion_threshold = 9\nmin_size = 0.1\n\
                  zones.old = [[0, 0], [1, 0], [1, 1]]\n[objects]\nscore = 0.6\n";
    let page = "[cameras.a]\nmotion_threshold = 12.0\nmin_size = 0.2\n\
                [cameras.a.zones]\nnew = [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0]]\n[cameras.gone]\nscore = 0.9\n";
    let inputs = Inputs {
        page: page::Source::Text(page.into()),
        environment: pairs(&[("CAMFIRE_CAMERAS__A__MIN_SIZE", "0.3")]),
        ..text(config)
    };
    let cameras = loaded(&inputs).config.cameras;
    let [only] = &cameras[..] else { panic!("a page adds no camera") };
    assert_eq!((only.motion.threshold, only.motion.min_size), (12.0, 0.3));
    assert_eq!(only.zones.keys().collect::<Vec<_>>(), ["new"], "all zones are replaced");
    assert_eq!(only.score, 0.6, "objects.score, because the camera has none");
    let own = camera("[cameras.a]\nsource = \"test://\"\nscore = 0.7\n[objects]\nscore = 0.6\n");
    assert_eq!(own.score, 0.7);
}
