//! A key of the configuration: its name, kind and default, and how its value is read and checked.
//!
//! Files, environment and flags all use these functions, so a key has one type, one rule and one error text
//! wherever its value comes from. A value is checked in the layer that sets it, even if a later layer
//! overrides it.

use super::{duration, suggest::nearest, validators};
use config::ValueKind;
use std::time::Duration;
use toml::Value;

/// One key of a section.
pub(super) struct Key {
    /// Name. Empty for keys whose names the user chooses.
    pub(super) name: &'static str,
    pub(super) kind: KeyKind,
    /// Default, as one would write it in an environment variable. If it is empty, an empty string means "not
    /// set". None for keys whose names the user chooses.
    pub(super) default: Option<&'static str>,
}

/// Kind of a key: type and rule of its value.
pub(super) enum KeyKind {
    /// A string that passes this validator.
    Text(fn(&str) -> Result<(), String>),
    /// A string that is never shown.
    Secret,
    /// An integer; minimum and maximum.
    Integer(i64, i64),
    /// A number above 0; maximum.
    Positive(f64),
    /// A number; minimum and maximum.
    Number(f64, f64),
    /// A number or [`AUTO`]; minimum and maximum.
    AutoNumber(f64, f64),
    /// A list of strings.
    Strings,
    /// A list of at least one class name.
    Classes,
    /// A list of corners.
    Polygon,
    /// A list of polygons.
    Polygons,
    /// `[left, top, width, height]`.
    Rectangle,
    /// `true` or `false`.
    Boolean,
    /// A duration; minimum and maximum.
    Duration(Duration, Duration),
    /// A duration or [`AUTO`]; minimum and maximum.
    AutoDuration(Duration, Duration),
    /// A duration in whole seconds; minimum and maximum.
    WholeSeconds(Duration, Duration),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A table with keys of its own.
    Table,
    /// An integer, a boolean or a string.
    Scalar,
}

/// The value with which camfire selects a setting itself.
pub(super) const AUTO: &str = "auto";

impl Key {
    /// Converts text from the environment or a flag, which has no type, to a value of this key. Text that
    /// does not fit remains a string, which [`Key::check`] rejects.
    pub(super) fn read_text(&self, text: &str) -> Value {
        let read = match self.kind {
            KeyKind::Integer(..) => text.parse().ok().map(Value::Integer),
            KeyKind::Positive(_) | KeyKind::Number(..) | KeyKind::AutoNumber(..) => {
                text.parse().ok().map(Value::Float)
            }
            // Lists are written as in a file.
            KeyKind::Strings
            | KeyKind::Classes
            | KeyKind::Polygon
            | KeyKind::Polygons
            | KeyKind::Rectangle => toml::from_str::<toml::Table>(&format!("list = {text}"))
                .ok()
                .and_then(|mut table| table.remove("list")),
            KeyKind::Boolean => text.parse().ok().map(Value::Boolean),
            KeyKind::Table => text.is_empty().then(|| Value::Table(toml::Table::new())),
            // "0012" is a serial number, not 12.
            KeyKind::Scalar => {
                (text.parse().ok().filter(|n: &i64| n.to_string() == text).map(Value::Integer))
                    .or_else(|| text.parse().ok().map(Value::Boolean))
            }
            KeyKind::Text(_)
            | KeyKind::Secret
            | KeyKind::Duration(..)
            | KeyKind::AutoDuration(..)
            | KeyKind::WholeSeconds(..)
            | KeyKind::Choice(_) => None,
        };
        read.unwrap_or_else(|| Value::String(text.into()))
    }

