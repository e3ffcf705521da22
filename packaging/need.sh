#!/bin/sh
# Makes sure that this machine can build camfire: a recent Rust, and the Debian packages named as arguments. Installs the
# packages that are missing, and says so before it does.
set -eu

rust_wanted=1.95
if ! command -v cargo >/dev/null 2>&1 || ! command -v rustc >/dev/null 2>&1; then
    echo "camfire needs Rust $rust_wanted or newer, and there is no cargo on the path." >&2
    echo "Install it as https://rustup.rs says (Debian's own rustc is too old), then open a new shell." >&2
    exit 1
fi
rust_found=$(rustc --version | cut -d ' ' -f 2)
oldest=$(printf '%s\n%s\n' "$rust_wanted" "$rust_found" | sort -V | head -n 1)
if [ "$oldest" != "$rust_wanted" ]; then
    echo "camfire needs Rust $rust_wanted or newer; this is $rust_found. 'rustup update' brings a newer one." >&2
    exit 1
fi

if ! command -v dpkg-query >/dev/null 2>&1 || ! command -v apt-get >/dev/null 2>&1; then
    echo "This machine has no apt-get. Install what these Debian packages hold in your system's way:" >&2
    echo "  $*" >&2
    echo "Then 'cargo run --release -- demo' and 'cargo test --workspace' do what make would." >&2
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
        echo "These packages are missing, and there is no sudo to install them. As root:" >&2
        echo "  apt-get install --no-install-recommends$missing" >&2
        exit 1
    fi
    as_root=sudo
fi
echo "Installing Debian packages:$missing"
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq
# shellcheck disable=SC2086 # one word a package
$as_root apt-get install -y -qq --no-install-recommends $missing
