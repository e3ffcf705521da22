//! What a key may hold, and where keys are: the reader of the table in [`super::raw`].
//!
//! Files, environment and flags all come through here, so that a key has one type, one rule and one message whichever
//! way it came. A value is checked where it stands: one that a later layer overrides must be right as well.

use super::{raw, validators};
use config::ValueKind;
use std::time::Duration;
use toml::Value;

/// One key: its name, what it holds, and what holds without it.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// As one would type it in an environment variable. Where it is empty, an empty text means "not given".
    pub(super) default: &'static str,
}

/// What a key holds.
pub(super) enum Kind {
    /// Text of a form.
    Text(fn(&str) -> Result<(), String>),
    /// Text that is never shown.
    Secret,
    /// A whole number, from and to.
    Whole(i64, i64),
    /// A number above 0 and up to this.
    Positive(f64),
    /// A number, from and to.
    Number(f64, f64),
    /// A list of texts.
    Words,
    /// A list of names of classes, one at least.
    Classes,
    /// A list of corners.
    Polygon,
    /// A list of polygons.
    Polygons,
    /// `[left, top, width, height]`.
    Part,
    /// `true` or `false`.
    Boolean,
    /// A duration with its unit, from and to.
    Duration(Duration, Duration),
    /// The same, or [`AUTO`].
    AutoDuration(Duration, Duration),
    /// The same without fractions of a second.
    WholeSeconds(Duration, Duration),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A table of keys that the camera's template knows: see [`OPTION`].
    Options,
    /// A number, a boolean or a text, as the template wants it.
    Scalar,
}

/// Where camfire finds out by itself.
pub(super) const AUTO: &str = "auto";

/// Any key of `[cameras.NAME.zones]`.
const ZONE: Key = Key { name: "", kind: Kind::Polygon, default: "" };

/// Any key of `[groups]`.
const GROUP: Key = Key { name: "", kind: Kind::Classes, default: "" };

/// Any key of `[cameras.NAME.options]`.
const OPTION: Key = Key { name: "", kind: Kind::Scalar, default: "" };

impl Key {
    /// What `text`, from where there are no types, means for this key. What does not fit stays text, for
    /// [`Key::check`] to refuse.
    pub(super) fn read_text(&self, text: &str) -> Value {
        let read = match self.kind {
            Kind::Whole(..) => text.parse().ok().map(Value::Integer),
            Kind::Positive(_) | Kind::Number(..) => text.parse().ok().map(Value::Float),
            // Lists are typed as in a file.
            Kind::Words | Kind::Classes | Kind::Polygon | Kind::Polygons | Kind::Part => {
                toml::from_str::<toml::Table>(&format!("list = {text}"))
                    .ok()
                    .and_then(|mut table| table.remove("list"))
            }
            Kind::Boolean => text.parse().ok().map(Value::Boolean),
            Kind::Options => text.is_empty().then(|| Value::Table(toml::Table::new())),
            // "0012" is a serial number, not 12.
            Kind::Scalar => (text.parse().ok().filter(|n: &i64| n.to_string() == text).map(Value::Integer))
                .or_else(|| text.parse().ok().map(Value::Boolean)),
            Kind::Text(_)
            | Kind::Secret
            | Kind::Duration(..)
            | Kind::AutoDuration(..)
            | Kind::WholeSeconds(..)
            | Kind::Choice(_) => None,
        };
        read.unwrap_or_else(|| Value::String(text.into()))
    }

