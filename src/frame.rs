//! One picture on its way from a camera to a worker.
//!
//! The pixels stay where the decoder put them: a [`Frame`] borrows its planes through [`Planes`], so that this file and
//! all that look at frames need not know GStreamer. Dropping a frame gives its buffer back to the decoder's pool, which
//! is why the frame way never keeps more than two of a camera alive.

use jiff::Timestamp;
use std::time::Duration;

/// How the pixels lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PixelFormat {
    /// Planes Y, U, V; the chroma planes have half the width and half the height, rounded up.
    I420,
    /// Planes Y and interleaved UV of half the width and half the height, rounded up.
    Nv12,
    /// One plane of Y, U, Y, V for each two pixels.
    Yuy2,
    /// One plane of luma.
    Gray8,
    /// One plane of R, G, B bytes.
    Rgb,
}

/// The matrix between RGB and YUV.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum YuvMatrix {
    /// Standard definition.
    Bt601,
    /// High definition.
    Bt709,
}

/// How a YUV picture's numbers are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colorimetry {
    /// Between RGB and YUV.
    pub matrix: YuvMatrix,
    /// Luma from 0 to 255 rather than from 16 to 235.
    pub full_range: bool,
}

/// By how much a picture must be turned, clockwise, to be upright.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rotation {
    /// It is upright.
    #[default]
    None,
    /// By 90 degrees.
    Right,
    /// By 180 degrees.
    Half,
    /// By 270 degrees.
    Left,
}

impl Rotation {
    /// By so many degrees clockwise, if that is a rotation.
    pub fn of_degrees(degrees: u16) -> Option<Rotation> {
        match degrees {
            0 => Some(Rotation::None),
            90 => Some(Rotation::Right),
            180 => Some(Rotation::Half),
            270 => Some(Rotation::Left),
            _ => None,
        }
    }

    /// What was wide becomes high.
    pub fn is_sideways(self) -> bool {
        matches!(self, Rotation::Right | Rotation::Left)
    }
}

/// One plane's bytes.
#[derive(Clone, Copy)]
pub struct Plane<'a> {
    /// Row by row from the top.
    pub data: &'a [u8],
    /// From one row's first byte to the next row's.
    pub stride_bytes: usize,
}

/// Whatever keeps the pixels alive.
pub trait Planes: Send {
    /// Plane `index`, counted as in [`PixelFormat`].
    fn plane(&self, index: usize) -> Plane<'_>;
}

/// A picture of some camera or file.
pub struct Image {
    /// How the pixels lie.
    pub format: PixelFormat,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Only of meaning for YUV and grey.
    pub colorimetry: Colorimetry,
    /// How it is to be looked at.
    pub view: View,
    /// The pixels.
    pub planes: Box<dyn Planes>,
}

/// How a stored picture is to be looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct View {
    /// Width of a pixel in its heights.
    pub pixel_aspect: f64,
    /// The rows are of two moments in turn; only the first one's are looked at.
    pub interlaced: bool,
    /// To see it upright.
    pub rotation: Rotation,
}

impl View {
    /// As it is stored.
    pub const PLAIN: View = View { pixel_aspect: 1.0, interlaced: false, rotation: Rotation::None };
}

/// Where a capture time comes from, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CaptureClock {
    /// The camera's own clock, as its RTCP sender reports tell it.
    Sender,
    /// The moment the kernel's driver had the picture.
    Driver,
    /// This machine's clock less the frame's age in the pipeline.
    Pipeline,
    /// This machine's clock when the frame came out of the decoder.
    Arrival,
    /// The recording's own time, from when it was opened.
    Clip,
}

/// A camera's picture with its time.
pub struct Frame {
    /// Counts the camera's captured frames from 1, skipped and dropped ones too.
    pub number: u64,
    /// When it was seen.
    pub captured_at: Timestamp,
    /// How that is known.
    pub capture_clock: CaptureClock,
    /// The same on a time line that never jumps as the time of day may: only the time between frames has a meaning.
    pub stream_time: Duration,
    /// Where its time went so far.
    pub timings: FrameTimings,
    /// The picture.
    pub image: Image,
}

/// When a frame was where, on [`crate::clock::Clock::monotonic`].
#[derive(Debug, Clone, Copy, Default)]
pub struct FrameTimings {
    /// It was seen.
    pub captured: Duration,
    /// It came out of the decoder.
    pub decoded: Duration,
    /// It was put before the workers.
    pub queued: Duration,
    /// A worker took it.
    pub started: Duration,
    /// The network had looked at it.
    pub inferred: Duration,
}

/// Planes that own their bytes: decoded photos and tests.
pub struct OwnedPlanes(pub Vec<(Vec<u8>, usize)>);

impl Planes for OwnedPlanes {
    fn plane(&self, index: usize) -> Plane<'_> {
        let (data, stride_bytes) = &self.0[index];
        Plane { data, stride_bytes: *stride_bytes }
    }
}

impl Image {
    /// An RGB picture from packed bytes, `width * height * 3` of them.
    pub fn from_rgb(width: usize, height: usize, rgb: Vec<u8>) -> Image {
        debug_assert_eq!(rgb.len(), width * height * 3);
        Image {
            format: PixelFormat::Rgb,
            width,
            height,
            colorimetry: Colorimetry { matrix: YuvMatrix::Bt601, full_range: true },
            view: View::PLAIN,
            planes: Box::new(OwnedPlanes(vec![(rgb, width * 3)])),
        }
    }
}
