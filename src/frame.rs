//! One video frame on its path from a camera to a worker.
//!
//! The pixels stay in the decoder's buffer. A [`Frame`] reads its planes through [`Planes`], so that this
//! file and the vision code do not depend on GStreamer. Dropping a frame returns its buffer to the decoder's
//! pool, which is why the frame queues never keep more than two frames of a camera alive.

use jiff::Timestamp;
use std::time::Duration;

/// Layout of the pixels in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PixelFormat {
    /// Planes Y, U and V. The chroma planes have half the width and half the height, rounded up.
    I420,
    /// Planes Y and interleaved UV of half the width and half the height, rounded up.
    Nv12,
    /// One plane with Y, U, Y, V for every two pixels.
    Yuy2,
    /// One plane of luma.
    Gray8,
    /// One plane of R, G, B bytes.
    Rgb,
}

/// Matrix of the conversion between RGB and YUV.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum YuvMatrix {
    /// BT.601, for standard definition.
    Bt601,
    /// BT.709, for high definition.
    Bt709,
}

/// Meaning of the values of a YUV or grey image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colorimetry {
    /// Matrix of the conversion between RGB and YUV.
    pub matrix: YuvMatrix,
    /// Luma ranges from 0 to 255. If false, from 16 to 235.
    pub full_range: bool,
}

/// Clockwise rotation that makes a stored image upright.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rotation {
    /// No rotation.
    #[default]
    None,
    /// 90 degrees.
    Right,
    /// 180 degrees.
    Half,
    /// 270 degrees.
    Left,
}

impl Rotation {
    /// The rotation by this many degrees clockwise. None if it is not a multiple of 90 below 360.
    pub fn of_degrees(degrees: u16) -> Option<Rotation> {
        match degrees {
            0 => Some(Rotation::None),
            90 => Some(Rotation::Right),
            180 => Some(Rotation::Half),
            270 => Some(Rotation::Left),
            _ => None,
        }
    }

    /// Whether the rotation swaps width and height.
    pub fn is_sideways(self) -> bool {
        matches!(self, Rotation::Right | Rotation::Left)
    }
}

/// The bytes of one plane.
#[derive(Clone, Copy)]
pub struct Plane<'a> {
    /// The rows from top to bottom.
    pub data: &'a [u8],
    /// Distance between the first bytes of two rows.
    pub stride_bytes: usize,
}

/// Owner of an image's pixels.
pub trait Planes: Send {
    /// Plane `index`, in the order given at [`PixelFormat`].
    fn plane(&self, index: usize) -> Plane<'_>;

    /// The cells of the scaled-down brightness image, one byte each, if they are all that was kept of the
    /// pixels.
    fn cells(&self) -> Option<&[u8]> {
        None
    }
}

/// An image of a camera or a file.
pub struct Image {
    /// Layout of the pixels.
    pub format: PixelFormat,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Used for YUV and grey only.
    pub colorimetry: Colorimetry,
    /// How the stored image is displayed.
    pub view: View,
    /// The pixels.
    pub planes: Box<dyn Planes>,
}

/// How a stored image is displayed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct View {
    /// Width of a pixel divided by its height.
    pub pixel_aspect: f64,
    /// Alternating rows belong to two fields of different times. Only the first field is used.
    pub interlaced: bool,
    /// Rotation that makes the image upright.
    pub rotation: Rotation,
}

impl View {
    /// Displayed as stored: square pixels, progressive, upright.
    pub const PLAIN: View = View { pixel_aspect: 1.0, interlaced: false, rotation: Rotation::None };
}

/// Source of a capture time, the most accurate first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CaptureClock {
    /// The camera's clock, from its RTCP sender reports.
    Sender,
    /// The kernel driver's timestamp.
    Driver,
    /// This host's clock, less the frame's age in the pipeline.
    Pipeline,
    /// This host's clock when the frame was decoded.
    Arrival,
    /// The position in the recording, added to the time at which it was opened.
    Clip,
}

/// What is wrong with the clock of a camera's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockFault {
    /// The stream's times stand still, jump or run at a wrong rate. Arrival times are used instead.
    StreamTime,
    /// The sender's clock has stopped or jumps. Its last good time is carried on.
    SenderUnsteady,
    /// The sender's clock differs too much from this machine's and is not used.
    SenderImplausible,
}

/// An image of a camera with its times.
pub struct Frame {
    /// Number of the frame among all captured ones of the camera, from 1. Skipped and dropped frames count.
    pub number: u64,
    /// Capture time of day: told, never calculated with.
    pub captured_at: Timestamp,
    /// Source of the time of day. The same for all frames of a stream.
    pub capture_clock: CaptureClock,
    /// Capture time on the node's monotonic clock, which no camera and nobody sets; of a recording its own
    /// time. Tracks, durations and expiry are calculated with it. Only differences between frames have a
    /// meaning.
    pub stream_time: Duration,
    /// When the frame passed each stage so far.
    pub timings: FrameTimings,
    /// The image.
    pub image: Image,
}

/// When a frame passed each stage, on [`crate::clock::Clock::monotonic`].
#[derive(Debug, Clone, Copy, Default)]
pub struct FrameTimings {
    /// Captured.
    pub captured: Duration,
    /// Decoded.
    pub decoded: Duration,
    /// Offered to the workers.
    pub queued: Duration,
    /// Taken by a worker.
    pub started: Duration,
    /// Analysed, with all inferences.
    pub inferred: Duration,
}

/// Planes that own their bytes, with the stride of each; for decoded photos and tests.
pub struct OwnedPlanes(pub Vec<(Vec<u8>, usize)>);

impl Planes for OwnedPlanes {
    fn plane(&self, index: usize) -> Plane<'_> {
        let (data, stride_bytes) = &self.0[index];
        Plane { data, stride_bytes: *stride_bytes }
    }
}

impl Image {
    /// Creates an RGB image from `width * height * 3` packed bytes.
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
