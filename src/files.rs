//! Opening and creating files where other users may have put links, pipes or endless devices.
//!
//! [`open_regular`] and [`read_bounded`] read a file that a user names. [`Directory`] creates files below a
//! directory without following links, private to the process's user whatever the umask. [`check_trusted`]
//! tells whether only root can have written an opened file.

use rustix::fs::{self as sys, Access, AtFlags, CWD, FileType, Mode, OFlags};
use std::{
    ffi::OsString,
    fs::{DirBuilder, File, Metadata, OpenOptions},
    io::{self, Read, Write},
    os::{
        fd::OwnedFd,
        unix::{
            ffi::OsStrExt,
            fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
        },
    },
    path::{Component, Path, PathBuf},
    time::{Duration, SystemTime},
};

/// Permissions of created files: read and written by their owner only.
const PRIVATE_FILE: Mode = Mode::RUSR.union(Mode::WUSR);
/// Permissions of created directories: their owner's only.
const PRIVATE_DIRECTORY: Mode = Mode::RWXU;
/// Symbolic links in a path after which it is taken for a cycle, as the kernel does.
const MAX_LINKS: u32 = 40;

/// Opens a regular file for reading, following links. Never blocks, as opening a pipe would.
///
/// Errors: it cannot be opened or is not a regular file.
pub fn open_regular(path: &Path) -> io::Result<(File, Metadata)> {
    let file: File =
        sys::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?.into();
    let metadata = file.metadata()?;
    match metadata.is_file() {
        true => Ok((file, metadata)),
        false if metadata.is_dir() => Err(rustix::io::Errno::ISDIR.into()),
        false => Err(io::Error::other("is not a regular file")),
    }
}

/// Free and total bytes of the file system that holds `path`, as an ordinary user may use them.
///
/// Errors: as from the system.
pub fn space(path: &Path) -> io::Result<(u64, u64)> {
    let found = sys::statvfs(path)?;
    Ok((found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize))
}

/// Opens a device for reading and writing. Does not wait for it.
///
/// Errors: it cannot be opened.
pub fn open_device(path: &Path) -> io::Result<File> {
    Ok(sys::open(path, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?.into())
}

/// Reads a regular file of at most `max_bytes` bytes.
///
/// Errors: as for [`open_regular`], or the file is larger.
pub fn read_bounded(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    read_open(&open_regular(path)?.0, max_bytes)
}

/// Reads an open file of at most `max_bytes` bytes from its position.
///
/// Errors: it cannot be read, or is larger.
pub fn read_open(file: &File, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(max_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        return Err(io::Error::other(format!("is larger than {max_bytes} bytes")));
    }
    Ok(bytes)
}

/// Creates a directory and its missing parents, private to this user. Existing ones are not changed.
///
/// Errors: one of them cannot be created.
pub fn create_private_directories(path: &Path) -> io::Result<()> {
    let missing =
        path.ancestors().take_while(|ancestor| !ancestor.as_os_str().is_empty() && !ancestor.exists());
    let missing: Vec<&Path> = missing.collect();
    for directory in missing.into_iter().rev() {
        match DirBuilder::new().mode(PRIVATE_DIRECTORY.bits()).create(directory) {
            // The umask may have taken permissions from the owner.
            Ok(()) => sys::chmodat(CWD, directory, PRIVATE_DIRECTORY, AtFlags::empty())?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    // Reports what exists and is not a directory.
    if path.as_os_str().is_empty() || path.is_dir() {
        Ok(())
    } else {
        Err(io::ErrorKind::NotADirectory.into())
    }
}

/// Replaces a file as a whole, so that it is never incomplete, and waits until it is on disk. It is private
/// to the process's user, unless `set_access` gives others access to the new file. Missing directories are
/// created.
///
/// Errors: the system's. The old file is then still there.
pub fn replace_durably(
    path: &Path,
    bytes: &[u8],
    set_access: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let partial = path.with_extension("part");
    // A new file, so no link is followed.
    match std::fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
    let written = set_access(&file)
        .and_then(|()| file.write_all(bytes))
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(&partial, path));
    if let Err(error) = written {
        // It is incomplete.
        let _ = std::fs::remove_file(&partial);
        return Err(error);
    }
    File::open(folder)?.sync_all()
}

/// An open directory. Names are those of its own entries. A link is never followed, so nothing outside of the
/// directory is read or changed, even if somebody replaces an entry meanwhile.
#[derive(Debug)]
pub struct Directory(OwnedFd);

/// An entry of a [`Directory`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Whether it is a directory, a regular file, or anything else.
    pub kind: EntryKind,
    /// Size in bytes.
    pub len: u64,
    /// Number of names of the file.
    pub links: u64,
    /// When it was last written.
    pub modified: SystemTime,
}

/// The kind of an [`Entry`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum EntryKind {
    Directory,
    File,
    Other,
}

