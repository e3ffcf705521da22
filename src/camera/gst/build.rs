//! Builds a GStreamer pipeline, configured and not started.

use super::{
    sample_sink::FORMATS,
    source::{self, UnknownStream},
    with_sink,
};
use crate::{
    camera::{Failure, FailureKind, template::Pipeline},
    config::Camera,
};
use gstreamer::{self as gst, prelude::*};
use gstreamer_app::AppSink;
use gstreamer_video as gst_video;

/// Builds the pipeline of a camera, with its sink. See [`UnknownStream`] for `unknown`.
pub(super) fn build(
    pipeline: &Pipeline,
    camera: &Camera,
    unknown: &UnknownStream,
) -> Result<(gst::Pipeline, AppSink), Failure> {
    let unusable = |e: &dyn std::fmt::Display| {
        Failure::new(FailureKind::Unsupported, format!("the pipeline cannot be built: {e}"))
    };
    let bin = gst::parse::launch_full(&with_sink(pipeline), None, gst::ParseFlags::FATAL_ERRORS)
        .map_err(|e| unusable(&e))?
        .downcast::<gst::Pipeline>()
        .map_err(|_| unusable(&"it is a single element"))?;
    source::configure(&bin, pipeline, camera.login.as_ref(), unknown).map_err(|e| unusable(&e))?;
    let sink = bin
        .by_name("sink")
        .and_then(|sink| sink.downcast::<AppSink>().ok())
        .ok_or_else(|| unusable(&"it has no appsink"))?;
    sink.set_caps(Some(&gst_video::VideoCapsBuilder::new().format_list(FORMATS).build()));
    sink.set_property("enable-last-sample", false);
    sink.set_property("qos", false);
    if let Some(threads) = pipeline.decode_threads {
        bin.connect_deep_element_added(move |_, _, element| limit_decoder_threads(element, threads));
    }
    Ok((bin, sink))
}

/// Limits the threads of a libav decoder. More threads cost 25 to 30 % more CPU per frame and a frame of
/// delay each, without benefit if one core keeps up.
fn limit_decoder_threads(element: &gst::Element, threads: i64) {
    let is_libav = element.factory().is_some_and(|factory| factory.name().starts_with("avdec_"));
    if is_libav && element.find_property("max-threads").is_some() {
        element.set_property("max-threads", threads as i32);
    }
}
