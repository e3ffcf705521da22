//! Which pipeline a camera gets: of those that fit its source, the best one that is installed and really gives pictures.
//! Pure.
//!
//! A pipeline is passed over for a reason, which users are told: it is not installed, it is for another codec, it did
//! not give a picture. What was passed over for failing is tried again once nothing else is left.

use super::template::{Codec, Pipeline};
use crate::wire::messages::SkippedPipeline;

/// Starts without a picture before a board's decoder is given up for one on the CPU: drivers fail now and then.
const HARDWARE_STARTS: u32 = 2;

/// A camera's candidates, best first, and what became of them.
#[derive(Debug)]
pub struct Choice {
    candidates: Vec<Candidate>,
    /// What the camera's stream is encoded with, once that is known.
    codec: Option<Codec>,
}

#[derive(Debug)]
struct Candidate {
    pipeline: Pipeline,
    /// What it lacks on this machine, a sentence each.
    missing: Vec<String>,
    /// Starts in a row without a picture.
    failed_starts: u32,
    /// Why it is passed over, if it is, for failing.
    given_up: Option<String>,
}

impl Choice {
    /// Among `pipelines`, best first; `missing` tells what each lacks.
    pub fn new(pipelines: Vec<Pipeline>, missing: impl Fn(&Pipeline) -> Vec<String>) -> Choice {
        let candidate = |pipeline: Pipeline| {
            let missing = missing(&pipeline);
            Candidate { pipeline, missing, failed_starts: 0, given_up: None }
        };
        Choice { candidates: pipelines.into_iter().map(candidate).collect(), codec: None }
    }

    /// The one to use now; where there is none, what would have to be installed.
    pub fn current(&self) -> Result<&Pipeline, String> {
        match self.current_index() {
            Some(index) => Ok(&self.candidates[index].pipeline),
            None => Err(self.what_is_missing()),
        }
    }

    /// The camera says what its stream is encoded with. False where no candidate is for that codec.
    pub fn found_codec(&mut self, codec: Codec) -> bool {
        let fits = self.candidates.iter().any(|candidate| candidate.is_for(codec));
        if fits {
            self.codec = Some(codec);
        }
        fits
    }

    /// The current one did not give a picture; true if another one is to be tried instead.
    pub fn failed_start(&mut self, reason: &str) -> bool {
        let Some(index) = self.current_index() else {
            self.begin_anew();
            return false;
        };
        let candidate = &mut self.candidates[index];
        candidate.failed_starts += 1;
        let patience = if candidate.pipeline.hardware { HARDWARE_STARTS } else { 1 };
        if candidate.failed_starts < patience {
            return true;
        }
        candidate.given_up = Some(reason.to_string());
        if self.current_index().is_some() {
            return true;
        }
        self.begin_anew();
        false
    }

    /// Nothing is left: all over again, after a pause, and the camera may have become another.
    fn begin_anew(&mut self) {
        self.codec = None;
        for candidate in &mut self.candidates {
            (candidate.given_up, candidate.failed_starts) = (None, 0);
        }
    }

    /// The current one gives pictures.
    pub fn works(&mut self) {
        if let Some(index) = self.current_index() {
            self.candidates[index].failed_starts = 0;
        }
    }

    /// Those better than the current one, and why each was not taken.
    pub fn passed_over(&self) -> Vec<SkippedPipeline> {
        let current = self.current_index();
        // Until the camera says what it sends, what matters is what the current one is for.
        let codec = self.codec.or_else(|| self.candidates[current?].pipeline.codec);
        let better = &self.candidates[..current.unwrap_or(self.candidates.len())];
        better
            .iter()
            .filter(|candidate| codec.is_none_or(|codec| candidate.is_for(codec)))
            .filter_map(|candidate| {
                Some(SkippedPipeline {
                    pipeline: candidate.pipeline.template.clone(),
                    reason: candidate
                        .given_up
                        .clone()
                        .or_else(|| (!candidate.missing.is_empty()).then(|| candidate.missing.join("; ")))?,
                })
            })
            .collect()
    }

    fn current_index(&self) -> Option<usize> {
        let usable = |candidate: &Candidate| candidate.missing.is_empty() && candidate.given_up.is_none();
        // Most cameras send H.264, so that is what is tried where nothing is known.
        let codec = self.codec.unwrap_or(Codec::H264);
        let first = self.candidates.iter().position(|c| usable(c) && c.is_for(codec));
        // One for another codec only where nothing has been tried yet: it would find out what the camera sends.
        let untried = self.codec.is_none() && self.candidates.iter().all(|c| c.given_up.is_none());
        first.or_else(|| self.candidates.iter().position(usable).filter(|_| untried || self.has_no_codecs()))
    }

    /// The candidates differ in other things than codecs.
    fn has_no_codecs(&self) -> bool {
        self.candidates.iter().all(|candidate| candidate.pipeline.codec.is_none())
    }

