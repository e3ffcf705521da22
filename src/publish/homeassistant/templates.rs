//! Jinja templates that read values from JSON payloads.

use serde_json::Value;

/// A string literal of a template.
pub(super) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// Template of the value at a path. If the value or an object on the path is null or missing, it yields
/// "None", which Home Assistant treats as unknown.
pub(super) fn value_at(path: &[&str]) -> String {
    format!("{{{{ {} | default(None) }}}}", value_at_text(path))
}

/// Template of a top-level number times `factor`. "None" if it is null or missing.
pub(super) fn scaled_value_at(key: &str, factor: f64) -> String {
    let value = value_at_text(&[key]);
    format!("{{{{ {value} * {factor} if {value} is number else None }}}}")
}

/// The expression of the value at a path. Undefined if the value or an object on the path is missing.
pub(super) fn value_at_text(path: &[&str]) -> String {
    let step = |parent: String, name: &&str| match parent.as_str() {
        "value_json" => format!("{parent}[{}]", quoted(name)),
        _ => format!("({parent} | default({{}}, true))[{}]", quoted(name)),
    };
    path.iter().fold("value_json".to_string(), step)
}

/// Template of a top-level value that is always there.
pub(super) fn value_of(key: &str) -> String {
    format!("{{{{ value_json.{key} }}}}")
}

/// Template that yields `ON` or `OFF`.
pub(super) fn on_if(condition: &str) -> String {
    format!("{{{{ 'ON' if {condition} else 'OFF' }}}}")
}
