//! How many commands are executed: a budget per topic, so that a flood of commands cannot fill the log or
//! occupy the node. Pure. Times are monotonic.

use std::{collections::BTreeMap, time::Duration};

/// Number of commands that may arrive at once.
const BURST: f64 = 30.0;
/// Number of commands per second after that.
const PER_SECOND: f64 = 2.0;
/// Interval between two summaries of what was not executed.
const SUMMARY_INTERVAL: Duration = Duration::from_secs(10);

/// What becomes of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It is executed.
    Execute,
    /// It is not executed. The answer says so.
    Refuse,
    /// It is not executed, and not answered, because the last one on this topic was answered so.
    Drop,
}

/// The budgets of the topics of one node.
#[derive(Debug, Default)]
pub struct Limiter {
    /// By camera; None for the node, and the empty name for all cameras that do not exist.
    budgets: BTreeMap<Option<String>, Budget>,
    /// Number of commands since the last summary that were not executed.
    rejected: u64,
    summarised_at: Option<Duration>,
}

#[derive(Debug)]
struct Budget {
    commands: f64,
    at: Duration,
    was_refused: bool,
}

impl Limiter {
    /// Decides about a command to `camera`, or to the node if it is None.
    pub fn admit(&mut self, camera: Option<&str>, now: Duration) -> Admission {
        let full = || Budget { commands: BURST, at: now, was_refused: false };
        let budget = self.budgets.entry(camera.map(str::to_string)).or_insert_with(full);
        let earned = now.saturating_sub(budget.at).as_secs_f64() * PER_SECOND;
        (budget.commands, budget.at) = ((budget.commands + earned).min(BURST), now);
        if budget.commands >= 1.0 {
            budget.commands -= 1.0;
            budget.was_refused = false;
            return Admission::Execute;
        }
        self.rejected += 1;
        if std::mem::replace(&mut budget.was_refused, true) { Admission::Drop } else { Admission::Refuse }
    }

    /// Number of commands that were not executed, if it is time to log it.
    pub fn take_summary(&mut self, now: Duration) -> Option<u64> {
        let is_due = |at: Duration| now.saturating_sub(at) >= SUMMARY_INTERVAL;
        if self.rejected == 0 || !self.summarised_at.is_none_or(is_due) {
            return None;
        }
        self.summarised_at = Some(now);
        Some(std::mem::take(&mut self.rejected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_answered_once_and_summarised_and_then_commands_are_executed_again() {
        let mut limiter = Limiter::default();
        let mut admissions = BTreeMap::new();
        let mut summaries = Vec::new();
        for number in 0..20_000_u64 {
            // 1,000 per second.
            let now = Duration::from_millis(number);
            *admissions.entry(format!("{:?}", limiter.admit(Some("yard"), now))).or_insert(0) += 1;
            summaries.extend(limiter.take_summary(now));
        }
        assert!((69..=71).contains(&admissions["Execute"]), "{admissions:?}");
        assert!(admissions["Refuse"] <= admissions["Execute"], "{admissions:?}");
        assert!(summaries.len() <= 3, "{summaries:?}");
        assert_eq!(limiter.admit(None, Duration::from_secs(20)), Admission::Execute, "another topic");
        assert_eq!(limiter.admit(Some("yard"), Duration::from_secs(21)), Admission::Execute);
        let rest = limiter.take_summary(Duration::from_secs(40)).unwrap();
        assert_eq!(summaries.iter().sum::<u64>() + rest, admissions["Drop"] + admissions["Refuse"]);
        assert_eq!(limiter.take_summary(Duration::from_secs(90)), None);
    }
}
