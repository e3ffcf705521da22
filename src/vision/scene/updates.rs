//! Derives objects, events and occupancy from the tracks.
//!
//! A confirmed track is reported once its label is among the camera's `labels`; if that list is empty, once
//! it has any label. From then on it is reported until it ends. A track that has no label yet is an object of
//! the detections, but has no events, if the camera has no list of `labels`.
//!
//! The start of a track that has no label yet, or one that has kinds, waits for up to `objects.name_within`,
//! so that it names the object.

use super::{
    Analysis, Object, ObjectCounts, Occupancy, Paint, Scene, TrackState, ZoneCounts,
    classification::is_cut_off,
};
use crate::{
    frame::Image,
    vision::{
        events::{ChangedField, Event, EventIds, EventKind, Sighting, ZoneTracker},
        path::Path,
        rect::Rect,
        tracks::{EndReason, Track},
    },
};
use jiff::Timestamp;
use std::{collections::BTreeMap, time::Duration};
use uuid::Uuid;

/// Quality factor of an object that is partly outside the image.
const CUT_OFF_QUALITY: f64 = 0.5;
/// Quality factor of an object that is occluded or merged with others.
const NOT_ISOLATED_QUALITY: f64 = 0.7;
/// Maximum time for which a better picture of an object is held back if no event sends it. The first one is
/// not held back.
const MAX_PICTURE_DELAY: Duration = Duration::from_secs(10);

/// What a frame changes about one reported track.
pub(super) struct TrackUpdate {
    /// Index of the track among all tracks.
    pub index: usize,
    /// The event, if there is one.
    pub kind: Option<EventKind>,
    /// The track in this frame.
    pub sighting: Sighting,
    /// The sighting is better than the best so far.
    pub is_better: bool,
}

impl Scene {
    /// Adds the events, objects and pictures of all tracks to the analysis.
    pub(super) fn report_tracks(&mut self, image: &Image, painter: &mut dyn Paint, analysis: &mut Analysis) {
        let Some((_, captured_at)) = self.last else { return };
        let updates = self.collect_updates(captured_at);
        self.take_pictures(&updates, image, painter, analysis);
        let bounds = Rect::from_edges(0.0, 0.0, analysis.size.0, analysis.size.1);
        for TrackUpdate { index, kind, sighting, .. } in updates {
            let track = &self.tracker.tracks()[index];
            let Some(state) = self.track_states.get_mut(&track.number) else { continue };
            let is_overdue = |at: Duration| self.now.saturating_sub(at) >= MAX_PICTURE_DELAY;
            let is_picture_due =
                kind.is_some() || state.is_reported && state.pictures_sent_at.is_none_or(is_overdue);
            if is_picture_due && let Some(pictures) = state.pictures.take() {
                state.pictures_sent_at = Some(self.now);
                analysis.pictures.push((state.id, state.started_at, pictures));
            }
            if let Some(kind) = kind {
                state.is_reported = true;
                let best = state.best.unwrap_or(sighting);
                analysis.events.push(event(track, state, kind, best, captured_at, self.now, analysis.size));
            }
            analysis.objects.push(Object::new(track, state.id, self.now, &bounds));
        }
    }

    /// Updates the state of each confirmed track. Returns the updates of the reported ones, in the order of
    /// the tracks.
    fn collect_updates(&mut self, captured_at: Timestamp) -> Vec<TrackUpdate> {
        let mut updates = Vec::new();
        for (index, track) in self.tracker.tracks().iter().enumerate().filter(|(_, track)| track.confirmed) {
            let state = self
                .track_states
                .entry(track.number)
                .or_insert_with(|| TrackState::new(track, captured_at, self.now, &mut self.ids));
            let is_seen = track.seen_at == self.now;
            let zones_changed = is_seen && state.zones.update(&self.zones, &track.rect, self.size);
            if is_seen && track.isolated {
                state.path.add((track.rect.centre().0, track.rect.bottom()), self.size);
            }
            let label = track.labels.label();
            let kind = if state.is_reported {
                state.changes(track, zones_changed)
            } else {
                let wanted = &self.settings.camera.labels;
                let is_wanted = match wanted.is_empty() {
                    true => label.is_some(),
                    false => self.settings.taxonomy.is_listed(label, wanted),
                };
                let is_named = label.is_some_and(|label| !self.settings.taxonomy.has_kinds(label));
                let waited = self.now.saturating_sub(state.confirmed_at);
                let is_due = is_named || waited >= self.settings.objects.name_within;
                state.is_waiting = is_wanted && !is_due;
                (is_wanted && is_due).then_some(EventKind::Start)
            };
            state.finer_class = track.labels.finer_class();
            (state.label, state.moving) = (label, track.moving);
            if kind == Some(EventKind::Start) {
                state.zones.enter_current();
            }
            let has_events = state.is_reported || state.is_waiting || kind.is_some();
            let is_listed = has_events || self.settings.camera.labels.is_empty();
            if !is_listed {
                continue;
            }
            let sighting = sighting(track, captured_at, self.now, self.size);
            let is_better =
                has_events && is_seen && state.best.is_none_or(|best| best.is_surpassed_by(&sighting));
            updates.push(TrackUpdate { index, kind, sighting, is_better });
        }
        updates
    }

