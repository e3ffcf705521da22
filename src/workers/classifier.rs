//! Classifies regions of images: preprocessing, the network and its head, with their buffers.
//!
//! Camera frames and photos are classified in the same way. There is one classifier per thread.

use crate::{
    clock::Clock,
    error::{Error, ErrorKind},
    frame::Image,
    vision::{
        head::{self, Head, Heatmap, Score},
        preprocess::Preprocessor,
        rect::Rect,
        scene::Infer,
    },
    workers::model::Model,
};
use std::time::Duration;

/// Classifies regions of images.
pub struct Classifier {
    preprocessor: Preprocessor,
    session: Box<dyn engine::Session>,
    head: Head,
    /// The network's output map of the last inference.
    map: Vec<i8>,
}

impl Classifier {
    /// Opens a session with the model's engine.
    ///
    /// Errors ([`ErrorKind::System`]): the engine has no memory for another session.
    pub fn open(model: &Model) -> Result<Classifier, Error> {
        let signature = model.engine.signature();
        let session = model
            .engine
            .session()
            .map_err(|e| Error::caused(ErrorKind::System, "cannot open an engine session", e))?;
        Ok(Classifier {
            preprocessor: Preprocessor::new(signature.input_width, signature.input_height),
            session,
            head: Head::new(signature),
            map: Vec::new(),
        })
    }

    /// The `count` best classes of the whole image, best first.
    ///
    /// Errors ([`ErrorKind::System`]): the pixels cannot be read, or the engine fails.
    pub fn classify(&mut self, image: &Image, count: usize) -> Result<Vec<Score>, Error> {
        Ok(head::top(self.infer(image, &Rect::whole(image))?, count))
    }
}

impl Infer for Classifier {
    fn infer(&mut self, image: &Image, rect: &Rect) -> Result<&[f32], Error> {
        let rgb = self
            .preprocessor
            .run(image, rect)
            .map_err(|e| Error::caused(ErrorKind::System, "cannot preprocess the image", e))?;
        let map = self
            .session
            .run(rgb)
            .map_err(|e| Error::caused(ErrorKind::System, "cannot classify the image", e))?;
        self.map.clear();
        self.map.extend_from_slice(map);
        Ok(self.head.scores(&self.map))
    }

    fn heatmap(&mut self, class: usize) -> Option<Heatmap> {
        self.head.heatmap(&self.map, class)
    }
}

/// A classifier that measures how long its inferences take.
pub struct TimedClassifier<'a> {
    /// The classifier.
    pub classifier: &'a mut Classifier,
    /// The clock to measure by.
    pub clock: &'a dyn Clock,
    /// Total time of the inferences so far, preprocessing included.
    pub elapsed: Duration,
}

impl Infer for TimedClassifier<'_> {
    fn infer(&mut self, image: &Image, rect: &Rect) -> Result<&[f32], Error> {
        let started = self.clock.monotonic();
        let outcome = self.classifier.infer(image, rect);
        self.elapsed += self.clock.monotonic() - started;
        outcome
    }

    fn heatmap(&mut self, class: usize) -> Option<Heatmap> {
        self.classifier.heatmap(class)
    }
}
