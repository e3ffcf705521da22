//! The tables of keys: defaults, paths, the words of choices, and renamed keys.

use super::*;
use crate::config::renamed::RENAMED;

/// Every table of keys, with the path of its section: sections, a camera, a region, zones, options and
/// groups.
fn tables() -> Vec<(&'static str, &'static [Key])> {
    let tables = [
        ("cameras.a", raw::CAMERA),
        ("cameras.a.regions.b", raw::REGION),
        ("cameras.a.zones", &[raw::ZONE][..]),
        ("cameras.a.options", &[raw::OPTION][..]),
        ("groups", &[raw::GROUP][..]),
    ];
    raw::SECTIONS.iter().copied().chain(tables).collect()
}

#[test]
fn every_default_keeps_its_own_rule_and_names_are_unique() {
    for (section, keys) in tables() {
        for key in keys {
            // Panics if the default breaks the rule. Only keys whose names the user chooses have no default.
            let has_default = key.default_value().is_some();
            assert_eq!(has_default, !key.name.is_empty(), "{section}.{}", key.name);
            assert_eq!(
                keys.iter().filter(|other| other.name == key.name).count(),
                1,
                "{section}.{}",
                key.name
            );
        }
    }
}

#[test]
fn every_key_is_found_by_its_path() {
    for (section, keys) in tables() {
        for key in keys {
            let name = if key.name.is_empty() { "mine" } else { key.name };
            let path: Vec<String> = section.split('.').chain([name]).map(str::to_string).collect();
            match lookup(&path) {
                Ok(Entry::Key(found)) => assert_eq!(found.name, key.name),
                // Zones, regions and options of a camera.
                Ok(Entry::Section) => assert!(matches!(key.kind, KeyKind::Table), "{section}.{name}"),
                Err(unknown) => panic!("{section}.{name}: {}", unknown.rule),
            }
        }
    }
}

#[test]
fn every_word_of_a_choice_is_accepted() {
    let mut words_seen = 0;
    for (section, keys) in tables() {
        for key in keys {
            let KeyKind::Choice(words) = key.kind else { continue };
            for word in words {
                let flags = pairs(&[(&format!("{section}.{}", key.name), word)]);
                loaded(&Inputs { flags, ..text("[cameras.a]\nsource = \"test://\"") });
                words_seen += 1;
            }
        }
    }
    assert!(words_seen > 10, "{words_seen}");
}

#[test]
fn every_renamed_key_is_an_error_that_names_the_new_key() {
    for (old, new) in RENAMED {
        let (old, new) = (old.replace("NAME", "a"), new.replace("NAME", "a"));
        let (section, key) = old.rsplit_once('.').unwrap();
        let path = |dotted: &str| dotted.split('.').map(str::to_string).collect::<Vec<_>>();
        assert!(matches!(lookup(&path(&new)), Ok(Entry::Key(_))), "{new}");
        let table = tables().into_iter().find(|(name, _)| *name == section).unwrap().1;
        assert!(table.iter().all(|known| known.name != key), "{old}");

        let camera = "[cameras.a]\nsource = \"test://\"\n";
        let rule = format!("was renamed to {new}");
        // The camera's own section must not be written twice.
        let (toml, line) = match section {
            "cameras.a" => (format!("{camera}{key} = 1"), 3),
            _ => (format!("{camera}[{section}]\n{key} = 1"), 4),
        };
        assert_eq!(problems(&text(&toml)), [format!("camfire.toml:{line}: {old} = 1: {rule}")]);

        let variable = format!("CAMFIRE_{}", old.replace('.', "__").to_uppercase());
        let inputs = Inputs { environment: pairs(&[(&variable, "1")]), ..text(camera) };
        assert_eq!(problems(&inputs), [format!("{variable} (environment): {old} = \"1\": {rule}")]);

        let inputs = Inputs { flags: pairs(&[(&old, "1")]), ..text(camera) };
        assert_eq!(problems(&inputs), [format!("--set {old}=1: {rule}")]);
    }
}

#[test]
fn a_misnamed_variable_of_a_renamed_key_suggests_the_new_variable() {
    for (old, new) in RENAMED.iter().filter(|(old, _)| !old.starts_with("cameras.")) {
        let variable = format!("CAMFIRE_{}", old.replace('.', "_").to_uppercase());
        let suggested = format!("CAMFIRE_{}", new.replace('.', "__").to_uppercase());
        let inputs = Inputs { environment: pairs(&[(&variable, "1")]), ..text("") };
        let rule = format!("is not a setting; did you mean {suggested}?");
        assert_eq!(problems(&inputs), [format!("{variable} (environment): {rule}")]);
    }
}
