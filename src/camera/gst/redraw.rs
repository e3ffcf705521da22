//! Clips from file to file: how long one is, and a copy of one with something drawn on every frame.

use super::taker;
use crate::{
    config::Rotation,
    error::{Error, Kind},
};
use gstreamer::{self as gst, prelude::*};
use gstreamer_app::{AppSink, AppSrc};
use std::{path::Path, time::Duration};

/// How long a clip may take to tell its length.
const PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(5);
/// Encoders for MP4 that are looked for, best first, with their settings.
const ENCODERS: [(&str, &str); 3] = [
    ("x264enc", "x264enc speed-preset=veryfast quantizer=24 pass=quant ! video/x-h264,profile=high"),
    ("openh264enc", "openh264enc bitrate=4000000"),
    ("avenc_mpeg4", "avenc_mpeg4 bitrate=6000000"),
];

/// The length of a clip, if its container tells it.
pub fn clip_duration(clip: &Path) -> Option<Duration> {
    let pipeline = gst::parse::launch("filesrc name=src ! parsebin ! fakesink")
        .ok()?
        .downcast::<gst::Pipeline>()
        .ok()?;
    pipeline.by_name("src")?.set_property("location", clip);
    pipeline.set_state(gst::State::Paused).ok()?;
    let prerolled = pipeline.state(PATIENCE).0.is_ok();
    let duration = prerolled.then(|| pipeline.query_duration::<gst::ClockTime>()).flatten();
    pipeline.set_state(gst::State::Null).ok()?;
    duration.map(Duration::from)
}

/// Writes `clip` to the MP4 file `to`, turned upright, with `draw` called on each frame: its time, its packed RGB, width
/// and height.
///
/// Errors: no encoder ([`Kind::System`]), a clip that cannot be read ([`Kind::Input`]), a file that cannot be written.
pub fn redraw(
    clip: &Path,
    to: &Path,
    rotation: Rotation,
    mut draw: impl FnMut(Duration, &mut [u8], (usize, usize)),
) -> Result<(), Error> {
    let Some((_, encoder)) = ENCODERS.iter().find(|(name, _)| gst::ElementFactory::find(name).is_some())
    else {
        let message = "no encoder for MP4: install gstreamer1.0-plugins-ugly (x264enc) or gstreamer1.0-libav";
        return Err(Error::new(Kind::System, message));
    };
    let turn = match rotation {
        Rotation::None => "none",
        Rotation::Right => "clockwise",
        Rotation::Half => "rotate-180",
        Rotation::Left => "counterclockwise",
    };
    let reader = launch(&format!(
        "filesrc name=src ! decodebin ! videoconvert ! videoflip method={turn} ! video/x-raw,format=RGB ! \
         appsink name=sink sync=false max-buffers=4"
    ))?;
    let writer = launch(&format!(
        "appsrc name=in format=time block=true max-bytes=16000000 ! videoconvert ! {encoder} ! mp4mux ! filesink name=out"
    ))?;
    set_location(&reader, "src", clip);
    set_location(&writer, "out", to);
    let sink = reader.by_name("sink").and_then(|sink| sink.downcast::<AppSink>().ok());
    let input = writer.by_name("in").and_then(|input| input.downcast::<AppSrc>().ok());
    let (Some(sink), Some(input)) = (sink, input) else {
        return Err(Error::new(Kind::System, "GStreamer has no appsink or appsrc"));
    };
    let mut copy = || -> Result<(), Error> {
        start(&reader, clip, Kind::Input)?;
        start(&writer, to, Kind::System)?;
        while let Ok(sample) = sink.pull_sample() {
            let Some(buffer) = drawn(&sample, &mut draw) else {
                return Err(Error::new(
                    Kind::Input,
                    format!("{}: a frame that cannot be read", clip.display()),
                ));
            };
            input.set_caps(sample.caps_owned().as_ref());
            if input.push_buffer(buffer).is_err() {
                break;
            }
        }
        fault(&reader, clip, Kind::Input)?;
        let _ = input.end_of_stream();
        let bus = writer.bus().expect("a pipeline has a bus");
        bus.timed_pop_filtered(None, &[gst::MessageType::Eos, gst::MessageType::Error])
            .map_or(Ok(()), |message| told(&message, to, Kind::System))
    };
    let copied = copy();
    for pipeline in [reader, writer] {
        let _ = pipeline.set_state(gst::State::Null);
    }
    copied
}

fn launch(line: &str) -> Result<gst::Pipeline, Error> {
    gst::parse::launch(line)
        .map_err(|e| Error::caused(Kind::System, "the clip cannot be drawn on", e))?
        .downcast()
        .map_err(|_| Error::new(Kind::System, "the clip cannot be drawn on"))
}

fn set_location(pipeline: &gst::Pipeline, element: &str, path: &Path) {
    if let Some(element) = pipeline.by_name(element) {
        element.set_property("location", path);
    }
}

fn start(pipeline: &gst::Pipeline, path: &Path, kind: Kind) -> Result<(), Error> {
    match pipeline.set_state(gst::State::Playing) {
        Ok(_) => Ok(()),
        Err(error) => {
            fault(pipeline, path, kind)?;
            Err(Error::caused(kind, path.display().to_string(), error))
        }
    }
}

/// An error on the pipeline's bus.
fn fault(pipeline: &gst::Pipeline, path: &Path, kind: Kind) -> Result<(), Error> {
    let bus = pipeline.bus().expect("a pipeline has a bus");
    bus.pop_filtered(&[gst::MessageType::Error]).map_or(Ok(()), |message| told(&message, path, kind))
}

fn told(message: &gst::Message, path: &Path, kind: Kind) -> Result<(), Error> {
    match message.view() {
        gst::MessageView::Error(error) => Err(Error::caused(kind, path.display().to_string(), error.error())),
        _ => Ok(()),
    }
}

/// A copy of the sample's frame that was drawn on, with its time in the stream.
fn drawn(
    sample: &gst::Sample,
    draw: &mut impl FnMut(Duration, &mut [u8], (usize, usize)),
) -> Option<gst::Buffer> {
    let info = taker::usable(sample.caps()?).ok()?;
    let (width, height) = (info.width() as usize, info.height() as usize);
    let mut buffer = sample.buffer()?.copy_deep().ok()?;
    let at = sample.segment()?.downcast_ref::<gst::ClockTime>()?.to_running_time(buffer.pts()?)?;
    let writable = buffer.make_mut();
    writable.set_pts(at);
    let stride = info.stride()[0] as usize;
    let mut map = writable.map_writable().ok()?;
    let mut rgb: Vec<u8> =
        map.chunks(stride).take(height).flat_map(|row| &row[..3 * width]).copied().collect();
    draw(Duration::from(at), &mut rgb, (width, height));
    for (row, drawn) in map.chunks_mut(stride).zip(rgb.chunks_exact(3 * width)) {
        row[..3 * width].copy_from_slice(drawn);
    }
    drop(map);
    Some(buffer)
}
