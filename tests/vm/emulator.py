"""Provides QEMU: the installed one, or Debian's packages unpacked into a folder.

Unpacking needs no root and leaves the machine as it is. Installing could replace packages: those of qemu-utils
from backports, for example.
"""

import os
import pathlib
import shutil
import subprocess

PROGRAM = "qemu-system-x86_64"


class Emulator:
    """How to start QEMU on this machine."""

    def __init__(self, program, arguments=(), environment=()):
        self.program, self.arguments = str(program), list(arguments)
        self.environment = dict(os.environ, **dict(environment))

    def version(self):
        text = subprocess.run([self.program, "--version"], env=self.environment, capture_output=True, text=True, check=True)
        return text.stdout.splitlines()[0]


def find(folder):
    """The installed QEMU, or one unpacked into `folder`."""
    installed = shutil.which(PROGRAM)
    if installed:
        return Emulator(installed)
    root = folder / "root"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        unpack(folder, root)
        (folder / "complete").touch()
    libraries = sorted({path.parent for path in root.glob("**/*.so.*")})
    modules = root / "usr/lib/x86_64-linux-gnu/qemu"
    firmware = [root / "usr/share/qemu", root / "usr/share/seabios"]
    return Emulator(
        root / "usr/bin" / PROGRAM,
        [word for path in firmware for word in ("-L", str(path))],
        {"LD_LIBRARY_PATH": ":".join(map(str, libraries)), "QEMU_MODULE_DIR": str(modules)},
    )


def unpack(folder, root):
    """Downloads QEMU with those of its dependencies that are not installed, and unpacks all of them."""
    archives = folder / "archives"
    (archives / "partial").mkdir(parents=True)
    subprocess.run(
        ["apt-get", "install", "--yes", "--quiet=2", "--download-only", "--no-install-recommends",
         "-o", f"Dir::Cache::archives={archives}", "-o", "Debug::NoLocking=1", "qemu-system-x86"],
        stdout=subprocess.DEVNULL, check=True)
    for package in sorted(archives.glob("*.deb")):
        subprocess.run(["dpkg", "--extract", package, root], check=True)


def can_use_kvm():
    """Whether this machine's hardware virtualization can be tried. The processor must announce it: a /dev/kvm
    without it exists in some containers, and boots nothing."""
    flags = pathlib.Path("/proc/cpuinfo").read_text().split()
    return os.access("/dev/kvm", os.R_OK | os.W_OK) and ("vmx" in flags or "svm" in flags)
