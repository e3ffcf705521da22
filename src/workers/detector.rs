//! Finds objects in regions of images: preprocessing, the detection network and the decoding of its outputs,
//! with their buffers. There is one detector per thread.

use crate::{
    config::Network,
    error::{Error, ErrorKind},
    files,
    frame::Image,
    vision::{
        detector::{
            Decoder, Detection, Fit,
            layout::{Colours, Layout, Output, Position},
        },
        preprocess::Preprocessor,
        rect::Rect,
        taxonomy::Taxonomy,
    },
};
use engine::model::{Element, TensorInfo};
use std::{path::Path, sync::Arc};

/// Maximum size of a network, and of the file that describes it.
const MAX_NETWORK_BYTES: u64 = 256 << 20;
const MAX_LAYOUT_BYTES: u64 = 1 << 20;
/// Grey of the part of the input that no image covers.
const GREY: u8 = 114;
/// The built-in detector.
const BUILT_IN: &[u8] = include_bytes!("../../models/detector/detector_320_int8.tflite");
const BUILT_IN_LAYOUT: &str = include_str!("../../models/detector/detector_320_int8.toml");
const BUILT_IN_NAME: &str = "detector_320_int8 (built in)";

/// A detection network that is ready to run.
#[derive(Clone)]
pub struct DetectorModel {
    network: engine::Model,
    /// Width and height of the input in pixels.
    input_size: (usize, usize),
    decoder: Arc<Decoder>,
}

/// Finds objects.
pub struct Detector {
    model: DetectorModel,
    session: engine::model::Session,
    /// Scales the region that was last searched, and those of its size.
    preprocessor: Option<((usize, usize), Preprocessor)>,
    input: Vec<u8>,
    /// The bytes of the outputs of the last run.
    outputs: Vec<Vec<u8>>,
}

impl DetectorModel {
    /// Opens a detector, or the built-in one, with the engine that `network` selects. A file with the same
    /// name and the ending `.toml` beside the network describes its outputs.
    ///
    /// Errors ([`ErrorKind::Input`]): a file cannot be read, the engine rejects the network, or the
    /// description does not fit it.
    pub fn open(file: Option<&Path>, network: &Network) -> Result<DetectorModel, Error> {
        let Some(file) = file else {
            return DetectorModel::new(BUILT_IN, BUILT_IN_NAME, BUILT_IN_LAYOUT, BUILT_IN_NAME, network);
        };
        let read = |path: &Path, max_bytes: u64| {
            files::read_bounded(path, max_bytes)
                .map_err(|e| Error::caused(ErrorKind::Input, format!("detector {}", path.display()), e))
        };
        let layout_file = file.with_extension("toml");
        let bytes = read(file, MAX_NETWORK_BYTES)?;
        let text = read(&layout_file, MAX_LAYOUT_BYTES)?;
        let text = String::from_utf8(text)
            .map_err(|e| Error::caused(ErrorKind::Input, format!("detector {}", layout_file.display()), e))?;
        let (source, layout_source) = (file.display().to_string(), layout_file.display().to_string());
        DetectorModel::new(&bytes, &source, &text, &layout_source, network)
    }

    fn new(
        bytes: &[u8],
        source: &str,
        layout: &str,
        layout_source: &str,
        network: &Network,
    ) -> Result<DetectorModel, Error> {
        let options = engine::model::Options { cap: network.kernels, keep: &[] };
        let network = engine::Model::from_bytes(bytes, &options)
            .map_err(|e| Error::caused(ErrorKind::Input, format!("detector {source}"), e))?;
        let refuse = |problem| Error::new(ErrorKind::Input, format!("detector {source}: {problem}"));
        let input_size = image_size(&network.input()).map_err(refuse)?;
        let describe = |TensorInfo { name, shape, element, quantization: (scale, zero_point) }| Output {
            name,
            shape,
            scale,
            zero_point,
            is_signed: element == Element::Int8,
        };
        if let Some(output) = network.outputs().iter().find(|output| output.element == Element::Float32) {
            return Err(refuse(format!(
                "output {:?} has f32 values; camfire runs int8 networks",
                output.name
            )));
        }
        let outputs: Vec<Output> = network.outputs().into_iter().map(describe).collect();
        let misfit = |problem| Error::new(ErrorKind::Input, format!("detector {layout_source}: {problem}"));
        let layout = Layout::parse(layout).map_err(misfit)?;
        let decoder = Decoder::new(layout, &outputs, input_size).map_err(misfit)?;
        Ok(DetectorModel { network, input_size, decoder: Arc::new(decoder) })
    }

