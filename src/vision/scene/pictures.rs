//! Pictures of the best sighting of each object, within the limit of pictures per frame.

use super::{Analysis, Paint, Scene, updates::TrackUpdate};
use crate::{
    frame::Image,
    vision::{events::Sighting, rect::Rect},
};

impl Scene {
    /// Takes pictures of the sightings that are better than the best so far, at most
    /// [`super::Settings::pictures_per_frame`]: first of objects without a picture, then of those with the
    /// oldest one. A sighting becomes the best only together with its picture, so that a picture that is
    /// missing is tried again.
    pub(super) fn take_pictures(
        &mut self,
        updates: &[TrackUpdate],
        image: &Image,
        painter: &mut dyn Paint,
        analysis: &mut Analysis,
    ) {
        let number = |update: &TrackUpdate| self.tracker.tracks()[update.index].number;
        let mut better: Vec<(u64, Sighting)> = updates
            .iter()
            .filter(|update| update.is_better)
            .map(|update| (number(update), update.sighting))
            .collect();
        if self.settings.pictures_per_frame == 0 {
            for (number, sighting) in better {
                self.track_states.entry(number).and_modify(|state| state.best = Some(sighting));
            }
            return;
        }
        better.sort_by_key(|(number, _)| {
            let best = self.track_states.get(number).and_then(|state| state.best);
            (best.map(|best| best.scene_time), *number)
        });
        better.truncate(self.settings.pictures_per_frame);
        let objects: Vec<(Rect, String)> = better
            .iter()
            .filter_map(|(number, sighting)| {
                let track = self.tracker.tracks().iter().find(|track| track.number == *number)?;
                let name = self.settings.taxonomy.name_or_unknown(track.labels.label());
                Some((sighting.rect, caption(name, track.labels.score())))
            })
            .collect();
        if objects.is_empty() {
            return;
        }
        match painter.paint(image, &objects) {
            Ok(pictures) => {
                for ((number, sighting), pictures) in better.into_iter().zip(pictures) {
                    self.track_states.entry(number).and_modify(|state| {
                        (state.best, state.pictures) = (Some(sighting), Some(pictures));
                    });
                }
            }
            Err(error) => analysis.paint_error = Some(error),
        }
    }
}

/// The caption of an object: `cat 83 %`.
pub fn caption(name: &str, score: f32) -> String {
    format!("{name} {:.0} %", 100.0 * score)
}
