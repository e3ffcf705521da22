//! Which spot of one picture is which thing of the picture before: tracks.
//!
//! Each track foretells where it will be (it keeps its speed), and tracks and spots are paired so that the sum of how
//! well they fit is the largest (Hungarian method): by overlap, by distance, by brightness. What is left over is
//! explained next: a spot within a track's place is another part of it; a track whose place lies in another's spot is in
//! front of or behind that one, and both are found again by how they looked; a track that is nowhere was hidden or has
//! gone. A spot that nothing explains is a new track, and stays a guess until it has held for a while and moved.
//!
//! A thing that stands still is compared with how it looked, and as long as it looks the same it is there, whatever moves
//! around it; the background does not learn what a track holds. Where the background had to be learned anew, with the
//! thing in it, the track holds on in the same way.

use super::{
    label_accumulator::LabelAccumulator,
    motion::{MotionDetector, MotionRegion, MotionResult, StationaryObject},
    patch::TemplatePatch,
    rect::Rect,
};
use crate::{config, frame::Image};
use pathfinding::{kuhn_munkres::kuhn_munkres, matrix::Matrix};
use std::time::Duration;

/// How much of a measured speed is believed; the rest is the speed so far.
const SPEED_GAIN: f64 = 0.5;
/// Farther apart than so many of their mean diagonals, a track and a spot have nothing to do with each other: where the
/// track's speed is known, and where it is not.
const REACH: f64 = 0.7;
const FIRST_REACH: f64 = 1.2;
/// A spot that is smaller than this part of a track is a part of it at most.
const CRUMB: f64 = 0.2;
/// So much of a spot in a track's place makes it a part of that track.
const PART: f64 = 0.5;
/// How far a track is looked for around its foretold place where it is not alone, in parts of its diagonal.
const SEARCH: f64 = 0.25;
/// A patch that agrees so well is where it was.
const AGREES: f32 = 0.6;
/// MotionResult by so much of its diagonal since it was first seen, a spot is a thing and no flickering.
const MOVED: f64 = 0.1;
/// Within so much of its diagonal it stands still; beyond it moves again.
const STANDS: f64 = 0.12;
/// StationaryObject for so long makes it a thing that stands.
const STANDS_FOR: Duration = Duration::from_secs(2);
/// Analysis less long before than this, a track is where it was foretold; after that its speed is no longer believed.
const BELIEVED: Duration = Duration::from_secs(1);
/// So much of its diagonal in a second, towards the picture's edge, is a way out.
const OUTWARDS: f64 = 0.1;
/// A guess that is not seen for so long is none.
const GUESS: Duration = Duration::from_millis(1200);

/// Why a track ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// It went out of the picture.
    Left,
    /// It is no longer seen.
    Lost,
    /// It has not moved for so long that it belongs to the scene.
    Settled,
    /// The whole scene changed.
    SceneChanged,
    /// The video has another size.
    VideoChanged,
    /// The camera gives no pictures any more, or those it gives are of much later.
    CameraLost,
    /// The recording is over, or camfire ends.
    Stopped,
}

/// A thing on its way through the picture.
#[derive(Debug, Clone)]
pub struct Track {
    /// Counts the camera's tracks, guesses too.
    pub number: u64,
    /// Where it is.
    pub rect: Rect,
    /// Pixels a second, right and down.
    pub speed: (f64, f64),
    /// When it was first seen, on the frames' time line.
    pub first_at: Duration,
    /// When it was last seen.
    pub seen_at: Duration,
    /// When it was last where it must be: seen, or in the same spot as others and not made out there.
    held_at: Duration,
    /// No longer a guess.
    pub confirmed: bool,
    /// It does not stand still.
    pub moving: bool,
    /// Analysis in this picture by itself: neither foretold nor together with others.
    pub alone: bool,
    /// What it seems to be.
    pub labels: LabelAccumulator,
    /// It looks the same where it stood.
    stands: bool,
    /// The background was learned anew with it.
    is_learned: bool,
    pictures: u32,
    first: Rect,
    histogram: Vec<f32>,
    /// How it looked when it was last alone.
    patch: Option<TemplatePatch>,
    /// Where it began to stand, and when.
    anchor: (Rect, Duration),
}

