#!/bin/sh
# Runs the engine's tests for aarch64 under emulation: cross-compiled with Debian's Rust, run by qemu with all
# instruction set extensions that the kernels use. Installs missing packages with a notice. If they cannot be
# installed, prints a notice and exits without running the tests.
set -eu
target=aarch64-unknown-linux-gnu

have() {
    command -v aarch64-linux-gnu-gcc qemu-aarch64-static > /dev/null &&
        [ -x /usr/bin/rustc ] && [ -d "/usr/lib/rustlib/$target" ]
}

skip() {
    echo "SKIP aarch64: $1; the NEON, dotprod and i8mm kernels are NOT tested" >&2
    exit 0
}

if ! have; then
    command -v apt-get > /dev/null || skip "apt-get was not found, so the cross compiler and qemu cannot be installed"
    [ "$(dpkg --print-architecture)" = amd64 ] || skip "cross-compiling is supported on amd64 only"
    sudo=""
    [ "$(id -u)" = 0 ] || sudo="sudo"
    packages="rustc-web libstd-rust-web-dev:arm64 gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static"
    echo "Installing packages for the aarch64 tests: $packages"
    $sudo dpkg --add-architecture arm64
    $sudo apt-get update -qq || skip "apt-get update failed"
    # shellcheck disable=SC2086 # one word per package
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        $packages > /dev/null ||
        skip "apt-get install failed"
    have || skip "Debian's Rust for arm64 was not found after the installation"
fi

. "$(dirname "$0")/aarch64-env.sh"
# Fail if the tests skip one of these kernel sets.
export ENGINE_REQUIRE=neon,dotprod,i8mm
cargo test -p camfire-engine --no-default-features --locked --target "$target" --target-dir target/aarch64 --lib --tests "$@"
