//! The web server and what it serves to Prometheus: sound by promtool's judgement, the same as the stats, as documented;
//! and what it does where the port is taken, or a client only holds its place.

use crate::support::{
    Broker, Camfire, Subscriber, camfire_output, clip, free_port,
    http::{Answer, get},
    root, stdout, wait_for,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Command, Stdio},
};

/// A clip that is over before long, so that what is counted comes to rest, and a camera that goes on.
fn config(port: u16) -> String {
    format!(
        "node.name = 'porch'\nstats.interval = '1s'\nweb.listen = '127.0.0.1:{port}'\n\
         [cameras.yard]\nsource = '{}'\nloop = false\nrealtime = false\nrate_fps = 4\n\
         [cameras.test]\nsource = 'test://ball'\noptions = {{ width = 320, height = 240, fps = 10 }}\n",
        clip()
    )
}

fn scrape(port: u16) -> String {
    let Answer { head, body } = wait_for("the web server", || get(port, "/metrics", "*/*"));
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    body
}

/// The value of a series as it stands in the text.
fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in {page}")).parse().unwrap()
}

/// Names and types of the families in the text.
fn families(page: &str) -> BTreeMap<String, String> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types.map(|(name, kind)| (name.to_string(), kind.to_string())).collect()
}

/// Feeds `text` to promtool; what it says on success and failure.
fn promtool(arguments: &[&str], text: &str) -> (bool, String) {
    let mut child = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed by make test");
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// A scrape after which the clip's frames are all accounted for.
fn scrape_at_rest(subscriber: &Subscriber, port: u16) -> String {
    subscriber.wait_state("yard", "ended");
    wait_for("the clip's last frame", || {
        let page = scrape(port);
        (value(&page, "camfire_frames_pending{camera=\"yard\"}") == 0.0).then_some(page)
    })
}

#[test]
fn metrics_are_sound_and_tell_what_the_stats_tell() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let port = free_port();
    let mut camfire = Camfire::run(&config(port), &broker.flags());
    subscriber.wait_topic("/test/detections");
    let page = scrape_at_rest(&subscriber, port);
    assert_eq!(promtool(&["check", "metrics"], &page), (true, String::new()), "{page}");

    let account = |page: &str, camera: &str, outcome: &str| {
        value(page, &format!("camfire_frames_total{{camera=\"{camera}\",outcome=\"{outcome}\"}}"))
    };
    let outcomes = ["analysed", "skipped_rate", "skipped_still", "shed", "dropped", "failed"];
    for camera in ["yard", "test"] {
        let of = |name: &str| value(&page, &format!("{name}{{camera=\"{camera}\"}}"));
        let accounted: f64 = outcomes.iter().map(|outcome| account(&page, camera, outcome)).sum();
        assert_eq!(of("camfire_frames_captured_total"), accounted + of("camfire_frames_pending"), "{camera}");
        let published = format!("camfire_frame_latency_seconds_count{{camera=\"{camera}\",stage=\"infer\"}}");
        assert!(value(&page, &published) > 0.0);
    }
    assert_eq!(value(&page, "camfire_camera_live{camera=\"yard\"}"), 0.0);
    assert_eq!(value(&page, "camfire_camera_live{camera=\"test\"}"), 1.0);
    assert!(value(&page, "process_cpu_seconds_total") > 0.0);
    assert!(value(&page, "camfire_start_time_seconds") > 1.7e9);

    // The clip is over: from now on both tell the same of it.
    subscriber.clear_topic("/stats");
    let stats = subscriber.wait("stats at rest", |message| {
        message.topic.ends_with("/stats") && message.json()["cameras"]["yard"]["analysed_fps"] == 0.0
    });
    let (stats, page) = (stats.json(), scrape(port));
    let yard = &stats["cameras"]["yard"];
    for outcome in outcomes {
        assert_eq!(yard[outcome].as_f64(), Some(account(&page, "yard", outcome)), "{outcome}");
    }
    for (key, name) in [
        ("captured", "camfire_frames_captured_total"),
        ("pending", "camfire_frames_pending"),
        ("inferences", "camfire_inferences_total"),
        ("restarts", "camfire_camera_restarts_total"),
        ("hung_teardowns", "camfire_camera_hung_teardowns_total"),
    ] {
        assert_eq!(yard[key].as_f64(), Some(value(&page, &format!("{name}{{camera=\"yard\"}}"))), "{key}");
    }
    assert!(yard["inferences"].as_u64() > Some(0) && yard["inference_ms"].as_u64() > Some(0), "{yard}");
    let looked_s = value(&page, "camfire_inference_seconds_total{camera=\"yard\"}");
    assert!((yard["inference_ms"].as_f64().unwrap() - looked_s * 1e3).abs() <= 1.0, "{looked_s}");
    assert_eq!(stats["messages_dropped"].as_f64(), Some(value(&page, "camfire_messages_dropped_total")));
    let memory = value(&page, "process_resident_memory_bytes") / f64::from(1 << 20);
    assert!((stats["memory_mib"].as_f64().unwrap() - memory).abs() < 0.5 * memory, "{memory}");
    assert!(stats["cameras"]["test"]["analysed_fps"].as_f64() > Some(0.0), "{stats}");
    // Events go on and on, but connections stand.
    for (key, name) in
        [("connections", "camfire_delivery_connections_total"), ("lost", "camfire_delivery_lost_total")]
    {
        assert_eq!(stats["delivery"][key].as_f64(), Some(value(&page, name)), "{key}");
    }

    // A connection that is kept open does not hold up the end.
    let _idle = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    assert!(camfire.end("TERM").success());
    assert!(!camfire.log().contains("does not end"), "{}", camfire.log());
}

