//! GStreamer: its version, the pipelines that this machine can run, its decoders and camera elements, and the
//! packages that bring what is missing.

use super::finding::Finding;
use crate::camera::{
    gst,
    template::{self, Template},
};

/// Decoders, hardware first.
const DECODERS: [&str; 9] = [
    "v4l2h264dec",
    "v4l2slh265dec",
    "nvv4l2decoder",
    "vah264dec",
    "vah265dec",
    "avdec_h264",
    "avdec_h265",
    "openh264dec",
    "jpegdec",
];
/// Elements that read cameras.
const SOURCES: [&str; 4] = ["rtspsrc", "v4l2src", "libcamerasrc", "nvarguscamerasrc"];

/// Reports on GStreamer. Its initialisation has led to `initialised`.
pub fn findings(initialised: Result<(), String>) -> Vec<Finding> {
    let mut findings = vec![Finding::of("gstreamer", initialised.map(|()| gst::version()))];
    if findings.iter().all(|finding| finding.ok) {
        findings.extend(pipelines());
        findings.extend(elements("decoders", &DECODERS));
        findings.extend(elements("camera elements", &SOURCES));
    }
    findings
}

/// The pipelines, on one line, and what is missing for each of the others. That a machine lacks what only
/// some boards have is no fault.
fn pipelines() -> Vec<Finding> {
    let (mut usable, mut findings) = (Vec::new(), Vec::new());
    for (name, template) in template::all() {
        let missing: Vec<String> = template.needs.iter().filter_map(gst::missing_need).collect();
        let what = format!("pipeline {name}");
        if missing.is_empty() {
            usable.push(name);
            findings.push(Finding::extra(what, template.summary));
            continue;
        }
        let lack = format!("{}; {}", template.summary, missing.join("; "));
        findings.push(match is_board_specific(&template) {
            true => Finding::absent(what, format!("not available: {lack}")),
            false => Finding::fault(what, lack),
        });
    }
    findings.insert(0, Finding::good("pipelines", usable.join(", ")).with("names", usable));
    findings
}

fn is_board_specific(template: &Template) -> bool {
    template.hardware || template.optional
}

/// The elements that are installed, on one line, and each of the others with its package. One decoder is
/// enough, so a missing one is no fault; what a camera needs is reported with its pipelines.
fn elements(what: &str, names: &[&str]) -> Vec<Finding> {
    let installed =
        names.iter().filter_map(|name| gst::find_element(name).map(|plugin| format!("{name} ({plugin})")));
    let installed: Vec<String> = installed.collect();
    let first = match installed.is_empty() {
        true => Finding::fault(what, "none"),
        false => Finding::good(what, installed.join(", ")),
    };
    let missing = names.iter().filter(|name| gst::find_element(name).is_none());
    let absent = missing.map(|name| match template::package_of(name) {
        Some(package) => Finding::absent(format!("element {name}"), format!("not here; in {package}")),
        None => Finding::absent(format!("element {name}"), "not here"),
    });
    [first].into_iter().chain(absent).collect()
}
