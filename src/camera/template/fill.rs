//! Turns a template into a pipeline: validates the configured options and expands the placeholders.

use super::{Pipeline, Placeholder, Template};
use crate::config::OptionValue;
use std::collections::BTreeMap;

/// The option that does not appear in the text: it is set as a property of whichever libav decoder is used.
pub(super) const DECODE_THREADS: &str = "decode_threads";
/// The same if `content` is set: camfire makes the connection.
pub(super) const VERIFY_TLS: &str = "verify_tls";

impl Template {
    /// Fills in the template `name` with `options`, or their defaults, and the source's `address`.
    ///
    /// Errors: the option that breaks a rule, and the rule.
    pub(super) fn fill_in(
        &self,
        name: &str,
        options: &BTreeMap<String, OptionValue>,
        address: Option<&str>,
    ) -> Result<Pipeline, (String, String)> {
        let mut values = BTreeMap::new();
        for (key, placeholder) in &self.options {
            let value = placeholder.text(options.get(key)).map_err(|rule| (key.clone(), rule))?;
            values.insert(key.as_str(), value);
        }
        Ok(Pipeline {
            template: name.to_string(),
            codec: self.codec,
            hardware: self.hardware,
            content: self.content,
            url: self.content.and(address).map(str::to_string),
            verify_tls: values.get(VERIFY_TLS).is_none_or(|verify| verify == "true"),
            launch: expand(&self.launch, |key| values.get(key).cloned().unwrap_or_default()),
            address: self.address.clone().zip(address.map(str::to_string)),
            live: self.live,
            needs: self.needs.clone(),
            properties: self.properties.clone(),
            decode_threads: values.get(DECODE_THREADS).and_then(|threads| threads.parse().ok()),
        })
    }
}

/// Replaces `{key}` with its value, and `{{` and `}}` with one brace. Values are not expanded again.
pub(super) fn expand(text: &str, mut value: impl FnMut(&str) -> String) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        expanded.push_str(&rest[..at]);
        let brace = &rest[at..at + 1];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            expanded.push_str(brace);
            rest = after;
        } else if let Some((key, after)) = rest.split_once('}').filter(|_| brace == "{") {
            expanded.push_str(&value(key));
            rest = after;
        } else {
            expanded.push_str(brace);
        }
    }
    expanded + rest
}

impl Placeholder {
    /// The text for a configured value, or for the default.
    ///
    /// Errors: the rule that the value breaks.
    fn text(&self, value: Option<&OptionValue>) -> Result<String, String> {
        let shown = |value: &OptionValue| match value {
            OptionValue::Integer(value) => value.to_string(),
            OptionValue::Boolean(value) => value.to_string(),
            OptionValue::Text(value) => format!("{value:?}"),
        };
        match (self, value) {
            (Placeholder::Integer { default, .. }, None) => Ok(default.to_string()),
            (Placeholder::Integer { min, max, .. }, Some(OptionValue::Integer(value)))
                if (min..=max).contains(&value) =>
            {
                Ok(value.to_string())
            }
            (Placeholder::Integer { min, max, .. }, Some(value)) => {
                Err(format!("must be a whole number from {min} to {max}, not {}", shown(value)))
            }
            (Placeholder::Choice { default, .. }, None) => Ok(default.clone()),
            (Placeholder::Choice { values, .. }, Some(OptionValue::Text(value)))
                if values.contains(value) =>
            {
                Ok(value.clone())
            }
            (Placeholder::Choice { values, .. }, Some(value)) => {
                Err(format!("must be one of {}, not {}", values.join(", "), shown(value)))
            }
            (Placeholder::Switch { on, off, default }, None) => Ok(if *default { on } else { off }.clone()),
            (Placeholder::Switch { on, off, .. }, Some(OptionValue::Boolean(value))) => {
                Ok(if *value { on } else { off }.clone())
            }
            (Placeholder::Switch { .. }, Some(value)) => {
                Err(format!("must be true or false, not {}", shown(value)))
            }
            (Placeholder::Launch, Some(OptionValue::Text(value))) => Ok(value.clone()),
            (Placeholder::Launch, _) => Err("must be a launch line".to_string()),
        }
    }
}
