//! Turns GStreamer's bus messages into failures with a reason for the user.

use crate::camera::{Failure, FailureKind};
use gstreamer::{self as gst, prelude::*};

/// Whether an error is about what the source sends, and not about reaching it.
fn is_of_stream(error: &gst::glib::Error) -> bool {
    error.is::<gst::StreamError>() || error.is::<gst::CoreError>()
}

/// The failure that a bus error stands for. `missing_plugin` is the text of [`missing_video_plugin`], if
/// there was one.
pub(super) fn failure(message: &gst::message::Error, missing_plugin: Option<String>) -> Failure {
    if let Some(missing) = missing_plugin {
        return Failure::new(FailureKind::Unsupported, missing);
    }
    let error = message.error();
    let kind = if error.matches(gst::ResourceError::NotAuthorized) {
        FailureKind::Denied
    } else if error.matches(gst::CoreError::MissingPlugin)
        || error.matches(gst::CoreError::Negotiation)
        || error.matches(gst::StreamError::CodecNotFound)
        || error.matches(gst::StreamError::WrongType)
        || error.matches(gst::StreamError::TypeNotFound)
        || error.matches(gst::StreamError::Format)
        || error.matches(gst::StreamError::Demux)
    {
        FailureKind::Unsupported
    } else if is_of_stream(&error) {
        FailureKind::Stalled
    } else {
        FailureKind::Unreachable
    };
    // The debug text's first line is a position in GStreamer's source code, the second one the actual cause.
    let debug = message.debug().unwrap_or_default();
    let detail = debug.lines().nth(1).map(str::trim).filter(|line| !line.is_empty());
    let text = error.message().trim_end_matches('.');
    let reason = match detail {
        Some(detail) => format!("{text} ({detail})"),
        None => text.to_string(),
    };
    Failure::new(kind, without_queries(&reason))
}

/// The failure of a pipeline that cannot change its state; waits up to `timeout` for the bus error that names
/// the reason.
pub(super) fn start_failure(
    bus: &gst::Bus,
    timeout: gst::ClockTime,
    failure: impl FnOnce(&gst::message::Error) -> Failure,
) -> Failure {
    let error = bus.timed_pop_filtered(timeout, &[gst::MessageType::Error]);
    match error.as_ref().map(|message| message.view()) {
        Some(gst::MessageView::Error(error)) => failure(error),
        _ => Failure::new(FailureKind::Unreachable, "the pipeline does not start"),
    }
}

/// The media type of the video among a source's streams. Returns None if it is not known.
///
/// Errors: the source contains no video.
pub(super) fn video_in(streams: &gst::message::StreamCollection) -> Result<Option<String>, Failure> {
    let is_parser = |source: &gst::Object| {
        let element = source.downcast_ref::<gst::Element>();
        element.and_then(|element| element.factory()).is_some_and(|factory| factory.name() == "parsebin")
    };
    // Other elements report only some of the streams.
    if !streams.src().is_some_and(is_parser) {
        return Ok(None);
    }
    let streams = streams.stream_collection();
    let others = gst::StreamType::AUDIO | gst::StreamType::TEXT;
    let video = streams.iter().find(|stream| !others.contains(stream.stream_type()));
    match video {
        Some(video) => {
            Ok(video.caps().and_then(|caps| caps.structure(0).map(|stream| stream.name().to_string())))
        }
        None if streams.is_empty() => Ok(None),
        None => Err(Failure::no_video()),
    }
}

/// What to install if `message` reports a missing decoder for a video stream. Audio streams are ignored.
pub(super) fn missing_video_plugin(message: &gst::message::Element) -> Option<String> {
    let structure = message.structure().filter(|s| s.name() == "missing-plugin")?;
    let detail = structure.value("detail").ok()?;
    let caps = detail.get::<gst::Caps>().map(|caps| caps.to_string());
    let stream = caps.or_else(|_| detail.get::<String>()).ok()?;
    let name = structure.get::<String>("name").unwrap_or_else(|_| stream.clone());
    (!stream.starts_with("audio/"))
        .then(|| format!("{name} is missing: install gstreamer1.0-libav or gstreamer1.0-plugins-bad"))
}

/// Masks the query of each URL, because it may hold a password and GStreamer's errors contain URLs.
fn without_queries(text: &str) -> String {
    let mask = |word: &str| match (word.find("://"), word.find('?')) {
        (Some(scheme), Some(query)) if scheme < query => format!("{}?***", &word[..query]),
        _ => word.to_string(),
    };
    text.split(' ').map(mask).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_of_a_url_is_masked() {
        let text =
            "Not Found (Not Found (404), URL: http://cam/video?user=admin&pwd=hunter2, Redirect to: (NULL))";
        assert_eq!(
            without_queries(text),
            "Not Found (Not Found (404), URL: http://cam/video?*** Redirect to: (NULL))"
        );
        assert_eq!(without_queries("why? because rtsp://h/s is away"), "why? because rtsp://h/s is away");
    }
}
