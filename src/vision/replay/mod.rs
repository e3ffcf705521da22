//! The preview of other settings: what a camera would have seen in the last minutes with them.
//!
//! While the page is served, the [`recording`] keeps of each analysed frame what the analysis reads: the
//! scaled-down brightness image, 320 cells wide, one byte each, compressed as the difference from the frame
//! before, and the results of the inferences that were made. That is 10 to 23 kB a frame, bounded for all
//! cameras together by `web.preview_mib`. It is done after the frame's messages were sent, and its CPU time
//! could not be measured beside that of the analysis. The frames themselves are not kept.
//!
//! A replay ([`run`]) gives these frames to a new [`Scene`]: masks, thresholds, sizes, tracks, zones and
//! events are the live code, not an imitation. Only the networks are replaced: an object gets the
//! [`inferences`] that were made on the same place in the same frame, and none where none was made. Since the
//! frames have no pixels, an object that the camera did not see when they came has no label.
//!
//! A replay differs from what was seen in three ways: it begins without a background, cells are rounded to
//! whole steps of brightness, and an object may lack inferences.

pub mod inferences;
pub mod recording;

#[cfg(test)]
mod tests;

use self::{
    inferences::RecordedClassifier,
    recording::{Decoder, RecordedFrame},
};
use super::{
    path::Path,
    picture::{Paint, Pictures},
    rect::Rect,
    scene::{Scene, Settings, TrackView, Unreported},
    taxonomy::Taxonomy,
    tracks::EndReason,
};
use crate::{
    config,
    error::{Error, ErrorKind},
    frame::Image,
};
use jiff::Timestamp;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use uuid::Uuid;

/// A track that was seen in fewer frames and was not reported is noise.
const MIN_FRAMES: u32 = 2;
/// Maximum number of tracks that are remembered. Beyond it, new ones are counted only.
const MAX_TRACKS: usize = 2000;

/// What a replay has seen.
#[derive(Debug)]
pub struct Seen {
    /// The tracks, in the order in which they began.
    pub tracks: Vec<SeenTrack>,
    /// Number of tracks beyond those.
    pub omitted: usize,
    /// Number of frames.
    pub frames: usize,
    /// Time from the first to the last frame.
    pub duration: Duration,
    /// Capture time of the last frame.
    pub until: Timestamp,
    /// Width and height of the last frame, upright.
    pub size: (f64, f64),
    /// The labels.
    pub taxonomy: Arc<Taxonomy>,
}

/// A track that a replay has seen.
#[derive(Debug)]
pub struct SeenTrack {
    /// Its last label.
    pub label: Option<usize>,
    /// Score of the label, or of the best one if there is none.
    pub score: f32,
    /// When it was seen first and last, as times before the last frame.
    pub first: Duration,
    /// See `first`.
    pub last: Duration,
    /// Where its foot point has been, oldest first.
    pub path: Vec<(f64, f64)>,
    /// Where it was seen best, or last if it was not reported.
    pub rect: Rect,
    /// Indices of the zones that it has entered. Empty if it was not reported.
    pub zones: Vec<usize>,
    /// Whether there is an inference on it.
    pub is_classified: bool,
    /// Why it has no events. None if it has.
    pub unreported: Option<Unreported>,
    frames: u32,
    id: Uuid,
    whole_path: Path,
}

impl SeenTrack {
    /// Whether it has lasted and moved enough to be an object.
    pub fn is_confirmed(&self) -> bool {
        !self.id.is_nil()
    }
}

