#!/bin/sh
# Checks the JavaScript of the package: types, lint, format and the tests in frontend/. --fix formats it first. Also what
# pyright, which editors use and which runs on Node, makes of users' Python.
# Only who changes it needs Node; without one this checks nothing, and says so.
set -eu
cd "$(dirname "$0")/../frontend"

if ! command -v npm >/dev/null 2>&1 || ! node -e 'process.exit(Number(parseInt(process.versions.node) < 20))' 2>/dev/null; then
    echo "==> the front end is not checked: that needs Node 20 or newer, and npm, on PATH"
    exit 0
fi
if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
    echo "==> installing frontend/package-lock.json"
    npm ci --prefer-offline --no-audit --no-fund --loglevel=error || npm ci --no-audit --no-fund --loglevel=error
fi
if [ "${1:-}" = --fix ]; then npm run --silent format; fi
echo "==> tsc, biome and node --test"
npm run --silent check
npm run --silent lint
npm run --silent test
(
    cd ../labextension
    if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
        echo "==> installing labextension/package-lock.json"
        npm ci --prefer-offline --no-audit --no-fund --loglevel=error || npm ci --no-audit --no-fund --loglevel=error
    fi
    echo "==> the extension of JupyterLab: tsc and node --test"
    npm run --silent check
    npm run --silent test
)
python=${PYTHON:-../.venv/bin/python}
if [ -x "$python" ]; then
    echo "==> pyright: users' types"
    npm run --silent users -- --pythonpath "$python"
fi
