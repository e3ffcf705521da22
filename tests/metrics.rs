//! The web server and its metrics: valid for promtool, equal to the stats messages, documented; a port that
//! is in use and clients that send no request.

use crate::support::{
    Broker, Camfire, Subscriber, camfire_output, free_port,
    http::{Answer, get},
    root, small_clip, stdout, wait_for,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// A synthetic camera.
fn config(port: u16) -> String {
    format!(
        "node.name = 'porch'\nstats.interval = '1s'\nweb.listen = '127.0.0.1:{port}'\n\
         [cameras.test]\nsource = 'test://ball'\noptions = {{ width = 320, height = 240, fps = 10 }}\n",
    )
}

/// The same, and a clip that ends soon, so that its counts stop changing.
fn config_with_clip(port: u16) -> String {
    let options = "loop = false\nrealtime = false\nrate_fps = 4\n";
    format!("{}[cameras.yard]\nsource = '{}'\n{options}", config(port), small_clip())
}

fn scrape(port: u16) -> String {
    let Answer { head, body } = wait_for("the web server", || get(port, "/metrics", "*/*"));
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    body
}

/// The value of a series in the text format.
fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in {page}")).parse().unwrap()
}

/// Names and types of the metric families in the text format.
fn families(page: &str) -> BTreeMap<String, String> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types.map(|(name, kind)| (name.to_string(), kind.to_string())).collect()
}

/// Runs promtool with `text` as its input. Returns whether it succeeded, and its output.
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
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// Scrapes until no frame of the clip is pending any more, and returns that page.
fn scrape_after_clip(subscriber: &Subscriber, port: u16) -> String {
    subscriber.wait_state("yard", "ended");
    wait_for("the clip's last frame", || {
        let page = scrape(port);
        (value(&page, "camfire_frames_pending{camera=\"yard\"}") == 0.0).then_some(page)
    })
}

#[test]
fn metrics_are_valid_and_equal_to_the_stats() {
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let port = free_port();
    let mut camfire = Camfire::run(&config_with_clip(port), &broker.flags());
    subscriber.wait_topic("/test/detections");
    let page = scrape_after_clip(&subscriber, port);
    assert_eq!(promtool(&["check", "metrics"], &page), (true, String::new()), "{page}");

    let count = |page: &str, camera: &str, outcome: &str| {
        value(page, &format!("camfire_frames_total{{camera=\"{camera}\",outcome=\"{outcome}\"}}"))
    };
    let outcomes = ["analysed", "skipped_rate", "skipped_still", "shed", "dropped", "failed"];
    for camera in ["yard", "test"] {
        let of = |name: &str| value(&page, &format!("{name}{{camera=\"{camera}\"}}"));
        let processed: f64 = outcomes.iter().map(|outcome| count(&page, camera, outcome)).sum();
        assert_eq!(of("camfire_frames_captured_total"), processed + of("camfire_frames_pending"), "{camera}");
        let published = format!("camfire_frame_latency_seconds_count{{camera=\"{camera}\",stage=\"infer\"}}");
        assert!(value(&page, &published) > 0.0);
    }
    assert_eq!(value(&page, "camfire_camera_live{camera=\"yard\"}"), 0.0);
    assert_eq!(value(&page, "camfire_camera_live{camera=\"test\"}"), 1.0);
    assert!(value(&page, "process_cpu_seconds_total") > 0.0);
    assert!(value(&page, "camfire_start_time_seconds") > 1.7e9);

    // The clip has ended, so its metrics and stats are equal from now on.
    subscriber.clear_topic("/stats");
    let stats = subscriber.wait("stats of an interval without frames of the clip", |message| {
        message.topic.ends_with("/stats") && message.json()["cameras"]["yard"]["analysed_fps"] == 0.0
    });
    let (stats, page) = (stats.json(), scrape(port));
    let yard = &stats["cameras"]["yard"];
    for outcome in outcomes {
        assert_eq!(yard[outcome].as_f64(), Some(count(&page, "yard", outcome)), "{outcome}");
    }
    for (key, name) in [
        ("captured", "camfire_frames_captured_total"),
        ("pending", "camfire_frames_pending"),
        ("inferences", "camfire_inferences_total"),
        ("restarts", "camfire_camera_restarts_total"),
        ("hung_teardowns", "camfire_camera_hung_teardowns_total"),
        ("unusable", "camfire_camera_unusable_images_total"),
    ] {
        assert_eq!(yard[key].as_f64(), Some(value(&page, &format!("{name}{{camera=\"yard\"}}"))), "{key}");
    }
    assert!(yard["inferences"].as_u64() > Some(0) && yard["inference_ms"].as_u64() > Some(0), "{yard}");
    let inference_s = value(&page, "camfire_inference_seconds_total{camera=\"yard\"}");
    assert!((yard["inference_ms"].as_f64().unwrap() - inference_s * 1e3).abs() <= 1.0, "{inference_s}");
    assert_eq!(stats["messages_dropped"].as_f64(), Some(value(&page, "camfire_messages_dropped_total")));
    let memory = value(&page, "process_resident_memory_bytes") / f64::from(1 << 20);
    assert!((stats["memory_mib"].as_f64().unwrap() - memory).abs() < 0.5 * memory, "{memory}");
    assert!(stats["cameras"]["test"]["analysed_fps"].as_f64() > Some(0.0), "{stats}");
    // The other camera still publishes events, but the connection does not change.
    for (key, name) in
        [("connections", "camfire_delivery_connections_total"), ("lost", "camfire_delivery_lost_total")]
    {
        assert_eq!(stats["delivery"][key].as_f64(), Some(value(&page, name)), "{key}");
    }

    // An open connection does not delay the shutdown.
    let _idle = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    assert!(camfire.end("TERM").success());
    let log = camfire.log();
    let (_, shutdown) = log.split_once("camfire is stopping").expect("the start of the shutdown");
    assert!(!shutdown.contains(" WARN "), "{shutdown}");
}

