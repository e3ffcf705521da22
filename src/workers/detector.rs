//! Finds objects in regions of images: preprocessing, the detection network and the decoding of its outputs,
//! with their buffers. There is one detector per thread.

use crate::{
    config::Network,
    error::{Error, ErrorKind},
    files,
    frame::Image,
    hex,
    vision::{
        detector::{
            Decoder, Detection, Fit, best_input,
            layout::{Colours, Layout, Output, Position},
        },
        preprocess::Preprocessor,
        rect::Rect,
        taxonomy::Taxonomy,
    },
    wire::messages,
};
use engine::model::{Element, TensorInfo};
use sha2::{Digest, Sha256};
use std::{path::Path, sync::Arc};

/// Maximum size of a network, and of the file that describes it.
const MAX_NETWORK_BYTES: u64 = 256 << 20;
const MAX_LAYOUT_BYTES: u64 = 1 << 20;
/// Grey of the part of the input that no image covers.
const GREY: u8 = 114;
/// The built-in detector for inputs of both sizes, and what the outputs mean.
const BUILT_IN: [&[u8]; 2] = [
    include_bytes!("../../models/detector/detector_320_int8.tflite"),
    include_bytes!("../../models/detector/detector_448x256_int8.tflite"),
];
const BUILT_IN_LAYOUT: &str = include_str!("../../models/detector/detector_320_int8.toml");
const BUILT_IN_NAME: &str = "detector_320_int8 (built in)";

/// A detection network that is ready to run, for one or more sizes of its input.
#[derive(Clone)]
pub struct DetectorModel {
    layout: Arc<Layout>,
    /// SHA-256 of the first network's file, in hexadecimal.
    sha256: String,
    /// Width and height of each input in pixels.
    sizes: Vec<(usize, usize)>,
    networks: Vec<SizedNetwork>,
}

/// The network for one size of the input.
#[derive(Clone)]
struct SizedNetwork {
    network: engine::Model,
    decoder: Arc<Decoder>,
}

/// Finds objects.
pub struct Detector {
    model: DetectorModel,
    /// The session of each input, once it was needed.
    sessions: Vec<Option<SizedSession>>,
    input: Vec<u8>,
}

/// What runs the network for one size of the input.
struct SizedSession {
    session: engine::model::Session,
    /// Scales the region that was last searched, and those of its size.
    preprocessor: Option<((usize, usize), Preprocessor)>,
    /// The bytes of the outputs of the last run.
    outputs: Vec<Vec<u8>>,
}

impl DetectorModel {
    /// Opens a detector, or the built-in one, with the engine that `network` selects. A file with the same
    /// name and the ending `.toml` beside the network describes its outputs, and names the files of the
    /// network for inputs of other sizes.
    ///
    /// Errors ([`ErrorKind::Input`]): a file cannot be read, the engine rejects a network, or the
    /// description does not fit it.
    pub fn open(file: Option<&Path>, network: &Network) -> Result<DetectorModel, Error> {
        let Some(file) = file else {
            let networks = BUILT_IN.iter().map(|bytes| Ok((bytes.to_vec(), BUILT_IN_NAME.to_string())));
            let layout = parse_layout(BUILT_IN_LAYOUT, BUILT_IN_NAME)?;
            return DetectorModel::new((layout, BUILT_IN_NAME), networks, network);
        };
        let bytes = read(file, MAX_NETWORK_BYTES)?;
        let layout_file = file.with_extension("toml");
        let text = String::from_utf8(read(&layout_file, MAX_LAYOUT_BYTES)?)
            .map_err(|e| Error::caused(ErrorKind::Input, format!("detector {}", layout_file.display()), e))?;
        let layout = parse_layout(&text, &layout_file.display().to_string())?;
        let others = layout.other_sizes.clone().into_iter().map(|name| {
            let other = file.with_file_name(name);
            Ok((read(&other, MAX_NETWORK_BYTES)?, other.display().to_string()))
        });
        let networks = std::iter::once(Ok((bytes, file.display().to_string()))).chain(others);
        let layout_name = layout_file.file_name().unwrap_or_default().to_string_lossy();
        DetectorModel::new((layout, &layout_name), networks, network)
    }

