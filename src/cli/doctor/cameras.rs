//! The cameras that are connected to this machine, and whether this user and the service may open them.

use super::finding::Finding;
use crate::{
    camera::gst::Place,
    cli::{
        accounts::{Account, SERVICE_USER, group_name},
        local_cameras::{self, V4l2Camera},
        machine_files::{names, read},
    },
};
use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Formats of a camera that are listed.
const MAX_FORMATS: usize = 4;

/// Reports on the machine whose files are below `root`. Having no camera is no fault; one that cannot be
/// opened is.
pub fn findings(root: &Path) -> Vec<Finding> {
    let cameras = local_cameras::find(root);
    let mut findings: Vec<Finding> = cameras.v4l2.iter().map(|camera| node(root, camera)).collect();
    findings.extend(cameras.libcamera.iter().map(|camera| {
        let Place::Libcamera(id) = &camera.place else { return Finding::extra("libcamera", &camera.name) };
        Finding::good("libcamera", format!("libcamera://{id}{}", formats(&camera.formats)))
    }));
    if cameras.is_incomplete {
        let text = "a driver does not tell its formats in time; unplug cameras one by one to find it";
        findings.push(Finding::advice("local cameras", text));
    }
    if findings.is_empty() {
        findings.push(Finding::absent("local cameras", "none (V4L2, libcamera)"));
    }
    findings.push(service(root, &cameras.v4l2));
    findings
}

fn node(root: &Path, camera: &V4l2Camera) -> Finding {
    let node = camera.node.display().to_string();
    let Some(refused) = &camera.refused else {
        let text = format!("{}{}", camera.name, formats(&camera.formats));
        return Finding::good(node, text)
            .with("name", camera.name.clone())
            .with("formats", camera.formats.clone());
    };
    let group = std::fs::metadata(below(root, &camera.node)).map(|node| group_name(root, node.gid()));
    let remedy = match group {
        Ok(group) if refused.contains("ermission denied") => {
            format!(
                ": this user is not in the group {group}: sudo usermod -aG {group} $USER, and log in again"
            )
        }
        _ => String::new(),
    };
    Finding::fault(node, format!("{}: {refused}{remedy}", camera.name)).with("name", camera.name.clone())
}

fn formats(formats: &[String]) -> String {
    match formats.len() {
        0 => String::new(),
        len if len > MAX_FORMATS => {
            format!(": {} and {} more", formats[..MAX_FORMATS].join(", "), len - MAX_FORMATS)
        }
        _ => format!(": {}", formats.join(", ")),
    }
}

/// Whether the service may open the cameras and the nodes of hardware decoders.
fn service(root: &Path, cameras: &[V4l2Camera]) -> Finding {
    let what = "service user";
    let Some(account) = Account::of_service(root) else {
        return Finding::absent(
            what,
            format!("there is no user {SERVICE_USER}: the service is not installed"),
        );
    };
    let decoders = names(root, "dev/dri").into_iter().filter(|name| name.starts_with("renderD"));
    let others = ["vchiq", "nvmap", "nvhost-ctrl"].into_iter().map(String::from);
    let nodes = cameras
        .iter()
        .map(|camera| camera.node.clone())
        .chain(decoders.map(|name| Path::new("/dev/dri").join(name)))
        .chain(others.map(|name| Path::new("/dev").join(name)));
    let (mut usable, mut refused) = (Vec::new(), Vec::new());
    for node in nodes {
        let Ok(file) = std::fs::metadata(below(root, &node)) else { continue };
        let path = node.display().to_string();
        match account.may_use(&file) {
            true => usable.push(path),
            false => refused.push((path, group_name(root, file.gid()))),
        }
    }
    if refused.is_empty() {
        let groups: Vec<String> = account.gids.iter().map(|gid| group_name(root, *gid)).collect();
        let usable = if usable.is_empty() {
            "it needs no device here".into()
        } else {
            format!("may open {}", usable.join(", "))
        };
        return Finding::good(what, format!("{SERVICE_USER} ({}): {usable}", groups.join(", ")));
    }
    let mut groups: Vec<String> = refused.iter().map(|(_, group)| group.clone()).collect();
    groups.sort();
    groups.dedup();
    let nodes: Vec<String> =
        refused.into_iter().map(|(node, group)| format!("{node} (group {group})")).collect();
    let remedy =
        format!("sudo usermod -aG {} {SERVICE_USER} && sudo systemctl restart camfire", groups.join(","));
    Finding::fault(what, format!("{SERVICE_USER} may not open {}: {remedy}", nodes.join(", ")))
}

/// The path below `root` of an absolute path.
fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// The board's decoder for H.265 is usable by its kernel: the driver of the Raspberry Pi 5 has registered.
pub fn has_hevc_node(root: &Path) -> bool {
    let class = "sys/class/video4linux";
    let name = |node: String| read(root, &format!("{class}/{node}/name"));
    names(root, class)
        .into_iter()
        .filter_map(name)
        .any(|name| name.contains("hevc") || name.contains("rpivid"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_service_that_may_not_open_a_camera_is_told_the_group() {
        let root = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let file = root.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, text).unwrap();
            file
        };
        file("sys/class/video4linux/video0/name", "Webcam");
        let node = file("dev/video0", "");
        std::fs::set_permissions(&node, std::fs::Permissions::from_mode(0o660)).unwrap();
        let gid = std::fs::metadata(&node).unwrap().gid();
        file("etc/group", &format!("video:x:{gid}:\ncamfire:x:60001:\n"));
        let of = |what: &str| findings(root.path()).into_iter().find(|finding| finding.what == what).unwrap();
        let absent = of("service user");
        assert!(!absent.needed && absent.text == "there is no user camfire: the service is not installed");

        file("etc/passwd", "camfire:x:60000:60001::/:/bin/false\n");
        let refused = of("service user");
        assert!(refused.is_fault(), "{refused:?}");
        assert_eq!(
            refused.text,
            "camfire may not open /dev/video0 (group video): sudo usermod -aG video camfire && sudo systemctl \
             restart camfire"
        );
        file("etc/systemd/system/camfire.service", "SupplementaryGroups=video\n");
        assert!(of("service user").text.contains("may open /dev/video0"));
        let camera = of("/dev/video0");
        assert!(camera.ok && camera.text == "Webcam", "{camera:?}");
    }

    #[test]
    fn long_lists_of_formats_are_cut() {
        let all: Vec<String> = "abcdef".chars().map(String::from).collect();
        assert_eq!(formats(&all), ": a, b, c, d and 2 more");
        assert_eq!(formats(&[]), "");
    }
}
