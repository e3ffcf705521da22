//! The reference of all keys: names, ranges and defaults from the tables in [`super::raw`], explanations from
//! the manual, `config/camfire.toml`. It becomes a page of the documentation and a man page.

mod man;
mod manual;
mod markdown;

use super::{
    key::{Key, KeyKind},
    raw,
};
use manual::{Block, MANUAL, Text};

pub use man::man_page;
pub use markdown::markdown;

/// The key of a camera that must be set.
const REQUIRED: &str = "source";

/// A section of the reference.
struct Section {
    /// The name as in a path of keys, such as `cameras.NAME`.
    name: &'static str,
    text: Text,
    groups: Vec<Group>,
}

/// Keys that share an explanation.
struct Group {
    text: Text,
    entries: Vec<Entry>,
}

/// A key.
struct Entry {
    /// The full path, with NAME for what the user names.
    path: String,
    /// The values that are accepted, as a phrase.
    accepted: String,
    /// The default as written in a file.
    default: Option<String>,
    /// The environment variable that sets it. None if a variable cannot.
    variable: Option<String>,
    /// A line of a file that sets it, for keys without a default.
    example: Option<String>,
}

/// Where the keys of a section are defined and explained.
struct Origin {
    name: &'static str,
    /// Its sections in the manual; the first explains the section itself.
    manual: &'static [&'static str],
    keys: &'static [Key],
}

/// The introduction of the manual that is not about the file itself, and all sections.
fn sections() -> (Text, Vec<Section>) {
    let (introduction, manual) = manual::parse(MANUAL);
    let about_the_file = 2;
    let mut origins: Vec<Origin> = (raw::SECTIONS.iter())
        .map(|(name, keys)| Origin { name, manual: std::slice::from_ref(name), keys })
        .collect();
    origins.push(Origin { name: "groups", manual: &["groups"], keys: std::slice::from_ref(&raw::GROUP) });
    // The order of the manual.
    let position = |name: &str| manual.iter().position(|section| section.name == name);
    origins.sort_by_key(|origin| position(origin.name));
    let of_cameras = &["cameras.yard", "cameras.clip", "cameras.microscope"];
    origins.push(Origin { name: "cameras.NAME", manual: of_cameras, keys: raw::CAMERA });
    let of_regions = &["cameras.yard.regions.gate"];
    origins.push(Origin { name: "cameras.NAME.regions.NAME", manual: of_regions, keys: raw::REGION });
    let sections = origins.iter().map(|origin| section(origin, &manual)).collect();
    (introduction.into_iter().skip(about_the_file).collect(), sections)
}

fn section(origin: &Origin, manual: &[manual::Section]) -> Section {
    let find = |name: &str| {
        let found = manual.iter().find(|section| section.name == name);
        found.unwrap_or_else(|| panic!("config/camfire.toml has no section {name}"))
    };
    let mut groups: Vec<Group> = Vec::new();
    for described in origin.manual.iter().map(|name| find(name)) {
        for group in &described.groups {
            let is_new = |key: &Key| !groups.iter().any(|group| group.has(&path(origin.name, key)));
            let entries: Vec<Entry> = (group.keys.iter())
                .filter_map(|(name, value)| {
                    let key = origin.keys.iter().find(|key| key.name == *name || key.name.is_empty())?;
                    is_new(key).then(|| entry(origin.name, key, Some((name, value))))
                })
                .collect();
            let text = if group.text.is_empty() { &described.text } else { &group.text };
            if !entries.is_empty() {
                groups.push(Group { text: text.clone(), entries });
            }
        }
    }
    // Tables have sections of their own.
    for key in origin.keys.iter().filter(|key| matches!(key.kind, KeyKind::Table)) {
        let below = manual.iter().find(|section| section.name == format!("cameras.yard.{}", key.name));
        if let Some(below) = below {
            let example = below.groups.iter().flat_map(|group| &group.keys).next();
            let example = example.map(|(name, value)| format!("{}.{name} = {value}", key.name));
            let entry = Entry { example, ..entry(origin.name, key, None) };
            groups.push(Group { text: below.text.clone(), entries: vec![entry] });
        }
    }
    // The second paragraph on cameras is about the example below it.
    let mut text = find(origin.manual[0]).text.clone();
    if origin.name == "cameras.NAME" {
        text.truncate(1);
    }
    if origin.keys.iter().any(|key| key.name.is_empty()) {
        text.clear();
    }
    Section { name: origin.name, text, groups }
}

impl Group {
    fn has(&self, path: &str) -> bool {
        self.entries.iter().any(|entry| entry.path == path)
    }
}