    /// Opens the networks, each with its bytes and its name for messages. The name of the layout is for
    /// messages, too.
    fn new(
        (layout, layout_name): (Layout, &str),
        networks: impl Iterator<Item = Result<(Vec<u8>, String), Error>>,
        network: &Network,
    ) -> Result<DetectorModel, Error> {
        let mut model = DetectorModel {
            layout: Arc::new(layout),
            sha256: String::new(),
            sizes: Vec::new(),
            networks: Vec::new(),
        };
        for source in networks {
            let (bytes, source) = source?;
            let (size, opened) = open_network(&bytes, &source, (&model.layout, layout_name), network)?;
            if model.sizes.is_empty() {
                model.sha256 = hex::encode(&Sha256::digest(&bytes));
            }
            if model.sizes.contains(&size) {
                let message = format!(
                    "detector {source}: its input is {} x {}, as that of another file",
                    size.0, size.1
                );
                return Err(Error::new(ErrorKind::Input, message));
            }
            model.sizes.push(size);
            model.networks.push(opened);
        }
        Ok(model)
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

    /// Identity of the detector, as sent in messages.
    pub fn identity(&self) -> messages::Detector {
        messages::Detector { name: self.layout.name.clone(), sha256: self.sha256.clone() }
    }

    /// The description of the network's outputs.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }
}

fn read(file: &Path, max_bytes: u64) -> Result<Vec<u8>, Error> {
    files::read_bounded(file, max_bytes)
        .map_err(|e| Error::caused(ErrorKind::Input, format!("detector {}", file.display()), e))
}

fn parse_layout(text: &str, source: &str) -> Result<Layout, Error> {
    Layout::parse(text)
        .map_err(|problem| Error::new(ErrorKind::Input, format!("detector {source}: {problem}")))
}

/// Opens the network for one size of the input. Returns the size, too.
fn open_network(
    bytes: &[u8],
    source: &str,
    (layout, layout_name): (&Layout, &str),
    network: &Network,
) -> Result<((usize, usize), SizedNetwork), Error> {
    let options = engine::model::Options { cap: network.kernels, keep: &[] };
    let network = engine::Model::from_bytes(bytes, &options)
        .map_err(|e| Error::caused(ErrorKind::Input, format!("detector {source}"), e))?;
    let refuse = |problem| Error::new(ErrorKind::Input, format!("detector {source}: {problem}"));
    let size = image_size(&network.input()).map_err(refuse)?;
    let describe = |TensorInfo { name, shape, element, quantization: (scale, zero_point) }| Output {
        name,
        shape,
        scale,
        zero_point,
        is_signed: element == Element::Int8,
    };
    if let Some(output) = network.outputs().iter().find(|output| output.element == Element::Float32) {
        return Err(refuse(format!("output {:?} has f32 values; camfire runs int8 networks", output.name)));
    }
    let outputs: Vec<Output> = network.outputs().into_iter().map(describe).collect();
    let misfit = |problem| refuse(format!("{layout_name}: {problem}"));
    let decoder = Decoder::new(layout.clone(), &outputs, size).map_err(misfit)?;
    Ok((size, SizedNetwork { network, decoder: Arc::new(decoder) }))
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
    /// Creates a detector with the networks of a model.
    pub fn open(model: &DetectorModel) -> Detector {
        let sessions = model.networks.iter().map(|_| None).collect();
        Detector { model: model.clone(), sessions, input: Vec::new() }
    }

    /// Width and height of each input in pixels.
    pub fn sizes(&self) -> &[(usize, usize)] {
        &self.model.sizes
    }

    /// Finds the objects in a region of the upright image, best first, with the input in which the region
    /// is largest.
    ///
    /// Errors ([`ErrorKind::System`]): the pixels cannot be read, or the engine fails.
    pub fn detect(&mut self, image: &Image, region: &Rect, min_score: f32) -> Result<Vec<Detection>, Error> {
        let index = best_input(region, &self.model.sizes);
        let (size, SizedNetwork { network, decoder }) =
            (self.model.sizes[index], &self.model.networks[index]);
        let layout = &self.model.layout;
        let fit = Fit::new(region, size, layout.position == Position::Centre);
        let session = self.sessions[index].get_or_insert_with(|| SizedSession::open(network));
        session.fill_input(image, region, &fit, size, &mut self.input)?;
        if layout.colours == Colours::Bgr {
            self.input.chunks_exact_mut(3).for_each(|pixel| pixel.swap(0, 2));
        }
        Ok(decoder.decode(session.run(&self.input)?, &fit, min_score))
    }
}

impl SizedSession {
    fn open(network: &engine::Model) -> SizedSession {
        let bytes = |info: TensorInfo| vec![0; info.shape.iter().product()];
        let outputs = network.outputs().into_iter().map(bytes).collect();
        SizedSession { session: network.session(), preprocessor: None, outputs }
    }

    /// Scales the region into the input, which has this width and height.
    fn fill_input(
        &mut self,
        image: &Image,
        region: &Rect,
        fit: &Fit,
        (width, height): (usize, usize),
        input: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let reusable = self.preprocessor.take().filter(|(size, _)| *size == fit.size);
        let (_, preprocessor) = self
            .preprocessor
            .insert(reusable.unwrap_or_else(|| (fit.size, Preprocessor::new(fit.size.0, fit.size.1))));
        let rgb = preprocessor
            .run(image, region)
            .map_err(|e| Error::caused(ErrorKind::System, "cannot preprocess the image", e))?;
        input.clear();
        input.resize(3 * width * height, GREY);
        let (left, top) = fit.offset;
        for (row, pixels) in rgb.chunks_exact(3 * fit.size.0).enumerate() {
            let start = 3 * ((top + row) * width + left);
            input[start..start + pixels.len()].copy_from_slice(pixels);
        }
        Ok(())
    }

    /// Runs the network and returns the bytes of its outputs.
    fn run(&mut self, input: &[u8]) -> Result<&[Vec<u8>], Error> {
        let failed = |error| Error::caused(ErrorKind::System, "cannot search the image for objects", error);
        self.session.run(input).map_err(failed)?;
        for (index, bytes) in self.outputs.iter_mut().enumerate() {
            self.session.read(engine::model::Tensor::Output(index), bytes).map_err(failed)?;
        }
        Ok(&self.outputs)
    }
}
