//! The rules of `docs/architecture.md` as tests: which module may import which, which crate is used where,
//! how wide comments are, and that prose names what exists. Each rule is also shown to fail on a broken copy.

mod prose;
mod source;

use crate::support::root;
use prose::Known;
use source::{File, files, names, rooms};
use std::collections::BTreeSet;

/// The modules of `src/` from the top down. A module may import what stands below its own row, and nothing
/// beside it.
const LAYERS: &[&[&str]] = &[
    &["main"],
    &["cli"],
    &["daemon"],
    &["camera", "workers", "publish", "store", "web"],
    &["wire"],
    &["vision"],
    &["control", "counters"],
    &["queue", "config"],
    &["clock", "backoff", "recent_log"],
    &["error", "files", "frame", "hex", "lifecycle", "procfs", "sync"],
];

/// Crates and modules of the standard library, and the only paths whose code may name them.
const USED_IN: &[(&str, &[&str])] = &[
    ("gstreamer", &["src/camera/gst/"]),
    ("gstreamer_app", &["src/camera/gst/"]),
    ("gstreamer_video", &["src/camera/gst/"]),
    ("rumqttc", &["src/publish/mqtt/"]),
    ("native_tls", &["src/publish/mqtt/", "src/camera/http/", "src/camera/rtsp/"]),
    ("tokio_native_tls", &["src/camera/http/", "src/camera/rtsp/"]),
    ("openssl", &["src/config/web_certificate.rs", "src/web/tls.rs"]),
    ("tokio_openssl", &["src/web/tls.rs"]),
    ("ipnet", &["src/config/", "src/web/forwarded.rs"]),
    ("http_auth", &["src/camera/auth.rs"]),
    ("http_body_util", &["src/camera/http/"]),
    ("socket2", &["src/camera/rtsp/"]),
    ("roxmltree", &["src/camera/onvif.rs"]),
    ("if_addrs", &["src/camera/onvif.rs"]),
    ("argon2", &["src/config/web_passwords.rs"]),
    ("futures_util", &["src/web/"]),
    ("getrandom", &["src/config/web_passwords.rs"]),
    ("rpassword", &["src/cli/init/", "src/cli/web_password.rs"]),
    ("rusqlite", &["src/publish/outbox/"]),
    ("rustix", &["src/files.rs", "src/lifecycle.rs"]),
    ("flate2", &["src/vision/replay/"]),
    ("axum", &["src/web/"]),
    ("hmac", &["src/wire/links.rs"]),
    ("hyper", &["src/web/", "src/camera/http/"]),
    ("hyper_util", &["src/web/", "src/camera/http/"]),
    ("prometheus_client", &["src/web/"]),
    (
        "tokio",
        &[
            "src/web/",
            "src/publish/mqtt/",
            "src/camera/http/",
            "src/camera/rtsp/",
            "src/queue/live.rs",
            "src/wire/feed.rs",
        ],
    ),
    ("fast_image_resize", &["src/vision/"]),
    ("signal_hook", &["src/cli/"]),
    ("sd_notify", &["src/cli/"]),
    ("clap", &["src/cli/", "src/main.rs"]),
    ("clap_complete", &["src/cli/generate.rs"]),
    ("clap_mangen", &["src/cli/generate.rs"]),
    ("env::var", &["src/cli/", "src/main.rs", "engine/src/kernels/conformance.rs"]),
    ("env::var_os", &["src/cli/", "src/main.rs"]),
    ("env::vars", &["src/cli/", "src/main.rs"]),
    ("process::exit", &["src/cli/", "src/main.rs"]),
    ("thread::Builder", &["src/daemon/", "src/lifecycle.rs", "src/cli/"]),
    ("thread::spawn", &["src/cli/"]),
    ("core::arch", &["engine/src/kernels/"]),
    ("std::arch::x86_64", &["engine/src/kernels/"]),
    ("std::arch::aarch64", &["engine/src/kernels/"]),
    ("asm!", &["engine/src/kernels/"]),
];

/// Names that schema 3 and its release retired. They must not come back, because one concept has one name.
const RETIRED: &[&str] = &[
    "acknowledged_after_ms",
    "camfire_camera_resting",
    "camfire_network_looks",
    "camfire_network_seconds",
    "evidence",
    "foretell",
    "FrameWay",
    "longest_pause",
    "look_again",
    "looks_ms",
    "luggage",
    "most_messages",
    "most_mib",
    "most_packet_kib",
    "Verdict",
];

/// Where retired names may stand: the changelog, the tables of renames, and what was recorded with them.
const MAY_NAME_RETIRED: &[&str] = &[
    "CHANGELOG.md",
    "docs/mqtt.md",
    "src/config/renamed.rs",
    "src/config/tests/",
    "tests/architecture/",
    "tests/data/recorded/",
    "tests/recorded.rs",
];

/// The widest comment.
const MAX_COMMENT_COLUMNS: usize = 110;

