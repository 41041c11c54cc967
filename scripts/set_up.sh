#!/bin/sh
# Makes the virtual environment $1 with the project and everything that demo, tests and notebooks need.
#
# PYTHON names the interpreter to use. Without it, the first one below that is new enough is taken.
set -eu
cd "$(dirname "$0")/.."
venv=$1

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    echo "Python 3.11 or newer is needed, and none of these is: ${PYTHON:-python3 python3.13 python3.12 python3.11}." >&2
    echo "Install one, or name one: make PYTHON=/path/to/python3.12" >&2
    return 1
}

if ! new_enough "$venv/bin/python"; then
    python=$(find_python)
    echo "==> creating $venv with $python ($("$python" --version))"
    if ! "$python" -m venv --clear "$venv"; then
        echo "$python could not make a virtual environment. On Debian and Ubuntu: apt install python3-venv" >&2
        exit 1
    fi
fi

pip() {
    "$venv/bin/python" -m pip --disable-pip-version-check "$@"
}

# torch by itself and first: it is the large one, and every resolution after it then keeps that build.
echo "==> installing $(grep '^torch==' constraints.txt) (a large download the first time)"
pip install --constraint constraints.txt "$(grep '^torch==' constraints.txt)"
echo "==> installing nbcompose and what the notebooks, demo and tests need"
pip install --constraint constraints.txt --editable '.[notebook,transformers,demo,test]'
