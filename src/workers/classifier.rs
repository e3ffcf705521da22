//! Classifies regions of images, and finds objects in them: preprocessing, the networks and their heads, with
//! their buffers.
//!
//! Camera frames and photos are classified in the same way. There is one classifier per thread.

use crate::{
    clock::Clock,
    error::{Error, ErrorKind},
    frame::Image,
    vision::{
        detector::Detection,
        head::{
            classes::{ClassHead, Heatmap},
            file::HeadFile,
            trained::add_means,
        },
        preprocess::Preprocessor,
        rect::Rect,
        scene::{Found, Infer},
    },
    workers::{
        detector::Detector,
        model::{Everyday, Model},
    },
};
use std::{sync::Arc, time::Duration};

/// Classifies regions of images.
pub struct Classifier {
    network: Runner,
    class_head: ClassHead,
    everyday: Option<EverydayRunner>,
    detector: Option<SceneDetector>,
    /// The network's output map of the last inference.
    map: Vec<i8>,
    /// The network's last inference stopped at the maps of the everyday head.
    is_unfinished: bool,
    /// A second everyday head, which reads the network with the classes.
    second_head: Option<Arc<HeadFile>>,
    /// Its outputs of the last inference. Empty without a second head.
    second_outputs: Vec<f32>,
    means: Vec<f32>,
}

/// The everyday head, with its network if that is another one.
struct EverydayRunner {
    head: Arc<HeadFile>,
    network: Option<Runner>,
    /// The means of the maps that the head reads.
    means: Vec<f32>,
}

/// A detector with the labels of objects.
struct SceneDetector {
    detector: Detector,
    /// The label of each class of the detector. None: objects cannot have it.
    labels: Vec<Option<usize>>,
    min_score: f32,
}

/// A network with the preprocessing for its input.
struct Runner {
    engine: Arc<dyn engine::Engine>,
    session: Box<dyn engine::Session>,
    preprocessor: Preprocessor,
}

impl Runner {
    fn open(engine: &Arc<dyn engine::Engine>) -> Result<Runner, Error> {
        let session = engine
            .session()
            .map_err(|e| Error::caused(ErrorKind::System, "cannot open an engine session", e))?;
        let signature = engine.signature();
        let preprocessor = Preprocessor::new(signature.input_width, signature.input_height);
        Ok(Runner { engine: engine.clone(), session, preprocessor })
    }

    /// Runs the network as far as its maps and adds up their means.
    fn run_to_means(&mut self, image: &Image, rect: &Rect, means: &mut Vec<f32>) -> Result<(), Error> {
        let rgb = self.preprocessor.run(image, rect).map_err(preprocess_error)?;
        self.session.run_to_maps(rgb).map_err(run_error)?;
        means.clear();
        for (index, map) in self.engine.maps().iter().enumerate() {
            add_means(map, self.session.map(index), means);
        }
        Ok(())
    }

    fn run(&mut self, image: &Image, rect: &Rect) -> Result<&[i8], Error> {
        let rgb = self.preprocessor.run(image, rect).map_err(preprocess_error)?;
        self.session.run(rgb).map_err(run_error)
    }
}

fn preprocess_error(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::caused(ErrorKind::System, "cannot preprocess the image", error)
}

fn run_error(error: engine::Error) -> Error {
    Error::caused(ErrorKind::System, "cannot classify the image", error)
}

impl Classifier {
    /// Opens a session with each of the model's networks.
    ///
    /// Errors ([`ErrorKind::System`]): the engine has no memory for another session.
    pub fn open(model: &Model) -> Result<Classifier, Error> {
        let everyday = |everyday: &Everyday| {
            let network = everyday.network.as_ref().map(Runner::open).transpose()?;
            Ok(EverydayRunner { head: everyday.head.clone(), network, means: Vec::new() })
        };
        Ok(Classifier {
            network: Runner::open(&model.engine)?,
            class_head: ClassHead::new(model.engine.signature()),
            detector: model.detector.as_ref().map(|detector| {
                let layout = detector.layout();
                let label = |name: &String| model.taxonomy.find_everyday(name);
                SceneDetector {
                    detector: Detector::open(detector),
                    labels: layout.labels.iter().map(label).collect(),
                    min_score: layout.min_score,
                }
            }),
            everyday: model.everyday.as_ref().map(everyday).transpose()?,
            map: Vec::new(),
            is_unfinished: false,
            second_head: model.everyday.as_ref().and_then(|everyday| everyday.second_head.clone()),
            second_outputs: Vec::new(),
            means: Vec::new(),
        })
    }
}

