"""`nbcompose serve --reload`: what a saved file does to the services that run."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.conftest import wait_for_end
from tests.patience import PATIENCE, wait_until
from tests.serve_process import Served, run, serving

APP = """
import os
import threading
import time

from helpers import shout
from nbcompose import api, depends, service

calls = 0
guard = threading.Lock()


class Style:
    mark = "!"


def count() -> int:
    global calls
    calls += 1
    return calls


@service
class Writer:
    def __init__(self) -> None:
        self.made = time.time_ns()
        self.style = Style()

    @api
    def write(self, text: str) -> str:
        with guard:
            return shout(text) + self.style.mark

    @api
    def state(self) -> dict:
        return {
            "pid": os.getpid(), "made": self.made, "calls": count(), "styled": isinstance(self.style, Style),
        }


@service
class Front:
    writer = depends(Writer)

    @api
    def ask(self, text: str) -> str:
        return self.writer.write(text)

    @api
    def state(self) -> dict:
        return self.writer.state()

    @api
    def pid(self) -> int:
        return os.getpid()
"""

HELPERS = "def shout(text):\n    return text.upper()\n"

SWAPPED = "code swapped, weights kept: "


class App:
    """The files in `folder`, served."""

    def __init__(self, folder: Path, served: Served) -> None:
        self.folder = folder
        self.served = served

    def edit(self, *changes: tuple[str, str], file: str = "app.py") -> None:
        """Replace texts by others, in one save."""
        path = self.folder / file
        text = path.read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path.write_text(text)

    def call(self, api: str, **arguments: Any) -> Any:
        answer = httpx.post(f"{self.served.url}/{api}", json=arguments, timeout=PATIENCE)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def until(self, text: str) -> str:
        return self.served.read_until(text)


@contextmanager
def reloading(folder: Path, *arguments: str, target: str = "app.py", app: str = APP) -> Iterator[App]:
    (folder / "app.py").write_text(app)
    (folder / "helpers.py").write_text(HELPERS)
    with serving(target, "--reload", "--port", "0", *arguments, cwd=folder) as served:
        yield App(folder, served)
        replicas = psutil.Process(served.process.pid).children(recursive=True)
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(PATIENCE) == 0, "\n".join(served.rest())
    for replica in replicas:
        wait_for_end(replica.pid)


pytestmark = pytest.mark.system


@pytest.mark.parametrize("target", ["app.py", "app:Front"])
def test_a_method_is_swapped_and_everything_else_stays(tmp_path: Path, target: str) -> None:
    with reloading(tmp_path, target=target) as app:
        assert app.call("ask", text="hi") == "HI!"
        before, front = app.call("state"), app.call("pid")

        app.edit(("+ self.style.mark", '+ "?"'))
        assert app.until("Writer: ") == f"Writer: {SWAPPED}Writer.write changed"
        assert app.call("ask", text="hi") == "HI?"
        app.edit(('+ "?"', '+ "." + self.style.mark'))
        assert app.until("Writer: ") == f"Writer: {SWAPPED}Writer.write changed"
        assert app.call("ask", text="hi") == "HI.!"

        # The instance, the module's own variables, the class that the instance has one of.
        assert app.call("state") == {**before, "calls": before["calls"] + 1, "styled": True}
        assert app.call("pid") == front


def test_tracebacks_show_the_lines_that_run(tmp_path: Path) -> None:
    """Before a swap, after it, and while the file cannot be loaded."""
    fails = "return list(self.each(text))\n\n    def each(self, text):\n        yield text[99]"
    with reloading(tmp_path, app=APP.replace("return shout(text) + self.style.mark", fails)) as app:
        assert _logged_frames(app) == [("write", "return list(self.each(text))"), ("each", "yield text[99]")]
        app.edit(("yield text[99]", "first = 100\n        yield text[first]"))
        app.until(f"Writer: {SWAPPED}Writer.each changed")
        swapped = [("write", "return list(self.each(text))"), ("each", "yield text[first]")]
        assert _logged_frames(app) == swapped
        app.edit(("class Style", "class ((\n\n\nclass Style"))
        app.until("SyntaxError")
        assert _logged_frames(app) == swapped


def _logged_frames(app: App) -> list[tuple[str, str]]:
    """What Front's log tells of Writer's side of its last failure: functions, and their lines."""
    answer = httpx.post(f"{app.served.url}/ask", json={"text": "hi"})
    error = answer.json()["error"]["id"]
    _until_logged(app, "Front", error)
    log = run("logs", "Front", "--pid", str(app.served.process.pid)).stdout.partition(error)[2]
    log = "\n".join(line.partition(" | ")[2] for line in log.splitlines())
    told = log.partition("\nWriter.write\n")[2].partition("\n\n")[0]
    frames = re.findall(r'File "(.+)", line \d+, in (\w+)\n *(.+)', told)
    assert {file for file, _, _ in frames} == {str(app.folder / "app.py")}, log
    return [(function, line) for _, function, line in frames]


def test_what_makes_the_instance_is_a_replacement(tmp_path: Path) -> None:
    with reloading(tmp_path) as app:
        before, front = app.call("state"), app.call("pid")
        app.edit(("self.made = time.time_ns()", "self.made = -time.time_ns()"))
        assert app.until("Writer: ") == "Writer: replaced: Writer.__init__ changed"
        after = app.call("state")
        assert after["made"] < 0
        assert after["calls"] == 1
        assert after["pid"] != before["pid"]
        assert app.call("pid") == front

        app.edit(('mark = "!"', 'mark = "!!"'))
        assert app.until("Writer: ") == "Writer: replaced: class Style changed, which Writer.__init__ uses"
        assert app.call("ask", text="hi") == "HI!!"
        app.edit(("shout(text)", "shout(text[::-1])"))  # and what was imported by then is what a swap builds on
        assert app.until("Writer: ") == f"Writer: {SWAPPED}Writer.write changed"
        assert app.call("ask", text="hi") == "IH!!"


def test_what_the_module_does_when_it_is_imported_is_a_replacement(tmp_path: Path) -> None:
    with reloading(tmp_path) as app:
        pid = app.call("pid")
        app.edit(("calls = 0\n", 'calls = 0\nos.environ["MARK"] = "set"\n'))
        app.until("Front: replaced: module app's own statements changed")
        assert app.call("pid") != pid


def test_another_module_of_the_users_counts_as_a_whole(tmp_path: Path) -> None:
    with reloading(tmp_path) as app:
        before = app.call("state")
        app.edit(("upper", "title"), file="helpers.py")
        app.until("Front: replaced: module helpers changed")  # its module imports it too
        wait_until(lambda: app.call("ask", text="hi") == "Hi!", "Writer has the new code")  # replaced beside Front
        assert app.call("state")["pid"] != before["pid"]
        (tmp_path / "more.py").write_text("def end(text):\n    return text + '…'\n")
        app.edit(
            ("from helpers import shout", "from helpers import shout\nfrom more import end"),
            ("shout(text)", "end(shout(text))"),
        )
        app.until("Writer: replaced: module more is new")
        assert app.call("ask", text="hi") == "Hi…!"


def test_a_broken_file_leaves_the_version_before_and_is_mended(tmp_path: Path) -> None:
    with reloading(tmp_path) as app:
        pid, writer = str(app.served.process.pid), app.call("state")["pid"]
        app.edit(("def ask(", "def ask(("))
        app.until("app.py could not be loaded, the versions before serve on:")
        assert "app.py" in app.until("File ")
        app.until("SyntaxError")
        assert app.call("ask", text="hi") == "HI!"
        assert "previous version" in _ps(pid)

        os.kill(writer, signal.SIGKILL)  # what starts again is the version that served, not what is in the file
        app.until("Writer: ready")
        assert app.call("ask", text="hi") == "HI!"
        assert app.call("state")["pid"] != writer

        app.edit(("def ask((", "def ask("))
        app.until("nothing has changed")
        assert "previous" not in _ps(pid)
        app.edit(("return self.writer.write(text)", "return self.writer.write(text) * 2"))
        assert app.until("Front: ") == f"Front: {SWAPPED}Front.ask changed"
        assert app.call("ask", text="hi") == "HI!HI!"


def _ps(pid: str) -> str:
    return "\n".join(row for row in run("ps").stdout.splitlines() if row.startswith(pid))


def test_a_module_that_is_missing_is_waited_for(tmp_path: Path) -> None:
    with reloading(tmp_path) as app:
        app.edit(("from helpers import shout", "from parts.loud import shout"))
        app.until("ModuleNotFoundError: No module named 'parts'")
        made = tmp_path / "elsewhere"
        made.mkdir()
        (made / "loud.py").write_text("def shout(text):\n    return text + text\n")
        made.rename(tmp_path / "parts")
        app.edit(("calls = 0", "calls = 1"))
        app.until("Writer: replaced")
        assert app.call("ask", text="hi") == "hihi!"


def test_an_init_that_raises_leaves_the_version_before(tmp_path: Path) -> None:
    with reloading(tmp_path) as app:
        before = app.call("state")
        app.edit(("self.made = time", "self.made = 1 / 0 or time"))
        app.until("Writer: could not be replaced, the version before serves on: Writer could not start (__init__)")
        app.until("ZeroDivisionError")
        assert app.call("state") == {**before, "calls": 2}


def test_a_service_that_never_came_up_is_mended(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP.replace("self.made = time", "self.made = 1 / 0 or time"))
    (tmp_path / "helpers.py").write_text(HELPERS)
    with serving("app.py", "--reload", "--port", "0", cwd=tmp_path, wait=False) as served:
        app = App(tmp_path, served)
        app.until("Writer: could not start")
        app.edit(("1 / 0 or ", ""))
        served.url = app.until("Front answers at").split()[3]
        assert app.call("ask", text="hi") == "HI!"


def test_a_service_comes_and_goes(tmp_path: Path) -> None:
    with reloading(tmp_path) as app:
        pid = app.call("pid")
        more = (
            "@service\nclass Ender:\n    @api\n    def end(self, text: str) -> str:\n        return text + 'end'\n\n\n"
        )
        app.edit(
            ("@service\nclass Front:\n", f"{more}@service\nclass Front:\n    ender = depends(Ender)\n"),
            ("return self.writer.write(text)", "return self.ender.end(text)"),
        )
        app.until("Front: replaced")
        assert app.call("ask", text="hi") == "hiend"
        assert app.call("pid") != pid

        app.edit(("    ender = depends(Ender)\n", ""), ("self.ender.end(text)", "self.writer.write(text)"))
        app.until("Ender: removed, since it is no more in app.py")
        assert app.call("ask", text="hi") == "HI!"


def test_another_entry_answers_at_the_same_port(tmp_path: Path) -> None:
    with reloading(tmp_path) as app:
        app.edit(("class Front:", "class Face:"))
        app.until("Face: ready")
        assert app.call("ask", text="hi") == "HI!"
        app.edit(("return self.writer.write(text)", "return self.writer.write(text) * 2"))
        assert app.until("Face: ") == f"Face: {SWAPPED}Face.ask changed"


def test_a_signature_is_new_over_http_and_in_its_description(tmp_path: Path) -> None:
    with reloading(tmp_path) as app:
        pid = app.call("pid")
        app.edit(
            ("def ask(self, text: str) -> str:", "def ask(self, text: str, times: int = 2) -> str:"),
            ("return self.writer.write(text)", "return self.writer.write(text) * times"),
        )
        app.until("Front: code swapped")
        assert app.call("ask", text="a", times=3) == "A!A!A!"
        assert "times" in httpx.get(f"{app.served.url}/openapi.json").text
        assert app.call("pid") == pid


def test_an_api_and_its_caller_change_together(tmp_path: Path) -> None:
    with reloading(tmp_path) as app:
        before = app.call("state")
        text = (tmp_path / "app.py").read_text()
        (tmp_path / "app.py").write_text(text.replace("def write(", "def compose(").replace(".write(", ".compose("))
        app.until("Writer: code swapped")
        assert app.call("ask", text="hi") == "HI!"
        assert app.call("state")["pid"] == before["pid"]


def test_an_api_that_a_caller_needs_stays(tmp_path: Path) -> None:
    with reloading(tmp_path) as app:
        app.edit(("def write(", "def compose("))
        app.until("Writer: could not be replaced, the version before serves on: Front.ask calls self.writer.write")
        assert app.call("ask", text="hi") == "HI!"


def test_what_cannot_be_sent_is_a_replacement_that_says_so(tmp_path: Path) -> None:
    with reloading(tmp_path) as app:
        app.edit(("guard = threading.Lock()", "guard = threading.RLock()"))
        line = app.until("Writer: ")
        assert line.startswith(
            "Writer: replaced: guard changed, since Writer uses 'guard' (RLock), which cannot be sent"
        )
        app.edit((" + self.style.mark", ""))  # the new one is shared with the module from here on
        assert app.until("Writer: ") == f"Writer: {SWAPPED}Writer.write changed"
        assert app.call("ask", text="hi") == "HI"


def test_what_does_not_count_is_nothing(tmp_path: Path) -> None:
    with reloading(tmp_path) as app:
        before = app.call("state")
        path = tmp_path / "app.py"
        path.write_text(path.read_text())  # saved as it was: not a word
        path.write_text(path.read_text() + "\n# a remark\n")
        assert "changed" in app.until("")  # the next line
        assert app.served.lines[-1] == "nothing has changed"
        assert app.call("state") == {**before, "calls": 2}


def test_saves_in_quick_succession_and_by_rename(tmp_path: Path) -> None:
    with reloading(tmp_path) as app:
        before = app.call("state")
        path = tmp_path / "app.py"
        for number in range(10):
            new = tmp_path / "app.py.new"
            new.write_text(APP.replace("+ self.style.mark", f"+ '{number}'"))
            path.unlink()
            new.rename(path)
        while app.call("ask", text="hi") != "HI9":
            app.until("Writer: code swapped")
        assert app.call("state")["pid"] == before["pid"]


def test_a_save_while_a_replica_loads_takes_over(tmp_path: Path) -> None:
    with reloading(tmp_path) as app:
        before = app.call("state")
        app.edit(("self.style = Style()", 'print("waits", flush=True)\n        threading.Event().wait()'))
        _until_logged(app, "Writer", "waits")
        app.edit(('print("waits", flush=True)\n        threading.Event().wait()', "self.style = Style()"))
        app.until("Writer: the version that serves is what is wanted again")
        assert app.call("state") == {**before, "calls": 2}
        app.edit(("self.style = Style()", 'print("again", flush=True)\n        threading.Event().wait()'))
        _until_logged(app, "Writer", "again")  # and a signal ends it now, with its replica


def _until_logged(app: App, service: str, text: str) -> None:
    wait_until(lambda: text in run("logs", service, "--pid", str(app.served.process.pid)).stdout, f"{text!r} is logged")


def test_a_signal_ends_an_import_too(tmp_path: Path) -> None:
    with reloading(tmp_path) as app:
        app.edit(("calls = 0\n", 'print("importing", flush=True)\nthreading.Event().wait()\n'))
        app.until("importing")


def test_stop_first_makes_room_and_a_bad_version_gives_it_back(tmp_path: Path) -> None:
    with reloading(tmp_path, "--replace", "stop-first") as app:
        before = app.call("state")
        app.edit(
            ("self.made = time.time_ns()", f"self.made = int(psutil_exists({before['pid']}))"),
            ("calls = 0\n", "import psutil\npsutil_exists = psutil.pid_exists\ncalls = 0\n"),
        )
        app.until("Writer: replaced")
        assert app.call("state")["made"] == 0  # the old one had gone when the new one was made

        app.edit(("self.style = Style()", "self.style = 1 / 0"))
        app.until("Writer: could not be replaced, the version before serves on")
        assert app.call("ask", text="hi") == "HI!"