impl Track {
    /// Where it will be at `at` if it goes on like this; partly or wholly outside the picture, too.
    pub fn predict(&self, at: Duration) -> Rect {
        let passed = at.saturating_sub(self.held_at).min(BELIEVED).as_secs_f64();
        self.rect.moved((self.speed.0 * passed, self.speed.1 * passed))
    }

    /// Where it is at `at` as far as one can tell: where it was seen, or within a picture of this size where it is foretold.
    pub fn expected(&self, at: Duration, size: &Rect) -> Rect {
        let foretold = self.predict(at).intersection(size);
        if self.held_at == at || foretold.area() < 1.0 { self.rect } else { foretold }
    }

    /// How it looked, if it stands still.
    fn standing(&self) -> Option<StationaryObject<'_>> {
        let patch = self.patch.as_ref().filter(|_| self.confirmed && !self.moving)?;
        Some(StationaryObject { patch, in_background: self.is_learned })
    }

    /// Its speed has been measured.
    fn has_speed(&self) -> bool {
        self.pictures >= 2
    }

    fn is_sure_of_motion(&self) -> bool {
        let ((x, y), (first_x, first_y)) = (self.rect.centre(), self.first.centre());
        let least = MOVED * self.rect.diagonal().min(self.first.diagonal());
        // Also by its edges: what comes in grows before its middle moves.
        let edges = [
            self.rect.left - self.first.left,
            self.rect.right() - self.first.right(),
            self.rect.top - self.first.top,
            self.rect.bottom() - self.first.bottom(),
        ];
        (x - first_x).hypot(y - first_y) >= least || edges.iter().any(|edge| edge.abs() >= 2.0 * least)
    }
}

/// All tracks of one camera.
#[derive(Debug)]
pub struct Tracker {
    settings: config::Objects,
    tracks: Vec<Track>,
    next_number: u64,
}

/// What became of the tracks at a picture.
#[derive(Debug, Default)]
pub struct Step {
    /// Tracks that are no more, confirmed ones and why.
    pub ended: Vec<(Track, EndReason)>,
}

impl Tracker {
    /// Without tracks.
    pub fn new(settings: config::Objects) -> Tracker {
        Tracker { settings, tracks: Vec::new(), next_number: 1 }
    }

    /// All tracks, guesses too, in the order in which they began.
    pub fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    /// The same, to look closer at what they are.
    pub fn tracks_mut(&mut self) -> &mut [Track] {
        &mut self.tracks
    }

