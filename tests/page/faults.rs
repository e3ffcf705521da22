//! The page while something goes wrong under it: it says what it is and goes on. One daemon and one browser
//! go through all of it, because each takes seconds to start.

use super::{Node, browser::Browser};
use crate::support::{settable_clock, small_clip, wait_for};
use serde_json::{Value, json};
use std::{fs, path::Path};

#[test]
fn the_page_says_what_is_wrong_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let offset = folder.path().join("offset");
    fs::write(&offset, "+0d").unwrap();
    let state = ("STATE_DIRECTORY", folder.path().join("state").display().to_string());
    let environment = [&settable_clock(&offset)[..], &[state]].concat();
    let cameras = format!("[cameras.yard]\nsource = '{}'\nrate_fps = 2\n", small_clip());
    let mut node = Node::start_in("", &cameras, &environment);
    let browser = Browser::start(1280, 1200);
    unusable_polygons_are_refused_in_words(&node, &browser);
    a_history_that_cannot_be_read_is_said_until_it_can(&node, &browser);
    pictures_that_were_deleted_are_said(&node, &browser);
    events_go_on_when_the_clock_is_set(&node, &browser, &offset);
    an_outbox_that_is_set_aside_leaves_a_new_list(&mut node, &browser);
    a_renamed_camera_is_said_and_the_others_are_offered(&mut node, &browser);
    assert_eq!(browser.console_errors(), [""; 0]);
}

fn open_setup(node: &Node, browser: &Browser) {
    browser.open(node, "");
    browser.open(node, "#/cameras/yard/setup");
    browser.wait(
        "the setup's picture",
        "return document.querySelector('#setup')?.hidden === false \
         && [...document.querySelectorAll('#setup img')].some(i => i.naturalWidth > 0)",
    );
}

fn unusable_polygons_are_refused_in_words(node: &Node, browser: &Browser) {
    let says = |text: &str| {
        let script = format!("return document.querySelector('#setup-words').textContent.includes({text:?})");
        browser.wait(text, &script);
    };
    open_setup(node, browser);
    browser.click("#new-zone");
    browser.draw(&[(-0.3, -0.3), (0.3, 0.3)]);
    says("Corner 2 is set");
    browser.click("#draw-close");
    says("at least three corners");
    browser.draw(&[(0.3, -0.3), (-0.3, 0.3)]);
    says("would cross itself");
    browser.click("#draw-cancel");
    // What the page has not drawn itself, as a draft of an older version, the daemon refuses.
    let draft = json!({ "zones": { "crossed": [[0, 0], [1, 1], [1, 0], [0, 1]], "line": [[0, 0], [1, 1]] } });
    let draft = draft.to_string();
    browser.script(&format!("sessionStorage.setItem('camfire.draft.yard', {draft:?}); return 1"));
    browser.open(node, "#/node");
    open_setup(node, browser);
    browser.wait("the draft", "return document.querySelector('#save').disabled === false");
    browser.click("#save");
    for (zone, words) in [("crossed", "intersect itself"), ("line", "three corners")] {
        let script = format!(
            "return document.querySelector('[data-problem=\"zones.{zone}\"]')?.textContent.includes({words:?})"
        );
        browser.wait(words, &script);
    }
    browser.click("#discard");
    browser.wait("the draft to be discarded", "return document.querySelector('#save').disabled");
    assert_eq!(node.json("/cameras/yard")["zones"], json!([]));
}

fn open_events(node: &Node, browser: &Browser) {
    browser.open(node, "#/events");
    browser.wait("events", "return document.querySelectorAll('[data-event]').length > 0");
    browser.script("window.notReloaded = true; return 1");
}

fn a_history_that_cannot_be_read_is_said_until_it_can(node: &Node, browser: &Browser) {
    open_events(node, browser);
    browser.script(
        "const real = window.fetch; window.fetch = (...all) => String(all[0]?.url ?? all[0]).includes('events?') \
         ? Promise.resolve(Response.json({ events: [], next: null, available: false, reason: 'the outbox is ill' })) \
         : real(...all); window.heal = () => { window.fetch = real; }; return 1",
    );
    // The list is fetched anew, as it is after a broken connection.
    browser.script(
        "const label = document.querySelector('#filter-label'); label.value = ''; \
         label.dispatchEvent(new Event('input', { bubbles: true })); return 1",
    );
    browser.wait(
        "the reason",
        "return document.querySelector('#events-problem').textContent.includes('the outbox is ill')",
    );
    let shown = browser.script("return document.querySelectorAll('[data-event]').length");
    assert!(shown.as_u64().unwrap() > 0, "what was shown stays");
    browser.script("window.heal(); return 1");
    browser.wait(
        "the list without being asked",
        "return document.querySelector('#events-problem').textContent === '' \
         && document.querySelector('#events-status').textContent.includes('shown')",
    );
}

