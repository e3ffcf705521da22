#!/bin/bash
# Installs the packages in fresh Debian roots, as a user would, and uses, upgrades, removes and purges them. The arm64
# root runs under emulation (qemu-user); it must find the same events as amd64, byte for byte. Needs root. `make
# test-deb` builds the packages first.
#
#   tests/packages/run.sh [bookworm-amd64] [trixie-amd64] [bookworm-arm64]      default: all three
#
# Roots and downloaded packages are kept in build/roots. systemd does not run in them, so what it does with the unit is
# not tested here. Everything runs in namespaces of its own, so that no mount and no process can remain.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [ "${1:-}" != --inside ]; then
    [ "$(id -u)" = 0 ] || { echo "test-deb: must be run as root" >&2; exit 1; }
    exec unshare --mount --propagation private --pid --fork --kill-child --mount-proc "$0" --inside "$@"
fi
shift
[ $# -gt 0 ] || set -- bookworm-amd64 trixie-amd64 bookworm-arm64

roots=$PWD/build/roots
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
upgrade_version=99.0-1
mkdir -p "$roots/results"
# The unpacked roots of this run, in memory: dpkg writes 10,000 files, which takes many minutes on a busy disk. The mount
# ends with this script.
scratch=$roots/scratch
mkdir -p "$scratch"
mount -t tmpfs -o size=4G scratch "$scratch"
binfmt=/proc/sys/fs/binfmt_misc
registered=

finish() {
    status=$?
    [ -z "$registered" ] || echo -1 > "$binfmt/qemu-aarch64"
    [ $status = 0 ] || echo "test-deb: FAILED" >&2
}
trap finish EXIT
trap 'exit 1' TERM INT

say() {
    printf '%s %4ss  %s\n' "$name" $SECONDS "$*"
}

# The kernel starts qemu for arm64 programs. A Debian machine has this registration already; a container may not.
emulate_arm64() {
    [ -e $binfmt/register ] || mount -t binfmt_misc none $binfmt
    [ ! -e $binfmt/qemu-aarch64 ] || return 0
    cat /usr/lib/binfmt.d/qemu-aarch64.conf > $binfmt/register
    registered=yes
}

# Makes $roots/NAME with debootstrap, unless it is there.
make_root() {
    local suite=${1%-*} architecture=${1#*-} root=$roots/$1
    [ "$architecture" = amd64 ] || emulate_arm64
    [ ! -d "$root" ] || return 0
    say "debootstrap"
    rm -rf --one-file-system "$root.part"
    debootstrap --foreign --variant=minbase --arch="$architecture" "$suite" "$root.part" "$mirror" > /dev/null
    chroot "$root.part" /debootstrap/debootstrap --second-stage > /dev/null
    # Without systemd, packages start their daemons with init scripts.
    printf '#!/bin/sh\nexit 101\n' > "$root.part/usr/sbin/policy-rc.d"
    chmod 755 "$root.part/usr/sbin/policy-rc.d"
    echo force-unsafe-io > "$root.part/etc/dpkg/dpkg.cfg.d/fast"
    echo 'Binary::apt::APT::Keep-Downloaded-Packages "true";' > "$root.part/etc/apt/apt.conf.d/keep"
    mv "$root.part" "$root"
}

# Runs a step of steps.sh in the root: with the network of the machine, or with one of its own in which the broker's
# port is free.
step() {
    say "$*"
    chroot "$root" sh /srv/steps.sh "$@"
}
step_alone() {
    say "$*"
    # shellcheck disable=SC2016 # expanded by the inner shell
    unshare --mount --net --pid --fork --kill-child sh -c \
        'ip link set lo up && root=$1 && shift && mount -t proc proc "$root/proc" && exec chroot "$root" sh /srv/steps.sh "$@"' \
        sh "$root" "$@"
}

package() {
    local file=build/packages/camfire_$1_$2.deb
    [ -f "$file" ] || { echo "test-deb: $file is missing; make test-deb builds it" >&2; exit 1; }
    echo "$file"
}

version=$(cargo pkgid --locked | sed 's/.*[#@]//')-1
for name; do
    architecture=${name#*-}
    make_root "$name"
    root=$scratch/$name
    cp -a "$roots/$name" "$root"
    mount -t proc proc "$root/proc"
    mkdir -p "$roots/archives-$name" "$root/var/cache/apt/archives"
    mount --bind "$roots/archives-$name" "$root/var/cache/apt/archives"
    cp tests/packages/steps.sh "$root/srv/"
    cp "$(package "$version" "$architecture")" "$root/srv/camfire_$architecture.deb"
    cp assets/demo.mp4 tests/data/scenes/crossing.mp4 engine/tests/data/golden/chelsea.png "$root/srv/"

    # Emulated, apt installs only what must be there: faster, and it shows that the dependencies are enough.
    if [ "$architecture" = amd64 ]; then step install; else step install --no-install-recommends; fi
    step_alone installed
    if [ "$architecture" = amd64 ]; then
        step_alone idle
        step_alone first_event
    fi
    step_alone analysis
    cp "$root/srv/results" "$roots/results/$name"
    if [ "$architecture" = amd64 ]; then
        cp "$(package $upgrade_version amd64)" "$root/srv/upgrade.deb"
        step upgrade
        step remove
    fi
    step purge
    umount "$root/var/cache/apt/archives" "$root/proc"
    rm -rf --one-file-system "$root"
done

name=results
for arm64 in "$roots"/results/*-arm64; do
    amd64=${arm64%-arm64}-amd64
    if [ -f "$arm64" ] && [ -f "$amd64" ]; then
        cmp "$amd64" "$arm64"
        say "${arm64##*/}: $(wc -l < "$arm64") lines, the same bytes as on amd64"
    fi
done
echo "test-deb: all passed"