    /// Checks a value and converts it for the `config` crate.
    ///
    /// Errors: the rule that the value breaks.
    pub(super) fn check(&self, value: &Value) -> Result<ValueKind, String> {
        match (&self.kind, value) {
            (KeyKind::Text(_), Value::String(text)) if text.is_empty() && self.default == Some("") => {}
            (KeyKind::Text(validate), Value::String(text)) => validate(text)?,
            (KeyKind::Secret, Value::String(text)) => validators::lines(text)?,
            (KeyKind::Integer(min, max), Value::Integer(number)) if (min..=max).contains(&number) => {}
            (KeyKind::Positive(max), Value::Integer(number)) if (1.0..=*max).contains(&(*number as f64)) => {
                return Ok(ValueKind::Float(*number as f64));
            }
            (KeyKind::Positive(max), Value::Float(number)) if *number > 0.0 && number <= max => {}
            (KeyKind::Number(min, max) | KeyKind::AutoNumber(min, max), Value::Integer(number))
                if (*min..=*max).contains(&(*number as f64)) =>
            {
                return Ok(ValueKind::Float(*number as f64));
            }
            (KeyKind::Number(min, max) | KeyKind::AutoNumber(min, max), Value::Float(number))
                if (min..=max).contains(&number) => {}
            (KeyKind::Strings, Value::Array(words)) if words.iter().all(Value::is_str) => {
                return Ok(list(words));
            }
            (KeyKind::Classes, Value::Array(words))
                if words.iter().all(Value::is_str) && !words.is_empty() =>
            {
                return Ok(list(words));
            }
            (KeyKind::Polygon, value) => {
                return validators::polygon(&corners(value).ok_or_else(|| self.rule(value))?).map(outline);
            }
            (KeyKind::Polygons, Value::Array(polygons)) => {
                let (mut outlines, mut rules) = (Vec::new(), Vec::new());
                for (index, polygon) in polygons.iter().enumerate() {
                    match validators::polygon(&corners(polygon).ok_or_else(|| self.rule(value))?) {
                        Ok(corners) => outlines.push(config::Value::new(None, outline(corners))),
                        Err(rule) => rules.push(format!("polygon {}: {rule}", index + 1)),
                    }
                }
                return if rules.is_empty() { Ok(ValueKind::Array(outlines)) } else { Err(rules.join("; ")) };
            }
            (KeyKind::Rectangle, Value::Array(numbers)) => {
                validators::rectangle(
                    &numbers
                        .iter()
                        .map(number)
                        .collect::<Option<Vec<f64>>>()
                        .ok_or_else(|| self.rule(value))?,
                )?;
                return Ok(element(value));
            }
            (KeyKind::Boolean, Value::Boolean(_)) => {}
            (KeyKind::AutoDuration(..) | KeyKind::AutoNumber(..), Value::String(text)) if text == AUTO => {}
            (KeyKind::Duration(min, max) | KeyKind::AutoDuration(min, max), Value::String(text))
                if duration::parse(text).is_ok_and(|duration| (*min..=*max).contains(&duration)) => {}
            (KeyKind::WholeSeconds(min, max), Value::String(text))
                if duration::parse(text).is_ok_and(|duration| {
                    (*min..=*max).contains(&duration) && duration.subsec_nanos() == 0
                }) => {}
            (KeyKind::Choice(words), Value::String(text)) if words.contains(&text.as_str()) => {}
            (KeyKind::Scalar, Value::String(_) | Value::Integer(_) | Value::Boolean(_)) => {}
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

    /// Returns the rule of this key's kind, with an example or, if `value` is near a valid one, a suggestion.
    fn rule(&self, value: &Value) -> String {
        let example = match &self.kind {
            KeyKind::Strings => ", such as [\"cat\", \"dog\"]".into(),
            KeyKind::Classes => ", such as [\"tabby\", \"beagle\"]".into(),
            KeyKind::Polygon => ", such as [[0, 0], [0.5, 0], [0.5, 1]]".into(),
            KeyKind::Polygons => ", such as [[[0, 0], [0.5, 0], [0.5, 1]]]".into(),
            KeyKind::Duration(..) | KeyKind::AutoDuration(..) | KeyKind::WholeSeconds(..) => {
                let default = self.default.filter(|default| *default != AUTO);
                format!(", such as \"{}\"", default.unwrap_or("10s"))
            }
            KeyKind::Choice(words) => {
                let near = value.as_str().and_then(|text| nearest(text, words));
                near.map_or(String::new(), |near| format!("; did you mean {near}?"))
            }
            _ => String::new(),
        };
        format!("must be {}{example}", self.accepted())
    }

    /// The values that this key's kind accepts, as a phrase.
    pub(super) fn accepted(&self) -> String {
        let range = |min: &Duration, max: &Duration| {
            format!("from {} to {}", duration::format(*min), duration::format(*max))
        };
        match &self.kind {
            KeyKind::Text(_) | KeyKind::Secret => "a string in quotes".into(),
            KeyKind::Integer(min, max) => format!("a whole number from {min} to {max}"),
            KeyKind::Positive(max) => format!("a number above 0 and up to {max}"),
            KeyKind::Number(min, max) => format!("a number from {min} to {max}"),
            KeyKind::AutoNumber(min, max) => format!("\"auto\" or a number from {min} to {max}"),
            KeyKind::Strings => "a list of strings".into(),
            KeyKind::Classes => "a list of at least one class".into(),
            KeyKind::Polygon => "a list of corners".into(),
            KeyKind::Polygons => "a list of polygons, each a list of corners".into(),
            KeyKind::Rectangle => "[left, top, width, height] as fractions of the image".into(),
            KeyKind::Boolean => "true or false".into(),
            KeyKind::Duration(min, max) => format!("a duration {}", range(min, max)),
            KeyKind::AutoDuration(min, max) => format!("\"auto\" or a duration {}", range(min, max)),
            KeyKind::WholeSeconds(min, max) => format!("a duration in whole seconds {}", range(min, max)),
            KeyKind::Choice(words) => format!("one of {}", words.join(", ")),
            KeyKind::Table => "a table".into(),
            KeyKind::Scalar => "a string in quotes, a whole number, true or false".into(),
        }
    }

    /// The default, or None for keys whose names the user chooses.
    pub(super) fn default_value(&self) -> Option<ValueKind> {
        let default = self.default?;
        Some(match self.kind {
            KeyKind::Table => ValueKind::Table(config::Map::new()),
            KeyKind::Strings | KeyKind::Polygons if default.is_empty() => ValueKind::Array(Vec::new()),
            _ => self.check(&self.read_text(default)).expect("every default keeps its own rule"),
        })
    }
}

fn list(values: &[Value]) -> ValueKind {
    ValueKind::Array(values.iter().map(|value| config::Value::new(None, element(value))).collect())
}

/// Converts the corners of a polygon for the `config` crate.
fn outline(corners: &[(f64, f64)]) -> ValueKind {
    let list = |values: Vec<ValueKind>| {
        ValueKind::Array(values.into_iter().map(|value| config::Value::new(None, value)).collect())
    };
    list(corners.iter().map(|(x, y)| list(vec![ValueKind::Float(*x), ValueKind::Float(*y)])).collect())
}

/// Converts a checked list, nested or not, or one of its elements for the `config` crate.
fn element(value: &Value) -> ValueKind {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_as_its_key_expects() {
        let text = Key { name: "t", kind: KeyKind::Text(validators::line), default: Some("") };
        assert_eq!(text.read_text("12345"), Value::String("12345".into()));
        let scalar = Key { name: "s", kind: KeyKind::Scalar, default: None };
        for (text, expected) in [
            ("12", Value::Integer(12)),
            ("0012", Value::String("0012".into())),
            ("false", Value::Boolean(false)),
            ("ball", Value::String("ball".into())),
        ] {
            assert_eq!(scalar.read_text(text), expected);
        }
    }
}
