//! Rate limiting by stream time. Pure.

use std::time::Duration;

/// Limits a stream to a number of frames per second of stream time.
#[derive(Debug)]
pub struct RateLimit {
    interval: Duration,
    next_due: Duration,
}

impl RateLimit {
    /// Creates a limit of `fps` frames per second.
    pub fn new(fps: f64) -> RateLimit {
        RateLimit { interval: Duration::from_secs_f64(1.0 / fps), next_due: Duration::ZERO }
    }

    /// Changes the limit to `fps` frames per second.
    pub fn set_fps(&mut self, fps: f64) {
        *self = RateLimit { next_due: self.next_due.saturating_sub(self.interval), ..RateLimit::new(fps) };
    }

    /// Whether the frame of `stream_time` is due.
    ///
    /// Due times form a grid, so that 5 of 12 frames per second are really 5. The grid starts again after a
    /// gap or a jump backwards.
    pub fn is_due(&mut self, stream_time: Duration) -> bool {
        // Timestamps are rounded: a frame half a millisecond before its due time is on time.
        let slack = Duration::from_micros(500);
        if stream_time + slack + self.interval * 2 < self.next_due {
            self.next_due = stream_time;
        }
        if stream_time + slack < self.next_due {
            return false;
        }
        let behind = stream_time.saturating_sub(self.next_due);
        self.next_due = if behind >= self.interval { stream_time } else { self.next_due } + self.interval;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(fps: f64, times_ms: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let mut limit = RateLimit::new(fps);
        times_ms.into_iter().filter(|&ms| limit.is_due(Duration::from_millis(ms))).collect()
    }

    #[test]
    fn five_of_twelve_frames_per_second_are_five() {
        let frames = (0..120).map(|i| i * 1000 / 12);
        assert_eq!(due(5.0, frames).len(), 50);
    }

    #[test]
    fn a_slower_stream_passes_unchanged() {
        assert_eq!(due(5.0, [0, 500, 1000, 1500]), [0, 500, 1000, 1500]);
        // At the camera's own rate.
        assert_eq!(due(10.0, [0, 100, 200, 300, 400]).len(), 5);
    }

    #[test]
    fn the_grid_starts_again_after_a_gap_or_a_jump_backwards() {
        assert_eq!(due(5.0, [0, 5000, 5040, 5080, 5200]), [0, 5000, 5200]);
        assert_eq!(due(5.0, [9000, 9100, 0, 100, 200]), [9000, 0, 200]);
    }
}
