//! The page in a real browser: Chromium, headless, driven by chromedriver.

use super::{Node, request};
use crate::support::{clip, free_port, root, small_clip, wait_for};
use fantoccini::{
    Client, ClientBuilder, Locator,
    actions::{InputSource, MOUSE_BUTTON_LEFT, MouseActions, PointerAction},
};
use serde_json::{Value, json};
use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

/// Maximum time to wait for an element or a condition.
const DEADLINE: Duration = Duration::from_secs(60);

/// A browser. Ends with the test.
pub struct Browser {
    driver: Child,
    port: u16,
    client: Client,
    runtime: tokio::runtime::Runtime,
}

impl Browser {
    /// Starts a browser with a window of this size.
    pub fn start(width: u32, height: u32) -> Browser {
        let port = free_port();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromium-driver is installed by make test");
        wait_for("chromedriver", || request(port, "GET", "/status", &[], b""));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let size = format!("--window-size={width},{height}");
        let capabilities = json!({
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": { "args": [
                "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", size,
            ] },
        });
        let capabilities = capabilities.as_object().unwrap().clone();
        let url = format!("http://127.0.0.1:{port}");
        let client = runtime
            .block_on(async { ClientBuilder::native().capabilities(capabilities).connect(&url).await })
            .expect("chromedriver starts chromium");
        Browser { driver, port, client, runtime }
    }

    pub fn open(&self, node: &Node, route: &str) {
        let url = format!("http://127.0.0.1:{}/{route}", node.port);
        self.runtime.block_on(self.client.goto(&url)).unwrap();
    }

    /// Runs a script in the page.
    pub fn script(&self, text: &str) -> Value {
        self.runtime.block_on(self.client.execute(text, Vec::new())).unwrap()
    }

    /// Waits until a script returns something else than null or false.
    pub fn wait(&self, what: &str, script: &str) -> Value {
        wait_for(what, || {
            Some(self.script(script)).filter(|value| !value.is_null() && *value != json!(false))
        })
    }

    /// Waits for an element and returns its text.
    pub fn text(&self, selector: &str) -> String {
        let element = self.element(selector);
        self.runtime.block_on(element.text()).unwrap()
    }

    pub fn element(&self, selector: &str) -> fantoccini::elements::Element {
        let found = async { self.client.wait().at_most(DEADLINE).for_element(Locator::Css(selector)).await };
        self.runtime.block_on(found).unwrap_or_else(|error| panic!("{selector}: {error}"))
    }

    pub fn click(&self, selector: &str) {
        let element = self.element(selector);
        // Not below the bar that sticks to the lower edge.
        self.script(&format!(
            "document.querySelector({selector:?}).scrollIntoView({{block: 'center'}}); return 1"
        ));
        self.runtime.block_on(element.click()).unwrap();
    }

    fn write(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.runtime.block_on(element.send_keys(text)).unwrap();
    }

    /// Sends a command of chromedriver that WebDriver does not have. Returns its value.
    fn command(&self, path: &str, body: &Value) -> Value {
        let id = self.runtime.block_on(self.client.session_id()).unwrap().unwrap();
        let headers = [("Content-Type", "application/json")];
        let path = format!("/session/{id}/{path}");
        let answer = request(self.port, "POST", &path, &headers, body.to_string().as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()["value"].clone()
    }

    /// Sets what the page is told of the user's preferred colours: `light` or `dark`.
    fn set_colours(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        let command = json!({ "cmd": "Emulation.setEmulatedMedia", "params": { "features": features } });
        self.command("goog/cdp/execute", &command);
    }

    /// Checks the page with axe-core. Returns what is serious or critical: rules with elements.
    fn grave_findings(&self, axe: &str) -> Value {
        self.script(axe);
        let run = "const [done] = arguments; const isGrave = ({ impact }) => ['serious', 'critical'].includes(impact); \
                   const words = ({ id, nodes }) => [id, ...nodes.map(({ html, failureSummary }) => `${html}: ${failureSummary}`)]; \
                   axe.run().then(({ violations }) => done(violations.filter(isGrave).map(words)), (error) => done(`${error}`))";
        self.runtime.block_on(self.client.execute_async(run, Vec::new())).unwrap()
    }

    /// Saves what the window shows as docs/images/page-NAME.jpg, if CAMFIRE_PAGE_PICTURES is set.
    fn save_picture(&self, name: &str) {
        if std::env::var_os("CAMFIRE_PAGE_PICTURES").is_none() {
            return;
        }
        let png = self.runtime.block_on(self.client.screenshot()).unwrap();
        let file = root().join(format!("docs/images/page-{name}.jpg"));
        let rgb = image::load_from_memory(&png).unwrap().to_rgb8();
        let mut jpeg = Vec::new();
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 80).encode_image(&rgb).unwrap();
        std::fs::write(file, jpeg).unwrap();
    }

    /// Clicks places of the setup's picture, by real pointer events. They are relative to its middle, in
    /// parts of its size.
    pub fn draw(&self, places: &[(f64, f64)]) {
        let rectangle = self.script(
            "const stage = document.querySelector('#setup-shapes'); stage.scrollIntoView({block: 'center'}); \
             const r = stage.getBoundingClientRect(); return [r.x, r.y, r.width, r.height]",
        );
        let [x, y, width, height] = std::array::from_fn(|index| rectangle[index].as_f64().unwrap());
        for (dx, dy) in places {
            let (at_x, at_y) = (x + width * (0.5 + dx), y + height * (0.5 + dy));
            let mouse = MouseActions::new("mouse".into())
                .then(PointerAction::MoveTo { duration: None, x: at_x, y: at_y })
                .then(PointerAction::Down { button: MOUSE_BUTTON_LEFT })
                .then(PointerAction::Up { button: MOUSE_BUTTON_LEFT });
            self.runtime.block_on(self.client.perform_actions(mouse)).unwrap();
        }
    }

    /// The messages of the console that are errors, except those about answers that the page expects.
    pub fn console_errors(&self) -> Vec<String> {
        let entries = self.command("se/log", &json!({ "type": "browser" })).as_array().unwrap().clone();
        let is_error = |entry: &&Value| {
            entry["level"] == "SEVERE"
                && !entry["message"].as_str().unwrap().contains("Failed to load resource")
        };
        entries.iter().filter(is_error).map(|entry| entry["message"].to_string()).collect()
    }

    /// The page is not wider than its window.
    fn assert_fits(&self, view: &str) {
        let overflow = self.script("return document.documentElement.scrollWidth - window.innerWidth");
        assert!(overflow.as_i64().unwrap() <= 0, "{view}: {overflow} pixels too wide");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.runtime.block_on(self.client.clone().close());
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// A node whose live view a browser without a graphics processor can follow.
fn slow_node() -> Node {
    Node::start_with("", &format!("[cameras.yard]\nsource = '{}'\nrate_fps = 2\n", small_clip()))
}

#[test]
fn cameras_live_view_and_events_are_shown_as_they_are() {
    let mut node = slow_node();
    let browser = Browser::start(1280, 900);
    browser.open(&node, "");
    browser.wait(
        "the camera's picture",
        "const i = document.querySelector('[data-camera=yard] img'); return i && i.naturalWidth > 0",
    );
    assert_eq!(browser.text("#node-name"), "porch");
    browser.wait(
        "the camera to be live",
        "return document.querySelector('[data-camera=yard]').textContent.includes('live')",
    );
    browser
        .wait("the connection", "return document.querySelector('#connection').dataset.connection === 'live'");

    // The boxes of the live view are where the stream says that objects are.
    browser.open(&node, "#/cameras/yard");
    browser.wait("frames", "return Number(document.querySelector('#live-canvas')?.dataset.frames) > 5");
    let listed = browser.wait(
        "an object in view",
        "const o = document.querySelector('#live-objects')?.textContent; return o && /person|car|cat/.test(o) ? o : null",
    );
    assert!(listed.is_string());
    // Something was drawn: the canvas has colours.
    let colours = browser.script(
        "const c = document.querySelector('#live-canvas'); const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; \
         const s = new Set(); for (let i = 0; i < d.length; i += 400) s.add(d[i] * 65536 + d[i + 1] * 256 + d[i + 2]); return s.size",
    );
    assert!(colours.as_u64().unwrap() > 50, "{colours}");

    // An event appears without reloading.
    browser.open(&node, "#/events");
    browser.wait("events", "return document.querySelectorAll('[data-event]').length > 0");
    let before = browser
        .script("window.notReloaded = true; return document.querySelector('[data-event]').dataset.event");
    browser.wait(
        "a newer event",
        &format!("return document.querySelector('[data-event]').dataset.event !== {before}"),
    );
    assert_eq!(browser.script("return window.notReloaded"), true);
    // Its details, with its path once it has ended.
    let ended = browser.wait(
        "an event that has ended",
        "return document.querySelector('[data-event][data-type=end]')?.dataset.event",
    );
    browser.open(&node, &format!("#/events/{}", ended.as_str().unwrap()));
    browser
        .wait("the event's facts", "return document.querySelector('#event-facts')?.textContent.length > 20");

    // The page goes on when the daemon was restarted under it.
    node.restart();
    browser.open(&node, "#/node");
    browser
        .wait("the node's stages", "return document.querySelector('[data-stage=\"camera-yard\"]') !== null");
    browser
        .wait("the connection", "return document.querySelector('#connection').dataset.connection === 'live'");
    assert_eq!(browser.console_errors(), [""; 0]);
}

#[test]
fn a_phone_and_a_desk_show_all_views() {
    let output = Command::new(root().join("development/axe.sh")).output().unwrap();
    assert!(output.status.success(), "axe.sh: {}", String::from_utf8_lossy(&output.stderr));
    let axe = std::fs::read_to_string(String::from_utf8(output.stdout).unwrap().trim()).unwrap();
    let state = tempfile::tempdir().unwrap();
    let environment = [("STATE_DIRECTORY", state.path().display().to_string())];
    let lawn = "zones.lawn = [[0.05, 0.55], [0.6, 0.45], [0.95, 0.95], [0.05, 0.95]]";
    // The documents show it.
    let cameras = format!("[cameras.yard]\nsource = '{}'\nrate_fps = 2\n{lawn}\n", clip());
    let node = Node::start_in("", &cameras, &environment);
    node.wait_events("an event that has ended", |events| events.iter().any(|event| event["type"] == "end"));
    let browser = Browser::start(360, 740);
    const PICTURE: &str = "return [...document.querySelectorAll('main img')].some(i => i.naturalWidth > 0)";
    const FRAMES: &str = "return document.querySelector('#live-objects')?.textContent.length > 20";
    for (device, width, height, colours) in [("phone", 360, 740, "light"), ("desk", 1280, 800, "dark")] {
        browser.runtime.block_on(browser.client.set_window_size(width, height)).unwrap();
        browser.set_colours(colours);
        for (name, route, content) in [
            ("cameras", "", PICTURE),
            ("live", "#/cameras/yard", FRAMES),
            ("setup", "#/cameras/yard/setup", PICTURE),
            ("events", "#/events", PICTURE),
            ("node", "#/node", "return document.querySelector('[data-stage]') !== null"),
            ("nothing", "#/nothing", "return true"),
            ("no-camera", "#/cameras/attic", "return true"),
        ] {
            browser.open(&node, route);
            browser.wait("a heading", "return document.querySelector('main h1')?.textContent.length > 0");
            browser.wait("the title", "return document.title.length > 0");
            browser.wait(name, content);
            let picture = format!("{name}-{device}");
            if ["cameras-phone", "events-phone", "live-desk", "setup-desk", "node-desk"].contains(&&*picture)
            {
                browser.save_picture(&picture);
            }
            browser.assert_fits(&format!("{route} at {width}"));
            assert_eq!(browser.grave_findings(&axe), json!([]), "{route} at {width}, {colours}");
            let unnamed = browser.script(
                "return [...document.querySelectorAll('button, a[href], input, select')].filter(e => !e.closest('[hidden]') && \
                 !(e.textContent.trim() || e.ariaLabel || e.labels?.length || e.title || e.querySelector('img[alt]:not([alt=\"\"])'))) \
                 .map(e => e.outerHTML)",
            );
            assert_eq!(unnamed, json!([]), "{route}: each control has a name");
        }
    }
    assert_eq!(browser.console_errors(), [""; 0]);
    browser.script("document.querySelector('main').append(document.createElement('button')); return 1");
    assert_eq!(browser.grave_findings(&axe)[0][0], "button-name", "the check finds faults");
}

#[test]
fn a_password_is_asked_for_and_a_viewer_changes_nothing() {
    let (node, _folder, _) = super::access::guarded();
    let browser = Browser::start(1280, 800);
    browser.open(&node, "#/events");
    browser.write("#password", "wrong password");
    browser.click("#login-submit");
    browser.wait(
        "the refusal",
        "return document.querySelector('#login-problem')?.textContent.includes('wrong')",
    );
    browser.script("document.querySelector('#password').value = ''; return 1");
    browser.write("#password", "for all to look");
    browser.click("#login-submit");
    browser.wait(
        "the view that was asked for",
        "return location.hash.startsWith('#/events') && document.querySelector('#filters') !== null",
    );
    browser.open(&node, "#/cameras/yard/setup");
    browser.wait(
        "the note for viewers",
        "return document.querySelector('#setup-notice')?.textContent.includes('viewer')",
    );
    assert_eq!(browser.script("const s = document.querySelector('#save'); return s === null || s.disabled || s.closest('[hidden]') !== null"), true);
    browser.click("#logout");
    browser.wait("the login", "return document.querySelector('#password') !== null");
}

#[test]
fn a_zone_is_drawn_takes_effect_and_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state").display().to_string();
    let cameras = format!("[cameras.yard]\nsource = '{}'\nrate_fps = 2\n", small_clip());
    let mut node = Node::start_in("", &cameras, &[("STATE_DIRECTORY", state)]);
    let browser = Browser::start(1280, 1200);
    browser.open(&node, "#/cameras/yard/setup");
    browser.wait(
        "the setup",
        "return document.querySelector('#new-zone') !== null && !document.querySelector('#setup').hidden",
    );
    browser.wait(
        "the picture",
        "return [...document.querySelectorAll('#setup img')].some(i => i.naturalWidth > 0)",
    );
    browser.click("#new-zone");
    // The lower part of the picture.
    browser.draw(&[(-0.4, 0.0), (0.4, 0.0), (0.4, 0.4), (-0.4, 0.4), (-0.4, 0.0)]);
    browser.wait(
        "the zone",
        "return document.querySelectorAll('#setup-shapes polygon[data-shape^=\"zones.\"]').length === 1",
    );
    let id = node.camfire.id();
    browser.click("#save");
    let zone = wait_for("the zone to apply", || {
        node.json("/cameras/yard")["zones"].as_array().unwrap().first().cloned()
    });
    let lowest = zone["polygon"]
        .as_array()
        .unwrap()
        .iter()
        .map(|corner| corner[1].as_f64().unwrap())
        .fold(0.0, f64::max);
    assert!((0.85..0.95).contains(&lowest), "{zone}");
    assert_eq!(node.camfire.id(), id, "without a restart");
    let name = zone["name"].as_str().unwrap().to_string();
    wait_for("an object in the zone", || {
        node.json("/cameras/yard")["occupancy"]["zones"][&name]["total"].as_u64().filter(|total| *total > 0)
    });
    node.restart();
    assert_eq!(node.json("/cameras/yard")["zones"][0], zone, "after a restart");
    assert_eq!(browser.console_errors(), [""; 0]);
}

