//! What comments and documents name in backticks: files, configuration keys and types must exist.

use std::{collections::BTreeSet, path::Path};

/// Extensions of names that are taken for files of the repository.
const EXTENSIONS: [&str; 9] = ["rs", "toml", "md", "py", "sh", "json", "tflite", "mp4", "yml"];

/// Names that are defined elsewhere: clips of other projects, options of systemd, types of TensorFlow Lite's
/// format.
const FOREIGN: [&str; 9] = [
    "bottle-detection.mp4",
    "car-detection.mp4",
    "BuiltinOperator",
    "BuiltinOptions",
    "MemoryMax",
    "StateDirectory",
    "TasksMax",
    "TensorType",
    "WatchdogSec",
];

/// Everything that a name in backticks may stand for.
pub struct Known<'a> {
    pub root: &'a Path,
    /// Paths of all files of the repository.
    pub files: Vec<String>,
    /// Every configuration key with its section; those of cameras below cameras.NAME.
    pub keys: BTreeSet<String>,
    /// Every word in the code.
    pub words: BTreeSet<String>,
}

/// The names in backticks on these lines that stand for nothing, with their line numbers.
pub fn unresolved<'l>(
    file: &str,
    lines: impl Iterator<Item = (usize, &'l str)>,
    known: &Known<'_>,
) -> Vec<String> {
    let mut problems = Vec::new();
    for (number, line) in lines {
        for name in quoted(line) {
            if let Some(problem) = problem(file, name, known) {
                problems.push(format!("{file}:{number}: `{name}` {problem}"));
            }
        }
    }
    problems
}

/// The texts between pairs of single backticks.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2).filter(|name| !name.is_empty() && !name.contains(char::is_whitespace))
}

fn problem(file: &str, name: &str, known: &Known<'_>) -> Option<&'static str> {
    let name = name.trim_start_matches('[').trim_end_matches(']');
    if FOREIGN.contains(&name) {
        return None;
    }
    if is_file(name) {
        let beside = Path::new(file).parent().unwrap_or(Path::new("")).join(name);
        let is_known = known.root.join(name).exists()
            || known.root.join(beside).exists()
            || known.files.iter().any(|path| path.ends_with(&format!("/{name}")));
        return (!is_known).then_some("is not a file of the repository");
    }
    if let Some(key) = key(name) {
        let is_section = known.keys.iter().any(|known| known.starts_with(&format!("{key}.")));
        return (!is_section && !known.keys.contains(&key)).then_some("is not a configuration key");
    }
    if is_type(name) {
        return (!known.words.contains(name)).then_some("is not in the code");
    }
    None
}

/// A relative name with one of the extensions, and without a placeholder.
fn is_file(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    let end = name.rsplit_once('.').map_or("", |(_, end)| end);
    EXTENSIONS.contains(&end) && name.chars().all(plain) && !name.starts_with(['/', '.'])
}

/// A name as in `outbox.max_age` or `cameras.yard.rate_fps`, with the camera's name replaced.
fn key(name: &str) -> Option<String> {
    const SECTIONS: [&str; 14] = [
        "cameras",
        "commands",
        "detections",
        "engine",
        "frigate",
        "homeassistant",
        "log",
        "mqtt",
        "node",
        "objects",
        "outbox",
        "pictures",
        "stats",
        "web",
    ];
    let name = name.split(['=', ' ']).next()?.trim();
    let mut parts = name.split('.');
    let section = parts.next().filter(|section| SECTIONS.contains(section))?;
    let rest: Vec<&str> = parts.collect();
    let is_word =
        |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    if rest.is_empty() || !rest.iter().all(is_word) {
        return None;
    }
    match (section, &rest[..]) {
        ("cameras", [_]) => None,
        // Zones, regions, options: named by the user below their key.
        ("cameras", [_, key, ..]) => Some(format!("cameras.NAME.{key}")),
        // Fields of the `stats` message are written the same way.
        ("stats", ["cameras" | "delivery" | "pictures", ..]) => None,
        (section, [key]) => Some(format!("{section}.{key}")),
        _ => None,
    }
}

/// A name in the spelling of types: `FrameCounts`, not `Y` or `TERM`.
fn is_type(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.chars().all(|c| c.is_ascii_alphanumeric())
        && name.chars().any(|c| c.is_ascii_lowercase())
        && name.chars().skip(1).any(|c| c.is_ascii_uppercase())
}