impl Directory {
    /// Opens a directory that the user has named. The path itself may contain links.
    ///
    /// Errors: it cannot be opened or is not a directory.
    pub fn open(path: &Path) -> io::Result<Directory> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Directory(sys::open(path, flags, Mode::empty())?))
    }

    /// Opens a subdirectory.
    ///
    /// Errors: it cannot be opened or is not a directory; a link is not.
    pub fn subdirectory(&self, name: &Path) -> io::Result<Directory> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Directory(sys::openat(&self.0, name, flags, Mode::empty())?))
    }

    /// Opens a regular file below the directory for reading. No link is followed.
    ///
    /// Errors: as from the system; `path` does not stay below the directory, or is not a regular file.
    pub fn open_below(&self, path: &Path) -> io::Result<File> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let mut folder = self.subdirectory(Path::new("."))?;
        for component in path.parent().into_iter().flat_map(Path::components) {
            let Component::Normal(name) = component else { return Err(io::ErrorKind::InvalidInput.into()) };
            folder = folder.subdirectory(Path::new(name))?;
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file: File = sys::openat(&folder.0, Path::new(name), flags, Mode::empty())?.into();
        if !file.metadata()?.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(file)
    }

    /// Opens a subdirectory. Creates it if it is missing.
    ///
    /// Errors: as for [`Directory::subdirectory`], or it cannot be created.
    pub fn create_subdirectory(&self, name: &Path) -> io::Result<Directory> {
        match sys::mkdirat(&self.0, name, PRIVATE_DIRECTORY) {
            Ok(()) => {
                // The umask may have taken permissions from the owner, who then could not open it.
                if sys::accessat(&self.0, name, Access::READ_OK | Access::EXEC_OK, AtFlags::empty()).is_err()
                {
                    sys::chmodat(&self.0, name, PRIVATE_DIRECTORY, AtFlags::empty())?;
                }
                let created = self.subdirectory(name)?;
                sys::fchmod(&created.0, PRIVATE_DIRECTORY)?;
                return Ok(created);
            }
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        self.subdirectory(name)
    }

    /// Creates a file.
    ///
    /// Errors: it cannot be created, or something of this name exists.
    pub fn create_file(&self, name: &Path) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = sys::openat(&self.0, name, flags, PRIVATE_FILE)?;
        sys::fchmod(&file, PRIVATE_FILE)?;
        Ok(file.into())
    }

    /// Opens a file for reading and writing. Creates it if it is missing.
    ///
    /// Errors: it cannot be opened or created; a link is not followed.
    pub fn open_or_create_file(&self, name: &Path) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(sys::openat(&self.0, name, flags, PRIVATE_FILE)?.into())
    }

    /// Writes a new file, in place of anything but a directory that has its name. A link is replaced, and
    /// what it points to stays. On errors no file is left.
    ///
    /// Errors: the file cannot be replaced or written.
    pub fn replace_file(&self, name: &Path, bytes: &[u8]) -> io::Result<()> {
        match self.remove_file(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let written = self.create_file(name).and_then(|mut file| file.write_all(bytes));
        if written.is_err() {
            let _ = self.remove_file(name);
        }
        written
    }

    /// Gives a file another name in this directory, in place of the file or link that has it.
    ///
    /// Errors: the system's.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(sys::renameat(&self.0, from, &self.0, to)?)
    }

    /// Removes a file or a link.
    ///
    /// Errors: the system's.
    pub fn remove_file(&self, name: &Path) -> io::Result<()> {
        Ok(sys::unlinkat(&self.0, name, AtFlags::empty())?)
    }

    /// Removes an empty subdirectory.
    ///
    /// Errors: the system's; it is not empty.
    pub fn remove_directory(&self, name: &Path) -> io::Result<()> {
        Ok(sys::unlinkat(&self.0, name, AtFlags::REMOVEDIR)?)
    }

    /// Describes an entry; a link itself, not what it points to.
    ///
    /// Errors: the system's; there is none of this name.
    #[allow(clippy::useless_conversion, reason = "the type of st_nlink differs between architectures")]
    pub fn entry(&self, name: &Path) -> io::Result<Entry> {
        let stat = sys::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => EntryKind::Directory,
            FileType::RegularFile => EntryKind::File,
            _ => EntryKind::Other,
        };
        let seconds = Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or_default());
        let modified = SystemTime::UNIX_EPOCH + seconds + Duration::from_nanos(stat.st_mtime_nsec as u64);
        Ok(Entry {
            kind,
            len: u64::try_from(stat.st_size).unwrap_or_default(),
            links: stat.st_nlink.into(),
            modified,
        })
    }

    /// The names of all entries.
    ///
    /// Errors: the directory cannot be read.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in sys::Dir::read_from(&self.0)? {
            let entry = entry?;
            let name = std::ffi::OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                names.push(name.to_os_string());
            }
        }
        Ok(names)
    }
}

