#!/bin/sh
# Installs Chromium for the browser tests, where apt-get can. Without one those tests are skipped, and say so.
set -eu

for name in chromium chromium-browser google-chrome google-chrome-stable; do
    if command -v "$name" >/dev/null 2>&1; then
        exit 0
    fi
done
if [ "$(id -u)" = 0 ]; then
    as_root=
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root=sudo
else
    exit 0
fi
if command -v apt-get >/dev/null 2>&1; then
    echo "==> installing Chromium for the browser tests (apt-get install chromium)"
    # What cannot be installed is said by the tests, which know whether they may be skipped.
    { $as_root apt-get update -qq && $as_root apt-get install -qq -y --no-install-recommends chromium fonts-dejavu-core; } >/dev/null || true
fi