    /// Reports the end of a track, if its start was reported. A start that has waited for a name is reported
    /// now.
    pub(super) fn report_end(&mut self, track: &Track, reason: EndReason, analysis: &mut Analysis) {
        let has_events = |state: &TrackState| state.is_reported || state.is_waiting;
        let Some(mut state) = self.track_states.remove(&track.number).filter(has_events) else { return };
        let Some((_, captured_at)) = self.last else { return };
        let best = state.best.unwrap_or_else(|| sighting(track, captured_at, self.now, self.size));
        let pictures = state.pictures.take();
        analysis.pictures.extend(pictures.map(|pictures| (state.id, state.started_at, pictures)));
        if !state.is_reported {
            state.zones.enter_current();
            let start = EventKind::Start;
            analysis.events.push(event(track, &state, start, best, captured_at, self.now, self.size));
        }
        let kind = EventKind::End(reason);
        analysis.events.push(event(track, &state, kind, best, captured_at, self.now, self.size));
    }

    /// Reports the objects in view if they have changed since they were last reported.
    pub(super) fn report_occupancy(&mut self, analysis: &mut Analysis) {
        let Some((_, at)) = self.last else { return };
        let mut counts =
            ObjectCounts { zones: vec![ZoneCounts::default(); self.zones.len()], ..Default::default() };
        for state in self.track_states.values().filter(|state| state.is_reported) {
            let lineage: Vec<Option<usize>> = match state.label {
                Some(label) => self.settings.taxonomy.lineage(label).map(Some).collect(),
                None => vec![None],
            };
            let count = |total: &mut usize, labels: &mut BTreeMap<Option<usize>, usize>| {
                *total += 1;
                lineage.iter().for_each(|label| *labels.entry(*label).or_default() += 1);
            };
            count(&mut counts.total, &mut counts.labels);
            for &zone in &state.zones.inside {
                let zone = &mut counts.zones[zone];
                count(&mut zone.total, &mut zone.labels);
            }
        }
        if self.occupancy.as_ref() != Some(&counts) {
            self.occupancy = Some(counts.clone());
            analysis.occupancy = Some(Occupancy { at, counts });
        }
    }
}

impl Object {
    /// A track at the time `now`. `bounds` are those of the image.
    pub(super) fn new(track: &Track, id: Uuid, now: Duration, bounds: &Rect) -> Object {
        Object {
            id,
            label: track.labels.label(),
            finer_class: track.labels.finer_class(),
            score: track.labels.score(),
            rect: track.estimate(now, bounds),
            moving: track.moving,
            visible: track.seen_at == now,
            top: track.labels.top().to_vec(),
        }
    }
}

impl TrackState {
    /// The state of a track that was confirmed in the frame of time `now`, captured at `captured_at`.
    fn new(track: &Track, captured_at: Timestamp, now: Duration, ids: &mut EventIds) -> TrackState {
        let started_at = to_timestamp(track.first_seen_at, captured_at, now);
        TrackState {
            id: ids.next(started_at),
            started_at,
            confirmed_at: now,
            is_reported: false,
            is_waiting: false,
            label: None,
            finer_class: None,
            moving: true,
            zones: ZoneTracker::default(),
            path: Path::default(),
            best: None,
            pictures: None,
            pictures_sent_at: None,
        }
    }

    /// What has changed since the last frame. None if nothing has.
    fn changes(&self, track: &Track, zones_changed: bool) -> Option<EventKind> {
        let fields = [
            (track.labels.label() != self.label, ChangedField::Label),
            (track.labels.finer_class() != self.finer_class, ChangedField::SubLabel),
            (zones_changed, ChangedField::Zones),
            (track.moving != self.moving, ChangedField::Moving),
        ];
        let changed: Vec<ChangedField> =
            fields.into_iter().filter(|(changed, _)| *changed).map(|(_, field)| field).collect();
        (!changed.is_empty()).then_some(EventKind::Update(changed))
    }
}

/// The time of day of `scene_time`, given that the frame of time `now` was captured at `captured_at`.
fn to_timestamp(scene_time: Duration, captured_at: Timestamp, now: Duration) -> Timestamp {
    captured_at.saturating_sub(now.saturating_sub(scene_time)).unwrap_or(captured_at)
}

fn event(
    track: &Track,
    state: &TrackState,
    kind: EventKind,
    best: Sighting,
    captured_at: Timestamp,
    now: Duration,
    size: (f64, f64),
) -> Event {
    let path = if matches!(kind, EventKind::End(_)) { state.path.points() } else { Vec::new() };
    Event {
        id: state.id,
        kind,
        path,
        at: captured_at,
        started_at: state.started_at,
        seen_at: to_timestamp(track.seen_at, captured_at, now),
        duration: track.seen_at.saturating_sub(track.first_seen_at),
        label: state.label,
        finer_class: state.finer_class,
        score: track.labels.score(),
        rect: track.rect,
        size,
        moving: track.moving,
        zones: state.zones.inside.clone(),
        visited: state.zones.visited.clone(),
        best,
    }
}

/// A sighting of a track in an image of `size`. Its quality is best for a large, whole and isolated object
/// with a high score.
fn sighting(track: &Track, at: Timestamp, scene_time: Duration, size: (f64, f64)) -> Sighting {
    let whole = if is_cut_off(&track.rect, size) { CUT_OFF_QUALITY } else { 1.0 };
    let isolated = if track.isolated { 1.0 } else { NOT_ISOLATED_QUALITY };
    let quality = track.rect.area().sqrt() * (0.3 + f64::from(track.labels.score())) * whole * isolated;
    Sighting { at, scene_time, rect: track.rect, quality }
}
