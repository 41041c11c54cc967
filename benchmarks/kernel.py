"""A real kernel with the extension loaded: cells are sent to it as a front end sends them."""

from __future__ import annotations

import ast
import os
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from benchmarks.servers import OURS, STOP_LIMIT, Framework, environment, marked

LIMIT = 120.0
SWAPPED = "code swapped, weights kept: "  # what cards say
REPLACED = "replaced: "
LOAD = """
import time
loaded = time.perf_counter()
%load_ext nbcompose
"""
# A class that uses none of what the zygote imports does not wait for it by itself.
WARM_UP = """
while get_ipython().meta["nbcompose"].registry.warming():
    time.sleep(0.005)
warm_after = time.perf_counter() - loaded
"""
TIMED = """
began = time.perf_counter()
get_ipython().run_cell_magic("service", "", {source!r})
took = time.perf_counter() - began
"""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a cell left behind: the value that was asked for, and the card that it ended with, "" without one."""

    value: Any
    card: str


class Kernel:
    """A kernel that runs. `run` is one cell."""

    def __init__(self, client: BlockingKernelClient) -> None:
        self._client = client

    def run(self, cell: str, expression: str = "None") -> Ran:
        """Run a cell, then evaluate `expression`; returns when both are done.

        Raises `RuntimeError` with the traceback when either raises, `TimeoutError` after `LIMIT`.
        """
        cards: list[str] = []
        said: list[str] = []

        def on_output(message: dict[str, Any]) -> None:
            if message["msg_type"] in ("display_data", "update_display_data"):
                cards.append(message["content"]["data"].get("text/plain", ""))
            elif message["msg_type"] == "error":
                said.extend(message["content"]["traceback"])

        reply = self._client.execute_interactive(
            cell, user_expressions={"value": expression}, output_hook=on_output, timeout=LIMIT
        )["content"]
        value = reply.get("user_expressions", {}).get("value", {})
        if value.get("status") != "ok":
            raise RuntimeError("\n".join(said or value.get("traceback", ["the cell failed"])))
        return Ran(ast.literal_eval(value["data"]["text/plain"]), cards[-1] if cards else "")

    def warm_up(self) -> float:
        """Wait for the zygote. Seconds since the extension began to load, where nothing was run in between."""
        return float(self.run(WARM_UP, "warm_after").value)

    def time_service(self, source: str) -> float:
        """Seconds of a `%%service` cell, inside the kernel, around the whole magic."""
        return float(self.run(TIMED.format(source=source), "took").value)

    def tell(self, comm: str, content: dict[str, Any]) -> None:
        """Send a widget a message, as its front end does."""
        data = {"method": "custom", "content": content}
        self._client.shell_channel.send(self._client.session.msg("comm_msg", {"comm_id": comm, "data": data}))

    def edit(self, cell: str, outcome: str) -> None:
        """Run a `%%service` cell again. Raises `RuntimeError` where its card does not say this `outcome`."""
        card = self.run(cell).card
        if outcome not in card:
            raise RuntimeError(f"the card should say {outcome!r} and says:\n{card}")


@contextmanager
def loaded_kernel(framework: Framework = OURS) -> Iterator[Kernel]:
    """A kernel whose zygote still imports, while the block runs; nothing that it started is left after it."""
    mark = uuid.uuid4().hex
    manager = KernelManager()  # the kernel of this environment
    try:
        manager.start_kernel(env=environment(framework, mark), cwd=str(framework.root))
        client = manager.blocking_client()
        try:
            client.start_channels()
            client.wait_for_ready(timeout=LIMIT)
            running = Kernel(client)
            running.run(LOAD)
            yield running
        finally:
            with suppress(RuntimeError):
                client.stop_channels()
            manager.shutdown_kernel()
    finally:
        _leave_nothing(mark)


@contextmanager
def kernel() -> Iterator[Kernel]:
    """The same with its zygote warm."""
    with loaded_kernel() as running:
        running.warm_up()
        yield running


def _leave_nothing(mark: str) -> None:
    """What the kernel started ends by itself, by and by; what does not is ended."""
    deadline = time.monotonic() + STOP_LIMIT
    while time.monotonic() < deadline and marked(mark):
        time.sleep(0.05)
    for pid in marked(mark):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
