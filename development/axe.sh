#!/bin/sh
# Puts axe-core, the accessibility checker of the browser tests, into target/axe/VERSION/axe.min.js and prints the path.
# It is not a Debian package. PyPI's axe-playwright-python brings it; only that file is used.
set -eu

version=0.1.8
sha256=84494fec757e4710dc751c8d7a636e457f4532f08f85c86dc9070133fbff53bc
cd "$(dirname "$0")/.."
folder=target/axe/$version
script=$folder/axe.min.js
if [ ! -f "$script" ]; then
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --dest "$folder" "axe-playwright-python==$version"
    python3 - "$folder"/*.whl "$folder/unchecked.js" <<'PYTHON'
import sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel, open(sys.argv[2], "wb") as script:
    script.write(wheel.read("axe_playwright_python/axe.min.js"))
PYTHON
    echo "$sha256  $folder/unchecked.js" | sha256sum --check --quiet
    mv "$folder/unchecked.js" "$script"
fi
echo "$PWD/$script"
