//! Files that are made to harm: photos that announce more than fits into memory, pipes, links in a circle.

use crate::support::{camfire, camfire_output, root, stderr, stdout};
use std::{
    io::Read,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
};

/// Limit of the resident memory, in KiB.
const MAX_RESIDENT_KIB: u64 = 400 << 10;

/// A PNG file of an image of this size and bit depth in grey, with these compressed pixels.
fn png(width: u32, height: u32, depth: u8, pixels: &[u8]) -> Vec<u8> {
    let crc = |bytes: &[u8]| {
        !bytes.iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
        })
    };
    let chunk = |kind: &[u8; 4], data: &[u8]| {
        let body = [&kind[..], data].concat();
        [&(data.len() as u32).to_be_bytes()[..], &body, &crc(&body).to_be_bytes()].concat()
    };
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[depth, 0, 0, 0, 0]].concat();
    let chunks = [chunk(b"IHDR", &header), chunk(b"IDAT", pixels), chunk(b"IEND", &[])].concat();
    [&b"\x89PNG\r\n\x1a\n"[..], &chunks].concat()
}

/// A GIF file with one frame of this size, and nothing in it.
fn gif(width: u16, height: u16) -> Vec<u8> {
    let size = [width.to_le_bytes(), height.to_le_bytes()].concat();
    let image = [&[0x2c, 0, 0, 0, 0][..], &size, &[0, 2, 2, 0x4c, 1, 0, 0x3b]].concat();
    [&b"GIF89a"[..], &size, &[0x80, 0, 0, 0, 0, 0, 255, 255, 255], &image].concat()
}

/// A lossless WebP file of this size without pixels.
fn webp(width: u32, height: u32) -> Vec<u8> {
    let size = (width - 1) | (height - 1) << 14;
    let body = [&[0x2f][..], &size.to_le_bytes(), &[0; 15]].concat();
    let chunk = [&b"VP8L"[..], &(body.len() as u32).to_le_bytes(), &body].concat();
    [&b"RIFF"[..], &(chunk.len() as u32 + 4).to_le_bytes(), b"WEBP", &chunk].concat()
}

/// An uncompressed grey TIFF file of this size with one strip that is not there.
fn tiff(width: u32, height: u32) -> Vec<u8> {
    let entry =
        |tag: u16, value: u32| [&tag.to_le_bytes()[..], &[4, 0, 1, 0, 0, 0], &value.to_le_bytes()].concat();
    let strip_bytes = (u64::from(width) * u64::from(height)).min(u64::from(u32::MAX)) as u32;
    let tags = [
        (256, width),
        (257, height),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, 8),
        (278, height),
        (279, strip_bytes),
    ];
    let entries: Vec<u8> = tags.iter().flat_map(|(tag, value)| entry(*tag, *value)).collect();
    [&b"II*\0\x08\0\0\0"[..], &(tags.len() as u16).to_le_bytes(), &entries, &[0; 4]].concat()
}

/// A BMP file of this size without pixels.
fn bmp(width: i32, height: i32) -> Vec<u8> {
    let info =
        [&40u32.to_le_bytes()[..], &width.to_le_bytes(), &height.to_le_bytes(), &[1, 0, 24, 0], &[0; 24]];
    [&b"BM\x36\0\0\0\0\0\0\0\x36\0\0\0"[..], &info.concat()].concat()
}

/// A progressive JPEG file of this size whose only scan is empty.
fn jpeg(width: u16, height: u16) -> Vec<u8> {
    let size = [height.to_be_bytes(), width.to_be_bytes()].concat();
    let frame = [&[0xff, 0xc2, 0, 17, 8][..], &size, &[3, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0]].concat();
    let tables = [&[0xff, 0xdb, 0, 67, 0][..], &[1; 64], &[0xff, 0xc4, 0, 20, 0, 1], &[0; 15], &[0]].concat();
    let scan = [0xff, 0xda, 0, 12, 3, 1, 0, 2, 0, 3, 0, 0, 0, 0, 0, 0, 0xff, 0xd9];
    [&[0xff, 0xd8][..], &tables, &frame, &scan].concat()
}

/// Runs camfire to its end. Returns its exit status, stdout, stderr and the highest resident memory that was
/// seen, in KiB.
fn watch_memory(arguments: &[&str]) -> (Option<i32>, String, String, u64) {
    let mut child = camfire().args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let read = |mut stream: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        })
    };
    let out = read(Box::new(child.stdout.take().unwrap()));
    let err = read(Box::new(child.stderr.take().unwrap()));
    let mut highest = 0;
    let status = loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        highest = highest.max(kib.unwrap_or(0));
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    };
    (status.code(), out.join().unwrap(), err.join().unwrap(), highest)
}

