"""Calls that fail while services are edited under load: Front, which answers over HTTP, and Leaf, which it calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from benchmarks.edit_graph import Version
from benchmarks.edit_load import CLIENTS, FAILED, Load, load_elsewhere
from benchmarks.kernel import REPLACED, SWAPPED, Kernel, kernel

ASK = "/ask"
LEAF = """\
class Leaf:
    def __init__(self) -> None:
        self.started = {version.started}

    @api
    def say(self) -> str:
        return f"{{self.started}} {version.answered}"
"""
FRONT = """\
class Front:
    leaf = depends(Leaf)

    def __init__(self) -> None:
        self.started = {version.started}

    @api
    async def ask(self) -> str:
        leaf = await self.leaf.to_async.say()
        return f"{{self.started}} {version.answered} {{leaf}}"
"""


def module_of(front: Version, leaf: Version) -> str:
    """The same two for BentoML."""
    decorator = f"@bentoml.service(threads={CLIENTS})\n"
    return (
        "import bentoml\nfrom bentoml import api, depends\n\n\n"
        f"{decorator}{LEAF.format(version=leaf)}\n\n{decorator}{FRONT.format(version=front)}"
    )


def answer_of(front: Version, leaf: Version) -> str:
    """What Front answers."""
    return f"{front.started} {front.answered} {leaf.started} {leaf.answered}"


class Graph:
    """The two services in a notebook, and every version of them that has served."""

    def __init__(self, running: Kernel) -> None:
        self._running = running
        self._front = [Version()]
        self._leaf = [Version()]
        running.run("from nbcompose import api, depends")
        for service in (LEAF, FRONT):
            running.run(_cell(service, Version()))

    def swap(self, number: int) -> None:
        """Edit a method of one of them."""
        self._edit(SWAPPED, answered=number)

    def replace(self, number: int) -> None:
        """Edit the `__init__` of one of them."""
        self._edit(REPLACED, started=number)

    def load_during(self, edit: Callable[[int], None], count: int) -> Load:
        """What came of the calls that were made during so many edits. Raises `RuntimeError` for a wrong answer."""
        url, token = self._running.run("", "(Front.url, Front.token)").value
        with load_elsewhere(url + ASK, token) as load:
            for number in range(1, count + 1):
                edit(number)
            made = load.stop()
        self._check(made)
        return made

    def _edit(self, outcome: str, **number: int) -> None:
        """In turn: Leaf, whose callers are replicas of Front, and Front, whose callers come over HTTP."""
        service, versions = (LEAF, self._leaf) if len(self._leaf) <= len(self._front) else (FRONT, self._front)
        version = replace(versions[-1], **number)
        self._running.edit(_cell(service, version), outcome)
        versions.append(version)

    def _check(self, load: Load) -> None:
        """Every answer is one of versions that have served, and every client's last one is of the newest."""
        known = {answer_of(front, leaf) for front in self._front for leaf in self._leaf}
        if unknown := set(load.answers) - known:
            raise RuntimeError(f"answers of no version: {sorted(unknown)[:3]}")
        newest = answer_of(self._front[-1], self._leaf[-1])
        if stale := [answer for answer in load.last if answer not in (newest, FAILED)]:
            raise RuntimeError(f"{len(stale)} clients got no answer of the newest version in the end: {stale[:3]}")


def run(swaps: int, replacements: int) -> tuple[Load, Load]:
    """The calls made during so many swaps, and during so many replacements. Raises `RuntimeError`."""
    with kernel() as running:
        graph = Graph(running)
        return graph.load_during(graph.swap, swaps), graph.load_during(graph.replace, replacements)


def _cell(service: str, version: Version) -> str:
    return f"%%service --threads {CLIENTS}\n{service.format(version=version)}"
