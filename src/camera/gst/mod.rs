//! The only module that uses GStreamer. [`capture`] makes one attempt at a camera, [`feed`] passes on what an
//! HTTP camera sends, [`bounds`] limits what a stream may occupy, [`gate`] controls what is decoded,
//! [`sample_sink`] turns the decoder's output into frames.
//!
//! Frames leave on GStreamer's thread through an appsink callback that never blocks, because a pipeline whose
//! callback waits cannot be stopped. The exception is an unpaced clip: there it waits for a vacant slot, in
//! short steps that end with the attempt. The graph has no videorate (1.22's aborts the process on streams
//! without timing), no scaling and no conversion to RGB: the workers get the decoder's own planes.
//!
//! The bindings are built without version features, and optional properties are looked up, so that one binary
//! runs on GStreamer 1.18 and later.

mod bounds;
mod build;
mod capture;
mod devices;
mod errors;
mod feed;
mod gate;
mod sample_sink;
mod source;
mod teardown;
mod transcode;
mod visit;

pub use capture::{CaptureObserver, MIN_CLIP_DURATION, run_once};
pub use devices::{LocalCamera, Place, local_cameras};
pub use transcode::{Paths, clip_duration, transcode};
pub use visit::{first_image, stream_facts};

use super::template::{self, Pipeline, Template};
use crate::{
    error::{Error, ErrorKind},
    wire::messages::SkippedPipeline,
};
use gstreamer::{self as gst, prelude::*};
use std::{
    collections::BTreeSet,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// See [`decoder_errors`].
static DECODER_ERRORS: AtomicU64 = AtomicU64::new(0);

/// Number of errors that libav's decoders have logged since the start, for all streams. After an error they
/// conceal the damage, and GStreamer passes the image on without marking it.
pub fn decoder_errors() -> u64 {
    DECODER_ERRORS.load(Ordering::Relaxed)
}

/// Initializes GStreamer and forwards its log to camfire's. Called once.
///
/// Errors ([`ErrorKind::System`]): GStreamer cannot be used.
pub fn init() -> Result<(), Error> {
    gst::init().map_err(|e| Error::caused(ErrorKind::System, "GStreamer cannot be initialized", e))?;
    gst::log::remove_default_log_function();
    gst::log::set_default_threshold(gst::DebugLevel::Warning);
    // Whatever needs a reaction is also on the bus, so this is for debugging only.
    gst::log::add_log_function(|category, level, _file, _function, _line, _object, message| {
        if level == gst::DebugLevel::Error && category.name() == "libav" {
            DECODER_ERRORS.fetch_add(1, Ordering::Relaxed);
        }
        if level <= gst::DebugLevel::Warning {
            let message = message.get().unwrap_or_default();
            tracing::debug!(target: "gstreamer", category = category.name(), "{message}");
        }
    });
    Ok(())
}

/// The library's version, as in `GStreamer 1.22.0`.
pub fn version() -> String {
    gst::version_string().to_string()
}

/// Name and version of the plugin that contains an element. Returns None if the element is not installed.
pub fn find_element(name: &str) -> Option<String> {
    let factory = gst::ElementFactory::find(name)?;
    let plugin = factory.plugin()?;
    Some(format!("{} {}", plugin.plugin_name(), plugin.version()))
}

/// What the pipeline needs and this machine lacks, one sentence each with the package that contains it. Also
/// reports a custom launch line that cannot be parsed.
pub fn missing(pipeline: &Pipeline) -> Vec<String> {
    let unmet: Vec<String> = pipeline.needs.iter().filter_map(missing_need).collect();
    if !unmet.is_empty() {
        return unmet;
    }
    let mut context = gst::ParseContext::new();
    match gst::parse::launch_full(&with_sink(pipeline), Some(&mut context), gst::ParseFlags::FATAL_ERRORS) {
        Ok(_) => Vec::new(),
        Err(error) => {
            let mut missing = context.missing_elements();
            missing.sort();
            missing.dedup();
            // GStreamer reports an element with an invalid property as missing too.
            missing.retain(|element| gst::ElementFactory::find(element).is_none());
            if missing.is_empty() {
                return vec![format!("the launch line cannot be parsed: {}: {error}", pipeline.launch)];
            }
            missing
                .iter()
                .map(|element| describe_missing(element, template::package_of(element).as_ref()))
                .collect()
        }
    }
}

/// What to install if no element on this machine meets the need. Returns None if one does.
pub fn missing_need(need: &template::Need) -> Option<String> {
    if need.any_of.iter().any(|element| gst::ElementFactory::find(element).is_some()) {
        return None;
    }
    let missing = describe_missing(need.any_of.first()?, Some(&need.package));
    Some(match &need.any_of[1..] {
        [] => missing,
        others => format!("{missing} (or one of {})", others.join(", ")),
    })
}

/// The templates that need hardware which this machine does not have. Elements do not come and go.
static FOR_OTHER_BOARDS: LazyLock<BTreeSet<&'static str>> = LazyLock::new(|| {
    let lacks_hardware = |template: &Template| {
        (template.hardware || template.optional)
            && template.needs.iter().any(|need| missing_need(need).is_some())
    };
    template::all()
        .into_iter()
        .filter(|(_, template)| lacks_hardware(template))
        .map(|(name, _)| name)
        .collect()
});

