#!/bin/sh
# The engine's tests on aarch64, under emulation: cross-built with Debian's Rust, run by qemu with every instruction that
# the kernels ask for. Installs what is missing, and says so; where that cannot be had, says that and tests nothing.
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
    command -v apt-get > /dev/null || skip "no apt-get to install a cross compiler and qemu with"
    [ "$(dpkg --print-architecture)" = amd64 ] || skip "this is no amd64 machine to cross-build on"
    sudo=""
    [ "$(id -u)" = 0 ] || sudo="sudo"
    echo "installing what the tests on aarch64 need: rustc-web, its library for arm64, gcc-aarch64-linux-gnu, qemu-user-static"
    $sudo dpkg --add-architecture arm64
    $sudo apt-get update -qq || skip "apt-get update failed"
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        rustc-web libstd-rust-web-dev:arm64 gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static > /dev/null ||
        skip "apt-get install failed"
    have || skip "Debian's Rust for arm64 is not where it should be"
fi

. "$(dirname "$0")/aarch64-env.sh"
# A kernel that is not executed is a failure here.
export ENGINE_REQUIRE=neon,dotprod,i8mm
cargo test -p camfire-engine --no-default-features --locked --target "$target" --target-dir target/aarch64 --lib --tests "$@"
