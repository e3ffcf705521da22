//! Image health of a camera that delivers frames: black, covered, blurred or frozen.
//!
//! A problem is reported only after it has held for a minute, because lights go out, people step close and
//! cameras refocus. Recovery is reported at once.

use super::luma::{Luma, ONE};
use crate::frame::{Image, PixelFormat};
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

/// Health of a camera's image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// No problem.
    Ok,
    /// No light: lens cap, night without infrared, a dead sensor.
    Black,
    /// The same image to the last bit: a sensor's noise never repeats, so the camera's encoder hangs.
    Frozen,
    /// No contrast anywhere: something close to the lens, fog, a spider's web in infrared light.
    Covered,
    /// Far less detail than this camera has shown before: out of focus, wet or dirty lens.
    Blurred,
    /// Some images were missing, damaged or late, and were skipped.
    Incomplete,
}

impl Health {
    /// Completes a sentence such as "The image has been ...".
    pub fn name(self) -> &'static str {
        match self {
            Health::Ok => "fine",
            Health::Black => "black",
            Health::Frozen => "frozen",
            Health::Covered => "without contrast",
            Health::Blurred => "blurred",
            Health::Incomplete => "missing or damaged",
        }
    }
}

/// Time for which a problem must hold before it is reported.
const HOLD: Duration = Duration::from_secs(60);
/// Interval of the checks.
const INTERVAL: Duration = Duration::from_secs(1);
/// Maximum brightness of a cell of a black image. Limited range begins at 16.
const MAX_BLACK: u16 = 32 * ONE;
/// Minimum standard deviation of the cells' brightness, in 255ths. An image below it is covered.
const MIN_SPREAD: f32 = 2.5;
/// An image with less than this share of the camera's reference detail is blurred.
const MIN_DETAIL_RATIO: f32 = 0.3;
/// Decay of the reference detail per check. It halves in four hours, so that a new view does not count as
/// blurred for long.
const DETAIL_DECAY: f32 = 1.0 - 5e-5;
/// Checks before the reference detail is valid.
const WARM_UP_CHECKS: u32 = 60;

/// Health check of one camera.
#[derive(Debug)]
pub struct HealthCheck {
    /// As last reported.
    reported: Health,
    /// Health of the last image, and since when.
    current: (Health, Duration),
    next_check: Duration,
    /// Hash of the last image.
    fingerprint: u64,
    /// Largest detail so far, with decay.
    reference_detail: f32,
    checks: u32,
    /// The frames come from a camera. The frames of a file or a generator may repeat.
    live: bool,
}

impl HealthCheck {
    /// Creates the check of a camera whose images have noise (`live`), or of a clip.
    pub fn new(live: bool) -> HealthCheck {
        HealthCheck {
            reported: Health::Ok,
            current: (Health::Ok, Duration::ZERO),
            next_check: Duration::ZERO,
            fingerprint: 0,
            reference_detail: 0.0,
            checks: 0,
            live,
        }
    }

    /// Whether a check is due at `at`, on a monotonic clock.
    pub fn is_due(&self, at: Duration) -> bool {
        at >= self.next_check
    }

    /// Checks an image, given also scaled down. Returns the health if it has changed and must be reported.
    pub fn update(&mut self, image: &Image, luma: &Luma, at: Duration) -> Option<Health> {
        self.next_check = at + INTERVAL;
        let sample = Sample::take(image);
        let health = self.evaluate(luma, &sample);
        self.fingerprint = sample.fingerprint;
        if health != self.current.0 {
            self.current = (health, at);
        }
        let has_held = at.saturating_sub(self.current.1) >= HOLD;
        let is_changed = health != self.reported && (has_held || health == Health::Ok);
        if is_changed {
            self.reported = health;
        }
        is_changed.then_some(health)
    }

    fn evaluate(&mut self, luma: &Luma, sample: &Sample) -> Health {
        if luma.cells.iter().all(|&cell| cell <= MAX_BLACK) {
            return Health::Black;
        }
        if self.live && sample.fingerprint == self.fingerprint {
            return Health::Frozen;
        }
        if spread(&luma.cells) < MIN_SPREAD {
            return Health::Covered;
        }
        self.checks = self.checks.saturating_add(1);
        self.reference_detail = (self.reference_detail * DETAIL_DECAY).max(sample.detail);
        if self.checks > WARM_UP_CHECKS && sample.detail < MIN_DETAIL_RATIO * self.reference_detail {
            return Health::Blurred;
        }
        Health::Ok
    }
}

