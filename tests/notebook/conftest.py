"""A real IPython shell in this process, and real kernels in processes of their own."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager
from traitlets.config import Config

from tests.patience import PATIENCE


@dataclass
class Ran:
    """What a cell left behind. `error` as the user sees it, without colors; "" without one."""

    displays: list[dict[str, Any]] = field(default_factory=list)
    stdout: str = ""
    stderr: str = ""
    error: str = ""
    exception: BaseException | None = None
    result: Any = None

    @property
    def plain(self) -> str:
        return "\n".join(str(d["text/plain"]) for d in self.displays)

    @property
    def html(self) -> str:
        return "\n".join(str(d.get("text/html", "")) for d in self.displays)


class Notebook:
    """Cells, run one after another in a shell of this process."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell

    def run(self, source: str) -> Ran:
        with capture_output() as captured:
            done = self.shell.run_cell(textwrap.dedent(source).strip("\n"), store_history=True)
        exception = done.error_before_exec or done.error_in_exec
        return Ran(
            displays=[o.data for o in captured.outputs],
            stdout=captured.stdout,
            stderr=captured.stderr,
            error=captured.stdout + captured.stderr if exception is not None else "",
            exception=exception,
            result=done.result,
        )

    def ok(self, source: str) -> Ran:
        ran = self.run(source)
        assert ran.exception is None, ran.error
        return ran

    def complete(self, text: str) -> list[str]:
        """What Tab at the end of `text` offers, without what it would complete of file names and the like."""
        with provisionalcompleter():
            return [c.text for c in self.shell.Completer.completions(text, len(text)) if c.type != "path"]


def make_shell() -> InteractiveShell:
    InteractiveShell.clear_instance()
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    config.InteractiveShell.cache_size = 0
    shell = InteractiveShell.instance(config=config)
    # Classes of a notebook are those of `__main__`.
    shell.user_ns["__name__"] = "__main__"
    return shell


@pytest.fixture
def bare() -> Iterator[Notebook]:
    """A shell without the extension."""
    hook = sys.excepthook
    yield Notebook(make_shell())
    sys.excepthook = hook
    InteractiveShell.clear_instance()


@contextlib.contextmanager
def loaded(name: str, value: str) -> Iterator[Notebook]:
    """A shell with the extension, in which a variable of the environment is set."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(name, value)
        notebook = Notebook(make_shell())
        notebook.ok("%load_ext nbcompose\nfrom nbcompose import api, depends, service")
        yield notebook
        notebook.ok("%unload_ext nbcompose")
        InteractiveShell.clear_instance()


@pytest.fixture(scope="module")
def notebook() -> Iterator[Notebook]:
    """A shell with the extension, whose zygote preloads nothing; one for all tests of a file."""
    with loaded("NBCOMPOSE_PRELOAD", "") as notebook:
        yield notebook


@pytest.fixture(scope="module", params=["fork", pytest.param("cold", marks=pytest.mark.slow)])
def started(request: pytest.FixtureRequest) -> Iterator[Notebook]:
    """The same, once with replicas that are forked, and once with those that start cold."""
    with loaded(*{"fork": ("NBCOMPOSE_PRELOAD", ""), "cold": ("NBCOMPOSE_ZYGOTE", "0")}[request.param]) as notebook:
        yield notebook


@pytest.fixture
def clean(notebook: Notebook) -> Notebook:
    """The file's shell, without any service of an earlier test."""
    notebook.ok("%services stop --all")
    notebook.shell.meta["nbcompose"].registry._past_logs.clear()  # the next test may start one of the same name
    return notebook