#[test]
fn hostile_photos_are_refused_and_the_others_are_classified() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let good = std::fs::read(root().join("engine/tests/data/golden/chelsea.png")).unwrap();
    for name in ["a.png", "z.png", "deep/z.png"] {
        std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
        std::fs::write(at(name), &good).unwrap();
    }
    let tiny = png(i32::MAX as u32, i32::MAX as u32, 8, &[0x78, 0x9c, 3, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
    assert_eq!(tiny.len(), 69);
    // One bit a pixel: 3.6 GB of pixels from 450 MB of data, which deflate packs into half a megabyte.
    let packed = png(60_000, 60_000, 1, &[0x78, 0x9c]);
    let mut oversized = vec![0xff, 0xd8];
    (0..5_000).for_each(|_| oversized.extend([&[0xff, 0xfe, 0xff, 0xff][..], &[0; 65_533]].concat()));
    for (name, bytes) in [
        ("huge.png", tiny),
        ("packed.png", packed),
        ("huge.gif", gif(u16::MAX, u16::MAX)),
        ("huge.webp", webp(16_000, 16_000)),
        ("huge.tiff", tiff(100_000, 100_000)),
        ("huge.bmp", bmp(60_000, -60_000)),
        ("huge.jpg", jpeg(u16::MAX, u16::MAX)),
        ("comments.jpg", oversized),
    ] {
        std::fs::write(at(name), bytes).unwrap();
    }
    for (name, len) in [("empty.jpg", 0), ("short.png", 20), ("cut.png", good.len() / 2)] {
        std::fs::write(at(name), &good[..len]).unwrap();
    }
    assert!(Command::new("mkfifo").arg(at("pipe.jpg")).status().unwrap().success());
    symlink("/dev/zero", at("endless.png")).unwrap();
    symlink("itself.jpg", at("itself.jpg")).unwrap();
    symlink(folder.path(), at("deep/around")).unwrap();
    symlink(folder.path(), at("deep/around.jpg")).unwrap();

    let missing = at("missing.jpg");
    let arguments = ["classify", "--json", missing.to_str().unwrap(), folder.path().to_str().unwrap()];
    let (status, out, err, resident_kib) = watch_memory(&arguments);
    assert_eq!(status, Some(1), "{err}");
    let files: Vec<String> = out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|line| {
            Path::new(line["file"].as_str().unwrap())
                .strip_prefix(folder.path())
                .unwrap()
                .display()
                .to_string()
        })
        .collect();
    assert_eq!(files, ["a.png", "deep/z.png", "z.png"]);
    for (name, reason) in [
        ("huge.png", "is too large"),
        ("packed.png", "is too large: decoding 60000 x 60000 pixels"),
        ("huge.gif", "is too large"),
        ("huge.webp", "is too large"),
        ("huge.tiff", "is too large"),
        ("huge.bmp", "is too large"),
        ("huge.jpg", "is too large: decoding 65535 x 65535 pixels"),
        ("comments.jpg", "is too large: 327"),
        ("empty.jpg", "cannot be decoded as a photo"),
        ("short.png", "cannot be decoded as a photo"),
        ("cut.png", "cannot be decoded as a photo"),
        ("pipe.jpg", "cannot be read: is not a regular file"),
        ("endless.png", "cannot be read: is not a regular file"),
        ("itself.jpg", "cannot be read: "),
        ("deep/around.jpg", "cannot be read: Is a directory"),
        ("missing.jpg", "cannot be read: No such file"),
    ] {
        let expected = format!("{}: {reason}", at(name).display());
        assert!(err.contains(&expected), "{expected} in\n{err}");
    }
    assert_eq!(err.lines().count(), 16, "{err}");
    assert!((1..MAX_RESIDENT_KIB).contains(&resident_kib), "{resident_kib} KiB");
}

#[test]
fn recordings_with_huge_frames_are_refused_before_they_are_decoded() {
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("huge.jpg");
    std::fs::write(&clip, jpeg(65_000, 65_000)).unwrap();
    let (status, _, err, resident_kib) = watch_memory(&["analyze", clip.to_str().unwrap()]);
    assert_eq!(status, Some(2), "{err}");
    assert!(err.contains("its frames have 65000 x 65000 pixels, and at most 40000000 are decoded"), "{err}");
    assert!((1..MAX_RESIDENT_KIB).contains(&resident_kib), "{resident_kib} KiB");
}

#[test]
fn a_folder_without_photos_does_not_stop_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let photo = root().join("engine/tests/data/golden/chelsea.png");
    let (empty, photo) = (folder.path().to_str().unwrap(), photo.to_str().unwrap());
    let output = camfire_output(&["classify", empty, photo]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("contains no photos"), "{}", stderr(&output));
    assert!(stdout(&output).contains("chelsea.png: "));
    assert_eq!(camfire_output(&["classify", empty]).status.code(), Some(2), "nothing to do");
}
