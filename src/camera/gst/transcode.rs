//! Clips from file to file: how long one is, and a copy of one with something drawn on every frame.

use super::{capture::describe, sample_sink, teardown};
use crate::{
    camera::Ended,
    config::Rotation,
    error::{Error, ErrorKind},
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

/// How often the loop looks around: at both pipelines and at whether it is over.
const TURN: gst::ClockTime = gst::ClockTime::from_mseconds(50);
/// Turns without a frame before the reader is given up: half a minute.
const MOST_SILENT_TURNS: u32 = 600;
/// Frames that may wait for the encoder, in bytes; one always may.
const MOST_WAITING: u64 = 16_000_000;

/// The length of a clip, if its container tells it.
pub fn clip_duration(clip: &Path) -> Option<Duration> {
    let pipeline = gst::parse::launch("filesrc name=src ! parsebin ! fakesink")
        .ok()?
        .downcast::<gst::Pipeline>()
        .ok()?;
    set_location(&pipeline, "src", clip);
    let prerolled = pipeline.set_state(gst::State::Paused).is_ok() && {
        let bus = pipeline.bus().expect("a pipeline has a bus");
        let message =
            bus.timed_pop_filtered(PATIENCE, &[gst::MessageType::AsyncDone, gst::MessageType::Error]);
        message.is_some_and(|message| message.type_() == gst::MessageType::AsyncDone)
    };
    let duration = prerolled.then(|| pipeline.query_duration::<gst::ClockTime>()).flatten();
    teardown::tear_down("length", pipeline, || {});
    duration.map(Duration::from)
}

/// What is read and written.
pub struct Paths<'a> {
    /// The clip.
    pub clip: &'a Path,
    /// The MP4 file.
    pub to: &'a Path,
    /// What errors call that.
    pub name: &'a Path,
}

/// Writes a clip to an MP4 file, turned upright, with `draw` called on each frame: its time, its packed RGB, width and
/// height. Ends early when `is_over`.
///
/// Errors: no encoder ([`ErrorKind::System`]), a clip that cannot be read ([`ErrorKind::Input`]), a file that cannot be written.
pub fn redraw(
    paths: &Paths<'_>,
    rotation: Rotation,
    draw: impl FnMut(Duration, &mut [u8], (usize, usize)),
    is_over: impl FnMut() -> bool,
) -> Result<Ended, Error> {
    let Some((_, encoder)) = ENCODERS.iter().find(|(name, _)| gst::ElementFactory::find(name).is_some())
    else {
        let message = "no encoder for MP4: install gstreamer1.0-plugins-ugly (x264enc) or gstreamer1.0-libav";
        return Err(Error::new(ErrorKind::System, message));
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
    // Said here and not left to the encoder: what it would choose by itself, players of MP4 may not know.
    let writer = launch(&format!(
        "appsrc name=in format=time ! videoconvert ! video/x-raw,format=I420 ! {encoder} ! mp4mux ! filesink name=out"
    ))?;
    set_location(&reader, "src", paths.clip);
    set_location(&writer, "out", paths.to);
    let sink = reader.by_name("sink").and_then(|sink| sink.downcast::<AppSink>().ok());
    let input = writer.by_name("in").and_then(|input| input.downcast::<AppSrc>().ok());
    let (Some(sink), Some(input)) = (sink, input) else {
        return Err(Error::new(ErrorKind::System, "GStreamer has no appsink or appsrc"));
    };
    input.set_property("max-bytes", 2 * MOST_WAITING);
    let copy = Copy { paths, reader, writer, sink, input };
    let ended = copy.run(draw, is_over);
    let Copy { reader, writer, .. } = copy;
    for pipeline in [reader, writer] {
        teardown::tear_down("annotate", pipeline, || {});
    }
    ended
}

/// The two pipelines and their ends that meet here. Neither may be waited for without looking at the other: one that has
/// failed takes no frames and gives none.
struct Copy<'a> {
    paths: &'a Paths<'a>,
    reader: gst::Pipeline,
    writer: gst::Pipeline,
    sink: AppSink,
    input: AppSrc,
}

