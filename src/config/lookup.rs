//! Paths of keys: what a path such as `cameras.yard.rate_fps` refers to in the tables of [`super::raw`].

use super::{key::Key, raw, renamed, suggest::UnknownKey, validators};

/// What a path refers to.
pub(super) enum Entry {
    /// A section: there are keys below it.
    Section,
    /// A key, which has a value.
    Key(&'static Key),
}

/// Returns what `path` refers to.
///
/// Errors: there is no such section or key, or a camera, zone, region or group may not have this name.
pub(super) fn lookup(path: &[String]) -> Result<Entry, UnknownKey> {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    if let Some(new) = renamed::new_path(&path) {
        return Err(UnknownKey::because(format!("was renamed to {new}")));
    }
    match path[..] {
        ["cameras" | "groups"] | ["cameras", _, "options" | "zones" | "regions"] => Ok(Entry::Section),
        ["cameras", camera] => named(camera, validators::camera_name, Entry::Section),
        ["cameras", _, "options", option] => named(option, validators::name, Entry::Key(&raw::OPTION)),
        ["cameras", _, "zones", zone] => named(zone, validators::name, Entry::Key(&raw::ZONE)),
        ["cameras", _, "regions", region] => named(region, validators::name, Entry::Section),
        ["cameras", camera, "regions", region, key] => {
            find(key, &format!("cameras.{camera}.regions.{region}"), raw::REGION)
        }
        ["cameras", camera, key] => find(key, &format!("cameras.{camera}"), raw::CAMERA),
        ["groups", group] => named(group, validators::group_name, Entry::Key(&raw::GROUP)),
        ["groups", ..] => Err(UnknownKey::because("is not a group; put a name that contains dots in quotes")),
        [section] if keys_of(section).is_some() => Ok(Entry::Section),
        [section, key] if let Some(keys) = keys_of(section) => find(key, section, keys),
        [section, key, ..] if keys_of(section).is_some() => {
            Err(UnknownKey::because(format!("is not a key: {section}.{key} has no keys below it")))
        }
        _ => {
            let sections: Vec<_> =
                raw::SECTIONS.iter().map(|(section, keys)| (*section, names(keys))).collect();
            Err(UnknownKey::section(path.first().unwrap_or(&""), &sections))
        }
    }
}

/// Returns `entry` if its name, which the user chose, is valid.
fn named(name: &str, validate: fn(&str) -> Result<(), String>, entry: Entry) -> Result<Entry, UnknownKey> {
    validate(name).map(|()| entry).map_err(UnknownKey::because)
}

fn keys_of(section: &str) -> Option<&'static [Key]> {
    raw::SECTIONS.iter().find(|(name, _)| *name == section).map(|(_, keys)| *keys)
}

fn find(name: &str, section: &str, keys: &'static [Key]) -> Result<Entry, UnknownKey> {
    let key = keys.iter().find(|key| key.name == name);
    key.map(Entry::Key).ok_or_else(|| UnknownKey::in_section(name, section, &names(keys)))
}

fn names(keys: &'static [Key]) -> Vec<&'static str> {
    keys.iter().map(|key| key.name).collect()
}

/// Returns the path as written in TOML, with quotes where they are required.
pub fn dotted<S: AsRef<str>>(path: &[S]) -> String {
    path.iter().map(|name| quoted(name.as_ref())).collect::<Vec<_>>().join(".")
}

fn quoted(name: &str) -> String {
    let is_bare =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if is_bare { name.to_string() } else { format!("{name:?}") }
}