/// Analyses recorded frames with other settings of their camera. Regions are left out. Returns None if there
/// is no frame, or if `is_wanted`, which is asked before each frame, becomes false.
pub fn run(
    camera: config::Camera,
    objects: config::Objects,
    frames: &[Arc<RecordedFrame>],
    is_wanted: &dyn Fn() -> bool,
) -> Option<Seen> {
    let taxonomy = frames.last()?.taxonomy.clone();
    // The numbers of labels before are those of another model.
    let frames = match frames.iter().rposition(|frame| !Arc::ptr_eq(&frame.taxonomy, &taxonomy)) {
        Some(last) => &frames[last + 1..],
        None => frames,
    };
    let mut scene = Scene::new(Settings {
        objects: config::Objects { score: camera.score, ..objects },
        camera: config::Camera { regions: Vec::new(), heatmap: false, ..camera },
        top: 1,
        pictures_per_frame: 0,
        taxonomy: taxonomy.clone(),
        seed: 0,
    });
    let mut decoder = Decoder::default();
    let mut tracks = Tracks::default();
    let (mut count, mut first, mut until, mut size) = (0, Duration::ZERO, Timestamp::UNIX_EPOCH, (0.0, 0.0));
    for recorded in frames {
        if !is_wanted() {
            return None;
        }
        // The difference from a frame that is no longer there.
        let Some(frame) = decoder.decode(recorded, count + 1) else { continue };
        let mut classifier = RecordedClassifier::new(&recorded.inferences);
        // Without pixels, nothing can fail but what was not recorded.
        let (analysis, _) = scene.analyze(&frame, &mut classifier, &mut NoPainter);
        if count == 0 {
            first = scene.now();
        }
        count += 1;
        (until, size) = (recorded.captured_at, analysis.size);
        tracks.add(&scene, &analysis.events, size);
    }
    if count == 0 {
        return None;
    }
    let now = scene.now();
    let end = scene.end_all(EndReason::Stopped);
    tracks.add_events(&end.events);
    let (tracks, omitted) = tracks.finish(now);
    let duration = now - first;
    Some(Seen { tracks, omitted, frames: count as usize, duration, until, size, taxonomy })
}

/// Collects the tracks of a scene.
#[derive(Default)]
struct Tracks {
    by_number: BTreeMap<u64, SeenTrack>,
    omitted: usize,
    /// Number of the newest track.
    newest: u64,
}

impl Tracks {
    /// Adds the tracks of a frame. The times are those of the scene until [`Tracks::finish`].
    fn add(&mut self, scene: &Scene, events: &[super::events::Event], size: (f64, f64)) {
        let now = scene.now();
        for TrackView { object, number, is_classified, unreported } in scene.view_tracks() {
            if !self.by_number.contains_key(&number) && self.by_number.len() >= MAX_TRACKS {
                self.omitted += usize::from(number > self.newest);
                self.newest = self.newest.max(number);
                continue;
            }
            self.newest = self.newest.max(number);
            let track = self.by_number.entry(number).or_insert_with(|| SeenTrack {
                label: None,
                score: 0.0,
                first: now,
                last: now,
                path: Vec::new(),
                rect: object.rect,
                zones: Vec::new(),
                is_classified: false,
                unreported: None,
                frames: 0,
                id: Uuid::nil(),
                whole_path: Path::default(),
            });
            track.unreported = unreported;
            (track.label, track.score, track.is_classified) = (object.label, object.score, is_classified);
            track.id = object.id;
            if object.visible {
                (track.last, track.rect) = (now, object.rect);
                track.frames += 1;
                track.whole_path.add((object.rect.centre().0, object.rect.bottom()), size);
            }
        }
        self.add_events(events);
    }

    fn add_events(&mut self, events: &[super::events::Event]) {
        for event in events {
            // A track that ends is no longer among those of its scene.
            let Some(track) = self.by_number.values_mut().rev().find(|track| track.id == event.id) else {
                continue;
            };
            track.unreported = None;
            (track.label, track.score, track.rect) = (event.label, event.score, event.best.rect);
            track.zones = event.visited.clone();
        }
    }

    /// The tracks, and the number of those that were omitted. `now` is the scene's time at its end.
    fn finish(self, now: Duration) -> (Vec<SeenTrack>, usize) {
        let is_track = |track: &SeenTrack| track.frames >= MIN_FRAMES || track.unreported.is_none();
        let finished = |track: SeenTrack| SeenTrack {
            path: track.whole_path.points(),
            first: now.saturating_sub(track.first),
            last: now.saturating_sub(track.last),
            ..track
        };
        (self.by_number.into_values().filter(is_track).map(finished).collect(), self.omitted)
    }
}

/// There is nothing to paint: no pictures are taken.
struct NoPainter;

impl Paint for NoPainter {
    fn paint(&mut self, _: &Image, _: &[(Rect, String)]) -> Result<Vec<Pictures>, Error> {
        Err(Error::new(ErrorKind::System, "a recording has no pictures"))
    }
}