/// The pipelines that were skipped, without those for hardware that this machine does not have: that is no
/// news, and `camfire doctor` lists it.
pub fn without_other_boards(mut skipped: Vec<SkippedPipeline>) -> Vec<SkippedPipeline> {
    skipped.retain(|skipped| !FOR_OTHER_BOARDS.contains(skipped.pipeline.as_str()));
    skipped
}

/// The launch line with converter and sink. The converter passes through formats that the sink accepts.
fn with_sink(pipeline: &Pipeline) -> String {
    format!("{} ! videoconvert ! appsink name=sink", pipeline.launch)
}

fn describe_missing(element: &str, package: Option<&String>) -> String {
    // These elements exist only if a device is present.
    let needs_device =
        ["v4l2", "va", "nv"].iter().any(|driver| element.starts_with(driver)) && element.ends_with("dec");
    match package {
        Some(package) if needs_device => {
            format!(
                "element {element} is missing: this machine has no such device, it cannot be opened, or \
                 {package} must be installed"
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
    fn a_need_is_met_by_any_of_its_elements_and_otherwise_reported_with_its_package() {
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
            "element nosuchdec is missing: install gstreamer1.0-x (or one of neitherdec)"
        );
    }

    /// A test source replaces the network camera, and software a board's decoder and converter; the rest of
    /// the pipeline is what the board runs.
    #[test]
    fn templates_of_boards_run_with_software_in_place_of_their_decoders() {
        init().unwrap();
        let source =
            "videotestsrc is-live=true ! video/x-raw,format=I420,width=320,height=240,framerate=15/1";
        let camera = camera(Source::Rtsp { url: "rtsp://h/s".into() });
        let all = candidates(&camera).unwrap();
        for (name, encoder, elements, format) in [
            (
                "rtsp-h264-jetson",
                "264",
                &[("nvv4l2decoder", "avdec_h264"), ("nvvidconv", "videoconvert")][..],
                PixelFormat::I420,
            ),
            (
                "rtsp-h264-va",
                "264",
                &[("vah264dec", "avdec_h264"), ("vapostproc", "videoconvert")],
                PixelFormat::Nv12,
            ),
            ("rtsp-h264-pi4", "264", &[("v4l2h264dec", "avdec_h264")], PixelFormat::I420),
            ("rtsp-h264-openh264", "264", &[], PixelFormat::I420),
            ("rtsp-h264-software", "264", &[], PixelFormat::I420),
            (
                "rtsp-h265-jetson",
                "265",
                &[("nvv4l2decoder", "avdec_h265"), ("nvvidconv", "videoconvert")],
                PixelFormat::I420,
            ),
            (
                "rtsp-h265-va",
                "265",
                &[("vah265dec", "avdec_h265"), ("vapostproc", "videoconvert")],
                PixelFormat::Nv12,
            ),
            ("rtsp-h265-pi5", "265", &[("v4l2slh265dec", "avdec_h265")], PixelFormat::I420),
            ("rtsp-h265-software", "265", &[], PixelFormat::I420),
        ] {
            let mut pipeline = all.iter().find(|pipeline| pipeline.template == name).unwrap().clone();
            let depayloader = pipeline.launch.find(" ! rtph26").unwrap();
            let rest = &pipeline.launch[depayloader..];
            pipeline.launch = format!("{source} ! x{encoder}enc tune=zerolatency ! rtph{encoder}pay{rest}");
            for (element, software) in elements {
                assert!(pipeline.launch.contains(element), "{name}: {}", pipeline.launch);
                pipeline.launch = pipeline.launch.replace(element, software);
            }
            let image = first_image(&camera, &pipeline, Vec::new(), &SystemClock::new())
                .unwrap_or_else(|failure| panic!("{name}: {failure:?} of {}", pipeline.launch));
            assert_eq!(image.format, format, "{name}");
        }
    }

    /// A test source replaces the local camera; the rest of the pipeline is what a board runs.
    #[test]
    fn templates_of_local_cameras_run_with_a_test_source() {
        init().unwrap();
        let source =
            "videotestsrc is-live=true ! video/x-raw,format=I420,width=320,height=240,framerate=15/1";
        let replacements = [
            ("v4l2-mjpeg", "v4l2src name=src", format!("{source} ! jpegenc"), PixelFormat::I420),
            ("v4l2-raw", "v4l2src name=src", "videotestsrc is-live=true".to_string(), PixelFormat::Yuy2),
            (
                "v4l2-h264",
                "v4l2src name=src",
                format!("{source} ! x264enc tune=zerolatency"),
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
        for (name, element, replacement, format) in replacements {
            let found = cameras.iter().find_map(|camera| {
                let pipelines = candidates(camera).unwrap();
                pipelines
                    .into_iter()
                    .find(|pipeline| pipeline.template == name)
                    .map(|pipeline| (camera, pipeline))
            });
            let (camera, mut pipeline) = found.unwrap();
            assert!(pipeline.launch.contains(element), "{name}");
            pipeline.launch = pipeline.launch.replacen(element, &replacement, 1);
            let image = first_image(camera, &pipeline, Vec::new(), &SystemClock::new())
                .unwrap_or_else(|failure| panic!("{name}: {failure:?} of {}", pipeline.launch));
            assert_eq!(image.format, format, "{name}");
        }
    }

    /// Elements that only some boards have. All others are installed by `make test`.
    const BOARD_ELEMENTS: [&str; 10] = [
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
    fn every_template_parses_and_declares_its_elements() {
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
            // An element that is missing here must be a board's, and be declared among the needs.
            let mut context = gst::ParseContext::new();
            let parsed = gst::parse::launch_full(
                &with_sink(&pipeline),
                Some(&mut context),
                gst::ParseFlags::FATAL_ERRORS,
            );
            let absent = context.missing_elements();
            assert!(parsed.is_ok() || !absent.is_empty(), "{}: {:?}", pipeline.template, parsed.err());
            for element in &absent {
                assert!(BOARD_ELEMENTS.contains(&element.as_str()), "{}: {element}", pipeline.template);
                let declared = pipeline.needs.iter().any(|need| need.any_of.contains(&element.to_string()));
                assert!(declared, "{}: {element} is not among its needs", pipeline.template);
            }
            assert_eq!(missing(&pipeline).is_empty(), absent.is_empty(), "{}", pipeline.template);
            for need in &pipeline.needs {
                let exists = need.any_of.iter().all(|e| gst::ElementFactory::find(e).is_some());
                let is_of_board = need.any_of.iter().any(|e| BOARD_ELEMENTS.contains(&e.as_str()));
                assert!(exists || is_of_board || need.any_of.len() > 1, "{}: {need:?}", pipeline.template);
            }
            seen.push(pipeline.template);
        }
        seen.sort();
        assert_eq!(seen, template::all().keys().copied().collect::<Vec<_>>());
    }
}
