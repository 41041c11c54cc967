"""scripts/trace_paths.py: paths of common operations get no longer, and docs/architecture.md shows them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="counted on Python 3.11"),
]

CHECKOUT = Path(__file__).resolve().parents[2]
# Functions and files, at most.
MOST = {
    "an async call between services, both ends": (50, 12),
    "an HTTP request": (51, 14),
    "the first run of a cell, its owner's side": (510, 69),
    "an export": (430, 57),
}
ROW = re.compile(r"^\| ([^|]+) \| (\d+) \| (\d+) \|$", re.MULTILINE)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> str:
    environment = os.environ | {"IPYTHONDIR": str(tmp_path_factory.mktemp("ipython"))}
    command = [sys.executable, str(CHECKOUT / "scripts" / "trace_paths.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_paths_get_no_longer(printed: str) -> None:
    found = {what: (int(functions), int(files)) for what, functions, files in ROW.findall(printed)}
    assert found.keys() == MOST.keys()
    longer = {
        what: counts for what, counts in found.items() if any(n > m for n, m in zip(counts, MOST[what], strict=True))
    }
    assert not longer, f"longer than {MOST}: {printed}"


def test_the_documented_table_has_the_same_rows(printed: str) -> None:
    documented = (CHECKOUT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = documented.partition("### How long the paths are\n")[2].partition("\n#")[0]
    assert [row[0] for row in ROW.findall(section)] == list(MOST)
    shown = {what: (int(functions), int(files)) for what, functions, files in ROW.findall(section)}
    for what, functions, files in ROW.findall(printed):
        assert abs(shown[what][0] - int(functions)) <= 0.1 * shown[what][0], what
        assert abs(shown[what][1] - int(files)) <= 5, what