#[test]
fn the_manual_and_the_dashboard_use_the_metrics_that_exist() {
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
        // Replaces the variables that Grafana fills in.
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
    let (is_valid, text) = promtool(&["check", "rules", "--lint=none", file.path().to_str().unwrap()], "");
    assert!(is_valid, "{text}");
}

/// Collects the strings at these keys, at any depth.
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
fn openmetrics_is_served_on_request_and_other_paths_do_not_exist() {
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
    for path in ["/metrics/", "/config", "/../etc/passwd"] {
        let answer = get(port, path, "*/*").unwrap();
        assert!(answer.head.starts_with("http/1.1 404"), "{path}: {}", answer.head);
    }
}

#[test]
fn clients_that_send_no_request_do_not_block_others() {
    let port = free_port();
    let broker = Broker::start();
    let _camfire = Camfire::run(&config(port), &broker.flags());
    scrape(port);
    // More connections than the server handles at once.
    let silent: Vec<TcpStream> =
        (0..40).map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap()).collect();
    scrape(port);
    drop(silent);
}

#[test]
fn health_is_answered_during_a_slow_request_attack() {
    const ATTACKERS: usize = 300;
    let port = free_port();
    let broker = Broker::start();
    let camfire = Camfire::run(&config(port), &broker.flags());
    scrape(port);
    // Each sends a byte of a header now and then, never a whole request, and comes back if it is thrown out.
    let is_over = Arc::new(AtomicBool::new(false));
    let is_attacked = Arc::new(AtomicUsize::new(0));
    let (over, attacked) = (is_over.clone(), is_attacked.clone());
    let attack = std::thread::spawn(move || {
        let connect = || {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
            stream.write_all(b"GET /healthz HTTP/1.1\r\nX-Slow: ").ok()?;
            Some(stream)
        };
        let mut streams: Vec<Option<TcpStream>> = (0..ATTACKERS).map(|_| connect()).collect();
        while !over.load(Ordering::Relaxed) {
            for stream in &mut streams {
                let is_open = stream.as_mut().is_some_and(|stream| stream.write_all(b"a").is_ok());
                if !is_open {
                    *stream = connect();
                }
            }
            attacked.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    wait_for("the attack", || (is_attacked.load(Ordering::Relaxed) > 2).then_some(()));
    for _ in 0..20 {
        // On a busy machine this thread may pause between connecting and writing, and lose its place.
        let answer = (0..3).find_map(|_| get(port, "/healthz", "*/*")).expect("an answer during the attack");
        assert!(answer.head.starts_with("http/1.1 200") && answer.body == "ok\n", "{}", answer.head);
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", camfire.id())).unwrap();
    let highest = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = highest.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 400 << 10, "{kib} KiB");
    let files = std::fs::read_dir(format!("/proc/{}/fd", camfire.id())).unwrap().count();
    assert!(files < 200, "{files} open files");
    is_over.store(true, Ordering::Relaxed);
    attack.join().unwrap();
}

#[test]
fn requests_for_other_hosts_are_refused() {
    let port = free_port();
    let broker = Broker::start();
    let config = config(port).replace("web.listen", "web.hosts = ['cam.lan']\nweb.listen");
    let _camfire = Camfire::run(&config, &broker.flags());
    scrape(port);
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    for (host, expected) in [
        (format!("127.0.0.1:{port}"), "200"),
        ("localhost".to_string(), "200"),
        (own.trim().to_string(), "200"),
        ("cam.lan".to_string(), "200"),
        ("rebound.example".to_string(), "421"),
        (format!("rebound.example:{port}"), "421"),
    ] {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{host}: {answer}");
        assert_eq!(answer.contains("camfire_"), expected == "200", "{host}");
    }
}

#[test]
fn a_port_in_use_is_logged_once_and_used_when_it_is_free() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let broker = Broker::start();
    let subscriber = broker.subscribe();
    let camfire = Camfire::run(&config(port), &broker.flags());
    camfire.wait_log("Web server cannot listen");
    camfire.wait_log(&format!("address=127.0.0.1:{port}"));
    subscriber.clear_topic("/test/detections");
    subscriber.wait_topic("/test/detections");
    drop(taken);
    scrape(port);
    assert_eq!(camfire.log().matches("Web server cannot listen").count(), 1, "{}", camfire.log());
}

#[test]
fn only_loopback_addresses_are_accepted_without_allow_remote() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("camfire.toml");
    std::fs::write(&file, "[web]\nlisten = '0.0.0.0:9190'\n").unwrap();
    let check = |more: &[&str]| {
        let arguments = ["check", "--config", file.to_str().unwrap()];
        camfire_output(&[&arguments, more].concat())
    };
    let refused = check(&[]);
    assert_eq!(refused.status.code(), Some(2));
    let text = stdout(&refused);
    assert!(text.contains(":2: web.listen = '0.0.0.0:9190': is not a loopback address"), "{text}");
    assert!(text.contains("web.allow_remote = true"), "{text}");
    let allowed = check(&["--set", "web.allow_remote=true"]);
    assert!(allowed.status.success(), "{}", stdout(&allowed));
}