    /// The value as the layers carry it, or the rule that it breaks.
    pub(super) fn check(&self, value: &Value) -> Result<ValueKind, String> {
        match (&self.kind, value) {
            (Kind::Text(_), Value::String(text)) if text.is_empty() && self.default.is_empty() => {}
            (Kind::Text(form), Value::String(text)) => form(text)?,
            (Kind::Secret, Value::String(text)) => validators::lines(text)?,
            (Kind::Whole(min, max), Value::Integer(number)) if (min..=max).contains(&number) => {}
            (Kind::Positive(max), Value::Integer(number)) if (1.0..=*max).contains(&(*number as f64)) => {
                return Ok(ValueKind::Float(*number as f64));
            }
            (Kind::Positive(max), Value::Float(number)) if *number > 0.0 && number <= max => {}
            (Kind::Number(min, max), Value::Integer(number)) if (*min..=*max).contains(&(*number as f64)) => {
                return Ok(ValueKind::Float(*number as f64));
            }
            (Kind::Number(min, max), Value::Float(number)) if (min..=max).contains(&number) => {}
            (Kind::Words, Value::Array(words)) if words.iter().all(Value::is_str) => return Ok(list(words)),
            (Kind::Classes, Value::Array(words)) if words.iter().all(Value::is_str) && !words.is_empty() => {
                return Ok(list(words));
            }
            (Kind::Polygon, value) => {
                return validators::polygon(&corners(value).ok_or_else(|| self.rule(value))?).map(outline);
            }
            (Kind::Polygons, Value::Array(polygons)) => {
                let (mut outlines, mut rules) = (Vec::new(), Vec::new());
                for (index, polygon) in polygons.iter().enumerate() {
                    match validators::polygon(&corners(polygon).ok_or_else(|| self.rule(value))?) {
                        Ok(corners) => outlines.push(config::Value::new(None, outline(corners))),
                        Err(rule) => rules.push(format!("polygon {}: {rule}", index + 1)),
                    }
                }
                return if rules.is_empty() { Ok(ValueKind::Array(outlines)) } else { Err(rules.join("; ")) };
            }
            (Kind::Part, Value::Array(numbers)) => {
                validators::part(
                    &numbers
                        .iter()
                        .map(number)
                        .collect::<Option<Vec<f64>>>()
                        .ok_or_else(|| self.rule(value))?,
                )?;
                return Ok(deep(value));
            }
            (Kind::Boolean, Value::Boolean(_)) => {}
            (Kind::AutoDuration(..), Value::String(text)) if text == AUTO => {}
            (Kind::Duration(min, max) | Kind::AutoDuration(min, max), Value::String(text))
                if humantime::parse_duration(text)
                    .is_ok_and(|duration| (*min..=*max).contains(&duration)) => {}
            (Kind::WholeSeconds(min, max), Value::String(text))
                if humantime::parse_duration(text).is_ok_and(|duration| {
                    (*min..=*max).contains(&duration) && duration.subsec_nanos() == 0
                }) => {}
            (Kind::Choice(words), Value::String(text)) if words.contains(&text.as_str()) => {}
            (Kind::Scalar, Value::String(_) | Value::Integer(_) | Value::Boolean(_)) => {}
            _ => return Err(self.rule(value)),
        }
        Ok(match value {
            Value::String(text) => ValueKind::String(text.clone()),
            Value::Integer(number) => ValueKind::I64(*number),
            Value::Float(number) => ValueKind::Float(*number),
            Value::Boolean(boolean) => ValueKind::Boolean(*boolean),
            Value::Table(_) | Value::Array(_) | Value::Datetime(_) => return Err(self.rule(value)),
        })
    }

    /// What must hold, for a value of which it does not.
    fn rule(&self, value: &Value) -> String {
        let duration = |min, max, whole: &str| {
            let (min, max) = (humantime::format_duration(min), humantime::format_duration(max));
            let example = if self.default == AUTO { "10s" } else { self.default };
            format!("must be a duration{whole} from {min} to {max}, such as \"{example}\"")
        };
        match &self.kind {
            Kind::Text(_) | Kind::Secret => "must be text in quotes".into(),
            Kind::Whole(min, max) => format!("must be a whole number from {min} to {max}"),
            Kind::Positive(max) => format!("must be a number above 0 and up to {max}"),
            Kind::Number(min, max) => format!("must be a number from {min} to {max}"),
            Kind::Words => "must be a list of texts, such as [\"cat\", \"dog\"]".into(),
            Kind::Classes => "must be a list of one class or more, such as [\"tabby\", \"beagle\"]".into(),
            Kind::Polygon => "must be a list of corners, such as [[0, 0], [0.5, 0], [0.5, 1]]".into(),
            Kind::Polygons => {
                "must be a list of polygons, each a list of corners, such as [[[0, 0], [0.5, 0], [0.5, 1]]]"
                    .into()
            }
            Kind::Part => "must be [left, top, width, height] in parts of the picture".into(),
            Kind::Boolean => "must be true or false".into(),
            Kind::Duration(min, max) => duration(*min, *max, ""),
            Kind::AutoDuration(min, max) => duration(*min, *max, "") + ", or \"auto\"",
            Kind::WholeSeconds(min, max) => duration(*min, *max, " in whole seconds"),
            Kind::Choice(words) => {
                let near = value.as_str().and_then(|text| nearest(text, words));
                let hint = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
                format!("must be one of {}{hint}", words.join(", "))
            }
            Kind::Options => "must be a table of the template's options".into(),
            Kind::Scalar => "must be text in quotes, a whole number, true or false".into(),
        }
    }

