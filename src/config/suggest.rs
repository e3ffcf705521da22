//! Suggestions for misspelt names: the nearest known name, and error texts for keys that do not exist.
//!
//! Known names are passed in, so this file does not depend on the table of keys.

/// Returns the word that `text` was probably meant to be: one within a few typing errors of it, or else one
/// that contains it or is contained in it. Case is ignored in `text`.
pub fn nearest<'a>(text: &str, known: &[&'a str]) -> Option<&'a str> {
    let text = text.to_lowercase();
    let max_distance = (text.chars().count() / 3).clamp(1, 3);
    // Ties go to the word with the fewest letters that are missing in the text, then to the shortest.
    let missing_letters = |word: &str| word.chars().filter(|c| !text.contains(*c)).count();
    let closest = (known.iter())
        .map(|word| (strsim::damerau_levenshtein(&text, word), *word))
        .min_by_key(|(distance, word)| (*distance, missing_letters(word), word.len()))
        .filter(|(distance, _)| *distance <= max_distance)
        .map(|(_, word)| word);
    let part = || {
        let overlaps = |word: &&&str| text.len() >= 3 && (word.contains(&text) || text.contains(**word));
        let distance = |word: &&&str| (!word.contains(&text), word.len().abs_diff(text.len()));
        known.iter().filter(overlaps).min_by_key(distance)
    };
    closest.or_else(|| part().copied())
}

/// Why a path is not the path of a key.
pub(super) struct UnknownKey {
    /// Error text for the user.
    pub(super) rule: String,
    /// Whether the key was probably meant to be one whose value is secret.
    pub(super) is_secret: bool,
}

impl UnknownKey {
    /// With this error text, not secret.
    pub(super) fn because(rule: impl Into<String>) -> UnknownKey {
        UnknownKey { rule: rule.into(), is_secret: false }
    }

    /// `key` is not one of the `known` keys of `section`.
    pub(super) fn in_section(key: &str, section: &str, known: &[&str]) -> UnknownKey {
        let near = nearest(key, known);
        let hint = match near {
            Some(near) => format!("did you mean {near}?"),
            None => format!("its keys are {}", known.join(", ")),
        };
        let is_secret = near == Some("password");
        UnknownKey { rule: format!("is not a key of [{section}]; {hint}"), is_secret }
    }

    /// `name` is not a section. `sections` are those with fixed names, each with the names of its keys.
    pub(super) fn section(name: &str, sections: &[(&str, Vec<&str>)]) -> UnknownKey {
        let mut known: Vec<&str> = sections.iter().map(|(section, _)| *section).collect();
        known.extend(["groups", "cameras"]);
        let section_with_key = sections.iter().find(|(_, keys)| keys.contains(&name));
        let hint = match (nearest(name, &known), section_with_key) {
            (Some("cameras"), _) => "did you mean [cameras.NAME]?".into(),
            (Some(near), _) => format!("did you mean [{near}]?"),
            (None, Some((section, _))) => format!("did you mean {section}.{name}?"),
            (None, None) => {
                let known: Vec<String> = sections.iter().map(|(section, _)| format!("[{section}]")).collect();
                format!("the sections are {}, [groups] and [cameras.NAME]", known.join(", "))
            }
        };
        UnknownKey::because(format!("is not a section; {hint}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_a_typing_error_away_or_a_part() {
        let known = ["host", "port", "base_topic", "keep_alive", "rate_fps"];
        for (text, expected) in [
            ("prot", Some("port")),
            ("PORT", Some("port")),
            ("topic", Some("base_topic")),
            ("fps", Some("rate_fps")),
            ("keepalive", Some("keep_alive")),
            ("colour", None),
            ("x", None),
        ] {
            assert_eq!(nearest(text, &known), expected, "{text}");
        }
        let classes = ["cart", "coat", "cat", "cougar", "Egyptian cat", "catamaran"];
        for (text, expected) in [("caat", "cat"), ("cats", "cat"), ("catama", "catamaran")] {
            assert_eq!(nearest(text, &classes), Some(expected), "{text}");
        }
    }
}
