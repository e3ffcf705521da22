#!/bin/sh
# Unpacks the arm64 libraries that camfire is linked with into the folder $1: those of Debian 12, the oldest system
# that the package is for. They are not installed, because the development packages of two architectures exclude
# each other. apt works in private folders here, so the machine's own package lists stay as they are.
set -eu
sysroot=$1
packages="libc6-dev libgcc-12-dev libssl-dev libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev"
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}

# The last line of this script marks the folder as complete.
if [ "$(cat "$sysroot/complete" 2> /dev/null)" = "$packages" ]; then
    exit 0
fi
rm -rf "$sysroot"
apt=$sysroot/apt
mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$apt/parts"
: > "$apt/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bookworm main" > "$apt/sources.list"
private_apt() {
    apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Install-Recommends=false \
        -o APT::Sandbox::User=root -o Acquire::Languages=none \
        -o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts="$apt/parts" \
        -o Dir::Etc::PreferencesParts="$apt/parts" -o Dir::State="$apt" -o Dir::State::Lists="$apt/lists" \
        -o Dir::State::Status="$apt/status" -o Dir::Cache="$apt" -o Dir::Cache::Archives="$apt/archives" "$@"
}
private_apt update
# shellcheck disable=SC2086 # one word per package
private_apt install --download-only -y $packages
for package in "$apt"/archives/*.deb; do
    dpkg -x "$package" "$sysroot"
done
rm -r "$apt"
echo "$packages" > "$sysroot/complete"
