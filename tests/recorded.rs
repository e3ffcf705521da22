//! Today's messages against recorded ones, byte for byte. This shows that a change does not change what is
//! detected. Without the everyday head, so that training it anew does not change the messages.

use crate::support::{camfire_output, root, stderr, stdout};

fn recorded(name: &str) -> String {
    let file = root().join(format!("tests/data/recorded/{name}.jsonl"));
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn analyze(clip: &str, more: &[&str]) -> String {
    let clip = root().join(clip);
    let labels = "cameras.clip.labels=[\"any\", \"unknown\"]";
    let mut arguments = vec!["analyze", clip.to_str().unwrap(), "--json"];
    arguments.extend(["--set", "node.name=recorded", "--set", "engine.everyday_head=off", "--set", labels]);
    // The start is then the first event, so that the lines show when the object was found.
    arguments.extend(["--set", "objects.name_within=0s"]);
    arguments.extend(more);
    let output = camfire_output(&arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}

fn assert_same_lines(name: &str, today: &str) {
    let expected = recorded(name);
    for (number, (today, expected)) in today.lines().zip(expected.lines()).enumerate() {
        assert_eq!(today, expected, "{name}.jsonl, line {}", number + 1);
    }
    assert_eq!(today.lines().count(), expected.lines().count(), "{name}.jsonl: number of lines");
}

#[test]
fn events_equal_the_recorded_ones() {
    for scene in ["crossing", "empty", "light", "noise", "shake", "stop"] {
        let today = analyze(&format!("tests/data/scenes/{scene}.mp4"), &[]);
        assert!(scene == "empty" || today.contains(r#""schema":5"#), "the comparison compares something");
        assert_same_lines(scene, &today);
    }
}

#[test]
fn detections_equal_the_recorded_ones() {
    let today = analyze("tests/data/scenes/shake.mp4", &["--detections"]);
    assert!(today.contains(r#""inferences":1"#), "the comparison compares something");
    assert_same_lines("shake-detections", &today);
}
