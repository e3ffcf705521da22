//! Error texts: an invalid configuration goes in, and the exact lines of its problems come out.

use super::*;

#[test]
fn every_broken_rule_is_reported_in_one_exact_line() {
    const ADDRESS: &str = "must start with rtsp://, rtsps://, http://, https://, v4l2://, libcamera://, csi://, file:// or test://, \
         or be \"custom\"";
    const TOPIC: &str = "must be one or more topic levels, such as \"camfire\" or \"site/camfire\": no empty level, \
                         no slash at either end, no + or #, no leading $";
    const LISTEN: &str = "must be an IP address and a port, such as \"127.0.0.1:9190\" or \"[::1]:9190\"";
    const OPEN: &str = "is not a loopback address such as 127.0.0.1 or ::1, and there is no password: run 'sudo camfire \
                        web-password' and set web.password_file; or set web.allow_remote = true to serve only metrics \
                        and the health check, to anyone";
    let cases: &[(&str, &[&str])] = &[
        // Unknown keys and sections.
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
        ("mqtt = 1", &["1: mqtt: is a section; write [mqtt] and its keys below it"]),
        ("[[cameras]]\nname = 1", &["1: cameras: is a section; write [cameras.NAME] and its keys below it"]),
        (
            "[cameras]\nrate_fps = 1",
            &["2: cameras.rate_fps: is a section; write [cameras.rate_fps] and its keys below it"],
        ),
        (
            "[cameras.a]\nsource = \"test://\"\nfps = 2",
            &["3: cameras.a.fps = 2: is not a key of [cameras.a]; did you mean rate_fps?"],
        ),
        (
            "[cameras.a]\nsource = \"test://\"\noptions = 2",
            &["3: cameras.a.options: is a section; write [cameras.a.options] and its keys below it"],
        ),
        // Values of the wrong kind or outside their range.
        ("[mqtt]\nport = 70_000", &["2: mqtt.port = 70_000: must be a whole number from 1 to 65535"]),
        ("[mqtt]\nport = \"1883\"", &["2: mqtt.port = \"1883\": must be a whole number from 1 to 65535"]),
        ("[mqtt]\nport.x = 1", &["2: mqtt.port = a table: must be a whole number from 1 to 65535"]),
        ("[mqtt]\nhost = 1", &["2: mqtt.host = 1: must be a string in quotes"]),
        (
            "[mqtt]\nhost = \"\"",
            &["2: mqtt.host = \"\": must be a host name or an IP address, without scheme and port"],
        ),
        (
            "[mqtt]\nhost = \"mqtt://me:hunter2@h\"",
            &[
                "2: mqtt.host = \"mqtt://***@h\": must be a host name or an IP address, without scheme and port",
            ],
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
            &["3: cameras.a.options.x = 1.5: must be a string in quotes, a whole number, true or false"],
        ),
        // Names and addresses of cameras.
        (
            "[cameras.\"a/b\"]\nsource = \"test://\"",
            &["1: cameras.\"a/b\": must be a camera name of 1 to 64 letters (a-z, A-Z), digits, - or _"],
        ),
        (
            "[cameras.status]\nsource = \"test://\"",
            &["1: cameras.status: is reserved: the node publishes its own messages under status"],
        ),
        (
            "[cameras.a]\nrate_fps = 1",
            &[
                "1: cameras.a.source: is required: rtsp://, rtsps://, http://, https://, v4l2://, libcamera://, csi://, file:// or test://, \
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
                "2: cameras.a.source = \"file://clip.mp4\": must be file:// followed by an absolute path, with three \
               slashes in a row: file:///srv/clips/yard.mp4",
            ],
        ),
        // Rules between keys.
        ("[mqtt]\nca_file = \"/ca.pem\"", &["2: mqtt.ca_file = \"/ca.pem\": requires mqtt.tls = true"]),
        ("[mqtt]\npassword = \"hunter2\"", &["2: mqtt.password = ***: requires mqtt.user"]),
        (
            "[mqtt]\nuser = \"me\"\npassword = \"hunter2\"\npassword_file = \"/p\"",
            &["4: mqtt.password_file = \"/p\": is set, but mqtt.password is as well; keep one of them"],
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
                "3: cameras.a.user = \"me\": is set, but the source contains a user name as well; remove it from \
               the URL",
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
                "1: cameras.a.launch: is required with source = \"custom\": a launch line that ends in raw video",
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
            &["3: cameras.a.stall_timeout = \"never\": must be \"auto\" or a duration from 1s to 1day, \
               such as \"10s\""],
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
            &["3: cameras.a.snapshot_source = \"rtsp://***@h/s\": must not contain a user name or \
               password, because those of the camera are used"],
        ),
        (
            "[objects]\nconfirm = \"20s\"",
            &[
                "2: objects.confirm = \"20s\": must be shorter than objects.absorb_after (20s), because objects \
               would otherwise become background before they are published",
            ],
        ),
        (
            "[objects]\nabsorb_after = \"1s\"\nconfirm = \"1m\"",
            &[
                "3: objects.confirm = \"1m\": must be shorter than objects.absorb_after (1s), because objects \
               would otherwise become background before they are published",
            ],
        ),
        // Groups.
        (
            "[groups]\nunknown = [\"tabby\"]",
            &["2: groups.unknown = [\"tabby\"]: is reserved: unknown stands for objects without a label"],
        ),
        (
            "[groups]\n\"\" = [\"tabby\"]",
            &["2: groups.\"\" = [\"tabby\"]: must have a name that is not empty"],
        ),
        (
            "[groups]\n\"big cat\" = []",
            &[
                "2: groups.\"big cat\" = []: must be a list of at least one class, such as [\"tabby\", \"beagle\"]",
            ],
        ),
        (
            "[groups]\na.b = [\"tabby\"]",
            &["2: groups.a = a table: must be a list of at least one class, such as [\"tabby\", \"beagle\"]"],
        ),
        // One mistake is one problem.
        ("[mqtt]\ntls = 1\nca_file = \"/ca.pem\"", &["2: mqtt.tls = 1: must be true or false"]),
        ("[mqtt]\nuser = 1\npassword = \"hunter2\"", &["2: mqtt.user = 1: must be a string in quotes"]),
        // Invalid TOML.
        ("[mqtt]\nport 1883\n", &["2: key with no value, expected `=`"]),
        ("[mqtt]\nport = 1\nport = 2\n", &["3: duplicate key"]),
    ];
    for (toml, expected) in cases {
        let expected: Vec<String> = expected.iter().map(|line| format!("camfire.toml:{line}")).collect();
        assert_eq!(problems(&text(toml)), expected, "{toml}");
    }
}

