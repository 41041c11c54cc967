"""%%service in a real IPython shell, with real replicas."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nbcompose._service.handle import Service

pytestmark = pytest.mark.system

Notebook = Any  # of conftest.py

ECHO = """
%%service
class Echo:
    @api
    def say(self, text: str) -> str:
        return text
"""

PID = """
%%service
class Pid:
    @api
    def pid(self) -> int:
        import os
        return os.getpid()
"""


def pid_of(notebook: Notebook, name: str) -> int:
    pid = notebook.shell.meta["nbcompose"].registry.status(name).replicas[0].pid
    assert isinstance(pid, int)
    return pid


def test_a_plain_class_becomes_a_service(clean: Notebook) -> None:
    ran = clean.ok(ECHO)
    assert len(ran.displays) == 1
    assert ran.plain.startswith("Echo is ready\n  on cpu, 1 replica\n  say(text: str) -> str\n")
    assert "Echo" in ran.html
    assert isinstance(clean.shell.user_ns["Echo"], Service)
    assert clean.ok("Echo.say('hello')").result == "hello"


def test_it_runs_in_a_process_of_its_own(clean: Notebook) -> None:
    clean.ok(PID)
    assert clean.ok("Pid.pid()").result not in (os.getpid(), None)


def test_it_is_awaited_and_iterated(clean: Notebook) -> None:
    clean.ok("from collections.abc import Iterator")
    clean.ok("""
        %%service
        class Count:
            @api
            def to(self, n: int) -> Iterator[int]:
                yield from range(n)
            @api
            async def twice(self, n: int) -> int:
                return 2 * n
    """)
    assert clean.ok("list(Count.to(3))").result == [0, 1, 2]
    assert clean.ok("[i async for i in Count.to_async.to(3)]").result == [0, 1, 2]
    assert clean.ok("await Count.to_async.twice(4)").result == 8
    import_gather = "import asyncio\nawait asyncio.gather(*(Count.to_async.twice(i) for i in range(3)))"
    assert clean.ok(import_gather).result == [0, 2, 4]


def test_a_decorated_class_keeps_its_options_under_those_of_the_cell(clean: Notebook) -> None:
    clean.ok("""
        %%service --timeout 7 --env B=2
        @service(name="echo", replicas=2, traffic={"timeout": 5, "max_concurrency": 3}, envs={"A": "1"})
        class Echo:
            @api
            def variables(self) -> list[str]:
                import os
                return [os.environ["A"], os.environ["B"]]
    """)
    spec = clean.shell.user_ns["Echo"].spec
    assert (spec.name, spec.replicas, spec.traffic.timeout, spec.traffic.max_concurrency) == ("echo", 2, 7, 3)
    assert clean.ok("Echo.variables()").result == ["1", "2"]
    assert "echo" in repr(clean.ok("%services").result)


def test_helpers_imports_and_values_of_the_cell_come_along(clean: Notebook) -> None:
    clean.ok("factor = 10")
    clean.ok("""
        %%service
        import math

        def helper(x):
            return math.floor(x) * factor

        class Floor:
            LIMIT = 1000
            @api
            def of(self, x: float) -> int:
                return min(helper(x), Floor.LIMIT)
    """)
    assert clean.ok("Floor.of(3.7)").result == 30
    assert clean.ok("Floor.of(370.0)").result == 1000
    assert clean.ok("helper(1.5)").result == 10


def test_several_services_of_a_cell_start_together(clean: Notebook) -> None:
    ran = clean.ok("""
        %%service
        class Top:
            middle = depends("Middle")
            @api
            async def say(self, text: str) -> str:
                return await self.middle.to_async.say(text) + "!"

        class Leaf:
            @api
            def say(self, text: str) -> str:
                return text.upper()

        class Middle:
            leaf = depends(Leaf)
            @api
            async def say(self, text: str) -> str:
                return await self.leaf.to_async.say(text)
    """)
    assert len(ran.displays) == 1
    heads = [line for line in ran.plain.splitlines() if line.endswith("is ready")]
    assert heads == ["Leaf is ready", "Middle is ready", "Top is ready"]
    assert clean.ok("Top.say('hi')").result == "HI!"


def test_name_renames_the_service_not_the_variable(clean: Notebook) -> None:
    ran = clean.ok(ECHO.replace("%%service", "%%service --name parrot"))
    assert ran.plain.startswith("parrot is ready\n")
    assert 'try: Echo.say("...")' in ran.plain
    assert clean.ok("Echo.say('x')").result == "x"
    assert clean.ok("%services").result.rows[0][0] == "parrot"


def test_what_the_card_says_to_type_works(clean: Notebook) -> None:
    """In a terminal; tests/notebook/test_snippets.py has the other places."""
    [line] = [text for text in clean.ok(ECHO).plain.splitlines() if "curl" in text]
    answer = subprocess.run(["bash", "-c", line.partition(": ")[2]], capture_output=True, text=True, check=True)
    assert answer.stdout == '"..."'
    assert clean.ok("Echo.url").result not in line
    assert clean.ok("Echo.token").result not in line


def test_a_dependency_that_does_not_exist_is_waited_for(clean: Notebook) -> None:
    ran = clean.ok("""
        %%service
        class Front:
            echo = depends("Echo")
            @api
            def say(self, text: str) -> str:
                return self.echo.say(text)
    """)
    assert ran.plain == "Front is waiting for Echo\n  It becomes ready by itself, once Echo is."
    clean.ok(ECHO)
    assert clean.ok("Front.say('hello')").result == "hello"


def test_a_dependency_whose_name_is_misspelt_says_what_was_meant(clean: Notebook) -> None:
    clean.ok(ECHO)
    ran = clean.ok("""
        %%service
        class Front:
            echo = depends("Ecko")
            def __init__(self) -> None:
                self.echo.say("early")
            @api
            def say(self, text: str) -> str:
                return self.echo.say(text)
    """)
    assert ran.plain == "Front is waiting for Ecko (did you mean Echo?)\n  It becomes ready by itself, once Ecko is."
    assert clean.ok("%services").result.rows[-1][1] == "waiting for Ecko (did you mean Echo?)"


# -- running a cell again


def test_an_unchanged_cell_does_nothing_and_says_so(clean: Notebook) -> None:
    clean.ok(PID)
    before = clean.ok("Pid.pid()").result
    ran = clean.ok(PID.replace("import os", "import os  # the module"))
    assert "unchanged, so nothing was done (%services restart Pid starts it anew)" in ran.plain
    assert clean.ok("Pid.pid()").result == before


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("    @api\n", "    SIGN = -1\n    @api\n", "class attribute Pid.SIGN is new"),
        ("%%service", "%%service --threads 2", "threads changed"),
        ("%%service", "%%service --replicas 2", "replicas changed"),
        ("%%service", "%%service --env A=1", "envs changed"),
    ],
)
def test_a_changed_cell_replaces_the_service(clean: Notebook, old: str, new: str, reason: str) -> None:
    clean.ok(PID)
    before = clean.ok("Pid.pid()").result
    assert f"  replaced: {reason}\n" in clean.ok(PID.replace(old, new)).plain
    assert clean.ok("Pid.pid()").result != before


def test_dependents_of_a_replaced_service_are_not_restarted(clean: Notebook) -> None:
    clean.ok(ECHO)
    clean.ok("""
        %%service
        class Front:
            echo = depends(Echo)
            @api
            def say(self, text: str) -> str:
                return self.echo.say(text)
    """)
    assert clean.ok("Front.say('x')").result == "x"
    front = pid_of(clean, "Front")
    clean.ok(ECHO.replace("return text", "return text.upper()"))
    assert clean.ok("Front.say('x')").result == "X"
    assert pid_of(clean, "Front") == front


def test_a_replacement_that_fails_leaves_the_version_before(clean: Notebook) -> None:
    clean.ok(ECHO)
    before = pid_of(clean, "Echo")
    broken = ECHO.replace("class Echo:\n", "class Echo:\n    def __init__(self):\n        1 / 0\n")
    for _ in range(2):  # again: it is not taken for unchanged
        ran = clean.run(broken)
        assert "LaunchError" in ran.error
        assert "ZeroDivisionError: division by zero" in ran.error
        assert ran.plain == "Echo could not be replaced: the version before serves on"
    assert clean.ok("Echo.say('still')").result == "still"
    assert pid_of(clean, "Echo") == before
    assert "unchanged" in clean.ok(ECHO).plain


def test_a_service_that_was_stopped_is_started_again(clean: Notebook) -> None:
    clean.ok(ECHO)
    clean.ok("%services stop Echo")
    assert "unchanged" not in clean.ok(ECHO).plain
    assert clean.ok("Echo.say('x')").result == "x"


# -- bad input


def test_init_that_raises_shows_the_replicas_traceback(clean: Notebook) -> None:
    ran = clean.run("""
        %%service
        class Bad:
            def __init__(self):
                self.load()
            def load(self):
                raise OSError("no such weights")
            @api
            def f(self) -> None: ...
    """)
    assert "LaunchError: Bad could not start (__init__)" in ran.error
    assert "line 4, in __init__\n    self.load()" in ran.error
    assert "line 6, in load\n    raise OSError" in ran.error
    assert "OSError: no such weights" in ran.error
    assert "Cell In[" in ran.error
    assert "magics.py" not in ran.error
    assert ran.plain == "Bad failed to start"
    assert clean.ok("%services").result.rows[0][1] == "failed"


def test_a_failed_service_starts_when_its_cell_is_mended(clean: Notebook) -> None:
    cell = ECHO.replace("class Echo:\n", "class Echo:\n    def __init__(self):\n        assert ready\n")
    clean.ok("ready = False")
    assert "AssertionError" in clean.run(cell).error
    assert "AssertionError" in clean.run(cell).error  # tried again: it is not "unchanged"
    clean.ok("ready = True")
    clean.ok(cell)
    assert clean.ok("Echo.say('x')").result == "x"


def test_an_error_of_the_body_starts_nothing(clean: Notebook) -> None:
    ran = clean.run(ECHO + "raise KeyError('mine')\n")
    assert isinstance(ran.exception, KeyError)
    assert "----> 6 raise KeyError('mine')" in ran.error
    assert "nbcompose" not in ran.error
    assert clean.ok("%services").result.rows == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("%%service --replicas 0\nclass A: ...", "UsageError: replicas=0 must be a whole number from 1"),
        ("%%service --nonsense\nclass A: ...", "UsageError: unrecognized arguments: --nonsense"),
        ("%%service\nx = 1", "UsageError: this cell defines no service"),
        ("%%service\nawait x", "UsageError: a %%service cell cannot `await`"),
        ("%%service\nclass A(:\n    pass", "SyntaxError: invalid syntax"),
    ],
)
def test_a_cell_that_cannot_be_run(clean: Notebook, source: str, expected: str) -> None:
    ran = clean.run(source)
    assert expected in ran.error
    assert ".py" not in ran.error
    assert clean.ok("%services").result.rows == []


TWO = """
%%service
@service(name="same")
class A:
    @api
    def f(self) -> None: ...

