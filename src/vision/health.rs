//! Whether a camera that delivers pictures can see anything: black, covered, blurred or frozen. Pure.
//!
//! Each is told only after it has held for a minute: lights go out, people step close, cameras refocus.

use super::luma::{Luma, ONE};
use crate::frame::{Image, PixelFormat};
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

/// What is wrong with the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Nothing.
    Ok,
    /// No light: lens cap, night without infrared, a dead sensor.
    Black,
    /// One and the same picture, to the last bit: a sensor's noise never repeats, so the camera's encoder hangs.
    Frozen,
    /// No contrast anywhere: something right before the lens, fog, a spider's web in infrared light.
    Covered,
    /// Far less detail than this camera has shown before: out of focus, wet or dirty.
    Blurred,
}

impl Health {
    /// As a sentence goes on behind "the picture is".
    pub fn name(self) -> &'static str {
        match self {
            Health::Ok => "fine",
            Health::Black => "black",
            Health::Frozen => "frozen",
            Health::Covered => "without contrast",
            Health::Blurred => "blurred",
        }
    }
}

/// How long a condition holds before it is told.
const HOLDS: Duration = Duration::from_secs(60);
/// Between two looks.
pub const EVERY: Duration = Duration::from_secs(1);
/// The brightest cell of a black picture and the widest spread of a flat one, in 255ths: limited range begins at 16.
const BLACK: u16 = 32 * ONE;
const FLAT: f32 = 2.5;
/// Detail below this part of the most that was seen is blur.
const BLUR: f32 = 0.3;
/// By how much the remembered most fades at each look: it halves in four hours, so that a new view is no blur for long.
const FADE: f32 = 1.0 - 5e-5;
/// Looks before there is a most to speak of.
const ACQUAINTED: u32 = 60;

/// One camera's memory.
#[derive(Debug)]
pub struct HealthCheck {
    told: Health,
    /// What it looks like now, and since when.
    now: (Health, Duration),
    next_look: Duration,
    fingerprint: u64,
    most_detail: f32,
    looks: u32,
    /// Pictures come from a camera: a file or a drawn picture may well stand still.
    live: bool,
}

impl HealthCheck {
    /// Of a camera whose pictures have noise in them (`live`), or of a clip.
    pub fn new(live: bool) -> HealthCheck {
        HealthCheck {
            told: Health::Ok,
            now: (Health::Ok, Duration::ZERO),
            next_look: Duration::ZERO,
            fingerprint: 0,
            most_detail: 0.0,
            looks: 0,
            live,
        }
    }

    /// Whether it is time for another look, at `at` of a clock that never goes back.
    pub fn is_due(&self, at: Duration) -> bool {
        at >= self.next_look
    }

    /// Looks at a picture, whole and small; gives the new condition when that has changed and held.
    pub fn look(&mut self, image: &Image, luma: &Luma, at: Duration) -> Option<Health> {
        self.next_look = at + EVERY;
        let look = Look::take(image);
        let seen = self.judge(luma, &look);
        self.fingerprint = look.fingerprint;
        if seen != self.now.0 {
            self.now = (seen, at);
        }
        let held = at.saturating_sub(self.now.1) >= HOLDS;
        // Good news need not wait.
        let news = self.now.0 != self.told && (held || self.now.0 == Health::Ok);
        if news {
            self.told = self.now.0;
        }
        news.then_some(self.told)
    }

    fn judge(&mut self, luma: &Luma, look: &Look) -> Health {
        if luma.cells.iter().all(|&cell| cell <= BLACK) {
            return Health::Black;
        }
        if self.live && look.fingerprint == self.fingerprint {
            return Health::Frozen;
        }
        if spread(&luma.cells) < FLAT {
            return Health::Covered;
        }
        self.looks = self.looks.saturating_add(1);
        self.most_detail = (self.most_detail * FADE).max(look.detail);
        if self.looks > ACQUAINTED && look.detail < BLUR * self.most_detail {
            return Health::Blurred;
        }
        Health::Ok
    }
}

/// What a look takes from the whole picture.
struct Look {
    fingerprint: u64,
    /// Mean second difference along the rows, without the noise floor of a step.
    detail: f32,
}

