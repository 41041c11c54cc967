"""Running a cell again, in a real IPython shell with real replicas: what is kept, what is not, and what goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import alive, wait_for_end
from tests.patience import PATIENCE

pytestmark = pytest.mark.system

Notebook = Any  # of conftest.py

WRITER = """
%%service
class Writer:
    def __init__(self):
        self.weights = self._load()

    def _load(self):
        import os, time
        return [os.getpid(), time.perf_counter()]

    @api
    def write(self, text: str) -> list:
        return [text, *self.weights]
"""

FRONT = """
%%service
class Front:
    writer = depends("Writer")
    @api
    def ask(self, text: str) -> list:
        return self.writer.write(text)
"""


def edited(cell: str, *edits: tuple[str, str]) -> str:
    for old, new in edits:
        assert old in cell
        cell = cell.replace(old, new, 1)
    return cell


def pid_of(notebook: Notebook, name: str = "Writer") -> int:
    pid = notebook.shell.meta["nbcompose"].registry.status(name).replicas[0].pid
    assert isinstance(pid, int)
    return pid


def row(notebook: Notebook, name: str = "Writer") -> str:
    """The state of a service in `%services`."""
    return str(next(r[1] for r in notebook.ok("%services").result.rows if r[0] == name))


@pytest.fixture
def writer(clean: Notebook) -> Notebook:
    clean.ok(WRITER)
    return clean


# -- a method: new code, old weights


def test_a_changed_method_is_swapped_and_the_weights_are_kept(writer: Notebook) -> None:
    writer.ok(FRONT)
    before, front = writer.ok("Front.ask('a')").result, pid_of(writer, "Front")
    ran = writer.ok(edited(WRITER, ("[text,", "[text.upper(),")))
    assert ran.plain.startswith(
        "Writer is ready\n  code swapped, weights kept: Writer.write changed\n  on cpu, 1 replica\n"
    )
    assert writer.ok("Front.ask('a')").result == ["A", *before[1:]]
    assert pid_of(writer, "Front") == front


def test_calls_and_streams_in_flight_finish_on_the_old_code(clean: Notebook, tmp_path: Path) -> None:
    cell = f"""
        %%service --threads 4
        import asyncio, os, pathlib
        from collections.abc import AsyncIterator

        class Slow:
            folder = pathlib.Path({str(tmp_path)!r})

            @api
            async def wait(self) -> str:
                (self.folder / "begun").touch()
                while not (self.folder / "go").exists():
                    await asyncio.sleep(0.005)
                return self.version()

            @api
            async def count(self) -> AsyncIterator[str]:
                for i in range(3):
                    yield self.version()

            def version(self) -> str:
                return "old"
    """
    clean.ok(cell)
    clean.ok("from concurrent.futures import ThreadPoolExecutor\nthreads = ThreadPoolExecutor(1)")
    clean.ok("items = Slow.count()\nfirst = next(items)\nwaiting = threads.submit(Slow.wait)")
    clean.ok(f"import pathlib\nwhile not pathlib.Path({str(tmp_path / 'begun')!r}).exists(): pass")
    assert "code swapped" in clean.ok(edited(cell, ('"old"', '"new"'))).plain
    (tmp_path / "go").touch()
    assert clean.ok("waiting.result()").result == "old"
    assert clean.ok("[first, *items]").result == ["old"] * 3
    assert clean.ok("list(Slow.count())").result == ["new"] * 3


def test_new_apis_and_signatures_are_there_at_once_also_over_http(writer: Notebook) -> None:
    cell = edited(
        WRITER,
        ("text: str)", "text: str, times: int = 2)"),
        ("[text,", "[text * times,"),
    )
    cell += "\n    @api\n    def length(self, text: str) -> int:\n        return len(text)\n"
    assert "code swapped" in writer.ok(cell).plain
    assert writer.ok("Writer.write('a', times=3)").result[0] == "aaa"
    assert writer.ok("Writer.length('abc')").result == 3
    post = (
        "import httpx\nhttpx.post(Writer.url + '{}', json={}, headers={{'Authorization': f'Bearer {{Writer.token}}'}})"
    )
    assert writer.ok(post.format("/length", {"text": "ab"})).result.json() == 2
    assert "/length" in writer.ok(post.format("/nothing", {})).result.text
    assert writer.ok(post.format("/write", {"text": "x", "times": 4})).result.json()[0] == "xxxx"


def test_what_the_replica_has_put_into_globals_and_class_attributes_is_kept(clean: Notebook) -> None:
    clean.ok("loaded = None")
    cell = """
        %%service
        def load():
            global loaded, made_there
            if loaded is None:
                loaded = ["the model"]
                made_there = "as well"
            return loaded

        class Lazy:
            calls = 0

            @api
            def get(self) -> list:
                Lazy.calls += 1
                return [*load(), made_there, Lazy.calls]
    """
    clean.ok(cell)
    assert clean.ok("Lazy.get()").result == ["the model", "as well", 1]
    clean.ok("import os")
    new = edited(cell, ("if loaded is None:", "if loaded == 7:"), ("made_there, L", "'new', made_there, L"))
    assert "code swapped, weights kept: Lazy.get changed, load changed" in clean.ok(new).plain
    assert clean.ok("Lazy.get()").result == ["the model", "new", "as well", 2]


def test_a_bound_method_that_an_api_has_stored_is_not_left_with_the_old_code(clean: Notebook) -> None:
    cell = """
        %%service
        class Keeps:
            @api
            def keep(self) -> None:
                self.kept = self.answer
            def answer(self):
                return "old"
            @api
            def ask(self) -> str:
                return self.kept() if hasattr(self, "kept") else "nothing kept"
    """
    clean.ok(cell)
    clean.ok("Keeps.keep()")
    ran = clean.ok(edited(cell, ('"old"', '"new"')))
    assert "replaced: self.kept holds answer, a method of the old code" in ran.plain
    assert clean.ok("Keeps.ask()").result == "nothing kept"


# -- anything else: new replicas


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (("time.perf_counter()]", "time.perf_counter() + 0]"), "Writer._load changed, which Writer.__init__ uses"),
        (("self.weights = self._load()", "self.weights = list(self._load())"), "Writer.__init__ changed"),
        (("    def __init__", "    LIMIT = 3\n    def __init__"), "class attribute Writer.LIMIT is new"),
        (("class Writer:", "class Writer(dict):"), "the bases of Writer changed"),
        (("%%service", "%%service --timeout 5"), "traffic changed"),
    ],
)
def test_whatever_makes_the_instance_wants_new_replicas(writer: Notebook, edit: tuple[str, str], reason: str) -> None:
    before = writer.ok("Writer.write('a')").result
    assert f"  replaced: {reason}" in writer.ok(edited(WRITER, edit)).plain
    assert writer.ok("Writer.write('a')").result[1] != before[1]


def test_stop_first_never_has_two_at_once(clean: Notebook) -> None:
    cell = """
        %%service --replace stop-first
        import socket
        class Alone:
            def __init__(self):
                self.place = socket.socket(socket.AF_UNIX)
                self.place.bind("\\0nbcompose-test-alone")
            @api
            def ask(self) -> str:
                return "old"
    """
    clean.ok(cell)
    changed = edited(cell, ("self.place = ", "self.made = 'new'; self.place = "), ('"old"', "self.made"))
    refused = clean.run(changed.replace(" --replace stop-first", ""))
    assert "Address already in use" in refused.error
    assert clean.ok("Alone.ask()").result == "old"
    assert "replaced: Alone.__init__ changed" in clean.ok(changed).plain
    assert clean.ok("Alone.ask()").result == "new"


def test_stop_first_that_fails_loads_the_version_before_again(writer: Notebook) -> None:
    before = pid_of(writer)
    broken = edited(WRITER, ("%%service", "%%service --replace stop-first"), ("self._load()", "1 / 0"))
    ran = writer.run(broken)
    assert "ZeroDivisionError" in ran.error
    assert ran.plain == "Writer could not be replaced: the version before serves on"
    assert row(writer) == "ready, previous version"
    assert writer.ok("Writer.write('a')").result[1] == pid_of(writer) != before


# -- broken

KEPT = "This cell has started nothing: the version of Writer before serves on"
WAY = "Run it again, once it is mended, to replace that version; %services stop Writer ends it"


def breaks(cell: str) -> list[Any]:
    return [
        pytest.param(edited(cell, ("[text,", "[text,,")), "SyntaxError", id="syntax"),
        pytest.param(edited(cell, ("def write", "def wrote")), "Writer has no api 'write'", id="api gone"),
        pytest.param(edited(cell, ("self._load()", "1 / 0")), "ZeroDivisionError", id="init"),
        pytest.param(edited(cell, ("    @api\n", "")), "defines no service", id="no api"),
        pytest.param(edited(cell, ("text: str", "text: 'Nonsense'")), "Nonsense", id="declaration"),
        pytest.param(edited(cell, ("%%service", "%%service --replicas many")), "is not a whole number", id="option"),
        pytest.param("%%service\nraise OSError('on the way')\n" + cell.partition("\n")[2], "on the way", id="body"),
        pytest.param(
            edited(cell, ("class Writer:", "class Writer:\n    size = unknown")), "NameError", id="class body"
        ),
        pytest.param(
            edited(cell, ("[text,", "[text, lock,")).replace("\n", "\nimport threading\nlock = threading.Lock()\n", 1),
            "CaptureError",
            id="capture",
        ),
        pytest.param(
            edited(cell, ("class Writer:", "raise KeyboardInterrupt\nclass Writer:")),
            "KeyboardInterrupt",
            id="interrupt",
        ),
    ]


@pytest.mark.parametrize(("broken", "message"), breaks(WRITER.strip()))
def test_a_broken_cell_leaves_the_version_before_until_it_is_mended(
    writer: Notebook, broken: str, message: str
) -> None:
    writer.ok(FRONT)
    before = writer.ok("Front.ask('a')").result
    ran = writer.run(broken)
    assert ran.exception is not None
    assert message in ran.error
    by_card = "Writer could not be replaced: the version before serves on"
    assert ran.plain in (by_card, f"{KEPT}\n{WAY}")
    assert (row(writer) == "ready, previous version") is (message != "KeyboardInterrupt")
    assert row(writer, "Front") == "ready"
    assert writer.ok("Front.ask('a')").result == before
    assert "unchanged" in writer.ok(WRITER).plain
    assert row(writer) == "ready"


def test_a_cell_with_one_bad_class_says_what_serves_on(clean: Notebook) -> None:
    cell = f"%%service\n{WRITER.partition('class')[1]}{WRITER.partition('class')[2]}{FRONT.partition('%%service')[2]}"
    clean.ok(cell)
    for broken in edited(cell, ('depends("Writer")', "depends(5)")), edited(cell, ("%%service", "%%service --scale 2")):
        lines = clean.run(broken).plain.splitlines()
        assert lines == [
            "This cell has started nothing: the versions of Writer and Front before serve on",
            "Run it again, once it is mended, to replace those versions; %services stop Writer Front ends them",
        ]
    assert clean.ok("Front.ask('a')").result[0] == "a"


def test_a_broken_cell_says_nothing_of_services_that_do_not_run(clean: Notebook) -> None:
    broken = edited(WRITER, ("class Writer:", "class Writer:\n    size = unknown"))
    assert clean.run(broken).plain == ""
    clean.ok(WRITER)
    clean.ok("%services stop Writer")
    assert clean.run(broken).plain == ""


def test_help_leaves_a_service_as_it_is(writer: Notebook) -> None:
    ran = writer.run(edited(WRITER, ("%%service", "%%service --help")))
    assert "--replicas" in ran.stdout
    assert ran.plain == ""
    assert row(writer) == "ready"


def test_a_swap_that_raises_leaves_the_old_code(writer: Notebook) -> None:
    writer.ok("""
        import os
        HERE = os.getpid()
        def rebuild(pid):
            if os.getpid() != pid:
                raise RuntimeError("cannot be rebuilt there")
            return Stubborn()
        class Stubborn:
            def __reduce__(self):
                return rebuild, (HERE,)
        stubborn = Stubborn()
    """)
    before = writer.ok("Writer.write('a')").result
    ran = writer.run(edited(WRITER, ("[text,", "[text, stubborn,")))
    assert "cannot be rebuilt there" in ran.error
    assert ran.plain == "Writer could not be replaced: the version before serves on"
    assert row(writer) == "ready, previous version"
    assert writer.ok("Writer.write('a')").result == before
    assert "code swapped" in writer.ok(edited(WRITER, ("[text,", "[text.upper(),"))).plain
    assert row(writer) == "ready"


def test_dependents_whose_calls_no_longer_fit_are_named(writer: Notebook) -> None:
    writer.ok(FRONT)
    ran = writer.ok(edited(WRITER, ("text: str)", "text: str, style: str)")))
    assert "  note: Front.ask calls self.writer.write (Cell In[" in ran.plain
    assert "it does not give style to write(text: str, style: str) -> list\n" in ran.plain
    mended = edited(FRONT, ("write(text)", "write(text, style='plain')"))
    assert "note" not in writer.ok(mended).plain


# -- stale


@pytest.fixture
def captured(clean: Notebook) -> Notebook:
    """A service that uses a helper, which uses another, and a list of the notebook."""
    clean.ok("def inner(x):\n    return x + 1\ndef helper(x):\n    return inner(x) * 10\nnumbers = [1]")
    clean.ok("""
        %%service
        class Uses:
            @api
            def get(self, x: int) -> list:
                return [helper(x), *numbers]
    """)
    return clean


@pytest.mark.parametrize(
    ("change", "name", "result"),
    [
        ("def inner(x):\n    return x + 2", "inner", [30, 1]),
        ("def helper(x):\n    return 7", "helper", [7, 1]),
        ("numbers = [1, 2]", "numbers", [20, 1, 2]),
        ("numbers.append(3)", "numbers", [20, 1, 3]),
    ],
)
def test_what_changed_in_another_cell_makes_it_stale_until_it_is_refreshed(
    captured: Notebook, change: str, name: str, result: list[int]
) -> None:
    pid = pid_of(captured, "Uses")
    captured.ok(change)
    assert row(captured, "Uses") == f"ready, stale: {name}"
    assert captured.ok("Uses.get(1)").result == [20, 1]
    assert f"code swapped, weights kept: {name} changed" in captured.ok("%services refresh").plain
    assert captured.ok("Uses.get(1)").result == result
    assert (row(captured, "Uses"), pid_of(captured, "Uses")) == ("ready", pid)
    assert captured.ok("%services refresh").stdout == "no service is stale\n"


@pytest.mark.parametrize(
    "change",
    [
        "numbers = [1]",
        "def inner(x):\n    # the same\n    return x + 1",
        "other = 5",
        "numbers.append(4); numbers.pop()",
    ],
)
def test_what_means_the_same_makes_nothing_stale(captured: Notebook, change: str) -> None:
    captured.ok(change)
    assert row(captured, "Uses") == "ready"


def test_what_is_changed_back_is_stale_no_more(captured: Notebook) -> None:
    captured.ok("numbers.append(2)")
    assert row(captured, "Uses") == "ready, stale: numbers"
    captured.ok("numbers.pop()")
    assert row(captured, "Uses") == "ready"


def test_refresh_by_the_rules_a_value_that_init_uses_wants_new_replicas(clean: Notebook) -> None:
    clean.ok("size = 1")
    clean.ok("""
        %%service
        class Sized:
            def __init__(self):
                self.weights = [0] * size
            @api
            def get(self) -> int:
                return len(self.weights)
    """)
    clean.ok("size = 2")
    assert "replaced: size changed, which Sized.__init__ uses" in clean.ok("%services refresh Sized").plain
    assert clean.ok("Sized.get()").result == 2


def test_a_service_may_use_itself_by_its_name_when_it_is_refreshed(clean: Notebook) -> None:
    clean.ok("offset = 1")
    clean.ok("""
        %%service
        class Own:
            LIMIT = 5
            @api
            def get(self) -> int:
                return Own.LIMIT + offset
    """)
    assert row(clean, "Own") == "ready"
    clean.ok("offset = 2")
    clean.ok("%services refresh Own")
    assert clean.ok("Own.get()").result == 7


def test_a_refresh_keeps_what_the_class_and_its_base_have_become(clean: Notebook, tmp_path: Path) -> None:
    """The class is the same object as before: its cell did not run again."""
    clean.ok("class Base:\n    seen = []\ndef word():\n    return 'old'")
    clean.ok(f"""
        %%service --threads 2
        import pathlib
        class Keeps(Base):
            folder = pathlib.Path({str(tmp_path)!r})
            @api
            def get(self) -> list:
                Base.seen.append(word())
                return Base.seen
            @api
            def wait(self) -> str:
                (self.folder / "begun").touch()
                while not (self.folder / "go").exists():
                    pass
                return self.word()
            def word(self):
                return word()
    """)
    clean.ok("from concurrent.futures import ThreadPoolExecutor\nthreads = ThreadPoolExecutor(1)")
    clean.ok("Keeps.get()\nwaiting = threads.submit(Keeps.wait)")
    clean.ok(f"import pathlib\nwhile not pathlib.Path({str(tmp_path / 'begun')!r}).exists(): pass")
    clean.ok("def word():\n    return 'new'")
    assert "code swapped" in clean.ok("%services refresh Keeps").plain
    (tmp_path / "go").touch()
    assert clean.ok("waiting.result()").result == "old"
    assert clean.ok("Keeps.get()").result == ["old", "new"]


def test_refreshing_can_be_left_to_the_notebook(captured: Notebook) -> None:
    captured.ok("%config NbcomposeMagics.auto_refresh = True")
    try:
        ran = captured.ok("def inner(x):\n    return x + 5")
        assert "code swapped, weights kept: inner changed" in ran.plain
        assert captured.ok("Uses.get(1)").result == [60, 1]
        broken = captured.run(
            "class Unsendable:\n    def __reduce__(self):\n        raise OSError\nnumbers = [Unsendable()]"
        )
        assert "Uses uses 'numbers' (list), which cannot be sent to a replica" in broken.stdout
    finally:
        captured.ok("%config NbcomposeMagics.auto_refresh = False")


# -- back to the version before


def test_rollback_after_a_swap_is_at_once_and_back_again(writer: Notebook) -> None:
    before = writer.ok("Writer.write('a')").result
    writer.ok(edited(WRITER, ("[text,", "[text.upper(),")))
    assert "rolled back, weights kept: Writer.write changed" in writer.ok("%services rollback Writer").plain
    assert writer.ok("Writer.write('a')").result == before
    writer.ok("%services rollback Writer")
    assert writer.ok("Writer.write('a')").result == ["A", *before[1:]]


def test_the_card_of_a_rollback_shows_how_the_version_before_is_called(writer: Notebook) -> None:
    writer.ok(edited(WRITER, ("text: str)", "text: str, times: int)")))
    assert 'try: Writer.write("...")' in writer.ok("%services rollback Writer").plain


def test_rollback_after_a_replacement_finds_the_old_replica_still_there(writer: Notebook) -> None:
    before = writer.ok("Writer.write('a')").result
    writer.ok(edited(WRITER, ("self._load()", "['new']")))
    assert writer.ok("Writer.write('a')").result == ["a", "new"]
    ran = writer.ok("%services rollback Writer")
    assert "rolled back: Writer.__init__ changed" in ran.plain
    assert writer.ok("Writer.write('a')").result == before
    post = "httpx.post(Writer.url + '/write', json={'text': 'x'}, headers={'Authorization': 'Bearer ' + Writer.token})"
    assert writer.ok(f"import httpx\n{post}").result.json() == ["x", *before[1:]]


def test_rollback_where_memory_does_not_allow_keeping_it_loads_again(
    writer: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbcompose._control.standby.ROOM", 2**60)
    before = pid_of(writer)
    writer.ok(edited(WRITER, ("self._load()", "['new']")))
    wait_for_end(before)
    writer.ok("%services rollback Writer")
    assert writer.ok("Writer.write('a')").result[1] == pid_of(writer) != before


def test_rollback_of_a_kept_replica_that_has_died(writer: Notebook, kill: Callable[[int], None]) -> None:
    before = pid_of(writer)
    writer.ok(edited(WRITER, ("self._load()", "['new']")))
    kill(before)
    writer.ok("%services rollback Writer")
    assert writer.ok("Writer.write('a')").result[1] == pid_of(writer) != before


@pytest.fixture
def kill() -> Callable[[int], None]:
    import os
    import signal

    def end(pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        wait_for_end(pid)

    return end


def test_there_is_no_version_before_the_first(writer: Notebook) -> None:
    ran = writer.run("%services rollback Writer")
    assert "Writer has had no other version since it was started: there is nothing to go back to" in ran.error
    assert "Writer was not rolled back, and serves on as it was" in ran.plain
    assert "no service is called 'Nothing'" in writer.run("%services rollback Nothing").error


def test_stopping_a_service_ends_the_version_that_was_kept(writer: Notebook) -> None:
    before = pid_of(writer)
    writer.ok(edited(WRITER, ("self._load()", "['new']")))
    assert alive(before)
    writer.ok("%services stop Writer")
    assert not alive(before)


# -- what a fresh pair of eyes has found


def test_the_state_of_a_helper_class_is_kept(clean: Notebook) -> None:
    clean.ok("""
        class Models:
            loaded = {}
            @classmethod
            def get(cls, name):
                cls.loaded[name] = cls.loaded.get(name, 0) + 1
                return cls.loaded[name]
    """)
    cell = "%%service\nclass Counts:\n    @api\n    def get(self) -> list:\n        return [Models.get('a'), 'old']"
    clean.ok(cell)
    clean.ok("Counts.get(); Counts.get()")
    assert "code swapped" in clean.ok(cell.replace("old", "new")).plain
    assert clean.ok("Counts.get()").result == [3, "new"]


def test_a_default_that_a_function_fills_is_no_reason_to_lose_it_silently(clean: Notebook) -> None:
    clean.ok("def memo(key, cache={}):\n    cache[key] = cache.get(key, 0) + 1\n    return cache[key]")
    cell = "%%service\nclass Memo:\n    @api\n    def get(self) -> list:\n        return [memo('a'), 'old']"
    clean.ok(cell)
    ran = clean.ok(cell.replace("old", "new"))
    assert "replaced: memo has a default that may change, which is outside of the instance" in ran.plain


def test_a_class_that_is_merely_used_has_not_changed(clean: Notebook) -> None:
    clean.ok("from dataclasses import dataclass\n@dataclass\nclass Req:\n    text: str")
    cell = """
        %%service
        class Uses:
            def __init__(self):
                self.default = Req("hi")
            @api
            def get(self, req: Req) -> str:
                return req.text + self.default.text
    """
    clean.ok(cell)
    assert clean.ok("Uses.get(Req('a'))").result == "ahi"
    assert row(clean, "Uses") == "ready"
    assert "unchanged" in clean.ok(cell).plain


@pytest.mark.parametrize("broken", ["\n1 / 0\n", "\nclass Writer(Writer): write = None\n"])
def test_the_name_stands_for_the_service_also_after_a_cell_that_failed(writer: Notebook, broken: str) -> None:
    assert writer.run(WRITER + broken).exception is not None
    assert writer.ok("Writer.write('a')").result[0] == "a"


def test_an_api_and_its_caller_are_renamed_in_one_cell(clean: Notebook) -> None:
    cell = WRITER + FRONT.replace("%%service", "")
    clean.ok(cell)
    clean.ok(cell.replace("def write", "def wrote").replace("writer.write", "writer.wrote"))
    assert clean.ok("Front.ask('a')").result[0] == "a"


def test_staleness_is_seen_also_after_a_replacement_that_failed_later(writer: Notebook) -> None:
    writer.ok("def shape(text):\n    return text")
    good = edited(WRITER, ("[text,", "[shape(text),"))
    writer.ok(good)
    bad = edited(good, ("%%service", "%%service --no-wait"), ("self._load()", "1 / 0"))
    writer.ok(bad)
    registry = writer.shell.meta["nbcompose"].registry
    registry.wait("Writer")
    writer.shell.meta["nbcompose"].lingering["Writer"].result(PATIENCE)
    writer.ok("def shape(text):\n    return text * 2")
    assert "stale: shape" in row(writer)
    writer.ok("%services refresh")
    assert writer.ok("Writer.write('a')").result[0] == "aa"


def test_refreshing_by_itself_tries_again_when_something_changes_again(captured: Notebook) -> None:
    captured.ok("%config NbcomposeMagics.auto_refresh = True")
    try:
        captured.run("class Bad:\n    def __reduce__(self):\n        raise OSError\nnumbers = [Bad()]")
        captured.ok("numbers = [5]")
        assert captured.ok("Uses.get(1)").result == [20, 5]
    finally:
        captured.ok("%config NbcomposeMagics.auto_refresh = False")


def test_a_base_class_asks_for_the_service_s_cell_and_a_class_in_an_annotation_does_not(clean: Notebook) -> None:
    point = "from dataclasses import dataclass\n@dataclass\nclass Point:\n    x: int"
    clean.ok("class Base:\n    def word(self):\n        return 'old'")
    clean.ok(point)
    cell = """
        %%service
        class Child(Base):
            @api
            def get(self, point: Point) -> str:
                return self.word()
    """
    clean.ok(cell)
    clean.ok(point)  # the same
    assert row(clean, "Child") == "ready"
    clean.ok(point + "\n    y: int = 0")
    assert row(clean, "Child") == "ready, stale: Point"
    clean.ok("class Base:\n    def word(self):\n        return 'new'")
    assert "Base (run the cell of Child again)" in row(clean, "Child")
    clean.ok(cell)
    assert row(clean, "Child") == "ready"
    assert clean.ok("Child.get(Point(1, 2))").result == "new"


def test_functions_under_lru_cache_and_cached_properties_travel(clean: Notebook) -> None:
    clean.ok("import functools\n@functools.lru_cache(maxsize=4)\ndef square(x):\n    return x * x")
    clean.ok("""
        %%service
        class Cached:
            @functools.cached_property
            def base(self):
                return 10
            @functools.lru_cache
            def cube(self, x):
                return x ** 3
            @api
            def get(self, x: int) -> list:
                return [square(x), self.cube(x), self.base]
    """)
    assert clean.ok("Cached.get(3)").result == [9, 27, 10]


def test_a_rollback_while_a_version_is_on_its_way_gives_that_up(writer: Notebook) -> None:
    before = writer.ok("Writer.write('a')").result
    writer.ok(edited(WRITER, ("%%service", "%%service --no-wait"), ("self._load()", "__import__('time').sleep(3600)")))
    writer.ok("%services rollback Writer")
    assert writer.ok("Writer.write('a')").result == before
