//! Opens a camera for a moment, outside of the daemon: for its first image, or to measure its stream.
//!
//! `camfire snapshot`, `camfire doctor` and `camfire init` use it. Pipelines, sessions, readers and limits
//! are those of the daemon; what is missing is what a moment does not need: pacing, the gate's decisions and
//! the analysis. Every image is decoded.

use super::{
    bounds,
    build::build,
    capture::POLL_INTERVAL,
    errors::{self, video_in},
    feed::Feed,
    sample_sink,
    source::{self, UnknownStream},
    teardown,
};
use crate::{
    camera::{
        Failure, FailureKind,
        http::Content,
        rtsp::{self, Session},
        stream_facts::{Arrival, StreamFacts, StreamRecord},
        template::{Codec, Pipeline},
    },
    clock::Clock,
    config::Camera,
    frame::Image,
    sync::lock,
};
use gstreamer::{self as gst, prelude::*};
use gstreamer_app::AppSink;
use gstreamer_video as gst_video;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// Between two requests to an HTTP camera that sends one image for each.
const STILL_INTERVAL: Duration = Duration::from_secs(1);
/// Images that may wait between the decoder and this thread. The decoder waits beyond them.
const MAX_WAITING_IMAGES: u32 = 4;

/// Opens a camera, returns its first image and closes it. `usable`: the codecs that this machine can decode.
///
/// Errors: no image within the camera's `first_frame_timeout`, or any failure before.
pub fn first_image(
    camera: &Camera,
    pipeline: &Pipeline,
    usable: Vec<Codec>,
    clock: &dyn Clock,
) -> Result<Image, Failure> {
    visit(camera, pipeline, usable, clock, Duration::ZERO, Duration::ZERO).map(|(image, _)| image)
}

/// Opens a camera, watches its stream and closes it. `usable`: the codecs that this machine can decode. It is
/// watched for `time`, counted from its first image, and if its keyframe interval is not known by then, until
/// it is, or until it is known to exceed the camera's `keyframe_limit`, but not longer than `max_time`.
///
/// Errors: as for [`first_image`], or any failure while it is watched.
pub fn stream_facts(
    camera: &Camera,
    pipeline: &Pipeline,
    usable: Vec<Codec>,
    clock: &dyn Clock,
    (time, max_time): (Duration, Duration),
) -> Result<StreamFacts, Failure> {
    visit(camera, pipeline, usable, clock, time, max_time).map(|(_, facts)| facts)
}

fn visit(
    camera: &Camera,
    pipeline: &Pipeline,
    usable: Vec<Codec>,
    clock: &dyn Clock,
    time: Duration,
    max_time: Duration,
) -> Result<(Image, StreamFacts), Failure> {
    let (bin, sink) = build(pipeline, camera, &UnknownStream::default())?;
    sink.set_property("sync", false);
    sink.set_property("max-buffers", MAX_WAITING_IMAGES);
    let request = source::session_request(&bin, pipeline, camera, usable);
    let session = match request {
        Some(request) => rtsp::open(&camera.name, request, || true)?,
        None => None,
    };
    if let Some(session) = &session {
        source::connect(&bin, session);
    }
    let record = Arc::new(Mutex::new(StreamRecord::default()));
    observe_gate(&bin, &record);
    let feed = Feed::new(&bin, pipeline, camera);
    let visit = Visit { bin: &bin, sink: &sink, camera, pipeline, clock, session: session.as_ref(), record };
    let seen = visit.watch(feed, time, max_time);
    drop(sink);
    teardown::tear_down(&camera.name, bin, &Default::default(), || {});
    seen
}

/// Records every encoded frame that reaches the element `gate`, if the pipeline has one.
fn observe_gate(bin: &gst::Pipeline, record: &Arc<Mutex<StreamRecord>>) {
    let Some(pad) = bin.by_name("gate").and_then(|gate| gate.static_pad("sink")) else { return };
    let record = record.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        if let Some(gst::PadProbeData::Buffer(buffer)) = &info.data {
            let media_type = pad.current_caps().and_then(|caps| Some(caps.structure(0)?.name().to_string()));
            lock(&record).add(Arrival {
                at: buffer.pts().or(buffer.dts()).map(Duration::from),
                is_key: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
            });
            if let Some(media_type) = media_type {
                lock(&record).set_media_type(&media_type);
            }
        }
        gst::PadProbeReturn::Ok
    });
}