#[test]
fn the_manual_and_the_dashboard_name_what_is_served() {
    let port = free_port();
    let broker = Broker::start();
    let _camfire = Camfire::run(&config(port), &broker.flags());
    let page = scrape(port);
    let served = families(&page);

    let manual = std::fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let rows = manual.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let documented: BTreeSet<&str> = rows
        .map(|(series, _)| series.split('{').next().unwrap())
        .filter(|name| name.starts_with("camfire_") || name.starts_with("process_"))
        .collect();
    assert_eq!(documented, served.keys().map(String::as_str).collect());

    let dashboard = std::fs::read_to_string(root().join("docs/grafana.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let mut expressions = Vec::new();
    collect(&dashboard, &["expr", "query", "definition"], &mut expressions);
    assert!(expressions.len() > 15, "{expressions:?}");
    let mut shown = BTreeSet::new();
    let mut rules = String::from("groups:\n- name: dashboard\n  rules:\n");
    for expression in expressions {
        for word in expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            if !word.starts_with("camfire_") && !word.starts_with("process_") {
                continue;
            }
            let parts = ["_bucket", "_sum", "_count"];
            let histogram = parts.iter().find_map(|part| word.strip_suffix(part));
            let name = histogram
                .filter(|name| served.get(*name).is_some_and(|kind| kind == "histogram"))
                .unwrap_or(word);
            assert!(served.contains_key(name), "{word} in {expression} is not served");
            shown.insert(name.to_string());
        }
        // What Grafana fills in.
        let filled = expression.replace("$__rate_interval", "1m").replace("$__range", "1h").replace('$', "");
        if !filled.starts_with("label_values") && filled != "prometheus" {
            rules += &format!("  - record: a:b\n    expr: {}\n", serde_json::to_string(&filled).unwrap());
        }
    }
    for name in ["camfire_frames_total", "camfire_frame_latency_seconds", "camfire_outbox_waiting"] {
        assert!(shown.contains(name), "{name} is not shown");
    }
    let file = tempfile::NamedTempFile::with_suffix(".yml").unwrap();
    std::fs::write(&file, rules).unwrap();
    let (sound, said) = promtool(&["check", "rules", "--lint=none", file.path().to_str().unwrap()], "");
    assert!(sound, "{said}");
}

/// The texts at these keys, at any depth.
fn collect<'a>(value: &'a Value, keys: &[&str], found: &mut Vec<&'a str>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| collect(value, keys, found)),
        Value::Object(object) => {
            for (key, value) in object {
                match value.as_str() {
                    Some(text) if keys.contains(&key.as_str()) => found.push(text),
                    _ => collect(value, keys, found),
                }
            }
        }
        _ => {}
    }
}

#[test]
fn whoever_asks_for_open_metrics_gets_it_and_nothing_else_is_there() {
    let port = free_port();
    let broker = Broker::start();
    let _camfire = Camfire::run(&config(port), &broker.flags());
    let open = "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5";
    let Answer { head, body } = wait_for("the web server", || get(port, "/metrics", open));
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(body.contains("# TYPE camfire_frames counter\n") && body.ends_with("# EOF\n"), "{body}");
    let health = get(port, "/healthz", "*/*").unwrap();
    assert!(health.head.starts_with("http/1.1 200"), "{}", health.head);
    assert_eq!(health.body, "ok\n");
    for path in ["/", "/metrics/", "/config", "/../etc/passwd"] {
        let answer = get(port, path, "*/*").unwrap();
        assert!(answer.head.starts_with("http/1.1 404"), "{path}: {}", answer.head);
    }
}

#[test]
fn clients_that_say_nothing_lose_their_place() {
    let port = free_port();
    let broker = Broker::start();
    let camfire = Camfire::run(&config(port), &broker.flags());
    camfire.wait_log("Web server listens");
    // More than are served at once.
    let silent: Vec<TcpStream> =
        (0..40).map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap()).collect();
    scrape(port);
    drop(silent);
}

#[test]
fn a_port_that_is_taken_is_told_once_and_had_when_it_is_free() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let camfire = Camfire::run(&config(port), &broker.flags());
    camfire.wait_log(&format!(
        "Web server cannot listen; trying again, seeing goes on. address=127.0.0.1:{port}"
    ));
    subscriber.clear_topic("/test/detections");
    subscriber.wait_topic("/test/detections");
    drop(taken);
    camfire.wait_log("Web server listens");
    scrape(port);
    assert_eq!(camfire.log().matches("Web server cannot listen").count(), 1, "{}", camfire.log());
}

#[test]
fn only_this_machine_may_look_unless_anyone_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("camfire.toml");
    std::fs::write(&file, "[web]\nlisten = '0.0.0.0:9190'\n").unwrap();
    let check = |more: &[&str]| {
        let arguments = ["check", "--config", file.to_str().unwrap()];
        camfire_output(&[&arguments, more].concat())
    };
    let refused = check(&[]);
    assert_eq!(refused.status.code(), Some(2));
    let said = stdout(&refused);
    assert!(said.contains(":2: web.listen = '0.0.0.0:9190': is not a loopback address"), "{said}");
    assert!(said.contains("web.allow_remote = true allows that"), "{said}");
    let allowed = check(&["--set", "web.allow_remote=true"]);
    assert!(allowed.status.success(), "{}", stdout(&allowed));
}
