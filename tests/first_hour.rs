//! What a newcomer meets: what `watch`, `doctor`, `simulate` and `demo` print and leave behind, variables
//! that a container platform sets, and the packages that the documents name.

use crate::support::{
    Broker, DEADLINE, camfire, camfire_output, root, send_signal, stderr, stdout, wait_for,
};
use gstreamer::prelude::*;
use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
};

/// An event as a node sends it.
const EVENT: &str = r#"{"camera": "nix", "type": "start", "at": "2026-11-24T23:31:02.125Z", "label": "cat", "score": 0.83,
    "id": "a", "changed": [], "reason": null, "duration_s": 0, "moving": true, "zones": []}"#;

#[test]
fn watch_tells_of_an_unknown_camera_and_prints_local_times() {
    let broker = Broker::start();
    let client = broker.subscribe();
    client.publish("camfire/porch/yard/status", b"{}", true);
    client.publish("camfire/porch/status", b"{}", true);
    client.wait_topic("yard/status");
    let watch = |arguments: &[&str]| {
        let mut command = camfire();
        command.arg("watch").args(broker.flags()).args(arguments).env("TZ", "CET-1CEST,M3.5.0,M10.5.0/3");
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut unknown = watch(&["--camera", "nix", "--count", "1"]);
    let mut line = String::new();
    BufReader::new(unknown.stderr.take().unwrap()).read_line(&mut line).unwrap();
    let expected = format!(
        "camfire: broker 127.0.0.1:{}: no camera \"nix\": there are porch/yard. Waiting for it.\n",
        broker.port
    );
    assert_eq!(line.replace("localhost", "127.0.0.1"), expected);
    // It appears after all.
    client.publish("camfire/porch/nix/events", EVENT.as_bytes(), false);
    let output = unknown.wait_with_output().unwrap();
    assert_eq!(stdout(&output), "00:31:02.125 CET  nix  cat (0.83) detected\n");

    // A known one is not told of, and its state is not printed.
    client.publish("camfire/porch/nix/status", b"{}", true);
    let known = watch(&["--camera", "nix", "--node", "porch", "--count", "1"]);
    // Until it has subscribed, nothing arrives.
    let known = std::thread::spawn(move || known.wait_with_output().unwrap());
    wait_for("the line", || {
        client.publish("camfire/porch/nix/events", EVENT.as_bytes(), false);
        known.is_finished().then_some(())
    });
    let output = known.join().unwrap();
    assert_eq!((stdout(&output).lines().count(), stderr(&output).as_str()), (1, ""));
}

#[test]
fn doctor_puts_last_what_is_not_here_and_not_needed() {
    let broker = Broker::start();
    let flags = broker.flags();
    let arguments: Vec<&str> = ["doctor"].into_iter().chain(flags.iter().map(String::as_str)).collect();
    let text = stdout(&camfire_output(&arguments));
    let lines: Vec<&str> = text.lines().collect();
    let first_absent = lines.iter().position(|line| line.starts_with("- ")).expect("a Jetson's pipeline");
    assert!(lines[first_absent..].iter().all(|line| line.starts_with("- ")), "{text}");
    assert!(
        lines[..first_absent].iter().all(|line| line.starts_with("ok ") || line.starts_with("NO ")),
        "{text}"
    );
    for line in &lines {
        assert!(!(line.starts_with("ok ") && line.contains("not available")), "{line}");
    }
    assert!(lines[first_absent..].iter().any(|line| line.contains("pipeline rtsp-h264-jetson")), "{text}");
    let json = stdout(&camfire_output(&[&arguments[..], &["--json"]].concat()));
    let findings: Vec<serde_json::Value> =
        json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let jetson = findings.iter().find(|finding| finding["what"] == "pipeline rtsp-h264-jetson").unwrap();
    assert!(jetson["ok"] == false && jetson["needed"] == false, "{jetson}");
}

#[test]
fn simulate_leaves_nothing_retained() {
    let broker = Broker::start();
    for (boards, events, expected) in
        [("1", "1", "1 device, 1 event in "), ("10", "30", "10 devices, 30 events in ")]
    {
        let flags = broker.flags();
        let mut arguments = vec!["simulate", "--boards", boards, "--rate", "1000", "--events", events];
        arguments.extend(flags.iter().map(String::as_str));
        let output = camfire_output(&arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(stdout(&output).starts_with(expected), "{}", stdout(&output));
    }
    let client = broker.subscribe();
    client.publish("marker", b"", false);
    client.wait_topic("marker");
    let retained: Vec<_> = client.all().into_iter().filter(|message| message.retained).collect();
    assert!(retained.is_empty(), "{retained:#?}");
}

#[test]
fn variables_of_a_container_platform_are_warnings() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("camfire.toml");
    std::fs::write(&file, "[cameras.a]\nsource = 'test://'\n").unwrap();
    let check = |variables: &[(&str, &str)]| {
        let mut command = camfire();
        command.args(["check", "--config", file.to_str().unwrap()]).envs(variables.iter().copied());
        let output = command.output().unwrap();
        (output.status.code(), stdout(&output))
    };
    let (status, text) = check(&[
        ("CAMFIRE_MQTT_PORT", "tcp://10.0.0.2:1883"),
        ("CAMFIRE_MQTT_SERVICE_HOST", "10.0.0.2"),
        ("CAMFIRE_MQTT_SERVICE_PORT", "1883"),
        ("CAMFIRE_MQTT_PORT_1883_TCP", "tcp://10.0.0.2:1883"),
        ("CAMFIRE_MQTT_PORT_1883_TCP_PROTO", "tcp"),
        ("CAMFIRE_STATS_PORT", "tcp://10.0.0.3:80"),
    ]);
    assert_eq!(status, Some(0), "{text}");
    assert!(
        text.starts_with("warning: CAMFIRE_MQTT_PORT, ") && text.contains("CAMFIRE_STATS_PORT"),
        "{text}"
    );
    let (status, text) = check(&[("CAMFIRE_MQTT_PORT", "1884")]);
    assert_eq!(status, Some(2), "{text}");
    assert!(text.contains("did you mean CAMFIRE_MQTT__PORT?"), "{text}");
}

#[test]
fn labels_that_the_model_cannot_give_are_warnings_of_check() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("camfire.toml");
    let toml = "[engine]\neveryday_head = 'off'\n[cameras.a]\nsource = 'test://'\nlabels = ['person']\n";
    std::fs::write(&file, toml).unwrap();
    let output = camfire_output(&["check", "--config", file.to_str().unwrap()]);
    let text = stdout(&output);
    assert!(output.status.success(), "{text}");
    let expected =
        "toml:5: cameras.a.labels = ['person']: has \"person\", which this model hardly ever gives";
    assert!(text.starts_with("warning: ") && text.contains(expected), "{text}");
}