impl Infer for Classifier {
    fn everyday(&mut self, image: &Image, rect: &Rect) -> Result<Vec<f32>, Error> {
        let Some(EverydayRunner { head, network, means }) = &mut self.everyday else {
            return Ok(Vec::new());
        };
        match network {
            Some(network) => network.run_to_means(image, rect, means)?,
            None => {
                self.network.run_to_means(image, rect, means)?;
                self.is_unfinished = true;
            }
        }
        Ok(head.layers.run(means))
    }

    fn classes(&mut self, image: &Image, rect: &Rect) -> Result<&[f32], Error> {
        if let Some(head) = &self.second_head {
            self.network.run_to_means(image, rect, &mut self.means)?;
            self.second_outputs = head.layers.run(&self.means);
            self.is_unfinished = true;
        }
        let map = match std::mem::take(&mut self.is_unfinished) {
            true => self.network.session.finish().map_err(run_error)?,
            false => self.network.run(image, rect)?,
        };
        self.map.clear();
        self.map.extend_from_slice(map);
        Ok(self.class_head.scores(&self.map))
    }

    fn has_second_opinion(&self) -> bool {
        self.second_head.is_some()
    }

    fn second_opinion(&self) -> &[f32] {
        &self.second_outputs
    }

    fn detector_sizes(&self) -> &[(usize, usize)] {
        self.detector.as_ref().map_or(&[], |own| own.detector.sizes())
    }

    fn detect(&mut self, image: &Image, rect: &Rect) -> Result<Vec<Found>, Error> {
        let Some(SceneDetector { detector, labels, min_score }) = &mut self.detector else {
            return Ok(Vec::new());
        };
        let detections = detector.detect(image, rect, *min_score)?;
        let found = |detection: Detection| {
            let Detection { label, score, rect } = detection;
            Some(Found { rect, label: labels[label]?, score })
        };
        Ok(detections.into_iter().filter_map(found).collect())
    }

    fn heatmap(&mut self, class: usize) -> Option<Heatmap> {
        self.class_head.heatmap(&self.map, class)
    }
}

/// A classifier that measures how long its inferences take, with a time budget.
pub struct TimedClassifier<'a> {
    /// The classifier.
    pub classifier: &'a mut Classifier,
    /// The clock to measure by.
    pub clock: &'a dyn Clock,
    /// Time for inferences on tracked objects.
    pub budget: Duration,
    /// Total time of the inferences so far, preprocessing included.
    pub elapsed: Duration,
}

impl TimedClassifier<'_> {
    fn timed<'c, T>(
        &'c mut self,
        run: impl FnOnce(&'c mut Classifier) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let started = self.clock.monotonic();
        let outcome = run(&mut *self.classifier);
        self.elapsed += self.clock.monotonic() - started;
        outcome
    }
}

impl Infer for TimedClassifier<'_> {
    fn everyday(&mut self, image: &Image, rect: &Rect) -> Result<Vec<f32>, Error> {
        self.timed(|classifier| classifier.everyday(image, rect))
    }

    fn classes(&mut self, image: &Image, rect: &Rect) -> Result<&[f32], Error> {
        self.timed(|classifier| classifier.classes(image, rect))
    }

    fn has_second_opinion(&self) -> bool {
        self.classifier.has_second_opinion()
    }

    fn second_opinion(&self) -> &[f32] {
        self.classifier.second_opinion()
    }

    fn has_time(&self) -> bool {
        self.elapsed < self.budget
    }

    fn detector_sizes(&self) -> &[(usize, usize)] {
        self.classifier.detector_sizes()
    }

    fn detect(&mut self, image: &Image, rect: &Rect) -> Result<Vec<Found>, Error> {
        self.timed(|classifier| classifier.detect(image, rect))
    }

    fn heatmap(&mut self, class: usize) -> Option<Heatmap> {
        self.classifier.heatmap(class)
    }
}
