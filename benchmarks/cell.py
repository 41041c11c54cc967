"""The row about a `%%service` cell: from running it in a real kernel to the instance being there, zygote warm.

Timed inside the kernel, around the whole magic: parsing, capture, fork, `__init__`, ready, card.
"""

from __future__ import annotations

import ast
import statistics
import uuid
from contextlib import suppress
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from benchmarks.row import Aim, Figure, Row
from benchmarks.servers import OURS, environment

WHAT = "%%service cell → instance running, zygote warm"
CELLS = 7
LIMIT = 120.0

SOURCE = """
class Bench{number}:
    def __init__(self):
        self.ready = True

    @api
    def echo(self, text: str) -> str:
        return text
"""

SET_UP = """
%load_ext nbcompose
import time
from nbcompose import api

def wait_until_warm():
    # A class that uses none of what the zygote imports does not wait for it by itself.
    registry = get_ipython().meta["nbcompose"].registry
    while registry.warming():
        time.sleep(0.05)

def bench_cell(source):
    start = time.perf_counter()
    get_ipython().run_cell_magic("service", "", source)
    return time.perf_counter() - start
"""


def run() -> Row:
    manager = KernelManager()  # the kernel of this environment
    manager.start_kernel(env=environment(OURS, uuid.uuid4().hex))
    client = manager.blocking_client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=LIMIT)
        _execute(client, SET_UP)
        first = _bench_cell(client, 0)  # starts cold beside the zygote, which the row is not about
        _execute(client, "wait_until_warm()")
        seconds = [_bench_cell(client, number) for number in range(1, CELLS + 1)]
    except (RuntimeError, TimeoutError) as error:
        return Row(WHAT, Aim(0.3, of="value"), "–", notes=[f"{OURS.label}: {error}"])
    finally:
        with suppress(RuntimeError):
            client.stop_channels()
        manager.shutdown_kernel()
    return Row(
        WHAT,
        Aim(0.3, of="value"),
        "–",
        ours=Figure(statistics.median(seconds), "s"),
        notes=[f"cell: the first one, right after %load_ext, took {first:.2f} s"],
        samples={OURS.label: seconds},
    )


def _bench_cell(client: BlockingKernelClient, number: int) -> float:
    return float(_execute(client, "", f"bench_cell({SOURCE.format(number=number)!r})"))


def _execute(client: BlockingKernelClient, code: str, expression: str = "None") -> Any:
    """Runs `code` and gives the value of `expression`; RuntimeError with the traceback when either raises."""
    said: list[str] = []

    def on_output(message: dict[str, Any]) -> None:
        if message["msg_type"] == "error":
            said.extend(message["content"]["traceback"])

    reply = client.execute_interactive(
        code, user_expressions={"value": expression}, output_hook=on_output, timeout=LIMIT
    )["content"]
    value = reply.get("user_expressions", {}).get("value", {})
    if value.get("status") != "ok":
        raise RuntimeError("\n".join(said or value.get("traceback", ["the cell failed"])))
    return ast.literal_eval(value["data"]["text/plain"])