class Kernel:
    """A real kernel. Outputs are filed under the cell whose header they carry, as a front end does."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager = manager
        self.client = client
        self.messages: list[dict[str, Any]] = []

    @property
    def pid(self) -> int:
        return int(self.manager.provisioner.pid)  # type: ignore[union-attr]

    def send(self, source: str) -> str:
        """Run a cell; returns its id without waiting for its end."""
        # After an error ipykernel 6 drops what comes within a moment, which is meant for cells that wait in line.
        return str(self.client.execute(textwrap.dedent(source).strip("\n"), stop_on_error=False))

    def run(self, source: str) -> Ran:
        return self.finished(self.send(source))

    def ok(self, source: str) -> Ran:
        ran = self.run(source)
        assert ran.error == "", ran.error
        return ran

    def finished(self, cell: str) -> Ran:
        """Wait for the end of a cell."""
        self.until(lambda m: m["msg_type"] == "status" and self.state(m) == "idle" and self.parent(m) == cell)
        return self.shown(cell)

    def until(self, found: Callable[[dict[str, Any]], bool], since: int = 0) -> dict[str, Any]:
        """Read messages up to the first that is `found`, those read already included, but for the first `since`."""
        for message in self.messages[since:]:
            if found(message):
                return message
        deadline = time.monotonic() + 2 * PATIENCE
        while True:
            assert time.monotonic() < deadline, f"the kernel speaks, and has not said this in {2 * PATIENCE} s"
            message = self._next()
            self.messages.append(message)
            if found(message):
                return message

    def _next(self) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                message: dict[str, Any] = self.client.get_iopub_msg(timeout=1)
                return message
            except queue.Empty:
                assert self.manager.has_kernel
                assert self.manager.is_alive(), "the kernel has ended"
                assert time.monotonic() < until, f"the kernel has said nothing for {PATIENCE} s"

    def shown(self, cell: str) -> Ran:
        """What stands under the cell now, with its displays as they were updated last."""
        ran = Ran()
        displays: dict[str, dict[str, Any]] = {}
        for message in [m for m in self.messages if self.parent(m) == cell]:
            kind, content = message["msg_type"], message["content"]
            if kind in ("display_data", "update_display_data"):
                key = content["transient"].get("display_id", str(len(displays)))
                if kind == "display_data" or key in displays:
                    displays[key] = content["data"]
            elif kind == "execute_result":
                ran.result = content["data"]["text/plain"]
            elif kind == "stream":
                setattr(ran, content["name"], getattr(ran, content["name"]) + content["text"])
            elif kind == "error":
                ran.error = f"{content['ename']}: {content['evalue']}\n" + "\n".join(content["traceback"])
        ran.displays = list(displays.values())
        return ran

    @staticmethod
    def parent(message: dict[str, Any]) -> str:
        return str(message["parent_header"].get("msg_id", ""))

    @staticmethod
    def state(message: dict[str, Any]) -> str:
        return str(message["content"].get("execution_state", ""))


@contextlib.contextmanager
def start_kernel(**options: Any) -> Iterator[Kernel]:
    manager = KernelManager(kernel_name="python3", **options)
    manager.start_kernel(env={**os.environ, "NBCOMPOSE_PRELOAD": ""})
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=PATIENCE)
        kernel = Kernel(manager, client)
        kernel.ok("%colors nocolor\n%load_ext nbcompose\nfrom nbcompose import api, depends, service")
        yield kernel
    finally:
        client.stop_channels()
        if manager.has_kernel:  # the test may have ended it
            manager.shutdown_kernel(now="COVERAGE_PROCESS_CONFIG" not in os.environ)  # which is written at the end
        manager.cleanup_resources()


@pytest.fixture(scope="module")
def shared_kernel() -> Iterator[Kernel]:
    with start_kernel() as kernel:
        yield kernel


@pytest.fixture
def kernel(shared_kernel: Kernel) -> Kernel:
    """A kernel with the extension, without any service of an earlier test."""
    shared_kernel.ok(
        "%services stop --all\nget_ipython().meta['nbcompose'].registry._past_logs.clear()"  # as of `clean`
    )
    return shared_kernel


@pytest.fixture
def own_kernel() -> Iterator[Kernel]:
    """A kernel with the extension that the test may end."""
    with start_kernel() as kernel:
        yield kernel