impl Copy<'_> {
    fn run(
        &self,
        mut draw: impl FnMut(Duration, &mut [u8], (usize, usize)),
        mut is_over: impl FnMut() -> bool,
    ) -> Result<Ended, Error> {
        let unreadable =
            |why: &str| Error::new(ErrorKind::Input, format!("{}: {why}", self.paths.clip.display()));
        self.start(&self.reader)?;
        self.start(&self.writer)?;
        let mut silent_turns = 0;
        loop {
            if is_over() {
                return Ok(Ended::Stopped);
            }
            self.look_at(&self.reader, gst::ClockTime::ZERO)?;
            self.look_at(&self.writer, gst::ClockTime::ZERO)?;
            if self.input.current_level_bytes() >= MOST_WAITING {
                self.look_at(&self.writer, TURN)?;
                continue;
            }
            match self.sink.try_pull_sample(TURN) {
                Some(sample) => {
                    silent_turns = 0;
                    let (frame, caps) =
                        drawn(&sample, &mut draw).ok_or_else(|| unreadable("a frame that cannot be read"))?;
                    self.input.set_caps(Some(&caps));
                    // What is wrong with the writer is on its bus.
                    let _ = self.input.push_buffer(frame);
                }
                None if self.sink.is_eos() => break,
                None => silent_turns += 1,
            }
            if silent_turns > MOST_SILENT_TURNS {
                return Err(unreadable("no frame for half a minute"));
            }
        }
        // An end may be one because of an error.
        self.look_at(&self.reader, gst::ClockTime::ZERO)?;
        let _ = self.input.end_of_stream();
        while !self.look_at(&self.writer, TURN)? {
            if is_over() {
                return Ok(Ended::Stopped);
            }
        }
        Ok(Ended::Finished)
    }

    fn start(&self, pipeline: &gst::Pipeline) -> Result<(), Error> {
        if pipeline.set_state(gst::State::Playing).is_err() {
            self.look_at(pipeline, TURN)?;
            return Err(self.fault(pipeline, "GStreamer does not start".to_string()));
        }
        Ok(())
    }

    /// Waits for what is on the pipeline's bus; true if it has come to its end.
    fn look_at(&self, pipeline: &gst::Pipeline, timeout: gst::ClockTime) -> Result<bool, Error> {
        let bus = pipeline.bus().expect("a pipeline has a bus");
        let message = bus.timed_pop_filtered(timeout, &[gst::MessageType::Eos, gst::MessageType::Error]);
        match message.as_ref().map(|message| message.view()) {
            Some(gst::MessageView::Error(error)) => Err(self.fault(pipeline, describe(error, None).reason)),
            Some(_) => Ok(true),
            None => Ok(false),
        }
    }

    fn fault(&self, pipeline: &gst::Pipeline, reason: String) -> Error {
        let (kind, path) = if *pipeline == self.reader {
            (ErrorKind::Input, self.paths.clip)
        } else {
            (ErrorKind::System, self.paths.name)
        };
        Error::new(kind, format!("{}: {reason}", path.display()))
    }
}

fn launch(line: &str) -> Result<gst::Pipeline, Error> {
    gst::parse::launch(line)
        .map_err(|e| Error::caused(ErrorKind::System, "the clip cannot be drawn on", e))?
        .downcast()
        .map_err(|_| Error::new(ErrorKind::System, "the clip cannot be drawn on"))
}

fn set_location(pipeline: &gst::Pipeline, element: &str, path: &Path) {
    if let Some(element) = pipeline.by_name(element) {
        element.set_property("location", path);
    }
}

/// A copy of the sample's frame that was drawn on, with its time in the stream, and its caps. The encoders want an even
/// number of rows and columns: an odd last one is there twice.
fn drawn(
    sample: &gst::Sample,
    draw: &mut impl FnMut(Duration, &mut [u8], (usize, usize)),
) -> Option<(gst::Buffer, gst::Caps)> {
    let mut caps = sample.caps_owned()?;
    let info = sample_sink::usable(&caps).ok()?;
    let (width, height) = (info.width() as usize, info.height() as usize);
    let source = sample.buffer()?;
    let at = sample.segment()?.downcast_ref::<gst::ClockTime>()?.to_running_time(source.pts()?)?;
    let stride = info.stride()[0] as usize;
    let map = source.map_readable().ok()?;
    let mut rgb: Vec<u8> =
        map.chunks(stride).take(height).flat_map(|row| &row[..3 * width]).copied().collect();
    draw(Duration::from(at), &mut rgb, (width, height));

    let (even_width, even_height) = (width.next_multiple_of(2), height.next_multiple_of(2));
    if (even_width, even_height) != (width, height) {
        let stream = caps.make_mut().structure_mut(0)?;
        stream.set("width", even_width as i32);
        stream.set("height", even_height as i32);
    }
    let stride = gstreamer_video::VideoInfo::from_caps(&caps).ok()?.stride()[0] as usize;
    let mut bytes = vec![0; stride * even_height];
    for (y, row) in bytes.chunks_exact_mut(stride).enumerate() {
        let from = 3 * width * y.min(height - 1);
        row[..3 * width].copy_from_slice(&rgb[from..from + 3 * width]);
        row.copy_within(3 * (width - 1)..3 * width, 3 * (even_width - 1));
    }
    let mut buffer = gst::Buffer::from_mut_slice(bytes);
    let writable = buffer.get_mut()?;
    writable.set_pts(at);
    writable.set_duration(source.duration());
    Some((buffer, caps))
}