    /// What the simplest candidate lacks: hardware that is not there cannot be installed.
    fn what_is_missing(&self) -> String {
        let fits = |c: &&Candidate| self.codec.is_none_or(|codec| c.is_for(codec)) && !c.pipeline.hardware;
        match self.candidates.iter().find(fits) {
            Some(candidate) if !candidate.missing.is_empty() => candidate.missing.join("; "),
            _ => "there is no pipeline for it".to_string(),
        }
    }
}

impl Candidate {
    fn is_for(&self, codec: Codec) -> bool {
        self.pipeline.codec.is_none_or(|own| own == codec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        camera::template::{self, tests::camera},
        config::Source,
    };

    /// The choice for an RTSP camera on a machine with these decoders.
    fn choice(decoders: &[&str]) -> Choice {
        let pipelines = template::candidates(&camera(Source::Rtsp { url: "rtsp://h/s".into() })).unwrap();
        Choice::new(pipelines, |pipeline| {
            let has = |need: &&template::Need| {
                let is_decoder = |name: &String| name.contains("dec") && !name.contains("depay");
                need.any_of.iter().any(|name| is_decoder(name) && !decoders.contains(&name.as_str()))
            };
            pipeline.needs.iter().filter(has).map(|need| format!("{} is missing", need.any_of[0])).collect()
        })
    }

    fn current(choice: &Choice) -> &str {
        choice.current().map_or("none", |pipeline| &pipeline.template)
    }

    #[test]
    fn machines_get_the_best_that_they_have() {
        let software = ["avdec_h264", "avdec_h265", "jpegdec"];
        for (more, expected) in [
            (&[][..], "rtsp-h264-software"),
            (&["v4l2h264dec"], "rtsp-h264-pi4"),
            (&["nvv4l2decoder"], "rtsp-h264-jetson"),
            (&["vah264dec", "openh264dec"], "rtsp-h264-va"),
        ] {
            assert_eq!(current(&choice(&[&software[..], more].concat())), expected);
        }
        assert_eq!(current(&choice(&["openh264dec"])), "rtsp-h264-openh264");
        assert_eq!(current(&choice(&["jpegdec"])), "rtsp-mjpeg");
        assert_eq!(choice(&[]).current().unwrap_err(), "avdec_h264 is missing");
    }

    #[test]
    fn the_camera_s_codec_decides() {
        let mut choice = choice(&["avdec_h264", "avdec_h265", "v4l2slh265dec"]);
        assert_eq!(current(&choice), "rtsp-h264-software");
        let passed_over = choice.passed_over();
        assert!(passed_over.iter().all(|passed| passed.pipeline.contains("h264")), "{passed_over:?}");
        assert_eq!(passed_over.len(), 3);
        assert!(choice.found_codec(Codec::H265));
        assert_eq!(current(&choice), "rtsp-h265-pi5");
        assert!(choice.found_codec(Codec::Jpeg));
        assert_eq!(choice.current().unwrap_err(), "jpegdec is missing");
    }

    #[test]
    fn a_board_s_decoder_that_gives_no_picture_is_passed_over_and_told_of() {
        let mut choice = choice(&["avdec_h264", "v4l2h264dec"]);
        choice.found_codec(Codec::H264);
        assert!(choice.failed_start("no picture"));
        assert_eq!(current(&choice), "rtsp-h264-pi4", "drivers fail now and then");
        assert!(choice.failed_start("no picture"));
        assert_eq!(current(&choice), "rtsp-h264-software");
        let passed_over = choice.passed_over();
        let pi = passed_over.iter().find(|passed| passed.pipeline == "rtsp-h264-pi4").unwrap();
        assert_eq!(pi.reason, "no picture");
        let jetson = passed_over.iter().find(|passed| passed.pipeline == "rtsp-h264-jetson").unwrap();
        assert_eq!(jetson.reason, "nvv4l2decoder is missing");
        assert!(!passed_over.iter().any(|passed| passed.pipeline.contains("h265")));
        // Should that fail too, everything is tried again; what is for another codec is not.
        assert!(!choice.failed_start("no picture"));
        assert_eq!(current(&choice), "rtsp-h264-pi4");
    }

    #[test]
    fn a_camera_whose_codec_has_no_decoder_is_asked_again() {
        let mut choice = choice(&["avdec_h264"]);
        assert!(choice.found_codec(Codec::H265));
        assert_eq!(choice.current().unwrap_err(), "avdec_h265 is missing");
        assert!(!choice.failed_start("avdec_h265 is missing"));
        assert_eq!(current(&choice), "rtsp-h264-software", "it may send something else by now");
        assert!(!choice.failed_start("no picture"), "nothing else is for H.264");
        assert_eq!(current(&choice), "rtsp-h264-software");
    }
}