    /// What holds when nobody says anything.
    pub(super) fn default_value(&self) -> ValueKind {
        match self.kind {
            Kind::Options => ValueKind::Table(config::Map::new()),
            Kind::Words | Kind::Polygons if self.default.is_empty() => ValueKind::Array(Vec::new()),
            _ => self.check(&self.read_text(self.default)).expect("every default keeps its own rule"),
        }
    }
}

fn list(values: &[Value]) -> ValueKind {
    ValueKind::Array(values.iter().map(|value| config::Value::new(None, deep(value))).collect())
}

/// The corners of a polygon as the layers carry them.
fn outline(corners: &[(f64, f64)]) -> ValueKind {
    let list = |values: Vec<ValueKind>| {
        ValueKind::Array(values.into_iter().map(|value| config::Value::new(None, value)).collect())
    };
    list(corners.iter().map(|(x, y)| list(vec![ValueKind::Float(*x), ValueKind::Float(*y)])).collect())
}

/// A list, of lists or not, of what has been judged already.
fn deep(value: &Value) -> ValueKind {
    match value {
        Value::Array(values) => list(values),
        Value::Integer(number) => ValueKind::Float(*number as f64),
        Value::Float(number) => ValueKind::Float(*number),
        other => ValueKind::String(other.as_str().unwrap_or_default().into()),
    }
}

fn number(value: &Value) -> Option<f64> {
    value.as_float().or_else(|| value.as_integer().map(|number| number as f64))
}

fn corners(value: &Value) -> Option<Vec<(f64, f64)>> {
    let corner = |corner: &Value| match &corner.as_array()?[..] {
        [x, y] => Some((number(x)?, number(y)?)),
        _ => None,
    };
    value.as_array()?.iter().map(corner).collect()
}

/// What is to be found at a path.
pub(super) enum Meaning {
    /// More keys.
    Section,
    /// A value.
    Key(&'static Key),
}

/// What `path` stands for, or why for nothing.
pub(super) fn meaning(path: &[String]) -> Result<Meaning, Unknown> {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path[..] {
        ["cameras"] => Ok(Meaning::Section),
        ["cameras", name] => {
            validators::camera_name(name).map(|()| Meaning::Section).map_err(Unknown::because)
        }
        ["cameras", _, "options"] => Ok(Meaning::Section),
        ["cameras", _, "options", option] => match validators::name(option) {
            Ok(()) => Ok(Meaning::Key(&OPTION)),
            Err(rule) => Err(Unknown::because(rule)),
        },
        ["groups"] | ["cameras", _, "zones" | "regions"] => Ok(Meaning::Section),
        ["groups", name] => {
            validators::group_name(name).map(|()| Meaning::Key(&GROUP)).map_err(Unknown::because)
        }
        ["cameras", _, "zones", zone] => {
            validators::name(zone).map(|()| Meaning::Key(&ZONE)).map_err(Unknown::because)
        }
        ["cameras", _, "regions", region] => {
            validators::name(region).map(|()| Meaning::Section).map_err(Unknown::because)
        }
        ["cameras", name, "regions", region, key] => find(key, raw::REGION).ok_or_else(|| {
            Unknown::near(key, &format!("[cameras.{name}.regions.{region}]"), &names(raw::REGION))
        }),
        ["groups", ..] => {
            Err(Unknown::because("is not a group; its name needs quotes where it has dots in it".into()))
        }
        ["cameras", name, key] => find(key, raw::CAMERA)
            .ok_or_else(|| Unknown::near(key, &format!("[cameras.{name}]"), &names(raw::CAMERA))),
        [section] if keys_of(section).is_some() => Ok(Meaning::Section),
        [section, key] if let Some(keys) = keys_of(section) => {
            find(key, keys).ok_or_else(|| Unknown::near(key, &format!("[{section}]"), &names(keys)))
        }
        [section, key, ..] if keys_of(section).is_some() => {
            Err(Unknown::because(format!("is not a key: there is nothing below {section}.{key}")))
        }
        _ => Err(Unknown::section(path.first().unwrap_or(&""))),
    }
}

fn keys_of(section: &str) -> Option<&'static [Key]> {
    raw::SECTIONS.iter().find(|(name, _)| *name == section).map(|(_, keys)| *keys)
}

fn find(name: &str, keys: &'static [Key]) -> Option<Meaning> {
    keys.iter().find(|key| key.name == name).map(Meaning::Key)
}