#[test]
fn all_problems_are_reported_at_once_and_counted() {
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
fn problems_of_zones_masks_and_regions_name_their_line() {
    let yard = |lines: &str| format!("[cameras.a]\nsource = \"test://\"\n{lines}");
    for (lines, location, rule) in [
        (
            "masks = [[[0, 0], [1, 1], [1, 0], [0, 1]]]",
            "3: cameras.a.masks",
            "polygon 1: must not intersect itself",
        ),
        ("masks = [[0, 0]]", "3: cameras.a.masks", "must be a list of polygons"),
        ("zones.lawn = [[0, 0], [2, 0], [1, 1]]", "3: cameras.a.zones.lawn", "[2, 0] is outside"),
        (
            "regions.gate.box = [0.5, 0.5, 0.0001, 0.1]",
            "3: cameras.a.regions.gate.box",
            "must have a width and a height of at least",
        ),
        ("regions.gate.boxx = 1", "3: cameras.a.regions.gate.boxx", "did you mean box?"),
        ("labels = \"cat\"", "3: cameras.a.labels", "must be a list of strings"),
        ("zones = 1", "3: cameras.a.zones", "is a section"),
    ] {
        let problems = problems(&text(&yard(lines)));
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains(location) && problems[0].contains(rule), "{problems:?}");
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
fn every_invalid_polygon_is_reported_and_polygons_may_be_closed() {
    let yard = |lines: &str| text(&format!("[cameras.a]\nsource = \"test://\"\n{lines}"));
    let masks =
        "masks = [[[0, 0], [1, 1], [1, 0], [0, 1]], [[0, 0], [0.5, 0], [0.5, 1]], [[0, 0], [2, 0], [1, 1]]]";
    assert_eq!(
        problems(&yard(masks))[0].split_once("]]]: ").unwrap().1,
        "polygon 1: must not intersect itself: the side from [0, 0] to [1, 1] meets the side from [1, 0] to [0, 1]; \
         list the corners in their order around the polygon; polygon 3: must lie within the image: [2, 0] is outside; \
         corners are fractions of its width and height, 0 to 1"
    );
    let closed = "masks = [[[0, 0], [1, 0], [1, 1], [0, 0]]]\nzones.lawn = [[0, 0], [1, 0], [1, 1], [0, 0]]";
    let camera = loaded(&yard(closed)).config.cameras.remove(0);
    assert_eq!((camera.masks[0].len(), camera.zones["lawn"].len()), (3, 3));
    let warnings = |lines: &str| loaded(&yard(lines)).warnings;
    assert_eq!(warnings(closed), [""; 0]);
    assert_eq!(
        warnings("masks = [[[0, 0], [0.6, 0], [0.6, 1], [0, 1]], [[0.5, 0], [1, 0], [1, 1], [0.5, 1]]]"),
        [
            "camfire.toml:3: cameras.a.masks = [[[0, 0], [0.6, 0], [0.6, 1], [0, 1]], [[0.5, 0], [1, 0], [1, 1], [0.5, 1]]]: the masks \
          cover the whole image, so nothing will be detected"
        ]
    );
}

#[test]
fn unknown_labels_are_reported_together_with_other_problems() {
    let toml = "[groups]\n\"big cat\" = [\"tigger\"]\npet = 1\n[cameras.a]\nlabels = [\"big cat\", \"pet\", \"caat\"]\n\
                source = \"tset://\"\n";
    let lines = problems(&Inputs { validate: Some(crate::workers::model::validate), ..text(toml) });
    for (line, part) in lines.iter().zip([
        "2: groups.\"big cat\" = [\"tigger\"]: has \"tigger\", which is no label and no class; did you mean \"tiger\"?",
        "3: groups.pet = 1: must be a list",
        "5: cameras.a.labels = [\"big cat\", \"pet\", \"caat\"]: has \"caat\", which is no label; did you mean \"cat\"?",
        "6: cameras.a.source = \"tset://\": must start with",
    ]) {
        assert!(line.contains(part), "{line} has no {part}");
    }
    assert_eq!(lines.len(), 4, "{lines:#?}");
}

#[test]
fn unknown_labels_are_reported_with_their_line() {
    let inputs = |toml: &str| Inputs { validate: Some(crate::workers::model::validate), ..text(toml) };
    let toml = "[groups]\npet = [\"tabbi\"]\n";
    assert_eq!(
        problems(&inputs(toml)),
        [
            "camfire.toml:2: groups.pet = [\"tabbi\"]: has \"tabbi\", which is no label and no class; did you mean \"tabby\"?"
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

#[test]
fn labels_that_the_model_cannot_give_are_warnings_and_web_hosts_are_checked() {
    let inputs = |toml: &str| Inputs { validate: Some(crate::workers::model::validate), ..text(toml) };
    let toml = "[engine]\neveryday_head = \"off\"\n[cameras.a]\nsource = \"test://\"\nlabels = [\"person\", \"vehicle\"]\n";
    let expected = [
        "which this model hardly ever gives: of these, its classes know only baseball players, bridegrooms and \
         scuba divers",
        "which this model cannot give: nothing is reported as that",
    ];
    let warnings = loaded(&inputs(toml)).warnings;
    for (warning, expected) in warnings.iter().zip(expected) {
        assert!(
            warning.starts_with("camfire.toml:5: cameras.a.labels = [\"person\", \"vehicle\"]: has"),
            "{warning}"
        );
        assert!(warning.ends_with(expected), "{warning}");
    }
    assert_eq!(warnings.len(), 2);
    assert_eq!(loaded(&inputs(&toml.replace("\"off\"", "\"\""))).warnings, [""; 0]);

    let web = loaded(&inputs("[web]\nhosts = [\"Cam.lan.\"]\n")).config.web;
    assert!(web.hosts.contains(&"cam.lan".to_string()), "{:?}", web.hosts);
    assert_eq!(
        problems(&inputs("[web]\nhosts = [\"http://cam.lan\"]\n")),
        [
            "camfire.toml:2: web.hosts = [\"http://cam.lan\"]: has \"http://cam.lan\", which must be a host name or an IP address, \
             without scheme and port"
        ]
    );
}

#[test]
fn the_public_url_is_the_address_of_a_page_that_is_served() {
    let inputs = |toml: &str| text(&format!("{toml}\n[cameras.a]\nsource = \"test://\"\n"));
    let local = "[web]\nlisten = \"127.0.0.1:8080\"\n";
    assert_eq!(
        problems(&inputs(&format!("{local}public_url = \"https://me:secret@cam.lan\""))),
        [
            "camfire.toml:3: web.public_url = \"https://***@cam.lan\": must be the address of the page, such as \
          \"https://cam.example.org\" or \"http://192.168.1.7:8080/cam\", without user and password"
        ]
    );
    let no_page = loaded(&inputs("[web]\npublic_url = \"https://cam.lan\""));
    assert_eq!(no_page.config.web.public_url, None);
    assert!(no_page.warnings[0].contains("no effect without web.listen"), "{:?}", no_page.warnings);
    let remote = "[web]\nlisten = \"0.0.0.0:8080\"\nallow_remote = true\npublic_url = \"https://cam.lan\"";
    let remote = loaded(&inputs(remote));
    assert_eq!(remote.config.web.public_url, None);
    assert!(remote.warnings[0].contains("no effect without a password"), "{:?}", remote.warnings);
    let open = loaded(&inputs(&format!("{local}public_url = \"https://Cam.lan.:8443/a/\"")));
    assert_eq!(open.config.web.public_url.as_deref(), Some("https://Cam.lan.:8443/a"));
    assert!(open.config.web.hosts.contains(&"cam.lan".to_string()), "{:?}", open.config.web.hosts);
    assert!(open.warnings[0].contains("there is no password"), "{:?}", open.warnings);
    let own = loaded(&inputs(&format!("{local}public_url = \"http://localhost:8080\"")));
    assert_eq!(own.warnings, [""; 0]);
}
