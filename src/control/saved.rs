//! What commands have set, on disk: a paused camera stays paused when camfire is restarted, reloaded, killed
//! or loses power.
//!
//! The file is JSON: the settings of each camera by its name, each with the time of the command. It is
//! replaced as a whole, and reaches the disk before a command is answered. Cameras that are not configured
//! any more are kept, so that one that returns is still paused.

use crate::{
    error::{Error, ErrorKind},
    files,
    sync::lock,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Mutex,
};

/// Version of the file's format.
const VERSION: u32 = 1;
/// Maximum size of the file. A node has far fewer cameras than this allows.
const MAX_BYTES: u64 = 1 << 20;

/// A value that a command has set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Saved<T> {
    /// The value.
    pub value: T,
    /// When it was set.
    #[serde(with = "rfc3339")]
    pub since: Timestamp,
}

/// The settings of one camera that commands have set. The others are those of the configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedCamera {
    /// Whether the camera is analysed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watching: Option<Saved<bool>>,
    /// `cameras.NAME.rate_fps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_fps: Option<Saved<f64>>,
    /// `cameras.NAME.motion_threshold`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub motion_threshold: Option<Saved<f64>>,
    /// `objects.score`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<Saved<f64>>,
}

impl SavedCamera {
    /// The settings by their names in commands, with their values and times.
    pub fn entries(&self) -> Vec<(&'static str, String, Timestamp)> {
        let mut entries = Vec::new();
        let mut add = |name, value: Option<(String, Timestamp)>| {
            entries.extend(value.map(|(value, since)| (name, value, since)));
        };
        add("watching", self.watching.map(|saved| (saved.value.to_string(), saved.since)));
        for (name, saved) in
            [("rate_fps", self.rate_fps), ("motion_threshold", self.motion_threshold), ("score", self.score)]
        {
            add(name, saved.map(|saved| (saved.value.to_string(), saved.since)));
        }
        entries
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    version: u32,
    cameras: BTreeMap<String, SavedCamera>,
}

/// The settings of all cameras, and the file that holds them.
#[derive(Debug, Default)]
pub struct SavedSettings {
    /// None: settings are lost when the process ends.
    path: Mutex<Option<PathBuf>>,
    cameras: Mutex<BTreeMap<String, SavedCamera>>,
}

impl SavedSettings {
    /// Reads the file. There is none before the first command.
    ///
    /// Errors ([`ErrorKind::Input`]): the file cannot be read or is damaged. It may have paused cameras, so
    /// they must not be opened.
    pub fn open(path: Option<PathBuf>) -> Result<SavedSettings, Error> {
        let cameras = match &path {
            Some(path) => read(path).map_err(|error| {
                let message = format!(
                    "commands.settings_file: {} cannot be read. It holds which cameras commands have paused, so \
                     camfire does not start without it. Repair it; if it is removed, paused cameras are watched \
                     again",
                    path.display()
                );
                Error::caused(ErrorKind::Input, message, error)
            })?,
            None => BTreeMap::new(),
        };
        Ok(SavedSettings { path: Mutex::new(path), cameras: Mutex::new(cameras) })
    }

    /// The file.
    pub fn path(&self) -> Option<PathBuf> {
        lock(&self.path).clone()
    }

    /// Moves the settings to another file.
    ///
    /// Errors: it cannot be written, or exists already. The settings then stay where they are.
    pub fn relocate(&self, to: &Path) -> io::Result<()> {
        check_free(to)?;
        let cameras = lock(&self.cameras);
        let mut path = lock(&self.path);
        if !cameras.is_empty() {
            write(to, &cameras)?;
        }
        if let Some(old) = path.replace(to.to_path_buf()) {
            // None was written if nothing was ever set.
            let _ = fs::remove_file(old);
        }
        Ok(())
    }

    /// The settings of a camera.
    pub fn of(&self, camera: &str) -> SavedCamera {
        lock(&self.cameras).get(camera).copied().unwrap_or_default()
    }

    /// The settings of all cameras, by name.
    pub fn all(&self) -> BTreeMap<String, SavedCamera> {
        lock(&self.cameras).clone()
    }