fn names(keys: &'static [Key]) -> Vec<&'static str> {
    keys.iter().map(|key| key.name).collect()
}

/// Why a path stands for nothing.
pub(super) struct Unknown {
    pub(super) rule: String,
    /// What was probably meant is a secret.
    pub(super) is_secret: bool,
}

impl Unknown {
    fn because(rule: String) -> Unknown {
        Unknown { rule, is_secret: false }
    }

    fn near(key: &str, section: &str, known: &[&'static str]) -> Unknown {
        let near = nearest(key, known);
        let hint = match near {
            Some(near) => format!("did you mean {near}?"),
            None => format!("its keys are {}", known.join(", ")),
        };
        let is_secret = near == Some("password");
        Unknown { rule: format!("is not a key of {section}; {hint}"), is_secret }
    }

    fn section(name: &str) -> Unknown {
        let mut known: Vec<&str> = raw::SECTIONS.iter().map(|(section, _)| *section).collect();
        known.extend(["groups", "cameras"]);
        let home = raw::SECTIONS.iter().find(|(_, keys)| keys.iter().any(|key| key.name == name));
        let hint = match (nearest(name, &known), home) {
            (Some("cameras"), _) => "did you mean [cameras.NAME]?".into(),
            (Some(near), _) => format!("did you mean [{near}]?"),
            (None, Some((section, _))) => format!("did you mean {section}.{name}?"),
            (None, None) => {
                let known: Vec<String> =
                    raw::SECTIONS.iter().map(|(section, _)| format!("[{section}]")).collect();
                format!("the sections are {}, [groups] and [cameras.NAME]", known.join(", "))
            }
        };
        Unknown::because(format!("is not a section; {hint}"))
    }
}

/// The word that was probably meant by `typed`: a slip or two away, or a part of it.
pub fn nearest<'a>(typed: &str, known: &[&'a str]) -> Option<&'a str> {
    let typed = typed.to_lowercase();
    let slips = (typed.chars().count() / 3).clamp(1, 3);
    // Of words that are equally near, the one without letters that were not typed, then the shorter one.
    let strangers = |word: &str| word.chars().filter(|c| !typed.contains(*c)).count();
    let closest = (known.iter())
        .map(|word| (strsim::damerau_levenshtein(&typed, word), *word))
        .min_by_key(|(distance, word)| (*distance, strangers(word), word.len()))
        .filter(|(distance, _)| *distance <= slips)
        .map(|(_, word)| word);
    let part = || {
        let holds = |word: &&&str| typed.len() >= 3 && (word.contains(&typed) || typed.contains(**word));
        let distance = |word: &&&str| (!word.contains(&typed), word.len().abs_diff(typed.len()));
        known.iter().filter(holds).min_by_key(distance)
    };
    closest.or_else(|| part().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_keeps_its_own_rule_and_names_are_unique() {
        let tables = raw::SECTIONS.iter().map(|(_, keys)| *keys).chain([raw::CAMERA]);
        for keys in tables {
            for key in keys {
                key.default_value();
                assert_eq!(keys.iter().filter(|other| other.name == key.name).count(), 1, "{}", key.name);
            }
        }
    }

    #[test]
    fn slips_and_parts_are_near_but_strangers_are_not() {
        let known = ["host", "port", "base_topic", "keep_alive", "rate_fps"];
        for (typed, expected) in [
            ("prot", Some("port")),
            ("PORT", Some("port")),
            ("topic", Some("base_topic")),
            ("fps", Some("rate_fps")),
            ("keepalive", Some("keep_alive")),
            ("colour", None),
            ("x", None),
        ] {
            assert_eq!(nearest(typed, &known), expected, "{typed}");
        }
        let classes = ["cart", "coat", "cat", "cougar", "Egyptian cat", "catamaran"];
        for (typed, expected) in [("caat", "cat"), ("cats", "cat"), ("catama", "catamaran")] {
            assert_eq!(nearest(typed, &classes), Some(expected), "{typed}");
        }
    }

    #[test]
    fn text_is_read_as_its_key_expects() {
        let text = Key { name: "t", kind: Kind::Text(validators::line), default: "" };
        assert_eq!(text.read_text("12345"), Value::String("12345".into()));
        for (typed, expected) in [
            ("12", Value::Integer(12)),
            ("0012", Value::String("0012".into())),
            ("false", Value::Boolean(false)),
            ("ball", Value::String("ball".into())),
        ] {
            assert_eq!(OPTION.read_text(typed), expected);
        }
    }
}
