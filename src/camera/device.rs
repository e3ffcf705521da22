//! Whether this user may open a local camera's device. GStreamer's own error does not say what to do.

use crate::{config::Source, files};
use std::{io, path::Path};

/// Checks that the device of a source can be opened. Other sources have none.
///
/// Errors: it cannot be opened, and why; `PermissionDenied` says which group the user must be in.
pub fn check(source: &Source) -> io::Result<()> {
    match source {
        Source::V4l2 { device } => check_device(device),
        _ => Ok(()),
    }
}

fn check_device(device: &Path) -> io::Result<()> {
    let Err(error) = files::open_device(device) else { return Ok(()) };
    let name = device.display();
    let text = match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "this user may not open {name}: add it to the device's group, on Debian 'sudo usermod -aG video \
             USER', and start camfire again"
        ),
        io::ErrorKind::NotFound => format!("{name} does not exist: the camera is not plugged in"),
        _ => format!("{name}: {error}"),
    };
    Err(io::Error::new(error.kind(), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_cannot_be_opened_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let device = folder.path().join("video0");
        let source = Source::V4l2 { device: device.clone() };
        let error = check(&source).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("video0 does not exist"), "{error}");
        std::fs::write(&device, "").unwrap();
        check(&source).unwrap();
        check(&Source::Test { pattern: "ball".into() }).unwrap();
    }
}
