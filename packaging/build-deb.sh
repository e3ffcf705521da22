#!/bin/sh
# Builds the Debian package of one architecture and prints its path.
#
#   packaging/build-deb.sh amd64|arm64 [version]
#
# Reproducible: the same commit, compiler and Debian packages give the same file. Paths of this machine are kept out
# of the binary, and all times are that of the commit. cargo-auditable adds the list of all crates and versions (the
# SBOM) to the binary itself, where it is true for each architecture and cannot get lost.
set -eu
cd "$(dirname "$0")/.."
architecture=$1
version=${2:-}

fail() {
    echo "build-deb: $1" >&2
    exit 1
}

# Installed here and not in ~/.cargo, so that nothing else depends on these versions.
tools=$PWD/build/tools
install_tool() {
    [ "$("$tools/bin/$1" "$3" --version 2> /dev/null | grep -o '[0-9.]*$')" = "$2" ] ||
        cargo install --quiet --locked --root "$tools" "$1@$2"
}
install_tool cargo-deb 3.8.0 ""
install_tool cargo-auditable 0.7.7 auditable
export PATH="$tools/bin:$PATH"

case $architecture in
    amd64) target=x86_64-unknown-linux-gnu ;;
    arm64) target=aarch64-unknown-linux-gnu ;;
    *) fail "the architecture must be amd64 or arm64" ;;
esac
[ "$architecture" = arm64 ] || [ "$(dpkg --print-architecture)" = "$architecture" ] ||
    fail "only arm64 is built on another architecture"

epoch=$(git log -1 --format=%ct 2> /dev/null || stat -c %Y Cargo.toml)
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$epoch}"
cargo fetch --quiet --locked
out=${CARGO_TARGET_DIR:-$PWD/target}
flags="--remap-path-prefix=$PWD=/camfire --remap-path-prefix=$out=/target"
CFLAGS="-ffile-prefix-map=$out=/target"
for sources in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do
    flags="$flags --remap-path-prefix=$sources=/crates"
    CFLAGS="$CFLAGS -ffile-prefix-map=$sources=/crates"
done
export CFLAGS
sysroot=$PWD/build/sysroot-arm64
run=
if [ "$architecture" = arm64 ]; then
    packaging/arm64-sysroot.sh "$sysroot"
    libraries=$sysroot/usr/lib/aarch64-linux-gnu
    . development/aarch64-env.sh
    flags="$flags -C link-arg=--sysroot=$sysroot"
    flags="$flags -C link-arg=-Wl,-rpath-link=$libraries -C link-arg=-Wl,-rpath-link=$sysroot/lib/aarch64-linux-gnu"
    export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
    export CFLAGS_aarch64_unknown_linux_gnu="$CFLAGS --sysroot=$sysroot"
    export PKG_CONFIG_ALLOW_CROSS=1 PKG_CONFIG_SYSROOT_DIR="$sysroot"
    export PKG_CONFIG_LIBDIR="$libraries/pkgconfig:$sysroot/usr/share/pkgconfig"
    run="qemu-aarch64-static -L $sysroot"
fi
# For the target's crates only, not for build scripts, because --target is given.
target_flags=CARGO_TARGET_$(echo "$target" | tr a-z- A-Z_)_RUSTFLAGS
export "$target_flags=$flags"
cargo auditable build --profile dist --locked --bin camfire --target "$target"
binary=$out/$target/dist/camfire

# Everything below build/deb is made anew.
rm -rf build/deb
mkdir -p build/deb
$run "$binary" generate build/deb
cargo metadata --format-version 1 --locked --filter-platform "$target" | python3 packaging/licences.py |
    gzip -9n > build/deb/third-party-licences.gz
gzip -9nc CHANGELOG.md > build/deb/CHANGELOG.md.gz
sed 's/^$/./; s/^/ /' LICENSE-MIT > build/deb/mit
sed -e '/^@MIT@$/{r build/deb/mit' -e 'd}' packaging/copyright > build/deb/copyright
rm build/deb/mit
cargo_version=$(cargo pkgid --locked | sed 's/.*[#@]//')
cat > build/deb/changelog << END
camfire (${version:-$cargo_version-1}) unstable; urgency=medium

  * Version $cargo_version. Its changes are in CHANGELOG.md.gz.

 -- The camfire authors <camfire@users.noreply.github.com>  $(date -uRd "@$SOURCE_DATE_EPOCH")
END

mkdir -p build/packages
set -- --no-build --profile dist --locked --target "$target" --output build/packages
[ "$architecture" = amd64 ] || set -- "$@" --variant "$architecture"
[ -z "$version" ] || set -- "$@" --deb-version "$version"
package=$(cargo deb "$@" | tail -n 1)
[ -f "$package" ] || fail "cargo deb wrote no package"

packaging/check-deb.sh "$package" >&2
echo "$package"