#[test]
fn a_slider_shows_at_once_what_would_have_been_seen() {
    let node = slow_node();
    node.wait_events("an event that has ended", |events| events.iter().any(|event| event["type"] == "end"));
    let browser = Browser::start(360, 800);
    browser.open(&node, "#/cameras/yard/setup");
    const REPORTED: &str = "document.querySelectorAll('#preview-tracks [data-reported=true]').length";
    const DRAWN: &str = "document.querySelectorAll('#setup-shapes .track').length";
    browser.wait("what would have been seen", &format!("return {REPORTED} > 0"));
    browser.wait("the tracks in the picture", &format!("return {DRAWN} > 0"));
    assert!(browser.text("#preview-status").contains("reported"));
    browser.assert_fits("the preview on a phone");
    // The slider moves as by hand, with its events.
    let slide = |key: &str, value: &str| {
        browser.script(&format!(
            "const range = document.querySelector('#range-{key}'); range.value = {value}; \
             range.dispatchEvent(new Event('input', {{bubbles: true}})); \
             range.dispatchEvent(new Event('change', {{bubbles: true}})); return 1"
        ))
    };
    slide("score", "1");
    browser.wait("nothing to be reported", &format!("return {REPORTED} === 0 && {DRAWN} > 0"));
    browser.wait(
        "the reason",
        "return document.querySelector('#preview-tracks .why')?.textContent.includes('score')",
    );
    // A track of the list is marked in the picture.
    browser.click("#preview-tracks button");
    browser.wait(
        "the marked track",
        "return document.querySelectorAll('#setup-shapes .track.marked').length === 1",
    );
    let drawn = browser.script(&format!("return {DRAWN}"));
    slide("min_size", "0.5");
    browser.wait("fewer tracks", &format!("return {DRAWN} < {drawn}"));
    browser.click("#discard");
    browser.wait("what was seen before", &format!("return {REPORTED} > 0"));
    assert_eq!(node.json("/cameras/yard")["settings"]["score"], 0.4, "nothing was saved");
    assert_eq!(browser.console_errors(), [""; 0]);
}
