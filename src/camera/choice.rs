//! Which pipeline a camera uses. Pure.
//!
//! A pipeline proves itself by delivering a picture. Each start without one, however it failed, counts
//! against it; its next picture clears that. What follows on such a start:
//!
//! - One that has not proved itself is given up, and the next one is tried at once. A hardware decoder is
//!   started twice ([`HARDWARE_STARTS`]).
//! - One that has proved itself is tried again after a pause, and given up after [`PROVEN_STARTS`] in a row.
//! - One that is given up is not used while another one remains. If it had proved itself, it comes back when
//!   the camera is opened after [`COME_BACK_AFTER`].
//!
//! When all are given up, the camera has failed: all are free again, and those that have proved themselves
//! are tried first. A camera that announces a codec or a kind of content restricts the candidates until then.

use super::{
    FailureKind,
    http::Content,
    template::{Codec, Pipeline},
};
use crate::wire::messages::SkippedPipeline;
use std::time::Duration;

/// Starts without a picture after which a hardware decoder that has not proved itself is given up. More than
/// one, because drivers fail occasionally.
const HARDWARE_STARTS: u32 = 2;
/// Starts without a picture in a row after which a pipeline that has proved itself is given up.
const PROVEN_STARTS: u32 = 3;
/// Times in a row that another pipeline is selected because the camera announces another codec or other
/// content, before that is a failure.
const MAX_CHANGES: u32 = 2;
/// How long such a pipeline stays given up if another one delivers pictures. The other one is not
/// interrupted for it.
const COME_BACK_AFTER: Duration = Duration::from_secs(600);

/// A camera's candidate pipelines, best first, and the state of each.
#[derive(Debug)]
pub struct PipelineChoice {
    candidates: Vec<Candidate>,
    /// The codec that the camera has announced.
    codec: Option<Codec>,
    /// The kind of content that the camera has announced.
    content: Option<Content>,
    /// Changes of the two in a row, without a picture.
    changes: u32,
}

#[derive(Debug)]
struct Candidate {
    pipeline: Pipeline,
    /// What it needs and this machine lacks, one sentence each.
    missing: Vec<String>,
    /// It has delivered a picture.
    proven: bool,
    /// Starts without a picture since its last picture.
    failed_starts: u32,
    /// How the last of them failed.
    failure: Option<String>,
    /// When it was given up.
    given_up_at: Option<Duration>,
}

/// What follows on a start without a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextStart {
    /// Another start, at once: of the next pipeline, or of a hardware decoder for the second time.
    AtOnce,
    /// The same pipeline after a pause, because it has delivered pictures before.
    Same,
    /// All pipelines have failed. After a pause, they are tried again.
    AllFailed,
}

