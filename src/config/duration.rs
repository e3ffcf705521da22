//! Durations in the configuration and on the command line: one or more numbers, each with a unit.
//!
//! The syntax is jiff's "friendly" format: `500ms`, `1m 30s`, `7days`. Units have a fixed length, because a
//! limit such as `max_age` must not depend on the calendar: a day has 24 hours, a month 30.44 days and a year
//! 365.25 days.

use jiff::{
    Span,
    fmt::friendly::{SpanParser, SpanPrinter},
};
use std::time::Duration;

const HOUR: i64 = 60 * 60;
const DAY: i64 = 24 * HOUR;
const MONTH: i64 = 2_630_016;
const YEAR: i64 = 31_557_600;

/// Parses a duration such as `500ms`, `1m 30s` or `7days`.
///
/// Errors: the text is not a duration, has no unit, or is negative.
pub fn parse(text: &str) -> Result<Duration, String> {
    if text.trim() == "0" {
        return Ok(Duration::ZERO);
    }
    // jiff also reads "1:30:00", "+5s", "-0s", "0s ago" and "1h, 30m", which are not documented.
    let is_plain = !text.contains([':', '+', '-', ',']) && !text.contains("ago");
    let span = SpanParser::new().parse_span(text.trim()).ok();
    span.filter(|_| is_plain)
        .and_then(|span| fixed_length(&span))
        .ok_or_else(|| "must be a duration such as \"500ms\", \"10s\" or \"1m 30s\"".into())
}

/// Returns None for negative spans.
fn fixed_length(span: &Span) -> Option<Duration> {
    let days = i64::from(span.get_weeks()) * 7 + i64::from(span.get_days());
    let seconds = i64::from(span.get_years()) * YEAR
        + i64::from(span.get_months()) * MONTH
        + days * DAY
        + i64::from(span.get_hours()) * HOUR
        + span.get_minutes() * 60
        + span.get_seconds();
    Some(
        Duration::from_secs(seconds.try_into().ok()?)
            + Duration::from_millis(span.get_milliseconds().try_into().ok()?)
            + Duration::from_micros(span.get_microseconds().try_into().ok()?)
            + Duration::from_nanos(span.get_nanoseconds().try_into().ok()?),
    )
}

/// Formats a duration as [`parse`] reads it, in days and smaller units.
pub(super) fn format(duration: Duration) -> String {
    let days = duration.as_secs() / DAY as u64;
    let rest = duration - Duration::from_secs(days * DAY as u64);
    let rest_text = SpanPrinter::new().unsigned_duration_to_string(&rest);
    let days_text = format!("{days}day{}", if days == 1 { "" } else { "s" });
    match (days, rest.is_zero()) {
        (0, _) => rest_text,
        (_, true) => days_text,
        (_, false) => format!("{days_text} {rest_text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_of_fixed_length() {
        let day = 86_400_000;
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("500ms", 500),
            ("1500 ms", 1500),
            ("1.5s", 1500),
            ("10sec", 10_000),
            ("1m 30s", 90_000),
            (" 1m30s ", 90_000),
            ("2 minutes", 120_000),
            ("1h", 3_600_000),
            ("18h 12m 15s", 65_535_000),
            ("1day", day),
            ("7days", 7 * day),
            ("1d 12h", day * 3 / 2),
            ("2weeks", 14 * day),
            ("1month", 2_630_016_000),
            ("1year", 365 * day + day / 4),
            ("366days", 366 * day),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse("1us 1ns"), Ok(Duration::from_nanos(1001)));
        for bad in [
            "",
            " ",
            "5",
            "s",
            "-5s",
            "5s ago",
            "5 parsecs",
            "+5s",
            "1:30:00",
            "1h, 30m",
            "1m, ",
            "P1D",
            "99999999999999999999s",
            "5µ",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn formatted_durations_parse_to_the_same_value() {
        for (millis, text) in [
            (0, "0s"),
            (100, "100ms"),
            (90_000, "1m 30s"),
            (65_535_000, "18h 12m 15s"),
            (86_400_000, "1day"),
            (86_400_000 * 366, "366days"),
            (86_400_000 * 7 + 3_600_000, "7days 1h"),
        ] {
            let duration = Duration::from_millis(millis);
            assert_eq!(format(duration), text);
            assert_eq!(parse(text), Ok(duration), "{text}");
        }
    }
}
