//! New settings for an open outbox. If the file is another one, the outbox moves there with everything in it:
//! what waits, the history, the sequence numbers and the gaps.

use super::{Outbox, file};
use crate::config;
use jiff::Timestamp;
use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    time::Duration,
};

/// Checks whether an outbox can be moved to a new file.
///
/// Errors: text for the user.
pub fn check_move(before: &config::Outbox, after: &config::Outbox) -> Result<(), String> {
    if before.file == after.file {
        return Ok(());
    }
    let Some(file) = &after.file else {
        return Err("outbox.file: an outbox in a file becomes one in memory only at a restart".to_string());
    };
    let name = file.display();
    // An empty file may be replaced. What is no file has no length either, and stays.
    if fs::symlink_metadata(file).is_ok_and(|found| !found.is_file() || found.len() > 0) {
        return Err(format!("outbox.file: {name} exists; a reload moves the outbox only to a new file"));
    }
    reserve_name(file).map_err(|error| format!("outbox.file: {name}: {error}"))?;
    let _ = fs::remove_file(file);
    Ok(())
}

/// Creates an empty file that only its owner can read, and its folder.
fn reserve_name(file: &Path) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let _ = fs::remove_file(file);
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map(drop)
}

impl Outbox {
    /// Continues with new settings. If the file is another one, everything moves there; if that fails, it is
    /// logged and the outbox stays where it is.
    pub fn renew(&mut self, settings: config::Outbox, now: Duration, at: Timestamp) {
        let (before, file) = (self.settings.file.clone(), settings.file.clone());
        self.settings = config::Outbox { file: before.clone(), ..settings };
        let Some(file) = file.filter(|file| before.as_ref() != Some(file)) else { return };
        match self.move_to(&file, now, at) {
            Ok(()) => tracing::info!(file = %file.display(), "Outbox has moved."),
            Err(why) => {
                tracing::error!(file = %file.display(), why, "Outbox cannot be moved; it stays where it is.")
            }
        }
    }

    fn move_to(&mut self, file: &Path, now: Duration, at: Timestamp) -> Result<(), String> {
        check_move(
            &self.settings,
            &config::Outbox { file: Some(file.to_path_buf()), ..self.settings.clone() },
        )?;
        if !self.write_everything(now, at) {
            return Err("not everything can be written to the file so far".to_string());
        }
        let copied = reserve_name(file).map_err(|error| error.to_string()).and_then(|()| {
            let name = file.to_string_lossy();
            self.db.execute("VACUUM INTO ?1", [name.as_ref()]).map_err(|error| error.to_string())
        });
        let opened = copied.and_then(|_| {
            let settings = config::Outbox { file: Some(file.to_path_buf()), ..self.settings.clone() };
            let opened = Outbox::open(settings, at);
            let is_there = opened.outbox.path.is_some() && opened.outbox.stream == self.stream;
            is_there.then_some(opened.outbox).ok_or_else(|| opened.notes.join(" "))
        });
        let mut moved = match opened {
            Ok(moved) => moved,
            Err(why) => {
                file::remove(file);
                self.mark_in_use();
                return Err(why);
            }
        };
        moved.lost = self.lost;
        let before = std::mem::replace(self, moved);
        if let Some(path) = before.path.clone() {
            drop(before);
            file::remove(&path);
        }
        Ok(())
    }
}
