//! GStreamer: the only code that names it.
//!
//! [`attempt`] is one try at a camera: build the pipeline, watch it, take it down ([`teardown`]). [`source`] sets up the
//! element that brings the stream, [`gate`] decides before the decoder what is decoded, [`taker`] makes frames of what
//! comes out of it. [`redraw`] is for clips alone.
//!
//! Frames leave on GStreamer's thread through an appsink callback that never blocks: a callback that waits makes the
//! pipeline impossible to stop. Only for a clip that is read as fast as it goes it waits for room, in short steps that end
//! with the attempt. There is no videorate (1.22's aborts the process on streams without timing), no scaling and no conversion to RGB
//! in the graph: the decoder's own planes go to the workers.
//!
//! The bindings are built without version features and optional properties are looked up, so that one binary runs on
//! GStreamer 1.18 and later.

mod capture;
mod gate;
mod sample_sink;
mod source;
mod teardown;
mod transcode;

pub use capture::{SHORTEST_CLIP, Watcher, first_picture, run_once};
pub use transcode::{Paths, clip_duration, redraw};

use super::template::{self, Pipeline};
use crate::error::{Error, ErrorKind};
use gstreamer::{self as gst, prelude::*};
use std::sync::atomic::{AtomicU64, Ordering};

/// What [`decoder_faults`] tells.
static DECODER_FAULTS: AtomicU64 = AtomicU64::new(0);

/// How often libav's decoders have logged an error since the start, of whichever stream. They go on then with what they
/// make up, and GStreamer passes it on as if nothing had been.
pub fn decoder_faults() -> u64 {
    DECODER_FAULTS.load(Ordering::Relaxed)
}

/// Loads GStreamer and sends what it logs to our log; call once.
///
/// Errors ([`ErrorKind::System`]): no GStreamer that can be used.
pub fn init() -> Result<(), Error> {
    gst::init().map_err(|e| Error::caused(ErrorKind::System, "GStreamer does not start", e))?;
    gst::log::remove_default_log_function();
    gst::log::set_default_threshold(gst::DebugLevel::Warning);
    // Whatever matters also arrives on the bus; the rest is for those who look for it.
    gst::log::add_log_function(|category, level, _file, _function, _line, _object, message| {
        if level == gst::DebugLevel::Error && category.name() == "libav" {
            DECODER_FAULTS.fetch_add(1, Ordering::Relaxed);
        }
        if level <= gst::DebugLevel::Warning {
            let message = message.get().unwrap_or_default();
            tracing::debug!(target: "gstreamer", category = category.name(), "{message}");
        }
    });
    Ok(())
}

/// The library's own words for its version: `GStreamer 1.22.0`.
pub fn version() -> String {
    gst::version_string().to_string()
}

/// Whether an element is installed, and by which plugin in which version.
pub fn find_element(name: &str) -> Option<String> {
    let factory = gst::ElementFactory::find(name)?;
    let plugin = factory.plugin()?;
    Some(format!("{} {}", plugin.plugin_name(), plugin.version()))
}

/// What the pipeline needs and this machine lacks, a sentence each with the package that brings it; also that a launch
/// line of the user's own cannot be read.
pub fn missing(pipeline: &Pipeline) -> Vec<String> {
    let known: Vec<String> = pipeline.needs.iter().filter_map(missing_need).collect();
    if !known.is_empty() {
        return known;
    }
    let mut context = gst::ParseContext::new();
    match gst::parse::launch_full(&with_sink(pipeline), Some(&mut context), gst::ParseFlags::FATAL_ERRORS) {
        Ok(_) => Vec::new(),
        Err(error) => {
            let mut missing = context.missing_elements();
            missing.sort();
            missing.dedup();
            // An element with a wrong property counts as missing there too.
            missing.retain(|element| gst::ElementFactory::find(element).is_none());
            if missing.is_empty() {
                return vec![format!("the launch line cannot be read: {}: {error}", pipeline.launch)];
            }
            missing
                .iter()
                .map(|element| describe_missing(element, template::package_of(element).as_ref()))
                .collect()
        }
    }
}

/// What to install for a need that nothing on this machine meets.
pub fn missing_need(need: &template::Need) -> Option<String> {
    if need.any_of.iter().any(|element| gst::ElementFactory::find(element).is_some()) {
        return None;
    }
    let missing = describe_missing(need.any_of.first()?, Some(&need.package));
    Some(match &need.any_of[1..] {
        [] => missing,
        others => format!("{missing} (or have one of {})", others.join(", ")),
    })
}

/// The whole launch line. The converter passes through what the sink takes as it is.
fn with_sink(pipeline: &Pipeline) -> String {
    format!("{} ! videoconvert ! appsink name=sink", pipeline.launch)
}