    /// How the things that stand still looked, for [`MotionDetector::detect`].
    pub fn standing(&self) -> Vec<StationaryObject<'_>> {
        self.tracks.iter().filter_map(Track::standing).collect()
    }

    /// Ends all tracks.
    pub fn end_all(&mut self, why: EndReason) -> Vec<(Track, EndReason)> {
        self.tracks.drain(..).filter(|track| track.confirmed).map(|track| (track, why)).collect()
    }

    /// Takes what motion found in the picture of time `at`, and tells motion what to learn.
    pub fn step(
        &mut self,
        moved: &MotionResult,
        motion: &mut MotionDetector,
        image: &Image,
        at: Duration,
    ) -> Step {
        let size = Rect::whole(image);
        let mut step = Step::default();
        if moved.relearned {
            self.survive_change(motion, &mut step);
        }
        // What stands is known; everything else has to be found.
        let mut stands = moved.still_present.iter();
        for track in &mut self.tracks {
            track.stands = track.standing().is_some() && stands.next().is_some_and(|stands| *stands);
            if track.stands {
                (track.seen_at, track.held_at, track.alone) = (at, at, true);
            }
        }
        let foretold: Vec<Rect> =
            self.tracks.iter().map(|track| track.predict(at).intersection(&size)).collect();
        let mut pairing = self.pair(&foretold, &moved.regions, at);
        self.find_shared(&foretold, &moved.regions, &mut pairing);

        let mut new_spots = Vec::new();
        for (index, spot) in moved.regions.iter().enumerate() {
            if pairing.owners[index].is_empty() {
                new_spots.push(spot);
            }
        }
        for (index, foretold) in foretold.iter().enumerate() {
            self.measure(index, foretold, moved, &pairing, motion, image, at);
        }
        self.end_or_keep(&size, moved, &pairing, motion, at, &mut step);
        for spot in new_spots {
            if !moved.settling {
                self.begin(spot, at);
            }
        }
        step
    }

    /// Pairs tracks with spots, one to one.
    fn pair(&self, foretold: &[Rect], spots: &[MotionRegion], at: Duration) -> Pairing {
        let mut pairing =
            Pairing { spots: vec![Vec::new(); foretold.len()], owners: vec![Vec::new(); spots.len()] };
        if foretold.is_empty() || spots.is_empty() {
            return pairing;
        }
        // A column more for each track: nothing.
        let columns = spots.len() + foretold.len();
        let weights = Matrix::from_fn(foretold.len(), columns, |(row, column)| match spots.get(column) {
            Some(spot) => (1e4 * self.fit(&self.tracks[row], &foretold[row], spot, at)) as i64,
            None => 0,
        });
        let (_, columns) = kuhn_munkres(&weights);
        for (row, column) in columns.into_iter().enumerate() {
            if column < spots.len() && weights[(row, column)] > 0 {
                pairing.spots[row].push(column);
                pairing.owners[column].push(row);
            }
        }
        pairing
    }

    /// How well a spot fits a track, 0 for not at all.
    fn fit(&self, track: &Track, foretold: &Rect, spot: &MotionRegion, at: Duration) -> f64 {
        if track.stands {
            return 0.0;
        }
        let mean_diagonal = 0.5 * (foretold.diagonal() + spot.rect.diagonal());
        let ((x, y), (spot_x, spot_y)) = (foretold.centre(), spot.rect.centre());
        let distance = (x - spot_x).hypot(y - spot_y) / mean_diagonal.max(1.0);
        let overlap = foretold.iou(&spot.rect);
        let inside = foretold.share_in(&spot.rect).max(spot.rect.share_in(foretold));
        let unseen = at.saturating_sub(track.held_at) > BELIEVED;
        let reach = if track.has_speed() && !unseen { REACH } else { FIRST_REACH };
        if distance > reach && inside < 0.5 {
            return 0.0;
        }
        // A crumb of it is not it, unless the rest is beyond the picture's edge.
        let smaller = spot.rect.area() / foretold.area().max(1.0);
        if track.confirmed && smaller < CRUMB && foretold.area() > 0.9 * track.rect.area() {
            return 0.0;
        }
        let near = (1.0 - distance / reach).max(0.0);
        let alike: f32 =
            track.histogram.iter().zip(&spot.histogram).map(|(ours, theirs)| ours.min(*theirs)).sum();
        // A confirmed track goes before a guess.
        let standing = if track.confirmed { 0.2 } else { 0.0 };
        0.05 + near + overlap + 0.3 * inside + 0.4 * f64::from(alike) + standing
    }

    /// Spots that are further parts of a track, and tracks that have a part in another's spot.
    fn find_shared(&self, foretold: &[Rect], spots: &[MotionRegion], pairing: &mut Pairing) {
        for (index, spot) in spots.iter().enumerate() {
            if !pairing.owners[index].is_empty() {
                continue;
            }
            // What sticks out of a thing that stands is a rim that was not there before: its shadow, mostly.
            let stands = |track: usize| self.tracks[track].stands;
            let share = |track: &usize| {
                spot.rect.share_in(&foretold[*track].expanded(if stands(*track) { 0.3 } else { 0.1 }))
            };
            let may_have_parts =
                |track: &usize| self.tracks[*track].confirmed || !pairing.spots[*track].is_empty();
            let owner = (0..foretold.len())
                .filter(|track| may_have_parts(track) && share(track) >= PART)
                .max_by(|a, b| share(a).total_cmp(&share(b)).then(b.cmp(a)));
            if let Some(track) = owner {
                pairing.spots[track].push(index);
                pairing.owners[index].push(track);
            }
        }
        for (track, foretold) in foretold.iter().enumerate() {
            let Track { confirmed, stands, .. } = self.tracks[track];
            if !pairing.spots[track].is_empty() || !confirmed || stands {
                continue;
            }
            let share = |spot: &usize| foretold.share_in(&spots[*spot].rect);
            let host = (0..spots.len())
                .filter(|spot| !pairing.owners[*spot].is_empty() && share(spot) >= PART)
                .max_by(|a, b| share(a).total_cmp(&share(b)).then(b.cmp(a)));
            if let Some(spot) = host {
                pairing.owners[spot].push(track);
            }
        }
    }

    /// Moves a track to where it was found, or where it is foretold to be hidden.
    #[allow(clippy::too_many_arguments, reason = "all of one picture")]
    fn measure(
        &mut self,
        index: usize,
        foretold: &Rect,
        moved: &MotionResult,
        pairing: &Pairing,
        motion: &MotionDetector,
        image: &Image,
        at: Duration,
    ) {
        let own = &pairing.spots[index];
        // Others in the same spot, as far as they are no guesses.
        let shared = pairing.owners.iter().any(|owners| {
            owners.contains(&index)
                && owners.iter().any(|&other| other != index && self.tracks[other].confirmed)
        });
        let track = &mut self.tracks[index];
        if track.stands {
            return;
        }
        track.alone = false;
        let passed = at.saturating_sub(track.held_at).as_secs_f64();
        if shared {
            // Its own size is known from before; where it is, by how it looked, or else by its speed.
            let found = track
                .patch
                .as_ref()
                .map(|patch| motion.find(patch, foretold, SEARCH * foretold.diagonal(), image));
            track.rect = *foretold;
            if let Some((by, agreement)) = found
                && agreement >= AGREES
            {
                track.rect = foretold.moved(by);
                track.seen_at = at;
            }
            track.held_at = at;
            track.pictures += 1;
            return;
        }
        if own.is_empty() {
            return;
        }
        let spots = own.iter().map(|&spot| &moved.regions[spot]);
        let measured = spots.clone().map(|spot| spot.rect).reduce(|a, b| a.union(&b));
        let Some(rect) = measured else { return };
        if passed > 0.0 {
            let gain = if track.has_speed() { SPEED_GAIN } else { 1.0 };
            let speed = velocity(&track.rect, &rect, &Rect::whole(image), passed);
            track.speed.0 += gain * (speed.0 - track.speed.0);
            track.speed.1 += gain * (speed.1 - track.speed.1);
        }
        track.rect = rect;
        (track.seen_at, track.held_at) = (at, at);
        track.pictures += 1;
        (track.alone, track.is_learned) = (true, false);
        if let Some(largest) = spots.max_by(|a, b| a.rect.area().total_cmp(&b.rect.area())) {
            for (ours, theirs) in track.histogram.iter_mut().zip(&largest.histogram) {
                *ours += 0.3 * (theirs - *ours);
            }
        }
        track.patch = Some(motion.patch(&track.rect, image));
        let settings = &self.settings;
        let held = at.saturating_sub(track.first_at);
        if !track.confirmed && track.pictures >= 2 && held >= settings.confirm {
            track.confirmed = track.is_sure_of_motion() || track.labels.label().is_some();
        }
    }

    /// Ends what has gone and what has become a part of the scene; says of the rest whether it moves. Then motion may
    /// learn.
    fn end_or_keep(
        &mut self,
        size: &Rect,
        moved: &MotionResult,
        pairing: &Pairing,
        motion: &mut MotionDetector,
        at: Duration,
        step: &mut Step,
    ) {
        let mut kept = Vec::new();
        let mut covered = vec![false; moved.regions.len()];
        for (index, mut track) in std::mem::take(&mut self.tracks).into_iter().enumerate() {
            let held = track.held_at == at;
            let spots = || (0..moved.regions.len()).filter(|spot| pairing.owners[*spot].contains(&index));
            let unseen_for = at.saturating_sub(track.held_at);
            if !held {
                let outside = is_leaving(&track, size, at);
                let patience = if track.confirmed { self.settings.lost_after } else { GUESS };
                if outside || unseen_for >= patience {
                    let why = if outside { EndReason::Left } else { EndReason::Lost };
                    if track.confirmed {
                        step.ended.push((track, why));
                    }
                    continue;
                }
                kept.push(track);
                continue;
            }
            self.settings.stand(&mut track, at);
            // What appeared without coming from anywhere and is nothing that has a name belongs to the scene; so does,
            // in the end, everything that does not move.
            let guess_for = at.saturating_sub(track.first_at);
            let stands_for = if track.moving { Duration::ZERO } else { at.saturating_sub(track.anchor.1) };
            let is_scenery = !track.confirmed && guess_for >= self.settings.absorb_after;
            let is_settled = track.confirmed && stands_for >= self.settings.settled_after;
            if is_scenery || is_settled {
                spots().for_each(|spot| motion.absorb(&moved.regions[spot]));
                if let Some(patch) = track.patch.as_ref().filter(|_| track.stands) {
                    motion.absorb_patch(patch);
                }
                if track.confirmed {
                    step.ended.push((track, EndReason::Settled));
                }
                continue;
            }
            if track.confirmed {
                spots().for_each(|spot| covered[spot] = true);
            }
            kept.push(track);
        }
        self.tracks = kept;
        let spots = moved.regions.iter().zip(&covered);
        motion.learn(spots.filter(|(_, covered)| **covered).map(|(spot, _)| spot));
    }

    /// The background was learned anew, with all that stands in it: what stands is held by how it looks, the rest is
    /// lost from sight.
    fn survive_change(&mut self, motion: &MotionDetector, step: &mut Step) {
        for mut track in std::mem::take(&mut self.tracks) {
            let agrees = track.patch.as_ref().is_some_and(|patch| motion.correlation(patch) >= AGREES);
            if track.confirmed && !track.moving && agrees {
                track.is_learned = true;
                self.tracks.push(track);
            } else if track.confirmed {
                step.ended.push((track, EndReason::SceneChanged));
            }
        }
    }

    fn begin(&mut self, spot: &MotionRegion, at: Duration) {
        self.tracks.push(Track {
            number: self.next_number,
            rect: spot.rect,
            speed: (0.0, 0.0),
            first_at: at,
            seen_at: at,
            held_at: at,
            confirmed: false,
            moving: true,
            alone: true,
            labels: LabelAccumulator::default(),
            stands: false,
            is_learned: false,
            pictures: 1,
            first: spot.rect,
            histogram: spot.histogram.to_vec(),
            patch: None,
            anchor: (spot.rect, at),
        });
        self.next_number += 1;
    }
}

