//! Limits on what a network camera's stream may make GStreamer's elements keep or allocate.
//!
//! Demuxers, depayloaders and parsers collect data until an image is complete, however long that takes, and
//! decoders allocate what an image's dimensions demand. So the bytes that leave the source without an image
//! reaching the gate are counted, and the dimensions are checked before the decoder.

use crate::camera::http::{MAX_IMAGE_BYTES, MAX_PIXELS};
use gstreamer::{self as gst, prelude::*};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Bytes since an image was last complete, and the images then.
#[derive(Default)]
struct Unused {
    bytes: AtomicU64,
    images: AtomicU64,
}

/// Installs the limits on the elements `src` and `gate`. `images` returns how many images have been complete;
/// `refuse` is called with the reason when the stream must be ended.
pub(super) fn install(
    bin: &gst::Pipeline,
    images: impl Fn() -> u64 + Send + Sync + 'static,
    refuse: impl Fn(String) + Send + Sync + 'static,
) {
    let refuse = Arc::new(refuse);
    if let Some(gate) = bin.by_name("gate").and_then(|gate| gate.static_pad("sink")) {
        let refuse = refuse.clone();
        gate.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            let Some(gst::PadProbeData::Event(event)) = &info.data else { return gst::PadProbeReturn::Ok };
            let gst::EventView::Caps(caps) = event.view() else { return gst::PadProbeReturn::Ok };
            match too_large(caps.caps()) {
                Some(reason) => {
                    refuse(reason);
                    gst::PadProbeReturn::Drop
                }
                None => gst::PadProbeReturn::Ok,
            }
        });
    }
    let Some(source) = bin.by_name("src") else { return };
    let unused = Arc::new(Unused::default());
    let images = Arc::new(images);
    let limit = move |pad: &gst::Pad| {
        let (unused, images, refuse) = (unused.clone(), images.clone(), refuse.clone());
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let Some(gst::PadProbeData::Buffer(buffer)) = &info.data else { return gst::PadProbeReturn::Ok };
            let complete = images();
            if unused.images.swap(complete, Ordering::Relaxed) != complete {
                unused.bytes.store(0, Ordering::Relaxed);
            }
            // The buffer itself is not counted: it may hold many small images.
            if unused.bytes.fetch_add(buffer.size() as u64, Ordering::Relaxed) <= MAX_IMAGE_BYTES as u64 {
                return gst::PadProbeReturn::Ok;
            }
            refuse(format!("more than {MAX_IMAGE_BYTES} bytes contain no complete image"));
            info.flow_res = Err(gst::FlowError::Error);
            info.data = None;
            gst::PadProbeReturn::Handled
        });
    };
    source.connect_pad_added({
        let limit = limit.clone();
        move |_, pad| limit(pad)
    });
    source.src_pads().iter().for_each(limit);
}

/// Why the video that `caps` describe is too large to be decoded. None if it is not.
fn too_large(caps: &gst::CapsRef) -> Option<String> {
    let video = caps.structure(0)?;
    let number = |name: &str| video.get::<i32>(name).ok().and_then(|number| usize::try_from(number).ok());
    let (width, height) = (number("width")?, number("height")?);
    (width.saturating_mul(height) > MAX_PIXELS)
        .then(|| format!("video of {width} x {height} pixels is not supported"))
}
