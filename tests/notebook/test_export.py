"""%export in a real IPython shell, with real replicas: what is written, what is refused, and --check."""

from __future__ import annotations

import asyncio
import queue
import subprocess
import sys
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import Any

import psutil
import pytest

from nbcompose._notebook.session import Session
from nbcompose._protocol import Requests, messages
from nbcompose._rpc.blocking import background
from nbcompose._rpc.codec import loads
from tests.conftest import wait_for_end
from tests.notebook.conftest import Kernel, Notebook, Ran, make_shell
from tests.patience import PATIENCE

pytestmark = pytest.mark.system

LEAF = """
%%service --threads 2
class Leaf:
    '''Adds.'''

    @api
    def add(self, a: int) -> int:
        return a + step
"""

FRONT = """
%%service
class Front:
    leaf = depends(Leaf)

    @api
    def ask(self, a: int) -> dict:
        return {"sum": self.leaf.add(a)}
"""

SCRIPT = '''"""The services of a notebook, without Jupyter (exported by nbcompose)."""

import nbcompose
from nbcompose import api, depends, service

step = 3


@service(threads=2)
class Leaf:
    """Adds."""

    @api
    def add(self, a: int) -> int:
        return a + step


@service
class Front:
    leaf = depends(Leaf)

    @api
    def ask(self, a: int) -> dict:
        return {"sum": self.leaf.add(a)}


if __name__ == "__main__":
    nbcompose.serve(Front)
'''


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    """A notebook of its own, in an empty folder: its history is what counts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NBCOMPOSE_PRELOAD", "")
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    hook = sys.excepthook
    notebook = Notebook(make_shell())
    notebook.ok("%load_ext nbcompose\nfrom nbcompose import api, depends, service")
    yield notebook
    notebook.ok("%unload_ext nbcompose")
    notebook.shell.clear_instance()
    sys.excepthook = hook


def start(notebook: Notebook) -> None:
    for source in ("step = 3", LEAF, FRONT):
        notebook.ok(source)


def script(name: str = "app.py") -> str:
    """What was written, without what depends on the versions installed."""
    return Path(name).read_text(encoding="utf-8").rpartition("# ///\n")[2]


def session(notebook: Notebook) -> Session:
    found: Session = notebook.shell.meta["nbcompose"]
    return found


# -- what is written


def test_the_services_that_run_as_one_script(fresh: Notebook) -> None:
    start(fresh)
    fresh.ok("Front.ask(1)")
    done = fresh.ok("%export app.py")
    count = len(Path("app.py").read_text().splitlines())
    assert done.stdout == f"app.py: 2 services, {count} lines; serve it with `python app.py`\n"
    assert script() == SCRIPT
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "app.py"]
    assert subprocess.run(ruff, capture_output=True, check=False).returncode == 0


def test_again_it_is_the_same_file_and_nothing_else_is_left(fresh: Notebook) -> None:
    start(fresh)
    fresh.ok("%export app.py")
    before = Path("app.py").read_bytes()
    fresh.ok("%export app.py")
    assert Path("app.py").read_bytes() == before
    assert [p.name for p in Path().iterdir()] == ["app.py"]


def test_the_notebook_is_named_where_the_front_end_tells(fresh: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/ann/work/answers.ipynb")
    start(fresh)
    fresh.ok("%export app.py")
    assert script().startswith('"""The services of answers.ipynb, without Jupyter (exported by nbcompose)."""')


def test_an_entry_is_chosen_and_what_is_not_below_it_is_left_out(fresh: Notebook) -> None:
    start(fresh)
    fresh.ok("%export leaf.py --entry Leaf")
    assert "class Front" not in script("leaf.py")
    assert script("leaf.py").endswith("    nbcompose.serve(Leaf)\n")


def test_a_service_that_was_stopped_is_left_out(fresh: Notebook) -> None:
    start(fresh)
    fresh.ok("%services stop Front")
    fresh.ok("%export app.py")
    assert script().endswith("    nbcompose.serve(Leaf)\n")


def test_the_version_that_serves_is_the_one_that_is_written(fresh: Notebook) -> None:
    start(fresh)
    fresh.ok(LEAF.replace("a + step", "a - step"))
    fresh.ok("%export app.py")
    assert "return a - step" in script()
    fresh.ok("%services rollback Leaf")
    fresh.ok("%export app.py")
    assert script() == SCRIPT


def test_methods_that_a_decorator_has_wrapped_are_no_riddle(fresh: Notebook) -> None:
    fresh.ok(
        """
        import functools

        def logged(method):
            @functools.wraps(method)
            def call(*args, **kwargs):
                return method(*args, **kwargs)
            return call
        """
    )
    fresh.ok("step = 3")
    wrapped = LEAF.replace("    @api\n", "    @api\n    @logged\n")
    fresh.ok(wrapped)
    fresh.ok(wrapped.replace("a + step", "a - step"))
    fresh.ok("%services rollback Leaf")
    fresh.ok("%export app.py")
    assert "return a + step" in script()
    assert "def logged" in script()


def test_a_version_that_could_not_start_is_not_written(fresh: Notebook) -> None:
    start(fresh)
    broken = LEAF.replace("    @api", "    def __init__(self):\n        raise OSError('no disk')\n\n    @api")
    assert "no disk" in fresh.run(broken).error
    fresh.ok("%export app.py")
    assert script() == SCRIPT


def test_a_stale_service_is_told(fresh: Notebook) -> None:
    start(fresh)
    fresh.ok("step = 4")
    done = fresh.ok("%export app.py")
    assert done.stdout.splitlines()[1:] == [
        "note: Leaf is stale: the script has step as the notebook has it now "
        "(%services refresh Leaf brings the service up to date)"
    ]
    assert "step = 4" in script()


def test_a_present_value_in_a_file(fresh: Notebook) -> None:
    fresh.ok("import time")
    fresh.ok("step = 1\nfor n in range(2): step += 1")
    for source in (LEAF, FRONT):
        fresh.ok(source)
    fresh.ok("%export app.py --freeze step")
    assert "range" not in script()
    assert Path("app_data/step.json").read_text() == "3\n"
    assert fresh.ok("%export app.py --freeze step --check").displays[-1]["text/plain"].startswith("app.py starts")


def test_files_for_docker(fresh: Notebook) -> None:
    start(fresh)
    fresh.ok("%export app.py --docker")
    wheels = {p.name for p in Path().glob("nbcompose-*.whl")}  # where it is installed from a folder, as here
    assert {p.name for p in Path().iterdir()} == {"app.py", "Dockerfile", ".dockerignore", *wheels}


def test_what_changed_a_value_is_there_and_what_left_it_alone_is_not(fresh: Notebook) -> None:
    fresh.ok("class Box:\n    def __init__(self): self.items = []\n    def put(self, x):\n"
             "        self.items.append(x)\n        return self\n"
             "    def peek(self): return getattr(self, 'items')[0]")  # fmt: skip
    for source in ("box = Box()", "box.put(1).put(2)", "r = box.put(3)", "print(box.peek())", "box.peek()"):
        fresh.ok(source)
    fresh.ok("setattr(Box, 'more', lambda self: 5)")
    fresh.ok("%%service\nclass A:\n    @api\n    def f(self) -> list[int]:\n        return [*box.items, Box().more()]")
    fresh.ok("A.f()")
    assert table(fresh.ok("%export app.py --check"))[2].split()[:3] == ["A.f", "1", "same"]
    assert [line for line in script().splitlines() if line.startswith(("box", "r", "set", "print"))] == [
        "box = Box()", "box.put(1).put(2)", "r = box.put(3)", 'setattr(Box, "more", lambda self: 5)',
    ]  # fmt: skip


@pytest.mark.slow
def test_a_model_that_was_trained(fresh: Notebook) -> None:
    """Without a seed its script learns something else: the check says where, and what to do."""
    fresh.ok("import random\nimport torch")
    fresh.ok("cats = ['x', 'y']; n_letters = len('abc')")
    fresh.ok("def to_tensor(s): return torch.zeros(n_letters) + len(s)")
    fresh.ok("rnn = torch.nn.Linear(n_letters, 2)\ndevice = torch.device('cpu')\nrnn.to(device)")
    fresh.ok(
        "for _ in range(3):\n    loss = rnn(to_tensor(random.choice(cats))).sum()\n    loss.backward()\n"
        "    for p in rnn.parameters(): p.data.add_(p.grad, alpha=-0.1)"
    )
    fresh.ok("for _ in range(3): print(rnn(to_tensor('a')))")
    fresh.ok("%%service\nclass A:\n    @api\n    def f(self, s: str) -> list[float]:\n        "
             "return rnn(to_tensor(s).to(device)).tolist()")  # fmt: skip
    fresh.ok("A.f('abc')")
    lines = table(fresh.ok("%export app.py --check"))
    assert "different" in lines[2]
    assert ("In [5], line 1 draws random numbers that nothing has seeded: `rnn` may be different each time: --freeze "
            "rnn keeps what is here") in lines  # fmt: skip
    assert script().count("for _ in range(3)") == 1
    assert "same" in table(fresh.ok("%export app.py --check --freeze rnn"))[2]
    assert "for _" not in script()
    fresh.ok("%export app.py --freeze rnn --freeze device")
    assert "\ndevice = torch.device('cpu')\n".replace("'", '"') in script()
    assert [p.name for p in Path("app_data").iterdir()] == ["rnn.pickle"]


def test_a_cell_that_failed_after_a_seed_and_an_import(fresh: Notebook) -> None:
    fresh.run("import torch\ntorch.manual_seed(0)\nstep = int(torch.rand(1)) + 3\n1 / 0\nstep = 5")
    fresh.ok(LEAF)
    fresh.ok("%export app.py")
    assert "step = int(torch.rand(1)) + 3" in script()
    assert "torch.manual_seed(0)" in script()
    assert "5" not in script()


# -- what is refused


def run_cell(notebook: Notebook, cell: str, source: str, deleted: list[str] | None = None) -> None:
    shell = notebook.shell
    if "cell_meta" not in signature(shell.run_cell).parameters:
        pytest.skip("this IPython does not hand on what a front end says of a cell")
    shell.run_cell(source, store_history=True, cell_id=cell, cell_meta={"deletedCells": deleted or []})


def test_a_value_of_a_cell_that_was_edited(fresh: Notebook) -> None:
    run_cell(fresh, "one", "step = 3")
    fresh.ok(LEAF)
    run_cell(fresh, "one", "stride = 3")
    refused = fresh.run("%export app.py").error
    assert "step" in refused
    assert "In [2]" in refused
    assert "--freeze step" in refused
    assert "Traceback" not in refused
    assert not Path("app.py").exists()
    fresh.ok("%export app.py --freeze step")


def test_a_value_of_a_cell_that_was_deleted(fresh: Notebook) -> None:
    run_cell(fresh, "one", "step = 3")
    fresh.ok(LEAF)
    run_cell(fresh, "two", "1", deleted=["one"])
    assert "--freeze step" in fresh.run("%export app.py").error


def test_a_value_that_no_cell_has_set(fresh: Notebook) -> None:
    fresh.shell.user_ns["step"] = 3
    fresh.ok(LEAF)
    assert "step" in fresh.run("%export app.py").error


def test_a_file_of_somebody_elses(fresh: Notebook) -> None:
    start(fresh)
    Path("app.py").write_text("print('mine')\n")
    Path("Dockerfile").write_text("FROM scratch\n")
    refused = fresh.run("%export app.py --docker").error
    assert refused.strip().endswith(
        "app.py and Dockerfile were not written by nbcompose: give another name, or --force to overwrite"
    )
    assert Path("app.py").read_text() == "print('mine')\n"
    fresh.ok("%export app.py --docker --force")
    assert script() == SCRIPT


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "the following arguments are required: FILE"),
        ("app.txt", "app.txt: a script's name ends in .py"),
        ("no/such/folder/app.py", "no/such/folder/app.py cannot be written: No such file or directory"),
        ("json.py", "json.py has the name of a module of Python's own, which it hides: call the script something else"),
        ("app.py --freeze nothing", "--freeze nothing: the notebook has no such name"),
        ("app.py --entry Nothing", "no service is called 'Nothing'; there are: Leaf, Front"),
        ("app.py --chek", "unrecognized arguments: --chek"),
    ],
)
def test_wrong_usage_is_a_message(fresh: Notebook, line: str, message: str) -> None:
    start(fresh)
    ran = fresh.run(f"%export {line}")
    assert message in ran.error
    assert "Traceback" not in ran.error
    assert list(Path().iterdir()) == []


# -- the check


def table(ran: Ran) -> list[str]:
    return str(ran.displays[-1]["text/plain"]).splitlines()


def test_calls_that_were_made_here_are_made_again(fresh: Notebook) -> None:
    start(fresh)
    fresh.ok("Front.ask(1); Front.ask(a=2); Leaf.add(1)")
    fresh.ok("await Leaf.to_async.add(5)")
    done = fresh.ok("%export app.py --check")
    assert table(done) == [
        "app.py starts, and its services are ready",
        "api        calls  answers",
        "Front.ask  2      same",
        "Leaf.add   2      same",
    ]
    assert done.html.count("<tr>") == 3


def test_values_of_classes_of_the_notebook_are_those_of_the_script(fresh: Notebook) -> None:
    fresh.ok(
        """
        from dataclasses import dataclass
        from pydantic import BaseModel

        class Query(BaseModel):
            text: str

        @dataclass
        class Hit:
            text: str
            score: float
        """
    )
    fresh.ok(
        """
        %%service
        class Search:
            @api
            def find(self, query: Query) -> list[Hit]:
                return [Hit(query.text, 0.5)]

            @api
            def hits(self, n: int):
                for i in range(n):
                    yield Hit(str(i), float(i))

            @api
            def refuse(self, query: Query) -> int:
                raise KeyError(query)
        """
    )
    fresh.ok("Search.find(Query(text='a')); list(Search.hits(2))")
    assert "KeyError" in fresh.run("Search.refuse(Query(text='a'))").error
    assert "InvalidArgument" in fresh.run("Search.find(1)").error
    assert table(fresh.ok("%export app.py --check"))[2:] == [
        "Search.find  1      same",
        "Search.hits  1      same",
        "Search.refuse: 1 call was left out: 1 failed",
        "Search.find: 1 call was left out: 1 failed",
    ]


def test_calls_of_services_that_are_not_in_the_script_are_not_made(fresh: Notebook) -> None:
    start(fresh)
    fresh.ok("Front.ask(1); Leaf.add(1)")
    assert table(fresh.ok("%export app.py --check --entry Leaf"))[2:] == [
        "Leaf.add  1      same",
        "Front.ask: 1 call was left out: 1 not in the script",
    ]


def test_a_plan_comes_first_and_the_limit_ends_it(kernel: Kernel, tmp_path: Path) -> None:
    kernel.ok(f"%cd -q {tmp_path}")
    kernel.ok(f"import pathlib, time\nslow = pathlib.Path({str(tmp_path / 'slow')!r})")
    kernel.ok(
        """
        %%service
        class Slow:
            @api
            def f(self) -> int:
                while slow.exists(): time.sleep(0.01)
                return 1
        """
    )
    kernel.ok("Slow.f()")
    (tmp_path / "slow").touch()
    cell = kernel.send("%export slow.py --check --limit 12")
    ran = kernel.finished(cell)
    assert ran.error == ""
    shown = [
        m["content"]["data"]["text/plain"]
        for m in kernel.messages
        if kernel.parent(m) == cell and "data" in m["content"]
    ]
    plan = "slow.py: 1 call of 1 service, less than 1 s when it was made; limit 12 s"
    assert shown[0] == plan
    assert any(text.startswith(f"{plan}\ncall 1 of 1: Slow.f, ") for text in shown)
    assert table(ran)[1:] == [
        "There is nothing to compare: none of the calls can be made again.",
        "Slow.f: 1 call was left out: 1 not made within the limit of 12 s (--limit)",
    ]


def test_an_interrupt_ends_a_call_of_the_check(own_kernel: Kernel, tmp_path: Path) -> None:
    """■ in the middle of a call that does not end, in the notebook's service."""
    own_kernel.ok(f"%cd -q {tmp_path}")
    own_kernel.ok(f"import pathlib, time\nslow = pathlib.Path({str(tmp_path / 'slow')!r})")
    own_kernel.ok(
        """
        %%service
        class Slow:
            @api
            def f(self) -> int:
                while slow.exists(): time.sleep(0.01)
                return 1
        """
    )
    own_kernel.ok("Slow.f()")
    (tmp_path / "slow").touch()
    cell = own_kernel.send("%export slow.py --check")
    own_kernel.until(lambda m: own_kernel.parent(m) == cell and "call 1 of 1" in str(m["content"].get("data")))
    [process] = [p for p in psutil.Process(own_kernel.pid).children() if "check.replay" in " ".join(p.cmdline())]
    family = [process, *process.children(recursive=True)]
    own_kernel.manager.interrupt_kernel()
    assert "KeyboardInterrupt" in own_kernel.finished(cell).error
    for p in family:
        wait_for_end(p.pid)


