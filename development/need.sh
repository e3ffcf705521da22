#!/bin/sh
# Checks the build requirements: a recent Rust, and the Debian packages given as arguments. Prints the missing
# packages and installs them.
set -eu

rust_required=1.95
if ! command -v cargo >/dev/null 2>&1 || ! command -v rustc >/dev/null 2>&1; then
    echo "camfire requires Rust $rust_required or newer, but cargo was not found on the PATH." >&2
    echo "Install Rust with https://rustup.rs (Debian's rustc is too old), then open a new shell." >&2
    exit 1
fi
rust_installed=$(rustc --version | cut -d ' ' -f 2)
lowest=$(printf '%s\n%s\n' "$rust_required" "$rust_installed" | sort -V | head -n 1)
if [ "$lowest" != "$rust_required" ]; then
    echo "camfire requires Rust $rust_required or newer; installed: $rust_installed. Run 'rustup update'." >&2
    exit 1
fi

if ! command -v dpkg-query >/dev/null 2>&1 || ! command -v apt-get >/dev/null 2>&1; then
    echo "apt-get was not found. Install the equivalents of these Debian packages with your package manager:" >&2
    echo "  $*" >&2
    echo "Then run 'cargo run --release -- demo' or 'cargo test --workspace' instead of make." >&2
    exit 1
fi

missing=
for package in "$@"; do
    status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

as_root=
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "These packages are missing and sudo was not found. Run as root:" >&2
        echo "  apt-get install --no-install-recommends$missing" >&2
        exit 1
    fi
    as_root=sudo
fi
echo "Installing Debian packages:$missing"
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq
# shellcheck disable=SC2086 # one word per package
$as_root apt-get install -y -qq --no-install-recommends $missing
