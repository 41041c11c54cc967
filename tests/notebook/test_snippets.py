"""Calls for outside the notebook, as they are printed and copied: each is pasted where it says, and answers there."""

from __future__ import annotations

import html
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbcompose._notebook import credentials
from nbcompose._service import javascript_call, script_example, terminal_example
from tests.notebook.conftest import Notebook, loaded

pytestmark = pytest.mark.system

SERVICES = """
%%service
class Shop:
    @api
    def price(self, item: str, counts: list[int]) -> dict:
        return {"item": item, "sum": sum(counts)}

    @api(route="/v1/one")
    def one(self, item: str, /) -> str:
        return f"one {item}"

    @api
    def words(self, n: int):
        yield from ["first", "second"]

    @api
    def file(self) -> bytes:
        return b"bytes"

class Named:
    @api
    def nothing(self) -> None: ...
"""
ANSWERS = {"price": '"?sum"?: ?1', "one": "[Oo]ne ...", "words": "first\\W+second", "file": "^$"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder := tmp_path_factory.mktemp("home")))
        yield folder


@pytest.fixture(scope="module")
def shop(home: Path) -> Iterator[Notebook]:
    with loaded("NBCOMPOSE_PRELOAD", "") as notebook:
        notebook.ok(SERVICES)
        yield notebook


def in_bash(code: str, folder: Path) -> str:
    return ran(["bash"], code, folder)


def in_python(code: str, folder: Path) -> str:
    return ran([sys.executable, "-I", "-"], code, folder)


def in_node(code: str, folder: Path) -> str:
    if shutil.which("node") is None:
        pytest.skip("no node")
    return ran(["node", "--input-type=module", "-"], code, folder)


def ran(program: list[str], code: str, folder: Path) -> str:
    done = subprocess.run(program, input=code, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("api", ANSWERS)
@pytest.mark.parametrize("place", ["terminal", "script", "javascript"])
def test_a_copy_answers_where_it_is_pasted(shop: Notebook, tmp_path: Path, place: Any, api: str) -> None:
    spec = shop.shell.user_ns["Shop"].spec.api(api)
    if place == "terminal":
        said = in_bash(terminal_example("Shop", spec), tmp_path)
    elif place == "script":
        said = in_python(script_example("Shop", spec), tmp_path).replace("'", '"')
    else:
        body = {"price": '{"item": "...", "counts": [1]}', "one": '"..."', "words": '{"n": 1}', "file": "{}"}[api]
        said = in_node(javascript_call("Shop", spec, body, saves=api == "file"), tmp_path)
    assert re.search(ANSWERS[api], said), said
    if api == "file":
        assert (tmp_path / "answer").read_bytes() == b"bytes"


def test_what_the_card_shows_is_pasted_as_it_is(shop: Notebook, tmp_path: Path) -> None:
    ran = shop.ok(SERVICES.replace('f"one {item}"', 'f"One {item}"'))
    terminal, script = re.findall(r"<pre[^>]*>((?:curl|#).*?)</pre>", ran.html, re.DOTALL)[:2]
    assert "in a terminal" in ran.html
    assert script.startswith("# in a Python script")
    assert '"sum":1' in in_bash(html.unescape(terminal), tmp_path)
    assert "'sum': 1" in in_python(html.unescape(script), tmp_path)
    line = next(line for line in ran.plain.splitlines() if "in a terminal: " in line)
    assert '"sum":1' in in_bash(line.partition("in a terminal: ")[2], tmp_path)
    token = shop.shell.user_ns["Shop"].token
    assert token not in ran.plain + ran.html


def test_the_files_are_private_and_go_with_the_service(shop: Notebook, home: Path) -> None:
    folder = credentials.folder() / "Named"
    assert folder.is_relative_to(home)
    assert stat.S_IMODE(folder.parent.stat().st_mode) == stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {f.name: stat.S_IMODE(f.stat().st_mode) for f in folder.iterdir()} == dict.fromkeys(
        ("url", "token", "header", "pid"), 0o600
    )
    named = shop.shell.user_ns["Named"]
    assert (folder / "url").read_text() == named.url
    assert (folder / "token").read_text() == named.token
    shop.ok("%services stop Named")
    assert not folder.exists()
    assert (credentials.folder() / "Shop").exists()


OTHER = """
import sys
from nbcompose._notebook import credentials
print(credentials.store("Twice", "http://127.0.0.1:2", "other"), flush=True)
for line in sys.stdin:
    credentials.remove("Twice")
    print("removed", flush=True)
"""


@pytest.fixture
def other(home: Path) -> Iterator[subprocess.Popen[str]]:
    """Another kernel, which starts a service of the same name."""
    with subprocess.Popen([sys.executable, "-c", OTHER], stdin=-1, stdout=-1, text=True) as process:
        yield process
        process.kill()
    credentials.sweep()


def reached() -> str:
    return (credentials.folder() / "Twice" / "url").read_text()


def left(service: str) -> list[str]:
    return [path.name for path in credentials.folder().iterdir() if service in path.name]


def test_of_two_kernels_the_one_that_started_the_service_last_is_reached(
    home: Path, other: subprocess.Popen[str]
) -> None:
    assert other.stdin is not None
    assert other.stdout is not None
    assert other.stdout.readline() == "False\n"
    assert credentials.store("Twice", "http://127.0.0.1:1", "first")  # there is another one
    assert credentials.store("Twice", "http://127.0.0.1:3", "again")
    assert reached() == "http://127.0.0.1:3"
    credentials.remove("Twice")
    assert reached() == "http://127.0.0.1:2"
    credentials.remove("Twice")  # it is not this one's
    assert reached() == "http://127.0.0.1:2"
    assert credentials.store("Twice", "http://127.0.0.1:4", "more")
    print(file=other.stdin, flush=True)
    assert other.stdout.readline() == "removed\n"
    assert reached() == "http://127.0.0.1:4"
    assert not credentials.store("Twice", "http://127.0.0.1:4", "more")
    credentials.remove("Twice")
    assert left("Twice") == []


def test_the_files_of_a_kernel_that_was_killed_go_with_the_next_one(home: Path, other: subprocess.Popen[str]) -> None:
    credentials.store("Twice", "http://127.0.0.1:1", "t")
    assert other.stdout is not None
    assert other.stdout.readline() == "True\n"
    old = credentials.folder() / "Old"  # as earlier versions had it
    old.mkdir()
    (old / "pid").write_text(str(other.pid))
    credentials.sweep()
    assert reached() == "http://127.0.0.1:2"
    other.kill()
    other.wait()
    credentials.sweep()
    assert reached() == "http://127.0.0.1:1"
    assert not old.exists()
    credentials.remove("Twice")
    assert left("Twice") == []


def test_a_card_says_that_another_notebook_runs_a_service_of_that_name(
    shop: Notebook, other: subprocess.Popen[str]
) -> None:
    assert other.stdout is not None
    other.stdout.readline()
    twice = "%%service\nclass Twice:\n    @api\n    def f(self) -> int: return 1"
    assert "note: another notebook runs a service Twice too: while both run" in shop.ok(twice).plain
    shop.ok("%services stop Twice")
    assert reached() == "http://127.0.0.1:2"


def test_nothing_is_written_where_others_could_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    credentials.folder().mkdir(parents=True)
    os.chmod(credentials.folder(), 0o755)
    credentials.store("Shop", "http://127.0.0.1:1", "secret")
    assert list(credentials.folder().iterdir()) == []
    assert "is open to others: remove it" in caplog.text
    assert "secret" not in caplog.text
