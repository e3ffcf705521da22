"""Builds the disk of the virtual machine: Debian 12 with systemd, Debian's generic kernel and a cache of packages.

camfire itself is not on it. What its package depends on is, exactly as apt resolves it: a dependency that the
package does not declare is missing. Unpacking all that under emulation would take longer than all checks. The
image is built once and kept until its content would be another.
"""

import hashlib
import os
import pathlib
import shutil
import subprocess
import tarfile

SUITE = "bookworm"
MIRRORS = [
    f"deb http://deb.debian.org/debian {SUITE} main",
    f"deb http://deb.debian.org/debian {SUITE}-updates main",
    f"deb http://deb.debian.org/debian-security {SUITE}-security main",
]
# The generic kernel has vivid, a virtual V4L2 camera; the cloud kernel has not.
INSTALLED = ["systemd-sysv", "udev", "dbus", "kmod", "initramfs-tools", "linux-image-amd64", "qemu-guest-agent"]
SIZE = "3G"

FILES = {
    "/etc/hostname": "porch\n",
    "/etc/hosts": "127.0.0.1 localhost porch\n",
    "/etc/fstab": "/dev/vda / ext4 defaults 0 1\n",
    "/etc/modules-load.d/vivid.conf": "vivid\n",
    "/etc/modprobe.d/vivid.conf": "options vivid n_devs=1 node_types=0x1 num_inputs=1 input_types=0x0\n",
    # Modules that the kernel would load for the emulated board and for what networkd asks. Loading takes seconds.
    "/etc/modprobe.d/unused.conf": "".join(
        f"install {name} /bin/false\n"
        for name in ("cfg80211", "ata_piix", "floppy", "psmouse", "pcspkr", "i2c_piix4", "kvm_amd", "kvm_intel")),
    # The address that QEMU's user network expects.
    "/etc/systemd/network/10-user.network":
        "[Match]\nName=en* eth*\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n",
    # Compressing and unpacking takes most of the time, and booting needs few modules.
    "/etc/initramfs-tools/conf.d/small": "MODULES=list\nCOMPRESS=gzip\n",
    "/etc/initramfs-tools/modules": "virtio_pci\nvirtio_blk\next4\ncrc32c_generic\n",
}
# Nobody logs in, and timers would take time from the checks.
COMMANDS = [
    "systemctl enable systemd-networkd",
    "systemctl mask serial-getty@ttyS0.service getty@tty1.service apt-daily.timer apt-daily-upgrade.timer"
    " systemd-timesyncd.service e2scrub_reap.service",
]
# Installs what apt would install with the package, as if with it. The lists are not needed any more then, and
# reading them under emulation takes half a minute. The broker starts when a step starts it.
DEPENDENCIES = """set -eu
export DEBIAN_FRONTEND=noninteractive
all=$(apt-get install --simulate /camfire.deb | awk '$1 == "Inst" && $2 != "camfire" { print $2 }')
apt-get install --yes --quiet=2 --no-install-recommends $all
apt-mark auto $all > /dev/null
apt-get install --yes --quiet=2 mosquitto
systemctl disable mosquitto
apt-get clean
rm -rf /var/lib/apt/lists/*
"""


class Image:
    """The files that a virtual machine is started from."""

    def __init__(self, folder):
        self.disk, self.kernel, self.initrd = folder / "disk.img", folder / "vmlinuz", folder / "initrd.img"
        self.mark = folder / "complete"

    def copy_disk(self, target):
        """A copy that may be written to. Holes stay holes."""
        subprocess.run(["cp", "--sparse=always", "--reflink=auto", self.disk, target], check=True)


def prepare(folder, package):
    """The image in `folder`, built anew if its content or the dependencies of `package` have changed."""
    depends = [field(package, name) for name in ("Depends", "Recommends", "Pre-Depends")]
    content = repr([MIRRORS, INSTALLED, DEPENDENCIES, SIZE, FILES, COMMANDS, depends])
    key = hashlib.sha256(content.encode()).hexdigest()
    image = Image(folder)
    if image.mark.exists() and image.mark.read_text() == key:
        return image
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    archive = folder / "root.tar"
    bootstrap(archive, package)
    extract_kernel(archive, image)
    make_disk(archive, folder / "root", image.disk)
    archive.unlink()
    image.mark.write_text(key)
    return image


def field(package, name):
    return subprocess.run(["dpkg-deb", "--field", package, name], capture_output=True, text=True, check=True).stdout.strip()


def bootstrap(archive, package):
    """Writes the root file system to a tar archive."""
    # Before the kernel is installed, because that builds the initrd.
    early = [f'mkdir -p "$1{os.path.dirname(path)}" && printf %s {quote(text)} > "$1{path}"' for path, text in FILES.items()]
    late = [f'chroot "$1" {command}' for command in COMMANDS]
    late += [f"upload {quote(str(package))} /camfire.deb", f'chroot "$1" sh -c {quote(DEPENDENCIES)}', 'rm "$1/camfire.deb"']
    subprocess.run(
        ["mmdebstrap", "--variant=minbase", f"--include={','.join(INSTALLED)}", "--skip=cleanup/apt",
         # The lists of a mirror that is not updated any more are as good as others.
         '--aptopt=Acquire::Check-Valid-Until "false"', "--quiet",
         *[f"--essential-hook={hook}" for hook in early], *[f"--customize-hook={hook}" for hook in late], SUITE, archive, *MIRRORS],
        check=True)


def quote(text):
    return "'" + text.replace("'", "'\\''") + "'"


def extract_kernel(archive, image):
    with tarfile.open(archive) as files:
        for member in files:
            name = pathlib.PurePath(member.name).name
            for prefix, target in (("vmlinuz-", image.kernel), ("initrd.img-", image.initrd)):
                if member.isfile() and name.startswith(prefix):
                    target.write_bytes(files.extractfile(member).read())


def make_disk(archive, root, disk):
    """Makes a file system of the archive's content. Without root, fakeroot keeps the owners."""
    script = 'mkdir "$2" && tar --extract --numeric-owner --file "$1" --directory "$2" ' \
        '&& mke2fs -q -t ext4 -L root -d "$2" "$3" "$4" && rm -r "$2"'
    prefix = [] if os.geteuid() == 0 else ["fakeroot"]
    subprocess.run([*prefix, "sh", "-c", script, "sh", archive, root, disk, SIZE],
                   stdout=subprocess.DEVNULL, check=True)
