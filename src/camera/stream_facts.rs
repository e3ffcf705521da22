//! What is learnt about a camera's stream by watching it for a few seconds: codec, size, frame rate and
//! keyframe interval. Pure.
//!
//! Rates and intervals are measured in the stream's own time, because a camera may send the first seconds in
//! a burst, and a decoder that cannot keep up delays what follows.

use super::template::Codec;
use std::time::Duration;

/// Frames that are recorded at most.
const MAX_FRAMES: usize = 20_000;
/// A larger step between two frames is a jump of the stream's clock, and no frame interval.
const MAX_STEP: Duration = Duration::from_secs(5);
/// Cameras do not keep their keyframe interval exactly.
const TOLERANCE: f64 = 1.1;
/// The share of a live stream's frames below which decoding has fallen behind. A few seconds measure no
/// better.
const KEEPS_UP: f64 = 0.7;

/// An encoded frame.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// Its time in the stream, if it has one.
    pub at: Option<Duration>,
    /// It can be decoded on its own.
    pub is_key: bool,
}

/// The frames of a stream, as they come.
#[derive(Debug, Default)]
pub struct StreamRecord {
    media_type: Option<String>,
    /// Encoded frames, also those without a time.
    frames: u64,
    /// Those with a time.
    arrivals: Vec<(Duration, bool)>,
    decoded: u64,
    decoded_at: Vec<Duration>,
    size: Option<(u32, u32)>,
}

/// What is known about a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamFacts {
    /// Name of the codec, such as `H.264`, or of its media type.
    pub codec: String,
    /// Width and height, as the camera sends them.
    pub size: (u32, u32),
    /// Frames per second of the stream's own time. None if there were too few.
    pub fps: Option<f64>,
    /// Between two keyframes. None if every frame can be decoded on its own.
    pub keyframes: Option<KeyframeInterval>,
    /// How an RTSP camera's packets are carried, in the words of `options.transport`.
    pub transport: Option<&'static str>,
    /// Decoded frames per second, if that is less than the camera sends.
    pub too_slow_fps: Option<f64>,
}

/// How far a stream's keyframes are apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum KeyframeInterval {
    /// The longest interval that was seen.
    Seen(Duration),
    /// No two were seen: the interval is longer than this.
    LongerThan(Duration),
}

impl StreamRecord {
    /// Records an encoded frame before the decoder.
    pub fn add(&mut self, arrival: Arrival) {
        self.frames += 1;
        if let Some(at) = arrival.at.filter(|_| self.arrivals.len() < MAX_FRAMES) {
            self.arrivals.push((at, arrival.is_key));
        }
    }

    /// Sets the media type of the encoded frames, such as `video/x-h264`.
    pub fn set_media_type(&mut self, name: &str) {
        if self.media_type.is_none() {
            self.media_type = Some(name.to_string());
        }
    }

    /// Records a decoded frame and its width and height.
    pub fn add_decoded(&mut self, at: Option<Duration>, size: (u32, u32)) {
        self.decoded += 1;
        self.size = Some(size);
        if let Some(at) = at.filter(|_| self.decoded_at.len() < MAX_FRAMES) {
            self.decoded_at.push(at);
        }
    }

    /// The number of encoded frames.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// The stream time from the first frame to the last one.
    pub fn span(&self) -> Duration {
        self.steps().iter().sum()
    }

    /// Whether two keyframes were seen, or none for longer than `limit`, or all frames are keyframes.
    pub fn is_keyframe_interval_known(&self, limit: Duration) -> bool {
        match self.keyframes() {
            Some(KeyframeInterval::LongerThan(known)) => known > limit.mul_f64(TOLERANCE),
            Some(KeyframeInterval::Seen(_)) | None => true,
        }
    }

    /// The facts after the stream was watched for `watched` from its first image. `is_live`: frames come in
    /// real time, so that the decoder can be measured.
    pub fn facts(&self, watched: Duration, is_live: bool, transport: Option<&'static str>) -> StreamFacts {
        let steps = self.steps();
        let span: Duration = steps.iter().sum();
        let fps = (!span.is_zero()).then(|| steps.len() as f64 / span.as_secs_f64());
        let decoded_fps = self.decoded as f64 / watched.as_secs_f64().max(0.001);
        let too_slow = |fps: &f64| is_live && decoded_fps < fps * KEEPS_UP && steps.len() > 2;
        StreamFacts {
            codec: self.codec(),
            size: self.size.unwrap_or_default(),
            fps,
            keyframes: self.keyframes(),
            transport,
            too_slow_fps: fps.filter(too_slow).map(|_| decoded_fps),
        }
    }

    fn codec(&self) -> String {
        match self.media_type.as_deref() {
            None | Some("video/x-raw") => "raw video".into(),
            Some(name) => Codec::of_media_type(name).map_or_else(|| name.into(), |codec| codec.to_string()),
        }
    }

