"""A notebook over its socket, also while it computes: names, cells, values and actions as the notebook has them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbcompose._protocol import Client, RunningProcess, address, messages
from nbcompose.errors import ProtocolError
from tests.notebook.conftest import Kernel, start_kernel
from tests.patience import PATIENCE

pytestmark = pytest.mark.system

CELL = """
%%service
class Table:
    @api
    def rows(self, n: int) -> list[int]:
        if n > 9:
            raise LookupError("too many")
        return list(range(n))
"""


@contextlib.contextmanager
def started(folder: Path) -> Iterator[Kernel]:
    """A kernel as a Jupyter server starts it, with a service."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JPY_SESSION_NAME", "/home/me/notes/tables.ipynb")
        with start_kernel(connection_file=str(folder / "kernel-0d8a5c1e.json")) as kernel:
            content = {"code": CELL.strip(), "silent": False, "store_history": True, "allow_stdin": False}
            message = kernel.client.session.msg("execute_request", content, metadata={"cellId": "cell-of-table"})
            kernel.client.shell_channel.send(message)
            assert not kernel.finished(message["header"]["msg_id"]).error
            yield kernel


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with started(tmp_path_factory.mktemp("runtime")) as kernel:
        yield kernel


@pytest.fixture
def own_kernel(tmp_path: Path) -> Iterator[Kernel]:
    """One that the test may end, and whose service it may stop."""
    with started(tmp_path) as kernel:
        yield kernel


def process(kernel: Kernel) -> RunningProcess:
    pid = int(str(kernel.ok("import os; os.getpid()").result))
    return next(found for found in address.find() if found.pid == pid)


async def test_hello_names_the_kernel_and_the_notebook(kernel: Kernel) -> None:
    async with Client(process(kernel)) as asking:
        assert asking.hello["kernel"] == "0d8a5c1e"
        assert asking.hello["session"] == "/home/me/notes/tables.ipynb"
        assert asking.hello["title"] == "tables.ipynb"


async def test_a_busy_kernel_answers(kernel: Kernel) -> None:
    there = process(kernel)
    busy = kernel.send("import threading\nprint('it runs', flush=True)\nthreading.Event().wait()")
    kernel.until(lambda m: m["msg_type"] == "stream" and "it runs" in m["content"]["text"])
    async with Client(there, PATIENCE) as asking:
        [table] = (await asking.ask({"type": "ps"}, messages.Ps))["services"]
        assert (table["name"], table["cell"], table["state"]) == ("Table", "cell-of-table", "ready")
        call: messages.Call = {"type": "call", "service": "Table", "api": "rows", "arguments": {"n": 3}}
        result = await asking.ask(call, messages.Result)
        assert result["bundle"] == {"text/plain": "[0, 1, 2]", "application/json": [0, 1, 2]}
        with pytest.raises(Exception, match="LookupError: too many") as raised:
            await asking.ask({**call, "arguments": {"n": 10}}, messages.Result)
        assert "Cell In[" in str(raised.value.__cause__)  # as the notebook names it
        assert "ipykernel" not in str(raised.value.__cause__)
        async with contextlib.aclosing(asking.stream({"type": "watch", "picture": True})) as states:
            state = await anext(states)
            assert 'id="node:Table"' in state["svg"]
    kernel.manager.interrupt_kernel()
    assert "KeyboardInterrupt" in kernel.finished(busy).error
    assert kernel.ok("_graph.result").result == "[0, 1, 2]"


async def test_what_a_client_stops_is_stopped_in_the_notebook(own_kernel: Kernel) -> None:
    async with Client(process(own_kernel), PATIENCE) as asking:
        await asking.ask({"type": "stop", "service": "Table"}, messages.Done)
        assert (await asking.ask({"type": "ps"}, messages.Ps))["services"] == []
        with pytest.raises(ProtocolError, match="look"):
            await asking.ask({"type": "look", "client": "x", "on": True}, messages.Here)  # type: ignore[arg-type]
    assert "No service runs" in own_kernel.ok("%services").result


async def test_a_kernel_that_ends_is_found_no_more(own_kernel: Kernel) -> None:
    there = process(own_kernel)
    async with Client(there, PATIENCE) as asking:
        own_kernel.manager.shutdown_kernel(now=True)
        with pytest.raises(ConnectionError, match="has closed the connection"):
            await asking.ask({"type": "ps"}, messages.Ps)
    assert there not in address.find()
