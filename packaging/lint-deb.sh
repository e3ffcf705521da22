#!/bin/sh
# Checks the packages given, or those of this version, with lintian. Errors and warnings fail; what is
# overridden has its reason in packaging/lintian-overrides.
set -eu
cd "$(dirname "$0")/.."
if [ $# = 0 ]; then
    version=$(cargo pkgid --locked | sed 's/.*[#@]//')-1
    set -- "build/packages/camfire_${version}_amd64.deb" "build/packages/camfire_${version}_arm64.deb"
fi
lintian --allow-root --fail-on error,warning --no-tag-display-limit "$@"
echo "lintian: no errors and no warnings in $*"
