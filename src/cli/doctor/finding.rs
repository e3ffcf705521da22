//! One line of the report, and the order and form in which the lines are printed.

use crate::cli::output;
use serde::Serialize;
use serde_json::{Map, Value};

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub what: String,
    /// Whether it is usable.
    pub ok: bool,
    /// Whether the user must read it: what is needed, and advice. The other lines are shown with `--all`.
    pub needed: bool,
    /// It is advice: what works, and will hurt.
    pub advice: bool,
    /// The result.
    pub text: String,
    /// The result in parts, for programs.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub details: Map<String, Value>,
}

impl Finding {
    fn new(what: impl Into<String>, text: impl Into<String>) -> Finding {
        let (what, text) = (what.into(), text.into());
        Finding { what, ok: true, needed: true, advice: false, text, details: Map::new() }
    }

    /// What is needed, and usable.
    pub fn good(what: impl Into<String>, text: impl Into<String>) -> Finding {
        Finding::new(what, text)
    }

    /// What is needed, and is missing or does not work.
    pub fn fault(what: impl Into<String>, text: impl Into<String>) -> Finding {
        Finding { ok: false, ..Finding::new(what, text) }
    }

    /// What is needed, and usable or not.
    pub fn of(what: impl Into<String>, found: Result<String, String>) -> Finding {
        match found {
            Ok(text) => Finding::good(what, text),
            Err(text) => Finding::fault(what, text),
        }
    }

    /// What works, and will hurt.
    pub fn advice(what: impl Into<String>, text: impl Into<String>) -> Finding {
        Finding { advice: true, ..Finding::new(what, text) }
    }

    /// What is not needed, and usable.
    pub fn extra(what: impl Into<String>, text: impl Into<String>) -> Finding {
        Finding { needed: false, ..Finding::new(what, text) }
    }

    /// What is not needed, and not here.
    pub fn absent(what: impl Into<String>, text: impl Into<String>) -> Finding {
        Finding { ok: false, needed: false, ..Finding::new(what, text) }
    }

    /// Adds a part of the result.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Finding {
        self.details.insert(name.to_string(), value.into());
        self
    }

    /// Whether it is a fault.
    pub fn is_fault(&self) -> bool {
        !self.ok && self.needed
    }

    fn mark(&self) -> &'static str {
        match (self.advice, self.ok, self.needed) {
            (true, ..) => "!",
            (false, true, _) => "ok",
            (false, false, true) => "NO",
            (false, false, false) => "-",
        }
    }

    /// What the user must read stands first, advice after what it is about, what is not here last.
    fn rank(&self) -> u8 {
        match (self.needed, self.advice, self.ok) {
            (true, false, _) => 0,
            (_, true, _) => 1,
            (false, false, true) => 2,
            (false, false, false) => 3,
        }
    }
}

/// Prints the findings: one line each, or one JSON object each. `all`: also those that are not needed.
pub fn print(mut findings: Vec<Finding>, json: bool, all: bool) {
    findings.sort_by_key(Finding::rank);
    let hidden = findings.iter().filter(|finding| !finding.needed).count();
    for finding in findings.iter().filter(|finding| all || finding.needed) {
        if json {
            output::line!("{}", serde_json::to_string(finding).expect("strings are JSON"));
        } else {
            output::line!("{:<3} {:<28} {}", finding.mark(), finding.what, finding.text);
        }
    }
    if !json && !all && hidden > 0 {
        let lines = if hidden == 1 { "line" } else { "lines" };
        output::line!(
            "{hidden} more {lines} with --all: what is not needed here, or not here and not needed."
        );
    }
}