@service(name="same")
class B:
    @api
    def f(self) -> None: ...
"""


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (TWO, "A, B are all called same"),
        (TWO.replace("%%service", "%%service --name x"), "--name is for one service, and this cell defines A, B"),
        (TWO.replace("class B", "class A"), "this cell defines A twice"),
    ],
)
def test_names_that_collide(clean: Notebook, source: str, expected: str) -> None:
    assert expected in clean.run(source).error
    assert clean.ok("%services").result.rows == []


def test_every_mistake_of_every_class_is_reported_with_its_line(clean: Notebook) -> None:
    ran = clean.run("""
        %%service
        class A:
            def __init__(self, path): ...
            @api(rout="/x")
            def f(self) -> None: ...
        class B:
            @api
            def to_async(self) -> None: ...
    """)
    assert "DeclarationError: these classes cannot be services:" in ran.error
    for mistake in ("line 3: __init__ takes path", "line 4: f: @api has no option 'rout'", "'to_async'"):
        assert mistake in ran.error
    assert "Cell In[" in ran.error
    assert clean.ok("%services").result.rows == []


def test_a_circle_is_drawn_and_nothing_starts(clean: Notebook) -> None:
    ran = clean.run("""
        %%service
        class A:
            b = depends("B")
            @api
            def f(self) -> None: ...
        class B:
            a = depends("A")
            @api
            def f(self) -> None: ...
    """)
    assert "CycleError" in ran.error
    assert "──▶" in ran.error
    assert clean.ok("%services").result.rows == []


def test_a_value_that_cannot_be_sent_is_named(clean: Notebook) -> None:
    clean.ok("import threading\nlock = threading.Lock()")
    ran = clean.run("""
        %%service
        class Locked:
            @api
            def f(self) -> bool:
                return lock.locked()
    """)
    assert "CaptureError: Locked uses " in ran.error
    assert "'lock'" in ran.error
    assert clean.ok("%services").result.rows == []
    assert isinstance(clean.shell.user_ns["Locked"], Service)
    assert "Locked does not run: run the cell that defines it" in clean.run("Locked.f()").error


def test_an_unknown_device_lists_those_there_are(clean: Notebook) -> None:
    ran = clean.run(ECHO.replace("%%service", "%%service --device cuda:77"))
    assert "there is no device 'cuda:77' here. Available: cpu" in ran.error
    assert ran.plain == "Echo failed to start"


def test_a_port_in_use_is_an_error_and_nothing_of_the_cell_starts(clean: Notebook) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = clean.run(f"""
            %%service
            class A:
                @api
                def f(self) -> None: ...
            @service(http={{"port": {port}}})
            class B:
                a = depends(A)
                @api
                def f(self) -> None: ...
        """)
    assert "PortInUse" in ran.error
    assert str(port) in ran.error
    assert ran.plain == "A was not started\n\nB was not started"
    assert clean.ok("%services").result.rows == []


def test_a_service_that_does_not_run_lists_those_that_do(clean: Notebook) -> None:
    clean.ok(ECHO)
    clean.ok("""
        @service
        class Lonely:
            @api
            def f(self) -> None: ...
    """)
    error = clean.run("Lonely.f()").error
    assert "Lonely does not run: run the cell that defines it, with %%service in its first line" in error
    assert "Running: Echo" in error


def test_apis_of_a_service_that_does_not_exist(clean: Notebook) -> None:
    clean.ok(ECHO)
    assert "Echo has no api 'shout'; it has: say" in clean.run("Echo.shout('x')").error


BAD = """
%%service
from collections.abc import Iterator

