//! Watches an attempt: do frames come, are they decoded, do pictures come out? Pure.
//!
//! Nothing in GStreamer says that a stream has gone silent, so this is what keeps a camera up.

use super::{Failure, Trouble};
use crate::config::Camera;
use std::time::Duration;

/// The shortest silence that counts as a stall, and in frames.
const LEAST_STALL: Duration = Duration::from_secs(2);
const STALL_FRAMES: u32 = 10;
/// Frame intervals that must be known before a silence can be told from a slow camera.
const LEAST_INTERVALS: u64 = 3;
/// So long may frames come without one that can be decoded: longer than the rarest keyframes of any camera.
const MOST_UNDECODED: Duration = Duration::from_secs(120);
/// Frames given to a decoder that gives back nothing: it hangs, or they cannot be decoded.
const MOST_UNSEEN: u64 = 50;

/// What has come and gone in an attempt so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Frames that came from the camera.
    pub arrived: u64,
    /// Frames that the decoder was given, from a keyframe on.
    pub given: u64,
    /// Pictures that came out of it.
    pub pictures: u64,
}

/// One attempt's watchdog.
#[derive(Debug)]
pub struct Watchdog<'a> {
    camera: &'a Camera,
    started: Duration,
    last: Counts,
    first_arrival: Option<Duration>,
    last_arrival: Duration,
    /// When anything moved last.
    last_sign: Duration,
    last_given: Duration,
    last_picture: Duration,
    /// Given to the decoder when the last picture came.
    seen: u64,
}

