//! The inferences of a frame: kept while they are made, and given again to a replay.
//!
//! A replay's object gets the inference whose crop overlaps its own most. What the classifier is asked then
//! depends only on what it has answered, so that a replay asks for what was recorded.

use crate::{
    error::{Error, ErrorKind},
    frame::Image,
    vision::{
        head::classes::Heatmap,
        rect::Rect,
        scene::{Found, Infer},
    },
};

/// Minimum overlap (intersection over union) of two crops that show the same object.
const MIN_IOU: f64 = 0.4;
/// Scores of classes below this are not kept.
const MIN_CLASS_SCORE: f32 = 1e-3;

/// One inference.
#[derive(Debug)]
pub struct Inference {
    /// The part of the image that was classified.
    pub crop: Rect,
    /// See [`Infer::everyday`].
    outputs: Vec<f32>,
    /// See [`Infer::classes`]: their number, and the index and score of those with a score. None if they were
    /// not computed.
    classes: Option<(usize, Vec<(u32, f32)>)>,
    /// See [`Infer::second_opinion`].
    second_opinion: Option<Vec<f32>>,
}

impl Inference {
    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        let classes = self.classes.as_ref().map_or(0, |(_, scores)| 8 * scores.capacity());
        let second = self.second_opinion.as_ref().map_or(0, Vec::capacity);
        classes + 4 * (self.outputs.capacity() + second)
    }
}

/// A classifier that keeps what another one finds.
pub struct InferenceLog<'a, I> {
    /// The other one.
    inner: &'a mut I,
    /// Whether anything is kept.
    is_on: bool,
    /// What it has found.
    pub inferences: Vec<Inference>,
    classes: Vec<f32>,
}

impl<'a, I: Infer> InferenceLog<'a, I> {
    /// Creates an empty log.
    pub fn new(inner: &'a mut I, is_on: bool) -> InferenceLog<'a, I> {
        InferenceLog { inner, is_on, inferences: Vec::new(), classes: Vec::new() }
    }
}

impl<I: Infer> Infer for InferenceLog<'_, I> {
    fn everyday(&mut self, image: &Image, rect: &Rect) -> Result<Vec<f32>, Error> {
        let outputs = self.inner.everyday(image, rect)?;
        if self.is_on {
            let second_opinion = self.inner.has_second_opinion().then(Vec::new);
            let outputs = outputs.clone();
            self.inferences.push(Inference { crop: *rect, outputs, classes: None, second_opinion });
        }
        Ok(outputs)
    }

    fn classes(&mut self, image: &Image, rect: &Rect) -> Result<&[f32], Error> {
        let Some(last) = self.inferences.last_mut() else { return self.inner.classes(image, rect) };
        self.classes.clear();
        self.classes.extend_from_slice(self.inner.classes(image, rect)?);
        let scores =
            (0u32..).zip(self.classes.iter().copied()).filter(|(_, score)| *score >= MIN_CLASS_SCORE);
        last.classes = Some((self.classes.len(), scores.collect()));
        if let Some(second) = &mut last.second_opinion {
            *second = self.inner.second_opinion().to_vec();
        }
        Ok(&self.classes)
    }

    fn has_second_opinion(&self) -> bool {
        self.inner.has_second_opinion()
    }

    fn second_opinion(&self) -> &[f32] {
        self.inner.second_opinion()
    }

    fn knows(&self, rect: &Rect) -> bool {
        self.inner.knows(rect)
    }

    fn has_time(&self) -> bool {
        self.inner.has_time()
    }

    fn detector_sizes(&self) -> &[(usize, usize)] {
        self.inner.detector_sizes()
    }

    fn detect(&mut self, image: &Image, rect: &Rect) -> Result<Vec<Found>, Error> {
        self.inner.detect(image, rect)
    }

    fn heatmap(&mut self, class: usize) -> Option<Heatmap> {
        self.inner.heatmap(class)
    }
}

/// A classifier that knows the recorded inferences of one frame, and nothing else.
pub struct RecordedClassifier<'a> {
    inferences: &'a [Inference],
    /// The inference of the last [`Infer::everyday`].
    chosen: Option<&'a Inference>,
    classes: Vec<f32>,
}

impl<'a> RecordedClassifier<'a> {
    /// Creates the classifier of a frame.
    pub fn new(inferences: &'a [Inference]) -> RecordedClassifier<'a> {
        RecordedClassifier { inferences, chosen: None, classes: Vec::new() }
    }

    /// The inference on this part of the image.
    fn find(&self, rect: &Rect) -> Option<&'a Inference> {
        let overlaps = self.inferences.iter().map(|inference| (inference, inference.crop.iou(rect)));
        let best = overlaps.filter(|(_, iou)| *iou >= MIN_IOU).max_by(|a, b| a.1.total_cmp(&b.1));
        best.map(|(inference, _)| inference)
    }
}

fn not_recorded() -> Error {
    Error::new(ErrorKind::Input, "this inference was not recorded")
}

impl Infer for RecordedClassifier<'_> {
    fn everyday(&mut self, _: &Image, rect: &Rect) -> Result<Vec<f32>, Error> {
        self.chosen = self.find(rect);
        self.chosen.map(|chosen| chosen.outputs.clone()).ok_or_else(not_recorded)
    }

    fn classes(&mut self, _: &Image, _: &Rect) -> Result<&[f32], Error> {
        let recorded = self.chosen.and_then(|chosen| chosen.classes.as_ref());
        let (count, scores) = recorded.ok_or_else(not_recorded)?;
        self.classes.clear();
        self.classes.resize(*count, 0.0);
        for &(class, score) in scores {
            self.classes[class as usize] = score;
        }
        Ok(&self.classes)
    }

    fn has_second_opinion(&self) -> bool {
        self.chosen.is_some_and(|chosen| chosen.second_opinion.is_some())
    }

    fn second_opinion(&self) -> &[f32] {
        self.chosen.and_then(|chosen| chosen.second_opinion.as_deref()).unwrap_or_default()
    }

    fn knows(&self, rect: &Rect) -> bool {
        self.find(rect).is_some()
    }

    fn heatmap(&mut self, _: usize) -> Option<Heatmap> {
        None
    }
}