class Bad:
    @api
    def f(self, x: int = 0) -> None:
        raise ValueError("on purpose")
    @api
    def g(self) -> Iterator[int]:
        yield 1
        raise ValueError("on purpose")
"""


@pytest.mark.parametrize(
    ("call", "method", "line"),
    [
        ("Bad.f()", "f", 7),
        ("await Bad.to_async.f()", "f", 7),
        ("for i in Bad.g(): pass", "g", 11),
        ("async for i in Bad.to_async.g(): pass", "g", 11),
    ],
)
def test_an_error_of_an_api_shows_the_cells_lines_and_no_others(
    clean: Notebook, call: str, method: str, line: int
) -> None:
    number = clean.shell.execution_count
    clean.ok(BAD)
    ran = clean.run(call)
    assert isinstance(ran.exception, ValueError)
    assert (
        f'Bad.{method}\n  Cell In[{number}], line {line}, in {method}\n    raise ValueError("on purpose")' in ran.error
    )
    assert f"----> 1 {call}" in ran.error
    assert "File " not in ran.error
    assert "hidden" not in ran.error


def test_an_error_shows_the_lines_of_every_cell_that_the_code_is_of(clean: Notebook) -> None:
    first = clean.shell.execution_count
    clean.ok("def share(whole, parts):\n    return whole / parts")
    clean.ok("class Shares:\n    def all(self, *wholes):\n        return [share(whole, 0) for whole in wholes]")
    clean.ok("""
        %%service
        class Cake(Shares):
            @api
            def f(self) -> list[float]:
                return self.all(1)
    """)
    service, base = f"Cell In[{first + 2}], line 5, in f", f"Cell In[{first + 1}], line 3, in all"
    told = clean.run("Cake.f()").error
    places = [service, base, f"Cell In[{first}], line 2, in share\n    return whole / parts"]
    assert [told.find(place) for place in places] == sorted(told.find(place) for place in places)
    assert told.find(service) > 0

    again = clean.shell.execution_count
    clean.ok("def share(whole, parts):\n    # changed\n    return (whole + 1) / parts")
    assert "code swapped" in clean.ok("%services refresh Cake").plain
    told = clean.run("Cake.f()").error
    assert f"Cell In[{again}], line 3, in share\n    return (whole + 1) / parts" in told
    assert f"{service}\n    return self.all(1)" in told


@pytest.mark.parametrize("call", ["Bad.f('x')", "Bad.f(1, 2)", "await Bad.to_async.f('x')", "Bad.nothing()"])
def test_a_call_that_cannot_be_made_shows_the_call(clean: Notebook, call: str) -> None:
    clean.ok(BAD)
    ran = clean.run(call)
    assert f"----> 1 {call}" in ran.error
    assert "Remote" not in ran.error
    if "nothing" not in call:
        assert "File " not in ran.error


def test_import_nbcompose_needs_no_notebook() -> None:
    code = """if True:
        import sys, nbcompose
        nbcompose.service
        print([m for m in sys.modules if m.startswith(("IPython", "nbcompose._notebook"))])
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_magics_need_no_validator_of_notebooks() -> None:
    """To import it takes two seconds where all that it can make use of is there, as it is beside Jupyter's server."""
    code = """if True:
        import sys, nbcompose._notebook.magics
        print([m for m in ("nbformat", "jsonschema") if m in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_folder_of_the_notebook_is_that_of_its_services(clean: Notebook, tmp_path: Path) -> None:
    clean.ok(f"import os\nbefore = os.getcwd()\nos.chdir({str(tmp_path)!r})")
    try:
        clean.ok("%%service\nclass Where:\n    @api\n    def am_i(self) -> str:\n        return os.getcwd()")
        assert clean.ok("Where.am_i()").result == str(tmp_path)
    finally:
        clean.ok("os.chdir(before)")


@pytest.mark.system
def test_a_variable_that_a_cell_sets_reaches_a_forked_service_and_one_that_was_read_is_on_the_card(
    clean: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    clean.ok("import os; os.environ['OPENAI_API_KEY'] = 'x'")
    cell = """
        %%service --env MODE=quick{more}
        import os
        class Reads:
            @api
            def variables(self) -> list[str | None]:
                return [os.environ.get(name) for name in ("OPENAI_API_KEY", "MODE", "TZ")]
    """
    assert "preloaded" not in clean.ok(cell.format(more="")).plain
    assert clean.ok("Reads.variables()[:2]").result == ["x", "quick"]
    card = clean.ok(cell.format(more=" --env TZ=UTC")).plain
    assert "started without preloaded libraries: the environment differs: TZ, which " in card
    assert clean.ok("Reads.variables()").result == ["x", "quick", "UTC"]


def test_what_ipython_has_in_the_place_of_builtins_is_the_builtin(clean: Notebook) -> None:
    ran = clean.ok("""
        %%service
        class Leaves:
            @api
            def reads(self) -> bool:
                return open is __import__("builtins").open

            @api
            def leaves(self) -> None:
                exit(4)
    """)
    assert ran.stderr == ""
    assert clean.ok("Leaves.reads()").result is True
    assert "RuntimeError: it raised SystemExit: 4" in clean.run("Leaves.leaves()").error
    clean.ok("another = 'cell'")
    assert [row[1] for row in clean.ok("%services").result.rows] == ["ready"]


@pytest.mark.parametrize("line", ["!true", "%pwd", "get_ipython()"])
def test_lines_that_need_ipython_are_refused(clean: Notebook, line: str) -> None:
    ran = clean.run(f"%%service\nclass Asks:\n    @api\n    def ask(self) -> None:\n        {line}\n")
    assert "Asks uses 'get_ipython', as lines with ! or % do, and a replica has no IPython" in ran.error


@pytest.mark.parametrize(
    ("use", "told"),
    [
        ("Echo.sya('x')", "UnknownApi: Echo has no api 'sya'; it has: say"),
        ("str(Echo.to_async.say('x'))", "NotAwaited: Echo.say was called at Cell In[{n}], line 2 and not awaited"),
        ("Echo.to_async.say('x') + 'y'", "NotAwaited: Echo.say was called at Cell In[{n}], line 2 and not awaited"),
        ("Echo.say(iter('x'))", "InvalidArgument: "),
        ("Echo.say(open)", "InvalidArgument: "),
        ("service(type('Empty', (), {}))", "DeclarationError: Empty cannot be a service"),
    ],
)
def test_errors_of_nbcompose_show_the_user_s_frames_only(clean: Notebook, use: str, told: str) -> None:
    clean.ok(ECHO)
    ran = clean.run(f"from nbcompose import service\n{use}")
    assert told.format(n=clean.shell.execution_count - 1) in ran.error
    assert use in ran.error
    assert "/nbcompose/" not in ran.error  # the package's folder