fn rust() -> Vec<File> {
    ["src", "engine", "tests", "fuzz/fuzz_targets"]
        .iter()
        .flat_map(|folder| files(root(), folder, &["rs"]))
        .collect()
}

/// Imports that a row of [`LAYERS`] does not allow.
fn broken_layers(file: &File) -> Vec<String> {
    let Some(path) = file.path.strip_prefix("src/") else { return Vec::new() };
    let own = path.split('/').next().unwrap().trim_end_matches(".rs");
    let row = |room: &str| LAYERS.iter().position(|row| row.contains(&room));
    let Some(own_row) = row(own) else { return vec![format!("{}: {own} stands in no layer", file.path)] };
    let imported: BTreeSet<String> = rooms(&file.path, &file.code()).into_iter().collect();
    imported
        .into_iter()
        .filter(|room| room != own && row(room).is_some_and(|row| row <= own_row))
        .map(|room| format!("{}: {own} may not import {room}", file.path))
        .collect()
}

/// Crates that are used where [`USED_IN`] does not allow them.
fn misplaced_crates(file: &File) -> Vec<String> {
    if !file.path.starts_with("src/") && !file.path.starts_with("engine/src/") {
        return Vec::new();
    }
    let code = file.code();
    let is_allowed = |places: &[&str]| places.iter().any(|place| file.path.starts_with(place));
    USED_IN
        .iter()
        .filter(|(name, places)| !is_allowed(places) && names(&code, name))
        .map(|(name, places)| format!("{}: {name} belongs to {}", file.path, places.join(", ")))
        .collect()
}

fn wide_comments(file: &File) -> Vec<String> {
    let is_comment = |line: &str| match file.path.rsplit_once('.').map_or("", |(_, end)| end) {
        "rs" => line.trim_start().starts_with("//"),
        _ => line.trim_start().starts_with('#'),
    };
    let is_wide = |line: &str| is_comment(line) && line.chars().count() > MAX_COMMENT_COLUMNS;
    let lines = file.text.lines().enumerate().filter(|(_, line)| is_wide(line));
    lines
        .map(|(number, line)| format!("{}:{}: {} columns", file.path, number + 1, line.chars().count()))
        .collect()
}

/// Retired names in a file, each with its line number.
fn retired_names(file: &File) -> Vec<String> {
    if MAY_NAME_RETIRED.iter().any(|place| file.path.starts_with(place)) {
        return Vec::new();
    }
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        for word in line.split(|c| !is_word(c)).filter(|word| RETIRED.contains(word)) {
            found.push(format!("{}:{}: {word} was retired", file.path, number + 1));
        }
    }
    found
}

/// Keys of the manual: assignments below a section's head, also those in its examples.
fn manual_keys(text: &str) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let mut section = String::new();
    for line in text.lines() {
        let line = line.strip_prefix('#').filter(|line| !line.starts_with(' ')).unwrap_or(line);
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.split(']').next()) {
            let mut parts = name.split('.');
            section = match (parts.next(), parts.next(), parts.next()) {
                (Some("cameras"), _, Some(below)) => {
                    keys.insert(format!("cameras.NAME.{below}"));
                    String::new()
                }
                (Some("cameras"), ..) => "cameras.NAME".into(),
                (Some(name), ..) => name.into(),
                _ => String::new(),
            };
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !section.is_empty()) {
            keys.insert(format!("{section}.{key}"));
        }
    }
    keys
}

fn known(rust: &[File]) -> Known<'static> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let words = |file: &File| {
        let code = file.all_code();
        code.split(|c| !is_word(c)).map(String::from).collect::<Vec<_>>()
    };
    let folders = [
        "src",
        "engine",
        "tests",
        "fuzz",
        "docs",
        "models",
        "assets",
        "benches",
        "pipelines",
        "config",
        "packaging",
        "development",
        "systemd",
        ".github",
    ];
    Known {
        root: root(),
        files: folders.iter().flat_map(|folder| paths_below(folder)).collect(),
        keys: manual_keys(&std::fs::read_to_string(root().join("config/camfire.toml")).unwrap())
            .into_iter()
            .chain(picture_stats())
            .collect(),
        words: rust.iter().flat_map(words).collect(),
    }
}

/// The fields of `pictures` in the `stats` message. They are written like configuration keys.
fn picture_stats() -> Vec<String> {
    let schema = std::fs::read_to_string(root().join("docs/schemas/stats.json")).unwrap();
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    let fields = schema["properties"]["pictures"]["properties"].as_object().unwrap();
    fields.keys().map(|field| format!("pictures.{field}")).collect()
}

