//! The element `src`: its address, login and properties, the stream that it is to fetch, and the signs of life that it
//! has to send.

use super::super::template::{Codec, Pipeline};
use crate::{config::Login, sync::lock};
use gstreamer::{self as gst, glib, prelude::*};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// rtspsrc sends no keep-alive over TCP before this version, and cameras that do not take RTCP for one hang up.
const KEEPS_ALIVE: (u32, u32, u32) = (1, 26, 7);
/// Half of the shortest session timeout that cameras are known to have, less a little.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(25);

/// What an RTSP camera said that it sends, once it has.
pub(super) type Announced = Arc<Mutex<Option<Stream>>>;

/// A video stream's encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stream {
    /// One that there are pipelines for.
    Known(Codec),
    /// By its name in RTP.
    Unknown(String),
}

/// Sets up `src` and all other named elements. Address and login are set as properties, never written into text.
///
/// On failure, what does not fit.
pub(super) fn configure(
    bin: &gst::Pipeline,
    pipeline: &Pipeline,
    login: Option<&Login>,
    announced: &Announced,
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
            Some(_) => Err("no element is called src, to be given user and password".to_string()),
            None => Ok(()),
        };
    };
    let has = |name: &str| source.find_property(name).is_some();
    if let Some((property, value)) = &pipeline.address {
        if !has(property) {
            return Err(format!("its source has no property {property}"));
        }
        source.set_property_from_str(property, value);
    }
    if let Some(login) = login {
        if !has("user-id") || !has("user-pw") {
            return Err("its source takes no user and password".to_string());
        }
        source.set_property("user-id", &login.user);
        source.set_property("user-pw", &login.password);
    }
    if is_rtspsrc(&source) {
        choose_stream(&source, pipeline.codec, announced.clone());
    }
    Ok(())
}

/// Only the first video stream is fetched, and only if the pipeline can decode it; no sound, no metadata.
fn choose_stream(source: &gst::Element, wanted: Option<Codec>, announced: Announced) {
    let chosen = Mutex::new(None);
    source.connect("select-stream", false, move |values| {
        let number = values.get(1).and_then(|value| value.get::<u32>().ok())?;
        let caps = values.get(2).and_then(|value| value.get::<gst::Caps>().ok())?;
        let stream = caps.structure(0)?;
        let text = |key: &str| stream.get::<String>(key).unwrap_or_default();
        // The same stream is asked about again where UDP gives way to TCP.
        let mut chosen = lock(&chosen);
        if text("media") != "video" || chosen.is_some_and(|other| other != number) {
            return Some(false.to_value());
        }
        *chosen = Some(number);
        let encoding = text("encoding-name");
        let codec = Codec::of_rtp(&encoding);
        *lock(&announced) = Some(codec.map_or(Stream::Unknown(encoding), Stream::Known));
        Some((codec.is_some() && (wanted.is_none() || codec == wanted)).to_value())
    });
}

fn is_rtspsrc(source: &gst::Element) -> bool {
    source.factory().is_some_and(|factory| factory.name() == "rtspsrc")
}

/// Signs of life for a camera over RTSP, where GStreamer sends none.
pub(super) struct KeepAlive {
    source: Option<gst::Element>,
    next: Duration,
}

impl KeepAlive {
    /// For a pipeline that begins to play at `now`.
    pub(super) fn new(bin: &gst::Pipeline, now: Duration) -> KeepAlive {
        let (major, minor, micro, _) = gst::version();
        let source =
            bin.by_name("src").filter(|source| is_rtspsrc(source) && (major, minor, micro) < KEEPS_ALIVE);
        KeepAlive { source, next: now + KEEP_ALIVE_EVERY }
    }

    /// Sends one when it is due. The answer does not matter, and many cameras answer that they do not know the question.
    pub(super) fn turn(&mut self, now: Duration) {
        let Some(source) = self.source.as_ref().filter(|_| now >= self.next) else { return };
        self.next = now + KEEP_ALIVE_EVERY;
        let unheard = gst::Promise::new();
        let sent = source.emit_by_name::<bool>("get-parameter", &[&"ping", &None::<glib::GString>, &unheard]);
        tracing::trace!(sent, "RTSP keep-alive.");
    }
}