fn pictures_that_were_deleted_are_said(node: &Node, browser: &Browser) {
    let events = node.wait_events("an event with a picture", |events| {
        events.iter().any(|event| event["type"] == "end" && event["picture"] == "stored")
    });
    let event = events.iter().find(|event| event["type"] == "end" && event["picture"] == "stored").unwrap();
    let id = event["id"].as_str().unwrap();
    browser.open(node, &format!("#/events/{id}"));
    browser.wait("the picture", "return document.querySelector('#event-picture img')?.naturalWidth > 0");
    fs::remove_dir_all(node.folder.path().join("pictures")).unwrap();
    wait_for("the picture to count as removed", || {
        (node.json(&format!("/events/{id}"))["picture"] == "removed").then_some(())
    });
    // The page believes that it is there.
    browser.click("[data-kind=frame]");
    browser.wait(
        "the words in its place",
        "const box = document.querySelector('#event-picture'); \
         return box.textContent.includes('was removed') && box.querySelector('img') === null",
    );
    // The list is told.
    browser.open(node, "#/events");
    let of_row = format!("document.querySelector('[data-event=\"{id}\"] .thumb')");
    browser.wait("the row", &format!("return {of_row} !== null"));
    browser.script(&format!("{of_row}.scrollIntoView(); return 1"));
    browser.wait("the words in the row", &format!("return {of_row}.textContent.includes('was removed')"));
    let broken =
        "return [...document.images].filter(i => i.complete && i.naturalWidth === 0 && i.currentSrc).length";
    browser.wait("no broken picture", &broken.replace(".length", ".length === 0"));
}

fn events_go_on_when_the_clock_is_set(node: &Node, browser: &Browser, offset: &Path) {
    const HOUR_MS: i64 = 3_600_000;
    open_events(node, browser);
    let started_ms = |event: &Value| {
        let at: jiff::Timestamp = event["started_at"].as_str().unwrap().parse().unwrap();
        at.as_millisecond()
    };
    for (by, ahead_h) in [("+50h", 50), ("-3h", -3), ("+0d", 0)] {
        let known: Vec<Value> =
            node.wait_events("events", |_| true).iter().map(|e| e["id"].clone()).collect();
        fs::write(offset, by).unwrap();
        let is_new = |event: &Value| {
            let off_ms = started_ms(event) - jiff::Timestamp::now().as_millisecond() - ahead_h * HOUR_MS;
            !known.contains(&event["id"]) && off_ms.abs() < HOUR_MS
        };
        let events = node.wait_events(&format!("an event at {by}"), |events| events.iter().any(is_new));
        let id = &events.iter().find(|event| is_new(event)).unwrap()["id"];
        let listed = format!("return document.querySelector('[data-event={id}]') !== null");
        browser.wait(&format!("the event at {by} in the list"), &listed);
        // Newest first, each under the day of its start.
        let sorted = browser.script(
            "const at = [...document.querySelectorAll('[data-event]')].map(e => Number(e.dataset.startMs)); \
             return at.every((ms, i) => i === 0 || at[i - 1] >= ms)",
        );
        assert_eq!(sorted, true, "{by}");
        let text = browser.text("#events");
        assert!(!text.contains("NaN") && !text.contains("Invalid") && !text.contains("for -"), "{text}");
    }
    assert_eq!(browser.script("return window.notReloaded"), true);
}

fn an_outbox_that_is_set_aside_leaves_a_new_list(node: &mut Node, browser: &Browser) {
    open_events(node, browser);
    let old = browser.script("return document.querySelector('[data-event]').dataset.event");
    let old = old.as_str().unwrap();
    node.camfire.end("KILL");
    let file = node.folder.path().join("outbox.db");
    for name in ["outbox.db-wal", "outbox.db-shm"] {
        let _ = fs::remove_file(node.folder.path().join(name));
    }
    fs::write(&file, "no database any more").unwrap();
    node.start_again();
    node.camfire.wait_log("it is set aside as");
    // The list is the new one, without being reloaded, and goes on.
    browser.wait(
        "the list without what is lost",
        &format!("return document.querySelector('[data-event=\"{old}\"]') === null"),
    );
    browser.wait("a new event", "return document.querySelectorAll('[data-event]').length > 0");
    assert_eq!(browser.script("return window.notReloaded"), true);
    browser.open(node, &format!("#/events/{old}"));
    browser.wait(
        "the words about an event that is gone",
        "return document.querySelector('#event-status').textContent.includes('There is no such event')",
    );
    // The reason is among the node's warnings.
    browser.open(node, "#/node");
    browser.wait("the warning", "return document.body.textContent.includes('it is set aside as')");
}

fn a_renamed_camera_is_said_and_the_others_are_offered(node: &mut Node, browser: &Browser) {
    let gone = "return document.querySelector('#camera-gone')?.textContent.includes('no camera named')";
    browser.open(node, "#/cameras/yard");
    browser.wait("frames", "return Number(document.querySelector('#live-canvas')?.dataset.frames) > 0");
    browser.script("window.notReloaded = true; return 1");
    node.reload("[cameras.yard]", "[cameras.garden]");
    browser.wait(
        "the words",
        &format!("{gone} && document.querySelector('#live-stage').closest('[hidden]') !== null"),
    );
    browser.click("#camera-gone a");
    browser.wait(
        "the cameras",
        "return document.querySelector('[data-camera=garden]') !== null && document.querySelector('[data-camera=yard]') === null",
    );
    // The same in the setup.
    browser.open(node, "#/cameras/garden/setup");
    browser.wait(
        "the setup",
        "return document.querySelector('#new-zone') !== null && !document.querySelector('#setup').hidden",
    );
    node.reload("[cameras.garden]", "[cameras.yard]");
    browser.wait("the words", gone);
    assert_eq!(browser.script("return window.notReloaded"), true);
}
