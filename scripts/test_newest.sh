#!/bin/sh
# Runs everything against the newest versions that pyproject.toml admits, in .venv-newest, made afresh each time.
#
# A part that fails does not keep the others from running. At the end: what is newer than in the lock, and what failed.
set -eu
cd "$(dirname "$0")/.."
rm -rf .venv-newest
make=${MAKE:-make}
"$make" --no-print-directory .venv-newest/.installed VENV=.venv-newest LOCK=newest

failed=
for part in check unit system browser notebooks slow; do
    "$make" --no-print-directory "$part" VENV=.venv-newest LOCK=newest || failed="$failed $part"
done

echo "==> newer than in locks/dev.txt:"
.venv-newest/bin/python -m pip --disable-pip-version-check freeze --exclude-editable | sort >.venv-newest/versions.txt
sed -n 's/^\([a-z0-9.-]*==[^ ]*\).*/\1/p' locks/dev.txt | sort | comm -13 - .venv-newest/versions.txt | grep -v '^torch==' || echo "nothing"
if [ -n "$failed" ]; then
    echo "==> with the newest versions these parts failed:$failed" >&2
    exit 1
fi
echo "==> everything passed with the newest versions"
