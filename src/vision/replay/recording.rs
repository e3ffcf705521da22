//! The recording: the last minutes of a camera, as far as a replay needs them, in a bounded memory.
//!
//! A frame is stored as the difference of its cells from the frame before, compressed. The first of every
//! [`KEY_INTERVAL`] frames, a key frame, stands alone. The oldest frames are dropped until the rest is within
//! the limit and begins with a key frame.

use super::inferences::Inference;
use crate::{
    frame::{CaptureClock, Colorimetry, Frame, Image, PixelFormat, Plane, Planes, View, YuvMatrix},
    sync::lock,
    vision::{scene::Scene, taxonomy::Taxonomy},
};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use jiff::Timestamp;
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Maximum time from the first to the last frame.
const MAX_DURATION: Duration = Duration::from_secs(120);
/// Maximum number of frames: what a replay analyses in a few seconds.
const MAX_FRAMES: usize = 1200;
/// A key frame comes after this many frames at the latest ...
const KEY_INTERVAL: usize = 50;
/// ... or when this share of the limit is filled.
const KEY_SHARE: usize = 4;

/// A recorded frame.
#[derive(Debug)]
pub struct RecordedFrame {
    /// Capture time of day.
    pub captured_at: Timestamp,
    /// The inferences that were made.
    pub inferences: Vec<Inference>,
    /// The labels of the inferences.
    pub taxonomy: Arc<Taxonomy>,
    capture_clock: CaptureClock,
    stream_time: Duration,
    /// Columns and rows of the frame.
    size: (usize, usize),
    view: View,
    /// Number of cells.
    cells: usize,
    /// Compressed: the cells of a key frame, otherwise their differences from the frame before.
    bytes: Box<[u8]>,
    is_key: bool,
}

impl RecordedFrame {
    /// The memory that it takes.
    fn memory(&self) -> usize {
        let inferences = self.inferences.capacity() * size_of::<Inference>()
            + self.inferences.iter().map(Inference::heap_bytes).sum::<usize>();
        size_of::<RecordedFrame>() + self.bytes.len() + inferences
    }

    /// The same frame, as if nothing had been classified in it.
    #[cfg(test)]
    pub fn without_inferences(&self) -> RecordedFrame {
        let (taxonomy, bytes) = (self.taxonomy.clone(), self.bytes.clone());
        RecordedFrame { inferences: Vec::new(), taxonomy, bytes, ..*self }
    }
}

/// The last minutes of one camera.
#[derive(Debug, Default)]
pub struct Recording {
    /// Maximum memory. 0: nothing is recorded.
    limit: AtomicUsize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    frames: VecDeque<Arc<RecordedFrame>>,
    memory: usize,
}

impl Recording {
    /// Sets the memory that the recording may take, in bytes. 0: nothing is recorded, and what was recorded
    /// is forgotten.
    pub fn set_limit(&self, bytes: usize) {
        self.limit.store(bytes, Ordering::Relaxed);
        lock(&self.kept).trim(bytes);
    }

    /// Whether frames are recorded.
    pub fn is_on(&self) -> bool {
        self.limit.load(Ordering::Relaxed) > 0
    }

    /// The frames, oldest first.
    pub fn frames(&self) -> Vec<Arc<RecordedFrame>> {
        lock(&self.kept).frames.iter().cloned().collect()
    }

    /// The memory that the recording takes, in bytes.
    #[cfg(test)]
    pub fn memory(&self) -> usize {
        lock(&self.kept).memory
    }

    /// Adds a frame. Returns whether it was kept.
    fn add(&self, frame: RecordedFrame) -> bool {
        let mut kept = lock(&self.kept);
        kept.memory += frame.memory();
        kept.frames.push_back(Arc::new(frame));
        kept.trim(self.limit.load(Ordering::Relaxed));
        !kept.frames.is_empty()
    }
}

impl Kept {
    /// Drops the oldest frames that are too many or too old, and those that follow without a key frame.
    fn trim(&mut self, limit: usize) {
        let newest = self.frames.back().map_or(Duration::ZERO, |frame| frame.stream_time);
        while let Some(oldest) = self.frames.front() {
            let is_old = newest.saturating_sub(oldest.stream_time) > MAX_DURATION;
            let is_too_much = self.memory > limit || self.frames.len() > MAX_FRAMES;
            if oldest.is_key && !is_old && !is_too_much {
                break;
            }
            self.memory -= oldest.memory();
            self.frames.pop_front();
        }
        if self.frames.is_empty() {
            *self = Kept::default();
        }
    }
}

/// Writes the frames of one camera to its recording.
#[derive(Debug)]
pub struct Recorder {
    recording: Arc<Recording>,
    /// The cells of the frame before.
    before: Vec<u8>,
    /// Frames since the last key frame, and their memory.
    since_key: (usize, usize),
}

/// Compresses frames. There is one per thread, because it takes a quarter of a MiB.
pub struct Encoder {
    compress: Compress,
    cells: Vec<u8>,
    difference: Vec<u8>,
    output: Vec<u8>,
}

impl Default for Encoder {
    fn default() -> Encoder {
        let compress = Compress::new(Compression::fast(), false);
        Encoder { compress, cells: Vec::new(), difference: Vec::new(), output: Vec::new() }
    }
}

