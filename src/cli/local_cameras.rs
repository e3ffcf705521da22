//! The cameras that are connected to this machine: the kernel's list of V4L2 nodes, with the formats that
//! GStreamer finds, and libcamera's list.
//!
//! Boards have many V4L2 nodes that are codecs, image processors or streams of metadata. Those are left out:
//! by their name, and because only the first node of a device is its camera, unless GStreamer lists another.

use super::{
    bounded,
    machine_files::{names, printable, read},
};
use crate::{
    camera::gst::{self, LocalCamera, Place},
    files,
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// Time for all drivers to tell their formats. A driver that hangs must not hang the command.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How the names of nodes begin that are no cameras: codecs and image processors, and the receivers of camera
/// connectors, whose images only libcamera can make.
const NO_CAMERAS: [&str; 9] = [
    "bcm2835-codec",
    "bcm2835-isp",
    "pispbe",
    "rpivid",
    "rpi-hevc-dec",
    "rpi-hvs",
    "rp1-cfe",
    "unicam",
    "rkvdec",
];
/// What else a node's name may tell.
const NO_CAMERA_WORDS: [&str; 6] = ["-out", "-meta", "-touch", "-dec", "-enc", "codec"];

/// A V4L2 camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct V4l2Camera {
    /// Its node, such as `/dev/video0`.
    pub node: PathBuf,
    /// Its name.
    pub name: String,
    /// What it sends. Empty if that is not known.
    pub formats: Vec<String>,
    /// Why this user cannot open it.
    pub refused: Option<String>,
}

/// All local cameras.
#[derive(Debug, Default)]
pub struct LocalCameras {
    /// V4L2 cameras, by number.
    pub v4l2: Vec<V4l2Camera>,
    /// Cameras that libcamera lists.
    pub libcamera: Vec<LocalCamera>,
    /// A driver did not answer in time, so that formats are missing.
    pub is_incomplete: bool,
}

/// Finds the local cameras of the machine whose files are below `root`. GStreamer, which must be initialised,
/// is asked about this machine only.
pub fn find(root: &Path) -> LocalCameras {
    let listed = match root == Path::new("/") {
        true => bounded::within(TIMEOUT, gst::local_cameras),
        false => Some(Vec::new()),
    };
    let is_incomplete = listed.is_none();
    let listed = listed.unwrap_or_default();
    LocalCameras { v4l2: v4l2(root, &listed), libcamera: libcamera(listed), is_incomplete }
}

fn v4l2(root: &Path, listed: &[LocalCamera]) -> Vec<V4l2Camera> {
    const CLASS: &str = "sys/class/video4linux";
    let nodes = names(root, CLASS).into_iter().filter(|name| name.starts_with("video"));
    let camera = |node: String| {
        let path = Path::new("/dev").join(&node);
        let known = listed.iter().find(|camera| camera.place == Place::V4l2(path.clone()));
        let name = read(root, &format!("{CLASS}/{node}/name")).map(|name| printable(&name));
        let name = name.or_else(|| known.map(|camera| camera.name.clone())).unwrap_or_else(|| node.clone());
        let index = read(root, &format!("{CLASS}/{node}/index")).unwrap_or_else(|| "0".into());
        if !is_camera(&name) || (index != "0" && known.is_none()) {
            return None;
        }
        Some(V4l2Camera {
            name,
            formats: known.map(|camera| camera.formats.clone()).unwrap_or_default(),
            refused: files::open_device(&root.join("dev").join(&node)).err().map(|error| error.to_string()),
            node: path,
        })
    };
    nodes.filter_map(camera).collect()
}

fn is_camera(name: &str) -> bool {
    !NO_CAMERAS.iter().any(|start| name.starts_with(start))
        && !NO_CAMERA_WORDS.iter().any(|word| name.contains(word))
}

fn libcamera(listed: Vec<LocalCamera>) -> Vec<LocalCamera> {
    // It lists USB cameras as well, which are better read through V4L2: their images come compressed.
    let is_usb =
        |camera: &LocalCamera| matches!(&camera.place, Place::Libcamera(name) if name.contains("usb"));
    let is_own = |camera: &LocalCamera| matches!(camera.place, Place::Libcamera(_)) && !is_usb(camera);
    listed.into_iter().filter(is_own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with these nodes: name, index, whether `/dev` has it.
    fn machine(nodes: &[(&str, &str, &str, bool)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("dev")).unwrap();
        for (node, name, index, exists) in nodes {
            let directory = root.path().join("sys/class/video4linux").join(node);
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join("name"), format!("{name}\n")).unwrap();
            std::fs::write(directory.join("index"), format!("{index}\n")).unwrap();
            if *exists {
                std::fs::write(root.path().join("dev").join(node), "").unwrap();
            }
        }
        root
    }

    #[test]
    fn only_cameras_are_found_among_a_boards_nodes() {
        let pi = machine(&[
            ("video0", "unicam-image", "0", true),
            ("video10", "bcm2835-codec-decode", "0", true),
            ("video19", "rpi-hevc-dec", "0", true),
            ("video20", "pispbe-input", "0", true),
            ("video8", "HD Pro Webcam C920", "0", true),
            ("video9", "HD Pro Webcam C920", "1", true),
            ("video30", "vivid-000-vid-out", "0", true),
            ("video31", "vivid-000-vid-cap", "0", false),
        ]);
        let found = find(pi.path());
        let nodes: Vec<_> =
            found.v4l2.iter().map(|camera| (camera.node.to_str().unwrap(), &*camera.name)).collect();
        assert_eq!(nodes, [("/dev/video8", "HD Pro Webcam C920"), ("/dev/video31", "vivid-000-vid-cap")]);
        assert_eq!(found.v4l2[0].refused, None);
        assert!(found.v4l2[1].refused.as_ref().is_some_and(|why| why.contains("No such file")));
        assert!(!found.is_incomplete && found.libcamera.is_empty());
    }

    #[test]
    fn formats_are_those_that_gstreamer_lists() {
        let machine = machine(&[("video0", "A", "0", true), ("video2", "A", "2", true)]);
        let listed = |node: &str| LocalCamera {
            name: "A".into(),
            place: Place::V4l2(node.into()),
            formats: vec!["MJPEG up to 640 x 480".into()],
        };
        let found = v4l2(machine.path(), &[listed("/dev/video2")]);
        assert_eq!(found.len(), 2);
        assert!(found[0].formats.is_empty() && found[1].formats == ["MJPEG up to 640 x 480"]);
        let csi = LocalCamera { place: Place::Libcamera("/base/soc/i2c/imx708@1a".into()), ..listed("") };
        let usb = LocalCamera { place: Place::Libcamera("\\_SB_.usb-1".into()), ..listed("") };
        assert_eq!(libcamera(vec![listed("/dev/video2"), csi.clone(), usb]), [csi]);
    }
}
