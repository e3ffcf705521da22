//! Today's messages against messages recorded with schema 2: equal byte for byte once the renames of schema 3
//! are applied. This shows that a change of names or structure does not change what is detected.

use crate::support::{camfire_output, root, stderr, stdout};

/// The renames of schema 3 that occur in the output of `camfire analyze`, old to new.
const RENAMES: [(&str, &str); 3] = [
    (r#""schema":2,"#, r#""schema":3,"#),
    (r#""looks":"#, r#""inferences":"#),
    (r#""marked":"#, r#""annotated":"#),
];

fn recorded(name: &str) -> String {
    let file = root().join(format!("tests/data/schema2/{name}.jsonl"));
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    RENAMES.iter().fold(text, |text, (old, new)| text.replace(old, new))
}

fn analyze(clip: &str, more: &[&str]) -> String {
    let clip = root().join(clip);
    let mut arguments = vec!["analyze", clip.to_str().unwrap(), "--json", "--set", "node.name=recorded"];
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
fn events_equal_the_recorded_ones_but_for_renamed_fields() {
    for scene in ["crossing", "empty", "light", "noise", "shake", "stop"] {
        assert_same_lines(scene, &analyze(&format!("tests/data/scenes/{scene}.mp4"), &[]));
    }
    let demo = analyze("assets/demo.mp4", &[]);
    assert!(demo.contains(r#""schema":3"#), "the comparison compares something");
    assert_same_lines("demo", &demo);
}

#[test]
fn detections_equal_the_recorded_ones_but_for_renamed_fields() {
    let today = analyze("tests/data/scenes/shake.mp4", &["--detections"]);
    assert!(today.contains(r#""inferences":1"#), "the comparison compares something");
    assert_same_lines("shake-detections", &today);
}
