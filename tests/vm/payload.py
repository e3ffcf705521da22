"""What the machine gets at run time, as a read-only disk: the package, a later version of it, and the demo clip."""

import shutil
import subprocess

import image

FIRST, SECOND, CLIP = "first.deb", "second.deb", "demo.mp4"


def make(package, clip, folder):
    """Writes the disk image. Returns its path and the two versions."""
    content = folder / "payload"
    content.mkdir()
    shutil.copy(package, content / FIRST)
    shutil.copy(clip, content / CLIP)
    version = image.field(package, "Version")
    later = version + "+later1"
    repack(package, later, folder / "repack", content / SECOND)
    size_kib = sum(file.stat().st_size for file in content.iterdir()) // 1024 + 4096
    disk = folder / "payload.img"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-L", "payload", "-d", content, disk, f"{size_kib}k"],
                   stdout=subprocess.DEVNULL, check=True)
    return disk, version, later


def repack(package, version, folder, target):
    """The same package with another version."""
    subprocess.run(["dpkg-deb", "--raw-extract", package, folder], check=True)
    control = folder / "DEBIAN/control"
    lines = [f"Version: {version}" if line.startswith("Version:") else line for line in control.read_text().splitlines()]
    control.write_text("\n".join(lines) + "\n")
    # A later version usually has another default configuration, so dpkg must keep the one that the user changed.
    with open(folder / "etc/camfire/camfire.toml", "a") as config:
        config.write("# A line that an earlier version does not have.\n")
    # Nobody waits for the smallest archive here.
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", folder, target],
                   stdout=subprocess.DEVNULL, check=True)
