//! The element `src`: sets its address, login and properties, selects the RTSP stream, and sends keep-alives.

use super::super::template::{Codec, Pipeline};
use crate::{config::Login, sync::lock};
use gstreamer::{self as gst, glib, prelude::*};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// The first version whose rtspsrc sends keep-alives over TCP. Without them, cameras that do not accept RTCP
/// as a keep-alive disconnect.
const SENDS_KEEP_ALIVES: (u32, u32, u32) = (1, 26, 7);
/// A little less than half of the shortest session timeout of any known camera.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(25);

/// The video stream that an RTSP camera has announced, once it has.
pub(super) type AnnouncedStream = Arc<Mutex<Option<Stream>>>;

/// The encoding of a video stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stream {
    /// A codec that some pipeline supports.
    Known(Codec),
    /// The RTP encoding name of any other.
    Unknown(String),
}

/// Configures `src` and all other named elements. Address and login are set as properties, never written into
/// the launch line. Of an RTSP source, selects the stream and stores it in `announced` once it is known.
///
/// Errors: a property that must be set does not exist. The text follows "the pipeline cannot be built:".
pub(super) fn configure(
    bin: &gst::Pipeline,
    pipeline: &Pipeline,
    login: Option<&Login>,
    announced: &AnnouncedStream,
) -> Result<(), String> {
    for (element, properties) in &pipeline.properties {
        let Some(element) = bin.by_name(element) else { continue };
        for (property, &value) in properties.iter().filter(|(name, _)| element.find_property(name).is_some())
        {
            element.set_property(property, value);
        }
    }
    let Some(source) = bin.by_name("src") else {
        return match login {
            Some(_) => Err("no element is named src, so user and password cannot be set".to_string()),
            None => Ok(()),
        };
    };
    let has = |name: &str| source.find_property(name).is_some();
    if let Some((property, value)) = &pipeline.address {
        if !has(property) {
            return Err(format!("the source element has no property {property}"));
        }
        source.set_property_from_str(property, value);
    }
    if let Some(login) = login.filter(|_| pipeline.content.is_none()) {
        if !has("user-id") || !has("user-pw") {
            return Err("the source element does not accept a user and password".to_string());
        }
        source.set_property("user-id", &login.user);
        source.set_property("user-pw", &login.password);
    }
    if is_rtspsrc(&source) {
        select_stream(&source, pipeline.codec, announced.clone());
    }
    Ok(())
}

/// Selects the first video stream if the pipeline can decode it, and neither audio nor metadata.
fn select_stream(source: &gst::Element, codec_wanted: Option<Codec>, announced: AnnouncedStream) {
    let selected = Mutex::new(None);
    source.connect("select-stream", false, move |values| {
        let number = values.get(1).and_then(|value| value.get::<u32>().ok())?;
        let caps = values.get(2).and_then(|value| value.get::<gst::Caps>().ok())?;
        let stream = caps.structure(0)?;
        let text = |key: &str| stream.get::<String>(key).unwrap_or_default();
        // Each stream is offered again when rtspsrc falls back from UDP to TCP.
        let mut selected = lock(&selected);
        if text("media") != "video" || selected.is_some_and(|other| other != number) {
            return Some(false.to_value());
        }
        *selected = Some(number);
        let encoding = text("encoding-name");
        let codec = Codec::of_rtp(&encoding);
        *lock(&announced) = Some(codec.map_or(Stream::Unknown(encoding), Stream::Known));
        Some((codec.is_some() && (codec_wanted.is_none() || codec == codec_wanted)).to_value())
    });
}

fn is_rtspsrc(source: &gst::Element) -> bool {
    source.factory().is_some_and(|factory| factory.name() == "rtspsrc")
}

/// Sends keep-alives to an RTSP camera if this version of GStreamer does not.
pub(super) struct KeepAlive {
    /// None if no keep-alives are needed.
    source: Option<gst::Element>,
    next: Duration,
}

impl KeepAlive {
    /// Creates the keep-alive of a pipeline that begins to play at `now`.
    pub(super) fn new(bin: &gst::Pipeline, now: Duration) -> KeepAlive {
        let (major, minor, micro, _) = gst::version();
        let source = bin
            .by_name("src")
            .filter(|source| is_rtspsrc(source) && (major, minor, micro) < SENDS_KEEP_ALIVES);
        KeepAlive { source, next: now + KEEP_ALIVE_INTERVAL }
    }

    /// Sends a keep-alive if one is due. The reply is ignored; many cameras reply that they do not know the
    /// parameter.
    pub(super) fn send_if_due(&mut self, now: Duration) {
        let Some(source) = self.source.as_ref().filter(|_| now >= self.next) else { return };
        self.next = now + KEEP_ALIVE_INTERVAL;
        let reply = gst::Promise::new();
        let sent = source.emit_by_name::<bool>("get-parameter", &[&"ping", &None::<glib::GString>, &reply]);
        tracing::trace!(sent, "RTSP keep-alive sent.");
    }
}