fn describe_missing(element: &str, package: Option<&String>) -> String {
    // These exist only where a device answers.
    let by_driver =
        ["v4l2", "va", "nv"].iter().any(|driver| element.starts_with(driver)) && element.ends_with("dec");
    match package {
        Some(package) if by_driver => {
            format!(
                "element {element} is missing: this board has none, its device may not be opened, or install {package}"
            )
        }
        Some(package) => format!("element {element} is missing: install {package}"),
        None => format!("element {element} is missing: `apt-file search {element}` may find its package"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        camera::template::{candidates, tests::camera},
        clock::SystemClock,
        config::Source,
        frame::PixelFormat,
    };

    #[test]
    fn a_need_is_met_by_any_of_its_elements_and_else_named_with_its_package() {
        init().unwrap();
        let need = |any_of: &[&str]| template::Need {
            any_of: any_of.iter().map(|element| element.to_string()).collect(),
            package: "gstreamer1.0-x".into(),
        };
        assert_eq!(missing_need(&need(&["nosuchdec", "fakesrc"])), None);
        assert_eq!(
            missing_need(&need(&["nosuchdec"])).unwrap(),
            "element nosuchdec is missing: install gstreamer1.0-x"
        );
        assert_eq!(
            missing_need(&need(&["nosuchdec", "neitherdec"])).unwrap(),
            "element nosuchdec is missing: install gstreamer1.0-x (or have one of neitherdec)"
        );
    }

    /// Local cameras cannot exist here: something else stands in for their source, all the rest is what a board runs.
    #[test]
    fn templates_of_local_cameras_run_with_a_stand_in() {
        init().unwrap();
        let picture =
            "videotestsrc is-live=true ! video/x-raw,format=I420,width=320,height=240,framerate=15/1";
        let stand_ins = [
            ("v4l2-mjpeg", "v4l2src name=src", format!("{picture} ! jpegenc"), PixelFormat::I420),
            ("v4l2-raw", "v4l2src name=src", "videotestsrc is-live=true".to_string(), PixelFormat::Yuy2),
            (
                "v4l2-h264",
                "v4l2src name=src",
                format!("{picture} ! x264enc tune=zerolatency"),
                PixelFormat::I420,
            ),
            (
                "libcamera",
                "libcamerasrc name=src",
                "videotestsrc is-live=true".to_string(),
                PixelFormat::Nv12,
            ),
        ];
        let sources = [Source::V4l2 { device: "/dev/video0".into() }, Source::Libcamera { name: None }];
        let cameras: Vec<_> = sources.into_iter().map(camera).collect();
        for (name, source, stand_in, format) in stand_ins {
            let found = cameras.iter().find_map(|camera| {
                let pipelines = candidates(camera).unwrap();
                pipelines
                    .into_iter()
                    .find(|pipeline| pipeline.template == name)
                    .map(|pipeline| (camera, pipeline))
            });
            let (camera, mut pipeline) = found.unwrap();
            assert!(pipeline.launch.contains(source), "{name}");
            pipeline.launch = pipeline.launch.replacen(source, &stand_in, 1);
            let image = first_picture(camera, &pipeline, &SystemClock::new())
                .unwrap_or_else(|failure| panic!("{name}: {failure:?} of {}", pipeline.launch));
            assert_eq!(image.format, format, "{name}");
        }
    }

    /// Elements that only a board has; all others are installed by `make test`.
    const OF_BOARDS: [&str; 10] = [
        "libcamerasrc",
        "nvarguscamerasrc",
        "nvv4l2decoder",
        "nvvidconv",
        "v4l2h264dec",
        "v4l2slh265dec",
        "vah264dec",
        "vah265dec",
        "vapostproc",
        "openh264dec",
    ];

    #[test]
    fn every_template_is_parsed_and_each_of_its_elements_checked() {
        init().unwrap();
        let sources = [
            Source::Rtsp { url: "rtsp://h/s".into() },
            Source::Http { url: "http://h/s".into() },
            Source::V4l2 { device: "/dev/video0".into() },
            Source::Libcamera { name: None },
            Source::Csi { sensor: 0 },
            Source::File { path: "/c.mp4".into(), repeat: true, realtime: true },
            Source::Test { pattern: "ball".into() },
            Source::Custom { launch: "videotestsrc ! video/x-raw,width=64".into() },
        ];
        let mut seen = Vec::new();
        for pipeline in sources.into_iter().flat_map(|source| candidates(&camera(source)).unwrap()) {
            // An element that is missing here must be one of a board's, and must be declared as needed.
            let mut context = gst::ParseContext::new();
            let parsed = gst::parse::launch_full(
                &with_sink(&pipeline),
                Some(&mut context),
                gst::ParseFlags::FATAL_ERRORS,
            );
            let absent = context.missing_elements();
            assert!(parsed.is_ok() || !absent.is_empty(), "{}: {:?}", pipeline.template, parsed.err());
            for element in &absent {
                assert!(OF_BOARDS.contains(&element.as_str()), "{}: {element}", pipeline.template);
                let declared = pipeline.needs.iter().any(|need| need.any_of.contains(&element.to_string()));
                assert!(declared, "{}: {element} is not among its needs", pipeline.template);
            }
            assert_eq!(missing(&pipeline).is_empty(), absent.is_empty(), "{}", pipeline.template);
            for need in &pipeline.needs {
                let exists = need.any_of.iter().all(|e| gst::ElementFactory::find(e).is_some());
                let of_board = need.any_of.iter().any(|e| OF_BOARDS.contains(&e.as_str()));
                assert!(exists || of_board || need.any_of.len() > 1, "{}: {need:?}", pipeline.template);
            }
            seen.push(pipeline.template);
        }
        seen.sort();
        assert_eq!(seen, template::all().keys().copied().collect::<Vec<_>>());
    }
}