impl Encoder {
    /// Compresses `self.difference`. None if the library fails.
    fn compress(&mut self) -> Option<Box<[u8]>> {
        self.compress.reset();
        self.output.clear();
        self.output.reserve(max_compressed(self.difference.len()));
        let status =
            self.compress.compress_vec(&self.difference, &mut self.output, FlushCompress::Finish).ok()?;
        (status == Status::StreamEnd).then(|| self.output.as_slice().into())
    }
}

/// Maximum size of compressed data. At the fastest level a byte takes up to 9 bits, because the codes are
/// fixed. zlib-rs 0.6.8 panics if the output is too short for them.
fn max_compressed(bytes: usize) -> usize {
    bytes + bytes.div_ceil(8) + 256
}

impl Recorder {
    /// Creates the writer of a recording. It begins with a key frame.
    pub fn new(recording: Arc<Recording>) -> Recorder {
        Recorder { recording, before: Vec::new(), since_key: (0, 0) }
    }

    /// Whether frames are recorded.
    pub fn is_on(&self) -> bool {
        self.recording.is_on()
    }

    /// Records the frame that `scene` has analysed last, with its inferences.
    pub fn record(
        &mut self,
        frame: &Frame,
        scene: &Scene,
        inferences: Vec<Inference>,
        encoder: &mut Encoder,
    ) {
        scene.luma().to_bytes(&mut encoder.cells);
        let limit = self.recording.limit.load(Ordering::Relaxed);
        let cells = encoder.cells.len();
        let is_key = self.before.len() != cells
            || self.since_key.0 >= KEY_INTERVAL
            || self.since_key.1 >= limit / KEY_SHARE;
        encoder.difference.clear();
        match is_key {
            true => encoder.difference.extend_from_slice(&encoder.cells),
            false => {
                let pairs = encoder.cells.iter().zip(&self.before);
                encoder.difference.extend(pairs.map(|(cell, before)| cell.wrapping_sub(*before)));
            }
        }
        let Some(bytes) = encoder.compress() else { return };
        std::mem::swap(&mut self.before, &mut encoder.cells);
        let frame = RecordedFrame {
            captured_at: frame.captured_at,
            inferences,
            taxonomy: scene.settings().taxonomy.clone(),
            capture_clock: frame.capture_clock,
            stream_time: frame.stream_time,
            size: (frame.image.width, frame.image.height),
            view: frame.image.view,
            cells,
            bytes,
            is_key,
        };
        let since_key = if is_key { (0, 0) } else { self.since_key };
        self.since_key = (since_key.0 + 1, since_key.1 + frame.memory());
        if !self.recording.add(frame) {
            self.before.clear();
        }
    }
}

/// Reads recorded frames in their order.
pub struct Decoder {
    decompress: Decompress,
    /// The cells of the frame before.
    cells: Vec<u8>,
    bytes: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder { decompress: Decompress::new(false), cells: Vec::new(), bytes: Vec::new() }
    }
}

impl Decoder {
    /// The next frame, under this number. None if the frame before is missing.
    pub fn decode(&mut self, recorded: &RecordedFrame, number: u64) -> Option<Frame> {
        if !recorded.is_key && self.cells.len() != recorded.cells {
            return None;
        }
        self.decompress.reset(false);
        self.bytes.clear();
        self.bytes.reserve(recorded.cells);
        self.decompress
            .decompress_vec(&recorded.bytes, &mut self.bytes, FlushDecompress::Finish)
            .ok()
            .filter(|_| self.bytes.len() == recorded.cells)?;
        match recorded.is_key {
            true => self.cells.clone_from(&self.bytes),
            false => {
                for (cell, difference) in self.cells.iter_mut().zip(&self.bytes) {
                    *cell = cell.wrapping_add(*difference);
                }
            }
        }
        let image = Image {
            format: PixelFormat::Gray8,
            width: recorded.size.0,
            height: recorded.size.1,
            colorimetry: Colorimetry { matrix: YuvMatrix::Bt601, full_range: false },
            view: recorded.view,
            planes: Box::new(Cells(self.cells.clone())),
        };
        Some(Frame {
            number,
            captured_at: recorded.captured_at,
            capture_clock: recorded.capture_clock,
            stream_time: recorded.stream_time,
            timings: Default::default(),
            image,
        })
    }
}

/// What is left of an image without its pixels.
struct Cells(Vec<u8>);

impl Planes for Cells {
    fn plane(&self, _: usize) -> Plane<'_> {
        Plane { data: &[], stride_bytes: 0 }
    }

    fn cells(&self) -> Option<&[u8]> {
        Some(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_compressed_whatever_its_size() {
        let (mut encoder, mut state) = (Encoder::default(), 1u32);
        for size in (0..80).map(|step| step * step * 13) {
            // Bytes above 143 have the longest codes.
            encoder.difference = std::iter::repeat_with(|| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                144 + (state >> 24) as u8 % 112
            })
            .take(size)
            .collect();
            let bytes = encoder.compress().expect("it fits");
            let mut again = Vec::with_capacity(size + 1);
            let mut decompress = Decompress::new(false);
            decompress.decompress_vec(&bytes, &mut again, FlushDecompress::Finish).unwrap();
            assert_eq!(again, encoder.difference);
        }
    }
}
