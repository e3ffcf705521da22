//! The cameras that are connected to this machine, as GStreamer's device providers list them.
//!
//! Only the providers for V4L2 and libcamera are asked. Others, such as PipeWire's, list the same cameras
//! again. A driver may hang when it is asked, so the caller must not wait for the answer forever.

use crate::camera::template::Codec;
use gstreamer::{self as gst, prelude::*};
use std::{collections::BTreeMap, path::PathBuf};

/// A camera that is connected to this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalCamera {
    /// Its name, for people.
    pub name: String,
    /// Where it is.
    pub place: Place,
    /// What it sends, such as `MJPEG up to 1920 x 1080`.
    pub formats: Vec<String>,
}

/// Where a local camera is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The node of a V4L2 device.
    V4l2(PathBuf),
    /// Its name in libcamera.
    Libcamera(String),
}

/// Lists the cameras of this machine. Opens each of them for a moment.
pub fn local_cameras() -> Vec<LocalCamera> {
    let devices = |provider: &str| {
        let provider = gst::DeviceProviderFactory::by_name(provider);
        provider.map(|provider| provider.devices().into_iter().collect::<Vec<_>>()).unwrap_or_default()
    };
    let v4l2 = devices("v4l2deviceprovider").into_iter().filter_map(|device| {
        let properties = device.properties()?;
        let node =
            ["device.path", "api.v4l2.path"].iter().find_map(|key| properties.get::<String>(*key).ok())?;
        camera(&device, Place::V4l2(node.into()))
    });
    let libcamera = devices("libcameraprovider").into_iter().filter_map(|device| {
        let name = device.display_name().to_string();
        camera(&device, Place::Libcamera(name))
    });
    v4l2.chain(libcamera).collect()
}

/// Returns None for devices that are not sources of video, such as microphones and encoders.
fn camera(device: &gst::Device, place: Place) -> Option<LocalCamera> {
    let is_source = device.device_class().split('/').any(|word| word == "Source");
    let formats = device.caps().map(|caps| formats(&caps)).unwrap_or_default();
    is_source.then(|| LocalCamera { name: device.display_name().to_string(), place, formats })
}

/// The formats in a camera's caps, each with its largest size, largest first.
fn formats(caps: &gst::Caps) -> Vec<String> {
    let mut largest: BTreeMap<String, (i32, i32)> = BTreeMap::new();
    for format in caps.iter() {
        let side = |name: &str| format.value(name).ok().map_or(0, largest_number);
        let size = (side("width"), side("height"));
        for name in names(format) {
            let known = largest.entry(name).or_default();
            *known = (*known).max(size);
        }
    }
    let mut formats: Vec<(String, (i32, i32))> = largest.into_iter().collect();
    formats.sort_by_key(|(_, (width, height))| std::cmp::Reverse(i64::from(*width) * i64::from(*height)));
    formats
        .into_iter()
        .map(|(name, size)| match size {
            (0, _) | (_, 0) => name,
            (width, height) => format!("{name} up to {width} x {height}"),
        })
        .collect()
}

/// The names that people use for a format. Raw video is named by its pixel format, of which there may be a
/// list.
fn names(format: &gst::StructureRef) -> Vec<String> {
    match format.name().as_str() {
        // The usual word for a camera's stream of JPEG images.
        "image/jpeg" => vec!["MJPEG".into()],
        "video/x-raw" => match format.value("format") {
            Ok(value) => match value.get::<gst::List>() {
                Ok(list) => list.iter().filter_map(|value| value.get::<String>().ok()).collect(),
                Err(_) => value.get::<String>().into_iter().collect(),
            },
            Err(_) => vec!["raw video".into()],
        },
        other => {
            vec![Codec::of_media_type(other).map_or_else(|| other.into(), |codec| codec.to_string())]
        }
    }
}

/// The largest number that a field of caps allows.
fn largest_number(value: &gst::glib::SendValue) -> i32 {
    if let Ok(range) = value.get::<gst::IntRange<i32>>() {
        return range.max();
    }
    if let Ok(list) = value.get::<gst::List>() {
        return list.iter().map(largest_number).max().unwrap_or_default();
    }
    value.get::<i32>().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_named_with_their_largest_sizes() {
        gst::init().unwrap();
        let caps: gst::Caps = "video/x-raw,format=YUY2,width=640,height=480; \
             video/x-raw,format={NV12,I420},width=[16,1280],height=[16,720]; \
             image/jpeg,width={640,1920},height={480,1080}; image/jpeg,width=320,height=240; \
             video/x-bayer"
            .parse()
            .unwrap();
        assert_eq!(
            formats(&caps),
            [
                "MJPEG up to 1920 x 1080",
                "I420 up to 1280 x 720",
                "NV12 up to 1280 x 720",
                "YUY2 up to 640 x 480",
                "video/x-bayer"
            ]
        );
    }
}