/// Creates an empty private file, unless a file of this name exists, which may be a link to one. Nothing is
/// created through a link.
///
/// Errors: it cannot be created, or is a link to nothing.
pub fn ensure_private_file(path: &Path) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let directory = Directory::open(path.parent().unwrap_or(Path::new(".")))?;
    match directory.create_file(Path::new(name)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.exists() => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(io::Error::other("it is a link to a file that does not exist"))
        }
        Err(error) => Err(error),
    }
}

/// Checks that only root can have written the open file `file`, whose path is `path`: the file, every
/// directory and every link on the way to it belong to root, and nobody else may write them. In a directory
/// with the sticky bit, others may create entries, but not replace those of root.
///
/// Errors: what somebody else controls, in words that follow "may only be set in".
pub fn check_trusted(path: &Path, file: &Metadata) -> Result<(), String> {
    if file.uid() != 0 {
        return Err("a file that belongs to root".into());
    }
    if file.mode() & 0o022 != 0 {
        return Err("a file that only root can write (chmod go-w)".into());
    }
    let unreadable =
        |at: &Path, error: io::Error| format!("a file that can be checked: {}: {error}", at.display());
    let path = std::path::absolute(path).map_err(|error| unreadable(path, error))?;
    let mut rest: Vec<OsString> = names_reversed(&path);
    let mut at = PathBuf::from("/");
    let mut links = 0;
    loop {
        let found = std::fs::symlink_metadata(&at).map_err(|error| unreadable(&at, error))?;
        let is_sticky_directory = found.is_dir() && found.mode() & 0o1000 != 0;
        let is_open = !found.is_symlink() && !is_sticky_directory && found.mode() & 0o022 != 0;
        if found.uid() != 0 || is_open {
            let what =
                format!("a file that nobody but root can replace, but others control {}", at.display());
            return Err(what);
        }
        if found.is_symlink() {
            links += 1;
            if links > MAX_LINKS {
                return Err("a file without a cycle of links on its path".into());
            }
            let target = std::fs::read_link(&at).map_err(|error| unreadable(&at, error))?;
            rest.extend(names_reversed(&target));
            at.pop();
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
        }
        match rest.pop() {
            Some(name) if name == ".." => drop(at.pop()),
            Some(name) => at.push(name),
            None => break,
        }
    }
    // The file that was opened, and not one that has replaced it since.
    let found = std::fs::symlink_metadata(&at).map_err(|error| unreadable(&at, error))?;
    if (found.dev(), found.ino()) != (file.dev(), file.ino()) {
        return Err("a file that is not replaced while it is read".into());
    }
    Ok(())
}

/// The number of this process's effective user, to whom its files in `/proc` belong. 0 is root.
pub fn own_user() -> u32 {
    std::fs::metadata("/proc/self").map_or(0, |own| own.uid())
}

/// Who, other than root and this process's user, may change an open file, in words that follow its name. None
/// if nobody may.
pub fn changeable_by_others(file: &Metadata) -> Option<String> {
    if file.uid() != 0 && file.uid() != own_user() {
        return Some(format!("belongs to another user (number {}), who can change it", file.uid()));
    }
    (file.mode() & 0o002 != 0)
        .then(|| "can be changed by all users of this machine; run chmod o-w on it".into())
}