def test_what_differs_is_told(fresh: Notebook) -> None:
    start(fresh)
    fresh.ok("Front.ask(1)")
    fresh.ok("step = 4")  # the service has 3
    done = fresh.ok("%export app.py --check")
    assert table(done)[2:] == [
        "Front.ask  1      different",
        "Front.ask: ['sum'] is 4 in the notebook and 5 in the script",
    ]


def test_without_calls_it_says_so(fresh: Notebook) -> None:
    start(fresh)
    fresh.ok("%config NbcomposeMagics.record_calls = False")
    fresh.ok("Front.ask(1)")
    assert table(fresh.ok("%export app.py --check")) == [
        "app.py starts, and its services are ready",
        "There is nothing to compare: recording is off.",
    ]
    fresh.ok("%config NbcomposeMagics.record_calls = True")
    assert table(fresh.ok("%export app.py --check"))[1:] == [
        "There is nothing to compare: no call of its services has been made here."
    ]


def test_calls_that_are_too_large_to_be_recorded_are_told(fresh: Notebook) -> None:
    start(fresh)
    fresh.run("Leaf.add('1' * 2**24)")
    assert table(fresh.ok("%export app.py --check"))[1:] == [
        "There is nothing to compare: none of the calls can be made again.",
        "Leaf.add: calls with more than 8 MiB of arguments are not recorded",
    ]


