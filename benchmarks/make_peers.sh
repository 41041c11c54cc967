#!/usr/bin/env bash
# Creates the virtual environments of the peers, .venv-bentoml and .venv-ray, beside the project's own .venv.
# They get the same torch, transformers and numpy as ours, so that the four-model graph runs the same code.
# Quick when run again: a stamp in each environment holds what was asked for.
#
#   benchmarks/make_peers.sh [bentoml] [ray]        both without an argument
set -euo pipefail
cd "$(dirname "$0")/.."

ours=.venv/bin/python
if [[ ! -x $ours ]]; then
    echo "make_peers: there is no .venv yet; run 'make models' first (the peers copy its torch and transformers)" >&2
    exit 1
fi

mkdir -p build
shared=build/peers-shared.txt
"$ours" - > "$shared" <<'PYTHON'
from importlib.metadata import version

for package in ("torch", "transformers", "tokenizers", "safetensors", "numpy"):
    print(f"{package}=={version(package).split('+')[0]}")
PYTHON

peers=("$@")
[[ ${#peers[@]} -gt 0 ]] || peers=(bentoml ray)

for peer in "${peers[@]}"; do
    requirements=benchmarks/peers/requirements-$peer.txt
    if [[ ! -f $requirements ]]; then
        echo "make_peers: unknown peer '$peer'; known: bentoml, ray" >&2
        exit 1
    fi
    venv=.venv-$peer
    wanted=$(cat "$requirements" "$shared")
    if [[ -f $venv/.installed && $(cat "$venv/.installed") == "$wanted" ]]; then
        echo "make_peers: $venv is up to date"
        continue
    fi
    echo "make_peers: creating $venv ($(grep -v '^#' "$requirements" | tr '\n' ' '), torch and transformers as in .venv)"
    "$ours" -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$requirements" -r "$shared"
    printf '%s\n' "$wanted" > "$venv/.installed"
done