/// Starts the demo with `folder` for temporary files, and waits for its first event.
fn start_demo(folder: &Path, arguments: &[&str]) -> (Child, impl Sized) {
    let mut command = camfire();
    command.arg("demo").args(arguments).env("TMPDIR", folder);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut out, err) = (BufReader::new(child.stdout.take().unwrap()), child.stderr.take().unwrap());
    let (sender, first) = mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = out.read_line(&mut line);
        let _ = sender.send((read.is_ok().then_some(line), out));
    });
    let (line, out) = first.recv_timeout(DEADLINE).expect("an event");
    assert!(line.is_some_and(|line| line.contains("  clip  ")));
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1);
    (child, (out, err))
}

#[test]
fn the_demo_leaves_nothing_behind() {
    for (end, arguments) in
        [("HUP", &[][..]), ("TERM", &["--no-broker"]), ("closed terminal", &["--no-broker"])]
    {
        let folder = tempfile::tempdir().unwrap();
        let (mut child, streams) = start_demo(folder.path(), arguments);
        if end == "closed terminal" {
            drop(streams);
        } else {
            send_signal(end, child.id());
        }
        let status = wait_for("the demo to exit", || child.try_wait().unwrap());
        assert!(status.success(), "{end}: {status}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{end}");
    }
}

