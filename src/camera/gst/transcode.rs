//! For `camfire analyze`: the duration of a recording, and a copy of it with something drawn on every frame.

use super::{errors, sample_sink, teardown};
use crate::{
    camera::Ended,
    config::Rotation,
    error::{Error, ErrorKind},
};
use gstreamer::{self as gst, prelude::*};
use gstreamer_app::{AppSink, AppSrc};
use std::{path::Path, time::Duration};

/// How long reading the duration of a clip may take.
const DURATION_TIMEOUT: gst::ClockTime = gst::ClockTime::from_seconds(5);
/// Encoders for MP4, best first, each with its settings and what turns its output into what MP4 holds. The
/// first one of which all elements are installed is used. Others do not work: libav's MPEG-4 has no times,
/// and VP9's encoder crashes in some versions.
const ENCODERS: [&str; 2] = [
    "x264enc speed-preset=veryfast quantizer=24 pass=quant ! video/x-h264,profile=high",
    "openh264enc bitrate=4000000 ! h264parse",
];

/// How long the loop waits for a frame or a bus message before it checks whether to stop.
const POLL_INTERVAL: gst::ClockTime = gst::ClockTime::from_mseconds(50);
/// Iterations without a frame after which reading fails: half a minute.
const MAX_SILENT_POLLS: u32 = 600;
/// Bytes of frames that may wait for the encoder. One frame always may.
const MAX_QUEUED_BYTES: u64 = 16_000_000;

/// The duration of a clip. Returns None if the container does not contain it.
pub fn clip_duration(clip: &Path) -> Option<Duration> {
    let pipeline = gst::parse::launch("filesrc name=src ! parsebin ! fakesink")
        .ok()?
        .downcast::<gst::Pipeline>()
        .ok()?;
    set_location(&pipeline, "src", clip);
    let prerolled = pipeline.set_state(gst::State::Paused).is_ok() && {
        let bus = pipeline.bus().expect("a pipeline has a bus");
        let message =
            bus.timed_pop_filtered(DURATION_TIMEOUT, &[gst::MessageType::AsyncDone, gst::MessageType::Error]);
        message.is_some_and(|message| message.type_() == gst::MessageType::AsyncDone)
    };
    let duration = prerolled.then(|| pipeline.query_duration::<gst::ClockTime>()).flatten();
    teardown::tear_down("duration", pipeline, &Default::default(), || {});
    duration.map(Duration::from)
}

/// The files of a [`transcode`].
pub struct Paths<'a> {
    /// The clip to read.
    pub clip: &'a Path,
    /// The MP4 file to write.
    pub to: &'a Path,
    /// The written file's name in error texts.
    pub name: &'a Path,
}

/// Writes a clip to an MP4 file, rotated upright. `draw` is called on each frame with its time, its packed
/// RGB pixels, and width and height. Stops early once `is_over` returns true.
///
/// Errors: no encoder is installed or the file cannot be written ([`ErrorKind::System`]); the clip cannot be
/// read ([`ErrorKind::Input`]).
pub fn transcode(
    paths: &Paths<'_>,
    rotation: Rotation,
    draw: impl FnMut(Duration, &mut [u8], (usize, usize)),
    is_over: impl FnMut() -> bool,
) -> Result<Ended, Error> {
    let is_installed = |element: &str| gst::ElementFactory::find(element).is_some();
    let Some(encoder) = choose_encoder(is_installed) else {
        let message = "no encoder for MP4: install gstreamer1.0-plugins-bad (openh264enc)";
        return Err(Error::new(ErrorKind::System, message));
    };
    let method = match rotation {
        Rotation::None => "none",
        Rotation::Right => "clockwise",
        Rotation::Half => "rotate-180",
        Rotation::Left => "counterclockwise",
    };
    let reader = launch(&format!(
        "filesrc name=src ! decodebin ! videoconvert ! videoflip method={method} ! video/x-raw,format=RGB ! \
         appsink name=sink sync=false max-buffers=4"
    ))?;
    // I420 is set here because MP4 players may not support the format that the encoder would select.
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
    input.set_property("max-bytes", 2 * MAX_QUEUED_BYTES);
    let transcoder = Transcoder { paths, reader, writer, sink, input };
    let ended = transcoder.run(draw, is_over);
    let Transcoder { reader, writer, .. } = transcoder;
    for pipeline in [reader, writer] {
        teardown::tear_down("annotate", pipeline, &Default::default(), || {});
    }
    ended
}

/// The first encoder of which all elements are installed.
fn choose_encoder(is_installed: impl Fn(&str) -> bool) -> Option<&'static str> {
    let elements = |line: &'static str| {
        let names = line.split(" ! ").filter_map(|part| part.split(' ').next());
        names.filter(|name| !name.contains('/'))
    };
    ENCODERS.into_iter().find(|line| elements(line).all(&is_installed))
}