fn path(section: &str, key: &Key) -> String {
    format!("{section}.{}", if key.name.is_empty() { "NAME" } else { key.name })
}

/// `written` are the name and the value in the manual.
fn entry(section: &str, key: &Key, written: Option<(&String, &String)>) -> Entry {
    let path = path(section, key);
    let default = match (key.default, &key.kind) {
        (None, _) | (_, KeyKind::Table) => None,
        _ if section == "cameras.NAME" && key.name == REQUIRED => None,
        (Some(default), kind) => Some(match kind {
            KeyKind::Strings | KeyKind::Classes | KeyKind::Polygon | KeyKind::Polygons
                if default.is_empty() =>
            {
                "[]".into()
            }
            KeyKind::Integer(..)
            | KeyKind::Number(..)
            | KeyKind::Positive(_)
            | KeyKind::Boolean
            | KeyKind::Strings
            | KeyKind::Classes
            | KeyKind::Polygon
            | KeyKind::Polygons
            | KeyKind::Rectangle
            | KeyKind::Table => default.into(),
            KeyKind::Text(_)
            | KeyKind::AutoNumber(..)
            | KeyKind::Secret
            | KeyKind::Duration(..)
            | KeyKind::AutoDuration(..)
            | KeyKind::WholeSeconds(..)
            | KeyKind::Choice(_)
            | KeyKind::Scalar => format!("{default:?}"),
        }),
    };
    // Variables have no lower-case letters, so they cannot name every group, zone or option.
    let is_named_by_user = key.name.is_empty() || matches!(key.kind, KeyKind::Table);
    let variable = (!is_named_by_user).then(|| format!("CAMFIRE_{}", path.replace('.', "__").to_uppercase()));
    let has_no_default = default.as_deref().is_none_or(|default| matches!(default, "\"\"" | "[]"));
    let example = written
        .filter(|(_, value)| has_no_default && default.as_ref() != Some(value))
        .map(|(name, value)| format!("{name} = {value}"));
    Entry { path, accepted: key.accepted(), default, variable, example }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn plain(text: &Text) -> String {
        let one = |block: &Block| match block {
            Block::Paragraph(text) => text.clone(),
            Block::Choices(choices) => choices.iter().map(|(word, text)| format!("{word} {text} ")).collect(),
            Block::Steps(steps) => steps.join(" "),
        };
        text.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_key_is_explained_once() {
        let (_, sections) = sections();
        let entries: Vec<String> = (sections.iter().flat_map(|section| &section.groups))
            .inspect(|group| assert!(!group.text.is_empty(), "{}", group.entries[0].path))
            .flat_map(|group| group.entries.iter().map(|entry| entry.path.clone()))
            .collect();
        let of = |section: &str, keys: &[Key]| keys.iter().map(|key| path(section, key)).collect::<Vec<_>>();
        let mut expected: BTreeSet<String> =
            raw::SECTIONS.iter().flat_map(|(section, keys)| of(section, keys)).collect();
        expected.extend(of("cameras.NAME", raw::CAMERA));
        expected.extend(of("cameras.NAME.regions.NAME", raw::REGION));
        expected.insert("groups.NAME".into());
        // Its keys have a section of their own.
        expected.remove("cameras.NAME.regions");
        assert_eq!(entries.len(), expected.len());
        assert_eq!(entries.into_iter().collect::<BTreeSet<_>>(), expected);
    }

    #[test]
    fn the_explanations_name_the_limits_of_numbers_and_durations() {
        let (_, sections) = sections();
        let tables = raw::SECTIONS.iter().copied();
        let tables =
            tables.chain([("cameras.NAME", raw::CAMERA), ("cameras.NAME.regions.NAME", raw::REGION)]);
        for (section, keys) in tables {
            for key in keys {
                let limits = match key.kind {
                    KeyKind::Integer(min, max) => vec![min.to_string(), max.to_string()],
                    KeyKind::Number(min, max) => vec![min.to_string(), max.to_string()],
                    KeyKind::Positive(max) => vec!["above 0".into(), max.to_string()],
                    KeyKind::Duration(min, max)
                    | KeyKind::AutoDuration(min, max)
                    | KeyKind::WholeSeconds(min, max) => {
                        [min, max].map(super::super::duration::format).to_vec()
                    }
                    _ => continue,
                };
                let path = path(section, key);
                let mut groups = sections.iter().flat_map(|section| &section.groups);
                let text = plain(&groups.find(|group| group.has(&path)).unwrap().text);
                for limit in limits {
                    assert!(text.contains(&limit), "config/camfire.toml, {path}: no {limit} in {text}");
                }
            }
        }
    }
}
