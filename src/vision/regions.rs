//! Region classification: named parts of a camera's view are classified at intervals of their own. A state is
//! reported once it has held for the configured time.

use super::taxonomy::Taxonomy;
use crate::config::{self, ANY, Region as RegionSettings};
use jiff::Timestamp;
use std::time::Duration;

/// A new state of a region.
#[derive(Debug, Clone, PartialEq)]
pub struct RegionState {
    /// Index of the region among the camera's regions.
    pub region: usize,
    /// The label. None if no score is high enough.
    pub label: Option<usize>,
    /// Mean score of the inferences since the state began, 0 to 1.
    pub score: f32,
    /// When the state began.
    pub since: Timestamp,
}

/// The state of one region.
#[derive(Debug)]
pub struct RegionClassifier {
    settings: config::Region,
    next_at: Duration,
    /// Label as last reported.
    reported: Option<Option<usize>>,
    /// The label of the last inference.
    candidate: Option<Candidate>,
}

/// A label that all inferences since `since` agree on.
#[derive(Debug)]
struct Candidate {
    label: Option<usize>,
    /// Capture time of the first of these inferences.
    since: Timestamp,
    /// The same on the scene's time line.
    scene_time: Duration,
    score_sum: f32,
    inferences: u32,
}

impl RegionClassifier {
    /// Creates a region without a state.
    pub fn new(settings: config::Region) -> RegionClassifier {
        RegionClassifier { settings, next_at: Duration::ZERO, reported: None, candidate: None }
    }

    /// The region's settings.
    pub fn settings(&self) -> &config::Region {
        &self.settings
    }

    /// Whether an inference is due at `at`.
    pub fn is_due(&self, at: Duration) -> bool {
        at >= self.next_at
    }

    /// Adds the labels' scores of an inference. Returns the new state once it has held.
    pub fn update(
        &mut self,
        region: usize,
        scores: &[f32],
        taxonomy: &Taxonomy,
        at: Duration,
        captured_at: Timestamp,
    ) -> Option<RegionState> {
        self.next_at = at + self.settings.every;
        let RegionSettings { labels, score: min_score, .. } = &self.settings;
        let is_wanted = |label: usize| {
            labels.is_empty() || labels.iter().any(|wanted| wanted == ANY || wanted == taxonomy.name(label))
        };
        let label = taxonomy.choose(scores, *min_score, None, &is_wanted);
        let wanted_scores = (0..scores.len()).filter(|&label| is_wanted(label)).map(|label| scores[label]);
        let best_score = label.map_or_else(|| wanted_scores.fold(0.0, f32::max), |label| scores[label]);
        match &mut self.candidate {
            Some(candidate) if candidate.label == label => {
                candidate.inferences += 1;
                candidate.score_sum += best_score;
            }
            _ => {
                self.candidate = Some(Candidate {
                    label,
                    since: captured_at,
                    scene_time: at,
                    score_sum: best_score,
                    inferences: 1,
                })
            }
        }
        let candidate = self.candidate.as_ref()?;
        let elapsed = at.saturating_sub(candidate.scene_time);
        let has_held = elapsed >= self.settings.hold && candidate.inferences >= 2;
        if !has_held || self.reported == Some(candidate.label) {
            return None;
        }
        self.reported = Some(candidate.label);
        let score = candidate.score_sum / candidate.inferences as f32;
        Some(RegionState { region, label, score, since: candidate.since })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vision::labels::Labels;

    #[test]
    fn a_state_is_reported_once_it_has_held_and_not_when_it_flickers() {
        let classes = Labels::parse(b"open\nclosed\n", "l", 2).unwrap();
        let taxonomy = Taxonomy::new(None, &classes, &Default::default()).unwrap();
        let mut region = RegionClassifier::new(config::Region {
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
        let shown = "ooooooccoooccccccc??oo????";
        let mut reported = Vec::new();
        for (second, state) in shown.chars().enumerate() {
            let at = Duration::from_secs(second as u64);
            assert!(region.is_due(at));
            assert!(second == 0 || !region.is_due(at - Duration::from_millis(1)));
            let scores = match state {
                'o' => [0.9, 0.1],
                'c' => [0.2, 0.8],
                _ => [0.5, 0.5],
            };
            if let Some(state) = region.update(0, &scores, &taxonomy, at, start + at) {
                reported.push((second, state.label, state.since.duration_since(start).as_secs()));
            }
        }
        assert_eq!(reported, [(3, Some(0), 0), (14, Some(1), 11), (25, None, 22)]);
    }
}