    /// Replaces the settings of a camera. They are on disk when this returns.
    ///
    /// Errors: the file cannot be written. The settings are then unchanged.
    pub fn store(&self, camera: &str, settings: SavedCamera) -> io::Result<()> {
        let mut cameras = lock(&self.cameras);
        let mut changed = cameras.clone();
        if settings == SavedCamera::default() {
            changed.remove(camera);
        } else {
            changed.insert(camera.to_string(), settings);
        }
        if *cameras == changed {
            return Ok(());
        }
        if let Some(path) = &*lock(&self.path) {
            write(path, &changed)?;
        }
        *cameras = changed;
        Ok(())
    }
}

/// Checks that settings can move to `path`.
///
/// Errors: there is a file already, whose settings would be lost.
pub fn check_free(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn read(path: &Path) -> io::Result<BTreeMap<String, SavedCamera>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    let damaged = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    if text.len() as u64 > MAX_BYTES {
        return Err(damaged(format!("it is larger than {MAX_BYTES} bytes")));
    }
    let contents: Contents = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    if contents.version != VERSION {
        return Err(damaged(format!("its version is {}, not {VERSION}", contents.version)));
    }
    Ok(contents.cameras)
}

fn write(path: &Path, cameras: &BTreeMap<String, SavedCamera>) -> io::Result<()> {
    let contents = Contents { version: VERSION, cameras: cameras.clone() };
    let json = serde_json::to_vec_pretty(&contents).expect("the map has string keys and finite numbers");
    files::replace_durably(path, &json, |_| Ok(()))
}

mod rfc3339 {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(at)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn paused() -> SavedCamera {
        let since = "2026-11-24T07:31:02Z".parse().unwrap();
        SavedCamera { watching: Some(Saved { value: false, since }), ..SavedCamera::default() }
    }

    #[test]
    fn what_is_stored_is_read_by_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/settings.json");
        let saved = SavedSettings::open(Some(path.clone())).unwrap();
        assert_eq!(saved.of("yard"), SavedCamera::default());
        saved.store("yard", paused()).unwrap();
        let since = Timestamp::UNIX_EPOCH;
        let rate = SavedCamera { rate_fps: Some(Saved { value: 2.5, since }), ..paused() };
        saved.store("door", rate).unwrap();
        let next = SavedSettings::open(Some(path.clone())).unwrap();
        assert_eq!((next.of("yard"), next.of("door")), (paused(), rate));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        next.store("yard", SavedCamera::default()).unwrap();
        assert_eq!(SavedSettings::open(Some(path)).unwrap().all().into_keys().collect::<Vec<_>>(), ["door"]);
    }

    #[test]
    fn settings_move_with_their_file_and_not_over_another() {
        let folder = tempfile::tempdir().unwrap();
        let [old, new, taken] =
            ["old.json", "new/settings.json", "taken"].map(|name| folder.path().join(name));
        let saved = SavedSettings::open(Some(old.clone())).unwrap();
        saved.store("yard", paused()).unwrap();
        fs::write(&taken, "x").unwrap();
        saved.relocate(&taken).unwrap_err();
        assert_eq!((saved.path(), fs::read(&taken).unwrap()), (Some(old.clone()), b"x".to_vec()));
        saved.relocate(&new).unwrap();
        assert!(!old.exists());
        assert_eq!(SavedSettings::open(Some(new)).unwrap().of("yard"), paused());
    }

    #[test]
    fn a_damaged_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.json");
        for text in
            ["", "{", "[]", r#"{"version":2,"cameras":{}}"#, r#"{"version":1,"cameras":{"a":{"x":1}}}"#]
        {
            fs::write(&path, text).unwrap();
            let error = SavedSettings::open(Some(path.clone())).unwrap_err().to_string();
            assert!(error.contains("settings.json") && error.contains("paused"), "{error}");
        }
    }

    #[test]
    fn a_setting_that_cannot_be_stored_is_not_set() {
        let folder = tempfile::tempdir().unwrap();
        // A file in place of the folder.
        fs::write(folder.path().join("state"), "").unwrap();
        let path = Mutex::new(Some(folder.path().join("state/settings.json")));
        let saved = SavedSettings { path, ..Default::default() };
        saved.store("yard", paused()).unwrap_err();
        assert_eq!(saved.of("yard"), SavedCamera::default());
    }

    #[test]
    fn a_link_in_place_of_the_new_file_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, victim) = (folder.path().join("settings.json"), folder.path().join("victim"));
        fs::write(&victim, "untouched").unwrap();
        std::os::unix::fs::symlink(&victim, path.with_extension("part")).unwrap();
        let saved = SavedSettings::open(Some(path.clone())).unwrap();
        saved.store("yard", paused()).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
        assert_eq!(SavedSettings::open(Some(path)).unwrap().of("yard"), paused());
    }
}