/// The paths of all files below a folder of the repository, with a `/` in front.
fn paths_below(folder: &str) -> Vec<String> {
    let mut folders = vec![root().join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(format!("/{}", path.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    found
}

#[test]
fn modules_import_only_what_stands_below_them() {
    let broken: Vec<String> = rust().iter().flat_map(broken_layers).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    for (path, code) in [
        ("src/vision/scene.rs", "use crate::{clock::Clock, publish::outbox};"),
        ("src/camera/gst/gate.rs", "use super::super::super::store::Store;"),
        ("src/publish/mod.rs", "fn f() { crate::web::serve() }"),
        ("src/queue/frames.rs", "use crate::wire::messages::Message;"),
        ("src/utils.rs", ""),
    ] {
        assert_eq!(broken_layers(&File::new(path, code)).len(), 1, "{path}: {code}");
    }
    let sound = "use crate::{wire::topics, queue::frames};\n// crate::web\nuse super::mqtt;\n\
                 #[cfg(test)]\nmod tests { use crate::web; }";
    assert!(broken_layers(&File::new("src/publish/mod.rs", sound)).is_empty());
}

#[test]
fn crates_are_used_only_where_they_belong() {
    let misplaced: Vec<String> = rust().iter().flat_map(misplaced_crates).collect();
    assert!(misplaced.is_empty(), "{misplaced:#?}");
    for (path, code) in [
        ("src/camera/mod.rs", "use gstreamer as gst;"),
        ("src/publish/outbox/mod.rs", "fn f(client: &rumqttc::Client) {}"),
        ("src/config/mod.rs", "let home = std::env::var(NAME);"),
        ("src/daemon/mod.rs", "std::process::exit(1)"),
        ("engine/src/ops/add.rs", "use core::arch::x86_64::*;"),
    ] {
        assert!(!misplaced_crates(&File::new(path, code)).is_empty(), "{path}: {code}");
    }
    let sound = "// rumqttc\nfn f() -> &str { \"gstreamer\" }";
    assert!(misplaced_crates(&File::new("src/publish/outbox/mod.rs", sound)).is_empty());
}

#[test]
fn comments_are_not_too_wide() {
    let mut all = rust();
    for (folder, extensions) in [
        ("config", &["toml"][..]),
        ("pipelines", &["toml"]),
        ("models", &["py"]),
        ("assets", &["py"]),
        ("benches", &["py"]),
    ] {
        all.extend(files(root(), folder, extensions));
    }
    let wide: Vec<String> = all.iter().flat_map(wide_comments).collect();
    assert!(wide.is_empty(), "{wide:#?}");
    let broken = File::new("src/a.rs", &format!("let a = 1;\n/// {}", "x".repeat(107)));
    assert_eq!(wide_comments(&broken), ["src/a.rs:2: 111 columns"]);
}

#[test]
fn prose_names_files_keys_and_types_that_exist() {
    let rust = rust();
    let known = known(&rust);
    let mut problems = Vec::new();
    for file in &rust {
        let comments = file.comments();
        let lines = comments.iter().map(|(number, comment)| (*number, comment.as_str()));
        problems.extend(prose::unresolved(&file.path, lines, &known));
    }
    let mut documents = files(root(), "docs", &["md"]);
    for folder in ["config", "models", "assets", "benches", "pipelines"] {
        documents.extend(files(root(), folder, &["md", "toml"]));
    }
    // The changelog tells of what is gone.
    for name in ["README.md", "CONTRIBUTING.md", "SECURITY.md"] {
        documents.push(File::new(name, &std::fs::read_to_string(root().join(name)).unwrap()));
    }
    for file in &documents {
        // The tables of renames at the end of `docs/mqtt.md` name what is gone.
        let text = file.text.split("\n## What changed in schema 4\n").next().unwrap();
        let lines = text.lines().enumerate().map(|(number, line)| (number + 1, line));
        problems.extend(prose::unresolved(&file.path, lines, &known));
    }
    assert!(problems.is_empty(), "{problems:#?}");
    let broken =
        "See `src/gone.rs`, `outbox.oldest`, `cameras.yard.longest_pause`, [`FrameWay`] and `Cargo.toml`.";
    let found = prose::unresolved("docs/a.md", [(1, broken)].into_iter(), &known);
    assert_eq!(found.len(), 4, "{found:#?}");
    let sound = "See `tests/main.rs`, `outbox.max_age`, `cameras.yard.rate_fps`, [`FrameCounts`] and `src/<name>.rs`.";
    assert_eq!(prose::unresolved("docs/a.md", [(1, sound)].into_iter(), &known), [""; 0]);
}

#[test]
fn retired_names_do_not_come_back() {
    let mut all = rust();
    let folders =
        ["docs", "config", "models", "assets", "benches", "pipelines", "packaging", "development", "systemd"];
    for folder in folders {
        all.extend(files(root(), folder, &["md", "toml", "json", "py", "sh", "service"]));
    }
    for name in ["README.md", "CONTRIBUTING.md", "SECURITY.md", "Makefile"] {
        all.push(File::new(name, &std::fs::read_to_string(root().join(name)).unwrap()));
    }
    let found: Vec<String> = all.iter().flat_map(retired_names).collect();
    assert!(found.is_empty(), "{found:#?}");
    let broken = File::new("src/a.rs", "let a = config.outbox.most_mib;\nstruct Verdict;");
    assert_eq!(retired_names(&broken).len(), 2);
    assert!(retired_names(&File::new("CHANGELOG.md", "most_mib")).is_empty());
}