    /// The steps from frame to frame, in the order in which they are shown, without jumps.
    fn steps(&self) -> Vec<Duration> {
        let mut times: Vec<Duration> = match self.arrivals.is_empty() {
            // Without a gate, only decoded frames are seen.
            true => self.decoded_at.clone(),
            false => self.arrivals.iter().map(|(at, _)| *at).collect(),
        };
        times.sort();
        let steps = times.windows(2).map(|pair| pair[1] - pair[0]);
        steps.filter(|step| !step.is_zero() && *step <= MAX_STEP).collect()
    }

    fn keyframes(&self) -> Option<KeyframeInterval> {
        if self.arrivals.iter().all(|(_, is_key)| *is_key) {
            return None;
        }
        let times: Vec<Duration> =
            self.arrivals.iter().filter(|(_, is_key)| *is_key).map(|(at, _)| *at).collect();
        let longest = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max();
        Some(match longest {
            Some(longest) => KeyframeInterval::Seen(longest),
            None => {
                let since = times.last().or(self.arrivals.first().map(|(at, _)| at));
                let last = self.arrivals.iter().map(|(at, _)| *at).max().unwrap_or_default();
                KeyframeInterval::LongerThan(last.saturating_sub(*since.unwrap_or(&last)))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A stream of `frames` frames at 25 fps, with a keyframe every `gop` of them from number `offset` on.
    fn record(frames: u32, gop: u32, offset: u32) -> StreamRecord {
        let mut record = StreamRecord::default();
        record.set_media_type("video/x-h264");
        for n in 0..frames {
            let is_key = n >= offset && (n - offset).is_multiple_of(gop);
            record.add(Arrival { at: Some(n * 40 * MS), is_key });
            record.add_decoded(None, (1920, 1080));
        }
        record
    }

    #[test]
    fn rate_and_keyframe_interval_are_measured_in_stream_time() {
        // 4 s of stream that took 3 s, as with a server that sends its cache first.
        let facts = record(101, 50, 0).facts(3000 * MS, true, Some("tcp"));
        assert_eq!((facts.codec.as_str(), facts.size), ("H.264", (1920, 1080)));
        assert_eq!(facts.fps.map(f64::round), Some(25.0));
        assert_eq!(facts.keyframes, Some(KeyframeInterval::Seen(2000 * MS)));
        assert_eq!((facts.transport, facts.too_slow_fps), (Some("tcp"), None));
    }

    #[test]
    fn keyframes_that_do_not_come_are_further_apart_than_was_seen() {
        let record = record(76, 250, 0);
        assert_eq!(record.keyframes(), Some(KeyframeInterval::LongerThan(3000 * MS)));
        assert!(record.is_keyframe_interval_known(2000 * MS));
        assert!(!record.is_keyframe_interval_known(3000 * MS), "it may be within the limit");
        // A camera that does not begin with a keyframe.
        let record = self::record(51, 250, 25);
        assert_eq!(record.keyframes(), Some(KeyframeInterval::LongerThan(1000 * MS)));
    }

    #[test]
    fn frames_out_of_order_and_jumps_of_the_clock_do_not_distort_the_rate() {
        let mut record = StreamRecord::default();
        for (ms, is_key) in
            [(0, true), (120, false), (40, false), (80, false), (90_000, true), (90_040, false)]
        {
            record.add(Arrival { at: Some(ms * MS), is_key });
        }
        assert_eq!(record.facts(MS, false, None).fps.map(f64::round), Some(25.0));
    }

    #[test]
    fn a_decoder_that_falls_behind_is_reported_of_live_streams_only() {
        let mut record = record(75, 25, 0);
        record.decoded = 30;
        assert_eq!(record.facts(3000 * MS, true, None).too_slow_fps, Some(10.0));
        assert_eq!(record.facts(3000 * MS, false, None).too_slow_fps, None);
        record.decoded = 60;
        assert_eq!(record.facts(3000 * MS, true, None).too_slow_fps, None);
    }

    #[test]
    fn raw_video_and_images_have_no_keyframe_interval() {
        let mut record = StreamRecord::default();
        for n in 0..4 {
            record.add_decoded(Some(n * 100 * MS), (640, 480));
        }
        let facts = record.facts(400 * MS, true, None);
        assert_eq!((facts.codec.as_str(), facts.keyframes), ("raw video", None));
        assert_eq!(facts.fps.map(f64::round), Some(10.0));
        record.set_media_type("image/jpeg");
        record.add(Arrival { at: Some(MS), is_key: true });
        let facts = record.facts(400 * MS, true, None);
        assert_eq!((facts.codec.as_str(), facts.keyframes), ("JPEG", None));
    }
}