impl Look {
    fn take(image: &Image) -> Look {
        let plane = image.planes.plane(0);
        let step = match image.format {
            PixelFormat::I420 | PixelFormat::Nv12 | PixelFormat::Gray8 => 1,
            PixelFormat::Yuy2 => 2,
            PixelFormat::Rgb => 3,
        };
        let mut hasher = DefaultHasher::new();
        let (mut sum, mut count) = (0u64, 0u64);
        // 32 rows tell enough.
        for y in (0..image.height).step_by((image.height / 32).max(1)) {
            let Some(row) =
                plane.data.get(y * plane.stride_bytes..).and_then(|rest| rest.get(..image.width * step))
            else {
                break;
            };
            row.hash(&mut hasher);
            // Two pixels apart: noise and the codec's last bits are finest of all, edges are not.
            for pixels in row.windows(4 * step + 1).step_by(step) {
                let [a, b, c] = [0, 2 * step, 4 * step].map(|at| i32::from(pixels[at]));
                sum += u64::from((a - 2 * b + c).unsigned_abs().saturating_sub(4));
                count += 1;
            }
        }
        Look { fingerprint: hasher.finish(), detail: sum as f32 / count.max(1) as f32 }
    }
}

/// Standard deviation of the cells, in 255ths.
fn spread(cells: &[u16]) -> f32 {
    let count = cells.len().max(1) as f32;
    let mean = cells.iter().map(|&cell| f32::from(cell)).sum::<f32>() / count;
    let variance = cells.iter().map(|&cell| (f32::from(cell) - mean).powi(2)).sum::<f32>() / count;
    variance.sqrt() / f32::from(ONE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Colorimetry, OwnedPlanes, View, YuvMatrix};

    /// A grey picture of 160 x 90.
    fn picture(pixel: impl Fn(usize, usize) -> u8) -> Image {
        let data = (0..90).flat_map(|y| (0..160).map(move |x| (x, y))).map(|(x, y)| pixel(x, y)).collect();
        Image {
            format: PixelFormat::Gray8,
            width: 160,
            height: 90,
            colorimetry: Colorimetry { matrix: YuvMatrix::Bt601, full_range: false },
            view: View::PLAIN,
            planes: Box::new(OwnedPlanes(vec![(data, 160)])),
        }
    }

    /// Looks once a second; what was told, with the second.
    fn told(
        check: &mut HealthCheck,
        seconds: std::ops::Range<u64>,
        look: impl Fn(u64) -> Image,
    ) -> Vec<(u64, Health)> {
        let mut told = Vec::new();
        for second in seconds {
            let at = Duration::from_secs(second);
            assert!(check.is_due(at));
            let image = look(second);
            let mut luma = Luma::default();
            assert!(luma.downscale(&image, 160));
            if let Some(health) = check.look(&image, &luma, at) {
                told.push((second, health));
            }
        }
        told
    }

    fn noise(x: usize, y: usize, second: u64) -> u8 {
        ((x * 7 + y * 13 + second as usize * 31) % 5) as u8
    }

    fn good(second: u64) -> Image {
        picture(move |x, y| if (x / 8 + y / 8) % 2 == 0 { 60 } else { 160 } + noise(x, y, second))
    }

    #[test]
    fn a_good_picture_is_nothing_to_tell() {
        assert_eq!(told(&mut HealthCheck::new(true), 0..300, good), []);
    }

    #[test]
    fn each_condition_is_told_after_a_minute_and_its_end_at_once() {
        type Picture = fn(u64) -> Image;
        let conditions: [(Health, Picture); 4] = [
            (Health::Black, |second| picture(move |x, y| 16 + noise(x, y, second))),
            (Health::Frozen, |_| good(7)),
            (Health::Covered, |second| picture(move |x, y| 120 + noise(x, y, second))),
            (Health::Blurred, |second| {
                // The same blocks behind frosted glass.
                picture(move |x, _| (110.0 + 50.0 * (x as f32 / 20.0).sin()) as u8 + noise(x, 0, second) / 2)
            }),
        ];
        for (health, bad) in conditions {
            let mut check = HealthCheck::new(true);
            assert_eq!(told(&mut check, 0..100, good), []);
            let during = told(&mut check, 100..200, bad);
            // The first frozen picture is only the second of its kind.
            assert!(matches!(during[..], [(160 | 161, found)] if found == health), "{health:?}: {during:?}");
            assert_eq!(told(&mut check, 200..300, good), [(200, Health::Ok)], "{health:?}");
        }
    }

    #[test]
    fn less_than_a_minute_is_not_told_and_a_clip_may_stand_still() {
        let mut check = HealthCheck::new(true);
        assert_eq!(told(&mut check, 0..50, |_| picture(|_, _| 16)), []);
        assert_eq!(told(&mut check, 50..150, good), []);
        assert_eq!(told(&mut HealthCheck::new(false), 0..300, |_| good(1)), []);
    }
}
