"""Where the time of a call between services goes, function by function, as the table of docs/architecture.md.

    python -m benchmarks.hop_profile [CALLS]

Both ends run here, on one event loop, joined by the real socket: what the kernel takes to wake another process is not
in it. Times are those of cProfile, less its own cost for each call of a function, which makes profiled calls take
longer: half of it lies in the function, half in the one that calls it.
"""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import uvloop

import nbcompose
from nbcompose import api
from nbcompose._replica.instance import Runtime
from nbcompose._replica.main import Callers
from nbcompose._rpc.blocking import Portal
from nbcompose._rpc.client import Client, ReplicaRoute, ServiceRoute
from nbcompose._rpc.load_table import LoadTable
from nbcompose._rpc.proxy import DeclaredProxy
from nbcompose._rpc.transport import SocketTransport
from nbcompose._service.introspect import declare
from nbcompose._tracing.spans import CallContext, current_call

PACKAGE = Path(nbcompose.__file__).parent
ROUNDS = 5
LEAST = 0.005  # of the whole: shorter ones are added up in the last row

Function = tuple[str, int, str]  # file, line, name: as pstats has it


class Leaf:
    @api
    async def echo(self, text: str) -> str:
        return text


async def _leaf() -> Any:
    """A proxy of `Leaf`, whose replica is this process."""
    spec, board = declare(Leaf, {}), LoadTable.create()
    runtime = Runtime(spec, 0, 0, board)
    await runtime.start()
    where = await Callers(runtime).listen()
    client = Client(board)
    client.update(ServiceRoute(spec.name, spec.apis, 60.0, (ReplicaRoute(0, where, 0),), ready=True))
    portal = Portal(asyncio.get_running_loop(), threading.get_ident())
    context = CallContext()
    context.on_loop = True
    current_call.set(context)
    return DeclaredProxy(SocketTransport(spec.name, client, portal), "self.leaf")


async def measure(calls: int) -> tuple[float, cProfile.Profile]:
    """Seconds of a call, and the profile of `calls` others."""
    leaf = await _leaf()

    async def seconds() -> float:
        start = time.perf_counter()
        for _ in range(calls):
            await leaf.echo("What is the answer?")
        return (time.perf_counter() - start) / calls

    await seconds()
    fastest = min([await seconds() for _ in range(ROUNDS)])
    profile = cProfile.Profile()
    profile.enable()
    await seconds()
    profile.disable()
    return fastest, profile


def shares(profile: cProfile.Profile, calls: int, whole: float) -> dict[str, float]:
    """Seconds of a call by function of this package. What runs in C is added to the function that calls it."""
    stats: dict[Function, Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    entered: dict[Function, float] = defaultdict(float)  # how often the profiler was entered on a function's account
    own: dict[Function, float] = defaultdict(float)
    for function, (_, count, seconds, _, callers) in stats.items():
        in_c = function[0] == "~"
        if not in_c:
            own[function] += seconds
            entered[function] += count / 2
        for caller, (_, times, spent, _) in callers.items():
            entered[caller] += times / 2
            if in_c:
                own[caller] += spent
                entered[caller] += times / 2
    cost = max(0.0, sum(own.values()) - whole * calls) / sum(entered.values())
    found: dict[str, float] = defaultdict(float)
    for function, seconds in own.items():
        found[_label(function)] += max(0.0, seconds - cost * entered[function]) / calls
    return found


def _label(function: Function) -> str:
    file, line, name = function
    if not file.startswith(f"{PACKAGE}/"):
        return "asyncio, uvloop, the caller"
    owner = next((n for n, (first, last) in _spans(file).items() if first <= line <= last), name)
    return f"`{Path(file).relative_to(PACKAGE)}` {owner}"


_known: dict[str, dict[str, tuple[int, int]]] = {}


def _spans(file: str) -> dict[str, tuple[int, int]]:
    """The lines of each function of a file, by its name in its class."""
    if file not in _known:
        import ast

        found = _known[file] = {}
        for node in ast.parse(Path(file).read_text(encoding="utf-8")).body:
            for member in [node, *getattr(node, "body", [])]:
                if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef) and member.end_lineno is not None:
                    name = member.name if member is node else f"{node.name}.{member.name}"  # type: ignore[attr-defined]
                    found[name] = (member.lineno, member.end_lineno)
    return _known[file]


def table(found: dict[str, float], whole: float) -> str:
    rows = sorted(found.items(), key=lambda item: -item[1])
    shown = [(label, seconds) for label, seconds in rows if seconds >= LEAST * whole]
    rest = whole - sum(seconds for _, seconds in shown)
    shown.append((f"{len(rows) - len(shown)} more", rest))
    lines = [f"| {label} | {seconds * 1e6:.1f} | {100 * seconds / whole:.0f} % |" for label, seconds in shown]
    return "\n".join(
        ["| where | µs | of the call |", "| --- | --- | --- |", *lines, f"| a call | {whole * 1e6:.1f} | |"]
    )


def main() -> None:
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        whole, profile = runner.run(measure(calls))
    print(table(shares(profile, calls, whole), whole))


if __name__ == "__main__":
    main()