impl config::Objects {
    /// Says whether the track moves, from how far it is from where it last began to stand.
    fn stand(&self, track: &mut Track, at: Duration) {
        let ((x, y), (from_x, from_y)) = (track.rect.centre(), track.anchor.0.centre());
        if (x - from_x).hypot(y - from_y) > STANDS * track.rect.diagonal() {
            track.anchor = (track.rect, at);
            track.moving = true;
        } else if at.saturating_sub(track.anchor.1) >= STANDS_FOR {
            track.moving = false;
            track.speed = (0.0, 0.0);
        }
    }
}

/// Which spots belong to which tracks.
struct Pairing {
    /// Of each track, its own spots.
    spots: Vec<Vec<usize>>,
    /// Of each spot, the tracks that have a part in it.
    owners: Vec<Vec<usize>>,
}

/// By how much a thing moved in a second. Where it touches the picture's edge, it is hidden beyond it, and only the other
/// edge tells.
fn velocity(before: &Rect, now: &Rect, size: &Rect, passed: f64) -> (f64, f64) {
    let along = |before: (f64, f64), now: (f64, f64), size: f64| {
        let (low, high) = (now.0 - before.0, now.1 - before.1);
        let cut_low = before.0 <= 1.0 || now.0 <= 1.0;
        let cut_high = before.1 >= size - 1.0 || now.1 >= size - 1.0;
        let moved = match (cut_low, cut_high) {
            (true, false) => high,
            (false, true) => low,
            _ => 0.5 * (low + high),
        };
        moved / passed
    };
    (
        along((before.left, before.right()), (now.left, now.right()), size.right()),
        along((before.top, before.bottom()), (now.top, now.bottom()), size.bottom()),
    )
}

