//! The setup of a view: what is saved on the page takes effect without a restart, survives one, and can be
//! forgotten; what is invalid is refused in words, and a damaged file does no harm.

use super::{Answer, request};
use crate::support::{Camfire, camfire, free_port, send_signal, small_clip, wait_for};
use serde_json::{Value, json};
use std::{fs, path::PathBuf};

/// A daemon with a state directory, as a service has.
struct Service {
    port: u16,
    folder: tempfile::TempDir,
    camfire: Camfire,
}

impl Service {
    fn start() -> Service {
        let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
        let file = folder.path().join("camfire.toml");
        fs::write(
            &file,
            format!(
                "web.listen = '127.0.0.1:{port}'\nmqtt.port = 1\n[cameras.yard]\nsource = '{}'\nrate_fps = 5\n\
                 motion_threshold = 9\nzones.path = [[0.1, 0.1], [0.2, 0.1], [0.2, 0.2]]\n\
                 [cameras.yard.regions.gate]\nbox = [0.1, 0.1, 0.2, 0.2]\nlabels = ['cat']\n",
                small_clip()
            ),
        )
        .unwrap();
        let camfire = run(&folder, &file);
        let service = Service { port, folder, camfire };
        wait_for("the web server", || request(service.port, "GET", "/healthz", &[], b""));
        service
    }

    fn restart(&mut self) {
        self.camfire.end("TERM");
        self.start_again();
    }

    fn start_again(&mut self) {
        self.camfire = run(&self.folder, &self.folder.path().join("camfire.toml"));
        wait_for("the web server", || request(self.port, "GET", "/healthz", &[], b""));
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("state/page.toml")
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        let headers = [("Content-Type", "application/json")];
        let path = format!("/api/v1/cameras/{path}");
        request(self.port, method, &path, &headers, body.to_string().as_bytes()).expect("an answer")
    }

    fn setup(&self) -> Value {
        let answer = self.send("GET", "yard/setup", &json!({}));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    fn camera(&self) -> Value {
        self.send("GET", "yard", &json!({})).json()
    }
}

fn run(folder: &tempfile::TempDir, file: &std::path::Path) -> Camfire {
    let state = folder.path().join("state");
    Camfire::start(file, &[], &[("STATE_DIRECTORY", state.display().to_string())])
}

const LAWN: [[f64; 2]; 4] = [[0.0, 0.3], [1.0, 0.3], [1.0, 1.0], [0.0, 1.0]];

#[test]
fn what_is_saved_takes_effect_survives_a_restart_and_is_forgotten() {
    let mut service = Service::start();
    let before = service.setup();
    assert_eq!(before["values"]["motion_threshold"], 9.0);
    assert_eq!(
        (&before["origins"]["motion_threshold"], &before["origins"]["score"]),
        (&json!("config"), &json!("default"))
    );
    assert!(before["where"]["zones"].as_str().unwrap().ends_with("camfire.toml:7"), "{}", before["where"]);
    let id = service.camfire.id();
    let values = json!({
        "zones": { "lawn": LAWN }, "masks": [[[0, 0], [0.1, 0], [0.1, 0.1]]], "motion_threshold": 12.5, "score": 0.5,
        "regions": { "gate": { "rect": [0.5, 0.5, 0.25, 0.25] } },
    });
    let answer = service.send("PUT", "yard/setup", &values);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let check = |service: &Service| {
        let camera = service.camera();
        assert_eq!(
            camera["zones"],
            json!([{ "name": "lawn", "polygon": LAWN }]),
            "the configuration's is replaced"
        );
        assert_eq!(camera["settings"]["motion_threshold"], 12.5);
        assert_eq!(camera["settings"]["score"], 0.5);
        assert_eq!(camera["regions"][0]["rect"], json!([0.5, 0.5, 0.25, 0.25]));
        let setup = service.setup();
        assert_eq!(
            (&setup["origins"]["zones"], &setup["origins"]["min_size"]),
            (&json!("page"), &json!("default"))
        );
        assert_eq!(setup["values"]["regions"]["gate"]["labels"], json!(["cat"]), "its other keys are kept");
        assert_eq!(setup["page"]["motion_threshold"], 12.5);
    };
    check(&service);
    assert_eq!(service.camfire.id(), id);
    // The pipeline goes on, and the objects are in the new zone.
    assert!(!service.camfire.log().contains("opened anew"), "{}", service.camfire.log());
    service.camfire.wait_log("camera 'yard' analysed anew");
    wait_for("an object in the zone", || {
        service.camera()["occupancy"]["zones"]["lawn"]["total"].as_u64().filter(|total| *total > 0)
    });
    service.restart();
    check(&service);
    // The command says where it comes from.
    let output = camfire()
        .env("STATE_DIRECTORY", service.folder.path().join("state"))
        .args(["check", "--config", service.folder.path().join("camfire.toml").to_str().unwrap()])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("cameras.yard.motion_threshold: set on the page (")
            && text.contains("state/page.toml:"),
        "{text}"
    );
    let answer = service.send("DELETE", "yard/setup", &json!({}));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(service.setup()["values"], before["values"]);
    assert_eq!(service.camera()["zones"][0]["name"], "path");
}