impl<'a> Watchdog<'a> {
    /// For an attempt that begins at `now`.
    pub fn new(camera: &'a Camera, now: Duration) -> Watchdog<'a> {
        Watchdog {
            camera,
            started: now,
            last: Counts::default(),
            first_arrival: None,
            last_arrival: now,
            last_sign: now,
            last_given: now,
            last_picture: now,
            seen: 0,
        }
    }

    /// Nothing comes because nobody takes it.
    pub fn alive(&mut self, now: Duration) {
        (self.last_sign, self.last_picture, self.last_given) = (now, now, now);
    }

    /// Looks at what has come by `now`; true once, at the first picture.
    ///
    /// Errors: the attempt is as good as over, and why.
    pub fn turn(&mut self, now: Duration, counts: Counts) -> Result<bool, Failure> {
        let last = std::mem::replace(&mut self.last, counts);
        if counts.arrived != last.arrived {
            self.last_arrival = now;
            self.first_arrival.get_or_insert(now);
        }
        // While a ring is being decoded nothing arrives, and that is no silence.
        if counts != last {
            self.last_sign = now;
        }
        if (counts.given, counts.pictures) != (last.given, last.pictures) {
            self.last_given = now;
        }
        if counts.pictures != last.pictures {
            (self.last_picture, self.seen) = (now, counts.given);
        }
        let (limit, since) = match self.first_arrival {
            None => (self.first_frame_timeout(), self.started),
            Some(first) => (self.stall_timeout(first), self.last_sign),
        };
        if now.saturating_sub(since) > limit {
            let reason = format!("no frame for {:.1} s", limit.as_secs_f64());
            return Err(Failure::new(Trouble::Stalled, reason));
        }
        let patience = match self.first_arrival {
            Some(first) if counts.pictures > 0 => self.stall_timeout(first),
            _ => self.first_frame_timeout(),
        };
        let unseen = counts.given.saturating_sub(self.seen);
        if unseen > MOST_UNSEEN && now.saturating_sub(self.last_picture) > patience {
            let reason = format!("{unseen} frames went into the decoder and no picture came out");
            return Err(Failure::new(Trouble::NoPicture, reason));
        }
        let undecoded = self.first_arrival.is_some()
            && now.saturating_sub(self.last_given) > MOST_UNDECODED.max(patience);
        if undecoded {
            return Err(Failure::new(
                Trouble::Stalled,
                "frames come, but none that could be decoded in time",
            ));
        }
        Ok(last.pictures == 0 && counts.pictures > 0)
    }

    fn first_frame_timeout(&self) -> Duration {
        self.camera.first_frame_timeout.max(self.camera.stall_timeout.unwrap_or_default())
    }

    /// Ten frames of this camera, as it has sent them so far; as long as for the first one while that is not known.
    fn stall_timeout(&self, first_arrival: Duration) -> Duration {
        self.camera.stall_timeout.unwrap_or_else(|| {
            let span = self.last_arrival.saturating_sub(first_arrival);
            match self.last.arrived.saturating_sub(1) {
                known if known < LEAST_INTERVALS => self.camera.first_frame_timeout.max(LEAST_STALL),
                intervals => {
                    let intervals = u32::try_from(intervals).unwrap_or(u32::MAX);
                    LEAST_STALL.max(span / intervals * STALL_FRAMES)
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{camera::template::tests::camera, config::Source};

    const TURN: Duration = Duration::from_millis(100);

    /// Turns ten times a second, with what `counts` tells of each second's tenth; when and how it ended, if it did.
    fn watch(camera: &Camera, seconds: u64, counts: impl Fn(u64) -> Counts) -> Option<(f64, Trouble, bool)> {
        let mut watchdog = Watchdog::new(camera, Duration::ZERO);
        let mut live = false;
        for turn in 1..=10 * seconds {
            match watchdog.turn(TURN * turn as u32, counts(turn)) {
                Ok(first) => {
                    assert!(!(first && live), "told twice");
                    live |= first;
                }
                Err(failure) => return Some((turn as f64 / 10.0, failure.trouble, live)),
            }
        }
        assert!(live);
        None
    }

    fn network() -> Camera {
        camera(Source::Rtsp { url: "rtsp://h/s".into() })
    }

    fn all(count: u64) -> Counts {
        Counts { arrived: count, given: count, pictures: count }
    }

    #[test]
    fn a_camera_that_sends_is_left_alone_however_slow() {
        for tenths in [1, 7, 40, 90] {
            assert_eq!(watch(&network(), 200, |turn| all(turn / tenths)), None, "every {tenths} tenths");
        }
    }

    #[test]
    fn silence_is_a_stall_after_two_seconds_or_ten_frames() {
        let stalls = |tenths: u64, last: u64| watch(&network(), 100, |turn| all(turn.min(last) / tenths));
        assert_eq!(stalls(1, 50), Some((7.1, Trouble::Stalled, true)));
        assert_eq!(stalls(5, 50), Some((10.1, Trouble::Stalled, true)));
        // Nothing at all, and too little to know its rate.
        assert_eq!(stalls(1, 0), Some((10.1, Trouble::Stalled, false)));
        assert_eq!(stalls(1, 2), Some((10.3, Trouble::Stalled, true)));
        let strict = Camera { stall_timeout: Some(Duration::from_secs(1)), ..network() };
        assert_eq!(watch(&strict, 100, |turn| all(turn.min(30))), Some((4.1, Trouble::Stalled, true)));
    }

    #[test]
    fn a_decoder_that_gives_nothing_is_told_from_a_silent_camera() {
        let blind = |turn| Counts { pictures: 0, ..all(turn) };
        assert_eq!(watch(&network(), 100, blind), Some((10.1, Trouble::NoPicture, false)));
        let goes_blind = |turn: u64| Counts { pictures: turn.min(100), ..all(turn) };
        assert_eq!(watch(&network(), 100, goes_blind), Some((15.1, Trouble::NoPicture, true)));
        let shed = |turn: u64| Counts { arrived: turn, ..all(turn.min(100)) };
        assert_eq!(watch(&network(), 200, shed), Some((130.1, Trouble::Stalled, true)));
        // Joined long before its next keyframe; and one that refreshes bit by bit and never has one.
        let joined = |turn: u64| Counts { arrived: turn, ..all(turn.saturating_sub(900)) };
        assert_eq!(watch(&network(), 200, joined), None);
        let keyless = |turn: u64| Counts { arrived: turn, given: 0, pictures: turn.saturating_sub(250) };
        assert_eq!(watch(&network(), 400, keyless), None);
    }

    #[test]
    fn a_ring_that_is_being_decoded_is_no_silence() {
        // Frames come, then for four seconds only old ones are decoded, then they come again.
        let catching_up = |turn: u64| {
            let arrived = if (50..90).contains(&turn) { 50 } else { turn };
            Counts { arrived, given: turn, pictures: turn }
        };
        assert_eq!(watch(&network(), 20, catching_up), None);
    }
}
