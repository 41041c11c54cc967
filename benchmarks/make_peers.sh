#!/bin/sh
# Creates the virtual environments of the peers, .venv-bentoml and .venv-ray, beside the project's own .venv, from their
# locks. They have the same torch, transformers and numpy as ours, so that the four-model graph runs the same code.
# Quick when run again: a stamp in each environment holds the lock that it was made from.
#
#   benchmarks/make_peers.sh [bentoml] [ray]        both without an argument
set -eu
cd "$(dirname "$0")/.."

if [ $# -eq 0 ]; then set -- bentoml ray; fi
for peer in "$@"; do
    if [ ! -f "benchmarks/peers/$peer.in" ]; then
        echo "make_peers: unknown peer '$peer'; known: bentoml, ray" >&2
        exit 2
    fi
    stamp=.venv-$peer/.installed
    if [ -f "$stamp" ] && cat "locks/$peer.txt" locks/torch.txt | cmp -s - "$stamp"; then
        echo "make_peers: .venv-$peer is up to date"
        continue
    fi
    PYTHON=${PYTHON:-.venv/bin/python} scripts/set_up.sh ".venv-$peer" "$peer"
    cat "locks/$peer.txt" locks/torch.txt >"$stamp"
done
