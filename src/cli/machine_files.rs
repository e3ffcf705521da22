//! Files in which a machine tells about itself: `/proc`, `/sys`, `/etc`.
//!
//! They are read below a root directory, so that tests can stand for boards that they do not run on.

use std::{fs::File, io::Read, path::Path};

/// Bytes of a file that are read.
const MAX_BYTES: u64 = 256 << 10;

/// The text of a file below `root`, without white space around it. None if it is empty or cannot be read.
pub fn read(root: &Path, file: &str) -> Option<String> {
    // Not only regular files: a device tree is reached through links, and files of /sys have no size.
    let file = File::open(root.join(file)).ok()?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes).trim().to_string();
    Some(text).filter(|text| !text.is_empty())
}

/// The names in a directory below `root`, sorted.
pub fn names(root: &Path, directory: &str) -> Vec<String> {
    let entries = std::fs::read_dir(root.join(directory)).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    // By number, as people count: video2 before video10.
    names.sort_by_key(|name| {
        let start = name.trim_end_matches(|c: char| c.is_ascii_digit());
        (start.to_string(), name[start.len()..].parse::<u64>().unwrap_or_default())
    });
    names
}

/// Text without control characters.
pub fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// The root directory of a machine with these files, each with its text.
    pub fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let file = root.path().join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        root
    }

    #[test]
    fn names_are_sorted_by_number() {
        let root = tempfile::tempdir().unwrap();
        for name in ["video10", "video2", "media0", "video0"] {
            std::fs::write(root.path().join(name), "").unwrap();
        }
        assert_eq!(names(root.path(), "."), ["media0", "video0", "video2", "video10"]);
        assert_eq!(names(root.path(), "nothing"), [""; 0]);
    }
}