def test_calls_of_the_widget_are_recorded_too(fresh: Notebook) -> None:
    start(fresh)
    told: queue.SimpleQueue[Any] = queue.SimpleQueue()
    answers = session(fresh).registry.operations.answers(messages.Request)

    async def begin() -> None:
        requests = Requests(answers, messages.Request, told.put)
        requests.receive({"id": "1", "type": "call", "service": "Leaf", "api": "add", "arguments": {"a": 7}})

    asyncio.run_coroutine_threadsafe(begin(), background().loop).result(PATIENCE)
    assert told.get(timeout=PATIENCE)["type"] == "result"
    [call] = session(fresh).recording.calls()
    assert (call.service, call.api, loads(call.arguments)) == ("Leaf", "add", ((), {"a": 7}))


def test_an_interrupt_ends_the_check_and_the_script(own_kernel: Kernel, tmp_path: Path) -> None:
    own_kernel.ok(f"%cd -q {tmp_path}")
    own_kernel.ok("import time")
    own_kernel.ok(
        """
        %%service --no-wait
        class Slow:
            def __init__(self):
                time.sleep(600)
            @api
            def f(self) -> int:
                return 1
        """
    )
    cell = own_kernel.send("%export app.py --check")
    own_kernel.until(
        lambda m: (
            m["msg_type"] == "update_display_data"
            and own_kernel.parent(m) == cell
            and "load" in m["content"]["data"]["text/plain"]
        )
    )
    kernel = psutil.Process(own_kernel.pid)
    [process] = [p for p in kernel.children() if "check.replay" in " ".join(p.cmdline())]
    family = [process, *process.children(recursive=True)]
    own_kernel.manager.interrupt_kernel()
    ran = own_kernel.finished(cell)
    assert "KeyboardInterrupt" in ran.error
    assert ran.displays[-1]["text/plain"] == "app.py was not checked to the end"
    for p in family:
        wait_for_end(p.pid)


# -- help and completion


def test_help_is_that_of_the_options(fresh: Notebook) -> None:
    shown = str(fresh.shell.find_line_magic("export").__doc__)
    assert "--freeze NAME" in shown
    assert "Write the services of this notebook as one script" in shown


def test_completion(fresh: Notebook) -> None:
    start(fresh)
    assert fresh.complete("%export app.py --") == [
        "--entry", "--freeze", "--recompute", "--docker", "--check", "--limit", "--force"
    ]  # fmt: skip
    assert fresh.complete("%export app.py --check --d") == ["--docker"]
    assert fresh.complete("%export app.py --entry ") == ["Leaf", "Front"]
    assert fresh.complete("%export app.py --freeze st") == ["step"]
