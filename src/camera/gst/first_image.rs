//! Opens a camera for a single image, as for `camfire snapshot`.

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
        rtsp::{self, Session},
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

/// Between two requests, while the stills of an HTTP camera cannot be used.
const STILL_INTERVAL: Duration = Duration::from_secs(1);

/// Opens a camera, returns its first image and closes it. `usable`: the codecs that this machine can decode.
///
/// Errors: no image within the camera's `first_frame_timeout`, or any failure before.
pub fn first_image(
    camera: &Camera,
    pipeline: &Pipeline,
    usable: Vec<Codec>,
    clock: &dyn Clock,
) -> Result<Image, Failure> {
    let (bin, sink) = build(pipeline, camera, &UnknownStream::default())?;
    sink.set_property("sync", false);
    let request = source::session_request(&bin, pipeline, camera, usable);
    let session = match request {
        Some(request) => rtsp::open(&camera.name, request, || true)?,
        None => None,
    };
    if let Some(session) = &session {
        source::connect(&bin, session);
    }
    let feed = Feed::new(&bin, pipeline, camera);
    let image = wait_for_image(&bin, &sink, feed, camera, clock, session.as_ref());
    drop(sink);
    teardown::tear_down(&camera.name, bin, &Default::default(), || {});
    image
}

fn wait_for_image(
    bin: &gst::Pipeline,
    sink: &AppSink,
    mut feed: Option<Feed>,
    camera: &Camera,
    clock: &dyn Clock,
    session: Option<&Session>,
) -> Result<Image, Failure> {
    const MESSAGES: [gst::MessageType; 3] =
        [gst::MessageType::Error, gst::MessageType::Eos, gst::MessageType::StreamCollection];
    let bus = bin.bus().expect("a pipeline has a bus");
    let deadline = clock.monotonic() + camera.first_frame_timeout;
    if bin.set_state(gst::State::Playing).is_err() {
        return Err(errors::start_failure(&bus, POLL_INTERVAL, |error| errors::failure(error, None)));
    }
    let refused = Arc::new(Mutex::new(None));
    if let Some(feed) = &mut feed {
        let refused = refused.clone();
        // No image is complete yet, and the first one ends this.
        bounds::install(bin, || 0, move |reason| *lock(&refused) = Some(reason));
        feed.start(|| STILL_INTERVAL)?;
    }
    while clock.monotonic() < deadline {
        if let Some(failure) = session.and_then(Session::failure) {
            return Err(failure);
        }
        if let Some(feed) = &feed {
            feed.check()?;
        }
        if let Some(reason) = lock(&refused).take() {
            return Err(Failure::new(FailureKind::Unsupported, reason));
        }
        if let Some(sample) = sink.try_pull_sample(POLL_INTERVAL) {
            let info = sample.caps().and_then(|caps| gst_video::VideoInfo::from_caps(caps).ok());
            let image = info.and_then(|info| sample_sink::image(&sample, &info, camera.rotation));
            return image.ok_or_else(|| Failure::new(FailureKind::Unsupported, "the frame cannot be read"));
        }
        match bus.pop_filtered(&MESSAGES).as_ref().map(|message| message.view()) {
            Some(gst::MessageView::Error(error)) => {
                return Err(errors::failure(error, None));
            }
            Some(gst::MessageView::StreamCollection(streams)) => drop(video_in(streams)?),
            Some(_) => return Err(Failure::no_video()),
            None => {}
        }
    }
    Err(Failure::new(FailureKind::Stalled, "no frame in time"))
}
