//! The element `src`: sets its address, login and properties, and connects an rtspsrc to camfire's own RTSP
//! session. Of a custom launch line, whose rtspsrc connects to the camera itself, selects the stream and
//! sends keep-alives.

use super::super::{
    rtsp::{self, Session, Transport},
    template::{Codec, Pipeline},
};
use crate::{
    config::{Camera, Login},
    sync::lock,
};
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
/// GStreamer's flags of rtspsrc's property `protocols`.
const PROTOCOL_UDP: u32 = 1;
const PROTOCOL_TCP: u32 = 4;

/// The RTP encoding name of the video stream that a custom launch line's RTSP camera has announced, if no
/// pipeline supports it.
pub(super) type UnknownStream = Arc<Mutex<Option<String>>>;

/// Configures `src` and all other named elements. Address and login are set as properties, never written into
/// the launch line. An rtspsrc with an address gets both later, from [`connect`].
///
/// Errors: a property that must be set does not exist. The text follows "the pipeline cannot be built:".
pub(super) fn configure(
    bin: &gst::Pipeline,
    pipeline: &Pipeline,
    login: Option<&Login>,
    unknown: &UnknownStream,
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
    if relayed_source(bin, pipeline).is_some() {
        return Ok(());
    }
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
        select_stream(&source, unknown.clone());
    }
    Ok(())
}

/// The rtspsrc whose session is camfire's own: that of every pipeline but a custom launch line.
fn relayed_source(bin: &gst::Pipeline, pipeline: &Pipeline) -> Option<gst::Element> {
    bin.by_name("src").filter(|source| is_rtspsrc(source) && pipeline.address.is_some())
}

/// The session that the pipeline needs, if it has an rtspsrc with an address. `usable`: the codecs that this
/// machine can decode.
pub(super) fn session_request(
    bin: &gst::Pipeline,
    pipeline: &Pipeline,
    camera: &Camera,
    usable: Vec<Codec>,
) -> Option<rtsp::Request> {
    let source = relayed_source(bin, pipeline)?;
    let flags = |name: &str| {
        let value = source.find_property(name).map(|_| source.property_value(name))?;
        value.transform::<u32>().ok()?.get::<u32>().ok()
    };
    let protocols = flags("protocols").unwrap_or(PROTOCOL_TCP);
    let transport = match (protocols & PROTOCOL_UDP != 0, protocols & PROTOCOL_TCP != 0) {
        (false, _) => Transport::Tcp,
        (true, false) => Transport::Udp,
        (true, true) => Transport::UdpOrTcp,
    };
    Some(rtsp::Request {
        url: pipeline.address.as_ref()?.1.clone(),
        login: camera.login.clone(),
        transport,
        verify_tls: flags("tls-validation-flags") != Some(0),
        codec: pipeline.codec,
        usable,
    })
}

/// Connects the pipeline's rtspsrc to a session, and reports to it which packets leave the jitter buffer.
pub(super) fn connect(bin: &gst::Pipeline, session: &Session) {
    let source = bin.by_name("src").expect("only a pipeline with a source has a session");
    source.set_property_from_str("location", session.url());
    source.set_property_from_str("protocols", "tcp");
    let flow = session.flow().clone();
    source.connect_pad_added(move |_, pad| {
        let flow = flow.clone();
        let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
        pad.add_probe(kinds, move |_, info| {
            let last = match &info.data {
                Some(gst::PadProbeData::Buffer(buffer)) => Some(buffer.as_ref()),
                Some(gst::PadProbeData::BufferList(list)) => list.iter().last(),
                _ => None,
            };
            let mut head = [0; 4];
            if last.is_some_and(|buffer| buffer.copy_to_slice(0, &mut head).is_ok()) {
                flow.packet_out(u16::from_be_bytes([head[2], head[3]]));
            }
            gst::PadProbeReturn::Ok
        });
    });
}

/// Selects the first video stream if any pipeline could decode it, and neither audio nor metadata.
fn select_stream(source: &gst::Element, unknown: UnknownStream) {
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
        let is_known = Codec::of_rtp(&encoding).is_some();
        *lock(&unknown) = Some(encoding).filter(|_| !is_known);
        Some(is_known.to_value())
    });
}

fn is_rtspsrc(source: &gst::Element) -> bool {
    source.factory().is_some_and(|factory| factory.name() == "rtspsrc")
}

/// Sends keep-alives to the RTSP camera of a custom launch line if this version of GStreamer does not.
pub(super) struct KeepAlive {
    /// None if no keep-alives are needed.
    source: Option<gst::Element>,
    next: Duration,
}

impl KeepAlive {
    /// Creates the keep-alive of a pipeline that begins to play at `now`. None is sent if it has a session of
    /// camfire's own.
    pub(super) fn new(bin: &gst::Pipeline, has_session: bool, now: Duration) -> KeepAlive {
        let (major, minor, micro, _) = gst::version();
        let source = bin
            .by_name("src")
            .filter(|source| is_rtspsrc(source) && !has_session && (major, minor, micro) < SENDS_KEEP_ALIVES);
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
