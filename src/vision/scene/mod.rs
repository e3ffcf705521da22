//! The analysis of one camera's frames: motion, tracks, classification, events.
//!
//! A [`Scene`] is the state of one camera between frames. It travels with the frames from worker to worker,
//! and the classifier and the painter are passed in. The same frames give the same events, whatever the
//! threads and the pace.
//!
//! A scene has its own time line. It starts at zero, advances with the stream time of the frames and never
//! goes back.

mod classification;
mod findings;
mod pictures;
mod search;
mod updates;
mod view;

#[cfg(test)]
mod tests;

pub use self::{
    findings::Findings,
    pictures::caption,
    search::Found,
    view::{TrackView, Unreported},
};

use self::search::Search;
use super::{
    events::{Event, EventIds, Sighting, ZoneTracker},
    head::{Score, classes::Heatmap},
    luma::Luma,
    motion::{MotionDetector, SceneChange},
    path::Path,
    picture::{Paint, Pictures},
    rect::{Rect, upright_size},
    regions::{RegionClassifier, RegionState},
    taxonomy::Taxonomy,
    tracks::{EndReason, Tracker},
};
use crate::{
    config::{self, polygon::Polygon},
    error::Error,
    frame::{Frame, Image},
};
use jiff::Timestamp;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use uuid::Uuid;

/// All tracks end if no frame came for longer than this and than [`MAX_GAP_INTERVALS`].
const MAX_GAP: Duration = Duration::from_secs(60);
/// The same in frame intervals at the camera's rate.
const MAX_GAP_INTERVALS: u32 = 3;
/// A frame is late if it is older than the newest one by no more than this or than [`MAX_DELAY_INTERVALS`].
/// If it is even older, the stream has started anew.
const MAX_DELAY: Duration = Duration::from_secs(1);
/// The same in frame intervals at the camera's rate.
const MAX_DELAY_INTERVALS: u32 = 3;

/// Classifies regions of images.
pub trait Infer {
    /// Returns the probabilities of the everyday head's outputs for `rect` of the image. Empty if there is no
    /// such head.
    ///
    /// Errors: the pixels cannot be read, or the engine fails.
    fn everyday(&mut self, image: &Image, rect: &Rect) -> Result<Vec<f32>, Error>;

    /// Returns the softmax scores of the network's classes. The region must be that of the last call of
    /// [`Infer::everyday`], whose inference is continued.
    ///
    /// Errors: as for [`Infer::everyday`].
    fn classes(&mut self, image: &Image, rect: &Rect) -> Result<&[f32], Error>;

    /// Whether the network with the classes has an everyday head of its own.
    fn has_second_opinion(&self) -> bool {
        false
    }

    /// Returns the probabilities of that head's outputs in the region of the last [`Infer::classes`]. Empty
    /// if there is none.
    fn second_opinion(&self) -> &[f32] {
        &[]
    }

    /// Whether this part of the image can be classified. A replay knows only what was classified when the
    /// frame came.
    fn knows(&self, _rect: &Rect) -> bool {
        true
    }

    /// Whether there is time for another inference on a tracked object of this frame.
    fn has_time(&self) -> bool {
        true
    }

    /// Width and height of the detector's inputs, of which [`Infer::detect`] takes the one that fits best.
    /// Empty without a detector.
    fn detector_sizes(&self) -> &[(usize, usize)] {
        &[]
    }

    /// Returns the objects that a detector finds in `rect` of the image. None are found without a detector.
    ///
    /// Errors: as for [`Infer::everyday`].
    fn detect(&mut self, image: &Image, rect: &Rect) -> Result<Vec<Found>, Error> {
        let _ = (image, rect);
        Ok(Vec::new())
    }

    /// Returns the heatmap of a class in the region of the last [`Infer::classes`]; see
    /// [`super::head::classes::ClassHead::heatmap`].
    fn heatmap(&mut self, class: usize) -> Option<Heatmap>;
}

/// Settings of one camera's scene.
#[derive(Debug)]
pub struct Settings {
    /// The camera.
    pub camera: config::Camera,
    /// Settings of object tracking, the same for all cameras.
    pub objects: config::Objects,
    /// Number of best classes reported for each object.
    pub top: usize,
    /// Maximum number of objects per frame of which pictures are taken. 0: none are taken.
    pub pictures_per_frame: usize,
    /// The labels of objects.
    pub taxonomy: Arc<Taxonomy>,
    /// Seed of the event ids. It must differ between cameras and between runs, unless a recording is to give
    /// the same ids again.
    pub seed: u64,
}