/// A reading and a writing pipeline, connected by this thread. It never waits for one without checking the
/// other, because one that has failed neither accepts nor delivers frames.
struct Transcoder<'a> {
    paths: &'a Paths<'a>,
    reader: gst::Pipeline,
    writer: gst::Pipeline,
    sink: AppSink,
    input: AppSrc,
}

impl Transcoder<'_> {
    fn run(
        &self,
        mut draw: impl FnMut(Duration, &mut [u8], (usize, usize)),
        mut is_over: impl FnMut() -> bool,
    ) -> Result<Ended, Error> {
        let unreadable =
            |why: &str| Error::new(ErrorKind::Input, format!("{}: {why}", self.paths.clip.display()));
        self.start(&self.reader)?;
        self.start(&self.writer)?;
        let mut silent_polls = 0;
        loop {
            if is_over() {
                return Ok(Ended::Stopped);
            }
            self.check_bus(&self.reader, gst::ClockTime::ZERO)?;
            self.check_bus(&self.writer, gst::ClockTime::ZERO)?;
            if self.input.current_level_bytes() >= MAX_QUEUED_BYTES {
                self.check_bus(&self.writer, POLL_INTERVAL)?;
                continue;
            }
            match self.sink.try_pull_sample(POLL_INTERVAL) {
                Some(sample) => {
                    silent_polls = 0;
                    let (frame, caps) =
                        draw_on(&sample, &mut draw).ok_or_else(|| unreadable("a frame cannot be read"))?;
                    self.input.set_caps(Some(&caps));
                    // The writer's errors are on its bus.
                    let _ = self.input.push_buffer(frame);
                }
                None if self.sink.is_eos() => break,
                None => silent_polls += 1,
            }
            if silent_polls > MAX_SILENT_POLLS {
                return Err(unreadable("no frame for 30 s"));
            }
        }
        // The stream may have ended because of an error.
        self.check_bus(&self.reader, gst::ClockTime::ZERO)?;
        let _ = self.input.end_of_stream();
        while !self.check_bus(&self.writer, POLL_INTERVAL)? {
            if is_over() {
                return Ok(Ended::Stopped);
            }
        }
        Ok(Ended::Finished)
    }

    fn start(&self, pipeline: &gst::Pipeline) -> Result<(), Error> {
        if pipeline.set_state(gst::State::Playing).is_err() {
            self.check_bus(pipeline, POLL_INTERVAL)?;
            return Err(self.error(pipeline, "the pipeline does not start".to_string()));
        }
        Ok(())
    }

    /// Waits up to `timeout` for a message on the pipeline's bus. Returns true if the stream has ended.
    ///
    /// Errors: an error message on the bus.
    fn check_bus(&self, pipeline: &gst::Pipeline, timeout: gst::ClockTime) -> Result<bool, Error> {
        let bus = pipeline.bus().expect("a pipeline has a bus");
        let message = bus.timed_pop_filtered(timeout, &[gst::MessageType::Eos, gst::MessageType::Error]);
        match message.as_ref().map(|message| message.view()) {
            Some(gst::MessageView::Error(error)) => {
                Err(self.error(pipeline, errors::failure(error, None).reason))
            }
            Some(_) => Ok(true),
            None => Ok(false),
        }
    }

    fn error(&self, pipeline: &gst::Pipeline, reason: String) -> Error {
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
        .map_err(|e| Error::caused(ErrorKind::System, "the clip cannot be transcoded", e))?
        .downcast()
        .map_err(|_| Error::new(ErrorKind::System, "the clip cannot be transcoded"))
}

fn set_location(pipeline: &gst::Pipeline, element: &str, path: &Path) {
    if let Some(element) = pipeline.by_name(element) {
        element.set_property("location", path);
    }
}

/// A copy of the sample's frame with `draw` applied, with its stream time, and its caps. An odd last row or
/// column is doubled, because the encoders need even dimensions. Returns None if the frame cannot be read.
fn draw_on(
    sample: &gst::Sample,
    draw: &mut impl FnMut(Duration, &mut [u8], (usize, usize)),
) -> Option<(gst::Buffer, gst::Caps)> {
    let mut caps = sample.caps_owned()?;
    let info = sample_sink::video_info(&caps).ok()?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_encoder_is_chosen_of_which_all_elements_are_installed() {
        let chosen = |missing: &[&str]| {
            choose_encoder(|element| !missing.contains(&element)).map(|line| line.split(' ').next().unwrap())
        };
        assert_eq!(chosen(&[]), Some("x264enc"));
        assert_eq!(chosen(&["x264enc"]), Some("openh264enc"));
        assert_eq!(chosen(&["x264enc", "h264parse"]), None);
    }
}
