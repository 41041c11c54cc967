#!/bin/sh
# Makes the virtual environment $1 with the project and everything that demo, tests, notebooks and documentation need.
#
#   scripts/set_up.sh VENV [LOCK]     LOCK is dev (the default), core, oldest, hub, bentoml or ray: locks/LOCK.txt; or
#                                     newest: no lock at all. The peers get no nbcompose, core and hub get no torch, and
#                                     hub gets the proxy of JupyterHub, too, which runs on Node.
#
# PYTHON names the interpreter to use. Without it, the first one below that is new enough is taken.
# The first environment, .venv, has uv, which installs the others' locks in seconds; where it cannot, pip does.
# TORCH says which torch: see scripts/install_torch.py.
set -eu
cd "$(dirname "$0")/.."
venv=$1
lock=${2:-dev}

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

# The lock, with uv where there is one: pip takes a minute or more of a CPU for it. uv asks the index that pip is configured
# with; what else pip knows (other places to look at, certificates) it does not, and then it is pip's turn.
lock_by_uv() {
    uv=.venv/bin/uv
    [ "$venv" != .venv ] && [ -x "$uv" ] || return 1
    index=${PIP_INDEX_URL:-$(pip config list | sed -n "s/^[a-z:]*\\.index-url='\\(.*\\)'\$/\\1/p" | tail -n 1)}
    UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-${index:-https://pypi.org/simple}} "$uv" --no-config --quiet pip install \
        --python "$venv/bin/python" --no-deps --require-hashes --requirement "locks/$lock.txt"
}

# Three calls: pip wants hashes for all that one call installs or for nothing, and neither torch, whose build depends on
# the machine, nor the project itself has one.
if [ "$lock" = newest ]; then
    echo "==> installing the newest of what pyproject.toml admits into $venv (no lock)"
    pip install --quiet packaging
    "$venv/bin/python" scripts/install_torch.py
    # Without a torch, what depends on one would bring a CUDA build. (It cannot be imported yet: it has come alone.)
    extras=notebook,demo,otel,test,docs
    if pip show --quiet torch 2>/dev/null; then extras=$extras,transformers; fi
    pip install --quiet --upgrade --constraint locks/torch.txt --editable ".[$extras]"
else
    echo "==> installing locks/$lock.txt into $venv (a minute or two the first time)"
    lock_by_uv || pip install --quiet --no-deps --require-hashes --requirement "locks/$lock.txt"
    case $lock in core | hub) ;; *) "$venv/bin/python" scripts/install_torch.py ;; esac
fi
case $lock in dev | core | oldest | hub)
    echo "==> installing nbcompose into $venv"
    pip install --quiet --no-deps --no-build-isolation --editable .
    ;;
esac
case $lock in dev | oldest | newest | hub) scripts/build_labextension.sh "$venv" ;; esac
if [ "$lock" = hub ]; then scripts/install_hub_proxy.sh "$venv"; fi
