//! Which pipeline a camera uses: the best of its candidates that is installed and delivers frames. Pure.
//!
//! A candidate is skipped if it is for another codec, if elements are missing, or if it did not deliver a
//! frame. The last two reasons are published in the camera status. Candidates skipped for a failure are tried
//! again once none is left.

use super::template::{Codec, Pipeline};
use crate::wire::messages::SkippedPipeline;

/// Failed starts after which a hardware decoder is skipped. More than one, because drivers fail occasionally.
const MAX_HARDWARE_STARTS: u32 = 2;

/// A camera's candidate pipelines, best first, and the state of each.
#[derive(Debug)]
pub struct PipelineChoice {
    candidates: Vec<Candidate>,
    /// The codec that the camera has announced.
    codec: Option<Codec>,
}

#[derive(Debug)]
struct Candidate {
    pipeline: Pipeline,
    /// What it needs and this machine lacks, one sentence each.
    missing: Vec<String>,
    /// Consecutive starts without a frame.
    failed_starts: u32,
    /// The failure for which it is skipped.
    failure: Option<String>,
}

impl PipelineChoice {
    /// Creates the choice among `pipelines`, best first. `missing` returns what a pipeline needs and this
    /// machine lacks.
    pub fn new(pipelines: Vec<Pipeline>, missing: impl Fn(&Pipeline) -> Vec<String>) -> PipelineChoice {
        let candidate = |pipeline: Pipeline| {
            let missing = missing(&pipeline);
            Candidate { pipeline, missing, failed_starts: 0, failure: None }
        };
        PipelineChoice { candidates: pipelines.into_iter().map(candidate).collect(), codec: None }
    }

    /// The pipeline to use now.
    ///
    /// Errors: none can be used; the text names what must be installed.
    pub fn current(&self) -> Result<&Pipeline, String> {
        match self.current_index() {
            Some(index) => Ok(&self.candidates[index].pipeline),
            None => Err(self.missing_text()),
        }
    }

    /// The codecs for which a pipeline is installed.
    pub fn usable_codecs(&self) -> Vec<Codec> {
        let installed = self.candidates.iter().filter(|candidate| candidate.missing.is_empty());
        installed.filter_map(|candidate| candidate.pipeline.codec).collect()
    }

    /// Sets the codec that the camera has announced. Returns false, and changes nothing, if no candidate
    /// supports it.
    pub fn set_codec(&mut self, codec: Codec) -> bool {
        let is_supported = self.candidates.iter().any(|candidate| candidate.supports(codec));
        if is_supported {
            self.codec = Some(codec);
        }
        is_supported
    }

    /// Records that the current pipeline failed before its first frame. Returns whether to start again at
    /// once, with the same pipeline or the next one; if not, all have failed and the next start begins with
    /// the first one.
    pub fn start_failed(&mut self, reason: &str) -> bool {
        let Some(index) = self.current_index() else {
            self.reset();
            return false;
        };
        let candidate = &mut self.candidates[index];
        candidate.failed_starts += 1;
        let max_starts = if candidate.pipeline.hardware { MAX_HARDWARE_STARTS } else { 1 };
        if candidate.failed_starts < max_starts {
            return true;
        }
        candidate.failure = Some(reason.to_string());
        if self.current_index().is_some() {
            return true;
        }
        self.reset();
        false
    }

    /// Clears all failures and the codec, because the camera may have been replaced by then.
    fn reset(&mut self) {
        self.codec = None;
        for candidate in &mut self.candidates {
            (candidate.failure, candidate.failed_starts) = (None, 0);
        }
    }

    /// Records that the current pipeline delivered frames.
    pub fn start_succeeded(&mut self) {
        if let Some(index) = self.current_index() {
            self.candidates[index].failed_starts = 0;
        }
    }

    /// The pipelines that rank above the current one, each with the reason why it is not used.
    pub fn skipped(&self) -> Vec<SkippedPipeline> {
        let current = self.current_index();
        // Until the camera has announced its codec, the current pipeline's codec counts.
        let codec = self.codec.or_else(|| self.candidates[current?].pipeline.codec);
        let better = &self.candidates[..current.unwrap_or(self.candidates.len())];
        better
            .iter()
            .filter(|candidate| codec.is_none_or(|codec| candidate.supports(codec)))
            .filter_map(|candidate| {
                Some(SkippedPipeline {
                    pipeline: candidate.pipeline.template.clone(),
                    reason: candidate
                        .failure
                        .clone()
                        .or_else(|| (!candidate.missing.is_empty()).then(|| candidate.missing.join("; ")))?,
                })
            })
            .collect()
    }

