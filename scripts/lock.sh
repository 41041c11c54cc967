#!/bin/sh
# Renews locks/: what every set-up installs, pinned with hashes for all supported Pythons and systems.
#
#   scripts/lock.sh PYTHON [--keep]       PYTHON is one that has uv; --keep changes only what pyproject.toml calls for
#
# No lock names a package index: pip asks the one that it is configured with. torch and its CUDA packages are in none of
# them, because which build is right depends on the machine: scripts/install_torch.py takes the one in locks/torch.txt.
set -eu
cd "$(dirname "$0")/.."
python=$1
renew=--upgrade
if [ "${2-}" = --keep ]; then renew=; fi

cuda="triton cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cupti nvidia-cuda-nvrtc
    nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver nvidia-cusparse
    nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx"
left_out=$(for name in torch $cuda; do printf -- '--no-emit-package %s ' "$name"; done)

# compile NAME TITLE INPUT...: locks/NAME.txt from uv's arguments INPUT...
compile() {
    name=$1 title=$2
    shift 2
    echo "==> locks/$name.txt: $title"
    body=$(mktemp)
    trap 'rm -f "$body"' EXIT
    # uv keeps the pins of the file that it is to write. shellcheck disable=SC2086
    if [ -z "$renew" ] && [ -f "locks/$name.txt" ]; then cp "locks/$name.txt" "$body"; fi
    "$python" -m uv --no-config pip compile --quiet --universal --generate-hashes --no-header \
        --custom-compile-command "make lock" --constraint locks/torch.txt $renew $left_out \
        --output-file "$body" "$@" >/dev/null
    {
        echo "# $title."
        echo "# Made by 'make lock' from pyproject.toml; install with: pip install --no-deps --require-hashes -r locks/$name.txt"
        cat "$body"
    } >"locks/$name.txt.new"
    chmod 644 "locks/$name.txt.new"
    mv "locks/$name.txt.new" "locks/$name.txt"
    rm -f "$body"
}

extras="--extra notebook --extra transformers --extra demo --extra otel --extra test --extra docs"
# shellcheck disable=SC2086
compile dev "what demo, lab, tests, benchmarks and the documentation run with" \
    --python-version 3.11 $extras pyproject.toml locks/build.in
compile core "nbcompose alone, as an exported script has it" \
    --python-version 3.11 --constraint locks/dev.txt pyproject.toml locks/build.in
compile hub "a JupyterHub whose users have nbcompose, for make hub" \
    --python-version 3.11 --constraint locks/dev.txt --extra notebook --extra jupyter \
    pyproject.toml locks/build.in locks/hub.in
# shellcheck disable=SC2086
compile oldest "the lowest versions that pyproject.toml admits, for Python 3.11" \
    --python-version 3.11 --resolution lowest-direct $extras pyproject.toml locks/build.in
# Not all of locks/dev.txt: the peers have needs of their own (BentoML pins an older OpenTelemetry).
ours=locks/ours.txt.new # its name stands in the two locks: the same one each time
grep -E '^(numpy|transformers|tokenizers|huggingface-hub|safetensors)==' locks/dev.txt | sed 's/ \\$//' >"$ours"
compile bentoml "the peer BentoML, with our torch, transformers and numpy" \
    --python-version 3.11 --constraint "$ours" benchmarks/peers/bentoml.in
compile ray "the peer Ray Serve, with our torch, transformers and numpy" \
    --python-version 3.11 --constraint "$ours" benchmarks/peers/ray.in
rm -f "$ours"
