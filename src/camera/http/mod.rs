//! What a camera sends over HTTP, read within fixed limits.
//!
//! A camera may send anything, for as long as it likes, so no library sees its bytes before they are counted.
//! [`client`] makes a request; [`content`] tells what the answer is; [`multipart`], [`jpeg`] and [`playlist`]
//! take it apart; [`reader`] is the thread that does all this for one attempt. [`super::gst`] passes on what
//! it outputs: whole JPEG images, or the bytes of a stream.
//!
//! No encoded image is larger than [`MAX_IMAGE_BYTES`], wherever it comes from.

pub mod client;
pub mod content;
pub mod jpeg;
pub mod multipart;
pub mod playlist;
pub mod reader;

pub use content::Content;
pub use hyper::body::Bytes;

/// Largest encoded image, and the most bytes of a stream that contain none. A JPEG image of 8K in the best
/// quality has about 20 MB.
pub const MAX_IMAGE_BYTES: usize = 32 << 20;
/// Pixels of the largest image: 8K. Larger dimensions are broken or malicious.
pub const MAX_PIXELS: usize = 7680 * 4320;
