#!/bin/sh
# Checks a built package: the libraries that the binary needs are known and in Depends, it runs with the glibc of
# Debian 12 and Ubuntu 22.04, it has the list of its crates and no path of the machine that built it, and the package
# is small enough. cargo-deb by itself would only warn that it found no dependencies.
set -eu
package=$1
max_glibc=2.35
max_bytes=$((15 * 1024 * 1024))

fail() {
    echo "check-deb: $package: $1" >&2
    exit 1
}

# Each library, and the package in Depends that brings it.
packages_of() {
    case $1 in
        libc.so.6 | libm.so.6 | ld-linux-*) echo libc6 ;;
        libgcc_s.so.1) echo libgcc-s1 ;;
        libglib-2.0.so.0 | libgobject-2.0.so.0) echo libglib2.0-0 ;;
        libgstreamer-1.0.so.0 | libgstbase-1.0.so.0) echo libgstreamer1.0-0 ;;
        libgstapp-1.0.so.0 | libgstvideo-1.0.so.0) echo libgstreamer-plugins-base1.0-0 ;;
        libssl.so.3 | libcrypto.so.3) echo libssl3 ;;
    esac
}

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
dpkg-deb -x "$package" "$folder"
binary=$folder/usr/bin/camfire
depends=$(dpkg-deb -f "$package" Depends)
for library in $(readelf -d "$binary" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'); do
    needed=$(packages_of "$library")
    [ -n "$needed" ] || fail "the binary needs $library, which is not in the list of known libraries"
    echo "$depends" | tr ',|' '\n\n' | grep -q "^ *$needed\( \|\$\)" || fail "needs $library, but $needed is not in Depends"
done
glibc=$(readelf -V "$binary" | grep -o 'GLIBC_[0-9.]*' | cut -d _ -f 2 | sort -Vu | tail -n 1)
[ "$(printf '%s\n%s\n' "$glibc" $max_glibc | sort -V | tail -n 1)" = $max_glibc ] ||
    fail "needs glibc $glibc; Ubuntu 22.04 has $max_glibc"
stated=$(echo "$depends" | grep -o 'libc6 (>= [0-9.]*' | grep -o '[0-9.]*$')
[ "$(printf '%s\n%s\n' "$glibc" "$stated" | sort -V | tail -n 1)" = "$stated" ] ||
    fail "needs glibc $glibc, but Depends has $stated"
readelf -S "$binary" | grep -q '\.dep-v0' || fail "the binary has no list of its crates (.dep-v0)"
for path in "$(cd "$(dirname "$0")/.." && pwd)" "$HOME/.cargo"; do
    ! grep -qaF "$path/" "$binary" || fail "the binary names $path"
done
bytes=$(stat -c %s "$package")
[ "$bytes" -lt $max_bytes ] || fail "has $bytes bytes, more than $max_bytes"
echo "$package: $bytes bytes, needs glibc $glibc"
echo "Depends: $depends"