/// Measurements of a sample of an image's rows.
struct Sample {
    /// Hash of the rows.
    fingerprint: u64,
    /// Mean absolute second difference along the rows, above a noise floor.
    detail: f32,
}

/// Number of rows that are sampled.
const SAMPLED_ROWS: usize = 32;
/// Second differences up to this are noise.
const NOISE_FLOOR: u32 = 4;

impl Sample {
    fn take(image: &Image) -> Sample {
        let plane = image.planes.plane(0);
        let pixel_bytes = match image.format {
            PixelFormat::I420 | PixelFormat::Nv12 | PixelFormat::Gray8 => 1,
            PixelFormat::Yuy2 => 2,
            PixelFormat::Rgb => 3,
        };
        let mut hasher = DefaultHasher::new();
        let (mut sum, mut count) = (0u64, 0u64);
        for y in (0..image.height).step_by((image.height / SAMPLED_ROWS).max(1)) {
            let rest = plane.data.get(y * plane.stride_bytes..);
            let Some(row) = rest.and_then(|rest| rest.get(..image.width * pixel_bytes)) else { break };
            row.hash(&mut hasher);
            // Pixels are compared at a distance of two, because noise and the codec's artefacts are finer
            // than edges.
            for pixels in row.windows(4 * pixel_bytes + 1).step_by(pixel_bytes) {
                let [a, b, c] = [0, 2 * pixel_bytes, 4 * pixel_bytes].map(|at| i32::from(pixels[at]));
                sum += u64::from((a - 2 * b + c).unsigned_abs().saturating_sub(NOISE_FLOOR));
                count += 1;
            }
        }
        Sample { fingerprint: hasher.finish(), detail: sum as f32 / count.max(1) as f32 }
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

    /// A grey image of 160 x 90.
    fn image(pixel: impl Fn(usize, usize) -> u8) -> Image {
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

    /// Checks one image per second. Returns the reported changes, with the second.
    fn reported(
        check: &mut HealthCheck,
        seconds: std::ops::Range<u64>,
        image_at: impl Fn(u64) -> Image,
    ) -> Vec<(u64, Health)> {
        let mut reported = Vec::new();
        for second in seconds {
            let at = Duration::from_secs(second);
            assert!(check.is_due(at));
            let image = image_at(second);
            let mut luma = Luma::default();
            assert!(luma.downscale(&image, 160));
            if let Some(health) = check.update(&image, &luma, at) {
                reported.push((second, health));
            }
        }
        reported
    }

    fn noise(x: usize, y: usize, second: u64) -> u8 {
        ((x * 7 + y * 13 + second as usize * 31) % 5) as u8
    }

    fn healthy(second: u64) -> Image {
        image(move |x, y| if (x / 8 + y / 8) % 2 == 0 { 60 } else { 160 } + noise(x, y, second))
    }

    #[test]
    fn a_healthy_image_reports_nothing() {
        assert_eq!(reported(&mut HealthCheck::new(true), 0..300, healthy), []);
    }

    #[test]
    fn each_problem_is_reported_after_a_minute_and_recovery_at_once() {
        type ImageAt = fn(u64) -> Image;
        let problems: [(Health, ImageAt); 4] = [
            (Health::Black, |second| image(move |x, y| 16 + noise(x, y, second))),
            (Health::Frozen, |_| healthy(7)),
            (Health::Covered, |second| image(move |x, y| 120 + noise(x, y, second))),
            (Health::Blurred, |second| {
                // The same blocks behind frosted glass.
                image(move |x, _| (110.0 + 50.0 * (x as f32 / 20.0).sin()) as u8 + noise(x, 0, second) / 2)
            }),
        ];
        for (health, bad) in problems {
            let mut check = HealthCheck::new(true);
            assert_eq!(reported(&mut check, 0..100, healthy), []);
            let during = reported(&mut check, 100..200, bad);
            // The first image counts as frozen only when it comes a second time.
            assert!(matches!(during[..], [(160 | 161, found)] if found == health), "{health:?}: {during:?}");
            assert_eq!(reported(&mut check, 200..300, healthy), [(200, Health::Ok)], "{health:?}");
        }
    }

    #[test]
    fn a_short_problem_is_not_reported_and_a_clip_may_repeat_frames() {
        let mut check = HealthCheck::new(true);
        assert_eq!(reported(&mut check, 0..50, |_| image(|_, _| 16)), []);
        assert_eq!(reported(&mut check, 50..150, healthy), []);
        assert_eq!(reported(&mut HealthCheck::new(false), 0..300, |_| healthy(1)), []);
    }
}