/// The analysis state of one camera.
#[derive(Debug)]
pub struct Scene {
    settings: Settings,
    zones: Vec<(String, Polygon)>,
    motion: MotionDetector,
    tracker: Tracker,
    regions: Vec<RegionClassifier>,
    search: Search,
    /// By track number. Confirmed tracks only.
    track_states: BTreeMap<u64, TrackState>,
    /// Occupancy as last reported.
    occupancy: Option<ObjectCounts>,
    ids: EventIds,
    /// By track number, the heatmap of the last inference. Kept until the track is reported.
    heatmaps: BTreeMap<u64, Heatmap>,
    /// Counts the choices of objects to classify.
    inference_turn: u32,
    /// Time of the last frame on the scene's time line.
    now: Duration,
    /// The newest stream time so far, and the capture time of the last frame.
    last: Option<(Duration, Timestamp)>,
    /// Size of the last frame.
    size: (f64, f64),
}

/// What was last reported of a track, and what is still to be reported.
#[derive(Debug)]
struct TrackState {
    id: Uuid,
    started_at: Timestamp,
    /// When the track was confirmed.
    confirmed_at: Duration,
    /// The start event was reported.
    is_reported: bool,
    /// The object is to be reported, but waits for its name.
    is_waiting: bool,
    label: Option<usize>,
    finer_class: Option<usize>,
    moving: bool,
    zones: ZoneTracker,
    path: Path,
    best: Option<Sighting>,
    /// Pictures of the best sighting that were not sent yet.
    pictures: Option<Pictures>,
    /// When pictures were last sent. None if they never were.
    pictures_sent_at: Option<Duration>,
}

/// Result of the analysis of one frame.
#[derive(Debug, Default)]
pub struct Analysis {
    /// Width and height of the upright frame.
    pub size: (f64, f64),
    /// The objects that were reported and have not ended. Without a list of `labels`, also those that have no
    /// label yet.
    pub objects: Vec<Object>,
    /// Events of this frame, in order.
    pub events: Vec<Event>,
    /// The occupancy, if it has changed.
    pub occupancy: Option<Occupancy>,
    /// The whole scene changed.
    pub change: Option<SceneChange>,
    /// Regions with a new state.
    pub regions: Vec<RegionState>,
    /// Pictures of the best sightings of objects, with the event id and the start time.
    pub pictures: Vec<(Uuid, Timestamp, Pictures)>,
    /// Heatmaps of this frame's inferences, if the camera's configuration enables them, with the event id.
    pub heatmaps: Vec<(Uuid, Heatmap)>,
    /// Why pictures are missing.
    pub paint_error: Option<Error>,
    /// Number of inferences.
    pub inferences: u32,
}

/// The objects in view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occupancy {
    /// Capture time of the frame.
    pub at: Timestamp,
    /// Objects whose start was reported and whose end was not.
    pub counts: ObjectCounts,
}

/// Numbers of objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectCounts {
    /// Number of objects.
    pub total: usize,
    /// The same by label. An object counts for its label and for those that contain it.
    pub labels: BTreeMap<Option<usize>, usize>,
    /// The same for those in each zone, by the zone's index. All zones are listed.
    pub zones: Vec<ZoneCounts>,
}

/// Numbers of the objects in a zone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ZoneCounts {
    /// Number of objects.
    pub total: usize,
    /// The same by label, as in [`ObjectCounts::labels`].
    pub labels: BTreeMap<Option<usize>, usize>,
}

/// An object in a frame.
#[derive(Debug, Clone)]
pub struct Object {
    /// The same as in the object's events.
    pub id: Uuid,
    /// The object's label.
    pub label: Option<usize>,
    /// The class that is a finer name for it.
    pub finer_class: Option<usize>,
    /// Mean score of the label, or of the best one if there is none.
    pub score: f32,
    /// Position.
    pub rect: Rect,
    /// The object is not stationary.
    pub moving: bool,
    /// The object was seen in this frame. If false, it is occluded and its position is predicted.
    pub visible: bool,
    /// The best classes of the last inference. Empty if they were not computed.
    pub top: Vec<Score>,
}

impl Scene {
    /// Creates an empty scene.
    pub fn new(settings: Settings) -> Scene {
        let camera = &settings.camera;
        let zones =
            camera.zones.iter().map(|(name, corners)| (name.clone(), Polygon(corners.clone()))).collect();
        let masks = camera.masks.iter().cloned().map(Polygon).collect();
        Scene {
            zones,
            motion: MotionDetector::new(camera.motion.clone(), masks),
            tracker: Tracker::new(settings.objects.clone()),
            regions: camera.regions.iter().cloned().map(RegionClassifier::new).collect(),
            search: Search::default(),
            track_states: BTreeMap::new(),
            occupancy: None,
            ids: EventIds::new(settings.seed),
            heatmaps: BTreeMap::new(),
            inference_turn: 0,
            now: Duration::ZERO,
            last: None,
            size: (0.0, 0.0),
            settings,
        }
    }