/// The packages of a Makefile variable, with those of the variables that it includes.
fn make_packages(makefile: &str, variable: &str) -> BTreeSet<String> {
    let line = makefile.lines().find_map(|line| line.strip_prefix(variable)?.strip_prefix(" := "));
    let mut packages = BTreeSet::new();
    for word in line.unwrap_or_else(|| panic!("no {variable}")).split(' ') {
        match word.strip_prefix("$(").and_then(|word| word.strip_suffix(')')) {
            Some(included) => packages.extend(make_packages(makefile, included)),
            None => drop(packages.insert(word.to_string())),
        }
    }
    packages
}

/// The packages after the first `apt install` below a heading.
fn documented_packages(document: &str, heading: &str) -> BTreeSet<String> {
    let text = document.split_once(heading).unwrap_or_else(|| panic!("no {heading}")).1;
    let text = text.split_once("apt install ").expect("an apt command").1.split("```").next().unwrap();
    text.split_whitespace().filter(|word| *word != "\\").map(str::to_string).collect()
}

/// The packages of a relation of the Debian package, such as `depends`, without versions and alternatives.
fn related_packages(deb: &toml::Value, relation: &str) -> BTreeSet<String> {
    let names = deb[relation].as_str().unwrap().split(", ");
    names.map(|name| name.split(' ').next().unwrap().to_string()).collect()
}

#[test]
fn the_documents_name_the_packages_that_a_build_and_a_run_need() {
    let read = |name: &str| std::fs::read_to_string(root().join(name)).unwrap();
    let makefile = read("Makefile");
    let manifest: toml::Value = toml::from_str(&read("Cargo.toml")).unwrap();
    let deb = &manifest["package"]["metadata"]["deb"];
    let plugins = |relation: &str, deb: &toml::Value| {
        let mut packages = related_packages(deb, relation);
        packages.retain(|package| package.starts_with("gstreamer1.0-"));
        packages
    };
    let run = plugins("depends", deb);
    assert_eq!(run, plugins("depends", &deb["variants"]["arm64"]));
    let suggested = plugins("suggests", deb);
    let service = read("docs/service.md");
    for (packages, relation) in [(&run, "required"), (&suggested, "suggested")] {
        for package in packages {
            assert!(service.contains(&format!("| `{package}` | {relation} |")), "{package} {relation}");
        }
    }
    let build = make_packages(&makefile, "build_packages");
    let mut listed = documented_packages(&read("README.md"), "For another system");
    assert!(listed.remove("libssl3"));
    assert_eq!(listed, build.union(&run).cloned().collect());
    let of_demo = make_packages(&makefile, "run_packages");
    assert!(run.is_subset(&of_demo), "{run:?} {of_demo:?}");

    // What the templates need is among them, but for boards.
    let of_boards = ["nvidia-l4t-camera", "nvidia-l4t-gstreamer", "libgstreamer1.0-0"];
    for file in std::fs::read_dir(root().join("pipelines")).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for package in text.lines().filter_map(|line| line.strip_prefix("package = ")) {
            let package = package.trim_matches('"');
            let is_named = run.contains(package) || suggested.contains(package);
            assert!(is_named || of_boards.contains(&package), "{package}");
        }
    }
    // What camfire adds to every pipeline, and what `analyze --annotate` uses, by the installed package.
    gstreamer::init().unwrap();
    if Command::new("dpkg").arg("--version").output().is_err() {
        return;
    }
    for element in [
        "appsink",
        "appsrc",
        "videoconvert",
        "videoflip",
        "decodebin",
        "parsebin",
        "openh264enc",
        "h264parse",
        "mp4mux",
    ] {
        let plugin = gstreamer::ElementFactory::find(element).unwrap().plugin().unwrap();
        let file = std::fs::canonicalize(plugin.filename().unwrap()).unwrap();
        let output = Command::new("dpkg")
            .arg("-S")
            .arg(format!("*/{}", file.file_name().unwrap().to_str().unwrap()))
            .output();
        let text = stdout(&output.unwrap());
        let package = text.split(':').next().unwrap();
        assert!(run.contains(package), "{element} is in {package}");
    }
}