    fn current_index(&self) -> Option<usize> {
        let is_usable = |candidate: &Candidate| candidate.missing.is_empty() && candidate.failure.is_none();
        // Most cameras send H.264, so that is tried first.
        let codec = self.codec.unwrap_or(Codec::H264);
        let first = self.candidates.iter().position(|c| is_usable(c) && c.supports(codec));
        // A pipeline for another codec only if none has been tried yet: starting it reveals the camera's
        // codec.
        let none_tried = self.codec.is_none() && self.candidates.iter().all(|c| c.failure.is_none());
        first.or_else(|| {
            self.candidates.iter().position(is_usable).filter(|_| none_tried || self.is_codec_independent())
        })
    }

    /// Whether the candidates do not differ in their codecs.
    fn is_codec_independent(&self) -> bool {
        self.candidates.iter().all(|candidate| candidate.pipeline.codec.is_none())
    }

    /// What the first candidate in software lacks, because hardware cannot be installed.
    fn missing_text(&self) -> String {
        let fits = |c: &&Candidate| self.codec.is_none_or(|codec| c.supports(codec)) && !c.pipeline.hardware;
        match self.candidates.iter().find(fits) {
            Some(candidate) if !candidate.missing.is_empty() => candidate.missing.join("; "),
            _ => "no pipeline supports it".to_string(),
        }
    }
}

impl Candidate {
    fn supports(&self, codec: Codec) -> bool {
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

    /// The choice for an RTSP camera on a machine that has only these decoders.
    fn choice(decoders: &[&str]) -> PipelineChoice {
        let pipelines = template::candidates(&camera(Source::Rtsp { url: "rtsp://h/s".into() })).unwrap();
        PipelineChoice::new(pipelines, |pipeline| {
            let has = |need: &&template::Need| {
                let is_decoder = |name: &String| name.contains("dec") && !name.contains("depay");
                need.any_of.iter().any(|name| is_decoder(name) && !decoders.contains(&name.as_str()))
            };
            pipeline.needs.iter().filter(has).map(|need| format!("{} is missing", need.any_of[0])).collect()
        })
    }

    fn current(choice: &PipelineChoice) -> &str {
        choice.current().map_or("none", |pipeline| &pipeline.template)
    }

    #[test]
    fn a_machine_gets_the_best_pipeline_that_it_supports() {
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
    fn the_codec_of_the_camera_selects_the_pipeline() {
        let mut choice = choice(&["avdec_h264", "avdec_h265", "v4l2slh265dec"]);
        assert_eq!(current(&choice), "rtsp-h264-software");
        let skipped = choice.skipped();
        assert!(skipped.iter().all(|pipeline| pipeline.pipeline.contains("h264")), "{skipped:?}");
        assert_eq!(skipped.len(), 3);
        assert!(choice.set_codec(Codec::H265));
        assert_eq!(current(&choice), "rtsp-h265-pi5");
        assert!(choice.set_codec(Codec::Jpeg));
        assert_eq!(choice.current().unwrap_err(), "jpegdec is missing");
    }

    #[test]
    fn a_hardware_decoder_without_output_is_skipped_and_reported() {
        let mut choice = choice(&["avdec_h264", "v4l2h264dec"]);
        choice.set_codec(Codec::H264);
        assert!(choice.start_failed("no frames"));
        assert_eq!(current(&choice), "rtsp-h264-pi4", "drivers fail now and then");
        assert!(choice.start_failed("no frames"));
        assert_eq!(current(&choice), "rtsp-h264-software");
        let skipped = choice.skipped();
        let pi = skipped.iter().find(|pipeline| pipeline.pipeline == "rtsp-h264-pi4").unwrap();
        assert_eq!(pi.reason, "no frames");
        let jetson = skipped.iter().find(|pipeline| pipeline.pipeline == "rtsp-h264-jetson").unwrap();
        assert_eq!(jetson.reason, "nvv4l2decoder is missing");
        assert!(!skipped.iter().any(|pipeline| pipeline.pipeline.contains("h265")));
        // If that one fails too, everything is tried again, except pipelines for another codec.
        assert!(!choice.start_failed("no frames"));
        assert_eq!(current(&choice), "rtsp-h264-pi4");
    }

    #[test]
    fn a_camera_whose_codec_has_no_decoder_is_tried_again() {
        let mut choice = choice(&["avdec_h264"]);
        assert!(choice.set_codec(Codec::H265));
        assert_eq!(choice.current().unwrap_err(), "avdec_h265 is missing");
        assert!(!choice.start_failed("avdec_h265 is missing"));
        assert_eq!(current(&choice), "rtsp-h264-software", "it may send another codec by then");
        assert!(!choice.start_failed("no frames"), "nothing else is for H.264");
        assert_eq!(current(&choice), "rtsp-h264-software");
    }
}