    /// The settings given to [`Scene::new`], with the changes of [`Scene::adjust`].
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Changes the motion threshold and the minimum score of a label.
    pub fn adjust(&mut self, motion_threshold: f64, score: f32) {
        self.motion.set_threshold(motion_threshold);
        self.settings.objects.score = score;
    }

    /// The last frame, scaled down.
    pub fn luma(&self) -> &Luma {
        self.motion.luma()
    }

    /// Time of the last frame on the scene's time line.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Changes [`Settings::pictures_per_frame`].
    pub fn set_pictures_per_frame(&mut self, count: usize) {
        self.settings.pictures_per_frame = count;
    }

    /// The names of the camera's zones. Events refer to zones by their index in this order.
    pub fn zone_names(&self) -> impl Iterator<Item = &str> {
        self.zones.iter().map(|(name, _)| name.as_str())
    }

    /// Analyses the next frame. A frame that is not newer than those before counts as of the same time.
    ///
    /// Errors: the pixels cannot be read, or the engine fails. The analysis and the scene are valid
    /// nevertheless. The analysis must be reported, because its events are not returned again.
    pub fn analyze(
        &mut self,
        frame: &Frame,
        classifier: &mut dyn Infer,
        painter: &mut dyn Paint,
    ) -> (Analysis, Result<(), Error>) {
        let image = &frame.image;
        let mut analysis = Analysis { size: upright_size(image), ..Analysis::default() };
        self.advance(frame, &mut analysis);
        let mut search_outcome = Ok(());
        if let Some(mut motion) = self.motion.detect(image, self.now, &self.tracker.stationary()) {
            analysis.change = motion.change;
            let searched = self.search(image, classifier, &mut motion, &mut analysis);
            let update = self.tracker.update(&motion, &mut self.motion, image, self.now);
            for (track, reason) in update.ended {
                if reason == EndReason::Settled {
                    self.search.settle(track.rect);
                }
                self.report_end(&track, reason, &mut analysis);
            }
            match searched {
                Ok(searched) => self.add_searched(image, searched, &analysis),
                Err(error) => search_outcome = Err(error),
            }
        }
        let tracks_outcome = self.classify_tracks(image, classifier, &mut analysis);
        self.report_tracks(image, painter, &mut analysis);
        self.report_heatmaps(&mut analysis);
        self.report_occupancy(&mut analysis);
        let regions_outcome = self.classify_regions(frame, classifier, &mut analysis);
        (analysis, search_outcome.and(tracks_outcome).and(regions_outcome))
    }

    /// Ends all tracks, because no more frames come for now.
    pub fn end_all(&mut self, reason: EndReason) -> Analysis {
        let mut analysis = Analysis { size: self.size, ..Analysis::default() };
        self.end_tracks(reason, &mut analysis);
        self.report_occupancy(&mut analysis);
        analysis
    }

    /// Advances the scene's time to the frame. Ends all tracks if the frame does not continue what came
    /// before.
    fn advance(&mut self, frame: &Frame, analysis: &mut Analysis) {
        let newest = self.last.map_or(frame.stream_time, |(newest, _)| newest);
        let elapsed = frame.stream_time.saturating_sub(newest);
        if elapsed > MAX_GAP.max(self.intervals(MAX_GAP_INTERVALS)) {
            self.end_tracks(EndReason::CameraLost, analysis);
        }
        if !self.motion.has_same_geometry(&frame.image) {
            self.end_tracks(EndReason::VideoChanged, analysis);
        }
        self.now += elapsed;
        // Frames out of order must not make time run faster. If the stream has started anew, time continues
        // from there.
        let max_delay = MAX_DELAY.max(self.intervals(MAX_DELAY_INTERVALS));
        let is_late = newest.saturating_sub(frame.stream_time) <= max_delay;
        let newest = if is_late { newest.max(frame.stream_time) } else { frame.stream_time };
        self.last = Some((newest, frame.captured_at));
        self.size = analysis.size;
    }

    /// The duration of `count` frame intervals at the camera's rate.
    fn intervals(&self, count: u32) -> Duration {
        let interval = Duration::try_from_secs_f64(1.0 / self.settings.camera.rate_fps);
        interval.unwrap_or(Duration::MAX).saturating_mul(count)
    }

    fn end_tracks(&mut self, reason: EndReason, analysis: &mut Analysis) {
        for (track, reason) in self.tracker.end_all(reason) {
            self.report_end(&track, reason, analysis);
        }
    }
}