    /// Checks that the detector has a label that camfire's objects can have.
    ///
    /// Errors ([`ErrorKind::Input`]): none of its labels is one of the everyday labels.
    pub fn check_labels(&self, taxonomy: &Taxonomy) -> Result<(), Error> {
        let Layout { name, labels, .. } = self.layout();
        if labels.iter().any(|label| taxonomy.find_everyday(label).is_some()) {
            return Ok(());
        }
        let message = format!(
            "detector {name}: none of its labels is an everyday label (person, vehicle, two-wheeler, animal and their kinds)"
        );
        Err(Error::new(ErrorKind::Input, message))
    }

    /// The description of the network's outputs.
    pub fn layout(&self) -> &Layout {
        self.decoder.layout()
    }
}

/// Width and height of an input that takes an image as RGB bytes.
///
/// Errors: what the input is instead.
fn image_size(input: &TensorInfo) -> Result<(usize, usize), String> {
    let is_bytes = match input.element {
        Element::Int8 => input.quantization == (1.0, -128),
        Element::Uint8 => input.quantization == (1.0, 0),
        Element::Float32 => false,
    };
    match input.shape[..] {
        [1, height, width, 3] if is_bytes => Ok((width, height)),
        _ => Err(format!(
            "the input must be 1 x height x width x 3 bytes of colours (scale 1); it is {:?} of {:?} with scale and zero \
             point {:?}",
            input.shape, input.element, input.quantization
        )),
    }
}

impl Detector {
    /// Opens a session with the network.
    pub fn open(model: &DetectorModel) -> Detector {
        let bytes = |info: TensorInfo| vec![0; info.shape.iter().product()];
        Detector {
            session: model.network.session(),
            preprocessor: None,
            input: Vec::new(),
            outputs: model.network.outputs().into_iter().map(bytes).collect(),
            model: model.clone(),
        }
    }

    /// Finds the objects in a region of the upright image, best first.
    ///
    /// Errors ([`ErrorKind::System`]): the pixels cannot be read, or the engine fails.
    pub fn detect(&mut self, image: &Image, region: &Rect, min_score: f32) -> Result<Vec<Detection>, Error> {
        let fit = Fit::new(region, self.model.input_size, self.model.layout().position == Position::Centre);
        self.fill_input(image, region, &fit)?;
        let failed = |error| Error::caused(ErrorKind::System, "cannot search the image for objects", error);
        self.session.run(&self.input).map_err(failed)?;
        for (index, bytes) in self.outputs.iter_mut().enumerate() {
            self.session.read(engine::model::Tensor::Output(index), bytes).map_err(failed)?;
        }
        Ok(self.model.decoder.decode(&self.outputs, &fit, min_score))
    }

    /// Scales the region into the input.
    fn fill_input(&mut self, image: &Image, region: &Rect, fit: &Fit) -> Result<(), Error> {
        let (width, height) = self.model.input_size;
        let reusable = self.preprocessor.take().filter(|(size, _)| *size == fit.size);
        let (_, preprocessor) = self
            .preprocessor
            .insert(reusable.unwrap_or_else(|| (fit.size, Preprocessor::new(fit.size.0, fit.size.1))));
        let rgb = preprocessor
            .run(image, region)
            .map_err(|e| Error::caused(ErrorKind::System, "cannot preprocess the image", e))?;
        self.input.clear();
        self.input.resize(3 * width * height, GREY);
        let (left, top) = fit.offset;
        for (row, pixels) in rgb.chunks_exact(3 * fit.size.0).enumerate() {
            let start = 3 * ((top + row) * width + left);
            self.input[start..start + pixels.len()].copy_from_slice(pixels);
        }
        if self.model.layout().colours == Colours::Bgr {
            self.input.chunks_exact_mut(3).for_each(|pixel| pixel.swap(0, 2));
        }
        Ok(())
    }
}