/// The names in a path, the last one first. `..` is one of them.
fn names_reversed(path: &Path) -> Vec<OsString> {
    let name = |component| match component {
        Component::Normal(name) => Some(name.to_os_string()),
        Component::ParentDir => Some("..".into()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    };
    path.components().rev().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    fn mode(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn only_regular_files_are_read_and_only_up_to_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, [7; 100]).unwrap();
        assert_eq!(read_bounded(&file, 100).unwrap(), [7; 100]);
        assert_eq!(read_bounded(&file, 99).unwrap_err().to_string(), "is larger than 99 bytes");
        let pipe = folder.path().join("pipe");
        sys::mknodat(CWD, &pipe, FileType::Fifo, PRIVATE_FILE, 0).unwrap();
        assert_eq!(open_regular(&pipe).unwrap_err().to_string(), "is not a regular file");
        assert_eq!(open_regular(Path::new("/dev/zero")).unwrap_err().to_string(), "is not a regular file");
        assert_eq!(open_regular(folder.path()).unwrap_err().kind(), io::ErrorKind::IsADirectory);
    }

    #[test]
    fn links_in_a_directory_are_not_followed() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let victim = elsewhere.path().join("victim");
        std::fs::write(&victim, "precious").unwrap();
        symlink(&victim, folder.path().join("link")).unwrap();
        symlink(elsewhere.path(), folder.path().join("away")).unwrap();
        let directory = Directory::open(folder.path()).unwrap();
        assert!(directory.create_file(Path::new("link")).is_err());
        assert!(directory.subdirectory(Path::new("away")).is_err());
        assert!(directory.create_subdirectory(Path::new("away")).is_err());
        assert_eq!(directory.entry(Path::new("link")).unwrap().kind, EntryKind::Other);
        directory.replace_file(Path::new("link"), b"new").unwrap();
        assert_eq!(std::fs::read(folder.path().join("link")).unwrap(), b"new");
        assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
        // As a hard link, which is no link to follow.
        std::fs::hard_link(&victim, folder.path().join("hard")).unwrap();
        directory.replace_file(Path::new("hard"), b"new").unwrap();
        assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
        let mut names = directory.names().unwrap();
        names.sort();
        assert_eq!(names, ["away", "hard", "link"]);
    }

    #[test]
    fn a_file_is_trusted_only_if_no_one_but_root_can_have_written_or_placed_it() {
        let folder = tempfile::tempdir().unwrap();
        let (inner, file) = (folder.path().join("a/b"), folder.path().join("a/b/file"));
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(&file, "").unwrap();
        let check = |path: &Path| check_trusted(path, &std::fs::metadata(path).unwrap());
        if std::fs::metadata(&file).unwrap().uid() != 0 {
            assert_eq!(check(&file), Err("a file that belongs to root".into()));
            return;
        }
        let set = |path: &Path, mode: u32| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let controlled = |path: &Path| {
            Err(format!("a file that nobody but root can replace, but others control {}", path.display()))
        };
        assert_eq!(check(&file), Ok(()));
        assert_eq!(check(&inner.join("../b/file")), Ok(()));
        for directory in [folder.path().join("a"), inner.clone()] {
            set(&directory, 0o775);
            assert_eq!(check(&file), controlled(&directory), "its group may write it");
            set(&directory, 0o1777);
            assert_eq!(check(&file), Ok(()), "others cannot replace what root owns");
            set(&directory, 0o755);
            chown(&directory, Some(65534), None).unwrap();
            assert_eq!(check(&file), controlled(&directory), "its owner may write it");
            chown(&directory, Some(0), None).unwrap();
        }
        // By way of a link: the link and its directory count as well.
        let other = tempfile::tempdir().unwrap();
        let link = other.path().join("link");
        symlink(&file, &link).unwrap();
        assert_eq!(check(&link), Ok(()));
        std::os::unix::fs::lchown(&link, Some(65534), None).unwrap();
        assert_eq!(check(&link), controlled(&link));
        std::os::unix::fs::lchown(&link, Some(0), None).unwrap();
        set(other.path(), 0o777);
        assert_eq!(check(&link), controlled(other.path()));
        set(other.path(), 0o700);
        // The file was opened, then replaced.
        let opened = std::fs::metadata(&file).unwrap();
        std::fs::rename(&file, inner.join("old")).unwrap();
        std::fs::write(&file, "").unwrap();
        assert_eq!(check_trusted(&file, &opened), Err("a file that is not replaced while it is read".into()));
    }

    #[test]
    fn files_of_other_users_and_files_that_all_may_write_are_recognised() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let found = || changeable_by_others(&std::fs::metadata(&file).unwrap());
        assert_eq!(found(), None);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(found().unwrap().contains("chmod o-w"));
        if own_user() == 0 {
            chown(&file, Some(65534), None).unwrap();
            assert!(found().unwrap().contains("65534"));
        }
    }

    #[test]
    fn created_directories_are_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        create_private_directories(&path).unwrap();
        create_private_directories(&path).unwrap();
        assert_eq!((mode(&folder.path().join("a")), mode(&path)), (0o700, 0o700));
        let directory = Directory::open(&path).unwrap();
        directory.create_subdirectory(Path::new("c")).unwrap();
        directory.create_file(Path::new("f")).unwrap();
        assert_eq!((mode(&path.join("c")), mode(&path.join("f"))), (0o700, 0o600));
    }
}