/// An open camera.
struct Visit<'a> {
    bin: &'a gst::Pipeline,
    sink: &'a AppSink,
    camera: &'a Camera,
    pipeline: &'a Pipeline,
    clock: &'a dyn Clock,
    session: Option<&'a Session>,
    /// Written by the probe at the gate.
    record: Arc<Mutex<StreamRecord>>,
}

impl Visit<'_> {
    /// Plays the pipeline until enough is known. Returns its first image and the facts of its stream.
    fn watch(
        &self,
        mut feed: Option<Feed>,
        time: Duration,
        max_time: Duration,
    ) -> Result<(Image, StreamFacts), Failure> {
        const MESSAGES: [gst::MessageType; 3] =
            [gst::MessageType::Error, gst::MessageType::Eos, gst::MessageType::StreamCollection];
        let bus = self.bin.bus().expect("a pipeline has a bus");
        let deadline = self.clock.monotonic() + self.camera.first_frame_timeout;
        if self.bin.set_state(gst::State::Playing).is_err() {
            return Err(errors::start_failure(&bus, POLL_INTERVAL, |error| errors::failure(error, None)));
        }
        let refused = Arc::new(Mutex::new(None));
        if let Some(feed) = &mut feed {
            let (record, refused) = (self.record.clone(), refused.clone());
            let images = move || lock(&record).frames();
            bounds::install(self.bin, images, move |reason| *lock(&refused) = Some(reason));
            feed.start(|| STILL_INTERVAL)?;
        }
        let mut first = None;
        loop {
            let now = self.clock.monotonic();
            match first.take() {
                Some((image, since)) if self.is_enough(now - since, time, max_time) => {
                    return Ok((image, self.facts(now - since)));
                }
                None if now >= deadline => {
                    return Err(Failure::new(FailureKind::Stalled, "no frame in time"));
                }
                waiting => first = waiting,
            }
            self.check(feed.as_ref())?;
            if let Some(reason) = lock(&refused).take() {
                return Err(Failure::new(FailureKind::Unsupported, reason));
            }
            if let Some(sample) = self.sink.try_pull_sample(POLL_INTERVAL) {
                first = Some(self.accept(&sample, first.take())?);
                continue;
            }
            match bus.pop_filtered(&MESSAGES).as_ref().map(|message| message.view()) {
                Some(gst::MessageView::Error(error)) => return Err(errors::failure(error, None)),
                Some(gst::MessageView::StreamCollection(streams)) => drop(video_in(streams)?),
                // A recording that is shorter than the visit.
                Some(_) => match first.take() {
                    Some((image, since)) => return Ok((image, self.facts(now - since))),
                    None => return Err(Failure::no_video()),
                },
                None => {}
            }
        }
    }

    /// Counts a decoded image, and keeps it if it is the first one.
    fn accept(
        &self,
        sample: &gst::Sample,
        first: Option<(Image, Duration)>,
    ) -> Result<(Image, Duration), Failure> {
        let info = sample.caps().and_then(|caps| gst_video::VideoInfo::from_caps(caps).ok());
        let at = sample.buffer().and_then(|buffer| buffer.pts()).map(Duration::from);
        if let Some(info) = &info {
            lock(&self.record).add_decoded(at, (info.width(), info.height()));
        }
        if let Some(first) = first {
            return Ok(first);
        }
        let image = info.and_then(|info| sample_sink::image(sample, &info, self.camera.rotation));
        let image =
            image.ok_or_else(|| Failure::new(FailureKind::Unsupported, "the frame cannot be read"))?;
        Ok((image, self.clock.monotonic()))
    }

    /// Errors: the session with the camera has ended, or reading it has failed.
    fn check(&self, feed: Option<&Feed>) -> Result<(), Failure> {
        if let Some(session) = self.session {
            session.flow().set_frames(lock(&self.record).frames());
            session.failure().map_or(Ok(()), Err)?;
        }
        feed.map_or(Ok(None), Feed::check).map(drop)
    }

    fn is_enough(&self, watched: Duration, time: Duration, max_time: Duration) -> bool {
        let record = lock(&self.record);
        // A recording that is read as fast as possible needs less time.
        let stream_time = if self.pipeline.live { watched } else { watched.max(record.span()) };
        stream_time >= time
            && (watched >= max_time || record.is_keyframe_interval_known(self.camera.keyframe_limit))
    }

    fn facts(&self, watched: Duration) -> StreamFacts {
        let transport = self.session.map(|session| session.carrier().name());
        let is_measured = self.pipeline.live && self.pipeline.content != Some(Content::Still);
        lock(&self.record).facts(watched, is_measured, transport)
    }
}