/// Whether it was on its way out where it was last seen, and must be gone by `at`: it is mostly outside by its speed, or
/// it went outwards at the picture's edge and has not been seen for a while.
fn is_leaving(track: &Track, size: &Rect, at: Duration) -> bool {
    const NEAR: f64 = 0.01;
    const OUTSIDE: f64 = 0.6;
    const UNSEEN: Duration = Duration::from_millis(600);
    let (x, y) = (NEAR * size.width, NEAR * size.height);
    let (rect, (right, down)) = (&track.rect, track.speed);
    // Slower than that, by its own size in a second, is none of its own.
    let least = OUTWARDS * rect.diagonal();
    let edges = [
        (rect.left <= x, -right),
        (rect.top <= y, -down),
        (rect.right() >= size.width - x, right),
        (rect.bottom() >= size.height - y, down),
    ];
    let touches = edges.iter().any(|(touches, _)| *touches);
    let goes_out = edges.iter().any(|(touches, outwards)| *touches && *outwards >= least);
    let visible = track.predict(at).intersection(size).area() / rect.area().max(1.0);
    touches && visible < 1.0 - OUTSIDE || goes_out && at.saturating_sub(track.held_at) >= UNSEEN
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thing in a picture of 640 x 360 that was seen at 10 s and not since.
    fn track(rect: Rect, speed: (f64, f64)) -> Track {
        let at = Duration::from_secs(10);
        Track {
            number: 1,
            rect,
            speed,
            first_at: Duration::from_secs(5),
            seen_at: at,
            held_at: at,
            confirmed: true,
            moving: true,
            alone: true,
            labels: LabelAccumulator::default(),
            stands: false,
            is_learned: false,
            pictures: 9,
            first: rect,
            histogram: Vec::new(),
            patch: None,
            anchor: (rect, at),
        }
    }

    const SIZE: Rect = Rect { left: 0.0, top: 0.0, width: 640.0, height: 360.0 };

    #[test]
    fn what_touches_the_edge_has_left_only_if_it_went_outwards() {
        let at_the_right = Rect { left: 560.0, top: 100.0, width: 80.0, height: 60.0 };
        let leaving = |speed, ms: u64| {
            is_leaving(&track(at_the_right, speed), &SIZE, Duration::from_millis(10_000 + ms))
        };
        assert!(leaving((50.0, 0.0), 600) && !leaving((50.0, 0.0), 400), "slowly outwards");
        assert!(leaving((400.0, 0.0), 200), "by its speed it is outside");
        for speed in [(0.0, 0.0), (-50.0, 0.0), (0.0, 50.0), (2.0, 0.0)] {
            assert!(!leaving(speed, 1900), "{speed:?} is no way out at the right");
        }
        let inside = Rect { left: 300.0, ..at_the_right };
        assert!(!is_leaving(&track(inside, (50.0, 0.0)), &SIZE, Duration::from_secs(12)));
    }

    #[test]
    fn what_is_hidden_is_expected_where_it_went_within_the_picture() {
        let track = track(Rect { left: 100.0, top: 100.0, width: 80.0, height: 60.0 }, (100.0, 0.0));
        let left = |ms: u64| track.expected(Duration::from_millis(10_000 + ms), &SIZE).left;
        assert_eq!(
            (left(0), left(500), left(3000)),
            (100.0, 150.0, 200.0),
            "and its speed is not believed for long"
        );
        let gone = Track { speed: (-1000.0, 0.0), ..track };
        assert_eq!(
            gone.expected(Duration::from_secs(12), &SIZE),
            gone.rect,
            "outside there is nothing to show"
        );
    }
}
