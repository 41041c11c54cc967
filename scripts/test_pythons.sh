#!/bin/sh
# Runs the unit tests under each Python that is at hand, from the lock, each in an environment of its own without torch.
#
#   scripts/test_pythons.sh [NAME ...]     NAME as for scripts/find_pythons.py; several are wanted, or "others"
set -eu
cd "$(dirname "$0")/.."
pythons=$("${PY:-.venv/bin/python}" scripts/find_pythons.py "$@")
count=$(printf '%s\n' "$pythons" | grep -c . || true)
if [ "$count" -lt 2 ] && [ "$*" != others ]; then
    echo "Only this was found, and that tells nothing about the others: ${pythons:-no Python at all}." >&2
    echo "Install another (pyenv install 3.13, uv python install 3.13), or name them: make test-pythons PYTHONS='3.12 /path/to/python3.13'" >&2
    exit 1
fi
failed=
while read -r version python; do
    echo "==> Python $version ($python)"
    if ! "${MAKE:-make}" --no-print-directory unit VENV=".venv-$version" PYTHON="$python" TORCH=none </dev/null; then
        failed="$failed $version"
    fi
done <<END
$pythons
END
if [ -n "$failed" ]; then
    echo "==> failed under Python$failed" >&2
    exit 1
fi
echo "==> passed under Python $(printf '%s\n' "$pythons" | cut -d' ' -f1 | paste -sd' ' | sed 's/ /, /g')"
