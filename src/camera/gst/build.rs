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
    if let Some(filter) = bin.by_name("video") {
        accept_all_video(&filter);
    }
    sink.set_caps(Some(&gst_video::VideoCapsBuilder::new().format_list(FORMATS).build()));
    sink.set_property("enable-last-sample", false);
    sink.set_property("qos", false);
    if let Some(threads) = pipeline.decode_threads {
        bin.connect_deep_element_added(move |_, _, element| limit_decoder_threads(element, threads));
    }
    Ok((bin, sink))
}

/// Adds every format for which this machine has a decoder to the formats that the capsfilter `video` accepts,
/// which are the usual ones. It is what selects the video among a recording's streams, and old formats have
/// many names.
fn accept_all_video(filter: &gst::Element) {
    let kinds = gst::ElementFactoryType::DECODER
        | gst::ElementFactoryType::MEDIA_VIDEO
        | gst::ElementFactoryType::MEDIA_IMAGE;
    let mut caps = filter.property::<gst::Caps>("caps");
    let known = caps.make_mut();
    for factory in gst::ElementFactory::factories_with_type(kinds, gst::Rank::NONE) {
        for template in factory.static_pad_templates() {
            let sink_caps = (template.direction() == gst::PadDirection::Sink).then(|| template.caps());
            for stream in sink_caps.iter().flat_map(|caps| caps.iter()) {
                let name = stream.name();
                let is_video = name.starts_with("video/") || name.starts_with("image/");
                if is_video && !known.iter().any(|known| known.name() == name) {
                    known.append_structure(gst::Structure::new_empty(name));
                }
            }
        }
    }
    filter.set_property("caps", &caps);
}

/// Limits the threads of a libav decoder. More threads cost 25 to 30 % more CPU per frame and a frame of
/// delay each, without benefit if one core keeps up.
fn limit_decoder_threads(element: &gst::Element, threads: i64) {
    let is_libav = element.factory().is_some_and(|factory| factory.name().starts_with("avdec_"));
    if is_libav && element.find_property("max-threads").is_some() {
        element.set_property("max-threads", threads as i32);
    }
}