impl PipelineChoice {
    /// Creates the choice among `pipelines`, best first. `missing` returns what a pipeline needs and this
    /// machine lacks.
    pub fn new(pipelines: Vec<Pipeline>, missing: impl Fn(&Pipeline) -> Vec<String>) -> PipelineChoice {
        let candidate = |pipeline: Pipeline| {
            let missing = missing(&pipeline);
            Candidate { pipeline, missing, proven: false, failed_starts: 0, failure: None, given_up_at: None }
        };
        let candidates = pipelines.into_iter().map(candidate).collect();
        PipelineChoice { candidates, codec: None, content: None, changes: 0 }
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

    /// Frees the pipelines that come back at `now`. Called before the camera is opened.
    pub fn opening(&mut self, now: Duration) {
        for candidate in self.candidates.iter_mut().filter(|candidate| candidate.proven) {
            if candidate.given_up_at.is_some_and(|at| now.saturating_sub(at) >= COME_BACK_AFTER) {
                candidate.free();
            }
        }
    }

    /// Selects a pipeline for what the camera has announced, if that is why the current one failed. Returns
    /// whether to start again at once: not if no candidate fits, nor if the camera keeps changing.
    pub fn follow(&mut self, kind: FailureKind) -> bool {
        let has_changed = self.changes < MAX_CHANGES
            && match kind {
                FailureKind::OtherCodec(codec) => self.set_codec(codec),
                FailureKind::OtherContent(content) => self.set_content(content),
                _ => false,
            };
        self.changes += u32::from(has_changed);
        has_changed
    }

    /// Allows changes again, after a pause.
    pub fn paused(&mut self) {
        self.changes = 0;
    }

    /// Sets the codec that the camera has announced. Returns false, and changes nothing, if no candidate
    /// supports it.
    fn set_codec(&mut self, codec: Codec) -> bool {
        let is_supported = self.candidates.iter().any(|candidate| candidate.supports(codec));
        if is_supported {
            self.codec = Some(codec);
        }
        is_supported
    }

    /// Sets the kind of content that the camera has announced. Returns false, and changes nothing, if no
    /// candidate is for it.
    fn set_content(&mut self, content: Content) -> bool {
        let is_supported = self.candidates.iter().any(|candidate| candidate.is_for(content));
        if is_supported {
            self.content = Some(content);
            // A pipeline for it may have been given up because the camera sent something else.
            if self.current_index().is_none() {
                self.candidates.iter_mut().filter(|c| c.is_for(content)).for_each(Candidate::free);
            }
        }
        is_supported
    }

    /// Records that the current pipeline failed before its first picture, at `now`. Returns what follows.
    pub fn start_failed(&mut self, reason: &str, now: Duration) -> NextStart {
        let Some(index) = self.current_index() else {
            self.free_all();
            return NextStart::AllFailed;
        };
        let candidate = &mut self.candidates[index];
        candidate.failed_starts += 1;
        candidate.failure = Some(reason.to_string());
        let max_starts = match (candidate.proven, candidate.pipeline.hardware) {
            (true, _) => PROVEN_STARTS,
            (false, true) => HARDWARE_STARTS,
            (false, false) => 1,
        };
        if candidate.failed_starts < max_starts {
            return if candidate.proven { NextStart::Same } else { NextStart::AtOnce };
        }
        candidate.given_up_at = Some(now);
        if self.current_index().is_some() {
            return NextStart::AtOnce;
        }
        self.free_all();
        NextStart::AllFailed
    }

    /// Records that the current pipeline delivered pictures.
    pub fn start_succeeded(&mut self) {
        self.changes = 0;
        if let Some(index) = self.current_index() {
            let candidate = &mut self.candidates[index];
            candidate.proven = true;
            candidate.free();
            candidate.failure = None;
        }
    }

    /// Whether the current pipeline has delivered pictures at some time.
    pub fn is_proven(&self) -> bool {
        self.current_index().is_some_and(|index| self.candidates[index].proven)
    }

    /// Frees all pipelines and forgets what the camera has announced, because it may have been replaced.
    fn free_all(&mut self) {
        (self.codec, self.content) = (None, None);
        self.candidates.iter_mut().for_each(Candidate::free);
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
                let missing = (!candidate.missing.is_empty()).then(|| candidate.missing.join("; "));
                let other = self.content.filter(|content| !candidate.is_for(*content));
                let other = other.map(|content| format!("the camera sends {content}"));
                Some(SkippedPipeline {
                    pipeline: candidate.pipeline.template.clone(),
                    reason: missing.or(other).or_else(|| candidate.failure.clone())?,
                })
            })
            .collect()
    }

    fn current_index(&self) -> Option<usize> {
        let is_usable = |candidate: &Candidate| {
            candidate.missing.is_empty()
                && candidate.given_up_at.is_none()
                && self.content.is_none_or(|content| candidate.is_for(content))
        };
        let position = |fits: &dyn Fn(&Candidate) -> bool| {
            let proven = self.candidates.iter().position(|c| c.proven && is_usable(c) && fits(c));
            proven.or_else(|| self.candidates.iter().position(|c| is_usable(c) && fits(c)))
        };
        match self.codec {
            Some(codec) => position(&|c| c.supports(codec)),
            // A pipeline for another codec only if none has been tried yet: starting it reveals the camera's
            // codec. Most cameras send H.264, so that is tried first.
            None => {
                position(&|c| c.proven).or_else(|| position(&|c| c.supports(Codec::H264))).or_else(|| {
                    let none_tried = self.candidates.iter().all(|c| c.given_up_at.is_none());
                    position(&|_| none_tried || self.is_codec_independent())
                })
            }
        }
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

    fn is_for(&self, content: Content) -> bool {
        self.pipeline.content.is_none_or(|own| own == content)
    }

    fn free(&mut self) {
        (self.failed_starts, self.given_up_at) = (0, None);
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

    /// Fails a start at `at_s`.
    fn fail(choice: &mut PipelineChoice, at_s: u64) -> NextStart {
        choice.start_failed("no frames", Duration::from_secs(at_s))
    }

    #[test]
    fn a_hardware_decoder_without_output_is_skipped_and_reported() {
        let mut choice = choice(&["avdec_h264", "v4l2h264dec"]);
        choice.set_codec(Codec::H264);
        assert_eq!(fail(&mut choice, 0), NextStart::AtOnce);
        assert_eq!(current(&choice), "rtsp-h264-pi4", "drivers fail now and then");
        assert_eq!(fail(&mut choice, 1), NextStart::AtOnce);
        assert_eq!(current(&choice), "rtsp-h264-software");
        let skipped = choice.skipped();
        let pi = skipped.iter().find(|pipeline| pipeline.pipeline == "rtsp-h264-pi4").unwrap();
        assert_eq!(pi.reason, "no frames");
        let jetson = skipped.iter().find(|pipeline| pipeline.pipeline == "rtsp-h264-jetson").unwrap();
        assert_eq!(jetson.reason, "nvv4l2decoder is missing");
        assert!(!skipped.iter().any(|pipeline| pipeline.pipeline.contains("h265")));
        // If that one fails too, everything is tried again, except pipelines for another codec.
        assert_eq!(fail(&mut choice, 2), NextStart::AllFailed);
        assert_eq!(current(&choice), "rtsp-h264-pi4");
    }

    #[test]
    fn a_camera_whose_codec_has_no_decoder_is_tried_again() {
        let mut choice = choice(&["avdec_h264"]);
        assert!(choice.set_codec(Codec::H265));
        assert_eq!(choice.current().unwrap_err(), "avdec_h265 is missing");
        assert_eq!(fail(&mut choice, 0), NextStart::AllFailed);
        assert_eq!(current(&choice), "rtsp-h264-software", "it may send another codec by then");
        assert_eq!(fail(&mut choice, 1), NextStart::AllFailed, "nothing else is for H.264");
        assert_eq!(current(&choice), "rtsp-h264-software");
    }

    /// The choice for an HTTP camera on a machine that has everything.
    fn http() -> PipelineChoice {
        let pipelines = template::candidates(&camera(Source::Http { url: "http://h/x".into() })).unwrap();
        PipelineChoice::new(pipelines, |_| Vec::new())
    }

    #[test]
    fn each_pipeline_is_tried_once_until_one_proves_itself() {
        let mut choice = http();
        let mut tried = vec![current(&choice).to_string()];
        while fail(&mut choice, 0) == NextStart::AtOnce {
            tried.push(current(&choice).to_string());
        }
        assert_eq!(tried, ["http-mjpeg", "http-stream", "http-stills", "http-hls"]);
        assert_eq!(current(&choice), "http-mjpeg", "all are free again");
        assert_eq!((fail(&mut choice, 1), fail(&mut choice, 1)), (NextStart::AtOnce, NextStart::AtOnce));
        assert!(!choice.is_proven());
        choice.start_succeeded();
        assert_eq!((current(&choice), choice.is_proven()), ("http-stills", true));
        let skipped: Vec<_> = choice.skipped().into_iter().map(|skipped| skipped.reason).collect();
        assert_eq!(skipped, ["no frames"; 2]);
    }

    #[test]
    fn a_pipeline_that_has_proved_itself_is_not_given_up_for_a_few_failures() {
        let mut choice = http();
        choice.set_content(Content::Still);
        choice.start_succeeded();
        for round in 0..5 {
            assert_eq!(
                (fail(&mut choice, round), fail(&mut choice, round)),
                (NextStart::Same, NextStart::Same)
            );
            assert_eq!(current(&choice), "http-stills");
            choice.start_succeeded();
        }
        // The camera has announced this content, so no other pipeline is tried. Then it may be replaced.
        assert_eq!((fail(&mut choice, 9), fail(&mut choice, 9)), (NextStart::Same, NextStart::Same));
        assert_eq!(fail(&mut choice, 9), NextStart::AllFailed);
        assert_eq!(current(&choice), "http-stills", "what has worked comes first");
        for _ in 0..2 {
            assert_eq!(fail(&mut choice, 10), NextStart::Same);
        }
        assert_eq!(fail(&mut choice, 10), NextStart::AtOnce);
        assert_eq!(current(&choice), "http-mjpeg");
    }

    #[test]
    fn a_pipeline_that_had_proved_itself_comes_back() {
        let mut choice = choice(&["avdec_h264", "v4l2h264dec"]);
        choice.start_succeeded();
        assert_eq!((current(&choice), choice.is_proven()), ("rtsp-h264-pi4", true));
        assert_eq!((fail(&mut choice, 5), fail(&mut choice, 6)), (NextStart::Same, NextStart::Same));
        assert_eq!(fail(&mut choice, 7), NextStart::AtOnce);
        assert_eq!((current(&choice), choice.is_proven()), ("rtsp-h264-software", false));
        choice.start_succeeded();
        choice.opening(Duration::from_secs(606));
        assert_eq!(current(&choice), "rtsp-h264-software");
        choice.opening(Duration::from_secs(607));
        assert_eq!(current(&choice), "rtsp-h264-pi4");
        // It gets the same chances as before.
        assert_eq!(fail(&mut choice, 608), NextStart::Same);
        choice.start_succeeded();
        assert!(choice.skipped().iter().all(|skipped| skipped.pipeline != "rtsp-h264-pi4"));
    }

    #[test]
    fn what_has_not_proved_itself_waits_until_nothing_else_is_left() {
        let mut choice = choice(&["avdec_h264", "v4l2h264dec"]);
        fail(&mut choice, 0);
        fail(&mut choice, 0);
        choice.start_succeeded();
        choice.opening(Duration::from_secs(86_400));
        assert_eq!(current(&choice), "rtsp-h264-software");
        for _ in 0..2 {
            assert_eq!(fail(&mut choice, 86_400), NextStart::Same);
        }
        assert_eq!(fail(&mut choice, 86_400), NextStart::AllFailed);
        assert_eq!(current(&choice), "rtsp-h264-software", "the one that has worked comes first");
    }

    #[test]
    fn the_content_of_an_http_camera_selects_the_pipeline() {
        let mut choice = http();
        for (content, expected) in [
            (Content::Stream, "http-stream"),
            (Content::Hls, "http-hls"),
            (Content::Still, "http-stills"),
            (Content::Mjpeg, "http-mjpeg"),
        ] {
            assert!(choice.set_content(content));
            assert_eq!(current(&choice), expected);
        }
        choice.set_content(Content::Still);
        let skipped = choice.skipped();
        assert!(
            skipped.iter().all(|skipped| skipped.reason == "the camera sends a still image"),
            "{skipped:?}"
        );
    }
}
