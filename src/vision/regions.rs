//! Named parts of a camera's view, each looked at in its own time: what they show, once it has held. Pure.

use super::groups::Groups;
use crate::config;
use jiff::Timestamp;
use std::time::Duration;

/// What a region shows now.
#[derive(Debug, Clone, PartialEq)]
pub struct RegionState {
    /// The region, by its place among the camera's.
    pub region: usize,
    /// The group, if one is likely enough.
    pub label: Option<usize>,
    /// Mean score of the looks that it took to believe it, 0 to 1.
    pub score: f32,
    /// When it was first seen.
    pub since: Timestamp,
}

/// One region's memory.
#[derive(Debug)]
pub struct RegionClassifier {
    settings: config::Region,
    next_at: Duration,
    told: Option<Option<usize>>,
    /// What was seen last, since when on either clock, the scores and the looks.
    candidate: Option<Candidate>,
}

#[derive(Debug)]
struct Candidate {
    label: Option<usize>,
    at: Duration,
    since: Timestamp,
    score: f32,
    looks: u32,
}

impl RegionClassifier {
    /// Of which nothing is known.
    pub fn new(settings: config::Region) -> RegionClassifier {
        RegionClassifier { settings, next_at: Duration::ZERO, told: None, candidate: None }
    }

    /// What the user said of it.
    pub fn settings(&self) -> &config::Region {
        &self.settings
    }

    /// Whether it is time for a look at `at`.
    pub fn is_due(&self, at: Duration) -> bool {
        at >= self.next_at
    }

    /// Takes the groups' scores of a look; gives the new state when it has held.
    pub fn look(
        &mut self,
        region: usize,
        scores: &[f32],
        groups: &Groups,
        at: Duration,
        captured_at: Timestamp,
    ) -> Option<RegionState> {
        self.next_at = at + self.settings.every;
        let wanted = |group: &usize| {
            self.settings.labels.is_empty()
                || self.settings.labels.iter().any(|label| label == groups.name(*group))
        };
        let best = (0..scores.len()).filter(wanted).reduce(|a, b| if scores[b] > scores[a] { b } else { a });
        let best_score = best.map_or(0.0, |group| scores[group]);
        let label = best.filter(|_| best_score >= self.settings.score);
        match &mut self.candidate {
            Some(candidate) if candidate.label == label => {
                candidate.looks += 1;
                candidate.score += best_score;
            }
            _ => {
                self.candidate =
                    Some(Candidate { label, at, since: captured_at, score: best_score, looks: 1 })
            }
        }
        let candidate = self.candidate.as_ref()?;
        let held = at.saturating_sub(candidate.at) >= self.settings.hold && candidate.looks >= 2;
        if !held || self.told == Some(candidate.label) {
            return None;
        }
        self.told = Some(candidate.label);
        let score = candidate.score / candidate.looks as f32;
        Some(RegionState { region, label, score, since: candidate.since })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vision::labels::Labels;

    #[test]
    fn a_state_is_told_once_it_has_held_and_not_when_it_flickers() {
        let groups =
            Groups::new(&Labels::parse(b"open\nclosed\n", "l", 2).unwrap(), &Default::default()).unwrap();
        let mut watch = RegionClassifier::new(config::Region {
            name: "gate".into(),
            left: 0.0,
            top: 0.0,
            width: 1.0,
            height: 1.0,
            every: Duration::from_secs(1),
            hold: Duration::from_secs(3),
            score: 0.6,
            labels: vec![],
        });
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let story = "ooooooccoooccccccc??oo????";
        let mut told = Vec::new();
        for (second, what) in story.chars().enumerate() {
            let at = Duration::from_secs(second as u64);
            assert!(watch.is_due(at));
            assert!(second == 0 || !watch.is_due(at - Duration::from_millis(1)));
            let scores = match what {
                'o' => [0.9, 0.1],
                'c' => [0.2, 0.8],
                _ => [0.5, 0.5],
            };
            if let Some(state) = watch.look(0, &scores, &groups, at, start + at) {
                told.push((second, state.label, state.since.duration_since(start).as_secs()));
            }
        }
        assert_eq!(told, [(3, Some(0), 0), (14, Some(1), 11), (25, None, 22)]);
    }
}