#[test]
fn what_is_invalid_is_refused_in_words_and_changes_nothing() {
    let service = Service::start();
    let before = service.camera();
    let cases = [
        (json!({ "zones": { "lawn": [[0, 0], [1, 1], [1, 0], [0, 1]] } }), "zones.lawn", "intersect itself"),
        (json!({ "zones": { "lawn": [[0, 0], [1, 1]] } }), "zones.lawn", "three corners"),
        (json!({ "zones": { "lawn": [[0, 0], [1, 1], [2, 0]] } }), "zones.lawn", ""),
        (json!({ "zones": { "a/b": LAWN } }), "zones", ""),
        (json!({ "masks": [LAWN, [[0, 0], [1, 1]]] }), "masks", "polygon 2"),
        (json!({ "motion_threshold": 0 }), "motion_threshold", "from 1 to 255"),
        (json!({ "min_size": 2 }), "min_size", "from 0 to 1"),
        (json!({ "score": 0 }), "score", "from 0.01 to 1"),
        (json!({ "regions": { "door": { "rect": [0, 0, 1, 1] } } }), "regions.door", "no such region"),
        (json!({ "regions": { "gate": { "rect": [0.9, 0, 0.5, 1] } } }), "regions.gate", ""),
        (json!({ "masks": vec![LAWN; 101] }), "masks", "at most 100"),
    ];
    for (values, key, text) in cases {
        let answer = service.send("PUT", "yard/setup", &values);
        assert_eq!(answer.status, 422, "{values}: {}", answer.text());
        let problem = &answer.json()["problems"][0];
        assert!(problem["key"].as_str().unwrap().starts_with(key), "{problem}");
        assert!(problem["message"].as_str().unwrap().contains(text), "{problem}");
    }
    for values in [
        json!({ "source": "file:///etc/passwd" }),
        json!({ "launch": "x" }),
        json!([]),
        json!({ "zones": 1 }),
    ] {
        assert_eq!(service.send("PUT", "yard/setup", &values).status, 400, "{values}");
    }
    assert_eq!(service.send("PUT", "attic/setup", &json!({})).status, 404);
    assert!(!service.file().exists());
    let after = service.camera();
    assert_eq!((&after["zones"], &after["settings"]), (&before["zones"], &before["settings"]));
    let text = service
        .send("POST", "yard/setup/toml", &json!({ "zones": { "lawn": LAWN }, "min_size": 0.1 }))
        .json();
    let text = text["toml"].as_str().unwrap();
    let parsed: toml::Table = text.parse().unwrap();
    assert_eq!(parsed["cameras"]["yard"]["min_size"].as_float(), Some(0.1), "{text}");
}

#[test]
fn a_damaged_file_is_set_aside_and_the_configuration_is_used() {
    let mut service = Service::start();
    assert_eq!(service.send("PUT", "yard/setup", &json!({ "motion_threshold": 20 })).status, 200);
    for damage in
        ["[cameras.yard", "[cameras.yard]\nsource = 'x'\n", "[cameras.yard]\nmotion_threshold = 999\n"]
    {
        fs::write(service.file(), damage).unwrap();
        service.restart();
        assert_eq!(service.camera()["settings"]["motion_threshold"], 9.0, "{damage}");
        service.camfire.wait_log("camfire is running");
        let said = service.camfire.log().matches("The settings of the page are damaged").count();
        assert_eq!(said, 1, "{damage}: {}", service.camfire.log());
        assert!(!service.file().exists(), "{damage}");
        let names = fs::read_dir(service.folder.path().join("state"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        let aside: Vec<_> =
            names.filter(|name| name.to_string_lossy().starts_with("page.toml.bad-")).collect();
        assert!(!aside.is_empty());
        aside
            .iter()
            .for_each(|name| fs::remove_file(service.folder.path().join("state").join(name)).unwrap());
    }
    // Of a camera that is gone, nothing is used, and nothing is lost.
    fs::write(service.file(), "[cameras.attic]\nmotion_threshold = 30\n").unwrap();
    service.restart();
    assert_eq!(service.send("PUT", "yard/setup", &json!({ "min_size": 0.1 })).status, 200);
    let text = fs::read_to_string(service.file()).unwrap();
    assert!(text.contains("[cameras.attic]") && text.contains("[cameras.yard]"), "{text}");
    // The same under a running daemon, at its next reload.
    fs::write(service.file(), "[cameras.yard").unwrap();
    send_signal("HUP", service.camfire.id());
    service.camfire.wait_log("The settings of the page are damaged");
    wait_for("the reload", || (service.setup()["origins"]["min_size"] == "default").then_some(()));
    assert!(!service.file().exists());
}

#[test]
fn a_value_that_a_command_has_set_gives_way() {
    let mut service = Service::start();
    let set = json!({ "version": 1, "cameras": { "yard": { "motion_threshold": { "value": 33.0, "since": "2026-11-24T07:31:02Z" } } } });
    service.camfire.end("TERM");
    fs::write(service.folder.path().join("state/settings.json"), set.to_string()).unwrap();
    service.start_again();
    assert_eq!(service.camera()["settings"]["motion_threshold"], 33.0);
    assert_eq!(service.send("PUT", "yard/setup", &json!({ "motion_threshold": 20 })).status, 200);
    assert_eq!(service.camera()["settings"]["motion_threshold"], 20.0);
}
